"""One Parquet file: reading its columns and row groups, as stored or as typed columns, and writing it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from luxor_pipelines.errors import SchemaError
from luxor_pipelines.lake.parquet.footer import Footer, RowGroup, corrupt, read_footer
from luxor_pipelines.lake.parquet.predicates import Spelt, Where, apply, mask
from luxor_pipelines.lake.parquet.series_index import build_index, insert_index
from luxor_pipelines.lake.storage.base import BlobInfo, Reader
from luxor_pipelines.lake.types.codec import Codec
from luxor_pipelines.lake.types.schema import is_text_type

__all__ = [
    "ROW_GROUP",
    "Footers",
    "ParquetFile",
    "PerBatch",
    "Selection",
    "StoredRows",
    "open_file",
    "read_typed",
    "to_bytes",
]

ROW_GROUP = 64 * 1024
"""Rows of a row group: at 2000 series a day, six weeks; small enough to skip most of a history."""

_BATCH = 256 * 1024
"""Rows decoded at once; rows that do not meet the conditions are dropped before the next batch."""

_FEW_ROWS = 4096
"""Rows that are read sooner than it is found out how to read them best, or several threads are begun."""

PerBatch = Callable[[pa.Table], pa.Table]
"""A function that is applied to the rows of each batch, before the batches are concatenated."""

Footers = MutableMapping[BlobInfo, Footer]
"""The footers that have been read; the footer of one version of a file never changes."""


@dataclass(frozen=True)
class ParquetFile:
    """One version of a file, its footer read. The file itself is opened when the first row is read."""

    info: BlobInfo
    footer: Footer
    _open: Callable[[], Reader]

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns as the file stores them, with its metadata."""
        with corrupt(self.info.path):
            return self.footer.schema

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.footer.metadata.num_rows)

    @property
    def sorted_by(self) -> tuple[str, ...]:
        """The columns that the rows are sorted by, as the file says; empty where it does not."""
        with corrupt(self.info.path):
            return self.footer.sorted_by

    def might_match(self, where: Sequence[Where]) -> bool:
        """See `Footer.might_match`."""
        with corrupt(self.info.path):
            return self.footer.might_match(where)

    def read(
        self,
        columns: Sequence[str] | None = None,
        where: Sequence[Where] = (),
        *,
        dictionary: Sequence[str] = (),
        per_batch: PerBatch | None = None,
    ) -> pa.Table:
        """Read columns as the file stores them, of the rows that meet all conditions.

        Row groups whose statistics rule out such a row are skipped; of the others only the needed columns are read.

        Parameters
        ----------
        dictionary
            Text columns to return dictionary-encoded.

        Raises
        ------
        SchemaError
            A column that the file does not have.
        CorruptFileError
        """
        names = self.schema.names
        columns = names if columns is None else list(columns)
        tested = [condition.column for condition in where]
        absent = [name for name in dict.fromkeys([*columns, *tested]) if name not in names]
        if absent:
            raise SchemaError(
                f"{self.info.path} has no column {', '.join(map(repr, absent))}; it has {', '.join(map(repr, names))}.",
                hint="Check the spelling; column names are case-sensitive.",
            )
        needed = list(dict.fromkeys([*columns, *tested]))
        texts = [name for name in needed if is_text_type(self.schema.field(name).type)]
        # Text is quicker to read dictionary-encoded where a condition compares distinct words, or words repeat.
        to_encode = {condition.column for condition in where if condition.sparse} | set(dictionary)
        with corrupt(self.info.path):
            groups = self.footer.plan(where)
            if not groups:
                return self._no_rows(columns, dictionary, per_batch)
            self._open().prefetch(self.footer.ranges(groups, needed))
            if _are_many(groups):
                to_encode.update(name for name in texts if self.footer.repeats(groups, name))
            encoded = [name for name in texts if name in to_encode and self.footer.reads_encoded(groups, name)]
        fields = [self.schema.field(name) for name in dict.fromkeys(columns)]
        casts = [field for field in fields if field.name in encoded and field.name not in dictionary]
        casts += [
            pa.field(field.name, pa.dictionary(pa.int32(), field.type))
            for field in fields
            if field.name in texts
            and field.name in dictionary
            and field.name not in encoded
            and not pa.types.is_dictionary(field.type)
        ]

        pieces = self._read_batches(groups, columns, encoded, casts, per_batch)
        return pa.concat_tables(pieces) if pieces else self._no_rows(columns, dictionary, per_batch)

    def _no_rows(self, columns: Sequence[str], dictionary: Sequence[str], per_batch: PerBatch | None) -> pa.Table:
        texts = [field.name for field in self.schema if field.name in dictionary and is_text_type(field.type)]
        empty = self.footer.empty(texts).select(columns)
        return empty if per_batch is None else per_batch(empty)

    def _read_batches(
        self,
        groups: Sequence[RowGroup],
        columns: Sequence[str],
        encoded: Sequence[str],
        casts: Sequence[pa.Field],
        per_batch: PerBatch | None,
    ) -> list[pa.Table]:
        """Read the row groups batch by batch, on all cores where there are several batches.

        Arrow reads the columns ``encoded`` as dictionaries; those of ``casts`` are then cast to the types given.
        """
        batches = list(_batches(groups))

        def work(batch: Sequence[RowGroup]) -> list[pa.Table]:
            # Threads cannot share a file of pyarrow's, so each opens its own with the shared footer. Here a damaged
            # file whose columns have different lengths in one row group is found out.
            with corrupt(self.info.path), self._file(encoded) as file:
                pieces = [_cast(piece, casts) for piece in _matching(file, batch, columns)]
            return pieces if per_batch is None else [per_batch(piece) for piece in pieces]

        if len(batches) == 1 or pa.cpu_count() < 2:
            return list(itertools.chain.from_iterable(map(work, batches)))
        with ThreadPoolExecutor(pa.cpu_count()) as pool:
            return list(itertools.chain.from_iterable(pool.map(work, batches)))

    @contextmanager
    def _file(self, dictionary: Sequence[str] = ()) -> Iterator[Any]:
        with (
            corrupt(self.info.path),
            pq.ParquetFile(
                _source_of(self._open()),
                metadata=self.footer.metadata,
                pre_buffer=False,
                read_dictionary=list(dictionary),
            ) as file,
        ):
            yield file


