"""The writers' one door: `incremental_load` and `save_table`.

Both validate everything before anything is written, commit one partition at a time on condition
of the version it was read from, write nothing where nothing changed, and can be repeated in any
order with the same outcome.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc
import tenacity

from luxor_pipelines.errors import ConflictError, LoadConflictError, SchemaError, UsageError
from luxor_pipelines.lake import legacy
from luxor_pipelines.lake.merge import Merge, merge, sort_indices
from luxor_pipelines.lake.schema import LAST_UPDATED, TableSchema, check_key, frame_to_arrow
from luxor_pipelines.lake.storage import BlobInfo
from luxor_pipelines.lake.table import (
    DIRECTORY,
    PARTITION_COLUMN,
    Layout,
    Part,
    Snapshot,
    StoredPart,
    Table,
    labels,
    logical_schema,
)

if TYPE_CHECKING:
    import pandas as pd

    from luxor_pipelines.query import LuxorQuery

__all__ = ["LoadResult", "incremental_load", "save_table"]

logger = logging.getLogger(__name__)

_KEY = b"luxor.key"
_ENCODING = b"luxor.encoding"


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


def incremental_load(
    lq: LuxorQuery,
    table_name: str,
    df: pd.DataFrame,
    *,
    increment_column: str | None = "Date",
    index: bool = False,
    index_name: str = "index",
    normalize_columns: bool = True,
    directory: str = DIRECTORY,
    unique_columns: Sequence[str] | None = None,
    schema: TableSchema | None = None,
) -> LoadResult:
    """Load ``df`` into a table so that doing it again, late or in another order changes nothing.

    Without ``unique_columns`` *slices* are replaced: stored rows whose ``increment_column`` value
    occurs in ``df`` give way to ``df``'s rows, every other row stays, whether earlier or later.
    With them rows are *upserted by key*: a stored row of the same key is replaced, a new key is
    inserted, nothing is deleted. In a table partitioned by month or year the key includes the
    date. Rows that stay the same keep their ``Last_Updated`` and are not written again.

    Parameters
    ----------
    lq
        The lake to write to. Its cache forgets the table, so that a next read sees the load.
    df
        The rows; never modified. An empty frame is a no-op.
    increment_column
        The column that defines slices; None with ``unique_columns`` for a table without dates.
    index, index_name
        Whether the frame's index is stored, and as which column.
    normalize_columns
        Trim and lower-case text, except in ``Name``, ``Class``, ``Vehicles`` and ``Segment``.
    directory
        The folder of the lake the table lies in.
    unique_columns
        The key to upsert by.
    schema
        The declared schema of a table that a pipeline produces: types, key, and the layout it is
        created with. Without it an existing table keeps its columns and a new one takes ``df``'s.

    Raises
    ------
    SchemaError
        A column that is unknown, missing or of another type, a cell that cannot be cast, a null
        or duplicated key. Nothing has been written.
    LoadConflictError
        Other writers kept changing the table; the partitions not yet committed are untouched.
    """
    if increment_column is None and not unique_columns:
        raise UsageError(
            f"Loading {table_name} without increment_column and unique_columns says nothing about which rows to "
            "replace.",
            hint="Name the column that defines slices, or the key; to replace a whole table use save_table.",
        )
    load = _Load(lq, table_name, directory, schema)
    if df.empty:
        return load.result()
    if unique_columns and load.layout != "file" and load.partition_column not in unique_columns:
        unique_columns = [load.partition_column, *unique_columns]
    key = tuple(unique_columns) if unique_columns else load.key
    batch = load.batch(df, index, index_name, normalize_columns, key, required=[increment_column])
    if load.layout != "file" and increment_column != load.partition_column:
        if not unique_columns:
            raise UsageError(
                f"Table {load.table.name} is partitioned by {load.partition_column}, so its slices are too.",
                hint=f"Leave increment_column at {load.partition_column!r}.",
            )
        increment_column = load.partition_column
    mode: Literal["slices", "upsert"] = "upsert" if unique_columns else "slices"
    for label, rows in load.pieces(batch):
        load.commit(label, rows, mode, key, increment_column)
    return load.result()


def save_table(
    table_name: str,
    df: pd.DataFrame,
    *,
    lq: LuxorQuery | None = None,
    index: bool = False,
    index_name: str = "index",
    normalize_columns: bool = True,
    directory: str = DIRECTORY,
    override: bool = False,
    mode: Literal["error", "replace", "skip"] | None = None,
    format: Literal["parquet"] = "parquet",  # noqa: A002 - the familiar name
    schema: TableSchema | None = None,
) -> LoadResult:
    """Save ``df`` as a whole table.

    Parameters
    ----------
    lq
        The lake to write to; default the one the environment names.
    mode
        What to do with a table that exists: ``"error"`` (default), ``"replace"`` its content, or
        ``"skip"`` the save. ``override=True`` is the familiar way to say ``"replace"``. A legacy
        text table stays one.
    index, index_name, normalize_columns, directory, schema
        As in `incremental_load`.

    Raises
    ------
    UsageError
        The table exists and the mode is ``"error"``; or another format than Parquet is asked for.
    SchemaError
    LoadConflictError
    """
    mode = mode or ("replace" if override else "error")
    if mode not in {"error", "replace", "skip"}:
        raise UsageError(f"mode {mode!r} is not known.", hint="Use 'error', 'replace' or 'skip'.")
    if format != "parquet":
        raise UsageError(
            f"Tables are Parquet; {format!r} is not written to the lake.", hint="Export with df.to_excel or df.to_csv."
        )
    if lq is None:
        from luxor_pipelines.query import LuxorQuery

        lq = LuxorQuery()
    load = _Load(lq, table_name, directory, schema, whole=True)
    if load.snapshot is not None and mode == "error":
        raise UsageError(
            f"Table {load.table.name} exists already in {lq.storage.url}/{directory}.",
            hint="Use mode='replace' to replace it, mode='skip' to leave it, or incremental_load to add to it.",
        )
    if load.snapshot is not None and mode == "skip":
        return load.result()
    batch = load.batch(df, index, index_name, normalize_columns, load.key)
    kept = set()
    for label, rows in load.pieces(batch):
        load.commit(label, rows, "slices", load.key, None)
        kept.add(label)
    load.drop_others(kept)
    return load.result()


class _Load:
    """One load of one table: what is stored, what the batch must look like, what has been done."""

    def __init__(
        self, lq: LuxorQuery, name: str, directory: str, schema: TableSchema | None, *, whole: bool = False
    ) -> None:
        self._lq = lq
        self._schema = schema
        self._whole = whole
        self.table = Table(lq.storage, name, directory)
        self.snapshot = self.table.find()
        self._stored = self.table.schema(self.snapshot) if self.snapshot else None
        metadata = (self._stored.metadata or {}) if self._stored is not None else {}
        self.key = schema.key if schema else tuple(filter(None, metadata.get(_KEY, b"").decode().split("\n"))) or None
        self.partition_column = metadata.get(PARTITION_COLUMN, b"Date").decode()
        if self.snapshot is not None:
            self.layout: Layout = self.snapshot.layout
        else:
            self.layout = (schema.partition if schema else None) or "file"
            self.partition_column = (schema.increment if schema else None) or "Date"
        self._before = self.snapshot
        self._done: list[LoadResult] = []

    def batch(
        self,
        df: pd.DataFrame,
        index: bool,
        index_name: str,
        normalize: bool,
        key: tuple[str, ...] | None,
        required: Sequence[str | None] = (),
    ) -> pa.Table:
        """``df`` as typed columns that fit the table, or a `SchemaError`."""
        declared = self._schema.arrow() if self._schema else None
        target = declared
        if self._stored is not None and not self._whole:
            target = logical_schema(self._stored, self.table.name)
            if declared is not None:
                self._check_declared(declared, target)
                target = declared
        batch = frame_to_arrow(
            df, table=self.table.name, target=target, normalize=normalize, index=index, index_name=index_name
        )
        needed = {*(key or ()), *filter(None, required)}
        if self.layout != "file":
            needed.add(self.partition_column)
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
        if self.layout != "file" and not pa.types.is_timestamp(batch.schema.field(self.partition_column).type):
            raise SchemaError(
                f"Table {self.table.name} is partitioned by {self.partition_column!r}, which holds no dates in the "
                "batch.",
                hint="Convert the column with pandas.to_datetime.",
            )
        if key:
            check_key(batch, key, self.table.name)
        return batch

    def _check_declared(self, declared: pa.Schema, stored: pa.Schema) -> None:
        def columns(schema: pa.Schema) -> dict[str, str]:
            return {field.name: str(field.type) for field in schema if field.name != LAST_UPDATED}

        if columns(declared) != columns(stored):
            is_, should = columns(stored), columns(declared)
            odd = sorted(name for name in is_.keys() | should.keys() if is_.get(name) != should.get(name))
            detail = "; ".join(
                f"{name!r} is {is_.get(name, 'absent')}, declared {should.get(name, 'absent')}" for name in odd[:4]
            )
            raise SchemaError(
                f"The stored table {self.table.name} has other columns than this version writes: {detail}"
                f"{f' and {len(odd) - 4} more' if len(odd) > 4 else ''}. Nothing was written.",
                hint=f"`luxor archive {self.table.name}` moves the stored table aside, so that a new one can be made.",
            )

    def pieces(self, batch: pa.Table) -> list[tuple[str, pa.Table]]:
        """The batch by partition, in ascending order."""
        if self.layout == "file":
            return [("", batch)]
        of_row = pa.array(labels(self.layout, batch[self.partition_column]))
        return [
            (label, batch.filter(pc.equal(of_row, pa.scalar(label)))) for label in sorted(pc.unique(of_row).to_pylist())
        ]

    def commit(
        self,
        label: str,
        batch: pa.Table,
        mode: Literal["slices", "upsert"],
        key: tuple[str, ...] | None,
        increment: str | None,
    ) -> None:
        """Merge the batch into one partition; on conflict re-read, re-apply and try again."""
        part = self.snapshot.part(label) if self.snapshot else None
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(ConflictError),
            stop=tenacity.stop_after_attempt(self._lq.settings.load_attempts),
            wait=tenacity.wait_random_exponential(0.02, max=1.0),
            reraise=True,
        )
        try:
            for attempt in attempts:
                with attempt:
                    if attempt.retry_state.attempt_number > 1:
                        part = self._current(label)
                    self._apply(label, part, batch, mode, key, increment)
        except LoadConflictError:
            raise
        except ConflictError as error:
            raise LoadConflictError(
                f"Table {self.table.name}{f', partition {label}' if label else ''}: other writers came first "
                f"{self._lq.settings.load_attempts} times.",
                hint="The partition is as they left it; run the load again when they are done.",
            ) from error
        finally:
            self._lq.forget(self.table.name, self.table.directory)

    def _current(self, label: str) -> Part | None:
        found = self.table.find()
        if found is not None and found.layout != self.layout:
            raise LoadConflictError(
                f"Table {self.table.name} was converted from {self.layout} to {found.layout} during the load.",
                hint="Run the load again.",
            )
        return found.part(label) if found else None

    def _apply(
        self,
        label: str,
        part: Part | None,
        batch: pa.Table,
        mode: Literal["slices", "upsert"],
        key: tuple[str, ...] | None,
        increment: str | None,
    ) -> None:
        stored = self.table.read_part(part) if part else None
        if (
            self._whole
            and stored is not None
            and set(stored.logical.column_names) - {LAST_UPDATED} != set(batch.column_names)
        ):
            change, stored = _replaced(stored, batch), None
        else:
            change = merge(stored.logical if stored else None, batch, mode=mode, key=key, increment=increment)
        result = LoadResult(
            self.table.name, change.inserted, change.updated, change.unchanged, change.deleted, (label,)
        )
        if not change.changed:
            self._done.append(replace(result, partitions=()))
            return
        data = self._build(stored, batch, change, key, increment)
        expected = part.info.version if part else None
        sorted_by = [increment] if increment else list(key or ())
        version = self.table.write_part(self.layout, label, data, expected=expected, sorted_by=sorted_by)
        self._note(label, version)
        self._done.append(result)
        logger.info("%s%s written: %s", self.table.name, f" {label}" if label else "", result)

    def _build(
        self,
        stored: StoredPart | None,
        batch: pa.Table,
        change: Merge,
        key: tuple[str, ...] | None,
        increment: str | None,
    ) -> pa.Table:
        """The partition's new rows, in the encoding that the stored ones have."""
        new = batch.take(pa.array(change.take))
        stamp = pa.scalar(self._lq.now(), pa.timestamp("us", "UTC"))
        new = new.append_column(LAST_UPDATED, pa.repeat(stamp, len(new)))
        if stored is None:
            text = self._stored is not None and legacy.is_text(self._stored)
            data = legacy.encode(new, like=None) if text else new
            order = sort_indices(new, increment, key)
            metadata = (self._stored.metadata if self._stored is not None and not self._whole else None) or {}
            return data.take(order).replace_schema_metadata({**metadata, **({} if text else self._metadata(key))})
        physical, logical = stored
        if LAST_UPDATED not in physical.column_names:
            kind = pa.string() if legacy.is_text(physical.schema) else pa.timestamp("us", "UTC")
            physical = physical.append_column(LAST_UPDATED, pa.nulls(len(physical), kind))
            logical = logical.append_column(LAST_UPDATED, pa.nulls(len(logical), kind))
            if legacy.is_text(physical.schema):
                physical = physical.set_column(
                    physical.num_columns - 1, LAST_UPDATED, pa.array(["nan"] * len(physical), pa.string())
                )
        keep = pa.array(change.keep)
        fresh = new.select(physical.column_names)
        encoded = legacy.encode(fresh, like=physical) if legacy.is_text(physical.schema) else fresh
        encoded = encoded.cast(physical.schema.remove_metadata()).replace_schema_metadata(physical.schema.metadata)
        plain = [name for name in logical.column_names if name != LAST_UPDATED]
        rows = pa.concat_tables([logical.take(keep).select(plain), fresh.select(plain)], promote_options="permissive")
        data = pa.concat_tables([physical.take(keep), encoded])
        return data.take(sort_indices(rows, increment, key))

    def _metadata(self, key: tuple[str, ...] | None) -> dict[bytes, bytes]:
        metadata: dict[bytes, bytes] = {_ENCODING: b"typed"}
        if self._schema is not None:
            metadata |= self._schema.metadata()
            metadata[_KEY] = "\n".join(key or self._schema.key).encode()
        if self.layout != "file":
            metadata[PARTITION_COLUMN] = self.partition_column.encode()
        return metadata

    def drop_others(self, kept: set[str]) -> None:
        """Delete the partitions that are not among ``kept``."""
        for part in self.snapshot.parts if self.snapshot else ():
            if part.label not in kept:
                rows = len(self.table.read_part(part).physical)
                self._lq.storage.delete(part.info.path, expected=part.info.version)
                assert self.snapshot is not None
                self.snapshot = replace(
                    self.snapshot, parts=tuple(other for other in self.snapshot.parts if other.label != part.label)
                )
                self._done.append(LoadResult(self.table.name, deleted=rows, partitions=(part.label,)))
        self._lq.forget(self.table.name, self.table.directory)

    def _note(self, label: str, version: str) -> None:
        part = Part(label, BlobInfo(self.table.path(self.layout, label), version, 0, self._lq.now()))
        others = [other for other in (self.snapshot.parts if self.snapshot else ()) if other.label != label]
        self.snapshot = Snapshot(self.layout, tuple(sorted([*others, part], key=lambda each: each.label)))

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


def _replaced(stored: StoredPart, batch: pa.Table) -> Merge:
    """Every stored row gone, every row of the batch new: the columns are others."""
    import numpy as np

    return Merge(
        keep=np.empty(0, dtype=np.int64),
        take=np.arange(len(batch)),
        inserted=len(batch),
        updated=0,
        unchanged=0,
        deleted=len(stored.physical),
    )
