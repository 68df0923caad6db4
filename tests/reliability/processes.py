"""What the child processes do, and how they are started.

They are forked from a server that has everything imported, so that a new one is at work within
milliseconds, where the platform can; elsewhere they are spawned.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

from luxor_pipelines import LuxorQuery
from luxor_pipelines.errors import LakeError, LoadConflictError, TableNotFoundError
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.settings import Settings
from reliability.model import TABLE, Layout, random_batch, state_of
from reliability.races import Outcome, Race, check_whole, racing_batch

FORKS = "forkserver" in multiprocessing.get_all_start_methods()
CONTEXT: Any = multiprocessing.get_context("forkserver" if FORKS else "spawn")
if FORKS:
    rooms = ("query.luxor_query", "ingest", "lake.storage.azure", "lake.storage.local", "lake.table.archive")
    CONTEXT.set_forkserver_preload(["pytest", *(f"luxor_pipelines.{room}" for room in rooms)])

Lake = dict[str, Any]
"""How to open the lake: the arguments of `LuxorQuery`."""
PATIENCE_S = 300
"""When a child that says nothing counts as stuck."""


def open_lake(lake: Lake, **settings: float) -> LuxorQuery:
    return LuxorQuery(**lake, settings=Settings(**settings))  # type: ignore[arg-type]


class Child:
    """A real process, and what it has said."""

    def __init__(self, work: Callable[..., None], *arguments: Any) -> None:
        self._ear, mouth = CONTEXT.Pipe(duplex=False)
        self.process = CONTEXT.Process(target=_tell, args=(mouth, work, arguments), daemon=True)
        self.process.start()
        mouth.close()

    def hear(self) -> Any:
        """The next thing it says; what went wrong there goes wrong here."""
        if not self._ear.poll(PATIENCE_S):
            raise TimeoutError(f"a child has said nothing for {PATIENCE_S} s")
        said = self._ear.recv()
        assert not isinstance(said, _Failed), f"in a child process:\n{said}"
        return said

    def kill(self) -> None:
        """SIGKILL: nothing of its own runs any more."""
        self.process.kill()
        self.process.join()

    def rest(self) -> Iterator[Any]:
        """Everything it still said before it ended."""
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                yield self.hear()
        self.process.join()
        self._ear.close()
        self.process.close()


class _Failed(str):
    pass


def _tell(mouth: Connection, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    try:
        work(mouth.send, *arguments)
    except Exception:  # noqa: BLE001 - told to the parent
        mouth.send(_Failed(traceback.format_exc()))


def load_for_ever(say: Callable[[Any], None], lake: Lake, layout: Layout, seed: int, first: int) -> None:
    """Load one batch after another, saying when each begins and when it is done."""
    lq = open_lake(lake)
    for number in itertools.count(first):
        say(("begins", number))
        random_batch(seed, number).load(lq, layout)
        say(("done", number))


def race_loads(
    say: Callable[[Any], None],
    lake: Lake,
    settings: Mapping[str, float],
    race: Race,
    layout: Layout,
    worker: int,
    loads: int,
    gate: Any,
) -> None:
    """Load when the gate opens, as fast as it goes; say what came of each."""
    lq = open_lake(lake, **settings)
    outcomes = []
    gate.wait(PATIENCE_S)
    for number in range(loads):
        batch = racing_batch(race, worker, number)
        began = time.monotonic()
        try:
            result, error = batch.load(lq, layout), ""
        except LakeError as failure:
            kind = LoadConflictError if isinstance(failure, LoadConflictError) else type(failure)
            result, error = None, kind.__name__
        outcomes.append(Outcome(batch, began, time.monotonic(), result, error))
    say(outcomes)


def compete(
    lake: Lake, settings: Mapping[str, float], race: Race, layout: Layout, processes: int, loads: int
) -> list[Outcome]:
    """Have that many processes load that often, all at once; what came of each load."""
    gate = CONTEXT.Barrier(processes)
    children = [Child(race_loads, lake, settings, race, layout, n, loads, gate) for n in range(processes)]
    outcomes = [outcome for child in children for outcome in child.hear()]
    for child in children:
        assert list(child.rest()) == []
    return outcomes


def read_meanwhile(say: Callable[[Any], None], lake: Lake, race: Race, layout: Layout, done: Any) -> None:
    """Read until told, checking each time that all is whole and nothing has gone; say how often."""
    lq = open_lake(lake)
    shown: set[tuple[str, str]] = set()
    for reads in itertools.count():
        last = done.is_set()
        try:
            if reads % 2:
                rows = Table(lq.lake.storage, TABLE).scan().data.to_pylist()
            else:
                lq.update()
                rows = lq.get_table(TABLE).to_dict("records")
        except TableNotFoundError:
            assert not shown, "the table was there and is missing"
            continue  # nobody has created it yet
        now = check_whole(state_of(rows), race, layout)
        assert now >= shown, f"loads were there and are gone: {sorted(shown - now)}"
        shown = now
        if last:
            say(reads)
            return
