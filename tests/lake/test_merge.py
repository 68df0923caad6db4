from __future__ import annotations

import datetime as dt
import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.errors import SchemaError, UsageError
from luxor_pipelines.lake.table.merge import Merge, merge, sort_indices
from luxor_pipelines.lake.types.schema import LAST_UPDATED
from luxor_pipelines.names import normal_name

TYPES = {"Date": pa.timestamp("us"), "Asset": pa.string(), "Price": pa.float64(), "Flag": pa.bool_()}
STAMP = pa.timestamp("us", "UTC")


def rows(*cells, stamp=None):
    """A table of (day of January, asset, price, flag) rows, the last two optional."""
    full = [(*row, *([None] * (4 - len(row)))) for row in cells]
    days = [None if row[0] is None else dt.datetime(2026, 1, row[0]) for row in full]
    columns = [days, *([row[i] for row in full] for i in (1, 2, 3))]
    table = pa.table([pa.array(c, t) for c, t in zip(columns, TYPES.values(), strict=True)], names=list(TYPES))
    if stamp is None:
        return table
    return table.append_column(LAST_UPDATED, pa.repeat(pa.scalar(dt.datetime(2026, 2, stamp), STAMP), len(table)))


def counts(change: Merge):
    return change.inserted, change.updated, change.unchanged, change.deleted


def apply(stored, batch, change, stamp=9):
    """What a load writes."""
    new = batch.take(pa.array(change.take))
    new = new.append_column(LAST_UPDATED, pa.repeat(pa.scalar(dt.datetime(2026, 2, stamp), STAMP), len(new)))
    if stored is None:
        return new
    return pa.concat_tables([stored.take(pa.array(change.keep)), new.select(stored.column_names)])


def content(table):
    return Counter(tuple(row.values()) for row in table.select(list(TYPES)).to_pylist())


def slices(stored, batch, key=None, increment="Date"):
    return merge(stored, batch, mode="slices", key=key, increment=increment)


def upsert(stored, batch, key=("Date", "Asset"), increment="Date"):
    return merge(stored, batch, mode="upsert", key=key, increment=increment)


# --- slices --------------------------------------------------------------------------------------


def test_a_table_that_is_not_there_takes_every_row():
    change = slices(None, rows((1, "a", 1.0), (1, "a", 1.0)))
    assert counts(change) == (2, 0, 0, 0)
    assert change.keep.tolist() == []
    assert change.take.tolist() == [0, 1]
    assert change.changed


def test_a_slice_is_replaced_and_no_other_row_touched_earlier_or_later():
    stored = rows((1, "a", 1.0), (2, "a", 2.0), (2, "b", 3.0), (3, "a", 4.0), stamp=1)
    change = slices(stored, rows((2, "a", 5.0)))
    assert change.keep.tolist() == [0, 3]
    assert change.take.tolist() == [0]
    assert counts(change) == (1, 0, 0, 2)  # without a key nothing says that the one became the other


def test_slices_with_a_key_tell_updates_from_inserts():
    stored = rows((2, "a", 2.0), (2, "b", 3.0), (2, "c", 3.5), (3, "a", 4.0), stamp=1)
    change = slices(stored, rows((2, "d", 1.0), (2, "a", 5.0), (2, "b", 3.0)), key=("Date", "Asset"))
    # a updated, b as it was, c gone, d new; day 3 is not in the batch
    assert counts(change) == (1, 1, 1, 1)
    assert change.keep.tolist() == [1, 3]
    assert change.take.tolist() == [0, 1]


def test_the_same_rows_again_change_nothing_whatever_their_order():
    stored = rows((1, "a", 1.0, True), (1, "b", None, None), (1, None, 2.0, False), stamp=1)
    batch = rows((1, None, 2.0, False), (1, "a", 1.0, True), (1, "b", None, None))
    for key in (None, ("Date", "Asset")):
        change = slices(stored, batch, key)
        assert counts(change) == (0, 0, 3, 0)
        assert not change.changed
        assert change.keep.tolist() == [0, 1, 2]
        assert change.take.tolist() == []


