"""The asset master: which assets there are, which price series each uses, and the currencies of these."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.analytics.sampling import is_number
from luxor_pipelines.catalog import ASSETS, CURRENCY_FACTS, HOUSE_GROUPS, PRICE_INPUTS
from luxor_pipelines.errors import (
    DataError,
    SchemaError,
    TableNotFoundError,
    UnknownAssetError,
    UsageError,
    sample,
    shown,
)
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.lake.types.schema import LAST_UPDATED, TEXT
from luxor_pipelines.market import currency as fx
from luxor_pipelines.names import normal_name, normal_names

__all__ = ["AssetMaster"]

logger = logging.getLogger(__name__)

_TEXTS = ("Key", "Asset", "Ticker", "Ticker_BBG", "Group", "Location", "Type", "Currency")


class _Match(NamedTuple):
    """An asset that has a name: the column of the name, the price key, and whether it is a depositary receipt."""

    kind: str
    price_key: str
    is_receipt: bool


class _NameIndex(NamedTuple):
    """The names of all assets, in normal form: their price keys and, by column, the assets of each other name."""

    price_keys: frozenset[str]
    kinds: Mapping[str, Mapping[str, list[_Match]]]

    def matches(self, name: str) -> list[_Match]:
        """Return the assets of that name, by the first column that has it."""
        return next((named[name] for named in self.kinds.values() if name in named), [])

    @property
    def words(self) -> set[str]:
        """All names."""
        return {*self.price_keys, *(name for named in self.kinds.values() for name in named)}


class AssetMaster:
    """The table ``assets`` of one lake and the facts derived from it, which are kept as long as the table's version."""

    def __init__(self, lake: Lake) -> None:
        self._cache = lake.cache

    def exists(self) -> bool:
        """Return whether the lake has the table."""
        return self._cache.exists(ASSETS, beside=PRICE_INPUTS)

    def frame(self, columns: tuple[str, ...] | None = None) -> pd.DataFrame:
        """Return the assets with their ``Price_Key``, or some columns of them: a row a ``Key``, text in normal form.

        A row without a ``Key`` gets ``<Asset>_<Ticker>``. Rows that have neither, and later rows of a repeated key,
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
        """Return the name of the price series of an asset.

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
        """Return the names of all assets' price series, sorted."""
        return sorted(self._price_keys())

    def resolve(self, names: Iterable[str], is_series: Callable[[Sequence[str]], Iterable[str]]) -> dict[str, str]:
        """Return the price key of each name, in the order of the names; a name that nothing matches stands for itself.

        A name is a price key, a ``Key``, a ``Ticker`` or a ``Name``: the first of these kinds that matches decides.

        Parameters
        ----------
        names
            In their normal form (see `names.normal_name`).
        is_series
            Returns those of some names that are series of price tables, whether an asset uses them or not.

        Raises
        ------
        UsageError
            A name leads to several price keys.
        """
        resolved = {name: name for name in names}
        if not resolved or not self.exists():
            return resolved
        unmatched = [name for name in resolved if name not in self._price_keys()]
        if not unmatched:
            return resolved
        index = self._cache.derive(ASSETS, "names", self._read_names)
        candidates = {name: matches for name in unmatched if (matches := index.matches(name))}
        for name in is_series(list(candidates)) if candidates else ():
            del candidates[name]
        for name, matches in candidates.items():
            keys = sorted({match.price_key for match in matches})
            if len(keys) > 1:
                raise UsageError(
                    f"{name!r} is the {matches[0].kind} of {len(keys)} price series.",
                    hint=f"Name one: {sample(keys, 9)}.",
                )
            if all(match.is_receipt for match in matches):
                logger.warning(
                    "%s is a receipt: its series is its underlying's, %s; get_bdr_adj_price gives its own price",
                    name, keys[0],
                )  # fmt: skip
            resolved[name] = keys[0]
        return resolved

    def suggestions(self, name: str) -> list[str]:
        """Return a few names near one that nothing matches; none for the name of an asset, which is spelled right."""
        if not self.exists() or name in self._price_keys():
            return []
        words = self._cache.derive(ASSETS, "names", self._read_names).words
        if name in words:
            return []
        return difflib.get_close_matches(name, sorted(words), n=3)

    def find(self, text: str, limit: int) -> pd.DataFrame:
        """Return the assets of which ``text`` is part of a name, or near one.

        Columns are ``Key``, ``Name``, ``Price_Key`` and ``Currency``. Assets named exactly so come first, then those
        whose names begin with the text.
        """
        if not is_number(limit, Integral) or limit < 0:
            raise UsageError(f"limit={shown(limit)} is no number of assets.", hint="Give a whole one.")
        columns = ["Key", "Name", "Price_Key", "Currency"]
        term = normal_name(text)
        if not self.exists() or not term:
            return pd.DataFrame(columns=columns, dtype=str)
        assets = self.frame()
        assets = assets.assign(Name=assets["Name"] if "Name" in assets.columns else None)
        rank = pd.Series(np.inf, index=assets.index)
        near = set(difflib.get_close_matches(term, sorted(self._cache.derive(ASSETS, "names", self._read_names).words)))
        for column in (name for name in ("Key", "Ticker", "Price_Key", "Name") if name in assets.columns):
            words = pd.Series(
                [normal_name(w) if isinstance(w, str) else "" for w in assets[column]], index=assets.index
            )
            order = np.select(
                [
                    words == term,
                    words.str.startswith(term),
                    words.str.contains(term, regex=False),
                    words.isin(near),
                ],
                [0.0, 1.0, 2.0, 3.0],
                np.inf,
            )
            rank = np.minimum(rank, order)
        at = rank[np.isfinite(rank)].sort_values(kind="stable").index[:limit]
        rows = assets.loc[at].reset_index(drop=True)
        keys = rows["Price_Key"].fillna("")
        return rows.assign(Currency=pd.Series(self.currencies(keys), index=rows.index, dtype="str"))[columns]

    def _price_keys(self) -> frozenset[str]:
        def distinct() -> frozenset[str]:
            rows = self._cache.derive(ASSETS, "rows", self._read)
            return frozenset(rows["Price_Key"].unique().drop_null().to_pylist())

        return self._cache.derive(ASSETS, "price keys", distinct)

    def _read_names(self) -> _NameIndex:
        assets = self.frame()
        kinds: dict[str, dict[str, list[_Match]]] = {}
        receipt = assets["Type"] == CURRENCY_FACTS.depositary_type
        rows = list(zip(assets["Price_Key"], receipt, strict=True))
        for kind in (kind for kind in ("Key", "Ticker", "Name") if kind in assets.columns):
            named = kinds.setdefault(kind, {})
            for word, (price_key, is_receipt) in zip(assets[kind], rows, strict=True):
                if isinstance(word, str) and isinstance(price_key, str):
                    named.setdefault(normal_name(word), []).append(_Match(kind, price_key, bool(is_receipt)))
        return _NameIndex(self._price_keys(), kinds)

    def currencies(self, keys: Iterable[str]) -> np.ndarray[Any, Any]:
        """Return the currency of each of these price series, None where it is not known."""
        by_series = self.series_currency()
        return np.array([by_series.get(key) for key in keys], dtype=object)

    def series_currency(self) -> Mapping[str, str]:
        """Return the currency of each price series that has one; see `market.currency.series_currency`."""
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
        self.exists()  # looks for the other tables of a price question in the same go
        try:
            table = self._cache.scan(ASSETS, drop=(LAST_UPDATED,))
        except TableNotFoundError as error:
            raise TableNotFoundError(
                error.message,
                hint="`luxor load assets FILE` loads the asset master; docs/tables.md says what it holds.",
            ) from error
        if "Key" not in table.column_names:
            raise SchemaError(
                f"Table assets has no column 'Key'; it has {sample(table.column_names, 10)}.",
                hint="Export the asset master again, with its Key column.",
            )
        self._cache.check_types(ASSETS, {"Key": TEXT})
        table = _one_row_a_key(_with_price_keys(table))
        if not len(table):
            raise DataError("Table assets has no rows with a Key.", hint="Export the asset master again.")
        return table


