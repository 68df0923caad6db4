"""Tables on the command line: conditions from text, cells to text, moving a table aside."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.errors import SchemaError, UsageError, shown
from luxor_pipelines.lake.parquet.predicates import Where
from luxor_pipelines.lake.table.table import Table

__all__ = [
    "Condition",
    "are_dates",
    "as_json",
    "as_text",
    "is_number",
    "parse_condition",
    "select",
    "write_workbook",
]

_CONDITION = re.compile(r"(?P<column>[^=!<>]+)(?P<operator>!=|<=|>=|=|<|>)(?P<value>.*)", re.DOTALL)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_SHEET_ROWS = 1_048_576
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""Characters that no workbook may have."""


@dataclass(frozen=True)
class Condition:
    """A condition on a column, whose value spans ``low`` to ``high``: a day of a column of instants does.

    ``low`` is None for "no value".
    """

    column: str
    operator: str
    low: Any
    high: Any

    def pushed(self) -> Where | None:
        """What the files can be asked: at least the rows that meet the condition, or None."""
        if self.low is None or isinstance(self.low, str | bool):
            return None
        spans = {
            "=": (self.low, self.high),
            "<": (None, self.high),
            "<=": (None, self.high),
            ">": (self.low, None),
            ">=": (self.low, None),
        }
        span = spans.get(self.operator)
        return Where(self.column, spans=(span,)) if span else None

    def mask(self, column: pa.ChunkedArray) -> Any:
        """The rows that meet the condition; a null meets none but ``Column=``."""
        if self.low is None:
            return pc.is_null(column) if self.operator == "=" else pc.is_valid(column)
        if isinstance(self.low, str):
            column = pc.utf8_lower(pc.utf8_trim_whitespace(column))
        low, high = pa.scalar(self.low, column.type), pa.scalar(self.high, column.type)
        masks: dict[str, Callable[[], Any]] = {
            "=": lambda: pc.and_(pc.greater_equal(column, low), pc.less_equal(column, high)),
            "!=": lambda: pc.or_(pc.less(column, low), pc.greater(column, high)),
            "<": lambda: pc.less(column, low),
            "<=": lambda: pc.less_equal(column, high),
            ">": lambda: pc.greater(column, high),
            ">=": lambda: pc.greater_equal(column, low),
        }
        return pc.fill_null(masks[self.operator](), False)


def parse_condition(text: str, schema: pa.Schema, table: str) -> Condition:
    """A condition from text like ``Date>=2026-10-01``; text is compared trimmed and without case.

    Raises
    ------
    UsageError
        Not of that form, or the value is not of the column's type.
    SchemaError
        No such column.
    """
    match = _CONDITION.fullmatch(text.strip())
    if not match:
        raise UsageError(
            f"--where {shown(text)} is not a condition.",
            hint='Write it like "Date>=2026-10-01"; the operators are = != < <= > >=.',
        )
    operator, value = match["operator"], match["value"].strip()
    column = find_column(match["column"], schema, table)
    kind = schema.field(column).type
    if not value:
        if operator not in ("=", "!="):
            raise UsageError(f"--where {shown(text)} compares with nothing.", hint="Only = and != take no value.")
        return Condition(column, operator, None, None)
    try:
        low, high = _span(value, kind)
    except ValueError as error:
        kinds = ((pa.types.is_timestamp, "a date"), (pa.types.is_boolean, "a flag"), (pa.types.is_string, "text"))
        what = next((word for is_kind, word in kinds if is_kind(kind)), "a number")
        raise UsageError(
            f"--where {shown(text)}: column {column!r} of {table} is not compared with {shown(value)}.",
            hint=f"It holds values of the type {kind}: write {what}.",
        ) from error
    return Condition(column, operator, low, high)


def find_column(name: str, schema: pa.Schema, table: str) -> str:
    """The column of that name, whatever its case where that is plain.

    Raises
    ------
    SchemaError
        There is none; lists those there are.
    """
    name = name.strip()
    same = [column for column in schema.names if column == name]
    same = same or [column for column in schema.names if column.lower() == name.lower()]
    if len(same) == 1:
        return str(same[0])
    raise SchemaError(f"Table {table} has no column {shown(name)}.", hint=f"It has: {', '.join(schema.names)}.")


