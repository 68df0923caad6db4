"""Legs of composite benchmarks, and the observations of the composites that the firm's tickers name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd

from luxor_pipelines.analytics.composites import composite
from luxor_pipelines.analytics.interest import accumulate_rate, chain
from luxor_pipelines.catalog import CASH_RATES, COMPOSITES
from luxor_pipelines.market.daily import daily_prices
from luxor_pipelines.market.observations import Observations
from luxor_pipelines.market.periods import as_days
from luxor_pipelines.query.market_data import MarketData

__all__ = ["leg_prices", "with_composites"]


def leg_prices(
    market: MarketData, legs: Sequence[str], start: date, end: date, *, today: date | None = None
) -> pd.DataFrame:
    """Return the price of each leg in its own currency on every day: a row a day, a column a leg.

    A cash index that begins after ``start`` is extended backwards by the overnight rate of `catalog.CASH_RATES`, in
    percent, accrued by calendar day. With ``today`` as the end, current prices that are newer extend the legs. Fund
    quotas are net of the capital they have returned.
    """
    rates = {leg: CASH_RATES[leg] for leg in legs if leg in CASH_RATES}
    obs = market.prices.observations([*legs, *rates.values()], [start, end], span=(start, end))
    if today == end:
        obs, _ = market.current.extend(obs, end)
    obs = market.prices.adjusted(obs, end)
    days = pd.date_range(start, end, name="Date", unit="us")
    daily = daily_prices(obs, start, end).to_wide().reindex(index=days, columns=list(obs.keys))
    columns = {}
    for leg in legs:
        columns[leg] = daily[leg]
        dates, _ = obs.series(leg)
        if leg in rates and (not len(dates) or dates[0] > np.datetime64(start, "D")):
            fractions = daily[rates[leg]].dropna() / 100
            columns[leg] = chain(accumulate_rate(fractions, "actual/360 compound"), daily[leg]).reindex(days)
    return pd.DataFrame(columns)


def with_composites(market: MarketData, obs: Observations, until: date, *, today: date | None = None) -> Observations:
    """Return ``obs`` with the levels of those of its series that are the firm's composites and in no table.

    There is a level on each day that a leg was observed. It is 1 on the first day that all legs have a price, and ends
    when the price of one is too old.
    """
    for name in sorted(COMPOSITES.keys() & set(obs.keys)):
        if len(obs.series(name)[0]) == 0:
            obs = obs.joined(_levels(market, name, until, today))
    return obs


def _levels(market: MarketData, name: str, until: date, today: date | None) -> Observations:
    """Return the levels of one composite; see `with_composites`."""
    legs = COMPOSITES[name]
    history = market.prices.history([*legs, *(CASH_RATES[leg] for leg in legs if leg in CASH_RATES)])
    first = []
    for leg in legs:
        begins = [dates[0] for key in (leg, CASH_RATES.get(leg)) if key and len(dates := history.series(key)[0])]
        first.append(min(begins, default=np.datetime64("NaT", "D")))
    keys = np.array([name], dtype=object)
    observed = np.unique(history.only(legs).date)
    if np.isnat(first).any() or not len(observed) or max(first) > np.datetime64(until, "D"):
        levels = pd.Series(dtype=np.float64)
    else:
        begin: date = max(first).astype(object)
        daily = leg_prices(market, list(legs), begin, until, today=today)
        ended = daily.isna().any(axis=1).to_numpy()  # the price of a leg is too old: the level ends there
        levels = composite(daily.iloc[: ended.argmax() if ended.any() else None], legs)
        current = market.current.of(legs)[1] if today == until else observed[:0]
        levels = levels[np.isin(as_days(levels.index), np.append(observed, current))]
    return Observations.from_rows(
        keys,
        np.zeros(len(levels), dtype=np.int32),
        as_days(levels.index),
        levels.to_numpy(),
        np.full(len(levels), market.limits.days("traded"), dtype=np.int32),
        np.zeros(len(levels), dtype=bool),
    )
