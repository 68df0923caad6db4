"""`StoredSeries`: the series of one price table, whose rows are read by date, or as the last ones before a date.

A file written by this library carries an index of its series: the first date and the last row of each (see
`lake.parquet.series_index`). In other files the rows are searched. Only this module knows which way is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luxor_pipelines.lake.parquet import series_index
from luxor_pipelines.lake.parquet.predicates import Where
from luxor_pipelines.lake.table.cache import TableCache
from luxor_pipelines.lake.types.schema import DATE, NUMBER, TEXT
from luxor_pipelines.market.observations import (
    BoolArray,
    FloatArray,
    IntArray,
    Observations,
    PriceTable,
    StalenessLimits,
    last_rows,
    merge_observations,
    sort_key,
)
from luxor_pipelines.market.periods import DateArray, as_days, days_before
from luxor_pipelines.market.prices import AsOf, asof
from luxor_pipelines.names import normal_names

__all__ = ["Names", "Rows", "StoredSeries"]

Names = NDArray[np.object_]
Rows = tuple[PriceTable, NDArray[np.integer[Any]], DateArray, FloatArray]
"""A table and its rows: the position of each row's series in ``names``, its day and its price."""
Span = tuple[date | None, date | None]
"""A first and a last day, both included; None is open."""

_NAT = np.datetime64("NaT", "D")
_BACK = (366, 3 * 366, 7 * 366, 15 * 366)
"""Days before the first date at which the steps of a search end: a year back, then ever further."""


class _Ends(NamedTuple):
    """The first and last date of some series in a table, NaT for a series without rows, and the last row's price."""

    first: DateArray
    last: DateArray
    price: FloatArray


class StoredSeries:
    """One price table, its rows addressed by series and date.

    Raises `SchemaError` when it is first read, if the table has columns of types that cannot be meant.
    """

    def __init__(self, cache: TableCache, table: PriceTable) -> None:
        self._cache = cache
        self.table = table

    @cached_property
    def _columns(self) -> tuple[str, str]:
        """The names of the columns of series and prices."""

        def find() -> tuple[str, str]:
            key, price = self.table.columns_in(self._cache.codec(self.table.name).stored.names)
            kinds = {"Date": DATE, key: TEXT, price: NUMBER}
            self._cache.check_types(self.table.name, kinds, {"date": ["Date"], "float": [price]})
            return key, price

        return self._cache.derive(self.table.name, "columns", find)

    @property
    def in_memory(self) -> bool:
        """Whether the whole table is decoded for any answer, and kept, as a legacy file is."""
        return self._cache.decoded_whole(self.table.name)

    def between(self, names: Names, spans: Iterable[Span], *, upto: Sequence[date] = (), keep: bool = True) -> Rows:
        """Read the rows of some series in some spans of days.

        Parameters
        ----------
        upto
            Only the last row, and the last observation, of each series up to each of these dates is needed: if the
            file is in order of date, the others are left out.
        keep
            Keep the answer in the cache. Otherwise it is that of a long history: the rows of all series are read, and
            reduced batch by batch to those that are needed.
        """
        key, price = self._columns
        where = [Where("Date", tuple(_instants(spans)))]
        if keep:
            where.append(Where(key, values=tuple(name for name in names if name), folded=True))
        arrays = _Reader(key, price, names)
        dates = as_days(upto)

        def last(rows: pa.Table) -> pa.Table:
            positions = last_rows(*arrays(rows), dates, len(names))
            return rows if positions is None else rows.take(pa.array(positions))

        rows = self._cache.scan(
            self.table.name,
            ("Date", key, price),
            tuple(where),
            dictionary=(key, "Date"),
            overrides={"date": ["Date"], "float": [price]},
            keep=keep,
            more=True,
            **({} if keep or not upto else {"per_batch": last}),
        )
        code, day, number = arrays(rows)
        positions = last_rows(code, day, number, dates, len(names)) if upto else None
        if positions is not None:
            code, day, number = code[positions], day[positions], number[positions]
        if not keep:
            del rows
            pa.default_memory_pool().release_unused()  # else Arrow holds it back, and numpy asks for more
        return self.table, code, day, number

    def last_before(self, names: Names, dates: DateArray, is_open: BoolArray, *, keep: bool = True) -> list[Rows]:
        """Read the last rows of some series up to some dates, however far back they lie.

        Parameters
        ----------
        is_open
            The pairs of a series and a date that are to be looked up, [names, dates].

        Returns
        -------
        list
            Rows. For each pair they include the last observation dated on or before the date and all bad rows since;
            for a series that has only other rows they include some row.
        """
        series = np.flatnonzero(is_open.any(axis=1))
        if not len(series):
            return []
        ends = self._ends(names[series])
        if ends is None:
            return self._backwards(names, series, dates, is_open, keep=keep)
        indexed = ~np.isnat(ends.last) & ~np.isnan(ends.price)
        rows: list[Rows] = [(self.table, series[indexed], ends.last[indexed], ends.price[indexed])]
        # The last row is the answer for the dates from its own on, if it is an observation.
        good = (ends.price > 0) & (ends.price < np.inf)
        before = (ends.first[:, np.newaxis] <= dates) & ((dates < ends.last[:, np.newaxis]) | ~good[:, np.newaxis])
        is_unindexed = np.zeros_like(is_open)
        is_unindexed[series] = is_open[series] & before
        unindexed = np.flatnonzero(is_unindexed.any(axis=1))
        return rows + self._backwards(names, unindexed, dates, is_unindexed, keep=keep)

    def _backwards(
        self, names: Names, series: IntArray, dates: DateArray, is_open: BoolArray, *, keep: bool
    ) -> list[Rows]:
        """Search the rows of some series in the year before the dates, then, for those without one, ever further back.

        The last step reads all other rows, after the dates as well, which shows whether a series exists at all.
        """
        if not len(series):
            return []
        first, last = dates.min().item(), dates.max().item()
        edges = [days_before(first, days) for days in _BACK]
        steps: list[list[Span]] = [[(edges[0], last)]]
        steps += [[(old, days_before(new, 1))] for new, old in pairwise(edges)]
        steps += [[(None, days_before(edges[-1], 1)), (_next(last), None)]]
        if self.in_memory:
            steps = [[(None, None)]]
        rows: list[Rows] = []
        is_open = is_open[series]
        for spans in steps:
            if not len(series):
                break
            step = self.between(names[series], spans, keep=keep)
            merged = merge_observations(names[series], [step], tables=(self.table,), limits=StalenessLimits(None, None))
            merged = merged if merged.fallback is None else merged.fallback
            answers = asof(merged.without_bad(), dates)
            at = self._answer_rows(merged, answers)
            rows.append((self.table, series[merged.code[at]], merged.date[at], merged.price[at]))
            is_open &= ~answers.has_row
            unanswered = is_open.any(axis=1)
            series, is_open = series[unanswered], is_open[unanswered]
        return rows

    @staticmethod
    def _answer_rows(merged: Observations, answers: AsOf) -> BoolArray:
        """Return which rows can be an answer: those that are one as of some date, are bad, or end their series."""
        is_answer: BoolArray = merged.bad | (np.diff(merged.code, append=-1) != 0)
        series, _ = np.nonzero(answers.has_row)
        is_answer[np.searchsorted(merged.order, sort_key(series, answers.date[answers.has_row].view(np.int64)))] = True
        return is_answer

    def _ends(self, names: Names) -> _Ends | None:
        """Return the ends of some series; None where a file of the table does not carry the index."""
        key, price = self._columns
        table = self._cache.series_index(self.table.name, key)
        if table is None or set(table.column_names) != {"Date", key, price, series_index.FIRST}:
            return None
        indexed, ends = self._cache.derive(self.table.name, f"ends of {key}", lambda: _combined(table, key, price))
        at = pc.fill_null(pc.index_in(pa.array(names, pa.string()), value_set=indexed), -1).to_numpy()
        missing = (_NAT, _NAT, np.nan)
        return _Ends(*(np.append(values, [null])[at] for values, null in zip(ends, missing, strict=True)))


