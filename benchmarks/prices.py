"""`get_prices`: a price a calendar day, converted to BRL, of many assets over ten years."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import rates
from benchmarks.lakes import PRICES, REF, TABLES, Lakes
from benchmarks.measure import Case, Contender, Target
from benchmarks.returns import open_lake

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

START = REF.replace(year=REF.year - 10)
REACH = START - timedelta(days=rates.LIMIT)


def luxor(lake: str, names: list[str]) -> Callable[[], pd.DataFrame]:
    return lambda: open_lake(lake).get_prices(names, REF, START, currency="brl")


def polars(lake: str, names: list[str]) -> Callable[[], pl.DataFrame]:
    """A grid of series and days, filled forward for up to ten days, times the rate of the day."""
    import polars as pl

    from benchmarks.returns_polars import master, valid

    tables = Path(lake) / TABLES
    days = pl.select(Date=pl.date_range(REACH, REF))

    def run() -> pl.DataFrame:
        prices = pl.scan_parquet(tables / f"{PRICES}.parquet").select("Date", "Asset", "Last_Price")
        wanted = [*names, *rates.NAMES]
        span = prices.filter(pl.col("Asset").is_in(wanted), pl.col("Date").is_between(REACH, REF))
        near = valid(span, text=False).collect(engine="streaming")
        # A series that was quoted before the days just read begins at the start, if with a stale price.
        first = near.group_by("Asset").agg(pl.col("Date").min().alias("first"))
        begun = first.filter(pl.col("first") <= START)["Asset"]
        old = [*set(names).difference(begun), *rates.NAMES]
        past = prices.filter(pl.col("Asset").is_in(old), pl.col("Date") < REACH)
        before = valid(past, text=False).collect(engine="streaming")
        first = pl.concat([first, before.select("Asset", first=pl.lit(START)).unique()])
        first = first.group_by("Asset").agg(pl.max_horizontal(pl.col("first").min(), pl.lit(START)))
        own = master(tables / "assets.parquet", text=False).unique("Price_Key").rename({"Price_Key": "Asset"})
        series = (
            first.filter(pl.col("Asset").is_in(names))
            .join(own.select("Asset", pl.col("Local_Currency").fill_null("")), on="Asset", how="left")
            .with_columns(pl.col("Local_Currency").fill_null(""))
            .sort("Asset")
            .with_row_index("code")
        )
        # The grid in order, so that the cell of a price is known by its number: far quicker than joining by name.
        grid = series.lazy().join(_rates(pl.concat([before, near]), days), on="Local_Currency",
                                  maintain_order="left_right").with_row_index("cell")  # fmt: skip
        day = (pl.col("Date") - REACH).dt.total_days().cast(pl.UInt32)
        cells = near.lazy().join(series.lazy().select("Asset", "code"), on="Asset")
        cells = cells.select("Last_Price", cell=pl.col("code") * len(days) + day)
        return (
            grid.join(cells, on="cell", how="left", maintain_order="left")
            .with_columns(pl.col("Last_Price").forward_fill(rates.LIMIT).over("code"))
            .filter(pl.col("Date") >= pl.col("first"))
            .select("Date", "Asset", Last_Price=pl.col("Last_Price") * pl.col("factor"))
            .collect()
        )

    return run


def _rates(found: pl.DataFrame, days: pl.DataFrame) -> pl.LazyFrame:
    """What turns each currency into BRL, a day: the chain of `rates`, for thousands of days at once.

    The currency that is not known is blank, and its factor null.
    """
    import polars as pl

    few = found.filter(pl.col("Asset").is_in(rates.NAMES)).sort("Date")
    series = {name: few.filter(pl.col("Asset") == name) for name in rates.NAMES}
    table = days.lazy()
    for name in rates.NAMES:
        part = series[name].select("Date", pl.col("Last_Price").alias(name), pl.col("Date").alias(f"{name} at")).lazy()
        table = table.join_asof(part, on="Date", coalesce=True)
        fresh = pl.col("Date") - pl.col(f"{name} at") <= timedelta(days=rates.LIMIT)
        table = table.with_columns(pl.when(fresh).then(name).alias(name))
    clean, spot = series[rates.CLEAN].rows(), [(day, price) for day, _, price in series[rates.SPOT].rows()]
    brl: Any = pl.col(rates.SPOT)
    if clean:
        brl = pl.col(rates.CLEAN)
        (first, _, at_first), (last, _, at_last) = clean[0], clean[-1]
        spot_last, spot_first = (rates.fresh(spot, day) for day in (last, first))
        if spot_last is not None:
            after = pl.col(f"{rates.SPOT} at") > last
            brl = pl.when(after).then(at_last * pl.col(rates.SPOT) / spot_last).otherwise(brl)
        before = at_first * pl.col(rates.SPOT) / spot_first if spot_first is not None else None
        brl = pl.when(pl.col("Date") < first).then(before).otherwise(brl)
    per_usd = {"usd": 1.0, **{iso: pl.col(name) for iso, name in rates.SERIES.items() if iso != "brl"}}
    factors = [(brl / rate).alias(iso) for iso, rate in per_usd.items()]
    wide = table.select("Date", *factors, pl.lit(1.0).alias("brl"), pl.lit(None, pl.Float64).alias(""))
    return wide.unpivot(index="Date", variable_name="Local_Currency", value_name="factor")


def cases(lakes: Lakes) -> Iterable[Case]:
    import pyarrow.parquet as pq

    lake = lakes.local()
    keys = pq.read_table(Path(lake) / TABLES / "assets.parquet", columns=["Ticker_BBG"])["Ticker_BBG"]
    arguments = {"lake": lake, "names": sorted(set(keys.to_pylist()[::4]))}
    contenders = [
        Contender("luxor", "prices:luxor", arguments),
        Contender("Polars", "prices:polars", arguments),
    ]
    title = f"`get_prices`: {len(arguments['names'])} series, ten years of calendar days, in BRL"
    yield Case("prices", title, contenders, [Target("get_prices, continuous days, BRL", "luxor", 1.0, "Polars")])
