"""From the lake's tables to the market's arrays: which tables, which columns, which dates.

Only windows are read: of each price table the days before each date asked for, as many as age limits
make a difference. A series that no window answers for is looked up in the whole history, which tells
a stale price from a missing one. The prices are those that the whole history gives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.errors import DataError, SchemaError, sample
from luxor_pipelines.lake.cache import TableCache
from luxor_pipelines.lake.conditions import Where
from luxor_pipelines.lake.frames import arrow_to_frame
from luxor_pipelines.lake.layout import bounds
from luxor_pipelines.lake.logical import logical_schema
from luxor_pipelines.lake.schema import DATE, NUMBER, TEXT
from luxor_pipelines.market import currency as fx
from luxor_pipelines.market.calendars import HolidayCalendar
from luxor_pipelines.market.observations import FloatArray, IntArray
from luxor_pipelines.market.periods import DateArray, as_days
from luxor_pipelines.market.prices import (
    NO_LIMIT,
    SOURCES,
    Observations,
    Source,
    StalenessLimits,
    adjust_quotas,
    asof,
    extend,
    merge_observations,
)

__all__ = ["NO_SERIES", "MarketData", "price_keys"]

logger = logging.getLogger(__name__)

TICKER_GROUPS = ("vc", "luxor")
"""Groups whose price key is the house ticker even where there is a Bloomberg one."""

NO_SERIES = ""
"""The price key of an asset that names no series: nothing is ever looked up for it."""

T = TypeVar("T")
Rows = tuple[Source, np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


def price_keys(assets: pd.DataFrame) -> pd.Series:
    """The price key of each row of ``assets``: null where the row names no series.

    ``Ticker`` for the groups ``vc`` and ``luxor``; else ``Ticker_BBG``, else ``Ticker``.
    """
    ticker, bloomberg, group = (_text(assets, name) for name in ("Ticker", "Ticker_BBG", "Group"))
    return bloomberg.where(bloomberg.notna() & ~group.isin(TICKER_GROUPS), ticker).rename("Price_Key")


def _text(frame: pd.DataFrame, name: str) -> pd.Series:
    if name not in frame.columns:
        return pd.Series(pd.NA, index=frame.index, dtype="string")
    text = frame[name].astype("string").str.strip().str.lower()
    return text.mask(text == "")


class MarketData:
    """Assets, prices, rates and holidays of one lake, through its `TableCache`.

    What is worked out of a whole table (assets, currencies, holidays) is kept as long as its version.
    """

    def __init__(self, cache: TableCache, directory: str, limits: StalenessLimits) -> None:
        self._cache = cache
        self._directory = directory
        self.limits = limits

    # --- reference data ---------------------------------------------------------------------

    def assets(self) -> pd.DataFrame:
        """The asset master with its ``Price_Key``: one row a ``Key``, text trimmed and lower case.

        A row without a ``Key`` gets ``<Asset>_<Ticker>``; one that has none of it cannot be named
        and is left out, as are later rows of a repeated key; both are logged.

        Raises
        ------
        TableNotFoundError, SchemaError
        DataError
            The table is empty.
        """
        return self._derive("assets", "assets", self._read_assets).copy()

    def _read_assets(self) -> pd.DataFrame:
        frame = arrow_to_frame(self._cache.scan("assets", self._directory, drop=("Last_Updated",)))
        if "Key" not in frame.columns:
            raise SchemaError(
                f"Table assets has no column 'Key'; it has {sample(frame.columns, 10)}.",
                hint="Export the asset master again, with its Key column.",
            )
        self._check_types("assets", {"Key": TEXT}, {})
        key = _text(frame, "Key")
        key = key.fillna(_text(frame, "Asset").str.cat(_text(frame, "Ticker"), sep="_"))
        frame = frame.assign(Key=key, Location=_text(frame, "Location"), Type=_text(frame, "Type"))
        frame["Price_Key"] = price_keys(frame)
        nameless, repeated = key.isna(), key.notna() & key.duplicated()
        if nameless.any():
            logger.warning("assets: %d rows have no Key and are left out", int(nameless.sum()))
        if repeated.any():
            logger.warning("assets: repeated keys, the first row counts: %s", sample(key[repeated]))
        frame = frame[~nameless & ~repeated].reset_index(drop=True)
        if frame.empty:
            raise DataError("Table assets has no rows with a Key.", hint="Export the asset master again.")
        return frame

    def series_currency(self) -> Mapping[str, str]:
        """The currency of each price series that has one; see `market.currency.series_currency`."""
        if not self._has("assets"):
            return MappingProxyType(fx.KNOWN_SERIES)
        return self._derive("assets", "currencies", self._read_currencies)

    def _read_currencies(self) -> Mapping[str, str]:
        currencies, conflicts = fx.series_currency(self.assets())
        if conflicts:
            logger.warning("assets: locations disagree on the currency of %s", sample(conflicts))
        return MappingProxyType(currencies)

    def currencies(self, keys: Iterable[str]) -> np.ndarray[Any, Any]:
        """The currency of each of these series, None where it is not known."""
        known = self.series_currency()
        return np.array([known.get(key) for key in keys], dtype=object)

    def holidays(self) -> HolidayCalendar:
        """The firm's own holidays, or the exchanges' where the lake has none of its own.

        Raises
        ------
        TableNotFoundError
            The lake has neither ``holidays`` nor ``holidays_exchange``.
        """
        table = "holidays" if self._has("holidays") else "holidays_exchange"

        def read() -> HolidayCalendar:
            frame = self._cache.scan(table, self._directory, ("Date", "Location"))
            return HolidayCalendar.from_frame(arrow_to_frame(frame))

        return self._derive(table, "calendar", read)

    def last_date(self, table: str) -> date | None:
        """The greatest ``Date`` of a table, None where it has none; read from its last partition."""
        snapshot = self._cache.snapshot(table, self._directory)
        where: tuple[Where, ...] = ()
        if snapshot is not None and snapshot.layout != "file":
            where = (Where("Date", (bounds(snapshot.layout, snapshot.parts[-1].label),)),)
        last = pc.max(self._cache.scan(table, self._directory, ("Date",), where)["Date"]).as_py()
        return None if last is None else last.date()

    def _has(self, table: str) -> bool:
        return self._cache.snapshot(table, self._directory) is not None

    def _derive(self, table: str, what: str, make: Callable[[], T]) -> T:
        return self._cache.derive(table, self._directory, what, make)

    # --- prices -----------------------------------------------------------------------------

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
        sources = [s for s in SOURCES if self._has(s.table)]
        own = [source for source in sources if not source.fallback]
        fallback = [source for source in sources if source.fallback]
        asked = np.array(dates if span is None else [*dates, span[0]], dtype="datetime64[D]")

        rows = [self._windows(source, names, dates, span) for source in own]
        found = self._merge(names, rows)
        marked, funds = np.zeros(len(names), dtype=bool), [source for source in own if source.kind == "fund"]
        marked[found.code[found.mark]] = True
        if marked.any() and funds:
            # A mark holds for ever; but it gives way to a fund's price of the same date, however long ago.
            rows += self._histories(funds, names, marked)
            found = self._merge(names, rows)
        priced = asof(found, asked)
        again = np.any(~priced.found | priced.stale, axis=1) & (names != NO_SERIES)
        if again.any():
            rows += self._histories([*own, *fallback], names, again)
            found = self._merge(names, rows)
        return found

    def adjusted(self, obs: Observations, until: date) -> Observations:
        """``obs`` with fund quotas on the basis of ``until``, net of the capital they have returned.

        The events are those of the table ``quota_adjustments``, where the lake has one.
        """
        if not self._has("quota_adjustments"):
            return obs
        types = {"date": ["Event_Date"], "float": ["Ratio"]}
        events = self._cache.scan("quota_adjustments", self._directory, overrides=types)
        return adjust_quotas(obs, arrow_to_frame(events), until)

    def _merge(self, names: np.ndarray[Any, Any], rows: Sequence[Rows]) -> Observations:
        return merge_observations(names, rows, limits=self.limits)

    def _windows(
        self, source: Source, names: np.ndarray[Any, Any], dates: Sequence[date], span: tuple[date, date] | None
    ) -> Rows:
        if self.limits.days(source.kind) == NO_LIMIT:
            spans: list[tuple[Any, Any]] = [(None, _last_instant(max([*dates, *(span or ())])))]
        else:
            # Where a source's price is too old, so are the ones of the same date that it takes precedence over.
            reach = self._reach(SOURCES[SOURCES.index(source) :])
            wanted = [(_before(day, reach), day) for day in dates]
            if span:  # on whose days a price may be stale: the last before it is as near as any limit reaches
                wanted.append((_before(span[0], self._reach(SOURCES)), span[1]))
            spans = _joined(wanted)
        where = [Where("Date", tuple(spans))]
        if len(names) <= _FEW:
            where.append(self._among(source, names))
        return self._rows(source, names, where)

    def _reach(self, sources: Iterable[Source]) -> int:
        """The greatest age limit of these sources, in days, that is one."""
        limits = (self.limits.days(source.kind) for source in sources)
        return max((limit for limit in limits if limit != NO_LIMIT), default=0)

    def _among(self, source: Source, names: np.ndarray[Any, Any]) -> Where:
        return Where(self._columns(source)[0], values=tuple(names))

    def _columns(self, source: Source) -> tuple[str, str]:
        key, price = source.columns_in(self._cache.schema(source.table, self._directory).names)
        self._check_types(source.table, {"Date": DATE, key: TEXT, price: NUMBER}, {"date": ["Date"], "float": [price]})
        return key, price

    def _check_types(self, table: str, kinds: Mapping[str, pa.DataType], overrides: Mapping[str, Any]) -> None:
        """Refuse a table that another program wrote with types that cannot be meant."""
        typed = logical_schema(self._cache.schema(table, self._directory), table, overrides)
        for name, kind in kinds.items():
            if name in typed.names and typed.field(name).type != kind:
                raise SchemaError(
                    f"Table {table}, column {name!r}: it holds {typed.field(name).type}, not {kind}.",
                    hint="Write the table again with dates, text and numbers, or move it aside.",
                )

    def _histories(
        self, sources: Iterable[Source], names: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]
    ) -> list[Rows]:
        return [self._rows(source, names, [self._among(source, names[wanted])]) for source in sources]

    def _rows(self, source: Source, names: np.ndarray[Any, Any], where: Sequence[Where]) -> Rows:
        key, price = self._columns(source)
        table = self._cache.scan(
            source.table, self._directory, ("Date", key, price), tuple(where),
            dictionary=(key,), overrides={"date": ["Date"], "float": [price]},
        )  # fmt: skip
        days = table["Date"].to_numpy().astype("datetime64[D]")
        return source, _codes(table[key], names), days, table[price].to_numpy()

    # --- rates ------------------------------------------------------------------------------

    @staticmethod
    def rate_keys(currencies: Iterable[str | None], usdbrl_ticker: str) -> list[str]:
        """The series that rates between ``currencies`` are made of."""
        wanted = {iso for iso in currencies if iso is not None and iso != "local"}
        return sorted({key for iso in wanted for key in fx.rate_series(iso, usdbrl_ticker)})

    def rate_observations(
        self, obs: Observations, currencies: Iterable[str | None], dates: Sequence[date], usdbrl_ticker: str
    ) -> Observations:
        """Where the rates as of ``dates`` are: ``obs``, or the rate series' whole history.

        Where the clean BRL series begins and ends, and so where spot extends it, can only be told
        from the whole of it. That is read when one of the dates is not plainly inside: when there is
        no clean value before it, or spot has a newer one and no later clean value has been read.
        """
        wanted = set(currencies)
        chain = fx.rate_series("brl", usdbrl_ticker)
        if "brl" not in wanted or len(chain) == 1:
            return obs
        days = np.array(dates, dtype="datetime64[D]")
        clean, spot = (np.append(np.datetime64("NaT", "D"), obs.series(key)[0]) for key in chain)
        at, at_spot = (np.searchsorted(known[1:], days, side="right") for known in (clean, spot))
        last = at == len(clean) - 1
        if len(clean) == 1:  # `observations` has looked through all of history for it: there is none
            return obs
        if ((at == 0) | (last & (spot[at_spot] > clean[at]))).any():
            return self.history(self.rate_keys(wanted, usdbrl_ticker))
        return obs

    def history(self, keys: Iterable[str]) -> Observations:
        """All observations of a few series."""
        names = np.array(sorted(set(keys)), dtype=object)
        sources = [source for source in SOURCES if self._has(source.table)]
        return self._merge(names, self._histories(sources, names, np.ones(len(names), dtype=bool)))

    # --- the latest price -------------------------------------------------------------------

    def latest(self, keys: Iterable[str]) -> tuple[IntArray, DateArray, FloatArray]:
        """The current prices of ``px_last`` of these series: position in ``keys``, date and price.

        Of series that have none there is no row, nor is there a table.
        """
        if not self._has("px_last"):
            return np.empty(0, np.int64), np.empty(0, "datetime64[D]"), np.empty(0)
        frame = self._derive("px_last", "latest", self._read_latest)
        at = frame.index.get_indexer(pd.Index(list(keys), dtype=object))
        code = np.flatnonzero(at >= 0)
        rows = frame.iloc[at[code]]
        return code, as_days(rows["last_update_dt"]), rows["px_last"].to_numpy()

    def _read_latest(self) -> pd.DataFrame:
        columns = ("Key", "px_last", "last_update_dt")
        self._check_types("px_last", dict(zip(columns, (TEXT, NUMBER, DATE), strict=True)), {})
        frame: pd.DataFrame = arrow_to_frame(self._cache.scan("px_last", self._directory, columns))
        frame = frame[(frame["px_last"] > 0) & np.isfinite(frame["px_last"])].dropna()
        frame = frame.sort_values("last_update_dt", kind="stable").drop_duplicates("Key", keep="last")
        return frame.set_index(frame["Key"].astype(object))

    def with_latest(self, obs: Observations, today: date) -> tuple[Observations, DateArray]:
        """``obs`` with the current prices that are newer, and their dates; see `market.prices.extend`."""
        return extend(obs, *self.latest(obs.keys), today, limit=self.limits.days("traded"))

    def has_series(self, key: str) -> bool:
        """Whether any price table has the series."""
        return bool(len(self.latest([key])[0]) or len(self.history([key])))


_FEW = 500
"""Up to so many series a read is narrowed to them; beyond, sorting them out afterwards is quicker."""


def _codes(column: pa.ChunkedArray, names: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The position in ``names`` of each key, -1 for others; through the dictionary, not the rows."""
    targets = pa.array(names, pa.string())
    pieces = []
    for chunk in column.chunks:
        encoded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        position = pc.fill_null(pc.index_in(encoded.dictionary.cast(pa.string()), value_set=targets), -1).to_numpy()
        indices = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        pieces.append(np.append(position, -1)[indices])  # a null key's index is -1: the appended one
    return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)


def _joined(spans: Iterable[tuple[date, date]]) -> list[tuple[datetime, datetime]]:
    """Overlapping spans as one, with their last instant."""
    joined: list[list[date]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return [(datetime.combine(start, time.min), _last_instant(end)) for start, end in joined]


def _before(day: date, days: int) -> date:
    return date.fromordinal(max(1, day.toordinal() - days))


def _last_instant(day: date) -> datetime:
    return datetime.combine(day, time.max)
