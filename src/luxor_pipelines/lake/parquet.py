"""One Parquet file: reading the columns and row groups that are asked for, and writing."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from luxor_pipelines.errors import CorruptFileError, LuxorError, SchemaError
from luxor_pipelines.lake import ends
from luxor_pipelines.lake.conditions import Where, apply, mask
from luxor_pipelines.lake.schema import is_text_type
from luxor_pipelines.lake.storage import BlobInfo, Reader

__all__ = ["ROW_GROUP", "Footers", "ParquetFile", "Where", "apply", "opened", "to_bytes"]

ROW_GROUP = 64 * 1024
"""Rows a row group: at 2000 series a day, six weeks; small enough to skip most of a history."""

_FOOTER = 128 * 1024
_BATCH = 256 * 1024
"""Rows that are decoded at once: those that meet no condition are let go before the next."""

_SHORT = 4
"""Bytes a row below which a column of text is taken for one of words that repeat."""

Footers = MutableMapping[BlobInfo, tuple[Any, pa.Table | None]]
"""Footers that have been read, and the ends beside them: a version's never change."""


@contextmanager
def _corrupt(path: str) -> Iterator[None]:
    try:
        yield
    except LuxorError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CorruptFileError(
            f"{path} is not a readable Parquet file ({reason}).",
            hint="Restore it from a backup or move it aside and run the pipeline that makes it again.",
        ) from error


class _Group(NamedTuple):
    """A row group that may hold rows wanted: its number, its rows, the conditions its statistics leave open."""

    number: int
    rows: int
    open: Sequence[Where]


@dataclass(frozen=True)
class ParquetFile:
    """One version of a file, its footer read.

    ``ends`` are those of its series, where the file has them; see `lake.ends`.
    """

    info: BlobInfo
    metadata: Any
    ends: pa.Table | None
    _reader: Reader
    _source: Any

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns as the file stores them, with its metadata."""
        with _corrupt(self.info.path):
            return self.metadata.schema.to_arrow_schema()

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self.metadata.num_rows)

    def read(
        self, columns: Sequence[str] | None = None, where: Sequence[Where] = (), *, dictionary: Sequence[str] = ()
    ) -> pa.Table:
        """Read the asked-for columns of the rows that meet ``where``.

        Row groups that cannot hold such a row, by their statistics, are not read, and of the others
        only the columns needed.

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
        leaves = _leaves(self.schema)
        groups = self._groups(leaves, where)
        wanted = [leaf for name in dict.fromkeys([*columns, *tested]) for leaf in leaves[name]]
        texts = [name for name in dict.fromkeys([*columns, *tested]) if is_text_type(self.schema.field(name).type)]
        # Words are looked for among the distinct ones, not row by row; and decoded once each where they repeat.
        words = {condition.column for condition in where if condition.sparse}
        with _corrupt(self.info.path):
            self._reader.prefetch(_byte_ranges(self.metadata, [group.number for group in groups], wanted))
            words.update(name for name in texts if _repeats(self.metadata, groups, leaves[name]))
        encoded = [name for name in texts if name in words or name in dictionary]
        plain = [self.schema.field(name) for name in encoded if name in columns and name not in dictionary]
        pieces = self._pieces(groups, columns, encoded, plain)
        if not pieces:
            with self._file([name for name in texts if name in dictionary]) as file:
                return file.schema_arrow.empty_table().select(columns)
        return pa.concat_tables(pieces)

    def _groups(self, leaves: Mapping[str, list[int]], where: Sequence[Where]) -> list[_Group]:
        groups = []
        with _corrupt(self.info.path):
            for number in range(self.metadata.num_row_groups):
                left = _undecided(self.metadata, number, leaves, where)
                if left is not None:
                    groups.append(_Group(number, self.metadata.row_group(number).num_rows, left))
        return groups

    def _pieces(
        self, groups: Sequence[_Group], columns: Sequence[str], encoded: Sequence[str], plain: Sequence[pa.Field]
    ) -> list[pa.Table]:
        """The rows wanted, batch by batch; several batches at once, where there are several.

        The columns in ``encoded`` are read through their dictionary, and those of ``plain`` are text again afterwards.
        """
        batches = list(_batches(groups))

        def work(batch: Sequence[_Group]) -> list[pa.Table]:
            # pyarrow's files are not to be shared between threads; the footer is.
            # Among what is damaged are columns of one group that are not of one length.
            with _corrupt(self.info.path), self._file(encoded) as file:
                return [_decoded(piece, plain) for piece in self._read_batch(file, batch, columns)]

        if len(batches) < 2 or pa.cpu_count() < 2:
            return [piece for batch in batches for piece in work(batch)]
        with ThreadPoolExecutor(pa.cpu_count()) as pool:
            return [piece for pieces in pool.map(work, batches) for piece in pieces]

    def _read_batch(self, file: Any, batch: Sequence[_Group], columns: Sequence[str]) -> Iterator[pa.Table]:
        def fetch(groups: Sequence[_Group], names: Sequence[str]) -> Iterator[pa.Table]:
            with _corrupt(self.info.path):
                table = file.read_row_groups([group.number for group in groups], columns=list(dict.fromkeys(names)))
            starts = itertools.accumulate((group.rows for group in groups), initial=0)
            return (table.slice(start, group.rows) for start, group in zip(starts, groups, strict=False))

        if not any(group.open for group in batch):
            with _corrupt(self.info.path):
                yield file.read_row_groups([group.number for group in batch], columns=list(columns)).select(columns)
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
            _corrupt(self.info.path),
            pq.ParquetFile(
                self._source, metadata=self.metadata, pre_buffer=False, read_dictionary=list(dictionary)
            ) as file,
        ):
            yield file


