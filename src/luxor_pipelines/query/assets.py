"""The asset master: which assets there are, which price series each uses, and the currencies of these."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.catalog import ASSETS, CURRENCY_FACTS, HOUSE_GROUPS, PRICE_INPUTS
from luxor_pipelines.errors import DataError, SchemaError, UnknownAssetError, sample
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.lake.types.schema import LAST_UPDATED, TEXT
from luxor_pipelines.market import currency as fx
from luxor_pipelines.names import normal_names

__all__ = ["AssetMaster"]

logger = logging.getLogger(__name__)

_TEXTS = ("Key", "Asset", "Ticker", "Ticker_BBG", "Group", "Location", "Type", "Currency")


class AssetMaster:
    """The table ``assets`` of one lake, and what follows from it; kept as long as the table's version."""

    def __init__(self, lake: Lake) -> None:
        self._cache = lake.cache

    def exists(self) -> bool:
        """Whether the lake has the table."""
        return self._cache.exists(ASSETS, beside=PRICE_INPUTS)

    def frame(self, columns: tuple[str, ...] | None = None) -> pd.DataFrame:
        """The assets with their ``Price_Key``, or some columns of them: one row a ``Key``, text trimmed, lower case.

        A row without a ``Key`` gets ``<Asset>_<Ticker>``. Rows that have none of it, and later rows of a repeated key,
        are left out and logged.

        Raises
        ------
        TableNotFoundError, SchemaError
        DataError
            The table is empty.
        """

        def frame() -> pd.DataFrame:
            table = self._cache.derive(ASSETS, "rows", self._read)
            return arrow_to_frame(table if columns is None else table.select(columns))

        return self._cache.derive(ASSETS, f"frame of {columns}", frame).copy()

    def price_key(self, asset_key: str) -> str:
        """The name of the price series of an asset.

        Raises
        ------
        UnknownAssetError
            No such ``Key``, or the asset names no series.
        """
        assets = self.frame(("Key", "Price_Key"))
        rows = assets.loc[assets["Key"] == asset_key, "Price_Key"]
        if rows.empty:
            raise unknown_asset(f"There is no asset {asset_key!r}", asset_key, assets["Key"])
        if rows.isna().any():
            raise UnknownAssetError(f"Asset {asset_key!r} has neither Ticker nor Ticker_BBG.", hint="Complete its row.")
        return str(rows.iloc[0])

    def price_keys(self) -> list[str]:
        """The names of all assets' price series, sorted."""
        return sorted(self.frame(("Price_Key",))["Price_Key"].dropna().unique())

    def currencies(self, keys: Iterable[str]) -> np.ndarray[Any, Any]:
        """The currency of each of these price series, None where it is not known."""
        known = self.series_currency()
        return np.array([known.get(key) for key in keys], dtype=object)

    def series_currency(self) -> Mapping[str, str]:
        """The currency of each price series that has one; see `market.currency.series_currency`."""
        if not self.exists():
            return MappingProxyType(CURRENCY_FACTS.series)
        return self._cache.derive(ASSETS, "currencies", self._read_currencies)

    def _read_currencies(self) -> Mapping[str, str]:
        columns = ("Price_Key", "Location", "Type", "Currency")
        stored = self._cache.derive(ASSETS, "rows", self._read).column_names
        frame = self.frame(tuple(name for name in columns if name in stored))
        currencies, unclear = fx.series_currency(frame, CURRENCY_FACTS)
        if unclear:
            named = [f"{key} ({', '.join(words)})" for key, words in unclear.items()]
            logger.warning(
                "assets: Currency, or Location, names no one currency of %d series: %s", len(named), sample(named)
            )
        return MappingProxyType(currencies)

    def _read(self) -> pa.Table:
        self.exists()  # and the others with it
        table = self._cache.scan(ASSETS, drop=(LAST_UPDATED,))
        if "Key" not in table.column_names:
            raise SchemaError(
                f"Table assets has no column 'Key'; it has {sample(table.column_names, 10)}.",
                hint="Export the asset master again, with its Key column.",
            )
        self._cache.check_types(ASSETS, {"Key": TEXT})
        texts = {name: _text(table, name) for name in _TEXTS}
        named = pc.binary_join_element_wise(texts["Asset"], texts["Ticker"], "_")
        texts = {
            "Key": pc.coalesce(texts["Key"], named),
            "Price_Key": price_keys(*(texts[name] for name in ("Ticker", "Ticker_BBG", "Group"))),
            "Location": texts["Location"],
            "Type": texts["Type"],
        } | ({"Currency": texts["Currency"]} if "Currency" in table.column_names else {})
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


def price_keys(ticker: pa.ChunkedArray, bloomberg: pa.ChunkedArray, group: pa.ChunkedArray) -> pa.ChunkedArray:
    """The price key of each asset of these ``Ticker``, ``Ticker_BBG`` and ``Group``: null where it names no series.

    ``Ticker`` for the groups ``vc`` and ``luxor``; else ``Ticker_BBG``, else ``Ticker``.
    """
    housed = pc.is_in(group, value_set=pa.array(HOUSE_GROUPS))
    return pc.if_else(housed, ticker, pc.coalesce(bloomberg, ticker))


def unknown_asset(message: str, name: str, known: Iterable[str]) -> UnknownAssetError:
    """The error for a name that is none of those known, with near ones as suggestions."""
    near = difflib.get_close_matches(name, list(known), n=3)
    hint = f"Did you mean {sample(near)}?" if near else "Price keys are lower-case tickers, as in `assets`."
    return UnknownAssetError(f"{message}.", hint=hint)


def _text(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column's text, trimmed and in lower case; null where it is blank, or the table has no such column."""
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(len(table), pa.string())])
    text = normal_names(table[name].cast(pa.string()))
    blank = pc.equal(text, "")
    return pc.if_else(blank, None, text) if pc.any(blank).as_py() else text
