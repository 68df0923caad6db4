"""One run of a pipeline and month at a time: refused, or skipped and recorded; the dead are succeeded."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import pandas as pd
import pytest

from luxor_pipelines.errors import AccessError, ConflictError, DataError, LockLostError, RunInProgressError
from luxor_pipelines.ingest import save_table
from luxor_pipelines.lake.storage.lease import Lease
from luxor_pipelines.operations import records
from luxor_pipelines.operations.records import last_runs
from luxor_pipelines.operations.runs import run
from luxor_pipelines.pipelines import hist_returns

MONTH = "2026-10-31"
LOCKS = "system/locks/runs"


def fill(lq: Any) -> None:
    """A lake of one asset: 100 at the end of September, 110 at the end of October."""
    assets = pd.DataFrame({"Key": ["fund"], "Name": ["Fund"], "Type": ["equity"], "Ticker_BBG": ["fund"]})
    prices = pd.DataFrame(
        {"Date": pd.to_datetime(["2026-09-30", "2026-10-30"]), "Asset": "fund", "Last_Price": [100.0, 110.0]}
    )
    save_table("assets", assets, lq=lq)
    save_table("hist_px_last", prices, lq=lq)


class Gate:
    """Holds hist_returns up in the middle of its work, until told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        compute = hist_returns.compute_returns

        def gated(*args: Any, **options: Any) -> Any:
            self.reached.set()
            assert self.open.wait(60)
            return compute(*args, **options)

        monkeypatch.setattr(hist_returns, "compute_returns", gated)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


class Background(threading.Thread):
    """A run in a thread, whose report or error can be asked for."""

    def __init__(self, rig: Any, **options: Any) -> None:
        super().__init__()
        self.rig, self.options = rig, options
        self.outcome: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = run("hist_returns", lq=self.rig.query(), **self.options)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test asks for it
            self.outcome = error

    def end(self) -> Any:
        self.join(60)
        return self.outcome


def statuses(lq: Any) -> list[str]:
    return sorted(report.status for report in last_runs(lq, "hist_returns"))


def test_the_same_month_at_the_same_time_is_refused_or_skipped(rig: Any, gate: Gate) -> None:
    lq = rig.query()
    fill(lq)
    first = Background(rig, ref_date="2026-10-15")
    assert gate.reached.wait(60)

    with pytest.raises(RunInProgressError, match="hist_returns is running already for 2026-10-31") as caught:
        run("hist_returns", ref_date=MONTH, lq=lq)
    assert isinstance(caught.value, ConflictError), "exit code 4 of the command line"
    skipped = run("hist_returns", lq=lq, if_running="skip")  # no date given: by the clock, the same month

    gate.open.set()
    done = first.end()
    assert (done.status, done.ref_date) == ("done", date(2026, 10, 31))
    assert (skipped.status, skipped.ref_date, skipped.changed) == ("skipped", date(2026, 10, 31), False)
    assert done.id in skipped.warnings[0], "it says which run was at it"
    assert statuses(lq) == ["done", "skipped"], "the refused one has left no record"
    assert last_runs(lq, "hist_returns")[0] in (done, skipped), "and a record can be read back"

    again = run("hist_returns", ref_date=MONTH, lq=rig.query())
    assert (again.status, again.changed) == ("done", False)
    stored = rig.query().get_table("hist_returns", where={"Period": "mtd", "Currency": "local"})
    assert stored["Return"].tolist() == [pytest.approx(0.1)]  # 110 / 100 - 1
    assert not [info.path for info in lq.lake.storage.list(LOCKS)]


def test_another_month_and_another_pipeline_go_on_meanwhile(disk: Any, gate: Gate, monkeypatch: Any) -> None:
    fill(disk.query())
    first = Background(disk, ref_date=MONTH)
    assert gate.reached.wait(60)
    second = Background(disk, ref_date="2026-09-30")
    assert run("holidays", lq=disk.query()).status == "done"
    gate.open.set()
    assert (first.end().status, second.end().status) == ("done", "done")
    assert run("hist_returns", ref_date=MONTH, lq=disk.query()).changed is False


def test_a_pipeline_without_reference_dates_runs_once_at_a_time(disk: Any) -> None:
    lq = disk.query()
    held = Lease(lq.lake.storage, f"{LOCKS}/holidays/any.json", ttl=3600.0, about={"run": "abc"})
    assert held.acquire() is None
    with held, pytest.raises(RunInProgressError, match=r"holidays is running already \(run abc\)"):
        run("holidays", ref_date=MONTH, lq=lq)
    assert run("holidays", ref_date=MONTH, lq=lq).status == "done"


def test_a_run_that_died_is_succeeded(rig: Any) -> None:
    lq = rig.query()
    fill(lq)
    # Killed without a word; its promise had run out when it was made.
    killed = Lease(lq.lake.storage, f"{LOCKS}/hist_returns/{MONTH}.json", ttl=-5.0, about={"run": "abc"})
    assert killed.acquire() is None
    assert run("hist_returns", ref_date=MONTH, lq=lq, if_running="skip").status == "done"


def test_a_failed_run_gives_the_lock_up(disk: Any) -> None:
    lq = disk.query()
    save_table("assets", pd.DataFrame({"Key": ["a"], "Ticker_BBG": ["a"]}).iloc[:0], lq=lq)
    for _ in range(2):
        with pytest.raises((DataError, OSError)) as caught:
            run("hist_returns", ref_date=MONTH, lq=lq)
        assert not isinstance(caught.value, RunInProgressError)
    assert not lq.lake.storage.list(LOCKS)


