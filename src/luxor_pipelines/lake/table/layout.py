"""Layouts: where a table's files lie, what they are called, and which layout counts.

========  ==========================================  ================================
layout    where                                       one partition
========  ==========================================  ================================
file      ``<directory>/<name>.parquet``              the whole table, label ``""``
month     ``<directory>/<name>/month=2026-10/data.parquet``   one month, label ``2026-10``
year      ``<directory>/<name>/year=2026/data.parquet``       one year, label ``2026``
folder    ``<directory>/<name>/…`` or ``<name>.parquet/…``    one file of another program's, its path for a label
========  ==========================================  ================================

Beside the partitions lie two small files. ``_layout.json``, the `LayoutRecord`, is written before a new table's
first row and before a conversion deletes the single file; it also names the columns that were added to the
partitions or dropped from them since. ``_moving.json`` lies there while the partitions are moved to the archive or
back. The rules by which the layout is told:

1. While ``_moving.json`` is there, there is no table to be read or written.
2. A single file is the table, whatever lies in the folder; except one that `LayoutRecord.supersedes`.
3. Else the partitions are. If there are some by month and some by year, those count that the record names.
4. Else, where no file has the name of a partition, the Parquet files of another program are; see `foreign`. They
   are read and not written. So are files with such names if there is no record, and the newest of them has neither
   `PARTITION_COLUMN` nor a date.
"""

from __future__ import annotations

import calendar
import hashlib
import json
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from luxor_pipelines.errors import CorruptFileError, InvalidNameError, SchemaError, shown
from luxor_pipelines.lake.storage.base import BlobInfo, check_path
from luxor_pipelines.lake.types.schema import ADDED, COLUMN_TYPES, LAST_UPDATED, TEXT, ColumnType, added_columns

__all__ = [
    "BIRTH",
    "CONVERSION",
    "DIRECTORY",
    "LAYOUT_FILE",
    "MOVING_FILE",
    "PARTITION_COLUMN",
    "PLACEHOLDER",
    "ColumnChanges",
    "Layout",
    "LayoutRecord",
    "Part",
    "Snapshot",
    "bounds",
    "near",
    "pieces",
    "recognise",
    "table_name",
]

DIRECTORY = "enriched/parquet"
PARTITION_COLUMN = b"luxor.partition_column"
"""The files' metadata says by which column they are partitioned."""
BIRTH = b"luxor.birth"
"""A single file's metadata holds an id that the load which created it drew; later loads keep it."""
CONVERSION = b"luxor.conversion"
"""A partition's metadata holds the id of the conversion that made it, until a load changes the partition."""
PLACEHOLDER = b"luxor.placeholder"
"""The metadata of a file that a move has created, and not filled yet."""
LAYOUT_FILE = "_layout.json"
MOVING_FILE = "_moving.json"

Layout = Literal["file", "month", "year", "folder"]

_PARTITION = re.compile(
    r"(month=(?P<month>(?!0000)\d{4}-(0[1-9]|1[0-2]))|year=(?P<year>(?!0000)\d{4}))/data\.parquet", re.ASCII
)
_LONGEST = 120
_NAME = re.compile(r"\w[\w.\-]*")
_UNITS = {"month": "M", "year": "Y"}
_YEARS = np.array(["0001", "10000"], dtype="datetime64[Y]")
"""From the first up to the second, a year has the four digits of a label."""


def table_name(name: str) -> str:
    """Return the name in the lake's spelling: lower case, spaces as underscores.

    Raises
    ------
    InvalidNameError
        Anything that is not a plain name, such as one with ``/`` or ``..``.
    """
    if isinstance(name, str):
        plain = name.strip().lower().replace(" ", "_")
        # Letters that only look like others (ａ, ﬁ, Cyrillic а) would make two tables that people cannot tell apart.
        letters = [letter for letter in unicodedata.normalize("NFD", plain) if not unicodedata.combining(letter)]
        composed = unicodedata.normalize("NFKC", plain) == plain
        odd = ".." in plain or plain.endswith(".") or not composed or not "".join(letters).isascii()
        if _NAME.fullmatch(plain) and not odd and len(plain.encode()) <= _LONGEST:
            return check_path(plain)
    raise InvalidNameError(
        f"{shown(name)} is not a table's name.",
        hint="Use letters a to z, accented or not, digits, spaces, _ - and . only, as in daily_volume, and "
        f"{_LONGEST} bytes at most.",
    )


