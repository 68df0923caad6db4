"""Commands that run pipelines, and show what ran."""

from __future__ import annotations

import logging
from dataclasses import asdict
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from luxor_pipelines.cli.app import (
    Json,
    Lake,
    Wide,
    Yes,
    app,
    checked_lake,
    complete_pipelines,
    confirmed,
    exit_code,
    open_lake,
    prints_table,
)
from luxor_pipelines.cli.output import (
    Form,
    Grid,
    emit,
    log_steps,
    note,
    print_grid,
    print_json,
    progress,
    tell_error,
    working,
)
from luxor_pipelines.errors import ConfigurationError, LuxorError, NotFoundError, UsageError, redact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from luxor_pipelines.ingest import LoadResult
    from luxor_pipelines.lake.storage.lease import LeaseState
    from luxor_pipelines.operations.backfill import Backfill, PlannedDate
    from luxor_pipelines.operations.dry_run import DryRun
    from luxor_pipelines.operations.records import RunReport
    from luxor_pipelines.operations.status import TableStatus
    from luxor_pipelines.pipelines import Declaration

__all__ = ["backfill_", "list_", "retry", "run_", "runs", "status", "unlock"]

logger = logging.getLogger(__name__)

Param = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="KEY=VALUE", help="Another parameter of the pipeline; can be repeated."),
]
Force = Annotated[bool, typer.Option("--force", help="Write rows that do not pass the checks; the record says so.")]


class Layout(StrEnum):
    """The layouts that a pipeline's table can be made in."""

    DECLARED = "declared"
    FILE = "file"


@app.command("run")
def run_(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME…",
            help="The pipelines; `luxor list` names them.",
            show_default=False,
            autocompletion=complete_pipelines,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All pipelines.")] = False,
    ref_date: Annotated[
        str | None,
        typer.Option(
            "--ref-date",
            metavar="DATE",
            help="Reference date, as 2026-10-31, or a month, as 2026-10; default the pipeline's own choice.",
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option("--table", metavar="TABLE", help="The table to load, where a pipeline has a choice."),
    ] = None,
    layout: Annotated[
        Layout | None,
        typer.Option(
            "--layout",
            case_sensitive=False,
            help="The layout of a table that is new: one file, or as the pipeline declares. It keeps it.",
        ),
    ] = None,
    param: Param = None,
    force: Force = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Compute and check, and print what would change; write nothing.")
    ] = False,
    lake: Lake = None,
    json: Json = False,
) -> None:
    """Run pipelines, in the order of their inputs.

    Dates are calendar dates in São Paulo (America/Sao_Paulo), and the end is inclusive: a reference date
    counts itself. hist_returns moves it to the end of its month, takes the last month that has ended when
    none is given, and refuses one that has not. Running again is safe: what has not changed is not written.

    Rows that do not pass a pipeline's checks (half of last month's assets are gone, say) are listed, not written;
    look into it before you --force them.

    Every run leaves a record in the lake, under system/runs/; `luxor runs` lists them. Where several pipelines run
    and one fails, the others run all the same; the exit code is that of the first that failed.
    """
    from luxor_pipelines.operations.discovery import find_pipelines, in_order, parse_params
    from luxor_pipelines.operations.runs import run

    if every == bool(names):
        raise UsageError("Name the pipelines to run, or give --all.", hint="`luxor list` names them.")
    log_steps()
    texts = [*(param or []), *([f"table={table}"] if table is not None else []), *(["force=true"] if force else [])]
    chosen = list(names or find_pipelines())
    if len(chosen) > 1:
        chosen = in_order(chosen)
    params: dict[str, Any] = {}
    for name in chosen:
        try:
            params[name] = parse_params(name, texts)
        except ConfigurationError:  # it cannot be imported, which is told when its turn comes
            params[name] = {}
    where = checked_lake(lake) if len(chosen) == 1 else open_lake(lake)
    work: Callable[..., Any] = run
    if dry_run:
        from luxor_pipelines.operations.dry_run import dry_run as without_writing

        work = without_writing
    failures: list[Exception] = []
    reports: list[dict[str, Any]] = []
    for name in chosen:
        try:
            with working(f"{name} is running"):
                result = work(name, ref_date, lake=where, layout=layout.value if layout else None, **params[name])
        except Exception as error:
            if len(chosen) == 1:
                raise
            tell_error(f"{name} failed: {_told(error)}")
            logger.debug("How %s failed:", name, exc_info=True)
            failures.append(error)
            reports.append({"pipeline": name, "error": _described(error)})
            continue
        reports.append(asdict(result) if dry_run else result.as_dict())
        if not json:
            (_print_dry_run if dry_run else print_report)(result)
    if json:
        print_json(reports[0] if len(chosen) == 1 else {"runs": reports})
    if failures:
        raise typer.Exit(exit_code(failures[0]))


