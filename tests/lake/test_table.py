"""Tables: both layouts read alike, from no more than is asked for, whatever other writers do meanwhile."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from luxor_pipelines.catalog import CONVENTIONS
from luxor_pipelines.errors import (
    CorruptFileError,
    InvalidNameError,
    LakeError,
    SchemaError,
    TableNotFoundError,
    UnreachableError,
)
from luxor_pipelines.lake.parquet import footer
from luxor_pipelines.lake.parquet.file import to_bytes
from luxor_pipelines.lake.parquet.predicates import Where, apply
from luxor_pipelines.lake.storage import pinned
from luxor_pipelines.lake.storage.connect import connect
from luxor_pipelines.lake.table.layout import PARTITION_COLUMN, Layout, bounds, near, pieces, recognise, table_name
from luxor_pipelines.lake.table.listing import find_all, list_tables
from luxor_pipelines.lake.table.table import Table

FOLDER = "enriched/parquet"
LAYOUTS: tuple[Layout, ...] = ("file", "month", "year")
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def prices(days: int = 120, assets: int = 3, start: datetime = datetime(2025, 11, 15)) -> pa.Table:
    dates = [start + timedelta(days=day) for day in range(days) for _ in range(assets)]
    return pa.table(
        {
            "Date": pa.array(dates, pa.timestamp("us")),
            "Asset": [f"asset {n}" for _ in range(days) for n in range(assets)],
            "Last_Price": [None if day % 50 == 7 else day + n / 10 for day in range(days) for n in range(assets)],
        }
    )


def store(storage: Any, table: pa.Table, layout: Layout, name: str = "t", column: str = "Date") -> Table:
    """Write the rows in a layout, as a load would."""
    target = Table(storage, name, conventions=CONVENTIONS)
    metadata = {b"luxor.encoding": b"typed"} | ({PARTITION_COLUMN: column.encode()} if layout != "file" else {})
    for label, rows in pieces(layout, table, column, name):
        target.write_part(layout, label, to_bytes(rows.replace_schema_metadata(metadata)), expected=None)
    return target


def put(storage: Any, table: pa.Table, path: str = f"{FOLDER}/t.parquet", **options: Any) -> None:
    """Write the rows as another program would."""
    sink = BytesIO()
    pq.write_table(table, sink, **options)
    storage.write(path, sink.getvalue())


# --- both layouts ------------------------------------------------------------------------------

instants = st.datetimes(datetime(2025, 10, 1), datetime(2026, 4, 30))
ends = st.one_of(st.none(), instants)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    dates=st.one_of(
        st.lists(st.tuples(ends, ends), max_size=3).map(lambda spans: Where("Date", spans=tuple(spans))),
        st.lists(st.sampled_from(prices()["Date"].to_pylist()), max_size=3).map(
            lambda days: Where("Date", values=tuple(days))
        ),
    ),
    assets=st.lists(st.sampled_from(["asset 0", "asset 2", "nobody"]), max_size=2),
    columns=st.sampled_from([None, ("Last_Price",), ("Asset", "Date")]),
)
def test_both_layouts_read_alike(rig: Any, dates: Where, assets: list[str], columns: Any) -> None:
    storage = rig.storage()
    if not list_tables(storage):
        for layout in LAYOUTS:
            store(storage, prices(), layout, layout)
    where = [dates, Where("Asset", values=tuple(assets))] if assets else [dates]
    expected = apply(prices(), where).select(columns or prices().column_names)
    for layout in LAYOUTS:
        found = Table(storage, layout, conventions=CONVENTIONS).scan(columns, where, dictionary=["Asset"]).data
        assert found.column_names == expected.column_names
        assert found.cast(expected.schema).to_pylist() == expected.to_pylist()


def test_the_file_wins_over_the_folder(rig: Any) -> None:
    storage = rig.storage()
    store(storage, prices(), "month")
    table = store(storage, prices(days=1), "file")
    assert table.snapshot().layout == "file"
    assert len(table.scan().data) == 3
    assert list_tables(storage) == ["t"]


def test_many_tables_are_found_as_each_of_them_is(rig: Any) -> None:
    storage = rig.storage()
    for name, layout in {"f": "file", "m": "month", "y": "year", "both": "month"}.items():
        store(storage, prices(days=40), layout, name)
    store(storage, prices(days=1), "file", "both")
    storage.write(f"{FOLDER}/empty/readme.txt", b"a folder, not a table")
    names = ["f", "m", "nowhere", "y", "both", "empty"]
    found = find_all(storage, names)
    assert found == {name: Table(storage, name, conventions=CONVENTIONS).find() for name in names}
    assert [name for name, snapshot in found.items() if snapshot is None] == ["nowhere", "empty"]
    assert find_all(storage, names, "no/such/directory") == dict.fromkeys(names)


def test_two_kinds_of_partitions_are_no_table(rig: Any) -> None:
    storage = rig.storage()
    store(storage, prices(), "month")
    table = store(storage, prices(), "year")
    with pytest.raises(SchemaError, match="both month= and year="):
        table.find()


@layouts
def test_a_version_changes_with_any_partition_and_only_then(rig: Any, layout: Layout) -> None:
    table = store(rig.storage(), prices(), layout)
    before = table.snapshot()
    assert table.snapshot() == before
    assert table.scan().snapshot == before
    part = before.parts[-1]
    rows = table.read_part(part).physical.slice(0, 1)
    table.write_part(layout, part.label, to_bytes(rows), expected=part.info.version)
    after = table.snapshot()
    assert after.version != before.version
    assert after.parts[:-1] == before.parts[:-1]


# --- names and labels --------------------------------------------------------------------------


def test_table_names_are_the_lakes(rig: Any) -> None:
    storage = rig.storage()
    assert table_name(" Luxor Group Results ") == "luxor_group_results"
    store(storage, prices(), "month", "Hist Px_Last")
    store(storage, prices(), "file", "assets")
    for path in ("readme.txt", "old/assets2.parquet", "t/month=2026-13/data.parquet", "t/month=2026-01/other.parquet"):
        storage.write(f"{FOLDER}/{path}", b"")
    storage.write("enriched/parquet_old/gone.parquet", b"")
    assert list_tables(storage) == ["assets", "hist_px_last"]
    assert Table(storage, "t", conventions=CONVENTIONS).find() is None


@pytest.mark.parametrize("name", ["", "..", "a/b", "../a", "a\\b", ".a", "a..b", "a.", "a*", "month=1", "C:a", "a\n"])
def test_no_table_name_leaves_its_folder(name: str) -> None:
    with pytest.raises(InvalidNameError):
        table_name(f"x/{name}" if name == "a\n" else name)


@pytest.mark.parametrize("directory", ["../x", "a/../b", "", "a//b"])
def test_no_directory_leaves_the_lake(disk: Any, directory: str) -> None:
    with pytest.raises(InvalidNameError):
        Table(disk.storage(), "t", directory)


@settings(deadline=None)
@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)))
def test_an_instant_lies_within_the_bounds_of_its_partition(instant: datetime) -> None:
    rows = pa.table({"Date": pa.array([instant], pa.timestamp("us"))})
    for layout in ("month", "year"):
        ((label, piece),) = pieces(layout, rows, "Date", "t")
        first, last = bounds(layout, label)
        assert piece.equals(rows)
        assert first <= instant <= last
        assert recognise(f"{layout}={label}/data.parquet") == (layout, label)
        neighbours = [first - timedelta(microseconds=1)] if first > datetime.min else []
        neighbours += [last + timedelta(microseconds=1)] if last < datetime.max else []
        outside = pa.table({"Date": pa.array(neighbours, pa.timestamp("us"))})
        assert label not in [each for each, _ in pieces(layout, outside, "Date", "t")]


@pytest.mark.parametrize("micros", [2**60, -(2**60)])
def test_a_date_that_no_label_can_name_is_refused(micros: int) -> None:
    rows = pa.table({"Date": pa.array([0, micros], pa.int64()).cast(pa.timestamp("us"))})
    with pytest.raises(SchemaError, match=r"'Date'.*no partition"):
        pieces("month", rows, "Date", "t")


@pytest.mark.parametrize("folder", ["month=2026-13", "month=2026-00", "month=0000-01", "year=0000", "month=26-01", "x"])
def test_a_folder_that_names_no_month_or_year_is_no_partition(folder: str) -> None:
    assert recognise(f"{folder}/data.parquet") is None


# --- only what is asked for --------------------------------------------------------------------


@pytest.mark.azurite
@layouts
def test_only_what_is_asked_for_is_fetched(make_rig: Any, monkeypatch: pytest.MonkeyPatch, layout: Layout) -> None:
    storage = make_rig("azurite").storage()
    monkeypatch.setattr("luxor_pipelines.lake.parquet.file.ROW_GROUP", 30 * 1000)
    notes = [f"{n} {'x' * 30} {n * n}" for n in range(365 * 1000)]
    table = store(storage, prices(365, 1000, datetime(2026, 1, 1)).append_column("Note", [notes]), layout)
    fetched = []
    ranges = type(storage).ranges

    def count(self: Any, info: Any, wanted: Any) -> list[bytes]:
        found: list[bytes] = ranges(self, info, wanted)
        fetched.append(sum(map(len, found)))
        return found

    monkeypatch.setattr(type(storage), "ranges", count)
    first, last = datetime(2026, 6, 5), datetime(2026, 6, 20)
    data = table.scan(("Asset", "Last_Price"), [Where("Date", spans=((first, last),))]).data
    assert len(data) == 16 * 1000
    groups = columns = 0
    for part in table.snapshot().parts:
        metadata = pq.ParquetFile(BytesIO(storage.read(part.info.path).data)).metadata
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            dates = group.column(0).statistics
            if dates.min <= last and first <= dates.max:
                groups += 1
                columns += sum(group.column(n).total_compressed_size for n in range(3))
    assert groups <= 2
    footers = 2 * footer.TAIL  # of the newest partition, which says how to prune, and of the one read
    assert sum(fetched) <= 1.2 * columns + footers
    assert len(fetched) <= 4


def test_partitions_are_pruned_by_the_column_that_the_files_name(rig: Any) -> None:
    storage = rig.storage()
    rows = prices()
    later = [day + timedelta(days=40) for day in rows["Date"].to_pylist()]
    rows = rows.append_column("Settlement Date", pa.array(later, pa.timestamp("us")))
    table = store(storage, rows, "month", column="Settlement Date")
    for path in (info.path for info in storage.list(FOLDER) if "2026-04" not in info.path):
        storage.write(path, b"never to be opened")
    span = ((datetime(2026, 4, 2), None),)
    assert len(table.scan(where=[Where("Settlement Date", spans=span)]).data) == 22 * 3
    with pytest.raises(CorruptFileError):  # of "Date" the folders say nothing
        table.scan(where=[Where("Date", spans=span)])


def test_partitions_whose_column_no_file_names_are_not_pruned(rig: Any) -> None:
    storage = rig.storage()
    # Written by somebody who partitioned by the settlement month, and did not say so.
    put(storage, prices(1, 1, datetime(2026, 1, 31)), f"{FOLDER}/t/month=2026-02/data.parquet")
    put(storage, prices(1, 1, datetime(2026, 2, 28)), f"{FOLDER}/t/month=2026-03/data.parquet")
    where = [Where("Date", spans=((datetime(2026, 1, 1), datetime(2026, 1, 31)),))]
    assert len(Table(storage, "t", conventions=CONVENTIONS).scan(where=where).data) == 1


# --- while others write ------------------------------------------------------------------------


def versions_of(rows: pa.Table) -> dict[str, set[float]]:
    found: dict[str, set[float]] = {}
    for day, price in zip(rows["Date"].to_pylist(), rows["Last_Price"].to_pylist(), strict=True):
        found.setdefault(f"{day:%Y-%m}", set()).add(price)
    return found


def numbered(month: int, number: int, count: int = 2000) -> pa.Table:
    days = pa.array([datetime(2026, month, 1 + n % 28) for n in range(count)], pa.timestamp("us"))
    return pa.table({"Date": days, "Last_Price": [float(number)] * count})


def while_running(work: Callable[[], None], check: Callable[[], None]) -> int:
    """Check until the work is done; how often."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        checks = 0
        while not running.done() or not checks:
            check()
            checks += 1
        running.result()
    return checks


