"""Requests that are wrong: 400 or 404 with what to send instead, nothing of them repeated, and nothing done."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest

from luxor_pipelines import hosting
from luxor_pipelines.operations import records, runs

BODIES = {
    "no-json": b"ref_date=2026-10-31",
    "half": b'{"ref_date":',
    "two": b'{"ref_date": "2026-10-31"}{"ref_date": "2026-09-30"}',
    "utf-16": '{"ref_date": "2026-10-31"}'.encode("utf-16")[:-1],
    "no-utf-8": b'{"ref_date": "\xff"}',
    "nul": b"\0" * 99,
    "too-large": b'{"ref_date": "' + b"9" * hosting.BODY_MAX + b'"}',
    "blank-and-too-large": b" " * (hosting.BODY_MAX + 1),
    "deep-lists": b"[" * 4_000,
    "deep-objects": b'{"a":' * 800 + b"1" + b"}" * 800,
    "list": b'["2026-10-31"]',
    "null-within": b'{"ref_date": [null]}',
    "number": b'{"ref_date": 20261031}',
    "huge-number": b'{"ref_date": ' + b"9" * 4_000 + b"}",
    "nan": b'{"ref_date": NaN}',
    "infinity": b'{"ref_date": -Infinity}',
    "flag": b'{"ref_date": true}',
    "object": b'{"ref_date": {"$gt": ""}}',
    "another-key": b'{"ref_date": "2026-10-31", "lake": "file:///"}',
    "30-february": b'{"ref_date": "2026-02-30"}',
    "slashes": b'{"ref_date": "31/10/2026"}',
    "year-10000": b'{"ref_date": "10000-01-01"}',
    "year-zero": b'{"ref_date": "0000-01-01"}',
    "zone": b'{"ref_date": "2026-10-31T00:00:00Z"}',
    "escape": b'{"ref_date": "2026-10-31\\u0000"}',
    "surrogate": b'{"ref_date": "\\ud800"}',
    "to-come": b'{"ref_date": "9999-12-31"}',
    "empty-text": b'{"ref_date": ""}',
}
NAMES = {
    "empty": "",
    "parent": "..",
    "path": "../../system/runs",
    "encoded": "..%2f..%2fx",
    "dot": "hist_returns.run",
    "backslash": "..\\x",
    "absolute": "/etc/passwd",
    "entry-point": "os:system",
    "nul": "hist_returns\0",
    "line": "hist_returns\nERROR forged",
    "long": "x" * 100_000,
    "surrogate": "\udcff",
    "look-alike": "hist_return\u0455",
    "helper": "_raw",
    "markup": "<script>",
}


@pytest.fixture
def named(lake: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LUXOR_LAKE_URL", lake.arguments["lake"])
    return lake


def answered(name: str, body: bytes) -> tuple[int, dict[str, Any], bytes]:
    request = func.HttpRequest("POST", "/api", body=body, route_params={"name": name})
    context: Any = SimpleNamespace(invocation_id="", trace_context=SimpleNamespace(trace_parent=""))
    answer = hosting.post_run(
        request, SimpleNamespace(), lambda name, day, params: runs.run(name, ref_date=day, **params), context
    )
    return answer.status_code, json.loads(answer.get_body())["error"], answer.get_body()


@pytest.mark.parametrize("case", BODIES)
def test_bodies(case: str, named: Any, digest: Any) -> None:
    before = digest(named)
    status, told, whole = answered("hist_returns", BODIES[case])
    assert (status, told["class"]) == (400, "UsageError")
    assert told["hint"]
    assert len(whole) < 600
    assert digest(named) == before


@pytest.mark.parametrize("case", NAMES)
def test_names(case: str, named: Any, digest: Any, caplog: pytest.LogCaptureFixture) -> None:
    before = digest(named)
    status, told, whole = answered(NAMES[case], b"")
    assert (status, told["class"]) == (404, "UnknownPipelineError")
    assert "hist_returns" in told["hint"]
    assert len(whole) < 600
    assert "forged" not in caplog.text
    assert digest(named) == before
    assert not records.last_runs(named.query())
