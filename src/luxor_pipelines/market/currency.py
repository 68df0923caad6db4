"""Currencies of price series, and exchange rates as of a date.

A rate q(c) is units of the currency c per US dollar; q(usd) = 1. A price in a becomes one in b by the
factor q(b) / q(a), so every pair goes through the dollar.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from luxor_pipelines.errors import SchemaError, UsageError, sample
from luxor_pipelines.lazy import pd
from luxor_pipelines.market.observations import FloatArray, IntArray, Observations
from luxor_pipelines.market.periods import DateArray, DatesLike, as_days
from luxor_pipelines.market.prices import AsOf, asof
from luxor_pipelines.names import normal_name

__all__ = [
    "CurrencyFacts",
    "as_currency",
    "factors",
    "rate_series",
    "rates_asof",
    "series_currency",
    "series_ends",
]


@dataclass(frozen=True)
class CurrencyFacts:
    """A firm's facts about the currencies of its price series and the series of its exchange rates.

    Attributes
    ----------
    locations
        The currency of the assets of each ``Location``.
    series
        The currency of series, such as benchmarks, whatever the ``Location`` of their assets.
    no_currencies
        Texts of three letters that are no currency, such as the names of minor units.
    unconvertible
        Series that are percentages, not prices: they have no currency, whatever ``assets`` says.
    depositary_type
        The ``Type`` of depositary receipts, whose series is their underlying's.
    rates
        The series of units per USD of a currency; one that is not named has ``usd<iso> curncy``.
    brl_spot
        The spot rate of BRL per USD, which extends the series chosen at its ends.
    """

    locations: Mapping[str, str]
    series: Mapping[str, str]
    no_currencies: frozenset[str]
    unconvertible: frozenset[str]
    depositary_type: str
    rates: Mapping[str, str]
    brl_spot: str


def as_currency(text: object) -> str:
    """Return a currency trimmed and in lower case: three letters, or ``local`` for no conversion.

    Raises
    ------
    UsageError
        If it is anything else, ``all`` included.
    """
    name = text.strip().lower() if isinstance(text, str) else ""
    if name == "local" or (len(name) == 3 and name.isascii() and name.isalpha() and name != "all"):
        return name
    raise UsageError(f"{text!r} is not a currency", hint="Give one: local, or three letters such as usd or brl.")


def series_currency(assets: pd.DataFrame, facts: CurrencyFacts) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Derive the currency of each price series.

    The first of these that has an entry decides: ``Currency`` of the assets that use the series, ``facts.series``,
    ``Location`` of the assets. A BDR's row does not count, since its series is its underlying's.

    Parameters
    ----------
    assets
        ``Price_Key`` (trimmed and in lower case), ``Location``, ``Type`` and, if there is one, ``Currency``.

    Returns
    -------
    currencies
        Price key → currency. A series not in it has none: its converted returns are
        ``missing_currency``.
    unclear
        Price key → the texts of the deciding rows, where they are not one currency: several, or a text that is no
        currency, such as the minor unit gbx.

    Raises
    ------
    SchemaError
        If a column is missing.
    """
    missing = [column for column in ("Price_Key", "Location", "Type") if column not in assets.columns]
    if missing:
        raise SchemaError(
            f"assets: missing {sample(missing)}; it has {sample(assets.columns, 10)}",
            hint="Derive Price_Key and keep Location and Type.",
        )
    key, index = pd.factorize(assets["Price_Key"])
    keys = index.to_numpy(dtype=object)
    kind, kinds = _encoded(assets["Type"])
    counts = (key >= 0) & ~np.array([word == facts.depositary_type for word in kinds], dtype=bool)[kind]
    open_ = np.ones(len(keys), dtype=bool)
    currencies: dict[str, str] = {}
    unclear: dict[str, tuple[str, ...]] = {}

    def decide(column: str, meaning: Mapping[str, str] | None) -> None:
        """Let the cells of a column decide for the series that are still open."""
        cell, words = _encoded(assets[column])
        isos = [_currency_of(word, meaning, facts) for word in words[:-1]]
        # A text that is no currency still contradicts one that is, so it stands for itself.
        claim, claims = pd.factorize(np.array([iso or word for word, iso in zip(words, isos, strict=False)], object))
        row = counts & (cell >= 0) & open_[key]
        low, high = np.full(len(keys), len(claims)), np.full(len(keys), -1)
        np.minimum.at(low, key[row], claim[cell[row]])
        np.maximum.at(high, key[row], claim[cell[row]])
        is_currency = np.array([*np.isin(claims, [iso for iso in isos if iso]), False])
        clear = (low == high) & is_currency[high]
        currencies.update(zip(keys[clear], claims[high[clear]], strict=True))
        for code in np.flatnonzero((high >= 0) & ~clear):
            unclear[keys[code]] = tuple(sorted({words[n] for n in cell[row & (key == code)]}))
        open_[high >= 0] = False

    if "Currency" in assets.columns:
        decide("Currency", None)
    open_[np.isin(keys, list(facts.series))] = False
    currencies = {name: iso for name, iso in facts.series.items() if name not in unclear} | currencies
    decide("Location", facts.locations)
    for series in facts.unconvertible:
        currencies.pop(series, None)
        unclear.pop(series, None)
    return currencies, unclear


