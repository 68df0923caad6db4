"""What `LuxorQuery` answers about prices and returns: market data in, a frame out."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luxor_pipelines.catalog import ASSETS, CURRENCY_FACTS, HIST_RETURNS, PERIODS, USDBRL
from luxor_pipelines.errors import DataError, SchemaError, UsageError, sample
from luxor_pipelines.market.currency import as_currency, factors, rates_asof
from luxor_pipelines.market.daily import PriceRows, daily_prices, observed_prices
from luxor_pipelines.market.periods import (
    DateArray,
    DateLike,
    as_date,
    as_days,
    as_period,
    base_date,
    month_end,
)
from luxor_pipelines.market.prices import Observations, apply_overrides, asof
from luxor_pipelines.market.returns import STATUSES, Returns, returns, returns_frame

if TYPE_CHECKING:
    from luxor_pipelines.query.luxor_query import LuxorQuery
    from luxor_pipelines.query.market_data import MarketData

logger = logging.getLogger(__name__)

_Cell = TypeVar("_Cell", bound=np.generic)

__all__ = ["changes", "convert", "prices_between", "returns_on", "returns_over", "stored_returns"]


def prices_between(
    market: MarketData,
    keys: Iterable[str],
    start: date,
    end: date,
    currency: str = "local",
    usdbrl_ticker: str = USDBRL,
    *,
    continuous: bool = True,
    today: date | None = None,
    overrides: pd.DataFrame | None = None,
) -> PriceRows:
    """Prices of ``keys`` on the days from ``start`` to ``end``, both included.

    A series without any price in the range is ``absent`` with the status ``no_price`` or, where no table has
    it at all, ``unknown``.

    Parameters
    ----------
    continuous
        Every calendar day, as of the day; else only the days observed.
    today
        Given and equal to ``end``: newer prices of ``px_last`` extend the history.
    overrides
        See `market.prices.apply_overrides`.
    """
    dest, names = as_currency(currency), sorted(set(keys))
    own = market.currencies(names)
    wanted = {dest, *own} if dest != "local" else set()
    days = np.arange(np.datetime64(start, "D"), np.datetime64(end, "D") + 1)
    found = market.observations([*names, *market.rate_keys(wanted, usdbrl_ticker)], [start, end], span=(start, end))
    rates = market.rate_observations(found, wanted, days, usdbrl_ticker)
    obs = found.only(names)
    if overrides is not None:
        obs = apply_overrides(obs, overrides, limits=market.limits)
    newest: DateArray = np.full(len(names), np.datetime64("NaT", "D"))
    if today == end:
        obs, newest = market.with_latest(obs, end)
        rates, _ = market.with_latest(rates, end)

    rows = daily_prices(obs, start, end) if continuous else observed_prices(obs, start, end)
    if today == end:
        rows = rows.marked((rows.status == 0) & (rows.price_date == newest[rows.code]), "intraday")
    if dest != "local":
        code, by_currency = _factors(market, rates, own, dest, days, usdbrl_ticker)
        of_row = code[rows.code]
        factor = by_currency[of_row, (rows.date - days[0]).view(np.int64)]
        if np.isnan(factor).any():
            rows = rows.marked(np.isfinite(rows.price) & np.isnan(factor), "no_fx")
            rows = rows.marked(of_row < 0, "missing_currency")
        rows = replace(rows, price=rows.price * factor)

    absent, known = np.ones(len(names), dtype=bool), np.zeros(len(names), dtype=bool)
    absent[rows.code] = False
    known[obs.code] = known[market.latest(obs.keys)[0]] = True
    if (absent & ~known).any():
        known |= market.known(obs)
    return replace(rows, absent={names[n]: "no_price" if known[n] else "unknown" for n in np.flatnonzero(absent)})


def convert(
    market: MarketData,
    prices: pd.DataFrame,
    price_currency: str | Mapping[str, str],
    dest_currency: str,
    usdbrl_ticker: str = USDBRL,
    *,
    today: date | None = None,
) -> pd.DataFrame:
    """``prices`` (``Date, Asset, Last_Price``) in another currency, each row at its own date's rate.

    ``today`` given and the last date of all: newer rates of ``px_last`` extend the history.

    Raises
    ------
    SchemaError
        A column is missing, or a date is.
    UsageError
        A currency is unknown, or an asset has none in the mapping.
    """
    missing = [name for name in ("Date", "Asset", "Last_Price") if name not in prices.columns]
    if missing:
        raise SchemaError(
            f"The prices have no column {sample(missing)}; they have {sample(prices.columns, 10)}.",
            hint="Pass a frame with Date, Asset and Last_Price.",
        )
    dest = as_currency(dest_currency)
    if isinstance(price_currency, str):
        own = np.full(len(prices), as_currency(price_currency), dtype=object)
    else:
        known = {key.strip().lower(): as_currency(value) for key, value in price_currency.items()}
        own = prices["Asset"].astype("string").str.strip().str.lower().map(known).to_numpy(dtype=object)
        without = prices["Asset"][pd.isna(own)]
        if len(without):
            raise UsageError(f"No currency is given for {sample(without.unique())}.", hint="Add them to the mapping.")
    if "local" in {dest, *own}:
        raise UsageError("'local' is no currency to convert between.", hint="Name a currency, such as usd or brl.")
    out = prices.copy()
    if set(own) <= {dest}:
        return out
    days, position = np.unique(as_days(prices["Date"]), return_inverse=True)
    if np.isnat(days[-1]):
        raise SchemaError("The prices have rows without a Date.", hint="Fill or drop those rows.")
    wanted = {dest, *own}
    first, last = days[0].item(), days[-1].item()
    obs = market.observations(market.rate_keys(wanted, usdbrl_ticker), [first, last], span=(first, last))
    rates = market.rate_observations(obs, wanted, days, usdbrl_ticker)
    if today == last:
        rates, _ = market.with_latest(rates, last)
    code, by_currency = _factors(market, rates, own, dest, days, usdbrl_ticker)
    out["Last_Price"] = prices["Last_Price"] * by_currency[code, position]
    return out


def returns_over(
    market: MarketData,
    keys: Iterable[str],
    spans: Sequence[tuple[date, date]],
    currencies: Sequence[str],
    usdbrl_ticker: str = USDBRL,
    *,
    adjust: bool = True,
    today: date | None = None,
    name_unknown: bool = False,
) -> Iterator[tuple[str, Returns]]:
    """Returns of ``keys`` over each span, from a base to a reference date, in one of ``currencies`` after another.

    Prices and rates are read once, and looked up once a date, for all spans and currencies. Rows are
    in the order of ``keys``. With ``today`` among the reference dates, newer prices of ``px_last``
    extend the history. To ``name_unknown`` logs which series no table has.
    """
    names = list(dict.fromkeys(keys))
    dests = [as_currency(currency) for currency in currencies]
    own = market.currencies(sorted(names))
    wanted = {*dests, *own} if set(dests) != {"local"} else set()
    dates = sorted({day for span in spans for day in span})
    ends = {end for _, end in spans}
    obs = market.observations([*names, *market.rate_keys(wanted, usdbrl_ticker)], dates)
    rates = market.rate_observations(obs, wanted, dates, usdbrl_ticker)
    obs = obs.only(names)
    if name_unknown:
        known = market.known(obs)
        known[market.latest(obs.keys)[0]] = True
        if not known.all():
            logger.warning("No price table has %d of the series: %s", (~known).sum(), sample(obs.keys[~known]))
    if today in ends:
        obs, _ = market.with_latest(obs, today)
        rates, _ = market.with_latest(rates, today)
    basis = None
    if adjust:
        last = max(ends)
        basis = market.basis(obs, dates, last) if len(ends) > 1 else None
        obs = market.adjusted(obs, last)
    prices = asof(obs, dates)
    per_usd = rates_asof(
        rates,
        wanted,
        dates,
        facts=CURRENCY_FACTS,
        usdbrl_ticker=usdbrl_ticker,
        limit=market.limits.days("traded"),
    )
    column = {day: position for position, day in enumerate(dates)}
    base, end = ([column[day] for day in days] for days in zip(*spans, strict=True))
    rows = obs.codes(names)
    in_order = len(rows) == len(obs.keys) and bool((np.diff(rows) == 1).all())
    for dest in dests:
        found = returns(prices, end, base, currencies=own, dest=dest, rates=per_usd, basis=basis)
        yield dest, found if in_order else found.take(rows)


def returns_on(
    market: MarketData,
    keys: Iterable[str],
    ref_dates: Iterable[date],
    periods: Iterable[str],
    currencies: Iterable[str],
    usdbrl_ticker: str = USDBRL,
    *,
    adjust: bool,
    today: date,
) -> pd.DataFrame:
    """The returns of ``keys`` over each of ``periods`` up to each of ``ref_dates``; see `LuxorQuery.get_returns`."""
    names, dates = list(dict.fromkeys(keys)), list(dict.fromkeys(ref_dates))
    labels, dests = list(dict.fromkeys(map(as_period, periods))), list(dict.fromkeys(map(as_currency, currencies)))
    if not (dates and labels and dests):
        raise UsageError("There is no date, period or currency to give returns for.", hint="Name one of each.")
    spans = [(base_date(day, label), day) for day in dates for label in labels]
    shape = (len(dests), len(names), len(dates), len(labels))
    values, codes = np.empty(shape), np.empty(shape, dtype=np.int8)
    each = returns_over(market, names, spans, dests, usdbrl_ticker, adjust=adjust, today=today, name_unknown=True)
    for place, (_, found) in enumerate(each):
        values[place], codes[place] = found.value.reshape(shape[1:]), found.code.reshape(shape[1:])

    def along(values: NDArray[_Cell], axis: int) -> NDArray[_Cell]:
        """``values`` for each row, by its place on one of the axes."""
        return np.tile(np.repeat(values, math.prod(shape[axis + 1 :])), math.prod(shape[:axis]))

    def words(labels: Sequence[str], axis: int) -> Any:
        codes = np.arange(len(labels)).astype(np.min_scalar_type(-len(labels)))
        return pd.Categorical.from_codes(along(codes, axis), pd.Index(labels))

    days = np.array(dates, dtype="datetime64[D]").astype("datetime64[us]")
    return pd.DataFrame(
        {
            "Currency": words(dests, 0),
            "Asset": words(names, 1),
            "Date": along(days, 2),
            "Period": words(labels, 3),
            "Return": values.ravel(),
            "Status": pd.Categorical.from_codes(codes.ravel(), pd.Index(STATUSES)),
        },
        copy=False,
    )


def changes(
    market: MarketData,
    keys: Iterable[str],
    start: date,
    end: date,
    currency: str = "local",
    usdbrl_ticker: str = USDBRL,
    *,
    adjust: bool,
    today: date,
) -> pd.DataFrame:
    """The returns of ``keys`` over one period: one row each, index ``Asset``."""
    dest, names = as_currency(currency), list(dict.fromkeys(keys))
    span = [(start, end)]
    found = returns_over(market, names, span, [dest], usdbrl_ticker, adjust=adjust, today=today, name_unknown=True)
    frame = returns_frame(dict(found), names, ["period"]).rename(columns={"Price_Key": "Asset", "Return": "Pct_Change"})
    return frame.set_index("Asset")[["Pct_Change", "Status", "Base_Date", "End_Date", "Base_Price", "End_Price"]]


def stored_returns(
    lq: LuxorQuery, ref_date: DateLike | None, currency: str | None, *, wide: bool, with_status: bool
) -> pd.DataFrame:
    """The stored ``hist_returns`` of one month, long or wide."""
    name = HIST_RETURNS.name
    chosen = as_currency(currency or "brl") if currency is not None or wide else None
    last = lq.market.last_date(name) if ref_date is None else as_date(ref_date)
    if last is None:
        raise DataError(f"Table {name} is empty.", hint=f"Run the pipeline: luxor run {name}")
    day = month_end(last)
    rows = lq.get_table(name, where={"Date": (day, day)})  # as a range it selects partitions
    if rows.empty:
        ended = day < lq.today()
        raise DataError(
            f"Table {name} has no rows for {day}.",
            hint=f"Run the pipeline: luxor run {name} --ref-date {day}" if ended else "That month has not ended yet.",
        )
    if chosen is not None:
        stored = rows["Currency"].unique()
        rows = rows[rows["Currency"] == chosen].reset_index(drop=True)
        if rows.empty:
            raise UsageError(f"Table {name} has no returns in {chosen!r}.", hint=f"It has {sample(stored, 9)}.")
    return _wide(lq, rows, day, with_status=with_status) if wide else rows


def _wide(lq: LuxorQuery, rows: pd.DataFrame, day: date, *, with_status: bool) -> pd.DataFrame:
    values = rows.pivot(index="Key", columns="Period", values="Return")
    order = [period for period in PERIODS if period in values.columns]
    order += [period for period in values.columns if period not in order]
    frame = values[order].reset_index().rename_axis(columns=None)
    if lq.table_exists(ASSETS):
        assets = lq.market.assets()
        if "Name" in assets.columns:
            frame.insert(1, "Name", frame["Key"].map(dict(zip(assets["Key"], assets["Name"], strict=True))))
    frame.insert(0, "Date", pd.Timestamp(day).as_unit("us"))
    if with_status:
        odd = rows[rows["Status"] != "ok"]
        odd = odd.assign(_order=odd["Period"].map({p: n for n, p in enumerate(order)})).sort_values("_order")
        text = (odd["Period"] + ": " + odd["Status"]).groupby(odd["Key"]).agg(", ".join)
        # Cast first: without a single odd period there is nothing to tell that this is text.
        frame["Status"] = text.astype("str").reindex(frame["Key"]).fillna("ok").to_numpy()
    return frame


def _factors(
    market: MarketData,
    rates: Observations,
    own: np.ndarray[Any, Any],
    dest: str,
    days: DateArray,
    usdbrl_ticker: str,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Of each of ``own`` its currency's row, -1 without one; and the currencies' factors to ``dest`` by day."""
    code, currencies = pd.factorize(own)
    per_usd = rates_asof(
        rates,
        {dest, *currencies},
        days,
        facts=CURRENCY_FACTS,
        usdbrl_ticker=usdbrl_ticker,
        limit=market.limits.days("traded"),
    )
    # The last row, which -1 takes, is that of no currency: not a number.
    return code, factors(np.array([*currencies, None], dtype=object), dest, per_usd, len(days))
