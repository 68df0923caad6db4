"""`LuxorQuery` on real lakes: opening one, its tables and their cache, prices, returns, dates."""

from __future__ import annotations

import re
import shutil
import traceback
import unicodedata
import warnings
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import ROOT
from luxor_pipelines import LuxorQuery, incremental_load, notices, save_table
from luxor_pipelines.errors import (
    ConfigurationError,
    DataError,
    InvalidNameError,
    InvalidPeriodError,
    LakeError,
    SchemaError,
    TableNotFoundError,
    UnknownAssetError,
    UsageError,
)
from luxor_pipelines.lake.types.schema import Column, TableSchema
from luxor_pipelines.market.calendars import CalendarRangeWarning
from luxor_pipelines.market.returns import STATUSES
from luxor_pipelines.notices import NoEffectWarning
from luxor_pipelines.pipelines.hist_returns import SCHEMA as HIST_RETURNS
from luxor_pipelines.query.answers import Answers
from luxor_pipelines.settings import Settings

TODAY = "2026-11-23"  # of the clock in conftest.py: a Monday
COLUMNS = {
    "all_funds_quotas": ("Fund", "Quota"),
    "custom_funds_quotas": ("Fund", "Quota"),
    "hist_vc_px_last": ("Ticker", "Price"),
}
BY_MONTH = TableSchema("by_month", 1, (Column("Date", "date", False), Column("x", "number")), ("Date",), "month")


def rows(table: str, series: dict[str, dict[str, float]]) -> pd.DataFrame:
    key, price = COLUMNS.get(table, ("Asset", "Last_Price"))
    cells = [(day, name, value) for name, prices in series.items() for day, value in prices.items()]
    frame = pd.DataFrame(cells, columns=["Date", key, price])
    return frame.assign(Date=pd.to_datetime(frame["Date"]))


def fill(lq: Any, **tables: dict[str, dict[str, float]]) -> Any:
    """Price tables given as ``table={series: {date: price}}``; px_last's dates are ``last_update_dt``."""
    for table, series in tables.items():
        frame = rows(table, series)
        if table == "px_last":
            frame = frame.rename(columns={"Asset": "Key", "Last_Price": "px_last", "Date": "last_update_dt"})
        save_table(table, frame, lq=lq, mode="replace")
    return lq


def assets(lq: Any, **locations: str | None) -> Any:
    """Assets of which key, ticker and series are the same, each in a location."""
    frame = pd.DataFrame({"Asset": list(locations), "Ticker": list(locations), "Location": list(locations.values())})
    frame = frame.assign(Key=frame["Asset"] + "_" + frame["Ticker"], Type="stock", Group="g", Ticker_BBG=None)
    save_table("assets", frame, lq=lq, mode="replace")
    return lq


def series(frame: pd.DataFrame, asset: str = "x") -> dict[str, Any]:
    found = frame[frame["Asset"] == asset]
    prices = found["Last_Price"].astype(object).where(found["Last_Price"].notna(), None)
    return dict(zip(found["Date"].dt.strftime("%m-%d"), prices, strict=True))


def put(lq: Any, name: str, table: pa.Table) -> None:
    sink = BytesIO()
    pq.write_table(table, sink)
    lq.lake.storage.write(f"enriched/parquet/{name}.parquet", sink.getvalue())


def as_text(frame: pd.DataFrame) -> pa.Table:
    """What the legacy writer made of a frame: every cell its text, a missing one a word."""
    texts = {}
    for name in frame.columns:
        column = frame[name]
        if column.dtype.kind == "M":
            column = column.dt.strftime("%Y-%m-%d").astype(object).where(column.notna(), "NaT")
        texts[name] = pa.array([str(cell) for cell in column.astype(object)], pa.string())
    return pa.table(texts)


# --- opening a lake ----------------------------------------------------------------------------


def test_the_environment_names_the_lake_and_arguments_win(monkeypatch: Any, tmp_path: Path) -> None:
    for name in ("env", "argument"):
        (tmp_path / name).mkdir()
        lq = LuxorQuery(lake=(tmp_path / name).as_uri())
        save_table(f"in_{name}", pd.DataFrame({"x": [1.0]}), lq=lq)
    monkeypatch.setenv("LUXOR_LAKE_URL", (tmp_path / "env").as_uri())
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "never looked at beside a URL")
    assert LuxorQuery().list_tables() == ["in_env"]
    assert LuxorQuery(lake=(tmp_path / "argument").as_uri()).list_tables() == ["in_argument"]
    assert LuxorQuery(lake=str(tmp_path / "argument")).list_tables() == ["in_argument"]
    settings = Settings(lake_url=(tmp_path / "argument").as_uri())
    assert LuxorQuery(settings=settings).list_tables() == ["in_argument"]


def test_nothing_configured_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="No lake") as caught:
        LuxorQuery()
    assert "LUXOR_LAKE_URL" in caught.value.hint
    assert "AZURE_STORAGE_CONNECTION_STRING" in caught.value.hint


@pytest.mark.parametrize("spelled", ["{0}", "file://{0}", "./{1}", "~/{1}", "../{2}/{1}"])
def test_the_first_argument_is_a_lake_where_it_can_be_no_folder_of_tables(
    monkeypatch: Any, tmp_path: Path, spelled: str
) -> None:
    (tmp_path / "lake").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    text = spelled.format((tmp_path / "lake").as_posix(), "lake", tmp_path.name)
    lq = LuxorQuery(text)
    save_table("t", pd.DataFrame({"x": [1.0]}), lq=LuxorQuery(lake=str(tmp_path / "lake")))
    assert lq.list_tables() == ["t"]
    assert lq.blob_directory == "enriched/parquet"
    for lake in (lq.lake, tmp_path / "lake"):
        assert LuxorQuery(lake).list_tables() == ["t"]
        assert LuxorQuery(lake=lake).list_tables() == ["t"]
    if text.startswith("."):
        with pytest.raises(InvalidNameError):  # beside lake= it is a folder in it, and none such
            LuxorQuery(text, lake=tmp_path)


def test_a_folder_of_tables_is_no_lake(tmp_path: Path) -> None:
    for folder in ("enriched/parquet", "raw", "enriched/parquet/of.2026"):
        assert LuxorQuery(folder, lake=tmp_path).blob_directory == folder


def test_an_address_with_a_secret_as_the_first_argument_is_masked() -> None:
    with pytest.raises(ConfigurationError) as caught:
        LuxorQuery("abfss://c@@account.dfs.core.windows.net?sig=s3cr3ts3cr3t")
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    ours = [frame for frame in frames if "luxor_pipelines" in frame.filename]
    assert len(ours) >= 2
    assert "s3cr3ts3cr3t" not in repr([frame.locals for frame in ours])


def test_a_query_lets_go_what_it_read_at_the_end_of_with(disk: Any) -> None:
    save_table("t", numbers(1), lq=disk.query())
    with disk.query() as lq:
        assert lq.get_table("t")["x"].tolist() == [1]
        assert lq.versions().keys() == {"t"}
    assert lq.versions() == {}
    assert lq.get_table("t")["x"].tolist() == [1]
    with LuxorQuery(lq.lake) as other:  # a lake that was handed in is for others as well
        assert other.versions().keys() == {"t"}
    assert lq.versions().keys() == {"t"}


def test_a_folder_of_tables_that_may_be_meant_as_a_lake_is_pointed_out(
    tmp_path: Path, monkeypatch: Any, caplog: Any
) -> None:
    (tmp_path / "my-lake").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUXOR_LAKE_URL", (tmp_path / "my-lake").as_uri())
    assert LuxorQuery("other/folder").blob_directory == "other/folder"
    assert caplog.text == ""
    assert LuxorQuery("my-lake").blob_directory == "my-lake"
    assert "LuxorQuery('./my-lake')" in caplog.text


@pytest.mark.azurite
def test_a_connection_string(azurite: Any, monkeypatch: Any, tmp_path: Path) -> None:
    container, secret = azurite.container(), azurite.connection_string
    familiar = LuxorQuery("other/folder", secret, container)
    save_table("t", pd.DataFrame({"x": [1.0]}), lq=familiar, directory="other/folder")
    assert familiar.list_tables() == ["t"]
    assert familiar.table_exists("t")
    assert not familiar.table_exists("t", "enriched/parquet")
    assert LuxorQuery(adls_connection_string=secret, container_name=container).list_tables() == []
    assert "AccountKey" not in repr(familiar)

    monkeypatch.setenv("LUXOR_CONTAINER", container)
    monkeypatch.setenv("LUXOR_LAKE_URL", tmp_path.as_uri())
    assert LuxorQuery("other/folder", secret).list_tables() == ["t"]  # the argument wins over the URL
    monkeypatch.delenv("LUXOR_LAKE_URL")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", secret)
    assert LuxorQuery("other/folder").list_tables() == ["t"]


# --- tables and the cache ----------------------------------------------------------------------


def numbers(*values: float) -> pd.DataFrame:
    days = pd.date_range("2026-01-01", periods=len(values))
    return pd.DataFrame({"Date": days, "x": list(values), "Name": [f"n{value:g}" for value in values]})