def _source_of(reader: Reader) -> Any:
    """Return a file for pyarrow that no other thread uses, since pyarrow seeks and reads in two steps."""
    source = reader.source()
    return source if isinstance(source, pa.NativeFile) else pa.PythonFile(source, mode="r")


@contextmanager
def open_file(
    open_reader: Callable[[], AbstractContextManager[Reader]], info: BlobInfo, footers: Footers | None = None
) -> Iterator[ParquetFile]:
    """Open a file with its footer, which is read unless ``footers`` has it already.

    Parameters
    ----------
    open_reader
        Opens the blob; called only when bytes of it are needed.
    footers
        Footers of earlier questions; a footer that is read is added.

    Raises
    ------
    CorruptFileError
        The bytes are not a Parquet file.
    SchemaError
        Two columns have one name.
    """
    with ExitStack() as stack:
        readers: list[Reader] = []

        def reader() -> Reader:
            if not readers:
                readers.append(stack.enter_context(open_reader()))
            return readers[0]

        footer = None if footers is None else footers.get(info)
        if footer is None:
            with corrupt(info.path):
                footer = read_footer(reader(), _source_of(reader()), info.size)
                names = footer.schema.names
            repeated = [name for name, count in Counter(names).items() if count > 1]
            if repeated:
                raise SchemaError(
                    f"{info.path} has more than one column {', '.join(map(repr, repeated))}.",
                    hint="Write the file again with distinct names.",
                )
            if footers is not None:
                footers[info] = footer
        yield ParquetFile(info, footer, reader)


