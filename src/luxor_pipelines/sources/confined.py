"""A child process that reads workbooks and Parquet files, within bounds that the operating system holds.

The libraries that read these formats decide for themselves how much memory and time a file takes; a file of a
kilobyte can make them take all there is, or crash. Text is read in this process, piece by piece.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luxor_pipelines.errors import CorruptFileError
from luxor_pipelines.sources.limits import Limits

__all__ = ["Confined"]

_READER = Path(__file__).with_name("confined_reader.py")
_PIECE = 2**20
_KEPT = 100_000_000
"""Bytes that a child may keep from one file to the next; one that has more is ended, and they are free at once."""
_HEAD = struct.Struct(">cQ")
_NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)


class _DiedError(Exception):
    """The child ended before its answer did."""


class Confined:
    """The child process: started when the first file comes, and anew after one that it did not survive.

    Used by one thread, as a context manager.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._child: subprocess.Popen[bytes] | None = None
        self._file = ""
        self._opened_last = ("", b"")
        self._timer: threading.Timer | None = None
        self._late = False

    def __enter__(self) -> Confined:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def open(self, kind: str, data: bytes, file: str) -> dict[str, Any]:
        """Hand over a file, a ``workbook`` or ``parquet``, and return the child's description of it.

        Raises
        ------
        CorruptFileError
            It cannot be read, or not within the limits.
        """
        if 2 * len(data) > self._limits.memory:
            raise self._limits.refused(file, f"has {len(data):,} bytes, too many for a file of its kind", "memory")
        used = self._child is not None
        self._file, self._opened_last = file, (kind, data)
        try:
            return self._opened(kind, data)
        except (_DiedError, MemoryError):
            if self._late or not used:
                raise self._beyond() from None
        # Memory that earlier files left occupied may be the reason.
        self._stop()
        try:
            return self._opened(kind, data)
        except (_DiedError, MemoryError):
            raise self._beyond() from None

    def read(self, *, whole: bool, **request: Any) -> Iterator[bytes]:
        """Yield what the request gives of the file that was opened last.

        Parameters
        ----------
        whole
            Whether each piece comes as the child sent it, or in parts of a megabyte at most.
        """
        try:
            if self._child is None:
                self._opened(*self._opened_last)
            self._start()
            self._send(json.dumps(request).encode() + b"\n")
            while (frame := self._frame())[0] != b".":
                yield from self._payload(frame[1], whole=whole)
            self._stop_if_large(json.loads(self._receive(frame[1])))
        except (_DiedError, MemoryError):
            raise self._beyond() from None
        except GeneratorExit:
            self._stop()  # what it has not sent yet would be taken for the next answer
            raise
        finally:
            self._disarm()

    def _opened(self, kind: str, data: bytes) -> dict[str, Any]:
        self._start()
        self._send(json.dumps({"kind": kind, "size": len(data)}).encode() + b"\n")
        for start in range(0, len(data), _PIECE):
            self._send(data[start : start + _PIECE])
        _, size = self._frame()
        description: dict[str, Any] = json.loads(b"".join(self._payload(size, whole=True)))
        self._disarm()
        return description

    def _start(self) -> None:
        """Have a child, and a timer that ends it."""
        self._disarm()
        if self._child is None:
            command = [sys.executable, "-I", "-S", str(_READER), json.dumps(sys.path), str(self._limits.memory)]
            self._child = subprocess.Popen(  # noqa: S603  our own script; what it reads is data
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={} if os.name == "posix" else None,  # it needs no secret that the environment may hold
                creationflags=_NO_WINDOW,
            )
        self._late = False
        self._timer = threading.Timer(self._limits.seconds, self._end_late, [self._child])
        self._timer.daemon = True
        self._timer.start()

    def _end_late(self, child: subprocess.Popen[bytes]) -> None:
        self._late = True
        child.kill()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _stop(self) -> None:
        self._disarm()
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _stop_if_large(self, answer: dict[str, Any]) -> None:
        if answer["kept"] > _KEPT:
            self._stop()

    def _send(self, data: bytes) -> None:
        child = self._child
        assert child is not None
        assert child.stdin is not None
        try:
            child.stdin.write(data)
            child.stdin.flush()
        except OSError as error:
            raise _DiedError from error

    def _receive(self, size: int) -> bytes:
        child = self._child
        assert child is not None
        assert child.stdout is not None
        data = child.stdout.read(size)
        if len(data) < size:
            raise _DiedError
        return data

    def _frame(self) -> tuple[bytes, int]:
        """Return the letter and the size of the next frame; an error is raised."""
        letter, size = _HEAD.unpack(self._receive(_HEAD.size))
        if letter == b"E":
            failure = json.loads(self._receive(size))
            if "MemoryError" in failure["kind"]:
                raise MemoryError
            self._stop_if_large(failure)
            raise CorruptFileError(
                f"{self._file} cannot be read as what its name says: {failure['kind']}: "
                f"{failure['message'].strip().rstrip('.')}.",
                hint="Replace the file by a good copy, or remove it.",
            )
        return letter, size

    def _payload(self, size: int, *, whole: bool) -> Iterator[bytes]:
        while size:
            part = size if whole else min(size, _PIECE)
            yield self._receive(part)
            size -= part

    def _beyond(self) -> CorruptFileError:
        late = self._late
        self._stop()
        if late:
            return self._limits.refused(self._file, f"took more than {self._limits.seconds:g} s to read", "seconds")
        return self._limits.refused(
            self._file, f"takes more than {self._limits.memory / 1e6:,.0f} MB of memory to read", "memory"
        )
