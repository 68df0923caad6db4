"""Print for people on a terminal and for programs in a pipe.

On a terminal tables are drawn to fit it, numbers with six digits; in a pipe, or with ``--wide``, they are plain aligned
text, whole values, whatever the width. JSON has a ``schema_version`` at its top. A missing value is – in a table, null
in JSON, and nothing in csv.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import logging
import math
import os
import re
import sys
import textwrap
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, TextIO

from luxor_pipelines.errors import UsageError, redact, shown, visible
from luxor_pipelines.settings import Settings
from luxor_pipelines.telemetry import name_runs

__all__ = [
    "SCHEMA_VERSION",
    "Form",
    "Grid",
    "configure_logging",
    "counted",
    "emit",
    "log_steps",
    "note",
    "prepare_streams",
    "print_grid",
    "print_json",
    "progress",
    "tell_error",
    "working",
]

SCHEMA_VERSION = 1
"""Version of the layout of what ``--json`` prints."""

MISSING = "–"
_CUT = 12
"""Characters of a text that a terminal shows at least, before it is cut."""
_WORD = 24
"""Characters of a word that is not broken where a text is folded."""
_HEADER = 8
"""Characters of a column's name that a terminal shows at least."""
_GAP = "  "
_DIGITS = 6
_BAD = frozenset({"failed", "died", "error", "expired"})
_GOOD = frozenset({"ok", "done", "held"})
_SHEET_ROWS = 1_048_576
_SHEET_WHOLE = 2**53
"""The largest whole number that is the same as a float, and so are all below it."""
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""Characters that no workbook may have."""
_STEP_LOGGERS = ("luxor_pipelines.operations.runs", "luxor_pipelines.pipelines")
"""The loggers that tell the steps of a run, at the level INFO."""

Value = str | bool | int | float | date | datetime | None


@dataclass(frozen=True)
class Form:
    """The form a table is printed in, as the options of a command say."""

    json: bool = False
    csv: bool = False
    xlsx: str | None = None
    wide: bool = False
    sep: str = ","
    decimal: str = "."
    bom: bool = False

    @property
    def one_table(self) -> bool:
        """Whether it is csv or a workbook, which hold one table and no text around it."""
        return self.csv or self.xlsx is not None

    def __post_init__(self) -> None:
        if self.json + self.csv + (self.xlsx is not None) > 1:
            raise UsageError("Two of --json, --csv and --xlsx are given.", hint="Give one of them.")
        if not self.csv and (self.sep, self.decimal, self.bom) != (",", ".", False):
            raise UsageError("--sep, --decimal and --bom are for csv.", hint="Add --csv.")
        if self.sep not in (",", ";", "\t", "|") or self.decimal not in (",", ".") or self.sep == self.decimal:
            raise UsageError(
                f"Cells separated by {shown(self.sep)} with the decimal sign {shown(self.decimal)} cannot be read.",
                hint="Separators are , ; | and a tab, decimal signs . and the comma; Excel in Brazil reads "
                "--sep ';' --decimal ','.",
            )


@dataclass(frozen=True)
class Grid:
    """A table of values: text, numbers, dates and instants, None where there is no value.

    Attributes
    ----------
    right
        Columns of texts that are numbers: they stand to the right and are never cut.
    percent
        Columns of fractions, shown as per cent.
    grouped
        Columns of whole numbers that are shown with separators of thousands.
    status
        Columns that are coloured by what they say; a number there counts what is wrong.
    folded
        Columns whose long texts a terminal shows over several lines; others are cut.
    spare
        Columns that a terminal leaves out first when it is too narrow.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    right: frozenset[str] = frozenset()
    percent: frozenset[str] = frozenset()
    grouped: frozenset[str] = frozenset()
    status: frozenset[str] = frozenset()
    folded: frozenset[str] = frozenset()
    spare: Sequence[str] = ()

    def without(self, names: Container[str]) -> Grid:
        """Return the same table without some of its columns."""
        places = [at for at, name in enumerate(self.columns) if name not in names]
        rows = [[row[at] for at in places] for row in self.rows]
        return replace(self, columns=[self.columns[at] for at in places], rows=rows)


