"""A bad network: an HTTP proxy before the blob server that spoils some requests, by seeded choice."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

FAULTS = (
    "reset before",  # the connection is reset, and the server has not seen the request
    "reset after",  # … and it has done what was asked: the ambiguous commit
    "silence before",  # no answer until the client gives up
    "silence after",
    "500 before",  # an error in the place of the answer
    "503 before",
    "429 before",
    "500 after",
    "slow",  # the answer comes in small pieces
    "cut",  # the connection is reset in the middle of the answer
    "stalled",  # the answer stops in the middle, and nothing follows
)
_CODES = {"500": "InternalError", "503": "ServerBusy", "429": "TooManyRequests"}


class Message(NamedTuple):
    """A request or an answer."""

    head: bytes
    body: bytes

    @property
    def method(self) -> bytes:
        return self.head.split(b" ", 1)[0]


class Proxy:
    """Where it listens, which share of the requests it spoils, and what it has done."""

    def __init__(self, seed: int, rate: float, faults: Sequence[str] = FAULTS) -> None:
        self.port = 0
        self.rate = rate
        self.faults = faults
        self.done: Counter[str] = Counter()
        self.spoil: Callable[[Message], str | None] = self._by_chance
        self._seed = seed
        self._upstream = ("", 0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _by_chance(self, request: Message) -> str | None:
        chance = random.Random(f"{self._seed}/{self.done['requests']}")
        return chance.choice(self.faults) if chance.random() < self.rate else None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = None
        # Closed without lingering, the connection is reset, not ended.
        linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        try:
            server = await asyncio.open_connection(*self._upstream)
            while (request := await _receive(reader)) is not None:
                fault = self.spoil(request)
                self.done["requests"] += 1
                if fault:
                    self.done["faults"] += 1
                    self.done[fault] += 1
                answer = None
                if not fault or not fault.endswith("before"):
                    server[1].write(request.head + request.body)
                    answer = await _receive(server[0], bodyless=request.method == b"HEAD")
                    if answer is None:
                        return
                if not await self._answer(answer, fault, request, reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one of the two has gone, as connections do here, or the proxy is closed
        finally:
            writer.transport.abort()
            if server is not None:
                server[1].transport.abort()

    async def _answer(
        self,
        answer: Message | None,
        fault: str | None,
        request: Message,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answer the client, or not; whether the connection may go on."""
        status = (fault or "").split(" ")[0]
        if status in _CODES or fault == "nonsense":
            writer.write(_nonsense(request) if fault == "nonsense" else _error(status, request))
        elif answer is None or fault in {"reset after", "silence after"}:
            if fault in {"silence before", "silence after"}:
                await reader.read()  # until the client gives up
            return False
        else:
            data = answer.head + answer.body
            # In the middle of the body, or of the head where there is none.
            middle = len(answer.head) + len(answer.body) // 2 if answer.body else len(answer.head) // 2
            if fault == "slow":
                for start in range(0, len(data), len(data) // 8 + 1):
                    writer.write(data[start : start + len(data) // 8 + 1])
                    await asyncio.sleep(0.02)
            elif fault in {"cut", "stalled"}:
                writer.write(data[:middle])
                await writer.drain()
                if fault == "stalled":
                    await reader.read()
                return False
            else:
                writer.write(data)
        await writer.drain()
        return True


def _error(status: str, request: Message) -> bytes:
    """The service's answer of that status."""
    code = _CODES[status]
    body = f"<Error><Code>{code}</Code><Message>Try again.</Message></Error>"
    head = f"HTTP/1.1 {status} {code}\r\nx-ms-error-code: {code}\r\nContent-Type: application/xml"
    return _written(head, body, request)


def _nonsense(request: Message) -> bytes:
    """What a portal answers that wants to be logged into first."""
    return _written("HTTP/1.1 200 OK\r\nContent-Type: text/html", "<html><br>Welcome", request)


def _written(head: str, body: str, request: Message) -> bytes:
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{'' if request.method == b'HEAD' else body}".encode()


async def _receive(reader: asyncio.StreamReader, *, bodyless: bool = False) -> Message | None:
    """The next message; None when there is none any more."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if bodyless or lines[0].split(" ")[1] in {"204", "304"}:
        return Message(head, b"")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while True:
            size = await reader.readuntil(b"\r\n")
            piece = await reader.readexactly(int(size, 16) + 2)
            body += size + piece
            if int(size, 16) == 0:
                return Message(head, body)
    return Message(head, await reader.readexactly(int(headers.get("content-length", 0))))


@contextmanager
def faulty_proxy(url: str, seed: int, rate: float, faults: Sequence[str] = FAULTS) -> Iterator[Proxy]:
    """A proxy before the server at ``url``, in a thread of its own."""
    proxy = Proxy(seed, rate, faults)
    host, port = url.removeprefix("http://").split(":")
    proxy._upstream = (host, int(port))
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def listen() -> None:
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0, limit=2**16)
        proxy.port = server.sockets[0].getsockname()[1]
        ready.set()
        with suppress(asyncio.CancelledError):
            await server.serve_forever()
        server.close()
        open_ = asyncio.all_tasks() - {asyncio.current_task()}
        for connection in open_:
            connection.cancel()
        await asyncio.gather(*open_, return_exceptions=True)

    task = loop.create_task(listen())
    thread = threading.Thread(target=loop.run_until_complete, args=(task,), daemon=True)
    thread.start()
    ready.wait(30)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(30)
        loop.close()
