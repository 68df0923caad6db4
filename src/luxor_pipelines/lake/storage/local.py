"""A lake in a local folder: lock file, temporary file, fsync, replace."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import platform
import re
import stat
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from luxor_pipelines.errors import (
    AccessError,
    ConfigurationError,
    FileLockedError,
    InvalidNameError,
    LakeError,
    shown,
)
from luxor_pipelines.lake.storage.base import ANY, Blob, BlobInfo, Folder, Reader, Storage, Unusable, check_path
from luxor_pipelines.settings import Settings

__all__ = ["LocalStorage"]

LOCKS = "system/locks"
_SHARED_LOCKS = re.compile(r"archive(?=/)|system/(?!locks/runs/)([^/]+/)*[^/]+(?=/)")
"""Folders whose files have new names all the time; a lock of its own for each would leave a file for each."""

_TEMPORARY = re.compile(r"[0-9a-f]{32}\.tmp")
"""The name of a temporary file after that of the file it is for."""
_IN_USE = ", and that no other program, such as Excel or Power BI, has the file open."
_POLL_S = 0.002
"""The time after which a lock that another process has is tried again: a write takes about as long."""
_NO_FILE = "it is neither a file nor a folder but a pipe, a socket or a device"
_GRAIN_NS = 100
"""Windows rounds times of change to this."""
_TICK_NS = 10**9
"""The longest tick of a file system's clock; a deleted file's time further ahead came from a clock that was wrong."""


class LocalStorage(Storage):
    """A lake in a folder of this machine or of a mounted drive.

    A file's version is its time of change, size and inode. A write makes sure that the time of change grows, within
    a tick of the clock also across a delete, so that no version comes back.
    """

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root = root
        self._root = str(root)
        self.url = root.as_uri()
        self._lock_timeout = settings.lock_timeout

    @classmethod
    def connect(cls, lake: str, settings: Settings, *, create: bool = False) -> LocalStorage:
        """Open the lake in a folder that exists, or that is created."""
        parts = urlsplit(lake)
        elsewhere = sys.platform != "win32" and parts.netloc not in {"", "localhost"}  # on Windows a share
        if len(parts.scheme) > 1 and (elsewhere or not parts.path):
            raise ConfigurationError(
                f"{shown(str(lake))} names no folder of this machine.",
                hint="Write it as file:///folder, and mount what lies on another machine.",
            )
        root = Path(url_to_fs(lake)[1]).absolute()
        if lake.startswith("file:") and not _is_dir(root):  # as_uri() and browsers write a space as %20
            root = Path(unquote(str(root)))
        if create:
            _make_folder(root)
        if _is_file(root):
            raise ConfigurationError(
                f"{shown(str(root), 300)} is a file, and a lake is a folder.",
                hint="Name the folder in which enriched/ and raw/ lie.",
            )
        if not _is_dir(root):
            raise ConfigurationError(
                f"The lake folder {shown(str(root), 300)} does not exist.",
                hint="Create it by `luxor init` if it is the right one; it is not made silently, since a lake in the "
                "wrong place looks empty.",
            )
        return cls(root, settings)

    @property
    def filesystem(self) -> Any:
        """The machine's own filesystem."""
        return LocalFileSystem()

    def make_folder(self, path: str) -> None:
        """Make a folder, in which files can then be put by hand."""
        _make_folder(self.root / check_path(path))

    def location(self, path: str) -> str:
        """Return the file's absolute path."""
        return (self.root / check_path(path)).as_posix()

    def _at(self, path: str) -> str:
        """Return the place of a file on the disk.

        Raises
        ------
        InvalidNameError
            A link on the way to it leads out of the lake.
        """
        place = os.path.join(self._root, path)  # noqa: PTH118 - each look does this, and a Path takes longer than a look
        # Before Python 3.13 Path.resolve() fails on a link in a circle.
        if self._has_link(path) and not Path(os.path.realpath(place)).is_relative_to(os.path.realpath(self.root)):
            raise InvalidNameError(
                f"{path} in {self.url} is, or lies below, a link that leads out of the lake.",
                hint="Put the file itself there, or make the lake's own folder the link.",
            )
        return place

    def _has_link(self, path: str) -> bool:
        """Return whether a part of ``path`` may be a link; Windows has kinds that Python does not recognise."""
        below = itertools.accumulate(path.split("/"), os.path.join, initial=self._root)
        return sys.platform == "win32" or any(map(os.path.islink, itertools.islice(below, 1, None)))

    def _list(self, folder: str, unusable: list[Unusable]) -> list[BlobInfo]:
        with _translated(self, folder):
            files, folders = self._scan(folder, unusable)
            waiting = [(f"{folder}{name}", linked) for name, linked in folders]
            while waiting:
                path, linked = waiting.pop()
                if linked:
                    unusable.append(Unusable(path, "it is a link to a folder, which listings do not follow"))
                    continue
                try:
                    entries, folders = self._scan(f"{path}/", unusable)
                except OSError as error:
                    unusable.append(Unusable(path, _reason(error)))
                    continue
                files += entries
                waiting += [(f"{path}/{name}", linked) for name, linked in folders]
            return files

    def _folder(self, folder: str, unusable: list[Unusable]) -> Folder:
        with _translated(self, folder):
            files, folders = self._scan(folder, unusable)
            return Folder(files, [name for name, _ in folders])

    def _scan(self, folder: str, unusable: list[Unusable]) -> tuple[list[BlobInfo], list[tuple[str, bool]]]:
        """Return the files that lie directly in a folder, and the names of the folders, with whether each is a link."""
        files: list[BlobInfo] = []
        folders: list[tuple[str, bool]] = []
        try:
            entries = list(os.scandir(self._at(folder)))
        except (FileNotFoundError, NotADirectoryError):
            return files, folders
        for entry in entries:
            if entry.name.startswith("."):  # a temporary file of a write under way, or of a crash
                continue
            path = folder + entry.name
            linked = entry.is_symlink() or getattr(entry, "is_junction", bool)()  # from Python 3.12 on
            try:
                status = os.stat(entry.path)  # noqa: PTH116 - on Windows the entry's own has no inode
                if linked:
                    self._at(path)
            except FileNotFoundError:
                if linked:  # else it was deleted since it was listed
                    unusable.append(Unusable(path, "it is a link that leads nowhere"))
            except InvalidNameError:
                unusable.append(Unusable(path, "it is a link that leads out of the lake"))
            except OSError as error:
                unusable.append(Unusable(path, _reason(error)))
            else:
                if stat.S_ISDIR(status.st_mode):
                    folders.append((entry.name, linked))
                elif stat.S_ISREG(status.st_mode):
                    files.append(self._info(path, status))
                else:
                    unusable.append(Unusable(path, _NO_FILE))
        return files, folders

    def _status(self, path: str, place: str | None = None) -> os.stat_result | None:
        """Return the system's description of a file, whose place may be known; None if there is none, or a folder.

        Raises
        ------
        LakeError
            There is a pipe, a socket or a device, which would wait for ever to be read.
        """
        try:
            status = os.stat(place or self._at(path))  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISDIR(status.st_mode):
            return None
        if not stat.S_ISREG(status.st_mode):
            raise LakeError(f"{path} in {self.url} cannot be read: {_NO_FILE}.", hint="Move it away.")
        return status

    def _stat(self, path: str) -> BlobInfo | None:
        with _translated(self, path):
            status = self._status(path)
            return None if status is None else self._info(path, status)

    def _read(self, path: str) -> Blob:
        with _translated(self, path):
            if self._status(path) is None:
                raise self.not_found(path)
            with _patiently(Path(self._at(path)).open, "rb") as file:
                version = _version(os.fstat(file.fileno()))
                data = file.read()
                # A program that copies a file into the lake does so bit by bit; our own writes swap it.
                if _version(os.fstat(file.fileno())) != version:
                    raise self.changed(path)
            return Blob(data, version)

    @contextmanager
    def _open(self, info: BlobInfo) -> Iterator[Reader]:
        import pyarrow as pa

        # An open file keeps its content when the name is given to another one: that is the pin.
        with _translated(self, info.path):
            place = self._at(info.path)
            if self._status(info.path, place) is None:
                raise self.changed(info.path)
            try:
                file = _patiently(pa.OSFile, place)
            except FileNotFoundError:
                raise self.changed(info.path) from None
            with file:
                # Versions never come back: what the name holds now, it held when the file was opened.
                if self._stat(info.path) != info:
                    raise self.changed(info.path)
                yield _LocalReader(file)

    def _write(self, path: str, data: bytes, expected: Any) -> str:
        target = Path(self._at(path))
        lasts = not path.startswith(f"{LOCKS}/")  # a lease says nothing any more once its holder's machine has crashed
        with _translated(self, path), self._locked(path) as lock:
            _remove_empty(target)
            before = self._check(path, expected)
            target.parent.mkdir(parents=True, exist_ok=True)
            _clear_up(target)
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                    file.flush()
                    if lasts:
                        os.fsync(file.fileno())
                now = temporary.stat().st_mtime_ns  # read when it is closed: Windows sets the time on closing
                newest = lock.deleted_ns if before is None else before.st_mtime_ns
                if now <= newest and (before is not None or newest - now < _TICK_NS):
                    os.utime(temporary, ns=(newest + _GRAIN_NS, newest + _GRAIN_NS))
                version = _version(temporary.stat())
                _patiently(temporary.replace, target)
            finally:
                temporary.unlink(missing_ok=True)
            if lasts:
                _sync_folder(target.parent)
            return version

    def _delete(self, path: str, expected: Any) -> None:
        with _translated(self, path), self._locked(path) as lock:
            before = self._check(path, ANY)
            if before is not None:
                self._check(path, expected)
                lock.deleted_ns = before.st_mtime_ns
                _patiently(Path(self._at(path)).unlink, missing_ok=True)

    def _check(self, path: str, expected: Any) -> os.stat_result | None:
        """Check the stored file's version and return its description, None if there is no file.

        Raises
        ------
        ConflictError
            It is not of the expected version.
        """
        try:
            status = os.stat(self._at(path))  # noqa: PTH116
        except FileNotFoundError:
            status = None
        if status is not None and not stat.S_ISREG(status.st_mode):
            raise LakeError(
                f"{path} in {self.url} is not a file but a folder, a pipe or a device.", hint="Move it away."
            )
        if expected is not ANY and (None if status is None else _version(status)) != expected:
            raise self.conflict(path)
        return status

    @contextmanager
    def _locked(self, path: str) -> Iterator[_Lock]:
        """Keep other writers of ``path`` waiting.

        The lock's file says which process does so, and its time of change is that of the file last deleted under it.
        It is never removed: that would let in both a process that has it open and one that makes it anew.
        """
        from filelock import FileLock, Timeout

        locks = self.root / LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        place = locks / _lock_name(path)
        state = _Lock()

        def sign(descriptor: int) -> None:
            state.deleted_ns = os.fstat(descriptor).st_mtime_ns
            state.descriptor = descriptor
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"\nprocess {os.getpid()} on {platform.node()}".encode())

        lock = FileLock(place, self._lock_timeout, poll_interval=_POLL_S, preserve_lock_file=True, on_acquired=sign)
        try:
            with lock:
                try:
                    yield state
                finally:
                    os.ftruncate(state.descriptor, 0)
                    os.utime(place, ns=(state.deleted_ns, state.deleted_ns))
        except Timeout as error:
            raise FileLockedError(
                f"{path} in {self.url} has been locked by {_signature(place)} for {self._lock_timeout:g} s.",
                hint="Nothing was written. Try again when that process is done; if it is suspended, resume or end it.",
            ) from error

    def _info(self, path: str, status: os.stat_result) -> BlobInfo:
        modified = datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC)
        return BlobInfo(path, _version(status), status.st_size, modified)


