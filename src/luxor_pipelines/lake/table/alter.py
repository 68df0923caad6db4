"""Alter: a column added to a table or dropped from it, while readers and loads are at work.

A table in one file is rewritten on condition of its version. Partitions cannot be rewritten all at once, so their
change is made by one write, that of the table's record, which names the column: from then on readers take the column
for null in files that lack it and pass over it in files that still have it, and loads write files with the columns
of the record. A load that began earlier begins anew when it meets a file of another version than it looked at, or has
created one itself, and the record is another by then.

After the record the files are rewritten, each on condition of its version, for the other programs that read them. When
a column is dropped, a file that lacks it gets a new version too, lest a load that began earlier adds it there. A
change that was cut short in between is complete for readers and loads; done again, it rewrites the files that are left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import pyarrow as pa

from luxor_pipelines.errors import (
    ConflictError,
    FileLockedError,
    LoadConflictError,
    LockLostError,
    MoveInProgressError,
    NotFoundError,
    SchemaError,
    TableNotFoundError,
    UsageError,
    sample,
    shown,
)
from luxor_pipelines.lake.concurrency import at_once
from luxor_pipelines.lake.concurrency import attempts as attempt_numbers
from luxor_pipelines.lake.parquet.file import to_bytes
from luxor_pipelines.lake.table.layout import (
    CONVERSION,
    PARTITION_COLUMN,
    PLACEHOLDER,
    ColumnChanges,
    Layout,
    LayoutRecord,
    Part,
    Snapshot,
)
from luxor_pipelines.lake.table.table import StoredFile, Table
from luxor_pipelines.lake.types.codec import codec_of
from luxor_pipelines.lake.types.schema import (
    COLUMN_TYPES,
    DATE_COLUMN,
    ENCODING,
    LAST_UPDATED,
    TEXT,
    ColumnType,
    column_type,
    stored_key,
)
from luxor_pipelines.notebook import html_facts

__all__ = ["Altered", "add_column", "drop_column"]

logger = logging.getLogger(__name__)

_FINAL = (LoadConflictError, LockLostError, FileLockedError, MoveInProgressError, TableNotFoundError)
"""Errors that another attempt does not end."""


@dataclass(frozen=True)
class Altered:
    """The outcome of a change of a table's columns, or with ``dry_run`` what it would be.

    ``values`` counts the cells with a value that went with a dropped column; ``rewritten`` are the labels of the files
    that are new (``""`` for a table in one file): none where the column was in no file, since its adding was cut
    short. ``changed`` says whether there was anything to do.
    """

    table: str
    column: str
    values: int
    rewritten: tuple[str, ...]
    changed: bool

    def _repr_html_(self) -> str:
        files = ", ".join(label or "the whole table" for label in self.rewritten)
        facts = {"Values dropped": self.values, "Partitions written": files}
        return html_facts(f"Column {self.column} of {self.table}", facts)


def add_column(table: Table, name: str, kind: ColumnType, *, attempts: int = 12, dry_run: bool = False) -> Altered:
    """Add a column without values to a table; a table of which all files have it stays as it is.

    Raises
    ------
    UsageError
        No column can have that name or type, or the table has the column in another type or spelling.
    SchemaError
        In a table whose types are told by the names of columns, this name tells another one.
    TableNotFoundError, ForeignTableError, CorruptFileError
    LoadConflictError
        Other writers kept coming first. What was done stays, and doing it again completes it.
    """
    _check_name(table, name)
    kinds = [word for word in COLUMN_TYPES if word != "stamp"]
    if kind not in kinds:
        raise UsageError(f"{shown(kind)} is not a type of column.", hint=f"There are: {', '.join(kinds)}.")

    def check(snapshot: Snapshot, files: Sequence[StoredFile], changed: Sequence[StoredFile]) -> int:
        if snapshot.by_date and name.lower() == snapshot.layout:
            raise UsageError(
                f"Table {table.name} is split by {snapshot.layout}, of which its folders are named: other programs "
                f"take {name!r} for what these say, and cannot read files that have such a column.",
                hint="Give the new column another name.",
            )
        alike = [other for other in table.codec(snapshot).schema.names if other.lower() == name.lower() != other]
        if alike and name not in table.codec(snapshot).schema.names:
            raise UsageError(
                f"Table {table.name} has a column {sample(alike)}, which differs from {name!r} in case alone.",
                hint="Use that one, or give the new one another name.",
            )
        for part, file in zip(snapshot.parts, files, strict=True):
            if name in file.codec.schema.names and file.codec.schema.field(name).type != COLUMN_TYPES[kind]:
                stored = file.codec.schema.field(name).type
                raise UsageError(
                    f"Table {table.name}{f', partition {part.label},' if part.label else ''} has a column {name!r} "
                    f"already, of the type {column_type(stored) or stored}.",
                    hint="Give that type, or the new column another name.",
                )
        stored = changed[-1].codec.schema.field(name).type
        if stored != COLUMN_TYPES[kind]:
            raise SchemaError(
                f"Table {table.name} tells the types of columns by their names, and {name!r} is {column_type(stored)}.",
                hint=f"Give that type; or give the table types of its own first: `luxor optimize {table.name}`.",
            )
        return 0

    return _alter(table, name, lambda columns: columns.add(name, kind), check, attempts, dry_run=dry_run)


def drop_column(
    table: Table, name: str, *, protected: Collection[str] = (), attempts: int = 12, dry_run: bool = False
) -> Altered:
    """Drop a column and its values from a table.

    Parameters
    ----------
    protected
        Columns that may not be dropped; those of the key and of the partitions may never be.

    Raises
    ------
    UsageError
        It is one of those, or the only column.
    SchemaError
        The table has no such column.
    TableNotFoundError, ForeignTableError, CorruptFileError
    LoadConflictError
        Other writers kept coming first. What was done stays, and doing it again completes it.
    """

    def check(snapshot: Snapshot, files: Sequence[StoredFile], changed: Sequence[StoredFile]) -> int:
        codec = table.codec(snapshot)
        holders = [part for part, file in zip(snapshot.parts, files, strict=True) if name in file.codec.schema.names]
        if holders and name in snapshot.columns.dropped:
            return 0  # the column is dropped already; files that still have it are rewritten
        if not holders and name not in codec.schema.names:
            raise SchemaError(
                f"Table {table.name} has no column {shown(name)}; it has {sample(codec.schema.names, 20)}.",
                hint="Check the spelling; column names are case-sensitive.",
            )
        metadata = codec.stored.metadata or {}
        by = metadata.get(PARTITION_COLUMN, DATE_COLUMN.encode()).decode() if snapshot.layout != "file" else None
        for reason, columns in (
            ("is what rows are told apart by", stored_key(codec.stored)),
            (f"is what the table is split by, into {snapshot.layout}s", (by,)),
            ("is written by every load", (LAST_UPDATED,)),
            ("is a declared column of the table, on which the library rests", protected),
            ("is its only column", [name] if not {*codec.schema.names} - {name, LAST_UPDATED} else ()),
        ):
            if name in columns:
                raise UsageError(
                    f"Column {name!r} of table {table.name} {reason}, and is not dropped.",
                    hint="`luxor describe` lists the table's columns and its key.",
                )
        if any(after.codec.legacy and not file.codec.legacy for file, after in zip(files, changed, strict=True)):
            raise UsageError(
                f"Without {name!r} all columns of table {table.name} would be text, as in tables that tell no types.",
                hint=f"Give the table types of its own first: `luxor optimize {table.name}`.",
            )

        def values(part: Part) -> int:
            # Cells are counted as text, since those that are not of their column's type go as well, and each partition
            # by itself, since dropping the column is how partitions that disagree on its type are mended.
            alone = Snapshot(snapshot.layout, (part,))
            cells = table.scan([name], snapshot=alone, overrides={"str_nan_format": [name]}).data[name]
            return len(cells) - int(cells.null_count)

        return sum(at_once(table.storage, holders, values))

    return _alter(table, name, lambda columns: columns.drop(name), check, attempts, dry_run=dry_run)


def _check_name(table: Table, name: object) -> None:
    if not isinstance(name, str) or not name.strip() or name != name.strip() or not name.isprintable():
        raise UsageError(
            f"{shown(name)} is not a column's name.", hint="Use letters, digits and signs, without blanks at the ends."
        )
    if not codec_of(pa.schema([(name, TEXT)]), table.name, table.conventions).schema.names:
        raise UsageError(
            f"{shown(name)} is what pandas names an index that it stores unasked, and is not read as a column.",
            hint="Use another name.",
        )
    if name == LAST_UPDATED:
        raise UsageError(
            f"Column {name!r} of table {table.name} is written by every load, and not added.", hint="Use another name."
        )


Check = Callable[[Snapshot, Sequence[StoredFile], Sequence[StoredFile]], int]
"""Refuses a change, seeing the files as they are and as they will be; returns the number of values that go with it."""


def _alter(
    table: Table,
    name: str,
    change: Callable[[ColumnChanges], ColumnChanges],
    check: Check,
    attempts: int,
    *,
    dry_run: bool,
) -> Altered:
    """Make a change of a table's columns, and have its files follow; see the top of this module.

    Parameters
    ----------
    name
        The column that is added or dropped.
    change
        Returns the changes on the table's record with this one made.
    """
    values, recorded, rewritten, renewed = 0, False, dict[str, None](), set[str]()
    for attempt in attempt_numbers(attempts):
        try:
            snapshot = table.snapshot()
            table.check_ours(snapshot)
            if not recorded:  # else the change is made, and only files are left to be rewritten
                comes_back = name in snapshot.columns.dropped and name not in change(snapshot.columns).dropped
                if comes_back and not dry_run:
                    _settle(table, rewritten)  # else files that still have the dropped column would bring it back
                    snapshot = table.snapshot()
                columns = change(snapshot.columns)
                files = _files(table, snapshot)
                if comes_back:  # as the files are once they are settled, which a dry run leaves to be done
                    files = _changed(table, files, snapshot.columns)
                changed = _changed(table, files, columns)
                values = check(snapshot, files, changed)
                lagging = [part for part, *pair in zip(snapshot.parts, files, changed, strict=True) if _differ(*pair)]
                # A column whose adding was cut short is in the table by its record alone, and in no file.
                as_read = _changed(table, files, snapshot.columns)
                is_same = not lagging and not any(_differ(*pair) for pair in zip(as_read, changed, strict=True))
                if dry_run or is_same:
                    return Altered(table.name, name, values, tuple(part.label for part in lagging), changed=not is_same)
                if snapshot.layout == "file":
                    _rewrite(table, snapshot.layout, lagging[0], columns)
                    return Altered(table.name, name, values, ("",), changed=True)
                _record(table, snapshot, columns)
                recorded = True
            _settle(table, rewritten)
            if name in columns.dropped:
                _renew(table, rewritten, renewed)
                _settle(table, rewritten)
            return Altered(table.name, name, values, tuple(sorted(rewritten)), changed=True)
        except _FINAL:
            raise
        except (ConflictError, NotFoundError) as error:  # a file that is gone was converted, or moved away
            if attempt == attempts:
                raise LoadConflictError(
                    f"Table {table.name}: other writers came first {attempts} times.",
                    hint="What was done stays; do it again when they are done, which completes it.",
                ) from error
    raise AssertionError("unreachable")


def _files(table: Table, snapshot: Snapshot) -> list[StoredFile]:
    """Return what the partitions' footers tell."""
    return at_once(table.storage, snapshot.parts, table.stored)