@app.command("list")
def list_(
    details: Annotated[
        bool, typer.Option("--details", help="Also the tables each reads and writes, and when it is due.")
    ] = False,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """List the pipelines."""
    # Only flags: newer versions of typer import pydantic for any other option, as long again as listing takes.
    from luxor_pipelines.operations.discovery import declarations, find_pipelines

    form = Form(json=json, wide=wide)
    pipelines = find_pipelines()
    declared = declarations() if details else {}
    if form.json:
        print_json(
            {
                "pipelines": [
                    {"name": pipeline.name, "description": pipeline.description, "package": pipeline.package}
                    | (_declared(declared[name]) if name in declared else {})
                    for name, pipeline in pipelines.items()
                ]
            }
        )
    elif details:
        rows = [
            (
                name,
                ", ".join(schema.name for schema in declaration.outputs) or None,
                declaration.dates,
                None if declaration.due is None else str(declaration.due),
                ", ".join(declaration.inputs) or None,
            )
            for name, declaration in declared.items()
        ]
        folded = frozenset({"Pipeline", "Writes", "Due", "Reads"})
        print_grid(Grid(("Pipeline", "Writes", "Dates", "Due", "Reads"), rows, folded=folded), form)
    else:
        described = [(pipeline.name, pipeline.description) for pipeline in pipelines.values()]
        print_grid(Grid(("Pipeline", "Description"), described, folded=frozenset({"Description"})), form)


def _declared(declaration: Declaration) -> dict[str, Any]:
    return {
        "writes": [schema.name for schema in declaration.outputs],
        "reads": list(declaration.inputs),
        "dates": declaration.dates,
        "due": None if declaration.due is None else asdict(declaration.due),
    }


@app.command()
@prints_table
def runs(
    form: Form,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME | show",
            help="Only the runs of this pipeline; or `show` and an id, for all that is recorded of one run.",
            show_default=False,
            autocompletion=complete_pipelines,
        ),
    ] = None,
    ident: Annotated[str | None, typer.Argument(metavar="ID", help="The run to show.", show_default=False)] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only runs that failed or died.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="Only runs that began on this day (UTC) or later.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="How many runs at most; 0 for all.")] = 20,
    lake: Lake = None,
) -> None:
    """List the latest runs, newest first.

    `luxor runs show ID` shows all that is recorded of one.
    """
    from luxor_pipelines.operations.records import find_run, last_runs
    from luxor_pipelines.operations.runs import as_reference_date

    where = open_lake(lake)
    if name == "show":
        if ident is None:
            raise UsageError("Which run is to be shown?", hint="luxor runs show ID; `luxor runs` has the ids.")
        report = find_run(where, ident)
        if form.json:
            print_json(report.as_dict())
        else:
            _print_run(report)
        return
    if ident is not None:
        raise UsageError(f"{ident!r} is too much.", hint="luxor runs [NAME], or luxor runs show ID.")
    begin = None if since is None else as_reference_date(since, first=True)
    reports = last_runs(where, name, limit or None, failed=failed, since=begin)
    if form.json:
        print_json({"runs": [report.as_dict() for report in reports]})
        return
    print_grid(_run_grid(reports), form)
    if not reports:
        note("No such runs." if failed or since else "No runs yet; `luxor run NAME` makes one.")


