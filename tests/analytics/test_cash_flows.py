from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from luxor_pipelines.analytics.cash_flows import present_value, twr, xirr
from luxor_pipelines.errors import DataError, UsageError

YEARS = ["2023-01-01", "2024-01-01", "2024-12-31", "2025-12-31"]  # 365 days apart


def test_a_year_at_ten_percent() -> None:
    assert xirr([-1000, 1100], YEARS[:2]) == pytest.approx(0.10, abs=1e-12)


def test_the_example_of_spreadsheets() -> None:
    # The published example of the spreadsheet function XIRR: 37.34 %.
    dates = ["2008-01-01", "2008-03-01", "2008-10-30", "2009-02-15", "2009-04-01"]
    assert xirr([-10000, 2750, 4250, 3250, 2750], dates) == pytest.approx(0.3733625, abs=5e-8)


@pytest.mark.parametrize(
    ("back", "rate"), [(3100, 2.1), (1_000_000, 999), (100, -0.9), (0.05, -0.99995), (1e-5, 1e-8 - 1)]
)
def test_d40_rates_above_100_percent_and_deep_losses(back: float, rate: float) -> None:
    assert xirr([-1000, back], YEARS[:2]) == pytest.approx(rate, rel=1e-9)


def test_d40_a_year_has_365_days() -> None:
    assert xirr([-1000, 1100], ["2023-01-01", "2024-01-01"]) != pytest.approx(1.1 ** (365.25 / 365) - 1, abs=1e-6)


def test_order_and_flows_of_one_date_do_not_matter() -> None:
    assert xirr(pd.Series([600, -1000, 500, 0]), [YEARS[1], YEARS[0], YEARS[1], YEARS[3]]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("flows", "said"),
    [
        ([100, 200, 50, 1], "all are received"),
        ([-100, -200, -1, -1], "all are paid"),
        ([0, 0, 0, 0], "all are of 0"),
        ([-100, 230, -132, 0], "2 rates make 4 cash flows worth 0: 0.1, 0.2"),
        ([-100, 250, -150, 0], "2 rates make 4 cash flows worth 0: 0, 0.5"),
        ([100, -110, 100, 0], "No rate makes 4 cash flows worth 0; they change their sign 2 times"),
        ([-1000, 3600, -4310, 1716], "3 rates make 4 cash flows worth 0: 0.1, 0.2, 0.3"),
    ],
)
def test_no_rate_or_more_than_one_is_an_error_that_says_so(flows: list[float], said: str) -> None:
    with pytest.raises(DataError, match=said):
        xirr(flows, YEARS)


def test_a_root_that_only_touches_is_one() -> None:
    assert xirr([-1, 2.2, -1.21], YEARS[:3]) == pytest.approx(0.1, abs=1e-6)


def test_two_changes_of_sign_may_have_one_rate() -> None:
    assert xirr([-100, 300, -1, 0.001], YEARS) == pytest.approx(present_root([-100, 300, -1, 0.001]), rel=1e-9)


def present_root(flows: list[float]) -> float:
    """The one root of a polynomial in 1 / (1 + r) that is a rate above −1."""
    roots = np.roots(flows[::-1])
    (root,) = roots[np.isreal(roots) & (roots.real > 0)].real
    return float(1 / root - 1)


def test_a_rate_that_no_number_holds_is_refused() -> None:
    with pytest.raises(DataError, match="2 cash flows worth 0 is larger than any number"):
        xirr([-1.0, 1e6], ["2026-10-30", "2026-10-31"])


@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1), st.integers(0, 4000)), min_size=2, max_size=25
    )
)
def test_xirr_reproduces_the_present_value(flows: list[tuple[float, int]]) -> None:
    amounts = [amount for amount, _ in flows]
    dates = np.datetime64("2015-01-01") + np.array([day for _, day in flows])
    try:
        rate = xirr(amounts, dates)
    except DataError:
        assume(False)
    assume(rate > -1 + 1e-6)  # nearer to −1 neighbouring numbers are far apart in value
    discounted = [abs(present_value([amount], [day], 0)) * (1 + rate) ** (-(day - dates.min()).astype(int) / 365)
                  for amount, day in zip(amounts, dates, strict=True)]  # fmt: skip
    assume(math.isfinite(sum(discounted)))
    assert abs(present_value(amounts, dates, rate)) <= 1e-9 * sum(discounted)


@given(st.floats(-0.9, 5), st.lists(st.tuples(st.floats(1, 1e5), st.integers(1, 5000)), min_size=1, max_size=12))
def test_money_out_and_back_has_the_rate_it_was_made_with(rate: float, back: list[tuple[float, int]]) -> None:
    dates = [
        np.datetime64("2010-01-01"),
        *(np.datetime64("2010-01-01") + np.timedelta64(days, "D") for _, days in back),
    ]
    amounts = [amount for amount, _ in back]
    paid = present_value([0, *amounts], dates, rate)
    assume(paid > 1e-3)
    assert xirr([-paid, *amounts], dates) == pytest.approx(rate, rel=1e-6, abs=1e-9)


def test_what_is_no_cash_flow() -> None:
    for flows, dates in (([1, -1], YEARS), ([], []), ([1, math.nan], YEARS[:2]), ([1, -1], [YEARS[0], None])):
        with pytest.raises(UsageError):
            xirr(flows, dates)
    with pytest.raises(UsageError, match="above -1"):
        present_value([1, 2], YEARS[:2], -1)


def test_time_weighted_return_by_hand() -> None:
    # +10 %; then 50 are put in, at a value of 110 before; then −6.25 %.
    assert twr([100, 110, 160, 150], [0, 0, 50, 0]) == pytest.approx(1.1 * 1 * 0.9375 - 1)
    assert twr([100, 121]) == pytest.approx(0.21)


@given(
    st.lists(st.tuples(st.floats(-0.5, 0.5), st.floats(-0.4, 3)), min_size=1, max_size=20),
)
def test_flows_do_not_change_a_time_weighted_return(steps: list[tuple[float, float]]) -> None:
    values, flows = [100.0], [0.0]
    for growth, share in steps:
        before = values[-1] * (1 + growth)
        flows.append(before * share)
        values.append(before + flows[-1])
    assert twr(values, flows) == pytest.approx(np.prod([1 + growth for growth, _ in steps]) - 1)


def test_a_missing_value_is_null_where_it_is_needed() -> None:
    assert twr([100, math.nan, 121]) == pytest.approx(0.21)
    assert math.isnan(twr([100, math.nan, 121], [0, 5, 0]))
    assert math.isnan(twr([math.nan, 100, 121]))
    with pytest.raises(DataError, match="value of 0"):
        twr([100, 0, 50], [0, 0, 50])
    for values, flows in (([1], [0]), ([1, 2], [0]), ([1, math.inf], [0, 0]), ([1, 2], [0, math.nan])):
        with pytest.raises(UsageError):
            twr(values, flows)
