"""Files that people bring: a new lake's folders, raw files put into it, and tables loaded from files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import pyarrow as pa

from luxor_pipelines.catalog import ASSETS, HIST_RETURNS, PRICE_TABLES, TABLES, known_key, open_lake
from luxor_pipelines.errors import (
    AccessError,
    InvalidNameError,
    NotFoundError,
    SchemaError,
    UsageError,
    sample,
    shown,
)
from luxor_pipelines.ingest import LoadResult, incremental_load, save_table
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.storage.base import check_path
from luxor_pipelines.lake.table.archive import ARCHIVE
from luxor_pipelines.lake.table.layout import DIRECTORY
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.lake.types.parsing import parse
from luxor_pipelines.lake.types.schema import DATE_COLUMN, NUMBER, is_text_type, stored_key
from luxor_pipelines.operations.discovery import declarations
from luxor_pipelines.quality.assets import check_assets
from luxor_pipelines.quality.gate import Finding
from luxor_pipelines.query.stored_returns import are_wide
from luxor_pipelines.settings import Settings
from luxor_pipelines.sources.formats import Declarations
from luxor_pipelines.sources.inspection import Inspection, inspect_price_file
from luxor_pipelines.sources.limits import Limits
from luxor_pipelines.sources.old_returns import long_returns
from luxor_pipelines.sources.price_files import FOLDER, FORMATS_FILE
from luxor_pipelines.sources.table_files import Kind, read_folder, read_table_file, typed_frame

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from luxor_pipelines.lake.table.layout import Snapshot
    from luxor_pipelines.lake.types.schema import TableSchema
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = [
    "RAW_FOLDERS",
    "TableFile",
    "create_lake",
    "inspect_file",
    "load_table_file",
    "put_files",
    "read_for",
    "unread_folder",
]

RAW_FOLDERS = ("raw/prices", "raw/ecb")
"""The folders that people put files into by hand."""
_RAW = "raw/"
_NEARLY = 0.8
"""The likeness of two names, by difflib's measure, from which one may be meant for the other."""
_IN_LAKE = (_RAW, f"{ARCHIVE}/", f"{DIRECTORY.partition('/')[0]}/")
"""The paths of what is loaded that are the lake's, not this machine's."""


def create_lake(address: str | os.PathLike[str] | None = None) -> Lake:
    """Create a lake's container or folder, with the folders that people put files into, and open it.

    Files and folders that exist already stay as they are.

    Raises
    ------
    ConfigurationError
        No lake is named, or what is named cannot be one.
    AccessError
        It may not be created.
    """
    lake = open_lake(address, create=True)
    for folder in (*RAW_FOLDERS, lake.directory):
        lake.storage.make_folder(folder)
    lake.tables()  # that it can be listed is the proof
    return lake


def put_files(lake: Lake, files: Sequence[Path], folder: str, *, replace: bool = False) -> dict[str, str]:
    """Put files into a folder below ``raw/`` of the lake.

    Returns
    -------
    dict
        The outcome of each file, by its path in the lake: ``new``, ``replaced`` or ``unchanged``.

    Raises
    ------
    UsageError
        The folder is not below ``raw/``; one of the files is a folder; two have one name; or the lake has other
        content under a name, and ``replace`` is not given. Nothing has been written.
    NotFoundError, AccessError
        A file is not there, or cannot be read. Nothing has been written.
    """
    target = f"{check_path(folder)}/"
    if not target.startswith(_RAW) or target == _RAW:
        raise UsageError(
            f"Files are put into a folder below {_RAW}, not into {shown(folder)}.",
            hint="Tables are loaded: luxor load TABLE FILE.",
        )
    paths = [check_path(f"{target}{file.name}") for file in files]
    repeated = sorted({path for path in paths if paths.count(path) > 1})
    if repeated:
        raise UsageError(f"Several files are to be {sample(repeated)}.", hint="Rename them, or put them one by one.")
    contents: dict[str, bytes] = {}
    stored: dict[str, str | None] = {}
    outcomes: dict[str, str] = {}
    for path, file in zip(paths, files, strict=True):
        contents[path] = _bytes_of(file)
        info = lake.storage.stat(path)
        stored[path] = None if info is None else info.version
        if info is None:
            outcomes[path] = "new"
        else:
            same = info.size == len(contents[path]) and lake.storage.read(path).data == contents[path]
            outcomes[path] = "unchanged" if same else "replaced"
    conflicting = [path for path, outcome in outcomes.items() if outcome == "replaced"]
    if conflicting and not replace:
        raise UsageError(
            f"The lake has {sample(conflicting)} already, with other content. Nothing was written.",
            hint="Add --replace if it is to be replaced, or rename the file.",
        )
    for path, outcome in outcomes.items():
        if outcome != "unchanged":
            lake.storage.write(path, contents[path], expected=stored[path])
    return outcomes


