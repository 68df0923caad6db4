"""SIGTERM: runs write nothing more, say that they failed, release their leases; the handler of before comes last."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from luxor_pipelines.errors import LockLostError
from luxor_pipelines.ingest import save_table
from luxor_pipelines.lake.storage.lease import Lease
from luxor_pipelines.operations import stopping
from luxor_pipelines.operations.records import last_runs
from luxor_pipelines.operations.runs import run
from luxor_pipelines.operations.stopping import handle_sigterm
from luxor_pipelines.pipelines import hist_returns

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ends a process at once there")

MONTH = "2026-10-31"

# Waits in the middle of a run, on the main thread or on another one.
CHILD = """
import signal, sys, threading
from luxor_pipelines import LuxorQuery
from luxor_pipelines.operations.runs import run
from luxor_pipelines.operations.stopping import handle_sigterm
from luxor_pipelines.pipelines import hist_returns

where, before = sys.argv[1:]
if before == "handler":
    signal.signal(signal.SIGTERM, lambda *_: print("the handler of before", flush=True))

def endless(*args, **options):
    print("ready", flush=True)
    while not threading.Event().wait(0.05):
        pass

hist_returns.compute_returns = endless
work = lambda: run("hist_returns", ref_date="2026-10-31", lq=LuxorQuery())
if where == "main":
    work()
else:
    handle_sigterm()
    threading.Thread(target=work, daemon=True).start()
    while not threading.Event().wait(0.05):
        pass
"""


@pytest.fixture
def lake(disk: Any) -> Any:
    lq = disk.query()
    save_table("assets", pd.DataFrame({"Key": ["fund"], "Name": ["Fund"], "Ticker_BBG": ["fund"]}), lq=lq)
    prices = {"Date": pd.to_datetime(["2026-09-30", "2026-10-30"]), "Asset": "fund", "Last_Price": [100.0, 110.0]}
    save_table("hist_px_last", pd.DataFrame(prices), lq=lq)
    return disk


def only_record(lake: Any) -> Any:
    (report,) = last_runs(lake.query())
    return report


def leases(lake: Any) -> list[Any]:
    return list(lake.storage().list("system/locks/runs"))


@pytest.mark.parametrize(
    ("where", "before", "code"),
    [("main", "none", 143), ("main", "handler", 143), ("thread", "none", -15), ("thread", "handler", None)],
)
def test_a_process_that_is_told_to_end_leaves_no_lease_behind(
    lake: Any, where: str, before: str, code: int | None
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, where, before],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LUXOR_LAKE_URL": lake.arguments["lake"]},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    if before == "handler":
        assert process.stdout.readline() == "the handler of before\n"
    if code is None:  # that handler ended nothing
        assert not leases(lake)
        process.kill()
    _, err = process.communicate(timeout=60)
    assert code is None or process.returncode == code, err
    report = only_record(lake)
    assert report.status == "failed"
    assert report.error == {
        "class": "Terminated",
        "message": "The process was told to end (SIGTERM).",
        "hint": "Run it again.",
    }
    assert not leases(lake)


def test_the_command_line_says_so(tmp_path: Path, endless: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "luxor_pipelines", "run", "endless", "--lake", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(endless), *sys.path])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.splitlines()[-1] == "Error: The process was told to end (SIGTERM)."
    assert "Traceback" not in err


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    info = site / "acme_endless-1.0.dist-info"
    info.mkdir(parents=True)
    code = "import threading\n\ndef run(ref_date=None, *, lq=None, now=None):\n    print('ready', flush=True)\n"
    (site / "acme_endless.py").write_text(code + "    while not threading.Event().wait(0.05):\n        pass\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-endless\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[luxor_pipelines.pipelines]\nendless = acme_endless\n")
    return site


class Worker(threading.Thread):
    """A run on a thread that is not the main one, as in the Functions' worker; held up where it is told."""

    def __init__(self, lake: Any, monkeypatch: pytest.MonkeyPatch, in_a_write: bool) -> None:
        super().__init__()
        self.reached, self.open = threading.Event(), threading.Event()
        self.outcome: Any = None
        self.lq = lake.query()
        storage = self.lq.lake.storage
        compute, write = hist_returns.compute_returns, storage.write

        def hold() -> None:
            self.reached.set()
            assert self.open.wait(60)

        def computing(*args: Any, **options: Any) -> Any:
            hold()
            return compute(*args, **options)

        def writing(path: str, *args: Any, **options: Any) -> Any:
            if path.endswith("data.parquet"):
                hold()
            return write(path, *args, **options)

        if in_a_write:
            monkeypatch.setattr(storage, "write", writing)
        else:
            monkeypatch.setattr(hist_returns, "compute_returns", computing)
        self.start()
        assert self.reached.wait(60)

    def run(self) -> None:
        try:
            self.outcome = run("hist_returns", ref_date=MONTH, lq=self.lq)
        except Exception as error:  # noqa: BLE001 - the test asks for it
            self.outcome = error

    def end(self) -> Any:
        self.open.set()
        self.join(60)
        return self.outcome


