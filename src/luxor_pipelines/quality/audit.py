"""The audit: faults of the tables that a lake has. It only reads.

A table is read partition by partition and a few columns at a time, so that the memory it takes is set by the
largest file, not by the table. Text that is no key is not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.catalog import PRICE_TABLES, PX_LAST, PX_LAST_COLUMNS, STUCK_TABLES, age_limits, known_key
from luxor_pipelines.errors import (
    AccessError,
    CorruptFileError,
    ForeignTableError,
    LakeError,
    MoveInProgressError,
    SchemaError,
    UnreachableError,
    UsageError,
    sample,
)
from luxor_pipelines.lake.concurrency import at_once
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.storage.base import BlobInfo, Unusable, VersionChangedError
from luxor_pipelines.lake.table.foreign import format_of, is_hidden, is_parquet
from luxor_pipelines.lake.table.layout import (
    PARTITION_COLUMN,
    ColumnChanges,
    Layout,
    Part,
    Snapshot,
    bounds,
    recognise,
)
from luxor_pipelines.lake.table.listing import list_tables
from luxor_pipelines.lake.table.table import StoredFile, Table
from luxor_pipelines.lake.types.keys import repeated_keys
from luxor_pipelines.lake.types.schema import (
    COLUMN_TYPES,
    DATE,
    DATE_COLUMN,
    LAST_UPDATED,
    NUMBER,
    TEXT,
    TableSchema,
    added_columns,
    column_command,
    is_text_type,
    plain,
    stored_key,
    with_codes,
)
from luxor_pipelines.market.observations import NO_LIMIT, StalenessLimits
from luxor_pipelines.names import normal_name
from luxor_pipelines.quality.gate import Finding
from luxor_pipelines.quality.series import FAULTS, SeriesCheck

__all__ = ["Audit", "audit"]

NULLS_MAX = 0.5
"""Share of a column's cells that may be missing in a file without a warning."""

_CELLS = 20_000_000
"""Cells beside the key that are read at once: 160 MB of numbers."""
_SERIES_ROWS = 1_000_000
"""Rows of a price table that are compared with each other at once, if they are in order of dates."""
_ROWS_PER_BYTE, _LEAST_BYTES = 8, 1_000_000
"""A file with more rows per byte than this is not read, since keys take room; a small one counts as a megabyte."""
_ATTEMPTS = 5
_FORMAT = "is in a format whose files are not read"
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

    A fault that leads to wrong answers, or to none, is an error: duplicate keys, nulls in keys and dates, files
    that do not open, columns that differ, rows in another month's partition, a month that is missing between
    others, two tables under one name. A state that may be right is a warning: series that have ended, columns
    that are mostly empty, files that are no data, and, for the whole lake, entries that are skipped.

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
    today = lake.today()
    audits = [_TableAudit(checked, declared.get(checked.name), limits, today) for checked in tables]
    findings = tuple(finding for table_audit in audits for finding in table_audit.run())
    folders = tuple(f"{lake.directory}/{name}/" for name in names)
    findings += tuple(
        Finding("warning", "", "", f"entry is passed over: {entry.reason}", 1, entry.path)
        for entry in unusable
        if not entry.path.startswith(folders)
    )
    if table is not None and not audits[0].exists:
        absent = audits[0].table.not_found()
        raise UsageError(absent.message, hint=absent.hint)
    return Audit(len(audits), sum(table_audit.files for table_audit in audits), findings)


class _Opened(NamedTuple):
    """A partition whose file opens, and its footer's facts; all of a folder that another program left counts as one.

    ``snapshot`` holds the files to read.
    """

    part: Part
    stored: StoredFile
    snapshot: Snapshot

    @property
    def columns(self) -> pa.Schema:
        """The typed columns, with the file's metadata."""
        return self.stored.codec.schema


