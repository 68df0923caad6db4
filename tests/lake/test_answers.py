"""Answers that are not the blob service's, or not whole: what is told of them, and that no signature is in it."""

from __future__ import annotations

import gzip
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from impostor import Answer, answering, blob_answer, response
from luxor_pipelines.errors import LakeError, LuxorError, UnreachableError, holds_secret, redact, scrubbed
from luxor_pipelines.lake.storage.base import BlobInfo, Storage, connect
from luxor_pipelines.settings import Settings

SIGNATURE = "c2lnbmF0dXJl+b2Yg/dGhlIHRlc3Q="
SAS = f"sv=2026-01-01&sp=racwdl&sig={quote(SIGNATURE, safe='')}"
QUICK = Settings(connect_timeout=2, read_timeout=2, retries=0)


def echo(request: bytes) -> bytes:
    """A portal that shows the address it was asked for."""
    return response("403 Forbidden", b"<html>You may not open " + request.split(b" ")[1] + b"</html>")


NO_SERVICE: dict[str, Answer] = {
    "not-http": b"SSH-2.0-OpenSSH_9.9\r\n",
    "tls": b"\x15\x03\x03\x00\x02\x02\x46",
    "nothing": b"",
    "bad-status": b"HTTP/1.1 abc hello\r\n\r\n",
    "bad-version": b"HTTP/9.9 200 OK\r\n\r\n",
    "overlong-header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    "bad-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
    "bad-length": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
    "corrupt-gzip": response(
        "200 OK", b"\x1f\x8b\x08garbage", "Content-Encoding: gzip", "Content-Type: application/xml"
    ),
    "corrupt-deflate": response("200 OK", b"garbage", "Content-Encoding: deflate", "Content-Type: application/xml"),
    "portal": response("200 OK", b"<html>Log in</html>", "Content-Type: text/html"),
    "not-xml": response("200 OK", b"hello", "Content-Type: application/xml"),
    "echo": echo,
    "redirect-in-a-circle": lambda request: response(
        "307 Temporary Redirect", b"", "Location: http://127.0.0.1" + request.split(b" ")[1].decode()
    ),
    "redirect-to-nowhere": response("302 Found", b"", "Location: http://[::1"),
}


def signed(url: str, settings: Settings = QUICK) -> Storage:
    return connect(connection_string=f"BlobEndpoint={url}/account;SharedAccessSignature={SAS}", settings=settings)


