"""A lake on any other fsspec filesystem: ``memory://`` in full, all others for reading only."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from luxor_pipelines.errors import AccessError, ConfigurationError, LuxorError, UnreachableError, scrubbed
from luxor_pipelines.lake.storage.base import (
    ANY,
    Blob,
    BlobInfo,
    Folder,
    Reader,
    Storage,
    Unusable,
    WholeFile,
    check_path,
)

__all__ = ["FsspecStorage"]

_Method = TypeVar("_Method", bound=Callable[..., Any])

_LOCK = threading.RLock()
_MARKS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "CRC")
"""The names that filesystems give to marks which change with a file's content."""


def _public(lake: str) -> str:
    """Return the address without what may be secret in it."""
    parts = urlsplit(lake)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _has_secret(lake: str) -> bool:
    parts = urlsplit(lake)
    return ":" in parts.netloc.rpartition("@")[0] or "sig=" in parts.query


def _guarded(method: _Method) -> _Method:
    """Return a method that is called by one thread at a time and raises our errors for those of the filesystem."""

    @functools.wraps(method)
    def guarded(storage: FsspecStorage, path: str, *args: Any) -> Any:
        failure: LuxorError | None
        try:
            with _LOCK:
                return method(storage, path, *args)
        except LuxorError as error:
            failure = error
        except Exception as error:
            failure = storage.translated(error, path)
            if failure is None:
                raise
            failure.__cause__ = error
        raise scrubbed(failure)

    return cast("_Method", guarded)


