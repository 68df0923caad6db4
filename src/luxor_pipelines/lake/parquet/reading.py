"""Reading rows of one file as typed columns: which conditions the file answers itself, and which the codec does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from luxor_pipelines.errors import SchemaError
from luxor_pipelines.lake.parquet.file import Each, ParquetFile
from luxor_pipelines.lake.parquet.predicates import Spelt, Where, apply, mask
from luxor_pipelines.lake.types.codec import Codec
from luxor_pipelines.lake.types.schema import is_text_type

__all__ = ["InMemory", "Wanted", "read"]


@dataclass(frozen=True)
class InMemory:
    """Stored rows in memory, which are read as a `ParquetFile` is."""

    rows: pa.Table

    def read(
        self,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        dictionary: Sequence[str] = (),  # noqa: ARG002
        each: Each | None = None,
    ) -> pa.Table:
        """As `ParquetFile.read`; text that is dictionary-encoded stays so."""
        rows = self.rows.select(list(dict.fromkeys([*columns, *(condition.column for condition in where)])))
        for condition in sorted(where, key=_is_span):  # single values first, which few rows have
            rows = apply(rows, [condition])
        rows = rows.select(list(columns))
        return rows if each is None else each(rows)


def _is_span(condition: Where) -> bool:
    return condition.spans is not None


@dataclass(frozen=True)
class Wanted:
    """The columns and rows that a scan asks of each file; see `Table.scan`."""

    columns: Sequence[str] | None
    where: Sequence[Where]
    dictionary: Sequence[str]
    drop: Sequence[str] = ()
    raw: bool = False
    each: Each | None = None


def read(file: ParquetFile | InMemory, codec: Codec, wanted: Wanted) -> pa.Table:
    """Return the columns and rows wanted of one file, as typed columns.

    Raises
    ------
    SchemaError
        A column that the file does not have, or cells that are not of their column's type.
    CorruptFileError
    """
    columns = list(dict.fromkeys(wanted.columns or ()))
    if wanted.columns is None:
        columns = [name for name in codec.schema.names if name not in wanted.drop]

    # The file itself answers a condition on cells that are stored as they are read, or on the words of a text.
    pushed, residual = [], []
    for condition in wanted.where:
        if condition.column not in codec.schema.names or codec.is_plain(condition.column):
            pushed.append(condition)
        elif is_text_type(codec.stored.field(condition.column).type):
            pushed.append(_spelt(condition, codec.decode))
        else:
            residual.append(condition)
    needed = list(dict.fromkeys([*columns, *(condition.column for condition in residual)]))

    def finished(part: pa.Table) -> pa.Table:
        if not wanted.raw:
            part = codec.decode(part, wanted.dictionary)
        if residual:
            tested = part.select(list(dict.fromkeys(condition.column for condition in residual)))
            part = part.filter(pa.array(mask(codec.decode(tested) if wanted.raw else tested, residual)))
        part = part.select(list(columns))
        return part if wanted.each is None else wanted.each(part)

    try:
        return file.read(needed, pushed, dictionary=wanted.dictionary, each=finished)
    except SchemaError:
        # The first batch with bad cells raised; the error is to count those of the whole file.
        for condition in pushed:
            if isinstance(condition, Spelt):
                codec.decode(file.read([condition.column]))
        codec.decode(file.read(needed, pushed, dictionary=wanted.dictionary))
        raise


def _spelt(condition: Where, decode: Callable[[pa.Table], pa.Table]) -> Spelt:
    def meaning(words: pa.Array) -> pa.Array:
        return decode(pa.table({condition.column: words})).column(0).combine_chunks()

    return Spelt(condition.column, condition.spans, condition.values, meaning)
