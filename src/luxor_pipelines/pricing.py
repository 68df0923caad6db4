"""What `LuxorQuery` answers about prices and returns: market data in, a frame out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from luxor_pipelines.errors import DataError, SchemaError, UsageError, sample
from luxor_pipelines.market.currency import USDBRL, as_currency, factors, rates_asof
from luxor_pipelines.market.periods import PERIODS, DateLike, as_date, as_days, month_end
from luxor_pipelines.market.prices import Observations, apply_overrides, daily_prices
from luxor_pipelines.market.returns import Returns, point_returns

if TYPE_CHECKING:
    from luxor_pipelines.market_data import MarketData
    from luxor_pipelines.query import LuxorQuery

__all__ = ["changes", "convert", "prices_between", "returns_over", "stored_returns"]


def prices_between(
    market: MarketData,
    keys: Sequence[str],
    start: date,
    end: date,
    currency: str = "local",
    usdbrl_ticker: str = USDBRL,
    *,
    continuous: bool = True,
    today: date | None = None,
    overrides: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Prices of ``keys`` on the days from ``start`` to ``end``, both included.

    Parameters
    ----------
    continuous
        Every calendar day, as of the day; else only the days observed.
    today
        Given and equal to ``end``: newer prices of ``px_last`` extend the history.

    Returns
    -------
    DataFrame
        ``Date``, ``Asset``, ``Last_Price``, ``Price_Date``, ``Status``, sorted by asset and date.
    """
    dest = as_currency(currency)
    local = _currencies(market, keys)
    rate_keys = market.rate_keys({dest, *local} if dest != "local" else (), usdbrl_ticker)
    obs = market.observations([*keys, *rate_keys], [start, end], span=(start, end))
    days = np.arange(np.datetime64(start, "D"), np.datetime64(end, "D") + 1)
    rate_obs = market.rate_observations(obs, {dest, *local} if rate_keys else (), days.tolist(), usdbrl_ticker)
    newest: dict[str, date] = {}
    if today is not None and end == today:
        obs, newest = _with_latest(obs, market.latest(), today)
        rate_obs, _ = _with_latest(rate_obs, market.latest(), today)
    priced = apply_overrides(obs, overrides, limits=market.limits) if overrides is not None else obs
    priced = _only(priced, keys)

    frame = daily_prices(priced, start, end) if continuous else _observed(priced, start, end)
    intraday = frame["Asset"].map(newest).astype("datetime64[us]") == frame["Price_Date"] if newest else None
    if intraday is not None:
        frame["Status"] = frame["Status"].mask(intraday & (frame["Status"] == "ok"), "intraday")
    if dest == "local":
        return frame
    names = list(dict.fromkeys(keys))
    rates = rates_asof(rate_obs, {dest, *local}, days, usdbrl_ticker=usdbrl_ticker, limit=market.limits.days("traded"))
    by_day = factors(_currencies(market, names), dest, rates, len(days))
    row = pd.Index(names).get_indexer(pd.Index(frame["Asset"]))
    column = (as_days(frame["Date"]) - days[0]).astype(np.int64)
    factor = by_day[row, column]
    unknown = np.array([each is None for each in _currencies(market, names)], dtype=bool)[row]
    priced_ok = frame["Last_Price"].notna()
    frame["Last_Price"] = frame["Last_Price"] * factor
    frame["Status"] = frame["Status"].mask(priced_ok & np.isnan(factor), "no_fx").mask(unknown, "missing_currency")
    return frame


