"""The returns that the pipeline ``hist_returns`` has stored, a month of them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from datetime import date

import pandas as pd

from luxor_pipelines.catalog import HIST_RETURNS, PERIODS
from luxor_pipelines.errors import DataError, TableNotFoundError, UsageError, sample
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.parquet.predicates import conditions
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.lake.types.schema import LAST_UPDATED
from luxor_pipelines.market.currency import as_currency
from luxor_pipelines.market.periods import DateLike, as_date, month_end
from luxor_pipelines.names import as_names
from luxor_pipelines.query.assets import AssetMaster

__all__ = ["are_wide", "stored_returns"]

logger = logging.getLogger(__name__)

TABLE = HIST_RETURNS.name


def are_wide(columns: Collection[str]) -> bool:
    """Return whether columns are those of the old library's returns: one a period, and none that says why one is 0."""
    return "Period" not in columns and not set(PERIODS).isdisjoint(columns)


def stored_returns(
    lake: Lake,
    assets: AssetMaster,
    ref_date: DateLike | None,
    currency: str | Iterable[str] | None,
    *,
    wide: bool,
    with_status: bool,
) -> pd.DataFrame:
    """Return the stored returns of one month, long or wide; see `LuxorQuery.get_hist_returns`."""
    if currency is None:
        currencies = ["brl"] if wide else []
    else:
        currencies = [as_currency(name) for name in as_names(currency, "currency")]
    last = None if ref_date is None else as_date(ref_date)
    try:
        _check_table(lake)
    except TableNotFoundError as error:
        raise TableNotFoundError(error.message, hint=f"Run the pipeline: luxor run {TABLE}") from error
    if ref_date is None:
        last = lake.cache.last_date(TABLE)
    if last is None:
        raise DataError(f"Table {TABLE} is empty.", hint=f"Run the pipeline: luxor run {TABLE}")
    day = month_end(last)
    # A range selects partitions.
    where = conditions(lake.cache.codec(TABLE).schema, TABLE, {"Date": (day, day)})
    rows: pd.DataFrame = arrow_to_frame(lake.cache.scan(TABLE, where=where, drop=(LAST_UPDATED,)))
    if rows.empty:
        ended = day < lake.today()
        raise DataError(
            f"Table {TABLE} has no rows for {day}.",
            hint=f"Run the pipeline: luxor run {TABLE} --ref-date {day}" if ended else "That month has not ended yet.",
        )
    stored = rows["Currency"].unique()
    for name in currencies:
        if name not in stored:
            raise UsageError(f"Table {TABLE} has no returns in {name!r}.", hint=f"It has {sample(stored, 9)}.")
    if currencies:
        rows = rows[rows["Currency"].isin(currencies)].reset_index(drop=True)
    return _wide(rows, day, assets, with_status=with_status) if wide else rows


def _check_table(lake: Lake) -> None:
    """Warn where a single file hides partitions, and refuse the old library's table.

    Raises
    ------
    DataError
    """
    snapshot = lake.cache.snapshot(TABLE)
    in_file = snapshot is not None and snapshot.layout == "file"
    shadow = lake.cache.derive(TABLE, "shadow", lake.table(TABLE).shadow) if in_file else ""
    if are_wide(lake.cache.codec(TABLE).schema.names):
        raise DataError(
            f"Table {TABLE} is the old library's, with a column a period. It does not say which of its returns are of "
            "a part of the period only, nor which 0 is a missing price.",
            hint=shadow
            or f"Run the months again: `luxor archive {TABLE}`, then `luxor backfill {TABLE} --from 2025-01`. The old "
            f"numbers: `luxor show {TABLE}`; docs/migration.md says how to keep them.",
        )
    if shadow:
        logger.warning("%s", shadow)


def _wide(rows: pd.DataFrame, day: date, assets: AssetMaster, *, with_status: bool) -> pd.DataFrame:
    """Return a month with a column a period: a row an asset, and currency where there are several."""
    key = ["Key", "Currency"] if len(rows["Currency"].unique()) > 1 else ["Key"]
    values = rows.pivot(index=key, columns="Period", values="Return")
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
        text = (odd["Period"] + ": " + odd["Status"]).groupby([odd[name] for name in key]).agg(", ".join)
        rows_ = pd.MultiIndex.from_frame(frame[key]) if len(key) > 1 else pd.Index(frame[key[0]])
        # Cast first: without a single odd period there is nothing to tell that this is text.
        frame["Status"] = text.astype("str").reindex(rows_).fillna("ok").to_numpy()
    return frame
