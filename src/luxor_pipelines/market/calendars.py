"""Business days of the lake's locations, from the ``holidays`` table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date
from functools import reduce
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from luxor_pipelines.errors import SchemaError, UsageError, sample, shown
from luxor_pipelines.market.periods import DateLike, DatesLike, as_date, as_days
from luxor_pipelines.names import normal_name
from luxor_pipelines.notices import warn

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CalendarRangeWarning", "HolidayCalendar", "coverage_facts", "stored_coverage"]

Coverage: TypeAlias = Mapping[str, tuple[date, date]]
"""The first and the last day that the calendar of each location covers."""

_COVERAGE = "luxor.coverage"


def coverage_facts(coverage: Coverage) -> dict[str, str]:
    """Return the entry of a holiday table's metadata that states the days its calendars cover."""
    return {_COVERAGE: json.dumps({place: [day.isoformat() for day in days] for place, days in coverage.items()})}


def stored_coverage(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[date, date]]:
    """Return the days that the calendars of a holiday table cover, by its metadata; empty without such an entry."""
    days = json.loads((metadata or {}).get(_COVERAGE.encode(), b"{}"))
    return {place: (date.fromisoformat(first), date.fromisoformat(last)) for place, (first, last) in days.items()}


Inclusive: TypeAlias = Literal["neither", "both", "left", "right"]

# Days to move (the earlier, the later) end by, to fit numpy's half-open [earlier, later).
_ENDS = {"neither": (1, 0), "left": (0, 0), "right": (1, 1), "both": (0, 1)}


_ALL_DAYS = date.max.toordinal()


class CalendarRangeWarning(UserWarning):
    """A date lies outside the dates the holiday table covers; weekdays there count as business days."""


