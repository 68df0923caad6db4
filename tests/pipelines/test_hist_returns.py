"""The flagship pipeline: every rule of a return, by hand and against independent computations."""

from __future__ import annotations

import io
import math
import sys
import threading
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import ffn
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luxor_pipelines import save_table
from luxor_pipelines.catalog import PERIODS
from luxor_pipelines.errors import DataError, SchemaError, TableNotFoundError, UsageError
from luxor_pipelines.lake.parquet.file import to_bytes
from luxor_pipelines.lake.storage.base import ANY
from luxor_pipelines.lake.table.layout import DIRECTORY
from luxor_pipelines.pipelines import fx_rates, hist_returns, market_prices

REF = date(2026, 10, 31)
MTD_BASE = "2026-09-30"


def asset(key: str, ticker: str, **columns: Any) -> dict[str, Any]:
    name = key.split("_", maxsplit=1)[0]
    row = {"Key": key, "Name": name.title(), "Asset": name, "Ticker": ticker, "Ticker_BBG": None}
    return {**row, "Type": "ações_us", "Group": "ações", "Location": "us", **columns}


def lake(rig: Any, assets: list[dict[str, Any]], **tables: dict[str, dict[str, float]]) -> Any:
    """A lake of those assets, with price tables given as ``table={series: {date: price}}``."""
    lq = rig.query()
    save_table("assets", pd.DataFrame(assets), lq=lq)
    columns = {"all_funds_quotas": ("Fund", "Quota"), "hist_vc_px_last": ("Ticker", "Price")}
    for table, series in tables.items():
        key, price = columns.get(table, ("Asset", "Last_Price"))
        rows = [(day, name, value) for name, prices in series.items() for day, value in prices.items()]
        frame = pd.DataFrame(rows, columns=["Date", key, price])
        save_table(table, frame.assign(Date=pd.to_datetime(frame["Date"])), lq=lq)
    return lq


def row(frame: pd.DataFrame, key: str, period: str = "mtd", currency: str = "local") -> pd.Series:
    found = frame[(frame["Key"] == key) & (frame["Period"] == period) & (frame["Currency"] == currency)]
    assert len(found) == 1, "one row for every asset, currency and period"
    return found.iloc[0]


def outcome(frame: pd.DataFrame, key: str, period: str = "mtd", currency: str = "local") -> tuple[str, float | None]:
    found = row(frame, key, period, currency)
    return found["Status"], None if pd.isna(found["Return"]) else pytest.approx(found["Return"], rel=1e-12)


def test_a_lake_without_legacy_files_needs_no_legacy_codec(disk: Any) -> None:
    """Neither the run nor a question about its table calls into it, and a legacy table does."""
    lq = lake(disk, [asset("a", "a us equity")], hist_px_last={"a us equity": {MTD_BASE: 10.0, "2026-10-30": 11.0}})

    def run() -> None:
        assert hist_returns.run(REF, lq=lq, force=True).loads[0].changed
        assert len(lq.get_hist_returns(REF)) == 18

    assert calls_into("legacy.py", run) == set()
    texts = pa.table({"Date": ["2026-10-30"], "Fund": ["f"], "Quota": ["1.0"]})
    pq.write_table(texts, sink := io.BytesIO())
    lq.lake.storage.write("enriched/parquet/all_funds_quotas.parquet", sink.getvalue())
    assert "decode" in calls_into("legacy.py", lambda: disk.query().get_prices(["f"], REF))


def calls_into(module: str, work: Callable[[], object]) -> set[str]:
    """The functions of one of our modules that ``work`` calls, in this thread and those it starts."""
    names: set[str] = set()

    def note(frame: Any, event: str, arg: object) -> None:
        if event == "call" and Path(frame.f_code.co_filename).name == module:
            names.add(frame.f_code.co_name)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return names


