"""`Reference`: fields of assets that other systems keep in the lake, display names, sizes of BDRs."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from typing import Any

import pandas as pd

from luxor_pipelines.catalog import ASSETS, BDR_SIZES, FIELD_MAP, HIST_FIELDS, LAST_FIELDS, PX_LAST
from luxor_pipelines.errors import DataError, SchemaError, UnknownAssetError, sample
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.parquet.predicates import conditions
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.names import normal_name
from luxor_pipelines.query.assets import AssetMaster, unknown_asset

__all__ = ["Reference"]

logger = logging.getLogger(__name__)

_NULL_WORDS = frozenset({"", "nan", "none", "nat", "<na>"})


class Reference:
    """The lake's facts about assets beside their prices."""

    def __init__(self, lake: Lake, assets: AssetMaster) -> None:
        self._lake = lake
        self._assets = assets

    def field(
        self, ticker: str, field: str, day: date | None, resolve: Callable[[str], str]
    ) -> float | date | str | None:
        """Return one field of an asset: the latest value or, with a ``day``, that of the last row on or before it.

        A ticker that has no row of the field is taken for a name, which ``resolve`` gives the price key of.
        The value is a number, a date or text, as the table ``field_map`` says; text without one. None, and a
        logged reason, where there is no value.

        Raises
        ------
        SchemaError
            The value is not of the type that ``field_map`` says.
        """
        rows = self._field_rows(ticker, field, day)
        if rows.empty and (price_key := resolve(ticker)) != ticker:
            rows = self._field_rows(price_key, field, day)
        value = None if rows.empty else rows["Value"].iloc[-1]
        text = "" if value is None or pd.isna(value) else str(value).strip()
        if text.lower() in _NULL_WORDS:
            logger.warning("There is no %s of %s%s", field, ticker, "" if day is None else f" as of {day}")
            return None
        return _typed(text, self._field_types().get(field, "text"), ticker, field)

    def bdr_size(self, ticker: str) -> float:
        """Return how many BDRs there are for one underlying share.

        Raises
        ------
        UnknownAssetError
            The table has no such ticker.
        DataError
            Its size is missing or not above 0.
        """
        rows = self._rows(BDR_SIZES, {"Ticker": ticker}, ["Ticker", "adr_adr_per_sh"])
        if rows.empty:
            raise UnknownAssetError(f"Table {BDR_SIZES} has no ticker {ticker!r}.", hint="Give the BDR's own ticker.")
        size = float(rows["adr_adr_per_sh"].iloc[-1])
        if not (math.isfinite(size) and size > 0):
            raise DataError(f"The size of {ticker!r} in {BDR_SIZES} is {size}.", hint="Correct its row.")
        return size

    def bdr_of(self, asset_key: str) -> tuple[str, float]:
        """Return the price series of a BDR's underlying share, and how many BDRs there are for one."""
        price_key = self._assets.price_key(asset_key)
        assets = self._assets.frame(("Key", "Ticker"))
        ticker = normal_name(str(assets.loc[assets["Key"] == asset_key, "Ticker"].iloc[0]))
        return price_key, self.bdr_size(ticker)

    def name(self, ticker: str) -> str:
        """Return the display name of the asset with a ticker: its own, Bloomberg's, or its price series.

        If several assets have it, the first one for which it is the house's own ticker counts.

        Raises
        ------
        UnknownAssetError
            No asset has it, or none of those has a name.
        """
        assets = self._assets.frame()
        if "Name" not in assets.columns:
            raise SchemaError(f"Table {ASSETS} has no column 'Name'.", hint="Export the asset master again.")
        for column in ("Ticker", "Price_Key", "Ticker_BBG"):
            if column in assets.columns:
                named = assets.loc[assets[column].map(normal_name, na_action="ignore") == ticker, "Name"].dropna()
                if len(named):
                    return str(named.iloc[0])
        raise unknown_asset(f"No asset has the ticker {ticker!r} and a name", ticker, assets["Price_Key"].dropna())

    def price_time(self) -> time | None:
        """Return the time of day at which the newest of the current prices was asked for, None where there is none."""
        newest = self._rows(PX_LAST, {}, ["Query_Time"])["Query_Time"].max()
        return None if pd.isna(newest) else newest.to_pydatetime().time()

    def _field_rows(self, ticker: str, field: str, day: date | None) -> pd.DataFrame:
        if day is None:
            return self._rows(LAST_FIELDS, {"Key": f"{ticker}_{field}"}, ["Key", "Value"])
        where = {"Ticker": ticker, "Field": field, "Date": (None, day)}
        return self._rows(HIST_FIELDS, where, ["Date", "Value"]).sort_values("Date", kind="stable")

    def _field_types(self) -> Mapping[str, str]:
        if not self._lake.cache.exists(FIELD_MAP):
            return {}
        rows = self._rows(FIELD_MAP, {}, ["Field", "Value_Type"])
        return dict(zip(rows["Field"].str.strip().str.lower(), rows["Value_Type"].str.strip().str.lower(), strict=True))

    def _rows(self, table: str, where: Mapping[str, Any], columns: list[str]) -> pd.DataFrame:
        cache = self._lake.cache
        predicates = conditions(cache.codec(table).schema, table, where) if where else ()
        return arrow_to_frame(cache.scan(table, columns, predicates))


def _typed(text: str, kind: str, ticker: str, field: str) -> float | date | str | None:
    """Parse a value stored as text; dates are ISO or seconds since 1970, in UTC, and 0 is a missing date."""
    if kind == "text":
        return text
    try:
        if kind == "numerical":
            return float(text)
        try:
            seconds = float(text)
        except ValueError:
            return datetime.fromisoformat(text).date()
        return datetime.fromtimestamp(seconds, UTC).date() if seconds else None
    except (ValueError, OverflowError, OSError) as error:
        raise SchemaError(
            f"{field} of {ticker} is {sample([text])}, which is no {'number' if kind == 'numerical' else 'date'}.",
            hint=f"Correct the value, or its type in {FIELD_MAP}.",
        ) from error
