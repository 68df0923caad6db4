"""One run of a pipeline and month at a time: refused, or skipped and recorded; the dead are succeeded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import pandas as pd
import pytest

from luxor_pipelines.errors import ConflictError, DataError, RunInProgressError
from luxor_pipelines.ingest import save_table
from luxor_pipelines.lake.lock import LakeLock
from luxor_pipelines.pipelines import hist_returns
from luxor_pipelines.runs import last_runs, run

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
        compute = hist_returns.get_returns

        def gated(*args: Any, **options: Any) -> Any:
            self.reached.set()
            assert self.open.wait(60)
            return compute(*args, **options)

        monkeypatch.setattr(hist_returns, "get_returns", gated)


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
    assert not [info.path for info in lq.storage.list(LOCKS)]


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
    held = LakeLock(lq.storage, f"{LOCKS}/holidays/any.json", ttl=3600.0, about={"run": "abc"})
    assert held.acquire() is None
    with held, pytest.raises(RunInProgressError, match=r"holidays is running already \(run abc\)"):
        run("holidays", ref_date=MONTH, lq=lq)
    assert run("holidays", ref_date=MONTH, lq=lq).status == "done"


def test_a_run_that_died_is_succeeded(rig: Any) -> None:
    lq = rig.query()
    fill(lq)
    # Killed without a word; its promise had run out when it was made.
    killed = LakeLock(lq.storage, f"{LOCKS}/hist_returns/{MONTH}.json", ttl=-5.0, about={"run": "abc"})
    assert killed.acquire() is None
    assert run("hist_returns", ref_date=MONTH, lq=lq, if_running="skip").status == "done"


def test_a_failed_run_gives_the_lock_up(disk: Any) -> None:
    lq = disk.query()
    save_table("assets", pd.DataFrame({"Key": ["a"], "Ticker_BBG": ["a"]}).iloc[:0], lq=lq)
    for _ in range(2):
        with pytest.raises((DataError, OSError)) as caught:
            run("hist_returns", ref_date=MONTH, lq=lq)
        assert not isinstance(caught.value, RunInProgressError)
    assert not lq.storage.list(LOCKS)


def test_a_run_that_lost_its_lock_says_so_and_the_month_is_right(rig: Any, gate: Gate) -> None:
    fill(rig.query())
    short = replace(rig, settings=replace(rig.settings, run_lock_ttl=0.3))
    first = Background(short, ref_date=MONTH)
    assert gate.reached.wait(60)
    # An heir who took it for dead: the file is now somebody else's.
    storage = rig.storage()
    storage.write(f"{LOCKS}/hist_returns/{MONTH}.json", b'{"owner": "heir", "ttl": -5.0, "about": {}}')
    (thread,) = [each for each in threading.enumerate() if each.name.startswith("renews ")]
    thread.join(30)
    second = Background(rig, ref_date=MONTH)
    gate.open.set()
    one, other = first.end(), second.end()
    assert (one.status, other.status) == ("done", "done")
    assert ["lock was lost" in warning for warning in one.warnings] == [True]
    assert other.warnings == ()
    stored = rig.query().get_table("hist_returns", where={"Period": "mtd", "Currency": "local"})
    assert stored["Return"].tolist() == [pytest.approx(0.1)]
