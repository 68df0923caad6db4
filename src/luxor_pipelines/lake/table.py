"""Table: one Parquet file, or one file per month or year; scan it, swap one partition of it.

========  ==========================================  ================================
layout    where                                       one partition
========  ==========================================  ================================
file      ``<directory>/<name>.parquet``              the whole table, label ``""``
month     ``<directory>/<name>/month=2026-10/data.parquet``   one month, label ``2026-10``
year      ``<directory>/<name>/year=2026/data.parquet``       one year, label ``2026``
========  ==========================================  ================================

The month or year is derived from a date column and not stored in the files. Should a file and a
folder both exist, the file is the table.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from luxor_pipelines.errors import InvalidNameError, SchemaError, TableNotFoundError, UsageError
from luxor_pipelines.lake import legacy, parquet
from luxor_pipelines.lake.parquet import Where
from luxor_pipelines.lake.storage import BlobInfo, Storage, VersionChangedError, check_path

__all__ = ["DIRECTORY", "Layout", "Part", "Scan", "Snapshot", "Table", "conditions", "list_tables", "table_name"]

DIRECTORY = "enriched/parquet"
PARTITION_COLUMN = b"luxor.partition_column"

Layout = Literal["file", "month", "year"]

_PARTITION = re.compile(r"(month=(?P<month>\d{4}-\d{2})|year=(?P<year>\d{4}))/data\.parquet")
_NAME = re.compile(r"\w[\w.\-]*")
_UNITS = {"month": "M", "year": "Y"}
_ATTEMPTS = 30
_THREADS = 8


def table_name(name: str) -> str:
    """The name as the lake has it: lower case, spaces as underscores.

    Raises
    ------
    InvalidNameError
        Anything that is not a plain name, such as one with ``/`` or ``..``.
    """
    plain = str(name).strip().lower().replace(" ", "_")
    if not _NAME.fullmatch(plain) or ".." in plain or plain.endswith("."):
        raise InvalidNameError(
            f"{name!r} is not a table's name.", hint="Use letters, digits, spaces, _ - and . only, as in hist_returns."
        )
    return plain


@dataclass(frozen=True)
class Part:
    """One partition as listed: its label (``""`` for a table in one file) and its file."""

    label: str
    info: BlobInfo


@dataclass(frozen=True)
class Snapshot:
    """The partitions of a table, each of one version, in ascending order."""

    layout: Layout
    parts: tuple[Part, ...]

    @property
    def version(self) -> str:
        """One text that changes when any partition does."""
        if self.layout == "file":
            return self.parts[0].info.version.strip('"')
        marks = "\n".join(f"{part.label} {part.info.version}" for part in self.parts)
        return hashlib.sha256(marks.encode()).hexdigest()[:32]

    def part(self, label: str) -> Part | None:
        """The partition of that label, if there is one."""
        return next((part for part in self.parts if part.label == label), None)


class Scan(NamedTuple):
    """What was read, and the versions it was read from."""

    data: pa.Table
    snapshot: Snapshot


class StoredPart(NamedTuple):
    """A partition's rows as the file has them, and as typed columns."""

    physical: pa.Table
    logical: pa.Table


@dataclass(frozen=True)
class _Wanted:
    """What a scan asks of each file."""

    columns: Sequence[str] | None
    where: tuple[Where, ...]
    overrides: Mapping[str, Any] | None
    dictionary: tuple[str, ...]
    drop: frozenset[str]
    raw: bool


class _TableMovedError(Exception):
    """A partition that was listed is gone: list again."""