def _span(value: str, kind: pa.DataType) -> tuple[Any, Any]:
    if pa.types.is_timestamp(kind):
        found = datetime.fromisoformat(value)
        if kind.tz:
            found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        elif found.tzinfo is not None:
            raise ValueError("dates have no time zone")
        last = datetime.combine(found, time.max, found.tzinfo) if _DAY.fullmatch(value) else found
        return found, last
    if pa.types.is_boolean(kind):
        flag = {"true": True, "false": False}.get(value.lower())
        if flag is None:
            raise ValueError("neither true nor false")
        return flag, flag
    if pa.types.is_string(kind):
        value.encode()  # a lone surrogate, which is how a shell's undecodable bytes arrive, is no text
        return value.lower(), value.lower()
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number, number


def select(table: Table, columns: Sequence[str] | None, where: Sequence[str]) -> pa.Table:
    """The rows of a table that meet all conditions, with these columns (default all).

    Raises
    ------
    TableNotFoundError, UsageError, SchemaError, CorruptFileError
    """
    snapshot = table.snapshot()
    schema = table.codec(snapshot).schema
    wanted = schema.names if columns is None else [find_column(column, schema, table.name) for column in columns]
    conditions = [parse_condition(text, schema, table.name) for text in where]
    needed = list(dict.fromkeys([*wanted, *(condition.column for condition in conditions)]))
    pushed = [found for condition in conditions if (found := condition.pushed()) is not None]
    data = table.scan(needed, pushed, snapshot=snapshot).data
    for condition in conditions:
        data = data.filter(condition.mask(data[condition.column]))
    return data.select(list(dict.fromkeys(wanted)))


def as_json(column: pa.ChunkedArray, *, dates: bool) -> list[Any]:
    """A column's cells in JSON's types; instants in ISO form, as ``dates`` without the time of day."""
    cells = column.to_pylist()
    if pa.types.is_timestamp(column.type):
        return [None if cell is None else (cell.date() if dates else cell).isoformat() for cell in cells]
    return [None if isinstance(cell, float) and not math.isfinite(cell) else cell for cell in cells]


def as_text(column: pa.ChunkedArray, *, dates: bool) -> list[str | None]:
    """A column's cells as text, whole; None where there is no value."""
    return [
        None if cell is None else repr(cell).removesuffix(".0") if isinstance(cell, float) else str(cell)
        for cell in as_json(column, dates=dates)
    ]


def are_dates(column: pa.ChunkedArray) -> bool:
    """Whether a column holds calendar dates: instants without a zone, all of them midnights."""
    if not pa.types.is_timestamp(column.type) or column.type.tz:
        return False
    day = timedelta(days=1) // timedelta(microseconds=1)
    micros = column.cast(pa.timestamp("us")).cast(pa.int64()).drop_null().to_numpy()
    return not (micros % day).any()


def is_number(column: pa.ChunkedArray) -> bool:
    """Whether a column holds numbers."""
    return bool(pa.types.is_floating(column.type) or pa.types.is_integer(column.type))


def write_workbook(data: pa.Table, file: str) -> None:
    """Write rows into a new Excel workbook; text stays text, whatever it begins with, and instants are in UTC.

    Raises
    ------
    UsageError
        The file cannot be written, or a sheet cannot hold so many rows.
    """
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    if len(data) >= _SHEET_ROWS:
        raise UsageError(
            f"{len(data):,} rows do not fit in a sheet, which has {_SHEET_ROWS:,}.", hint="Use --csv, or a LIMIT."
        )
    book = Workbook(write_only=True)
    sheet = book.create_sheet("rows")

    def cell(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, datetime):
            return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        if value is None or isinstance(value, int | float | date | time):
            return value
        text = WriteOnlyCell(sheet, _UNPRINTABLE.sub("", str(value)))
        text.data_type = "s"  # never a formula
        return text

    sheet.append([cell(name) for name in data.column_names])
    columns = [column.to_pylist() for column in data.columns]
    for row in zip(*columns, strict=True):
        sheet.append([cell(value) for value in row])
    buffer = io.BytesIO()
    book.save(buffer)
    try:
        Path(file).write_bytes(buffer.getvalue())
    except OSError as error:
        raise UsageError(f"{shown(file)} cannot be written: {error.strerror}.", hint="Name another file.") from error
