"""One Parquet file: reading the columns and row groups that are asked for, and writing."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from luxor_pipelines.errors import CorruptFileError, LuxorError, SchemaError
from luxor_pipelines.lake.conditions import Where, apply, mask
from luxor_pipelines.lake.storage import BlobInfo, Reader

__all__ = ["ROW_GROUP", "Where", "apply", "footer", "read", "to_bytes"]

ROW_GROUP = 128 * 1024
"""Rows a row group: at 2000 series a day, three months; small enough to skip most of a history."""

_FOOTER = 64 * 1024


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


@contextmanager
def footer(reader: Reader, info: BlobInfo, dictionary: Sequence[str] = ()) -> Iterator[Any]:
    """Open the file's footer: a ``pyarrow.parquet.ParquetFile`` with schema and statistics.

    Raises
    ------
    CorruptFileError
        The bytes are not a Parquet file.
    SchemaError
        Two columns have one name.
    """
    reader.prefetch([(max(0, info.size - _FOOTER), info.size)])
    with _corrupt(info.path):
        metadata = pq.read_metadata(reader.source)
        there = [name for name in dictionary if name in metadata.schema.names]
        file = pq.ParquetFile(reader.source, metadata=metadata, pre_buffer=False, read_dictionary=there)
        names = file.schema_arrow.names
    with file:
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise SchemaError(
                f"{info.path} has more than one column {', '.join(map(repr, twice))}.",
                hint="Write the file again with distinct names.",
            )
        yield file


def read(
    reader: Reader,
    info: BlobInfo,
    file: Any,
    columns: Sequence[str] | None = None,
    where: Sequence[Where] = (),
) -> pa.Table:
    """Read the asked-for columns of the rows that meet ``where``.

    Row groups that cannot hold such a row, by their statistics, are not read, and of the others
    only the columns needed.

    Raises
    ------
    SchemaError
        A column that the file does not have.
    CorruptFileError
    """
    names = file.schema_arrow.names
    columns = names if columns is None else list(columns)
    needed = list(dict.fromkeys([*columns, *(condition.column for condition in where)]))
    absent = [name for name in needed if name not in names]
    if absent:
        raise SchemaError(
            f"{info.path} has no column {', '.join(map(repr, absent))}; it has {', '.join(map(repr, names))}.",
            hint="Check the spelling; column names are case-sensitive.",
        )
    leaves = _leaves(file.schema_arrow)
    with _corrupt(info.path):
        _check_chunks(file.metadata, info.size, [leaf for name in needed for leaf in leaves[name]])
    groups: list[tuple[int, list[Where]]] = []
    with _corrupt(info.path):
        for group in range(file.num_row_groups):
            left = _undecided(file.metadata, group, leaves, where)
            if left is not None:
                groups.append((group, left))
        ranges = _byte_ranges(file, [group for group, _ in groups], [leaf for name in needed for leaf in leaves[name]])
    reader.prefetch(ranges)

    def fetch(wanted: Sequence[int], names: Sequence[str]) -> pa.Table:
        with _corrupt(info.path):
            return file.read_row_groups(wanted, columns=list(dict.fromkeys(names)))

    if groups and not any(left for _, left in groups):
        return fetch([group for group, _ in groups], columns).select(columns)
    with _corrupt(info.path):  # such as columns of one group that are not of one length
        pieces = [_read_group(fetch, group, columns, left) for group, left in groups]
        empty = file.schema_arrow.empty_table().select(columns)
        return pa.concat_tables([empty, *(piece for piece in pieces if len(piece))])


def _read_group(
    fetch: Callable[[Sequence[int], Sequence[str]], pa.Table], group: int, columns: Sequence[str], left: Sequence[Where]
) -> pa.Table:
    """The group's rows that meet the conditions; columns without one are only decoded when some row does."""
    tested = [condition.column for condition in left]
    if not any(condition.values is not None for condition in left):
        return apply(fetch([group], [*columns, *tested]), left).select(columns)
    table = fetch([group], tested)
    meets = mask(table, left)
    if not pc.any(meets).as_py():
        return table.slice(0, 0)
    rest = [name for name in columns if name not in tested]
    found = table.filter(meets)
    if rest:
        others = fetch([group], rest).filter(meets)
        for name in rest:
            found = found.append_column(others.schema.field(name), others[name])
    return found.select(columns)


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


def _check_chunks(metadata: Any, size: int, leaves: Sequence[int]) -> None:
    """Raise what Arrow has to say against the footer's column chunks.

    Asked for a damaged one from Python, Arrow's C++ ends the whole process; on its own way to the data it
    looks at the same chunks, all of them before the first is read, and raises. It is sent that way, to no data.
    """
    if metadata.num_row_groups and leaves:
        file = pq.ParquetFile(_OnlySize(size), metadata=metadata, pre_buffer=True)
        with suppress(_NothingToReadError):
            file.reader.read_row_groups(range(metadata.num_row_groups), column_indices=leaves, use_threads=False)


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
            left.append(condition)
    return left


def _extremes(statistics: Any) -> tuple[Any, Any] | None:
    if statistics is None or not statistics.has_min_max:
        return None
    try:
        return statistics.min, statistics.max
    except (OverflowError, ValueError):  # such as a date beyond the year 9999, which Python has no object for
        return None


def _byte_ranges(file: Any, groups: Sequence[int], columns: Sequence[int]) -> list[tuple[int, int]]:
    ranges = []
    for group in groups:
        for column in columns:
            chunk = file.metadata.row_group(group).column(column)
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                start = min(start, chunk.dictionary_page_offset)
            ranges.append((start, start + chunk.total_compressed_size))
    return ranges


def to_bytes(table: pa.Table, *, sorted_by: Sequence[str] = ()) -> bytes:
    """Write ``table`` as a Parquet file: Snappy, statistics, row groups of `ROW_GROUP` rows."""
    sink = pa.BufferOutputStream()
    sorting = [pq.SortingColumn(table.schema.get_field_index(name)) for name in sorted_by]
    pq.write_table(
        table,
        sink,
        row_group_size=ROW_GROUP,
        compression="snappy",
        sorting_columns=sorting or None,
    )
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]
