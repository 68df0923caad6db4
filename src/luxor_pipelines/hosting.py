"""What the functions of the Azure Functions app share; each of them makes one call into this module.

Timers: `on_timer`. HTTP: `post_run`, `get_pipelines`, `get_health`. Needs the extra ``functions``.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import azure.functions as func

from luxor_pipelines import __version__
from luxor_pipelines.errors import (
    ConflictError,
    LuxorError,
    QualityError,
    UnknownPipelineError,
    UsageError,
    redact,
)
from luxor_pipelines.operations.discovery import find_pipelines
from luxor_pipelines.operations.runs import RunReport, last_runs
from luxor_pipelines.settings import Settings

if TYPE_CHECKING:
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = ["get_health", "get_pipelines", "on_timer", "post_run"]

logger = logging.getLogger(__name__)

BODY_MAX = 4096
"""Bytes of a request's body; a reference date needs thirty."""

PROBE_S = 30.0
"""Seconds for which an answer about the lake's health is given again."""

_NAME = re.compile(r"[\w-]{1,100}", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)

# At the worker's level, INFO, the Azure SDK logs every request it makes.
logging.getLogger("azure").setLevel(logging.WARNING)


# --- timers -------------------------------------------------------------------------------------


def on_timer(mytimer: func.TimerRequest, run: Callable[[], Sequence[RunReport]]) -> None:
    """Run a function's steps and log how each ended; what is raised is logged and raised again.

    A timer that is past due, or fires twice, does no harm: runs can be repeated.
    """
    name = run.__module__.rpartition(".")[2]
    logger.info("%s started%s", name, " (past due)" if mytimer.past_due else "")
    try:
        reports = run()
    except Exception as error:
        logger.error("%s failed: %s", name, _told(error))  # noqa: TRY400 - a traceback may quote what must not be logged
        if redact(str(error)) == str(error):
            raise
        raise RuntimeError(_told(error)) from None  # the host logs what it is raised
    for report in reports:
        day = f", reference date {report.ref_date}" if report.ref_date else ""
        changes = "" if report.status != "done" else ", changed" if report.changed else ", nothing changed"
        logger.info("%s: %s %s%s%s; record %s", name, report.pipeline, report.status, day, changes, report.path)
    logger.info("%s ended", name)


# --- HTTP ---------------------------------------------------------------------------------------

Answer = tuple[int, Mapping[str, Any]]


def _answers(handler: Callable[..., Answer]) -> Callable[..., func.HttpResponse]:
    """Turn what ``handler`` returns or raises into a response in JSON."""

    @functools.wraps(handler)
    def respond(*args: Any) -> func.HttpResponse:
        try:
            status, content = handler(*args)
        except Exception as error:  # noqa: BLE001 - every error becomes an answer
            status, content = _failure(error)
            level = logging.ERROR if status >= 500 or isinstance(error, QualityError) else logging.WARNING
            logger.log(level, "%s answers %d: %s", handler.__name__, status, _told(error))
        text = json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return func.HttpResponse(text, status_code=status, headers=headers, mimetype="application/json")

    return respond


@_answers
def post_run(req: func.HttpRequest, run: Callable[[str, date | None], RunReport]) -> Answer:
    """``POST pipelines/{name}/runs`` with ``{"ref_date": "2026-10-31"}``: run, and answer with the record.

    An empty body, or no date, leaves the date to the pipeline. 400 a bad date or body, 404 no such
    pipeline, 409 it is running already or met another writer, 422 its rows did not pass their checks
    and were not written (the message lists what was found), 500 it failed.
    """
    name = req.route_params.get("name", "")
    if not _NAME.fullmatch(name):
        raise UnknownPipelineError("There is no pipeline of that name.", hint=f"There are: {_names()}.")
    return 200, run(name, _ref_date(req.get_body())).as_dict()


@_answers
def get_pipelines(req: func.HttpRequest) -> Answer:  # noqa: ARG001 - every request is the same
    """``GET pipelines``: name, description, package and last run (or null) of each pipeline."""
    lq = _lake(Settings.from_env())
    found = []
    for pipeline in find_pipelines().values():
        runs = last_runs(lq, pipeline.name, 1)
        found.append(
            {
                "name": pipeline.name,
                "description": pipeline.description,
                "package": pipeline.package,
                "last_run": runs[0].as_dict() if runs else None,
            }
        )
    return 200, {"schema_version": 1, "library_version": __version__, "pipelines": found}


@_answers
def get_health(req: func.HttpRequest) -> Answer:  # noqa: ARG001 - every request is the same
    """``GET health``: 200 when the lake can be reached, else 503; asked of the lake at most every `PROBE_S` seconds."""
    reachable = _probe()
    content = {"status": "ok" if reachable else "unavailable", "lake": "reachable" if reachable else "unreachable"}
    return 200 if reachable else 503, {**content, "library_version": __version__}


def _ref_date(body: bytes) -> date | None:
    """The reference date of a request's body; what the body says is never repeated."""
    hint = 'Send JSON like {"ref_date": "2026-10-31"}, or nothing.'
    if len(body) > BODY_MAX:
        raise UsageError(f"The body has more than {BODY_MAX:,} bytes.", hint=hint)
    if not body.strip():
        return None
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise UsageError("The body is not JSON.", hint=hint) from None
    if not isinstance(given, dict) or given.keys() - {"ref_date"}:
        raise UsageError("The body is not an object with ref_date and nothing else.", hint=hint)
    text = given.get("ref_date")
    if text is None:
        return None
    try:
        if isinstance(text, str) and _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise UsageError("ref_date is not a date.", hint=hint)


def _names() -> str:
    return ", ".join(find_pipelines())


def _failure(error: Exception) -> Answer:
    """Status and content for an error."""
    kinds = ((UnknownPipelineError, 404), (UsageError, 400), (ConflictError, 409), (QualityError, 422))
    status = next((status for kind, status in kinds if isinstance(error, kind)), 500)
    message, hint = (error.message, error.hint) if isinstance(error, LuxorError) else (redact(str(error)), "")
    return status, {"error": {"class": type(error).__name__, "message": message, "hint": hint}}


def _told(error: Exception) -> str:
    """The error's class and text, without secrets."""
    return redact(f"{type(error).__name__}: {error}")


@functools.lru_cache(maxsize=1)
def _lake(settings: Settings) -> LuxorQuery:
    """The lake of these settings, opened once a process: connections are worth keeping."""
    from luxor_pipelines.query.luxor_query import LuxorQuery

    return LuxorQuery(settings=settings)


class _Probe:
    """Whether the lake can be reached: asked by one request at a time, and remembered for a while."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turn = threading.Lock()
        self._known: tuple[Settings, float, bool] | None = None

    def __call__(self) -> bool:
        try:
            settings = Settings.from_env()
        except LuxorError as error:
            logger.warning("health: %s", _told(error))
            return False
        known = self._known
        if known and known[0] == settings and (self._clock() < known[1] or self._turn.locked()):
            return known[2]  # fresh, or somebody is asking: anybody may call this, and none shall queue up
        with self._turn:
            if self._known is known:
                self._known = (settings, self._clock() + PROBE_S, self._ask(settings))
            return self._known[2] if self._known else False

    @staticmethod
    def _ask(settings: Settings) -> bool:
        try:
            _lake(settings).lake.storage.list("system/locks/runs")
        except Exception as error:  # noqa: BLE001 - whatever it is, the lake was not reached
            logger.warning("health: %s", _told(error))
            return False
        return True


_probe = _Probe()
