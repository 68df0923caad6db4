"""Dates and the base dates of periods.

A period is the half-open interval (base, ref]: the base date is the one whose closing value is
the denominator of the return. Dates are calendar dates without a time zone.
"""

from __future__ import annotations

import calendar
import operator
import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from luxor_pipelines.errors import InvalidPeriodError, UsageError, shown
from luxor_pipelines.lazy import pd

__all__ = [
    "INCEPTION",
    "DateArray",
    "DateLike",
    "DatesLike",
    "add_months",
    "as_date",
    "as_days",
    "as_period",
    "as_return_period",
    "base_date",
    "days_before",
    "is_month_end",
    "month_end",
    "return_base",
]

DateLike: TypeAlias = date | datetime | np.datetime64 | str
DatesLike: TypeAlias = "ArrayLike | pd.Series | pd.Index | Sequence[DateLike]"
DateArray: TypeAlias = NDArray[np.datetime64]

INCEPTION = "inception"
"""The period since a series' first observation."""

_OF_RETURNS = ("wtd", "1y", INCEPTION)
_MONTHS = re.compile(r"([1-9][0-9]*)m")
_DATE_HINT = "Give a date like 2026-10-31: as text, a date, or a datetime or Timestamp without a time zone."
_PERIOD_HINT = "Accepted: mtd, qtr, ytd, or <N>m with N of 1 or more, such as 1m, 12m or 36m."


def as_date(value: object) -> date:
    """Return the calendar date of ``value``, whatever its time of day.

    Accepts a date, a datetime, a pandas Timestamp, a numpy datetime64 of days or finer, and ISO
    text. Refuses what has no one calendar date: instants with a time zone (which day it is depends
    on the place), ``NaT``, a month or a year, numbers.

    Raises
    ------
    UsageError
        If ``value`` is anything else.
    """
    day: object = value
    if isinstance(day, str):
        try:
            day = datetime.fromisoformat(day.strip())
        except ValueError as error:
            raise UsageError(f"{shown(value)} is not an ISO date", hint=_DATE_HINT) from error
    elif isinstance(day, np.datetime64) and np.datetime_data(day.dtype)[0] not in ("Y", "M", "W"):
        day = day.astype("datetime64[D]").item()  # None for NaT, a number beyond year 9999
    if isinstance(day, datetime):
        if day != day:  # pandas' NaT, which claims to be a datetime
            raise UsageError("NaT is not a date", hint=_DATE_HINT)
        if day.tzinfo is not None:
            raise UsageError(f"{value!r} has a time zone, so its date depends on the place", hint=_DATE_HINT)
        return day.date()
    if isinstance(day, date):
        return day
    raise UsageError(f"{shown(value)} is not a date", hint=_DATE_HINT)


