"""Commands that keep the lake's tables in order."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from luxor_pipelines.cli.app import Json, Lake, Yes, app, complete_tables, confirmed, files, open_lake, prints_table
from luxor_pipelines.cli.output import Form, Grid, counted, emit, note, print_grid, print_json, working
from luxor_pipelines.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from luxor_pipelines.ingest import Altered
    from luxor_pipelines.lake.table.archive import Only
    from luxor_pipelines.lake.table.layout import Snapshot
    from luxor_pipelines.lake.table.table import Table

__all__ = ["Layout", "Split", "Type", "add_column", "archive", "check", "drop_column", "optimize", "restore"]


class Type(StrEnum):
    """The types of columns."""

    TEXT = "text"
    NUMBER = "number"
    WHOLE = "whole"
    DATE = "date"
    FLAG = "flag"


class Split(StrEnum):
    """The ways to split a table."""

    MONTH = "month"
    YEAR = "year"


class Layout(StrEnum):
    """The two kinds of layout that a table can have."""

    FILE = "file"
    PARTITIONS = "partitions"


@app.command()
@prints_table
def check(
    form: Form,
    table: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE", help="Only this table; default all.", show_default=False, autocompletion=complete_tables
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings too make the exit code 1.")] = False,
    lake: Lake = None,
) -> None:
    """Look for what is wrong with tables, and change nothing.

    Errors: duplicate keys, nulls in keys and dates, files that do not open, columns that differ, rows in
    another month's partition, missing months, two tables under one name. Warnings: series that have ended,
    columns that are mostly empty, files that are no data, entries of the lake that are passed over. Exit code 1
    when there are errors.
    """
    from dataclasses import asdict, replace

    from luxor_pipelines.operations.discovery import declared_schemas
    from luxor_pipelines.operations.records import damaged_records
    from luxor_pipelines.quality.audit import audit
    from luxor_pipelines.quality.gate import Finding

    with working("Checking"):
        where = open_lake(lake)
        report = audit(where, table, declared=declared_schemas())
        if table is None:
            damaged = [Finding("warning", "", "", "file is no run record", 1, path) for path in damaged_records(where)]
            report = replace(report, findings=(*report.findings, *damaged))
    errors, warnings = report.count("error"), report.count("warning")
    if form.json:
        counts = {"tables": report.tables, "files": report.files, "errors": errors, "warnings": warnings}
        print_json({**counts, "findings": [asdict(finding) for finding in report.findings]})
    elif report.findings or form.one_table:
        rows = [
            (
                finding.severity,
                finding.table or None,
                finding.partition or None,
                finding.count,
                finding.what,
                finding.sample or None,
            )
            for finding in report.findings
        ]
        columns = ("Severity", "Table", "Partition", "Count", "What", "Sample")
        status, folded = frozenset({"Severity"}), frozenset({"Table", "What", "Sample"})
        print_grid(Grid(columns, rows, grouped=frozenset({"Count"}), status=status, folded=folded), form)
    counts_text = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
    note(f"{counted(report.tables, 'table')}, {files(report.files)}: {counts_text}")
    if errors or (strict and warnings):
        raise typer.Exit(1)


_Table = Annotated[
    str, typer.Argument(metavar="TABLE", help="The table.", show_default=False, autocompletion=complete_tables)
]
_Column = Annotated[str, typer.Argument(metavar="COLUMN", help="The column's name.", show_default=False)]


@app.command("add-column")
def add_column(
    table: _Table,
    column: _Column,
    kind: Annotated[
        Type, typer.Option("--type", case_sensitive=False, help="What the column is to hold.", show_default=False)
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    lake: Lake = None,
    json: Json = False,
) -> None:
    """Add a column to a table, without values.

    Loads may bring the column from then on, or leave it out as before. Loads and readers may be at work meanwhile; a
    second time it changes nothing, and completes what was cut short.
    """
    from luxor_pipelines.ingest import add_column as add

    with working(f"Adding {column}"):
        altered = add(table, column, kind.value, lq=open_lake(lake), dry_run=dry_run)
    _tell_altered(altered, f"added to {altered.table}", dry_run=dry_run, json=json)


@app.command("drop-column")
def drop_column(
    table: _Table,
    column: _Column,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    yes: Yes = False,
    lake: Lake = None,
    json: Json = False,
) -> None:
    """Drop a column of a table, with its values.

    It asks first, saying how many values would go. Columns of the key, and those that the table's pipeline or the
    library declares, are not dropped. Loads and readers may be at work meanwhile.
    """
    from luxor_pipelines.ingest import drop_column as drop
    from luxor_pipelines.operations.discovery import declared_schemas

    opened = open_lake(lake)
    schema = declared_schemas().get(opened.table(table).name)
    with working("Reading"):
        altered = drop(table, column, lq=opened, schema=schema, dry_run=True)
    if not dry_run:
        values = counted(altered.values, "value")
        question = f"Drop column {column} of {altered.table} in {opened.url}, with {values}?"
        if not confirmed(question, yes=yes, action=f"Dropping a column with {values}"):
            note("Nothing was changed.")
            raise typer.Exit(1)
        with working(f"Dropping {column}"):
            altered = drop(table, column, lq=opened, schema=schema)
    _tell_altered(
        altered, f"dropped from {altered.table}, with {counted(altered.values, 'value')}", dry_run=dry_run, json=json
    )


def _tell_altered(altered: Altered, change: str, *, dry_run: bool, json: bool) -> None:
    if json:
        from dataclasses import asdict

        print_json({**asdict(altered), "dry_run": dry_run})
    elif not altered.changed:
        emit(f"Table {altered.table} has the column {altered.column} already.")
    else:
        sentence = f"Column {altered.column} {'would be ' if dry_run else ''}{change}"
        emit(f"{sentence}: {files(len(altered.rewritten))} {'to write' if dry_run else 'written'}.")


@app.command()
def archive(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE", help="The table to move aside.", show_default=False, autocompletion=complete_tables
        ),
    ],
    only: Annotated[
        Layout | None,
        typer.Option("--only", case_sensitive=False, help="Of a table with both, move only the file or partitions."),
    ] = None,
    yes: Yes = False,
    lake: Lake = None,
    json: Json = False,
) -> None:
    """Move a table aside, into archive/.

    A new table can then be made under its name; `luxor restore` puts the old one back. A table that has both a
    single file and partitions is moved with both, unless --only says which. A move that was interrupted is
    completed. Nobody reads or loads part of the table meanwhile.
    """
    from luxor_pipelines.lake.table.archive import archive as move
    from luxor_pipelines.lake.table.archive import layouts

    opened = open_lake(lake)
    place = opened.table(table)
    snapshots = layouts(place)
    if only is not None or len(snapshots) > 1:
        _print_layouts(place, snapshots)
    size = sum(
        part.info.size for kind, snapshot in snapshots.items() for part in snapshot.parts if only in (None, kind)
    )
    subject = f"the {only.value} of {place.name}" if only else place.name
    question = f"Move {subject} ({size:,} bytes) in {opened.storage.url} to archive/?"
    if not confirmed(question, yes=yes, action="Moving a table aside"):
        note("Nothing was moved.")
        raise typer.Exit(1)
    with working(f"Moving {subject}"):
        moved = move(place, opened.now(), only.value if only else None)
    if json:
        print_json({"table": moved.table, "moved_to": list(moved.paths)})
    else:
        emit("\n".join(moved.paths))
    note(f"Moved {files(len(moved.paths))} of {place.name} to {moved.folder}/")


def _print_layouts(table: Table, snapshots: Mapping[Only, Snapshot]) -> None:
    """Show, on stderr, what lies in each layout of a table and who wrote it."""
    from luxor_pipelines.errors import LakeError, SchemaError

    for kind, snapshot in snapshots.items():
        try:
            note(f"{kind}: {table.summary(snapshot)}")
        except (LakeError, SchemaError) as error:
            note(f"{kind}: {files(len(snapshot.parts))} that cannot be read ({error.message})")


@app.command()
def restore(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table to put back.", show_default=False)],
    stamp: Annotated[
        str | None,
        typer.Option("--from", metavar="STAMP", help="The folder in archive/; default the newest that has the table."),
    ] = None,
    lake: Lake = None,
    json: Json = False,
) -> None:
    """Put a table back from archive/.

    Its copy stays there. A move that was interrupted is completed. Refused where there is a table of that name,
    in whatever layout.
    """
    from luxor_pipelines.lake.table.archive import restore as move

    opened = open_lake(lake)
    place = opened.table(table)
    with working(f"Restoring {place.name}"):
        moved = move(place, opened.now(), stamp)
    if json:
        print_json({"table": moved.table, "from": moved.folder, "restored": list(moved.paths)})
    else:
        emit("\n".join(moved.paths))
    note(f"Restored {files(len(moved.paths))} of {place.name} from {moved.folder}/")


@app.command()
@prints_table
def optimize(
    form: Form,
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE", help="The table to rewrite.", show_default=False, autocompletion=complete_tables
        ),
    ],
    layout: Annotated[
        Split | None,
        typer.Option("--layout", case_sensitive=False, help="Split a table in one file: a file a month, or a year."),
    ] = None,
    date_column: Annotated[
        str | None,
        typer.Option("--date-column", metavar="COLUMN", help="What to split by; default the first of dates."),
    ] = None,
    sort_by: Annotated[
        str | None,
        typer.Option("--sort-by", metavar="A,B", help="What to sort by; default the date, then the key."),
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="COLUMN=KIND",
            help="What a column of an all-text table, or one without a value, holds: number, date, flag or text; "
            "can be repeated.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would come of it.")] = False,
    yes: Yes = False,
    lake: Lake = None,
) -> None:
    """Rewrite a table so that it is read faster.

    Rows are sorted, and columns of other types than the lake's are converted, above all those of an all-text table.
    A conversion or a split asks first, since other readers of the table must be ready for it. Rows and values stay
    as they are. Loads and readers may be at work meanwhile; a second time it changes nothing.
    """
    from dataclasses import asdict

    from luxor_pipelines.lake.table.optimize import optimize as rewrite
    from luxor_pipelines.lake.table.optimize import retyped

    opened = open_lake(lake)
    place = opened.table(table)
    snapshot = place.snapshot()
    place.check_ours(snapshot)
    changes = []
    codec = place.codec(snapshot)
    if codec.legacy:
        changes.append("all text becomes dates, numbers and flags")
    else:
        changes += [f"{name} turns from {old} into {new}" for name, (old, new) in retyped(codec, table).items()]
    if layout is not None and snapshot.layout == "file":
        changes.append(f"its one file is split by {layout.value}")
    question = f"{place.name} in {opened.storage.url}: {', and '.join(changes)}. Are its other readers ready for that?"
    action = f"Converting {place.name} ({', and '.join(changes)})"
    if changes and not dry_run and not confirmed(question, yes=yes, action=action):
        note("Nothing was changed.")
        raise typer.Exit(1)
    with working(f"Optimizing {place.name}"):
        result = rewrite(
            place,
            layout=layout.value if layout else None,
            date_column=date_column,
            sort_by=[name.strip() for name in (sort_by or "").split(",") if name.strip()],
            types=_types(kinds or []),
            attempts=opened.settings.load_attempts,
            dry_run=dry_run,
        )
    if form.json:
        print_json({**asdict(result), "changed": result.changed, "dry_run": dry_run})
        return
    shapes = [("before", result.before), ("would be" if dry_run else "after", result.after)]
    rows = [
        (
            when,
            shape.layout,
            "typed" if shape.typed else "text",
            *(shape.files, shape.rows, shape.row_groups, shape.bytes),
            "yes" if shape.indexed == shape.files else "no" if not shape.indexed else f"{shape.indexed} files",
        )
        for when, shape in shapes
    ]
    numbers = ("Files", "Rows", "Row groups", "Bytes")
    print_grid(Grid(("", "Layout", "Columns", *numbers, "Series index"), rows, grouped=frozenset(numbers)), form)
    tell = note if form.one_table else emit
    tell(f"sorted by: {', '.join(result.sorted_by) or '– (left in its order)'}")
    note(
        f"{files(len(result.rewritten))} {'would be ' if dry_run else ''}rewritten"
        if result.changed
        else "Nothing to do."
    )


def _types(texts: list[str]) -> dict[str, list[str]]:
    """Return ``Column=kind`` texts as `codec.overridden` takes them."""
    kinds = {"number": "float", "date": "date", "flag": "bool", "text": "str_nan_format"}
    types: dict[str, list[str]] = {}
    for text in texts:
        column, _, kind = text.rpartition("=")
        if not column.strip() or kind.strip().lower() not in kinds:
            raise UsageError(
                f"--type {text!r} says not what a column holds.",
                hint=f"Write it like --type Pct_Change=number; there are {', '.join(kinds)}.",
            )
        types.setdefault(kinds[kind.strip().lower()], []).append(column.strip())
    return types
