"""Arguments of types that nobody means, and dates at the ends of the calendar: refused in words that name them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from luxor_pipelines import LuxorQuery, incremental_load, run, save_table
from luxor_pipelines.errors import SchemaError, UsageError
from luxor_pipelines.operations.backfill import backfill
from luxor_pipelines.operations.status import table_status

FRAME = pd.DataFrame({"Date": pd.to_datetime(["2026-10-30"]), "Asset": "a", "Last_Price": 2.0})
SPAN = ("2026-10-30", "2026-11-20")


@pytest.fixture
def lq(disk: Any) -> Any:
    """A lake with one price; its clock stands at 2026-11-23."""
    lq = disk.query()
    save_table("hist_px_last", FRAME, lq=lq)
    return lq


CALLS: dict[str, Callable[[LuxorQuery, Any], object]] = {
    "tickers": lambda lq, odd: lq.get_prices(odd, *SPAN),
    "periods": lambda lq, odd: lq.get_returns("2026-10-30", "a", odd),
    "currency": lambda lq, odd: lq.get_returns("2026-10-30", "a", currency=odd),
    "columns": lambda lq, odd: lq.get_table("hist_px_last", columns=odd),
    "where": lambda lq, odd: lq.scan("hist_px_last", where=odd),
    "assets_data": lambda lq, odd: lq.calculate_price_correlation(odd),
    "unique_columns": lambda lq, odd: incremental_load(lq, "t", FRAME, unique_columns=odd),
    "schema": lambda lq, odd: save_table("t", FRAME, lq=lq, schema=odd),
    "price_currency": lambda lq, odd: lq.convert_currency(FRAME, odd, "brl"),
    "now": lambda lq, odd: run("holidays", lake=lq.lake, now=odd),
}


@pytest.mark.parametrize("argument", CALLS)
@pytest.mark.parametrize("odd", [5, FRAME, object()], ids=["number", "frame", "object"])
def test_an_error_names_the_argument(lq: LuxorQuery, argument: str, odd: Any) -> None:
    with pytest.raises(UsageError, match=f"^{argument}="):
        CALLS[argument](lq, odd)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda lq: lq.get_benchmark(5, "2026-10-30"), "5 are no legs and weights"),
        (lambda lq: lq.get_benchmark({"a": "half"}, "2026-10-30"), "are no legs and weights"),
        (lambda lq: lq.simulate_portfolio_performance({"a": 1}, "2026-10-30", "2 %"), "Fees of '2 %'"),
        (lambda lq: lq.statistics("a", "2026-10-30", level="0.95"), "A level of '0.95'"),
        (lambda lq: lq.calculate_drawdown("a", "2026-10-30", worst=2.5), "The 2.5 worst"),
        (lambda lq: lq.convert_currency([1.0], "usd", "brl"), "prices is no DataFrame but of type list"),
        (lambda lq: lq.get_prices("a", *SPAN, price_overrides=5), "price_overrides is no DataFrame but of type int"),
        (lambda lq: lq.text_to_lowercase("A"), "t is no DataFrame but of type str"),
        (lambda lq: lq.usdbrl_clean_coupon_fix(None), "usdbrl_df is no DataFrame but of type NoneType"),
        (lambda lq: lq.get_returns(5, "a"), "5 is not a date"),
        (lambda lq: lq.beta("a", "a", "2026-10-30", risk_free=[0.1]), r"risk_free=\[0.1\]"),
        (lambda lq: lq.find("a", limit=0.5), "limit=0.5"),
        (lambda lq: lq.correlation(["a", "b"], "2026-10-30", window="3"), "A window of '3' returns"),
        (lambda lq: lq.calculate_volatility("a", 12, -(10**12), rolling=False), "9999-12-31"),
        (lambda lq: lq.get_table("hist_px_last", index=True, index_name=["Date"]), "no column"),
        (lambda lq: lq.sql(5), "query=5 is no text"),
        (lambda lq: lq.sql("select ?", 5), "params=5 is neither"),
        (lambda lq: lq.xirr(5, ["2026-10-30"]), "5 are no cash flows"),
        (lambda lq: lq.twr(["a", "b"]), "are no values"),
        (lambda lq: run(5, lake=lq.lake), "no pipeline 5"),
        (lambda lq: backfill([], lake=lq.lake), "no pipeline"),
        (lambda lq: backfill("hist_returns", "2026-10", lake=lq.lake, now=datetime(2026, 11, 23)), "no instant"),
        (lambda lq: table_status(lq.lake, now=pd.NaT), "no instant"),
    ],
)
def test_other_arguments_are_refused_in_words(lq: LuxorQuery, call: Callable[[LuxorQuery], object], words: str) -> None:
    with pytest.raises((UsageError, SchemaError), match=words):
        call(lq)


def test_lists_of_every_kind_are_taken(lq: LuxorQuery) -> None:
    for several in (["a"], ("a",), {"a"}, {"a": 1.0}, np.array(["a"]), pd.Series(["a"]), pd.Index(["a"]), iter(["a"])):
        assert len(lq.get_prices(several, *SPAN)) > 0
    assert lq.xirr(iter([-1.0, 1.1]), iter(["2025-10-30", "2026-10-30"])) == pytest.approx(0.1)
    loaded = incremental_load(lq, "t", FRAME, increment_column=None, unique_columns=np.array(["Date", "Asset"]))
    assert loaded.inserted == 1


@pytest.mark.parametrize("end", ["9999-12-31", "2027-11-25"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda lq, end: lq.get_prices("a", end=end, start="2026-10-30"),
        lambda lq, end: lq.get_prices("a", start=end, end="2026-10-30"),
        lambda lq, end: lq.returns_table("a", recent_date=end),
        lambda lq, end: lq.statistics("a", "2026-10-30", end),
        lambda lq, end: lq.calculate_volatility("a", recent_date=end),
        lambda lq, end: lq.get_benchmark({"a": 1}, "2026-10-30", end),
        lambda lq, end: lq.calculate_price_correlation(["a"], ref_date=end),
    ],
)
def test_a_last_date_far_ahead_is_refused(lq: LuxorQuery, ask: Callable[[LuxorQuery, str], object], end: str) -> None:
    with pytest.raises(UsageError, match=f"{end} is more than a year after today, 2026-11-23"):
        ask(lq, end)


def test_one_within_a_year_is_answered(lq: LuxorQuery) -> None:
    prices = lq.get_prices("a", start="2026-10-30", end="2027-11-24")
    assert prices["Date"].max() == pd.Timestamp("2027-11-24")
    assert prices["Last_Price"].count() == 11  # the day itself and its age limit


def test_the_year_1_has_nothing_before_it(lq: LuxorQuery) -> None:
    assert lq.get_prices("a", end="0001-01-01").empty
    assert np.isnan(lq.get_pct_change("a", "0001-01-01"))
    assert lq.calculate_volatility("a", 12, 10**10, recent_date="0001-01-05", rolling=False)["Volatility"].isna().all()
    with pytest.raises(UsageError, match="'wtd' from 0001-01-07 reaches before the year 1"):
        lq.get_returns("0001-01-07", "a", "wtd")
