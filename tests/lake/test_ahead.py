"""Work that is begun before its turn: in order, with errors at their turn, and no more of it than is said."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from luxor_pipelines.lake.concurrency import ahead


def test_results_come_in_order_whichever_is_done_first() -> None:
    third = threading.Event()

    def work(n: int) -> int:
        if n == 2:
            third.set()
        elif n == 0:
            assert third.wait(30)  # the first is not done before the third
        return n * n

    with closing(ahead(work, range(10), 3)) as results:
        assert [result() for result in results] == [n * n for n in range(10)]


def test_no_more_is_begun_than_workers_and_the_one_whose_turn_it_is() -> None:
    begun: list[int] = []
    with closing(ahead(begun.append, range(100), 4)) as results:
        for turn, result in enumerate(results):
            result()
            assert len(begun) <= turn + 1 + 4


def test_an_error_is_raised_at_its_turn_and_what_was_not_begun_is_not() -> None:
    begun: list[int] = []

    def work(n: int) -> int:
        begun.append(n)
        if n == 2:
            raise ValueError("the third")
        return n

    with closing(ahead(work, range(100), 2)) as results:
        assert [next(results)(), next(results)()] == [0, 1]
        third = next(results)
        with pytest.raises(ValueError, match="the third"):
            third()
    assert len(begun) < 10


def test_one_alone_is_done_when_it_is_asked_for_by_the_caller_itself() -> None:
    threads = []
    with closing(ahead(lambda _: threads.append(threading.current_thread()), [1], 4)) as results:
        (result,) = results
        assert threads == []
        result()
    assert threads == [threading.current_thread()]
    assert list(ahead(lambda n: n, [], 4)) == []
