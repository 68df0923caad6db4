from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.analytics.risk import (
    correlation,
    period_rate,
    price_correlation,
    regression,
    rolling_correlation,
    rolling_volatility,
    tracking_error,
    volatility,
)
from luxor_pipelines.analytics.sampling import returns_beside, sampled_returns
from luxor_pipelines.errors import UsageError

from .conftest import price_frames

nan = np.nan


def daily(*values: float | None, start: str = "2024-01-01") -> pd.Series:
    return pd.Series(values, index=pd.bdate_range(start, periods=len(values)), name="a", dtype=float)


def test_volatility_by_hand() -> None:
    # ln 1.1 and ln 0.9: their deviation is half their difference times √2.
    found = volatility(daily(100, 110, 99))["a"]
    assert found == pytest.approx(abs(math.log(1.1) - math.log(0.9)) / math.sqrt(2) * math.sqrt(252))


@pytest.mark.parametrize(("frequency", "n"), [("daily", 252), ("weekly", 52), ("monthly", 12)])
def test_volatility_of_shares_is_pandas(shares: pd.DataFrame, frequency: str, n: int) -> None:
    end = "2022-11-30"
    rule = {"daily": None, "weekly": "W-FRI", "monthly": "ME"}[frequency]
    sampled = shares[:end] if rule is None else shares[:end].resample(rule).last().loc[:end]
    expected = np.log(sampled).diff().std() * math.sqrt(n)
    pd.testing.assert_series_equal(volatility(shares, frequency, end=end), expected, check_names=False)


def test_volatility_of_shares_is_empyricals(shares: pd.DataFrame) -> None:
    empyrical = pytest.importorskip("empyrical")
    log = np.log(shares).diff().iloc[1:]
    np.testing.assert_allclose(volatility(shares), empyrical.annual_volatility(log), rtol=1e-12)


def test_d37_unchanged_days_count_and_no_first_return_is_made_up() -> None:
    # Two returns of 0 and two others; with a made-up one of 0, or without the genuine ones, it would differ.
    returns = np.array([0.0, 0.1, 0.0, -0.1])
    prices = daily(*(100 * np.exp(np.append(0, returns.cumsum()))))
    assert volatility(prices)["a"] == pytest.approx(np.std(returns, ddof=1) * math.sqrt(252))


def test_d37_filled_weekends_are_no_observations(shares: pd.DataFrame) -> None:
    year = shares["AAPL"]["2021-12-31":"2022-11-30"]
    filled = year.resample("D").ffill()
    assert volatility(filled)["AAPL"] < 0.86 * volatility(year)["AAPL"]  # a sixth too low: days off have returns of 0


def test_d37_rolling_volatility_ends_where_asked_and_has_whole_windows(shares: pd.DataFrame) -> None:
    prices = shares[["AAPL", "KO"]]["2019-12-31":"2022-11-30"]
    found = rolling_volatility(prices, 365, "monthly", end="2022-06-30")
    expected = np.log(prices.resample("ME").last()).diff().rolling(12).std() * math.sqrt(12)
    np.testing.assert_allclose(found, expected.iloc[1 : len(found) + 1], rtol=1e-9)
    assert str(found.index[-1].date()) == "2022-06-30"
    assert str(found.first_valid_index().date()) == "2020-12-31"


def test_rolling_daily_windows_are_the_single_figure_of_their_days(shares: pd.DataFrame) -> None:
    prices = shares["AAPL"]["2020-12-01":"2022-06-30"]
    found = rolling_volatility(prices, 180, "daily")["AAPL"]
    for day, base in (("2021-06-01", "2020-12-03"), ("2022-06-30", "2021-12-31")):  # a Sunday's is the Friday's
        assert found[day] == pytest.approx(volatility(prices[base:day]).iloc[0], rel=1e-9)
    assert np.isnan(found["2021-05-28"])
    assert not np.isnan(found["2021-06-01"])