def test_a_scan_during_swaps_never_mixes_versions_of_a_partition(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luxor_pipelines.lake.parquet.file.ROW_GROUP", 200)
    monkeypatch.setattr(footer, "TAIL", 8)  # footer and pages come by several requests
    monkeypatch.setattr(pinned, "_NEIGHBOURS", 0)
    writer, reader = (
        Table(rig.storage(), "t", conventions=CONVENTIONS),
        Table(rig.storage(), "t", conventions=CONVENTIONS),
    )
    for month in (1, 2, 3):
        writer.write_part("month", f"2026-{month:02d}", to_bytes(numbered(month, 0)), expected=None)

    def swap() -> None:
        for number in range(1, 21):
            for month in (1, 2, 3):
                label = f"2026-{month:02d}"
                writer.write_part("month", label, to_bytes(numbered(month, number)), expected=found(label))

    def found(label: str) -> str:
        part = writer.snapshot().part(label)
        assert part is not None
        return part.info.version

    seen = []
    restarts = []
    changed = type(reader.storage).changed
    monkeypatch.setattr(type(reader.storage), "changed", lambda *of: restarts.append(of) or changed(*of))

    def look() -> None:
        snapshot = reader.snapshot()
        scan = reader.scan(snapshot=snapshot)
        months = versions_of(scan.data)
        assert list(months) == ["2026-01", "2026-02", "2026-03"]
        assert all(len(numbers) == 1 for numbers in months.values()), "two versions of one partition"
        assert len(scan.data) == 6000
        seen.append(months["2026-03"])

    while_running(swap, look)
    look()
    assert seen[-1] == {20.0}
    assert restarts or rig.kind != "azurite", "the test must have met a swap"


def test_a_scan_says_which_versions_it_read(rig: Any) -> None:
    storage = rig.storage()
    table = store(storage, prices(), "month")
    old = table.snapshot()
    changed = old.parts[1]
    rows = table.read_part(changed).physical.slice(0, 2)
    table.write_part("month", changed.label, to_bytes(rows), expected=changed.info.version)
    scan = table.scan(snapshot=old)
    assert scan.snapshot == table.snapshot() != old
    storage.delete(changed.info.path)
    assert changed.label not in [part.label for part in table.scan(snapshot=old).snapshot.parts]


def test_converting_a_file_to_partitions_never_shows_an_empty_or_missing_table(rig: Any) -> None:
    storage = rig.storage()
    names = [f"t{n}" for n in range(12)]
    for name in names:
        store(storage, prices(), "file", name)
    turn = iter(names)
    converting = [next(turn)]

    def convert() -> None:
        for name in names:
            converting[0] = name
            table = Table(rig.storage(), name, conventions=CONVENTIONS)
            before = table.snapshot()
            store(table.storage, table.read_part(before.parts[0]).physical, "month", name)
            storage.delete(before.parts[0].info.path, expected=before.parts[0].info.version)

    reader = rig.storage()
    layouts_seen = set()

    def look() -> None:
        name = converting[0]
        assert find_all(reader, [name])[name] is not None
        scan = Table(reader, name).scan()
        assert len(scan.data) == 360
        layouts_seen.add(scan.snapshot.layout)

    while_running(convert, look)
    for name in names:
        converting[0] = name
        look()
    assert "month" in layouts_seen


def test_a_snapshot_of_a_file_that_became_partitions_is_read_as_these(rig: Any) -> None:
    storage = rig.storage()
    table = store(storage, prices(), "file")
    old = table.snapshot()
    store(storage, prices(), "month")
    storage.delete(f"{FOLDER}/t.parquet")
    scan = table.scan(snapshot=old)
    assert scan.snapshot.layout == "month"
    assert len(scan.data) == 360
    assert table.codec(old).stored.names == prices().column_names


# --- what is wrong is told, and never as an absence --------------------------------------------


def test_a_table_is_missing_only_when_it_definitely_is(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = rig.storage()
    table = Table(storage, "t", conventions=CONVENTIONS)
    assert table.find() is None
    with pytest.raises(TableNotFoundError, match="no table t"):
        table.scan()

    def fail(*_: object) -> None:
        raise UnreachableError("no answer", hint="")

    monkeypatch.setattr(type(storage), "_list", fail)
    with pytest.raises(UnreachableError):
        table.find()
    monkeypatch.setattr(type(storage), "_stat", fail)
    with pytest.raises(UnreachableError):
        table.find()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("hist_px_lst", "Did you mean hist_px_last? "),
        ("hist_return", "Did you mean hist_returns? "),
        ("px", ""),
    ],
)
def test_a_name_that_is_nearly_a_tables_is_answered_with_that(rig: Any, name: str, meant: str) -> None:
    storage = rig.storage()
    for path in ("hist_px_last.parquet", "hist_returns/month=2026-10/data.parquet"):
        storage.write(f"enriched/parquet/{path}", b"x")
    with pytest.raises(TableNotFoundError, match=f"There is no table {name} in ") as caught:
        Table(storage, name).snapshot()
    assert caught.value.hint == f"{meant}`luxor tables` lists what there is."


