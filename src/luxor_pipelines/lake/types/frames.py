"""Conversion of pandas frames and Arrow tables into typed Arrow columns, and back to frames."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.errors import SchemaError, UsageError, sample
from luxor_pipelines.lake.types.parsing import parse_dates
from luxor_pipelines.lake.types.schema import (
    DATE,
    FLAG,
    LAST_UPDATED,
    NUMBER,
    STAMP,
    TEXT,
    WHOLE,
    bad_cells,
    column_command,
    is_text_type,
    plain,
)
from luxor_pipelines.lazy import pd
from luxor_pipelines.names import normal_names

__all__ = [
    "Frame",
    "arrow_to_frame",
    "check_frame",
    "column_names",
    "conform",
    "decoded",
    "frame_to_arrow",
    "last_date",
]

Frame: TypeAlias = "pd.DataFrame | pa.Table"
"""Rows as callers hand them over."""

_WORDS = {DATE: "dates", TEXT: "text", NUMBER: "numbers", WHOLE: "whole numbers", FLAG: "flags", STAMP: "stamps"}

_EXACT = 2.0**53
"""From this whole number on, a float64 cannot tell all whole numbers apart."""
_DATE_SHAPE = r"^\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?$"
_LARGEST = 2**63 - 1
"""The largest whole number that an int64 holds."""
_YEARS = (np.datetime64("0001", "us").astype(int), np.datetime64("10000", "us").astype(int))
"""The first microsecond of the year 1 and of the year 10000: between them Python has dates, and labels four digits."""

# --- frame to Arrow ------------------------------------------------------------------------------


def frame_to_arrow(
    df: Frame,
    *,
    table: str,
    target: pa.Schema | None,
    known_types: Mapping[str, pa.DataType] | None = None,
    increment: Collection[str] = (),
    days: Collection[str] = (),
    normalize: bool = True,
    keep_case: Collection[str] = (),
    index: bool = False,
    index_name: str = "index",
) -> pa.Table:
    """Return a frame as typed columns; the frame itself is never changed.

    Categories of text, and Arrow's dictionaries, come dictionary-encoded, each word once, where the target has text;
    see `decoded`.

    Parameters
    ----------
    df
        The rows. A ``Last_Updated`` column is left out: it is the writer's to set.
    table
        The table's name, for messages.
    target
        The columns and types to fit, in this order; None for those of the frame. A type ``null`` in it is that of a
        column without a value so far, which takes the frame's.
    known_types
        Without a target, types by column: a column of type date is converted to dates or refused, and whole numbers
        of a column of numbers are converted. A column without a value has its known type, else ``null``.
    increment
        Without a target, the columns that slices are told apart by: where all cells look like dates, they are
        converted to dates or refused.
    days
        Columns of dates whose cells may have no time of day.
    normalize, keep_case
        Whether text gets its normal form (see `names.normal_name`), and the columns whose text does not.
    index, index_name
        Whether the frame's index becomes a column, and what it is called.

    Raises
    ------
    SchemaError
        Columns that are unknown, missing, named twice or not by text; cells that the type does not
        hold exactly.
    """
    check_frame(df, table)
    names = _checked_names(df, table)
    columns = {name: _infer(df[name], table, name) for name in names if name != LAST_UPDATED}
    if index:
        if isinstance(df, pa.Table):
            raise UsageError(
                f"Table {table}: an Arrow table has no index to store as {index_name!r}.",
                hint="Leave index out; what is to be stored is a column of the table.",
            )
        if isinstance(df.index, pd.MultiIndex) or index_name in names:
            reason = "has several levels" if isinstance(df.index, pd.MultiIndex) else "has the name of a column"
            raise SchemaError(
                f"Table {table}: the frame's index, to be stored as {index_name!r}, {reason}.",
                hint="Use reset_index() and rename the columns, or give another index_name.",
            )
        columns = {index_name: _infer(df.index.to_series(), table, index_name), **columns}
    data = pa.table(columns)
    if target is None:
        data = decoded(data)
        types = dict.fromkeys((name for name in increment if _look_like_dates(data, name)), DATE)
        data = _without_zones(_with_known_types(data, {**types, **(known_types or {})}, table), table)
    else:
        data = conform(data, table=table, target=target)
    for name in days:
        if name in data.column_names and data.schema.field(name).type == DATE:
            _check_days(data[name], table, name)
    if normalize:
        for position, field in enumerate(data.schema):
            if is_text_type(field.type) and field.name not in keep_case:
                data = data.set_column(position, field, _normal(data.column(position)))
    return data


def _normal(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of text in its normal form; of one that is dictionary-encoded only the words are looked at."""
    if not pa.types.is_dictionary(column.type):
        return normal_names(column)
    chunks = []
    for chunk in column.chunks:
        words = normal_names(chunk.dictionary)
        if not words.equals(chunk.dictionary):
            distinct = words.dictionary_encode()
            chunk = pa.DictionaryArray.from_arrays(distinct.indices.take(chunk.indices), distinct.dictionary)
        chunks.append(chunk)
    return pa.chunked_array(chunks, column.type)


