"""One Parquet file: what is read of it, which rows meet a condition, and what is told of a damaged one."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from luxor_pipelines.errors import CorruptFileError, SchemaError, UsageError
from luxor_pipelines.lake.parquet.file import ParquetFile, open_file, to_bytes
from luxor_pipelines.lake.parquet.predicates import Where, apply, conditions
from luxor_pipelines.lake.storage import pinned
from luxor_pipelines.lake.storage.base import BlobInfo
from luxor_pipelines.lake.storage.pinned import PinnedFile

Range = tuple[int, int]


class Remote:
    """Bytes far away: what is fetched of them is noted."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.info = BlobInfo("enriched/parquet/t.parquet", "v1", len(data), datetime(2026, 11, 23, tzinfo=UTC))
        self.fetched: list[Range] = []

    def fetch(self, ranges: Sequence[Range]) -> list[bytes]:
        self.fetched += ranges
        return [self.data[start:end] for start, end in ranges]

    def file(self) -> PinnedFile:
        return PinnedFile(len(self.data), self.fetch)

    @contextmanager
    def opened(self) -> Iterator[ParquetFile]:
        with open_file(self.file, self.info) as file:
            yield file

    def read(
        self, columns: Sequence[str] | None = None, where: Sequence[Where] = (), dictionary: Sequence[str] = ()
    ) -> pa.Table:
        with self.opened() as file:
            return file.read(columns, where, dictionary=dictionary)


def stored(table: pa.Table, **options: Any) -> Remote:
    sink = BytesIO()
    pq.write_table(table, sink, **options)
    return Remote(sink.getvalue())


# --- a remote file as a file object ------------------------------------------------------------

CONTENT = bytes(range(256)) * 3

positions = st.integers(-20, len(CONTENT) + 40)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.one_of(st.none(), st.integers(-1, 300))),
        st.tuples(st.just("seek"), st.integers(0, len(CONTENT) + 40)),
        st.tuples(st.just("back"), st.integers(-len(CONTENT), 0)),
        st.tuples(st.just("prefetch"), st.lists(st.tuples(positions, positions), max_size=5)),
    ),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(steps=steps, chunk=st.integers(1, 400), gap=st.integers(0, 60), size=st.integers(0, len(CONTENT)))
def test_a_pinned_file_reads_as_its_bytes(steps: list[Any], chunk: int, gap: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pinned, "CHUNK", chunk)
        patch.setattr(pinned, "_NEIGHBOURS", gap)
        remote = Remote(CONTENT[:size])
        plain, file = BytesIO(remote.data), remote.file()
        for step, value in steps:
            if step == "read":
                assert file.read(value) == plain.read(value)
            elif step == "seek":
                assert file.seek(value) == plain.seek(value)
            elif step == "back" and size + value >= 0:
                assert file.seek(value, 2) == plain.seek(value, 2)
            elif step == "prefetch":
                file.prefetch(value)
            assert file.tell() == plain.tell()
    assert all(0 <= start < end <= size and end - start <= chunk for start, end in remote.fetched)


def test_what_was_prefetched_is_not_fetched_again() -> None:
    remote = Remote(CONTENT)
    file = remote.file()
    file.prefetch([(0, 10), (20, 30)])
    file.prefetch([(5, 8), (22, 30)])
    file.seek(20)
    assert file.read(10) == CONTENT[20:30]
    assert remote.fetched == [(0, 30)]  # neighbours, in one request


def test_a_position_before_the_start_is_refused() -> None:
    with pytest.raises(ValueError, match="before the start"):
        Remote(CONTENT).file().seek(-1)


# --- rows that meet conditions -----------------------------------------------------------------

DAYS = [datetime(2026, 1, 30), datetime(2026, 1, 31), datetime(2026, 2, 1), datetime(9999, 12, 31), datetime(1, 1, 1)]
NUMBERS = [-1.5, -0.0, 0.0, 0.1, 1e300]
SCHEMA = pa.schema(
    [
        ("Date", pa.timestamp("us")),
        ("Asset", pa.string()),
        ("Label", pa.dictionary(pa.int32(), pa.string())),
        ("Last_Price", pa.float64()),
        ("Flag", pa.bool_()),
        ("Last_Updated", pa.timestamp("us", "UTC")),
    ]
)
CELLS: dict[str, list[Any]] = {
    "Date": DAYS,
    "Asset": ["", "a", "b", "ç", "nan"],
    "Label": ["a", "b", "c"],
    "Last_Price": NUMBERS,
    "Flag": [True, False],
    "Last_Updated": [day.replace(tzinfo=UTC) for day in DAYS[:3]],
}
rows = st.lists(
    st.fixed_dictionaries(
        {
            name: st.one_of(st.none(), st.sampled_from([*cells, math.nan] if name == "Last_Price" else cells))
            for name, cells in CELLS.items()
        }
    ),
    max_size=14,
)


