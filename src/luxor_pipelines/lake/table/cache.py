"""Answers read from tables, kept by version: the same question twice is answered from memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any, TypeVar

import pyarrow as pa

from luxor_pipelines.lake.parquet.file import Footers
from luxor_pipelines.lake.parquet.footer import TAIL
from luxor_pipelines.lake.parquet.predicates import Where
from luxor_pipelines.lake.storage.base import Storage, VersionChangedError, check_path
from luxor_pipelines.lake.table.table import Snapshot, Table, at_once, find_all, table_name
from luxor_pipelines.lake.types.codec import Codec
from luxor_pipelines.lake.types.schema import Conventions

__all__ = ["TableCache"]

S = TypeVar("S")
T = TypeVar("T")
_Place = tuple[str, str]
"""Directory and name of a table."""
_DECODED = 32
"""Bytes of memory that a row of a legacy price file takes: two numbers of words, and a number as it is written."""


class _Entry:
    """One look at a table, and all that was read or worked out since.

    A change of the table is a new entry. Threads that still work with the old one write into the old one, where
    nobody looks again: so an answer is never older than the entry it is kept in.
    """

    def __init__(self) -> None:
        self.looked = False
        self.snapshot: Snapshot | None = None
        self.footers: Footers = {}
        self.derived: dict[str, Any] = {}


_Question = tuple[_Entry, Any, Any, Any]
"""The entry, columns, conditions and options that an answer is for."""


class TableCache:
    """Reads tables of a lake and remembers the answers; may be shared by threads.

    A table is looked at once and then served as it was, so that everything computed from it agrees, until `forget`
    or `update`. A question that begins after either has returned is answered from a look that began after it was
    called. Answers are Arrow tables, which nobody can change.
    """

    def __init__(self, storage: Storage, max_bytes: int, conventions: Conventions | None = None) -> None:
        self._storage = storage
        self._conventions = conventions
        self._max_bytes = max_bytes
        self._lock = Lock()  # held for the steps below only, never while the lake is read
        self._entries: dict[_Place, _Entry] = {}
        self._answers: OrderedDict[_Question, pa.Table] = OrderedDict()
        self._bytes = 0

    def snapshot(self, name: str, directory: str) -> Snapshot | None:
        """The versions the table is served from; None when there is no such table."""
        return self._looked(name, directory)[1].snapshot

    def look(self, names: Iterable[str], directory: str) -> None:
        """Look, in one go, at those of some tables that have not been looked at."""
        places = [_place(name, directory) for name in names]
        entries = {place[1]: self._entry(place) for place in places}
        new = [name for name, entry in entries.items() if not entry.looked]
        if new:
            snapshots = find_all(self._storage, new, places[0][0])
            for name, snapshot in snapshots.items():
                self._set_snapshot(entries[name], snapshot)
            single = [s.parts[0].info for s in snapshots.values() if s is not None and s.layout == "file"]
            self._storage.fetch_ends(single, TAIL)  # where their footers are

    def codec(self, name: str, directory: str, overrides: Mapping[str, Any] | None = None) -> Codec:
        """As `Table.codec`, of the versions the table is served from.

        Raises
        ------
        TableNotFoundError
        """

        def read() -> Codec:
            table, entry = self._looked(name, directory)
            return table.codec(entry.snapshot, overrides)

        return self.derive(name, directory, f"codec for {_hashable(overrides or {})}", read)

    def ends(self, name: str, directory: str, column: str) -> pa.Table | None:
        """As `Table.ends`, of the versions the table is served from; None, too, where there is no such table."""
        table, entry = self._looked(name, directory)
        snapshot = entry.snapshot
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
        table, entry = self._looked(name, directory)
        asked = (None if columns is None else tuple(columns), tuple(where), _hashable(options))
        with self._lock:
            if (entry, *asked) in self._answers:
                self._answers.move_to_end((entry, *asked))
                return self._answers[entry, *asked]
        if entry.snapshot is None:  # looked for before and not there; it may have been made since
            entry = self._replace(name, directory, entry, table.snapshot())
        if more and columns is not None and where and self.without_order(name, directory):
            tested = {condition.column for condition in where}
            words = tuple(sorted({*tested, *options.get("dictionary", ())}))
            rows = self.scan(name, directory, tuple(sorted({*columns, *tested})), dictionary=words, raw=True)
            data = table.narrow(rows, columns, where, **options)
        else:
            data, snapshot = table.scan(columns, where, snapshot=entry.snapshot, **options)
            if snapshot != entry.snapshot:
                entry = self._replace(name, directory, entry, snapshot)
        if keep:
            self._keep(_place(name, directory), (entry, *asked), data)
        return data

    def each(self, things: Sequence[S], work: Callable[[S], T]) -> list[T]:
        """``work`` of each, which asks about a table of its own: several at once where that is quicker."""
        return at_once(self._storage, things, work)

    def without_order(self, name: str, directory: str) -> bool:
        """Whether for any answer the whole table is decoded, as one legacy file is, and there is room to keep it."""
        snapshot = self.snapshot(name, directory)
        if snapshot is None or snapshot.layout != "file" or not self.codec(name, directory).legacy:
            return False
        part = snapshot.parts[0]
        try:
            rows = self.derive(name, directory, "rows", lambda: self._looked(name, directory)[0].stored(part).rows)
        except VersionChangedError:  # as what reads it next will find
            return False
        return _DECODED * rows < self._max_bytes

    def derive(self, name: str, directory: str, what: str, make: Callable[[], T]) -> T:
        """``make()``, kept as long as the table's version: what is worked out of the whole table.

        Threads that ask at the same time may each make it; the first one made is kept. Hand out only what nobody can
        change.
        """
        derived = self._entry(_place(name, directory)).derived
        try:
            value: T = derived[what]
        except KeyError:
            value = derived.setdefault(what, make())
        return value

    def forget(self, name: str, directory: str) -> None:
        """Look at the table afresh when it is next asked for."""
        place = _place(name, directory)
        with self._lock:
            self._drop(place)

    def update(self) -> list[str]:
        """Forget every table that has changed in the lake, and name those."""
        with self._lock:
            entries = dict(self._entries)
            for place, entry in entries.items():
                if not entry.looked:  # a look that is under way may have begun before the change
                    self._drop(place)
        looked = {place: entry for place, entry in entries.items() if entry.looked}
        changed = []
        for directory in {directory for directory, _ in looked}:
            names = [name for place, name in looked if place == directory]
            snapshots = find_all(self._storage, names, directory)
            for name in names:
                entry = looked[directory, name]
                if name in snapshots and snapshots[name] == entry.snapshot:
                    continue
                changed.append(name)
                with self._lock:
                    if self._entries.get((directory, name)) is entry:
                        self._drop((directory, name))
        return sorted(changed)

    def versions(self) -> dict[str, str]:
        """The version of each table that has been looked at."""
        with self._lock:
            snapshots = {name: entry.snapshot for (_, name), entry in sorted(self._entries.items(), key=_by_place)}
        return {name: snapshot.version for name, snapshot in snapshots.items() if snapshot is not None}

    # --- entries ----------------------------------------------------------------------------

    def _entry(self, place: _Place) -> _Entry:
        with self._lock:
            return self._entries.setdefault(place, _Entry())

    def _looked(self, name: str, directory: str) -> tuple[Table, _Entry]:
        """The table and its entry, which has its snapshot.

        The entry is there before the look begins: who forgets the table meanwhile forgets this look, too.
        """
        entry = self._entry(_place(name, directory))
        table = Table(self._storage, name, directory, conventions=self._conventions, footers=entry.footers)
        if not entry.looked:
            self._set_snapshot(entry, table.find())
        return table, entry

    def _set_snapshot(self, entry: _Entry, snapshot: Snapshot | None) -> None:
        with self._lock:
            if not entry.looked:  # else another thread has looked first, and may have read by now
                entry.snapshot, entry.looked = snapshot, True

    def _replace(self, name: str, directory: str, entry: _Entry, snapshot: Snapshot) -> _Entry:
        """The entry of a version that a reader came upon; in place of ``entry`` if that still is the table's."""
        place, new = _place(name, directory), _Entry()
        new.snapshot, new.looked = snapshot, True
        with self._lock:
            if self._entries.get(place) is entry:
                self._drop(place)
                self._entries[place] = new
        return new

    def _keep(self, place: _Place, question: _Question, data: pa.Table) -> None:
        with self._lock:
            if self._entries.get(place) is not question[0]:
                return  # the table has been forgotten or replaced since the question was asked
            known = self._answers.pop(question, None)
            self._bytes += data.nbytes - (0 if known is None else known.nbytes)
            self._answers[question] = data
            while len(self._answers) > 1 and self._bytes > self._max_bytes:
                self._bytes -= self._answers.popitem(last=False)[1].nbytes

    def _drop(self, place: _Place) -> None:
        """Forget the table's entry and its answers; the lock is held."""
        entry = self._entries.pop(place, None)
        for question in [question for question in self._answers if question[0] is entry]:
            self._bytes -= self._answers.pop(question).nbytes


def _by_place(item: tuple[_Place, _Entry]) -> _Place:
    return item[0]


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
