"""Price rows of many series, merged from the lake's price tables.

A row is a date and a price. A finite price above 0, of a mark also exactly 0, is an observation; any other makes a
*bad row*. All series live in one flat, sorted set of arrays, `Observations`; every question about them is a binary
search in it, for all series and dates at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from luxor_pipelines.errors import SchemaError, UsageError, sample
from luxor_pipelines.market.periods import DateArray, DatesLike, as_days

__all__ = [
    "NO_LIMIT",
    "BoolArray",
    "FloatArray",
    "IntArray",
    "Kind",
    "Observations",
    "PriceTable",
    "StalenessLimits",
    "last_rows",
    "merge_observations",
    "sort_key",
]

Kind: TypeAlias = Literal["traded", "fund", "mark"]
FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

NO_LIMIT = 2**31 - 1
"""Age limit, in days, of an observation that never grows stale."""


@dataclass(frozen=True, slots=True)
class PriceTable:
    """A price table: its name, its key and price columns, and the kind of its observations.

    ``kind`` sets the age limit. The rows of a ``fallback`` are kept apart from those of the other tables: as of each
    date the one or the others answer (see `market.prices.asof`).
    """

    name: str
    key_column: str
    price_column: str
    kind: Kind
    fallback: bool = False

    def columns_in(self, available: Collection[str]) -> tuple[str, str]:
        """Return the key and price columns of a file: this table's, or else ``Asset``, ``Last_Price``.

        Raises
        ------
        SchemaError
            If the file has neither pair.
        """
        for pair in ((self.key_column, self.price_column), ("Asset", "Last_Price")):
            if all(column in available for column in pair):
                return pair
        raise SchemaError(
            f"{self.name}: no columns {self.key_column}, {self.price_column}; it has {sample(available, 10)}",
            hint="Check that the table was written by its own pipeline.",
        )


@dataclass(frozen=True, slots=True)
class StalenessLimits:
    """Greatest age, in calendar days, at which an observation still is the price; None is unlimited."""

    traded: int | None
    fund: int | None
    mark: int | None = None

    def days(self, kind: Kind) -> int:
        """Return the limit of ``kind`` in days, `NO_LIMIT` for none."""
        limit: int | None = getattr(self, kind)
        return NO_LIMIT if limit is None else min(limit, NO_LIMIT)


def sort_key(code: NDArray[np.integer[Any]], day: IntArray) -> IntArray:
    """Return one integer per (series, day) that sorts like the pair: series high, day low.

    ``day`` counts from 1970-01-01 and may be negative.
    """
    return (code.astype(np.int64) << 32) + (day + 2**31)


@dataclass(frozen=True, eq=False)
class Observations:
    """Price rows of many series, one per (series, date), sorted by series, then date.

    Attributes
    ----------
    keys
        Names of the series; ``code`` points into it. A series may have no row.
    code, date, price
        Series, date and local-currency price of each row; the price is a number, of a `bad` row any.
    limit
        Greatest age in days at which the row still counts, or `NO_LIMIT`.
    mark
        Whether the row is a typed-in mark.
    fallback
        The rows of the same series in tables that stand in for the others; None where there are none.
    """

    keys: NDArray[np.object_]
    code: NDArray[np.int32]
    date: DateArray
    price: FloatArray
    limit: NDArray[np.int32]
    mark: BoolArray
    fallback: Observations | None = None

    @classmethod
    def from_rows(
        cls,
        keys: NDArray[np.object_],
        code: NDArray[np.int32],
        date: DateArray,
        price: FloatArray,
        limit: NDArray[np.integer[Any]],
        mark: BoolArray,
    ) -> Observations:
        """Sort rows by (series, date) and keep, of those that agree in both, the last given."""
        rows = _sorted_rows(code, date.view(np.int64))
        code, date = code[rows], date[rows]
        last = np.append((code[1:] != code[:-1]) | (date[1:] != date[:-1]), [True] * (len(code) > 0))
        if not last.all():
            rows, code, date = rows[last], code[last], date[last]
        return cls(keys, code, date, price[rows], _taken(limit, rows).astype(np.int32), _taken(mark, rows))

    def __len__(self) -> int:
        return len(self.code)

    @cached_property
    def day(self) -> IntArray:
        """Days of ``date`` from 1970-01-01."""
        return self.date.view(np.int64)

    @cached_property
    def order(self) -> IntArray:
        """The rows' `sort_key`, increasing."""
        return sort_key(self.code, self.day)

    @cached_property
    def bad(self) -> BoolArray:
        """Whether each row's price is none: infinite, negative, or 0 but for a mark."""
        good = (self.price > 0) & (self.price < np.inf)
        return np.asarray(~(good | (self.mark & (self.price == 0))))

    @cached_property
    def present(self) -> BoolArray:
        """Whether each series has any row, on whatever date and in whatever table."""
        there = np.zeros(len(self.keys), dtype=bool)
        there[self.code] = True
        return there if self.fallback is None else there | self.fallback.present

    def first_dates(self) -> DateArray:
        """Return the date of each series' first observation above 0, in whatever table; NaT where it has none."""
        first = np.full(len(self.keys), np.datetime64("NaT", "D"))
        rows = np.flatnonzero(~self.bad & (self.price > 0))[::-1]
        first[self.code[rows]] = self.date[rows]  # of several rows of a series the last one assigned stays
        return first if self.fallback is None else np.fmin(first, self.fallback.first_dates())

    def codes(self, names: Iterable[str]) -> IntArray:
        """Return the position of each of ``names`` in ``keys``, -1 for one that is not there."""
        return np.array([self._position.get(name, -1) for name in names], dtype=np.int64)

    def series(self, key: str) -> tuple[DateArray, FloatArray]:
        """Return dates and prices of one series' rows, sorted, those of the fallback left out."""
        # In the type of `code`: otherwise numpy would convert the whole of it, for each series anew.
        bounds = (self.codes([key])[0] + np.array([0, 1])).astype(self.code.dtype)
        start, stop = np.searchsorted(self.code, bounds)
        return self.date[start:stop], self.price[start:stop]

    def only(self, names: Iterable[str]) -> Observations:
        """Return the rows of these series alone; names that are not in ``keys`` are passed over."""
        names = list(names)
        wanted = np.append(np.zeros(len(self.keys), dtype=bool), False)
        wanted[self.codes(names)] = True
        wanted = wanted[:-1]  # the last stood for the names that are not there
        if wanted.all():
            return self
        fallback = None if self.fallback is None else self.fallback.only(names)
        code = (np.cumsum(wanted) - 1).astype(np.int32)
        # Series follow each other, so that those between two that are left out are one piece.
        edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False)).astype(self.code.dtype)
        pieces = [slice(*ends) for ends in np.searchsorted(self.code, edges).reshape(-1, 2)]
        if sum(piece.stop - piece.start for piece in pieces) == len(self):  # the others have no row
            return replace(self, keys=self.keys[wanted], code=code[self.code], fallback=fallback)
        return Observations(
            self.keys[wanted],
            code[_piece(self.code, pieces)],
            _piece(self.date, pieces),
            _piece(self.price, pieces),
            _piece(self.limit, pieces),
            _piece(self.mark, pieces),
            fallback,
        )

    def joined(self, other: Observations) -> Observations:
        """Return these rows and those of ``other``, whose series these have; on a date of both, these."""
        code = self.codes(other.keys)[other.code].astype(np.int32)
        order = sort_key(code, other.day)
        rows = np.argsort(order, kind="stable")
        at = np.searchsorted(self.order, order[rows])
        new = np.append(self.order, -1)[at] != order[rows]
        rows, at = rows[new], at[new]
        fallback = self.fallback
        if fallback is None and other.fallback is not None:
            fallback = self.without_rows()
        if fallback is not None and other.fallback is not None:
            fallback = fallback.joined(other.fallback)
        return Observations(
            self.keys,
            np.insert(self.code, at, code[rows]),
            np.insert(self.date, at, other.date[rows]),
            np.insert(self.price, at, other.price[rows]),
            np.insert(self.limit, at, other.limit[rows]),
            np.insert(self.mark, at, other.mark[rows]),
            fallback,
        )

    def without_rows(self) -> Observations:
        """Return the same series without a row."""
        return self._kept(slice(0))

    def without_bad(self) -> Observations:
        """Return the rows that are not bad, those of the fallback left out."""
        return self._kept(~self.bad) if self.fallback is not None or self.bad.any() else self

    def _kept(self, rows: slice | BoolArray) -> Observations:
        return Observations(
            self.keys, self.code[rows], self.date[rows], self.price[rows], self.limit[rows], self.mark[rows]
        )

    def locate(self, code: IntArray, day: IntArray) -> tuple[IntArray, BoolArray]:
        """Find the row that each series has on each day, those of the fallback left out.

        It is the last one dated on or before the day that is within its own age limit; failing that, stale, the last
        observation of any age; failing that the last bad row.

        Parameters
        ----------
        code, day
            The pairs asked for; days from 1970-01-01.

        Returns
        -------
        index
            Position of the row, -1 where none is dated on or before the day.
        stale
            Whether there is one, but none within its limit.
        """
        if not len(self):
            return np.full(len(code), -1), np.zeros(len(code), dtype=bool)
        index = np.searchsorted(self.order, sort_key(code, day), side="right") - 1
        index[self.code[index] != code] = -1
        return self.settle(index, code, day)

    def settle(self, last: IntArray, code: NDArray[np.integer[Any]], day: IntArray) -> tuple[IntArray, BoolArray]:
        """Do what `locate` does, given the last row of any age, -1 for none."""
        one_limit = bool(len(self)) and self.limit.min() == self.limit.max()
        stale = day - self.day[last] > (self.limit[0] if one_limit else self.limit[last])
        stale &= last >= 0
        again = np.flatnonzero(stale)
        if not len(again):
            return last, stale
        index = last.copy()
        if self.bad.any():
            index[again] = self._last_good[last[again]]
        if one_limit:
            return index, stale
        # An earlier row with a longer limit may still stand when the last one is too old.
        # Per limit only its last can; positions grow with the date, so the greatest wins.
        code, day = code[again], day[again]
        query, best = sort_key(code, day), np.full(len(again), -1)
        for limit, positions, order in self._by_limit:
            nth = np.searchsorted(order, query, side="right") - 1
            found = positions[nth]
            eligible = (nth >= 0) & (self.code[found] == code) & (day - self.day[found] <= limit)
            best = np.where(eligible, np.maximum(best, found), best)
        index[again] = np.where(best >= 0, best, index[again])
        stale[again] = best < 0
        return index, stale

    @cached_property
    def _last_good(self) -> IntArray:
        """For each row the position of its series' last row up to it that is not bad, its own where all are bad."""
        rows = np.arange(len(self))
        good = np.maximum.accumulate(np.where(self.bad, -1, rows))
        return np.where((good >= 0) & (self.code[good] == self.code), good, rows)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {key: position for position, key in enumerate(self.keys.tolist())}

    @cached_property
    def _by_limit(self) -> list[tuple[int, IntArray, IntArray]]:
        """Each distinct limit with its observations' positions and their sort keys."""
        limits = [int(limit) for limit in pd.unique(self.limit)]
        positions = [np.flatnonzero(self.limit == limit) for limit in limits]
        return [(limit, at, self.order[at]) for limit, at in zip(limits, positions, strict=True)]


