"""`hist_returns` of one month, in pandas."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import rates
from benchmarks.returns import BASES, COLUMNS, CURRENCIES, DATES, PERIODS, REF

WINDOW = pd.Timedelta(days=rates.LIMIT)
STAMPS = pd.DatetimeIndex(DATES).as_unit("us")


def hist_returns(lake: str, *, text: bool = False) -> Callable[[], pd.DataFrame]:
    """The windows first; then all of history, but only of series for which a window has no price."""
    tables = Path(lake, "enriched", "parquet")
    spans = [(day - timedelta(days=rates.LIMIT), day) for day in DATES]
    bounds = [(str(a), str(b)) if text else (pd.Timestamp(a), pd.Timestamp(b)) for a, b in spans]
    near = [[("Date", ">=", first), ("Date", "<=", last)] for first, last in bounds]

    def run() -> pd.DataFrame:
        assets = _assets(tables / "assets.parquet", text=text)
        found = _last(_observations(tables, near))
        names = pd.Index([*assets["Price_Key"].dropna(), *rates.NAMES]).unique()
        answered = found["Asset"].value_counts()
        wanted = names.difference(answered.index[answered == len(DATES)]).tolist()
        series = _series(found)
        if rates.needs_history(series, DATES):
            wanted += [rates.CLEAN, rates.SPOT]
        if wanted:
            history = _observations(tables, [("Asset", "in", wanted)])
            found = pd.concat([found[~found["Asset"].isin(wanted)], _last(history)])
            series |= _series(history)
        return _frame(assets, _filled(found, names), rates.factors(series, DATES))

    return run


def _observations(tables: Path, filters: list[Any]) -> pd.DataFrame:
    """The finite prices above 0."""
    file = tables / "hist_px_last.parquet"
    path = file if file.exists() else file.with_suffix("")
    rows = pd.read_parquet(path, columns=["Date", "Asset", "Last_Price"], filters=filters)
    rows["Date"] = pd.to_datetime(rows["Date"]).dt.as_unit("us")
    rows["Last_Price"] = pd.to_numeric(rows["Last_Price"], errors="coerce")
    return rows[(rows["Last_Price"] > 0) & np.isfinite(rows["Last_Price"])]


def _last(rows: pd.DataFrame) -> pd.DataFrame:
    """Each series' last observation of those that lie between one of the dates and the next."""
    rows = rows[rows["Date"] <= STAMPS[-1]].sort_values("Date")
    rows["asof"] = STAMPS[STAMPS.searchsorted(rows["Date"])]
    return rows.drop_duplicates(["Asset", "asof"], keep="last")


def _filled(found: pd.DataFrame, names: pd.Index) -> pd.DataFrame:
    """Each series' last observation on or before each date, of any age."""
    asked = pd.MultiIndex.from_product([names, STAMPS], names=["Asset", "asof"])
    rows = found.set_index(["Asset", "asof"])[["Date", "Last_Price"]].reindex(asked)
    return rows.groupby(level="Asset", sort=False).ffill().reset_index()


def _series(rows: pd.DataFrame) -> dict[str, list[Any]]:
    few = rows[rows["Asset"].isin(rates.NAMES)].sort_values("Date")
    parts = few.groupby("Asset")
    return {str(name): list(zip(part["Date"].dt.date, part["Last_Price"], strict=True)) for name, part in parts}


def _assets(path: Path, *, text: bool) -> pd.DataFrame:
    """Each asset's price series, and that series' currency: what its assets, BDRs left out, agree on."""
    assets = pd.read_parquet(path, columns=["Key", "Ticker", "Ticker_BBG", "Group", "Location", "Type"])
    if text:
        assets = assets.replace("nan", None)
    house = assets["Group"].isin(["vc", "luxor"]) | assets["Ticker_BBG"].isna()
    assets["Price_Key"] = assets["Ticker"].where(house, assets["Ticker_BBG"])
    places = assets[assets["Type"] != "ações_bdr"].groupby("Price_Key")["Location"].agg(["nunique", "first"])
    currency = places["first"].where(places["nunique"] == 1).map(rates.LOCATIONS)
    return assets[["Key", "Price_Key"]].assign(Local_Currency=assets["Price_Key"].map(currency))


def _frame(assets: pd.DataFrame, asof: pd.DataFrame, factors: list[tuple[Any, ...]]) -> pd.DataFrame:
    factor = pd.DataFrame(factors, columns=["Local_Currency", "Currency", "asof", "factor"])
    factor["asof"] = pd.to_datetime(factor["asof"]).dt.as_unit("us")
    ref = pd.Timestamp(REF)
    periods = pd.DataFrame({"Period": PERIODS, "asof": pd.DatetimeIndex(BASES).as_unit("us")})
    end = asof[asof["asof"] == ref].rename(columns={"Asset": "Price_Key", "Date": "End_Date", "Last_Price": "end"})
    base = asof.rename(columns={"Asset": "Price_Key", "Date": "Base_Date", "Last_Price": "base"})
    end_factor = factor[factor["asof"] == ref].rename(columns={"factor": "end_factor"}).drop(columns="asof")
    rows = (
        assets.merge(end.drop(columns="asof"), on="Price_Key", how="left")
        .merge(pd.DataFrame({"Currency": CURRENCIES}), how="cross")
        .merge(end_factor, on=["Local_Currency", "Currency"], how="left")
        .merge(periods, how="cross")
        .merge(base, on=["Price_Key", "asof"], how="left")
        .merge(factor.rename(columns={"factor": "base_factor"}), on=["Local_Currency", "Currency", "asof"], how="left")
    )
    local = rows["Currency"] == "local"
    at_end, at_base = rows["end_factor"].mask(local, 1.0), rows["base_factor"].mask(local, 1.0)
    rows["End_Price"], rows["Base_Price"] = rows["end"] * at_end, rows["base"] * at_base
    conditions = {
        "unknown": rows["End_Date"].isna(),
        "missing_currency": ~local & rows["Local_Currency"].isna(),
        "stale_end": (rows["End_Date"] < ref - WINDOW) | (rows["End_Date"] <= rows["asof"]),
        "no_base": rows["Base_Date"].isna(),
        "stale_base": rows["Base_Date"] < rows["asof"] - WINDOW,
        "no_fx": at_end.isna() | at_base.isna(),
    }
    rows["Status"] = np.select(list(conditions.values()), list(conditions), "ok")
    rows["Return"] = (rows["End_Price"] / rows["Base_Price"] - 1).where(rows["Status"] == "ok")
    return rows.assign(Date=ref)[COLUMNS]
