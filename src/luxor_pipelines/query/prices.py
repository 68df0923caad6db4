"""The price reader: the rows that questions about prices need, out of the lake's price tables.

Only windows are read: of each table the days before each date asked for, as many as its age limit. For what they do
not answer, the last rows before them are looked up (see `query.series`), which tells a stale price from a missing one.
The prices are those that the whole history gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.catalog import CASH, PRICE_INPUTS, PRICE_TABLES, PX_LAST, QUOTA_ADJUSTMENTS
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.lake.types.schema import DATE, NUMBER, TEXT
from luxor_pipelines.market.observations import NO_LIMIT, BoolArray, FloatArray, IntArray, StalenessLimits
from luxor_pipelines.market.periods import DateArray
from luxor_pipelines.market.prices import (
    FALLBACK_LEAD,
    Observations,
    adjust_quotas,
    asof,
    extend,
    merge_observations,
    quota_basis,
)
from luxor_pipelines.names import normal_names
from luxor_pipelines.query.series import Names, Rows, Span, StoredSeries, days_before

__all__ = ["NO_SERIES", "CurrentPrices", "PriceReader"]

NO_SERIES = ""
"""The price key of an asset that names no series: nothing is ever looked up for it."""

_MANY = 50
"""Dates beyond which all between the first and the last is read, reduced piece by piece, and not remembered."""
_EVER: Span = (None, None)


class PriceReader:
    """Reads the price tables of one lake."""

    def __init__(self, lake: Lake, limits: StalenessLimits) -> None:
        self._cache = lake.cache
        self.limits = limits
        days = [limits.days(table.kind) for table in PRICE_TABLES if table.kind != "mark" and not table.fallback]
        self._longest = max(limit for limit in days if limit != NO_LIMIT)
        self._descending = days == sorted(days, reverse=True)

    def _tables(self) -> list[StoredSeries]:
        self._cache.exists(PRICE_TABLES[0].name, beside=PRICE_INPUTS)  # and the others with it
        present = [table for table in PRICE_TABLES if self._cache.exists(table.name)]
        return [StoredSeries(self._cache, table) for table in present]

    def observations(
        self,
        keys: Iterable[str],
        dates: Sequence[date],
        *,
        span: tuple[date, date] | None = None,
        current: tuple[date, CurrentPrices] | None = None,
    ) -> Observations:
        """Read everything needed to price ``keys`` as of ``dates``, and on every day of ``span``.

        Parameters
        ----------
        keys
            Price keys, in lower case.
        dates
            Dates that will be asked for as of.
        span
            A first and last date between which all rows are wanted as well.
        current
            One of the dates, and current prices that extend the series on it if they are newer than every row.
        """
        names = np.array(sorted(set(keys)), dtype=object)
        tables = self._tables()
        asked = np.array(dates if span is None else [*dates, span[0]], dtype="datetime64[D]")
        days = asked if span is None else np.arange(asked.min(), asked.max() + np.timedelta64(1, "D"))
        if not self._descending:
            return self._with_cash(self._merge(names, [table.between(names, [_EVER]) for table in tables]), days)
        many = span is None and len(dates) > _MANY and not any(table.in_memory for table in tables)
        whole = (min(dates), max(dates)) if many else span  # the days of which every row that counts is read
        rows = self._cache.each(tables, lambda table: self._windows(table, names, dates, span, whole, keep=not many))
        found = self._merge(names, rows)
        marked, funds = np.unique(found.code[found.mark]), [table for table in tables if table.table.kind == "fund"]
        if len(marked) and funds:
            # A mark holds for ever; but it gives way to a fund's price of the same date, however long ago.
            for table, code, day, price in [fund.between(names[marked], [_EVER]) for fund in funds]:
                rows.append((table, np.where(code < 0, -1, marked[code]), day, price))
            found = self._merge(names, rows)
        del rows  # of many dates they are large
        own_open, other_open = self._unanswered(found, asked, whole)
        newer, newest = (None, None) if current is None else self._newer(found, *current)

        def last_rows(index: StoredSeries) -> list[Rows]:
            wanted = other_open if index.table.fallback else own_open
            if newer is not None and newest is not None and current is not None:
                # A row that is newer than those found can only lie before the table's window.
                today, limit = current[0], self.limits.days(index.table.kind)
                before = newest < np.datetime64(days_before(today, limit), "D")
                wanted = wanted | ((newer & before)[:, np.newaxis] & (asked == np.datetime64(today, "D")))
            return index.last_before(names, asked, wanted, keep=not many)

        rows = [row for found_rows in self._cache.each(tables, last_rows) for row in found_rows]
        # A window has all of its days' rows, of the tables that take precedence too: so what it says stays.
        found = found.joined(self._merge(names, rows)) if rows else found
        return self._with_cash(found, days)

    def _with_cash(self, obs: Observations, days: DateArray) -> Observations:
        """``obs``, and the price 1 on each of some days of the cash among its series that no table has."""
        cash = np.flatnonzero(np.isin(obs.keys, list(CASH)) & ~obs.present)
        if not len(cash):
            return obs
        code = np.repeat(cash, len(days)).astype(np.int32)
        limit, none = np.full(len(code), self.limits.days("traded")), np.zeros(len(code), dtype=bool)
        days = np.tile(days, len(cash))
        return obs.joined(Observations.from_rows(obs.keys, code, days, np.ones(len(code)), limit, none))

    def between(self, obs: Observations, keys: Iterable[str], spans: Iterable[tuple[date, date]]) -> Observations:
        """``obs`` of a few series alone, and all their rows in each span, its two dates included."""
        names, spans = np.array(sorted(set(keys)), dtype=object), list(spans)
        return self._merge(names, [table.between(names, spans) for table in self._tables()]).joined(obs.only(names))

    def history(self, keys: Iterable[str]) -> Observations:
        """All rows of a few series."""
        names = np.array(sorted(set(keys)), dtype=object)
        return self._merge(names, [table.between(names, [_EVER]) for table in self._tables()])

    def adjusted(self, obs: Observations, until: date) -> Observations:
        """``obs`` with fund quotas on the basis of ``until``, net of the capital they have returned.

        The events are those of the table ``quota_adjustments``, where the lake has one.
        """
        events = self._amortizations()
        return obs if events is None else adjust_quotas(obs, events, until)

    def basis(self, obs: Observations, dates: Sequence[date], until: date) -> FloatArray | None:
        """The divisors that put prices adjusted to ``until`` on the basis of each date; None where all are one."""
        events = self._amortizations()
        return None if events is None else quota_basis(obs, events, dates, until)

    def returned_since(self, fund: str, day: date, until: date) -> float:
        """Return what is left of 1 of a fund's capital after what it has returned after ``day`` and up to ``until``."""
        one = np.zeros(1, dtype=np.int32)
        days = np.array([day], dtype="datetime64[D]")
        quota = Observations.from_rows(np.array([fund], dtype=object), one, days, np.ones(1), one, one.astype(bool))
        return float(self.adjusted(quota, until).price[0])

    def _amortizations(self) -> pd.DataFrame | None:
        if not self._cache.exists(QUOTA_ADJUSTMENTS, beside=PRICE_INPUTS):
            return None
        types = {"date": ["Event_Date"], "float": ["Ratio"]}
        return arrow_to_frame(self._cache.scan(QUOTA_ADJUSTMENTS, overrides=types))

    def _merge(self, names: Names, rows: Sequence[Rows]) -> Observations:
        return merge_observations(names, rows, tables=PRICE_TABLES, limits=self.limits)

    def _windows(
        self,
        index: StoredSeries,
        names: Names,
        dates: Sequence[date],
        span: tuple[date, date] | None,
        whole: tuple[date, date] | None,
        *,
        keep: bool,
    ) -> Rows:
        """The rows of one table that its age limit lets count on the dates, or on every day of the whole."""
        limit, marks = self.limits.days(index.table.kind), index.table.kind == "mark"
        spans: list[Span]
        if marks or limit == NO_LIMIT:
            spans = [(None, max([*dates, *(span or ())]))]
        elif whole is not None:
            # On a day between a price may grow stale, and a newer stale one be in a table of a shorter limit.
            spans = [(days_before(whole[0], self._longest), whole[1])]
        else:
            spans = [(days_before(day, limit), day) for day in dates]
        # Limits grow shorter down the precedence: of a series' rows up to a date only the last can be the answer.
        upto = () if span is not None or marks else dates
        return index.between(names, spans, upto=upto, keep=keep)

    def _unanswered(
        self, found: Observations, asked: DateArray, whole: tuple[date, date] | None
    ) -> tuple[BoolArray, BoolArray]:
        """Series and dates of which the windows do not tell the last row: for the fallbacks, and for the others."""
        names = (found.keys != NO_SERIES)[:, np.newaxis]
        others = found.without_rows() if found.fallback is None else found.fallback
        own, other = asof(replace(found, fallback=None), asked), asof(others, asked)
        is_open = [names & ~(answer.found & ~answer.stale) for answer in (own, other)]
        if whole is not None:  # of whose days no row is left out: what is stale there, is
            first, last = np.array(whole, dtype="datetime64[D]")
            for cells, answer in zip(is_open, (own, other), strict=True):
                cells &= ~((first <= answer.date) & (asked <= last))
                cells |= names & answer.bad  # beyond its limit the last observation before it is the stale one
        else:
            # A fallback's row before its window could matter only where the other tables' is older still.
            lead = np.timedelta64(self.limits.days("traded") + FALLBACK_LEAD, "D")
            is_open[1] &= ~(own.found & ~own.stale & (asked - own.date <= lead))
        return is_open[0], is_open[1]

    def _newer(self, found: Observations, today: date, current: CurrentPrices) -> tuple[BoolArray, DateArray]:
        """The series whose current price is newer than all rows found, and the date of each series' newest row."""
        day, newest = np.datetime64(today, "D"), np.full(len(found.keys), np.datetime64(date.min, "D"))
        for side in (found, found.fallback):
            if side is not None:
                rows = side.date <= day
                np.maximum.at(newest, side.code[rows], side.date[rows])
        code, dates, _ = current.of(found.keys)
        newer = np.zeros(len(newest), dtype=bool)
        newer[code] = (dates <= day) & (dates > newest[code])
        return newer, newest


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
        dates, prices = found["last_update_dt"].to_numpy(), found["px_last"].to_numpy()
        return code, dates.astype("datetime64[D]"), prices

    def extend(self, obs: Observations, today: date) -> tuple[Observations, DateArray]:
        """``obs`` with the current prices that are newer, and their dates; see `market.prices.extend`."""
        return extend(obs, *self.of(obs.keys), today, limit=self._limits.days("traded"))

    def _read(self) -> pa.Table:
        columns = ("Key", "px_last", "last_update_dt")
        self._cache.check_types(PX_LAST, dict(zip(columns, (TEXT, NUMBER, DATE), strict=True)))
        rows = self._cache.scan(PX_LAST, columns)
        frame: pd.DataFrame = arrow_to_frame(rows.set_column(0, "Key", normal_names(rows["Key"])))
        frame = frame[(frame["px_last"] > 0) & np.isfinite(frame["px_last"])].dropna()
        frame = frame.sort_values("last_update_dt", kind="stable").drop_duplicates("Key", keep="last")
        kinds = pa.schema(list(zip(columns, (TEXT, NUMBER, DATE), strict=True)))
        return pa.Table.from_pandas(frame, kinds, preserve_index=False)
