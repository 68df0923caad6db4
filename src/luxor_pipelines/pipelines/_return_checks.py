"""Checks of a month's returns before they are written, against the stored ones and what is plausible."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luxor_pipelines.catalog import CURRENCIES, HIST_RETURNS, IMPORTED, PERIODS, PRICE_TABLES
from luxor_pipelines.errors import CorruptFileError, SchemaError, TableNotFoundError, UsageError, sample
from luxor_pipelines.lake.parquet.predicates import conditions
from luxor_pipelines.lake.table.layout import Snapshot, near
from luxor_pipelines.lake.table.load import check_declared
from luxor_pipelines.lake.types.schema import with_codes
from luxor_pipelines.lazy import pd
from luxor_pipelines.market.observations import FloatArray
from luxor_pipelines.market.periods import add_months
from luxor_pipelines.market.prices import asof
from luxor_pipelines.quality.gate import Finding, half_gone

if TYPE_CHECKING:
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = ["PLAUSIBLE", "MonthReturns", "WrittenMonth", "check_returns"]


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
_STATED = ("ok", "carried")
_UNPRICED = ("no_end", "no_base", "no_fx")
_SAME = 1e-9


class MonthReturns(NamedTuple):
    """Rows of one month, and their returns by key, currency and period.

    Attributes
    ----------
    keys
        The keys that occur in the rows.
    returns
        [n_keys, n_currencies, n_periods]; NaN where there is no return.
    """

    rows: pa.Table
    keys: pa.Array
    returns: FloatArray

    @classmethod
    def of(cls, rows: pa.Table) -> MonthReturns:
        """Take the returns from rows with the columns ``Key``, ``Currency``, ``Period`` and ``Return``."""
        codes, words = with_codes(rows["Key"])
        keys = words.filter(pa.array(np.bincount(codes + 1, minlength=len(words) + 1)[1:] > 0))
        returns = np.full((len(keys), len(CURRENCIES), len(PERIODS)), np.nan)
        cells = _cells(rows, keys)
        is_known = cells >= 0
        returns.reshape(-1)[cells[is_known]] = _numbers(rows, "Return")[is_known]
        return cls(rows, keys, returns)

    def at(self, rows: pa.Table) -> FloatArray:
        """Return the return of each row's key, currency and period; NaN where there is none."""
        cells = _cells(rows, self.keys)
        return np.where(cells >= 0, np.append(self.returns, np.nan)[cells], np.nan)


class WrittenMonth(NamedTuple):
    """The returns of a month that were loaded, and the version of the file that holds them: it need not be read."""

    ref: date
    version: str | None
    month: MonthReturns


def check_returns(
    lq: LuxorQuery, month: MonthReturns, ref: date, written: Iterable[WrittenMonth] = ()
) -> list[Finding]:
    """Find what is odd about the returns of the month that ends on ``ref``.

    They are held against those of the same month that are stored already, which somebody may have
    forced, else against those of the calendar month before; where neither is stored there is nothing
    to hold them against.

    Parameters
    ----------
    written
        Months that were loaded just now.
    """
    rows, label = month.rows, f"{ref:%Y-%m}"
    findings = [*_contradictions(rows, label)]
    same = nothing = MonthReturns(
        rows.slice(0, 0), pa.array([], pa.string()), np.empty((0, len(CURRENCIES), len(PERIODS)))
    )
    try:
        stored, basis = _stored(lq, ref, written) or (nothing, ref)
        same = stored if basis == ref else nothing
        findings += _coverage(month, stored, label, basis)
    except CorruptFileError as error:
        what = "stored month, which these returns should be compared with, cannot be read"
        findings.append(Finding("warning", _TABLE, label, what, 1, error.message))
    if np.isnan(month.returns).all():
        if not len(same.rows):
            findings += _unmatched(lq, rows, ref, label)
        was_empty = len(same.rows) and np.isnan(same.returns).all()  # stored with force
        if not any(finding.severity == "error" for finding in findings) and not was_empty:
            findings += _nothing(lq, rows, ref, label)
    return [*findings, *_bounds(rows, same, label)]