@layouts
@pytest.mark.parametrize("damage", [lambda _: b"", lambda _: b"no parquet", lambda data: data[:-9]])
def test_a_damaged_file_is_corrupt_and_named(rig: Any, layout: Layout, damage: Callable[[bytes], bytes]) -> None:
    storage = rig.storage()
    table = store(storage, prices(), layout)
    path = table.snapshot().parts[-1].info.path
    storage.write(path, damage(storage.read(path).data))
    for read in (table.scan, table.codec, lambda: table.read_part(table.snapshot().parts[-1])):
        with pytest.raises(CorruptFileError, match=path):
            read()


def test_partitions_that_differ_in_columns_are_refused_and_named(rig: Any) -> None:
    storage = rig.storage()
    table = store(storage, prices(), "month")
    odd = table.snapshot().parts[1]
    rows = table.read_part(odd).physical
    put(storage, rows.append_column("Extra", [["x"] * len(rows)]), odd.info.path)
    with pytest.raises(SchemaError, match=r"2025-11 and 2025-12 differ in columns 'Extra'"):
        table.scan()
    assert len(table.scan(["Asset"]).data) == 360
    put(storage, rows.drop_columns("Last_Price"), odd.info.path)
    with pytest.raises(SchemaError, match=r"month=2025-12/data\.parquet has no column 'Last_Price'"):
        table.scan(["Last_Price"])
    put(storage, rows.set_column(2, "Last_Price", [["high"] * len(rows)]), odd.info.path)
    with pytest.raises(SchemaError, match="Last_Price"):
        table.scan(["Last_Price"])


