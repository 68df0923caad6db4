"""One version of a remote file as a file object, of which only the parts that are read are fetched."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence

__all__ = ["CHUNK", "PinnedFile"]

CHUNK = 8 * 2**20
"""Bytes a request; longer ranges are fetched in several at once."""
_NEIGHBOURS = 64 * 2**10
"""Ranges closer than this are fetched as one: a request costs more than the bytes between."""

Range = tuple[int, int]


class PinnedFile(io.RawIOBase):
    """A file of ``size`` bytes: fetches what `prefetch` names at once, the rest on demand.

    Parameters
    ----------
    size
        Its length in bytes.
    fetch
        The bytes of each range (start, end), all of one version of the file.
    first_part
        A part that has been fetched already: its position in the file, and its bytes.
    """

    def __init__(
        self, size: int, fetch: Callable[[Sequence[Range]], list[bytes]], first_part: tuple[int, bytes] = (0, b"")
    ) -> None:
        super().__init__()
        self._size = size
        self._fetch = fetch
        self._position = 0
        self._parts: list[tuple[int, bytes]] = [first_part]

    def source(self) -> PinnedFile:
        """Return the same file at its start, for another thread; the two share what either fetches."""
        other = PinnedFile(self._size, self._fetch)
        other._parts = self._parts
        return other

    def prefetch(self, ranges: Iterable[Range]) -> None:
        """Fetch the parts of these ranges (start, end) that lie inside the file and are not in memory."""
        inside = [(max(0, start), min(end, self._size)) for start, end in ranges]
        missing = [(start, end) for start, end in inside if end > start and self._cached(start, end) is None]
        if not missing:
            return
        whole = _coalesce(missing)
        pieces = iter(self._fetch([piece for merged in whole for piece in _split(merged)]))
        for merged in whole:  # its pieces are joined, so that a read of a requested range lies in one part
            parts = [next(pieces) for _ in _split(merged)]
            self._parts.append((merged[0], parts[0] if len(parts) == 1 else b"".join(parts)))

    def _cached(self, start: int, end: int) -> memoryview | None:
        for first, data in self._parts:
            if first <= start and end <= first + len(data):
                return memoryview(data)[start - first : end - first]
        return None

    def read(self, size: int | None = -1) -> bytes:
        """Return the next ``size`` bytes, fewer only at the end of the file."""
        start = self._position
        end = self._size if size is None or size < 0 else min(start + size, self._size)
        if end <= start:
            return b""
        cached = self._cached(start, end)
        if cached is None:
            self.prefetch([(start, end)])
            cached = self._cached(start, end)
        if cached is None:
            raise EOFError(f"bytes {start} to {end} were asked for, and others answered")
        self._position = end
        return bytes(cached)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position of the next byte to be read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the start of the file")
        self._position = base + offset
        return self._position


def _coalesce(ranges: Sequence[Range]) -> list[Range]:
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if merged and start - merged[-1][1] <= _NEIGHBOURS:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _split(whole: Range) -> list[Range]:
    start, end = whole
    return [(at, min(at + CHUNK, end)) for at in range(start, end, CHUNK)]
