"""The packaged app in Microsoft's own Python worker, on Azurite; `nox -s worker` prepares what this needs.

``WORKER_PYTHON`` is an interpreter that can import the worker, and ``WORKER_APP`` an app for its version of Python;
without them these tests are skipped.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pandas as pd
import pytest

from luxor_pipelines.ingest import save_table
from luxor_pipelines.lake.storage.lease import Lease
from luxor_pipelines.operations.records import last_runs
from luxor_pipelines.pipelines.hist_returns import reference_date

DRIVER = Path(__file__).parent / "real_worker.py"
PYTHON = os.environ.get("WORKER_PYTHON")
APP = os.environ.get("WORKER_APP")
LAST_MONTH = reference_date(None, datetime.now(UTC).date())
AS_LIBRARY = not any(Path(APP or "").glob("health/__pycache__/*.cpython-31[0-2].pyc"))
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

pytestmark = [
    pytest.mark.azurite,
    pytest.mark.skipif(PYTHON is None or APP is None, reason="needs the worker: nox -s worker"),
]
Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def in_worker(tmp_path: Path) -> Run:
    """Runs calls in the worker, with nothing in its environment but settings; the outcomes."""
    assert PYTHON is not None
    assert APP is not None

    def run(settings: dict[str, str], *calls: dict[str, Any]) -> list[dict[str, Any]]:
        kept = {name: os.environ[name] for name in ("PATH", "WORKER_SOURCE") if name in os.environ}
        kept |= {"PYTHONPATH": kept.pop("WORKER_SOURCE")} if "WORKER_SOURCE" in kept else {}
        worker = subprocess.run(
            [PYTHON, str(DRIVER), APP],
            input=json.dumps(calls),
            env={**kept, **settings},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert worker.returncode == 0, worker.stderr
        return [{**json.loads(line), "stderr": worker.stderr} for line in worker.stdout.splitlines()]

    return run


def post(name: str = "hist_returns", body: str = "", **options: Any) -> dict[str, Any]:
    return {"function": "run_pipeline", "params": {"name": name}, "body": body, **options}


def test_every_function_runs_by_its_trigger(in_worker: Run, azurite_lake: Any, mtd: Any) -> None:
    rig, settings = azurite_lake
    folders = sorted(path.parent.name for path in Path(APP or "").glob("*/function.json"))
    timers = [{"function": name, "past_due": False} for name in ("run_fx_rates", "run_market_prices", "run_holidays")]
    *timed, health, done, queued, listed = in_worker(
        settings,
        *timers,
        {"function": "run_hist_returns", "past_due": True},
        {"function": "health", "method": "GET"},
        post(query={"ref_date": "2024-05-31", "code": "a-key"}),
        post(body='{"ref_date": "2024-04-30"}', headers={"prefer": "respond-async"}),
        {"function": "list_pipelines", "method": "GET"},
    )
    assert [outcome["returned"] for outcome in timed] == [None] * 4
    assert (health["status"], done["status"], queued["status"], listed["status"]) == (200, 200, 202, 200)
    assert [report.status for report in last_runs(rig.query())] == ["queued", *["done"] * 5]
    assert mtd(rig, LAST_MONTH) == [0.1]

    _, _, _, pipeline, run = queued["headers"]["Location"].split("/")
    get = {"function": "get_run", "method": "GET", "params": {"pipeline": pipeline, "run": run}}
    path = queued["message"]
    poison = {"function": "run_pipeline_poison", "message": path}
    worked, got, poisoned = in_worker(settings, {"function": "run_pipeline_queue", "message": path}, get, poison)
    assert worked["returned"] is None
    assert (got["status"], got["body"]["status"], got["body"]["trigger"]) == (200, "done", "queue")
    assert poisoned["returned"] is None
    called = {outcome["function"] for outcome in (*timed, health, done, listed, worked, got, poisoned)}
    assert sorted(called) == folders

    # The host keeps a log line only with its invocation; each line of a run names the run.
    record = done["body"]
    assert (record["trigger"], record["trace_id"]) == ("http", TRACE)
    name = f"[run={record['id']} pipeline=hist_returns ref_date=2024-05-31]"
    assert [line for line in done["log"] if "reference date" in line and line.endswith(name)]
    assert [line for line in done["log"] if line.startswith("hist_returns done") and line.endswith(name)]


def test_statuses(in_worker: Run, azurite_lake: Any) -> None:
    rig, settings = azurite_lake
    may = '{"ref_date": "2024-05-31"}'
    lq = rig.query()
    prices = lq.get_table("hist_px_last")
    prices.loc[prices["Date"] == prices["Date"].max(), "Last_Price"] = 110_000.0  # 110.00
    save_table("hist_px_last", prices, lq=lq, mode="replace")
    with Lease(rig.storage(), "system/locks/runs/hist_returns/2024-05-31.json", ttl=3600.0) as lease:
        assert lease.acquire() is None
        outcomes = in_worker(
            settings,
            post("hist_returns", '{"ref_date": "2024-04-30"}'),
            post("hist_returns", '{"ref_date": "yesterday"}'),
            post("hist_returns", '{"ref_date": "2199-01-31"}'),
            post("hist_returns", query={"date": "2024-05-31"}),
            post("nothing"),
            post(method="GET"),
            {"function": "get_run", "method": "GET", "params": {"pipeline": "x", "run": "y"}},
            post("hist_returns", may),
            post("hist_returns"),
        )
    assert [outcome["status"] for outcome in outcomes] == [200, 400, 400, 400, 404, 405, 404, 409, 422]
    rig.storage().delete("enriched/parquet/assets.parquet")
    failed, timer, down = in_worker(
        settings,
        post("hist_returns", may),
        {"function": "run_hist_returns", "past_due": False},
        {"function": "health", "method": "GET"},
    )
    assert failed["status"] == 500
    assert timer["raised"].startswith("TableNotFoundError")
    assert down["status"] == 200, "the lake itself is there"


def test_no_secret_comes_out_of_the_worker(in_worker: Run, secret_lake: Any, azurite: Any, nonsense: str) -> None:
    """With the account's key, with a SAS, and when what answers is no lake."""
    rig, settings, hidden = secret_lake
    rig.storage().delete("enriched/parquet/assets.parquet")
    calls = [
        post(body='{"ref_date": "2024-05-31"}'),
        {"function": "run_hist_returns", "past_due": False},
        {"function": "health", "method": "GET"},
        {"function": "list_pipelines", "method": "GET"},
    ]
    outcomes = in_worker(settings, *calls)
    assert [outcome.get("status") for outcome in outcomes] == [500, None, 200, 200]
    elsewhere = settings["AZURE_STORAGE_CONNECTION_STRING"].replace(azurite.url, nonsense)
    broken = in_worker({**settings, "AZURE_STORAGE_CONNECTION_STRING": elsewhere, "LUXOR_RETRIES": "0"}, *calls[:3])
    assert [outcome.get("status") for outcome in broken] == [500, None, 503]
    records = [rig.storage().read(info.path).data.decode() for info in rig.storage().list("system")]
    for text in (json.dumps(outcomes), json.dumps(broken), *records):
        assert not [part for part in hidden if part in text]
        assert "SharedKey " not in text
        assert not re.search(r"sig=(?!\*\*\*)", text)


