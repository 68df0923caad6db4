"""Returns over periods, each with a status that says whether, and why not, it can be stated.

    Return = End_Price / Base_Price − 1

a fraction, cumulative, both prices converted with the rates as of the reference and the base date.
A missing part gives a null and a status: never 0, never a part of the period for the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from luxor_pipelines.errors import UsageError
from luxor_pipelines.market.currency import RATE_LIMIT, USDBRL, as_currency, factors, rates_asof
from luxor_pipelines.market.observations import FloatArray, Observations
from luxor_pipelines.market.periods import DateArray, DateLike, DatesLike
from luxor_pipelines.market.prices import AsOf, asof

__all__ = ["STATUSES", "Returns", "point_returns", "returns"]

STATUSES = (
    "missing_currency",  # a conversion is asked for, and the series has no known currency
    "no_end",  # nothing on or before the reference date
    "stale_end",  # the end price is too old, or not newer than the base date
    "no_base",  # nothing on or before the base date, or a mark of 0, which no return starts from
    "stale_base",  # the base price is too old
    "no_fx",  # no exchange rate at the base or the reference date
    "carried",  # a return, from a mark older than 45 days
    "ok",
)
"""What can be said of a return; the first that applies. The last two come with one."""

_NO_RATES: Mapping[str, FloatArray] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Returns:
    """Returns of series over periods, each array [n_series, n_periods].

    What was found is filled in even where ``value`` is null.

    Attributes
    ----------
    value
        The return, a fraction; NaN unless the status is ``ok`` or ``carried``.
    status
        One of `STATUSES`.
    base_date, end_date
        The observations' dates, NaT where there is none.
    base_price, end_price
        The observations' prices in the destination currency, NaN where unknown.
    """

    value: FloatArray
    status: NDArray[np.object_]
    base_date: DateArray
    end_date: DateArray
    base_price: FloatArray
    end_price: FloatArray

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
        return Returns(**{field.name: getattr(self, field.name)[at] for field in fields(self)})

    def to_frame(self, keys: Sequence[str] | NDArray[np.object_], periods: Sequence[str]) -> pd.DataFrame:
        """Return one row per series and period, in that order.

        Columns ``Price_Key``, ``Period``, ``Return``, ``Status``, ``Base_Date``, ``End_Date``,
        ``Base_Price``, ``End_Price``.
        """
        n_series, n_periods = self.value.shape
        if (len(keys), len(periods)) != (n_series, n_periods):
            raise UsageError(
                f"{len(keys)} keys and {len(periods)} periods for {n_series} × {n_periods} returns",
                hint="Pass the names the returns were computed for.",
            )
        return pd.DataFrame(
            {
                "Price_Key": np.repeat(np.array(list(keys), dtype=object), n_periods),
                "Period": np.tile(np.array(list(periods), dtype=object), n_series),
                "Return": self.value.ravel(),
                "Status": self.status.ravel(),
                "Base_Date": self.base_date.ravel().astype("datetime64[us]"),
                "End_Date": self.end_date.ravel().astype("datetime64[us]"),
                "Base_Price": self.base_price.ravel(),
                "End_Price": self.end_price.ravel(),
            }
        )


def returns(
    end: AsOf,
    base: AsOf,
    *,
    currencies: NDArray[np.object_] | None = None,
    dest: str = "local",
    end_rates: Mapping[str, FloatArray] = _NO_RATES,
    base_rates: Mapping[str, FloatArray] = _NO_RATES,
) -> Returns:
    """Return the returns of series from each of several base dates to one reference date.

    Parameters
    ----------
    end
        Prices as of the reference date, one column.
    base
        Prices of the same series as of the base dates, one column per period.
    currencies
        Each series' currency, None where unknown; not needed for ``local``.
    dest
        The currency to state prices and returns in, or ``local``.
    end_rates, base_rates
        Units of each currency per USD as of the reference date, [1], and the base dates, [n_periods]
        (see `currency.rates_asof`). A currency without an entry has no rate.

    Raises
    ------
    UsageError
        If the series of ``end``, ``base`` and ``currencies`` do not match, ``end`` has several
        dates, or currencies are missing for a conversion.
    """
    target = as_currency(dest)
    n_series, n_periods = base.price.shape
    if end.price.shape != (n_series, 1):
        raise UsageError(
            f"End prices of shape {end.price.shape} for {n_series} series",
            hint="Take them as of the one reference date, for the same series as the base prices.",
        )
    if currencies is None:
        if target != "local":
            raise UsageError(f"No currencies to convert to {target} from", hint="Pass each series' currency.")
        currencies = np.full(n_series, None, dtype=object)
    if len(currencies) != n_series:
        raise UsageError(f"{len(currencies)} currencies for {n_series} series", hint="Pass one each, or None.")

    end_factor = factors(currencies, target, end_rates, 1)
    base_factor = factors(currencies, target, base_rates, n_periods)
    shape = base.price.shape
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        end_price = np.broadcast_to(end.price * end_factor, shape)
        base_price = base.price * base_factor
        growth = end_price / base_price

    unknown = np.asarray(pd.isna(currencies))[:, np.newaxis] & (target != "local")
    conditions = {
        "missing_currency": unknown,
        "no_end": ~end.found,
        "stale_end": end.stale | (end.date <= base.asked),
        "no_base": ~base.found | (base.price == 0) | np.isinf(growth),
        "stale_base": base.stale,
        "no_fx": np.isnan(end_factor) | np.isnan(base_factor),
        "carried": end.carried | base.carried,
    }
    status = np.full(shape, "ok", dtype=object)
    for name in reversed(STATUSES[:-1]):  # the first that applies is written last
        status[np.broadcast_to(conditions[name], shape)] = name
    stated = (status == "ok") | (status == "carried")
    return Returns(
        value=np.where(stated, growth - 1, np.nan),
        status=status,
        base_date=base.date,
        end_date=np.broadcast_to(end.date, shape),
        base_price=base_price,
        end_price=end_price,
    )


def point_returns(
    obs: Observations,
    ref: DateLike,
    base_dates: DatesLike,
    *,
    currencies: NDArray[np.object_] | None = None,
    dest: str = "local",
    rate_obs: Observations | None = None,
    usdbrl_ticker: str = USDBRL,
    rate_limit: int = RATE_LIMIT,
) -> Returns:
    """Return every series' returns from each of ``base_dates`` to ``ref``, looking up prices and rates.

    Parameters
    ----------
    obs
        The observations, amortization-adjusted where that is wanted.
    currencies, dest
        As for `returns`.
    rate_obs
        Where the exchange rates are; ``obs`` itself if not given.
    usdbrl_ticker, rate_limit
        As for `currency.rates_asof`.
    """
    end, base = asof(obs, [ref]), asof(obs, base_dates)
    if currencies is None or as_currency(dest) == "local":
        return returns(end, base, currencies=currencies, dest=dest)
    source = obs if rate_obs is None else rate_obs
    needed = {dest, *currencies}
    end_rates, base_rates = (
        rates_asof(source, needed, part.asked, usdbrl_ticker=usdbrl_ticker, limit=rate_limit) for part in (end, base)
    )
    return returns(end, base, currencies=currencies, dest=dest, end_rates=end_rates, base_rates=base_rates)
