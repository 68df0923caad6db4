"""Work that is begun a few items before its turn comes."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

__all__ = ["ahead"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[Callable[[], Result], None, None]:
    """For each item, in order, a function that gives ``work`` of it, or raises what that raised.

    ``workers`` threads are busy with the items whose turn is next, and no more than these are held at once. Of one
    item alone the work is done when it is asked for.
    """
    if len(items) < 2:
        yield from (partial(work, item) for item in items)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        rest = iter(items)
        begun: deque[Future[Result]] = deque(pool.submit(work, item) for item in itertools.islice(rest, workers))
        while begun:
            yield begun.popleft().result
            begun.extend(pool.submit(work, item) for item in itertools.islice(rest, 1))
    finally:
        pool.shutdown(cancel_futures=True)
