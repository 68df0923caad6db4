"""A Parquet file's footer: what it says of the columns and row groups, without a row read."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from luxor_pipelines.errors import CorruptFileError, LuxorError
from luxor_pipelines.lake.parquet import series_index as ends
from luxor_pipelines.lake.parquet.predicates import Where
from luxor_pipelines.lake.storage.base import Reader
from luxor_pipelines.lake.types.schema import DATE

__all__ = ["TAIL", "Footer", "Group", "corrupt", "read_footer"]

TAIL = 128 * 1024
"""Bytes fetched at the end of a file, of which most footers are a part."""

_SHORT = 4
"""Bytes a row below which a column of text is taken for one of words that repeat."""


@contextmanager
def corrupt(path: str) -> Iterator[None]:
    """Turn what Arrow raises for a damaged file into a `CorruptFileError`."""
    try:
        yield
    except LuxorError:
        raise
    except (pa.ArrowException, OSError, ValueError, IndexError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CorruptFileError(
            f"{path} is not a readable Parquet file ({reason}).",
            hint="Restore it from a backup or move it aside and run the pipeline that makes it again.",
        ) from error


class Group(NamedTuple):
    """A row group that may hold rows wanted: its number, its rows, the conditions its statistics leave open."""

    number: int
    rows: int
    open: Sequence[Where]


class _Extremes(NamedTuple):
    """Of a column in a row group its least and greatest value; ``complete`` when there is nothing else in it."""

    low: Any
    high: Any
    complete: bool


@dataclass(frozen=True, eq=False)
class Footer:
    """What a file's footer says; of one version it never changes.

    ``ends`` are those of its series, where the file has them (see `lake.ends`), ``size`` the file's bytes.
    """

    metadata: Any
    ends: pa.Table | None
    size: int
    _extremes: dict[str, list[_Extremes | None]] = field(default_factory=dict)

    @cached_property
    def _row_groups(self) -> list[Any]:
        """What is said of each row group, looked over by Arrow first: see `_check_chunks`."""
        _check_chunks(self.metadata, self.size)
        return [self.metadata.row_group(number) for number in range(self.metadata.num_row_groups)]

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns as the file stores them, with its metadata."""
        return self.metadata.schema.to_arrow_schema()

    @cached_property
    def rows(self) -> list[int]:
        """The rows of each row group."""
        return [group.num_rows for group in self._row_groups]

    @cached_property
    def _leaves(self) -> dict[str, list[int]]:
        """The positions of each column's leaves in the file: more than one where it is nested."""
        numbers = itertools.count()
        return {each.name: list(itertools.islice(numbers, _leaf_count(each.type))) for each in self.schema}

    def empty(self, dictionary: Sequence[str] = ()) -> pa.Table:
        """No rows of the file, with the text of some columns dictionary-encoded."""
        file = pq.ParquetFile(_OnlySize(0), metadata=self.metadata, read_dictionary=list(dictionary))
        return file.schema_arrow.empty_table()

    def groups(self, where: Sequence[Where]) -> list[Group]:
        """The row groups that may hold rows that meet ``where``."""
        known = [self._known(condition.column) for condition in where]
        groups = []
        for number, rows in enumerate(self.rows):
            left = _undecided(where, [extremes[number] for extremes in known])
            if left is not None:
                groups.append(Group(number, rows, left))
        return groups

    def rules_out(self, where: Sequence[Where]) -> bool:
        """Whether it is plain from a column of dates that no row meets ``where``."""
        for condition in where:
            at = self.schema.get_field_index(condition.column)
            if at >= 0 and self.schema.field(at).type == DATE:
                known = self._known(condition.column)
                if not any(each is None or condition.may_hold(each.low, each.high) for each in known):
                    return True
        return False

    def ranges(self, groups: Sequence[Group], columns: Sequence[str]) -> list[tuple[int, int]]:
        """Where in the file columns of some row groups lie: from which byte to which."""
        ranges = []
        for chunk in self._chunks(groups, columns):
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                start = min(start, chunk.dictionary_page_offset)
            ranges.append((start, start + chunk.total_compressed_size))
        return ranges

    def repeats(self, groups: Sequence[Group], column: str) -> bool:
        """Whether a column of text takes so few bytes a row that its cells can only be numbers of words."""
        rows = sum(group.rows for group in groups)
        chunks = list(self._chunks(groups, [column]))
        return (
            rows > 0
            and all(chunk.has_dictionary_page for chunk in chunks)
            and sum(chunk.total_uncompressed_size for chunk in chunks) < _SHORT * rows
        )

    def _chunks(self, groups: Sequence[Group], columns: Sequence[str]) -> Iterator[Any]:
        for group in groups:
            found = self._row_groups[group.number]
            yield from (found.column(leaf) for name in columns for leaf in self._leaves[name])

    def _known(self, column: str) -> list[_Extremes | None]:
        if column not in self._extremes:
            leaf = self._leaves[column][0]
            kind = self.metadata.schema.column(leaf).physical_type
            self._extremes[column] = [_extremes(group.column(leaf), kind, column) for group in self._row_groups]
        return self._extremes[column]