# --- against independent computations on real data -------------------------------------------


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, pd.DataFrame, pd.Series, pd.Series]:
    """A lake of 20 shares and the ECB's rates; and the raw files as pandas reads them."""
    from luxor_pipelines import LuxorQuery

    folder = tmp_path_factory.mktemp("lake")
    lq = LuxorQuery(lake=folder.as_uri(), clock=lambda: datetime(2026, 11, 23, tzinfo=UTC))
    rates_zip = (shared_data / "eurofxref-hist.zip").read_bytes()
    shares_csv = (shared_data / "sp500_20_stocks_daily.csv.gz").read_bytes()
    lq.lake.storage.write("raw/ecb/eurofxref-hist.zip", rates_zip)
    lq.lake.storage.write("raw/prices/shares.csv.gz", shares_csv)
    fx_rates.run(lq=lq)
    market_prices.run(lq=lq)

    shares = pd.read_csv(io.BytesIO(shares_csv), compression="gzip", index_col="Date", parse_dates=True)
    with zipfile.ZipFile(io.BytesIO(rates_zip)) as archive, archive.open(archive.namelist()[0]) as file:
        ecb = pd.read_csv(file, index_col="Date", parse_dates=True, na_values="N/A").sort_index()
    brl = (ecb["BRL"] / ecb["USD"]).dropna()
    eur = (1 / ecb["USD"]).dropna()
    assets = [asset(f"{t.lower()}_{t.lower()}", t.lower()) for t in shares.columns]
    # The same share, were it quoted in euro or in real: only the conversion differs.
    assets += [asset("euro_usdeur", "usdeur curncy", Location="eur")]
    save_table("assets", pd.DataFrame(assets), lq=lq)
    return lq, shares, brl, eur


def test_every_cell_equals_an_independent_computation(real: Any) -> None:
    lq, shares, brl, _ = real
    frame = hist_returns.get_returns(lq, date(2022, 11, 30))
    frame = frame[frame["Key"] != "euro_usdeur"]
    assert len(frame) == 20 * 6 * 3
    assert (frame["Status"] == "ok").all()
    end = pd.Timestamp("2022-11-30")
    # By hand: month end before, quarter end before, 31 December before, and 1, 2, 3 years before.
    bases = dict(
        zip(PERIODS, ["2022-10-31", "2022-09-30", "2021-12-31", "2021-11-30", "2020-11-30", "2019-11-30"], strict=True)
    )
    computed = {}
    for period, base in bases.items():
        both = shares.asof([pd.Timestamp(base), end])
        in_brl = both.mul(brl.asof(both.index), axis=0)
        for currency, prices in {"local": both, "usd": both, "brl": in_brl}.items():
            for ticker, value in ffn.calc_total_return(prices).items():
                computed[(f"{ticker.lower()}_{ticker.lower()}", currency, period)] = value
    expected = [computed[key] for key in zip(frame["Key"], frame["Currency"], frame["Period"], strict=True)]
    np.testing.assert_allclose(1 + frame["Return"], 1 + np.array(expected), rtol=1e-12)


def test_a_series_in_euro_is_converted_through_the_dollar(real: Any) -> None:
    lq, _, brl, eur = real
    frame = hist_returns.get_returns(lq, date(2022, 11, 30))
    dates = pd.to_datetime(["2021-11-30", "2022-11-30"])
    price, real_per_dollar, euro_per_dollar = (series.asof(dates).to_numpy() for series in (eur, brl, eur))
    in_brl = price * real_per_dollar / euro_per_dollar
    found = row(frame, "euro_usdeur", "12m", "brl")
    assert found["Status"] == "ok"
    assert found["Return"] == pytest.approx(in_brl[1] / in_brl[0] - 1, rel=1e-12)
    assert (found["Base_Price"], found["End_Price"]) == pytest.approx(tuple(in_brl), rel=1e-12)


# --- hand-worked cases -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "base"),
    [("2023-02-28", "2022-02-28"), ("2024-02-29", "2023-02-28"), ("2025-02-28", "2024-02-29")],
)
def test_twelve_months_before_a_february_start_on_a_month_end(disk: Any, ref: str, base: str) -> None:
    day_before = {"2022-02-28": "2022-02-27", "2023-02-28": "2023-02-27", "2024-02-29": "2024-02-28"}[base]
    lq = lake(disk, [asset("a_a", "a")], hist_px_last={"a": {day_before: 50.0, base: 100.0, ref: 110.0}})
    found = row(hist_returns.get_returns(lq, ref), "a_a", "12m")
    assert found["Status"] == "ok"
    assert found["Return"] == pytest.approx(0.1, rel=1e-12)  # 110 / 100 − 1, not 110 / 50 − 1
    assert found["Base_Date"] == pd.Timestamp(base)


