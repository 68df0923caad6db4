"""What a run tells about itself: its log lines, its record, its spans and metrics."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from luxor_pipelines import telemetry
from luxor_pipelines.errors import ConfigurationError, LuxorError, TableNotFoundError, conceal
from luxor_pipelines.ingest import save_table
from luxor_pipelines.operations.records import last_runs
from luxor_pipelines.operations.runs import run

KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def lq(disk: Any) -> Any:
    """A lake of one fund, as of 2026-11-23."""
    lq = disk.query()
    fund = {"Key": "fund", "Name": "Fund", "Type": "equity", "Ticker_BBG": "fund", "Currency": "brl"}
    days = pd.to_datetime(["2026-09-30", "2026-10-31"])
    save_table("assets", pd.DataFrame([fund]), lq=lq)
    prices = pd.DataFrame({"Date": days, "Asset": "fund", "Last_Price": [100.0, 110.0]})
    save_table("hist_px_last", prices, lq=lq)
    return disk.query()


# --- log lines ----------------------------------------------------------------------------------


@pytest.fixture
def log() -> Iterator[Callable[[str], list[str]]]:
    """Sends the library's log through a handler of the given format; returns the lines so far."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    package = logging.getLogger("luxor_pipelines")
    package.addHandler(handler)
    package.setLevel(logging.INFO)

    def lines(log_format: Any) -> list[str]:
        telemetry.name_runs([handler], log_format)
        return stream.getvalue().splitlines()

    yield lines
    package.removeHandler(handler)


def test_every_line_of_a_run_names_it(lq: Any, log: Any) -> None:
    log("text")
    report = run("hist_returns", lq=lq)
    lines = log("text")
    assert len(lines) >= 4
    name = f"[run={report.id} pipeline=hist_returns ref_date=2026-10-31]"
    assert [line for line in lines if not line.endswith(name)] == []
    logging.getLogger("luxor_pipelines").info("outside of runs")
    assert log("text")[-1] == "outside of runs"


def test_json_has_one_object_a_line(lq: Any, log: Any) -> None:
    log("json")
    with telemetry.triggered_by("timer", "an-invocation", TRACEPARENT):
        report = run("hist_returns", lq=lq)
    lines = [json.loads(line) for line in log("json")]
    assert len(lines) >= 4
    for line in lines:
        assert (line["run"], line["pipeline"], line["ref_date"]) == (report.id, "hist_returns", "2026-10-31")
        assert (line["trigger"], line["invocation_id"], line["trace_id"]) == ("timer", "an-invocation", TRACE)
        assert line["level"] == "INFO"
        assert line["logger"].startswith("luxor_pipelines.")
    assert lines[-1]["message"].startswith("hist_returns done in")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_line_has_a_secret(log: Any, log_format: str) -> None:
    conceal("hunter2hunter2")
    log(log_format)
    logger = logging.getLogger("luxor_pipelines.test")
    logger.warning("AccountKey=%s and %s,\nin two lines", KEY, "hunter2hunter2")
    logger.error("failed", exc_info=ValueError(f"sig={KEY}"))
    text = "\n".join(log(log_format))
    assert "in two lines" in text
    assert "ValueError" in text
    assert KEY not in text
    assert "hunter2" not in text


# --- the record ---------------------------------------------------------------------------------


def test_the_record_says_what_started_the_run(lq: Any) -> None:
    run("hist_returns", lq=lq)
    with telemetry.triggered_by("http", "an-invocation", TRACEPARENT):
        run("hist_returns", lq=lq)
    with telemetry.triggered_by("timer", "", "nonsense"):
        run("hist_returns", lq=lq)
    stored = {report.trigger: (report.invocation_id, report.trace_id) for report in last_runs(lq)}
    assert stored == {"python": (None, None), "http": ("an-invocation", TRACE), "timer": (None, None)}


def test_a_notebook_is_known_by_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert telemetry.trigger().kind == "python"
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert telemetry.trigger().kind == "notebook"


