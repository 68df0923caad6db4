"""What stored columns mean, and back: any file's columns as the lake's five types.

Files come in three kinds: our own typed ones, legacy ones in which every cell is text, and those
that other programs wrote with types of their own (whole numbers, days, dictionaries …).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.errors import SchemaError
from luxor_pipelines.lake.types import legacy
from luxor_pipelines.lake.types.schema import DATE, ENCODING, LAST_UPDATED, NUMBER, STAMP, TEXT, bad_cells, is_text_type

__all__ = ["as_stored", "data_columns", "logical_schema", "to_logical", "to_physical"]

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


def data_columns(stored: pa.Schema) -> pa.Schema:
    """The schema without an index that pandas has stored unasked (``__index_level_0__``)."""
    fields = [field for field in stored if not _PANDAS_INDEX.fullmatch(field.name)]
    if len(fields) == len(stored):
        return stored
    metadata = {key: value for key, value in (stored.metadata or {}).items() if key != b"pandas"}
    return pa.schema(fields, metadata)


def logical_schema(stored: pa.Schema, name: str, overrides: Mapping[str, Any] | None = None) -> pa.Schema:
    """The types the columns mean: number, date, text, flag or stamp, whatever the file stores them as."""
    stored = data_columns(stored)
    of_text = legacy.meanings(stored, name=name, overrides=overrides)
    return pa.schema([pa.field(f.name, of_text.get(f.name) or _meaning(f.type)) for f in stored], stored.metadata)


def _meaning(stored: pa.DataType) -> pa.DataType:
    kind = stored.value_type if pa.types.is_dictionary(stored) else stored
    if is_text_type(kind) or pa.types.is_null(kind):
        return TEXT
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return NUMBER
    if pa.types.is_timestamp(kind):
        return STAMP if kind.tz else DATE
    return DATE if pa.types.is_date(kind) else kind


def to_logical(
    data: pa.Table,
    name: str,
    overrides: Mapping[str, Any] | None = None,
    dictionary: Sequence[str] = (),
    *,
    text: bool | None = None,
) -> pa.Table:
    """The columns as what they mean; a NaN is a null, and nothing is finer than microseconds.

    Parameters
    ----------
    overrides
        Types for text columns, see `legacy.expected_types`.
    dictionary
        Text columns that may stay dictionary-encoded.
    text
        Whether the file is a legacy one, when ``data`` has not all its columns.

    Raises
    ------
    SchemaError
        Cells that are not of their column's type.
    """
    target = logical_schema(data.schema, name, overrides)
    typed = (data.schema.metadata or {}).get(ENCODING) == b"typed"
    data = legacy.decode(data.select(target.names), name=name, overrides=overrides, text=text)
    columns = []
    for field, column in zip(target, data.columns, strict=True):
        if not (field.name in dictionary and pa.types.is_dictionary(column.type)):
            column = _cast(column, field.type, name, field.name)
        if field.type == NUMBER and not typed:
            absent = pc.is_nan(column)
            if pc.any(absent, min_count=0).as_py():
                column = pc.if_else(absent, None, column)
        columns.append(column)
    return pa.table(columns, names=target.names).replace_schema_metadata(target.metadata)


def _cast(column: pa.ChunkedArray, kind: pa.DataType, table: str, name: str) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    finer = pa.types.is_timestamp(column.type) and column.type.unit == "ns" and pa.types.is_timestamp(kind)
    try:
        return column.cast(kind, safe=not finer)
    except pa.ArrowException as error:
        raise SchemaError(
            f"Table {table}, column {name!r}: {column.type} does not fit {kind} ({error}).",
            hint="Give the column a type that holds its values, in the rows or in the table.",
        ) from error


def to_physical(rows: pa.Table, stored: pa.Schema, name: str) -> pa.Table:
    """Typed rows in the types, and the order of columns, that the table's files have.

    Raises
    ------
    SchemaError
        A value that the stored type does not hold, such as 1.5 in a column of whole numbers.
    """
    columns = [_cast(rows[field.name], field.type, name, field.name) for field in stored]
    return pa.table(columns, schema=stored)


def as_stored(rows: pa.Table, stored: pa.Schema, name: str) -> pa.Table:
    """Typed rows as they will read once they are stored in the table's files.

    Only so do they compare as equal to what the same load has stored before.

    Raises
    ------
    SchemaError
        A value that the stored type does not hold. Numbers are rounded to a stored ``float``.
    """
    if legacy.is_text(stored):
        return legacy.as_read(rows, name=name)
    fields = [field for field in stored if field.name != LAST_UPDATED]
    if all(rows.schema.field(field.name).type == field.type for field in fields):
        return rows
    read = to_logical(to_physical(rows, pa.schema(fields, stored.metadata), name), name).select(rows.column_names)
    for field in fields:
        given, kept = rows[field.name], read[field.name]
        if pa.types.is_floating(field.type):
            lost = pc.and_not(pc.is_inf(kept), pc.is_inf(given))
        else:
            lost = pc.not_equal(given, kept)
        count = pc.sum(lost, min_count=0).as_py()
        if count:
            example = given.filter(lost)[0].as_py()
            what = f"do not fit {field.type}, which the stored table has"
            hint = "Round or convert them, or store the table anew with a type that holds them."
            raise bad_cells(name, field.name, count, len(given), what, str(example), hint)
    return read