def _piece(values: NDArray[Any], pieces: Sequence[slice]) -> NDArray[Any]:
    return np.concatenate([values[:0], *(values[piece] for piece in pieces)])


def _taken(values: NDArray[Any], rows: IntArray) -> NDArray[Any]:
    """``values[rows]``, of values which mostly are all the same."""
    return values[: len(rows)] if len(rows) and values.min() == values.max() else values[rows]


def _sorted_rows(code: NDArray[np.integer[Any]], day: IntArray) -> IntArray:
    """The positions of rows in the order of (series, day); of equal ones in the order given."""
    if not len(day):
        return np.empty(0, dtype=np.int64)
    if code.max() < 2**16:  # numpy sorts numbers of two bytes digit by digit
        code = code.astype(np.uint16)
    if (day[1:] >= day[:-1]).all():  # as files sorted by date are
        return np.argsort(code, kind="stable")
    since = day - day.min()
    rows = np.argsort(since.astype(np.uint16) if since.max() < 2**16 else since, kind="stable")
    return rows[np.argsort(code[rows], kind="stable")]


def merge_observations(
    keys: Sequence[str] | NDArray[Any],
    parts: Iterable[tuple[PriceTable, ArrayLike, DatesLike, ArrayLike]],
    *,
    tables: Sequence[PriceTable],
    limits: StalenessLimits,
) -> Observations:
    """Merge the rows of several price tables into one per (series, date), those of fallback tables by themselves.

    A null price or date makes no row, nor does a negative series code. Where several tables have a row of one date,
    bad or not, the one earlier in ``tables`` wins; within a table the last physical row.

    Parameters
    ----------
    keys
        Distinct names of the series.
    parts
        ``(table, codes, dates, prices)`` per table, or piece of a table, in any order of tables;
        ``codes`` are positions in ``keys``, negative for a row to ignore.
    tables
        All price tables, in descending precedence.
    limits
        Age limits in calendar days.

    Raises
    ------
    UsageError
        If ``keys`` repeats a name, a code points past it, or a part's table is not in ``tables``.
    """
    names = np.array(list(keys), dtype=object)
    if len(set(names)) != len(names):
        raise UsageError("The series names repeat", hint="Pass each price key once.")
    rank = {table: position for position, table in enumerate(tables)}
    given = list(parts)
    unknown = [table.name for table, *_ in given if table not in rank]
    if unknown:
        raise UsageError(f"No precedence for {sample(unknown)}", hint="List the table in `tables`.")
    # Weakest table first and a stable sort: of rows that agree in series and date, the last one wins.
    given.sort(key=lambda part: rank[part[0]], reverse=True)
    own = _merged(names, [part for part in given if not part[0].fallback], limits)
    fallback = _merged(names, [part for part in given if part[0].fallback], limits)
    return replace(own, fallback=fallback) if len(fallback) else own


