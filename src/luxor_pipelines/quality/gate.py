"""The gate before a table: it stops rows that are well formed, but so odd that a person has to look at them.

A load checks columns, types, nulls and keys itself, and cannot be talked out of it. The gate is about content: a
pipeline compares its rows with the stored ones and with what is possible, and reports each fault as a `Finding`.
`gate` stops the run on findings of severity ``error``, before anything is written, unless the run is forced; its
record then says so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from luxor_pipelines.errors import QualityError

__all__ = ["Finding", "Passed", "gate", "half_gone"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """An oddity of a table's rows or files.

    Attributes
    ----------
    severity
        ``error`` must be looked into, ``warning`` should be.
    table, partition
        The table and its partition; empty where the finding is about all partitions, or about no table.
    what
        The oddity in words, to be read after the count.
    count
        The number of rows, keys or files that it is about.
    sample
        A few of these.
    """

    severity: Literal["error", "warning"]
    table: str
    partition: str
    what: str
    count: int
    sample: str = ""

    def __str__(self) -> str:
        return f"{self.count:,} {self.what}" + (f": {self.sample}" if self.sample else "")


@dataclass(frozen=True)
class Passed:
    """The gate's part of a run's record: warnings, and an entry ``quality`` of its details."""

    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


def gate(rows: str, findings: Sequence[Finding], *, force: bool, command: str) -> Passed:
    """Let rows pass to their table, or stop the run.

    Parameters
    ----------
    rows
        A name of the rows for messages, as in ``hist_returns of 2026-10-31``.
    findings
        The oddities of the rows.
    force
        Whether a person has looked at them and wants the rows written.
    command
        The command that writes the rows, to which ``--force`` is added.

    Raises
    ------
    QualityError
        There are findings of severity ``error``; the message lists all findings.
    """
    serious = [finding for finding in findings if finding.severity == "error"]
    if serious and not force:
        listed = "\n".join(f"- {finding}" for finding in findings)
        raise QualityError(
            f"{rows}: nothing was written, for this is to be looked at first:\n{listed}",
            hint=f"Correct what it comes from; if it is right, `{command} --force` writes it, and the record says so.",
        )
    warnings = tuple(f"{'Forced: ' if finding in serious else ''}{finding}" for finding in findings)
    for warning in warnings:
        logger.warning("%s: %s", rows, warning)
    if not findings:
        return Passed()
    listed_findings = [asdict(finding) for finding in findings]
    return Passed(warnings, {"quality": {"forced": bool(serious), "findings": listed_findings}})


def half_gone(before: NDArray[np.bool_], now: NDArray[np.bool_]) -> bool:
    """Return whether half or more of the items that were present before are missing now, one item per place.

    A single missing item is never too many, so that an asset of a small lake can be delisted.
    """
    missing = int((before & ~now).sum())
    return missing > 1 and 2 * missing >= int(before.sum())
