"""From an empty folder to returns, by the commands that docs/price-files.md gives, as they stand there."""

import re
import shlex
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

from luxor_pipelines import LuxorQuery, cli

PAGE = Path(__file__).parent.parent / "docs" / "price-files.md"


def brought(folder: Path) -> None:
    """The files of the page's reader: three of Yahoo's, and a workbook of assets."""
    days = pd.bdate_range("2023-09-01", "2026-11-27")
    for seed, ticker in enumerate(("AAPL", "MSFT", "PETR4")):
        close = 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, len(days))))
        cells = {"Date": days.strftime("%Y-%m-%d"), "Open": close, "High": close, "Low": close, "Close": close.round(2)}
        frame = pd.DataFrame(cells | {"Adj Close": close.round(4), "Volume": 1000})
        frame.to_csv(folder / f"{ticker}.csv", index=False)
    book = openpyxl.Workbook()
    book.active.append(["Key", "Name", "Asset", "Ticker", "Ticker_BBG", "Type", "Group", "Location"])
    for name, ticker, place in (("apple", "AAPL US", "us"), ("msft", "MSFT US", "us"), ("petr4", "PETR4 BZ", "bz")):
        series = f"{ticker} Equity"
        key = f"{name}_{series.lower()}"
        book.active.append([key, name.title(), name, series, series, "ações", "ações", place])
    book.save(folder / "assets.xlsx")


def test_the_page_leads_from_nothing_to_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## From nothing to returns")[2]
    commands = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    formats = re.search(r"`(\{.*\})`", section)
    assert commands is not None
    assert formats is not None
    brought(tmp_path)
    (tmp_path / "_formats.json").write_text(formats[1], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for line in commands[1].splitlines():
        command = line.partition("#")[0].partition("&&")[0]
        name, *arguments = shlex.split(command)
        assert name == "luxor"
        assert cli.main([*arguments, *(["--yes"] if arguments[0] == "load" else [])]) == 0, capsys.readouterr().err
        monkeypatch.setenv("LUXOR_LAKE_URL", str(tmp_path / "lake"))
    shown = capsys.readouterr().out
    assert "petr4_petr4 bz equity" in shown
    returns = LuxorQuery().get_hist_returns("2026-10-31", currency="local")
    assert set(returns["Status"]) == {"ok"}
    prices = pd.read_csv(tmp_path / "PETR4.csv", index_col="Date")["Adj Close"]
    ytd = returns.loc[(returns["Key"] == "petr4_petr4 bz equity") & (returns["Period"] == "ytd"), "Return"]
    assert ytd.item() == pytest.approx(prices["2026-10-30"] / prices["2025-12-31"] - 1, rel=1e-12)
