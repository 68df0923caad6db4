"""The series index: the first date and the last row of each series in a file, kept in the file itself.

A table of series has a date, a name and a number, and most questions ask for the last row up to a date. In
rows sorted by date, that row is close to the date if the series is alive. For a series that ended long ago, has
not begun or does not exist, the whole file would have to be searched; the index answers without reading a row.

It lies between the last row group and the footer, where Parquet leaves room and every other reader passes over it:

    row groups | index, an Arrow stream | its length, 8 bytes | MAGIC | footer

Another program that rewrites the file drops the index, whereas it may copy the file's metadata: so an index always
describes the rows of its own file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.lake.types.schema import DATE, LAST_UPDATED, NUMBER, TEXT, added_columns

__all__ = ["FIRST", "build_index", "insert_index", "read_index"]

FIRST = "first"
"""The index's column of first dates; its others are the file's own columns, in each series' last row."""

MAGIC = b"LUXORENDS1"
_MAX_SERIES = 50_000
"""A table with more names than this is not indexed; it is hardly a table of series."""


def build_index(table: pa.Table, sorted_by: Sequence[str]) -> pa.Table | None:
    """Return the index of a table of series that is sorted by date and name; None of any other table.

    It has one row per name, sorted: date, name and number of the last row, and the first date. Rows without one of the
    three do not count. `LAST_UPDATED` and the columns that were added to the table later are left out.
    """
    left_out = {LAST_UPDATED, *added_columns(table.schema)}
    data = table.drop_columns([name for name in table.column_names if name in left_out])
    kinds = [field.type for field in data.schema]
    if len(sorted_by) < 2 or sorted(map(str, kinds)) != sorted(map(str, (DATE, TEXT, NUMBER))):
        return None
    date, name = sorted_by[:2]
    if not {date, name} <= {*data.column_names}:
        return None
    if data.schema.field(date).type != DATE or data.schema.field(name).type != TEXT:
        return None
    encoded = data[name].dictionary_encode().combine_chunks()
    encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
    if not 0 < len(encoded.dictionary) <= _MAX_SERIES:
        return None
    filled = [pc.is_valid(column).to_numpy() for column in data.columns if column.null_count]
    rows = np.flatnonzero(np.logical_and.reduce(filled)) if filled else np.arange(len(data))
    codes = pc.fill_null(encoded.indices, 0).to_numpy()[rows]
    first, last = (np.full(len(encoded.dictionary), -1) for _ in range(2))
    first[codes[::-1]] = rows[::-1]  # numpy keeps what is written last, which here is the first row
    last[codes] = rows
    present = np.flatnonzero(last >= 0)
    order = pc.sort_indices(encoded.dictionary.take(pa.array(present))).to_numpy()
    first, last = first[present[order]], last[present[order]]
    last_rows = data.take(pa.array(last)).combine_chunks().replace_schema_metadata(None)
    return last_rows.append_column(FIRST, data[date].take(pa.array(first)).combine_chunks())


def insert_index(file: pa.Buffer, index: pa.Table | None) -> bytes:
    """Return the bytes of a Parquet file with the index before its footer."""
    data = memoryview(file)
    if index is None or FIRST in index.column_names[:-1]:
        return bytes(data)
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, index.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(index)
    body = stream.getvalue()
    footer = len(data) - 8 - struct.unpack("<I", data[-8:-4])[0]
    return b"".join([data[:footer], body, struct.pack("<Q", body.size), MAGIC, data[footer:]])


def read_index(source: Any, footer: int, prefetch: Callable[[Sequence[tuple[int, int]]], None]) -> pa.Table | None:
    """Return the index before the footer that starts at a position of the file; None where there is none."""
    mark = footer - len(MAGIC) - 8
    if mark < 0:
        return None
    length, magic = struct.unpack(f"<Q{len(MAGIC)}s", _bytes(source, mark, footer))
    if magic != MAGIC or length > mark:
        return None
    prefetch([(mark - length, mark)])
    with pa.ipc.open_stream(_bytes(source, mark - length, mark)) as stream:
        return stream.read_all()


def _bytes(source: Any, start: int, end: int) -> bytes:
    source.seek(start)
    return bytes(source.read(end - start))