class FsspecStorage(Storage):
    """A lake on an fsspec filesystem without conditional writes of its own.

    In ``memory://`` a process-wide lock gives the condition. Elsewhere nothing could, so writing
    is refused instead of being done unsafely.
    """

    def __init__(self, filesystem: Any, root: str, url: str) -> None:
        self.fs = filesystem
        self.root = root.rstrip("/")
        self.url = url
        self._seen = False

    @classmethod
    def connect(cls, lake: str) -> FsspecStorage:
        """Open the lake at an fsspec URL."""
        shown = _public(lake)
        if _has_secret(lake):
            raise ConfigurationError(
                f"The address of {shown} holds a password or a signature, which this kind of storage would log.",
                hint="Give such credentials as its library finds them by itself, or use abfss:// for a lake on Azure.",
            )
        try:
            filesystem, root = fsspec.core.url_to_fs(lake, skip_instance_cache=True)
        except (ValueError, ImportError, TypeError) as error:
            raise ConfigurationError(
                f"{shown!r} is not a lake's address: {error}.",
                hint="Use abfss://container@account.dfs.core.windows.net, file:///folder or memory://name.",
            ) from error
        except OSError as error:
            raise UnreachableError(
                f"{shown} cannot be opened ({error.strerror or type(error).__name__}).",
                hint="Check the address and the network, then try again.",
            ) from error
        if urlsplit(lake).scheme in ("http", "https"):
            raise ConfigurationError(
                f"{shown} is a web server, which tells neither the sizes nor the versions of its files.",
                hint="Use abfss://container@account.dfs.core.windows.net, or copy the lake to a folder (file:///).",
            )
        if isinstance(filesystem, LocalFileSystem):  # what fsspec takes any text for that has no //
            raise ConfigurationError(
                f"{shown!r} is not a lake's address.",
                hint="Use abfss://container@account.dfs.core.windows.net, file:///folder or memory://name.",
            )
        return cls(filesystem, root, shown)

    @property
    def filesystem(self) -> Any:
        """The filesystem that the lake's URL names."""
        return self.fs

    def location(self, path: str) -> str:
        """Return the file's path below the lake's root."""
        return f"{self.root}/{check_path(path)}"

    @_guarded
    def _list(self, folder: str, unusable: list[Unusable]) -> list[BlobInfo]:
        self.fs.invalidate_cache()
        top = self._at(folder.rstrip("/"))
        return [self._info(info) for info in self._below(top, self._entries(top), unusable)]

    def _below(self, folder: str, entries: list[dict[str, Any]], unusable: list[Unusable]) -> Iterator[dict[str, Any]]:
        """Yield the files among a folder's entries and below them; fsspec's own ``find`` skips unlisted folders."""
        for info in self._files(folder, entries, unusable):
            if info["type"] != "directory":
                yield info
                continue
            below = info["name"].rstrip("/")
            try:
                inner = self._entries(below)
            except PermissionError:
                unusable.append(Unusable(self._path(info), "this user may not list it"))
            else:
                yield from self._below(below, inner, unusable)

    def _files(self, folder: str, entries: list[dict[str, Any]], unusable: list[Unusable]) -> Iterator[dict[str, Any]]:
        """Yield the files and folders among a folder's entries, but for hidden ones."""
        for info in entries:
            if not info["name"].startswith(f"{folder}/") or _name(info).startswith("."):
                continue  # asked for a file, fsspec lists that file
            if info["type"] in ("file", "directory"):
                yield info
            else:
                unusable.append(Unusable(self._path(info), f"it is neither a file nor a folder but {info['type']}"))

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}" if self.root else path

    def _path(self, info: dict[str, Any]) -> str:
        return str(info["name"])[len(self.root) :].strip("/")

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        """Return the entries of a folder, none if there is no such folder."""
        try:
            entries: list[dict[str, Any]] = self.fs.ls(folder, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            self._check_root()
            return []
        self._seen = True
        return entries

    def _check_root(self) -> None:
        """Refuse to call a file absent before the lake itself has been seen."""
        if not self._seen and not isinstance(self.fs, MemoryFileSystem):
            try:
                self.fs.ls(self.root, detail=False)
            except FileNotFoundError as error:
                raise ConfigurationError(
                    f"There is no lake at {self.url}.", hint="Check the address; `luxor demo` makes a lake to try."
                ) from error
            self._seen = True

    @_guarded
    def _folder(self, folder: str, unusable: list[Unusable]) -> Folder:
        self.fs.invalidate_cache()
        top = self._at(folder.rstrip("/"))
        entries = list(self._files(top, self._entries(top), unusable))
        folders = [_name(info) for info in entries if info["type"] == "directory"]
        return Folder([self._info(info) for info in entries if info["type"] == "file"], folders)

    @_guarded
    def _stat(self, path: str) -> BlobInfo | None:
        self.fs.invalidate_cache()
        try:
            info = self.fs.info(self._at(path))
        except (FileNotFoundError, NotADirectoryError):
            self._check_root()
            return None
        return self._info(info) if info["type"] == "file" else None

    @_guarded
    def _read(self, path: str) -> Blob:
        before = self._stat(path)
        if before is None:
            raise self.not_found(path)
        data = self.fs.cat_file(self._at(path))
        if self._stat(path) != before:
            raise self.changed(path)
        if len(data) != before.size:
            raise UnreachableError(
                f"{len(data):,} bytes of {path} came from {self.url}, which states {before.size:,}.", hint="Try again."
            )
        return Blob(data, before.version)

    @contextmanager
    def _open(self, info: BlobInfo) -> Iterator[Reader]:
        try:
            data, version = self._read(info.path)
        except FileNotFoundError:
            raise self.changed(info.path) from None
        if version != info.version:
            raise self.changed(info.path)
        yield WholeFile(data)

    @_guarded
    def _write(self, path: str, data: bytes, expected: Any) -> str:
        before = self._check(path, expected)
        self.fs.pipe_file(self._at(path), data)
        file = self.fs.store[self._at(path)]
        if before is not None:  # two writes within the clock's grain must not share a version
            file.modified = max(file.modified, before.modified + timedelta(microseconds=1))
        after = self._stat(path)
        assert after is not None
        return after.version

    @_guarded
    def _delete(self, path: str, expected: Any) -> None:
        if self._check(path, ANY) is not None:
            self._check(path, expected)
            self.fs.rm_file(self._at(path))

    def _check(self, path: str, expected: Any) -> BlobInfo | None:
        if not isinstance(self.fs, MemoryFileSystem):
            raise ConfigurationError(
                f"{self.url} can be read but not written: its kind of storage has no safe conditional write here.",
                hint="Write to a lake on Azure (abfss://) or in a folder (file:///).",
            )
        before = self._stat(path)
        if expected is not ANY and (before and before.version) != expected:
            raise self.conflict(path)
        return before

    def _info(self, info: dict[str, Any]) -> BlobInfo:
        name = str(info["name"])
        modified = info.get("created") if isinstance(self.fs, MemoryFileSystem) else info.get("mtime")
        if isinstance(self.fs, MemoryFileSystem):
            modified = self.fs.store[name].modified
        if not isinstance(modified, datetime):
            modified = datetime.fromtimestamp(float(modified or 0), UTC)
        marks = [str(info.get(key)) for key in _MARKS] + [modified.isoformat(), str(info["size"])]
        version = hashlib.sha256("\n".join(marks).encode()).hexdigest()[:32]
        return BlobInfo(self._path(info), version, int(info["size"]), modified)

    def translated(self, error: Exception, path: str) -> LuxorError | None:
        """Return our error for one of a filesystem's library; None for a fault in our own code."""
        if isinstance(error, FileNotFoundError):
            return self.not_found(path)
        if isinstance(error, PermissionError):
            return AccessError(
                f"{path} in {self.url} may not be read ({error}).",
                hint="Ask for access, or check the credentials that its library finds.",
            )
        if isinstance(self.fs, MemoryFileSystem) and not isinstance(error, OSError):
            return None
        return UnreachableError(
            f"{path} in {self.url}: {str(error) or type(error).__name__}.",
            hint="Check the address and the network, then try again.",
        )


def _name(info: dict[str, Any]) -> str:
    """Return the last part of an entry's path."""
    return str(info["name"]).rstrip("/").rpartition("/")[2]
