"""Optimize: a table rewritten typed, sorted, in row groups that suit the reads, with a series index.

Nothing is lost and nobody is held up. Each file is swapped on condition of the version it was read from, and a
load that came between is read again.

To convert a single file into months or years, the partitions are written under a `Claim` on the file, each with the
conversion's id in its metadata; then the layout's record, which names that id; then the file is deleted. Until that
moment the file is the table, afterwards the partitions are. When the file is deleted, its version is the claim's, so
nobody has claimed it since: the partitions are all this conversion's, and the record too.

Leftovers. Partitions beside a single file may be what a conversion left that was cut short, or a table that a file of
another program hides. They are leftovers if they name a conversion that the record does not: no conversion deletes
its file before the record names it. If the record names it, they are leftovers only if the file has the very bytes
that were converted. Anything else is refused.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.errors import (
    ConflictError,
    FileLockedError,
    LoadConflictError,
    MoveInProgressError,
    NotFoundError,
    SchemaError,
    TableNotFoundError,
    UsageError,
)
from luxor_pipelines.lake.concurrency import at_once
from luxor_pipelines.lake.concurrency import attempts as attempt_numbers
from luxor_pipelines.lake.parquet.file import ROW_GROUP, ParquetFile, open_file, to_bytes
from luxor_pipelines.lake.parquet.series_index import build_index
from luxor_pipelines.lake.storage.base import BlobInfo, WholeFile
from luxor_pipelines.lake.table.claim import Claim
from luxor_pipelines.lake.table.layout import (
    BIRTH,
    CONVERSION,
    PARTITION_COLUMN,
    Layout,
    LayoutRecord,
    Part,
    Snapshot,
    pieces,
)
from luxor_pipelines.lake.table.load import check_typed
from luxor_pipelines.lake.table.merge import sort_indices
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.lake.types.codec import Codec, codec_of, overridden
from luxor_pipelines.lake.types.parsing import parse_dates
from luxor_pipelines.lake.types.schema import (
    DATE,
    ENCODING,
    LAST_UPDATED,
    NUMBER,
    STAMP,
    TEXT,
    Conventions,
    bad_cells,
    is_text_type,
    stored_key,
    value_type,
)

__all__ = ["Optimized", "Shape", "find_leftovers", "optimize", "retyped"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shape:
    """The shape of a table: its layout, whether it is typed, and its size.

    ``indexed`` counts the files that have a series index.
    """

    layout: Layout
    typed: bool
    files: int
    rows: int
    row_groups: int
    bytes: int
    indexed: int


@dataclass(frozen=True)
class Optimized:
    """The outcome of `optimize`, or with ``dry_run`` what it would be.

    ``sorted_by`` are the columns the rows are sorted by, ``rewritten`` the labels of the files that are new.
    """

    table: str
    sorted_by: tuple[str, ...]
    before: Shape
    after: Shape
    rewritten: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether there was anything to do."""
        return bool(self.rewritten)


@dataclass(frozen=True)
class _Plan:
    """The shape that a table is given.

    Attributes
    ----------
    stored_layout, layout
        The layout that the table has, and the one that it gets.
    date
        Its column of dates, by which it is split; None where it has none.
    by
        The columns that its rows are sorted by.
    types, conventions
        The types of columns of legacy text that the caller gives, and those that the lake knows.
    conversion
        The id that partitions carry if the layout changes.
    """

    stored_layout: Layout
    layout: Layout
    date: str | None
    by: tuple[str, ...]
    types: Mapping[str, Any] | None
    conventions: Conventions
    conversion: str


def optimize(
    table: Table,
    *,
    layout: Layout | None = None,
    date_column: str | None = None,
    sort_by: Sequence[str] = (),
    types: Mapping[str, Any] | None = None,
    attempts: int = 12,
    dry_run: bool = False,
) -> Optimized:
    """Rewrite a table typed and sorted, and split it by month or year where that is asked for.

    Columns get the types that our own files have wherever these hold every value: `retyped` says which. Whole
    numbers and decimals stay as they are.

    Parameters
    ----------
    layout
        ``month`` or ``year`` splits a table in one file; default the layout it has.
    date_column
        The column to split by; default the one the table is sorted by first.
    sort_by
        The columns to sort by; default the date and the key that the table's file names, else its first
        dates and first texts. A table without dates or key is left in its order.
    types
        Types for columns of a legacy text table, or without a value, beyond those known by name (see
        `codec.overridden`).
    attempts
        How often a file is tried when other writers come first.
    dry_run
        Only say what would be done; the files are made, not written.

    Raises
    ------
    TableNotFoundError, CorruptFileError
    ForeignTableError
        The table is another program's.
    SchemaError
        A cell of a text table that is not of its type; an instant finer than a microsecond; a row without a
        date to split by, or a column to split whose type is not known. Nothing was written.
    UsageError
        A column that is not there, or a change of layout that is not offered.
    LoadConflictError
        Other writers kept coming first; the table is as they left it.
    """
    for attempt in attempt_numbers(attempts):
        try:
            return _once(table, layout, date_column, tuple(sort_by), types, dry_run=dry_run)
        except (FileLockedError, MoveInProgressError, TableNotFoundError):
            raise
        except (ConflictError, NotFoundError) as error:  # a file that has gone was converted, or moved away
            if attempt == attempts:
                raise LoadConflictError(
                    f"Table {table.name}: other writers came first {attempts} times.",
                    hint="The table is as they left it; optimize it again when they are done.",
                ) from error
    raise AssertionError("unreachable")


