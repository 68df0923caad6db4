"""The audit: faults of the tables that a lake has. It only reads.

A table is read partition by partition and a few columns at a time, so that the memory it takes is set by the
largest file, not by the table. Text that is no key is not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.catalog import PRICE_TABLES, age_limits, known_key
from luxor_pipelines.errors import (
    AccessError,
    CorruptFileError,
    LakeError,
    MoveInProgressError,
    SchemaError,
    UnreachableError,
    UsageError,
    sample,
)
from luxor_pipelines.lake.lake import Lake
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
    NUMBER,
    TEXT,
    TableSchema,
    is_text_type,
    plain,
    repeated_keys,
    stored_key,
    with_codes,
)
from luxor_pipelines.market.observations import NO_LIMIT, StalenessLimits
from luxor_pipelines.quality.gate import Finding

__all__ = ["Audit", "audit"]

NULLS_MAX = 0.5
"""Share of a column's cells that may be missing in a file without a warning."""

_CELLS = 20_000_000
"""Cells beside the key that are read at once: 160 MB of numbers."""
_ATTEMPTS = 5
_OTHER_FOLDERS = ("raw", "system")
"""Folders of the lake that hold no tables."""


@dataclass(frozen=True)
class Audit:
    """The numbers of tables and files that were read, and the findings."""

    tables: int
    files: int
    findings: tuple[Finding, ...]

    def count(self, severity: Literal["error", "warning"]) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def audit(lake: Lake, table: str | None = None, *, declared: Mapping[str, TableSchema]) -> Audit:
    """Check one table, or all tables of a lake.

    A fault that gives wrong answers, or none, is an error: duplicate keys, nulls in keys and dates, files
    that do not open, columns that differ, rows in another month's partition, a month that is missing between
    others, two tables under one name. A state that may be right is a warning: series that have ended, columns
    that are mostly empty, files that are no data, and, for the whole lake, entries that it passes over.

    Parameters
    ----------
    declared
        The schemas of tables that pipelines write, by table.

    Raises
    ------
    UsageError
        There is no such table.
    LakeError
        The lake could not be read; a file that cannot be understood is a finding instead.
    """
    unusable: list[Unusable] = []
    names = [table] if table is not None else list_tables(lake.storage, lake.directory, unusable=unusable)
    for folder in _OTHER_FOLDERS if table is None else ():
        lake.storage.list(folder, unusable=unusable)
    limits = age_limits(lake.settings)
    tables = [lake.table(name) for name in names]
    audits = [_TableAudit(each, declared.get(each.name), limits) for each in tables]
    findings = tuple(finding for table_audit in audits for finding in table_audit.run())
    ours = tuple(f"{lake.directory}/{name}/" for name in names)
    findings += tuple(
        Finding("warning", "", "", f"entry is passed over: {entry.reason}", 1, entry.path)
        for entry in unusable
        if not entry.path.startswith(ours)
    )
    if table is not None and not audits[0].exists:
        raise UsageError(
            f"There is no table {audits[0].table.name} in {lake.url}/{lake.directory}.",
            hint="`luxor tables` lists what there is.",
        )
    return Audit(len(audits), sum(table_audit.files for table_audit in audits), findings)


class _Opened(NamedTuple):
    """A partition whose file opens, and its footer's facts."""

    part: Part
    stored: StoredFile

    @property
    def columns(self) -> pa.Schema:
        """The typed columns, with the file's metadata."""
        return self.stored.codec.schema


