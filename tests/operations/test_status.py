"""What is late, judged by what pipelines declare and by the newest date of price tables from elsewhere."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from luxor_pipelines import incremental_load, run, save_table
from luxor_pipelines.catalog import HIST_ECB_PX_LAST, HIST_FILE_PX_LAST, HIST_RETURNS
from luxor_pipelines.cli import main
from luxor_pipelines.operations.status import TableStatus, table_status

FRIDAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)  # Monday, 15:30 in São Paulo


def prices(last: str, table: Any = HIST_ECB_PX_LAST) -> tuple[str, pd.DataFrame, Any]:
    days = pd.to_datetime(["2026-10-30", last])
    name = table if isinstance(table, str) else table.name
    frame = pd.DataFrame({"Date": days, "Asset": "usdbrl curncy", "Last_Price": [5.0, 5.1]})
    return name, frame.drop_duplicates("Date"), None if isinstance(table, str) else table


def load(lq: Any, last: str, table: Any = HIST_ECB_PX_LAST) -> None:
    name, frame, schema = prices(last, table)
    incremental_load(lq, name, frame, schema=schema)


def status(lq: Any, table: str, now: datetime = NOW) -> TableStatus:
    (found,) = [each for each in table_status(lq, now=now) if each.table == table]
    return found


def test_a_rate_table_that_ended_is_late(rig: Any) -> None:
    lq = rig.query()
    load(lq, "2026-11-20")
    fresh = status(lq, "hist_ecb_px_last")
    assert (fresh.pipeline, fresh.newest, fresh.late, fresh.late_days) == ("fx_rates", FRIDAY, False, 0)
    assert fresh.expected == date(2026, 11, 19), "Friday's are due on Monday at 20:00"
    assert fresh.next_due == datetime(2026, 11, 23, 23, 0, tzinfo=UTC)
    late = status(lq, "hist_ecb_px_last", datetime(2026, 12, 21, 12, tzinfo=UTC))
    assert (late.expected, late.late_days) == (date(2026, 12, 17), 19)


@pytest.mark.parametrize(
    ("hour", "expected", "late_days"),
    [(22, date(2026, 11, 19), 0), (23, date(2026, 11, 20), 1)],  # UTC: three hours after São Paulo's
)
def test_a_table_is_late_from_the_declared_minute_on(disk: Any, hour: int, expected: date, late_days: int) -> None:
    lq = disk.query()
    load(lq, "2026-11-19")
    found = status(lq, "hist_ecb_px_last", datetime(2026, 11, 23, hour, 0, tzinfo=UTC))
    assert (found.expected, found.late_days) == (expected, late_days)


def test_holidays_are_no_days(disk: Any) -> None:
    lq = disk.query()
    save_table(
        "holidays", pd.DataFrame({"Date": pd.to_datetime(["2026-11-20", "2026-12-25"]), "Location": "bz"}), lq=lq
    )
    load(lq, "2026-11-18")
    found = status(lq, "hist_ecb_px_last", datetime(2026, 11, 23, 23, 0, tzinfo=UTC))
    assert (found.expected, found.late_days) == (date(2026, 11, 19), 1), "Friday was one; Thursday's are due on Monday"


def test_a_month_is_due_on_the_next_business_day(disk: Any) -> None:
    lq = disk.query()
    assets = {"Key": ["fund"], "Name": ["Fund"], "Ticker_BBG": ["fund"]}
    save_table("assets", pd.DataFrame(assets), lq=lq)
    load(lq, "2026-11-19", HIST_FILE_PX_LAST)
    none = status(lq, HIST_RETURNS.name)
    assert (none.newest, none.expected, none.late) == (None, date(2026, 10, 31), True)
    report = run("hist_returns", "2026-10", lake=lq)
    found = status(lq, HIST_RETURNS.name)
    assert (found.newest, found.late_days, found.last_run) == (date(2026, 10, 31), 0, report)
    assert found.next_due == datetime(2026, 12, 1, 19, 0, tzinfo=UTC), "16:00 on the first of December"
    assert status(lq, HIST_RETURNS.name, datetime(2026, 12, 1, 18, 59, tzinfo=UTC)).late_days == 0
    late = status(lq, HIST_RETURNS.name, datetime(2026, 12, 1, 19, 0, tzinfo=UTC))
    assert (late.expected, late.late) == (date(2026, 11, 30), True)


def test_price_tables_from_elsewhere_are_judged_by_their_kind(disk: Any) -> None:
    lq = disk.query()
    for table, last in {"hist_px_last": "2026-11-13", "hist_non_bbg_px_last": "2026-11-20"}.items():
        load(lq, last, table)
    days = pd.to_datetime(["2026-11-13"])
    save_table("all_funds_quotas", pd.DataFrame({"Date": days, "Fund": "f", "Quota": 1.0}), lq=lq)
    save_table(
        "custom_funds_quotas", pd.DataFrame({"Date": days - pd.Timedelta("30D"), "Fund": "f", "Quota": 1.0}), lq=lq
    )
    save_table("hist_vc_px_last", pd.DataFrame({"Date": days, "Ticker": "v", "Price": 1.0}), lq=lq)
    found = {each.table: each.late_days for each in table_status(lq, now=NOW) if each.pipeline is None}
    assert found == {
        "hist_px_last": 4,
        "hist_non_bbg_px_last": 0,
        "all_funds_quotas": 0,
        "custom_funds_quotas": 22,  # from the 15th of October to the 13th of November
        "hist_vc_px_last": None,
    }
    assert "custom_prices" not in found, "which this lake does not have"


def test_a_table_whose_footer_tells_no_dates_is_read(disk: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = pa.table({"Date": ["2026-11-19 00:00:00", "nan"], "Asset": ["a", "a"], "Last_Price": ["1.0", "nan"]})
    folder = disk.storage().root / "enriched/parquet"
    folder.mkdir(parents=True)
    pq.write_table(data, folder / "hist_px_last.parquet")
    assert status(disk.query(), "hist_px_last").newest == date(2026, 11, 19)


def test_one_damaged_table_hides_no_other(disk: Any, caplog: pytest.LogCaptureFixture) -> None:
    lq = disk.query()
    load(lq, "2026-11-20")
    lq.lake.storage.write("enriched/parquet/hist_px_last.parquet", b"PAR1 is not enough")
    assert status(lq, "hist_ecb_px_last").newest == FRIDAY
    assert "The newest date of hist_px_last is not known" in caplog.text


def test_the_command_says_what_is_late(disk: Any, capsys: pytest.CaptureFixture[str]) -> None:
    load(disk.query(), "2026-11-02")
    arguments = ["status", "--lake", disk.arguments["lake"]]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split("  ")[0] == "Table"
    assert "tables are late; Late counts business days." in err
    assert main([*arguments, "--check", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["schema_version", "tables", "late"]
    rates = next(each for each in told["tables"] if each["table"] == "hist_ecb_px_last")
    assert (rates["pipeline"], rates["newest"]) == ("fx_rates", "2026-11-02")
    assert rates["late_business_days"] > 0
    assert rates["last_run"] is None


def test_asking_is_cheap(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lq = disk.query()
    for month in range(1, 11):
        load(lq, f"2026-{month:02}-15", "hist_px_last")
    asked: list[str] = []
    storage = lq.lake.storage
    for name in ("read", "open"):
        operation = getattr(storage, name)
        monkeypatch.setattr(storage, name, lambda *args, _do=operation, _name=name: asked.append(_name) or _do(*args))
    table_status(lq, now=NOW)
    assert len(asked) <= 3, asked


def test_asking_takes_no_more_for_more_tables_months_and_runs(
    rig: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lq = rig.query(clock=clock)
    for day in ("2026-07-10", "2026-11-19"):
        load(lq, day, HIST_FILE_PX_LAST)
    assets = {"Key": ["fund"], "Name": ["Fund"], "Ticker_BBG": ["usdbrl curncy"], "Location": ["us"]}
    save_table("assets", pd.DataFrame(assets), lq=lq)
    for _ in range(2):
        run("hist_returns", "2026-10", lq=lq)
        clock.now += timedelta(minutes=1)  # of runs in one second each record is read
    asked: list[str] = []
    for name in ("entry", "list", "folder", "stat", "peek", "read", "open"):
        operation = getattr(lq.lake.storage, name)

        def counted(*args: Any, _do: Any = operation, _name: str = name, **options: Any) -> Any:
            asked.append(f"{_name} {args[0]}")
            return _do(*args, **options)

        monkeypatch.setattr(lq.lake.storage, name, counted)
    table_status(lq.lake.fresh(), now=NOW)
    before = len(asked)
    for number in range(9):
        save_table(f"other_{number}", pd.DataFrame({"Date": [pd.Timestamp("2026-10-30")], "Number": [1.0]}), lq=lq)
    for month in ("2026-07", "2026-08", "2026-09", "2026-10"):
        clock.now += timedelta(minutes=1)
        run("hist_returns", month, lq=lq, force=True)
    asked.clear()
    table_status(lq.lake.fresh(), now=NOW)
    assert len(asked) == before, asked
    if lq.lake.storage.concurrent:  # on Azure an operation is a request; on disk looking once more is cheap
        assert before <= 30