def test_a_change_by_another_is_seen_after_update_and_not_before(rig: Any) -> None:
    lq, other = rig.query(), rig.query()
    save_table("t", numbers(1, 2), lq=other)
    save_table("kept", numbers(1), lq=other)
    assert lq.get_table("t")["x"].tolist() == [1, 2]
    assert lq.get_table("kept")["x"].tolist() == [1]
    assert lq.update() == []
    assert lq.market.current.of(["new"])[1].tolist() == []

    save_table("t", numbers(7, 8), lq=other, mode="replace")
    fill(other, px_last={"new": {TODAY: 5.0}})
    assert lq.get_table("t")["x"].tolist() == [1, 2]
    assert lq.market.current.of(["new"])[1].tolist() == []
    assert lq.update() == ["px_last", "t"]
    assert lq.get_table("t")["x"].tolist() == [7, 8]
    assert lq.market.current.of(["new"])[1].tolist() == [date(2026, 11, 23)]
    assert lq.update() == []

    save_table("t", numbers(9), lq=other, mode="replace")
    assert lq.get_table("t")["x"].tolist() == [7, 8]
    assert lq.get_table("t", force_reload=True)["x"].tolist() == [9]
    assert lq.versions()["t"] != lq.versions()["kept"]


def test_a_table_that_was_not_there_is_found_when_asked_for_again(disk: Any) -> None:
    lq = disk.query()
    with pytest.raises(TableNotFoundError, match="no table t"):
        lq.get_table("t")
    assert not lq.table_exists("t")
    save_table("t", numbers(1), lq=disk.query())
    assert lq.table_exists("t")
    assert lq.get_table(" T ")["x"].tolist() == [1]
    shutil.rmtree(lq.lake.storage.root / "enriched")
    assert lq.get_table("t")["x"].tolist() == [1]
    assert lq.update() == ["t"]
    with pytest.raises(TableNotFoundError):
        lq.get_table("t")


@pytest.mark.parametrize("directory", ["enriched/parquet", "enriched/parquet/"])
def test_a_load_through_the_same_object_is_seen_at_once(disk: Any, directory: str) -> None:
    lq = disk.query(blob_directory=directory)
    for n in (1, 2, 3):
        incremental_load(lq, "t", numbers(*range(n)), unique_columns=["Date"])
        assert lq.get_table("t")["x"].tolist() == list(range(n))
    save_table("t", numbers(7), lq=disk.query(), mode="replace")
    assert lq.get_table("t", force_reload=True)["x"].tolist() == [7]


def test_what_a_caller_does_to_a_frame_stays_with_the_caller(disk: Any) -> None:
    lq = assets(fill(disk.query(), hist_px_last={"x": {TODAY: 5.0}}, px_last={"x": {TODAY: 6.0}}), x="us")
    readers = {
        "table": lambda: lq.get_table("hist_px_last"),
        "assets table": lambda: lq.get_table("assets"),
        "assets": lambda: lq.market.assets.frame(),
        "prices": lambda: lq.get_prices("x", with_status=True),
        "changes": lambda: lq.get_pct_changes("x"),
    }
    for name, read in readers.items():
        before, whole, cells = read(), read(), read()
        for column in before.columns:
            whole[column] = None
            cells.loc[cells.index[0], column] = None  # in place
        whole["added"] = 1
        pd.testing.assert_frame_equal(read(), before, obj=name)
    memory = lq.get_table("hist_px_last")["Last_Price"].to_numpy(copy=False)
    memory.flags.writeable = True  # pandas marks it read-only; ours it is not
    memory[:] = -1
    assert lq.get_table("hist_px_last")["Last_Price"].tolist() == [5.0]
    assert lq.get_price("x") == 5.0


def test_the_cache_keeps_to_its_size(disk: Any) -> None:
    lq = disk.query(settings=Settings(cache_bytes=1))
    for n in (1, 2):
        save_table(f"t{n}", numbers(*range(n)), lq=lq)
    for _ in range(2):  # each answer pushes the one before out; all are right
        assert [len(lq.get_table(f"t{n}")) for n in (1, 2)] == [1, 2]
        assert lq.get_table("t2", columns=["x"])["x"].tolist() == [0, 1]


def test_table_exists_raises_where_it_cannot_tell(rig: Any) -> None:
    lq = rig.query()
    assert lq.table_exists("t") is False
    save_table("t", numbers(1), lq=lq)
    assert lq.table_exists("T ") is True
    if rig.kind == "azurite":
        wrong = rig.arguments["connection_string"].replace("AccountKey=E", "AccountKey=F")
        refused = LuxorQuery(adls_connection_string=wrong, container_name=rig.arguments["container"])
        with pytest.raises(LakeError):
            refused.table_exists("t")
        with pytest.raises(ConfigurationError):
            LuxorQuery("x", rig.arguments["connection_string"], "not-there").table_exists("t")


def test_list_tables(rig: Any) -> None:
    lq = rig.query()
    assert lq.list_tables() == []
    save_table("b", numbers(1), lq=lq)
    incremental_load(lq, "by_month", numbers(1)[["Date", "x"]], schema=BY_MONTH)
    for elsewhere in ("enriched/parquet/folder", "enriched/parquet_old", "raw/parquet"):
        save_table("hidden", numbers(1), lq=lq, directory=elsewhere)
    lq.lake.storage.write("enriched/parquet/notes.txt", b"-")
    assert lq.list_tables() == ["b", "by_month"]
    assert lq.get_table("by_month")["x"].tolist() == [1.0]


@pytest.mark.parametrize("schema", [None, BY_MONTH], ids=["file", "month"])
def test_get_table_options(disk: Any, schema: TableSchema | None) -> None:
    lq = disk.query()
    days = pd.to_datetime(["2026-01-30", "2026-01-31", "2026-02-01", "2026-03-15"])
    save_table("by_month", pd.DataFrame({"Date": days, "x": [1.0, 2.0, 3.0, np.nan]}), lq=lq, schema=schema)

    def found(**options: Any) -> list[float]:
        return lq.get_table("by_month", **options)["x"].tolist()

    assert found(where={"Date": "2026-01-31"}) == [2]
    assert found(where={"Date": date(2026, 2, 1)}) == [3]
    assert found(where={"Date": pd.Timestamp("2026-02-01")}) == [3]
    assert found(where={"Date": ["2026-01-30", "2026-02-01"]}) == [1, 3]
    assert found(where={"Date": ("2026-01-31", "2026-02-01")}) == [2, 3]
    assert found(where={"Date": (None, "2026-01-31")}) == [1, 2]
    assert found(where={"Date": ("2026-01-31", None), "x": (2.5, None)}) == [3]
    assert found(where={"x": [1, 3]}) == found(where={"x": pd.Series([3, 1])}) == [1, 3]
    assert found(where={"Date": "1999-01-01"}) == []
    assert lq.get_table("by_month", columns=["x", "Date"]).columns.tolist() == ["x", "Date"]
    assert lq.get_table("by_month", columns="x").columns.tolist() == ["x"]
    assert lq.get_table("by_month", index=True, index_name="Date").index.tolist() == list(days)
    assert "Last_Updated" not in lq.get_table("by_month")
    stamps = lq.get_table("by_month", drop_last_updated_columns=False)["Last_Updated"]
    assert stamps.tolist() == [pd.Timestamp("2026-11-23 18:30")] * 4
    assert "Last_Updated" not in lq.get_table("by_month"), "options are not forgotten on the second read"
    with pytest.raises(SchemaError, match="'y'"):
        lq.get_table("by_month", columns=["y"])
    with pytest.raises(SchemaError, match="'y'"):
        lq.get_table("by_month", where={"y": 1})
    with pytest.raises(SchemaError, match="'index'"):
        lq.get_table("by_month", index=True)
    with pytest.raises(UsageError, match="soon"):
        lq.get_table("by_month", where={"Date": "soon"})


def test_legacy_text_reads_as_its_typed_twin(disk: Any, make_rig: Any) -> None:
    typed, text = disk.query(), make_rig("disk").query()
    days = pd.bdate_range("2026-09-25", "2026-11-20")
    rng = np.random.default_rng(3)
    price = {key: dict(zip(days.strftime("%Y-%m-%d"), rng.uniform(5, 9, len(days)), strict=True)) for key in "xy"}
    assets(typed, x="us", y="bz")
    fill(
        typed,
        hist_px_last={**price, "usdbrl curncy": dict.fromkeys(price["x"], 5.5)},
        all_funds_quotas={"f": {"2026-10-30": 1.5, "2026-11-13": 1.75}},
        px_last={"x": {TODAY: 6.25}},
    )
    for name in typed.list_tables():
        put(text, name, as_text(typed.get_table(name)))
    assert text.get_table("hist_px_last", auto_convert_mapped_types=False)["Last_Price"].dtype in (object, "str")

    for name in typed.list_tables():
        pd.testing.assert_frame_equal(text.get_table(name), typed.get_table(name), check_dtype=name != "assets")
    for options in ({}, {"currency": "brl", "period": "mtd"}, {"get_intraday_prices": True}):
        pd.testing.assert_frame_equal(
            text.get_prices(["x", "y", "f"], **options), typed.get_prices(["x", "y", "f"], **options)
        )
    pd.testing.assert_frame_equal(
        text.get_pct_changes(period="1m", currency="usd"), typed.get_pct_changes(period="1m", currency="usd")
    )


def test_types_for_columns_of_a_text_table(disk: Any) -> None:
    lq = disk.query()
    put(lq, "t", pa.table({"Pct_Change": ["0.5", "nan"], "Start_Date": ["2026-01-31", "NaT"], "ok": ["True", "None"]}))
    assert lq.get_table("t")["Pct_Change"].tolist()[0] == "0.5"
    found = lq.get_table("t", dtypes_override={"float": {"Pct_Change"}, "date": ["Start_Date"], "bool": {"ok"}})
    assert found["Pct_Change"].iloc[0] == 0.5
    assert found["Start_Date"].iloc[0] == pd.Timestamp("2026-01-31")
    assert found["ok"].tolist() == [True, pd.NA]
    assert found.isna().iloc[1].all()
    assert lq.get_table("t")["Pct_Change"].tolist()[0] == "0.5", "overrides hold for the one read"
    with pytest.raises(SchemaError, match=r"'ok'.*True"):
        lq.get_table("t", dtypes_override={"float": {"ok"}})


