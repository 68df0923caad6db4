"""Run a pipeline under its lease, and leave a record of the run in the lake.

The command line, the Functions and notebooks call `run`. A run can be queued first (`queue_run`) and done later by
another process (`run_queued`); its record is written when it is queued, as ``queued``. `run_many` runs several dates.
All of them end in the same steps: acquire the lease, write the record, do the work, write how it ended, release.

One run of a pipeline and reference date goes on at a time, whatever started it: a lease in the lake,
``system/locks/runs/<pipeline>/<date>.json``, sees to that. A run that stalled and lost its lease to another ends in
a `LockLostError`; `luxor_pipelines.lake.storage.lease` says what it may still have written.
"""

from __future__ import annotations

import calendar
import inspect
import json
import logging
import os
import platform
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from luxor_pipelines import telemetry
from luxor_pipelines.errors import (
    DataError,
    LuxorError,
    NotFoundError,
    QualityError,
    RunInProgressError,
    SchemaError,
    UsageError,
    redact,
    shown,
)
from luxor_pipelines.lake.storage.lease import LEASES, Holder, Lease, fenced
from luxor_pipelines.operations.discovery import Pipeline, check_params, get_pipeline
from luxor_pipelines.operations.records import (
    RECORD,
    RUNS,
    LakeLike,
    RunReport,
    as_instant,
    json_ready,
    judged,
    opened,
    read_record,
    write_record,
)
from luxor_pipelines.operations.stopping import Terminated, stoppable
from luxor_pipelines.pipelines import PipelineResult

if TYPE_CHECKING:
    from luxor_pipelines.lake.lake import Lake
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = [
    "AT_ONCE",
    "RUN_LEASES",
    "Ending",
    "Outcome",
    "as_reference_date",
    "fail_run",
    "in_layout",
    "masked",
    "outcome_of",
    "prepare",
    "queue_run",
    "retry",
    "run",
    "run_many",
    "run_queued",
]

logger = logging.getLogger(__name__)

_RECORD_OF = "luxor_record"
"""The attribute of an error that has the path of the record of the run that failed with it."""

RUN_LEASES = f"{LEASES}/runs"
"""The folder of the leases of runs."""
AT_ONCE = 24
"""Dates that are computed in one pass, whose leases are held and whose results are in memory."""

_SECRET_NAME = re.compile(r"key|secret|password|token|connection", re.IGNORECASE)


def run(
    name: str,
    ref_date: date | datetime | str | None = None,
    *,
    lake: LakeLike = None,
    lq: LuxorQuery | None = None,
    now: datetime | None = None,
    if_running: Literal["error", "skip", "wait"] = "error",
    layout: Literal["declared", "file"] | None = None,
    **params: Any,
) -> RunReport:
    """Run a pipeline and record the run in the lake.

    Parameters
    ----------
    name
        One of `find_pipelines`.
    ref_date
        A calendar date (of São Paulo, for pipelines that compare it with today), ISO text like ``2026-10-31``, or a
        month like ``2026-10``, which means its last day; default the pipeline's own choice.
    lake
        An open lake, or its address; default the one that the environment names.
    lq
        A query of the lake, in its place.
    now
        The moment to work as of, with a time zone; default the present.
    if_running
        What to do when the same pipeline is running already for the same reference date: raise an
        error and record nothing, or return (and record) a report whose status is ``skipped``. With ``wait`` the
        other run is watched first, and skipped for only when it is seen to be alive; the lease of one that gives
        no sign of life is taken over, after `Settings.run_lock_ttl` and a second at most.
    layout
        The layout of the pipeline's tables while they are new: ``file``, one file each, or as they are ``declared``;
        default the setting ``LUXOR_LAYOUT``. They keep it.
    **params
        What else the pipeline's ``run`` accepts.

    Raises
    ------
    UsageError
        A pipeline, date or parameter that is not known, or that the pipeline refuses; a table of the pipeline that is
        there in another layout than ``layout``. Nothing has been recorded.
    ConfigurationError
        No lake; nothing has been recorded.
    RunInProgressError
        The same pipeline is running already for the same reference date; nothing has been recorded.
    LockLostError
        The run stalled for so long that another took its place, or the process was told to end.
    LuxorError
        What the pipeline raises, after it has been recorded.

    Examples
    --------
    >>> run("hist_returns", "2026-10-31", lake="abfss://…")  # doctest: +SKIP
    """
    if lq is not None and lake is not None:
        raise UsageError("Both lq and lake are given.", hint="Give one of them.")
    lake = in_layout(name, lake if lq is None else lq, layout)
    job = prepare(name, ref_date, lake, now, params)
    return _start(job, if_held="error" if if_running == "error" else "skip", wait=if_running == "wait")


