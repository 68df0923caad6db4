"""Backfills: planned by what is stored and recorded, in one pass or one by one, and resumed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT
from luxor_pipelines import incremental_load, run, save_table
from luxor_pipelines.catalog import HIST_FILE_PX_LAST
from luxor_pipelines.errors import ConfigurationError, UsageError
from luxor_pipelines.lake.storage.lease import Lease
from luxor_pipelines.operations import runs
from luxor_pipelines.operations.backfill import PlannedDate, backfill, catch_up, plan_backfill
from luxor_pipelines.operations.records import last_runs
from luxor_pipelines.operations.runs import Outcome
from luxor_pipelines.pipelines import hist_returns

NOW = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)


def fill(lq: Any, first: str = "2025-06-02", assets: int = 4) -> None:
    """A lake of some assets with a price on every business day of 2025 and 2026 from a day on."""
    keys = [f"fund{n}" for n in range(assets)]
    save_table("assets", pd.DataFrame({"Key": keys, "Name": keys, "Ticker_BBG": keys, "Location": "us"}), lq=lq)
    days = pd.bdate_range(first, "2026-11-20")
    price = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, (len(days), assets)), axis=0))
    prices = {"Date": np.repeat(days, assets), "Asset": keys * len(days), "Last_Price": price.ravel()}
    rates = {"Date": days, "Asset": "usdbrl curncy", "Last_Price": 5.0}
    frame = pd.concat([pd.DataFrame(prices), pd.DataFrame(rates)], ignore_index=True)
    incremental_load(lq, HIST_FILE_PX_LAST.name, frame, schema=HIST_FILE_PX_LAST)


def content(lq: Any) -> pd.DataFrame:
    frame: pd.DataFrame = lq.get_table("hist_returns", force_reload=True)
    return frame.sort_values(["Date", "Key", "Currency", "Period"], ignore_index=True)


def months(first: str, last: str) -> list[date]:
    return [month.date() for month in pd.date_range(first, last, freq="ME")]


def planned(plan: list[PlannedDate]) -> dict[str, str]:
    return {f"{each.date:%Y-%m}": each.reason if each.run else f"({each.reason})" for each in plan}


# --- dates that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 10**10])
def test_a_date_that_failed_names_its_record_and_its_true_cause(disk: Any, jobs: int) -> None:
    lq = disk.query()
    fill(lq)
    place = "enriched/parquet/assets.parquet"
    lq.lake.storage.write(place, b"PAR1 cut short", expected=lq.lake.storage.read(place).version)
    ended = backfill("hist_returns", "2026-08", "2026-10", lake=lq.lake, now=NOW, jobs=jobs)
    recorded = {record.path: record for record in last_runs(lq, "hist_returns", 9)}
    assert len(ended.outcomes) == len(recorded) == 3
    for outcome in ended.outcomes:
        assert outcome.status == "failed"
        assert "assets.parquet is not a readable Parquet file" in outcome.message
        assert outcome.record is not None
        assert recorded[outcome.record].ref_date == outcome.date
        assert "assets.parquet is not a readable Parquet file" in str(recorded[outcome.record].error)


def test_a_date_that_a_pass_forgets_is_told_and_recorded(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lq = disk.query()
    fill(lq)
    whole = hist_returns.run_many
    monkeypatch.setattr(hist_returns, "run_many", lambda dates, **options: whole(dates[:1], **options))
    first, forgotten = backfill("hist_returns", "2026-09", "2026-10", lake=lq.lake, now=NOW).outcomes
    assert first.status == "done"
    assert forgotten.message == "hist_returns computed no rows for 2026-10-31."
    (record,) = [record for record in last_runs(lq, "hist_returns", 9) if record.path == forgotten.record]
    assert "hist_returns computed no rows for 2026-10-31" in str(record.error)


# --- what a timer does --------------------------------------------------------------------------


def caught_up(lq: Any, **options: Any) -> list[date | None]:
    return [report.ref_date for report in catch_up("hist_returns", lake=lq, now=NOW, **options)]


def test_a_timer_runs_the_months_after_the_last_stored_one_oldest_first(disk: Any) -> None:
    lq = disk.query()
    fill(lq)
    run("hist_returns", "2025-09-30", lake=lq)
    run("hist_returns", "2025-07-31", lake=lq)  # a hole before the last stored month is a backfill's
    assert caught_up(lq) == months("2025-10-31", "2026-09-30"), "twelve at most"
    assert caught_up(lq) == [date(2026, 10, 31)]
    assert caught_up(lq) == [date(2026, 10, 31)], "none is missing: the last month again, for late prices"


def test_a_timer_fills_nothing_while_the_table_is_empty(disk: Any) -> None:
    lq = disk.query()
    fill(lq)
    assert caught_up(lq) == [date(2026, 10, 31)]
    assert set(content(lq)["Date"].dt.strftime("%Y-%m")) == {"2026-10"}


def test_a_month_that_fails_stops_those_after_it(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lq = disk.query()
    fill(lq)
    run("hist_returns", "2026-07-31", lake=lq)
    load = hist_returns.incremental_load

    def broken(lq: Any, name: str, frame: Any, **options: Any) -> Any:
        if frame["Date"][0].as_py() == datetime(2026, 9, 30):
            raise OSError("no")
        return load(lq, name, frame, **options)

    with monkeypatch.context() as patch:
        patch.setattr(hist_returns, "incremental_load", broken)
        with pytest.raises(OSError, match="no"):
            caught_up(lq)
    assert content(lq)["Date"].max() == pd.Timestamp("2026-08-31")
    assert caught_up(lq) == months("2026-09-30", "2026-10-31")


def test_a_pipeline_without_reference_dates_is_run_once(disk: Any) -> None:
    assert [report.pipeline for report in catch_up("holidays", lake=disk.query(), now=NOW)] == ["holidays"]


# --- the plan -----------------------------------------------------------------------------------


def test_the_plan_says_which_dates_and_why(disk: Any) -> None:
    lq = disk.query()
    fill(lq, "2026-05-04")
    assert planned(plan_backfill("hist_returns", "2026-03", "2026-12", lake=lq)) == {
        "2026-03": "(before the first price)",
        "2026-04": "(before the first price)",
        **dict.fromkeys(["2026-05", "2026-06", "2026-07", "2026-08", "2026-09", "2026-10"], "asked for"),
    }
    assert [each.date for each in plan_backfill("hist_returns", lake=lq)] == months("2026-05-31", "2026-10-31")
    run("hist_returns", "2026-08-31", lake=lq)
    run("hist_returns", "2026-09-30", lake=lq)
    assert planned(plan_backfill("hist_returns", "2026-07", lake=lq, missing=True)) == {
        "2026-07": "missing",
        "2026-08": "(nothing to do)",
        "2026-09": "(nothing to do)",
        "2026-10": "missing",
    }


def test_dates_whose_last_run_failed_or_died(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lq = disk.query()
    fill(lq)
    run("hist_returns", "2026-07-31", lake=lq)
    with monkeypatch.context() as patch:
        patch.setattr("luxor_pipelines.pipelines.hist_returns.compute_returns", None)
        for month in ("2026-07-31", "2026-08-31"):
            with pytest.raises(TypeError):
                run("hist_returns", month, lake=lq)
    report = run("hist_returns", "2026-08-31", lake=lq)
    assert planned(plan_backfill("hist_returns", "2026-07", "2026-08", lake=lq, failed=True)) == {
        "2026-07": "failed on 2026-11-23",
        "2026-08": "(nothing to do)",
    }
    assert planned(plan_backfill("hist_returns", "2026-07", "2026-07", lake=lq, stale=True)) == {
        "2026-07": "stale: last run failed"
    }
    lq.lake.storage.delete(report.path)


def test_dates_whose_inputs_have_changed_since(disk: Any) -> None:
    lq = disk.query()
    fill(lq)
    backfill("hist_returns", "2025-11", "2026-01", lake=lq)
    plan = plan_backfill("hist_returns", "2025-11", "2026-02", lake=lq, stale=True)
    assert planned(plan) == {
        **dict.fromkeys(["2025-11", "2025-12", "2026-01"], "(nothing to do)"),
        "2026-02": "stale: never run",
    }
    corrected = pd.DataFrame({"Date": pd.to_datetime(["2026-01-12"]), "Asset": ["fund1"], "Last_Price": [90.0]})
    incremental_load(lq, HIST_FILE_PX_LAST.name, corrected, unique_columns=["Date", "Asset"])
    plan = plan_backfill("hist_returns", "2025-11", "2026-01", lake=lq, stale=True)
    assert planned(plan) == {
        **dict.fromkeys(["2025-11", "2025-12"], "(nothing to do)"),
        "2026-01": "stale: hist_file_px_last",
    }
    late = pd.DataFrame({"Date": pd.to_datetime(["2020-01-02"]), "Asset": ["x"], "Last_Price": [1.0]})
    save_table("hist_px_last", late, lq=lq)
    assert planned(plan_backfill("hist_returns", "2025-12", "2025-12", lake=lq, stale=True)) == {
        "2025-12": "stale: hist_px_last"
    }, "a table that was not there"


@pytest.mark.parametrize(
    ("name", "start", "end", "words"),
    [
        ("market_prices", None, None, "has no reference dates"),
        ("hist_returns", "2026-13", None, "2026-13"),
        ("hist_returns", "2026-09", "2026-08", "no date from"),
        ("hist_returns", "2026-12", None, "no date from"),
        ("hist_returns", None, None, "nothing to tell the first date by"),
    ],
)
def test_plans_that_cannot_be_made(disk: Any, name: str, start: str | None, end: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        backfill(name, start, end, lake=disk.query())
    with pytest.raises(UsageError, match="less than one"):
        backfill("hist_returns", "2026-08", lake=disk.query(), jobs=0)


# --- what it leaves -----------------------------------------------------------------------------


def test_months_in_one_pass_are_those_of_one_by_one(rig: Any) -> None:
    one_by_one = rig.query()
    fill(one_by_one)
    for month in months("2025-08-31", "2026-10-31"):
        run("hist_returns", month, lake=one_by_one)
    expected = content(one_by_one)
    reports = {report.ref_date: report for report in last_runs(one_by_one, limit=None)}
    one_by_one.lake.storage.delete("enriched/parquet/hist_returns/month=2026-03/data.parquet")
    changed = backfill("hist_returns", "2025-08", "2026-10", lake=one_by_one)
    assert [outcome.date for outcome in changed.outcomes if outcome.status == "done"] == [date(2026, 3, 31)]
    assert changed.count("unchanged") == 14
    pd.testing.assert_frame_equal(content(one_by_one), expected, check_exact=True)
    inputs = {name for report in last_runs(one_by_one, limit=15) for name in report.inputs}
    assert inputs == {name for report in reports.values() for name in report.inputs}


def test_each_date_has_a_record_and_all_leases_are_released(disk: Any) -> None:
    lq = disk.query()
    fill(lq)
    told: list[Any] = []
    done = backfill("hist_returns", "2026-06", "2026-10", lake=lq, told=told.append)
    assert told == list(done.outcomes)
    assert [outcome.status for outcome in done.outcomes] == ["done"] * 5
    records = last_runs(lq, limit=None)
    assert sorted(report.ref_date for report in records) == months("2026-06-30", "2026-10-31")
    assert {report.path for report in records} == {outcome.record for outcome in done.outcomes}
    assert {(report.status, report.rows) for report in records} == {("done", 4 * 3 * 6)}
    assert not lq.lake.storage.list("system/locks/runs")


def test_a_dates_gate_is_held_against_the_month_before_of_the_same_pass(disk: Any) -> None:
    lq = disk.query()
    fill(lq)
    frame = lq.get_table(HIST_FILE_PX_LAST.name)
    slipped = frame[(frame["Date"] >= "2026-08-01") & (frame["Date"] < "2026-09-01") & (frame["Asset"] == "fund2")]
    slipped = slipped.assign(Last_Price=slipped["Last_Price"] * 1000)
    incremental_load(lq, HIST_FILE_PX_LAST.name, slipped, unique_columns=["Date", "Asset"])
    done = backfill("hist_returns", "2026-06", "2026-10", lake=lq)
    assert [outcome.status for outcome in done.outcomes][:3] == ["done", "done", "stopped"]
    assert done.failed
    assert "return" in done.outcomes[2].message
    forced = backfill("hist_returns", "2026-08", "2026-08", lake=lq, force=True)
    assert [outcome.status for outcome in forced.outcomes] == ["done"]


def test_a_date_that_another_run_holds_is_skipped(disk: Any) -> None:
    lq = disk.query()
    fill(lq)
    other = Lease(disk.storage(), "system/locks/runs/hist_returns/2026-09-30.json", ttl=1.5, about={"run": "abc"})
    assert other.acquire() is None
    with other:
        done = backfill("hist_returns", "2026-08", "2026-10", lake=lq)
    assert [outcome.status for outcome in done.outcomes] == ["done", "skipped", "done"]
    assert "run abc" in done.outcomes[1].message
    assert not done.failed


def test_a_pass_that_fails_fails_each_of_its_dates(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lq = disk.query()
    fill(lq)
    save_table("assets", lq.get_table("assets").iloc[:0], lq=lq, mode="replace")
    done = backfill("hist_returns", "2026-08", "2026-10", lake=lq)
    assert [outcome.status for outcome in done.outcomes] == ["failed"] * 3
    assert {report.status for report in last_runs(lq)} == {"failed"}
    assert not lq.lake.storage.list("system/locks/runs")


@pytest.mark.parametrize("at_once", [2, 24])
def test_an_interrupted_backfill_goes_on_where_it_stopped(
    disk: Any, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(runs, "AT_ONCE", at_once)
    lq = disk.query()
    fill(lq)

    def interrupted(told: Outcome) -> None:
        if told.date == date(2026, 7, 31):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backfill("hist_returns", "2026-05", "2026-10", lake=lq, told=interrupted)
    assert not lq.lake.storage.list("system/locks/runs"), "what was not begun is not held"
    assert [report.status for report in last_runs(lq)] == ["done"] * 3
    rest = backfill("hist_returns", "2026-05", "2026-10", lake=lq, missing=True)
    assert [outcome.date for outcome in rest.outcomes] == months("2026-08-31", "2026-10-31")


def test_a_dry_run_only_plans(disk: Any) -> None:
    lq = disk.query()
    fill(lq)
    planned_only = backfill("hist_returns", "2026-08", "2026-10", lake=lq, dry_run=True)
    assert (len(planned_only.plan), planned_only.outcomes) == (3, ())
    assert not lq.lake.storage.list("system/runs")


# --- other pipelines, other processes -----------------------------------------------------------

PLUGIN = '''
"""A number a day, for tests."""

import sys

import pandas as pd

from luxor_pipelines import incremental_load
from luxor_pipelines.errors import DataError
from luxor_pipelines.lake.types.schema import Column, TableSchema
from luxor_pipelines.pipelines import Declaration, Due, PipelineResult

SCHEMA = TableSchema(
    name="numbers", version=1, key=("Date",), columns=(Column("Date", "date", False), Column("Number", "number"))
)
DECLARATION = Declaration(outputs=(SCHEMA,), inputs=("hist_file_px_last",), dates="days", due=Due("09:00", days=1))


def reference_date(ref_date, today):
    return ref_date or today


def run(ref_date=None, *, lq=None, now=None, bad: str = "", api_key: str = "") -> PipelineResult:
    if str(ref_date) == bad:
        raise DataError(f"No number for {ref_date}.")
    frame = pd.DataFrame({"Date": [pd.Timestamp(ref_date)], "Number": [float(ref_date.toordinal())]})
    load = incremental_load(lq, "numbers", frame, schema=SCHEMA)
    return PipelineResult((load,), 1, {"cli": "luxor_pipelines.cli" in sys.modules}, ref_date=ref_date)
'''


@pytest.fixture
def numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installs a package whose pipeline declares the same way as ours."""
    site = tmp_path / "site"
    info = site / "acme_numbers-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_numbers.py").write_text(textwrap.dedent(PLUGIN), encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-numbers\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[luxor_pipelines.pipelines]\nnumbers = acme_numbers\n", encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", f"{site}:{':'.join(path for path in sys.path if path)}")
    monkeypatch.delitem(sys.modules, "acme_numbers", raising=False)
    return site


