"""Prices and returns at a sampling frequency: daily, weekly or monthly.

Daily returns lie between a series' consecutive observation days, whatever days those are. Weeks run from
Saturday to Friday and months are the calendar's; a week or month is sampled at its last observation, and
has a return only if the one before it has a sample too.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luxor_pipelines.errors import DataError, UsageError, sample
from luxor_pipelines.market.periods import DateArray, DateLike, as_date, as_days

__all__ = [
    "COVERAGE",
    "DAYS_A_YEAR",
    "FREQUENCIES",
    "YEAR",
    "FloatArray",
    "as_frequency",
    "is_number",
    "price_frame",
    "returns_beside",
    "returns_by_interval",
    "sample_prices",
    "sampled_returns",
    "shortage",
]

FloatArray: TypeAlias = NDArray[np.float64]

FREQUENCIES: Final = {"daily": 252, "weekly": 52, "monthly": 12}
"""Each sampling frequency's periods a year."""

COVERAGE: Final = 0.6
"""Least share of the periods between two dates that a sample must have returns for."""

YEAR: Final = 355
"""Least number of days that are a year, but for the weekends and holidays at their ends."""

DAYS_A_YEAR: Final = 365.25
"""Calendar days, on average."""

_A_FRIDAY = 1  # the day number of 1970-01-02


def as_frequency(frequency: object) -> str:
    """Return ``frequency`` trimmed and in lower case: ``daily``, ``weekly`` or ``monthly``.

    Raises
    ------
    UsageError
        If it is anything else.
    """
    name = frequency.strip().lower() if isinstance(frequency, str) else ""
    if name not in FREQUENCIES:
        raise UsageError(f"{frequency!r} is no sampling frequency", hint=f"Accepted: {', '.join(FREQUENCIES)}.")
    return name


def is_number(value: object, kind: type = Real) -> bool:
    """Return whether ``value`` is a number, of Python's or of numpy's; with `numbers.Integral` a whole one."""
    return isinstance(value, kind)


def price_frame(prices: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """Return prices as a frame of floats sorted by date; a series becomes its one column.

    Raises
    ------
    DataError
        If a date is null or repeated, or a price is negative or infinite.
    """
    frame = prices.to_frame() if isinstance(prices, pd.Series) else prices
    days = as_days(frame.index)
    if np.isnat(days).any():
        raise DataError(f"{np.isnat(days).sum()} prices have no date.", hint="Drop those rows.")
    order = np.argsort(days, kind="stable")
    if (np.diff(order) != 1).any():
        frame, days = frame.iloc[order], days[order]
    repeated = days[1:][days[1:] == days[:-1]]
    if len(repeated):
        raise DataError(
            f"{len(repeated)} dates occur more than once: {sample(repeated.astype(str))}.",
            hint="Keep one row a date; get_prices has one for each date and asset: pivot it.",
        )
    values = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    with np.errstate(invalid="ignore"):
        bad = ((values < 0) | np.isinf(values)).any(axis=0)
    if bad.any():
        raise DataError(
            f"Prices of {sample(frame.columns[bad])} are negative or infinite.",
            hint="A price is a finite number of 0 or more; leave a missing one null.",
        )
    return pd.DataFrame(values, index=_index(days), columns=frame.columns, copy=False)


def sample_prices(
    prices: pd.DataFrame | pd.Series, frequency: str = "daily", *, end: DateLike | None = None
) -> pd.DataFrame:
    """Return the prices sampled at ``frequency``: one row a day observed, or one for every week or month.

    Parameters
    ----------
    end
        The last date that counts; default the last of ``prices``. A week or month that still has a weekday
        after ``end`` is incomplete and has no row.

    Returns
    -------
    DataFrame
        Index: the observation days, or the last days of weeks (Fridays) and months. A week or month in
        which a series was not observed is null.
    """
    name, frame = as_frequency(frequency), price_frame(prices)
    days = as_days(frame.index)
    if end is not None:
        count = int(np.searchsorted(days, np.datetime64(as_date(end), "D"), side="right"))
        frame, days = frame.iloc[:count], days[:count]
    if name == "daily" or not len(days):
        return frame
    until = days[-1] if end is None else np.datetime64(as_date(end), "D")
    last_days = _period_ends(name, days[0], until)
    if not len(last_days):
        return frame.iloc[:0]
    stop = np.searchsorted(days, last_days, side="right")
    start = np.append(0, stop[:-1])
    values = _by_series(frame)
    at = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(values.shape[1]), -1), axis=1)[:, stop - 1]
    sampled = np.where(at >= start, np.take_along_axis(values, at, axis=1), np.nan)
    return pd.DataFrame(sampled.T, index=_index(last_days), columns=frame.columns, copy=False)


def sampled_returns(
    prices: pd.DataFrame | pd.Series, frequency: str = "daily", *, log: bool = False, end: DateLike | None = None
) -> pd.DataFrame:
    """Return the returns between consecutive samples: P(t) / P(t−1) − 1, or with ``log`` ln(P(t) / P(t−1)).

    A null price is no sample: a daily return then spans the days since the last one, while a weekly or
    monthly return is null unless both ends are sampled. A price of 0 ends in a return of −1, and nothing
    can be stated from there on.

    Returns
    -------
    DataFrame
        As `sample_prices`, from its second row on.
    """
    sampled = sample_prices(prices, frequency, end=end)
    growth = _growth(_by_series(sampled), across_gaps=as_frequency(frequency) == "daily")
    with np.errstate(divide="ignore"):
        returns = np.log(growth, out=growth) if log else np.subtract(growth, 1, out=growth)
    return pd.DataFrame(returns.T, index=sampled.index[1:], columns=sampled.columns, copy=False)