def _stored(lq: LuxorQuery, ref: date, written: Iterable[WrittenMonth]) -> tuple[MonthReturns, date] | None:
    """Return the returns stored for a month or else for the month before, and which of the two it is.

    None where neither is stored, or in a table that the load will refuse. Returns that were taken from the old library
    are left out: they are of parts of periods, too.
    """
    table, before = lq.lake.table(_TABLE), add_months(ref, -1)
    with suppress(TableNotFoundError, SchemaError):
        snapshot, _ = table.find_near(_midnight(ref))
        for day in (ref, before):
            part = None if snapshot is None else snapshot.part(near(snapshot.layout, _midnight(day))[0])
            if snapshot is None or part is None:
                continue
            place = Snapshot(snapshot.layout, (part,))
            for loaded in written:
                if (loaded.ref, loaded.version) == (day, place.version):
                    return loaded.month, day
            schema = table.codec(place).schema
            check_declared(HIST_RETURNS.arrow(), schema, _TABLE)
            where = conditions(schema, _TABLE, {"Date": day, "Status": ("!=", IMPORTED)})
            rows = table.scan([*_ROW, "Return"], where, snapshot=place, dictionary=_ROW).data
            if len(rows):
                return MonthReturns.of(rows), day
            snapshot, _ = table.find_near(_midnight(before))  # only the month's own partition was looked at
    return None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min)


def _cells(rows: pa.Table, keys: pa.Array) -> NDArray[np.int64]:
    """Return the place of each row in `MonthReturns.returns`, flattened; −1 for a row that has none."""
    key = _positions(rows["Key"], keys)
    currency = _positions(rows["Currency"], CURRENCIES)
    period = _positions(rows["Period"], PERIODS)
    is_known = (key >= 0) & (currency >= 0) & (period >= 0)
    return np.where(is_known, (key * len(CURRENCIES) + currency) * len(PERIODS) + period, -1)


def _positions(column: pa.ChunkedArray, names: Iterable[str] | pa.Array) -> NDArray[np.int64]:
    """Return the position of each text among ``names``, −1 for a text that is not among them."""
    codes, words = with_codes(column)
    # The last is where a null's code points.
    positions: NDArray[np.int64] = np.append(_positions_in(names, words), -1)[codes]
    return positions


def _positions_in(names: Iterable[str] | pa.Array, words: pa.Array) -> NDArray[np.int64]:
    """Return the position of each of ``words`` among ``names``, −1 for one that is not among them."""
    among = names if isinstance(names, pa.Array) else pa.array(list(names), words.type)
    positions: NDArray[np.int64] = pc.fill_null(pc.index_in(words, among), -1).to_numpy().astype(np.int64)
    return positions


def _numbers(rows: pa.Table, column: str) -> FloatArray:
    """Return a column of numbers, NaN for a null."""
    numbers: FloatArray = rows[column].to_numpy()
    return numbers


def _coverage(now: MonthReturns, before: MonthReturns, label: str, basis: date) -> list[Finding]:
    """Find half or more of the assets gone, or half or more of the returns that could be stated before."""
    keys, at = before.keys.to_numpy(zero_copy_only=False), _positions_in(now.keys, before.keys)
    if half_gone(before=np.ones(len(keys), dtype=bool), now=at >= 0):
        return [_gone(keys[at < 0], f"of the {len(keys):,} assets stored for {basis} are missing", label)]
    keys = keys[at >= 0]
    had, have = ~np.isnan(before.returns[at >= 0]), ~np.isnan(now.returns[at[at >= 0]])
    findings: list[Finding] = []
    reported = set()
    for c, currency in enumerate(CURRENCIES):
        in_any, in_any_now = (np.logical_or.reduce(stated[:, c], axis=1) for stated in (had, have))
        if half_gone(in_any, in_any_now):
            what = f"of the {in_any.sum():,} assets with a return in {currency} for {basis} have none"
            findings.append(_gone(keys[in_any & ~in_any_now], what, label))
            if currency == "local":
                break  # what cannot be stated there can be in no other currency
            continue
        for p, period in enumerate(PERIODS):
            stated, still = had[:, c, p], have[:, c, p]
            if period not in reported and half_gone(stated, still):
                # Not an error: fund quotas come late, so that in the first days of a month many lack their mtd.
                reported.add(period)
                what = f"of the {stated.sum():,} assets with a {period} return in {currency} for {basis} have none"
                findings.append(_gone(keys[stated & ~still], what, label, "warning"))
    return findings


def _gone(keys: NDArray[np.object_], what: str, label: str, severity: Literal["error", "warning"] = "error") -> Finding:
    return Finding(severity, _TABLE, label, what, len(keys), sample(sorted(keys)))


