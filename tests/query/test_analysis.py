"""Statistics, risk, benchmarks and reference data of `LuxorQuery`, on real lakes."""

from __future__ import annotations

import logging
import math
import uuid
from datetime import date, time
from typing import Any

import numpy as np
import pandas as pd
import pytest

from luxor_pipelines import LuxorQuery, save_table
from luxor_pipelines.analytics.risk import price_correlation, volatility
from luxor_pipelines.analytics.statistics import statistics
from luxor_pipelines.errors import DataError, SchemaError, UnknownAssetError, UsageError

# Today is 2026-11-23, a Monday: the clock of conftest.py.
DAYS = pd.bdate_range("2021-12-31", "2026-11-20", unit="us")
COLUMNS = {"all_funds_quotas": ("Fund", "Quota"), "hist_vc_px_last": ("Ticker", "Price")}


def put(lq: LuxorQuery, table: str, series: dict[str, pd.Series]) -> None:
    """Save a price table of series by name."""
    key, price = COLUMNS.get(table, ("Asset", "Last_Price"))
    parts = [pd.DataFrame({"Date": each.index, key: name, price: each.to_numpy()}) for name, each in series.items()]
    save_table(table, pd.concat(parts, ignore_index=True), lq=lq, mode="replace")


def walk(seed: int, days: pd.DatetimeIndex = DAYS, drift: float = 0.0003) -> pd.Series:
    rng = np.random.default_rng(seed)
    return pd.Series(100 * np.exp(rng.normal(drift, 0.01, len(days)).cumsum()), days)


def points(prices: dict[str, float]) -> pd.Series:
    return pd.Series(list(prices.values()), pd.to_datetime(list(prices)).as_unit("us"))


SERIES = {
    "us1": walk(1),
    "us2": walk(2),
    "bz1": walk(3).drop(DAYS[50:60]),  # a holiday of two weeks
    "late": walk(4)["2025-06-01":],  # type: ignore[misc]
    "dead": walk(5)[:"2024-03-01"],  # type: ignore[misc]
    "monthly": walk(6)[DAYS.to_series().dt.to_period("M").shift(-1).ne(DAYS.to_series().dt.to_period("M")).to_numpy()],
    "index": walk(7),
    "rate": pd.Series(1.1 ** (np.arange(len(DAYS)) / 252), DAYS),
    "usdbrl curncy": walk(8, drift=0) / 20,
}


@pytest.fixture(scope="module")
def lq() -> LuxorQuery:
    from conftest import Clock

    query = LuxorQuery(lake=f"memory://{uuid.uuid4().hex}", clock=Clock())
    put(query, "hist_px_last", SERIES)
    names = [name for name in SERIES if name != "usdbrl curncy"]
    save_table(
        "assets",
        pd.DataFrame(
            {
                "Key": [f"{name}_{name}" for name in names],
                "Name": [name.title() for name in names],
                "Asset": names,
                "Ticker": names,
                "Ticker_BBG": names,
                "Location": ["bz" if name in {"bz1", "monthly", "rate"} else "us" for name in names],
                "Type": "stock",
                "Group": "stock",
            }
        ),
        lq=query,
    )
    save_table(
        "holidays",
        pd.DataFrame({"Date": pd.to_datetime(["2020-01-01", "2025-01-01", "2028-01-03"]), "Location": "bz"}),
        lq=query,
    )
    return query


START, END = "2023-12-31", "2026-11-20"


def own(name: str, start: str = START, end: str = END) -> pd.Series:
    """The prices that a window is worked out of: the last up to its start, and those after."""
    prices = SERIES[name]
    base = prices[:start].iloc[-1:]
    return pd.concat([base, prices[start:end].iloc[0 if base.index[0] < pd.Timestamp(start) else 1 :]]).rename(name)


# --- statistics ------------------------------------------------------------------------------


def test_statistics_are_those_of_the_prices_and_the_returns(lq: LuxorQuery) -> None:
    found = lq.statistics(["us1", "bz1"], START, END, benchmark="index", risk_free=0.02)
    expected = statistics(own("us1"), benchmark=own("index"), risk_free=0.02, start=START, end=END).values["us1"]
    np.testing.assert_allclose(found["us1"], expected, rtol=1e-12)
    changes = lq.get_pct_changes(["us1", "bz1"], END, START)
    assert found.loc["Return"].tolist() == changes["Pct_Change"].tolist()
    assert list(found.columns) == ["us1", "bz1"]


def test_statistics_in_another_currency(lq: LuxorQuery) -> None:
    found = lq.statistics(["us1", "bz1"], START, END, "brl")
    in_brl = (own("us1") * own("usdbrl curncy")).rename("us1")
    np.testing.assert_allclose(found["us1"], statistics(in_brl, start=START, end=END).values["us1"], rtol=1e-9)
    np.testing.assert_allclose(found["bz1"], lq.statistics("bz1", START, END)["bz1"], rtol=1e-12)