def _remove_empty(folder: Path) -> None:
    """Remove a folder, and those in it, where no file is left below it: elsewhere it would be gone with its files."""
    if folder.is_dir() and not any(files for _, _, files in os.walk(folder)):
        for empty, _, _ in os.walk(folder, topdown=False):
            os.rmdir(empty)  # noqa: PTH106 - what walk gives is text


@dataclass
class _Lock:
    """A lock that is held: the descriptor of its file, and the time of change of what was last deleted under it."""

    descriptor: int = -1
    deleted_ns: int = 0


class _LocalReader:
    def __init__(self, source: Any) -> None:
        self._source = source

    def source(self) -> Any:
        """Return the file of pyarrow's."""
        return self._source

    def prefetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Do nothing: the operating system reads ahead."""


def _lock_name(path: str) -> str:
    """Return the name of the lock's file: a hash, of the path or of the folder that shares one lock.

    Earlier versions know only the former. They and this one shut each other out of tables and leases all the same.
    """
    shared = _SHARED_LOCKS.match(path)
    return f"{hashlib.sha256((shared[0] if shared else path).encode()).hexdigest()[:32]}.lock"


def _signature(lock: Path) -> str:
    """Return the process that a lock's file names as its holder."""
    try:
        with lock.open("rb", buffering=0) as file:
            file.seek(1)  # Windows may keep the first byte from being read while the lock is held
            text = file.read(200).decode(errors="replace").strip()
    except OSError:
        text = ""
    return text if text.isprintable() and text else "another process"


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AccessError(
            f"The folder {shown(str(path), 300)} cannot be made: {error.strerror}.", hint="Name another folder."
        ) from error


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or none that this system could have
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _version(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def _reason(error: OSError) -> str:
    """Return the reason why an entry of a folder could not be looked at."""
    if isinstance(error, PermissionError):
        return "this user may not look at it"
    return "it is a link in a circle" if error.errno == errno.ELOOP else error.strerror or str(error)


def _patiently(operation: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    # Windows refuses to replace or delete a file that somebody has open, and to open one that is
    # just being replaced; both are over soon.
    return (_again if sys.platform == "win32" else _once)(operation, *arguments, **options)


def _once(operation: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return operation(*arguments, **options)


def _again(operation: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    import tenacity

    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(PermissionError),
        stop=tenacity.stop_after_delay(5),
        wait=tenacity.wait_random_exponential(0.01, max=0.2),
        reraise=True,
    )
    return attempts(operation, *arguments, **options)


def _clear_up(target: Path) -> None:
    """Remove temporary files of killed writers of this file; its lock is held, so nobody is writing it now."""
    start = f".{target.name}."
    with os.scandir(target.parent) as entries:
        beside = [entry.name for entry in entries if entry.name.startswith(start)]
    for name in (name for name in beside if _TEMPORARY.fullmatch(name, len(start))):
        with contextlib.suppress(OSError):  # such as a scanner that has it open: it is never read, and can wait
            target.with_name(name).unlink()


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # a folder cannot be opened there, and NTFS journals the rename
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(storage: LocalStorage, path: str) -> Iterator[None]:
    """Turn the operating system's errors into ours; ours pass through."""
    if not storage.root.is_dir():  # an unmounted drive is no empty lake, and must not be made one
        raise ConfigurationError(
            f"The lake folder {storage.root} is gone.", hint="Mount the drive, or put the folder back where it was."
        )
    try:
        yield
    except (LakeError, ConfigurationError):
        raise
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise storage.not_found(path) from error
    except PermissionError as error:
        raise AccessError(
            f"{storage.url} does not let this user at {path}.",
            hint="Check the folder's permissions" + (_IN_USE if sys.platform == "win32" else "."),
        ) from error
    except OSError as error:
        hint = "Free some disk space." if error.errno == errno.ENOSPC else "Check the drive, then try again."
        raise LakeError(f"{path} in {storage.url}: {error.strerror or error}.", hint=hint) from error
