"""One Parquet file: reading the columns and row groups that are asked for, and writing."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from luxor_pipelines.errors import SchemaError
from luxor_pipelines.lake.parquet import series_index as ends
from luxor_pipelines.lake.parquet.footer import Footer, Group, corrupt, read_footer
from luxor_pipelines.lake.parquet.predicates import Where, apply, mask
from luxor_pipelines.lake.storage.base import BlobInfo, Reader
from luxor_pipelines.lake.types.schema import is_text_type

__all__ = ["ROW_GROUP", "Footers", "ParquetFile", "Where", "apply", "opened", "to_bytes"]

ROW_GROUP = 64 * 1024
"""Rows a row group: at 2000 series a day, six weeks; small enough to skip most of a history."""

_BATCH = 256 * 1024
"""Rows that are decoded at once: those that meet no condition are let go before the next."""

Each = Callable[[pa.Table], pa.Table]

Footers = MutableMapping[BlobInfo, Footer]
"""Footers that have been read: a version's never change."""


@dataclass(frozen=True)
class ParquetFile:
    """One version of a file, its footer read. The file itself is opened when the first row is read."""

    info: BlobInfo
    footer: Footer
    _open: Callable[[], Reader]

    @property
    def schema(self) -> pa.Schema:
        """The columns as the file stores them, with its metadata."""
        with corrupt(self.info.path):
            return self.footer.schema

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self.footer.metadata.num_rows)

    def rules_out(self, where: Sequence[Where]) -> bool:
        """As `Footer.rules_out`."""
        with corrupt(self.info.path):
            return self.footer.rules_out(where)

    def read(
        self,
        columns: Sequence[str] | None = None,
        where: Sequence[Where] = (),
        *,
        dictionary: Sequence[str] = (),
        each: Each | None = None,
    ) -> pa.Table:
        """Read the asked-for columns of the rows that meet ``where``.

        Row groups that cannot hold such a row, by their statistics, are not read, and of the others
        only the columns needed.

        Parameters
        ----------
        dictionary
            Text columns to return dictionary-encoded.
        each
            What is done to the rows of each batch, before they are put together.

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
        # Words are looked for among the distinct ones, not row by row; and decoded once each where they repeat.
        words = {condition.column for condition in where if condition.sparse}
        with corrupt(self.info.path):
            groups = self.footer.groups(where)
            if not groups:
                return self._no_rows(columns, dictionary, each)
            self._open().prefetch(self.footer.ranges(groups, needed))
            words.update(name for name in texts if self.footer.repeats(groups, name))
        encoded = [name for name in texts if name in words or name in dictionary]
        plain = [self.schema.field(name) for name in encoded if name in columns and name not in dictionary]

        pieces = self._pieces(groups, columns, encoded, plain, each)
        return pa.concat_tables(pieces) if pieces else self._no_rows(columns, dictionary, each)

    def _no_rows(self, columns: Sequence[str], dictionary: Sequence[str], each: Each | None) -> pa.Table:
        words = [field.name for field in self.schema if field.name in dictionary and is_text_type(field.type)]
        empty = self.footer.empty(words).select(columns)
        return empty if each is None else each(empty)

    def _pieces(
        self,
        groups: Sequence[Group],
        columns: Sequence[str],
        encoded: Sequence[str],
        plain: Sequence[pa.Field],
        each: Each | None,
    ) -> list[pa.Table]:
        """The rows wanted, batch by batch; several batches at once, where there are several.

        The columns in ``encoded`` are read through their dictionary, and those of ``plain`` are text again afterwards.
        """
        batches = list(_batches(groups))

        def work(batch: Sequence[Group]) -> list[pa.Table]:
            # pyarrow's files are not to be shared between threads; the footer is.
            # Among what is damaged are columns of one group that are not of one length.
            with corrupt(self.info.path), self._file(encoded) as file:
                pieces = [_decoded(piece, plain) for piece in self._read_batch(file, batch, columns)]
            return pieces if each is None else [each(piece) for piece in pieces]

        if len(batches) < 2 or pa.cpu_count() < 2:
            return [piece for batch in batches for piece in work(batch)]
        with ThreadPoolExecutor(pa.cpu_count()) as pool:
            return [piece for pieces in pool.map(work, batches) for piece in pieces]

    def _read_batch(self, file: Any, batch: Sequence[Group], columns: Sequence[str]) -> Iterator[pa.Table]:
        def read(groups: Sequence[Group], names: Sequence[str]) -> pa.Table:
            with corrupt(self.info.path):
                table = file.read_row_groups([group.number for group in groups], columns=list(dict.fromkeys(names)))
                _check_words(table)
            return table

        def fetch(groups: Sequence[Group], names: Sequence[str]) -> Iterator[pa.Table]:
            table = read(groups, names)
            starts = itertools.accumulate((group.rows for group in groups), initial=0)
            return (table.slice(start, group.rows) for start, group in zip(starts, groups, strict=False))

        if not any(group.open for group in batch):
            yield read(batch, columns).select(columns)
            return
        tested = list(dict.fromkeys(condition.column for group in batch for condition in group.open))
        # Where single values are looked for most groups have none, and the other columns are not decoded.
        sparse = any(condition.sparse for group in batch for condition in group.open)
        first = tested if sparse else [*columns, *tested]
        found = []
        for group, part in zip(batch, fetch(batch, first), strict=True):
            kept = _meeting(part, group.open)
            if kept is not None:
                found.append((group, kept, _kept(part, kept)))
        rest = [name for name in columns if name not in first]
        if not rest or not found:
            yield from (part.select(columns) for _, _, part in found)
            return
        for (_, kept, part), more in zip(found, fetch([group for group, *_ in found], rest), strict=True):
            more = _kept(more, kept)
            for name in rest:
                part = part.append_column(more.schema.field(name), more[name])
            yield part.select(columns)

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
    """A file for pyarrow, and for this thread: what pyarrow is handed, it seeks in and then reads."""
    source = reader.source()
    return source if isinstance(source, pa.NativeFile) else pa.PythonFile(source, mode="r")


@contextmanager
def opened(
    open_file: Callable[[], AbstractContextManager[Reader]], info: BlobInfo, footers: Footers | None = None
) -> Iterator[ParquetFile]:
    """A file with its footer: read here, unless it is among ``footers``, where it is then kept.

    Parameters
    ----------
    open_file
        Opens the file, where something of it is read.

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
                readers.append(stack.enter_context(open_file()))
            return readers[0]

        known = None if footers is None else footers.get(info)
        if known is not None:
            yield ParquetFile(info, known, reader)
            return
        with corrupt(info.path):
            footer = read_footer(reader(), _source_of(reader()), info.size)
            names = footer.schema.names
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise SchemaError(
                f"{info.path} has more than one column {', '.join(map(repr, twice))}.",
                hint="Write the file again with distinct names.",
            )
        if footers is not None:
            footers[info] = footer
        yield ParquetFile(info, footer, reader)


