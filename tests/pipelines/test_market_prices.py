"""market_prices: several files at once, quarantine, the gate, declared formats, files that cannot be read."""

import gzip
import io
import json
import re
from datetime import UTC, datetime

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luxor_pipelines.errors import DataError, QualityError, SchemaError, UsageError
from luxor_pipelines.ingest import incremental_load, save_table
from luxor_pipelines.pipelines import market_prices
from luxor_pipelines.query.luxor_query import LuxorQuery
from luxor_pipelines.sources import price_files

NOW = datetime(2026, 11, 3, 18, 30, tzinfo=UTC)


def parquet(columns) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def formulas_without_values() -> bytes:
    """A workbook as a program writes it that does not compute: openpyxl leaves the values out."""
    book, buffer = openpyxl.Workbook(), io.BytesIO()
    for row in (["Date", "A"], [datetime(2026, 10, 30), "=1+1"]):
        book.active.append(row)
    book.save(buffer)
    return buffer.getvalue()


@pytest.fixture
def lq(tmp_path):
    return LuxorQuery(lake=tmp_path.as_uri())


def put(lq, name, data):
    lq.lake.storage.write(f"raw/prices/{name}", data.encode() if isinstance(data, str) else data)


def stored(lq, table="hist_file_px_last"):
    frame = lq.get_table(table).sort_values(["Date", "Asset"])
    return [(f"{row.Date:%Y-%m-%d}", row.Asset, row.Last_Price) for row in frame.itertuples()]


def quarantined(lq):
    return [info.path for info in lq.lake.storage.list("raw/quarantine")]


LONG = "Date,Asset,Last_Price\n2026-10-30,a,1\n2026-10-29,a,2\n2025-12-31,a,3\n"


def test_all_files_are_loaded_at_once_and_a_rerun_changes_nothing(lq):
    put(lq, "long.csv", LONG)
    put(lq, "2026/wide.csv.gz", gzip.compress(b"Date,B,C\n2026-10-30,5,x\n"))
    put(lq, "_old/long.csv", "not looked at")
    put(lq, "_notes.txt", "not looked at")
    first = market_prices.run(lq=lq, now=NOW)
    assert stored(lq) == [
        ("2025-12-31", "a", 3.0),
        ("2026-10-29", "a", 2.0),
        ("2026-10-30", "a", 1.0),
        ("2026-10-30", "b", 5.0),
    ]
    assert first.rows == 4
    assert first.loads[0].inserted == 4
    assert first.loads[0].partitions == ("2025", "2026")
    assert first.details == {
        "files": ["2026/wide.csv.gz", "long.csv"],
        "rows_good": 4,
        "rows_superseded": 0,
        "rows_quarantined": {"price is not a number": 1},
        "quarantine_files": ["raw/quarantine/prices/2026/wide.csv.gz.csv"],
    }
    assert json.loads(json.dumps(first.details)) == first.details
    assert len(first.warnings) == 1
    before = lq.lake.storage.stat("raw/quarantine/prices/2026/wide.csv.gz.csv")
    again = market_prices.run(lq=lq, now=NOW)
    assert not again.loads[0].changed
    assert again.loads[0].unchanged == 4
    assert lq.lake.storage.stat("raw/quarantine/prices/2026/wide.csv.gz.csv") == before


def test_many_files_on_every_storage(rig, monkeypatch):
    monkeypatch.setattr(price_files, "AHEAD_MAX", 60)
    lq = rig.query()
    days = pd.date_range("2026-01-01", periods=12)
    for number, day in enumerate(days):
        rows = f"{day:%Y-%m-%d},a,{number + 1}\n2026-01-01,b,{number + 1}\n"
        put(lq, f"p{number:02d}.csv", f"Date,Asset,Last_Price\n{rows}" + "\n" * number)
    put(lq, "p99.csv", b"\xff")
    with pytest.raises(DataError, match=r"1 of 13 files.*p99\.csv"):
        market_prices.run(lq=lq, now=NOW)
    assert [price for _, asset, price in stored(lq) if asset == "a"] == [float(number + 1) for number in range(12)]
    assert [price for _, asset, price in stored(lq) if asset == "b"] == [12.0], "the last file's"


def test_a_restated_file_updates_exactly_what_it_restates(lq):
    put(lq, "p.csv", LONG)
    market_prices.run(lq=lq, now=NOW)
    put(lq, "p.csv", LONG.replace("2026-10-29,a,2", "2026-10-29,a,2.5"))
    load = market_prices.run(lq=lq, now=NOW).loads[0]
    assert (load.inserted, load.updated, load.unchanged, load.deleted) == (0, 1, 2, 0)
    assert load.partitions == ("2026",)


