"""What is wrong with the lake's tables where they lie. Only reads.

A table is gone through partition by partition, and of each only a few columns are in memory at once,
so that what it takes is decided by the largest file, not by the table. Text that is no key is not read.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.catalog import PRICE_TABLES, known_key
from luxor_pipelines.errors import (
    AccessError,
    ConfigurationError,
    CorruptFileError,
    LakeError,
    MoveInProgressError,
    SchemaError,
    UnreachableError,
    UsageError,
    sample,
)
from luxor_pipelines.lake.storage.base import BlobInfo, Unusable, VersionChangedError
from luxor_pipelines.lake.table.layout import (
    LAYOUT_FILE,
    MOVING_FILE,
    PARTITION_COLUMN,
    Layout,
    Part,
    Snapshot,
    bounds,
    recognise,
)
from luxor_pipelines.lake.table.table import StoredFile, Table, list_tables
from luxor_pipelines.lake.types.schema import (
    DATE,
    LAST_UPDATED,
    TEXT,
    TableSchema,
    is_text_type,
    plain,
    repeated_keys,
    stored_key,
    with_codes,
)
from luxor_pipelines.market.observations import NO_LIMIT, StalenessLimits
from luxor_pipelines.operations.discovery import find_pipelines
from luxor_pipelines.quality.gate import Finding

if TYPE_CHECKING:
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = ["Audit", "audit", "declared_schemas"]

logger = logging.getLogger(__name__)

NULLS_MAX = 0.5
"""Share of a column's cells that may be missing in a file without being pointed out."""

_CELLS = 20_000_000
"""Cells of columns beside the key that are read at once: 160 MB of numbers."""
_ATTEMPTS = 5
_OTHER_FOLDERS = ("raw", "system")
"""Where files lie besides the tables."""


@dataclass(frozen=True)
class Audit:
    """What was looked at, and what was found."""

    tables: int
    files: int
    findings: tuple[Finding, ...]

    def count(self, severity: Literal["error", "warning"]) -> int:
        """How many findings there are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def audit(lq: LuxorQuery, table: str | None = None) -> Audit:
    """Look through one table, or all there are.

    Errors are what gives wrong answers or none: duplicate keys, nulls in keys and dates, files that do
    not open, columns that differ, rows in another month's partition, a month that is missing between
    others, two tables under one name. Warnings are what may be right: series that have ended, columns
    that are mostly empty, files that are no data, and, of the whole lake, entries that it passes over.

    Raises
    ------
    UsageError
        There is no such table.
    LakeError
        The lake could not be read; a file that cannot be understood is a finding instead.
    """
    unusable: list[Unusable] = []
    names = [table] if table is not None else list_tables(lq.lake.storage, lq.blob_directory, unusable=unusable)
    for folder in _OTHER_FOLDERS if table is None else ():
        lq.lake.storage.list(folder, unusable=unusable)
    declared = declared_schemas()
    limits = lq.market.limits
    looked = [_Look(lq.lake.table(name, lq.blob_directory), declared, limits) for name in names]
    findings = tuple(finding for look in looked for finding in look.findings())
    ours = tuple(f"{lq.blob_directory}/{name}/" for name in names)
    findings += tuple(
        Finding("warning", "", "", f"entry is passed over: {entry.reason}", 1, entry.path)
        for entry in unusable
        if not entry.path.startswith(ours)
    )
    if table is not None and not looked[0].there:
        raise UsageError(
            f"There is no table {looked[0].table.name} in {lq.lake.storage.url}/{lq.blob_directory}.",
            hint="`luxor tables` lists what there is.",
        )
    return Audit(len(looked), sum(look.files for look in looked), findings)


def declared_schemas() -> dict[str, TableSchema]:
    """The schemas of the tables that pipelines produce, by table."""
    found: dict[str, TableSchema] = {}
    for pipeline in find_pipelines().values():
        try:
            schema = getattr(inspect.getmodule(pipeline.load()), "SCHEMA", None)
        except ConfigurationError as error:
            logger.warning("What %s declares is not known: %s", pipeline.name, error)
            continue
        if isinstance(schema, TableSchema):
            found.setdefault(schema.name, schema)
    return found


class _Opened(NamedTuple):
    """A partition whose file opens: what it says of itself, and what its columns mean."""

    part: Part
    stored: StoredFile

    @property
    def columns(self) -> pa.Schema:
        """The typed columns, with the file's metadata."""
        return self.stored.codec.schema


