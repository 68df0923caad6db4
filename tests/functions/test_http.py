"""The HTTP functions, called as the worker calls them: every status, and bodies that mean harm."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest

from luxor_pipelines import __version__, hosting
from luxor_pipelines.errors import (
    ConflictError,
    DataError,
    LoadConflictError,
    LuxorError,
    QualityError,
    RunInProgressError,
    UnreachableError,
)
from luxor_pipelines.lake.storage.lease import Lease
from luxor_pipelines.operations.records import RunReport, last_runs
from luxor_pipelines.settings import Settings

KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
Out: Any = SimpleNamespace
CONTEXT: Any = SimpleNamespace(invocation_id="an-invocation", trace_context=SimpleNamespace(trace_parent=None))
MAY = '{"ref_date": "2024-05-31"}'


def request(
    name: str = "hist_returns", body: bytes | str = b"", method: str = "POST", query: Mapping[str, str] | None = None
) -> func.HttpRequest:
    data = body.encode() if isinstance(body, str) else body
    where = {"params": query or {}, "route_params": {"name": name}}
    return func.HttpRequest(method, f"/api/pipelines/{name}/runs", body=data, **where)


def content(response: func.HttpResponse) -> Any:
    assert response.mimetype == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    return json.loads(response.get_body())


def error(response: func.HttpResponse, status: int) -> dict[str, str]:
    found = content(response)
    assert response.status_code == status, found
    assert found.keys() == {"error"}
    assert found["error"].keys() == {"class", "message", "hint"}
    told: dict[str, str] = found["error"]
    return told


def never(name: str, ref_date: date | None, params: Mapping[str, Any]) -> RunReport:
    raise AssertionError("the request should have been refused")


# --- POST pipelines/{name}/runs -----------------------------------------------------------------


def test_200_with_the_record(lake: Any, load: Any, mtd: Any) -> None:
    response = load("run_pipeline")(request(body=MAY))
    assert response.status_code == 200
    told = content(response)
    (stored,) = lake.storage().list("system/runs")
    assert told == json.loads(lake.storage().read(stored.path).data)
    assert (told["status"], told["ref_date"]) == ("done", "2024-05-31")
    assert mtd(lake, date(2024, 5, 31)) == [0.1]  # 55 / 50 - 1


def test_any_day_of_the_month_and_no_day_at_all_will_do(disk_lake: Any, load: Any) -> None:
    main = load("run_pipeline")
    assert content(main(request(body='{"ref_date": "2024-05-02"}')))["ref_date"] == "2024-05-31"
    for body in ("", "  \n", "{}", '{"ref_date": null}'):
        assert main(request("holidays", body)).status_code == 200
    assert content(main(request("market-prices")))["pipeline"] == "market_prices"


BODIES = {
    "not JSON": b"ref_date=2024-05-31",
    "half a JSON": b'{"ref_date": "2024-05-31"',
    "not UTF-8": b'\xff\xfe{"ref_date": \x80\x81}',
    "nothing but NUL": b"\x00" * 100,
    "huge": b'{"ref_date": "' + b"9" * 5_000_000 + b'"}',
    "deep": b"[" * 4000,
    "a huge number": b'{"ref_date": ' + b"9" * 4000 + b"}",
    "a list": b'["2024-05-31"]',
    "a text": b'"2024-05-31"',
    "null": b"null",
    "a number": b'{"ref_date": 20240531}',
    "a flag": b'{"ref_date": true}',
    "a list within": b'{"ref_date": ["2024-05-31"]}',
    "an object within": b'{"ref_date": {"$date": "2024-05-31"}}',
    "not a number": b'{"ref_date": NaN}',
    "not a date": b'{"ref_date": "yesterday"}',
    "no such day": b'{"ref_date": "2024-02-30"}',
    "a day of no year": b'{"ref_date": "0000-01-01"}',
    "a time": b'{"ref_date": "2024-05-31T00:00:00Z"}',
    "short form": b'{"ref_date": "20240531"}',
    "a week": b'{"ref_date": "2024-W22-5"}',
    "other digits": '{"ref_date": "２０２４-05-31"}'.encode(),
    "a path": b'{"ref_date": "../../../etc/passwd"}',
    "a line break": b'{"ref_date": "2024-05-31\\n"}',
    "another key": b'{"ref_date": "2024-05-31", "table": "assets"}',
    "our own arguments": b'{"lake": "file:///"}',
    "another spelling": b'{"Ref_Date": "2024-05-31"}',
    "force that is no flag": b'{"force": "yes"}',
    "force that is a number": b'{"force": 1}',
    "async that is no flag": b'{"async": "later"}',
    "params that are no object": b'{"params": ["fetch=true"]}',
    "params that are an empty list": b'{"params": []}',
    "params that are false": b'{"params": false}',
    "params within params": b'{"params": {"usdbrl_ticker": {"a": 1}}}',
    "a parameter that is null": b'{"params": {"usdbrl_ticker": null}}',
    "a name with an equals sign": b'{"params": {"force=true;x": "y"}}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_400_for_a_bad_body(body: bytes) -> None:
    told = error(hosting.post_run(request(body=body), Out(), never, CONTEXT), 400)
    assert told["class"] == "UsageError"
    assert "ref_date" in told["hint"]
    assert len(json.dumps(told)) < 500, "the body is not repeated"


@pytest.mark.parametrize("day", ["2199-01-31", "9999-12-31"])
def test_400_for_a_month_that_has_not_ended_which_is_no_failed_run(disk_lake: Any, load: Any, day: str) -> None:
    told = error(load("run_pipeline")(request(body=json.dumps({"ref_date": day}))), 400)
    assert "has not ended yet" in told["message"]
    assert not last_runs(disk_lake.query())


def test_400_for_a_month_before_the_first_price(disk_lake: Any, load: Any) -> None:
    told = error(load("run_pipeline")(request(body='{"ref_date": "1999-12-31"}')), 400)
    assert told["class"] == "UsageError"
    assert "The earliest month that can be run is 2024-04-30" in told["hint"]


def test_the_date_may_stand_in_the_query_string(disk_lake: Any, load: Any) -> None:
    main = load("run_pipeline")
    key = {"code": "the-function-key", "clientId": "default"}
    record = content(main(request(query={"ref_date": "2024-05-02", **key})))
    assert (record["status"], record["ref_date"]) == ("done", "2024-05-31")
    assert content(main(request(query={"ref_date": "2024-05-31"}, body='{"force": true}')))["params"] == {"force": True}


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ({"ref_date": "yesterday"}, ""),
        ({"ref_date": ""}, ""),
        ({"ref_date": "2024-05-31"}, '{"ref_date": "2024-04-30"}'),
        ({"ref_date": "2024-05-31"}, MAY),
        ({"Ref_Date": "2024-05-31"}, ""),
        ({"date": "2024-05-31"}, MAY),
        ({"force": "1"}, ""),
        ({"force": "true"}, '{"force": true}'),
        ({"usdbrl_ticker": "x"}, ""),
    ],
)
def test_400_for_a_query_string_that_would_else_be_ignored(query: dict[str, str], body: str) -> None:
    assert error(hosting.post_run(request(body=body, query=query), Out(), never, CONTEXT), 400)["class"] == "UsageError"


def test_force_and_params_are_what_the_command_line_has(disk_lake: Any, load: Any) -> None:
    main = load("run_pipeline")
    body = {"params": {"exchanges": "bz=BVMF", "start": "2024-01-01", "end": "2024-12-31"}}
    record = content(main(request("holidays", json.dumps(body))))
    assert (record["status"], record["params"]) == ("done", body["params"])
    flags = {"params": {"known_assets_only": False, "separator": ";"}, "force": True}
    record = content(main(request("market_prices", json.dumps({"params": {"decimal": "."}, "force": True}))))
    assert record["params"] == {"decimal": ".", "force": True}
    assert error(main(request("holidays", json.dumps(flags))), 400)["message"].startswith(
        "The pipeline holidays has no"
    )
    wrong = error(main(request("market_prices", '{"params": {"known_assets_only": "perhaps"}}')), 400)
    assert "known_assets_only" in wrong["message"]
    for name in ("lake", "lq", "now", "if_running", "ref_date"):
        told = error(main(request(body=json.dumps({"params": {name: "file:///"}}))), 400)
        assert f"has no parameter '{name}'" in told["message"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_405_names_the_method_that_runs_a_pipeline(method: str) -> None:
    response = hosting.post_run(request(method=method), Out(), never, CONTEXT)
    told = error(response, 405)
    assert response.headers["Allow"] == "POST"
    assert "POST runs the pipeline" in told["hint"]


NAMES = {
    "unknown": "nothing",
    "near": "hist_return",
    "empty": "",
    "up": "..",
    "up and away": "../../system/runs",
    "encoded": "..%2f..%2fsystem",
    "windows": "..\\..\\x",
    "absolute": "/etc/passwd",
    "helper": "_raw",
    "module": "hist_returns.run",
    "entry point": "os:system",
    "NUL": "hist_returns\x00",
    "a line break": "hist_returns\nFAKE LOG LINE",
    "markup": "<script>alert(1)</script>",
    "endless": "a" * 100_000,
    "digits of another script": "hist_returns٣",
    "a lone surrogate": "\udcff",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_404_for_an_unknown_pipeline(name: str, disk_lake: Any, load: Any, caplog: pytest.LogCaptureFixture) -> None:
    told = error(load("run_pipeline")(request(name, MAY)), 404)
    assert told["class"] == "UnknownPipelineError"
    assert "hist_returns" in told["hint"], "it says which there are"
    assert len(json.dumps(told)) < 1000
    assert not last_runs(disk_lake.query())
    assert all("\n" not in record.getMessage().split("UnknownPipelineError")[0] for record in caplog.records)
    assert "FAKE LOG LINE" not in caplog.text


def test_409_while_it_is_running(lake: Any, load: Any) -> None:
    main = load("run_pipeline")
    held = Lease(lake.storage(), "system/locks/runs/hist_returns/2024-05-31.json", ttl=3600.0, about={"run": "abc"})
    assert held.acquire() is None
    with held:
        told = error(main(request(body=MAY)), 409)
        assert told["class"] == "RunInProgressError"
        assert "hist_returns is running already for 2024-05-31 (run abc)" in told["message"]
        assert main(request(body='{"ref_date": "2024-04-30"}')).status_code == 200, "another month may run"
    assert main(request(body=MAY)).status_code == 200


@pytest.mark.parametrize("kind", [ConflictError, LoadConflictError, RunInProgressError])
def test_409_for_every_conflict(kind: type[LuxorError]) -> None:
    def run(name: str, ref_date: date | None, params: Mapping[str, Any]) -> RunReport:
        raise kind("Somebody else was quicker.", hint="Try again.")

    told = error(hosting.post_run(request(), Out(), run, CONTEXT), 409)
    assert told == {"class": kind.__name__, "message": "Somebody else was quicker.", "hint": "Try again."}


def test_500_with_class_and_message_and_a_record(disk: Any, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUXOR_LAKE_URL", disk.arguments["lake"])
    told = error(load("run_pipeline")(request(body=MAY)), 500)  # there is no table assets
    assert told["class"] == "TableNotFoundError"
    assert "assets" in told["message"]
    (report,) = last_runs(disk.query())
    assert (report.status, report.error) == ("failed", told)


def test_500_without_settings_names_them(load: Any) -> None:
    told = error(load("run_pipeline")(request(body=MAY)), 500)
    assert told["class"] == "ConfigurationError"
    assert "LUXOR_LAKE_URL" in told["hint"]
    assert "AZURE_STORAGE_CONNECTION_STRING" in told["hint"]


@pytest.mark.parametrize(
    "raised",
    [
        ValueError(f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={KEY};x"),
        OSError(f"GET https://a.blob.core.windows.net/c?sv=2024&sig={KEY}&se=2030"),
        DataError(f"Authorization: SharedKey {KEY}"),
        KeyError(f"AccountKey={KEY}"),
        ExceptionGroup("many", [ValueError(f"AccountKey={KEY}")]),
        RecursionError("maximum recursion depth exceeded"),
        MemoryError(),
    ],
)
def test_500_tells_no_secret(raised: Exception, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def run(name: str, ref_date: date | None, params: Mapping[str, Any]) -> RunReport:
        raise raised

    response = hosting.post_run(request(), Out(), run, CONTEXT)
    assert error(response, 500)["class"] == type(raised).__name__
    assert KEY.encode() not in response.get_body()
    assert KEY not in caplog.text
    assert type(raised).__name__ in caplog.text, "but the log has it"


@pytest.mark.azurite
def test_500_for_a_wrong_key_without_the_key(make_rig: Any, load: Any, caplog: Any, monkeypatch: Any) -> None:
    caplog.set_level(logging.DEBUG, "luxor_pipelines")
    right = make_rig("azurite").arguments
    account = [part for part in right["connection_string"].split(";") if not part.startswith("AccountKey")]
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", ";".join([f"AccountKey={KEY}", *account]))
    monkeypatch.setenv("LUXOR_CONTAINER", right["container"])
    response = load("run_pipeline")(request(body=MAY))
    assert error(response, 500)["class"] == "AccessError"
    assert KEY.encode() not in response.get_body()
    assert KEY not in caplog.text


def test_422_with_the_report(caplog: pytest.LogCaptureFixture) -> None:
    def run(name: str, ref_date: date | None, params: Mapping[str, Any]) -> RunReport:
        raise QualityError("hist_returns: nothing was written:\n- 2 of the 4 assets are missing", hint="Look.")

    told = error(hosting.post_run(request(), Out(), run, CONTEXT), 422)
    assert told["class"] == "QualityError"
    assert "- 2 of the 4 assets are missing" in told["message"]
    (entry,) = caplog.records
    assert (entry.levelname, entry.name) == ("ERROR", "luxor_pipelines.hosting")
    assert "- 2 of the 4 assets are missing" in entry.getMessage()


# --- GET pipelines ------------------------------------------------------------------------------


def test_pipelines_are_listed_with_their_last_run(lake: Any, load: Any) -> None:
    main = load("list_pipelines")
    before = content(main(request(method="GET")))
    assert [each["name"] for each in before["pipelines"]] == ["fx_rates", "hist_returns", "holidays", "market_prices"]
    assert {each["last_run"] for each in before["pipelines"]} == {None}
    assert before["library_version"] == __version__
    load("run_pipeline")(request(body='{"ref_date": "2024-04-30"}'))
    last = content(load("run_pipeline")(request(body=MAY)))
    after = {each["name"]: each for each in content(main(request(method="GET")))["pipelines"]}
    assert after["hist_returns"]["last_run"] == last
    assert after["fx_rates"]["last_run"] is None
    assert after["hist_returns"]["description"].startswith("Each month's")


@pytest.mark.parametrize(
    "damage", [{"started_at": "2026-11-23T18:30:00"}, {"duration_s": "long"}, {"details": {"deep": "DEEP"}}]
)
def test_a_damaged_record_hides_no_pipeline(disk_lake: Any, load: Any, damage: dict[str, Any]) -> None:
    done = content(load("run_pipeline")(request(body=MAY)))
    text = json.dumps({**done, **damage}).replace('"DEEP"', "[" * 900 + "]" * 900)
    disk_lake.storage().write("system/runs/hist_returns/20990101T000000Z-x.json", text.encode())
    listed = {each["name"]: each for each in content(load("list_pipelines")(request(method="GET")))["pipelines"]}
    assert listed["hist_returns"]["last_run"] == done


def test_a_run_that_died_is_listed_as_such(disk_lake: Any, load: Any) -> None:
    lq = disk_lake.query()
    done = content(load("run_pipeline")(request(body=MAY)))
    # As its process left it when it was killed: the lock is gone since.
    killed = {**done, "status": "running", "ended_at": None, "duration_s": None, "rows": None}
    lq.lake.storage.write(done["path"], json.dumps(killed).encode())
    listed = {each["name"]: each for each in content(load("list_pipelines")(request(method="GET")))["pipelines"]}
    assert listed["hist_returns"]["last_run"] == {**killed, "status": "died"}


def test_pipelines_without_a_lake_is_an_error(load: Any) -> None:
    assert error(load("list_pipelines")(request(method="GET")), 500)["class"] == "ConfigurationError"


# --- GET health ---------------------------------------------------------------------------------


def test_health_says_that_the_lake_is_there_and_what_runs(lake: Any, load: Any) -> None:
    response = load("health")(request(method="GET"))
    assert response.status_code == 200
    assert content(response) == {"status": "ok", "lake": "reachable", "library_version": __version__}


GONE = {"status": "unavailable", "lake": "unreachable", "library_version": __version__}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"LUXOR_LAKE_URL": "file:///nowhere/at/all"},
        {"LUXOR_LAKE_URL": f"abfss://c@a.invalid.example?sig={KEY}", "LUXOR_RETRIES": "0"},
        {"AZURE_STORAGE_CONNECTION_STRING": f"AccountName=a;AccountKey={KEY}!"},
        {"LUXOR_LAKE_URL": "file:///", "LUXOR_READ_TIMEOUT": "soon"},
    ],
)
def test_health_says_no_more_than_that_it_is_not(
    settings: dict[str, str], load: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hosting, "_probe", hosting._Probe())
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    response = load("health")(request(method="GET"))
    assert response.status_code == 503
    assert content(response) == GONE
    assert KEY not in caplog.text
    assert "health: " in caplog.text, "the log says why"


@pytest.mark.azurite
def test_health_of_a_container_that_is_not_there(make_rig: Any, load: Any, monkeypatch: Any) -> None:
    rig = make_rig("azurite")
    monkeypatch.setattr(hosting, "_probe", hosting._Probe())
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", rig.arguments["connection_string"])
    monkeypatch.setenv("LUXOR_CONTAINER", "missing")
    assert content(load("health")(request(method="GET"))) == GONE


class Asked:
    """Counts how often the lake is asked, and answers what it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times, self.fails = 0, False
        monkeypatch.setattr(hosting._Probe, "_ask", lambda probe, settings: self())

    def __call__(self) -> bool:
        self.times += 1
        return not self.fails


