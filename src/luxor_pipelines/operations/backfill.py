"""Backfill: run a pipeline for many reference dates, after a plan that says which and why.

A backfill that was interrupted goes on with ``missing=True``. What is stored already and stays the same is not
written again, so that repeating one does no harm.
"""

from __future__ import annotations

import calendar
import inspect
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from luxor_pipelines.errors import UsageError
from luxor_pipelines.notebook import html_facts
from luxor_pipelines.operations.discovery import check_params, get_pipeline
from luxor_pipelines.operations.records import LakeLike, RunReport, as_instant, last_runs, opened
from luxor_pipelines.operations.runs import Ending, Outcome, as_reference_date, outcome_of, run, run_many
from luxor_pipelines.pipelines import reference_dates

if TYPE_CHECKING:
    from luxor_pipelines.lake.lake import Lake
    from luxor_pipelines.lake.types.schema import TableSchema
    from luxor_pipelines.operations.discovery import Pipeline
    from luxor_pipelines.pipelines import Declaration

__all__ = [
    "Backfill",
    "PlannedDate",
    "backfill",
    "carry_out",
    "catch_up",
    "plan_backfill",
    "stale_inputs",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedDate:
    """A reference date of a plan: whether it is run, and why or why not."""

    date: date
    run: bool
    reason: str


@dataclass(frozen=True)
class Backfill:
    """A plan, and what came of it; without outcomes where it was only planned."""

    pipeline: str
    plan: tuple[PlannedDate, ...]
    outcomes: tuple[Outcome, ...] = ()

    def count(self, status: Ending) -> int:
        """Return the number of dates that ended so."""
        return sum(outcome.status == status for outcome in self.outcomes)

    @property
    def failed(self) -> bool:
        """Whether a date failed, or was stopped by the gate."""
        return bool(self.count("failed") + self.count("stopped"))

    def _repr_html_(self) -> str:
        counts = {status.capitalize(): self.count(status) for status in get_args(Ending) if self.count(status)}
        troubles = {
            f"{outcome.date} {outcome.status}": outcome.message
            for outcome in self.outcomes
            if outcome.status not in ("done", "unchanged")
        }
        to_run = sum(planned.run for planned in self.plan)
        dates = {"To run": to_run, "Left out": len(self.plan) - to_run}
        return html_facts(f"Backfill of {self.pipeline}", dates | counts | troubles)


def backfill(
    name: str,
    start: date | str | None = None,
    end: date | str | None = None,
    *,
    lake: LakeLike = None,
    missing: bool = False,
    failed: bool = False,
    stale: bool = False,
    jobs: int = 1,
    cluster: str | None = None,
    dry_run: bool = False,
    now: datetime | None = None,
    told: Callable[[Outcome], object] = lambda outcome: None,  # noqa: ARG005
    **params: Any,
) -> Backfill:
    """Run a pipeline for its reference dates from ``start`` to ``end``, both included, in ascending order.

    Each date has its own lease, record and atomic load; one that fails stops no other. A pipeline with ``run_many``
    computes many dates in one pass.

    Parameters
    ----------
    name
        One of `find_pipelines` that declares reference dates.
    start, end
        Dates, or months like ``2006-01``; default the first date there can be, and the last one that has ended.
    lake
        An open lake, or its address; default the one that the environment names.
    missing, failed, stale
        Only dates that are not stored; whose last run failed or died; of which a table or file that the last run read
        has changed since (by the versions in its record). Several add up; none means all dates.
    jobs
        Processes of this machine among which the dates are divided. The first date of each one's share is held
        against the date before only where that is stored already.
    cluster
        The address of a Dask scheduler, as ``tcp://scheduler:8786``, or ``local:N``; see `operations.cluster`.
    dry_run
        Only plan.
    now
        The moment to work as of, with a time zone; default the present.
    told
        Is called with each outcome as it comes.
    **params
        What else the pipeline's ``run`` accepts, such as ``force=True``.

    Raises
    ------
    UsageError
        The pipeline has no reference dates, or a date or parameter is wrong; nothing was run.
    ConfigurationError
        No lake, or no such cluster.
    """
    pipeline = get_pipeline(name)
    check_params(pipeline, pipeline.load(), params)
    lake = opened(lake)
    plan = plan_backfill(pipeline.name, start, end, lake=lake, missing=missing, failed=failed, stale=stale, now=now)
    if dry_run:
        return Backfill(pipeline.name, tuple(plan))
    return carry_out(pipeline.name, plan, lake=lake, jobs=jobs, cluster=cluster, now=now, told=told, **params)


def catch_up(
    name: str,
    *,
    lake: LakeLike = None,
    at_most: int = 12,
    now: datetime | None = None,
    if_running: Literal["error", "skip", "wait"] = "error",
) -> list[RunReport]:
    """Run a pipeline as a timer does: for the dates after the last stored one that have ended, oldest first.

    Where none is missing, or nothing is stored yet, it is run for its own choice of date. A date that fails stops
    those after it, so that none is left out.

    Parameters
    ----------
    at_most
        How many dates to run now; the next call goes on with the rest.
    name, lake, now, if_running
        As of `run`, and so are the errors.
    """
    lake, declaration = opened(lake), get_pipeline(name).declaration()
    stored = _stored_dates(lake, declaration.outputs) if declaration.dates is not None else set()
    today = lake.today(as_instant(now))
    missing: list[date] = []
    if stored and (start := max(stored) + timedelta(days=1)) < today:
        missing = _dates(declaration, lake, start, None, today)[:at_most]
    return [run(name, day, lake=lake, now=now, if_running=if_running) for day in missing or (None,)]


def carry_out(
    name: str,
    plan: Sequence[PlannedDate],
    *,
    lake: Lake,
    jobs: int = 1,
    cluster: str | None = None,
    now: datetime | None = None,
    told: Callable[[Outcome], object] = lambda outcome: None,  # noqa: ARG005
    **params: Any,
) -> Backfill:
    """Run the dates of a plan; parameters and errors are those of `backfill`."""
    if jobs < 1:
        raise UsageError("The number of jobs is less than one.", hint="Give the number of processes.")
    outcomes = []
    dates = [planned.date for planned in plan if planned.run]
    for outcome in _outcomes(get_pipeline(name), dates, lake, now, params, jobs=jobs, cluster=cluster):
        told(outcome)
        outcomes.append(outcome)
    return Backfill(name, tuple(plan), tuple(sorted(outcomes, key=lambda outcome: outcome.date)))


def _outcomes(
    pipeline: Pipeline,
    dates: Sequence[date],
    lake: Lake,
    now: datetime | None,
    params: Mapping[str, Any],
    *,
    jobs: int,
    cluster: str | None,
) -> Iterator[Outcome]:
    """Run the dates here, in other processes or on a cluster; yield how each ended, as it ends."""
    if cluster is not None or jobs > 1:
        from luxor_pipelines.operations import cluster as remote

        yield from remote.run_dates(pipeline.name, dates, lake, now, params, jobs=jobs, cluster=cluster)
        return
    for day, ended in run_many(pipeline.name, dates, lake=lake, now=now, **params):
        yield outcome_of(day, ended)


def plan_backfill(
    name: str,
    start: date | str | None = None,
    end: date | str | None = None,
    *,
    lake: LakeLike = None,
    missing: bool = False,
    failed: bool = False,
    stale: bool = False,
    now: datetime | None = None,
) -> list[PlannedDate]:
    """Say which reference dates `backfill` would run, and why each; parameters and errors are the same."""
    pipeline, lake = get_pipeline(name), opened(lake)
    declaration = pipeline.declaration()
    if declaration.dates is None:
        raise UsageError(
            f"{pipeline.name} has no reference dates.", hint=f"Run it once instead: luxor run {pipeline.name}."
        )
    today = lake.today(as_instant(now))
    first = _first_date(pipeline, lake)
    begin = first if start is None else as_reference_date(start, first=True)
    days = _dates(declaration, lake, begin, None if end is None else as_reference_date(end), today)
    if not (missing or failed or stale):
        return [_planned(day, first, "asked for") for day in days]
    stored = _stored_dates(lake, declaration.outputs) if missing else set()
    records = _last_records(lake, pipeline.name) if failed or stale else {}
    outputs = {schema.name for schema in declaration.outputs}
    versions = _Versions(lake)

    def reason(day: date) -> str:
        if missing and day not in stored:
            return "missing"
        record = records.get(day)
        if failed and record is not None and record.status in ("failed", "died"):
            return f"{record.status} on {record.started_at:%Y-%m-%d}"
        if stale:
            last_done = record if record is not None and record.status == "done" else None
            undone = "never run" if record is None else f"last run {record.status}"
            changed = [undone] if last_done is None else stale_inputs(last_done, versions, outputs)
            if changed:
                return f"stale: {', '.join(changed[:3])}{' and others' if len(changed) > 3 else ''}"
        return ""

    return [_planned(day, first, reason(day)) for day in days]


def _planned(day: date, first: date | None, reason: str) -> PlannedDate:
    if first is not None and day < first:
        return PlannedDate(day, run=False, reason="before the first price")
    return PlannedDate(day, run=bool(reason), reason=reason or "nothing to do")


def _dates(declaration: Declaration, lake: Lake, start: date | None, end: date | None, today: date) -> list[date]:
    """Return the reference dates from ``start`` to ``end``, by default to the last one, that have ended.

    Raises
    ------
    UsageError
        There is no such date, or no ``start``.
    """
    last = today - timedelta(days=1)
    end = last if end is None else min(end, last)
    if start is None:
        raise UsageError("There is nothing to tell the first date by.", hint="Give --from.")
    if start > end:
        raise UsageError(f"There is no date from {start} to {end} that has ended.", hint="Correct --from and --to.")
    from luxor_pipelines.market.calendars import CalendarRangeWarning, HolidayCalendar
    from luxor_pipelines.operations.status import business_calendar

    assert declaration.dates is not None
    holidays = business_calendar(lake) if declaration.dates == "days" else HolidayCalendar([], [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalendarRangeWarning)  # beyond the known holidays every weekday counts
        return reference_dates(declaration.dates, declaration.due, start, end, holidays)


def _first_date(pipeline: Pipeline, lake: Lake) -> date | None:
    """Return the first reference date that can have rows, as the pipeline's ``first_date`` has it."""
    from luxor_pipelines.query.luxor_query import LuxorQuery  # brings pandas

    function = getattr(inspect.getmodule(pipeline.load()), "first_date", None)
    return None if function is None else function(LuxorQuery(lake=lake.view()))


def _stored_dates(lake: Lake, outputs: Iterable[TableSchema]) -> set[date]:
    """Return the dates that all outputs have rows of; of a table by month, the month ends."""
    stored: list[set[date]] = []
    for schema in outputs:
        snapshot = lake.table(schema.name).find()
        if snapshot is None:
            return set()
        if snapshot.layout == "month":
            labels = (part.label for part in snapshot.parts)
            months = ((int(label[:4]), int(label[5:])) for label in labels)
            stored.append({date(*month, calendar.monthrange(*month)[1]) for month in months})
        else:
            dates = lake.view().cache.scan(schema.name, (schema.increment,), keep=False)[schema.increment]
            stored.append({day.as_py().date() for day in dates.unique()})
    return set.intersection(*stored) if stored else set()


def _last_records(lake: Lake, name: str) -> dict[date, RunReport]:
    """Return the last run of each reference date, of those that were not skipped."""
    records: dict[date, RunReport] = {}
    for report in last_runs(lake, name, None):
        if report.ref_date is not None and report.status != "skipped":
            records.setdefault(report.ref_date, report)
    return records


class _Versions:
    """The present versions of tables and files, each looked up once."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._view = lake.view()
        self._files: dict[str, str | None] = {}

    def __call__(self, name: str, until: date | None) -> str | None:
        if "/" in name:
            if name not in self._files:
                info = self._lake.storage.stat(name)
                self._files[name] = None if info is None else info.version.strip('"')
            return self._files[name]
        snapshot = self._view.cache.snapshot(name)
        return None if snapshot is None else snapshot.until(until).version


def stale_inputs(
    record: RunReport, version: Callable[[str, date | None], str | None], outputs: Iterable[str]
) -> list[str]:
    """Return the tables and files that have changed since the run of ``record`` read them, other than its outputs."""
    return [
        name for name, read in record.inputs.items() if name not in outputs and version(name, record.ref_date) != read
    ]
