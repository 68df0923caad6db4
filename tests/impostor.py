"""A server that answers in the blob service's place: with rubbish, or with what is to be tested."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Answer = bytes | Callable[[bytes], bytes]

EMPTY_LISTING = b'<?xml version="1.0"?><EnumerationResults><Blobs/><NextMarker/></EnumerationResults>'


def response(status: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextmanager
def answering(answer: Answer, *, listing: bool = False) -> Iterator[str]:
    """The address of a server that gives one answer to everything; with ``listing`` an empty one to listings."""

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request and (data := client.recv(65536)):
                request += data
            if not request:
                return
            if listing and b"comp=list" in request.split(b"\r\n")[0]:
                reply = response("200 OK", EMPTY_LISTING, "Content-Type: application/xml", "Connection: close")
            else:
                reply = answer(request) if callable(answer) else answer
            head, end, _ = reply.partition(b"\r\n\r\n")
            client.sendall(head + end if request.startswith(b"HEAD ") else reply)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass

    with listening(serve) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port of this machine, each connection to which ``serve`` gets in a thread of its own."""
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        server.close()


def blob_answer(data: bytes, *, total: int, etag: str = '"1"') -> bytes:
    """The service's answer to a request for the first ``total`` bytes of a file, with ``data`` as its body."""
    headers = [f"Content-Range: bytes 0-{total - 1}/{total}", f"ETag: {etag}", "x-ms-blob-type: BlockBlob"]
    return response("206 Partial Content", data, *headers, "Last-Modified: Mon, 02 Nov 2026 10:00:00 GMT")
