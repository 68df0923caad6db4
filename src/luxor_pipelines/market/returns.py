"""Returns over periods, each with a status that says whether, and why not, it can be stated.

    Return = End_Price / Base_Price − 1

a fraction, cumulative, both prices converted with the rates as of the reference and the base date.
A missing part gives a null and a status: never 0, never a part of the period for the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from luxor_pipelines.errors import UsageError
from luxor_pipelines.lazy import pd
from luxor_pipelines.market.columns import Texts, coded_column, text_column
from luxor_pipelines.market.currency import as_currency, factors
from luxor_pipelines.market.observations import BoolArray, FloatArray, IntArray
from luxor_pipelines.market.periods import DateArray, DateLike, as_date
from luxor_pipelines.market.prices import AsOf

__all__ = ["COLUMNS", "STATUSES", "Returns", "returns", "returns_columns", "returns_frame"]

STATUSES = (
    "unknown",  # no row on any date in any table
    "missing_currency",  # a conversion is asked for, and the series has no known currency
    "no_end",  # no row on or before the reference date
    "bad_price",  # the row that counts, at the reference or the base date, is no price
    "stale_end",  # the end row is too old, or not newer than the base date
    "no_base",  # no row on or before the base date, or a mark of 0, which no return starts from
    "stale_base",  # the base row is too old
    "no_fx",  # no exchange rate at the base or the reference date
    "carried",  # a return, from a mark older than 45 days, or between two dates of one mark
    "ok",
)
"""The statuses of a return, in the order in which they apply. The last two come with a return."""

COLUMNS = (
    *("Currency", "Price_Key", "Period", "Return", "Status"),
    *("Base_Date", "End_Date", "Base_Price", "End_Price"),
)
"""The columns of a frame of returns."""

_NO_TEXTS: Mapping[str, Texts] = MappingProxyType({})
_NO_RATES: Mapping[str, FloatArray] = MappingProxyType({})
_ROUNDING = 4 * np.finfo(np.float64).eps
"""A converted return below this is what rounding leaves of none, as of BRL in BRL by a rate and its inverse."""
_RANK = {status: np.int8(position) for position, status in enumerate(STATUSES)}


@dataclass(frozen=True, eq=False)
class Returns:
    """Returns of series, each array [n_series, n_returns].

    Prices and dates are filled in where they are known, even if ``value`` is null.

    Attributes
    ----------
    value
        The return, a fraction; NaN unless the status is ``ok`` or ``carried``.
    code
        Its status, as a position in `STATUSES`.
    prices
        The series' prices, in the destination currency, as of all the dates.
    end, base
        For each return the columns of ``prices`` that are its reference and its base date, [n_returns].
    basis
        The divisors that bring prices to the basis of each date, [n_series, n_dates]; None: all are 1.
    """

    value: FloatArray
    code: NDArray[np.int8]
    prices: AsOf
    end: IntArray
    base: IntArray
    basis: FloatArray | None = None

    @property
    def status(self) -> NDArray[np.object_]:
        """One of `STATUSES` for each."""
        return np.array(STATUSES, dtype=object)[self.code]

    @property
    def base_date(self) -> DateArray:
        """The base observations' dates, NaT where there is none."""
        return self.prices.date[:, self.base]

    @property
    def end_date(self) -> DateArray:
        """The end observations' dates, NaT where there is none."""
        return self.prices.date[:, self.end]

    @property
    def base_price(self) -> FloatArray:
        """The base prices in the destination currency, NaN where unknown."""
        return self._on_basis(self.base)

    @property
    def end_price(self) -> FloatArray:
        """The end prices in the destination currency, NaN where unknown."""
        return self._on_basis(self.end)

    def _on_basis(self, columns: IntArray) -> FloatArray:
        price = self.prices.price[:, columns]
        return price if self.basis is None else price / self.basis[:, self.end]

    def select(self, columns: slice) -> Returns:
        """Return some of the returns of each series, such as those up to one reference date."""
        return replace(
            self,
            value=self.value[:, columns],
            code=self.code[:, columns],
            end=np.asarray(self.end)[columns],
            base=np.asarray(self.base)[columns],
        )

    def take(self, rows: ArrayLike) -> Returns:
        """Return the rows at these positions, repeated where repeated: from series to their assets.

        Raises
        ------
        UsageError
            If a position is negative or beyond the last row.
        """
        at = np.asarray(rows, dtype=np.int64)
        if len(at) and not 0 <= at.min() <= at.max() < len(self.value):
            raise UsageError(
                f"Rows {at.min()} to {at.max()} of {len(self.value)} series", hint="Look unknown series up first."
            )
        basis = None if self.basis is None else self.basis[at]
        return replace(self, value=self.value[at], code=self.code[at], prices=self.prices.take(at), basis=basis)


