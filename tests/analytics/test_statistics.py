from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.analytics.interest import accumulate_rate
from luxor_pipelines.analytics.sampling import sampled_returns
from luxor_pipelines.analytics.statistics import RELATIVE, STATISTICS, annualized, statistics
from luxor_pipelines.errors import UsageError

from .conftest import price_frames

nan = np.nan


def monthly(returns: list[float], start: str = "2022-12-31") -> pd.Series:
    index = pd.date_range(start, periods=len(returns) + 1, freq="ME")
    return pd.Series(100 * np.cumprod([1, *(1 + each for each in returns)]), index, name="a")


YEAR = [0.02, -0.01, 0.03, 0.0, -0.04, 0.05, 0.01, 0.02, -0.02, 0.01, 0.03, -0.01]
MARKET = [0.01, -0.02, 0.02, 0.01, -0.03, 0.04, 0.0, 0.01, -0.01, 0.02, 0.02, -0.02]


def test_a_year_of_months_by_hand() -> None:
    found = statistics(monthly(YEAR), "monthly", benchmark=monthly(MARKET), risk_free=0.0).values["a"]
    r, b = np.array(YEAR), np.array(MARKET)
    deviation = math.sqrt(((r - r.mean()) ** 2).sum() / 11)
    growth = math.prod(1 + r)
    losses = math.sqrt(sum(min(each, 0) ** 2 for each in YEAR) / 12)
    log = np.log1p(r)
    up, down = b > 0, b < 0
    expected = {
        "Return": growth - 1,
        "CAGR": growth - 1,  # 365 days
        "Volatility": math.sqrt(((log - log.mean()) ** 2).sum() / 11 * 12),
        "Sharpe": r.mean() / deviation * math.sqrt(12),
        "Sortino": r.mean() / losses * math.sqrt(12),
        "Calmar": (growth - 1) / 0.04,
        "Max_Drawdown": -0.04,
        "VaR_0.95": -0.04 + 0.55 * 0.02,
        "Expected_Shortfall_0.95": -0.04,
        "Best_Month": 0.05,
        "Worst_Month": -0.04,
        "Hit_Rate": 7 / 12,
        "Beta": np.cov(r, b)[0, 1] / b.var(ddof=1),
        "Correlation": np.corrcoef(r, b)[0, 1],
        "Tracking_Error": (r - b).std(ddof=1) * math.sqrt(12),
        "Information_Ratio": (r - b).mean() / (r - b).std(ddof=1) * math.sqrt(12),
        "Up_Capture": (math.prod(1 + r[up]) ** (12 / 7) - 1) / (math.prod(1 + b[up]) ** (12 / 7) - 1),
        "Down_Capture": (math.prod(1 + r[down]) ** (12 / 4) - 1) / (math.prod(1 + b[down]) ** (12 / 4) - 1),
        "Observations": 12,
    }
    assert found[list(expected)].to_dict() == pytest.approx(expected, rel=1e-12)
    names = {"VaR": "VaR_0.95", "Expected_Shortfall": "Expected_Shortfall_0.95"}
    assert list(found.index) == [names.get(name, name) for name in [*STATISTICS, *RELATIVE, "Observations"]]


@pytest.mark.parametrize("free", [0.0, 0.03])
def test_statistics_of_shares_are_empyricals(shares: pd.DataFrame, free: float) -> None:
    em = pytest.importorskip("empyrical")
    found = statistics(shares, benchmark=shares["XOM"].rename("index"), risk_free=free).values
    returns = shares.pct_change().iloc[1:]
    rate, n = (1 + free) ** (1 / 252) - 1, 252
    for name in ("AAPL", "KO", "UNH"):
        r, b = returns[name], returns["XOM"]
        expected = {
            "Return": em.cum_returns_final(r),
            "Volatility": em.annual_volatility(np.log1p(r)),
            "Sharpe": em.sharpe_ratio(r, rate),
            "Sortino": em.sortino_ratio(r, rate),
            "Max_Drawdown": em.max_drawdown(r),
            "VaR_0.95": em.value_at_risk(r),
            "Expected_Shortfall_0.95": em.conditional_value_at_risk(r),
            "Beta": em.beta(r, b, rate),
            "Up_Capture": em.up_capture(r, b),
            "Down_Capture": em.down_capture(r, b),
            "Information_Ratio": em.excess_sharpe(r, b) * math.sqrt(n),
        }
        assert found[name][list(expected)].to_dict() == pytest.approx(expected, rel=1e-9)
        assert found[name]["Skew"] == pytest.approx(r.skew())
        assert found[name]["Kurtosis"] == pytest.approx(r.kurt())


