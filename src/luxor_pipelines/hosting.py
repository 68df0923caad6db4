"""The part of the Azure Functions app that its functions share: each makes one call into this module.

Timers: `on_timer`. HTTP: `post_run`, `get_run`, `get_pipelines`, `get_health`. Queue: `on_queue`, `on_poison`.
Needs the extra ``functions``.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import azure.functions as func

from luxor_pipelines import __version__
from luxor_pipelines.errors import (
    ConfigurationError,
    ConflictError,
    LuxorError,
    NotFoundError,
    QualityError,
    RunInProgressError,
    UnknownPipelineError,
    UsageError,
    holds_secret,
    redact,
)
from luxor_pipelines.operations.discovery import find_pipelines, parse_params
from luxor_pipelines.operations.records import RunReport, last_runs, read_run
from luxor_pipelines.operations.runs import RUN_LEASES, fail_run, queue_run
from luxor_pipelines.operations.stopping import handle_sigterm
from luxor_pipelines.settings import Settings
from luxor_pipelines.telemetry import TriggerKind, configure_azure_monitor, name_runs, triggered_by

if TYPE_CHECKING:
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = [
    "get_health",
    "get_pipelines",
    "get_run",
    "on_poison",
    "on_queue",
    "on_timer",
    "post_run",
    "prepare_worker",
]

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

BODY_MAX = 16_384
"""Bytes of a request's body; a reference date needs thirty."""

PROBE_S = 30.0
"""Seconds for which an answer about the lake's health is given again."""

