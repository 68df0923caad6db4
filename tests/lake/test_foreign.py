"""Folders of Parquet that other programs wrote: read as they are, never written, never taken for something else."""

from __future__ import annotations

import datetime as dt
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from luxor_pipelines import incremental_load, save_table
from luxor_pipelines.errors import CorruptFileError, ForeignTableError, SchemaError, TableNotFoundError
from luxor_pipelines.lake.storage.base import Storage
from luxor_pipelines.lake.table.archive import archive, restore
from luxor_pipelines.lake.table.layout import DIRECTORY
from luxor_pipelines.lake.table.optimize import optimize
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.operations.files import read_for
from luxor_pipelines.quality.audit import audit


def put(storage: Storage, path: str, columns: dict[str, Any] | pa.Table, **options: Any) -> None:
    """Write a file as another program would, below the folder of the tables."""
    sink = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), sink, **options)
    storage.write(f"{DIRECTORY}/{path}", sink.getvalue())


WRITERS = {
    "pyarrow": ("sales/country=BR/year=2024/part-0.parquet", "sales/country=US/year=2025/part-0.parquet"),
    "dask": ("sales.parquet/country=BR/year=2024/part.0.parquet", "sales.parquet/country=US/year=2025/part.1.parquet"),
    "spark": (
        "sales/country=BR/year=2024/part-00000-1c5e.c000.snappy.parquet",
        "sales/country=US/year=2025/part-00001-1c5e.c000.snappy.parquet",
    ),
    "duckdb": ("sales/country=BR/year=2024/data_0.parquet", "sales/country=US/year=2025/data_0.parquet"),
}


@pytest.mark.parametrize("writer", list(WRITERS))
def test_a_folder_is_read_whoever_wrote_it(rig: Any, writer: str) -> None:
    storage = rig.storage()
    first, second = WRITERS[writer]
    put(storage, first, {"ID": [1, 2], "Amount": [1.5, None]})
    put(storage, second, {"ID": [3], "Amount": [2.5]})
    top = first.partition("/")[0]
    for mark in ("_SUCCESS", "_metadata", "_temporary/0/part-9.parquet"):
        storage.write(f"{DIRECTORY}/{top}/{mark}", b"x")
    lq = rig.query()
    assert lq.list_tables() == ["sales"]
    assert lq.table_exists("sales")
    frame = lq.get_table("sales")
    assert list(frame.columns) == ["ID", "Amount", "country", "year"]
    assert frame.astype(object).where(frame.notna(), None).to_numpy().tolist() == [
        [1, 1.5, "BR", 2024],
        [2, None, "BR", 2024],
        [3, 2.5, "US", 2025],
    ]
    assert str(frame["year"].dtype).lower() == "int64"
    assert lq.get_table("sales", columns=["year"], where={"country": "us"})["year"].tolist() == [2025]
    assert lq.get_table("sales", columns="country", where="Amount > 2")["country"].tolist() == ["US"]
    assert lq.scan("sales", "ID", "year < 2025")["ID"].to_pylist() == [1, 2]
    assert lq.scan("sales", ["Amount"], ["country = br", "ID = 3"]).num_rows == 0
    assert len(lq.lake.paths("sales")) == 2


def test_a_file_is_not_read_whose_days_rule_its_rows_out(rig: Any) -> None:
    storage = rig.storage()
    for month, day in (("01", dt.date(2026, 1, 30)), ("02", dt.date(2026, 2, 27))):
        put(storage, f"sales/month={month}/part-0.parquet", {"Date": [day], "Amount": [float(month)]})
    first = f"{DIRECTORY}/sales/month=01/part-0.parquet"
    rows_destroyed = bytearray(storage.read(first).data)
    rows_destroyed[4:40] = bytes(36)
    storage.write(first, bytes(rows_destroyed))
    lq = rig.query()
    with pytest.raises(CorruptFileError):
        lq.get_table("sales", where="Date < 2026-02-01")
    assert lq.get_table("sales", where="Date >= 2026-02-27")["Amount"].tolist() == [2.0]


def _with_arrow(rows: pa.Table, folder: Path) -> None:
    ds.write_dataset(rows, folder, format="parquet", partitioning=["country", "year"], partitioning_flavor="hive")


