"""What the command line prints: for people on a terminal, for programs in a pipe.

On a terminal tables are drawn; in a pipe they are plain aligned text, whole values, whatever the
width. JSON has a ``schema_version`` at its top. A missing value is – in a table, null in JSON, and
nothing in csv.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TextIO

from luxor_pipelines.errors import redact, visible
from luxor_pipelines.settings import Settings
from luxor_pipelines.telemetry import name_runs

__all__ = [
    "SCHEMA_VERSION",
    "Grid",
    "configure_logging",
    "emit",
    "log_steps",
    "note",
    "prepare_streams",
    "print_csv",
    "print_grid",
    "print_json",
    "progress",
    "working",
]

SCHEMA_VERSION = 1
"""Version of the layout of what ``--json`` prints."""

MISSING = "–"
_FOLDED = 20
"""Characters of text that a drawn column has at least, before it is folded."""
_STEPS = ("luxor_pipelines.operations.runs", "luxor_pipelines.pipelines")


@dataclass(frozen=True)
class Grid:
    """A table of texts, None where there is no value.

    ``right`` names the columns of numbers; in those of ``signed`` what is negative is red on a terminal.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str | None]]
    right: frozenset[str] = frozenset()
    signed: frozenset[str] = frozenset()


def prepare_streams() -> None:
    """Make pipes UTF-8 on every system, and no character an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="replace")


def emit(text: str, *, exact: bool = False) -> None:
    """Print data, its control characters made visible unless ``exact``.

    A reader that has had enough, like ``head``, is no error.
    """
    try:
        print(text if exact else visible(text), flush=True)  # noqa: T201
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EINVAL):  # the latter is Windows' word for it
            raise
        _discard(sys.stdout)


def _discard(stream: TextIO) -> None:
    """Send what is still buffered nowhere, or the interpreter would complain of it as it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def note(text: str) -> None:
    """Tell something that is not data."""
    print(visible(text), file=sys.stderr, flush=True)  # noqa: T201


def print_json(payload: Mapping[str, Any]) -> None:
    """Print an object, its ``schema_version`` first."""
    payload = {"schema_version": SCHEMA_VERSION, **payload}
    text = json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    emit(visible(text, "\\u{:04x}".format))


def print_csv(columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> None:
    """Print csv with a header; a missing value is an empty cell. Cells are exact, but on a terminal it shows them."""
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in (columns, *rows):
        # By itself the writer leaves a carriage return unquoted, which readers take for the end of the row.
        (quoted if any(cell and "\r" in cell for cell in row) else plain).writerow(row)
    emit(text.getvalue().removesuffix("\n"), exact=not sys.stdout.isatty())


def print_grid(grid: Grid) -> None:
    """Print a table: drawn on a terminal, plain and whole in a pipe."""
    rows = [[None if cell is None else _line(cell) for cell in row] for row in grid.rows]
    grid = Grid([_line(name) for name in grid.columns], rows, grid.right, grid.signed)
    if sys.stdout.isatty():
        _draw(grid)
    else:
        emit(_plain(grid))


def _line(text: str) -> str:
    """Return ``text`` in one line."""
    return visible(" ".join(text.splitlines()))


def _plain(grid: Grid) -> str:
    lines = _texts(grid)
    widths = _widths(lines)
    right = [name in grid.right for name in grid.columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _texts(grid: Grid) -> list[list[str]]:
    rows = ([MISSING if cell is None else cell for cell in row] for row in grid.rows)
    return [list(grid.columns), *rows]


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _draw(grid: Grid) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    least = [
        width if name in grid.right else min(width, _FOLDED)
        for name, width in zip(grid.columns, _widths(_texts(grid)), strict=True)
    ]
    if sum(least) + 2 * len(least) > console.width:
        emit(_plain(grid))  # drawn, it would lose columns; so the terminal wraps the lines
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name, width in zip(grid.columns, least, strict=True):
        number = name in grid.right
        table.add_column(
            Text(name), justify="right" if number else "left", no_wrap=number, overflow="fold", min_width=width
        )
    for row in grid.rows:
        table.add_row(
            *(
                Text(MISSING, style="dim")
                if cell is None
                else Text(cell, style="red" if name in grid.signed and cell.startswith("-") else "")
                for name, cell in zip(grid.columns, row, strict=True)
            )
        )
    console.print(table)


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show on a terminal that something is under way."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


@contextmanager
def progress(text: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show on a terminal how much of a work is done, and the time left; call what is yielded for each part done."""
    if not sys.stderr.isatty():
        yield lambda part: None  # noqa: ARG005
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=total)
        yield lambda part: bar.update(task, advance=1, description=f"{text} {part}")


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to whatever ``sys.stderr`` is at the time: under a spinner that is rich's."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(redact(super().format(record)))


def configure_logging(*, debug: bool, verbose: bool) -> None:
    """Send the library's log to stderr: warnings, or more."""
    package = logging.getLogger("luxor_pipelines")
    for handler in [handler for handler in package.handlers if isinstance(handler, _Handler)]:
        package.removeHandler(handler)
    handler = _Handler()
    log_format = Settings.read("log_format")
    if debug or log_format == "json":
        name_runs([handler], log_format, "%(asctime)s %(levelname)s %(name)s: %(message)s")
    else:
        handler.setFormatter(_Formatter("%(levelname)s %(message)s"))
    package.addHandler(handler)
    package.setLevel(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)
    for steps in _STEPS:
        logging.getLogger(steps).setLevel(logging.NOTSET)


def log_steps() -> None:
    """Log the steps of a run too, its reference date first: an operator wants to see them."""
    for steps in _STEPS:
        logger = logging.getLogger(steps)
        logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
