"""Declared and named formats, each vendor's on a file in its shape, made up here."""

import io
import json
from datetime import date, datetime

import openpyxl
import pandas as pd
import pytest

from luxor_pipelines.errors import DataError, UsageError
from luxor_pipelines.sources.formats import NAMED_FORMATS, Declarations, Format, propose, stem
from luxor_pipelines.sources.price_files import read_price_file


def declared(lines: dict, default: Format | None = None) -> Declarations:
    return Declarations.read(json.dumps(lines).encode(), "_formats.json", default)


# --- by pattern


def test_formats_by_pattern():
    declarations = declared(
        {
            "btg_*": {"date_format": "dd/mm/yyyy", "decimal": ",", "separator": ";"},
            "*.xlsx": {"sheet": "Preços"},
            "btg_us_*": {"decimal": "."},
        },
        default := Format(separator="|"),
    )
    assert declarations.of("other.csv") == default
    assert declarations.unused() == ["btg_*", "*.xlsx", "btg_us_*"]
    assert declarations.of("btg_1.csv") == Format("dd/mm/yyyy", ",", ";")
    assert declarations.of("2026/btg_1.csv") == Format("dd/mm/yyyy", ",", ";")
    assert declarations.of("btg_us_1.csv") == Format("dd/mm/yyyy", ".", ";")
    assert declarations.of("btg_1.xlsx") == Format("dd/mm/yyyy", ",", ";", "Preços")
    assert declarations.unused() == []


def test_what_is_declared_wins_over_a_named_format_and_that_over_the_default():
    declarations = declared(
        {"*.csv": {"format": "investing-pt", "asset": "{stem}"}, "x.csv": {"date_format": "iso"}},
        Format("mm/dd/yyyy", ".", ";"),
    )
    assert (declarations.of("y.csv").date_format, declarations.of("y.csv").decimal) == ("%d.%m.%Y", ",")
    assert declarations.of("y.csv").separator == ";"
    assert declarations.of("x.csv").date_format == "iso"


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
        ('{"*": {"date_format": "%d.%m"}}', "%d.%m"),
        ('{"*": {"date_format": "%d.%m.%Y %H"}}', "%H"),
        ('{"*": {"decimal": ";"}}', "';'"),
        ('{"*": {"decimal": ",", "thousands": ","}}', "decimal and thousands"),
        ('{"*": {"thousands": "x"}}', "'x'"),
        ('{"*": {"separator": "a"}}', "'a'"),
        ('{"*": {"separator": [","]}}', "separator"),
        ('{"*": {"sheet": 1}}', "1"),
        ('{"*": {"header": 0}}', "0"),
        ('{"*": {"header": true}}', "True"),
        ('{"*": {"encoding": "zip"}}', "zip"),
        ('{"*": {"encoding": 5}}', "5"),
        ('{"*": {"null": "-"}}', "null"),
        ('{"*": {"null": 5}}', "'*'"),
        ('{"*": {"skip": [1]}}', "skip"),
        ('{"*": {"columns": ["Date"]}}', "columns"),
        ('{"*": {"columns": {"when": "Date"}}}', "'when'"),
        ('{"*": {"asset": "a", "columns": {"asset": "b"}}}', "contradict"),
        ('{"*": {"asset": "{name} us"}}', "braces"),
        ('{"*": {"skip": ["x"], "columns": {"price": "b"}}}', "contradict"),
        ('{"*": {"format": "yahho"}}', "yahho"),
        ('{"a.csv": {"decimal": ","}, "a.csv": {"separator": ";"}}', "'a.csv' twice"),
        ('{"*": {"decimal": ",", "decimal": "."}}', "'decimal' twice"),
    ],
)
def test_declarations_that_are_not_known_are_refused(text, words):
    with pytest.raises(DataError, match=r"_formats\.json") as refused:
        Declarations.read(text.encode(), "raw/prices/_formats.json")
    assert words in refused.value.message
    assert refused.value.hint


def test_lines_that_contradict_each_other_are_named():
    declarations = declared({"*.csv": {"asset": "a"}, "x*": {"columns": {"asset": "b"}}})
    with pytest.raises(DataError, match=r"'\*\.csv' and 'x\*', for x\.csv"):
        declarations.of("x.csv")


def test_encodings_by_any_of_their_names():
    assert Format(encoding="ISO8859_1").encoding == "latin-1"
    with pytest.raises(UsageError, match="rot13"):
        Format(encoding="rot13")