@dataclass(frozen=True)
class Part:
    """A partition as listed: its label (``""`` for a table in one file) and its file."""

    label: str
    info: BlobInfo


@dataclass(frozen=True)
class ColumnChanges:
    """The columns added to a table's partitions, with their types, and those dropped; files may lag behind.

    A file that still lacks an added column has nulls in it, and a dropped column that it still has is not read.
    """

    added: tuple[tuple[str, ColumnType], ...] = ()
    dropped: tuple[str, ...] = ()

    def add(self, name: str, kind: ColumnType) -> ColumnChanges:
        """Return the changes after another column has been added."""
        if (name, kind) in self.added:
            return self
        others = tuple(column for column in self.added if column[0] != name)
        return ColumnChanges((*others, (name, kind)), tuple(column for column in self.dropped if column != name))

    def drop(self, name: str) -> ColumnChanges:
        """Return the changes after another column has been dropped."""
        if name in self.dropped:
            return self
        return ColumnChanges(tuple(column for column in self.added if column[0] != name), (*self.dropped, name))

    def anew(self, names: Collection[str]) -> ColumnChanges:
        """Return the changes that are left when a table is written anew with these columns; none of them was added."""
        return ColumnChanges((), tuple(column for column in self.dropped if column not in names))

    def apply(self, stored: pa.Schema, *, legacy: bool) -> pa.Schema:
        """Return a file's columns, with its metadata, once the changes are made to it.

        Parameters
        ----------
        legacy
            Whether every cell of the file is text; those of a new column then are, too.
        """
        if self == _NO_CHANGES:
            return stored
        fields = [field for field in stored if field.name not in self.dropped]
        new = [pa.field(name, TEXT if legacy else COLUMN_TYPES[kind]) for name, kind in self.added]
        new = [field for field in new if field.name not in stored.names]
        at = len(fields) - 1 if fields and fields[-1].name == LAST_UPDATED else len(fields)
        marked = dict.fromkeys([*added_columns(stored), *(name for name, _ in self.added)])
        metadata = {name: text for name, text in (stored.metadata or {}).items() if name != ADDED}
        if names := [name for name in marked if name not in self.dropped]:
            metadata[ADDED] = "\n".join(names).encode()
        return pa.schema([*fields[:at], *new, *fields[at:]], metadata)


_NO_CHANGES = ColumnChanges()


@dataclass(frozen=True)
class Snapshot:
    """The partitions of a table, each of one version, in ascending order, and the changes made to their columns.

    A snapshot that is not ``whole`` has only the partitions that were looked for.
    """

    layout: Layout
    parts: tuple[Part, ...]
    whole: bool = True
    columns: ColumnChanges = _NO_CHANGES

    @property
    def version(self) -> str:
        """A text that changes when any partition does."""
        if self.layout == "file":
            return self.parts[0].info.version.strip('"')
        marks = "\n".join(f"{part.label} {part.info.version}" for part in self.parts)
        return hashlib.sha256(marks.encode()).hexdigest()[:32]

    @property
    def by_date(self) -> bool:
        """Whether the partitions are months or years, of which the labels tell."""
        return self.layout in ("month", "year")

    def until(self, day: date | None) -> Snapshot:
        """Return the snapshot without the partitions after a date; None leaves out none."""
        if day is None or not self.by_date:
            return self
        last = f"{day:%Y-%m}" if self.layout == "month" else f"{day:%Y}"
        return replace(self, parts=tuple(part for part in self.parts if part.label <= last))

    def part(self, label: str) -> Part | None:
        """Return the partition of a label, None for none."""
        return next((part for part in self.parts if part.label == label), None)


