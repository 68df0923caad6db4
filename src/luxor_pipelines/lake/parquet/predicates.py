"""Predicates on rows: parsed from what a caller writes, evaluated on columns and on their statistics."""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time
from functools import cached_property, reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luxor_pipelines.errors import SchemaError, UsageError, shown
from luxor_pipelines.lake.types.schema import is_text_type
from luxor_pipelines.lazy import pd
from luxor_pipelines.names import as_names, normal_name, normal_names

__all__ = ["Conditions", "Spelt", "Where", "apply", "conditions", "find_column", "mask"]

_DAY = len("2026-10-31")
_FEW = 4
"""Up to this number of spans, cells are compared with one span after another; beyond it, by binary search."""


@dataclass(frozen=True)
class Where:
    """A predicate on one column.

    A null meets no predicate but ``null=True``; a NaN counts as a null.

    Attributes
    ----------
    spans
        Cells inside any of these closed spans meet the predicate; an open end is None.
    values
        Cells that equal one of these meet it.
    negated
        Inverts the predicate, except that nulls still do not meet it.
    folded
        Text is compared in its normal form (see `names.normal_name`), in which the spans and values are given.
    contains
        Text that contains this part meets the predicate.
    null
        True: only nulls meet the predicate; False: only other cells.
    """

    column: str
    spans: tuple[tuple[Any, Any], ...] | None = None
    values: Sequence[Any] | None = None
    negated: bool = False
    folded: bool = False
    contains: str | None = None
    null: bool | None = None

    @property
    def sparse(self) -> bool:
        """Whether most row groups are likely to have no row that meets the predicate."""
        return (self.values is not None or self.contains is not None) and not self.negated

    @property
    def _ordered(self) -> bool:
        """Whether the least and the greatest cell of some rows can decide the predicate."""
        return not self.folded and self.contains is None and self.null is None

    def might_match(self, low: Any, high: Any) -> bool:
        """Return whether a row between ``low`` and ``high`` (inclusive) could meet the predicate."""
        if not self._ordered:
            return True
        return not self._surely_inside(low, high) if self.negated else self._perhaps_inside(low, high)

    def must_match(self, low: Any, high: Any) -> bool:
        """Return whether every row between ``low`` and ``high`` (inclusive), nulls excepted, meets the predicate."""
        if not self._ordered:
            return False
        return not self._perhaps_inside(low, high) if self.negated else self._surely_inside(low, high)

    def residual(self, low: Any, high: Any) -> Where:
        """Return the predicate, reduced to the spans that reach between ``low`` and ``high`` (inclusive)."""
        if self.spans is None or len(self.spans) < 2 or self.negated or not self._ordered:
            return self
        near = self._near(low)
        if self._in_order:
            near = near[: bisect.bisect_right(near, high, key=lambda span: span[0])]
        return Where(self.column, tuple(near))

    def _perhaps_inside(self, low: Any, high: Any) -> bool:
        if self.spans is not None:
            return any((a is None or a <= high) and (b is None or low <= b) for a, b in self._near(low))
        return any(low <= value <= high for value in self.values or ())

    def _surely_inside(self, low: Any, high: Any) -> bool:
        if self.spans is None:
            return bool(low == high and low in (self.values or ()))
        return any((a is None or a <= low) and (b is None or high <= b) for a, b in self.spans)

    def _near(self, low: Any) -> Sequence[tuple[Any, Any]]:
        """Return the spans; where they are in order, without those that end before ``low``: there may be hundreds."""
        spans = self.spans or ()
        return spans[bisect.bisect_left(spans, low, key=lambda span: span[1]) :] if self._in_order else spans

    @cached_property
    def _in_order(self) -> bool:
        ends = [end for span in self.spans or () for end in span]
        return None not in ends and ends == sorted(ends)

    def mask(self, column: pa.ChunkedArray) -> NDArray[np.bool_]:
        """Return whether each row of ``column`` meets the predicate."""
        if not pa.types.is_dictionary(column.type):
            return np.asarray(self._mask(column).to_numpy(), dtype=bool)
        # Each distinct value is looked at once instead of each row.
        masks = [np.empty(0, dtype=bool)]
        for chunk in column.chunks:
            meets = np.append(self._mask(pa.chunked_array([chunk.dictionary])).to_numpy(), self.null is True)
            if meets.any():  # the last stands for a null, whose index is -1
                indices = chunk.indices if not chunk.null_count else pc.fill_null(chunk.indices, -1)
                masks.append(np.take(meets, indices.to_numpy()))
            else:
                masks.append(np.zeros(len(chunk), dtype=bool))
        return np.concatenate(masks)

    def _mask(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        if self.null is not None:
            filled = _filled(column)
            return filled if self.null is False else pc.invert(filled)
        inside = self._inside(normal_names(column) if self.folded else column)
        return pc.and_not(_filled(column), inside) if self.negated else inside

    def _inside(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        if self.contains is not None:
            matches = pc.match_substring(column, self.contains)
            return pc.fill_null(matches, False) if matches.null_count else matches
        if self.values is not None:
            return _among(column, self.values)
        spans = self.spans or ()
        if len(spans) > _FEW and self._in_order and pa.types.is_timestamp(column.type):
            return _in_ordered_spans(column, spans)
        return _in_spans(column, spans)


@dataclass(frozen=True)
class Spelt(Where):
    """A predicate on the values that the words of a text column spell.

    ``meaning`` turns distinct words into values. Statistics of text are in the order of its letters, and so decide
    nothing about the values.
    """

    meaning: Callable[[pa.Array], pa.Array] = lambda words: words

    @classmethod
    def of(cls, predicate: Where, meaning: Callable[[pa.Array], pa.Array]) -> Spelt:
        """Return the same predicate on the meanings of words."""
        options: dict[str, Any] = {field.name: getattr(predicate, field.name) for field in fields(Where)}
        return cls(**options, meaning=meaning)

    @property
    def sparse(self) -> bool:
        """True, so that the words are read before any other column."""
        return True

    @property
    def _ordered(self) -> bool:
        return False

    def _mask(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        return super()._mask(pa.chunked_array([self.meaning(column.combine_chunks())]))


def _among(column: pa.ChunkedArray, values: Sequence[Any]) -> pa.ChunkedArray:
    """Return whether each cell equals one of the values."""
    values = [value for value in values if value is not None]
    if pa.types.is_integer(column.type):
        values = [value for value in values if not isinstance(value, float) or value.is_integer()]
    value_set = pa.array(values, column.type)
    if pa.types.is_floating(column.type):  # is_in tells -0.0 from 0.0, and adding 0.0 makes them one
        column, value_set = pc.add(column, 0.0), pc.add(value_set, 0.0)
    return pc.is_in(column, value_set=value_set)


def _in_spans(column: pa.ChunkedArray, spans: Sequence[tuple[Any, Any]]) -> pa.ChunkedArray:
    """Return whether each cell is in one of the closed spans."""
    if pa.types.is_integer(column.type) and any(isinstance(end, float) for span in spans for end in span):
        column = column.cast(pa.float64(), safe=False)
    masks = []
    for low, high in spans:  # a NaN is in no span with an end
        limits = []
        if low is not None:
            limits.append(pc.greater_equal(column, pa.scalar(low, column.type)))
        if high is not None:
            limits.append(pc.less_equal(column, pa.scalar(high, column.type)))
        masks.append(reduce(pc.and_, limits) if limits else _filled(column))
    if not masks:
        return pa.chunked_array([_all_false(len(column))])
    inside = reduce(pc.or_, masks)
    return pc.fill_null(inside, False) if inside.null_count else inside


def _in_ordered_spans(column: pa.ChunkedArray, spans: Sequence[tuple[Any, Any]]) -> pa.ChunkedArray:
    """Return whether each instant is in one of many spans that are in order, with both ends and no overlap."""
    starts, stops = (pa.array(ends, column.type).to_numpy() for ends in zip(*spans, strict=True))
    cells = column.to_numpy()
    at = np.searchsorted(starts, cells, side="right") - 1
    return pa.chunked_array([pa.array((at >= 0) & (cells <= stops[at]))])  # a null, NaT, is below nothing


def _filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.invert(pc.is_null(column, nan_is_null=True))


def _all_false(rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(False), rows)


def mask(table: pa.Table, where: Iterable[Where]) -> NDArray[np.bool_] | None:
    """Return whether each row of ``table`` meets every condition; None without a condition."""
    masks = [condition.mask(table[condition.column]) for condition in where]
    return reduce(np.logical_and, masks) if masks else None


def apply(table: pa.Table, where: Iterable[Where]) -> pa.Table:
    """Return the rows of ``table`` that meet every condition."""
    meets = mask(table, where)
    return table if meets is None else table.filter(pa.array(meets))


Conditions = str | Sequence[str] | Mapping[str, Any]
"""Conditions as callers write them; see `conditions`."""

_SIGNS = ("=", "==", "!=", "<", "<=", ">", ">=")
_WORDS = ("between", "in", "contains", "is null", "is not null")
_BY_SIGN = re.compile(r"(?P<column>[^=!<>]+?)\s*(?P<operator>!=|<=|>=|==|=|<|>)(?P<operand>.*)", re.DOTALL)
_BY_WORD = re.compile(
    r"(?P<column>[^=!<>]+?)\s+(?P<operator>between|in|contains|is\s+not\s+null|is\s+null)\b(?P<operand>.*)",
    re.DOTALL | re.IGNORECASE,
)
_ITEM = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,]*?)\s*,""")
"""A value of a list, with the comma after it; one in quotes may hold commas."""
_FORMS = "= != < <= > >=, between A and B, in A, B, contains A, is null, is not null"


def conditions(typed: pa.Schema, name: str, where: Conditions) -> list[Where]:
    """Return the predicates of conditions as callers write them, all of which a row is to meet.

    As text, one or several: ``"Status != ok"``, ``"Date between 2026-01-01 and 2026-03-31"``, ``"Name contains euro"``,
    ``"Key in a, b"``, ``"Return is null"``. Or by column: a value, a list of values, ``(first, last)``, both included
    and None for an open end, or an operator and what it is to be compared with: ``{"Size": (">=", 0.1)}``,
    ``{"Size": ("is null",)}``.

    Dates may be dates or ISO text, and are whole days unless they have a time. In a column of instants one without a
    zone is UTC. Text is compared without regard to case and outer blanks. A null meets only ``is null``.

    Parameters
    ----------
    typed
        The columns as they are read.
    name
        The table's name, for messages.

    Raises
    ------
    SchemaError
        A column that the table does not have.
    UsageError
        Not a condition, or a value that is missing or not of the column's type.
    """
    if isinstance(where, Mapping):
        return [_predicate(typed, name, column, *_operation(column, value)) for column, value in where.items()]
    return [_parsed(typed, name, text) for text in as_names(where, "where")]


def find_column(typed: pa.Schema, table: str, name: str) -> str:
    """Return the column of a name, whatever its case where that is plain.

    Raises
    ------
    SchemaError
        There is none.
    """
    if isinstance(name, str):
        if name in typed.names:
            return name
        alike = [column for column in typed.names if column.lower() == name.strip().lower()]
        if len(alike) == 1:
            return str(alike[0])
    raise SchemaError(f"Table {table} has no column {shown(name)}.", hint=f"It has: {', '.join(typed.names)}.")


def _parsed(typed: pa.Schema, table: str, text: str) -> Where:
    """Return the predicate that a condition's text, such as ``Date >= 2026-01-01``, states."""
    if not isinstance(text, str):
        raise UsageError(f"{shown(text)} is not a condition.", hint=f"Give its text: {_FORMS}.")
    matches = [match for pattern in (_BY_WORD, _BY_SIGN) if (match := pattern.fullmatch(text.strip()))]
    if not matches:
        raise UsageError(
            f"{shown(text)} is not a condition.", hint=f'Write it like "Date>=2026-10-01"; the operators are {_FORMS}.'
        )
    names = [name.lower() for name in typed.names]
    match = next((match for match in matches if match["column"].strip().lower() in names), matches[-1])
    operator, operand = " ".join(match["operator"].lower().split()), match["operand"].strip()
    column = find_column(typed, table, match["column"].strip())
    kind = typed.field(column).type
    if operator.startswith("is") and not operand:
        return _predicate(typed, table, column, operator, ())
    if not operand and operator in ("=", "==", "!="):
        return _predicate(typed, table, column, "is not null" if operator == "!=" else "is null", ())
    if not operand or operator.startswith("is"):
        raise UsageError(f"{shown(text)} compares with nothing it could.", hint="Only = and != take no value.")
    operands = [operand]
    if operator == "between":
        operands = re.split(r"\s+and\s+", operand, flags=re.IGNORECASE)
        if len(operands) != 2:
            raise UsageError(f"{shown(text)} is not a condition.", hint="Write it like Date between A and B.")
    elif operator == "in":
        operands = _ITEM.findall(f"{operand.removeprefix('(').removesuffix(')')},")
    values = [_from_text(column, word.strip(), kind) for word in operands]
    return _predicate(typed, table, column, operator, [values] if operator == "in" else values)


def _from_text(column: str, text: str, kind: pa.DataType) -> Any:
    """Return a value of a column's type from its text; dates stay text, whose length tells whole days."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    try:
        if pa.types.is_boolean(kind):
            return {"true": True, "false": False}[text.lower()]
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            whole = pa.types.is_integer(kind) and text.lstrip("+-").isdigit()
            number = int(text) if whole else float(text)
            return _finite(number)
        text.encode()  # a lone surrogate, which is how a shell's undecodable bytes arrive, is no text
    except (ValueError, KeyError) as error:
        raise _wrong(column, text, kind) from error
    return text


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _operation(column: str, value: Any) -> tuple[str, Sequence[Any]]:
    """Return the operator and the operands of a condition that is given by column."""
    if isinstance(value, tuple) and value and isinstance(value[0], str) and value[0].lower() in (*_SIGNS, *_WORDS):
        operator, operands = value[0].lower(), value[1:]
        counts = {"between": 2, "is null": 0, "is not null": 0}
        if len(operands) != counts.get(operator, 1):
            raise UsageError(
                f"The condition on {column!r} has {len(operands)} operands for {operator}.", hint=f"Forms: {_FORMS}."
            )
        return operator, [_list_of(operands[0])] if operator == "in" else operands
    if isinstance(value, tuple):
        if len(value) != 2:
            raise UsageError(
                f"The condition on {column!r} has {len(value)} ends.",
                hint="Give (first, last), None for an open end, or an operator and a value.",
            )
        return "between", value
    return "in", [_list_of(value)]


def _list_of(value: Any) -> list[Any]:
    return [value] if isinstance(value, str | bytes) or not isinstance(value, Iterable) else list(value)


def _predicate(typed: pa.Schema, table: str, column: str, operator: str, operands: Sequence[Any]) -> Where:
    """Return the predicate of a column, an operator and the values that it compares with."""
    column = find_column(typed, table, column)
    kind = typed.field(column).type
    text = is_text_type(kind)

    def cell(value: Any, *, last: bool = False) -> Any:
        converted = _cell(column, value, kind, last=last)
        return normal_name(converted) if text else converted

    if operator in ("is null", "is not null"):
        return Where(column, null=operator == "is null")
    if operator == "contains":
        if not text:
            raise UsageError(
                f"Column {column!r} holds {_words_of(kind)[0]}, in which no text is looked for.",
                hint="Compare it with a value.",
            )
        return Where(column, folded=True, contains=cell(operands[0]))
    if operator == "between":
        first, last = operands
        span = None if first is None else cell(first), None if last is None else cell(last, last=True)
        return Where(column, (span,), folded=text)
    if operator in ("<", ">="):  # below the first instant of a day, or from it on
        return Where(column, ((cell(operands[0]), None),), negated=operator == "<", folded=text)
    if operator in (">", "<="):
        return Where(column, ((None, cell(operands[0], last=True)),), negated=operator == ">", folded=text)
    values, negated = operands[0] if operator == "in" else [operands[0]], operator == "!="
    if pa.types.is_timestamp(kind):
        # A day is a span of instants, so a single instant is written as a span as well.
        days = {(cell(value), cell(value, last=True)) for value in values}
        return Where(column, tuple(sorted(days)), negated=negated)
    return Where(column, values=tuple(dict.fromkeys(map(cell, values))), negated=negated, folded=text)


def _wrong(column: str, value: Any, kind: pa.DataType) -> UsageError:
    nouns, example = _words_of(kind)
    return UsageError(f"{shown(value)} is not a value of column {column!r}, which holds {nouns}.", hint=example)


def _words_of(kind: pa.DataType) -> tuple[str, str]:
    """Return what a column of a type holds, in words, and how such a value is written."""
    words = (
        (pa.types.is_timestamp, "dates", "Write a date like 2026-10-31."),
        (pa.types.is_boolean, "flags", "Write true or false."),
        (is_text_type, "text", "Write text."),
        (pa.types.is_integer, "whole numbers", "Write a number like 12."),
    )
    others = ("numbers", "Write a number like 0.1: a point before the decimals, and no percent sign.")
    return next(((nouns, example) for is_kind, nouns, example in words if is_kind(kind)), others)


def _cell(column: str, value: Any, kind: pa.DataType, *, last: bool = False) -> Any:
    """Return a caller's value as the column's type has it; of a whole day its first instant, or its ``last``."""
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        raise UsageError(
            f"The condition on {column!r} asks for a missing value, which meets no comparison.",
            hint="Ask for it by name: is null, as in {column: ('is null',)}.",
        )
    try:
        if pa.types.is_timestamp(kind):
            return pa.scalar(_instant(value, kind.tz, last=last), kind).as_py()
        if pa.types.is_integer(kind) and isinstance(value, float | np.floating):
            return float(value)  # which may lie between two whole numbers
        return pa.scalar(value, kind).as_py()
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise _wrong(column, value, kind) from error


def _instant(value: Any, zone: str | None, *, last: bool) -> datetime:
    if isinstance(value, np.datetime64):
        unit = np.datetime_data(value.dtype)[0]
        if unit in ("Y", "M", "W"):
            raise TypeError("a date is wanted")
        value = value.astype("datetime64[D]" if unit == "D" else "datetime64[us]").item()  # a number beyond year 9999
    instant = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
    whole_day = isinstance(value, str) and len(value.strip()) == _DAY
    if isinstance(instant, date) and not isinstance(instant, datetime):
        instant, whole_day = datetime.combine(instant, time.min), True
    if not isinstance(instant, datetime) or (instant.tzinfo is not None and zone is None):
        raise TypeError("a date without a time zone is wanted")
    if last and whole_day:
        instant = datetime.combine(instant, time.max)
    if zone is not None:
        instant = instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    return instant
