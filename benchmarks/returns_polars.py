"""`hist_returns` of one month, in Polars."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import rates
from benchmarks.returns import BASES, COLUMNS, CURRENCIES, DATES, PERIODS, REF

WINDOW = timedelta(days=rates.LIMIT)
LOCAL = pl.col("Currency") == "local"


def hist_returns(lake: str, *, text: bool = False) -> Callable[[], pl.DataFrame]:
    """The windows first; then all of history, but only of series for which a window has no price."""
    tables = Path(lake, "enriched", "parquet")

    def run() -> pl.DataFrame:
        assets = master(tables / "assets.parquet", text=text)
        prices = _prices(tables)
        found = _last(valid(prices.filter(_near(text=text)), text=text).collect(engine="streaming"))
        names = pl.concat([assets["Price_Key"].drop_nulls(), pl.Series(rates.NAMES)]).unique()
        answered = found.group_by("Asset").len().filter(pl.col("len") == len(DATES))["Asset"]
        wanted = names.filter(~names.is_in(answered.implode())).to_list()
        series = _series(found)
        if rates.needs_history(series, DATES):
            wanted += [rates.CLEAN, rates.SPOT]
        if wanted:
            history = valid(prices.filter(pl.col("Asset").is_in(wanted)), text=text).collect(engine="streaming")
            found = pl.concat([found.filter(~pl.col("Asset").is_in(wanted)), _last(history)])
            series |= _series(history)
        return _frame(assets, _filled(found, names), rates.factors(series, DATES))

    return run


def windows_only(lake: str) -> Callable[[], pl.DataFrame]:
    """What has no price in a window is null, and nobody asks whether it is stale, missing or too new."""
    tables = Path(lake, "enriched", "parquet")

    def run() -> pl.DataFrame:
        assets = master(tables / "assets.parquet", text=False)
        found = _last(valid(_prices(tables).filter(_near(text=False)), text=False).collect(engine="streaming"))
        return _frame(assets, found, rates.factors(_series(found), DATES)).drop("Status")

    return run


def _prices(tables: Path) -> pl.LazyFrame:
    file = tables / "hist_px_last.parquet"
    return pl.scan_parquet(file if file.exists() else file.with_suffix("")).select("Date", "Asset", "Last_Price")


def _near(*, text: bool) -> pl.Expr:
    """In one of the windows; ISO text sorts as its dates do."""
    spans = [(day - WINDOW, day) for day in DATES]
    bounds = [(pl.lit(str(a)), pl.lit(str(b))) for a, b in spans] if text else spans
    return pl.any_horizontal(pl.col("Date").is_between(a, b) for a, b in bounds)


def valid(prices: pl.LazyFrame, *, text: bool) -> pl.LazyFrame:
    """The observations: finite prices above 0."""
    day = pl.col("Date").str.to_date() if text else pl.col("Date").dt.date()
    typed = prices.with_columns(day, pl.col("Last_Price").cast(pl.Float64, strict=False))
    return typed.filter(pl.col("Last_Price") > 0, pl.col("Last_Price").is_finite())


def _last(rows: pl.DataFrame) -> pl.DataFrame:
    """Each series' last observation of those that lie between one of the dates and the next."""
    upto = pl.when(pl.col("Date") <= DATES[0]).then(DATES[0])
    for day in DATES[1:]:
        upto = upto.when(pl.col("Date") <= day).then(day)
    last = [pl.col("Date").max(), pl.col("Last_Price").max_by("Date")]
    return rows.group_by("Asset", upto.alias("asof")).agg(last).filter(pl.col("asof").is_not_null())


def _filled(found: pl.DataFrame, names: pl.Series) -> pl.DataFrame:
    """Each series' last observation on or before each date, of any age."""
    asked = pl.DataFrame({"asof": DATES}).join(pl.DataFrame({"Asset": names}), how="cross", maintain_order="left")
    rows = asked.join(found, on=["Asset", "asof"], how="left", maintain_order="left")
    return rows.with_columns(pl.col("Date", "Last_Price").forward_fill().over("Asset"))


