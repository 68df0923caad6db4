"""What is done over a bad network ends in the right content or in a clear error, and the table is intact."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from luxor_pipelines import LuxorQuery
from luxor_pipelines.errors import ConflictError, LakeError, UnreachableError
from luxor_pipelines.lake.storage import azure
from luxor_pipelines.lake.storage.base import Storage
from luxor_pipelines.lake.storage.connect import connect
from luxor_pipelines.settings import Settings
from reliability.conftest import Scale
from reliability.model import LAYOUTS, Layout, State, committed, random_batch, stored
from reliability.processes import CONTEXT, Child, compete, read_meanwhile
from reliability.proxy import FAULTS, Message, Proxy, faulty_proxy
from reliability.races import Race, check_serial

pytestmark = pytest.mark.azurite

RATE = 0.2
LIMITS = {"connect_timeout": 2, "read_timeout": 0.4, "retries": 3}
PATIENT = Settings(**LIMITS)  # type: ignore[arg-type]
HASTY = replace(PATIENT, retries=1)
"""Both so that a silence costs little; with the first, some requests run out of tries."""
PIECE = 2**16


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure, "_FIRST_WAIT_S", 0.05)


@pytest.fixture
def lake(make_rig: Any) -> Any:
    return make_rig("azurite")


@pytest.fixture
def proxy(azurite: Any, scale: Scale) -> Iterator[Proxy]:
    with faulty_proxy(azurite.url, scale.seed, RATE) as running:
        yield running


def check_told(error: LakeError) -> None:
    assert error.hint
    assert not isinstance(error, ConflictError), "nobody else writes"


def arguments(lake: Any, proxy: Proxy, azurite: Any) -> dict[str, Any]:
    return lake.arguments | {"connection_string": azurite.connection_string.replace(azurite.url, proxy.url)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_load_is_done_or_says_why_not(
    lake: Any, proxy: Proxy, azurite: Any, layout: Layout, scale: Scale, figures: Counter[str]
) -> None:
    direct = lake.storage()
    lakes = [replace(lake, arguments=arguments(lake, proxy, azurite)).query(settings=each) for each in (HASTY, PATIENT)]
    state: State = {}
    for number in range(scale.faulty_loads):
        batch = random_batch(scale.seed, number)
        after = batch.onto(state)
        lq: LuxorQuery = lakes[number % 2]
        for attempt in range(50):
            try:
                result = batch.load(lq, layout)
            except LakeError as error:
                check_told(error)
                figures["loads that ended in an error"] += 1
                committed(stored(direct) or {}, state, after, layout)
                continue
            if attempt == 0:  # a write that was taken for another's, or done twice, would be counted as unchanged
                gone, new = state.keys() - after.keys(), after.keys() - state.keys()
                assert (result.inserted, result.deleted) == (len(new), len(gone))
                assert (result.inserted + result.updated, result.unchanged) == (len(batch.rows), 0)
            break
        else:
            pytest.fail("50 loads in a row ended in an error")
        figures["loads that succeeded"] += 1
        assert stored(direct) == after
        try:
            assert stored(lq.lake.storage) == after
        except LakeError:
            figures["reads that ended in an error"] += 1
        else:
            figures["reads that succeeded"] += 1
        state = after
    figures.update(proxy.done)


@pytest.mark.parametrize(("race", "layout"), [("same month", "file"), ("overlapping keys", "month")])
def test_racing_loads_leave_what_some_serial_order_gives(
    lake: Any, proxy: Proxy, azurite: Any, race: Race, layout: Layout, scale: Scale, figures: Counter[str]
) -> None:
    spoiled = replace(lake, arguments=arguments(lake, proxy, azurite))
    done = CONTEXT.Event()
    reader = Child(read_meanwhile, lake.lake, race, layout, done)
    outcomes = compete(spoiled.lake, LIMITS, race, layout, scale.processes // 2, scale.loads)
    done.set()
    figures["loads that succeeded"] = sum(each.result is not None for each in outcomes)
    figures["loads that ended in an error"] = len(outcomes) - figures["loads that succeeded"]
    figures["reads meanwhile"] = reader.hear()
    list(reader.rest())
    state = stored(lake.storage())
    assert state is not None
    check_serial(state, outcomes, race, layout)
    figures.update(proxy.done)


# --- each operation, each fault -----------------------------------------------------------------

LONG = b"long" * PIECE
BEFORE = {"folder/long": LONG, "folder/t": b"old content"}


def parts(storage: Storage) -> tuple[bytes, bytes]:
    info = storage.stat("folder/long")
    assert info is not None
    with storage.open(info) as reader:
        reader.prefetch([(0, PIECE), (info.size - 3, info.size)])
        source = reader.source()
        start = source.read(PIECE)
        source.seek(-3, 2)
        return start, source.read()


def listed(storage: Storage) -> list[tuple[str, int]]:
    return [(info.path, info.size) for info in storage.list("folder")]


# What is asked of the storage, its answer (None: a version), what the folder then holds, which of the requests fail.
Operation = tuple[Callable[[Storage, str], Any], Any, dict[str, bytes], tuple[bytes, ...]]
OPERATIONS: dict[str, Operation] = {
    "create": (lambda lake, _: lake.write("folder/a", b"new", expected=None), None, {"folder/a": b"new"}, (b"PUT",)),
    "swap": (lambda lake, v: lake.write("folder/t", b"new", expected=v), None, {"folder/t": b"new"}, (b"PUT",)),
    "write": (lambda lake, _: lake.write("folder/t", b"new"), None, {"folder/t": b"new"}, (b"PUT",)),
    "write blocks": (
        lambda lake, v: lake.write("folder/t", LONG, expected=v),
        None,
        {"folder/t": LONG},
        (b"comp=block&", b"comp=blocklist"),
    ),
    "delete": (lambda lake, v: lake.delete("folder/t", expected=v), "none", {"folder/t": b""}, (b"DELETE",)),
    "stat": (lambda lake, _: lake.stat("folder/t").size, 11, {}, (b"HEAD",)),
    "list": (lambda lake, _: listed(lake), [("folder/long", len(LONG)), ("folder/t", 11)], {}, (b"comp=list",)),
    "read": (lambda lake, _: lake.read("folder/long").data, LONG, {}, (b"GET", b"GET")),
    "ranges": (lambda lake, _: parts(lake), (LONG[:PIECE], b"ong"), {}, (b"GET", b"GET")),
}


@pytest.fixture
def folder(lake: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, collected: None) -> Callable[[], str]:
    """Fills the folder anew, while nothing is spoiled; returns the version of ``folder/t``."""
    monkeypatch.setattr(azure, "CHUNK", PIECE)  # long files take several requests
    monkeypatch.setattr(azure, "SINGLE_PUT", PIECE)
    direct = lake.storage()

    def fill() -> str:
        proxy.spoil = lambda request: None
        proxy.done.clear()
        for info in direct.list("folder"):
            if info.path not in BEFORE:
                direct.delete(info.path)
        return [direct.write(path, data) for path, data in sorted(BEFORE.items())][-1]

    return fill


@pytest.fixture
def names(scale: Scale, request: pytest.FixtureRequest) -> list[str]:
    """The operations to try, in the short version some of them."""
    return random.Random(f"{scale.seed}/{request.node.name}").sample(sorted(OPERATIONS), scale.operations)


def contents(storage: Storage) -> dict[str, bytes]:
    return {info.path: storage.read(info.path).data for info in storage.list("folder")}


def changed(change: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in (BEFORE | change).items() if data}


def once_each(fault: str, marks: tuple[bytes, ...]) -> Callable[[Message], str | None]:
    """The fault for one request of each mark."""
    left = list(marks)

    def spoil(request: Message) -> str | None:
        line = request.head.split(b"\r\n")[0]
        for mark in left:
            if mark in line:
                left.remove(mark)
                return fault
        return None

    return spoil


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_is_survived(
    lake: Any, proxy: Proxy, azurite: Any, folder: Callable[[], str], names: list[str], fault: str
) -> None:
    storage = connect(**arguments(lake, proxy, azurite), settings=PATIENT)
    for name in names:
        work, answer, change, marks = OPERATIONS[name]
        version = folder()
        storage.stat("folder")  # connect before
        proxy.spoil = once_each(fault, marks)
        found = work(storage, version)
        assert proxy.done[fault] == len(marks), f"{name} must have met the fault"
        if answer is None:
            (path,) = change
            assert found == lake.storage().stat(path).version, name
        elif answer != "none":
            assert found == answer, name
        assert contents(lake.storage()) == changed(change), name


@pytest.mark.parametrize("fault", [*(fault for fault in FAULTS if fault != "slow"), "nonsense"])
def test_a_fault_that_stays_is_told_and_the_file_is_whole(
    lake: Any, proxy: Proxy, azurite: Any, folder: Callable[[], str], names: list[str], fault: str
) -> None:
    storage = connect(**arguments(lake, proxy, azurite), settings=replace(HASTY, read_timeout=0.2))
    for name in names:
        work, _, change, _ = OPERATIONS[name]
        version = folder()
        storage.stat("folder")
        proxy.spoil = lambda request: fault
        with pytest.raises(LakeError) as caught:
            work(storage, version)
        check_told(caught.value)
        assert contents(lake.storage()) in (BEFORE, changed(change)), name


@pytest.mark.parametrize("fault", ["cut", "429 before", "503 before"])
def test_tries_are_as_many_as_set(lake: Any, proxy: Proxy, azurite: Any, folder: Callable[[], str], fault: str) -> None:
    folder()
    storage = connect(**arguments(lake, proxy, azurite), settings=replace(PATIENT, retries=5))
    storage.stat("folder")
    proxy.spoil = once_each(fault, (b"GET",) * 5)
    assert storage.read("folder/t").data == b"old content"
    proxy.done.clear()
    proxy.spoil = lambda request: fault
    with pytest.raises(LakeError):
        storage.read("folder/t")
    assert proxy.done["requests"] == 6


def test_an_answer_that_trickles_is_given_up(lake: Any, proxy: Proxy, azurite: Any, folder: Callable[[], str]) -> None:
    folder()
    storage = connect(**arguments(lake, proxy, azurite), settings=replace(PATIENT, request_timeout=0.1))
    storage.stat("folder")
    proxy.spoil = lambda request: "slow"
    with pytest.raises(UnreachableError, match=r"no complete answer within 0\.1 s"):
        storage.read("folder/t")
