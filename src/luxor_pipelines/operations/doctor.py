"""Checks of whether a lake can be used from here: what a run needs is tried step by step."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from luxor_pipelines.errors import ConflictError, LakeError, LuxorError
from luxor_pipelines.lake.lake import Lake

__all__ = ["Check", "check_lake", "versions"]

_FOLDER = "system/doctor"
_SKEW = timedelta(minutes=1)
_PACKAGES = (
    "luxor-pipelines", "pandas", "numpy", "pyarrow", "fsspec", "adlfs", "azure-storage-blob", "azure-identity",
    "azure-functions", "duckdb", "polars",
)  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One step that was tried: its outcome, a detail of it, and a hint for what to do if it failed."""

    name: str
    outcome: Literal["ok", "warning", "failed", "skipped"]
    detail: str
    hint: str = ""


def check_lake(lake: Lake) -> Iterator[Check]:
    """Try what runs need of a lake, and yield each check as it ends.

    The lake's tables are listed; a small file is created, read, written on condition of its version, and deleted
    again; the storage's clock is compared with this machine's. If the file cannot be written, the checks that need it
    are skipped.
    """
    path = f"{_FOLDER}/{uuid.uuid4().hex}.json"
    data = b'{"about": "written by luxor doctor, safe to delete"}'

    listing = _tried("list", lambda: _list(lake))
    yield listing
    if listing.outcome == "failed":
        yield from (Check(name, "skipped", "") for name in ("write", "read", "conditional write", "clock", "delete"))
        return

    created: list[str] = []
    written = _tried("write", lambda: _create(lake, path, data, created))
    yield written
    if written.outcome == "failed":
        yield from (Check(name, "skipped", "") for name in ("read", "conditional write", "clock", "delete"))
        return
    try:
        yield _tried("read", lambda: _read(lake, path, data))
        yield _tried("conditional write", lambda: _write_on_condition(lake, path, data, created[0]))
        yield _clock(lake, path)
    finally:
        deleted = _tried("delete", lambda: _delete(lake, path))
    yield deleted


def versions() -> dict[str, str]:
    """Return the version of each package that matters, of those that are installed."""
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def _tried(name: str, work: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", work())
    except LuxorError as error:
        return Check(name, "failed", error.message, error.hint)


def _list(lake: Lake) -> str:
    count = len(lake.tables())
    return f"{count} table{'' if count == 1 else 's'} in {lake.url}/{lake.directory}"


def _create(lake: Lake, path: str, data: bytes, created: list[str]) -> str:
    """Create a file, whose version is added to ``created``; return under which identity."""
    created.append(lake.storage.write(path, data, expected=None))
    return f"as {lake.storage.identity}"


def _read(lake: Lake, path: str, data: bytes) -> str:
    if lake.storage.read(path).data != data:
        raise LakeError(f"{lake.url} answered other bytes for {path} than were written.", hint="Try again.")
    return f"{len(data)} bytes"


def _write_on_condition(lake: Lake, path: str, data: bytes, version: str) -> str:
    lake.storage.write(path, data + b"\n", expected=version)
    try:
        lake.storage.write(path, data, expected=version)
    except ConflictError:
        return "a write on condition of an old version is refused, as it must be"
    raise LakeError(
        f"{lake.url} accepted a write on condition of a version that had been replaced.",
        hint="Do not write to it: loads of two writers would be lost. Use Azure Blob Storage or a local disk.",
    )


def _clock(lake: Lake, path: str) -> Check:
    info = lake.storage.stat(path)
    if info is None:
        return Check("clock", "failed", f"{path} was just written, and is not there.", "Try again.")
    ahead = lake.now() - info.modified
    zone = f"today is {lake.today()} in {lake.settings.time_zone}"
    if abs(ahead) <= _SKEW:
        return Check("clock", "ok", zone)
    side = "ahead of" if ahead > timedelta(0) else "behind"
    return Check(
        "clock", "warning", f"this machine's clock is {abs(ahead)} {side} the storage's; {zone}", "Set the clock."
    )


def _delete(lake: Lake, path: str) -> str:
    lake.storage.delete(path)
    return path
