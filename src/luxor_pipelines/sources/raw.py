"""Raw files as batches of cells: text, workbooks and Parquet, packed or not, within `Limits`.

Nothing here interprets a cell. A file that is wrong as a whole is a `CorruptFileError` or a `DataError` that names
it, never an exception of the library that read it.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import time
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from luxor_pipelines.errors import CorruptFileError, DataError, LuxorError, sample
from luxor_pipelines.sources.confined import Confined
from luxor_pipelines.sources.limits import Limits

__all__ = ["COLUMNS_MAX", "Batch", "RawFile", "check_width", "open_raw"]

COLUMNS_MAX = 16_384
"""The most columns of a table, which is as many as a sheet has: each costs time and memory of its own."""
ROW_GROUPS_MAX = 10_000
"""The most row groups of a Parquet file: of as many rows they are a thousand each."""
HEAD_ROWS = 100
"""Rows that are looked at to find the header."""

_TEXT = (".csv", ".txt", ".tsv")
_WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
_KINDS = (*_TEXT, ".csv.gz", ".txt.gz", ".tsv.gz", ".parquet", *_WORKBOOKS, ".zip")

_PIECE = 2**20
_BLOCK = 4 * 2**20
"""Bytes in which a record of a text file must fit, and the head of the file."""
_WIDE_BLOCK = 8 * 2**20
"""The same for files of many columns, where each block costs time a column."""
_MANY_COLUMNS = 256
_BATCH_CELLS = 2**21
"""The most cells of a batch, blank ones included."""
_RAGGED_MAX = 300
"""Characters that are kept of a row with the wrong number of cells."""
_END = "\x02end of the file\x02"
"""A record of these cells is read after the last one: a quote that nobody closed would swallow it."""


class Batch(NamedTuple):
    """Some rows of a file.

    ``columns`` are Arrow arrays of one length, in the order that was asked for; ``rows`` are their numbers in the
    file: the first record of a text file is 1, a sheet has Excel's own numbers, the first row of a Parquet file is 1.
    """

    columns: list[pa.Array]
    rows: NDArray[np.int64]


class RawFile(ABC):
    """An open file.

    Attributes
    ----------
    file
        Its name, for messages.
    head
        The first records, as text. A Parquet file has one: the names of its columns.
    ragged
        After `batches`: the rows that had the wrong number of cells, the start of each, by number.
    is_sheet
        Whether it is a workbook's sheet, whose cells may have been dates and numbers.
    """

    is_sheet = False

    def __init__(self, file: str, head: list[list[str]]) -> None:
        self.file = file
        self.head = head
        self.ragged: dict[int, str] = {}

    @abstractmethod
    def batches(self, columns: Sequence[int], header: int = 1, *, repeating: Collection[int] = ()) -> Iterator[Batch]:
        """Yield the cells of some columns, by position, of the rows below the header; can be called again.

        An empty cell of text is "". Text of the columns in ``repeating`` comes as a dictionary, and so does all text
        of a Parquet file, whose other columns come in their types.

        Raises
        ------
        CorruptFileError, DataError
        """

    def cells(self, ragged: str) -> list[str]:
        """Return the cells of a row in `ragged`."""
        return [ragged]


@contextmanager
def open_raw(
    data: bytes,
    file: str,
    *,
    name: str | None = None,
    separator: str | None = None,
    encoding: str = "utf-8",
    decimal: str = ".",
    sheet: str | None = None,
    limits: Limits | None = None,
    confined: Confined | None = None,
) -> Iterator[RawFile]:
    """Open a raw file by the extension of its name.

    Parameters
    ----------
    data, file
        The file's bytes, and what messages call it.
    name
        Its name, where ``file`` does not end in it.
    separator
        The character between a text file's cells; default a tab in .tsv, else a comma.
    encoding
        The encoding of a text file.
    decimal
        The decimal sign to write a sheet's numbers with, the one that its text has.
    sheet
        The sheet of a workbook; may be left out when one is visible.
    limits
        The file's limits; default the settings' defaults.
    confined
        The process that reads workbooks and Parquet files; default one for this file alone.

    Raises
    ------
    CorruptFileError
        It is not what its extension says, is damaged, or is beyond a limit.
    DataError
        Another extension, an archive of several files, no such sheet, too many columns.
    """
    limits = limits or Limits()
    if len(data) > limits.bytes:
        raise limits.refused(file, f"has {len(data):,} bytes; {limits.bytes:,} are read at most", "bytes")
    watch = _Watch(file, limits)
    if confined is None:
        with Confined(limits) as own:
            yield _open(data, name or file, separator, encoding, decimal, sheet, watch, own)
    else:
        yield _open(data, name or file, separator, encoding, decimal, sheet, watch, confined)


class _Watch:
    """The limits of one file: how long it has been read, how much has come out of it."""

    def __init__(self, file: str, limits: Limits) -> None:
        self.file = file
        self.limits = limits
        self._end = time.monotonic() + limits.seconds

    def check_time(self) -> None:
        if time.monotonic() > self._end:
            raise self.limits.refused(self.file, f"took more than {self.limits.seconds:g} s to read", "seconds")

    def bounded(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the pieces, as long as they are within the limits."""
        size = 0
        for piece in pieces:
            self.check_time()
            size += len(piece)
            self.check_size(size)
            yield piece

    def check_size(self, size: int) -> None:
        if size > self.limits.unpacked:
            fault = f"has more than {self.limits.unpacked:,} bytes once unpacked"
            raise self.limits.refused(self.file, fault, "unpacked")

    def check_rows(self, rows: int, cells: int) -> None:
        if rows > self.limits.rows:
            raise self.limits.refused(self.file, f"has more than {self.limits.rows:,} rows", "rows")
        if cells > self.limits.cells:
            raise self.limits.refused(self.file, f"has more than {self.limits.cells:,} cells", "cells")


