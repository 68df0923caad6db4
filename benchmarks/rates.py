"""Exchange rates as of a few dates, in plain Python: a small part of the work, which all peers share."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

CLEAN, SPOT = "bmfxclco curncy", "usdbrl curncy"
SERIES = {"brl": CLEAN, "eur": "usdeur curncy", "cad": "cad curncy"}
"""Each currency's series of units per US dollar; spot extends the first."""
NAMES = [*SERIES.values(), SPOT]
LOCATIONS = {"us": "usd", "bz": "brl", "br": "brl", "cn": "cad", "eur": "eur"}
LIMIT = 10
"""Calendar days at which a price or rate is too old."""

Series = Sequence[tuple[date, float]]


def needs_history(found: Mapping[str, Series], dates: Iterable[date]) -> bool:
    """Whether the windows leave open if a date lies before or after the whole clean series.

    It plainly lies inside where there is a clean value before it, and a later one or no newer spot.
    """
    clean, spot = found.get(CLEAN, ()), found.get(SPOT, ())

    def inside(day: date) -> bool:
        c, s = _at(clean, day), _at(spot, day)
        return c is not None and (clean[-1][0] > day or s is None or s[0] <= c[0])

    return not all(map(inside, dates))


def factors(found: Mapping[str, Series], dates: Iterable[date]) -> list[tuple[str, str, date, float]]:
    """(from, to, date, what to multiply a price by), where there is a rate on the date.

    ``found`` are the observations of `NAMES`, sorted by date: near each date, or all of them where
    `needs_history`.
    """
    rows = []
    for day in dates:
        per_usd = {iso: _rate(found, name, day) for iso, name in SERIES.items()} | {"usd": 1.0}
        for own, rate in per_usd.items():
            rows.append((own, "local", day, 1.0))
            for dest in ("usd", "brl"):
                target = per_usd[dest]
                if own == dest:
                    rows.append((own, dest, day, 1.0))
                elif rate is not None and target is not None:
                    rows.append((own, dest, day, target / rate))
    return rows


def _rate(found: Mapping[str, Series], name: str, day: date) -> float | None:
    series, spot = found.get(name, ()), found.get(SPOT, ())
    if name != CLEAN:
        return fresh(series, day)
    if not series:
        return fresh(spot, day)
    (first, at_first), (last, at_last) = series[0], series[-1]
    newest = _at(spot, day)
    if day < first:
        return _chained(at_first, fresh(spot, day), fresh(spot, first))
    if newest is not None and newest[0] > last and fresh(spot, last) is not None:
        return _chained(at_last, fresh(spot, day), fresh(spot, last))
    return fresh(series, day)


def _chained(level: float, now: float | None, then: float | None) -> float | None:
    """The clean series where it has no value: its nearest one, moved as spot has moved."""
    return None if now is None or then is None else level * now / then


def _at(series: Series, day: date) -> tuple[date, float] | None:
    """The last observation dated on or before the day, of any age."""
    at = bisect_right(series, day, key=lambda row: row[0])
    return series[at - 1] if at else None


def fresh(series: Series, day: date) -> float | None:
    """The value as of the day, unless it is too old."""
    row = _at(series, day)
    return None if row is None or (day - row[0]).days > LIMIT else row[1]