def retry(report: RunReport, *, lake: LakeLike = None) -> RunReport:
    """Run a pipeline again as in a report: same reference date, same parameters. Errors are those of `run`.

    Raises
    ------
    UsageError
        A parameter was a secret, which the report does not have.
    """
    if masked(report.params) != dict(report.params) or "***" in map(str, report.params.values()):
        raise UsageError(
            f"Run {report.id} had a secret among its parameters, which its record does not have.",
            hint=f"Run it with all of them: luxor run {report.pipeline} --param …",
        )
    params: dict[str, Any] = dict(report.params)
    return run(report.pipeline, report.ref_date, lake=opened(lake), **params)


def queue_run(
    name: str,
    ref_date: date | datetime | str | None = None,
    *,
    lake: LakeLike = None,
    **params: Any,
) -> RunReport:
    """Record a run as ``queued``; whoever is given the record's path does it with `run_queued`.

    The reference date is resolved now. Parameters are as of `run`, and so are the errors.

    Raises
    ------
    UsageError
        Also when a parameter is, or looks like, a secret: records hold none.
    """
    job = prepare(name, ref_date, lake, None, params)
    report = replace(job.report, status="queued", queued_at=job.report.started_at)
    if json.loads(json.dumps(dict(params), default=str)) != report.params:
        raise UsageError(
            "A parameter is, or looks like, a secret, and is not kept until a queued run begins.",
            hint="Run the pipeline at once, or let it read the secret from the environment.",
        )
    write_record(job.lake, report, expected=None)
    logger.info("%s is queued; record %s", report.pipeline, report.path)
    return report


def run_queued(path: str, *, lake: LakeLike = None) -> RunReport:
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
    lake = opened(lake)
    queued, version = _read_queued(lake, path)
    if queued.status == "done":
        logger.info("%s is done already; record %s", queued.pipeline, path)
        return queued
    job = prepare(queued.pipeline, queued.ref_date, lake, None, queued.params)
    report = replace(job.report, id=queued.id, path=path, queued_at=queued.queued_at)
    return _start(replace(job, report=report, version=version), if_held="error", wait=True)


def fail_run(path: str, error: Exception, *, lake: LakeLike = None) -> RunReport:
    """Record that a queued run failed with ``error``; one that is alive, done or failed already stays as it is.

    Raises
    ------
    UsageError
        ``path`` is no record's, or the lake has no such record.
    """
    lake = opened(lake)
    queued, version = _read_queued(lake, path)
    report = judged(lake, queued)
    if report.status not in ("queued", "died"):
        return report
    report = replace(queued, status="failed", ended_at=lake.now(), error=json_ready(_described(error)))
    write_record(lake, report, expected=version)
    logger.error("%s failed: %s; record %s", report.pipeline, redact(str(error)), path)
    return report


def _read_queued(lake: Lake, path: str) -> tuple[RunReport, str]:
    if not RECORD.fullmatch(path):
        raise UsageError("That is not the path of a run's record.", hint=f"One is like {RUNS}/name/STAMP-ID.json.")
    try:
        blob = lake.storage.read(path)
        return RunReport.from_dict(json.loads(blob.data) | {"path": path}), blob.version
    except NotFoundError as error:
        raise UsageError(f"There is no record {path}.", hint="Was it deleted, or is it in another lake?") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(f"{path} is not a run record.", hint="Start the run anew.") from error


@dataclass(frozen=True)
class _Job:
    """A run whose arguments have been checked, and what it needs."""

    lake: Lake
    report: RunReport
    work: Callable[[LuxorQuery], PipelineResult]
    scrub: Callable[[Any], Any]
    began: float
    """`time.perf_counter` when it began."""
    chosen: bool
    """Whether the caller chose a date or parameters."""
    version: str | None = None
    """The record's version, where it is written already."""
    query: LuxorQuery | None = None
    """Through which it reads; default one of its own."""


