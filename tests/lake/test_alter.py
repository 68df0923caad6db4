"""Columns added to tables and dropped from them, whoever reads and loads meanwhile."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from io import BytesIO
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings

from lake.meanwhile import Killed, Meanwhile, killed
from luxor_pipelines import LuxorQuery, add_column, drop_column, incremental_load, save_table
from luxor_pipelines.catalog import CONVENTIONS
from luxor_pipelines.errors import (
    ConflictError,
    CorruptFileError,
    ForeignTableError,
    InvalidNameError,
    LoadConflictError,
    MoveInProgressError,
    SchemaError,
    TableNotFoundError,
    UsageError,
)
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.parquet.file import to_bytes
from luxor_pipelines.lake.storage.base import Storage
from luxor_pipelines.lake.storage.connect import connect
from luxor_pipelines.lake.table.layout import DIRECTORY, ColumnChanges, LayoutRecord
from luxor_pipelines.lake.table.load import LayoutChangedError, Load
from luxor_pipelines.lake.table.merge import with_stored_cells
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.lake.types.schema import ADDED, Column, TableSchema
from luxor_pipelines.operations.files import load_table_file, read_for
from luxor_pipelines.quality.audit import audit
from luxor_pipelines.settings import Settings

NEW = "Source"
LAYOUTS = ["file", "month", "year"]
layouts = pytest.mark.parametrize("layout", LAYOUTS)
two_layouts = pytest.mark.parametrize("layout", ["file", "month"])


def schema(layout: str, *more: Column, key: tuple[str, ...] = ("Date", "Asset")) -> TableSchema:
    columns = (Column("Date", "date", False), Column("Asset", "text", False), Column("Last_Price", "number"), *more)
    return TableSchema("t", 1, columns, key, None if layout == "file" else layout)  # type: ignore[arg-type]


def rows(first: str = "2026-01-01", days: int = 80, *, step: float = 0.0, **more: Any) -> pd.DataFrame:
    """Two prices a day, over three months unless told; further columns as given."""
    dates = [pd.Timestamp(first) + timedelta(days=day) for day in range(days) for _ in "ab"]
    prices = [day + step for day in range(days) for _ in "ab"]
    return pd.DataFrame({"Date": dates, "Asset": ["a", "b"] * days, "Last_Price": prices, **more})


def lake(storage: Any) -> Lake:
    return Lake(storage, settings=Settings(), conventions=CONVENTIONS)


def table(storage: Any) -> Table:
    return Table(storage, "t", conventions=CONVENTIONS)


def content(storage: Any, *columns: str) -> pd.DataFrame:
    read = LuxorQuery(lake=lake(storage)).get_table("t", columns=list(columns) or None)
    return read.sort_values(["Date", "Asset"], ignore_index=True)


def files(storage: Any) -> dict[str, pa.Table]:
    """The table's files by label, as any other program reads them."""
    parts = table(storage).snapshot().parts
    return {part.label: pq.ParquetFile(BytesIO(storage.read(part.info.path).data)).read() for part in parts}


def series_index(storage: Any) -> list[dict[str, Any]]:
    index = table(storage).series_index(table(storage).snapshot(), "Asset")
    assert index is not None
    return index.to_pylist()


def put(storage: Storage, data: pa.Table, path: str = f"{DIRECTORY}/t.parquet") -> None:
    sink = BytesIO()
    pq.write_table(data, sink)
    storage.write(path, sink.getvalue())


# --- what comes of it ----------------------------------------------------------------------------


@layouts
def test_a_column_is_added_without_values_and_dropped_again(rig: Any, layout: str) -> None:
    check_added_and_dropped(rig.storage(), layout, "number")


@pytest.mark.parametrize("kind", ["text", "whole", "date", "flag"])
def test_a_column_of_each_type_is_added_and_dropped_again(disk: Any, kind: Any) -> None:
    check_added_and_dropped(disk.storage(), "month", kind)


def check_added_and_dropped(storage: Storage, layout: str, kind: Any) -> None:
    incremental_load(lake(storage), "t", rows(), schema=schema(layout))
    before, labels = files(storage), tuple(part.label for part in table(storage).snapshot().parts)
    last_rows = series_index(storage)

    planned = add_column("t", NEW, kind, lq=lake(storage), dry_run=True)
    assert {label: data.column_names for label, data in files(storage).items()} == {
        label: data.column_names for label, data in before.items()
    }
    done = add_column("t", NEW, kind, lq=lake(storage))
    assert done == planned
    assert (done.values, done.rewritten, done.changed) == (0, labels, True)
    for label, data in files(storage).items():
        assert data.column_names == ["Date", "Asset", "Last_Price", NEW, "Last_Updated"]
        assert data[NEW].null_count == len(data)
        assert data.drop_columns(NEW).equals(before[label]), "the rows, their order and stamps are as they were"
    assert series_index(storage) == last_rows
    again = add_column("t", NEW, kind, lq=lake(storage))
    assert (again.rewritten, again.changed) == ((), False)
    assert not audit(lake(storage), "t", declared={}).findings

    values = {"text": "x", "number": 1.5, "whole": 7, "date": pd.Timestamp("2026-01-02"), "flag": True}
    one = rows()[rows()["Date"] == "2026-02-03"].assign(**{NEW: values[kind]})
    assert incremental_load(lake(storage), "t", one).updated == 2
    assert content(storage)[NEW].notna().sum() == 2
    assert series_index(storage) == last_rows

    planned = drop_column("t", NEW, lq=lake(storage), dry_run=True)
    assert content(storage)[NEW].notna().sum() == 2
    done = drop_column("t", NEW, lq=lake(storage))
    assert done == planned
    assert (done.values, done.rewritten) == (2, labels)
    for label, data in files(storage).items():
        assert data.column_names == before[label].column_names
        assert (ADDED in data.schema.metadata) is False
        assert data.drop_columns("Last_Updated").equals(before[label].drop_columns("Last_Updated"))
    with pytest.raises(SchemaError, match=r"no column 'Source'; it has 'Date', 'Asset', 'Last_Price', 'Last_Updated'"):
        drop_column("t", NEW, lq=lake(storage))
    assert series_index(storage) == last_rows


