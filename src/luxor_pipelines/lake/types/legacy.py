"""The legacy files, in which every cell is text: reading them as typed columns, and writing them.

Numbers are Python's shortest representation (``5.0``), dates ISO, flags ``True`` and ``False``,
and a missing cell is one of five words. What a column means is known by its exact name alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.errors import SchemaError, UsageError, sample
from luxor_pipelines.lake.types.frames import parse_dates
from luxor_pipelines.lake.types.schema import (
    DATE,
    ENCODING,
    FLAG,
    LAST_UPDATED,
    NUMBER,
    STAMP,
    TEXT,
    bad_cells,
    is_text_type,
)

__all__ = ["NULL_WORDS", "as_read", "decode", "encode", "expected_types", "is_text", "meanings"]

NULL_WORDS = ("nan", "None", "NaT", "<NA>", "")
"""What a missing cell became when a frame was turned to text; in exactly this case."""

_NUMBERS = frozenset(
    {
        *("Last_Price", "Price", "px_last", "Quota", "#", "Avg_price", "Variation", "Variation_tot", "%_MoM", "PL"),
        *("AUM", "%_pl", "Market_Value", "P&L_MoM", "P&L_YTD", "Debt", "Kd", "Return_Multiplier", "Weight", "%_YTD"),
        *("Net_Debt/Ebitda", "adr_adr_per_sh", "Volume", "Total", "Liquidity_Rule", "Daily_Return", "Amount"),
        *("Adjust", "Year", "Daily_Adm_Fee", "Timestamp", "Pnl", "Attribution"),
    }
)
_DATES = frozenset({"Date", "last_update_dt", "Query_Time", "update_time", "Update_Time", "Settlement Date", "Today"})
_FLAGS = frozenset({"Ignore Flag", "Disable BDP", "Hist_Price", "Historical_Data"})
_RISK_TEXT = frozenset({"Fund", LAST_UPDATED})

_KINDS = {"float": NUMBER, "date": DATE, "bool": FLAG, "str_nan_format": TEXT}
_TRUE = frozenset({"true", "verdadeiro", "1", "1.0", "yes", "sim"})
_FALSE = frozenset({"false", "falso", "0", "0.0", "no", "não"})
_NULL_OF = {DATE: "NaT"}
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_DAY = 86_400_000_000
_SECOND = 1_000_000


def is_text(schema: pa.Schema) -> bool:
    """Whether files of this schema are legacy: every column text, and not marked as typed.

    An index that pandas has stored unasked, as ``__index_level_0__``, does not count.
    """
    if _is_typed(schema):
        return False
    kinds = [field.type for field in schema if not _PANDAS_INDEX.fullmatch(field.name)]
    return bool(kinds) and all(map(is_text_type, kinds))


def _is_typed(schema: pa.Schema) -> bool:
    return (schema.metadata or {}).get(ENCODING) == b"typed"


def expected_types(
    table_name: str, column_names: Iterable[str], overrides: Mapping[str, Iterable[str]] | None = None
) -> dict[str, pa.DataType]:
    """What a text column of each name holds: ``float64``, ``timestamp[us]``, ``bool`` or ``string``.

    Parameters
    ----------
    overrides
        More names for ``"float"``, ``"date"``, ``"bool"`` and ``"str_nan_format"`` (text), as in
        ``{"float": {"Pct_Change"}}``; they win over the built-in ones.

    Raises
    ------
    UsageError
        Another kind than these four.
    """
    added = _overridden(overrides)

    def one(name: str) -> pa.DataType:
        if name in added:
            return added[name]
        if name in _DATES and (table_name != "hist_risk_metrics" or name == "Date"):
            return DATE
        if table_name == "hist_risk_metrics":
            return TEXT if name in _RISK_TEXT else NUMBER
        if name in _FLAGS:
            return FLAG
        return NUMBER if name in _NUMBERS and table_name != "last_all_flds" else TEXT

    return {name: one(name) for name in column_names}


def meanings(
    schema: pa.Schema, *, name: str, overrides: Mapping[str, Iterable[str]] | None = None
) -> dict[str, pa.DataType]:
    """What the text columns of a file hold. One marked as typed means what it says, unless overridden."""
    types = expected_types(name, schema.names, overrides)
    if _is_typed(schema):
        types = {column: kind for column, kind in types.items() if column in _overridden(overrides)}
    return {column: kind for column, kind in types.items() if is_text_type(schema.field(column).type)}


def _overridden(overrides: Mapping[str, Iterable[str]] | None) -> dict[str, pa.DataType]:
    unknown = set(overrides or ()) - _KINDS.keys()
    if unknown:
        raise UsageError(
            f"dtypes_override has no kind {sample(sorted(map(str, unknown)))}.", hint=f"Use {sample(_KINDS, 4)}."
        )
    return {
        column: _KINDS[kind]
        for kind, columns in (overrides or {}).items()
        for column in ([columns] if isinstance(columns, str) else columns)
    }


# --- text to typed -------------------------------------------------------------------------------


def decode(
    table: pa.Table,
    *,
    name: str,
    overrides: Mapping[str, Iterable[str]] | None = None,
    text: bool | None = None,
) -> pa.Table:
    """Turn text columns into what they mean; a null word is a null in every column of a legacy file.

    In other files only the columns that should not be text are decoded. Fractions of a second
    beyond microseconds are cut off. ``Last_Updated`` stays text. Text that comes
    dictionary-encoded stays so.

    Parameters
    ----------
    name
        The table's name, on which the meaning of some columns depends.
    overrides
        See `expected_types`.
    text
        Whether the file is a legacy one, when ``table`` has not all its columns.

    Raises
    ------
    SchemaError
        A cell that is not of its type; names table, column, count and a sample.
    """
    legacy = is_text(table.schema) if text is None else text
    kinds = meanings(table.schema, name=name, overrides=overrides)
    columns = []
    for column_name, column in zip(table.column_names, table.columns, strict=True):
        kind = kinds.get(column_name)
        if kind == NUMBER:
            column = _numbers(column, name, column_name)
        elif kind == DATE:
            column = _by_word(column, DATE, _dates, name, column_name, "are no ISO dates (2026-10-31)")
        elif kind == FLAG:
            column = _by_word(column, FLAG, _flags, name, column_name, "are neither true nor false")
        elif kind is not None and legacy:
            column = _texts(column)
        columns.append(column)
    return pa.table(columns, names=table.column_names).replace_schema_metadata(table.schema.metadata)


def _is_null_word(texts: Any) -> Any:
    return pc.is_in(texts, value_set=pa.array(NULL_WORDS, texts.type))


def _without_null_words(texts: Any) -> Any:
    absent = _is_null_word(texts)
    if not pc.any(absent, min_count=0).as_py():
        return texts
    # Nulls as an array: of a slice of text and one null, older Arrow makes texts that are not valid.
    return pc.if_else(absent, pa.nulls(len(texts), texts.type), texts)


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_dictionary(column.type):
        return _without_null_words(column.cast(TEXT))
    chunks = []
    for chunk in column.chunks:
        absent = _is_null_word(chunk.dictionary).to_numpy(zero_copy_only=False)
        if absent.any():
            codes = np.arange(len(absent))
            kept = pa.array(codes, mask=absent).cast(chunk.indices.type).take(chunk.indices)
            chunk = pa.DictionaryArray.from_arrays(kept, chunk.dictionary)
        chunks.append(chunk)
    return pa.chunked_array(chunks, column.type)


def _numbers(column: pa.ChunkedArray, table: str, name: str) -> pa.ChunkedArray:
    texts = column.cast(TEXT)
    try:
        numbers = texts.cast(NUMBER)
    except pa.ArrowInvalid:
        texts = _without_null_words(texts)
        try:
            numbers = texts.cast(NUMBER)
        except pa.ArrowInvalid:
            return _by_word(texts, NUMBER, _careful_numbers, table, name, "are no numbers")
    absent = pc.is_nan(numbers)
    return pc.if_else(absent, None, numbers) if pc.any(absent, min_count=0).as_py() else numbers


_Parser = Callable[[pa.Array], tuple[pa.Array, pa.Array]]


def _by_word(
    column: pa.ChunkedArray, kind: pa.DataType, parse: _Parser, table: str, name: str, what: str
) -> pa.ChunkedArray:
    """Parse each distinct text once; ``parse`` gives values and a mask of what it could not read."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    chunks: list[pa.Array] = []
    failed, example = 0, ""
    words = values = bad = pa.array([], TEXT)
    for chunk in column.chunks:
        if not chunks or not words.equals(chunk.dictionary):
            words = chunk.dictionary
            values, bad = parse(_without_null_words(words.cast(TEXT)))
        wrong = pc.fill_null(bad.take(chunk.indices), False)
        count = pc.sum(wrong, min_count=0).as_py()
        if count and not failed:
            example = words.cast(TEXT).take(chunk.indices).filter(wrong)[0].as_py()
        failed += count
        chunks.append(values.take(chunk.indices))
    if failed:
        hint = "Correct the cells in the source; if the column is text, pass dtypes_override={'str_nan_format': [...]}."
        raise bad_cells(table, name, failed, len(column), what, example, hint)
    return pa.chunked_array(chunks, kind)


