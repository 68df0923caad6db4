"""Schemas of tables: the types that are stored, the keys of rows, and a lake's conventions.

Six types are stored: dates (``timestamp[us]`` without a zone), text (``string``), numbers (``float64``),
whole numbers (``int64``), flags (``bool``) and stamps (``timestamp[us, UTC]``). A missing cell is a null,
whatever pandas had for it; a NaN is never stored.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.errors import SchemaError, shown

__all__ = [
    "ADDED",
    "COLUMN_TYPES",
    "DATE",
    "DATE_COLUMN",
    "ENCODING",
    "FLAG",
    "KEY",
    "LAST_UPDATED",
    "NUMBER",
    "STAMP",
    "TEXT",
    "WHOLE",
    "Column",
    "ColumnType",
    "Conventions",
    "TableSchema",
    "added_columns",
    "bad_cells",
    "column_command",
    "column_type",
    "is_text_type",
    "plain",
    "stored_key",
    "value_type",
    "with_codes",
]

LAST_UPDATED = "Last_Updated"
"""The column that says when a row was last changed; set by the writer, never compared."""
DATE_COLUMN = "Date"
"""The column by which a table is partitioned, unless it is told otherwise."""
ENCODING = b"luxor.encoding"
"""The entry of a file's metadata that is ``typed`` where the columns are stored as they are read."""
KEY = b"luxor.key"
"""The entry of a file's metadata that names the key's columns, one per line."""
ADDED = b"luxor.added"
"""The entry of a file's metadata that names the columns added to it later, one per line: rows may come without them."""

DATE = pa.timestamp("us")
TEXT = pa.string()
NUMBER = pa.float64()
WHOLE = pa.int64()
FLAG = pa.bool_()
STAMP = pa.timestamp("us", "UTC")

ColumnType: TypeAlias = Literal["date", "text", "number", "whole", "flag", "stamp"]
COLUMN_TYPES: dict[ColumnType, pa.DataType] = {
    "date": DATE,
    "text": TEXT,
    "number": NUMBER,
    "whole": WHOLE,
    "flag": FLAG,
    "stamp": STAMP,
}


@dataclass(frozen=True)
class Conventions:
    """The customs of a lake that its files do not state.

    Attributes
    ----------
    columns
        The types of columns, by exact name, in any table. In files that are not marked as typed, text of such a
        column spells values of the type; in a new table the column has the type.
    tables
        The types of columns in single tables, instead of ``columns``; ``"*"`` stands for all other columns.
    keep_case
        Columns whose text is stored as it is given; other text is trimmed and stored in lower case.
    day_tables
        Tables whose `DATE_COLUMN` holds days: rows with a time of day are refused.
    """

    columns: Mapping[str, ColumnType] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, ColumnType]] = field(default_factory=dict)
    keep_case: frozenset[str] = frozenset()
    day_tables: frozenset[str] = frozenset()

    def known_types(self, table: str, columns: Iterable[str]) -> dict[str, pa.DataType]:
        """Return the types of those columns of a table that are known, `DATE_COLUMN` among them."""
        types = {DATE_COLUMN: "date", **self.tables.get(table, self.columns)}
        kinds = {column: types.get(column, types.get("*")) for column in columns if column != LAST_UPDATED}
        return {column: COLUMN_TYPES[kind] for column, kind in kinds.items() if kind is not None}


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, its type and whether cells may be missing; its meaning and a value, for people."""

    name: str
    type: ColumnType
    nullable: bool = True
    about: str = field(default="", compare=False)
    example: str = field(default="", compare=False)

    @property
    def arrow(self) -> pa.DataType:
        """The type in Arrow."""
        return COLUMN_TYPES[self.type]


@dataclass(frozen=True)
class TableSchema:
    """The declared schema of a table that a pipeline writes.

    Attributes
    ----------
    version
        Raised by whoever changes the columns or the key; it is in the metadata of the files.
    key
        The columns that tell rows apart.
    partition
        The layout that a new table is created with; None for one file.
    increment
        The date column of slices and partitions.
    facts
        Further entries of the files' metadata, by name: what is true of the rows as a whole.
    """

    name: str
    version: int
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition: Literal["month", "year"] | None = None
    increment: str = DATE_COLUMN
    facts: Mapping[str, str] = field(default_factory=dict, compare=False)

    def arrow(self) -> pa.Schema:
        """Return the Arrow schema of the table's files, ``Last_Updated`` last."""
        fields = [pa.field(column.name, column.arrow, column.nullable) for column in self.columns]
        return pa.schema([*fields, pa.field(LAST_UPDATED, STAMP)])

    def metadata(self) -> dict[bytes, bytes]:
        """Return the metadata of the table's files: name and version of the schema, key, and the typed encoding."""
        return {
            b"luxor.schema": self.name.encode(),
            b"luxor.schema_version": str(self.version).encode(),
            KEY: "\n".join(self.key).encode(),
            ENCODING: b"typed",
            **{name.encode(): text.encode() for name, text in self.facts.items()},
        }


def value_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values: of one that is dictionary-encoded, that of its words."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_text_type(kind: pa.DataType) -> bool:
    """Return whether a type is one of Arrow's types of text, dictionary-encoded or not."""
    kind = value_type(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def bad_cells(table: str, column: str, count: int, total: int, fault: str, example: object, hint: str) -> SchemaError:
    """Return the error for cells that do not fit, with table, column, count and one of the cells."""
    return SchemaError(
        f"Table {table}, column {column!r}: {count} of {total} cells {fault}; for instance {shown(example)}.", hint=hint
    )


def column_type(kind: pa.DataType) -> ColumnType | None:
    """Return the name of a stored type; None of any other type."""
    return next((name for name, stored in COLUMN_TYPES.items() if stored == kind), None)


def added_columns(stored: pa.Schema) -> tuple[str, ...]:
    """Return the columns that a file's metadata says were added later, and without which rows may come."""
    return tuple(filter(None, (stored.metadata or {}).get(ADDED, b"").decode().split("\n")))


def column_command(table: str, column: str, kind: pa.DataType | None = None) -> str:
    """Return the command that adds a column of a type to a table, or drops it where no type is given, for a hint."""
    name = column if re.fullmatch(r"[\w.-]+", column) else f'"{column}"'
    if kind is None:
        return f"`luxor drop-column {table} {name}`"
    return f"`luxor add-column {table} {name} --type {column_type(kind) or 'KIND'}`"


def stored_key(stored: pa.Schema) -> tuple[str, ...]:
    """Return the key that a file's metadata names; empty where it names none."""
    return tuple(filter(None, (stored.metadata or {}).get(KEY, b"").decode().split("\n")))


def with_codes(column: pa.ChunkedArray) -> tuple[np.ndarray[Any, Any], pa.Array]:
    """Return a text column as the codes of its words, -1 for a null, and the words.

    Text that comes dictionary-encoded is never decoded.
    """
    if not pa.types.is_dictionary(column.type):
        column = column.cast(TEXT).dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # of no chunks, in older versions of pyarrow
        return np.array([], dtype=np.int32), pa.array([], TEXT)
    return pc.fill_null(whole.indices, -1).to_numpy(zero_copy_only=False), whole.dictionary


def plain(value: object) -> object:
    """Return a cell as messages show it: a date as its ISO text."""
    return str(value) if isinstance(value, dt.date) else value