# --- assets ------------------------------------------------------------------------------------


def test_get_price_key(disk: Any) -> None:
    lq = disk.query()
    columns = ["Key", "Ticker", "Ticker_BBG", "Group"]
    put(
        lq,
        "assets",
        as_text(
            pd.DataFrame(
                [
                    ("a_x", "x", "x us equity", "ações"),
                    ("b_y", "y", "y us equity", "vc"),
                    ("c_z_1", "z_1", None, "fundos"),
                    ("d_", None, None, "fundos"),
                ],
                columns=columns,
            )
        ),
    )
    assert [lq.get_price_key(key) for key in ("a_x", " B_Y", "c_z_1")] == ["x us equity", "y", "z_1"]
    with pytest.raises(UnknownAssetError, match=r"'a_xx'[\s\S]*'a_x'"):
        lq.get_price_key("a_xx")
    with pytest.raises(UnknownAssetError, match="neither"):
        lq.get_price_key("d_")


NAMED = [
    # Key, Ticker, Ticker_BBG, Name, Type, Location
    ("petrobras_petr4", "petr4", "petr4 bz equity", "Petrobras PN", "ações", "bz"),
    ("apple_aapl", "aapl", "aapl us equity", "Apple", "ações_us", "us"),
    ("apple bdr_aapl34", "aapl34", "aapl us equity", "Apple BDR", "ações_bdr", "bz"),
    ("fund_a", "fund a", None, "Twin", "fundo", "bz"),
    ("fund_b", "fund b", None, "Twin", "fundo", "bz"),
    ("euro_eurusd", "eurusd", "eurusd curncy", "Euro", "fx", "us"),
    ("odd_series", "spy", "spy us equity", "x", "etf", "us"),
    ("none_", None, None, "Nothing", "etf", "us"),
]


@pytest.fixture
def named(disk: Any) -> Any:
    columns = ["Key", "Ticker", "Ticker_BBG", "Name", "Type", "Location"]
    frame = pd.DataFrame(NAMED, columns=columns).assign(Group="g")
    lq = disk.query()
    save_table("assets", frame, lq=lq)
    keys = ["petr4 bz equity", "aapl us equity", "fund a", "fund b", "eurusd curncy", "spy us equity", "x", "bench"]
    return fill(lq, hist_px_last={key: {"2026-10-30": 10.0, "2026-11-20": 11.0} for key in keys})


@pytest.mark.parametrize(
    ("name", "price_key"),
    [
        ("PETR4 BZ Equity", "petr4 bz equity"),  # a price key
        ("petrobras_petr4", "petr4 bz equity"),  # a Key
        (" Petr4 ", "petr4 bz equity"),  # a Ticker
        ("petrobras\u00a0pn", "petr4 bz equity"),  # a Name
        ("apple", "aapl us equity"),
        ("bench", "bench"),  # a series that no asset uses
        ("x", "x"),  # a series comes before an asset's Name
    ],
)
def test_an_asset_is_named_in_any_of_four_ways(named: Any, name: str, price_key: str) -> None:
    assert named.get_prices(name, "2026-11-20", "2026-11-20")["Asset"].tolist() == [price_key]
    assert named.get_pct_changes([name], "2026-11-20", "2026-10-30").index.tolist() == [price_key]
    assert named.get_returns("2026-11-20", name, "mtd")["Asset"].tolist() == [price_key]
    assert named.get_price(name, "2026-11-20") == 11
    assert named.get_pct_change(name, "2026-11-20", "2026-10-30") == pytest.approx(0.1)
    overrides = pd.DataFrame({"Date": ["2026-11-20"], "Asset": [name], "Last_Price": [12.0]})
    frame = named.get_prices(name, "2026-11-20", "2026-11-20", price_overrides=overrides)
    assert frame["Last_Price"].tolist() == [12]


def test_two_names_of_one_series_give_one_row_and_none_gives_unknown(named: Any, caplog: Any) -> None:
    names = ["petr4", "petrobras_petr4", "petr5", "petr4 bz equity"]
    typo, series = " PETR5\u00a0", "PETR4 BZ Equity"
    asked = iter([typo, "petr5", series])  # named once more below
    spelled = named.get_pct_changes(asked, "2026-11-20", "2026-10-30")
    assert spelled["Status"].to_dict() == {typo: "unknown", "petr4 bz equity": "ok"}, "as it was given"
    assert named.get_returns("2026-11-20", [series, typo], "mtd")["Asset"].tolist() == ["petr4 bz equity", typo]
    rows = named.get_prices([typo, series], "2026-11-20", "2026-11-20", with_status=True)
    assert sorted(rows["Asset"]) == sorted([typo, "petr4 bz equity"])
    caplog.clear()
    frame = named.get_pct_changes(names, "2026-11-20", "2026-10-30")
    assert frame["Status"].to_dict() == {"petr4 bz equity": "ok", "petr5": "unknown"}
    assert "'petr5' (did you mean 'petr4'" in caplog.text
    caplog.clear()
    assert named.get_prices(names, "2026-11-20", "2026-11-20")["Asset"].tolist() == ["petr4 bz equity"]
    assert "petr5: unknown (did you mean 'petr4'" in caplog.text
    with_status = named.get_prices(names, "2026-11-20", "2026-11-20", with_status=True)
    assert dict(zip(with_status["Asset"], with_status["Status"], strict=True)) == {
        "petr4 bz equity": "ok",
        "petr5": "unknown",
    }
    for ask in (named.get_price, named.get_pct_change):
        with pytest.raises(UnknownAssetError, match="petr4"):
            ask("petr5")
        with pytest.raises(UnknownAssetError) as caught:
            ask("nothing")  # its asset names no series
        assert "mean" not in caught.value.hint


def test_a_name_of_several_series_is_an_error_with_the_candidates(named: Any) -> None:
    for ask in (named.get_price, named.get_prices, named.get_pct_changes):
        with pytest.raises(UsageError, match=r"'twin' is the Name of 2 price series[\s\S]*'fund a', 'fund b'"):
            ask("Twin")


def test_a_receipt_gives_its_underlyings_series_and_says_so(named: Any, caplog: Any) -> None:
    assert named.get_prices("aapl34", "2026-11-20", "2026-11-20")["Asset"].tolist() == ["aapl us equity"]
    assert "get_bdr_adj_price" in caplog.text
    caplog.clear()
    named.get_prices("aapl us equity", "2026-11-20", "2026-11-20")
    assert caplog.text == ""


def test_find(named: Any) -> None:
    found = named.find("euro")
    assert found.columns.tolist() == ["Key", "Name", "Price_Key", "Currency", "First_Date", "Last_Date"]
    assert found.iloc[0].tolist() == [
        "euro_eurusd", "Euro", "eurusd curncy", "usd", pd.Timestamp("2026-10-30"), pd.Timestamp("2026-11-20"),
    ]  # fmt: skip
    assert named.find("APPLE")["Key"].tolist() == ["apple_aapl", "apple bdr_aapl34"]
    assert named.find("petrobas")["Key"].tolist() == ["petrobras_petr4"]  # near
    assert named.find("equity", limit=2)["Key"].tolist() == ["apple bdr_aapl34", "apple_aapl"]
    nothing = named.find("nothing")
    assert (nothing["Key"].tolist(), nothing["First_Date"].isna().tolist()) == (["none_"], [True])
    assert named.find("zzz").empty


def test_cash_has_the_price_of_one_every_day_unless_a_table_has_it(disk: Any) -> None:
    lq = assets(fill(disk.query(), hist_px_last=RATES), **{"caixa": "bz", "caixa us": "us"})
    frame = lq.get_prices(["caixa", "caixa us"], "2026-11-20", "2026-11-18")
    assert series(frame, "caixa") == series(frame, "caixa us") == dict.fromkeys(["11-18", "11-19", "11-20"], 1.0)
    # In BRL a dollar is the rate: 5.50 / 5.40 − 1 from one day to the next.
    changes = lq.get_pct_changes(["caixa", "caixa us"], "2026-11-20", "2026-11-19", currency="brl")
    assert changes["Pct_Change"].tolist() == pytest.approx([0, 5.5 / 5.4 - 1])
    assert changes["Status"].tolist() == ["ok", "ok"]
    assert lq.get_price("caixa us", "2026-11-20", currency="brl") == 5.5
    fill(lq, hist_non_bbg_px_last={"caixa": {"2026-11-19": 2.0}})
    assert lq.get_price("caixa", "2026-11-20") == 2


# --- one price ---------------------------------------------------------------------------------


def test_get_price_of_today_and_before(disk: Any, caplog: Any) -> None:
    lq = fill(
        disk.query(),
        hist_px_last={"x": {"2026-10-30": 10.0, "2026-11-20": 11.0}, "later": {"2026-11-20": 1.0}},
        hist_vc_px_last={"vc": {"2020-01-01": 7.0}},
        px_last={"x": {TODAY: 12.0}, "vc": {"2020-01-01": 8.0}, "old": {"2026-01-01": 3.0}, "new": {TODAY: 4.0}},
    )
    assert lq.get_price("x") == lq.get_price(" X ", TODAY) == 12  # newer than the history
    assert lq.get_price("x", "2026-11-22") == 11
    assert lq.get_price("x", date(2026, 11, 9)) == 10  # 10 days old
    assert lq.get_price("vc") == 7  # of the same date the history counts, and a mark is carried
    assert lq.get_price("new") == 4
    assert caplog.text == ""
    assert np.isnan(lq.get_price("x", datetime(2026, 11, 10, 12)))  # 11 days old
    assert "2026-11-10: stale" in caplog.text
    assert np.isnan(lq.get_price("later", "2026-11-19"))
    assert "2026-11-19: no_price" in caplog.text
    assert np.isnan(lq.get_price("old"))  # known to px_last alone, and stale
    assert np.isnan(lq.get_price("old", "2026-01-05"))  # of which no past is known
    with pytest.raises(UnknownAssetError, match="'nowhere'"):
        lq.get_price("nowhere")


