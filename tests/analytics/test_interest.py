from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.analytics.interest import BASES, accumulate_rate, chain, quote_against_rate
from luxor_pipelines.errors import DataError, UsageError
from luxor_pipelines.market.calendars import HolidayCalendar


def rates(values: dict[str, float]) -> pd.Series:
    return pd.Series(values.values(), pd.to_datetime(list(values)), dtype=float)


def test_each_basis_by_hand() -> None:
    # Friday to Monday: one business day, three calendar days.
    two = rates({"2024-01-05": 0.1, "2024-01-08": 0.2})
    growth = {basis: accumulate_rate(two, basis).iloc[-1] for basis in BASES}
    assert growth == pytest.approx(
        {
            "business/252": 1.1 ** (1 / 252),
            "actual/365": 1 + 0.1 * 3 / 365,
            "actual/360": 1 + 0.1 * 3 / 360,
            "actual/360 compound": 1.1 ** (3 / 360),
            "per day": 1.1,
        },
        rel=1e-15,
    )


def test_the_last_rate_earns_up_to_the_end() -> None:
    found = accumulate_rate(rates({"2024-01-05": 0.1}), end="2024-01-09")
    assert found.to_dict() == pytest.approx(
        {pd.Timestamp("2024-01-05"): 1, pd.Timestamp("2024-01-09"): 1.1 ** (2 / 252)}
    )


def test_holidays_earn_nothing() -> None:
    calendar = HolidayCalendar(["2024-01-01", "2024-02-12", "2024-02-13", "2025-01-01"], ["bz"] * 4)
    two = rates({"2024-02-09": 0.1, "2024-02-14": 0.1})
    assert accumulate_rate(two, calendar=calendar).iloc[-1] == pytest.approx(1.1 ** (1 / 252))
    assert accumulate_rate(two).iloc[-1] == pytest.approx(1.1 ** (3 / 252))


def test_a_year_of_cdi_is_the_published_one(shared_data: Path) -> None:
    published = {2017: 0.0993, 2018: 0.0642, 2019: 0.0596}
    rows = json.loads((shared_data / "brazil/bcb/sgs_12_cdi_2017-2019_reconstructed.json").read_text(encoding="utf-8"))
    cdi = pd.Series(
        [float(row["valor"]) / 100 for row in rows], pd.to_datetime([row["data"] for row in rows], format="%d/%m/%Y")
    )
    days = pd.bdate_range("2017-01-02", "2019-12-31")
    holidays = [pd.Timestamp("2017-01-01"), *days.difference(cdi.index), pd.Timestamp("2020-01-02")]
    calendar = HolidayCalendar(holidays, ["bz"] * len(holidays))
    for year, expected in published.items():
        level = accumulate_rate(cdi[cdi.index.year == year], "per day", calendar, end=f"{year + 1}-01-01")
        assert level.iloc[-1] - 1 == pytest.approx(expected, abs=5e-5)


@given(st.lists(st.floats(-0.5, 1), min_size=1, max_size=30))
def test_the_order_of_rows_changes_nothing_and_growth_is_the_product(values: list[float]) -> None:
    days = pd.bdate_range("2024-01-01", periods=len(values))
    series = pd.Series(values, days)
    found = accumulate_rate(series[::-1], "per day")
    np.testing.assert_allclose(found, np.cumprod([1, *(1 + value for value in values[:-1])]), rtol=1e-9)


@pytest.mark.parametrize(
    ("values", "basis", "said"),
    [
        ({"2024-01-05": np.nan, "2024-01-08": 0.1}, "per day", "1 rates are null"),
        ({"2024-01-05": -1, "2024-01-08": 0.1}, "per day", "1 rates are null, -1 or less"),
        ({"2024-01-05": 0.1, "2024-01-16": 0.1}, "per day", "more than 10 days after '2024-01-05'"),
        ({"2024-01-05": 0.1}, "30/360", "no basis of interest"),
    ],
)
def test_what_cannot_be_accumulated(values: dict[str, float], basis: str, said: str) -> None:
    with pytest.raises((DataError, UsageError), match=said):
        accumulate_rate(rates(values), basis)


def test_repeated_dates_and_an_early_end_are_errors() -> None:
    one = rates({"2024-01-05": 0.1})
    with pytest.raises(DataError, match="more than once"):
        accumulate_rate(pd.concat([one, one]))
    with pytest.raises(UsageError, match="before the last rate"):
        accumulate_rate(one, end="2024-01-04")
    assert accumulate_rate(one.iloc[:0]).empty


def test_performance_as_brazilian_funds_are_quoted() -> None:
    # A year of 252 days: 13.2 % against 12 %.
    quote = quote_against_rate([0.132, 0.132, 0.01, np.nan, 0.1], [0.12, 0.0, -0.01, 0.1, 0.1], [252, 252, 252, 252, 0])
    np.testing.assert_allclose(quote.percent, [1.1, np.nan, np.nan, np.nan, np.nan])
    np.testing.assert_allclose(quote.spread[:3], [1.132 / 1.12 - 1, 0.132, 1.01 / 0.99 - 1])
    assert np.isnan(quote.spread[3:]).all()


@given(st.floats(0.01, 0.3), st.floats(-0.05, 0.1), st.integers(1, 2000))
def test_cdi_plus_a_spread_is_quoted_as_that_spread(rate: float, spread: float, days: int) -> None:
    reference = (1 + rate) ** (days / 252) - 1
    own = (1 + reference) * (1 + spread) ** (days / 252) - 1
    assert quote_against_rate(own, reference, days).spread == pytest.approx(spread, abs=1e-9)


def test_a_chain_meets_at_the_first_date_of_the_later_series() -> None:
    early, late = (
        rates({"2024-01-01": 2, "2024-01-03": 4, "2024-01-05": 5}),
        rates({"2024-01-04": 100, "2024-01-05": 101}),
    )
    found = chain(early, late)
    assert found.tolist() == [50, 100, 100, 101]
    assert chain(early.iloc[:0], late).tolist() == [100, 101]
    with pytest.raises(DataError, match="no level on 2024-01-04"):
        chain(early.iloc[2:], late)