class HolidayCalendar:
    """Holidays and business days of several locations.

    A business day is a Monday to Friday that is not a holiday. A location is one of the table's, or

    * ``any``: the holidays of at least one location, so that on a business day all are open;
    * ``all``: the holidays that all locations share, so that on a business day at least one is open.

    Locations are compared trimmed and in lower case. Every method raises `UsageError` for an unknown
    location, and warns once (`CalendarRangeWarning`) when the answer depends on dates that the calendar
    of the location (of any of them, for ``any`` and ``all``) does not cover. An empty
    calendar knows ``any`` and ``all`` only, has no holidays and does not warn.

    Parameters
    ----------
    dates, locations
        The rows of the table, of equal length. Repeated rows count once; rows with a null are ignored.
    coverage
        The first and the last day that a location's calendar covers; default its first and last holiday. A location
        that is named only here has no holidays.
    """

    def __init__(
        self,
        dates: DatesLike,
        locations: Iterable[object],
        coverage: Coverage | None = None,
    ) -> None:
        days = as_days(dates)
        names = np.array([normal_name(name) if isinstance(name, str) else "" for name in locations], dtype=object)
        if len(names) != len(days):
            raise UsageError(f"{len(days)} dates and {len(names)} locations", hint="Give one location a date.")
        usable = ~np.isnat(days) & (names != "")
        days, names = days[usable], names[usable]
        coverage = coverage or {}
        holidays = {str(name): np.unique(days[names == name]) for name in sorted({*names, *coverage})}
        self.locations: tuple[str, ...] = tuple(holidays)
        """The locations of the table, sorted."""

        no_days = np.array([], dtype="datetime64[D]")
        self._covered = {
            name: coverage[name] if name in coverage else (as_date(own_days[0]), as_date(own_days[-1]))
            for name, own_days in holidays.items()
        }
        if holidays:
            firsts, lasts = zip(*self._covered.values(), strict=True)
            self._covered |= dict.fromkeys(("any", "all"), (max(firsts), min(lasts)))
        by_location = [holidays[name] for name in self.locations]
        holidays["any"] = reduce(np.union1d, by_location, no_days)
        holidays["all"] = reduce(np.intersect1d, by_location) if by_location else no_days
        self._holidays = {name: frozenset(own_days.tolist()) for name, own_days in holidays.items()}
        self._business = {name: np.busdaycalendar(holidays=own_days) for name, own_days in holidays.items()}

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, coverage: Coverage | None = None) -> HolidayCalendar:
        """Build the calendar from a frame with the columns ``Date`` and ``Location``.

        Raises
        ------
        SchemaError
            If a column is missing.
        """
        missing = [name for name in ("Date", "Location") if name not in frame.columns]
        if missing:
            raise SchemaError(
                f"holidays: missing {sample(missing)}; it has {sample(frame.columns, 10)}",
                hint="The table needs the columns Date and Location.",
            )
        return cls(frame["Date"], frame["Location"], coverage)

    def is_holiday(self, d: DateLike, location: str) -> bool:
        """Return whether ``d`` is a holiday in ``location``; a weekend by itself is not one."""
        day, name = as_date(d), self._name(location)
        self._warn_outside(name, day, day)
        return day in self._holidays[name]

    def is_business_day(self, d: DateLike, location: str) -> bool:
        """Return whether ``d`` is a business day in ``location``."""
        day, name = as_date(d), self._name(location)
        self._warn_outside(name, day, day)
        return bool(np.is_busday(np.datetime64(day, "D"), busdaycal=self._business[name]))

    def are_business_days(self, days: DatesLike, location: str) -> NDArray[np.bool_]:
        """Return whether each of ``days`` is a business day in ``location``."""
        dates, name = as_days(days), self._name(location)
        if len(dates):
            self._warn_outside(name, as_date(dates.min()), as_date(dates.max()))
        return np.is_busday(dates, busdaycal=self._business[name])

    def business_day_offset(self, d: DateLike, k: int, location: str) -> date:
        """Return the ``k``-th business day strictly after ``d``; strictly before, for a negative ``k``.

        For ``k`` of 0: ``d`` itself if it is a business day, else the previous one.
        """
        if not isinstance(k, int | np.integer):
            raise UsageError(f"{k!r} is no number of business days", hint="Give a whole one.")
        day, name = as_date(d), self._name(location)
        target = self._offset(day, k, name)
        self._warn_outside(name, min(day, target), max(day, target))
        return target

    def roll_back(self, d: DateLike, location: str) -> date:
        """Return ``d`` if it is a business day, else the previous business day."""
        day, name = as_date(d), self._name(location)
        business_day = self._offset(day, 0, name)
        self._warn_outside(name, business_day, day)
        return business_day

    def business_days_between(
        self, recent: DateLike, previous: DateLike, location: str, inclusive: Inclusive = "neither"
    ) -> int:
        """Count the business days between ``previous`` and ``recent``; 0 when ``recent <= previous``.

        ``inclusive`` says which ends count if they are business days: ``neither``, ``both``,
        ``left`` (``previous``) or ``right`` (``recent``). Friday to Monday: 0, 2, 1, 1.
        """
        if inclusive not in list(_ENDS):
            raise UsageError(f"inclusive={shown(inclusive)} is unknown", hint=f"Accepted: {', '.join(_ENDS)}.")
        start, stop, name = as_date(previous), as_date(recent), self._name(location)
        if stop <= start:
            return 0
        self._warn_outside(name, start, stop)
        move_start, move_stop = _ENDS[inclusive]
        return int(
            np.busday_count(
                np.datetime64(start, "D") + np.timedelta64(move_start, "D"),
                np.datetime64(stop, "D") + np.timedelta64(move_stop, "D"),
                busdaycal=self._business[name],
            )
        )

    def _offset(self, day: date, k: int, name: str) -> date:
        # Rolling away from the direction of travel first makes a weekend's first step a whole one.
        roll: Literal["preceding", "following"] = "following" if k < 0 else "preceding"
        try:
            # Far more days than the calendar has fit no integer of numpy's.
            steps = max(-_ALL_DAYS, min(int(k), _ALL_DAYS))
            return as_date(np.busday_offset(np.datetime64(day, "D"), steps, roll, busdaycal=self._business[name]))
        except UsageError as error:
            raise UsageError(
                f"{k} business days from {day} is out of the years 1 to 9999", hint="Give fewer days."
            ) from error

    def _name(self, location: object) -> str:
        name = normal_name(location) if isinstance(location, str) else ""
        if name not in self._business:
            raise UsageError(
                f"Location {location!r} has no holidays in the table",
                hint=f"Known: {', '.join((*self.locations, 'any', 'all'))}.",
            )
        return name

    def _warn_outside(self, name: str, first: date, last: date) -> None:
        """Warn if the calendar does not cover all of [first, last]."""
        start, stop = self._covered.get(name, (date.min, date.max))
        if first < start or stop < last:
            warn(
                f"Holidays of {name!r} are known from {start} to {stop}; {first if first < start else last} "
                "is outside, where every weekday counts as a business day",
                CalendarRangeWarning,
            )
