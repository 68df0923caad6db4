"""The lake's calendar: its holidays, from the firm's own table or the exchanges'."""

from __future__ import annotations

from luxor_pipelines.catalog import HOLIDAYS, HOLIDAYS_EXCHANGE
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.market.calendars import HolidayCalendar, stored_coverage

__all__ = ["Calendar"]


class Calendar:
    """The holidays of one lake, kept as long as the version of their table."""

    def __init__(self, lake: Lake) -> None:
        self._cache = lake.cache

    def holidays(self) -> HolidayCalendar:
        """Return the firm's own holidays, or the exchanges' where the lake has none of its own.

        Raises
        ------
        TableNotFoundError
            The lake has neither ``holidays`` nor ``holidays_exchange``.
        """
        table = HOLIDAYS if self._cache.exists(HOLIDAYS) else HOLIDAYS_EXCHANGE.name

        def read() -> HolidayCalendar:
            rows = self._cache.scan(table, ("Date", "Location"))
            coverage = stored_coverage(self._cache.codec(table).stored.metadata)
            return HolidayCalendar(rows["Date"].to_pylist(), rows["Location"].to_pylist(), coverage)

        return self._cache.derive(table, "calendar", read)
