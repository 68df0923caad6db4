"""The codec of legacy files, in which every cell is text.

Numbers are Python's shortest representation (``5.0``), dates ISO, flags ``True`` and ``False``, and a
missing cell is one of five words. Only a column's exact name tells its type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.errors import SchemaError, sample
from luxor_pipelines.lake.types.parsing import is_null_word, parse, without_null_words
from luxor_pipelines.lake.types.schema import DATE, LAST_UPDATED, NUMBER, STAMP, TEXT

__all__ = ["LegacyCodec", "spell"]

_NULL_OF = {DATE: "NaT"}
_DAY = 86_400_000_000
_SECOND = 1_000_000


class LegacyCodec:
    """The codec of a legacy file; see `codec.Codec`.

    ``Last_Updated`` stays text.

    Parameters
    ----------
    stored
        The file's columns, with its metadata: all of them text.
    table
        The table's name, for messages.
    types
        The types of the values that the columns spell.
    """

    legacy = True

    def __init__(self, stored: pa.Schema, table: str, types: Mapping[str, pa.DataType]) -> None:
        self.stored = stored
        self._table = table
        self._types = types
        self.schema = pa.schema([(name, types[name]) for name in stored.names], stored.metadata)

    def is_plain(self, column: str) -> bool:  # noqa: ARG002
        """Return False: any column may hold null words."""
        return False

    def decode(self, rows: pa.Table, dictionary: Sequence[str] = ()) -> pa.Table:
        """See `Codec.decode`; `NULL_WORDS` are nulls in every column."""
        columns = {}
        for name, column in zip(rows.column_names, rows.columns, strict=True):
            if name not in self.schema.names:
                continue
            kind = self._types[name]
            if kind != TEXT:
                columns[name] = parse(column, kind, self._table, name)
                continue
            encoded = pa.types.is_dictionary(column.type)
            column = without_null_words(column if encoded else column.cast(TEXT))
            columns[name] = column if encoded and name in dictionary else column.cast(TEXT)
        return pa.table(columns).replace_schema_metadata(self.schema.metadata)

    def encode(self, rows: pa.Table, like: pa.Table | None = None) -> pa.Table:
        """See `Codec.encode`, in the spelling of ``like``: see `spell`."""
        texts = spell(rows, like=like)
        return texts if like is None else texts.cast(like.schema)

    def as_read(self, rows: pa.Table) -> pa.Table:
        """See `Codec.as_read`: null words are nulls, and a column that is read as text is its text."""
        columns = []
        for name, column in zip(rows.column_names, rows.columns, strict=True):
            if self._types.get(name, TEXT) == TEXT and name != LAST_UPDATED:
                column = without_null_words(_spell(column, None))
            columns.append(column)
        return pa.table(columns, names=rows.column_names).replace_schema_metadata(rows.schema.metadata)


def spell(rows: pa.Table, *, like: pa.Table | None = None) -> pa.Table:
    """Return typed columns as the text that legacy files have.

    Parameters
    ----------
    like
        Stored rows that the new ones are to join: their order of columns, null word and length of
        dates are used. Columns that they lack are left out.

    Raises
    ------
    SchemaError
        A column of ``like`` is missing.
    """
    names = rows.column_names if like is None else like.column_names
    absent = [name for name in names if name not in rows.column_names]
    if absent:
        raise SchemaError(
            f"The new rows have no column {sample(absent, 9)}; they have {sample(rows.column_names, 9)}.",
            hint="Load rows with the columns of the stored table.",
        )
    columns = [
        _spell(rows[name], None if like is None else like[name], always_time=name == LAST_UPDATED) for name in names
    ]
    return pa.table(columns, names=names)


def _spell(column: pa.ChunkedArray, like: pa.ChunkedArray | None, *, always_time: bool = False) -> pa.ChunkedArray:
    stored = None if like is None else like.cast(TEXT)
    kind = column.type
    if pa.types.is_boolean(kind):
        texts = pc.if_else(column, "True", "False")
    elif pa.types.is_timestamp(kind):
        texts = _spell_dates(column, stored, always_time=always_time)
    elif pa.types.is_floating(kind):
        numbers = column.cast(NUMBER).to_pylist()
        texts = pa.chunked_array([pa.array([None if x is None else repr(x) for x in numbers], TEXT)])
    else:
        texts = column.cast(TEXT)
    word = _null_word(stored, kind) if texts.null_count else None
    return texts if word is None else pc.fill_null(texts, word)


def _null_word(stored: pa.ChunkedArray | None, kind: pa.DataType) -> str | None:
    """Return the word that the stored column has for null most often; None where that is a genuine null."""
    counts: dict[str | None, int] = {}
    if stored is not None:
        words = stored.filter(is_null_word(stored)).value_counts()
        counts = {row["values"]: row["counts"] for row in words.to_pylist()}
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