def test_a_pipeline_of_a_package_is_backfilled_like_ours(disk: Any, numbers: Path) -> None:
    lq = disk.query()
    done = backfill("numbers", "2026-11-02", "2026-11-08", lake=lq, bad="2026-11-04")
    assert [f"{outcome.date:%d} {outcome.status}" for outcome in done.outcomes] == [
        "02 done", "03 done", "04 failed", "05 done", "06 done",
    ]  # fmt: skip
    assert done.outcomes[2].message == "No number for 2026-11-04."
    assert planned(plan_backfill("numbers", "2026-11-04", "2026-11-04", lake=lq, failed=True)) == {
        "2026-11": "failed on 2026-11-23"
    }
    rest = backfill("numbers", "2026-11-02", "2026-11-06", lake=lq, missing=True)
    assert [(outcome.date.day, outcome.status) for outcome in rest.outcomes] == [(4, "done")]
    with pytest.raises(UsageError, match="nothing to tell the first date by"):
        backfill("numbers", lake=lq)


def test_holidays_are_no_reference_dates(disk: Any, numbers: Path) -> None:
    lq = disk.query()
    save_table("holidays", pd.DataFrame({"Date": pd.to_datetime(["2026-11-03"]), "Location": "bz"}), lq=lq)
    plan = plan_backfill("numbers", "2026-11-02", "2026-11-06", lake=lq)
    assert [each.date.day for each in plan] == [2, 4, 5, 6]