def test_an_all_text_table_stays_all_text(rig: Any) -> None:
    storage = rig.storage()
    legacy = {"Date": ["2026-01-01", "2026-01-02"], "Asset": ["a", "b"], "Last_Price": ["1.0", "nan"]}
    put(storage, pa.table({**legacy, "Last_Updated": ["2026-01-03 10:11:12"] * 2}))
    add_column("t", "Volume", "number", lq=lake(storage))  # which this name stands for
    add_column("t", NEW, "text", lq=lake(storage))
    stored = files(storage)[""]
    assert set(stored.schema.types) == {pa.string()}
    assert stored["Volume"].to_pylist() == stored[NEW].to_pylist() == ["nan", "nan"], "as such tables have it"
    read = content(storage)
    assert read["Volume"].dtype == float
    assert read[["Volume", NEW]].isna().all(axis=None)

    incremental_load(
        lake(storage), "t", pd.DataFrame(legacy)[:1].assign(Date=pd.Timestamp("2026-01-01"), Last_Price=2.0, Volume=8.0)
    )
    assert content(storage)["Volume"].tolist()[:1] == [8.0]
    assert set(files(storage)[""].schema.types) == {pa.string()}
    with pytest.raises(SchemaError, match="'Weight' is number"):
        add_column("t", "Weight", "text", lq=lake(storage))
    with pytest.raises(SchemaError, match="'Height' is text"):
        add_column("t", "Height", "number", lq=lake(storage))
    assert drop_column("t", "Volume", lq=lake(storage)).values == 1
    assert files(storage)[""].column_names == ["Date", "Asset", "Last_Price", NEW, "Last_Updated"]
    assert set(files(storage)[""].schema.types) == {pa.string()}


def test_cells_that_are_not_what_their_column_says_can_be_dropped(disk: Any) -> None:
    storage = disk.storage()
    put(storage, pa.table({"Date": ["2026-01-01", "2026-01-02"], "Asset": ["a", "b"], "Volume": ["much", "nan"]}))
    assert drop_column("t", "Volume", lq=lake(storage)).values == 1
    assert files(storage)[""].column_names == ["Date", "Asset"]


def test_an_order_that_another_program_claims_is_not_taken_for_granted(disk: Any) -> None:
    storage, sink = disk.storage(), BytesIO()
    data = pa.table(
        {"Date": pd.to_datetime(["2026-01-02", "2026-01-01"]), "Asset": ["a", "a"], "Last_Price": [2.0, 1.0]}
    )
    data = data.append_column("Note", [["x", "y"]])
    order = [pq.SortingColumn(0), pq.SortingColumn(1)]
    pq.write_table(data, sink, sorting_columns=order)
    storage.write(f"{DIRECTORY}/hist_px_last.parquet", sink.getvalue())
    drop_column("hist_px_last", "Note", lq=lake(storage))
    prices = Table(storage, "hist_px_last", conventions=CONVENTIONS)
    assert prices.series_index(prices.snapshot(), "Asset") is None
    assert LuxorQuery(lake=lake(storage)).get_prices("a", "2026-01-03")["Last_Price"].tolist()[-1] == 2.0


def test_a_dry_run_of_a_load_goes_by_the_columns_of_the_record(disk: Any, tmp_path: Any) -> None:
    storage = disk.storage()
    start(storage, "month")
    die_early(storage, "add")
    file = tmp_path / "t.csv"
    rows("2026-03-10", 1, step=0.5, Note="n", **{NEW: "x"}).to_csv(file, index=False)
    result = load_table_file(lake(storage), "t", read_for(lake(storage), "t", file), dry_run=True)
    assert result.updated == 2
    assert content(storage)[NEW].isna().all()


def test_partitions_that_another_program_gave_a_column_agree_again(rig: Any) -> None:
    storage = rig.storage()
    incremental_load(lake(storage), "t", rows(), schema=schema("month"))
    part = table(storage).snapshot().parts[1]
    data = table(storage).read_part(part).physical
    storage.write(part.info.path, to_bytes(data.append_column(NEW, pa.array([1.5] * len(data)))))
    with pytest.raises(SchemaError, match=r"differ in columns 'Source'[^`]*`luxor add-column t COLUMN"):
        table(storage).scan()
    with pytest.raises(UsageError, match="partition 2026-02, has a column 'Source' already, of the type number"):
        add_column("t", NEW, "text", lq=lake(storage))
    assert add_column("t", NEW, "number", lq=lake(storage)).rewritten == ("2026-01", "2026-03")
    assert content(storage)[NEW].sum() == 1.5 * len(data)


# --- what is refused -----------------------------------------------------------------------------


@layouts
def test_what_is_refused_changes_nothing(disk: Any, layout: str) -> None:
    storage = disk.storage()
    incremental_load(lake(storage), "t", rows(), schema=schema(layout))
    before = storage.list("enriched")
    for name, kind, error, message in [
        (
            "last_price",
            "number",
            UsageError,
            "has a column 'Last_Price', which differs from 'last_price' in case alone",
        ),
        ("Last_Price", "text", UsageError, "has a column 'Last_Price' already, of the type number"),
        ("Last_Updated", "date", UsageError, "is written by every load"),
        ("", "text", UsageError, "'' is not a column's name"),
        (" x", "text", UsageError, "' x' is not a column's name"),
        ("x\ny", "text", UsageError, "is not a column's name"),
        (7, "text", UsageError, "7 is not a column's name"),
        (NEW, "float", UsageError, "'float' is not a type of column"),
        (NEW, "stamp", UsageError, "'stamp' is not a type of column"),
        (NEW, ["text"], UsageError, "is not a type of column"),
        (NEW, None, UsageError, "is not a type of column"),
        ("__index_level_0__", "number", UsageError, "is what pandas names an index that it stores unasked"),
        *([] if layout == "file" else [(layout.title(), "text", UsageError, f"is split by {layout}, of which")]),
    ]:
        with pytest.raises(error, match=message):
            add_column("t", name, kind, lq=lake(storage))  # type: ignore[arg-type]
    for name, error, message in [
        ("Asset", UsageError, "'Asset' of table t is what rows are told apart by"),
        ("Date", UsageError, "is what rows are told apart by"),
        ("Last_Updated", UsageError, "is written by every load"),
        ("Nmae", SchemaError, "has no column 'Nmae'"),
    ]:
        with pytest.raises(error, match=message):
            drop_column("t", name, lq=lake(storage))
    with pytest.raises(UsageError, match="is a declared column of the table"):
        drop_column("t", "Last_Price", lq=lake(storage), schema=schema(layout))
    for call in (
        lambda name: add_column(name, NEW, "text", lq=lake(storage)),
        lambda name: drop_column(name, NEW, lq=lake(storage)),
    ):
        with pytest.raises(TableNotFoundError):
            call("nowhere")
        with pytest.raises(InvalidNameError):
            call("../t")
    assert storage.list("enriched") == before


def test_columns_that_the_library_rests_on_are_kept(disk: Any) -> None:
    storage = disk.storage()
    prices = pd.DataFrame({"Date": pd.to_datetime(["2026-01-01"]), "Asset": "a", "Last_Price": 1.0, "Note": "x"})
    for name in ("hist_px_last", "all_funds_quotas"):
        save_table(name, prices, lq=lake(storage))
        for column in ("Asset", "Last_Price"):
            with pytest.raises(UsageError, match=f"'{column}' of table {name} is a declared column"):
                drop_column(name, column, lq=lake(storage))
        assert drop_column(name, "Note", lq=lake(storage)).values == 1
    save_table("fund_quotas", prices.rename(columns={"Last_Price": "Quota"}), lq=lake(storage))
    with pytest.raises(UsageError, match="'Date' of table fund_quotas"):
        drop_column("fund_quotas", "Date", lq=lake(storage))
    save_table("one", prices[["Note"]], lq=lake(storage))
    with pytest.raises(UsageError, match="is its only column"):
        drop_column("one", "Note", lq=lake(storage))