def _changed(table: Table, files: Sequence[StoredFile], columns: ColumnChanges) -> list[StoredFile]:
    """Return what the footers will tell once changes of columns are made to the files."""
    return [file._replace(codec=table.changed_codec(file.codec, columns)) for file in files]


def _differ(file: StoredFile, changed: StoredFile) -> bool:
    return list(file.codec.stored.names) != list(changed.codec.stored.names)


def _record(table: Table, snapshot: Snapshot, columns: ColumnChanges) -> None:
    """Put changed columns on the table's record: the moment at which the change is made.

    Raises
    ------
    ConflictError
        Others have changed the record since the snapshot.
    """
    record = table.record()
    version = None if record is None else record.version
    if record is None or record.layout != snapshot.layout:
        metadata = table.codec(snapshot).stored.metadata or {}
        record = LayoutRecord(snapshot.layout, metadata.get(PARTITION_COLUMN, DATE_COLUMN.encode()).decode())
    if record.columns != snapshot.columns:
        raise table.storage.conflict(table.record_path)
    if record.columns != columns:
        table.write_record(replace(record, columns=columns), expected=version)


def _settle(table: Table, rewritten: dict[str, None]) -> None:
    """Rewrite the partitions that lag behind the table's record, until a look finds none.

    Raises
    ------
    ConflictError
        Others came first at some of them.
    """
    while True:
        snapshot = table.snapshot()
        files = _files(table, snapshot)
        changed = _changed(table, files, snapshot.columns)
        lagging = [part for part, *pair in zip(snapshot.parts, files, changed, strict=True) if _differ(*pair)]
        if not lagging:
            return
        conflicts: list[ConflictError | NotFoundError] = []
        for part in lagging:
            try:
                _rewrite(table, snapshot.layout, part, snapshot.columns)
                rewritten[part.label] = None
            except _FINAL:
                raise
            except (ConflictError, NotFoundError) as conflict:  # the others need not wait for this one
                conflicts.append(conflict)
        if conflicts:
            raise conflicts[0]


