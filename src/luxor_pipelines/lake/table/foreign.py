"""Foreign folders: the Parquet files that another program left as one table, read together.

Spark, dask, pyarrow, Polars and DuckDB write a table as a folder of Parquet files. Where it is partitioned, the files
lie in folders named ``column=value`` (Hive's way), and the column may be missing in the files. The library reads such
a folder and never writes it: nothing says which other program does, or when.

A Delta, Iceberg or Hudi table is a folder of Parquet files too, but its log says which of them, and which of their
rows, count. Such a table is not read at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

import pyarrow as pa

from luxor_pipelines.errors import SchemaError
from luxor_pipelines.lake.parquet.file import ParquetFile, PerBatch
from luxor_pipelines.lake.parquet.predicates import Where, apply, mask
from luxor_pipelines.lake.types.codec import TypedCodec
from luxor_pipelines.lake.types.schema import DATE, ENCODING, NUMBER, TEXT, WHOLE, is_text_type

__all__ = [
    "CompletedFile",
    "ForeignFolder",
    "Format",
    "format_of",
    "hive_values",
    "is_data",
    "is_hidden",
    "is_hudi",
    "is_parquet",
    "may_be_data",
    "union",
]

Format = Literal["delta", "iceberg", "hudi"]
"""The formats of tables whose files are not to be read without their log."""

_EXTENSIONS = (".parquet", ".parq", ".pq")
_WRITERS_NAME = re.compile(r"part[-._]?\d|data_\d|[0-9a-f]{32}-\d|\d{8}\.", re.IGNORECASE)
"""Names that Spark, dask and Arrow, DuckDB, pandas and Polars give to the files of a table."""
_HIVE_FOLDER = re.compile(r"([^=]+)=(.*)", re.DOTALL)
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_WHOLE = re.compile(r"0\d|-?(0|[1-9]\d{0,17})", re.ASCII)
"""Whole numbers, and months and days such as ``01``; longer digits with a zero in front are a code."""
_DAY = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", re.ASCII)
_ICEBERG = re.compile(r"metadata/[^/]+\.metadata\.json")


def is_data(path: str, *, any_name: bool = False) -> bool:
    """Return whether a file is one of a table's rows, by its path in the table's folder.

    Its name ends as those of Parquet files do, every folder on the way is ``column=value``, and it is not hidden. One
    in no such folder must have a name as writers of tables give them, for else it may be a table of its own.

    Parameters
    ----------
    any_name
        Whether any name will do: the folder is known to be one table.
    """
    *folders, name = path.split("/")
    named = any_name or bool(folders) or _WRITERS_NAME.match(name) is not None
    return named and is_parquet(path) and all(map(_HIVE_FOLDER.fullmatch, folders))


def is_parquet(path: str) -> bool:
    """Return whether a file is named as Parquet files are, and not hidden."""
    return path.lower().endswith(_EXTENSIONS) and not is_hidden(path)


def may_be_data(path: str) -> bool:
    """Return whether a file that is not read may have rows of the table, as its name, or the folder it is in, tells."""
    return is_parquet(path) or is_data(f"{path}.parquet")


def is_hidden(path: str) -> bool:
    """Return whether a name in a path begins with ``_`` or ``.``, as marks, indexes and unfinished files do."""
    return any(part.startswith(("_", ".")) for part in path.split("/"))


def is_hudi(columns: Iterable[str]) -> bool:
    """Return whether a file is one of a Hudi table's, whose log is hidden from listings."""
    return any(name.startswith("_hoodie_") for name in columns)


def format_of(paths: Iterable[str]) -> Format | None:
    """Return the format of a folder's table, by the paths of its files; None for plain files."""
    for path in paths:
        if path.startswith("_delta_log/"):
            return "delta"
        if _ICEBERG.fullmatch(path):
            return "iceberg"
    return None


def hive_values(path: str) -> dict[str, str | None]:
    """Return the values that the folders of a path name, by column, None for Hive's word for null."""
    values: dict[str, str | None] = {}
    for folder in path.split("/")[:-1]:
        match = _HIVE_FOLDER.fullmatch(folder)
        if match is not None:
            values[unquote(match[1])] = None if match[2] == _HIVE_NULL else unquote(match[2])
    return values


@dataclass(frozen=True)
class ForeignFolder:
    """The columns that the files of a folder have together.

    Attributes
    ----------
    schema
        The columns as they are stored: those of the files, then those that only the folders' names have.
    values
        The values of the folders' columns, by the path of each file.
    """

    table: str
    schema: pa.Schema
    values: Mapping[str, Mapping[str, pa.Scalar]]

    def file(self, path: str, file: ParquetFile) -> CompletedFile:
        """Return one of the files, read as if it had all columns of the folder."""
        return CompletedFile(file, self.schema, self.values[path], self.table)


