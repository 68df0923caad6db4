"""Archive: a table moved to ``archive/<stamp>/``, and back.

A single file is moved by one delete on condition. Partitions are many files: while they are moved, ``_moving.json``
lies in the table's folder, and neither readers nor loads take part of a table for the whole (see `layout`). It is
written first and deleted last, names the stamp, and is the claimed file of the move (see `claim`): a move that was cut
short is completed, or turned round, by the next one, and an earlier one that wakes up changes nothing more.

An archiving copies all files before it deletes the first. One whose file changes after it was copied puts back what
it has deleted. A restoring creates files, and writes those that are there already anew with the same bytes: an
archiving that was suspended can delete none of them, since it has their old versions.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from luxor_pipelines.errors import ConflictError, NotFoundError, TableNotFoundError, UsageError
from luxor_pipelines.lake.parquet.file import to_bytes
from luxor_pipelines.lake.storage.base import BlobInfo, Storage
from luxor_pipelines.lake.table.claim import Claim
from luxor_pipelines.lake.table.layout import BIRTH, PLACEHOLDER, LayoutRecord, Part, Snapshot
from luxor_pipelines.lake.table.optimize import find_leftovers
from luxor_pipelines.lake.table.table import Table

__all__ = ["ARCHIVE", "Move", "Only", "archive", "layouts", "restore", "stamps"]

logger = logging.getLogger(__name__)

ARCHIVE = "archive"

Only = Literal["file", "partitions"]


@dataclass(frozen=True)
class Move:
    """A move that was done: the table, the folder in the archive, and the paths of the files there."""

    table: str
    folder: str
    paths: tuple[str, ...]


def layouts(table: Table) -> dict[Only, Snapshot]:
    """Return the table's single file, its partitions, or both, whichever of them is read.

    Files of another program count as partitions where there are none of ours.

    Raises
    ------
    TableNotFoundError
        Nothing at all lies there under the table's name.
    """
    snapshots: dict[Only, Snapshot] = {}
    single, files = table.storage.stat(table.path("file")), table.files()
    if single is None and not files:
        raise table.not_found()
    if single is not None:
        snapshots["file"] = Snapshot("file", (Part("", single),))
    parts = table.partitions(files)
    if not any(parts.values()):
        parts["folder"] = [Part(table.below(info.path), info) for info in files if table.is_foreign_data(info)]
    if any(parts.values()):
        layout = max(parts, key=lambda kind: len(parts[kind]))
        snapshots["partitions"] = Snapshot(layout, tuple(part for kind in parts.values() for part in kind))
    return snapshots


def stamps(table: Table) -> dict[str, list[BlobInfo]]:
    """Return the table's files in the archive by stamp, the oldest stamp first."""
    copies: defaultdict[str, list[BlobInfo]] = defaultdict(list)
    for info in table.storage.list(ARCHIVE):
        _, stamp, path = [*info.path.split("/", 2), "", ""][:3]
        if path == table.path("file") or path.startswith((f"{table.folder}/", f"{table.path('file')}/")):
            copies[stamp].append(info)
    return {stamp: copies[stamp] for stamp in sorted(copies, key=_order)}


def _order(stamp: str) -> tuple[str, int, str]:
    """Return what stamps are sorted by: of those of one second ``-10`` comes after ``-9``."""
    second, _, number = stamp.partition("-")
    return second, int(number) if number.isdecimal() else 1, stamp


# --- to the archive ---------------------------------------------------------------------------


def archive(table: Table, now: datetime, only: Only | None = None) -> Move:
    """Move a table to the archive, or complete such a move; nothing of it is left, and a new one can be made.

    Parameters
    ----------
    now
        Gives the stamp, the name of the folder in the archive.
    only
        Move only the single file, or only the partitions, where both lie there.

    Raises
    ------
    TableNotFoundError
    UsageError
        There is no such layout to move; or the partitions are what an unfinished conversion of the file has left.
    ConflictError
        A file changed meanwhile. All is as it was; try again.
    """
    storage = table.storage
    single, in_folder = storage.stat(table.path("file")), table.files()
    if single is None and not in_folder:
        raise table.not_found()
    moving = next((info for info in in_folder if info.path == table.moving_path), None)
    partitions = any(table.recognise(info.path) or table.is_foreign_data(info) for info in in_folder)
    if moving is None and only is not None and (single is None or not partitions):
        # Whoever says which of two to move has seen both; what is left alone by now is the table.
        lies = "has no single file" if single is None else "has no partitions"
        raise UsageError(f"Table {table.name} {lies}.", hint="Leave --only out to move the table.")
    if moving is None and only == "file":
        return _archive_file(table, single, _new_stamp(table, now))
    if moving is None and all(info.path == table.record_path for info in in_folder):
        return _archive_file(table, single, _new_stamp(table, now), with_record=True)
    return _archive_folder(table, moving, only, now)