def unread_folder(folder: str) -> str:
    """Return a sentence about a folder below ``raw/`` that no pipeline reads; empty where one does."""
    inputs = [name for declaration in declarations().values() for name in declaration.inputs]
    folders = dict.fromkeys([*RAW_FOLDERS, *(name.rstrip("/") for name in inputs if name.startswith(_RAW))])
    path = check_path(folder)
    if any(f"{path}/".startswith(f"{watched}/") for watched in folders):
        return ""
    near = get_close_matches(path, folders, 1, _NEARLY)
    return f"No pipeline reads {path}/." + (f" Did you mean {near[0]}?" if near else "")


def _bytes_of(file: Path) -> bytes:
    try:
        if file.is_dir():
            raise UsageError(f"{shown(str(file), 300)} is a folder.", hint="Name the files in it.")
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"There is no file {shown(str(file), 300)}.", hint="Check the path.") from error
    except OSError as error:
        raise AccessError(
            f"{shown(str(file), 300)} cannot be read ({error.strerror or error}).", hint="Check its permissions."
        ) from error


class TableFile(NamedTuple):
    """A file's rows for a table, how they will be loaded, and what is odd about them."""

    rows: pd.DataFrame
    mode: Literal["upsert", "slices", "replace", "new"]
    key: tuple[str, ...]
    findings: Sequence[Finding]
    schema: TableSchema | None = None
    """The declared schema, for rows that were brought into it."""


def read_for(
    lake: Lake,
    table: str,
    path: str | Path,
    *,
    key: Sequence[str] = (),
    types: Mapping[str, Kind] | None = None,
    replace: bool = False,
) -> TableFile:
    """Read a file for a table, and say how `load_table_file` would load it.

    By ``key``, else by the key that the table's file or the catalogue names, rows are upserted. Without a key rows of
    the same ``Date`` are replaced; without dates only a new table is loaded. Of the old library's ``hist_returns`` the
    months that are not stored are loaded, as `long_returns` has them.

    Parameters
    ----------
    path
        A file or folder on this machine; text that begins with ``raw/``, ``archive/`` or ``enriched/`` names one of
        the lake.

    Raises
    ------
    UsageError
        Nothing says which rows the file's rows replace.
    SchemaError
        Prices of a price table that are no numbers.
    ForeignTableError
        The table is another program's.
    LuxorError
        What `read_table_file` raises.
    """
    target = lake.table(table)
    snapshot = target.find()
    target.check_ours(snapshot)
    rows = _rows_of(lake, path, types)
    _check_prices(target.name, rows)
    if target.name == HIST_RETURNS.name and are_wide(rows.columns):
        return _old_returns(target, snapshot, rows, replace=replace)
    findings = list(check_assets(rows)) if target.name == ASSETS else []
    names = [] if snapshot is not None or target.name in TABLES else [*TABLES, *lake.tables()]
    what = "table is new and has nearly the name of another"
    near = get_close_matches(target.name, names, 1, _NEARLY)
    findings += [Finding("warning", target.name, "", what, 1, name) for name in near]
    if replace:
        return TableFile(rows, "replace", (), findings)
    own = () if snapshot is None else stored_key(target.codec(snapshot).stored)
    columns, file = list(rows.columns), Path(path).name
    chosen = tuple(key) or own or known_key(target.name, columns)
    absent = [column for column in chosen if column not in columns]
    if absent:
        raise UsageError(
            f"{file} lacks {sample(absent)} of the key of {target.name} ({', '.join(chosen)}).",
            hint="Add the column to the file, or name another key: --key A,B.",
        )
    if chosen:
        return TableFile(rows, "upsert", chosen, findings)
    if DATE_COLUMN in columns:
        return TableFile(rows, "slices", (), findings)
    if snapshot is None:
        return TableFile(rows, "new", (), findings)
    raise UsageError(
        f"Nothing says which rows of {target.name} those of {file} replace: no key, no column {DATE_COLUMN!r}.",
        hint="Name the key (--key A,B), or replace the whole table (--replace).",
    )


