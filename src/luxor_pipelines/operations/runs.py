"""Run a pipeline, and leave a record of the run in the lake.

The command line, the Functions and notebooks all come through the one `run`. A record is a JSON
file ``system/runs/<pipeline>/<UTC stamp>-<id>.json``: written when the run starts, replaced when
it ends. One that was killed leaves ``running`` behind for ever; `last_runs` calls it ``died`` when it
no longer holds its lock.

One run of a pipeline and reference date goes on at a time, whatever started it: a lock in the lake,
``system/locks/runs/<pipeline>/<date>.json``, sees to that. A run that stalled and lost it writes
nothing more into tables (`LockLostError`).
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal

from luxor_pipelines import __version__
from luxor_pipelines.errors import AccessError, ConflictError, LuxorError, RunInProgressError, UsageError, redact
from luxor_pipelines.lake.storage.lease import LakeLock, fenced, holder_of
from luxor_pipelines.operations.discovery import check_params, find_pipelines, get_pipeline
from luxor_pipelines.pipelines import PipelineResult

if TYPE_CHECKING:
    from luxor_pipelines.ingest import LoadResult
    from luxor_pipelines.lake.storage.base import BlobInfo
    from luxor_pipelines.operations.discovery import Pipeline
    from luxor_pipelines.pipelines import JSON
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = ["SCHEMA_VERSION", "RunReport", "find_pipelines", "last_runs", "run"]

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
"""Version of the run records' layout."""

_FOLDER = "system/runs"
_LOCKS = "system/locks/runs"
_SECRET_NAME = re.compile(r"key|secret|password|token|connection", re.IGNORECASE)


@dataclass(frozen=True)
class RunReport:
    """One run of a pipeline, as it is recorded in the lake.

    Attributes
    ----------
    status
        ``running``, ``done``, ``failed``, or ``skipped`` because another run was at it. A run that is
        recorded as running but gives no sign of life is ``died``: `last_runs` says so, no record does.
    ref_date
        The reference date the pipeline worked with; where it says none, the one it was given.
    now
        The moment the pipeline was told it is; else the same as ``started_at``.
    started_at, ended_at, duration_s
        When it really ran (UTC), and for how many seconds.
    rows
        Rows handed to the loads, changed or not.
    inputs
        Version of each table that was read.
    error
        ``class``, ``message`` and ``hint`` of what it failed with.
    path
        Where in the lake the record is.
    lock
        Where the lock lies that the run holds while it goes on; None for one that was skipped.
    """

    id: str
    pipeline: str
    status: Literal["running", "done", "failed", "skipped", "died"]
    ref_date: date | None
    now: datetime
    started_at: datetime
    path: str
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
        """The report that `as_dict` wrote; what a later version may have added is left out."""
        from luxor_pipelines.ingest import LoadResult

        known = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        for name in ("now", "started_at", "ended_at"):
            known[name] = datetime.fromisoformat(known[name]) if known[name] else None
        known["ref_date"] = date.fromisoformat(known["ref_date"]) if known["ref_date"] else None
        known["loads"] = tuple(
            LoadResult(**{**load, "partitions": tuple(load["partitions"])}) for load in known["loads"]
        )
        known["warnings"] = tuple(known["warnings"])
        return cls(**known)