class Table:
    """A table of the lake, in whichever layout it is stored."""

    def __init__(self, storage: Storage, name: str, directory: str = DIRECTORY) -> None:
        self.storage = storage
        self.name = table_name(name)
        self.directory = check_path(directory)

    def __repr__(self) -> str:
        return f"Table({self.name!r} in {self.storage.url}/{self.directory})"

    def path(self, layout: Layout, label: str = "") -> str:
        """Where a partition's file lies."""
        base = f"{self.directory}/{self.name}"
        return f"{base}.parquet" if layout == "file" else f"{base}/{layout}={label}/data.parquet"

    def find(self) -> Snapshot | None:
        """The table's partitions as they are now; None only when there is definitely no such table."""
        info = self.storage.stat(self.path("file"))
        if info is not None:
            return Snapshot("file", (Part("", info),))
        folder = f"{self.directory}/{self.name}"
        parts: dict[Layout, list[Part]] = {"month": [], "year": []}
        for info in self.storage.list(folder):
            match = _PARTITION.fullmatch(info.path[len(folder) + 1 :])
            if match:
                layout: Layout = "month" if match["month"] else "year"
                parts[layout].append(Part(match[layout], info))
        if parts["month"] and parts["year"]:
            raise SchemaError(
                f"Table {self.name} has both month= and year= partitions in {folder}.",
                hint="Move the ones that do not belong there aside.",
            )
        for layout, found in parts.items():
            if found:
                return Snapshot(layout, tuple(sorted(found, key=lambda part: part.label)))
        return None

    def snapshot(self) -> Snapshot:
        """The table's partitions as they are now.

        Raises
        ------
        TableNotFoundError
        """
        found = self.find()
        if found is None:
            raise TableNotFoundError(
                f"There is no table {self.name} in {self.storage.url}/{self.directory}.",
                hint="`luxor tables` lists what there is.",
            )
        return found

    def schema(self, snapshot: Snapshot | None = None) -> pa.Schema:
        """The columns as files of the table store them, of its newest partition, with their metadata."""
        for _ in range(_ATTEMPTS):
            current = snapshot or self.snapshot()
            try:
                with self._open(current.parts[-1].info) as (_, file):
                    return file.schema_arrow
            except VersionChangedError:
                snapshot = None
        raise self.storage.changed(self.name)

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: Sequence[Where] = (),
        *,
        snapshot: Snapshot | None = None,
        overrides: Mapping[str, Any] | None = None,
        dictionary: Sequence[str] = (),
        drop: Sequence[str] = (),
        raw: bool = False,
    ) -> Scan:
        """Read typed columns, from as few partitions, row groups and columns as will do.

        Parameters
        ----------
        columns
            The columns wanted, in this order; default all.
        where
            Conditions that all must hold.
        snapshot
            Read these versions; a partition that has been replaced meanwhile is read as it is now,
            and the returned snapshot says so.
        overrides
            Types for columns of a legacy text file (see `legacy.expected_types`).
        dictionary
            Text columns to return dictionary-encoded, which is quicker for keys.
        drop
            Columns to leave out when all are wanted, such as ``Last_Updated``.
        raw
            Return the columns as the file stores them, legacy text as text.

        Raises
        ------
        TableNotFoundError
        SchemaError
            A column the table does not have, or a cell of a text file that is not of its type.
        CorruptFileError
        """
        wanted = _Wanted(columns, tuple(where), overrides, tuple(dictionary), frozenset(drop), raw)
        for _ in range(_ATTEMPTS):
            current = snapshot or self.snapshot()
            try:
                return self._scan(current, wanted)
            except _TableMovedError:
                snapshot = None
        raise self.storage.changed(self.name)

    def read_part(self, part: Part) -> StoredPart:
        """Read one partition whole, pinned to its version.

        Raises
        ------
        VersionChangedError
        """
        with self._open(part.info) as (reader, file):
            physical = parquet.read(reader, part.info, file)
        return StoredPart(physical, to_logical(physical, self.name))

    def write_part(self, layout: Layout, label: str, data: pa.Table, *, expected: Any, sorted_by: Sequence[str]) -> str:
        """Swap one partition for ``data`` on condition of its version; return the new version.

        Raises
        ------
        ConflictError
        """
        return self.storage.write(
            self.path(layout, label), parquet.to_bytes(data, sorted_by=sorted_by), expected=expected
        )

    # --- reading ----------------------------------------------------------------------------

    @contextmanager
    def _open(self, info: BlobInfo, dictionary: Sequence[str] = ()) -> Iterator[tuple[Any, Any]]:
        with self.storage.open(info) as reader, parquet.footer(reader, info, dictionary) as file:
            yield reader, file

    def _scan(self, snapshot: Snapshot, wanted: _Wanted) -> Scan:
        parts = self._prune(snapshot, wanted.where)
        if self.storage.concurrent and len(parts) > 1:
            with ThreadPoolExecutor(_THREADS) as pool:
                pieces = list(pool.map(lambda part: self._read_current(part, wanted), parts))
        else:
            pieces = [self._read_current(part, wanted) for part in parts]
        actual = {part.label: part for part, _ in pieces}
        after = replace(snapshot, parts=tuple(actual.get(part.label, part) for part in snapshot.parts))
        return Scan(self._concat(pieces), after)

    def _prune(self, snapshot: Snapshot, where: Sequence[Where]) -> list[Part]:
        """The partitions that can hold rows that meet ``where``; always at least one, for its columns."""
        if snapshot.layout == "file" or not any(condition.spans is not None for condition in where):
            return list(snapshot.parts)
        metadata = self.schema(snapshot).metadata or {}
        column = metadata.get(PARTITION_COLUMN, b"Date").decode()
        kept = list(snapshot.parts)
        for condition in where:
            if condition.column == column and condition.spans is not None:
                kept = [part for part in kept if condition.may_hold(*bounds(snapshot.layout, part.label))]
        return kept or [snapshot.parts[-1]]

    def _read_current(self, part: Part, wanted: _Wanted) -> tuple[Part, pa.Table]:
        for _ in range(_ATTEMPTS):
            try:
                return part, self._read(part.info, wanted)
            except VersionChangedError:
                info = self.storage.stat(part.info.path)
                if info is None:
                    raise _TableMovedError from None
                part = Part(part.label, info)
        raise self.storage.changed(part.info.path)

    def _read(self, info: BlobInfo, wanted: _Wanted) -> pa.Table:
        with self._open(info, wanted.dictionary) as (reader, file):
            stored = file.schema_arrow
            typed = logical_schema(stored, self.name, wanted.overrides)
            columns = wanted.columns
            if columns is None:
                columns = [name for name in stored.names if name not in wanted.drop]
            # A condition can only be pushed into the file where it is stored as what it means.
            pushed = [c for c in wanted.where if c.column in stored.names and _same(stored, typed, c.column)]
            rest = [c for c in wanted.where if c not in pushed]
            needed = [*columns, *(c.column for c in rest if c.column not in columns)]
            data = parquet.read(reader, info, file, needed, pushed)
        if not wanted.raw or rest:
            data = to_logical(data, self.name, wanted.overrides, wanted.dictionary)
        return parquet.apply(data, rest).select(list(columns))

    def _concat(self, pieces: Sequence[tuple[Part, pa.Table]]) -> pa.Table:
        first = pieces[0][1]
        for part, data in pieces:
            if set(data.column_names) != set(first.column_names):
                differing = sorted(set(data.column_names) ^ set(first.column_names))
                raise SchemaError(
                    f"Table {self.name}: partitions {pieces[0][0].label} and {part.label} differ in columns "
                    f"{', '.join(map(repr, differing))}.",
                    hint="Rewrite the odd partition with the table's columns.",
                )
        tables = [data.select(first.column_names).replace_schema_metadata(first.schema.metadata) for _, data in pieces]
        try:
            return pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            raise SchemaError(
                f"Table {self.name}: its partitions disagree on a column's type ({error}).",
                hint="Rewrite the odd partition with the table's types.",
            ) from error


