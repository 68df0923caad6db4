"""Claim: a file that whoever rewrites a whole table has given a version of its own, and what that keeps others from.

A conversion, an archiving and a restoring change many files, which no storage does in one step; any of them may be
suspended or killed at any moment and be followed by another. Each goes by the same steps:

1. Write the *claimed file* anew, on condition of the version it was seen with: its version now is known to nobody
   else. For a conversion that is the single file, the same bytes; for a move, ``_moving.json``.
2. Create the files that are not there yet, *without rows*.
3. List the folder.
4. See that the claimed file still has the version given in step 1.
5. Write or delete each file *on condition of the version listed*.
6. Delete the claimed file, on condition of its version.

Why that is enough. Let A and B claim one after the other, B later, and let B have written or deleted a file in step
5. Nothing of A's lands on it afterwards: to succeed, A's write would have to be on condition of the version that B
left, so A would have listed after B's step 5; but then B had claimed before A's step 4, which ends A. Nothing of A's
lands where B found no file either, but a file without rows, which A takes back in step 4: rows are only ever written
on condition of a version. And step 6 of A is refused once B has claimed. So whoever claims last completes, alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from luxor_pipelines.errors import ConflictError
from luxor_pipelines.lake.concurrency import at_once
from luxor_pipelines.lake.storage.base import BlobInfo, Storage

__all__ = ["Claim"]


@dataclass(frozen=True)
class Claim:
    """A claimed file and the version that it was given; see the top of this module."""

    storage: Storage
    path: str
    version: str

    @classmethod
    def take(cls, storage: Storage, path: str, data: bytes, *, expected: str | None) -> Claim:
        """Claim a file by writing ``data`` on condition of its version, None for none (step 1).

        Raises
        ------
        ConflictError
        """
        return cls(storage, path, storage.write(path, data, expected=expected))

    def check(self) -> None:
        """Refuse to go on where the claimed file has another version by now (step 4).

        Raises
        ------
        ConflictError
        """
        info = self.storage.stat(self.path)
        if info is None or info.version != self.version:
            raise self.storage.conflict(self.path)

    def prepare(
        self, list_files: Callable[[], Iterable[BlobInfo]], paths: Iterable[str], empty: Callable[[str], bytes]
    ) -> dict[str, BlobInfo]:
        """Create those of ``paths`` that are absent, and return every file that there is then (steps 2 to 4).

        Parameters
        ----------
        list_files
            Lists the files of the table.
        empty
            The content of a path's file without rows.

        Raises
        ------
        ConflictError
            Another claim was made meanwhile.
        """
        self.check()
        present = {info.path for info in list_files()}
        created: list[tuple[str, str]] = []

        def create(path: str) -> None:
            with suppress(ConflictError):  # another has created it: it is listed now
                created.append((path, self.storage.write(path, empty(path), expected=None)))

        at_once(self.storage, [path for path in paths if path not in present], create)
        files = {info.path: info for info in list_files()}
        try:
            self.check()
        except ConflictError:
            for path, version in created:
                with suppress(ConflictError):
                    self.storage.delete(path, expected=version)
            raise
        return files

    def write(self, paths: Iterable[str], content: Callable[[str], bytes], listing: Mapping[str, BlobInfo]) -> None:
        """Write each file on condition of the version that `prepare` listed (step 5).

        Raises
        ------
        ConflictError
        """

        def write(path: str) -> None:
            if path not in listing:
                raise self.storage.conflict(path)
            self.storage.write(path, content(path), expected=listing[path].version)

        at_once(self.storage, list(paths), write)

    def release(self) -> None:
        """Delete the claimed file on condition of its version (step 6).

        Raises
        ------
        ConflictError
            It has another version, or is gone.
        """
        self.check()
        self.storage.delete(self.path, expected=self.version)