def test_the_lake_is_asked_twice_a_minute_at_most(disk_lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, seconds = Asked(monkeypatch), [0.0]
    probe = hosting._Probe(lambda: seconds[0])
    assert [probe() for _ in range(100)] == [True] * 100
    assert asked.times == 1
    asked.fails = True
    seconds[0] = hosting.PROBE_S - 0.1
    assert probe()
    seconds[0] = hosting.PROBE_S + 0.1
    assert [probe() for _ in range(100)] == [False] * 100, "a bad answer is remembered as well"
    assert asked.times == 2
    monkeypatch.setenv("LUXOR_LAKE_URL", "file:///elsewhere")
    probe()
    assert asked.times == 3, "of another lake nothing is known"


def test_nobody_waits_for_an_answer_that_is_on_its_way(disk_lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, seconds = Asked(monkeypatch), [0.0]
    probe = hosting._Probe(lambda: seconds[0])
    assert probe()
    seconds[0] = 1000.0
    with probe._turn:  # somebody is asking, and the lake does not answer
        assert probe(), "what was known last"
    assert asked.times == 1


def test_the_probe_costs_one_look(disk_lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_env()
    storage = hosting._lake(settings).lake.storage

    def unreachable(prefix: str) -> list[Any]:
        raise UnreachableError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "list", unreachable)
        assert hosting._Probe._ask(settings) is False
    assert hosting._Probe._ask(settings) is True
    assert hosting._lake(replace(settings)) is hosting._lake(settings), "opened once for the same settings"