def test_an_asset_listed_in_mid_period_has_no_base(disk: Any) -> None:
    lq = lake(disk, [asset("new_new", "new")], hist_px_last={"new": {"2026-10-15": 10.0, "2026-10-30": 12.0}})
    found = row(hist_returns.get_returns(lq, REF), "new_new")
    assert (found["Status"], pd.isna(found["Return"])) == ("no_base", True)
    assert (found["End_Price"], found["End_Date"]) == (12.0, pd.Timestamp("2026-10-30"))
    assert pd.isna(found["Base_Price"])


def test_an_asset_that_stopped_trading_on_the_5th_is_stale(disk: Any) -> None:
    lq = lake(disk, [asset("dead_dead", "dead")], hist_px_last={"dead": {MTD_BASE: 10.0, "2026-10-05": 5.0}})
    found = row(hist_returns.get_returns(lq, REF), "dead_dead")
    assert (found["Status"], pd.isna(found["Return"])) == ("stale_end", True)
    assert (found["End_Price"], found["End_Date"]) == (5.0, pd.Timestamp("2026-10-05"))  # what was found


def test_a_fund_whose_quota_is_late_is_stale_not_zero(disk: Any) -> None:
    fund = asset("fia_fia fund", "fia fund", Group="fundos", Location="bz")
    lq = lake(disk, [fund], all_funds_quotas={"fia fund": {"2026-06-30": 1.0, "2025-12-31": 0.8, MTD_BASE: 1.2}})
    frame = hist_returns.get_returns(lq, REF)
    assert outcome(frame, "fia_fia fund", "mtd") == ("stale_end", None)
    assert outcome(frame, "fia_fia fund", "qtr") == ("stale_end", None)
    # 31 days old is young enough for a quota, and it is newer than the year's base: 1.2 / 0.8 − 1.
    assert outcome(frame, "fia_fia fund", "ytd") == ("ok", 0.5)


def test_an_asset_without_a_location_has_local_returns_only(disk: Any) -> None:
    lq = lake(
        disk,
        [asset("x_x", "x", Location=None), asset("y_y", "y", Location="mars")],
        hist_px_last={"x": {MTD_BASE: 10.0, "2026-10-30": 11.0}, "y": {MTD_BASE: 10.0, "2026-10-30": 9.0}},
    )
    frame = hist_returns.get_returns(lq, REF)
    assert outcome(frame, "x_x") == ("ok", 0.1)
    assert outcome(frame, "y_y") == ("ok", -0.1)
    for key in ("x_x", "y_y"):
        for currency in ("usd", "brl"):
            assert outcome(frame, key, currency=currency) == ("missing_currency", None)
    assert pd.isna(row(frame, "x_x")["Local_Currency"])


def test_a_missing_rate_is_no_fx(disk: Any) -> None:
    lq = lake(
        disk,
        [asset("u_u", "u"), asset("b_b", "b", Location="bz")],
        hist_px_last={
            "u": {MTD_BASE: 10.0, "2026-10-30": 11.0},
            "b": {MTD_BASE: 10.0, "2026-10-30": 12.0},
            "usdbrl curncy": {"2026-10-30": 5.0},  # nothing for the base date
        },
    )
    frame = hist_returns.get_returns(lq, REF)
    found = row(frame, "u_u", currency="brl")
    assert (found["Status"], pd.isna(found["Return"])) == ("no_fx", True)
    assert found["End_Price"] == pytest.approx(55.0)  # what could be converted is
    assert outcome(frame, "u_u", currency="usd") == ("ok", 0.1)
    assert outcome(frame, "b_b", currency="brl") == ("ok", 0.2)  # its own currency needs no rate
    assert outcome(frame, "b_b", currency="usd") == ("no_fx", None)


def test_two_assets_that_share_a_price_key(disk: Any) -> None:
    share = asset("apple_aapl us equity", "aapl us equity")
    bdr = asset(
        "apple_aapl34 bz equity", "aapl34 bz equity", Ticker_BBG="aapl us equity", Type="ações_bdr", Location="bz"
    )
    rates = {MTD_BASE: 5.0, "2026-10-30": 5.5}
    lq = lake(
        disk,
        [share, bdr],
        hist_px_last={"aapl us equity": {MTD_BASE: 200.0, "2026-10-30": 210.0}, "usdbrl curncy": rates},
    )
    frame = hist_returns.get_returns(lq, REF)
    for key in (share["Key"], bdr["Key"]):
        assert row(frame, key)["Price_Key"] == "aapl us equity"
        assert row(frame, key)["Local_Currency"] == "usd"  # the series' currency, not the BDR's listing
        assert outcome(frame, key) == ("ok", 0.05)
        assert outcome(frame, key, currency="brl") == ("ok", 1.05 * 1.1 - 1)


