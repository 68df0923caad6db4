"""One holder at a time, on every kind of storage; the dead are succeeded, the living are not, the woken do no harm."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from luxor_pipelines import incremental_load, save_table
from luxor_pipelines.errors import ConflictError, LockLostError, UnreachableError
from luxor_pipelines.lake.storage import lease as leases
from luxor_pipelines.lake.storage.base import Storage
from luxor_pipelines.lake.storage.lease import (
    CLOCKS,
    Lease,
    check_fence,
    fenced,
    fenced_replace,
    fenced_write,
    holder_of,
    lease_state,
    lease_states,
    unlock,
)

PATH = "system/locks/runs/hist_returns/2026-10-31.json"
LONG = 3600.0

# A promise that had run out when it was made, by more than the grain of Azure's clock: such a holder
# counts as dead at once, and has no thread that says otherwise.
DEAD = -5.0


MADE: list[Lease] = []


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    while MADE:
        made = MADE.pop()
        made._stop.set()
        if made._thread is not None:
            made._thread.join(30)


def lease(storage: Storage, ttl: float = LONG, path: str = PATH, **options: Any) -> Lease:
    MADE.append(Lease(storage, path, ttl=ttl, **options))
    return MADE[-1]


def taken(storage: Storage, ttl: float = LONG, **options: Any) -> Lease:
    held = lease(storage, ttl, **options)
    assert held.acquire() is None
    return held


def written(storage: Storage) -> bool:
    return storage.stat(PATH) is not None


def content(storage: Storage) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(storage.read(PATH).data)
    return parsed


# --- taking and giving up -----------------------------------------------------------------------


def test_the_second_is_told_who_has_it_and_gets_it_after_release(rig: Any) -> None:
    first, second = lease(rig.storage(), about={"run": "abc"}), lease(rig.storage())
    assert first.acquire() is None
    with first:
        holder = second.acquire()
        assert holder is not None
        assert (holder.about, holder.ttl) == ({"run": "abc"}, LONG)
        assert not second.held
    assert not written(rig.storage()), "released: nothing is left behind"
    assert second.acquire() is None
    second.release()


def test_different_paths_are_different_leases(rig: Any) -> None:
    storage = rig.storage()
    one, other = taken(storage), lease(storage, path=PATH.replace("10-31", "09-30"))
    assert other.acquire() is None
    one.release()
    other.release()


def all_at_once(candidates: list[Lease]) -> list[Any]:
    start = threading.Barrier(len(candidates))
    holders: list[Any] = [None] * len(candidates)

    def take(index: int) -> None:
        start.wait()
        holders[index] = candidates[index].acquire()

    threads = [threading.Thread(target=take, args=(index,)) for index in range(len(candidates))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return holders


def test_of_many_who_try_at_once_one_gets_it(rig: Any) -> None:
    candidates = [lease(rig.storage()) for _ in range(8)]
    holders = all_at_once(candidates)
    assert [candidate.held for candidate in candidates].count(True) == 1
    assert holders.count(None) == 1
    for candidate in candidates:
        candidate.release()


def test_of_many_heirs_one_takes_over(rig: Any) -> None:
    taken(rig.storage(), DEAD)
    heirs = [lease(rig.storage()) for _ in range(6)]
    all_at_once(heirs)
    assert [heir.held for heir in heirs].count(True) == 1
    for heir in heirs:
        heir.release()


def test_an_abandoned_lease_is_taken_over_by_one_and_its_holder_notices(rig: Any) -> None:
    dead = taken(rig.storage(), DEAD, about={"run": "abc"})
    heir, late = lease(rig.storage()), lease(rig.storage())
    assert heir.acquire() is None
    assert heir.lost_holders == ({"run": "abc"},)
    assert late.acquire() is not None, "taken over once"
    assert not dead.renew()
    assert not dead.held
    dead.release()
    assert late.acquire() is not None, "who has lost the lease does not take it from its heir"
    assert heir.renew()
    assert heir.held
    heir.release()


def test_a_takeover_that_another_wins_is_told_as_such(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    taken(disk.storage(), DEAD, about={"run": "dead"})
    storage = disk.storage()
    write, others = storage.write, []

    def beaten(path: str, data: bytes, **options: Any) -> str:
        if path == PATH and options["expected"] is not None and not others:
            others.append(taken(disk.storage(), about={"run": "other"}))
        return str(write(path, data, **options))

    monkeypatch.setattr(storage, "write", beaten)
    late = lease(storage)
    holder = late.acquire()
    assert holder is not None
    assert holder.about == {"run": "other"}
    assert late.lost_holders == ()
    others[0].release()


def test_who_meets_a_lease_that_keeps_changing_hands_gives_up(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = disk.storage()
    monkeypatch.setattr(leases, "lease_state", lambda *_, **__: None)
    storage.write(PATH, b"{}")
    with pytest.raises(ConflictError, match="keeps changing hands"):
        lease(storage).acquire()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b"[]",
        b'{"owner": 1, "ttl": "soon", "about": 3}',
        b'{"owner": "x", "ttl": NaN, "about": {}}',
        b'{"owner": "x", "ttl": 1, "about": {}, "lost": [3]}',
        b"[" * 100_000,
    ],
)
def test_a_file_that_cannot_be_read_is_a_lease_until_it_expires(disk: Any, data: bytes) -> None:
    storage = disk.storage()
    storage.write(PATH, data)
    holder = lease(storage).acquire()
    assert holder is not None
    assert holder.owner == "unknown"
    heir = lease(storage, DEAD)  # by its own measure the file is old enough
    assert heir.acquire() is None
    assert len(heir.lost_holders) == 1
    heir.release()


def test_a_release_that_meets_the_renewal_of_its_own_thread_releases_all_the_same(disk: Any) -> None:
    storage = disk.storage()
    held = taken(storage)
    stale = held._version
    assert held.renew()
    held._version = stale
    held.release()
    assert not written(storage)


def test_a_release_that_meets_another_holder_leaves_the_lease_alone(
    disk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    storage = disk.storage()
    held = taken(storage)
    storage.write(PATH, json.dumps({"owner": "heir", "ttl": LONG, "about": {}}).encode())
    held.release()
    assert content(storage)["owner"] == "heir"
    assert "was taken over by somebody else" in caplog.text


def test_a_release_that_fails_is_told_and_not_raised(
    disk: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage = disk.storage()
    held = taken(storage)

    def unreachable(*args: Any, **options: Any) -> None:
        raise UnreachableError("no answer")

    monkeypatch.setattr(storage, "delete", unreachable)
    held.release()
    assert "could not be released and expires in 3600 s: no answer" in caplog.text


# --- whether a holder is alive ------------------------------------------------------------------


@pytest.mark.parametrize(("beyond", "expired"), [(-1.0, False), (0.0, False), (1e-6, True)])
def test_a_holder_is_dead_when_its_promise_and_the_grain_of_the_clock_are_over(
    disk: Any, monkeypatch: pytest.MonkeyPatch, beyond: float, expired: bool
) -> None:
    held = taken(disk.storage(), 90.0)
    storage = disk.storage()
    renewed = storage.stat(PATH).modified
    monkeypatch.setattr(leases, "_storage_time", lambda _: renewed + timedelta(seconds=90 + 1 + beyond))
    assert (holder_of(storage, PATH) is None) is expired
    heir = lease(storage)
    assert (heir.acquire() is None) is expired
    heir.release()
    held.release()


@pytest.mark.parametrize("years", [-10, 10])
def test_the_machines_clock_plays_no_part(rig: Any, monkeypatch: pytest.MonkeyPatch, years: int) -> None:
    """Seen from a machine whose clock is years off, the storage's times are all years off."""
    alive = taken(rig.storage())
    dead = lease(rig.storage(), DEAD, f"{PATH}.other")
    assert dead.acquire() is None
    storage = rig.storage()
    stat = storage.stat

    def shifted(path: str) -> Any:
        info = stat(path)
        return info and info._replace(modified=info.modified + timedelta(days=365 * years))

    monkeypatch.setattr(storage, "stat", shifted)
    assert lease(storage).acquire() is not None, "the living keep theirs"
    heir = lease(storage, path=f"{PATH}.other")
    assert heir.acquire() is None, "the dead are succeeded"
    heir.release()
    alive.release()