def convert(
    market: MarketData,
    prices: pd.DataFrame,
    price_currency: str | Mapping[str, str],
    dest_currency: str,
    usdbrl_ticker: str = USDBRL,
) -> pd.DataFrame:
    """``prices`` (``Date, Asset, Last_Price``) in another currency, each row at its own date's rate.

    Raises
    ------
    SchemaError
        A column is missing.
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
    if prices.empty or set(own) == {dest}:
        return out
    days, position = np.unique(as_days(prices["Date"]), return_inverse=True)
    wanted = {dest, *own}
    keys = market.rate_keys(wanted, usdbrl_ticker)
    first, last = days[0].item(), days[-1].item()
    obs = market.observations(keys, [first, last], span=(first, last))
    rate_obs = market.rate_observations(obs, wanted, days.tolist(), usdbrl_ticker)
    rates = rates_asof(rate_obs, wanted, days, usdbrl_ticker=usdbrl_ticker, limit=market.limits.days("traded"))
    currencies, code = np.unique(own.astype(str), return_inverse=True)
    out["Last_Price"] = (
        prices["Last_Price"] * factors(currencies.astype(object), dest, rates, len(days))[code, position]
    )
    return out


def returns_over(
    market: MarketData,
    keys: Sequence[str],
    end: date,
    bases: Sequence[date],
    currencies: Sequence[str],
    usdbrl_ticker: str = USDBRL,
    *,
    adjust: bool = True,
    today: date | None = None,
) -> dict[str, Returns]:
    """Returns of ``keys`` from each base date to ``end``, for each of ``currencies``.

    Prices and rates are read once, for all bases and currencies. Rows are in the order of ``keys``.
    """
    names = list(dict.fromkeys(keys))
    dests = [as_currency(currency) for currency in currencies]
    local = _currencies(market, names)
    wanted = {*dests, *local} - {"local", None} if set(dests) != {"local"} else set()
    rate_keys = market.rate_keys(wanted, usdbrl_ticker)
    dates = [end, *bases]
    raw = market.observations([*names, *rate_keys], dates)
    rate_obs = market.rate_observations(raw, wanted, dates, usdbrl_ticker)
    obs = market.adjusted(_only(raw, names), end) if adjust else _only(raw, names)
    if today is not None and end == today:
        obs, _ = _with_latest(obs, market.latest(), today)
        rate_obs, _ = _with_latest(rate_obs, market.latest(), today)
    return {
        dest: point_returns(
            obs,
            end,
            np.array(bases, dtype="datetime64[D]"),
            currencies=_currencies(market, obs.keys),
            dest=dest,
            rate_obs=rate_obs,
            usdbrl_ticker=usdbrl_ticker,
            rate_limit=market.limits.days("traded"),
        ).take(obs.codes(names))
        for dest in dests
    }


def changes(
    market: MarketData,
    keys: Sequence[str],
    start: date,
    end: date,
    currency: str,
    usdbrl_ticker: str,
    *,
    adjust: bool,
    today: date,
) -> pd.DataFrame:
    """The returns of ``keys`` over one period: one row each, index ``Asset``."""
    dest = as_currency(currency)
    found = returns_over(market, keys, end, [start], [dest], usdbrl_ticker, adjust=adjust, today=today)[dest]
    frame = found.to_frame(list(dict.fromkeys(keys)), ["period"]).rename(
        columns={"Price_Key": "Asset", "Return": "Pct_Change"}
    )
    return frame.set_index("Asset")[["Pct_Change", "Status", "Base_Date", "End_Date", "Base_Price", "End_Price"]]


def stored_returns(
    lq: LuxorQuery, ref_date: DateLike | None, currency: str | None, *, wide: bool, with_status: bool
) -> pd.DataFrame:
    """The stored ``hist_returns`` of one month, long or wide."""
    name = "hist_returns"
    day = _last_month(lq, name) if ref_date is None else month_end(as_date(ref_date))
    where: dict[str, Any] = {"Date": day}
    if currency is not None or wide:
        where["Currency"] = as_currency(currency or "brl")
    rows = lq.get_table(name, where=where)
    if rows.empty:
        raise DataError(
            f"Table {name} has no rows for {day} in {where.get('Currency', 'any currency')}.",
            hint=f"Run the pipeline: luxor run {name} --ref-date {day}",
        )
    if not wide:
        return rows
    values = rows.pivot(index="Key", columns="Period", values="Return")
    order = [period for period in PERIODS if period in values.columns]
    order += [period for period in values.columns if period not in order]
    frame = values[order].reset_index().rename_axis(columns=None)
    names = _names(lq)
    if names is not None:
        frame.insert(1, "Name", frame["Key"].map(names))
    frame.insert(0, "Date", pd.Timestamp(day))
    if with_status:
        odd = rows[rows["Status"] != "ok"]
        odd = odd.assign(_order=odd["Period"].map({p: n for n, p in enumerate(order)})).sort_values("_order")
        text = (odd["Period"] + ": " + odd["Status"]).groupby(odd["Key"]).agg(", ".join)
        frame["Status"] = frame["Key"].map(text).fillna("ok")
    return frame


def _last_month(lq: LuxorQuery, name: str) -> date:
    dates = lq.get_table(name, columns=["Date"])["Date"]
    if dates.empty:
        raise DataError(f"Table {name} is empty.", hint=f"Run the pipeline: luxor run {name}")
    return as_date(dates.max())


def _names(lq: LuxorQuery) -> dict[str, str] | None:
    if not lq.table_exists("assets"):
        return None
    assets = lq.market.assets()
    if "Name" not in assets.columns:
        return None
    return dict(zip(assets["Key"], assets["Name"], strict=True))


def _currencies(market: MarketData, keys: Sequence[str] | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    known = market.series_currency()
    return np.array([known.get(key) for key in keys], dtype=object)


def _only(obs: Observations, keys: Sequence[str]) -> Observations:
    """The observations of these series alone."""
    wanted = np.isin(obs.codes(obs.keys), obs.codes(keys))
    if wanted.all():
        return obs
    code = (np.cumsum(wanted) - 1).astype(np.int32)
    rows = wanted[obs.code]
    return Observations(
        obs.keys[wanted], code[obs.code[rows]], obs.date[rows], obs.price[rows], obs.limit[rows], obs.mark[rows]
    )


def _observed(obs: Observations, start: date, end: date) -> pd.DataFrame:
    rows = (obs.date >= np.datetime64(start, "D")) & (obs.date <= np.datetime64(end, "D"))
    dates = obs.date[rows].astype("datetime64[us]")
    return pd.DataFrame(
        {
            "Date": dates,
            "Asset": pd.Series(obs.keys, dtype=str).take(obs.code[rows]).array,
            "Last_Price": obs.price[rows],
            "Price_Date": dates,
            "Status": pd.Series("ok", index=range(len(dates)), dtype=str).array,
        }
    ).sort_values(["Asset", "Date"], ignore_index=True)


def _with_latest(
    obs: Observations, latest: Mapping[str, tuple[date, float]], today: date
) -> tuple[Observations, dict[str, date]]:
    """``obs`` with the current prices that are newer than it, and the dates of those."""
    newer: list[tuple[int, date, float]] = []
    for code, key in enumerate(obs.keys):
        if key in latest and latest[key][0] <= today:
            day, price = latest[key]
            known = obs.series(key)[0]
            if not len(known) or np.datetime64(day, "D") > known[-1]:
                newer.append((code, day, price))
    if not newer:
        return obs, {}
    codes = np.array([code for code, _, _ in newer], dtype=np.int32)
    at = np.searchsorted(obs.code, codes, side="right")
    limit = np.where(at > np.searchsorted(obs.code, codes), obs.limit[np.maximum(at - 1, 0)] if len(obs) else 10, 10)
    extended = replace(
        obs,
        code=np.insert(obs.code, at, codes),
        date=np.insert(obs.date, at, np.array([day for _, day, _ in newer], dtype="datetime64[D]")),
        price=np.insert(obs.price, at, [price for _, _, price in newer]),
        limit=np.insert(obs.limit, at, limit),
        mark=np.insert(obs.mark, at, False),
    )
    return extended, {obs.keys[code]: day for code, day, _ in newer}