def test_the_later_name_wins(lq):
    put(lq, "p.csv", LONG)
    put(lq, "p_correction.csv", "Date,Asset,Last_Price\n2026-10-29,A,7\n")
    result = market_prices.run(lq=lq, now=NOW)
    assert stored(lq)[1] == ("2026-10-29", "a", 7.0)
    assert (result.rows, result.details["rows_superseded"]) == (3, 1)


def test_quarantine_has_the_rows_as_found_and_goes_when_they_are_mended(lq):
    put(lq, "p.csv", 'Date,Asset,Last_Price\n2026-10-30,"Some, Name",1x\n2026-10-29,a,2\n')
    result = market_prices.run(lq=lq, now=NOW)
    assert result.rows == 1
    assert lq.lake.storage.read("raw/quarantine/prices/p.csv.csv").data == (
        b'Row,Date,Asset,Last_Price,Reason\n2,2026-10-30,"Some, Name",1x,price is not a number\n'
    )
    put(lq, "p.csv", "Date,Asset,Last_Price\n2026-10-30,a,1\n")
    assert market_prices.run(lq=lq, now=NOW).details["quarantine_files"] == []
    assert quarantined(lq) == []


def test_a_file_without_a_good_row_stops_the_run(lq):
    put(lq, "good.csv", LONG)
    put(lq, "p.csv", "Date,Asset,Last_Price\n2026-10-30,a,x\n")
    with pytest.raises(QualityError, match=r"1 of the 1 rows of raw/prices/p.csv cannot be read"):
        market_prices.run(lq=lq, now=NOW)
    assert not lq.table_exists("hist_file_px_last")
    assert market_prices.run(lq=lq, now=NOW, force=True).rows == 3


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("p.csv", b"Date,Asset,Last_Price\n"),
        ("p.csv", b"Date,Asset,Last_Price\n2026-10-30,a,#N/A N/A\n"),
        ("p.parquet", parquet({"Date": pa.array([], pa.timestamp("us")), "A": pa.array([], pa.float64())})),
        ("p.xlsx", formulas_without_values()),
    ],
    ids=["header", "not available", "parquet", "formulas"],
)
def test_a_file_that_gives_no_row_is_named(lq, name, data):
    put(lq, "good.csv", LONG)
    put(lq, name, data)
    result = market_prices.run(lq=lq, now=NOW)
    assert result.rows == 3
    assert result.warnings == (f"raw/prices/{name} gives no row.",)


def test_files_that_cannot_be_read_fail_the_run_after_the_others_are_loaded(lq):
    put(lq, "a.parquet", b"torn")
    put(lq, "b.csv", LONG + "x,y,z\n")
    put(lq, "c.pdf", b"")
    with pytest.raises(DataError) as failed:
        market_prices.run(lq=lq, now=NOW)
    assert "raw/prices/a.parquet" in failed.value.message
    assert "raw/prices/c.pdf" in failed.value.message
    assert "b.csv" not in failed.value.message
    assert "2 of 3" in failed.value.message
    assert len(stored(lq)) == 3
    assert quarantined(lq) == ["raw/quarantine/prices/b.csv.csv"]


def test_advice_that_files_have_in_common_is_given_once(lq, caplog):
    for name in ("a.csv", "b.csv", "c.csv"):
        put(lq, name, "Day,Close\n2026-10-30,1\n")
    put(lq, "AAPL.csv", "Date,Open,High,Low,Close,Adj Close,Volume\n2026-10-30,1,1,1,1,1,9\n")
    with pytest.raises(DataError) as failed:
        market_prices.run(lq=lq, now=NOW)
    told = str(failed.value)
    assert [message.partition(" cannot be read")[0] for message in caplog.messages] == [
        f"raw/prices/{name}" for name in ("AAPL.csv", "a.csv", "b.csv", "c.csv")
    ]
    assert "docs/price-files.md" not in caplog.text
    assert all(
        told.count(f"raw/prices/{name} cannot be read: ") == 1 for name in ("a.csv", "b.csv", "c.csv", "AAPL.csv")
    )
    assert '"AAPL.csv": {"format": "yahoo", "asset": "{stem}"}' in failed.value.message
    for advice in ("docs/price-files.md", "`luxor inspect`", "declare the separator", "starts with _"):
        assert told.count(advice) == 1