def decoded(data: pa.Table) -> pa.Table:
    """Return the table with its dictionary-encoded columns decoded."""
    for position, field in enumerate(data.schema):
        if pa.types.is_dictionary(field.type):
            plain_field = pa.field(field.name, field.type.value_type, field.nullable)
            data = data.set_column(position, plain_field, data.column(position).cast(plain_field.type))
    return data


def check_frame(df: object, table: str) -> None:
    """Raise unless ``df`` is a frame or an Arrow table.

    Raises
    ------
    UsageError
    """
    if not isinstance(df, pd.DataFrame | pa.Table):
        raise UsageError(
            f"Table {table}: rows come as a pandas DataFrame or an Arrow table, not as {type(df).__name__}.",
            hint="Convert it to one; a Polars frame by df.to_arrow().",
        )


def column_names(df: Frame) -> list[Any]:
    """Return the names of the columns of a frame or an Arrow table, in their order."""
    return list(df.column_names if isinstance(df, pa.Table) else df.columns)


def last_date(df: Frame, column: str | None) -> dt.datetime | None:
    """Return the last date of a column of dates; None of any other column, and of none."""
    if column is None or column_names(df).count(column) != 1:
        return None
    values = df[column]
    try:
        if isinstance(values, pa.ChunkedArray):
            is_date = pa.types.is_timestamp(values.type) or pa.types.is_date(values.type)
            last = pc.max(values).as_py() if is_date else None
        else:
            last = values.max() if values.ndim == 1 and values.dtype.kind == "M" else None
        return None if last is None or pd.isna(last) else dt.datetime(last.year, last.month, last.day)
    except (ValueError, OverflowError):  # beyond the years there are, which the load itself refuses with more to say
        return None


def _with_known_types(data: pa.Table, types: Mapping[str, pa.DataType], table: str) -> pa.Table:
    columns = {}
    for name, column in zip(data.column_names, data.columns, strict=True):
        kind = types.get(name)
        untyped = kind is not None and pa.types.is_null(column.type)
        if untyped or kind == DATE or (kind == NUMBER and column.type == WHOLE):
            column = _fit(column, kind, table, name)
        columns[name] = column
    return pa.table(columns)


def _look_like_dates(data: pa.Table, name: str) -> bool:
    """Return whether every text of a column has the shape of a date, or every whole number the digits of one."""
    column = data[name] if name in data.column_names else None
    if column is None or not column.length() - column.null_count:
        return False
    if column.type == TEXT:
        return bool(pc.all(pc.match_substring_regex(column, _DATE_SHAPE)).as_py())
    return bool(column.type == WHOLE and pc.all(pc.is_in(pc.divide(column, 1_000_000), pa.array([19, 20]))).as_py())


