from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from luxor_pipelines.analytics.sampling import (
    price_frame,
    returns_beside,
    returns_by_interval,
    sample_prices,
    sampled_returns,
    shortage,
)
from luxor_pipelines.errors import DataError, UsageError

from .conftest import price_frames

nan = np.nan


def series(prices: dict[str, float | None], name: str = "a") -> pd.Series:
    return pd.Series(list(prices.values()), index=pd.to_datetime(list(prices)), name=name, dtype=float)


def as_dict(frame: pd.DataFrame, column: str = "a") -> dict[str, float]:
    return {str(day.date()): value for day, value in frame[column].items()}


def test_daily_returns_lie_between_a_series_own_observation_days() -> None:
    prices = pd.DataFrame(
        {"a": [100, nan, 110, 121], "b": [50, 55, nan, nan]}, index=pd.bdate_range("2024-01-04", periods=4)
    )
    found = sampled_returns(prices)
    np.testing.assert_allclose(found["a"], [nan, 0.10, 0.10])
    np.testing.assert_allclose(found["b"], [0.10, nan, nan])


def test_an_unchanged_day_is_a_return_of_zero_and_kept() -> None:
    assert sampled_returns(series({"2024-01-02": 5, "2024-01-03": 5}))["a"].tolist() == [0.0]


def test_months_are_sampled_at_their_last_observation() -> None:
    prices = series({"2024-01-10": 1, "2024-01-30": 2, "2024-02-29": 3, "2024-04-30": 6, "2024-05-31": 9})
    assert as_dict(sample_prices(prices, "monthly").dropna()) == {
        "2024-01-31": 2, "2024-02-29": 3, "2024-04-30": 6, "2024-05-31": 9,
    }  # fmt: skip
    found = as_dict(sampled_returns(prices, "monthly"))
    assert found.pop("2024-02-29") == 0.5
    assert found.pop("2024-05-31") == 0.5
    assert np.isnan(list(found.values())).all(), "no return over a month that has no sample"
    assert list(found) == ["2024-03-31", "2024-04-30"]


def test_weeks_end_on_fridays() -> None:
    prices = series({"2024-01-05": 1, "2024-01-06": 2, "2024-01-11": 3, "2024-01-12": 4, "2024-01-19": 5})
    assert as_dict(sample_prices(prices, "weekly")) == {"2024-01-05": 1, "2024-01-12": 4, "2024-01-19": 5}


@pytest.mark.parametrize(
    ("frequency", "end", "last"),
    [
        ("monthly", "2024-05-30", "2024-04-30"),
        ("monthly", "2024-05-31", "2024-05-31"),
        ("monthly", "2024-06-28", "2024-06-30"),  # a Friday: no weekday of June is left
        ("monthly", "2024-06-27", "2024-05-31"),
        ("weekly", "2024-06-06", "2024-05-31"),
        ("weekly", "2024-06-07", "2024-06-07"),
        ("weekly", "2024-06-09", "2024-06-07"),
    ],
)
def test_a_period_counts_once_no_weekday_of_it_is_left(frequency: str, end: str, last: str) -> None:
    prices = pd.Series(1.0, index=pd.date_range("2024-01-01", "2024-07-31"), name="a")
    assert str(sample_prices(prices, frequency, end=end).index[-1].date()) == last


def test_a_price_of_zero_is_a_loss_of_all_and_no_base() -> None:
    found = sampled_returns(series({"2024-01-02": 5, "2024-01-03": 0, "2024-01-04": 0, "2024-01-05": 1}))["a"]
    np.testing.assert_array_equal(found, [-1, nan, nan])


def test_returns_beside_a_benchmark_are_over_common_days() -> None:
    prices = series({"2024-01-02": 100, "2024-01-03": 110, "2024-01-04": 121, "2024-01-05": 242})
    other = series({"2024-01-02": 10, "2024-01-04": 20, "2024-01-05": 30})
    own, beside = returns_beside(prices, other)
    np.testing.assert_allclose(own["a"], [nan, 0.21, 1.0])
    np.testing.assert_allclose(beside["a"], [nan, 1.0, 0.5])
    own, beside = returns_beside(prices, other, carried=True)
    np.testing.assert_allclose(own["a"], [0.1, 0.1, 1.0])
    np.testing.assert_allclose(beside["a"], [0.0, 1.0, 0.5])


