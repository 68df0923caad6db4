"""Price files to rows: shapes, cells, keys, kinds of files, and what is wrong with each."""

import gzip
import io
from datetime import datetime
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.errors import CorruptFileError, DataError, LuxorError
from luxor_pipelines.sources.formats import Format
from luxor_pipelines.sources.price_files import REASONS, FileRows, read_price_file

STOCKS = Path(__file__).parents[3] / "shared" / "data" / "sp500_20_stocks_daily.csv.gz"


@pytest.fixture(scope="module")
def read(confined):
    def read(data: bytes | str, file: str = "x.csv", price_keys=None, only_assets=False, **how) -> FileRows:
        data = data.encode() if isinstance(data, str) else data
        return read_price_file(data, file, Format(**how), price_keys, only_assets=only_assets, confined=confined)

    return read


def good(rows: FileRows) -> list[tuple[str, str, float]]:
    return [(f"{row.Date:%Y-%m-%d}", row.Asset, row.Last_Price) for row in rows.good.itertuples()]


def bad(rows: FileRows) -> list[tuple[int, str, str, str, str]]:
    return list(rows.bad.itertuples(index=False, name=None))


def workbook(*sheets: tuple[str, list[list[object]]], hidden: tuple[str, ...] = ()) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets:
        sheet = book.create_sheet(title)
        sheet.sheet_state = "hidden" if title in hidden else "visible"
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


def test_long(read):
    rows = read("Date,Asset,Last_Price\n2026-10-30,AAPL us Equity ,100.5\n2026-10-29,petr4,3e1\n")
    assert good(rows) == [("2026-10-30", "aapl us equity", 100.5), ("2026-10-29", "petr4", 30.0)]
    assert rows.bad.empty
    assert rows.warnings == ()
    assert rows.good["Date"].dtype == "datetime64[us]"


def test_long_with_columns_in_another_order_and_surplus_ones(read):
    rows = read("Source,Last_Price,Asset,Date\nme,1.5,a,2026-10-30\n")
    assert good(rows) == [("2026-10-30", "a", 1.5)]
    assert len(rows.warnings) == 1
    assert "'Source'" in rows.warnings[0]


def test_wide_with_blank_cells_missing(read):
    rows = read("Date,A,B b\n2026-10-30,1,2\n2026-10-29,, 3 \n2026-10-28,,\n")
    assert sorted(good(rows)) == [
        ("2026-10-29", "b b", 3.0),
        ("2026-10-30", "a", 1.0),
        ("2026-10-30", "b b", 2.0),
    ]
    assert rows.bad.empty


def test_wide_rows_are_quarantined_cell_by_cell(read):
    rows = read("Date,A,B\n2026-10-30,1,x\nsoon,3,\n2026-10-28,-4,5\n")
    assert good(rows) == [("2026-10-30", "a", 1.0), ("2026-10-28", "b", 5.0)]
    assert bad(rows) == [
        (2, "2026-10-30", "B", "x", "price is not a number"),
        (3, "soon", "A", "3", "bad date"),
        (4, "2026-10-28", "A", "-4", "price is not positive"),
    ]


def test_wide_column_without_a_name(read):
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
def test_columns_of_neither_shape_are_refused(read, data, words):
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
        ("2026-10-30,a\0b,1", "asset is not a name"),
        ("2026-10-30,a\u202eb,1", "asset is not a name"),
        ("2026-10-30,=1+1,1", "asset is not a name"),
        ("2026-10-30,-1+cmd|x,1", "asset is not a name"),
        ("2026-10-30,＝1+1,1", "asset is not a name"),
        ("2026-10-30," + "x" * 201 + ",1", "asset is not a name"),
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
        ("x,,x", "bad date"),
    ],
)
def test_a_bad_row_is_set_aside_and_the_others_are_not(read, cells, reason):
    rows = read(f"Date,Asset,Last_Price\n2026-10-28,a,1\n{cells}\n2026-10-29,a,2\n")
    assert good(rows) == [("2026-10-28", "a", 1.0), ("2026-10-29", "a", 2.0)]
    assert [(row[0], row[4]) for row in bad(rows)] == [(3, reason)]


@pytest.mark.parametrize("price", ["", " ", "-", "N/A", "#N/A N/A", "n/d", "–", "null"])
def test_a_price_that_is_not_available_is_no_row(read, price):
    rows = read(f"Date,Asset,Last_Price\n2026-10-30,a,{price}\n2026-10-29,a,2\nsource: terminal,,\n")
    assert good(rows) == [("2026-10-29", "a", 2.0)]
    assert rows.bad.empty
    assert not rows.reasons


def test_names_that_look_like_missing_cells_are_names(read):
    rows = read("Date,Asset,Last_Price\n2026-10-30,NAN,1\n2026-10-30,NAT,2\n2026-10-30,None,3\n")
    assert good(rows) == [("2026-10-30", "nan", 1.0), ("2026-10-30", "nat", 2.0), ("2026-10-30", "none", 3.0)]