def _careful_numbers(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    numbers: list[float | None] = []
    bad = []
    for text in texts.to_pylist():
        try:
            numbers.append(None if text is None else pa.scalar(text.strip()).cast(NUMBER).as_py())
            bad.append(False)
        except pa.ArrowInvalid:
            numbers.append(None)
            bad.append(True)
    return pa.array(numbers, NUMBER, from_pandas=True), pa.array(bad, FLAG)


def _dates(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    if (pc.max(pc.binary_length(texts)).as_py() or 0) > len("2026-10-31 18:30:00.000000"):
        texts = pc.replace_substring_regex(texts, r"(:\d{2}\.\d{6})\d{1,3}(\s*)$", r"\1\2")
    return parse_dates(texts)


def _flags(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    words = [None if text is None else text.strip().lower() for text in texts.to_pylist()]
    flags = [True if word in _TRUE else False if word in _FALSE else None for word in words]
    bad = [word is not None and flag is None for word, flag in zip(words, flags, strict=True)]
    return pa.array(flags, FLAG), pa.array(bad, FLAG)


# --- typed to text -------------------------------------------------------------------------------


def encode(table: pa.Table, *, like: pa.Table | None = None) -> pa.Table:
    """Turn typed columns into text as the legacy files have it.

    Parameters
    ----------
    like
        Stored rows, as text, that the new ones are to join: order of columns, null word and
        whether dates have a time part are theirs.

    Raises
    ------
    SchemaError
        ``like`` has other columns.
    """
    names = table.column_names if like is None else like.column_names
    if set(names) != set(table.column_names):
        raise SchemaError(
            f"The new rows have columns {sample(table.column_names, 9)}, the stored ones {sample(names, 9)}.",
            hint="Load rows with the columns of the stored table.",
        )
    columns = [
        _spell(table[name], None if like is None else like[name], always_time=name == LAST_UPDATED) for name in names
    ]
    return pa.table(columns, names=names)


def as_read(table: pa.Table, *, name: str, overrides: Mapping[str, Iterable[str]] | None = None) -> pa.Table:
    """The rows as they will read once stored in a legacy file, so that they compare as equal to it.

    A null word in a text column is a null, and a typed column that the file's readers take for
    text (its name is in no list) is its text.
    """
    kinds = expected_types(name, table.column_names, overrides)
    columns = []
    for column_name, column in zip(table.column_names, table.columns, strict=True):
        if kinds[column_name] == TEXT and column_name != LAST_UPDATED:
            column = _texts(_spell(column, None))
        columns.append(column)
    return pa.table(columns, names=table.column_names).replace_schema_metadata(table.schema.metadata)


def _spell(column: pa.ChunkedArray, like: pa.ChunkedArray | None, *, always_time: bool = False) -> pa.ChunkedArray:
    stored = None if like is None else like.cast(TEXT)
    kind = column.type
    if pa.types.is_boolean(kind):
        texts = pc.if_else(column, "True", "False")
    elif pa.types.is_timestamp(kind):
        texts = _spell_dates(column, stored, always_time=always_time)
    elif pa.types.is_floating(kind) or pa.types.is_integer(kind):
        numbers = column.cast(NUMBER).to_pylist()
        texts = pa.chunked_array([pa.array([None if x is None else repr(x) for x in numbers], TEXT)])
    else:
        texts = column.cast(TEXT)
    word = _null_word(stored, kind) if texts.null_count else None
    return texts if word is None else pc.fill_null(texts, word)


def _null_word(stored: pa.ChunkedArray | None, kind: pa.DataType) -> str | None:
    """How the stored column says null most often; None: by a genuine null."""
    counts: dict[str | None, int] = {}
    if stored is not None:
        found = stored.filter(_is_null_word(stored)).value_counts()
        counts = {row["values"]: row["counts"] for row in found.to_pylist()}
        if stored.null_count:
            counts[None] = stored.null_count
    return max(counts, key=lambda word: counts[word]) if counts else _NULL_OF.get(kind, "nan")


def _spell_dates(column: pa.ChunkedArray, stored: pa.ChunkedArray | None, *, always_time: bool) -> pa.ChunkedArray:
    ticks = column.drop_null().cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()).to_numpy()
    # A null word is shorter than any date.
    length = 0 if stored is None else pc.max(pc.binary_length(stored)).as_py() or 0
    local = column.cast(STAMP).cast(pa.int64()).cast(DATE) if column.type.tz else column
    if length > len("2026-10-31 18:30:00") or (ticks % _SECOND).any():
        return local.cast(DATE).cast(TEXT)
    if length > len("2026-10-31") or always_time or (ticks % _DAY).any():
        return local.cast(pa.timestamp("s")).cast(TEXT)
    return local.cast(pa.date32()).cast(TEXT)
