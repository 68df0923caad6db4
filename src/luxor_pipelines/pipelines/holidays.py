"""Weekdays on which an exchange does not trade, by location, into holidays_exchange.

The calendars are those of the ``exchange_calendars`` package: which days were, and are announced
or expected to be, sessions of an exchange. The table the firm's terminal feeds, ``holidays``, holds
settlement calendars and is not touched.
"""

from __future__ import annotations

import difflib
import logging
import warnings
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from luxor_pipelines.catalog import HOLIDAYS_EXCHANGE
from luxor_pipelines.errors import DataError, UsageError
from luxor_pipelines.ingest import save_table
from luxor_pipelines.lazy import pd
from luxor_pipelines.market.calendars import coverage_facts, stored_coverage
from luxor_pipelines.pipelines import JSON, Declaration, PipelineResult
from luxor_pipelines.telemetry import span

if TYPE_CHECKING:
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = [
    "DECLARATION",
    "EXCHANGES",
    "SCHEMA",
    "ExchangeHolidays",
    "exchange_holidays",
    "last_day",
    "parse_exchanges",
    "run",
]

logger = logging.getLogger(__name__)

EXCHANGES = {"bz": "BVMF", "us": "XNYS"}
"""Location to exchange: B3 in São Paulo, the New York Stock Exchange."""

START = "1999-12-01"
SCHEMA = HOLIDAYS_EXCHANGE

DECLARATION = Declaration(outputs=(SCHEMA,))


def run(
    ref_date: date | str | None = None,  # noqa: ARG001  every pipeline takes it
    *,
    lq: LuxorQuery | None = None,
    now: datetime | None = None,
    exchanges: Mapping[str, str] | str | None = None,
    start: date | str = START,
    end: date | str | None = None,
) -> PipelineResult:
    """Replace each location's holidays in ``holidays_exchange`` by those of its exchange's calendar.

    Days that have ceased to be holidays disappear; locations not named stay as they are.

    Parameters
    ----------
    ref_date
        Taken because every pipeline takes it; a calendar has no reference date.
    lq
        The lake; default the one the environment names.
    now
        The moment of the run; default the present.
    exchanges
        Location to exchange code, as a mapping or as text, ``"bz=BVMF,us=XNYS"`` (the default).
    start, end
        First and last day covered, both included; `last_day` says what the end is by default.

    Raises
    ------
    UsageError
        An exchange that is not known, or bounds that are not dates in order.
    DataError
        A calendar that cannot be computed for those days; nothing has been written.
    """
    if lq is None:
        from luxor_pipelines.query.luxor_query import LuxorQuery

        lq = LuxorQuery()
    chosen = parse_exchanges(exchanges if exchanges is not None else EXCHANGES)
    first = _day(start, "start")
    last = _day(end, "end") if end is not None else last_day(now or lq.now())
    if first >= last:
        raise UsageError(f"start {first:%Y-%m-%d} is not before end {last:%Y-%m-%d}.", hint="Correct one of them.")
    with span("compute"):
        holidays = {location: exchange_holidays(code, first, last) for location, code in chosen.items()}
    notes = tuple(calendar.note for calendar in holidays.values() if calendar.note is not None)
    counts: dict[str, JSON] = {location: len(calendar.days) for location, calendar in holidays.items()}
    logger.info("weekdays without session, %s to %s: %s", first.date(), last.date(), counts)
    for note in notes:
        logger.warning("%s", note)
    frame = pd.concat(
        [pd.DataFrame({"Date": calendar.days, "Location": location}) for location, calendar in holidays.items()],
        ignore_index=True,
    )
    lq.forget(SCHEMA.name)
    cache, rows, covered = lq.lake.cache, frame, {}
    if cache.exists(SCHEMA.name):
        covered = stored_coverage(cache.codec(SCHEMA.name).stored.metadata)
        stored = lq.get_table(SCHEMA.name, columns=["Date", "Location"])
        rows = pd.concat([stored[~stored["Location"].isin(list(chosen))], frame], ignore_index=True)
    covered |= {location: calendar.covered for location, calendar in holidays.items()}
    # The table is saved whole: a location without holidays has no rows that could replace those it had.
    load = save_table(lq, SCHEMA.name, rows, schema=replace(SCHEMA, facts=coverage_facts(covered)), mode="replace")
    details: dict[str, JSON] = {
        "start": f"{first:%Y-%m-%d}",
        "end": f"{last:%Y-%m-%d}",
        "exchanges": dict[str, JSON](chosen),
        "holidays": counts,
    }
    return PipelineResult((load,), len(frame), details, notes)


