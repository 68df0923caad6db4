"""`MarketData`: the parts of a lake that answer questions about prices and returns."""

from __future__ import annotations

from luxor_pipelines.catalog import age_limits
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.query.assets import AssetMaster
from luxor_pipelines.query.calendar import Calendar
from luxor_pipelines.query.prices import CurrentPrices, PriceReader
from luxor_pipelines.query.rates import Rates

__all__ = ["MarketData"]


class MarketData:
    """One lake's asset master, price tables, current prices, exchange rates and calendar.

    It keeps nothing itself: what has been read is in the lake's cache, by version.
    """

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.limits = age_limits(lake.settings)
        self.assets = AssetMaster(lake)
        self.prices = PriceReader(lake, self.limits)
        self.current = CurrentPrices(lake, self.limits)
        self.calendar = Calendar(lake)

    def rates(self, usdbrl_ticker: str) -> Rates:
        """Return the exchange rates, with BRL by the series of that name."""
        return Rates(self.prices, usdbrl_ticker)