def test_equal_rows_without_a_key_count_as_often_as_they_occur():
    stored = rows((1, "a", 1.0), (1, "a", 1.0), (1, "b", 1.0), stamp=1)
    change = slices(stored, rows((1, "a", 1.0), (1, "a", 1.0), (1, "a", 1.0)))
    assert counts(change) == (1, 0, 2, 1)
    assert change.keep.tolist() == [0, 1]
    fewer = slices(stored, rows((1, "a", 1.0)))
    assert counts(fewer) == (0, 0, 1, 2)
    assert fewer.keep.tolist() == [0]


def test_without_an_increment_the_whole_table_is_the_slice():
    stored = rows((1, "a", 1.0), (2, "b", 2.0), stamp=1)
    change = slices(stored, rows((2, "b", 2.0)), increment=None)
    assert counts(change) == (0, 0, 1, 1)
    assert change.keep.tolist() == [1]


def test_a_missing_increment_is_a_slice_too():
    stored = rows((None, "a", 1.0), (1, "a", 1.0), stamp=1)
    change = slices(stored, rows((None, "b", 1.0)))
    assert change.keep.tolist() == [1]


# --- upsert --------------------------------------------------------------------------------------


def test_an_upsert_replaces_inserts_and_deletes_nothing():
    stored = rows((1, "a", 1.0), (1, "b", 2.0), (2, "a", 3.0), stamp=1)
    # (1, b) changed, (2, a) as it was, (2, b) new: day and asset each occur, the pair does not
    change = upsert(stored, rows((2, "b", 9.0), (1, "b", 8.0), (2, "a", 3.0)))
    assert counts(change) == (1, 1, 1, 0)
    assert change.keep.tolist() == [0, 2]
    assert change.take.tolist() == [0, 1]


def test_an_upsert_needs_no_increment():
    change = upsert(rows((1, "a", 1.0), stamp=1), rows((2, "a", 1.0)), key=("Asset",), increment=None)
    assert counts(change) == (0, 1, 0, 0)


def test_missing_key_parts_are_equal():
    stored = rows((1, None, 1.0), (1, "a", 1.0), stamp=1)
    change = upsert(stored, rows((1, None, 2.0)))
    assert counts(change) == (0, 1, 0, 0)
    assert change.keep.tolist() == [1]


def test_stored_duplicates_of_a_key_collapse():
    stored = rows((1, "a", 1.0), (1, "a", 2.0), (1, "a", 2.0), (2, "a", 7.0), (2, "a", 7.0), stamp=1)
    changed = upsert(stored, rows((1, "a", 3.0)))
    assert counts(changed) == (0, 1, 0, 2)
    assert changed.keep.tolist() == [3, 4]  # day 2 has duplicates as well, which the batch does not touch
    as_one_of_them = upsert(stored, rows((1, "a", 2.0)))
    assert counts(as_one_of_them) == (0, 0, 1, 2)
    assert as_one_of_them.keep.tolist() == [1, 3, 4]
    assert as_one_of_them.changed


def test_minus_zero_is_zero_as_value_and_as_key():
    assert not slices(rows((1, "a", 0.0), stamp=1), rows((1, "a", -0.0))).changed
    assert not upsert(rows((1, "a", 0.0), stamp=1), rows((1, "a", -0.0)), key=("Date", "Price")).changed


def test_a_value_that_appears_or_vanishes_is_a_change():
    for before, after in [(None, 1.0), (1.0, None), (0.0, None), (None, 0.0)]:
        for stored, batch in [(rows((1, "a", before), stamp=1), rows((1, "a", after)))]:
            assert counts(upsert(stored, batch)) == (0, 1, 0, 0)
            assert counts(slices(stored, batch)) == (1, 0, 0, 1)


# --- what does not fit ---------------------------------------------------------------------------


