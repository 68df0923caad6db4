"""Loads: any order, any repetition, any overlap ends in the same table."""

from __future__ import annotations

import itertools
import math
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from luxor_pipelines import LoadResult, add_column, incremental_load, save_table
from luxor_pipelines.catalog import HIST_FILE_PX_LAST
from luxor_pipelines.errors import CorruptFileError, LoadConflictError, SchemaError, UsageError
from luxor_pipelines.lake.parquet.file import to_bytes
from luxor_pipelines.lake.storage.base import ANY
from luxor_pipelines.lake.table.layout import pieces
from luxor_pipelines.lake.table.load import check_typed
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.lake.types.schema import Column, TableSchema
from luxor_pipelines.names import normal_name
from luxor_pipelines.settings import Settings

BY_MONTH = TableSchema(
    "t",
    1,
    (Column("Date", "date", False), Column("Asset", "text", False), Column("Last_Price", "number")),
    ("Date", "Asset"),
    "month",
)
IN_ONE_FILE = TableSchema("t", 1, BY_MONTH.columns, BY_MONTH.key)
BY_YEAR = TableSchema("t", 1, BY_MONTH.columns, BY_MONTH.key, "year")


def prices(*rows: tuple[str, str, float | None]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=["Date", "Asset", "Last_Price"])
    return frame.assign(Date=pd.to_datetime(frame["Date"]), Last_Price=frame["Last_Price"].astype(float))


def month(n: int, price: float = 1.0) -> pd.DataFrame:
    return prices((f"2026-{n:02d}-28", "a", price), (f"2026-{n:02d}-28", "b", price + n))


def content(lq: Any, name: str = "t") -> list[tuple[Any, ...]]:
    frame = lq.get_table(name)
    rows = frame.astype(object).where(frame.notna(), None)
    return sorted(map(tuple, rows.to_numpy()), key=repr)


def stored_files(lq: Any) -> dict[str, str]:
    files = lq.lake.storage.list("enriched")
    return {info.path: info.version for info in files if info.path.endswith(".parquet")}


def write_parquet(lq: Any, table: pa.Table, name: str = "t") -> None:
    sink = BytesIO()
    pq.write_table(table, sink)
    lq.lake.storage.write(f"enriched/parquet/{name}.parquet", sink.getvalue())


def read_parquet(lq: Any, name: str = "t") -> pa.Table:
    return pq.read_table(BytesIO(lq.lake.storage.read(f"enriched/parquet/{name}.parquet").data))


layouts = pytest.mark.parametrize("schema", [IN_ONE_FILE, BY_MONTH, BY_YEAR], ids=["file", "month", "year"])


# --- slices ----------------------------------------------------------------------------------


@layouts
def test_months_in_any_order_and_repetition_end_in_the_same_table(disk: Any, schema: TableSchema) -> None:
    contents = set()
    for n, order in enumerate([*itertools.permutations([1, 2, 3]), (1, 2, 3, 2, 1), (3, 3, 1, 2, 2)]):
        lq = disk.query()
        for each in order:
            incremental_load(lq, f"t{n}", month(each), schema=schema)
        contents.add(str(content(lq, f"t{n}")))
    lq = disk.query()
    incremental_load(lq, "batch", pd.concat([month(2), month(3), month(1)]), schema=schema)
    contents.add(str(content(lq, "batch")))
    assert len(contents) == 1


@layouts
def test_a_rerun_of_an_old_month_leaves_later_ones_untouched(rig: Any, schema: TableSchema) -> None:
    lq = rig.query()
    for n in (1, 2, 3, 4):
        incremental_load(lq, "t", month(n), schema=schema)
    before = stored_files(lq)
    result = incremental_load(lq, "t", month(2, price=9.0), schema=schema)
    assert (result.inserted, result.updated, result.unchanged, result.deleted) == (0, 2, 0, 0)
    assert content(lq) == sorted(
        (tuple(row) for n in (1, 2, 3, 4) for row in month(n, 9.0 if n == 2 else 1.0).astype(object).to_numpy()),
        key=repr,
    )
    if schema.partition == "month":
        changed = {path for path, version in stored_files(lq).items() if before[path] != version}
        assert changed == {"enriched/parquet/t/month=2026-02/data.parquet"}
        assert result.partitions == ("2026-02",)


@layouts
def test_an_unchanged_rerun_writes_nothing(rig: Any, schema: TableSchema) -> None:
    lq = rig.query()
    first = incremental_load(lq, "t", month(1), schema=schema)
    before = stored_files(lq)
    again = incremental_load(rig.query(), "t", month(1).iloc[::-1], schema=schema)
    assert first.changed
    assert not again.changed
    assert (again.inserted, again.unchanged) == (0, 2)
    assert again.version_before == again.version_after == first.version_after
    assert stored_files(lq) == before


def test_rows_missing_from_a_slice_are_deleted_with_it(disk: Any) -> None:
    lq = disk.query()
    incremental_load(lq, "t", month(1), schema=BY_MONTH)
    result = incremental_load(lq, "t", month(1).iloc[:1], schema=BY_MONTH)
    assert (result.unchanged, result.deleted, result.inserted) == (1, 1, 0)
    assert len(content(lq)) == 1


def test_a_table_without_a_declared_key_keeps_repeated_rows(disk: Any) -> None:
    lq = disk.query()
    twice = pd.concat([month(1), month(1)])
    incremental_load(lq, "t", twice)
    assert len(content(lq)) == 4
    assert not incremental_load(lq, "t", twice).changed
    assert incremental_load(lq, "t", month(1)).deleted == 2


def test_another_increment_column_defines_the_slices(disk: Any) -> None:
    lq = disk.query()
    incremental_load(lq, "t", month(1), increment_column="Asset")
    incremental_load(lq, "t", prices(("2026-02-01", "a", 5.0)), increment_column="Asset")
    assert [row[1:] for row in content(lq)] == [("b", 2.0), ("a", 5.0)]


# --- upsert ----------------------------------------------------------------------------------


@layouts
def test_upsert_replaces_equal_keys_and_deletes_nothing(rig: Any, schema: TableSchema) -> None:
    lq = rig.query()
    key = ["Date", "Asset"]
    incremental_load(lq, "t", month(1), unique_columns=key, schema=schema)
    result = incremental_load(
        lq, "t", prices(("2026-01-28", "a", 7.0), ("2026-01-28", "c", 8.0)), unique_columns=key, schema=schema
    )
    assert (result.inserted, result.updated, result.unchanged, result.deleted) == (1, 1, 0, 0)
    assert [row[1:] for row in content(lq)] == [("a", 7.0), ("b", 2.0), ("c", 8.0)]


def test_upsert_without_dates(disk: Any) -> None:
    lq = disk.query()
    assets = pd.DataFrame({"Key": ["a", "b"], "Location": ["us", None]})
    incremental_load(lq, "assets", assets, increment_column=None, unique_columns=["Key"])
    result = incremental_load(
        lq,
        "assets",
        pd.DataFrame({"Key": ["b"], "Location": ["bz"]}),
        increment_column=None,
        unique_columns=["Key"],
    )
    assert (result.updated, result.inserted) == (1, 0)
    assert content(lq, "assets") == [("a", "us"), ("b", "bz")]


def test_in_a_partitioned_table_the_key_includes_the_date(disk: Any) -> None:
    lq = disk.query()
    incremental_load(lq, "t", month(1), schema=BY_MONTH)
    incremental_load(lq, "t", prices(("2026-02-28", "a", 3.0)), unique_columns=["Asset"])
    assert len(content(lq)) == 3


