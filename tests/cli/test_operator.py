"""The operator's commands: several runs, dry runs, looking back, retrying."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pandas as pd
import pytest

from luxor_pipelines import incremental_load, save_table
from luxor_pipelines.catalog import HIST_FILE_PX_LAST
from luxor_pipelines.cli import main
from luxor_pipelines.errors import NotFoundError, UsageError
from luxor_pipelines.operations.dry_run import dry_run
from luxor_pipelines.operations.records import find_run, last_runs
from luxor_pipelines.operations.runs import retry, run


class Luxor:
    """Runs the command in this process, on one lake."""

    def __init__(self, lake: Any, capsys: pytest.CaptureFixture[str]) -> None:
        self.lake, self._capsys = lake, capsys

    def __call__(self, *args: str, code: int = 0) -> str:
        self._capsys.readouterr()
        got = main([*args, "--lake", self.lake.arguments["lake"]])
        self.out, self.err = self._capsys.readouterr()
        assert got == code, self.err
        return self.out

    def json(self, *args: str, code: int = 0) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self(*args, "--json", code=code))
        assert next(iter(parsed)) == "schema_version"
        return parsed


@pytest.fixture
def luxor(disk: Any, capsys: pytest.CaptureFixture[str]) -> Luxor:
    """A lake with one asset whose price rises by a tenth in October 2025."""
    lq = disk.query()
    assets = {"Key": ["fund"], "Name": ["Fund"], "Ticker_BBG": ["fund"], "Location": ["us"]}
    save_table("assets", pd.DataFrame(assets), lq=lq)
    days = pd.bdate_range("2025-08-29", "2025-11-28")
    prices = pd.DataFrame(
        {"Date": days, "Asset": "fund", "Last_Price": [100.0 if d.month < 10 else 110.0 for d in days]}
    )
    incremental_load(lq, HIST_FILE_PX_LAST.name, prices, schema=HIST_FILE_PX_LAST)
    return Luxor(disk, capsys)


def stored(lake: Any) -> dict[str, str]:
    return {info.path: info.version for folder in ("enriched", "system/runs") for info in lake.storage().list(folder)}


# --- running ------------------------------------------------------------------------------------


def test_a_month_is_a_reference_date(luxor: Luxor) -> None:
    assert luxor.json("run", "hist_returns", "--ref-date", "2025-10")["ref_date"] == "2025-10-31"
    assert run("hist_returns", "2025-09", lake=luxor.lake.query()).ref_date == date(2025, 9, 30)


def test_several_pipelines_run_in_the_order_of_their_inputs(luxor: Luxor) -> None:
    luxor.lake.storage().write("raw/prices/a.csv", b"Date,Asset,Last_Price\n2025-10-31,fund,121\n")
    told = luxor.json("run", "hist-returns", "market_prices", "--ref-date", "2025-10")
    assert [each["pipeline"] for each in told["runs"]] == ["market_prices", "hist_returns"]
    returns = luxor.lake.query().get_table("hist_returns", where={"Period": "mtd", "Currency": "local"})["Return"]
    assert returns.tolist() == [pytest.approx(0.21)], "of the price that was loaded before"


def test_one_that_fails_stops_no_other_and_gives_the_exit_code(luxor: Luxor) -> None:
    told = luxor.json("run", "--all", "--ref-date", "2025-10", code=1)
    ended = {each["pipeline"]: (each["error"] or {"class": "done"})["class"] for each in told["runs"]}
    assert (ended["hist_returns"], ended["holidays"], ended["fx_rates"]) == ("done", "done", "NotFoundError")
    assert "fx_rates failed: There is no .zip or .csv file" in luxor.err


@pytest.mark.parametrize("arguments", [("run",), ("run", "hist_returns", "--all"), ("runs", "show"), ("retry",)])
def test_what_is_not_said_is_asked_for(luxor: Luxor, arguments: tuple[str, ...]) -> None:
    luxor(*arguments, code=2)


# --- dry runs -----------------------------------------------------------------------------------


def test_a_dry_run_tells_what_would_change_and_writes_nothing(luxor: Luxor) -> None:
    lq = luxor.lake.query()
    run("hist_returns", "2025-10", lake=lq)
    corrected = pd.DataFrame({"Date": pd.to_datetime(["2025-10-31"]), "Asset": ["fund"], "Last_Price": [130.0]})
    incremental_load(lq, HIST_FILE_PX_LAST.name, corrected, unique_columns=["Date", "Asset"])
    before = stored(luxor.lake)
    told = dry_run("hist_returns", "2025-10", lake=luxor.lake.query())
    assert stored(luxor.lake) == before
    (load,) = told.loads
    assert (load.table, load.inserted, load.updated, load.deleted) == ("hist_returns", 0, 12, 0)
    first = told.differences[0]
    assert (first.column, first.before, first.after) == ("End_Price", 110.0, 130.0)
    assert first.key["Key"] == "fund"
    assert len(told.differences) == 10
    changes = [abs(each.after - each.before) for each in told.differences]
    assert changes == sorted(changes, reverse=True)

    out = luxor("run", "hist_returns", "--ref-date", "2025-10", "--dry-run")
    assert "hist_returns would load; reference date 2025-10-31" in out
    assert "End_Price" in out
    assert out.endswith("nothing was written\n")
    assert luxor.json("run", "hist_returns", "--ref-date", "2025-10", "--dry-run")["rows"] == 18
    assert stored(luxor.lake) == before


def test_a_dry_run_of_a_new_table_and_of_files(luxor: Luxor) -> None:
    luxor.lake.storage().write("raw/prices/a.csv", b"Date,Asset,Last_Price\n2025-10-31,fund,121\n2025-10-31,x,-1\n")
    before = stored(luxor.lake)
    told = dry_run("market_prices", lake=luxor.lake.query())
    assert (told.loads[0].updated, told.differences[0].after) == (1, 121.0)
    assert dry_run("hist_returns", "2025-10", lake=luxor.lake.query()).loads[0].inserted == 18
    assert stored(luxor.lake) == before
    assert not luxor.lake.storage().list("raw/quarantine")


def test_a_dry_run_is_stopped_by_the_checks_too(luxor: Luxor) -> None:
    wild = pd.DataFrame({"Date": pd.to_datetime(["2025-10-31"]), "Asset": ["fund"], "Last_Price": [1e9]})
    incremental_load(luxor.lake.query(), HIST_FILE_PX_LAST.name, wild, unique_columns=["Date", "Asset"])
    luxor("run", "hist_returns", "--ref-date", "2025-10", "--dry-run", code=1)
    assert "did not pass" in luxor.err or "nothing" in luxor.err.lower()
    assert not luxor.lake.storage().list("system/runs")


# --- looking back -------------------------------------------------------------------------------


def failing(luxor: Luxor) -> None:
    with pytest.raises(OSError, match="ecb"):
        run("fx_rates", lake=luxor.lake.query())


def test_runs_that_failed_or_began_since(luxor: Luxor, clock: Any) -> None:
    failing(luxor)
    done = run("hist_returns", "2025-10", lake=luxor.lake.query())
    assert [each["pipeline"] for each in luxor.json("runs", "--failed")["runs"]] == ["fx_rates"]
    assert last_runs(luxor.lake.query(), since=date(2026, 11, 23), limit=None) != []
    assert last_runs(luxor.lake.query(), since=date(2026, 11, 24)) == []
    assert luxor.json("runs", "--since", "2026-11-24")["runs"] == []
    luxor("runs", "--since", "2026-11-24")
    assert "No such runs." in luxor.err
    assert done in last_runs(luxor.lake.query(), "hist_returns", failed=False)


def test_one_run_is_shown_whole(luxor: Luxor) -> None:
    failing(luxor)
    done = run("hist_returns", "2025-10", lake=luxor.lake.query(), usdbrl_ticker="usdbrl curncy")
    out = luxor("runs", "show", done.id[:6])
    for line in (
        f"Run: {done.id}",
        "Reference date: 2025-10-31",
        "Parameter usdbrl_ticker: usdbrl curncy",
        "Input hist_px_last: not there",
        f"Input hist_file_px_last: {done.inputs['hist_file_px_last']}",
        f"Record: {done.path}",
    ):
        assert line in out.splitlines()
    assert luxor.json("runs", "show", done.id)["id"] == done.id
    (failed,) = last_runs(luxor.lake.query(), failed=True)
    out = luxor("runs", "show", failed.path)
    assert "Error: NotFoundError: There is no .zip or .csv file in raw/ecb" in out
    assert "What to do: Put the European Central Bank's" in out


@pytest.mark.parametrize(("ident", "error"), [("0000", NotFoundError), ("ab", NotFoundError), ("../x", NotFoundError)])
def test_a_run_that_is_not_there(luxor: Luxor, ident: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        find_run(luxor.lake.query(), ident)


def test_the_check_names_damaged_records(luxor: Luxor) -> None:
    run("holidays", lake=luxor.lake.query())
    path = "system/runs/hist_returns/20261123T183000Z-0123456789ab.json"
    luxor.lake.storage().write(path, b'{"id": 1}')
    findings = luxor.json("check")["findings"]
    assert [each["sample"] for each in findings if each["what"] == "file is no run record"] == [path]


def test_a_file_from_the_bank_is_an_input(luxor: Luxor) -> None:
    text = "Date,USD,BRL,\n2026-10-29,1.1,6.0,\n2026-10-30,1.1,6.1,\n"
    luxor.lake.storage().write("raw/ecb/eurofxref-hist.csv", text.encode())
    report = run("fx_rates", lake=luxor.lake.query())
    assert (
        report.inputs["raw/ecb/eurofxref-hist.csv"] == luxor.lake.storage().stat("raw/ecb/eurofxref-hist.csv").version
    )


def test_price_files_are_inputs(luxor: Luxor) -> None:
    luxor.lake.storage().write("raw/prices/a.csv", b"Date,Asset,Last_Price\n2025-10-31,fund,121\n")
    report = run("market_prices", lake=luxor.lake.query())
    assert report.inputs["raw/prices/a.csv"] == luxor.lake.storage().stat("raw/prices/a.csv").version


def test_tables_say_how_many_rows_they_have_and_of_which_dates(luxor: Luxor) -> None:
    told = {each["name"]: each for each in luxor.json("tables")["tables"]}
    prices = told["hist_file_px_last"]
    assert (prices["rows"], prices["first"], prices["last"]) == (66, "2025-08-29", "2025-11-28")
    assert (told["assets"]["rows"], told["assets"]["first"]) == (1, None)


# --- retrying -----------------------------------------------------------------------------------


def test_a_run_is_done_again_as_it_was(luxor: Luxor) -> None:
    lq = luxor.lake.query()
    first = run("hist_returns", "2025-09", lake=lq, usdbrl_ticker="usdbrl curncy")
    run("hist_returns", "2025-10", lake=lq)
    (again,) = luxor.json("retry", first.id)["runs"]
    assert (again["ref_date"], again["params"]) == ("2025-09-30", {"usdbrl_ticker": "usdbrl curncy"})
    assert again["id"] != first.id


def test_what_failed_last_is_retried(luxor: Luxor) -> None:
    failing(luxor)
    run("hist_returns", "2025-10", lake=luxor.lake.query())
    luxor("retry", "--failed", code=1)
    assert "fx_rates failed: There is no .zip" in luxor.err
    zipped = "Date,USD,BRL,\n2025-10-30,1.1,6.0,\n2025-10-31,1.1,6.1,\n"
    luxor.lake.storage().write("raw/ecb/eurofxref-hist.csv", zipped.encode())
    (done,) = luxor.json("retry", "--failed")["runs"]
    assert (done["pipeline"], done["status"]) == ("fx_rates", "done")
    luxor("retry", "--failed")
    assert "Nothing to retry." in luxor.err


def test_a_run_with_a_secret_is_not_retried(luxor: Luxor) -> None:
    from dataclasses import replace

    report = replace(run("hist_returns", "2025-10", lake=luxor.lake.query()), params={"api_key": "***"})
    with pytest.raises(UsageError, match="had a secret among its parameters"):
        retry(report, lake=luxor.lake.query())
