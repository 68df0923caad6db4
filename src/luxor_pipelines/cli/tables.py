"""Tables on the command line: conditions and orders from text, rows for printing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.cli.output import Grid
from luxor_pipelines.errors import SchemaError, UsageError, shown
from luxor_pipelines.lake.parquet.predicates import Where
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.lake.types.schema import LAST_UPDATED

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LAST_UPDATED",
    "Condition",
    "are_dates",
    "arrow_of",
    "grid_of",
    "json_rows",
    "narrowed",
    "parse_condition",
    "select",
]

_CONDITION = re.compile(r"(?P<column>[^=!<>]+)(?P<operator>!=|<=|>=|=|<|>)(?P<value>.*)", re.DOTALL)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


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
        """A condition that the files can be asked for, which at least these rows meet; None if there is none."""
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
        first = datetime.fromisoformat(value)
        if kind.tz:
            first = first.replace(tzinfo=UTC) if first.tzinfo is None else first.astimezone(UTC)
        elif first.tzinfo is not None:
            raise ValueError("dates have no time zone")
        last = datetime.combine(first, time.max, first.tzinfo) if _DAY.fullmatch(value) else first
        return first, last
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


def select(table: Table, columns: Sequence[str] | None, where: Sequence[str], sort: str | None = None) -> pa.Table:
    """The rows of a table that meet all conditions, with these columns (default all), sorted.

    Parameters
    ----------
    sort
        Columns, separated by commas; ``-`` before one: the largest first. Default the newest first, of a table
        with dates.

    Raises
    ------
    TableNotFoundError, UsageError, SchemaError, CorruptFileError
    """
    snapshot = table.snapshot()
    schema = table.codec(snapshot).schema
    wanted = schema.names if columns is None else [find_column(column, schema, table.name) for column in columns]
    conditions = [parse_condition(text, schema, table.name) for text in where]
    order = _order(sort, schema, table.name) if sort is not None else _newest_first(schema)
    others = [*(condition.column for condition in conditions), *(column for column, _ in order)]
    pushed = [asked for condition in conditions if (asked := condition.pushed()) is not None]
    data = table.scan(list(dict.fromkeys([*wanted, *others])), pushed, snapshot=snapshot).data
    return _narrowed(data, conditions, order).select(list(dict.fromkeys(wanted)))


def narrowed(data: pa.Table, name: str, where: Sequence[str], sort: str | None) -> pa.Table:
    """The rows that meet all conditions, sorted as `select` does, by default as they are.

    Raises
    ------
    UsageError, SchemaError
    """
    conditions = [parse_condition(text, data.schema, name) for text in where]
    return _narrowed(data, conditions, [] if sort is None else _order(sort, data.schema, name))


def _narrowed(data: pa.Table, conditions: Sequence[Condition], order: Sequence[tuple[str, str]]) -> pa.Table:
    for condition in conditions:
        data = data.filter(condition.mask(data[condition.column]))
    return data.take(pc.sort_indices(data, sort_keys=list(order))) if order else data


def _order(sort: str, schema: pa.Schema, table: str) -> list[tuple[str, str]]:
    """The columns to sort by, and which way."""
    order = []
    for text in sort.split(","):
        name = text.strip()
        downward = name.startswith("-") and name not in schema.names
        order.append((find_column(name.removeprefix("-") if downward else name, schema, table), downward))
    return [(column, "descending" if downward else "ascending") for column, downward in order]


def _newest_first(schema: pa.Schema) -> list[tuple[str, str]]:
    """The order by the table's dates; none where it has none."""
    dates = [field.name for field in schema if pa.types.is_timestamp(field.type) and field.name != LAST_UPDATED]
    return [("Date" if "Date" in dates else dates[0], "descending")] if dates else []


def arrow_of(frame: pd.DataFrame) -> pa.Table:
    """A frame's columns, without its index, text as Arrow's plain strings."""
    data = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
    fields = [field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field for field in data.schema]
    return data.cast(pa.schema(fields))


def grid_of(data: pa.Table) -> Grid:
    """A table's rows for printing; dates without a time of day."""
    columns = []
    for column in data.columns:
        cells = column.to_pylist()
        if are_dates(column):
            cells = [None if cell is None else cell.date() for cell in cells]
        elif not _printable(column.type):
            cells = [None if cell is None else str(cell) for cell in cells]
        columns.append(cells)
    return Grid(data.column_names, list(zip(*columns, strict=True)))


def _printable(kind: pa.DataType) -> bool:
    """Return whether a column's cells are text, numbers, flags, dates or instants."""
    kinds = [pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating]
    kinds += [pa.types.is_boolean, pa.types.is_timestamp, pa.types.is_date]
    return any(is_kind(kind) for is_kind in kinds)


def json_rows(data: pa.Table) -> list[dict[str, Any]]:
    """The rows in JSON's types; instants in ISO form, dates without a time of day."""
    columns = [_json(column) for column in data.columns]
    return [dict(zip(data.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _json(column: pa.ChunkedArray) -> list[Any]:
    cells = column.to_pylist()
    if pa.types.is_timestamp(column.type):
        dates = are_dates(column)
        return [None if cell is None else (cell.date() if dates else cell).isoformat() for cell in cells]
    return [None if isinstance(cell, float) and not math.isfinite(cell) else cell for cell in cells]


def are_dates(column: pa.ChunkedArray) -> bool:
    """Return whether a column holds calendar dates: instants without a zone, all of them midnights."""
    if not pa.types.is_timestamp(column.type) or column.type.tz:
        return False
    day = timedelta(days=1) // timedelta(microseconds=1)
    micros = column.cast(pa.timestamp("us")).cast(pa.int64()).drop_null().to_numpy()
    return not (micros % day).any()