@pytest.mark.parametrize("text", [False, True])
def test_a_load_makes_no_second_series_beside_one_in_another_spelling(rig: Any, text: bool) -> None:
    """Rows of another program may be in upper case, with no-break spaces, or in Unicode's other form."""
    lq, day = rig.query(), pd.Timestamp("2026-10-30")
    odd = ["PETR4 BZ Equity", "vale3\u00a0bz equity", unicodedata.normalize("NFD", "a\u00e7\u00e3o")]
    names = ["petr4 bz equity", "vale3 bz equity", "a\u00e7\u00e3o"]
    dates = pa.array(["2026-10-30"] * 3) if text else pa.array([day] * 3, pa.timestamp("us"))
    prices = ["1.0", "2.0", "3.0"] if text else [1.0, 2.0, 3.0]
    foreign = pa.table({"Date": dates, "Asset": odd, "Last_Price": prices})
    lq.lake.storage.write("enriched/parquet/hist_px_last.parquet", to_bytes(foreign))

    same = pd.DataFrame({"Date": day, "Asset": names, "Last_Price": [1.0, 2.0, 3.0]})
    for options in (
        {"unique_columns": ["Date", "Asset"]},
        {"increment_column": "Asset", "unique_columns": ["Date", "Asset"]},
    ):
        assert incremental_load(lq, "hist_px_last", same, **options).changed is False  # type: ignore[arg-type]
    new = same.assign(Last_Price=[1.5, 2.0, 3.5])
    result = incremental_load(lq, "hist_px_last", new, unique_columns=["Date", "Asset"])
    assert (result.inserted, result.updated, result.unchanged) == (0, 2, 1)
    assert len(lq.get_table("hist_px_last")) == 3
    assert lq.get_prices(names, day)["Last_Price"].tolist() == [3.5, 1.5, 2.0]
    # Whoever stores text as it comes has told that case matters.
    as_it_is = new.assign(Asset=[name.upper() for name in names])
    result = incremental_load(lq, "hist_px_last", as_it_is, unique_columns=["Date", "Asset"], normalize_columns=False)
    assert result.inserted == 3


def test_slices_of_a_text_column_meet_stored_rows_in_any_spelling(rig: Any) -> None:
    lq = rig.query()
    foreign = pa.table({"Location": ["BZ", "BZ", "US"], "Asset": ["a", "b", "c"]})
    lq.lake.storage.write("enriched/parquet/places.parquet", to_bytes(foreign))
    frame = pd.DataFrame({"Location": ["bz", "bz"], "Asset": ["a", "z"]})
    result = incremental_load(lq, "places", frame, increment_column="Location")
    assert (result.inserted, result.updated, result.deleted) == (1, 1, 1)
    rows = lq.get_table("places")[["Location", "Asset"]]
    assert sorted(map(tuple, rows.to_numpy())) == [("US", "c"), ("bz", "a"), ("bz", "z")], "a slice has one spelling"
    assert incremental_load(lq, "places", frame, increment_column="Location").changed is False


def test_a_slice_stored_in_several_spellings_is_not_replaced(rig: Any) -> None:
    lq = rig.query()
    funds = pd.DataFrame({"Fund": ["Alpha", "ALPHA", "alpha ", "beta"], "V": [1.0, 2.0, 3.0, 4.0]})
    save_table(lq, "funds", funds, normalize_columns=False)
    before = stored_files(lq)
    told = (
        r"Table funds, column 'Fund': 1 slice of the batch is stored in several spellings.*'ALPHA', 'Alpha', 'alpha '"
    )
    with pytest.raises(SchemaError, match=told):
        incremental_load(lq, "funds", pd.DataFrame({"Fund": ["alpha"], "V": [1.0]}), increment_column="Fund")
    assert stored_files(lq) == before
    other = pd.DataFrame({"Fund": ["Beta"], "V": [5.0]})
    result = incremental_load(lq, "funds", other, increment_column="Fund")
    assert (result.inserted, result.deleted) == (1, 1)
    assert len(lq.get_table("funds")) == 4


@pytest.mark.parametrize(
    ("own", "other"), [("ab", "AB"), ("caf\u00e9", "cafe\u0301"), ("a b", "a\u00a0b"), ("ab", " ab")]
)
def test_an_upsert_leaves_rows_in_another_spelling_beside_its_own(rig: Any, own: str, other: str) -> None:
    """A table stored as it came tells rows apart by case and form."""
    lq = rig.query()
    save_table(lq, "codes", pd.DataFrame({"Code": [own, other], "V": [1.0, 2.0]}), normalize_columns=False)
    add_column("codes", "Note", "text", lq=lq)
    noted = pd.DataFrame({"Code": [other], "V": [2.0], "Note": ["precious"]})
    options: dict[str, Any] = {"increment_column": None, "unique_columns": ["Code"]}
    incremental_load(lq, "codes", noted, normalize_columns=False, **options)

    result = incremental_load(lq, "codes", pd.DataFrame({"Code": [own], "V": [1.0]}), **options)
    assert (result.unchanged, result.changed) == (1, False)
    result = incremental_load(lq, "codes", pd.DataFrame({"Code": [own], "V": [3.0]}), **options)
    assert (result.inserted, result.updated, result.unchanged, result.deleted) == (0, 1, 0, 0)
    assert sorted(content_of(lq, "codes", ["Code", "V", "Note"])) == sorted(
        [(own, 3.0, None), (other, 2.0, "precious")]
    )


def test_an_upsert_of_a_name_stored_in_several_other_spellings_is_refused(rig: Any) -> None:
    lq = rig.query()
    stored = pd.DataFrame({"Code": ["AB", "Ab", "C", " C", "d"], "V": [1.0, 2.0, 3.0, 4.0, 5.0]})
    save_table(lq, "codes", stored, normalize_columns=False)
    before = stored_files(lq)
    options: dict[str, Any] = {"increment_column": None, "unique_columns": ["Code"]}
    told = r"Table codes, column 'Code': 2 keys of the batch are stored in several.*\['AB', 'Ab'\], \[' C', 'C'\]"
    batch = pd.DataFrame({"Code": ["ab", "c", "d"], "V": [9.0, 9.0, 9.0]})
    with pytest.raises(SchemaError, match=told) as refusal:
        incremental_load(lq, "codes", batch, **options)
    assert "save_table" in refusal.value.hint
    assert "normalize_columns=False" in refusal.value.hint
    assert stored_files(lq) == before
    # The hint is true of both ways.
    named = pd.DataFrame({"Code": ["Ab"], "V": [9.0]})
    assert incremental_load(lq, "codes", named, normalize_columns=False, **options).updated == 1
    mended = lq.get_table("codes")[["Code", "V"]].assign(Code=["c", "ab", "ab2", "c2", "d"])
    save_table(lq, "codes", mended, mode="replace")
    assert incremental_load(lq, "codes", batch, **options).inserted == 0


@pytest.mark.parametrize(
    ("schema", "place"), [(IN_ONE_FILE, "t"), (BY_MONTH, "t, partition 2026-02")], ids=["file", "month"]
)
def test_cells_of_an_added_column_are_not_taken_from_one_of_several_names(
    disk: Any, schema: TableSchema, place: str
) -> None:
    """A slice of dates gives way whole, but nobody can tell whose note the one row is to keep."""
    lq = disk.query()
    stored = prices(("2026-02-28", "AB", 1.0), ("2026-02-28", "Ab", 2.0))
    incremental_load(lq, "t", stored, schema=schema, normalize_columns=False)
    add_column("t", "Note", "text", lq=lq)
    incremental_load(lq, "t", stored.assign(Note=["one", "two"]), normalize_columns=False)
    before = content(lq)
    with pytest.raises(SchemaError, match=rf"Table {place}, column 'Asset': 1 key .*\['AB', 'Ab'\]"):
        incremental_load(lq, "t", prices(("2026-02-28", "ab", 3.0)))
    assert content(lq) == before
    result = incremental_load(lq, "t", prices(("2026-02-28", "ab", 3.0)).assign(Note="three"))
    assert (result.inserted, result.updated, result.deleted) == (0, 1, 1)


SPELLINGS = ["ab", "AB", "Ab ", "a b", "a\u00a0b", "\u00e9", "e\u0301", "\u00c9"]
DAYS = ["2026-01-28", "2026-02-28"]
spelled_rows = st.dictionaries(
    st.tuples(st.sampled_from(DAYS), st.sampled_from(SPELLINGS)), st.sampled_from([1.0, 2.0]), min_size=1, max_size=7
)