def test_stems():
    assert [stem(name) for name in ("AAPL.csv", "2026/PETR4.SA.csv.gz", "x", "B.zip")] == ["aapl", "petr4.sa", "x", "b"]


# --- vendors


@pytest.fixture(scope="module")
def read(confined):
    """Reads a file as `_formats.json` declares it; the rows as (date, asset, price)."""

    def read(data, file, **keys):
        data = data.encode() if isinstance(data, str) else data
        how = declared({"*": keys}).of(file)
        rows = read_price_file(data, file, how, confined=confined)
        assert rows.bad.empty, rows.bad
        return [(f"{row.Date:%Y-%m-%d}", row.Asset, row.Last_Price) for row in rows.good.itertuples()]

    return read


def workbook(rows, title="Sheet", *before):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name in before:
        book.create_sheet(name)["A1"] = "about"
    sheet = book.create_sheet(title)
    for row in rows:
        sheet.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


YAHOO = """Date,Open,High,Low,Close,Adj Close,Volume
2026-10-29,228.50,231.00,227.10,230.10,229.85,1000
2026-10-30,null,null,null,null,null,null
2026-10-31,230.00,232.00,229.00,231.40,231.15,2000
"""
YFINANCE = """Price,Adj Close,Adj Close,Close,Close
Ticker,AAPL,PETR4.SA,AAPL,PETR4.SA
Date,,,,
2026-10-29,229.85,37.10,230.10,37.40
2026-10-30,231.15,,231.40,
"""
INVESTING_EN = """\ufeff"Date","Price","Open","High","Low","Vol.","Change %"
"10/30/2026","1,231.40","1,230.00","1,232.00","1,229.00","1.20M","0.56%"
"10/29/2026","230.10","228.50","231.00","227.10","-","-0.10%"
"""
INVESTING_PT = """\ufeff"Data","Último","Abertura","Máxima","Mínima","Vol.","Var%"
"30.10.2026","1.231,40","1.230,00","1.232,00","1.229,00","1,20M","0,56%"
"29.10.2026","37,10","37,00","37,50","36,90","80,1M","-0,10%"
"""
STOOQ = "Date,Open,High,Low,Close,Volume\n2026-10-30,230,232,229,231.4,2000\n"
STOOQ_PL = "Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen\n2026-10-30,230,232,229,231.4,2000\n"
STOOQ_BULK = """<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>
AAPL.US,D,20261029,000000,228.5,231,227.1,230.1,1000,0
AAPL.US,D,20261030,000000,230,232,229,231.4,2000,0
"""


def test_yahoo(read):
    expected = [("2026-10-29", "aapl us equity", 229.85), ("2026-10-31", "aapl us equity", 231.15)]
    assert read(YAHOO, "AAPL.csv", format="yahoo", asset="{stem} us equity") == expected
    closes = read(YAHOO, "AAPL.csv", format="yahoo", asset="{stem}", columns={"price": "Close"})
    assert closes == [("2026-10-29", "aapl", 230.10), ("2026-10-31", "aapl", 231.40)]


def test_yfinance(read):
    zoned = "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits\n2026-10-30 00:00:00-04:00,1,1,1,231.4,9,0.0,0.0\n"
    one = read(zoned, "AAPL.csv", format="yahoo", asset="{stem}", columns={"price": "Close"})
    assert one == [("2026-10-30", "aapl", 231.4)]
    assert sorted(read(YFINANCE, "x.csv", format="yfinance")) == [
        ("2026-10-29", "aapl", 229.85),
        ("2026-10-29", "petr4.sa", 37.10),
        ("2026-10-30", "aapl", 231.15),
    ]


def test_investing(read):
    english = read(INVESTING_EN, "AAPL Historical Data.csv", format="investing-en", asset="aapl us equity")
    assert english == [("2026-10-30", "aapl us equity", 1231.40), ("2026-10-29", "aapl us equity", 230.10)]
    portuguese = read(INVESTING_PT, "petr4.csv", format="investing-pt", asset="{stem} bz equity")
    assert portuguese == [("2026-10-30", "petr4 bz equity", 1231.40), ("2026-10-29", "petr4 bz equity", 37.10)]