def test_the_column_that_partitions_are_made_by_is_kept(disk: Any) -> None:
    storage = disk.storage()
    incremental_load(lake(storage), "t", rows(), schema=schema("year", key=()))
    with pytest.raises(UsageError, match="'Date' of table t is what the table is split by, into years"):
        drop_column("t", "Date", lq=lake(storage))


def test_a_file_that_tells_types_does_not_become_one_that_tells_none(disk: Any) -> None:
    storage = disk.storage()
    put(storage, pa.table({"Asset": ["nan", "b"], "Last_Price": [1.0, 2.0]}))
    with pytest.raises(UsageError, match=r"all columns of table t would be text.*\n.*luxor optimize t"):
        drop_column("t", "Last_Price", lq=lake(storage))


def test_a_folder_of_another_program_is_left_alone(disk: Any) -> None:
    storage = disk.storage()
    put(storage, pa.table({"Asset": ["a"], "Last_Price": [1.0]}), f"{DIRECTORY}/t/lot=1/part-0.parquet")
    before = storage.list("enriched")
    for call in (
        lambda: add_column("t", NEW, "text", lq=lake(storage)),
        lambda: drop_column("t", "Last_Price", lq=lake(storage)),
    ):
        with pytest.raises(ForeignTableError, match="is a folder of files that another program wrote"):
            call()
    assert storage.list("enriched") == before


def test_a_damaged_partition_is_named_before_anything_is_done(rig: Any) -> None:
    storage = rig.storage()
    incremental_load(lake(storage), "t", rows(), schema=schema("month"))
    storage.write(table(storage).path("month", "2026-02"), b"damaged")
    before = storage.list("enriched")
    with pytest.raises(CorruptFileError, match="month=2026-02"):
        add_column("t", NEW, "text", lq=lake(storage))
    assert storage.list("enriched") == before


# --- rows that come without the column -----------------------------------------------------------


@layouts
def test_rows_that_come_without_an_added_column_keep_what_is_stored_in_it(rig: Any, layout: str) -> None:
    storage = rig.storage()
    incremental_load(lake(storage), "t", rows(), schema=schema(layout))
    add_column("t", NEW, "text", lq=lake(storage))
    with_it = rows("2026-02-01", 2, **{NEW: ["p", "q", "r", "s"]})
    assert incremental_load(lake(storage), "t", with_it).updated == 4

    same = rows("2026-02-01", 2)
    assert incremental_load(lake(storage), "t", same).changed is False, "the writer knows nothing of the column"
    new_prices = rows("2026-02-01", 2, step=0.5)[:3]  # by slices: the fourth row goes
    result = incremental_load(lake(storage), "t", new_prices)
    assert (result.updated, result.deleted) == (3, 1)
    again = content(storage)
    assert again.loc[again[NEW].notna(), [NEW, "Last_Price"]].values.tolist() == [["p", 0.5], ["q", 0.5], ["r", 1.5]]
    upserted = rows("2026-02-01", 3, step=0.75)
    assert incremental_load(lake(storage), "t", upserted, unique_columns=["Date", "Asset"]).updated == 6 - 1
    assert content(storage)[NEW].dropna().tolist() == ["p", "q", "r"]
    assert incremental_load(lake(storage), "t", with_it.assign(**{NEW: None})).updated >= 3, "told to be missing"
    assert content(storage)[NEW].isna().all()


@layouts
def test_without_a_key_a_value_is_not_lost_in_silence(rig: Any, layout: str) -> None:
    storage = rig.storage()
    incremental_load(lake(storage), "t", rows(), schema=schema(layout, key=()))
    add_column("t", NEW, "number", lq=lake(storage))
    incremental_load(lake(storage), "t", rows("2026-02-01", 1, **{NEW: [1.0, None]}))
    assert incremental_load(lake(storage), "t", rows("2026-02-01", 1)).changed is False
    fresh = rows("2026-02-01", 1, step=9.0)
    before = storage.list("enriched")
    with pytest.raises(
        SchemaError, match=r"no column 'Source', of which 1 of 2 rows to be replaced have a value.*\n.*unique"
    ):
        incremental_load(lake(storage), "t", fresh)
    assert storage.list("enriched") == before
    assert incremental_load(lake(storage), "t", fresh, unique_columns=["Date", "Asset"]).updated == 2
    assert content(storage)[NEW].dropna().tolist() == [1.0]


cells = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.one_of(st.none(), st.integers(0, 9))), max_size=9)


@settings(max_examples=150, deadline=None)
@given(stored=cells, batch=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=6), by_key=st.booleans())
def test_the_cells_kept_are_those_of_the_same_rows(stored: Any, batch: Any, by_key: bool) -> None:
    def data(rows_: Any, names: str) -> pa.Table:
        return pa.table({n: pa.array([row[at] for row in rows_], pa.int64()) for at, n in enumerate(names)})

    batch = list(dict(batch).items()) if by_key else batch  # a batch that repeats a key is refused before
    old, new = data(stored, "kvx"), data(batch, "kv").append_column("x", pa.nulls(len(batch), pa.int64()))
    got = with_stored_cells(old, new, ["x"], ["k"] if by_key else None)
    assert got.drop_columns("x").equals(new.drop_columns("x"))
    left = list(stored)
    for (key, value), x in zip(batch, got["x"].to_pylist(), strict=True):
        match = next((row for row in left if row[0] == key and (by_key or row[1] == value)), None)
        assert x == (match[2] if match else None)
        if match and not by_key:
            left.remove(match)  # the n-th of equal rows stands for the n-th


def test_a_frame_with_other_columns_is_refused_with_the_way_to_add_them(disk: Any) -> None:
    storage = disk.storage()
    incremental_load(lake(storage), "t", rows(), schema=schema("month"))
    odd = rows("2026-02-01", 1, **{"Net #": 7, "Lot": "x"})
    with pytest.raises(SchemaError) as raised:
        incremental_load(lake(storage), "t", odd)
    assert "unknown: 'Net #', 'Lot'" in raised.value.message
    assert '`luxor add-column t "Net #" --type whole`, `luxor add-column t Lot --type text`' in raised.value.hint
    add_column("t", "Net #", "whole", lq=lake(storage))
    add_column("t", "Lot", "text", lq=lake(storage))
    assert incremental_load(lake(storage), "t", odd).updated == 2
    with pytest.raises(
        SchemaError, match=r"unknown: 'last_price'; missing: 'Last_Price'.*\nIs 'last_price' 'Last_Price'\?"
    ):
        incremental_load(
            lake(storage),
            "t",
            rows("2026-02-01", 1).rename(columns=str.lower).rename(columns={"date": "Date", "asset": "Asset"}),
        )


