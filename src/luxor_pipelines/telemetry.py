"""A run as others see it: what started it, log lines that name it, spans and metrics in OpenTelemetry.

`operations.run` opens a `RunContext`; whatever logs or opens a `span` on the same thread belongs to it. Spans and
metrics go to whichever OpenTelemetry SDK the process has set up; without the extra ``otel`` they cost nothing.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, Literal

from luxor_pipelines.errors import ConfigurationError, redact, visible

__all__ = [
    "RunContext",
    "Trigger",
    "TriggerKind",
    "configure_azure_monitor",
    "name_runs",
    "record_run",
    "run_context",
    "span",
    "trigger",
    "triggered_by",
]


TriggerKind = Literal["timer", "http", "queue", "cli", "notebook", "python"]


# --- what started a run -------------------------------------------------------------------------


@dataclass(frozen=True)
class Trigger:
    """The cause of a run: a timer, a request, a person.

    Attributes
    ----------
    kind
        ``timer``, ``http`` or ``queue`` in Azure Functions, ``cli``, ``notebook``, or ``python`` for other code.
    invocation_id
        Azure Functions' id of the invocation.
    traceparent
        The W3C trace context that the run's spans continue.
    """

    kind: TriggerKind
    invocation_id: str | None = None
    traceparent: str | None = None

    @property
    def trace_id(self) -> str | None:
        """The trace that the run belongs to: ``operation_Id`` in Application Insights."""
        parts = (self.traceparent or "").split("-")
        return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else None


_trigger: ContextVar[Trigger | None] = ContextVar("luxor_trigger", default=None)


@contextmanager
def triggered_by(kind: TriggerKind, invocation_id: str | None = None, traceparent: str | None = None) -> Iterator[None]:
    """Say what starts the runs of the body."""
    token = _trigger.set(Trigger(kind, invocation_id or None, traceparent or None))
    try:
        yield
    finally:
        _trigger.reset(token)


def trigger() -> Trigger:
    """Return what `triggered_by` said; else whether this is a notebook or other code."""
    return _trigger.get() or Trigger("notebook" if "ipykernel" in sys.modules else "python")


# --- log lines ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunContext:
    """The run that is under way on this thread."""

    run: str
    pipeline: str
    ref_date: str | None = None


_run: ContextVar[RunContext | None] = ContextVar("luxor_run", default=None)


@contextmanager
def run_context(run: RunContext) -> Iterator[None]:
    """Let log lines and spans of the body name ``run``."""
    token = _run.set(run)
    try:
        yield
    finally:
        _run.reset(token)


class _TextFormatter(logging.Formatter):
    """The message, and after it the run that logs it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        run, text = _run.get(), super().formatMessage(record)
        if run is None:
            return text
        date = f" ref_date={run.ref_date}" if run.ref_date else ""
        return f"{text} [run={run.run} pipeline={run.pipeline}{date}]"

    def format(self, record: logging.LogRecord) -> str:
        return visible(redact(super().format(record)))


class _JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the run that logs it."""

    def format(self, record: logging.LogRecord) -> str:
        run, cause = _run.get(), _trigger.get()
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if run is not None:
            line |= {"run": run.run, "pipeline": run.pipeline, "ref_date": run.ref_date}
        if cause is not None:
            line |= {"trigger": cause.kind, "invocation_id": cause.invocation_id, "trace_id": cause.trace_id}
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps({name: value for name, value in line.items() if value is not None}, ensure_ascii=False)


def name_runs(
    handlers: Iterable[logging.Handler], log_format: Literal["text", "json"], pattern: str = "%(message)s"
) -> None:
    """Format the lines of ``handlers`` with the run's id, pipeline and reference date, and without secrets."""
    formatter = _JsonFormatter() if log_format == "json" else _TextFormatter(pattern)
    for handler in handlers:
        handler.setFormatter(formatter)


# --- spans and metrics --------------------------------------------------------------------------

_NAME = "luxor_pipelines"


@functools.cache
def _api() -> ModuleType | None:
    """Return OpenTelemetry's API; None where it is not installed."""
    try:
        import opentelemetry.metrics
        import opentelemetry.trace
        import opentelemetry.trace.propagation.tracecontext
    except ImportError:
        return None
    return opentelemetry


@contextmanager
def span(name: Literal["run", "read", "compute", "write"], **attributes: Any) -> Iterator[dict[str, Any]]:
    """Open a span ``luxor.<name>`` around the body.

    The yielded dict takes attributes that are known at its end. The run's own names are added to each span; an
    error is stated by class and message, without secrets and without its traceback.
    """
    ending: dict[str, Any] = {}
    api = _api()
    if api is None:
        yield ending
        return
    run, parent = _run.get(), None
    if name == "run" and not api.trace.get_current_span().get_span_context().is_valid:
        carrier = {"traceparent": trigger().traceparent or ""}
        parent = api.trace.propagation.tracecontext.TraceContextTextMapPropagator().extract(carrier)
    if run is not None:
        attributes |= {"run": run.run, "pipeline": run.pipeline, "ref_date": run.ref_date}
    with api.trace.get_tracer(_NAME).start_as_current_span(
        f"luxor.{name}",
        context=parent,
        attributes=_attributes(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield ending
        except BaseException as error:
            description = redact(f"{type(error).__name__}: {error}")
            current.set_status(api.trace.Status(api.trace.StatusCode.ERROR, description))
            raise
        finally:
            current.set_attributes(_attributes(ending))


def _attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"luxor.{name}": value if isinstance(value, bool | int | float) else redact(str(value))
        for name, value in values.items()
        if value is not None
    }


def record_run(pipeline: str, status: str, duration_s: float, rows: int | None) -> None:
    """Add a run that ended to the metrics ``luxor.run.duration``, in seconds, and ``luxor.run.rows``."""
    if _api() is None:
        return
    duration, count = _instruments()
    attributes = {"luxor.pipeline": pipeline, "luxor.status": status}
    duration.record(duration_s, attributes)
    count.add(rows or 0, attributes)


@functools.cache
def _instruments() -> tuple[Any, Any]:
    api = _api()
    assert api is not None
    meter = api.metrics.get_meter(_NAME)
    return (
        meter.create_histogram("luxor.run.duration", unit="s", description="Seconds that a run took"),
        meter.create_counter("luxor.run.rows", unit="{row}", description="Rows that runs handed to their loads"),
    )


def configure_azure_monitor() -> None:
    """Send spans and metrics to the Application Insights that ``APPLICATIONINSIGHTS_CONNECTION_STRING`` names.

    Log lines are left to the Functions host or the console, which have them already.

    Raises
    ------
    ConfigurationError
        The extra ``otel`` is not installed, or the variable is not set.
    """
    try:
        from azure.monitor import opentelemetry as monitor
    except ImportError as error:
        raise ConfigurationError(
            "LUXOR_TELEMETRY is azure, but azure-monitor-opentelemetry is not installed.",
            hint='Install it: pip install "luxor-pipelines[otel]".',
        ) from error
    try:
        monitor.configure_azure_monitor(disable_logging=True)
    except ValueError as error:
        raise ConfigurationError(
            f"Azure Monitor could not be set up: {error}",
            hint="Set APPLICATIONINSIGHTS_CONNECTION_STRING to the connection string of Application Insights.",
        ) from error