def test_intervals_do_not_depend_on_the_other_series() -> None:
    days = pd.date_range("2024-01-01", "2024-03-31")
    rng = np.random.default_rng(1)
    every_day = pd.Series(np.exp(rng.normal(0, 0.01, len(days)).cumsum()), days, name="coin")
    week = [pd.Series(np.exp(rng.normal(0, 0.01, len(days)).cumsum()), days, name=name) for name in "ab"]
    week = [each[each.index.day_of_week < 5] for each in week]
    week[1] = week[1].drop(pd.Timestamp("2024-02-07"))
    two = returns_by_interval(pd.concat(week, axis=1, sort=True)).dropna()
    three = returns_by_interval(pd.concat([*week, every_day], axis=1, sort=True))[["a", "b"]].dropna()
    np.testing.assert_allclose(np.sort(two["a"]), np.sort(three["a"]))
    assert len(two) == 64 - 2  # 65 weekdays; neither return that meets the holiday has a counterpart


@given(price_frames())
def test_the_order_of_rows_changes_nothing(prices: pd.DataFrame) -> None:
    for frequency in ("daily", "weekly", "monthly"):
        pd.testing.assert_frame_equal(sampled_returns(prices[::-1], frequency), sampled_returns(prices, frequency))


@given(price_frames())
def test_returns_compound_to_the_whole(prices: pd.DataFrame) -> None:
    found = (1 + sampled_returns(prices)).prod()
    whole = [column.dropna().iloc[-1] / column.dropna().iloc[0] for _, column in prices.items()]
    np.testing.assert_allclose(found, whole)


@given(price_frames())
def test_samples_are_those_of_pandas(prices: pd.DataFrame) -> None:
    end = prices.index[-1] + pd.Timedelta(days=40)
    for frequency, rule in (("monthly", "ME"), ("weekly", "W-FRI")):
        expected = prices.resample(rule).last()
        found = sample_prices(prices, frequency, end=end).iloc[: len(expected)]
        pd.testing.assert_frame_equal(found, expected, check_freq=False, check_index_type=False)


@pytest.mark.parametrize(
    ("count", "frequency", "end", "status"),
    [
        (12, "monthly", "2024-12-31", "ok"),
        (8, "monthly", "2024-12-31", "ok"),
        (7, "monthly", "2024-12-31", "sparse"),
        (151, "daily", "2024-12-31", "sparse"),
        (152, "daily", "2024-12-31", "ok"),
        (11, "monthly", "2024-11-30", "short"),
        (250, "daily", "2024-12-28", "ok"),  # a year but for the days at its end
        (1, "monthly", "2024-12-31", "sparse"),
    ],
)
def test_what_a_sample_must_have(count: int, frequency: str, end: str, status: str) -> None:
    assert shortage(np.array([count]), frequency, "2023-12-31", end, whole_year=True).tolist() == [status]


def test_refused_are_other_frequencies_dates_and_prices() -> None:
    prices = series({"2024-01-02": 1, "2024-01-03": 2})
    with pytest.raises(UsageError, match="daily, weekly, monthly"):
        sampled_returns(prices, "yearly")
    with pytest.raises(DataError, match="more than once: '2024-01-02'"):
        price_frame(pd.concat([prices, prices.iloc[:1]]))
    with pytest.raises(DataError, match="'a' are negative"):
        price_frame(-prices)
    with pytest.raises(DataError, match="infinite"):
        price_frame(prices * np.inf)
    with pytest.raises(DataError, match="1 prices have no date"):
        price_frame(pd.Series([1.0], index=pd.DatetimeIndex([pd.NaT])))


def test_nothing_has_no_returns() -> None:
    empty = pd.DataFrame({"a": []}, index=pd.DatetimeIndex([]), dtype=float)
    for frequency in ("daily", "weekly", "monthly"):
        assert sampled_returns(empty, frequency).shape == (0, 1)