def last_day(now: datetime) -> pd.Timestamp:
    """Return the last day of the year two years on.

    It is never less than the 500 days ahead which calendars are asked for, and the same day for all
    runs of a year, so that a rerun changes something only when a calendar has changed.
    """
    return pd.Timestamp(now.year + 2, 12, 31)


def parse_exchanges(exchanges: Mapping[str, str] | str) -> dict[str, str]:
    """Return location to exchange code, from a mapping or from text like ``"bz=BVMF,us=XNYS"``.

    Locations come out trimmed and in lower case, as the lake keeps them.

    Raises
    ------
    UsageError
        Not of that form, empty, a location twice, or an exchange that is not known.
    """
    pairs = (
        [pair.partition("=")[::2] for pair in exchanges.split(",") if pair.strip()]
        if isinstance(exchanges, str)
        else list(exchanges.items())
    )
    chosen: dict[str, str] = {}
    for location, code in ((location.strip().lower(), code.strip()) for location, code in pairs):
        if not location or not code or location in chosen:
            raise UsageError(
                f"{exchanges!r} does not give one exchange per location (at {location!r}).",
                hint="Write it like bz=BVMF,us=XNYS.",
            )
        chosen[location] = _calendar_code(code)
    if not chosen:
        raise UsageError("No exchanges are given.", hint="Write them like bz=BVMF,us=XNYS.")
    return chosen


def _calendar_code(code: str) -> str:
    import exchange_calendars as xcals

    codes = xcals.get_calendar_names()
    for candidate in (code, code.upper()):
        if candidate in codes:
            return candidate
    close = difflib.get_close_matches(code.upper(), codes, n=3)
    raise UsageError(
        f"There is no exchange calendar {code!r}.",
        hint=f"Did you mean {' or '.join(close)}?"
        if close
        else "Use an ISO 10383 code that the exchange_calendars package knows, such as BVMF or XNYS.",
    )


class ExchangeHolidays(NamedTuple):
    """The weekdays without a session at an exchange.

    Attributes
    ----------
    days
        The days, in order.
    note
        A sentence that says so where the calendar does not know all the days asked for; else None.
    covered
        The first and the last day that the calendar knows, of those asked for.
    """

    days: pd.DatetimeIndex
    note: str | None
    covered: tuple[date, date]


def exchange_holidays(code: str, start: pd.Timestamp, end: pd.Timestamp) -> ExchangeHolidays:
    """Return the days Monday to Friday from ``start`` to ``end``, both included, on which there is no session.

    Some calendars know certain years only. Days outside these are left out, and a note says so.

    Raises
    ------
    DataError
        The calendar cannot be computed for those days.
    """
    first, last = start, end
    try:
        try:
            sessions = _calendar(code, first, last).sessions
        except ValueError:
            # Out of the calendar's bounds, which only a calendar can tell; bare, it keeps to them.
            calendar = _calendar(code)
            first = max(first, calendar.bound_min() or first)
            last = min(last, calendar.bound_max() or last)
            if (first, last) == (start, end):
                raise
            sessions = _calendar(code, first, last).sessions
    except Exception as error:  # each calendar is code of its own
        raise DataError(
            f"The calendar {code} could not be computed from {first:%Y-%m-%d} to {last:%Y-%m-%d}: {error!r}.",
            hint="Choose other bounds or another exchange for that location.",
        ) from error
    note = None
    if (first, last) != (start, end):
        note = (
            f"The calendar {code} knows the days from {first:%Y-%m-%d} to {last:%Y-%m-%d} only: "
            "no holidays are listed outside them."
        )
    days = pd.bdate_range(first, last).difference(sessions).as_unit("us")
    return ExchangeHolidays(days, note, (first.date(), last.date()))


def _calendar(code: str, first: pd.Timestamp | None = None, last: pd.Timestamp | None = None) -> Any:
    import exchange_calendars as xcals

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about the inside of exchange_calendars
        return xcals.get_calendar(code, start=first, end=last)


def _day(value: date | str, name: str) -> pd.Timestamp:
    try:
        return pd.Timestamp(date.fromisoformat(value) if isinstance(value, str) else value).normalize()
    except ValueError as error:
        raise UsageError(f"{name} {value!r} is not a date.", hint="Write it like 2026-12-31.") from error
