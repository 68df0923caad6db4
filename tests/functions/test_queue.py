"""Runs that are queued over HTTP: the answer, the queue, and what the host does when a run fails or dies.

The host's part is played by `QueueHost`, as host.json has it, on a real storage queue; its waits are skipped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import azure.functions as func
import pytest
from azure.storage.queue import QueueServiceClient

from luxor_pipelines.errors import AccessError, NotFoundError, UsageError
from luxor_pipelines.lake.storage.lease import Lease
from luxor_pipelines.operations.records import last_runs, read_run
from luxor_pipelines.operations.runs import fail_run, queue_run, run, run_queued
from luxor_pipelines.pipelines import hist_returns

ROOT = Path(__file__).parents[2]
MAY = '{"ref_date": "2024-05-31", "async": true}'
LEASE = "system/locks/runs/hist_returns/2024-05-31.json"


def request(body: str = MAY, name: str = "hist_returns", **options: Any) -> func.HttpRequest:
    return func.HttpRequest("POST", "/api", body=body.encode(), route_params={"name": name}, **options)


def content(response: func.HttpResponse) -> Any:
    return json.loads(response.get_body())


def get_run(load: Any, location: str) -> func.HttpResponse:
    _, _, _, pipeline, run = location.split("/")
    response: func.HttpResponse = load("get_run")(
        func.HttpRequest("GET", location, body=b"", route_params={"pipeline": pipeline, "run": run})
    )
    return response


# --- the answer ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "options"),
    [
        (MAY, {}),
        ('{"ref_date": "2024-05-31"}', {"headers": {"Prefer": "respond-async"}}),
        ("", {"headers": {"prefer": "return=minimal, Respond-Async"}, "params": {"ref_date": "2024-05-02"}}),
        ("", {"params": {"ref_date": "2024-05-02", "async": "true"}}),
    ],
)
def test_202_with_the_place_of_the_run(disk_lake: Any, load: Any, body: str, options: Any) -> None:
    main = load("run_pipeline")
    response = main(request(body, **options))
    record = content(response)
    assert response.status_code == 202
    assert (record["status"], record["ref_date"], record["trigger"]) == ("queued", "2024-05-31", "http")
    assert main.outputs["message"].get() == record["path"]
    assert json.loads(disk_lake.storage().read(record["path"]).data) == record, "which is written first"
    location = response.headers["Location"]
    assert location == f"/api/{record['path'].removeprefix('system/').removesuffix('.json')}"
    assert content(get_run(load, location)) == record
    assert not disk_lake.query().table_exists("hist_returns")


def test_a_put_that_fails_makes_the_run_a_failed_one(disk_lake: Any, load: Any) -> None:
    class Broken:
        def set(self, value: str) -> None:
            raise ValueError("the queue does not take it")

    main = load("run_pipeline")
    main.keywords["message"] = Broken()
    assert main(request()).status_code == 500
    (report,) = last_runs(disk_lake.query())
    assert report.status == "failed"
    assert report.error == {"class": "ValueError", "message": "the queue does not take it", "hint": ""}


def test_what_is_refused_at_once_is_refused_when_queued(disk_lake: Any, load: Any) -> None:
    main = load("run_pipeline")
    for body, status in (('{"ref_date": "2199-01-31", "async": true}', 400), ('{"async": 1}', 400)):
        assert main(request(body)).status_code == status
    assert main(request(name="nothing")).status_code == 404
    assert not last_runs(disk_lake.query())
    with pytest.raises(UsageError, match="looks like, a secret"):
        queue_run("hist_returns", lake=disk_lake.query(), usdbrl_ticker="AccountKey=c2VjcmV0LXNlY3JldA==")


@pytest.mark.parametrize("place", ["hist_returns/20240531T000000Z-0123456789ab", "..%2f/x", "hist_returns/..", "/"])
def test_404_for_a_run_that_is_not_there(place: str, disk_lake: Any, load: Any) -> None:
    pipeline, _, run = place.partition("/")
    response = load("get_run")(
        func.HttpRequest("GET", "/api", body=b"", route_params={"pipeline": pipeline, "run": run})
    )
    assert (response.status_code, content(response)["error"]["class"]) == (404, "NotFoundError")


def test_a_run_that_stays_queued_for_an_hour_is_lost(disk_lake: Any) -> None:
    lq = disk_lake.query()
    report = queue_run("hist_returns", lake=lq)
    ident = Path(report.path).stem
    assert read_run(lq, "hist_returns", ident).status == "queued"
    lq.lake._clock.now += timedelta(minutes=61)
    assert read_run(lq, "hist_returns", ident).status == "died"
    assert [run.status for run in last_runs(lq)] == ["died"]
    assert run_queued(report.path, lake=lq).status == "done", "should its message come after all"


# --- the queue ----------------------------------------------------------------------------------


class QueueHost:
    """Hands the messages of a storage queue to the app, one at a time, as the Functions host does."""

    def __init__(self, connection_string: str, load: Any) -> None:
        config = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))["extensions"]["queues"]
        self.most = config["maxDequeueCount"]
        self._load = load
        self._service = QueueServiceClient.from_connection_string(connection_string)
        self._queues = {}
        for folder in ("run_pipeline_queue", "run_pipeline_poison"):
            function = json.loads((ROOT / "functions" / folder / "function.json").read_text(encoding="utf-8"))
            name = function["bindings"][0]["queueName"]
            self._queues[folder] = self._service.get_queue_client(name)
            self._queues[folder].create_queue()

    def put(self, text: str, folder: str = "run_pipeline_queue") -> None:
        self._queues[folder].send_message(text)

    def step(self, folder: str = "run_pipeline_queue") -> str:
        """Deliver the next message; returns what came of it."""
        queue = self._queues[folder]
        message = queue.receive_message(visibility_timeout=600)
        if message is None:
            return "empty"
        main = self._load(folder)
        try:
            main(func.QueueMessage(id=message.id, body=message.content.encode()))
        except Exception as error:  # noqa: BLE001 - the host takes any
            if message.dequeue_count >= self.most:
                self.put(message.content, "run_pipeline_poison")
                queue.delete_message(message)
                return f"poison: {type(error).__name__}"
            queue.update_message(message, visibility_timeout=0)
            return f"again: {type(error).__name__}"
        if main.outputs and (text := main.outputs["again"].get()) is not None:
            self.put(text)
        queue.delete_message(message)
        return "ended"

    def close(self) -> None:
        for queue in self._queues.values():
            queue.delete_queue()
            queue.close()
        self._service.close()


@pytest.fixture
def host_of_queues(azurite_queues: Any, load: Any) -> Iterator[QueueHost]:
    host = QueueHost(azurite_queues.connection_string, load)
    yield host
    host.close()


@pytest.fixture
def queued(disk_lake: Any, load: Any, host_of_queues: QueueHost) -> dict[str, Any]:
    """The record of a run that lies in the queue."""
    main = load("run_pipeline")
    record: dict[str, Any] = content(main(request()))
    host_of_queues.put(main.outputs["message"].get())
    return record


@pytest.mark.azurite
def test_a_queued_run_is_done_once(queued: Any, host_of_queues: QueueHost, disk_lake: Any, load: Any, mtd: Any) -> None:
    host_of_queues.put(queued["path"])  # a message that is delivered twice
    assert host_of_queues.step() == "ended"
    assert mtd(disk_lake, "2024-05-31") == [0.1]
    location = f"/api/{queued['path'].removeprefix('system/').removesuffix('.json')}"
    record = content(get_run(load, location))
    assert (record["id"], record["status"], record["trigger"]) == (queued["id"], "done", "queue")
    assert record["queued_at"] == queued["started_at"]
    assert [host_of_queues.step(), host_of_queues.step()] == ["ended", "empty"]
    assert content(get_run(load, location)) == record, "what is done is not done again"
    assert len(last_runs(disk_lake.query())) == 1


@pytest.mark.azurite
def test_a_message_that_meets_a_live_run_is_put_back(
    queued: Any, host_of_queues: QueueHost, disk_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUXOR_RUN_LOCK_TTL", "0.3")
    with Lease(disk_lake.storage(), LEASE, ttl=0.3, about={"run": "abc"}) as lease:
        assert lease.acquire() is None
        for _ in range(2 * host_of_queues.most):
            assert host_of_queues.step() == "ended", "and is not counted"
        assert [report.status for report in last_runs(disk_lake.query())] == ["queued"]
    assert host_of_queues.step() == "ended"
    assert [report.status for report in last_runs(disk_lake.query())] == ["done"]


@pytest.mark.azurite
def test_a_run_that_keeps_failing_ends_in_the_poison_queue(
    queued: Any, host_of_queues: QueueHost, disk_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **options: Any) -> Any:
        raise AccessError("no")

    monkeypatch.setattr(hist_returns, "compute_returns", broken)
    assert [host_of_queues.step() for _ in range(6)] == ["again: AccessError"] * 4 + ["poison: AccessError", "empty"]
    assert host_of_queues.step("run_pipeline_poison") == "ended"
    (report,) = last_runs(disk_lake.query())
    assert report.status == "failed"
    assert report.error is not None
    assert report.error["class"] == "AccessError", "which says more than that it was given up"


@pytest.mark.azurite
def test_what_a_retry_would_meet_again_is_not_retried(
    host_of_queues: QueueHost, disk_lake: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "luxor_pipelines")
    report = queue_run("market_prices", lake=disk_lake.query(), table="../x")
    for text in (report.path, "no record", "system/runs/hist_returns/20240531T000000Z-0123456789ab.json"):
        host_of_queues.put(text)
        assert host_of_queues.step() == "ended"
        assert "is not tried again" in caplog.text
        assert "ERROR" in {record.levelname for record in caplog.records}
        caplog.clear()
    assert [report.status for report in last_runs(disk_lake.query())] == ["failed"]


@pytest.mark.azurite
@pytest.mark.skipif(sys.platform == "win32", reason="Azure runs the app on Linux")
def test_a_run_that_is_killed_at_every_try_is_recorded_as_failed(
    queued: Any, host_of_queues: QueueHost, disk_lake: Any, host: ModuleType, load: Any
) -> None:
    """Longer than functionTimeout: the host ends the worker, and the message comes back later."""
    command = [sys.executable, host.__file__, str(ROOT / "functions")]
    call = {
        "function": "run_pipeline_queue",
        "message": queued["path"],
        "tell": "luxor_pipelines.pipelines.hist_returns.compute_returns",
        "pause": True,
    }
    for _ in range(2):
        worker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**environment(), "LUXOR_LAKE_URL": disk_lake.arguments["lake"], "LUXOR_RUN_LOCK_TTL": "0.3"},
        )  # fmt: skip
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps([call]))
        worker.stdin.close()
        worker.stdin = None
        assert "reached" in worker.stdout.readline()
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
    lease = Lease(disk_lake.storage(), LEASE, ttl=0.3)
    assert lease.acquire(wait=True) is None, "the last holder gives no sign of life"
    lease.release()
    assert [report.status for report in last_runs(disk_lake.query())] == ["died"]
    host_of_queues.put(queued["path"], "run_pipeline_poison")
    assert host_of_queues.step("run_pipeline_poison") == "ended"
    (report,) = last_runs(disk_lake.query())
    assert report.error is not None
    assert (report.status, report.error["class"]) == ("failed", "TimeoutError")


def environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "SYSTEMROOT") if name in os.environ}


def test_a_run_that_is_alive_or_done_is_not_failed(disk_lake: Any) -> None:
    lq = disk_lake.query()
    done = run("hist_returns", ref_date="2024-05-31", lq=lq)
    assert fail_run(done.path, TimeoutError(), lake=lq) == done
    with pytest.raises(UsageError):
        fail_run("system/runs/../x.json", TimeoutError(), lake=lq)
    with pytest.raises(NotFoundError):
        read_run(lq, "hist_returns", "x")
