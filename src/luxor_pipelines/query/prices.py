"""Observations out of the lake's price tables: which tables, which columns, which dates.

Only windows are read: of each table the days before each date asked for, as many as age limits make a
difference. A series that the windows do not answer for is looked for before them, which tells a stale price
from a missing one: in the ends of the series that a file may have (see `lake.ends`), else in all its history.
The prices are those that the whole history gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luxor_pipelines.catalog import PRICE_INPUTS, PRICE_TABLES, PX_LAST, QUOTA_ADJUSTMENTS
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.parquet.predicates import Where
from luxor_pipelines.lake.parquet.series_index import FIRST
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.lake.types.schema import DATE, NUMBER, TEXT
from luxor_pipelines.market.observations import BoolArray, FloatArray, IntArray
from luxor_pipelines.market.periods import DateArray, as_days
from luxor_pipelines.market.prices import (
    NO_LIMIT,
    AsOf,
    Observations,
    PriceTable,
    StalenessLimits,
    adjust_quotas,
    asof,
    extend,
    last_rows,
    merge_observations,
    quota_basis,
)
from luxor_pipelines.query.date_spans import before, between, first_instant, joined, last_instant, whole_days
from luxor_pipelines.query.series_ends import NAT, SeriesEnds, combined

__all__ = ["NO_SERIES", "CurrentPrices", "PriceReader"]

NO_SERIES = ""
"""The price key of an asset that names no series: nothing is ever looked up for it."""

Names = NDArray[np.object_]
Rows = tuple[PriceTable, NDArray[np.integer[Any]], DateArray, FloatArray]


class PriceReader:
    """Reads the price tables of one lake."""

    def __init__(self, lake: Lake, limits: StalenessLimits) -> None:
        self._cache = lake.cache
        self.limits = limits

    def _has(self, table: str) -> bool:
        return self._cache.exists(table, beside=PRICE_INPUTS)

    def _sources(self) -> list[PriceTable]:
        return [source for source in PRICE_TABLES if self._has(source.name)]

    def observations(
        self,
        keys: Iterable[str],
        dates: Sequence[date],
        *,
        span: tuple[date, date] | None = None,
    ) -> Observations:
        """Everything needed to price ``keys`` as of ``dates``, and on every day of ``span``.

        Parameters
        ----------
        keys
            Price keys, in lower case.
        dates
            Dates that will be asked for as of.
        span
            A first and last date between which all observations are wanted as well.
        """
        names = np.array(sorted(set(keys)), dtype=object)
        own = [source for source in self._sources() if not source.fallback]
        asked = np.array(dates if span is None else [*dates, span[0]], dtype="datetime64[D]")

        # With many windows all between them is read: it would else be looked through for what they do not answer.
        known = span or self._around(own, dates)
        rows = self._cache.each(own, lambda source: self._windows(source, names, dates, span, known))
        found = self._merge(names, rows)
        marked, funds = np.zeros(len(names), dtype=bool), [source for source in own if source.kind == "fund"]
        marked[found.code[found.mark]] = True
        if marked.any() and funds:
            # A mark holds for ever; but it gives way to a fund's price of the same date, however long ago.
            rows += [self._rows(source, names, [self._among(source, names[marked])]) for source in funds]
            found = self._merge(names, rows)
        priced = asof(found, asked)
        unanswered = (~priced.found | priced.stale) & (names != NO_SERIES)[:, np.newaxis]
        if known is not None:  # in which nothing is left out: what is stale there, is
            first, last = np.array(known, dtype="datetime64[D]")
            unanswered &= ~((first <= priced.date) & (asked <= last))
        if unanswered.any():
            del rows, priced  # of many dates they are large
            # A window has all of its dates' rows, of the tables that take precedence too: so what it says stays.
            found = found.joined(self._merge(names, self._search(names, found, unanswered, asked)))
        return found

    def history(self, keys: Iterable[str]) -> Observations:
        """All observations of a few series."""
        names = np.array(sorted(set(keys)), dtype=object)
        return self._merge(names, [self._rows(s, names, [self._among(s, names)]) for s in self._sources()])

    def between(self, obs: Observations, keys: Iterable[str], spans: Iterable[tuple[date, date]]) -> Observations:
        """Of a few series, what ``obs`` has, and all observations of each span, its two dates included.

        ``obs`` is what `observations` found.
        """
        names = np.array(sorted(set(keys)), dtype=object)
        sources = self._sources()
        own = [source for source in sources if not source.fallback]
        if len(own) < len(sources):
            known = [self._ends(source, names) for source in own]
            # Only from all of its own tables it is known that a fallback serves a series.
            if any(each is None or each.doubtful.any() for each in known):
                return self.history(names)
        days = Where("Date", tuple(joined(spans)))
        rows = [self._rows(source, names, [days, self._among(source, names)]) for source in own]
        alone = names[~self._in_tables(names, rows, own)]
        if len(alone):
            others = (source for source in sources if source.fallback)
            rows += [self._rows(source, names, [days, self._among(source, alone)]) for source in others]
        return self._merge(names, rows).joined(obs.only(names))

    def known(self, obs: Observations) -> BoolArray:
        """Whether any price table has each series of ``obs``, on whatever date.

        ``obs`` is what `observations` found: of a table without ends it has looked through all of it.
        """
        there = self._in_tables(obs.keys, [], self._sources())
        there[obs.code] = True
        return there

    def adjusted(self, obs: Observations, until: date) -> Observations:
        """``obs`` with fund quotas on the basis of ``until``, net of the capital they have returned.

        The events are those of the table ``quota_adjustments``, where the lake has one.
        """
        events = self._amortizations()
        return obs if events is None else adjust_quotas(obs, events, until)

    def basis(self, obs: Observations, dates: Sequence[date], until: date) -> FloatArray | None:
        """What ``obs`` adjusted to ``until`` is divided by to be on the basis of each date; None: by one."""
        events = self._amortizations()
        return None if events is None else quota_basis(obs, events, dates, until)

    def returned_since(self, fund: str, day: date, until: date) -> float:
        """What is left of 1 of a fund's capital after what it has returned after ``day`` and up to ``until``."""
        one = np.zeros(1, dtype=np.int32)
        days = np.array([day], dtype="datetime64[D]")
        quota = Observations.from_rows(np.array([fund], dtype=object), one, days, np.ones(1), one, one.astype(bool))
        return float(self.adjusted(quota, until).price[0])

    def _amortizations(self) -> pd.DataFrame | None:
        if not self._has(QUOTA_ADJUSTMENTS):
            return None
        types = {"date": ["Event_Date"], "float": ["Ratio"]}
        return arrow_to_frame(self._cache.scan("quota_adjustments", overrides=types))

    def _merge(self, names: Names, rows: Sequence[Rows]) -> Observations:
        return merge_observations(names, rows, tables=PRICE_TABLES, limits=self.limits)

    # --- windows ----------------------------------------------------------------------------

    def _windows(
        self,
        source: PriceTable,
        names: Names,
        dates: Sequence[date],
        span: tuple[date, date] | None,
        known: tuple[date, date] | None,
    ) -> Rows:
        if self.limits.days(source.kind) == NO_LIMIT:
            spans: list[tuple[Any, Any]] = [(None, last_instant(max([*dates, *(span or ())])))]
        else:
            # Where a source's price is too old, so are the ones of the same date that it takes precedence over.
            reach = self._reach(PRICE_TABLES[PRICE_TABLES.index(source) :])
            wanted = [(before(day, reach), day) for day in dates]
            if known:  # on whose days a price may be stale: the last before it is as near as any limit reaches
                wanted.append((before(known[0], self._reach(PRICE_TABLES)), known[1]))
            spans = joined(wanted)
        where = [Where("Date", tuple(spans))]
        if span or len(names) <= _FEW:
            where.append(self._among(source, names))
        upto = dates if span is None and self._only_last(source) else ()
        return self._rows(source, names, where, keep=len(dates) <= _MANY, upto=upto)

    def _around(self, sources: Iterable[PriceTable], dates: Sequence[date]) -> tuple[date, date] | None:
        """From the first to the last of many dates, where of each piece of a table little is kept."""
        many = len(dates) > _MANY and all(
            (source.kind == "mark" or self._only_last(source)) and not self._cache.without_order(source.name)
            for source in sources
        )
        return (min(dates), max(dates)) if many else None

    def _only_last(self, source: PriceTable) -> bool:
        """Whether of a series' rows up to a date only the last one can be an answer.

        A row hides those of its date in tables of lower rank. If these grow stale later than it does, an earlier row
        can be the answer, and which ones are hidden matters. (Where a mark is hidden is read from the whole history.)
        """
        limit, rank = self.limits.days(source.kind), PRICE_TABLES.index(source)
        sooner = any(self.limits.days(each.kind) < limit for each in PRICE_TABLES[:rank])
        later = any(self.limits.days(each.kind) > limit for each in PRICE_TABLES[rank + 1 :] if each.kind != "mark")
        return not (source.kind == "mark" or sooner or later)

    def _reach(self, sources: Iterable[PriceTable]) -> int:
        """The greatest age limit of these sources, in days, that is one."""
        limits = (self.limits.days(source.kind) for source in sources)
        return max((limit for limit in limits if limit != NO_LIMIT), default=0)

    def _among(self, source: PriceTable, names: Names) -> Where:
        return Where(self._columns(source)[0], values=tuple(names))

    def _columns(self, source: PriceTable) -> tuple[str, str]:
        def find() -> tuple[str, str]:
            key, price = source.columns_in(self._cache.codec(source.name).stored.names)
            kinds = {"Date": DATE, key: TEXT, price: NUMBER}
            self._cache.check_types(source.name, kinds, {"date": ["Date"], "float": [price]})
            return key, price

        return self._cache.derive(source.name, "columns", find)

    def _rows(
        self,
        source: PriceTable,
        names: Names,
        where: Sequence[Where],
        *,
        keep: bool = True,
        upto: Sequence[date] = (),
    ) -> Rows:
        """A table's rows; given ``upto`` only the last of each series up to each of these dates, where that is told."""
        key, price = self._columns(source)
        arrays = _Reader(key, price, names)
        asked = as_days(upto)

        def last(table: pa.Table) -> pa.Table:
            found = last_rows(*arrays(table), asked, len(names))
            return table if found is None else table.take(pa.array(found))

        options: dict[str, Any] = {} if keep or not upto else {"each": last}
        table = self._cache.scan(
            source.name, ("Date", key, price), tuple(where), dictionary=(key, "Date"),
            overrides={"date": ["Date"], "float": [price]}, keep=keep, more=True, **options,
        )  # fmt: skip
        code, day, number = arrays(table)
        found = last_rows(code, day, number, asked, len(names)) if upto else None
        if found is not None:
            code, day, number = code[found], day[found], number[found]
        if not keep:
            del table
            pa.default_memory_pool().release_unused()  # else Arrow holds it back, and numpy asks for more
        return source, code, day, number

    # --- before the windows -----------------------------------------------------------------

    def _search(self, names: Names, found: Observations, unanswered: BoolArray, asked: DateArray) -> list[Rows]:
        """The rows that answer what the windows do not: which series as of which dates, [names, asked].

        The fallback tables are asked for the series that no other table has, on whatever date.
        """
        own = [source for source in self._sources() if not source.fallback]
        rows = [each for source in own for each in self._last_before(source, names, unanswered, asked)]
        alone = ~self._in_tables(names, rows, own)
        alone[found.code] = False
        for source in (source for source in self._sources() if source.fallback):
            rows += self._last_before(source, names, unanswered & alone[:, np.newaxis], asked)
        return rows

    def _last_before(self, source: PriceTable, names: Names, unanswered: BoolArray, asked: DateArray) -> list[Rows]:
        """Of one table, at least the last row up to each date of each series that is unanswered."""
        wanted = np.flatnonzero(unanswered.any(axis=1))
        if not len(wanted):
            return []
        known = self._ends(source, names[wanted])
        if known is None:
            return self._backwards(source, names, wanted, unanswered, asked)
        is_open = unanswered[wanted]
        open_dates = np.where(is_open, asked, NAT)
        earliest, latest = np.fmin.reduce(open_dates, axis=1), np.fmax.reduce(open_dates, axis=1)
        told = known.observed & (known.last <= latest)
        inside = (known.first[:, np.newaxis] <= asked) & (asked < known.last[:, np.newaxis])
        near = _NEAR
        if source.fallback:  # of which no window has been read: all that lies between two dates is wanted too
            inside, near = ((known.first <= latest) & (earliest < known.last))[:, np.newaxis], 0
        unanswered = unanswered.copy()
        unanswered[wanted] = is_open & (inside | known.doubtful[:, np.newaxis])
        rows = [(source, wanted[told], known.last[told], known.price[told])]
        return rows + self._backwards(source, names, wanted[unanswered[wanted].any(axis=1)], unanswered, asked, near)

    def _backwards(
        self, source: PriceTable, names: Names, wanted: IntArray, unanswered: BoolArray, asked: DateArray, near: int = 0
    ) -> list[Rows]:
        """The rows of some series up to the dates asked for: of the year before, and where that has none, of ever more.

        First of all only those of ``near`` days before each date that is unanswered. What comes last is all the
        rest, after the dates as well: that a series is there at all keeps the fallback tables out. Where no rows are
        passed over for their dates, all are looked at in one go.
        """
        if not len(wanted):
            return []
        open_dates = [day.item() for day in asked[unanswered[wanted].any(axis=0)]]
        close = joined((before(day, near), day) for day in open_dates) if near else []
        edges = [before(asked.min().item(), days) for days in _BACK]
        end = asked.max().item()
        spans: list[Sequence[tuple[Any, Any]]] = [close] if near else []
        spans += [between(close, edges[0], end), *([whole_days(old, before(new, 1))] for new, old in pairwise(edges))]
        spans += [[(None, last_instant(before(edges[-1], 1))), (first_instant(end) + timedelta(days=1), None)]]
        if self._cache.without_order(source.name):
            spans = [[(None, None)]]
        since = asked - np.timedelta64(near, "D")
        rows: list[Rows] = []
        seen = np.zeros_like(unanswered)
        for number, span in enumerate(spans):
            if not len(wanted):
                break
            where = [Where("Date", tuple(span)), self._among(source, names[wanted])]
            read = self._merge(names[wanted], [self._rows(source, names[wanted], where, keep=len(asked) <= _MANY)])
            found = asof(read, asked)
            # Of what the windows have been read of, nothing else can be an answer.
            told = [(read.code, read.date, read.price)] if source.fallback else _telling(read, found)
            rows += [(source, wanted[code], day, price) for code, day, price in told]
            seen[wanted] |= found.found
            # Near a date there may be a price that was not yet looked for between it and one that is near another.
            answered = found.date >= since if near and number == 0 else seen[wanted]
            wanted = wanted[(unanswered[wanted] & ~answered).any(axis=1)]
        return rows

    def _in_tables(self, names: Names, rows: Sequence[Rows], sources: Iterable[PriceTable]) -> BoolArray:
        """Whether each series has an observation in these rows, or at the ends of one of the tables."""
        there = np.zeros(len(names), dtype=bool)
        there[self._merge(names, rows).code] = True
        for source in sources:
            known = self._ends(source, names)
            if known is not None:
                there |= known.observed
        return there

    def _ends(self, source: PriceTable, names: Names) -> SeriesEnds | None:
        """The ends of these series in a table; None where it does not keep them."""
        key, price = self._columns(source)
        table = self._cache.ends(source.name, key)
        if table is None or set(table.column_names) != {"Date", key, price, FIRST}:
            return None
        known, values = self._cache.derive(source.name, f"ends of {key}", lambda: combined(table, key, price))
        at = pc.fill_null(pc.index_in(pa.array(names, pa.string()), value_set=known), -1).to_numpy()
        return SeriesEnds(
            *(np.append(each, [missing])[at] for each, missing in zip(values, (NAT, NAT, np.nan), strict=True))
        )


