"""Whether a batch and a table go together: their columns, their types, the cells that must be filled."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from luxor_pipelines.errors import SchemaError
from luxor_pipelines.lake.types.schema import LAST_UPDATED

__all__ = ["check_declared", "check_filled", "check_typed", "types_of"]


def types_of(schema: pa.Schema) -> dict[str, str]:
    """The columns and their types, but for when a row was written."""
    return {field.name: str(field.type) for field in schema if field.name != LAST_UPDATED}


def check_filled(batch: pa.Table, needed: Iterable[str], table: str) -> None:
    """Refuse a batch without the columns that say which rows they are, or with an empty cell in one.

    Raises
    ------
    SchemaError
    """
    absent = sorted(set(needed) - set(batch.column_names))
    if absent:
        raise SchemaError(
            f"The batch for {table} has no column {', '.join(map(repr, absent))}; it has "
            f"{', '.join(map(repr, batch.column_names))}.",
            hint="Add the column, or name another increment_column (None with unique_columns) or other unique_columns.",
        )
    for column in sorted(needed):
        nulls = batch[column].null_count
        if nulls:
            raise SchemaError(
                f"Table {table}, column {column!r}: {nulls} of {len(batch)} rows in the batch are null, "
                "in a column that says which rows they are.",
                hint="Fill or drop those rows.",
            )


def check_typed(batch: pa.Table, table: str) -> None:
    """Raise where a new partitioned table would get a column without a value: the next month's type may be another.

    Raises
    ------
    SchemaError
    """
    empty = [field.name for field in batch.schema if pa.types.is_null(field.type)]
    if empty:
        raise SchemaError(
            f"Table {table}, column {', '.join(map(repr, empty))}: no cell has a value, so that its type is not known.",
            hint="Give it one, for instance df[column].astype('float64[pyarrow]'), or leave the column out.",
        )


def check_declared(declared: pa.Schema, stored: pa.Schema, table: str) -> None:
    """Refuse a stored table whose columns are not those that its pipeline declares.

    Raises
    ------
    SchemaError
    """
    is_, should = types_of(stored), types_of(declared)
    should |= {name: kind for name, kind in is_.items() if kind == "null" and name in should}
    if is_ != should:
        odd = sorted(name for name in is_.keys() | should.keys() if is_.get(name) != should.get(name))
        detail = "; ".join(
            f"{name!r} is {is_.get(name, 'absent')}, declared {should.get(name, 'absent')}" for name in odd[:4]
        )
        raise SchemaError(
            f"The stored table {table} has other columns than this version writes: {detail}"
            f"{f' and {len(odd) - 4} more' if len(odd) > 4 else ''}. Nothing was written.",
            hint=f"`luxor archive {table}` moves the stored table aside, so that a new one can be made.",
        )
