"""Loads killed at random moments: every partition is as before or as after, and a rerun completes."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from luxor_pipelines.lake.storage.base import Storage
from luxor_pipelines.lake.storage.local import LocalStorage
from luxor_pipelines.lake.table.listing import list_tables
from luxor_pipelines.lake.table.table import Table
from reliability.conftest import Scale
from reliability.model import LAYOUTS, TABLE, Layout, State, committed, partitions, random_batch, stored
from reliability.processes import Child, load_for_ever


@pytest.mark.parametrize("kind", ["disk", pytest.param("azurite", marks=pytest.mark.azurite)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_killed_load_is_done_or_not_in_every_partition(
    make_rig: Any, kind: str, layout: Layout, scale: Scale, figures: Counter[str]
) -> None:
    rig = make_rig(kind)
    lq, storage = rig.query(), rig.storage()
    chance = random.Random(f"{scale.seed}/{kind}/{layout}")
    state: State = {}
    number, pace = 0, 0.1
    while figures["kills"] < scale.kills:
        child = Child(load_for_ever, rig.lake, layout, scale.seed, number)
        said = [child.hear()]
        started = time.monotonic()
        time.sleep(chance.uniform(0, 4 * pace))  # the random moment
        child.kill()
        lived = time.monotonic() - started
        said += child.rest()
        figures["kills"] += 1
        done = [each for what, each in said if what == "done"]
        figures["loads that were done"] += len(done)
        if done:
            pace = lived / len(done)
        for each in done:
            state = random_batch(scale.seed, each).onto(state)
        what, number = said[-1]
        if what == "done":
            number += 1
        batch = random_batch(scale.seed, number)
        after = batch.onto(state)

        found = stored(storage)
        there, of = committed(found or {}, state, after, layout)
        assert there == 0 or what == "begins", "a load that had not begun"
        figures["loads cut between two partitions"] += 0 < there < of
        figures["temporary files left by kills"] += len(temporary_files(storage))
        check_names(storage, found, layout)

        batch.load(lq, layout)
        assert stored(storage) == after
        assert not batch.load(lq, layout).changed
        assert not temporary_files(storage), "a write removes what a killed one left of the same file"
        state, number = after, number + 1


def temporary_files(storage: Storage) -> list[Path]:
    return [*storage.root.rglob("*.tmp")] if isinstance(storage, LocalStorage) else []


def check_names(storage: Storage, found: State | None, layout: Layout) -> None:
    """Nothing but the table's own files counts as data."""
    assert list_tables(storage) == ([] if found is None else [TABLE])
    table = Table(storage, TABLE)
    files = [table.path(layout, label) for label in sorted(partitions(found or {}, layout))]
    assert [info.path for info in storage.list("enriched") if info.path != table.record_path] == files
    snapshot = table.find()
    assert [part.info.path for part in snapshot.parts] == files if snapshot else not files