def _with_pandas(rows: pa.Table, folder: Path) -> None:
    rows.to_pandas().to_parquet(folder, partition_cols=["country", "year"])


def _with_duckdb(rows: pa.Table, folder: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    duckdb.from_arrow(rows).write_parquet(str(folder), partition_by=["country", "year"])


def _with_polars(rows: pa.Table, folder: Path) -> None:
    pl = pytest.importorskip("polars")
    pl.from_arrow(rows).write_parquet(folder, partition_by=["country", "year"])


@pytest.mark.parametrize("write", [_with_arrow, _with_pandas, _with_duckdb, _with_polars])
def test_what_the_programs_themselves_write(disk: Any, write: Callable[[pa.Table, Path], None]) -> None:
    lq = disk.query()
    folder = Path(lq.lake.storage.location(f"{DIRECTORY}/t"))
    folder.parent.mkdir(parents=True)
    columns = {"X": [1, 2, 3], "country": ["BR", "São Paulo/x", "a:b"], "year": [2024, 2024, 2025]}
    write(pa.table(columns), folder)
    assert lq.list_tables() == ["t"]
    assert lq.scan("t", ["X", "country", "year"]).sort_by("X").to_pydict() == columns


def test_values_of_folders(rig: Any) -> None:
    storage = rig.storage()
    folders = {
        "day=2024-02-29/month=2024-02/n=01/code=007/city=S%C3%A3o Paulo": 1,
        "day=2024-03-31/month=2024-03/n=-5/code=42/city=__HIVE_DEFAULT_PARTITION__": 2,
        "day=2024-03-31/month=2024-03/n=12/code=43/city=a%2Fb%3Ac": 3,
    }
    for folder, value in folders.items():
        put(storage, f"t/{folder}/part-0.parquet", {"X": [value]})
    data = rig.query().scan("t")
    assert data.schema.field("day").type == pa.timestamp("us")
    assert [data.schema.field(name).type for name in ("month", "code", "city")] == [pa.string()] * 3
    assert data.sort_by("X").drop_columns("day").to_pydict() == {
        "X": [1, 2, 3],
        "month": ["2024-02", "2024-03", "2024-03"],
        "n": [1, -5, 12],
        "code": ["007", "42", "43"],
        "city": ["São Paulo", None, "a/b:c"],
    }
    lq = rig.query()
    assert lq.get_table("t", where="day = 2024-03-31")["X"].tolist() in ([2, 3], [3, 2])
    assert lq.get_table("t", where="city is null")["X"].tolist() == [2]
    assert lq.get_table("t", where="n between 1 and 12")["X"].tolist() in ([1, 3], [3, 1])


def test_a_month_that_is_not_named_as_ours(rig: Any) -> None:
    put(rig.storage(), "t/month=2024-01/part-0.parquet", {"X": [1]})
    assert rig.query().get_table("t").to_dict("list") == {"X": [1], "month": ["2024-01"]}


@pytest.mark.parametrize(("column", "values"), [("year", [2024, 2025]), ("month", ["2024-01", "2024-02"])])
def test_files_of_another_program_that_are_named_as_ours(rig: Any, column: str, values: list[Any]) -> None:
    storage = rig.storage()
    for number, value in enumerate(values):
        put(storage, f"t/{column}={value}/data.parquet", {"Key": ["a"], "X": [number]})
    lq = rig.query()
    assert lq.list_tables() == ["t"]
    expected = {"Key": ["a", "a"], "X": [0, 1], column: values}
    assert lq.get_table("t").to_dict("list") == expected
    assert lq.sql("select * from t").df().to_dict("list") == expected
    assert lq.get_table("t", where={column: values[1]})["X"].tolist() == [1]
    assert not [finding for finding in audit(lq.lake, declared={}).findings if finding.severity == "error"]
    rows = pd.DataFrame({"Date": pd.to_datetime(["2024-02-29"]), "Key": ["a"], "X": [2]})
    for work in (
        lambda: incremental_load(lq, "t", rows),
        lambda: incremental_load(lq, "t", rows.drop(columns="Date"), unique_columns=["Key"], increment_column=None),
        lambda: optimize(lq.lake.table("t")),
    ):
        with pytest.raises(ForeignTableError):
            work()
    archived = archive(lq.lake.table("t"), lq.lake.now())
    assert lq.list_tables() == []
    path = f"{archived.folder}/{DIRECTORY}/t"
    assert read_for(lq.lake, "t", path).rows.to_dict("list") == expected
    restore(lq.lake.table("t"), lq.lake.now())
    assert rig.query().get_table("t").to_dict("list") == expected


def test_files_with_other_columns(rig: Any) -> None:
    storage = rig.storage()
    put(storage, "t/part-0.parquet", {"X": [1], "Name": ["a"], "Day": pa.array([20_000], pa.date32())})
    put(storage, "t/part-1.parquet", {"Name": pa.array(["b"]).dictionary_encode(), "Y": [True], "X": [1.5]})
    put(storage, "t/part-2.parquet", {"X": pa.array([3], pa.int16()), "Y": pa.nulls(1)})
    lq = rig.query()
    frame = lq.get_table("t").sort_values("X")
    assert frame["X"].tolist() == [1.0, 1.5, 3.0]
    assert frame["Name"].fillna("–").tolist() == ["a", "b", "–"]
    assert frame["Day"].dt.strftime("%F").fillna("–").tolist() == ["2024-10-04", "–", "–"]
    assert frame["Y"].isna().tolist() == [True, False, True]
    assert lq.get_table("t", columns="X", where="Name is null")["X"].tolist() == [3.0]
    assert lq.get_table("t", columns="Name", where="X > 1")["Name"].fillna("–").tolist() == ["b", "–"]
    with pytest.raises(SchemaError, match="no column 'Z'"):
        lq.get_table("t", columns="Z")


@pytest.mark.parametrize(
    ("path", "columns", "named"),
    [
        ("t/year=2025/b.parquet", {"X": ["text"]}, "'X'.*string in year=2025/b.parquet, int64 in year=2024/a.parquet"),
        ("t/year=text/part-1.parquet", {"X": [1]}, None),
        (
            "t/Key=text/part-1.parquet",
            {"X": [1]},
            "'Key'.*'text' in Key=text/part-1.parquet, int64 in year=2024/a.parquet",
        ),
    ],
)
def test_types_that_do_not_go_together(rig: Any, path: str, columns: dict[str, Any], named: str | None) -> None:
    storage = rig.storage()
    put(storage, "t/year=2024/a.parquet", {"X": [1], "Key": [1]})
    put(storage, path, columns)
    lq = rig.query()
    if named is None:
        assert set(lq.get_table("t")["year"]) == {"2024", "text"}
        return
    with pytest.raises(SchemaError, match=named):
        lq.get_table("t")


def test_a_column_of_folders_that_some_files_have_too(rig: Any) -> None:
    storage = rig.storage()
    put(storage, "t/year=2024/a.parquet", {"X": [1], "year": pa.array([2024], pa.int32())})
    put(storage, "t/year=2025/a.parquet", {"X": [2]})
    frame = rig.query().get_table("t").sort_values("X")
    assert frame["year"].tolist() == [2024, 2025]


def test_a_legacy_folder_is_read_by_the_conventions(rig: Any) -> None:
    storage = rig.storage()
    put(storage, "hist_px_last/Date=2026-10-30/part-0.parquet", {"Asset": ["a", "b"], "Last_Price": ["1.5", "nan"]})
    put(storage, "hist_px_last/Date=2026-10-29/part-0.parquet", {"Asset": ["A"], "Last_Price": ["1.25"]})
    lq = rig.query()
    frame = lq.get_table("hist_px_last")
    assert frame.dtypes.astype(str).to_dict()["Date"] == "datetime64[us]"
    assert lq.get_prices(["a"], "2026-10-30", "2026-10-29")["Last_Price"].tolist() == [1.25, 1.5]
    assert frame["Last_Price"].isna().sum() == 1


def test_prices_sql_and_description(rig: Any) -> None:
    storage = rig.storage()
    days = pd.to_datetime(["2026-10-29", "2026-10-30"])
    for asset, price in (("a", 1.0), ("b", 2.0)):
        put(storage, f"hist_px_last/Asset={asset}/part-0.parquet", {"Date": days, "Last_Price": [price, price + 1]})
    lq = rig.query()
    assert lq.get_price("b", "2026-10-30") == 3.0
    assert lq.sql("select sum(Last_Price) as s from hist_px_last where Asset = 'b'").df()["s"].tolist() == [5.0]
    description = lq.describe("hist_px_last")
    assert (description.layout, description.files, description.rows) == ("folder", 2, 4)
    assert (description.first, description.last) == ("2026-10-29", "2026-10-30")
    assert description.columns["Column"].tolist() == ["Date", "Last_Price", "Asset"]
    assert description.columns["Null_Share"].tolist() == [0, 0, 0]


def test_where_a_file_is_ours_the_others_are_strays(rig: Any, caplog: pytest.LogCaptureFixture) -> None:
    storage = rig.storage()
    put(storage, "t/month=2024-01/data.parquet", {"Date": pd.to_datetime(["2024-01-31"]), "X": [1]})
    put(storage, "t/month=2024-01/part-0.parquet", {"Date": pd.to_datetime(["2024-01-31"]), "X": [2]})
    with caplog.at_level(logging.WARNING, "luxor_pipelines"):
        assert rig.query().get_table("t")["X"].tolist() == [1]
    assert "month=2024-01/part-0.parquet" in caplog.text
    assert "not read" in caplog.text


def test_files_of_a_folder_that_are_not_read_are_named(rig: Any, caplog: pytest.LogCaptureFixture) -> None:
    storage = rig.storage()
    put(storage, "t/part-0.parquet", {"X": [1]})
    put(storage, "t/extra.parquet", {"X": [2]})
    with caplog.at_level(logging.WARNING, "luxor_pipelines"):
        assert rig.query().get_table("t")["X"].tolist() == [1]
    assert "t/extra.parquet" in caplog.text
    assert "not read" in caplog.text


@pytest.mark.parametrize(
    ("mark", "kind", "name"),
    [
        ("_delta_log/00000000000000000000.json", "delta", "a Delta table"),
        ("metadata/v1.metadata.json", "iceberg", "an Iceberg table"),
    ],
)
def test_formats_with_a_log_are_named_and_not_read(rig: Any, mark: str, kind: str, name: str) -> None:
    storage = rig.storage()
    put(storage, "t/part-0.parquet", {"X": [1]})
    storage.write(f"{DIRECTORY}/t/{mark}", b"{}")
    put(storage, "other.parquet", {"X": [1]})
    lq = rig.query()
    assert lq.list_tables() == ["other", "t"]
    for work in (
        lambda: lq.get_table("t"),
        lambda: lq.describe("t"),
        lambda: incremental_load(lq, "t", pd.DataFrame({"Date": pd.to_datetime(["2024-01-31"]), "X": [1]})),
        lambda: save_table("t", pd.DataFrame({"X": [1]}), lq=lq, mode="replace"),
        lambda: optimize(lq.lake.table("t")),
    ):
        with pytest.raises(ForeignTableError, match=name) as caught:
            work()
        assert caught.value.kind == kind
        assert "luxor load t" in caught.value.hint
    assert [(finding.severity, finding.table) for finding in audit(lq.lake, declared={}).findings] == [("error", "t")]
    assert [info.path for info in storage.list(f"{DIRECTORY}/t")] == sorted(
        [f"{DIRECTORY}/t/part-0.parquet", f"{DIRECTORY}/t/{mark}"]
    )


def test_a_hudi_table_is_known_by_its_columns(rig: Any) -> None:
    """Its log lies in a folder that listings hide, and a row that was updated is in two of its files."""
    for number in (1, 2):
        put(rig.storage(), f"t/day=1/{number}.parquet", {"_hoodie_commit_time": ["2024"], "X": [number]})
    lq = rig.query()
    with pytest.raises(ForeignTableError, match="a Hudi table"):
        lq.get_table("t")
    assert lq.list_tables() == ["t"]
    assert [finding.what for finding in audit(lq.lake, declared={}).findings] == [
        "is in a format whose files are not read"
    ]


def test_a_folder_is_not_written(rig: Any) -> None:
    storage = rig.storage()
    put(storage, "t/country=BR/part-0.parquet", {"Date": pd.to_datetime(["2024-01-31"]), "X": [1]})
    lq = rig.query()
    before = [*storage.list(DIRECTORY)]
    rows = pd.DataFrame({"Date": pd.to_datetime(["2024-01-31"]), "X": [1]})
    for work in (
        lambda: incremental_load(lq, "t", rows),
        lambda: incremental_load(lq, "t", rows, unique_columns=["X"], increment_column=None),
        lambda: save_table("t", rows, lq=lq),
        lambda: save_table("t", rows, lq=lq, mode="replace"),
        lambda: optimize(lq.lake.table("t"), layout="month"),
    ):
        with pytest.raises(ForeignTableError, match="another program wrote") as caught:
            work()
        assert "luxor archive t" in caught.value.hint
        assert "luxor load t archive/" in caught.value.hint
    assert [*storage.list(DIRECTORY)] == before
    assert save_table("t", rows, lq=lq, mode="skip").changed is False


def test_the_two_folders_of_one_name(rig: Any) -> None:
    storage = rig.storage()
    put(storage, "t/part-0.parquet", {"X": [1]})
    put(storage, "t.parquet/part-0.parquet", {"X": [2]})
    with pytest.raises(SchemaError, match="lies there twice"):
        rig.query().get_table("t")


@pytest.mark.azurite
def test_an_empty_blob_that_marks_the_folder(make_rig: Any) -> None:
    rig = make_rig("azurite")
    storage = rig.storage()
    put(storage, "t.parquet/part-0.parquet", {"X": [1]})
    storage.write(f"{DIRECTORY}/t.parquet", b"")
    storage.write(f"{DIRECTORY}/other/month=2024-01/data.parquet", b"")
    lq = rig.query()
    assert lq.list_tables() == ["t"]
    assert lq.get_table("t")["X"].tolist() == [1]
    lq.update()
    assert lq.get_table("t")["X"].tolist() == [1]


def test_a_folder_that_has_no_data_is_no_table(rig: Any) -> None:
    storage = rig.storage()
    storage.write(f"{DIRECTORY}/t/_SUCCESS", b"")
    storage.write(f"{DIRECTORY}/t/part-0.parquet", b"")
    storage.write(f"{DIRECTORY}/t/readme.txt", b"x")
    put(storage, "t/backup/part-0.parquet", {"X": [1]})
    put(storage, "t/_old/part-0.parquet", {"X": [1]})
    lq = rig.query()
    assert lq.list_tables() == []
    with pytest.raises(TableNotFoundError):
        lq.get_table("t")


def test_a_folder_of_tables_is_no_table(rig: Any) -> None:
    lq = rig.query()
    for name in ("one", "two"):
        save_table(name, pd.DataFrame({"X": [1]}), lq=lq, directory=f"{DIRECTORY}/projects")
    assert lq.list_tables() == []
    assert not lq.table_exists("projects")


def test_a_table_that_a_load_begins_meanwhile_is_not_taken_for_another_programs(rig: Any) -> None:
    """The load comes right after the table's folder was listed."""

    class Begun:
        def __init__(self, storage: Storage) -> None:
            self._storage = storage

        def __getattr__(self, name: str) -> Any:
            return getattr(self._storage, name)

        def list(self, path: str, **options: Any) -> Any:
            listed = self._storage.list(path, **options)
            put(self._storage, "t/month=2024-01/data.parquet", {"Date": pd.to_datetime(["2024-01-31"]), "X": [1]})
            return listed

    storage = rig.storage()
    assert Table(Begun(storage), "t").find() is None  # type: ignore[arg-type]
    assert Table(storage, "t").snapshot().layout == "month"


def test_files_that_are_replaced_while_they_are_read(rig: Any) -> None:
    """All files of the folder are looked at again, so that what is read is what one listing named."""
    storage = rig.storage()
    put(storage, "t/part-0.parquet", {"X": [1]})
    put(storage, "t/part-1.parquet", {"X": [1]})
    table = Table(storage, "t")
    snapshot = table.snapshot()
    put(storage, "t/part-0.parquet", {"X": [2], "Y": ["new"]})
    storage.delete(f"{DIRECTORY}/t/part-1.parquet")
    scan = table.scan(snapshot=snapshot)
    assert scan.data.to_pydict() == {"X": [2], "Y": ["new"]}
    assert scan.snapshot == table.snapshot() != snapshot
    lq = rig.query()
    assert len(lq.get_table("t")) == 1
    put(storage, "t/part-2.parquet", {"X": [3]})
    assert lq.update() == ["t"]
    assert lq.get_table("t")["X"].tolist() == [2, 3]