_NAME = re.compile(r"[\w-]{1,100}", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def prepare_worker() -> None:
    """Set this worker process up: what its log lines say, where traces go, and what SIGTERM does.

    The worker imports the functions, and so calls this, in its main thread and after it has attached its log handler.
    """
    # At the worker's level, INFO, the Azure SDK logs every request it makes.
    logging.getLogger("azure").setLevel(logging.WARNING)
    handle_sigterm()
    try:
        name_runs(logging.getLogger().handlers, Settings.read("log_format"))
        if Settings.read("telemetry") == "azure":
            configure_azure_monitor()
    except ConfigurationError as error:
        logger.error("%s", error)  # noqa: TRY400 - the functions are to load all the same, and each run says it again


# --- timers -------------------------------------------------------------------------------------


def on_timer(mytimer: func.TimerRequest, run: Callable[[], Sequence[RunReport]], context: func.Context) -> None:
    """Run a function's steps and log how each ended; an error is logged and raised again.

    A timer that is past due, or fires twice, does no harm: runs can be repeated.
    """
    name = run.__module__.rpartition(".")[2]
    logger.info("%s started%s", name, " (past due)" if mytimer.past_due else "")
    with _triggered_by("timer", context):
        reports = _tell_failure(name, run)
    for report in reports:
        day = f", reference date {report.ref_date}" if report.ref_date else ""
        changes = "" if report.status != "done" else ", changed" if report.changed else ", nothing changed"
        logger.info("%s: %s %s%s%s; record %s", name, report.pipeline, report.status, day, changes, report.path)
    logger.info("%s ended", name)


def _tell_failure(name: str, work: Callable[[], Result]) -> Result:
    """Do the work; log an error and raise it again, so that the host tries again."""
    try:
        return work()
    except Exception as error:
        logger.error("%s failed: %s", name, _describe(error))  # noqa: TRY400 - a traceback may quote what must not be logged
        if not holds_secret(error):
            raise
        failure = RuntimeError(_describe(error))
    raise failure  # the host logs the whole chain of an error: this one has none


# --- the queue ----------------------------------------------------------------------------------


def on_queue(
    message: func.QueueMessage, again: func.Out[str], run: Callable[[str], RunReport], context: func.Context
) -> None:
    """Do the queued run whose record the message names; the host tries again after an error that is raised.

    A message whose run is done is dropped. A message that meets a live run of its pipeline and date is put back,
    after that run was watched for up to 30 seconds. An error that a retry would meet again is logged, not raised.
    """
    path = message.get_body().decode("utf-8", "replace")

    def work() -> RunReport | None:
        try:
            return run(path)
        except RunInProgressError as error:
            logger.info("run_pipeline_queue: %s %s is put back into the queue", error.message, path)
            return None

    try:
        with _triggered_by("queue", context):
            report = _tell_failure("run_pipeline_queue", work)
    except (UsageError, QualityError):
        logger.info("run_pipeline_queue: %s is not tried again: the result would be the same", path)
        return
    if report is None:
        again.set(path)
    else:
        logger.info("run_pipeline_queue: %s %s; record %s", report.pipeline, report.status, report.path)


def on_poison(message: func.QueueMessage, fail: Callable[[str, Exception], RunReport], context: func.Context) -> None:
    """Record as failed the run of a message that the host has given up."""
    path = message.get_body().decode("utf-8", "replace")
    error = TimeoutError("The host has given the run up: each of its tries failed, or was ended before it was done.")
    with _triggered_by("queue", context):
        report = _tell_failure("run_pipeline_poison", partial(fail, path, error))
    logger.error("run_pipeline_poison: %s %s; record %s", report.pipeline, report.status, path)


# --- HTTP ---------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """A response before it is written as JSON."""

    status: int
    content: Mapping[str, Any]
    headers: Mapping[str, str] = {}


class RunRequest(NamedTuple):
    """The run that a request asks for, and whether it is to be queued."""

    ref_date: date | None
    params: Mapping[str, Any]
    queued: bool


def _answers(handler: Callable[..., Answer]) -> Callable[..., func.HttpResponse]:
    """Turn what ``handler`` returns or raises into a response in JSON."""

    @functools.wraps(handler)
    def respond(*args: Any) -> func.HttpResponse:
        try:
            answer = handler(*args)
        except Exception as error:  # noqa: BLE001 - every error becomes an answer
            answer = _error_answer(error)
            level = logging.ERROR if answer.status >= 500 or isinstance(error, QualityError) else logging.WARNING
            logger.log(level, "%s answers %d: %s", handler.__name__, answer.status, _describe(error))
        text = json.dumps(answer.content, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **answer.headers}
        return func.HttpResponse(text, status_code=answer.status, headers=headers, mimetype="application/json")

    return respond


@_answers
def post_run(
    req: func.HttpRequest,
    message: func.Out[str],
    run: Callable[[str, date | None, Mapping[str, Any]], RunReport],
    context: func.Context,
) -> Answer:
    """``POST pipelines/{name}/runs`` with ``{"ref_date": "2026-10-31"}``: run, and answer with the record.

    The body may also have ``force`` (true or false) and ``params`` (an object), which are what ``--force`` and
    ``--param`` are on the command line; ``ref_date`` and ``force`` may stand in the query string instead. Without
    a date the pipeline chooses it. With ``"async": true`` or the header ``Prefer: respond-async`` the run is queued,
    ``message`` takes the path of its record, and the answer is 202 with the run's place in ``Location``.

    400 a bad date, parameter or body, 404 no such pipeline, 405 another method than POST, 409 it is running already
    or met another writer, 422 its rows did not pass their checks and were not written (the message lists what the
    checks saw), 500 it failed.
    """
    name = req.route_params.get("name", "")
    if not _NAME.fullmatch(name):
        raise UnknownPipelineError("There is no pipeline of that name.", hint=f"There are: {_names()}.")
    if req.method != "POST":
        error = UsageError(
            f"{req.method} is not allowed here.", hint="POST runs the pipeline; GET /api/pipelines shows its last run."
        )
        return _error_answer(error)._replace(status=405, headers={"Allow": "POST"})
    request = _parse_request(name, req)
    with _triggered_by("http", context):
        if not request.queued:
            return Answer(200, run(name, request.ref_date, request.params).as_dict())
        lq = _lake(Settings.from_env())
        report = queue_run(name, ref_date=request.ref_date, lake=lq, **request.params)
        try:
            message.set(report.path)
        except Exception as error:
            fail_run(report.path, error, lake=lq)
            raise
    place = report.path.removeprefix("system/").removesuffix(".json")
    return Answer(202, report.as_dict(), {"Location": f"/api/{place}", "Preference-Applied": "respond-async"})


@_answers
def get_run(req: func.HttpRequest) -> Answer:
    """``GET runs/{pipeline}/{run}``: the record of a run, where ``Location`` of `post_run` leads. 404 no such run."""
    pipeline, run = req.route_params.get("pipeline", ""), req.route_params.get("run", "")
    try:
        report = read_run(_lake(Settings.from_env()), pipeline, run)
    except NotFoundError as error:
        return _error_answer(error)._replace(status=404)
    return Answer(200, report.as_dict())


@_answers
def get_pipelines(req: func.HttpRequest) -> Answer:  # noqa: ARG001 - every request is the same
    """``GET pipelines``: name, description, package and last run (or null) of each pipeline."""
    lq = _lake(Settings.from_env())
    pipelines = []
    for pipeline in find_pipelines().values():
        runs = last_runs(lq, pipeline.name, 1)
        pipelines.append(
            {
                "name": pipeline.name,
                "description": pipeline.description,
                "package": pipeline.package,
                "last_run": runs[0].as_dict() if runs else None,
            }
        )
    return Answer(200, {"schema_version": 1, "library_version": __version__, "pipelines": pipelines})


@_answers
def get_health(req: func.HttpRequest) -> Answer:  # noqa: ARG001 - every request is the same
    """``GET health``: 200 when the lake can be reached, else 503; asks the lake at most every `PROBE_S` seconds."""
    reachable = _probe()
    content = {"status": "ok" if reachable else "unavailable", "lake": "reachable" if reachable else "unreachable"}
    return Answer(200 if reachable else 503, {**content, "library_version": __version__})


_BODY_HINT = 'Send JSON like {"ref_date": "2026-10-31", "force": false, "params": {}, "async": false}, or nothing.'
_KEY_NAMES = {"code", "clientId"}
"""Names under which Azure Functions takes its own key in a query string."""


def _parse_request(name: str, req: func.HttpRequest) -> RunRequest:
    """Read body and query string; an error message never repeats their values."""
    body = _parse_body(req.get_body())
    query = {key: value for key, value in req.params.items() if key not in _KEY_NAMES}
    if query.keys() - {"ref_date", "force", "async"}:
        raise UsageError(
            "The query string has a parameter that is not ref_date, force or async.",
            hint="Send other parameters of the pipeline in the body, under params.",
        )
    if twice := sorted(query.keys() & body.keys()):
        raise UsageError(f"{' and '.join(twice)} in the body and in the query string.", hint="Send it once.")
    fields = {**body, **query}
    params = {} if fields.get("params") is None else fields["params"]
    texts = _parameter_texts(params) + (["force=true"] if _parse_flag(fields, "force") else [])
    preferences = {preference.strip().lower() for preference in req.headers.get("Prefer", "").split(",")}
    queued = _parse_flag(fields, "async") or "respond-async" in preferences
    return RunRequest(_parse_date(fields.get("ref_date")), parse_params(name, texts) if texts else {}, queued)


def _parse_flag(fields: Mapping[str, Any], name: str) -> bool:
    flag = {"true": True, "false": False}.get(value) if isinstance(value := fields.get(name, False), str) else value
    if not isinstance(flag, bool):
        raise UsageError(f"{name} is neither true nor false.", hint=_BODY_HINT)
    return flag


def _parse_body(body: bytes) -> dict[str, Any]:
    if len(body) > BODY_MAX:
        raise UsageError(f"The body has more than {BODY_MAX:,} bytes.", hint=_BODY_HINT)
    if not body.strip():
        return {}
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise UsageError("The body is not JSON.", hint=_BODY_HINT) from None
    if not isinstance(content, dict) or content.keys() - {"ref_date", "force", "params", "async"}:
        raise UsageError("The body is not an object of ref_date, force, params and async.", hint=_BODY_HINT)
    return content


def _parse_date(text: Any) -> date | None:
    if text is None:
        return None
    try:
        if isinstance(text, str) and _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise UsageError("ref_date is not a date.", hint=_BODY_HINT)


def _parameter_texts(params: Any) -> list[str]:
    """Write parameters as ``--param`` takes them, so that both are parsed and refused alike."""
    if isinstance(params, dict):
        texts = {key: _parameter_text(value) for key, value in params.items()}
        if not any(text is None or "=" in key for key, text in texts.items()):
            return [f"{key}={text}" for key, text in texts.items()]
    raise UsageError("params is not an object of texts, numbers, flags and lists of texts.", hint=_BODY_HINT)


def _parameter_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) and "," not in item for item in value):
        return ",".join(value)
    return None