@st.composite
def wheres(draw: Any) -> Where:
    column = draw(st.sampled_from(list(CELLS)))
    cells = st.sampled_from(CELLS[column])
    if draw(st.booleans()):
        return Where(column, values=tuple(draw(st.lists(cells, max_size=3))))
    ends = st.one_of(st.none(), cells)
    return Where(column, spans=tuple(draw(st.lists(st.tuples(ends, ends), max_size=2))))


def meets(row: dict[str, Any], where: Where) -> bool:
    cell = row[where.column]
    if cell is None or cell != cell:
        return False
    if where.values is not None:
        return cell in where.values
    return any((a is None or a <= cell) and (b is None or cell <= b) for a, b in where.spans or ())


@settings(max_examples=300, deadline=None)
@given(
    rows=rows,
    where=st.lists(wheres(), max_size=3),
    group=st.integers(1, 6),
    statistics=st.booleans(),
    columns=st.one_of(st.none(), st.lists(st.sampled_from(list(CELLS)), min_size=1, unique=True)),
    dictionary=st.sampled_from([(), ("Asset",), ("Asset", "Nope", "Last_Price")]),
)
def test_exactly_the_rows_that_meet_every_condition_are_read(
    rows: list[Any], where: list[Where], group: int, statistics: bool, columns: Any, dictionary: Any
) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    remote = stored(table, row_group_size=group, write_statistics=statistics)
    found = remote.read(columns, where, dictionary)
    expected = pa.Table.from_pylist([row for row in rows if all(meets(row, each) for each in where)], SCHEMA)
    names = SCHEMA.names if columns is None else columns
    assert found.column_names == names
    assert repr(found.to_pylist()) == repr(expected.select(names).to_pylist())


@pytest.mark.parametrize("rows", [0, 5])
def test_a_date_that_python_has_no_object_for_is_no_obstacle(rows: int) -> None:
    far = pa.array([2**62, *range(rows)], pa.int64()).cast(pa.timestamp("us"))
    remote = stored(pa.table({"Date": far}))
    assert len(remote.read(where=[Where("Date", spans=((datetime(2026, 1, 1), None),))])) == 1


def test_a_file_without_rows_or_row_groups_has_its_columns() -> None:
    sink = BytesIO()
    pq.ParquetWriter(sink, SCHEMA).close()
    without_groups = Remote(sink.getvalue())
    for remote in (without_groups, stored(SCHEMA.empty_table())):
        assert remote.read().schema.names == SCHEMA.names
        assert len(remote.read(["Asset"], [Where("Date", spans=((DAYS[0], None),))], ["Asset"])) == 0


