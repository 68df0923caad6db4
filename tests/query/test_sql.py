"""`LuxorQuery.sql`, `scan`, `filesystem` and `paths`."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from luxor_pipelines import LuxorQuery, incremental_load, save_table
from luxor_pipelines.cli import main
from luxor_pipelines.errors import ConfigurationError, CorruptFileError, TableNotFoundError, UsageError
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.storage.local import LocalStorage
from luxor_pipelines.lake.types.schema import Column, TableSchema
from luxor_pipelines.query.sql import run_sql
from luxor_pipelines.settings import Settings

pytest.importorskip("duckdb")
pl = pytest.importorskip("polars")

MONTHLY = TableSchema(
    name="hist", version=1, key=("Date", "Asset"), partition="month",
    columns=(Column("Date", "date", False), Column("Asset", "text", False), Column("Last_Price", "number")),
)  # fmt: skip
DAYS = pd.bdate_range("2024-01-01", "2024-06-28")


def prices() -> pd.DataFrame:
    rows = len(DAYS)
    return pd.DataFrame(
        {
            "Date": np.repeat(DAYS.to_numpy(), 3),
            "Asset": ["a", "b", "c"] * rows,
            "Last_Price": np.where(np.arange(3 * rows) % 10, np.arange(3.0 * rows), np.nan),
        }
    )


@pytest.fixture
def lq(rig: Any) -> LuxorQuery:
    query = rig.query()
    incremental_load(query, "hist", prices(), schema=MONTHLY)
    save_table("assets", pd.DataFrame({"Key": ["a", "b"], "Name": ["Álpha", "Beta"]}), lq=query)
    return query


def test_an_aggregate_is_pandas(lq: LuxorQuery) -> None:
    found = lq.sql(
        "SELECT Asset, avg(Last_Price) AS Mean, count(*) AS Rows FROM hist "
        "WHERE Date BETWEEN '2024-02-01' AND '2024-02-29' GROUP BY Asset ORDER BY Asset"
    ).df()
    frame = prices()
    frame = frame[frame["Date"].between("2024-02-01", "2024-02-29")]
    groups = frame.groupby("Asset")["Last_Price"]
    np.testing.assert_allclose(found["Mean"], groups.mean())
    assert found["Rows"].tolist() == groups.size().tolist()


def test_tables_join_whatever_the_case_of_their_names(lq: LuxorQuery) -> None:
    found = lq.sql('SELECT DISTINCT Name FROM HIST JOIN "assets" ON Asset = Key WHERE Asset = $x', {"x": "a"})
    assert found.df()["Name"].tolist() == ["Álpha"]
    assert len(found) == 1
    assert "Álpha" in repr(found)
    assert "Álpha" in found._repr_html_()


def test_a_result_is_a_frame_an_arrow_table_and_a_polars_frame(lq: LuxorQuery) -> None:
    found = lq.sql("SELECT *, 1 AS n, sum(7) OVER () AS s FROM hist WHERE Last_Price IS NULL")
    frame = found.df()
    stored = lq.get_table("hist", drop_last_updated_columns=False)
    expected = stored[stored["Last_Price"].isna()].reset_index(drop=True)
    pd.testing.assert_frame_equal(frame[["Date", "Asset", "Last_Price"]], expected[["Date", "Asset", "Last_Price"]])
    assert frame["s"].dtype == "int64"
    assert found.arrow().num_rows == len(found.pl()) == len(frame)
    assert pl.DataFrame(found).equals(found.pl())


def test_a_subquery_may_have_the_name_of_no_table(lq: LuxorQuery) -> None:
    found = lq.sql(
        "WITH t AS (SELECT max(Date) AS d FROM hist) SELECT Asset FROM hist JOIN t ON Date = d WHERE Asset > ?", ["a"]
    )
    assert sorted(found.df()["Asset"]) == ["b", "c"]
    assert lq.sql("VALUES (1), (2)").df().iloc[:, 0].tolist() == [1, 2]


def test_columns_have_the_types_of_tables_and_names_of_their_own(disk: Any) -> None:
    frame = (
        disk.query()
        .sql("SELECT DATE '2024-01-31' AS d, 1.5 AS x, 2 AS x, 3 AS x_1, sum(7) AS s, 10::HUGEINT ** 30 AS w")
        .df()
    )
    assert frame.columns.tolist() == ["d", "x", "x_1", "x_1_1", "s", "w"]
    assert frame.iloc[0].tolist() == [pd.Timestamp("2024-01-31"), 1.5, 2, 3, 7, 1e30]
    assert frame["d"].dtype == "datetime64[us]"


def test_queries_see_nothing_of_one_another(lq: LuxorQuery, make_rig: Any) -> None:
    other = make_rig("memory").query()
    save_table("only_here", pd.DataFrame({"x": [1.0]}), lq=other)
    assert len(other.sql("SELECT * FROM only_here")) == 1
    with pytest.raises(TableNotFoundError, match="only_here"):
        lq.sql("SELECT * FROM only_here")
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(lq.sql, "SELECT count(*) FROM hist") for _ in range(8)]
        asked += [pool.submit(other.sql, "SELECT count(*) FROM only_here") for _ in range(8)]
        counts = [each.result().df().iloc[0, 0] for each in asked]
    assert counts == [len(prices())] * 8 + [1] * 8


# --- pushed down -----------------------------------------------------------------------------


class CountingStorage(LocalStorage):
    """A lake in a folder that counts the bytes that are read of its files."""

    count = 0

    @contextmanager
    def _open(self, info: Any) -> Iterator[Any]:
        with super()._open(info) as reader:
            yield _CountingReader(self, reader)


class _CountingReader:
    def __init__(self, storage: CountingStorage, reader: Any) -> None:
        self._storage, self._reader = storage, reader

    def source(self) -> Any:
        return _CountingFile(self._storage, self._reader.source())

    def prefetch(self, ranges: Any) -> None:
        self._reader.prefetch(ranges)


class _CountingFile:
    def __init__(self, storage: CountingStorage, file: Any) -> None:
        self._storage, self._file = storage, file

    def read_buffer(self, size: int) -> Any:
        data = self._file.read_buffer(size)
        self._storage.count += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.fixture
def large(tmp_path: Path) -> tuple[CountingStorage, int]:
    """A year of prices, a row group every ten days, and the file's size."""
    days = pd.bdate_range("2024-01-01", "2024-12-31", unit="us")
    rng = np.random.default_rng(0)
    data = {name: rng.random(1000 * len(days)) for name in ("Last_Price", "Other", "Third")}
    frame = pd.DataFrame({"Date": days.repeat(1000), "Asset": [f"s{n:03d}" for n in range(1000)] * len(days), **data})
    path = tmp_path / "enriched" / "parquet" / "big.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, row_group_size=10_000)
    return CountingStorage(tmp_path, Settings()), path.stat().st_size


