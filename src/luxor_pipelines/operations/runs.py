"""Run a pipeline, and leave a record of the run in the lake.

The command line, the Functions and notebooks all come through the one `run`. A record is a JSON
file ``system/runs/<pipeline>/<UTC stamp>-<id>.json``: written when the run starts, replaced when
it ends. One that was killed leaves ``running`` behind for ever; `last_runs` calls it ``died`` when it
no longer holds its lease.

A run can be queued first (`queue_run`) and done later by another process (`run_queued`); its record is written when
it is queued, as ``queued``.

One run of a pipeline and reference date goes on at a time, whatever started it: a lease in the lake,
``system/locks/runs/<pipeline>/<date>.json``, sees to that. A run that stalled and was succeeded ends in a
`LockLostError`; `luxor_pipelines.lake.storage.lease` says what it may still have written.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from luxor_pipelines import __version__, telemetry
from luxor_pipelines.errors import (
    AccessError,
    ConflictError,
    LuxorError,
    NotFoundError,
    RunInProgressError,
    UsageError,
    redact,
)
from luxor_pipelines.lake.storage.lease import LEASES, Lease, fenced, holder_of
from luxor_pipelines.operations.discovery import check_params, find_pipelines, get_pipeline
from luxor_pipelines.operations.stopping import Terminated, stoppable
from luxor_pipelines.pipelines import PipelineResult

if TYPE_CHECKING:
    from luxor_pipelines.ingest import LoadResult
    from luxor_pipelines.lake.storage.base import BlobInfo
    from luxor_pipelines.operations.discovery import Pipeline
    from luxor_pipelines.pipelines import JSON
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = [
    "SCHEMA_VERSION",
    "RunReport",
    "fail_run",
    "find_pipelines",
    "last_runs",
    "queue_run",
    "read_run",
    "run",
    "run_queued",
]

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
"""Version of the run records' layout."""

_FOLDER = "system/runs"
_LEASES = f"{LEASES}/runs"
_RUN = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{12}", re.ASCII)
_RECORD = re.compile(rf"{_FOLDER}/[\w-]{{1,100}}/{_RUN.pattern}\.json", re.ASCII)
_QUEUED_MAX = timedelta(hours=1)
"""How long a run may be queued before it counts as lost."""
_SECRET_NAME = re.compile(r"key|secret|password|token|connection", re.IGNORECASE)