# --- a pipeline's declared columns ---------------------------------------------------------------


@layouts
def test_a_pipeline_that_declares_another_column_says_how_to_add_it(rig: Any, layout: str) -> None:
    storage = rig.storage()
    incremental_load(lake(storage), "t", rows(), schema=schema(layout))
    wider = schema(layout, Column(NEW, "text"), Column("Weight", "number"))
    frame = rows("2026-02-01", 1, **{NEW: "x", "Weight": 0.5})
    with pytest.raises(SchemaError) as raised:
        incremental_load(lake(storage), "t", frame, schema=wider)
    assert "'Source' is absent, declared string; 'Weight' is absent, declared double" in raised.value.message
    ways = "`luxor add-column t Source --type text`, `luxor add-column t Weight --type number` make it fit; or `luxor"
    assert raised.value.hint.startswith(ways)
    add_column("t", NEW, "text", lq=lake(storage))
    add_column("t", "Weight", "number", lq=lake(storage))
    assert incremental_load(lake(storage), "t", frame, schema=wider).updated == 2
    assert not audit(lake(storage), "t", declared={"t": wider}).count("error")
    # The version before, still at work somewhere, loses nothing of it.
    assert incremental_load(lake(storage), "t", rows("2026-02-01", 1), schema=schema(layout)).changed is False

    narrower = schema(layout, Column("Weight", "number"))
    assert incremental_load(lake(storage), "t", frame.drop(columns=NEW), schema=narrower).changed is False
    required = schema(layout, Column(NEW, "text"), Column("Weight", "number"), Column("Must", "text", False))
    with pytest.raises(SchemaError, match=r"'Must' is absent[^\n]*\n`luxor archive t` moves"):
        incremental_load(lake(storage), "t", frame.assign(Must="x"), schema=required)


def test_a_column_that_a_pipeline_no_longer_declares_is_named_with_the_way_to_drop_it(disk: Any) -> None:
    storage = disk.storage()
    incremental_load(lake(storage), "t", rows(**{NEW: "x"}), schema=schema("month", Column(NEW, "text")))
    with pytest.raises(
        SchemaError, match=r"'Source' is string, declared absent.*\n`luxor drop-column t Source` makes it fit"
    ):
        incremental_load(lake(storage), "t", rows(), schema=schema("month"))
    assert drop_column("t", NEW, lq=lake(storage), schema=schema("month")).values == 160
    assert incremental_load(lake(storage), "t", rows(), schema=schema("month")).changed is False


def test_a_column_that_people_added_to_a_pipeline_s_table_survives_its_runs(rig: Any) -> None:
    storage = rig.storage()
    declared = schema("month")
    incremental_load(lake(storage), "t", rows(), schema=declared)
    add_column("t", "Comment", "text", lq=lake(storage))
    incremental_load(lake(storage), "t", rows("2026-02-01", 1, Comment=["seen", None]))
    incremental_load(lake(storage), "t", rows(step=1.0), schema=declared)
    incremental_load(lake(storage), "t", rows("2026-04-01", 1), schema=declared)  # a new month has it, too
    assert content(storage)["Comment"].dropna().tolist() == ["seen"]
    assert "Comment" in files(storage)["2026-04"].column_names
    assert not audit(lake(storage), "t", declared={"t": declared}).findings


# --- others at work ------------------------------------------------------------------------------

CHANGES = {
    "add": lambda storage: add_column("t", NEW, "text", lq=lake(storage)),
    "drop": lambda storage: drop_column("t", "Note", lq=lake(storage)),
}
changes = pytest.mark.parametrize("change", CHANGES)


def start(storage: Storage, layout: str) -> None:
    incremental_load(lake(storage), "t", rows(Note="n"), schema=schema(layout, Column("Note", "text")))


def emptied(rig: Any) -> Storage:
    """The lake without what the round before has left there."""
    storage: Storage = rig.storage()
    for info in storage.list("enriched"):
        storage.delete(info.path, expected=info.version)
    return storage


def check_readers(storage: Storage, change: str) -> None:
    """Every way of reading gives the whole table, with the column or without it."""
    read = content(storage)
    assert len(read) == 160
    if change == "add" and NEW in read:
        assert read[NEW].isna().all()
        assert content(storage, "Date", "Asset", NEW)[NEW].isna().all()
        lq = LuxorQuery(lake=lake(storage))
        assert len(lq.get_table("t", where=f"{NEW} is null", columns=["Asset"])) == 160
        assert len(lq.get_table("t", where=f"{NEW}=x")) == len(lq.get_table("t", where=f"{NEW}!=x")) == 0
        assert lq.scan("t", [NEW, "Asset"])[NEW].null_count == 160
        assert lq.describe("t").columns.set_index("Column")["Null_Share"][NEW] == 1.0
        assert table(storage).scan([NEW, "Asset"], dictionary=[NEW, "Asset"]).data[NEW].null_count == 160
        assert table(storage).scan([NEW], raw=True).data.schema.types == [pa.string()]
    if change == "drop":
        if "Note" in read:
            assert read["Note"].notna().all()
        else:
            for ask in ({"columns": ["Note"]}, {"where": "Note=n"}):
                with pytest.raises(SchemaError, match="has no column 'Note'"):
                    LuxorQuery(lake=lake(storage)).get_table("t", **ask)  # type: ignore[arg-type]


@changes
@layouts
@pytest.mark.parametrize("late", [False, True])
def test_a_change_that_dies_anywhere_is_readable_loadable_and_completed_by_another(
    rig: Any, layout: str, change: str, late: bool
) -> None:
    for at in range(1, 9):
        storage = emptied(rig)
        start(storage, layout)
        dying = Meanwhile(storage, at, killed, late=late)  # type: ignore[arg-type]
        try:
            CHANGES[change](dying)
        except Killed:
            pass
        else:
            assert at > {"file": 1, "month": 4, "year": 2}[layout]
            break
        check_readers(storage, change)
        findings = audit(lake(storage), "t", declared={}).findings
        assert {finding.severity for finding in findings} <= {"warning"}
        unfinished = len({tuple(data.column_names) for data in files(storage).values()}) > 1
        assert not unfinished or findings, "the files that are left are named"
        # Loads go on.
        more = {"Note": "n"} if "Note" in content(storage) else {}
        incremental_load(lake(storage), "t", rows("2026-01-05", 1, step=0.25, **more))
        incremental_load(lake(storage), "t", rows("2026-04-05", 1, **more))
        with suppress(SchemaError):  # in one file it may be all done
            CHANGES[change](storage)
        want = {"add": {NEW, "Note"}, "drop": set()}[change]
        for data in files(storage).values():
            assert set(data.column_names) == {"Date", "Asset", "Last_Price", "Last_Updated", *want}
        assert not audit(lake(storage), "t", declared={}).findings
        assert len(content(storage)) == 162
    else:
        pytest.fail("the change has more steps than that")


