"""Merge: which stored rows a load keeps, and which rows of its batch it adds; pure functions on Arrow tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luxor_pipelines.errors import SchemaError, UsageError, sample
from luxor_pipelines.lake.types.keys import cell_codes, comparable, pair_ids, row_ids
from luxor_pipelines.lake.types.schema import LAST_UPDATED, is_text_type, with_codes
from luxor_pipelines.lazy import pd
from luxor_pipelines.names import normal_names

__all__ = ["Merge", "merge", "sort_columns", "sort_indices", "take_rows", "with_stored_cells"]

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Merge:
    """The outcome of a merge: the new content is ``stored[keep]`` followed by ``batch[take]``.

    ``keep`` are the positions of the stored rows that stay as they are, with their stamp, and ``take`` those of the
    batch's rows that are new or changed, both ascending. The counts are of rows: ``updated`` are stored rows replaced
    by one of the same key, ``deleted`` all other stored rows that go.
    """

    keep: Rows
    take: Rows
    inserted: int
    updated: int
    unchanged: int
    deleted: int

    @property
    def changed(self) -> bool:
        """Whether the content differs from what is stored."""
        return bool(self.inserted or self.updated or self.deleted)


def merge(
    stored: pa.Table | None,
    batch: pa.Table,
    *,
    mode: Literal["slices", "upsert"],
    key: tuple[str, ...] | None,
    increment: str | None,
    folded: Collection[str] = (),
    table: str = "",
) -> Merge:
    """Return what a load of ``batch`` changes; merging the batch again with the outcome changes nothing.

    Parameters
    ----------
    stored
        The rows there are; None where there is no table, which takes the batch as it is. Their ``Last_Updated`` is
        not compared.
    mode
        ``"slices"``: the stored rows whose ``increment`` value occurs in the batch (all of them,
        if ``increment`` is None) give way to the batch's rows. ``"upsert"``: those whose key
        occurs in it do.
    key
        The columns that say which rows are the same row. Without one, in ``"slices"``, rows are
        the same if all their cells are, and each counts as often as it occurs.
    folded
        Columns of text whose stored cells are compared in their normal form, which the batch's have; other programs
        may have stored them in another. An upsert meets a row spelled as in the batch before those in other spellings.
    table
        The table's name, and of its partition, for messages.

    Raises
    ------
    SchemaError
        The columns or types of the two differ, the batch repeats a key, or several spellings of one key or slice are
        stored and nothing says which of them the batch means.
    """
    names = [name for name in batch.column_names if name != LAST_UPDATED]
    _check(stored, batch, names, key, increment)
    if mode == "upsert" and not key:
        raise UsageError("An upsert needs a key.", hint="Name the columns that say which rows are the same row.")
    if stored is None:
        rows = np.arange(len(batch))
        return Merge(rows[:0], rows, inserted=len(batch), updated=0, unchanged=0, deleted=0)
    total = len(stored)
    by = key if mode == "upsert" else (increment,) if increment else ()
    touched = _meeting(stored, batch, by or (), folded)
    originals = take_rows(stored.select(names), touched)
    old, odd_cells = _fold(originals, folded)
    new = batch.select(names)
    if mode == "slices" and increment in odd_cells:
        _check_spellings(originals, row_ids(old, [increment]), [increment], table, "slice")

    ids = _ids_of_both(old, new, key or names)
    if key:
        before, after = ids[: len(old)], ids[len(old) :]
        if not pd.Index(after).is_unique:
            raise SchemaError(
                f"The batch repeats a key ({', '.join(key)}).", hint="Drop the duplicates, see drop_duplicates."
            )
    else:  # the n-th of equal rows stands for the n-th
        before, after = _numbered(ids[: len(old)], ids[len(old) :])
    match = _positions(before, after)
    if mode == "upsert":
        match = _settled(match, originals, odd_cells, key or (), table)
    has_match = match >= 0
    if mode == "upsert":  # so far each key column met the batch by itself
        touched, match = touched[has_match], match[has_match]
        old = take_rows(old, np.flatnonzero(has_match))
        has_match = np.ones(len(match), dtype=bool)

    same = np.zeros(len(match), dtype=bool)
    same[has_match] = True
    if key:
        with_match = np.flatnonzero(has_match)
        same[has_match] = _equal(take_rows(old, with_match), take_rows(new, match[has_match]), names, key)
    if mode == "slices" and increment in odd_cells:  # else a slice that changes in part would be left in two spellings
        same &= ~odd_cells[increment]
    # Of several stored rows with one key the first that equals the batch's stays.
    same_rows = np.flatnonzero(same)
    same_rows = same_rows[np.sort(np.unique(match[same_rows], return_index=True)[1])]
    matched = np.zeros(len(new), dtype=bool)
    matched[match[has_match]] = True
    unchanged = np.zeros(len(new), dtype=bool)
    unchanged[match[same_rows]] = True

    stays = np.ones(total, dtype=bool)
    stays[touched] = False
    stays[touched[same_rows]] = True
    updated = int((matched & ~unchanged).sum())
    return Merge(
        keep=np.flatnonzero(stays),
        take=np.flatnonzero(~unchanged),
        inserted=int((~matched).sum()),
        updated=updated,
        unchanged=len(same_rows),
        deleted=len(touched) - len(same_rows) - updated,
    )


def with_stored_cells(
    stored: pa.Table,
    batch: pa.Table,
    columns: Sequence[str],
    key: Sequence[str] | None,
    folded: Collection[str] = (),
    table: str = "",
) -> pa.Table:
    """Return the batch with the stored cells in some columns, which it came without; null in rows that are new.

    Parameters
    ----------
    key
        The columns that say which rows are the same row, the first of several; without one those are that agree in
        all other columns, and the n-th of equal rows stands for the n-th.
    folded, table
        As in `merge`.

    Raises
    ------
    SchemaError
        Several spellings of one key are stored, none of them the batch's.
    """
    if not len(stored):
        return batch
    by = key or [name for name in batch.column_names if name not in (*columns, LAST_UPDATED)]
    originals = stored.select(by)
    old, odd_cells = _fold(originals, folded)
    ids = _ids_of_both(old, batch.select(by), by)
    before, after = ids[: len(stored)], ids[len(stored) :]
    if not key:
        before, after = _numbered(before, after)
    match = _positions(before, after)
    if key:
        match = _settled(match, originals, odd_cells, key, table)
    matched, first = np.unique(match, return_index=True)
    at = np.full(len(batch), -1)
    at[matched[matched >= 0]] = first[matched >= 0]
    rows = pa.array(at, mask=at < 0)
    for name in columns:
        batch = batch.set_column(batch.schema.get_field_index(name), name, stored[name].take(rows))
    return batch


def sort_columns(table: pa.Table, increment: str | None, key: Sequence[str] | None) -> list[str]:
    """Return the columns that rows are sorted by: increment, then key, or without a key all but ``Last_Updated``."""
    others = key or [name for name in table.column_names if name != LAST_UPDATED]
    return list(dict.fromkeys([*([increment] if increment else []), *others]))


def sort_indices(table: pa.Table, increment: str | None, key: Sequence[str] | None) -> Rows:
    """Return the positions of the rows in the order of `sort_columns`: stable, missing last, text by code point."""
    order = np.zeros(len(table), dtype=np.int64)
    for name in sort_columns(table, increment, key):
        ranks, size = _ranks(table[name])
        if size > 1:
            order = pair_ids(order, ranks, size)
    # Stored rows come sorted already, and a stable sort of sorted runs is quick.
    return np.argsort(order, kind="stable")


def take_rows(table: pa.Table, rows: Rows) -> pa.Table:
    """Return the rows at these positions; nothing is copied where they follow each other."""
    if not len(rows) or (rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all()):
        return table.slice(rows[0] if len(rows) else 0, len(rows))
    return table.take(pa.array(rows))


def _check(
    stored: pa.Table | None,
    batch: pa.Table,
    names: Sequence[str],
    key: tuple[str, ...] | None,
    increment: str | None,
) -> None:
    """Refuse a batch that lacks a column of the key or the increment, or has other columns than the stored rows.

    Raises
    ------
    SchemaError
    """
    absent = [name for name in [*(key or ()), *([increment] if increment else [])] if name not in names]
    if absent:
        raise SchemaError(
            f"The batch has no column {sample(absent)}; it has {sample(names, 9)}.", hint="Name other columns."
        )
    if stored is None:
        return
    stored_names = [name for name in stored.column_names if name != LAST_UPDATED]
    if set(stored_names) != set(names):
        raise SchemaError(
            f"The stored rows have columns {sample(stored_names, 9)}, the batch {sample(names, 9)}.",
            hint="Load rows with the columns of the stored table.",
        )
    for name in names:
        is_, should = _plain_type(batch[name]), _plain_type(stored[name])
        if is_ != should:
            raise SchemaError(
                f"Column {name!r} is {is_} in the batch and {should} in the stored rows.",
                hint="Convert the column before the load.",
            )


def _plain_type(column: pa.ChunkedArray) -> pa.DataType:
    return pa.string() if is_text_type(column.type) else column.type


def _fold(rows: pa.Table, columns: Collection[str]) -> tuple[pa.Table, dict[str, NDArray[np.bool_]]]:
    """Return the rows with columns of text in their normal form (see `names.normal_name`), found by distinct word.

    Beside them comes, of each column that this changes, in which rows it does.
    """
    odd_cells = {}
    for at, name in enumerate(rows.column_names):
        if name in columns:
            codes, words = with_codes(rows[name])
            plain = normal_names(words)
            if not plain.equals(words):
                cells = plain.take(pa.array(codes, mask=codes < 0))
                rows = rows.set_column(at, name, pa.chunked_array([cells]))
                odd_words = pc.fill_null(pc.not_equal(plain, words), False).to_numpy(zero_copy_only=False)
                odd_cells[name] = odd_words[codes] & (codes >= 0)
    return rows, {name: cells for name, cells in odd_cells.items() if cells.any()}


def _settled(
    match: Rows, stored: pa.Table, odd_cells: Mapping[str, NDArray[np.bool_]], key: Sequence[str], table: str
) -> Rows:
    """Return the match of stored rows and the batch's without those whose key has the batch's spelling in another row.

    Parameters
    ----------
    match
        The position in the batch of each stored row's key, which is compared in its normal form; -1 for none.
    odd_cells
        The rows in another spelling than the batch's, by column; see `_fold`.

    Raises
    ------
    SchemaError
        A key is stored in several spellings, none of them the batch's.
    """
    columns = [name for name in key if name in odd_cells]
    if not columns:
        return match
    odd_rows = np.logical_or.reduce([odd_cells[name] for name in columns])
    exact = np.zeros(match.max(initial=-1) + 2, dtype=bool)
    exact[match[~odd_rows]] = True
    exact[-1] = False  # where the -1 of no match points
    match = np.where(odd_rows & exact[match], -1, match)
    doubtful = np.flatnonzero(odd_rows & (match >= 0))
    _check_spellings(take_rows(stored, doubtful), match[doubtful], columns, table, "key")
    return match


def _check_spellings(rows: pa.Table, groups: Rows, columns: Sequence[str], table: str, kind: str) -> None:
    """Refuse rows of one group, which are one key or slice, that are spelled in several ways.

    Raises
    ------
    SchemaError
    """
    spellings = pd.DataFrame({"group": groups, "spelling": row_ids(rows, columns)})
    spellings = spellings[~spellings.duplicated()]
    several = spellings[spellings.duplicated("group", keep=False)]
    if several.empty:
        return
    cells = take_rows(rows.select(columns), several.index.to_numpy()).to_pylist()
    words = pd.Series([", ".join(map(str, row.values())) for row in cells])
    examples = [sorted(spelled) for _, spelled in words.groupby(several["group"].to_numpy())]
    verb = f"{kind} of the batch is" if len(examples) == 1 else f"{kind}s of the batch are"
    raise SchemaError(
        f"Table {table}, column {', '.join(map(repr, columns))}: {len(examples)} {verb} stored in several spellings, "
        f"and which of them the batch means is not known: {sample(examples)}.",
        hint="Give stored names one spelling: read the table, mend it, save_table(…, mode='replace'). Where spellings "
        "tell rows apart, load with normalize_columns=False.",
    )


def _meeting(stored: pa.Table, batch: pa.Table, by: Sequence[str], folded: Collection[str]) -> Rows:
    """Return the positions of the stored rows whose values in ``by``, column by column, occur in the batch."""
    rows = np.arange(len(stored))
    for name in by:
        column = stored[name] if len(rows) == len(stored) else stored[name].take(pa.array(rows))
        column = _fold(pa.table({name: column}), folded)[0][name]
        values = pc.unique(comparable(batch[name])).drop_null()
        hit = pc.is_in(comparable(column), value_set=values)
        if batch[name].null_count:
            hit = pc.or_(hit, pc.is_null(column))
        rows = rows[hit.to_numpy()]
    return rows


def _ids_of_both(old: pa.Table, new: pa.Table, names: Sequence[str]) -> Rows:
    """Return what `row_ids` does, for the rows of both tables one after the other."""
    if not len(old):
        return row_ids(new, names)
    columns = [[*comparable(old[name]).chunks, *comparable(new[name]).chunks] for name in names]
    both = {name: pa.chunked_array(chunks, _plain_type(new[name])) for name, chunks in zip(names, columns, strict=True)}
    return row_ids(pa.table(both), names)


def _numbered(before: Rows, after: Rows) -> tuple[Rows, Rows]:
    """Return ids that tell the first occurrence of a row from the second, and so on."""

    def occurrence(ids: Rows) -> Rows:
        return np.asarray(pd.Series(ids).groupby(ids).cumcount(), dtype=np.int64)

    size = max(len(before), len(after)) + 1
    return before * size + occurrence(before), after * size + occurrence(after)


def _positions(before: Rows, after: Rows) -> Rows:
    """Return the position of each of ``before`` in ``after``, which has no duplicates; -1 where it is not there."""
    return np.asarray(pd.Index(after).get_indexer(pd.Index(before)), dtype=np.int64)


def _equal(left: pa.Table, right: pa.Table, names: Sequence[str], key: Sequence[str]) -> NDArray[np.bool_]:
    """Return whether rows are equal cell by cell; two nulls are equal."""
    out = np.ones(len(left), dtype=bool)
    for name in names:
        if name in key:
            continue
        a, b = left[name], right[name]
        if is_text_type(a.type):
            a, b = a.cast(pa.string()), b.cast(pa.string())
        same = pc.equal(a, b)
        if same.null_count:
            same = pc.or_(pc.fill_null(same, False), pc.and_(pc.is_null(a), pc.is_null(b)))
        out &= same.to_numpy()
    return out


def _ranks(column: pa.ChunkedArray) -> tuple[Rows, int]:
    """Return the rank of each cell among the distinct values, missing last, and the number of ranks."""
    codes, values = cell_codes(column)
    order = pc.sort_indices(values if isinstance(values, pa.Array) else pa.array(values)).to_numpy()
    places = np.empty(len(values) + 1, dtype=np.int64)
    places[order] = np.arange(len(values))
    places[-1] = len(values)  # where the code -1 of a null points
    return places[codes], len(values) + 1
