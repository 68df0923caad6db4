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


def test_who_mistypes_on_the_way_is_told_what_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same walk, with the slips of somebody who does it for the first time."""

    def luxor(line: str, code: int = 0) -> str:
        assert cli.main(shlex.split(line)) == code, line
        told = capsys.readouterr()
        return told.out + told.err

    brought(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUXOR_LAKE_URL", "")
    assert "No lake is configured." in luxor("load assets assets.xlsx", 3)
    assert "No such command 'int'" in luxor("int --lake ./lake", 2)
    assert "LUXOR_LAKE_URL" in luxor("init --lake ./lake"), "how the next command finds it"
    monkeypatch.setenv("LUXOR_LAKE_URL", str(tmp_path / "lke"))
    assert "lke' does not exist" in luxor("tables", 3)
    monkeypatch.setenv("LUXOR_LAKE_URL", str(tmp_path / "lake"))
    assert "`luxor load assets FILE` loads the asset master" in luxor("run hist_returns --ref-date 2026-10-31", 1)
    assert "There is no file 'asets.xlsx'" in luxor("load assets asets.xlsx", 1)
    assert "Warning: 1 table is new and has nearly the name of another: assets" in luxor(
        "load asets assets.xlsx --dry-run"
    )
    luxor("load assets assets.xlsx")

    assert "No pipeline reads raw/price/. Did you mean raw/prices?" in luxor("put AAPL.csv raw/price")
    assert "There is no file 'APL.csv'" in luxor("put APL.csv raw/prices", 1)
    luxor("put AAPL.csv raw/prices")
    refused = luxor("run market_prices", 1)
    assert "Declare in raw/prices/_formats.json" in refused
    assert '"asset": "{stem}"' in refused
    assert "has the file's name, 'aapl'. If its price key in assets is another" in luxor("inspect AAPL.csv")
    proposed = '{"AAPL.csv": {"format": "yahoo", "asset": "{stem} us equity"}}'
    assert proposed in luxor("inspect raw/prices/AAPL.csv"), "as assets has it"

    formats = tmp_path / "_formats.json"
    formats.write_text('{"AAPL.csv": {"format": "yaho", "asset": "{stem}"}}', encoding="utf-8")
    luxor("put _formats.json raw/prices")
    assert "Use one of yahoo, yfinance, investing-en," in luxor("run market_prices", 1)
    formats.write_text('{"AAPL.csv": {"format": "yahoo", "asset": "{stem}"}}', encoding="utf-8")
    assert "Add --replace" in luxor("put _formats.json raw/prices", 2)
    luxor("put _formats.json raw/prices --replace")
    assert "which prices no asset: 'aapl (aapl us equity)'" in luxor("run market_prices")
    formats.write_text(proposed, encoding="utf-8")
    luxor("put _formats.json raw/prices --replace")
    luxor("run market_prices")
    assert "aapl us equity" in luxor("find aapl")
    assert "Did you mean hist_returns?" in luxor("run hist_return --ref-date 2026-10-31", 2)
    assert "is not an ISO date" in luxor("run hist_returns --ref-date 31/10/2026", 2)