def test_a_file_that_is_not_of_its_declared_format_says_which_that_is(lq):
    put(lq, "_formats.json", '{"*.csv": {"format": "yahoo", "asset": "{stem}"}}')
    put(lq, "p.csv", LONG)
    with pytest.raises(DataError, match=r"no column 'Adj Close'.* It is declared to be of the format yahoo"):
        market_prices.run(lq=lq, now=NOW)


def test_a_file_that_seems_misread_is_stopped_before_anything_is_written(lq):
    put(lq, "good.csv", LONG)
    # Months and days, told to be days and months: the first twelve days can be read, as other days.
    days = [f"{day.month:02d}/{day.day:02d}/{day.year},a,1" for day in pd.date_range("2026-10-01", "2026-10-30")]
    put(lq, "us.csv", "\n".join(["Date,Asset,Last_Price", *days, ""]))
    put(lq, "_formats.json", json.dumps({"us*": {"date_format": "dd/mm/yyyy"}}))
    with pytest.raises(QualityError, match=r"18 of the 30 rows of raw/prices/us.csv cannot be read.*bad date \(18\)"):
        market_prices.run(lq=lq, now=NOW)
    assert not lq.table_exists("hist_file_px_last")
    assert quarantined(lq) == []

    forced = market_prices.run(lq=lq, now=NOW, force=True)
    assert forced.rows == 3 + 12
    assert forced.warnings[0].startswith("Forced: 18 of the 30 rows")
    assert forced.details["quality"]["forced"] is True
    again = market_prices.run(lq=lq, now=NOW)
    assert not again.loads[0].changed, "what was forced once is not stopped again"
    put(lq, "us.csv", "\n".join(["Date,Asset,Last_Price", *days, "11/01/2026,a,1", ""]))
    with pytest.raises(QualityError, match="18 of the 31 rows"):
        market_prices.run(lq=lq, now=NOW)

    put(lq, "_formats.json", json.dumps({"us*": {"date_format": "mm/dd/yyyy"}}))
    assert market_prices.run(lq=lq, now=NOW).details["rows_quarantined"] == {}


def test_few_bad_rows_small_files_and_unknown_assets_stop_nothing(lq):
    days = pd.date_range("2026-10-01", "2026-10-30")
    rows = [f"{day:%Y-%m-%d},b,{'x' if place < 14 else 1}" for place, day in enumerate(days)]
    put(lq, "most.csv", "\n".join(["Date,Asset,Last_Price", *rows, ""]))
    put(lq, "small.csv", "Date,Asset,Last_Price\n" + "2026-10-01,c,x\n" * 8 + "2026-10-02,c,1\n")
    save_table("assets", pd.DataFrame({"Key": ["b_b", "c_c"], "Ticker": ["b", "c"]}), lq=lq)
    put(lq, "strange.csv", "\n".join(["Date,Asset,Last_Price", *(f"{day:%Y-%m-%d},z,1" for day in days), ""]))
    result = market_prices.run(lq=lq, now=NOW, known_assets_only=True)
    assert result.details["rows_good"] == 16 + 1
    assert "quality" not in result.details


def test_formats_by_parameter_and_by_declaration(lq):
    put(lq, "br.csv", "Date;Asset;Last_Price\n04/03/2026;a;1.234,5\n")
    market_prices.run(lq=lq, now=NOW, date_format="dd/mm/yyyy", decimal=",", separator=";")
    assert stored(lq) == [("2026-03-04", "a", 1234.5)]
    put(lq, "us.csv", "Date,Asset,Last_Price\n2026-03-05,a,1.5\n")
    formats = {"br*": {"date_format": "dd/mm/yyyy", "decimal": ",", "separator": ";"}}
    put(lq, "_formats.json", json.dumps(formats))
    result = market_prices.run(lq=lq, now=NOW)
    assert (result.loads[0].unchanged, result.loads[0].inserted) == (1, 1)


def test_wrong_declarations_and_parameters_stop_the_run_before_anything_is_loaded(lq):
    put(lq, "p.csv", LONG)
    with pytest.raises(UsageError, match="date_format"):
        market_prices.run(lq=lq, now=NOW, date_format="dmy")
    put(lq, "_formats.json", '{"*": {"colour": "red"}}')
    with pytest.raises(DataError, match="colour"):
        market_prices.run(lq=lq, now=NOW)
    assert not lq.table_exists("hist_file_px_last")


@pytest.mark.parametrize("names", [[], ["_formats.json"], ["_old/x.csv", "Thumbs.db", "desktop.ini", "~$x.xlsx"]])
def test_no_files_is_nothing_to_do(lq, names):
    for name in names:
        put(lq, name, "{}")
    result = market_prices.run(lq=lq, now=NOW)
    assert (result.rows, result.loads) == (0, ())
    assert result.details["files"] == []


