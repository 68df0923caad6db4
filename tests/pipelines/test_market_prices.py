"""market_prices: shapes, declared formats, quarantine, several files, every way a file can be wrong."""

import gzip
import io
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.errors import (
    CorruptFileError,
    DataError,
    LuxorError,
    NotFoundError,
    QualityError,
    SchemaError,
    UsageError,
)
from luxor_pipelines.ingest import incremental_load, save_table
from luxor_pipelines.pipelines import market_prices
from luxor_pipelines.query.luxor_query import LuxorQuery
from luxor_pipelines.sources import raw
from luxor_pipelines.sources.price_files import (
    REASONS,
    FileRows,
    Format,
    declared_formats,
    format_of,
    read_price_file,
    read_rows,
)

STOCKS = Path(__file__).parents[3] / "shared" / "data" / "sp500_20_stocks_daily.csv.gz"
NOW = datetime(2026, 11, 3, 18, 30, tzinfo=UTC)


def read(data: bytes | str, file: str = "x.csv", known=None, **how) -> FileRows:
    data = data.encode() if isinstance(data, str) else data
    return read_rows(read_price_file(data, file, Format(**how)), file, Format(**how), known)


def good(rows: FileRows) -> list[tuple[str, str, float]]:
    return [(f"{row.Date:%Y-%m-%d}", row.Asset, row.Last_Price) for row in rows.good.itertuples()]


def bad(rows: FileRows) -> list[tuple[int, str, str, str, str]]:
    return list(rows.bad.itertuples(index=False, name=None))


