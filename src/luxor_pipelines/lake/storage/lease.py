"""A lock in the lake: a small file that one holder at a time has, on any kind of storage.

Who creates the file holds the lock and rewrites it every so often. One who finds it there looks how
long ago that was, and where the holder's promise has run out takes the file over, on condition of
the version it saw. Both times come from the storage: the lock's time of change, and that of a file
written for the purpose just then; so the machines' clocks need not agree.

A lock keeps two from doing the same work. A holder that has stalled may go on after another took
over: so that it does not write what it worked out long ago over what its heir has written since, the
loads inside `fenced` ask whether the lock is still theirs. They ask after they have read a version and
before they write on condition of it; whoever takes over in between makes that condition fail, or
writes last.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any

from luxor_pipelines.errors import ConflictError, LockLostError, LuxorError, NotFoundError
from luxor_pipelines.lake.storage.base import Storage

__all__ = ["CLOCK", "Holder", "LakeLock", "check_fence", "fenced", "holder_of"]

logger = logging.getLogger(__name__)

CLOCK = "system/locks/clock.json"
"""Written to learn what time it is at the storage."""

_GRAIN_S = 1.0
"""Azure's times of change are whole seconds, so an age may be this much too long."""
_ATTEMPTS = 5
_JOIN_S = 10.0
_DEFAULT_TTL = 90.0


@dataclass(frozen=True)
class Holder:
    """Who has a lock: what it said about itself, when it last renewed the lock, how long that counts."""

    owner: str
    about: Mapping[str, Any]
    renewed: datetime
    ttl: float


def holder_of(storage: Storage, path: str) -> Holder | None:
    """Who has the lock; None when nobody has, or its holder has given no sign of life for too long.

    Takes nothing. Where there is a lock's file, `CLOCK` is written to learn the storage's time.

    Raises
    ------
    AccessError
        The storage may be read only, so that its time is not known.
    LakeError
        The storage could not say.
    """
    for _ in range(_ATTEMPTS):
        found = _look(storage, path, _DEFAULT_TTL)
        if not isinstance(found, _Changed):
            return None if found is None or found.expired_s > 0 else found.holder
    raise ConflictError(f"{path} in {storage.url} keeps changing hands.", hint="Try again.")


@dataclass(frozen=True)
class _Found:
    """A lock's file as it was looked at, and for how long its holder's promise has run out (negative: not yet)."""

    holder: Holder
    version: str
    expired_s: float


class _Changed:
    """The lock's file was rewritten while we looked."""


def _look(storage: Storage, path: str, ttl: float) -> _Found | _Changed | None:
    """The lock's file, None when there is none; ``ttl`` counts for a file that cannot be read."""
    info = storage.stat(path)
    if info is None:
        return None
    try:
        blob = storage.read(path)
    except NotFoundError:
        return None
    if blob.version != info.version:
        return _Changed()
    owner, about, ttl = _parse(blob.data, ttl)
    age = (_time(storage) - info.modified).total_seconds()
    return _Found(Holder(owner, about, info.modified, ttl), info.version, age - ttl - _GRAIN_S)


def _time(storage: Storage) -> datetime:
    """What time it is at the storage, or was a moment ago."""
    for _ in range(_ATTEMPTS):
        storage.write(CLOCK, b"{}\n")
        found = storage.stat(CLOCK)
        if found is not None:
            return found.modified
    raise ConflictError(f"{CLOCK} in {storage.url} keeps disappearing.", hint="Find out who deletes it.")


