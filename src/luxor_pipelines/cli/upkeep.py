"""Commands that keep the lake's tables in order."""

from __future__ import annotations

from typing import Annotated

import typer

from luxor_pipelines.cli.app import Json, Lake, Yes, app, confirmed, files, open_lake
from luxor_pipelines.cli.output import Grid, emit, note, print_grid, print_json, working

__all__ = ["archive", "check"]


@app.command()
def check(
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="Only this table; default all.", show_default=False)
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings too make the exit code 1.")] = False,
    lake: Lake = None,
    json: Json = False,
) -> None:
    """Look for what is wrong with tables, and change nothing.

    Errors: duplicate keys, nulls in keys and dates, files that do not open, columns that differ, rows in
    another month's partition, missing months, two tables under one name. Warnings: series that have ended,
    columns that are mostly empty, files that are no data. Exit code 1 when there are errors.
    """
    from dataclasses import asdict

    from luxor_pipelines.audit import audit

    with working("Checking"):
        found = audit(open_lake(lake), table)
    errors, warnings = found.count("error"), found.count("warning")
    if json:
        counts = {"tables": found.tables, "files": found.files, "errors": errors, "warnings": warnings}
        print_json({**counts, "findings": [asdict(finding) for finding in found.findings]})
    elif found.findings:
        rows = [
            (each.severity, each.table, each.partition or None, f"{each.count:,}", each.what, each.sample or None)
            for each in found.findings
        ]
        columns = ("Severity", "Table", "Partition", "Count", "What", "Sample")
        print_grid(Grid(columns, rows, right=frozenset({"Count"})))
    note(f"{found.tables} tables, {files(found.files)}: {errors} errors, {warnings} warnings")
    if errors or (strict and warnings):
        raise typer.Exit(1)


@app.command()
def archive(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table to move aside.", show_default=False)],
    yes: Yes = False,
    lake: Lake = None,
    json: Json = False,
) -> None:
    """Move a table aside, into archive/, so that a new one can be made."""
    from luxor_pipelines.cli.tables import archive as move
    from luxor_pipelines.cli.tables import table_files

    lq = open_lake(lake)
    found = table_files(lq.storage, table, lq.blob_directory)
    size = sum(info.size for info in found)
    question = f"Move {files(len(found))} ({size:,} bytes) of {table} in {lq.storage.url} to archive/?"
    if not confirmed(question, yes=yes, what="Moving a table aside"):
        note("Nothing was moved.")
        raise typer.Exit(1)
    folder = move(lq.storage, found, lq.now())
    moved = [f"{folder}/{info.path}" for info in found]
    if json:
        print_json({"table": table, "moved_to": moved})
    else:
        emit("\n".join(moved))
    note(f"Moved {files(len(found))} of {table} to {folder}/")
