"""Conversions of a single file into months or years: whatever is suspended, killed or at work beside, no rows go."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake.meanwhile import Killed, Meanwhile, killed
from luxor_pipelines import incremental_load, save_table
from luxor_pipelines.errors import ConflictError, MoveInProgressError, SchemaError, UsageError
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.storage.base import Storage
from luxor_pipelines.lake.table.layout import DIRECTORY
from luxor_pipelines.lake.table.optimize import optimize
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.settings import Settings

FIRST = datetime(2024, 1, 1)
LAYOUTS = ("month", "year")
STEPS = 9
"""Claim, three partitions created and written, the record, the file's end: the writes and deletes of a conversion."""

Rows = Counter[tuple[datetime, str, float]]


def frame(days: int = 70, *, first: datetime = FIRST, asset: str = "a") -> pd.DataFrame:
    dates = [first + timedelta(days=day) for day in range(days)]
    return pd.DataFrame({"Date": dates, "Asset": asset, "Last_Price": [float(day) for day in range(days)]})


def rows_of(data: pd.DataFrame) -> Rows:
    return Counter(zip(data["Date"].dt.to_pydatetime(), data["Asset"], data["Last_Price"], strict=True))


def put(storage: Storage, data: pd.DataFrame, path: str = f"{DIRECTORY}/t.parquet") -> None:
    """Write the rows as another program would."""
    sink = BytesIO()
    pq.write_table(pa.Table.from_pandas(data, preserve_index=False), sink)
    storage.write(path, sink.getvalue())


def stored(storage: Storage) -> Rows:
    data = Table(storage, "t").scan(["Date", "Asset", "Last_Price"]).data.to_pylist()
    return Counter(tuple(row.values()) for row in data)


def lake(storage: Any) -> Lake:
    return Lake(storage, settings=Settings())


def load(storage: Storage, data: pd.DataFrame) -> None:
    incremental_load(lake(storage), "t", data)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("at", range(1, STEPS + 1))
@pytest.mark.parametrize("second", LAYOUTS)
@pytest.mark.parametrize("first", LAYOUTS)
def test_one_that_is_suspended_while_another_completes(disk: Any, first: Any, second: Any, at: int, late: bool) -> None:
    """The first wakes up in a table that was converted, and loaded into in old and new months, meanwhile."""
    storage = disk.storage()
    put(storage, frame())
    new = pd.concat([frame(5, asset="b"), frame(5, first=datetime(2024, 6, 1), asset="b")])
    happened = []

    def others() -> None:
        with suppress(UsageError):  # the first has completed: years are not made of months
            optimize(Table(storage, "t"), layout=second)
        load(storage, new)
        happened.append(Table(storage, "t").snapshot())

    with suppress(ConflictError, UsageError):
        optimize(Table(Meanwhile(storage, at, others, late=late), "t"), layout=first)  # type: ignore[arg-type]
    if not happened:  # a year is fewer files
        others()
    assert stored(storage) == rows_of(frame()[5:]) + rows_of(new)
    assert Table(storage, "t").snapshot() == happened[0], "nothing has changed since the loads"
    assert storage.stat(f"{DIRECTORY}/t.parquet") is None


@pytest.mark.parametrize("at", range(1, STEPS + 1))
@pytest.mark.parametrize("second", LAYOUTS)
@pytest.mark.parametrize("first", LAYOUTS)
def test_rows_that_were_deleted_meanwhile_do_not_come_back(disk: Any, first: Any, second: Any, at: int) -> None:
    """The first would create a month or year that the second, later one does not have any more."""
    storage = disk.storage()
    put(storage, pd.concat([frame(), frame(5, first=datetime(2025, 3, 1))]))
    kept = frame(31)

    def others() -> None:
        save_table("t", kept, lq=lake(storage), mode="replace")
        if Table(storage, "t").snapshot().layout == "file":
            with suppress(UsageError):  # the first is at its end, and its months may be the table in a moment
                optimize(Table(storage, "t"), layout=second)

    with suppress(ConflictError, UsageError):
        optimize(Table(Meanwhile(storage, at, others), "t"), layout=first)  # type: ignore[arg-type]
    others()
    assert stored(storage) == rows_of(kept)


@pytest.mark.parametrize("at", range(1, STEPS + 1))
@pytest.mark.parametrize("second", LAYOUTS)
@pytest.mark.parametrize("first", LAYOUTS)
def test_one_that_is_killed_is_followed_by_another(disk: Any, first: Any, second: Any, at: int) -> None:
    storage = disk.storage()
    put(storage, frame())
    with suppress(Killed):
        optimize(Table(Meanwhile(storage, at, killed), "t"), layout=first)  # type: ignore[arg-type]
    assert stored(storage) == rows_of(frame())
    ended = Table(storage, "t").snapshot().layout != "file"  # a year is fewer files
    if not ended:
        optimize(Table(storage, "t"), layout=second)
    assert stored(storage) == rows_of(frame())
    assert Table(storage, "t").snapshot().layout == (first if ended else second)
    assert not [path for path in paths(storage) if f"/{second}=" not in path and not ended and "=" in path]


def paths(storage: Storage) -> list[str]:
    return [info.path for info in storage.list(DIRECTORY)]


