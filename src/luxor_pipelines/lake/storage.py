"""Storage: list, read and conditionally swap whole files, wherever the lake lies.

A *version* is an opaque text that changes whenever a file's content is replaced (the ETag on
Azure). Reads can be pinned to one, writes can be made on condition of one, and a write either
swaps the whole file or leaves it untouched.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from luxor_pipelines.errors import ConfigurationError, ConflictError, InvalidNameError, NotFoundError
from luxor_pipelines.settings import Settings

__all__ = [
    "ANY",
    "Blob",
    "BlobInfo",
    "Reader",
    "Storage",
    "VersionChangedError",
    "WholeFile",
    "check_path",
    "connect",
]


class _Any:
    def __repr__(self) -> str:
        return "ANY"


ANY: Final = _Any()
"""No condition: write or delete whatever version is there."""


class BlobInfo(NamedTuple):
    """A file as listed: path below the lake's root, version, size in bytes, time of change (UTC)."""

    path: str
    version: str
    size: int
    modified: datetime


class Blob(NamedTuple):
    """A file's bytes and the version they are of."""

    data: bytes
    version: str


class VersionChangedError(ConflictError):
    """The file was swapped while it was being read; read it again from the start."""


class Reader(Protocol):
    """One version of one file, open for random access."""

    source: Any
    """A file object that pyarrow can read."""

    def prefetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Say which byte ranges (start, end) will be read next, so that they can be fetched at once."""


class WholeFile:
    """A file that is in memory already."""

    def __init__(self, data: bytes) -> None:
        import pyarrow as pa

        self.source = pa.BufferReader(data)

    def prefetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Nothing to fetch."""


_Files = list[BlobInfo]  # in Storage, `list` is the method


class Storage(ABC):
    """A lake's files. Paths are relative to the lake's root and separated by ``/``.

    Every method raises `AccessError` when credentials are refused, `UnreachableError` when the
    lake does not answer, and `ConfigurationError` when the lake itself (container, folder) is
    not there; none of these ever reads as "no such file".
    """

    url: str
    """Where the lake lies, safe to show."""

    concurrent: bool = False
    """Whether several requests at once are quicker than one after another."""

    def list(self, prefix: str) -> _Files:
        """Every file below the folder ``prefix``, sorted by path; empty when there is none."""
        return sorted(self._list(check_path(prefix) + "/"))

    def stat(self, path: str) -> BlobInfo | None:
        """The file's version and size, freshly asked; None only when it is definitely absent."""
        return self._stat(check_path(path))

    def stats(self, paths: Sequence[str]) -> Sequence[BlobInfo | None]:
        """`stat` of several files, asked at once where that is quicker."""
        return self._stats([check_path(path) for path in paths])

    def read(self, path: str) -> Blob:
        """The file's bytes, all of one version.

        Raises
        ------
        NotFoundError
        """
        return self._read(check_path(path))

    def open(self, info: BlobInfo) -> AbstractContextManager[Reader]:
        """Open the version that ``info`` names, for reading parts of it.

        Raises
        ------
        VersionChangedError
            On opening or on any later read, when that version is no longer there.
        """
        check_path(info.path)
        return self._open(info)

    def write(self, path: str, data: bytes, *, expected: str | _Any | None = ANY) -> str:
        """Swap the file for ``data`` as a whole and return its new version.

        Parameters
        ----------
        expected
            The version the stored file must have; None when there must be none; `ANY` for no condition.

        Raises
        ------
        ConflictError
            The stored file is not as expected; nothing was written.
        """
        return self._write(check_path(path), data, expected)

    def delete(self, path: str, *, expected: str | _Any = ANY) -> None:
        """Delete exactly this file; one that is not there (any more) is left so.

        Raises
        ------
        ConflictError
            There is a file, of another version than the expected one; nothing was deleted.
        """
        self._delete(check_path(path), expected)

    def _stats(self, paths: Sequence[str]) -> Sequence[BlobInfo | None]:
        return [self._stat(path) for path in paths]

    @abstractmethod
    def _list(self, folder: str) -> _Files: ...
    @abstractmethod
    def _stat(self, path: str) -> BlobInfo | None: ...
    @abstractmethod
    def _read(self, path: str) -> Blob: ...
    @abstractmethod
    def _open(self, info: BlobInfo) -> AbstractContextManager[Reader]: ...
    @abstractmethod
    def _write(self, path: str, data: bytes, expected: str | _Any | None) -> str: ...
    @abstractmethod
    def _delete(self, path: str, expected: str | _Any) -> None: ...

    def not_found(self, path: str) -> NotFoundError:
        """The error for a file that is definitely not there."""
        return NotFoundError(f"There is no {path} in {self.url}.", hint="Check the name.")

    def changed(self, path: str) -> VersionChangedError:
        """The error for a pinned version that has been replaced."""
        return VersionChangedError(f"{path} in {self.url} was replaced while it was being read.", hint="Read it again.")

    def conflict(self, path: str) -> ConflictError:
        """The error for a conditional write that was refused."""
        return ConflictError(
            f"{path} in {self.url} was changed by somebody else meanwhile.", hint="Nothing was written; try again."
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"


_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\:*?\"<>|#%]")


