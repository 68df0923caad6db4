"""Statistics of many assets, correlation with nulls, and SQL, beside Polars, numpy, pandas and DuckDB."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks import rates
from benchmarks.lakes import PRICES, REF, TABLES, Lakes
from benchmarks.measure import Case, Contender, Target
from benchmarks.returns import open_lake

if TYPE_CHECKING:
    import polars as pl

END = REF - timedelta(days=1)  # a Friday
MONTH = (date(2026, 9, 1), date(2026, 9, 30))
QUERY = (
    "SELECT Asset, avg(Last_Price) AS Mean, count(*) AS Rows FROM {table} "
    f"WHERE Date BETWEEN '{MONTH[0]}' AND '{MONTH[1]}' GROUP BY Asset"
)


def _start(years: int) -> date:
    """A weekday, on which all series of the lake ``quoted`` have a price."""
    first = date(END.year - years, 10, 30)
    return first - timedelta(days=max(first.weekday() - 4, 0))


# --- statistics ------------------------------------------------------------------------------


def luxor(lake: str, names: list[str], years: int) -> Callable[[], pd.DataFrame]:
    def run() -> pd.DataFrame:
        found = open_lake(lake).statistics(names, _start(years), END, "brl", with_status=True)
        return found[["Statistic", "Asset", "Value"]]

    return run


def polars(lake: str, names: list[str], years: int) -> Callable[[], pl.DataFrame]:
    """The same figures; every series is in USD here, and has a price on every day."""
    import polars as pl

    start, tables = _start(years), Path(lake) / TABLES
    days = (END - start).days
    n = math.sqrt(252)

    def run() -> pl.DataFrame:
        rows = pl.scan_parquet(tables / f"{PRICES}.parquet").filter(pl.col("Date").is_between(start, END))
        rate = rows.filter(pl.col("Asset") == rates.CLEAN).select("Date", rate="Last_Price")
        prices = (
            rows.filter(pl.col("Asset").is_in(names))
            .join(rate, on="Date", maintain_order="left")
            .select("Date", "Asset", p=pl.col("Last_Price") * pl.col("rate"))
            .collect()
        )
        p = pl.col("p")
        r = (p / p.shift(1) - 1).slice(1)
        log = (p.log() - p.log().shift(1)).slice(1)
        whole = p.last() / p.first() - 1
        fall = (p / p.cum_max() - 1).min()
        a_year = (1 + whole) ** (365 / days) - 1
        lowest = int((len(prices) // len(names) - 2) * (1 - 0.95)) + 1
        stats = prices.group_by("Asset", maintain_order=False).agg(
            Return=whole,
            CAGR=a_year,
            Volatility=log.std() * n,
            Sharpe=r.mean() / r.std() * n,
            Sortino=r.mean() / (r.clip(upper_bound=0) ** 2).mean().sqrt() * n,
            Calmar=a_year / -fall,
            Max_Drawdown=fall,
            Skew=r.skew(bias=False),
            Kurtosis=r.kurtosis(bias=False),
            **{"VaR_0.95": r.quantile(0.05, "linear"), "Expected_Shortfall_0.95": r.bottom_k(lowest).mean()},
            Hit_Rate=(r > 0).mean(),
            Observations=r.len().cast(pl.Float64),
        )
        month = pl.col("Date").dt.truncate("1mo")
        last = prices.group_by("Asset", month.alias("month"), maintain_order=True).agg(p.last())
        monthly = last.group_by("Asset").agg(Best_Month=r.max(), Worst_Month=r.min())
        return (
            stats.join(monthly, on="Asset")
            .unpivot(index="Asset", variable_name="Statistic", value_name="Value")
            .select("Statistic", "Asset", "Value")
        )

    return run


# --- correlation -----------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _returns(series: int, days: int, nulls: str) -> pd.DataFrame:
    rng = np.random.default_rng(500)
    values = rng.normal(0, 0.01, (days, series)) + rng.normal(0, 0.01, (days, 1))
    if nulls == "calendars":  # three calendars, and a tenth listed late, at the beginning of a year
        for calendar in range(3):
            closed = rng.choice(days, days // 25, replace=False)
            values[np.ix_(closed, np.arange(calendar, series, 3))] = np.nan
        for late in rng.choice(series, series // 10, replace=False):
            values[: 252 * rng.integers(1, 5), late] = np.nan
    elif nulls == "scattered":
        values[rng.random(values.shape) < 0.02] = np.nan
    return pd.DataFrame(values)


def luxor_correlation(series: int, days: int, nulls: str) -> Callable[[], pd.DataFrame]:
    from luxor_pipelines.analytics.risk import correlation

    frame = _returns(series, days, nulls)
    return lambda: correlation(frame)


def pandas_correlation(series: int, days: int, nulls: str) -> Callable[[], pd.DataFrame]:
    frame = _returns(series, days, nulls)
    return lambda: frame.corr()


def numpy_correlation(series: int, days: int, **_: str) -> Callable[[], Any]:
    values = _returns(series, days, "none").to_numpy()
    return lambda: np.corrcoef(values, rowvar=False)


# --- SQL -------------------------------------------------------------------------------------


def luxor_sql(lake: str) -> Callable[[], Any]:
    return lambda: open_lake(lake).sql(QUERY.format(table=PRICES)).df()


def duckdb_file(lake: str) -> Callable[[], Any]:
    import duckdb

    query = QUERY.format(table=f"read_parquet('{(Path(lake) / TABLES / PRICES).as_posix()}.parquet')")

    def run() -> Any:
        with duckdb.connect() as connection:
            return connection.sql(query).df()

    return run


def cases(lakes: Lakes) -> Iterable[Case]:
    years = min(10, lakes.years - 1)
    arguments = {
        "lake": lakes.local(kind="quoted"),
        "names": [f"asset{n:04d} equity" for n in range(lakes.assets)],
        "years": years,
    }
    yield Case(
        "statistics",
        f"`statistics` of {lakes.assets} assets over {years} years, in BRL",
        [Contender("luxor", "analytics:luxor", arguments), Contender("Polars", "analytics:polars", arguments)],
        [Target("statistics of many assets, in BRL", "luxor", 1.0, "Polars")],
        key=("Statistic", "Asset"),
    )
    series = 500 if lakes.assets >= 500 else 60
    for nulls, what in (
        ("calendars", "of three calendars and late listings"),
        ("scattered", "scattered over 2 % of cells"),
    ):
        shape = {"series": series, "days": 2520, "nulls": nulls}
        contenders = [
            Contender("luxor", "analytics:luxor_correlation", shape),
            Contender("numpy.corrcoef, without nulls", "analytics:numpy_correlation", shape, agrees=None),
            Contender("pandas", "analytics:pandas_correlation", shape),
        ]
        target = Target(f"correlation with nulls {what}", "luxor", 1.5, contenders[1].name)
        yield Case(f"correlation-{nulls}", f"Correlation of {series} × {series}, nulls {what}", contenders, [target])
    for layout, what in (("typed", "one file sorted by date"), ("optimized", "our own layout")):
        contenders = [
            Contender("luxor", "analytics:luxor_sql", {"lake": lakes.local(layout)}),
            Contender("DuckDB", "analytics:duckdb_file", {"lake": lakes.local(layout)}),
        ]
        target = Target(f"sql of a month's aggregate, {what}", "luxor", 1.2, "DuckDB")
        yield Case(f"sql-{layout}", f"SQL: a month's mean of each asset, {what}", contenders, [target], key=("Asset",))
