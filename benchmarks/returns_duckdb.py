"""`hist_returns` of one month, in DuckDB's SQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from benchmarks import rates
from benchmarks.returns import BASES, COLUMNS, CURRENCIES, DATES, PERIODS, REF

WINDOW = timedelta(days=rates.LIMIT)
UPTO = "CASE " + " ".join(f"WHEN Date <= '{day}' THEN DATE '{day}'" for day in DATES) + " END"

ASSETS = """
CREATE OR REPLACE TEMP TABLE assets AS
WITH master AS (SELECT Key, Location, Type, CASE WHEN "Group" IN ('vc', 'luxor') OR Ticker_BBG IS NULL
                       THEN Ticker ELSE Ticker_BBG END AS Price_Key FROM ({source})),
     places AS (SELECT Price_Key, CASE WHEN count(DISTINCT Location) = 1 THEN any_value(Location) END AS Location
                FROM master WHERE Type <> 'ações_bdr' GROUP BY Price_Key)
SELECT Key, Price_Key, currency.Local_Currency FROM master
LEFT JOIN places USING (Price_Key) LEFT JOIN (VALUES {locations}) currency(Location, Local_Currency)
       ON places.Location = currency.Location"""

OBSERVATIONS = """
CREATE OR REPLACE TEMP TABLE {name} AS
SELECT * FROM (SELECT CAST(Date AS DATE) AS Date, Asset, TRY_CAST(Last_Price AS DOUBLE) AS Last_Price
               FROM {source} WHERE {condition})
WHERE Last_Price > 0 AND isfinite(Last_Price)"""

LAST = f"""
SELECT Asset, {UPTO} AS asked, max(Date) AS Date, arg_max(Last_Price, Date) AS Last_Price
FROM {{name}} GROUP BY ALL HAVING asked IS NOT NULL"""

MISSING = f"""
CREATE OR REPLACE TEMP TABLE wanted AS
SELECT name FROM (SELECT Price_Key AS name FROM assets WHERE name IS NOT NULL UNION SELECT unnest({rates.NAMES}))
WHERE name NOT IN (SELECT Asset FROM found GROUP BY Asset HAVING count(*) = {len(DATES)})"""

WANTED = "Asset IN (SELECT name FROM wanted)"

FILLED = """
CREATE OR REPLACE TEMP TABLE prices AS
SELECT Asset, asked, last_value(Date IGNORE NULLS) OVER past AS Date,
       last_value(Last_Price IGNORE NULLS) OVER past AS Last_Price
FROM (SELECT DISTINCT Asset FROM found) CROSS JOIN (SELECT unnest($dates) AS asked) LEFT JOIN found USING (Asset, asked)
WINDOW past AS (PARTITION BY Asset ORDER BY asked)"""

FRAME = f"""
WITH grid AS (
    SELECT *, Currency = 'local' AS own FROM assets
    CROSS JOIN (SELECT unnest($currencies) AS Currency)
    CROSS JOIN (SELECT unnest($periods) AS Period, unnest($bases) AS asked)),
rows AS (
    SELECT grid.*, finish.Date AS End_Date, start.Date AS Base_Date,
           CASE WHEN own THEN 1.0::DOUBLE ELSE end_rate.factor END AS end_factor,
           CASE WHEN own THEN 1.0::DOUBLE ELSE base_rate.factor END AS base_factor,
           finish.Last_Price * end_factor AS End_Price, start.Last_Price * base_factor AS Base_Price,
           CASE WHEN End_Date IS NULL THEN 'unknown'
                WHEN NOT own AND grid.Local_Currency IS NULL THEN 'missing_currency'
                WHEN End_Date < '{REF - WINDOW}' OR End_Date <= grid.asked THEN 'stale_end'
                WHEN Base_Date IS NULL THEN 'no_base'
                WHEN Base_Date < grid.asked - {WINDOW.days} THEN 'stale_base'
                WHEN end_factor IS NULL OR base_factor IS NULL THEN 'no_fx'
                ELSE 'ok' END AS Status
    FROM grid
    LEFT JOIN prices finish ON finish.Asset = Price_Key AND finish.asked = '{REF}'
    LEFT JOIN prices start ON start.Asset = Price_Key AND start.asked = grid.asked
    LEFT JOIN factors end_rate ON end_rate.Local_Currency = grid.Local_Currency
          AND end_rate.Currency = grid.Currency AND end_rate.asked = '{REF}'
    LEFT JOIN factors base_rate ON base_rate.Local_Currency = grid.Local_Currency
          AND base_rate.Currency = grid.Currency AND base_rate.asked = grid.asked)
SELECT * FROM (SELECT *, DATE '{REF}' AS Date,
                      CASE WHEN Status = 'ok' THEN End_Price / Base_Price - 1 END AS Return FROM rows)"""


def hist_returns(lake: str, *, text: bool = False) -> Callable[[], pa.Table]:
    """The windows first; then all of history, but only of series for which a window has no price."""
    tables = Path(lake, "enriched", "parquet")
    file = tables / "hist_px_last.parquet"
    source = f"read_parquet('{file if file.exists() else file.with_suffix('') / '*' / '*.parquet'}')"
    kind = "VARCHAR" if text else "TIMESTAMP"
    near = " OR ".join(f"Date BETWEEN {kind} '{day - WINDOW}' AND {kind} '{day}'" for day in DATES)
    columns = "* REPLACE (nullif(Location, 'nan') AS Location, nullif(Ticker_BBG, 'nan') AS Ticker_BBG)"
    master = f"SELECT {columns if text else '*'} FROM read_parquet('{tables / 'assets.parquet'}')"
    locations = ", ".join(map(str, rates.LOCATIONS.items()))
    db = duckdb.connect()

    def run() -> pa.Table:
        db.execute(ASSETS.format(source=master, locations=locations))
        db.execute(OBSERVATIONS.format(name="near", source=source, condition=near))
        db.execute(f"CREATE OR REPLACE TEMP TABLE found AS {LAST.format(name='near')}")
        db.execute(MISSING)
        series = _series(db, "found")
        if rates.needs_history(series, DATES):
            db.execute(f"INSERT INTO wanted VALUES ('{rates.CLEAN}'), ('{rates.SPOT}')")
        if db.execute("SELECT count(*) FROM wanted").fetchone() != (0,):
            db.execute(OBSERVATIONS.format(name="history", source=source, condition=WANTED))
            db.execute(f"DELETE FROM found WHERE {WANTED}")
            db.execute(f"INSERT INTO found {LAST.format(name='history')}")
            series |= _series(db, "history")
        db.execute(FILLED, {"dates": DATES})
        columns = zip(*rates.factors(series, DATES), strict=True)
        factors = pa.table(list(map(list, columns)), names=["Local_Currency", "Currency", "asked", "factor"])
        db.register("factors", factors)
        found = db.sql(FRAME, params={"currencies": CURRENCIES, "periods": PERIODS, "bases": BASES})
        return found.to_arrow_table().select(COLUMNS)

    return run


def _series(db: duckdb.DuckDBPyConnection, table: str) -> dict[str, list[Any]]:
    few = f"SELECT Asset, Date, Last_Price FROM {table} WHERE Asset IN {tuple(rates.NAMES)} ORDER BY Date"
    series: dict[str, list[Any]] = {}
    for name, day, price in db.execute(few).fetchall():
        series.setdefault(name, []).append((day, price))
    return series
