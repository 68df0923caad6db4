"""Storage: list, read and conditionally swap whole files, wherever the lake lies.

A *version* is an opaque text that changes whenever a file's content is replaced (the ETag on
Azure). Reads can be pinned to one, writes can be made on condition of one, and a write either
swaps the whole file or leaves it untouched.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol

from luxor_pipelines.errors import ConflictError, InvalidNameError, NotFoundError, shown

__all__ = [
    "ANY",
    "Blob",
    "BlobInfo",
    "Folder",
    "Reader",
    "Storage",
    "Unusable",
    "VersionChangedError",
    "WholeFile",
    "check_path",
]

logger = logging.getLogger(__name__)


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


class Folder(NamedTuple):
    """The content of a folder: its files, and the names of the folders in it, both sorted."""

    files: Sequence[BlobInfo]
    folders: Sequence[str]


class Unusable(NamedTuple):
    """An entry of a folder that is no file of the lake: its path, and why it cannot be used."""

    path: str
    reason: str


class Blob(NamedTuple):
    """A file's bytes and the version they are of."""

    data: bytes
    version: str


class VersionChangedError(ConflictError):
    """The file was swapped while it was being read; read it again from the start."""


class Reader(Protocol):
    """One version of one file, open for random access."""

    def source(self) -> Any:
        """Return a file object for pyarrow: one that threads may share, or a new one for each call."""

    def prefetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Say which byte ranges (start, end) will be read next, so that they can be fetched at once."""


class WholeFile:
    """A file that is in memory already."""

    def __init__(self, data: bytes) -> None:
        import pyarrow as pa

        self._source = pa.BufferReader(data)

    def source(self) -> Any:
        """Return the bytes as a file of pyarrow's."""
        return self._source

    def prefetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Do nothing: all bytes are in memory."""


_Files = list[BlobInfo]  # in Storage, `list` is the method
_Entries = list[Unusable]


class Storage(ABC):
    """A lake's files. Paths are relative to the lake's root and separated by ``/``.

    Every method raises `AccessError` when credentials are refused, `UnreachableError` when the
    lake does not answer, and `ConfigurationError` when the lake itself (container, folder) is
    not there; none of these ever reads as "no such file".
    """

    url: str
    """The lake's address, safe to show."""

    identity: str = "the user of this process"
    """The identity under which the storage is used."""

    concurrent: bool = False
    """Whether several requests at once are quicker than one after another."""

    def list(self, prefix: str, *, unusable: _Entries | None = None) -> _Files:
        """Return every file below the folder ``prefix``, sorted by path; empty when there is none.

        Parameters
        ----------
        unusable
            Receives the entries that cannot be used: names that `check_path` refuses, links that lead nowhere, in a
            circle or out of the lake, pipes and devices, folders below ``prefix`` that this user may not list. Without
            it each is named in a warning.

        Raises
        ------
        AccessError
            The folder itself may not be listed.
        """
        entries: _Entries = []
        files = self._list(check_path(prefix) + "/", entries)
        return sorted(self._usable(files, entries, unusable))

    def entry(self, path: str, *, unusable: _Entries | None = None) -> tuple[BlobInfo | None, _Files]:
        """Return the file of a path, and every file below a folder of that name, by one request where that is remote.

        They are as of `stat` and `list`.
        """
        entries: _Entries = []
        single, files = self._entry(check_path(path), entries)
        return single, sorted(self._usable(files, entries, unusable))

    def folder(self, path: str, *, unusable: _Entries | None = None) -> Folder:
        """Return the content of a folder, empty when there is none, by one request however much lies below it.

        ``unusable`` is as for `list`.
        """
        entries: _Entries = []
        path = check_path(path) + "/"
        content = self._folder(path, entries)
        folders = []
        for name in content.folders:
            if reason := _refusal(path + name):
                entries.append(Unusable(path + name, reason))
            else:
                folders.append(name)
        return Folder(sorted(self._usable(content.files, entries, unusable)), sorted(folders))

    def _usable(self, files: Sequence[BlobInfo], entries: _Entries, unusable: _Entries | None) -> _Files:
        """Return the files with usable names; add the others to ``entries``, and report those as `list` says."""
        usable = []
        for info in files:
            if reason := _refusal(info.path):
                entries.append(Unusable(info.path, reason))
            else:
                usable.append(info)
        if unusable is not None:
            unusable += entries
        else:
            for entry in entries:
                logger.warning("%s in %s is passed over: %s.", shown(entry.path, 300), self.url, entry.reason)
        return usable

    def make_folder(self, path: str) -> None:  # noqa: B027 (elsewhere a folder is there as soon as a file is)
        """Make a folder, in which files can then be put by hand."""

    def stat(self, path: str) -> BlobInfo | None:
        """Return the file's version and size, freshly asked; None only when it is definitely absent."""
        return self._stat(check_path(path))

    def peek(self, paths: Sequence[str]) -> Sequence[BlobInfo | None]:
        """Do as `stat` does for files that will be opened next; remote ones all at once, with their first bytes."""
        return self._peek([check_path(path) for path in paths])

    def fetch_ends(self, infos: Sequence[BlobInfo], size: int) -> None:  # noqa: B027 (near by, nothing is gained)
        """Fetch the last ``size`` bytes of remote files that will be opened next, all at once."""

    @property
    @abstractmethod
    def filesystem(self) -> Any:
        """The fsspec filesystem that the files lie on, for other libraries to read them with.

        The lake's promises do not hold for files that are written through it.
        """

    @abstractmethod
    def location(self, path: str) -> str:
        """Return the place of a path's file on `filesystem`."""

    def read(self, path: str) -> Blob:
        """Return the file's bytes, all of one version.

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

    def _entry(self, path: str, unusable: _Entries) -> tuple[BlobInfo | None, _Files]:
        return self._stat(path), self._list(f"{path}/", unusable)

    def _peek(self, paths: Sequence[str]) -> Sequence[BlobInfo | None]:
        return [self._stat(path) for path in paths]

    @abstractmethod
    def _list(self, folder: str, unusable: _Entries) -> _Files: ...
    @abstractmethod
    def _folder(self, folder: str, unusable: _Entries) -> Folder: ...
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
        """Return the error for a file that is definitely not there."""
        return NotFoundError(f"There is no {path} in {self.url}.", hint="Check the name.")

    def changed(self, path: str) -> VersionChangedError:
        """Return the error for a pinned version that has been replaced."""
        return VersionChangedError(f"{path} in {self.url} was replaced while it was being read.", hint="Read it again.")

    def conflict(self, path: str) -> ConflictError:
        """Return the error for a conditional write that was refused."""
        return ConflictError(
            f"{path} in {self.url} was changed by somebody else meanwhile.", hint="Nothing was written; try again."
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"


_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\:*?\"<>|#%]")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
"""A character as folders named ``column=value`` have those that file systems do not take."""
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's classes of invisible characters, of marks that turn the text around them, and of unassigned codes."""
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE | re.DOTALL)
"""Names of devices on Windows, whatever their extension."""
_LONGEST_PART, _LONGEST = 200, 900
"""Bytes of a name, limited by file systems and temporary names, and of a path, limited by Azure."""


