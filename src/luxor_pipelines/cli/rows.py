"""Rows of tables: chosen and sorted as the options of a command say, and made ready for printing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.cli.output import Grid
from luxor_pipelines.errors import UsageError, shown
from luxor_pipelines.lake.parquet.predicates import Where, apply, conditions, find_column
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.lake.types.schema import LAST_UPDATED

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "arrow_of",
    "grid_of",
    "json_rows",
    "narrowed",
    "select",
]


def select(table: Table, columns: Sequence[str] | None, where: Sequence[str], sort: str | None = None) -> pa.Table:
    """Return the rows of a table that meet all conditions, with these columns (default all), sorted.

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
    shown = schema.names if columns is None else [find_column(schema, table.name, column) for column in columns]
    predicates = _predicates(schema, table.name, where)
    order = _order(sort, schema, table.name) if sort is not None else _newest_first(schema)
    sort_columns = [column for column, _ in order]
    data = table.scan(list(dict.fromkeys([*shown, *sort_columns])), predicates, snapshot=snapshot).data
    return _sorted(data, order).select(list(dict.fromkeys(shown)))


def narrowed(data: pa.Table, name: str, where: Sequence[str], sort: str | None) -> pa.Table:
    """Return the rows that meet all conditions, sorted as `select` does, by default as they are.

    Raises
    ------
    UsageError, SchemaError
    """
    data = apply(data, _predicates(data.schema, name, where))
    return _sorted(data, [] if sort is None else _order(sort, data.schema, name))


def _predicates(schema: pa.Schema, table: str, where: Sequence[str]) -> list[Where]:
    predicates = []
    for text in where:
        try:
            predicates += conditions(schema, table, text)
        except UsageError as error:
            raise UsageError(f"--where {shown(text)}: {error.message}", hint=error.hint) from error
    return predicates


def _sorted(data: pa.Table, order: Sequence[tuple[str, str]]) -> pa.Table:
    return data.take(pc.sort_indices(data, sort_keys=list(order))) if order else data


def _order(sort: str, schema: pa.Schema, table: str) -> list[tuple[str, str]]:
    """Return the columns to sort by, and which way."""
    order = []
    for text in sort.split(","):
        name = text.strip()
        downward = name.startswith("-") and name not in schema.names
        order.append((find_column(schema, table, name.removeprefix("-") if downward else name), downward))
    return [(column, "descending" if downward else "ascending") for column, downward in order]


def _newest_first(schema: pa.Schema) -> list[tuple[str, str]]:
    """Return the order by the table's dates; none where it has none."""
    dates = [field.name for field in schema if pa.types.is_timestamp(field.type) and field.name != LAST_UPDATED]
    return [("Date" if "Date" in dates else dates[0], "descending")] if dates else []


def arrow_of(frame: pd.DataFrame) -> pa.Table:
    """Return a frame's columns, without its index, text as Arrow's plain strings."""
    data = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
    fields = [field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field for field in data.schema]
    return data.cast(pa.schema(fields))


def grid_of(data: pa.Table) -> Grid:
    """Return a table's rows for printing; dates without a time of day."""
    columns = []
    for column in data.columns:
        cells = _cells(column)
        if _are_dates(column):
            cells = [cell.date() if isinstance(cell, datetime) else cell for cell in cells]
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
    """Return the rows in JSON's types; instants in ISO form, dates without a time of day."""
    columns = [_json(column) for column in data.columns]
    return [dict(zip(data.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _json(column: pa.ChunkedArray) -> list[Any]:
    cells = _cells(column)
    if pa.types.is_timestamp(column.type):
        dates = _are_dates(column)
        return [(cell.date() if dates else cell).isoformat() if isinstance(cell, datetime) else cell for cell in cells]
    return [None if isinstance(cell, float) and not math.isfinite(cell) else cell for cell in cells]


def _cells(column: pa.ChunkedArray) -> list[Any]:
    """Return a column's cells; as text where some are dates before the year 1 or after 9999, which Python lacks."""
    try:
        return cast("list[Any]", column.to_pylist())
    except (OverflowError, ValueError):
        return cast("list[Any]", column.cast(pa.string()).to_pylist())


def _are_dates(column: pa.ChunkedArray) -> bool:
    """Return whether a column holds calendar dates: instants without a zone, all of them midnights."""
    if not pa.types.is_timestamp(column.type) or column.type.tz:
        return False
    day = timedelta(days=1) // timedelta(microseconds=1)
    micros = column.cast(pa.timestamp("us")).cast(pa.int64()).drop_null().to_numpy()
    return not (micros % day).any()
