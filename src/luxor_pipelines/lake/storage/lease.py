"""Lease: a small file in the lake that one holder at a time has, on any kind of storage.

Whoever creates the file holds the lease, and rewrites the file three times in each ``ttl`` seconds. Whoever meets
the file compares its time of change with that of a file written just then: both times are the storage's, so the
machines' clocks need not agree. A lease that was not renewed for ``ttl`` seconds is taken over, on condition of the
version seen.

The fence
---------
A lease keeps two from doing the same work. A holder may be suspended, lose its lease to another, and wake up at any
moment. Two rules keep it from undoing its successor's work:

1. A holder reads a file's version, *then* sees that the lease's file still names it, *then* writes on condition of
   that version (`fenced_write`).
2. A holder that took over a lease which was not released gives each file of its work that it finds unchanged a new
   version: the same bytes, on condition of the version it read (`renew_version`).

They are enough. Let B take the lease over from A. A's last successful look at it came before that, so at most one
write of A's is under way then, on condition of a version that A had read before. B looks at a file after it took over.
If A's write lands before B looks, B sees it, as if A had ended first. If it lands after B looked and before B wrote
(rule 1) or renewed the version (rule 2), B's condition fails and B looks again. After that the version that A
read is gone, versions never come back, and A's write is refused. So nothing of A's lands in a file of B's work after
B has looked at it for the last time. One write of A's into a file that is no part of B's work may still land.

Until A is accounted for, it may wake up, so later holders follow rule 2 as well: the lease's file names the lost
holders, and the files that got a new version since the last of them was lost; it stays when the lease is released. A
holder whose own last write may still land, since the lake did not say how it went, counts as lost too.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any

from luxor_pipelines.errors import ConflictError, FileLockedError, LockLostError, LuxorError, NotFoundError
from luxor_pipelines.lake.storage.base import BlobInfo, Storage

__all__ = [
    "CLOCKS",
    "LEASES",
    "Holder",
    "Lease",
    "LeaseState",
    "check_fence",
    "fenced",
    "fenced_delete",
    "fenced_replace",
    "fenced_write",
    "holder_of",
    "lease_state",
    "lease_states",
    "renew_version",
    "unlock",
]

logger = logging.getLogger(__name__)

LEASES = "system/locks"
"""The folder below which leases lie."""
CLOCKS = f"{LEASES}/clock"
"""The folder of the files that are written to learn the storage's time, and deleted at once."""

_GRAIN_S = 1.0
"""Azure's times of change are whole seconds, so an age may be this much too long."""
_ATTEMPTS = 5
_JOIN_S = 10.0
_DEFAULT_TTL = 90.0
_LONGEST_PAUSE_S = 5.0

About = Mapping[str, Any]


@dataclass(frozen=True)
class Holder:
    """The holder of a lease: its description, the time of its last renewal, and the seconds for which that counts."""

    owner: str
    about: About
    renewed: datetime
    ttl: float


@dataclass(frozen=True)
class LeaseState:
    """A lease's file as it was looked at.

    Attributes
    ----------
    holder
        None when the lease was released, and its file stays for the sake of ``lost``.
    overdue_s
        Seconds since the holder's promise ran out; negative while it counts.
    lost
        The descriptions of holders that lost the lease to another, or ended with a write whose outcome is not known,
        and that are not accounted for.
    fenced
        The files that have got a new version since the last of them was lost.
    """

    path: str
    version: str
    holder: Holder | None
    overdue_s: float
    lost: tuple[About, ...]
    fenced: frozenset[str]

    @property
    def expired(self) -> bool:
        """Whether nobody holds the lease any more."""
        return self.holder is None or self.overdue_s > 0

    @property
    def from_the_future(self) -> bool:
        """Whether the lease is dated later than now, since the storage's clock was set back: its age is unknown."""
        return self.holder is not None and self.overdue_s < -self.holder.ttl - 2 * _GRAIN_S