class _Look:
    """One look at one table."""

    def __init__(self, table: Table, declared: dict[str, TableSchema], limits: StalenessLimits) -> None:
        self.table = table
        self.there = False
        self.files = 0
        self.found: list[Finding] = []
        self._declared = declared.get(table.name)
        self._prices = next((prices for prices in PRICE_TABLES if prices.name == table.name), None)
        self._limits = limits
        self._last: dict[str, date] = {}

    def findings(self) -> list[Finding]:
        """Everything that is found: of the files, of their columns, of their rows."""
        snapshot = self._layout()
        if snapshot is None:
            return self.found
        opened = [each for part in snapshot.parts if (each := self._open(part)) is not None]
        self.files = len(snapshot.parts)
        self._gaps(snapshot)
        self._schemas(opened)
        for each in opened:
            try:
                self._rows(snapshot.layout, each)
            except CorruptFileError as error:
                self._error(each.part, "file cannot be read to its end", 1, error.message)
        self._stale()
        return self.found

    def _error(self, part: Part | None, what: str, count: int, example: str = "") -> None:
        self.found.append(Finding("error", self.table.name, part.label if part else "", what, count, example))

    def _warning(self, part: Part | None, what: str, count: int, example: str = "") -> None:
        self.found.append(Finding("warning", self.table.name, part.label if part else "", what, count, example))

    # --- files ------------------------------------------------------------------------------

    def _layout(self) -> Snapshot | None:
        """What is odd about where the files lie; the partitions, None where they cannot be told."""
        folder = f"{self.table.directory}/{self.table.name}"
        single = self.table.storage.stat(self.table.path("file"))
        unusable: list[Unusable] = []
        below = [info.path[len(folder) + 1 :] for info in self.table.storage.list(folder, unusable=unusable)]
        self.there = single is not None or bool(below)
        partitions = [path for path in below if recognise(path)]
        strays = [path for path in below if not recognise(path) and path not in (LAYOUT_FILE, MOVING_FILE)]
        data = [path for path in strays if path.lower().endswith(".parquet")]
        if data:
            what = "Parquet files in the table's folder are not its partitions, though others may read them as such"
            self._error(None, what, len(data), sample(data))
        if len(strays) > len(data):
            others = [path for path in strays if path not in data]
            self._warning(None, "files in the table's folder are no data", len(others), sample(others))
        for entry in unusable:
            self._warning(None, f"entry is passed over: {entry.reason}", 1, entry.path)
        try:
            snapshot = self.table.find()
        except SchemaError as error:
            self._error(None, "partitions are by month and by year", len(partitions), error.message)
            return None
        except MoveInProgressError as error:
            self._error(None, "is being moved to the archive or back, or such a move was cut short", 1, error.hint)
            return None
        except CorruptFileError as error:
            self._error(None, "layout is not told", 1, error.message)
            return None
        except UnreachableError:
            raise
        except LakeError as error:
            self._error(None, "partition cannot be looked at", 1, error.message)
            return None
        if snapshot is not None:
            self._beside(snapshot, single, partitions)
        return snapshot

    def _beside(self, snapshot: Snapshot, single: BlobInfo | None, partitions: Sequence[str]) -> None:
        """Name the files of the table's name that are not read, because the table has another layout."""
        if snapshot.layout == "file":
            if partitions:
                what = "partitions lie beside the table's one file, which is what is read"
                self._error(None, what, len(partitions), sample(partitions))
            return
        others = [path for path in partitions if not path.startswith(f"{snapshot.layout}=")]
        if others:
            what = f"partitions lie beside those by {snapshot.layout}, which are what is read"
            self._error(None, what, len(others), sample(others))
        if single is not None:
            what = f"a single file, written too late to be the table, lies beside those by {snapshot.layout}"
            self._error(None, what, 1, single.path)

    def _open(self, part: Part) -> _Opened | None:
        """The partition; None for one that does not open, or has gone meanwhile."""
        for _ in range(_ATTEMPTS):
            try:
                stored = self.table.stored(part)
                return _Opened(part, stored)
            except VersionChangedError:
                info = self.table.storage.stat(part.info.path)
                if info is None:
                    return None
                part = Part(part.label, info)
            except (CorruptFileError, SchemaError, AccessError) as error:
                self._error(part, "file does not open", 1, error.message)
                return None
        raise self.table.storage.changed(part.info.path)

    def _gaps(self, snapshot: Snapshot) -> None:
        if snapshot.layout == "file":
            return
        labels = np.array([part.label for part in snapshot.parts], dtype=f"datetime64[{snapshot.layout[0].upper()}]")
        gone = np.setdiff1d(np.arange(labels[0], labels[-1] + 1), labels)
        if len(gone):
            self._error(None, f"{snapshot.layout}s between others are missing", len(gone), sample(map(str, gone)))

    # --- columns ----------------------------------------------------------------------------

    def _schemas(self, opened: Sequence[_Opened]) -> None:
        if not opened:
            return
        newest = _kinds(opened[-1].columns)
        for each in opened[:-1]:
            if differing := _differing(_kinds(each.columns), newest):
                what = f"columns are not those of the newest partition, {opened[-1].part.label}"
                self._error(each.part, what, len(differing), "; ".join(differing[:4]))
        if self._declared is not None and (differing := _differing(newest, _kinds(self._declared.arrow()))):
            what = "columns are not what this version's pipeline writes"
            self._error(opened[-1].part, what, len(differing), "; ".join(differing[:4]))

    def _key(self, opened: _Opened, series: str | None) -> tuple[str, ...]:
        """Return the key that the file names, else the pipeline's, else the one known of the table."""
        key = stored_key(opened.columns) or (self._declared.key if self._declared else ())
        if key or (self._prices is not None and series is None):
            return key
        return known_key(self.table.name, opened.columns.names)

    # --- rows -------------------------------------------------------------------------------

    def _rows(self, layout: Layout, opened: _Opened) -> None:
        part, names = opened.part, opened.columns.names
        partition = (opened.columns.metadata or {}).get(PARTITION_COLUMN, b"Date").decode()
        try:
            series = self._prices.columns_in(names)[0] if self._prices else None
        except SchemaError as error:
            self._error(part, "pair of columns, series and price, is missing", 1, error.message)
            series = None
        key = self._key(opened, series)
        absent = [column for column in key if column not in names]
        if absent:
            self._error(part, "columns of the key are missing", len(absent), sample(absent))
            key = ()
        dates = [partition] if partition in names and opened.columns.field(partition).type == DATE else []
        data = self._read(layout, opened, [*dict.fromkeys([*key, *dates])])
        if data is not None:
            self._nulls(opened, data, needed=True)
            if key and all(column in data.column_names for column in key):
                self._repeated(part, data, key)
            if dates and dates[0] in data.column_names:
                if layout != "file":
                    self._elsewhere(layout, part, data[dates[0]])
                if series is not None and series in data.column_names:
                    self._note_last(data, dates[0], series)
            del data
        required = [column.name for column in self._declared.columns if not column.nullable] if self._declared else []
        rest = [
            field.name
            for field in opened.columns
            if (field.type != TEXT or field.name in required) and field.name not in (*key, *dates, LAST_UPDATED)
        ]
        some = max(1, _CELLS // max(opened.stored.rows, 1))
        for start in range(0, len(rest), some):
            data = self._read(layout, opened, rest[start : start + some])
            if data is not None:
                self._nulls(opened, data, needed=False)

    def _read(self, layout: Layout, opened: _Opened, columns: list[str]) -> pa.Table | None:
        """The columns that can be read, None when there is none; of the others, what is wrong with their cells."""
        if not columns:
            return None
        schema = opened.columns
        texts = [name for name in columns if is_text_type(schema.field(name).type)]
        try:
            found = self.table.scan(columns, snapshot=Snapshot(layout, (opened.part,)), dictionary=texts)
        except SchemaError as error:
            if len(columns) == 1:
                self._error(opened.part, f"column {columns[0]} holds what it should not", 1, error.message)
                return None
            single = {column: self._read(layout, opened, [column]) for column in columns}
            readable = {column: piece[column] for column, piece in single.items() if piece is not None}
            return pa.table(readable) if readable else None
        moved = [part.label for part in found.snapshot.parts] != [opened.part.label]
        return None if moved else found.data

    def _nulls(self, opened: _Opened, data: pa.Table, *, needed: bool) -> None:
        declared = {column.name: column for column in self._declared.columns} if self._declared else {}
        for name, column in zip(data.column_names, data.columns, strict=True):
            nulls = column.null_count
            if nulls and (needed or (name in declared and not declared[name].nullable)):
                self._error(opened.part, f"of {len(column):,} cells of {name} are missing", nulls)
            elif nulls > NULLS_MAX * len(column):
                self._warning(opened.part, f"of {len(column):,} cells of {name} are missing", nulls)

    def _repeated(self, part: Part, data: pa.Table, key: tuple[str, ...]) -> None:
        filled = data.select(list(key)).drop_null()
        repeated = repeated_keys(filled, key)
        if len(repeated):
            rows = pc.sum(repeated["count_all"]).as_py()
            shown = [tuple(map(plain, row.values())) for row in repeated.select(list(key)).slice(0, 3).to_pylist()]
            more = f" and {len(repeated) - 3:,} more" if len(repeated) > 3 else ""
            what = f"keys ({', '.join(key)}) occur more than once, in {rows:,} rows"
            self._error(part, what, len(repeated), sample(shown) + more)

    def _elsewhere(self, layout: Layout, part: Part, column: pa.ChunkedArray) -> None:
        first, last = (pa.scalar(each, DATE) for each in bounds(layout, part.label))
        outside = column.filter(pc.or_(pc.less(column, first), pc.greater(column, last)))
        if len(outside):
            what = f"rows are dated outside the {layout} of their partition"
            self._error(part, what, len(outside), sample(str(each.date()) for each in outside.to_pylist()))

    # --- series -----------------------------------------------------------------------------

    def _note_last(self, data: pa.Table, date_column: str, series: str) -> None:
        """Remember the last date of each series."""
        filled = data.select([date_column, series]).drop_null()
        codes, words = with_codes(filled[series])
        last = pd.Series(filled[date_column].to_numpy()).groupby(codes).max()
        for word, day in zip(words.take(pa.array(last.index)).to_pylist(), last.dt.date, strict=True):
            self._last[word] = max(self._last.get(word, day), day)

    def _stale(self) -> None:
        if self._prices is None or not self._last:
            return
        limit = self._limits.days(self._prices.kind)
        newest = max(self._last.values())
        stale = [(day, name) for name, day in self._last.items() if limit < NO_LIMIT and (newest - day).days > limit]
        if stale:
            shown = [f"{name} {day}" for day, name in sorted(stale, reverse=True)]
            what = f"of {len(self._last):,} series end more than {limit} days before the table does, on {newest}"
            self._warning(None, what, len(stale), sample(shown))


def _kinds(schema: pa.Schema) -> dict[str, str]:
    return {field.name: str(field.type) for field in schema if field.name != LAST_UPDATED}


def _differing(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    return [
        f"{name!r} is {found.get(name, 'absent')}, not {wanted.get(name, 'there')}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
