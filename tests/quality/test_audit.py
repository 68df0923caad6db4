"""`luxor check`: whatever is wrong with a table is found, what is right is not, and nothing is changed."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luxor_pipelines import save_table
from luxor_pipelines.catalog import KEYS
from luxor_pipelines.errors import InvalidNameError, UnreachableError, UsageError
from luxor_pipelines.ingest import incremental_load
from luxor_pipelines.lake.parquet.file import to_bytes
from luxor_pipelines.lake.types.schema import DATE, ENCODING, STAMP, Column, TableSchema
from luxor_pipelines.operations.discovery import declared_schemas
from luxor_pipelines.pipelines import fx_rates, hist_returns, holidays, market_prices
from luxor_pipelines.quality.audit import Audit
from luxor_pipelines.quality.audit import audit as audit_lake

ROOT = "enriched/parquet"
PRICES = TableSchema(
    name="prices",
    version=1,
    columns=(Column("Date", "date", False), Column("Asset", "text", False), Column("Last_Price", "number")),
    key=("Date", "Asset"),
    partition="month",
)


def audit(lq: Any, table: str | None = None) -> Audit:
    return audit_lake(lq.lake, table, declared=declared_schemas())


def frame(*days: str, assets: str = "ab") -> pd.DataFrame:
    rows = [(day, asset, 100.0 + place) for place, day in enumerate(days, 1) for asset in assets]
    table = pd.DataFrame(rows, columns=["Date", "Asset", "Last_Price"])
    return table.assign(Date=pd.to_datetime(table["Date"]))


@pytest.fixture
def lq(disk: Any) -> Any:
    """A lake with one table of three months, in which nothing is wrong."""
    return filled(disk)


def filled(rig: Any) -> Any:
    lq = rig.query()
    incremental_load(lq, "prices", frame("2026-08-31", "2026-09-15", "2026-09-30", "2026-10-30"), schema=PRICES)
    return lq


def path(label: str) -> str:
    return f"{ROOT}/prices/month={label}/data.parquet"


def stored(lq: Any, label: str) -> pa.Table:
    return pq.read_table(io.BytesIO(lq.lake.storage.read(path(label)).data))


def put(lq: Any, where: str, table: pa.Table) -> None:
    lq.lake.storage.write(where, to_bytes(table))


def found(lq: Any, table: str | None = None) -> list[tuple[str, str, str, int]]:
    """Severity, partition, what and count of each finding; and see that looking has changed nothing."""
    before = lq.lake.storage.list("enriched")
    findings = audit(lq, table).findings
    assert lq.lake.storage.list("enriched") == before
    return [(each.severity, each.partition, each.what, each.count) for each in findings]


def samples(lq: Any) -> list[str]:
    return [each.sample for each in audit(lq).findings]


def test_a_table_as_it_should_be(rig: Any) -> None:
    lq = filled(rig)
    checked = audit(lq)
    assert (checked.tables, checked.files, checked.findings) == (1, 3, ())
    assert audit(lq, "Prices").findings == (), "by name, as forgiving as elsewhere"


def test_an_empty_lake_has_nothing_wrong(disk: Any) -> None:
    assert audit(disk.query()).tables == 0


@pytest.mark.parametrize("name", ["nothing", "price"])
def test_a_table_there_is_not_is_a_wrong_call(lq: Any, name: str) -> None:
    with pytest.raises(UsageError, match=f"There is no table {name}"):
        audit(lq, name)
    with pytest.raises(InvalidNameError):
        audit(lq, "../prices")


def test_a_lake_that_does_not_answer_is_no_finding(lq: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(info: Any) -> Any:
        raise UnreachableError("no answer")

    monkeypatch.setattr(lq.lake.storage, "open", unreachable)
    with pytest.raises(UnreachableError):
        audit(lq)


# --- rows ---------------------------------------------------------------------------------------


def test_duplicate_keys(rig: Any) -> None:
    lq = filled(rig)
    table = stored(lq, "2026-09")
    put(lq, path("2026-09"), pa.concat_tables([table, table.slice(0, 1), table.slice(0, 2)]))
    assert found(lq) == [("error", "2026-09", "keys (Date, Asset) occur more than once, in 5 rows", 2)]
    assert samples(lq) == ["('2026-09-15 00:00:00', 'a'), ('2026-09-15 00:00:00', 'b')"]


def test_nulls_in_the_key_and_in_numbers(lq: Any) -> None:
    table = stored(lq, "2026-09")
    assets, prices = pa.array(["a", None, None, "b"]), pa.array([None, 1.0, None, None], pa.float64())
    table = table.set_column(1, "Asset", assets).set_column(2, "Last_Price", prices)
    put(lq, path("2026-09"), table)
    assert found(lq) == [
        ("error", "2026-09", "of 4 cells of Asset are missing", 2),
        ("warning", "2026-09", "of 4 cells of Last_Price are missing", 3),
    ]


def test_a_column_that_is_mostly_missing_in_several_files_is_one_finding(lq: Any) -> None:
    for label in ("2026-09", "2026-10"):
        table = stored(lq, label)
        none = pa.nulls(len(table), pa.float64())
        put(lq, path(label), table.set_column(2, "Last_Price", none))
    assert found(lq) == [("warning", "", "of 6 cells of Last_Price are missing, in 2 files", 6)]
    assert samples(lq) == ["2026-09 to 2026-10"]


def test_half_of_the_numbers_may_be_missing(lq: Any) -> None:
    table = stored(lq, "2026-09")
    put(lq, path("2026-09"), table.set_column(2, "Last_Price", pa.array([None, 1.0, None, 2.0])))
    assert found(lq) == []


def test_rows_of_another_month(lq: Any) -> None:
    put(lq, path("2026-09"), pa.concat_tables([stored(lq, "2026-09"), stored(lq, "2026-10")]))
    assert found(lq) == [("error", "2026-09", "rows are dated outside the month of their partition", 2)]
    assert samples(lq) == ["'2026-10-30', '2026-10-30'"]


def test_missing_months(lq: Any) -> None:
    incremental_load(lq, "prices", frame("2027-02-26"), schema=PRICES)
    lq.lake.storage.delete(path("2026-09"))
    assert found(lq) == [("error", "", "months between others are missing", 4)]
    assert samples(lq) == ["'2026-09', '2026-11', '2026-12' and 1 more"]


def test_missing_years(disk: Any) -> None:
    lq = disk.query()
    incremental_load(lq, "hist_file_px_last", frame("2020-01-02", "2023-01-02"), schema=market_prices.SCHEMA)
    resumed = ("warning", "", "series resume after more than a year", 2)
    assert found(lq) == [("error", "", "years between others are missing", 2), resumed]


# --- columns ------------------------------------------------------------------------------------


def test_partitions_with_other_columns(lq: Any) -> None:
    table = stored(lq, "2026-09")
    put(lq, path("2026-08"), table.slice(0, 0).drop_columns("Last_Price"))
    put(lq, path("2026-09"), table.set_column(2, "Last_Price", table["Last_Price"].cast(pa.string())))
    assert found(lq) == [
        ("error", "2026-08", "columns are not those of the newest partition, 2026-10", 1),
        ("error", "2026-09", "columns are not those of the newest partition, 2026-10", 1),
    ]
    assert samples(lq) == ["'Last_Price' is absent, not double", "'Last_Price' is string, not double"]


def test_what_only_lies_there_in_other_types_is_no_drift(lq: Any) -> None:
    table = stored(lq, "2026-09")
    table = table.set_column(1, "Asset", table["Asset"].dictionary_encode())
    put(lq, path("2026-09"), table.set_column(2, "Last_Price", table["Last_Price"].cast(pa.int32())))
    assert found(lq) == []


def test_columns_that_the_pipeline_does_not_write(disk: Any) -> None:
    lq = disk.query()
    old = pd.DataFrame({"Date": pd.to_datetime(["2026-10-30"]), "Asset": ["a"], "mtd": [0.1]})
    save_table("hist_returns", old, lq=lq)
    errors = found(lq)
    assert errors[0] == ("error", "", "columns are not what this version's pipeline writes", 13)
    assert ("error", "", "columns of the key are missing", 3) in errors


def test_nulls_where_the_pipeline_writes_none(disk: Any) -> None:
    lq = disk.query()
    incremental_load(lq, "hist_ecb_px_last", frame("2026-10-29", "2026-10-30"), schema=fx_rates.SCHEMA)
    where = f"{ROOT}/hist_ecb_px_last/year=2026/data.parquet"
    table = pq.read_table(io.BytesIO(lq.lake.storage.read(where).data))
    put(lq, where, table.set_column(2, "Last_Price", pa.array([1.0, None, 1.0, 1.0])))
    assert found(lq) == [("error", "2026", "of 4 cells of Last_Price are missing", 1)]


def test_the_schemas_of_our_pipelines_are_known() -> None:
    known = declared_schemas()
    for module in (fx_rates, hist_returns, holidays, market_prices):
        assert known[module.SCHEMA.name] is module.SCHEMA


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not Parquet at all", b"PAR1" + b"\x00" * 100 + b"PAR1"], ids=repr)
def test_files_that_do_not_open(rig: Any, data: bytes) -> None:
    lq = filled(rig)
    lq.lake.storage.write(path("2026-10"), data)
    assert found(lq) == [("error", "2026-10", "file does not open", 1)], "and the others are looked at all the same"


def test_a_file_that_is_torn_in_the_middle(lq: Any) -> None:
    data = bytearray(lq.lake.storage.read(path("2026-09")).data)
    data[4:60] = b"\xff" * 56
    lq.lake.storage.write(path("2026-09"), bytes(data))
    assert found(lq) == [("error", "2026-09", "file cannot be read to its end", 1)]


def test_a_column_twice(lq: Any) -> None:
    table = stored(lq, "2026-09")
    put(lq, path("2026-09"), table.append_column("Asset", table["Asset"]))
    assert found(lq) == [("error", "2026-09", "file does not open", 1)]
    assert "more than one column 'Asset'" in samples(lq)[0]


def test_files_that_are_no_partitions(lq: Any) -> None:
    lq.lake.storage.write(f"{ROOT}/prices/part-0.parquet", lq.lake.storage.read(path("2026-09")).data)
    lq.lake.storage.write(f"{ROOT}/prices/month=2026-09/more.parquet", b"")
    lq.lake.storage.write(f"{ROOT}/prices/_SUCCESS", b"")
    lq.lake.storage.write(f"{ROOT}/prices/readme.txt", b"")
    assert found(lq) == [
        (
            "error",
            "",
            "Parquet files in the table's folder are not its partitions, though others may read them as such",
            2,
        ),
        ("warning", "", "files in the table's folder are no data", 1),
    ]


def test_a_file_and_a_folder_of_one_table(lq: Any) -> None:
    lq.lake.storage.write(f"{ROOT}/prices.parquet", lq.lake.storage.read(path("2026-09")).data)
    assert found(lq) == [("error", "", "partitions lie beside the table's one file, which is what is read", 3)]


def test_months_and_years_at_once(lq: Any) -> None:
    storage = lq.lake.storage
    storage.write(f"{ROOT}/prices/year=2026/data.parquet", storage.read(path("2026-09")).data)
    assert found(lq) == [("error", "", "partitions lie beside those by month, which are what is read", 1)]
    storage.delete(f"{ROOT}/prices/_layout.json")
    assert found(lq) == [("error", "", "partitions are by month and by year", 4)]


def test_a_table_that_is_being_moved(lq: Any) -> None:
    lq.lake.storage.write(f"{ROOT}/prices/_moving.json", b"{}")
    assert found(lq) == [("error", "", "is being moved to the archive or back, or such a move was cut short", 1)]


def test_a_single_file_that_came_too_late(lq: Any) -> None:
    storage = lq.lake.storage
    months = pq.read_table(io.BytesIO(storage.read(path("2026-09")).data))
    late = months.replace_schema_metadata({**months.schema.metadata, b"luxor.birth": b"1"})
    sink = io.BytesIO()
    pq.write_table(late, sink)
    storage.write(f"{ROOT}/prices.parquet", sink.getvalue())
    assert found(lq) == [
        ("error", "", "a single file, written too late to be the table, lies beside those by month", 1)
    ]
    storage.write(f"{ROOT}/prices/_layout.json", b"no layout")
    assert found(lq) == [("error", "", "layout is not told", 1)]


def test_a_folder_without_a_partition(lq: Any) -> None:
    lq.lake.storage.write(f"{ROOT}/other/part-0.parquet", b"")
    assert [what for _, _, what, _ in found(lq, "other")] == [
        "Parquet files in the table's folder are not its partitions, though others may read them as such"
    ]
    assert found(lq) == [], "it is not one of the lake's tables"


# --- the firm's own tables ----------------------------------------------------------------------


def legacy(lq: Any, name: str, **columns: list[str | None]) -> None:
    put(lq, f"{ROOT}/{name}.parquet", pa.table({key: pa.array(cells, pa.string()) for key, cells in columns.items()}))


def test_text_tables_by_what_is_known_of_them(rig: Any) -> None:
    lq = rig.query()
    legacy(
        lq,
        "hist_px_last",
        Date=["2026-10-30", "2026-10-30", "2026-10-29", "nan"],
        Asset=["a", "a", "a", "b"],
        Last_Price=["1.0", "2.0", "nan", "None"],
    )
    assert found(lq) == [
        ("error", "", "of 4 cells of Date are missing", 1),
        ("error", "", "keys (Date, Asset) occur more than once, in 2 rows", 1),
    ]


def test_cells_of_text_tables_that_are_not_what_they_should_be(disk: Any) -> None:
    lq = disk.query()
    legacy(lq, "all_funds_quotas", Date=["2026-10-30", "soon"], Fund=["a", "b"], Quota=["1.0", "x"])
    legacy(lq, "assets", Key=["a", "a", "nan"], Name=["A", "B", "C"])
    assert found(lq, "all_funds_quotas") == [
        ("error", "", "column Date holds what it should not", 1),
        ("error", "", "column Quota holds what it should not", 1),
    ]
    assert "'x'" in samples(lq)[1]
    assert found(lq, "assets") == [
        ("error", "", "of 3 cells of Key are missing", 1),
        ("error", "", "keys (Key) occur more than once, in 2 rows", 1),
    ]


def test_prices_that_are_text_in_a_typed_table(disk: Any) -> None:
    lq = disk.query()
    rows = pd.DataFrame({"Date": pd.to_datetime(["2026-10-30"]), "Asset": ["a"], "Last_Price": ["1,234"]})
    incremental_load(lq, "hist_px_last", rows)
    assert ("error", "", "column of prices, Last_Price, holds text", 1) in found(lq)


def test_a_table_of_a_fund(disk: Any) -> None:
    lq = disk.query()
    legacy(lq, "my_fund_quotas", Date=["2026-10-30", "2026-10-30"], Quota=["1.0", "1.0"])
    assert found(lq) == [("error", "", "keys (Date) occur more than once, in 2 rows", 1)]


def test_tables_of_which_no_key_is_known_are_looked_at_too(disk: Any) -> None:
    lq = disk.query()
    legacy(lq, "cash_movements", Date=["2026-10-30", "2026-10-30", "nan"], Volume=["1", "1", "y"])
    assert found(lq) == [
        ("error", "", "of 3 cells of Date are missing", 1),
        ("error", "", "column Volume holds what it should not", 1),
    ]


def test_price_tables_without_their_columns(disk: Any) -> None:
    lq = disk.query()
    legacy(lq, "custom_prices", Date=["2026-10-30"], Asset=["a"], Value=["1.0"])
    assert found(lq) == [("error", "", "pair of columns, series and price, is missing", 1)]


@pytest.mark.parametrize("name", sorted(KEYS))
def test_known_keys_that_are_not_there_are_told(disk: Any, name: str) -> None:
    lq = disk.query()
    legacy(lq, name, Something=["x"])
    assert ("error", "", "columns of the key are missing", len(KEYS[name])) in found(lq)


# --- series -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "series", "price", "stale"),
    [
        ("hist_px_last", "Asset", "Last_Price", 2),  # more than 10 days
        ("all_funds_quotas", "Fund", "Quota", 1),  # more than 45
        ("hist_vc_px_last", "Ticker", "Price", 0),  # marks have no limit
        ("hist_vc_px_last", "Asset", "Last_Price", 0),
    ],
)
def test_series_that_have_ended(disk: Any, table: str, series: str, price: str, stale: int) -> None:
    lq = disk.query()
    days = ["2026-10-30", "2026-10-20", "2026-10-19", "2026-09-14"]  # 0, 10, 11 and 46 days before
    prices = pd.DataFrame({"Date": pd.to_datetime(days), series: list("abcd"), price: 1.0})
    save_table(table, prices, lq=lq)
    what = f"of 4 series end more than {45 if stale == 1 else 10} days before the table does, on 2026-10-30"
    assert found(lq) == ([("warning", "", what, stale)] if stale else [])
    if stale:
        assert samples(lq)[0].endswith("'d 2026-09-14'")


def test_a_series_goes_on_in_another_partition(disk: Any) -> None:
    lq = disk.query()
    rows = pd.concat([frame("2025-12-30", "2026-01-05"), frame("2025-06-30", assets="c")])
    incremental_load(lq, "hist_file_px_last", rows, schema=market_prices.SCHEMA)
    assert found(lq) == [("warning", "", "of 3 series end more than 10 days before the table does, on 2026-01-05", 1)]


# --- prices -------------------------------------------------------------------------------------


def test_moves_from_row_to_row_are_named(disk: Any) -> None:
    lq = disk.query()
    days = pd.bdate_range("2026-01-01", "2026-12-31")
    rows = pd.DataFrame({"Date": days, "Asset": "a", "Last_Price": np.where(days < "2026-06-10", 1200.0, 120.0)})
    rows.loc[5, "Last_Price"] = 9999.0
    stale = pd.DataFrame(
        {"Date": pd.to_datetime(["2024-01-02", "2026-12-31"]), "Asset": "old", "Last_Price": [5.0, 6.0]}
    )
    incremental_load(lq, "hist_file_px_last", pd.concat([rows, stale]), schema=market_prices.SCHEMA)
    by_what = {finding.what: finding.sample for finding in audit(lq, "hist_file_px_last").findings}
    assert by_what["prices move by about a split's ratio"] == "'a 2026-06-09 1200 → 2026-06-10 120'"
    assert by_what["prices of a single day are five times the others, or a fifth"].startswith("'a 2026-01-07 1200 →")
    assert by_what["series resume after more than a year"] == "'old 2024-01-02 5 → 2026-12-31 6'"
    assert by_what["series have one price for 20 sessions or more"] == "'a 2026-06-10 120 → 2026-12-31 120'"


@pytest.mark.parametrize(
    ("table", "series", "price", "what"),
    [
        ("hist_px_last", "Asset", "Last_Price", [("prices are 0 or less; no return rests on them", 2)]),
        ("hist_vc_px_last", "Ticker", "Price", [("prices are below 0; no return rests on them", 1)]),
    ],
)
def test_bad_prices_are_named(disk: Any, table: str, series: str, price: str, what: list[tuple[str, int]]) -> None:
    lq = disk.query()
    days = pd.to_datetime(["2026-10-28", "2026-10-29", "2026-10-30"])
    save_table(table, pd.DataFrame({"Date": days, series: "wti", price: [-37.63, 0.0, 20.0]}), lq=lq)
    assert [(each.what, each.count) for each in audit(lq).findings] == what
    assert "wti 2026-10-28 -37.63" in samples(lq)[0]


def test_infinite_prices_and_dates_to_come_are_named(disk: Any) -> None:
    lq = disk.query()  # its clock stands at 2026-11-23
    days = pd.to_datetime(["2026-11-20", "2026-11-23", "2026-11-24", "2062-11-20"])
    rows = pd.DataFrame({"Date": days, "Asset": "a", "Last_Price": [np.inf, 1.0, 1.1, np.nan]})
    put(lq, f"{ROOT}/hist_px_last.parquet", pa.Table.from_pandas(rows, preserve_index=False))
    findings = [(each.what, each.count, each.sample) for each in audit(lq).findings]
    assert ("prices are infinite; no return rests on them", 1, "'a 2026-11-20 inf'") in findings
    (ahead,) = [(count, sample) for what, count, sample in findings if what.startswith("rows are dated after today")]
    assert ahead == (1, "'a 2062-11-20 no price'")


def test_so_are_those_of_the_current_prices(disk: Any) -> None:
    lq = disk.query()
    rows = pd.DataFrame(
        {"Key": ["a", "b"], "px_last": [0.0, 1.0], "last_update_dt": pd.to_datetime(["2026-10-30"] * 2)}
    )
    save_table("px_last", rows, lq=lq)
    assert [(each.what, each.count) for each in audit(lq).findings] == [
        ("prices are 0 or less; no return rests on them", 1)
    ]


def test_names_that_are_one_name(disk: Any) -> None:
    lq = disk.query()
    rows = frame("2026-10-30", assets="ab")
    again = rows.assign(Asset=["B\u00a0", "c"])
    put(lq, f"{ROOT}/hist_px_last.parquet", pa.Table.from_pandas(pd.concat([rows, again]), preserve_index=False))
    assert found(lq) == [("warning", "", "names in Asset are one name, written in several ways", 1)]
    assert samples(lq) == [repr("'B\\xa0' = 'b'")]


@pytest.mark.parametrize("dates", [["30/10/2026"], [20261030]])
def test_dates_that_are_none(disk: Any, dates: list[Any]) -> None:
    lq = disk.query()
    rows = pa.table({"Date": dates, "Asset": ["a"], "Last_Price": [1.0]}).replace_schema_metadata({ENCODING: b"typed"})
    put(lq, f"{ROOT}/prices.parquet", rows)
    kind = "int64" if dates == [20261030] else "string"
    assert ("error", "", f"column of dates, Date, holds {kind}", 1) in found(lq)
    empty = rows.set_column(0, "Date", pa.nulls(1))
    put(lq, f"{ROOT}/prices.parquet", empty.append_column("Query_Time", pa.array([datetime.now(UTC)], STAMP)))
    assert not [what for _, _, what, _ in found(lq) if "column of dates" in what]


def test_prices_with_a_time_of_day(disk: Any) -> None:
    lq = disk.query()
    days = pa.array([datetime(2026, 10, 30), datetime(2026, 10, 30, 3)], pa.timestamp("us"))
    put(lq, f"{ROOT}/hist_px_last.parquet", pa.table({"Date": days, "Asset": ["a", "a"], "Last_Price": [9.0, 9.5]}))
    what = "dates have a time of day, which makes a second price of the day"
    assert found(lq) == [("error", "", what, 1)]
    assert samples(lq) == ["2026-10-30 03:00:00"]


def test_nested_columns_are_not_read(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a kilobyte may have a list of a hundred million in one, which nobody asked for."""
    lq = disk.query()
    lists = pa.array([[1.0] * 1000, None], pa.list_(pa.float64()))
    put(lq, f"{ROOT}/t.parquet", pa.table({"Date": pa.array([datetime(2026, 10, 30)] * 2, DATE), "vector": lists}))
    read_row_groups, asked = pq.ParquetFile.read_row_groups, []

    def noted(file: Any, groups: Any, columns: list[str], **options: Any) -> Any:
        asked.extend(columns)
        return read_row_groups(file, groups, columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", noted)
    assert found(lq) == []
    assert asked == ["Date"]
    lq.get_table("t", columns=["Date"])
    assert set(asked) == {"Date"}


def test_more_rows_than_bytes_can_tell_apart(disk: Any) -> None:
    lq = disk.query()
    sink = io.BytesIO()
    pq.write_table(pa.table({"Date": pa.nulls(9_000_000, DATE)}), sink, row_group_size=9_000_000)
    lq.lake.storage.write(f"{ROOT}/t.parquet", sink.getvalue())
    what = f"rows in {len(sink.getvalue()):,} bytes, which cannot tell them apart; they are not read"
    assert found(lq) == [("error", "", what, 9_000_000)]
