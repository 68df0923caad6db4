"""luxor inspect: what a file looks like, what is read of it, and the declaration that is proposed."""

import io
import json
from pathlib import Path

import openpyxl
import pytest

from luxor_pipelines import cli
from luxor_pipelines.sources.formats import Declarations
from luxor_pipelines.sources.inspection import inspect_price_file
from luxor_pipelines.sources.price_files import read_price_file

YAHOO = b"Date,Open,High,Low,Close,Adj Close,Volume\n2026-10-30,1,1,1,230.1,229.85,9\n2026-10-31,1,1,1,x,y,9\n"


def workbook(*rows):
    book, buffer = openpyxl.Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "keys", "rows"),
    [
        ("AAPL.csv", YAHOO, {"format": "yahoo", "asset": "{stem}"}, 1),
        (
            "wide.csv",
            "Data;PETR4 BZ;Ação X\n30/10/2026;1.037,40;2,5\n29/10/2026;37,10;x\n13/10/2026;37,10;3\n".encode("latin-1"),
            {
                "columns": {"date": "Data"},
                "date_format": "dd/mm/yyyy",
                "decimal": ",",
                "separator": ";",
                "encoding": "cp1252",
            },
            5,
        ),
        (
            "long.txt",
            b"Trade Date\tTicker\tNAV\tNote\n13.01.2026\tXP Fund\t1'234.5\tx\n14.01.2026\tXP Fund\t1'235.5\t\n",
            {
                "columns": {"date": "Trade Date", "asset": "Ticker", "price": "NAV"},
                "date_format": "%d.%m.%Y",
                "thousands": "'",
                "separator": "\t",
            },
            2,
        ),
        (
            "econ.xlsx",
            workbook(
                ["Cotações"], [], ["Data", "Fechamento", "Nota"], ["31.12.2025", "1.234,50", "x"], ["30.12.2025", "-"]
            ),
            {
                "columns": {"date": "Data", "price": "Fechamento"},
                "asset": "{stem}",
                "header": 3,
                "date_format": "%d.%m.%Y",
                "decimal": ",",
            },
            1,
        ),
        ("us.csv", b"Date,A\n10/30/2026,1\n10/29/2026,2\n", {"date_format": "mm/dd/yyyy"}, 2),
        ("utf16.csv", "Date\tA\n2026-10-30\t1\n".encode("utf-16"), {"separator": "\t", "encoding": "utf-16"}, 1),
    ],
)
def test_the_declaration_that_fits_is_proposed(name, data, keys, rows):
    seen = inspect_price_file(data, name)
    assert seen.proposal == {name: keys}
    how = Declarations.read(json.dumps(seen.proposal).encode(), "_formats.json").of(name)
    assert len(read_price_file(data, name, how).prices) == rows == seen.best.good


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.csv", b"Date,Asset,Last_Price\n2026-10-30,a,1\n2026-10-29,a,x\n"),
        ("x.csv", b"Date,A,B\n2026-10-30,1,2\n"),
    ],
)
def test_nothing_is_proposed_where_nothing_is_to_be_declared(name, data):
    seen = inspect_price_file(data, name)
    assert seen.proposal is None
    assert seen.best is seen.outcomes[0]


def test_days_and_months_either_way_round_are_pointed_out():
    seen = inspect_price_file(b"Date,A\n03/04/2026,1\n05/06/2026,2\n", "x.csv")
    assert seen.proposal == {"x.csv": {"date_format": "dd/mm/yyyy"}}
    assert "either way round" in seen.notes[0]


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"PK\3\4", b"hello", b"a,b\n1,2\n", b"\n" * 50, b'"x\ny'])
@pytest.mark.parametrize("name", ["x.csv", "x.xlsx", "x.parquet", "x.zip", "x.pdf"])
def test_any_file_is_told_of(name, data):
    seen = inspect_price_file(data, name)
    assert seen.proposal is None
    assert seen.outcomes[0].refusal


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "AAPL.csv"
    file.write_bytes(YAHOO)
    assert cli.main(["inspect", str(file)]) == 0
    out = capsys.readouterr().out
    assert '{"AAPL.csv": {"format": "yahoo", "asset": "{stem}"}}' in out
    assert "229.85" in out
    assert "price is not a number" in out
    (tmp_path / "_formats.json").write_text('{"AAPL.csv": {"format": "yahoo", "asset": "aapl us equity"}}')
    assert cli.main(["inspect", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["outcomes"][0]["keys"] == {"format": "yahoo", "asset": "aapl us equity"}
    assert told["rows"] == [{"Date": "2026-10-30", "Asset": "aapl us equity", "Last_Price": 229.85}]
    assert told["bad_rows"][0]["Reason"] == "price is not a number"
    assert told["proposal"] is None
    assert cli.main(["inspect", str(tmp_path / "none.csv")]) == 1


def test_a_file_in_the_lake(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "raw" / "prices"
    folder.mkdir(parents=True)
    (folder / "p.csv").write_bytes(b"Date;A\n2026-10-30;1\n")
    (folder / "_formats.json").write_text('{"*.csv": {"separator": ";"}}')
    assert cli.main(["inspect", "raw/prices/p.csv", "--lake", str(tmp_path)]) == 0
    assert "There is nothing to declare." in capsys.readouterr().out
