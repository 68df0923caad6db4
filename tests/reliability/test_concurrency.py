"""Many processes load into one table at once, from its creation on, while others read it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from luxor_pipelines.lake.table import Table
from luxor_pipelines.settings import Settings
from reliability.conftest import Scale
from reliability.model import LAYOUTS, TABLE, Layout, partitions, stored
from reliability.processes import CONTEXT, Child, race_loads, read_meanwhile
from reliability.races import RACES, Outcome, Race, check_chain, check_serial

kinds = pytest.mark.parametrize("kind", ["disk", pytest.param("azurite", marks=pytest.mark.azurite)])


def compete(rig: Any, race: Race, layout: Layout, processes: int, loads: int, settings: Settings) -> list[Outcome]:
    gate = CONTEXT.Barrier(processes)
    children = [Child(race_loads, rig.lake, settings, race, layout, n, loads, gate) for n in range(processes)]
    outcomes = [outcome for child in children for outcome in child.hear()]
    for child in children:
        assert list(child.rest()) == []
    return outcomes


@kinds
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("race", RACES)
def test_what_racing_loads_leave_some_serial_order_gives(
    make_rig: Any, kind: str, layout: Layout, race: Race, scale: Scale, figures: Counter[str]
) -> None:
    rig = make_rig(kind)
    done = CONTEXT.Event()
    readers = [Child(read_meanwhile, rig.lake, race, layout, done) for _ in range(2)]
    outcomes = compete(rig, race, layout, scale.processes, scale.loads, Settings())
    done.set()
    figures["loads"] = len(outcomes)
    figures["that gave up"] = sum(each.result is None for each in outcomes)
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
    outcomes = compete(rig, "same month", "file", 4, 10, Settings(load_attempts=1))
    figures["loads"] = len(outcomes)
    figures["that gave up"] = sum(each.result is None for each in outcomes)
    assert figures["that gave up"], "the test must have met a conflict"
    state = stored(rig.storage())
    assert state is not None
    check_serial(state, outcomes, "same month", "file")
    check_chain(state, Table(rig.storage(), TABLE).snapshot().version, outcomes)
