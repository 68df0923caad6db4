"""Prices day by day, of many series at once, each with a status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luxor_pipelines.errors import UsageError
from luxor_pipelines.market.columns import text_column
from luxor_pipelines.market.observations import BoolArray, FloatArray, Observations
from luxor_pipelines.market.periods import DateArray, DateLike, as_date
from luxor_pipelines.market.prices import CARRIED_AFTER, asof

__all__ = ["PRICE_STATUSES", "PriceRows", "daily_prices", "observed_prices", "sampled_prices"]

PRICE_STATUSES = (
    "ok",
    "carried",  # a mark older than 45 days
    "intraday",  # a current price, newer than the history
    "bad_price",  # the row that counts is no price
    "stale",  # the last row is too old
    "no_fx",  # no exchange rate on the day
    "missing_currency",  # a conversion is asked for, and the series has no known currency
    "no_price",  # nothing in the range asked for
    "unknown",  # no row on any date in any table
)
"""The statuses of a price on a day. The first three come with a price."""


@dataclass(frozen=True, eq=False)
class PriceRows:
    """Prices of series on days, one row each, sorted by series, then date.

    Attributes
    ----------
    keys
        Names of the series; ``code`` points into it.
    code, date, price
        Series, day and price of each row; NaN where there is none.
    price_date
        The date of the observation, NaT where there is none.
    status
        Position in `PRICE_STATUSES`.
    absent
        The series that have no row here, each with its status.
    """

    keys: NDArray[np.object_]
    code: NDArray[np.int32]
    date: DateArray
    price: FloatArray
    price_date: DateArray
    status: NDArray[np.int8]
    absent: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.code)

    def where(self, kept: BoolArray) -> PriceRows:
        """Return the rows that ``kept`` marks."""
        return _by_column(lambda values: values[kept], self)

    def marked(self, rows: BoolArray, status: str) -> PriceRows:
        """Return these prices with another status on some rows."""
        return replace(self, status=np.where(rows, np.int8(PRICE_STATUSES.index(status)), self.status))

    def without_price(self) -> dict[str, str]:
        """Return the series that have no price on any day, with the status of their last row."""
        first = np.flatnonzero(np.diff(self.code, prepend=-1))
        last = np.append(first[1:], len(self))[: len(first)] - 1
        unpriced = last[~np.logical_or.reduceat(np.isfinite(self.price), first)] if len(first) else first
        statuses = {str(self.keys[self.code[row]]): PRICE_STATUSES[self.status[row]] for row in unpriced}
        return dict(sorted((statuses | dict(self.absent)).items()))

    def with_absent(self, day: DateLike) -> PriceRows:
        """Return these prices and, for each series that is absent, a row without a price on ``day``."""
        if not self.absent:
            return self
        codes = np.flatnonzero(np.isin(self.keys, list(self.absent))).astype(np.int32)
        at = np.searchsorted(self.code, codes)
        status = [PRICE_STATUSES.index(self.absent[self.keys[code]]) for code in codes]
        return PriceRows(
            self.keys,
            np.insert(self.code, at, codes),
            np.insert(self.date, at, np.datetime64(as_date(day), "D")),
            np.insert(self.price, at, np.nan),
            np.insert(self.price_date, at, np.datetime64("NaT", "D")),
            np.insert(self.status, at, status),
        )

    def to_wide(self) -> pd.DataFrame:
        """Return the prices with a row for each date that has one and a column for each series."""
        first = self.date.min() if len(self) else np.datetime64(0, "D")
        day = (self.date - first).astype(np.int64)
        present = np.zeros(int(day.max(initial=-1)) + 1, dtype=bool)
        present[day] = True
        values = np.full((len(self.keys), int(present.sum())), np.nan)
        values[self.code, (np.cumsum(present) - 1)[day]] = self.price
        dates = (first + np.flatnonzero(present)).astype("datetime64[us]")
        return pd.DataFrame(values.T, index=pd.DatetimeIndex(dates, name="Date"), columns=self.keys, copy=False)

    def to_frame(self, *, with_status: bool = True) -> pd.DataFrame:
        """Return the columns ``Date``, ``Asset``, ``Last_Price``, and with status ``Price_Date``, ``Status``."""
        columns = {
            "Date": self.date.astype("datetime64[us]"),
            "Asset": text_column(self.keys, self.code),
            "Last_Price": self.price,
        }
        if with_status:
            columns["Price_Date"] = self.price_date.astype("datetime64[us]")
            columns["Status"] = text_column(PRICE_STATUSES, self.status)
        return pd.DataFrame(columns, copy=False)


def daily_prices(obs: Observations, start: DateLike, end: DateLike) -> PriceRows:
    """Return one row per series and calendar day, as of each day.

    A series' rows run from ``start``, or its first row if that is later, to ``end``. Prices are in local currency.
    The status is ``ok``, or ``carried`` for a mark older than `CARRIED_AFTER` days; with a null price it is ``stale``
    or ``bad_price``.

    Raises
    ------
    UsageError
        If ``end`` is before ``start``.
    """
    begin, stop = _bounds(start, end)
    obs = _by_name(obs)
    since = obs.day
    # Each row is its series' last one from its own day until the day before the next row.
    until = np.where(np.diff(obs.code, append=-1) == 0, np.roll(since, -1) - 1, stop)
    since, until = np.maximum(since, begin), np.minimum(until, stop)
    length = np.maximum(until - since + 1, 0)
    last = np.repeat(np.arange(len(obs)), length)
    day = np.arange(len(last)) + np.repeat(since - (np.cumsum(length) - length), length)
    code = obs.code[last]

    index, stale = obs.settle(last, code, day)
    price, price_date = obs.price[index], obs.date[index]
    old = bad = np.zeros(len(index), dtype=bool)
    if obs.mark.any():
        old = obs.mark[index] & (day - price_date.view(np.int64) > CARRIED_AFTER)
    if obs.bad.any():
        bad = obs.bad[index]
    rows = _rows(obs.keys, code, day.view("datetime64[D]"), price, price_date, old, bad, stale)
    return rows if obs.fallback is None else _with_fallback(rows, obs, begin, stop)


def observed_prices(obs: Observations, start: DateLike, end: DateLike) -> PriceRows:
    """Return the days from ``start`` to ``end``, both included, on which a series has a row that counts.

    Raises
    ------
    UsageError
        If ``end`` is before ``start``.
    """
    begin, stop = _bounds(start, end)
    obs = _by_name(obs)
    kept = (obs.day >= begin) & (obs.day <= stop)
    date, no_row = obs.date[kept], np.zeros(np.count_nonzero(kept), dtype=bool)
    rows = _rows(obs.keys, obs.code[kept], date, obs.price[kept], date, no_row, obs.bad[kept], no_row)
    if obs.fallback is None:
        return rows
    rows = _with_fallback(rows, obs, begin, stop)
    return rows.where(rows.date == rows.price_date)


def _rows(
    keys: NDArray[np.object_],
    code: NDArray[np.int32],
    date: DateArray,
    price: FloatArray,
    price_date: DateArray,
    carried: BoolArray,
    bad: BoolArray,
    stale: BoolArray,
) -> PriceRows:
    status = np.zeros(len(code), dtype=np.int8)
    for rows, word in ((carried, "carried"), (bad, "bad_price"), (stale, "stale")):
        status[rows] = PRICE_STATUSES.index(word)
    return PriceRows(keys, code, date, np.where(bad | stale, np.nan, price), price_date, status)


def _with_fallback(rows: PriceRows, obs: Observations, begin: int, stop: int) -> PriceRows:
    """Return ``rows`` with a row as of each day, from all tables, for the series that a fallback has."""
    assert obs.fallback is not None
    series = np.unique(obs.fallback.code)
    prices = asof(obs.only(obs.keys[series]), np.arange(begin, stop + 1).view("datetime64[D]"))
    at, column = np.nonzero(prices.has_row)
    cells = (at, column)
    others = rows.where(~np.isin(rows.code, series))
    replacing = _rows(
        rows.keys,
        series[at].astype(np.int32),
        prices.as_of[column],
        prices.price[cells],
        prices.date[cells],
        prices.carried[cells],
        prices.bad[cells],
        prices.stale[cells],
    )
    order = np.argsort(np.concatenate([others.code, replacing.code]), kind="stable")
    return _by_column(lambda *values: np.concatenate(values)[order], others, replacing)


def sampled_prices(obs: Observations, start: DateLike, end: DateLike) -> PriceRows:
    """Return the price as of ``start``, on that date, and the observations after it up to ``end``.

    A series that has no price as of ``start`` has only the observations.

    Raises
    ------
    UsageError
        If ``end`` is before ``start``.
    """
    begin, stop = _bounds(start, end)
    obs = _by_name(obs)
    first = asof(obs, [start])
    series = np.flatnonzero(first.valid[:, 0])
    cells = (series, np.zeros_like(series))
    later = observed_prices(obs, as_date(np.datetime64(min(begin + 1, stop), "D")), end)
    if begin == stop:
        later = later.where(np.zeros(len(later), dtype=bool))
    no_series = np.zeros(len(series), dtype=bool)
    base = _rows(
        obs.keys,
        series.astype(np.int32),
        np.full(len(series), begin).view("datetime64[D]"),
        first.price[cells],
        first.date[cells],
        first.carried[cells],
        no_series,
        no_series,
    )
    at = np.searchsorted(later.code, base.code)
    return _by_column(lambda values, new: np.insert(values, at, new), later, base)


def _by_column(change: Callable[..., NDArray[Any]], rows: PriceRows, *others: PriceRows) -> PriceRows:
    """Return rows whose columns are what ``change`` makes of each column of ``rows``, and of the others beside it."""
    names = ("code", "date", "price", "price_date", "status")
    columns: dict[str, Any] = {name: change(*(getattr(part, name) for part in (rows, *others))) for name in names}
    return replace(rows, **columns)


def _bounds(start: DateLike, end: DateLike) -> tuple[int, int]:
    first, last = as_date(start), as_date(end)
    if last < first:
        raise UsageError(f"The end {last} is before the start {first}", hint="Swap the dates.")
    begin, stop = (int(np.datetime64(day, "D").astype(np.int64)) for day in (first, last))
    return begin, stop


def _by_name(obs: Observations) -> Observations:
    """Return the same observations with the series in the order of their names."""
    order = np.argsort(obs.keys, kind="stable")
    if (np.diff(order) == 1).all():
        return obs
    rank = np.argsort(order).astype(np.int32)
    named = Observations.from_rows(obs.keys[order], rank[obs.code], obs.date, obs.price, obs.limit, obs.mark)
    return named if obs.fallback is None else replace(named, fallback=_by_name(obs.fallback))