def test_a_misspelt_series_gets_a_suggestion(disk: Any) -> None:
    lq = assets(fill(disk.query(), hist_px_last={"petr4 bz equity": {TODAY: 1.0}}), **{"petr4 bz equity": "bz"})
    for ask in (lq.get_price, lq.get_pct_change):
        with pytest.raises(UnknownAssetError, match=r"petr4 bz equity"):
            ask("petr4 bz equiti")
    with pytest.raises(UsageError, match="not a ticker"):
        lq.get_price(None)


def test_the_age_limits_are_settings(disk: Any) -> None:
    lq = fill(
        disk.query(settings=Settings(stale_traded=2, stale_fund=1)),
        hist_px_last={"x": {"2026-11-20": 5.0}},
        all_funds_quotas={"f": {"2026-11-20": 6.0}},
        px_last={"p": {"2026-11-20": 7.0}},
    )
    assert (lq.get_price("x", "2026-11-22"), lq.get_price("f", "2026-11-21")) == (5, 6)
    for key, day in (("x", TODAY), ("f", "2026-11-22"), ("p", TODAY)):
        assert np.isnan(lq.get_price(key, day))


@pytest.fixture
def _unwarned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_warned", set())


@pytest.mark.usefixtures("_unwarned")
def test_familiar_parameters_are_accepted_and_those_without_effect_warn_once(disk: Any) -> None:
    lq = assets(fill(disk.query(), hist_px_last={"x": {TODAY: 5.0}, "usdbrl curncy": {TODAY: 4.0}}), x="us")
    days = (date(2026, 11, 23), date(2026, 11, 22))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NoEffectWarning)
        assert lq.get_price("x", date(2026, 11, 23), "info", False, "brl", "usdbrl curncy", "us") == 20
        assert lq.get_price("x", logger_level="info", asset_location="bz") == 5
        prices = lq.get_prices(["x"], *days, None, "brl", "usdbrl curncy", True, "any", True, False, None)
        assert series(prices) == {"11-23": 20}
        converted = lq.convert_currency(prices, "brl", "usd", "usdbrl curncy", False, "any", False, True)
        assert series(converted) == {"11-23": 5}
        assert np.isnan(lq.get_pct_change("x", *days, None, "us", True, False))
        assert lq.update(3) == []
    told = [str(warning.message) for warning in caught]
    assert len(told) == 8
    assert all("has had no effect since luxor-pipelines 0.1.0. " in message for message in told)
    assert {Path(warning.filename).name for warning in caught} == {
        Path(__file__).name
    }  # it points at the caller's line
    # The second time, and with the values that everybody passes, nothing is said.
    lq.get_price("x", None, "info", False, "local", "usdbrl curncy", "us")
    prices = lq.get_prices(["x"], *days, None, "brl", "usdbrl curncy", True, "all", True, False, None)
    lq.convert_currency(prices, "brl", "usd", "usdbrl curncy", True, "all", False, False)
    lq.get_pct_changes(["x"], *days, None, "local", "usdbrl curncy", False, False)
    lq.update(8)


def test_prices_of_depositary_receipts_are_not_adjusted_in_silence(disk: Any) -> None:
    with pytest.raises(UsageError, match="get_bdr_adj_price"):
        fill(disk.query(), hist_px_last={"x": {TODAY: 5.0}}).get_price("x", dr_adjusted=True)


# --- many prices -------------------------------------------------------------------------------


def test_continuous_prices_run_from_the_first_to_the_last_day(disk: Any) -> None:
    lq = fill(
        disk.query(),
        hist_px_last={
            "x": {"2026-10-31": 9.0, "2026-11-04": 10.0, "2026-11-20": 11.0},
            "new": {"2026-11-19": 3.0},
            "dead": {"2026-10-01": 2.0},
        },
    )
    frame = lq.get_prices(["x", "new", "dead"], "2026-11-21", "2026-11-01", with_status=True)
    assert frame.columns.tolist() == ["Date", "Asset", "Last_Price", "Price_Date", "Status"]
    days = [f"11-{day:02d}" for day in range(1, 22)]
    # 4 November is 10 days old on the 14th; from the 15th there is no price until the 20th.
    assert series(frame, "x") == dict(zip(days, [9.0] * 3 + [10.0] * 11 + [None] * 5 + [11.0] * 2, strict=True))
    assert series(frame, "new") == {"11-19": 3, "11-20": 3, "11-21": 3}
    assert series(frame, "dead") == dict.fromkeys(days)
    assert frame["Asset"].tolist() == ["dead"] * 21 + ["new"] * 3 + ["x"] * 21
    x = frame[frame["Asset"] == "x"].set_index("Date")
    assert x.loc["2026-11-15", "Status"] == "stale"
    assert x.loc["2026-11-15", "Price_Date"] == pd.Timestamp("2026-11-04")
    assert x.loc["2026-11-02", "Price_Date"] == pd.Timestamp("2026-10-31")
    plain = lq.get_prices(["x", "new", "dead"], "2026-11-21", "2026-11-01")
    pd.testing.assert_frame_equal(plain, frame[["Date", "Asset", "Last_Price"]])


def test_prices_of_the_days_observed(disk: Any) -> None:
    lq = fill(disk.query(), hist_px_last={"x": {"2026-10-31": 9.0, "2026-11-04": 10.0, "2026-11-20": 11.0}})
    frame = lq.get_prices("x", "2026-11-20", "2026-11-01", force_continuous_date_range=False)
    assert series(frame) == {"11-04": 10, "11-20": 11}


def test_wide_prices_on_chosen_days(disk: Any) -> None:
    prices = {"2026-11-19": 9.0, "2026-11-21": 10.0, "2026-11-23": 11.0}  # the 21st is a Saturday
    lq = holidays(fill(disk.query(), hist_px_last={"x": prices, "y": {"2026-11-20": 5.0}}))
    on = {
        name: lq.get_prices(["x", "y", "typo"], end=TODAY, start="2026-11-19", calendar=name, wide=True, **options)
        for name, options in [
            ("calendar", {}), ("observed", {}), ("business", {"holiday_location": "bz"}), (None, {})
        ]
    }  # fmt: skip
    for frame in on.values():
        assert frame.columns.tolist() == ["typo", "x", "y"]
        assert frame["typo"].isna().all()
    assert on["calendar"]["x"].tolist() == [9, 9, 10, 10, 11]
    pd.testing.assert_frame_equal(on[None], on["calendar"])
    assert on["observed"]["x"].dropna().to_dict() == {pd.Timestamp(day): value for day, value in prices.items()}
    assert on["business"].index.strftime("%m-%d").tolist() == ["11-19", "11-23"]  # the 20th is a holiday of bz
    assert on["business"]["y"].isna().tolist() == [True, False]
    familiar = lq.get_prices("x", TODAY, "2026-11-19", force_continuous_date_range=False)
    pd.testing.assert_frame_equal(familiar, lq.get_prices("x", end=TODAY, start="2026-11-19", calendar="observed"))
    for wrong in ({"calendar": "weekly"}, {"wide": True, "with_status": True}, {"recent_date": TODAY, "end": TODAY}):
        with pytest.raises(UsageError):
            lq.get_prices("x", **wrong)


def test_ranges(disk: Any, clock: Any) -> None:
    lq = fill(disk.query(clock=clock), hist_px_last={"x": {"2020-01-01": 1.0}})

    def asked(*dates: Any, **options: Any) -> tuple[str, str]:
        days = lq.get_prices("x", *dates, **options)["Date"].dt.strftime("%Y-%m-%d")
        return days.min(), days.max()

    assert asked() == ("2026-10-24", TODAY)
    assert asked("2026-05-31") == ("2026-05-01", "2026-05-31")  # 30 days before the date asked for
    assert asked("2026-05-01", "2026-05-31") == asked("2026-05-31", "2026-05-01") == ("2026-05-01", "2026-05-31")
    assert asked("2026-05-20", period=" YTD") == ("2025-12-31", "2026-05-20")
    assert asked("2026-05-20", period="1m") == ("2026-04-20", "2026-05-20")
    assert asked("2026-05-20", period="1m", force_month_end=True) == ("2026-04-30", "2026-05-20")
    # "Today" is São Paulo's when asked: 2 in the morning UTC is still the day before.
    clock.now = datetime(2026, 12, 1, 2, 0, tzinfo=UTC)
    assert lq.today() == date(2026, 11, 30)
    assert asked(period="mtd") == ("2026-10-31", "2026-11-30")
    clock.now = datetime(2026, 12, 1, 3, 0, tzinfo=UTC)
    assert asked(period="mtd") == ("2026-11-30", "2026-12-01")
    with pytest.raises(InvalidPeriodError, match="1y"):
        asked(period="1y")
    with pytest.raises(UsageError, match="Both"):
        asked(TODAY, "2026-01-01", period="1m")


