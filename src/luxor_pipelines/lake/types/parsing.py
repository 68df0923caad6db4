"""Parsing of text cells: the dates, numbers and flags that they spell, and the words for null."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.lake.types.schema import DATE, FLAG, NUMBER, TEXT, WHOLE, bad_cells

__all__ = ["NULL_WORDS", "is_null_word", "parse", "parse_dates", "without_null_words"]

NULL_WORDS = ("nan", "None", "NaT", "<NA>", "")
"""The words, in exactly this case, that a missing cell became when a frame was turned into text."""

_TRUE = frozenset({"true", "verdadeiro", "1", "1.0", "yes", "sim"})
_FALSE = frozenset({"false", "falso", "0", "0.0", "no", "não"})

_Parser = Callable[[pa.Array], tuple[pa.Array, pa.Array]]


def is_null_word(texts: Any) -> Any:
    """Return whether each cell is one of `NULL_WORDS`."""
    return pc.is_in(texts, value_set=pa.array(NULL_WORDS, texts.type))


def without_null_words(texts: Any) -> Any:
    """Return the texts with nulls in place of `NULL_WORDS`; dictionary-encoded texts stay so."""
    if pa.types.is_dictionary(texts.type):
        chunks = [_words_without_null_words(chunk) for chunk in texts.chunks]
        return pa.chunked_array(chunks, texts.type)
    absent = is_null_word(texts)
    if not pc.any(absent, min_count=0).as_py():
        return texts
    # Nulls as an array: of a slice of text and one null, older Arrow makes texts that are not valid.
    return pc.if_else(absent, pa.nulls(len(texts), texts.type), texts)


def _words_without_null_words(chunk: pa.DictionaryArray) -> pa.DictionaryArray:
    absent = is_null_word(chunk.dictionary).to_numpy(zero_copy_only=False)
    if not absent.any():
        return chunk
    codes = np.arange(len(absent))
    indices = pa.array(codes, mask=absent).cast(chunk.indices.type).take(chunk.indices)
    return pa.DictionaryArray.from_arrays(indices, chunk.dictionary)


# --- dates, numbers and flags --------------------------------------------------------------------


def parse(column: pa.ChunkedArray, kind: pa.DataType, table: str, name: str) -> pa.ChunkedArray:
    """Return the values that the cells of a column spell; `NULL_WORDS` are nulls.

    Fractions of a second beyond microseconds are cut off.

    Parameters
    ----------
    column
        Text, perhaps dictionary-encoded.
    kind
        ``float64``, ``int64``, ``timestamp[us]`` or ``bool``.
    table, name
        The table's and the column's name, for the message.

    Raises
    ------
    SchemaError
        Cells that spell no such value; it tells how many, and one of them.
    """
    if kind == NUMBER:
        return _numbers(column, table, name)
    if kind == WHOLE:
        return _by_word(column, WHOLE, _whole_numbers, table, name, "are no whole numbers")
    if kind == DATE:
        return _by_word(column, DATE, _dates, table, name, "are no ISO dates (2026-10-31)")
    return _by_word(column, FLAG, _flags, table, name, "are neither true nor false")


def parse_dates(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Parse ISO dates, with or without a time; return them as ``timestamp[us]``, and a mask of other cells."""
    texts = pc.utf8_trim_whitespace(texts)
    try:
        return texts.cast(DATE), pa.array(np.zeros(len(texts), dtype=bool))
    except pa.ArrowInvalid:
        pass
    # Arrow does not say which cell is wrong, so each is parsed by itself.
    dates: list[Any] = []
    for text in texts:
        try:
            dates.append(text.cast(DATE))
        except pa.ArrowInvalid:
            dates.append(pa.scalar(None, DATE))
    parsed = pa.array([date.value for date in dates], pa.int64()).cast(DATE)
    return parsed, pc.and_(pc.is_valid(texts), pc.is_null(parsed))


def _numbers(column: pa.ChunkedArray, table: str, name: str) -> pa.ChunkedArray:
    texts = column.cast(TEXT)
    try:
        numbers = texts.cast(NUMBER)
    except pa.ArrowInvalid:
        texts = without_null_words(texts)
        try:
            numbers = texts.cast(NUMBER)
        except pa.ArrowInvalid:
            return _by_word(texts, NUMBER, _careful_numbers, table, name, "are no numbers")
    absent = pc.is_nan(numbers)
    return pc.if_else(absent, None, numbers) if pc.any(absent, min_count=0).as_py() else numbers


def _by_word(
    column: pa.ChunkedArray, kind: pa.DataType, parse_words: _Parser, table: str, name: str, fault: str
) -> pa.ChunkedArray:
    """Parse each distinct text once; ``parse_words`` returns values and a mask of the texts it could not read."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    chunks: list[pa.Array] = []
    failed, example = 0, ""
    words = values = bad = pa.array([], TEXT)
    for chunk in column.chunks:
        if not chunks or not words.equals(chunk.dictionary):
            words = chunk.dictionary
            values, bad = parse_words(without_null_words(words.cast(TEXT)))
        wrong = pc.fill_null(bad.take(chunk.indices), False)
        count = pc.sum(wrong, min_count=0).as_py()
        if count and not failed:
            example = words.cast(TEXT).take(chunk.indices).filter(wrong)[0].as_py()
        failed += count
        chunks.append(values.take(chunk.indices))
    if failed:
        hint = "Correct the cells in the source; if the column is text, pass dtypes_override={'str_nan_format': [...]}."
        raise bad_cells(table, name, failed, len(column), fault, example, hint)
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


def _whole_numbers(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    words = [None if text is None else text.strip().removesuffix(".0") for text in texts.to_pylist()]
    good = [word is None or (word.lstrip("+-").isdecimal() and abs(int(word)) < 2**63) for word in words]
    numbers = [int(word) if word is not None and ok else None for word, ok in zip(words, good, strict=True)]
    return pa.array(numbers, WHOLE), pa.array([not ok for ok in good], FLAG)


def _dates(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    if (pc.max(pc.binary_length(texts)).as_py() or 0) > len("2026-10-31 18:30:00.000000"):
        texts = pc.replace_substring_regex(texts, r"(:\d{2}\.\d{6})\d{1,3}(\s*)$", r"\1\2")
    return parse_dates(texts)


def _flags(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    words = [None if text is None else text.strip().lower() for text in texts.to_pylist()]
    flags = [True if word in _TRUE else False if word in _FALSE else None for word in words]
    bad = [word is not None and flag is None for word, flag in zip(words, flags, strict=True)]
    return pa.array(flags, FLAG), pa.array(bad, FLAG)