def _triggered_by(kind: TriggerKind, context: func.Context) -> AbstractContextManager[None]:
    return triggered_by(kind, context.invocation_id, context.trace_context.trace_parent)


def _names() -> str:
    return ", ".join(find_pipelines())


def _error_answer(error: Exception) -> Answer:
    """Return the status for an error, with its class, message and hint."""
    kinds = ((UnknownPipelineError, 404), (UsageError, 400), (ConflictError, 409), (QualityError, 422))
    status = next((status for kind, status in kinds if isinstance(error, kind)), 500)
    message, hint = (error.message, error.hint) if isinstance(error, LuxorError) else (redact(str(error)), "")
    return Answer(status, {"error": {"class": type(error).__name__, "message": message, "hint": hint}})


def _describe(error: Exception) -> str:
    """Return the error's class and text, without secrets."""
    return redact(f"{type(error).__name__}: {error}")


@functools.lru_cache(maxsize=1)
def _lake(settings: Settings) -> LuxorQuery:
    """Return the lake of these settings, opened once a process: connections are worth keeping."""
    from luxor_pipelines.query.luxor_query import LuxorQuery

    return LuxorQuery(settings=settings)


class _Probe:
    """Tells whether the lake can be reached: one request at a time asks, and the answer is kept for a while."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turn = threading.Lock()
        self._last: tuple[Settings, float, bool] | None = None

    def __call__(self) -> bool:
        try:
            settings = Settings.from_env()
        except LuxorError as error:
            logger.warning("health: %s", _describe(error))
            return False
        last = self._last
        if last and last[0] == settings and (self._clock() < last[1] or self._turn.locked()):
            return last[2]  # anybody may call this: while one request asks the lake, the others take the last answer
        with self._turn:
            if self._last is last:
                self._last = (settings, self._clock() + PROBE_S, self._ask(settings))
            return self._last[2] if self._last else False

    @staticmethod
    def _ask(settings: Settings) -> bool:
        try:
            _lake(settings).lake.storage.list(RUN_LEASES)
        except Exception as error:  # noqa: BLE001 - whatever it is, the lake was not reached
            logger.warning("health: %s", _describe(error))
            return False
        return True


_probe = _Probe()

if sys.modules.keys() & {"azure_functions_worker", "azure_functions_runtime_v1"}:
    prepare_worker()
