"""Prices as of a date: of every series at once, adjusted for amortizations, overridden by the caller.

The price as of a date d is that of the newest row dated d or before whose age, in calendar days, is within its own
limit (see `StalenessLimits`); a bad row makes it null.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luxor_pipelines.errors import SchemaError, UsageError, sample
from luxor_pipelines.lazy import pd
from luxor_pipelines.market.columns import check_frame
from luxor_pipelines.market.observations import (
    BoolArray,
    FloatArray,
    IntArray,
    Observations,
    StalenessLimits,
    sort_key,
)
from luxor_pipelines.market.periods import DateArray, DateLike, DatesLike, as_date, as_days
from luxor_pipelines.names import normal_name

__all__ = [
    "CARRIED_AFTER",
    "FALLBACK_LEAD",
    "AsOf",
    "adjust_quotas",
    "apply_overrides",
    "asof",
    "extend",
    "quota_basis",
]

CARRIED_AFTER = 45
"""Age in days beyond which a mark is reported as ``carried``."""

_NAT = np.datetime64("NaT", "D")


FALLBACK_LEAD = 5
"""Days by which a fallback's newest row must be newer than the other tables' for it to answer in their place."""


@dataclass(frozen=True, eq=False)
class AsOf:
    """Prices as of some dates: one row per series, one column per date.

    Attributes
    ----------
    as_of
        The dates of the as-of prices, [n_dates].
    price
        The price of the row that counts, NaN without a row; it is not valid if the row is stale or bad.
    date
        The row's date, NaT where there is none.
    stale
        Whether there are rows, but none within its age limit.
    mark
        Whether the row is a mark.
    bad
        Whether the row's price is bad.
    fallback
        Whether the row is of a fallback table.
    """

    as_of: DateArray
    price: FloatArray
    date: DateArray
    stale: BoolArray
    mark: BoolArray
    bad: BoolArray
    fallback: BoolArray

    @property
    def has_row(self) -> BoolArray:
        """Whether any row, stale or bad or not, is dated on or before the date."""
        return ~np.isnat(self.date)

    @property
    def within_limit(self) -> BoolArray:
        """Whether there is a row within its age limit, bad or not."""
        return self.has_row & ~self.stale

    @property
    def bad_price(self) -> BoolArray:
        """Whether the price is null because the row that counts is bad."""
        return self.bad & ~self.stale

    @property
    def valid(self) -> BoolArray:
        """Whether there is a price."""
        return self.within_limit & ~self.bad

    @property
    def carried(self) -> BoolArray:
        """Whether the price is a mark older than `CARRIED_AFTER` days."""
        return self.mark & (self.as_of - self.date > np.timedelta64(CARRIED_AFTER, "D"))

    def beside(self, other: AsOf) -> AsOf:
        """Return the prices of the same series as of these dates, and then those as of the other's."""
        cells = (np.hstack(pair) for pair in zip(self.cells, other.cells, strict=True))
        return AsOf(np.concatenate([self.as_of, other.as_of]), *cells)

    def take(self, rows: IntArray) -> AsOf:
        """Return the series at these positions, repeated where repeated."""
        return AsOf(self.as_of, *(values[rows] for values in self.cells))

    @property
    def cells(self) -> tuple[Any, Any, Any, Any, Any, Any]:
        """The arrays, each [n_series, n_dates]."""
        return self.price, self.date, self.stale, self.mark, self.bad, self.fallback


