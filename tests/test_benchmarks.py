"""The benchmarks run, and all contenders agree; their figures are nobody's business here."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from luxor_pipelines.market.returns import STATUSES

ROOT = Path(__file__).parent.parent


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_all_of_them_run_and_the_contenders_agree(tmp_path: Path) -> None:
    for peer in ("polars", "duckdb", "deltalake"):
        pytest.importorskip(peer)
    results = tmp_path / "results.md"
    command = [sys.executable, "-W", "error", "-m", "benchmarks", "--small", "--rounds", "1", "--output", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = results.read_text(encoding="utf-8")
    assert "| Polars |" in text
    assert "| delta-rs merge |" in text
    if "Azurite is not installed" not in done.stderr:
        assert "| luxor, Azurite |" in text


@pytest.mark.parametrize(
    "command",
    ["price_search --small --rounds 1", "backfill --months 3 --assets 40"],
)
def test_those_with_a_command_of_their_own_run(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", *f"benchmarks.{command}".split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "months" in done.stdout


@pytest.mark.usefixtures("benchmarks")
def test_their_lake_has_every_status_but_those_its_peers_do_not_know(tmp_path: Path) -> None:
    lakes, returns = (importlib.import_module(f"benchmarks.{name}") for name in ("lakes", "returns"))
    folder = lakes.Lakes(tmp_path, lakes.SMALL, None).local()
    assert set(returns.luxor(lake=folder)()["Status"]) == {*STATUSES} - {"carried", "bad_price", "no_end"}


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"Number": [1.0, None]}, ""),
        ({"Number": [1.0 + 1e-14, None]}, ""),
        ({"Number": [1.0 + 1e-10, None]}, "1 of 2 in Number"),
        ({"Number": [1.0, 0.0]}, "1 of 2 in Number"),
        ({"Text": ["a", "b"]}, "1 of 2 in Text"),
        ({"Day": ["2026-10-30", "2026-10-30"]}, "1 of 2 in Day"),
        ({"Number": [1.0], "Text": ["a"], "Day": ["2026-10-30"]}, "2 and 1 rows"),
    ],
)
def test_answers_that_differ_are_told_apart(other: dict[str, list[object]], said: str) -> None:
    differences = importlib.import_module("benchmarks.measure").differences
    rows = {"Number": [1.0, None], "Text": ["a", None], "Day": ["2026-10-30", None]}
    one, two = pd.DataFrame(rows), pd.DataFrame(other if len(other) == 3 else rows | other)
    one["Day"], two["Day"] = pd.to_datetime(one["Day"]), pd.to_datetime(two["Day"])
    assert differences(one, two).startswith(said)
    assert bool(differences(one, two)) == bool(said)