@pytest.mark.parametrize(
    ("query", "share"),
    [
        ("SELECT * FROM big", 1.0),
        ("SELECT avg(Last_Price) FROM big", 1 / 3),
        ("SELECT avg(Last_Price) FROM big WHERE Date BETWEEN '2024-03-01' AND '2024-03-31'", 1 / 20),
        ("SELECT Last_Price FROM big WHERE Date = '2024-03-01' AND Asset IN ('s001', 's002')", 1 / 40),
        ("SELECT count(*) FROM big WHERE Date > '2024-12-30'", 1 / 40),
    ],
)
def test_columns_and_conditions_decide_what_is_read(
    large: tuple[CountingStorage, int], query: str, share: float
) -> None:
    storage, size = large
    footer = 70_000
    run_sql(Lake(storage), query)
    assert storage.count <= size * share + footer
    assert storage.count >= size * share / 4


def test_the_same_question_is_answered_from_memory(large: tuple[CountingStorage, int]) -> None:
    lake = Lake(large[0])
    run_sql(lake, "SELECT avg(Last_Price) FROM big WHERE Date > '2024-06-01'")
    before = large[0].count
    run_sql(lake, "SELECT max(Last_Price) FROM big WHERE Date > '2024-06-01'")
    assert large[0].count == before


CONDITIONS = st.sampled_from(
    [
        "Date >= '2024-02-01'",
        "Date < '2024-02-15'",
        "Date = DATE '2024-02-05'",
        "Date IN ('2024-02-05', '2024-03-05')",
        "Asset = 'a'",
        "Asset IN ('a', 'z', 'c')",
        "Asset NOT IN ('a')",
        "Asset > 'a'",
        "Asset LIKE 'b%'",
        "upper(Asset) = 'A'",
        "Last_Price > 30.5",
        "Last_Price <= 100",
        "Last_Price = 51",
        "Last_Price <> 51",
        "Last_Price IS NULL",
        "Last_Price IS NOT NULL",
        "(Asset = 'b' OR Last_Price < 50)",
        "Last_Price BETWEEN 20 AND 200",
        "NOT (Asset = 'b')",
        "month(Date) = 3",
    ]
)