def test_stooq(read):
    assert read(STOOQ, "aapl_us_d.csv", format="stooq", asset="aapl us equity")[0][1:] == ("aapl us equity", 231.4)
    assert read(STOOQ_PL, "aapl_us_d.csv", format="stooq", asset="{stem}") == [("2026-10-30", "aapl_us_d", 231.4)]
    rows = read(STOOQ_BULK, "aapl.us.txt", format="stooq-bulk")
    assert rows == [("2026-10-29", "aapl.us", 230.1), ("2026-10-30", "aapl.us", 231.4)]


def test_bloomberg_bdh(read):
    one_column_of_dates = workbook(
        [
            ["Start Date", datetime(2026, 10, 29)],
            ["End Date", datetime(2026, 10, 30)],
            [],
            [None, "AAPL US Equity", None, "PETR4 BZ Equity", None],
            ["Dates", "PX_LAST", "PX_VOLUME", "PX_LAST", "PX_VOLUME"],
            [datetime(2026, 10, 29), 230.1, 1000, 37.1, 5],
            [datetime(2026, 10, 30), 231.4, 2000, "#N/A N/A", "#N/A N/A"],
        ]
    )
    expected = [
        ("2026-10-29", "aapl us equity", 230.1),
        ("2026-10-29", "petr4 bz equity", 37.1),
        ("2026-10-30", "aapl us equity", 231.4),
    ]
    assert sorted(read(one_column_of_dates, "bdh.xlsx", format="bloomberg-bdh")) == expected
    volumes = read(one_column_of_dates, "bdh.xlsx", format="bloomberg-bdh", columns={"price": "PX_VOLUME"})
    assert ("2026-10-30", "aapl us equity", 2000.0) in volumes

    a_column_of_dates_each = workbook(
        [
            ["AAPL US Equity", None, None, "PETR4 BZ Equity", None],
            ["Date", "PX_LAST", None, "Date", "PX_LAST"],
            [datetime(2026, 10, 29), 230.1, None, datetime(2026, 10, 28), 36.9],
            [datetime(2026, 10, 30), 231.4, None, None, None],
        ]
    )
    assert sorted(read(a_column_of_dates_each, "bdh.xlsx", format="bloomberg-bdh")) == [
        ("2026-10-28", "petr4 bz equity", 36.9),
        ("2026-10-29", "aapl us equity", 230.1),
        ("2026-10-30", "aapl us equity", 231.4),
    ]


def test_economatica(read):
    matrix = workbook(
        [
            ["Economatica"],
            [],
            [],
            [
                "Data",
                "Fechamento\najust p/ prov\nEm moeda orig\nPETR4",
                "Fechamento\najust p/ prov\nEm moeda orig\nVALE3",
            ],
            [datetime(2026, 10, 29), 37.1, 61.2],
            ["30/10/2026", "1.037,40", "-"],
        ],
        "Dados",
    )
    assert sorted(read(matrix, "econ.xlsx", format="economatica")) == [
        ("2026-10-29", "petr4", 37.1),
        ("2026-10-29", "vale3", 61.2),
        ("2026-10-30", "petr4", 1037.4),
    ]
    one = 'PETR4;;\nData;"Fechamento";"Q Negs"\n29/10/2026;37,10;100\n30/10/2026;-;-\n'
    keys = {"format": "economatica", "asset": "petr4 bz equity", "separator": ";"}
    assert read(one, "econ.csv", **keys) == [("2026-10-29", "petr4 bz equity", 37.1)]


def test_every_key(read):
    rows = [
        ["Cotações"],
        [],
        [],
        ["Data", "Fechamento", "Nota"],
        ["31.12.2025", "1.234,50", "x"],
        ["30.12.2025", "s/n", ""],
    ]
    keys = {
        "columns": {"date": "Data", "price": "Fechamento"},
        "asset": "petr4 bz equity",
        "header": 4,
        "decimal": ",",
        "thousands": ".",
        "date_format": "%d.%m.%Y",
        "null": ["s/n"],
    }
    expected = [("2025-12-31", "petr4 bz equity", 1234.5)]
    assert read(workbook(rows, "Dados", "Capa"), "econ.xlsx", sheet="Dados", **keys) == expected
    text = "\n".join(";".join(row) for row in rows).encode("latin-1")
    assert read(text, "econ.csv", encoding="latin-1", separator=";", **keys) == expected


def test_wide_files_with_another_date_column_and_columns_that_are_no_assets(read):
    data = "Dia;PETR4 BZ Equity;VALE3 BZ Equity;Volume\n31-dez-25;37,1;61,2;5\n"
    keys = {"columns": {"date": "Dia"}, "skip": ["Volume"], "separator": ";", "decimal": ",", "date_format": "%d-%b-%y"}
    assert read(data, "x.txt", **keys) == [
        ("2025-12-31", "petr4 bz equity", 37.1),
        ("2025-12-31", "vale3 bz equity", 61.2),
    ]


