"""The codec of a file: how its columns are read as typed columns, and typed rows written as its columns.

Files are of three kinds: ours, which are typed; those of other programs, with types of their own (whole
numbers, days, dictionaries …); and legacy ones, in which every cell is text. `codec_of` chooses the codec
once, when a file is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.errors import SchemaError, UsageError, sample
from luxor_pipelines.lake.types.legacy import LegacyCodec
from luxor_pipelines.lake.types.parsing import parse
from luxor_pipelines.lake.types.schema import (
    DATE,
    ENCODING,
    FLAG,
    LAST_UPDATED,
    NUMBER,
    STAMP,
    TEXT,
    WHOLE,
    Conventions,
    bad_cells,
    is_text_type,
    value_type,
)

__all__ = ["Codec", "Overrides", "TypedCodec", "codec_of", "overridden"]

Overrides = Mapping[str, pa.DataType]
"""The types, by column, that a caller wants text and whole numbers read as."""

_KINDS = {"float": NUMBER, "date": DATE, "bool": FLAG, "str_nan_format": TEXT}
_PANDAS_INDEX = re.compile(r"__index_level_\d+__|__null_dask_index__")


class Codec(Protocol):
    """Reads the columns of one file as typed columns, and writes typed rows as that file's columns."""

    @property
    def stored(self) -> pa.Schema:
        """The columns as the file stores them, with its metadata; without an index that pandas stored unasked."""

    @property
    def schema(self) -> pa.Schema:
        """The typed columns that `decode` gives, with the file's metadata."""

    @property
    def legacy(self) -> bool:
        """Whether every cell of the file is text."""

    def is_plain(self, column: str) -> bool:
        """Return whether a column is stored as `decode` gives it, so that its statistics are those of the values."""

    def decode(self, rows: pa.Table, dictionary: Sequence[str] = ()) -> pa.Table:
        """Return stored rows as typed columns; a NaN is a null, and nothing is finer than microseconds.

        Parameters
        ----------
        rows
            Some or all of the file's columns.
        dictionary
            Columns of text that may stay dictionary-encoded.

        Raises
        ------
        SchemaError
            Cells that are not of their column's type; it tells table, column, count and one of them.
        """

    def encode(self, rows: pa.Table, like: pa.Table | None = None) -> pa.Table:
        """Return typed rows in the types, and the order of columns, that the file has.

        Parameters
        ----------
        like
            Stored rows that the new ones are to join.

        Raises
        ------
        SchemaError
            A value that the stored type does not hold, such as 1.5 in a column of whole numbers.
        """

    def as_read(self, rows: pa.Table) -> pa.Table:
        """Return typed rows as they will be read once stored, so that they can be compared with stored rows.

        Raises
        ------
        SchemaError
            A value that the stored type does not hold. Numbers are rounded to a stored ``float``.
        """


def codec_of(stored: pa.Schema, table: str, conventions: Conventions, overrides: Overrides | None = None) -> Codec:
    """Return the codec of a file.

    Parameters
    ----------
    stored
        The file's columns, with its metadata.
    table
        The table's name, on which the types of text columns may depend.
    conventions
        The types, by name, of the values that text columns spell and that whole numbers stand for. They do not count
        for a file that is marked as typed.
    overrides
        Types that win over the conventions.
    """
    typed = (stored.metadata or {}).get(ENCODING) == b"typed"
    stored = _without_index(stored)
    texts = [field.name for field in stored if is_text_type(field.type)]
    types = {} if typed else conventions.known_types(table, stored.names)
    types |= overrides or {}
    if texts and len(texts) == len(stored) and not typed:
        return LegacyCodec(stored, table, {name: types.get(name, TEXT) for name in texts})
    return TypedCodec(stored, table, types, nan_free=typed)


def overridden(overrides: Mapping[str, Iterable[str]] | None) -> dict[str, pa.DataType]:
    """Return the types of columns as callers write them: kind → columns, as in ``{"float": {"Pct_Change"}}``.

    Raises
    ------
    UsageError
        A kind other than ``"float"``, ``"date"``, ``"bool"`` and ``"str_nan_format"`` (text).
    """
    unknown = set(overrides or ()) - _KINDS.keys()
    if unknown:
        raise UsageError(
            f"dtypes_override has no kind {sample(sorted(map(str, unknown)))}.", hint=f"Use {sample(_KINDS, 4)}."
        )
    return {
        column: _KINDS[kind]
        for kind, columns in (overrides or {}).items()
        for column in ([columns] if isinstance(columns, str) else columns)
    }


def _without_index(stored: pa.Schema) -> pa.Schema:
    """Return the schema without an index that pandas or dask has stored unasked (``__index_level_0__``)."""
    fields = [field for field in stored if not _PANDAS_INDEX.fullmatch(field.name)]
    if len(fields) == len(stored):
        return stored
    metadata = {key: value for key, value in (stored.metadata or {}).items() if key != b"pandas"}
    return pa.schema(fields, metadata)