def test_a_window_that_is_mostly_missing_is_null() -> None:
    prices = pd.Series(np.exp(np.arange(24.0) % 3), index=pd.date_range("2022-01-31", periods=24, freq="ME"), name="a")
    prices.iloc[14:19] = nan
    found = rolling_volatility(prices, 365)["a"]
    assert not np.isnan(found["2023-02-28"])
    assert np.isnan(found["2023-08-31"])  # six of twelve
    assert not np.isnan(rolling_volatility(prices, 180)["a"]["2022-07-31"])


@given(price_frames(), st.floats(0.01, 100))
def test_volatility_does_not_change_by_rebasing(prices: pd.DataFrame, factor: float) -> None:
    np.testing.assert_allclose(volatility(prices * factor), volatility(prices), rtol=1e-6, atol=1e-7)


def test_tracking_error_by_hand() -> None:
    fund, index = daily(100, 110, 121, 121), daily(100, 105, 105, 126)
    differences = [0.10 - 0.05, 0.10 - 0.0, 0.0 - 0.2]
    assert tracking_error(fund, index)["a"] == pytest.approx(np.std(differences, ddof=1) * math.sqrt(252))


def test_d38_a_constant_lead_is_no_tracking_error() -> None:
    index = daily(*(100 * np.cumprod([1, 1.01, 0.98, 1.02, 1.0, 0.97])))
    returns = index.pct_change().fillna(0) + 0.001
    fund = 100 * (1 + returns).cumprod() / 1.001
    assert tracking_error(fund, index)["a"] == pytest.approx(0, abs=1e-12)


def test_d38_tracking_error_is_over_common_days_and_annualised(shares: pd.DataFrame) -> None:
    fund, index = shares["AAPL"].drop(shares.index[100:3000:50]), shares["MSFT"].drop(shares.index[77:4000:31])
    both = pd.concat([fund, index], axis=1, sort=True).dropna()
    assert len(both) < len(shares) - 150
    expected = (both.pct_change()["AAPL"] - both.pct_change()["MSFT"]).std() * math.sqrt(252)
    assert tracking_error(fund, index)["AAPL"] == pytest.approx(expected, rel=1e-12)


def test_d39_correlation_is_of_returns_not_of_levels() -> None:
    # Both rise steadily (their levels correlate by 0.9); their returns are opposite.
    up = np.array([0.02, 0.0] * 20)
    prices = pd.concat([daily(*np.cumprod(1 + up)), daily(*np.cumprod(1 + up[::-1]))], axis=1, keys=["a", "b"])
    assert prices.corr().loc["a", "b"] > 0.9
    assert price_correlation(prices, "daily").loc["a", "b"] == pytest.approx(-1, abs=1e-9)