def test_statistics_of_shares_are_ffns(shares: pd.DataFrame) -> None:
    ffn = pytest.importorskip("ffn")
    prices = shares[["AAPL", "KO"]]["1999-12-31":"2019-12-31"]
    found = statistics(prices, "monthly").values
    for name in prices:
        theirs = ffn.PerformanceStats(prices[name])
        assert found[name]["Best_Month"] == pytest.approx(theirs.best_month)
        assert found[name]["Worst_Month"] == pytest.approx(theirs.worst_month)
        assert found[name]["Sharpe"] == pytest.approx(theirs.monthly_sharpe)
        assert found[name]["Skew"] == pytest.approx(theirs.monthly_skew)
        assert found[name]["Kurtosis"] == pytest.approx(theirs.monthly_kurt)
        # Their year has 365.25 days.
        assert found[name]["CAGR"] == pytest.approx((1 + theirs.cagr) ** (365 / 365.25) - 1)


def test_the_risk_free_rate_may_be_an_index() -> None:
    prices = monthly(YEAR)
    days = pd.date_range("2022-12-31", "2023-12-31")
    index = accumulate_rate(pd.Series(0.05, days), "actual/360")
    free = index.reindex(prices.index).pct_change().iloc[1:].to_numpy(copy=True)
    found = statistics(prices, "monthly", risk_free=index.iloc[:-1], benchmark=monthly(MARKET)).values["a"]
    free[-1] = index.iloc[-2] / index["2023-11-30"] - 1  # held from its last value on
    excess = np.array(YEAR) - free
    assert found["Sharpe"] == pytest.approx(excess.mean() / excess.std(ddof=1) * math.sqrt(12))
    market = np.array(MARKET) - free
    beta = np.cov(excess, market)[0, 1] / market.var(ddof=1)
    assert found["Alpha"] == pytest.approx((excess.mean() - beta * market.mean()) * 12)


def test_less_than_a_year_has_no_yearly_figures() -> None:
    found = statistics(monthly(YEAR[:11]), "monthly", benchmark=monthly(MARKET))
    assert set(found.status["a"]) == {"short", "ok"}
    assert list(found.status.index[found.status["a"] == "ok"]) == ["Return", "Max_Drawdown", "Observations"]
    assert found.values["a"].notna().sum() == 3
    assert set(statistics(monthly(YEAR), "monthly").status["a"]) == {"ok"}


def test_a_fund_marked_monthly_has_no_daily_figures(shares: pd.DataFrame) -> None:
    prices = shares[["AAPL"]]["2019-12-31":"2021-12-31"]
    prices = prices.assign(fund=prices["AAPL"].where(prices.index.isin(prices.resample("BME").last().index)))
    found = statistics(prices)
    assert found.status["fund"]["Sharpe"] == "sparse"
    assert np.isnan(found.values["fund"]["Sharpe"])
    assert found.status["fund"][["Return", "CAGR", "Best_Month"]].tolist() == ["ok"] * 3
    assert set(statistics(prices, "monthly").status["fund"]) == {"ok"}