def _leaf_count(kind: pa.DataType) -> int:
    return sum(_leaf_count(kind.field(n).type) for n in range(kind.num_fields)) or 1


def _extremes(chunk: Any, kind: str, column: str) -> _Extremes | None:
    if chunk.physical_type != kind:  # asked for these statistics, C++ aborts
        raise ValueError(f"Column {column!r} is said to be of two types")
    statistics = chunk.statistics
    if statistics is None or not statistics.has_min_max:
        return None
    try:
        low, high = statistics.min, statistics.max
    except (OverflowError, ValueError):  # such as a date beyond the year 9999, which Python has no object for
        return None
    # Statistics say nothing of NaNs, which meet no condition.
    complete = not isinstance(low, float) and statistics.has_null_count and statistics.null_count == 0
    return _Extremes(low, high, complete)


def _undecided(where: Sequence[Where], known: Sequence[_Extremes | None]) -> list[Where] | None:
    """The conditions that a group's statistics leave open; None when no row can meet them all."""
    left = []
    for condition, of_column in zip(where, known, strict=True):
        if of_column is None:
            left.append(condition)
            continue
        low, high, complete = of_column
        if not condition.may_hold(low, high):
            return None
        if not (complete and condition.must_hold(low, high)):
            left.append(condition.within(low, high))
    return left


# --- reading it ------------------------------------------------------------------------------------


def read_footer(reader: Reader, source: Any, size: int) -> Footer:
    """Read the footer of a file of ``size`` bytes, and the ends beside it."""
    reader.prefetch([(max(0, size - TAIL), size)])
    metadata = pq.read_metadata(source)
    return Footer(metadata, ends.read(source, size - metadata.serialized_size - 8, reader.prefetch), size)


class _OnlySize(io.RawIOBase):
    """A file of which nothing is known but its size, and whether its data was asked for."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.asked = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return offset if whence == io.SEEK_SET else self._size + offset

    def tell(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:  # noqa: ARG002
        self.asked = True
        return b""


def _check_chunks(metadata: Any, size: int) -> None:
    """Raise what Arrow has to say against the footer's column chunks.

    Asked for a damaged one from Python, Arrow's C++ ends the whole process; on its own way to the data it
    looks at the same chunks, all of them before the first is read, and raises. It is sent that way, to no data.
    """
    if metadata.num_row_groups and metadata.num_columns:
        file = _OnlySize(size)
        groups, leaves = range(metadata.num_row_groups), range(metadata.num_columns)
        reader = pq.ParquetFile(file, metadata=metadata, pre_buffer=True).reader
        try:
            reader.read_row_groups(groups, column_indices=leaves, use_threads=False)
        except (pa.ArrowException, OSError):
            if not file.asked:
                raise
