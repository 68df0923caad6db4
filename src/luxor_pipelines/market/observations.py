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
            hint="A price table has these two, by these names: rename the columns of a file that is loaded, or check "
            "which program wrote the table.",
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
        Series, date and local-currency price of each row; the price of a `bad` row may be any number but NaN.
    limit
        Greatest age in days at which the row still counts, or `NO_LIMIT`.
    mark
        Whether the row is a typed-in mark.
    fallback
        The rows of the same series in fallback tables; None where there are none.
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
        """Sort rows by (series, date); of rows that agree in both, only the last one given is kept."""
        rows = _sorted_rows(code, date.view(np.int64))
        code, date = code[rows], date[rows]
        last = np.append((code[1:] != code[:-1]) | (date[1:] != date[:-1]), [True] * (len(code) > 0))
        if not last.all():
            rows, code, date = rows[last], code[last], date[last]
        return cls(keys, code, date, price[rows], _take(limit, rows).astype(np.int32), _take(mark, rows))

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
        """Whether each row's price is no valid one: infinite, negative, or, other than for a mark, 0."""
        good = (self.price > 0) & (self.price < np.inf)
        return np.asarray(~(good | (self.mark & (self.price == 0))))

    @cached_property
    def present(self) -> BoolArray:
        """Whether each series has any row, on whatever date and in whatever table."""
        present = np.zeros(len(self.keys), dtype=bool)
        present[self.code] = True
        return present if self.fallback is None else present | self.fallback.present

    def first_dates(self) -> DateArray:
        """Return the date of each series' first observation above 0, in whatever table; NaT where it has none."""
        first = np.full(len(self.keys), np.datetime64("NaT", "D"))
        rows = np.flatnonzero(~self.bad & (self.price > 0))[::-1]
        first[self.code[rows]] = self.date[rows]  # of several rows of a series the last one assigned stays
        return first if self.fallback is None else np.fmin(first, self.fallback.first_dates())

    def codes(self, names: Iterable[str]) -> IntArray:
        """Return the position of each of ``names`` in ``keys``, -1 for a name that ``keys`` does not have."""
        return np.array([self._position.get(name, -1) for name in names], dtype=np.int64)

    def series(self, key: str) -> tuple[DateArray, FloatArray]:
        """Return dates and prices of one series' rows, sorted, those of the fallback left out."""
        # In the type of `code`: otherwise numpy would convert the whole of it, for each series anew.
        bounds = (self.codes([key])[0] + np.array([0, 1])).astype(self.code.dtype)
        start, stop = np.searchsorted(self.code, bounds)
        return self.date[start:stop], self.price[start:stop]

    def only(self, names: Iterable[str]) -> Observations:
        """Return the rows of these series alone; names that are not in ``keys`` are ignored."""
        names = list(names)
        selected = np.append(np.zeros(len(self.keys), dtype=bool), False)
        selected[self.codes(names)] = True
        selected = selected[:-1]  # the last cell is for names that `keys` does not have, whose code is -1
        if selected.all():
            return self
        fallback = None if self.fallback is None else self.fallback.only(names)
        code = (np.cumsum(selected) - 1).astype(np.int32)
        # Rows are sorted by series, so the rows of neighbouring series are one slice.
        edges = np.flatnonzero(np.diff(selected, prepend=False, append=False)).astype(self.code.dtype)
        pieces = [slice(*ends) for ends in np.searchsorted(self.code, edges).reshape(-1, 2)]
        if sum(piece.stop - piece.start for piece in pieces) == len(self):  # the other series have no row
            return replace(self, keys=self.keys[selected], code=code[self.code], fallback=fallback)
        return Observations(
            self.keys[selected],
            code[_piece(self.code, pieces)],
            _piece(self.date, pieces),
            _piece(self.price, pieces),
            _piece(self.limit, pieces),
            _piece(self.mark, pieces),
            fallback,
        )

    def joined(self, other: Observations) -> Observations:
        """Return these rows and those of ``other``, whose series these have; on a date of both, this row counts."""
        code = self.codes(other.keys)[other.code].astype(np.int32)
        order = sort_key(code, other.day)
        rows = np.argsort(order, kind="stable")
        at = np.searchsorted(self.order, order[rows])
        is_new = np.append(self.order, -1)[at] != order[rows]
        rows, at = rows[is_new], at[is_new]
        fallback = self.fallback
        if fallback is None and other.fallback is not None:
            fallback = self.without_rows()
        if fallback is not None and other.fallback is not None:
            fallback = fallback.joined(other.fallback)
        added = (code[rows], other.date[rows], other.price[rows], other.limit[rows], other.mark[rows])
        return replace(self.with_rows(at, *added), fallback=fallback)

    def with_rows(
        self,
        at: IntArray,
        code: NDArray[np.integer[Any]],
        date: DateArray,
        price: FloatArray,
        limit: NDArray[np.int32],
        mark: BoolArray,
    ) -> Observations:
        """Return these rows and some others, each before the row at its position, where the order has it."""
        return replace(
            self,
            code=np.insert(self.code, at, code),
            date=np.insert(self.date, at, date),
            price=np.insert(self.price, at, price),
            limit=np.insert(self.limit, at, limit),
            mark=np.insert(self.mark, at, mark),
        )

    def without_rows(self) -> Observations:
        """Return the same series without a row."""
        return self._select(slice(0))

    def without_bad(self) -> Observations:
        """Return the rows that are not bad, those of the fallback left out."""
        return self._select(~self.bad) if self.fallback is not None or self.bad.any() else self

    def _select(self, rows: slice | BoolArray) -> Observations:
        return Observations(
            self.keys, self.code[rows], self.date[rows], self.price[rows], self.limit[rows], self.mark[rows]
        )

    def locate(self, code: IntArray, day: IntArray) -> tuple[IntArray, BoolArray]:
        """Find the row of each series as of each day, without those of the fallback.

        It is the last row dated on or before the day that is within its own age limit. If there is none, it is the
        last observation of any age, or else the last bad row; the row is then stale.

        Parameters
        ----------
        code, day
            The pairs of a series and a day, in days from 1970-01-01.

        Returns
        -------
        index
            Position of the row, -1 where none is dated on or before the day.
        stale
            Whether there are rows, but none within its limit.
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
        too_old = np.flatnonzero(stale)
        if not len(too_old):
            return last, stale
        index = last.copy()
        if self.bad.any():
            index[too_old] = self._last_good[last[too_old]]
        if one_limit:
            return index, stale
        # When the last row is too old, an earlier one with a longer limit may still count: of each limit only the
        # last row can, and of those the one at the greatest position is the newest.
        code, day = code[too_old], day[too_old]
        query, newest = sort_key(code, day), np.full(len(too_old), -1)
        for limit, positions, order in self._by_limit:
            nth = np.searchsorted(order, query, side="right") - 1
            candidate = positions[nth]
            eligible = (nth >= 0) & (self.code[candidate] == code) & (day - self.day[candidate] <= limit)
            newest = np.where(eligible, np.maximum(newest, candidate), newest)
        index[too_old] = np.where(newest >= 0, newest, index[too_old])
        stale[too_old] = newest < 0
        return index, stale

    @cached_property
    def _last_good(self) -> IntArray:
        """The position of the last good row of its series up to each row; the row's own where all are bad."""
        rows = np.arange(len(self))
        good = np.maximum.accumulate(np.where(self.bad, -1, rows))
        return np.where((good >= 0) & (self.code[good] == self.code), good, rows)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {key: position for position, key in enumerate(self.keys.tolist())}

    @cached_property
    def _by_limit(self) -> list[tuple[int, IntArray, IntArray]]:
        """Each distinct limit with its observations' positions and their sort keys."""
        limits = [int(limit) for limit in np.unique(self.limit)]
        positions = [np.flatnonzero(self.limit == limit) for limit in limits]
        return [(limit, at, self.order[at]) for limit, at in zip(limits, positions, strict=True)]


