"""Keys: numbers that tell the rows of a table apart, and the keys that occur more than once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luxor_pipelines.errors import SchemaError, sample
from luxor_pipelines.lake.types.schema import TEXT, is_text_type, plain, with_codes
from luxor_pipelines.lazy import pd

__all__ = ["cell_codes", "check_key", "comparable", "pair_ids", "repeated_keys", "row_ids"]

Codes = NDArray[np.int64]


def check_key(table: pa.Table, key: Sequence[str], name: str) -> None:
    """Raise where two rows share a key.

    Raises
    ------
    SchemaError
        The message has the number of repeated keys and a few of them.
    """
    repeated = repeated_keys(table, key)
    if not len(repeated):
        return
    shown = [tuple(map(plain, row.values())) for row in repeated.select(list(key)).slice(0, 3).to_pylist()]
    rows = pc.sum(repeated["count_all"]).as_py()
    raise SchemaError(
        f"Table {name}: {len(repeated)} keys ({', '.join(key)}) occur in {rows} rows of the batch, where each may "
        f"occur once: {sample(shown)}{f' and {len(repeated) - 3} more' if len(repeated) > 3 else ''}.",
        hint="Keep one row of each; in pandas, df.drop_duplicates(subset=[...], keep='last') keeps the last.",
    )


def repeated_keys(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """Return the keys that occur more than once, with the number of their rows in ``count_all``."""
    ids, names = pd.Index(row_ids(table, key)), list(key)
    if ids.is_unique:
        return table.select(names).slice(0, 0).append_column("count_all", pa.array([], pa.int64()))
    rows = table.select(names).filter(pa.array(ids.duplicated(keep=False)))
    rows = pa.table([comparable(column) for column in rows.columns], names)
    return rows.group_by(names).aggregate([([], "count_all")])


def row_ids(table: pa.Table, names: Sequence[str]) -> Codes:
    """Return a number for each row, the same for rows that are equal in the columns ``names``."""
    ids = np.zeros(len(table), dtype=np.int64)
    for name in names:
        codes, values = cell_codes(table[name])
        ids = pair_ids(ids, codes + 1, len(values) + 1)
    return ids


def pair_ids(ids: Codes, codes: Codes, size: int) -> Codes:
    """Return one number for each pair of ``ids`` and ``codes``, in the order of the pairs.

    Parameters
    ----------
    size
        A number greater than each of ``codes``.
    """
    highest = int(ids.max(initial=0)) + 1
    if highest * size >= 2**62:
        ids = np.unique(ids, return_inverse=True)[1].astype(np.int64)
    return ids * size + codes


def cell_codes(column: pa.ChunkedArray) -> tuple[Codes, pa.Array | NDArray[Any]]:
    """Return a number for each cell, -1 for a null, and the distinct values in the order of their numbers."""
    if is_text_type(column.type):
        codes, words = with_codes(column)
        return codes.astype(np.int64), words
    column = comparable(column)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    absent = pc.is_null(column).to_numpy() if column.null_count else None
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int64())
    filled = pc.fill_null(column, 0) if absent is not None else column
    codes, distinct = pd.factorize(filled.to_numpy())
    codes = codes.astype(np.int64)
    if absent is not None:
        codes[absent] = -1
    return codes, np.asarray(distinct)


def comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column with one representation of each value: no -0.0, and text decoded."""
    if is_text_type(column.type):
        return column.cast(TEXT)
    return pc.add(column, 0.0) if pa.types.is_floating(column.type) else column
