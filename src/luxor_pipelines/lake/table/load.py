"""Load: the way of a batch into a table, one partition after another, on condition of what was read."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from luxor_pipelines.errors import (
    ConflictError,
    CorruptFileError,
    FileLockedError,
    LoadConflictError,
    LockLostError,
    MoveInProgressError,
    SchemaError,
    TableNotFoundError,
    UsageError,
    shown,
)
from luxor_pipelines.lake.concurrency import ahead, at_once, attempts
from luxor_pipelines.lake.parquet.file import to_bytes
from luxor_pipelines.lake.storage.base import BlobInfo, VersionChangedError
from luxor_pipelines.lake.storage.lease import check_fence, fenced_delete, renew_version
from luxor_pipelines.lake.table.layout import (
    BIRTH,
    CONVERSION,
    PARTITION_COLUMN,
    PLACEHOLDER,
    ColumnChanges,
    Layout,
    LayoutRecord,
    Part,
    Snapshot,
    pieces,
)
from luxor_pipelines.lake.table.layout import near as near_labels
from luxor_pipelines.lake.table.merge import Merge, merge, sort_columns, sort_indices, take_rows, with_stored_cells
from luxor_pipelines.lake.table.table import StoredPart, Table
from luxor_pipelines.lake.types.codec import Codec, codec_of
from luxor_pipelines.lake.types.frames import Frame, check_frame, column_names, decoded, frame_to_arrow
from luxor_pipelines.lake.types.keys import check_key
from luxor_pipelines.lake.types.schema import (
    ADDED,
    DATE_COLUMN,
    ENCODING,
    KEY,
    LAST_UPDATED,
    STAMP,
    TEXT,
    TableSchema,
    added_columns,
    column_command,
    is_text_type,
    stored_key,
    value_type,
)
from luxor_pipelines.notebook import html_facts

__all__ = [
    "LayoutChangedError",
    "Load",
    "LoadResult",
    "TableExistsError",
    "check_declared",
    "check_typed",
    "exists_error",
]

logger = logging.getLogger(__name__)

_AHEAD = 4
"""Partitions read, merged and encoded before their turn to be written, where the lake is far away."""


_FINAL = (LoadConflictError, LockLostError, FileLockedError, MoveInProgressError)
"""Conflicts that another attempt does not end."""


class LayoutChangedError(LoadConflictError):
    """The table was created, converted or moved while the load was under way; the load has to begin anew."""


class TableExistsError(UsageError):
    """There is such a table, and it was not to be replaced."""


@dataclass(frozen=True)
class LoadResult:
    """The outcome of a load of one table.

    Counts are rows. ``partitions`` are the labels of the files that were written (``""`` for a
    table in one file). The versions are those of the files that the batch has rows for, before and
    after it; None where there were none.
    """

    table: str
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    partitions: tuple[str, ...] = ()
    version_before: str | None = None
    version_after: str | None = None

    @classmethod
    def total(cls, results: Sequence[LoadResult]) -> LoadResult:
        """Return what several loads of one table, one after the other, did together."""
        if len(results) == 1:
            return results[0]
        return cls(
            results[0].table,
            sum(result.inserted for result in results),
            sum(result.updated for result in results),
            sum(result.unchanged for result in results),
            sum(result.deleted for result in results),
            tuple(dict.fromkeys(label for result in results for label in result.partitions)),
            _together([result.version_before for result in results]),
            _together([result.version_after for result in results]),
        )

    def then(self, later: LoadResult) -> LoadResult:
        """Return what two loads of the same rows did together; what the earlier wrote is unchanged in the later."""
        return replace(
            later,
            inserted=self.inserted + later.inserted,
            updated=self.updated + later.updated,
            unchanged=max(later.unchanged - self.inserted - self.updated, 0),
            deleted=self.deleted + later.deleted,
            partitions=self.partitions or later.partitions,
        )

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return bool(self.partitions)

    def _repr_html_(self) -> str:
        counts = {name: getattr(self, name.lower()) for name in ("Inserted", "Updated", "Unchanged", "Deleted")}
        files = {"Partitions written": ", ".join(label or "the whole table" for label in self.partitions)}
        return html_facts(f"Load of {self.table}", counts | files)

    def __str__(self) -> str:
        return (
            f"{self.table}: {self.inserted} inserted, {self.updated} updated, {self.unchanged} unchanged, "
            f"{self.deleted} deleted"
        )


def _together(versions: Sequence[str | None]) -> str | None:
    versions_known = [version for version in versions if version]
    return hashlib.sha256("\n".join(versions_known).encode()).hexdigest()[:32] if versions_known else None


@dataclass(frozen=True)
class _Plan:
    """The parameters of a merge: see `merge.merge`."""

    mode: Literal["slices", "upsert"]
    key: tuple[str, ...] | None
    increment: str | None


class _Change(NamedTuple):
    """The change of a partition: the counts, and the new file, None if it stays; or ``dropped``."""

    result: LoadResult
    file: bytes | None
    dropped: bool = False


class Load:
    """One load of one table: what is stored, what the batch must look like, what has been done.

    Parameters
    ----------
    table
        The table.
    schema
        Its declared schema, if it has one.
    attempts
        How often a partition is tried when other writers come first.
    now
        Says what time it is, for ``Last_Updated``.
    whole
        Whether the batch replaces the whole table, columns included.
    only_new
        Whether it must not replace anything: should a table appear meanwhile, it stays.
    near
        An instant of the batch. The load then looks only at the partitions there, not at all of a long history.
    one_file
        Whether the table is made as one file if it is new, whatever its schema declares.
    done
        What was done so far, by partition: by a load of the same rows that had to begin anew, and by this one.

    Attributes
    ----------
    shadow
        See `Table.shadow`; it is looked for only where the schema declares partitions.
    """

    def __init__(
        self,
        table: Table,
        schema: TableSchema | None,
        *,
        attempts: int,
        now: Callable[[], datetime],
        whole: bool = False,
        only_new: bool = False,
        near: datetime | None = None,
        one_file: bool = False,
        done: dict[str, LoadResult] | None = None,
    ) -> None:
        if not isinstance(schema, TableSchema | None):
            raise UsageError(f"schema={shown(schema)} is no declared schema.", hint="Give a TableSchema, or None.")
        self.table = table
        self._schema = schema
        self._attempts = attempts
        self._now = now
        self._whole = whole
        self._only_new = only_new
        if near is None or whole:
            snapshot, self._record = table.find(), table.record()
        else:
            snapshot, self._record = table.find_near(near)
        self.snapshot = self._as_recorded(snapshot)
        self._codec = self._stored_codec()
        metadata = (self._codec.stored.metadata or {}) if self._codec else {}
        self.key = schema.key if schema else (stored_key(self._codec.stored) if self._codec else ()) or None
        if self.snapshot is not None:
            self.layout: Layout = self.snapshot.layout
            self.partition_column = metadata.get(PARTITION_COLUMN, b"Date").decode()
            self._columns = self.snapshot.columns
        elif self._record is not None:
            self.layout, self.partition_column = self._record.layout, self._record.column
            self._columns = self._record.columns
        else:
            self.layout = (schema.partition if schema and not one_file else None) or "file"
            self.partition_column = schema.increment if schema else DATE_COLUMN
            self._columns = ColumnChanges()
        alone = self.snapshot is None or self.snapshot.layout != "file" or schema is None or schema.partition is None
        self.shadow = "" if alone else table.shadow()
        self._legacy = self._codec is not None and self._codec.legacy
        labels = near_labels(self.layout, near) if near else []
        # The partition before was looked at only if the batch's own is not there.
        has_own = self.snapshot is not None and any(part.label in labels[:1] for part in self.snapshot.parts)
        self._looked = set(labels[:1] if has_own else labels)

        # Facts about the batch.
        self._normalized = False
        self._left_out: list[str] = []
        self._types_given: dict[str, pa.DataType] = {}
        self._stored_as_null: list[str] = []

        # The work done so far, by partition.
        self._created: list[tuple[str, BlobInfo]] = []
        self._before: dict[str, Part | None] = {}
        self._after: dict[str, Part | None] = {}
        self._done: dict[str, LoadResult] = {} if done is None else done

    def _stored_codec(self) -> Codec | None:
        """Return the codec of the table's files; None where there is no such table."""
        if self.snapshot is None:
            return None
        try:
            return self.table.codec(self.snapshot)
        except TableNotFoundError as error:
            raise self._layout_changed() from error
        except CorruptFileError:
            if self.snapshot.whole:
                raise
        # One month is damaged: the others can still be loaded.
        self.snapshot = self._as_recorded(self.table.find())
        return self._stored_codec()

    def _as_recorded(self, snapshot: Snapshot | None) -> Snapshot | None:
        """Return a snapshot with the changes of columns on the record that was read when the load began."""
        if snapshot is None:
            return None
        recorded = self._record is not None and self._record.layout == snapshot.layout
        return replace(snapshot, columns=self._record.columns if self._record and recorded else ColumnChanges())

    def _check_record(self) -> None:
        """Check that the record still is what the load began with, and with it the columns of the table.

        A record is written before the partitions that follow it. So one that is unchanged after a look at a partition
        was the newest when the partition had that version.
        """
        if self.table.record() != self._record:
            raise self._layout_changed()

    # --- the batch --------------------------------------------------------------------------

    def batch(
        self,
        df: Frame,
        *,
        index: bool,
        index_name: str,
        normalize: bool,
        key: tuple[str, ...] | None,
        required: Sequence[str] = (),
    ) -> pa.Table:
        """Return ``df`` as typed columns, as they will read once they are stored in the table.

        Text may be dictionary-encoded, which is quicker to compare.

        Raises
        ------
        SchemaError
            Columns or cells that the table does not take.
        """
        name, conventions = self.table.name, self.table.conventions
        check_frame(df, name)
        self._normalized = normalize
        columns = [*column_names(df), *([index_name] if index else [])]
        batch = frame_to_arrow(
            df,
            table=name,
            target=self._target(columns),
            known_types=conventions.known_types(name, columns),
            increment=required,
            days=self._day_columns(),
            normalize=normalize,
            keep_case=conventions.keep_case,
            index=index,
            index_name=index_name,
        )
        batch = self._as_new(batch) if self._codec is None or self._whole else self._as_stored(batch, self._codec)
        needed = {*(key or ()), *required, *((self.partition_column,) if self.layout != "file" else ())}
        check_filled(batch, needed, name)
        if self.layout != "file" and not pa.types.is_timestamp(batch.schema.field(self.partition_column).type):
            raise SchemaError(
                f"Table {name} is partitioned by {self.partition_column!r}, which holds no dates in the batch.",
                hint="Convert the column with pandas.to_datetime.",
            )
        if key:
            check_key(batch, key, name)
        return batch

    def _target(self, columns: Sequence[object]) -> pa.Schema | None:
        """Return the columns and types that a frame with some columns has to fit; None where it decides itself.

        Columns that were added to the table may be missing. Those that are missing are noted as left out.
        """
        declared = self._schema.arrow() if self._schema else None
        if self._codec is None or self._whole:
            return declared
        target = stored = self._open_types(self._codec)
        added = added_columns(self._codec.stored)
        if declared is not None:
            check_declared(declared, stored, self.table.name, added=added, shadow=self.shadow)
            target = pa.schema([*declared, *(stored.field(name) for name in added if name not in declared.names)])
        self._left_out = [name for name in added if name not in columns]
        return pa.schema([field for field in target if field.name not in self._left_out])

    def _day_columns(self) -> set[str]:
        """Return the columns of dates that may have no time of day."""
        columns = {DATE_COLUMN} if self.table.name in self.table.conventions.day_tables else set()
        declared = self._schema.columns if self._schema is not None else ()
        return columns | {column.name for column in declared if column.type == "date"}

    def _as_stored(self, batch: pa.Table, codec: Codec) -> pa.Table:
        """Return the batch with all columns of the table, as they will read once they are stored."""
        for column in self._left_out:
            nulls = pa.nulls(len(batch), codec.schema.field(column).type)
            batch = batch.append_column(column, pa.chunked_array([nulls]))
        batch, self._codec = self._set_types(batch, codec)
        return self._codec.as_read(decoded(batch) if self._legacy else batch)

    def _as_new(self, batch: pa.Table) -> pa.Table:
        """Return the batch as the rows of a table that is new, or replaced whole; a table of text stays one."""
        name, conventions = self.table.name, self.table.conventions
        check_readable(batch, codec_of(batch.schema, name, conventions), name)
        self._columns = self._columns.anew(batch.column_names)
        if self.layout != "file":
            check_typed(batch, name)
        batch = self._as_text(batch)
        if not self._legacy:
            return batch
        self._codec = codec_of(pa.schema([(column, TEXT) for column in batch.column_names]), name, conventions)
        return self._codec.as_read(decoded(batch))

    def _open_types(self, codec: Codec) -> pa.Schema:
        """Return the table's typed columns; one of a single file without a value so far has the type ``null``."""
        if self.layout != "file":
            return codec.schema
        columns = (field if pa.types.is_null(field.type) else codec.schema.field(field.name) for field in codec.stored)
        return pa.schema(columns, codec.schema.metadata)

    def _set_types(self, batch: pa.Table, codec: Codec) -> tuple[pa.Table, Codec]:
        """Give the columns that have no value so far the types that the batch brings; return both with them."""
        for at, field in enumerate(codec.stored):
            if not pa.types.is_null(field.type):
                continue
            column = batch[field.name]
            if pa.types.is_null(column.type):
                batch = batch.set_column(batch.schema.get_field_index(field.name), field.name, column.cast(TEXT))
            elif self.layout == "file":
                self._types_given[field.name] = column.type
                stored_schema = codec.stored.set(at, pa.field(field.name, column.type))
                codec = codec_of(stored_schema, self.table.name, self.table.conventions)
        return batch, codec

    def _as_text(self, batch: pa.Table) -> pa.Table:
        """Return a new table's rows with text in place of columns without a type; `_build` stores these as such."""
        self._stored_as_null = [field.name for field in batch.schema if pa.types.is_null(field.type)]
        for name in self._stored_as_null:
            batch = batch.set_column(batch.schema.get_field_index(name), name, batch[name].cast(TEXT))
        return batch

    def _read(self, part: Part) -> StoredPart:
        """Read a partition; its columns without a value have the types that the batch gave them.

        Raises
        ------
        LayoutChangedError
            The table's columns are no longer those that the load began with.
        """
        stored = self.table.read_part(part, self._columns)
        if stored.codec.stored.names != self.table.stored(part).codec.stored.names:
            self._check_record()  # a file is completed by the newest record alone
        columns = self._codec.schema if self._codec is not None else stored.codec.schema
        differing = {name for name, _ in types_of(columns).items() ^ types_of(stored.codec.schema).items()}
        if differing - self._types_given.keys():
            if part != self._initial_part(part.label):
                raise self._layout_changed()
            self._check_record()
        empty = [name for name in self._types_given if pa.types.is_null(stored.physical.schema.field(name).type)]
        if not empty:
            return stored
        schema = stored.physical.schema
        for name in empty:
            schema = schema.set(schema.get_field_index(name), pa.field(name, self._types_given[name]))
        physical = stored.physical.cast(schema)
        codec = codec_of(schema, self.table.name, self.table.conventions)
        return StoredPart(codec, physical, codec.decode(physical))

    # --- committing -------------------------------------------------------------------------

    def merge(
        self,
        batch: pa.Table,
        mode: Literal["slices", "upsert"],
        key: tuple[str, ...] | None,
        increment: str | None,
    ) -> None:
        """Merge the batch into the table, partition by partition in ascending order; see `merge.merge`.

        Raises
        ------
        SchemaError
            Nothing has been written, but for the partitions before one whose own rows are the reason.
        LoadConflictError
            The partitions not yet committed are untouched.
        """
        parts = pieces(self.layout, batch, self.partition_column, self.table.name)
        labels = {label for label, _ in parts}
        if self.snapshot is not None and not self.snapshot.whole and labels - self._looked:
            self.snapshot = self._as_recorded(self.table.find())
            if self.snapshot is None or self.snapshot.layout != self.layout:
                raise self._layout_changed()
        if len(parts) > 1:
            self._check_partitions(labels, batch.schema)
        self._commit(parts, _Plan(mode, key, increment))
        self._confirm()

    def replace(self, batch: pa.Table) -> None:
        """Make the batch the table's whole content.

        Raises
        ------
        TableExistsError
            With ``only_new``, a table has appeared meanwhile.
        UsageError
            The batch is empty and the table partitioned, so that nothing would be left of it.
        LoadConflictError
        """
        parts = pieces(self.layout, batch, self.partition_column, self.table.name)
        if not parts:
            raise UsageError(
                f"Table {self.table.name} has a file for each {self.layout}, and so cannot be stored without rows.",
                hint=f"To be rid of a table, `luxor archive {self.table.name}`.",
            )
        self._commit(parts, _Plan("slices", self.key, None))
        leaving = [part for part in (self.snapshot.parts if self.snapshot else ()) if part.label not in dict(parts)]
        for part in leaving:
            self._commit_partition(part.label, partial(self._drop, part), self._drop)
        self._confirm()

    def _check_partitions(self, labels: set[str], batch: pa.Schema) -> None:
        """Refuse columns in which a partition differs from the table, before the first is written."""
        touched = [part for part in (self.snapshot.parts if self.snapshot else ()) if part.label in labels]

        def schema(part: Part) -> pa.Schema | None:
            try:
                return self.table.stored(part, columns=self._columns).codec.schema
            except VersionChangedError:
                return None  # it is looked at again when its turn comes

        expected = types_of(batch)
        for part, columns in zip(touched, at_once(self.table.storage, touched, schema), strict=True):
            types = expected if columns is None else types_of(columns)
            if types != expected:
                self._check_record()
                odd = sorted({name for name, _ in types.items() ^ expected.items()})
                raise SchemaError(
                    f"Table {self.table.name}, partition {part.label} differs from the batch in "
                    f"{', '.join(map(repr, odd))}. Nothing was written.",
                    hint="Rewrite the odd partition with the table's columns.",
                )

    def _commit(self, parts: Sequence[tuple[str, pa.Table]], plan: _Plan) -> None:
        """Commit one partition after another; the next ones are read, merged and encoded meanwhile."""
        check_fence()

        def prepare(piece: tuple[str, pa.Table]) -> _Change:
            label, rows = piece
            return self._change(self._initial_part(label), label, rows, plan)

        workers = _AHEAD if self.table.storage.concurrent else pa.cpu_count()
        with closing(ahead(prepare, parts, workers)) as changes:
            for (label, rows), change in zip(parts, changes, strict=True):
                self._commit_partition(label, change, partial(self._change, label=label, batch=rows, plan=plan))

    def _initial_part(self, label: str) -> Part | None:
        """Return the partition as it was first seen, None for none."""
        return self.snapshot.part(label) if self.snapshot else None

    def _commit_partition(
        self, label: str, first: Callable[[], _Change], again: Callable[[Part | None], _Change]
    ) -> None:
        """Write or delete one partition on condition of its version; if others come first, look and try again.

        Parameters
        ----------
        first
            Gives the change of the partition as it was first seen.
        again
            Gives the change of the partition as it is then.
        """
        part, change = self._initial_part(label), first
        for attempt in attempts(self._attempts):
            try:
                if attempt > 1:
                    part = self._current(label)
                    change = partial(again, part)
                return self._write(label, part, change())
            except _FINAL:
                raise
            except ConflictError as error:
                if attempt == self._attempts:
                    raise LoadConflictError(
                        f"Table {self.table.name}{f', partition {label}' if label else ''}: other writers came first "
                        f"{self._attempts} times.",
                        hint="The partition is as they left it; run the load again when they are done.",
                    ) from error
        raise AssertionError("unreachable")

    def _current(self, label: str) -> Part | None:
        """Return the partition as it is now, None for none.

        Raises
        ------
        LayoutChangedError
            The table has another layout by now, or other columns.
        """
        place: tuple[Layout, str] = (self.layout, label)
        files, _ = self.table.look(list(dict.fromkeys([("file", ""), place])))
        layout: Layout = "file" if ("file", "") in files else self.layout
        if self.layout == "file" and not files:
            snapshot = self.table.find()
            layout = snapshot.layout if snapshot else layout
        if layout != self.layout:
            raise LayoutChangedError(
                f"Table {self.table.name} was converted from {self.layout} to {layout} during the load.",
                hint="Run the load again.",
            )
        if self._only_new and place in files:
            raise exists_error(self.table)
        if self.layout != "file":
            self._check_record()
        return Part(label, files[place]) if place in files else None

    # --- the layout of a table that is new ----------------------------------------------------

    def _agree(self) -> None:
        """Put the layout on record before rows go into partitions or into a new file, unless it is there already.

        A table that is replaced whole has its own columns alone, and none of those added or dropped before.
        """
        record = self._record
        if record is None or (self.snapshot is not None and record.layout != self.layout):
            record = LayoutRecord(self.layout, self.partition_column)
        record = replace(record, columns=self._columns)
        if record == self._record:
            return
        before = self._record.version if self._record is not None else None
        try:
            self._record = self.table.write_record(record, expected=before)
        except ConflictError as error:
            raise self._layout_changed() from error

    def _check_settled(self, part: Part) -> None:
        """Look again at the table after a partition that a conversion or a move has written: it may not be done.

        A look at several files is not of one moment. Other partitions are the table's own since they were looked at.
        """
        marks = self.table.stored(part).codec.stored.metadata or {}
        if CONVERSION in marks or PLACEHOLDER in marks:
            files, record = self.table.look([("file", "")])
            agreed = record is not None and record.layout == self.layout
            if not files and not agreed and self.table.is_placeholder(part):
                with suppress(ConflictError):
                    self.table.storage.delete(part.info.path, expected=part.info.version)
                raise self._layout_changed()
            if files:
                raise self._layout_changed()

    def _confirm(self) -> None:
        """Check that the table still is as agreed after the load created files; else delete these and raise.

        The check for a move comes before that of the record: a move that begins later finds the files that were
        created, and one that has ended has changed the record.
        """
        if not self._created:
            return
        with suppress(MoveInProgressError):
            files, _ = self.table.look([("file", "")])
            alone = ("file", "") not in files if self.layout != "file" else not self.table.has_partitions()
            if alone and self.table.record() == self._record:
                return
        for label, info in self._created:
            with suppress(ConflictError):  # others have loaded into it: the next attempt does, too
                self.table.storage.delete(info.path, expected=info.version)
                del self._done[label]
        raise self._layout_changed()

    def _layout_changed(self) -> LayoutChangedError:
        return LayoutChangedError(
            f"Table {self.table.name} was created, converted or moved by others during the load.",
            hint="Run the load again.",
        )

    # --- the change of one partition --------------------------------------------------------

    def _change(self, part: Part | None, label: str, batch: pa.Table, plan: _Plan) -> _Change:
        """Return the change that the batch makes to a partition as it is now."""
        stored = None
        if part is not None and self._whole:
            stored, change = self._against(part, batch, plan)
        else:
            stored = self._read(part) if part else None
            rows = stored.logical if stored else None
            folded = self._folded(batch.schema, plan)
            place = f"{self.table.name}, partition {label}" if label else self.table.name
            if rows is not None and self._left_out:
                batch = with_stored_cells(rows, batch, self._left_out, plan.key, folded, place)
            change = merge(
                rows,
                batch,
                mode=plan.mode,
                key=plan.key,
                increment=plan.increment,
                folded=folded,
                table=place,
            )
            if rows is not None and self._left_out and not plan.key:
                self._check_kept(rows, change)
        result = LoadResult(self.table.name, change.inserted, change.updated, change.unchanged, change.deleted)
        as_before = stored is not None and self._declared_anew(stored.codec, plan) is None
        if not change.changed and (as_before or not self._whole):
            return _Change(result, None)
        data = self._build(stored, batch, change, plan)
        data = data.replace_schema_metadata(self._lineage(part, data.schema.metadata or {}))
        # Text is not in the order of what it means.
        by = () if self._legacy else sort_columns(data, plan.increment, plan.key)
        file = to_bytes(data, sorted_by=by)
        return _Change(replace(result, partitions=(label,)), file)

    def _folded(self, batch: pa.Schema, plan: _Plan) -> list[str]:
        """Return the columns that tell rows or slices apart and whose text has its normal form in the batch."""
        names = dict.fromkeys([*(plan.key or ()), *([plan.increment] if plan.increment else [])])
        kept = self.table.conventions.keep_case
        return [n for n in names if self._normalized and n not in kept and is_text_type(batch.field(n).type)]

    def _check_kept(self, stored: pa.Table, change: Merge) -> None:
        """Refuse to drop cells of a column that the batch came without, where no key tells whose they are.

        Raises
        ------
        SchemaError
        """
        leaving = stored.take(pa.array(np.setdiff1d(np.arange(len(stored)), change.keep)))
        for column in self._left_out:
            values = len(leaving) - leaving[column].null_count
            if values:
                raise SchemaError(
                    f"Table {self.table.name}: the batch has no column {column!r}, of which {values} of {len(leaving)} "
                    "rows to be replaced have a value. Without a key it is not known which rows are to keep theirs.",
                    hint="Load the column too, or by key: unique_columns=[...], --key on the command line.",
                )

    def _drop(self, part: Part | None) -> _Change:
        """Return the change that drops a partition."""
        if part is None:
            return _Change(LoadResult(self.table.name), None, dropped=True)
        rows = self.table.stored(part).rows
        return _Change(LoadResult(self.table.name, deleted=rows, partitions=(part.label,)), None, dropped=True)

    def _write(self, label: str, part: Part | None, change: _Change) -> None:
        """Do to a partition what the change says, on condition of its version."""
        self._before[label] = self._after[label] = part
        result, file, dropped = change
        if part is not None and self.layout != "file":
            self._check_settled(part)
        if dropped:
            if part is None:
                return
            fenced_delete(self.table.storage, part.info.path, expected=part.info.version)
            self._after[label] = None
        elif file is not None:
            if part is None or self.layout != "file":
                self._agree()
            version = self.table.write_part(self.layout, label, file, expected=part.info.version if part else None)
            info = BlobInfo(self.table.path(self.layout, label), version, len(file), self._now())
            self._after[label] = Part(label, info)
            if part is None:
                self._created.append((label, info))
            logger.info("%s%s written: %s", self.table.name, f" {label}" if label else "", result)
        elif part is not None:
            self._after[label] = Part(label, renew_version(self.table.storage, part.info))
        self._done[label] = self._done[label].then(result) if label in self._done else result

    def _against(self, part: Part, batch: pa.Table, plan: _Plan) -> tuple[StoredPart | None, Merge]:
        """Return the merge that replaces a partition; one with other columns, or bad cells, goes as a whole."""
        rows = self.table.stored(part).rows
        try:
            stored = self.table.read_part(part)
            rows_there = stored.logical if stored.codec.legacy else stored.physical
            untyped = {field.name: str(TEXT) for field in rows_there.schema if pa.types.is_null(field.type)}
            if types_of(rows_there.schema) | untyped == types_of(batch.schema):
                return stored, merge(stored.logical, batch, mode=plan.mode, key=plan.key, increment=None)
        except SchemaError as error:
            logger.info("%s is replaced, not compared: %s", self.table.name, error.message)
        new = np.arange(len(batch))
        return None, Merge(new[:0], new, inserted=len(batch), updated=0, unchanged=0, deleted=rows)

    def _build(self, stored: StoredPart | None, batch: pa.Table, change: Merge, plan: _Plan) -> pa.Table:
        """Return the partition's new rows, in the types and the encoding that the stored ones have."""
        new = take_rows(batch, change.take)
        stamp = pa.scalar(self._now(), STAMP)
        stamped = new.append_column(LAST_UPDATED, pa.repeat(stamp, len(new)))
        if stored is not None:
            codec, physical, logical = stored
            encoded = codec.encode(stamped, like=physical)
            # Only what rows are sorted by is copied twice: once to find their order, once with all the rest.
            by = sort_columns(new, plan.increment, plan.key)
            sorted_by = pa.concat_tables([logical.select(by), decoded(new.select(by))], promote_options="permissive")
            chosen = np.concatenate([change.keep, np.arange(len(physical), len(physical) + len(new))])
            order = sort_indices(take_rows(sorted_by, chosen), plan.increment, plan.key)
            data = take_rows(pa.concat_tables([physical, encoded]), chosen[order])
            anew = self._declared_anew(codec, plan)
            return data if anew is None else data.replace_schema_metadata(anew)
        metadata = None
        data = take_rows(stamped, sort_indices(new, plan.increment, plan.key))
        if self._codec is not None and (self._legacy or not self._whole):
            data = self._codec.encode(data)
            metadata = None if self._whole else self._codec.stored.metadata
        else:
            data = decoded(data)
        for name in () if self._legacy else self._stored_as_null:
            data = data.set_column(data.schema.get_field_index(name), name, pa.nulls(len(data)))
        return data.replace_schema_metadata(metadata or (None if self._legacy else self._metadata(plan.key)))

    def _declared_anew(self, codec: Codec, plan: _Plan) -> dict[bytes, bytes] | None:
        """Return the new metadata of a replaced table: of another declared schema, or no longer with added columns.

        None where it stays.
        """
        if not self._whole:
            return None
        before = codec.stored.metadata or {}
        anew = {name: text for name, text in before.items() if name != ADDED}
        if self._schema is not None and not codec.legacy:
            anew |= self._metadata(plan.key)
        return None if anew == before else anew

    def _lineage(self, part: Part | None, metadata: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Return the metadata of a new file, with its `BIRTH` and without the mark of a conversion or a move."""
        metadata = {name: text for name, text in metadata.items() if name not in (BIRTH, CONVERSION, PLACEHOLDER)}
        if part is None:
            birth = uuid.uuid4().hex.encode() if self.layout == "file" else None
        else:
            birth = (self.table.stored(part).codec.stored.metadata or {}).get(BIRTH)
        return metadata if birth is None else metadata | {BIRTH: birth}

    def _metadata(self, key: tuple[str, ...] | None) -> dict[bytes, bytes]:
        metadata: dict[bytes, bytes] = {ENCODING: b"typed"}
        if self._schema is not None:
            metadata |= self._schema.metadata()
        if self._schema is not None or self._whole:
            metadata[KEY] = "\n".join(key or self.key or ()).encode()
        if self.layout != "file":
            metadata[PARTITION_COLUMN] = self.partition_column.encode()
        return metadata

    # --- the outcome ------------------------------------------------------------------------

    def result(self) -> LoadResult:
        """Return the sum of the changes made so far."""
        total = LoadResult.total([LoadResult(self.table.name), *self._done.values()])
        return replace(total, version_before=self._version(self._before), version_after=self._version(self._after))

    def _version(self, parts: Mapping[str, Part | None]) -> str | None:
        if not parts:
            return self.snapshot.version if self.snapshot else None
        present = tuple(part for _, part in sorted(parts.items()) if part is not None)
        return Snapshot(self.layout, present).version if present else None


def exists_error(table: Table) -> TableExistsError:
    """Return the error for a table that was not to be replaced."""
    return TableExistsError(
        f"Table {table.name} exists already in {table.storage.url}/{table.directory}.",
        hint="Use mode='replace' to replace it, mode='skip' to leave it, or incremental_load to add to it.",
    )


# --- whether a batch and a table go together ------------------------------------------------


def types_of(schema: pa.Schema) -> dict[str, str]:
    """Return the types of the columns by name, without ``Last_Updated``; of dictionaries, that of their words."""
    return {field.name: str(value_type(field.type)) for field in schema if field.name != LAST_UPDATED}


def check_filled(batch: pa.Table, needed: Iterable[str], table: str) -> None:
    """Refuse a batch without the columns that say which rows they are, or with an empty cell in one.

    Raises
    ------
    SchemaError
    """
    absent = sorted(set(needed) - set(batch.column_names))
    if absent:
        raise SchemaError(
            f"The batch for {table} has no column {', '.join(map(repr, absent))}; it has "
            f"{', '.join(map(repr, batch.column_names))}.",
            hint="Add the column, or name another increment_column (None with unique_columns) or other unique_columns.",
        )
    for column in sorted(needed):
        nulls = batch[column].null_count
        if nulls:
            raise SchemaError(
                f"Table {table}, column {column!r}: {nulls} of {len(batch)} rows in the batch are null, "
                "in a column that says which rows they are.",
                hint="Fill or drop those rows.",
            )


def check_readable(batch: pa.Table, codec: Codec, table: str) -> None:
    """Refuse a new table's columns that no reader of it would be given.

    Raises
    ------
    SchemaError
    """
    hidden = [column for column in batch.column_names if column not in codec.schema.names]
    if hidden:
        raise SchemaError(
            f"Table {table}: {', '.join(map(repr, hidden))} is what pandas names an index that it stores unasked, "
            "and is not read as a column.",
            hint="Rename it, or drop it.",
        )


def check_typed(
    rows: pa.Table,
    table: str,
    hint: str = "Give it one, for instance df[column].astype('float64[pyarrow]'), or leave the column out.",
) -> None:
    """Raise where a new partitioned table would get a column without a value: the next month's type may be another.

    Raises
    ------
    SchemaError
    """
    empty = [field.name for field in rows.schema if pa.types.is_null(field.type)]
    if empty:
        raise SchemaError(
            f"Table {table}, column {', '.join(map(repr, empty))}: no cell has a value, so that its type is not known.",
            hint=hint,
        )


def check_declared(
    declared: pa.Schema, stored: pa.Schema, table: str, *, added: Sequence[str] = (), shadow: str = ""
) -> None:
    """Refuse a stored table whose columns are not those that its pipeline declares.

    Parameters
    ----------
    shadow
        The words about partitions that the stored file hides, which are the advice then; see `Table.shadow`.

    Raises
    ------
    SchemaError
    """
    is_, should = types_of(stored), types_of(declared)
    should |= {name: kind for name, kind in is_.items() if kind == "null" and name in should}
    should |= {name: is_[name] for name in added if name not in should}
    if is_ == should:
        return
    odd = sorted(name for name in is_.keys() | should.keys() if is_.get(name) != should.get(name))
    detail = "; ".join(
        f"{name!r} is {is_.get(name, 'absent')}, declared {should.get(name, 'absent')}" for name in odd[:4]
    )
    ways = []
    for name in odd:
        if name not in is_ and declared.field(name).nullable:
            ways.append(column_command(table, name, declared.field(name).type))
        elif name not in should:
            ways.append(column_command(table, name))
    aside = f"`luxor archive {table}` moves the stored table aside, so that a new one can be made."
    if len(ways) == len(odd):
        aside = f"{', '.join(ways)} {'makes' if len(ways) == 1 else 'make'} it fit; or {aside}"
    raise SchemaError(
        f"The stored table {table} has other columns than this version writes: {detail}"
        f"{f' and {len(odd) - 4} more' if len(odd) > 4 else ''}. Nothing was written.",
        hint=shadow or aside,
    )
