"""Raw files to tables of cells as found: csv, Parquet and Excel, packed or not, within bounds.

Nothing here interprets a cell. Whatever is wrong with a file as a whole is a `CorruptFileError`
or a `DataError` that names it, never an exception of the library that read it.
"""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from luxor_pipelines.errors import CorruptFileError, DataError, LuxorError, sample

__all__ = ["RawTable", "gunzip", "read_csv", "read_parquet", "read_xlsx", "too_large", "unzip_csv"]

CELLS_MAX = 20_000_000
"""The most cells read from one sheet: openpyxl takes seconds for a million."""

COLUMNS_MAX = 16_384
"""The most columns of a table, which is as many as a sheet has: each costs time and memory of its own."""
_HEADER_MAX = 2**24
"""Bytes in which the header of a csv file must end."""
_RAGGED_MAX = 10_000
"""Characters that are kept of a row with the wrong number of cells."""

_UNPACKING = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,  # encrypted
    NotImplementedError,  # a compression method of another world
    ValueError,
    IndexError,
)


@dataclass(frozen=True)
class RawTable:
    """A file's cells as found.

    Attributes
    ----------
    names
        The header's cells.
    columns
        One Arrow array per name, all of one length: text from csv and Excel, with "" for an empty
        cell; any type from Parquet.
    rows
        For each row of ``columns``, its 1-based row in the file. The header of a csv file is row 1;
        a sheet has Excel's own numbers; Parquet, which has no header row, starts at 1.
    ragged
        Rows with too few or too many cells, by row; they are not in ``columns``.
    """

    names: list[str]
    columns: list[pa.Array]
    rows: NDArray[np.int64]
    ragged: dict[int, list[str]]


def unzip_csv(data: bytes, file: str, limit: int) -> bytes:
    """Return the one csv file in the zip archive ``data``, of ``limit`` bytes at most.

    Raises
    ------
    CorruptFileError
        Not a zip archive, damaged, encrypted, or larger than ``limit`` once unpacked.
    DataError
        No csv file in it, or several.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith(".csv")]
            if len(names) != 1:
                raise DataError(
                    f"{file} holds {len(names)} csv files ({sample(names) or 'none'}), not one.",
                    hint="Replace it by a zip archive of exactly one csv file.",
                )
            with archive.open(names[0]) as member:
                return _read_bounded(member, file, limit)
    except LuxorError:
        raise
    except _UNPACKING as error:
        raise _corrupt(file, "a zip archive", error) from error


def gunzip(data: bytes, file: str, limit: int) -> bytes:
    """Return the content of the gzip file ``data``, of ``limit`` bytes at most.

    Raises
    ------
    CorruptFileError
        Not a gzip file, damaged or cut short, or larger than ``limit`` once unpacked.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            return _read_bounded(stream, file, limit)
    except LuxorError:
        raise
    except _UNPACKING as error:
        raise _corrupt(file, "a gzip file", error) from error


def _read_bounded(stream: IO[bytes] | gzip.GzipFile, file: str, limit: int) -> bytes:
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise too_large(file, limit)
    return content


def too_large(file: str, limit: int) -> CorruptFileError:
    """The error for a file of more than ``limit`` bytes, once unpacked."""
    return CorruptFileError(
        f"{file} is larger than {limit / 1e6:,.0f} MB once unpacked.",
        hint="Check where it comes from; split it if it is genuine.",
    )


def _corrupt(file: str, kind: str, error: BaseException | str) -> CorruptFileError:
    return CorruptFileError(
        f"{file} cannot be read as {kind}: {str(error).rstrip('.') or type(error).__name__}.",
        hint="Replace the file by a good copy, or remove it.",
    )


