"""Files of any table, as people have them: csv, spreadsheets and Parquet, read into a frame with inferred types."""

from __future__ import annotations

import codecs
import csv
import io
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from luxor_pipelines.errors import CorruptFileError, DataError, NotFoundError, SchemaError, UsageError, sample, shown
from luxor_pipelines.lake.storage.local import LocalStorage
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.lake.types.schema import LAST_UPDATED
from luxor_pipelines.settings import Settings

__all__ = ["KINDS", "Kind", "read_folder", "read_table_file", "typed_frame"]

logger = logging.getLogger(__name__)

Kind: TypeAlias = Literal["text", "number", "whole", "date", "flag"]
KINDS: tuple[Kind, ...] = ("text", "number", "whole", "date", "flag")

_TEXT_FILES = (".csv", ".csv.gz", ".tsv", ".txt")
_WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".xlsb", ".ods")
_PARQUET = (".parquet", ".pq")
_SEPARATORS = ",;\t|"
_ABSENT = ("", "#N/A", "#N/A N/A", "#n/d")
"""Cells of text that hold no value. Words such as ``nan`` are not among them: they may be tickers."""
_WHOLE = r"^[+-]?(0|[1-9]\d{0,17})$"
"""Digits that are a number; with a zero in front they are a code, and stay text."""
_NUMBER = r"^[+-]?(0|[1-9]\d*)?(\.\d+)?([eE][+-]?\d+)?$"
_LONG = r"^[+-]?\d{16,}$"
"""Digits that a float may not hold: among numbers that are not all whole they are a code, and stay text."""
_COMMA_NUMBER = r"^[+-]?(\d+|[1-9]\d{0,2}(\.\d{3})+)(,\d+)?([eE][+-]?\d+)?$"
"""A number with a decimal comma, and perhaps points between its thousands."""
_COMMA_THOUSANDS = r"^[+-]?[1-9]\d{0,2}(,\d{3})+$"
"""Digits with commas that may stand between thousands, as in English."""
_DATE = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?)?$"
_LARGEST = 2**63 - 1
_FLAGS = {"true": True, "false": False, "verdadeiro": True, "falso": False}


def read_table_file(path: Path, types: Mapping[str, Kind] | None = None) -> pd.DataFrame:
    """Read a csv, spreadsheet or Parquet file, or a folder of Parquet files, into a frame.

    A column of text becomes whole numbers, numbers, ISO dates or flags where every cell spells one. Digits with a
    zero in front, or more of them than a number holds, stay text, as do dates in any other order. A file whose
    separator is ``;`` may have decimal commas; points then stand between thousands. Of a workbook the first visible
    sheet is read.

    Parameters
    ----------
    path
        The file, or the folder.
    types
        The types of columns that are not to be inferred: ``text``, ``number``, ``whole``, ``date`` or ``flag``.

    Raises
    ------
    NotFoundError
        There is no such file.
    UsageError
        A kind of file that is not read, or a type for a column that the file does not have.
    CorruptFileError
        The file is not what its name says.
    DataError
        It has no columns, or the folder no Parquet files, or some besides those of one table.
    ForeignTableError
        The folder is a table in a format whose log says which rows count.
    SchemaError
        A cell does not fit the type that is asked for, a name of a column occurs twice, or one with cells has none.
    """
    name = path.name.lower()
    if not path.exists():
        raise NotFoundError(f"There is no file {shown(str(path), 300)}.", hint="Check the path.")
    if path.is_dir():
        table = _read_local_folder(path)
    elif name.endswith(_PARQUET):
        table = _read_parquet(path)
    elif name.endswith(_TEXT_FILES):
        table = _read_text(path)
    elif name.endswith(_WORKBOOKS):
        table = _read_workbook(path)
    else:
        raise UsageError(
            f"{path.name} is of no kind that can be loaded.",
            hint=f"Save it as one of {', '.join((*_TEXT_FILES, *_WORKBOOKS, *_PARQUET))}.",
        )
    return typed_frame(table, path.name, types)


def typed_frame(table: pa.Table, file: str, types: Mapping[str, Kind] | None = None) -> pd.DataFrame:
    """Return the rows of a file as a frame, with the types that are asked for, or that text spells.

    Raises
    ------
    UsageError, DataError, SchemaError
        As `read_table_file` does.
    """
    if not table.column_names:
        raise DataError(f"{file} has no columns.", hint="Its first row names the columns.")
    unknown = [column for column in types or {} if column not in table.column_names]
    if unknown:
        raise UsageError(
            f"{file} has no column {sample(unknown)}; it has {sample(table.column_names, 20)}.",
            hint="Correct the column in --type.",
        )
    columns = [_typed(table[column], column, (types or {}).get(column), file) for column in table.column_names]
    return arrow_to_frame(pa.table(columns, names=table.column_names))