@changes
@layouts
@pytest.mark.parametrize("known", [False, True])
def test_a_load_that_comes_between_is_not_lost(rig: Any, layout: str, change: str, known: bool) -> None:
    """Whether its frame has the column or not, and at whatever step."""
    for at in range(1, 9):
        storage = emptied(rig)
        start(storage, layout)
        more = {"Note": "n"} if change == "add" or known else {}
        more |= {NEW: "x"} if change == "add" and known else {}
        frame = pd.concat([rows("2026-01-10", 1, step=0.5, **more), rows("2026-04-05", 1, step=0.5, **more)])
        loaded: list[bool] = []

        def load(frame: pd.DataFrame = frame, loaded: list[bool] = loaded, storage: Any = storage) -> None:
            try:
                incremental_load(lake(storage), "t", frame)
                loaded.append(True)
            except SchemaError as error:  # it knows a column that is not there yet, or not any more
                if "unknown: 'Source'" not in str(error) and ": 'Note'" not in str(error):
                    raise
                loaded.append(False)

        busy = Meanwhile(storage, at, load)  # type: ignore[arg-type]
        CHANGES[change](busy)
        if busy.calls < at:
            break
        read = content(storage)
        assert set(read) == {"Date", "Asset", "Last_Price"} | ({NEW, "Note"} if change == "add" else set())
        assert len(read) == 160 + 2 * loaded[0]
        assert (read["Last_Price"] % 1 == 0.5).sum() == 4 * loaded[0]
        if change == "add":
            assert read[NEW].notna().sum() == 4 * loaded[0] * known
        for data in files(storage).values():
            assert set(data.column_names) == {*read, "Last_Updated"}
        assert not audit(lake(storage), "t", declared={}).findings
    assert busy.calls < at


@changes
@layouts
@pytest.mark.parametrize("first", ["2026-01-10", "2026-06-01"])
def test_a_load_that_began_before_begins_anew(rig: Any, layout: str, change: str, first: str) -> None:
    """Be it into a partition that is there, or into a new one."""
    storage = rig.storage()
    start(storage, layout)
    load = Load(table(storage), None, attempts=3, now=lake(storage).now)
    frame = rows(first, 1, step=0.5, Note="n")
    batch = load.batch(frame, index=False, index_name="", normalize=True, key=("Date", "Asset"))
    CHANGES[change](storage)
    before = files(storage)
    with pytest.raises(LayoutChangedError):
        load.merge(batch, "slices", ("Date", "Asset"), "Date")
    assert files(storage) == before
    if change == "add":
        incremental_load(lake(storage), "t", frame)
        assert content(storage)["Note"].notna().all()
        assert (content(storage)["Last_Price"] == 0.5).sum() == 2


def stalled(storage: Storage, **more: Any) -> Callable[[], None]:
    """A load of a day of the first month and one of the second that has looked at the table, and its writes."""
    load = Load(table(storage), None, attempts=3, now=lake(storage).now)
    frame = pd.concat([rows("2026-01-10", 1, step=0.5, **more), rows("2026-02-10", 1, step=0.5, **more)])
    batch = load.batch(frame, index=False, index_name="", normalize=True, key=("Date", "Asset"))
    return lambda: load.merge(batch, "slices", ("Date", "Asset"), "Date")


@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("change", ["add", "drop"])
def test_a_load_that_begins_anew_counts_what_it_did_before(rig: Any, at: int, change: str) -> None:
    """Two rows of each of two months are other than before, two days are new, one of them in a new month."""
    storage = rig.storage()
    start(storage, "month")
    add_column("t", "Spare", "text", lq=lake(storage))
    then = {"add": CHANGES["add"], "drop": lambda storage: drop_column("t", "Spare", lq=lake(storage))}[change]
    busy: Any = Meanwhile(storage, at, lambda: then(storage))
    days = [(f"2026-0{month}-10", 0.5) for month in (1, 2, 4)] + [("2026-03-28", 0.0)]
    frame = pd.concat([rows(day, 1, step=step, Note="n") for day, step in days])
    same = rows("2026-01-01", 1, Note="n")
    result = incremental_load(lake(busy), "t", pd.concat([frame, same]))
    assert (result.inserted, result.updated, result.unchanged, result.deleted) == (4, 4, 2, 0)
    assert result.partitions == ("2026-01", "2026-02", "2026-03", "2026-04")
    assert len(content(storage)) == 164


@pytest.mark.parametrize("more", [{}, {NEW: 9.0}])
@pytest.mark.parametrize("layout", ["month", "year"])
def test_a_load_does_not_bring_back_an_added_column_that_was_dropped_meanwhile(
    rig: Any, layout: str, more: Any
) -> None:
    storage = rig.storage()
    incremental_load(lake(storage), "t", rows(), schema=schema(layout))
    add_column("t", NEW, "number", lq=lake(storage))
    merge = stalled(storage, **more)
    drop_column("t", NEW, lq=lake(storage))
    before = files(storage)
    with pytest.raises(LayoutChangedError):
        merge()
    assert files(storage) == before


def test_a_load_does_not_bring_back_a_column_where_a_partition_never_had_it(rig: Any) -> None:
    """The column was being added, and so a partition that lacks it has nothing to lose when it is dropped."""
    storage = rig.storage()
    incremental_load(lake(storage), "t", rows(), schema=schema("month"))
    with pytest.raises(Killed):
        add_column("t", NEW, "number", lq=lake(Meanwhile(storage, 2, killed, late=True)))  # type: ignore[arg-type]
    merge = stalled(storage, **{NEW: 9.0})
    assert drop_column("t", NEW, lq=lake(storage)).rewritten == ("2026-01",)
    before = files(storage)
    with pytest.raises(LayoutChangedError):
        merge()
    assert files(storage) == before


@pytest.mark.parametrize("more", [{}, {NEW: 9.0}])
def test_a_column_added_again_in_another_type_is_of_that_type_in_all_partitions(rig: Any, more: Any) -> None:
    """Though a load that knows the old type comes between the look of the second addition and its record."""
    storage = rig.storage()
    incremental_load(lake(storage), "t", rows(), schema=schema("month"))
    add_column("t", NEW, "number", lq=lake(storage))
    merge = stalled(storage, **more)
    drop_column("t", NEW, lq=lake(storage))

    def load() -> None:
        with pytest.raises(LayoutChangedError):
            merge()

    add_column("t", NEW, "text", lq=lake(Meanwhile(storage, 1, load)))  # type: ignore[arg-type]
    assert {str(data.schema.field(NEW).type) for data in files(storage).values()} == {"string"}
    assert content(storage)[NEW].isna().all()