def _open(
    data: bytes,
    name: str,
    separator: str | None,
    encoding: str,
    decimal: str,
    sheet: str | None,
    watch: _Watch,
    confined: Confined,
) -> RawFile:
    name = name.lower()
    pieces: Callable[[], Iterable[bytes]] = partial(_parts, data)
    if name.endswith(".zip"):
        member, pieces = _only_member(data, watch)
        name = member.lower()
        if not name.endswith(_TEXT):
            data = b"".join(watch.bounded(pieces()))
    elif name.endswith(".gz"):
        name, pieces = name.removesuffix(".gz"), partial(_gunzipped, data, watch)
    if name.endswith(_TEXT):
        separator = separator or ("\t" if name.endswith(".tsv") else ",")
        return _Text(pieces, separator, encoding, watch)
    if name.endswith(".parquet"):
        return _Parquet(data, watch, confined)
    if name.endswith(_WORKBOOKS):
        return _Sheet(data, decimal, sheet, watch, confined)
    raise DataError(
        f"{watch.file} has an extension that is not read.",
        hint=f"Use one of {', '.join(_KINDS)}; a name or folder that starts with _ is left alone.",
    )


def _corrupt(file: str, kind: str, error: BaseException | str) -> CorruptFileError:
    return CorruptFileError(
        f"{file} cannot be read as {kind}: {str(error).strip().rstrip('.') or type(error).__name__}.",
        hint="Replace the file by a good copy, or remove it.",
    )


# --- unpacking ----------------------------------------------------------------------------------


def _parts(data: bytes) -> Iterator[bytes]:
    return (data[start : start + _PIECE] for start in range(0, len(data), _PIECE))


def _gunzipped(data: bytes, watch: _Watch) -> Iterator[bytes]:
    """Yield the content of a gzip file, which may consist of several, in pieces."""
    position = 0
    try:
        while True:
            stream = zlib.decompressobj(wbits=31)
            while not stream.eof:
                packed = stream.unconsumed_tail
                if not packed:
                    packed = data[position : position + _PIECE]
                    position += len(packed)
                if not packed:
                    raise _corrupt(watch.file, "a gzip file", "it is cut short")
                watch.check_time()
                yield stream.decompress(packed, _PIECE)
            position -= len(stream.unused_data)
            while position < len(data) and not data[position]:  # some writers fill up the last block
                packed = data[position : position + _PIECE]
                position += len(packed) - len(packed.lstrip(b"\0"))
            if position == len(data):
                return
    except zlib.error as error:
        raise _corrupt(watch.file, "a gzip file", error) from error