class _TableAudit:
    """The audit of one table."""

    def __init__(self, table: Table, declared: TableSchema | None, limits: StalenessLimits) -> None:
        self.table = table
        self.exists = False
        self.files = 0
        self.findings: list[Finding] = []
        self._declared = declared
        self._prices = next((prices for prices in PRICE_TABLES if prices.name == table.name), None)
        self._limits = limits
        self._last: dict[str, date] = {}

    def run(self) -> list[Finding]:
        """Check the table's files, their columns and their rows."""
        snapshot = self._check_layout()
        if snapshot is None:
            return self.findings
        partitions = [opened for part in snapshot.parts if (opened := self._open(part)) is not None]
        self.files = len(snapshot.parts)
        self._check_gaps(snapshot)
        self._check_columns(partitions)
        for opened in partitions:
            try:
                self._check_rows(snapshot.layout, opened)
            except CorruptFileError as error:
                self._error(opened.part, "file cannot be read to its end", 1, error.message)
        self._check_ends()
        return self.findings

    def _error(self, part: Part | None, fault: str, count: int, example: str = "") -> None:
        self.findings.append(Finding("error", self.table.name, part.label if part else "", fault, count, example))

    def _warning(self, part: Part | None, fault: str, count: int, example: str = "") -> None:
        self.findings.append(Finding("warning", self.table.name, part.label if part else "", fault, count, example))

    # --- files ------------------------------------------------------------------------------

    def _check_layout(self) -> Snapshot | None:
        """Check where the files lie; return the partitions, None where they cannot be told."""
        folder = f"{self.table.directory}/{self.table.name}"
        single = self.table.storage.stat(self.table.path("file"))
        unusable: list[Unusable] = []
        below = [info.path[len(folder) + 1 :] for info in self.table.storage.list(folder, unusable=unusable)]
        self.exists = single is not None or bool(below)
        partitions = [path for path in below if recognise(path)]
        strays = [path for path in below if not recognise(path) and path not in (LAYOUT_FILE, MOVING_FILE)]
        data = [path for path in strays if path.lower().endswith(".parquet")]
        if data:
            fault = "Parquet files in the table's folder are not its partitions, though others may read them as such"
            self._error(None, fault, len(data), sample(data))
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
            self._check_beside(snapshot, single, partitions)
        return snapshot

    def _check_beside(self, snapshot: Snapshot, single: BlobInfo | None, partitions: Sequence[str]) -> None:
        """Name the files of the table's name that are not read, because the table has another layout."""
        if snapshot.layout == "file":
            if partitions:
                fault = "partitions lie beside the table's one file, which is what is read"
                self._error(None, fault, len(partitions), sample(partitions))
            return
        others = [path for path in partitions if not path.startswith(f"{snapshot.layout}=")]
        if others:
            fault = f"partitions lie beside those by {snapshot.layout}, which are what is read"
            self._error(None, fault, len(others), sample(others))
        if single is not None:
            fault = f"a single file, written too late to be the table, lies beside those by {snapshot.layout}"
            self._error(None, fault, 1, single.path)

    def _open(self, part: Part) -> _Opened | None:
        """Open a partition; None for one that does not open, or is gone meanwhile."""
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

    def _check_gaps(self, snapshot: Snapshot) -> None:
        if snapshot.layout == "file":
            return
        labels = np.array([part.label for part in snapshot.parts], dtype=f"datetime64[{snapshot.layout[0].upper()}]")
        missing = np.setdiff1d(np.arange(labels[0], labels[-1] + 1), labels)
        if len(missing):
            self._error(None, f"{snapshot.layout}s between others are missing", len(missing), sample(map(str, missing)))

    # --- columns ----------------------------------------------------------------------------

    def _check_columns(self, partitions: Sequence[_Opened]) -> None:
        if not partitions:
            return
        newest = partitions[-1]
        for opened in partitions[:-1]:
            if differing := _differing(_with_numbers(opened.columns), _with_numbers(newest.columns)):
                fault = f"columns are not those of the newest partition, {newest.part.label}"
                self._error(opened.part, fault, len(differing), "; ".join(differing[:4]))
        if self._declared is not None and (differing := _differing(newest.columns, self._declared.arrow())):
            fault = "columns are not what this version's pipeline writes"
            self._error(newest.part, fault, len(differing), "; ".join(differing[:4]))

    def _key(self, opened: _Opened, series: str | None) -> tuple[str, ...]:
        """Return the key that the file names, else the pipeline's, else the one known of the table."""
        key = stored_key(opened.columns) or (self._declared.key if self._declared else ())
        if key or (self._prices is not None and series is None):
            return key
        return known_key(self.table.name, opened.columns.names)

    # --- rows -------------------------------------------------------------------------------

    def _check_rows(self, layout: Layout, opened: _Opened) -> None:
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
            self._check_nulls(opened, data, required=True)
            if key and all(column in data.column_names for column in key):
                self._check_key(part, data, key)
            if dates and dates[0] in data.column_names:
                if layout != "file":
                    self._check_partition(layout, part, data[dates[0]])
                if series is not None and series in data.column_names:
                    self._note_last_dates(data, dates[0], series)
            del data
        required = [column.name for column in self._declared.columns if not column.nullable] if self._declared else []
        rest = [
            field.name
            for field in opened.columns
            if (field.type != TEXT or field.name in required) and field.name not in (*key, *dates, LAST_UPDATED)
        ]
        width = max(1, _CELLS // max(opened.stored.rows, 1))
        for start in range(0, len(rest), width):
            data = self._read(layout, opened, rest[start : start + width])
            if data is not None:
                self._check_nulls(opened, data, required=False)

    def _read(self, layout: Layout, opened: _Opened, columns: list[str]) -> pa.Table | None:
        """Read those columns that can be read, None when none can; bad cells of the others are findings."""
        if not columns:
            return None
        texts = [name for name in columns if is_text_type(opened.columns.field(name).type)]
        try:
            scan = self.table.scan(columns, snapshot=Snapshot(layout, (opened.part,)), dictionary=texts)
        except SchemaError as error:
            if len(columns) == 1:
                self._error(opened.part, f"column {columns[0]} holds what it should not", 1, error.message)
                return None
            single = {column: self._read(layout, opened, [column]) for column in columns}
            readable = {column: piece[column] for column, piece in single.items() if piece is not None}
            return pa.table(readable) if readable else None
        moved = [part.label for part in scan.snapshot.parts] != [opened.part.label]
        return None if moved else scan.data

    def _check_nulls(self, opened: _Opened, data: pa.Table, *, required: bool) -> None:
        declared = {column.name: column for column in self._declared.columns} if self._declared else {}
        for name, column in zip(data.column_names, data.columns, strict=True):
            nulls = column.null_count
            if nulls and (required or (name in declared and not declared[name].nullable)):
                self._error(opened.part, f"of {len(column):,} cells of {name} are missing", nulls)
            elif nulls > NULLS_MAX * len(column):
                self._warning(opened.part, f"of {len(column):,} cells of {name} are missing", nulls)

    def _check_key(self, part: Part, data: pa.Table, key: tuple[str, ...]) -> None:
        filled = data.select(list(key)).drop_null()
        repeated = repeated_keys(filled, key)
        if len(repeated):
            rows = pc.sum(repeated["count_all"]).as_py()
            shown = [tuple(map(plain, row.values())) for row in repeated.select(list(key)).slice(0, 3).to_pylist()]
            more = f" and {len(repeated) - 3:,} more" if len(repeated) > 3 else ""
            fault = f"keys ({', '.join(key)}) occur more than once, in {rows:,} rows"
            self._error(part, fault, len(repeated), sample(shown) + more)

    def _check_partition(self, layout: Layout, part: Part, column: pa.ChunkedArray) -> None:
        first, last = (pa.scalar(instant, DATE) for instant in bounds(layout, part.label))
        outside = column.filter(pc.or_(pc.less(column, first), pc.greater(column, last)))
        if len(outside):
            fault = f"rows are dated outside the {layout} of their partition"
            self._error(part, fault, len(outside), sample(str(instant.date()) for instant in outside.to_pylist()))

    # --- series -----------------------------------------------------------------------------

    def _note_last_dates(self, data: pa.Table, date_column: str, series: str) -> None:
        """Remember the last date of each series."""
        filled = data.select([date_column, series]).drop_null()
        codes, words = with_codes(filled[series])
        last = pd.Series(filled[date_column].to_numpy()).groupby(codes).max()
        for word, day in zip(words.take(pa.array(last.index)).to_pylist(), last.dt.date, strict=True):
            self._last[word] = max(self._last.get(word, day), day)

    def _check_ends(self) -> None:
        if self._prices is None or not self._last:
            return
        limit = self._limits.days(self._prices.kind)
        newest = max(self._last.values())
        stale = [(day, name) for name, day in self._last.items() if limit < NO_LIMIT and (newest - day).days > limit]
        if stale:
            shown = [f"{name} {day}" for day, name in sorted(stale, reverse=True)]
            fault = f"of {len(self._last):,} series end more than {limit} days before the table does, on {newest}"
            self._warning(None, fault, len(stale), sample(shown))


def _with_numbers(schema: pa.Schema) -> pa.Schema:
    """Return a schema with numbers in place of whole numbers, which are read together with them."""
    return pa.schema([field.with_type(NUMBER) if pa.types.is_integer(field.type) else field for field in schema])


def _differing(stored: pa.Schema, expected: pa.Schema) -> list[str]:
    """Return a line about each column whose type is another, or which only one of the schemas has."""
    is_, should = (
        {field.name: str(field.type) for field in schema if field.name != LAST_UPDATED} for schema in (stored, expected)
    )
    return [
        f"{name!r} is {is_.get(name, 'absent')}, not {should.get(name, 'there')}"
        for name in sorted(is_.keys() | should.keys())
        if is_.get(name) != should.get(name)
    ]