def test_a_series_without_a_price_is_named(disk: Any, caplog: Any) -> None:
    lq = fill(disk.query(), hist_px_last={"x": {"2026-11-20": 5.0}, "later": {TODAY: 6.0}, "dead": {"2020-01-01": 7.0}})
    asked = ["x", "later", "dead", "typo"]
    plain = lq.get_prices(asked, "2026-11-21", "2026-11-20")
    assert set(plain["Asset"]) == {"x", "dead"}
    assert "3 series" in caplog.text
    assert all(named in caplog.text for named in ("later: no_price", "dead: stale", "typo: unknown"))
    caplog.clear()
    frame = lq.get_prices(asked, "2026-11-21", "2026-11-20", with_status=True).set_index("Asset")
    assert frame.index.tolist() == ["dead", "dead", "later", "typo", "x", "x"]
    assert frame.loc[["later", "typo"], "Status"].tolist() == ["no_price", "unknown"]
    assert frame.loc[["later", "typo"], "Date"].tolist() == [pd.Timestamp("2026-11-21")] * 2
    assert frame.loc[["later", "typo"], ["Last_Price", "Price_Date"]].isna().all(axis=None)
    observed = lq.get_prices(["x"], "2026-11-23", "2026-11-22", force_continuous_date_range=False, with_status=True)
    assert observed["Status"].tolist() == ["no_price"]  # it has one, of another day
    caplog.clear()
    lq.get_prices("x", "2026-11-21", "2026-11-20")
    assert caplog.text == ""


def test_prices_of_all_assets(disk: Any) -> None:
    lq = assets(fill(disk.query(), hist_px_last={k: {"2026-11-20": 1.0} for k in "abc"}), b="us", a="bz")
    assert lq.get_prices(recent_date="2026-11-20", previous_date="2026-11-20")["Asset"].tolist() == ["a", "b"]
    assert lq.get_prices([], "2026-11-20").empty
    with pytest.raises(TableNotFoundError, match="assets"):
        fill(disk.query(blob_directory="other")).get_prices()


def test_current_prices_extend_a_range_that_ends_today(disk: Any) -> None:
    lq = assets(
        fill(
            disk.query(),
            hist_px_last={
                "x": {"2026-11-20": 10.0},
                "same": {"2026-11-20": 10.0},
                "usdbrl curncy": {"2026-11-20": 5.0},
            },
            px_last={
                "x": {"2026-11-22": 12.0},
                "same": {"2026-11-20": 99.0},
                "tomorrow": {"2026-11-24": 99.0},
                "usdbrl curncy": {TODAY: 6.0},
            },
        ),
        x="us",
        same="us",
        tomorrow="us",
    )

    def prices(key: str = "x", end: str = TODAY, **options: Any) -> dict[str, Any]:
        return series(lq.get_prices(key, end, "2026-11-20", **options), key)

    assert prices() == {"11-20": 10, "11-21": 10, "11-22": 10, "11-23": 10}
    assert prices(get_intraday_prices=True) == {"11-20": 10, "11-21": 10, "11-22": 12, "11-23": 12}
    assert prices(end="2026-11-22", get_intraday_prices=True) == {"11-20": 10, "11-21": 10, "11-22": 10}
    assert prices(get_intraday_prices=True, force_continuous_date_range=False) == {"11-20": 10, "11-22": 12}
    assert prices("same", get_intraday_prices=True)["11-23"] == 10
    assert prices("tomorrow", get_intraday_prices=True) == {}
    assert prices(currency="brl") == {"11-20": 50, "11-21": 50, "11-22": 50, "11-23": 50}
    # 12 × 5 on the 22nd, 12 × 6 on the day itself, of which there is a rate.
    assert prices(currency="brl", get_intraday_prices=True) == {"11-20": 50, "11-21": 50, "11-22": 60, "11-23": 72}
    status = lq.get_prices("x", TODAY, "2026-11-20", get_intraday_prices=True, with_status=True)["Status"]
    assert status.tolist() == ["ok", "ok", "intraday", "intraday"]


def test_a_current_mark_is_still_a_mark(disk: Any) -> None:
    lq = fill(
        disk.query(), hist_vc_px_last={"vc": {"2026-01-01": 7.0}}, px_last={"vc": {"2026-02-01": 8.0}}
    ).get_prices("vc", TODAY, TODAY, get_intraday_prices=True, with_status=True)
    assert (lq["Last_Price"].tolist(), lq["Status"].tolist()) == ([8.0], ["carried"])


def test_overrides(disk: Any) -> None:
    lq = assets(
        fill(
            disk.query(),
            hist_px_last={
                "x": {"2026-11-16": 1.0, "2026-11-18": 2.0, "2026-11-20": 3.0},
                "y": {"2026-11-16": 1.0},
                "usdbrl curncy": {"2026-11-16": 5.0},
            },
            px_last={"x": {TODAY: 4.0}},
        ),
        x="us",
        bare="us",
    )
    overrides = pd.DataFrame(
        {
            "Date": pd.to_datetime(["2026-11-17", "2026-11-19", "2026-11-17", "2026-11-20"]),
            "Asset": ["x", " X", "usdbrl curncy", "bare"],
            "Last_Price": [10.0, 20.0, 99.0, 8.0],
        }
    )
    before = overrides.copy()
    frame = lq.get_prices(["x", "y", "bare"], "2026-11-20", "2026-11-16", price_overrides=overrides)
    # Between the first and the last override nothing stored is left: the 2.0 of the 18th is gone.
    assert series(frame) == {"11-16": 1, "11-17": 10, "11-18": 10, "11-19": 20, "11-20": 3}
    assert series(frame, "y") == dict.fromkeys(["11-16", "11-17", "11-18", "11-19", "11-20"], 1.0)
    assert series(frame, "bare") == {"11-20": 8}
    in_brl = lq.get_prices("x", "2026-11-20", "2026-11-19", currency="brl", price_overrides=overrides)
    assert series(in_brl) == {"11-19": 100, "11-20": 15}  # local prices, converted with the stored rate
    today = pd.DataFrame({"Date": [TODAY], "Asset": ["x"], "Last_Price": [30.0]})
    frame = lq.get_prices("x", TODAY, "2026-11-22", get_intraday_prices=True, price_overrides=today, with_status=True)
    assert (series(frame), frame["Status"].tolist()) == ({"11-22": 3, "11-23": 30}, ["ok", "ok"])
    pd.testing.assert_frame_equal(overrides, before)
    with pytest.raises(SchemaError, match="repeated"):
        lq.get_prices("x", price_overrides=pd.concat([today, today]))


# --- currencies --------------------------------------------------------------------------------

RATES = {
    # The clean coupon begins on 2011-04-14 and ends on 2026-11-20; spot has more on both sides.
    "bmfxclco curncy": {"2011-04-14": 1.60, "2011-04-15": 1.62, "2026-11-19": 5.40, "2026-11-20": 5.50},
    "usdbrl curncy": {"2011-04-08": 1.50, "2011-04-14": 1.58, "2026-11-18": 5.35, "2026-11-20": 5.40, TODAY: 5.508},
    "usdeur curncy": {"2026-11-20": 0.80},
}


def test_prices_in_real(disk: Any) -> None:
    lq = assets(disk.query(), x="us", e="eur", b="bz", c="cn", nowhere=None)
    days = ("2011-04-11", "2011-04-15", "2026-11-18", "2026-11-20", TODAY)
    fill(lq, hist_px_last={**{key: dict.fromkeys(days, 10.0) for key in ("x", "e", "b", "c", "nowhere")}, **RATES})

    def brl(day: str, key: str = "x") -> float:
        return lq.get_price(key, day, currency="brl")

    assert brl("2026-11-20") == pytest.approx(10 * 5.50, rel=1e-12)
    assert brl("2011-04-15") == pytest.approx(10 * 1.62, rel=1e-12)
    # Before its first value the clean series moves as spot does: 1.60 × 1.50 / 1.58.
    assert brl("2011-04-11") == pytest.approx(10 * 1.60 * 1.50 / 1.58, rel=1e-12)
    # Spot is newer than any clean value before the 18th, but the clean series goes on after it: no chaining.
    assert np.isnan(brl("2026-11-18"))
    # After its last value: 5.50 × 5.508 / 5.40.
    assert brl(TODAY) == pytest.approx(10 * 5.50 * 5.508 / 5.40, rel=1e-12)
    assert brl(TODAY, "e") == pytest.approx(10 * 5.50 * 5.508 / 5.40 / 0.80, rel=1e-12)  # through the dollar
    assert brl("2011-04-11", "b") == 10
    assert lq.get_price("b", "2026-11-20", currency="EUR") == pytest.approx(10 / 5.50 * 0.80, rel=1e-12)
    assert lq.get_price("x", "2026-11-20", currency="brl", usdbrl_ticker="USDBRL Curncy") == 54.0

    frame = lq.get_prices(["b", "c", "nowhere", "x"], TODAY, "2026-11-20", currency="brl", with_status=True)
    last = frame[frame["Date"] == TODAY].set_index("Asset")
    assert last["Status"].to_dict() == {"b": "ok", "c": "no_fx", "nowhere": "missing_currency", "x": "ok"}
    assert last["Last_Price"].isna().to_dict() == {"b": False, "c": True, "nowhere": True, "x": False}
    # Point and series queries use one rate; a range across 2011 and one of spot alone agree with it.
    for end, start in ((TODAY, "2026-11-17"), ("2011-04-16", "2011-04-10"), ("2026-11-20", "2011-04-08")):
        for key in ("x", "e"):
            found = lq.get_prices(key, end, start, currency="brl").set_index("Date")["Last_Price"]
            for day in [day for day in days if start <= day <= end]:
                np.testing.assert_equal(found[day], brl(day, key))


def test_a_dollar_asset_needs_no_rate_in_dollars(disk: Any) -> None:
    lq = assets(fill(disk.query(), hist_px_last={"x": {TODAY: 10.0}, "r": {TODAY: 10.0}}), x="us", r="bz")
    assert lq.get_price("x", currency="usd") == 10
    assert lq.get_price("r", currency="brl") == 10
    assert np.isnan(lq.get_price("r", currency="usd"))
    for wrong in ("all", "reais", ""):
        with pytest.raises(UsageError, match="not a currency"):
            lq.get_price("x", currency=wrong)


