"""`CalendarQuery`: month ends, base dates, holidays and business days; what `LuxorQuery` builds on."""

from __future__ import annotations

from datetime import date

from luxor_pipelines.catalog import age_limits
from luxor_pipelines.market.calendars import Inclusive
from luxor_pipelines.market.periods import DateLike, base_date, is_month_end, month_end
from luxor_pipelines.query.lake_query import LakeQuery
from luxor_pipelines.query.market_data import MarketData

__all__ = ["CalendarQuery"]


class CalendarQuery(LakeQuery):
    """Dates, by the lake's holidays. See `LuxorQuery`."""

    @property
    def market(self) -> MarketData:
        """The lake's tables as the market's arrays."""
        return MarketData(self.lake.cache, self.blob_directory, age_limits(self.settings))

    def get_month_end(self, ref_date: DateLike) -> date:
        """The last calendar day of the date's month."""
        return month_end(ref_date)

    def is_month_end(self, date: DateLike) -> bool:
        """Whether the date is the last calendar day of its month."""
        return is_month_end(date)

    def get_start_period_dt(
        self,
        ref_date: DateLike,
        period: str,
        force_bday: bool = False,
        holiday_location: str = "all",
        force_month_end: bool = False,
    ) -> date:
        """The base date of a period: the date whose closing price is the denominator.

        ``force_bday`` moves it back to a business day of ``holiday_location``.

        Raises
        ------
        InvalidPeriodError
            Not ``mtd``, ``qtr``, ``ytd`` or ``<N>m``.
        """
        base = base_date(ref_date, period, force_month_end=force_month_end)
        return self.market.holidays().roll_back(base, holiday_location) if force_bday else base

    def is_holiday(self, date: DateLike, location: str) -> bool:
        """Whether the date is a holiday: of a location (``us``, ``bz``), of ``any`` or of ``all``."""
        return self.market.holidays().is_holiday(date, location)

    def get_bday_offset(self, date: DateLike, offset: int = 1, location: str = "bz") -> date:
        """The ``offset``-th business day after the date; before it if negative; 0: itself or the one before."""
        return self.market.holidays().business_day_offset(date, offset, location)

    def get_bdays_count(
        self,
        recent_date: DateLike,
        previous_date: DateLike,
        location: str = "bz",
        inclusive: Inclusive = "neither",
    ) -> int:
        """Business days between two dates, by default without either; 0 if the first is not later."""
        return self.market.holidays().business_days_between(recent_date, previous_date, location, inclusive)