@pytest.fixture(scope="module")
def typed_and_text(tmp_path_factory: pytest.TempPathFactory) -> LuxorQuery:
    """One content as typed months and as a legacy file of text."""
    query = LuxorQuery(lake=tmp_path_factory.mktemp("lake"))
    incremental_load(query, "hist", prices(), schema=MONTHLY)
    text = prices().astype(str).assign(Last_Updated="2024-07-01 00:00:00")
    file = tmp_path_factory.getbasetemp() / "text.parquet"
    pq.write_table(pa.Table.from_pandas(text, preserve_index=False), file)
    query.lake.storage.write("enriched/parquet/hist_text.parquet", file.read_bytes())
    return query


@examples(max_examples=60, deadline=None)
@given(parts=st.lists(CONDITIONS, min_size=1, max_size=3), table=st.sampled_from(["hist", "hist_text"]))
def test_what_is_pushed_down_changes_no_answer(typed_and_text: LuxorQuery, parts: list[str], table: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    where = " AND ".join(parts)
    rows = typed_and_text.scan("hist_text" if table == "hist_text" else "hist")  # all of it
    with duckdb.connect() as connection:
        connection.register("t", rows)
        expected = connection.sql(f"SELECT Date, Asset, Last_Price FROM t WHERE {where} ORDER BY ALL").to_arrow_table()
    found = typed_and_text.sql(f"SELECT Date, Asset, Last_Price FROM {table} WHERE {where} ORDER BY ALL").arrow()
    assert found.to_pylist() == expected.to_pylist()


# --- what SQL cannot reach -------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM '{file}'",
        "SELECT * FROM read_parquet('{file}')",
        "SELECT * FROM parquet_scan('{file}')",
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_json('{file}')",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM parquet_metadata('{file}')",
        "SELECT * FROM sniff_csv('{file}')",
        "SELECT * FROM query('SELECT * FROM read_parquet(''{file}'')')",
        "SELECT * FROM query_table('{file}')",
        "SELECT (SELECT count(*) FROM '{file}')",
        "WITH t AS (SELECT * FROM '{file}') SELECT * FROM t",
        "SELECT * FROM sqlite_scan('{file}', 't')",
        "SELECT * FROM postgres_scan('host=localhost', 'a', 'b')",
        "SELECT * FROM read_csv('http://localhost:1/x.csv')",
        "SELECT * FROM 's3://bucket/x.parquet'",
        "SELECT * FROM secret_frame",
        "SELECT getenv('HOME')",
        "COPY hist TO '{folder}/out.csv'",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "EXPORT DATABASE '{folder}/out'",
        "IMPORT DATABASE '{folder}'",
        "ATTACH '{folder}/out.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CREATE TABLE t AS SELECT 1",
        "CREATE SECRET s (TYPE s3)",
        "INSERT INTO hist VALUES (1)",
        "UPDATE hist SET Last_Price = 1",
        "DELETE FROM hist",
        "DROP VIEW hist",
        "SET enable_external_access = true",
        "RESET enable_external_access",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "SELECT 1; COPY (SELECT 1) TO '{folder}/out.csv'",
        "SELECT 1; SELECT 2",
        "SELEC 1",
        "SELECT * FROM hist WHERE Nothing = 1",
        "SELECT * FROM hist WHERE Asset = ?",
        "",
    ],
)
def test_nothing_else_can_be_reached(disk: Any, tmp_path: Path, query: str) -> None:
    lq = disk.query()
    incremental_load(lq, "hist", prices(), schema=MONTHLY)
    secret_frame = pd.DataFrame({"a": [1]})
    file = tmp_path / "secret.parquet"
    secret_frame.to_parquet(file)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((UsageError, TableNotFoundError)) as caught:
        lq.sql(query.format(file=file.as_posix(), folder=tmp_path.as_posix()))
    assert caught.value.hint
    assert sorted(tmp_path.rglob("*")) == before


def test_no_file_is_made_in_the_working_directory(
    lq: LuxorQuery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    lq.sql("SELECT * FROM hist ORDER BY Last_Price")
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and "enriched" not in path.parts] == []


def test_a_table_that_is_not_there_is_named(lq: LuxorQuery) -> None:
    with pytest.raises(TableNotFoundError, match="nothere"):
        lq.sql("SELECT * FROM nothere")


def test_an_error_of_the_lake_comes_out_as_itself(disk: Any) -> None:
    lq = disk.query()
    save_table("hist", prices(), lq=lq)
    path = "enriched/parquet/hist.parquet"
    data = bytearray(lq.lake.storage.read(path).data)
    data[8:2000] = bytes(1992)
    lq.lake.storage.write(path, bytes(data))
    with pytest.raises(CorruptFileError):
        lq.sql("SELECT sum(Last_Price) FROM hist")