def test_nested_columns_do_not_move_the_others() -> None:
    table = pa.table({"a": [[1, 2]], "s": [{"x": 1, "y": "z"}], "b.c": [1.5], "b": ["text"]})
    remote = stored(table)
    assert remote.read().equals(table)
    assert remote.read(["b", "b.c"]).to_pylist() == [{"b": "text", "b.c": 1.5}]
    assert len(remote.read(["b"], [Where("b.c", spans=((1.0, 2.0),))])) == 1


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("where", [(), (Where("n", ((None, 24_999),)),), (Where("Word", values=("b", "é")),)])
def test_words_that_repeat_and_words_that_do_not_read_as_they_were_written(
    kind: pa.DataType, where: tuple[Where, ...]
) -> None:
    """Some row groups have a dictionary of few words, some gave it up, and one column changes in mid-file."""
    rows = 60_000
    few = [("a", "b", None, "", "é")[n % 5] for n in range(rows)]
    many = [few[n] if n < rows // 2 else f"word {n}" for n in range(rows)]
    columns = {"Word": pa.array(few, kind), "Many": pa.array(many, kind), "n": pa.array(range(rows))}
    table = pa.table(columns)
    read = stored(table, row_group_size=13_000, dictionary_pagesize_limit=50_000).read(where=where)
    expected = apply(table, where)
    assert read.equals(expected)
    assert read.schema.equals(expected.schema)


def test_two_columns_of_one_name_are_refused() -> None:
    remote = stored(pa.table([pa.array([1]), pa.array([2])], names=["A", "A"]))
    with pytest.raises(SchemaError, match=r"t\.parquet has more than one column 'A'"):
        remote.read()


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(SchemaError, match=r"(?s)t\.parquet has no column 'asset'; it has 'Date', 'Asset'"):
        stored(SCHEMA.empty_table()).read(["asset"])


# --- only what is asked for --------------------------------------------------------------------


def history(days: int, assets: int) -> pa.Table:
    dates = [datetime(2020, 1, 1) + timedelta(days=day) for day in range(days) for _ in range(assets)]
    return pa.table(
        {
            "Date": pa.array(dates, pa.timestamp("us")),
            "Asset": [f"asset {n}" for _ in range(days) for n in range(assets)],
            "Last_Price": [math.sin(day * assets + n) for day in range(days) for n in range(assets)],
            "Note": [f"{day} {n} {'x' * 40}" for day in range(days) for n in range(assets)],
        }
    )


def needed(remote: Remote, groups: Sequence[int], columns: Sequence[int]) -> int:
    metadata = pq.ParquetFile(BytesIO(remote.data)).metadata
    return sum(metadata.row_group(g).column(c).total_compressed_size for g in groups for c in columns)


def test_only_the_row_groups_and_columns_asked_for_are_fetched() -> None:
    remote = stored(history(1000, 200), row_group_size=20_000)  # ten row groups, of a hundred days each
    with remote.opened() as file:
        remote.fetched.clear()
        span = ((datetime(2020, 4, 20), datetime(2020, 6, 1)),)  # days 110 to 152
        table = file.read(["Asset", "Last_Price"], [Where("Date", spans=span)])
    assert len(table) == 43 * 200
    assert sum(end - start for start, end in remote.fetched) <= 1.2 * needed(remote, [1], [0, 1, 2])


def test_reading_again_and_again_takes_no_more_memory() -> None:
    """The look over a footer ends in an error, in Arrow; kept there, it keeps what its callers held."""
    table = history(100, 200)
    remote = stored(table)
    before = pa.total_allocated_bytes()
    for _ in range(10):
        remote.read()  # a footer of its own each time
    gc.collect()
    assert pa.total_allocated_bytes() - before < 2 * table.nbytes  # Arrow's threads may not have let go of the last yet


def test_a_wide_table_is_read_by_column() -> None:
    wide = pa.table({f"c{n}": [float(n)] * 1000 for n in range(3000)})
    remote = stored(wide, use_dictionary=False)
    with remote.opened() as file:
        remote.fetched.clear()
        assert file.read(["c2999", "c0"]).to_pylist()[0] == {"c2999": 2999.0, "c0": 0.0}
    assert sum(end - start for start, end in remote.fetched) < 20_000


# --- damage ------------------------------------------------------------------------------------


def test_bytes_that_are_no_parquet_file_are_corrupt_and_named() -> None:
    whole = stored(history(30, 10), row_group_size=100).data
    for data in (b"", b"PAR1", b"Date,Asset\n2026-01-01,a\n", whole[:-1], whole[: len(whole) // 2], whole[100:]):
        with pytest.raises(CorruptFileError, match=r"enriched/parquet/t\.parquet is not a readable Parquet file"):
            Remote(data).read()


def test_damaged_pages_are_corrupt_and_never_another_error() -> None:
    whole = stored(history(30, 10), row_group_size=100)
    end = needed(whole, range(3), range(4))
    corrupt = 0
    for at in range(4, end, 37):
        data = bytearray(whole.data)
        data[at : at + 8] = b"\xff" * 8
        try:
            Remote(bytes(data)).read()  # damage inside a value cannot be seen
        except CorruptFileError:
            corrupt += 1
    assert corrupt > 10


def test_a_number_without_a_word_is_corrupt_however_the_column_is_read() -> None:
    whole = stored(history(60, 10).select(["Date", "Asset"]), compression="none", row_group_size=200)
    chunk = pq.ParquetFile(BytesIO(whole.data)).metadata.row_group(0).column(1)
    words, end = chunk.data_page_offset, chunk.dictionary_page_offset + chunk.total_compressed_size
    corrupt = 0
    for at in range(words, end):
        data = bytearray(whole.data)
        data[at] ^= 0x80  # among ten words, numbered by four bits: some become the fifteenth
        for where, dictionary in (([], ()), ([Where("Asset", values=("asset 3",))], ()), ([], ("Asset",))):
            try:
                Remote(bytes(data)).read(["Asset"], where, dictionary)
            except CorruptFileError:
                corrupt += 1
    assert corrupt > 10


def test_a_failure_to_fetch_is_not_taken_for_damage() -> None:
    remote = stored(history(30, 10))

    class SwappedError(CorruptFileError):
        pass

    def refuse(_: Sequence[Range]) -> list[bytes]:
        raise SwappedError("replaced meanwhile", hint="")

    with remote.opened() as file:
        reader = file._open()
        assert isinstance(reader, PinnedFile)
        reader._fetch, reader._parts = refuse, []
        with pytest.raises(SwappedError):
            file.read()
        reader.prefetch = lambda _: None  # type: ignore[method-assign]
        reader._held = lambda *_: reader._fetch([])  # type: ignore[method-assign,return-value]
        with pytest.raises(SwappedError):  # … and passes unchanged through the Parquet library
            file.read()


# --- writing -----------------------------------------------------------------------------------


def test_a_written_file_says_how_it_is_sorted() -> None:
    data = to_bytes(history(3, 2), sorted_by=["Date"])
    group = pq.ParquetFile(BytesIO(data)).metadata.row_group(0)
    assert [(column.column_index, column.descending, column.nulls_first) for column in group.sorting_columns] == [
        (0, False, False)
    ]
    assert {group.column(n).compression for n in range(4)} == {"SNAPPY"}


# --- conditions as callers write them ----------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        (
            "Date",
            "2026-01-31",
            Where("Date", spans=((datetime(2026, 1, 31), datetime(2026, 1, 31, 23, 59, 59, 999999)),)),
        ),
        ("Date", datetime(2026, 1, 31, 12), Where("Date", spans=((datetime(2026, 1, 31, 12),) * 2,))),
        (
            "Date",
            ("2026-01-30", "2026-01-31"),
            Where("Date", spans=((datetime(2026, 1, 30), datetime(2026, 1, 31, 23, 59, 59, 999999)),)),
        ),
        ("Date", (None, datetime(2026, 1, 31, 12)), Where("Date", spans=((None, datetime(2026, 1, 31, 12)),))),
        (
            "Last_Updated",
            ("2026-01-31", None),
            Where("Last_Updated", spans=((datetime(2026, 1, 31, tzinfo=UTC), None),)),
        ),
        (
            "Last_Updated",
            (None, "2026-01-31T18:00-03:00"),
            Where("Last_Updated", spans=((None, datetime(2026, 1, 31, 21, tzinfo=UTC)),)),
        ),
        ("Asset", ["a", "b"], Where("Asset", values=("a", "b"), folded=True)),
        ("Label", "a", Where("Label", values=("a",), folded=True)),
        ("Last_Price", 5, Where("Last_Price", values=(5.0,))),
        ("Flag", True, Where("Flag", values=(True,))),
        ("Asset", [], Where("Asset", values=(), folded=True)),
        ("Asset", pd.Series(["a", "b"]), Where("Asset", values=("a", "b"), folded=True)),
        ("Asset", np.array(["a"]), Where("Asset", values=("a",), folded=True)),
        ("Asset", " Ab ", Where("Asset", values=("ab",), folded=True)),
        ("Date", pd.Index([]), Where("Date", spans=())),
    ],
)
def test_a_condition_takes_the_columns_type(column: str, value: Any, expected: Where) -> None:
    (found,) = conditions(SCHEMA, "t", {column: value})
    assert found == expected


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("Date", "31/01/2026"),
        ("Date", 5),
        ("Date", "2026-01-31T00:00Z"),
        ("Date", (1, 2, 3)),
        ("Last_Price", "abc"),
        ("Last_Price", math.nan),
        ("Asset", None),
        ("Asset", ["a", None]),
        ("Asset", 5),
    ],
)
def test_a_condition_of_another_type_is_a_usage_error(column: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"'{column}'"):
        conditions(SCHEMA, "t", {column: value})


def test_each_source_of_a_remote_file_has_a_position_of_its_own_and_what_is_fetched_in_common() -> None:
    remote = stored(history(3, 2))
    file = remote.file()
    one, two = file.source(), file.source()
    assert one.read(4) == b"PAR1"
    assert (one.tell(), two.tell(), file.tell()) == (4, 0, 0)
    assert two.read(4) == b"PAR1"
    assert len(remote.fetched) == 1
