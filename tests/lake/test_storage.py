"""What every storage promises: the same suite on memory, disk and Azurite."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from luxor_pipelines import LuxorQuery
from luxor_pipelines.errors import (
    AccessError,
    ConfigurationError,
    ConflictError,
    InvalidNameError,
    LakeError,
    NotFoundError,
    UnreachableError,
)
from luxor_pipelines.lake.storage.base import ANY, VersionChangedError
from luxor_pipelines.lake.storage.connect import connect
from luxor_pipelines.settings import Settings


def test_a_file_reads_back_with_its_version(rig: Any) -> None:
    storage = rig.storage()
    version = storage.write("a/b.bin", b"one")
    assert storage.read("a/b.bin") == (b"one", version)
    info = storage.stat("a/b.bin")
    assert (info.path, info.version, info.size) == ("a/b.bin", version, 3)


def test_every_write_has_a_version_of_its_own(rig: Any) -> None:
    storage = rig.storage()
    versions = [storage.write("a", b"same bytes") for _ in range(20)]
    assert len(set(versions)) == 20


def test_only_a_definite_absence_is_none(rig: Any) -> None:
    storage = rig.storage()
    storage.write("folder/file", b"")
    assert storage.stat("nothing") is None
    assert storage.stat("folder") is None
    with pytest.raises(NotFoundError, match="nothing"):
        storage.read("nothing")
    assert storage.stat("folder/file").size == 0


@pytest.mark.parametrize(
    "path", ["my folder/my file.csv", "preços/ação 2026.csv", "month=2026-10/data.parquet", "a&b/c+d,e;f'(g)~h@!$.x"]
)
def test_unusual_names_are_names(rig: Any, path: str) -> None:
    storage = rig.storage()
    version = storage.write(path, b"1", expected=None)
    info = storage.stat(path)
    assert storage.list(path.partition("/")[0]) == [info]
    assert (info.path, info.version) == (path, version)
    assert storage.read(path) == (b"1", version)
    with storage.open(info) as reader:
        assert reader.source().read() == b"1"
    storage.write(path, b"2", expected=version)
    storage.delete(path)
    assert storage.stat(path) is None


def test_listing_is_recursive_sorted_and_of_that_folder_only(rig: Any) -> None:
    storage = rig.storage()
    for path in ["a/z.bin", "a/b/c.bin", "ab/d.bin", "a.bin", "a/.hidden.tmp"]:
        if ".hidden" not in path:
            storage.write(path, path.encode())
    assert [info.path for info in storage.list("a")] == ["a/b/c.bin", "a/z.bin"]
    assert storage.list("nowhere") == []
    for info in storage.list("a"):
        assert info == storage.stat(info.path)


def test_a_folder_shows_its_files_and_the_names_of_its_folders(rig: Any) -> None:
    storage = rig.storage()
    for path in ["a/z.bin", "a/b/c.bin", "a/b/d/e.bin", "a/ção 1/f.bin", "a/B.bin", "ab/d.bin", "a.bin"]:
        storage.write(path, path.encode())
    found = storage.folder("a")
    assert found.files == [storage.stat("a/B.bin"), storage.stat("a/z.bin")]
    assert found.folders == ["b", "ção 1"]
    assert storage.folder("a/b").files == [storage.stat("a/b/c.bin")]
    assert storage.folder("nowhere") == storage.folder("a/b/d/nowhere") == storage.folder("a.bin") == ([], [])


def test_a_write_meets_its_condition_or_leaves_the_file(rig: Any) -> None:
    storage = rig.storage()
    first = storage.write("t", b"1", expected=None)
    with pytest.raises(ConflictError):
        storage.write("t", b"again", expected=None)
    second = storage.write("t", b"2", expected=first)
    with pytest.raises(ConflictError):
        storage.write("t", b"late", expected=first)
    assert storage.read("t") == (b"2", second)
    storage.delete("t", expected=second)
    with pytest.raises(ConflictError):
        storage.write("t", b"gone", expected=second)
    assert storage.stat("t") is None


def test_a_delete_meets_its_condition(rig: Any) -> None:
    storage = rig.storage()
    version = storage.write("t", b"1")
    storage.write("t", b"2")
    with pytest.raises(ConflictError):
        storage.delete("t", expected=version)
    assert storage.read("t").data == b"2"
    storage.delete("t")
    storage.delete("t", expected=ANY)
    storage.delete("t", expected=version)  # gone is gone, whoever did it
    assert storage.stat("t") is None


def test_a_pinned_read_is_of_that_version_or_an_error(rig: Any) -> None:
    storage = rig.storage()
    storage.write("t", b"old content")
    info = storage.stat("t")
    with storage.open(info) as reader:
        assert reader.source().read(3) == b"old"
    storage.write("t", b"NEW CONTENT")
    with pytest.raises(VersionChangedError), storage.open(info) as reader:
        reader.source().read(3)
    storage.delete("t")
    with pytest.raises(VersionChangedError), storage.open(info) as reader:
        reader.source().read(3)


def test_of_many_creations_one_wins(rig: Any) -> None:
    storage = rig.storage()
    gate = threading.Barrier(8)

    def create(n: int) -> str | None:
        gate.wait()
        try:
            return storage.write("t", bytes([n]), expected=None)
        except ConflictError:
            return None

    with ThreadPoolExecutor(8) as pool:
        won = [(n, version) for n, version in enumerate(pool.map(create, range(8))) if version]
    assert len(won) == 1
    assert storage.read("t") == (bytes([won[0][0]]), won[0][1])


def test_conditional_increments_lose_nothing(rig: Any) -> None:
    storage = rig.storage()
    storage.write("count", b"0")

    def increment(_: int) -> None:
        while True:
            data, version = storage.read("count")
            try:
                storage.write("count", str(int(data) + 1).encode(), expected=version)
            except ConflictError:
                continue
            return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(increment, range(40)))
    assert storage.read("count").data == b"40"


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../x",
        "a/./x",
        "",
        "/",
        "a//b",
        ".hidden",
        "a/.b",
        "a\\b",
        "C:/x",
        "a\x00b",
        "a\nb",
        " a",
        "a%2e%2e/b",
        "a./b",
    ],
)
def test_no_name_leaves_the_lake(rig: Any, path: str) -> None:
    storage = rig.storage()
    for operation in (storage.stat, storage.read, storage.list, storage.folder, storage.delete):
        with pytest.raises(InvalidNameError):
            operation(path)
    with pytest.raises(InvalidNameError):
        storage.write(path, b"")


# --- local disk ------------------------------------------------------------------------------


def test_what_is_hidden_or_leads_nowhere_is_in_no_listing(disk: Any) -> None:
    storage = disk.storage()
    version = storage.write("a/t", b"1")
    (storage.root / "a/.t.part").write_bytes(b"half")
    (storage.root / "a/.trash").mkdir()
    (storage.root / "a/.trash/old").write_bytes(b"0")
    (storage.root / "a/dangling").symlink_to(storage.root / "gone")
    assert [info.version for info in storage.list("a")] == [version]
    assert storage.folder("a") == (storage.list("a"), [])


def test_a_crash_between_write_and_replace_leaves_the_old_file(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = disk.storage()
    version = storage.write("folder/t", b"old")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        storage.write("folder/t", b"new")
    monkeypatch.undo()
    assert storage.read("folder/t") == (b"old", version)
    assert [info.path for info in storage.list("folder")] == ["folder/t"]
    assert sorted(path.name for path in (storage.root / "folder").iterdir()) == ["t"]


def test_a_temporary_file_left_by_a_kill_is_no_data(disk: Any) -> None:
    storage = disk.storage()
    storage.write("folder/t", b"1")
    (storage.root / "folder" / ".t.abc.tmp").write_bytes(b"half")
    assert [info.path for info in storage.list("folder")] == ["folder/t"]


def test_a_write_removes_what_killed_writes_of_the_same_file_left(disk: Any) -> None:
    storage = disk.storage()
    storage.write("folder/t", b"1")
    mine, others = (storage.root / "folder" / f".{name}.{'a' * 32}.tmp" for name in ("t", "t.x"))
    mine.write_bytes(b"half")
    others.write_bytes(b"of a file that may be being written")
    storage.write("folder/t", b"2")
    assert not mine.exists()
    assert others.exists()


def test_a_lock_held_too_long_is_a_conflict(disk: Any) -> None:
    from filelock import FileLock

    storage = disk.storage(settings=Settings(lock_timeout=0.05))
    storage.write("t", b"1")
    (lock,) = (storage.root / "system" / "locks").iterdir()
    with FileLock(lock), pytest.raises(ConflictError, match="locked by another process"):
        storage.write("t", b"2")
    assert storage.read("t").data == b"1"


def test_a_lake_folder_is_not_made_silently(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        connect((tmp_path / "typo").as_uri(), settings=Settings())
    assert list(tmp_path.iterdir()) == []


def test_a_lake_folder_may_have_any_name(tmp_path: Path) -> None:
    for name in ("my lake", "50%20 off", "preços"):
        (tmp_path / name).mkdir()
        for address in ((tmp_path / name).as_uri(), f"file://{tmp_path / name}", str(tmp_path / name)):
            connect(address, settings=Settings()).write("t", address.encode())
            assert (tmp_path / name / "t").read_bytes() == address.encode()
        again = connect(connect(str(tmp_path / name), settings=Settings()).url, settings=Settings())
        assert again.read("t").data == str(tmp_path / name).encode()


def test_a_lake_that_is_gone_is_not_an_empty_one(disk: Any) -> None:
    storage = disk.storage()
    storage.write("t", b"1")
    storage.root.rename(storage.root.with_name("elsewhere"))
    for operation in (
        lambda: storage.stat("t"),
        lambda: storage.list("enriched"),
        lambda: storage.read("t"),
        lambda: storage.write("t", b"2", expected=None),
    ):
        with pytest.raises(ConfigurationError, match="is gone"):
            operation()
    assert not storage.root.exists()


def test_a_folder_where_a_file_should_be_is_an_error(disk: Any) -> None:
    storage = disk.storage()
    storage.write("t/inside", b"")
    with pytest.raises(LakeError):
        storage.write("t", b"1")


def test_an_unreadable_folder_is_an_access_error(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = disk.storage()
    storage.write("t", b"1")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")  # root, as CI may be, is refused nothing by chmod

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AccessError):
        storage.read("t")


# --- other filesystems -----------------------------------------------------------------------


def test_a_filesystem_without_conditional_writes_is_for_reading(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "lake.zip", "w") as archive:
        archive.writestr("enriched/t.txt", b"hello")
    storage = connect(f"zip://::{(tmp_path / 'lake.zip').as_uri()}", settings=Settings())
    assert storage.read("enriched/t.txt").data == b"hello"
    assert [info.path for info in storage.list("enriched")] == ["enriched/t.txt"]
    with pytest.raises(ConfigurationError, match="read but not written"):
        storage.write("enriched/t.txt", b"x")


def test_an_unknown_protocol_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="not a lake's address"):
        connect("gopher://x/y", settings=Settings())


def test_a_password_in_an_address_is_not_shown() -> None:
    for address in ("ftp://user:hunter2@127.0.0.1:9/x?token=hunter2", "gopher://user:hunter2@host/x"):
        with pytest.raises(ConfigurationError) as caught:
            connect(address, settings=Settings())
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("address", ["abfss://c@[x", "http://[", "abfss://c@a.dfs.core.windows.net:port"])
def test_an_address_that_is_no_url_is_a_configuration_error(address: str) -> None:
    with pytest.raises(ConfigurationError):
        connect(address, settings=Settings())


def test_a_connection_string_in_the_place_of_an_address_is_not_repeated() -> None:
    text = "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net"
    with pytest.raises(ConfigurationError) as caught:
        connect(text, settings=Settings())
    assert "c2VjcmV0" not in str(caught.value)


def test_a_peek_sees_what_is_there_and_that_version_is_read(rig: Any) -> None:
    storage = rig.storage()
    for path, data in (("t", b"old content"), ("empty", b"")):
        storage.write(path, data)
    assert list(storage.peek(["t", "nowhere", "empty"])) == [storage.stat("t"), None, storage.stat("empty")]
    for path, data in (("t", b"old content"), ("empty", b"")):
        (info,) = storage.peek([path])
        with storage.open(info) as reader:
            assert reader.source().read() == data
    (info,) = storage.peek(["t"])
    storage.write("t", b"NEW CONTENT")
    try:
        with storage.open(info) as reader:
            assert reader.source().read() == b"old content"
    except VersionChangedError:
        assert rig.kind != "azurite", "the start came along"


# --- other filesystems of fsspec's, which are read ---------------------------------------------


class Foreign(AbstractFileSystem):
    """A local folder, as a filesystem that the library knows nothing of; ``fails`` is what it raises instead."""

    protocol = "foreign"
    cachable = False
    fails: Exception | None = None

    def _asked(self, path: str) -> Any:
        if self.fails is not None:
            raise self.fails
        return LocalFileSystem()

    def ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        return self._asked(path).ls(path, detail=detail)

    def info(self, path: str, **_: Any) -> Any:
        return self._asked(path).info(path)

    def cat_file(self, path: str, start: Any = None, end: Any = None, **_: Any) -> Any:
        return self._asked(path).cat_file(path, start, end)


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LuxorQuery:
    fsspec.register_implementation("foreign", Foreign, clobber=True)
    monkeypatch.setattr(Foreign, "fails", None)
    return LuxorQuery(lake=f"foreign://{tmp_path}/lake", settings=Settings())


def test_any_other_filesystem_is_read(foreign: LuxorQuery, tmp_path: Path) -> None:
    folder = tmp_path / "lake/enriched/parquet"
    (folder / "deep").mkdir(parents=True)
    for name in ("t.parquet", "deep/x.parquet", ".hidden.parquet"):
        pq.write_table(pa.table({"a": [1]}), folder / name)
    assert foreign.list_tables() == ["t"]
    assert foreign.get_table("t")["a"].tolist() == [1]
    assert not foreign.table_exists("u")
    found = sorted(info.path for info in foreign.lake.storage.list("enriched"))
    assert found == ["enriched/parquet/deep/x.parquet", "enriched/parquet/t.parquet"]
    assert foreign.lake.storage.list("nowhere") == []
    with pytest.raises(ConfigurationError, match="can be read but not written"):
        foreign.lake.storage.write("t", b"1")


ASKS: dict[str, Callable[[LuxorQuery], Any]] = {
    "list_tables": lambda lq: lq.list_tables(),
    "table_exists": lambda lq: lq.table_exists("t"),
    "get_table": lambda lq: lq.get_table("t"),
    "list": lambda lq: lq.lake.storage.list("enriched"),
}


@pytest.mark.parametrize("ask", ASKS)
def test_what_cannot_be_looked_at_is_not_empty(foreign: LuxorQuery, ask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="There is no lake at foreign:"):
        ASKS[ask](foreign)
    for fails, kind in (
        (PermissionError(13, "denied"), AccessError),
        (ConnectionRefusedError(111, "refused"), UnreachableError),
        (RuntimeError("what its library raises, sig=s3cret"), UnreachableError),
    ):
        monkeypatch.setattr(Foreign, "fails", fails)
        with pytest.raises(kind, match="lake") as caught:
            ASKS[ask](foreign)
        assert "s3cret" not in str(caught.value)


def test_a_web_server_is_no_lake() -> None:
    with pytest.raises(ConfigurationError, match="neither the sizes nor the versions"):
        connect("https://example.invalid/lake", settings=Settings())