@pytest.fixture
def signals() -> Iterator[list[int]]:
    """Has the handler installed, and keeps what the one before it was given."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    assert handle_sigterm()
    yield received
    if stopping._before is not None:
        stopping._restore()
    signal.signal(signal.SIGTERM, before)


def test_a_run_that_computes_is_ended_from_outside(
    lake: Any, monkeypatch: pytest.MonkeyPatch, signals: list[int]
) -> None:
    worker = Worker(lake, monkeypatch, in_a_write=False)
    signal.raise_signal(signal.SIGTERM)
    assert signals == [signal.SIGTERM]
    assert only_record(lake).status == "failed"
    assert not leases(lake), "the next run need not wait"
    assert isinstance(worker.end(), LockLostError), "and writes nothing when it gets that far"
    assert not lake.query().table_exists("hist_returns")
    assert only_record(lake).error["class"] == "Terminated"


def test_a_write_under_way_is_waited_for(lake: Any, monkeypatch: pytest.MonkeyPatch, signals: list[int]) -> None:
    worker = Worker(lake, monkeypatch, in_a_write=True)
    close = Lease.close

    def closing(lease: Lease, reason: str, *, timeout: float) -> bool:
        assert not close(lease, reason, timeout=0.0), "the write is under way"
        worker.open.set()
        return close(lease, reason, timeout=timeout)

    monkeypatch.setattr(Lease, "close", closing)
    signal.raise_signal(signal.SIGTERM)
    assert only_record(lake).status == "failed"
    assert not leases(lake)
    assert isinstance(worker.end(), LockLostError)
    assert lake.query().table_exists("hist_returns"), "that write was whole"


def test_a_write_that_does_not_end_in_time_keeps_the_lease(
    lake: Any, monkeypatch: pytest.MonkeyPatch, signals: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stopping, "GRACE_S", 0.0)
    worker = Worker(lake, monkeypatch, in_a_write=True)
    signal.raise_signal(signal.SIGTERM)
    assert signals == [signal.SIGTERM]
    assert only_record(lake).status == "running"
    assert leases(lake)
    assert "its lease is left to run out" in caplog.text
    worker.end()


def test_only_the_main_thread_can_have_it_handled(signals: list[int]) -> None:
    assert not handle_sigterm(), "once is enough"
    stopping._restore()
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(handle_sigterm()))
    thread.start()
    thread.join()
    assert results == [False]


def test_a_process_that_ignores_the_signal_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert not handle_sigterm()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_run_on_the_main_thread_puts_the_handler_of_before_back(lake: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert run("hist_returns", ref_date=MONTH, lq=lake.query()).status == "done"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_that_is_stopped_while_its_first_record_is_written_is_a_failed_one(
    lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lq = lake.query()
    write, stops = lq.lake.storage.write, []

    def stop_meanwhile(path: str, *args: Any, **options: Any) -> str:
        version: str = write(path, *args, **options)
        if path.startswith("system/runs/") and not stops:
            (under_way,) = stopping._runs
            stops.append(threading.Thread(target=under_way.stop, args=(60.0,)))
            stops[0].start()
            stops[0].join(0.2)  # it waits for the record's version
        return version

    monkeypatch.setattr(lq.lake.storage, "write", stop_meanwhile)
    with pytest.raises(LockLostError, match="told to end"):
        run("hist_returns", ref_date=MONTH, lq=lq)
    stops[0].join(60)
    report = only_record(lake)
    assert report.status == "failed"
    assert "told to end (SIGTERM)" in report.error["message"]
    assert not leases(lake)