@dataclass(frozen=True)
class RunReport:
    """One run of a pipeline, as it is recorded in the lake.

    Attributes
    ----------
    status
        ``queued``, ``running``, ``done``, ``failed``, or ``skipped`` because another run was at it. A run that is
        recorded as running but gives no sign of life, or that was queued an hour ago and not begun, is ``died``:
        `last_runs` and `read_run` say so, no record does.
    ref_date
        The reference date the pipeline worked with; where it says none, the one it was given.
    now
        The moment the pipeline was told it is; else the same as ``started_at``.
    queued_at
        When it was queued (UTC); None for one that was run at once.
    started_at, ended_at, duration_s
        When it really ran (UTC), and for how many seconds; of one that is queued, when it was queued.
    rows
        Rows handed to the loads, changed or not.
    inputs
        Version of each table that was read.
    error
        ``class``, ``message`` and ``hint`` of what it failed with.
    path
        Where in the lake the record is.
    lock
        Where the lease lies that the run holds while it goes on; None for one that was skipped.
    trigger, invocation_id, trace_id
        What started it (see `telemetry.Trigger`), and under which ids logs and traces in Azure know it.
    unsettled
        Files whose last write by a failed run may still land, since the lake did not say how it went.
    """

    id: str
    pipeline: str
    status: Literal["queued", "running", "done", "failed", "skipped", "died"]
    ref_date: date | None
    now: datetime
    started_at: datetime
    path: str
    queued_at: datetime | None = None
    ended_at: datetime | None = None
    duration_s: float | None = None
    rows: int | None = None
    loads: tuple[LoadResult, ...] = ()
    warnings: tuple[str, ...] = ()
    details: Mapping[str, JSON] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, JSON] = field(default_factory=dict)
    error: Mapping[str, str] | None = None
    lock: str | None = None
    unsettled: tuple[str, ...] = ()
    trigger: str = ""
    invocation_id: str | None = None
    trace_id: str | None = None
    library_version: str = __version__
    schema_version: int = SCHEMA_VERSION

    @property
    def changed(self) -> bool:
        """Whether the run changed any table."""
        return any(load.changed for load in self.loads)

    def as_dict(self) -> dict[str, JSON]:
        """The record, ready for JSON and without secrets."""
        record = {name: getattr(self, name) for name in ("schema_version", *self.__dataclass_fields__)}
        record["loads"] = [asdict(load) for load in self.loads]
        return {name: _json(value) for name, value in record.items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> RunReport:
        """The report that `as_dict` wrote; what a later version may have added is left out.

        Raises
        ------
        ValueError, TypeError, KeyError
            It is no record: a field is missing, or of another type than it should be.
        """
        return cls(**{name: read(record[name]) for name, read in _FIELDS.items() if name in record or name in _NEEDED})


def run(
    name: str,
    *,
    ref_date: date | datetime | str | None = None,
    lq: LuxorQuery | None = None,
    lake: str | None = None,
    now: datetime | None = None,
    if_running: Literal["error", "skip", "wait"] = "error",
    **params: Any,
) -> RunReport:
    """Run a pipeline and record the run in the lake.

    Parameters
    ----------
    name
        One of `find_pipelines`.
    ref_date
        A calendar date (of São Paulo, for pipelines that compare it with today) or ISO text like
        ``2026-10-31``; default the pipeline's own choice.
    lq, lake
        The lake, as an object or as a URL; default the one the environment names.
    now
        The moment to work as of, with a time zone; default the present.
    if_running
        What to do when the same pipeline is running already for the same reference date: raise an
        error and record nothing, or return (and record) a report whose status is ``skipped``. With ``wait`` the
        other run is watched first, and skipped for only when it is seen to be alive; one that gives no sign of
        life is succeeded, after `Settings.run_lock_ttl` and a second at most.
    **params
        What else the pipeline's ``run`` accepts.

    Raises
    ------
    UsageError
        A pipeline, date or parameter that is not known, or that the pipeline refuses; nothing has been recorded.
    ConfigurationError
        No lake; nothing has been recorded.
    RunInProgressError
        The same pipeline is running already for the same reference date; nothing has been recorded.
    LockLostError
        The run stalled for so long that another took its place, or the process was told to end.
    LuxorError
        What the pipeline raises, after it has been recorded.
    """
    job = _prepare(name, ref_date, lq, lake, now, params)
    return _start(job, if_held="error" if if_running == "error" else "skip", wait=if_running == "wait")


def queue_run(
    name: str,
    *,
    ref_date: date | datetime | str | None = None,
    lq: LuxorQuery | None = None,
    lake: str | None = None,
    **params: Any,
) -> RunReport:
    """Record a run as ``queued``; whoever is given the record's path does it with `run_queued`.

    The reference date is resolved now. Parameters are as of `run`, and so are the errors.

    Raises
    ------
    UsageError
        Also when a parameter is, or looks like, a secret: records hold none.
    """
    job = _prepare(name, ref_date, lq, lake, None, params)
    report = replace(job.report, status="queued", queued_at=job.report.started_at)
    if json.loads(json.dumps(dict(params), default=str)) != report.params:
        raise UsageError(
            "A parameter is, or looks like, a secret, and is not kept until a queued run begins.",
            hint="Run the pipeline at once, or let it read the secret from the environment.",
        )
    _save(job.lq, report, None)
    logger.info("%s is queued; record %s", report.pipeline, report.path)
    return report


def run_queued(path: str, *, lq: LuxorQuery | None = None) -> RunReport:
    """Do the run that `queue_run` recorded at ``path``, and return how it ended; one that is done is not done again.

    A run that failed or died can be done again: its record then has the latest try.

    Raises
    ------
    UsageError
        ``path`` is no record's, or the lake has no such record.
    RunInProgressError
        Another run of the pipeline and reference date is alive; nothing was done.
    LuxorError
        What the pipeline raises, after it has been recorded.
    """
    if lq is None:
        from luxor_pipelines.query.luxor_query import LuxorQuery

        lq = LuxorQuery()
    queued, version = _read_queued(lq, path)
    if queued.status == "done":
        logger.info("%s is done already; record %s", queued.pipeline, path)
        return queued
    job = _prepare(queued.pipeline, queued.ref_date, lq, None, None, queued.params)
    report = replace(job.report, id=queued.id, path=path, queued_at=queued.queued_at)
    return _start(replace(job, report=report, version=version), if_held="error", wait=True)


def fail_run(path: str, error: Exception, *, lq: LuxorQuery | None = None) -> RunReport:
    """Record that a queued run failed with ``error``; one that is alive, done or failed already stays as it is.

    Raises
    ------
    UsageError
        ``path`` is no record's, or the lake has no such record.
    """
    if lq is None:
        from luxor_pipelines.query.luxor_query import LuxorQuery

        lq = LuxorQuery()
    queued, version = _read_queued(lq, path)
    report = _judged(lq, queued)
    if report.status not in ("queued", "died"):
        return report
    report = replace(queued, status="failed", ended_at=lq.now(), error=_json(_described(error)))
    _save(lq, report, version)
    logger.error("%s failed: %s; record %s", report.pipeline, redact(str(error)), path)
    return report


def _read_queued(lq: LuxorQuery, path: str) -> tuple[RunReport, str]:
    if not _RECORD.fullmatch(path):
        raise UsageError("That is not the path of a run's record.", hint=f"One is like {_FOLDER}/name/STAMP-ID.json.")
    try:
        blob = lq.lake.storage.read(path)
        return RunReport.from_dict(json.loads(blob.data) | {"path": path}), blob.version
    except NotFoundError as error:
        raise UsageError(f"There is no record {path}.", hint="Was it deleted, or is it in another lake?") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(f"{path} is not a run record.", hint="Start the run anew.") from error


@dataclass(frozen=True)
class _Job:
    """A run whose arguments have been checked, and what it needs."""

    lq: LuxorQuery
    report: RunReport
    work: Callable[[], PipelineResult]
    scrub: Callable[[Any], Any]
    clock: float
    chosen: bool
    """Whether the caller chose a date or parameters."""
    version: str | None = None
    """The record's version, where it is written already."""


def _prepare(
    name: str,
    ref_date: date | datetime | str | None,
    lq: LuxorQuery | None,
    lake: str | None,
    now: datetime | None,
    params: Mapping[str, Any],
) -> _Job:
    """Check the arguments of a run, and resolve its reference date."""
    pipeline = get_pipeline(name)
    day = None if ref_date is None else _as_date(ref_date)
    if now is not None and now.utcoffset() is None:
        raise UsageError(f"now ({now}) has no time zone.", hint="Give it one, such as datetime.UTC.")
    if lq is not None and lake is not None:
        raise UsageError("Both lq and lake are given.", hint="Give one of them.")
    function = pipeline.load()
    check_params(pipeline, function, params)
    if lq is None:
        from luxor_pipelines.query.luxor_query import LuxorQuery

        lq = LuxorQuery(lake=lake)

    started, clock = lq.now(), time.perf_counter()
    now = started if now is None else now.astimezone(UTC)
    scrub = _scrubber(params)
    ident, trigger = uuid.uuid4().hex[:12], telemetry.trigger()
    resolved = _reference_date(function, day, lq.lake.today(now))
    report = RunReport(
        id=ident,
        pipeline=pipeline.name,
        status="running",
        ref_date=resolved or day,
        now=now,
        started_at=started,
        path=f"{_FOLDER}/{pipeline.name}/{started:%Y%m%dT%H%M%SZ}-{ident}.json",
        params={key: "***" if _SECRET_NAME.search(key) else scrub(value) for key, value in params.items()},
        lock=f"{_LEASES}/{pipeline.name}/{resolved or 'any'}.json",
        trigger=trigger.kind,
        invocation_id=trigger.invocation_id,
        trace_id=trigger.trace_id,
    )
    work = partial(function, day, lq=lq, now=now, **params)
    return _Job(lq, report, lambda: _checked(pipeline, work()), scrub, clock, chosen=day is not None or bool(params))


def _start(job: _Job, *, if_held: Literal["error", "skip"], wait: bool) -> RunReport:
    """Do a job under its lease, or see that another run holds it; log lines and spans name the run."""
    report = job.report
    day = None if report.ref_date is None else str(report.ref_date)
    with (
        telemetry.run_context(telemetry.RunContext(report.id, report.pipeline, day)),
        telemetry.span("run") as ending,
    ):
        report = _hold_and_work(job, if_held, wait)
        ending |= {"status": report.status, "rows": report.rows}
        return report


def _hold_and_work(job: _Job, if_held: Literal["error", "skip"], wait: bool) -> RunReport:
    lq, report = job.lq, job.report
    assert report.lock is not None
    about = {
        "run": report.id,
        "record": report.path,
        "started_at": report.started_at.isoformat(),
        "host": platform.node(),
        "process": os.getpid(),
    }
    lease = Lease(lq.lake.storage, report.lock, ttl=lq.settings.run_lock_ttl, about=about)
    holder = lease.acquire(wait=wait)
    if holder is not None:
        day = "" if report.lock.endswith("/any.json") else f" for {report.ref_date}"
        what = f"{report.pipeline} is running already{day}"
        busy = f"{what} (run {holder.about.get('run', 'unknown')})."
        if if_held == "error":
            raise RunInProgressError(
                busy, hint=f"Try again when it has ended; one that has died is given up after {holder.ttl:.0f} s."
            )
        report = replace(report, status="skipped", ended_at=lq.now(), duration_s=0.0, warnings=(busy,), lock=None)
        _save(lq, report, None)
        logger.warning("%s Skipped; record %s", busy, report.path)
        return report
    with lease, fenced(lease):
        _account(lq, lease)
        under_way = _UnderWay(job, lease)
        with stoppable(under_way):
            return under_way.work()


def _account(lq: LuxorQuery, lease: Lease) -> None:
    """Look which holders that the lease has lost have ended by now, and warn of the others."""

    def has_ended(about: Mapping[str, Any]) -> bool:
        path = about.get("record")
        report = next(_read_records(lq, [path]), None) if isinstance(path, str) and path.startswith(_FOLDER) else None
        # A queued run's record has its latest try; an earlier one has not said that it ended.
        same = report is not None and report.started_at.isoformat() == about.get("started_at")
        return report is not None and same and report.status != "running" and not report.unsettled

    lease.account(has_ended)
    for about in lease.lost_holders:
        logger.info(
            "Run %s lost %s and has not said that it ended; should it wake up, what it writes is refused.",
            about.get("run", "unknown"),
            lease.path,
        )


class _UnderWay:
    """A run that holds its lease, and its record: written when it starts, and once when it ends."""

    def __init__(self, job: _Job, lease: Lease) -> None:
        self._job = job
        self._lq = job.lq
        self._report = job.report
        self._lease = lease
        self._scrub = job.scrub
        self._turn = threading.Lock()
        self._ended = False
        self._version = job.version

    def work(self) -> RunReport:
        """Do the work and keep its record, from ``running`` to ``done`` or ``failed``."""
        report = self._report
        self._version = _save(self._lq, report, self._version)
        day = report.ref_date or "not given, the pipeline's own choice"
        logger.info("%s: reference date %s", report.pipeline, day)
        try:
            result = self._job.work()
            self._lease.check()  # a run that was succeeded has failed, whatever it still did
        except BaseException as error:
            self._fail(error)
            raise
        done = self._end(
            status="done",
            ref_date=_resolved(result.details, report.ref_date),
            rows=result.rows,
            loads=tuple(result.loads),
            warnings=tuple(self._scrub([*result.warnings])),
            details=self._scrub(result.details),
        )
        if done is None:  # it was stopped since
            self._lease.check()
            raise AssertionError("a run that was stopped has no lease")
        logger.info("%s done in %.1f s; record %s", done.pipeline, done.duration_s, done.path)
        return done

    def stop(self, timeout: float) -> bool:
        """Write nothing more, record the failure and release the lease; False when a write did not end in time."""
        error = Terminated()
        if not self._lease.close(str(error), timeout=timeout):
            return False
        self._fail(error)
        self._lease.release()
        return True

    def _end(self, **changes: Any) -> RunReport | None:
        """Write the record for the last time; None where that was done already."""
        with self._turn:
            if self._ended:
                return None
            duration = round(time.perf_counter() - self._job.clock, 3)
            report = replace(
                self._report,
                ended_at=self._lq.now(),
                duration_s=duration,
                inputs=self._lq.versions(),
                unsettled=tuple(sorted(self._lease.unsettled)),
                **changes,
            )
            _save(self._lq, report, self._version)
            self._ended = True
            telemetry.record_run(report.pipeline, report.status, duration, report.rows)
            return report

    def _withdraw(self) -> None:
        """Delete the record: a date or parameter that the pipeline refuses is no run that failed."""
        with self._turn:
            if self._version is not None:
                self._lq.lake.storage.delete(self._report.path, expected=self._version)
            self._ended = True

    def _fail(self, error: BaseException) -> None:
        report = self._report
        try:
            if isinstance(error, UsageError) and self._job.chosen and report.queued_at is None:
                return self._withdraw()
            recorded = self._end(status="failed", error=self._scrub(_described(error)))
        except Exception as problem:  # noqa: BLE001 - what the run failed with is what must be heard
            logger.error("%s failed, and that could not be recorded: %s", report.pipeline, problem)  # noqa: TRY400
        else:
            if recorded is not None:
                logger.info("%s failed (%s); record %s", report.pipeline, type(error).__name__, report.path)


def _reference_date(function: Callable[..., PipelineResult], day: date | None, today: date) -> date | None:
    """What the pipeline makes of the date it is given; None for one whose work does not depend on it."""
    resolve = getattr(inspect.getmodule(function), "reference_date", None)
    return None if resolve is None else _as_date(resolve(day, today))


def _as_date(value: date | datetime | str) -> date:
    from luxor_pipelines.market.periods import as_date  # brings pandas

    return as_date(value)


def _resolved(details: Mapping[str, Any], given: date | None) -> date | None:
    try:
        return _as_date(details["ref_date"]) if details.get("ref_date") else given
    except UsageError:
        logger.warning("The pipeline names %r as its reference date.", details["ref_date"])
        return given


def _checked(pipeline: Pipeline, result: Any) -> PipelineResult:
    if not isinstance(result, PipelineResult):
        raise TypeError(f"{pipeline.target} returned a {type(result).__name__}, not a PipelineResult")
    return result


def _described(error: BaseException) -> dict[str, str]:
    message = error.message if isinstance(error, LuxorError) else str(error)
    hint = error.hint if isinstance(error, LuxorError | Terminated) else ""
    return {"class": type(error).__name__, "message": message, "hint": hint}


def _save(lq: LuxorQuery, report: RunReport, expected: str | None) -> str:
    text = json.dumps(report.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    return lq.lake.storage.write(report.path, text.encode("utf-8", "backslashreplace"), expected=expected)


def _scrubber(params: Mapping[str, Any]) -> Callable[[Any], Any]:
    """A function that makes a value ready for JSON, without the secrets among ``params``."""
    secrets = [str(value) for key, value in params.items() if _SECRET_NAME.search(key) and len(str(value)) > 3]

    def scrub(value: Any) -> Any:
        if isinstance(value, str):
            for secret in secrets:
                value = value.replace(secret, "***")
            return redact(value)
        if isinstance(value, dict):
            return {scrub(name): scrub(each) for name, each in value.items()}
        return [scrub(each) for each in value] if isinstance(value, list) else value

    return lambda value: scrub(_json(value))


def _json(value: Any) -> Any:
    """``value`` in JSON's types, redacted text by text (in finished JSON a mask could swallow a quote)."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {redact(str(name)): _json(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_json(each) for each in value]
    return _json(value.item()) if hasattr(value, "item") else redact(str(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where text should be")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"a {type(value).__name__} where a number should be")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a {type(value).__name__} where a whole number should be")
    return value


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    if moment.utcoffset() is None:
        raise ValueError("a time without a zone")
    return moment.astimezone(UTC)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"a {type(value).__name__} where a list should be")
    return tuple(map(_text, value))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"a {type(value).__name__} where an object should be")
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        level = [each for inner in level for each in (inner.values() if isinstance(inner, dict) else inner)]
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return value
    raise ValueError("an object nested too deeply")


def _text_by_name(value: Any) -> dict[str, str]:
    return {name: _text(text) for name, text in _object(value).items()}


def _error(value: Any) -> dict[str, str]:
    error = _text_by_name(value)
    return {name: error[name] for name in ("class", "message", "hint")}


def _loads(value: Any) -> tuple[LoadResult, ...]:
    from luxor_pipelines.ingest import LoadResult

    if not isinstance(value, list):
        raise TypeError(f"a {type(value).__name__} where a list should be")
    version, counts = _optional(_text), ("inserted", "updated", "unchanged", "deleted")
    return tuple(
        LoadResult(
            table=_text(load["table"]),
            **{name: _count(load[name]) for name in counts},
            partitions=_texts(load["partitions"]),
            version_before=version(load["version_before"]),
            version_after=version(load["version_after"]),
        )
        for load in map(_object, value)
    )


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


_DEEPEST = 50
"""Levels of a record's details; what is nested more deeply is no record of ours, and could not be printed."""
_NEEDED = ("id", "pipeline", "status", "ref_date", "now", "started_at", "path")
_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("id", "pipeline", "status", "path", "library_version"), _text),
    "ref_date": _optional(lambda value: date.fromisoformat(_text(value))),
    **dict.fromkeys(("now", "started_at"), _moment),
    **dict.fromkeys(("queued_at", "ended_at"), _optional(_moment)),
    "duration_s": _optional(_number),
    "rows": _optional(_count),
    "loads": _loads,
    **dict.fromkeys(("warnings", "unsettled"), _texts),
    **dict.fromkeys(("details", "params"), _object),
    "inputs": _text_by_name,
    "error": _optional(_error),
    **dict.fromkeys(("lock", "invocation_id", "trace_id"), _optional(_text)),
    "trigger": _text,
    "schema_version": _count,
}
"""How each field of a record is read back, and checked."""


