"""Entries that are no files of the lake: each is named, and everything else works."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from luxor_pipelines.cli import main
from luxor_pipelines.errors import AccessError, DataError, LakeError, LuxorError
from luxor_pipelines.ingest import save_table
from luxor_pipelines.lake.storage.base import Storage, Unusable
from luxor_pipelines.lake.types.schema import Column, TableSchema
from luxor_pipelines.operations.runs import run
from luxor_pipelines.quality.audit import audit

MONTHLY = TableSchema(
    name="t",
    version=1,
    columns=(Column("Date", "date", nullable=False), Column("X", "number")),
    key=("Date",),
    partition="month",
)

needs_posix = pytest.mark.skipif(os.name == "nt", reason="links and pipes are others on Windows")

PRICES = b"Date,Asset,Last_Price\n2026-10-30,abc,1.5\n"
ASSETS = pd.DataFrame({"Key": ["a"], "Ticker": ["abc"], "Location": ["us"]})


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Lets nobody list a folder: root, as CI may be, is refused nothing by chmod."""
    closed: list[str] = []
    real = os.scandir

    def scandir(path: Any) -> Any:
        if os.fspath(path).rstrip("/") in closed:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return lambda path: closed.append(str(path))


ODD_ENTRIES: dict[str, Callable[[Path], object]] = {
    "50%.csv": lambda place: place.write_bytes(PRICES),
    "a:b.csv": lambda place: place.write_bytes(PRICES),
    "prices #1.csv": lambda place: place.write_bytes(PRICES),
    "ends in a dot.": lambda place: place.write_bytes(PRICES),
    "con.csv": lambda place: place.write_bytes(PRICES),
    "loop.csv": lambda place: place.symlink_to(place),
    "dangling.csv": lambda place: place.symlink_to(place.with_name("nothing.csv")),
    "outside.csv": lambda place: place.symlink_to("/etc/hostname"),
    "circle": lambda place: place.symlink_to(place.parent, target_is_directory=True),
    "pipe.csv": os.mkfifo if hasattr(os, "mkfifo") else Path.touch,
    "socket.csv": lambda place: _bind(place),
}


def _bind(place: Path) -> None:
    here = Path.cwd()
    os.chdir(place.parent)  # a socket's address is short
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(place.name)
    finally:
        os.chdir(here)


def odd(storage: Storage, folder: str) -> list[str]:
    entries: list[Unusable] = []
    storage.list(folder, unusable=entries)
    assert all(entry.reason for entry in entries)
    return [entry.path for entry in entries]