class LakeLock:
    """A lock in the lake; as a context manager it is released at the end.

    Parameters
    ----------
    storage, path
        Where the lock's file is; the same path is the same lock, for all machines.
    ttl
        Seconds for which a renewal counts. It is renewed three times as often, by a thread.
    about
        What others are told about the holder; ready for JSON and without secrets.
    clock
        Seconds since any moment, for this holder's own doubts; default `time.monotonic`.
    """

    def __init__(
        self,
        storage: Storage,
        path: str,
        *,
        ttl: float,
        about: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.ttl = ttl
        self._storage = storage
        self._about = dict(about or {})
        self._clock = clock
        self._owner = uuid.uuid4().hex
        self._version: str | None = None
        self._renewed = 0.0
        self._lost = False
        self._stop = threading.Event()
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None

    def acquire(self) -> Holder | None:
        """Take the lock and keep it, or return who has it.

        Raises
        ------
        ConflictError
            It was taken and let go again and again while we looked.
        LakeError
            The storage could not say.
        """
        for _ in range(_ATTEMPTS):
            holder = self._try()
            if holder is not None:
                return holder
            if self.held:
                self._start()
                return None
        raise ConflictError(f"{self.path} in {self._storage.url} keeps changing hands.", hint="Try again.")

    def _try(self) -> Holder | None:
        """Set ``_version``, or return the holder, or neither when the lock changed hands meanwhile."""
        asked = self._clock()
        try:
            self._version = self._storage.write(self.path, self._content(), expected=None)
        except ConflictError:
            return self._judge()
        self._renewed = asked
        return None

    def _judge(self) -> Holder | None:
        """The present holder if its promise stands; else take the lock over."""
        found = _look(self._storage, self.path, self.ttl)
        if not isinstance(found, _Found):
            return None
        if found.expired_s <= 0:
            return found.holder
        asked = self._clock()
        try:
            self._version = self._storage.write(self.path, self._content(), expected=found.version)
        except ConflictError:
            return None
        self._renewed = asked
        about = found.holder.about
        logger.warning("%s was abandoned %.0f s ago (%s) and is taken over", self.path, found.expired_s, about)
        return None

    def _content(self) -> bytes:
        content = {"owner": self._owner, "ttl": self.ttl, "about": self._about}
        return json.dumps(content, indent=1, ensure_ascii=False).encode()

    # --- while it is held ---------------------------------------------------------------------

    @property
    def held(self) -> bool:
        """Whether the lock was taken and not released; `lost` says whether that still counts."""
        return self._version is not None

    @property
    def lost(self) -> bool:
        """Whether somebody else may have the lock by now: it was taken over, or could not be renewed in time."""
        return self._lost or (self.held and self._clock() - self._renewed > self.ttl)

    def renew(self) -> bool:
        """Tell that this holder is alive, and whether it still has the lock; the thread does so by itself.

        Raises
        ------
        LakeError
            The storage could not be reached; the lock is still held until the promise runs out.
        """
        with self._turn:
            if self._version is None or self._lost:
                return False
            asked = self._clock()
            try:
                self._version = self._storage.write(self.path, self._content(), expected=self._version)
            except ConflictError:
                found = self._ours()
                if found is None:
                    self._lost = True
                    logger.warning("%s was taken over by somebody else", self.path)
                    return False
                self._version = found
            self._renewed = asked
            return True

    def _ours(self) -> str | None:
        """The version of the lock's file if it is still ours: on disk, a busy file is a conflict too."""
        try:
            blob = self._storage.read(self.path)
        except NotFoundError:
            return None
        return blob.version if _parse(blob.data, self.ttl)[0] == self._owner else None

    def _start(self) -> None:
        if self.ttl <= 0:
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._beat, name=f"renews {self.path}", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(self.ttl / 3):
            try:
                if not self.renew():
                    return
            except LuxorError as error:
                logger.warning("%s could not be renewed: %s", self.path, error)
            except Exception:
                logger.exception("%s could not be renewed", self.path)

    def release(self) -> None:
        """Give the lock up; one that somebody else has by now is left alone.

        Failing to delete the file is logged, not raised: the promise runs out by itself.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)
            self._thread = None
        version, self._version = self._version, None
        if version is None or self._lost:
            return
        try:
            self._storage.delete(self.path, expected=version)
        except ConflictError:
            self._lost = True
            logger.warning("%s was taken over by somebody else", self.path)
        except LuxorError as error:
            logger.warning("%s could not be released and expires in %.0f s: %s", self.path, self.ttl, error)

    def __enter__(self) -> LakeLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


_fence: ContextVar[LakeLock | None] = ContextVar("luxor_fence", default=None)


@contextmanager
def fenced(lock: LakeLock) -> Iterator[None]:
    """Let the loads made inside, in this thread, write only as long as ``lock`` is still its holder's."""
    token = _fence.set(lock)
    try:
        yield
    finally:
        _fence.reset(token)


def check_fence() -> None:
    """Refuse to go on when the lock that the work is done under has been taken over; see `fenced`.

    Asks the storage, by renewing the lock: on a machine that was paused its own clock may not know.

    Raises
    ------
    LockLostError
        Somebody else has taken the lock over, or it was released.
    LakeError
        The storage could not say.
    """
    lock = _fence.get()
    if lock is not None and not lock.renew():
        raise LockLostError(
            f"{lock.path} was taken over by somebody else, who counted this one as dead: it gave no sign of life for "
            f"{lock.ttl:g} s.",
            hint="Nothing more was written; the other does the same work. `luxor runs` shows how it ended.",
        )


def _parse(data: bytes, ttl: float) -> tuple[str, Mapping[str, Any], float]:
    """Owner, about and ttl of a lock's file; of one that cannot be read, our own ttl."""
    try:
        content = json.loads(data)
        return str(content["owner"]), dict(content["about"]), float(content["ttl"])
    except (ValueError, TypeError, KeyError):
        return "unknown", {}, ttl