def _check_prices(table: str, rows: pd.DataFrame) -> None:
    """Refuse text that spells no number in a price table's column of prices: all prices of the lake would be lost.

    Raises
    ------
    SchemaError
    """
    for prices in PRICE_TABLES:
        column = prices.columns_in(rows.columns)[1] if prices.name == table else None
        cells = None if column is None else pa.chunked_array([pa.Array.from_pandas(rows[column])])
        if cells is not None and is_text_type(cells.type):
            try:
                parse(cells, NUMBER, table, str(column))
            except SchemaError as error:
                hint = "Write prices as 1234.5, with no sign between thousands; a missing one is an empty cell."
                raise SchemaError(error.message, hint=hint) from error


def _old_returns(target: Table, snapshot: Snapshot | None, wide: pd.DataFrame, *, replace: bool) -> TableFile:
    """Return the rows of the old library's returns whose months are not stored; all of them if they ``replace`` these.

    Raises
    ------
    UsageError
        All months are stored.
    """
    rows = long_returns(wide)
    stored: set[datetime] = set()
    if snapshot is not None and not replace and not are_wide(target.codec(snapshot).schema.names):
        stored = set(target.scan([DATE_COLUMN], snapshot=snapshot).data[DATE_COLUMN].unique().to_pylist())
    months = sorted(stored & set(rows[DATE_COLUMN]))
    rows = rows[~rows[DATE_COLUMN].isin(months)].reset_index(drop=True)
    if months and rows.empty:
        raise UsageError(
            f"All {len(months)} months of the file are in {target.name} already, and stay as they are.",
            hint="To replace the whole table by the old numbers, add --replace.",
        )
    unknown = int(rows["Return"].isna().sum())
    oddities = (
        ("months are stored already and stay as they are", len(months), sample(str(day.date()) for day in months)),
        (
            "returns are 0 or missing in the old table, which does not tell one from the other: here they are null",
            unknown,
            "",
        ),
    )
    findings = [Finding("warning", target.name, "", what, count, cells) for what, count, cells in oddities if count]
    return TableFile(rows, "replace" if replace else "slices", (), findings, HIST_RETURNS)


def _rows_of(lake: Lake, path: str | Path, types: Mapping[str, Kind] | None) -> pd.DataFrame:
    """Read a file or folder of this machine or, where it is named so, a file or a table of the lake."""
    if isinstance(path, Path) or not path.startswith(_IN_LAKE):
        return read_table_file(Path(path), types)
    path = check_path(path)
    name = path.rpartition("/")[2]
    if not name.endswith(".parquet") and lake.storage.stat(path) is not None:
        with tempfile.TemporaryDirectory() as local_folder:
            copy = Path(local_folder, name)
            copy.write_bytes(lake.storage.read(path).data)
            return read_table_file(copy, types)
    rows = next((rows for table in _tables_at(lake, path) if (rows := read_folder(table)) is not None), None)
    if rows is None:
        raise NotFoundError(
            f"There is no file or table {shown(path, 300)} in {lake.url}.",
            hint=f"Check the path. One of this machine is written ./{path}.",
        )
    return typed_frame(rows, path, types)