def asof(obs: Observations, dates: DatesLike) -> AsOf:
    """Return every series' price as of every one of ``dates`` (in any order).

    It is that of the newest row dated on or before the date that is within its own age limit; failing that, stale,
    that of the last observation of any age, or the last bad row; failing that nothing.

    For a series that a fallback has, two rows are looked up: the fallback's, and that of the other tables. The latter
    answers if it is within its limit and at most `FALLBACK_LEAD` days older than the fallback's; else the fallback's
    row if that is within its limit; else the newer of the two, stale. So one stray row does not switch a series off.

    Raises
    ------
    UsageError
        If a date is null.
    """
    as_of = np.atleast_1d(as_days(dates))
    if np.isnat(as_of).any():
        raise UsageError("A date to ask for is null", hint="Pass dates only.")
    prices = _asof(obs, np.arange(len(obs.keys)), as_of)
    if obs.fallback is None:
        return prices
    series = np.unique(obs.fallback.code).astype(np.int64)
    own, other = prices.take(series), _asof(obs.fallback, series, as_of)
    late = own.has_row & other.has_row & (other.date - own.date > np.timedelta64(FALLBACK_LEAD, "D"))
    own_answers = own.within_limit & ~late
    other_answers = ~own_answers & other.within_limit
    neither = ~own_answers & ~other_answers
    use_other = other_answers | (neither & other.has_row & ~(own.date >= other.date))
    for values, own_values, other_values in zip(prices.cells, own.cells, other.cells, strict=True):
        values[series] = np.where(use_other, other_values, own_values)
    prices.stale[series] |= neither & (own.has_row | other.has_row)
    prices.fallback[series] = use_other
    return prices


def _asof(obs: Observations, series: IntArray, as_of: DateArray) -> AsOf:
    """Return the rows of some series as of the dates, without those of the fallback."""
    shape = (len(series), len(as_of))
    code = np.repeat(series, shape[1])
    index, stale = obs.locate(code, np.tile(as_of.astype(np.int64), shape[0]))
    return AsOf(
        as_of=as_of,
        price=_take(obs.price, index, np.float64(np.nan)).reshape(shape),
        date=_take(obs.date, index, _NAT).reshape(shape),
        stale=stale.reshape(shape),
        mark=_take(obs.mark, index, np.bool_(False)).reshape(shape),
        bad=_take(obs.bad, index, np.bool_(False)).reshape(shape),
        fallback=np.zeros(shape, dtype=bool),
    )


def extend(
    obs: Observations, code: IntArray, date: DateArray, price: FloatArray, today: DateLike, *, limit: int
) -> tuple[Observations, DateArray]:
    """Return ``obs`` with the current prices that are newer than it, and the date of each series' new one.

    A current price counts if it is dated ``today`` or before and later than the series' newest row up to today, bad
    or not and in whatever table. It takes that row's age limit, and is a mark if that is one.

    Parameters
    ----------
    code, date, price
        Series, date and price of the current prices: at most one a series, sorted by series.
    limit
        The age limit, in days, of a series without a row.

    Returns
    -------
    obs
    newest
        For each series the date of the price added, NaT where none was.
    """
    day = np.datetime64(as_date(today), "D")
    newest = np.full(len(obs.keys), _NAT)
    row_date, limits, marks = own = _newest(obs, code, day, limit)
    if obs.fallback is not None:
        other = _newest(obs.fallback, code, day, limit)
        newer = np.isnat(row_date) | (other[0] > row_date)
        row_date, limits, marks = (np.where(newer, b, a) for a, b in zip(own, other, strict=True))
    counts = (date <= day) & ~(date <= row_date)
    code, date, price = code[counts], date[counts], price[counts]
    newest[code] = date
    at = np.searchsorted(obs.order, sort_key(code, date.astype(np.int64)))
    return obs.with_rows(at, code, date, price, limits[counts], marks[counts]), newest


def _newest(
    obs: Observations, code: IntArray, day: np.datetime64, limit: int
) -> tuple[DateArray, NDArray[np.int32], BoolArray]:
    """Return date, limit and mark of each series' newest row up to a day; NaT, ``limit`` and False without a row."""
    last = np.searchsorted(obs.order, sort_key(code, np.full(len(code), day.astype(np.int64))), side="right") - 1
    last = np.where(_take(obs.code, last, -1) == code, last, -1)
    return _take(obs.date, last, _NAT), _take(obs.limit, last, limit), _take(obs.mark, last, np.bool_(False))