def test_what_other_programs_leave_is_passed_over(lq):
    put(lq, "p.csv", LONG)
    for name in ("~$p.xlsx", "Thumbs.db", "desktop.ini", "sub/THUMBS.DB"):
        put(lq, name, b"\x00")
    assert market_prices.run(lq=lq, now=NOW).details["files"] == ["p.csv"]


def test_the_quarantine_of_a_file_that_has_gone_goes_too(lq):
    put(lq, "p.csv", LONG + "x,y,z\n")
    put(lq, "kept.csv", LONG + "x,y,z\n")
    market_prices.run(lq=lq, now=NOW)
    assert quarantined(lq) == ["raw/quarantine/prices/kept.csv.csv", "raw/quarantine/prices/p.csv.csv"]
    lq.lake.storage.delete("raw/prices/p.csv")
    put(lq, "_done/p.csv", LONG + "x,y,z\n")
    put(lq, "kept.csv", b"\xff")
    with pytest.raises(DataError):
        market_prices.run(lq=lq, now=NOW)
    assert quarantined(lq) == ["raw/quarantine/prices/kept.csv.csv"], "of a file that cannot be read it stays"
    lq.lake.storage.delete("raw/prices/kept.csv")
    market_prices.run(lq=lq, now=NOW)
    assert quarantined(lq) == []


def test_the_load_is_in_parts_and_told_as_one(lq, monkeypatch):
    monkeypatch.setattr(market_prices, "LOAD_ROWS", 3)
    days = [*pd.date_range("2024-12-28", "2025-01-03"), *pd.date_range("2025-12-30", "2026-01-02")]
    put(lq, "p.csv", "\n".join(["Date,Asset,Last_Price", *(f"{day:%Y-%m-%d},a,1" for day in days), ""]))
    (load,) = market_prices.run(lq=lq, now=NOW).loads
    assert (load.inserted, load.partitions) == (len(days), ("2024", "2025", "2026"))
    assert [day for day, _, _ in stored(lq)] == [f"{day:%Y-%m-%d}" for day in days]
    (again,) = market_prices.run(lq=lq, now=NOW).loads
    assert (again.unchanged, again.changed) == (len(days), False)
    assert again.version_before == again.version_after


def test_known_assets_only_by_price_key(lq):
    # Price keys: ticker_bbg, but for vc the ticker.
    assets = pd.DataFrame(
        {
            "Key": ["x_x1", "y_y1"],
            "Name": ["X", "Y"],
            "Asset": ["x", "y"],
            "Ticker": ["x1", "y1"],
            "Ticker_BBG": ["X US Equity", "ignored"],
            "Type": ["ações_us", "vc us"],
            "Group": ["ações", "vc"],
            "Location": ["us", "us"],
        }
    )
    save_table("assets", assets, lq=lq)
    put(lq, "p.csv", "Date,x us equity,x1,y1,ignored\n2026-10-30,1,2,3,4\n")
    result = market_prices.run(lq=lq, now=NOW, known_assets_only=True)
    assert stored(lq) == [("2026-10-30", "x us equity", 1.0), ("2026-10-30", "y1", 3.0)]
    assert result.details["rows_quarantined"] == {"unknown asset": 2}


def test_another_table_keeps_its_rows_and_must_fit(lq):
    mine = pd.DataFrame({"Date": [pd.Timestamp("2026-10-30")], "Asset": ["z"], "Last_Price": [9.0]})
    incremental_load(lq, "custom_prices", mine, unique_columns=["Date", "Asset"])
    put(lq, "p.csv", LONG)
    market_prices.run(lq=lq, now=NOW, table="custom_prices")
    assert ("2026-10-30", "z", 9.0) in stored(lq, "custom_prices")
    assert len(stored(lq, "custom_prices")) == 4
    assert not lq.table_exists("hist_file_px_last")
    quotas = pd.DataFrame({"Date": [pd.Timestamp("2026-10-30")], "Fund": ["z"], "Quota": [9.0]})
    incremental_load(lq, "all_funds_quotas", quotas, unique_columns=["Date", "Fund"])
    with pytest.raises(SchemaError, match="all_funds_quotas"):
        market_prices.run(lq=lq, now=NOW, table="all_funds_quotas")


def test_prices_of_days_to_come_are_pointed_out(lq):
    put(lq, "p.csv", LONG)
    assert market_prices.run(lq=lq, now=NOW).warnings == ()
    (warning,) = market_prices.run(lq=lq, now=datetime(2026, 10, 30, 2, 59, tzinfo=UTC)).warnings
    assert "1 rows are dated after 2026-10-29" in warning, "in São Paulo the 30th has not begun"