def _tables_at(lake: Lake, path: str) -> list[Table]:
    """Return the lake's table of a path; where it names none, the places of the file or folder, the likelier first."""
    folder, _, name = path.rpartition("/")
    if f"/{path}".endswith(f"/{lake.directory}"):  # its files are tables, each by itself
        return []
    if folder == lake.directory:
        with suppress(InvalidNameError):
            table = lake.table(name.removesuffix(".parquet"))
            if path in (table.folder, table.path("file")):
                return [table]
    return [Table.at(lake.storage, place, conventions=lake.conventions) for place in (path, f"{path}.parquet")]


def load_table_file(lake: Lake, table: str, file: TableFile, *, dry_run: bool = False) -> LoadResult:
    """Load a file's rows into a table; in a dry run into a copy of it, which is thrown away.

    Raises
    ------
    SchemaError, LoadConflictError
        As `incremental_load` and `save_table` do.
    """
    if not dry_run:
        return _load(lake, table, file)
    with tempfile.TemporaryDirectory() as folder:
        copy = Lake.open(folder, lake.directory, settings=lake.settings, conventions=lake.conventions)
        snapshot = lake.table(table).find()
        record = lake.storage.stat(lake.table(table).record_path)
        parts = [part.info for part in snapshot.parts] if snapshot else []
        for info in [*parts, *([record] if record and parts else [])]:
            copy.storage.write(info.path, lake.storage.read(info.path).data, expected=None)
        return _load(copy, table, file)


def _load(lake: Lake, table: str, file: TableFile) -> LoadResult:
    if file.mode in ("replace", "new"):
        mode: Literal["replace", "error"] = "replace" if file.mode == "replace" else "error"
        return save_table(lake, table, file.rows, mode=mode, schema=file.schema)
    dated = DATE_COLUMN if DATE_COLUMN in file.rows.columns else None
    return incremental_load(
        lake,
        table,
        file.rows,
        increment_column=dated,
        unique_columns=list(file.key) or None,
        directory=lake.directory,
        schema=file.schema,
    )


def inspect_file(lq: LuxorQuery | None, file: str, formats: Path | None = None) -> Inspection:
    """Look at a price file on this machine or, where its path starts with ``raw/``, in the lake.

    Parameters
    ----------
    lq
        The lake: its ``_formats.json`` holds for a file in it, and its ``assets`` tell which columns are assets.
    formats
        The declarations to read it by; default the ``_formats.json`` beside it.

    Raises
    ------
    NotFoundError, AccessError, UsageError
        A file is not there, cannot be read, or is a folder.
    DataError
        The declarations are not as they should be.
    """
    price_keys = set(lq.market.assets.price_keys()) if lq is not None and lq.table_exists("assets") else None
    limits = Limits.of(Settings.from_env() if lq is None else lq.settings)
    if lq is not None and file.startswith(_RAW):
        data, name = lq.lake.storage.read(file).data, file.removeprefix(f"{FOLDER}/")
        declared = lq.lake.storage.read(FORMATS_FILE).data if lq.lake.storage.stat(FORMATS_FILE) else b"{}"
    else:
        path = Path(file)
        data, name, beside = _bytes_of(path), path.name, path.with_name("_formats.json")
        declared = _bytes_of(beside) if formats is None and beside.is_file() else b"{}"
    if formats is not None:
        declared = _bytes_of(formats)
    return inspect_price_file(data, name, Declarations.read(declared, str(formats or FORMATS_FILE)), price_keys, limits)
