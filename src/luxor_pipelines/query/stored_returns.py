"""The returns that the pipeline ``hist_returns`` has stored, a month of them."""

from __future__ import annotations

from datetime import date

import pandas as pd

from luxor_pipelines.catalog import HIST_RETURNS, PERIODS
from luxor_pipelines.errors import DataError, UsageError, sample
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.parquet.predicates import conditions
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.lake.types.schema import LAST_UPDATED
from luxor_pipelines.market.currency import as_currency
from luxor_pipelines.market.periods import DateLike, as_date, month_end
from luxor_pipelines.query.assets import AssetMaster

__all__ = ["stored_returns"]

TABLE = HIST_RETURNS.name


def stored_returns(
    lake: Lake, assets: AssetMaster, ref_date: DateLike | None, currency: str | None, *, wide: bool, with_status: bool
) -> pd.DataFrame:
    """The stored returns of one month, long or wide; see `LuxorQuery.get_hist_returns`."""
    chosen = as_currency(currency or "brl") if currency is not None or wide else None
    last = lake.cache.last_date(TABLE) if ref_date is None else as_date(ref_date)
    if last is None:
        raise DataError(f"Table {TABLE} is empty.", hint=f"Run the pipeline: luxor run {TABLE}")
    day = month_end(last)
    # As a range it selects partitions.
    where = conditions(lake.cache.codec(TABLE).schema, TABLE, {"Date": (day, day)})
    rows: pd.DataFrame = arrow_to_frame(lake.cache.scan(TABLE, where=where, drop=(LAST_UPDATED,)))
    if rows.empty:
        ended = day < lake.today()
        raise DataError(
            f"Table {TABLE} has no rows for {day}.",
            hint=f"Run the pipeline: luxor run {TABLE} --ref-date {day}" if ended else "That month has not ended yet.",
        )
    if chosen is not None:
        stored = rows["Currency"].unique()
        rows = rows[rows["Currency"] == chosen].reset_index(drop=True)
        if rows.empty:
            raise UsageError(f"Table {TABLE} has no returns in {chosen!r}.", hint=f"It has {sample(stored, 9)}.")
    return _wide(rows, day, assets, with_status=with_status) if wide else rows


def _wide(rows: pd.DataFrame, day: date, assets: AssetMaster, *, with_status: bool) -> pd.DataFrame:
    values = rows.pivot(index="Key", columns="Period", values="Return")
    order = [period for period in PERIODS if period in values.columns]
    order += [period for period in values.columns if period not in order]
    frame = values[order].reset_index().rename_axis(columns=None)
    if assets.exists():
        names = assets.frame()
        if "Name" in names.columns:
            frame.insert(1, "Name", frame["Key"].map(dict(zip(names["Key"], names["Name"], strict=True))))
    frame.insert(0, "Date", pd.Timestamp(day).as_unit("us"))
    if with_status:
        odd = rows[rows["Status"] != "ok"]
        odd = odd.assign(_order=odd["Period"].map({p: n for n, p in enumerate(order)})).sort_values("_order")
        text = (odd["Period"] + ": " + odd["Status"]).groupby(odd["Key"]).agg(", ".join)
        # Cast first: without a single odd period there is nothing to tell that this is text.
        frame["Status"] = text.astype("str").reindex(frame["Key"]).fillna("ok").to_numpy()
    return frame