def _combined(table: pa.Table, key: str, price: str) -> tuple[pa.Array, _Ends]:
    """Return the names in the indexes of all partitions, and the ends of each series over all partitions."""
    encoded = normal_names(table[key].combine_chunks()).dictionary_encode()
    code = encoded.indices.to_numpy()
    first, last = (table[name].to_numpy().astype("datetime64[D]") for name in (series_index.FIRST, "Date"))
    size = len(encoded.dictionary)
    ends = _Ends(np.full(size, _NAT), np.full(size, _NAT), np.full(size, np.nan))
    # The last one assigned stays of several rows of a name.
    later, earlier = np.argsort(last, kind="stable"), np.argsort(-first.view(np.int64), kind="stable")
    ends.last[code[later]], ends.price[code[later]] = last[later], table[price].to_numpy()[later]
    ends.first[code[earlier]] = first[earlier]
    return encoded.dictionary, ends


# --- spans of days ---------------------------------------------------------------------------------


def _next(day: date) -> date:
    return day if day == date.max else day + timedelta(days=1)


def _instants(spans: Iterable[Span]) -> list[tuple[datetime | None, datetime | None]]:
    """Return spans of days as spans of instants, in order; those that overlap are joined."""
    joined: list[tuple[date, date]] = []
    for first, last in sorted((first or date.min, last or date.max) for first, last in spans):
        if joined and first <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return [
        (
            None if first == date.min else datetime.combine(first, time.min),
            None if last == date.max else datetime.combine(last, time.max),
        )
        for first, last in joined
    ]


class _Reader:
    """Turns rows into arrays: the position of each row's series in ``names``, its day and its price."""

    def __init__(self, key: str, price: str, names: Names) -> None:
        self._columns = key, price
        self._names = pa.array([name or None for name in names], pa.string())

    def __call__(self, table: pa.Table) -> tuple[NDArray[np.int32], DateArray, FloatArray]:
        key, price = (table[name] for name in self._columns)
        return self._positions(key), table["Date"].to_numpy().astype("datetime64[D]"), price.to_numpy()

    def _positions(self, column: pa.ChunkedArray) -> NDArray[np.int32]:
        """Return the position of each key in the names, -1 for other keys; found by distinct word, not by row."""
        pieces = [np.empty(0, dtype=np.int32)]
        for chunk in column.chunks:
            encoded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
            # Another program may have written other cases and blanks.
            words = normal_names(encoded.dictionary.cast(pa.string()))
            position = pc.fill_null(pc.index_in(words, value_set=self._names), np.int32(-1)).to_numpy()
            position = np.append(position, np.int32(-1))  # the last is for a null key, whose index is -1
            indices = encoded.indices if not encoded.null_count else pc.fill_null(encoded.indices, -1)
            pieces.append(position[indices.to_numpy()])
        return np.concatenate(pieces)