def read_folder(table: Table, *, raw: bool = False) -> pa.Table | None:
    """Return the rows of a table that a path names, without the stamps of their loads; None where nothing is there.

    Parameters
    ----------
    raw
        Whether text stays as it is stored; else it is read by the conventions of the table's lake.

    Raises
    ------
    DataError
        The folder has files, besides those that are read, that may have rows too.
    LakeError, SchemaError
        As `Table.scan` raises them.
    """
    snapshot = table.find()
    if snapshot is None:
        return None
    read = {part.info.path for part in snapshot.parts}
    others = (info for info in table.storage.list(table.folder) if info.path not in read)
    strays = table.strays(info for info in others if table.recognise(info.path) is None or snapshot.layout == "folder")
    if strays and snapshot.layout != "file":
        raise DataError(
            f"{table.folder} has files of one table ({len(read)}), and others that are not read with them: "
            f"{sample(strays)}. Nothing was loaded.",
            hint="Move the others away, or load them by themselves.",
        )
    return table.scan(snapshot=snapshot, drop=(LAST_UPDATED,), raw=raw).data


def _read_local_folder(path: Path) -> pa.Table:
    """Read a folder of this machine as the lake reads one: partitions of ours, else plain files."""
    path = path.resolve()
    rows = read_folder(Table.at(LocalStorage(path.parent, Settings.from_env()), path.name), raw=True)
    if rows is None:
        raise DataError(
            f"{path.name} has no Parquet files.",
            hint="Name the folder that they lie in; csv files and workbooks are loaded one by one.",
        )
    return rows


def _read_parquet(path: Path) -> pa.Table:
    import pyarrow.dataset as ds

    try:
        return ds.dataset(path, format="parquet").to_table()
    except (pa.ArrowException, OSError) as error:
        raise CorruptFileError(
            f"{path.name} is no Parquet file ({_first_line(error)}).",
            hint="Write it again.",
        ) from error


def _read_text(path: Path) -> pa.Table:
    """Return every column as text; decimal commas are made points where the separator is no comma."""
    import gzip

    try:
        data = gzip.decompress(path.read_bytes()) if path.name.lower().endswith(".gz") else path.read_bytes()
        text = _decoded(data)
    except (OSError, EOFError, UnicodeError) as error:
        raise CorruptFileError(f"{path.name} cannot be read ({_first_line(error)}).", hint="Fetch it again.") from error
    header, _, body = text.partition("\n")
    separator = max(_SEPARATORS, key=header.count)
    names = next(csv.reader(io.StringIO(header.rstrip("\r")), delimiter=separator), [])
    if not any(names):
        return pa.table({})
    places = [str(place) for place in range(len(names))]  # names need not be unique yet
    options = pa_csv.ConvertOptions(
        column_types=dict.fromkeys(places, pa.string()),
        null_values=list(_ABSENT),
        strings_can_be_null=True,
    )
    parsing = pa_csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    reading = pa_csv.ReadOptions(column_names=places)
    try:
        columns = (
            pa_csv.read_csv(io.BytesIO(body.encode()), reading, parsing, options).columns
            if body.strip()
            else [pa.chunked_array([], pa.string()) for _ in places]
        )
    except pa.ArrowException as error:
        raise CorruptFileError(
            f"{path.name} cannot be read as rows of {len(names)} cells ({_first_line(error)}).",
            hint="Look at the line for a quote that is not closed, or a separator within a cell.",
        ) from error
    for name, column in zip(names, columns, strict=True):
        broken = column.filter(pc.fill_null(pc.match_substring_regex(column, "[\r\n]"), False))
        if len(broken):
            logger.warning(
                "%s, column %r: %d cells run over several lines, as after a quote that is not closed: %s",
                path.name,
                name,
                len(broken),
                sample([broken[0].as_py()]),
            )
    if separator == ";" or (separator != "," and any(_has_comma(column, sure=True) for column in columns)):
        columns = _with_points(columns)
    return _named(columns, names, path.name)