def in_layout(
    name: str,
    lake: LakeLike,
    layout: Literal["declared", "file"] | None,
) -> LakeLike:
    """Return the lake, in which the tables that a pipeline makes anew get a layout; None leaves it as it is.

    Raises
    ------
    UsageError
        One of the pipeline's tables is there already, in another layout.
    """
    if layout is None:
        return lake
    lake = opened(lake)
    for schema in get_pipeline(name).declaration().outputs:
        snapshot = lake.table(schema.name).find()
        declared = schema.partition if layout == "declared" and schema.partition is not None else "file"
        if snapshot is not None and snapshot.layout != declared:
            lies = "in one file" if snapshot.layout == "file" else f"by {snapshot.layout}"
            raise UsageError(
                f"Table {schema.name} is there already, {lies}; a table keeps the layout that it was made with.",
                hint=f"`luxor archive {schema.name}` moves it aside; then run the pipeline again, for each date that "
                "the table is to have (luxor backfill).",
            )
    return lake.with_settings(layout=layout)


def prepare(
    pipeline: str | Pipeline,
    ref_date: date | datetime | str | None,
    lake: LakeLike,
    now: datetime | None,
    params: Mapping[str, Any],
) -> _Job:
    """Check the arguments of a run, and resolve its reference date; nothing is written yet."""
    pipeline = pipeline if isinstance(pipeline, Pipeline) else get_pipeline(pipeline)
    day = None if ref_date is None else as_reference_date(ref_date)
    now = as_instant(now)
    function = pipeline.load()
    check_params(pipeline, function, params)
    lake = opened(lake)

    started, began = lake.now(), time.perf_counter()
    now = now or started
    scrub = _scrubber(params)
    ident, trigger = uuid.uuid4().hex[:12], telemetry.trigger()
    resolved = _reference_date(function, day, lake.today(now))
    report = RunReport(
        id=ident,
        pipeline=pipeline.name,
        status="running",
        ref_date=resolved or day,
        now=now,
        started_at=started,
        path=f"{RUNS}/{pipeline.name}/{started:%Y%m%dT%H%M%SZ}-{ident}.json",
        params=masked(params),
        lock=f"{RUN_LEASES}/{pipeline.name}/{resolved or 'any'}.json",
        trigger=trigger.kind,
        invocation_id=trigger.invocation_id,
        trace_id=trigger.trace_id,
        worker=_dask_worker(),
    )
    function = partial(function, report.ref_date, now=now, **params)
    chosen = day is not None or bool(params)

    def work(query: LuxorQuery) -> PipelineResult:
        try:
            with _staying(pipeline):
                return _checked(pipeline, function(lq=query))
        except (SchemaError, DataError):
            # The rows may fail to fit because the table is another program's; that error tells more.
            for schema in pipeline.declaration().outputs:
                table = lake.table(schema.name)
                table.check_ours(table.find())
            raise

    return _Job(lake, report, work, scrub, began, chosen)


def run_many(
    name: str,
    ref_dates: Iterable[date],
    *,
    lake: Lake,
    now: datetime | None = None,
    **params: Any,
) -> Iterator[tuple[date, RunReport | Exception]]:
    """Run a pipeline for several reference dates, in ascending order; yield how each ended.

    Each date has its own lease, record and load, as with `run`, and one that fails stops no other. A pipeline that
    can computes up to `AT_ONCE` dates in one pass, holding the leases of all of them. A date that another run holds
    comes last, when that run may have ended or turned out to be dead; it is ``skipped`` while that run is alive.
    """
    pipeline = get_pipeline(name)
    dates = sorted(set(ref_dates))
    compute = getattr(inspect.getmodule(pipeline.load()), "run_many", None)
    if compute is not None:
        busy: list[date] = []
        for first in range(0, len(dates), AT_ONCE):
            yield from _in_one_pass(pipeline, dates[first : first + AT_ONCE], compute, lake, now, params, busy)
        dates = busy
    for ref_date in dates:
        try:
            yield ref_date, run(name, ref_date, lake=lake, now=now, if_running="wait", **params)
        except Exception as error:  # noqa: BLE001 - told to the caller, who goes on
            yield ref_date, error


