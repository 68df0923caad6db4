"""What the commands say of tables that other programs wrote, and how such a table is taken over."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luxor_pipelines.cli import main
from luxor_pipelines.errors import MoveInProgressError
from luxor_pipelines.lake.table.layout import DIRECTORY

DAYS = pd.to_datetime(["2024-01-30", "2024-01-31"])
Luxor = Callable[..., str]


@pytest.fixture
def luxor(disk: Any, capsys: pytest.CaptureFixture[str]) -> Luxor:
    """Runs a command and returns what it prints, or its error if it is to fail."""

    def run(command: str, code: int = 0) -> str:
        capsys.readouterr()
        got = main([*command.split(), "--lake", disk.arguments["lake"]])
        out, err = capsys.readouterr()
        assert got == code, err
        return out if code == 0 else err

    return run


def folder(storage: Any, name: str = "sales") -> None:
    for country, values in (("BR", [1.0, 2.0]), ("S%C3%A3o", [3.0, 4.0])):
        put(storage, f"{name}/Country={country}/part-0.parquet", {"Date": DAYS, "Amount": values})
    storage.write(f"{DIRECTORY}/{name}/_SUCCESS", b"")


def put(storage: Any, path: str, columns: dict[str, Any]) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    storage.write(f"{DIRECTORY}/{path}", sink.getvalue())


def test_tables_of_every_kind_are_listed(disk: Any, luxor: Luxor) -> None:
    storage = disk.storage()
    folder(storage)
    storage.write(f"{DIRECTORY}/lake_d/_delta_log/00000000000000000000.json", b"{}")
    storage.write(f"{DIRECTORY}/lake_i/metadata/v1.metadata.json", b"{}")
    listed = {row["name"]: row for row in json.loads(luxor("tables --json"))["tables"]}
    assert {name: row["layout"] for name, row in listed.items()} == {
        "lake_d": "delta",
        "lake_i": "iceberg",
        "sales": "folder",
    }
    sales = listed["sales"]
    assert (sales["files"], sales["rows"], sales["first"], sales["last"]) == (2, 4, "2024-01-30", "2024-01-31")
    assert listed["lake_d"]["rows"] is None
    assert "delta" in luxor("tables")
    assert "são" in luxor("show sales --where Country=são").lower()
    assert "folder" in luxor("describe sales")
    assert luxor("check sales") == ""
    assert "Delta table" in luxor("show lake_d", code=1)
    assert main(["check", "lake_i", "--lake", disk.arguments["lake"]]) == 1


@pytest.mark.parametrize("name", ["sales", "sales.parquet"])
def test_a_folder_of_the_lake_is_taken_over(disk: Any, luxor: Luxor, name: str) -> None:
    """The commands are those that the refusal names."""
    storage = disk.storage()
    folder(storage, name)
    before = pd.DataFrame(disk.query().get_table("sales"))
    for refused in ("load sales x.csv", "load sales x.csv --replace --yes", "optimize sales --yes"):
        told = luxor(refused, code=1)
        assert "another program wrote" in told
        assert f"luxor load sales archive/STAMP/{DIRECTORY}/{name}" in told.replace("\n", " ")
    moved = luxor("archive sales --yes").split()
    assert len(moved) == 3
    assert disk.query().list_tables() == []
    stamp = moved[0].split("/")[1]
    path = f"archive/{stamp}/{DIRECTORY}/{name}"
    luxor(f"load sales {path} --key Date,Country --dry-run")
    assert disk.query().list_tables() == []
    luxor(f"load sales {path} --key Date,Country")
    after = disk.query().get_table("sales")
    assert after["Country"].tolist() == ["br", "são", "br", "são"]
    assert after["Amount"].sum() == before["Amount"].sum()
    assert disk.query().describe("sales").layout == "file"


def test_a_folder_of_this_machine_is_loaded(disk: Any, luxor: Luxor, tmp_path: Path) -> None:
    folder(disk.storage())
    there = tmp_path / "raw" / "sales"
    there.parent.mkdir()
    (Path(disk.query().lake.storage.location(DIRECTORY)) / "sales").rename(there)
    luxor(f"load mine {there} --key Date,Country")
    assert disk.query().get_table("mine")["Country"].tolist() == ["br", "são", "br", "são"]
    (there / "_delta_log").mkdir()
    (there / "_delta_log" / "0.json").write_text("{}")
    assert "Delta table" in luxor(f"load mine {there}", code=1)


def test_a_copy_of_a_table_of_ours_is_loaded(disk: Any, luxor: Luxor, tmp_path: Path) -> None:
    from luxor_pipelines import incremental_load
    from luxor_pipelines.catalog import HIST_FILE_PX_LAST

    prices = pd.DataFrame(
        {"Date": pd.to_datetime(["2023-12-29", "2024-01-31"]), "Asset": "a", "Last_Price": [1.0, 2.0]}
    )
    incremental_load(disk.query(), HIST_FILE_PX_LAST.name, prices, schema=HIST_FILE_PX_LAST)
    there = Path(disk.query().lake.storage.location(f"{DIRECTORY}/{HIST_FILE_PX_LAST.name}"))
    luxor(f"load mine {there} --key Date,Asset")
    copy = disk.query().get_table("mine")
    assert list(copy.columns) == ["Date", "Asset", "Last_Price"], "the year is in the date"
    assert copy["Last_Price"].tolist() == [1.0, 2.0]


def test_a_file_of_the_lake_is_loaded(disk: Any, luxor: Luxor) -> None:
    storage = disk.storage()
    storage.write("raw/other/a.csv", b"Key,X\na,1\n")
    luxor("load mine raw/other/a.csv --key Key")
    put(storage, "x.parquet", {"Key": ["b", "c"], "X": ["2", "None"]})
    luxor(f"load mine {DIRECTORY}/x.parquet --key Key")
    assert disk.query().get_table("mine").astype(object).fillna(0).to_dict("list") == {
        "Key": ["a", "b", "c"],
        "X": [1, 2, 0],
    }
    assert "written ./archive/nothing.csv" in luxor("load mine archive/nothing.csv", code=1)


def test_a_folder_comes_back_from_the_archive(rig: Any) -> None:
    from luxor_pipelines.lake.table.archive import archive, layouts, restore

    storage = rig.storage()
    folder(storage)
    table = rig.query().lake.table("sales")
    before = {info.path: storage.read(info.path).data for info in storage.list(DIRECTORY)}
    assert {kind: len(snapshot.parts) for kind, snapshot in layouts(table).items()} == {"partitions": 2}
    archive(table, rig.query().now())
    assert table.find() is None
    restore(table, rig.query().now())
    assert {info.path: storage.read(info.path).data for info in storage.list(DIRECTORY)} == before


def test_a_file_over_a_folder_is_told_and_moved_aside(disk: Any, luxor: Luxor) -> None:
    storage = disk.storage()
    folder(storage)
    put(storage, "sales.parquet", {"Amount": [1.0]})
    assert len(disk.query().get_table("sales")) == 1
    assert main(["check", "sales", "--lake", disk.arguments["lake"]]) == 1
    luxor("archive sales --only file --yes")
    assert len(disk.query().get_table("sales")) == 4
    assert "has no single file" in luxor("archive sales --only file --yes", code=2)


def test_a_folder_that_is_being_moved_is_not_read(rig: Any) -> None:
    storage = rig.storage()
    folder(storage)
    storage.write(f"{DIRECTORY}/sales/_moving.json", b"{}")
    with pytest.raises(MoveInProgressError):
        rig.query().get_table("sales")


def test_archive_does_not_ask_about_a_table_that_is_not_there(luxor: Luxor) -> None:
    assert "There is no table x" in luxor("archive x", code=1)