def test_a_euro_asset_in_brl(disk: Any) -> None:
    lq = lake(
        disk,
        [asset("sap_sap gr equity", "sap gr equity", Location="eur")],
        hist_px_last={
            "sap gr equity": {MTD_BASE: 100.0, "2026-10-30": 110.0},
            "usdeur curncy": {MTD_BASE: 0.8, "2026-10-30": 0.9},
            "usdbrl curncy": {MTD_BASE: 4.0, "2026-10-30": 5.4},
        },
    )
    found = row(hist_returns.get_returns(lq, REF), "sap_sap gr equity", currency="brl")
    # BRL per EUR: 4.0 / 0.8 = 5 and 5.4 / 0.9 = 6; so 100 € = R$ 500 and 110 € = R$ 660.
    assert (found["Base_Price"], found["End_Price"]) == pytest.approx((500.0, 660.0))
    assert found["Return"] == pytest.approx(0.32)


def test_an_old_mark_is_carried_and_says_so(disk: Any) -> None:
    startup = asset("startup_startup vc", "startup vc", Group="vc", Ticker_BBG="other us equity")
    lq = lake(disk, [startup], hist_vc_px_last={"startup vc": {"2024-03-31": 10.0, "2026-02-10": 15.0}})
    frame = hist_returns.get_returns(lq, REF)
    assert outcome(frame, startup["Key"], "ytd") == ("carried", 0.5)  # both ends marked, one long ago
    assert outcome(frame, startup["Key"], "mtd") == ("carried", 0.0)  # one mark at both dates
    assert outcome(frame, startup["Key"], "36m") == ("no_base", None)


def test_a_mark_written_off_to_zero_is_a_return_of_minus_one(disk: Any) -> None:
    startup = asset("startup_startup vc", "startup vc", Group="vc")
    lq = lake(disk, [startup], hist_vc_px_last={"startup vc": {"2026-09-15": 10.0, "2026-10-20": 0.0}})
    assert outcome(hist_returns.get_returns(lq, REF), startup["Key"]) == ("ok", -1.0)


def test_a_zero_price_of_a_traded_series_is_no_price(disk: Any) -> None:
    lq = lake(disk, [asset("a_a", "a")], hist_px_last={"a": {MTD_BASE: 10.0, "2026-10-29": 11.0, "2026-10-30": 0.0}})
    frame = hist_returns.get_returns(lq, REF)
    assert outcome(frame, "a_a") == ("bad_price", None)
    found = row(frame, "a_a")
    assert (found["End_Date"], found["End_Price"], found["Base_Price"]) == (pd.Timestamp("2026-10-30"), 0, 10)


def test_an_infinite_price_of_another_program_does_not_stop_the_month(disk: Any) -> None:
    lq = lake(disk, [asset("a_a", "a"), asset("b_b", "b")], hist_px_last={"b": {MTD_BASE: 10.0, "2026-10-30": 11.0}})
    days = pd.to_datetime([MTD_BASE, "2026-10-30"] * 2).as_unit("us")
    prices = pa.table({"Date": days, "Asset": ["a", "a", "b", "b"], "Last_Price": [math.inf, 10.0, 10.0, 11.0]})
    lq.lake.storage.write(f"{DIRECTORY}/hist_px_last.parquet", to_bytes(prices), expected=ANY)
    hist_returns.run(REF, lq=disk.query())
    frame = disk.query().get_table("hist_returns")
    assert outcome(frame, "b_b") == ("ok", 11 / 10 - 1)
    assert outcome(frame, "a_a") == ("bad_price", None)
    found = row(frame, "a_a")
    assert (found["Base_Date"], found["End_Price"]) == (pd.Timestamp(MTD_BASE), 10)
    assert pd.isna(found["Base_Price"])


