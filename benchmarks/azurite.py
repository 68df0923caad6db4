"""A real Azurite for the benchmarks, and a proxy that counts what passes to and from it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

# The well-known account of every Azurite; it opens nothing else.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Azurite:
    """A running server."""

    url: str

    @property
    def connection_string(self) -> str:
        return connection_string(self.url)

    def container(self, name: str) -> str:
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(self.connection_string) as client:
            client.create_container(name)
        return name

    def upload(self, container: str, folder: Path) -> None:
        """Put every file below ``folder`` into the container."""
        from azure.storage.blob import ContainerClient

        with ContainerClient.from_connection_string(self.connection_string, container) as client:
            for path in sorted(folder.rglob("*.parquet")):
                with path.open("rb") as file:
                    client.upload_blob(path.relative_to(folder).as_posix(), file, max_concurrency=4)


def connection_string(url: str) -> str:
    return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={url}/{ACCOUNT};"


def storage_options(connection: str) -> dict[str, str]:
    """The same account for the Rust programs' object_store, which takes an emulator's address from the environment.

    Told that it is one, it does without the service's ``startFrom``, which Azurite passes over.
    """
    os.environ["AZURITE_BLOB_STORAGE_URL"] = connection.split("BlobEndpoint=")[1].removesuffix(f"/{ACCOUNT};")
    return {"azure_storage_use_emulator": "true", "azure_allow_http": "true"}


@contextmanager
def running() -> Iterator[Azurite | None]:
    """A server on a free port that keeps its blobs in memory; None where Azurite is not installed."""
    command = _command()
    if command is None:
        yield None
        return
    options = ["--blobPort", "0", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    found = None
    for line in process.stdout:
        found = re.search(r"successfully listen(?:ing|s) (?:at|on) (http://[\d.]+:\d+)", line)
        if found:
            break
    if found is None:
        raise RuntimeError(f"Azurite did not start (exit code {process.wait()})")
    # Its log must be read on, or it blocks when the pipe is full.
    drain = threading.Thread(target=lambda: [None for _ in process.stdout or ()], daemon=True)
    drain.start()
    try:
        yield Azurite(found[1])
    finally:
        process.terminate()
        process.wait(timeout=30)
        drain.join(timeout=30)
        process.stdout.close()


def _command() -> list[str] | None:
    folder = Path(os.environ.get("AZURITE_FOLDER", Path(__file__).parents[1] / ".azurite"))
    main = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    node = shutil.which("node")
    if node and main.exists():
        return [node, str(main)]
    found = shutil.which("azurite-blob")
    return [found] if found else None


class Counter:
    """A proxy on loopback: requests, the bytes of their answers, and how many were under way at once.

    It is slower than going straight to the server, so nothing is timed through it.
    """

    def __init__(self, upstream: str) -> None:
        self._host, self._port = urlsplit(upstream).hostname, urlsplit(upstream).port
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.reset()
        self.url = ""

    def reset(self) -> None:
        self.requests = self.received = self.sent = self.at_once = self._open = 0

    def __enter__(self) -> Counter:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._meet, "127.0.0.1", 0, limit=2**20))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _meet(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            server, requests = await asyncio.open_connection(self._host, self._port, limit=2**20)
            try:
                while True:
                    head = await client.readuntil(_HEAD_END)
                    self.requests += 1
                    self._open += 1
                    self.at_once = max(self.at_once, self._open)
                    self.sent += await _pass_on(head, client, requests)
                    answer = await server.readuntil(_HEAD_END)
                    body = server if not head.startswith(b"HEAD ") else None
                    self.received += await _pass_on(answer, body, answers)
                    self._open -= 1
            finally:
                requests.close()
                answers.close()


async def _pass_on(head: bytes, body: asyncio.StreamReader | None, sink: asyncio.StreamWriter) -> int:
    """Write a head, and the body that follows it; the body's length."""
    sink.write(head)
    length = _LENGTH.search(head)
    total, left = 0, int(length[1]) if length and body else 0
    chunked = body is not None and b"transfer-encoding: chunked" in head.lower()
    while body is not None and (left or chunked):
        if chunked:
            data = await body.readuntil(b"\r\n")
            size = int(data, 16)
            data += await body.readexactly(size + 2)
            chunked = size > 0
        else:
            data = await body.readexactly(min(left, 2**18))
            left -= len(data)
        total += len(data)
        sink.write(data)
        await sink.drain()
    await sink.drain()
    return total
