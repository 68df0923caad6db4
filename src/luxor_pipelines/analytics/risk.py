"""Risk of price series: volatility, tracking error, correlation, beta and alpha."""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luxor_pipelines.analytics.sampling import (
    COVERAGE,
    DAYS_A_YEAR,
    FREQUENCIES,
    FloatArray,
    as_frequency,
    is_number,
    price_frame,
    returns_beside,
    returns_by_interval,
    sample_prices,
    sampled_returns,
)
from luxor_pipelines.errors import UsageError, shown
from luxor_pipelines.market.periods import DateLike, as_days

__all__ = [
    "Regression",
    "correlation",
    "period_rate",
    "price_correlation",
    "price_regression",
    "regression",
    "rolling_correlation",
    "rolling_volatility",
    "tracking_error",
    "volatility",
]


def volatility(prices: pd.DataFrame | pd.Series, frequency: str = "daily", *, end: DateLike | None = None) -> pd.Series:
    """Return each series' volatility a year: the standard deviation of log returns times √n.

    σ = std(ln(P(t) / P(t−1)), ddof 1) × √n, with n = 252, 52 or 12 periods a year (Hull, Options, Futures
    and Other Derivatives, "Estimating volatility from historical data"). Missing prices are skipped
    as `sampled_returns` says; with fewer than two returns the volatility is null.
    """
    return _deviation(sampled_returns(prices, frequency, log=True, end=end), frequency)


def rolling_volatility(
    prices: pd.DataFrame | pd.Series, days: int, frequency: str = "monthly", *, end: DateLike | None = None
) -> pd.DataFrame:
    """Return the volatility a year over the calendar ``days`` up to each sample; see `volatility`.

    A window's first return is from the last sample on or before its begin. It is null where the series
    begins later, or has returns for fewer than 60 % of the window's periods, or fewer than two.

    Returns
    -------
    DataFrame
        One row a sample, but for the first.
    """
    if days < 1:
        raise UsageError(f"A window of {days} days", hint="Give 1 or more.")
    name = as_frequency(frequency)
    sampled = sample_prices(prices, name, end=end)
    returns = sampled_returns(sampled, name, log=True)
    if not len(returns):
        return returns
    dates = as_days(sampled.index)
    # The window's returns are those of the rows from base on.
    base = np.searchsorted(dates, dates[1:] - np.timedelta64(days, "D"), side="right") - 1
    values = returns.to_numpy()
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # A window's sums are differences of sums since the first row. Centred, so that little cancels.
        centred = np.where(finite, values - np.where(finite, values, 0).sum(axis=0) / count, 0)
        count, total, squares = (_between(cells, base) for cells in (finite, centred, np.square(centred)))
        variance = np.maximum(squares - total**2 / count, 0) / (count - 1)
    first = np.isfinite(sampled.to_numpy()).argmax(axis=0)
    least = max(2.0, COVERAGE * FREQUENCIES[name] * days / DAYS_A_YEAR)
    whole = (count >= least) & (base[:, np.newaxis] >= first)
    rolled = np.where(whole, np.sqrt(variance * FREQUENCIES[name]), np.nan)
    return pd.DataFrame(rolled, index=returns.index, columns=returns.columns)


def tracking_error(
    prices: pd.DataFrame | pd.Series, benchmark: pd.Series, frequency: str = "daily", *, end: DateLike | None = None
) -> pd.Series:
    """Return each series' tracking error a year: the standard deviation of return differences times √n.

    TE = std(r − r_benchmark, ddof 1) × √n, both returns between days on which both have a price (Grinold
    and Kahn, Active Portfolio Management: active risk). Null with fewer than two such returns.
    """
    own, beside = returns_beside(prices, benchmark, frequency, end=end)
    return _deviation(own - beside, frequency)


def correlation(returns: pd.DataFrame, *, least: int = 2) -> pd.DataFrame:
    """Return the Pearson correlation of each pair of columns, over the rows that both have.

    Null where a pair has fewer than ``least`` rows in common, or one of the two does not vary on them.
    """
    values = returns.to_numpy(dtype=np.float64, na_value=np.nan)
    return pd.DataFrame(_pairwise(values, max(least, 2)), index=returns.columns, columns=returns.columns)


