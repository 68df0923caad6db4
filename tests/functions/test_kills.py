"""Timers whose process is killed: the host's retries, or its next start, bring every date to its end.

The host's part is replayed with its times divided by a hundred: those of function.json, and of the lease.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from luxor_pipelines.ingest import save_table
from luxor_pipelines.operations.records import RunReport, last_runs
from luxor_pipelines.operations.runs import run
from luxor_pipelines.settings import Settings

ROOT = Path(__file__).parents[2]
HOST = Path(__file__).parent / "host.py"
SCALE = 0.01
COMPUTE = "luxor_pipelines.pipelines.hist_returns.compute_returns"
MOMENTS = [
    "luxor_pipelines.operations.runs.write_record",
    "luxor_pipelines.operations.runs.fenced",
    COMPUTE,
    "luxor_pipelines.pipelines.hist_returns.incremental_load",
    "luxor_pipelines.lake.table.table.fenced_write",
]
"""Functions that a run calls on its way: its record, its lease, its work, its load, the write itself."""
KILLS = [signal.SIGTERM, *([signal.SIGKILL] if hasattr(signal, "SIGKILL") else [])]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Azure runs the app on Linux")


def retry_waits(function: str) -> Iterator[float]:
    """Seconds before each retry that the host makes of a failed function, by its function.json."""
    retry = json.loads((ROOT / "functions" / function / "function.json").read_text(encoding="utf-8"))["retry"]
    first, longest = (
        timedelta(**dict(zip(("hours", "minutes", "seconds"), map(int, retry[name].split(":")), strict=True)))
        for name in ("minimumInterval", "maximumInterval")
    )
    for number in range(retry["maxRetryCount"]):
        yield min(first * 2**number, longest).total_seconds() * SCALE


class Worker:
    """A process that runs functions of the app, as the host starts it for an invocation."""

    def __init__(self, settings: dict[str, str], *requests: dict[str, Any]) -> None:
        ttl = str(Settings().run_lock_ttl * SCALE)
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "SYSTEMROOT") if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, str(HOST), str(ROOT / "functions")],
            env={**kept, **settings, "LUXOR_RUN_LOCK_TTL": ttl},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(requests))
        self.process.stdin.close()
        self.process.stdin = None

    def kill_when_reached(self, number: signal.Signals, *, after: float = 0.0) -> bool:
        """Kill the process some time after it has told how far it is; False when it ended before."""
        assert self.process.stdout is not None
        assert "reached" in json.loads(self.process.stdout.readline())
        threading.Event().wait(after)
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        return self.process.returncode == -number

    def outcome(self) -> dict[str, Any]:
        """The outcome of the first request; empty when the process was killed."""
        out, log = self.process.communicate(timeout=120)
        assert self.process.returncode in (0, *(-number for number in KILLS)), log
        outcome: dict[str, Any] = json.loads(out.splitlines()[0]) if out else {}
        return outcome


def retry_until_it_succeeds(settings: dict[str, str], timer: dict[str, Any]) -> int:
    """Replay the host's retry chain; return how many retries it took."""
    for number, wait in enumerate(retry_waits(timer["function"]), start=1):
        threading.Event().wait(wait)
        if Worker(settings, timer).outcome().get("returned", "") is None:
            return number
    raise AssertionError("the host has given up")


def settings_of(rig: Any) -> dict[str, str]:
    if "lake" in rig.arguments:
        return {"LUXOR_LAKE_URL": rig.arguments["lake"]}
    names = {"AZURE_STORAGE_CONNECTION_STRING": "connection_string", "LUXOR_CONTAINER": "container"}
    return {variable: rig.arguments[name] for variable, name in names.items()}


def check_records(rig: Any) -> list[RunReport]:
    """The records, newest first; no two runs of one date were at it together."""
    reports = last_runs(rig.query(), limit=None)
    done = [report for report in reports if report.status == "done"]
    for one, other in combinations(done, 2):
        assert one.ended_at is not None
        assert other.ended_at is not None
        apart = one.ended_at <= other.started_at or other.ended_at <= one.started_at
        assert apart or (one.pipeline, one.ref_date) != (other.pipeline, other.ref_date)
    return reports


