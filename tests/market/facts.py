"""The market's functions with the firm's facts, which the catalogue has, as arguments."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from luxor_pipelines.catalog import CURRENCY_FACTS, PRICE_TABLES, USDBRL, age_limits
from luxor_pipelines.market import currency, observations, prices
from luxor_pipelines.market.returns import Returns, returns
from luxor_pipelines.settings import Settings

LIMITS = age_limits(Settings())
BY_TABLE = {table.name: table for table in PRICE_TABLES}

apply_overrides = partial(prices.apply_overrides, limits=LIMITS)
merge_observations = partial(observations.merge_observations, tables=PRICE_TABLES, limits=LIMITS)
rate_series = partial(currency.rate_series, usdbrl_ticker=USDBRL, facts=CURRENCY_FACTS)
rates_asof = partial(currency.rates_asof, usdbrl_ticker=USDBRL, facts=CURRENCY_FACTS, limit=LIMITS.days("traded"))
series_currency = partial(currency.series_currency, facts=CURRENCY_FACTS)


def brl_per_usd(
    clean_dates: Any, clean_values: Any, spot_dates: Any, spot_values: Any, dates: Any, limit: int | None = None
) -> Any:
    """BRL per USD out of the two series alone, and whether there is a rate."""
    chosen, spot = rate_series("brl")
    table = BY_TABLE["hist_px_last"]
    parts = [
        (table, np.full(len(days), code), days, values)
        for code, (days, values) in enumerate([(clean_dates, clean_values), (spot_dates, spot_values)])
    ]
    options = {} if limit is None else {"limit": limit}
    rates = rates_asof(merge_observations([chosen, spot], parts), {"brl"}, dates, **options)["brl"]
    return rates, np.isfinite(rates)


def point_returns(
    obs: observations.Observations,
    ref: Any,
    base_dates: Any,
    *,
    currencies: Any = None,
    dest: str = "local",
    rate_obs: observations.Observations | None = None,
    **options: Any,
) -> Returns:
    """Every series' returns from each of ``base_dates`` to ``ref``, prices and rates looked up in ``obs``."""
    bases = np.asarray(base_dates, "datetime64[D]")
    found = prices.asof(obs, np.append(bases, np.datetime64(ref, "D")))
    rates: Mapping[str, Any] = {}
    if currencies is not None and currency.as_currency(dest) != "local":
        source = obs if rate_obs is None else rate_obs
        rates = rates_asof(source, {dest, *currencies}, found.as_of, **options)
    end = np.full(len(bases), len(bases))
    return returns(found, end, np.arange(len(bases)), currencies=currencies, dest=dest, rates=rates)