class _TableAudit:
    """The audit of one table."""

    def __init__(self, table: Table, declared: TableSchema | None, limits: StalenessLimits, today: date) -> None:
        self.table = table
        self.exists = False
        self.files = 0
        self.findings: list[Finding] = []
        self._declared = declared
        self._changes = ColumnChanges()
        self._prices = next((prices for prices in PRICE_TABLES if prices.name == table.name), None)
        self._limits = limits
        self._latest = datetime.combine(today + timedelta(days=1), time())  # it is tomorrow already in Asia
        self._last: dict[str, date] = {}
        self._series = SeriesCheck(stuck=table.name in STUCK_TABLES)
        self._spellings: dict[str, dict[str, set[str]]] = {}
        self._sparse: dict[str, list[tuple[Part, int, int]]] = {}

    def run(self) -> list[Finding]:
        """Check the table's files, their columns and their rows."""
        snapshot = self._check_layout()
        if snapshot is None:
            return self.findings
        self._changes = snapshot.columns
        if snapshot.layout == "folder":
            whole = self._open_folder(snapshot)
            partitions = [] if whole is None else [whole]
        else:
            partitions = [
                opened for part in snapshot.parts if (opened := self._open(snapshot.layout, part)) is not None
            ]
        self.files = len(snapshot.parts)
        self._check_gaps(snapshot)
        self._check_columns(partitions)
        for opened in partitions:
            try:
                self._check_rows(opened)
            except CorruptFileError as error:
                self._error(opened.part, "file cannot be read to its end", 1, error.message)
        self._tell_sparse()
        self._check_ends()
        for fault, count, oddities in self._series.oddities():
            self._warning(None, FAULTS[fault], count, sample(map(str, oddities)))
        self._check_names()
        return self.findings

    def _error(self, part: Part | None, fault: str, count: int, example: str = "") -> None:
        self.findings.append(Finding("error", self.table.name, part.label if part else "", fault, count, example))

    def _warning(self, part: Part | None, fault: str, count: int, example: str = "") -> None:
        self.findings.append(Finding("warning", self.table.name, part.label if part else "", fault, count, example))

    # --- files ------------------------------------------------------------------------------

    def _check_layout(self) -> Snapshot | None:
        """Check where the files lie; return the partitions, None where it is not clear which they are."""
        single = self.table.storage.stat(self.table.path("file"))
        unusable: list[Unusable] = []
        files = self.table.files(unusable=unusable)
        self.exists = single is not None or bool(files)
        below = {self.table.below(info.path): info for info in files}
        partitions = [path for path in below if recognise(path)]
        self._check_strays(below, foreign=not partitions and not (single is not None and single.size))
        for entry in unusable:
            self._warning(None, f"entry is passed over: {entry.reason}", 1, entry.path)
        snapshot = self._find(len(files), len(partitions))
        if snapshot is not None:
            self._check_beside(snapshot, single, partitions)
        return snapshot

    def _check_strays(self, below: Mapping[str, BlobInfo], *, foreign: bool) -> None:
        """Report files that are no part of the table.

        Parameters
        ----------
        below
            The files by their paths in the table's folder.
        foreign
            Whether files that other programs write are the table, since there are none of ours.
        """
        strays = [
            path
            for path, info in below.items()
            if not (recognise(path) or is_hidden(path) or (foreign and self.table.is_foreign_data(info)))
        ]
        if foreign and format_of(below) is not None:
            strays = []
        data = [path for path in strays if is_parquet(path)]
        if data:
            fault = "Parquet files in the table's folder are not its partitions, though others may read them as such"
            self._error(None, fault, len(data), sample(data))
        if len(strays) > len(data):
            unread = [path for path in strays if path not in data]
            self._warning(None, "files in the table's folder are no data", len(unread), sample(unread))

    def _find(self, files: int, partitions: int) -> Snapshot | None:
        """Return the table's partitions; None, and a finding, where it is not clear which they are.

        Parameters
        ----------
        files, partitions
            The numbers of files in the table's folders, and of those that are partitions by their names.
        """
        try:
            return self.table.find()
        except SchemaError as error:
            fault = "partitions are by month and by year" if partitions else "lies there in two folders"
            self._error(None, fault, partitions or files, error.message)
        except ForeignTableError as error:
            self._error(None, _FORMAT, files, error.message)
        except MoveInProgressError as error:
            self._error(None, "is being moved to the archive or back, or such a move was cut short", 1, error.hint)
        except CorruptFileError as error:
            self._error(None, "layout is not told", 1, error.message)
        except UnreachableError:
            raise
        except LakeError as error:
            self._error(None, "partition cannot be looked at", 1, error.message)
        return None

    def _check_beside(self, snapshot: Snapshot, single: BlobInfo | None, partitions: Sequence[str]) -> None:
        """Report files of the table that are not read, because the table has another layout."""
        if snapshot.layout == "folder":
            return
        if snapshot.layout == "file":
            if partitions:
                fault = "partitions lie beside the table's one file, which is what is read"
                self._error(None, fault, len(partitions), self.table.shadow() or sample(partitions))
            return
        unread = [path for path in partitions if not path.startswith(f"{snapshot.layout}=")]
        if unread:
            fault = f"partitions lie beside those by {snapshot.layout}, which are what is read"
            self._error(None, fault, len(unread), sample(unread))
        if single is not None:
            fault = f"a single file, written too late to be the table, lies beside those by {snapshot.layout}"
            self._error(None, fault, 1, single.path)

    def _open_folder(self, snapshot: Snapshot) -> _Opened | None:
        """Look at all files of a folder together; None where one does not open, or they do not go together."""
        size = sum(part.info.size for part in snapshot.parts)
        whole = Part("", snapshot.parts[0].info._replace(size=size))
        try:
            rows = sum(at_once(self.table.storage, snapshot.parts, lambda part: self.table.stored(part).rows))
            return _Opened(whole, StoredFile(self.table.codec(snapshot), rows), snapshot)
        except (CorruptFileError, SchemaError, AccessError) as error:
            self._error(None, "file does not open", 1, error.message)
        except ForeignTableError as error:
            self._error(None, _FORMAT, len(snapshot.parts), error.message)
        return None

    def _open(self, layout: Layout, part: Part) -> _Opened | None:
        """Open a partition; None for one that does not open, or is gone meanwhile."""
        for _ in range(_ATTEMPTS):
            try:
                stored = self.table.stored(part, columns=self._changes)
                return _Opened(part, stored, Snapshot(layout, (part,), columns=self._changes))
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
        if not snapshot.by_date:
            return
        labels = np.array([part.label for part in snapshot.parts], dtype=f"datetime64[{snapshot.layout[0].upper()}]")
        missing = np.setdiff1d(np.arange(labels[0], labels[-1] + 1), labels)
        if len(missing):
            self._error(None, f"{snapshot.layout}s between others are missing", len(missing), sample(map(str, missing)))

    # --- columns ----------------------------------------------------------------------------

    def _check_columns(self, partitions: Sequence[_Opened]) -> None:
        """Check that all partitions have the same columns, and those that are known or declared."""
        if not partitions:
            return
        newest = partitions[-1]
        self._check_lagging(partitions)
        for opened in partitions[:-1]:
            if differing := _differing(_with_numbers(opened.columns), _with_numbers(newest.columns)):
                fault = f"columns are not those of the newest partition, {newest.part.label}"
                self._error(opened.part, fault, len(differing), "; ".join(differing[:4]))
        conventions = self.table.conventions
        kinds = conventions.known_types(self.table.name, newest.columns.names)
        for name, kind in kinds.items():
            stored_type = newest.stored.codec.stored.field(name).type
            if kind == DATE != newest.columns.field(name).type and not (
                pa.types.is_temporal(stored_type) or pa.types.is_null(stored_type)
            ):
                self._error(newest.part, f"column of dates, {name}, holds {stored_type}", 1)
        for name in () if self._prices is None else {self._prices.price_column, "Last_Price"} & {*newest.columns.names}:
            if newest.columns.field(name).type == TEXT:
                self._error(newest.part, f"column of prices, {name}, holds text", 1)
        expected = None if self._declared is None else self._declared.arrow()
        if expected is not None and (differing := _differing(_without_added(newest.columns, expected), expected)):
            fault = "columns are not what this version's pipeline writes"
            self._error(newest.part, fault, len(differing), "; ".join(differing[:4]))

    def _check_lagging(self, partitions: Sequence[_Opened]) -> None:
        """Name the columns that were added or dropped, where files have not been rewritten since."""
        if self._changes == ColumnChanges():
            return
        partition_columns = [{*self.table.stored(opened.part).codec.schema.names} for opened in partitions]
        for name, kind in self._changes.added:
            if lagging := sum(name not in names for names in partition_columns):
                way = column_command(self.table.name, name, COLUMN_TYPES[kind])
                self._warning(None, f"files lack the column {name} that was added", lagging, f"{way} completes it")
        for name in self._changes.dropped:
            if lagging := sum(name in names for names in partition_columns):
                way = column_command(self.table.name, name)
                self._warning(None, f"files have the column {name} that was dropped", lagging, f"{way} completes it")

    def _key(self, opened: _Opened, series: str | None) -> tuple[str, ...]:
        """Return the key that the file names, else the pipeline's, else the one known of the table."""
        key = stored_key(opened.columns) or (self._declared.key if self._declared else ())
        if key or (self._prices is not None and series is None):
            return key
        return known_key(self.table.name, opened.columns.names)

    # --- rows -------------------------------------------------------------------------------

    def _check_rows(self, opened: _Opened) -> None:
        """Check a partition's rows: the columns that say which rows they are and the prices first, then the others."""
        part, names = opened.part, opened.columns.names
        if opened.stored.rows > _ROWS_PER_BYTE * max(part.info.size, _LEAST_BYTES):
            fault = f"rows in {part.info.size:,} bytes, which cannot tell them apart; they are not read"
            self._error(part, fault, opened.stored.rows)
            return
        series = self._series_column(opened)
        key = self._key(opened, series)
        absent = [column for column in key if column not in names]
        if absent:
            self._error(part, "columns of the key are missing", len(absent), sample(absent))
            key = ()
        partition = (opened.columns.metadata or {}).get(PARTITION_COLUMN, b"Date").decode()
        date_column = partition if partition in names and opened.columns.field(partition).type == DATE else None
        identity = [*key, *([date_column] if date_column is not None else [])]
        prices = self._price_columns(opened, series)
        data = self._read(opened, [*dict.fromkeys([*identity, *prices])])
        if data is not None:
            self._check_nulls(opened, _selected(data, identity), required=True)
            others = [name for name in prices if name not in identity]
            self._check_nulls(opened, _selected(data, others), required=False)
            if key and all(column in data.column_names for column in key):
                self._check_key(part, data, key)
            if date_column is not None and date_column in data.column_names:
                self._check_dates(opened, data, date_column, series)
            if prices and set(prices) <= set(data.column_names):
                self._check_prices(part, data.select(prices))
            self._note_spellings(_selected(data, key))
            del data  # before other columns are read
        self._check_others(opened, {*identity, *prices})

    def _check_dates(self, opened: _Opened, data: pa.Table, date_column: str, series: str | None) -> None:
        """Check that dates lie in their partition and have no time of day; remember the last one of each series."""
        if opened.snapshot.by_date:
            self._check_partition(opened.snapshot.layout, opened.part, data[date_column])
        if series is not None and series in data.column_names:
            self._note_last_dates(data, date_column, series)
        if self.table.name in self.table.conventions.day_tables:
            self._check_days(opened.part, data[date_column])

    def _check_others(self, opened: _Opened, checked: set[str]) -> None:
        """Check the other columns for missing and bad cells, a few at a time; text is read only where it is required.

        Columns that people have added may be empty.
        """
        required = [column.name for column in self._declared.columns if not column.nullable] if self._declared else []
        unchecked = [
            field.name
            for field in opened.columns
            if (field.type != TEXT or field.name in required)
            and not pa.types.is_nested(field.type)
            and field.name not in (*checked, LAST_UPDATED)
            and (field.name in required or field.name not in added_columns(opened.columns))
        ]
        width = max(1, _CELLS // max(opened.stored.rows, 1))
        for start in range(0, len(unchecked), width):
            data = self._read(opened, unchecked[start : start + width])
            if data is not None:
                self._check_nulls(opened, data, required=False)

    def _read(self, opened: _Opened, columns: list[str]) -> pa.Table | None:
        """Read those columns that can be read, None when none can; bad cells of the others are findings."""
        if not columns:
            return None
        texts = [name for name in columns if is_text_type(opened.columns.field(name).type)]
        try:
            scan = self.table.scan(columns, snapshot=opened.snapshot, dictionary=texts)
        except SchemaError as error:
            if len(columns) == 1:
                self._error(opened.part, f"column {columns[0]} holds what it should not", 1, error.message)
                return None
            single = {column: self._read(opened, [column]) for column in columns}
            readable = {column: piece[column] for column, piece in single.items() if piece is not None}
            return pa.table(readable) if readable else None
        moved = [part.label for part in scan.snapshot.parts] != [part.label for part in opened.snapshot.parts]
        return None if moved else scan.data

    def _check_nulls(self, opened: _Opened, data: pa.Table, *, required: bool) -> None:
        declared = {column.name: column for column in self._declared.columns} if self._declared else {}
        for name, column in zip(data.column_names, data.columns, strict=True):
            nulls = column.null_count
            if nulls and (required or (name in declared and not declared[name].nullable)):
                self._error(opened.part, f"of {len(column):,} cells of {name} are missing", nulls)
            elif nulls > NULLS_MAX * len(column):
                self._sparse.setdefault(name, []).append((opened.part, nulls, len(column)))

    def _tell_sparse(self) -> None:
        """Report a column that is mostly missing once, in however many files: the first months of returns have few."""
        for name, pieces in self._sparse.items():
            parts, nulls, cells = zip(*pieces, strict=True)
            fault = f"of {sum(cells):,} cells of {name} are missing"
            if len(parts) == 1:
                self._warning(parts[0], fault, nulls[0])
            else:
                example = f"{parts[0].label} to {parts[-1].label}"
                self._warning(None, f"{fault}, in {len(parts)} files", sum(nulls), example)

    def _check_key(self, part: Part, data: pa.Table, key: tuple[str, ...]) -> None:
        filled = data.select(list(key)).drop_null()
        repeated = repeated_keys(filled, key)
        if len(repeated):
            rows = pc.sum(repeated["count_all"]).as_py()
            shown = [tuple(map(plain, row.values())) for row in repeated.select(list(key)).slice(0, 3).to_pylist()]
            remainder = f" and {len(repeated) - 3:,} more" if len(repeated) > 3 else ""
            fault = f"keys ({', '.join(key)}) occur more than once, in {rows:,} rows"
            self._error(part, fault, len(repeated), sample(shown) + remainder)

    def _check_partition(self, layout: Layout, part: Part, column: pa.ChunkedArray) -> None:
        first, last = (pa.scalar(instant, DATE) for instant in bounds(layout, part.label))
        outside = column.filter(pc.or_(pc.less(column, first), pc.greater(column, last)))
        if len(outside):
            fault = f"rows are dated outside the {layout} of their partition"
            self._error(part, fault, len(outside), sample(str(instant.date()) for instant in outside.to_pylist()))

    def _check_days(self, part: Part, column: pa.ChunkedArray) -> None:
        late = column.filter(pc.not_equal(pc.floor_temporal(column, unit="day"), column))
        if len(late):
            self._error(
                part, "dates have a time of day, which makes a second price of the day", len(late), str(late[0])
            )

    def _note_spellings(self, data: pa.Table) -> None:
        """Remember the words of the key's columns that their normal form changes."""
        for name, column in zip(data.column_names, data.columns, strict=True):
            if is_text_type(column.type):
                spellings = self._spellings.setdefault(name, {})
                for word in with_codes(column)[1].to_pylist():
                    spellings.setdefault(normal_name(word), set()).add(word)

    def _check_names(self) -> None:
        for column, spellings in self._spellings.items():
            several = [sorted(words) for words in spellings.values() if len(words) > 1]
            if several:
                shown = sample(" = ".join(map(repr, words)) for words in several)
                self._warning(None, f"names in {column} are one name, written in several ways", len(several), shown)

    # --- series -----------------------------------------------------------------------------

    def _note_last_dates(self, data: pa.Table, date_column: str, series: str) -> None:
        """Remember the last date of each series."""
        filled = data.select([date_column, series]).drop_null()
        codes, words = with_codes(filled[series])
        last = pd.Series(filled[date_column].to_numpy()).groupby(codes).max()
        for word, day in zip(words.take(pa.array(last.index)).to_pylist(), last.dt.date, strict=True):
            self._last[word] = max(self._last.get(word, day), day)

    def _series_column(self, opened: _Opened) -> str | None:
        """Return the column of series of a price table, None of any other; a finding where it has none."""
        try:
            return self._prices.columns_in(opened.columns.names)[0] if self._prices else None
        except SchemaError as error:
            self._error(opened.part, "pair of columns, series and price, is missing", 1, error.message)
            return None

    def _price_columns(self, opened: _Opened, series: str | None) -> list[str]:
        """Return the columns of date, series and price; nothing where one is missing or of another type."""
        if self.table.name == PX_LAST:
            columns = list(PX_LAST_COLUMNS)
        elif self._prices is not None and series is not None:
            columns = [DATE_COLUMN, *self._prices.columns_in(opened.columns.names)]
        else:
            return []
        kinds = [opened.columns.field(name).type if name in opened.columns.names else None for name in columns]
        numeric = kinds[2] is not None and (kinds[2] == NUMBER or pa.types.is_integer(kinds[2]))
        return columns if kinds[:2] == [DATE, TEXT] and numeric else []

    def _check_prices(self, part: Part, data: pa.Table) -> None:
        """Check a price table's rows: bad prices, dates to come and, except for marks, moves from row to row."""
        price = data.column(2).cast(NUMBER, safe=False)
        mark = self._prices is not None and self._prices.kind == "mark"
        faults = {
            f"prices are {'below 0' if mark else '0 or less'}; no return rests on them": pc.and_(
                pc.is_finite(price), pc.less(price, 0.0) if mark else pc.less_equal(price, 0.0)
            ),
            "prices are infinite; no return rests on them": pc.is_inf(price),
            "rows are dated after today, so that the table never looks late": pc.greater(
                data.column(0), pa.scalar(self._latest, DATE)
            ),
        }
        for fault, is_faulty in faults.items():
            bad = data.filter(pc.fill_null(is_faulty, False))
            if len(bad):
                rows = zip(*bad.slice(0, 9).to_pydict().values(), strict=True)
                shown = [
                    f"{name} {'' if day is None else day.date()} {'no price' if value is None else f'{value:.6g}'}"
                    for day, name, value in rows
                ]
                self._warning(part, fault, len(bad), sample(shown))
        if self._prices is not None and not mark:
            codes, words = with_codes(data.column(1))
            names = [normal_name(word) for word in words.to_pylist()]
            days, values = data.column(0).to_numpy(), price.to_numpy()
            ascending = bool((days[1:] >= days[:-1]).all())
            step = _SERIES_ROWS if ascending else max(len(days), 1)
            for start in range(0, len(days), step):
                piece = slice(start, start + step)
                self._series.add(names, codes[piece], days[piece].astype("datetime64[D]"), values[piece])

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


def _selected(data: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return those of the columns that the table has."""
    return data.select([name for name in dict.fromkeys(columns) if name in data.column_names])


def _with_numbers(schema: pa.Schema) -> pa.Schema:
    """Return a schema with numbers in place of whole numbers, which are read together with them."""
    return pa.schema([field.with_type(NUMBER) if pa.types.is_integer(field.type) else field for field in schema])


def _without_added(stored: pa.Schema, expected: pa.Schema) -> pa.Schema:
    """Return the columns without those that people have added to the expected ones."""
    added = set(added_columns(stored)) - set(expected.names)
    return pa.schema([field for field in stored if field.name not in added])


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