def _currency_of(word: str, meaning: Mapping[str, str] | None, facts: CurrencyFacts) -> str | None:
    """Return the currency that a cell names, by itself or through a mapping; None where it names none."""
    if meaning is not None:
        return meaning.get(word)
    named = len(word) == 3 and word.isascii() and word.isalpha() and word not in facts.no_currencies
    return word if named else None


def rate_series(currency: str, usdbrl_ticker: str, facts: CurrencyFacts) -> tuple[str, ...]:
    """Return the names of the series that give units of ``currency`` per USD.

    For ``usd`` there is no series; for ``brl`` the chosen one and, to extend it, spot; for any other currency one.

    Raises
    ------
    UsageError
        If ``currency`` is not a currency, or is ``local``.
    """
    iso = as_currency(currency)
    if iso == "local":
        raise UsageError("'local' has no exchange rate", hint="Name a currency, such as usd.")
    if iso == "usd":
        return ()
    if iso == "brl":
        if not isinstance(usdbrl_ticker, str):
            raise UsageError(f"{usdbrl_ticker!r} is not the name of a series", hint=f"Give one: {facts.brl_spot}, say.")
        return tuple(dict.fromkeys((normal_name(usdbrl_ticker), facts.brl_spot)))
    return (facts.rates.get(iso, f"usd{iso} curncy"),)


def rates_asof(
    obs: Observations,
    currencies: Iterable[str | None],
    dates: DatesLike,
    *,
    usdbrl_ticker: str,
    facts: CurrencyFacts,
    limit: int,
) -> dict[str, FloatArray]:
    """Return units per USD of each of ``currencies`` as of each of ``dates``, NaN where there is none.

    A rate is the price as of the date of its series (see `rate_series`, `market.prices.asof`), at most ``limit`` days
    old; a bad price is no rate. BRL is the chosen series, extended at both ends by the moves of spot. With c the
    chosen series, s spot, f and l the first and last dates of c, all as of a date:

    ============================== =======================
    f <= d <= l                    c(d)
    d > l, spot newer than l       c(l) × s(d) / s(l)
    d > l, otherwise               c(d)
    d < f                          c(f) × s(d) / s(f)
    no such series                 s(d)
    ============================== =======================

    Levels are chained, never swapped, so no change over a period contains the basis between the two. A bad row of c
    makes the rate null, and is not replaced by spot.

    Parameters
    ----------
    obs
        The rows of the series, those of BRL up to both ends of the chosen one.
    currencies
        ``local``, nulls and repetitions are ignored.
    """
    isos = {as_currency(currency) for currency in currencies if not pd.isna(currency)} - {"local"}
    days = as_days(dates)
    series = {iso: rate_series(iso, usdbrl_ticker, facts) for iso in sorted(isos)}
    obs = _with_limit(obs.only([name for names in series.values() for name in names]), limit)
    values = asof(obs, days)
    rates = {}
    for iso, names in series.items():
        if iso == "usd":
            rates[iso] = np.ones(len(days))
        elif len(names) == 2:
            rates[iso] = _chained(obs, values, names[0], names[1])
        else:
            rates[iso] = _rate(obs, values, names[0])[0]
    return rates