def test_an_amortization_is_not_a_loss(disk: Any) -> None:
    fund = asset("loan_loan fund", "loan fund", Group="fundos", Location="bz")
    lq = lake(disk, [fund], all_funds_quotas={"loan fund": {MTD_BASE: 100.0, "2026-10-30": 91.8}})
    assert outcome(hist_returns.get_returns(lq, REF), fund["Key"]) == ("ok", 91.8 / 100 - 1)
    events = pd.DataFrame({"Fund": ["loan fund"], "Event_Date": pd.to_datetime(["2026-10-10"]), "Ratio": [0.1]})
    save_table("quota_adjustments", events, lq=lq)
    found = row(hist_returns.get_returns(disk.query(), REF), fund["Key"])
    assert found["Return"] == pytest.approx(0.02)  # 91.8 / (100 × (1 − 0.1)) − 1
    assert (found["Base_Price"], found["End_Price"]) == pytest.approx((90.0, 91.8))


def test_brl_is_the_clean_coupon_chained_with_spot(disk: Any) -> None:
    lq = lake(
        disk,
        [asset("u_u", "u")],
        hist_px_last={
            "u": {"2026-08-31": 1.0, MTD_BASE: 1.0, "2026-10-30": 1.0, "2025-12-31": 1.0},
            "bmfxclco curncy": {"2026-08-31": 5.05, MTD_BASE: 5.10},
            "usdbrl curncy": {"2025-12-31": 4.0, "2026-08-31": 5.0, MTD_BASE: 5.0, "2026-10-30": 5.5},
        },
    )
    frame = hist_returns.get_returns(lq, REF)
    found = row(frame, "u_u", "mtd", "brl")
    # After its last value the clean series moves with spot: 5.10 × 5.5 / 5.0.
    assert (found["Base_Price"], found["End_Price"]) == pytest.approx((5.10, 5.61))
    # Before its first: 5.05 × 4.0 / 5.0.
    assert row(frame, "u_u", "ytd", "brl")["Base_Price"] == pytest.approx(4.04)


def test_the_ecb_serves_a_series_where_the_other_tables_have_nothing_new(disk: Any) -> None:
    ecb = {"usdbrl curncy": {MTD_BASE: 5.0, "2026-10-30": 5.5}, "only curncy": {MTD_BASE: 1.0, "2026-10-30": 2.0}}
    lq = lake(
        disk,
        [asset("u_u", "u"), asset("o_only curncy", "only curncy")],
        hist_px_last={"u": {MTD_BASE: 1.0, "2026-10-30": 1.0}, "usdbrl curncy": {"2020-01-02": 4.0}},
        hist_ecb_px_last=ecb,
    )
    frame = hist_returns.get_returns(lq, REF)
    assert outcome(frame, "u_u", currency="brl") == ("ok", 0.1)  # the firm's own series ended years ago
    assert outcome(frame, "o_only curncy") == ("ok", 1.0)


def test_a_run_warns_where_base_and_end_are_of_different_sides(disk: Any) -> None:
    lq = lake(
        disk,
        [asset("u_u", "u"), asset("o_o curncy", "o curncy")],
        hist_px_last={
            "u": {MTD_BASE: 1.0, "2026-10-30": 1.0}, "usdbrl curncy": {MTD_BASE: 4.0}, "o curncy": {"2026-10-30": 2.0}
        },
        hist_ecb_px_last={
            "usdbrl curncy": {MTD_BASE: 5.0, "2026-10-30": 5.5}, "o curncy": {MTD_BASE: 1.0, "2026-10-30": 3.0}
        },
    )  # fmt: skip
    result = hist_returns.run(REF, lq=lq)
    (note,) = result.warnings
    assert "different tables" in note
    assert "'o curncy', 'usdbrl curncy'" in note
    frame = hist_returns.get_returns(lq, REF)
    assert outcome(frame, "u_u", currency="brl") == ("ok", 5.5 / 4 - 1)
    assert outcome(frame, "o_o curncy") == ("ok", 1.0)


def test_a_bad_rate_is_no_rate_and_said_once(disk: Any, caplog: Any) -> None:
    lq = lake(
        disk,
        [asset("u_u", "u"), asset("v_v", "v"), asset("r_usdbrl curncy", "usdbrl curncy")],
        hist_px_last={
            **{key: {MTD_BASE: 1.0, "2026-10-30": 1.0} for key in "uv"},
            "usdbrl curncy": {MTD_BASE: 5.0, "2026-10-29": 5.5, "2026-10-30": 0.0},
        },
    )
    result = hist_returns.run(REF, lq=lq)
    assert [note for note in result.warnings if "Bad rates" in note] == [
        "Bad rates make the returns that they convert no_fx: 'usdbrl curncy of 2026-10-30: 0'"
    ]
    frame = hist_returns.get_returns(lq, REF)
    assert outcome(frame, "u_u", currency="brl") == ("no_fx", None)
    assert outcome(frame, "r_usdbrl curncy") == ("bad_price", None)