@pytest.mark.parametrize("number", KILLS)
def test_a_killed_timer_is_run_again_by_the_hosts_retries(disk_lake: Any, mtd: Any, number: signal.Signals) -> None:
    settings = settings_of(disk_lake)
    timer = {"function": "run_hist_returns", "past_due": False}
    assert Worker(settings, {**timer, "tell": COMPUTE, "pause": True}).kill_when_reached(number)
    # The first retry comes long before a killed run's lease has run out.
    assert next(retry_waits("run_hist_returns")) < Settings().run_lock_ttl * SCALE
    assert retry_until_it_succeeds(settings, timer) == 1
    (again, first) = check_records(disk_lake)
    assert again.status == "done"
    assert first.status == ("failed" if number == signal.SIGTERM else "died")
    assert again.trigger == "timer"
    assert mtd(disk_lake, again.ref_date) == [0.1]


def test_a_killed_timer_is_run_again_when_the_host_starts_anew(disk_lake: Any, mtd: Any) -> None:
    settings = settings_of(disk_lake)
    paused = Worker(settings, {"function": "run_hist_returns", "past_due": False, "tell": COMPUTE, "pause": True})
    assert paused.kill_when_reached(KILLS[-1])
    restarted = Worker(settings, {"function": "run_hist_returns", "past_due": True})
    assert restarted.outcome() == {"function": "run_hist_returns", "returned": None}
    assert [report.status for report in check_records(disk_lake)] == ["done", "died"]


def many_funds(rig: Any, months: int) -> list[date]:
    """A lake of 300 funds with prices for some years; returns the months that can be run."""
    lq, draw = rig.query(), np.random.default_rng(1)
    keys = [f"fund {number}" for number in range(300)]
    funds = {"Key": keys, "Name": keys, "Type": "equity", "Ticker_BBG": keys, "Currency": "brl"}
    days = pd.date_range("2019-12-01", periods=365 * 6)
    prices = {
        "Date": np.tile(days, len(keys)),
        "Asset": np.repeat(keys, len(days)),
        "Last_Price": 100 * np.exp(draw.normal(0, 0.01, len(keys) * len(days))),
    }
    save_table("assets", pd.DataFrame(funds), lq=lq)
    save_table("hist_px_last", pd.DataFrame(prices), lq=lq)
    return [day.date() for day in pd.date_range("2023-01-31", periods=months, freq="ME")]


@pytest.mark.parametrize("kind", ["disk", pytest.param("azurite", marks=pytest.mark.azurite)])
def test_runs_killed_at_random_end_as_one_that_was_not(kind: str, make_rig: Any, pytestconfig: Any) -> None:
    """Each run is killed at some moment of its life; the host's retries do what it left."""
    thorough = pytestconfig.getoption("--torture")
    chance = random.Random(pytestconfig.getoption("--seed"))
    rig = make_rig(kind)
    months = many_funds(rig, 25 if thorough else 2)
    settings = settings_of(rig)
    kills: Counter[str] = Counter()
    run("hist_returns", ref_date=months[0] - timedelta(days=31), lake=rig.query())
    for month in months:
        # The timer of some day after the month, which finds that month missing.
        timer = {
            "function": "run_hist_returns",
            "past_due": chance.choice([False, True]),
            "days_ago": (datetime.now(UTC).date() - month).days - 10,
        }
        number, moment = chance.choice(KILLS), chance.choice(MOMENTS)
        killed = Worker(settings, {**timer, "tell": moment}).kill_when_reached(number, after=chance.uniform(0, 0.1))
        left = [report.status for report in last_runs(rig.query(), limit=None) if report.ref_date == month]
        kills[f"{number.name} {left[0] if left else 'before the record' if killed else 'too late'}"] += 1
        retry_until_it_succeeds(settings, timer)
    print(f"{kind}: {len(months)} runs killed; found as {dict(kills)}")
    done = {report.ref_date for report in check_records(rig) if report.status == "done"}
    assert done >= set(months)
    stored = rig.query().get_table("hist_returns")
    whole = make_rig("memory")
    many_funds(whole, 1)
    for month in [months[0] - timedelta(days=31), *months]:
        run("hist_returns", ref_date=month, lake=whole.query())
    expected = whole.query().get_table("hist_returns")
    pd.testing.assert_frame_equal(stored, expected)