def returns_frame(
    by_currency: Mapping[str, Returns],
    keys: Texts,
    periods: Sequence[str],
    *,
    columns: Sequence[str] = COLUMNS,
) -> pd.DataFrame:
    """Return one row per currency, series and period, in that order; parameters and errors as of `returns_columns`."""
    return pd.DataFrame(returns_columns(by_currency, keys, periods, columns=columns), copy=False)


def returns_columns(
    by_currency: Mapping[str, Returns],
    keys: Texts,
    periods: Sequence[str],
    *,
    columns: Sequence[str] = COLUMNS,
    texts: Mapping[str, Texts] = _NO_TEXTS,
    date: DateLike | None = None,
    categories: bool = False,
) -> dict[str, Any]:
    """Return arrays with one element per currency, series and period, in that order.

    Parameters
    ----------
    by_currency
        The returns in each currency, of the same series and periods.
    keys, periods
        The names of the series, which are the column ``Price_Key``, and of the periods.
    columns
        The columns wanted, in this order: any of `COLUMNS`, ``Date`` and those of ``texts``.
    texts
        Columns that have one text for each series, None where it has none.
    date
        The date in the column ``Date``.
    categories
        Whether columns of text are categoricals, which are quicker to make and to compare.

    Raises
    ------
    UsageError
        If there are other numbers of names than of series and periods.
    """
    shape = len(keys), len(periods)
    for in_currency in by_currency.values():
        if in_currency.value.shape != shape:
            raise UsageError(
                f"{shape[0]} keys and {shape[1]} periods for {' × '.join(map(str, in_currency.value.shape))} returns",
                hint="Pass the names the returns were computed for.",
            )
    texts = {"Price_Key": keys, **texts}
    as_text = coded_column if categories else text_column
    currency, series, period = (code.ravel() for code in np.indices((len(by_currency), *shape), dtype=np.int32))

    def values(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(in_currency, name).ravel() for in_currency in by_currency.values()])

    def column(name: str) -> Any:
        if name in texts:
            return as_text(texts[name], series)
        match name:
            case "Currency":
                return as_text(list(by_currency), currency)
            case "Period":
                return as_text(periods, period)
            case "Status":
                return as_text(STATUSES, values("code"))
            case "Date":
                return np.full(len(series), np.datetime64(as_date(date), "us"))
            case "Return":
                return values("value")
            case "Base_Date" | "End_Date":
                return values(name.lower()).astype("datetime64[us]")
            case _:
                return values(name.lower())

    return {name: column(name) for name in columns}