def test_a_bad_value_of_the_clean_series_is_not_replaced_by_spot(disk: Any) -> None:
    spot = {MTD_BASE: 5.0, "2026-10-30": 5.5}
    clean = {"2026-09-29": 5.05, MTD_BASE: 5.1, "2026-10-28": 5.2, "2026-10-29": -1.0}
    lq = lake(
        disk,
        [asset("u_u", "u")],
        hist_px_last={
            "u": {MTD_BASE: 1.0, "2026-10-30": 1.0}, "bmfxclco curncy": clean, "usdbrl curncy": spot
        },
    )  # fmt: skip
    assert outcome(hist_returns.get_returns(lq, REF), "u_u", currency="brl") == ("no_fx", None)


def test_the_stronger_table_wins_on_the_same_date(disk: Any) -> None:
    lq = lake(
        disk,
        [asset("a_a", "a")],
        hist_px_last={"a": {MTD_BASE: 10.0, "2026-10-30": 11.0}},
        custom_prices={"a": {"2026-10-30": 12.0}},
        hist_file_px_last={"a": {"2026-10-30": 99.0, "2026-10-31": 13.0}},
    )
    assert outcome(hist_returns.get_returns(lq, REF), "a_a") == ("ok", 0.3)  # the later date, then the table
    found = lq.get_price("a", "2026-10-30")
    assert found == 12.0


def test_one_bad_row_of_assets_never_stops_the_month(disk: Any) -> None:
    good = asset("a_a", "a")
    nameless = {**asset("?_?", "?"), "Key": None, "Asset": None, "Ticker": None}
    keyless = {**asset("?_?", "b"), "Key": None, "Asset": "B"}
    no_series = asset("cash_none", "z", Ticker=None)
    lq = lake(
        disk, [good, nameless, keyless, no_series, good], hist_px_last={"a": {MTD_BASE: 10.0, "2026-10-30": 11.0}}
    )
    frame = hist_returns.get_returns(lq, REF)
    assert sorted(set(frame["Key"])) == ["a_a", "b_b", "cash_none"]
    assert len(frame) == 3 * 6 * 3
    assert outcome(frame, "a_a") == ("ok", 0.1)
    assert outcome(frame, "b_b") == ("unknown", None)
    assert outcome(frame, "cash_none") == ("unknown", None)
    assert pd.isna(row(frame, "cash_none")["Price_Key"])


def test_an_asset_without_any_price_is_unknown(disk: Any) -> None:
    lq = lake(disk, [asset("a_a", "a")], hist_px_last={"b": {MTD_BASE: 1.0}})
    frame = hist_returns.get_returns(lq, REF)
    assert set(frame[frame["Currency"] == "local"]["Status"]) == {"unknown"}
    assert frame["Return"].isna().all()


def test_prices_after_the_reference_date_change_nothing(disk: Any) -> None:
    prices = {"2025-10-31": 8.0, MTD_BASE: 10.0, "2026-10-30": 11.0}
    lq = lake(disk, [asset("a_a", "a")], hist_px_last={"a": prices})
    before = hist_returns.get_returns(lq, REF)
    save_table(
        "hist_px_last",
        pd.DataFrame(
            {"Date": pd.to_datetime([*prices, "2026-11-03"]), "Asset": "a", "Last_Price": [*prices.values(), 99.0]}
        ),
        lq=lq,
        mode="replace",
    )
    pd.testing.assert_frame_equal(hist_returns.get_returns(lq, REF), before)


def test_a_month_before_the_first_price_is_a_usage_error(disk: Any) -> None:
    lq = lake(disk, [asset("a_a", "a")], hist_px_last={"a": {MTD_BASE: 10.0, "2026-10-30": 11.0}})
    for force in (False, True):
        with pytest.raises(UsageError, match="2026-09-30"):
            hist_returns.run("1980-01-31", lq=lq, force=force)
    assert not lq.table_exists("hist_returns")


# --- running it ------------------------------------------------------------------------------


