"""Checks of a month's returns before they are written, against the stored ones and what is plausible."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luxor_pipelines.catalog import CURRENCIES, HIST_RETURNS, PERIODS, PRICE_TABLES
from luxor_pipelines.errors import CorruptFileError, SchemaError, TableNotFoundError, UsageError, sample
from luxor_pipelines.market.observations import BoolArray
from luxor_pipelines.market.periods import add_months
from luxor_pipelines.market.prices import asof
from luxor_pipelines.quality.gate import Finding, half_gone

if TYPE_CHECKING:
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = ["PLAUSIBLE", "check_returns"]


_TABLE = HIST_RETURNS.name

PLAUSIBLE = {
    "mtd": (-0.98, 9.0),
    "qtr": (-0.98, 14.0),
    "ytd": (-1.0, 29.0),
    "12m": (-1.0, 29.0),
    "24m": (-1.0, 49.0),
    "36m": (-1.0, 49.0),
}
"""Lowest and highest return that is let pass unseen, as fractions.

The highest let a share go up tenfold in a month, thirtyfold in a year and fiftyfold in three, which
happens once in a decade; a decimal point of the end price that has slipped by two places is beyond
them. Companies fail, so that over a year any loss is possible that leaves something; within a month
or a quarter more than 98 % is rather a price whose point has slipped the other way.
"""

_ROW = ["Key", "Currency", "Period"]
_SAME = 1e-9


def check_returns(lq: LuxorQuery, frame: pd.DataFrame, ref: date) -> list[Finding]:
    """Find what is odd about the returns of the month that ends on ``ref``.

    They are held against those of the same month that are stored already, which somebody may have
    forced, else against those of the calendar month before; where neither is stored there is nothing
    to hold them against.
    """
    label, before = f"{ref:%Y-%m}", add_months(ref, -1)
    findings = [*_contradictions(frame, label)]
    try:
        same = _stored(lq, ref)
        stored, basis = (_stored(lq, before), before) if same.empty else (same, ref)
        findings += _coverage(frame, stored, label, basis)
    except CorruptFileError as error:
        same = frame.iloc[:0]
        what = "stored month, which these returns should be compared with, cannot be read"
        findings.append(Finding("warning", _TABLE, label, what, 1, error.message))
    if same.empty:
        findings += _unmatched(lq, frame, ref, label)
    if not any(finding.severity == "error" for finding in findings) and not _was_empty(same):
        findings += _nothing(lq, frame, ref, label)
    return [*findings, *_bounds(frame, same, label)]


def _stored(lq: LuxorQuery, day: date) -> pd.DataFrame:
    """The rows stored for a month; none where there is no such table, or one the load will refuse."""
    columns = [*_ROW, "Return"]
    try:
        return lq.get_table(_TABLE, force_reload=True, columns=columns, where={"Date": day})
    except (TableNotFoundError, SchemaError, UsageError):
        return pd.DataFrame(columns=columns)


def _coverage(frame: pd.DataFrame, stored: pd.DataFrame, label: str, basis: date) -> list[Finding]:
    """Assets that have gone, and returns that can no longer be stated: half of them, or more."""
    keys = pd.Index(stored["Key"].unique())
    there = keys.isin(frame["Key"].unique())
    if half_gone(before=np.ones(len(keys), dtype=bool), now=there):
        return [_gone(keys[~there], f"of the {len(keys):,} assets stored for {basis} are missing", label)]
    keys = keys[there]
    had, have = _stated(stored, keys), _stated(frame, keys)
    findings: list[Finding] = []
    told = set()
    for c, currency in enumerate(CURRENCIES):
        before, now = (np.logical_or.reduce(each[:, c], axis=1) for each in (had, have))
        if half_gone(before, now):
            what = f"of the {before.sum():,} assets with a return in {currency} for {basis} have none"
            findings.append(_gone(keys[before & ~now], what, label))
            if currency == "local":
                break  # what cannot be stated there can be in no other currency
            continue
        for p, period in enumerate(PERIODS):
            before, now = had[:, c, p], have[:, c, p]
            if period not in told and half_gone(before, now):
                # Not an error: fund quotas come late, so that in the first days of a month many lack their mtd.
                told.add(period)
                what = f"of the {before.sum():,} assets with a {period} return in {currency} for {basis} have none"
                findings.append(_gone(keys[before & ~now], what, label, "warning"))
    return findings


def _stated(rows: pd.DataFrame, keys: pd.Index) -> BoolArray:
    """Whether there is a return: [n_keys, n_currencies, n_periods]."""
    stated = rows.loc[rows["Return"].notna(), _ROW]
    names = (keys, pd.Index(CURRENCIES), pd.Index(PERIODS))
    codes = [_positions(stated[column], index) for index, column in zip(names, _ROW, strict=True)]
    known = np.all([code >= 0 for code in codes], axis=0)
    found = np.zeros([len(index) for index in names], dtype=bool)
    found[tuple(code[known] for code in codes)] = True
    return found


def _positions(values: pd.Series, index: pd.Index) -> NDArray[np.int64]:
    """The position of each text in an index, −1 where it is not there; Arrow's hashing is ten times pandas' here."""
    found = pc.index_in(pa.array(values, pa.string()), value_set=pa.array(index, pa.string()))
    positions: NDArray[np.int64] = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return positions


def _gone(keys: pd.Index, what: str, label: str, severity: Literal["error", "warning"] = "error") -> Finding:
    return Finding(severity, _TABLE, label, what, len(keys), sample(sorted(keys)))


def _unmatched(lq: LuxorQuery, frame: pd.DataFrame, ref: date, label: str) -> list[Finding]:
    """Assets of which not one has any price, although the month has prices: their names do not match."""
    keys = frame["Key"].unique()
    if len(keys) < 2 or (~frame.loc[frame["Currency"] == "local", "Status"].isin(["unknown", "no_end"])).any():
        return []
    month = (ref.replace(day=1), ref)
    tables = [table.name for table in PRICE_TABLES if not table.fallback and lq.table_exists(table.name)]
    counts = {table: len(lq.get_table(table, columns="Date", where={"Date": month})) for table in tables}
    there = [f"{count:,} in {table}" for table, count in counts.items() if count]
    if not there:
        return []
    what = f"assets, which is all of them, have no price at all, though the month has prices ({', '.join(there)})"
    return [Finding("error", _TABLE, label, what, len(keys), sample(keys))]


def _was_empty(same: pd.DataFrame) -> bool:
    """Whether the month is stored already without a return, as somebody has forced it."""
    return not same.empty and bool(same["Return"].isna().all())


def _nothing(lq: LuxorQuery, frame: pd.DataFrame, ref: date, label: str) -> list[Finding]:
    """A month in which no asset has a return, though one had before, or all prices are too old: a feed has died."""
    if frame["Return"].notna().any():
        return []
    prices = asof(lq.market.prices.observations(frame["Price_Key"].dropna().unique(), [ref]), [ref])
    if prices.found.any() and (prices.stale | ~prices.found).all():
        why = f"all prices are too old, the last of {np.nanmax(prices.date[prices.found])}"
    else:
        before = _last_month_with_returns(lq, ref)
        if before is None:
            return []
        why = f"{before:%Y-%m} has returns"
    keys, what = frame["Key"].unique(), f"assets, all there are, have no return, though {why}"
    return [Finding("error", _TABLE, label, what, len(keys), sample(keys))]


def _last_month_with_returns(lq: LuxorQuery, ref: date) -> pd.Timestamp | None:
    """The last month stored before one that has a return."""
    try:
        where = {"Date": (None, ref.replace(day=1))}
        stored = lq.get_table(_TABLE, force_reload=True, columns=["Date", "Return"], where=where)
    except (TableNotFoundError, SchemaError, UsageError, CorruptFileError):
        return None
    last = stored.loc[stored["Return"].notna(), "Date"].max()
    return None if pd.isna(last) else last


def _contradictions(frame: pd.DataFrame, label: str) -> list[Finding]:
    """Returns that are not what their status and their prices say."""
    stated, status = frame["Return"].notna(), frame["Status"]
    priced = (frame["Base_Price"] > 0) & (frame["End_Price"] > 0)
    wrong = frame[(stated != status.isin(["ok", "carried"])) | (priced & status.isin(["no_end", "no_base", "no_fx"]))]
    if wrong.empty:
        return []
    what = "rows have a status that their prices and return deny"
    return [Finding("error", _TABLE, label, what, len(wrong), _rows(wrong, wrong["Status"]))]


def _bounds(frame: pd.DataFrame, stored: pd.DataFrame, label: str) -> list[Finding]:
    """Returns that cannot be, or hardly; but for those that are stored just so already."""
    limits = np.array([*PLAUSIBLE.values(), (np.nan, np.nan)])  # the last for a period that is none
    low, high = limits[pd.Index(PLAUSIBLE).get_indexer(pd.Index(frame["Period"]))].T
    value = frame["Return"]
    lost = frame["End_Price"] == 0  # a mark that was written off
    odd = frame[((value <= low) & ~lost) | (value < -1) | (value > high)]
    known = odd[_ROW].merge(stored.drop_duplicates(_ROW), on=_ROW, how="left")["Return"].to_numpy(dtype=float)
    odd = odd[~np.isclose(odd["Return"].to_numpy(dtype=float), known, rtol=_SAME, atol=0)]
    impossible = odd["Return"] <= -1
    kinds = (
        (odd[impossible], "returns are -100 % or less, though the end price is not 0"),
        (odd[~impossible], "returns are beyond what is plausible"),
    )
    return [
        Finding(
            "error",
            _TABLE,
            label,
            what,
            len(rows),
            _rows(rows, (100 * rows["Return"]).map("{:,.1f} %".format)),
        )
        for rows, what in kinds
        if len(rows)
    ]


def _rows(rows: pd.DataFrame, shown: pd.Series) -> str:
    return sample([" ".join(row) for row in zip(*(rows[name] for name in _ROW), shown, strict=True)])