def _once(
    table: Table,
    layout: Layout | None,
    date_column: str | None,
    sort_by: tuple[str, ...],
    types: Mapping[str, Any] | None,
    *,
    dry_run: bool,
) -> Optimized:
    """Try once to do as `optimize` does.

    Raises
    ------
    ConflictError, NotFoundError
        Other writers came first.
    """
    snapshot = table.snapshot()
    table.check_ours(snapshot)
    plan = _plan(table, snapshot, layout, date_column, sort_by, types)
    before, after, rewritten = [], [], []
    for part in snapshot.parts:
        blob = table.storage.read(part.info.path)
        if blob.version != part.info.version:
            raise table.storage.changed(part.info.path)
        path = part.info.path
        rows = _rewritten(table.name, path, blob.data, plan)
        files = {label: to_bytes(piece, sorted_by=plan.by) for label, piece in rows.items()} or {"": blob.data}
        before.append(_shape(path, snapshot.layout, blob.data, plan))
        after += [_shape(path, plan.layout, data, plan) for data in files.values()]
        if plan.layout != snapshot.layout:
            rewritten += list(files)
            _leftovers(table, part, blob.data, table.storage.list(table.folder))
            if not dry_run:
                _convert(table, part, blob.data, plan, files, to_bytes(next(iter(rows.values())).slice(0, 0)))
        elif files[""] != blob.data:
            rewritten.append(part.label)
            if not dry_run:
                table.storage.write(path, files[""], expected=part.info.version)
                logger.info("%s is new", path)
    return Optimized(table.name, plan.by, _sum(before), _sum(after), tuple(rewritten))


def _plan(
    table: Table,
    snapshot: Snapshot,
    layout: Layout | None,
    date_column: str | None,
    sort_by: tuple[str, ...],
    types: Mapping[str, Any] | None,
) -> _Plan:
    """Return the shape for a table, from what the caller asks for and what the table's file tells.

    Raises
    ------
    UsageError
        A column that is not there, or a change of layout that is not offered.
    """
    codec = table.codec(snapshot, types)
    schema = codec.stored
    logical = _logical(schema.empty_table(), codec, table.name).schema
    metadata = schema.metadata or {}
    dates = [field.name for field in logical if field.type == DATE]
    texts = [field.name for field in logical if is_text_type(field.type)]
    key = list(stored_key(schema))
    partition = metadata.get(PARTITION_COLUMN, b"").decode() or None
    first = date_column or partition or next((name for name in [*key, *dates] if name in dates), None)
    # Rows that agree in these keep their order: of two prices of a date the last one counts.
    by = sort_by or tuple(dict.fromkeys([*([first] if first else []), *(key or texts[:1] if first else key)]))
    typed = [name for names in (types or {}).values() for name in ([names] if isinstance(names, str) else names)]
    absent = [name for name in (*by, *([date_column] if date_column else []), *typed) if name not in logical.names]
    if absent:
        raise UsageError(
            f"Table {table.name} has no column {', '.join(map(repr, absent))}; it has "
            f"{', '.join(map(repr, logical.names))}.",
            hint="Check the spelling; column names are case-sensitive.",
        )
    target = layout or snapshot.layout
    if target != snapshot.layout and snapshot.layout != "file":
        raise UsageError(
            f"Table {table.name} is split by {snapshot.layout}, and is not turned into {target}.",
            hint="Only a table in one file can be split.",
        )
    if target != "file" and (first is None or first not in dates):
        raise UsageError(
            f"Table {table.name} has no column of dates to split by{f': {first!r} is none' if first else ''}.",
            hint="Name the column; of a legacy text table also its type.",
        )
    return _Plan(snapshot.layout, target, first, by, types, table.conventions, uuid.uuid4().hex)


