"""Beside the old library: one file for its readers, a file of its own that hides months, and its table of returns."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luxor_pipelines import LuxorQuery, incremental_load, save_table
from luxor_pipelines.catalog import HIST_FILE_PX_LAST
from luxor_pipelines.cli import main
from luxor_pipelines.errors import DataError, SchemaError, UsageError
from luxor_pipelines.operations.runs import run
from luxor_pipelines.sources.old_returns import long_returns

SEPTEMBER, OCTOBER = "2025-09-30", "2025-10-31"
PATH = "enriched/parquet/hist_returns"
OLD = {
    "Date": ["2025-08-31", "2025-08-31", SEPTEMBER],
    "Key": ["fund", "other", "fund"],
    "Asset": ["fund", "other", "fund"],
    "Currency": ["brl", "local", "brl"],
    "mtd": ["0.0", "0.01", "-0.02"],
    "qtr": ["nan", "0.02", "0.03"],
    "ytd": ["None", "0.03", "0.04"],
    "12m": ["0.1", "0.04", "0.05"],
    "24m": ["0.2", "0.05", "0.06"],
    "36m": ["0.3", "0.06", "0"],
}
Luxor = Callable[..., tuple[str, str]]


@pytest.fixture
def lq(disk: Any) -> LuxorQuery:
    """A lake of one asset with prices."""
    query: LuxorQuery = disk.query()
    assets = {"Key": ["fund"], "Name": ["Fund"], "Ticker_BBG": ["fund"], "Location": ["us"]}
    save_table("assets", pd.DataFrame(assets), lq=query)
    prices = pd.DataFrame({"Date": pd.bdate_range("2022-08-29", "2025-11-28"), "Asset": "fund", "Last_Price": 100.0})
    incremental_load(query, HIST_FILE_PX_LAST.name, prices, schema=HIST_FILE_PX_LAST)
    return query


@pytest.fixture
def luxor(disk: Any, lq: LuxorQuery, capsys: pytest.CaptureFixture[str]) -> Luxor:
    """Runs a command on that lake and returns what it prints, on stdout and on stderr."""
    assert lq

    def command(text: str, code: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        got = main([*text.split(), "--lake", disk.arguments["lake"]])
        out, err = capsys.readouterr()
        assert got == code, err
        return out, " ".join(err.split())

    return command


def old_file(lq: LuxorQuery, path: str = f"{PATH}.parquet") -> None:
    """Write the old library's table as it does."""
    sink = io.BytesIO()
    pq.write_table(pa.table(OLD), sink)
    lq.lake.storage.write(path, sink.getvalue())


def layout(lq: LuxorQuery) -> str:
    return lq.lake.table("hist_returns").snapshot().layout


# --- the layout of a table that is new ----------------------------------------------------------


def test_a_new_table_is_one_file_if_it_is_told_so_and_stays_one(lq: LuxorQuery, luxor: Luxor) -> None:
    luxor(f"run hist_returns --ref-date {SEPTEMBER} --layout file --dry-run")
    assert not lq.table_exists("hist_returns")
    luxor(f"run hist_returns --ref-date {SEPTEMBER} --layout file")
    assert layout(lq) == "file"
    luxor(f"run hist_returns --ref-date {OCTOBER}")
    assert layout(lq) == "file"
    lq.update()
    assert sorted({str(day.date()) for day in lq.get_table("hist_returns")["Date"]}) == [SEPTEMBER, OCTOBER]
    told = luxor(f"run hist_returns --ref-date {OCTOBER} --layout declared", code=2)[1]
    assert "is there already, in one file" in told
    luxor("archive hist_returns --yes")
    luxor(f"run hist_returns --ref-date {OCTOBER} --layout declared")
    assert layout(lq) == "month"


def test_a_table_that_is_there_keeps_its_layout(lq: LuxorQuery) -> None:
    run("hist_returns", SEPTEMBER, lake=lq.lake)
    before = [info for folder in ("enriched", "system/runs") for info in lq.lake.storage.list(folder)]
    with pytest.raises(UsageError, match="is there already, by month") as caught:
        run("hist_returns", SEPTEMBER, lake=lq.lake, layout="file")
    assert "luxor archive hist_returns" in caught.value.hint
    assert [info for folder in ("enriched", "system/runs") for info in lq.lake.storage.list(folder)] == before
    run("hist_returns", OCTOBER, lq=lq, layout="declared")
    assert layout(lq) == "month"