def test_a_currency_that_is_constant_changes_nothing(disk: Any) -> None:
    query = disk.query()
    put(query, "hist_px_last", {"us1": SERIES["us1"], "us2": SERIES["us2"], "usdbrl curncy": 0 * SERIES["us1"] + 5.0})
    save_table(
        "assets",
        pd.DataFrame({"Key": ["a", "b"], "Ticker": ["us1", "us2"], "Location": "us", "Type": "x", "Group": "g"}),
        lq=query,
    )
    keys = ["us1", "us2"]
    for ask in (
        lambda currency: query.statistics(keys, START, END, currency, "us2"),
        lambda currency: query.calculate_drawdown(keys, START, END, currency)[["Period_Change", "Drawdowns"]],
        lambda currency: query.correlation(keys, START, END, currency),
        lambda currency: query.get_benchmark({"us1": 0.3, "us2": 0.7}, START, END, currency=currency),
    ):
        np.testing.assert_allclose(ask("brl"), ask("local"), rtol=1e-7, atol=1e-9)


def test_a_statistic_that_cannot_be_stated_is_null_with_its_reason(
    lq: LuxorQuery, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ["us1", "late", "dead", "monthly", "nothing"]
    with caplog.at_level(logging.WARNING):
        found = lq.statistics(keys, START, END, with_status=True).pivot(index="Statistic", columns="Asset")
    status, value = found["Status"], found["Value"]
    assert set(status["us1"]) == {"ok"}
    assert status.loc["CAGR"].to_dict() == {
        "us1": "ok", "late": "no_base", "dead": "stale_end", "monthly": "ok",
        "nothing": status.loc["Return", "nothing"],
    }  # fmt: skip
    assert status.loc["Sharpe"].to_dict() == {
        "us1": "ok", "late": "sparse", "dead": "sparse", "monthly": "sparse", "nothing": "sparse",
    }  # fmt: skip
    assert status.loc["Best_Month", "monthly"] == "ok"
    assert (value.isna() == ~status.isin(["ok"])).all().all()
    assert "late: no_base, sparse" in caplog.text
    with caplog.at_level(logging.WARNING):
        short = lq.statistics("us1", "2026-01-31", END)
    assert short["us1"].dropna().index.tolist() == ["Return", "Max_Drawdown", "Observations"]
    assert "us1: short" in caplog.text


def test_the_risk_free_rate_may_be_a_series(lq: LuxorQuery) -> None:
    with_index = lq.statistics(["bz1", "us1"], START, END, "brl", "index", "rate")["bz1"]
    with_rate = lq.statistics("bz1", START, END, "brl", "index", 0.1)["bz1"]
    # The index grows by one rate a weekday; the holiday of bz1 lies before the window.
    np.testing.assert_allclose(
        with_index[["Sharpe", "Beta", "Alpha"]], with_rate[["Sharpe", "Beta", "Alpha"]], rtol=1e-6
    )


def test_beta_is_that_of_the_statistics(lq: LuxorQuery) -> None:
    found = lq.beta(["us1", "monthly"], "index", START, END, risk_free="rate")
    expected = lq.statistics(["us1"], START, END, benchmark="index", risk_free="rate")["us1"]
    np.testing.assert_allclose(found.loc["us1", ["Beta", "Alpha"]].astype(float), expected[["Beta", "Alpha"]])
    assert found.loc["monthly", ["Beta", "Alpha"]].isna().all()
    assert found.loc["monthly", "Observations"] < 40
    monthly = lq.beta("monthly", "index", START, END, sample_frequency="monthly")
    assert monthly["Observations"].tolist() == [34]


def test_a_benchmark_that_is_not_there_is_an_error(lq: LuxorQuery) -> None:
    with pytest.raises(UnknownAssetError, match="'nothing'"):
        lq.statistics("us1", START, END, benchmark="nothing")
    with pytest.raises(DataError, match="no price of 'dead'"):
        lq.beta("us1", "dead", "2025-01-31", END)


# --- risk ------------------------------------------------------------------------------------


def test_volatility_at_any_end_date(lq: LuxorQuery) -> None:
    found = lq.calculate_volatility(["us1", "late"], 6, 365, recent_date="2025-06-30")
    assert found.columns.tolist() == ["Ticker", "Date", "Volatility"]
    assert found["Date"].dt.strftime("%Y-%m").unique().tolist() == [
        "2024-12",
        "2025-01",
        "2025-02",
        "2025-03",
        "2025-04",
        "2025-05",
        "2025-06",
    ]
    last = found[found["Ticker"] == "us1"].iloc[-1]
    months = SERIES["us1"].resample("ME").last()["2024-06-30":"2025-06-30"]
    assert last["Volatility"] == pytest.approx(np.log(months).diff().std() * math.sqrt(12))
    assert found.loc[found["Ticker"] == "late", "Volatility"].isna().all()


def test_dates_in_place_of_a_volatilitys_windows_are_refused(lq: LuxorQuery) -> None:
    with pytest.raises(UsageError, match="'2025-12-31' is no number of months") as caught:
        lq.calculate_volatility("fund", "2025-12-31", "2026-10-30")  # type: ignore[arg-type]
    assert "recent_date" in caught.value.hint


def test_volatility_as_one_figure(lq: LuxorQuery, caplog: pytest.LogCaptureFixture) -> None:
    arguments: dict[str, Any] = {"recent_date": END, "rolling": False, "sample_frequency": "daily"}
    with caplog.at_level(logging.WARNING):
        found = lq.calculate_volatility(["us1", "monthly"], analysis_period_days=730, **arguments)
    start = str(date.fromisoformat(END) - pd.Timedelta(days=730))[:10]
    assert found["Volatility"][0] == pytest.approx(volatility(own("us1", start))["us1"])
    assert np.isnan(found["Volatility"][1])
    assert "monthly: sparse" in caplog.text


def test_a_filled_price_series_would_be_a_sixth_too_low(lq: LuxorQuery) -> None:
    filled = lq.get_prices("us1", END, "2024-11-20").set_index("Date")["Last_Price"]
    naive = np.log(filled).diff().std() * math.sqrt(252)
    ours = lq.calculate_volatility(
        "us1", recent_date=END, analysis_period_days=730, rolling=False, sample_frequency="daily"
    )
    assert naive < 0.87 * ours["Volatility"][0]


def test_drawdowns(lq: LuxorQuery) -> None:
    found = lq.calculate_drawdown(["us1", "late"], START, END)
    assert found.columns.tolist() == ["Asset", "Last_Price", "Period_Change", "Previous_Peak", "Drawdowns"]
    assert found.index.name == "Date"
    rows = found[found["Asset"] == "us1"]
    prices = own("us1")
    np.testing.assert_allclose(rows["Last_Price"], prices)
    np.testing.assert_allclose(rows["Drawdowns"], prices / prices.cummax() - 1)
    np.testing.assert_allclose(rows["Period_Change"], prices / prices.iloc[0] - 1)
    assert found[found["Asset"] == "late"].index[0] == SERIES["late"].index[0]
    worst = lq.calculate_drawdown(["us1", "late"], START, END, worst=2)
    assert worst.groupby("Asset").size().to_dict() == {"us1": 2, "late": 2}
    assert worst["Drawdown"][0] == rows["Drawdowns"].min()


def test_tracking_error_is_over_days_that_both_have(lq: LuxorQuery, caplog: pytest.LogCaptureFixture) -> None:
    found = lq.calculate_tracking_error("bz1", "us1", "2021-12-31", END)
    both = pd.concat([SERIES["bz1"], SERIES["us1"]], axis=1, sort=True)[:END].dropna().pct_change()
    assert found == pytest.approx((both[0] - both[1]).std() * math.sqrt(252))
    assert lq.calculate_tracking_error("us1", "us1", START, END) == 0
    with caplog.at_level(logging.WARNING):
        assert math.isnan(lq.calculate_tracking_error("monthly", "us1", START, END))
    assert "tracking error" in caplog.text
    assert not math.isnan(
        lq.calculate_tracking_error("monthly", "us1", period="24m", recent_date=END, sample_frequency="monthly")
    )


def test_correlation_square_rolling_and_familiar(lq: LuxorQuery) -> None:
    keys = ["us1", "us2", "bz1"]
    found = lq.correlation(keys, START, END, sample_frequency="daily")
    prices = pd.concat([own(key) for key in keys], axis=1, sort=True)
    np.testing.assert_allclose(found, price_correlation(prices, "daily"))
    rolling = lq.correlation(keys[:2], START, END, sample_frequency="daily", window=60)
    returns = prices[keys[:2]].dropna().pct_change().iloc[1:]
    np.testing.assert_allclose(rolling, returns["us1"].rolling(60).corr(returns["us2"]))
    with pytest.raises(UsageError, match="3 series"):
        lq.correlation(keys, START, END, window=60)

    facts = {key: {"Name": key.upper(), "Key": f"{key}_{key}", "Location": "us"} for key in keys[:2]}
    table = lq.calculate_price_correlation(facts, period="24m", ref_date="2026-10-31")
    assert table.columns.tolist() == [
        "Order", "Asset_Corr", "Asset", "Correlation", "Key_Asset_Corr", "Key_Asset", "Comp_Key", "Frequency", "Period",
    ]  # fmt: skip
    assert table.iloc[1].drop("Correlation").tolist() == [
        2,
        "US2",
        "US1",
        "us2_us2",
        "us1_us1",
        "us1_us1_us2_us2",
        "Monthly",
        "2Y",
    ]
    square = lq.correlation(keys[:2], "2024-10-31", "2026-10-31")
    assert table["Correlation"].tolist() == square.to_numpy().ravel().tolist()
    plain = lq.calculate_price_correlation(keys, "daily", "mtd", ref_date="2026-10-31")
    assert plain["Frequency"].unique().tolist() == ["Daily"]
    assert plain["Period"].unique().tolist() == ["MTD"]


# --- returns ---------------------------------------------------------------------------------


def test_rolling_returns_are_get_returns(lq: LuxorQuery) -> None:
    found = lq.rolling_returns(["us1", "late"], "2025-12-31", END, "brl")
    expected = lq.get_returns(found.index, ["us1", "late"], "12m", "brl").pivot(
        index="Date", columns="Asset", values="Return"
    )
    np.testing.assert_allclose(found, expected[["us1", "late"]])
    assert [str(day.date()) for day in found.index[[0, -2, -1]]] == ["2025-12-31", "2026-10-31", END]
    assert found["late"].notna().sum() == 6
    two = lq.rolling_returns("us1", "2025-12-31", "2025-12-31", period="24m", annualized=True)
    plain = lq.get_pct_change("us1", "2025-12-31", "2023-12-31")
    assert two["us1"].tolist() == pytest.approx([(1 + plain) ** (365 / 731) - 1])
    assert lq.rolling_returns("us1", "2025-12-31", "2025-12-31", period="6m", annualized=True)["us1"].isna().all()
    with pytest.raises(UsageError, match="number of months"):
        lq.rolling_returns("us1", START, END, period="ytd")


def test_returns_of_the_week_the_year_and_since_inception(lq: LuxorQuery) -> None:
    dates = ["2026-11-18", "2026-11-15", "2025-06-01"]  # a Wednesday and two Sundays
    found = lq.get_returns(dates, ["us1", "late", "nothing"], ["wtd", "1Y", "12m", "inception"])
    value = found.set_index(["Asset", "Date", "Period"])["Return"]
    status = found.set_index(["Asset", "Date", "Period"])["Status"]
    assert value["us1", "2026-11-18", "wtd"] == lq.get_pct_change("us1", "2026-11-18", "2026-11-15")
    assert value["us1", "2026-11-15", "wtd"] == lq.get_pct_change("us1", "2026-11-15", "2026-11-08")
    assert value["us1", "2026-11-18", "1y"] == value["us1", "2026-11-18", "12m"]
    for name in ("us1", "late"):
        whole = SERIES[name]["2026-11-18"] / SERIES[name].iloc[0] - 1
        assert value[name, "2026-11-18", "inception"] == pytest.approx(whole)
    assert status["us1", "2025-06-01", "inception"] == "ok"
    assert status["late", "2025-06-01", "inception"] == status["late", "2025-06-01", "12m"], "it begins on the next day"
    assert status["nothing", "2026-11-18", "inception"] == status["nothing", "2026-11-18", "12m"]
    assert value["nothing"].isna().all()
    only = lq.get_returns("2026-11-18", ["late"], "inception", ["usd", "brl"])
    fx = SERIES["usdbrl curncy"]
    brl = (1 + only["Return"][0]) * fx["2026-11-18"] / fx["2025-06-02"] - 1
    assert only["Return"].tolist() == pytest.approx([value["late", "2026-11-18", "inception"], brl])


def test_annualized_returns_are_null_under_twelve_months(lq: LuxorQuery) -> None:
    arguments = ("2026-10-31", ["us1", "late"], ["ytd", "12m", "36m", "inception"])
    plain, found = lq.get_returns(*arguments), lq.get_returns(*arguments, annualized=True)
    rows = found.set_index(["Asset", "Period"])
    assert rows["Status"]["us1", "ytd"] == "short"
    assert np.isnan(rows["Return"]["us1", "ytd"])
    whole = plain.set_index(["Asset", "Period"])["Return"]
    assert rows["Return"]["us1", "12m"] == pytest.approx(whole["us1", "12m"])
    assert rows["Return"]["us1", "36m"] == pytest.approx((1 + whole["us1", "36m"]) ** (365 / 1096) - 1)
    assert rows["Return"]["late", "inception"] == pytest.approx((1 + whole["late", "inception"]) ** (365 / 516) - 1)
    assert rows["Status"]["late", "36m"] == plain.set_index(["Asset", "Period"])["Status"]["late", "36m"]


def test_the_table_of_returns_has_months_years_and_a_benchmark(lq: LuxorQuery) -> None:
    table = lq.returns_table("us1", benchmark="index", recent_date=END)
    assert table.index.tolist() == [2022, 2023, 2024, 2025, 2026]
    assert table.columns.tolist()[-3:] == ["Year", "Benchmark", "Partial"]
    months = lq.get_returns(pd.date_range("2022-01-31", "2026-10-31", freq="ME"), "us1", "mtd")["Return"]
    np.testing.assert_allclose(table.iloc[:, :12].to_numpy().ravel()[: len(months)], months)
    for year, row in table.iterrows():
        np.testing.assert_allclose((1 + row.iloc[:12].astype(float)).prod() - 1, row["Year"])
        end = min(f"{year}-12-31", END)
        assert row["Benchmark"] == pytest.approx(lq.get_pct_change("index", end, f"{year - 1}-12-31"))
    assert table["Partial"].tolist() == ["", "", "", "", "Nov to 2026-11-20"]
    assert np.isnan(table.loc[2026, "Dec"])
    itself = lq.returns_table("us1", benchmark="us1", recent_date=END)
    assert itself["Benchmark"].tolist() == itself["Year"].tolist() == table["Year"].tolist()


def test_partial_months_are_marked_not_hidden(lq: LuxorQuery) -> None:
    table = lq.returns_table("late", recent_date="2026-10-30")
    assert table["Partial"].tolist() == ["Jun from 2025-06-02", ""]  # 30 October 2026 is a Friday
    assert table.loc[2025, "Jun"] == pytest.approx(SERIES["late"]["2025-06-30"] / SERIES["late"].iloc[0] - 1)
    assert table.loc[2025, ["Jan", "May"]].isna().all()
    cut = lq.returns_table("us1", previous_date="2023-12-31", recent_date="2024-03-15")
    assert cut["Partial"].tolist() == ["Mar to 2024-03-15"]
    assert lq.returns_table("dead", recent_date=END).loc[2024:, "Apr":"Year"].isna().all().all()
    with pytest.raises(UnknownAssetError):
        lq.returns_table("nothing")
    with pytest.raises(DataError, match="no returns from"):
        lq.returns_table("late", recent_date="2025-01-01")


def test_performance_is_quoted_against_a_rate(lq: LuxorQuery) -> None:
    found = lq.quote_against_rate(["bz1", "rate", "late"], "rate", "2025-12-31", "2023-12-31", currency="brl")
    own_return, rate = (lq.get_pct_change(key, "2025-12-31", "2023-12-31") for key in ("bz1", "rate"))
    days = np.busday_count("2024-01-01", "2026-01-01") - 1
    assert found["Business_Days"].unique().tolist() == [days]
    assert found.loc["bz1", "Percent_Of_Rate"] == pytest.approx(own_return / rate)
    assert found.loc["bz1", "Spread"] == pytest.approx(((1 + own_return) / (1 + rate)) ** (252 / days) - 1)
    assert found.loc["rate", ["Percent_Of_Rate", "Spread"]].tolist() == pytest.approx([1, 0])
    assert found.loc["late", "Status"] == "no_base"
    assert np.isnan(found.loc["late", "Spread"])


# --- benchmarks and portfolios ---------------------------------------------------------------


def test_a_benchmark_of_legs_in_one_currency(lq: LuxorQuery) -> None:
    found = lq.get_benchmark({"us1": 0.6, "bz1": 0.4}, START, END, currency="brl")
    assert found.index[0] == pd.Timestamp(START)
    assert found["Benchmark"].iloc[0] == 1
    ends = [pd.Timestamp(START), *pd.date_range("2024-01-31", END, freq="ME"), pd.Timestamp(END)]
    prices = pd.DataFrame({"us1": SERIES["us1"] * SERIES["usdbrl curncy"], "bz1": SERIES["bz1"]}).ffill()
    at_ends = prices.reindex(prices.index.union(ends)).ffill().loc[ends]
    expected = (1 + at_ends.pct_change().iloc[1:] @ np.array([0.6, 0.4])).prod()
    assert found["Benchmark"].iloc[-1] == pytest.approx(expected)
    assert lq.get_benchmark({"us1": 1}, START, END)["Benchmark"].iloc[-1] == pytest.approx(
        1 + lq.get_pct_change("us1", END, START)
    )


def test_legs_may_be_named_as_assets_are(lq: LuxorQuery) -> None:
    found = lq.get_benchmark({"Us1": 0.5, "us2_us2": 0.5}, START, END)
    pd.testing.assert_frame_equal(found, lq.get_benchmark({"us1": 0.5, "us2": 0.5}, START, END))
    with pytest.raises(UsageError, match="one series"):
        lq.get_benchmark({"us1": 0.5, "us1_us1": 0.5}, START, END)


def test_a_benchmark_that_cannot_be_stated(lq: LuxorQuery) -> None:
    with pytest.raises(DataError, match="no base on 2023-12-31: no price of 'late'"):
        lq.get_benchmark({"us1": 0.5, "late": 0.5}, START, END)
    with pytest.raises(UsageError, match="several currencies"):
        lq.get_benchmark({"us1": 0.5, "bz1": 0.5}, START, END, currency="local")
    with pytest.raises(DataError, match="currency of 'nothing'"):
        lq.get_benchmark({"us1": 0.5, "nothing": 0.5}, START, END)


@pytest.fixture
def spx(lq: LuxorQuery, disk: Any) -> LuxorQuery:
    """A lake with the legs of the firm's composites; the cash index begins on 2020-03-02."""
    query = disk.query()
    days = pd.bdate_range("2019-12-31", "2020-06-30", unit="us")
    cash = pd.bdate_range("2020-03-02", "2020-06-30", unit="us")
    put(
        query,
        "hist_px_last",
        {
            "spxt index": walk(1, days),
            "sofrindx index": pd.Series(1.0001 ** np.arange(len(cash)), cash),
            "fedl01 index": pd.Series(1.5, days),
            "usdbrl curncy": walk(8, days) / 20,
        },
    )
    return query


def test_d36_cash_before_its_index_accrues_the_rate_unconverted(spx: LuxorQuery) -> None:
    legs = {"spxt index": 0.8, "sofrindx index": 0.2}
    usd = spx.get_benchmark(legs, "2019-12-31", "2020-06-30")["Benchmark"]
    equity = walk(1, pd.bdate_range("2019-12-31", "2020-06-30", unit="us"))
    january = 0.8 * equity["2020-01-31"] / equity["2019-12-31"] + 0.2 * 1.015 ** (31 / 360)
    assert usd["2020-01-31"] == pytest.approx(january)
    brl = spx.get_benchmark(legs, "2019-12-31", "2020-06-30", currency="brl")["Benchmark"]
    rate = walk(8, pd.bdate_range("2019-12-31", "2020-06-30", unit="us"))
    # All legs are in USD, and the weights are reset at the same rates: the change of the rate is all there is between.
    np.testing.assert_allclose(brl["2020-06-30"], usd["2020-06-30"] * rate["2020-06-30"] / rate["2019-12-31"])
    familiar = spx.get_benchmark_spx_cash("2019-12-31", "2020-06-30", cash_ticker="sofrindx index")
    pd.testing.assert_series_equal(familiar["Benchmark"], usd)


def test_the_firms_composites_are_series_like_others(spx: LuxorQuery) -> None:
    ticker = "benchmark luxor spx cash"
    legs = {"spxt index": 0.8, "sofrindx index": 0.2}
    usd = spx.get_benchmark(legs, "2019-12-31", "2020-06-30")["Benchmark"]
    prices = spx.get_prices(ticker, "2020-06-30", "2020-03-15").set_index("Date")["Last_Price"]
    np.testing.assert_allclose(prices, usd["2020-03-15":])
    assert spx.get_pct_change(ticker, "2020-06-30", "2020-01-31") == pytest.approx(
        usd["2020-06-30"] / usd["2020-01-31"] - 1
    )
    other = spx.get_pct_changes("benchmark luxor sp500 85/15 cash", "2020-06-30", "2020-02-29", currency="brl")
    assert other["Status"].tolist() == ["ok"]
    assert spx.returns_table(ticker, recent_date="2020-06-30").loc[2020, "Year"] == pytest.approx(usd["2020-06-30"] - 1)
    put(spx, "hist_non_bbg_px_last", {ticker: points({"2020-06-30": 7.0})})
    spx.update()
    assert spx.get_price(ticker, "2020-06-30") == 7.0, "a stored series wins"


def test_a_composite_of_today_has_todays_prices(spx: LuxorQuery) -> None:
    days = pd.bdate_range("2026-10-30", "2026-11-20", unit="us")
    put(spx, "hist_px_last", {"spxt index": walk(1, days), "sofrindx index": pd.Series(1.0, days)})
    latest = {"Key": ["spxt index"], "px_last": [200.0], "last_update_dt": [pd.Timestamp("2026-11-23")]}
    save_table("px_last", pd.DataFrame(latest), lq=spx)
    spx.update()
    expected = 0.8 * 200 / walk(1, days)["2026-10-30"] + 0.2
    legs = {"spxt index": 0.8, "sofrindx index": 0.2}
    assert spx.get_benchmark(legs, "2026-10-31")["Benchmark"].iloc[-1] == pytest.approx(expected)
    change = spx.get_pct_change("benchmark luxor spx cash", "2026-11-23", "2026-10-31")
    assert change == pytest.approx(expected - 1)


def test_ratios_over_an_index_that_begins_late_are_sparse(lq: LuxorQuery) -> None:
    found = lq.statistics(["us1"], START, END, benchmark="us2", risk_free="late", with_status=True)
    status = found.set_index("Statistic")["Status"]
    assert status[["Sharpe", "Sortino", "Beta", "Alpha"]].unique().tolist() == ["sparse"]
    assert status[["Volatility", "Tracking_Error", "VaR_0.95"]].unique().tolist() == ["ok"]


def test_a_composite_without_legs_has_no_price(lq: LuxorQuery) -> None:
    assert lq.get_pct_changes("benchmark luxor spx cash", END, START)["Pct_Change"].isna().all()


def test_d41_a_simulated_portfolio_is_bought_and_held(lq: LuxorQuery) -> None:
    found = lq.simulate_portfolio_performance({"us1": 0.5, "us2": 0.5}, "2026-09-01", 0.02, recent_date=END)
    held = 0.5 * (SERIES["us1"][END] / SERIES["us1"]["2026-09-01"] + SERIES["us2"][END] / SERIES["us2"]["2026-09-01"])
    days = (pd.Timestamp(END) - pd.Timestamp("2026-09-01")).days
    assert found.iloc[-1] == pytest.approx(held * (1 - (1.02 ** (1 / 365) - 1)) ** days)
    assert len(found) == days + 1
    assert lq.simulate_portfolio_performance({"us1": 1}, "2026-09-01").index[-1] == pd.Timestamp("2026-11-23")


def test_cash_flows(lq: LuxorQuery) -> None:
    assert lq.xirr([-100, 300], ["2024-01-01", "2024-12-31"]) == pytest.approx(2.0)
    assert lq.twr([100, 121]) == pytest.approx(0.21)


# --- defects of the old library --------------------------------------------------------------


def test_d31_a_missing_price_gives_no_return_of_zero(lq: LuxorQuery, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert math.isnan(lq.get_pct_change("late", END, "2024-12-31"))
    assert "no_base" in caplog.text


def test_d32_partial_periods_are_not_reported_as_whole(lq: LuxorQuery) -> None:
    found = lq.get_pct_changes(["late", "dead"], "2025-12-31", period="12m")
    assert found["Status"].tolist() == ["no_base", "stale_base"] or found["Status"].tolist() == ["no_base", "stale_end"]
    assert found["Pct_Change"].isna().all()


def test_d33_every_series_asked_for_has_a_row(lq: LuxorQuery) -> None:
    found = lq.get_pct_changes(["us1", "usdxyz", "bz1"], END, START, currency="brl")
    assert found.index.tolist() == ["us1", "usdxyz", "bz1"]
    assert lq.statistics(["us1", "usdxyz"], START, END, "brl").columns.tolist() == ["us1", "usdxyz"]


def test_d34_amortizations_count_in_every_figure(disk: Any) -> None:
    query = disk.query()
    days = pd.bdate_range("2024-12-31", "2026-10-30", unit="us")
    quota = pd.Series(np.where(days < "2025-06-02", 100.0, 90.0), days)  # returns a tenth, and nothing else happens
    quota *= np.where(np.arange(len(days)) % 2, 1.001, 1.0)
    put(query, "all_funds_quotas", {"fund": quota})
    events = pd.DataFrame({"Fund": ["fund"], "Event_Date": pd.to_datetime(["2025-06-02"]), "Ratio": [0.1]})
    save_table("quota_adjustments", events, lq=query)
    end = "2026-10-30"
    one, many = query.get_pct_change("fund", end, "2024-12-31"), query.get_pct_changes("fund", end, "2024-12-31")
    assert one == many["Pct_Change"].iloc[0]
    assert abs(one) < 0.002
    found = query.statistics("fund", "2024-12-31", end)["fund"]
    assert found["Return"] == one
    assert found["Max_Drawdown"] > -0.002
    assert found["Volatility"] < 0.02
    assert query.calculate_drawdown("fund", "2024-12-31", end)["Drawdowns"].min() > -0.002
    assert query.get_quota_adjusted_by_amortization("fund", 100.0, "2025-06-01") == pytest.approx(90)
    assert query.get_quota_adjusted_by_amortization(" Fund", 100.0, "2025-06-02") == 100
    assert query.get_quota_adjusted_by_amortization("other", 100.0, "2025-06-01") == 100


# --- reference -------------------------------------------------------------------------------


@pytest.fixture
def fields(rig: Any) -> LuxorQuery:
    query = rig.query()
    last = pd.DataFrame(
        {
            "Key": [f"abc us equity_{field}" for field in ("beta", "ipo", "sector", "odd", "none", "zero")],
            "Value": ["1.25", "1704067200", "Tech", "n.a.", "nan", "0"],
        }
    ).assign(Ticker="abc us equity", Field="x", Query_Time="2026-11-20")
    save_table("last_all_flds", last, lq=query)
    types = {"beta": "numerical", "ipo": "date", "odd": "numerical", "none": "numerical", "zero": "date"}
    save_table("field_map", pd.DataFrame({"Field": types.keys(), "Value_Type": types.values()}), lq=query)
    hist = pd.DataFrame(
        {
            "Date": pd.to_datetime(["2024-01-31", "2024-03-31", "2024-02-29"]),
            "Ticker": "abc us equity",
            "Field": "beta",
            "Value": ["1.0", "3.0", "2.0"],
        }
    )
    save_table("hist_all_flds", hist, lq=query)
    assets = pd.DataFrame(
        {
            "Key": ["abc_abc34", "abc_abc us equity"],
            "Name": ["ABC BDR", "ABC Inc"],
            "Asset": ["abc", "abc"],
            "Ticker": ["abc34 bz equity", "abc us equity"],
            "Ticker_BBG": ["abc us equity", "abc us equity"],
            "Location": ["bz", "us"],
            "Type": ["ações_bdr", "ações_us"],
            "Group": ["ações", "ações"],
        }
    )
    save_table("assets", assets, lq=query)
    save_table(
        "bdr_sizes", pd.DataFrame({"Ticker": ["abc34 bz equity", "bad"], "adr_adr_per_sh": [4.0, 0.0]}), lq=query
    )
    put(
        query,
        "hist_px_last",
        {"abc us equity": points({"2026-11-20": 50.0}), "usdbrl curncy": points({"2026-11-20": 5.0})},
    )
    px_last = pd.DataFrame(
        {
            "Key": ["abc us equity", "usdbrl curncy"],
            "px_last": [51.0, 5.5],
            "last_update_dt": pd.to_datetime(["2026-11-23", "2026-11-23"]),
            "Query_Time": pd.to_datetime(["2026-11-23 14:05:00", "2026-11-23 15:10:30"]),
        }
    )
    save_table("px_last", px_last, lq=query)
    return query


def test_fields_are_typed_by_their_map(fields: LuxorQuery, caplog: pytest.LogCaptureFixture) -> None:
    assert fields.get_data("ABC us equity ", "Beta") == 1.25
    assert fields.get_data("abc us equity", "ipo") == date(2024, 1, 1), "midnight UTC is no day earlier in Brazil"
    assert fields.get_data("abc us equity", "sector") == "tech"
    assert fields.get_data("abc us equity", "beta", "2024-03-15") == 2.0
    assert fields.get_data("abc us equity", "zero") is None
    with caplog.at_level(logging.WARNING):
        assert fields.get_data("abc us equity", "none") is None
        assert fields.get_data("abc us equity", "unheard") is None
        assert fields.get_data("abc us equity", "beta", "2023-12-31") is None
    assert "There is no unheard of abc us equity" in caplog.text
    assert fields.get_data("abc us equity", "px_last") == 51
    assert fields.get_data("abc us equity", "px_last", "2026-11-20") == 50
    for name in ("ABC_abc us equity", " Abc Inc ", "abc us equity"):
        assert fields.get_data(name, "beta") == 1.25, "by any name of the asset"
        assert fields.get_data(name, "beta", "2024-03-15") == 2.0
    with pytest.raises(SchemaError, match=r"odd of abc us equity is 'n\.a\.', which is no number"):
        fields.get_data("abc us equity", "odd")


def test_bdrs(fields: LuxorQuery) -> None:
    assert fields.get_bdr_size("ABC34 bz equity") == 4
    assert fields.get_bdr_adj_price("abc_abc34", "2026-11-20") == pytest.approx(50 * 5 / 4)
    with pytest.raises(UnknownAssetError, match="bdr_sizes"):
        fields.get_bdr_size("abc us equity")
    with pytest.raises(DataError, match="'bad'"):
        fields.get_bdr_size("bad")


def test_names_and_the_time_of_prices(fields: LuxorQuery) -> None:
    assert fields.get_asset_name("abc us equity") == "ABC Inc"
    assert fields.get_asset_name("ABC34 BZ Equity") == "ABC BDR"
    with pytest.raises(UnknownAssetError, match="'zzz'"):
        fields.get_asset_name("zzz")
    assert fields.get_px_update_time() == time(15, 10, 30)


def test_the_clean_coupon_is_moved_as_spot_has(fields: LuxorQuery) -> None:
    clean = pd.DataFrame(
        {"Date": pd.to_datetime(["2026-11-19", "2026-11-20"]), "Asset": "bmfxclco curncy", "Last_Price": [5.2, 5.1]}
    )
    found = fields.usdbrl_clean_coupon_fix(clean)
    assert found["Last_Price"].tolist() == pytest.approx([5.2, 5.1, 5.1 * 5.5 / 5.0])
    assert str(found["Date"].iloc[-1].date()) == "2026-11-23"
    assert len(clean) == 2
    pd.testing.assert_frame_equal(fields.usdbrl_clean_coupon_fix(found), found)
    old = clean.assign(Date=clean["Date"] - pd.Timedelta(days=400))
    assert len(fields.usdbrl_clean_coupon_fix(old)) == 2, "without a spot rate of the last date nothing can be said"


def test_text_to_lowercase_changes_nothing_else() -> None:
    frame = pd.DataFrame({"A": [" Ab ", None, 1], "B": [1.5, 2.5, 3.5]})
    found = LuxorQuery.text_to_lowercase(None, frame)  # type: ignore[arg-type]
    assert found["A"].tolist()[0::2] == ["ab", 1]
    assert found["B"].tolist() == [1.5, 2.5, 3.5]
    assert frame["A"][0] == " Ab "