def _archive_file(table: Table, single: BlobInfo | None, stamp: str, *, with_record: bool = False) -> Move:
    """Move the single file; ``with_record`` if nothing but it and the record is there."""
    storage, path = table.storage, table.path("file")
    folder = f"{ARCHIVE}/{stamp}"
    if single is None:
        # A layout was agreed on, and nothing was written since.
        storage.delete(table.record_path, expected=storage.read(table.record_path).version)
        return Move(table.name, folder, ())
    try:
        stored = storage.read(path)
    except NotFoundError as error:
        raise storage.conflict(path) from error
    claim = Claim.take(storage, path, stored.data, expected=stored.version)  # no conversion goes on after that
    listing = {info.path: info for info in table.files()}
    claim.check()
    leftovers, _ = find_leftovers(table, stored.data, listing.values())
    if with_record and any(other != table.record_path for other in listing):
        raise storage.conflict(table.folder)
    if leftovers:
        raise UsageError(
            f"The partitions of table {table.name} are what an unfinished conversion of its file has left, and not all "
            "of the table.",
            hint=f"Complete it with `luxor optimize {table.name} --layout month` (or year), or move all of it.",
        )
    contents = {path: stored.data}
    if with_record and table.record_path in listing:
        record = table.record()
        if record is None:
            raise storage.conflict(table.record_path)
        contents[table.record_path] = record.encode()
    copied = _copy(storage, stamp, contents)
    try:
        claim.release()
    except ConflictError:
        _take_back(storage, copied)
        raise
    if table.record_path in contents:
        with suppress(ConflictError):  # a new table is being agreed on
            storage.delete(table.record_path, expected=listing[table.record_path].version)
    return Move(table.name, folder, tuple(copied))


def _archive_folder(table: Table, moving: BlobInfo | None, only: Only | None, now: datetime) -> Move:
    """Move the files of the table's folder, and its single file, under a claim on ``_moving.json``."""
    storage, single_path = table.storage, table.path("file")
    stamp = None
    if moving is not None:
        stamp, only = _read_moving(table, moving, only)
    stamp = stamp or _new_stamp(table, now)
    claim = _claim_folder(table, moving, stamp, only, now)
    copied: dict[str, str] = {}
    removed: list[str] = []
    try:
        single = storage.stat(single_path)
        claims = [claim]
        if single is not None:  # no conversion goes on after that
            stored = storage.read(single_path)
            claims.append(Claim.take(storage, single_path, stored.data, expected=stored.version))
        elif only == "partitions":
            raise storage.conflict(single_path)  # by now they are the table
        listing = {info.path: info for info in _all_files(table) if info.path != table.moving_path}
        for taken in claims:
            taken.check()
        if only == "partitions":
            listing.pop(single_path, None)
        for path, info in listing.items():
            blob = storage.read(path)
            if blob.version != info.version:
                raise storage.conflict(path)
            if not _is_unfilled(blob.data):
                copied |= _copy(storage, stamp, {path: blob.data})
        # The single file is the table while it is there, and goes last; a new table's record must not be met before.
        for path in sorted(listing, key=lambda path: (path == table.record_path, path == single_path, path)):
            storage.delete(path, expected=listing[path].version)
            removed.append(path)
        if {info.path for info in table.files()} - {table.moving_path}:
            raise storage.conflict(table.folder)
    except (ConflictError, NotFoundError) as error:
        if removed:
            _fill(
                table, claim, {path: _copy_path(stamp, path) for path in removed if _copy_path(stamp, path) in copied}
            )
        else:
            _take_back(storage, copied)
        claim.release()
        raise ConflictError(
            f"Table {table.name} was changed while it was being moved; all of it is where it was.",
            hint="See that no run is under way, then archive the table again.",
        ) from error
    claim.release()
    return Move(table.name, f"{ARCHIVE}/{stamp}", tuple(info.path for info in stamps(table).get(stamp, ())))


