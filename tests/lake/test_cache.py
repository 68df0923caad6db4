"""The cache beside loads: no thread's late answer outlives a load that has been acknowledged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from luxor_pipelines import incremental_load, save_table
from luxor_pipelines.lake.parquet.file import to_bytes
from luxor_pipelines.lake.parquet.predicates import Where
from luxor_pipelines.lake.storage.base import BlobInfo, Folder, Reader
from luxor_pipelines.lake.storage.local import LocalStorage
from luxor_pipelines.lake.table.cache import TableCache
from luxor_pipelines.lake.table.layout import DIRECTORY
from luxor_pipelines.lake.types.schema import Column, TableSchema
from luxor_pipelines.settings import Settings

PATH = f"{DIRECTORY}/t.parquet"
BY_MONTH = TableSchema("t", 1, (Column("Date", "date", False), Column("x", "number")), ("Date",), "month")


class Halting(LocalStorage):
    """A local lake in which one look, or one read, stops in the middle until it is told to go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Settings())
        self.halt = ""
        self.reached, self.go = threading.Event(), threading.Event()

    def _stop(self, what: str) -> None:
        if self.halt == what:
            self.halt = ""
            self.reached.set()
            assert self.go.wait(30)

    def stat(self, path: str) -> BlobInfo | None:
        info = super().stat(path)
        self._stop("look")
        return info

    def folder(self, path: str, **options: Any) -> Folder:
        found = super().folder(path, **options)
        self._stop("list")
        return found

    @contextmanager
    def _open(self, info: BlobInfo) -> Iterator[Reader]:
        with super()._open(info) as reader:
            self._stop("read")
            yield reader


def put(storage: LocalStorage, *values: float) -> None:
    expected = None if storage.stat(PATH) is None else storage.read(PATH).version
    storage.write(PATH, to_bytes(pa.table({"x": list(values)})), expected=expected)


def read(cache: TableCache, **options: Any) -> list[float]:
    return cache.scan("t", **options)["x"].to_pylist()


def derived(cache: TableCache) -> float:
    return cache.derive("t", "sum", lambda: sum(read(cache, keep=False)))


@contextmanager
def halted(storage: Halting, at: str, question: Callable[[], Any]) -> Iterator[list[Any]]:
    """Runs the block while another thread has stopped in the middle of a question; its answer is in the list then."""
    answer: list[Any] = []
    storage.halt = at
    thread = threading.Thread(target=lambda: answer.append(question()))
    thread.start()
    assert storage.reached.wait(30)
    yield answer
    storage.go.set()
    thread.join(30)


@pytest.mark.parametrize("at", ["look", "read"])
@pytest.mark.parametrize("ask", [read, derived])
@pytest.mark.parametrize("again", [True, False], ids=["asked meanwhile", "not asked meanwhile"])
def test_an_answer_begun_before_a_load_is_not_kept_after_it(tmp_path: Path, at: str, ask: Any, again: bool) -> None:
    storage = Halting(tmp_path)
    cache = TableCache(storage, DIRECTORY, 10**9)
    put(storage, 1.0)
    with halted(storage, at, lambda: ask(cache)) as late:
        put(storage, 2.0)
        cache.forget("t")  # as a load does before it is acknowledged
        if again:
            assert read(cache) == [2.0]
    assert late in ([[1.0]], [1.0], [[2.0]], [2.0])
    assert read(cache) == [2.0]
    assert ask(cache) in ([2.0], 2.0)
    assert cache.update() == []


@pytest.mark.parametrize("at", ["look", "read"])
def test_update_forgets_a_look_that_began_before_it(tmp_path: Path, at: str) -> None:
    storage = Halting(tmp_path)
    cache = TableCache(storage, DIRECTORY, 10**9)
    put(storage, 1.0)
    with halted(storage, at, lambda: read(cache)):
        put(storage, 2.0)
        cache.update()
    assert read(cache) == [2.0]


def test_update_beside_a_load_names_what_it_found_and_forgets_nothing_newer(tmp_path: Path) -> None:
    storage = Halting(tmp_path)
    cache = TableCache(storage, DIRECTORY, 10**9)
    put(storage, 1.0)
    assert read(cache) == [1.0]
    put(storage, 2.0)
    with halted(storage, "list", cache.update) as changed:
        cache.forget("t")
        put(storage, 3.0)
        assert read(cache) == [3.0]
    assert changed == [["t"]]
    assert cache.versions().keys() == {"t"}
    assert read(cache) == [3.0]


def test_what_is_kept_is_counted_once(tmp_path: Path) -> None:
    storage = Halting(tmp_path)
    cache = TableCache(storage, DIRECTORY, 10**9)
    put(storage, *range(1000))
    for _ in range(3):
        read(cache)
        read(cache, where=[Where("x", spans=((10.0, None),))])
    assert 0 < cache._memory.bytes <= 17_000
    put(storage, 1.0)
    assert cache.update() == ["t"]
    assert cache._memory.bytes == 0


@pytest.mark.parametrize("layout", ["file", "month"])
def test_eight_threads_and_a_loader_share_one_query(rig: Any, layout: str) -> None:
    """Nobody is answered from before a load that was acknowledged before the question; nothing raises."""
    lq, other = rig.query(), rig.query()
    schema = BY_MONTH if layout == "month" else None
    days = pd.date_range("2026-01-01", "2026-03-31")
    prices = pd.DataFrame({"Date": days, "Asset": "x"})
    loads = 8 if rig.kind == "azurite" else 16
    acknowledged, done = [0, 0], threading.Event()

    def load(number: int) -> None:
        incremental_load(lq, "t", pd.DataFrame({"Date": days, "x": float(number)}), schema=schema)
        save_table("hist_px_last", prices.assign(Last_Price=float(number)), lq=lq, mode="replace")
        acknowledged[0] = number
        if number % 3 == 0:  # and what another writes is seen after an update
            save_table("u", pd.DataFrame({"x": [float(number)]}), lq=other, mode="replace")
            acknowledged[1] = number

    def ask(seed: int) -> int:
        rng, questions = np.random.default_rng(seed), 0
        while not done.is_set() or not questions:
            questions += 1
            own, foreign = acknowledged
            match rng.integers(5):
                case 0:
                    found = set(lq.get_table("t")["x"])
                case 1:
                    found = set(lq.get_table("t", columns="x", where={"Date": (days[9], days[19])})["x"])
                case 2:
                    found = {lq.get_price("x", "2026-03-31")}
                case 3:
                    found = set(lq.get_prices("x", "2026-03-31", "2026-01-01")["Last_Price"])
                case _:
                    lq.update()
                    lq.versions()
                    found, own = set(lq.get_table("u")["x"]), foreign
            assert found, "nothing read"
            assert min(found) >= own, f"{found} although {own} was acknowledged"
        return questions

    save_table("u", pd.DataFrame({"x": [0.0]}), lq=other)
    load(1)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, seed) for seed in range(8)]
        try:
            for number in range(2, loads + 1):
                load(number)
        finally:
            done.set()
        assert all(each.result() for each in asked)
    lq.update()
    assert set(lq.get_table("t")["x"]) == {loads}
    assert lq.get_price("x", "2026-03-31") == loads
    assert lq.update() == []