def test_a_date_that_is_refused_stops_no_other(disk: Any) -> None:
    lq = disk.query()
    fill(lq)
    ended = dict(
        runs.run_many("hist_returns", [date(2026, 9, 30), date(2026, 10, 31), date(2026, 12, 31)], lake=lq.lake)
    )
    assert isinstance(ended.pop(date(2026, 12, 31)), UsageError)
    assert {report.status for report in ended.values()} == {"done"}  # type: ignore[union-attr]


def test_dates_are_divided_among_processes(disk: Any, numbers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUXOR_LAKE_URL", disk.arguments["lake"])
    lq = disk.query()
    done = backfill("numbers", "2026-11-02", "2026-11-06", lake=lq, now=NOW, jobs=2)
    assert [outcome.status for outcome in done.outcomes] == ["done"] * 5
    assert lq.get_table("numbers")["Number"].is_monotonic_increasing
    assert len(last_runs(lq)) == 5


def test_processes_of_the_script_import_no_command_line(disk: Any, numbers: Path, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["luxor"].partition(":")
    script = tmp_path / "luxor"  # as an installer writes it
    script.write_text(
        f"import sys\nfrom {module} import {function}\nif __name__ == '__main__':\n    sys.exit({function}())\n"
    )
    arguments = ["backfill", "numbers", "--from", "2026-11-02", "--to", "2026-11-03", "--jobs", "2"]
    subprocess.run([sys.executable, script, *arguments, "--lake", disk.arguments["lake"]], check=True)
    assert [report.details["cli"] for report in last_runs(disk.query())] == [False, False]


def test_what_cannot_travel_is_refused(disk: Any, make_rig: Any, numbers: Path) -> None:
    with pytest.raises(ConfigurationError, match="lies in the memory of this process"):
        backfill("numbers", "2026-11-02", "2026-11-03", lake=make_rig("memory").query(), jobs=2)
    with pytest.raises(UsageError, match="is not sent to other processes"):
        backfill("numbers", "2026-11-02", "2026-11-03", lake=disk.query(), jobs=2, api_key="pa55phrase")
    with pytest.raises(ConfigurationError, match="names no number of workers"):
        backfill("numbers", "2026-11-02", "2026-11-03", lake=disk.query(), cluster="local:many")
