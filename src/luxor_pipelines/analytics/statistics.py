"""The table of statistics: one row a statistic, one column an asset.

`STATISTICS` has each with its formula. Returns r are those of the sampling frequency, n its periods a
year, f the risk-free return of the same days, b the benchmark's.
"""

from __future__ import annotations

from datetime import date
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luxor_pipelines.analytics.drawdowns import max_drawdown
from luxor_pipelines.analytics.risk import period_rate, price_regression, regression
from luxor_pipelines.analytics.sampling import (
    FREQUENCIES,
    YEAR,
    FloatArray,
    as_frequency,
    is_number,
    price_frame,
    returns_beside,
    sampled_returns,
    shortage,
)
from luxor_pipelines.errors import UsageError, shown
from luxor_pipelines.market.periods import DateLike, as_date, as_days

__all__ = ["RELATIVE", "STATISTICS", "Statistics", "annualized", "statistics"]

STATISTICS: Final = {
    "Return": "P(end) / P(start) − 1",
    "CAGR": "(1 + Return)^(365 / days) − 1",
    "Volatility": "std(ln(1 + r)) × √n",
    "Sharpe": "mean(r − f) / std(r − f) × √n",
    "Sortino": "mean(r − f) / √mean(min(r − f, 0)²) × √n",
    "Calmar": "CAGR / −Max_Drawdown",
    "Max_Drawdown": "lowest P(t) / max P(s ≤ t) − 1, of all prices observed",
    "Skew": "√(k(k − 1)) / (k − 2) × m₃ / m₂^1.5, of k returns with central moments m",
    "Kurtosis": "(k − 1) / ((k − 2)(k − 3)) × ((k + 1)(m₄ / m₂² − 3) + 6): 0 for a normal distribution",
    "VaR": "the 1 − level quantile of r, between two returns linear: a loss is negative",
    "Expected_Shortfall": "mean of the ⌊(k − 1)(1 − level)⌋ + 1 lowest r: those up to VaR",
    "Best_Month": "highest return of a whole calendar month",
    "Worst_Month": "lowest return of a whole calendar month",
    "Hit_Rate": "share of r above 0",
}
"""Statistics of a series by itself. Standard deviations have ddof 1."""

RELATIVE: Final = {
    "Beta": "cov(r − f, b − f) / var(b − f)",
    "Alpha": "(mean(r − f) − Beta × mean(b − f)) × n, Jensen's",
    "Correlation": "corr(r, b)",
    "Tracking_Error": "std(r − b) × √n",
    "Information_Ratio": "mean(r − b) / std(r − b) × √n",
    "Up_Capture": "the return a year of r over that of b, both over the periods with b > 0",
    "Down_Capture": "the same over the periods with b < 0",
}
"""Statistics beside a benchmark, over the days that both have."""

_LENGTHS: Final = ("Observations",)
_STATED: Final = ["ok", "carried"]
_ROUNDING = 1e-24  # share of a squared mean below which a variance is rounding
_AT_ENDS = 10  # days within which the first and the last price of a series speak for the dates asked for


class Statistics(NamedTuple):
    """Numbers and what can be said of them, two frames of one shape."""

    values: pd.DataFrame
    """One row a statistic, one column an asset; null where it cannot be stated."""
    status: pd.DataFrame
    """``ok``, or why not: a status of the return, ``short``, ``sparse`` or ``undefined`` (see `statistics`)."""

    def to_long(self) -> pd.DataFrame:
        """Return one row a statistic and asset: ``Statistic``, ``Asset``, ``Value``, ``Status``."""
        rows, columns = self.values.shape
        return pd.DataFrame(
            {
                "Statistic": pd.Series(np.repeat(self.values.index.to_numpy(dtype=object), columns), dtype="str"),
                "Asset": pd.Series(list(map(str, self.values.columns)) * rows, dtype="str"),
                "Value": self.values.to_numpy().ravel(),
                "Status": pd.Series(self.status.to_numpy(dtype=object).ravel(), dtype="str"),
            }
        )