def _merged(
    names: NDArray[np.object_],
    parts: Sequence[tuple[PriceTable, ArrayLike, DatesLike, ArrayLike]],
    limits: StalenessLimits,
) -> Observations:
    kept = []
    for table, codes, dates, prices in parts:
        code, day, price = _valid_rows(table, codes, dates, prices, len(names))
        if len(code):
            kept.append((code, day, price, limits.days(table.kind), table.kind == "mark"))
    if not kept:  # an empty part keeps the types
        nothing = np.empty(0)
        kept.append((nothing.astype(np.int32), nothing.astype("datetime64[D]"), nothing, 0, False))
    return Observations.from_rows(
        names,
        _joined([code for code, *_ in kept]),
        _joined([day for _, day, *_ in kept]),
        _joined([price for _, _, price, *_ in kept]),
        _joined([np.full(len(code), limit, dtype=np.int32) for code, _, _, limit, _ in kept]),
        _joined([np.full(len(code), mark) for code, *_, mark in kept]),
    )


def last_rows(
    code: NDArray[np.integer[Any]], date: DateArray, price: FloatArray, dates: DatesLike, n_keys: int
) -> IntArray | None:
    """Find, in rows of a table without marks, the last row and observation of each series up to each of some dates.

    Those from one date asked for to the next are looked at by themselves, so that all as-of prices on these
    dates are among what is found: positions, in ascending order. None where the rows are not in order of date.

    Parameters
    ----------
    code
        Positions of the series among ``n_keys``, negative for a row to ignore.
    """
    asked = np.sort(as_days(dates))
    day = date.view(np.int64)  # in which a null is before all
    if not len(day) or np.isnat(date[0]) or not (day[1:] >= day[:-1]).all():
        return None
    ends = np.searchsorted(date, asked, side="right")
    last = np.empty(n_keys, dtype=np.int64)

    def note(rows: IntArray, *, good: bool) -> None:
        part = price[rows]
        rows = rows[((part > 0) & (part < np.inf) if good else part == part) & (code[rows] >= 0)]
        last[code[rows]] = rows  # of several rows of a series the last one stays

    bad = (price <= 0) | (price == np.inf)  # a NaN is no row
    any_bad = bool(bad.any())
    if any_bad:
        # The last of the rows that agree in series and date counts; a bad one must not leave the one before it.
        pair = sort_key(code, day)
        among = np.flatnonzero(np.isin(pair, pair[bad]) & ~np.isnan(price))
        among = among[np.argsort(pair[among], kind="stable")]
        code = code.copy()
        code[among[:-1][pair[among[1:]] == pair[among[:-1]]]] = -1

    found = []
    for start, stop in pairwise(np.unique([0, *ends])):  # in pieces that a processor's cache holds
        for good in (True, False) if any_bad else (True,):
            last.fill(-1)
            recent = max(start, stop - 2 * n_keys)  # in which most series have a row
            note(np.arange(recent, stop), good=good)
            unseen = np.append(last < 0, False)  # the last is for rows to ignore
            note(start + np.flatnonzero(unseen[code[start:recent]]), good=good)
            found.append(last[last >= 0])
    return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *found]))


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _valid_rows(
    table: PriceTable, codes: ArrayLike, dates: DatesLike, prices: ArrayLike, n_keys: int
) -> tuple[NDArray[np.int32], DateArray, FloatArray]:
    code, day = np.asarray(codes, dtype=np.int32), as_days(dates)
    price = np.asarray(prices, dtype=np.float64)
    if len(code) and code.max() >= n_keys:
        raise UsageError(
            f"{table.name}: series code {code.max()} of {n_keys} series",
            hint="Codes are positions in `keys`.",
        )
    usable = ~np.isnan(price) & ~np.isnat(day) & (code >= 0)
    return (code, day, price) if usable.all() else (code[usable], day[usable], price[usable])