@pytest.mark.skipif(AS_LIBRARY, reason="the worker is the driver of these tests, not a process of its own")
def test_sigterm_ends_a_run_and_releases_its_lease(in_worker: Run, disk: Any) -> None:
    """The host does so on a deployment; the run is on a thread, the handler in the main thread."""
    days = pd.date_range("2000-01-01", periods=8000).strftime("%Y-%m-%d")
    rows = [f"{day},asset {number},{number + 1}" for number in range(50) for day in days]
    disk.storage().write("raw/prices/large.csv", "\n".join(["Date,Asset,Last_Price", *rows]).encode())
    folder = Path(url2pathname(urlsplit(disk.arguments["lake"]).path))
    records, leases = (folder / "system" / kind / "market_prices" for kind in ("runs", "locks/runs"))
    call = {"function": "run_market_prices", "past_due": False, "signal": signal.SIGTERM, "reached": str(records)}
    (outcome,) = in_worker({"LUXOR_LAKE_URL": disk.arguments["lake"]}, call)
    assert outcome["ended"] == -signal.SIGTERM
    (report,) = last_runs(disk.query())
    assert report.status == "failed"
    assert report.error is not None
    assert "told to end (SIGTERM)" in report.error["message"]
    assert not any(leases.glob("*.json"))