@pytest.mark.hypothesis
@pytest.mark.parametrize("schema", [IN_ONE_FILE, BY_MONTH], ids=["file", "month"])
def test_no_row_goes_whose_name_is_not_loaded(disk: Any, schema: TableSchema) -> None:
    """An upsert leaves every row but the one it meets: in its own spelling, else in the only one that is stored."""
    lq, numbers = disk.query(), itertools.count()
    key: dict[str, Any] = {"unique_columns": ["Date", "Asset"]}

    @given(stored=spelled_rows, batch=spelled_rows)
    @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def check(stored: dict[tuple[str, str], float], batch: dict[tuple[str, str], float]) -> None:
        name = f"t{next(numbers)}"
        as_it_is = prices(*((day, asset, price) for (day, asset), price in stored.items()))
        declared = replace(schema, name=name)
        incremental_load(lq, name, as_it_is, schema=declared, normalize_columns=False, **key)
        add_column(name, "Note", "text", lq=lq)
        notes = {cell: f"note {number}" for number, cell in enumerate(stored)}
        incremental_load(lq, name, as_it_is.assign(Note=list(notes.values())), normalize_columns=False, **key)
        before = {(day, asset): (price, notes[day, asset]) for (day, asset), price in stored.items()}
        new = {(day, normal_name(asset)): price for (day, asset), price in batch.items()}

        want, refused = dict(before), False
        for (day, asset), price in new.items():
            words = [word for at, word in before if at == day and normal_name(word) == asset]
            refused |= len(words) > 1 and asset not in words
            met = asset if asset in words or not words else words[0]
            price_before, note = want.pop((day, met), (None, None))
            want[day, met if price_before == price else asset] = (price, note)

        frame = prices(*((day, asset, price) for (day, asset), price in new.items()))
        if refused:
            with pytest.raises(SchemaError, match="several spellings"):
                incremental_load(lq, name, frame, **key)
            rows = spelled(lq, name)
            loaded = {(day, asset) for day, asset in before if (day, normal_name(asset)) in new}
            assert {cell: rows.get(cell) for cell in before.keys() - loaded} == {
                cell: before[cell] for cell in before.keys() - loaded
            }
            assert schema.partition or rows == before
            return
        result = incremental_load(lq, name, frame, **key)
        assert spelled(lq, name) == want
        assert result.deleted == 0
        assert result.inserted == len(want) - len(before)
        assert result.inserted + result.updated + result.unchanged == len(new)
        assert incremental_load(lq, name, frame, **key).changed is False

    check()


def spelled(lq: Any, name: str) -> dict[tuple[str, str], tuple[float, str | None]]:
    """The price and the note of each day and name."""
    rows = content_of(lq, name, ["Date", "Asset", "Last_Price", "Note"])
    return {(str(day.date()), asset): (price, note) for day, asset, price, note in rows}


def content_of(lq: Any, name: str, columns: list[str]) -> list[tuple[Any, ...]]:
    frame = lq.get_table(name)[columns]
    return list(map(tuple, frame.astype(object).where(frame.notna(), None).to_numpy()))


def test_a_column_whose_case_is_kept_tells_rows_apart_by_case(rig: Any) -> None:
    lq = rig.query()
    lq.lake.storage.write("enriched/parquet/books.parquet", to_bytes(pa.table({"Name": ["Core"], "Size": [1.0]})))
    frame = pd.DataFrame({"Name": ["core"], "Size": [2.0]})
    assert incremental_load(lq, "books", frame, increment_column=None, unique_columns=["Name"]).inserted == 1


def test_text_is_normalised_before_keys_are_compared(disk: Any) -> None:
    lq = disk.query()
    incremental_load(lq, "t", prices(("2026-01-28", "spy us equity", 1.0)), unique_columns=["Date", "Asset"])
    result = incremental_load(lq, "t", prices(("2026-01-28", " SPY US Equity ", 1.0)), unique_columns=["Date", "Asset"])
    assert not result.changed


# --- what every load promises ----------------------------------------------------------------


def test_an_empty_frame_is_a_no_op(rig: Any) -> None:
    lq = rig.query()
    assert not incremental_load(lq, "t", month(1).iloc[:0]).changed
    assert not lq.table_exists("t")
    incremental_load(lq, "t", month(1))
    assert not incremental_load(lq, "t", month(1).iloc[:0]).changed
    assert len(content(lq)) == 2


def test_the_callers_frame_is_never_modified(disk: Any) -> None:
    lq = disk.query()
    frame = prices(("2026-01-28", " SPY ", 1.0)).assign(Last_Updated=pd.Timestamp("2020-01-01"))
    before = frame.copy(deep=True)
    incremental_load(lq, "t", frame)
    pd.testing.assert_frame_equal(frame, before)
    assert lq.get_table("t")["Asset"].tolist() == ["spy"]


def test_last_updated_is_stamped_on_changed_rows_only(disk: Any, clock: Any) -> None:
    lq = disk.query(clock=clock)
    incremental_load(lq, "t", month(1))
    clock.now = datetime(2026, 12, 1, tzinfo=UTC)
    frame = month(1)
    frame.loc[0, "Last_Price"] = 99.0
    incremental_load(lq, "t", frame)
    stamps = lq.get_table("t", drop_last_updated_columns=False).set_index("Asset")["Last_Updated"]
    assert stamps["a"] == pd.Timestamp("2026-12-01"), "in UTC, without a zone"
    assert stamps["b"] == pd.Timestamp("2026-11-23 18:30")


def test_a_frame_with_last_updated_goes_to_a_workbook_and_back(disk: Any, tmp_path: Any) -> None:
    lq = disk.query()
    incremental_load(lq, "t", month(1))
    frame = lq.get_table("t", drop_last_updated_columns=False)
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    cells = pd.read_excel(tmp_path / "t.xlsx", engine="openpyxl")["Last_Updated"]
    assert cells.dt.round("s").tolist() == [pd.Timestamp("2026-11-23 18:30")] * len(frame)
    assert not incremental_load(lq, "t", frame).changed, "what is stored stays as it was"
    table = lq.lake.table("t")
    assert str(table.scan(["Last_Updated"]).data.schema.field("Last_Updated").type) == "timestamp[us, tz=UTC]"


def test_a_load_through_the_same_object_is_seen_at_once(rig: Any) -> None:
    lq = rig.query()
    for n in (1, 2, 3, 4):
        incremental_load(lq, "t", month(n))
        assert lq.get_table("t")["Date"].nunique() == n


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (prices(("2026-01-28", "a", 1.0), ("2026-01-28", " A ", 2.0)), {"unique_columns": ["Date", "Asset"]}, "key"),
        (prices(("2026-01-28", None, 1.0)), {"unique_columns": ["Date", "Asset"]}, "'Asset'.*null"),
        (month(1).assign(Date=pd.NaT), {}, "'Date'.*null"),
        (month(1).assign(Extra=1), {}, "Extra"),
        (month(1).drop(columns="Last_Price"), {}, "Last_Price"),
        (month(1).assign(Last_Price="abc"), {}, "Last_Price.*abc"),
        (month(1).assign(Last_Price=[1.0, float("inf")]), {}, "Last_Price.*inf"),
        (month(1).assign(Date=month(1)["Date"].dt.tz_localize("UTC")), {}, "Date"),
        (month(1), {"unique_columns": ["Nope"]}, "Nope"),
        (month(1), {"increment_column": "Nope"}, "Nope"),
        (month(1).rename(columns={"Asset": "Date"}), {}, "Date"),
    ],
)
@layouts
def test_a_batch_that_does_not_fit_is_refused_before_anything_is_written(
    disk: Any, schema: TableSchema, frame: pd.DataFrame, options: dict[str, Any], message: str
) -> None:
    lq = disk.query()
    incremental_load(lq, "t", pd.concat([month(1), month(5)]), schema=schema)
    before = stored_files(lq)
    with pytest.raises(SchemaError, match=f"(?s){message}") as caught:
        incremental_load(lq, "t", frame, **options)
    assert "t" in str(caught.value)
    assert caught.value.hint
    assert stored_files(lq) == before


def test_a_load_must_say_which_rows_it_replaces(disk: Any) -> None:
    with pytest.raises(UsageError, match="which rows"):
        incremental_load(disk.query(), "t", month(1), increment_column=None)


def test_an_incompatible_stored_table_is_refused_not_overwritten(disk: Any) -> None:
    lq = disk.query()
    write_parquet(lq, pa.table({"Date": ["2026-01-28"], "fund": ["x"], "mtd": ["0.1"]}))
    before = stored_files(lq)
    with pytest.raises(SchemaError, match="other columns") as caught:
        incremental_load(lq, "t", month(1), schema=BY_MONTH)
    assert "luxor archive t" in caught.value.hint
    assert stored_files(lq) == before


def test_a_stored_column_of_lists_is_no_text(disk: Any) -> None:
    lq = disk.query()
    incremental_load(lq, "t", month(1), schema=IN_ONE_FILE)
    rows = read_parquet(lq)
    lists = pa.array([[name] for name in rows["Asset"].to_pylist()], pa.list_(pa.string()))
    write_parquet(lq, rows.set_column(rows.column_names.index("Asset"), "Asset", lists))
    with pytest.raises(SchemaError, match="'Asset' is list<"):
        incremental_load(disk.query(), "t", month(1), schema=IN_ONE_FILE)