def _unmatched(lq: LuxorQuery, rows: pa.Table, ref: date, label: str) -> list[Finding]:
    """Find that no asset has a price, although the month has prices: their names do not match."""
    keys = rows["Key"].unique().to_pylist()
    is_local, is_unpriced = (
        _positions(rows[column], names) >= 0
        for column, names in (("Currency", ("local",)), ("Status", ("unknown", "no_end")))
    )
    if len(keys) < 2 or (is_local & ~is_unpriced).any():
        return []
    month = (ref.replace(day=1), ref)
    tables = [table.name for table in PRICE_TABLES if not table.fallback and lq.table_exists(table.name)]
    counts = {table: len(lq.get_table(table, columns="Date", where={"Date": month})) for table in tables}
    counted = [f"{count:,} in {table}" for table, count in counts.items() if count]
    if not counted:
        return []
    what = f"assets, which is all of them, have no price at all, though the month has prices ({', '.join(counted)})"
    return [Finding("error", _TABLE, label, what, len(keys), sample(keys))]


def _nothing(lq: LuxorQuery, rows: pa.Table, ref: date, label: str) -> list[Finding]:
    """Find that no asset has a return, though one had before, or that all prices are too old: a feed has died."""
    prices = asof(lq.market.prices.observations(rows["Price_Key"].unique().drop_null().to_pylist(), [ref]), [ref])
    if prices.has_row.any() and (prices.stale | ~prices.has_row).all():
        why = f"all prices are too old, the last of {np.nanmax(prices.date[prices.has_row])}"
    else:
        before = _last_month_with_returns(lq, ref)
        if before is None:
            return []
        why = f"{before:%Y-%m} has returns"
    keys, what = rows["Key"].unique().to_pylist(), f"assets, all there are, have no return, though {why}"
    return [Finding("error", _TABLE, label, what, len(keys), sample(keys))]


def _last_month_with_returns(lq: LuxorQuery, ref: date) -> pd.Timestamp | None:
    """Return the last stored month before ``ref`` that has a return."""
    try:
        where = {"Date": (None, ref.replace(day=1))}
        stored = lq.get_table(_TABLE, force_reload=True, columns=["Date", "Return"], where=where)
    except (TableNotFoundError, SchemaError, UsageError, CorruptFileError):
        return None
    last = stored.loc[stored["Return"].notna(), "Date"].max()
    return None if pd.isna(last) else last


def _contradictions(rows: pa.Table, label: str) -> list[Finding]:
    """Find returns that contradict their status or their prices."""
    value, base, end = (_numbers(rows, name) for name in ("Return", "Base_Price", "End_Price"))
    has_return, denies_price = (_positions(rows["Status"], names) >= 0 for names in (_STATED, _UNPRICED))
    odd = (np.isnan(value) == has_return) | ((base > 0) & (end > 0) & denies_price)
    if not odd.any():
        return []
    wrong = rows.filter(pa.array(odd))
    what = "rows have a status that their prices and return deny"
    return [Finding("error", _TABLE, label, what, len(wrong), _sample(wrong, wrong["Status"].to_pylist()))]


def _bounds(rows: pa.Table, stored: MonthReturns, label: str) -> list[Finding]:
    """Find returns that are impossible or hardly possible, other than those that are stored already."""
    limits = np.array([*PLAUSIBLE.values(), (np.nan, np.nan)])  # the last for a period that is none
    low, high = limits[_positions(rows["Period"], PLAUSIBLE)].T
    value = _numbers(rows, "Return")
    lost = _numbers(rows, "End_Price") == 0  # a mark that was written off
    beyond = ((value <= low) & ~lost) | (value < -1) | (value > high)
    if not beyond.any():
        return []
    odd = rows.filter(pa.array(beyond))
    odd = odd.filter(pa.array(~np.isclose(_numbers(odd, "Return"), stored.at(odd), rtol=_SAME, atol=0)))
    is_impossible = _numbers(odd, "Return") <= -1
    kinds = (
        (odd.filter(pa.array(is_impossible)), "returns are -100 % or less, though the end price is not 0"),
        (odd.filter(pa.array(~is_impossible)), "returns are beyond what is plausible"),
    )
    return [
        Finding("error", _TABLE, label, what, len(of_kind), _sample(of_kind, _percent(of_kind)))
        for of_kind, what in kinds
        if len(of_kind)
    ]


def _percent(rows: pa.Table) -> list[str]:
    return [f"{100 * value:,.1f} %" for value in _numbers(rows, "Return")]


def _sample(rows: pa.Table, shown: Iterable[str]) -> str:
    return sample([" ".join(row) for row in zip(*(rows[name].to_pylist() for name in _ROW), shown, strict=True)])