@contextmanager
def opened(reader: Reader, info: BlobInfo, footers: Footers | None = None) -> Iterator[ParquetFile]:
    """Open a file: read its footer, unless it is among ``footers``, where it is then kept.

    Raises
    ------
    CorruptFileError
        The bytes are not a Parquet file.
    SchemaError
        Two columns have one name.
    """
    # One object for all threads: it locks between finding a place and reading there.
    source = reader.source if isinstance(reader.source, pa.NativeFile) else pa.PythonFile(reader.source, mode="r")
    kept = None if footers is None else footers.get(info)
    if kept is None:
        reader.prefetch([(max(0, info.size - _FOOTER), info.size)])
        with _corrupt(info.path):
            metadata = pq.read_metadata(source)
            _check_chunks(metadata, info.size)
            kept = metadata, ends.read(source, info.size - metadata.serialized_size - 8, reader.prefetch)
    file = ParquetFile(info, *kept, reader, source)
    twice = [name for name, count in Counter(file.schema.names).items() if count > 1]
    if twice:
        raise SchemaError(
            f"{info.path} has more than one column {', '.join(map(repr, twice))}.",
            hint="Write the file again with distinct names.",
        )
    if footers is not None:
        footers[info] = kept
    yield file


def _batches(groups: Sequence[_Group]) -> Iterator[list[_Group]]:
    batch: list[_Group] = []
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


def _decoded(part: pa.Table, fields: Sequence[pa.Field]) -> pa.Table:
    for field in fields:
        part = part.set_column(part.schema.get_field_index(field.name), field, part[field.name].cast(field.type))
    return part


class _NothingToReadError(Exception):
    """The check of a footer has come as far as the data."""


class _OnlySize(io.RawIOBase):
    """A file of which nothing is known but its size."""

    def __init__(self, size: int) -> None:
        self._size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return offset if whence == io.SEEK_SET else self._size + offset

    def tell(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:  # noqa: ARG002
        raise _NothingToReadError


def _check_chunks(metadata: Any, size: int) -> None:
    """Raise what Arrow has to say against the footer's column chunks.

    Asked for a damaged one from Python, Arrow's C++ ends the whole process; on its own way to the data it
    looks at the same chunks, all of them before the first is read, and raises. It is sent that way, to no data.
    """
    if metadata.num_row_groups and metadata.num_columns:
        file = pq.ParquetFile(_OnlySize(size), metadata=metadata, pre_buffer=True)
        leaves = range(metadata.num_columns)
        with suppress(_NothingToReadError):
            file.reader.read_row_groups(range(metadata.num_row_groups), column_indices=leaves, use_threads=False)


def _repeats(metadata: Any, groups: Sequence[_Group], leaves: Sequence[int]) -> bool:
    """Whether a column of text takes so few bytes a row that its cells can only be numbers of words in a dictionary."""
    chunks = [metadata.row_group(group.number).column(leaf) for group in groups for leaf in leaves]
    rows = sum(group.rows for group in groups)
    return (
        all(chunk.has_dictionary_page for chunk in chunks)
        and rows > 0
        and (sum(chunk.total_uncompressed_size for chunk in chunks) < _SHORT * rows)
    )


def _leaves(schema: pa.Schema) -> dict[str, list[int]]:
    """The positions of each column's leaves in the file: more than one where it is nested."""
    numbers = itertools.count()
    return {field.name: list(itertools.islice(numbers, _leaf_count(field.type))) for field in schema}


def _leaf_count(kind: pa.DataType) -> int:
    return sum(_leaf_count(kind.field(n).type) for n in range(kind.num_fields)) or 1


def _undecided(
    metadata: Any, group: int, leaves: Mapping[str, list[int]], where: Sequence[Where]
) -> list[Where] | None:
    """The conditions that the group's statistics leave open; None when no row can meet them all."""
    left = []
    for condition in where:
        leaf = leaves[condition.column][0]
        chunk = metadata.row_group(group).column(leaf)
        if chunk.physical_type != metadata.schema.column(leaf).physical_type:  # asked for these statistics, C++ aborts
            raise ValueError(f"Column {condition.column!r} is said to be of two types")
        statistics = chunk.statistics
        known = _extremes(statistics)
        if known is not None and not condition.may_hold(*known):
            return None
        # Statistics say nothing of NaNs, which meet no condition.
        decided = (
            known is not None
            and not isinstance(known[0], float)
            and statistics.has_null_count
            and statistics.null_count == 0
            and condition.must_hold(*known)
        )
        if not decided:
            left.append(condition if known is None else condition.within(*known))
    return left


def _extremes(statistics: Any) -> tuple[Any, Any] | None:
    if statistics is None or not statistics.has_min_max:
        return None
    try:
        return statistics.min, statistics.max
    except (OverflowError, ValueError):  # such as a date beyond the year 9999, which Python has no object for
        return None


def _byte_ranges(metadata: Any, groups: Sequence[int], columns: Sequence[int]) -> list[tuple[int, int]]:
    ranges = []
    for group in groups:
        for column in columns:
            chunk = metadata.row_group(group).column(column)
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                start = min(start, chunk.dictionary_page_offset)
            ranges.append((start, start + chunk.total_compressed_size))
    return ranges


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