def returns_beside(
    prices: pd.DataFrame | pd.Series,
    other: pd.Series,
    frequency: str = "daily",
    *,
    carried: bool = False,
    end: DateLike | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return each series' returns, and those of another over the same days.

    Daily returns are between days on which both have a price.

    Parameters
    ----------
    other
        A benchmark's prices, or the level of an interest index.
    carried
        Whether ``other`` holds its last value on days without one, as an interest index does.

    Returns
    -------
    tuple
        Two frames of one shape, null in the same cells.
    """
    frame, level = price_frame(prices), price_frame(other)
    days = frame.index.union(level.index)
    level = level.reindex(days).ffill() if carried else level.reindex(days)
    if as_frequency(frequency) == "daily":
        own, beside = frame.to_numpy(), level.reindex(frame.index).to_numpy()
        common = np.isfinite(own) & np.isfinite(beside)
        pair = [pd.DataFrame(np.where(common, values, np.nan), frame.index, frame.columns) for values in (own, beside)]
        return sampled_returns(pair[0], end=end), sampled_returns(pair[1], end=end)
    until = frame.index[-1] if end is None and len(frame) else end
    returns = sampled_returns(frame, frequency, end=until)
    beside = sampled_returns(level, frequency, end=until).reindex(returns.index).to_numpy()
    common = np.isfinite(returns.to_numpy()) & np.isfinite(beside)
    return returns.where(common), pd.DataFrame(np.where(common, beside, np.nan), returns.index, returns.columns)


def returns_by_interval(prices: pd.DataFrame | pd.Series, *, end: DateLike | None = None) -> pd.DataFrame:
    """Return daily returns with one row for each interval between two observation days of a series.

    Two returns in a row span the same days. Several rows may end on one date: where a series had a
    holiday and another had none. Intervals that only one series of several has are left out.
    """
    sampled = sample_prices(prices, "daily", end=end)
    values = _by_series(sampled)
    growth = _growth(values, across_gaps=True) - 1
    present = np.isfinite(values)
    day = np.arange(values.shape[1])
    before = np.maximum.accumulate(np.where(present, day, -1), axis=1)[:, :-1]
    returned = np.isfinite(growth)
    longer = returned & (before != day[:-1])
    series, at = np.nonzero(longer)
    rows, index = growth.T, sampled.index[1:]
    if len(at):
        interval, place = np.unique(at * len(day) + before[series, at], return_inverse=True)
        shared = (np.bincount(place) > 1) | (len(values) == 1)
        moved = np.full((len(interval), len(values)), np.nan)
        moved[place, series] = growth[series, at]
        rows = np.vstack([np.where(longer, np.nan, growth).T, moved[shared]])
        index = index.append(index[interval[shared] // len(day)])
    return pd.DataFrame(rows, index=index, columns=sampled.columns)


def shortage(
    counts: NDArray[np.integer[Any]], frequency: str, start: DateLike, end: DateLike, *, whole_year: bool = False
) -> NDArray[np.object_]:
    """Return why samples with these counts of returns do not represent the time from ``start`` to ``end``, or ``ok``.

    ``short``: the time is less than 12 months, and ``whole_year`` asks for them. ``sparse``: fewer than
    `COVERAGE` of the periods have a return, or there are not two.
    """
    first, last = as_date(start), as_date(end)
    expected = FREQUENCIES[as_frequency(frequency)] * (last - first).days / DAYS_A_YEAR
    reasons = np.full(np.shape(counts), "ok", dtype=object)
    reasons[(counts < COVERAGE * expected) | (counts < 2)] = "sparse"
    if whole_year and (last - first).days < YEAR:
        reasons[:] = "short"
    return reasons


def _growth(values: FloatArray, *, across_gaps: bool) -> FloatArray:
    """Return each value over the one before it, [n_series, n_samples − 1]; NaN where either is missing.

    ``across_gaps``: over the last one that is not missing.
    """
    before = values[:, :-1]
    if across_gaps:
        present = np.isfinite(before)
        if not present.all():
            at = np.maximum.accumulate(np.where(present, np.arange(before.shape[1]), 0), axis=1)
            before = np.take_along_axis(before, at, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = values[:, 1:] / before
    growth[before == 0] = np.nan
    return growth


def _by_series(frame: pd.DataFrame) -> FloatArray:
    """Return the cells with a row a series, contiguous: how a frame of one type lies in memory."""
    return np.ascontiguousarray(frame.to_numpy(dtype=np.float64, na_value=np.nan).T)


def _index(days: DateArray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(days.astype("datetime64[us]"), name="Date")


def _period_ends(frequency: str, first: np.datetime64, until: np.datetime64) -> DateArray:
    """Return the last days of the weeks or months from that of ``first`` to the last that ends by ``until``."""
    ends: DateArray
    if frequency == "monthly":
        month = np.timedelta64(1, "M")
        months = np.arange(first.astype("M8[M]"), until.astype("M8[M]") + month)
        ends = np.asarray((months + month).astype("M8[D]") - np.timedelta64(1, "D"), dtype="M8[D]")
    else:
        week, to_friday = np.timedelta64(7, "D"), (_A_FRIDAY - first.astype(np.int64)) % 7
        ends = np.arange(first + np.timedelta64(to_friday, "D"), until + week, week)
    return ends[np.busday_offset(ends, 0, roll="backward") <= until]
