"""A column of a pandas frame as one of the lake's types, by what its cells hold."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.errors import SchemaError
from luxor_pipelines.lake.types.schema import DATE, NUMBER, STAMP, TEXT, bad_cells, is_text_type

__all__ = ["chunked", "infer"]

_EXACT = 2.0**53
_YEARS = (np.datetime64("0001", "us").astype(int), np.datetime64("10000", "us").astype(int))
"""In microseconds: from the first up to the second, Python has an object for a date, and a label four digits."""


def infer(series: pd.Series[Any], table: str, name: str) -> pa.ChunkedArray:
    """The column as one of the stored types, by what it holds; all missing: text."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        try:
            values = infer(pd.Series(series.cat.categories), table, name).combine_chunks()
        except SchemaError:  # perhaps of a category that no cell has; the cells decide
            return infer(series.astype(object), table, name)
        codes = series.cat.codes.to_numpy()
        return chunked(values.take(pa.array(codes, mask=codes < 0)))
    if isinstance(series.dtype, pd.SparseDtype):
        series = series.astype(series.dtype.subtype)
    if isinstance(series.dtype, np.dtype) and not series.dtype.isnative:
        series = series.astype(series.dtype.newbyteorder("="))
    if series.dtype == np.float64 and np.isfinite(series.to_numpy()).all():  # nearly every column of numbers is
        return chunked(pa.array(series.to_numpy(copy=True)))
    if series.dtype == object:
        return chunked(_from_objects(series.to_numpy(), table, name))
    try:
        array = chunked(pa.array(series.copy(), from_pandas=True))  # Arrow would share the frame's memory
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise _unsupported(table, name, str(series.dtype)) from error
    return _to_stored(array, table, name)


def _to_stored(array: pa.ChunkedArray, table: str, name: str) -> pa.ChunkedArray:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _to_stored(array.cast(kind.value_type), table, name)
    if pa.types.is_null(kind) or is_text_type(kind):
        return array.cast(TEXT)
    if pa.types.is_boolean(kind):
        return array
    if pa.types.is_integer(kind):
        numbers = array.cast(NUMBER, safe=False)
        large = pc.fill_null(pc.greater_equal(pc.abs(numbers), _EXACT), False)
        if pc.any(large, min_count=0).as_py():
            _check_exact(array.filter(large).to_pylist(), len(array), table, name)
        return numbers
    if pa.types.is_decimal(kind):
        return _finite(array.cast(TEXT).cast(NUMBER), table, name)  # through text, for the nearest number
    if pa.types.is_floating(kind):
        return _finite(array.cast(NUMBER), table, name)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        zoned = pa.types.is_timestamp(kind) and kind.tz
        return _of_our_era(_micros(array, STAMP if zoned else DATE, table, name), table, name)
    raise _unsupported(table, name, str(kind))


def _finite(numbers: pa.ChunkedArray, table: str, name: str) -> pa.ChunkedArray:
    infinite = pc.is_inf(numbers)
    if pc.any(infinite, min_count=0).as_py():
        bad = numbers.filter(infinite)
        hint = "Find the division by zero they come from, or make them missing."
        raise bad_cells(table, name, len(bad), len(numbers), "are infinite", bad[0].as_py(), hint)
    absent = pc.is_nan(numbers)
    return pc.if_else(absent, None, numbers) if pc.any(absent, min_count=0).as_py() else numbers


def _check_exact(values: Sequence[Any], total: int, table: str, name: str) -> None:
    bad = [value for value in values if value == int(value) != int(float(value))]
    if bad:
        hint = "Store identifiers as text: df[column].astype(str)."
        raise bad_cells(table, name, len(bad), total, "are whole numbers that float64 does not hold", bad[0], hint)


def _micros(array: pa.ChunkedArray, kind: pa.DataType, table: str, name: str) -> pa.ChunkedArray:
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("s" if pa.types.is_date32(array.type) else "ms"))
    try:
        return array.cast(kind)
    except pa.ArrowInvalid as error:
        finer = array.type.unit == "ns"
        values = array.drop_null()
        ticks = values.cast(pa.int64()).to_numpy()
        limit = 2**63 // {"s": 10**6, "ms": 10**3}.get(array.type.unit, 1)
        bad = np.flatnonzero(ticks % 1000 != 0 if finer else (ticks >= limit) | (ticks <= -limit))
        example = str(ticks[bad[0]].astype(f"datetime64[{array.type.unit}]"))
        what = "have more than microseconds" if finer else "are beyond what a timestamp in microseconds holds"
        hint = "Round them: df[column].dt.floor('us')." if finer else "Correct the dates, or make them missing."
        raise bad_cells(table, name, len(bad), len(array), what, example, hint) from error


