"""Commands for what people bring: a new lake, raw files, tables from files; and what a table is like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from luxor_pipelines.cli.app import (
    Json,
    Lake,
    Yes,
    app,
    checked_lake,
    complete_tables,
    confirmed,
    open_lake,
    open_query,
    prints_table,
)
from luxor_pipelines.cli.output import Form, Grid, counted, emit, note, print_grid, print_json, working
from luxor_pipelines.errors import UsageError

__all__ = ["describe", "init", "inspect", "load", "put"]


@app.command()
def init(lake: Lake = None, json: Json = False) -> None:
    """Create a lake: its container or folder.

    Also creates the folders that people put files into.
    """
    from luxor_pipelines.operations.files import RAW_FOLDERS, create_lake

    created = create_lake(checked_lake(lake))
    if json:
        print_json({"lake": created.url})
    else:
        emit(f"{created.url} is a lake.")
    note(f"Put files into {' and '.join(RAW_FOLDERS)} (luxor put), and load tables (luxor load assets assets.xlsx).")
    if lake is not None:
        note("Other commands find it by --lake, or by the environment variable LUXOR_LAKE_URL.")


@app.command()
def put(
    paths: Annotated[
        list[str], typer.Argument(metavar="FILE... FOLDER", help="The files, and a folder below raw/ of the lake.")
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace files that the lake has with other content.")
    ] = False,
    lake: Lake = None,
    json: Json = False,
) -> None:
    """Put files into a folder of the lake, such as raw/prices."""
    from luxor_pipelines.operations.files import put_files, unread_folder

    if len(paths) < 2:
        raise UsageError("A file or the folder is missing.", hint="As in: luxor put prices.csv raw/prices")
    with working("Putting files"):
        outcomes = put_files(open_lake(lake), [Path(path) for path in paths[:-1]], paths[-1], replace=replace)
    if json:
        print_json({"files": outcomes})
    else:
        print_grid(Grid(("File", "Outcome"), list(outcomes.items())))
    if warning := unread_folder(paths[-1]):
        note(f"Warning: {warning}")


@app.command()
@prints_table
def inspect(
    form: Form,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A price file on this machine, or in the lake: raw/prices/….")
    ],
    formats: Annotated[
        Path | None,
        typer.Option("--formats", metavar="FILE", help="The declarations; default the _formats.json beside the file."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="Rows to show of each kind.")] = 5,
    lake: Lake = None,
) -> None:
    """Show what a price file looks like, and how it is read.

    Declarations, in the _formats.json beside the files, say how they are read. This shows which one fits the file,
    and proposes one where none does. Csv and workbooks have the first rows as they are read.
    """
    from luxor_pipelines.operations.files import inspect_file

    with working("Reading"):
        inspection = inspect_file(open_query(lake) if file.startswith("raw/") or lake else None, file, formats)
    outcomes = [
        {
            "declaration": outcome.title,
            "keys": dict(outcome.keys),
            "good": outcome.good,
            "bad": dict(outcome.rows.reasons) if outcome.rows else {},
            "refusal": outcome.refusal,
        }
        for outcome in inspection.outcomes
    ]
    best = inspection.best.rows
    good = best.good.head(limit) if best else None
    bad = best.bad.drop_duplicates("Reason").head(max(limit, 1)) if best else None
    if form.json:
        rows = {"rows": [] if good is None else _records(good), "bad_rows": [] if bad is None else _records(bad)}
        print_json(
            {"file": inspection.file, "looks": inspection.looks, "outcomes": outcomes, **rows}
            | {"proposal": inspection.proposal, "notes": list(inspection.notes)}
        )
        return
    if form.one_table:
        from luxor_pipelines.cli.rows import arrow_of, grid_of

        print_grid(Grid(("Date", "Asset", "Last_Price"), ()) if good is None else grid_of(arrow_of(good)), form)
        return
    emit(f"{inspection.file}: {', '.join(f'{word} {text}' for word, text in inspection.looks.items())}")
    emit("\nIts first rows:")
    width = max((len(row) for row in inspection.head[:limit]), default=0)
    cells = [[cell[:30] for cell in row] + [None] * (width - len(row)) for row in inspection.head[:limit]]
    print_grid(Grid([str(number) for number in range(1, width + 1)], cells), form)
    emit("\nWhat is read:")
    columns = ("Declaration", "Good", "Bad", "Why not")
    texts = [
        (
            str(outcome["declaration"]),
            f"{outcome['good']:,}",
            ", ".join(f"{count:,} {reason}" for reason, count in cast("dict[str, int]", outcome["bad"]).items()),
            str(outcome["refusal"]),
        )
        for outcome in outcomes
    ]
    print_grid(Grid(columns, texts, frozenset({"Good"})), form)
    for title, frame in ((f"\nThe first rows, {inspection.best.title}:", good), ("\nA bad row of each kind:", bad)):
        if frame is not None and len(frame):
            emit(title)
            values = [[str(cell) for cell in row.values()] for row in _records(frame)]
            print_grid(Grid([str(name) for name in frame.columns], values, frozenset({"Last_Price", "Row"})), form)
    for text in inspection.notes:
        note(f"Note: {text}")
    if inspection.proposal is not None:
        import json as json_

        emit(f"\nPut into raw/prices/_formats.json:\n{json_.dumps(inspection.proposal, ensure_ascii=False)}")
    elif inspection.best.good:
        emit("\nThere is nothing to declare.")
    else:
        emit("\nNothing fits. docs/price-files.md says how to declare its columns.")


def _records(frame: Any) -> list[dict[str, Any]]:
    """Return the rows of a frame, its dates as text."""
    rows = frame.astype({name: str for name in frame.columns if frame[name].dtype.kind == "M"})
    return cast("list[dict[str, Any]]", rows.to_dict("records"))


@app.command()
@prints_table
def load(
    form: Form,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table to load into.", show_default=False)],
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="A csv, spreadsheet or Parquet file, or a folder of Parquet files; raw/…, archive/… and enriched/… "
            "are the lake's.",
        ),
    ],
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="A,B", help="Columns that tell rows apart; default the table's key."),
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--type", metavar="COLUMN=KIND", help="A column holds text, number, whole, date or flag; can be repeated."
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the whole table.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and write nothing.")] = False,
    yes: Yes = False,
    lake: Lake = None,
) -> None:
    """Load a file into a table, showing first what was read.

    Rows with a key that is stored replace the stored ones; without a key rows replace those of their dates. The
    asset master (luxor load assets assets.xlsx) is checked for keys, tickers and currencies.
    Csv and workbooks have the columns that were read.
    """
    from luxor_pipelines.operations.files import load_table_file, read_for

    opened = open_lake(lake)
    keys = [name.strip() for name in key.split(",") if name.strip()] if key else []
    with working("Reading"):
        file = read_for(opened, table, path, key=keys, types=_kinds(kinds or []), replace=replace)
    columns = _columns(file.rows)
    way = {
        "upsert": f"upserted by {', '.join(file.key)}",
        "slices": "loaded in place of those of their dates",
        "replace": "loaded in place of the whole table",
        "new": "loaded as a new table",
    }[file.mode]
    if not form.json:
        rows = [(column["name"], column["type"], column["nulls"], column["example"]) for column in columns]
        print_grid(Grid(("Column", "Type", "Nulls", "Example"), rows, grouped=frozenset({"Nulls"})), form)
        note(f"{counted(len(file.rows), 'row')}, to be {way}")
    for finding in file.findings:
        note(f"Warning: {finding}")
    if file.mode == "replace" and opened.table(table).find() is not None and not dry_run:
        question = f"Replace all of {table} in {opened.url}?"
        if not confirmed(question, yes=yes, action="Replacing a table"):
            note("Nothing was loaded.")
            raise typer.Exit(1)
    with working("Loading"):
        result = load_table_file(opened, table, file, dry_run=dry_run)
    if form.json:
        counts = {name: getattr(result, name) for name in ("inserted", "updated", "unchanged", "deleted")}
        findings = [str(finding) for finding in file.findings]
        print_json({"table": result.table, "columns": columns, **counts, "warnings": findings, "dry_run": dry_run})
    else:
        (note if form.one_table else emit)(f"{result}{' (dry run: nothing was written)' if dry_run else ''}")


@app.command()
@prints_table
def describe(
    form: Form,
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="The table.", show_default=False, autocompletion=complete_tables)
    ],
    lake: Lake = None,
) -> None:
    """Describe a table: columns, types, key, dates, size.

    Also its missing cells, rows, layout and last load. Csv and workbooks have the columns.
    """
    lq = open_query(lake)
    with working("Reading"):
        description = lq.describe(table)
    facts = description.facts()
    columns = description.columns.to_dict("records")
    if form.json:
        print_json({"table": description.table, "facts": facts, "columns": columns})
        return
    if not form.one_table:
        rows = [(name, None if value is None else _fact(value)) for name, value in facts.items()]
        print_grid(Grid((description.table, ""), rows), form)
        emit("")
    shares = [(str(row["Column"]), str(row["Type"]), float(row["Null_Share"])) for row in columns]
    print_grid(Grid(("Column", "Type", "Null"), shares, percent=frozenset({"Null"})), form)


def _fact(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _kinds(texts: list[str]) -> dict[str, Any]:
    from luxor_pipelines.sources.table_files import KINDS

    kinds = {}
    for text in texts:
        column, equals, kind = text.rpartition("=")
        if not equals or kind not in KINDS:
            raise UsageError(
                f"--type {text!r} names no column and kind.",
                hint=f"Write it as Ticker=text; kinds are {', '.join(KINDS)}.",
            )
        kinds[column] = kind
    return kinds


def _columns(rows: Any) -> list[dict[str, Any]]:
    """Return the name, type, number of missing cells and an example of each column."""
    names = {"M": "date", "f": "number", "i": "whole", "u": "whole", "b": "flag"}
    columns = []
    for name in rows.columns:
        values = rows[name].dropna()
        kind = names.get(getattr(rows[name].dtype, "kind", "O"), "text")
        example = None if values.empty else str(values.iloc[0]).removesuffix(" 00:00:00")
        columns.append({"name": str(name), "type": kind, "nulls": int(rows[name].isna().sum()), "example": example})
    return cast("list[dict[str, Any]]", columns)