def lease_state(storage: Storage, path: str, *, ttl: float = _DEFAULT_TTL) -> LeaseState | None:
    """Return the lease as it is now; None when there is no such file. ``ttl`` counts for a file that cannot be read.

    The lease is not taken. If there is one, a file in `CLOCKS` is written and deleted to learn the storage's time.

    Raises
    ------
    AccessError
        The storage may only be read, so that its time is not known.
    ConflictError
        The lease keeps being rewritten.
    LakeError
        The storage could not say.
    """
    for _ in range(_ATTEMPTS):
        info = storage.stat(path)
        if info is None:
            return None
        try:
            blob = storage.read(path)
        except NotFoundError:
            return None
        if blob.version != info.version:
            continue
        content = _Content.parse(blob.data, ttl)
        age = (_storage_time(storage) - info.modified).total_seconds()
        holder = Holder(content.owner, content.about, info.modified, content.ttl) if content.owner else None
        overdue = age - content.ttl - _GRAIN_S
        return LeaseState(path, info.version, holder, overdue, content.lost, frozenset(content.fenced))
    raise _changes_hands(storage, path)


def lease_states(storage: Storage) -> list[LeaseState]:
    """Return every lease of the lake, by path."""
    paths = [info.path for info in storage.list(LEASES) if info.path.endswith(".json")]
    states = (lease_state(storage, path) for path in paths if path.count("/") > 2 and not path.startswith(CLOCKS))
    return [state for state in states if state is not None]


def holder_of(storage: Storage, path: str) -> Holder | None:
    """Return who has the lease; None when nobody has, or its holder has given no sign of life for too long.

    Raises as `lease_state` does.
    """
    state = lease_state(storage, path)
    return None if state is None or state.expired else state.holder


def unlock(
    storage: Storage,
    path: str,
    *,
    ended: bool = False,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], object] = time.sleep,
) -> bool:
    """Release a lease whose holder gives no sign of life; return whether there was anything to do.

    The next holder treats it as a takeover, since the old one may still wake up. With ``ended`` the caller vouches
    that the old holders' processes have ended, and the lease's file is deleted.

    Raises
    ------
    ConflictError
        The holder is alive, or the lease changed hands meanwhile; nothing was done.
    """
    state = lease_state(storage, path)
    if state is None:
        return False
    if not state.expired and not (state.from_the_future and _stays_silent(storage, state, clock, pause)):
        assert state.holder is not None
        raise ConflictError(
            f"{path} in {storage.url} is held: {_described(state.holder.about)} renewed it at "
            f"{state.holder.renewed:%Y-%m-%d %H:%M:%S} UTC.",
            hint=f"End that process; its lease runs out after {state.holder.ttl:.0f} s. Then try again.",
        )
    if ended:
        storage.delete(path, expected=state.version)
        return True
    if state.holder is None:
        return False
    storage.write(path, _Content.released((*state.lost, state.holder.about)).to_bytes(), expected=state.version)
    return True