def _in_one_pass(
    pipeline: Pipeline,
    ref_dates: list[date],
    compute: Callable[..., Iterator[tuple[date, Callable[[], PipelineResult]]]],
    lake: Lake,
    now: datetime | None,
    params: Mapping[str, Any],
    busy: list[date],
) -> Iterator[tuple[date, RunReport | Exception]]:
    """Run some dates in one pass; those whose leases others hold are added to ``busy``."""
    from luxor_pipelines.query.luxor_query import LuxorQuery  # brings pandas

    view = lake.view()
    query = LuxorQuery(lake=view)
    held: list[tuple[_Job, Lease]] = []
    with ExitStack() as leases:
        for ref_date in ref_dates:
            try:
                job = prepare(pipeline, ref_date, view, now, params)
                lease = _lease(job)
                if lease.acquire() is None:
                    held.append((job, leases.enter_context(lease)))
                else:
                    busy.append(ref_date)
            except Exception as error:  # noqa: BLE001 - told to the caller, who goes on
                yield ref_date, error
        dates = [job.report.ref_date for job, _ in held]
        computed = compute(dates, lq=query, now=now, **params) if held else iter(())

        the_pass = _Pass(pipeline, computed)
        for job, lease in held:
            day = job.report.ref_date
            assert day is not None
            work = partial(the_pass.finish_next, day)
            ended = _ended(replace(job, work=work, query=query, began=time.perf_counter()), lease)
            lease.release()
            yield day, ended


class _Pass:
    """A pass over many dates, which computes them one after the other; one that has failed computes no more."""

    def __init__(self, pipeline: Pipeline, computed: Iterator[tuple[date, Callable[[], PipelineResult]]]) -> None:
        self._pipeline = pipeline
        self._computed = computed
        self._failure: Exception | None = None

    def finish_next(self, day: date, _query: LuxorQuery) -> PipelineResult:
        """Compute and write the next date, which is ``day``."""
        with _staying(self._pipeline):
            try:
                _, finish = next(self._computed)
            except StopIteration:
                raise self._no_rows(day) from self._failure
            except Exception as error:
                self._failure = error
                raise
            return finish()

    def _no_rows(self, day: date) -> LuxorError:
        """Return the error of a date that the pass did not come to, which tells what the pass failed with."""
        fault = f"{self._pipeline.name} computed no rows for {day}"
        if self._failure is None:
            return LuxorError(f"{fault}.", hint="Run that date alone, or repair the pipeline's run_many.")
        cause, hint = _told(self._failure), getattr(self._failure, "hint", "")
        return LuxorError(f"{fault}, since the pass failed before: {cause}", hint=hint or "Run that date alone.")


def _ended(job: _Job, lease: Lease) -> RunReport | Exception:
    """Do a job of a pass, under its lease; return its report, or the error that it failed with."""
    report = job.report
    try:
        with _named(report) as ending:
            report = _work(job, lease)
            ending |= {"status": report.status, "rows": report.rows}
            return report
    except Exception as error:  # noqa: BLE001 - told to the caller, who goes on
        return error


def _start(job: _Job, *, if_held: Literal["error", "skip"], wait: bool) -> RunReport:
    """Do a job under its lease, or see that another run holds it; log lines and spans name the run."""
    with _named(job.report) as ending:
        lease = _lease(job)
        holder = lease.acquire(wait=wait)
        if holder is None:
            with lease:
                report = _work(job, lease)
        elif if_held == "error":
            raise RunInProgressError(
                _busy(job, holder),
                hint=f"Try again when it has ended; one that has died is given up after {holder.ttl:.0f} s.",
            )
        else:
            report = _skipped(job, holder)
        ending |= {"status": report.status, "rows": report.rows}
        return report


@contextmanager
def _named(report: RunReport) -> Iterator[dict[str, Any]]:
    """Have log lines and spans name the run."""
    day = None if report.ref_date is None else str(report.ref_date)
    with (
        telemetry.run_context(telemetry.RunContext(report.id, report.pipeline, day)),
        telemetry.span("run") as ending,
    ):
        yield ending


