"""Seeded lakes: daily prices of many assets, as the firm's tables have them, in several layouts.

Two markets. ``quoted``: every series has a price on every business day. ``real``: some are listed late,
delisted or suspended, have no price on a day, no series or no known currency, or share their series with a
BDR; quotes are in four currencies, the clean coupon ends two days before spot, and Canada's rate begins
late: every status of a return but ``carried`` occurs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.azurite import Azurite

REF = date(2026, 10, 31)
TABLES = Path("enriched", "parquet")
PRICES = "hist_px_last"
GROUP_ROWS = 128 * 1024
_RATES = {"usdbrl curncy": 5.0, "bmfxclco curncy": 5.1, "usdeur curncy": 0.9, "cad curncy": 1.35}
_CLEAN_FROM, _CAD_FROM = np.datetime64("2011-04-14"), np.datetime64("2024-06-03")
_MONTH = np.timedelta64(30, "D")


@dataclass(frozen=True)
class Market:
    """The rows of the two tables: ``Date, Asset, Last_Price`` sorted by date; and the asset master."""

    prices: pa.Table
    assets: pa.Table


@lru_cache(maxsize=1)
def market(kind: str, assets: int, years: int) -> Market:
    """``years`` of business days up to the reference date; the same for the same arguments."""
    rng = np.random.default_rng(20261031)
    end = np.datetime64(REF)
    days = np.arange(end - np.timedelta64(int(years * 365.25), "D"), end + 1)
    days = days[np.is_busday(days)]
    series = [f"asset{n:04d} equity" for n in range(assets)]
    names = np.array([*series, *_RATES])
    level = np.array([100.0] * assets + [*_RATES.values()])
    price = level * np.exp(np.cumsum(rng.normal(0, 0.01, (len(days), len(names))), axis=0))
    row = np.ones(price.shape, dtype=bool)
    row[days < _CLEAN_FROM, assets + 1] = False
    location = np.full(assets, "us", dtype=object)
    kept = np.ones(assets, dtype=bool)
    if kind == "real":
        order = iter(rng.permutation(assets))

        def some(share: float) -> list[int]:
            """The next few assets, in no other of these groups."""
            return [int(next(order)) for _ in range(max(2, round(assets * share)))]

        for n in some(0.05):  # listed within the last 36 months
            row[days < end - rng.integers(1, 36) * _MONTH, n] = False
        for n in some(0.05):  # delisted within the last 10 years
            row[days > end - rng.integers(1, 120) * _MONTH, n] = False
        for n in some(0.02):  # suspended for months, over one of the base dates
            first = end - rng.choice([1, 10, 12, 24, 36]) * _MONTH - rng.integers(20, 60)
            row[(days >= first) & (days < first + rng.integers(60, 250)), n] = False
        kept[some(0.005)] = False
        location[some(0.005)] = "mars"
        location[some(0.005)] = None
        for share, where in ((0.2, "bz"), (0.1, "eur"), (0.05, "cn")):
            location[some(share)] = where
        row[-2:, assets + 1] = False
        row[days < _CAD_FROM, assets + 3] = False
        price[:, :assets][rng.random((len(days), assets)) < 0.002] = np.nan
        row[:, :assets] &= kept
    flat = np.flatnonzero(row)
    prices = pa.table(
        {
            "Date": pa.array(days.astype("datetime64[us]")[flat // len(names)]),
            "Asset": pa.array(names).take(pa.array((flat % len(names)).astype(np.int32))),
            "Last_Price": pa.array(price.ravel()[flat], from_pandas=True),
        }
    )
    return Market(prices, _assets(series, location, ["bz"] * max(2, assets // 100) if kind == "real" else []))


def _assets(series: list[str], location: np.ndarray[Any, Any], bdrs: list[str]) -> pa.Table:
    """A row a series, and BDRs that share one: their place says nothing of its currency."""
    short = [name.split()[0] for name in series]
    wanted = [n for n, where in enumerate(location) if where == "us"][: len(bdrs)]
    assets = [*short, *(f"bdr of {short[n]}" for n in wanted)]
    ticker = [*series, *(series[n] for n in wanted)]
    return pa.table(
        {
            "Key": [f"{asset}_{name}" for asset, name in zip(assets, ticker, strict=True)],
            "Asset": assets,
            "Name": assets,
            "Ticker": ticker,
            "Ticker_BBG": ticker,
            "Group": ["ações"] * len(assets),
            "Type": ["ações_us"] * len(series) + ["ações_bdr"] * len(bdrs),
            "Location": pa.array([*location, *bdrs], pa.string()),
        }
    )


# --- layouts ---------------------------------------------------------------------------------------


def _typed(tables: Path, data: Market) -> None:
    """One file each, sorted by date, as any program would write it."""
    pq.write_table(data.prices, tables / f"{PRICES}.parquet", row_group_size=GROUP_ROWS)
    pq.write_table(data.assets, tables / "assets.parquet")


def _text(tables: Path, data: Market) -> None:
    """The legacy layout: every cell text, in no order, row groups as pandas makes them."""
    order = np.random.default_rng(7).permutation(len(data.prices))
    prices = data.prices.set_column(0, "Date", data.prices["Date"].cast(pa.date32())).take(pa.array(order))
    for name, table in ((PRICES, prices), ("assets", data.assets)):
        cells = [pc.fill_null(column.cast(pa.string()), "nan") for column in table.columns]
        pq.write_table(pa.table(cells, names=table.column_names), tables / f"{name}.parquet")


def _months(tables: Path, data: Market) -> None:
    """A file a month, in Hive's naming."""
    for label, rows in by_month(data.prices):
        folder = tables / PRICES / f"month={label}"
        folder.mkdir(parents=True)
        pq.write_table(rows, folder / "data.parquet", row_group_size=GROUP_ROWS)
    pq.write_table(data.assets, tables / "assets.parquet")


