"""From the lake's tables to the market's arrays: assets, currencies, rates, holidays, current prices.

The observations of the price tables are read by `price_tables`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import date
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.catalog import ASSETS, CURRENCY_FACTS, HOLIDAYS, HOLIDAYS_EXCHANGE, HOUSE_GROUPS, PX_LAST, USDBRL
from luxor_pipelines.errors import DataError, SchemaError, UnknownAssetError, sample
from luxor_pipelines.lake.parquet.predicates import Where
from luxor_pipelines.lake.table.layout import bounds
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.lake.types.schema import DATE, NUMBER, TEXT
from luxor_pipelines.lake.types.text import normalize_text
from luxor_pipelines.market import currency as fx
from luxor_pipelines.market.calendars import HolidayCalendar
from luxor_pipelines.market.observations import FloatArray, IntArray
from luxor_pipelines.market.periods import DateArray, DatesLike, as_days
from luxor_pipelines.market.prices import Observations, extend
from luxor_pipelines.query.price_tables import PriceTables

__all__ = ["MarketData", "price_keys"]

logger = logging.getLogger(__name__)

_DAY_ONE = np.datetime64(date.min, "D")
_ASSET_TEXTS = ("Key", "Asset", "Ticker", "Ticker_BBG", "Group", "Location", "Type")


def price_keys(ticker: pa.ChunkedArray, bloomberg: pa.ChunkedArray, group: pa.ChunkedArray) -> pa.ChunkedArray:
    """The price key of each asset of these ``Ticker``, ``Ticker_BBG`` and ``Group``: null where it names no series.

    ``Ticker`` for the groups ``vc`` and ``luxor``; else ``Ticker_BBG``, else ``Ticker``.
    """
    housed = pc.is_in(group, value_set=pa.array(HOUSE_GROUPS))
    return pc.if_else(housed, ticker, pc.coalesce(bloomberg, ticker))


def _text(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column's text, trimmed and in lower case; null where it is blank, or the column is not there."""
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(len(table), pa.string())])
    text = normalize_text(table[name].cast(pa.string()))
    blank = pc.equal(text, "")
    return pc.if_else(blank, None, text) if pc.any(blank).as_py() else text