def _with_limit(obs: Observations, limit: int) -> Observations:
    """Return the same rows, all with one age limit."""
    fallback = None if obs.fallback is None else _with_limit(obs.fallback, limit)
    return replace(obs, limit=np.full(len(obs), limit, dtype=np.int32), fallback=fallback)


def _rate(obs: Observations, values: AsOf, name: str) -> tuple[FloatArray, DateArray]:
    """Return a series' values as of some dates, NaN for none, and the dates of their rows, NaT where too old."""
    at = obs.codes([name])[0]
    if at < 0:
        return np.full(len(values.as_of), np.nan), np.full(len(values.as_of), np.datetime64("NaT", "D"))
    usable = values.valid[at] & (values.price[at] > 0)  # a mark of 0 is no rate
    date = np.where(values.stale[at], np.datetime64("NaT", "D"), values.date[at])
    return np.where(usable, values.price[at], np.nan), date


def _chained(obs: Observations, values: AsOf, chosen: str, spot: str) -> FloatArray:
    """Return BRL per USD by a series and, beyond its ends, spot; ``values`` are those of ``obs`` as of the dates."""
    days = values.as_of
    rates, rate_date = _rate(obs, values, chosen)
    spot_rates, spot_date = _rate(obs, values, spot)
    ends = series_ends(obs, chosen)
    if ends is None:
        return spot_rates
    first, last = ends
    at_ends = asof(obs, np.array(ends))
    chosen_ends, spot_ends = _rate(obs, at_ends, chosen)[0], _rate(obs, at_ends, spot)[0]
    before = days < first
    # Before spot begins its date is NaT, which compares as not newer. If the chosen series has a bad row after its
    # last value, there is no rate.
    after = (days > last) & (spot_date > last) & np.isfinite(spot_ends[1]) & ~(rate_date > last)
    rates[before] = chosen_ends[0] * spot_rates[before] / spot_ends[0]
    rates[after] = chosen_ends[1] * spot_rates[after] / spot_ends[1]
    return rates


def series_ends(obs: Observations, name: str) -> tuple[np.datetime64, np.datetime64] | None:
    """Return the dates of the first and the last value of a rate, in whatever table; None where it has none."""
    sides = [obs] if obs.fallback is None else [obs, obs.fallback]
    days = [day[price > 0] for day, price in (side.without_bad().series(name) for side in sides)]
    values = np.concatenate(days)
    return (values.min(), values.max()) if len(values) else None


def factors(local: NDArray[np.object_], dest: str, rates: Mapping[str, FloatArray], n_dates: int) -> FloatArray:
    """Return the factors that turn local prices into ``dest``, [n_series, n_dates].

    Parameters
    ----------
    local
        Each series' currency, None where unknown.
    dest
        A currency, or ``local``.
    rates
        Units per USD of each currency as of each date, [n_dates]; ``usd`` may be left out.

    Returns
    -------
    array
        q(dest) / q(local): NaN where either rate is missing or the series has no currency, and
        exactly 1 where no conversion is needed, whether there is a rate or not.
    """
    target = as_currency(dest)
    if target == "local":
        return np.ones((len(local), n_dates))
    own, names = pd.factorize(np.asarray(local, dtype=object))  # None is -1, the row of NaN put last
    rates = {"usd": np.ones(n_dates), **rates}
    no_rate = np.full(n_dates, np.nan)
    per_usd = np.vstack([*(rates.get(name, no_rate) for name in names), no_rate])
    by_currency = rates.get(target, no_rate) / per_usd
    by_currency[:-1][names == target] = 1.0
    return np.asarray(by_currency[own], dtype=np.float64)


def _encoded(values: ArrayLike | pd.Series) -> tuple[IntArray, list[str]]:
    """Return codes of trimmed, lower-case texts, -1 for a missing or blank one, and the texts; the last is blank."""
    codes, words = pd.factorize(pd.Series(values))
    texts = [word.strip().lower() if isinstance(word, str) else "" for word in words.to_numpy(dtype=object)]
    distinct = {text: code for code, text in enumerate(dict.fromkeys(filter(None, texts)))}
    renamed = np.array([*(distinct.get(text, -1) for text in texts), -1])
    return renamed[codes], [*distinct, ""]