def workbook(*sheets: tuple[str, list[list[object]]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets:
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def parquet(**columns) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


# --- shapes


def test_long():
    rows = read("Date,Asset,Last_Price\n2026-10-30,AAPL us Equity ,100.5\n2026-10-29,petr4,3e1\n")
    assert good(rows) == [("2026-10-30", "aapl us equity", 100.5), ("2026-10-29", "petr4", 30.0)]
    assert rows.bad.empty
    assert rows.warnings == ()
    assert rows.good["Date"].dtype == "datetime64[us]"


def test_long_with_columns_in_another_order_and_surplus_ones():
    rows = read("Source,Last_Price,Asset,Date\nme,1.5,a,2026-10-30\n")
    assert good(rows) == [("2026-10-30", "a", 1.5)]
    assert len(rows.warnings) == 1
    assert "'Source'" in rows.warnings[0]


def test_wide_with_blank_cells_missing():
    rows = read("Date,A,B b\n2026-10-30,1,2\n2026-10-29,, 3 \n2026-10-28,,\n")
    assert sorted(good(rows)) == [
        ("2026-10-29", "b b", 3.0),
        ("2026-10-30", "a", 1.0),
        ("2026-10-30", "b b", 2.0),
    ]
    assert rows.bad.empty


def test_wide_rows_are_quarantined_cell_by_cell():
    rows = read("Date,A,B\n2026-10-30,1,x\nsoon,3,\n2026-10-28,-4,5\n")
    assert good(rows) == [("2026-10-30", "a", 1.0), ("2026-10-28", "b", 5.0)]
    assert bad(rows) == [
        (2, "2026-10-30", "B", "x", "price is not a number"),
        (3, "soon", "A", "3", "bad date"),
        (4, "2026-10-28", "A", "-4", "price is not positive"),
    ]


def test_wide_column_without_a_name():
    rows = read("Date,A,\n2026-10-30,1,2\n2026-10-29,1,\n")
    assert len(rows.good) == 2
    assert bad(rows) == [(2, "2026-10-30", "", "2", "no asset")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("Day,A\n2026-10-30,1\n", "'Day'"),
        ("A,Date\n1,2026-10-30\n", "'A'"),
        ("Date,Asset\n2026-10-30,a\n", "Last_Price"),
        ("Date,Last_Price\n2026-10-30,1\n", "Asset"),
        ("Asset,Last_Price\na,1\n", "Date"),
        ("Date,Asset,Last_Price,Asset\n2026-10-30,a,1,b\n", "once"),
        ("Date,asset,last_price\n2026-10-30,a,1\n", "'asset'"),
        ("Date, Asset, Last_Price\n2026-10-30,a,1\n", "' Asset'"),
        ("Date;Asset;Last_Price\n2026-10-30;a;1\n", "'Date;Asset;Last_Price'"),
    ],
)
def test_columns_of_neither_shape_are_refused(data, words):
    with pytest.raises(DataError, match=r"^x\.csv") as refused:
        read(data)
    assert words in refused.value.message


# --- cells


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (",a,1", "no date"),
        ("30/10/2026,a,1", "bad date"),
        ("2026-02-29,a,1", "bad date"),
        ("2026-13-01,a,1", "bad date"),
        ("2026-00-10,a,1", "bad date"),
        ("2026-10-00,a,1", "bad date"),
        ("0026-10-30,a,1", "bad date"),
        ("2026-10-30 17:00,a,1", "bad date"),
        ("20261030,a,1", "bad date"),
        ("46325,a,1", "bad date"),
        ("2026-10-30,,1", "no asset"),
        ("2026-10-30,  ,1", "no asset"),
        ("2026-10-30,nan,1", "no asset"),
        ("2026-10-30,a\0b,1", "asset is not a name"),
        ("2026-10-30,a\u202eb,1", "asset is not a name"),
        ("2026-10-30,=1+1,1", "asset is not a name"),
        ("2026-10-30," + "x" * 201 + ",1", "asset is not a name"),
        ("2026-10-30,a,", "no price"),
        ("2026-10-30,a, ", "no price"),
        ("2026-10-30,a,N/A", "price is not a number"),
        ("2026-10-30,a,nan", "price is not a number"),
        ("2026-10-30,a,inf", "price is not a number"),
        ('2026-10-30,a,"1,5"', "price is not a number"),
        ("2026-10-30,a,1.234.567", "price is not a number"),
        ("2026-10-30,a,1 000", "price is not a number"),
        ("2026-10-30,a,0x10", "price is not a number"),
        ("2026-10-30,a,١", "price is not a number"),
        ("2026-10-30,a,1e999", "price is not finite"),
        ("2026-10-30,a,0", "price is not positive"),
        ("2026-10-30,a,-0.01", "price is not positive"),
        ("2026-10-30,a,1e-400", "price is not positive"),
        ("2026-10-30,a", "wrong number of cells"),
        ("2026-10-30,a,1,2", "wrong number of cells"),
        (",,x", "no date"),
    ],
)
def test_a_bad_row_is_set_aside_and_the_others_are_not(cells, reason):
    rows = read(f"Date,Asset,Last_Price\n2026-10-28,a,1\n{cells}\n2026-10-29,a,2\n")
    assert good(rows) == [("2026-10-28", "a", 1.0), ("2026-10-29", "a", 2.0)]
    assert [(row[0], row[4]) for row in bad(rows)] == [(3, reason)]


def test_bad_rows_are_told_as_found():
    rows = read("Date,Asset,Last_Price\n\n2026-10-30,Some Name,1x\n31.12.2026\n2026-10-30,b,1,2,3\n")
    assert bad(rows) == [
        (3, "2026-10-30", "Some Name", "1x", "price is not a number"),
        (4, "31.12.2026", "", "", "wrong number of cells"),
        (5, "2026-10-30", "b", "1", "wrong number of cells"),
    ]


def test_every_reason_is_listed_once():
    assert len(set(REASONS)) == len(REASONS) == 11


@pytest.mark.parametrize("number", ["1234.5", "+1234.5", "1234.50", "1.2345e3", "12345E-1"])
def test_numbers_with_a_decimal_point(number):
    assert good(read(f"Date,Asset,Last_Price\n2026-10-30,a,{number}\n"))[0][2] == 1234.5