def _piece(values: NDArray[Any], pieces: Sequence[slice]) -> NDArray[Any]:
    return np.concatenate([values[:0], *(values[piece] for piece in pieces)])


def _take(values: NDArray[Any], rows: IntArray) -> NDArray[Any]:
    """Return ``values[rows]``, quickly where all values are the same, as they mostly are."""
    return values[: len(rows)] if len(rows) and values.min() == values.max() else values[rows]


def _sorted_rows(code: NDArray[np.integer[Any]], day: IntArray) -> IntArray:
    """Return the positions of rows in the order of (series, day); equal rows keep the order given."""
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
    """Merge the rows of several price tables into one per (series, date); those of fallback tables are kept apart.

    A null price or date makes no row, nor does a negative series code. If several tables have a row of one date, bad or
    not, the table that comes first in ``tables`` wins; within a table the last physical row.

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
    ranked = list(parts)
    unknown = [table.name for table, *_ in ranked if table not in rank]
    if unknown:
        raise UsageError(f"No precedence for {sample(unknown)}", hint="List the table in `tables`.")
    # Weakest table first and a stable sort: of rows that agree in series and date, the last one wins.
    ranked.sort(key=lambda part: rank[part[0]], reverse=True)
    own = _merged(names, [part for part in ranked if not part[0].fallback], limits)
    fallback = _merged(names, [part for part in ranked if part[0].fallback], limits)
    return replace(own, fallback=fallback) if len(fallback) else own


def _merged(
    names: NDArray[np.object_],
    parts: Sequence[tuple[PriceTable, ArrayLike, DatesLike, ArrayLike]],
    limits: StalenessLimits,
) -> Observations:
    """Return the valid rows of some tables, given weakest first, as observations; see `merge_observations`."""
    pieces = []
    for table, codes, dates, prices in parts:
        code, day, price = _valid_rows(table, codes, dates, prices, len(names))
        if len(code):
            pieces.append((code, day, price, limits.days(table.kind), table.kind == "mark"))
    if not pieces:  # an empty piece keeps the types
        empty = np.empty(0)
        pieces.append((empty.astype(np.int32), empty.astype("datetime64[D]"), empty, 0, False))
    return Observations.from_rows(
        names,
        _joined([code for code, *_ in pieces]),
        _joined([day for _, day, *_ in pieces]),
        _joined([price for _, _, price, *_ in pieces]),
        _joined([np.full(len(code), limit, dtype=np.int32) for code, _, _, limit, _ in pieces]),
        _joined([np.full(len(code), mark) for code, *_, mark in pieces]),
    )


def last_rows(
    code: NDArray[np.integer[Any]], date: DateArray, price: FloatArray, dates: DatesLike, n_keys: int
) -> IntArray | None:
    """Find the last row and the last observation of each series in each stretch from one of ``dates`` to the next.

    The rows hold all prices as of these dates. They are returned as positions, in ascending order; None where the
    rows are not in order of date.

    Parameters
    ----------
    code, date, price
        The rows of a table without marks: series, as positions among ``n_keys``, negative for a row to ignore;
        dates, and prices.
    """
    day = date.view(np.int64)  # in which a null is before all
    if not len(day) or np.isnat(date[0]) or not (day[1:] >= day[:-1]).all():
        return None
    ends = np.searchsorted(date, np.sort(as_days(dates)), side="right")
    last = np.empty(n_keys, dtype=np.int64)

    def record(rows: IntArray, *, good: bool) -> None:
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

    is_last = np.zeros(len(day), dtype=bool)
    for start, stop in pairwise(np.unique([0, *ends])):
        for good in (True, False) if any_bad else (True,):
            last.fill(-1)
            recent = max(start, stop - 2 * n_keys)  # most series have a row from here on
            record(np.arange(recent, stop), good=good)
            unseen = np.append(last < 0, False)  # the last cell is for rows to ignore
            record(start + np.flatnonzero(unseen[code[start:recent]]), good=good)
            is_last[last[last >= 0]] = True
    return np.flatnonzero(is_last)


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