@dataclass(frozen=True)
class LayoutRecord:
    """The layout that was agreed on for a table, as its ``_layout.json`` says.

    Attributes
    ----------
    layout, column
        The layout, and the column of dates that partitions are made by.
    conversion
        The id of the conversion that made the partitions of its single file; None for a table created so.
    birth, digest
        The converted file's `BIRTH`, None if it had none, and the SHA-256 of its bytes.
    columns
        The columns added to the partitions and dropped from them.
    version
        The version of ``_layout.json``; empty before it is written.
    """

    layout: Layout
    column: str
    conversion: str | None = None
    birth: str | None = None
    digest: str | None = None
    columns: ColumnChanges = _NO_CHANGES
    version: str = ""

    def supersedes(self, metadata: Mapping[bytes, bytes]) -> bool:
        """Return whether a single file beside the record is no table, since a load created it after the agreement.

        Files of other programs have no `BIRTH` and are never superseded; nor is the file that was converted, which
        is the table until it is deleted.
        """
        birth = metadata.get(BIRTH)
        return self.layout != "file" and birth is not None and birth.decode() != self.birth

    def encode(self) -> bytes:
        """Return the content of ``_layout.json``."""
        content = {name: value for name, value in asdict(self).items() if name != "version" and value is not None}
        changes = {"added": dict(self.columns.added), "dropped": list(self.columns.dropped)}
        content["columns"] = {name: value for name, value in changes.items() if value}
        return json.dumps({name: value for name, value in content.items() if value != {}}, indent=1).encode()

    @classmethod
    def decode(cls, data: bytes, version: str, path: str) -> LayoutRecord:
        """Return the record that a ``_layout.json`` holds.

        Raises
        ------
        CorruptFileError
        """
        try:
            content = json.loads(data)
            values = {name: content[name] for name in cls.__dataclass_fields__ if name in content}
            changes = content.get("columns", {})
            columns = ColumnChanges(tuple(changes.get("added", {}).items()), tuple(changes.get("dropped", ())))
            record = cls(**{**values, "columns": columns, "version": version})
            valid = record.layout in ("file", "month", "year") and isinstance(record.column, str)
            valid = valid and {kind for _, kind in columns.added} <= COLUMN_TYPES.keys()
        except (ValueError, TypeError, AttributeError, RecursionError):
            valid = False
        if not valid:
            raise CorruptFileError(
                f"{path} does not say how the table is laid out.",
                hint="If the table lies there in one layout only, delete that small file.",
            )
        return record


def recognise(path: str) -> tuple[Layout, str] | None:
    """Return layout and label of a partition's file, from its path in the table's folder; None for any other file."""
    match = _PARTITION.fullmatch(path)
    if match is None:
        return None
    return ("month", match["month"]) if match["month"] else ("year", match["year"])


def pieces(layout: Layout, rows: pa.Table, column: str, name: str) -> list[tuple[str, pa.Table]]:
    """Return the rows of each partition, by label in ascending order.

    Raises
    ------
    SchemaError
        A date that no label can name.
    """
    if layout == "file":
        return [("", rows)]
    if not len(rows):
        return []
    days: np.ndarray[Any, Any] = rows[column].to_numpy().astype("datetime64[us]")
    first, last = days.min(), days.max()
    if not (first >= _YEARS[0] and last < _YEARS[1]):
        example = last if last >= _YEARS[1] else first
        raise SchemaError(
            f"Table {name}, column {column!r}: {example} is in no year from 1 to 9999, and so in no partition.",
            hint="Correct the date.",
        )
    unit = f"datetime64[{_UNITS[layout]}]"
    if first.astype(unit) == last.astype(unit):
        return [(str(first.astype(unit)), rows)]
    units, of_row, counts = np.unique(days.astype(unit), return_inverse=True, return_counts=True)
    rows = rows.take(pa.array(np.argsort(of_row, kind="stable")))
    starts = np.cumsum(counts) - counts
    return [(str(unit), rows.slice(start, count)) for unit, start, count in zip(units, starts, counts, strict=True)]


def near(layout: Layout, instant: datetime) -> list[str]:
    """Return the label of the partition that an instant lies in, and of the one before, if there can be one."""
    if layout == "file":
        return [""]
    first = instant.replace(day=1, month=1 if layout == "year" else instant.month, hour=0, minute=0, second=0)
    instants = [instant] if first.replace(microsecond=0) <= datetime(1, 1, 1) else [instant, first - timedelta(days=1)]
    return [f"{day.year:04d}" + (f"-{day.month:02d}" if layout == "month" else "") for day in instants]


def bounds(layout: Layout, label: str) -> tuple[datetime, datetime]:
    """Return the first and the last instant of the partition of a label."""
    if layout == "year":
        return datetime(int(label), 1, 1), datetime(int(label), 12, 31, 23, 59, 59, 999_999)
    year, month = int(label[:4]), int(label[5:])
    days = calendar.monthrange(year, month)[1]
    return datetime(year, month, 1), datetime(year, month, days, 23, 59, 59, 999_999)