def read_csv(data: bytes, file: str, separator: str = ",") -> RawTable:
    """Read csv text (UTF-8, with or without byte-order mark) as a table of text.

    Rows that are blank from end to end are left out. A quoted cell may hold the separator, doubled
    quotes and line breaks; such a record counts as one row.

    Raises
    ------
    CorruptFileError
        Empty, not UTF-8, or otherwise not csv.
    DataError
        Too many columns.
    """
    ragged: dict[int, list[str]] = {}

    def set_aside(row: Any) -> str:
        ragged[row.number] = _cells(row.text[:_RAGGED_MAX], separator)
        return "skip"

    try:
        # Of a row with the wrong number of cells Arrow would only grumble, and drop it.
        ends = pa.py_buffer(np.array([0, len(data)], dtype=np.int64))
        pa.Array.from_buffers(pa.large_string(), 1, [None, ends, pa.py_buffer(data)]).validate(full=True)
        header = io.TextIOWrapper(io.BytesIO(data[:_HEADER_MAX]), encoding="utf-8-sig", newline="")
        width = len(next(csv.reader(header, delimiter=separator), []))
        _check_width(width, file)
        # The header is read as a row like the others, since its names need not be unique; in one
        # block and one thread, so that rows are numbered and none straddles two blocks.
        data = data if data.endswith((b"\n", b"\r")) else data + b"\n"
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            read_options=pa_csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, autogenerate_column_names=True
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=separator,
                newlines_in_values=True,
                ignore_empty_lines=False,
                invalid_row_handler=set_aside,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={f"f{i}": pa.string() for i in range(width)}, strings_can_be_null=False
            ),
        )
    except (pa.ArrowException, csv.Error, UnicodeDecodeError) as error:
        raise _corrupt(file, "csv text in UTF-8", error) from error
    if table.num_columns != width or any(not pa.types.is_string(kind) for kind in table.schema.types):
        raise _corrupt(file, "csv text", "its first line is not a header")
    columns = [column.combine_chunks() for column in table.columns]
    rows = np.arange(1, table.num_rows + len(ragged) + 1, dtype=np.int64)
    rows = np.delete(rows, np.fromiter(ragged, np.int64, len(ragged)) - 1)
    return _without_blank_rows([c[0].as_py() for c in columns], [c.slice(1) for c in columns], rows[1:], ragged)


def _check_width(width: int, file: str) -> None:
    if width > COLUMNS_MAX:
        raise DataError(
            f"{file} has {width:,} columns; {COLUMNS_MAX:,} are read at most.",
            hint="Write it as a long file: the columns Date, Asset, Last_Price.",
        )


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return [line]


def _without_blank_rows(
    names: list[str], columns: list[pa.Array], rows: NDArray[np.int64], ragged: dict[int, list[str]]
) -> RawTable:
    filled = np.zeros(len(rows), dtype=bool)
    for column in columns:
        filled |= pc.greater(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
    if not filled.all():
        columns, rows = [column.filter(pa.array(filled)) for column in columns], rows[filled]
    return RawTable(names, columns, rows, {row: cells for row, cells in ragged.items() if any(cells)})


def read_parquet(data: bytes, file: str, limit: int) -> RawTable:
    """Read a Parquet file, its columns as typed in it.

    Raises
    ------
    CorruptFileError
        Not Parquet, damaged, or larger than ``limit`` bytes once unpacked.
    """
    try:
        about = pq.read_metadata(pa.BufferReader(data))
        leaves = [about.schema.column(i) for i in range(about.num_columns)]
        # A long text that occurs in every row is in the file once: read as numbers of texts, and counted first.
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and not leaf.max_repetition_level]
        options: dict[str, Any] = {"page_checksum_verification": True, "read_dictionary": texts}
        with pq.ParquetFile(pa.BufferReader(data), **options) as parquet:
            _check_width(about.num_columns, file)
            size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
            # Runs of equal values take next to nothing in the file, but eight bytes each outside it.
            if max(size, 8 * about.num_rows * about.num_columns) > limit:
                raise too_large(file, limit)
            table = parquet.read()
            table.validate(full=True)  # that text is UTF-8, above all
            if sum(map(_text_bytes, table.columns)) > limit:
                raise too_large(file, limit)
    except LuxorError:
        raise
    except (pa.ArrowException, OSError, ValueError, EOFError) as error:
        raise _corrupt(file, "a Parquet file", error) from error
    columns = [_plain(column).combine_chunks() for column in table.columns]
    return RawTable(table.column_names, columns, np.arange(1, table.num_rows + 1, dtype=np.int64), {})