@pytest.mark.parametrize("odd", ["2026-01", "2026-03"])
def test_dropping_a_column_mends_partitions_that_disagree_on_it(rig: Any, odd: str) -> None:
    storage = rig.storage()
    incremental_load(lake(storage), "t", rows(), schema=schema("month"))
    add_column("t", NEW, "text", lq=lake(storage))
    data = files(storage)[odd]
    numbers = pa.array([1.5, *[None] * (len(data) - 1)], pa.float64())
    data = data.set_column(data.schema.get_field_index(NEW), NEW, numbers)
    put(storage, data, f"{DIRECTORY}/t/month={odd}/data.parquet")
    with pytest.raises(SchemaError, match="disagree on a column's type"):
        content(storage)
    assert drop_column("t", NEW, lq=lake(storage), dry_run=True).values == 1
    assert drop_column("t", NEW, lq=lake(storage)).rewritten == ("2026-01", "2026-02", "2026-03")
    assert len(check_settled(storage)) == 160


@changes
def test_a_reader_that_looked_before_reads_on(rig: Any, change: str) -> None:
    """Its snapshot names files that are rewritten by now, some of them or all."""
    for at in (2, 3, 4, None):
        storage = emptied(rig)
        start(storage, "month")
        lq = LuxorQuery(lake=lake(storage))
        assert len(lq.get_table("t", columns="Date")) == 160
        old = table(storage).snapshot()
        busy: Any = storage if at is None else Meanwhile(storage, at, killed, late=True)  # type: ignore[arg-type]
        with suppress(Killed):
            CHANGES[change](busy)
        for data in (lq.scan("t"), table(storage).scan(snapshot=old).data):
            assert len(data) == 160
            assert change == "drop" or data["Note"].null_count == 0
            if NEW in data.column_names:
                assert data[NEW].null_count == 160
        assert len(table(storage).scan(["Asset"], snapshot=old).data) == 160


@pytest.fixture
def memory(make_rig: Any) -> Any:
    """An empty lake in memory."""
    return make_rig("memory")


class AtEveryStep:
    """A storage that does something before the n-th step of anybody's work, be it a look, a read or a write."""

    STEPS = ("delete", "folder", "list", "open", "peek", "read", "stat", "write")

    def __init__(self, storage: Storage, at: int, then: Callable[[], Any]) -> None:
        self._storage, self._at, self._then = storage, at, then
        self.steps = 0

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._storage, name)
        if name not in self.STEPS:
            return inner

        def step(*args: Any, **options: Any) -> Any:
            self.steps += 1
            if self.steps == self._at:
                self._then()
            return inner(*args, **options)

        return step


def each_step(
    memory: Any, begin: Callable[[Storage], Any], work: Callable[[Any], Any], then: Callable[[Storage], Any]
) -> Any:
    """Do ``then`` at each step of ``work`` in turn, and yield the lake afterwards."""
    for at in range(1, 200):
        storage = emptied(memory)
        begin(storage)
        busy = AtEveryStep(storage, at, partial(then, storage))
        work(busy)
        if busy.steps < at:
            assert at > 3
            return
        yield storage
    pytest.fail("there is no end of steps")


def check_settled(storage: Storage, *columns: str) -> pd.DataFrame:
    """All files have these columns and the three first ones, and nothing is to be told of the table."""
    want = {"Date", "Asset", "Last_Price", *columns}
    assert {frozenset(data.column_names) for data in files(storage).values()} == {frozenset({*want, "Last_Updated"})}
    assert not audit(lake(storage), "t", declared={}).findings
    return content(storage)


@two_layouts
def test_a_column_is_added_at_any_step_of_a_load(memory: Any, layout: str) -> None:
    frame = pd.concat([rows("2026-03-10", 1, step=0.5, Note="m"), rows("2026-04-05", 1, step=0.5, Note="m")])
    for one in (frame, frame[:2], frame[2:]):  # into both, into a partition that is there, into a new one
        for storage in each_step(
            memory,
            partial(start, layout=layout),
            lambda busy, one=one: incremental_load(lake(busy), "t", one),  # type: ignore[misc]
            CHANGES["add"],
        ):
            read = check_settled(storage, "Note", NEW)
            assert read.loc[read["Note"] == "m", "Last_Price"].tolist() == [0.5] * len(one)
            assert read[NEW].isna().all()


def die_early(storage: Storage, change: str) -> None:
    """Begin a change, and be killed when the record is written and no file."""
    with suppress(Killed):
        CHANGES[change](Meanwhile(storage, 1, killed, late=True))


@changes
@pytest.mark.parametrize("by_key", [False, True])
def test_a_change_that_dies_early_at_any_step_of_a_load_leaves_one_table(
    memory: Any, change: str, by_key: bool
) -> None:
    options = {"increment_column": None, "unique_columns": ["Date", "Asset"]} if by_key else {}

    def load(busy: Any) -> None:
        with suppress(SchemaError):
            more = {"Note": "m"} if change == "add" else {}
            frame = pd.concat([rows("2026-03-10", 1, **more), rows("2026-04-05", 1, **more)])
            incremental_load(lake(busy), "t", frame, **options)  # type: ignore[arg-type]

    for storage in each_step(memory, partial(start, layout="month"), load, partial(die_early, change=change)):
        read = content(storage)
        assert len(read) in ((160, 162) if change == "drop" else (162,))
        assert set(read) == {"Date", "Asset", "Last_Price", *({"Note", NEW} if change == "add" else ())}
        CHANGES[change](storage)
        check_settled(storage, *({"Note", NEW} if change == "add" else ()))


@two_layouts
def test_a_column_is_dropped_at_any_step_of_a_load(memory: Any, layout: str) -> None:
    def load(busy: Any) -> None:
        with suppress(SchemaError):
            incremental_load(lake(busy), "t", rows("2026-04-05", 1, Note="m"))

    for storage in each_step(memory, partial(start, layout=layout), load, CHANGES["drop"]):
        assert len(check_settled(storage)) in (160, 162)


@changes
@two_layouts
def test_a_column_is_changed_at_any_step_of_a_read(memory: Any, layout: str, change: str) -> None:
    def read(busy: Any) -> None:
        data = table(busy).scan().data
        assert len(data) == 160
        assert set(data.column_names) - {NEW, "Note"} == {"Date", "Asset", "Last_Price", "Last_Updated"}
        assert NEW not in data.column_names or data[NEW].null_count == 160
        assert "Note" not in data.column_names or data["Note"].null_count == 0
        assert len(table(busy).scan(["Asset"]).data) == 160

    for storage in each_step(memory, partial(start, layout=layout), read, CHANGES[change]):
        check_settled(storage, *({"Note", NEW} if change == "add" else ()))