# --- files of every origin ---------------------------------------------------------------------


def test_columns_of_other_programs_read_as_the_lakes_types(rig: Any) -> None:
    storage = rig.storage()
    midday = datetime(2026, 1, 31, 12)
    foreign = {
        "date32": (pa.array([date(2026, 1, 31), None], pa.date32()), datetime(2026, 1, 31)),
        "date64": (pa.array([date(2026, 1, 31), None], pa.date64()), datetime(2026, 1, 31)),
        "ns": (pa.array([midday, None], pa.timestamp("ns")), midday),
        "s": (pa.array([midday, None], pa.timestamp("s")), midday),
        "zoned": (
            pa.array([midday.replace(tzinfo=UTC), None], pa.timestamp("us", "America/Sao_Paulo")),
            midday.replace(tzinfo=UTC),
        ),
        "int": (pa.array([7, None], pa.int32()), 7.0),
        "unsigned": (pa.array([7, None], pa.uint64()), 7.0),
        "float": (pa.array([0.5, math.nan], pa.float32()), 0.5),
        "double": (pa.array([0.5, math.nan], pa.float64()), 0.5),
        "decimal": (pa.array([Decimal("1.10"), None], pa.decimal128(9, 2)), 1.1),
        "large": (pa.array(["x", None], pa.large_string()), "x"),
        "words": (pa.array(["x", None]).dictionary_encode(), "x"),
        "large words": (pa.array(["x", None], pa.large_string()).dictionary_encode(), "x"),
        "nothing": (pa.nulls(2), None),
        "flag": (pa.array([True, None]), True),
    }
    put(storage, pa.table({name: column for name, (column, _) in foreign.items()}))
    table = Table(storage, "t", conventions=CONVENTIONS)
    expected = {name: value for name, (_, value) in foreign.items()}
    for data in (table.scan().data, table.scan(dictionary=["large", "words", "int"]).data):
        assert data.slice(0, 1).to_pylist() == [expected]
        assert set(data.slice(1).to_pylist()[0].values()) == {None}
    for name, value in expected.items():
        if value is not None:
            assert len(table.scan(["flag"], [Where(name, values=(value,))]).data) == 1, name
            assert len(table.scan(["flag"], [Where(name, spans=((value, None),))]).data) == 1, name