@pytest.mark.parametrize("number", ["1.234,5", "1234,5", "1234,50", "+1.234,50", "1,2345e3"])
def test_numbers_with_a_decimal_comma(number):
    data = f"Date;Asset;Last_Price\n2026-10-30;a;{number}\n"
    assert good(read(data, separator=";", decimal=","))[0][2] == 1234.5


@pytest.mark.parametrize("number", ["1.5", "1.2345", "12.34,5", "1234.567,8", "1,234.5", "1.234.5", ",", "."])
def test_numbers_that_do_not_fit_a_decimal_comma(number):
    data = f"Date;Asset;Last_Price\n2026-10-30;a;{number}\n"
    assert bad(read(data, separator=";", decimal=","))[0][4] == "price is not a number"


def test_dots_beside_a_declared_comma_are_thousands():
    assert good(read("Date;A\n2026-10-30;1.234\n", separator=";", decimal=","))[0][2] == 1234.0


@pytest.mark.parametrize(
    ("date_format", "text", "day"),
    [
        ("iso", "2026-03-04", "2026-03-04"),
        ("iso", "2026-03-04 00:00:00", "2026-03-04"),
        ("iso", "2026-03-04T00:00:00.000000", "2026-03-04"),
        ("dd/mm/yyyy", "04/03/2026", "2026-03-04"),
        ("dd/mm/yyyy", "4/3/2026", "2026-03-04"),
        ("mm/dd/yyyy", "03/04/2026", "2026-03-04"),
        ("dd/mm/yyyy", "29/02/2028", "2028-02-29"),
    ],
)
def test_dates_in_the_declared_format(date_format, text, day):
    assert good(read(f"Date,A\n{text},1\n", date_format=date_format)) == [(day, "a", 1.0)]


@pytest.mark.parametrize(
    ("date_format", "text"),
    [("dd/mm/yyyy", "12/31/2026"), ("mm/dd/yyyy", "31/12/2026"), ("dd/mm/yyyy", "2026-12-31"), ("iso", "31/12/2026")],
)
def test_dates_in_another_format_are_not_guessed(date_format, text):
    assert bad(read(f"Date,A\n{text},1\n", date_format=date_format))[0][4] == "bad date"


# --- keys


def test_repeated_rows_are_one_and_conflicting_ones_none():
    rows = read(
        "Date,Asset,Last_Price\n2026-10-30,a,1\n2026-10-30,A ,1.0\n2026-10-30,b,1\n2026-10-30,b,2\n"
        "2026-10-30,b,1\n2026-10-29,b,3\n2026-10-30,a,x\n"
    )
    assert good(rows) == [("2026-10-30", "a", 1.0), ("2026-10-29", "b", 3.0)]
    assert [(row[0], row[3], row[4]) for row in bad(rows)] == [
        (4, "1", "conflicting prices"),
        (5, "2", "conflicting prices"),
        (6, "1", "conflicting prices"),
        (8, "x", "price is not a number"),
    ]


def test_two_wide_columns_of_one_asset_conflict_where_they_differ():
    rows = read("Date,A,a \n2026-10-30,1,1\n2026-10-29,1,2\n2026-10-28,,2\n")
    assert good(rows) == [("2026-10-30", "a", 1.0), ("2026-10-28", "a", 2.0)]
    assert [(row[0], row[2], row[3]) for row in bad(rows)] == [(3, "A", "1"), (3, "a ", "2")]


def test_unknown_assets():
    rows = read("Date,A,B\n2026-10-30,1,2\n", known={"a"})
    assert good(rows) == [("2026-10-30", "a", 1.0)]
    assert bad(rows) == [(2, "2026-10-30", "B", "2", "unknown asset")]


# --- kinds of files