def whole_chain(error: BaseException) -> Iterator[BaseException]:
    """The error and everything it says it comes from."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        current = left.pop()
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            yield current
            left += [current.__cause__, current.__context__, *getattr(current, "exceptions", ())]


def told(error: BaseException) -> str:
    """All texts in the chain of an error."""
    return "\n".join(
        f"{link}\n{link!r}\n{link.args!r}\n{getattr(link, '__notes__', '')}" for link in whole_chain(error)
    )


def shows_signature(text: str) -> bool:
    return any(form in text for form in (SIGNATURE, quote(SIGNATURE, safe=""), quote(SIGNATURE), SIGNATURE[:12]))


INFO = BlobInfo("t", '"1"', 10, None)  # type: ignore[arg-type]


def _open(storage: Storage) -> bytes:
    with storage.open(INFO) as reader:
        return bytes(reader.source().read())


def _fetch_ends(storage: Storage) -> bytes:
    storage.fetch_ends([INFO, INFO._replace(path="u")], 5)
    return _open(storage)  # which tells what could not be fetched ahead


OPERATIONS: dict[str, Callable[[Storage], Any]] = {
    "list": lambda storage: storage.list("enriched"),
    "folder": lambda storage: storage.folder("enriched"),
    "stat": lambda storage: storage.stat("t"),
    "peek": lambda storage: storage.peek(["t", "u"]),
    "read": lambda storage: storage.read("t"),
    "open": _open,
    "fetch-ends": _fetch_ends,
    "write": lambda storage: storage.write("t", b"data"),
    "create": lambda storage: storage.write("t", b"data", expected=None),
    "delete": lambda storage: storage.delete("t"),
}


@pytest.mark.parametrize("kind", NO_SERVICE)
def test_an_answer_that_is_not_the_services_is_told_without_the_signature(kind: str) -> None:
    for listing in (False, True):
        with answering(NO_SERVICE[kind], listing=listing) as url:
            for name, operation in OPERATIONS.items():
                if listing and name in {"list", "folder"}:
                    continue
                with pytest.raises(LakeError) as caught:
                    operation(signed(url))
                assert caught.value.hint, name
                assert not shows_signature(told(caught.value)), name
                assert not holds_secret(caught.value), name


def test_a_server_that_is_not_there_is_told_without_the_signature() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UnreachableError) as caught:
        signed(f"http://127.0.0.1:{port}").stat("t")
    assert not shows_signature(told(caught.value))


def test_without_a_signature_the_cause_is_kept() -> None:
    with answering(NO_SERVICE["not-http"]) as url:
        storage = connect(connection_string=f"BlobEndpoint={url};AccountName=a;AccountKey=a2V5", settings=QUICK)
        with pytest.raises(LakeError) as caught:
            storage.stat("t")
    assert len(list(whole_chain(caught.value))) > 1


@pytest.mark.parametrize("way", ["connection string", "address"])
def test_the_variables_of_a_storage_and_its_filesystem_show_no_signature(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", SAS)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"BlobEndpoint=http://x/a;SharedAccessSignature={SAS}")
    if way == "address":
        storage = connect(f"abfss://lake@account.dfs.core.windows.net?{SAS}", settings=QUICK)
    else:
        storage = signed("http://127.0.0.1:9")
    for thing in (storage, storage.fs):  # type: ignore[attr-defined]
        assert not shows_signature(repr(vars(thing)))
        for value in vars(thing).values():
            assert not shows_signature(str(value))


def test_a_chain_is_cut_where_it_quotes_a_secret() -> None:
    def links() -> list[BaseException]:
        plain = ValueError("nothing to hide")
        plain.add_note("nor here")
        noted, in_args, below = ValueError("…"), ValueError(7, {"url": f"http://x/?{SAS}"}), KeyError("…")
        noted.add_note(f"asked {SAS}")
        below.__context__ = OSError(SAS)
        return [plain, noted, in_args, below, ExceptionGroup("several", [OSError("a"), OSError(SAS)])]

    for kind in ("__cause__", "__context__"):
        for number, link in enumerate(links()):
            error = LakeError("It went wrong.")
            setattr(error, kind, link)
            assert holds_secret(error) == (number > 0)
            assert scrubbed(error) is error
            assert not shows_signature(told(error))
            assert not holds_secret(error)
            if number == 0:
                assert getattr(error, kind) is link
            else:
                assert type(link).__name__ in str(error.__cause__)
    assert redact(SAS) != SAS


# --- whole files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["read", "open", "peek"])
@pytest.mark.parametrize("sent", [0, 9, 11])
def test_a_body_of_another_size_than_the_service_states_is_no_file(operation: str, sent: int) -> None:
    with answering(blob_answer(b"x" * sent, total=10), listing=True) as url, pytest.raises(UnreachableError) as caught:
        OPERATIONS[operation](signed(url))
    assert "10" in str(caught.value)


def test_a_body_cut_short_once_is_asked_for_again() -> None:
    answers = iter([blob_answer(b"x" * 9, total=10), blob_answer(b"0123456789", total=10)])
    with answering(lambda _: next(answers), listing=True) as url:
        storage = signed(url, Settings(retries=1))
        assert storage.read("t") == (b"0123456789", '"1"')


def test_another_range_than_was_asked_for_is_no_file() -> None:
    def shifted(_: bytes) -> bytes:
        return blob_answer(b"x" * 5, total=10).replace(b"bytes 0-9/10", b"bytes 5-9/10")

    with answering(shifted, listing=True) as url:
        for operation in ("read", "open"):
            with pytest.raises(LakeError):
                OPERATIONS[operation](signed(url))


def test_a_file_is_read_as_it_is_stored_whatever_encoding_it_is_said_to_have(lake_with: Any) -> None:
    packed = gzip.compress(b"Date,Asset,Last_Price\n" * 100)
    storage = lake_with(packed, content_encoding="gzip")
    assert storage.read("t").data == packed
    info = storage.stat("t")
    with storage.open(info) as reader:
        assert reader.source().read() == packed


@pytest.fixture
def lake_with(make_rig: Any, azurite: Any) -> Callable[..., Storage]:
    """A lake on the server with a file ``t`` that another program put there."""

    def make(data: bytes, **settings: str) -> Storage:
        from azure.storage.blob import ContentSettings

        rig = make_rig("azurite")
        with azurite.client() as client:
            container = client.get_container_client(rig.arguments["container"])
            container.upload_blob("t", data, content_settings=ContentSettings(**settings))
        return rig.storage()  # type: ignore[no-any-return]

    return make


def test_a_local_file_that_grows_or_shrinks_while_it_is_read_is_no_file(
    disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program copies into the folder: what has arrived so far is not the file."""
    storage = disk.storage()
    storage.write("raw/prices/t.csv", b"Date,Asset\n" * 100)
    place = storage.root / "raw/prices/t.csv"
    real = os.fstat

    def copied_meanwhile(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "t.csv":
            with place.open("ab") as file:
                file.write(b"more")
        return status

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to see which file is meant")
    monkeypatch.setattr(os, "fstat", copied_meanwhile)
    with pytest.raises(LuxorError, match="replaced while it was being read"):
        storage.read("raw/prices/t.csv")


# --- another process -------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_lake_on_azure_that_is_used_after_a_fork_is_told(make_rig: Any) -> None:
    storage = make_rig("azurite").storage()
    storage.write("t", b"1")
    seen, told_by_child = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - in the other process
        try:
            storage.read("t")
            text = "it was read"
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent looks at it
            text = f"{type(error).__name__}: {error}"
        os.write(told_by_child, text.encode())
        os._exit(0)
    os.waitpid(child, 0)
    text = os.read(seen, 10_000).decode()
    os.close(seen)
    os.close(told_by_child)
    assert text.startswith("UsageError")
    assert "before this process was forked" in text
    assert "Open the lake in the new process" in text
    assert storage.read("t").data == b"1"