def test_a_large_whole_number_is_read_as_it_is(disk: Any) -> None:
    ids = pa.table({"id": pa.array([2**53 + 1, None, 7], pa.int64()), "Price": pa.array([2**53 + 1, None, 7])})
    put(disk.storage(), ids)
    table = Table(disk.storage(), "t")
    assert table.scan().data["id"].to_pylist() == [2**53 + 1, None, 7]
    assert table.scan(["id"], [Where("id", values=(2**53 + 1,))]).data["id"].to_pylist() == [2**53 + 1]
    assert table.scan(["id"], [Where("id", spans=((6.5, 7.5),))]).data["id"].to_pylist() == [7]
    assert table.scan(["id"], [Where("id", values=(7.5, 7.0))]).data["id"].to_pylist() == [7]
    prices = Table(disk.storage(), "t", conventions=CONVENTIONS).scan(["Price"]).data["Price"]
    assert prices.to_pylist() == [2.0**53, None, 7.0], "which the catalogue knows as numbers"


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_text_in_encodings_that_arrow_has_no_dictionary_for(encoding: str, disk: Any) -> None:
    words = pa.table({"Asset": ["a", "b", None, "a"] * 5000, "n": [float(n) for n in range(20_000)]})
    sink = BytesIO()
    pq.write_table(words, sink, use_dictionary=False, column_encoding={"Asset": encoding, "n": "PLAIN"})
    storage = disk.storage()
    storage.write(Table(storage, "t").path("file"), sink.getvalue())
    table = Table(storage, "t")
    where = [Where("Asset", values=("b",))]
    assert table.scan().data.equals(words)
    assert table.scan(["n"], where).data["n"].to_pylist() == list(range(1, 20_000, 4))
    encoded = table.scan(["Asset"], where, dictionary=["Asset"]).data["Asset"]
    assert pa.types.is_dictionary(encoded.type)
    assert encoded.to_pylist() == ["b"] * 5000
    empty = table.scan(["Asset"], [Where("n", spans=((-2.0, -1.0),))], dictionary=["Asset"]).data["Asset"]
    assert len(empty) == 0