def _series(rows: pl.DataFrame) -> dict[str, list[tuple[Any, ...]]]:
    few = rows.filter(pl.col("Asset").is_in(rates.NAMES)).sort("Date")
    return {str(name): part.select("Date", "Last_Price").rows() for (name,), part in few.group_by("Asset")}


def master(path: Path, *, text: bool) -> pl.DataFrame:
    """Each asset's price series, and that series' currency: what its assets, BDRs left out, agree on."""
    assets = pl.scan_parquet(path).select("Key", "Ticker", "Ticker_BBG", "Group", "Location", "Type")
    if text:
        assets = assets.with_columns(pl.all().replace({"nan": None}))
    house = pl.col("Group").is_in(["vc", "luxor"]) | pl.col("Ticker_BBG").is_null()
    assets = assets.with_columns(Price_Key=pl.when(house).then("Ticker").otherwise("Ticker_BBG"))
    places = pl.col("Location").drop_nulls()
    currencies = (
        assets.filter(pl.col("Type") != "ações_bdr")
        .group_by("Price_Key")
        .agg(pl.when(places.n_unique() == 1).then(places.first()).alias("place"))
        .select("Price_Key", Local_Currency=pl.col("place").replace_strict(rates.LOCATIONS, default=None))
    )
    return assets.select("Key", "Price_Key").join(currencies, on="Price_Key", how="left").collect()


def _frame(assets: pl.DataFrame, asof: pl.DataFrame, factors: list[tuple[Any, ...]]) -> pl.DataFrame:
    factor = pl.LazyFrame(factors, ["Local_Currency", "Currency", "asof", "factor"], orient="row")
    end = asof.lazy().filter(pl.col("asof") == REF)
    end = end.select(Price_Key="Asset", End_Date="Date", end="Last_Price")
    base = asof.lazy().select("asof", Price_Key="Asset", Base_Date="Date", base="Last_Price")
    end_factor = factor.filter(pl.col("asof") == REF).select("Local_Currency", "Currency", end_factor="factor")
    base_factor = factor.rename({"factor": "base_factor"})
    rows = (
        assets.lazy()
        .join(end, on="Price_Key", how="left")
        .join(pl.LazyFrame({"Currency": CURRENCIES}), how="cross")
        .join(end_factor, on=["Local_Currency", "Currency"], how="left")
        .join(pl.LazyFrame({"Period": PERIODS, "asof": BASES}), how="cross")
        .join(base, on=["Price_Key", "asof"], how="left")
        .join(base_factor, on=["Local_Currency", "Currency", "asof"], how="left")
    )
    at_end, at_base = (pl.when(LOCAL).then(1.0).otherwise(name) for name in ("end_factor", "base_factor"))
    rows = rows.with_columns(End_Price=pl.col("end") * at_end, Base_Price=pl.col("base") * at_base)
    status = (
        pl.when(pl.col("End_Date").is_null()).then(pl.lit("unknown"))  # no series here begins after REF
        .when(~LOCAL & pl.col("Local_Currency").is_null()).then(pl.lit("missing_currency"))
        .when((pl.col("End_Date") < REF - WINDOW) | (pl.col("End_Date") <= pl.col("asof"))).then(pl.lit("stale_end"))
        .when(pl.col("Base_Date").is_null()).then(pl.lit("no_base"))
        .when(pl.col("Base_Date") < pl.col("asof") - WINDOW).then(pl.lit("stale_base"))
        .when(at_end.is_null() | at_base.is_null()).then(pl.lit("no_fx"))
        .otherwise(pl.lit("ok"))
    )  # fmt: skip
    rows = rows.with_columns(Date=pl.lit(REF), Status=status)
    growth = pl.when(pl.col("Status") == "ok").then(pl.col("End_Price") / pl.col("Base_Price") - 1)
    return rows.with_columns(Return=growth).select(COLUMNS).collect()