def last_runs(lq: LuxorQuery, name: str | None = None, limit: int | None = 20) -> list[RunReport]:
    """The most recent runs, newest first.

    One that is recorded as running, but whose lock is gone, somebody else's, or past its promise, is
    given the status ``died``; its record stays as it is.

    Parameters
    ----------
    name
        Only this pipeline's.
    limit
        How many; None for all there are.

    Raises
    ------
    UnknownPipelineError
        There are no runs of that name, nor is there such a pipeline.
    """
    name = None if name is None else name.strip().lower().replace("-", "_")
    found = [
        info for info in lq.lake.storage.list(_FOLDER if name is None else f"{_FOLDER}/{name}") if _is_record(info)
    ]
    if name is not None and not found:
        get_pipeline(name)
    found.sort(key=lambda info: (_stamp(info.path), info.modified), reverse=True)
    reports: list[RunReport] = []
    for report in _read_records(lq, [info.path for info in found]):
        # The stamp has whole seconds: only the records tell which of one second's is the newest.
        full = limit is not None and len(reports) >= limit
        if full and not (reports and _stamp(report.path) == _stamp(reports[-1].path)):
            break
        reports.append(report)
    reports = sorted(reports, key=lambda report: report.started_at, reverse=True)[:limit]
    return [_judged(lq, report) for report in reports]