def test_the_setting_is_for_every_new_table_of_pipelines(
    lq: LuxorQuery, luxor: Luxor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUXOR_LAYOUT", "file")
    luxor("backfill hist_returns --from 2025-09 --to 2025-10")
    assert layout(lq) == "file"
    assert lq.lake.table(HIST_FILE_PX_LAST.name).snapshot().layout == "year", "it was there"
    luxor("run hist_returns --ref-date 2025-10-31")
    monkeypatch.setenv("LUXOR_LAYOUT", "files")
    assert "LUXOR_LAYOUT is none of declared, file" in luxor("run hist_returns", code=3)[1]


# --- a file that hides months --------------------------------------------------------------------


def test_a_file_that_hides_months_is_told_wherever_the_table_is_asked_for(lq: LuxorQuery, luxor: Luxor) -> None:
    for month in (SEPTEMBER, OCTOBER):
        luxor(f"run hist_returns --ref-date {month}")
    luxor("tables")
    assert "lies there twice" not in luxor("returns")[1]
    old_file(lq)
    lines = [
        luxor("tables")[1],
        luxor("returns", code=1)[1],
        luxor(f"run hist_returns --ref-date {OCTOBER}", code=1)[1],
        json.loads(luxor("check hist_returns --json", code=1)[0])["findings"][0]["sample"],
    ]
    for line in lines:
        assert "Table hist_returns lies there twice: one file (3 rows, 2025-08-31 to 2025-09-30, written 20" in line
        assert "by parquet-cpp-arrow" in line
        assert "hides 2 months (36 rows, 2025-09 to 2025-10, written 20" in line
        assert "by luxor-pipelines). `luxor archive hist_returns --only file` moves that file aside." in line
        assert line.count("lies there twice") == 1
    luxor("archive hist_returns --only file --yes")
    assert "lies there twice" not in luxor("returns")[1]
    assert json.loads(luxor("returns --json")[0])["ref_date"] == OCTOBER


def test_a_file_of_our_columns_that_hides_months_is_loaded_with_a_warning(
    lq: LuxorQuery, luxor: Luxor, caplog: pytest.LogCaptureFixture
) -> None:
    run("hist_returns", SEPTEMBER, lake=lq.lake)
    data = lq.lake.storage.read(f"{PATH}/month=2025-09/data.parquet").data
    lq.lake.storage.write(f"{PATH}.parquet", data)
    run("hist_returns", OCTOBER, lake=lq.lake.fresh())
    assert "lies there twice" in caplog.text
    assert layout(lq) == "file"
    caplog.clear()
    lq.update()
    assert len(lq.get_hist_returns(OCTOBER))
    lq.list_tables()
    assert caplog.text.count("lies there twice") == 2


# --- the old library's returns --------------------------------------------------------------------


def test_old_returns_are_refused_in_words(lq: LuxorQuery, luxor: Luxor) -> None:
    old_file(lq)
    for wide in (True, False):
        with pytest.raises(DataError, match="the old library's, with a column a period") as caught:
            lq.get_hist_returns(wide=wide)
        assert "luxor backfill hist_returns" in caught.value.hint
    assert "luxor archive hist_returns" in luxor("returns", code=1)[1]
    assert "0.05" in luxor("show hist_returns")[0]


def test_old_returns_become_rows_that_claim_nothing(lq: LuxorQuery, luxor: Luxor) -> None:
    """The commands are those of docs/migration.md."""
    old_file(lq)
    (moved,) = luxor("archive hist_returns --yes")[0].split()
    luxor(f"run hist_returns --ref-date {SEPTEMBER}")
    ours = lq.get_hist_returns(SEPTEMBER)
    told = luxor(f"load hist_returns {moved} --dry-run")[1]
    assert "1 months are stored already and stay as they are: '2025-09-30'" in told
    assert "3 returns are 0 or missing" in told
    luxor(f"load hist_returns {moved}")
    lq.update()
    assert layout(lq) == "month"
    pd.testing.assert_frame_equal(lq.get_hist_returns(SEPTEMBER), ours)
    old = lq.get_hist_returns("2025-08-31")
    assert list(old.columns) == list(ours.columns)
    assert set(old["Status"]) == {"imported"}
    cells = old[old["Currency"] == "brl"].set_index("Period")["Return"]
    assert cells.dropna().to_dict() == {"12m": 0.1, "24m": 0.2, "36m": 0.3}
    assert cells.isna().sum() == 3, "0, nan and None alike"
    assert (
        old[["Base_Price", "End_Price", "Base_Date", "End_Date", "Price_Key", "Local_Currency"]].isna().all(axis=None)
    )
    shown = json.loads(luxor("returns --ref-date 2025-08-31 --currency local --json")[0])["rows"]
    assert (
        shown[0]["Status"] == "mtd: imported, qtr: imported, ytd: imported, 12m: imported, 24m: imported, 36m: imported"
    )
    assert "error" not in luxor("check hist_returns")[0], "that nothing is known of prices is a warning"
    assert "stay as they are" in luxor(f"load hist_returns {moved}", code=2)[1]
    luxor("run hist_returns --ref-date 2025-08-31")
    lq.update()
    assert "imported" not in set(lq.get_hist_returns("2025-08-31")["Status"])


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [
        ("Date", "2025-08-30", "no month's end; for instance 2025-08-30"),
        ("Date", None, "no month's end"),
        ("mtd", "five", "'mtd'.*'five'"),
    ],
)
def test_old_returns_that_are_none(column: str, value: str | None, named: str) -> None:
    wide = pd.DataFrame({name: [cells[0]] for name, cells in OLD.items()})
    wide.loc[0, column] = value
    with pytest.raises(SchemaError, match=named):
        long_returns(wide)
    with pytest.raises(SchemaError, match="no column 'Currency'"):
        long_returns(wide.drop(columns="Currency"))
    with pytest.raises(SchemaError, match="no column of a period"):
        long_returns(wide[["Date", "Key", "Currency"]])


def test_old_returns_with_types() -> None:
    wide = pd.DataFrame(
        {"Date": pd.to_datetime([SEPTEMBER]), "Key": ["a"], "Currency": ["usd"], "mtd": [0.5], "36m": [0]}
    )
    rows = long_returns(wide)
    assert rows["Period"].tolist() == ["mtd", "36m"]
    assert rows["Return"].fillna(-1).tolist() == [0.5, -1]


# --- a folder of another program -------------------------------------------------------------------


@pytest.mark.parametrize("pipeline", ["hist_returns", "holidays"])
def test_a_pipeline_does_not_write_a_folder_of_another_program(lq: LuxorQuery, luxor: Luxor, pipeline: str) -> None:
    table = {"holidays": "holidays_exchange"}.get(pipeline, pipeline)
    old_file(lq, f"enriched/parquet/{table}/part-0.parquet")
    told = luxor(f"run {pipeline}", code=1)[1]
    assert "is a folder of files that another program wrote" in told
    assert f"luxor archive {table}" in told