class _Quiet:
    """The state of ``--quiet``: only data and errors are printed."""

    on = False


def counted(count: int, thing: str) -> str:
    """Return a count with its noun: ``1 file``, ``2,000 files``."""
    return f"{count:,} {thing if count == 1 else f'{thing}s'}"


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
    """Tell something that is neither data nor an error; not with ``--quiet``."""
    if not _Quiet.on:
        _to_stderr(text)


def tell_error(text: str) -> None:
    """Tell what went wrong, with ``--quiet`` too."""
    _to_stderr(text)


def _to_stderr(text: str) -> None:
    print(visible(text), file=sys.stderr, flush=True)  # noqa: T201


def print_json(payload: Mapping[str, Any]) -> None:
    """Print an object, its ``schema_version`` first."""
    payload = {"schema_version": SCHEMA_VERSION, **payload}
    text = json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    emit(visible(text, "\\u{:04x}".format))


def print_grid(grid: Grid, form: Form | None = None) -> None:
    """Print a table: as csv, into a workbook, drawn on a terminal, or plain and whole in a pipe."""
    form = form or Form()
    if form.csv:
        _print_csv(grid, form)
    elif form.xlsx is not None:
        _write_workbook(grid, form.xlsx)
    elif sys.stdout.isatty() and not form.wide:
        _draw(grid)
    else:
        emit(_plain(grid))


# --- csv and workbooks --------------------------------------------------------------------------


def _print_csv(grid: Grid, form: Form) -> None:
    """Print csv with a header; a missing value is an empty cell.

    Cells are exact in a pipe; on a terminal control characters are made visible.
    """
    text = io.StringIO()
    plain = csv.writer(text, delimiter=form.sep, lineterminator="\n")
    quoted = csv.writer(text, delimiter=form.sep, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def exact(cell: Value) -> str | None:
        written = _exact(cell)
        return written.replace(".", form.decimal) if isinstance(cell, float) and written else written

    for row in (grid.columns, *(map(exact, row) for row in grid.rows)):
        cells = list(row)
        # By itself the writer leaves a carriage return unquoted, which readers take for the end of the row.
        (quoted if any(cell and "\r" in cell for cell in cells) else plain).writerow(cells)
    mark = "\ufeff" if form.bom else ""
    emit(mark + text.getvalue().removesuffix("\n"), exact=not sys.stdout.isatty())


def _exact(cell: Value) -> str | None:
    """Return a value as text that reads back as the same value."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, float):
        return repr(cell).removesuffix(".0") if math.isfinite(cell) else None
    return cell.isoformat() if isinstance(cell, date) else str(cell)


def _write_workbook(grid: Grid, file: str) -> None:
    """Write a table into a new Excel workbook; text stays text, whatever it begins with, and instants are in UTC.

    Whole numbers and dates that a workbook does not hold are written as text.

    Raises
    ------
    UsageError
        The file cannot be written, or a sheet cannot hold so many rows.
    """
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    if len(grid.rows) >= _SHEET_ROWS:
        raise UsageError(
            f"{len(grid.rows):,} rows do not fit in a sheet, which has {_SHEET_ROWS:,}.",
            hint="Use --csv, or ask for fewer rows.",
        )
    book = Workbook(write_only=True)
    sheet = book.create_sheet("rows")
    sheet.freeze_panes = "A2"
    for letter, width in zip(_letters(len(grid.columns)), _widths(_texts(grid, brief=True)), strict=True):
        sheet.column_dimensions[letter].width = min(max(width + 2, 8), 60)

    new_cell = partial(WriteOnlyCell, sheet)
    sheet.append([_sheet_cell(new_cell, name, "", grid) for name in grid.columns])
    for row in grid.rows:
        sheet.append([_sheet_cell(new_cell, value, name, grid) for value, name in zip(row, grid.columns, strict=True)])
    buffer = io.BytesIO()
    book.save(buffer)
    try:
        Path(file).write_bytes(buffer.getvalue())
    except OSError as error:
        raise UsageError(f"{shown(file)} cannot be written: {error.strerror}.", hint="Name another file.") from error
    note(f"Written to {file}")


def _sheet_cell(new_cell: Callable[[], Any], value: Value, column: str, grid: Grid) -> Any:
    """Return the cell of a workbook for a value of a column; None where there is no value."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    cell = new_cell()
    if not _fits_sheet(value):
        value = _exact(value)
    if isinstance(value, datetime):
        cell.value = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        cell.number_format = "yyyy-mm-dd hh:mm:ss"
    elif isinstance(value, date):
        cell.value = value
        cell.number_format = "yyyy-mm-dd"
    elif isinstance(value, int | float):
        cell.value = value
        if column in grid.percent:
            cell.number_format = "0.00%"
        elif column in grid.grouped:
            cell.number_format = "#,##0"
    else:
        cell.value = _UNPRINTABLE.sub("", str(value))
        cell.data_type = "s"  # never a formula
    return cell


def _fits_sheet(value: Value) -> bool:
    """Return whether a workbook holds a value as it is: its numbers are floats, its dates begin in 1900."""
    if isinstance(value, date):
        return value.year >= 1900
    return not isinstance(value, int) or abs(value) <= _SHEET_WHOLE


def _letters(count: int) -> list[str]:
    from openpyxl.utils import get_column_letter

    return [get_column_letter(number) for number in range(1, count + 1)]


# --- tables for people --------------------------------------------------------------------------


def _by_column(grid: Grid) -> Sequence[Sequence[Value]]:
    """Return the cells of each column."""
    return list(zip(*grid.rows, strict=True)) or [()] * len(grid.columns)


def _numeric(grid: Grid) -> list[bool]:
    """Return for each column whether it holds numbers, which stand to the right."""
    return [
        name in grid.right
        or (
            any(cell is not None for cell in cells)
            and all(cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool)) for cell in cells)
        )
        for name, cells in zip(grid.columns, _by_column(grid), strict=True)
    ]