def test_spellings_that_look_alike_are_one_name(read):
    rows = read("Date,Asset,Last_Price\n2026-10-30,A\u00e7\u00e3o\u00a0BZ,1\n2026-10-29,ac\u0327a\u0303o bz,2\n")
    assert {name for _, name, _ in good(rows)} == {"a\u00e7\u00e3o bz"}


def test_bad_rows_are_told_as_found(read):
    rows = read("Date,Asset,Last_Price\n\n2026-10-30,Some Name,1x\n31.12.2026\n2026-10-30,b,1,2,3\n")
    assert bad(rows) == [
        (3, "2026-10-30", "Some Name", "1x", "price is not a number"),
        (4, "31.12.2026", "", "", "wrong number of cells"),
        (5, "2026-10-30", "b", "1", "wrong number of cells"),
    ]


def test_every_reason_is_listed_once():
    assert len(set(REASONS)) == len(REASONS) == 10


@pytest.mark.parametrize("number", ["1234.5", "+1234.5", "1234.50", "1.2345e3", "12345E-1"])
def test_numbers_with_a_decimal_point(read, number):
    assert good(read(f"Date,Asset,Last_Price\n2026-10-30,a,{number}\n"))[0][2] == 1234.5


@pytest.mark.parametrize("number", ["1.234,5", "1234,5", "1234,50", "+1.234,50", "1,2345e3"])
def test_numbers_with_a_decimal_comma(read, number):
    data = f"Date;Asset;Last_Price\n2026-10-30;a;{number}\n"
    assert good(read(data, separator=";", decimal=","))[0][2] == 1234.5


@pytest.mark.parametrize("number", ["1.5", "1.2345", "12.34,5", "1234.567,8", "1,234.5", "1.234.5", ",", "."])
def test_numbers_that_do_not_fit_a_decimal_comma(read, number):
    data = f"Date;Asset;Last_Price\n2026-10-30;a;{number}\n"
    assert bad(read(data, separator=";", decimal=","))[0][4] == "price is not a number"


def test_dots_beside_a_declared_comma_are_thousands(read):
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
def test_dates_in_the_declared_format(read, date_format, text, day):
    assert good(read(f"Date,A\n{text},1\n", date_format=date_format)) == [(day, "a", 1.0)]


@pytest.mark.parametrize(
    ("date_format", "text"),
    [("dd/mm/yyyy", "12/31/2026"), ("mm/dd/yyyy", "31/12/2026"), ("dd/mm/yyyy", "2026-12-31"), ("iso", "31/12/2026")],
)
def test_dates_in_another_format_are_not_guessed(read, date_format, text):
    assert bad(read(f"Date,A\n{text},1\n", date_format=date_format))[0][4] == "bad date"


# --- keys


def test_repeated_rows_are_one_and_conflicting_ones_none(read):
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


def test_two_wide_columns_of_one_asset_conflict_where_they_differ(read):
    rows = read("Date,A,a \n2026-10-30,1,1\n2026-10-29,1,2\n2026-10-28,,2\n")
    assert good(rows) == [("2026-10-30", "a", 1.0), ("2026-10-28", "a", 2.0)]
    assert [(row[0], row[2], row[3]) for row in bad(rows)] == [(3, "a", "1"), (3, "a", "2")]


def test_unknown_assets(read):
    rows = read("Date,A,B\n2026-10-30,1,2\n", price_keys={"a"}, only_assets=True)
    assert good(rows) == [("2026-10-30", "a", 1.0)]
    assert bad(rows) == [(2, "2026-10-30", "B", "2", "unknown asset")]


# --- kinds of files


def test_gzip_parquet_and_excel_say_the_same(read):
    text = "Date,Asset,Last_Price\n2026-10-30,a,1.5\n2026-10-29,b,2\n"
    expected = good(read(text))
    days = [datetime(2026, 10, 30), datetime(2026, 10, 29)]
    assert good(read(gzip.compress(text.encode()), "x.csv.gz")) == expected
    assert good(read(parquet(Date=days, Asset=["a", "b"], Last_Price=[1.5, 2.0]), "X.PARQUET")) == expected
    table = [["Date", "Asset", "Last_Price"], [days[0], "a", 1.5], [days[1].date(), "b", 2]]
    assert good(read(workbook(("any", table)), "x.xlsx")) == expected


@pytest.mark.parametrize("date_format", ["iso", "dd/mm/yyyy", "mm/dd/yyyy"])
@pytest.mark.parametrize("decimal", [".", ","])
def test_a_sheets_own_dates_and_numbers_need_no_format_and_its_text_does(read, date_format, decimal):
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
        ("2026-03-06", "a", 1.0),
        ("2026-10-30", "a", 2.0),
    ]
    assert [(row[0], row[2], row[4]) for row in bad(rows)] == [(6, "B", "price is not a number")]
    assert rows.warnings == ("x.xlsx: the time of day was cut off 1 dates.",)


