"""Commands that show what the tables hold, and `luxor demo`."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luxor_pipelines.cli.app import Lake, app, complete_tables, open_lake, open_query, prints_table
from luxor_pipelines.cli.output import Form, Grid, counted, emit, note, print_grid, print_json, tell_error, working
from luxor_pipelines.errors import ForeignTableError, LakeError, SchemaError, UnreachableError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Currency", "demo", "find", "returns", "show", "sql", "tables"]


_SPARE = ("Price_Key", "Local_Currency", "Base_Date", "End_Date", "End_Price", "Base_Price")
"""Columns that say least about a row, left out first where there is little room."""


class Currency(StrEnum):
    """The currencies that returns can be shown in."""

    LOCAL = "local"
    USD = "usd"
    BRL = "brl"


@app.command()
@prints_table
def tables(form: Form, lake: Lake = None) -> None:
    """List the tables of the lake.

    Rows are counted where a table has at most 24 files. First and Last are the dates of its first column of dates,
    where the files' statistics have them. A folder is another program's, and only read; delta, iceberg and
    hudi tables are not read.
    """
    from luxor_pipelines.lake.concurrency import at_once
    from luxor_pipelines.lake.table.layout import Snapshot
    from luxor_pipelines.lake.table.listing import find_all
    from luxor_pipelines.lake.table.table import Extent

    where = open_lake(lake)
    storage, names = where.storage, where.tables()
    snapshots = find_all(storage, names, where.directory)

    def look(name: str) -> tuple[Snapshot, Extent] | SchemaError | LakeError | None:
        table = where.table(name)
        try:
            snapshot = snapshots[name] if name in snapshots else table.find()
            return None if snapshot is None else (snapshot, table.extent(snapshot))
        except UnreachableError:
            raise
        except (SchemaError, LakeError) as error:  # one odd table is no reason not to list the others
            return error

    rows: list[tuple[str, str, int | None, int | None, date | None, date | None, int | None, datetime | None]] = []
    for name, looked in zip(names, at_once(storage, names, look), strict=True):
        if isinstance(looked, ForeignTableError):
            rows.append((name, looked.kind, None, None, None, None, None, None))
        elif isinstance(looked, SchemaError | LakeError):
            tell_error(f"Warning: {looked}")
        elif looked is not None:
            snapshot, extent = looked
            infos = [part.info for part in snapshot.parts]
            size, changed = sum(info.size for info in infos), max(info.modified for info in infos)
            rows.append((name, snapshot.layout, len(infos), *extent, size, changed))
    if form.json:
        keys = ("name", "layout", "files", "rows", "first", "last", "bytes", "changed")
        texts = [[cell.isoformat() if isinstance(cell, date) else cell for cell in row] for row in rows]
        print_json({"tables": [dict(zip(keys, row, strict=True)) for row in texts]})
        return
    cells = [(*row[:7], row[7] and row[7].replace(tzinfo=None, microsecond=0)) for row in rows]
    columns = ("Table", "Layout", "Files", "Rows", "First", "Last", "Bytes", "Changed (UTC)")
    spare = ("Bytes", "Layout")
    print_grid(Grid(columns, cells, grouped=frozenset({"Files", "Rows", "Bytes"}), spare=spare), form)
    if not rows:
        note(f"No tables in {storage.url}/{where.directory}.")


_Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help='Only rows like "Date>=2026-10-01"; = != < <= > >=; can be repeated, all must hold. '
        '"Column=" finds the rows without a value. A day means all of it, so <= includes it.',
    ),
]
_Sort = Annotated[
    str | None,
    typer.Option("--sort", metavar="A,-B", help="Sort by these columns; - before a name: the largest first."),
]


@app.command()
@prints_table
def show(
    form: Form,
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="The table; `luxor tables` names them.",
            show_default=False,
            autocompletion=complete_tables,
        ),
    ],
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="A,B", help="Only these columns, in this order.")
    ] = None,
    where: _Where = None,
    sort: _Sort = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="How many rows at most; 0 for all.")] = 20,
    tail: Annotated[bool, typer.Option("--tail", help="The last rows of that order instead of the first.")] = False,
    lake: Lake = None,
) -> None:
    """Show the rows of a table, newest first.

    A terminal shows what fits, numbers with six digits, and Last_Updated only when it is asked for.
    """
    from luxor_pipelines.cli.rows import grid_of, json_rows, select
    from luxor_pipelines.lake.types.schema import LAST_UPDATED

    opened = open_lake(lake)
    chosen = None if columns is None else [name for name in columns.split(",") if name.strip()]
    if chosen == []:
        raise UsageError("--columns names none.", hint="Write it like --columns Date,Asset.")
    data = select(opened.table(table), chosen, where or [], sort)
    shown = _some(data, limit, tail=tail)
    if form.json:
        print_json({"table": table, "total_rows": len(data), "columns": shown.column_names, "rows": json_rows(shown)})
    else:
        in_full = chosen is not None or form.one_table or form.wide
        grid = grid_of(shown)
        print_grid(replace(grid if in_full else grid.without({LAST_UPDATED}), spare=_SPARE), form)
    note(f"{len(shown):,} of {counted(len(data), 'row')}")


def _some(data: pa.Table, limit: int, *, tail: bool = False) -> pa.Table:
    """Return the first rows, or the last; 0 for all."""
    if not limit:
        return data
    count = min(limit, len(data))
    return data.slice(len(data) - count) if tail else data.slice(0, count)


@app.command()
@prints_table
def find(
    form: Form,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A part of a name, or something near one.")],
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many assets at most.")] = 20,
    lake: Lake = None,
) -> None:
    """Look for assets by a part of a name, the nearest first.

    Keys, names, tickers and price keys are compared, without regard to case. The dates are those of the first and the
    last row of the price series.
    """
    from luxor_pipelines.cli.rows import arrow_of, grid_of, json_rows

    data = arrow_of(open_query(lake).find(text, limit))
    if form.json:
        print_json({"text": text, "rows": json_rows(data)})
    else:
        print_grid(replace(grid_of(data), spare=("Key",)), form)
    note(counted(len(data), "asset") if len(data) else "No asset has a name like that.")


@app.command()
@prints_table
def sql(
    form: Form,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="One SELECT, in DuckDB's SQL; - reads it from stdin.")],
    lake: Lake = None,
) -> None:
    """Query the tables in SQL, read-only.

    Needs DuckDB, which the extra luxor-pipelines[sql] installs.
    """
    from luxor_pipelines.cli.rows import grid_of, json_rows

    data = open_query(lake).sql(sys.stdin.read() if query == "-" else query).arrow()
    if form.json:
        print_json({"total_rows": len(data), "columns": data.column_names, "rows": json_rows(data)})
    else:
        print_grid(grid_of(data), form)
    note(counted(len(data), "row"))


@app.command()
@prints_table
def returns(
    form: Form,
    ref_date: Annotated[
        str | None,
        typer.Option(
            "--ref-date", metavar="DATE", help="Any date of the month, or 2026-10; default the last month stored."
        ),
    ] = None,
    currency: Annotated[Currency, typer.Option("--currency", case_sensitive=False, help="That of the returns.")] = (
        Currency.BRL
    ),
    where: _Where = None,
    sort: _Sort = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="How many assets at most; 0 for all.")] = 0,
    lake: Lake = None,
) -> None:
    """Show the returns of a month, one row for each asset.

    They are as hist_returns stored them: cumulative to the month's end, in per cent (fractions in JSON, csv and
    conditions, as in --where "12m>0.1"). A return that cannot be stated is missing, and Status says why.
    """
    from luxor_pipelines.catalog import HIST_RETURNS
    from luxor_pipelines.cli.rows import arrow_of, grid_of, json_rows, narrowed
    from luxor_pipelines.operations.runs import as_reference_date

    month = None if ref_date is None else as_reference_date(ref_date)
    frame = open_query(lake).get_hist_returns(month, currency.value, wide=True)
    day = f"{frame['Date'].iloc[0]:%Y-%m-%d}"
    data = narrowed(arrow_of(frame.drop(columns="Date")), HIST_RETURNS.name, where or [], sort)
    shown = _some(data, limit)
    if form.json:
        print_json({"ref_date": day, "currency": currency.value, "rows": json_rows(shown)})
    else:
        print_grid(_of_returns(grid_of(shown)), form)
    of_all = "" if len(shown) == len(frame) else f" of {len(frame):,}"
    note(f"Returns to {day} in {currency.value}, {counted(len(shown), 'asset')}{of_all}")


def _of_returns(grid: Grid) -> Grid:
    """Return returns in per cent, the key left out first where there is little room."""
    periods = frozenset(grid.columns) - {"Key", "Name", "Status"}
    return replace(
        grid, percent=periods, status=frozenset({"Status"}), spare=("Key",) if "Name" in grid.columns else ()
    )


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to make it; a new, an empty or a demo's folder.")
    ] = Path("luxor-demo"),
) -> None:
    """Make a small lake of public exchange rates to look around in.

    The pipelines run there: rates, holidays, and a year of monthly returns. Running it again changes
    nothing.
    """
    from luxor_pipelines.cli.rows import arrow_of, grid_of
    from luxor_pipelines.demo import next_steps, run_demo

    with working(f"Making a lake in {folder}"):
        lq, reports = run_demo(folder)
    frame = lq.get_hist_returns(currency="brl", wide=True)
    emit(f"Returns to {frame['Date'].iloc[0]:%Y-%m-%d} of one unit of each currency, in BRL:\n")
    print_grid(_of_returns(grid_of(arrow_of(frame.drop(columns="Date")))))
    changed = {load.table for report in reports for load in report.loads if load.changed}
    emit(
        f"\n{counted(len(reports), 'run')}; "
        + (f"tables loaded: {', '.join(sorted(changed))}" if changed else "nothing changed")
    )
    emit("\n" + next_steps(folder))