def test_convert_currency(disk: Any) -> None:
    lq = fill(disk.query(), hist_px_last=RATES)
    prices = pd.DataFrame(
        {
            "Date": pd.to_datetime([TODAY, "2026-11-20", "2001-01-01"]),
            "Asset": ["B", "a", "a"],
            "Last_Price": [2.0, 3, 4],
        },
        index=[7, 7, 8],
    )
    before = prices.copy()
    brl = lq.convert_currency(prices, "usd", "brl")
    np.testing.assert_allclose(brl["Last_Price"], [2 * 5.50 * 5.508 / 5.40, 3 * 5.50, np.nan], rtol=1e-12)
    pd.testing.assert_frame_equal(brl.drop(columns="Last_Price"), prices.drop(columns="Last_Price"))
    mixed = lq.convert_currency(prices, {"a": "eur", "b": "BRL"}, "brl")
    np.testing.assert_allclose(mixed["Last_Price"], [2, 3 * 5.50 / 0.80, np.nan], rtol=1e-12)
    same = lq.convert_currency(prices, "usd", "usd")
    pd.testing.assert_frame_equal(same, prices)
    assert same is not prices
    assert lq.convert_currency(prices.iloc[:0], "usd", "brl").empty
    pd.testing.assert_frame_equal(prices, before)
    with pytest.raises(UsageError, match="'B'"):
        lq.convert_currency(prices, {"a": "usd"}, "brl")
    with pytest.raises(UsageError, match="local"):
        lq.convert_currency(prices, "local", "brl")
    with pytest.raises(SchemaError, match="'Asset'"):
        lq.convert_currency(prices.drop(columns="Asset"), "usd", "brl")
    with pytest.raises(SchemaError, match="Date"):
        lq.convert_currency(prices.assign(Date=pd.NaT), "usd", "brl")

    fill(lq, px_last={"usdbrl curncy": {TODAY: 5.40}}, hist_px_last={"usdbrl curncy": {"2026-11-20": 5.0}})
    assert lq.convert_currency(prices, "usd", "brl")["Last_Price"].iloc[0] == 10
    assert lq.convert_currency(prices, "usd", "brl", get_intraday_prices=True)["Last_Price"].iloc[0] == 10.8


@pytest.mark.parametrize("seed", range(4))
def test_prices_are_those_of_an_independent_computation(disk: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lq = assets(disk.query(), a="us", b="bz", c="eur", d="us")
    days = pd.date_range("2026-03-01", "2026-11-20")
    names = ["a", "b", "c", "d", "usdbrl curncy", "usdeur curncy"]
    dense = pd.DataFrame(rng.uniform(1, 9, (len(days), 6)), index=days, columns=names)
    sparse = dense.where(rng.random(dense.shape) < rng.choice([0.05, 0.15, 0.6], 6))
    sparse.loc[:"2026-06-01", "d"] = np.nan
    fill(lq, hist_px_last={k: {f"{d:%Y-%m-%d}": v for d, v in s.dropna().items()} for k, s in sparse.items()})
    start, end = days[rng.integers(0, 60)], days[-1] - pd.Timedelta(days=int(rng.integers(0, 60)))

    # pandas: filled over all days, and null where the last observation is more than 10 days back.
    age = sparse.notna().apply(lambda s: pd.Series(days, days).where(s).ffill()).rsub(pd.Series(days, days), axis=0)
    filled = sparse.ffill().where(age <= pd.Timedelta(days=10))
    brl, eur = filled["usdbrl curncy"], filled["usdeur curncy"]
    in_brl = pd.DataFrame(
        {"a": filled["a"] * brl, "b": filled["b"], "c": filled["c"] / eur * brl, "d": filled["d"] * brl}
    )
    begun = sparse.ffill().notna()
    for currency, table in {"local": filled, "brl": in_brl}.items():
        found = lq.get_prices(list("abcd"), end, start, currency=currency)
        wide = found.pivot(index="Date", columns="Asset", values="Last_Price").reindex(
            days[(days >= start) & (days <= end)]
        )
        for name in "abcd":
            np.testing.assert_allclose(wide[name], table.loc[start:end, name], rtol=1e-12, err_msg=f"{name} {currency}")
            assert len(found[found["Asset"] == name]) == begun.loc[start:end, name].sum()


def test_cash_under_limits_that_grow_down_the_precedence(disk: Any) -> None:
    lq = assets(disk.query(settings=Settings(stale_traded=60, stale_fund=45)), caixa="bz")
    assert lq.get_price("caixa", "2026-11-20") == 1


def test_the_statuses_are_documented_in_their_order() -> None:
    text = (ROOT / "docs" / "returns.md").read_text(encoding="utf-8")
    table = text[text.index("## Statuses") :]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)[: len(STATUSES)] == list(STATUSES)


# --- returns -----------------------------------------------------------------------------------


def test_get_pct_changes(disk: Any) -> None:
    lq = assets(
        fill(
            disk.query(),
            hist_px_last={
                "x": {"2025-10-31": 80.0, "2026-09-30": 100.0, "2026-10-30": 110.0},
                "new": {"2026-10-15": 10.0, "2026-10-30": 12.0},
                "dead": {"2025-10-31": 10.0, "2026-03-31": 12.0},
                "usdbrl curncy": {"2026-09-30": 5.0, "2026-10-30": 6.0},
            },
        ),
        x="us",
        new="us",
    )
    frame = lq.get_pct_changes(["x", "typo", "new", "dead", "X"], "2026-10-31", period="mtd")
    assert frame.index.tolist() == ["x", "typo", "new", "dead"]
    assert frame.index.name == "Asset"
    assert frame["Pct_Change"].tolist() == pytest.approx([0.1, np.nan, np.nan, np.nan], nan_ok=True)
    assert frame["Status"].tolist() == ["ok", "unknown", "no_base", "stale_end"]  # never a part for the whole
    assert frame.loc["x", ["Base_Date", "End_Date"]].tolist() == [
        pd.Timestamp("2026-09-30"),
        pd.Timestamp("2026-10-30"),
    ]
    assert frame.loc["x", ["Base_Price", "End_Price"]].tolist() == [100, 110]
    # (1 + 10 %) × (6 / 5) − 1
    brl = lq.get_pct_changes(["x", "dead"], "2026-10-31", "2026-09-30", currency="brl")
    assert brl["Pct_Change"].tolist() == pytest.approx([0.32, np.nan], nan_ok=True)
    assert brl["Status"].tolist() == ["ok", "missing_currency"]
    assert lq.get_pct_changes(recent_date="2026-10-31", period="mtd").index.tolist() == ["new", "x"]
    # The base is counted back from recent_date, not from yesterday: 31 October 2025.
    assert lq.get_pct_change("x", "2026-10-31", period="12m") == pytest.approx(110 / 80 - 1)
    assert lq.get_pct_changes("x", "2026-10-31", period="12m")["Pct_Change"].tolist() == pytest.approx([110 / 80 - 1])
    assert lq.get_pct_change("x", "2026-10-31", "2026-09-30", currency="brl") == pytest.approx(0.32)


def test_get_pct_change_counts_from_now(disk: Any, clock: Any, caplog: Any) -> None:
    lq = fill(
        disk.query(clock=clock),
        hist_px_last={"x": {"2026-10-30": 90.0, "2026-11-20": 100.0}},
        px_last={"x": {TODAY: 105.0}},
    )
    assert lq.get_pct_change("x") == pytest.approx(0.05)  # yesterday's price is Friday's
    assert lq.get_pct_change("x", period="mtd") == pytest.approx(105 / 90 - 1)
    assert lq.get_pct_changes("x", period="mtd")["Pct_Change"].tolist() == pytest.approx([105 / 90 - 1])
    assert caplog.text == ""
    clock.now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert np.isnan(lq.get_pct_change("x"))  # nothing new since yesterday: no return of zero
    assert "stale_end" in caplog.text
    clock.now = datetime(2026, 12, 1, 12, tzinfo=UTC)
    assert np.isnan(lq.get_pct_change("x", period="12m"))
    assert lq.get_pct_changes("x", period="mtd").iloc[0]["Base_Date"] == pd.Timestamp(TODAY)


def test_returns_are_net_of_amortizations(disk: Any) -> None:
    lq = fill(disk.query(), all_funds_quotas={"f": {"2026-09-30": 100.0, "2026-10-30": 94.5}})
    events = pd.DataFrame({"Fund": ["f"], "Event_Date": pd.to_datetime(["2026-10-10"]), "Ratio": [0.1]})
    save_table("quota_adjustments", events, lq=lq)
    # 100 × (1 − 10 %) = 90, and 94.5 / 90 − 1 = 5 %.
    assert lq.get_pct_change("f", "2026-10-31", period="mtd") == pytest.approx(0.05)
    assert lq.get_pct_changes("f", "2026-10-31", period="mtd")["Pct_Change"].tolist() == pytest.approx([0.05])
    assert lq.get_pct_change("f", "2026-10-31", period="mtd", adjust_amortization=False) == pytest.approx(-0.055)
    assert lq.get_price("f", "2026-09-30") == 100  # a price is as quoted

    # A current price before an event of which the history knows is on the old basis, too.
    fill(lq, px_last={"f": {"2026-11-19": 96.39}})
    save_table("quota_adjustments", events.assign(Event_Date=pd.to_datetime(["2026-11-20"])), lq=lq, mode="replace")
    # Both before the event: 96.39 / 94.5 − 1 = 2 %.
    assert lq.get_pct_change("f", TODAY, "2026-10-31") == pytest.approx(0.02)


