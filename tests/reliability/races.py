"""Loads that race, and whether what they leave is what some serial order of them gives."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from graphlib import TopologicalSorter
from typing import Literal

from luxor_pipelines.ingest import LoadResult
from reliability.model import Batch, Cell, Layout, State, partitions

Race = Literal["disjoint months", "same month", "overlapping keys"]
RACES: tuple[Race, ...] = ("disjoint months", "same month", "overlapping keys")


@dataclass(frozen=True)
class Outcome:
    """One load of a race: from when to when, and its result, or the class of the error it ended in."""

    batch: Batch
    began: float
    ended: float
    result: LoadResult | None
    error: str = ""


@cache
def racing_batch(race: Race, worker: int, number: int) -> Batch:
    """In each month some rows that other loads write too, and two at an instant of its own.

    Nobody else ever writes at that instant: a load is in a partition exactly when those two rows are.
    """
    chance = random.Random(f"{race}/{worker}/{number}")
    months = {"disjoint months": [worker + 1], "same month": [1], "overlapping keys": [1, 2]}[race]
    rows: dict[Cell, float] = {}
    for month in months:
        for key in chance.sample(range(20), 10):
            rows[datetime(2026, month, 1), f"shared {key}"] = chance.random()
        for key in range(2):
            rows[datetime(2026, month, 2, worker, number), f"own {key}"] = chance.random()
    return Batch(f"{worker}-{number}", rows, upsert=race == "overlapping keys")


def named(race: Race, name: str) -> Batch:
    worker, number = name.split("-")
    return racing_batch(race, int(worker), int(number))


def own(state: State) -> State:
    return {cell: value for cell, value in state.items() if cell[1].startswith("own")}


def units(state: State, race: Race) -> dict[Hashable, State]:
    """The rows that are replaced together: those of a date, or the one of a key."""
    found: defaultdict[Hashable, State] = defaultdict(dict)
    for cell, value in state.items():
        found[cell if race == "overlapping keys" else cell[0]][cell] = value
    return dict(found)


def check_whole(state: State, race: Race, layout: Layout) -> set[tuple[str, str]]:
    """That no partition shows a part of a load; the loads that each shows, as (label, name)."""
    shown = set()
    for label, part in partitions(state, layout).items():
        loads = {name: partitions(named(race, name).state(), layout)[label] for _, name in part.values()}
        for name, rows in loads.items():
            assert own(rows).items() <= part.items(), f"partition {label!r} has only a part of load {name}"
        for unit, rows in units(part, race).items():
            (_, name), *_ = rows.values()
            assert rows == units(loads[name], race)[unit], f"partition {label!r} has a mixture at {unit}"
        shown |= {(label, name) for _, name in own(part).values()}
    return shown


def check_serial(state: State, outcomes: Sequence[Outcome], race: Race, layout: Layout) -> None:
    """That each partition is what some serial order gives, in which who ended before another began is before it.

    Whose rows are there came after all others that wrote such rows; the order exists if these and
    the clock's demands make no circle. A load that ended in a conflict must have left nothing in the
    partition in which it met it; of one that lost the connection nobody can say.
    """
    shown = check_whole(state, race, layout)
    for each in outcomes:
        labels = partitions(each.batch.state(), layout)
        missing = [label for label in labels if (label, each.batch.name) not in shown]
        assert each.result is None or not missing, f"load {each.batch.name} succeeded and is missing in {missing}"
        assert each.error != "LoadConflictError" or missing, f"load {each.batch.name} gave up and is there all the same"
    for label, part in partitions(state, layout).items():
        loads = [each for each in outcomes if (label, each.batch.name) in shown]
        after = {each.batch.name: {other.batch.name for other in loads if other.ended < each.began} for each in loads}
        writers: defaultdict[Hashable, set[str]] = defaultdict(set)
        for each in loads:
            for unit in units(partitions(each.batch.state(), layout)[label], race):
                writers[unit].add(each.batch.name)
        there = units(part, race)
        assert there.keys() == writers.keys()
        for unit, rows in there.items():
            (_, last), *_ = rows.values()
            after[last] |= writers[unit] - {last}
        TopologicalSorter(after).prepare()  # a CycleError: no order gives this content


def check_chain(state: State, version: str, outcomes: Sequence[Outcome]) -> None:
    """That the versions before and after make the loads of one file a chain, and that its replay gives the content."""
    succeeded = [each for each in outcomes if each.result]
    left = {each.result.version_before: each for each in succeeded if each.result}
    assert len(left) == len(succeeded), "two loads replaced one version"
    replayed: State = {}
    at: str | None = None
    while at in left:
        load = left.pop(at)
        before, replayed = replayed, load.batch.onto(replayed)
        result = load.result
        assert result is not None
        gone, new = before.keys() - replayed.keys(), replayed.keys() - before.keys()
        assert (result.inserted, result.deleted) == (len(new), len(gone))
        assert result.updated + result.inserted == len(load.batch.rows)
        at = result.version_after
    assert not left, f"{len(left)} loads succeeded on a version that nobody left"
    assert at == version
    assert replayed == state