def simple(rig: Any) -> Any:
    days = pd.date_range("2025-06-01", "2026-11-20", freq="B").strftime("%Y-%m-%d")
    return lake(rig, [asset("a_a", "a")], hist_px_last={"a": {day: 100.0 + n for n, day in enumerate(days)}})


def test_a_run_writes_exactly_one_blob_and_a_rerun_none(rig: Any) -> None:
    lq = simple(rig)
    before = {info.path for info in lq.lake.storage.list("enriched")}
    result = hist_returns.run("2026-10-15", lq=lq)
    after = {info.path: info.version for info in lq.lake.storage.list("enriched")}
    folder = "enriched/parquet/hist_returns"
    assert set(after) - before == {f"{folder}/month=2026-10/data.parquet", f"{folder}/_layout.json"}
    assert result.rows == 18
    assert not hist_returns.run("2026-10-31", lq=rig.query()).loads[0].changed
    assert {info.path: info.version for info in lq.lake.storage.list("enriched")} == after


def test_months_in_any_order_end_in_the_same_table(disk: Any) -> None:
    lq = simple(disk)
    for month in ("2026-10-31", "2026-08-31", "2026-09-30", "2026-08-31"):
        hist_returns.run(month, lq=lq)
    once = lq.get_table("hist_returns")
    for month in ("2026-09-30", "2026-10-31"):
        hist_returns.run(month, lq=lq)
    pd.testing.assert_frame_equal(disk.query().get_table("hist_returns"), once)
    assert once["Date"].dt.strftime("%m").unique().tolist() == ["08", "09", "10"]


def test_a_late_price_flows_in_on_the_rerun(disk: Any) -> None:
    fund = asset("f_f", "f", Group="fundos")
    lq = lake(disk, [fund], all_funds_quotas={"f": {MTD_BASE: 1.0}})
    hist_returns.run(REF, lq=lq)
    assert lq.get_hist_returns(REF, "local").set_index("Period").loc["mtd", "Status"] == "stale_end"
    quotas = pd.DataFrame({"Date": pd.to_datetime([MTD_BASE, "2026-10-30"]), "Fund": "f", "Quota": [1.0, 1.1]})
    save_table("all_funds_quotas", quotas, lq=lq, mode="replace")
    load = hist_returns.run(REF, lq=lq).loads[0]
    assert (load.inserted, load.deleted) == (0, 0)
    assert load.updated > 0
    found = lq.get_hist_returns(REF, "local").set_index("Period").loc["mtd"]
    assert (found["Status"], found["Return"]) == ("ok", pytest.approx(0.1))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2026, 11, 23, 18, 30, tzinfo=UTC), "2026-10-31"),
        (datetime(2026, 11, 1, 2, 59, tzinfo=UTC), "2026-09-30"),  # still 31 October in São Paulo
        (datetime(2026, 11, 1, 3, 0, tzinfo=UTC), "2026-10-31"),
    ],
)
def test_the_default_month_is_the_last_that_has_ended_in_sao_paulo(disk: Any, now: datetime, expected: str) -> None:
    assert str(hist_returns.run(lq=simple(disk), now=now).ref_date) == expected


def test_a_month_that_has_not_ended_is_refused(disk: Any) -> None:
    lq = simple(disk)
    for ref in ("2026-11-30", "2026-11-01", "2027-01-31"):
        with pytest.raises(UsageError, match="has not ended") as caught:
            hist_returns.run(ref, lq=lq)
        assert "2026-10-31" in caught.value.hint
    assert not lq.table_exists("hist_returns")


def test_an_older_hist_returns_of_another_kind_is_refused(disk: Any) -> None:
    lq = simple(disk)
    save_table("hist_returns", pd.DataFrame({"Date": ["2026-09-30"], "Asset": ["a"], "mtd": ["0.1"]}), lq=lq)
    before = [info.version for info in lq.lake.storage.list("enriched")]
    with pytest.raises(SchemaError, match="other columns"):
        hist_returns.run(REF, lq=lq)
    assert [info.version for info in lq.lake.storage.list("enriched")] == before


def test_missing_and_empty_assets(disk: Any) -> None:
    with pytest.raises(TableNotFoundError, match="assets"):
        hist_returns.run(REF, lq=disk.query())
    lq = lake(disk, [{**asset("a_a", "a"), "Key": None, "Asset": None}])
    with pytest.raises(DataError, match="no rows with a Key"):
        hist_returns.run(REF, lq=lq)
    assert not lq.table_exists("hist_returns")