@pytest.mark.parametrize("share_of_nulls", [0, 0.03, 0.6])
def test_correlations_are_pandas(share_of_nulls: float) -> None:
    rng = np.random.default_rng(5)
    returns = pd.DataFrame(rng.normal(0.001, 0.01, (300, 12)) + rng.normal(0, 0.01, (300, 1)))
    returns = returns.mask(rng.random(returns.shape) < share_of_nulls)
    returns[11] = returns[11].where(returns.index > 200)
    returns[10] = 0.5
    np.testing.assert_allclose(correlation(returns), returns.corr(), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(correlation(returns, least=100).isna(), returns.corr(min_periods=100).isna())


def test_correlation_of_shares(shares: pd.DataFrame) -> None:
    expected = shares.pct_change().corr()
    pd.testing.assert_frame_equal(price_correlation(shares, "daily"), expected, check_names=False)
    months = shares[:"2022-11-30"].resample("ME").last().pct_change()
    pd.testing.assert_frame_equal(price_correlation(shares, end="2022-11-30"), months.corr(), check_names=False)


def test_a_pair_correlates_the_same_whatever_else_is_asked_for(shares: pd.DataFrame) -> None:
    prices = shares.iloc[-500:, :3].copy()
    prices.iloc[::37, 0] = nan
    daily_coin = prices.iloc[:, 1].resample("D").interpolate().rename("coin")
    alone = price_correlation(prices.iloc[:, :2].dropna(how="all"), "daily").iloc[0, 1]
    among = price_correlation(pd.concat([prices, daily_coin], axis=1, sort=True), "daily").iloc[0, 1]
    assert among == pytest.approx(alone, rel=1e-12)
    assert alone != pytest.approx(sampled_returns(prices).corr().iloc[0, 1], rel=1e-9)


@given(price_frames(most=20))
def test_correlations_are_symmetric_and_between_minus_one_and_one(prices: pd.DataFrame) -> None:
    found = price_correlation(prices, "daily").to_numpy()
    np.testing.assert_array_equal(found, found.T)
    assert not (np.abs(found) > 1).any()


def test_rolling_correlation_is_pandas(shares: pd.DataFrame) -> None:
    returns = shares[["AAPL", "MSFT"]].iloc[-200:].pct_change().iloc[1:]
    found = rolling_correlation(returns, 60)
    expected = returns["AAPL"].rolling(60).corr(returns["MSFT"])
    np.testing.assert_allclose(found, expected)
    with pytest.raises(UsageError, match="3 series"):
        rolling_correlation(shares.iloc[:, :3], 60)


def test_regression_by_hand() -> None:
    # r = 0.01 + 2 b exactly: no error at all.
    b = np.array([0.01, -0.02, 0.03, 0.0])
    own, other = daily(*np.cumprod(np.append(1, 1 + 0.01 + 2 * b))), daily(*np.cumprod(np.append(1, 1 + b)))
    fit = regression(*returns_beside(own, other), "daily").to_frame().loc["a"]
    np.testing.assert_allclose(fit, [2, 0.01 * 252, 0, 0, 1, 4], atol=1e-6)


def test_regression_of_shares_is_least_squares(shares: pd.DataFrame) -> None:
    own, market = returns_beside(shares, shares.mean(axis=1))
    free = period_rate(0.03, "daily")
    fit = regression(own, market, "daily", risk_free=0.03).to_frame()
    for name in ("AAPL", "XOM"):
        design = np.column_stack([market[name] - free, np.ones(len(market))])
        (beta, alpha), (rss,), *_ = np.linalg.lstsq(design, own[name] - free, rcond=None)
        errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * rss / (len(own) - 2))
        expected = [beta, alpha * 252, errors[0], errors[1] * 252]
        np.testing.assert_allclose(fit.loc[name].iloc[:4], expected, rtol=1e-8)


def test_regression_of_shares_is_empyricals(shares: pd.DataFrame) -> None:
    empyrical = pytest.importorskip("empyrical")
    own, market = returns_beside(shares[["AAPL"]], shares["XOM"])
    fit = regression(own, market, "daily", risk_free=0.03).to_frame().loc["AAPL"]
    free = period_rate(0.03, "daily")
    assert fit["Beta"] == pytest.approx(empyrical.beta(own["AAPL"], market["AAPL"], free))
    # empyrical compounds the alpha of a day over a year, where ours is linear.
    compounded = empyrical.alpha(own["AAPL"], market["AAPL"], free)
    assert (1 + fit["Alpha"] / 252) ** 252 - 1 == pytest.approx(compounded)


def test_too_little_has_no_figure() -> None:
    assert np.isnan(volatility(daily(1, 2))["a"])
    assert np.isnan(volatility(daily(1, nan, nan))["a"])
    assert np.isnan(tracking_error(daily(1, nan, 2, nan, 3), daily(nan, 1, nan, 2, nan))["a"])
    flat = regression(*returns_beside(daily(1, 2, 3, 4), daily(1, 1, 1, 1)), "daily").to_frame().loc["a"]
    assert flat.iloc[:5].isna().all()
    with pytest.raises(UsageError, match="above -1"):
        period_rate(-1, "daily")
    with pytest.raises(UsageError, match="0 days"):
        rolling_volatility(daily(1, 2), 0)