def _lease(job: _Job) -> Lease:
    """Return the lease of a job's pipeline and reference date; not yet acquired."""
    lake, report = job.lake, job.report
    assert report.lock is not None
    about = {
        "run": report.id,
        "record": report.path,
        "started_at": report.started_at.isoformat(),
        "host": platform.node(),
        "process": os.getpid(),
    }
    return Lease(lake.storage, report.lock, ttl=lake.settings.run_lock_ttl, about=about)


def _work(job: _Job, lease: Lease) -> RunReport:
    """Do a job under its lease, which is held."""
    with fenced(lease):
        _account(job.lake, lease)
        under_way = _UnderWay(job, lease)
        with stoppable(under_way):
            return under_way.go()


def _busy(job: _Job, holder: Holder) -> str:
    report = job.report
    assert report.lock is not None
    day = "" if report.lock.endswith("/any.json") else f" for {report.ref_date}"
    return f"{report.pipeline} is running already{day} (run {holder.about.get('run', 'unknown')})."


def _skipped(job: _Job, holder: Holder) -> RunReport:
    """Record that a job was skipped for another run that holds its lease."""
    busy = _busy(job, holder)
    report = replace(job.report, status="skipped", ended_at=job.lake.now(), duration_s=0.0, warnings=(busy,), lock=None)
    write_record(job.lake, report, expected=None)
    logger.warning("%s Skipped; record %s", busy, report.path)
    return report


