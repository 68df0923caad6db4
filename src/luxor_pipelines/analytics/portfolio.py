"""A portfolio that is bought once and held, net of fees."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from luxor_pipelines.analytics.composites import as_weights, composite
from luxor_pipelines.analytics.sampling import is_number
from luxor_pipelines.errors import UsageError, shown
from luxor_pipelines.market.periods import as_days

__all__ = ["simulate"]


def simulate(
    prices: pd.DataFrame, weights: Mapping[str, float], adm_fee: float = 0.0, performance_fee: float = 0.0
) -> pd.Series:
    """Return what 1 invested on the first date in assets of these weights, and left alone, is worth.

    V(t) = V(t−1) × Σ w(t−1) × P(t) / P(t−1), where the weights w drift with the prices and add up to 1
    before and after: the same as Σ w(0) × P(t) / P(0). The administration fee takes (1 + fee)^(1/365) − 1 of that each
    calendar day; the performance fee takes its share of what is left above 1.

    Parameters
    ----------
    prices
        A column an asset, in one currency, a row for each date wanted, carried forward.
    weights
        The weight of each asset; they add up to 1.
    adm_fee
        The administration fee a year, a fraction of the assets.
    performance_fee
        The fraction of the gain that is due if the portfolio were sold on the date.

    Returns
    -------
    Series
        Growth factors, 1 on the first date; null on dates on which an asset has no price.

    Raises
    ------
    DataError
        An asset has no price on the first date.
    """
    if not all(is_number(fee) and 0 <= fee < 1 for fee in (adm_fee, performance_fee)):
        raise UsageError(
            f"Fees of {shown(adm_fee)} a year and {shown(performance_fee)} of the gain",
            hint="Give fractions: 0.02 is 2 %.",
        )
    gross = composite(prices, as_weights(weights), "none")
    age = (as_days(gross.index) - as_days(gross.index)[0]).astype(np.float64)
    daily = (1 + adm_fee) ** (1 / 365) - 1
    net = gross.to_numpy() * (1 - daily) ** age
    net -= performance_fee * np.maximum(net - 1, 0)
    return pd.Series(net, index=gross.index, name="Performance")
