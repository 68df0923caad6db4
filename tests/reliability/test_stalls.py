"""Runs suspended at any moment and succeeded: what the successor has loaded stays, whenever the first one wakes up.

A run of market_prices, with a file of wrong prices, is stopped (SIGSTOP) before one of the operations on the lake that
its thread does, chosen at random. The file is put right, and another run succeeds it. Then the first one is woken.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from luxor_pipelines.errors import LuxorError
from luxor_pipelines.lake.storage.base import Storage
from luxor_pipelines.lake.storage.lease import Lease
from luxor_pipelines.operations.records import last_runs
from luxor_pipelines.operations.runs import run
from luxor_pipelines.settings import Settings
from reliability.conftest import Scale
from reliability.processes import Child, Lake, open_lake

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no SIGSTOP")

TTL_S = 0.5
YEARS = range(2015, 2027)
FILE = "raw/prices/prices.csv"
OPERATIONS = ("stat", "peek", "read", "write", "delete", "list", "folder", "open")


def price_file(price: float) -> bytes:
    rows = [f"{year}-{month:02}-28,{asset},{price + year}" for year in YEARS for month in (3, 9) for asset in "abc"]
    return "\n".join(["Date,Asset,Last_Price", *rows]).encode()


def load_prices(say: Callable[[Any], None], lake: Lake, stop_at: int) -> None:
    """Run market_prices, stopped before an operation of that number (0: never); say how it ended."""
    lq = open_lake(lake, run_lock_ttl=TTL_S)
    done = _stopped_at(lq.lake.storage, stop_at, say)
    try:
        outcome = run("market_prices", lq=lq).status
    except LuxorError as error:
        outcome = type(error).__name__
    say(("ended", outcome, done["operations"]))


def _stopped_at(storage: Storage, stop_at: int, say: Callable[[Any], None]) -> Counter[str]:
    done: Counter[str] = Counter()
    turn, renew, here = threading.Lock(), Lease.renew, threading.current_thread()

    def renewing(lease: Lease) -> bool:
        with turn:  # stopped with the disk's own lock on the lease, it would keep everybody from it
            return renew(lease)

    Lease.renew = renewing  # type: ignore[method-assign]

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            if threading.current_thread() is here:
                done["operations"] += 1
                if done["operations"] == stop_at:
                    with turn:
                        say(("stops", operation.__name__, args[:1]))
                        os.kill(os.getpid(), signal.SIGSTOP)
            return operation(*args, **options)

        return called

    for name in OPERATIONS:
        setattr(storage, name, counted(getattr(storage, name)))
    return done


@pytest.mark.parametrize("kind", ["disk", pytest.param("azurite", marks=pytest.mark.azurite)])
def test_a_run_that_was_succeeded_undoes_nothing(make_rig: Any, kind: str, scale: Scale, figures: Counter[str]) -> None:
    rig = make_rig(kind)
    storage = rig.storage()
    chance = random.Random(f"{scale.seed}/{kind}")
    settings = Settings(run_lock_ttl=TTL_S)

    def stored() -> dict[Any, float]:
        frame = rig.query().get_table("hist_file_px_last")
        return dict(zip(zip(frame["Date"], frame["Asset"], strict=True), frame["Last_Price"], strict=True))

    def right(price: float) -> dict[Any, float]:
        cells = [(year, month, asset) for year in YEARS for month in (3, 9) for asset in "abc"]
        return {(pd.Timestamp(year, month, 28), asset): price + year for year, month, asset in cells}

    storage.write(FILE, price_file(1.0))
    assert run("market_prices", lq=rig.query()).changed
    storage.write(FILE, price_file(0.5))
    child = Child(load_prices, rig.lake, 0)
    _, outcome, operations = child.hear()
    list(child.rest())
    assert outcome == "done"

    while figures["suspensions"] < scale.stalls:
        price = chance.choice([1.0, 2.0])
        storage.write(FILE, price_file(price))
        run("market_prices", lq=rig.query())
        storage.write(FILE, price_file(100.0))
        child = Child(load_prices, rig.lake, chance.randint(1, operations))
        said = child.hear()
        assert said[0] == "stops"
        # What is stored already the successor finds unchanged, up to where the first one has come.
        storage.write(FILE, price_file(price))
        heir = run("market_prices", lq=rig.query(settings=settings), if_running="wait")
        assert heir.status == "done"
        assert stored() == right(price)
        os.kill(child.process.pid, signal.SIGCONT)
        _, outcome, _ = child.hear()
        list(child.rest())
        assert outcome in ("done", "LockLostError")
        assert stored() == right(price), f"undone by the first, which had stopped before {said[1:]}"

        figures["suspensions"] += 1
        figures[f"that ended {outcome}"] += 1
        figures["that had written some years"] += 0 < heir.loads[0].updated < len(right(price))
        figures["successors that found all unchanged"] += not heir.changed
        (first,) = [report for report in last_runs(rig.query(), limit=3) if report.id != heir.id][:1]
        assert first.status == ("failed" if outcome == "LockLostError" else "done")

    run("market_prices", lq=rig.query())
    assert not storage.list("system/locks/runs"), "every holder is accounted for"