def in_the_future(disk: Any, path: str) -> None:
    """Date a file an hour ahead, as one that was written before the clock was set back."""
    file = disk.storage().root / path
    later = file.stat().st_mtime + 3600
    os.utime(file, (later, later))


def test_a_clock_file_of_the_future_plays_no_part(disk: Any) -> None:
    storage = disk.storage()
    storage.write("system/locks/clock.json", b"{}\n")
    in_the_future(disk, "system/locks/clock.json")
    held = taken(storage)
    assert holder_of(storage, PATH) is not None
    assert lease(disk.storage()).acquire() is not None
    held.release()


def test_asking_the_storages_time_leaves_nothing_behind(rig: Any) -> None:
    storage = rig.storage()
    held = taken(storage)
    for _ in range(3):
        assert lease(storage).acquire() is not None
    assert not storage.list(CLOCKS)
    held.release()


class Watch:
    """The time that a watcher sees pass, and what happens meanwhile."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.seconds = 0.0
        self.pauses: list[float] = []
        self.meanwhile = meanwhile

    def options(self) -> dict[str, Any]:
        return {"clock": lambda: self.seconds, "pause": self.pause}

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += seconds
        self.meanwhile()


def test_who_waits_skips_a_holder_that_renews(rig: Any) -> None:
    held = taken(rig.storage(), about={"run": "abc"})
    watch = Watch(held.renew)
    holder = lease(rig.storage(), **watch.options()).acquire(wait=True)
    assert holder is not None
    assert holder.about == {"run": "abc"}
    assert len(watch.pauses) == 1
    held.release()


def test_who_waits_succeeds_a_holder_that_gives_no_sign_of_life(rig: Any) -> None:
    taken(rig.storage(), 60.0, about={"run": "abc"})._stop.set()
    watch = Watch()
    heir = lease(rig.storage(), **watch.options())
    assert heir.acquire(wait=True) is None
    assert heir.lost_holders == ({"run": "abc"},)
    assert 50.0 < watch.seconds <= 61.0, "the rest of its promise, and the clock's grain"
    assert max(watch.pauses) <= 5.0
    heir.release()


def test_who_waits_gets_a_lease_that_is_released_meanwhile(rig: Any) -> None:
    held = taken(rig.storage())
    patient = lease(rig.storage(), **Watch(held.release).options())
    assert patient.acquire(wait=True) is None
    assert patient.lost_holders == ()
    patient.release()


@pytest.mark.parametrize("alive", [True, False])
def test_a_lease_of_the_future_is_watched_since_its_age_says_nothing(disk: Any, alive: bool) -> None:
    held = taken(disk.storage(), 90.0)
    held._stop.set()
    in_the_future(disk, PATH)
    state = lease_state(disk.storage(), PATH)
    assert state is not None
    assert (state.expired, state.from_the_future) == (False, True)
    watch = Watch(held.renew if alive else lambda: None)
    other = lease(disk.storage(), **watch.options())
    assert (other.acquire() is None) is not alive
    if not alive:
        assert watch.seconds == 91.0
    other.release()
    held.release()


def test_who_has_it_can_be_asked_without_taking_it(rig: Any) -> None:
    storage = rig.storage()
    assert holder_of(storage, PATH) is None
    held = taken(rig.storage(), about={"run": "abc"})
    before = storage.stat(PATH)
    holder = holder_of(storage, PATH)
    assert holder is not None
    assert (holder.about, holder.ttl) == ({"run": "abc"}, LONG)
    assert storage.stat(PATH) == before
    held.release()
    taken(rig.storage(), DEAD)
    before = storage.stat(PATH)
    assert holder_of(storage, PATH) is None, "its promise has run out"
    assert storage.stat(PATH) == before


# --- renewing -----------------------------------------------------------------------------------


class Turns(threading.Event):
    """The event that ends a renewing thread: it comes after some turns, and keeps how long each was to be."""

    def __init__(self, turns: int) -> None:
        super().__init__()
        self.left = turns
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        self.left -= 1
        return self.left < 0


def test_a_lease_is_renewed_three_times_in_its_promise(rig: Any) -> None:
    storage = rig.storage()
    held = lease(storage, 90.0)
    held._stop = turns = Turns(4)
    renewals = []
    renew = held.renew
    held.renew = lambda: renewals.append(renew()) or True  # type: ignore[method-assign, func-returns-value]
    assert held.acquire() is None
    assert held._thread is not None
    held._thread.join(30)
    assert turns.waits == [30.0] * 5
    assert renewals == [True] * 4
    held.release()
    assert not written(storage)


def test_a_renewal_that_fails_is_told_and_the_next_one_comes(
    disk: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage = disk.storage()
    held = lease(storage, 90.0)
    held._stop = Turns(3)
    write, problems = storage.write, [UnreachableError("no answer"), RuntimeError("what is this")]
    versions = []

    def failing(path: str, data: bytes, *, expected: Any) -> str:
        if expected is not None and problems:
            raise problems.pop(0)
        versions.append(str(write(path, data, expected=expected)))
        return versions[-1]

    monkeypatch.setattr(storage, "write", failing)
    assert held.acquire() is None
    assert held._thread is not None
    held._thread.join(30)
    assert not problems
    assert held.held
    assert len(versions) == 2, "the lease was taken, and the third renewal wrote it again"
    assert held._version == versions[-1]
    assert not caplog.records, "a thread of its own would tell it outside the run's log"
    held.check()
    assert [record.message for record in caplog.records] == [
        f"{PATH} could not be renewed: UnreachableError: no answer",
        f"{PATH} could not be renewed: RuntimeError: what is this",
    ]
    held.release()


def test_a_thread_that_sees_the_lease_taken_over_gives_up(rig: Any) -> None:
    storage = rig.storage()
    held = lease(storage, 90.0)
    held._stop = turns = Turns(100)
    renew = held.renew

    def robbed() -> bool:
        storage.write(PATH, json.dumps({"owner": "heir", "ttl": LONG, "about": {}}).encode())
        return renew()

    held.renew = robbed  # type: ignore[method-assign]
    assert held.acquire() is None
    assert held._thread is not None
    held._thread.join(30)
    assert not held._thread.is_alive()
    assert len(turns.waits) == 1
    assert not held.held
    held.release()
    assert content(storage)["owner"] == "heir"


def test_a_busy_file_on_disk_is_no_loss(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The local storage calls a file that somebody else is just writing a conflict."""
    storage = disk.storage()
    held = taken(storage)
    write: Callable[..., str] = storage.write

    def busy(*args: Any, **options: Any) -> str:
        raise storage.conflict(PATH)

    monkeypatch.setattr(storage, "write", busy)
    assert held.renew()
    monkeypatch.setattr(storage, "write", write)
    assert held.renew()
    assert held.held
    held.release()
    assert not written(storage)