def retyped(codec: Codec, table: str) -> dict[str, tuple[pa.DataType, pa.DataType]]:
    """Return the columns that another program stored as a type that ours lack, each with its old and its new type."""
    schema = codec.stored
    retyped_schema = _logical(schema.empty_table(), codec, table).schema
    types = {field.name: (value_type(field.type), retyped_schema.field(field.name).type) for field in schema}
    return {name: (old, new) for name, (old, new) in types.items() if old != new and not is_text_type(new)}


def _logical(data: pa.Table, codec: Codec, name: str, known_types: Mapping[str, pa.DataType] | None = None) -> pa.Table:
    """Return the rows as typed columns; a legacy table's ``Last_Updated`` is taken for UTC.

    Decimals stay decimals, and whole numbers whole, unless the codec knows their column as numbers and each of them
    is a float64. A column that has had no value yet gets the type that is known of it; without one it stays open.
    """
    typed = codec.decode(data)
    for at, field in enumerate(typed.schema):
        column = data[field.name]
        kind = value_type(column.type)
        if pa.types.is_null(kind):
            known_type = (known_types or {}).get(field.name, kind)
            typed = typed.set_column(at, pa.field(field.name, known_type), column.cast(known_type))
            continue
        if (
            pa.types.is_integer(kind)
            and field.type == NUMBER
            and typed[field.name].cast(kind, safe=False).equals(column)
        ):
            continue
        if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
            typed = typed.set_column(at, pa.field(field.name, kind), column.cast(kind))
        elif pa.types.is_timestamp(kind) and kind.unit == "ns":
            _check_exact(column, typed[field.name], name, field.name)
    at = typed.schema.get_field_index(LAST_UPDATED)
    if codec.legacy and at >= 0:
        stamps = typed[LAST_UPDATED].combine_chunks().cast(TEXT)
        parsed, _ = parse_dates(stamps)
        typed = typed.set_column(at, LAST_UPDATED, pa.chunked_array([parsed.cast(STAMP)]))
    return typed


def _check_exact(before: pa.ChunkedArray, after: pa.ChunkedArray, table: str, name: str) -> None:
    lost = pc.not_equal(after.cast(before.type), before)
    count = pc.sum(lost, min_count=0).as_py()
    if count:
        fault, example = "are finer than a microsecond, the finest there is", str(before.filter(lost)[0])
        raise bad_cells(
            table, name, count, len(before), fault, example, "Leave the table as it is, or round the column."
        )


def _rewritten(table: str, path: str, stored: bytes, plan: _Plan) -> dict[str, pa.Table]:
    """Return a file's rows in their new shape, by label or, where the layout stays, under ""; none if they have it."""
    with _opened(path, stored) as file:
        codec = codec_of(file.schema, table, plan.conventions, overridden(plan.types))
        known_types = plan.conventions.known_types(table, codec.stored.names) | overridden(plan.types)
        rows = _logical(file.read(), codec, table, known_types)
        by = [name for name in plan.by if not pa.types.is_null(rows.schema.field(name).type)]
        order = sort_indices(rows, None, by) if by else np.arange(len(rows))
        keeps_layout, in_order = plan.layout == plan.stored_layout, bool((np.diff(order) == 1).all())
        if keeps_layout and in_order and _in_shape(file, rows, plan.by):
            return {}
    metadata = {name: text for name, text in (rows.schema.metadata or {}).items() if name != b"pandas"}
    metadata[ENCODING] = b"typed"
    if not in_order:
        rows = rows.take(pa.array(order)).combine_chunks()
    if keeps_layout:
        return {"": rows.replace_schema_metadata(metadata)}
    assert plan.date is not None
    nulls = rows[plan.date].null_count
    if nulls or not len(rows):
        raise SchemaError(
            f"Table {table}, column {plan.date!r}: {nulls} of {len(rows)} rows have no date to split by."
            if nulls
            else f"Table {table} has no rows to split.",
            hint="Correct or drop those rows, or leave the table in one file.",
        )
    check_typed(rows, table, "Give it one: --type, types=; or drop the column.")
    metadata.pop(BIRTH, None)
    metadata |= {PARTITION_COLUMN: plan.date.encode(), CONVERSION: plan.conversion.encode()}
    return dict(pieces(plan.layout, rows.replace_schema_metadata(metadata), plan.date, table))


def _in_shape(file: ParquetFile, rows: pa.Table, by: Sequence[str]) -> bool:
    """Return whether a file with sorted rows is typed, in our row groups, and has the series index it should have."""
    groups = file.footer.rows
    return (
        (file.schema.metadata or {}).get(ENCODING) == b"typed"
        and all(size == ROW_GROUP for size in groups[:-1])
        and all(size <= ROW_GROUP for size in groups)
        and (file.footer.series_index is None) == (build_index(rows.slice(0, 1), by) is None)
    )