@needs_posix
@pytest.mark.parametrize("name", ODD_ENTRIES)
def test_an_odd_entry_in_a_folder_is_named_and_the_files_beside_it_are_listed(
    name: str, disk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    storage = disk.storage()
    storage.write("raw/prices/below/good.csv", PRICES)
    storage.write("raw/prices/good.csv", PRICES)
    for folder in ("raw/prices", "raw/prices/below"):
        ODD_ENTRIES[name](storage.root / folder / name)
    paths = [f"raw/prices/{name}", f"raw/prices/below/{name}"]
    assert sorted(odd(storage, "raw/prices")) == sorted(paths)
    assert [info.path for info in storage.list("raw/prices")] == ["raw/prices/below/good.csv", "raw/prices/good.csv"]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert all(path in caplog.text for path in paths)
    content = storage.folder("raw/prices")
    assert [info.path for info in content.files] == ["raw/prices/good.csv"]
    assert set(content.folders) <= {"below", "circle"}
    with pytest.raises(LuxorError):  # and at once, where a pipe would wait for a writer
        storage.read(f"raw/prices/{name}")


@needs_posix
def test_a_pipe_in_the_place_of_a_file_is_an_error_and_not_waited_for(disk: Any) -> None:
    storage = disk.storage()
    version = storage.write("t", b"1")
    info = storage.stat("t")
    (storage.root / "t").unlink()
    os.mkfifo(storage.root / "t")

    def open_it() -> None:
        with storage.open(info):
            pass

    for operation in (
        lambda: storage.stat("t"),
        lambda: storage.read("t"),
        lambda: storage.write("t", b"2"),
        lambda: storage.delete("t", expected=version),
        open_it,
    ):
        with pytest.raises(LakeError, match="pipe"):
            operation()


@needs_posix
def test_a_folder_that_may_not_be_listed_is_named_but_not_when_it_is_the_one_asked_for(
    disk: Any, refuse: Callable[[Path], None]
) -> None:
    storage = disk.storage()
    storage.write("raw/prices/closed/a.csv", PRICES)
    storage.write("raw/prices/good.csv", PRICES)
    refuse(storage.root / "raw/prices/closed")
    assert odd(storage, "raw/prices") == ["raw/prices/closed"]
    assert [info.path for info in storage.list("raw/prices")] == ["raw/prices/good.csv"]
    for listing in (storage.list, storage.folder):
        with pytest.raises(AccessError):
            listing("raw/prices/closed")


@pytest.mark.parametrize("name", ["50%.csv", "a:b.csv", "prices #1.csv", "ends in a dot.", "a//b.csv"])
def test_names_that_other_programs_give_are_named(rig: Any, azurite: Any, name: str) -> None:
    storage = rig.storage()
    storage.write("raw/prices/good.csv", PRICES)
    if rig.kind == "azurite":
        with azurite.client() as client:
            client.get_container_client(rig.arguments["container"]).upload_blob(f"raw/prices/{name}", PRICES)
    elif "//" in name:
        pytest.skip("such a name is a blob's only")
    elif rig.kind == "memory":
        storage.fs.pipe_file(f"{storage.root}/raw/prices/{name}", PRICES)
    else:
        (storage.root / "raw/prices" / name).write_bytes(PRICES)
    assert odd(storage, "raw/prices") == [f"raw/prices/{name}"]
    assert [info.path for info in storage.list("raw/prices")] == ["raw/prices/good.csv"]
    assert [info.path for info in storage.folder("raw/prices").files] == ["raw/prices/good.csv"]


# --- what people see -----------------------------------------------------------------------------


@pytest.fixture
def odd_lake(disk: Any) -> Any:
    """A lake in which every folder holds every odd entry."""
    if os.name == "nt":
        pytest.skip("links and pipes are others on Windows")
    lq = disk.query()
    save_table("assets", ASSETS, lq=lq)
    lq.lake.storage.write("raw/prices/good.csv", PRICES)
    root = lq.lake.storage.root
    tables = root / "enriched/parquet"
    for folder in (root / "raw/prices", tables):
        for name, make in ODD_ENTRIES.items():
            make(folder / name)
    whole = (tables / "assets.parquet").read_bytes()
    for name in ("assets (1).parquet", "Assets copy.parquet", "\u0430ssets.parquet"):
        (tables / name).write_bytes(whole)
    os.mkfifo(tables / "piped.parquet")
    return disk


def test_tables_and_checks_of_an_odd_lake_name_each_entry(
    odd_lake: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    lake = odd_lake.arguments["lake"]
    assert main(["tables", "--lake", lake]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["assets"]
    names = [f"enriched/parquet/{name}" for name in ODD_ENTRIES]
    names += [f"enriched/parquet/{name}" for name in ("assets (1).parquet", "piped.parquet", "\u0430ssets.parquet")]
    for name in names:
        assert name in err + caplog.text, name
    assert main(["check", "--lake", lake]) == 0  # they are warnings
    out, _ = capsys.readouterr()
    for name in [*names, *(f"raw/prices/{name}" for name in ODD_ENTRIES)]:
        assert name in out, name


def test_prices_beside_odd_entries_are_loaded(odd_lake: Any) -> None:
    report = run("market_prices", lq=odd_lake.query())
    assert report.status == "done"
    assert report.rows == 1
    for name in ODD_ENTRIES:
        assert any(f"raw/prices/{name}" in warning for warning in report.warnings), name


@needs_posix
@pytest.mark.parametrize("kind", ["unreadable", "loop", "dangling"])
def test_a_partition_that_cannot_be_looked_at_is_never_left_out(
    kind: str, disk: Any, refuse: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A table without one of its months would be a shorter table, read as whole."""
    lq = disk.query()
    days = pd.to_datetime(["2026-09-30", "2026-10-30"])
    save_table("t", pd.DataFrame({"Date": days, "X": [1.0, 2.0]}), lq=lq, schema=MONTHLY)
    save_table("assets", ASSETS, lq=lq)
    place = lq.lake.storage.root / "enriched/parquet/t/month=2026-09"
    if kind == "unreadable":
        refuse(place)
    else:
        place.rename(place.with_name(".moved"))
        place.symlink_to(place if kind == "loop" else place.with_name("nothing"))
    fresh = disk.query()
    with pytest.raises(LakeError, match="month=2026-09"):
        fresh.get_table("t")
    assert fresh.get_table("assets")["Key"].tolist() == ["a"]
    assert fresh.list_tables() == ["assets", "t"]
    found = audit(fresh.lake, declared={})
    assert [(finding.severity, finding.table) for finding in found.findings if finding.severity == "error"] == [
        ("error", "t")
    ]
    assert main(["tables", "--lake", disk.arguments["lake"]]) == 0
    assert "month=2026-09" in capsys.readouterr().err


@needs_posix
def test_a_file_that_may_not_be_read_is_named_by_check(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lq = disk.query()
    for name in ("assets", "other"):
        save_table(name, ASSETS, lq=lq)
    import pyarrow as pa

    real = pa.OSFile

    def refused(path: str, *rest: Any) -> Any:
        if path.endswith("other.parquet"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *rest)

    monkeypatch.setattr(pa, "OSFile", refused)
    found = audit(disk.query().lake, declared={})
    assert found.tables == 2
    assert [finding.table for finding in found.findings if finding.severity == "error"] == ["other"]


def test_a_price_file_that_may_not_be_read_is_named_and_the_others_are_loaded(
    disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lq = disk.query()
    lq.lake.storage.write("raw/prices/closed.csv", PRICES)
    lq.lake.storage.write("raw/prices/good.csv", PRICES.replace(b"1.5", b"2.5"))
    real = Path.open

    def refused(path: Path, *rest: Any, **options: Any) -> Any:
        if path.name == "closed.csv":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **options)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(DataError, match=r"closed\.csv"):
        run("market_prices", lq=lq)
    assert disk.query().get_table("hist_file_px_last")["Last_Price"].tolist() == [2.5]