def _decoded(data: bytes) -> str:
    """Return a file's text: in UTF-8, in UTF-16 with its mark, or as Excel writes it in Brazil."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    for encoding in ("utf-8-sig", "cp1252"):
        with suppress(UnicodeDecodeError):
            return data.decode(encoding)
    return data.decode("latin-1")


def _named(columns: Sequence[pa.ChunkedArray | pa.Array], names: Sequence[str], file: str) -> pa.Table:
    """Return a file's columns by name, without those that have neither a name nor a cell.

    Raises
    ------
    SchemaError
        A name occurs twice, or a column with cells has none.
    """
    filled = [at for at, name in enumerate(names) if name.strip() or columns[at].null_count < len(columns[at])]
    nameless = [at + 1 for at in filled if not names[at].strip()]
    if nameless:
        raise SchemaError(
            f"{file} has cells in columns without a name: {sample(nameless)}, counted from 1.",
            hint="Name them in the file's first row, or clear them.",
        )
    kept = [names[at] for at in filled]
    repeated = sorted({name for name in kept if kept.count(name) > 1})
    if repeated:
        raise SchemaError(f"{file} names columns twice: {sample(repeated)}.", hint="Rename or remove one of each.")
    # A column without a value has no type yet: a later load may bring any.
    cells = [columns[at] if columns[at].null_count < len(columns[at]) else pa.nulls(len(columns[at])) for at in filled]
    return pa.table(cells, names=kept)


def _has_comma(column: pa.ChunkedArray, *, sure: bool = False) -> bool:
    """Return whether a column is numbers of which some have a decimal comma; ``sure``: no sign of thousands."""
    cells = pc.utf8_trim_whitespace(column).drop_null()
    commas = cells.filter(pc.match_substring(cells, ","))
    if not len(commas) or not _spells(cells, _COMMA_NUMBER):
        return False
    return not (sure and _spells(commas, _COMMA_THOUSANDS))


def _with_points(columns: Sequence[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    """Return the columns of a file that has decimal commas, these made points; without any as they are.

    A point in such a file stands between thousands, in columns without a comma too.
    """
    if not any(map(_has_comma, columns)):
        return list(columns)
    texts = [pc.utf8_trim_whitespace(column) for column in columns]
    return [
        pc.replace_substring(pc.replace_substring(text, ".", ""), ",", ".") if _spells(text, _COMMA_NUMBER) else column
        for text, column in zip(texts, columns, strict=True)
    ]


def _read_workbook(path: Path) -> pa.Table:
    """Return the cells of a workbook's first visible sheet."""
    try:
        with pd.ExcelFile(path, engine="calamine") as book:
            cells = [sheet for sheet in book.book.sheets_metadata if str(sheet.typ).endswith("WorkSheet")]
            sheets = [str(sheet.name) for sheet in cells if str(sheet.visible).endswith("Visible")]
            # Words such as "nan" are text; only empty cells and these are missing.
            absent = list(_ABSENT)
            rows = pd.read_excel(book, sheets[0], header=None, dtype=object, keep_default_na=False, na_values=absent)
            rows = rows.dropna(how="all")
    except Exception as error:  # a damaged workbook fails in any way
        raise CorruptFileError(
            f"{path.name} cannot be read as a workbook ({_first_line(error)}).", hint="Save it again, or as csv."
        ) from error
    if len(sheets) > 1:
        logger.warning("%s has the sheets %s: only the first is read", path.name, sample(sheets))
    if rows.empty:
        return pa.table({})
    names = ["" if name is None or name != name else str(name) for name in rows.iloc[0].tolist()]
    return _named([_cells(rows[at].iloc[1:]) for at in rows.columns], names, path.name)


def _cells(column: pd.Series) -> pa.Array:
    """Return a workbook's cells; where they are of several types, as text."""
    values = [None if value is None or value != value else value for value in column.tolist()]
    # Numbers are floats in a workbook; those that look whole come as integers of any size.
    values = [float(value) if isinstance(value, int) and abs(value) > _LARGEST else value for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _typed(column: pa.ChunkedArray, name: str, kind: Kind | None, file: str) -> pa.ChunkedArray:
    """Return a column in the type that is asked for, else in the one that its text spells."""
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if kind is None:
        return _inferred(pc.utf8_trim_whitespace(column)) if is_text else column
    target = {
        "text": pa.string(),
        "number": pa.float64(),
        "whole": pa.int64(),
        "date": pa.timestamp("us"),
        "flag": pa.bool_(),
    }[kind]
    try:
        if is_text and kind != "text":
            column = pc.utf8_trim_whitespace(column)
            column = _with_points([column])[0] if _has_comma(column, sure=True) else column
            return _flags(column) if kind == "flag" else column.cast(target)
        return column.cast(target)
    except (pa.ArrowException, KeyError) as error:
        raise SchemaError(
            f"{file}, column {name!r}: not every cell is a {kind} ({_first_line(error)}).",
            hint="Correct the cells, or give the column another --type.",
        ) from error


def _inferred(column: pa.ChunkedArray) -> pa.ChunkedArray:
    for pattern, kind in ((_WHOLE, pa.int64()), (_NUMBER, pa.float64()), (_DATE, pa.timestamp("us"))):
        if column.null_count < len(column) and _spells(column, pattern):
            if kind == pa.float64() and pc.any(pc.match_substring_regex(column, _LONG), min_count=0).as_py():
                return column
            try:
                return column.cast(kind)
            except pa.ArrowException:  # 2026-02-30 looks like a date
                return column
    words = pc.unique(pc.utf8_lower(column)).drop_null().to_pylist()
    return _flags(column) if words and set(words) <= set(_FLAGS) else column


def _spells(column: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(column, pattern), min_count=0).as_py())


def _flags(column: pa.ChunkedArray) -> pa.ChunkedArray:
    flags = [None if word is None else _FLAGS[word] for word in pc.utf8_lower(column).to_pylist()]
    return pa.chunked_array([pa.array(flags, pa.bool_())])


def _first_line(error: BaseException) -> str:
    return re.split(r"[\r\n]", str(error).strip(), maxsplit=1)[0][:200] or type(error).__name__
