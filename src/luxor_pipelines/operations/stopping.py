"""Stop the runs of this process when it is told to end (SIGTERM), so that others need not wait for their leases.

Python runs signal handlers in the main thread only, while runs may be on others. A run on the main thread is
ended by an exception, as by Ctrl-C. Runs on other threads are closed from outside: they write nothing more, and once
the write under way has ended their record says ``failed`` and their lease is released, whatever they still compute. A
run whose write does not end within `GRACE_S` keeps its lease until that runs out. The handler that was there before
has its turn afterwards.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

__all__ = ["GRACE_S", "Stoppable", "Terminated", "handle_sigterm", "stoppable"]

logger = logging.getLogger(__name__)

GRACE_S = 8.0
"""Seconds that the writes under way have, all together; containers are killed ten seconds after the signal."""


class Terminated(SystemExit):
    """The process was told to end while a run was under way on its main thread; exit code 143."""

    hint = "Run it again."

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)

    def __str__(self) -> str:
        return "The process was told to end (SIGTERM)."


class Stoppable(Protocol):
    """A run that can be stopped from outside."""

    def stop(self, timeout: float) -> bool:
        """Write nothing more, record the failure and release the lease; False when a write did not end in time."""


_runs: dict[Stoppable, int] = {}
"""The runs under way, and the thread that each is on."""
_before: Any = None
"""The handler that ours has replaced; None while ours is not installed."""


def handle_sigterm() -> bool:
    """Have SIGTERM stop the runs of this process from now on; return whether the handler was installed just now.

    For processes whose runs are on other threads. Does nothing when called on one of them, when SIGTERM is ignored, or
    when the handler is installed already.
    """
    global _before
    if threading.current_thread() is not threading.main_thread() or _before is not None:
        return False
    if signal.getsignal(signal.SIGTERM) in (signal.SIG_IGN, None):
        return False
    _before = signal.signal(signal.SIGTERM, _on_sigterm)
    return True


def _restore() -> None:
    global _before
    signal.signal(signal.SIGTERM, _before)
    _before = None


@contextmanager
def stoppable(run: Stoppable) -> Iterator[None]:
    """Let SIGTERM stop ``run`` while the body runs."""
    installed = handle_sigterm()
    _runs[run] = threading.get_ident()
    try:
        yield
    except Terminated:
        before = _before
        if callable(before):
            before(signal.SIGTERM, None)
        raise
    finally:
        _runs.pop(run, None)
        if installed:
            _restore()


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    deadline = time.monotonic() + GRACE_S
    own_thread = threading.get_ident()
    for run, thread in list(_runs.items()):
        if thread != own_thread and not run.stop(max(deadline - time.monotonic(), 0.0)):
            logger.error("A run's write did not end in time; its lease is left to run out.")
    if own_thread in _runs.values():
        raise Terminated
    before = _before
    if callable(before):
        before(signum, frame)
    else:
        _restore()
        os.kill(os.getpid(), signum)