def test_long_files_with_other_names(read):
    data = "Trade Date\tTicker\tNAV\n20251231\tXP Fund\t1'234.5\n"
    keys = {
        "columns": {"date": "Trade Date", "asset": "Ticker", "price": "NAV"},
        "thousands": "'",
        "date_format": "%Y%m%d",
    }
    assert read(data, "x.tsv", **keys) == [("2025-12-31", "xp fund", 1234.5)]


# --- never taken for something else


@pytest.mark.parametrize(
    ("file", "data", "line"),
    [
        ("AAPL.csv", YAHOO, '{"AAPL.csv": {"format": "yahoo", "asset": "{stem}"}}'),
        ("x.csv", YFINANCE, '{"x.csv": {"format": "yfinance"}}'),
        ("AAPL.csv", INVESTING_EN, '{"AAPL.csv": {"format": "investing-en", "asset": "{stem}"}}'),
        ("a.csv", INVESTING_PT, '{"a.csv": {"format": "investing-pt", "asset": "{stem}"}}'),
        ("s.csv", STOOQ, '{"s.csv": {"format": "stooq", "asset": "{stem}"}}'),
        ("s.csv", STOOQ_PL, '{"s.csv": {"format": "stooq", "asset": "{stem}"}}'),
        ("s.txt", STOOQ_BULK, '{"s.txt": {"format": "stooq-bulk"}}'),
    ],
)
def test_a_vendors_file_is_refused_with_the_line_to_declare(read, file, data, line):
    with pytest.raises(DataError) as refused:
        read(data, f"raw/prices/{file}")
    assert line in refused.value.message
    ((pattern, keys),) = json.loads(line).items()
    assert pattern == file
    assert read(data, f"raw/prices/{file}", **keys), "what is proposed can be read"


@pytest.mark.parametrize(
    "header",
    ["Date,Dividends", "Date,Open,Close", "Date,Fechamento", "Date,Cierre,Volumen", "Date,PX_LAST", "Date,NAV"],
)
def test_columns_that_are_fields_are_no_assets(read, header):
    with pytest.raises(DataError, match="those of fields"):
        read(header + "\n2026-10-30" + ",1" * header.count(",") + "\n", "x.csv")


def test_a_wide_file_of_other_assets_is_refused():
    data = b"Date,AAPL,MSFT\n2026-10-30,1,2\n"
    assert len(read_price_file(data, "x.csv", price_keys={"aapl"}).prices) == 2
    with pytest.raises(DataError, match="none of its columns is the price key"):
        read_price_file(data, "x.csv", price_keys={"aapl us equity"})


def test_a_column_of_a_wide_file_that_may_be_a_field_is_named():
    (warning,) = read_price_file(b"Date,AAPL,Volume\n2026-10-30,1,2\n", "x.csv").warnings
    assert "'Volume'" in warning
    assert "skip" in warning
    assert read_price_file(b"Date,AAPL,Low\n2026-10-30,1,2\n", "x.csv", price_keys={"aapl", "low"}).warnings == ()


def test_a_pandas_frame_with_its_dates_in_the_index():
    index = pd.DatetimeIndex([date(2026, 10, 29), date(2026, 10, 30)])
    for name in ("Date", None):
        buffer = io.BytesIO()
        pd.DataFrame({"A": [1.0, 2.0], "B": [3.0, None]}, index=index.rename(name)).to_parquet(buffer)
        rows = read_price_file(buffer.getvalue(), "x.parquet")
        assert len(rows.prices) == 3
        assert rows.bad.empty


@pytest.mark.parametrize("columns", [["Date", "Ticker"], ["Price"], ["Date"], ["Data", "Fechamento"]])
@pytest.mark.parametrize("name", sorted(NAMED_FORMATS))
def test_a_file_of_another_shape_than_its_named_format_is_refused(name, columns):
    with pytest.raises(DataError, match=r"has no|which asset|those of fields"):
        read_price_file(
            (",".join(columns) + "\n1,2\n").encode(), "x.csv", declared({"*": {"format": name}}).of("x.csv")
        )


def test_nothing_is_proposed_for_what_is_not_known():
    assert propose([["Date", "A"], ["2026-10-30", "1"]], "x.csv") is None
