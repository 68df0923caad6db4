"""Backfills on a real Dask scheduler with worker processes, on a blob server; one worker is killed in mid-run."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import textwrap
from datetime import date
from pathlib import Path
from typing import Any

import pytest

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

CHILD = """
import json, os, signal, threading, time
from concurrent.futures import ThreadPoolExecutor
import distributed
from luxor_pipelines import backfill, open_lake
from luxor_pipelines.operations.records import last_runs

def main():
    lake = open_lake()
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with distributed.Client(cluster) as client, ThreadPoolExecutor(1) as pool:
            fill = lambda: backfill("numbers", "2026-11-02", "2026-11-06", lake=lake, cluster=cluster.scheduler_address)
            done = pool.submit(fill)
            while not (under_way := [r for r in last_runs(lake) if r.status == "running" and r.ref_date.day == 4]):
                time.sleep(0.05)
            pids = client.run(os.getpid)
            os.kill(pids[under_way[0].worker], signal.SIGKILL)
            lake.storage.write("raw/go", b"")
            outcomes = done.result().outcomes
    print(json.dumps([[str(each.date), each.status] for each in outcomes]))

if __name__ == "__main__":
    main()
"""


def test_a_worker_that_is_killed_in_mid_run_is_replaced(make_rig: Any, tmp_path: Path) -> None:
    rig = make_rig("azurite")
    site = tmp_path / "site"
    info = site / "acme_numbers-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_numbers.py").write_text(textwrap.dedent(PLUGIN), encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-numbers\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[luxor_pipelines.pipelines]\nnumbers = acme_numbers\n", encoding="utf-8")
    script = tmp_path / "fill.py"
    script.write_text(CHILD, encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)]),
        "AZURE_STORAGE_CONNECTION_STRING": rig.arguments["connection_string"],
        "LUXOR_CONTAINER": rig.arguments["container"],
        "LUXOR_RUN_LOCK_TTL": "2",
    }
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [[f"2026-11-0{day}", "done"] for day in (2, 3, 4, 5, 6)]

    lq = rig.query()
    assert lq.get_table("numbers").sort_values("Date")["Number"].tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
    reports = last_runs(lq, limit=None)
    by_date: dict[date | None, list[str]] = {}
    for report in reports:
        assert report.worker is not None
        assert report.worker.startswith("tcp://")
        by_date.setdefault(report.ref_date, []).append(report.status)
    killed = by_date.pop(date(2026, 11, 4))
    assert sorted(killed) == ["died", "done"], "the record of the one that was killed says so"
    assert {status for statuses in by_date.values() for status in statuses} == {"done"}


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
