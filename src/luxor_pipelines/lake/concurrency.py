"""Concurrency: work on several things at once, work begun ahead, and attempts with waits between them."""

from __future__ import annotations

import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from luxor_pipelines.lake.storage.base import Storage

__all__ = ["ahead", "at_once", "attempts"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREADS = 8


def at_once(storage: Storage, items: Sequence[Item], work: Callable[[Item], Result]) -> list[Result]:
    """Return the result of ``work`` for each item; several at once where that is quicker."""
    workers = _THREADS if storage.concurrent else 1
    if min(workers, len(items)) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, items))


def ahead(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[Callable[[], Result], None, None]:
    """Yield, for each item in order, a function that returns the result of ``work``, or raises its error.

    ``workers`` threads work on the items whose turn is next, and no more results than these are held at once. A single
    item is worked on when its function is called.
    """
    if len(items) < 2:
        yield from (partial(work, item) for item in items)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = iter(items)
        begun: deque[Future[Result]] = deque(pool.submit(work, item) for item in itertools.islice(waiting, workers))
        while begun:
            yield begun.popleft().result
            begun.extend(pool.submit(work, item) for item in itertools.islice(waiting, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def attempts(limit: int) -> Iterator[int]:
    """Yield 1, 2, … ``limit``; before each but the first, wait for a random time that grows up to a second."""
    for attempt in range(1, limit + 1):
        if attempt > 1:
            time.sleep(random.uniform(0, min(1.0, 0.01 * 2**attempt)))  # noqa: S311 - spreads load, hides nothing
        yield attempt
