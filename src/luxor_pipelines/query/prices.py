"""The price reader: reads the rows of the lake's price tables that a question about prices needs.

It reads windows: of each table the days before each date, as many as its age limit. For series that a window does not
answer, the last rows before it are looked up (see `query.series`), so that a stale price is told from a missing one.
The prices are the same as those from the whole history.
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
from luxor_pipelines.lake.concurrency import at_once
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.lake.types.schema import DATE, NUMBER, TEXT
from luxor_pipelines.market.observations import (
    NO_LIMIT,
    BoolArray,
    FloatArray,
    IntArray,
    Observations,
    StalenessLimits,
    merge_observations,
)
from luxor_pipelines.market.periods import DateArray, days_before
from luxor_pipelines.market.prices import FALLBACK_LEAD, adjust_quotas, asof, extend, quota_basis
from luxor_pipelines.names import normal_names
from luxor_pipelines.query.series import Names, Rows, Span, StoredSeries

__all__ = ["NO_SERIES", "CurrentPrices", "PriceReader"]

NO_SERIES = ""
"""The price key of an asset that names no series; it is never looked up."""

_MANY = 50
"""With more dates than this, all rows between the first and the last are read, reduced batch by batch, and not kept."""
_EVER: Span = (None, None)


class PriceReader:
    """Reads the price tables of one lake."""

    def __init__(self, lake: Lake, limits: StalenessLimits) -> None:
        self._cache = lake.cache
        self._storage = lake.storage
        self.limits = limits
        days = [limits.days(table.kind) for table in PRICE_TABLES if table.kind != "mark" and not table.fallback]
        self._longest = max(limit for limit in days if limit != NO_LIMIT)
        self._descending = days == sorted(days, reverse=True)

    def _tables(self) -> list[StoredSeries]:
        self._cache.exists(PRICE_TABLES[0].name, beside=PRICE_INPUTS)  # looks for all of them in one go
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
            The dates of the as-of prices.
        span
            A first and last date between which all rows are read as well.
        current
            One of the dates, and current prices that extend the series on it if they are newer than every row.
        """
        names = np.array(sorted(set(keys)), dtype=object)
        tables = self._tables()
        as_of = np.array(dates if span is None else [*dates, span[0]], dtype="datetime64[D]")
        days = as_of if span is None else np.arange(as_of.min(), as_of.max() + np.timedelta64(1, "D"))
        if not self._descending:
            return self._with_cash(self._merge(names, [table.between(names, [_EVER]) for table in tables]), days)
        many = span is None and len(dates) > _MANY and not any(table.in_memory for table in tables)
        whole = (min(dates), max(dates)) if many else span  # the days of which every row that counts is read

        def windows(series: StoredSeries) -> Rows:
            return self._windows(series, names, dates, span, whole, keep=not many)

        rows = at_once(self._storage, tables, windows)
        obs = self._merge(names, rows)
        older = self._fund_rows_of_marks(obs, tables)
        if older:
            obs = self._merge(names, [*rows, *older])
        del rows, older  # with many dates they are large
        own_open, other_open = self._unanswered(obs, as_of, whole)
        overtaken = None if current is None else self._overtaken(obs, *current)

        def last_rows(series: StoredSeries) -> list[Rows]:
            is_open = other_open if series.table.fallback else own_open
            if current is not None and overtaken is not None:
                # A row that is newer than those of the windows can only lie before the table's window.
                today, limit = current[0], self.limits.days(series.table.kind)
                before = overtaken < np.datetime64(days_before(today, limit), "D")
                is_open = is_open | (before[:, np.newaxis] & (as_of == np.datetime64(today, "D")))
            return series.last_before(names, as_of, is_open, keep=not many)

        rows = [row for last in at_once(self._storage, tables, last_rows) for row in last]
        # A window has all rows of its days, also those of tables that take precedence, so its answers are final.
        obs = obs.joined(self._merge(names, rows)) if rows else obs
        return self._with_cash(obs, days)

    def _with_cash(self, obs: Observations, days: DateArray) -> Observations:
        """Return ``obs`` with the price 1 on each of ``days`` for cash series that no table has."""
        cash = np.flatnonzero(np.isin(obs.keys, list(CASH)) & ~obs.present)
        if not len(cash):
            return obs
        code = np.repeat(cash, len(days)).astype(np.int32)
        limit, mark = np.full(len(code), self.limits.days("traded")), np.zeros(len(code), dtype=bool)
        days = np.tile(days, len(cash))
        return obs.joined(Observations.from_rows(obs.keys, code, days, np.ones(len(code)), limit, mark))

    def between(self, obs: Observations, keys: Iterable[str], spans: Iterable[tuple[date, date]]) -> Observations:
        """Return ``obs`` of a few series alone, with all their rows in each span, its two dates included."""
        names, spans = np.array(sorted(set(keys)), dtype=object), list(spans)
        return self._merge(names, [table.between(names, spans) for table in self._tables()]).joined(obs.only(names))

    def history(self, keys: Iterable[str]) -> Observations:
        """Return all rows of a few series."""
        names = np.array(sorted(set(keys)), dtype=object)
        return self._merge(names, [table.between(names, [_EVER]) for table in self._tables()])

    def adjusted(self, obs: Observations, until: date) -> Observations:
        """Return ``obs`` with fund quotas on the basis of ``until``, net of the capital they have returned.

        The events are those of the table ``quota_adjustments``, where the lake has one.
        """
        events = self._amortizations()
        return obs if events is None else adjust_quotas(obs, events, until)

    def basis(self, obs: Observations, dates: Sequence[date], until: date) -> FloatArray | None:
        """Return the divisors that bring prices adjusted to ``until`` to the basis of each date; None if all are 1."""
        events = self._amortizations()
        return None if events is None else quota_basis(obs, events, dates, until)

    def returned_since(self, fund: str, day: date, until: date) -> float:
        """Return Π (1 − Ratio) over the amortizations of a fund after ``day`` and up to ``until``."""
        zero = np.zeros(1, dtype=np.int32)
        days = np.array([day], dtype="datetime64[D]")
        quota = Observations.from_rows(np.array([fund], dtype=object), zero, days, np.ones(1), zero, zero.astype(bool))
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
        series: StoredSeries,
        names: Names,
        dates: Sequence[date],
        span: tuple[date, date] | None,
        whole: tuple[date, date] | None,
        *,
        keep: bool,
    ) -> Rows:
        """Read the rows of one table that count on the dates, or on every day of ``whole``, by its age limit."""
        limit, marks = self.limits.days(series.table.kind), series.table.kind == "mark"
        spans: list[Span]
        if marks or limit == NO_LIMIT:
            spans = [(None, max([*dates, *(span or ())]))]
        elif whole is not None:
            # On a day in between, a price may become stale while a table with a shorter limit has a newer stale one.
            spans = [(days_before(whole[0], self._longest), whole[1])]
        else:
            spans = [(days_before(day, limit), day) for day in dates]
        # Limits do not grow down the precedence, so only a series' last row up to a date can be the answer.
        upto = () if span is not None or marks else dates
        return series.between(names, spans, upto=upto, keep=keep)

    def _fund_rows_of_marks(self, obs: Observations, tables: Sequence[StoredSeries]) -> list[Rows]:
        """Read all rows that fund tables have of series with a mark.

        A mark holds for ever; but it gives way to a fund's price of the same date, however long ago.
        """
        marked, funds = np.unique(obs.code[obs.mark]), [series for series in tables if series.table.kind == "fund"]
        if not len(marked):
            return []
        of_marked = [fund.between(obs.keys[marked], [_EVER]) for fund in funds]
        return [(table, np.where(code < 0, -1, marked[code]), day, price) for table, code, day, price in of_marked]

    def _unanswered(
        self, obs: Observations, as_of: DateArray, whole: tuple[date, date] | None
    ) -> tuple[BoolArray, BoolArray]:
        """Return which series and dates the windows leave open: in the tables that are no fallback, and in those."""
        names = (obs.keys != NO_SERIES)[:, np.newaxis]
        fallback = obs.without_rows() if obs.fallback is None else obs.fallback
        own, other = asof(replace(obs, fallback=None), as_of), asof(fallback, as_of)
        is_open = [names & ~answer.within_limit for answer in (own, other)]
        if whole is not None:  # all rows of these days are read, so a stale answer on them is final
            first, last = np.array(whole, dtype="datetime64[D]")
            for cells, answer in zip(is_open, (own, other), strict=True):
                cells &= ~((first <= answer.date) & (as_of <= last))
                cells |= names & answer.bad  # beyond its limit the last observation before it is the stale one
        else:
            # A fallback's row before its window matters only if the other tables' row is older still.
            lead = np.timedelta64(self.limits.days("traded") + FALLBACK_LEAD, "D")
            is_open[1] &= ~(own.within_limit & (as_of - own.date <= lead))
        return is_open[0], is_open[1]

    def _overtaken(self, obs: Observations, today: date, current: CurrentPrices) -> DateArray:
        """Return the date of each series' newest row where a current price is newer, else NaT."""
        day, newest = np.datetime64(today, "D"), np.full(len(obs.keys), np.datetime64(date.min, "D"))
        for side in (obs, obs.fallback):
            if side is not None:
                rows = side.date <= day
                np.maximum.at(newest, side.code[rows], side.date[rows])
        code, dates, _ = current.of(obs.keys)
        newer = np.zeros(len(newest), dtype=bool)
        newer[code] = (dates <= day) & (dates > newest[code])
        newest[~newer] = np.datetime64("NaT", "D")
        return newest


class CurrentPrices:
    """The table ``px_last`` of one lake: the latest price of each series; kept as long as the table's version."""

    def __init__(self, lake: Lake, limits: StalenessLimits) -> None:
        self._cache = lake.cache
        self._limits = limits

    def of(self, keys: Iterable[str]) -> tuple[IntArray, DateArray, FloatArray]:
        """Return the current prices of these series: their positions in ``keys``, dates and prices.

        A series without a current price is left out; without the table the arrays are empty.
        """
        if not self._cache.exists(PX_LAST):
            return np.empty(0, np.int64), np.empty(0, "datetime64[D]"), np.empty(0)
        rows = self._cache.derive(PX_LAST, "latest", self._read)
        at = pc.index_in(pa.array(list(keys), pa.string()), value_set=rows["Key"].combine_chunks())
        code = np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False))
        current = rows.take(at.drop_null())
        dates, prices = current["last_update_dt"].to_numpy(), current["px_last"].to_numpy()
        return code, dates.astype("datetime64[D]"), prices

    def extend(self, obs: Observations, today: date) -> tuple[Observations, DateArray]:
        """Return ``obs`` with the current prices that are newer, and their dates; see `market.prices.extend`."""
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