def stored_months(lq: Any) -> Any:
    cells = []
    for month, scale in (("2026-09-30", 1.0), ("2026-10-31", 2.0)):
        for currency in ("local", "usd", "brl"):
            for key in ("b_b", "a_a"):
                for n, period in enumerate(("12m", "mtd", "ytd")):
                    missing = key == "b_b" and period != "mtd"
                    value = np.nan if missing else scale * (n + 1) / 100 * (1 + (currency == "brl"))
                    cells.append((month, key, currency, period, value, "no_base" if missing else "ok"))
    frame = pd.DataFrame(cells, columns=["Date", "Key", "Currency", "Period", "Return", "Status"])
    frame["Date"] = pd.to_datetime(frame["Date"])
    for column in [c.name for c in HIST_RETURNS.columns if c.name not in frame.columns]:
        frame[column] = (
            pd.NaT if column.endswith("Date") else None if column in ("Price_Key", "Local_Currency") else 1.0
        )
    incremental_load(lq, "hist_returns", frame, schema=HIST_RETURNS)
    return lq


@pytest.mark.parametrize("seed", range(4))
def test_returns_on_many_dates_are_those_of_each_alone(disk: Any, seed: int) -> None:
    """With amortizations, marks, currencies and current prices: together they are what they are one by one."""
    rng = np.random.default_rng(seed)
    days = [f"{day:%Y-%m-%d}" for day in pd.date_range("2023-01-02", "2026-11-20", freq="B")]

    def some(share: float, price: float = 50) -> dict[str, float]:
        return {day: price * float(np.exp(rng.normal(0, 0.3))) for day in days if rng.random() < share}

    lq = assets(disk.query(), share="us", fund="bz", euro="eur", venture="us", nowhere=None, nothing="us")
    fill(
        lq,
        hist_px_last={"share": some(0.9), "euro": some(0.5), "nowhere": some(0.9), "usdbrl curncy": some(1, 5)},
        all_funds_quotas={"fund": some(0.1)},
        hist_vc_px_last={"venture": some(0.02) | {"2024-01-02": 0.0}},
        px_last={"share": {TODAY: 70.0}},
    )
    events = pd.DataFrame(
        {"Fund": "fund", "Event_Date": pd.to_datetime(["2024-06-15", "2026-03-10"]), "Ratio": [0.4, 0.1]}
    )
    save_table("quota_adjustments", events, lq=lq)
    dates = [TODAY, "2026-02-28", "2024-02-29", "2023-01-31", "2025-06-17"]
    periods, currencies = ["mtd", "qtr", "1m", "24m"], ["brl", "local", "usd"]
    found = lq.get_returns(dates, periods=periods, currency=currencies)
    assert found.columns.tolist() == ["Currency", "Asset", "Date", "Period", "Return", "Status"]
    assert len(found) == 3 * 6 * 5 * 4
    assert found["Status"].nunique() >= 6
    for (currency, day, period), rows_ in found.groupby(["Currency", "Date", "Period"], observed=True):
        alone = lq.get_pct_changes(rows_["Asset"].astype(str), f"{day:%Y-%m-%d}", period=period, currency=currency)
        np.testing.assert_allclose(rows_["Return"], alone["Pct_Change"], rtol=1e-12)
        assert rows_["Status"].tolist() == alone["Status"].tolist()
    # In the order asked for, and of which each text is a category.
    assert found["Date"].unique().tolist() == pd.to_datetime(dates).tolist()
    assert found["Currency"].cat.categories.tolist() == currencies
    one = lq.get_returns(dates[1], "share", "24m", "usd")
    assert one.iloc[0].tolist()[:4] == ["usd", "share", pd.Timestamp(dates[1]), "24m"]
    assert len(one) == 1


def test_prices_of_many_dates_are_each_on_the_basis_of_its_own(disk: Any) -> None:
    lq = fill(
        assets(disk.query(), fund="bz"),
        all_funds_quotas={"fund": {"2026-01-30": 100, "2026-02-27": 50, "2026-03-31": 55}},
    )
    events = pd.DataFrame({"Fund": ["fund"], "Event_Date": pd.to_datetime(["2026-02-10"]), "Ratio": [0.5]})
    save_table("quota_adjustments", events, lq=lq)
    january, february, march = date(2026, 1, 31), date(2026, 2, 28), date(2026, 3, 31)
    spans = [(date(2025, 12, 31), january), (january, february), (february, march), (january, march)]
    ((_, found),) = Answers(lq.market).returns(["fund"], spans, ["local"])
    assert found.end_price.tolist() == [[100, 50, 55, 55]]  # in January nobody knew of the repayment
    np.testing.assert_allclose(found.base_price, [[np.nan, 50, 50, 50]])
    np.testing.assert_allclose(found.value, [[np.nan, 0, 0.1, 0.1]], atol=1e-12)


def test_what_get_returns_refuses(disk: Any) -> None:
    lq = assets(disk.query(), share="us")
    for arguments, error in [
        (([],), UsageError),
        ((["2026-02-30"],), UsageError),
        (("2026-02-28", "share", "weekly"), InvalidPeriodError),
        (("2026-02-28", "share", []), UsageError),
        (("2026-02-28", "share", "mtd", "all"), UsageError),
        (("2026-02-28", "share", "mtd", []), UsageError),
    ]:
        with pytest.raises(error):
            lq.get_returns(*arguments)
    assert lq.get_returns(["2026-02-28"], [], "mtd").empty


def test_get_hist_returns(disk: Any) -> None:
    lq = stored_months(disk.query())
    long = lq.get_hist_returns()
    assert (len(long), long["Date"].unique().tolist()) == (18, [pd.Timestamp("2026-10-31")])
    assert set(lq.get_hist_returns("2026-09-10", "USD")["Currency"]) == {"usd"}
    wide = lq.get_hist_returns(wide=True)
    assert wide.columns.tolist() == ["Date", "Key", "mtd", "ytd", "12m", "Status"]  # BRL
    assert wide["Key"].tolist() == ["a_a", "b_b"]
    assert wide["mtd"].tolist() == pytest.approx([0.08, 0.08])
    assert wide["12m"].tolist() == pytest.approx([0.04, np.nan], nan_ok=True)
    assert wide["Status"].tolist() == ["ok", "ytd: no_base, 12m: no_base"]
    assert "Status" not in lq.get_hist_returns(wide=True, with_status=False)
    save_table("assets", pd.DataFrame({"Key": ["a_a"], "Name": ["Ação A"]}), lq=lq)
    named = lq.get_hist_returns("2026-10-31", "local", wide=True)
    assert named["Name"].tolist()[0] == "Ação A"
    assert named["Name"].isna().tolist() == [False, True]
    assert named["mtd"].tolist() == pytest.approx([0.04, 0.04])

    both = lq.get_hist_returns(currency=["brl", "local"])
    assert set(both["Currency"]) == {"brl", "local"}
    wide = lq.get_hist_returns(currency=["brl", "local"], wide=True)
    assert wide[["Key", "Currency"]].to_numpy().tolist() == [
        ["a_a", "brl"], ["a_a", "local"], ["b_b", "brl"], ["b_b", "local"],
    ]  # fmt: skip
    assert wide["mtd"].tolist() == pytest.approx([0.08, 0.04, 0.08, 0.04])
    assert wide["Status"].tolist()[::2] == ["ok", "ytd: no_base, 12m: no_base"]

    with pytest.raises(DataError, match="2026-08-31") as caught:
        lq.get_hist_returns("2026-08-15")
    assert "luxor run hist_returns --ref-date 2026-08-31" in caught.value.hint
    with pytest.raises(UsageError, match=r"'eur'[\s\S]*brl"):
        lq.get_hist_returns(currency="eur")
    with pytest.raises(UsageError, match="reais"):
        lq.get_hist_returns(currency="reais")


def test_get_hist_returns_before_there_are_any(disk: Any) -> None:
    with pytest.raises(TableNotFoundError, match="hist_returns"):
        disk.query().get_hist_returns()


# --- dates -------------------------------------------------------------------------------------

HOLIDAYS = [
    *[(day, place) for day in ("2026-01-01", "2026-12-25", "2027-01-01") for place in ("bz", "us")],
    ("2026-11-20", "bz"),  # a Friday
    ("2026-11-20", "bz"),  # twice in the table, and still of one place
    ("2026-11-26", "us"),
]


def test_tables_of_another_program_spell_names_as_they_like(disk: Any) -> None:
    """Upper case, no-break spaces and Unicode's other form name the same fund, place and series."""
    lq = disk.query()
    odd, plain_name = unicodedata.normalize("NFD", "FUNDO\u00a0A\u00c7\u00c3O"), "fundo a\u00e7\u00e3o"
    day = pd.to_datetime(["2026-09-30", "2026-10-30"])
    put(lq, "all_funds_quotas", pa.table({"Date": day, "Fund": [odd, odd], "Quota": [100.0, 94.5]}))
    event = {"Fund": [odd], "Event_Date": pd.to_datetime(["2026-10-10"]), "Ratio": [0.1]}
    put(lq, "quota_adjustments", pa.table(event))
    put(lq, "holidays", pa.table({"Date": pd.to_datetime(["2026-11-20"]), "Location": ["S\u00c3O\u00a0PAULO"]}))
    master = {"Key": ["F_F"], "Name": ["The Fund"], "Asset": ["F"], "Ticker": [odd], "Location": ["BZ"]}
    put(lq, "assets", pa.table(master))
    assert lq.get_pct_change(plain_name, "2026-10-31", period="mtd") == pytest.approx(0.05), "net of what it returned"
    assert lq.get_quota_adjusted_by_amortization(plain_name, 100.0, "2026-09-30") == pytest.approx(90.0)
    assert lq.get_asset_name(plain_name) == "The Fund"
    assert lq.is_holiday("2026-11-20", unicodedata.normalize("NFD", "s\u00e3o paulo"))
    assert len(lq.get_table("all_funds_quotas", where={"Fund": plain_name})) == 2
    prices = pd.DataFrame({"Date": day[:1], "Asset": [plain_name], "Last_Price": [100.0]})
    assert lq.convert_currency(prices, {odd: "brl"}, "brl")["Last_Price"].tolist() == [100.0]


