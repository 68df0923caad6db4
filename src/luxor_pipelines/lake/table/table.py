"""Table: a table of the lake, scanned in whichever layout it is stored, and swapped partition by partition.

See `layout` for where the files lie. The month or year is derived from a date column and not
stored in the files. Should a file and a folder both exist, the file is the table.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from difflib import get_close_matches
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.errors import (
    CorruptFileError,
    ForeignTableError,
    LakeError,
    MoveInProgressError,
    NotFoundError,
    SchemaError,
    TableNotFoundError,
    sample,
)
from luxor_pipelines.lake.concurrency import at_once
from luxor_pipelines.lake.parquet.file import (
    Footers,
    ParquetFile,
    PerBatch,
    Selection,
    StoredRows,
    open_file,
    read_typed,
)
from luxor_pipelines.lake.parquet.predicates import Where
from luxor_pipelines.lake.storage.base import BlobInfo, Storage, Unusable, VersionChangedError, check_path
from luxor_pipelines.lake.storage.lease import fenced_write
from luxor_pipelines.lake.table.foreign import (
    CompletedFile,
    ForeignFolder,
    Format,
    format_of,
    is_data,
    is_hudi,
    may_be_data,
    union,
)
from luxor_pipelines.lake.table.layout import (
    CONVERSION,
    DIRECTORY,
    LAYOUT_FILE,
    MOVING_FILE,
    PARTITION_COLUMN,
    PLACEHOLDER,
    ColumnChanges,
    Layout,
    LayoutRecord,
    Part,
    Snapshot,
    bounds,
    near,
    recognise,
    table_name,
)
from luxor_pipelines.lake.types.codec import Codec, Overrides, codec_of, overridden
from luxor_pipelines.lake.types.schema import DATE, DATE_COLUMN, ENCODING, TEXT, Conventions
from luxor_pipelines.telemetry import span

__all__ = [
    "Scan",
    "StoredPart",
    "Summary",
    "Table",
]

logger = logging.getLogger(__name__)

_SPLIT: tuple[Layout, ...] = ("month", "year")
_ATTEMPTS = 30


class Scan(NamedTuple):
    """The rows that were read, and the versions that they were read from."""

    data: pa.Table
    snapshot: Snapshot


class StoredFile(NamedTuple):
    """A file's codec, which knows its columns, and its number of rows."""

    codec: Codec
    rows: int


class StoredPart(NamedTuple):
    """A partition's codec, its rows as the file has them, and as typed columns."""

    codec: Codec
    physical: pa.Table
    logical: pa.Table


@dataclass(frozen=True)
class Summary:
    """The content of one layout of a table: its files and bytes, rows, first and last date, and who wrote it when.

    Dates are those of the table's date column, or the labels of its partitions; None where there are none.
    """

    layout: Layout
    files: int
    bytes: int
    rows: int
    first: str | None
    last: str | None
    written: datetime
    writer: str

    def __str__(self) -> str:
        kinds = {"file": "one file", "folder": f"a folder of {self.files} files"}
        kind = kinds.get(self.layout, f"{self.files} {self.layout}s")
        dates = f", {self.first} to {self.last}" if self.first else ""
        return f"{kind} ({self.rows:,} rows{dates}, written {self.written:%Y-%m-%d %H:%M} UTC by {self.writer})"


class Extent(NamedTuple):
    """The rows of a table, None where more than `_FEW` files would have to be asked, and its first and last date.

    Dates are None where the table has none, or the statistics of its files do not tell.
    """

    rows: int | None
    first: date | None
    last: date | None


_PLACEHOLDER_BYTES = 64 * 1024
"""The longest file that may be a placeholder: columns and no rows."""
_FEW = 24
"""Files whose footers are read to count a table's rows."""


class _TableMovedError(Exception):
    """A partition that was listed is gone: list again."""