@two_layouts
def test_columns_are_changed_at_any_step_of_another_change(memory: Any, layout: str) -> None:
    for storage in each_step(memory, partial(start, layout=layout), CHANGES["add"], CHANGES["drop"]):
        check_settled(storage, NEW)
    for storage in each_step(memory, partial(start, layout=layout), CHANGES["drop"], CHANGES["add"]):
        check_settled(storage, NEW)
    for storage in each_step(memory, partial(start, layout=layout), CHANGES["add"], CHANGES["add"]):
        check_settled(storage, "Note", NEW)

    for storage in each_step(memory, partial(start, layout=layout), CHANGES["add"], partial(die_early, change="drop")):
        assert {*content(storage)} - {"Note"} == {"Date", "Asset", "Last_Price", NEW}
        assert layout == "file" or "Note" not in content(storage)
        with suppress(SchemaError):  # the first change has completed the second
            CHANGES["drop"](storage)
        check_settled(storage, NEW)

    def cut_short(storage: Storage) -> None:
        start(storage, layout)
        die_early(storage, "drop")

    def restore(storage: Any) -> None:
        add_column("t", "Note", "text", lq=lake(storage))

    for storage in each_step(memory, cut_short, restore, CHANGES["add"]):
        assert layout == "file" or check_settled(storage, "Note", NEW)["Note"].isna().all()

    def undo(storage: Storage) -> None:
        with suppress(SchemaError):  # there is no such column yet
            drop_column("t", NEW, lq=lake(storage))

    for storage in each_step(memory, partial(start, layout=layout), CHANGES["add"], undo):
        check_settled(storage, "Note", *({NEW} & {*content(storage)}))


@two_layouts
def test_a_column_is_added_at_any_step_of_a_replacement(memory: Any, layout: str) -> None:
    def replace(busy: Any) -> None:
        declared = schema(layout)
        save_table("t", rows(step=0.5), lq=lake(busy), mode="replace", schema=declared)

    for storage in each_step(memory, partial(start, layout=layout), replace, CHANGES["add"]):
        read = content(storage)
        assert len(read) == 160
        assert (read["Last_Price"] % 1 == 0.5).all()
        assert "Note" not in read


def test_a_dropped_column_that_comes_back_is_empty(rig: Any) -> None:
    """Though the drop was cut short, and though its values lie in a file still."""
    storage = rig.storage()
    start(storage, "month")
    with pytest.raises(Killed):
        CHANGES["drop"](Meanwhile(storage, 1, killed, late=True))  # type: ignore[arg-type]
    assert all("Note" in data.column_names for data in files(storage).values())
    done = add_column("t", "Note", "text", lq=lake(storage))
    assert done.rewritten == ("2026-01", "2026-02", "2026-03")
    assert content(storage)["Note"].isna().all()
    add_column("t", "Note", "text", lq=lake(storage))
    assert table(storage).snapshot().columns == ColumnChanges((("Note", "text"),), ())


def test_a_dry_run_says_what_adding_a_column_in_another_type_would_do(rig: Any) -> None:
    """After a drop that was cut short, so that files still have the column in its old type."""
    storage = rig.storage()
    start(storage, "month")
    with pytest.raises(Killed):
        CHANGES["drop"](Meanwhile(storage, 2, killed, late=True))  # type: ignore[arg-type]
    planned = add_column("t", "Note", "number", lq=lake(storage), dry_run=True)
    assert add_column("t", "Note", "number", lq=lake(storage)) == planned
    assert planned.rewritten == ("2026-01", "2026-02", "2026-03")
    assert check_settled(storage, "Note")["Note"].isna().all()


def test_one_change_completes_another_that_was_cut_short(rig: Any) -> None:
    storage = rig.storage()
    start(storage, "month")
    with pytest.raises(Killed):
        CHANGES["add"](Meanwhile(storage, 2, killed, late=True))  # type: ignore[arg-type]
    assert drop_column("t", "Note", lq=lake(storage)).rewritten == ("2026-01", "2026-02", "2026-03")
    for data in files(storage).values():
        assert data.column_names == ["Date", "Asset", "Last_Price", NEW, "Last_Updated"]
    assert not audit(lake(storage), "t", declared={}).findings


def test_a_table_that_is_replaced_whole_has_its_own_columns_alone(rig: Any) -> None:
    storage = rig.storage()
    start(storage, "month")
    add_column("t", NEW, "text", lq=lake(storage))
    drop_column("t", "Note", lq=lake(storage))
    save_table(
        "t", rows(Note="again"), lq=lake(storage), mode="replace", schema=schema("month", Column("Note", "text"))
    )
    read = content(storage)
    assert list(read) == ["Date", "Asset", "Last_Price", "Note"]
    assert set(read["Note"]) == {"again"}
    assert table(storage).snapshot().columns == ColumnChanges()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["text", "number"])
def test_a_column_that_a_table_is_replaced_with_is_not_an_added_one(rig: Any, layout: str, kind: Any) -> None:
    """Be it of the type that it had when it was added, so that files may stay as they are, or of another."""
    storage = rig.storage()
    incremental_load(lake(storage), "t", rows(), schema=schema(layout))
    add_column("t", NEW, kind, lq=lake(storage))
    incremental_load(lake(storage), "t", rows(**{NEW: "1" if kind == "text" else 1.0}))
    save_table("t", rows(**{NEW: 1.0}), lq=lake(storage), mode="replace")
    assert table(storage).snapshot().columns == ColumnChanges()
    assert not any(ADDED in (data.schema.metadata or {}) for data in files(storage).values())
    with pytest.raises(SchemaError, match=f"missing: '{NEW}'"):
        incremental_load(lake(storage), "t", rows("2026-01-10", 1))
    before = files(storage)
    assert not save_table("t", rows(**{NEW: 1.0}), lq=lake(storage), mode="replace").changed
    assert files(storage) == before


@pytest.mark.parametrize("where", [{NEW: ("<=", 2.0)}, {NEW: (">=", 1.0)}, {NEW: 1.0}, {NEW: "x"}])
@pytest.mark.parametrize("odd", ["2026-01", "2026-03"])
def test_a_predicate_on_a_column_of_several_types_is_refused_in_words(disk: Any, odd: str, where: Any) -> None:
    storage = disk.storage()
    incremental_load(lake(storage), "t", rows(**{NEW: 1.0}), schema=schema("month", Column(NEW, "number")))
    data = files(storage)[odd]
    words = pa.array(["x"] * len(data))
    data = data.set_column(data.schema.get_field_index(NEW), NEW, words)
    put(storage, data, f"{DIRECTORY}/t/month={odd}/data.parquet")
    with pytest.raises((SchemaError, UsageError), match=f"{NEW}"):
        LuxorQuery(lake=lake(storage)).get_table("t", where=where)


def test_other_writers_all_the_time_end_in_a_conflict(disk: Any) -> None:
    storage = disk.storage()
    start(storage, "file")

    class Busy(Meanwhile):
        def _counted(self, *_: Any, **__: Any) -> None:
            raise ConflictError("somebody was first", hint="")

    busy = Lake(Busy(storage, 0, None), settings=Settings(load_attempts=2), conventions=CONVENTIONS)  # type: ignore[arg-type]
    with pytest.raises(LoadConflictError, match="other writers came first 2 times"):
        add_column("t", NEW, "text", lq=busy)


