"""Price files into a table: a thousand of 10,000 rows, and one of ten million, beside Polars doing the same.

Every row is checked: a date, a name in its normal form, a positive number, one price a key. The table has a file a
year; stored rows of the same keys are replaced. The files go into a new table, again into the one they made, where
nothing changes, and with other prices in each turn, where every row does.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.dataset as ds

from benchmarks.lakes import TABLES, Lakes
from benchmarks.measure import Case, Contender
from benchmarks.returns import open_lake

TABLE = "hist_file_px_last"
ASSETS = 2_000
NOW = datetime(2026, 11, 3, 18, 30, tzinfo=UTC)


def write_files(folder: Path, files: int, rows: int, turn: int = 0) -> None:
    """Files of a long shape, sorted by date; the prices are random, from a seed and the turn."""
    folder.mkdir(parents=True, exist_ok=True)
    names = np.array([f"Asset{number:04d} US Equity" for number in range(ASSETS)])
    rng = np.random.default_rng(20261103 + turn)
    for number in range(files):
        place = np.arange(number * rows, (number + 1) * rows)
        day = np.datetime64("1999-01-04") + place // ASSETS
        cells = {
            "Date": pa.array(day).cast(pa.string()),
            "Asset": pa.array(names).take(pa.array(place % ASSETS)),
            "Last_Price": np.round(rng.uniform(1, 500, rows), 2),
        }
        options = pa_csv.WriteOptions(quoting_style="none")
        pa_csv.write_csv(pa.table(cells), folder / f"p{number:04d}.csv", options)


def corrected(turn: int, lake: str, files: int, rows: int, **_: Any) -> int:
    """Write the same files with the prices of this turn, once for all contenders."""
    mark = Path(lake, "turn.txt")
    if not mark.exists() or mark.read_text() != str(turn):
        write_files(Path(lake, "raw", "prices"), files, rows, turn)
        mark.write_text(str(turn))
    return turn


def luxor(lake: str, again: bool, **_: Any) -> Callable[..., pa.Table]:
    from luxor_pipelines.pipelines import market_prices

    if again:
        market_prices.run(lq=open_lake(lake), now=NOW)

    def run(_turn: int = 0) -> pa.Table:
        if not again:
            shutil.rmtree(Path(lake) / TABLES / TABLE, ignore_errors=True)
        market_prices.run(lq=open_lake(lake), now=NOW)
        return _some(Path(lake) / TABLES / TABLE)

    return run


def polars(lake: str, again: bool, **_: Any) -> Callable[..., pa.Table]:
    import polars as pl

    target = Path(lake) / "polars"

    def load() -> None:
        rows = (
            pl.scan_csv(
                f"{lake}/raw/prices/*.csv", schema={"Date": pl.String, "Asset": pl.String, "Last_Price": pl.String}
            )
            .select(
                pl.col("Date").str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")),
                pl.col("Asset").str.strip_chars().str.to_lowercase(),
                pl.col("Last_Price").cast(pl.Float64, strict=False),
            )
            .filter(pl.col("Date").is_not_null() & (pl.col("Asset") != "") & pl.col("Last_Price").is_finite())
            .filter(pl.col("Last_Price") > 0)
            .unique(["Date", "Asset"], keep="last", maintain_order=True)
            .collect()
        )
        for (year,), part in (
            rows.with_columns(year=pl.col("Date").dt.year()).partition_by("year", as_dict=True).items()
        ):
            path = target / f"year={year}" / "data.parquet"
            new = part.drop("year")
            if path.exists():
                new = pl.concat([pl.read_parquet(path), new]).unique(["Date", "Asset"], keep="last")
            path.parent.mkdir(parents=True, exist_ok=True)
            new.sort("Date", "Asset").write_parquet(path)

    if again:
        load()

    def run(_turn: int = 0) -> pa.Table:
        if not again:
            shutil.rmtree(target, ignore_errors=True)
        load()
        return _some(target)

    return run


def _some(folder: Path) -> pa.Table:
    """The last days of what was loaded, and how many rows there are."""
    data = ds.dataset(folder, partitioning="hive", exclude_invalid_files=True)
    last = max(path.name for path in folder.glob("year=*")).partition("=")[2]
    rows = data.to_table(["Date", "Asset", "Last_Price"], filter=ds.field("year") == int(last))
    return rows.append_column("Rows", pa.array([data.count_rows()] * len(rows)))


def cases(lakes: Lakes) -> Iterator[Case]:
    """The two piles of files: into a new table, again into the one that they made, and corrected into that."""
    small = lakes.assets < ASSETS
    for name, files, rows in (("price-files-many", 1_000, 10_000), ("price-files-one", 1, 10_000_000)):
        count, each = (min(files, 5), min(rows, 4_000)) if small else (files, rows)
        lake = lakes.empty(name)
        write_files(Path(lake, "raw", "prices"), count, each)
        contenders = [
            Contender(f"{title}, {way}", f"price_files:{function}", {"lake": lake, "again": again})
            for way, again in (("new table", False), ("again", True))
            for title, function in (("luxor", "luxor"), ("Polars", "polars"))
        ]
        yield Case(name, f"Price files: {count:,} × {each:,} rows", contenders, key=("Date", "Asset"))
        arguments = {"lake": lake, "again": True, "files": count, "rows": each}
        yield Case(
            f"{name}-corrected",
            f"Price files: {count:,} × {each:,} rows, all corrected, into the table that has them",
            [Contender("luxor", "price_files:luxor", arguments), Contender("Polars", "price_files:polars", arguments)],
            key=("Date", "Asset"),
            batch="price_files:corrected",
        )
