"""The one way between pandas frames and typed Arrow columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.errors import SchemaError, UsageError, sample
from luxor_pipelines.lake.types.cells import chunked, infer
from luxor_pipelines.lake.types.schema import (
    DATE,
    FLAG,
    KEEP_CASE,
    LAST_UPDATED,
    NUMBER,
    STAMP,
    TEXT,
    bad_cells,
    is_text_type,
    plain,
)

__all__ = ["arrow_to_frame", "check_frame", "conform", "frame_to_arrow", "normalize_text", "parse_dates"]

_WORDS = {DATE: "dates", TEXT: "text", NUMBER: "numbers", FLAG: "flags", STAMP: "stamps"}
# Arrow lowers letter by letter; these two depend on their neighbours or become two characters.
_LOWERED_BY_PYTHON = ("İ", "Σ")

# --- frame to Arrow ------------------------------------------------------------------------------


def frame_to_arrow(
    df: pd.DataFrame,
    *,
    table: str,
    target: pa.Schema | None,
    normalize: bool = True,
    index: bool = False,
    index_name: str = "index",
) -> pa.Table:
    """Turn a frame into typed columns; the frame itself is never changed.

    Parameters
    ----------
    df
        The rows. A ``Last_Updated`` column is left out: it is the writer's to set.
    table
        The table's name, for messages.
    target
        The columns and types to fit, in this order; None to take what the frame has.
    normalize
        Trim and lower-case text, except in the columns of `KEEP_CASE`.
    index, index_name
        Whether the frame's index becomes a column, and what it is called.

    Raises
    ------
    SchemaError
        Columns that are unknown, missing, named twice or not by text; cells that the type does not
        hold exactly.
    """
    check_frame(df, table)
    names = _column_names(df, table)
    columns = {name: infer(df[name], table, name) for name in names if name != LAST_UPDATED}
    if index:
        if isinstance(df.index, pd.MultiIndex) or index_name in names:
            reason = "has several levels" if isinstance(df.index, pd.MultiIndex) else "has the name of a column"
            raise SchemaError(
                f"Table {table}: the frame's index, to be stored as {index_name!r}, {reason}.",
                hint="Use reset_index() and rename the columns, or give another index_name.",
            )
        columns = {index_name: infer(df.index.to_series(), table, index_name), **columns}
    data = pa.table(columns)
    data = _without_zones(data, table) if target is None else conform(data, table=table, target=target)
    if normalize:
        for position, field in enumerate(data.schema):
            if field.type == TEXT and field.name not in KEEP_CASE:
                data = data.set_column(position, field, normalize_text(data.column(position)))
    return data


def check_frame(df: object, table: str) -> None:
    """Refuse what is no frame.

    Raises
    ------
    UsageError
    """
    if not isinstance(df, pd.DataFrame):
        raise UsageError(
            f"Table {table}: rows come as a DataFrame, not as {type(df).__name__}.", hint="Convert it to a DataFrame."
        )


def conform(data: pa.Table, *, table: str, target: pa.Schema) -> pa.Table:
    """Fit typed columns to ``target``: the same columns, its order, its types.

    Text is accepted for dates when every cell is ISO; a column without a single value fits any type.

    Raises
    ------
    SchemaError
    """
    wanted = [field for field in target if field.name != LAST_UPDATED]
    names = [field.name for field in wanted]
    unknown = [name for name in data.column_names if name not in names]
    missing = [name for name in names if name not in data.column_names]
    if unknown or missing:
        parts = ([f"unknown: {_listed(unknown)}"] if unknown else []) + (
            [f"missing: {_listed(missing)}"] if missing else []
        )
        raise SchemaError(
            f"Table {table}: the frame's columns are not the table's; {'; '.join(parts)}. "
            f"The table has {_listed(names)}.",
            hint="Rename, add or drop columns; names are case-sensitive.",
        )
    columns = [_fit(data[field.name], field.type, table, field.name) for field in wanted]
    for field, column in zip(wanted, columns, strict=True):
        if column.null_count and not field.nullable:
            raise SchemaError(
                f"Table {table}, column {field.name!r}: {column.null_count} of {len(column)} cells are missing, "
                "in a column that must be filled.",
                hint="Fill or drop those rows.",
            )
    return pa.table(columns, schema=pa.schema(wanted))


def normalize_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Each cell as Python's ``cell.strip().lower()``."""
    trimmed = pc.utf8_trim_whitespace(column)
    lowered = pc.utf8_lower(trimmed)
    if pc.all(pc.string_is_ascii(trimmed), min_count=0).as_py():
        return lowered
    special = pc.fill_null(pc.or_(*(pc.match_substring(trimmed, letter) for letter in _LOWERED_BY_PYTHON)), False)
    if not pc.any(special, min_count=0).as_py():
        return lowered
    texts = [text.lower() for text in trimmed.filter(special).to_pylist()]
    return pc.replace_with_mask(lowered.combine_chunks(), special.combine_chunks(), pa.array(texts, TEXT))


