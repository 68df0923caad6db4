"""A cache of what was read from tables, by version: a question that is asked again is answered from memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from datetime import date
from functools import lru_cache
from threading import Lock
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.errors import SchemaError
from luxor_pipelines.lake.parquet.file import Footers
from luxor_pipelines.lake.parquet.footer import TAIL
from luxor_pipelines.lake.parquet.predicates import Where
from luxor_pipelines.lake.storage.base import Storage, VersionChangedError, check_path
from luxor_pipelines.lake.table.layout import Snapshot, bounds, table_name
from luxor_pipelines.lake.table.listing import find_all
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.lake.types.codec import Codec
from luxor_pipelines.lake.types.schema import Conventions

__all__ = ["TableCache"]

T = TypeVar("T")
_DECODED = 32
"""Bytes of memory that a row of a legacy price file takes: two numbers of words, and a number as it is written."""


class _Entry:
    """One look at a table, with its footers and all that was derived from it since.

    When the table changes, it gets a new entry. Threads that still work with the old entry write into that one, which
    nobody looks up again: so an answer is never older than the entry it is kept in.
    """

    def __init__(self) -> None:
        self.looked = False
        self.snapshot: Snapshot | None = None
        self.footers: Footers = {}
        self.derived: dict[str, Any] = {}


_Question = tuple[_Entry, Any, Any, Any]
"""The entry, columns, conditions and options that an answer is for."""


class _Memory:
    """The entries and answers that the views of one cache share."""

    def __init__(self) -> None:
        self.lock = Lock()  # held for single steps only, never while the lake is read
        self.entries: dict[str, _Entry] = {}
        self.answers: OrderedDict[_Question, pa.Table] = OrderedDict()
        self.bytes = 0


class TableCache:
    """Reads the tables of one folder of a lake and remembers the answers; may be shared by threads.

    A table is looked at once and then served as it was, so that everything computed from it agrees, until `forget`
    or `update`. A question that begins after either has returned is answered from a look that began after its call.
    Answers are Arrow tables, which nobody can change.

    A `view` shares the memory, but has its own record of the tables it was asked about.
    """

    def __init__(
        self, storage: Storage, directory: str, max_bytes: int, conventions: Conventions | None = None
    ) -> None:
        self._storage = storage
        self._directory = check_path(directory)
        self._conventions = conventions
        self._max_bytes = max_bytes
        self._memory = _Memory()
        self._asked: set[str] = set()

    def view(self) -> TableCache:
        """Return a cache with the same memory, whose `versions` name the tables that the view is asked about."""
        view = copy(self)
        view._asked = set()  # noqa: SLF001 - it is one of us
        return view

    def exists(self, name: str, *, beside: Iterable[str] = ()) -> bool:
        """Return whether there is such a table.

        Parameters
        ----------
        beside
            Tables that will be asked about as well: those not looked at yet are looked at together.
        """
        if beside:
            self._look({_plain(other) for other in (name, *beside)})
        return self.snapshot(name) is not None

    def snapshot(self, name: str) -> Snapshot | None:
        """Return the versions that the table is served from; None when there is no such table."""
        entry = self._entry(name)
        return entry.snapshot if entry.looked else self._looked(name)[1].snapshot

    def codec(self, name: str, overrides: Mapping[str, Any] | None = None) -> Codec:
        """Do as `Table.codec` does, for the versions the table is served from.

        Raises
        ------
        TableNotFoundError
        """

        def read() -> Codec:
            table, entry = self._looked(name)
            return table.codec(entry.snapshot, overrides)

        return self.derive(name, f"codec for {_hashable(overrides or {})}", read)

    def check_types(
        self, name: str, kinds: Mapping[str, pa.DataType], overrides: Mapping[str, Any] | None = None
    ) -> None:
        """Refuse a table that another program wrote with columns of types that cannot be meant.

        Raises
        ------
        TableNotFoundError
        SchemaError
        """
        typed = self.codec(name, overrides).schema
        for column, kind in kinds.items():
            if column in typed.names and typed.field(column).type != kind:
                raise SchemaError(
                    f"Table {name}, column {column!r}: it holds {typed.field(column).type}, not {kind}.",
                    hint="Write the table again with dates, text and numbers, or move it aside.",
                )

    def series_index(self, name: str, column: str) -> pa.Table | None:
        """Do as `Table.series_index` does, for the versions the table is served from; None without such a table."""
        table, entry = self._looked(name)
        snapshot = entry.snapshot
        return None if snapshot is None else self.derive(name, "index", lambda: table.series_index(snapshot, column))

    def scan(
        self,
        name: str,
        columns: Sequence[str] | None = None,
        where: Sequence[Where] = (),
        *,
        keep: bool = True,
        more: bool = False,
        **options: Any,
    ) -> pa.Table:
        """Do as `Table.scan` does, from memory where possible; ``keep=False`` does not keep the answer.

        ``more`` says that other rows of these columns will be asked for: a table that is `decoded_whole` for every
        answer is then kept whole, in these columns.

        Raises
        ------
        TableNotFoundError
        """
        table, entry = self._looked(name)
        terms = (None if columns is None else tuple(columns), tuple(where), _hashable(options))
        with self._memory.lock:
            if (entry, *terms) in self._memory.answers:
                self._memory.answers.move_to_end((entry, *terms))
                return self._memory.answers[entry, *terms]
        if entry.snapshot is None:  # there was no such table at the last look, but it may exist by now
            entry = self._replace(name, entry, table.snapshot())
        if more and columns is not None and where and self.decoded_whole(name):
            tested = {condition.column for condition in where}
            words = tuple(sorted({*tested, *options.get("dictionary", ())}))
            rows = self.scan(name, tuple(sorted({*columns, *tested})), dictionary=words, raw=True)
            data = table.narrow(rows, columns, where, **options)
        else:
            data, snapshot = table.scan(columns, where, snapshot=entry.snapshot, **options)
            if snapshot != entry.snapshot:
                entry = self._replace(name, entry, snapshot)
        if keep:
            self._keep(name, (entry, *terms), data)
        return data

    def last_date(self, name: str, column: str = "Date") -> date | None:
        """Return the greatest date of a table, None where it has none; read from its last partition.

        Raises
        ------
        TableNotFoundError
        """
        last = pc.max(self._dates(name, column, -1)).as_py()
        return None if last is None else last.date()

    def first_date(self, name: str, column: str = "Date") -> date | None:
        """Return the least date of a table, None where it has none; read from its first partition.

        Raises
        ------
        TableNotFoundError
        """
        first = pc.min(self._dates(name, column, 0)).as_py()
        return None if first is None else first.date()

    def _dates(self, name: str, column: str, at: Literal[0, -1]) -> pa.ChunkedArray:
        """Return the dates in a table's first partition (0) or last (-1)."""
        snapshot = self.snapshot(name)
        where: tuple[Where, ...] = ()
        if snapshot is not None and snapshot.by_date:
            where = (Where(column, (bounds(snapshot.layout, snapshot.parts[at].label),)),)
        return self.scan(name, (column,), where)[column]

    def decoded_whole(self, name: str) -> bool:
        """Return whether every answer decodes the whole table, which is one legacy file, and there is room for it."""
        snapshot = self.snapshot(name)
        if snapshot is None or snapshot.layout != "file" or not self.codec(name).legacy:
            return False
        part = snapshot.parts[0]
        try:
            rows = self.derive(name, "rows", lambda: self._looked(name)[0].stored(part).rows)
        except VersionChangedError:  # as what reads it next will find
            return False
        return _DECODED * rows < self._max_bytes

    def derive(self, name: str, what: str, make: Callable[[], T]) -> T:
        """Return ``make()``, a value derived from the whole table, and keep it as long as the table's version.

        Threads that ask at the same time may each make the value; the first one made is kept. It must be immutable.
        """
        derived = self._entry(name).derived
        if what not in derived:
            derived.setdefault(what, make())
        value: T = derived[what]
        return value

    def forget(self, name: str) -> None:
        """Have a table looked at afresh when it is next asked for."""
        with self._memory.lock:
            self._drop(_plain(name))

    def update(self) -> list[str]:
        """Forget every table that has changed in the lake, and name those."""
        with self._memory.lock:
            looked = {name: entry for name, entry in self._memory.entries.items() if entry.looked}
            for name in (
                self._memory.entries.keys() - looked.keys()
            ):  # a look under way may have begun before the change
                self._drop(name)
        snapshots = find_all(self._storage, list(looked), self._directory)
        changed = []
        for name, entry in looked.items():
            if name not in snapshots or snapshots[name] != entry.snapshot:
                changed.append(name)
                with self._memory.lock:
                    if self._memory.entries.get(name) is entry:
                        self._drop(name)
        return sorted(changed)

    def clear(self) -> None:
        """Forget every table."""
        with self._memory.lock:
            self._memory.entries.clear()
            self._memory.answers.clear()
            self._memory.bytes = 0

    def versions(self, until: date | None = None) -> dict[str, str | None]:
        """Return the version of each table that was asked about, None for one that was not there.

        Parameters
        ----------
        until
            Leave out the partitions after this date, which no answer as of the date depends on.
        """
        with self._memory.lock:
            entries = {name: self._memory.entries.get(name) for name in sorted(self._asked)}
        snapshots = {name: entry.snapshot for name, entry in entries.items() if entry is not None and entry.looked}
        return {
            name: None if snapshot is None else snapshot.until(until).version for name, snapshot in snapshots.items()
        }

    # --- entries ----------------------------------------------------------------------------

    def _entry(self, name: str) -> _Entry:
        name = _plain(name)
        self._asked.add(name)
        with self._memory.lock:
            return self._memory.entries.setdefault(name, _Entry())

    def _looked(self, name: str) -> tuple[Table, _Entry]:
        """Return the table and its entry, with its snapshot.

        The entry is made before the look begins, so that forgetting the table meanwhile forgets this look, too.
        """
        entry = self._entry(name)
        table = Table(self._storage, name, self._directory, conventions=self._conventions, footers=entry.footers)
        if not entry.looked:
            self._set_snapshot(entry, table.find())
        return table, entry

    def _look(self, names: Iterable[str]) -> None:
        """Look, in one go, at those of some tables that have not been looked at."""
        new = {name: entry for name in names if not (entry := self._entry(name)).looked}
        if new:
            snapshots = find_all(self._storage, sorted(new), self._directory)
            for name, snapshot in snapshots.items():
                self._set_snapshot(new[name], snapshot)
            single = [s.parts[0].info for s in snapshots.values() if s is not None and s.layout == "file"]
            self._storage.fetch_ends(single, TAIL)  # where their footers are

    def _set_snapshot(self, entry: _Entry, snapshot: Snapshot | None) -> None:
        with self._memory.lock:
            if not entry.looked:  # else another thread has looked first, and may have read by now
                entry.snapshot, entry.looked = snapshot, True

    def _replace(self, name: str, entry: _Entry, snapshot: Snapshot) -> _Entry:
        """Return an entry for a newer version that a reader has met; it replaces ``entry`` if that is still in use."""
        name, new = _plain(name), _Entry()
        new.snapshot, new.looked = snapshot, True
        with self._memory.lock:
            if self._memory.entries.get(name) is entry:
                self._drop(name)
                self._memory.entries[name] = new
        return new

    def _keep(self, name: str, question: _Question, data: pa.Table) -> None:
        with self._memory.lock:
            if self._memory.entries.get(_plain(name)) is not question[0]:
                return  # the table has been forgotten or replaced since the question was asked
            replaced = self._memory.answers.pop(question, None)
            self._memory.bytes += data.nbytes - (0 if replaced is None else replaced.nbytes)
            self._memory.answers[question] = data
            while len(self._memory.answers) > 1 and self._memory.bytes > self._max_bytes:
                self._memory.bytes -= self._memory.answers.popitem(last=False)[1].nbytes

    def _drop(self, name: str) -> None:
        """Forget a table's entry and its answers; the lock is held."""
        entry = self._memory.entries.pop(name, None)
        for question in [question for question in self._memory.answers if question[0] is entry]:
            self._memory.bytes -= self._memory.answers.pop(question).nbytes


@lru_cache(1024)
def _remembered(name: str) -> str:
    return table_name(name)


def _plain(name: Any) -> str:
    """Return a table's name as `table_name` has it, remembered since it is needed again and again."""
    return _remembered(name) if isinstance(name, str) else table_name(name)


def _hashable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple(sorted((key, _hashable(item)) for key, item in value.items()))
    if isinstance(value, set | frozenset):
        return frozenset(value)
    if isinstance(value, list | tuple):
        return tuple(_hashable(item) for item in value)
    return value