# --- spans and metrics --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exporters() -> Iterator[tuple[InMemorySpanExporter, InMemoryMetricReader]]:
    """OpenTelemetry's SDK, which can be set up once a process."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
    yield spans, reader
    provider.shutdown()


@pytest.fixture
def spans(exporters: tuple[InMemorySpanExporter, InMemoryMetricReader]) -> Callable[[], list[Any]]:
    exporters[0].clear()
    return lambda: list(exporters[0].get_finished_spans())


def test_a_run_is_one_trace(lq: Any, spans: Callable[[], list[Any]]) -> None:
    report = run("hist_returns", lq=lq)
    whole = spans()[-1]
    assert whole.name == "luxor.run"
    assert dict(whole.attributes) == {
        "luxor.run": report.id,
        "luxor.pipeline": "hist_returns",
        "luxor.ref_date": "2026-10-31",
        "luxor.status": "done",
        "luxor.rows": 18,
    }
    assert {span.name for span in spans()} == {"luxor.run", "luxor.read", "luxor.compute", "luxor.write"}
    assert {span.context.trace_id for span in spans()} == {whole.context.trace_id}
    assert {span.attributes["luxor.run"] for span in spans()} == {report.id}
    (write,) = [span for span in spans() if span.name == "luxor.write"]
    assert write.attributes["luxor.table"] == "hist_returns"
    assert (write.attributes["luxor.rows"], write.attributes["luxor.changed"]) == (18, True)
    tables = {span.attributes["luxor.table"]: span.attributes["luxor.rows"] for span in spans() if "read" in span.name}
    assert tables["assets"] == 1


def test_the_spans_continue_the_trace_of_what_started_the_run(lq: Any, spans: Callable[[], list[Any]]) -> None:
    with telemetry.triggered_by("timer", "an-invocation", TRACEPARENT):
        run("hist_returns", lq=lq)
    assert {f"{span.context.trace_id:x}" for span in spans()} == {TRACE}
    assert f"{spans()[-1].parent.span_id:016x}" == "00f067aa0ba902b7"


def test_an_error_is_told_without_secrets_and_traceback(lq: Any, spans: Callable[[], list[Any]]) -> None:
    with pytest.raises(LuxorError), telemetry.span("run", table=f"sig={KEY}"):
        raise LuxorError(f"AccountKey={KEY}")
    (span,) = spans()
    assert span.status.description == "LuxorError: AccountKey=***"
    assert dict(span.attributes) == {"luxor.table": "sig=***"}
    assert span.events == ()


def test_metrics_count_runs_rows_and_seconds(lq: Any, exporters: Any) -> None:
    run("hist_returns", lq=lq)
    lq.lake.storage.delete("enriched/parquet/assets.parquet")
    lq.update()
    with pytest.raises(TableNotFoundError):
        run("hist_returns", lq=lq)
    (resource,) = exporters[1].get_metrics_data().resource_metrics
    (scope,) = resource.scope_metrics
    points = {metric.name: list(metric.data.data_points) for metric in scope.metrics}
    durations = {point.attributes["luxor.status"]: point for point in points["luxor.run.duration"]}
    rows = {point.attributes["luxor.status"]: point.value for point in points["luxor.run.rows"]}
    assert {point.attributes["luxor.pipeline"] for point in durations.values()} == {"hist_returns"}
    assert durations["failed"].count == 1
    assert (durations["done"].count * 18, rows["failed"]) == (rows["done"], 0)


def test_without_opentelemetry_nothing_is_imported_and_nothing_fails() -> None:
    code = (
        "import sys; sys.modules['opentelemetry.trace'] = None\n"
        "from luxor_pipelines import telemetry\n"
        "with telemetry.span('run', a=1) as ending: ending['b'] = 2\n"
        "telemetry.record_run('p', 'done', 1.0, 2)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_azure_without_the_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.monitor", None)
    with pytest.raises(ConfigurationError, match=r"azure-monitor-opentelemetry is not installed") as error:
        telemetry.configure_azure_monitor()
    assert 'pip install "luxor-pipelines[otel]"' in error.value.hint