def holidays(lq: Any, table: str = "holidays") -> Any:
    frame = pd.DataFrame(HOLIDAYS, columns=["Date", "Location"])
    put(lq, table, pa.Table.from_pandas(frame.assign(Date=pd.to_datetime(frame["Date"])), preserve_index=False))
    return lq


@pytest.mark.parametrize("table", ["holidays", "holidays_exchange"])
def test_holidays(disk: Any, table: str) -> None:
    lq = holidays(disk.query(), table)
    day = "2026-11-20"
    for same in (day, date(2026, 11, 20), datetime(2026, 11, 20, 15), pd.Timestamp(day), np.datetime64(day)):
        assert lq.is_holiday(same, " BZ")
        assert not lq.is_holiday(same, "us")
    assert lq.is_holiday(day, "any")
    assert not lq.is_holiday(day, "all")
    assert lq.is_holiday("2026-12-25", "all")
    assert not lq.is_holiday("2026-11-21", "bz")  # a Saturday is not one
    with pytest.raises(UsageError, match="'mars'"):
        lq.is_holiday(day, "mars")
    with pytest.warns(CalendarRangeWarning, match="known from") as caught:
        assert not lq.is_holiday("2035-12-25", "bz")
    assert Path(caught[0].filename).name == Path(__file__).name


def test_business_days(disk: Any) -> None:
    lq = holidays(disk.query())
    assert lq.get_bday_offset("2026-11-19") == date(2026, 11, 23)  # over the holiday and the weekend, bz
    assert lq.get_bday_offset("2026-11-19", 1, "us") == date(2026, 11, 20)
    assert lq.is_business_day("2026-11-19")
    assert not lq.is_business_day("2026-11-20")
    assert lq.is_business_day("2026-11-20", "us")
    assert not lq.is_business_day(date(2026, 11, 21), "any")
    assert lq.get_bday_offset("2026-11-23", -1) == date(2026, 11, 19)
    assert lq.get_bday_offset("2026-11-20", 0) == date(2026, 11, 19)
    assert lq.get_bday_offset(pd.Timestamp("2026-11-23"), 3, "any") == date(2026, 11, 27)
    assert lq.get_bdays_count("2026-11-23", "2026-11-19") == 0  # both ends excluded
    assert lq.get_bdays_count("2026-11-23", "2026-11-19", "us") == 1
    assert lq.get_bdays_count("2026-11-23", "2026-11-19", "bz", "both") == 2
    assert lq.get_bdays_count("2026-11-19", "2026-11-23") == 0


def test_month_ends_and_base_dates(disk: Any) -> None:
    lq = disk.query()
    assert lq.get_month_end("2024-02-10") == date(2024, 2, 29)
    assert lq.is_month_end(datetime(2026, 4, 30, 23))
    assert not lq.is_month_end("2026-01-30")
    assert lq.get_start_period_dt("2026-08-31", "6m") == date(2026, 2, 28)
    assert lq.get_start_period_dt("2026-11-23", "mtd", force_bday=False) == date(2026, 10, 31)
    with pytest.raises(TableNotFoundError, match="holidays"):
        lq.is_holiday(TODAY, "bz")
    holidays(lq)
    assert lq.update() == ["holidays"]
    assert lq.get_start_period_dt("2026-12-20", "1m", force_bday=True, holiday_location="bz") == date(2026, 11, 19)
    assert lq.get_start_period_dt("2026-12-20", "1m", True) == date(2026, 11, 20)  # open somewhere
    assert lq.get_start_period_dt("2026-12-20", "1m", force_month_end=True) == date(2026, 11, 30)
    with pytest.raises(InvalidPeriodError, match="wtd"):
        lq.get_start_period_dt(TODAY, "wtd")


def test_the_firms_own_holidays_come_first_when_there_are_some(disk: Any) -> None:
    lq = holidays(disk.query(), "holidays_exchange")
    assert lq.is_holiday("2026-11-20", "bz")
    own = pd.DataFrame({"Date": pd.to_datetime(["2026-01-01", "2026-11-23", "2026-12-31"]), "Location": "bz"})
    save_table("holidays", own, lq=lq)
    assert not lq.is_holiday("2026-11-20", "bz")
    assert lq.is_holiday("2026-11-23", "bz")
    with pytest.raises(UsageError, match="'us'"):
        lq.is_holiday("2026-11-23", "us")


def test_a_condition_is_on_what_a_column_is_read_as(disk: Any) -> None:
    lq = disk.query()
    text = {"Date": ["2025-01-01", "2025-01-02"], "Pct_Change": ["0.1", "0.2"], "Asset": ["a", "b"]}
    put(lq, "old", pa.table(text))
    number, words = {"float": ["Pct_Change"]}, {"str_nan_format": ["Date"]}
    for where in ({"Pct_Change": (0.15, None)}, {"Pct_Change": 0.2}, {"Pct_Change": [0.2]}):
        assert lq.get_table("old", dtypes_override=number, where=where)["Asset"].tolist() == ["b"]
    found = lq.get_table("old", dtypes_override=words, where={"Date": "2025-01-01"})
    assert found["Date"].tolist() == ["2025-01-01"]
    assert lq.get_table("old", where={"Pct_Change": "0.1"})["Asset"].tolist() == ["a"]
    with pytest.raises(UsageError, match="'high' is not a value of column 'Pct_Change', which holds numbers"):
        lq.get_table("old", dtypes_override=number, where={"Pct_Change": "high"})


def test_a_date_is_a_day_and_text_is_found_as_it_is_stored(disk: Any) -> None:
    lq = disk.query()
    times = ["2025-01-31", "2025-01-31 17:30", "2025-02-01", "2025-02-03"]
    frame = pd.DataFrame({"Date": pd.to_datetime(times, format="mixed"), "Location": ["US", "bz", " us", "bz"]})
    save_table("t", frame.assign(Name=["Petrobras", "petrobras", "x", "y"]), lq=lq)

    def found(where: Any) -> list[int]:
        return [int(row) for row in lq.get_table("t", where=where)["Date"].dt.strftime("%m%d%H")]

    assert found({"Date": "2025-01-31"}) == found({"Date": date(2025, 1, 31)}) == [13100, 13117]
    assert found({"Date": ("2025-01-31", "2025-01-31")}) == [13100, 13117]
    assert found({"Date": datetime(2025, 1, 31, 17, 30)}) == [13117]
    # More days than are looked for one by one, in no order, one of them twice.
    days = [f"2025-02-{day:02d}" for day in range(28, 1, -1)]
    assert found({"Date": ["2025-01-31", *days, "2025-01-31"]}) == [13100, 13117, 20300]
    assert found({"Location": " US"}) == found({"Location": ["US", "eur"]}) == [13100, 20100]
    assert found({"Name": "Petrobras"}) == found({"Name": " petroBRAS "}) == [13100, 13117], "also where case is kept"
    assert found("Name != petrobras") == [20100, 20300]


def test_a_column_named_twice_is_read_once(disk: Any) -> None:
    lq = fill(disk.query(), hist_px_last={"x": {"2026-10-30": 1.0}})
    assert lq.get_table("hist_px_last", columns=["Asset", "Date", "Asset"]).columns.tolist() == ["Asset", "Date"]


def test_series_that_are_nowhere_are_named(disk: Any, caplog: Any) -> None:
    lq = fill(disk.query(), hist_px_last={"x": {"2026-09-30": 1.0, "2026-10-30": 2.0}}, px_last={"new": {TODAY: 1.0}})
    lq.get_pct_changes(["x", "typo"], "2026-10-31", "2026-09-30")
    assert "No price table has 1 of the series: 'typo'" in caplog.text
    caplog.clear()
    lq.get_returns("2026-10-31", tickers=["x", "new"], currency="local")
    assert "No price table has" not in caplog.text


def test_a_rate_series_that_is_nowhere_is_not_replaced_by_spot(disk: Any) -> None:
    price = {"2026-09-30": 4.0, "2026-10-30": 5.0}
    lq = assets(fill(disk.query(), hist_px_last={"x": price, "usdbrl curncy": price}), x="us")
    assert lq.get_prices(["x"], "2026-10-30", "2026-10-30", currency="brl")["Last_Price"].tolist() == [25.0]
    for ask in (
        lambda: lq.get_prices(["x"], "2026-10-30", "2026-10-30", currency="brl", usdbrl_ticker="bmfxclc0 curncy"),
        lambda: lq.get_returns("2026-10-31", tickers=["x"], currency="brl", usdbrl_ticker="bmfxclc0 curncy"),
    ):
        with pytest.raises(UnknownAssetError, match="No price table has a series 'bmfxclc0 curncy'"):
            ask()
    with pytest.raises(UsageError, match="None is not the name of a series"):
        lq.get_prices(["x"], "2026-10-30", "2026-10-30", currency="brl", usdbrl_ticker=None)


def test_half_a_business_day_is_none(disk: Any) -> None:
    lq = disk.query()
    save_table(
        "holidays", pd.DataFrame({"Date": pd.to_datetime(["2025-12-25", "2026-12-25"]), "Location": "us"}), lq=lq
    )
    assert lq.get_bday_offset("2026-10-30", np.int64(1), "us") == date(2026, 11, 2)
    with pytest.raises(UsageError, match="is no number of business days"):
        lq.get_bday_offset("2026-10-30", 1.5, "us")
