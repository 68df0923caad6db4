"""Composite benchmarks: levels of weighted legs that are reset to their weights at times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luxor_pipelines.analytics.sampling import FloatArray, price_frame
from luxor_pipelines.errors import DataError, UsageError, sample, shown
from luxor_pipelines.market.periods import DateArray, as_days
from luxor_pipelines.names import normal_name

__all__ = ["REBALANCES", "as_weights", "composite"]

REBALANCES: Final = ("monthly", "daily", "quarterly", "none")
"""When the legs are reset to their weights: at ends of calendar months or quarters, each day, never."""


def as_weights(legs: Mapping[str, float]) -> dict[str, float]:
    """Return the weights of legs by name, in its normal form.

    Raises
    ------
    UsageError
        If there are no legs, a weight is no finite number, two names are the same, or the weights do not add up to 1.
    """
    try:
        weights = {normal_name(str(name)): float(weight) for name, weight in legs.items()}
    except (AttributeError, TypeError, ValueError):
        weights = {}
    if not weights or len(weights) < len(legs) or not np.isfinite(list(weights.values())).all():
        raise UsageError(f"{shown(legs)} are no legs and weights", hint="Give a weight for each of some tickers.")
    total = sum(weights.values())
    if abs(total - 1) > 1e-9:
        raise UsageError(f"The weights of {sample(weights)} add up to {total:.6g}", hint="They are fractions of 1.")
    return weights


def composite(prices: pd.DataFrame, legs: Mapping[str, float], rebalance: str = "monthly") -> pd.Series:
    """Return the level of a composite on each date, 1 on the first one.

    With b the last reset before t, L(t) = L(b) × Σ w × P(t) / P(b). The first base is the first date;
    the weights drift from one reset to the next.

    Parameters
    ----------
    prices
        A column a leg, in one currency, and a row for each date wanted and for each reset: as `get_prices`
        gives them, carried forward. A month or quarter without a row at its end is reset at its last row.
    legs
        The weight of each leg; they add up to 1. A negative one is borrowed.
    rebalance
        One of `REBALANCES`.

    Returns
    -------
    Series
        Null on dates on which a leg has no price.

    Raises
    ------
    DataError
        A leg has no price, or a price of 0, at a reset: on the first date above all.
    """
    weights = as_weights(legs)
    missing = [leg for leg in weights if leg not in prices.columns]
    if missing:
        raise DataError(f"There are no prices of {sample(missing)}.", hint="Check the tickers of the legs.")
    frame = price_frame(prices[list(weights)])
    days, values = as_days(frame.index), frame.to_numpy()
    if not len(days):
        raise DataError("There are no prices of the legs.", hint="Check the dates.")
    base = _bases(days, rebalance)
    resets = np.unique(base)
    for row in resets:
        without = [leg for leg, price in zip(weights, values[row], strict=True) if not price > 0]
        if without:
            raise DataError(
                f"A composite of {sample(weights)} has no base on {days[row]}: no price of {sample(without)}.",
                hint="Begin where all legs have prices.",
            )
    growth: FloatArray = (values / values[base]) @ np.array(list(weights.values()))
    level = np.ones(len(resets))
    if len(resets) > 1:
        level[1:] = np.cumprod(growth[resets[1:]])
    return pd.Series(growth * level[np.searchsorted(resets, base)], index=frame.index, name="Benchmark")


def _bases(days: DateArray, rebalance: str) -> NDArray[np.int64]:
    """Return, for each date, the row of the last reset before it; for the first row that row itself."""
    name = str(rebalance).strip().lower()
    if name not in REBALANCES:
        raise UsageError(f"{rebalance!r} is no rule to rebalance by", hint=f"Accepted: {', '.join(REBALANCES)}.")
    row = np.arange(len(days))
    if name == "none":
        return np.zeros_like(row)
    if name == "daily":
        return np.maximum(row - 1, 0)
    month = days.astype("datetime64[M]").astype(np.int64)
    period = month if name == "monthly" else month // 3
    # The last row of an earlier period; in the first period the first row.
    return np.maximum(np.searchsorted(period, period, side="left") - 1, 0)
