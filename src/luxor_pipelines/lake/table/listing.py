"""Listings: the tables that a folder of the lake has, and several tables looked up with one look at the folder."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from luxor_pipelines.errors import (
    AccessError,
    ConflictError,
    CorruptFileError,
    InvalidNameError,
    LakeError,
    SchemaError,
    UnreachableError,
)
from luxor_pipelines.lake.concurrency import at_once
from luxor_pipelines.lake.storage.base import BlobInfo, Storage, Unusable, check_path
from luxor_pipelines.lake.table.foreign import format_of, is_data
from luxor_pipelines.lake.table.layout import DIRECTORY, LAYOUT_FILE, Part, Snapshot, recognise, table_name
from luxor_pipelines.lake.table.table import Table

__all__ = ["find_all", "list_tables"]

logger = logging.getLogger(__name__)


def find_all(storage: Storage, names: Sequence[str], directory: str = DIRECTORY) -> dict[str, Snapshot | None]:
    """Return the snapshots of several tables, None for none, with one look at the folder for those in one file.

    A table that cannot be told, such as one that is being moved, is left out; the error comes when it is asked for
    by itself.
    """
    listing = storage.folder(directory, unusable=[])
    files = {info.path.rpartition("/")[2]: info for info in listing.files}
    folders = frozenset(listing.folders)
    snapshots: dict[str, Snapshot | None] = {}
    unseen = []
    for name in names:
        single = files.get(f"{name}.parquet")
        if single is not None and single.size and name not in folders:
            snapshots[name] = Snapshot("file", (Part("", single),))
        elif (
            single is not None
            or not folders.isdisjoint({name, f"{name}.parquet"})
            or _was_missed(storage, f"{directory}/{name}.parquet")
        ):
            unseen.append(Table(storage, name, directory))
        else:
            snapshots[name] = None

    def find(table: Table) -> dict[str, Snapshot | None]:
        namesake = f"{table.name}.parquet" in folders
        partitions_only = (namesake or table.name in folders) and f"{table.name}.parquet" not in files
        try:
            return {table.name: table.find_partitions(namesake=namesake) if partitions_only else table.find()}
        except (AccessError, UnreachableError):
            raise
        except (SchemaError, LakeError):
            return {}

    for snapshot in at_once(storage, unseen, find):
        snapshots |= snapshot
    return snapshots


def _was_missed(storage: Storage, path: str) -> bool:
    """Return whether a file exists that a listing did not show, as on a disk while it is being replaced."""
    return not storage.concurrent and storage.stat(path) is not None


def list_tables(storage: Storage, directory: str = DIRECTORY, *, unusable: list[Unusable] | None = None) -> list[str]:
    """Return the names of the tables directly in ``directory``, of any layout, sorted.

    Folders of other programs are named too, those in formats that are not read included. Parquet files whose names are
    no table's are named in a warning, or added to ``unusable`` if it is given; see `Storage.list`. A warning also
    names the tables of which a single file hides partitions.
    """
    entries: list[Unusable] = []
    names = _names(storage.list(directory, unusable=entries if unusable is not None else None), directory)
    refused = [Unusable(path, reason) for name, path in names.paths.items() if (reason := _refusal(name))]
    if unusable is not None:
        unusable += [*entries, *refused]
    else:
        for path, reason in refused:
            logger.warning("%s in %s is passed over: %s.", path, storage.url, reason)
    tables = []
    for name in sorted(name for name in names.paths if not _refusal(name)):
        table = Table(storage, name, directory)
        # Partitions that nobody agreed on may be placeholders, and a folder may be one of tables.
        if name in names.singles or name in names.partitioned & names.recorded or _is_there(table):
            tables.append(name)
        if name in names.singles & names.partitioned and unusable is None:
            _warn_of_shadow(table)
    return tables


class _Names(NamedTuple):
    """The names in a folder that may be tables', by what lies there under each: a single file, partitions, a record."""

    paths: dict[str, str]
    """The first file or folder of each name; a name with nothing but a record is not among them."""
    singles: set[str]
    partitioned: set[str]
    recorded: set[str]


def _names(files: Iterable[BlobInfo], directory: str) -> _Names:
    """Return the names that may be tables', from the files in a folder and the folders in it."""
    names = _Names({}, set(), set(), set())
    for info in files:
        folder, _, inner = info.path[len(check_path(directory)) + 1 :].partition("/")
        name = folder.removesuffix(".parquet")
        if not inner and name != folder:
            names.singles.add(name)
            names.paths.setdefault(name, info.path)
        elif inner == LAYOUT_FILE:
            names.recorded.add(name)
        elif inner and info.size:
            if recognise(inner) is not None:
                names.partitioned.add(name)
            if recognise(inner) or is_data(inner, any_name=name != folder) or format_of([inner]):
                names.paths.setdefault(name, info.path.removesuffix(f"/{inner}"))
    return names


def _refusal(name: str) -> str:
    """Return the reason why a name that was listed is no table's; blank where it is one."""
    try:
        plain = table_name(name)
    except InvalidNameError:
        return "tables do not have such names; rename it"
    return "" if plain == name else f"nobody can ask for it by this name; rename it to {plain}"


def _is_there(table: Table) -> bool:
    """Return whether there is such a table, one that cannot be read included."""
    try:
        return table.find() is not None
    except (AccessError, UnreachableError):
        raise
    except (SchemaError, LakeError):
        return True


def _warn_of_shadow(table: Table) -> None:
    with suppress(SchemaError, CorruptFileError, ConflictError):  # they are raised when the table is read
        if shadow := table.shadow():
            logger.warning("%s", shadow)
