"""What has been read, kept by version: the same question twice is answered from memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any, TypeVar, cast

import pyarrow as pa

from luxor_pipelines.lake.parquet.file import Footers
from luxor_pipelines.lake.parquet.footer import TAIL
from luxor_pipelines.lake.parquet.predicates import Where
from luxor_pipelines.lake.storage.base import Storage, VersionChangedError, check_path
from luxor_pipelines.lake.table.table import Snapshot, Table, at_once, find_all, table_name
from luxor_pipelines.lake.types.legacy import is_text

__all__ = ["TableCache"]

S = TypeVar("S")
T = TypeVar("T")
_Place = tuple[str, str]
"""Directory and name of a table."""
_DECODED = 32
"""Bytes of memory that a row of a legacy price file takes: two numbers of words, and a number as it is written."""


class TableCache:
    """Reads tables of a lake and remembers the answers.

    A table is looked at once and then served as it was, so that everything computed from it
    agrees, until `forget` or `update`. What is handed out are Arrow tables, which nobody can change.
    """

    def __init__(self, storage: Storage, max_bytes: int) -> None:
        self._storage = storage
        self._max_bytes = max_bytes
        self._bytes = 0
        self._snapshots: dict[_Place, Snapshot | None] = {}
        self._answers: OrderedDict[tuple[Any, ...], pa.Table] = OrderedDict()
        self._derived: dict[_Place, dict[str, Any]] = {}
        self._footers: dict[_Place, Footers] = {}
        self._lock = Lock()

    def _table(self, name: str, directory: str) -> tuple[Table, _Place]:
        place = _place(name, directory)
        return Table(self._storage, name, directory, footers=self._footers.setdefault(place, {})), place

    def snapshot(self, name: str, directory: str) -> Snapshot | None:
        """The versions the table is served from; None when there is no such table."""
        place = _place(name, directory)
        if place not in self._snapshots:
            self._snapshots[place] = self._table(name, directory)[0].find()
        return self._snapshots[place]

    def look(self, names: Iterable[str], directory: str) -> None:
        """Look, in one go, at those of some tables that have not been looked at."""
        new = [place for name in names if (place := _place(name, directory)) not in self._snapshots]
        if new:
            found = find_all(self._storage, [name for _, name in new], new[0][0])
            self._snapshots |= {place: found[place[1]] for place in new if place[1] in found}
            single = [known.parts[0].info for known in found.values() if known is not None and known.layout == "file"]
            self._storage.fetch_ends(single, TAIL)  # where their footers are

    def schema(self, name: str, directory: str) -> pa.Schema:
        """The columns as the table's files store them.

        Raises
        ------
        TableNotFoundError
        """

        def read() -> pa.Schema:
            return self._table(name, directory)[0].schema(self.snapshot(name, directory))

        return self.derive(name, directory, "schema", read)

    def ends(self, name: str, directory: str, column: str) -> pa.Table | None:
        """As `Table.ends`, of the versions the table is served from; None, too, where there is no such table."""
        table, _ = self._table(name, directory)
        snapshot = self.snapshot(name, directory)
        return None if snapshot is None else self.derive(name, directory, "ends", lambda: table.ends(snapshot, column))

    def scan(
        self,
        name: str,
        directory: str,
        columns: Sequence[str] | None = None,
        where: Sequence[Where] = (),
        *,
        keep: bool = True,
        more: bool = False,
        **options: Any,
    ) -> pa.Table:
        """As `Table.scan`, from memory where the same was asked before; not to ``keep`` spares the memory.

        Where ``more`` is going to be asked of the same columns, and the table is `without_order`, they are kept whole.

        Raises
        ------
        TableNotFoundError
        """
        table, place = self._table(name, directory)
        question = (*place, None if columns is None else tuple(columns), tuple(where), _hashable(options))
        with self._lock:
            if question in self._answers:
                self._answers.move_to_end(question)
                return self._answers[question]
        snapshot = self.snapshot(name, directory)
        if snapshot is None:
            # Looked for before and not there; it may have been made since.
            self._snapshots[place] = snapshot = table.snapshot()
        if more and columns is not None and where and self.without_order(name, directory):
            tested = {condition.column for condition in where}
            words = tuple(sorted({*tested, *options.get("dictionary", ())}))
            rows = self.scan(name, directory, tuple(sorted({*columns, *tested})), dictionary=words, raw=True)
            data = table.narrow(rows, columns, where, **options)
        else:
            data, found = table.scan(columns, where, snapshot=snapshot, **options)
            if found != snapshot:
                self.forget(name, directory)
                self._snapshots[place] = found
        if keep:
            with self._lock:
                known = self._answers.pop(question, None)
                self._bytes += data.nbytes - (0 if known is None else known.nbytes)
                self._answers[question] = data
                while len(self._answers) > 1 and self._bytes > self._max_bytes:
                    self._bytes -= self._answers.popitem(last=False)[1].nbytes
        return data

    def each(self, things: Sequence[S], work: Callable[[S], T]) -> list[T]:
        """``work`` of each, which asks about a table of its own: several at once where that is quicker."""
        return at_once(self._storage, things, work)

    def without_order(self, name: str, directory: str) -> bool:
        """Whether for any answer the whole table is decoded, as one legacy file is, and there is room to keep it."""
        snapshot = self.snapshot(name, directory)
        if snapshot is None or snapshot.layout != "file" or not is_text(self.schema(name, directory)):
            return False
        part = snapshot.parts[0]
        try:
            rows = self.derive(name, directory, "rows", lambda: self._table(name, directory)[0].stored(part).rows)
        except VersionChangedError:  # as what reads it next will find
            return False
        return _DECODED * rows < self._max_bytes

    def derive(self, name: str, directory: str, what: str, make: Callable[[], T]) -> T:
        """``make()``, kept as long as the table's version: what is worked out of the whole table.

        Hand out only what nobody can change.
        """
        place = _place(name, directory)
        if what not in self._derived.get(place, {}):
            made = make()  # which may find the table changed, and forget what was derived of the old one
            self._derived.setdefault(place, {})[what] = made
        return cast("T", self._derived[place][what])

    def forget(self, name: str, directory: str) -> None:
        """Look at the table afresh when it is next asked for."""
        place = _place(name, directory)
        self._snapshots.pop(place, None)
        self._derived.pop(place, None)
        self._footers.pop(place, None)
        with self._lock:
            for question in [question for question in self._answers if question[:2] == place]:
                self._bytes -= self._answers.pop(question).nbytes

    def update(self) -> list[str]:
        """Forget every table that has changed in the lake, and name those."""
        changed = []
        for directory in {directory for directory, _ in self._snapshots}:
            names = [name for known, name in self._snapshots if known == directory]
            for name, found in find_all(self._storage, names, directory).items():
                if found != self._snapshots[directory, name]:
                    self.forget(name, directory)
                    changed.append(name)
        return sorted(changed)

    def versions(self) -> dict[str, str]:
        """The version of each table that has been looked at."""
        return {name: known.version for (_, name), known in sorted(self._snapshots.items()) if known is not None}


def _place(name: Any, directory: Any) -> _Place:
    if isinstance(name, str) and isinstance(directory, str):
        return _plain(name, directory)
    return check_path(directory), table_name(name)  # one of which says what is wrong


@lru_cache(1024)
def _plain(name: str, directory: str) -> _Place:
    return check_path(directory), table_name(name)


def _hashable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple(sorted((key, _hashable(each)) for key, each in value.items()))
    if isinstance(value, set | frozenset):
        return frozenset(value)
    if isinstance(value, list | tuple):
        return tuple(_hashable(each) for each in value)
    return value