def check_path(path: str) -> str:
    """Return ``path`` without outer slashes, or refuse one that could leave the lake.

    Raises
    ------
    InvalidNameError
        Empty or overlong, or with a part that is empty, ``.``, ``..``, hidden, ends in a dot, is a device on
        Windows or holds a character that cannot be seen or that some file system or URL gives a meaning of its own.
    """
    if not isinstance(path, str):
        raise InvalidNameError(f"{shown(path)} is not a name inside the lake.", hint="Give its text.")
    text = path.strip("/")
    part = _bad_part(text)
    if part is not None:
        raise InvalidNameError(
            f"{shown(path)} is not a name inside the lake (at {shown(part)}).",
            hint="Use letters, digits, spaces, _ - . and = in names, / between folders, and no '..'; "
            f"a name has {_LONGEST_PART} bytes at most and is none of Windows' devices, such as con or nul.",
        )
    return text


def _refusal(path: str) -> str:
    """Return the reason why a path that was listed cannot be used; blank if it can."""
    part = _bad_part(path)
    return "" if part is None else f"the lake does not use names such as {shown(part)}; rename it"


def _bad_part(path: str) -> str | None:
    """Return the first part of ``path`` that is no name inside the lake."""
    for part in path.split("/"):
        # Windows drops a dot or space at the end: two names would be one file.
        plain = _ESCAPE.sub("", part) if "=" in part[1:] else part
        bad = not part or part[0] == "." or part[-1] == "." or part != part.strip() or _FORBIDDEN.search(plain)
        if bad or _DEVICES.fullmatch(part) or (not part.isascii() and _invisible(part)) or not _fits(part, path):
            return part
    return None


def _invisible(part: str) -> bool:
    return any(unicodedata.category(letter) in _INVISIBLE for letter in part)


def _fits(part: str, path: str) -> bool:
    return len(part.encode()) <= _LONGEST_PART and len(path.encode("utf-8", "replace")) <= _LONGEST