@pytest.mark.parametrize("converted", [False, True])
def test_months_that_another_program_s_file_hides_are_no_leftovers(rig: Any, converted: bool) -> None:
    storage = rig.storage()
    if converted:
        put(storage, frame())
        optimize(Table(storage, "t"), layout="month")
    else:
        load(storage, frame())
        optimize(Table(storage, "t"), layout="month")
        load(storage, frame(70, asset="b"))
    put(storage, frame(3, asset="theirs"))
    before = storage.list(DIRECTORY)
    for options in ({"layout": "month"}, {"layout": "year"}, {"layout": "month", "dry_run": True}):
        with pytest.raises(UsageError) as caught:
            optimize(Table(storage, "t"), **options)  # type: ignore[arg-type]
        assert "one file (3 rows, 2024-01-01 to 2024-01-03, written " in caught.value.message
        assert "by parquet-cpp-arrow" in caught.value.message
        assert "3 months (70 rows, 2024-01 to 2024-03, written " in caught.value.message
        assert "by luxor-pipelines" in caught.value.message
        assert "luxor archive t --only file" in caught.value.hint
    assert storage.list(DIRECTORY) == before
    optimize(Table(storage, "t"))  # its own file may be put in shape
    assert stored(storage) == rows_of(frame(3, asset="theirs"))


def test_months_whose_record_was_made_anew_are_no_leftovers(rig: Any) -> None:
    storage = rig.storage()
    put(storage, frame())
    optimize(Table(storage, "t"), layout="month")
    storage.delete(f"{DIRECTORY}/t/_layout.json")
    load(storage, frame(1, first=datetime(2024, 8, 1)))
    put(storage, frame(3, asset="theirs"))
    with pytest.raises(UsageError, match="lies there twice"):
        optimize(Table(storage, "t"), layout="month")


def test_one_month_that_is_no_leftover_is_enough_to_refuse(rig: Any) -> None:
    storage = rig.storage()
    put(storage, frame())
    with pytest.raises(Killed):
        optimize(Table(Meanwhile(storage, 7, killed), "t"), layout="month")  # type: ignore[arg-type]
    put(storage, frame(3), f"{DIRECTORY}/t/month=2024-01/data.parquet")
    with pytest.raises(UsageError, match="lies there twice"):
        optimize(Table(storage, "t"), layout="month")


def test_one_that_was_cut_short_at_its_end_is_completed(rig: Any) -> None:
    """The record names it: with the file that it converted it is completed, with another it is refused."""
    storage = rig.storage()
    put(storage, frame())
    with pytest.raises(Killed):
        optimize(Table(Meanwhile(storage, STEPS, killed), "t"), layout="month")  # type: ignore[arg-type]
    record = Table(storage, "t").record()
    assert record is not None
    assert record.layout == "month"
    assert Table(storage, "t").snapshot().layout == "file"
    copy = storage.read(f"{DIRECTORY}/t.parquet").data
    load(storage, frame(5, asset="b"))  # the file still is the table
    with pytest.raises(UsageError, match="lies there twice"):
        optimize(Table(storage, "t"), layout="month")
    storage.write(f"{DIRECTORY}/t.parquet", copy)
    optimize(Table(storage, "t"), layout="year")
    assert Table(storage, "t").snapshot().layout == "year"
    assert stored(storage) == rows_of(frame())


def test_a_load_at_the_last_moment_takes_the_record_back(rig: Any) -> None:
    storage = rig.storage()
    put(storage, frame())
    new = frame(5, asset="b")

    class Loading(Meanwhile):
        def delete(self, path: str, **options: Any) -> None:
            if path.endswith("t.parquet"):
                load(storage, new)
            super().delete(path, **options)

    with pytest.raises(ConflictError):
        optimize(Table(Loading(storage, 0, None), "t"), layout="month", attempts=1)  # type: ignore[arg-type]
    assert Table(storage, "t").record() is None
    assert Table(storage, "t").snapshot().layout == "file"
    optimize(Table(storage, "t"), layout="month")
    assert stored(storage) == rows_of(frame()[5:]) + rows_of(new)


def test_a_table_that_is_being_moved_is_not_converted(rig: Any) -> None:
    storage = rig.storage()
    put(storage, frame())

    def others() -> None:
        storage.write(f"{DIRECTORY}/t/_moving.json", b"{}")

    with pytest.raises(MoveInProgressError):
        optimize(Table(Meanwhile(storage, 2, others), "t"), layout="month")  # type: ignore[arg-type]
    with pytest.raises(MoveInProgressError):
        optimize(Table(storage, "t"), layout="month")
    storage.delete(f"{DIRECTORY}/t/_moving.json")
    assert stored(storage) == rows_of(frame())


def test_a_file_that_has_gone_is_a_conflict(rig: Any) -> None:
    storage = rig.storage()
    put(storage, frame())
    gone = Meanwhile(storage, 1, lambda: storage.delete(f"{DIRECTORY}/t.parquet"))
    with pytest.raises((ConflictError, FileNotFoundError)):
        optimize(Table(gone, "t"), layout="month")  # type: ignore[arg-type]
    assert paths(storage) == []


def test_a_table_without_rows_is_not_split(rig: Any) -> None:
    storage = rig.storage()
    put(storage, frame(1)[:0])
    with pytest.raises(SchemaError, match="has no rows to split"):
        optimize(Table(storage, "t"), layout="month")
    assert len(Table(storage, "t").scan().data) == 0


def test_a_partition_that_is_loaded_into_is_the_table_s_own(rig: Any) -> None:
    storage = rig.storage()
    put(storage, frame())
    optimize(Table(storage, "t"), layout="month")
    load(storage, frame(1, asset="b"))

    def conversion(label: str) -> bytes | None:
        file = storage.read(f"{DIRECTORY}/t/month={label}/data.parquet").data
        return (pq.read_schema(BytesIO(file)).metadata or {}).get(b"luxor.conversion")

    assert conversion("2024-01") is None
    record = Table(storage, "t").record()
    assert record is not None
    assert conversion("2024-02") == (record.conversion or "").encode()
