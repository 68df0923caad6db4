"""The child process of `confined`: opens one workbook or Parquet file after another and sends on what is in it.

It runs as a script, imports nothing of this package, and gets its requests on standard input. A request is a line of
JSON, and the file's bytes after the one that opens it. An answer is a sequence of frames: a letter, a length, a
payload. ``J`` is JSON, ``D`` a piece of data, ``E`` an error, ``.`` the end.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import struct
import sys
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from itertools import islice
from pathlib import Path
from typing import Any

_PIECE = 2**20
"""Bytes of csv text that are sent at a time."""
_BATCH_CELLS = 2**21
"""Cells of a Parquet file that are decoded at a time."""
_BATCH_BYTES = 2**26
"""Bytes that they may have at most: 32 a cell."""


def serve(requests: Any, answers: Any, memory: int) -> None:
    """Answer requests until there are no more."""
    opened: _Workbook | _Parquet | None = None
    before = 0
    for line in iter(requests.readline, b""):
        request = json.loads(line)
        try:
            if "size" in request:
                opened = None
                kind = _Workbook if request["kind"] == "workbook" else _Parquet
                kind.load()
                before = _memory()
                _bound_memory(before + memory)
                opened = kind(requests.read(request["size"]))
                _send(answers, b"J", json.dumps(opened.description()).encode())
            elif opened is not None:
                for piece in opened.read(**request):
                    _send(answers, b"D", piece)
                _send(answers, b".", json.dumps({"kept": _memory() - before}).encode())
        except BaseException as error:  # noqa: BLE001  a panic of the Rust library is no Exception
            failure = {"kind": type(error).__name__, "message": str(error), "kept": _memory() - before}
            _send(answers, b"E", json.dumps(failure).encode())
        answers.flush()


def _send(answers: Any, letter: bytes, payload: bytes) -> None:
    answers.write(letter + struct.pack(">Q", len(payload)))
    answers.write(payload)


def _memory() -> int:
    """Return the bytes of address space that this process has; 0 where they are not told, as on Windows and macOS."""
    with contextlib.suppress(ImportError, OSError):
        import resource

        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    return 0


def _bound_memory(limit: int) -> None:
    """Have the operating system refuse this process more memory, where it can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


class _Workbook:
    """A workbook of any kind that calamine reads: .xlsx, .xlsm, .xlsb, .xls, .ods."""

    @staticmethod
    def load() -> None:
        import python_calamine  # noqa: F401

    def __init__(self, data: bytes) -> None:
        from python_calamine import CalamineWorkbook

        self._book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        self._sheet: Any = None

    def description(self) -> dict[str, Any]:
        """Return the sheets of cells, each with whether it is visible."""
        sheets = [sheet for sheet in self._book.sheets_metadata if str(sheet.typ).endswith("WorkSheet")]
        return {"sheets": [[sheet.name, str(sheet.visible).endswith("Visible")] for sheet in sheets]}

    def read(self, sheet: str, decimal: str, rows: int | None = None) -> Iterator[bytes]:
        """Yield the sheet as csv text, a record a row from the first on; ``rows`` of them, default all."""
        if self._sheet is None or self._sheet.name != sheet:
            self._sheet = self._book.get_sheet_by_name(sheet)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for row in islice(self._sheet.iter_rows(), rows):
            writer.writerow([_text(value, decimal) for value in row])
            if text.tell() > _PIECE:
                yield text.getvalue().encode(errors="replace")
                text.seek(0)
                text.truncate()
        yield text.getvalue().encode(errors="replace")


def _text(value: Any, decimal: str) -> str:
    """Return a cell as text: dates as ISO, numbers with the decimal sign that the sheet's text has."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 1e15
        return str(int(value)) if whole else repr(value).replace(".", decimal)
    if isinstance(value, datetime):
        return value.isoformat(" ") if value.time() != time() else value.date().isoformat()
    return value.isoformat() if isinstance(value, date) else str(value)


class _Parquet:
    """A Parquet file, of which only the columns that are asked for are decoded."""

    @staticmethod
    def load() -> None:
        import pyarrow as pa
        import pyarrow.parquet

        pa.set_memory_pool(pa.system_memory_pool())  # the other pools reserve more than they use

    def __init__(self, data: bytes) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        source = pa.BufferReader(data)
        about = pq.read_metadata(source)
        leaves = [about.schema.column(i) for i in range(len(about.schema))]
        # A long text that occurs in every row is in the file once, and stays so; Arrow cannot do that of texts that
        # are encoded as differences.
        plain = {
            leaf.path
            for i, leaf in enumerate(leaves)
            if leaf.physical_type == "BYTE_ARRAY" and not leaf.max_repetition_level
            if not any(_has_deltas(about.row_group(group).column(i)) for group in range(about.num_row_groups))
        }
        texts = sorted(plain)
        self._file = pq.ParquetFile(source, read_dictionary=texts, page_checksum_verification=True, pre_buffer=False)

    def description(self) -> dict[str, Any]:
        """Return columns with their types, and how much is in the file by what its footer says."""
        import pyarrow as pa

        about, columns = self._file.metadata, self._file.schema_arrow
        groups = range(about.num_row_groups)
        return {
            "names": columns.names,
            "types": [str(kind) for kind in columns.types],
            "nested": [pa.types.is_nested(kind) for kind in columns.types],
            "columns": about.num_columns,
            "index": [name for name in _index(columns.pandas_metadata) if name in columns.names],
            "rows": about.num_rows,
            "row_groups": about.num_row_groups,
            "bytes": sum(about.row_group(i).total_byte_size for i in groups),
        }

    def read(self, columns: list[str]) -> Iterator[bytes]:
        """Yield the columns, some rows at a time, each time as a stream of Arrow's."""
        import pyarrow as pa

        rows = max(1, min(2**16, _BATCH_CELLS // max(1, len(columns))))
        for batch in self._file.iter_batches(rows, columns=columns, use_threads=False):
            batch.validate(full=True)  # the decoder lets codes without a word pass, and text that is no UTF-8
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as stream:
                stream.write_batch(batch)
            if sink.tell() > _BATCH_BYTES:
                raise MemoryError
            yield sink.getvalue().to_pybytes()


def _has_deltas(chunk: Any) -> bool:
    return any(encoding.startswith("DELTA") for encoding in chunk.encodings)


def _index(metadata: dict[str, Any] | None) -> Iterable[str]:
    """Return the columns that were a pandas frame's index."""
    return [name for name in (metadata or {}).get("index_columns", []) if isinstance(name, str)]


if __name__ == "__main__":
    paths, limit = sys.argv[1:]
    sys.path[:] = json.loads(paths)
    serve(sys.stdin.buffer, sys.stdout.buffer, int(limit))
