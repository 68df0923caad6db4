"""Runs in processes of their own that are killed and paused, seen by others whose clocks disagree with theirs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock, Timeout

from luxor_pipelines.errors import RunInProgressError
from luxor_pipelines.ingest import incremental_load, save_table
from luxor_pipelines.lake.storage.lease import lease_states
from luxor_pipelines.operations.records import RunReport, last_runs
from luxor_pipelines.operations.runs import run

MONTH = "2026-10-31"
TTL_S = 1.5
NOW = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no SIGSTOP")

# Computes the month, and before it writes what it has computed waits to be told to go on.
CHILD = """
import json, sys
from datetime import datetime, timedelta
from luxor_pipelines import LuxorQuery
from luxor_pipelines.errors import LuxorError
from luxor_pipelines.pipelines import hist_returns
from luxor_pipelines.operations.runs import run

compute, now = hist_returns.compute_returns, datetime.fromisoformat(sys.argv[1])

def gated(*args, **options):
    frame = compute(*args, **options)
    print("computed", flush=True)
    sys.stdin.readline()
    return frame

hist_returns.compute_returns = gated
try:
    run("hist_returns", ref_date="2026-10-31", lq=LuxorQuery(clock=lambda: now))
    print("done", flush=True)
except LuxorError as error:
    print(type(error).__name__, flush=True)
"""

Start = Callable[..., "Child"]


class Child:
    """A run in a process, of a machine whose clock is ``skew`` minutes off."""

    def __init__(self, rig: Any, ttl: float, skew: int) -> None:
        settings = {"LUXOR_RUN_LOCK_TTL": str(ttl)}
        if rig.kind == "disk":
            settings["LUXOR_LAKE_URL"] = rig.arguments["lake"]
        else:
            settings["AZURE_STORAGE_CONNECTION_STRING"] = rig.arguments["connection_string"]
            settings["LUXOR_CONTAINER"] = rig.arguments["container"]
        command = [sys.executable, "-c", CHILD, (NOW + timedelta(minutes=skew)).isoformat()]
        self.process = subprocess.Popen(
            command, env={**os.environ, **settings}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.rig = rig
        assert self.told() == "computed"

    def told(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> str:
        """Let it write, and wait for how it ends."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.told()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def pause(self) -> None:
        """Stop it, but not while it has one of the disk's own short locks: nobody could take those from it."""
        while True:
            self.process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)
            if not self._in_a_write():
                return
            self.process.send_signal(signal.SIGCONT)

    def _in_a_write(self) -> bool:
        if self.rig.kind != "disk":
            return False
        for path in (self.rig.storage().root / "system/locks").glob("*.lock"):
            try:
                with FileLock(path, timeout=0):
                    pass
            except Timeout:
                return True
        return False

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture(params=["disk", pytest.param("azurite", marks=pytest.mark.azurite)])
def lake(request: pytest.FixtureRequest, make_rig: Any) -> Any:
    """A lake that processes can share: one asset, 100 at the end of September, 110 at the end of October."""
    rig = make_rig(request.param)
    lq = rig.query()
    save_table("assets", pd.DataFrame({"Key": ["fund"], "Name": ["Fund"], "Ticker_BBG": ["fund"]}), lq=lq)
    prices = {"Date": pd.to_datetime(["2026-09-30", "2026-10-30"]), "Asset": "fund", "Last_Price": [100.0, 110.0]}
    save_table("hist_px_last", pd.DataFrame(prices), lq=lq)
    return replace(rig, settings=replace(rig.settings, run_lock_ttl=TTL_S))


@pytest.fixture
def start(lake: Any) -> Iterator[Start]:
    children: list[Child] = []

    def one(ttl: float = TTL_S, skew: int = 0) -> Child:
        children.append(Child(lake, ttl, skew))
        return children[-1]

    yield one
    for child in children:
        child.kill()
        assert child.process.stdin is not None
        assert child.process.stdout is not None
        child.process.stdin.close()
        child.process.stdout.close()


def statuses(lake: Any) -> list[str]:
    return sorted(report.status for report in last_runs(lake.query(), "hist_returns"))


def returns(lake: Any) -> list[float]:
    where = {"Period": "mtd", "Currency": "local"}
    return [round(each, 12) for each in lake.query().get_table("hist_returns", where=where)["Return"]]