def run(
    name: str,
    *,
    ref_date: date | datetime | str | None = None,
    lq: LuxorQuery | None = None,
    lake: str | None = None,
    now: datetime | None = None,
    if_running: Literal["error", "skip"] = "error",
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
        error and record nothing, or return (and record) a report whose status is ``skipped``.
    **params
        What else the pipeline's ``run`` accepts.

    Raises
    ------
    UsageError
        A pipeline, date or parameter that is not known; nothing has been recorded.
    ConfigurationError
        No lake; nothing has been recorded.
    RunInProgressError
        The same pipeline is running already for the same reference date; nothing has been recorded.
    LockLostError
        The run stalled for so long that another took its place; it has written nothing since.
    LuxorError
        What the pipeline raises, after it has been recorded.
    """
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
    ident = uuid.uuid4().hex[:12]
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
        lock=f"{_LOCKS}/{pipeline.name}/{resolved or 'any'}.json",
    )
    assert report.lock is not None
    lock = LakeLock(
        lq.lake.storage,
        report.lock,
        ttl=lq.settings.run_lock_ttl,
        about={"run": ident, "started_at": started.isoformat()},
    )
    holder = lock.acquire()
    if holder is not None:
        what = f"{pipeline.name} is running already{f' for {resolved}' if resolved else ''}"
        busy = f"{what} (run {holder.about.get('run', 'unknown')})."
        if if_running == "error":
            raise RunInProgressError(
                busy, hint=f"Try again when it has ended; one that has died is given up after {holder.ttl:.0f} s."
            )
        report = replace(report, status="skipped", ended_at=lq.now(), duration_s=0.0, warnings=(busy,), lock=None)
        _save(lq, report, None)
        logger.warning("%s Skipped; record %s", busy, report.path)
        return report
    with lock, fenced(lock):
        return _run(lq, report, lock, scrub, lambda: _checked(pipeline, function(day, lq=lq, now=now, **params)), clock)


def _run(
    lq: LuxorQuery,
    report: RunReport,
    lock: LakeLock,
    scrub: Callable[[Any], Any],
    work: Callable[[], PipelineResult],
    clock: float,
) -> RunReport:
    """Do the work and keep its record, from ``running`` to ``done`` or ``failed``."""
    version = _save(lq, report, None)
    logger.info("%s: reference date %s", report.pipeline, report.ref_date or "not given, the pipeline's own choice")

    def ended(**changes: Any) -> RunReport:
        duration = round(time.perf_counter() - clock, 3)
        return replace(report, ended_at=lq.now(), duration_s=duration, inputs=lq.versions(), **changes)

    try:
        result = work()
    except BaseException as error:
        _save_failure(lq, ended(status="failed", error=scrub(_described(error))), version)
        raise
    warnings = [*result.warnings]
    if lock.lost:
        warnings.append("The lock was lost meanwhile: another run may have done the same work at the same time.")
        logger.warning("%s: %s", report.pipeline, warnings[-1])
    report = ended(
        status="done",
        ref_date=_resolved(result.details, report.ref_date),
        rows=result.rows,
        loads=tuple(result.loads),
        warnings=tuple(scrub(warnings)),
        details=scrub(result.details),
    )
    _save(lq, report, version)
    logger.info("%s done in %.1f s; record %s", report.pipeline, report.duration_s, report.path)
    return report


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
    hint = error.hint if isinstance(error, LuxorError) else ""
    return {"class": type(error).__name__, "message": message, "hint": hint}


def _save(lq: LuxorQuery, report: RunReport, expected: str | None) -> str:
    text = json.dumps(report.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    return lq.lake.storage.write(report.path, text.encode("utf-8", "backslashreplace"), expected=expected)


def _save_failure(lq: LuxorQuery, report: RunReport, version: str) -> None:
    assert report.error is not None
    try:
        _save(lq, report, version)
    except Exception as problem:  # noqa: BLE001 - what the run failed with is what must be heard
        logger.error("%s failed, and that could not be recorded: %s", report.pipeline, problem)  # noqa: TRY400
    else:
        logger.info("%s failed (%s); record %s", report.pipeline, report.error["class"], report.path)


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


def _judged(lq: LuxorQuery, report: RunReport) -> RunReport:
    """A report that says ``running`` as it really is: under way, ended meanwhile, or dead."""
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
        except (ValueError, TypeError, KeyError, AttributeError, FileNotFoundError) as error:
            logger.warning("%s is not a run record and was skipped (%s).", path, type(error).__name__)