def _run_grid(reports: Sequence[RunReport]) -> Grid:
    """Return runs, one a row; with their errors where any failed."""
    rows = [
        (
            report.started_at.replace(tzinfo=None, microsecond=0),
            report.pipeline,
            report.status,
            report.ref_date,
            None if report.duration_s is None else round(report.duration_s, 1),
            report.rows,
            None if report.status != "done" else "yes" if report.changed else "no",
            report.id,
            f"{report.error['class']}: {report.error['message']}" if report.error else None,
        )
        for report in reports
    ]
    columns = ("Started (UTC)", "Pipeline", "Status", "Ref_Date", "Seconds", "Rows", "Changed", "ID", "Error")
    spare = ("Seconds", "Changed", "Rows", "Ref_Date")
    grid = Grid(columns, rows, grouped=frozenset({"Rows"}), status=frozenset({"Status"}), spare=spare)
    return grid if any(report.error for report in reports) else grid.without({"Error"})


@app.command()
@prints_table
def retry(
    form: Form,
    ident: Annotated[
        str | None, typer.Argument(metavar="ID", help="The run; `luxor runs` has the ids.", show_default=False)
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Retry every pipeline and reference date whose last run failed or died.")
    ] = False,
    lake: Lake = None,
) -> None:
    """Run a pipeline again as in an earlier run.

    It gets the same reference date and the same parameters. Csv and workbooks have a row for each run that is done,
    as those of `luxor runs`.
    """
    from luxor_pipelines.operations.records import find_run, last_runs
    from luxor_pipelines.operations.runs import retry as again

    if failed == (ident is not None):
        raise UsageError("Give the id of a run, or --failed.", hint="`luxor runs --failed` lists those that failed.")
    log_steps()
    where = open_lake(lake)
    if ident is not None:
        chosen = [find_run(where, ident)]
    else:
        last: dict[tuple[str, Any], RunReport] = {}
        for report in last_runs(where, None, None):
            if report.status != "skipped":
                last.setdefault((report.pipeline, report.ref_date), report)
        chosen = [report for report in last.values() if report.status in ("failed", "died")][::-1]
    failures: list[Exception] = []
    reports: list[dict[str, Any]] = []
    reruns: list[RunReport] = []
    for report in chosen:
        try:
            with working(f"{report.pipeline} is running"):
                rerun = again(report, lake=where)
        except Exception as error:
            day = f" of {report.ref_date}" if report.ref_date else ""
            tell_error(f"{report.pipeline}{day} failed: {_told(error)}")
            logger.debug("How %s failed:", report.pipeline, exc_info=True)
            failures.append(error)
            reports.append({"pipeline": report.pipeline, "error": _described(error)})
            continue
        reports.append(rerun.as_dict())
        reruns.append(rerun)
        if not (form.json or form.one_table):
            print_report(rerun)
    if form.json:
        print_json({"runs": reports})
    elif form.one_table:
        print_grid(_run_grid(reruns), form)
    if not chosen:
        note("Nothing to retry.")
    if failures:
        raise typer.Exit(exit_code(failures[0]))


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, LuxorError) else redact(f"{type(error).__name__}: {error}")


def _described(error: Exception) -> dict[str, str]:
    message, hint = (error.message, error.hint) if isinstance(error, LuxorError) else (redact(str(error)), "")
    return {"class": type(error).__name__, "message": message, "hint": hint}


def _print_run(report: RunReport) -> None:
    """Print all of a run's record."""
    lines: list[tuple[str, str | None]] = [
        ("Run", report.id),
        ("Pipeline", report.pipeline),
        ("Status", report.status),
        ("Reference date", str(report.ref_date) if report.ref_date else None),
        ("Started (UTC)", f"{report.started_at:%Y-%m-%d %H:%M:%S}"),
        ("Seconds", None if report.duration_s is None else f"{report.duration_s:.1f}"),
        ("Rows", None if report.rows is None else f"{report.rows:,}"),
        ("Started by", report.trigger or None),
        ("Worker", report.worker),
        ("Library", report.library_version),
        *((f"Parameter {key}", str(value)) for key, value in report.params.items()),
        *((f"Input {key}", version or "not there") for key, version in report.inputs.items()),
        *((f"Output {load.table}", f"{load}; version {load.version_after}") for load in report.loads),
        *(("Warning", warning) for warning in report.warnings),
        *((f"Detail {key}", _in_words(value)) for key, value in report.details.items()),
        *(("May still land", path) for path in report.unsettled),
        ("Record", report.path),
    ]
    if report.error:
        lines += [
            ("Error", f"{report.error['class']}: {report.error['message']}"),
            ("What to do", report.error["hint"]),
        ]
    for label, text in lines:
        if text:
            emit(f"{label}: {text}")