def price_correlation(
    prices: pd.DataFrame, frequency: str = "monthly", *, least: int = 2, end: DateLike | None = None
) -> pd.DataFrame:
    """Return the correlation of the returns of each pair of series: of those that span the same days.

    A daily return counts for a pair if both were last observed on the same day before: after a holiday
    of one of the two it does not. The figure of a pair is the same whatever other series are asked for.
    """
    daily = as_frequency(frequency) == "daily"
    returns = returns_by_interval(prices, end=end) if daily else sampled_returns(prices, frequency, end=end)
    return correlation(returns, least=least)


def rolling_correlation(returns: pd.DataFrame, window: int) -> pd.Series:
    """Return the correlation of two columns over the last ``window`` rows that both have, at each such row.

    The first ``window`` − 1 of them are null.
    """
    if returns.shape[1] != 2:
        raise UsageError(f"{returns.shape[1]} series to correlate over time", hint="Give two.")
    if not is_number(window, Integral) or window < 2:
        raise UsageError(f"A window of {shown(window)} returns", hint="Give a whole number, 2 or more.")
    pairs = returns.dropna()
    return pairs.iloc[:, 0].rolling(window).corr(pairs.iloc[:, 1]).clip(-1, 1).rename("Correlation")


class Regression(NamedTuple):
    """An ordinary least squares fit of excess returns to a benchmark's, one number a series."""

    beta: pd.Series
    alpha: pd.Series
    """Jensen's alpha a year: the intercept times the number of periods a year."""
    beta_error: pd.Series
    alpha_error: pd.Series
    """Standard errors, of the alpha a year too."""
    r_squared: pd.Series
    observations: pd.Series
    """The number of pairs of returns."""

    def to_frame(self) -> pd.DataFrame:
        """Return a row a series: ``Beta``, ``Alpha``, ``Beta_Error``, ``Alpha_Error``, ``R_Squared``, ``Observations``.

        The alphas are a year's.
        """
        names = ("Beta", "Alpha", "Beta_Error", "Alpha_Error", "R_Squared", "Observations")
        return pd.DataFrame(dict(zip(names, self, strict=True)))


def regression(
    returns: pd.DataFrame, benchmark: pd.DataFrame, frequency: str, *, risk_free: pd.DataFrame | float = 0.0
) -> Regression:
    """Return beta and Jensen's alpha of each series, with standard errors.

    r − f = α + β (b − f) + ε by ordinary least squares, α reported a year, α × n. Standard errors are the
    classical ones, of uncorrelated residuals of one variance (Greene, Econometric Analysis, chapter 4).

    Parameters
    ----------
    returns, benchmark
        Returns over the same periods, of one shape (see `returns_beside`); rows with a null count for neither.
    risk_free
        A rate a year, or returns of the same shape.

    Returns
    -------
    Regression
        Null where there are fewer than three pairs, or the benchmark does not vary.
    """
    n = FREQUENCIES[as_frequency(frequency)]
    free = period_rate(risk_free, frequency) if isinstance(risk_free, float | int) else risk_free.to_numpy()
    y, x = returns.to_numpy() - free, benchmark.to_numpy() - free
    common = np.isfinite(x) & np.isfinite(y)
    count = common.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = [np.where(common, series, 0).sum(axis=0) / count for series in (x, y)]
        dx, dy = (np.where(common, series - mean, 0) for series, mean in zip((x, y), means, strict=True))
        xx, yy, xy = (dx**2).sum(axis=0), (dy**2).sum(axis=0), (dx * dy).sum(axis=0)
        fitted = (count >= 3) & (xx > _ROUNDING * count * np.maximum(means[0] ** 2, 1e-300))
        beta = np.where(fitted, xy / xx, np.nan)
        alpha = means[1] - beta * means[0]
        residual = np.maximum(yy - beta * xy, 0) / (count - 2)
        beta_error = np.sqrt(residual / xx)
        alpha_error = np.sqrt(residual * (1 / count + means[0] ** 2 / xx))
        r_squared = np.where(yy > 0, beta * xy / yy, np.nan)
    numbers = (beta, alpha * n, beta_error, alpha_error * n, r_squared, count)
    columns = [np.where(fitted, series, np.nan) for series in numbers[:-1]]
    return Regression(*(pd.Series(series, index=returns.columns) for series in (*columns, count)))


