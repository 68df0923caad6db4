"""Rates of return of dated cash flows: money-weighted (XIRR) and time-weighted (TWR)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import ArrayLike

from luxor_pipelines.analytics.sampling import FloatArray
from luxor_pipelines.errors import DataError, UsageError, sample, shown
from luxor_pipelines.market.periods import DateArray, DatesLike, as_days

__all__ = ["present_value", "twr", "xirr"]

_DAYS_A_YEAR = 365.0
_STEPS = 200
"""Halvings or doublings: floating point ends each well before."""
_ROUNDING = 1e-14
"""Share of the sum of the absolute terms below which a sum is rounding."""


def xirr(cashflows: ArrayLike | Iterable[float], dates: DatesLike) -> float:
    """Return the rate a year r > −1 at which the present value of the cash flows is 0.

    Σ CF(i) × (1 + r)^(−(d(i) − d(0)) / 365) = 0, d(0) the first date (actual/365, as spreadsheets' XIRR).
    All rates above −1 are searched. Flows of one date are added up; flows of 0 have no effect.

    Raises
    ------
    UsageError
        There is not one date a flow, a date is null, or a flow is no finite number.
    DataError
        No rate solves it, since all flows have one sign or lie on one date; or none does all the same, or
        more than one does (the message names them), which only flows that change their sign twice can have.
    """
    flows, days = _flows(cashflows, dates)
    unique, place = np.unique(days, return_inverse=True)
    amounts = np.bincount(place, weights=flows, minlength=len(unique)).astype(np.float64)
    at = np.flatnonzero(amounts)
    amounts, unique = amounts[at], unique[at]
    signs = np.sign(amounts)
    if len(amounts) < 2 or (signs == signs[0]).all():
        raise DataError(
            f"No rate makes {len(flows)} cash flows worth 0: on their dates all are "
            f"{'of 0' if not len(amounts) else 'paid' if signs[0] < 0 else 'received'}.",
            hint="There must be a flow in and, on another date, one out.",
        )
    years = (unique - unique[0]).astype(np.float64) / _DAYS_A_YEAR
    # In x = ln(1 + r) all rates above −1 are the whole line, and the value is a sum of exponentials.
    with np.errstate(over="ignore"):
        rates = np.expm1(_roots(amounts / np.abs(amounts).max(), years))
    if len(rates) != 1:
        verdict = "No rate makes" if not len(rates) else f"{len(rates)} rates make"
        examples = f": {', '.join(f'{round(rate, 9):.6g}' for rate in rates[:5])}" if len(rates) else ""
        raise DataError(
            f"{verdict} {len(flows)} cash flows worth 0{examples}; they change their sign "
            f"{(signs[1:] != signs[:-1]).sum()} times.",
            hint="State a time-weighted return instead, or the present value at a rate of your choice.",
        )
    if np.isinf(rates[0]):
        raise DataError(
            f"The yearly rate that makes {len(flows)} cash flows worth 0 is larger than any number.",
            hint="Check their dates: money grew many times over within days.",
        )
    return float(rates[0])


def present_value(cashflows: ArrayLike, dates: DatesLike, rate: float) -> float:
    """Return Σ CF(i) × (1 + rate)^(−(d(i) − d(0)) / 365), what the flows are worth on the first date."""
    flows, days = _flows(cashflows, dates)
    if not rate > -1:
        raise UsageError(f"A rate of {rate} a year", hint="Give a fraction above -1: 0.05 is 5 %.")
    return float(flows @ (1 + rate) ** (-(days - days.min()).astype(np.float64) / _DAYS_A_YEAR))


def twr(values: ArrayLike | Iterable[float], flows: ArrayLike | Iterable[float] | None = None) -> float:
    """Return the time-weighted return over all of the dates, a fraction, not a year's.

    Π V(i)⁻ / V(i−1) − 1 with V(i)⁻ = V(i) − F(i): the value before the flow of its date (CFA Institute,
    Global Investment Performance Standards). The first date's flow is in the first value and has no effect.

    Parameters
    ----------
    values
        The portfolio's value at the end of each date, the date's flow included; in order.
    flows
        Money put in (positive) or taken out on each date; default none.

    Returns
    -------
    float
        NaN where a value is missing that the return needs: the first, the last, or one at a flow.
    """
    value = _numbers(values, "values")
    flow = np.zeros_like(value) if flows is None else _numbers(flows, "flows")
    if value.shape != flow.shape:
        raise UsageError(f"{value.size} values and {flow.size} flows", hint="Give one of each a date.")
    if len(value) < 2:
        raise UsageError(f"{len(value)} values", hint="Give a first and a last value at least.")
    if np.isinf(value).any() or not np.isfinite(flow).all():
        raise UsageError("Values or flows are infinite, or a flow is null", hint="Give 0 where nothing flows.")
    # A missing value without a flow is no end of a period: the return spans it.
    needed = np.isfinite(value) | (flow != 0)
    needed[[0, -1]] = True
    value, flow = value[needed], flow[needed]
    if np.isnan(value).any():
        return float("nan")
    base = value[:-1]
    if (base <= 0).any():
        raise DataError(
            f"A value of {base[base <= 0][0]} is the base of a return.", hint="Begin a return where there is money."
        )
    return float(np.prod((value[1:] - flow[1:]) / base) - 1)


def _numbers(values: ArrayLike | Iterable[float], what: str) -> FloatArray:
    """Return numbers as a flat array; ``what`` is what an error calls them."""
    error: Exception | None = None
    try:
        numbers = np.asarray(values if hasattr(values, "__array__") else [*values], dtype=np.float64)  # type: ignore[misc]
        if numbers.ndim == 1:
            return numbers
    except (TypeError, ValueError) as cause:
        error = cause
    raise UsageError(f"{shown(values)} are no {what}", hint="Give a list of numbers.") from error


def _flows(cashflows: ArrayLike | Iterable[float], dates: DatesLike) -> tuple[FloatArray, DateArray]:
    flows = _numbers(cashflows, "cash flows")
    days = as_days(dates)
    if len(flows) != len(days) or not len(flows):
        raise UsageError(f"{len(flows)} cash flows and {len(days)} dates", hint="Give a date for each flow.")
    if np.isnat(days).any() or not np.isfinite(flows).all():
        bad = flows[~np.isfinite(flows)]
        raise UsageError(
            f"{np.isnat(days).sum()} dates are null and {len(bad)} cash flows are no finite numbers: {sample(bad)}",
            hint="Fill or drop them.",
        )
    return flows, days


def _roots(amounts: FloatArray, years: FloatArray) -> FloatArray:
    """Return all x at which Σ amount × e^(−year × x) is 0, increasing.

    By the proof of Descartes' rule of signs: times e^(s x), with s between the years of a change of sign,
    the sum's derivative is a sum of the same kind with one change of sign less. Between the derivative's
    roots the sum is monotonic, and has one root or none.
    """
    change = np.flatnonzero(np.sign(amounts[1:]) != np.sign(amounts[:-1]))
    if not len(change):
        return np.empty(0)
    s = (years[change[0]] + years[change[0] + 1]) / 2
    turns = _roots(amounts * (s - years), years)

    def sign(x: float) -> int:
        """Return the sum's sign; 0 where it is lost in rounding."""
        exponents = -years * x
        terms = amounts * np.exp(exponents - exponents.max())
        total = terms.sum()
        return 0 if abs(total) <= _ROUNDING * np.abs(terms).sum() else int(np.sign(total))

    # Far to the left the last flow outweighs all others, far to the right the first one.
    ends = {-1: int(np.sign(amounts[-1])), 1: int(np.sign(amounts[0]))}
    bounds = []
    for side, outcome in ends.items():
        x = float(turns[0 if side < 0 else -1]) if len(turns) else 0.0
        step = 1.0
        for _ in range(_STEPS):
            x += side * step
            step *= 2
            if sign(x) == outcome:
                break
        bounds.append(x)
    points = [bounds[0], *turns.tolist(), bounds[1]]
    signs = [sign(x) for x in points]
    roots = [x for x, at in zip(points, signs, strict=True) if at == 0]  # it touches 0 at a turn
    for low, high, at_low, at_high in zip(points, points[1:], signs, signs[1:], strict=False):
        if at_low * at_high < 0:
            roots.append(_bisect(sign, low, high, at_low))
    return np.array(sorted(roots))


def _bisect(sign: Callable[[float], int], low: float, high: float, at_low: int) -> float:
    """Return the root between two points of different signs, to the last bit."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        at_middle = sign(middle)
        if at_middle == 0 or middle in (low, high):
            return middle
        low, high = (middle, high) if at_middle == at_low else (low, middle)
    return (low + high) / 2