def test_column_order_and_stamps_do_not_matter():
    stored = rows((1, "a", 1.0), stamp=1)
    batch = rows((1, "a", 1.0), stamp=5).select([LAST_UPDATED, "Price", "Flag", "Asset", "Date"])
    assert not slices(stored, batch).changed
    assert not upsert(stored, batch).changed


def test_dictionary_encoded_text_is_text():
    stored = rows((1, "a", 1.0), (1, None, 2.0), stamp=1)
    encoded = stored.set_column(1, "Asset", stored["Asset"].dictionary_encode())
    batch = rows((1, None, 2.0), (1, "a", 1.0))
    for key in (None, ("Date", "Asset")):
        assert not slices(encoded, batch, key).changed
    assert not upsert(encoded, batch).changed


def test_chunks_do_not_matter():
    table = rows((1, "a", 1.0), (2, "b", None), (2, "c", 3.0))
    pieces = pa.concat_tables([table.slice(0, 1), table.slice(1, 0), table.slice(1, 2)])
    assert not slices(pieces, table).changed
    assert not upsert(table, pieces).changed


def test_other_types_or_columns_are_refused():
    stored = rows((1, "a", 1.0), stamp=1)
    with pytest.raises(SchemaError, match="'Price' is string in the batch and double"):
        slices(stored, stored.drop([LAST_UPDATED]).set_column(2, "Price", pa.array(["1.0"])))
    with pytest.raises(SchemaError, match="'Flag'"):
        slices(stored, rows((1, "a", 1.0)).drop(["Flag"]))
    with pytest.raises(SchemaError, match="no column 'Day'"):
        slices(stored, rows((1, "a", 1.0)), increment="Day")
    with pytest.raises(SchemaError, match="repeats a key"):
        upsert(stored, rows((1, "a", 1.0), (1, "a", 2.0)))
    with pytest.raises(UsageError, match="needs a key"):
        upsert(stored, rows((1, "a", 1.0)), key=None)


def test_an_empty_batch_touches_nothing_by_slice_or_key():
    stored = rows((1, "a", 1.0), stamp=1)
    for change in (slices(stored, rows()), upsert(stored, rows()), slices(stored.slice(0, 0), rows())):
        assert not change.changed
    assert counts(slices(stored, rows(), increment=None)) == (0, 0, 0, 1)


# --- properties ----------------------------------------------------------------------------------

_row = st.tuples(
    st.sampled_from([1, 2, 3]),
    st.sampled_from(["a", "b", "ç", None]),
    st.sampled_from([None, 0.0, -0.0, 1.5]),
    st.sampled_from([None, True, False]),
)
_any_rows = st.lists(_row, max_size=8)
_keyed_rows = st.lists(_row, max_size=8, unique_by=lambda row: row[:2])


def as_multiset(cells):
    return content(rows(*cells))


@given(_any_rows, _any_rows)
def test_slices_as_a_multiset_does_it(before, after):
    stored, batch = rows(*before, stamp=1), rows(*after)
    days = {row[0] for row in after}
    expected = as_multiset([row for row in before if row[0] not in days] + after)
    change = slices(stored, batch)
    result = apply(stored, batch, change)
    assert content(result) == expected
    old = as_multiset([row for row in before if row[0] in days])
    new = as_multiset(after)
    assert counts(change) == ((new - old).total(), 0, (new & old).total(), (old - new).total())
    assert change.changed == (old != new)
    # a row that stays keeps its stamp: only what is really new has the new one
    stamps = Counter(stamp.day for stamp in result[LAST_UPDATED].to_pylist())
    assert stamps[9] == (new - old).total()
    assert not slices(result, batch).changed


@given(_keyed_rows, _keyed_rows)
def test_slices_with_a_key_end_as_without(before, after):
    stored, batch = rows(*before, stamp=1), rows(*after)
    keyed, plain = slices(stored, batch, ("Date", "Asset")), slices(stored, batch)
    assert content(apply(stored, batch, keyed)) == content(apply(stored, batch, plain))
    assert keyed.unchanged == plain.unchanged
    assert keyed.inserted + keyed.updated == plain.inserted


