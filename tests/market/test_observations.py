from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.catalog import PRICE_TABLES
from luxor_pipelines.errors import SchemaError, UsageError
from luxor_pipelines.market.observations import NO_LIMIT, Observations, PriceTable, last_rows
from market.facts import BY_TABLE, LIMITS, merge_observations

Observe = Callable[..., Observations]


def rows(obs: Observations) -> list[tuple[str, str, float]]:
    return [(str(obs.keys[c]), str(d), float(p)) for c, d, p in zip(obs.code, obs.date, obs.price, strict=True)]


def test_precedence_is_the_documented_one(observe: Observe) -> None:
    tables = [
        "custom_prices",
        "all_funds_quotas",
        "custom_funds_quotas",
        "hist_vc_px_last",
        "hist_non_bbg_px_last",
        "hist_px_last",
        "hist_file_px_last",
        "hist_ecb_px_last",
    ]
    assert [source.name for source in PRICE_TABLES] == tables
    for strongest in range(len(tables)):
        given_tables = {table: {"x": {"2024-01-31": rank + 1.0}} for rank, table in enumerate(tables)}
        merged = observe(**{table: given_tables[table] for table in reversed(tables[strongest:])})
        assert merged.fallback is not None
        own = [] if tables[strongest] == "hist_ecb_px_last" else [("x", "2024-01-31", strongest + 1.0)]
        assert (rows(merged), rows(merged.fallback)) == (own, [("x", "2024-01-31", 8.0)])


def test_limits_and_marks_come_with_the_winning_row(observe: Observe) -> None:
    obs = observe(
        hist_px_last={"x": {"2024-01-02": 1, "2024-01-03": 2}},
        hist_vc_px_last={"x": {"2024-01-03": 20, "2024-01-04": 30}},
        custom_prices={"x": {"2024-01-04": 300, "2024-01-05": 400}},
    )
    assert obs.price.tolist() == [1, 20, 300, 400]
    assert obs.limit.tolist() == [10, NO_LIMIT, 45, 45]
    assert obs.mark.tolist() == [False, True, False, False]


def test_each_table_has_the_limit_of_its_kind(observe: Observe) -> None:
    limits = {
        name: int(observe(**{name: {"x": {"2024-01-02": 1}}}).limit[0])
        for name in [table.name for table in PRICE_TABLES if not table.fallback]
    }
    assert limits == {
        "custom_prices": 45,
        "all_funds_quotas": 45,
        "custom_funds_quotas": 45,
        "hist_vc_px_last": NO_LIMIT,
        "hist_non_bbg_px_last": 10,
        "hist_px_last": 10,
        "hist_file_px_last": 10,
    }


def test_limits_are_settings() -> None:
    part = (BY_TABLE["hist_vc_px_last"], [0], ["2024-01-31"], [1.0])
    obs = merge_observations(["x"], [part], limits=replace(LIMITS, mark=400))
    assert obs.limit.tolist() == [400]
    assert LIMITS.days("mark") == NO_LIMIT
    assert [LIMITS.days("traded"), replace(LIMITS, fund=60).days("fund")] == [10, 60]


def test_sorted_by_series_then_date(observe: Observe) -> None:
    obs = observe(
        keys=["b", "a", "none"],
        hist_px_last={"a": {"2024-01-03": 3, "1969-12-31": 1}, "b": {"2024-01-02": 2}},
    )
    assert rows(obs) == [("b", "2024-01-02", 2), ("a", "1969-12-31", 1), ("a", "2024-01-03", 3)]
    assert obs.codes(["a", "zzz", "none"]).tolist() == [1, -1, 2]