class CurrentPrices:
    """The table ``px_last`` of one lake: the latest price of each series; kept as long as the table's version."""

    def __init__(self, lake: Lake, limits: StalenessLimits) -> None:
        self._cache = lake.cache
        self._limits = limits

    def of(self, keys: Iterable[str]) -> tuple[IntArray, DateArray, FloatArray]:
        """The current prices of these series, each by its position in ``keys``: positions, dates and prices.

        A series without one has no row; nor has any, where the lake has no such table.
        """
        if not self._cache.exists(PX_LAST):
            return np.empty(0, np.int64), np.empty(0, "datetime64[D]"), np.empty(0)
        rows = self._cache.derive(PX_LAST, "latest", self._read)
        at = pc.index_in(pa.array(list(keys), pa.string()), value_set=rows["Key"].combine_chunks())
        code = np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False))
        found = rows.take(at.drop_null())
        date, price = found["last_update_dt"].to_numpy(), found["px_last"].to_numpy()
        return code, date.astype("datetime64[D]"), price

    def extend(self, obs: Observations, today: date) -> tuple[Observations, DateArray]:
        """``obs`` with the current prices that are newer, and their dates; see `market.prices.extend`."""
        return extend(obs, *self.of(obs.keys), today, limit=self._limits.days("traded"))

    def _read(self) -> pa.Table:
        columns = ("Key", "px_last", "last_update_dt")
        self._cache.check_types(PX_LAST, dict(zip(columns, (TEXT, NUMBER, DATE), strict=True)))
        frame: pd.DataFrame = arrow_to_frame(self._cache.scan(PX_LAST, columns))
        frame = frame[(frame["px_last"] > 0) & np.isfinite(frame["px_last"])].dropna()
        frame = frame.sort_values("last_update_dt", kind="stable").drop_duplicates("Key", keep="last")
        kinds = pa.schema(list(zip(columns, (TEXT, NUMBER, DATE), strict=True)))
        return pa.Table.from_pandas(frame, kinds, preserve_index=False)