def legacy_rows() -> pa.Table:
    return pa.table(
        {
            "Date": ["2026-01-31", "2026-02-28", "NaT"],
            "Asset": ["a", "b", "None"],
            "Last_Price": ["1.0", "nan", "2.5"],
            "Note": ["nan", "x", ""],
        }
    )


def test_a_text_table_reads_the_same_whichever_columns_are_asked_for(rig: Any) -> None:
    storage = rig.storage()
    put(storage, legacy_rows(), row_group_size=1)
    table = Table(storage, "t", conventions=CONVENTIONS)
    whole = table.scan().data
    assert whole["Last_Price"].to_pylist() == [1.0, None, 2.5]
    for name in whole.column_names:
        assert table.scan([name]).data[name].equals(whole[name])
    where = [Where("Date", spans=((datetime(2026, 2, 1), None),)), Where("Asset", values=("b",))]
    assert table.scan(["Note"], where).data.to_pylist() == [{"Note": "x"}]
    assert table.scan(where=where, raw=True).data.to_pylist() == legacy_rows().slice(1, 1).to_pylist()


def test_null_words_are_text_in_a_file_that_is_not_all_text(rig: Any) -> None:
    storage = rig.storage()
    put(storage, pa.table({"Note": ["nan", "x"], "n": [1.0, 2.0]}))
    table = Table(storage, "t", conventions=CONVENTIONS)
    assert table.scan(["Note"]).data["Note"].to_pylist() == table.scan().data["Note"].to_pylist() == ["nan", "x"]


def test_a_typed_files_text_is_text_whatever_its_column_is_called(rig: Any) -> None:
    storage = rig.storage()
    rows = pa.table({"Year": ["2026", "abc"], "n": [1.0, 2.0]})
    put(storage, rows.replace_schema_metadata({b"luxor.encoding": b"typed"}))
    table = Table(storage, "t", conventions=CONVENTIONS)
    assert table.scan().data["Year"].to_pylist() == ["2026", "abc"]
    assert table.scan(overrides={"float": ["n"]}, where=[Where("Year", values=("abc",))]).data.num_rows == 1