def _batches(groups: Sequence[Group]) -> Iterator[list[Group]]:
    batch: list[Group] = []
    rows = 0
    for group in groups:
        if batch and rows + group.rows > _BATCH:
            yield batch
            batch, rows = [], 0
        batch.append(group)
        rows += group.rows
    if batch:
        yield batch


_Kept: TypeAlias = slice | pa.Array


def _meeting(part: pa.Table, where: Sequence[Where]) -> _Kept | None:
    """The rows that meet ``where``: a slice where they follow each other, else positions; None when there are none.

    A slice keeps all of its row group in memory: of a small part of one it is positions.
    """
    meets = mask(part, where)
    if meets is None:
        return slice(0, len(part))
    rows = np.flatnonzero(meets)
    if not len(rows):
        return None
    first, last = int(rows[0]), int(rows[-1]) + 1
    return slice(first, last) if last - first == len(rows) >= len(part) // 2 else pa.array(rows)


def _kept(part: pa.Table, kept: _Kept) -> pa.Table:
    return part.slice(kept.start, kept.stop - kept.start) if isinstance(kept, slice) else part.take(kept)


def _check_words(table: pa.Table) -> None:
    """Raise where the number of a word is beyond the dictionary: Arrow takes it as the file has it."""
    for column in table.columns:
        if pa.types.is_dictionary(column.type):
            for chunk in column.chunks:
                highest = pc.max(chunk.indices).as_py()
                if highest is not None and highest >= len(chunk.dictionary):
                    raise ValueError(f"Index {highest} out of bounds")


def _decoded(part: pa.Table, fields: Sequence[pa.Field]) -> pa.Table:
    for field in fields:
        part = part.set_column(part.schema.get_field_index(field.name), field, part[field.name].cast(field.type))
    return part


def to_bytes(table: pa.Table, *, sorted_by: Sequence[str] = ()) -> bytes:
    """Write ``table`` as a Parquet file: Snappy, statistics, row groups of `ROW_GROUP` rows.

    Parameters
    ----------
    sorted_by
        The columns the rows are sorted by. A table of series, sorted by date and name, is written
        with their `ends`.
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
    return ends.insert(sink.getvalue(), ends.of(table, sorted_by))
