"""One Parquet file: reading the columns and row groups that are asked for, and writing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from luxor_pipelines.errors import CorruptFileError, LuxorError, SchemaError
from luxor_pipelines.lake.storage import BlobInfo, Reader

__all__ = ["ROW_GROUP", "Where", "apply", "footer", "read", "to_bytes"]

ROW_GROUP = 128 * 1024
"""Rows a row group: at 2000 series a day, three months; small enough to skip most of a history."""

_FOOTER = 64 * 1024


@dataclass(frozen=True)
class Where:
    """A condition on one column: inside any of the closed ``spans``, or one of ``values``.

    An open end of a span is None. A null never meets a condition.
    """

    column: str
    spans: tuple[tuple[Any, Any], ...] | None = None
    values: Sequence[Any] | None = None

    def may_hold(self, low: Any, high: Any) -> bool:
        """Whether a row between ``low`` and ``high`` (inclusive) could meet the condition."""
        if self.spans is not None:
            return any((a is None or a <= high) and (b is None or low <= b) for a, b in self.spans)
        return any(low <= value <= high for value in self.values or ())

    def must_hold(self, low: Any, high: Any) -> bool:
        """Whether every row between ``low`` and ``high`` (inclusive) meets the condition."""
        return self.spans is not None and any(
            (a is None or a <= low) and (b is None or high <= b) for a, b in self.spans
        )

    def mask(self, column: pa.ChunkedArray) -> Any:
        """The rows of ``column`` that meet the condition, as a boolean Arrow array without nulls."""
        if self.values is not None:
            if pa.types.is_dictionary(column.type):
                return _in_dictionary(column, self.values)
            return pc.is_in(column, value_set=pa.array(self.values, column.type))
        masks = []
        for low, high in self.spans or ():
            mask = pc.is_valid(column)
            if low is not None:
                mask = pc.and_(mask, pc.fill_null(pc.greater_equal(column, pa.scalar(low, column.type)), False))
            if high is not None:
                mask = pc.and_(mask, pc.fill_null(pc.less_equal(column, pa.scalar(high, column.type)), False))
            masks.append(mask)
        if not masks:
            return pa.chunked_array([pa.array(np.zeros(len(column), dtype=bool))])
        return reduce(pc.or_, masks)


def _in_dictionary(column: pa.ChunkedArray, values: Sequence[Any]) -> pa.ChunkedArray:
    """As ``is_in``, by looking at each distinct value once instead of at each row."""
    masks = []
    for chunk in column.chunks:
        wanted = pc.is_in(chunk.dictionary, value_set=pa.array(values, chunk.dictionary.type))
        if pc.any(wanted).as_py():
            masks.append(pc.fill_null(wanted.take(chunk.indices), False))
        else:
            masks.append(pa.array(np.zeros(len(chunk), dtype=bool)))
    return pa.chunked_array(masks, pa.bool_())


def apply(table: pa.Table, where: Iterable[Where]) -> pa.Table:
    """The rows of ``table`` that meet every condition."""
    conditions = list(where)
    return table.filter(_mask(table, conditions)) if conditions else table


def _mask(table: pa.Table, where: Sequence[Where]) -> Any:
    return reduce(pc.and_, (condition.mask(table[condition.column]) for condition in where))


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
    """
    reader.prefetch([(max(0, info.size - _FOOTER), info.size)])
    with _corrupt(info.path):
        file = pq.ParquetFile(reader.source, pre_buffer=False, read_dictionary=list(dictionary))
    with file:
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
    position = {file.metadata.schema.column(i).path: i for i in range(file.metadata.num_columns)}
    groups: list[tuple[int, list[Where]]] = []
    for group in range(file.num_row_groups):
        left = _undecided(file.metadata.row_group(group), position, where)
        if left is not None:
            groups.append((group, left))
    reader.prefetch(_byte_ranges(file, [group for group, _ in groups], [position[name] for name in needed]))
    with _corrupt(info.path):
        if not any(left for _, left in groups):
            return file.read_row_groups([group for group, _ in groups], columns=columns)
        pieces = [_read_group(file, group, columns, left) for group, left in groups]
        empty = file.schema_arrow.empty_table().select(columns)
        return pa.concat_tables([empty, *(piece for piece in pieces if len(piece))])


def _read_group(file: Any, group: int, columns: Sequence[str], left: Sequence[Where]) -> pa.Table:
    """The group's rows that meet the conditions; columns without one are only read when some row does."""
    tested = list(dict.fromkeys(condition.column for condition in left))
    if not any(condition.values is not None for condition in left):
        return apply(file.read_row_group(group, columns=[*columns, *tested]), left).select(columns)
    table = file.read_row_group(group, columns=tested)
    mask = _mask(table, left)
    if not pc.any(mask).as_py():
        return file.schema_arrow.empty_table().select(columns)
    rest = [name for name in columns if name not in tested]
    found = table.filter(mask)
    if rest:
        others = file.read_row_group(group, columns=rest).filter(mask)
        for name in rest:
            found = found.append_column(others.schema.field(name), others[name])
    return found.select(columns)


def _undecided(group: Any, position: dict[str, int], where: Sequence[Where]) -> list[Where] | None:
    """The conditions that the group's statistics leave open; None when no row can meet them all."""
    left = []
    for condition in where:
        statistics = group.column(position[condition.column]).statistics
        if statistics is None or not statistics.has_min_max:
            left.append(condition)
            continue
        low, high = statistics.min, statistics.max
        if not condition.may_hold(low, high):
            return None
        if not (condition.must_hold(low, high) and statistics.has_null_count and statistics.null_count == 0):
            left.append(condition)
    return left


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