def _texts(grid: Grid, *, brief: bool) -> list[list[str]]:
    """Return the header and the rows as text, each cell in one line.

    ``brief``: with six digits, and whole seconds, or minutes where no instant of the column has seconds.
    """
    with_seconds = {
        name
        for name, cells in zip(grid.columns, _by_column(grid), strict=True)
        if any(isinstance(cell, datetime) and cell.second for cell in cells)
    }
    rows = (
        [
            _line(_text(cell, name, grid, brief=brief, seconds=name in with_seconds))
            for cell, name in zip(row, grid.columns, strict=True)
        ]
        for row in grid.rows
    )
    return [[_line(name) for name in grid.columns], *rows]


def _text(cell: Value, name: str, grid: Grid, *, brief: bool, seconds: bool) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return MISSING
    if isinstance(cell, float) and name in grid.percent:
        return f"{round(100 * cell, 2) + 0.0:.2f}%"  # adding zero turns a negative zero into a plain one
    if isinstance(cell, int) and name in grid.grouped:
        return f"{cell:,}"
    if brief and isinstance(cell, float) and math.isfinite(cell):
        return _six_digits(cell)
    if isinstance(cell, datetime):
        whole = cell.isoformat(" ")
        return whole if not brief else whole[: len("2026-10-31 18:30:00" if seconds else "2026-10-31 18:30")]
    return str(cell) if isinstance(cell, float) and not math.isfinite(cell) else _exact(cell) or ""


def _six_digits(number: float) -> str:
    """Return a number with six significant digits, and all of those before the decimal point."""
    if number == 0 or 1e-4 <= abs(number) < 1e15:
        decimals = max(0, _DIGITS - 1 - math.floor(math.log10(abs(number)))) if number else 0
        text = f"{number:.{decimals}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{number:.{_DIGITS}g}"


