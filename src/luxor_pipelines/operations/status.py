"""Lateness: each table's newest date and each pipeline's last run, held against what is declared."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from luxor_pipelines.catalog import PRICE_LAGS, PRICE_TABLES
from luxor_pipelines.errors import LakeError, SchemaError, TableNotFoundError, UnreachableError
from luxor_pipelines.lake.concurrency import at_once
from luxor_pipelines.lake.table.layout import Snapshot
from luxor_pipelines.lake.table.listing import find_all
from luxor_pipelines.lake.types.schema import DATE_COLUMN
from luxor_pipelines.market.calendars import CalendarRangeWarning, HolidayCalendar
from luxor_pipelines.operations.discovery import declarations
from luxor_pipelines.operations.records import LakeLike, RunReport, as_instant, last_run, opened
from luxor_pipelines.pipelines import Dates, Declaration, Due, location, reference_dates
from luxor_pipelines.query.calendar import Calendar

if TYPE_CHECKING:
    from luxor_pipelines.lake.lake import Lake

__all__ = ["TableStatus", "business_calendar", "table_status"]

logger = logging.getLogger(__name__)

_LOOK_BACK = 400
"""Days before today in which a date that is due is looked for."""


@dataclass(frozen=True)
class TableStatus:
    """A table, the pipeline that writes it, and whether it is late.

    Attributes
    ----------
    table, pipeline
        The table; the pipeline that writes it, None for one that comes from elsewhere.
    last_run
        The pipeline's last run, if there was one.
    newest
        The newest date in the table, None where it is not there or has no dates.
    expected
        The date that the table must have by now; None where it is not judged.
    late_days
        Business days from the newest date to the expected one; None where it is not judged. Of a table without a
        date, those in which one was looked for.
    next_due
        When the next date is due.
    """

    table: str | None
    pipeline: str | None
    last_run: RunReport | None
    newest: date | None
    expected: date | None
    late_days: int | None
    next_due: datetime | None

    @property
    def late(self) -> bool:
        """Whether the table lacks a date that it must have by now."""
        return bool(self.late_days)


def table_status(lake: LakeLike = None, *, now: datetime | None = None) -> list[TableStatus]:
    """Return the tables that pipelines write and the price tables from elsewhere, in the order of their names.

    Looks at all tables at once, and reads the footer of each one's newest partition and the last record of each
    pipeline.

    Parameters
    ----------
    lake
        A lake, a query of it, or its address; default the one that the environment names.
    now
        The moment to judge by, with a time zone; default the present.
    """
    lake = opened(lake)
    moment = (as_instant(now) or lake.now()).astimezone(ZoneInfo(lake.settings.time_zone))
    calendar = business_calendar(lake)
    declared = declarations()
    expectations, pipelines = _expectations(declared), list(declared)
    runs = dict(zip(pipelines, at_once(lake.storage, pipelines, lambda name: last_run(lake, name)), strict=True))
    tables = [expectation.table for expectation in expectations if expectation.table is not None]
    snapshots = find_all(lake.storage, tables, lake.directory)
    newest = at_once(lake.storage, expectations, lambda expectation: _newest(lake, expectation, snapshots))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalendarRangeWarning)  # beyond the known holidays every weekday counts
        statuses = [
            _judged(expectation, runs.get(expectation.pipeline or ""), day, moment, calendar)
            for expectation, day in zip(expectations, newest, strict=True)
            if expectation.pipeline is not None or day is not None  # else a price table that this lake does not have
        ]
    return sorted(statuses, key=lambda status: (status.table or "", status.pipeline or ""))


def business_calendar(lake: Lake) -> HolidayCalendar:
    """Return the lake's holidays; none where it has no such table."""
    try:
        return Calendar(lake.view()).holidays()
    except TableNotFoundError:
        return HolidayCalendar([], [])


class _Expectation(NamedTuple):
    """A table, the pipeline that writes it, its column of dates, and the dates that it must have by when.

    There is no table for a pipeline that declares none, and no pipeline for a table that comes from elsewhere.
    """

    table: str | None
    pipeline: str | None
    date_column: str = DATE_COLUMN
    dates: Dates = "days"
    due: Due | None = None


def _expectations(declared: Mapping[str, Declaration]) -> list[_Expectation]:
    """Return what pipelines declare of the tables that they write, and what is expected of the other price tables."""
    expectations: list[_Expectation] = []
    for name, declaration in declared.items():
        expectations += [
            _Expectation(schema.name, name, schema.increment, declaration.dates or "days", declaration.due)
            for schema in declaration.outputs
        ] or [_Expectation(None, name)]
    written = {expectation.table for expectation in expectations}
    for prices in PRICE_TABLES:
        lag = PRICE_LAGS[prices.kind]
        if prices.name not in written:
            expectations.append(_Expectation(prices.name, None, due=None if lag is None else Due(days=lag)))
    return expectations


def _judged(
    expectation: _Expectation,
    last_run: RunReport | None,
    newest: date | None,
    moment: datetime,
    calendar: HolidayCalendar,
) -> TableStatus:
    """Return the status of a table whose newest date is known."""
    table, name, due = expectation.table, expectation.pipeline, expectation.due
    if due is None:
        return TableStatus(table, name, last_run, newest, None, None, None)
    expected, following = None, None
    for day in _candidates(expectation.dates, due, moment.date(), calendar):
        at = due.moment(day, calendar, moment.tzinfo or UTC)
        if at <= moment:
            expected = day
            break
        following = at
    late = 0
    if expected is not None and (newest is None or newest < expected):
        since = newest or expected - timedelta(days=_LOOK_BACK)
        late = calendar.business_days_between(expected, since, location(due, calendar), "left") or 1
    next_due = None if following is None else following.astimezone(UTC)
    return TableStatus(table, name, last_run, newest, expected, late, next_due)


def _candidates(dates: Dates, due: Due, today: date, calendar: HolidayCalendar) -> Iterator[date]:
    """Return the reference dates around today, newest first, beginning with one that is not yet due."""
    ahead = timedelta(days=40 if dates == "month ends" else 10)
    return reversed(reference_dates(dates, due, today - timedelta(days=_LOOK_BACK), today + ahead, calendar))


def _newest(lake: Lake, expectation: _Expectation, snapshots: Mapping[str, Snapshot | None]) -> date | None:
    """Return the newest date of a table, from its last partition's footer or, if that does not have it, the rows."""
    table, column = expectation.table, expectation.date_column
    if table is None:
        return None
    place = lake.table(table)
    try:
        snapshot = snapshots[table] if table in snapshots else place.find()
        if snapshot is None:
            return None
        dates = place.dates(snapshot.parts[-1], column)
        return lake.view().cache.last_date(table, column) if dates is None else dates[1]
    except UnreachableError:
        raise
    except (SchemaError, LakeError) as error:
        logger.warning("The newest date of %s is not known: %s", table, error)
        return None