class Table:
    """A table of the lake, in whichever layout it is stored.

    Parameters
    ----------
    conventions
        The customs of the lake, which say what columns of legacy text hold.
    footers
        Where footers that are read are kept, for a next question about the same versions.
    """

    def __init__(
        self,
        storage: Storage,
        name: str,
        directory: str = DIRECTORY,
        *,
        conventions: Conventions | None = None,
        footers: Footers | None = None,
    ) -> None:
        self.storage = storage
        self.name = table_name(name)
        self.directory = check_path(directory)
        self.folder = f"{self.directory}/{self.name}"
        """The folder of the table's partitions."""
        self._single = f"{self.folder}.parquet"
        self.conventions = conventions or Conventions()
        self._footers: Footers = {} if footers is None else footers

    @classmethod
    def at(cls, storage: Storage, path: str, *, conventions: Conventions | None = None) -> Table:
        """Return the table that is the file or folder of a path, as that is written, to be read and not written.

        Other files are not taken for it, whatever the lake's spelling makes of its name.
        """
        path = check_path(path)
        table = cls(storage, "table", conventions=conventions)
        table.directory, _, name = path.rpartition("/")
        table.name = name.removesuffix(".parquet")
        table.folder = table._single = path
        return table

    def __repr__(self) -> str:
        return f"Table({self.name!r} in {self.storage.url}/{self.directory})"

    # --- where the files lie ----------------------------------------------------------------

    @property
    def record_path(self) -> str:
        """The path of the table's `LayoutRecord`."""
        return f"{self.folder}/{LAYOUT_FILE}"

    @property
    def moving_path(self) -> str:
        """The path of the file that lies there while the table is moved to the archive or back."""
        return f"{self.folder}/{MOVING_FILE}"

    def path(self, layout: Layout, label: str = "") -> str:
        """Return the path of a partition's file."""
        return self._single if layout == "file" else f"{self.folder}/{layout}={label}/data.parquet"

    def recognise(self, path: str) -> tuple[Layout, str] | None:
        """Return layout and label of a partition's file, from its path in the lake; None for any other file."""
        return recognise(path[len(self.folder) + 1 :])

    def partitions(self, files: Iterable[BlobInfo]) -> dict[Layout, list[Part]]:
        """Return those of some files that lie where partitions do, by month and by year, each in the files' order."""
        parts: dict[Layout, list[Part]] = {layout: [] for layout in _SPLIT}
        for info in files:
            layout_and_label = self.recognise(info.path)
            if layout_and_label is not None:
                layout, label = layout_and_label
                parts[layout].append(Part(label, info))
        return parts

    def files(self, *, unusable: list[Unusable] | None = None) -> list[BlobInfo]:
        """Return all files in the table's folder, and in the folder that has the name of its single file.

        ``unusable`` is as for `Storage.list`.
        """
        folders = (self.folder, self.path("file"))
        listings = at_once(self.storage, folders, lambda folder: self.storage.list(folder, unusable=unusable))
        return [info for files in listings for info in files]

    def below(self, path: str) -> str:
        """Return a path as seen from the table's folder, or from the folder that has the name of its single file."""
        return path[len(self.folder) :].removeprefix(".parquet").lstrip("/")

    # --- which files are the table ----------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return the table's partitions as they are now.

        Raises
        ------
        TableNotFoundError
        """
        snapshot = self.find()
        if snapshot is None:
            raise self.not_found()
        return snapshot

    def not_found(self) -> TableNotFoundError:
        """Return the error for a table that is not there, with the names that are nearly its own."""
        names: set[str] = set()
        with suppress(LakeError):
            beside = self.storage.folder(self.directory, unusable=[])
            names = {info.path.rpartition("/")[2].removesuffix(".parquet") for info in beside.files}
            names |= set(beside.folders)
        near = get_close_matches(self.name, sorted(names - {self.name}), n=3, cutoff=0.75)
        meant = f"Did you mean {' or '.join(near)}? " if near else ""
        return TableNotFoundError(
            f"There is no table {self.name} in {self.storage.url}/{self.directory}.",
            hint=f"{meant}`luxor tables` lists what there is.",
        )

    def find(self) -> Snapshot | None:
        """Return the table's partitions as they are now; None only when there is definitely no such table.

        Raises
        ------
        MoveInProgressError
        SchemaError
            There are partitions by month and by year, and no record says which count.
        """
        for _ in range(_ATTEMPTS):
            unusable: list[Unusable] = []
            looks: list[Callable[[], Any]] = [
                partial(self.storage.entry, self.path("file"), unusable=unusable),
                partial(self.storage.stat, self.record_path),
                partial(self.storage.stat, self.moving_path),
            ]
            (single, namesakes), recorded, moving = at_once(self.storage, looks, lambda look: look())
            if moving is not None:
                raise self.moving()
            if single is not None and not self._is_no_table(single, None if recorded is None else self.record()):
                # Some programs mark a folder by an empty file of its name.
                marked = None if single.size else self._find_foreign(namesakes, unusable)
                return marked or Snapshot("file", (Part("", single),))
            with suppress(_TableMovedError):
                return self._find_partitions(namesakes, unusable)
        raise self.storage.changed(self.name)

    def find_partitions(self, *, namesake: bool) -> Snapshot | None:
        """Do as `find` does, with less work, for a table of which a listing has shown no single file.

        Parameters
        ----------
        namesake
            Whether the listing has shown a folder that has the name of the single file.
        """
        unusable: list[Unusable] = []
        namesakes = self.storage.list(self.path("file"), unusable=unusable) if namesake else ()
        with suppress(_TableMovedError):
            return self._find_partitions(namesakes, unusable)
        return self.find()

    def _find_partitions(self, namesakes: Sequence[BlobInfo], unusable: list[Unusable]) -> Snapshot | None:
        """Return the partitions where there is no single file; None where there are none.

        Partitions that are listed are the table if afterwards there is no single file either, and the record is as it
        was listed: else a conversion is writing them, or a move has come and gone.

        Parameters
        ----------
        namesakes, unusable
            The files in the folder that has the name of the single file, and the entries there that cannot be used.
        """
        files = self.storage.list(self.folder, unusable=unusable)
        for entry in unusable:  # `luxor check` names the others
            place = entry.path[len(self.folder) + 1 :]
            if recognise(place) or recognise(f"{place}/data.parquet"):
                raise LakeError(
                    f"Table {self.name} cannot be read: {entry.path}: {entry.reason}.",
                    hint="Make that partition readable, or move it away.",
                )
        listed = {info.path: info for info in files}
        if self.moving_path in listed:
            raise self.moving()
        by_layout = {layout: parts for layout, parts in self.partitions(files).items() if parts}
        if not by_layout:
            return self._find_foreign(list(dict.fromkeys([*files, *namesakes])), unusable)
        single, moving, record = self._look_after()
        if moving is not None:
            raise self.moving()
        settled = single is None or self._is_no_table(single, record)
        listed_record = listed.get(self.record_path)
        if not settled or (record.version if record else None) != (listed_record.version if listed_record else None):
            raise _TableMovedError
        agreed = record if record is not None and record.layout in by_layout else None
        if agreed is None and len(by_layout) > 1:
            raise SchemaError(
                f"Table {self.name} has both month= and year= partitions in {self.folder}.",
                hint="Move the ones that do not belong there aside.",
            )
        layout = agreed.layout if agreed is not None else next(iter(by_layout))
        partitions = sorted(by_layout[layout], key=lambda part: part.label)
        if agreed is None:
            if self.is_placeholder(partitions[-1]):
                return None
            if self.is_of_another_program(partitions[-1]):
                return self._find_foreign(list(dict.fromkeys([*files, *namesakes])), unusable)
        self._warn_of_strays(info for info in files if self.recognise(info.path) is None)
        return Snapshot(layout, tuple(partitions), columns=agreed.columns if agreed else ColumnChanges())

    def _look_after(self) -> tuple[BlobInfo | None, BlobInfo | None, LayoutRecord | None]:
        """Return the single file, the file that tells of a move, and the record, as they are now."""
        work: list[Callable[[], Any]] = [
            lambda: self.storage.stat(self.path("file")),
            lambda: self.storage.stat(self.moving_path),
            self.record,
        ]
        single, moving, record = at_once(self.storage, work, lambda step: step())
        return single, moving, record

    def find_near(self, instant: datetime) -> tuple[Snapshot | None, LayoutRecord | None]:
        """Return what a load of an instant needs to see: the one file, the partition there, or else the one before.

        Of a long history that is much quicker than `find`, which is asked where there is none of them. The layout's
        record comes along.
        """
        by_layout = {layout: near(layout, instant) for layout in _SPLIT}
        for places in (
            [("file", ""), *((layout, labels[0]) for layout, labels in by_layout.items())],
            [(layout, label) for layout, labels in by_layout.items() for label in labels[1:]],
        ):
            files, record = self.look(places)
            if ("file", "") in files:
                return Snapshot("file", (Part("", files["file", ""]),)), record
            if len(files) == 1:
                ((layout, label), info) = next(iter(files.items()))
                if record is None and self.is_of_another_program(Part(label, info)):
                    break
                columns = record.columns if record is not None and record.layout == layout else ColumnChanges()
                return Snapshot(layout, (Part(label, info),), whole=False, columns=columns), record
            if files:
                break
        return self.find(), self.record()

    def look(
        self, places: Sequence[tuple[Layout, str]]
    ) -> tuple[dict[tuple[Layout, str], BlobInfo], LayoutRecord | None]:
        """Return the files that are there now at some places, by layout and label, and the layout's record.

        A single file that is superseded counts as none.

        Raises
        ------
        MoveInProgressError
        """
        # Partitions come first, since on disk files are looked at one after another: a partition that is seen before
        # the single file is seen to be gone belongs to the table, and not to a conversion under way.
        paths = sorted((self.path(layout, label) for layout, label in places), key=self.path("file").__eq__)
        *infos, recorded, moving = self.storage.peek([*paths, self.record_path, self.moving_path])
        if moving is not None:
            raise self.moving()
        by_path = {info.path: info for info in infos if info is not None}
        files = {place: by_path[self.path(*place)] for place in places if self.path(*place) in by_path}
        record = None if recorded is None else self._read_record(recorded)
        if ("file", "") in files and self._is_superseded(files["file", ""], record):
            del files["file", ""]
        return files, record

    def _is_no_table(self, single: BlobInfo, record: LayoutRecord | None) -> bool:
        """Return whether a single file is no table: superseded, or created too late by a move that was overtaken."""
        return self._is_superseded(single, record) or self.is_unfilled(single)

    def _is_superseded(self, single: BlobInfo, record: LayoutRecord | None) -> bool:
        """Return whether the single file is no table: see `LayoutRecord.supersedes`. Its footer is read if need be."""
        if record is None or record.layout == "file":
            return False
        try:
            with self._open(single) as file:
                return record.supersedes(file.schema.metadata or {})
        except VersionChangedError:
            return False  # who reads it next finds out

    def is_unfilled(self, info: BlobInfo) -> bool:
        """Return whether a file is a placeholder; of a long one, the footer is not read."""
        return 0 < info.size <= _PLACEHOLDER_BYTES and self.is_placeholder(Part("", info))

    def is_placeholder(self, part: Part) -> bool:
        """Return whether a partition was created without rows by a conversion or a move, and not filled since.

        It is no table by itself: one that was overtaken has created it too late.
        """
        try:
            stored = self.stored(part)
        except (CorruptFileError, SchemaError, VersionChangedError):  # written since: then it is filled, or is gone
            return False
        marks = stored.codec.stored.metadata or {}
        return not stored.rows and (CONVERSION in marks or PLACEHOLDER in marks)

    def has_partitions(self) -> bool:
        """Return whether the table's folder has partitions, be they the table or not; placeholders do not count."""
        by_layout = self.partitions(self.storage.list(self.folder))
        return any(not self.is_placeholder(part) for parts in by_layout.values() for part in parts)

    def moving(self) -> MoveInProgressError:
        """Return the error for a table that is being moved."""
        return MoveInProgressError(
            f"Table {self.name} in {self.storage.url}/{self.directory} is being moved to the archive or back, or such "
            "a move was cut short.",
            hint=f"If nobody is at it, `luxor archive {self.name}` completes the move and `luxor restore {self.name}` "
            "puts the table back.",
        )

    # --- the record of the layout -----------------------------------------------------------

    def record(self) -> LayoutRecord | None:
        """Return the layout that was agreed on for the table; None where nothing was.

        Raises
        ------
        CorruptFileError
        """
        try:
            blob = self.storage.read(self.record_path)
        except NotFoundError:
            return None
        return LayoutRecord.decode(blob.data, blob.version, self.record_path)

    def _read_record(self, info: BlobInfo) -> LayoutRecord | None:
        """Return the record that was peeked at, whose bytes came along; see `record`."""
        try:
            with self.storage.open(info) as reader:
                return LayoutRecord.decode(reader.source().read(), info.version, info.path)
        except VersionChangedError:
            return self.record()

    def write_record(self, record: LayoutRecord, *, expected: str | None) -> LayoutRecord:
        """Swap the record on condition of its version, None for none; return it with the new one.

        Raises
        ------
        ConflictError
        """
        return replace(record, version=self.storage.write(self.record_path, record.encode(), expected=expected))

    # --- files that are hidden, not read, or of other programs ------------------------------

    def shadow(self) -> str:
        """Return words about a single file that hides partitions: who wrote either, when, and what to do.

        They are empty where there is none. What an unfinished conversion or move has left counts as no partition.
        """
        snapshot = self.find()
        if snapshot is None or snapshot.layout != "file":
            return ""
        parts = self.partitions(self.storage.list(self.folder))
        layout = max(parts, key=lambda layout: len(parts[layout]))
        hidden = Snapshot(layout, tuple(sorted(parts[layout], key=lambda part: part.label)))
        if not hidden.parts or self._is_left(hidden.parts[-1]):
            return ""
        return (
            f"Table {self.name} lies there twice: {self._description(snapshot)}, which is what is read, hides "
            f"{self._description(hidden)}. `luxor archive {self.name} --only file` moves that file aside."
        )

    def _description(self, snapshot: Snapshot) -> str:
        try:
            return str(self.summary(snapshot))
        except (LakeError, SchemaError):
            return f"{len(snapshot.parts)} files that cannot be read"

    def _is_left(self, part: Part) -> bool:
        """Return whether a conversion or a move has written a partition, and no load since."""
        try:
            marks = self.stored(part).codec.stored.metadata or {}
        except (LakeError, SchemaError):
            return False
        return CONVERSION in marks or PLACEHOLDER in marks

    def strays(self, files: Iterable[BlobInfo]) -> list[str]:
        """Return the paths of those files that may have rows of the table, by their names, among files not read."""
        return [info.path for info in files if info.size and may_be_data(self.below(info.path))]

    def _warn_of_strays(self, files: Iterable[BlobInfo]) -> None:
        strays = self.strays(files)
        if strays and self.folder != self.path("file"):  # else who reads it by its path says so
            logger.warning(
                "Table %s: files in %s are none of its partitions and are not read: %s; `luxor check %s` names all.",
                *(self.name, self.folder, sample(strays), self.name),
            )

    def is_foreign_data(self, info: BlobInfo) -> bool:
        """Return whether a file of the table's folders has rows as other programs write them; see `foreign.is_data`."""
        return info.size > 0 and self._is_foreign(info.path)

    def _is_foreign(self, path: str) -> bool:
        return is_data(self.below(path), any_name=path.startswith(f"{self.path('file')}/"))

    def is_of_another_program(self, part: Part) -> bool:
        """Return whether a file in a place where a partition of ours may lie is one of a folder of another program.

        Its metadata names no column by which the rows are partitioned, and it has no dates: the folder alone tells
        month or year.
        """
        try:
            codec = self.stored(part).codec
        except (CorruptFileError, SchemaError, VersionChangedError):  # who reads it next finds out
            return False
        is_marked = PARTITION_COLUMN in (codec.stored.metadata or {})
        return not (is_marked or DATE_COLUMN in codec.schema.names or DATE in codec.schema.types)

    def _find_foreign(self, files: Sequence[BlobInfo], unusable: Sequence[Unusable]) -> Snapshot | None:
        """Return the files that another program left as this table, in either of two folders; None for none.

        Parameters
        ----------
        files, unusable
            Listings in which no file is a partition of ours. Nothing is listed again, since a load may have begun
            the table meanwhile.
        """
        kind = format_of(self.below(info.path) for info in files)
        if kind is not None:
            raise self._unreadable(kind)
        for entry in unusable:
            if self._is_foreign(entry.path) or self._is_foreign(f"{entry.path}/part-0.parquet"):
                raise LakeError(
                    f"Table {self.name} cannot be read: {entry.path}: {entry.reason}.",
                    hint="Make that file or folder readable, or move it away.",
                )
        data = [info for info in files if self.is_foreign_data(info)]
        folders = sorted({info.path.removesuffix(f"/{self.below(info.path)}") for info in data})
        if len(folders) > 1:
            raise SchemaError(
                f"Table {self.name} lies there twice: in {folders[0]}/ and in {folders[1]}/.",
                hint="Move one of the two folders away.",
            )
        if not data:
            return None
        if self.storage.stat(self.moving_path) is not None:  # then some may have been moved before they were listed
            raise self.moving()
        read = set(data)
        self._warn_of_strays(info for info in files if info not in read)
        return Snapshot("folder", tuple(Part(self.below(info.path), info) for info in data))

    def _unreadable(self, kind: Format) -> ForeignTableError:
        name, mark, library = {
            "delta": ("a Delta table", "a _delta_log", "deltalake"),
            "iceberg": ("an Iceberg table", "metadata", "pyiceberg"),
            "hudi": ("a Hudi table", "columns _hoodie_…", "hudi"),
        }[kind]
        steps = f"`luxor archive {self.name}`, then `luxor load {self.name} FILE`"
        if self.folder == self.path("file"):  # it is no table of the lake
            steps = "and load that"
        return ForeignTableError(
            f"Table {self.name} in {self.storage.url} is {name} (it has {mark}), whose log says which of its rows "
            "count. luxor-pipelines neither reads nor writes it.",
            hint=f"Read it with its own library, such as {library}. To have it here: export it to a Parquet file, "
            f"{steps}.",
            kind=kind,
        )

    def check_ours(self, snapshot: Snapshot | None) -> None:
        """Refuse to write a table that another program left as a folder of files.

        Raises
        ------
        ForeignTableError
        """
        if snapshot is None or snapshot.layout != "folder":
            return
        folder = snapshot.parts[0].info.path.removesuffix(f"/{snapshot.parts[0].label}")
        raise ForeignTableError(
            f"Table {self.name} in {self.storage.url} is a folder of files that another program wrote ({folder}, "
            f"{len(snapshot.parts)} of them). It is read, and not written.",
            hint=f"To take it over: `luxor archive {self.name}` moves it to archive/STAMP/, then `luxor load "
            f"{self.name} archive/STAMP/{folder}`. Nobody else may write it any more.",
            kind="folder",
        )

    # --- facts that the footers tell --------------------------------------------------------

    def codec(self, snapshot: Snapshot | None = None, overrides: Mapping[str, Any] | None = None) -> Codec:
        """Return the codec of the table's newest partition, which knows the table's columns, stored and typed.

        That of a folder of another program knows the columns of all its files.

        Parameters
        ----------
        overrides
            Types for columns of text (see `codec.overridden`).
        """
        for _ in range(_ATTEMPTS):
            current = snapshot or self.snapshot()
            try:
                foreign = self._foreign(current)
                if foreign is not None:
                    return self._codec(foreign.schema, overridden(overrides))
                return self.stored(current.parts[-1], overrides, current.columns).codec
            except VersionChangedError:
                snapshot = None
        raise self.storage.changed(self.name)

    def changed_codec(self, codec: Codec, columns: ColumnChanges, overrides: Overrides | None = None) -> Codec:
        """Return the codec of a file once changes of columns are made to it."""
        if columns == ColumnChanges():
            return codec
        return codec_of(columns.apply(codec.stored, legacy=codec.legacy), self.name, self.conventions, overrides)

    def _codec(
        self, stored: pa.Schema, overrides: Overrides | None = None, columns: ColumnChanges | None = None
    ) -> Codec:
        codec = codec_of(stored, self.name, self.conventions, overrides)
        return codec if columns is None else self.changed_codec(codec, columns, overrides)

    def _foreign(self, snapshot: Snapshot) -> ForeignFolder | None:
        """Return the columns that the files of another program have together; None where the table is ours.

        Raises
        ------
        VersionChangedError
        SchemaError
            The files disagree on the type of a column.
        ForeignTableError
            It is a Hudi table.
        """
        if snapshot.layout != "folder":
            return None

        def schema(part: Part) -> pa.Schema:
            with self._open(part.info) as file:
                return file.schema

        schemas = at_once(self.storage, snapshot.parts, schema)
        if any(is_hudi(stored.names) for stored in schemas):
            raise self._unreadable("hudi")
        return union(self.name, {part.label: stored for part, stored in zip(snapshot.parts, schemas, strict=True)})

    def stored(
        self, part: Part, overrides: Mapping[str, Any] | None = None, columns: ColumnChanges | None = None
    ) -> StoredFile:
        """Return what the footer of one partition's file tells; no row is read.

        Parameters
        ----------
        overrides
            Types for columns of text (see `codec.overridden`).
        columns
            Changes of columns that the codec takes for made; default none.

        Raises
        ------
        VersionChangedError
        CorruptFileError
        """
        with self._open(part.info) as file:
            return StoredFile(self._codec(file.schema, overridden(overrides), columns), file.rows)

    def sorted_by(self, part: Part) -> tuple[str, ...]:
        """Return the columns that a partition's rows are sorted by, as its file says; empty where it does not.

        Raises
        ------
        VersionChangedError
        CorruptFileError
        """
        with self._open(part.info) as file:
            return file.sorted_by

    def _footer(self, part: Part) -> Any:
        """Return what pyarrow reads of a partition's footer."""
        with self._open(part.info) as file:
            return file.footer.metadata

    def null_counts(self, snapshot: Snapshot) -> dict[str, int]:
        """Return the number of cells without a value in each column: from the footers, else by reading the column.

        Raises
        ------
        VersionChangedError
        CorruptFileError
        """
        codec = self.codec(snapshot)
        counts: dict[str, int | None] = dict.fromkeys(codec.schema.names)
        if not codec.legacy and snapshot.layout != "folder":
            footers = at_once(self.storage, snapshot.parts, self._footer)
            counts = {name: _null_count(footers, name) for name in counts}
        return {
            name: self.scan([name], snapshot=snapshot).data[name].null_count if count is None else count
            for name, count in counts.items()
        }

    def dates(self, part: Part, column: str) -> tuple[date, date] | None:
        """Return the first and the last date of a partition, by its footer; None where it does not have them.

        Raises
        ------
        VersionChangedError
        CorruptFileError
        """
        with self._open(part.info) as file:
            bounds = file.footer.bounds(column)
        if bounds is None:
            return None
        try:
            return date.fromisoformat(str(bounds[0])[:10]), date.fromisoformat(str(bounds[1])[:10])
        except ValueError:  # the column is text, and a word in it is no date
            return None

    def extent(self, snapshot: Snapshot) -> Extent:
        """Return how many rows a table has, and its first and last date, as a few footers tell.

        Raises
        ------
        VersionChangedError
        CorruptFileError
        """
        column, parts = _date_column(self.codec(snapshot).schema), snapshot.parts
        is_small = len(parts) <= _FEW
        rows = sum(at_once(self.storage, parts, lambda part: self.stored(part).rows)) if is_small else None
        if column is None:
            return Extent(rows, None, None)
        if snapshot.layout != "folder":  # the partitions are in the order of their dates
            begin, end = self.dates(parts[0], column), self.dates(parts[-1], column)
            return Extent(rows, None if begin is None else begin[0], None if end is None else end[1])
        spans = [self.dates(part, column) for part in parts] if is_small else []
        stated = [span for span in spans if span is not None]
        if not stated or len(stated) < len(spans):
            return Extent(rows, None, None)
        return Extent(rows, min(first for first, _ in stated), max(last for _, last in stated))

    def summary(self, snapshot: Snapshot) -> Summary:
        """Return what a person needs to know to tell a layout of the table from another.

        Raises
        ------
        VersionChangedError
        CorruptFileError
        """
        newest = max(snapshot.parts, key=lambda part: part.info.modified)
        footers = dict(zip(snapshot.parts, at_once(self.storage, snapshot.parts, self._footer), strict=True))
        is_ours = ENCODING in (footers[newest].metadata or {})
        labels = snapshot.parts[0].label, snapshot.parts[-1].label
        first, last = labels if snapshot.by_date else self._read_dates(snapshot)
        return Summary(
            snapshot.layout,
            len(snapshot.parts),
            sum(part.info.size for part in snapshot.parts),
            sum(metadata.num_rows for metadata in footers.values()),
            first,
            last,
            newest.info.modified.astimezone(UTC),
            "luxor-pipelines" if is_ours else str(footers[newest].created_by or "an unknown program"),
        )

    def _read_dates(self, snapshot: Snapshot) -> tuple[str | None, str | None]:
        """Return the first and last date of a table's date column; None without such a column, or with bad cells."""
        column = _date_column(self.codec(snapshot).schema)
        if column is None:
            return None, None
        try:
            ends = pc.min_max(self.scan([column], snapshot=snapshot).data[column])
        except SchemaError:
            return None, None
        # By Arrow, since Python has no dates before the year 1 or after 9999.
        texts = (ends[name].cast(TEXT).as_py() for name in ("min", "max"))
        first, last = (None if text is None else text.partition(" ")[0] for text in texts)
        return first, last

    def series_index(self, snapshot: Snapshot, name: str) -> pa.Table | None:
        """Return the rows of the partitions' series indexes, whose names are in the column ``name``.

        None where a partition's file has no index, or has been replaced meanwhile.
        """
        if snapshot.layout == "folder":
            return None

        def index_of(part: Part) -> pa.Table | None:
            try:
                with self._open(part.info) as file:
                    return file.footer.series_index
            except VersionChangedError:
                return None

        indexes = at_once(self.storage, snapshot.parts, index_of)
        if not indexes or any(index is None or name not in index.column_names for index in indexes):
            return None
        return pa.concat_tables(indexes)

    # --- reading and writing ----------------------------------------------------------------

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
        per_batch: PerBatch | None = None,
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
            Types for columns of a legacy text file (see `codec.overridden`).
        dictionary
            Text columns to return dictionary-encoded, which is quicker for keys.
        drop
            Columns to leave out when all are wanted, such as ``Last_Updated``.
        raw
            Return the columns as the file stores them, legacy text as text.
        per_batch
            Applied to each batch of rows as it is read, by several threads at once: keeps only what is needed of a
            long history, before all of it is in memory.

        Raises
        ------
        TableNotFoundError
        SchemaError
            A column the table does not have, or a cell of a text file that is not of its type.
        CorruptFileError
        """
        selection, types = Selection(columns, where, dictionary, drop, raw, per_batch), overridden(overrides)
        for _ in range(_ATTEMPTS):
            current = snapshot or self.snapshot()
            try:
                with span("read", table=self.name) as ending:
                    scan = self._scan(current, selection, types)
                    ending |= {"rows": scan.data.num_rows}
                    return scan
            except (_TableMovedError, VersionChangedError):
                snapshot = None
        raise self.storage.changed(self.name)

    def narrow(
        self,
        rows: pa.Table,
        columns: Sequence[str],
        where: Sequence[Where],
        *,
        overrides: Mapping[str, Any] | None = None,
        dictionary: Sequence[str] = (),
        per_batch: PerBatch | None = None,
    ) -> pa.Table:
        """Return the rows that `scan` would, from all of the table's rows, read ``raw`` in the columns needed."""
        codec = self._codec(rows.schema, overridden(overrides))
        return read_typed(StoredRows(rows), codec, Selection(columns, where, dictionary, per_batch=per_batch))

    def read_part(self, part: Part, columns: ColumnChanges | None = None) -> StoredPart:
        """Read one partition whole, pinned to its version.

        Parameters
        ----------
        columns
            Changes of columns that are made to what was read; default none.

        Raises
        ------
        VersionChangedError
        """
        with self._open(part.info) as file:
            physical = file.read()
        codec = self._codec(physical.schema, columns=columns)
        absent = [field for field in codec.schema if field.name not in physical.column_names]
        nulls = pa.table({field.name: pa.nulls(len(physical), field.type) for field in absent})
        new = codec.encode(nulls) if codec.legacy else nulls
        for name, column in zip(new.column_names, new.columns, strict=True):
            physical = physical.append_column(name, column)
        physical = physical.select(codec.stored.names).replace_schema_metadata(codec.stored.metadata)
        return StoredPart(codec, physical, codec.decode(physical))

    def write_part(self, layout: Layout, label: str, file: bytes, *, expected: str | None) -> str:
        """Swap one partition for ``file`` on condition of its version; return the new version.

        Raises
        ------
        ConflictError
        LockLostError
            The lease that the work is done under is somebody else's by now.
        """
        return fenced_write(self.storage, self.path(layout, label), file, expected=expected)

    def plan(self, snapshot: Snapshot, where: Sequence[Where]) -> list[Part]:
        """Return the partitions that a scan reads: those whose rows might match, and at least one for its columns."""
        parts = list(snapshot.parts)
        if len(parts) < 2 or not where or not snapshot.by_date:
            return parts
        schema = self.codec(snapshot).stored
        column = (schema.metadata or {}).get(PARTITION_COLUMN, b"").decode()
        if column in schema.names and schema.field(column).type == DATE:
            for condition in where:
                if condition.column == column:
                    parts = [part for part in parts if condition.might_match(*bounds(snapshot.layout, part.label))]
        return parts or [snapshot.parts[-1]]

    @contextmanager
    def _open(self, info: BlobInfo) -> Iterator[ParquetFile]:
        with open_file(lambda: self.storage.open(info), info, self._footers) as file:
            yield file

    def _scan(self, snapshot: Snapshot, selection: Selection, overrides: Overrides) -> Scan:
        """Try once to do as `scan` does.

        Raises
        ------
        _TableMovedError, VersionChangedError
            The table is to be looked at again.
        """
        foreign = self._foreign(snapshot)
        parts = self.plan(snapshot, selection.where)
        several = len(parts) > 1

        def read_part(part: Part, *, may_skip: bool = several) -> tuple[Part, pa.Table | None]:
            try:
                return self._read_current(part, selection, overrides, snapshot.columns, foreign, may_skip=may_skip)
            except (TypeError, pa.ArrowException, CorruptFileError) as error:
                if several and foreign is None:
                    self._check_comparable(part, snapshot, selection.where, error)
                raise

        results = at_once(self.storage, parts, read_part)
        pieces = [(part, data) for part, data in results if data is not None]
        if not pieces:  # one partition is read all the same, for its columns
            part, data = read_part(parts[-1], may_skip=False)
            assert data is not None
            pieces = [(part, data)]
        current = {part.label: part for part, _ in (*results, *pieces)}
        after = replace(snapshot, parts=tuple(current.get(part.label, part) for part in snapshot.parts))
        return Scan(self._concat(pieces, snapshot), after)

    def _read_current(
        self,
        part: Part,
        selection: Selection,
        overrides: Overrides,
        columns: ColumnChanges,
        foreign: ForeignFolder | None,
        *,
        may_skip: bool,
    ) -> tuple[Part, pa.Table | None]:
        """Return a partition as it is now, and its selected rows; None if it ``may_skip`` them by their statistics."""
        for _ in range(_ATTEMPTS):
            try:
                with self._open(part.info) as opened:
                    if not (part.label or opened.rows) and PLACEHOLDER in (opened.schema.metadata or {}):
                        raise _TableMovedError  # a single file that a move has created, and not filled
                    file = self._changed(opened, columns) if foreign is None else foreign.file(part.label, opened)
                    skipped = may_skip and not file.might_match(selection.where)
                    return part, None if skipped else read_typed(file, self._codec(file.schema, overrides), selection)
            except VersionChangedError:
                info = self.storage.stat(part.info.path)
                if info is None or foreign is not None:  # another program writes all files of its folder together
                    raise _TableMovedError from None
                part = Part(part.label, info)
        raise self.storage.changed(part.info.path)

    def _changed(self, file: ParquetFile, columns: ColumnChanges) -> ParquetFile | CompletedFile:
        """Return a file as if changes of columns had been made to it."""
        if columns == ColumnChanges():
            return file
        schema = self._codec(file.schema, columns=columns).stored
        return file if schema.names == file.schema.names else CompletedFile(file, schema, {}, self.name)

    def _concat(self, pieces: Sequence[tuple[Part, pa.Table]], snapshot: Snapshot) -> pa.Table:
        """Return the rows of all partitions, which must have the same columns."""
        first = pieces[0][1]
        for part, data in pieces:
            if set(data.column_names) != set(first.column_names):
                if any(snapshot.part(part.label) != part for part, _ in pieces):
                    raise _TableMovedError  # the table's columns may have changed, too
                differing = sorted(set(data.column_names) ^ set(first.column_names))
                raise SchemaError(
                    f"Table {self.name}: partitions {pieces[0][0].label} and {part.label} differ in columns "
                    f"{', '.join(map(repr, differing))}.",
                    hint=f"Rewrite the odd partition with the table's columns, or let all have it: `luxor add-column "
                    f"{self.name} COLUMN --type KIND` (or `luxor drop-column`).",
                )
        tables = [data.select(first.column_names).replace_schema_metadata(first.schema.metadata) for _, data in pieces]
        try:
            return pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            raise self._disagreement(str(error)) from error

    def _check_comparable(self, part: Part, snapshot: Snapshot, where: Sequence[Where], error: Exception) -> None:
        """Name the column for which a predicate fails in a partition that has it in another type than the table.

        Raises
        ------
        SchemaError
        """
        try:
            schema, own = self.codec(snapshot).schema, self.stored(part, columns=snapshot.columns).codec.schema
        except VersionChangedError:  # what failed is told as it is
            return
        for name in (condition.column for condition in where):
            if name in schema.names and name in own.names and schema.field(name).type != own.field(name).type:
                raise self._disagreement(
                    f"{name!r} is {own.field(name).type} in {part.label}, {schema.field(name).type} in the newest"
                ) from error

    def _disagreement(self, detail: str) -> SchemaError:
        return SchemaError(
            f"Table {self.name}: its partitions disagree on a column's type ({detail}).",
            hint="Rewrite the odd partition with the table's types; or drop the column from all, with its values: "
            f"`luxor drop-column {self.name} COLUMN`.",
        )


def _date_column(schema: pa.Schema) -> str | None:
    """Return the first column of dates, None for none."""
    return next((field.name for field in schema if field.type == DATE), None)


def _null_count(footers: Sequence[Any], column: str) -> int | None:
    """Return the number of a column's cells without a value, as footers tell; None where one of them does not."""
    total = 0
    for metadata in footers:
        names = metadata.schema.names
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            statistics = group.column(names.index(column)).statistics if column in names else None
            if statistics is None or not statistics.has_null_count:
                return None
            total += statistics.null_count
    return total