def test_a_table_that_is_being_moved_is_left_alone(disk: Any) -> None:
    storage = disk.storage()
    start(storage, "month")
    storage.write(table(storage).moving_path, b"{}")
    with pytest.raises(MoveInProgressError):
        add_column("t", NEW, "text", lq=lake(storage))


@two_layouts
def test_loads_readers_and_changes_race_and_nothing_is_lost(rig: Any, layout: str) -> None:
    """Writers that know the column and writers that do not, readers, and somebody who adds, drops and adds columns."""
    storage = rig.storage()
    start(storage, layout)
    stop, errors = threading.Event(), list[BaseException]()
    tallies: dict[str, int] = {}

    def guarded(name: str, work: Any) -> threading.Thread:
        def run() -> None:
            try:
                work(name)
            except BaseException as error:  # noqa: BLE001 - of a thread, which the test raises
                errors.append(error)

        return threading.Thread(target=run)

    def write(name: str) -> None:
        for number in range(6):
            days = [f"2026-0{month}-{10 + number}" for month in (1, 2, 3, 4 + number % 3)]
            frame = pd.DataFrame(
                {"Date": pd.to_datetime(days), "Asset": f"{name} {number}", "Last_Price": 1.0, "Note": "n"}
            )
            with_it = frame.assign(**{NEW: name})
            try:
                incremental_load(
                    lake(storage), "t", with_it if name == "knows" else frame, unique_columns=["Date", "Asset"]
                )
                tallies[f"{name} {number}"] = 4
            except SchemaError as error:  # it is not there yet, or not any more
                if "unknown: 'Source'" not in str(error):
                    raise

    def read(_name: str) -> None:
        while not stop.is_set():
            data = content(storage)
            assert len(data) >= 160
            assert data["Note"].notna().all()
            lq = LuxorQuery(lake=lake(storage))
            assert len(lq.scan("t", ["Date", "Asset"])) >= 160

    def change(_name: str) -> None:
        for number in range(3):
            add_column("t", NEW, "text", lq=lake(storage))
            add_column("t", f"Other {number}", "number", lq=lake(storage))
            if number < 2:
                drop_column("t", NEW, lq=lake(storage))

    writers = [guarded(name, write) for name in ("knows", "plain", "other")] + [guarded("changes", change)]
    readers = [guarded("reads", read)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    readers[0].join()
    if errors:
        raise errors[0]
    got = content(storage)
    counts = got["Asset"].value_counts().to_dict()
    assert {name: counts[name] for name in tallies} == tallies
    # A load of several months that brings a column is refused when the column goes; what it had committed stays.
    assert all(0 < count < 4 for name, count in counts.items() if name not in {*tallies, "a", "b"})
    assert len({tuple(sorted(data.column_names)) for data in files(storage).values()}) == 1
    assert set(got) == {"Date", "Asset", "Last_Price", "Note", NEW, "Other 0", "Other 1", "Other 2"}
    assert not [finding for finding in audit(lake(storage), "t", declared={}).findings if "lack" in finding.what]


# --- the record ----------------------------------------------------------------------------------


def test_the_record_keeps_the_changes_of_columns() -> None:
    changed = ColumnChanges().add("x", "number").add("y", "text").drop("z").drop("x")
    assert changed == ColumnChanges((("y", "text"),), ("z", "x"))
    assert changed.add("y", "text") is changed
    assert changed.drop("z") is changed
    record = LayoutRecord("month", "Date", columns=changed)
    assert LayoutRecord.decode(record.encode(), "1", "t").columns == changed
    assert b"columns" not in LayoutRecord("month", "Date").encode(), "as before, for versions that know no changes"
    for bad in (
        b'{"layout": "month", "column": "Date", "columns": 7}',
        b'{"layout": "month", "column": "Date", "columns": {"added": {"x": "odd"}}}',
    ):
        with pytest.raises(CorruptFileError):
            LayoutRecord.decode(bad, "1", "t")


@pytest.mark.parametrize("layout", ["month", "year"])
def test_a_column_that_only_the_record_has_is_dropped_and_said_to_be(layout: str) -> None:
    storage = connect(f"memory://{uuid.uuid4().hex}", settings=Settings())
    incremental_load(lake(storage), "t", rows(days=40), schema=schema(layout))
    with suppress(Killed):
        add_column("t", NEW, "number", lq=lake(Meanwhile(storage, 1, killed, late=True)))
    assert NEW in content(storage)
    for dry_run in (True, False):
        dropped = drop_column("t", NEW, lq=lake(storage), dry_run=dry_run)
        assert (dropped.values, dropped.rewritten, dropped.changed) == (0, (), True)
    assert NEW not in content(storage)


@example(steps=[("kill", "p", 1), ("drop", "p", 1)], layout="month")
@example(steps=[("kill", "p", 1), ("drop", "p", 1), ("add", "p", 1)], layout="year")
@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "drop", "load", "bare", "kill"]), st.sampled_from("pqr"), st.integers(1, 4)),
        min_size=1,
        max_size=7,
    ),
    layout=st.sampled_from(LAYOUTS),
)
def test_any_order_of_changes_kills_and_loads_ends_as_a_dictionary_would(steps: Any, layout: str) -> None:
    storage = connect(f"memory://{uuid.uuid4().hex}", settings=Settings())
    incremental_load(lake(storage), "t", rows(days=40), schema=schema(layout))
    columns: dict[str, dict[tuple[datetime, str], float]] = {}
    for number, (step, name, month) in enumerate(steps):
        first = f"2026-0{month}-02"
        if step == "kill" and name not in columns:
            with suppress(Killed):
                add_column("t", name, "number", lq=lake(Meanwhile(storage, month, killed, late=True)))
            if name in table(storage).codec().schema.names:
                columns[name] = {}
        elif step in ("kill", "drop") and name in columns:
            drop_column("t", name, lq=lake(storage))
            del columns[name]
        elif step == "add":
            add_column("t", name, "number", lq=lake(storage))
            columns.setdefault(name, {})
        elif step in ("load", "bare"):
            given_columns = {column: float(number) for column in columns if step == "load" and column <= name}
            frame = rows(first, 1, step=number, **given_columns)
            incremental_load(lake(storage), "t", frame)
            for column, value in given_columns.items():
                columns[column] |= {(pd.Timestamp(first), asset): value for asset in "ab"}
    got = content(storage)
    assert set(got) == {"Date", "Asset", "Last_Price", *columns}
    for column, values in columns.items():
        stored = got.set_index(["Date", "Asset"])[column].dropna()
        assert stored.to_dict() == values
    assert len(got) == got[["Date", "Asset"]].drop_duplicates().shape[0]
    assert np.isfinite(got["Last_Price"]).all()
