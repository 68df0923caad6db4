"""What batches hold and what they must leave: a dictionary, and none of the library's own merging."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import pandas as pd

from luxor_pipelines import LuxorQuery, incremental_load
from luxor_pipelines.ingest import LoadResult
from luxor_pipelines.lake.storage.base import Storage
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.lake.types.schema import Column, TableSchema

TABLE = "prices"
Layout = Literal["file", "month"]
LAYOUTS: tuple[Layout, ...] = ("file", "month")

Cell = tuple[datetime, str]
State = dict[Cell, tuple[float, str]]
"""Of each (Date, Key) the value, and the load it is of."""


def schema(layout: Layout) -> TableSchema:
    return TableSchema(
        name=TABLE,
        version=1,
        columns=(
            Column("Date", "stamp", False),  # each load has an instant of its own, and days are too few
            Column("Key", "text", False),
            Column("Value", "number"),
            Column("Load", "text"),
        ),
        key=("Date", "Key"),
        partition="month" if layout == "month" else None,
    )


@dataclass(frozen=True)
class Batch:
    """The rows of one load, which says of itself in every row which it is."""

    name: str
    rows: Mapping[Cell, float]
    upsert: bool

    def state(self) -> State:
        return {cell: (value, self.name) for cell, value in self.rows.items()}

    def onto(self, state: State) -> State:
        """What a table of that content must hold after the load."""
        dates = {date for date, _ in self.rows}
        kept = {cell: each for cell, each in state.items() if self.upsert or cell[0] not in dates}
        return kept | self.state()

    def load(self, lq: LuxorQuery, layout: Layout) -> LoadResult:
        frame = pd.DataFrame(
            [(date, key, value, self.name) for (date, key), value in self.rows.items()],
            columns=["Date", "Key", "Value", "Load"],
        )
        frame["Date"] = frame["Date"].dt.tz_localize("UTC")
        unique = ["Date", "Key"] if self.upsert else None
        return incremental_load(lq, TABLE, frame, unique_columns=unique, schema=schema(layout))


def random_batch(seed: int, number: int) -> Batch:
    """The batch of that number: some days of two or three months, by slices or by key."""
    chance = random.Random(f"{seed}/{number}")
    months = chance.sample(range(1, 5), chance.choice([2, 3]))
    days = [datetime(2026, month, 1) + timedelta(chance.randrange(28)) for month in months for _ in range(4)]
    keys = [f"key {key}" for key in chance.sample(range(40), chance.randrange(5, 30))]
    rows = {(day, key): round(chance.uniform(1, 99), 4) for day in days for key in keys}
    return Batch(str(number), rows, upsert=chance.random() < 0.5)


def stored(storage: Storage) -> State | None:
    """What the table holds; None where there is no table."""
    table = Table(storage, TABLE)
    return state_of(table.scan().data.to_pylist()) if table.find() is not None else None


def state_of(rows: Iterable[Mapping[str, object]]) -> State:
    """The rows of a scan as a state; a key that occurs twice is an error."""
    state: State = {}
    for row in rows:
        cell = (row["Date"].replace(tzinfo=None), row["Key"])  # type: ignore[attr-defined]
        assert cell not in state, f"{cell} is stored twice"
        state[cell] = (row["Value"], row["Load"])  # type: ignore[index, assignment]
    return state


def partitions(state: State, layout: Layout) -> dict[str, State]:
    """The state of each partition, by its label."""
    parts: defaultdict[str, State] = defaultdict(dict)
    for (date, key), value in state.items():
        parts[f"{date:%Y-%m}" if layout == "month" else ""][date, key] = value
    return dict(parts)


def committed(found: State, before: State, after: State, layout: Layout) -> tuple[int, int]:
    """How many of the partitions that a load changes have been changed, and how many it changes.

    Every partition must be as before or as after, and as they are committed in ascending order,
    none may be as after that comes behind one as before.
    """
    is_, was, shall = (partitions(state, layout) for state in (found, before, after))
    assert is_.keys() <= was.keys() | shall.keys(), "a partition that no load has written"
    done = []
    for label in sorted(was.keys() | shall.keys()):
        states = (was.get(label), shall.get(label))
        assert is_.get(label) in states, f"partition {label!r} is neither as before nor as after the load"
        if states[0] != states[1]:
            done.append(is_.get(label) == states[1])
    assert done == sorted(done, reverse=True), "partitions were not committed in ascending order"
    return sum(done), len(done)