def _renew(table: Table, rewritten: Collection[str], renewed: set[str]) -> None:
    """Give partitions that did not lag a new version, lest a load that began earlier brings a dropped column back.

    Raises
    ------
    ConflictError
        Others came first at one of them.
    """
    snapshot = table.snapshot()
    for part in snapshot.parts:
        if part.label not in (*rewritten, *renewed):
            file = table.storage.read(part.info.path)
            table.write_part(snapshot.layout, part.label, file.data, expected=file.version)
            renewed.add(part.label)


def _rewrite(table: Table, layout: Layout, part: Part, columns: ColumnChanges) -> None:
    """Write a partition with other columns, on condition of its version; rows, their order and stamps stay.

    Raises
    ------
    ConflictError
    """
    data = table.read_part(part, columns).physical
    marks = (CONVERSION, PLACEHOLDER) if len(data) else ()
    metadata = {key: text for key, text in (data.schema.metadata or {}).items() if key not in (b"pandas", *marks)}
    # The order that another program says its rows have is not looked into.
    order = table.sorted_by(part) if metadata.get(ENCODING) == b"typed" else ()
    by = list(takewhile(data.column_names.__contains__, order))
    file = to_bytes(data.replace_schema_metadata(metadata), sorted_by=by)
    table.write_part(layout, part.label, file, expected=part.info.version)
    logger.info("%s is new", part.info.path)