def adjust_quotas(obs: Observations, events: pd.DataFrame, until: DateLike) -> Observations:
    """Return ``obs`` with fund quotas stated on the basis of the date ``until``.

    A fund that returns capital lowers its quota without cancelling units. With events e of ratio a_e
    (gross amount / net assets before) on d_e, an observation dated t becomes

        Q_adj(t) = Q(t) × Π (1 − a_e)  over  t < d_e <= until

    so that returns on the adjusted quotas are total returns, and a quota that no event follows is
    left as quoted. Funds that ``obs`` does not have are ignored.

    Parameters
    ----------
    events
        ``Fund``, ``Event_Date``, ``Ratio`` (fraction, 0 <= Ratio < 1), as in ``quota_adjustments``.

    Raises
    ------
    SchemaError
        If a column is missing, a cell is null or not a ratio, or a fund's date occurs twice.
    """
    codes, days, keep = _due(obs, events, until)
    # A fund's quotas before an event are one contiguous slice: the loop is over events, not rows.
    start = np.searchsorted(obs.code, codes)
    stop = np.searchsorted(obs.order, sort_key(codes, days.astype(np.int64)))
    price = obs.price.copy()
    for low, high, factor in zip(start, stop, keep, strict=True):
        price[low:high] *= factor
    fallback = None if obs.fallback is None else adjust_quotas(obs.fallback, events, until)
    return replace(obs, price=price, fallback=fallback)


def quota_basis(obs: Observations, events: pd.DataFrame, dates: DatesLike, until: DateLike) -> FloatArray:
    """Return the divisors that bring quotas on the basis of ``until`` to the basis of each of ``dates``.

    For the date d it is Π (1 − a_e) over d < d_e <= until, [n_series, n_dates]; see `adjust_quotas`.

    Raises
    ------
    SchemaError
        As `adjust_quotas`.
    """
    days = as_days(dates)
    basis = np.ones((len(obs.keys), len(days)))
    for code, event_day, factor in zip(*_due(obs, events, until), strict=True):
        basis[code, days < event_day] *= factor
    return basis


def _due(obs: Observations, events: pd.DataFrame, until: DateLike) -> tuple[IntArray, DateArray, FloatArray]:
    """Return the amortizations of the series up to a date: the series, the date, and the part that is kept, 1 − a."""
    names, days, ratios = _checked(events, "quota_adjustments", ("Fund", "Event_Date", "Ratio"))
    _refuse(
        "quota_adjustments",
        "Ratio",
        ratios[~((ratios >= 0) & (ratios < 1))],
        "not a fraction from 0 up to, without, 1",
        "A ratio is gross amount / net assets before: write 5 % as 0.05.",
    )
    codes = obs.codes(names)
    due = (codes >= 0) & (days <= np.datetime64(as_date(until), "D"))
    return codes[due], days[due], 1 - ratios[due]


def apply_overrides(obs: Observations, overrides: pd.DataFrame, *, limits: StalenessLimits) -> Observations:
    """Return ``obs`` with a caller's own prices in place of the stored ones.

    For each series named, all stored rows from its first to its last override date, both
    included, give way to the overrides; each of these carries up to the next one, however far. It
    otherwise keeps the age limit of the row it stands in for (the last one at or before its
    date, or the series' first; the traded limit if there is none). Series ``obs`` does not have are
    ignored.

    Parameters
    ----------
    overrides
        ``Date``, ``Asset``, ``Last_Price`` in the series' local currency.

    Raises
    ------
    SchemaError
        If a column is missing, a cell is null, a price not positive and finite, or a (Date, Asset)
        occurs twice.
    """
    names, days, prices = _checked(overrides, "price_overrides", ("Asset", "Date", "Last_Price"))
    _refuse(
        "price_overrides",
        "Last_Price",
        prices[~(np.isfinite(prices) & (prices > 0))],
        "not positive and finite",
        "Leave out the rows without a price.",
    )
    codes = obs.codes(names)
    sort = np.lexsort((days, codes))
    sort = sort[codes[sort] >= 0]
    code, day, price = codes[sort].astype(np.int32), days[sort], prices[sort]
    if obs.fallback is None:
        return _overridden(obs, code, day, price, limits)
    # A series is overridden on each side that has it; one that no table has, among the other tables' rows.
    in_own, in_fallback = (np.isin(code, side.code) for side in (obs, obs.fallback))
    own, other = in_own | ~in_fallback, in_fallback
    fallback = _overridden(obs.fallback, code[other], day[other], price[other], limits)
    return replace(_overridden(obs, code[own], day[own], price[own], limits), fallback=fallback)