def _only_member(data: bytes, watch: _Watch) -> tuple[str, Callable[[], Iterable[bytes]]]:
    """Return the one file in a zip archive: its name, and what gives its content in pieces."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [member for member in archive.infolist() if not _is_by_product(member)]
    except _UNPACKING as error:
        raise _corrupt(watch.file, "a zip archive", error) from error
    if len(members) != 1:
        names = sample(member.filename for member in members) or "none"
        raise DataError(
            f"{watch.file} holds {len(members)} files ({names}), not one.",
            hint="Replace it by a zip archive of exactly one file, or unpack it.",
        )
    (member,) = members
    return member.filename, partial(_unzipped, data, member, watch)


def _is_by_product(member: zipfile.ZipInfo) -> bool:
    part = member.filename.rpartition("/")[2].lower()
    return (
        member.is_dir() or member.filename.startswith("__MACOSX/") or part in {".ds_store", "thumbs.db", "desktop.ini"}
    )


def _unzipped(data: bytes, member: zipfile.ZipInfo, watch: _Watch) -> Iterator[bytes]:
    try:
        if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise _corrupt(watch.file, "a zip archive", "it is compressed in a way that is not read")
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(member) as stream:
            while piece := stream.read(_PIECE):
                yield piece
    except LuxorError:
        raise
    except _UNPACKING as error:
        raise _corrupt(watch.file, "a zip archive", error) from error


_UNPACKING = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,  # encrypted
    NotImplementedError,  # a compression method of another world
    ValueError,
    IndexError,
)


# --- text ---------------------------------------------------------------------------------------


class _Text(RawFile):
    """Delimited text. A quoted cell may hold the separator, doubled quotes and line breaks."""

    kind = "csv text"

    def __init__(self, pieces: Callable[[], Iterable[bytes]], separator: str, encoding: str, watch: _Watch) -> None:
        self._pieces = pieces
        self._separator = separator
        self._encoding = encoding
        self._watch = watch
        self._quoted = False
        """Whether a quote has been seen."""
        self._ends: list[int] = []
        """The end of each record of the head, in bytes of UTF-8."""
        super().__init__(watch.file, [])
        self.head = self._records(self._start())

    def _start(self) -> bytes:
        start = bytearray()
        for piece in self._utf8(self._pieces()):
            start += piece
            if len(start) >= _BLOCK:
                break
        return bytes(start[:_BLOCK])

    def _utf8(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the text as UTF-8 without a byte-order mark, in pieces."""
        decoder = codecs.getincrementaldecoder("utf-8-sig" if self._encoding == "utf-8" else self._encoding)()
        try:
            for piece in self._watch.bounded(pieces):
                yield decoder.decode(piece).encode()
            yield decoder.decode(b"", final=True).encode()
        except UnicodeError as error:
            raise CorruptFileError(
                f"{self.file} cannot be read as {self.kind} in {self._encoding.upper()}: {error}.",
                hint="Replace the file by a good copy, or declare its encoding in _formats.json, such as cp1252.",
            ) from error

    def _records(self, text: bytes) -> list[list[str]]:
        size = 0

        def lines() -> Iterator[str]:  # only as many as the records have are decoded
            nonlocal size
            for line in io.TextIOWrapper(io.BytesIO(text), "utf-8", errors="ignore", newline=""):
                size += len(line.encode())
                yield line

        records: list[list[str]] = []
        try:
            for record in csv.reader(lines(), delimiter=self._separator):
                records.append(record)
                self._ends.append(size)
                if len(records) == HEAD_ROWS:
                    break
        except csv.Error as error:
            if not records:
                raise _corrupt(self.file, self.kind, f"its first line: {error}") from error
        return records

    def batches(self, columns: Sequence[int], header: int = 1, *, repeating: Collection[int] = ()) -> Iterator[Batch]:
        width = len(self.head[header - 1])
        check_width(width, self.file)
        self.ragged = {}
        refusals: list[LuxorError] = []
        reader = self._reader(columns, header, repeating, refusals)
        total, number, passed, ended = 0, header, 0, False
        while True:
            try:
                cells = reader.read_next_batch()
            except StopIteration:
                break
            except pa.ArrowException as error:
                raise (refusals or [self._unreadable(error)])[0] from error
            if not len(cells):
                continue
            # Rows with the wrong number of cells have a number, too.
            gaps = list(itertools.islice(self.ragged, passed, None))
            end = number + len(cells)
            while (moved_end := number + len(cells) + sum(gap < end for gap in gaps)) != end:
                end = moved_end
            rows = np.setdiff1d(np.arange(number, end), gaps, assume_unique=True)
            passed, number = passed + (end - number - len(rows)), end
            ended = cells.column(0)[-1].as_py() == _END
            first, last = int(rows[0] == header), len(rows) - ended
            total += last - first
            self._watch.check_rows(total + len(self.ragged), total * len(columns))
            batch = Batch([column.slice(first, last - first) for column in cells.columns], rows[first:last])
            self._check_line_breaks(batch)
            for part in _slices(batch):
                self._watch.check_time()
                yield part
        if not ended:
            raise self._broken("a quote is open at its end")

    def _reader(
        self, columns: Sequence[int], header: int, repeating: Collection[int], refusals: list[LuxorError]
    ) -> Any:
        width = len(self.head[header - 1])

        def set_aside(row: Any) -> str:
            number = header - 1 + row.number
            if len(self.ragged) >= self._watch.limits.bad_rows:
                fault = (
                    f"has more than {self._watch.limits.bad_rows:,} rows with another number of cells than its header"
                )
                refusals.append(self._watch.limits.refused(self.file, fault, "bad_rows"))
            elif "\n" in row.text or "\r" in row.text:
                refusals.append(self._broken(f"the record in row {number:,} runs over several lines"))
            self.ragged[number] = row.text[:_RAGGED_MAX]
            return "error" if refusals else "skip"

        word = pa.dictionary(pa.int32(), pa.string())
        # The header is read as a row like the others, since its names need not be unique; in one thread, so that
        # rows are numbered.
        try:
            return pa_csv.open_csv(
                pa.PythonFile(_Stream(self._below(header, width)), "r"),
                read_options=pa_csv.ReadOptions(
                    use_threads=False,
                    block_size=_WIDE_BLOCK if width > _MANY_COLUMNS else _BLOCK,
                    autogenerate_column_names=True,
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self._separator,
                    newlines_in_values=True,
                    ignore_empty_lines=False,
                    invalid_row_handler=set_aside,
                ),
                convert_options=pa_csv.ConvertOptions(
                    check_utf8=False,
                    include_columns=[f"f{i}" for i in columns],
                    column_types={f"f{i}": word if i in repeating else pa.string() for i in columns},
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowException as error:
            raise (refusals or [self._unreadable(error)])[0] from error

    def _below(self, header: int, width: int) -> Iterator[bytes]:
        """Yield the text from the header on, and after it the record `_END`."""
        skip = self._ends[header - 2] if header > 1 else 0
        last = b""
        for piece in self._utf8(self._pieces()):
            text = piece[skip:]
            skip -= len(piece) - len(text)
            if text:
                last = text[-1:]
                self._quoted = self._quoted or b'"' in text
                yield text
        line = self._separator.join([_END] * width).encode()
        yield (b"" if last in {b"\n", b"\r"} else b"\n") + line + b"\n"

    def _check_line_breaks(self, batch: Batch) -> None:
        if not self._quoted:
            return
        for column in batch.columns:
            words = column.dictionary if pa.types.is_dictionary(column.type) else column
            broken = pc.or_(pc.match_substring(words, "\n"), pc.match_substring(words, "\r"))  # quicker than a regex
            if pc.any(broken, min_count=0).as_py():
                if pa.types.is_dictionary(column.type):
                    broken = broken.take(column.indices)
                at = pc.index(broken, True).as_py()
                if at >= 0:
                    raise self._broken(f"the record in row {batch.rows[at]:,} runs over several lines")

    def _broken(self, fault: str) -> CorruptFileError:
        return CorruptFileError(
            f"{self.file} cannot be read as {self.kind}: {fault}, as after a quote that is not closed.",
            hint="Close the quote, or replace the file by a good copy.",
        )

    def _unreadable(self, error: Exception) -> CorruptFileError:
        if "straddl" in str(error):
            return self._broken(f"a record is longer than {_BLOCK / 1e6:.0f} MB")
        return _corrupt(self.file, self.kind, error)

    def cells(self, ragged: str) -> list[str]:
        try:
            return next(csv.reader([ragged], delimiter=self._separator), [])
        except csv.Error:
            return [ragged]


def _slices(batch: Batch) -> Iterator[Batch]:
    step = max(1, _BATCH_CELLS // len(batch.columns))
    for start in range(0, len(batch.rows), step):
        yield Batch([column.slice(start, step) for column in batch.columns], batch.rows[start : start + step])


class _Stream(io.RawIOBase):
    """A file object that gives the bytes of an iterator."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, fewer only at the end."""
        pieces, missing = [], size
        while missing:
            if not self._rest:
                self._rest = next(self._pieces, b"")
                if not self._rest:
                    break
            pieces.append(self._rest[:missing])
            self._rest = self._rest[missing:]
            missing -= len(pieces[-1])
        return b"".join(pieces)


def check_width(width: int, file: str) -> None:
    """Refuse a file of more than `COLUMNS_MAX` columns.

    Raises
    ------
    DataError
    """
    if width > COLUMNS_MAX:
        raise DataError(
            f"{file} has {width:,} columns; {COLUMNS_MAX:,} are read at most.",
            hint="Write it as a long file: the columns Date, Asset, Last_Price.",
        )


# --- workbooks and Parquet ----------------------------------------------------------------------


class _Sheet(_Text):
    """A sheet of a workbook, which comes as text."""

    kind = "a workbook"
    is_sheet = True

    def __init__(self, data: bytes, decimal: str, sheet: str | None, watch: _Watch, confined: Confined) -> None:
        self._confined = confined
        _check_archive(data, watch)
        sheets = confined.open("workbook", data, watch.file)["sheets"]
        self._request = {"sheet": _choose_sheet(sheets, sheet, watch.file), "decimal": decimal}
        super().__init__(self._all, ",", "utf-8", watch)

    def _all(self) -> Iterator[bytes]:
        return self._confined.read(whole=False, **self._request)

    def _start(self) -> bytes:
        start = self._confined.read(whole=False, rows=HEAD_ROWS, **self._request)
        return b"".join(self._utf8(start))


def _check_archive(data: bytes, watch: _Watch) -> None:
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return  # .xls, or nothing that will be read
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            watch.check_size(sum(member.file_size for member in archive.infolist()))
    except _UNPACKING as error:
        raise _corrupt(watch.file, "a workbook", error) from error


def _choose_sheet(sheets: list[tuple[str, bool]], sheet: str | None, file: str) -> str:
    chosen = [name for name, visible in sheets if (visible if sheet is None else name == sheet)]
    if len(chosen) != 1:
        names = sample([name for name, _ in sheets], 10) or "none"
        raise DataError(
            f"{file} has the sheets {names}"
            + (f", none called {sheet!r}." if sheet is not None else "; which of them is meant is not declared."),
            hint='Name it in _formats.json: {"<file name>": {"sheet": "<sheet name>"}}.',
        )
    return chosen[0]


class _Parquet(RawFile):
    """A Parquet file; what was a pandas frame's index comes first."""

    def __init__(self, data: bytes, watch: _Watch, confined: Confined) -> None:
        self._confined = confined
        self._watch = watch
        about = confined.open("parquet", data, watch.file)
        self._stored: list[str] = about["names"]
        check_width(max(len(self._stored), about["columns"]), watch.file)
        if about["row_groups"] > ROW_GROUPS_MAX:
            raise DataError(
                f"{watch.file} has {about['row_groups']:,} row groups; {ROW_GROUPS_MAX:,} are read at most.",
                hint="Write it with larger row groups.",
            )
        watch.check_size(about["bytes"])
        watch.check_rows(about["rows"], 0)
        index: list[str] = about["index"]
        positions = sorted(range(len(self._stored)), key=lambda i: self._stored[i] not in index)
        self._positions = positions
        self._types: list[str] = about["types"]
        self._nested: list[bool] = about["nested"]
        names = [self._stored[i] for i in positions]
        if "Date" not in names:
            names = ["Date" if name in index and name.startswith("__index_level_") else name for name in names]
        super().__init__(watch.file, [names])

    def batches(
        self,
        columns: Sequence[int],
        header: int = 1,
        *,
        repeating: Collection[int] = (),  # noqa: ARG002  all text repeats
    ) -> Iterator[Batch]:
        stored = [self._positions[i] for i in columns]
        for column, position in zip(columns, stored, strict=True):
            if self._nested[position]:
                raise DataError(
                    f"{self.file} cannot be read: column {self.head[0][column]!r}: its cells are of the type "
                    f"{self._types[position]}.",
                    hint="Write it as plain dates, names and numbers.",
                )
        # Arrow reads columns by name, and returns all columns of a name, one after the other.
        names = list(dict.fromkeys(self._stored[position] for position in stored))
        order = [i for name in names for i, stored_name in enumerate(self._stored) if stored_name == name]
        places = [order.index(position) for position in stored]
        number = header
        for piece in self._confined.read(whole=True, columns=names):
            self._watch.check_time()
            with pa.ipc.open_stream(piece) as stream:
                cells = stream.read_next_batch()
            rows = np.arange(number, number + len(cells))
            number += len(cells)
            self._watch.check_rows(number - header, (number - header) * len(columns))
            yield Batch([cells.column(i) for i in places], rows)