def _check_days(column: pa.ChunkedArray, table: str, name: str) -> None:
    late = column.filter(pc.not_equal(column.cast(pa.date32(), safe=False).cast(DATE), column))
    if len(late):
        fault, hint = "have a time of day", "Cut it: df[column].dt.normalize(), in the time zone that counts."
        raise bad_cells(table, name, len(late), len(column), fault, str(late[0]), hint)


def conform(data: pa.Table, *, table: str, target: pa.Schema) -> pa.Table:
    """Return typed columns in the order and the types of ``target``, which has the same columns.

    Text is accepted for dates when every cell is ISO; a column without a single value fits any type. Text that is
    dictionary-encoded stays so.

    Raises
    ------
    SchemaError
    """
    fields = [field for field in target if field.name != LAST_UPDATED]
    names = [field.name for field in fields]
    unknown = [name for name in data.column_names if name not in names]
    missing = [name for name in names if name not in data.column_names]
    if unknown or missing:
        parts = ([f"unknown: {_quoted(unknown)}"] if unknown else []) + (
            [f"missing: {_quoted(missing)}"] if missing else []
        )
        examples = unknown[:3]
        alike = {name: close[0] for name in examples if (close := get_close_matches(name, missing or names, 1, 0.8))}
        hints = [f"Is {name!r} {name_of_table!r}? Names are case-sensitive." for name, name_of_table in alike.items()]
        new = [column_command(table, name, data.schema.field(name).type) for name in examples if name not in alike]
        hints += [f"Drop it from the frame, or add it to the table: {', '.join(new)}."] if new else []
        hints += ["Add the missing ones to the frame."] if missing and not alike else []
        raise SchemaError(
            f"Table {table}: the frame's columns are not the table's; {'; '.join(parts)}. "
            f"The table has {_quoted(names)}.",
            hint=" ".join(hints),
        )
    columns = [_fit(data[field.name], field.type, table, field.name) for field in fields]
    for field, column in zip(fields, columns, strict=True):
        if column.null_count and not field.nullable:
            raise SchemaError(
                f"Table {table}, column {field.name!r}: {column.null_count} of {len(column)} cells are missing, "
                "in a column that must be filled.",
                hint="Fill or drop those rows.",
            )
    schema = pa.schema(
        pa.field(field.name, column.type, field.nullable) if column.type != field.type else field
        for field, column in zip(fields, columns, strict=True)
    )
    return pa.table(columns, schema=schema)


def _checked_names(df: Frame, table: str) -> list[str]:
    """Return the names of a frame's columns; refuse names that no table can have.

    Raises
    ------
    SchemaError
    """
    if isinstance(df, pd.DataFrame) and isinstance(df.columns, pd.MultiIndex):
        raise SchemaError(
            f"Table {table}: the frame's columns have {df.columns.nlevels} levels.",
            hint="Flatten them to one name a column.",
        )
    labels = column_names(df)
    odd = [name for name in labels if not isinstance(name, str)]
    if odd:
        raise SchemaError(
            f"Table {table}: column names are text, but the frame has {sample(odd)}.",
            hint="Rename them, for instance with df.rename(columns=str).",
        )
    twice = [name for name, count in Counter(labels).items() if count > 1]
    if twice:
        raise SchemaError(
            f"Table {table}: the frame has more than one column {sample(twice)}.", hint="Rename or drop the others."
        )
    try:
        "".join(labels).encode()
    except UnicodeEncodeError as error:
        raise SchemaError(
            f"Table {table}: a column's name is no Unicode text ({error.object[error.start :][:20]!a}).",
            hint="Rename the column; perhaps its source was decoded by the wrong encoding.",
        ) from error
    return labels


def _without_zones(data: pa.Table, table: str) -> pa.Table:
    for name, column in zip(data.column_names, data.columns, strict=True):
        if column.type == STAMP:
            raise _zoned(column, table, name)
    return data