def check_path(path: str) -> str:
    """Return ``path`` without outer slashes, or refuse one that could leave the lake.

    Raises
    ------
    InvalidNameError
        Empty, or with a part that is empty, ``.``, ``..``, hidden, ends in a dot or holds a character
        that some file system or URL gives a meaning of its own.
    """
    parts = path.strip("/").split("/")
    for part in parts:
        # Windows drops a dot or space at the end: two names would be one file.
        if not part or part[0] == "." or part[-1] == "." or part != part.strip() or _FORBIDDEN.search(part):
            raise InvalidNameError(
                f"{path!r} is not a name inside the lake (at {part!r}).",
                hint="Use letters, digits, spaces, _ - . and = in names, / between folders, and no '..'.",
            )
    return "/".join(parts)


def connect(
    lake: str | None = None,
    *,
    connection_string: str | None = None,
    container: str | None = None,
    settings: Settings | None = None,
) -> Storage:
    """Open the lake that the arguments name, else the one the environment names.

    An argument wins over ``LUXOR_LAKE_URL``, which wins over ``AZURE_STORAGE_CONNECTION_STRING``
    with ``LUXOR_CONTAINER``. A connection string from the environment is never used for a lake
    that was named by URL.

    Parameters
    ----------
    lake
        An fsspec URL: ``abfss://container@account.dfs.core.windows.net[/folder]``, ``file:///…``,
        ``memory://name``, or a local path. An ``abfss`` URL without a secret uses
        ``DefaultAzureCredential``; ``connection_string`` may stand beside it to give the key.
    connection_string
        An Azure storage connection string.
    container
        The container the connection string is for; default ``LUXOR_CONTAINER`` or ``luxorasap``.

    Raises
    ------
    ConfigurationError
        Nothing is configured, or what is configured cannot be a lake.
    """
    settings = settings or Settings.from_env()
    if lake is None and connection_string is None:
        lake = settings.lake_url
        if lake is None:
            connection_string = settings.connection_string
    if lake is None and connection_string is None:
        raise ConfigurationError(
            "No lake is configured.",
            hint="Set LUXOR_LAKE_URL (abfss://container@account.dfs.core.windows.net or file:///folder), or "
            "AZURE_STORAGE_CONNECTION_STRING; on the command line give --lake. `luxor demo` makes one to try.",
        )
    try:
        scheme = urlsplit(lake).scheme.lower() if lake else "abfss"
    except ValueError as error:
        raise ConfigurationError(
            "The lake's address is no URL.",
            hint="Use abfss://container@account.dfs.core.windows.net, file:///folder or memory://name.",
        ) from error
    if scheme in {"abfss", "abfs", "az"}:
        from luxor_pipelines.lake.azure import AzureStorage

        return AzureStorage.connect(lake, connection_string, container or settings.container, settings)
    assert lake is not None
    if connection_string is not None:
        raise ConfigurationError(
            f"A connection string was given together with a lake that is not on Azure ({scheme or 'a folder'}).",
            hint="Give one of the two.",
        )
    if scheme in {"", "file", "local"} or len(scheme) == 1:  # a single letter is a Windows drive
        from luxor_pipelines.lake.local import LocalStorage

        return LocalStorage.connect(lake, settings)
    from luxor_pipelines.lake.memory import FsspecStorage

    return FsspecStorage.connect(lake)
