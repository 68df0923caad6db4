"""Drawdowns: how far prices lie below their highest so far."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import pandas as pd

from luxor_pipelines.analytics.sampling import FloatArray, is_number, price_frame
from luxor_pipelines.errors import UsageError, shown

__all__ = ["drawdowns", "max_drawdown", "previous_peaks", "worst_drawdowns"]


def previous_peaks(prices: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """Return the highest price of each series up to each date, null before its first price."""
    frame = price_frame(prices)
    return pd.DataFrame(_peaks(frame.to_numpy()), frame.index, frame.columns)


def drawdowns(prices: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """Return P(t) / max P(s ≤ t) − 1 at each date: 0 at a peak, else negative; null where the price is.

    The peak is looked for from the first date given on.
    """
    frame = price_frame(prices)
    values = frame.to_numpy()
    return pd.DataFrame(_below(values, _peaks(values)), frame.index, frame.columns)


def max_drawdown(prices: pd.DataFrame | pd.Series) -> pd.Series:
    """Return the lowest of `drawdowns` of each series, null for one without prices."""
    frame = price_frame(prices)
    values = frame.to_numpy()
    below = _below(values, _peaks(values))
    lowest = np.where(np.isnan(below), np.inf, below).min(axis=0, initial=np.inf)
    return pd.Series(np.where(np.isinf(lowest), np.nan, lowest), index=frame.columns)


def worst_drawdowns(prices: pd.DataFrame | pd.Series, n: int = 5) -> pd.DataFrame:
    """Return the ``n`` deepest drawdowns of each series, deepest first.

    A drawdown lasts from a peak to the first date on which that price is reached again. Among equal peak prices
    the last one counts, among equal troughs the first.

    Returns
    -------
    DataFrame
        ``Asset``, ``Rank`` (from 1), ``Drawdown`` (a negative fraction), ``Peak``, ``Trough``, ``Recovery``
        (dates; the last is null where the peak has not been reached again), ``Days`` (calendar days from the
        peak to the recovery or, without one, to the last price), ``Days_Down`` (to the trough).
    """
    if not is_number(n, Integral) or n < 1:
        raise UsageError(f"The {shown(n)} worst drawdowns", hint="Give a whole number, 1 or more.")
    frame = price_frame(prices)
    tables = [_episodes(str(name), frame.iloc[:, at].dropna(), n) for at, name in enumerate(frame.columns)]
    return pd.concat(tables, ignore_index=True) if tables else _episodes("", pd.Series(dtype=np.float64), n)


def _episodes(name: str, prices: pd.Series, n: int) -> pd.DataFrame:
    """Return the ``n`` deepest drawdowns of one series; columns as of `worst_drawdowns`."""
    values, days = prices.to_numpy(), pd.DatetimeIndex(prices.index).as_unit("us")
    at_peak = values >= np.maximum.accumulate(values) if len(values) else np.zeros(0, dtype=bool)
    peak = np.flatnonzero(at_peak)
    stop = np.append(peak[1:], len(values))  # the next peak, where it is reached again
    under = stop - peak > 1
    peak, stop = peak[under], stop[under]
    trough = np.array([a + 1 + values[a + 1 : b].argmin() for a, b in zip(peak, stop, strict=True)], dtype=np.int64)
    depth = values[trough] / values[peak] - 1
    order = np.argsort(depth, kind="stable")[:n]
    peak, stop, trough, depth = peak[order], stop[order], trough[order], depth[order]
    recovered = stop < len(values)
    last = np.minimum(stop, len(values) - 1)
    return pd.DataFrame(
        {
            "Asset": pd.Series([name] * len(order), dtype="str"),
            "Rank": np.arange(1, len(order) + 1),
            "Drawdown": depth,
            "Peak": days[peak],
            "Trough": days[trough],
            "Recovery": days[last].where(recovered),
            "Days": (days[last] - days[peak]).days,
            "Days_Down": (days[trough] - days[peak]).days,
        }
    )


def _peaks(values: FloatArray) -> FloatArray:
    highest = np.maximum.accumulate(np.where(np.isnan(values), -np.inf, values), axis=0)
    return np.where(np.isinf(highest), np.nan, highest)


def _below(values: FloatArray, peaks: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        # A highest of 0 so far leaves nothing to lose.
        return np.where(peaks == 0, values, values / peaks - 1)