# --- unlocking ----------------------------------------------------------------------------------


def test_the_lease_of_a_live_holder_is_not_unlocked(rig: Any) -> None:
    held = taken(rig.storage(), about={"run": "abc", "process": 7, "host": "box"})
    with pytest.raises(ConflictError, match="is held: run abc, process 7 on box renewed it at "):
        unlock(rig.storage(), PATH)
    assert held.renew()
    held.release()
    assert not unlock(rig.storage(), PATH), "there is none"


def test_an_unlocked_lease_is_free_and_the_next_holder_treats_it_as_a_takeover(rig: Any) -> None:
    taken(rig.storage(), DEAD, about={"run": "abc"})
    assert unlock(rig.storage(), PATH)
    assert holder_of(rig.storage(), PATH) is None
    assert not unlock(rig.storage(), PATH), "once is enough"
    heir = taken(rig.storage())
    assert heir.lost_holders == ({"run": "abc"},)
    heir.release()
    assert content(rig.storage())["lost"] == [{"run": "abc"}], "a release keeps the list"
    assert unlock(rig.storage(), PATH, ended=True)
    assert not written(rig.storage())


def test_a_lease_of_the_future_can_be_unlocked(disk: Any) -> None:
    held = taken(disk.storage(), 90.0)
    held._stop.set()
    in_the_future(disk, PATH)
    with pytest.raises(ConflictError, match="is held"):
        unlock(disk.storage(), PATH, **Watch(held.renew).options())
    in_the_future(disk, PATH)
    assert unlock(disk.storage(), PATH, **Watch().options())
    assert not held.renew()


