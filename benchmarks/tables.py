"""`get_table`: three columns of a table of ten million rows, as a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.lakes import PRICES, TABLES, Lakes
from benchmarks.measure import Case, Contender, Target
from benchmarks.returns import open_lake

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["Date", "Asset", "Last_Price"]


def luxor(lake: str) -> Callable[[], pd.DataFrame]:
    return lambda: open_lake(lake).get_table(PRICES, columns=COLUMNS)


def pyarrow(lake: str) -> Callable[[], pd.DataFrame]:
    import pyarrow.parquet as pq

    path = Path(lake) / TABLES / f"{PRICES}.parquet"
    return lambda: pq.read_table(path, columns=COLUMNS).to_pandas()


def polars(lake: str) -> Callable[[], pd.DataFrame]:
    import polars as pl

    path = Path(lake) / TABLES / f"{PRICES}.parquet"
    return lambda: pl.read_parquet(path, columns=COLUMNS).to_pandas()


def cases(lakes: Lakes) -> Iterable[Case]:
    lake = {"lake": lakes.local()}
    contenders = [
        Contender("luxor", "tables:luxor", lake),
        Contender("pyarrow and to_pandas", "tables:pyarrow", lake),
        Contender("Polars and to_pandas", "tables:polars", lake),
    ]
    target = Target("get_table, 3 columns", "luxor", 1.1, "pyarrow and to_pandas")
    yield Case("tables", "`get_table`: the three columns of the whole price table", contenders, [target])