def test_gzip_parquet_and_excel_say_the_same():
    text = "Date,Asset,Last_Price\n2026-10-30,a,1.5\n2026-10-29,b,2\n"
    expected = good(read(text))
    days = [datetime(2026, 10, 30), datetime(2026, 10, 29)]
    assert good(read(gzip.compress(text.encode()), "x.csv.gz")) == expected
    assert good(read(parquet(Date=days, Asset=["a", "b"], Last_Price=[1.5, 2.0]), "X.PARQUET")) == expected
    table = [["Date", "Asset", "Last_Price"], [days[0], "a", 1.5], [days[1].date(), "b", 2]]
    assert good(read(workbook(("any", table)), "x.xlsx")) == expected


@pytest.mark.parametrize("date_format", ["iso", "dd/mm/yyyy", "mm/dd/yyyy"])
@pytest.mark.parametrize("decimal", [".", ","])
def test_a_sheets_own_dates_and_numbers_need_no_format_and_its_text_does(date_format, decimal):
    texts = {"iso": "2026-03-04", "dd/mm/yyyy": "04/03/2026", "mm/dd/yyyy": "03/04/2026"}
    table = [
        ["Date", "A", "B", None],
        [datetime(2026, 3, 5), 1234.5, 1e-7],
        [texts[date_format], f"1234{decimal}5", 7, None],
        [],
        [datetime(2026, 3, 6, 17, 30), 1, None, None],
        [46325, 2, True],
    ]
    rows = read(workbook(("s", table)), "x.xlsx", date_format=date_format, decimal=decimal)
    assert sorted(good(rows)) == [
        ("2026-03-04", "a", 1234.5),
        ("2026-03-04", "b", 7.0),
        ("2026-03-05", "a", 1234.5),
        ("2026-03-05", "b", 1e-7),
    ]
    assert [(row[0], row[2], row[4]) for row in bad(rows)] == [
        (5, "A", "bad date"),
        (6, "A", "bad date"),
        (6, "B", "bad date"),
    ]


def test_the_sheet_is_declared_when_there_are_several():
    table = [["Date", "A"], [datetime(2026, 10, 30), 1]]
    book = workbook(("cover", [["hello"]]), ("prices", table))
    assert good(read(book, "x.xlsx", sheet="prices")) == [("2026-10-30", "a", 1.0)]
    with pytest.raises(DataError, match="'cover', 'prices'"):
        read(book, "x.xlsx")
    with pytest.raises(DataError, match="none called 'Prices'"):
        read(book, "x.xlsx", sheet="Prices")


def test_a_sheet_with_cells_beyond_its_header():
    rows = read(workbook(("s", [["Date", "A"], ["2026-10-30", 1, 2], ["2026-10-29", 3]])), "x.xlsx")
    assert good(rows) == [("2026-10-29", "a", 3.0)]
    assert bad(rows) == [(2, "2026-10-30", "", "", "wrong number of cells")]


def test_parquet_types():
    columns = {
        "Date": pa.array([20391, 20392, None], pa.date32()),
        "A": pa.array([1, 0, 3], pa.int64()),
        "B": pa.array(["1.5", None, ""]),
        "C": pa.array([None, float("nan"), float("inf")], pa.float32()),
        "D": pa.nulls(3),
        "E": pa.array(["7", "7", "7"]).dictionary_encode(),
    }
    rows = read(parquet(**columns), "x.parquet")
    # 1970-01-01 + 20391 days = 2025-10-30
    assert good(rows) == [
        ("2025-10-30", "a", 1.0),
        ("2025-10-30", "b", 1.5),
        ("2025-10-30", "e", 7.0),
        ("2025-10-31", "e", 7.0),
    ]
    assert [(row[0], row[2], row[4]) for row in bad(rows)] == [
        (2, "A", "price is not positive"),
        (3, "A", "no date"),
        (3, "C", "no date"),
        (3, "E", "no date"),
    ]


