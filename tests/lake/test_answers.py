"""Answers that are not the blob service's, or not whole: what is told of them, and that no signature is in it."""

from __future__ import annotations

import gzip
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from impostor import EMPTY_LISTING, Answer, answering, blob_answer, response
from luxor_pipelines.errors import (
    AccessError,
    ConflictError,
    LakeError,
    LuxorError,
    UnreachableError,
    holds_secret,
    redact,
    scrubbed,
)
from luxor_pipelines.lake.storage import azure
from luxor_pipelines.lake.storage.base import BlobInfo, Storage
from luxor_pipelines.lake.storage.connect import connect
from luxor_pipelines.settings import Settings
from luxor_pipelines.sources.ecb import fetch_ecb

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
    "entry": lambda storage: storage.entry("enriched"),
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
                if listing and name in {"list", "entry", "folder"}:
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


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2secret@127.0.0.1:nowhere/file.zip",
        "http://127.0.0.1:9/file.zip?token=hunter2secret",
        "http://127.0.0.1:9/a b?hunter2secret",
        "http://user:hunter2secret@[::1/file.zip",
    ],
)
def test_the_address_that_rates_are_fetched_from_shows_no_secret_in_an_error(url: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        fetch_ecb(url, attempts=1)
    assert "hunter2secret" not in told(caught.value)


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


@pytest.mark.parametrize("stated", [b"bytes 5-9/10", b"bytes 0-4/10"])
def test_another_range_than_was_asked_for_is_no_file(stated: bytes) -> None:
    answer = blob_answer(b"x" * 5, total=10).replace(b"bytes 0-9/10", stated)
    with answering(answer, listing=True) as url:
        for operation in ("read", "open", "peek"):
            with pytest.raises(UnreachableError, match=stated.decode()):
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


# --- refusals and absences of every kind -----------------------------------------------------------


def service_error(status: str, code: str = "") -> bytes:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>.</Message></Error>'.encode() if code else b"no"
    kind = "application/xml" if code else "text/html"
    headers = [f"x-ms-error-code: {code}"] if code else []
    return response(status, body, f"Content-Type: {kind}", "Connection: close", *headers)


REFUSALS = {
    "401": service_error("401 Unauthorized"),
    "401-code": service_error("401 Unauthorized", "NoAuthenticationInformation"),
    "403": service_error("403 Forbidden"),
    "403-role": service_error("403 Forbidden", "AuthorizationPermissionMismatch"),
    "403-network": service_error("403 Forbidden", "AuthorizationFailure"),
    "403-signature": service_error("403 Forbidden", "AuthenticationFailed"),
    "403-account": service_error("403 Forbidden", "AccountIsDisabled"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_every_kind_of_refusal_is_an_access_error(kind: str) -> None:
    with answering(REFUSALS[kind], listing=True) as url:
        for name, operation in OPERATIONS.items():
            if name in {"list", "entry", "folder"}:
                continue
            with pytest.raises(AccessError) as caught:
                operation(signed(url))
            assert "refuses these credentials" in str(caught.value), name
    with answering(REFUSALS[kind]) as url:
        for name in ("list", "folder", "stat"):
            with pytest.raises(AccessError):
                OPERATIONS[name](signed(url))


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in {"list", "entry", "folder"}])
@pytest.mark.parametrize("code", ["", "AccountNotFound"])
def test_a_404_of_no_blob_is_no_absence(operation: str, code: str) -> None:
    with answering(service_error("404 Not Found", code), listing=True) as url:
        with pytest.raises(LakeError, match="answered 404") as caught:
            OPERATIONS[operation](signed(url))
        assert not isinstance(caught.value, FileNotFoundError | ConflictError)


def test_a_write_that_was_refused_is_no_success_where_the_look_at_the_file_is_answered_by_a_portal() -> None:
    """The blob that refused it is looked at, to see whether it is our own write: a 404 of no blob says nothing."""

    def answer(request: bytes) -> bytes:
        if request.startswith(b"HEAD"):
            return service_error("404 Not Found")
        return service_error("412 Precondition Failed", "ConditionNotMet")

    with answering(answer, listing=True) as url:
        for act in (lambda lake: lake.write("t", b"1", expected='"1"'), lambda lake: lake.delete("t", expected='"1"')):
            with pytest.raises(LakeError, match="answered 404") as caught:
                act(signed(url))
            assert not isinstance(caught.value, ConflictError)


def test_a_range_that_ends_where_the_file_does_not_is_refused() -> None:
    """Something between says that the file ends where its copy does; the version that was listed is longer."""
    with answering(blob_answer(b"01234", total=5), listing=True) as url:
        storage = signed(url)
        for operation in ("open", "fetch-ends"):
            with pytest.raises(UnreachableError, match="5 bytes came where 10"):
                OPERATIONS[operation](storage)


# --- a folder of a container -----------------------------------------------------------------------


def test_only_the_lakes_own_folder_is_asked_for() -> None:
    """A signature may allow a folder and not the container that it lies in."""
    asked: list[str] = []

    def answer(request: bytes) -> bytes:
        query = parse_qs(urlsplit(request.split(b" ")[1].decode()).query)
        if query.get("comp") != ["list"]:
            return service_error("404 Not Found", "BlobNotFound")
        asked.append(query.get("prefix", [""])[0])
        if not asked[-1].startswith("our lake/v1/"):
            return service_error("403 Forbidden", "AuthorizationPermissionMismatch")
        return response("200 OK", EMPTY_LISTING, "Content-Type: application/xml", "Connection: close")

    with answering(answer) as url:
        host = url.removeprefix("http://")
        text = f"BlobEndpoint={url};SharedAccessSignature={SAS}"
        for name in ("list", "folder", "stat"):
            storage = connect(f"abfss://lake@{host}/our%20lake/v1", connection_string=text, settings=QUICK)
            assert OPERATIONS[name](storage) in ([], ([], []), None)
    assert "our lake/v1/enriched/" in asked


@pytest.mark.parametrize("first", ["list", "folder", "stat"])
def test_the_first_request_of_all_has_a_limit_of_its_own(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure, "_PROBE_S", 0.2)
    release = threading.Event()

    def silent(_: bytes) -> bytes:
        release.wait(30)
        return b""

    with answering(silent) as url:
        with pytest.raises(UnreachableError, match="does not answer") as caught:
            OPERATIONS[first](signed(url, Settings()))
        release.set()
    assert isinstance(caught.value.__cause__, TimeoutError)  # and not the SDK's, which comes after many seconds


def test_a_folder_that_takes_long_to_list_later_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure, "_PROBE_S", 0.2)
    listing = response("200 OK", EMPTY_LISTING, "Content-Type: application/xml", "Connection: close")
    answers = iter([0.0, 0.5])

    def slower(_: bytes) -> bytes:
        threading.Event().wait(next(answers))
        return listing

    with answering(slower) as url:
        storage = signed(url, Settings())
        assert storage.folder("enriched") == ([], [])
        assert storage.folder("enriched") == ([], [])