class MarketData(PriceTables):
    """Assets, prices, rates and holidays of one lake, through its `TableCache`.

    What is worked out of a whole table (assets, currencies, holidays) is kept as long as its version.
    """

    # --- reference data ---------------------------------------------------------------------

    def assets(self, columns: tuple[str, ...] | None = None) -> pd.DataFrame:
        """The asset master with its ``Price_Key``, or some columns of it: one row a ``Key``, text trimmed, lower case.

        A row without a ``Key`` gets ``<Asset>_<Ticker>``; one that has none of it cannot be named
        and is left out, as are later rows of a repeated key; both are logged.

        Raises
        ------
        TableNotFoundError, SchemaError
        DataError
            The table is empty.
        """

        def frame() -> pd.DataFrame:
            table = self._derive(ASSETS, "rows", self._read_assets)
            return arrow_to_frame(table if columns is None else table.select(columns))

        return self._derive(ASSETS, f"frame of {columns}", frame).copy()

    def _read_assets(self) -> pa.Table:
        self._has(ASSETS)  # and the others with it
        table = self._cache.scan(ASSETS, self._directory, drop=("Last_Updated",))
        if "Key" not in table.column_names:
            raise SchemaError(
                f"Table assets has no column 'Key'; it has {sample(table.column_names, 10)}.",
                hint="Export the asset master again, with its Key column.",
            )
        self._check_types(ASSETS, {"Key": TEXT}, {})
        texts = {name: _text(table, name) for name in _ASSET_TEXTS}
        named = pc.binary_join_element_wise(texts["Asset"], texts["Ticker"], "_")
        texts = {
            "Key": pc.coalesce(texts["Key"], named),
            "Price_Key": price_keys(*(texts[name] for name in ("Ticker", "Ticker_BBG", "Group"))),
            "Location": texts["Location"],
            "Type": texts["Type"],
        }
        for name, text in texts.items():
            at = table.schema.get_field_index(name)
            table = table.append_column(name, text) if at < 0 else table.set_column(at, name, text)
        encoded = texts["Key"].combine_chunks().dictionary_encode()
        code = pd.Series(pc.fill_null(encoded.indices, -1).to_numpy())
        nameless = code == -1
        repeated = code.duplicated() & ~nameless
        if nameless.any():
            logger.warning("assets: %d rows have no Key and are left out", int(nameless.sum()))
        if repeated.any():
            again = texts["Key"].filter(pa.array(repeated)).to_pylist()
            logger.warning("assets: repeated keys, the first row counts: %s", sample(again))
        if (nameless | repeated).any():
            table = table.filter(pa.array(~(nameless | repeated)))
        if not len(table):
            raise DataError("Table assets has no rows with a Key.", hint="Export the asset master again.")
        return table

    def series_currency(self) -> Mapping[str, str]:
        """The currency of each price series that has one; see `market.currency.series_currency`."""
        if not self._has(ASSETS):
            return MappingProxyType(CURRENCY_FACTS.series)
        return self._derive(ASSETS, "currencies", self._read_currencies)

    def _read_currencies(self) -> Mapping[str, str]:
        currencies, conflicts = fx.series_currency(self.assets(("Price_Key", "Location", "Type")), CURRENCY_FACTS)
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
        table = HOLIDAYS if self._has(HOLIDAYS) else HOLIDAYS_EXCHANGE.name

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

    # --- rates ------------------------------------------------------------------------------

    @staticmethod
    def rate_keys(currencies: Iterable[str | None], usdbrl_ticker: str) -> list[str]:
        """The series that rates between ``currencies`` are made of."""
        wanted = {iso for iso in currencies if iso is not None and iso != "local"}
        return sorted({key for iso in wanted for key in fx.rate_series(iso, usdbrl_ticker, CURRENCY_FACTS)})

    def rate_observations(
        self, obs: Observations, currencies: Iterable[str | None], dates: DatesLike, usdbrl_ticker: str
    ) -> Observations:
        """Where the rates as of ``dates`` are: ``obs``, and what it takes to extend the BRL series at its ends.

        Whether the clean series begins after a date, or has ended before it, is open where there is no clean
        value before it, or spot has a newer one and no later clean value has been read. Then the rates are read
        up to the first clean value, or from the last one on.

        Raises
        ------
        UnknownAssetError
            There is no such series as ``usdbrl_ticker``, and it is not the default, for which spot stands in.
        """
        wanted = set(currencies)
        chain = fx.rate_series("brl", usdbrl_ticker, CURRENCY_FACTS)
        if "brl" not in wanted or len(chain) == 1:
            return obs
        keys = self.rate_keys(wanted, usdbrl_ticker)
        known = [obs.series(key) for key in chain]
        if any((price == 0).any() for _, price in known):  # a mark of 0, which is no rate but hides what is before it
            return self.between(obs, keys, [(date.min, date.max)])
        days = as_days(dates)
        clean, spot = (np.append(np.datetime64("NaT", "D"), day) for day, _ in known)
        at, at_spot = (np.searchsorted(each[1:], days, side="right") for each in (clean, spot))
        before, after = at == 0, (at == len(clean) - 1) & (spot[at_spot] > clean[at])
        if len(clean) == 1 and not self.known(obs.only(chain[:1])).any():
            if chain[0] != USDBRL:
                raise UnknownAssetError(
                    f"No price table has a series {chain[0]!r}, whose rates were asked for.",
                    hint=f"Check the spelling of usdbrl_ticker; the default is {USDBRL!r}.",
                )
            return obs
        if not (before | after).any():
            return obs
        # On none of the days before is there a clean value: the first one comes after all of them. As of its first and
        # last day too there must be a spot rate, which may be older by as much as rates may be.
        spans = []
        if before.any():
            spans.append((days[before].max(), clean[1].item() if len(clean) > 1 else date.max))
        if after.any():
            spans.append((clean[-1], date.max))
        limit = self.limits.days("traded")
        return self.between(obs, keys, [(max(_DAY_ONE, first - limit).item(), last) for first, last in spans])

    # --- the latest price -------------------------------------------------------------------

    def latest(self, keys: Iterable[str]) -> tuple[IntArray, DateArray, FloatArray]:
        """The current prices of ``px_last`` of these series: position in ``keys``, date and price.

        Of series that have none there is no row, nor is there a table.
        """
        if not self._has(PX_LAST):
            return np.empty(0, np.int64), np.empty(0, "datetime64[D]"), np.empty(0)
        frame = self._derive(PX_LAST, "latest", self._read_latest)
        at = frame.index.get_indexer(pd.Index(list(keys), dtype=object))
        code = np.flatnonzero(at >= 0)
        rows = frame.iloc[at[code]]
        return code, as_days(rows["last_update_dt"]), rows["px_last"].to_numpy()

    def _read_latest(self) -> pd.DataFrame:
        columns = ("Key", "px_last", "last_update_dt")
        self._check_types(PX_LAST, dict(zip(columns, (TEXT, NUMBER, DATE), strict=True)), {})
        frame: pd.DataFrame = arrow_to_frame(self._cache.scan(PX_LAST, self._directory, columns))
        frame = frame[(frame["px_last"] > 0) & np.isfinite(frame["px_last"])].dropna()
        frame = frame.sort_values("last_update_dt", kind="stable").drop_duplicates("Key", keep="last")
        return frame.set_index(frame["Key"].astype(object))

    def with_latest(self, obs: Observations, today: date) -> tuple[Observations, DateArray]:
        """``obs`` with the current prices that are newer, and their dates; see `market.prices.extend`."""
        return extend(obs, *self.latest(obs.keys), today, limit=self.limits.days("traded"))

    def has_series(self, key: str) -> bool:
        """Whether any price table has the series."""
        return bool(len(self.latest([key])[0]) or len(self.history([key])))
