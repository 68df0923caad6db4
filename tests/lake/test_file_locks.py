"""Lock files of a lake on local disk: who holds one is told, none is ever removed, and they do not pile up."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock

from luxor_pipelines.cli import main
from luxor_pipelines.errors import ConflictError, FileLockedError
from luxor_pipelines.ingest import incremental_load, save_table
from luxor_pipelines.lake.storage.lease import Lease
from luxor_pipelines.lake.storage.local import LocalStorage
from luxor_pipelines.lake.table.optimize import optimize
from luxor_pipelines.operations.runs import run
from luxor_pipelines.settings import Settings

FRAME = pd.DataFrame({"Date": pd.to_datetime(["2026-10-30"]), "X": [1.0]})
UNSORTED = pd.DataFrame({"Date": pd.to_datetime(["2026-10-29", "2026-10-30"]), "X": [2.0, 1.0]})
TABLE = "enriched/parquet/t.parquet"
IMPATIENT = Settings(lock_timeout=0.05)

HOLDER = """
import sys
from luxor_pipelines.lake.storage.connect import connect
storage = connect(sys.argv[1])
with storage._locked(sys.argv[2]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(rig: Any, path: str) -> Iterator[subprocess.Popen[str]]:
    """Another process, stopped in the middle of a write of a file."""
    command = [sys.executable, "-c", HOLDER, rig.arguments["lake"], path]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == "locked\n"
        yield process
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def lock_files(storage: Any) -> dict[str, int]:
    """The lock files there are, with their inodes."""
    return {path.name: path.stat().st_ino for path in (storage.root / "system/locks").glob("*.lock")}


WRITES: dict[str, tuple[str, Callable[[Any], object]]] = {
    "load": (TABLE, lambda lake: incremental_load(lake, "t", FRAME.assign(X=2.0))),
    "save": (TABLE, lambda lake: save_table("t", FRAME.assign(X=2.0), lq=lake, mode="replace")),
    "optimize": (TABLE, lambda lake: optimize(lake.table("t"), sort_by=["X"])),
    "lease": (
        "system/locks/runs/p/2026-10-31.json",
        lambda lake: Lease(lake.storage, "system/locks/runs/p/2026-10-31.json", ttl=90).acquire(),
    ),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_lock_that_a_suspended_process_holds_is_waited_for_once_and_its_process_named(
    write: str, disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_table("t", UNSORTED, lq=disk.query())
    path, act = WRITES[write]
    waits = []
    real = LocalStorage._locked
    monkeypatch.setattr(LocalStorage, "_locked", lambda self, path: (waits.append(path), real(self, path))[1])
    lake = disk.query(settings=IMPATIENT).lake
    with held_elsewhere(disk, path) as holder:
        with pytest.raises(FileLockedError, match=f"process {holder.pid} on {platform.node()}") as caught:
            act(lake)
        assert isinstance(caught.value, ConflictError)
        assert "Nothing was written" in caught.value.hint
        assert waits.count(path) == 1
    act(lake)


def test_the_command_line_tells_it_as_a_conflict(
    disk: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_table("t", UNSORTED, lq=disk.query())
    monkeypatch.setenv("LUXOR_LOCK_TIMEOUT", "0.05")
    with held_elsewhere(disk, TABLE) as holder:
        assert main(["optimize", "t", "--sort-by", "X", "--lake", disk.arguments["lake"]]) == 4
        assert f"process {holder.pid}" in capsys.readouterr().err


def test_a_lock_is_free_when_its_holder_is_killed_and_its_file_stays_the_same(disk: Any) -> None:
    storage = disk.storage(settings=IMPATIENT)
    storage.write(TABLE, b"1")
    before = lock_files(storage)
    with held_elsewhere(disk, TABLE) as holder:
        with pytest.raises(FileLockedError):
            storage.write(TABLE, b"2")
        assert lock_files(storage) == before
        holder.kill()
        holder.wait(30)
        storage.write(TABLE, b"3")
    assert storage.read(TABLE).data == b"3"
    storage.delete(TABLE)
    assert lock_files(storage) == before


def test_an_earlier_version_of_the_library_is_kept_out_and_keeps_us_out(disk: Any) -> None:
    """It locks the same file, by the hash of the path, and signs nothing."""
    storage = disk.storage(settings=IMPATIENT)
    storage.write(TABLE, b"1")
    place = storage.root / "system/locks" / f"{hashlib.sha256(TABLE.encode()).hexdigest()[:32]}.lock"
    assert place.exists()
    with FileLock(place), pytest.raises(FileLockedError, match="locked by another process for"):
        storage.write(TABLE, b"2")
    with held_elsewhere(disk, TABLE), pytest.raises(TimeoutError), FileLock(place, timeout=0.05):
        pass


@pytest.mark.parametrize("text", [b"", b"\nprocess 1\x1b[2J on x", b"\n" + b"\xff" * 500, b"\n   "])
def test_a_lock_that_is_signed_by_nobody_is_another_processs(disk: Any, text: bytes) -> None:
    storage = disk.storage(settings=IMPATIENT)
    storage.write("t", b"1")
    (place,) = (storage.root / "system/locks").glob("*.lock")
    with FileLock(place):
        place.write_bytes(text)
        with pytest.raises(FileLockedError) as caught:
            storage.write("t", b"2")
    assert str(caught.value).isprintable() or "\x1b" not in str(caught.value)


def test_lock_files_do_not_grow_by_runs(disk: Any) -> None:
    lq = disk.query()
    lq.lake.storage.write("raw/prices/a.csv", b"Date,Asset,Last_Price\n2026-10-30,a,1\n")
    run("market_prices", lq=lq)
    before = lock_files(lq.lake.storage)
    for _ in range(3):
        run("market_prices", lq=lq)
    assert lock_files(lq.lake.storage) == before


@pytest.mark.parametrize(
    "paths",
    [
        [f"system/runs/p/20261030T120000Z-{n}.json" for n in range(3)],
        [f"system/locks/clock/{n}.json" for n in range(3)],
        [f"archive/2026103{n}T120000Z/enriched/parquet/t.parquet" for n in range(3)],
    ],
)
def test_files_with_new_names_all_the_time_share_a_lock(disk: Any, paths: list[str]) -> None:
    storage = disk.storage()
    for path in paths:
        storage.write(path, b"1", expected=None)
    assert len(lock_files(storage)) == 1


def test_files_of_different_tables_do_not_share_a_lock(disk: Any) -> None:
    storage = disk.storage(settings=IMPATIENT)
    paths = [TABLE, "enriched/parquet/u.parquet", "enriched/parquet/t/month=2026-10/data.parquet", "raw/prices/a.csv"]
    paths += ["system/locks/runs/p/2026-10-31.json", "system/locks/runs/p/2026-09-30.json", "system/runs/p/1.json"]
    paths += ["system/runs/q/1.json", "a"]
    for path in paths:
        storage.write(path, b"1")
    assert len(lock_files(storage)) == len(paths)
