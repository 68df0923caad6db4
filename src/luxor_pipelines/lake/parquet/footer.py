"""The footer of a Parquet file: its columns, its row groups and their statistics, known without reading a row."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from luxor_pipelines.errors import CorruptFileError, LuxorError
from luxor_pipelines.lake.parquet.predicates import Where
from luxor_pipelines.lake.parquet.series_index import read_index
from luxor_pipelines.lake.storage.base import Reader
from luxor_pipelines.lake.types.schema import DATE

__all__ = ["TAIL", "Footer", "RowGroup", "corrupt", "read_footer"]

TAIL = 128 * 1024
"""Bytes fetched at the end of a file; most footers are shorter."""

_DELTA = frozenset({"DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"})
_CODE_BYTES = 4
"""Bytes per row below which a column of text is taken to store codes of words that repeat."""


@contextmanager
def corrupt(path: str) -> Iterator[None]:
    """Turn the errors that Arrow raises for a damaged file into a `CorruptFileError`."""
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


class RowGroup(NamedTuple):
    """A row group to read: its number, its rows, and the residual conditions, which its statistics do not decide."""

    number: int
    rows: int
    residual: Sequence[Where]


class _Bounds(NamedTuple):
    """The least and the greatest value of a column in a row group; ``complete`` where every row lies between them."""

    low: Any
    high: Any
    complete: bool


@dataclass(frozen=True, eq=False)
class Footer:
    """The footer of one version of a file.

    Attributes
    ----------
    metadata
        The footer as Arrow has it.
    series_index
        The index of the file's series, where it has one.
    size
        The file's bytes.
    """

    metadata: Any
    series_index: pa.Table | None
    size: int
    _bounds: dict[str, list[_Bounds | None]] = field(default_factory=dict)

    @cached_property
    def _row_groups(self) -> list[Any]:
        """Arrow's metadata of each row group, checked first: see `_check_chunks`."""
        _check_chunks(self.metadata, self.size)
        return [self.metadata.row_group(number) for number in range(self.metadata.num_row_groups)]

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns as the file stores them, with its metadata."""
        return self.metadata.schema.to_arrow_schema()

    @cached_property
    def sorted_by(self) -> tuple[str, ...]:
        """The columns that the rows are sorted by, as the file says; empty where it does not."""
        sorting = self._row_groups[0].sorting_columns if self._row_groups else ()
        return tuple(self.metadata.schema.column(column.column_index).path for column in sorting)

    @cached_property
    def rows(self) -> list[int]:
        """The number of rows of each row group, for which no chunk need be checked."""
        return [self.metadata.row_group(number).num_rows for number in range(self.metadata.num_row_groups)]

    @cached_property
    def _leaves(self) -> dict[str, list[int]]:
        """The positions of each column's leaves in the file: more than one where it is nested."""
        numbers = itertools.count()
        return {column.name: list(itertools.islice(numbers, _leaf_count(column.type))) for column in self.schema}

    def empty(self, dictionary: Sequence[str] = ()) -> pa.Table:
        """Return a table of the file's columns without rows, some text columns dictionary-encoded."""
        file = pq.ParquetFile(_OnlySize(0), metadata=self.metadata, read_dictionary=list(dictionary))
        return file.schema_arrow.empty_table()

    def might_match(self, where: Sequence[Where]) -> bool:
        """Return whether some row may meet all conditions, judged by those on columns of dates alone."""
        for condition in where:
            at = self.schema.get_field_index(condition.column)
            if at >= 0 and self.schema.field(at).type in (DATE, pa.date32()):
                bounds = self._column_bounds(condition.column)
                if not any(b is None or condition.might_match(b.low, b.high) for b in bounds):
                    return False
        return True

    def plan(self, where: Sequence[Where]) -> list[RowGroup]:
        """Return the row groups that may hold rows that meet all conditions."""
        bounds = [self._column_bounds(condition.column) for condition in where]
        groups = []
        for number, rows in enumerate(self.rows):
            residual = _residual(where, [of_column[number] for of_column in bounds])
            if residual is not None:
                groups.append(RowGroup(number, rows, residual))
        return groups

    def ranges(self, groups: Sequence[RowGroup], columns: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Yield the first byte and the one after the last of each column chunk."""
        for chunk in self._chunks(groups, columns):
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                start = min(start, chunk.dictionary_page_offset)
            yield start, start + chunk.total_compressed_size

    def repeats(self, groups: Sequence[RowGroup], column: str) -> bool:
        """Return whether a text column takes so few bytes a row that its cells must be codes of repeated words."""
        rows = sum(group.rows for group in groups)
        chunks = list(self._chunks(groups, [column]))
        return (
            rows > 0
            and all(chunk.has_dictionary_page for chunk in chunks)
            and sum(chunk.total_uncompressed_size for chunk in chunks) < _CODE_BYTES * rows
        )

    def reads_encoded(self, groups: Sequence[RowGroup], column: str) -> bool:
        """Return whether Arrow can read a text column dictionary-encoded, which it cannot from delta encodings."""
        return not any(_DELTA.intersection(chunk.encodings) for chunk in self._chunks(groups, [column]))

    def _chunks(self, groups: Sequence[RowGroup], columns: Sequence[str]) -> Iterator[Any]:
        for group in groups:
            metadata = self._row_groups[group.number]
            yield from (metadata.column(leaf) for name in columns for leaf in self._leaves[name])

    def bounds(self, column: str) -> tuple[Any, Any] | None:
        """Return the least and the greatest value of a column; None where some row group has no statistics of it."""
        if column not in self._leaves:
            return None
        lows, highs = [], []
        for bounds, rows in zip(self._column_bounds(column), self.rows, strict=True):
            if rows and bounds is None:
                return None
            if rows and bounds is not None:
                lows.append(bounds.low)
                highs.append(bounds.high)
        return (min(lows), max(highs)) if lows else None

    def _column_bounds(self, column: str) -> list[_Bounds | None]:
        """Return the bounds of a column in each row group; None for a row group without statistics of it."""
        if column not in self._bounds:
            leaf = self._leaves[column][0]
            kind = self.metadata.schema.column(leaf).physical_type
            self._bounds[column] = [_chunk_bounds(group.column(leaf), kind, column) for group in self._row_groups]
        return self._bounds[column]


def _leaf_count(kind: pa.DataType) -> int:
    return sum(_leaf_count(kind.field(n).type) for n in range(kind.num_fields)) or 1


def _chunk_bounds(chunk: Any, kind: str, column: str) -> _Bounds | None:
    if chunk.physical_type != kind:  # Arrow's C++ would abort the process when asked for these statistics
        raise ValueError(f"Column {column!r} is said to be of two types")
    statistics = chunk.statistics
    if statistics is None or not statistics.has_min_max:
        return None
    try:
        low, high = statistics.min, statistics.max
    except (OverflowError, ValueError):  # such as a date beyond the year 9999, for which Python has no object
        return None
    if type(low) is date:  # other programs' days, which conditions compare as instants
        low, high = (datetime(day.year, day.month, day.day) for day in (low, high))
    # Statistics do not count NaNs, which meet no condition.
    complete = not isinstance(low, float) and statistics.has_null_count and statistics.null_count == 0
    return _Bounds(low, high, complete)


def _residual(where: Sequence[Where], bounds: Sequence[_Bounds | None]) -> list[Where] | None:
    """Return the conditions that the bounds of a row group do not decide; None where no row can meet them all."""
    residual = []
    for condition, column_bounds in zip(where, bounds, strict=True):
        if column_bounds is None:
            residual.append(condition)
            continue
        low, high, complete = column_bounds
        if not condition.might_match(low, high):
            return None
        if not (complete and condition.must_match(low, high)):
            residual.append(condition.residual(low, high))
    return residual


# --- reading it ----------------------------------------------------------------------------------


def read_footer(reader: Reader, source: Any, size: int) -> Footer:
    """Read the footer of a file of ``size`` bytes, and the series index beside it."""
    reader.prefetch([(max(0, size - TAIL), size)])
    metadata = pq.read_metadata(source)
    return Footer(metadata, read_index(source, size - metadata.serialized_size - 8, reader.prefetch), size)


class _OnlySize(io.RawIOBase):
    """A file that has a size but no bytes, and records whether bytes were read."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.was_read = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return offset if whence == io.SEEK_SET else self._size + offset

    def tell(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:  # noqa: ARG002
        self.was_read = True
        return b""


def _check_chunks(metadata: Any, size: int) -> None:
    """Raise if Arrow finds fault with a column chunk in the footer.

    Asked from Python about a damaged chunk, Arrow's C++ ends the whole process. Before it reads data, however, it
    checks all chunks and raises an error; so it is made to read from a file without bytes.
    """
    if metadata.num_row_groups and metadata.num_columns:
        file = _OnlySize(size)
        groups, leaves = range(metadata.num_row_groups), range(metadata.num_columns)
        reader = pq.ParquetFile(file, metadata=metadata, pre_buffer=True).reader
        try:
            reader.read_row_groups(groups, column_indices=leaves, use_threads=False)
        except (pa.ArrowException, OSError):
            if not file.was_read:
                raise