def as_days(values: DatesLike) -> DateArray:
    """Return ``values`` as a ``datetime64[D]`` array; nulls become ``NaT``, times of day are cut off.

    Raises
    ------
    UsageError
        If a value is not a date (see `as_date`), or has a time zone.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        return values.astype("datetime64[D]")
    if isinstance(values, list | tuple) and all(value is None or type(value) in (date, datetime) for value in values):
        return np.array([None if value is None else as_date(value) for value in values], dtype="datetime64[D]")
    series = pd.Series(values)
    if series.dtype.kind == "M":
        if series.dt.tz is not None:
            raise UsageError("The dates have a time zone", hint=_DATE_HINT)
        return series.to_numpy(dtype="datetime64[us]").astype("datetime64[D]")
    days = [None if missing else as_date(value) for value, missing in zip(series, series.isna(), strict=True)]
    return np.array(days, dtype="datetime64[D]")


def month_end(d: DateLike) -> date:
    """Return the last calendar day of the month of ``d``."""
    day = as_date(d)
    return day.replace(day=calendar.monthrange(day.year, day.month)[1])


def is_month_end(d: DateLike) -> bool:
    """Return whether ``d`` is the last calendar day of its month."""
    return as_date(d) == month_end(d)


def add_months(d: DateLike, n: int) -> date:
    """Return the date ``n`` calendar months after ``d`` (before it, for a negative ``n``).

    The day of the month is kept, clipped to the month's length; a month end stays a month end.

    ========== ==== ==========
    d          n    result
    ========== ==== ==========
    2025-05-31  -3  2025-02-28
    2025-05-30  -3  2025-02-28
    2025-02-28 -12  2024-02-29
    2024-02-29 -12  2023-02-28
    ========== ==== ==========

    Raises
    ------
    UsageError
        If the result leaves the years 1 to 9999.
    """
    day = as_date(d)
    year, month0 = divmod(day.year * 12 + day.month - 1 + operator.index(n), 12)
    if not 1 <= year <= 9999:
        raise UsageError(f"{n} months from {day} is outside the years 1 to 9999", hint="Use fewer months.")
    length = calendar.monthrange(year, month0 + 1)[1]
    return date(year, month0 + 1, length if is_month_end(day) else min(day.day, length))


def days_before(day: date, days: int) -> date:
    """Return the date ``days`` earlier, or the first or last day of the calendar where that is beyond it."""
    return date.fromordinal(max(1, min(day.toordinal() - days, date.max.toordinal())))


def as_period(period: object) -> str:
    """Return ``period`` trimmed and in lower case: ``mtd``, ``qtr``, ``ytd`` or ``<N>m``.

    Raises
    ------
    InvalidPeriodError
        If it is anything else; the message lists what is accepted.
    """
    label = period.strip().lower() if isinstance(period, str) else ""
    if label in ("mtd", "qtr", "ytd") or _MONTHS.fullmatch(label):
        return label
    raise InvalidPeriodError(f"{period!r} is not a period", hint=_PERIOD_HINT)


def base_date(ref: DateLike, period: str, *, force_month_end: bool = False) -> date:
    """Return the base date of ``period`` for the reference date ``ref``.

    Parameters
    ----------
    ref
        The reference date, the last of the period.
    period
        ``mtd``: last day of the previous month. ``qtr``: last day of the previous calendar quarter.
        ``ytd``: 31 December of the previous year. ``<N>m``: ``ref`` minus N months, see `add_months`.
        In any case, with or without surrounding blanks.
    force_month_end
        Move the result to the end of its month, even when ``ref`` is not a month end.

    Raises
    ------
    InvalidPeriodError
        If ``period`` is anything else, or reaches before the year 1.
    """
    day, label = as_date(ref), as_period(period)
    months_into = {"mtd": 1, "qtr": (day.month - 1) % 3 + 1, "ytd": day.month}
    try:
        if label in months_into:
            return add_months(month_end(day), -months_into[label])
        base = add_months(day, -int(label[:-1]))  # int itself refuses numbers of thousands of digits
    except ValueError as error:
        raise InvalidPeriodError(f"{period!r} from {day} reaches before the year 1", hint=_PERIOD_HINT) from error
    return month_end(base) if force_month_end else base


def as_return_period(period: object) -> str:
    """Return ``period`` as `as_period` does, or ``wtd``, ``1y`` or ``inception``, which only returns have.

    Raises
    ------
    InvalidPeriodError
        If it is anything else; the message lists what is accepted.
    """
    label = period.strip().lower() if isinstance(period, str) else ""
    if label in _OF_RETURNS:
        return label
    try:
        return as_period(period)
    except InvalidPeriodError as error:
        hint = f"{_PERIOD_HINT} Of returns also {', '.join(_OF_RETURNS)}."
        raise InvalidPeriodError(error.message, hint=hint) from None


def return_base(ref: DateLike, period: str) -> date:
    """Return the base date of ``period`` for ``ref``, as `base_date` does, also of ``wtd`` and ``1y``.

    ``wtd``: the last Sunday before the week of ``ref``, which begins on a Monday. ``1y``: as ``12m``.
    ``inception`` has no base date of its own, since each series has one.

    Raises
    ------
    InvalidPeriodError
        If ``period`` is anything else.
    """
    day, label = as_date(ref), period.strip().lower()
    if label == "wtd":
        if day.toordinal() <= day.isoweekday():
            raise InvalidPeriodError(f"{period!r} from {day} reaches before the year 1", hint=_PERIOD_HINT)
        return day - timedelta(days=day.isoweekday())
    return base_date(day, "12m" if label == "1y" else label)
