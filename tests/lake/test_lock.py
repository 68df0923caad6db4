"""One holder at a time, on every kind of storage; the dead are succeeded, the living are not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from luxor_pipelines import incremental_load, save_table
from luxor_pipelines.errors import LockLostError, UnreachableError
from luxor_pipelines.lake.storage.base import Storage
from luxor_pipelines.lake.storage.lease import CLOCK, LakeLock, check_fence, fenced, holder_of

PATH = "system/locks/runs/hist_returns/2026-10-31.json"
LONG = 3600.0

# A promise that had run out when it was made, by more than the grain of Azure's clock: such a holder
# counts as dead at once, and has no thread that says otherwise.
DEAD = -5.0


def lock(storage: Storage, ttl: float = LONG, **options: Any) -> LakeLock:
    return LakeLock(storage, PATH, ttl=ttl, **options)


def written(storage: Storage) -> bool:
    return storage.stat(PATH) is not None


def test_the_second_is_told_who_has_it_and_gets_it_after_release(rig: Any) -> None:
    first, second = lock(rig.storage(), about={"run": "abc"}), lock(rig.storage())
    assert first.acquire() is None
    with first:
        holder = second.acquire()
        assert holder is not None
        assert (holder.about, holder.ttl) == ({"run": "abc"}, LONG)
        assert not second.held
    assert not written(rig.storage()), "released: nothing is left behind"
    assert second.acquire() is None
    second.release()


def test_different_paths_are_different_locks(rig: Any) -> None:
    storage = rig.storage()
    one, other = lock(storage), LakeLock(storage, PATH.replace("10-31", "09-30"), ttl=LONG)
    assert one.acquire() is None
    assert other.acquire() is None
    one.release()
    other.release()


def test_of_many_who_try_at_once_one_gets_it(rig: Any) -> None:
    locks = [lock(rig.storage()) for _ in range(8)]
    start = threading.Barrier(len(locks))
    holders: list[Any] = [None] * len(locks)

    def take(index: int) -> None:
        start.wait()
        holders[index] = locks[index].acquire()

    threads = [threading.Thread(target=take, args=(index,)) for index in range(len(locks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.held for each in locks].count(True) == 1
    assert holders.count(None) == 1
    for each in locks:
        each.release()


def test_an_abandoned_lock_is_taken_over_by_one_and_its_holder_notices(rig: Any) -> None:
    dead = lock(rig.storage(), DEAD, about={"run": "abc"})
    assert dead.acquire() is None
    heir, late = lock(rig.storage()), lock(rig.storage())
    assert heir.acquire() is None
    assert late.acquire() is not None, "taken over once"
    assert not dead.renew()
    assert dead.lost
    dead.release()
    assert late.acquire() is not None, "who has lost the lock does not take it from its heir"
    assert heir.renew()
    assert not heir.lost
    heir.release()
    assert not written(rig.storage())


def test_of_many_heirs_one_takes_over(rig: Any) -> None:
    assert lock(rig.storage(), DEAD).acquire() is None
    heirs = [lock(rig.storage()) for _ in range(6)]
    start = threading.Barrier(len(heirs))

    def take(heir: LakeLock) -> None:
        start.wait()
        heir.acquire()

    threads = [threading.Thread(target=take, args=(heir,)) for heir in heirs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [heir.held for heir in heirs].count(True) == 1
    for heir in heirs:
        heir.release()


def test_the_thread_renews_and_stops_at_release(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = rig.storage()
    renewals = counted_writes(storage, monkeypatch)
    held = lock(storage, ttl=0.15)
    assert held.acquire() is None
    before = storage.stat(PATH)
    renewals.wait_for(4)  # the first is the taking
    assert storage.stat(PATH) != before
    thread = held._thread
    held.release()
    assert thread is not None
    assert not thread.is_alive()
    assert not written(storage)


class Count:
    def __init__(self) -> None:
        self.number = 0
        self.changed = threading.Condition()

    def add(self) -> None:
        with self.changed:
            self.number += 1
            self.changed.notify_all()

    def wait_for(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.number >= number, timeout=30)


def counted_writes(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Count:
    count, write = Count(), storage.write

    def counting(*args: Any, **options: Any) -> str:
        version = write(*args, **options)
        count.add()
        return version

    monkeypatch.setattr(storage, "write", counting)
    return count


def test_a_thread_that_finds_the_lock_taken_over_gives_up(rig: Any) -> None:
    storage = rig.storage()
    held = lock(storage, ttl=0.15)
    # Somebody whose storage is at the same place writes over it, as an heir would.
    assert held.acquire() is None
    storage.write(PATH, json.dumps({"owner": "heir", "ttl": LONG, "about": {}}).encode())
    assert held._thread is not None
    held._thread.join(30)
    assert not held._thread.is_alive()
    assert held.lost
    held.release()
    assert json.loads(storage.read(PATH).data)["owner"] == "heir"


def test_an_unreachable_storage_costs_the_lock_only_when_time_is_up(
    disk: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [0.0]
    storage = disk.storage()
    held = lock(storage, ttl=90.0, clock=lambda: seconds[0])
    assert held.acquire() is None

    def unreachable(*args: Any, **options: Any) -> str:
        raise UnreachableError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write", unreachable)
        seconds[0] = 60.0
        with pytest.raises(UnreachableError):
            held.renew()
        assert not held.lost, "60 s of the 90 that were promised"
        seconds[0] = 91.0
        assert held.lost, "others may think it dead by now"
    assert held.renew(), "nobody had taken it"
    assert not held.lost
    held.release()


@pytest.mark.parametrize("years", [-10, 10])
def test_the_machines_clock_plays_no_part(rig: Any, monkeypatch: pytest.MonkeyPatch, years: int) -> None:
    """Seen from a machine whose clock is years off, the storage's times are all years off."""
    alive, dead = lock(rig.storage()), LakeLock(rig.storage(), f"{PATH}.other", ttl=DEAD)
    assert alive.acquire() is None
    assert dead.acquire() is None
    storage = rig.storage()
    stat = storage.stat

    def shifted(path: str) -> Any:
        info = stat(path)
        return info and info._replace(modified=info.modified + timedelta(days=365 * years))

    monkeypatch.setattr(storage, "stat", shifted)
    assert lock(storage).acquire() is not None, "the living keep theirs"
    heir = LakeLock(storage, f"{PATH}.other", ttl=LONG)
    assert heir.acquire() is None, "the dead are succeeded"
    heir.release()
    alive.release()