def _zoned(column: pa.ChunkedArray, table: str, name: str) -> SchemaError:
    cells = column.drop_null()
    example = str(cells[0]) if len(cells) else str(column.type)
    fault = "have a time zone, which dates in the lake do not"
    hint = "Convert to the zone whose calendar counts, then drop it: df[column].dt.tz_localize(None)."
    return bad_cells(table, name, len(cells), len(column), fault, example, hint)


def _fit(column: pa.ChunkedArray, kind: pa.DataType, table: str, name: str) -> pa.ChunkedArray:
    """Return a column in the type that a table has.

    Raises
    ------
    SchemaError
        A cell is no value of that type, or does not spell one.
    """
    if pa.types.is_dictionary(column.type):
        return column if kind == TEXT else _fit(column.cast(TEXT), kind, table, name)
    if column.type == kind or pa.types.is_null(kind):
        return column
    if column.null_count == len(column):
        return _chunked(pa.nulls(len(column), kind))
    if kind == DATE and column.type == STAMP:
        raise _zoned(column, table, name)
    cells = column.drop_null()
    if kind == NUMBER and column.type == WHOLE:
        large = cells.filter(pc.greater_equal(pc.abs(cells.cast(NUMBER, safe=False)), _EXACT))
        _check_exact(large.to_pylist(), len(column), table, name)
        return column.cast(NUMBER, safe=False)
    if kind == DATE and column.type == WHOLE:
        return _digits_as_dates(column, table, name)
    if kind == WHOLE and column.type == NUMBER:
        return _whole(column, table, name)
    if kind == DATE and column.type == TEXT:
        return _texts_as_dates(column, table, name)
    hint = "Convert the column before the load."
    if kind == NUMBER and column.type == TEXT:
        hint = "Write plain numbers; in pandas, pandas.to_numeric(df[column]) converts text."
    elif kind == TEXT:
        hint = "Convert it: df[column].astype(str)."
    elif kind == STAMP and column.type == DATE:
        hint = "Say of which zone they are: df[column].dt.tz_localize('UTC')."
    fault = f"are {_WORDS[column.type]} where the table has {_WORDS.get(kind, str(kind))}"
    raise bad_cells(table, name, len(cells), len(column), fault, plain(cells[0].as_py()), hint)


def _texts_as_dates(column: pa.ChunkedArray, table: str, name: str) -> pa.ChunkedArray:
    """Return the dates that ISO texts spell."""
    unique = column.dictionary_encode().combine_chunks()
    unique = unique.chunk(0) if isinstance(unique, pa.ChunkedArray) else unique
    dates, bad = parse_dates(unique.dictionary)
    wrong = bad.take(unique.indices)
    count = pc.sum(wrong, min_count=0).as_py()
    if count:
        fault = "are no ISO dates (2026-10-31)"
        hint = "Write them so; in pandas, pandas.to_datetime(df[column], format=...) parses others."
        raise bad_cells(table, name, count, len(column), fault, unique.filter(wrong)[0].as_py(), hint)
    return _chunked(dates.take(unique.indices))