def _convert(table: Table, part: Part, stored: bytes, plan: _Plan, files: Mapping[str, bytes], empty: bytes) -> None:
    """Write the partitions and delete the single file they come from; see the top of this module."""
    storage = table.storage
    claim = Claim.take(storage, part.info.path, stored, expected=part.info.version)
    partitions = {table.path(plan.layout, label): data for label, data in files.items()}
    listing = claim.prepare(lambda: storage.list(table.folder), partitions, lambda _: empty)
    if table.moving_path in listing:
        raise table.moving()
    leftovers = _leftovers(table, part, stored, listing.values())
    claim.write(partitions, partitions.__getitem__, listing)
    for info in leftovers:
        if info.path not in partitions:
            storage.delete(info.path, expected=info.version)
    claim.check()  # a load that has changed the file is seen before the record names a conversion of it
    before = storage.read(table.record_path) if table.record_path in listing else None
    if before is not None and before.version != listing[table.record_path].version:
        raise storage.conflict(table.record_path)
    with _opened(part.info.path, stored) as file:
        birth = (file.schema.metadata or {}).get(BIRTH)
    record = LayoutRecord(
        plan.layout,
        plan.date or "",
        plan.conversion,
        None if birth is None else birth.decode(),
        hashlib.sha256(stored).hexdigest(),
    )
    record = table.write_record(record, expected=before.version if before else None)
    try:
        claim.release()
    except ConflictError:
        with suppress(ConflictError):  # what is no conversion is on record as none
            if before is None:
                storage.delete(table.record_path, expected=record.version)
            else:
                storage.write(table.record_path, before.data, expected=record.version)
        raise
    logger.info("%s is split into %d files", part.info.path, len(files))


def _leftovers(table: Table, single: Part, stored: bytes, listing: Iterable[BlobInfo]) -> list[BlobInfo]:
    """Return the partitions that lie beside the single file, if conversions of it have left them all.

    Raises
    ------
    UsageError
        Some may be a table of their own.
    """
    leftovers, other_table = find_leftovers(table, stored, listing)
    if other_table is not None:
        raise UsageError(
            f"Table {table.name} lies there twice: {table.summary(Snapshot('file', (single,)))}, which is what is "
            f"read, and {table.summary(other_table)}, which no conversion of that file has left.",
            hint=f"`luxor archive {table.name} --only file` or `--only partitions` moves one of the two aside.",
        )
    return leftovers


def find_leftovers(table: Table, stored: bytes, listing: Iterable[BlobInfo]) -> tuple[list[BlobInfo], Snapshot | None]:
    """Return the partitions beside a single file that conversions of it have left, and those that may be a table.

    Parameters
    ----------
    stored
        The single file's bytes.
    listing
        The files of the table's folder.
    """
    partitions = table.partitions(listing)
    record = table.record()
    converted = record is not None and record.digest == hashlib.sha256(stored).hexdigest()

    def is_leftover(part: Part) -> bool:
        conversion = (table.stored(part).codec.stored.metadata or {}).get(CONVERSION)
        if conversion is None:
            return False
        # Partitions that a load agreed on are a table of their own, whatever marks they still have.
        unnamed = record is None or record.layout == "file" or record.conversion not in (None, conversion.decode())
        return converted or unnamed

    for layout, parts in partitions.items():
        if not all(at_once(table.storage, parts, is_leftover)):
            return [], Snapshot(layout, tuple(parts))
    return [part.info for parts in partitions.values() for part in parts], None


@contextmanager
def _opened(path: str, data: bytes) -> Iterator[ParquetFile]:
    info = BlobInfo(path, "", len(data), datetime.now(UTC))
    with open_file(lambda: nullcontext(WholeFile(data)), info) as file:
        yield file


def _shape(path: str, layout: Layout, data: bytes, plan: _Plan) -> Shape:
    with _opened(path, data) as file:
        typed = not codec_of(file.schema, "", plan.conventions).legacy
        return Shape(
            layout, typed, 1, file.rows, len(file.footer.rows), len(data), int(file.footer.series_index is not None)
        )


def _sum(shapes: Sequence[Shape]) -> Shape:
    numbers = (
        sum(getattr(shape, name) for shape in shapes) for name in ("files", "rows", "row_groups", "bytes", "indexed")
    )
    return Shape(shapes[0].layout, all(shape.typed for shape in shapes), *numbers)
