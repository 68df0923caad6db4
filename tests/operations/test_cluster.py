"""Backfills on a real Dask scheduler with worker processes, on a blob server; one worker is killed in mid-run."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import textwrap
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from luxor_pipelines import backfill, incremental_load, run, save_table
from luxor_pipelines.catalog import HIST_FILE_PX_LAST
from luxor_pipelines.operations import cluster
from luxor_pipelines.operations.records import last_runs

pytest.importorskip("distributed")
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # every Azurite's
pytestmark = [
    pytest.mark.azurite,
    pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL"),
]

# The date of the 4th waits for a file, so that its worker can be killed in mid-run.
PLUGIN = '''
"""A number a day, for tests."""

import time

import pandas as pd

from luxor_pipelines import incremental_load
from luxor_pipelines.lake.types.schema import Column, TableSchema
from luxor_pipelines.pipelines import Declaration, PipelineResult

SCHEMA = TableSchema(
    name="numbers", version=1, key=("Date",), columns=(Column("Date", "date", False), Column("Number", "number"))
)
DECLARATION = Declaration(outputs=(SCHEMA,), dates="days")


def reference_date(ref_date, today):
    return ref_date or today


def run(ref_date=None, *, lq=None, now=None) -> PipelineResult:
    while ref_date.day == 4 and lq.lake.storage.stat("raw/go") is None:
        time.sleep(0.05)
    frame = pd.DataFrame({"Date": [pd.Timestamp(ref_date)], "Number": [float(ref_date.day)]})
    load = incremental_load(lq, "numbers", frame, schema=SCHEMA)
    return PipelineResult((load,), 1, ref_date=ref_date)
'''

# The month of June waits in the same way.
HELD_RETURNS = '''
"""hist_returns, for tests."""

import time

from luxor_pipelines.pipelines import hist_returns
from luxor_pipelines.pipelines.hist_returns import DECLARATION, reference_date


def run(ref_date=None, *, lq=None, now=None):
    while ref_date.month == 6 and lq.lake.storage.stat("raw/go") is None:
        time.sleep(0.05)
    return hist_returns.run(ref_date, lq=lq, now=now)
'''

CHILD = """
import json, os, signal, sys, time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
import distributed
from luxor_pipelines import backfill, open_lake
from luxor_pipelines.operations.records import last_runs

def main(name, first, last, held):
    lake, now = open_lake(), datetime(2026, 11, 23, 18, 30, tzinfo=UTC)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with distributed.Client(cluster) as client, ThreadPoolExecutor(1) as pool:
            fill = lambda: backfill(name, first, last, lake=lake, now=now, cluster=cluster.scheduler_address)
            done = pool.submit(fill)
            while not (under_way := [r for r in last_runs(lake) if r.status == "running" and str(r.ref_date) == held]):
                time.sleep(0.05)
            pids = client.run(os.getpid)
            os.kill(pids[under_way[0].worker], signal.SIGKILL)
            lake.storage.write("raw/go", b"")
            outcomes = done.result().outcomes
    print(json.dumps([[str(each.date), each.status] for each in outcomes]))

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


def on_a_cluster(rig: Any, folder: Path, module: str, source: str, *arguments: str) -> list[list[str]]:
    """The outcomes of a backfill of a plugin's pipeline, one of whose workers is killed; each run's record is true."""
    site, name = folder / "site", arguments[0]
    info = site / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[luxor_pipelines.pipelines]\n{name} = {module}\n", encoding="utf-8")
    script = folder / "fill.py"
    script.write_text(CHILD, encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)]),
        "AZURE_STORAGE_CONNECTION_STRING": rig.arguments["connection_string"],
        "LUXOR_CONTAINER": rig.arguments["container"],
        "LUXOR_RUN_LOCK_TTL": "2",
    }
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
    by_date: dict[date | None, list[str]] = {}
    for report in last_runs(rig.query(), limit=None):
        assert report.worker is not None
        assert report.worker.startswith("tcp://")
        by_date.setdefault(report.ref_date, []).append(report.status)
    killed = by_date.pop(date.fromisoformat(arguments[-1]))
    assert sorted(killed) == ["died", "done"], "the record of the one that was killed says so"
    assert {status for statuses in by_date.values() for status in statuses} == {"done"}
    return outcomes


def test_a_worker_that_is_killed_in_mid_run_is_replaced(make_rig: Any, tmp_path: Path) -> None:
    rig = make_rig("azurite")
    arguments = ("numbers", "2026-11-02", "2026-11-06", "2026-11-04")
    outcomes = on_a_cluster(rig, tmp_path, "acme_numbers", PLUGIN, *arguments)
    assert outcomes == [[f"2026-11-0{day}", "done"] for day in (2, 3, 4, 5, 6)]
    assert rig.query().get_table("numbers").sort_values("Date")["Number"].tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]