def test_a_failure_to_look_is_never_a_new_table(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lq = disk.query()
    incremental_load(lq, "t", month(1))
    before = stored_files(lq)
    monkeypatch.setattr(type(lq.lake.storage), "_stat", lambda *_: (_ for _ in ()).throw(TimeoutError("no answer")))
    with pytest.raises(TimeoutError):
        incremental_load(lq, "t", month(2))
    monkeypatch.undo()
    assert stored_files(lq) == before


def test_a_conflict_is_resolved_by_reading_again(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lq, other = rig.query(), rig.query()
    incremental_load(lq, "t", month(1))
    write = type(lq.lake.storage).write
    interfered = []

    def write_after_another(self: Any, path: str, data: bytes, *, expected: Any = ANY) -> str:
        if self is lq.lake.storage and not interfered:
            interfered.append(incremental_load(other, "t", month(2)))
        return str(write(self, path, data, expected=expected))

    monkeypatch.setattr(type(lq.lake.storage), "write", write_after_another)
    result = incremental_load(lq, "t", month(3))
    assert result.inserted == 2
    assert result.version_before == interfered[0].version_after
    assert lq.get_table("t")["Date"].dt.month.tolist() == [1, 1, 2, 2, 3, 3]


def test_conflicts_without_end_are_a_load_conflict_error(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lq, other = disk.query(settings=Settings(load_attempts=3)), disk.query()
    incremental_load(lq, "t", month(1))
    write = type(lq.lake.storage).write
    count = itertools.count(2)

    def write_after_another(self: Any, path: str, data: bytes, *, expected: Any = ANY) -> str:
        if self is lq.lake.storage:
            incremental_load(other, "t", month(next(count)))
        return str(write(self, path, data, expected=expected))

    monkeypatch.setattr(type(lq.lake.storage), "write", write_after_another)
    with pytest.raises(LoadConflictError, match="3 times"):
        incremental_load(lq, "t", month(12))
    assert other.get_table("t")["Date"].dt.month.max() == 4


def interfere(monkeypatch: pytest.MonkeyPatch, lq: Any, deed: Callable[[], None], method: str = "write") -> list[bool]:
    """Do the deed once, just before ``lq`` first writes (or deletes); returns whether it was done."""
    original = getattr(type(lq.lake.storage), method)
    done: list[bool] = []

    def after_the_deed(self: Any, *args: Any, **options: Any) -> Any:
        if self is lq.lake.storage and not done:
            done.append(True)
            deed()
        return original(self, *args, **options)

    monkeypatch.setattr(type(lq.lake.storage), method, after_the_deed)
    return done


@pytest.mark.parametrize("apart", [False, True], ids=["one partition", "a partition each"])
def test_of_first_loads_at_once_none_is_lost(rig: Any, apart: bool) -> None:
    gate = threading.Barrier(8)
    queries = [rig.query() for _ in range(8)]

    def load(n: int) -> LoadResult:
        frame = prices((f"2026-{n + 1 if apart else 1:02d}-{n + 1:02d}", "a", float(n)))
        gate.wait()
        return incremental_load(queries[n], "t", frame, schema=BY_MONTH)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(load, range(8)))
    assert [result.inserted for result in results] == [1] * 8
    assert sorted(row[2] for row in content(rig.query())) == [float(n) for n in range(8)]


def test_a_conflict_in_one_partition_repeats_only_that_one(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lq, other = rig.query(), rig.query()
    incremental_load(lq, "t", pd.concat([month(1), month(2), month(3)]), schema=BY_MONTH)
    rival = prices(("2026-02-01", "z", 1.0))
    write = type(lq.lake.storage).write
    written = []

    def note(self: Any, path: str, data: bytes, *, expected: Any = ANY) -> str:
        if self is lq.lake.storage and "2026-02" in path and path not in written:
            incremental_load(other, "t", rival, schema=BY_MONTH)
        if self is lq.lake.storage:
            written.append(path)
        return str(write(self, path, data, expected=expected))

    monkeypatch.setattr(type(lq.lake.storage), "write", note)
    result = incremental_load(lq, "t", pd.concat([month(n, 5.0) for n in (1, 2, 3)]), schema=BY_MONTH)
    assert (result.updated, result.partitions) == (6, ("2026-01", "2026-02", "2026-03"))
    assert [path.split("month=")[1][:7] for path in written] == ["2026-01", "2026-02", "2026-02", "2026-03"]
    assert len(content(lq)) == 7


def test_a_table_converted_during_a_load_keeps_both_writers_rows(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lq, other = rig.query(), rig.query()
    incremental_load(lq, "t", pd.concat([month(1), month(2)]))

    def convert() -> None:
        table = Table(other.lake.storage, "t")
        (part,) = table.snapshot().parts
        rows = table.read_part(part).physical
        for label, piece in pieces("month", rows, "Date", "t"):
            table.write_part("month", label, to_bytes(piece), expected=None)
        other.lake.storage.delete(part.info.path, expected=part.info.version)

    interfere(monkeypatch, lq, convert)
    assert incremental_load(lq, "t", month(3)).partitions == ("2026-03",)
    assert len(content(rig.query())) == 6


def test_an_odd_partition_is_found_before_the_first_is_written(rig: Any) -> None:
    lq = rig.query()
    incremental_load(lq, "t", pd.concat([month(1), month(2), month(3)]), schema=BY_MONTH)
    path = "enriched/parquet/t/month=2026-02/data.parquet"
    odd = pq.read_table(BytesIO(lq.lake.storage.read(path).data))
    for table in (odd.append_column("Extra", [["x", "y"]]), odd.set_column(2, "Last_Price", [["high", "low"]])):
        sink = BytesIO()
        pq.write_table(table, sink)
        lq.lake.storage.write(path, sink.getvalue())
        before = stored_files(lq)
        with pytest.raises(SchemaError, match=r"partition 2026-02 differs from the batch in '(Extra|Last_Price)'"):
            incremental_load(lq, "t", pd.concat([month(n, 9.0) for n in (1, 2, 3)]))
        assert stored_files(lq) == before
    lq.lake.storage.write(path, b"damaged")
    with pytest.raises(CorruptFileError, match="2026-02"):
        incremental_load(lq, "t", pd.concat([month(1, 9.0), month(2, 9.0)]))
    assert incremental_load(lq, "t", month(1, 9.0)).updated == 2  # what is sound can still be loaded


def test_a_date_that_no_partition_can_hold_is_refused(disk: Any) -> None:
    lq = disk.query()
    late = pd.DataFrame({"Date": np.array(["10000-01-01"], "M8[us]"), "Asset": ["a"], "Last_Price": [1.0]})
    with pytest.raises(SchemaError, match="'Date'"):
        incremental_load(lq, "t", late, schema=BY_MONTH)
    assert stored_files(lq) == {}
    last = late.assign(Date=np.array(["9999-12-31"], "M8[us]"))
    incremental_load(lq, "t", last, schema=BY_MONTH)
    assert len(lq.get_table("t", where={"Date": ("2026-01-01", None)})) == 1


def test_a_key_may_be_given_as_one_name(disk: Any) -> None:
    lq = disk.query()
    incremental_load(lq, "t", month(1), unique_columns="Asset", increment_column=None)
    assert incremental_load(lq, "t", month(2), unique_columns="Asset", increment_column=None).updated == 2


def test_rows_come_as_a_frame(disk: Any) -> None:
    with pytest.raises(UsageError, match="not as list"):
        incremental_load(disk.query(), "t", [{"Date": "2026-01-01"}])  # type: ignore[arg-type]


# --- encodings -------------------------------------------------------------------------------


def legacy_table() -> pa.Table:
    return pa.table(
        {
            "Date": ["2026-01-28", "2026-01-28", "2026-02-28"],
            "Asset": ["a", "b", "a"],
            "Last_Price": ["1.0", "nan", "0.1"],
            "Note": ["None", "x", "None"],
            "Last_Updated": ["2026-01-29 10:00:00"] * 3,
        }
    )


def test_a_load_into_a_text_table_leaves_it_readable_by_its_old_readers(rig: Any) -> None:
    lq = rig.query()
    write_parquet(lq, legacy_table())
    batch = prices(("2026-02-28", "a", 0.30000000000000004), ("2026-02-28", "c", None), ("2026-03-31", "a", 5.0))
    result = incremental_load(lq, "t", batch.assign(Note=[None, "y", None]), unique_columns=["Date", "Asset"])
    assert (result.inserted, result.updated) == (2, 1)
    stored = read_parquet(lq)
    assert all(pa.types.is_string(kind) for kind in stored.schema.types)
    assert stored.column_names == legacy_table().column_names
    assert stored.drop(["Last_Updated"]).to_pylist() == [
        {"Date": "2026-01-28", "Asset": "a", "Last_Price": "1.0", "Note": "None"},
        {"Date": "2026-01-28", "Asset": "b", "Last_Price": "nan", "Note": "x"},
        {"Date": "2026-02-28", "Asset": "a", "Last_Price": "0.30000000000000004", "Note": "None"},
        {"Date": "2026-02-28", "Asset": "c", "Last_Price": "nan", "Note": "y"},
        {"Date": "2026-03-31", "Asset": "a", "Last_Price": "5.0", "Note": "None"},
    ]
    assert stored["Last_Updated"].to_pylist()[:2] == ["2026-01-29 10:00:00"] * 2
    assert not incremental_load(
        rig.query(), "t", batch.assign(Note=[None, "y", None]), unique_columns=["Date", "Asset"]
    ).changed


def test_a_legacy_text_lake_reads_as_its_typed_twin(disk: Any) -> None:
    lq = disk.query()
    write_parquet(lq, legacy_table(), "text")
    typed = prices(("2026-01-28", "a", 1.0), ("2026-01-28", "b", None), ("2026-02-28", "a", 0.1))
    save_table("typed", typed.assign(Note=[None, "x", None]), lq=lq)
    pd.testing.assert_frame_equal(lq.get_table("text"), lq.get_table("typed"))
    where = {"Date": ("2026-02-01", None), "Asset": ["a", "c"]}
    pd.testing.assert_frame_equal(lq.get_table("text", where=where), lq.get_table("typed", where=where))
    assert len(lq.get_table("text", where=where)) == 1
    raw = lq.get_table("text", auto_convert_mapped_types=False)
    assert raw["Last_Price"].tolist() == ["1.0", "nan", "0.1"]


def test_a_table_written_by_another_program_keeps_its_types(disk: Any) -> None:
    lq = disk.query()
    other = pa.table(
        {
            "Date": pa.array([date(2026, 1, 28)], pa.date32()),
            "Asset": pa.array(["a"]).dictionary_encode(),
            "Last_Price": pa.array([1], pa.int64()),
        }
    )
    write_parquet(lq, other)
    incremental_load(lq, "t", month(2, price=3.0))
    stored = read_parquet(lq)
    assert stored.schema.field("Date").type == pa.date32()
    assert stored.schema.field("Last_Price").type == pa.int64()
    assert stored["Last_Price"].to_pylist() == [1, 3, 5]


@pytest.mark.parametrize(
    ("stored", "first", "second", "wrong"),
    [
        (pa.array([1], pa.int32()), 3.0, 4.0, 1.5),
        (pa.array([0.5], pa.float32()), 0.1, 1 / 3, 1e300),
        (pa.array([Decimal("1.10")], pa.decimal128(9, 2)), 0.1, 2.25, 1.005),
        (pa.array([True]), True, False, None),
        (pa.array([date(2026, 1, 1)], pa.date32()), datetime(2026, 1, 2), None, datetime(2026, 1, 2, 10, 30)),
        (
            pa.array([datetime(2026, 1, 1)], pa.timestamp("ms")),
            datetime(2026, 1, 2),
            None,
            datetime(2026, 1, 2, 0, 0, 0, 5),
        ),
        (
            pa.array([datetime(2026, 1, 1)], pa.timestamp("ns")),
            datetime(2026, 1, 2, 10, 30),
            None,
            datetime(2500, 1, 1),
        ),
        (pa.array(["a"]).dictionary_encode(), "b", None, None),
        (pa.array(["a"], pa.large_string()), "b", None, None),
        (pa.array([math.nan], pa.float64()), None, 1.0, None),
    ],
    ids=str,
)
def test_rows_are_compared_as_they_are_stored(rig: Any, stored: pa.Array, first: Any, second: Any, wrong: Any) -> None:
    lq = rig.query()
    keys = pa.table({"Date": pa.array([datetime(2026, 1, 1)], pa.timestamp("us"))})
    write_parquet(lq, keys.append_column("Cell", stored))
    days = pd.to_datetime(["2026-01-28", "2026-01-29"])
    batch = pd.DataFrame({"Date": days, "Cell": pd.Series([first, second])})
    assert incremental_load(lq, "t", batch).inserted == 2
    assert read_parquet(lq).schema.field("Cell").type == stored.type
    assert repr(read_parquet(lq)["Cell"][0].as_py()) == repr(stored[0].as_py())
    assert not incremental_load(lq, "t", batch).changed
    if wrong is not None:
        before = stored_files(lq)
        with pytest.raises(SchemaError, match=r"(?s)'Cell'.* fit"):
            incremental_load(lq, "t", batch.assign(Cell=pd.Series([wrong, wrong])))
        assert stored_files(lq) == before


def test_a_null_word_in_a_batch_is_a_null_to_a_text_table(rig: Any) -> None:
    lq = rig.query()
    write_parquet(lq, legacy_table())
    batch = prices(("2026-02-28", "a", 0.1)).assign(Note=["nan"])
    assert not incremental_load(lq, "t", batch).changed  # it is stored as None, which reads the same
    with pytest.raises(SchemaError, match=r"'Asset'.*null"):
        incremental_load(lq, "t", batch.assign(Asset="None"), unique_columns=["Date", "Asset"], normalize_columns=False)


def test_a_text_file_does_not_claim_an_order_that_its_text_has_not(disk: Any) -> None:
    lq = disk.query()
    write_parquet(lq, pa.table({"Year": ["9.0"], "Note": ["x"]}))
    frame = pd.DataFrame({"Year": [10.0], "Note": ["y"]})
    incremental_load(lq, "t", frame, increment_column=None, unique_columns=["Year"])
    assert read_parquet(lq)["Year"].to_pylist() == ["9.0", "10.0"]
    data = lq.lake.storage.read("enriched/parquet/t.parquet").data
    assert not pq.ParquetFile(BytesIO(data)).metadata.row_group(0).sorting_columns


@pytest.mark.parametrize("layout", ["file", "month"])
def test_a_table_without_stamps_keeps_its_columns(rig: Any, layout: str) -> None:
    lq = rig.query()
    for n in (1, 2):
        sink = BytesIO()
        pq.write_table(pa.Table.from_pandas(month(n)).replace_schema_metadata(None), sink)
        path = "t" if layout == "file" else f"t/month=2026-{n:02d}/data"
        lq.lake.storage.write(f"enriched/parquet/{path}.parquet", sink.getvalue())
    incremental_load(lq, "t", pd.concat([month(2, 7.0), month(3)]))
    frame = lq.get_table("t", drop_last_updated_columns=False)
    assert frame.columns.tolist() == ["Date", "Asset", "Last_Price"]
    assert frame["Date"].dt.month.unique().tolist() == ([2, 3] if layout == "file" else [1, 2, 3])


def test_an_index_that_pandas_stored_unasked_gives_way(rig: Any) -> None:
    lq = rig.query()
    sink = BytesIO()
    month(1).set_index(pd.Index([7, 3])).to_parquet(sink)
    lq.lake.storage.write("enriched/parquet/t.parquet", sink.getvalue())
    assert incremental_load(lq, "t", month(2)).inserted == 2
    assert pd.read_parquet(BytesIO(lq.lake.storage.read("enriched/parquet/t.parquet").data)).columns.tolist() == [
        "Date",
        "Asset",
        "Last_Price",
    ]
    assert len(content(lq)) == 4


def test_stored_rows_that_repeat_a_key_stay_until_their_slice_is_loaded(disk: Any) -> None:
    lq = disk.query()
    rows = pd.concat([month(1), month(1, 3.0), month(2)])
    write_parquet(lq, pa.Table.from_pandas(rows, preserve_index=False))
    key = ["Date", "Asset"]
    incremental_load(lq, "t", month(3), unique_columns=key)
    assert len(content(lq)) == 8
    result = incremental_load(lq, "t", month(1), unique_columns=key)
    assert (result.unchanged, result.deleted, len(content(lq))) == (2, 2, 6)


def test_a_table_without_rows_takes_rows(rig: Any) -> None:
    lq = rig.query()
    sink = BytesIO()
    pq.ParquetWriter(sink, pa.Table.from_pandas(month(1), preserve_index=False).schema).close()  # no row group at all
    lq.lake.storage.write("enriched/parquet/t.parquet", sink.getvalue())
    assert incremental_load(lq, "t", month(1)).inserted == 2
    assert len(content(lq)) == 2


def test_files_are_typed_sorted_and_open_to_other_readers(disk: Any) -> None:
    lq = disk.query()
    incremental_load(lq, "t", pd.concat([month(2), month(1)]).iloc[::-1], schema=BY_MONTH)
    folder = lq.lake.storage.root / "enriched" / "parquet" / "t"
    frame = pd.read_parquet(folder)
    assert frame["month"].astype(str).tolist() == ["2026-01", "2026-01", "2026-02", "2026-02"]
    file = pq.ParquetFile(folder / "month=2026-01" / "data.parquet")
    assert file.schema_arrow.names == ["Date", "Asset", "Last_Price", "Last_Updated"]
    assert [str(kind) for kind in file.schema_arrow.types] == [
        "timestamp[us]",
        "string",
        "double",
        "timestamp[us, tz=UTC]",
    ]
    assert file.schema_arrow.metadata[b"luxor.schema_version"] == b"1"
    assert file.metadata.row_group(0).column(0).compression == "SNAPPY"
    assert file.read()["Asset"].to_pylist() == ["a", "b"]


# --- save_table ------------------------------------------------------------------------------


def test_save_table_does_not_replace_unless_told(rig: Any) -> None:
    lq = rig.query()
    assert save_table("t", month(1), lq=lq).inserted == 2
    with pytest.raises(UsageError, match="exists already"):
        save_table("t", month(2), lq=lq)
    assert not save_table("t", month(2), lq=lq, mode="skip").changed
    assert lq.get_table("t")["Date"].dt.month.unique().tolist() == [1]
    result = save_table("t", month(2), lq=lq, override=True)
    assert (result.inserted, result.deleted) == (2, 2)
    assert lq.get_table("t")["Date"].dt.month.unique().tolist() == [2]
    assert not save_table("t", month(2), lq=lq, mode="replace").changed
    assert save_table("t", pd.DataFrame({"Other": ["x"]}), lq=lq, mode="replace").changed
    assert content(lq) == [("x",)]


def test_replacing_a_partitioned_table_removes_the_months_that_are_gone(rig: Any) -> None:
    lq = rig.query()
    save_table("t", pd.concat([month(1), month(2)]), lq=lq, schema=BY_MONTH)
    result = save_table("t", month(2, price=4.0), lq=lq, schema=BY_MONTH, mode="replace")
    assert (result.updated, result.deleted) == (2, 2)
    assert list(stored_files(lq)) == ["enriched/parquet/t/month=2026-02/data.parquet"]


@pytest.mark.parametrize("mode", ["error", "skip"])
def test_a_table_that_appears_during_a_first_save_stays(rig: Any, monkeypatch: pytest.MonkeyPatch, mode: Any) -> None:
    lq, other = rig.query(), rig.query()
    interfere(monkeypatch, lq, lambda: save_table("t", month(1), lq=other) and None)
    if mode == "error":
        with pytest.raises(UsageError, match="exists already"):
            save_table("t", month(2), lq=lq, mode=mode)
    else:
        assert not save_table("t", month(2), lq=lq, mode=mode).changed
    assert lq.get_table("t")["Date"].dt.month.unique().tolist() == [1]


@pytest.mark.parametrize("gone", [False, True], ids=["changed", "gone"])
def test_a_replaced_table_is_only_what_it_was_replaced_by(
    rig: Any, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    lq, other = rig.query(), rig.query()
    save_table("t", pd.concat([month(1), month(2)]), lq=lq, schema=BY_MONTH)
    path = "enriched/parquet/t/month=2026-01/data.parquet"

    def change() -> None:
        if gone:
            other.lake.storage.delete(path)
        else:
            incremental_load(other, "t", prices(("2026-01-02", "z", 1.0)), schema=BY_MONTH)

    done = interfere(monkeypatch, lq, change, "delete")
    result = save_table("t", month(2, 4.0), lq=lq, schema=BY_MONTH, mode="replace")
    assert done
    assert (result.updated, result.deleted) == (2, 2 if gone else 3)
    assert list(stored_files(lq)) == ["enriched/parquet/t/month=2026-02/data.parquet"]
    assert result.version_after == Table(lq.lake.storage, "t").snapshot().version


def test_a_table_may_be_replaced_by_one_of_other_types_or_by_none_that_reads(rig: Any) -> None:
    lq = rig.query()
    save_table("t", month(1), lq=lq)
    result = save_table("t", month(1).assign(Last_Price="high"), lq=lq, mode="replace")
    assert (result.inserted, result.deleted) == (2, 2)
    assert lq.get_table("t")["Last_Price"].tolist() == ["high", "high"]
    write_parquet(lq, pa.table({"Date": ["tomorrow"], "Asset": ["a"], "Last_Price": ["1.0"]}))
    assert save_table("t", month(2), lq=lq, mode="replace").inserted == 2
    assert read_parquet(lq).schema.field("Last_Price").type == pa.string()  # a text table stays one
    assert len(content(lq)) == 2


def test_a_table_may_be_saved_without_rows_where_one_file_can_hold_it(rig: Any) -> None:
    lq = rig.query()
    empty = month(1).iloc[:0]
    assert save_table("t", empty, lq=lq).changed
    assert lq.get_table("t").columns.tolist() == ["Date", "Asset", "Last_Price"]
    assert save_table("t", month(1), lq=lq, mode="replace").inserted == 2
    assert save_table("t", empty, lq=lq, mode="replace").deleted == 2
    assert len(lq.get_table("t")) == 0
    save_table("m", month(1), lq=lq, schema=BY_MONTH)
    with pytest.raises(UsageError, match="without rows"):
        save_table("m", empty, lq=lq, schema=BY_MONTH, mode="replace")
    assert len(content(lq, "m")) == 2


def test_only_parquet_is_written(disk: Any) -> None:
    with pytest.raises(UsageError, match="pickle"):
        save_table("t", month(1), lq=disk.query(), format="pickle")  # type: ignore[arg-type]


# --- against a model -------------------------------------------------------------------------

DAYS = [date(2026, 1, 30), date(2026, 1, 31), date(2026, 2, 1), date(2026, 12, 31), date(2027, 1, 1)]
cells = st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.5, 0.1, 1e300]))
batches = st.dictionaries(st.tuples(st.sampled_from(DAYS), st.sampled_from("abc")), cells, min_size=1, max_size=8)


class Loads(RuleBasedStateMachine):
    """One table under loads of every kind, and the dictionary it must equal."""

    make: Callable[[], Any]
    schema: TableSchema
    text: bool
    numbers = itertools.count()

    @initialize()
    def start(self) -> None:
        self.name = f"t{next(self.numbers)}"
        self.lq = self.make()
        self.model: dict[tuple[date, str], float | None] = {}
        if self.text:
            seed = pa.table({"Date": ["2026-01-30"], "Asset": ["c"], "Last_Price": ["nan"], "Last_Updated": ["nan"]})
            write_parquet(self.lq, seed, self.name)
            self.model = {(DAYS[0], "c"): None}

    def load(self, batch: dict[tuple[date, str], float | None], upsert: bool) -> LoadResult:
        frame = pd.DataFrame(
            {
                "Asset": [asset for _, asset in batch],
                "Last_Price": pd.array([batch[key] for key in batch], dtype="Float64"),
                "Date": [day for day, _ in batch],
            }
        )
        key = ["Date", "Asset"] if upsert else None
        return incremental_load(
            self.lq, self.name, frame, unique_columns=key, schema=None if self.text else self.schema
        )

    @rule(batch=batches, upsert=st.booleans(), reverse=st.booleans())
    def load_batch(self, batch: dict[tuple[date, str], float | None], upsert: bool, reverse: bool) -> None:
        if reverse:
            batch = dict(reversed(batch.items()))
        expected = dict(self.model)
        if not upsert:
            days = {day for day, _ in batch}
            expected = {key: value for key, value in expected.items() if key[0] not in days}
        expected |= batch
        before, self.model = self.model, expected
        result = self.load(batch, upsert)
        assert result.changed == (before != expected)
        assert not self.load(batch, upsert).changed
        if self.text and not upsert:  # no declared key: a row that changes counts as one out, one in
            assert result.inserted - result.deleted == len(expected) - len(before)
            return
        common = before.keys() & expected.keys()
        touched = [key for key in common if key in batch]
        assert result.inserted == len(expected.keys() - before.keys())
        assert result.deleted == len(before.keys() - expected.keys())
        assert result.updated == sum(before[key] != expected[key] for key in touched)
        assert result.unchanged == sum(before[key] == expected[key] for key in touched)

    @rule()
    def open_the_lake_anew(self) -> None:
        self.lq = self.make()

    @rule(batch=batches)
    def refuse_a_repeated_key(self, batch: dict[tuple[date, str], float | None]) -> None:
        frame = pd.DataFrame(
            [(day, asset, 2.0) for day, asset in [*batch, *batch]], columns=["Date", "Asset", "Last_Price"]
        )
        with pytest.raises(SchemaError):
            incremental_load(self.lq, self.name, frame, unique_columns=["Date", "Asset"])

    @invariant()
    def the_table_equals_the_model(self) -> None:
        if not hasattr(self, "model") or not self.model:
            return
        for lq in (self.lq, self.make()):
            frame = lq.get_table(self.name)
            stored = {
                (row.Date.date(), row.Asset): None if pd.isna(row.Last_Price) else row.Last_Price
                for row in frame.itertuples()
            }
            assert stored == self.model
            assert len(frame) == len(self.model)


def test_save_table_takes_the_lake_first_or_by_name(disk: Any) -> None:
    lq, frame = disk.query(), pd.DataFrame({"x": [1.0]})
    save_table(lq, "a", frame)
    save_table("b", frame, lq=lq)
    save_table(lq.lake, "c", df=frame)
    save_table(table_name="d", df=frame, lq=lq.lake)
    save_table(lq, table_name="e", df=frame)
    assert lq.list_tables() == ["a", "b", "c", "d", "e"]
    for wrong in [(lq, "f"), (lq, "f", frame, frame), ("f",), ()]:
        with pytest.raises(UsageError, match="save_table"):
            save_table(*wrong)
    with pytest.raises(UsageError, match="save_table"):
        save_table(lq, "f", frame, table_name="g")
    with pytest.raises(TypeError, match="modus"):
        save_table(lq, "f", frame, modus="replace")


@pytest.mark.hypothesis
@pytest.mark.parametrize("schema", [IN_ONE_FILE, BY_MONTH], ids=["file", "month"])
def test_loads_equal_a_dictionary(rig: Any, schema: TableSchema) -> None:
    run_machine(rig, schema, text=False)


@pytest.mark.hypothesis
def test_loads_into_a_text_table_equal_a_dictionary(rig: Any) -> None:
    run_machine(rig, IN_ONE_FILE, text=True)


def run_machine(rig: Any, schema: TableSchema, *, text: bool) -> None:
    machine = type("Machine", (Loads,), {"make": staticmethod(rig.query), "schema": schema, "text": text})
    examples = 8 if rig.kind == "azurite" else 20
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=8,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


def test_a_table_replaced_under_another_schema_says_so(disk: Any) -> None:
    lq = disk.query()
    frame = prices(("2026-01-28", "a", 1.0), ("2026-01-29", "a", 2.0))
    by_date = TableSchema("t", 1, BY_MONTH.columns, ("Date",))
    save_table("t", frame, lq=lq, schema=by_date)
    assert save_table("t", frame, lq=lq, schema=by_date, mode="replace").changed is False
    by_both = TableSchema("t", 2, BY_MONTH.columns, ("Date", "Asset"))
    result = save_table("t", frame, lq=lq, schema=by_both, mode="replace")
    assert (result.changed, result.unchanged) == (True, 2)
    metadata = read_parquet(lq).schema.metadata
    assert (metadata[b"luxor.schema_version"], metadata[b"luxor.key"]) == (b"2", b"Date\nAsset")
    assert save_table("t", frame, lq=lq, schema=by_both, mode="replace").changed is False
    more = prices(("2026-01-28", "b", 1.0), ("2026-01-28", "a", 1.0))
    assert incremental_load(lq, "t", more).inserted == 1, "two rows of a date are no longer one too many"


def test_slices_that_could_break_the_key_are_refused(disk: Any) -> None:
    lq = disk.query()
    by_asset = TableSchema("t", 1, BY_MONTH.columns, ("Asset",))
    with pytest.raises(UsageError, match=r"does not hold 'Date'.*\n.*unique_columns=\['Asset'\]"):
        incremental_load(lq, "t", month(1), schema=by_asset)
    assert not stored_files(lq)
    assert incremental_load(lq, "t", month(1), schema=by_asset, unique_columns=["Asset", "Asset"]).inserted == 2
    assert incremental_load(lq, "t", month(2), schema=by_asset, unique_columns="Asset").updated == 2


def test_what_is_no_lake_is_refused(disk: Any) -> None:
    with pytest.raises(UsageError, match="The lake is a str, not a Lake or a LuxorQuery"):
        incremental_load("t", disk.query(), month(1))  # type: ignore[arg-type]


# --- the types of a new table ---------------------------------------------------------------------


@pytest.mark.parametrize("dates", [["2026-01-31", "2026-02-28"], [20260131, 20260228]])
def test_a_new_table_has_dates_where_dates_are_known(dates: list[Any], disk: Any) -> None:
    lq = disk.query()
    rows = pd.DataFrame({"Date": dates, "Settlement Date": dates, "Asset": ["a", "b"], "Quota": [1, 2], "ID": [1, 2]})
    incremental_load(lq, "t", rows)
    stored = lq.get_table("t")
    assert stored["Date"].tolist() == stored["Settlement Date"].tolist() == list(pd.to_datetime(MONTH_ENDS))
    assert stored.dtypes[["Quota", "ID"]].tolist() == [np.float64, np.int64], "prices are numbers, and 1 stays 1"
    later = rows.assign(Date=pd.to_datetime(["2026-03-31", "2026-04-30"]))
    assert incremental_load(lq, "t", later).inserted == 2


MONTH_ENDS = ["2026-01-31", "2026-02-28"]


@pytest.mark.parametrize(
    ("column", "dates", "message"),
    [
        ("Date", ["31/01/2026", "2026-02-28"], "1 of 2 cells are no ISO dates .*'31/01/2026'"),
        ("Date", [46053, 46081], "2 of 2 cells are no dates like 20261031"),
        ("Settlement Date", ["31/01/2026", None], "1 of 2 cells are no ISO dates"),
    ],
)
def test_nor_has_it_anything_else_there(column: str, dates: list[Any], message: str, disk: Any) -> None:
    lq = disk.query()
    rows = pd.DataFrame({"Date": MONTH_ENDS, "Asset": ["a", "b"]}).assign(**{column: dates})
    with pytest.raises(SchemaError, match=f"'{column}': {message}"):
        incremental_load(lq, "t", rows)
    assert not lq.table_exists("t")


@pytest.mark.parametrize("stored", [False, True])
def test_a_price_has_no_time_of_day(stored: bool, disk: Any) -> None:
    lq = disk.query()
    rows = pd.DataFrame({"Date": pd.to_datetime(MONTH_ENDS), "Asset": ["a", "b"], "Last_Price": [1.0, 2.0]})
    if stored:
        incremental_load(lq, "hist_px_last", rows)
    late = rows.assign(Date=rows["Date"] + pd.Timedelta(hours=3))
    with pytest.raises(
        SchemaError, match="'Date': 2 of 2 cells have a time of day; for instance '2026-01-31 03:00"
    ) as error:
        incremental_load(lq, "hist_px_last", late)
    assert "normalize" in error.value.hint
    incremental_load(lq, "ticks", late)
    assert lq.get_table("ticks")["Date"].tolist() == late["Date"].tolist(), "in a table of no days they are kept"


@pytest.mark.parametrize("dates", [["2026-01-31", "2026-02-28"], [20260131, 20260228], ["31/01/2026", "28/02/2026"]])
def test_so_has_it_where_slices_are_told_apart_by_what_looks_like_dates(dates: list[Any], disk: Any) -> None:
    lq = disk.query()
    rows = pd.DataFrame({"Ref": dates, "Fund": ["a", "b"], "ID": [7, 8]})
    if "/" in str(dates[0]):
        with pytest.raises(SchemaError, match="'Ref': 2 of 2 cells are no ISO dates"):
            incremental_load(lq, "t", rows, increment_column="Ref")
        return
    incremental_load(lq, "t", rows, increment_column="Ref")
    assert lq.get_table("t")["Ref"].tolist() == list(pd.to_datetime(MONTH_ENDS))
    for column in ("Fund", "ID"):
        incremental_load(lq, f"by_{column}", rows, increment_column=column)
        assert lq.get_table(f"by_{column}")[column].tolist() == rows[column].tolist(), "other slices are as they are"


def test_a_column_without_a_value_takes_the_type_of_the_first_ones(disk: Any) -> None:
    lq = disk.query()
    rows = pd.DataFrame({"Date": MONTH_ENDS, "Asset": ["a", "b"], "Note": [None, None], "Size": [np.nan, np.nan]})
    assert incremental_load(lq, "t", rows).inserted == 2
    assert not incremental_load(lq, "t", rows).changed
    assert lq.get_table("t")["Note"].isna().all()
    later = pd.DataFrame({"Date": ["2026-03-31"], "Asset": ["a"], "Note": ["seen"], "Size": [7]})
    assert incremental_load(lq, "t", later).inserted == 1
    assert lq.get_table("t")["Note"].isna().tolist() == [True, True, False]
    assert lq.get_table("t")["Size"].tolist() == [pd.NA, pd.NA, 7]
    assert not incremental_load(lq, "t", rows).changed
    with pytest.raises(SchemaError, match="'Size': 1 of 1 cells are text where the table has whole numbers"):
        incremental_load(lq, "t", later.assign(Size="large"))


def test_in_a_new_partitioned_table_it_must_be_given_one() -> None:
    rows = pa.table({"Asset": ["a"], "Note": pa.nulls(1)})
    with pytest.raises(SchemaError, match="'Note': no cell has a value, so that its type is not known"):
        check_typed(rows, "t")
    check_typed(rows.set_column(1, "Note", pa.nulls(1, pa.string())), "t")


# --- what only mutations of the code had shown to be untested ------------------------------------


def test_a_partition_column_that_holds_no_dates_is_refused(rig: Any) -> None:
    lq = rig.query()
    schema = TableSchema(
        name="t",
        version=1,
        columns=(Column("Date", "text", False), Column("Asset", "text", False), Column("Last_Price", "number")),
        key=("Date", "Asset"),
        partition="month",
    )
    frame = month(1).assign(Date="soon")
    with pytest.raises(SchemaError, match="partitioned by 'Date', which holds no dates in the batch"):
        incremental_load(lq, "t", frame, schema=schema, increment_column="Date")
    assert stored_files(lq) == {}
    assert lq.lake.storage.list("enriched") == []


def test_a_table_that_changes_while_its_columns_are_checked_is_loaded_all_the_same(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lq, other = rig.query(), rig.query()
    incremental_load(lq, "t", pd.concat([month(1), month(2), month(3)]), schema=BY_MONTH)
    checked: list[str] = []
    original = Table.stored

    def stored(self: Table, part: Any, *args: Any, **options: Any) -> Any:
        if self.storage is lq.lake.storage and part.label == "2026-02" and not checked:
            checked.append(part.label)
            incremental_load(other, "t", prices(("2026-02-20", "other", 9.0)), schema=BY_MONTH)
        return original(self, part, *args, **options)

    monkeypatch.setattr(Table, "stored", stored)
    result = incremental_load(lq, "t", pd.concat([month(1, 5.0), month(2, 5.0)]), schema=BY_MONTH)
    assert checked
    assert (result.updated, result.partitions) == (4, ("2026-01", "2026-02"))
    assert len(content(rig.query())) == 7


def test_a_month_that_goes_before_a_replacement_drops_it_counts_as_nobody_s(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lq, other = rig.query(), rig.query()
    save_table("t", pd.concat([month(1), month(2)]), lq=lq, schema=BY_MONTH)
    gone = "enriched/parquet/t/month=2026-01/data.parquet"
    interfere(monkeypatch, lq, lambda: other.lake.storage.delete(gone))
    result = save_table("t", month(2, 4.0), lq=lq, schema=BY_MONTH, mode="replace")
    assert (result.updated, result.deleted, result.partitions) == (2, 0, ("2026-02",))
    assert list(stored_files(lq)) == ["enriched/parquet/t/month=2026-02/data.parquet"]


def test_the_counts_and_the_metadata_of_a_wholesale_replacement(rig: Any) -> None:
    lq = rig.query()
    save_table("t", pd.concat([month(1), month(2)]), lq=lq)
    path = "enriched/parquet/t.parquet"

    def metadata() -> dict[bytes, bytes]:
        return dict(pq.read_schema(BytesIO(lq.lake.storage.read(path).data)).metadata)

    birth = metadata()[b"luxor.birth"]
    schema = TableSchema(
        name="t",
        version=3,
        columns=(Column("Date", "date", False), Column("Asset", "text", False), Column("Rating", "text")),
        key=("Date", "Asset"),
    )
    other = month(1).drop(columns="Last_Price").assign(Rating="aa")
    result = save_table("t", other, lq=lq, schema=schema, mode="replace")
    assert (result.inserted, result.updated, result.unchanged, result.deleted) == (2, 0, 0, 4)
    assert {name: text for name, text in metadata().items() if name.startswith(b"luxor.")} == {
        b"luxor.schema": b"t",
        b"luxor.schema_version": b"3",
        b"luxor.key": b"Date\nAsset",
        b"luxor.encoding": b"typed",
        b"luxor.birth": birth,
    }
    again = save_table("t", other, lq=lq, schema=schema, mode="replace")
    assert (again.unchanged, again.changed) == (2, False)


@pytest.mark.parametrize("schema", [None, HIST_FILE_PX_LAST], ids=["undeclared", "declared"])
def test_categories_are_loaded_as_their_texts(rig: Any, schema: Any) -> None:
    """By slices and by key, into a new table and again, and where two categories have one normal form."""
    name = HIST_FILE_PX_LAST.name
    days = pd.to_datetime(["2026-10-30", "2026-10-30", "2026-10-31", "2026-10-31"])
    plain = pd.DataFrame({"Date": days, "Asset": ["a", "b", "a", "b"], "Last_Price": [1.0, 2.0, 3.0, 4.0]})
    coded = plain.assign(Asset=pd.Categorical([" A", "b", "a", "B"], categories=["z", "B", "a", "b", " A"]))
    lq = rig.query()
    assert incremental_load(lq, name, coded, schema=schema).inserted == 4
    again = [incremental_load(lq, name, frame, schema=schema) for frame in (plain, coded)]
    assert [(result.unchanged, result.changed) for result in again] == [(4, False)] * 2
    key = ["Date", "Asset"]
    changed = incremental_load(lq, name, coded.iloc[2:].assign(Last_Price=5.0), unique_columns=key, schema=schema)
    assert (changed.updated, changed.inserted) == (2, 0)
    stored = lq.get_table(name).sort_values(key)
    assert stored["Asset"].tolist() == ["a", "b", "a", "b"]
    assert stored["Last_Price"].tolist() == [1.0, 2.0, 5.0, 5.0]
    before = rig.storage().list("enriched")
    twice = coded.assign(Asset=pd.Categorical([" A", "a", "b", "b"], categories=["a", "b", " A"]))
    with pytest.raises(SchemaError, match=r"keys .* occur in 4 rows"):
        incremental_load(lq, name, twice, unique_columns=key, schema=schema)
    assert rig.storage().list("enriched") == before


@pytest.mark.parametrize("kind", [pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int64(), pa.large_string())])
def test_categories_are_loaded_into_a_stored_column_of_words(disk: Any, kind: pa.DataType) -> None:
    lq = disk.query()
    rows = pa.Table.from_pandas(month(1), preserve_index=False)
    write_parquet(lq, rows.set_column(1, "Asset", rows["Asset"].cast(pa.string()).dictionary_encode().cast(kind)))
    coded = month(1, 3.0).assign(Asset=pd.Categorical(["b", "a"], categories=["z", "a", "b"]))
    assert incremental_load(lq, "t", coded, unique_columns=["Date", "Asset"]).updated == 2
    assert [row[1:] for row in content(lq)] == [("a", 4.0), ("b", 3.0)]
    assert pa.types.is_dictionary(read_parquet(lq).schema.field("Asset").type)