@pytest.mark.parametrize("content", [b"", b"not json", b"[]", b'{"owner": 1, "ttl": "soon", "about": 3}'])
def test_a_lock_file_that_cannot_be_read_is_a_lock_until_it_expires(disk: Any, content: bytes) -> None:
    storage = disk.storage()
    storage.write(PATH, content)
    holder = lock(storage).acquire()
    assert holder is not None
    assert holder.owner == "unknown"
    heir = lock(storage, DEAD)  # by its own measure the file is old enough
    assert heir.acquire() is None
    heir.release()


def test_the_storages_clock_is_one_file(rig: Any) -> None:
    storage = rig.storage()
    first = lock(storage)
    assert first.acquire() is None
    for _ in range(3):
        assert lock(storage).acquire() is not None
    names = [info.path for info in storage.list("system/locks") if not info.path.endswith(".lock")]
    assert sorted(names) == sorted([CLOCK, PATH])
    first.release()


def test_a_busy_file_on_disk_is_no_loss(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The local storage calls a file that somebody else is just writing a conflict."""
    storage = disk.storage()
    held = lock(storage)
    assert held.acquire() is None
    write: Callable[..., str] = storage.write

    def busy(*args: Any, **options: Any) -> str:
        raise storage.conflict(PATH)

    monkeypatch.setattr(storage, "write", busy)
    assert held.renew()
    monkeypatch.setattr(storage, "write", write)
    assert held.renew()
    assert not held.lost
    held.release()
    assert not written(storage)


# --- who has it ---------------------------------------------------------------------------------


def test_who_has_it_can_be_asked_without_taking_it(rig: Any) -> None:
    storage = rig.storage()
    assert holder_of(storage, PATH) is None
    held = lock(rig.storage(), about={"run": "abc"})
    assert held.acquire() is None
    before = storage.stat(PATH)
    found = holder_of(storage, PATH)
    assert found is not None
    assert (found.about, found.ttl) == ({"run": "abc"}, LONG)
    assert storage.stat(PATH) == before
    held.release()
    dead = lock(rig.storage(), DEAD)
    assert dead.acquire() is None
    before = storage.stat(PATH)
    assert holder_of(storage, PATH) is None, "its promise has run out"
    assert storage.stat(PATH) == before


# --- loads under a lock -------------------------------------------------------------------------


def rows(value: float) -> pd.DataFrame:
    return pd.DataFrame({"Date": pd.to_datetime(["2026-10-30", "2026-11-30"]), "Value": value})


def succeed(rig: Any) -> None:
    """Take the lock over, as an heir does, and leave it again."""
    rig.storage().delete(PATH)


def values(rig: Any) -> list[float]:
    return list(rig.query().get_table("t")["Value"])


WRITES: dict[str, Callable[[Any, pd.DataFrame], Any]] = {
    "load": lambda lq, df: incremental_load(lq, "t", df),
    "upsert": lambda lq, df: incremental_load(lq, "t", df, unique_columns=["Date"]),
    "replace": lambda lq, df: save_table("t", df, lq=lq, mode="replace"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_who_has_lost_the_lock_writes_nothing(rig: Any, write: Callable[[Any, pd.DataFrame], Any]) -> None:
    lq = rig.query()
    incremental_load(lq, "t", rows(1.0))
    held = lock(rig.storage())
    assert held.acquire() is None
    with held, fenced(held):
        incremental_load(lq, "t", rows(2.0))
        succeed(rig)
        with pytest.raises(LockLostError, match="was taken over by somebody else"):
            write(lq, rows(3.0))
    assert values(rig) == [2.0, 2.0]
    incremental_load(lq, "t", rows(4.0))  # outside, nobody asks
    assert values(rig) == [4.0, 4.0]


def test_an_heir_that_writes_after_the_lock_was_looked_at_is_not_overwritten(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lq = rig.query()
    incremental_load(lq, "t", rows(1.0))
    held = lock(rig.storage())
    assert held.acquire() is None
    write = lq.lake.storage.write

    def stalled(path: str, *args: Any, **options: Any) -> Any:
        """The holder stalls with its data in hand: its lock is taken over, and its heir writes first."""
        monkeypatch.setattr(lq.lake.storage, "write", write)
        assert path.startswith("enriched/")
        succeed(rig)
        heir = threading.Thread(target=lambda: incremental_load(rig.query(), "t", rows(5.0)))  # which has no such lock
        heir.start()
        heir.join()
        return write(path, *args, **options)

    with held, fenced(held):
        monkeypatch.setattr(lq.lake.storage, "write", stalled)
        with pytest.raises(LockLostError):
            incremental_load(lq, "t", rows(2.0))
    assert values(rig) == [5.0, 5.0]


def test_without_a_lock_there_is_nothing_to_ask(disk: Any) -> None:
    check_fence()
    held = lock(disk.storage())
    assert held.acquire() is None
    with fenced(held):
        check_fence()
    held.release()
    with fenced(held), pytest.raises(LockLostError):
        check_fence()
