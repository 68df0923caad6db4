"""More of the operator's screens on a terminal of 80 columns; `GOLDEN=1` writes their files anew."""

from __future__ import annotations

import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from luxor_pipelines import incremental_load, save_table
from luxor_pipelines.catalog import HIST_FILE_PX_LAST
from luxor_pipelines.cli import main
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.operations import runs
from luxor_pipelines.operations.runs import run

GOLDEN = Path(__file__).parent / "screens" / "operator"

SCREENS = {
    "list-details": ("list", "--details"),
    "run-dry": ("run", "hist_returns", "--ref-date", "2025-10", "--dry-run"),
    "runs-show": ("runs", "show", "bbbb"),
    "status": ("status",),
    "backfill-done": ("backfill", "hist_returns", "--from", "2025-07", "--to", "2025-10"),
}
_CHANGING = re.compile(r"(?<=[ ])\d+\.\d(?= s\b| +\d| +–)|(?<=Seconds: )\d+\.\d")


@pytest.fixture
def lake(disk: Any, monkeypatch: pytest.MonkeyPatch, clock: Any) -> Any:
    """A lake with some runs, at a moment that stands still, whose runs have known ids."""
    idents = iter("abcdefghij")
    monkeypatch.setattr(runs, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=next(idents) * 12)))
    monkeypatch.setattr(Lake, "now", lambda lake: clock.now)
    lq = disk.query()
    assets = {"Key": ["fund"], "Name": ["Fund"], "Ticker_BBG": ["fund"], "Location": ["us"]}
    save_table("assets", pd.DataFrame(assets), lq=lq)
    days = pd.bdate_range("2025-08-29", "2025-11-28")
    price = [100.0 if day.month < 10 else 110.0 for day in days]
    frame = pd.DataFrame({"Date": days, "Asset": "fund", "Last_Price": price})
    incremental_load(lq, HIST_FILE_PX_LAST.name, frame, schema=HIST_FILE_PX_LAST)
    with pytest.raises(OSError, match="ecb"):
        run("fx_rates", lake=lq)
    clock.now += timedelta(minutes=1)
    run("hist_returns", "2025-10", lake=lq)
    clock.now += timedelta(minutes=1)
    corrected = pd.DataFrame({"Date": pd.to_datetime(["2025-10-31"]), "Asset": ["fund"], "Last_Price": [121.0]})
    incremental_load(lq, HIST_FILE_PX_LAST.name, corrected, unique_columns=["Date", "Asset"])
    return disk


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_is_the_golden_one(
    lake: Any, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    arguments = SCREENS[name] if name.startswith("list") else (*SCREENS[name], "--lake", lake.arguments["lake"])
    code = main(list(arguments))
    out = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert name == "runs-show" or all(len(line) <= 80 for line in out.splitlines())
    steady = _steady(out.replace(lake.arguments["lake"], "LAKE"))
    text = f"$ luxor {' '.join(SCREENS[name])}\n{steady}exit code {code}\n"
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("GOLDEN"):
        GOLDEN.mkdir(parents=True, exist_ok=True)
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def _steady(out: str) -> str:
    """The screen without what differs from run to run: durations, versions of files, moments of the storage."""
    out = _CHANGING.sub("0.0", out)
    return re.sub(r"[0-9a-f]{16}-[0-9a-f]+-[0-9a-f]+|\b[0-9a-f]{32}\b", "VERSION", out)