def _in_words(value: Any) -> str:
    """Return a detail of a record as people write it: ``ok: 306, no_base: 12``, without Python's brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_in_words(part)}" for key, part in value.items())
    return ", ".join(map(_in_words, value)) if isinstance(value, list) else str(value)


def _print_dry_run(result: DryRun) -> None:
    """Print what a run would do."""
    emit(f"{result.pipeline} would load{f'; reference date {result.ref_date}' if result.ref_date else ''}")
    _print_loads(result.loads)
    rows = [
        (
            difference.table,
            " ".join(difference.key.values()),
            difference.column,
            f"{difference.before:,.6g}",
            f"{difference.after:,.6g}",
        )
        for difference in result.differences
    ]
    if rows:
        emit("")
        emit("The numbers that would change most:")
        print_grid(Grid(("Table", "Row", "Column", "Before", "After"), rows, right=frozenset({"Before", "After"})))
    for warning in result.warnings:
        emit(f"warning: {warning}")
    emit("nothing was written")


def _print_loads(results: Sequence[LoadResult]) -> None:
    counts = ("inserted", "updated", "unchanged", "deleted")
    loads = [(load.table, *(getattr(load, count) for count in counts)) for load in results]
    if loads:
        names = tuple(map(str.capitalize, counts))
        print_grid(Grid(("Table", *names), loads, grouped=frozenset(names)))


def print_report(report: RunReport) -> None:
    """Print what a run did."""
    day = f"; reference date {report.ref_date}" if report.ref_date else ""
    emit(f"{report.pipeline} {report.status} in {report.duration_s:.1f} s{day}")
    _print_loads(report.loads)
    emit(f"rows: {report.rows:,}" + ("" if report.changed else "; nothing changed"))
    statuses = report.details.get("statuses")
    if isinstance(statuses, dict) and statuses:
        emit("statuses: " + ", ".join(f"{count:,} {status}" for status, count in statuses.items()))
    for warning in report.warnings:
        emit(f"warning: {warning}")
    emit(f"record: {report.path}")


@app.command()
@prints_table
def status(
    form: Form,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 when a table is late.")] = False,
    lake: Lake = None,
) -> None:
    """Show which tables are late, and their last runs.

    Each table is compared with what its pipeline declares. A price table that no pipeline here writes is judged
    by its newest date: traded prices and rates are late after a business day, fund quotas after five; venture
    marks are not judged.
    """
    from luxor_pipelines.operations.status import table_status

    statuses = table_status(checked_lake(lake))
    late = [table for table in statuses if table.late]
    if form.json:
        print_json({"tables": [_status_record(table) for table in statuses], "late": len(late)})
    else:
        rows = [
            (
                table.table,
                table.pipeline,
                *_last_run(table.last_run),
                table.newest,
                "no date" if table.late and table.newest is None and not form.one_table else table.late_days or None,
                None if table.next_due is None else table.next_due.replace(tzinfo=None),
            )
            for table in statuses
        ]
        run_columns = ("Last run (UTC)", "Status", "Rows", "Seconds")
        columns = ("Table", "Pipeline", *run_columns, "Newest", "Late", "Next due (UTC)")
        spare = ("Seconds", "Rows", "Next due (UTC)", "Pipeline")
        status_columns = frozenset({"Status", "Late"})
        right, grouped = frozenset({"Late"}), frozenset({"Rows"})
        grid = Grid(columns, rows, grouped=grouped, right=right, status=status_columns, spare=spare)
        print_grid(grid, form)
        late_words = f"{len(late)} of {len(statuses)} tables are late; Late counts business days."
        note(late_words if late else "Nothing is late.")
    if check and late:
        raise typer.Exit(1)


def _last_run(run: RunReport | None) -> tuple[datetime | None, str | None, int | None, float | None]:
    """Return when the last run was and how it ended, its rows and seconds; None of each without one."""
    if run is None:
        return None, None, None, None
    seconds = None if run.duration_s is None else round(run.duration_s, 1)
    return run.started_at.replace(tzinfo=None, microsecond=0), run.status, run.rows, seconds


def _status_record(status: TableStatus) -> dict[str, Any]:
    last = status.last_run
    return {
        "table": status.table,
        "pipeline": status.pipeline,
        "newest": None if status.newest is None else str(status.newest),
        "expected": None if status.expected is None else str(status.expected),
        "late_business_days": status.late_days,
        "next_due": None if status.next_due is None else status.next_due.isoformat(),
        "last_run": None if last is None else last.as_dict(),
    }


# --- backfill ---------------------------------------------------------------------------------


@app.command("backfill")
@prints_table
def backfill_(
    form: Form,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The pipeline; `luxor list` names them.",
            show_default=False,
            autocompletion=complete_pipelines,
        ),
    ],
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="DATE", help="The first date, or month as 2006-01; default the first there is."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="The last date, or month; default the last that ended.")
    ] = None,
    missing: Annotated[bool, typer.Option("--missing", help="Only dates that are not stored.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only dates whose last run failed or died.")] = False,
    stale: Annotated[
        bool, typer.Option("--stale", help="Only dates whose inputs have changed since their last run.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", min=1, help="How many processes on this machine share the dates.")
    ] = 1,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", metavar="ADDRESS", help="A Dask scheduler, as tcp://scheduler:8786, or local:N."),
    ] = None,
    param: Param = None,
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    lake: Lake = None,
) -> None:
    """Run a pipeline for many reference dates.

    A plan first says which dates, and why. Dates are São Paulo's, both ends included. Each date is written
    whole or not at all and has a record of its own; one that fails stops no other. After Ctrl-C, start it again
    with --missing. Exit code 1 if a date failed or was stopped by the checks. Csv and workbooks have
    a row for each date: how it ended and why, or with --dry-run what is planned.
    """
    from luxor_pipelines.operations.backfill import Backfill, carry_out, plan_backfill
    from luxor_pipelines.operations.discovery import parse_params

    params = parse_params(name, [*(param or []), *(["force=true"] if force else [])])
    where = open_lake(lake)
    plan = plan_backfill(name, start, end, lake=where, missing=missing, failed=failed, stale=stale)
    result = Backfill(name, tuple(plan))
    if not form.json and (dry_run or not form.one_table):
        _print_plan(plan, form)
    if not dry_run:
        with progress("Backfilling", sum(planned.run for planned in plan)) as advance:
            result = carry_out(
                name,
                plan,
                lake=where,
                jobs=jobs,
                cluster=cluster,
                told=lambda outcome: advance(f"{outcome.date} {outcome.status}"),
                **params,
            )
    if form.json:
        print_json({"dry_run": dry_run, **asdict(result)})
    elif not dry_run:
        _print_outcomes(result, form)
    if result.failed:
        raise typer.Exit(1)


def _print_plan(plan: list[PlannedDate], form: Form) -> None:
    """Print the dates of a plan; neighbours with the same reason are one line, but in csv and workbooks."""
    if form.one_table:
        dates = [(planned.date, "run" if planned.run else "skip", planned.reason) for planned in plan]
        print_grid(Grid(("Date", "Plan", "Why"), dates), form)
        return
    rows: list[tuple[str, str, str, str]] = []
    for (run, reason), group in groupby(plan, key=lambda planned: (planned.run, planned.reason)):
        days = [planned.date for planned in group]
        rows.append((str(days[0]), str(days[-1]), f"{len(days):,}", f"{'run' if run else 'skip'}: {reason}"))
    grid = Grid(("From", "To", "Dates", "Plan"), rows, right=frozenset({"Dates"}), folded=frozenset({"Plan"}))
    print_grid(grid, form)


def _print_outcomes(result: Backfill, form: Form) -> None:
    """Print how many dates ended how, and those that went wrong; in csv and workbooks each date."""
    from luxor_pipelines.operations.runs import Ending

    if form.one_table:
        outcomes = [(outcome.date, outcome.status, outcome.message or None) for outcome in result.outcomes]
        print_grid(Grid(("Date", "Outcome", "Why"), outcomes), form)
        return
    counts = [(status, f"{result.count(status):,}") for status in get_args(Ending) if result.count(status)]
    emit("")
    print_grid(Grid(("Outcome", "Dates"), counts or [("nothing to do", "0")], right=frozenset({"Dates"})), form)
    troubles = [
        (str(outcome.date), outcome.status, outcome.message)
        for outcome in result.outcomes
        if outcome.status not in ("done", "unchanged")
    ]
    if troubles:
        emit("")
        print_grid(Grid(("Date", "Outcome", "Why"), troubles, folded=frozenset({"Why"})), form)


# --- leases -------------------------------------------------------------------------------------


@app.command()
@prints_table
def unlock(
    form: Form,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The lease to release; without it they are listed.", show_default=False),
    ] = None,
    ended: Annotated[
        bool, typer.Option("--ended", help="The processes that held it have surely ended: forget them.")
    ] = False,
    yes: Yes = False,
    lake: Lake = None,
) -> None:
    """Show who holds which lease, or release one.

    A lease is a lock that expires: it keeps two processes from doing the same work. When its holder no longer
    renews it, the next run takes it over; release by hand only a lease that no run takes over, such as that of a
    conversion that died. The holder may still wake up: until it says that it has ended, or you say so with --ended,
    later runs guard against what it might write.
    """
    from luxor_pipelines.lake.storage import lease

    storage = open_lake(lake).storage
    states = lease.lease_states(storage)
    if name is None:
        _print_leases(states, form)
        return
    plain = name.strip().strip("/").removeprefix(f"{lease.LEASES}/").removesuffix(".json")
    path = next((state.path for state in states if _lease_name(state.path) in (plain, f"runs/{plain}")), None)
    if path is None:
        near = [lease_name for state in states if plain in (lease_name := _lease_name(state.path)).split("/")]
        hint = f"Name one of {', '.join(near)}." if near else "`luxor unlock` lists them."
        raise NotFoundError(f"There is no lease {plain} in {storage.url}.", hint=hint)
    question = f"Have all processes that held {plain} ended?" if ended else f"Release {plain}?"
    if not confirmed(question, yes=yes, action="Releasing a lease"):
        note("Nothing was changed.")
        raise typer.Exit(1)
    changed = lease.unlock(storage, path, ended=ended)
    if form.json:
        print_json({"lease": _lease_name(path), "changed": changed, "ended": ended})
    else:
        emit(f"{_lease_name(path)} {'is released' if changed else 'was released already'}")


def _print_leases(states: list[LeaseState], form: Form) -> None:
    leases: list[dict[str, Any]] = [
        {
            "lease": _lease_name(state.path),
            "state": "released" if state.holder is None else "expired" if state.expired else "held",
            "holder": None if state.holder is None else dict(state.holder.about),
            "renewed": None if state.holder is None else state.holder.renewed.isoformat(),
            "overdue_s": None if state.holder is None else round(state.overdue_s, 3),
            "lost": [dict(about) for about in state.lost],
        }
        for state in states
    ]
    if form.json:
        print_json({"leases": leases})
        return
    rows = [
        (
            lease["lease"],
            lease["state"],
            str(state.holder.about["run"]) if state.holder and "run" in state.holder.about else None,
            state.holder.renewed.replace(tzinfo=None, microsecond=0) if state.holder else None,
            ", ".join(str(about.get("run", "unknown")) for about in state.lost) or None,
        )
        for lease, state in zip(leases, states, strict=True)
    ]
    print_grid(Grid(("Lease", "State", "Run", "Renewed (UTC)", "Lost runs"), rows, status=frozenset({"State"})), form)
    if not leases:
        note("Nobody holds a lease.")


def _lease_name(path: str) -> str:
    """Return a lease's path without what all of them share."""
    return path.removeprefix("system/locks/").removesuffix(".json")
