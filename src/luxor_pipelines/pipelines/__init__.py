"""One module per pipeline, each with ``run(ref_date=None, *, lq=None, now=None, …)`` and a `Declaration`.

Modules whose name starts with an underscore are shared helpers, not pipelines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from luxor_pipelines.ingest import LoadResult
    from luxor_pipelines.lake.types.schema import TableSchema
    from luxor_pipelines.market.calendars import HolidayCalendar

__all__ = ["JSON", "Dates", "Declaration", "Due", "PipelineResult", "location", "reference_dates"]

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""The values that a run record can hold."""

Dates: TypeAlias = Literal["month ends", "days"]
"""The reference dates that a pipeline has: month ends, or business days."""


@dataclass(frozen=True)
class PipelineResult:
    """The outcome of one run of a pipeline.

    Attributes
    ----------
    loads
        One result per table written to, in the order of writing.
    rows
        Rows handed to the loads, changed or not.
    details
        Further facts for an operator, ready for JSON.
    warnings
        Oddities that did not stop the run but should be looked at; one sentence each.
    ref_date
        The reference date that the rows are of; None where there is none.
    """

    loads: tuple[LoadResult, ...]
    rows: int
    details: dict[str, JSON] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    ref_date: date | None = None


@dataclass(frozen=True)
class Due:
    """When a table must hold the rows of a date.

    Attributes
    ----------
    time
        The time of day where the firm is (``LUXOR_TIME_ZONE``), as ``20:00``.
    days
        Business days after the date that the rows are of.
    calendar
        The location whose business days count; where the lake's holidays do not have it, weekdays that are a holiday
        nowhere do.
    """

    time: str = "20:00"
    days: int = 0
    calendar: str = "bz"

    def moment(self, day: date, holidays: HolidayCalendar, zone: tzinfo) -> datetime:
        """Return the moment by which the rows of ``day`` are due, in the time zone of the firm."""
        last = holidays.business_day_offset(day, self.days, location(self, holidays)) if self.days else day
        return datetime.combine(last, time.fromisoformat(self.time), zone)

    def __str__(self) -> str:
        days = {0: "that day", 1: "the next business day"}.get(self.days, f"{self.days} business days later")
        return f"{self.time}, {days} ({self.calendar})"


@dataclass(frozen=True)
class Declaration:
    """A pipeline's statement about itself, as ``DECLARATION`` in its module.

    `luxor list`, `status`, `backfill`, `check` and the order of several pipelines rest on it.

    Attributes
    ----------
    outputs
        The tables that it writes.
    inputs
        The tables that it reads, and folders such as ``raw/prices/``; it runs after those that write them.
    dates
        Its reference dates: ``month ends``, ``days`` (business days of ``due.calendar``), or None where its work
        does not depend on one.
    due
        When its tables must hold the rows of a date; None where they are not judged.

    A module that computes many dates at once has a function ``run_many(ref_dates, *, lq, now=None, …)``, which
    yields for each date, in ascending order, the date and a function that checks and loads its rows and returns the
    `PipelineResult`.
    """

    outputs: tuple[TableSchema, ...] = ()
    inputs: tuple[str, ...] = ()
    dates: Dates | None = None
    due: Due | None = None


def reference_dates(dates: Dates, due: Due | None, start: date, end: date, holidays: HolidayCalendar) -> list[date]:
    """Return the reference dates from ``start`` to ``end``, both included, in ascending order.

    Business days are those of the calendar of ``due``.
    """
    days = [start + timedelta(days=count) for count in range((end - start).days + 1)]
    if dates == "month ends":
        return [day for day in days if (day + timedelta(days=1)).day == 1]
    counts = holidays.are_business_days(days, location(due, holidays))
    return [day for day, is_one in zip(days, counts, strict=True) if is_one]


def location(due: Due | None, holidays: HolidayCalendar) -> str:
    """Return the location whose business days count: that of ``due``, or ``any`` where ``holidays`` do not have it."""
    return due.calendar if due is not None and due.calendar in holidays.locations else "any"