def price_regression(
    prices: pd.DataFrame,
    benchmark: pd.Series,
    frequency: str = "daily",
    *,
    risk_free: float | pd.Series = 0.0,
    end: DateLike | None = None,
) -> Regression:
    """Return `regression` of the returns of prices, each series' and the benchmark's over the same days.

    Parameters
    ----------
    risk_free
        A rate a year, or the level of an interest index, held from its last value on.
    """
    own, beside = returns_beside(prices, benchmark, frequency, end=end)
    if not isinstance(risk_free, pd.Series):
        return regression(own, beside, frequency, risk_free=risk_free)
    frame = price_frame(prices)
    if as_frequency(frequency) == "daily":  # the returns are those between days on which the benchmark has a price
        frame = frame[frame.index.isin(price_frame(benchmark).dropna().index)]
    free = returns_beside(frame, risk_free, frequency, carried=True, end=end)[1]
    return regression(own, beside, frequency, risk_free=free.reindex(own.index))


def period_rate(rate: float, frequency: str) -> float:
    """Return a rate a year as one a period, (1 + rate)^(1/n) − 1."""
    if not rate > -1:
        raise UsageError(f"A rate of {rate} a year", hint="Give a fraction above -1: 0.05 is 5 %.")
    return float((1 + rate) ** (1 / FREQUENCIES[as_frequency(frequency)]) - 1)


_ROUNDING = 1e-24
"""Share of a sample's squares below which its variance is rounding and nothing else."""
_ROUNDING_OF_SUMS = 1e-14
"""Share of the squares of a whole column below which those of some of its rows are rounding."""


def _between(values: NDArray[Any], base: NDArray[np.int64]) -> FloatArray:
    """Return the sum of each column's rows from ``base`` on, up to each row."""
    sums = np.vstack([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0, dtype=np.float64)])
    return sums[1:] - sums[np.maximum(base, 0)]


def _deviation(returns: pd.DataFrame, frequency: str) -> pd.Series:
    """Return the standard deviation a year of each column, ddof 1; null with fewer than two finite cells."""
    values = returns.to_numpy()
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(finite, values, 0).sum(axis=0) / count
        variance = (np.where(finite, values - mean, 0) ** 2).sum(axis=0) / (count - 1)
    a_year = np.sqrt(variance * FREQUENCIES[as_frequency(frequency)])
    return pd.Series(np.where(count >= 2, a_year, np.nan), index=returns.columns)


def _pairwise(values: FloatArray, least: int) -> FloatArray:
    """Return the correlations of the columns over common rows, null with fewer of these than ``least``.

    Columns with nulls in the same rows share one mask, so that series of one calendar and one first day
    cost what series without nulls do.
    """
    present = np.isfinite(values)
    whole = bool(present.all())
    count = present.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Centred on each column's own mean: what the mean of common rows differs from it by is small.
        centred = np.array(values) if whole else np.where(present, values, 0)
        centred -= centred.sum(axis=0) / count
        if not whole:
            centred[~present] = 0
        together = centred.T @ centred
        own = together.diagonal()[:, np.newaxis]
        squares = np.broadcast_to(own, together.shape)
        common = np.broadcast_to(count, together.shape)
        if not whole:
            mask_of, first = _alike(present)
            masks = present[:, first].astype(np.float64)
            common = (masks.T @ masks)[np.ix_(mask_of, mask_of)]
            total = (centred.T @ masks)[:, mask_of]  # of the row's series, over the column's rows
            squares = (np.square(centred).T @ masks)[:, mask_of] - total**2 / common
            together -= total * total.T / common
        varies = squares > _ROUNDING_OF_SUMS * own
        correlations = together / np.sqrt(squares * squares.T)
    correlations = np.where((common >= least) & varies & varies.T, np.clip(correlations, -1, 1), np.nan)
    np.fill_diagonal(correlations, np.where(np.isnan(correlations.diagonal()), np.nan, 1.0))
    return correlations


def _alike(present: NDArray[np.bool_]) -> tuple[NDArray[np.int64], list[int]]:
    """Number the distinct columns: each column's number, and the first column of each."""
    numbers: dict[bytes, int] = {}
    of_column: list[int] = []
    first: list[int] = []
    for column, packed in enumerate(np.packbits(present.T, axis=1)):
        number = numbers.setdefault(packed.tobytes(), len(numbers))
        if number == len(first):
            first.append(column)
        of_column.append(number)
    return np.array(of_column, dtype=np.int64), first