@pytest.mark.parametrize(
    "columns",
    [
        {"Date": pa.array([0], pa.timestamp("us", "UTC")), "A": pa.array([1.0])},
        {"Date": pa.array(["2026-10-30"]), "A": pa.array([[1.0]])},
        {"Date": pa.array([[1]]), "Asset": pa.array(["a"]), "Last_Price": pa.array([1.0])},
    ],
)
def test_parquet_columns_that_cannot_be_read_are_named(columns):
    with pytest.raises(DataError, match=r"column '(Date|A)'"):
        read(parquet(**columns), "x.parquet")


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("x.csv", b""),
        ("x.csv", b"\n\n"),
        ("x.csv", b"Date,A\n2026-10-30,\xff\n"),
        ("x.csv", "Date,A\n2026-10-30,1\n".encode("utf-16")),
        ("x.csv.gz", b"Date,A\n"),
        ("x.csv.gz", gzip.compress(b"Date,A\n2026-10-30,1\n", mtime=0)[:-9]),
        ("x.csv.gz", b""),
        ("x.parquet", b"PAR1 no PAR1"),
        ("x.parquet", b""),
        ("x.xlsx", b""),
        ("x.xlsx", b"Date,A\n"),
        ("x.xlsx", workbook(("s", [["Date"]]))[:-40]),
        ("x.txt", b"Date,A\n2026-10-30,1\n"),
        ("x.xls", b""),
        ("x", b""),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(file, data):
    with pytest.raises((CorruptFileError, DataError), match=f"^{file} ") as refused:
        read(data, file)
    assert refused.value.hint


def test_bombs_are_refused(monkeypatch):
    monkeypatch.setattr("luxor_pipelines.sources.price_files.FILE_MAX", 1_000_000)
    packed = gzip.compress(b"0" * 2_000_000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b"0" * 2_000_000)
    runs = parquet(Date=pa.array(["2026-10-30"] * 100_000), A=np.ones(100_000))
    assert max(len(packed), len(buffer.getvalue()), len(runs)) < 10_000
    for file, data in [("x.csv.gz", packed), ("x.xlsx", buffer.getvalue()), ("x.parquet", runs)]:
        with pytest.raises(CorruptFileError, match="1 MB once unpacked"):
            read(data, file)
    with pytest.raises(CorruptFileError, match="larger"):
        read(b"0" * 1_000_001)


def test_a_sheet_of_too_many_cells_is_refused(monkeypatch):
    monkeypatch.setattr(raw, "CELLS_MAX", 5)
    with pytest.raises(CorruptFileError, match="more than 5 cells"):
        read(workbook(("s", [["Date", "A"], *[["2026-10-30", 1]] * 3])), "x.xlsx")


