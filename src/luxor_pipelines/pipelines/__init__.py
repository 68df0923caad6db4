"""One module per pipeline, each with ``run(ref_date=None, *, lq=None, now=None, …)`` and a `Declaration`.

Modules whose name starts with an underscore are shared helpers, not pipelines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from datetime import date

    from luxor_pipelines.ingest import LoadResult
    from luxor_pipelines.lake.types.schema import TableSchema

__all__ = ["JSON", "Declaration", "Due", "PipelineResult"]

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""The values that a run record can hold."""


@dataclass(frozen=True)
class PipelineResult:
    """The outcome of one run of a pipeline.

    Attributes
    ----------
    loads
        One result per table written to, in the order of writing.
    rows
        Rows handed to the loads, changed or not.
    details
        Further facts for an operator, ready for JSON.
    warnings
        Oddities that did not stop the run but should be looked at; one sentence each.
    ref_date
        The reference date that the rows are of; None where there is none.
    """

    loads: tuple[LoadResult, ...]
    rows: int
    details: dict[str, JSON] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    ref_date: date | None = None


@dataclass(frozen=True)
class Due:
    """When a table must hold the rows of a date.

    Attributes
    ----------
    time
        The time of day where the firm is (``LUXOR_TIME_ZONE``), as ``20:00``.
    days
        Business days after the date that the rows are of.
    calendar
        The location whose business days count.
    """

    time: str = "20:00"
    days: int = 0
    calendar: str = "bz"

    def __str__(self) -> str:
        days = {0: "that day", 1: "the next business day"}.get(self.days, f"{self.days} business days later")
        return f"{self.time}, {days} ({self.calendar})"


@dataclass(frozen=True)
class Declaration:
    """A pipeline's statement about itself, as ``DECLARATION`` in its module.

    `luxor list`, `status`, `backfill`, `check` and the order of several pipelines rest on it.

    Attributes
    ----------
    outputs
        The tables that it writes.
    inputs
        The tables that it reads, and folders such as ``raw/prices/``; it runs after those that write them.
    dates
        Its reference dates: ``month ends``, ``days`` (business days of ``due.calendar``), or None where its work
        does not depend on one.
    due
        When its tables must hold the rows of a date; None where they are not judged.

    A module that computes many dates at once has a function ``run_many(ref_dates, *, lq, now=None, …)``, which
    yields for each date, in ascending order, the date and a function that checks and loads its rows and returns the
    `PipelineResult`.
    """

    outputs: tuple[TableSchema, ...] = ()
    inputs: tuple[str, ...] = ()
    dates: Literal["month ends", "days"] | None = None
    due: Due | None = None
