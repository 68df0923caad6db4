"""One module per pipeline, each with ``run(ref_date=None, *, lq=None, now=None, …)``.

Modules whose name starts with an underscore are shared helpers, not pipelines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from datetime import date

    from luxor_pipelines.ingest import LoadResult

__all__ = ["JSON", "PipelineResult"]

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""What a run record can hold."""


@dataclass(frozen=True)
class PipelineResult:
    """What one run of a pipeline did.

    Attributes
    ----------
    loads
        One result per table written to, in the order of writing.
    rows
        Rows handed to the loads, changed or not.
    details
        What else an operator wants to know, ready for JSON.
    warnings
        What did not stop the run but should be looked at; one sentence each.
    ref_date
        The reference date that the rows are of; None where there is none.
    """

    loads: tuple[LoadResult, ...]
    rows: int
    details: dict[str, JSON] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    ref_date: date | None = None