def _text_bytes(column: pa.ChunkedArray) -> int:
    """Bytes that a column of numbers of texts has once these are written out."""
    if not pa.types.is_dictionary(column.type):
        return 0
    lengths = (pc.binary_length(chunk.dictionary.cast(pa.large_binary())) for chunk in column.chunks)
    return sum(
        pc.sum(length.cast(pa.int64()).take(chunk.indices), min_count=0).as_py()
        for length, chunk in zip(lengths, column.chunks, strict=True)
    )


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def read_xlsx(data: bytes, file: str, limit: int, as_text: Callable[[Any], str], sheet: str | None = None) -> RawTable:
    """Read one sheet of an Excel workbook as a table of text; its first row is the header.

    Parameters
    ----------
    as_text
        Writes a cell that is neither empty nor text (a number, a date, …) as text.
    sheet
        The sheet's name; may be left out when the workbook has only one.

    Raises
    ------
    CorruptFileError
        Not a workbook, damaged, or larger than ``limit`` bytes or 20 million cells once unpacked.
    DataError
        No sheet of that name, or several and none named; too many columns.
    """
    import openpyxl

    try:
        _check_size(data, file, limit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions it does not know
            workbook = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
            try:
                return _read_sheet(_choose_sheet(workbook.worksheets, file, sheet), file, as_text)
            finally:
                workbook.close()
    except LuxorError:
        raise
    except Exception as error:  # openpyxl raises whatever the damaged XML leads it to
        raise _corrupt(file, "an Excel workbook", error) from error


def _check_size(data: bytes, file: str, limit: int) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:  # which never unpacks more than it declares
        if sum(member.file_size for member in archive.infolist()) > limit:
            raise too_large(file, limit)


def _choose_sheet(sheets: list[Any], file: str, name: str | None) -> Any:
    chosen = [sheet for sheet in sheets if name is None or sheet.title == name]
    if len(chosen) != 1:
        raise DataError(
            f"{file} has the sheets {sample((sheet.title for sheet in sheets), 10)}"
            + (f", none called {name!r}." if name is not None else "; which of them is meant is not declared."),
            hint='Name it in _formats.json: {"<file name>": {"sheet": "<sheet name>"}}.',
        )
    return chosen[0]


def _read_sheet(sheet: Any, file: str, as_text: Callable[[Any], str]) -> RawTable:
    def text(value: Any) -> str:
        return "" if value is None else value if isinstance(value, str) else as_text(value)

    sheet.reset_dimensions()  # what the file claims about its size need not be so
    found = sheet.iter_rows(values_only=True)
    names = [text(value) for value in next(found, ())]
    while names and not names[-1]:
        names.pop()
    width = len(names)
    _check_width(width, file)
    kept: list[list[str]] = []
    rows: list[int] = []
    ragged: dict[int, list[str]] = {}
    seen = 0
    for row, values in enumerate(found, start=2):
        seen += max(len(values), 1)  # a row number far below is led up to by as many empty rows
        if seen > CELLS_MAX:
            raise CorruptFileError(
                f"{file} has more than {CELLS_MAX:,} cells in the sheet {sheet.title!r}.",
                hint="Save it as csv or Parquet, or split it.",
            )
        cells = [text(value) for value in values]
        if not any(cells):
            continue
        if any(cells[width:]):
            ragged[row] = cells
            continue
        kept.append(cells[:width] + [""] * (width - len(cells)))
        rows.append(row)
    columns = [pa.array([cells[i] for cells in kept], pa.string()) for i in range(width)]
    return RawTable(names, columns, np.array(rows, dtype=np.int64), ragged)