def read_run(lq: LuxorQuery, name: str, run: str) -> RunReport:
    """One run, by its pipeline and the name of its record, ``<UTC stamp>-<id>``; its status as in `last_runs`.

    Raises
    ------
    NotFoundError
        There is no such run.
    """
    path = f"{_FOLDER}/{name}/{run}.json"
    report = next(_read_records(lq, [path]), None) if _RECORD.fullmatch(path) else None
    if report is None:
        raise NotFoundError("There is no such run.", hint=f"The runs lie under {_FOLDER}/; `luxor runs` lists them.")
    return _judged(lq, report)


def _judged(lq: LuxorQuery, report: RunReport) -> RunReport:
    """A report that says ``running`` as it really is: under way, ended meanwhile, or dead."""
    if report.status == "queued" and report.queued_at is not None and lq.now() - report.queued_at > _QUEUED_MAX:
        return replace(report, status="died")
    if report.status != "running" or report.lock is None:
        return report
    try:
        holder = holder_of(lq.lake.storage, report.lock)
    except ConflictError:
        return report  # busy as it is, somebody is alive
    except AccessError as error:
        logger.warning("Whether run %s is alive could not be found out: %s", report.id, error)
        return report
    if holder is not None and holder.about.get("run") == report.id:
        return report
    # A run tells how it ended before it lets go of its lock: seen in this order, the record knows.
    again = next(_read_records(lq, [report.path]), report)
    return replace(again, status="died") if again.status == "running" else again


def _stamp(path: str) -> str:
    return path.rpartition("/")[2].partition("-")[0]


def _is_record(info: BlobInfo) -> bool:
    return info.path.endswith(".json")


def _read_records(lq: LuxorQuery, paths: Sequence[str]) -> Iterator[RunReport]:
    for path in paths:
        try:
            yield RunReport.from_dict(json.loads(lq.lake.storage.read(path).data) | {"path": path})
        except (ValueError, TypeError, KeyError, RecursionError, FileNotFoundError) as error:
            logger.warning("%s is not a run record and was skipped (%s).", path, type(error).__name__)
