"""Interest: rates accumulated into levels, and performance quoted against a reference rate."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from luxor_pipelines.analytics.sampling import FloatArray, price_frame
from luxor_pipelines.errors import DataError, UsageError, sample
from luxor_pipelines.market.calendars import HolidayCalendar
from luxor_pipelines.market.periods import DateArray, DateLike, as_date, as_days

__all__ = ["BASES", "RateQuote", "accumulate_rate", "business_days", "chain", "quote_against_rate"]


class _Basis(NamedTuple):
    unit: str  # business or calendar days
    days: int  # a year
    compound: bool  # within the days between two rates


BASES: Final = {
    "business/252": _Basis("business", 252, True),
    "actual/365": _Basis("calendar", 365, False),
    "actual/360": _Basis("calendar", 360, False),
    "actual/360 compound": _Basis("calendar", 360, True),
    "per day": _Basis("business", 1, True),
}
"""The conventions by which a rate of a date becomes interest up to the next date, d days later.

==================== ==================== =======================================================
basis                factor               used for
==================== ==================== =======================================================
business/252         (1 + r)^(d / 252)    CDI and Selic, quoted a year
per day              (1 + r)^d            CDI and Selic, quoted a business day (as the central bank's series are)
actual/360           1 + r × d / 360      SOFR, fed funds, compounded in arrears (ISDA 2021 Definitions)
actual/365           1 + r × d / 365      SONIA
actual/360 compound  (1 + r)^(d / 360)    cash in composites before its index begins
==================== ==================== =======================================================
"""

_LONGEST = 10  # calendar days that a rate holds


def accumulate_rate(
    rates: pd.Series,
    basis: str = "business/252",
    calendar: HolidayCalendar | None = None,
    location: str = "bz",
    *,
    end: DateLike | None = None,
) -> pd.Series:
    """Return the level of 1 invested at a rate that is fixed anew on each date.

    A date's rate earns from that date to the next: the level of the first date is 1, that of the last
    one does not contain its rate.

    Parameters
    ----------
    rates
        Fractions (0.1365 is 13.65 %), a year or as ``basis`` says, with a date each.
    basis
        One of `BASES`.
    calendar, location
        The holidays for bases of business days; default weekdays.
    end
        A last date, after that of the last rate, up to which that one earns.

    Raises
    ------
    DataError
        A rate is null, not above −1 or more than 10 days older than the next; a date is null or repeated.
    UsageError
        Not a basis; ``end`` is before the last rate.
    """
    rule = BASES.get(str(basis).strip().lower())
    if rule is None:
        raise UsageError(f"{basis!r} is no basis of interest", hint=f"Accepted: {', '.join(BASES)}.")
    days, values = _dated_rates(rates)
    if end is not None:
        last = np.datetime64(as_date(end), "D")
        if len(days) and last < days[-1]:
            raise UsageError(f"The end {last} is before the last rate's {days[-1]}", hint="Leave later rates out.")
        if len(days) and last > days[-1]:
            days, values = np.append(days, last), np.append(values, np.nan)
    gaps = np.flatnonzero(np.diff(days).astype(np.int64) > _LONGEST)
    if len(gaps):
        raise DataError(
            f"There are no rates for more than {_LONGEST} days after {sample(days[gaps].astype(str))}.",
            hint="Fill the gap, or accumulate the parts one by one.",
        )
    if not len(days):
        return pd.Series(np.empty(0), index=_index(days), name="Level")
    if rule.unit == "business":
        spans = business_days(days, calendar, location).astype(np.float64)
    else:
        spans = np.diff(days).astype(np.float64)
    rate = values[:-1]
    factors = (1 + rate) ** (spans / rule.days) if rule.compound else 1 + rate * spans / rule.days
    return pd.Series(np.append(1.0, np.cumprod(factors)), index=_index(days), name="Level")


def chain(before: pd.Series, after: pd.Series) -> pd.Series:
    """Return ``after``, preceded by ``before`` scaled so that the two meet on the first date of ``after``.

    Raises
    ------
    DataError
        ``before`` has no level above 0 on that date (or the last before it).
    """
    early, late = (price_frame(levels).iloc[:, 0].dropna() for levels in (before, after))
    if late.empty or early.empty:
        return late if early.empty else early
    first = late.index[0]
    up_to = early[early.index <= first]
    if up_to.empty or not up_to.iloc[-1] > 0:
        raise DataError(f"The earlier series has no level on {first.date()}.", hint="The two have to overlap.")
    scaled = up_to[up_to.index < first] * (late.iloc[0] / up_to.iloc[-1])
    chained: pd.Series = pd.concat([scaled, late]).rename(after.name)
    return chained


class RateQuote(NamedTuple):
    """Performance against a reference rate, as Brazilian funds are quoted."""

    percent: FloatArray
    """The return as a share of the rate's over the same days: 1.1 is "110 % of CDI"."""
    spread: FloatArray
    """The yearly excess over the rate, by 252 business days: 0.02 is "CDI + 2 % a year"."""


def quote_against_rate(returns: ArrayLike, rate_returns: ArrayLike, business_days: ArrayLike) -> RateQuote:
    """Return performance as a percentage of a reference rate and as a spread over it.

    percent = R / R_rate and spread = ((1 + R) / (1 + R_rate))^(252 / days) − 1, all returns cumulative
    over the same days (ANBIMA's usage for the profitability of funds).

    Parameters
    ----------
    returns, rate_returns
        Cumulative returns of the investment and of the rate, fractions.
    business_days
        The number of business days that they are over, the base date left out.

    Returns
    -------
    RateQuote
        The percentage is null where the rate earned nothing or less: no multiple of it is meant. Both are
        null where a return is, or there is no business day.
    """
    own, rate = np.asarray(returns, dtype=np.float64), np.asarray(rate_returns, dtype=np.float64)
    days = np.asarray(business_days, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = np.where((rate > 0) & (days > 0), own / rate, np.nan)
        spread = np.where((days > 0) & (rate > -1), ((1 + own) / (1 + rate)) ** (252 / days) - 1, np.nan)
    return RateQuote(percent, spread)


def business_days(days: DateArray, calendar: HolidayCalendar | None, location: str) -> NDArray[np.int64]:
    """Return the number of business days from each date, included, to the next, left out."""
    if calendar is None:
        return np.asarray(np.busday_count(days[:-1], days[1:]), dtype=np.int64)
    pairs = zip(days[:-1].tolist(), days[1:].tolist(), strict=True)
    return np.array([calendar.business_days_between(b, a, location, "left") for a, b in pairs], dtype=np.int64)


def _dated_rates(rates: pd.Series) -> tuple[DateArray, FloatArray]:
    days, values = as_days(rates.index), rates.to_numpy(dtype=np.float64, na_value=np.nan)
    order = np.argsort(days, kind="stable")
    days, values = days[order], values[order]
    bad = ~(values > -1) | np.isinf(values) | np.isnat(days)
    if bad.any():
        raise DataError(
            f"{bad.sum()} rates are null, -1 or less, or have no date: {sample(values[bad])}",
            hint="Rates are fractions: 0.05 is 5 %. Drop what is missing.",
        )
    if (days[1:] == days[:-1]).any():
        raise DataError(f"Dates occur more than once: {sample(days[1:][days[1:] == days[:-1]].astype(str))}.")
    return days, values


def _index(days: DateArray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(days.astype("datetime64[us]"), name="Date")
