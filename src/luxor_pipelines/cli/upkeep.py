"""Commands that keep the lake's tables in order."""

from __future__ import annotations

from typing import Annotated

import typer

from luxor_pipelines.cli.app import Json, Lake, Yes, app, confirmed, files, open_lake
from luxor_pipelines.cli.output import emit, note, print_json

__all__ = ["archive"]


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
