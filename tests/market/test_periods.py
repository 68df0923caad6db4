from __future__ import annotations

import calendar
import warnings
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from dateutil.relativedelta import relativedelta
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.catalog import PERIODS
from luxor_pipelines.errors import InvalidPeriodError, UsageError
from luxor_pipelines.market.periods import (
    add_months,
    as_date,
    as_days,
    as_period,
    as_return_period,
    base_date,
    is_month_end,
    month_end,
    return_base,
)

DAY = date(2026, 10, 31)
dates = st.dates(date(1900, 1, 1), date(2200, 12, 31))


def unitless_nat() -> np.datetime64:
    """Not a date, of no unit: numpy 2.5 warns of it, people have it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.datetime64("NaT")


@pytest.mark.parametrize(
    "value",
    [
        DAY,
        datetime(2026, 10, 31, 23, 59),
        pd.Timestamp("2026-10-31 23:59:59.999"),
        np.datetime64("2026-10-31"),
        np.datetime64("2026-10-31T23:59:59.999999999"),
        "2026-10-31",
        " 2026-10-31T15:30 ",
    ],
)
def test_as_date_accepts(value: object) -> None:
    found = as_date(value)
    assert found == DAY
    assert type(found) is date


@pytest.mark.parametrize(
    "value",
    [
        "31/10/2026",
        "2026-13-01",
        "2026-10",
        "",
        "today",
        "2026-10-31T15:30:00Z",
        True,
        20261031,
        1.5,
        None,
        pd.NaT,
        unitless_nat(),
        np.datetime64("NaT", "D"),
        np.datetime64("2026-10"),
        np.datetime64("2026"),
        np.datetime64("12026-10-31"),
        datetime(2026, 10, 31, tzinfo=UTC),
        pd.Timestamp("2026-10-31", tz="America/Sao_Paulo"),
        pd.Period("2026-10", "M"),
    ],
)
def test_as_date_refuses(value: object) -> None:
    with pytest.raises(UsageError, match="date"):
        as_date(value)


@pytest.mark.parametrize(
    "values",
    [
        [DAY, None],
        ["2026-10-31", None],
        np.array(["2026-10-31T18:00", "NaT"], "datetime64[us]"),
        pd.Series([pd.Timestamp("2026-10-31 18:00"), pd.NaT]),
        pd.Series([DAY, pd.NaT], dtype=object),
        pd.DatetimeIndex(["2026-10-31", None]),
    ],
)
def test_as_days(values: object) -> None:
    found = as_days(values)  # type: ignore[arg-type]
    assert found.dtype == "datetime64[D]"
    np.testing.assert_array_equal(found, np.array([DAY, None], "datetime64[D]"))


def test_as_days_before_1970_floors_to_the_day() -> None:
    assert as_days(np.array(["1969-12-31T23:00"], "datetime64[us]"))[0] == np.datetime64("1969-12-31")


def test_as_days_refuses_zones_and_numbers() -> None:
    with pytest.raises(UsageError, match="time zone"):
        as_days(pd.Series(pd.to_datetime(["2026-10-31"], utc=True)))
    with pytest.raises(UsageError, match="20261031"):
        as_days([20261031])


def test_month_end() -> None:
    assert month_end("2024-02-10") == date(2024, 2, 29)
    assert month_end("2100-02-10") == date(2100, 2, 28)
    assert is_month_end("2023-02-28")
    assert not is_month_end("2024-02-28")
    assert month_end("9999-12-01") == date(9999, 12, 31)


@pytest.mark.parametrize(
    ("d", "n", "expected"),
    [
        ("2024-02-29", -12, "2023-02-28"),
        ("2025-02-28", -12, "2024-02-29"),  # month end to month end
        ("2023-02-28", -12, "2022-02-28"),
        ("2024-02-28", -12, "2023-02-28"),  # not a month end: the same day
        ("2024-02-29", -48, "2020-02-29"),
        ("2025-04-30", -1, "2025-03-31"),
        ("2025-05-30", -3, "2025-02-28"),  # clipped
        ("2025-05-31", 1, "2025-06-30"),
        ("2025-01-15", -1, "2024-12-15"),
        ("2025-01-15", 0, "2025-01-15"),
        ("2024-11-30", 3, "2025-02-28"),
    ],
)
def test_add_months(d: str, n: int, expected: str) -> None:
    assert add_months(d, n) == date.fromisoformat(expected)


@pytest.mark.parametrize("n", [-(10**9), -24313, 10**9])
def test_add_months_stays_within_the_calendar(n: int) -> None:
    with pytest.raises(UsageError, match="1 to 9999"):
        add_months("2026-01-31", n)


@given(dates, st.integers(-1000, 1000))
def test_add_months_is_dateutils_but_for_month_ends(d: date, n: int) -> None:
    expected = d + relativedelta(months=n)
    if d.day == calendar.monthrange(d.year, d.month)[1]:
        expected += relativedelta(day=31)
    assert add_months(d, n) == expected


@given(dates, st.integers(-500, 500))
def test_month_ends_come_back(d: date, n: int) -> None:
    assert add_months(add_months(month_end(d), n), -n) == month_end(d)


@pytest.mark.parametrize(
    ("ref", "period", "expected"),
    [
        ("2026-10-31", "mtd", "2026-09-30"),
        ("2026-10-01", "mtd", "2026-09-30"),
        ("2024-03-31", "mtd", "2024-02-29"),
        ("2026-06-30", "qtr", "2026-03-31"),
        ("2026-04-01", "qtr", "2026-03-31"),
        ("2026-01-15", "qtr", "2025-12-31"),
        ("2026-12-31", "qtr", "2026-09-30"),
        ("2026-01-01", "ytd", "2025-12-31"),
        ("2026-12-31", "ytd", "2025-12-31"),
        ("2025-02-28", "12m", "2024-02-29"),
        ("2025-02-28", "24m", "2023-02-28"),
        ("2025-02-28", "36m", "2022-02-28"),
        ("2024-02-29", "12m", "2023-02-28"),
        ("2025-08-31", "6m", "2025-02-28"),
        ("2025-08-31", "18m", "2024-02-29"),
        ("2025-08-15", " 1M ", "2025-07-15"),
        ("2025-08-15", "YTD", "2024-12-31"),
    ],
)
def test_base_date(ref: str, period: str, expected: str) -> None:
    assert base_date(ref, period) == date.fromisoformat(expected)


def test_base_date_forced_to_the_month_end() -> None:
    assert base_date("2025-08-15", "6m", force_month_end=True) == date(2025, 2, 28)
    assert base_date("2025-08-15", "mtd", force_month_end=True) == date(2025, 7, 31)


@given(dates, st.sampled_from(PERIODS), st.booleans())
def test_base_date_is_before_the_reference_date(ref: date, period: str, force: bool) -> None:
    assert base_date(ref, period, force_month_end=force) < ref


@pytest.mark.parametrize(
    "period", ["", "0m", "1y", "wtd", "m", "-1m", "1.5m", "01m", "12 m", "١m", None, 12, "mtd\n1m"]
)
def test_other_periods_are_refused(period: object) -> None:
    with pytest.raises(InvalidPeriodError) as caught:
        base_date(DAY, period)  # type: ignore[arg-type]
    for accepted in ("mtd", "qtr", "ytd", "<N>m"):
        assert accepted in str(caught.value)


@pytest.mark.parametrize("period", ["24311m", "1000000m", "9" * 5000 + "m"])
def test_periods_before_the_first_year_are_refused(period: str) -> None:
    # Year 2026, October is month 24310 from January of the year 1.
    with pytest.raises(InvalidPeriodError, match="mtd"):
        base_date(DAY, period)


def test_longest_period() -> None:
    assert base_date(DAY, "24309m") == date(1, 1, 31)


def test_base_of_the_first_year_is_refused() -> None:
    with pytest.raises(InvalidPeriodError):
        base_date(date(1, 1, 15), "ytd")


def test_as_period() -> None:
    assert as_period(" 12M ") == "12m"


@pytest.mark.parametrize(
    ("ref", "period", "base"),
    [
        ("2026-11-23", "wtd", "2026-11-22"),  # a Monday
        ("2026-11-22", "WTD ", "2026-11-15"),  # a Sunday ends its week
        ("2026-11-28", "wtd", "2026-11-22"),
        ("2025-02-28", "1y", "2024-02-29"),
        ("2026-11-23", "mtd", "2026-10-31"),
    ],
)
def test_bases_of_returns(ref: str, period: str, base: str) -> None:
    assert str(return_base(ref, period)) == base


def test_periods_of_returns_are_told_in_the_error() -> None:
    assert as_return_period(" Inception") == "inception"
    with pytest.raises(InvalidPeriodError) as caught:
        as_return_period("2y")
    assert "mtd" in caught.value.hint
    assert "wtd, 1y, inception" in caught.value.hint
    with pytest.raises(InvalidPeriodError):
        as_period("wtd")