def statistics(
    prices: pd.DataFrame | pd.Series,
    frequency: str = "daily",
    *,
    benchmark: pd.Series | None = None,
    risk_free: float | pd.Series = 0.0,
    level: float = 0.95,
    start: DateLike | None = None,
    end: DateLike | None = None,
    returns: pd.DataFrame | None = None,
) -> Statistics:
    """Return the statistics of each series.

    Parameters
    ----------
    prices
        Prices observed, the base price at ``start`` included.
    frequency
        ``daily``, ``weekly`` or ``monthly``: how returns are sampled, and what makes them yearly.
    benchmark
        Prices to compare with, which add the rows of `RELATIVE`.
    risk_free
        A rate a year, or the level of an interest index, held from its last value on.
    level
        Of VaR and expected shortfall; it is in their rows' names.
    start, end
        The dates the figures are to represent; default those of the first and the last price of all.
    returns
        ``Return`` and ``Status`` over the whole time of each asset, where they are known better than by
        its first and last price: as `market.returns` states them.

    Returns
    -------
    Statistics
        A statistic is null with the status

        * of the return, where that cannot be stated, or ``no_base`` or ``no_end`` where the prices do not
          reach from ``start`` to ``end``: `Return`, `CAGR`, `Calmar` and `Max_Drawdown`;
        * ``short``: the dates are less than 12 months apart (`Return` and `Max_Drawdown` are stated);
        * ``sparse``: fewer than 60 % of the sampling's periods have a return: a fund marked once a month has
          no daily figures;
        * ``undefined``: the formula has no value, as a Sharpe ratio of returns that do not vary.
    """
    name = as_frequency(frequency)
    if not (is_number(level) and 0.5 < level < 1):
        raise UsageError(f"A level of {shown(level)} for value at risk", hint="Give 0.95 or 0.99.")
    frame = price_frame(prices)
    rows = [*STATISTICS, *(RELATIVE if benchmark is not None else ()), *_LENGTHS]
    rows = [f"{row}_{level:.4g}" if row in ("VaR", "Expected_Shortfall") else row for row in rows]
    if not len(frame) or not len(frame.columns):
        empty = pd.DataFrame(np.nan, index=pd.Index(rows, name="Statistic"), columns=frame.columns)
        return Statistics(empty, empty.astype("str").where(empty.notna(), "no_end"))
    first = frame.index[0].date() if start is None else as_date(start)
    last = frame.index[-1].date() if end is None else as_date(end)
    days = (last - first).days

    whole, whole_status = _whole(frame, first, last, returns)
    values: dict[str, FloatArray] = {"Return": whole}
    status: dict[str, NDArray[np.object_]] = {"Return": whole_status}
    values["Max_Drawdown"] = max_drawdown(frame).to_numpy()
    values["CAGR"] = annualized(whole, days) if days else np.full(len(whole), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        values["Calmar"] = values["CAGR"] / -values["Max_Drawdown"]
    status["Max_Drawdown"] = whole_status
    short = np.isin(whole_status, _STATED) & (days < YEAR)
    status["CAGR"] = status["Calmar"] = np.where(short, "short", whole_status)

    sampled = sampled_returns(frame, name, end=last)
    packed, count = _packed(sampled)
    reasons = shortage(count, name, first, last, whole_year=True)
    own = _moments(packed, count, level)
    ratios, excess_count = _ratios(frame, sampled, name, risk_free, last)
    months = sampled if name == "monthly" else sampled_returns(frame, "monthly", end=last)
    highest, lowest, month_count = _extremes(months)
    own |= {"Best_Month": highest, "Worst_Month": lowest}
    own["Volatility"] *= np.sqrt(FREQUENCIES[name])
    values |= own | ratios
    status |= dict.fromkeys(own, reasons)
    status |= dict.fromkeys(ratios, shortage(excess_count, name, first, last, whole_year=True))
    status["Best_Month"] = status["Worst_Month"] = shortage(month_count, "monthly", first, last, whole_year=True)

    if benchmark is not None:
        beside, pairs = _beside(frame, benchmark, name, risk_free, last)
        values |= beside
        status |= {row: shortage(pairs[row], name, first, last, whole_year=True) for row in beside}
    values["Observations"], status["Observations"] = count.astype(np.float64), np.full(len(count), "ok", dtype=object)

    names = [row.rsplit("_", 1)[0] if row.startswith(("VaR", "Expected_Shortfall")) else row for row in rows]
    index = pd.Index(rows, name="Statistic")
    numbers = np.array([values[row] for row in names])
    words = np.array([status[row] for row in names], dtype=object)
    words[np.isin(words, _STATED) & ~np.isfinite(numbers)] = "undefined"
    numbers[~np.isin(words, _STATED)] = np.nan
    return Statistics(
        pd.DataFrame(numbers, index=index, columns=frame.columns),
        pd.DataFrame(words, index=index, columns=frame.columns),
    )


def annualized(returns: FloatArray, days: float | FloatArray) -> FloatArray:
    """Return (1 + R)^(365 / days) − 1, the return a year of a cumulative return over ``days``."""
    with np.errstate(invalid="ignore"):
        return np.asarray((1 + returns) ** (365 / days) - 1, dtype=np.float64)


def _whole(
    frame: pd.DataFrame, first: date, last: date, returns: pd.DataFrame | None
) -> tuple[FloatArray, NDArray[np.object_]]:
    """Compute the return over the whole time, and its status."""
    if returns is not None:
        rows = returns.reindex(frame.columns)
        return rows["Return"].to_numpy(dtype=np.float64), rows["Status"].to_numpy(dtype=object)
    values = frame.to_numpy()
    present = np.isfinite(values)
    column = np.arange(values.shape[1])
    begin, stop = present.argmax(axis=0), len(values) - 1 - present[::-1].argmax(axis=0)
    days = as_days(frame.index)
    status = np.full(values.shape[1], "ok", dtype=object)
    late = (days[begin] - np.datetime64(first, "D")).astype(np.int64) > _AT_ENDS
    status[late | (values[begin, column] == 0)] = "no_base"
    status[(np.datetime64(last, "D") - days[stop]).astype(np.int64) > _AT_ENDS] = "stale_end"
    status[~present.any(axis=0)] = "no_end"
    with np.errstate(divide="ignore", invalid="ignore"):
        return values[stop, column] / values[begin, column] - 1, status


def _packed(returns: pd.DataFrame) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return a row a series, its finite returns from the left on and nulls at the right; and their numbers."""
    values = np.ascontiguousarray(returns.to_numpy().T)
    present = np.isfinite(values)
    count = present.sum(axis=1)
    if present.all():
        return values, count
    packed = np.full((len(values), int(count.max(initial=0))), np.nan)
    packed[np.arange(packed.shape[1]) < count[:, np.newaxis]] = values[present]
    return packed, count


def _moments(packed: FloatArray, count: NDArray[np.int64], level: float) -> dict[str, FloatArray]:
    """Return the statistics that need only the returns; the volatility is not yet that of a year."""
    n = count.astype(np.float64)
    whole = bool((count == packed.shape[1]).all())
    present = np.arange(packed.shape[1]) < count[:, np.newaxis]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = _sum(packed, present, whole) / n
        off = packed - mean[:, np.newaxis]
        if not whole:
            off[~present] = 0
        square = off * off
        m2, m3, m4 = (sums / n for sums in (square.sum(1), (square * off).sum(1), (square * square).sum(1)))
        varies = m2 > _ROUNDING * mean**2
        skew = np.sqrt(n * (n - 1)) / (n - 2) * m3 / m2**1.5
        kurtosis = (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * (m4 / m2**2 - 3) + 6)
        log = np.log1p(packed)
        log -= (_sum(log, present, whole) / n)[:, np.newaxis]
        if not whole:
            log[~present] = 0
        deviation = np.sqrt((log * log).sum(1) / (n - 1))
        hits = (packed > 0).sum(1) / n
    var, shortfall = _tail(packed, count, 1 - level)
    return {
        "Volatility": deviation,
        "Skew": np.where(varies & (n > 2), skew, np.nan),
        "Kurtosis": np.where(varies & (n > 3), kurtosis, np.nan),
        "VaR": var,
        "Expected_Shortfall": shortfall,
        "Hit_Rate": hits,
    }


def _sum(packed: FloatArray, present: NDArray[np.bool_], whole: bool) -> FloatArray:
    total = packed.sum(1) if whole else packed.sum(1, where=present)
    return np.asarray(total, dtype=np.float64)


def _tail(packed: FloatArray, count: NDArray[np.int64], share: float) -> tuple[FloatArray, FloatArray]:
    """Return the quantile of each row, between two values linear, and the mean of the values up to it."""
    if not packed.shape[1]:
        return np.full(len(packed), np.nan), np.full(len(packed), np.nan)
    place = (np.maximum(count, 1) - 1) * share
    below = np.floor(place).astype(np.int64)
    most = min(int(below.max(initial=0)) + 1, packed.shape[1] - 1)
    lowest = np.sort(np.partition(packed, most, axis=1)[:, : most + 1], axis=1)  # nulls sort last
    row = np.arange(len(packed))
    low, high = lowest[row, below], lowest[row, np.minimum(below + 1, most)]
    part = place - below
    quantile = np.where(part > 0, low + (high - low) * part, low)
    sums = np.where(np.arange(most + 1) <= below[:, np.newaxis], lowest, 0).sum(axis=1)
    present = count > 0
    return np.where(present, quantile, np.nan), np.where(present, sums / (below + 1), np.nan)


def _ratios(
    frame: pd.DataFrame, returns: pd.DataFrame, frequency: str, risk_free: float | pd.Series, end: date
) -> tuple[dict[str, FloatArray], NDArray[np.int64]]:
    """Return Sharpe and Sortino ratios, and the numbers of returns that have a risk-free one beside."""
    excess, _ = _packed(_excess(frame, returns, frequency, risk_free, end))
    present = np.isfinite(excess)
    n = present.sum(axis=1)
    root = np.sqrt(FREQUENCIES[frequency])
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(present, excess, 0)
        mean = values.sum(1) / n
        off = np.where(present, excess - mean[:, np.newaxis], 0)
        variance = (off * off).sum(1) / (n - 1)
        variance = np.where(variance > _ROUNDING * mean**2, variance, np.nan)
        losses = np.minimum(values, 0)
        downside = (losses * losses).sum(1) / n
        sortino = np.where(downside > 0, mean / np.sqrt(downside), np.nan)
        return {"Sharpe": mean / np.sqrt(variance) * root, "Sortino": sortino * root}, n


def _excess(
    frame: pd.DataFrame, returns: pd.DataFrame, frequency: str, risk_free: float | pd.Series, end: date
) -> pd.DataFrame:
    """Return returns less the risk-free ones of the same days."""
    if isinstance(risk_free, pd.Series):
        own, free = returns_beside(frame, risk_free, frequency, carried=True, end=end)
        return own - free
    return returns - period_rate(risk_free, frequency)


def _extremes(returns: pd.DataFrame) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Return the highest and the lowest return of each column, and how many there are."""
    values = returns.to_numpy()
    present = np.isfinite(values)
    highest = np.where(present, values, -np.inf).max(axis=0, initial=-np.inf)
    lowest = np.where(present, values, np.inf).min(axis=0, initial=np.inf)
    return highest, lowest, present.sum(axis=0)


def _beside(
    frame: pd.DataFrame, benchmark: pd.Series, frequency: str, risk_free: float | pd.Series, end: date
) -> tuple[dict[str, FloatArray], dict[str, NDArray[np.int64]]]:
    """Return statistics beside a benchmark, and the numbers of returns that each rests on."""
    n = FREQUENCIES[frequency]
    own, other = returns_beside(frame, benchmark, frequency, end=end)
    r, b = own.to_numpy(), other.to_numpy()
    common = np.isfinite(r) & np.isfinite(b)
    count = common.sum(axis=0)
    fit = price_regression(frame, benchmark, frequency, risk_free=risk_free, end=end)
    with np.errstate(divide="ignore", invalid="ignore"):
        active = np.where(common, r - b, 0)
        mean = active.sum(0) / count
        off = np.where(common, active - mean, 0)
        variance = (off * off).sum(0) / (count - 1)
        ratio = mean / np.sqrt(np.where(variance > _ROUNDING * mean**2, variance, np.nan))
    alone = regression(own, other, frequency)
    values = {
        "Beta": fit.beta.to_numpy(),
        "Alpha": fit.alpha.to_numpy(),
        "Correlation": np.sign(alone.beta.to_numpy()) * np.sqrt(alone.r_squared.to_numpy()),
        "Tracking_Error": np.sqrt(variance * n),
        "Information_Ratio": ratio * np.sqrt(n),
        "Up_Capture": _capture(r, b, common & (b > 0), n),
        "Down_Capture": _capture(r, b, common & (b < 0), n),
    }
    fitted = fit.observations.to_numpy()
    return values, {name: fitted if name in ("Beta", "Alpha") else count for name in values}


def _capture(r: FloatArray, b: FloatArray, periods: NDArray[np.bool_], n: int) -> FloatArray:
    """Divide the return a year of one by that of the other, in some of the periods."""
    count = periods.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = [np.where(periods, np.log1p(np.maximum(returns, -1)), 0).sum(0) for returns in (r, b)]
        own, other = (np.expm1(returns * n / count) for returns in growth)
        return np.asarray(np.where(count > 0, own / other, np.nan), dtype=np.float64)