def returns(
    prices: AsOf,
    end: ArrayLike,
    base: ArrayLike,
    *,
    currencies: NDArray[np.object_] | None = None,
    dest: str = "local",
    rates: Mapping[str, FloatArray] = _NO_RATES,
    basis: FloatArray | None = None,
    absent: BoolArray | None = None,
) -> Returns:
    """Return the returns of series between pairs of dates, many pairs at once.

    If base and end are one mark, the local return is 0, in another currency the change of the rate. Any other end row
    that is not dated after the base date gives no return.

    Parameters
    ----------
    prices
        Prices as of all the dates, amortization-adjusted where that is wanted.
    end, base
        For each return, the columns of ``prices`` that are its reference and its base date, [n_returns].
    currencies
        Each series' currency, None where unknown; not needed for ``local``.
    dest
        The currency to state prices and returns in, or ``local``.
    rates
        Units of each currency per USD as of the dates of ``prices`` (see `currency.rates_asof`). A
        currency without an entry has no rate.
    basis
        See `Returns`.
    absent
        Whether no table has a row of each series, on whatever date, [n_series]; default none is absent.

    Raises
    ------
    UsageError
        If there is not one currency a series, or none at all for a conversion, or as many base dates
        as reference dates.
    """
    target = as_currency(dest)
    n_series, n_dates = prices.price.shape
    ends, bases = np.asarray(end, dtype=np.int64), np.asarray(base, dtype=np.int64)
    if ends.shape != bases.shape:
        raise UsageError(f"{len(ends)} reference dates and {len(bases)} base dates", hint="Pass them in pairs.")
    if currencies is None:
        if target != "local":
            raise UsageError(f"No currencies to convert to {target} from", hint="Pass each series' currency.")
        currencies = np.full(n_series, None, dtype=object)
    if len(currencies) != n_series:
        raise UsageError(f"{len(currencies)} currencies for {n_series} series", hint="Pass one each, or None.")

    factor = factors(currencies, target, rates, n_dates)
    without_currency = np.asarray(pd.isna(currencies))[:, np.newaxis] & (target != "local")
    # The statuses that a single date gives to every return that ends, or begins, on it.
    of_both = {"bad_price": prices.bad_price, "no_fx": np.isnan(factor), "carried": prices.carried}
    of_end = {"missing_currency": without_currency, "no_end": ~prices.has_row, "stale_end": prices.stale}
    if absent is not None:
        of_end["unknown"] = absent[:, np.newaxis]
    written_off = (prices.price == 0) & ~prices.bad
    of_base = {"no_base": ~prices.has_row | written_off, "stale_base": prices.stale}
    at_end, at_base = (_worst(prices, conditions | of_both) for conditions in (of_end, of_base))

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        converted = replace(prices, price=prices.price * factor)
        growth = converted.price.take(ends, axis=1)
        growth /= converted.price.take(bases, axis=1)
        growth -= 1
    code = np.minimum(at_end.take(ends, axis=1), at_base.take(bases, axis=1))
    late = prices.date.take(ends, axis=1) <= prices.as_of[bases]
    if late.any():
        series, column = np.nonzero(late)
        one_mark = _one_mark(prices, series, ends[column], bases[column])
        verdict = np.where(one_mark, _RANK["carried"], _RANK["stale_end"])
        code[series, column] = np.minimum(code[series, column], verdict)
    infinite = np.isinf(growth)
    if infinite.any():
        np.minimum(code, _RANK["no_base"], out=code, where=infinite)
    if target != "local":
        growth[np.abs(growth) < _ROUNDING] = 0.0
    growth[code < _RANK["carried"]] = np.nan
    return Returns(growth, code, converted, ends, bases, basis)


def _one_mark(prices: AsOf, series: IntArray, end: IntArray, base: IntArray) -> BoolArray:
    """Return whether the rows of each series at end and base are one and the same mark."""
    same = prices.date[series, end] == prices.date[series, base]
    same &= prices.fallback[series, end] == prices.fallback[series, base]
    return np.asarray(same & prices.mark[series, end])


def _worst(prices: AsOf, conditions: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.int8]:
    """Return, for each series and date, the first of `STATUSES` that applies."""
    code = np.full(prices.price.shape, _RANK["ok"])
    for status, applies in conditions.items():
        np.minimum(code, _RANK[status], out=code, where=applies)
    return code
