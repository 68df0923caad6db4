"""A lake made, filled and described without Python, by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from luxor_pipelines import LuxorQuery
from luxor_pipelines.cli import main
from luxor_pipelines.errors import DataError, ForeignTableError, NotFoundError, SchemaError, UsageError
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.parquet.file import to_bytes
from luxor_pipelines.lake.table.layout import DIRECTORY
from luxor_pipelines.operations.files import create_lake, load_table_file, put_files, read_for

ASSETS = pd.DataFrame(
    {
        "Key": ["apple_aapl us equity", "petrobras_petr4 bz equity"],
        "Name": ["Apple", "Petrobras"],
        "Ticker_BBG": ["aapl us equity", "petr4 bz equity"],
        "Location": ["us", "bz"],
    }
)
PRICES = "Date,Asset,Last_Price\n2026-09-30,aapl us equity,100\n2026-10-30,aapl us equity,110\n"


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.chdir(tmp_path)
    return create_lake(tmp_path / "lake")


def test_from_an_empty_folder_to_a_table_of_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUXOR_LAKE_URL", "lake")
    ASSETS.to_excel("assets.xlsx", index=False)
    Path("prices.csv").write_text(PRICES, encoding="utf-8")
    assert main(["tables"]) == 3
    assert "luxor init" in capsys.readouterr().err
    for command in (
        "init", "load assets assets.xlsx", "put prices.csv raw/prices", "run market_prices",
        "run hist_returns --ref-date 2026-10-31",
    ):  # fmt: skip
        assert main(command.split()) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["returns", "--currency", "local", "--json"]) == 0
    (apple,) = [row for row in json.loads(capsys.readouterr().out)["rows"] if row["Key"].startswith("apple")]
    assert apple["mtd"] == pytest.approx(0.1)


def test_a_container_is_created_once_and_left_as_it_is(azurite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.connection_string)
    monkeypatch.setenv("LUXOR_CONTAINER", "brand-new-lake")
    first = create_lake()
    first.storage.write("raw/prices/a.csv", b"x")
    assert create_lake().storage.read("raw/prices/a.csv").data == b"x"


def test_files_are_put_once_and_replaced_only_if_told(lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"one")
    assert put_files(lake, [file], "raw/prices/") == {"raw/prices/a.csv": "new"}
    assert put_files(lake, [file], "raw/prices") == {"raw/prices/a.csv": "unchanged"}
    file.write_bytes(b"two")
    other = tmp_path / "b.csv"
    other.write_bytes(b"b")
    with pytest.raises(UsageError, match="other content"):
        put_files(lake, [other, file], "raw/prices")
    assert [info.path for info in lake.storage.list("raw")] == ["raw/prices/a.csv"], "nothing was written"
    assert put_files(lake, [other, file], "raw/prices", replace=True) == {
        "raw/prices/b.csv": "new",
        "raw/prices/a.csv": "replaced",
    }
    assert lake.storage.read("raw/prices/a.csv").data == b"two"


@pytest.mark.parametrize("folder", ["enriched/parquet", "raw", "system/runs", "raw/../system"])
def test_files_go_below_raw_only(lake: Lake, tmp_path: Path, folder: str) -> None:
    (tmp_path / "a.csv").write_bytes(b"x")
    with pytest.raises(UsageError):
        put_files(lake, [tmp_path / "a.csv"], folder)


def test_two_files_of_one_name_are_refused(lake: Lake, tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_bytes(folder.encode())
    with pytest.raises(UsageError, match="Several files"):
        put_files(lake, [tmp_path / "x" / "a.csv", tmp_path / "y" / "a.csv"], "raw/prices")


def test_rows_are_upserted_by_the_key_that_is_known(lake: Lake, tmp_path: Path) -> None:
    ASSETS.to_csv(tmp_path / "assets.csv", index=False)
    file = read_for(lake, "assets", tmp_path / "assets.csv")
    assert (file.mode, file.key) == ("upsert", ("Key",))
    assert load_table_file(lake, "assets", file).inserted == 2
    ASSETS.iloc[:1].assign(Name="Apple Inc.").to_csv(tmp_path / "more.csv", index=False)
    result = load_table_file(lake, "assets", read_for(lake, "assets", tmp_path / "more.csv"))
    assert (result.updated, result.deleted) == (1, 0)
    assert LuxorQuery(lake=lake).get_table("assets")["Name"].tolist() == ["Apple Inc.", "Petrobras"]


def test_text_in_a_price_tables_prices_is_refused_and_nothing_is_made(lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text('Date,Asset,Last_Price\n2026-10-30,a,"1,234"\n2026-10-30,b,2\n', encoding="utf-8")
    with pytest.raises(SchemaError, match="'Last_Price': 1 of 2 cells are no numbers; for instance '1,234'"):
        read_for(lake, "hist_px_last", file)
    assert lake.tables() == []
    assert read_for(lake, "notes", file).mode == "slices", "elsewhere a column of this name may be text"


def test_without_a_key_rows_replace_those_of_their_dates(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Date,X\n2026-10-30,1\n2026-10-31,2\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("Date,X\n2026-10-31,3\n", encoding="utf-8")
    for name in ("a.csv", "b.csv"):
        file = read_for(lake, "mine", tmp_path / name)
        assert file.mode == "slices"
        load_table_file(lake, "mine", file)
    assert LuxorQuery(lake=lake).get_table("mine")["X"].tolist() == [1, 3]


@pytest.mark.parametrize("name", ["t.csv", "t.xlsx"])
def test_a_column_without_a_value_gets_the_type_of_the_first_ones(lake: Lake, tmp_path: Path, name: str) -> None:
    rows = pd.DataFrame({"Key": ["a", "b"], "Size": [None, None]})
    for size in (None, 1.5):
        rows = rows.assign(Size=size)
        (rows.to_csv if name.endswith(".csv") else rows.to_excel)(tmp_path / name, index=False)
        load_table_file(lake, "sizes", read_for(lake, "sizes", tmp_path / name, key=["Key"]))
    assert LuxorQuery(lake=lake).get_table("sizes")["Size"].tolist() == [1.5, 1.5]


def test_nothing_is_guessed_where_nothing_says_what_is_replaced(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("A,B\n1,2\n", encoding="utf-8")
    new = read_for(lake, "mine", tmp_path / "a.csv")
    assert new.mode == "new"
    load_table_file(lake, "mine", new)
    with pytest.raises(UsageError, match="which rows"):
        read_for(lake, "mine", tmp_path / "a.csv")
    assert read_for(lake, "mine", tmp_path / "a.csv", key=["A"]).key == ("A",)
    with pytest.raises(UsageError, match="lacks 'C'"):
        read_for(lake, "mine", tmp_path / "a.csv", key=["C"])


def test_a_dry_run_counts_and_writes_nothing(lake: Lake, tmp_path: Path) -> None:
    ASSETS.to_csv(tmp_path / "assets.csv", index=False)
    load_table_file(lake, "assets", read_for(lake, "assets", tmp_path / "assets.csv"))
    before = [(info.path, info.version) for info in lake.storage.list("enriched")]
    ASSETS.assign(Name="x").to_csv(tmp_path / "assets.csv", index=False)
    result = load_table_file(lake, "assets", read_for(lake, "assets", tmp_path / "assets.csv"), dry_run=True)
    assert result.updated == 2
    assert [(info.path, info.version) for info in lake.storage.list("enriched")] == before


def test_the_asset_master_is_looked_through(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = ASSETS.assign(Ticker_BBG=["aapl us equity", None], Location=["mars", "bz"], Nome="x")
    odd.to_csv(tmp_path / "assets.csv", index=False)
    assert main(["load", "assets", str(tmp_path / "assets.csv"), "--lake", str(tmp_path / "lake")]) == 0
    told = capsys.readouterr().err
    for words in ("does not know", "'Nome'", "name no price series", "petrobras", "no known currency", "apple"):
        assert words in told
    assert "hundredth" not in told
    ASSETS.assign(Currency=["USD", "GBp"]).to_csv(tmp_path / "assets.csv", index=False)
    assert main(["load", "assets", str(tmp_path / "assets.csv"), "--replace", "--dry-run", "--lake", "lake"]) == 0
    assert "1 assets whose currency is a hundredth, such as GBp (pence)" in capsys.readouterr().err
    ASSETS.rename(columns={"Key": "key"}).to_csv(tmp_path / "assets.csv", index=False)
    assert main(["load", "assets", str(tmp_path / "assets.csv"), "--lake", str(tmp_path / "lake")]) == 1
    assert "Rename 'key' to 'Key'" in capsys.readouterr().err


def test_a_table_is_replaced_only_after_a_yes(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ASSETS.to_csv(tmp_path / "assets.csv", index=False)
    command = ["load", "assets", str(tmp_path / "assets.csv"), "--replace", "--lake", str(tmp_path / "lake")]
    assert main(command) == 0, "there is nothing to lose yet"
    assert main(command) == 2
    assert "--yes" in capsys.readouterr().err
    assert main([*command, "--yes"]) == 0


def test_a_table_is_described(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("Date,X,Y\n2026-09-30,1,\n2026-10-31,2,b\n", encoding="utf-8")
    load_table_file(lake, "mine", read_for(lake, "mine", tmp_path / "a.csv", key=["Date"]))
    described = LuxorQuery(lake=lake).describe("mine")
    assert (described.rows, described.first, described.last) == (2, "2026-09-30", "2026-10-31")
    assert (described.layout, described.files, described.encoding) == ("file", 1, "typed")
    columns = described.columns.set_index("Column")
    assert columns["Type"].to_dict() == {"Date": "date", "X": "whole", "Y": "text", "Last_Updated": "stamp"}
    assert columns["Null_Share"].to_dict() == {"Date": 0.0, "X": 0.0, "Y": 0.5, "Last_Updated": 0.0}
    assert "50.0%" in described._repr_html_()

    assert main(["describe", "mine", "--lake", str(tmp_path / "lake"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["facts"]["Rows"] == 2
    assert main(["describe", "nope", "--lake", str(tmp_path / "lake")]) == 1


def test_missing_cells_of_a_legacy_table_are_counted(disk: Any) -> None:
    rows = pa.table({"Date": ["2026-10-30", "nan"], "Last_Price": ["1.5", "None"], "Asset": ["a", "b"]})
    disk.storage().write("enriched/parquet/old.parquet", to_bytes(rows))
    described = disk.query().describe("old")
    assert described.encoding == "text"
    assert described.columns.set_index("Column")["Null_Share"].to_dict() == {
        "Date": 0.5,
        "Last_Price": 0.5,
        "Asset": 0.0,
    }


@pytest.mark.parametrize(
    ("named", "other"),
    [
        ("raw/x/Quotes 2025.parquet", "raw/x/quotes_2025.parquet"),
        ("raw/Vendas 2025", "raw/vendas_2025"),
        ("raw/q", "raw/q.parquet"),
        ("raw/q.parquet", "raw/q"),
        ("raw/many.parquet", "raw/many"),
        ("raw/x/a(1).parquet", "raw/x/a.parquet"),
        (f"{DIRECTORY}/Quotes 2025.parquet", f"{DIRECTORY}/quotes_2025.parquet"),
    ],
)
def test_a_file_or_folder_of_the_lake_is_read_by_its_path_as_written(rig: Any, named: str, other: str) -> None:
    storage = rig.storage()
    is_folder = named in ("raw/Vendas 2025", "raw/q", "raw/many.parquet")
    for place, word in ((named, "named"), (other, "other")):
        is_file = place.endswith(".parquet") and not (is_folder and place == named)
        storage.write(place if is_file else f"{place}/part-0.parquet", to_bytes(pa.table({"K": [word]})))
        assert read_for(rig.query().lake, "new", named).rows["K"].tolist() == ["named"]


def put_folder(rig: Any, tmp_path: Path, files: dict[str, dict[str, Any]]) -> list[str | Path]:
    """Write Parquet files into a folder of the lake and one of this machine; return what both are called."""
    for path, columns in files.items():
        data = to_bytes(pa.table(columns))
        rig.storage().write(f"raw/q/{path}", data)
        file = tmp_path / "here" / "q" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return ["raw/q", tmp_path / "here" / "q"]


ROWS = {"Date": pd.to_datetime(["2025-01-05", "2025-01-06"]), "Fund": ["a", "b"]}


def test_months_beside_years_are_not_added_up(rig: Any, tmp_path: Path) -> None:
    paths = put_folder(rig, tmp_path, {"month=2025-01/data.parquet": ROWS, "year=2025/data.parquet": ROWS})
    for path in paths:
        with pytest.raises(SchemaError, match="both month= and year="):
            read_for(rig.query().lake, "new", path)
    record = b'{"layout": "month", "column": "Date"}'
    rig.storage().write("raw/q/_layout.json", record)
    (tmp_path / "here" / "q" / "_layout.json").write_bytes(record)
    for path in paths:
        assert read_for(rig.query().lake, "new", path).rows["Fund"].tolist() == ["a", "b"], "the record says the months"


def test_a_column_that_was_dropped_does_not_come_back_by_a_load(rig: Any, tmp_path: Path) -> None:
    paths = put_folder(rig, tmp_path, {"month=2025-01/data.parquet": {**ROWS, "Old": [1, 2]}})
    record = b'{"layout": "month", "column": "Date", "columns": {"added": {"New": "number"}, "dropped": ["Old"]}}'
    rig.storage().write("raw/q/_layout.json", record)
    (tmp_path / "here" / "q" / "_layout.json").write_bytes(record)
    for path in paths:
        rows = read_for(rig.query().lake, "new", path).rows
        assert list(rows.columns) == ["Date", "Fund", "New"]
        assert rows["New"].isna().all()


@pytest.mark.parametrize(
    ("counted", "stray"),
    [
        ("month=2025-01/data.parquet", "month=2025-02/part-0.parquet"),
        ("year=2025/data.parquet", "region=br/part-0.parquet"),
        ("year=2025/data.parquet", "region=br/part-0"),
        ("region=us/part-0.parquet", "region=br/part-0"),
        ("part-0.parquet", "sub/part-0.parquet"),
    ],
)
def test_a_folder_of_which_only_some_files_are_read_is_not_loaded(
    rig: Any, tmp_path: Path, counted: str, stray: str
) -> None:
    for path in put_folder(rig, tmp_path, {counted: ROWS, stray: ROWS}):
        with pytest.raises(DataError, match=f"not read with them: .*{stray}") as caught:
            read_for(rig.query().lake, "new", path)
        assert caught.value.hint


def test_a_folder_with_marks_and_notes_is_loaded(rig: Any, tmp_path: Path) -> None:
    paths = put_folder(rig, tmp_path, {"region=us/x.parquet": ROWS})
    (tmp_path / "here" / "q" / "_SUCCESS").write_bytes(b"")
    (tmp_path / "here" / "q" / "notes.txt").write_bytes(b"x")
    (tmp_path / "here" / "q" / "region=us" / ".x.parquet.crc").write_bytes(b"x")
    for path in paths:
        assert read_for(rig.query().lake, "new", path).rows["region"].tolist() == ["us", "us"]


def test_a_hudi_table_is_not_loaded(rig: Any, tmp_path: Path) -> None:
    versions = {f"f1_{number}.parquet": {**ROWS, "_hoodie_commit_time": ["1", "1"]} for number in (1, 2)}
    paths = put_folder(rig, tmp_path, versions)
    (tmp_path / "here" / "q" / ".hoodie").mkdir()
    (tmp_path / "here" / "q" / ".hoodie" / "hoodie.properties").write_bytes(b"x")
    for path in paths:
        with pytest.raises(ForeignTableError, match="a Hudi table") as caught:
            read_for(rig.query().lake, "new", path)
        assert "archive" not in caught.value.hint


def test_a_folder_of_tables_is_not_loaded_as_one(rig: Any) -> None:
    for folder in (DIRECTORY, f"archive/20260101T000000Z/{DIRECTORY}"):
        rig.storage().write(f"{folder}/a.parquet", to_bytes(pa.table(ROWS)))
        with pytest.raises(NotFoundError):
            read_for(rig.query().lake, "new", folder)