class Lease:
    """A lease of the lake; as a context manager it is released at the end.

    Parameters
    ----------
    storage, path
        The place of the lease's file; the same path is the same lease, for all machines.
    ttl
        Seconds for which a renewal counts. A thread renews the lease three times in that span.
    about
        A description of the holder for others; ready for JSON and without secrets.
    clock, pause
        Seconds since any moment, and how to let some pass, to watch a holder by.
    """

    def __init__(
        self,
        storage: Storage,
        path: str,
        *,
        ttl: float,
        about: About | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.path = path
        self.ttl = ttl
        self._storage = storage
        self._about = dict(about or {})
        self._clock = clock
        self._pause = pause
        self._owner = uuid.uuid4().hex
        self._version: str | None = None
        self._lost = False
        self._closed = ""
        self._lost_holders: tuple[About, ...] = ()
        self._fenced: frozenset[str] = frozenset()
        self._unsettled: frozenset[str] = frozenset()
        self._troubles: list[str] = []
        self._stop = threading.Event()
        self._file_turn = threading.Lock()
        self._write_turn = threading.Lock()
        self._thread: threading.Thread | None = None

    # --- taking it ----------------------------------------------------------------------------

    def acquire(self, *, wait: bool = False) -> Holder | None:
        """Take the lease and keep it renewed, or return who has it.

        Parameters
        ----------
        wait
            Whether to watch the holder until it is seen to renew the lease (and is returned) or its promise has run
            out (and its lease is taken over), which takes ``ttl`` and a second at most. A lease dated in the future
            is always watched, since its age is unknown.

        Raises
        ------
        ConflictError
            The lease was taken and let go again and again meanwhile.
        LakeError
            The storage could not say.
        """
        for _ in range(_ATTEMPTS):
            if self._create():
                return None
            state = lease_state(self._storage, self.path, ttl=self.ttl)
            if state is None:
                continue
            holder = state.holder
            if holder is not None and not state.expired:
                if not (wait or state.from_the_future):
                    return holder
                if not _stays_silent(self._storage, state, self._clock, self._pause):
                    current = lease_state(self._storage, self.path, ttl=self.ttl)
                    if current is not None and not current.expired:
                        return current.holder
                    continue
            if self._take_over(state):
                return None
        raise _changes_hands(self._storage, self.path)

    def _create(self) -> bool:
        try:
            self._version = self._storage.write(self.path, self._content(), expected=None)
        except FileLockedError:
            raise
        except ConflictError:
            return False
        self._start()
        return True

    def _take_over(self, state: LeaseState) -> bool:
        """Take over a lease that was released or has expired; False when somebody else came first."""
        holder = state.holder
        self._lost_holders = state.lost if holder is None else (*state.lost, holder.about)
        self._fenced = state.fenced if holder is None else frozenset()
        try:
            self._version = self._storage.write(self.path, self._content(), expected=state.version)
        except FileLockedError:
            raise
        except ConflictError:
            self._lost_holders, self._fenced = (), frozenset()
            return False
        if holder is not None:
            logger.warning(
                "%s was abandoned by %s %.0f s ago and is taken over.",
                self.path,
                _described(holder.about),
                max(state.overdue_s, 0),
            )
        self._start()
        return True

    def _content(self) -> bytes:
        return _Content(self._owner, self.ttl, self._about, self._lost_holders, tuple(sorted(self._fenced))).to_bytes()

    # --- while it is held ---------------------------------------------------------------------

    @property
    def held(self) -> bool:
        """Whether the lease was taken, not released, and not seen to be somebody else's."""
        return self._version is not None and not self._lost

    @property
    def lost_holders(self) -> tuple[About, ...]:
        """The lost holders that may still wake up, as they described themselves."""
        return self._lost_holders

    @property
    def unsettled(self) -> frozenset[str]:
        """The files whose last write inside `fenced` may still land: the lake did not say how it went."""
        return self._unsettled

    def account(self, ended: Callable[[About], bool]) -> None:
        """Forget the lost holders that have ``ended``, so that they need no longer be guarded against."""
        self._lost_holders = tuple(about for about in self._lost_holders if not ended(about))
        if not self._lost_holders:
            self._fenced = frozenset()

    def renew(self) -> bool:
        """Renew the lease, and return whether this holder still has it; a thread calls this.

        Raises
        ------
        LakeError
            The storage could not be reached; the lease is still held until somebody takes it over.
        """
        with self._file_turn:
            if not self.held:
                return False
            try:
                self._version = self._storage.write(self.path, self._content(), expected=self._version)
            except ConflictError:
                version = self._own_version()
                self._lost = version is None
                self._version = version or self._version
            return not self._lost

    def check(self) -> None:
        """Read the lease's file, and raise if somebody else has the lease.

        Raises
        ------
        LockLostError
            Somebody else has taken the lease over, or it was released or closed.
        LakeError
            The storage could not say.
        """
        self._tell_troubles()
        if self._closed:
            raise LockLostError(self._closed, hint="Nothing more was written. Run it again.")
        if self.held and self._own_version() is None:
            self._lost = True
        if not self.held:
            raise LockLostError(
                f"{self.path} was taken over by somebody else, or unlocked: its holder gave no sign of life for "
                f"{self.ttl:g} s.",
                hint="Nothing was written after that was seen. The other does the same work; see `luxor runs`.",
            )

    def _own_version(self) -> str | None:
        """Return the version of the lease's file while it names this holder: on disk, a busy file is a conflict too."""
        try:
            blob = self._storage.read(self.path)
        except NotFoundError:
            return None
        return blob.version if _Content.parse(blob.data, self.ttl).owner == self._owner else None

    @contextmanager
    def writing(self, path: str) -> Iterator[None]:
        """Check the lease, let the body write a file, and record how that ended."""
        with self._write_turn:
            self.check()
            self._unsettled |= {path}
            try:
                yield
            except ConflictError:
                self._unsettled -= {path}
                raise
            self._unsettled -= {path}
            if self._lost_holders:
                self._fenced |= {path}

    def must_renew(self, path: str) -> bool:
        """Return whether a lost holder may still overwrite a file, which therefore needs a new version."""
        return bool(self._lost_holders) and path not in self._fenced

    def close(self, reason: str, *, timeout: float) -> bool:
        """Refuse all further writes and wait for the one under way; return whether it ended within ``timeout``."""
        self._closed = reason
        if not self._write_turn.acquire(timeout=timeout):
            return False
        self._write_turn.release()
        return True

    def _start(self) -> None:
        self._lost = False
        if self.ttl > 0:
            self._stop.clear()
            self._thread = threading.Thread(target=self._beat, name=f"renews {self.path}", daemon=True)
            self._thread.start()

    def _beat(self) -> None:
        # The holder's thread tells what goes wrong: its log is the one that a run's reader sees.
        while not self._stop.wait(self.ttl / 3):
            try:
                if not self.renew():
                    return
            except Exception as error:  # noqa: BLE001 - whatever it is, the next renewal may do
                self._troubles.append(f"{self.path} could not be renewed: {type(error).__name__}: {error}")

    def _tell_troubles(self) -> None:
        while self._troubles:
            logger.warning("%s", self._troubles.pop(0))

    # --- letting it go ------------------------------------------------------------------------

    def release(self) -> None:
        """Give the lease up; one that somebody else has by now is left alone.

        The file stays where lost holders, or a write of our own that may still land, must be guarded against.
        Failing to release is logged, not raised: the promise runs out by itself.
        """
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join(_JOIN_S)
            if thread.is_alive():
                logger.warning("%s is just being renewed, and expires in %.0f s", self.path, self.ttl)
                self._version = None
                return
        self._tell_troubles()
        with self._file_turn:
            try:
                if self.held:
                    self._give_up()
            except LuxorError as error:
                logger.warning("%s could not be released and expires in %.0f s: %s", self.path, self.ttl, error)
            self._version = None

    def _give_up(self) -> None:
        """Delete the lease's file or, where lost holders are still to be guarded against, leave it as released."""
        lost, fenced = self._lost_holders, tuple(sorted(self._fenced))
        if self._unsettled:
            lost, fenced = (*lost, self._about), ()
        for _ in range(_ATTEMPTS):
            assert self._version is not None
            try:
                if lost:
                    content = _Content.released(lost, fenced).to_bytes()
                    self._storage.write(self.path, content, expected=self._version)
                else:
                    self._storage.delete(self.path, expected=self._version)
            except ConflictError:
                self._version = self._own_version()
                if self._version is None:
                    self._lost = True
                    logger.warning("%s was taken over by somebody else", self.path)
                    return
            else:
                return
        raise _changes_hands(self._storage, self.path)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


# --- the fence ----------------------------------------------------------------------------------

_fence: ContextVar[Lease | None] = ContextVar("luxor_fence", default=None)


@contextmanager
def fenced(lease: Lease) -> Iterator[None]:
    """Let what is written inside, in this thread, be written only while ``lease`` is its holder's."""
    token = _fence.set(lease)
    try:
        yield
    finally:
        _fence.reset(token)


def check_fence() -> None:
    """Raise if somebody else has the lease that the work is done under; see `Lease.check`.

    Raises
    ------
    LockLostError, LakeError
    """
    lease = _fence.get()
    if lease is not None:
        lease.check()


def fenced_write(storage: Storage, path: str, data: bytes, *, expected: str | None) -> str:
    """Do as `Storage.write` does, on condition of a version that was read before, if the lease is still held.

    Raises
    ------
    LockLostError
        Somebody else has taken the lease over; nothing was written.
    ConflictError
        The stored file is not as expected; nothing was written.
    """
    lease = _fence.get()
    if lease is None:
        return storage.write(path, data, expected=expected)
    with lease.writing(path):
        return storage.write(path, data, expected=expected)


def fenced_delete(storage: Storage, path: str, *, expected: str) -> None:
    """Do as `Storage.delete` does, on the conditions of `fenced_write`."""
    lease = _fence.get()
    if lease is None:
        storage.delete(path, expected=expected)
        return
    with lease.writing(path):
        storage.delete(path, expected=expected)


def renew_version(storage: Storage, info: BlobInfo) -> BlobInfo:
    """Return the file, with a new version where a lost holder of the lease might still write over it; same bytes.

    Raises
    ------
    LockLostError
    ConflictError
        The file is no longer the one ``info`` names.
    """
    lease = _fence.get()
    if lease is None or not lease.must_renew(info.path):
        return info
    try:
        blob = storage.read(info.path)
    except NotFoundError as error:
        raise storage.conflict(info.path) from error
    if blob.version != info.version:
        raise storage.conflict(info.path)
    return info._replace(version=fenced_write(storage, info.path, blob.data, expected=info.version))


def fenced_replace(storage: Storage, path: str, data: bytes | None) -> bool:
    """Make a file hold exactly ``data``, or with None not be there; return whether it was otherwise.

    Raises
    ------
    LockLostError
    ConflictError
        Others kept writing the file.
    """
    for _ in range(_ATTEMPTS):
        info = storage.stat(path)
        try:
            if info is None and data is None:
                return False
            if info is None:
                assert data is not None
                fenced_write(storage, path, data, expected=None)
            elif data is None:
                fenced_delete(storage, path, expected=info.version)
            elif info.size == len(data) and storage.read(path).data == data:
                renew_version(storage, info)
                return False
            else:
                fenced_write(storage, path, data, expected=info.version)
        except (LockLostError, FileLockedError):
            raise
        except (ConflictError, NotFoundError):
            continue
        return True
    raise storage.conflict(path)


# --- the lease's file ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Content:
    """A lease's file; without an owner the lease is free."""

    owner: str
    ttl: float
    about: About
    lost: tuple[About, ...]
    fenced: tuple[str, ...]

    @classmethod
    def released(cls, lost: Iterable[About], fenced: Iterable[str] = ()) -> _Content:
        """Return the file of a lease that nobody holds."""
        return cls("", 0.0, {}, tuple(lost), tuple(fenced))

    @classmethod
    def parse(cls, data: bytes, ttl: float) -> _Content:
        """Parse a lease's file; one that cannot be read counts as somebody's, for our own ``ttl``."""
        try:
            content = json.loads(data)
            lost = tuple(dict(about) for about in content.get("lost", ()))
            fenced = tuple(map(str, content.get("fenced", ())))
            promise = float(content["ttl"])
            if math.isfinite(promise):
                return cls(str(content["owner"]), promise, dict(content["about"]), lost, fenced)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass
        return cls("unknown", ttl, {}, (), ())

    def to_bytes(self) -> bytes:
        content = {"owner": self.owner, "ttl": self.ttl, "about": self.about}
        if self.lost:
            content |= {"lost": self.lost, "fenced": self.fenced}
        return json.dumps(content, indent=1, ensure_ascii=False).encode()


def _storage_time(storage: Storage) -> datetime:
    """Return the storage's time: that of a new file, since a rewritten file may keep a time of the future."""
    path = f"{CLOCKS}/{uuid.uuid4().hex}.json"
    storage.write(path, b"{}\n", expected=None)
    try:
        info = storage.stat(path)
    finally:
        storage.delete(path)
    if info is None:
        raise ConflictError(f"{path} in {storage.url} disappeared at once.", hint="Find out what deletes it.")
    return info.modified


def _stays_silent(
    storage: Storage, state: LeaseState, clock: Callable[[], float], pause: Callable[[float], object]
) -> bool:
    """Watch a lease as long as its holder's promise may last; return whether it was not renewed meanwhile."""
    assert state.holder is not None
    promise = state.holder.ttl + _GRAIN_S
    deadline = clock() + min(-state.overdue_s, promise)
    while (remaining := deadline - clock()) > 0:
        pause(min(remaining, promise / 10, _LONGEST_PAUSE_S))
        info = storage.stat(state.path)
        if info is None or info.version != state.version:
            return False
    return True


def _described(about: About) -> str:
    """Return a holder in words."""
    words = [f"run {about['run']}"] if "run" in about else []
    words += [f"process {about['process']} on {about['host']}"] if {"process", "host"} <= about.keys() else []
    return ", ".join(words) or "somebody unknown"


def _changes_hands(storage: Storage, path: str) -> ConflictError:
    return ConflictError(f"{path} in {storage.url} keeps changing hands.", hint="Try again.")
