"""What a load did to a table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from luxor_pipelines.notebook import html_facts

__all__ = ["LoadResult"]


@dataclass(frozen=True)
class LoadResult:
    """What a load did to a table.

    Counts are rows. ``partitions`` are the labels of the files that were written (``""`` for a
    table in one file). The versions are those of the files that the batch has rows for, before and
    after it; None where there were none.
    """

    table: str
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    partitions: tuple[str, ...] = ()
    version_before: str | None = None
    version_after: str | None = None

    @classmethod
    def total(cls, results: Sequence[LoadResult]) -> LoadResult:
        """Return what several loads of one table, one after the other, did together."""
        if len(results) == 1:
            return results[0]
        return cls(
            results[0].table,
            sum(result.inserted for result in results),
            sum(result.updated for result in results),
            sum(result.unchanged for result in results),
            sum(result.deleted for result in results),
            tuple(dict.fromkeys(label for result in results for label in result.partitions)),
            _together([result.version_before for result in results]),
            _together([result.version_after for result in results]),
        )

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return bool(self.partitions)

    def _repr_html_(self) -> str:
        counts = {name: getattr(self, name.lower()) for name in ("Inserted", "Updated", "Unchanged", "Deleted")}
        files = {"Partitions written": ", ".join(label or "the whole table" for label in self.partitions)}
        return html_facts(f"Load of {self.table}", counts | files)

    def __str__(self) -> str:
        return (
            f"{self.table}: {self.inserted} inserted, {self.updated} updated, {self.unchanged} unchanged, "
            f"{self.deleted} deleted"
        )


def _together(versions: Sequence[str | None]) -> str | None:
    known = [version for version in versions if version]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:32] if known else None
