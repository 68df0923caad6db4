"""First loads of a new table: its layout is agreed on before the first row, and nobody's rows are hidden."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pandas as pd
import pytest

from lake.meanwhile import Killed, Meanwhile, killed
from luxor_pipelines import incremental_load, save_table
from luxor_pipelines.catalog import open_lake
from luxor_pipelines.errors import CorruptFileError, LoadConflictError, MoveInProgressError
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.storage.base import Storage
from luxor_pipelines.lake.table.layout import LayoutRecord
from luxor_pipelines.lake.table.listing import find_all, list_tables
from luxor_pipelines.lake.table.optimize import optimize
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.lake.types.schema import Column, TableSchema

MONTHLY = TableSchema(
    name="t",
    version=1,
    columns=(Column("Date", "date", False), Column("Key", "text", False), Column("Value", "number")),
    key=("Date", "Key"),
    partition="month",
)


def frame(key: str, *days: str) -> pd.DataFrame:
    return pd.DataFrame({"Date": pd.to_datetime(list(days) or ["2026-01-05", "2026-02-05"]), "Key": key, "Value": 1.0})


def load(storage: Any, key: str, *days: str, schema: TableSchema | None = None) -> Any:
    """Load rows of a key, by month if the schema says so."""
    lake = Lake(storage, settings=open_lake("memory://none").settings)
    return incremental_load(lake, "t", frame(key, *days), unique_columns=["Date", "Key"], schema=schema)


def keys(storage: Storage) -> set[str]:
    return set(Table(storage, "t").scan(["Key"]).data["Key"].to_pylist())


SCHEMAS = {"file": None, "month": MONTHLY}
layouts = pytest.mark.parametrize("layout", list(SCHEMAS))


@layouts
def test_the_layout_is_on_record_before_the_first_row(rig: Any, layout: Any) -> None:
    storage = rig.storage()
    with pytest.raises(Killed):
        load(Meanwhile(storage, 2, killed), "first", schema=SCHEMAS[layout])
    assert [info.path for info in storage.list("enriched")] == ["enriched/parquet/t/_layout.json"]
    assert json.loads(storage.read("enriched/parquet/t/_layout.json").data) == {"layout": layout, "column": "Date"}
    assert list_tables(storage) == []
    assert Table(storage, "t").find() is None
    other = "month" if layout == "file" else "file"
    load(storage, "second", schema=SCHEMAS[other])  # who comes next follows
    assert Table(storage, "t").snapshot().layout == layout


@layouts
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_two_first_loads_in_different_layouts_are_both_there(rig: Any, layout: Any, at: int, late: bool) -> None:
    storage = rig.storage()
    other = "month" if layout == "file" else "file"
    busy = Meanwhile(storage, at, lambda: load(storage, "other", schema=SCHEMAS[other]), late=late)
    load(busy, "mine", schema=SCHEMAS[layout])
    if busy.calls < at:
        load(storage, "other", schema=SCHEMAS[other])
    assert keys(storage) == {"mine", "other"}
    labels = {part.info.path.endswith("t.parquet") for part in Table(storage, "t").snapshot().parts}
    assert (storage.stat("enriched/parquet/t.parquet") is not None) == (labels == {True})


@pytest.mark.parametrize("late", [False, True])
def test_a_first_write_that_stalls_hides_nothing(rig: Any, late: bool) -> None:
    """It stalls before its put, or right after it, while others create the table, convert it and load."""
    storage = rig.storage()

    def others() -> None:
        if not late:
            load(storage, "before")
        optimize(Table(storage, "t"), layout="month")
        load(storage, "after", "2026-03-05")

    result = load(Meanwhile(storage, 2, others, late=late), "stalled")
    assert Table(storage, "t").snapshot().layout == "month"
    assert storage.stat("enriched/parquet/t.parquet") is None
    assert keys(storage) == {"after", "stalled"} | (set() if late else {"before"})
    assert result.inserted == (0 if late else 2)


def test_one_that_is_killed_after_its_late_write_hides_nothing_either(rig: Any) -> None:
    storage = rig.storage()

    def others() -> None:
        load(storage, "before")
        optimize(Table(storage, "t"), layout="month")
        load(storage, "after", "2026-03-05")

    class KilledAfter(Meanwhile):
        def write(self, path: str, *args: Any, **options: Any) -> str:
            version = super().write(path, *args, **options)
            if path.endswith("t.parquet"):
                raise Killed
            return version

    with pytest.raises(Killed):
        load(KilledAfter(storage, 2, others), "stalled")
    assert storage.stat("enriched/parquet/t.parquet") is not None
    table = Table(storage, "t")
    assert table.snapshot().layout == "month"
    assert keys(storage) == {"before", "after"}
    assert find_all(storage, ["t"]) == {"t": table.find()}
    assert load(storage, "next", "2026-01-07").partitions == ("2026-01",)
    assert load(storage, "new", "2026-07-07").partitions == ("2026-07",)
    assert keys(storage) == {"before", "after", "next", "new"}


def test_a_month_created_late_under_a_table_of_another_layout_is_taken_back(rig: Any) -> None:
    """The table was archived and made anew in one file while a load was about to create a month of the old one."""
    storage = rig.storage()
    load(storage, "old", schema=MONTHLY)

    def others() -> None:
        for info in storage.list("enriched/parquet/t"):
            storage.delete(info.path)
        load(storage, "new")

    load(Meanwhile(storage, 1, others), "late", "2026-06-05", schema=MONTHLY)
    assert Table(storage, "t").snapshot().layout == "file"
    assert keys(storage) == {"new", "late"}
    assert [info.path for info in storage.list("enriched/parquet/t")] == ["enriched/parquet/t/_layout.json"]


def test_a_new_file_gives_way_to_months_that_it_would_hide(rig: Any) -> None:
    storage = rig.storage()

    def others() -> None:  # a version of this library that keeps no record
        load(storage, "months", schema=MONTHLY)
        storage.delete("enriched/parquet/t/_layout.json")
        storage.write("enriched/parquet/t/_layout.json", LayoutRecord("file", "Date").encode())

    load(Meanwhile(storage, 1, others), "file")
    assert Table(storage, "t").snapshot().layout == "month"
    assert keys(storage) == {"months", "file"}
    record = Table(storage, "t").record()
    assert record is not None
    assert record.layout == "month"  # of months that are there, the record is put right


def test_whole_tables_are_agreed_on_too(rig: Any) -> None:
    lake = rig.query().lake
    save_table("t", frame("saved"), lq=lake, schema=MONTHLY)
    record = Table(lake.storage, "t").record()
    assert record is not None
    assert (record.layout, record.column) == ("month", "Date")
    save_table("t", frame("again"), lq=lake, mode="replace")
    assert keys(lake.storage) == {"again"}


def test_a_table_that_has_no_record_gets_one_when_a_file_is_created(rig: Any) -> None:
    storage = rig.storage()
    load(storage, "old", schema=MONTHLY)
    storage.delete("enriched/parquet/t/_layout.json")
    load(storage, "more", "2026-05-01")
    record = Table(storage, "t").record()
    assert record is not None
    assert record.layout == "month"


def test_others_that_never_stop_converting_end_in_a_conflict(disk: Any) -> None:
    storage = disk.storage()

    class Restless(Meanwhile):
        def write(self, path: str, *args: Any, **options: Any) -> str:
            version = super().write(path, *args, **options)
            if not path.endswith("_layout.json"):
                storage.write("enriched/parquet/t/_layout.json", LayoutRecord("file", "Date").encode())
            return version

    with pytest.raises(LoadConflictError, match="created, converted or moved by others"):
        load(Restless(storage, 0, None), "mine")
    assert Table(storage, "t").find() is None, "what it wrote was taken back"


def test_while_a_table_is_moved_it_is_neither_read_nor_written(rig: Any) -> None:
    storage = rig.storage()
    load(storage, "old", schema=MONTHLY)
    storage.write("enriched/parquet/t/_moving.json", b"{}")
    actions: list[Callable[[], Any]] = [
        lambda: Table(storage, "t").find(),
        lambda: Table(storage, "t").scan(),
        lambda: load(storage, "new"),
        lambda: load(storage, "new", "2026-09-09"),
        lambda: save_table("t", frame("new"), lq=rig.query(), mode="replace"),
        lambda: rig.query().get_table("t"),
    ]
    for action in actions:
        with pytest.raises(MoveInProgressError) as caught:
            action()
        assert "luxor archive t" in caught.value.hint
        assert "luxor restore t" in caught.value.hint
    assert find_all(storage, ["t"]) == {}
    assert list_tables(storage) == ["t"]


def test_a_load_that_is_under_way_when_a_move_begins_does_not_go_on(rig: Any) -> None:
    storage = rig.storage()
    load(storage, "old", schema=MONTHLY)

    def others() -> None:
        storage.write("enriched/parquet/t/_moving.json", b"{}")

    with pytest.raises(MoveInProgressError):
        load(Meanwhile(storage, 1, others), "late", "2026-06-05")
    assert storage.stat("enriched/parquet/t/month=2026-06/data.parquet") is None


def test_nor_does_one_whose_partition_has_been_moved_already(rig: Any) -> None:
    storage = rig.storage()
    load(storage, "old", schema=MONTHLY)

    def others() -> None:
        storage.write("enriched/parquet/t/_moving.json", b"{}")
        storage.delete("enriched/parquet/t/month=2026-01/data.parquet")

    busy = Meanwhile(storage, 1, others)
    with pytest.raises(MoveInProgressError):
        load(busy, "late")
    assert busy.calls == 1


def test_a_record_that_says_nothing_is_named(rig: Any) -> None:
    storage = rig.storage()
    load(storage, "old")
    for content in (b"", b"[1]", b'{"layout": "week", "column": "Date"}', b'{"layout": "month"}', b"[" * 100_000):
        storage.write("enriched/parquet/t/_layout.json", content)
        with pytest.raises(CorruptFileError, match=r"t/_layout\.json does not say"):
            Table(storage, "t").find()
    assert find_all(storage, ["t"]) == {}


def test_a_file_of_another_program_is_the_table_whatever_is_on_record(rig: Any) -> None:
    storage = rig.storage()
    load(storage, "ours", schema=MONTHLY)
    load(storage, "theirs", "2025-12-31")
    theirs = storage.read("enriched/parquet/t/month=2025-12/data.parquet").data
    storage.write("enriched/parquet/t.parquet", theirs)
    assert Table(storage, "t").snapshot().layout == "file"
    load(storage, "more", "2025-12-30")
    assert keys(storage) == {"theirs", "more"}
    assert Table(storage, "t").find_near(datetime(2025, 12, 30))[0] == Table(storage, "t").find()
