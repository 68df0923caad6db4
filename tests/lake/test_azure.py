"""The commit path on a real blob server, and how an account is found and refused."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from impostor import listening
from luxor_pipelines.errors import (
    AccessError,
    ConfigurationError,
    ConflictError,
    InvalidNameError,
    LakeError,
    UnreachableError,
)
from luxor_pipelines.lake.storage import azure
from luxor_pipelines.lake.storage.base import ANY, VersionChangedError
from luxor_pipelines.lake.storage.connect import connect
from luxor_pipelines.settings import Settings

pytestmark = pytest.mark.azurite

MIB = 2**20
ACCOUNT = ("AccountName", "AccountKey")
IMPATIENT = Settings(retries=0)


@pytest.fixture
def lake(make_rig: Any) -> Any:
    return make_rig("azurite")


@pytest.mark.usefixtures("collected")
def test_two_racing_100_mib_writes_leave_one_writers_file(lake: Any) -> None:
    storage = lake.storage()
    version = storage.write("t", b"start")
    gate = threading.Barrier(2)

    def swap(byte: bytes) -> str | None:
        own = lake.storage()
        own.stat("t")  # connect before the race
        data = byte * (100 * MIB)
        gate.wait()
        try:
            return str(own.write("t", data, expected=version))
        except ConflictError:
            return None

    with ThreadPoolExecutor(2) as pool:
        a, b = pool.map(swap, [b"a", b"b"])
    assert (a is None) != (b is None), "exactly one of them must have succeeded"
    data, stored = storage.read("t")
    winner = b"a" if a else b"b"
    assert stored == (a or b)
    assert len(data) == 100 * MIB
    assert data == winner * (100 * MIB)


def test_a_reader_during_swaps_never_mixes_versions(lake: Any) -> None:
    writer, reader = lake.storage(), lake.storage()
    size = 3 * MIB
    writer.write("t", b"\x00" * size)
    done = threading.Event()

    def swap() -> None:
        for n in range(1, 40):
            writer.write("t", bytes([n]) * size)
        done.set()

    thread = threading.Thread(target=swap)
    thread.start()
    whole = changed = 0
    while not done.is_set() or whole == 0:
        info = reader.stat("t")
        try:
            with reader.open(info) as file:
                source = file.source()
                parts = [source.read(MIB) for _ in range(0, size, MIB)]
            assert len(set(b"".join(parts))) == 1, "two versions in one read"
            whole += 1
        except VersionChangedError:
            changed += 1
    thread.join()
    assert changed > 0, "the test must have met a swap"
    data, _ = reader.read("t")
    assert set(data) == {39}


def test_of_a_peeked_file_the_start_is_there_and_the_rest_is_pinned(lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure, "_START", MIB)
    storage = lake.storage()
    storage.write("t", b"old " * MIB)
    (info,) = storage.peek(["t"])
    with storage.open(info) as reader:
        assert reader.source().read() == b"old " * MIB
    (info,) = storage.peek(["t"])
    storage.write("t", b"new " * MIB)
    with storage.open(info) as reader:
        source = reader.source()
        assert source.read(MIB) == b"old " * (MIB // 4)
        with pytest.raises(VersionChangedError):
            source.read(1)


def test_ends_that_are_fetched_ahead_are_of_their_version(lake: Any) -> None:
    storage = lake.storage()
    for path in ("kept", "swapped", "gone", "empty"):
        storage.write(path, b"" if path == "empty" else b"old content")
    infos = [storage.stat(path) for path in ("kept", "swapped", "gone", "empty")]
    storage.write("swapped", b"NEW CONTENT")
    storage.delete("gone")
    storage.fetch_ends(infos, 7)
    storage.delete("kept")
    with storage.open(infos[0]) as reader:
        source = reader.source()
        source.seek(-7, 2)
        assert source.read() == b"content"
    for info in infos[1:3]:
        for start in (0, -7):  # also where only the end is read, which must not be the new file's
            with storage.open(info) as reader:
                source = reader.source()
                source.seek(start, 0 if start == 0 else 2)
                with pytest.raises(VersionChangedError):
                    source.read()
    with storage.open(infos[3]) as reader:
        assert reader.source().read() == b""


@pytest.mark.usefixtures("collected")
def test_a_whole_read_during_swaps_never_mixes_versions(make_rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure, "CHUNK", MIB // 4)  # so that the file takes a dozen requests
    lake = make_rig("azurite")
    writer, reader = lake.storage(), lake.storage()
    size = 3 * MIB
    versions = {writer.write("t", b"\x00" * size): 0}
    done = threading.Event()

    def swap() -> None:
        for n in range(1, 30):
            versions[writer.write("t", bytes([n]) * size)] = n
        done.set()

    thread = threading.Thread(target=swap)
    thread.start()
    read = []
    while not done.is_set() or not read:
        try:
            read.append(reader.read("t"))
        except VersionChangedError:  # swapped again at each of many attempts: said, not hidden
            continue
    thread.join()
    for data, version in read:
        assert len(data) == size
        assert set(data) == {versions[version]}


@pytest.mark.usefixtures("collected")
def test_writers_without_a_condition_leave_one_writers_file(make_rig: Any) -> None:
    lake = make_rig("azurite")
    writers = [lake.storage() for _ in range(3)]
    gate = threading.Barrier(3)

    def swap(n: int) -> str | None:
        data = bytes([n]) * (40 * MIB)  # in several blocks, which a rival's commit discards
        writers[n].stat("t")
        gate.wait()
        try:
            return str(writers[n].write("t", data))
        except ConflictError:
            return None

    with ThreadPoolExecutor(3) as pool:
        won = list(pool.map(swap, range(3)))
    data, version = writers[0].read("t")
    assert len(data) == 40 * MIB
    assert set(data) == {won.index(version)}


def test_a_landed_write_whose_answer_was_lost_counts_as_success(lake: Any, azurite: Any) -> None:
    with losing_proxy(azurite.url) as (port, lost):
        through = connect(
            connection_string=azurite.connection_string.replace(azurite.url.rsplit(":", 1)[1], str(port)),
            container=lake.arguments["container"],
            settings=Settings(),
        )
        through.stat("t")
        for expected, data in ((None, b"created"), ("current", b"swapped"), (ANY, b"anyway")):
            if expected == "current":
                expected = through.stat("t").version
            lost.arm()
            version = through.write("t", data, expected=expected)
            assert lost.count, "the proxy must have swallowed an answer"
            assert lake.storage().read("t") == (data, version)


def test_a_landed_delete_whose_answer_was_lost_counts_as_success(lake: Any, azurite: Any) -> None:
    with losing_proxy(azurite.url) as (port, lost):
        through = connect(
            connection_string=azurite.connection_string.replace(azurite.url.rsplit(":", 1)[1], str(port)),
            container=lake.arguments["container"],
            settings=Settings(),
        )
        version = through.write("t", b"1")
        lost.arm()
        through.delete("t", expected=version)
        assert lost.count, "the proxy must have swallowed an answer"
        assert lake.storage().stat("t") is None


def test_what_a_lease_forbids_is_no_conflict(lake: Any, azurite: Any) -> None:
    storage = lake.storage()
    version = storage.write("t", b"1")
    with azurite.client() as client:
        client.get_blob_client(lake.arguments["container"], "t").acquire_lease()
    for operation in (lambda: storage.write("t", b"2", expected=version), lambda: storage.delete("t")):
        with pytest.raises(LakeError, match="LeaseIdMissing") as caught:
            operation()
        assert not isinstance(caught.value, ConflictError)  # which would be tried again and again
    assert storage.read("t") == (b"1", version)


def test_a_refused_write_is_a_conflict_and_not_mistaken_for_a_success(lake: Any) -> None:
    storage = lake.storage()
    version = storage.write("t", b"1")
    storage.write("t", b"2")
    with pytest.raises(ConflictError):
        storage.write("t", b"3", expected=version)
    assert storage.read("t").data == b"2"


def test_the_environments_connection_string_never_redirects(
    lake: Any, azurite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from luxor_pipelines import LuxorQuery

    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.connection_string)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
    monkeypatch.setenv("LUXOR_CONTAINER", lake.arguments["container"])
    assert LuxorQuery().list_tables() == []  # what the environment names works …
    monkeypatch.setenv("LUXOR_RETRIES", "0")
    explicit = connect("abfss://other@elsewhere.localhost:9?sv=1&sig=abc", settings=Settings.from_env())
    assert "elsewhere" in explicit.fs.service_client.url  # … and does not win over what is named
    with pytest.raises(UnreachableError, match="elsewhere"):
        explicit.stat("x")
    wrong = azurite.connection_string.replace(azurite.url, "http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        LuxorQuery(adls_connection_string=wrong).list_tables()
    monkeypatch.setenv("LUXOR_LAKE_URL", "memory://env")
    assert LuxorQuery().lake.url == "memory://env"  # a URL wins over a connection string


def test_a_closed_port_is_told(azurite: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    wrong = azurite.connection_string.replace(azurite.url, f"http://127.0.0.1:{port}")
    with pytest.raises(UnreachableError, match="does not answer"):
        connect(connection_string=wrong, settings=IMPATIENT).list("enriched")


def test_by_default_an_account_that_never_answers_fails_within_20_seconds(azurite: Any) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(UnreachableError, match="does not answer"):
            connect(connection_string=azurite.connection_string.replace(azurite.url, url), settings=Settings()).list(
                "enriched"
            )
        assert time.monotonic() - started < 20


def test_a_wrong_key_is_an_access_error_without_the_key(azurite: Any, lake: Any) -> None:
    wrong = azurite.connection_string.replace("AccountKey=Eby8", "AccountKey=Fby8")
    with pytest.raises(AccessError) as caught:
        connect(connection_string=wrong, container=lake.arguments["container"], settings=Settings()).stat("x")
    assert "Fby8" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "",
        "AccountName=x",
        "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=not base64!;EndpointSuffix=core.windows.net",
        "AccountKey=c2VjcmV0",
    ],
)
def test_a_malformed_connection_string_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(connection_string=text, settings=Settings())
    assert "c2VjcmV0" not in str(caught.value)
    assert "not base64!" not in str(caught.value)


def test_a_missing_container_is_not_an_empty_lake(azurite: Any) -> None:
    for operation in (
        lambda storage: storage.folder("enriched"),
        lambda storage: storage.stat("x"),
        lambda storage: storage.list("enriched"),
        lambda storage: storage.write("x", b""),
    ):
        storage = connect(connection_string=azurite.connection_string, container="nowhere", settings=Settings())
        with pytest.raises(ConfigurationError, match="no container 'nowhere'"):
            operation(storage)


def test_a_container_that_disappears_is_not_an_empty_lake(lake: Any, azurite: Any) -> None:
    storage = lake.storage()
    version = storage.write("t", b"1")
    info = storage.stat("t")
    with azurite.client() as client:
        client.delete_container(lake.arguments["container"])

    def open_it() -> None:
        with storage.open(info) as reader:
            reader.source().read()

    for operation in (
        lambda: storage.stat("t"),
        lambda: storage.read("t"),
        lambda: storage.list("enriched"),
        lambda: storage.folder("enriched"),
        lambda: storage.write("t", b"2", expected=version),
        lambda: storage.write("t", b"2", expected=None),
        lambda: storage.delete("t", expected=version),
        open_it,
    ):
        with pytest.raises(ConfigurationError, match="no container"):
            operation()


def test_a_404_that_is_not_the_services_is_not_an_absence() -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Portal(BaseHTTPRequestHandler):
        """Something between us and the account that knows no blob but answers for it."""

        def do_GET(self) -> None:
            if "comp=list" in self.path:
                body = b'<?xml version="1.0"?><EnumerationResults><Blobs/><NextMarker/></EnumerationResults>'
                self.send_response(200)
                self.send_header("Content-Type", "application/xml")
            else:
                body = b"<html>Not found</html>"
                self.send_response(404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.send_response(404)
            self.end_headers()

        do_DELETE = do_HEAD

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Portal) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            storage = connect(connection_string=f"BlobEndpoint={url};AccountName=a;AccountKey=a2V5", settings=IMPATIENT)
            assert storage.list("enriched") == []
            for operation in (storage.stat, storage.read, storage.delete):
                with pytest.raises(LakeError, match="answered 404") as caught:
                    operation("t")
                assert not isinstance(caught.value, FileNotFoundError)
        finally:
            server.shutdown()
            thread.join()


def test_a_lake_in_a_folder_of_a_container_stays_there(lake: Any, azurite: Any) -> None:
    container = lake.arguments["container"]
    host = azurite.url.removeprefix("http://")
    inside = connect(
        f"abfss://{container}@{host}/our%20lake/v1",
        connection_string=azurite.connection_string,
        settings=Settings(),
    )
    outside = lake.storage()
    outside.write("our lake/v10/t", b"a neighbour")
    outside.write("t", b"above")
    version = inside.write("enriched/my table", b"1", expected=None)
    assert inside.url.endswith("/our lake/v1")
    assert [info.path for info in outside.list("our lake")] == ["our lake/v1/enriched/my table", "our lake/v10/t"]
    outside.write("enriched/not ours", b"1")
    assert inside.list("enriched") == [inside.stat("enriched/my table")]
    assert inside.folder("enriched") == (inside.list("enriched"), [])
    assert inside.stat("t") is None
    assert inside.read("enriched/my table") == (b"1", version)
    inside.delete("enriched/my table", expected=version)
    assert inside.list("enriched") == []


@pytest.mark.parametrize("folder", ["..", "a/%2e%2e", "a/./b", "%5c"])
def test_a_url_cannot_name_a_folder_outside_its_container(folder: str) -> None:
    with pytest.raises(InvalidNameError):
        connect(f"abfss://c@account.dfs.core.windows.net/{folder}", settings=Settings())


def test_a_url_must_name_the_account() -> None:
    with pytest.raises(ConfigurationError, match="names no account"):
        connect("abfss://container", settings=Settings())


def test_a_connection_string_for_another_account_than_the_url_is_refused(azurite: Any) -> None:
    with pytest.raises(ConfigurationError, match="another account"):
        connect(
            "abfss://c@acct.dfs.core.windows.net",
            connection_string=azurite.connection_string,
            settings=Settings(),
        )


@pytest.mark.parametrize("mark", ["hdi_isfolder", "Hdi_isfolder", "is_directory"])
def test_markers_of_folders_are_not_files(mark: str, lake: Any, azurite: Any) -> None:
    """A hierarchical namespace marks its folders in one way, adlfs in another."""
    with azurite.client() as client:
        container = client.get_container_client(lake.arguments["container"])
        container.upload_blob("enriched/parquet/t", b"", metadata={mark: "true"})
        container.upload_blob("enriched/parquet/file", b"", metadata={mark: "false"})
    storage = lake.storage()
    names = ["enriched/parquet/file"]
    assert [info.path for info in storage.list("enriched")] == names
    assert [info.path for info in storage.folder("enriched/parquet").files] == names
    assert storage.stat("enriched/parquet/t") is None
    assert [info and info.path for info in storage.peek(["enriched/parquet/t", *names])] == [None, *names]


def test_a_shared_access_signature_opens_what_it_allows_and_is_never_shown(lake: Any, azurite: Any) -> None:
    from azure.storage.blob import generate_container_sas

    container = lake.arguments["container"]
    lake.storage().write("t", b"1")
    account, key = (azurite.connection_string.split(f"{word}=")[1].split(";")[0] for word in ACCOUNT)
    token = generate_container_sas(account, container, key, permission="rl", expiry="2099-01-01")
    text = f"BlobEndpoint={azurite.url}/{account};SharedAccessSignature={token}"
    signature = token.split("sig=")[1].split("&")[0]
    storage = connect(connection_string=text, container=container, settings=IMPATIENT)
    assert storage.read("t").data == b"1"
    with pytest.raises(AccessError) as refused:
        storage.write("t", b"2")
    wrong = text.replace("sig=", "sig=AAAA")
    with pytest.raises(AccessError) as denied:
        connect(connection_string=wrong, container=container, settings=IMPATIENT).stat("t")
    with pytest.raises(UnreachableError) as silent:
        connect(connection_string=text.replace(azurite.url, "http://127.0.0.1:9"), settings=IMPATIENT).stat("t")
    shown = [repr(storage), repr(storage.fs), *map(str, (refused.value, denied.value, silent.value))]
    assert not [each for each in shown if signature in each or "sig=" in each]


def test_no_secret_is_in_a_repr(lake: Any, azurite: Any) -> None:
    lq = lake.query()
    key = azurite.connection_string.split("AccountKey=")[1].split(";")[0]
    shown = [
        repr(lq),
        repr(lq.lake.storage),
        repr(lq.lake.storage.fs),
        repr(Settings(connection_string=key)),
        lq.lake.storage.url,
    ]
    assert all(key not in text for text in shown)


class Lost:
    """Whether the proxy swallows the next answer to a PUT or DELETE."""

    def __init__(self) -> None:
        self.count = 0
        self._armed = False

    def arm(self) -> None:
        self.count, self._armed = 0, True

    def take(self) -> bool:
        armed, self._armed = self._armed, False
        self.count += armed
        return armed


@contextmanager
def losing_proxy(url: str) -> Iterator[tuple[int, Lost]]:
    """A TCP proxy that, when armed, passes a PUT or DELETE on and cuts the connection instead of its answer."""
    host, port = url.removeprefix("http://").split(":")
    lost = Lost()

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection((host, int(port))) as upstream:
            swallow = threading.Event()

            def forward() -> None:
                while data := _receive(client):
                    if data.startswith((b"PUT", b"DELETE")) and lost.take():
                        swallow.set()
                    upstream.sendall(data)
                _shut(upstream)

            thread = threading.Thread(target=forward, daemon=True)
            thread.start()
            while data := _receive(upstream):
                if swallow.is_set() and not data.startswith(b"HTTP/1.1 100"):
                    break
                client.sendall(data)
            _shut(client)
            _shut(upstream)
            thread.join()

    with listening(serve) as proxy_port:
        yield proxy_port, lost


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""


def _shut(target: socket.socket) -> None:
    try:
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