def _matching(file: Any, batch: Sequence[RowGroup], columns: Sequence[str]) -> list[pa.Table]:
    """Return the rows of a batch that meet the residual conditions, one piece a row group."""
    if not any(group.residual for group in batch):
        return [_read_groups(file, batch, columns).select(columns)]
    tested = list(dict.fromkeys(condition.column for group in batch for condition in group.residual))
    # Few row groups hold one of a few single values: the other columns are decoded in those alone.
    sparse = any(condition.sparse for group in batch for condition in group.residual)
    decoded = tested if sparse else [*columns, *tested]
    groups, positions, pieces = [], [], []
    for group, part in zip(batch, _parts(_read_groups(file, batch, decoded), batch), strict=True):
        rows = _matching_rows(part, group.residual)
        if rows is not None:
            groups.append(group)
            positions.append(rows)
            pieces.append(_take(part, rows))
    undecoded = [name for name in columns if name not in decoded]
    if undecoded and groups:
        parts = _parts(_read_groups(file, groups, undecoded), groups)
        for at, (part, rows) in enumerate(zip(parts, positions, strict=True)):
            matching = _take(part, rows)
            for name in undecoded:
                pieces[at] = pieces[at].append_column(matching.schema.field(name), matching[name])
    return [piece.select(columns) for piece in pieces]


def _read_groups(file: Any, groups: Sequence[RowGroup], names: Sequence[str]) -> pa.Table:
    numbers, wanted = [group.number for group in groups], list(dict.fromkeys(names))
    table = file.read_row_groups(numbers, columns=wanted, use_threads=_are_many(groups))
    _check_codes(table)
    return table


def _are_many(groups: Sequence[RowGroup]) -> bool:
    return sum(group.rows for group in groups) > _FEW_ROWS


def _parts(table: pa.Table, groups: Sequence[RowGroup]) -> Iterator[pa.Table]:
    """Return the rows of each row group."""
    starts = itertools.accumulate((group.rows for group in groups), initial=0)
    return (table.slice(start, group.rows) for start, group in zip(starts, groups, strict=False))


def _batches(groups: Sequence[RowGroup]) -> Iterator[list[RowGroup]]:
    batch: list[RowGroup] = []
    rows = 0
    for group in groups:
        if batch and rows + group.rows > _BATCH:
            yield batch
            batch, rows = [], 0
        batch.append(group)
        rows += group.rows
    if batch:
        yield batch


_Rows: TypeAlias = slice | pa.Array


def _matching_rows(part: pa.Table, where: Sequence[Where]) -> _Rows | None:
    """Return the rows that meet all conditions: a slice or their positions; None when there are none.

    A slice keeps its whole row group in memory, so that a small part of one is returned as positions.
    """
    matches = mask(part, where)
    if matches is None:
        return slice(0, len(part))
    rows = np.flatnonzero(matches)
    if not len(rows):
        return None
    first, last = int(rows[0]), int(rows[-1]) + 1
    return slice(first, last) if last - first == len(rows) >= len(part) // 2 else pa.array(rows)


def _take(part: pa.Table, rows: _Rows) -> pa.Table:
    return part.slice(rows.start, rows.stop - rows.start) if isinstance(rows, slice) else part.take(rows)


def _check_codes(table: pa.Table) -> None:
    """Raise where the code of a word lies beyond the dictionary, which Arrow does not check."""
    for column in table.columns:
        if pa.types.is_dictionary(column.type):
            for chunk in column.chunks:
                highest = pc.max(chunk.indices).as_py()
                if highest is not None and highest >= len(chunk.dictionary):
                    raise ValueError(f"Index {highest} out of bounds")


def _cast(part: pa.Table, fields: Sequence[pa.Field]) -> pa.Table:
    for field in fields:
        column = part[field.name]
        column = column.dictionary_encode() if pa.types.is_dictionary(field.type) else column.cast(field.type)
        part = part.set_column(part.schema.get_field_index(field.name), field, column)
    return part


