"""First loads, conversions, archiving and restoring at once, killed and suspended at random, beside loads and readers.

Each round has a new table. Processes load into it, in two layouts from its creation on, or into one that is there and
is moved to the archive and back meanwhile; two convert it, into months and into years; one reads. Some are killed
(SIGKILL), and replaced, some suspended (SIGSTOP) and woken later. What a load has reported is written down, and a
reader that begins after that must find it.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from luxor_pipelines.errors import ConflictError, MoveInProgressError, TableNotFoundError, UsageError
from luxor_pipelines.ingest import incremental_load
from luxor_pipelines.lake.storage.base import Storage
from luxor_pipelines.lake.table.archive import archive, restore
from luxor_pipelines.lake.table.optimize import optimize
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.lake.types.schema import Column, TableSchema
from reliability.conftest import Scale
from reliability.processes import Child, Lake, open_lake

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no SIGSTOP")

BASE = [(datetime(2026, month, day), f"base {key}") for month in range(1, 6) for day in (1, 9) for key in range(3)]
COLUMNS = (Column("Date", "date", False), Column("Key", "text", False), Column("Load", "text"))
Cell = tuple[datetime, str]


def schema(name: str, layout: str) -> TableSchema:
    return TableSchema(name, 1, COLUMNS, ("Date", "Key"), "month" if layout == "month" else None)


def rows_of(load: str) -> list[Cell]:
    """Two rows in each of two months, with keys that no other load has."""
    months = random.Random(load).sample(range(1, 6), 2)
    return [(datetime(2026, month, 2), f"{load} {key}") for month in months for key in range(2)]


def frame(rows: list[Cell], load: str) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["Date", "Key"]).assign(Load=load)


# --- what the processes do ----------------------------------------------------------------------


class Scene:
    """One round: its table, and the files by which the processes tell one another."""

    def __init__(self, folder: Path, name: str, *, moves: bool) -> None:
        self.name, self.moves = name, moves
        self.reported_file, self.stop_file = folder / f"{name}.reported", folder / f"{name}.stop"

    def report(self, load: str) -> None:
        with self.reported_file.open("ab", buffering=0) as file:
            file.write(f"{load}\n".encode())

    def reported(self) -> set[str]:
        return set(self.reported_file.read_text().split()) if self.reported_file.exists() else set()

    def rounds(self) -> Iterator[int]:
        for number in itertools.count():
            if self.stop_file.exists():
                return
            yield number


def keep_loading(say: Callable[[Any], None], lake: Lake, scene: Scene, worker: int) -> None:
    lq = open_lake(lake)
    if scene.moves:
        _create_nothing(lq.lake.storage)
    say("ready")
    for number in scene.rounds():
        load = f"{worker}-{number}"
        layout = random.Random(load).choice(["file", "month"])
        with suppress(ConflictError):
            incremental_load(
                lq,
                scene.name,
                frame(rows_of(load), load),
                unique_columns=["Date", "Key"],
                schema=schema(scene.name, layout),
            )
            scene.report(load)


def _create_nothing(storage: Storage) -> None:
    """Have the table that was archived stay the only one, so that all that was loaded must be in what is restored."""
    write = storage.write

    def refusing(path: str, data: bytes, *, expected: Any) -> str:
        if expected is None:
            raise storage.conflict(path)
        return write(path, data, expected=expected)

    storage.write = refusing  # type: ignore[method-assign, assignment]


def keep_converting(say: Callable[[Any], None], lake: Lake, scene: Scene, worker: int) -> None:
    table = Table(open_lake(lake).lake.storage, scene.name)
    say("ready")
    for number in scene.rounds():
        layout = random.Random(f"{worker}/{number}").choice(["month", "year"])
        try:
            optimize(table, layout=layout)  # type: ignore[arg-type]
        except (ConflictError, TableNotFoundError):
            continue
        except UsageError as error:
            if "lies there twice" in error.message:  # as a person would, who has seen which is which
                with suppress(ConflictError, TableNotFoundError, UsageError):
                    archive(table, datetime.now(UTC), "partitions")
        time.sleep(0.02)


def keep_moving(say: Callable[[Any], None], lake: Lake, scene: Scene, worker: int) -> None:
    table = Table(open_lake(lake).lake.storage, scene.name)
    say("ready")
    for number in scene.rounds():
        move = (archive, restore)[(worker + number) % 2]
        with suppress(ConflictError, TableNotFoundError, UsageError):
            move(table, datetime.now(UTC))
        time.sleep(0.02)


def keep_reading(say: Callable[[Any], None], lake: Lake, scene: Scene) -> None:
    storage = open_lake(lake).lake.storage
    reads = 0
    for _ in scene.rounds():
        before = scene.reported()
        try:
            check(storage, scene, before)
            reads += 1
        except TableNotFoundError:
            assert scene.moves or not before, "a table that was loaded is missing"
        except MoveInProgressError:
            pass
    say(reads)


def check(storage: Storage, scene: Scene, reported: set[str]) -> None:
    """A read shows all of the table that was there, all that was reported, and of each load all in a month or none."""
    scan = Table(storage, scene.name).scan(["Date", "Key", "Load"])
    data = scan.data.to_pylist()
    cells = [(row["Date"], row["Key"]) for row in data]
    assert len(cells) == len(set(cells)), "rows are there twice"
    loads = {row["Load"] for row in data} - {"base"}
    if scene.moves:
        assert set(BASE) <= set(cells), f"a part was taken for the table: {len(cells)} rows of {scan.snapshot}"
    assert reported <= loads, f"lost: {sorted(reported - loads)[:5]}"
    for load in loads:
        rows = {cell for cell, row in zip(cells, data, strict=True) if row["Load"] == load}
        wanted = set(rows_of(load))
        assert rows <= wanted, f"load {load} has rows that it never had"
        for month in {date.month for date, _ in rows}:
            assert {cell for cell in wanted if cell[0].month == month} <= rows, f"load {load} is torn in month {month}"
        assert load not in reported or rows == wanted, f"load {load} was reported and is there in part"


# --- the test -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["disk", pytest.param("azurite", marks=pytest.mark.azurite)])
@pytest.mark.parametrize("moves", [False, True], ids=["first loads", "archived tables"])
def test_nothing_is_lost_or_torn_whatever_is_killed_or_suspended(
    make_rig: Any, tmp_path: Path, kind: str, moves: bool, scale: Scale, figures: Counter[str]
) -> None:
    rig = make_rig(kind)
    storage = rig.storage()
    chance = random.Random(f"{scale.seed}/{kind}/{moves}")
    workers = itertools.count()
    while min(figures["kills"], figures["suspensions"]) < scale.interruptions:
        scene = Scene(tmp_path, f"t{figures['rounds']}", moves=moves)
        if moves:
            first = schema(scene.name, "file")
            incremental_load(rig.query(), scene.name, frame(BASE, "base"), schema=first, unique_columns=["Date", "Key"])
        _play(rig.lake, scene, workers, chance, scale, figures)
        figures["rounds"] += 1
        figures["loads reported"] += len(scene.reported())
        table = Table(storage, scene.name)
        if moves:
            with suppress(UsageError):  # the table is there
                restore(table, datetime.now(UTC))
        snapshot = table.find()
        assert snapshot is not None or not scene.reported()
        if snapshot is not None:
            check(storage, scene, scene.reported())
            figures[f"ended by {snapshot.layout}"] += 1


def _play(
    lake: Lake, scene: Scene, workers: Iterator[int], chance: random.Random, scale: Scale, figures: Counter[str]
) -> None:
    """Have all work at once, and kill or suspend some; returns when all that are left have ended."""
    roles = [keep_loading, keep_loading, keep_converting, keep_converting, *([keep_moving] if scene.moves else [])]
    reader = Child(keep_reading, lake, scene)
    children = [(role, Child(role, lake, scene, next(workers))) for role in roles]
    for _, child in children:
        assert child.hear() == "ready"
    suspended: list[Child] = []
    for _ in range(scale.interruptions_a_round):
        time.sleep(chance.uniform(0, 0.3))
        at = chance.randrange(len(children))
        role, child = children[at]
        if child in suspended:
            suspended.remove(child)
            _signal(child, signal.SIGCONT)
        elif chance.random() < 0.5 and figures["kills"] < scale.interruptions:
            child.kill()
            figures["kills"] += 1
            children[at] = (role, Child(role, lake, scene, next(workers)))
        else:
            _signal(child, signal.SIGSTOP)
            suspended.append(child)
            figures["suspensions"] += 1
    time.sleep(chance.uniform(0, 0.3))
    for child in suspended:
        _signal(child, signal.SIGCONT)
    scene.stop_file.touch()
    figures["reads meanwhile"] += reader.hear()
    for child in [reader, *(child for _, child in children)]:
        assert set(child.rest()) <= {"ready"}


def _signal(child: Child, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child.process.pid, number)