def _with_price_keys(table: pa.Table) -> pa.Table:
    """Return the assets with ``Price_Key``, and ``Key``, ``Location``, ``Type`` and ``Currency`` in normal form."""
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
    return table


def _one_row_a_key(table: pa.Table) -> pa.Table:
    """Return the assets without rows that have no key, and without later rows of a repeated one; log both."""
    encoded = table["Key"].combine_chunks().dictionary_encode()
    code = pd.Series(pc.fill_null(encoded.indices, -1).to_numpy())
    nameless = code == -1
    repeated = code.duplicated() & ~nameless
    if nameless.any():
        logger.warning("assets: %d rows have no Key and are left out", int(nameless.sum()))
    if repeated.any():
        again = table["Key"].filter(pa.array(repeated)).to_pylist()
        logger.warning("assets: repeated keys, the first row counts: %s", sample(again))
    if (nameless | repeated).any():
        table = table.filter(pa.array(~(nameless | repeated)))
    return table


def price_keys(ticker: pa.ChunkedArray, bloomberg: pa.ChunkedArray, group: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the price key of each asset, by its ``Ticker``, ``Ticker_BBG`` and ``Group``; null if it names no series.

    ``Ticker`` for the groups ``vc`` and ``luxor``; else ``Ticker_BBG``, else ``Ticker``.
    """
    housed = pc.is_in(group, value_set=pa.array(HOUSE_GROUPS))
    return pc.if_else(housed, ticker, pc.coalesce(bloomberg, ticker))


def unknown_asset(message: str, name: str, names: Iterable[str]) -> UnknownAssetError:
    """Return the error for a name that is not among ``names``, with near ones as suggestions."""
    near = difflib.get_close_matches(name, [other for other in names if other != name], n=3)
    hint = f"Did you mean {sample(near)}?" if near else "Price keys are lower-case tickers, as in `assets`."
    return UnknownAssetError(f"{message}.", hint=hint)


def _text(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Return a column's text, trimmed and in lower case; null where it is blank, or the table has no such column."""
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(len(table), pa.string())])
    text = normal_names(table[name].cast(pa.string()))
    blank = pc.equal(text, "")
    return pc.if_else(blank, None, text) if pc.any(blank).as_py() else text