def heir(lake: Any, skew: int = 0) -> RunReport:
    """The first run that is let in; until then all are refused."""
    lq = lake.query(clock=lambda: NOW + timedelta(minutes=skew))
    for _ in range(600):
        try:
            return run("hist_returns", ref_date=MONTH, lq=lq)
        except RunInProgressError:
            threading.Event().wait(0.1)
    raise AssertionError("the dead run was never given up")


# Minutes by which the clock of the holder and that of the others are off.
SKEWS = pytest.mark.parametrize("skews", [(-10, 10), (10, -10)], ids=["slow holder", "fast holder"])


def test_a_killed_run_is_shown_as_died_and_succeeded(lake: Any, start: Start) -> None:
    holder = start(skew=10)
    assert statuses(lake) == ["running"]
    holder.kill()
    report = heir(lake, skew=-10)
    assert (report.status, report.changed, report.warnings) == ("done", True, ())
    assert returns(lake) == [0.1]
    assert statuses(lake) == ["died", "done"]
    (state,) = lease_states(lake.storage())
    assert state.holder is None
    (died,) = [each for each in last_runs(lake.query()) if each.status == "died"]
    assert [about["run"] for about in state.lost] == [died.id], "for all the lake knows it may wake up"


def test_a_live_run_is_not_robbed_by_one_whose_clock_differs(lake: Any, start: Start) -> None:
    holder = start(ttl=60, skew=-10)
    lq = lake.query(clock=lambda: NOW + timedelta(minutes=10))
    holder.pause()  # for less than it has promised
    with pytest.raises(RunInProgressError):
        run("hist_returns", ref_date=MONTH, lq=lq)
    assert run("hist_returns", ref_date=MONTH, lq=lq, if_running="skip").status == "skipped"
    assert statuses(lake) == ["running", "skipped"]
    holder.resume()
    assert holder.go_on() == "done"
    assert statuses(lake) == ["done", "skipped"]
    assert returns(lake) == [0.1]


@SKEWS
def test_a_paused_run_loses_its_lock_and_does_not_undo_its_heirs_work(
    lake: Any, start: Start, skews: tuple[int, int]
) -> None:
    holder = start(skew=skews[0])
    holder.pause()
    # A price that the holder, which has computed with 110, knows nothing of.
    later = pd.DataFrame({"Date": pd.to_datetime(["2026-10-31"]), "Asset": ["fund"], "Last_Price": [120.0]})
    incremental_load(lake.query(), "hist_px_last", later)
    report = heir(lake, skews[1])
    assert returns(lake) == [0.2]
    assert statuses(lake) == ["died", "done"]

    holder.resume()
    assert holder.go_on() == "LockLostError"
    assert returns(lake) == [0.2], "the heir's"
    assert statuses(lake) == ["done", "failed"]
    (failed,) = [each for each in last_runs(lake.query()) if each.id != report.id]
    assert failed.error is not None
    assert failed.error["class"] == "LockLostError"
    assert lake.storage().list("system/locks/runs"), "the heir has left when it could not know that the holder ended"
    assert not run("hist_returns", ref_date=MONTH, lq=lake.query()).changed
    assert not lake.storage().list("system/locks/runs"), "the holder's record has said so since"


def test_a_paused_run_that_nobody_succeeded_goes_on(lake: Any, start: Start) -> None:
    holder = start()
    holder.pause()
    for _ in range(600):
        if statuses(lake) == ["died"]:
            break
        threading.Event().wait(0.1)
    assert statuses(lake) == ["died"], "nobody knows better"
    holder.resume()
    assert holder.go_on() == "done"
    assert statuses(lake) == ["done"]
    assert returns(lake) == [0.1]


def test_a_paused_run_is_kept_out_while_its_heir_is_at_work(lake: Any, start: Start) -> None:
    first = start()
    first.pause()
    for _ in range(600):
        if statuses(lake) == ["died"]:
            break
        threading.Event().wait(0.1)
    second = start(ttl=60)
    assert statuses(lake) == ["died", "running"]
    first.resume()
    assert first.go_on() == "LockLostError"
    assert not lake.query().table_exists("hist_returns")
    assert statuses(lake) == ["failed", "running"], "and it has left its heir's lock alone"
    assert second.go_on() == "done"
    assert returns(lake) == [0.1]