def _line(text: str) -> str:
    """Return ``text`` in one line."""
    return visible(" ".join(text.splitlines()))


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _plain(grid: Grid) -> str:
    lines = _texts(grid, brief=False)
    widths, right = _widths(lines), _numeric(grid)
    return "\n".join(
        _GAP.join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _draw(grid: Grid) -> None:
    """Draw a table that fits the terminal: long texts are cut or folded, then columns left out; numbers stay whole."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    left_out: list[str] = []
    while (widths := _fitted(grid, console.width)) is None:
        spare = [name for name in grid.spare if name in grid.columns]
        name = spare[0] if spare else grid.columns[-1]
        left_out.append(name)
        grid = grid.without({name})
    header, *rows = _texts(grid, brief=True)
    right = _numeric(grid)

    def print_line(cells: Sequence[str], styles: Sequence[str]) -> None:
        line = Text()
        for at, (cell, style) in enumerate(zip(cells, styles, strict=True)):
            padded = cell.rjust(widths[at]) if right[at] else cell.ljust(widths[at])
            line.append((_GAP if at else "") + padded, style=style)
        line.rstrip()
        console.print(line, no_wrap=True, crop=False, overflow="ignore")

    print_line([_cut(name, width) for name, width in zip(header, widths, strict=True)], ["bold"] * len(widths))
    print_line(["─" * width for width in widths], ["dim"] * len(widths))
    for values, texts in zip(grid.rows, rows, strict=True):
        pieces = [
            (textwrap.wrap(text, width, break_on_hyphens=False) or [""]) if name in grid.folded else [_cut(text, width)]
            for name, text, width in zip(grid.columns, texts, widths, strict=True)
        ]
        styles = [_style(value, name, grid) for value, name in zip(values, grid.columns, strict=True)]
        for cells in zip_longest(*pieces, fillvalue=""):
            print_line(cells, styles)
    if left_out:
        note(f"Left out for want of room: {', '.join(left_out)}. --wide shows all.")


def _style(value: Value, name: str, grid: Grid) -> str:
    if value is None:
        return "dim"
    if isinstance(value, int | float):
        return "red" if value < 0 or name in grid.status else ""
    if name in grid.status:
        return "red" if value in _BAD else "green" if value in _GOOD else "yellow"
    return ""


def _fitted(grid: Grid, room: int) -> list[int] | None:
    """Return the columns' widths in ``room`` characters; None where several columns do not fit even when cut."""
    lines = _texts(grid, brief=True)
    widths = _widths(lines)
    least = [
        _least(name, texts[1:], values, grid)
        for name, texts, values in zip(grid.columns, zip(*lines, strict=True), _by_column(grid), strict=True)
    ]
    room -= len(_GAP) * (len(widths) - 1)
    if sum(least) > room:
        return [max(1, min(widths[0], room))] if len(widths) == 1 else None
    while sum(widths) > room:
        widest = max((at for at in range(len(widths)) if widths[at] > least[at]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _least(name: str, texts: Sequence[str], values: Sequence[Value], grid: Grid) -> int:
    """Return the characters that a column needs: numbers and dates are shown whole, texts cut or folded."""
    longest = max(map(len, texts), default=0)
    if name not in grid.right and any(isinstance(value, str) for value in values):
        words = (len(word) for text in texts for word in text.split())
        longest = min(max(words, default=0), _WORD) if name in grid.folded else min(longest, _CUT)
    return max(longest, min(len(name), _HEADER))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


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


def configure_logging(*, debug: bool, verbose: bool, quiet: bool = False) -> None:
    """Send the library's log to stderr: warnings, or more, or when ``quiet`` only errors."""
    _Quiet.on = quiet
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
    package.setLevel(
        logging.DEBUG if debug else logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    )
    for steps in _STEP_LOGGERS:
        logging.getLogger(steps).setLevel(logging.NOTSET)


def log_steps() -> None:
    """Log the steps of a run too, its reference date first: an operator wants to see them, unless ``--quiet``."""
    for steps in () if _Quiet.on else _STEP_LOGGERS:
        logger = logging.getLogger(steps)
        logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