def parse_dates(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """ISO dates, with or without a time part, as (``timestamp[us]``, mask of what is no such date)."""
    texts = pc.utf8_trim_whitespace(texts)
    try:
        return texts.cast(DATE), pa.array(np.zeros(len(texts), dtype=bool))
    except pa.ArrowInvalid:
        pass
    # Something is wrong: ask cell by cell what.
    dates: list[Any] = []
    for text in texts:
        try:
            dates.append(text.cast(DATE))
        except pa.ArrowInvalid:
            dates.append(pa.scalar(None, DATE))
    parsed = pa.array([date.value for date in dates], pa.int64()).cast(DATE)
    return parsed, pc.and_(pc.is_valid(texts), pc.is_null(parsed))


def _column_names(df: pd.DataFrame, table: str) -> list[str]:
    if isinstance(df.columns, pd.MultiIndex):
        raise SchemaError(
            f"Table {table}: the frame's columns have {df.columns.nlevels} levels.",
            hint="Flatten them to one name a column.",
        )
    labels: list[Any] = list(df.columns)
    odd = [name for name in labels if not isinstance(name, str)]
    if odd:
        raise SchemaError(
            f"Table {table}: column names are text, but the frame has {sample(odd)}.",
            hint="Rename them, for instance with df.rename(columns=str).",
        )
    twice = [name for name, count in Counter(df.columns).items() if count > 1]
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
    what = "have a time zone, which dates in the lake do not"
    hint = "Convert to the zone whose calendar counts, then drop it: df[column].dt.tz_localize(None)."
    return bad_cells(table, name, len(cells), len(column), what, example, hint)


def _fit(column: pa.ChunkedArray, kind: pa.DataType, table: str, name: str) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    if column.null_count == len(column):
        return chunked(pa.nulls(len(column), kind))
    if kind == DATE and column.type == STAMP:
        raise _zoned(column, table, name)
    hint = "Convert the column before the load."
    cells = column.drop_null()
    if kind == DATE and column.type == TEXT:
        unique = column.dictionary_encode().combine_chunks()
        unique = unique.chunk(0) if isinstance(unique, pa.ChunkedArray) else unique
        dates, bad = parse_dates(unique.dictionary)
        wrong = bad.take(unique.indices)
        count = pc.sum(wrong, min_count=0).as_py()
        if not count:
            return chunked(dates.take(unique.indices))
        what, hint = "are no ISO dates (2026-10-31)", "Parse them: pandas.to_datetime(df[column], format=...)."
        raise bad_cells(table, name, count, len(column), what, unique.filter(wrong)[0].as_py(), hint)
    if kind == NUMBER and column.type == TEXT:
        hint = "Convert it: pandas.to_numeric(df[column])."
    elif kind == TEXT:
        hint = "Convert it: df[column].astype(str)."
    elif kind == STAMP and column.type == DATE:
        hint = "Say of which zone they are: df[column].dt.tz_localize('UTC')."
    what = f"are {_WORDS[column.type]} where the table has {_WORDS.get(kind, str(kind))}"
    raise bad_cells(table, name, len(cells), len(column), what, plain(cells[0].as_py()), hint)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


# --- Arrow to frame ------------------------------------------------------------------------------


def arrow_to_frame(table: pa.Table) -> pd.DataFrame:
    """The frame a reader gets: its own memory, dates ``datetime64[us]``, flags ``boolean``, text as pandas has it."""
    columns = {name: _to_pandas(column) for name, column in zip(table.column_names, table.columns, strict=True)}
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
    if kind == STAMP:
        return pd.DatetimeIndex(_own(column.to_numpy())).tz_localize("UTC").array
    series = column.to_pandas()
    return series if is_text_type(kind) else series.copy()


def _own(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``values`` in memory that Arrow does not share; what it shares, it marks as read-only."""
    return values if values.flags.writeable else values.copy()
