"""Commands that show what the tables hold, and `luxor demo`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luxor_pipelines.cli.app import Csv, Json, Lake, app, one_of, open_lake
from luxor_pipelines.cli.output import Grid, emit, note, print_csv, print_grid, print_json, working
from luxor_pipelines.errors import LakeError, SchemaError, UnreachableError, UsageError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["Currency", "demo", "returns", "show", "sql", "tables"]


class Currency(StrEnum):
    """What returns can be shown in."""

    LOCAL = "local"
    USD = "usd"
    BRL = "brl"


@app.command()
def tables(lake: Lake = None, json: Json = False) -> None:
    """The tables of the lake."""
    lq = open_lake(lake)
    found: list[dict[str, Any]] = []
    for name in lq.list_tables():
        try:
            snapshot = lq.lake.table(name).find()
        except UnreachableError:
            raise
        except (SchemaError, LakeError) as error:  # one odd table is no reason not to list the others
            note(f"Warning: {error}")
            continue
        if snapshot is not None:
            files = [part.info for part in snapshot.parts]
            size, changed = sum(info.size for info in files), max(info.modified for info in files)
            found.append(
                {"name": name, "layout": snapshot.layout, "files": len(files), "bytes": size, "changed": changed}
            )
    if json:
        print_json({"tables": [{**each, "changed": each["changed"].isoformat()} for each in found]})
        return
    rows = [
        (each["name"], each["layout"], str(each["files"]), f"{each['bytes']:,}", f"{each['changed']:%Y-%m-%d %H:%M:%S}")
        for each in found
    ]
    print_grid(Grid(("Table", "Layout", "Files", "Bytes", "Changed (UTC)"), rows, right=frozenset({"Files", "Bytes"})))
    if not found:
        note(f"No tables in {lq.lake.storage.url}/{lq.blob_directory}.")


@app.command()
def show(
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="The table; `luxor tables` names them.", show_default=False)
    ],
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="A,B", help="Only these columns, in this order.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="CONDITION",
            help='Only rows like "Date>=2026-10-01"; = != < <= > >=; can be repeated, all must hold. '
            '"Column=" finds the rows without a value. A day means all of it, so <= includes it.',
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many rows at most; 0 for all.")] = 20,
    lake: Lake = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """The rows of a table."""
    from luxor_pipelines.cli.tables import select

    one_of(json, csv)
    lq = open_lake(lake)
    chosen = None if columns is None else [name for name in columns.split(",") if name.strip()]
    if chosen == []:
        raise UsageError("--columns names none.", hint="Write it like --columns Date,Asset.")
    data = select(lq.lake.table(table), chosen, where or [])
    shown = data.slice(0, limit) if limit else data
    print_rows(shown, {"table": table, "total_rows": len(data)}, json=json, csv=csv)
    note(f"{len(shown):,} of {len(data):,} rows")


@app.command()
def sql(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="One SELECT, in DuckDB's SQL; - reads it from stdin.")],
    xlsx: Annotated[str | None, typer.Option("--xlsx", metavar="FILE", help="Write an Excel workbook instead.")] = None,
    lake: Lake = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Query the tables in SQL, read-only. Needs the extra sql."""
    from luxor_pipelines.cli.tables import write_workbook

    one_of(json, csv)
    if xlsx is not None and (json or csv):
        raise UsageError("--xlsx and another format are given.", hint="Give one of them.")
    data = open_lake(lake).sql(sys.stdin.read() if query == "-" else query).arrow()
    if xlsx is not None:
        write_workbook(data, xlsx)
    else:
        print_rows(data, {"total_rows": len(data)}, json=json, csv=csv)
    note(f"{len(data):,} rows")


def print_rows(data: pa.Table, head: Mapping[str, Any], *, json: bool, csv: bool) -> None:
    """Print rows: as JSON below ``head``, as csv, or as a table."""
    from luxor_pipelines.cli.tables import are_dates, as_json, as_text, is_number

    dates = [are_dates(column) for column in data.columns]
    if json:
        cells = [as_json(column, dates=days) for column, days in zip(data.columns, dates, strict=True)]
        rows = [dict(zip(data.column_names, row, strict=True)) for row in zip(*cells, strict=True)]
        print_json({**head, "columns": data.column_names, "rows": rows})
        return
    columns = (as_text(column, dates=days) for column, days in zip(data.columns, dates, strict=True))
    texts = list(zip(*columns, strict=True))
    if csv:
        print_csv(data.column_names, texts)
    else:
        numbers = frozenset(
            name for name, column in zip(data.column_names, data.columns, strict=True) if is_number(column)
        )
        print_grid(Grid(data.column_names, texts, right=numbers, signed=numbers))


@app.command()
def returns(
    ref_date: Annotated[
        str | None,
        typer.Option("--ref-date", metavar="DATE", help="A date of the month, São Paulo's; default the last stored."),
    ] = None,
    currency: Annotated[Currency, typer.Option("--currency", case_sensitive=False, help="Of the returns.")] = (
        Currency.BRL
    ),
    lake: Lake = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """The returns of a month, one row an asset.

    As hist_returns left them: cumulative to the month's end, in per cent (fractions in JSON and csv). Where
    one cannot be stated there is none, and Status says why.
    """
    one_of(json, csv)
    frame = open_lake(lake).get_hist_returns(ref_date, currency.value, wide=True)
    day = f"{frame['Date'].iloc[0]:%Y-%m-%d}"
    frame = frame.drop(columns="Date")
    if json:
        rows = [dict(zip(frame.columns, row, strict=True)) for row in _cells(frame)]
        print_json({"ref_date": day, "currency": currency.value, "rows": rows})
    elif csv:
        print_csv(
            list(frame.columns),
            [[repr(cell) if isinstance(cell, float) else cell for cell in row] for row in _cells(frame)],
        )
    else:
        print_returns(frame)
    note(f"Returns to {day} in {currency.value}, {len(frame):,} assets")


def print_returns(frame: pd.DataFrame) -> None:
    """Print returns as percentages."""
    rows = [
        # Adding zero turns a negative one that rounding made into a plain one.
        [f"{round(100 * cell, 2) + 0.0:.2f}%" if isinstance(cell, float) else cell for cell in row]
        for row in _cells(frame)
    ]
    numbers = frozenset(frame.columns[[kind.kind == "f" for kind in frame.dtypes]])
    print_grid(Grid(list(frame.columns), rows, right=numbers, signed=numbers))


def _cells(frame: pd.DataFrame) -> list[list[Any]]:
    """The frame's rows, None where there is no value."""
    cells = frame.astype(object).where(frame.notna(), None)
    return [[float(cell) if isinstance(cell, float) else cell for cell in row] for row in cells.to_numpy().tolist()]


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
    from luxor_pipelines.demo import next_steps, run_demo

    with working(f"Making a lake in {folder}"):
        lq, reports = run_demo(folder)
    frame = lq.get_hist_returns(currency="brl", wide=True)
    emit(f"Returns to {frame['Date'].iloc[0]:%Y-%m-%d} of one unit of each currency, in BRL:\n")
    print_returns(frame.drop(columns="Date"))
    changed = {load.table for report in reports for load in report.loads if load.changed}
    emit(
        f"\n{len(reports)} runs; " + (f"tables loaded: {', '.join(sorted(changed))}" if changed else "nothing changed")
    )
    emit("\n" + next_steps(folder))