@pytest.mark.parametrize("number", [2026, 20261030, 46325.0, 18263, 73051, -1])
def test_serial_numbers_are_dates_where_they_can_be(read, number):
    rows = read(workbook(("s", [["Date", "A"], [number, 1], ["2026-10-29", 2]])), "x.xlsx")
    expected = [("2026-10-30", "a", 1.0)] if number == 46325.0 else []
    assert good(rows) == [*expected, ("2026-10-29", "a", 2.0)]


def test_the_sheet_is_declared_when_several_are_visible(read):
    table = [["Date", "A"], [datetime(2026, 10, 30), 1]]
    book = workbook(("cover", [["hello"]]), ("prices", table))
    assert good(read(book, "x.xlsx", sheet="prices")) == [("2026-10-30", "a", 1.0)]
    with pytest.raises(DataError, match="'cover', 'prices'"):
        read(book, "x.xlsx")
    with pytest.raises(DataError, match="none called 'Prices'"):
        read(book, "x.xlsx", sheet="Prices")


def test_hidden_sheets_are_not_read_unless_they_are_named(read):
    table = [["Date", "A"], [datetime(2026, 10, 30), 1]]
    old = [["Date", "A"], [datetime(2026, 10, 30), 2]]
    book = workbook(("prices", table), ("old", old), hidden=("old",))
    assert good(read(book, "x.xlsx")) == [("2026-10-30", "a", 1.0)]
    assert good(read(book, "x.xlsx", sheet="old")) == [("2026-10-30", "a", 2.0)]


def test_notes_beside_and_below_a_sheets_table_are_no_rows(read):
    table = [
        ["Date", "A", None, None],
        ["2026-10-30", 1, None, "checked by J."],
        ["2026-10-29", 3, 2],
        [],
        ["Source: the terminal"],
        [None, None, None, "a note"],
    ]
    rows = read(workbook(("s", table)), "x.xlsx")
    assert good(rows) == [("2026-10-30", "a", 1.0), ("2026-10-29", "a", 3.0)]
    assert rows.bad.empty


def test_a_table_that_begins_further_down_keeps_the_sheets_row_numbers(read):
    rows = read(workbook(("s", [[], [None, "Date", "A"], [None, "soon", 1], [None, "2026-10-29", 3]])), "x.xlsx")
    assert good(rows) == [("2026-10-29", "a", 3.0)]
    assert bad(rows) == [(3, "soon", "A", "1", "bad date")]


def test_parquet_types(read):
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


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"])
def test_parquet_text_in_any_encoding(read, encoding):
    table = pa.table({"Date": ["2026-10-30", "2026-10-31"], "Asset": ["a", "ab"], "Last_Price": [1.0, 2.0]})
    buffer = io.BytesIO()
    encodings = {"Date": encoding, "Asset": encoding, "Last_Price": "PLAIN"}
    pq.write_table(table, buffer, use_dictionary=False, column_encoding=encodings)
    assert good(read(buffer.getvalue(), "x.parquet")) == [("2026-10-30", "a", 1.0), ("2026-10-31", "ab", 2.0)]


@pytest.mark.parametrize(
    "columns",
    [
        {"Date": pa.array([0], pa.timestamp("us", "UTC")), "A": pa.array([1.0])},
        {"Date": pa.array(["2026-10-30"]), "A": pa.array([[1.0]])},
        {"Date": pa.array([[1]]), "Asset": pa.array(["a"]), "Last_Price": pa.array([1.0])},
    ],
)
def test_parquet_columns_that_cannot_be_read_are_named(read, columns):
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
        ("x.pdf", b"Date,A\n2026-10-30,1\n"),
        ("x.xls", b""),
        ("x.ods", b"PK"),
        ("x.xlsb", b""),
        ("x.zip", b"Date,A\n"),
        ("x", b""),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(read, file, data):
    with pytest.raises((CorruptFileError, DataError), match=f"^{file} ") as refused:
        read(data, file)
    assert refused.value.hint


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
def test_any_text_gives_clean_rows_or_our_errors(read, data, date_format, decimal, separator):
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
def test_a_damaged_file_gives_rows_or_our_errors(read, position, change, file):
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


@pytest.mark.skipif(not STOCKS.exists(), reason="the shares' prices are not beside the repository")
def test_twenty_shares(read):
    rows = read(STOCKS.read_bytes(), "shares.csv.gz")
    wide = pd.read_csv(STOCKS, index_col="Date", parse_dates=True)
    expected = wide.rename(columns=str.lower).T.stack()  # pandas leaves blank cells out as well
    found = rows.good.set_index(["Asset", "Date"])["Last_Price"]
    assert len(found) == len(expected) > 150_000
    assert (found == expected.reindex(found.index)).all()
    assert rows.bad.empty
