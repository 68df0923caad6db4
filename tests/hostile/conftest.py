"""What all doors share: a lake with something in it, and proof that a refused input left it as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import fsspec
import pandas as pd
import pytest

from luxor_pipelines.errors import LuxorError
from luxor_pipelines.ingest import save_table

LEFT_BY_A_RUN = ("system/runs/", "system/locks/")
"""A run that fails leaves its record, and a writer the file it locks: nothing else may differ."""


def contents(rig: Any) -> dict[str, str]:
    """A digest of every file of a lake, listed and read without our code."""
    if rig.kind == "azurite":
        from azure.storage.blob import ContainerClient

        with ContainerClient.from_connection_string(
            rig.arguments["connection_string"], rig.arguments["container"]
        ) as container:
            files = {name: container.download_blob(name).readall() for name in container.list_blob_names()}
    elif rig.kind == "disk":
        from pathlib import Path

        root = Path(url2pathname(unquote(urlsplit(rig.arguments["lake"]).path)))
        files = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    else:
        memory, root = fsspec.core.url_to_fs(rig.arguments["lake"])
        files = {name[len(root) + 1 :]: memory.cat_file(name) for name in memory.find(root)}
    return {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items() if not name.startswith(LEFT_BY_A_RUN)
    }


@dataclass(frozen=True)
class Refusal:
    """What a wrong input met."""

    error: LuxorError

    def says(self, *words: str) -> None:
        for word in words:
            assert word in str(self.error), f"{word!r} is not in {self.error}"


@contextmanager
def _refused(rig: Any, kind: type[LuxorError], *words: str) -> Iterator[None]:
    before = contents(rig)
    with pytest.raises(LuxorError) as caught:
        yield
    error = caught.value
    assert type(error) is kind, f"{type(error).__name__}: {error}"
    assert error.hint, f"no next step: {error}"
    assert error.hint in str(error)
    for word in words:
        assert word in str(error), f"{word!r} is not in: {error}"
    assert len(str(error)) < 2_000, "a message is for people to read"
    assert contents(rig) == before


Refused = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def refused() -> Refused:
    """``refused(rig, kind, *words)``: what is done in it ends in an error of exactly this kind.

    It says the words, gives a next step, and has left the lake byte-identical.
    """
    return _refused


@pytest.fixture
def digest() -> Callable[[Any], dict[str, str]]:
    return contents


PRICES = pd.DataFrame(
    {
        "Date": pd.to_datetime(["2026-09-30", "2026-10-30"]),
        "Asset": ["fund", "fund"],
        "Last_Price": [100.0, 110.0],
    }
)


def filled(rig: Any) -> Any:
    lq = rig.query()
    fund = {"Key": "fund", "Name": "Fund", "Type": "equity", "Ticker_BBG": "fund", "Location": "bz"}
    save_table("assets", pd.DataFrame([fund]), lq=lq)
    save_table("hist_px_last", PRICES, lq=lq)
    lq.lake.storage.write("raw/prices/a.csv", b"Date,Asset,Last_Price\n2026-10-30,other,7.5\n")
    return rig


@pytest.fixture
def lake(disk: Any) -> Any:
    """A lake in a folder: one fund with prices, one price file."""
    return filled(disk)


@pytest.fixture
def any_lake(rig: Any) -> Any:
    """The same, of each kind in turn."""
    return filled(rig)


@pytest.fixture
def prices() -> pd.DataFrame:
    return PRICES.copy()
