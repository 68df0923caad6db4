"""Reading what is wanted of one file: what its columns mean, and which conditions the file itself can answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from luxor_pipelines.errors import SchemaError
from luxor_pipelines.lake.parquet.file import Each, ParquetFile
from luxor_pipelines.lake.parquet.predicates import Spelt, Where, apply, mask
from luxor_pipelines.lake.types import legacy
from luxor_pipelines.lake.types.logical import logical_schema, to_logical
from luxor_pipelines.lake.types.schema import is_text_type

__all__ = ["InMemory", "Wanted", "read"]


@dataclass(frozen=True)
class InMemory:
    """Rows as their file stores them, to be read as it is."""

    rows: pa.Table

    @property
    def schema(self) -> pa.Schema:
        """The columns as the file stores them, with its metadata."""
        return self.rows.schema

    def read(
        self,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        dictionary: Sequence[str] = (),  # noqa: ARG002
        each: Each | None = None,
    ) -> pa.Table:
        """As `ParquetFile.read`; the text that is dictionary-encoded stays so."""
        rows = self.rows.select(list(dict.fromkeys([*columns, *(condition.column for condition in where)])))
        for condition in sorted(where, key=_is_span):  # single values first, which few rows have
            rows = apply(rows, [condition])
        rows = rows.select(list(columns))
        return rows if each is None else each(rows)


def _is_span(condition: Where) -> bool:
    return condition.spans is not None


@dataclass(frozen=True)
class Wanted:
    """What a scan asks of each file."""

    columns: Sequence[str] | None
    where: Sequence[Where]
    overrides: Mapping[str, Any] | None
    dictionary: Sequence[str]
    drop: Sequence[str] = ()
    raw: bool = False
    each: Each | None = None


def read(file: ParquetFile | InMemory, table: str, wanted: Wanted) -> pa.Table:
    """What is wanted of one file of a table, as what it means.

    Raises
    ------
    SchemaError
        A column that the file does not have, or cells that are not of their column's type.
    CorruptFileError
    """
    stored = file.schema
    text = legacy.is_text(stored)
    typed = logical_schema(stored, table, wanted.overrides)
    columns = list(dict.fromkeys(wanted.columns or ()))
    if wanted.columns is None:
        columns = [name for name in typed.names if name not in wanted.drop]

    def meant(part: pa.Table, dictionary: Sequence[str] = ()) -> pa.Table:
        return to_logical(part, table, wanted.overrides, dictionary, text=text)

    # A condition can only be pushed into the file where it is stored as what it means, or as its text.
    pushed, rest = [], []
    for condition in wanted.where:
        if condition.column not in typed.names or _same(stored, typed, condition.column):
            pushed.append(condition)
        elif is_text_type(stored.field(condition.column).type):
            pushed.append(_spelt(condition, meant))
        else:
            rest.append(condition)
    needed = list(dict.fromkeys([*columns, *(c.column for c in rest)]))

    def finished(part: pa.Table) -> pa.Table:
        if not wanted.raw:
            part = meant(part, wanted.dictionary)
        if rest:
            tested = part.select(list(dict.fromkeys(c.column for c in rest)))
            part = part.filter(pa.array(mask(meant(tested) if wanted.raw else tested, rest)))
        part = part.select(list(columns))
        return part if wanted.each is None else wanted.each(part)

    try:
        return file.read(needed, pushed, dictionary=wanted.dictionary, each=finished)
    except SchemaError:
        # Of bad cells, say how many there are, not only in the first piece that has some.
        for condition in pushed:
            if isinstance(condition, Spelt):
                meant(file.read([condition.column]))
        meant(file.read(needed, pushed, dictionary=wanted.dictionary))
        raise


def _spelt(condition: Where, meant: Callable[[pa.Table], pa.Table]) -> Spelt:
    def meaning(words: pa.Array) -> pa.Array:
        return meant(pa.table({condition.column: words})).column(0).combine_chunks()

    return Spelt(condition.column, condition.spans, condition.values, meaning)


def _same(stored: pa.Schema, typed: pa.Schema, column: str) -> bool:
    kind = stored.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(kind == typed.field(column).type)