def test_the_last_row_of_a_table_wins() -> None:
    source = BY_TABLE["hist_px_last"]
    one = merge_observations(["x"], [(source, [0, 0, 0], ["2024-01-02"] * 3, [1.0, 2.0, np.nan])])
    assert one.price.tolist() == [2.0]  # a null is no observation, so it replaces none
    # So many that only a sort that promises to be stable is.
    days, counted = np.tile(np.array(["2024-01-03", "2024-01-02"], "datetime64[D]"), 2500), np.arange(1.0, 5001)
    obs = merge_observations(["x"], [(source, np.zeros(5000, int), days, counted)])
    assert obs.price.tolist() == [5000, 4999]
    pieces = [(source, [0], ["2024-01-02"], [price]) for price in (1.0, 3.0)]
    assert merge_observations(["x"], pieces).price.tolist() == [3.0]


@pytest.mark.parametrize("price", [np.nan, None, np.inf, -np.inf, 0.0, -1.0])
def test_what_is_no_observation(price: float | None) -> None:
    for source in PRICE_TABLES:
        obs = merge_observations(["x"], [(source, [0], ["2024-01-02"], [price])])
        obs = obs.fallback or obs
        assert len(obs) == (0 if price is None or np.isnan(price) else 1)  # a null makes no row, any other a bad one
        assert obs.bad.tolist() == [not (price == 0 and source.kind == "mark")] * len(obs)


def test_null_dates_and_unwanted_series_are_left_out() -> None:
    source = BY_TABLE["hist_px_last"]
    part = (
        source,
        [0, -1, 0],
        pd.Series(pd.to_datetime([None, "2024-01-02", "2024-01-03"])),
        [1.0, 2.0, 3.0],
    )
    assert rows(merge_observations(["x"], [part])) == [("x", "2024-01-03", 3.0)]


def test_the_rows_of_a_fallback_are_kept_apart(observe: Observe) -> None:
    obs = observe(
        hist_ecb_px_last={
            "usdeur curncy": {"2024-01-02": 0.9},
            "usdbrl curncy": {"2023-01-02": 5, "2024-01-02": 6},
        },
        hist_px_last={"usdbrl curncy": {"2024-01-02": 7}},
    )
    assert rows(obs) == [("usdbrl curncy", "2024-01-02", 7)]
    assert obs.fallback is not None
    assert rows(obs.fallback) == [
        ("usdeur curncy", "2024-01-02", 0.9),
        ("usdbrl curncy", "2023-01-02", 5),
        ("usdbrl curncy", "2024-01-02", 6),
    ]
    assert obs.present.all()
    only = obs.only(["usdeur curncy"])
    assert (len(only), only.fallback is not None and rows(only.fallback)) == (0, [("usdeur curncy", "2024-01-02", 0.9)])
    assert obs.first_dates().astype(str).tolist() == ["2024-01-02", "2023-01-02"]


def test_a_null_does_not_silence_the_fallback(observe: Observe) -> None:
    obs = observe(hist_px_last={"x": {"2024-01-02": np.nan}}, hist_ecb_px_last={"x": {"2024-01-02": 5}})
    assert obs.fallback is not None
    assert (len(obs), obs.fallback.price.tolist()) == (0, [5])


parts_strategy = st.lists(
    st.tuples(
        st.sampled_from(PRICE_TABLES),
        st.lists(
            st.tuples(st.integers(-1, 2), st.integers(0, 6), st.sampled_from([1.0, 2.0, 3.0, 0.0, np.nan])),
            max_size=6,
        ),
    ),
    unique_by=lambda part: part[0],
    max_size=4,
)


@given(parts_strategy)
def test_tables_come_in_any_order(parts: list[tuple[PriceTable, list[tuple[int, int, float]]]]) -> None:
    arrays = [
        (
            source,
            [code for code, _, _ in table],
            np.datetime64("2024-01-01") + np.array([day for _, day, _ in table], dtype=int),
            [price for *_, price in table],
        )
        for source, table in parts
    ]
    first, *others = (merge_observations(["a", "b", "c"], list(order)) for order in permutations(arrays))
    for other in others:
        assert rows(other) == rows(first)
        assert other.limit.tolist() == first.limit.tolist()
        assert other.mark.tolist() == first.mark.tolist()
    assert len(set(zip(first.code.tolist(), first.date.tolist(), strict=True))) == len(first)


