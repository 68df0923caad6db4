"""Before a month's returns are written: what stops them, what does not, and that --force is told."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luxor_pipelines import save_table
from luxor_pipelines.catalog import PERIODS
from luxor_pipelines.errors import QualityError, SchemaError
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.market.periods import month_end
from luxor_pipelines.operations.records import last_runs
from luxor_pipelines.operations.runs import run
from luxor_pipelines.pipelines import hist_returns
from luxor_pipelines.pipelines._return_checks import PLAUSIBLE, MonthReturns, check_returns

SEPTEMBER, OCTOBER = "2026-09-30", "2026-10-31"
TABLE = "hist_returns"


def fill(lq: Any, names: str = "abcd", *, usdbrl: bool = True, until: str = "2026-11-20") -> Any:
    """A lake of assets of one letter each, with a price of 100 and some on every business day of two years."""
    assets(lq, names)
    days = pd.date_range("2024-06-03", until, freq="B")
    series = [*names, *(["usdbrl curncy"] if usdbrl else [])]
    prices = [
        pd.DataFrame({"Date": days, "Asset": name, "Last_Price": 100.0 + place + np.arange(len(days)) / 100})
        for place, name in enumerate(series)
    ]
    save_table("hist_px_last", pd.concat(prices), lq=lq, mode="replace")
    return lq


def assets(lq: Any, names: str, ticker: Callable[[str], str] = str) -> None:
    frame = pd.DataFrame({"Key": list(names), "Ticker": [ticker(name) for name in names], "Location": "us"})
    save_table("assets", frame.assign(Name=frame["Key"]), lq=lq, mode="replace")


def price(lq: Any, name: str, day: str, value: float) -> None:
    frame = lq.get_table("hist_px_last", force_reload=True)
    frame.loc[(frame["Asset"] == name) & (frame["Date"] >= day), "Last_Price"] = value
    save_table("hist_px_last", frame, lq=lq, mode="replace")


def tables(lq: Any) -> dict[str, str]:
    return {info.path: info.version for info in lq.lake.storage.list("enriched")}


def stopped(lq: Any, ref: str = OCTOBER) -> str:
    """Run a month that must not get through, see that it leaves everything as it was, and return the report."""
    before = tables(lq)
    with pytest.raises(QualityError) as caught:
        run(TABLE, ref_date=ref, lq=lq)
    assert tables(lq) == before, "nothing was written"
    assert f"luxor run hist_returns --ref-date {ref} --force" in caught.value.hint
    told = [each.error for each in last_runs(lq, TABLE) if each.status == "failed" and each.error]
    assert {"class": "QualityError", "message": caught.value.message, "hint": caught.value.hint} in told
    return caught.value.message


def done(lq: Any, ref: str = OCTOBER, **params: Any) -> Any:
    report = run(TABLE, ref_date=ref, lq=lq, **params)
    assert report.status == "done"
    return report


# --- coverage -----------------------------------------------------------------------------------


def test_half_of_last_months_assets_is_stopped_and_can_be_forced(rig: Any) -> None:
    lq = fill(rig.query())
    done(lq, SEPTEMBER)
    assets(lq, "ab")
    lq = rig.query()
    assert "2 of the 4 assets stored for 2026-09-30 are missing: 'c', 'd'" in stopped(lq)

    report = done(lq, force=True)
    assert report.warnings == ("Forced: 2 of the 4 assets stored for 2026-09-30 are missing: 'c', 'd'",)
    assert report.params == {"force": True}
    quality: Any = report.details["quality"]
    assert quality["forced"] is True
    assert [(each["severity"], each["partition"], each["count"]) for each in quality["findings"]] == [
        ("error", "2026-10", 2)
    ]
    assert report in last_runs(rig.query(), TABLE)
    assert set(rig.query().get_table(TABLE, where={"Date": OCTOBER})["Key"]) == {"a", "b"}


def test_what_was_forced_is_not_stopped_again(disk: Any) -> None:
    lq = fill(disk.query())
    done(lq, SEPTEMBER)
    assets(lq, "ab")
    lq = disk.query()
    price(lq, "a", "2026-10-30", 5000.0)
    done(lq, force=True)
    again = done(disk.query())
    assert (again.changed, again.warnings) == (False, ())


def test_a_month_that_was_forced_once_is_stopped_where_its_odd_return_changes(disk: Any) -> None:
    lq = fill(disk.query(), "ab")
    price(lq, "b", "2026-10-30", 10_600.0)
    done(disk.query(), force=True)
    assert not done(disk.query()).changed, "the same odd return passes"
    price(lq, "b", "2026-10-30", 10_700.0)
    assert "beyond what is plausible: 'b local mtd" in stopped(disk.query()), "another one does not"


def test_returns_are_held_against_the_stored_month_and_not_against_one_in_memory(disk: Any) -> None:
    lq = fill(disk.query(), "ab")
    done(lq, SEPTEMBER)
    told = frame_of(lq)
    assert found(lq, told) == []  # and September is in the memory of this query
    done(fill(disk.query(), "abcd"), SEPTEMBER)  # another process stores two assets more
    assert found(lq, told) == ["of the 4 assets stored for 2026-09-30 are missing"]


def test_a_month_of_the_same_pass_is_not_read_back(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lq = fill(rig.query(), "ab")
    (_, load_september), (_, load_october) = hist_returns.run_many([month_end(SEPTEMBER), month_end(OCTOBER)], lq=lq)
    load_september()
    scanned: list[str] = []
    scan = Table.scan
    monkeypatch.setattr(Table, "scan", lambda self, *args, **kw: scanned.append(self.name) or scan(self, *args, **kw))
    load_october()
    assert TABLE not in scanned
    check_returns(lq, MonthReturns.of(pa.Table.from_pandas(frame_of(lq))), date(2026, 11, 30))
    assert TABLE in scanned, "October is read where it is not of the pass"


def test_a_month_of_the_same_pass_counts_only_while_its_file_is_as_it_was_loaded(disk: Any) -> None:
    lq = fill(disk.query(), "ab")
    (_, load_september), (_, load_october) = hist_returns.run_many([month_end(SEPTEMBER), month_end(OCTOBER)], lq=lq)
    load_september()
    assert found(lq, frame_of(lq)) == []
    done(fill(disk.query(), "abcd"), SEPTEMBER)  # another process stores two assets more
    with pytest.raises(QualityError, match="2 of the 4 assets stored for 2026-09-30 are missing"):
        load_october()


def test_a_month_without_rows_is_held_against_the_one_before(disk: Any) -> None:
    lq = fill(disk.query())
    done(lq, SEPTEMBER)
    done(lq)
    storage, october = disk.storage(), f"enriched/parquet/{TABLE}/month=2026-10/data.parquet"
    rows = pq.read_table(io.BytesIO(storage.read(october).data), partitioning=None)
    sink = io.BytesIO()
    pq.write_table(rows.slice(0, 0), sink)
    storage.write(october, sink.getvalue())
    assets(lq, "ab")
    assert "2 of the 4 assets stored for 2026-09-30 are missing" in stopped(disk.query())


def test_a_rerun_that_would_delete_half_of_its_own_month_is_stopped(disk: Any) -> None:
    lq = fill(disk.query())
    done(lq)
    assets(lq, "a")
    assert "3 of the 4 assets stored for 2026-10-31 are missing" in stopped(disk.query())


def test_a_currency_that_can_be_stated_no_more_is_stopped(disk: Any) -> None:
    lq = fill(disk.query())
    done(lq, SEPTEMBER)
    fill(lq, usdbrl=False)
    report = stopped(disk.query())
    assert "4 of the 4 assets with a return in brl for 2026-09-30 have none" in report
    assert " usd " not in report


def test_no_return_at_all_after_a_month_of_returns_is_stopped(disk: Any) -> None:
    lq = fill(disk.query())
    done(lq, SEPTEMBER)
    assets(lq, "abcd", ticker=lambda name: f"{name} us equity")  # which no price table knows
    report = stopped(disk.query())
    assert "4 of the 4 assets with a return in local for 2026-09-30 have none" in report
    assert " in brl " not in report, "and not once more for every currency"


def test_a_feed_that_has_stopped_is_stopped(disk: Any) -> None:
    lq = fill(disk.query(), until="2026-09-30")
    done(lq, SEPTEMBER)
    assert "4 of the 4 assets with a return in local" in stopped(disk.query())


def test_names_that_match_no_price_are_stopped_in_the_first_month_too(disk: Any) -> None:
    lq = fill(disk.query())
    assets(lq, "abcd", ticker=lambda name: f"{name} us equity")
    report = stopped(disk.query())
    assert "4 assets, which is all of them, have no price at all" in report
    assert "the month has prices (110 in hist_px_last)" in report  # 22 business days of five series


@pytest.mark.parametrize(("names", "stops"), [("ab", True), ("a", False)])
def test_two_assets_that_both_match_nothing_are_stopped_and_one_is_not(disk: Any, names: str, stops: bool) -> None:
    lq = fill(disk.query())
    assets(lq, names, ticker=lambda name: f"{name} us equity")
    if stops:
        assert "2 assets, which is all of them, have no price at all" in stopped(disk.query())
    else:
        done(disk.query())


def test_late_quotas_are_a_warning(disk: Any) -> None:
    lq = fill(disk.query())
    done(lq, SEPTEMBER)
    frame = lq.get_table("hist_px_last")
    quotas = frame[frame["Asset"].isin(list("abcd"))].rename(columns={"Asset": "Fund", "Last_Price": "Quota"})
    save_table("all_funds_quotas", quotas[(quotas["Date"] <= SEPTEMBER) | (quotas["Fund"] == "d")], lq=lq)
    save_table("hist_px_last", frame[frame["Asset"] == "usdbrl curncy"], lq=lq, mode="replace")
    report = done(disk.query())
    assert report.warnings == (
        "3 of the 4 assets with a mtd return in local for 2026-09-30 have none: 'a', 'b', 'c'",
        "3 of the 4 assets with a qtr return in local for 2026-09-30 have none: 'a', 'b', 'c'",
    )
    assert report.details["quality"]["forced"] is False  # type: ignore[index,call-overload]


def test_a_stored_month_that_cannot_be_read_stops_no_other(disk: Any) -> None:
    lq = fill(disk.query())
    done(lq, OCTOBER)
    done(lq, "2026-08-31")
    lq.lake.storage.write("enriched/parquet/hist_returns/month=2026-08/data.parquet", b"torn")
    report = done(disk.query(), SEPTEMBER)
    (warning,) = report.warnings
    assert warning.startswith("1 stored month, which these returns should be compared with, cannot be read: ")
    assert "month=2026-08/data.parquet is not a readable Parquet file" in warning


# --- bounds -------------------------------------------------------------------------------------


def test_a_price_whose_point_has_slipped_is_stopped(disk: Any) -> None:
    lq = fill(disk.query())
    price(lq, "b", "2026-10-30", 10_600.0)  # 106.00
    report = stopped(disk.query())
    assert "returns are beyond what is plausible: 'b local mtd " in report
    price(lq, "b", "2026-10-30", 1.06)
    assert "'b local mtd -99.0 %'" in stopped(disk.query())


def frame_of(lq: Any) -> pd.DataFrame:
    return hist_returns.get_returns(lq, OCTOBER)


def computing(frame: pd.DataFrame) -> Callable[..., Iterator[hist_returns.ComputedMonth]]:
    """What computes these rows for any month."""
    return lambda *args: iter([hist_returns.ComputedMonth(pa.Table.from_pandas(frame, preserve_index=False), ())])


def found(lq: Any, frame: pd.DataFrame) -> list[str]:
    return [each.what for each in check_returns(lq, MonthReturns.of(pa.Table.from_pandas(frame)), date(2026, 10, 31))]


def test_each_period_has_its_bounds(disk: Any) -> None:
    lq = fill(disk.query(), "ab")
    frame = frame_of(lq)
    beyond, impossible = "beyond what is plausible", "-100 % or less, though the end price is not 0"
    for period, (low, high) in PLAUSIBLE.items():
        here = (frame["Key"] == "a") & (frame["Period"] == period) & (frame["Currency"] == "brl")
        frame.loc[here, ["Base_Price", "Status"]] = [100.0, "ok"]
        verdicts = {high: None, high + 0.01: beyond, low + 0.001: None, -1.0: impossible, -1.2: impossible}
        if low > -1:
            verdicts |= {low: beyond, low - 0.001: beyond}
        for value, verdict in verdicts.items():
            expected = [] if verdict is None else [f"returns are {verdict}"]
            assert found(lq, frame.assign(Return=frame["Return"].mask(here, value))) == expected, (period, value)
    assert PLAUSIBLE == {  # a table of its own, so that no bound moves unseen
        "mtd": (-0.98, 9.0),
        "qtr": (-0.98, 14.0),
        "ytd": (-1.0, 29.0),
        "12m": (-1.0, 29.0),
        "24m": (-1.0, 49.0),
        "36m": (-1.0, 49.0),
    }
    assert set(PLAUSIBLE) == set(PERIODS)


def test_a_loss_of_more_than_all_is_stopped_though_the_end_price_is_zero(disk: Any) -> None:
    lq = fill(disk.query(), "ab")
    frame = frame_of(lq)
    here = (frame["Key"] == "a") & (frame["Period"] == "12m") & (frame["Currency"] == "brl")
    frame.loc[here, ["Base_Price", "End_Price", "Status"]] = [100.0, 0.0, "ok"]
    assert found(lq, frame.assign(Return=frame["Return"].mask(here, -1.0))) == []
    more = ["returns are -100 % or less, though the end price is not 0"]
    assert found(lq, frame.assign(Return=frame["Return"].mask(here, -1.001))) == more


def test_a_mark_written_off_to_zero_passes(disk: Any) -> None:
    lq = disk.query()
    save_table("assets", pd.DataFrame({"Key": ["s"], "Ticker": ["s"], "Group": ["vc"], "Location": ["us"]}), lq=lq)
    marks = {"Date": pd.to_datetime(["2026-09-15", "2026-10-20"]), "Ticker": "s", "Price": [10.0, 0.0]}
    save_table("hist_vc_px_last", pd.DataFrame(marks), lq=lq)
    assert done(lq).warnings == ()
    assert lq.get_hist_returns(OCTOBER, "local").set_index("Period").loc["mtd", "Return"] == -1.0


@pytest.mark.parametrize(
    "change",
    [
        {"Return": float("nan")},  # ok, without a return
        {"Status": "stale_end"},  # not ok, with one
        {"Return": float("nan"), "Status": "no_base"},  # no base, with a base price
    ],
    ids=str,
)
def test_a_status_that_the_row_denies_is_stopped(
    disk: Any, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lq = fill(disk.query())
    wrong = frame_of(lq)
    wrong.loc[wrong["Return"].notna(), list(change)] = list(change.values())
    monkeypatch.setattr(hist_returns, "compute_returns", computing(wrong))
    assert "rows have a status that their prices and return deny: " in stopped(disk.query())


# --- what is as it should be --------------------------------------------------------------------


def test_months_in_any_order_and_reruns_pass(disk: Any) -> None:
    lq = fill(disk.query())
    for month in (OCTOBER, "2026-07-31", SEPTEMBER, "2026-08-31", OCTOBER, "2026-07-31"):
        assert done(lq, month).warnings == ()


def test_an_old_month_with_fewer_assets_passes_whatever_came_later(disk: Any) -> None:
    lq = fill(disk.query(), "ab")
    done(lq, "2026-08-31")
    fill(lq, "abcdefgh")
    assert done(disk.query(), OCTOBER).warnings == ()
    assert done(disk.query(), "2026-08-31").warnings == (), "and more of them do"


@pytest.mark.parametrize("names", ["ab", "abcd"])
def test_an_asset_that_was_delisted_passes(disk: Any, names: str) -> None:
    lq = fill(disk.query(), names)
    done(lq, SEPTEMBER)
    assets(lq, names[1:])
    assert done(disk.query()).warnings == ()


def test_an_asset_that_stopped_trading_passes(disk: Any) -> None:
    lq = fill(disk.query(), "ab")
    done(lq, SEPTEMBER)
    frame = lq.get_table("hist_px_last")
    gone = (frame["Asset"] == "b") & (frame["Date"] > "2026-10-02")
    save_table("hist_px_last", frame[~gone], lq=lq, mode="replace")
    assert done(disk.query()).warnings == ()


def test_a_lake_without_prices_yet_and_one_that_begins_pass(disk: Any) -> None:
    lq = disk.query()
    assets(lq, "abcd")
    assert done(lq).warnings == ()
    days = pd.date_range("2026-10-05", "2026-10-30", freq="B")
    begun = pd.concat(pd.DataFrame({"Date": days, "Asset": name, "Last_Price": 1.0}) for name in "abcd")
    save_table("hist_px_last", begun, lq=lq)
    report = done(disk.query())
    assert report.warnings == ()
    assert report.details["statuses"]["no_base"] > 0  # type: ignore[index,call-overload,operator]


def test_columns_and_keys_stay_the_loads_to_check_and_cannot_be_forced(
    disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lq = fill(disk.query())
    right = frame_of(lq)
    for wrong in (pd.concat([right, right.iloc[:1]]), right.assign(Key=None), right.drop(columns="End_Price")):
        monkeypatch.setattr(
            hist_returns, "check_returns", lambda *args: []
        )  # which would trip over a column that is not there
        monkeypatch.setattr(hist_returns, "compute_returns", computing(wrong))
        with pytest.raises(SchemaError):
            run(TABLE, ref_date=OCTOBER, lq=lq, force=True)
    assert not lq.table_exists(TABLE)


def test_a_stopped_run_is_told_as_an_error(disk: Any, caplog: pytest.LogCaptureFixture) -> None:
    lq = fill(disk.query())
    price(lq, "b", "2026-10-30", 10_600.0)
    with caplog.at_level(logging.WARNING):
        done(disk.query(), force=True)
    assert "hist_returns of 2026-10-31: Forced: " in caplog.text


def test_a_month_without_a_return_is_stopped_where_a_feed_has_died(disk: Any) -> None:
    """Prices end in February: June has none that is not too old, and passed as a month of stale ones."""
    days = pd.date_range("2025-01-02", "2026-02-27", freq="B")
    assets = pd.DataFrame({"Key": ["a_a", "b_b"], "Ticker": ["a", "b"], "Location": "us", "Type": "etf"})
    prices = pd.DataFrame({"Date": np.tile(days, 2), "Asset": np.repeat(["a", "b"], len(days)), "Last_Price": 5.0})
    lq = disk.query()
    save_table("assets", assets, lq=lq)
    save_table("hist_px_last", prices, lq=lq)
    with pytest.raises(QualityError, match="have no return, though all prices are too old, the last of 2026-02-27"):
        hist_returns.run("2026-06-30", lq=lq)
    assert hist_returns.run("2026-06-30", lq=lq, force=True).loads[0].inserted == 36
    assert not hist_returns.run("2026-06-30", lq=lq).loads[0].changed  # forced once, it passes
    assert hist_returns.run("2025-01-31", lq=lq).rows == 36  # the first month has no base: nothing had a return before


def test_a_month_without_a_return_is_stopped_where_an_earlier_one_has_some(disk: Any) -> None:
    lq = disk.query()
    save_table("assets", pd.DataFrame({"Key": ["a_a"], "Ticker": ["a"], "Location": "us", "Type": "etf"}), lq=lq)

    def prices(*days: str) -> None:
        frame = pd.DataFrame({"Date": pd.to_datetime(days), "Asset": "a", "Last_Price": 5.0})
        save_table("hist_px_last", frame, lq=lq, mode="replace")

    prices("2025-12-31", "2026-01-30", "2026-02-27")
    hist_returns.run("2026-01-31", lq=lq)
    prices("2026-05-29")  # the history is gone
    with pytest.raises(QualityError, match="have no return, though 2026-01 has returns"):
        hist_returns.run("2026-05-31", lq=lq)
