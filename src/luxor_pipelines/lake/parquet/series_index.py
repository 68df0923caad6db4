"""The ends of each series in a file: its first date and its last row, kept in the file itself.

A table of series (a date, a name, a number) is mostly asked what was last known on a date. Rows
sorted by date answer that for whatever is alive; of a series that ended long ago, has not begun or does
not exist at all they would have to be searched from end to end. The ends answer it without a row read.

They lie between the last row group and the footer, where Parquet leaves bytes to whoever wants them:

    row groups | ends, an Arrow stream | its length, 8 bytes | MAGIC | footer

Every reader passes over them. And a program that writes the file anew leaves them out, as it would not the
file's metadata; so they are never those of other rows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.lake.types.schema import DATE, LAST_UPDATED, NUMBER, TEXT

__all__ = ["FIRST", "insert", "of", "read"]

FIRST = "first"
"""The column of the first date; the others are the file's own, of each series' last row."""

MAGIC = b"LUXORENDS1"
_MOST = 50_000
"""Names up to which the ends are kept; a table of more is hardly one of series."""


def of(table: pa.Table, sorted_by: Sequence[str]) -> pa.Table | None:
    """The ends of the series of a table sorted by date and name; None of any other table.

    One row a name, sorted: the first date and the columns of the last row, `LAST_UPDATED` left out.
    Rows with an empty cell are passed over.
    """
    data = table.drop_columns([LAST_UPDATED]) if LAST_UPDATED in table.column_names else table
    kinds = [field.type for field in data.schema]
    if len(sorted_by) < 2 or sorted(map(str, kinds)) != sorted(map(str, (DATE, TEXT, NUMBER))):
        return None
    date, name = sorted_by[:2]
    if data.schema.field(date).type != DATE or data.schema.field(name).type != TEXT:
        return None
    encoded = data[name].dictionary_encode().combine_chunks()
    encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
    if not 0 < len(encoded.dictionary) <= _MOST:
        return None
    filled = [pc.is_valid(column).to_numpy() for column in data.columns if column.null_count]
    rows = np.flatnonzero(np.logical_and.reduce(filled)) if filled else np.arange(len(data))
    codes = pc.fill_null(encoded.indices, 0).to_numpy()[rows]
    first, last = (np.full(len(encoded.dictionary), -1) for _ in range(2))
    first[codes[::-1]] = rows[::-1]  # of a row that is written twice the last one written stays
    last[codes] = rows
    there = np.flatnonzero(last >= 0)
    order = pc.sort_indices(encoded.dictionary.take(pa.array(there))).to_numpy()
    first, last = first[there[order]], last[there[order]]
    found = data.take(pa.array(last)).combine_chunks().replace_schema_metadata(None)
    return found.append_column(FIRST, data[date].take(pa.array(first)).combine_chunks())


def insert(file: pa.Buffer, found: pa.Table | None) -> bytes:
    """The bytes of a Parquet file, with ``found`` before its footer."""
    data = memoryview(file)
    if found is None or FIRST in found.column_names[:-1]:
        return bytes(data)
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, found.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(found)
    body = stream.getvalue()
    footer = len(data) - 8 - struct.unpack("<I", data[-8:-4])[0]
    return b"".join([data[:footer], body, struct.pack("<Q", body.size), MAGIC, data[footer:]])


def read(source: Any, footer: int, prefetch: Callable[[Sequence[tuple[int, int]]], None]) -> pa.Table | None:
    """The ends that lie before the footer at that position; None where there are none."""
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