@given(_any_rows, _keyed_rows)
def test_upsert_as_a_dict_does_it(before, after):
    stored, batch = rows(*before, stamp=1), rows(*after)
    new = {row[:2]: row for row in after}
    expected = as_multiset([row for row in before if row[:2] not in new] + after)
    change = upsert(stored, batch)
    result = apply(stored, batch, change)
    assert content(result) == expected
    old = Counter(row[:2] for row in before if row[:2] in new)
    assert change.inserted == len(new.keys() - old.keys())
    assert change.updated + change.unchanged == len(old)
    assert change.deleted == old.total() - len(old)
    assert len(change.keep) == len(before) - change.updated - change.deleted
    assert not upsert(result, batch).changed


@given(st.lists(_keyed_rows, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_upserts_of_the_same_truth_end_alike_in_any_order_and_repetition(batches, order: random.Random):
    truth: dict = {}
    for batch in batches:
        for row in batch:
            truth.setdefault(row[:2], row)
    loads = [rows(*(truth[row[:2]] for row in batch)) for batch in batches]
    outcomes = []
    for _ in range(2):
        sequence = [*loads, *order.choices(loads, k=2)]
        order.shuffle(sequence)
        stored = None
        for load in sequence:
            stored = apply(stored, load, upsert(stored, load))
        assert stored is not None
        stored = stored.take(sort_indices(stored, "Date", ("Date", "Asset")))
        outcomes.append(stored.select(["Date", "Asset", "Flag"]).to_pylist())
        assert content(stored) == as_multiset(truth.values())
    assert outcomes[0] == outcomes[1]


@given(st.dictionaries(st.sampled_from([1, 2, 3]), _any_rows, min_size=1), st.randoms(use_true_random=False))
def test_slices_of_the_same_truth_end_alike_in_any_order_and_overlap(by_day, order: random.Random):
    truth = {day: [(day, *row[1:]) for row in cells] for day, cells in by_day.items()}
    loads = [rows(*cells) for cells in truth.values()] + [rows(*(row for cells in truth.values() for row in cells))]
    sequence = [*loads, *order.choices(loads, k=2)]
    order.shuffle(sequence)
    stored = None
    for load in sequence:
        stored = apply(stored, load, slices(stored, load))
    assert stored is not None
    assert content(stored) == as_multiset([row for cells in truth.values() for row in cells])


# --- order ---------------------------------------------------------------------------------------


def test_rows_are_written_by_increment_then_key():
    table = rows((2, "a", 1.0), (1, "b", 1.0), (1, None, 0.0), (None, "a", 1.0), (1, "a", 9.0))
    assert sort_indices(table, "Date", ("Date", "Asset")).tolist() == [4, 1, 2, 0, 3]
    assert sort_indices(table, None, ("Asset", "Date")).tolist() == [4, 0, 3, 1, 2]


def test_without_a_key_every_column_orders():
    table = rows((1, "a", 2.0, True), (1, "a", None, True), (1, "a", 2.0, False), (1, "a", -1.0, None), stamp=1)
    assert sort_indices(table, "Date", None).tolist() == [3, 2, 0, 1]
    assert sort_indices(table.slice(0, 0), "Date", None).tolist() == []


def test_rows_that_are_equal_keep_their_order():
    table = rows((1, "a", 2.0), (1, "a", 1.0), (1, "a", 3.0))
    assert sort_indices(table, "Date", ("Asset",)).tolist() == [0, 1, 2]


@given(_any_rows)
def test_order_is_arrows_own(cells):
    table = rows(*cells)
    keys = [(name, "ascending") for name in ("Date", "Asset", "Flag", "Price")]
    ours = table.take(sort_indices(table, "Date", ("Asset", "Flag", "Price")))
    assert ours.to_pylist() == table.take(pa.compute.sort_indices(table, keys)).to_pylist()


def test_order_survives_many_columns_of_many_values():
    rng = np.random.default_rng(7)  # 8 columns of 3000 distinct values do not fit one 64-bit number
    table = pa.table({f"c{i}": rng.permutation(3000).astype(float) for i in range(8)} | {"c0": np.zeros(3000)})
    keys = [(name, "ascending") for name in table.column_names]
    expected = pa.compute.sort_indices(table, keys).to_pylist()
    assert sort_indices(table, None, None).tolist() == expected


# --- names in another form --------------------------------------------------------------------------

SPELLINGS = ["a", "A", " a ", "a b", "a\u00a0b", "A B", "\u00e7", "c\u0327", "\u00c7", None]
odd_rows = st.lists(st.tuples(st.integers(1, 2), st.sampled_from(SPELLINGS), st.sampled_from([1.0, 2.0])), max_size=9)


def fold(name):
    return None if name is None else normal_name(name)


def normal_batch(cells):
    """The rows in their normal form, one of each key."""
    return list({(day, fold(name)): (day, fold(name), price) for day, name, price in cells}.values())


def spellings(stored, key):
    """How the names of stored rows are spelled, by the key that their normal form makes."""
    out = {}
    for day, name, _ in stored:
        out.setdefault(key(day, fold(name)), set()).add(name)
    return out


@given(stored=odd_rows, batch=odd_rows)
def test_an_upsert_meets_one_spelling_of_a_name_and_leaves_all_others(stored, batch):
    """It is as one into a table whose names have their normal form, but for those beside the batch's own spelling."""
    new = normal_batch(batch)
    names = spellings(stored, lambda *key: key)
    several = [key for key, words in names.items() if len(words) > 1]
    options = {"mode": "upsert", "key": ("Date", "Asset"), "increment": "Date"}
    if any((day, name) in several and name not in names[day, name] for day, name, _ in new):
        with pytest.raises(SchemaError, match=r"column 'Asset'.*several spellings"):
            merge(rows(*stored), rows(*new), folded=("Asset",), **options)
        return
    met = [(day, name if (day, fold(name)) in several else fold(name), price) for day, name, price in stored]
    got = merge(rows(*stored), rows(*new), folded=("Asset",), **options)
    want = merge(rows(*met), rows(*new), **options)
    assert (got.keep.tolist(), got.take.tolist(), counts(got)) == (want.keep.tolist(), want.take.tolist(), counts(want))


@given(stored=odd_rows, batch=odd_rows)
def test_a_slice_of_dates_gives_way_with_names_in_all_spellings(stored, batch):
    new = rows(*normal_batch(batch))
    options = {"mode": "slices", "key": ("Date", "Asset"), "increment": "Date"}
    got = merge(rows(*stored), new, folded=("Asset",), **options)
    want = merge(rows(*((day, fold(name), price) for day, name, price in stored)), new, **options)
    assert (got.keep.tolist(), got.take.tolist(), counts(got)) == (want.keep.tolist(), want.take.tolist(), counts(want))


@pytest.mark.parametrize("key", [None, ("Date", "Asset")])
@given(stored=odd_rows, batch=odd_rows)
def test_a_slice_of_names_gives_way_where_it_has_one_spelling(stored, batch, key):
    new = normal_batch(batch)
    names = spellings(stored, lambda _, name: name)
    slices_met = {name for _, name, _ in new}
    options = {"mode": "slices", "key": key, "increment": "Asset", "folded": ("Asset",)}
    if any(len(names.get(name, ())) > 1 for name in slices_met):
        with pytest.raises(SchemaError, match=r"column 'Asset'.*several spellings"):
            merge(rows(*stored), rows(*new), **options)
        return
    before = rows(*stored, stamp=1)
    change = merge(before, rows(*new), **options)
    after = apply(before, rows(*new), change)
    assert content(after) == content(rows(*new, *(row for row in stored if fold(row[1]) not in slices_met)))
    assert change.inserted + change.updated + change.unchanged == len(new)
    met = sum(fold(row[1]) in slices_met for row in stored)
    assert change.deleted + change.updated + change.unchanged == met
    assert not merge(after, rows(*new), **options).changed