def _copy(storage: Storage, stamp: str, contents: Mapping[str, bytes]) -> dict[str, str]:
    """Write files into the archive; return the versions of the copies by path.

    A copy that is there already is written anew: whoever wrote it may be about to take it back.
    """
    versions = {}
    for path, data in contents.items():
        copy = _copy_path(stamp, path)
        info = storage.stat(copy)
        versions[copy] = storage.write(copy, data, expected=None if info is None else info.version)
    return versions


def _take_back(storage: Storage, copied: Mapping[str, str]) -> None:
    """Delete copies that a move made and does not need."""
    for path, version in copied.items():
        with suppress(ConflictError):
            storage.delete(path, expected=version)


# --- and back ---------------------------------------------------------------------------------


def restore(table: Table, now: datetime, stamp: str | None = None) -> Move:
    """Put a table back from the archive, or complete such a move; its copy stays in the archive.

    Parameters
    ----------
    stamp
        The folder in the archive; default the one of a move that was cut short, else the newest.

    Raises
    ------
    TableNotFoundError
        The archive has no such table, or not of that stamp.
    UsageError
        There is a table of that name, in any layout.
    ConflictError
        The table was created or moved by others meanwhile.
    """
    storage = table.storage
    moving = storage.stat(table.moving_path)
    if moving is None:
        _clear(table)
    copies = stamps(table)
    cut_short = _read_moving(table, moving, None)[0] if moving is not None else None
    stamp = stamp or cut_short or next(reversed(copies), "")
    if stamp not in copies and stamp != cut_short:  # of a move that has only begun there may be no copy yet
        of_stamp = f" of {stamp}; it has those of {', '.join(copies)}" if copies else ""
        raise TableNotFoundError(
            f"The archive of {storage.url} has no table {table.name}{of_stamp}.",
            hint=f"`luxor restore {table.name} --from STAMP` takes one." if copies else "Check the name.",
        )
    files = {info.path.split("/", 2)[2]: info.path for info in copies.get(stamp, ())}
    claim = _claim_folder(table, moving, stamp, None, now)
    if moving is None and {info.path for info in _all_files(table)} - {*files, table.record_path, table.moving_path}:
        claim.release()
        raise _made_meanwhile(table)
    try:
        owned = _is_ours(table, copies.get(stamp, ()))
        _fill(table, claim, files, only_these=moving is None, needs_record=owned)
        claim.release()
    except (ConflictError, NotFoundError) as error:
        raise _made_meanwhile(table) from error
    return Move(table.name, f"{ARCHIVE}/{stamp}", tuple(files))


def _is_ours(table: Table, copies: Iterable[BlobInfo]) -> bool:
    """Return whether copies in the archive are those of a single file or of partitions of ours."""
    by_path = {info.path.split("/", 2)[2]: info for info in copies}
    partitions = [Part(path, info) for path, info in sorted(by_path.items()) if table.recognise(path)]
    if table.path("file") in by_path or not partitions:
        return table.path("file") in by_path
    return table.record_path in by_path or not table.is_of_another_program(partitions[-1])


def _clear(table: Table) -> None:
    """Delete what overtaken moves and conversions have left without rows.

    Raises
    ------
    UsageError
        There are other files: a table.
    """
    files = [info for info in _all_files(table) if info.path != table.record_path]
    for info in files:
        if not table.is_unfilled(info):
            raise UsageError(
                f"There is a table {table.name} in {table.storage.url}/{table.directory} ({info.path}).",
                hint=f"`luxor archive {table.name}` moves it aside first.",
            )
    for info in files:
        with suppress(ConflictError):
            table.storage.delete(info.path, expected=info.version)


