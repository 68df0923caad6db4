"""A lake on local disk when the disk is full, the clock is coarse, or another program writes into it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from luxor_pipelines.errors import FileLockedError, LakeError
from luxor_pipelines.lake.storage.base import VersionChangedError
from luxor_pipelines.settings import Settings

FULL = """
import resource, sys
from luxor_pipelines.errors import LakeError
from luxor_pipelines.lake.storage.connect import connect
storage = connect(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    version = storage.write("folder/t", b"x" * 1_000_000)
except LakeError as error:
    print(type(error).__name__, error)
else:
    print("written as", version)
"""


@pytest.mark.skipif(os.name == "nt", reason="limits the size of a process's files as POSIX does")
def test_a_file_that_the_disk_does_not_take_is_an_error_and_leaves_the_old_one(disk: Any) -> None:
    storage = disk.storage()
    version = storage.write("folder/t", b"old")
    command = [sys.executable, "-c", FULL, disk.arguments["lake"]]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.startswith("LakeError folder/t in ")
    assert os.strerror(errno.EFBIG) in told
    assert storage.read("folder/t") == (b"old", version)
    assert [path.name for path in (storage.root / "folder").iterdir()] == ["t"]


@pytest.mark.parametrize(("number", "hint"), [(errno.ENOSPC, "Free some disk space."), (errno.EIO, "Check the drive")])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_at_its_end_is_an_error(
    number: int, hint: str, step: str, disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = disk.storage()
    version = storage.write("t", b"old")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
        with pytest.raises(LakeError, match=os.strerror(number)) as caught:
            storage.write("t", b"new")
    assert hint in caught.value.hint
    assert storage.read("t") == (b"old", version)
    assert sorted(path.name for path in storage.root.iterdir()) == ["system", "t"]


def test_a_file_and_its_folder_are_on_the_disk_before_a_write_succeeds(
    disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = disk.storage()
    steps: list[tuple[str, int]] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (sync(fd), steps.append(("synced", os.fstat(fd).st_ino)))[0])
    monkeypatch.setattr(Path, "replace", lambda a, b: (steps.append(("named", a.stat().st_ino)), replace(a, b))[1])
    storage.write("new folder/t", b"data")
    place = storage.root / "new folder/t"
    file, folder = place.stat().st_ino, place.parent.stat().st_ino
    expected = [("synced", file), ("named", file), ("synced", folder)]
    assert steps == (expected[:2] if os.name == "nt" else expected)


def test_contents_within_one_tick_of_the_clock_have_versions_that_never_come_back(
    disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may give each of them the same time, and the inode of one that has just gone."""
    storage = disk.storage()
    sync = os.fsync

    def stop_the_clock(descriptor: int) -> None:
        sync(descriptor)
        os.utime(descriptor, ns=(10**18, 10**18))

    monkeypatch.setattr(os, "fsync", stop_the_clock)
    times, versions = [], []
    for n in range(10):
        if n % 3 == 2:
            storage.delete("t")
        versions.append(storage.write("t", bytes([n])))
        times.append((storage.root / "t").stat().st_mtime_ns)
    assert times == sorted(set(times))
    assert len(set(versions)) == 10
    assert storage.stat("t").version == versions[-1]


def test_a_file_is_not_dated_in_the_future_because_a_deleted_one_was(disk: Any) -> None:
    storage = disk.storage()
    for path in ("t", "system/locks/clock/a.json"):
        storage.write(path, b"1")
        ahead = 2 * 10**9  # seconds: in the year 2033
        os.utime(storage.root / path, (ahead, ahead))
        storage.delete(path)
    for path in ("t", "system/locks/clock/b.json"):
        storage.write(path, b"1")
        assert (storage.root / path).stat().st_mtime < ahead


@pytest.mark.parametrize("change", ["swapped", "longer", "touched"])
def test_a_change_by_another_program_is_another_version(change: str, disk: Any) -> None:
    """One that takes care of the time of change, as copying and unpacking programs do."""
    storage = disk.storage()
    version = storage.write("t", b"old")
    info = storage.stat("t")
    place = storage.root / "t"
    status = place.stat()
    if change == "swapped":
        place.with_name("copy").write_bytes(b"NEW")
        place.with_name("copy").replace(place)
    elif change == "longer":
        with place.open("ab") as file:
            file.write(b"er")
    later = 10**9 if change == "touched" else 0
    os.utime(place, ns=(status.st_mtime_ns, status.st_mtime_ns + later))
    after = place.stat()
    assert (after.st_ino != status.st_ino) == (change == "swapped")
    assert (after.st_size != status.st_size) == (change == "longer")
    assert storage.stat("t").version != version
    with pytest.raises(VersionChangedError), storage.open(info):
        pass


def test_a_file_is_not_deleted_while_another_process_writes_it(disk: Any) -> None:
    storage = disk.storage(settings=Settings(lock_timeout=0.05))
    version = storage.write("t", b"1")
    other = disk.storage()
    with other._locked("t"):
        for expected in ({}, {"expected": version}):
            with pytest.raises(FileLockedError):
                storage.delete("t", **expected)
    assert storage.read("t").data == b"1"
    storage.delete("t", expected=version)
    assert storage.stat("t") is None


def test_leases_are_not_synced_and_all_else_is(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    storage = disk.storage()
    storage.write("system/locks/runs/hist_returns/2026-10-31.json", b"{}")
    assert not synced
    storage.write("system/runs/hist_returns/20261123T183000Z-0123456789ab.json", b"{}")
    assert len(synced) == (1 if sys.platform == "win32" else 2), "the file and its folder"
