"""The gate before a table: rows that are well formed, but so odd that a person has to look at them.

Columns, types, nulls and keys are the load's to check, which refuses them whatever one says. Here it
is about content: a pipeline holds its rows against what is stored and what is possible, and makes
`Finding` s of what it sees. `gate` stops the run on those of severity ``error``, before anything is
written, unless it is forced; what was forced is told in the run's record.
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
    """Something odd about a table's rows.

    Attributes
    ----------
    severity
        ``error`` must be looked into, ``warning`` should be.
    table, partition
        Where; the partition is empty where it is about the whole table.
    what
        What it is, to be read after the count.
    count
        How many rows, keys or files it is about.
    sample
        A few of them.
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
    """What a run's record says about the gate: its warnings, and ``quality`` among its details."""

    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


def gate(rows: str, findings: Sequence[Finding], *, force: bool, command: str) -> Passed:
    """Let rows through to their table, or stop the run.

    Parameters
    ----------
    rows
        What the rows are, for messages, as in ``hist_returns of 2026-10-31``.
    findings
        What was found in them.
    force
        Whether somebody has looked, and wants them written all the same.
    command
        The command that writes them, to which ``--force`` is added.

    Raises
    ------
    QualityError
        There are findings of severity ``error``; it lists them all.
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
    return Passed(warnings, {"quality": {"forced": bool(serious), "findings": [asdict(each) for each in findings]}})


def half_gone(before: NDArray[np.bool_], now: NDArray[np.bool_]) -> bool:
    """Whether of those that were there before, half or more are not there now; each place is one of them.

    One that goes is never too many, so that in a small lake an asset can be delisted.
    """
    gone = int((before & ~now).sum())
    return gone > 1 and 2 * gone >= int(before.sum())
