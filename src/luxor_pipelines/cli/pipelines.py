"""Commands that run pipelines, and show what ran."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from luxor_pipelines.cli.app import Json, Lake, Yes, app, checked_lake, confirmed, open_lake
from luxor_pipelines.cli.output import Grid, emit, log_steps, note, print_grid, print_json, progress, working
from luxor_pipelines.errors import NotFoundError

if TYPE_CHECKING:
    from luxor_pipelines.lake.storage.lease import LeaseState
    from luxor_pipelines.operations.backfill import Backfill, PlannedDate
    from luxor_pipelines.operations.records import RunReport

__all__ = ["backfill_", "list_", "run_", "runs", "unlock"]

Param = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="KEY=VALUE", help="Another parameter of the pipeline; can be repeated."),
]
Force = Annotated[bool, typer.Option("--force", help="Write rows that do not pass the checks; the record says so.")]


@app.command("run")
def run_(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The pipeline; `luxor list` names them.", show_default=False)
    ],
    ref_date: Annotated[
        str | None,
        typer.Option(
            "--ref-date", metavar="DATE", help="Reference date, as 2026-10-31; default the pipeline's own choice."
        ),
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", metavar="TABLE", help="Load into this table, where the pipeline lets one.")
    ] = None,
    param: Param = None,
    force: Force = False,
    lake: Lake = None,
    json: Json = False,
) -> None:
    """Run a pipeline, and print what it did.

    Dates are calendar dates in São Paulo (America/Sao_Paulo), and the end is inclusive: a reference date
    counts itself. hist_returns moves it to the end of its month, takes the last month that has ended when
    none is given, and refuses one that has not. Running again is safe: what has not changed is not written.

    What does not pass a pipeline's checks (half the assets of last month, say) is not written, and listed; look
    into it before you --force it.

    Every run leaves a record in the lake, under system/runs/; `luxor runs` lists them.
    """
    from luxor_pipelines.operations.discovery import parse_params
    from luxor_pipelines.operations.runs import run

    log_steps()
    texts = [*(param or []), *([f"table={table}"] if table is not None else []), *(["force=true"] if force else [])]
    params = parse_params(name, texts)
    with working(f"{name} is running"):
        report = run(name, ref_date=ref_date, lake=checked_lake(lake), **params)
    if json:
        print_json(report.as_dict())
    else:
        print_report(report)


@app.command("list")
def list_(json: Json = False) -> None:
    """The pipelines there are."""
    from luxor_pipelines.operations.discovery import find_pipelines

    found = [(each.name, each.description, each.package) for each in find_pipelines().values()]
    if json:
        keys = ("name", "description", "package")
        print_json({"pipelines": [dict(zip(keys, each, strict=True)) for each in found]})
    else:
        print_grid(Grid(("Pipeline", "Description"), [each[:2] for each in found]))


@app.command()
def runs(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this pipeline's.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many; 0 for all.")] = 20,
    lake: Lake = None,
    json: Json = False,
) -> None:
    """The most recent runs, newest first."""
    from luxor_pipelines.operations.records import last_runs

    reports = last_runs(open_lake(lake), name, limit or None)
    if json:
        print_json({"runs": [report.as_dict() for report in reports]})
        return
    rows = [
        (
            f"{report.started_at:%Y-%m-%d %H:%M:%S}",
            report.pipeline,
            report.status,
            str(report.ref_date) if report.ref_date else None,
            None if report.duration_s is None else f"{report.duration_s:.1f}",
            None if report.rows is None else f"{report.rows:,}",
            None if report.status != "done" else "yes" if report.changed else "no",
            f"{report.error['class']}: {report.error['message']}" if report.error else None,
        )
        for report in reports
    ]
    columns = ("Started (UTC)", "Pipeline", "Status", "Ref_Date", "Seconds", "Rows", "Changed", "Error")
    print_grid(Grid(columns, rows, right=frozenset({"Seconds", "Rows"})))
    if not reports:
        note("No runs yet; `luxor run NAME` makes one.")


def print_report(report: RunReport) -> None:
    """Print what a run did."""
    day = f"; reference date {report.ref_date}" if report.ref_date else ""
    emit(f"{report.pipeline} {report.status} in {report.duration_s:.1f} s{day}")
    counts = ("inserted", "updated", "unchanged", "deleted")
    loads = [(load.table, *(f"{getattr(load, count):,}" for count in counts)) for load in report.loads]
    if loads:
        print_grid(Grid(("Table", *map(str.capitalize, counts)), loads, right=frozenset(map(str.capitalize, counts))))
    emit(f"rows: {report.rows:,}" + ("" if report.changed else "; nothing changed"))
    for warning in report.warnings:
        emit(f"warning: {warning}")
    emit(f"record: {report.path}")


# --- backfill ---------------------------------------------------------------------------------


@app.command("backfill")
def backfill_(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The pipeline; `luxor list` names them.", show_default=False)
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
        bool, typer.Option("--stale", help="Only dates of which something that their last run read has changed since.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Processes of this machine to divide the dates among.")
    ] = 1,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", metavar="ADDRESS", help="A Dask scheduler, as tcp://scheduler:8786, or local:N."),
    ] = None,
    param: Param = None,
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    lake: Lake = None,
    json: Json = False,
) -> None:
    """Run a pipeline for many reference dates, after a plan that says which and why.

    Dates are São Paulo's, both ends included. Each date is written whole or not at all and has a record of its own; one
    that fails stops no other. Interrupted with Ctrl-C, it goes on with --missing. Exit code 1 if a date failed or
    was stopped by the checks.
    """
    from luxor_pipelines.operations.backfill import Backfill, carry_out, plan_backfill
    from luxor_pipelines.operations.discovery import parse_params

    params = parse_params(name, [*(param or []), *(["force=true"] if force else [])])
    where = open_lake(lake).lake
    plan = plan_backfill(name, start, end, lake=where, missing=missing, failed=failed, stale=stale)
    done = Backfill(name, tuple(plan))
    if not json:
        _print_plan(plan)
    if not dry_run:
        with progress("Backfilling", sum(planned.run for planned in plan)) as advance:
            done = carry_out(
                name,
                plan,
                lake=where,
                jobs=jobs,
                cluster=cluster,
                told=lambda outcome: advance(f"{outcome.date} {outcome.status}"),
                **params,
            )
    if json:
        print_json({"dry_run": dry_run, **asdict(done)})
    elif not dry_run:
        _print_outcomes(done)
    if done.failed:
        raise typer.Exit(1)


def _print_plan(plan: list[PlannedDate]) -> None:
    """Print the dates of a plan; neighbours with the same reason are one line."""
    rows: list[tuple[str, str, str, str]] = []
    for (run, reason), group in groupby(plan, key=lambda each: (each.run, each.reason)):
        dates = [each.date for each in group]
        rows.append((str(dates[0]), str(dates[-1]), f"{len(dates):,}", f"{'run' if run else 'skip'}: {reason}"))
    print_grid(Grid(("From", "To", "Dates", "Plan"), rows, right=frozenset({"Dates"})))


def _print_outcomes(done: Backfill) -> None:
    from luxor_pipelines.operations.backfill import Ending

    counts = [(status, f"{done.count(status):,}") for status in get_args(Ending) if done.count(status)]
    emit("")
    print_grid(Grid(("Outcome", "Dates"), counts or [("nothing to do", "0")], right=frozenset({"Dates"})))
    troubles = [
        (str(outcome.date), outcome.status, outcome.message)
        for outcome in done.outcomes
        if outcome.status not in ("done", "unchanged")
    ]
    if troubles:
        emit("")
        print_grid(Grid(("Date", "Outcome", "Why"), troubles))


# --- leases -------------------------------------------------------------------------------------


@app.command()
def unlock(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="The lease to release, as this lists them; default list them.", show_default=False
        ),
    ] = None,
    ended: Annotated[
        bool, typer.Option("--ended", help="The processes that held it have surely ended: forget them.")
    ] = False,
    yes: Yes = False,
    lake: Lake = None,
    json: Json = False,
) -> None:
    """Show who holds which lease, or release one whose holder has died.

    A lease keeps two processes from doing the same work. One that is not renewed any more is taken over by the next
    run; releasing it by hand is for what does not, such as a conversion that died. Its holder may still wake up:
    until it says that it has ended, or you say so with --ended, later runs guard against what it might write.
    """
    from luxor_pipelines.lake.storage import lease

    storage = open_lake(lake).lake.storage
    states = lease.lease_states(storage)
    if name is None:
        _print_leases(states, json=json)
        return
    plain = name.strip().strip("/").removeprefix(f"{lease.LEASES}/").removesuffix(".json")
    path = next((state.path for state in states if _lease_name(state.path) in (plain, f"runs/{plain}")), None)
    if path is None:
        raise NotFoundError(f"There is no lease {plain} in {storage.url}.", hint="`luxor unlock` lists them.")
    question = f"Have all processes that held {plain} ended?" if ended else f"Release {plain}?"
    if not confirmed(question, yes=yes, what="Releasing a lease"):
        note("Nothing was changed.")
        raise typer.Exit(1)
    changed = lease.unlock(storage, path, ended=ended)
    if json:
        print_json({"lease": _lease_name(path), "changed": changed, "ended": ended})
    else:
        emit(f"{_lease_name(path)} {'is released' if changed else 'was released already'}")


def _print_leases(states: list[LeaseState], *, json: bool) -> None:
    found: list[dict[str, Any]] = [
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
    if json:
        print_json({"leases": found})
        return
    rows = [
        (
            lease["lease"],
            lease["state"],
            str((lease["holder"] or {}).get("run", "–")),
            f"{state.holder.renewed:%Y-%m-%d %H:%M:%S}" if state.holder else None,
            ", ".join(str(about.get("run", "unknown")) for about in state.lost) or None,
        )
        for lease, state in zip(found, states, strict=True)
    ]
    print_grid(Grid(("Lease", "State", "Run", "Renewed (UTC)", "Lost runs"), rows))
    if not found:
        note("Nobody holds a lease.")


def _lease_name(path: str) -> str:
    """A lease's path without what all of them share."""
    return path.removeprefix("system/locks/").removesuffix(".json")