def test_all_leases_are_listed(rig: Any) -> None:
    storage = rig.storage()
    held = taken(storage, about={"run": "abc"})
    dead = lease(storage, DEAD, "system/locks/tables/prices.json")
    assert dead.acquire() is None
    storage.write("system/locks/clock.json", b"{}")  # left by an older version
    states = lease_states(storage)
    assert [(state.path, state.expired) for state in states] == [(PATH, False), (dead.path, True)]
    held.release()


# --- writes under a lease -----------------------------------------------------------------------


def rows(value: float, *months: int) -> pd.DataFrame:
    return pd.DataFrame({"Date": [pd.Timestamp(2026, month, 28) for month in months or (10, 11)], "Value": value})


def split(rig: Any, *months: int) -> None:
    """Make the table ``t`` a file a month."""
    from luxor_pipelines.lake.types.schema import Column, TableSchema

    columns = (Column("Date", "date", False), Column("Value", "number"))
    schema = TableSchema(name="t", version=1, columns=columns, key=("Date",), partition="month")
    incremental_load(rig.query(), "t", rows(1.0, *months), schema=schema)


def succeed(rig: Any) -> Lease:
    """Take the lease over, as an heir does that takes its holder for dead."""
    state = lease_state(rig.storage(), PATH)
    assert state is not None
    rig.storage().write(PATH, json.dumps({**content(rig.storage()), "ttl": DEAD}).encode(), expected=state.version)
    return taken(rig.storage(), about={"run": "heir"})


