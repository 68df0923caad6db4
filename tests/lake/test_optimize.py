"""Rewriting a table in a better shape: the same rows, whatever goes on meanwhile."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from lake.meanwhile import Killed, Meanwhile, killed
from luxor_pipelines import incremental_load
from luxor_pipelines.catalog import CONVENTIONS
from luxor_pipelines.errors import (
    ConflictError,
    CorruptFileError,
    LoadConflictError,
    SchemaError,
    TableNotFoundError,
    UsageError,
)
from luxor_pipelines.lake.parquet.file import to_bytes
from luxor_pipelines.lake.storage.base import Storage
from luxor_pipelines.lake.table.layout import DIRECTORY
from luxor_pipelines.lake.table.load import Load
from luxor_pipelines.lake.table.optimize import optimize, retyped
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.lake.types.schema import DATE, NUMBER

FIRST = datetime(2024, 1, 1)


def put(storage: Storage, name: str, data: pa.Table) -> Table:
    storage.write(f"{DIRECTORY}/{name}.parquet", to_bytes(data))
    return Table(storage, name, conventions=CONVENTIONS)


def prices(days: int = 70, assets: int = 5, *, seed: int = 7) -> pa.Table:
    """Prices in no order at all."""
    rows = [(FIRST + timedelta(days=d), f"k{a}", d + a / 8) for d in range(days) for a in range(assets)]
    rows = [rows[at] for at in np.random.default_rng(seed).permutation(len(rows))]
    date, asset, price = zip(*rows, strict=True)
    return pa.table({"Date": pa.array(date, pa.timestamp("us")), "Asset": asset, "Last_Price": price})


def as_text(data: pa.Table) -> pa.Table:
    columns = {"Date": data["Date"].cast(pa.date32()).cast(pa.string()), "Asset": data["Asset"]}
    numbers = ["nan" if x is None else repr(x) for x in data["Last_Price"].to_pylist()]
    stamps = ["2025-03-01 10:11:12"] * (len(data) - 1) + ["NaT"]
    return pa.table({**columns, "Last_Price": numbers, "Last_Updated": stamps})


def rows(table: Table, *columns: str) -> Counter[tuple[Any, ...]]:
    data = table.scan(columns or ("Date", "Asset", "Last_Price")).data
    return Counter(tuple(row.values()) for row in data.to_pylist())


@pytest.mark.parametrize("layout", [None, "month", "year"])
@pytest.mark.parametrize("text", [False, True])
def test_the_rows_stay_and_the_shape_changes(rig: Any, layout: Any, text: bool) -> None:
    data = prices()
    table = put(rig.storage(), "hist_px_last", as_text(data) if text else data)
    before = rows(table)

    planned = optimize(table, layout=layout, dry_run=True)
    assert [part.label for part in table.snapshot().parts] == [""]  # nothing was done
    done = optimize(table, layout=layout)
    assert planned == done
    assert done.changed
    assert rows(table) == before
    assert (done.before.layout, done.before.typed, done.before.files, done.before.rows) == ("file", not text, 1, 350)
    files = {None: 1, "month": 3, "year": 1}[layout]
    assert (done.after.layout, done.after.typed, done.after.files) == (layout or "file", True, files)
    assert done.after.indexed == files
    assert done.after.bytes == sum(part.info.size for part in table.snapshot().parts)
    assert table.storage.stat(table.path("file")) is None if layout else True

    order = table.scan(["Date", "Asset"]).data.to_pandas()
    pd.testing.assert_frame_equal(order, order.sort_values(["Date", "Asset"], ignore_index=True))
    again = optimize(table, layout=layout)
    assert not again.changed
    assert again.before == again.after == done.after


@settings(max_examples=60, deadline=None)
@given(
    given_rows=st.lists(
        st.tuples(
            st.integers(0, 80).map(lambda n: FIRST + timedelta(days=n)),
            st.sampled_from(["a", "b", None]),
            st.one_of(st.none(), st.sampled_from([0.1, 2.0, -0.0])),
        ),
        min_size=1,
        max_size=30,
    ),
    layout=st.sampled_from([None, "month", "year"]),
)
def test_no_row_is_lost_made_or_changed(given_rows: list[Any], layout: Any) -> None:
    import uuid

    from luxor_pipelines.lake.storage.connect import connect
    from luxor_pipelines.settings import Settings

    date, asset, price = zip(*given_rows, strict=True)
    kinds = (pa.timestamp("us"), pa.string(), pa.float64())
    data = [pa.array(cells, kind) for cells, kind in zip((date, asset, price), kinds, strict=True)]
    storage = connect(f"memory://{uuid.uuid4().hex}", settings=Settings())
    table = put(storage, "t", pa.table(data, names=["Date", "Asset", "Last_Price"]))
    optimize(table, layout=layout)
    assert rows(table) == Counter(given_rows)
    # Of two prices of one asset and date the later row is the one that counts: their order stays.
    for day, name in {(row[0], row[1]) for row in given_rows}:
        found = [r["Last_Price"] for r in table.scan().data.to_pylist() if (r["Date"], r["Asset"]) == (day, name)]
        assert found == [row[2] for row in given_rows if (row[0], row[1]) == (day, name)]


def test_when_a_row_was_written_is_kept_as_an_instant(disk: Any) -> None:
    table = put(disk.storage(), "hist_px_last", as_text(prices()))
    optimize(table)
    stamps = table.scan(["Last_Updated"]).data["Last_Updated"]
    assert stamps.type == pa.timestamp("us", "UTC")
    assert stamps.null_count == 1
    assert set(stamps.drop_null().to_pylist()) == {datetime(2025, 3, 1, 10, 11, 12, tzinfo=UTC)}


def test_loads_go_on_afterwards_in_the_new_shape(rig: Any) -> None:
    lq = rig.query()
    table = put(lq.lake.storage, "hist_px_last", as_text(prices()))
    optimize(table, layout="month")
    frame = pd.DataFrame({"Date": pd.to_datetime(["2024-02-10", "2024-04-01"]), "Asset": "k0", "Last_Price": 9.5})
    result = incremental_load(lq, "hist_px_last", frame)
    assert result.partitions == ("2024-02", "2024-04")
    assert (result.inserted, result.updated, result.deleted) == (2, 0, 5)
    assert incremental_load(rig.query(), "hist_px_last", frame).changed is False
    assert not optimize(table).changed  # what a load writes is in that shape already


def test_a_table_without_dates_or_key_keeps_its_order(disk: Any) -> None:
    names = pa.table({"Key": ["b", "a", "b"], "Name": ["first", "x", "second"], "Hist_Price": ["True", "nan", "False"]})
    table = put(disk.storage(), "assets", names)
    done = optimize(table)
    assert done.sorted_by == ()
    assert table.scan().data.to_pydict() == {
        "Key": ["b", "a", "b"], "Name": ["first", "x", "second"], "Hist_Price": [True, None, False],
    }  # fmt: skip


def test_types_of_text_columns_beyond_those_known_by_name(disk: Any) -> None:
    table = put(disk.storage(), "t", pa.table({"When": ["2024-01-31", "NaT"], "Change": ["0.5", "nan"]}))
    optimize(table, types={"date": ["When"], "float": ["Change"]})
    schema = table.scan().data.schema
    assert [schema.field(name).type for name in ("When", "Change")] == [pa.timestamp("us"), pa.float64()]


# --- what is refused -----------------------------------------------------------------------------


def test_a_value_of_another_program_s_type_stays_what_it_is(disk: Any) -> None:
    odd = pa.table(
        {
            "Date": pa.array([date(2025, 1, 2), date(2025, 1, 1)]),
            "Asset": pa.array(["b", "a"]).dictionary_encode(),
            "Amount": pa.array([Decimal("12345678901234567.89"), None], pa.decimal128(25, 2)),
            "Count": pa.array([2**53 - 1, 3]),
            "Small": pa.array([1, None], pa.int8()).dictionary_encode(),
            "At": pa.array([datetime(2025, 1, 2, 3, 4, 5, 6), None], pa.timestamp("ns")),
            "Weight": pa.array([0.1, None], pa.float32()),
        }
    )
    table = put(disk.storage(), "odd", odd)
    dates = {"Date": (pa.date32(), DATE), "At": (pa.timestamp("ns"), DATE), "Weight": (pa.float32(), NUMBER)}
    assert retyped(table.codec(), "odd") == dates
    assert optimize(table).sorted_by == ("Date", "Asset")
    stored = pq.read_table(BytesIO(disk.storage().read(f"{DIRECTORY}/odd.parquet").data))
    assert {field.name: field.type for field in stored.schema} == {
        **{field.name: field.type for field in odd.schema},
        **{name: new for name, (_, new) in dates.items()},
        "Asset": pa.string(),
        "Small": pa.int8(),
    }
    first, second = stored.to_pylist()
    assert second == {
        "Date": datetime(2025, 1, 2),
        "Asset": "b",
        "Amount": Decimal("12345678901234567.89"),
        "Count": 2**53 - 1,
        "Small": 1,
        "At": datetime(2025, 1, 2, 3, 4, 5, 6),
        "Weight": float(np.float32(0.1)),
    }
    assert (first["Asset"], first["Amount"], first["Small"], first["At"]) == ("a", None, None, None)
    assert not retyped(table.codec(), "odd")
    assert not optimize(table).changed


def test_what_a_microsecond_does_not_hold_is_refused(disk: Any) -> None:
    fine = pa.table({"Date": pa.array([1_735_689_600_000_000_000, 1_735_689_600_000_000_001], pa.timestamp("ns"))})
    table = put(disk.storage(), "fine", fine)
    before = disk.storage().read(f"{DIRECTORY}/fine.parquet").data
    with pytest.raises(SchemaError, match=r"column 'Date': 1 of 2 .* finer than a microsecond"):
        optimize(table)
    assert disk.storage().read(f"{DIRECTORY}/fine.parquet").data == before


@pytest.mark.parametrize("layout", [None, "month"])
def test_a_column_without_a_value_is_not_made_text(disk: Any, layout: Any) -> None:
    lq = disk.query()
    stored = prices(days=3, assets=2)
    stored = stored.append_column("Volume", pa.nulls(len(stored))).append_column("Source", pa.nulls(len(stored)))
    table = put(lq.lake.storage, "t", stored)
    if layout:
        with pytest.raises(SchemaError, match="column 'Source': no cell has a value"):
            optimize(table, layout=layout)
        assert [part.label for part in table.snapshot().parts] == [""]
    optimize(table, layout=layout, types={"float": ["Source"]} if layout else None, sort_by=("Source", "Date", "Asset"))
    assert table.codec().stored.field("Volume").type == NUMBER, "known by its name"
    frame = lq.get_table("t")
    incremental_load(lq, "t", frame.assign(Volume=1.5, Source=2.5))
    assert lq.get_table("t")[["Volume", "Source"]].drop_duplicates().to_numpy().tolist() == [[1.5, 2.5]]


def test_what_is_refused_changes_nothing(disk: Any) -> None:
    storage = disk.storage()
    bad = put(storage, "bad", pa.table({"Date": ["2024-01-31", "31/01/2024"], "Asset": ["a", "b"]}))
    holes = put(storage, "holes", pa.table({"Date": pa.array([FIRST, None]), "Asset": ["a", "b"], "N": [1.0, 2.0]}))
    plain = put(storage, "plain", pa.table({"Name": ["a"], "N": [1.0]}))
    split = put(storage, "split", prices())
    optimize(split, layout="month")
    before = storage.list(DIRECTORY)
    for table, options, error, message in [
        (bad, {}, SchemaError, r"column 'Date': 1 of 2 cells are no ISO dates .*31/01/2024"),
        (holes, {"layout": "month"}, SchemaError, "1 of 2 rows have no date to split by"),
        (plain, {"layout": "year"}, UsageError, "no column of dates to split by"),
        (plain, {"layout": "year", "date_column": "Name"}, UsageError, "'Name' is none"),
        (plain, {"sort_by": ["Nmae"]}, UsageError, r"no column 'Nmae'; it has 'Name', 'N'"),
        (plain, {"types": {"float": ["Nmae"]}}, UsageError, r"no column 'Nmae'; it has 'Name', 'N'"),
        (split, {"layout": "year"}, UsageError, "is split by month, and is not turned into year"),
        (Table(storage, "nowhere"), {}, TableNotFoundError, "There is no table nowhere"),
    ]:
        with pytest.raises(error, match=message):
            optimize(table, **options)  # type: ignore[arg-type]
    assert storage.list(DIRECTORY) == before


def test_a_file_that_does_not_open_is_named(disk: Any) -> None:
    table = put(disk.storage(), "t", prices())
    optimize(table, layout="month")
    table.storage.write(table.path("month", "2024-02"), b"damaged")
    with pytest.raises(CorruptFileError, match=r"t/month=2024-02/data\.parquet is not a readable Parquet file"):
        optimize(table)


# --- others at work ------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [None, "month"])
@pytest.mark.parametrize("at", range(1, 10))
def test_a_load_that_comes_between_is_not_lost(rig: Any, layout: Any, at: int) -> None:
    table = put(rig.storage(), "t", prices())
    frame = pd.DataFrame({"Date": pd.to_datetime(["2024-01-15", "2024-05-05"]), "Asset": "new", "Last_Price": 1.5})

    def load() -> None:
        incremental_load(rig.query(), "t", frame)

    busy = Meanwhile(table.storage, at, load)
    done = optimize(Table(busy, "t"), layout=layout)  # type: ignore[arg-type]
    if busy.calls < at:
        load()
    assert done.after.layout == table.snapshot().layout == (layout or "file")
    found = rows(table)
    assert {row[2] for row in found if row[0] == datetime(2024, 1, 15)} == {1.5}
    assert found[(datetime(2024, 5, 5), "new", 1.5)] == 1
    assert sum(found.values()) == 350 - 5 + 2


@pytest.mark.parametrize("at", range(1, 9))
def test_a_conversion_that_dies_leaves_the_table_and_is_completed_by_another(rig: Any, at: int) -> None:
    table = put(rig.storage(), "t", prices())
    before = rows(table)

    with pytest.raises(Killed):
        optimize(Table(Meanwhile(table.storage, at, killed), "t"), layout="month")  # type: ignore[arg-type]
    assert table.snapshot().layout == "file"
    assert rows(table) == before
    # What it left is read by nobody, not even when the table has lost a month since.
    frame = table.scan().data.to_pandas()
    table.storage.write(table.path("file"), to_bytes(pa.Table.from_pandas(frame[frame["Date"] < "2024-03-01"])))
    optimize(table, layout="month")
    assert [part.label for part in table.snapshot().parts] == ["2024-01", "2024-02"]
    assert sum(rows(table).values()) == 60 * 5


def test_a_load_that_began_before_a_conversion_says_so_and_loses_nothing(rig: Any) -> None:
    table = put(rig.storage(), "t", prices())
    load = Load(table, None, attempts=3, now=lambda: datetime(2026, 11, 23, tzinfo=UTC))
    frame = pd.DataFrame({"Date": pd.to_datetime(["2024-01-15"]), "Asset": "new", "Last_Price": 1.5})
    batch = load.batch(frame, index=False, index_name="", normalize=True, key=None)
    optimize(table, layout="month")
    with pytest.raises(LoadConflictError, match="was converted from file to month"):
        load.merge(batch, "slices", None, "Date")
    assert sum(rows(table).values()) == 350


def test_other_writers_all_the_time_end_in_a_conflict(disk: Any) -> None:
    table = put(disk.storage(), "t", prices())

    class Busy(Meanwhile):
        def _counted(self, *_: Any, **__: Any) -> None:
            raise ConflictError("somebody was first", hint="")

    with pytest.raises(LoadConflictError, match="other writers came first 2 times"):
        optimize(Table(Busy(table.storage, 0, None), "t"), attempts=2)  # type: ignore[arg-type]
    assert sum(rows(table).values()) == 350


def test_whole_prices_become_numbers_where_numbers_hold_them(disk: Any) -> None:
    rows = pa.table({"Asset": ["a", "b"], "Last_Price": [1, 2], "Volume": [1, 2**53 + 1], "ID": [1, 2]})
    table = put(disk.storage(), "whole", rows)
    assert retyped(table.codec(), "whole") == {name: (pa.int64(), NUMBER) for name in ("Last_Price", "Volume")}, (
        "which is asked about first"
    )
    assert optimize(table).changed
    stored = pq.read_table(BytesIO(disk.storage().read(f"{DIRECTORY}/whole.parquet").data))
    assert stored.schema.types == [pa.string(), NUMBER, pa.int64(), pa.int64()]
    assert stored["Volume"].to_pylist() == [1, 2**53 + 1]
    assert not optimize(table).changed