def union(table: str, schemas: Mapping[str, pa.Schema]) -> ForeignFolder:
    """Return the columns that files have together.

    A column that a file lacks is null there. A column that is of two types has the type that holds the values of both:
    whole numbers in one file and numbers in another are numbers.

    Parameters
    ----------
    table
        The table's name, for messages.
    schemas
        The columns of each file, by its path in the table's folder.

    Raises
    ------
    SchemaError
        A column is of types in two files, or in a folder's name and a file, that do not go together.
    """
    types: dict[str, pa.DataType] = {}
    first: dict[str, str] = {}
    for path, schema in schemas.items():
        for field in schema:
            before = types.get(field.name, pa.null())
            common = _common(before, field.type)
            if common is None:
                raise _disagree(table, field.name, f"{field.type} in {path}, {before} in {first[field.name]}")
            types[field.name] = common
            if not pa.types.is_null(field.type):
                first.setdefault(field.name, path)
    texts = {path: hive_values(path) for path in schemas}
    values: dict[str, dict[str, pa.Scalar]] = {path: {} for path in schemas}
    for name in dict.fromkeys(name for folder_values in texts.values() for name in folder_values):
        words = [folder_values.get(name) for folder_values in texts.values()]
        if pa.types.is_null(types.get(name, pa.null())):
            types[name] = _hive_type(words)
        lacking = [path for path, schema in schemas.items() if name not in schema.names]
        if lacking:
            types[name] = _logical(types[name])
        for path in lacking:
            word = texts[path].get(name)
            try:
                values[path][name] = pa.scalar(word, TEXT).cast(types[name])
            except pa.ArrowException as error:
                raise _disagree(table, name, f"{word!r} in {path}, {types[name]} in {first.get(name)}") from error
    typed = all((schema.metadata or {}).get(ENCODING) == b"typed" for schema in schemas.values())
    return ForeignFolder(table, pa.schema(list(types.items()), {ENCODING: b"typed"} if typed else None), values)


def _common(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of two, None where the lake has none."""
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    logical = {_logical(a), _logical(b)}
    if logical == {WHOLE, NUMBER}:
        return NUMBER
    return logical.pop() if len(logical) == 1 else None


def _logical(stored: pa.DataType) -> pa.DataType:
    """Return the type that a stored one is read as."""
    return TypedCodec(pa.schema([("", stored)]), "").schema.field(0).type


def _hive_type(words: Sequence[str | None]) -> pa.DataType:
    """Return the type of a column that folders name: whole numbers, dates, else text."""
    distinct = {word for word in words if word is not None}
    for pattern, kind in ((_WHOLE, WHOLE), (_DAY, DATE)):
        if distinct and all(pattern.fullmatch(word) for word in distinct):
            try:
                pa.array(list(distinct), TEXT).cast(kind)
            except pa.ArrowException:  # 2026-02-30 looks like a date
                return TEXT
            return kind
    return TEXT


def _disagree(table: str, column: str, types: str) -> SchemaError:
    return SchemaError(
        f"Table {table}, column {column!r}: its files disagree on the column's type ({types}).",
        hint="Have the program that writes the folder write the odd file again, or move that file away.",
    )


@dataclass(frozen=True)
class CompletedFile:
    """One file, read as if it had all columns of its table; those of which ``values`` has none are null."""

    file: ParquetFile
    schema: pa.Schema
    values: Mapping[str, pa.Scalar]
    table: str

    def might_match(self, where: Sequence[Where]) -> bool:
        """Do as `ParquetFile.might_match` does, judged by the columns that are read as the file stores them."""
        return self.file.might_match([condition for condition in where if self._is_as_stored(condition.column)])

    def read(
        self,
        columns: Sequence[str] | None = None,
        where: Sequence[Where] = (),
        *,
        dictionary: Sequence[str] = (),
        per_batch: PerBatch | None = None,
    ) -> pa.Table:
        """Do as `ParquetFile.read` does; what the file lacks is taken from its folders' names, or is null."""
        columns = self.schema.names if columns is None else list(columns)
        pushed = [condition for condition in where if self._is_as_stored(condition.column)]
        residual = [condition for condition in where if not self._is_as_stored(condition.column)]
        needed = list(dict.fromkeys([*columns, *(condition.column for condition in residual)]))
        absent = [name for name in needed if name not in self.schema.names]
        if absent:
            raise SchemaError(
                f"Table {self.table} has no column {', '.join(map(repr, absent))}; it has "
                f"{', '.join(map(repr, self.schema.names))}.",
                hint="Check the spelling; column names are case-sensitive.",
            )
        stored = self.file.schema.names
        own = [name for name in needed if name in stored] or stored[:1]  # the rows are counted by one column at least

        def complete(rows: pa.Table) -> pa.Table:
            whole = pa.table([self._column(rows, name, encoded=name in dictionary) for name in needed], names=needed)
            whole = apply(whole, residual).select(columns)
            return whole if per_batch is None else per_batch(whole)

        constant = [condition for condition in residual if condition.column not in stored]
        one_row = pa.table({condition.column: self._constant(condition.column, 1) for condition in constant})
        meets = mask(one_row, constant)
        if meets is not None and not meets.all():
            return complete(self.file.schema.empty_table().select(own))
        words = [name for name in dictionary if name in own]
        return self.file.read(own, pushed, dictionary=words, per_batch=complete)

    def _is_as_stored(self, column: str) -> bool:
        stored = self.file.schema
        return column in stored.names and stored.field(column).type == self.schema.field(column).type

    def _constant(self, name: str, rows: int) -> pa.Array:
        kind = self.schema.field(name).type
        value = self.values.get(name)
        return pa.nulls(rows, kind) if value is None else pa.repeat(value, rows)

    def _column(self, rows: pa.Table, name: str, *, encoded: bool) -> pa.ChunkedArray:
        """Return a column in the folder's type, text dictionary-encoded if that is asked for."""
        kind = self.schema.field(name).type
        if name not in self.file.schema.names:
            column = pa.chunked_array([self._constant(name, len(rows))])
        elif self._is_as_stored(name):
            column = rows[name]
        else:
            column = TypedCodec(rows.select([name]).schema, self.table).decode(rows.select([name]))[name]
            column = column.cast(kind, safe=False)  # a whole number may lie beyond those that `double` tells apart
        plain = not pa.types.is_dictionary(column.type)
        return column.dictionary_encode() if encoded and plain and is_text_type(kind) else column
