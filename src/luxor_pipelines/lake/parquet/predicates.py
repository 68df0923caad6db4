"""Conditions on rows: what a caller writes, and what a file's columns and statistics say to it."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cached_property, reduce
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luxor_pipelines.errors import SchemaError, UsageError
from luxor_pipelines.lake.types.schema import is_text_type

__all__ = ["Spelt", "Where", "apply", "conditions", "mask"]

_DAY = len("2026-10-31")
_FEW = 4
"""Spans up to which each is compared with by itself."""


@dataclass(frozen=True)
class Where:
    """A condition on one column: inside any of the closed ``spans``, or one of ``values``.

    An open end of a span is None. Neither a null nor a NaN ever meets a condition.
    """

    column: str
    spans: tuple[tuple[Any, Any], ...] | None = None
    values: Sequence[Any] | None = None

    @property
    def sparse(self) -> bool:
        """Whether most row groups are likely to have no row that meets it."""
        return self.values is not None

    def may_hold(self, low: Any, high: Any) -> bool:
        """Whether a row between ``low`` and ``high`` (inclusive) could meet the condition."""
        if self.spans is not None:
            return any((a is None or a <= high) and (b is None or low <= b) for a, b in self._near(low))
        return any(low <= value <= high for value in self.values or ())

    def within(self, low: Any, high: Any) -> Where:
        """What the condition comes to for rows between ``low`` and ``high`` (inclusive)."""
        if self.spans is None or len(self.spans) < 2:
            return self
        near = self._near(low)
        if self._in_order:
            near = near[: bisect.bisect_right(near, high, key=lambda span: span[0])]
        return Where(self.column, tuple(near))

    def _near(self, low: Any) -> Sequence[tuple[Any, Any]]:
        """The spans, without those before ``low`` where they are in order: there may be hundreds."""
        spans = self.spans or ()
        return spans[bisect.bisect_left(spans, low, key=lambda span: span[1]) :] if self._in_order else spans

    @cached_property
    def _in_order(self) -> bool:
        ends = [end for span in self.spans or () for end in span]
        return None not in ends and ends == sorted(ends)

    def must_hold(self, low: Any, high: Any) -> bool:
        """Whether every row between ``low`` and ``high`` (inclusive) meets the condition."""
        return self.spans is not None and any(
            (a is None or a <= low) and (b is None or high <= b) for a, b in self.spans
        )

    def mask(self, column: pa.ChunkedArray) -> NDArray[np.bool_]:
        """Whether each row of ``column`` meets the condition."""
        if not pa.types.is_dictionary(column.type):
            return np.asarray(self._mask(column).to_numpy(), dtype=bool)
        # Each distinct value is looked at once instead of each row.
        masks = [np.empty(0, dtype=bool)]
        for chunk in column.chunks:
            meets = np.append(self._mask(pa.chunked_array([chunk.dictionary])).to_numpy(), False)
            if meets.any():  # the last stands for a null, whose index is -1
                indices = chunk.indices if not chunk.null_count else pc.fill_null(chunk.indices, -1)
                masks.append(np.take(meets, indices.to_numpy()))
            else:
                masks.append(np.zeros(len(chunk), dtype=bool))
        return np.concatenate(masks)

    def _mask(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        if self.values is not None:
            given = [value for value in self.values if value is not None]
            if pa.types.is_integer(column.type):
                given = [value for value in given if not isinstance(value, float) or value.is_integer()]
            wanted = pa.array(given, column.type)
            if pa.types.is_floating(column.type):  # where 0.0 and -0.0 are two values to is_in
                column, wanted = pc.add(column, 0.0), pc.add(wanted, 0.0)
            return pc.is_in(column, value_set=wanted)
        if len(self.spans or ()) > _FEW and self._in_order and pa.types.is_timestamp(column.type):
            starts, stops = (pa.array(of, column.type).to_numpy() for of in zip(*self.spans or (), strict=True))
            cells = column.to_numpy()
            at = np.searchsorted(starts, cells, side="right") - 1
            return pa.chunked_array([pa.array((at >= 0) & (cells <= stops[at]))])  # a null, NaT, is below nothing
        if pa.types.is_integer(column.type) and any(
            isinstance(end, float) for span in self.spans or () for end in span
        ):
            column = column.cast(pa.float64(), safe=False)
        masks = []
        for low, high in self.spans or ():  # a NaN is in no span with an end
            limits = []
            if low is not None:
                limits.append(pc.greater_equal(column, pa.scalar(low, column.type)))
            if high is not None:
                limits.append(pc.less_equal(column, pa.scalar(high, column.type)))
            masks.append(reduce(pc.and_, limits) if limits else _filled(column))
        if not masks:
            return pa.chunked_array([_none(len(column))])
        inside = reduce(pc.or_, masks)
        return pc.fill_null(inside, False) if inside.null_count else inside


@dataclass(frozen=True)
class Spelt(Where):
    """A condition on what a column of text means: each distinct word is turned into its ``meaning`` and looked at.

    Of the order of the meanings the words' statistics say nothing.
    """

    meaning: Callable[[pa.Array], pa.Array] = lambda words: words

    @property
    def sparse(self) -> bool:
        """Yes: so the words are read before all else."""
        return True

    def may_hold(self, low: Any, high: Any) -> bool:  # noqa: ARG002
        """Not known: yes."""
        return True

    def must_hold(self, low: Any, high: Any) -> bool:  # noqa: ARG002
        """Not known: no."""
        return False

    def within(self, low: Any, high: Any) -> Where:  # noqa: ARG002
        """The same."""
        return self

    def _mask(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        return super()._mask(pa.chunked_array([self.meaning(column.combine_chunks())]))


def _filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    filled = pc.is_valid(column)
    return pc.and_not(filled, pc.is_nan(column)) if pa.types.is_floating(column.type) else filled


def _none(rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(False), rows)


def mask(table: pa.Table, where: Iterable[Where]) -> NDArray[np.bool_] | None:
    """Whether each row of ``table`` meets every condition; None without a condition."""
    masks = [condition.mask(table[condition.column]) for condition in where]
    return reduce(np.logical_and, masks) if masks else None


def apply(table: pa.Table, where: Iterable[Where]) -> pa.Table:
    """The rows of ``table`` that meet every condition."""
    meets = mask(table, where)
    return table if meets is None else table.filter(pa.array(meets))


def conditions(typed: pa.Schema, name: str, where: Mapping[str, Any]) -> list[Where]:
    """Conditions as callers write them: column → a value, a list of values, or ``(first, last)``.

    Dates may be given as dates or ISO text, and are whole days unless they have a time. In a column of
    stamps an instant without a zone is UTC. Text is looked for as given and trimmed in lower case, as
    the lake stores it. ``typed`` are the columns as they are read.

    Raises
    ------
    SchemaError
        A column that the table does not have.
    UsageError
        A value that is missing, or not of the column's type.
    """
    absent = [column for column in where if column not in typed.names]
    if absent:
        raise SchemaError(
            f"Table {name} has no column {', '.join(map(repr, absent))}; it has {', '.join(map(repr, typed.names))}.",
            hint="Check the spelling; column names are case-sensitive.",
        )
    return [_condition(column, value, typed.field(column).type) for column, value in where.items()]


def _condition(column: str, value: Any, kind: pa.DataType) -> Where:
    if isinstance(value, tuple):
        if len(value) != 2:
            raise UsageError(
                f"The condition on {column!r} has {len(value)} ends.", hint="Give (first, last), None for an open end."
            )
        first, last = value
        low = None if first is None else _cell(column, first, kind)
        high = None if last is None else _cell(column, last, kind, last=True)
        return Where(column, spans=((low, high),))
    values = [value] if isinstance(value, str | bytes) or not isinstance(value, Iterable) else list(value)
    if pa.types.is_timestamp(kind):
        # A day is a span; and so then are instants, each by itself.
        days = ((_cell(column, each, kind), _cell(column, each, kind, last=True)) for each in values)
        return Where(column, spans=tuple(sorted(set(days))))
    if is_text_type(kind):
        values += [each.strip().lower() for each in values if isinstance(each, str)]
    return Where(column, values=tuple(dict.fromkeys(_cell(column, each, kind) for each in values)))


def _cell(column: str, given: Any, kind: pa.DataType, *, last: bool = False) -> Any:
    if given is None or (pd.api.types.is_scalar(given) and pd.isna(given)):
        raise UsageError(
            f"The condition on {column!r} asks for a missing value, which meets no condition.",
            hint="Read the table and use isna().",
        )
    try:
        value = _instant(given, kind.tz, last=last) if pa.types.is_timestamp(kind) else given
        if pa.types.is_integer(kind) and isinstance(value, float | np.floating):
            return float(value)  # which may lie between two whole numbers
        return pa.scalar(value, kind).as_py()
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise UsageError(
            f"{given!r} is not a value of column {column!r}, which holds {kind}.", hint="Correct the condition."
        ) from error


def _instant(given: Any, zone: str | None, *, last: bool) -> datetime:
    if isinstance(given, np.datetime64):
        unit = np.datetime_data(given.dtype)[0]
        if unit in ("Y", "M", "W"):
            raise TypeError("a date is wanted")
        given = given.astype("datetime64[D]" if unit == "D" else "datetime64[us]").item()  # a number beyond year 9999
    instant = datetime.fromisoformat(given.strip()) if isinstance(given, str) else given
    whole_day = isinstance(given, str) and len(given.strip()) == _DAY
    if isinstance(instant, date) and not isinstance(instant, datetime):
        instant, whole_day = datetime.combine(instant, time.min), True
    if not isinstance(instant, datetime) or (instant.tzinfo is not None and zone is None):
        raise TypeError("a date without a time zone is wanted")
    if last and whole_day:
        instant = datetime.combine(instant, time.max)
    if zone is not None:
        instant = instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    return instant