def test_without_the_extra_it_is_said_what_to_install(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lq = disk.query()
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigurationError, match="SQL needs duckdb") as caught:
        lq.sql("SELECT 1")
    assert "luxor-pipelines[sql]" in caught.value.hint


# --- Arrow and files -------------------------------------------------------------------------


def test_scan_is_the_table_in_arrow(lq: LuxorQuery) -> None:
    found = lq.scan("hist", ["Asset", "Last_Price"], {"Date": ("2024-02-01", "2024-02-29"), "Asset": ["a", "B "]})
    frame = lq.get_table(
        "hist", columns=["Asset", "Last_Price"], where={"Date": ("2024-02-01", "2024-02-29"), "Asset": ["a", "b"]}
    )
    assert found.column_names == ["Asset", "Last_Price"]
    assert found["Last_Price"].to_pylist() == [None if np.isnan(price) else price for price in frame["Last_Price"]]
    assert lq.scan("hist", "Asset").column_names == ["Asset"]
    assert sum(map(len, lq.scan("hist").to_batches())) == len(prices())


def test_polars_and_duckdb_take_a_scan_without_a_copy(lq: LuxorQuery) -> None:
    duckdb = pytest.importorskip("duckdb")
    rows = lq.scan("hist", ["Date", "Last_Price"]).combine_chunks()
    taken = pl.from_arrow(rows)["Last_Price"]
    address = rows["Last_Price"].chunk(0).buffers()[1].address
    assert taken.to_arrow().buffers()[1].address == address
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        assert connection.sql("SELECT count(*) FROM rows").fetchall() == [(len(prices()),)]


def test_files_can_be_read_by_who_wants_them(lq: LuxorQuery) -> None:
    paths = lq.paths("hist")
    assert [path.rsplit("/", 2)[1] for path in paths] == [f"month=2024-0{n}" for n in range(1, 7)]
    tables = []
    for path in paths:
        with lq.filesystem.open(path) as file:
            tables.append(pq.read_table(file))
    assert sum(map(len, tables)) == len(prices())
    assert len(lq.paths("assets")) == 1
    with pytest.raises(TableNotFoundError):
        lq.paths("nothere")


# --- the command -----------------------------------------------------------------------------


@pytest.fixture
def luxor(disk: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    query = disk.query()
    frame = pd.DataFrame({"Date": ["2024-01-02"] * 2, "Asset": ["=1+1", "b"], "Last_Price": [1.5, None]})
    save_table("hist", frame.astype({"Date": "datetime64[us]"}), lq=query)

    def run(*arguments: str, code: int = 0) -> str:
        assert main(["sql", *arguments, "--lake", disk.arguments["lake"]]) == code
        out, err = capsys.readouterr()
        return out if code == 0 else err

    return run


QUERY = "SELECT Date, Asset, Last_Price FROM hist ORDER BY Asset"


def test_luxor_sql_prints_a_table_csv_or_json(luxor: Callable[..., str]) -> None:
    assert luxor(QUERY).split() == ["Date", "Asset", "Last_Price", "2024-01-02", "=1+1", "1.5", "2024-01-02", "b", "–"]
    assert luxor(QUERY, "--csv").splitlines()[0] == "Date,Asset,Last_Price"
    found = json.loads(luxor(QUERY, "--json"))
    assert found["schema_version"] == 1
    assert found["rows"][1] == {"Date": "2024-01-02", "Asset": "b", "Last_Price": None}


def test_luxor_sql_writes_a_workbook_without_formulas(luxor: Callable[..., str], tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    file = tmp_path / "rows.xlsx"
    assert luxor(QUERY, "--xlsx", str(file)) == ""
    sheet = openpyxl.load_workbook(file).active
    cells = [[(cell.value, cell.data_type) for cell in row] for row in sheet.iter_rows()]
    assert cells[1] == [(datetime(2024, 1, 2), "d"), ("=1+1", "s"), (1.5, "n")]
    assert cells[2][2][0] is None


def test_luxor_sql_reads_stdin_and_refuses_what_is_wrong(
    luxor: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 1 AS One"))
    assert luxor("-").split() == ["One", "1"]
    assert "SELECT" in luxor("DROP TABLE hist", code=2)
    assert "one of them" in luxor(QUERY, "--csv", "--xlsx", "x.xlsx", code=2)
    assert "cannot be written" in luxor(QUERY, "--xlsx", str(tmp_path / "no" / "x.xlsx"), code=2)
