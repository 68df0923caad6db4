from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.analytics.composites import as_weights, composite
from luxor_pipelines.analytics.interest import accumulate_rate, chain
from luxor_pipelines.errors import DataError, UsageError

DAYS = pd.date_range("2024-01-15", "2024-04-30")
LEGS = {"equity": 0.8, "cash": 0.2}


def two_legs() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {"equity": 50 * np.exp(rng.normal(0, 0.01, len(DAYS)).cumsum()), "cash": 1.0002 ** np.arange(len(DAYS))}, DAYS
    )


def test_monthly_by_hand() -> None:
    days = pd.to_datetime(["2024-01-15", "2024-01-31", "2024-02-10", "2024-02-29", "2024-03-31"])
    prices = pd.DataFrame({"a": [10, 11, 22, 11, 11], "b": [5, 5, 5, 10, 20.0]}, days)
    found = composite(prices, {"a": 0.6, "b": 0.4})
    january = 0.6 * 1.1 + 0.4
    february = 0.6 * 1 + 0.4 * 2
    expected = [1, january, january * (0.6 * 2 + 0.4), january * february, january * february * (0.6 + 0.4 * 2)]
    np.testing.assert_allclose(found, expected)


def test_d35_the_month_that_the_start_lies_in_is_kept() -> None:
    found = composite(two_legs(), LEGS)
    assert found.iloc[0] == 1
    at_end, after = found["2024-01-31"], found["2024-02-01"]
    assert abs(after / at_end - 1) < 0.04
    prices = two_legs()
    whole = prices.loc["2024-01-31"] / prices.iloc[0]
    assert at_end == pytest.approx(whole @ pd.Series(LEGS))


def test_rebalancing_rules_by_their_definitions() -> None:
    prices = two_legs()
    weights = pd.Series(LEGS)
    assert composite(prices, LEGS, "none").iloc[-1] == pytest.approx((prices.iloc[-1] / prices.iloc[0]) @ weights)
    daily = (1 + prices.pct_change().iloc[1:] @ weights).prod()
    assert composite(prices, LEGS, "daily").iloc[-1] == pytest.approx(daily)
    ends = prices.loc[["2024-01-15", "2024-03-31", "2024-04-30"]]
    quarterly = (ends.pct_change().iloc[1:] @ weights + 1).prod()
    assert composite(prices, LEGS, "quarterly").iloc[-1] == pytest.approx(quarterly)


def test_levels_chain_whatever_day_is_the_start() -> None:
    prices = two_legs()
    later = composite(prices["2024-02-10":], LEGS)
    from_a_reset = composite(prices["2024-01-31":], LEGS)
    early = composite(prices, LEGS)
    assert from_a_reset.iloc[-1] == pytest.approx(early.iloc[-1] / early["2024-01-31"])
    assert later["2024-03-31"] / later["2024-02-29"] == pytest.approx(early["2024-03-31"] / early["2024-02-29"])


@given(
    st.lists(st.floats(0.1, 1e3), min_size=1, max_size=60),
    st.sampled_from(["monthly", "daily", "quarterly", "none"]),
)
def test_a_composite_of_one_leg_is_that_leg(values: list[float], rebalance: str) -> None:
    prices = pd.DataFrame({"a": values}, pd.date_range("2024-01-15", periods=len(values)))
    np.testing.assert_allclose(composite(prices, {"a": 1}, rebalance), prices["a"] / values[0], rtol=1e-9)


@given(st.floats(0.01, 100), st.sampled_from(["monthly", "daily", "quarterly", "none"]))
def test_rebasing_a_leg_changes_nothing(factor: float, rebalance: str) -> None:
    prices = two_legs()
    found = composite(prices.assign(cash=prices["cash"] * factor)[::-1], LEGS, rebalance)
    np.testing.assert_allclose(found, composite(prices, LEGS, rebalance))


def test_a_leg_without_a_base_is_an_error_and_a_gap_a_null() -> None:
    prices = two_legs()
    prices.iloc[0, 1] = np.nan
    with pytest.raises(DataError, match="no base on 2024-01-15: no price of 'cash'"):
        composite(prices, LEGS)
    prices = two_legs()
    prices.iloc[3, 0] = np.nan
    found = composite(prices, LEGS)
    assert found.isna().sum() == 1
    np.testing.assert_array_equal(found.drop(DAYS[3]), composite(two_legs(), LEGS).drop(DAYS[3]))
    with pytest.raises(DataError, match="no prices of 'gold'"):
        composite(prices, {"gold": 1})
    with pytest.raises(DataError, match="no prices of the legs"):
        composite(prices.iloc[:0], LEGS)


@pytest.mark.parametrize("legs", [{}, {"a": 0.5}, {"a": math.nan}, {"a": 0.5, "A ": 0.5}, {"a": 2, "b": -0.9}])
def test_weights_that_are_none(legs: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        as_weights(legs)


def test_a_leg_may_be_borrowed_and_a_rule_must_be_known() -> None:
    assert as_weights({"A": 1.5, "cash": -0.5}) == {"a": 1.5, "cash": -0.5}
    with pytest.raises(UsageError, match="monthly, daily, quarterly, none"):
        composite(two_legs(), LEGS, "yearly")


def test_d36_cash_before_its_index_accrues_the_rate_a_calendar_day() -> None:
    rates = pd.Series([0.05, 0.05, 0.02], pd.to_datetime(["2020-02-28", "2020-03-02", "2020-03-04"]))
    index = pd.Series([100.0, 101.0], pd.to_datetime(["2020-03-02", "2020-03-05"]), name="cash")
    found = chain(accumulate_rate(rates, "actual/360 compound"), index)
    assert found.index.tolist() == [pd.Timestamp("2020-02-28"), *index.index]
    assert found.iloc[1] / found.iloc[0] == pytest.approx(1.05 ** (3 / 360))