# --- held against what is stored


def series(first, prices, asset="a"):
    days = pd.bdate_range(first, periods=len(prices))
    return "".join(f"{day:%Y-%m-%d},{asset},{price:.2f}\n" for day, price in zip(days, prices, strict=True))


HEADER = "Date,Asset,Last_Price\n"
HISTORY = HEADER + series("2026-06-01", [100 + day % 7 for day in range(60)])


def test_the_last_months_of_an_adjusted_history_stop_the_run(lq):
    put(lq, "a.csv", HISTORY)
    market_prices.run(lq=lq, now=NOW)
    halved = [(100 + day % 7) / 2 for day in range(40, 60)]
    put(lq, "b.csv", HEADER + series("2026-07-27", [*halved, 51]))
    with pytest.raises(
        QualityError, match=r"20 stored rows are multiplied.*a in b.csv, by 0.5, 2026-07-27 to 2026-08-21"
    ):
        market_prices.run(lq=lq, now=NOW)
    assert market_prices.run(lq=lq, now=NOW, force=True).loads[0].updated == 20
    assert market_prices.run(lq=lq, now=NOW).warnings == (), "what was forced is what is stored"


def test_a_dividend_within_the_months_counts_too(lq):
    put(lq, "a.csv", HISTORY)
    market_prices.run(lq=lq, now=NOW)
    adjusted = [(100 + day % 7) * (0.99 if day < 50 else 1) for day in range(40, 60)]
    put(lq, "b.csv", HEADER + series("2026-07-27", adjusted))
    with pytest.raises(QualityError, match="10 stored rows are multiplied"):
        market_prices.run(lq=lq, now=NOW)


def test_a_factor_is_found_whatever_else_is_corrected(lq):
    prices = [2 + day % 7 / 10 for day in range(60)]
    put(lq, "a.csv", HEADER + "".join(series("2026-06-01", prices, asset) for asset in "abc"))
    market_prices.run(lq=lq, now=NOW)
    rounded = [price * 0.747 for price in prices[40:]]  # to cents: the ratios differ by half a percent
    odd = [price * (0.7 + day % 5 / 10) for day, price in enumerate(prices[40:])]
    put(lq, "b.csv", HEADER + "".join(series("2026-07-27", new, asset) for asset, new in (("a", odd), ("b", rounded))))
    with pytest.raises(QualityError, match=r"20 stored rows are multiplied.*b in b.csv, by 0.74") as raised:
        market_prices.run(lq=lq, now=NOW)
    assert "a in b.csv" not in str(raised.value)


@pytest.mark.parametrize(
    "rows",
    [
        series("2026-06-01", [(100 + day % 7) / 2 for day in range(60)]),
        series("2026-08-17", [50, 51, 52, 53]),
        series("2026-07-27", [(100 + day % 7) * (1 + day % 3 / 50) for day in range(40, 60)]),
        series("2026-07-27", [100 + day % 7 for day in range(40, 55)] + [60, 61, 62, 63, 64, 65]),
    ],
    ids=["full history", "few rows", "many factors", "newest rows"],
)
def test_other_corrections_pass(lq, rows):
    put(lq, "a.csv", HISTORY)
    market_prices.run(lq=lq, now=NOW)
    put(lq, "b.csv", HEADER + rows)
    assert market_prices.run(lq=lq, now=NOW).loads[0].changed


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("2026-08-24,a,51.00\n", "about a split's ratio: 'a 2026-08-21 103 → 2026-08-24 51'"),
        ("2026-08-24,a,900.00\n2026-08-25,a,103.00\n", "of a single day.*2026-08-24 900"),
        ("2027-09-24,a,101.00\n", "resume after more than a year.*2026-08-21 103 → 2027-09-24"),
        (series("2026-08-24", [103] * 19), "one price for 20 sessions"),
    ],
)
def test_new_rows_that_do_not_go_with_the_last_stored_one_are_named(lq, rows, words):
    put(lq, "a.csv", HISTORY)
    assert market_prices.run(lq=lq, now=NOW).warnings == ()
    put(lq, "b.csv", HEADER + rows)
    warnings = market_prices.run(lq=lq, now=datetime(2027, 12, 1, tzinfo=UTC)).warnings
    assert len(warnings) == 1
    assert re.search(words, warnings[0]), warnings[0]
    assert market_prices.run(lq=lq, now=datetime(2027, 12, 1, tzinfo=UTC)).warnings == (), "stored, it is for the check"