def _fill(
    table: Table, claim: Claim, copies: Mapping[str, str], *, only_these: bool = False, needs_record: bool = False
) -> None:
    """Create files from their copies, under the claim of a move, and give all others of the table a new version.

    So whoever was about to delete one of them, on condition of the version it had, does not. A file that is there
    already keeps its content; the layout's record gets that of its copy, if there is one.

    Parameters
    ----------
    copies
        The path of each file's copy.
    only_these
        Whether another file is a conflict, and a record that has no copy is nobody's.
    needs_record
        Whether a record is made where there is neither one nor a copy.

    Raises
    ------
    ConflictError
        Another move has taken over, or a load is making a new table.
    """
    storage = table.storage

    def read(path: str) -> bytes:
        try:
            return storage.read(path).data
        except NotFoundError as error:  # another move has taken over
            raise storage.conflict(path) from error

    def copy(path: str) -> bytes:
        return read(copies[path])

    def content(path: str) -> bytes:
        if path == table.record_path and record is not None:
            return record
        present = read(path)
        return copy(path) if path in copies and (not present or _is_unfilled(present)) else present

    paths = {*copies} - {table.record_path}
    listing = claim.prepare(lambda: _all_files(table), paths, lambda path: _empty(path, copy(path)))
    if only_these and listing.keys() - paths - {table.record_path, table.moving_path}:
        raise storage.conflict(table.folder)
    record = copy(table.record_path) if table.record_path in copies else None
    if record is None and needs_record and (only_these or table.record_path not in listing):
        record = _record_of(table, [*paths, *listing]).encode()
    created = None
    if record is not None and table.record_path not in listing:
        created = storage.write(table.record_path, record, expected=None)
    try:
        claim.write([path for path in listing if path != table.moving_path], content, listing)
    except (ConflictError, NotFoundError):
        # The record that was written belongs to no table, and the next new table would take its layout from it. Where
        # a table has begun with that layout already, the record stays.
        alone = not {info.path for info in table.files()} - {table.record_path, table.moving_path}
        if created is not None and alone:
            with suppress(ConflictError):
                storage.delete(table.record_path, expected=created)
        raise


def _made_meanwhile(table: Table) -> ConflictError:
    return ConflictError(
        f"Table {table.name} was created or moved by others while it was being restored.",
        hint=f"See who is at it; then `luxor restore {table.name}` again, or `luxor archive {table.name}`.",
    )


def _record_of(table: Table, files: Iterable[str]) -> LayoutRecord:
    """Return the record of a table that was archived without one."""
    kinds = [kind[0] for path in files if (kind := table.recognise(path)) is not None]
    single = table.path("file") in files
    return LayoutRecord("file" if single or not kinds else kinds[0], "Date")


# --- what both need ---------------------------------------------------------------------------


def _all_files(table: Table) -> list[BlobInfo]:
    """Return all files of the table: those in its folders, and its single file."""
    single = table.storage.stat(table.path("file"))
    return [*table.files(), *([single] if single else [])]


def _claim_folder(table: Table, moving: BlobInfo | None, stamp: str, only: Only | None, now: datetime) -> Claim:
    content = {"stamp": stamp, "only": only, "at": now.astimezone(UTC).isoformat(timespec="seconds")}
    version = moving.version if moving is not None else None
    return Claim.take(table.storage, table.moving_path, json.dumps(content).encode(), expected=version)


def _read_moving(table: Table, moving: BlobInfo, only: Only | None) -> tuple[str | None, Only | None]:
    """Return the stamp of a move that was cut short, None if it is not known, and what was to be moved."""
    try:
        blob = table.storage.read(moving.path)
    except NotFoundError as error:
        raise table.storage.conflict(moving.path) from error
    try:
        content = json.loads(blob.data)
        stamp, before = content["stamp"], content["only"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None, only
    return (stamp if isinstance(stamp, str) else None), (before if before in ("file", "partitions") else None)


def _new_stamp(table: Table, now: datetime) -> str:
    """Return a stamp under which the archive has no files of the table yet."""
    stamp, used = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}", stamps(table)
    names = (stamp, *(f"{stamp}-{number}" for number in range(2, 1000)))
    return next(name for name in names if name not in used)


def _copy_path(stamp: str, path: str) -> str:
    return f"{ARCHIVE}/{stamp}/{path}"


def _empty(path: str, data: bytes) -> bytes:
    """Return the content of a file before it gets its rows: its columns, marked as a placeholder.

    It gets a `BIRTH` of its own, so that one which is created too late is never a table's single file.
    """
    if not path.endswith(".parquet"):
        return b""
    try:
        schema = pq.read_schema(BytesIO(data))
    except (pa.ArrowException, OSError, ValueError):
        return b""
    metadata = {**(schema.metadata or {}), PLACEHOLDER: b"", BIRTH: uuid.uuid4().hex.encode()}
    return to_bytes(schema.with_metadata(metadata).empty_table())


def _is_unfilled(data: bytes) -> bool:
    try:
        return PLACEHOLDER in (pq.read_schema(BytesIO(data)).metadata or {})
    except (pa.ArrowException, OSError, ValueError):
        return False
