"""The European Central Bank in the tests: a small file of its rates, and a web server in the bank's place."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ECB = b"""Date,USD,JPY,BRL,CAD,
2026-10-30,1.25,150,7.5,1.5,
2026-10-29,1.2,N/A,6,,
"""


def packed(*members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of files, by name and content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


@contextmanager
def served(*answers: tuple[int, bytes]) -> Iterator[tuple[str, list[str]]]:
    """The address of a web server that gives these answers in turn, the last one for ever; and the paths requested."""
    remaining = list(answers)
    requested: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            status, body = remaining.pop(0) if len(remaining) > 1 else remaining[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/eurofxref-hist.zip", requested
        finally:
            server.shutdown()
            thread.join()