cells = st.sampled_from(
    [
        *("Date", "Asset", "Last_Price", "a", "A ", "2026-10-30", "30/10/2026", "1.5", "1,5", "1.234,5"),
        *("0", "-1", "", " ", '"', '"a\nb"', '""', "nan", "é", "\x00", "1e400", "\u00a0"),
    ]
)
texts = st.tuples(
    st.sampled_from(["Date,Asset,Last_Price\n", "Date;Asset;Last_Price\n", "Date,A,B\n", "Date,a,\n", ""]),
    st.lists(st.lists(cells, max_size=5), max_size=8),
    st.sampled_from([",", ";"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
).map(lambda made: (made[0] + made[3].join(made[2].join(row) for row in made[1])).encode())


@given(
    st.one_of(texts, st.binary(max_size=60)),
    st.sampled_from(["iso", "dd/mm/yyyy", "mm/dd/yyyy"]),
    st.sampled_from([".", ","]),
    st.sampled_from([",", ";"]),
)
def test_any_text_gives_clean_rows_or_our_errors(data, date_format, decimal, separator):
    try:
        rows = read(data, date_format=date_format, decimal=decimal, separator=separator)
    except LuxorError:
        return
    assert np.isfinite(rows.good["Last_Price"]).all()
    assert (rows.good["Last_Price"] > 0).all()
    assert rows.good["Date"].notna().all()
    assert not rows.good.duplicated(["Date", "Asset"]).any()
    assert all(name and name == name.strip().lower() for name in rows.good["Asset"])
    assert set(rows.bad["Reason"]) <= set(REASONS)
    assert list(rows.bad.columns) == ["Row", "Date", "Asset", "Last_Price", "Reason"]
    assert rows.bad["Row"].is_monotonic_increasing


@given(st.integers(0, 10_000), st.integers(1, 255), st.sampled_from(["x.csv.gz", "x.xlsx", "x.parquet"]))
def test_a_damaged_file_gives_rows_or_our_errors(position, change, file):
    whole = {
        "x.csv.gz": gzip.compress(b"Date,A\n2026-10-30,1\n", mtime=0),
        "x.xlsx": BOOK,
        "x.parquet": parquet(Date=["2026-10-30"], A=[1.0]),
    }
    data = bytearray(whole[file])
    data[position % len(data)] ^= change
    try:
        rows = read(bytes(data), file)
    except LuxorError:
        return
    assert len(rows.good) + len(rows.bad) <= 1


BOOK = workbook(("s", [["Date", "A"], ["2026-10-30", 1]]))


# --- declared formats


def test_formats_by_pattern():
    declared = declared_formats(
        json.dumps(
            {
                "btg_*": {"date_format": "dd/mm/yyyy", "decimal": ",", "separator": ";"},
                "*.xlsx": {"sheet": "Preços"},
                "btg_us_*": {"decimal": "."},
            }
        ).encode(),
        "_formats.json",
    )
    default = Format(separator="|")
    assert format_of("other.csv", default, declared) == default
    assert format_of("btg_1.csv", default, declared) == Format("dd/mm/yyyy", ",", ";")
    assert format_of("2026/btg_1.csv", default, declared) == Format("dd/mm/yyyy", ",", ";")
    assert format_of("btg_us_1.csv", default, declared) == Format("dd/mm/yyyy", ".", ";")
    assert format_of("btg_1.xlsx", default, declared) == Format("dd/mm/yyyy", ",", ";", "Preços")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[]", "JSON object"),
        ('{"*": []}', "'*'"),
        ('{"*": "iso"}', "'iso'"),
        ('{"*": {"dateformat": "iso"}}', "'dateformat'"),
        ('{"*": {"date_format": "dmy"}}', "'dmy'"),
        ('{"*": {"decimal": ";"}}', "';'"),
        ('{"*": {"separator": "a"}}', "'a'"),
        ('{"*": {"separator": [","]}}', "separator"),
        ('{"*": {"sheet": 1}}', "1"),
    ],
)
def test_declarations_that_are_not_known_are_refused(text, words):
    with pytest.raises(DataError, match=r"_formats\.json") as refused:
        declared_formats(text.encode(), "raw/prices/_formats.json")
    assert words in refused.value.message


# --- run


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


def test_nothing_good_loads_nothing(lq):
    put(lq, "p.csv", "Date,Asset,Last_Price\n2026-10-30,a,\n")
    result = market_prices.run(lq=lq, now=NOW)
    assert (result.rows, result.loads) == (0, ())
    assert result.details["rows_quarantined"] == {"no price": 1}
    assert not lq.table_exists("hist_file_px_last")


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


def test_no_files_says_what_to_do(lq):
    put(lq, "_formats.json", "{}")
    with pytest.raises(NotFoundError, match="raw/prices") as refused:
        market_prices.run(lq=lq, now=NOW)
    assert "Last_Price" in refused.value.hint


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


@pytest.mark.skipif(not STOCKS.exists(), reason="the shares' prices are not beside the repository")
def test_twenty_shares():
    rows = read(STOCKS.read_bytes(), "shares.csv.gz")
    wide = pd.read_csv(STOCKS, index_col="Date", parse_dates=True)
    expected = wide.rename(columns=str.lower).T.stack()  # pandas leaves blank cells out as well
    found = rows.good.set_index(["Asset", "Date"])["Last_Price"]
    assert len(found) == len(expected) > 150_000
    assert (found == expected.reindex(found.index)).all()
    assert rows.bad.empty
