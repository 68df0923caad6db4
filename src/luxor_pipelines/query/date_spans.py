"""Spans of days, as the instants that a condition on a column of dates takes; see `lake.conditions.Where`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time

__all__ = ["before", "between", "first_instant", "joined", "last_instant", "whole_days"]


def joined(spans: Iterable[tuple[date, date]]) -> list[tuple[datetime, datetime]]:
    """Overlapping spans as one, with their last instant."""
    spread: list[list[date]] = []
    for start, end in sorted(spans):
        if spread and start <= spread[-1][1]:
            spread[-1][1] = max(spread[-1][1], end)
        else:
            spread.append([start, end])
    return [whole_days(start, end) for start, end in spread]


def between(spans: Sequence[tuple[datetime, datetime]], first: date, last: date) -> list[tuple[datetime, datetime]]:
    """What of the days from ``first`` to ``last`` is in none of ``spans``, which are in order and lie between."""
    edges = [first_instant(first), *(edge for span in spans for edge in span), last_instant(last)]
    return [(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if start < stop]


def before(day: date, days: int) -> date:
    """So many days earlier, at the first day there is at the earliest."""
    return date.fromordinal(max(1, day.toordinal() - days))


def whole_days(first: date, last: date) -> tuple[datetime, datetime]:
    """From the start of the first to the end of the last."""
    return first_instant(first), last_instant(last)


def first_instant(day: date) -> datetime:
    """Its first microsecond."""
    return datetime.combine(day, time.min)


def last_instant(day: date) -> datetime:
    """Its last microsecond."""
    return datetime.combine(day, time.max)
