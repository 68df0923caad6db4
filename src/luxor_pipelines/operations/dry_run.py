"""Run a pipeline without writing anything: its rows are computed and checked, and loaded into memory only."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal

from luxor_pipelines.ingest import LoadResult
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.storage.base import ANY, Blob, BlobInfo, Folder, Reader, Storage, Unusable, WholeFile
from luxor_pipelines.lake.types.schema import stored_key
from luxor_pipelines.operations.records import LakeLike, opened
from luxor_pipelines.operations.runs import in_layout, prepare
from luxor_pipelines.query.luxor_query import LuxorQuery

if TYPE_CHECKING:
    import pandas as pd

    from luxor_pipelines.lake.table.table import Table

__all__ = ["Difference", "DryRun", "dry_run"]


@dataclass(frozen=True)
class Difference:
    """A number that a run would change.

    Attributes
    ----------
    key
        The row's key, column by column.
    """

    table: str
    key: Mapping[str, str]
    column: str
    before: float
    after: float


@dataclass(frozen=True)
class DryRun:
    """The changes that a run would make.

    Attributes
    ----------
    loads
        The outcome that each load would have; nothing was written.
    differences
        The numbers that would change most, the largest change first.
    """

    pipeline: str
    ref_date: date | None
    rows: int
    loads: tuple[LoadResult, ...]
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]


def dry_run(
    name: str,
    ref_date: date | datetime | str | None = None,
    *,
    lake: LakeLike = None,
    now: datetime | None = None,
    largest: int = 10,
    layout: Literal["declared", "file"] | None = None,
    **params: Any,
) -> DryRun:
    """Compute and check what a run would write, and compare it with what is stored; write nothing, no record either.

    Parameters are those of `run`.

    Parameters
    ----------
    largest
        How many differences to return.

    Raises
    ------
    QualityError
        The rows do not pass their checks.
    LuxorError
        What the pipeline raises.
    """
    lake = opened(in_layout(name, lake, layout))
    overlay = _Overlay(lake.storage)
    copy = Lake(overlay, lake.directory, settings=lake.settings, clock=lake.now, conventions=lake.conventions)
    job = prepare(name, ref_date, copy, now, params)
    result = job.work(LuxorQuery(lake=copy))
    differences = [
        difference
        for load in result.loads
        for difference in _differences(lake.table(load.table), copy.table(load.table), overlay.written(), largest)
    ]
    differences.sort(key=lambda difference: abs(difference.after - difference.before), reverse=True)
    return DryRun(
        job.report.pipeline,
        result.ref_date or job.report.ref_date,
        result.rows,
        tuple(result.loads),
        tuple(differences[:largest]),
        tuple(result.warnings),
    )


def _differences(before: Table, after: Table, written: set[str], largest: int) -> Iterator[Difference]:
    """Yield the numbers in the partitions written that differ from those of the stored row with the same key."""
    old, new = before.find(), after.find()
    if old is None or new is None:
        return
    for part in new.parts:
        stored = old.part(part.label)
        if part.info.path not in written or stored is None:
            continue
        key = list(stored_key(after.codec(new).stored))
        rows, changed = _frame(before, stored), _frame(after, part)
        if not key or not set(key) <= set(rows.columns) or set(rows.columns) != set(changed.columns):
            continue
        pairs = rows.merge(changed, on=key, suffixes=("", " after"))
        for column in rows.select_dtypes("number").columns.difference(key):
            change = (pairs[f"{column} after"] - pairs[column]).abs()
            for at in change[change > 0].nlargest(largest).index:
                row = pairs.loc[at]
                names = {name: str(row[name]).removesuffix(" 00:00:00") for name in key}
                yield Difference(after.name, names, str(column), float(row[column]), float(row[f"{column} after"]))


def _frame(table: Table, part: Any) -> pd.DataFrame:
    from luxor_pipelines.lake.types.frames import arrow_to_frame

    frame: pd.DataFrame = arrow_to_frame(table.read_part(part).logical)
    return frame.drop(columns="Last_Updated", errors="ignore")


class _Overlay(Storage):
    """A storage whose changes stay in memory, over one that is only read."""

    def __init__(self, base: Storage) -> None:
        self._base = base
        self._changes: dict[str, tuple[BlobInfo, bytes] | None] = {}
        self.url, self.concurrent, self.identity = base.url, base.concurrent, base.identity

    def written(self) -> set[str]:
        """Return the paths that were written or deleted."""
        return set(self._changes)

    @property
    def filesystem(self) -> Any:
        return self._base.filesystem

    def location(self, path: str) -> str:
        return self._base.location(path)

    def _list(self, folder: str, unusable: list[Unusable]) -> list[BlobInfo]:
        files = {info.path: info for info in self._base.list(folder, unusable=unusable)}
        for path, change in self._changes.items():
            if path.startswith(folder):
                files.pop(path, None)
                if change is not None:
                    files[path] = change[0]
        return list(files.values())

    def _folder(self, folder: str, unusable: list[Unusable]) -> Folder:
        content = self._base.folder(folder, unusable=unusable)
        below = [info.path[len(folder) :] for info in self._list(folder, [])]
        files = [info for info in self._list(folder, []) if "/" not in info.path[len(folder) :]]
        return Folder(files, sorted({*content.folders, *(path.split("/")[0] for path in below if "/" in path)}))

    def _stat(self, path: str) -> BlobInfo | None:
        if path not in self._changes:
            return self._base.stat(path)
        change = self._changes[path]
        return None if change is None else change[0]

    def _read(self, path: str) -> Blob:
        if path not in self._changes:
            return self._base.read(path)
        change = self._changes[path]
        if change is None:
            raise self.not_found(path)
        return Blob(change[1], change[0].version)

    def _open(self, info: BlobInfo) -> AbstractContextManager[Reader]:
        change = self._changes.get(info.path)
        return self._base.open(info) if change is None else _whole(change[1])

    def _write(self, path: str, data: bytes, expected: Any) -> str:
        self._check(path, expected)
        version = uuid.uuid4().hex
        self._changes[path] = BlobInfo(path, version, len(data), datetime.now(UTC)), data
        return version

    def _delete(self, path: str, expected: Any) -> None:
        self._check(path, expected)
        self._changes[path] = None

    def _check(self, path: str, expected: Any) -> None:
        info = self._stat(path)
        if expected is not ANY and (None if info is None else info.version) != expected:
            raise self.conflict(path)


@contextmanager
def _whole(data: bytes) -> Iterator[Reader]:
    yield WholeFile(data)