def test_an_index_that_pandas_stored_unasked_is_no_column(rig: Any) -> None:
    import pandas as pd

    storage = rig.storage()
    sink = BytesIO()
    pd.DataFrame({"Asset": ["a", "b"]}, index=[5, 9]).to_parquet(sink)
    storage.write(f"{FOLDER}/t.parquet", sink.getvalue())
    table = Table(storage, "t", conventions=CONVENTIONS)
    assert table.scan().data.column_names == ["Asset"]
    stored = table.read_part(table.snapshot().parts[0])
    assert stored.physical.column_names == stored.logical.column_names == ["Asset"]


@layouts
def test_a_condition_of_no_row_still_has_the_columns(rig: Any, layout: Layout) -> None:
    table = store(rig.storage(), prices(), layout)
    for where in (
        Where("Date", spans=((datetime(2030, 1, 1), None),)),
        Where("Date", spans=((None, datetime(1999, 1, 1)),)),
        Where("Date", spans=()),
        Where("Date", values=()),
        Where("Date", values=(datetime.combine(date(2025, 12, 1), time(12)),)),
        Where("Asset", values=("nobody",)),
    ):
        data = table.scan(["Asset", "Date"], [where]).data
        assert data.schema.equals(prices().select(["Asset", "Date"]).schema, check_metadata=False)
        assert len(data) == 0


def test_a_folder_in_the_place_of_a_file_is_told(disk: Any) -> None:
    storage = disk.storage()
    storage.write(f"{FOLDER}/t/month=2026-01/data.parquet/inside", b"")
    assert Table(storage, "t", conventions=CONVENTIONS).find() is None
    rows = prices(1, 1, datetime(2026, 1, 1))
    with pytest.raises(LakeError, match="folder"):
        Table(storage, "t", conventions=CONVENTIONS).write_part("month", "2026-01", to_bytes(rows), expected=None)


def test_threads_may_share_a_storage(rig: Any) -> None:
    storage = rig.storage()
    store(storage, prices(), "month")
    gate = threading.Barrier(6)

    def read(_: int) -> int:
        gate.wait()
        return len(Table(storage, "t", conventions=CONVENTIONS).scan(["Asset"]).data)

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(read, range(6))) == {360}


# --- as much of a table as a load needs ---------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "instant", "labels"),
    [
        ("file", datetime(2026, 10, 31), [""]),
        ("month", datetime(2026, 10, 31, 23, 59), ["2026-10", "2026-09"]),
        ("month", datetime(2026, 1, 1), ["2026-01", "2025-12"]),
        ("year", datetime(2024, 2, 29), ["2024", "2023"]),
        ("month", datetime(1, 1, 31), ["0001-01"]),
        ("year", datetime(1, 12, 31), ["0001"]),
        ("month", datetime(9999, 12, 31), ["9999-12", "9999-11"]),
    ],
)
def test_the_labels_near_an_instant(layout: Layout, instant: datetime, labels: list[str]) -> None:
    assert near(layout, instant) == labels


def test_near_an_instant_only_its_partition_and_the_one_before_are_looked_for(rig: Any) -> None:
    storage = rig.storage()
    table = Table(storage, "t", conventions=CONVENTIONS)
    assert table.find_near(datetime(2026, 3, 5))[0] is None
    for month in range(1, 6):
        table.write_part("month", f"2026-{month:02d}", to_bytes(numbered(month, 0)), expected=None)
    found, everything = table.find_near(datetime(2026, 3, 5))[0], table.find()
    assert found is not None
    assert everything is not None
    assert [part.label for part in found.parts] == ["2026-03"]
    assert found.parts == everything.parts[2:3]
    assert (found.whole, everything.whole) == (False, True)
    found = table.find_near(datetime(2026, 6, 5))[0]
    assert found is not None
    assert found.parts == everything.parts[4:5]
    assert table.find_near(datetime(2030, 1, 1))[0] == everything  # neither is there: then all are
    storage.write(table.path("file"), to_bytes(numbered(1, 0)), expected=None)
    found = table.find_near(datetime(2026, 3, 5))[0]
    assert found is not None
    assert (found.layout, found.whole) == ("file", True)  # the file wins


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_to_nowhere_is_no_missing_table(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    (folder / "a.parquet").symlink_to("/nowhere/at/all")
    with pytest.raises(InvalidNameError, match="link"):
        find_all(connect(str(tmp_path)), ["a"])