def _optimized(tables: Path, data: Market) -> None:
    """The file as others write it, then as `luxor optimize` leaves it."""
    from luxor_pipelines.lake.storage.connect import connect
    from luxor_pipelines.lake.table.optimize import optimize
    from luxor_pipelines.lake.table.table import Table

    _typed(tables, data)
    for name in (PRICES, "assets"):
        optimize(Table(connect(str(tables.parent.parent)), name))


LAYOUTS: dict[str, Callable[[Path, Market], None]] = {
    "typed": _typed,
    "text": _text,
    "months": _months,
    "optimized": _optimized,
}


def by_month(rows: pa.Table) -> list[tuple[str, pa.Table]]:
    """The rows of each month; they are sorted by date."""
    months = rows["Date"].to_numpy().astype("datetime64[M]")
    labels, starts = np.unique(months, return_index=True)
    ends = [*starts[1:], len(rows)]
    return [(str(m), rows.slice(a, b - a)) for m, a, b in zip(labels, starts, ends, strict=True)]


@dataclass(frozen=True)
class Size:
    """Assets; the years of the short, the usual and the long history of prices; the months of the table of loads."""

    assets: int = 2000
    years: tuple[int, int, int] = (5, 20, 40)
    months: int = 240


SMALL = Size(120, (4, 5, 6), 6)


class Lakes:
    """Makes each lake when it is first asked for, below one folder."""

    def __init__(self, root: Path, size: Size, azurite: Azurite | None) -> None:
        self.root = root
        self.assets, self.months = size.assets, size.months
        self.short, self.years, self.long = size.years
        self.azurite = azurite

    def local(self, layout: str = "typed", kind: str = "real", years: int | None = None) -> str:
        """The folder of a lake."""
        folder = self.root / f"{kind}-{layout}-{years or self.years}"
        if not folder.exists():
            (folder / TABLES).mkdir(parents=True)
            LAYOUTS[layout](folder / TABLES, market(kind, self.assets, years or self.years))
        return str(folder)

    def remote(self, folder: str) -> dict[str, str]:
        """What names the copy of a local lake on Azurite."""
        assert self.azurite is not None
        container = self.azurite.container(Path(folder).name)
        self.azurite.upload(container, Path(folder))
        return {"connection": self.azurite.connection_string, "container": container}

    def empty(self, name: str) -> str:
        """The folder of a new lake without tables."""
        (self.root / name).mkdir(parents=True)
        return str(self.root / name)


def measurements(turn: int, assets: int, months: int) -> pd.DataFrame:
    """One row a month end and asset, and 18 numbers: a table like `hist_returns`, the numbers of this turn."""
    rng = np.random.default_rng(turn)
    ends = pd.date_range(end=pd.Timestamp(REF), periods=months, freq="ME", unit="us")
    frame = pd.DataFrame(
        {
            "Date": np.repeat(ends.to_numpy(), assets),
            "Key": np.tile(np.array([f"asset{n:04d}" for n in range(assets)], dtype=object), months),
        }
    )
    numbers = rng.normal(0, 0.1, (len(frame), 18))
    return frame.assign(**{f"Number_{n + 1:02d}": numbers[:, n] for n in range(18)})