# --- typed columns -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selection:
    """The columns and rows that a scan asks of each file; see `Table.scan`."""

    columns: Sequence[str] | None
    where: Sequence[Where]
    dictionary: Sequence[str]
    drop: Sequence[str] = ()
    raw: bool = False
    per_batch: PerBatch | None = None


class Rows(Protocol):
    """Stored rows that are read as those of a `ParquetFile` are."""

    def read(
        self,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        dictionary: Sequence[str] = (),
        per_batch: PerBatch | None = None,
    ) -> pa.Table:
        """See `ParquetFile.read`."""


@dataclass(frozen=True)
class StoredRows:
    """Stored rows in memory, with the `read` of a `ParquetFile`."""

    rows: pa.Table

    def read(
        self,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        dictionary: Sequence[str] = (),  # noqa: ARG002
        per_batch: PerBatch | None = None,
    ) -> pa.Table:
        """See `ParquetFile.read`; text that is dictionary-encoded stays so."""
        rows = self.rows.select(list(dict.fromkeys([*columns, *(condition.column for condition in where)])))
        rows = apply(rows, where)
        rows = rows.select(list(columns))
        return rows if per_batch is None else per_batch(rows)


def read_typed(file: Rows, codec: Codec, selection: Selection) -> pa.Table:
    """Read the selected columns and rows of one file as typed columns.

    Raises
    ------
    SchemaError
        A column that the file does not have, or cells that are not of their column's type.
    CorruptFileError
    """
    columns = list(dict.fromkeys(selection.columns or ()))
    if selection.columns is None:
        columns = [name for name in codec.schema.names if name not in selection.drop]

    # The file can test a column that is stored as it is read, and the distinct words of a text column.
    pushed, residual = [], []
    for condition in selection.where:
        if condition.column not in codec.schema.names or codec.is_plain(condition.column):
            pushed.append(condition)
        elif is_text_type(codec.stored.field(condition.column).type):
            pushed.append(_spelt(condition, codec))
        else:
            residual.append(condition)
    needed = list(dict.fromkeys([*columns, *(condition.column for condition in residual)]))

    def typed(part: pa.Table) -> pa.Table:
        if not selection.raw:
            part = codec.decode(part, selection.dictionary)
        if residual:
            tested = part.select(list(dict.fromkeys(condition.column for condition in residual)))
            part = part.filter(pa.array(mask(codec.decode(tested) if selection.raw else tested, residual)))
        part = part.select(list(columns))
        return part if selection.per_batch is None else selection.per_batch(part)

    try:
        return file.read(needed, pushed, dictionary=selection.dictionary, per_batch=typed)
    except SchemaError:
        # The first batch with bad cells raised; the error is to count those of the whole file.
        for condition in pushed:
            if isinstance(condition, Spelt):
                codec.decode(file.read([condition.column]))
        codec.decode(file.read(needed, pushed, dictionary=selection.dictionary))
        raise


def _spelt(condition: Where, codec: Codec) -> Spelt:
    def meaning(words: pa.Array) -> pa.Array:
        return codec.decode(pa.table({condition.column: words})).column(0).combine_chunks()

    return Spelt.of(condition, meaning)


# --- writing -------------------------------------------------------------------------------------


def to_bytes(table: pa.Table, *, sorted_by: Sequence[str] = ()) -> bytes:
    """Return ``table`` as a Parquet file: Snappy, statistics, row groups of `ROW_GROUP` rows.

    Parameters
    ----------
    sorted_by
        The columns the rows are sorted by. A table of series, sorted by date and name, gets a series index.
    """
    sink = pa.BufferOutputStream()
    sorting = [pq.SortingColumn(table.schema.get_field_index(name)) for name in sorted_by]
    pq.write_table(
        table,
        sink,
        row_group_size=ROW_GROUP,
        compression="snappy",
        # Numbers hardly repeat: without a dictionary of them a file is a sixth smaller, and written in half the time.
        use_dictionary=[field.name for field in table.schema if not pa.types.is_floating(field.type)],
        sorting_columns=sorting or None,
    )
    return insert_index(sink.getvalue(), build_index(table, sorted_by))
