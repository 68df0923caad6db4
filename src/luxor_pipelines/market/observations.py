"""Observed prices of many series, merged from the lake's price tables.

All series live in one flat, sorted set of arrays, `Observations`; every question about them is a
binary search in it, for all series and dates at once.
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

    ``kind`` sets the age limit. A ``fallback`` serves a series only where no other table has it.
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
    """Observed prices of many series, one per (series, date), sorted by series, then date.

    Attributes
    ----------
    keys
        Names of the series; ``code`` points into it. A series may have no observation.
    code, date, price
        Series, date and local-currency price of each observation; the price is finite and positive,
        or exactly 0 for a mark.
    limit
        Greatest age in days at which the observation still is the price, or `NO_LIMIT`.
    mark
        Whether the observation is a typed-in mark.
    """

    keys: NDArray[np.object_]
    code: NDArray[np.int32]
    date: DateArray
    price: FloatArray
    limit: NDArray[np.int32]
    mark: BoolArray

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
        """The observations' `sort_key`, increasing."""
        return sort_key(self.code, self.day)

    def codes(self, names: Iterable[str]) -> IntArray:
        """Return the position of each of ``names`` in ``keys``, -1 for one that is not there."""
        return np.asarray(self._index.get_indexer(pd.Index(list(names), dtype=object)), dtype=np.int64)

    def series(self, key: str) -> tuple[DateArray, FloatArray]:
        """Return dates and prices of one series, sorted; empty where it is unknown or has none."""
        # In the type of `code`: otherwise numpy would convert the whole of it, for each series anew.
        bounds = (self.codes([key])[0] + np.array([0, 1])).astype(self.code.dtype)
        start, stop = np.searchsorted(self.code, bounds)
        return self.date[start:stop], self.price[start:stop]

    def only(self, names: Iterable[str]) -> Observations:
        """Return the observations of these series alone; names that are not in ``keys`` are passed over."""
        wanted = np.append(np.zeros(len(self.keys), dtype=bool), False)
        wanted[self.codes(names)] = True
        wanted = wanted[:-1]  # the last stood for the names that are not there
        if wanted.all():
            return self
        code = (np.cumsum(wanted) - 1).astype(np.int32)
        # Series follow each other, so that those between two that are left out are one piece.
        edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False)).astype(self.code.dtype)
        pieces = [slice(*ends) for ends in np.searchsorted(self.code, edges).reshape(-1, 2)]
        if sum(piece.stop - piece.start for piece in pieces) == len(self):  # the others have no observation
            return replace(self, keys=self.keys[wanted], code=code[self.code])
        kept = (
            code[_piece(self.code, pieces)],
            *(_piece(values, pieces) for values in (self.date, self.price, self.limit, self.mark)),
        )
        return Observations(self.keys[wanted], *kept)

    def joined(self, other: Observations) -> Observations:
        """Return these observations and those of ``other``, whose series these have; on a date of both, these."""
        code = self.codes(other.keys)[other.code].astype(np.int32)
        order = sort_key(code, other.day)
        rows = np.argsort(order, kind="stable")
        at = np.searchsorted(self.order, order[rows])
        new = np.append(self.order, -1)[at] != order[rows]
        rows, at = rows[new], at[new]
        return Observations(
            self.keys,
            np.insert(self.code, at, code[rows]),
            np.insert(self.date, at, other.date[rows]),
            np.insert(self.price, at, other.price[rows]),
            np.insert(self.limit, at, other.limit[rows]),
            np.insert(self.mark, at, other.mark[rows]),
        )

    def locate(self, code: IntArray, day: IntArray) -> tuple[IntArray, BoolArray]:
        """Find the observation that is the price of each series on each day.

        It is the last one dated on or before the day that is within its own age limit; failing that
        the last one of any age, which is stale.

        Parameters
        ----------
        code, day
            The pairs asked for; days from 1970-01-01.

        Returns
        -------
        index
            Position of the observation, -1 where none is dated on or before the day.
        stale
            Whether there is one, but none within its limit.
        """
        if not len(self):
            return np.full(len(code), -1), np.zeros(len(code), dtype=bool)
        index = np.searchsorted(self.order, sort_key(code, day), side="right") - 1
        index[self.code[index] != code] = -1
        return self.settle(index, code, day)

    def settle(self, last: IntArray, code: NDArray[np.integer[Any]], day: IntArray) -> tuple[IntArray, BoolArray]:
        """Do what `locate` does, given the last observation of any age, -1 for none."""
        one_limit = bool(len(self)) and self.limit.min() == self.limit.max()
        stale = day - self.day[last] > (self.limit[0] if one_limit else self.limit[last])
        stale &= last >= 0
        again = np.flatnonzero(stale)
        if not len(again) or one_limit:
            return last, stale
        # Where the last observation is too old, an earlier one with a longer limit may still stand.
        # Per limit only its last can; positions grow with the date, so the greatest wins.
        code, day = code[again], day[again]
        query, best = sort_key(code, day), np.full(len(again), -1)
        for limit, positions, order in self._by_limit:
            nth = np.searchsorted(order, query, side="right") - 1
            found = positions[nth]
            eligible = (nth >= 0) & (self.code[found] == code) & (day - self.day[found] <= limit)
            best = np.where(eligible, np.maximum(best, found), best)
        index = last.copy()
        index[again] = np.where(best >= 0, best, last[again])
        stale[again] = best < 0
        return index, stale

    @cached_property
    def _index(self) -> pd.Index[Any]:
        return pd.Index(self.keys, dtype=object)

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
    """Merge the rows of several price tables into one observation per (series, date).

    Rows that are no observation are left out: a null or infinite price, a price of 0 or below (a mark
    of exactly 0 is kept), a null date, a negative series code. Where several tables have a price for
    one date, the one earlier in ``tables`` wins; within a table the last physical row. A fallback
    table's rows count only for series that no other table in ``parts`` has.

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

    has_own = np.zeros(len(names), dtype=bool)
    kept = []
    for table, codes, dates, prices in sorted(given, key=lambda part: part[0].fallback):
        code, day, price = _valid_rows(table, codes, dates, prices, len(names))
        if table.fallback:
            alone = ~has_own[code]
            code, day, price = code[alone], day[alone], price[alone]
        else:
            has_own[code] = True
        if len(code):
            kept.append((table, code, day, price))
    if not kept:  # an empty part keeps the types
        kept.append((tables[0], *_valid_rows(tables[0], [], [], [], 0)))
    # Weakest table first and a stable sort: of rows that agree in series and date, the last one wins.
    kept.sort(key=lambda part: rank[part[0]], reverse=True)
    return Observations.from_rows(
        names,
        _joined([code for _, code, _, _ in kept]),
        _joined([day for _, _, day, _ in kept]),
        _joined([price for *_, price in kept]),
        _joined([np.full(len(code), limits.days(table.kind), dtype=np.int32) for table, code, _, _ in kept]),
        _joined([np.full(len(code), table.kind == "mark") for table, code, _, _ in kept]),
    )


def last_rows(
    code: NDArray[np.integer[Any]], date: DateArray, price: FloatArray, dates: DatesLike, n_keys: int
) -> IntArray | None:
    """Find, in rows of a table of positive prices, the last observation of each series up to each of some dates.

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

    def note(rows: IntArray) -> None:
        part = price[rows]
        rows = rows[(part > 0) & (part < np.inf) & (code[rows] >= 0)]
        last[code[rows]] = rows  # of several rows of a series the last one stays

    found = []
    for start, stop in pairwise(np.unique([0, *ends])):  # in pieces that a processor's cache holds
        last.fill(-1)
        recent = max(start, stop - 2 * n_keys)  # in which most series have a row
        note(np.arange(recent, stop))
        unseen = np.append(last < 0, False)  # the last is for rows to ignore
        note(start + np.flatnonzero(unseen[code[start:recent]]))
        found.append(np.sort(last[last >= 0]))
    return np.concatenate([np.empty(0, dtype=np.int64), *found])


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
    usable = price >= 0 if table.kind == "mark" else price > 0
    usable &= (price < np.inf) & ~np.isnat(day) & (code >= 0)
    return (code, day, price) if usable.all() else (code[usable], day[usable], price[usable])