def _overridden(
    obs: Observations, code: NDArray[np.int32], day: DateArray, price: FloatArray, limits: StalenessLimits
) -> Observations:
    """Return ``obs`` with these prices, which are sorted by series and day, in place of its rows."""
    if not len(code):
        return obs
    ends = np.append(code[1:] != code[:-1], True)
    starts = np.append(True, ends[:-1])
    order = sort_key(code, day.astype(np.int64))
    inside = np.zeros(len(obs) + 1, dtype=np.int64)
    np.add.at(inside, np.searchsorted(obs.order, order[starts], side="left"), 1)
    np.add.at(inside, np.searchsorted(obs.order, order[ends], side="right"), -1)
    stays = np.cumsum(inside[:-1]) == 0

    limit = np.full(len(code), limits.days("traded"))
    mark = np.zeros(len(code), dtype=bool)
    last = np.searchsorted(obs.order, order, side="right") - 1
    for candidate in (last + 1, last):  # the series' first row, unless there is an earlier one
        at = np.flatnonzero((candidate >= 0) & (candidate < len(obs)))
        at = at[obs.code[candidate[at]] == code[at]]
        limit[at], mark[at] = obs.limit[candidate[at]], obs.mark[candidate[at]]
    to_next = np.append(np.diff(day.astype(np.int64)), 0)
    limit = np.maximum(limit, np.where(ends, 0, to_next))
    return Observations.from_rows(
        obs.keys,
        np.concatenate([obs.code[stays], code]),
        np.concatenate([obs.date[stays], day]),
        np.concatenate([obs.price[stays], price]),
        np.concatenate([obs.limit[stays], limit]),
        np.concatenate([obs.mark[stays], mark]),
    )


def _take(values: NDArray[Any], index: IntArray, missing: object) -> NDArray[Any]:
    """Return ``values[index]``, with ``missing`` where the index is -1."""
    return np.append(values, np.array([missing], dtype=values.dtype))[index]


def _checked(
    frame: pd.DataFrame, table: str, columns: tuple[str, str, str]
) -> tuple[NDArray[np.object_], DateArray, FloatArray]:
    """Return the (name, date, number) columns of a small hand-kept table, or refuse it with the fault."""
    check_frame(frame, table)
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise SchemaError(
            f"{table}: missing {sample(missing)}; it has {sample(frame.columns, 10)}",
            hint=f"The columns are {', '.join(columns)}.",
        )
    for column in columns:
        empty = frame.index[frame[column].isna()]
        _refuse(table, column, empty, "null, at rows", "Fill them in or leave the rows out.")
    name, date, number = (frame[column] for column in columns)
    names = np.array([normal_name(cell) for cell in name.astype(str)], dtype=object)
    numbers = pd.to_numeric(number, errors="coerce")
    _refuse(
        table,
        columns[2],
        number[numbers.isna()],
        "not a number",
        "Write it with a decimal point and without a unit.",
    )
    days = as_days(date)
    again = pd.DataFrame({"name": names, "day": days.astype("datetime64[us]")}).duplicated()
    twice = [f"{name} {day}" for name, day in zip(names[again], days[again], strict=True)]
    _refuse(table, f"({columns[0]}, {columns[1]})", twice, "repeated", "Keep one row for each.")
    return names, days, numbers.to_numpy(dtype=np.float64)


def _refuse(table: str, column: str, bad_values: Collection[Any] | NDArray[Any], fault: str, hint: str) -> None:
    if len(bad_values):
        cells = [value.item() if isinstance(value, np.generic) else value for value in bad_values]
        raise SchemaError(f"{table}: {column}: {len(cells)} {fault}: {sample(cells)}", hint=hint)
