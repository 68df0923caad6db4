"""Exchange rates: the series they are read from, and the rows that extend the BRL series at its ends."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import numpy as np

from luxor_pipelines.catalog import CURRENCY_FACTS, USDBRL
from luxor_pipelines.errors import UnknownAssetError
from luxor_pipelines.market import currency as fx
from luxor_pipelines.market.observations import FloatArray, Observations
from luxor_pipelines.market.periods import DateArray, DatesLike, as_days
from luxor_pipelines.market.prices import AsOf, asof
from luxor_pipelines.query.prices import PriceReader

__all__ = ["Rates"]

_DAY_ONE = np.datetime64(date.min, "D")


class Rates:
    """Exchange rates per USD out of the price tables; BRL by the series of a name.

    Parameters
    ----------
    usdbrl_ticker
        The series of BRL per USD.
    """

    def __init__(self, prices: PriceReader, usdbrl_ticker: str) -> None:
        self._prices = prices
        self._ticker = usdbrl_ticker
        self._limit = prices.limits.days("traded")

    def keys(self, currencies: Iterable[str | None]) -> list[str]:
        """Return the series that rates between ``currencies`` are made of."""
        isos = {iso for iso in currencies if iso is not None and iso != "local"}
        return sorted({key for iso in isos for key in fx.rate_series(iso, self._ticker, CURRENCY_FACTS)})

    def asof(self, obs: Observations, currencies: Iterable[str | None], dates: DatesLike) -> dict[str, FloatArray]:
        """Return units per USD of each currency as of each date, NaN where there is none."""
        return fx.rates_asof(
            obs, currencies, dates, usdbrl_ticker=self._ticker, facts=CURRENCY_FACTS, limit=self._limit
        )

    def rows_asof(
        self, obs: Observations, currencies: Iterable[str | None], dates: DatesLike
    ) -> tuple[list[str], AsOf]:
        """Return the names of the series that rates are made of, and the rows of each as of each date."""
        rates = obs.only(self.keys(currencies))
        return list(rates.keys), asof(rates, dates)

    def observations(self, obs: Observations, currencies: Iterable[str | None], dates: DatesLike) -> Observations:
        """Return ``obs`` with the rows that are needed to extend the BRL series at its ends.

        The chosen series may begin after a date if no value before the date has been read, and may have ended before
        it if spot has a newer value and none after the date has been read. Then the rates are read up to the first
        value, or from the last one on.

        Raises
        ------
        UnknownAssetError
            There is no such series as ``usdbrl_ticker``, and it is not the default, for which spot stands in.
        """
        isos = set(currencies)
        chain = fx.rate_series("brl", self._ticker, CURRENCY_FACTS)
        if "brl" not in isos or len(chain) == 1:
            return obs
        days, keys = as_days(dates), self.keys(isos)
        chosen, spot = (np.append(np.datetime64("NaT", "D"), _value_dates(obs, name)) for name in chain)
        if len(chosen) == 1 and not obs.only(chain[:1]).present.any():
            if chain[0] != USDBRL:
                raise UnknownAssetError(
                    f"No price table has a series {chain[0]!r}, whose rates were asked for.",
                    hint=f"Check the spelling of usdbrl_ticker; the default is {USDBRL!r}.",
                )
            return obs
        at, at_spot = (np.searchsorted(dates_[1:], days, side="right") for dates_ in (chosen, spot))
        before, after = at == 0, (at == len(chosen) - 1) & (spot[at_spot] > chosen[at])
        if not (before | after).any():
            return obs
        # A spot rate must be there as of the first and the last value too; it may be as old as rates may be.
        spans = []
        if before.any():
            spans.append((days[before].max(), chosen[1].item() if len(chosen) > 1 else date.max))
        if after.any():
            spans.append((chosen[-1], date.max))
        wider = [(max(_DAY_ONE, first - np.timedelta64(self._limit, "D")).item(), last) for first, last in spans]
        return self._prices.between(obs, keys, wider)


def _value_dates(obs: Observations, name: str) -> DateArray:
    """Return the dates on which a rate has a value, in whatever table, sorted."""
    sides = [obs] if obs.fallback is None else [obs, obs.fallback]
    return np.unique(np.concatenate([day[price > 0] for day, price in (s.without_bad().series(name) for s in sides)]))
