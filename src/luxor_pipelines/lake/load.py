"""Load: the way of a batch into a table, one partition after another, on condition of what was read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import tenacity

from luxor_pipelines.errors import ConflictError, LoadConflictError, SchemaError, UsageError
from luxor_pipelines.lake import legacy
from luxor_pipelines.lake.frames import frame_to_arrow
from luxor_pipelines.lake.layout import PARTITION_COLUMN, Layout, Part, Snapshot, pieces
from luxor_pipelines.lake.logical import as_stored, data_columns, logical_schema, to_physical
from luxor_pipelines.lake.merge import Merge, merge, sort_indices
from luxor_pipelines.lake.schema import ENCODING, LAST_UPDATED, STAMP, TableSchema, check_key
from luxor_pipelines.lake.storage import BlobInfo, VersionChangedError
from luxor_pipelines.lake.table import StoredPart, Table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Load", "LoadResult", "TableExistsError"]

logger = logging.getLogger(__name__)

_KEY = b"luxor.key"


class TableExistsError(UsageError):
    """There is such a table, and it was not to be replaced."""


@dataclass(frozen=True)
class LoadResult:
    """What a load did to a table.

    Counts are rows. ``partitions`` are the labels of the files that were written (``""`` for a
    table in one file); a version is None where there was no table.
    """

    table: str
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    partitions: tuple[str, ...] = ()
    version_before: str | None = None
    version_after: str | None = None

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return bool(self.partitions)

    def __str__(self) -> str:
        return (
            f"{self.table}: {self.inserted} inserted, {self.updated} updated, {self.unchanged} unchanged, "
            f"{self.deleted} deleted"
        )


@dataclass(frozen=True)
class _Plan:
    """Which stored rows a batch meets: see `merge`."""

    mode: Literal["slices", "upsert"]
    key: tuple[str, ...] | None
    increment: str | None


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
    ) -> None:
        self.table = table
        self._schema = schema
        self._attempts = attempts
        self._now = now
        self._whole = whole
        self._only_new = only_new
        self.snapshot = table.find()
        self._stored = None if self.snapshot is None else data_columns(table.schema(self.snapshot))
        metadata = (self._stored.metadata or {}) if self._stored is not None else {}
        self.key = schema.key if schema else tuple(filter(None, metadata.get(_KEY, b"").decode().split("\n"))) or None
        if self.snapshot is not None:
            self.layout: Layout = self.snapshot.layout
            self.partition_column = metadata.get(PARTITION_COLUMN, b"Date").decode()
        else:
            self.layout = (schema.partition if schema else None) or "file"
            self.partition_column = schema.increment if schema else "Date"
        self._text = self._stored is not None and legacy.is_text(self._stored)
        self._before = self.snapshot
        self._done: list[LoadResult] = []

    # --- the batch --------------------------------------------------------------------------

    def batch(
        self,
        df: pd.DataFrame,
        *,
        index: bool,
        index_name: str,
        normalize: bool,
        key: tuple[str, ...] | None,
        required: Sequence[str] = (),
    ) -> pa.Table:
        """``df`` as typed columns, as they will read once stored in the table, or a `SchemaError`."""
        name = self.table.name
        target = self._schema.arrow() if self._schema else None
        if self._stored is not None and not self._whole:
            stored = logical_schema(self._stored, name)
            if target is not None:
                self._check_declared(target, stored)
            target = target or stored
        batch = frame_to_arrow(df, table=name, target=target, normalize=normalize, index=index, index_name=index_name)
        if self._stored is not None and (self._text or not self._whole):
            batch = as_stored(batch, self._stored, name)
        needed = {*(key or ()), *required, *((self.partition_column,) if self.layout != "file" else ())}
        self._check_filled(batch, needed)
        if self.layout != "file" and not pa.types.is_timestamp(batch.schema.field(self.partition_column).type):
            raise SchemaError(
                f"Table {name} is partitioned by {self.partition_column!r}, which holds no dates in the batch.",
                hint="Convert the column with pandas.to_datetime.",
            )
        if key:
            check_key(batch, key, name)
        return batch

    def _check_filled(self, batch: pa.Table, needed: set[str]) -> None:
        absent = sorted(needed - set(batch.column_names))
        if absent:
            raise SchemaError(
                f"The batch for {self.table.name} has no column {', '.join(map(repr, absent))}; it has "
                f"{', '.join(map(repr, batch.column_names))}.",
                hint="Add the column, or name another increment_column or other unique_columns.",
            )
        for column in sorted(needed):
            nulls = batch[column].null_count
            if nulls:
                raise SchemaError(
                    f"Table {self.table.name}, column {column!r}: {nulls} of {len(batch)} rows in the batch are null, "
                    "in a column that says which rows they are.",
                    hint="Fill or drop those rows.",
                )

    def _check_declared(self, declared: pa.Schema, stored: pa.Schema) -> None:
        is_, should = _types(stored), _types(declared)
        if is_ != should:
            odd = sorted(name for name in is_.keys() | should.keys() if is_.get(name) != should.get(name))
            detail = "; ".join(
                f"{name!r} is {is_.get(name, 'absent')}, declared {should.get(name, 'absent')}" for name in odd[:4]
            )
            raise SchemaError(
                f"The stored table {self.table.name} has other columns than this version writes: {detail}"
                f"{f' and {len(odd) - 4} more' if len(odd) > 4 else ''}. Nothing was written.",
                hint=f"`luxor archive {self.table.name}` moves the stored table aside, so that a new one can be made.",
            )

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
            Nothing has been written.
        LoadConflictError
            The partitions not yet committed are untouched.
        """
        parts = pieces(self.layout, batch, self.partition_column, self.table.name)
        if len(parts) > 1:
            self._check_partitions({label for label, _ in parts}, batch.schema)
        for label, rows in parts:
            self._commit(label, rows, _Plan(mode, key, increment))

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
        for label, rows in parts:
            self._commit(label, rows, _Plan("slices", self.key, None))
        gone = [part for part in (self._before.parts if self._before else ()) if part.label not in dict(parts)]
        for part in gone:
            self._retried(part.label, part, self._drop)

    def _check_partitions(self, labels: set[str], batch: pa.Schema) -> None:
        """Refuse columns in which a partition differs from the table, before the first is written."""
        touched = [part for part in (self.snapshot.parts if self.snapshot else ()) if part.label in labels]

        def schema(part: Part) -> pa.Schema | None:
            try:
                return self.table.stored(part).schema
            except VersionChangedError:
                return None  # it is looked at again when its turn comes

        wanted = _types(batch)
        for part, found in zip(touched, self.table.each(touched, schema), strict=True):
            stored = wanted if found is None else _types(logical_schema(found, self.table.name))
            if stored != wanted:
                odd = sorted({name for name, _ in stored.items() ^ wanted.items()})
                raise SchemaError(
                    f"Table {self.table.name}, partition {part.label} differs from the batch in "
                    f"{', '.join(map(repr, odd))}. Nothing was written.",
                    hint="Rewrite the odd partition with the table's columns.",
                )

    def _commit(self, label: str, batch: pa.Table, plan: _Plan) -> None:
        part = self.snapshot.part(label) if self.snapshot else None
        self._retried(label, part, lambda found: self._apply(label, found, batch, plan))

    def _retried(self, label: str, part: Part | None, work: Callable[[Part | None], None]) -> None:
        """Do ``work`` on a partition; on conflict look at it afresh and do it again."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_conflict),
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=tenacity.wait_random_exponential(0.02, max=1.0),
            reraise=True,
        )
        try:
            for attempt in attempts:
                with attempt:
                    if attempt.retry_state.attempt_number > 1:
                        part = self._current(label)
                    work(part)
        except LoadConflictError:
            raise
        except ConflictError as error:
            raise LoadConflictError(
                f"Table {self.table.name}{f', partition {label}' if label else ''}: other writers came first "
                f"{self._attempts} times.",
                hint="The partition is as they left it; run the load again when they are done.",
            ) from error

    def _current(self, label: str) -> Part | None:
        found = self.table.find()
        if found is not None and found.layout != self.layout:
            raise LoadConflictError(
                f"Table {self.table.name} was converted from {self.layout} to {found.layout} during the load.",
                hint="Run the load again.",
            )
        part = found.part(label) if found else None
        if self._only_new and part is not None:
            raise exists(self.table)
        if not any(done.changed for done in self._done):
            self._before = found  # the version that this load goes on from, not the one it met first
        self.snapshot = found
        return part

    def _apply(self, label: str, part: Part | None, batch: pa.Table, plan: _Plan) -> None:
        stored = None
        if part is not None and self._whole:
            stored, change = self._against(part, batch, plan)
        else:
            stored = self.table.read_part(part) if part else None
            change = merge(
                stored.logical if stored else None, batch, mode=plan.mode, key=plan.key, increment=plan.increment
            )
        result = LoadResult(self.table.name, change.inserted, change.updated, change.unchanged, change.deleted)
        if change.changed or (self._whole and stored is None):
            data = self._build(stored, batch, change, plan)
            by = [plan.increment] if plan.increment else list(plan.key or ())
            version = self.table.write_part(
                self.layout,
                label,
                data,
                expected=part.info.version if part else None,
                sorted_by=() if self._text else by,  # text is not in the order of what it means
            )
            self._note(label, version)
            result = replace(result, partitions=(label,))
            logger.info("%s%s written: %s", self.table.name, f" {label}" if label else "", result)
        self._done.append(result)

    def _against(self, part: Part, batch: pa.Table, plan: _Plan) -> tuple[StoredPart | None, Merge]:
        """What replacing a partition changes; one with other columns, or bad cells, goes as a whole."""
        rows = self.table.stored(part).rows
        try:
            stored = self.table.read_part(part)
            there = stored.logical if legacy.is_text(stored.physical.schema) else stored.physical
            if _types(there.schema) == _types(batch.schema):
                return stored, merge(stored.logical, batch, mode=plan.mode, key=plan.key, increment=None)
        except SchemaError as error:
            logger.info("%s is replaced, not compared: %s", self.table.name, error.message)
        new = np.arange(len(batch))
        return None, Merge(new[:0], new, inserted=len(batch), updated=0, unchanged=0, deleted=rows)

    def _build(self, stored: StoredPart | None, batch: pa.Table, change: Merge, plan: _Plan) -> pa.Table:
        """The partition's new rows, in the types and the encoding that the stored ones have."""
        new = batch.take(pa.array(change.take))
        stamp = pa.scalar(self._now(), STAMP)
        stamped = new.append_column(LAST_UPDATED, pa.repeat(stamp, len(new)))
        if stored is not None:
            physical, logical = stored
            if legacy.is_text(physical.schema):
                encoded = legacy.encode(stamped.select(physical.column_names), like=physical)
            else:
                encoded = stamped
            encoded = to_physical(encoded, physical.schema, self.table.name)
            keep = pa.array(change.keep)
            rows = pa.concat_tables([logical.take(keep).select(new.column_names), new], promote_options="permissive")
            data = pa.concat_tables([physical.take(keep), encoded])
            return data.take(sort_indices(rows, plan.increment, plan.key))
        if self._text:
            data = legacy.encode(stamped, like=None)
        elif self._stored is not None and not self._whole:
            data = to_physical(stamped, self._stored, self.table.name)
        else:
            data = stamped
        kept = None if self._whole or self._stored is None else self._stored.metadata
        data = data.take(sort_indices(new, plan.increment, plan.key))
        return data.replace_schema_metadata(kept or (None if self._text else self._metadata(plan.key)))

    def _metadata(self, key: tuple[str, ...] | None) -> dict[bytes, bytes]:
        metadata: dict[bytes, bytes] = {ENCODING: b"typed"}
        if self._schema is not None:
            metadata |= self._schema.metadata()
        if self._schema is not None or self._whole:
            metadata[_KEY] = "\n".join(key or self.key or ()).encode()
        if self.layout != "file":
            metadata[PARTITION_COLUMN] = self.partition_column.encode()
        return metadata

    def _drop(self, part: Part | None) -> None:
        if part is None:
            return
        rows = self.table.stored(part).rows
        self.table.storage.delete(part.info.path, expected=part.info.version)
        self._note(part.label, None)
        self._done.append(LoadResult(self.table.name, deleted=rows, partitions=(part.label,)))

    # --- the outcome ------------------------------------------------------------------------

    def _note(self, label: str, version: str | None) -> None:
        parts = {part.label: part for part in (self.snapshot.parts if self.snapshot else ())}
        parts.pop(label, None)
        if version is not None:
            parts[label] = Part(label, BlobInfo(self.table.path(self.layout, label), version, 0, self._now()))
        self.snapshot = Snapshot(self.layout, tuple(parts[each] for each in sorted(parts)))

    def result(self) -> LoadResult:
        """The sum of what has been done."""
        return LoadResult(
            self.table.name,
            sum(done.inserted for done in self._done),
            sum(done.updated for done in self._done),
            sum(done.unchanged for done in self._done),
            sum(done.deleted for done in self._done),
            tuple(label for done in self._done for label in done.partitions),
            self._before.version if self._before else None,
            self.snapshot.version if self.snapshot else None,
        )


def exists(table: Table) -> TableExistsError:
    """The error for a table that was not to be replaced."""
    return TableExistsError(
        f"Table {table.name} exists already in {table.storage.url}/{table.directory}.",
        hint="Use mode='replace' to replace it, mode='skip' to leave it, or incremental_load to add to it.",
    )


def _is_conflict(error: BaseException) -> bool:
    return isinstance(error, ConflictError) and not isinstance(error, LoadConflictError)


def _types(schema: pa.Schema) -> dict[str, str]:
    return {field.name: str(field.type) for field in schema if field.name != LAST_UPDATED}