def _of_our_era(array: pa.ChunkedArray, table: str, name: str) -> pa.ChunkedArray:
    ticks = array.cast(pa.int64())
    extremes = pc.min_max(ticks)
    first, last = extremes["min"].as_py(), extremes["max"].as_py()
    if first is None or (_YEARS[0] <= first and last < _YEARS[1]):
        return array
    bad = ticks.filter(pc.or_(pc.less(ticks, _YEARS[0]), pc.greater_equal(ticks, _YEARS[1])))
    example = str(np.datetime64(bad[0].as_py(), "us"))
    raise bad_cells(table, name, len(bad), len(array), "are in no year from 1 to 9999", example, "Correct the dates.")


_KINDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((bool, np.bool_), "flags"),
    ((int, float, np.integer, np.floating, Decimal), "numbers"),
    ((str,), "text"),
    ((dt.date, np.datetime64), "dates"),
)


def _from_objects(values: np.ndarray[Any, Any], table: str, name: str) -> Any:
    try:
        absent = np.asarray(pd.isna(values), dtype=bool)
    except InvalidOperation as error:
        bad = [cell for cell in values if isinstance(cell, Decimal) and cell.is_snan()]
        what, hint = "are signalling NaNs", "Make them missing."
        raise bad_cells(table, name, len(bad), len(values), what, bad[0], hint) from error
    cells = values[~absent]
    counts = Counter(map(type, cells))
    groups: dict[str, int] = {}
    for kind, count in counts.items():
        group = next((word for kinds, word in _KINDS if issubclass(kind, kinds)), "")
        if not group:
            raise _unsupported(table, name, kind.__name__, count, len(values))
        groups[group] = groups.get(group, 0) + count
    if not groups:
        return pa.nulls(len(values), TEXT)
    if len(groups) > 1:
        rarest = min(groups, key=lambda word: groups[word])
        kinds = next(kinds for kinds, word in _KINDS if word == rarest)
        example = next(cell for cell in cells if isinstance(cell, kinds) and _is_group(type(cell), rarest))
        mix = " and ".join(f"{count} {word}" for word, count in groups.items())
        what = f"are {rarest} in a column that mixes {mix}"
        raise bad_cells(table, name, groups[rarest], len(values), what, example, "Give the column one type.")
    (group,) = groups
    if group == "text":
        try:
            return pa.array(values, TEXT, from_pandas=True)
        except UnicodeEncodeError as error:
            raise bad_cells(
                table, name, 1, len(values), "are text that is no Unicode", error.object, "Decode the source again."
            ) from error
    if group == "dates":
        return _date_objects(values, absent, table, name)
    out = np.zeros(len(values), dtype=bool if group == "flags" else float)
    try:
        out[~absent] = [float(cell) for cell in cells] if group == "numbers" else cells.astype(bool)
    except OverflowError as error:
        large = [cell for cell in cells if abs(cell) > int(np.finfo(float).max)]
        what = "are larger than float64 holds"
        raise bad_cells(table, name, len(large), len(values), what, large[0], "Store them as text.") from error
    if group == "flags":
        return pa.array(out, mask=absent)
    whole = [cell for cell in cells[np.abs(out[~absent]) >= _EXACT] if not isinstance(cell, float | np.floating)]
    finite = _finite(chunked(pa.array(out, mask=absent)), table, name)
    _check_exact(whole, len(values), table, name)
    return finite


def _is_group(kind: type, group: str) -> bool:
    return next((word for kinds, word in _KINDS if issubclass(kind, kinds)), "") == group


def _date_objects(values: np.ndarray[Any, Any], absent: Any, table: str, name: str) -> pa.ChunkedArray:
    cells = [_as_datetime(cell) for cell in values[~absent]]
    zoned = [cell for cell in cells if cell.tzinfo is not None]
    if zoned and len(zoned) < len(cells):
        what = "have a time zone, others none"
        raise bad_cells(table, name, len(zoned), len(values), what, str(zoned[0]), "Convert them to one zone or none.")
    fine = [cell for cell in cells if getattr(cell, "nanosecond", 0)]
    if fine:
        what = "have more than microseconds"
        hint = "Round them: pandas.to_datetime(df[column]).dt.floor('us')."
        raise bad_cells(table, name, len(fine), len(values), what, str(fine[0]), hint)
    out = np.full(len(values), None, dtype=object)
    out[~absent] = cells
    return chunked(pa.array(out, STAMP if zoned else DATE, from_pandas=True))


def _as_datetime(cell: Any) -> dt.datetime:
    if isinstance(cell, np.datetime64):
        return pd.Timestamp(cell)
    return cell if isinstance(cell, dt.datetime) else dt.datetime(cell.year, cell.month, cell.day)


def _unsupported(table: str, name: str, kind: str, count: int | None = None, total: int = 0) -> SchemaError:
    cells = f"{count} of {total} cells are {kind}" if count else f"its type is {kind}"
    return SchemaError(
        f"Table {table}, column {name!r}: {cells}, which is not stored.",
        hint="Columns hold dates, text, numbers or flags; convert it to one of these.",
    )


def chunked(array: Any) -> pa.ChunkedArray:
    """The array as a column."""
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