def _digits_as_dates(column: pa.ChunkedArray, table: str, name: str) -> pa.ChunkedArray:
    """Return the dates that whole numbers such as 20261031 spell."""
    texts = column.cast(TEXT).combine_chunks()
    eight = pc.equal(pc.utf8_length(texts), 8)
    iso = pc.if_else(eight, pc.replace_substring_regex(texts, r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3"), texts)
    dates, bad = parse_dates(iso)
    wrong = column.filter(pc.fill_null(pc.or_(bad, pc.invert(eight)), False))
    if len(wrong):
        fault, hint = (
            "are no dates like 20261031",
            "Write them so; in pandas, pandas.to_datetime(df[column], format=...) parses others.",
        )
        raise bad_cells(table, name, len(wrong), len(column), fault, wrong[0].as_py(), hint)
    return _chunked(dates)


def _whole(column: pa.ChunkedArray, table: str, name: str) -> pa.ChunkedArray:
    fraction = pc.or_(pc.not_equal(pc.trunc(column), column), pc.greater_equal(pc.abs(column), float(_LARGEST)))
    wrong = column.filter(pc.fill_null(fraction, False))
    if len(wrong):
        fault = f"do not fit {WHOLE}, which the stored table has"
        hint = "Round or convert them, or store the table anew with a type that holds them."
        raise bad_cells(table, name, len(wrong), len(column), fault, str(wrong[0]), hint)
    return column.cast(WHOLE)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


# --- a frame's column as one of the stored types --------------------------------------------------


def _infer(series: pd.Series[Any] | pa.ChunkedArray, table: str, name: str) -> pa.ChunkedArray:
    """Return a frame's column as the stored type that its cells have; ``null`` where that is not known.

    Categories of text come dictionary-encoded.
    """
    if isinstance(series, pa.ChunkedArray):
        return _to_stored(series, table, name)
    if isinstance(series.dtype, pd.CategoricalDtype):
        try:
            values = _infer(pd.Series(series.cat.categories), table, name).combine_chunks()
        except SchemaError:  # perhaps of a category that no cell has; the cells decide
            return _infer(series.astype(object), table, name)
        codes = pa.array(series.cat.codes.to_numpy(dtype=np.int32), mask=series.cat.codes.to_numpy() < 0)
        is_text = values.type == TEXT
        return _chunked(pa.DictionaryArray.from_arrays(codes, values) if is_text else values.take(codes))
    if isinstance(series.dtype, pd.SparseDtype):
        series = series.astype(series.dtype.subtype)
    if isinstance(series.dtype, np.dtype) and not series.dtype.isnative:
        series = series.astype(series.dtype.newbyteorder("="))
    if series.dtype == np.float64 and np.isnan(series.to_numpy()).all():
        return _chunked(pa.nulls(len(series)))
    if series.dtype == np.float64 and np.isfinite(series.to_numpy()).all():  # nearly every column of numbers is
        return _chunked(pa.array(series.to_numpy(copy=True)))
    if series.dtype == object:
        return _chunked(_from_objects(series.to_numpy(), table, name))
    try:
        array = _chunked(pa.array(series.copy(), from_pandas=True))  # Arrow would share the frame's memory
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise _unsupported(table, name, str(series.dtype)) from error
    return _to_stored(array, table, name)


def _to_stored(array: pa.ChunkedArray, table: str, name: str) -> pa.ChunkedArray:
    """Return an Arrow column as the stored type that its type stands for."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _each_word_once(array) if is_text_type(kind) else _to_stored(array.cast(kind.value_type), table, name)
    if pa.types.is_null(kind):
        return array
    if is_text_type(kind):
        return array.cast(TEXT)
    if pa.types.is_boolean(kind):
        return array
    if pa.types.is_integer(kind):
        if kind == pa.uint64():
            large = pc.fill_null(pc.greater(array, pa.scalar(_LARGEST, kind)), False)
            _check_whole(array.filter(large).to_pylist(), len(array), table, name)
        return array.cast(WHOLE)
    if pa.types.is_decimal(kind):
        return _finite(array.cast(TEXT).cast(NUMBER), table, name)  # through text, for the nearest number
    if pa.types.is_floating(kind):
        return _finite(array.cast(NUMBER), table, name)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        zoned = pa.types.is_timestamp(kind) and kind.tz
        return _within_years(_micros(array, STAMP if zoned else DATE, table, name), table, name)
    raise _unsupported(table, name, str(kind))


def _each_word_once(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return text that is dictionary-encoded with one code for each word, of one type whoever has encoded it."""
    chunks = []
    for chunk in column.chunks:
        words = chunk.dictionary.cast(TEXT)
        if words.null_count or len(words.unique()) < len(words):
            chunks.append(chunk.cast(TEXT).dictionary_encode())
        else:
            chunks.append(pa.DictionaryArray.from_arrays(chunk.indices.cast(pa.int32()), words))
    return pa.chunked_array(chunks, pa.dictionary(pa.int32(), TEXT))


def _finite(numbers: pa.ChunkedArray, table: str, name: str) -> pa.ChunkedArray:
    infinite = pc.is_inf(numbers)
    if pc.any(infinite, min_count=0).as_py():
        bad = numbers.filter(infinite)
        hint = "Find the division by zero they come from, or make them missing."
        raise bad_cells(table, name, len(bad), len(numbers), "are infinite", bad[0].as_py(), hint)
    nans = pc.is_nan(numbers)
    return pc.if_else(nans, None, numbers) if pc.any(nans, min_count=0).as_py() else numbers


def _check_exact(values: Sequence[Any], total: int, table: str, name: str) -> None:
    bad = [value for value in values if value == int(value) != int(float(value))]
    if bad:
        hint = "Store identifiers as text: df[column].astype(str)."
        raise bad_cells(table, name, len(bad), total, "are whole numbers that float64 does not hold", bad[0], hint)


def _check_whole(large: Sequence[Any], total: int, table: str, name: str) -> None:
    if len(large):
        fault, hint = "are whole numbers that int64 does not hold", "Store identifiers as text: df[column].astype(str)."
        raise bad_cells(table, name, len(large), total, fault, large[0], hint)


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
        fault = "have more than microseconds" if finer else "are beyond what a timestamp in microseconds holds"
        hint = "Round them: df[column].dt.floor('us')." if finer else "Correct the dates, or make them missing."
        raise bad_cells(table, name, len(bad), len(array), fault, example, hint) from error


def _within_years(array: pa.ChunkedArray, table: str, name: str) -> pa.ChunkedArray:
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


def _group(kind: type) -> str:
    """Return the word for the cells of a Python type; blank for one that is not stored."""
    return next((word for kinds, word in _KINDS if issubclass(kind, kinds)), "")


def _from_objects(values: np.ndarray[Any, Any], table: str, name: str) -> Any:
    """Return Python objects as a column of the stored type that all of them have.

    Raises
    ------
    SchemaError
        They are of several types, or of one that is not stored.
    """
    try:
        absent = np.asarray(pd.isna(values), dtype=bool)
    except InvalidOperation as error:
        bad = [cell for cell in values if isinstance(cell, Decimal) and cell.is_snan()]
        fault, hint = "are signalling NaNs", "Make them missing."
        raise bad_cells(table, name, len(bad), len(values), fault, bad[0], hint) from error
    cells = values[~absent]
    counts = Counter(map(type, cells))
    groups: dict[str, int] = {}
    for kind, count in counts.items():
        group = _group(kind)
        if not group:
            raise _unsupported(table, name, kind.__name__, count, len(values))
        groups[group] = groups.get(group, 0) + count
    if not groups:
        return pa.nulls(len(values))
    if len(groups) > 1:
        rarest = min(groups, key=lambda word: groups[word])
        example = next(cell for cell in cells if _group(type(cell)) == rarest)
        mix = " and ".join(f"{count} {word}" for word, count in groups.items())
        fault = f"are {rarest} in a column that mixes {mix}"
        raise bad_cells(table, name, groups[rarest], len(values), fault, example, "Give the column one type.")
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
    if group == "flags":
        flags = np.zeros(len(values), dtype=bool)
        flags[~absent] = cells.astype(bool)
        return pa.array(flags, mask=absent)
    if all(issubclass(kind, int | np.integer) for kind in counts):
        _check_whole([cell for cell in cells if not -_LARGEST - 1 <= cell <= _LARGEST], len(values), table, name)
        whole_cells = np.zeros(len(values), dtype=np.int64)
        whole_cells[~absent] = cells
        return pa.array(whole_cells, mask=absent)
    return _number_objects(values, absent, table, name)


def _number_objects(values: np.ndarray[Any, Any], absent: Any, table: str, name: str) -> pa.ChunkedArray:
    """Return numbers, some of which are not whole, as float64, which has to hold the whole ones exactly."""
    cells = values[~absent]
    numbers = np.zeros(len(values))
    try:
        numbers[~absent] = [float(cell) for cell in cells]
    except OverflowError as error:
        large = [cell for cell in cells if abs(cell) > int(np.finfo(float).max)]
        fault = "are larger than float64 holds"
        raise bad_cells(table, name, len(large), len(values), fault, large[0], "Store them as text.") from error
    whole = [cell for cell in cells[np.abs(numbers[~absent]) >= _EXACT] if not isinstance(cell, float | np.floating)]
    finite = _finite(_chunked(pa.array(numbers, mask=absent)), table, name)
    _check_exact(whole, len(values), table, name)
    return finite


def _date_objects(values: np.ndarray[Any, Any], absent: Any, table: str, name: str) -> pa.ChunkedArray:
    cells = [_as_datetime(cell) for cell in values[~absent]]
    zoned = [cell for cell in cells if cell.tzinfo is not None]
    if zoned and len(zoned) < len(cells):
        fault = "have a time zone, others none"
        raise bad_cells(table, name, len(zoned), len(values), fault, str(zoned[0]), "Convert them to one zone or none.")
    fine = [cell for cell in cells if getattr(cell, "nanosecond", 0)]
    if fine:
        fault = "have more than microseconds"
        hint = "Round them: pandas.to_datetime(df[column]).dt.floor('us')."
        raise bad_cells(table, name, len(fine), len(values), fault, str(fine[0]), hint)
    out = np.full(len(values), None, dtype=object)
    out[~absent] = cells
    return _chunked(pa.array(out, STAMP if zoned else DATE, from_pandas=True))


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


def _chunked(array: Any) -> pa.ChunkedArray:
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


# --- Arrow to frame ------------------------------------------------------------------------------


def arrow_to_frame(table: pa.Table) -> pd.DataFrame:
    """Return the frame a reader gets, in memory of its own.

    Dates are ``datetime64[us]``, flags ``boolean``, whole numbers ``int64``, or ``Int64`` where some are missing.
    ``Last_Updated`` is in UTC and without a zone, since no workbook takes one.
    """
    columns = {name: _to_pandas(column) for name, column in zip(table.column_names, table.columns, strict=True)}
    if LAST_UPDATED in columns and table.schema.field(LAST_UPDATED).type == STAMP:
        columns[LAST_UPDATED] = pd.DatetimeIndex(columns[LAST_UPDATED]).tz_localize(None).array
    return pd.DataFrame(columns, index=pd.RangeIndex(len(table)), columns=table.column_names, copy=False)


def _to_pandas(column: pa.ChunkedArray) -> Any:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _to_pandas(column.cast(kind.value_type))
    if kind == FLAG:
        absent = _own(pc.is_null(column).to_numpy())
        values = pc.fill_null(column, False) if column.null_count else column
        return pd.arrays.BooleanArray(_own(values.to_numpy()), absent)
    if pa.types.is_floating(kind) or kind == DATE:
        return _own(column.to_numpy())
    if pa.types.is_integer(kind):
        if not column.null_count:
            return _own(column.to_numpy())
        return pd.arrays.IntegerArray(_own(pc.fill_null(column, 0).to_numpy()), _own(pc.is_null(column).to_numpy()))
    if kind == STAMP:
        return pd.DatetimeIndex(_own(column.to_numpy())).tz_localize("UTC").array
    series = column.to_pandas()
    return series if is_text_type(kind) else series.copy()


def _own(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return ``values`` in memory that Arrow does not share, which it would mark as read-only."""
    return values if values.flags.writeable else values.copy()
