"""The series index of a file: its rows, that every reader passes over it, that it survives no rewrite."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from luxor_pipelines.lake.parquet.file import open_file, to_bytes
from luxor_pipelines.lake.parquet.series_index import FIRST as FIRST_DATE
from luxor_pipelines.lake.parquet.series_index import MAGIC
from luxor_pipelines.lake.storage.base import BlobInfo, WholeFile
from luxor_pipelines.lake.types.schema import ADDED, STAMP

BY = ("Date", "Asset")
FIRST = datetime(2024, 1, 1)
SCHEMA = pa.schema([("Date", pa.timestamp("us")), ("Asset", pa.string()), ("Last_Price", pa.float64())])

rows = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 6).map(lambda n: FIRST + timedelta(days=n))),
        st.one_of(st.none(), st.sampled_from(["a", "b", "ç", "zz"])),
        st.one_of(st.none(), st.integers(-1, 5).map(float)),
    ),
    max_size=25,
)


def table(given_rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    columns = list(zip(*given_rows, strict=True)) or [(), (), ()]
    data = pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
    return data.sort_by([(name, "ascending") for name in BY])


def stored(data: bytes) -> pa.Table | None:
    info = BlobInfo("enriched/parquet/t.parquet", "v1", len(data), datetime(2026, 11, 23, tzinfo=UTC))
    with open_file(lambda: nullcontext(WholeFile(data)), info) as file:
        return file.footer.series_index


@settings(max_examples=200, deadline=None)
@given(rows=rows)
def test_the_ends_are_each_series_first_date_and_last_row(rows: list[Any]) -> None:
    data = table(rows)
    expected: dict[str, list[Any]] = {}
    for row in data.to_pylist():
        if None not in row.values():
            expected.setdefault(row["Asset"], []).append(row)
    found = stored(to_bytes(data, sorted_by=BY))
    if not expected:
        assert found is None or not len(found)
        return
    assert found is not None
    assert found["Asset"].to_pylist() == sorted(expected)
    for row in found.to_pylist():
        assert row.pop(FIRST_DATE) == expected[row["Asset"]][0]["Date"]
        assert row == expected[row["Asset"]][-1]


def series(days: int = 40, assets: int = 7) -> pa.Table:
    return table([(FIRST + timedelta(days=d), f"k{a}", d + a / 10) for d in range(days) for a in range(assets)])


def test_other_readers_pass_over_them() -> None:
    data = series()
    file = to_bytes(data, sorted_by=BY)
    assert len(file) > len(to_bytes(data)) + 200
    assert pq.read_table(io.BytesIO(file)).equals(data)
    assert len(pd.read_parquet(io.BytesIO(file))) == len(data)


def test_a_rewrite_by_another_program_leaves_them_out() -> None:
    file = to_bytes(series(), sorted_by=BY)
    assert stored(file) is not None
    again = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(file)).slice(0, 20), again)
    assert stored(again.getvalue()) is None


@pytest.mark.parametrize(
    ("data", "by"),
    [
        (series(), ()),
        (series(), ("Date",)),
        (series(), ("Asset", "Date")),
        (series().append_column("Name", pa.array(["x"] * 280)), BY),
        (series().append_column("Flag", pa.array([True] * 280)), BY),
        (series().set_column(0, "Date", series()["Date"].cast(pa.string())), BY),
        (series().slice(0, 0), BY),
    ],
    ids=["unsorted", "by date", "by name", "two names", "flags", "text dates", "empty"],
)
def test_only_a_table_of_series_sorted_by_date_and_name_has_them(data: pa.Table, by: tuple[str, ...]) -> None:
    assert stored(to_bytes(data, sorted_by=by)) is None


def test_when_a_row_was_written_is_not_among_them() -> None:
    data = series()
    stamps = pa.array([datetime(2026, 11, 23, tzinfo=UTC)] * len(data), STAMP)
    found = stored(to_bytes(data.append_column("Last_Updated", stamps), sorted_by=BY))
    assert found is not None
    assert found.column_names == ["Date", "Asset", "Last_Price", FIRST_DATE]


def test_columns_that_were_added_later_are_not_among_them() -> None:
    before = stored(to_bytes(series(), sorted_by=BY))
    source, volume = pa.array([None, "bbg"] * 140), pa.array([1.0, None] * 140)
    data = series().append_column("Source", source).append_column("Volume", volume)
    added = data.replace_schema_metadata({ADDED: b"Source\nVolume"})
    assert stored(to_bytes(added, sorted_by=BY)) == before
    assert stored(to_bytes(data, sorted_by=BY)) is None
    by_added = data.select(["Asset", "Last_Price"]).append_column("Date", series()["Date"])
    assert stored(to_bytes(by_added.replace_schema_metadata({ADDED: b"Date"}), sorted_by=BY)) is None


def test_chance_bytes_before_the_footer_are_no_ends() -> None:
    file = to_bytes(series(), sorted_by=BY)
    mark = file.rindex(MAGIC)
    for at in (mark, mark - 1):  # another mark; a length that reaches before the file
        damaged = bytearray(file)
        damaged[at] ^= 0xFF
        assert stored(bytes(damaged)) is None


def test_a_table_of_several_numbers_has_none() -> None:
    data = series().append_column("Volume", pa.array(range(280), pa.float64()))
    assert stored(to_bytes(data, sorted_by=BY)) is None