def logical_schema(stored: pa.Schema, name: str, overrides: Mapping[str, Any] | None = None) -> pa.Schema:
    """The types the columns mean: number, date, text, flag or stamp, whatever the file stores them as."""
    expected = legacy.expected_types(name, stored.names, overrides)
    return pa.schema([pa.field(f.name, _meaning(f.type, expected.get(f.name))) for f in stored], stored.metadata)


def _meaning(stored: pa.DataType, expected: pa.DataType | None) -> pa.DataType:
    kind = stored.value_type if pa.types.is_dictionary(stored) else stored
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return expected or pa.string()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC") if kind.tz else pa.timestamp("us")
    return pa.timestamp("us") if pa.types.is_date(kind) else pa.string() if pa.types.is_null(kind) else kind


def _same(stored: pa.Schema, typed: pa.Schema, column: str) -> bool:
    kind = stored.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(kind == typed.field(column).type)


def to_logical(
    data: pa.Table,
    name: str,
    overrides: Mapping[str, Any] | None = None,
    dictionary: Sequence[str] = (),
) -> pa.Table:
    """The columns as what they mean: legacy text decoded, whatever other programs wrote as our five types."""
    data = legacy.decode(data, name=name, overrides=overrides)
    target = logical_schema(data.schema, name, overrides)
    columns = []
    for field, column in zip(target, data.columns, strict=True):
        if column.type == field.type or (field.name in dictionary and pa.types.is_dictionary(column.type)):
            columns.append(column)
            continue
        try:
            columns.append(column.cast(field.type))
        except pa.ArrowException as error:
            raise SchemaError(
                f"Table {name}, column {field.name!r}: {column.type} does not fit {field.type} ({error}).",
                hint="Rewrite the column with a type that holds its values.",
            ) from error
    return pa.table(columns, names=data.column_names).replace_schema_metadata(data.schema.metadata)