class TypedCodec:
    """The codec of a file that has types, the lake's own or another program's.

    Parameters
    ----------
    stored
        The file's columns, with its metadata.
    table
        The table's name, for messages.
    types
        The types, by column, of the values that text spells and that whole numbers stand for.
    nan_free
        Whether the file never holds a NaN, so that its numbers need no search for one.
    """

    legacy = False

    def __init__(
        self, stored: pa.Schema, table: str, types: Mapping[str, pa.DataType] | None = None, *, nan_free: bool = False
    ) -> None:
        self.stored = stored
        self._table = table
        self._nan_free = nan_free
        self._parsed: set[str] = set()
        fields = []
        for field in stored:
            kind, override = _typed(field.type), (types or {}).get(field.name)
            if kind == TEXT and override is not None and override != TEXT and is_text_type(field.type):
                self._parsed.add(field.name)
                kind = override
            elif pa.types.is_integer(kind) and override == NUMBER:
                kind = NUMBER
            fields.append(pa.field(field.name, kind))
        self.schema = pa.schema(fields, stored.metadata)

    def is_plain(self, column: str) -> bool:
        """See `Codec.is_plain`."""
        return bool(value_type(self.stored.field(column).type) == self.schema.field(column).type)

    def decode(self, rows: pa.Table, dictionary: Sequence[str] = ()) -> pa.Table:
        """See `Codec.decode`."""
        columns = {}
        for name, column in zip(rows.column_names, rows.columns, strict=True):
            if name not in self.schema.names:
                continue
            kind = self.schema.field(name).type
            if name in self._parsed:
                column = parse(column, kind, self._table, name)
            if not (name in dictionary and pa.types.is_dictionary(column.type)):
                column = _cast(column, kind, self._table, name)
            if kind == NUMBER and not self._nan_free:
                nans = pc.is_nan(column)
                if pc.any(nans, min_count=0).as_py():
                    column = pc.if_else(nans, None, column)
            columns[name] = column
        return pa.table(columns).replace_schema_metadata(self.schema.metadata)

    def encode(self, rows: pa.Table, like: pa.Table | None = None) -> pa.Table:  # noqa: ARG002
        """See `Codec.encode`."""
        columns = [_cast(rows[field.name], field.type, self._table, field.name) for field in self.stored]
        return pa.table(columns, schema=self.stored)

    def as_read(self, rows: pa.Table) -> pa.Table:
        """See `Codec.as_read`."""
        fields = [field for field in self.stored if field.name != LAST_UPDATED]
        if all(value_type(rows.schema.field(field.name).type) == field.type for field in fields):
            return rows
        columns = {field.name: _cast(rows[field.name], field.type, self._table, field.name) for field in fields}
        decoded = self.decode(pa.table(columns)).select(rows.column_names)
        for field in fields:
            before, after = rows[field.name], decoded[field.name]
            if pa.types.is_floating(field.type):
                unfit = pc.and_not(pc.is_inf(after), pc.is_inf(before))
            else:
                unfit = pc.not_equal(before, after)
            count = pc.sum(unfit, min_count=0).as_py()
            if count:
                example = before.filter(unfit)[0].as_py()
                fault = f"do not fit {field.type}, which the stored table has"
                hint = "Round or convert them, or store the table anew with a type that holds them."
                raise bad_cells(self._table, field.name, count, len(before), fault, str(example), hint)
        return decoded


def _typed(stored: pa.DataType) -> pa.DataType:
    """Return the type that a stored type is read as."""
    kind = value_type(stored)
    if is_text_type(kind) or pa.types.is_null(kind):
        return TEXT
    if pa.types.is_integer(kind):
        return kind if kind == pa.uint64() else WHOLE
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return NUMBER
    if pa.types.is_timestamp(kind):
        return STAMP if kind.tz else DATE
    return DATE if pa.types.is_date(kind) else kind


def _cast(column: pa.ChunkedArray, kind: pa.DataType, table: str, name: str) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    if pa.types.is_dictionary(column.type) and pa.types.is_dictionary(kind):  # older versions of pyarrow cannot cast it
        column = column.cast(column.type.value_type)
    if pa.types.is_null(kind) and column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column))])
    finer = pa.types.is_timestamp(column.type) and column.type.unit == "ns" and pa.types.is_timestamp(kind)
    rounded = pa.types.is_integer(column.type) and kind == NUMBER
    try:
        return column.cast(kind, safe=not (finer or rounded))
    except pa.ArrowException as error:
        raise SchemaError(
            f"Table {table}, column {name!r}: {column.type} does not fit {kind} ({error}).",
            hint="Give the column a type that holds its values, in the rows or in the table.",
        ) from error