def take_over(rig: Any) -> None:
    """Do as an heir does who took the present holder for dead, and wait until that one has noticed."""
    rig.storage().write(f"{LOCKS}/hist_returns/{MONTH}.json", b'{"owner": "heir", "ttl": -5.0, "about": {}}')
    (thread,) = [
        thread for thread in threading.enumerate() if thread.name == f"renews {LOCKS}/hist_returns/{MONTH}.json"
    ]
    thread.join(30)


def impatient(rig: Any) -> Any:
    return replace(rig, settings=replace(rig.settings, run_lock_ttl=0.3))


def test_a_run_that_lost_its_lock_writes_nothing_and_the_month_is_right(rig: Any, gate: Gate) -> None:
    fill(rig.query())
    first = Background(impatient(rig), ref_date=MONTH)
    assert gate.reached.wait(60)
    take_over(rig)
    gate.open.set()
    lost = first.end()
    assert isinstance(lost, LockLostError)
    assert isinstance(lost, ConflictError), "exit code 4 of the command line"
    assert not rig.query().table_exists("hist_returns")
    other = run("hist_returns", ref_date=MONTH, lq=rig.query())
    assert (other.status, other.warnings) == ("done", ())
    assert statuses(rig.query()) == ["done", "failed"]
    stored = rig.query().get_table("hist_returns", where={"Period": "mtd", "Currency": "local"})
    assert stored["Return"].tolist() == [pytest.approx(0.1)]


def test_a_run_that_lost_its_lease_after_its_load_has_failed(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(disk.query())
    load = hist_returns.incremental_load

    def then_robbed(*args: Any, **options: Any) -> Any:
        result = load(*args, **options)
        take_over(disk)
        return result

    monkeypatch.setattr(hist_returns, "incremental_load", then_robbed)
    with pytest.raises(LockLostError):
        run("hist_returns", ref_date=MONTH, lq=impatient(disk).query())
    (report,) = last_runs(disk.query())
    assert report.status == "failed"
    assert report.error is not None
    assert report.error["class"] == "LockLostError"


# --- the records of the dead --------------------------------------------------------------------


@pytest.fixture
def under_way(rig: Any, gate: Gate) -> Iterator[Background]:
    """A run in the middle of its work, whose record says that it is running."""
    fill(rig.query())
    thread = Background(rig, ref_date=MONTH)
    assert gate.reached.wait(60)
    yield thread
    gate.open.set()
    thread.end()


def only_run(rig: Any) -> Any:
    (report,) = last_runs(rig.query(), "hist_returns")
    return report


def test_a_run_is_running_until_it_ends(rig: Any, under_way: Background, gate: Gate) -> None:
    assert only_run(rig).status == "running"
    gate.open.set()
    assert under_way.end() == only_run(rig)


LOCK = f"{LOCKS}/hist_returns/{MONTH}.json"
OVERDUE = '{{"owner": "x", "ttl": -5.0, "about": {{"run": "{run}"}}}}'
OTHERS = '{{"owner": "x", "ttl": 3600.0, "about": {{"run": "another"}}}}'
UNREADABLE = "{{}}"


@pytest.mark.parametrize(
    "lock", [None, OVERDUE, OTHERS, UNREADABLE], ids=["gone", "overdue", "another's", "unreadable"]
)
def test_a_run_without_its_lock_has_died(rig: Any, under_way: Background, lock: str | None) -> None:
    before = only_run(rig)
    storage = rig.storage()
    if lock is None:
        storage.delete(LOCK)
    else:
        storage.write(LOCK, lock.format(run=before.id).encode())
    assert only_run(rig) == replace(before, status="died")
    (info,) = storage.list("system/runs")
    assert json.loads(storage.read(info.path).data)["status"] == "running", "looking rewrites nothing"


def test_a_run_that_ends_while_one_looks_has_not_died(
    rig: Any, under_way: Background, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(storage: Any, path: str) -> None:
        gate.open.set()
        under_way.end()
        assert storage.stat(path) is None

    monkeypatch.setattr(records, "holder_of", meanwhile)
    assert only_run(rig).status == "done"


def test_only_what_says_that_it_is_running_is_looked_at(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(disk.query())
    for month in (MONTH, "2026-09-30"):
        run("hist_returns", ref_date=month, lq=disk.query())
    monkeypatch.setattr(records, "holder_of", None)
    assert statuses(disk.query()) == ["done", "done"]


def test_who_may_only_read_is_told_what_the_record_says(
    disk: Any, gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(disk.query())
    Background(disk, ref_date=MONTH)
    assert gate.reached.wait(60)
    reader = disk.query()

    def refused(*args: Any, **options: Any) -> str:
        raise AccessError("may not write")

    monkeypatch.setattr(reader.lake.storage, "write", refused)
    (report,) = last_runs(reader)
    assert report.status == "running"
    assert "is alive could not be found out: may not write" in caplog.text


def test_a_record_that_names_no_lock_is_left_as_it_is(disk: Any) -> None:
    lq = disk.query()
    fill(lq)
    report = run("hist_returns", ref_date=MONTH, lq=lq)
    older = {name: value for name, value in report.as_dict().items() if name != "lock"} | {"status": "running"}
    lq.lake.storage.write(report.path, json.dumps(older).encode())
    assert only_run(disk).status == "running"
