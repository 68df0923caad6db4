"""A table moved to the archive and back: whole or refused, never a shorter or older one, whatever comes between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake.meanwhile import Killed, Meanwhile, killed
from luxor_pipelines import incremental_load
from luxor_pipelines.errors import (
    ConflictError,
    MoveInProgressError,
    TableNotFoundError,
    UsageError,
)
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.storage.base import Storage
from luxor_pipelines.lake.table.archive import _empty, archive, layouts, restore, stamps
from luxor_pipelines.lake.table.layout import DIRECTORY
from luxor_pipelines.lake.table.optimize import optimize
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.lake.types.schema import Column, TableSchema
from luxor_pipelines.settings import Settings

NOW = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)
STAMP = "20261123T183000Z"
MONTHLY = TableSchema(
    name="t",
    version=1,
    columns=(Column("Date", "date", False), Column("Key", "text", False), Column("Value", "number")),
    key=("Date", "Key"),
    partition="month",
)
SCHEMAS = {"file": None, "month": MONTHLY}
layout_names = pytest.mark.parametrize("layout", list(SCHEMAS))


def frame(key: str = "a", first: datetime = datetime(2026, 1, 1)) -> pd.DataFrame:
    return pd.DataFrame({"Date": [first + timedelta(days=day) for day in range(80)], "Key": key, "Value": 1.0})


def load(storage: Any, data: pd.DataFrame, layout: str = "month") -> None:
    lake = Lake(storage, settings=Settings())
    incremental_load(lake, "t", data, unique_columns=["Date", "Key"], schema=SCHEMAS[layout])


def keys(storage: Storage) -> dict[str, int]:
    data = Table(storage, "t").scan(["Key"]).data["Key"]
    return {each["values"]: each["counts"] for each in data.value_counts().to_pylist()}


def put(storage: Storage, data: pd.DataFrame, path: str = f"{DIRECTORY}/t.parquet") -> None:
    """Write the rows as another program would."""
    sink = BytesIO()
    pq.write_table(pa.Table.from_pandas(data, preserve_index=False), sink)
    storage.write(path, sink.getvalue())


def digest(storage: Storage, path: str) -> str:
    return hashlib.sha256(storage.read(path).data).hexdigest()[:8]


def contents(storage: Storage, folder: str = DIRECTORY) -> dict[str, str]:
    return {info.path: digest(storage, info.path) for info in storage.list(folder)}


@layout_names
def test_a_table_goes_to_the_archive_and_comes_back(rig: Any, layout: Any) -> None:
    storage = rig.storage()
    load(storage, frame(), layout)
    table, before = Table(storage, "t"), contents(storage)
    moved = archive(table, NOW)
    assert (moved.table, moved.folder) == ("t", f"archive/{STAMP}")
    assert sorted(moved.paths) == sorted(f"archive/{STAMP}/{path}" for path in before)
    assert contents(storage) == {}
    assert contents(storage, "archive") == {f"archive/{STAMP}/{path}": data for path, data in before.items()}
    assert table.find() is None

    restored = restore(table, NOW)
    assert restored.folder == moved.folder
    assert sorted(restored.paths) == sorted(before)
    assert contents(storage) == before
    assert keys(storage) == {"a": 80}
    load(storage, frame("b"), layout)
    again = archive(table, NOW)
    assert again.folder == f"archive/{STAMP}-2"
    assert list(stamps(table)) == [STAMP, f"{STAMP}-2"]
    restore(table, NOW, STAMP)
    assert keys(storage) == {"a": 80}


def test_the_newest_of_many_moves_in_one_second_is_restored(disk: Any) -> None:
    storage = disk.storage()
    table = Table(storage, "t")
    for number in range(1, 13):
        load(storage, frame(f"move {number}"), "file")
        archive(table, NOW)
    assert list(stamps(table)) == [STAMP, *(f"{STAMP}-{number}" for number in range(2, 13))]
    assert restore(table, NOW).folder == f"archive/{STAMP}-12"
    assert set(table.scan(["Key"]).data["Key"].to_pylist()) == set(frame("move 12")["Key"])


def test_what_is_refused_changes_nothing(rig: Any) -> None:
    storage = rig.storage()
    table = Table(storage, "t")
    with pytest.raises(TableNotFoundError, match="no table t"):
        archive(table, NOW)
    with pytest.raises(TableNotFoundError, match=r"The archive of .* has no table t\.\n"):
        restore(table, NOW)
    with pytest.raises(TableNotFoundError, match="no table t"):
        layouts(table)
    load(storage, frame(), "file")
    before = contents(storage)
    with pytest.raises(UsageError, match="has no partitions"):
        archive(table, NOW, "partitions")
    with pytest.raises(UsageError, match="There is a table t"):
        restore(table, NOW)
    assert contents(storage) == before
    archive(table, NOW)
    with pytest.raises(TableNotFoundError, match=f"no table t of 2020; it has those of {STAMP}"):
        restore(table, NOW, "2020")
    load(storage, frame("new"), "month")
    before = contents(storage)
    for only in ("file",):
        with pytest.raises(UsageError, match="has no single file"):
            archive(table, NOW, only)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="There is a table t"):
        restore(table, NOW)
    assert contents(storage) == before


def test_of_a_file_that_hides_months_either_can_be_moved(rig: Any) -> None:
    storage = rig.storage()
    load(storage, frame())
    put(storage, frame("theirs")[:3])
    table = Table(storage, "t")
    assert {kind: len(snapshot.parts) for kind, snapshot in layouts(table).items()} == {"file": 1, "partitions": 3}
    assert archive(table, NOW, "file").paths == (f"archive/{STAMP}/{DIRECTORY}/t.parquet",)
    assert keys(storage) == {"a": 80}
    assert keys(storage) == {"a": 80}

    put(storage, frame("theirs")[:3])
    moved = archive(table, NOW, "partitions")
    assert len([path for path in moved.paths if "month=" in path]) == 3
    assert list(contents(storage)) == [f"{DIRECTORY}/t.parquet"]
    assert keys(storage) == {"theirs": 3}

    archive(table, NOW)
    restore(table, NOW, moved.folder.removeprefix("archive/"))
    assert keys(storage) == {"a": 80}


def test_one_of_two_is_not_moved_when_it_is_the_only_one_left(rig: Any) -> None:
    """The file was converted after somebody had seen that it hides partitions: these are the table now."""
    storage = rig.storage()
    load(storage, frame())
    put(storage, frame("theirs")[:3])
    table = Table(storage, "t")
    gone = Meanwhile(storage, 1, lambda: storage.delete(f"{DIRECTORY}/t.parquet"))
    with pytest.raises(ConflictError):
        archive(Table(gone, "t"), NOW, "partitions")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="has no single file"):
        archive(table, NOW, "partitions")
    assert keys(storage) == {"a": 80}


def test_months_that_are_not_all_of_the_table_do_not_become_it(rig: Any) -> None:
    storage = rig.storage()
    put(storage, frame())
    table = Table(storage, "t")
    with pytest.raises(Killed):
        optimize(Table(Meanwhile(storage, 6, killed), "t"), layout="month")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="unfinished conversion"):
        archive(table, NOW, "file")
    assert keys(storage) == {"a": 80}
    archive(table, NOW, "partitions")
    assert list(contents(storage)) == [f"{DIRECTORY}/t.parquet"]
    optimize(table, layout="month")
    assert keys(storage) == {"a": 80}


# --- killed, suspended, and others at work -------------------------------------------------------


def whole(storage: Storage) -> str:
    """What a reader meets: the whole table, none, or the error of a move; anything else fails."""
    try:
        snapshot = Table(storage, "t").find()
    except MoveInProgressError:
        return "moving"
    if snapshot is None:
        return "gone"
    assert keys(storage) == {"a": 80}
    return "whole"


def steps(storage: Storage, work: Callable[[Table], Any]) -> int:
    """How many writes and deletes ``work`` makes."""
    counting = Meanwhile(storage, 0, None)
    work(Table(counting, "t"))  # type: ignore[arg-type]
    return counting.calls


@pytest.fixture(params=["month", "both"])
def there(request: pytest.FixtureRequest) -> Callable[[Storage], None]:
    """Makes a table of three months, or one that a file of another program hides."""

    def make(storage: Storage) -> None:
        load(storage, frame())
        if request.param == "both":
            load(storage, frame("hidden"))
            put(storage, frame())

    return make


@pytest.mark.parametrize("then", [archive, restore])
def test_an_archiving_that_is_killed_is_completed_or_turned_round(make_rig: Any, there: Any, then: Any) -> None:
    rig = make_rig("disk")
    storage = rig.storage()
    there(storage)
    total = steps(storage, lambda table: archive(table, NOW))
    seen = set()
    for at in range(1, total + 1):
        storage = make_rig("disk").storage()
        there(storage)
        before = contents(storage)
        with pytest.raises(Killed):
            archive(Table(Meanwhile(storage, at, killed), "t"), NOW)  # type: ignore[arg-type]
        seen.add(whole(storage))
        if then is archive:
            moved = archive(Table(storage, "t"), NOW)
            assert whole(storage) == "gone"
            assert sorted(moved.paths) == sorted(f"archive/{STAMP}/{path}" for path in before)
            restore(Table(storage, "t"), NOW)
        else:
            with suppress(UsageError, TableNotFoundError):  # nothing has been done yet, or all of it
                restore(Table(storage, "t"), NOW)
        assert contents(storage) == before
    assert seen == {"whole", "moving"}


@pytest.mark.parametrize("then", [archive, restore])
def test_a_restoring_that_is_killed_is_completed_or_turned_round(make_rig: Any, there: Any, then: Any) -> None:
    def archived() -> tuple[Storage, dict[str, str]]:
        storage: Storage = make_rig("disk").storage()
        there(storage)
        before = contents(storage)
        archive(Table(storage, "t"), NOW)
        return storage, before

    total = steps(archived()[0], lambda table: restore(table, NOW))
    seen = set()
    for at in range(1, total + 1):
        storage, before = archived()
        copies = contents(storage, "archive")
        with pytest.raises(Killed):
            restore(Table(Meanwhile(storage, at, killed), "t"), NOW)  # type: ignore[arg-type]
        seen.add(whole(storage))
        if then is archive:
            with suppress(TableNotFoundError):
                archive(Table(storage, "t"), NOW)
            assert whole(storage) == "gone"
            assert contents(storage, "archive") == copies
        else:
            restore(Table(storage, "t"), NOW)
            assert contents(storage) == before
    assert seen == {"gone", "moving"}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("second", ["archive", "restore", "archive and new"])
@pytest.mark.parametrize("first", ["archive", "restore"])
def test_one_that_is_suspended_changes_nothing_any_more(make_rig: Any, first: str, second: str, late: bool) -> None:
    """Another move completes, and the table is used, before the first one wakes up."""

    def begun() -> Storage:
        storage: Storage = make_rig("disk").storage()
        load(storage, frame())
        load(storage, frame("hidden"))
        put(storage, frame())
        if first == "restore":
            archive(Table(storage, "t"), NOW)
        return storage

    def move(table: Table) -> None:
        (archive if first == "archive" else restore)(table, NOW)

    def others(storage: Storage) -> None:
        table = Table(storage, "t")
        if second == "restore":
            with suppress(UsageError, TableNotFoundError):
                restore(table, NOW)
        else:
            with suppress(TableNotFoundError):
                archive(table, NOW)
        if second == "archive and new" or (second == "restore" and table.find() is not None):
            load(storage, frame("new", datetime(2026, 2, 1)))

    for at in range(1, steps(begun(), move) + 1):
        storage = begun()
        after: list[Any] = []

        def meanwhile(storage: Storage = storage, after: list[Any] = after) -> None:
            others(storage)
            after.append(contents(storage))

        with suppress(ConflictError, UsageError, TableNotFoundError):
            move(Table(Meanwhile(storage, at, meanwhile, late=late), "t"))  # type: ignore[arg-type]
        if at > 1 or late:  # else it begins after the others: it moves what it finds, or is refused
            assert contents(storage) == after[0], at


def test_a_single_file_that_was_created_too_late_and_not_filled_is_no_table(rig: Any) -> None:
    """A restore created it, without rows, after others had moved the table: it takes it back, if it is not killed."""
    storage = rig.storage()
    load(storage, frame(), "file")
    data = storage.read(f"{DIRECTORY}/t.parquet").data
    archive(Table(storage, "t"), NOW)
    storage.write(f"{DIRECTORY}/t.parquet", _empty("t.parquet", data))
    table = Table(storage, "t")
    assert table.find() is None
    with pytest.raises(TableNotFoundError):
        table.scan()
    with pytest.raises(TableNotFoundError):
        rig.query().get_table("t")
    load(storage, frame("new"), "file")
    assert keys(storage) == {"new": 80}


@layout_names
def test_a_table_comes_back_where_files_without_rows_were_left(rig: Any, layout: Any) -> None:
    storage = rig.storage()
    load(storage, frame(), layout)
    before = contents(storage)
    data = next(storage.read(path).data for path in before if path.endswith(".parquet"))
    archive(Table(storage, "t"), NOW)
    for left in ("t.parquet", "t/month=2026-02/data.parquet", "t/month=2026-09/data.parquet"):
        storage.write(f"{DIRECTORY}/{left}", _empty(left, data))
    restore(Table(storage, "t"), NOW)
    assert contents(storage) == before
    assert keys(storage) == {"a": 80}


@pytest.mark.parametrize("foreign", [False, True])
def test_a_file_that_changes_while_it_is_moved_puts_all_back(make_rig: Any, there: Any, foreign: bool) -> None:
    """By a load that was under way, or by another program that asks nobody."""
    storage = make_rig("disk").storage()
    there(storage)
    path = f"{DIRECTORY}/t/month=2026-02/data.parquet"
    for at in range(2, steps(storage, lambda table: archive(table, NOW)) + 1):
        storage = make_rig("disk").storage()
        there(storage)
        before = contents(storage)
        changed: list[str] = []

        def change(storage: Storage = storage, changed: list[str] = changed) -> None:
            info = storage.stat(path)
            if info is None and not foreign:
                return  # the load is refused
            put(storage, frame("changed")[:3], path)
            changed.append(digest(storage, path))

        busy = Meanwhile(storage, at, change)
        try:
            archive(Table(busy, "t"), NOW)  # type: ignore[arg-type]
        except ConflictError:
            assert changed
            expected = before | {path: changed[0]}
            assert contents(storage) == expected, at
        else:
            assert not contents(storage) or changed, at
            copies = contents(storage, f"archive/{STAMP}")
            assert set(copies.values()) <= set(before.values()) | set(changed), at


def test_another_move_while_all_is_put_back_is_a_conflict(make_rig: Any) -> None:
    """Not a file that is not there: the torture harness met that."""
    for at in range(8, 20):
        storage = make_rig("memory").storage()
        load(storage, frame())
        path = f"{DIRECTORY}/t/month=2026-02/data.parquet"

        def change(storage: Storage = storage, path: str = path) -> None:
            put(storage, frame("changed")[:3], path)

        def move(storage: Storage = storage) -> None:
            archive(Table(storage, "t"), NOW + timedelta(hours=1))

        changed = Meanwhile(storage, 7, change)
        with suppress(ConflictError):
            archive(Table(Meanwhile(changed, at, move, late=True), "t"), NOW)  # type: ignore[arg-type]


def test_what_is_put_back_leaves_the_record_as_it_was(disk: Any) -> None:
    """Else a single file that a load created would not be read beside the partitions that the record names."""
    for at in range(2, 12):
        storage = disk.storage()
        load(storage, frame(), "file")
        with pytest.raises(Killed):
            optimize(Table(Meanwhile(storage, 7, killed), "t"), layout="month")  # type: ignore[arg-type]
        path = f"{DIRECTORY}/t/month=2026-02/data.parquet"

        def change(storage: Storage = storage, path: str = path) -> None:
            put(storage, frame("changed")[:3], path)

        with suppress(ConflictError):
            archive(Table(Meanwhile(storage, at, change), "t"), NOW, "partitions")  # type: ignore[arg-type]
        assert keys(storage) == {"a": 80}, at
        assert Table(storage, "t").snapshot().layout == "file"
        for folder in (DIRECTORY, "archive"):
            for info in storage.list(folder):
                storage.delete(info.path)


def test_a_load_that_began_before_does_not_make_a_table_of_one_month(rig: Any) -> None:
    storage = rig.storage()
    load(storage, frame())
    new = frame("late", datetime(2026, 7, 1))

    def others() -> None:
        archive(Table(storage, "t"), NOW)

    load(Meanwhile(storage, 1, others), new)
    assert keys(storage) == {"late": 80}, "it made a new table, of all of its rows"
    assert Table(storage, "t").snapshot().layout == "month"


def test_a_table_that_is_archived_while_a_load_looks_at_it_is_made_anew(rig: Any, monkeypatch: Any) -> None:
    storage = rig.storage()
    load(storage, frame())
    codec, looks = Table.codec, []

    def archived_first(self: Table, *args: Any) -> Any:
        if not looks:
            looks.append(True)
            archive(Table(storage, "t"), NOW)
        return codec(self, *args)

    monkeypatch.setattr(Table, "codec", archived_first)
    load(storage, frame("new"))
    assert keys(storage) == {"new": 80}


def test_a_conversion_that_was_under_way_does_not_bring_part_of_it_back(disk: Any) -> None:
    for at in range(1, 10):
        for late in (False, True):
            storage = disk.storage()
            put(storage, frame())

            def others(storage: Storage = storage) -> None:
                with suppress(TableNotFoundError):
                    archive(Table(storage, "t"), NOW)

            with suppress(ConflictError, TableNotFoundError):
                optimize(Table(Meanwhile(storage, at, others, late=late), "t"), layout="month")  # type: ignore[arg-type]
            if Table(storage, "t").find() is not None:
                assert not stamps(Table(storage, "t"))
                others()
            assert Table(storage, "t").find() is None
            assert contents(storage) == {}
            for info in storage.list("archive"):
                storage.delete(info.path)


def test_an_agreement_without_a_table_can_be_moved_away(rig: Any) -> None:
    storage = rig.storage()
    with pytest.raises(Killed):
        load(Meanwhile(storage, 2, killed), frame())
    assert archive(Table(storage, "t"), NOW).paths == ()
    assert contents(storage) == {}


def test_what_was_archived_by_an_older_version_can_be_restored(rig: Any) -> None:
    storage = rig.storage()
    load(storage, frame())
    for info in storage.list(DIRECTORY):
        if info.path.endswith(".parquet"):
            storage.write(f"archive/20250101T000000Z/{info.path}", storage.read(info.path).data)
        storage.delete(info.path)
    restore(Table(storage, "t"), NOW)
    assert keys(storage) == {"a": 80}
    record = Table(storage, "t").record()
    assert record is not None
    assert record.layout == "month"


def test_a_damaged_file_and_files_that_are_no_data_are_moved_too(rig: Any) -> None:
    storage = rig.storage()
    load(storage, frame())
    storage.write(f"{DIRECTORY}/t/month=2026-02/data.parquet", b"torn")
    storage.write(f"{DIRECTORY}/t/notes.txt", b"by hand")
    before = contents(storage)
    archive(Table(storage, "t"), NOW)
    assert contents(storage) == {}
    restore(Table(storage, "t"), NOW)
    assert contents(storage) == before


def test_a_moving_file_that_says_nothing_does_not_stop_either(rig: Any) -> None:
    for content in (b"", b"[]", json.dumps({"stamp": 1}).encode()):
        storage = rig.storage()
        load(storage, frame())
        storage.write(f"{DIRECTORY}/t/_moving.json", content)
        archive(Table(storage, "t"), NOW)
        storage.write(f"{DIRECTORY}/t/_moving.json", content)
        restore(Table(storage, "t"), NOW)
        assert whole(storage) == "whole"
        for folder in (DIRECTORY, "archive"):
            for info in storage.list(folder):
                storage.delete(info.path)


@pytest.mark.parametrize("layout", [None, "month"])
def test_a_file_without_rows_that_came_too_late_is_no_table(disk: Any, layout: Any) -> None:
    """A conversion that was overtaken by an archiving creates it, and is killed before it takes it back."""
    storage = disk.storage()
    put(storage, frame())

    class KilledAfter(Meanwhile):
        def write(self, path: str, *args: Any, **options: Any) -> str:
            version = super().write(path, *args, **options)
            if "month=" in path:
                raise Killed
            return version

    late = Table(KilledAfter(storage, 2, lambda: archive(Table(storage, "t"), NOW)), "t")  # type: ignore[arg-type]
    with pytest.raises(Killed):
        optimize(late, layout="month")
    assert list(contents(storage)) == [f"{DIRECTORY}/t/month=2026-01/data.parquet"]
    assert Table(storage, "t").find() is None
    load(storage, frame("new"), layout or "file")
    assert keys(storage) == {"new": 80}
    assert Table(storage, "t").snapshot().layout == (layout or "file")


def test_a_load_looks_again_after_a_partition_of_a_conversion(disk: Any) -> None:
    """What it looks at is not of one moment: the single file may have been made after it was looked for."""
    storage = disk.storage()
    put(storage, frame())
    with pytest.raises(Killed):
        optimize(Table(Meanwhile(storage, 8, killed), "t"), layout="month")  # type: ignore[arg-type]

    class NotOfOneMoment:
        looks = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(storage, name)

        def peek(self, paths: list[str]) -> Any:
            self.looks += 1
            infos = storage.peek(paths)
            hidden = f"{DIRECTORY}/t.parquet" if self.looks == 1 else ""
            return [None if path == hidden else info for path, info in zip(paths, infos, strict=True)]

    load(NotOfOneMoment(), frame("new"))
    assert keys(storage) == {"a": 80, "new": 80}