def test_a_part_of_the_time_is_not_reported_as_the_whole() -> None:
    days = pd.bdate_range("2020-12-31", "2023-12-29")
    rng = np.random.default_rng(2)
    prices = pd.DataFrame(
        {name: np.exp(rng.normal(0, 0.01, len(days)).cumsum()) for name in ("whole", "late", "dead")}, days
    )
    prices.loc[:"2021-06-30", "late"] = nan
    prices.loc["2023-06-30":, "dead"] = nan
    prices["none"] = nan
    found = statistics(prices, start="2021-01-01", end="2023-12-31")
    assert found.status.loc["Return"].tolist() == ["ok", "no_base", "stale_end", "no_end"]
    assert found.status.loc["Max_Drawdown"].tolist() == ["ok", "no_base", "stale_end", "no_end"]
    assert found.status.loc["Volatility"].tolist() == ["ok", "ok", "ok", "sparse"]
    assert found.values.isna().equals(found.status.isin(["ok"]).map(lambda ok: not ok))


def test_a_return_known_better_is_taken_with_its_status() -> None:
    returns = pd.DataFrame({"Return": [0.5, 0.1], "Status": ["carried", "no_fx"]}, index=["a", "b"])
    prices = pd.concat([monthly(YEAR), monthly(YEAR).rename("b")], axis=1)
    found = statistics(prices, "monthly", returns=returns)
    assert found.values.loc["Return"].tolist()[0] == 0.5
    assert found.values.loc["CAGR"].tolist()[0] == pytest.approx(0.5)
    assert found.status.loc["Calmar"].tolist() == ["carried", "no_fx"]
    assert np.isnan(found.values.loc["Return", "b"])


def test_what_does_not_vary_has_no_ratio() -> None:
    found = statistics(monthly([0.01] * 24), "monthly", benchmark=monthly([0.01] * 24).rename("b"))
    undefined = found.status.index[found.status["a"] == "undefined"]
    assert list(undefined) == [
        "Sharpe", "Sortino", "Calmar", "Skew", "Kurtosis",
        "Beta", "Alpha", "Correlation", "Information_Ratio", "Down_Capture",
    ]  # fmt: skip
    assert found.values["a"]["Volatility"] == pytest.approx(0, abs=1e-12)


@given(price_frames(least=3), st.floats(0.01, 100))
def test_neither_rebasing_nor_the_order_of_rows_changes_a_statistic(prices: pd.DataFrame, factor: float) -> None:
    prices.index = pd.date_range("2022-01-31", periods=len(prices), freq="ME", unit="us")
    found = statistics(prices, "monthly")
    other = statistics((prices * factor)[::-1], "monthly")
    pd.testing.assert_frame_equal(other.status, found.status)
    pd.testing.assert_frame_equal(other.values, found.values, rtol=1e-6, atol=1e-9)


@given(price_frames(least=13, columns=1))
def test_tails_are_numpys(prices: pd.DataFrame) -> None:
    prices.index = pd.date_range("2022-01-31", periods=len(prices), freq="ME", unit="us")
    found = statistics(prices, "monthly", level=0.9)
    returns = sampled_returns(prices, "monthly")["a"].dropna()
    if found.status["a"]["VaR_0.9"] == "ok":
        assert found.values["a"]["VaR_0.9"] == pytest.approx(np.quantile(returns, 0.1), rel=1e-9, abs=1e-12)
        tail = np.sort(returns)[: int((len(returns) - 1) * (1 - 0.9)) + 1]
        assert found.values["a"]["Expected_Shortfall_0.9"] == pytest.approx(tail.mean(), rel=1e-6)


def test_nothing_and_nonsense() -> None:
    empty = statistics(pd.DataFrame({"a": []}, index=pd.DatetimeIndex([]), dtype=float))
    assert set(empty.status["a"]) == {"no_end"}
    assert empty.values["a"].isna().all()
    with pytest.raises(UsageError, match="level of 95"):
        statistics(monthly(YEAR), level=95)
    np.testing.assert_allclose(annualized(np.array([0.21, nan]), 730), [0.1, nan])