def values(rig: Any) -> list[float]:
    return list(rig.query().get_table("t")["Value"])


WRITES: dict[str, Callable[[Any, pd.DataFrame], Any]] = {
    "load": lambda lq, df: incremental_load(lq, "t", df),
    "upsert": lambda lq, df: incremental_load(lq, "t", df, unique_columns=["Date"]),
    "replace": lambda lq, df: save_table("t", df, lq=lq, mode="replace"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_who_has_lost_the_lease_writes_nothing(rig: Any, write: Callable[[Any, pd.DataFrame], Any]) -> None:
    lq = rig.query()
    incremental_load(lq, "t", rows(1.0))
    with taken(rig.storage()) as held, fenced(held):
        incremental_load(lq, "t", rows(2.0))
        rig.storage().delete(PATH)
        with pytest.raises(LockLostError, match="was taken over by somebody else"):
            write(lq, rows(3.0))
    assert values(rig) == [2.0, 2.0]
    incremental_load(lq, "t", rows(4.0))  # outside, nobody asks
    assert values(rig) == [4.0, 4.0]


def stall(monkeypatch: pytest.MonkeyPatch, storage: Storage, when: Callable[[str], bool], then: Any) -> None:
    """Have the holder stall just before it writes such a file, while ``then`` happens; its own look is over."""
    write = storage.write

    def stalled(path: str, data: bytes, **options: Any) -> str:
        if when(path):
            monkeypatch.setattr(storage, "write", write)
            thread = threading.Thread(target=then)  # which is under no lease
            thread.start()
            thread.join()
        return str(write(path, data, **options))

    monkeypatch.setattr(storage, "write", stalled)


def fenced_load(rig: Any, held: Lease, df: pd.DataFrame) -> Any:
    with fenced(held):
        return incremental_load(rig.query(), "t", df)


@pytest.mark.parametrize("stored", [5.0, 1.0], ids=["the heir writes", "the heir finds its rows stored"])
def test_a_woken_holder_does_not_undo_what_its_heir_has_seen_to(
    rig: Any, monkeypatch: pytest.MonkeyPatch, stored: float
) -> None:
    incremental_load(rig.query(), "t", rows(1.0))
    lq, held, results = rig.query(), taken(rig.storage()), []

    def heir() -> None:
        with succeed(rig) as successor:
            results.append(fenced_load(rig, successor, rows(stored)))

    stall(monkeypatch, lq.lake.storage, lambda path: path.startswith("enriched/"), heir)
    with fenced(held), pytest.raises(LockLostError):
        incremental_load(lq, "t", rows(2.0))
    assert values(rig) == [stored, stored]
    assert results[0].changed is (stored != 1.0)


def test_each_partition_is_written_only_after_a_look_at_the_lease(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder is succeeded between two of its writes, with the next partitions read ahead."""
    split(rig, *range(1, 8))
    lq, held = rig.query(), taken(rig.storage())

    def heir() -> None:
        with succeed(rig) as successor:
            fenced_load(rig, successor, rows(1.0, *range(4, 8)))

    stall(monkeypatch, lq.lake.storage, lambda path: "month=2026-03" in path, heir)
    with fenced(held), pytest.raises(LockLostError):
        incremental_load(lq, "t", rows(2.0, *range(1, 8)))
    assert values(rig) == [2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0], (
        "the third write was under way, and no part of the heir's"
    )


def test_the_lease_is_looked_at_after_the_version_is_read(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a conflict the holder looks at the partition again: succeeded meanwhile, it must not write over the heir."""
    incremental_load(rig.query(), "t", rows(1.0))
    lq, held = rig.query(), taken(rig.storage())
    peek, write = lq.lake.storage.peek, lq.lake.storage.write

    def another(path: str, data: bytes, **options: Any) -> str:
        monkeypatch.setattr(lq.lake.storage, "write", write)
        thread = threading.Thread(target=lambda: incremental_load(rig.query(), "t", rows(3.0)))
        thread.start()
        thread.join()
        monkeypatch.setattr(lq.lake.storage, "peek", succeeded)
        return str(write(path, data, **options))

    def succeeded(paths: Any) -> Any:
        monkeypatch.setattr(lq.lake.storage, "peek", peek)

        def heir() -> None:
            with succeed(rig) as successor:
                fenced_load(rig, successor, rows(5.0))

        thread = threading.Thread(target=heir)
        thread.start()
        thread.join()
        return peek(paths)

    monkeypatch.setattr(lq.lake.storage, "write", another)
    with fenced(held), pytest.raises(LockLostError):
        incremental_load(lq, "t", rows(2.0))
    assert values(rig) == [5.0, 5.0]


def versions(rig: Any) -> dict[str, str]:
    return {info.path.split("/")[-2]: info.version for info in rig.storage().list("enriched")}


def contents(rig: Any) -> dict[str, bytes]:
    return {info.path: rig.storage().read(info.path).data for info in rig.storage().list("enriched")}


def test_after_a_takeover_each_partition_of_the_batch_gets_a_new_version_once(rig: Any) -> None:
    split(rig, 1, 2, 3)
    before, data = versions(rig), contents(rig)
    taken(rig.storage(), DEAD, about={"run": "lost"})
    with taken(rig.storage()) as heir:
        result = fenced_load(rig, heir, rows(1.0, 2))
        renewed = versions(rig)
        assert (result.changed, result.unchanged, result.partitions) == (False, 1, ())
        assert result.version_before != result.version_after
        assert [label for label in before if before[label] != renewed[label]] == ["month=2026-02"]
        assert not fenced_load(rig, heir, rows(1.0, 2)).changed
        assert versions(rig) == renewed, "once is enough"
    with taken(rig.storage()) as later:
        assert later.lost_holders == ({"run": "lost"},)
        fenced_load(rig, later, rows(1.0, 1, 2))
        again = versions(rig)
        assert [label for label in before if renewed[label] != again[label]] == ["month=2026-01"]
        later.account(lambda about: about == {"run": "lost"})
        fenced_load(rig, later, rows(1.0, 3))
        assert versions(rig) == again, "the lost holder is accounted for"
    assert contents(rig) == data
    assert not written(rig.storage())


def test_a_second_takeover_begins_anew(rig: Any) -> None:
    split(rig, 1)
    taken(rig.storage(), DEAD, about={"run": "first"})
    second = taken(rig.storage())
    fenced_load(rig, second, rows(1.0, 1))
    assert second.renew()
    before = versions(rig)
    with succeed(rig) as third:
        assert [about.get("run") for about in third.lost_holders] == ["first", None]
        fenced_load(rig, third, rows(1.0, 1))
    assert versions(rig) != before
    second.release()


@pytest.mark.parametrize(
    ("error", "settled"), [(UnreachableError("no answer"), False), (KeyboardInterrupt(), False), (None, True)]
)
def test_a_write_that_may_still_land_is_guarded_against(
    disk: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, settled: bool
) -> None:
    incremental_load(disk.query(), "t", rows(1.0))
    lq, held = disk.query(), taken(disk.storage(), about={"run": "abc"})
    write = lq.lake.storage.write

    def failing(path: str, data: bytes, **options: Any) -> str:
        monkeypatch.setattr(lq.lake.storage, "write", write)
        raise error or lq.lake.storage.conflict(path)

    monkeypatch.setattr(lq.lake.storage, "write", failing)
    with held, fenced(held):
        if error is None:
            incremental_load(lq, "t", rows(2.0))
        else:
            with pytest.raises(type(error)):
                incremental_load(lq, "t", rows(2.0))
        assert held.unsettled == (set() if settled else {"enriched/parquet/t.parquet"})
    assert written(disk.storage()) is not settled
    heir = taken(disk.storage())
    assert heir.lost_holders == (() if settled else ({"run": "abc"},))
    heir.release()


def test_a_closed_lease_lets_nothing_be_written(rig: Any) -> None:
    held = taken(rig.storage())
    with held, fenced(held):
        assert held.close("The process was told to end.", timeout=1.0)
        with pytest.raises(LockLostError, match="told to end"):
            incremental_load(rig.query(), "t", rows(1.0))
    assert not rig.query().table_exists("t")


def test_closing_waits_for_the_write_under_way(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, held = disk.storage(), taken(disk.storage())
    begun, go_on = threading.Event(), threading.Event()
    write = storage.write

    def slow(*args: Any, **options: Any) -> str:
        begun.set()
        assert go_on.wait(30)
        return str(write(*args, **options))

    monkeypatch.setattr(storage, "write", slow)

    def work() -> None:
        with fenced(held):
            fenced_write(storage, "raw/a.csv", b"a", expected=None)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)
    assert not held.close("end", timeout=0.0)
    go_on.set()
    assert held.close("end", timeout=30.0)
    thread.join()
    assert storage.read("raw/a.csv").data == b"a"
    held.release()


def test_without_a_lease_there_is_nothing_to_ask(disk: Any) -> None:
    check_fence()
    held = taken(disk.storage())
    with fenced(held):
        check_fence()
    held.release()
    with fenced(held), pytest.raises(LockLostError):
        check_fence()


# --- other files --------------------------------------------------------------------------------


def test_a_file_is_made_to_hold_exactly_what_is_given(rig: Any) -> None:
    storage, path = rig.storage(), "raw/quarantine/a.csv"
    assert [fenced_replace(storage, path, data) for data in (None, b"a", b"a", b"b", None, None)] == [
        False, True, False, True, True, False,
    ]  # fmt: skip
    assert storage.stat(path) is None


@pytest.mark.parametrize("late", [b"stale", None], ids=["write", "delete"])
def test_a_woken_holder_does_not_undo_its_heirs_file(
    rig: Any, monkeypatch: pytest.MonkeyPatch, late: bytes | None
) -> None:
    storage, path = rig.storage(), "raw/quarantine/a.csv"
    storage.write(path, b"right")
    held = taken(rig.storage())
    check = held.check

    def stalled() -> None:
        check()
        held.check = check  # type: ignore[method-assign]
        with succeed(rig) as heir, fenced(heir):
            assert not fenced_replace(rig.storage(), path, b"right")

    held.check = stalled  # type: ignore[method-assign]
    with fenced(held), pytest.raises(LockLostError):
        fenced_replace(storage, path, late)
    assert storage.read(path).data == b"right"


def test_a_file_that_others_keep_writing_is_a_conflict(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = disk.storage()

    def busy(path: str, *args: Any, **options: Any) -> str:
        raise storage.conflict(path)

    monkeypatch.setattr(storage, "write", busy)
    with pytest.raises(ConflictError):
        fenced_replace(storage, "raw/a.csv", b"a")


def test_an_heir_says_whose_place_it_takes(disk: Any, caplog: pytest.LogCaptureFixture) -> None:
    taken(disk.storage(), DEAD, about={"run": "abc", "process": 7, "host": "box"})
    with caplog.at_level(logging.WARNING), taken(disk.storage()):
        assert "was abandoned by run abc, process 7 on box" in caplog.text