def labels(layout: Layout, dates: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """The partition label of each date, as text (``2026-10`` or ``2026``)."""
    days = dates.to_numpy().astype("datetime64[us]")
    return np.asarray(np.datetime_as_string(days.astype(f"datetime64[{_UNITS[layout]}]")))


def bounds(layout: Layout, label: str) -> tuple[datetime, datetime]:
    """The first and the last instant of the partition of that label."""
    year, month = (int(label[:4]), int(label[5:])) if layout == "month" else (int(label), 12)
    first = datetime(year, month if layout == "month" else 1, 1)
    after = datetime(year + month // 12, month % 12 + 1, 1)
    return first, after - timedelta(microseconds=1)


def conditions(stored: pa.Schema, name: str, where: Mapping[str, Any]) -> list[Where]:
    """Conditions as callers write them: column → a value, a list of values, or ``(first, last)``.

    Dates may be given as dates or ISO text; the last of a pair is included, as a whole day.

    Raises
    ------
    SchemaError
        A column that the table does not have.
    UsageError
        A value that is not of the column's type.
    """
    typed = logical_schema(stored, name)
    absent = [column for column in where if column not in typed.names]
    if absent:
        raise SchemaError(
            f"Table {name} has no column {', '.join(map(repr, absent))}; it has {', '.join(map(repr, typed.names))}.",
            hint="Check the spelling; column names are case-sensitive.",
        )
    return [_condition(column, value, typed.field(column).type) for column, value in where.items()]


def _condition(column: str, value: Any, kind: pa.DataType) -> Where:
    def cell(given: Any, *, last: bool = False) -> Any:
        try:
            if not pa.types.is_timestamp(kind):
                return pa.scalar(given, kind).as_py()
            instant = datetime.fromisoformat(given.strip()) if isinstance(given, str) else given
            if not isinstance(instant, datetime):
                return datetime.combine(instant, time.max if last else time.min)
            whole_day = isinstance(given, str) and len(given.strip()) == len("2026-10-31")
            return datetime.combine(instant, time.max) if last and whole_day else instant
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise UsageError(
                f"{given!r} is not a value of column {column!r}, which holds {kind}.", hint="Correct the condition."
            ) from error

    if isinstance(value, tuple):
        if len(value) != 2:
            raise UsageError(
                f"The condition on {column!r} has {len(value)} ends.", hint="Give (first, last), None for an open end."
            )
        first, last = value
        return Where(
            column,
            spans=((None if first is None else cell(first), None if last is None else cell(last, last=True)),),
        )
    if isinstance(value, list | set | frozenset):
        return Where(column, values=tuple(cell(each) for each in value))
    return Where(column, values=(cell(value),))


def list_tables(storage: Storage, directory: str = DIRECTORY) -> list[str]:
    """The names of the tables directly in ``directory``, of either layout, sorted."""
    names = set()
    for info in storage.list(directory):
        below = info.path[len(check_path(directory)) + 1 :]
        name, _, rest = below.partition("/")
        if not rest and name.endswith(".parquet"):
            names.add(name.removesuffix(".parquet"))
        elif _PARTITION.fullmatch(rest):
            names.add(name)
    return sorted(names)
