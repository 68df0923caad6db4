"""Loads of Arrow tables: the same outcome as that of the frame with the same rows, whatever types Arrow has."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from luxor_pipelines import incremental_load, save_table
from luxor_pipelines.errors import SchemaError, UsageError
from luxor_pipelines.lake.types.schema import Column, TableSchema

SCHEMA = TableSchema(
    "t",
    1,
    (Column("Date", "date", False), Column("Asset", "text", False), Column("Last_Price", "number")),
    ("Date", "Asset"),
    "month",
)
FRAME = pd.DataFrame(
    {
        "Date": pd.to_datetime(["2026-10-30", "2026-10-30", "2026-11-30"]),
        "Asset": ["b us equity", "a us equity", "a us equity"],
        "Last_Price": [2.0, np.nan, 0.0],
    }
)
DATES = pa.array(FRAME["Date"].dt.date, pa.date32())
NAMES = pa.array(FRAME["Asset"], pa.string())
PRICES = pa.array([2.0, None, 0.0])


def rows(**columns: Any) -> pa.Table:
    return pa.table({"Date": DATES, "Asset": NAMES, "Last_Price": PRICES} | columns)


def words_of(codes: list[int | None], words: list[str | None], code: str = "int32") -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes, code), pa.array(words, pa.large_string()))


SAME = {
    "plain": rows(),
    "timestamps in ns": rows(Date=DATES.cast(pa.timestamp("ns"))),
    "date64": rows(Date=DATES.cast(pa.date64())),
    "large text": rows(Asset=NAMES.cast(pa.large_string())),
    "text to be put in its normal form": rows(Asset=pa.array(["B US Equity ", " A us equity", "A US EQUITY"])),
    "NaN for null, -0.0 for 0": rows(Last_Price=pa.array([2.0, np.nan, -0.0])),
    "float32": rows(Last_Price=PRICES.cast(pa.float32())),
    "whole numbers": rows(Last_Price=PRICES.cast(pa.int8())),
    "dictionary": rows(Asset=words_of([0, 1, 1], ["b us equity", "a us equity"])),
    "dictionary with bytes as codes": rows(Asset=words_of([0, 1, 1], ["b us equity", "a us equity"], "uint8")),
    "dictionary with a word twice": rows(Asset=words_of([0, 1, 2], ["b us equity", "a us equity", "a us equity"])),
    "dictionary with words nobody uses": rows(Asset=words_of([2, 1, 1], ["x", "a us equity", "b us equity", None])),
    "dictionary with words of one normal form": rows(
        Asset=words_of([0, 1, 2], ["b us equity", "a US equity", "a us EQUITY"])
    ),
    "two chunks with two dictionaries": pa.concat_tables(
        [
            rows(Asset=words_of([0, 1, 1], ["b us equity", "a us equity"])).slice(0, 1),
            rows(Asset=words_of([0, 1, 1], ["?", "a us equity"])).slice(1),
        ]
    ),
    "part of a longer table": pa.concat_tables([rows(Last_Price=pa.array([9.0, 9.0, 9.0])), rows()]).slice(3),
    "columns in another order, a stamp": rows(Last_Updated=pa.array([1, 2, 3])).select(
        ["Last_Updated", "Last_Price", "Date", "Asset"]
    ),
}  # fmt: skip


def stored(lq: Any, name: str = "t") -> pd.DataFrame:
    frame = lq.get_table(name, force_reload=True).sort_values(["Date", "Asset"], ignore_index=True)
    return frame[sorted(frame)]


@pytest.mark.parametrize("case", SAME)
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
def test_an_arrow_table_is_loaded_like_a_frame(case: str, declared: bool, disk: Any) -> None:
    lq, given, schema = disk.query(), SAME[case], SCHEMA if declared else None
    number = "Last_Price" if declared or not pa.types.is_integer(given.schema.field("Last_Price").type) else None
    before = repr(given.to_pylist())
    first = incremental_load(lq, "t", given, schema=schema)
    incremental_load(lq, "u", FRAME, schema=schema)
    assert repr(given.to_pylist()) == before
    assert (first.inserted, first.partitions) == (3, ("2026-10", "2026-11") if declared else ("",))
    expected = stored(lq, "u")
    columns = list(expected) if number else ["Date", "Asset"]
    pd.testing.assert_frame_equal(stored(lq)[columns], expected[columns])
    if number:
        again = incremental_load(lq, "t", FRAME, schema=schema)
        assert (again.changed, again.unchanged) == (False, 3), "the frame's rows are the same"


def test_an_arrow_table_saves_a_whole_table(disk: Any) -> None:
    lq = disk.query()
    assert save_table(lq, "t", rows()).inserted == 3
    assert save_table("t", rows().slice(0, 1), lq=lq, mode="replace").deleted == 2
    assert stored(lq)["Asset"].tolist() == ["b us equity"]


def test_an_arrow_table_upserts_by_key(disk: Any) -> None:
    lq = disk.query()
    incremental_load(lq, "t", rows(), unique_columns=["Date", "Asset"])
    change = rows(Last_Price=pa.array([3.0, None, 0.0])).slice(0, 1)
    result = incremental_load(lq, "t", change, unique_columns=["Date", "Asset"])
    assert (result.inserted, result.updated) == (0, 1)
    assert stored(lq).set_index("Asset").loc["b us equity", "Last_Price"] == 3.0


def test_an_arrow_table_without_rows_changes_nothing(disk: Any) -> None:
    lq = disk.query()
    incremental_load(lq, "t", rows())
    before = stored(lq)
    assert not incremental_load(lq, "t", rows().slice(0, 0)).changed
    pd.testing.assert_frame_equal(stored(lq), before)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pa.Table.from_arrays([DATES, NAMES, NAMES], ["Date", "Asset", "Asset"]), "more than one column 'Asset'"),
        (rows(Last_Price=pa.array([[1.0], [2.0], [3.0]])), "'Last_Price': its type is list<"),
        (rows(Last_Price=pa.array(["1", "2", "3"])), "'Last_Price': 3 of 3 cells are text where the table has numbers"),
        (rows(Last_Price=pa.array([np.inf, 1.0, 2.0])), "'Last_Price': 1 of 3 cells are infinite"),
        (rows(Date=pa.array([None, date(2026, 1, 1), date(2026, 1, 2)])), "'Date': 1 of 3 cells are missing"),
        (rows(Date=DATES.cast(pa.timestamp("us", "UTC"))), "have a time zone"),
        (rows(Asset=words_of([0, None, 1], ["a", "b"])), "'Asset': 1 of 3 cells are missing"),
        (rows(Asset=words_of([0, 0, 1], ["a", "b"])), "1 keys (Date, Asset) occur in 2 rows"),
        (rows(Close=PRICES), "unknown: 'Close'"),
        (rows().drop_columns("Last_Price"), "missing: 'Last_Price'"),
    ],
    ids=["twice", "lists", "text", "infinite", "no date", "zone", "no name", "key", "unknown", "missing"],
)
def test_cells_that_a_table_does_not_take_are_refused_in_arrow_too(disk: Any, table: pa.Table, words: str) -> None:
    lq = disk.query()
    with pytest.raises(SchemaError) as caught:
        incremental_load(lq, "t", table, schema=SCHEMA)
    assert words in str(caught.value)
    assert not lq.table_exists("t")


def test_an_arrow_table_has_no_index(disk: Any) -> None:
    with pytest.raises(UsageError, match="an Arrow table has no index to store as 'index'"):
        save_table("t", rows(), lq=disk.query(), index=True)


def test_other_frames_are_told_how_to_become_one(disk: Any) -> None:
    class Other:
        columns = ("Date",)

    with pytest.raises(UsageError, match="a pandas DataFrame or an Arrow table, not as Other") as caught:
        incremental_load(disk.query(), "t", Other())  # type: ignore[arg-type]
    assert "to_arrow()" in caught.value.hint