def test_series(observe: Observe) -> None:
    obs = observe(
        keys=["a", "b", "none"],
        hist_px_last={"b": {"2024-01-02": 2, "2024-01-03": 3}, "a": {"2024-01-02": 1}},
    )
    dates, prices = obs.series("b")
    assert dates.astype(str).tolist() == ["2024-01-02", "2024-01-03"]
    assert prices.tolist() == [2, 3]
    for name in ("none", "unknown"):
        assert [len(part) for part in obs.series(name)] == [0, 0]


def test_wrong_calls() -> None:
    source = BY_TABLE["hist_px_last"]
    with pytest.raises(UsageError, match="repeat"):
        merge_observations(["x", "x"], [])
    with pytest.raises(UsageError, match="hist_px_last: series code 1 of 1"):
        merge_observations(["x"], [(source, [1], ["2024-01-02"], [1.0])])
    with pytest.raises(UsageError, match="px_last_other"):
        merge_observations(["x"], [(PriceTable("px_last_other", "Asset", "Last_Price", "traded"), [], [], [])])


def test_columns_in() -> None:
    marks = BY_TABLE["hist_vc_px_last"]
    assert marks.columns_in(["Date", "Ticker", "Price"]) == ("Ticker", "Price")
    assert marks.columns_in(["Date", "Asset", "Last_Price"]) == ("Asset", "Last_Price")
    assert BY_TABLE["all_funds_quotas"].columns_in(["Fund", "Quota", "#", "Date"]) == ("Fund", "Quota")
    with pytest.raises(SchemaError, match="hist_vc_px_last: no columns Ticker, Price"):
        marks.columns_in(["Date", "Ticker"])


@pytest.mark.parametrize("order", [1, -1], ids=["by date", "against it"])
def test_more_series_than_two_bytes_count_and_more_days(order: int) -> None:
    """Sorting takes two bytes for a series and for a day where they fit; 65,536 days are 179 years."""
    codes = np.array([2**16, 0, 2**16, 0, 1])
    days = np.datetime64("1800-01-01", "D") + np.array([0, 1, 2**16, 2**16 + 1, 2**16 + 2])
    part = (BY_TABLE["hist_px_last"], codes[::order], days[::order], np.arange(1.0, 6.0)[::order])
    obs = merge_observations([str(n) for n in range(2**16 + 1)], [part])
    assert obs.code.tolist() == [0, 0, 1, 2**16, 2**16]
    assert obs.price.tolist() == [2, 4, 5, 1, 3]


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 30), st.integers(-1, 3), st.sampled_from([1.0, 2.0, 0.0, -1.0, np.nan, np.inf])),
        max_size=60,
    ),
    asked=st.lists(st.integers(-1, 32), max_size=4),
)
def test_last_rows_are_those_of_a_loop(rows: list[tuple[int, int, float]], asked: list[int]) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    day, code, price = (np.array([row[n] for row in rows]) for n in range(3))
    date = np.datetime64("2026-01-01", "D") + day.astype(int)
    dates = [np.datetime64("2026-01-01", "D") + np.timedelta64(n, "D") for n in asked]
    found = last_rows(code.astype(np.int32), date, price.astype(float), np.array(dates, "datetime64[D]"), 4)
    if not rows:
        assert found is None
        return
    expected = set()
    # Of rows that agree in series and date the last one counts.
    last_of = {(when, series): at for at, (when, series, value) in enumerate(rows) if value == value}
    for start, end in pairwise([-1, *sorted(set(asked) - {-1})]):
        last: dict[tuple[int, bool], int] = {}
        for position, (when, series, value) in enumerate(rows):
            if start < when <= end and series >= 0 and last_of.get((when, series)) == position:
                last[series, False] = position
                if 0 < value < np.inf:
                    last[series, True] = position
        expected |= set(last.values())
    assert found is not None
    assert found.tolist() == sorted(expected)