def _account(lake: Lake, lease: Lease) -> None:
    """Look which of the lease's lost holders have ended by now, and tell of the others."""

    def has_ended(about: Mapping[str, Any]) -> bool:
        path = about.get("record")
        report = read_record(lake, path) if isinstance(path, str) and path.startswith(f"{RUNS}/") else None
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
        from luxor_pipelines.query.luxor_query import LuxorQuery  # brings pandas

        self._job = job
        self._query = job.query or LuxorQuery(lake=job.lake.view())
        self._report = job.report
        self._lease = lease
        self._scrub = job.scrub
        self._turn = threading.Lock()
        self._ended = False
        self._version = job.version

    def go(self) -> RunReport:
        """Do the work and keep its record, from ``running`` to ``done`` or ``failed``."""
        report = self._report
        with self._turn:  # one who stops the run meanwhile needs the record's version
            if not self._ended:
                self._version = write_record(self._job.lake, report, expected=self._version)
        day = report.ref_date or "not given, the pipeline's own choice"
        logger.info("%s: reference date %s", report.pipeline, day)
        try:
            self._lease.check()  # the run may have been stopped before it began
            result = self._job.work(self._query)
            self._lease.check()  # a run that lost its lease has failed, whatever it still did
        except BaseException as error:
            self._fail(error)
            raise
        done = self._end(
            status="done",
            ref_date=result.ref_date or report.ref_date,
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
            duration = round(time.perf_counter() - self._job.began, 3)
            report = replace(
                self._report,
                ended_at=self._job.lake.now(),
                duration_s=duration,
                inputs=self._query.lake.inputs(self._report.ref_date),
                unsettled=tuple(sorted(self._lease.unsettled)),
                **changes,
            )
            write_record(self._job.lake, report, expected=self._version)
            self._ended = True
            telemetry.record_run(report.pipeline, report.status, duration, report.rows)
            return report

    def _withdraw(self) -> None:
        """Delete the record: a date or parameter that the pipeline refuses is no run that failed."""
        with self._turn:
            if self._version is not None:
                self._job.lake.storage.delete(self._report.path, expected=self._version)
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
                setattr(error, _RECORD_OF, recorded.path)
                logger.info("%s failed (%s); record %s", report.pipeline, type(error).__name__, report.path)


def _dask_worker() -> str | None:
    """Return the address of the Dask worker that this is; None elsewhere."""
    if "distributed" not in sys.modules:
        return None
    try:
        return str(sys.modules["distributed"].get_worker().address)
    except ValueError:
        return None


def _reference_date(function: Callable[..., PipelineResult], day: date | None, today: date) -> date | None:
    """Return the reference date that the pipeline makes of a date; None for one whose work does not depend on it."""
    resolve = getattr(inspect.getmodule(function), "reference_date", None)
    return None if resolve is None else as_reference_date(resolve(day, today))


def as_reference_date(value: date | datetime | str, *, first: bool = False) -> date:
    """Return a date as a date; of a month like ``2026-10`` the last day, or the ``first``.

    Raises
    ------
    UsageError
    """
    month = re.fullmatch(r"(\d{4})-(\d{2})", value.strip()) if isinstance(value, str) else None
    if month and 1 <= int(month[2]) <= 12 and int(month[1]):
        year, number = int(month[1]), int(month[2])
        return date(year, number, 1 if first else calendar.monthrange(year, number)[1])
    from luxor_pipelines.market.periods import as_date  # brings numpy

    try:
        return as_date(value)
    except UsageError as error:
        if not isinstance(value, str):
            raise
        raise UsageError(
            f"{shown(value)} is not an ISO date or month.",
            hint="Give a date like 2026-10-31, or a month like 2026-10.",
        ) from error


@contextmanager
def _staying(pipeline: Pipeline) -> Iterator[None]:
    """Make an error of the end of the process that a pipeline asks for: nothing else tells that its work failed."""
    try:
        yield
    except Terminated:
        raise
    except SystemExit as end:
        raise LuxorError(
            f"{pipeline.target} called sys.exit({'' if end.code is None else repr(end.code)}) while it ran.",
            hint="A pipeline returns a PipelineResult, or raises an error.",
        ) from end


def _checked(pipeline: Pipeline, result: Any) -> PipelineResult:
    if not isinstance(result, PipelineResult):
        raise TypeError(f"{pipeline.target} returned a {type(result).__name__}, not a PipelineResult")
    return result


def _described(error: BaseException) -> dict[str, str]:
    message = error.message if isinstance(error, LuxorError) else str(error)
    hint = error.hint if isinstance(error, LuxorError | Terminated) else ""
    return {"class": type(error).__name__, "message": message, "hint": hint}


def masked(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as a record has them: ready for JSON, what is or looks like a secret masked."""
    scrub = _scrubber(params)
    return {key: "***" if _SECRET_NAME.search(key) else scrub(value) for key, value in params.items()}


def _scrubber(params: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return a function that makes a value ready for JSON, without the secrets among ``params``."""
    secrets = [str(value) for key, value in params.items() if _SECRET_NAME.search(key) and len(str(value)) > 3]

    def scrub(value: Any) -> Any:
        if isinstance(value, str):
            for secret in secrets:
                value = value.replace(secret, "***")
            return redact(value)
        if isinstance(value, dict):
            return {scrub(name): scrub(content) for name, content in value.items()}
        return [scrub(item) for item in value] if isinstance(value, list) else value

    return lambda value: scrub(json_ready(value))


# --- outcomes -----------------------------------------------------------------------------------


Ending = Literal["done", "unchanged", "skipped", "stopped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one reference date's run.

    Attributes
    ----------
    status
        ``done``, ``unchanged`` (nothing was to be written), ``skipped`` for another run of the date, ``stopped`` by
        the gate, or ``failed``.
    message
        The reason why it was stopped or failed; empty when it is done.
    record
        The path of the run's record, where it has one.
    """

    date: date
    status: Ending
    rows: int | None = None
    message: str = ""
    record: str | None = None


def outcome_of(day: date, ended: RunReport | Exception) -> Outcome:
    """Describe how the run of a date ended."""
    if isinstance(ended, RunReport):
        if ended.status == "skipped":
            return Outcome(day, "skipped", None, " ".join(ended.warnings), ended.path)
        return Outcome(day, "done" if ended.changed else "unchanged", ended.rows, "", ended.path)
    status: Ending = "stopped" if isinstance(ended, QualityError) else "failed"
    return Outcome(day, status, None, _told(ended), getattr(ended, _RECORD_OF, None))


def _told(error: Exception) -> str:
    """Return the text of an error, without its hint; with its class where it is not one of ours."""
    return error.message if isinstance(error, LuxorError) else f"{type(error).__name__}: {error}"