def _telling(obs: Observations, found: AsOf) -> Iterator[tuple[NDArray[np.integer[Any]], DateArray, FloatArray]]:
    """Series, date and price of those observations that are an answer, and of each series' last, which tells of it."""
    series = np.broadcast_to(np.arange(len(obs.keys))[:, np.newaxis], found.found.shape)
    yield series[found.found], found.date[found.found], found.price[found.found]
    last = np.flatnonzero(np.diff(obs.code, append=-1))
    yield obs.code[last], obs.date[last], obs.price[last]


_BACK = (366, 3 * 366, 7 * 366, 15 * 366)
"""Days before the dates asked for, up to which a series is looked for first, and then, and then."""
_NEAR = 60
"""Days before each date, in which a series that was quoted before and after is looked for first of all."""
_MANY = 50
"""Dates beyond which what was read is worked with and let go, since it is most of a history."""
_FEW = 500
"""Up to so many series a read of short windows is narrowed to them; beyond, sorting them out afterwards is quicker."""


class _Reader:
    """Reads rows as arrays: of each its position in ``names``, its day and its price."""

    def __init__(self, key: str, price: str, names: Names) -> None:
        self._columns = key, price
        self._names = pa.array(names, pa.string())
        self._known: tuple[pa.Array | None, NDArray[np.int32]] = None, np.empty(0, dtype=np.int32)

    def __call__(self, table: pa.Table) -> tuple[NDArray[np.int32], DateArray, FloatArray]:
        key, price = (table[name] for name in self._columns)
        return self._positions(key), table["Date"].to_numpy().astype("datetime64[D]"), price.to_numpy()

    def _positions(self, column: pa.ChunkedArray) -> NDArray[np.int32]:
        """The position in the names of each key, -1 for others; through the dictionary, not the rows."""
        pieces = [np.empty(0, dtype=np.int32)]
        for chunk in column.chunks:
            encoded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
            words, position = self._known
            if words is None or not words.equals(encoded.dictionary):  # most row groups have the same
                words = encoded.dictionary
                found = pc.fill_null(pc.index_in(words.cast(pa.string()), value_set=self._names), np.int32(-1))
                position = np.append(found.to_numpy(), np.int32(-1))  # the last is for a null key, whose index is -1
                self._known = words, position
            indices = encoded.indices if not encoded.null_count else pc.fill_null(encoded.indices, -1)
            pieces.append(position[indices.to_numpy()])
        return np.concatenate(pieces)
