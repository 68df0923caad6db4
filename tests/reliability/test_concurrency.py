"""Many processes load into one table at once, from its creation on, while others read it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from luxor_pipelines.lake.table.table import Table
from reliability.conftest import Scale
from reliability.model import LAYOUTS, TABLE, Layout, partitions, stored
from reliability.processes import CONTEXT, Child, compete, read_meanwhile
from reliability.races import RACES, Race, check_chain, check_serial

kinds = pytest.mark.parametrize("kind", ["disk", pytest.param("azurite", marks=pytest.mark.azurite)])


@kinds
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("race", RACES)
def test_what_racing_loads_leave_some_serial_order_gives(
    make_rig: Any, kind: str, layout: Layout, race: Race, scale: Scale, figures: Counter[str]
) -> None:
    rig = make_rig(kind)
    done = CONTEXT.Event()
    readers = [Child(read_meanwhile, rig.lake, race, layout, done) for _ in range(2)]
    outcomes = compete(rig.lake, {}, race, layout, scale.processes, scale.loads)
    done.set()
    figures["loads"] = len(outcomes)
    figures["that gave up"] = sum(each.error == "LoadConflictError" for each in outcomes)
    assert {each.error for each in outcomes} <= {"", "LoadConflictError"}
    for reader in readers:
        figures["reads meanwhile"] += reader.hear()
        list(reader.rest())

    storage = rig.storage()
    state = stored(storage)
    assert state is not None
    check_serial(state, outcomes, race, layout)
    if len(partitions(state, layout)) == 1:
        check_chain(state, Table(storage, TABLE).snapshot().version, outcomes)


@kinds
def test_a_load_that_gives_up_leaves_the_table_as_the_others_made_it(
    make_rig: Any, kind: str, scale: Scale, figures: Counter[str]
) -> None:
    rig = make_rig(kind)
    outcomes = compete(rig.lake, {"load_attempts": 1}, "same month", "file", 4, 10)
    figures["loads"] = len(outcomes)
    figures["that gave up"] = sum(each.error == "LoadConflictError" for each in outcomes)
    assert {each.error for each in outcomes} <= {"", "LoadConflictError"}
    assert figures["that gave up"], "the test must have met a conflict"
    state = stored(rig.storage())
    assert state is not None
    check_serial(state, outcomes, "same month", "file")
    check_chain(state, Table(rig.storage(), TABLE).snapshot().version, outcomes)