def test_months_are_the_same_one_by_one_in_one_pass_in_processes_and_on_a_cluster(
    make_rig: Any, tmp_path: Path
) -> None:
    """The same rows, and of each month a record of the same loads from the same tables."""
    now = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)
    months = [date(2026, month, 31 if month in (3, 5, 7, 8) else 30) for month in range(3, 9)]
    assets = {"Key": [f"fund{n}" for n in range(4)], "Ticker_BBG": [f"fund{n}" for n in range(4)], "Location": "us"}
    days = pd.bdate_range("2025-12-31", "2026-11-20")
    price = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, (len(days), 4)), axis=0))
    prices = {"Date": np.repeat(days, 4), "Asset": assets["Key"] * len(days), "Last_Price": price.ravel()}

    def filled(kind: str) -> Any:
        rig = make_rig(kind)
        save_table("assets", pd.DataFrame(assets).assign(Name="a fund"), lq=rig.query())
        incremental_load(rig.query(), HIST_FILE_PX_LAST.name, pd.DataFrame(prices), schema=HIST_FILE_PX_LAST)
        return rig

    def outcome(rig: Any) -> tuple[pd.DataFrame, list[Any]]:
        lq = rig.query()
        first: dict[Any, Any] = {}
        for report in sorted(last_runs(lq, limit=None), key=lambda report: report.started_at):
            if report.status == "done" and first.setdefault(report.ref_date, report) is not report:
                assert not report.changed, "a worker's dates are run once more where it died after they were done"
        told = sorted((day, done.rows, str(done.loads[0]), set(done.inputs)) for day, done in first.items())
        assert [day for day, *_ in told] == months
        by_key = ["Date", "Key", "Currency", "Period"]
        return lq.get_table("hist_returns").sort_values(by_key, ignore_index=True), told

    one_by_one, one_pass, processes, workers = (filled(kind) for kind in ("azurite", "azurite", "disk", "azurite"))
    for month in months:
        run("hist_returns", month, lake=one_by_one.query(), now=now)
    rows, told = outcome(one_by_one)
    assert not backfill("hist_returns", "2026-03", "2026-08", lake=one_pass.query(), now=now).failed
    assert not backfill("hist_returns", "2026-03", "2026-08", lake=processes.query(), now=now, jobs=2).failed
    arguments = ("held_returns", "2026-03", "2026-08", "2026-06-30")
    outcomes = on_a_cluster(workers, tmp_path, "acme_returns", HELD_RETURNS, *arguments)
    assert outcomes == [[str(month), "done"] for month in months]
    for rig in (one_pass, processes, workers):
        its_rows, its_told = outcome(rig)
        pd.testing.assert_frame_equal(its_rows, rows, check_exact=True)
        assert its_told == told


KILLED = """
import os, signal
from luxor_pipelines.pipelines import Declaration, PipelineResult

DECLARATION = Declaration(outputs=(), dates="days")


def run(ref_date=None, *, lq=None, now=None):
    if ref_date.day == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return PipelineResult((), 0)


def reference_date(ref_date, today):
    return ref_date
"""


@pytest.mark.skipif(os.name == "nt", reason="processes are killed another way there")
def test_dates_of_a_process_that_is_killed_are_told_as_failed(
    disk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site" / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site" / "acme_killed.py").write_text(KILLED, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[luxor_pipelines.pipelines]\nkilled = acme_killed\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "site")
    now = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)
    done = backfill("killed", "2026-11-03", "2026-11-04", lake=disk.query(), now=now, jobs=2)
    last = {outcome.date: outcome for outcome in done.outcomes}[date(2026, 11, 4)]
    assert (done.failed, last.status) == (True, "failed")
    assert "ended from outside" in last.message


def test_no_secret_is_sent_to_a_cluster(make_rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    class Client:
        def __enter__(self) -> Client:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def map(self, work: Any, *arguments: Any, **options: Any) -> list[Any]:
            sent.append((work, *arguments, options))
            raise LookupError("that will do")

    monkeypatch.setattr(cluster, "_client", lambda *_: Client())
    rig = make_rig("azurite")
    with pytest.raises(LookupError):
        list(cluster.run_dates("hist_returns", [date(2026, 10, 31)], rig.query().lake, None, {}, cluster="tcp://x:1"))
    assert KEY.encode() not in pickle.dumps(sent[0])
    assert rig.arguments["container"].encode() in pickle.dumps(sent[0])
