"""Files of any table, read into frames: kinds of files, inferred types, and files that are not what they seem."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from openpyxl import Workbook

from luxor_pipelines.errors import CorruptFileError, DataError, LuxorError, NotFoundError, SchemaError, UsageError
from luxor_pipelines.sources.table_files import read_table_file

CSV = """Key,Name,Code,Count,Price,Day,On,Mixed
a, Ação ,007,1,1.5,2026-10-30,true,1
NAN,"x, y",008,2,-2e3,2026-10-31,FALSE,b
"""


def write(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    file = folder / name
    file.write_bytes(text.encode(encoding))
    return file


def kinds(frame: pd.DataFrame) -> list[str]:
    names = {"M": "date", "f": "number", "i": "whole", "b": "flag"}
    return [names.get(getattr(dtype, "kind", "O"), "text") for dtype in frame.dtypes]


def test_columns_of_text_become_what_every_cell_spells(tmp_path: Path) -> None:
    frame = read_table_file(write(tmp_path, "t.csv", CSV))
    assert kinds(frame) == ["text", "text", "text", "whole", "number", "date", "flag", "text"]
    assert frame["Key"].tolist() == ["a", "NAN"], "a ticker may look like a word for nothing"
    assert frame["Name"].tolist() == ["Ação", "x, y"]
    assert frame["Code"].tolist() == ["007", "008"]
    assert frame["Price"].tolist() == [1.5, -2000.0]
    assert frame["Day"].tolist() == [pd.Timestamp("2026-10-30"), pd.Timestamp("2026-10-31")]
    assert frame["On"].tolist() == [True, False]


def test_a_type_that_is_given_wins(tmp_path: Path) -> None:
    file = write(tmp_path, "t.csv", CSV)
    frame = read_table_file(file, {"Count": "text", "Code": "whole", "Price": "number"})
    assert frame["Count"].tolist() == ["1", "2"]
    assert frame["Code"].tolist() == [7, 8]


@pytest.mark.parametrize(
    ("name", "encoding", "text"),
    [
        ("t.csv", "latin-1", "Data;Ação;Preço\n2026-10-30;Itaú;1.234,5\n"),
        ("t.csv", "utf-8-sig", "Data;Ação;Preço\r\n2026-10-30;Itaú;1.234,5\r\n"),
        ("t.tsv", "utf-8", "Data\tAção\tPreço\n2026-10-30\tItaú\t1234,5\n"),
        ("t.txt", "utf-8", "Data|Ação|Preço\n2026-10-30|Itaú|1234.5\n"),
    ],
)
def test_files_as_excel_writes_them_in_brazil(tmp_path: Path, name: str, encoding: str, text: str) -> None:
    frame = read_table_file(write(tmp_path, name, text, encoding))
    assert list(frame.columns) == ["Data", "Ação", "Preço"]
    assert frame["Ação"].tolist() == ["Itaú"]
    assert frame["Preço"].tolist() == [1234.5]


def test_text_with_a_comma_is_no_decimal(tmp_path: Path) -> None:
    frame = read_table_file(write(tmp_path, "t.csv", "A;B\n1,5;x,1\n2,5;2,5\n"))
    assert frame["A"].tolist() == [1.5, 2.5]
    assert frame["B"].tolist() == ["x,1", "2,5"]


def test_points_stand_between_thousands_in_a_file_of_decimal_commas(tmp_path: Path) -> None:
    frame = read_table_file(
        write(tmp_path, "t.csv", "Price;Volume;Code;Odd\n3,5;1.234;0.123;1.234,5\n4;2.500;007;1.5\n")
    )
    assert frame["Price"].tolist() == [3.5, 4.0]
    assert frame["Volume"].tolist() == [1234, 2500]
    assert frame["Code"].tolist() == ["0.123", "007"]
    assert frame["Odd"].tolist() == ["1.234,5", "1.5"], "1.5 has no thousands: it is not 15"


@pytest.mark.parametrize(("separator", "quote"), [("\t", ""), ("|", ""), (",", '"')])
def test_commas_that_may_stand_between_thousands_are_no_decimal_signs(
    tmp_path: Path, separator: str, quote: str
) -> None:
    text = f"A{separator}B\nx{separator}{quote}1,234{quote}\ny{separator}{quote}12,500,000{quote}\n"
    file = write(tmp_path, "t.csv", text)
    assert read_table_file(file)["B"].tolist() == ["1,234", "12,500,000"]
    with pytest.raises(SchemaError, match="'B': not every cell is a number"):
        read_table_file(file, {"B": "number"})
    sure = write(tmp_path, "u.csv", text.replace("12,500,000", "0,5"))
    assert read_table_file(sure, {"B": "number"})["B"].tolist() == [1.234, 0.5]


def test_digits_that_a_number_does_not_hold_stay_text(tmp_path: Path) -> None:
    frame = read_table_file(
        write(tmp_path, "t.csv", "A,B\n12345678901234567890,1234567890123456789\n12345678901234567891,1.5\n")
    )
    assert frame["A"].tolist() == ["12345678901234567890", "12345678901234567891"]
    assert frame["B"].tolist() == ["1234567890123456789", "1.5"]


def test_a_quote_that_swallows_a_row_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(read_table_file(write(tmp_path, "t.csv", 'A,B,C\n1,"a,1\n2,"b,2\n'))) == 1
    (message,) = caplog.messages
    assert message.startswith("t.csv, column 'B': 1 cells run over several lines, as after a quote that is not closed")


def test_columns_without_a_name(tmp_path: Path) -> None:
    frame = read_table_file(write(tmp_path, "t.csv", "A,B,,\n1,,,\n2,,,\n"))
    assert list(frame.columns) == ["A", "B"], "separators at the ends of lines are no columns"
    assert frame["B"].isna().all()
    with pytest.raises(SchemaError, match="without a name: 2"):
        read_table_file(write(tmp_path, "t.csv", "A,,C\n1,2,3\n"))


def test_text_in_the_encodings_of_excel(tmp_path: Path) -> None:
    text = "Nome\tPreço\n€ – ação\t1,5\n"
    for encoding in ("utf-16", "cp1252"):
        frame = read_table_file(write(tmp_path, "t.txt", text, encoding))
        assert frame.to_dict("list") == {"Nome": ["€ – ação"], "Preço": [1.5]}


def sheet(folder: Path, rows: list[list[Any]], *others: list[list[Any]], hidden: int = 0) -> Path:
    book = Workbook()
    for at, cells in enumerate([rows, *others]):
        page = book.active if not at else book.create_sheet()
        assert page is not None
        page.sheet_state = "hidden" if at < hidden else "visible"
        for row in cells:
            page.append(row)
    book.save(folder / "t.xlsx")
    return folder / "t.xlsx"


def test_a_named_column_of_a_workbook_without_a_value_is_a_column(tmp_path: Path) -> None:
    frame = read_table_file(sheet(tmp_path, [["A", "B", None], [1, None, None]]))
    assert list(frame.columns) == ["A", "B"]
    assert frame["B"].isna().all()


@pytest.mark.parametrize(
    ("rows", "word"), [([["A", "A"], [1, 2]], "twice"), ([["Report", None], ["A", "B"], [1, 2]], "without a name: 2")]
)
def test_names_in_a_workbook_are_not_made_up(tmp_path: Path, rows: list[list[Any]], word: str) -> None:
    with pytest.raises(SchemaError, match=word):
        read_table_file(sheet(tmp_path, rows))


def test_a_number_in_a_workbook_may_be_larger_than_whole_numbers_are(tmp_path: Path) -> None:
    assert read_table_file(sheet(tmp_path, [["A"], [1e20], [2]]))["A"].tolist() == [1e20, 2.0]


def test_the_first_visible_sheet_is_read_and_others_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows, others = [["A"], [1]], [["A"], [2]]
    assert read_table_file(sheet(tmp_path, rows, others, hidden=1))["A"].tolist() == [2]
    assert not caplog.messages
    assert read_table_file(sheet(tmp_path, rows, others))["A"].tolist() == [1]
    assert ["only the first is read" in message for message in caplog.messages] == [True]


def test_days_before_months_stay_text(tmp_path: Path) -> None:
    frame = read_table_file(write(tmp_path, "t.csv", "Date\n02/01/2026\n"))
    assert frame["Date"].tolist() == ["02/01/2026"]


def test_empty_cells_are_missing(tmp_path: Path) -> None:
    frame = read_table_file(write(tmp_path, "t.csv", "A,B\n,x\n1.5,#N/A N/A\n"))
    assert frame["A"].isna().tolist() == [True, False]
    assert frame["B"].isna().tolist() == [False, True]


def test_workbooks_and_compressed_files(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"Key": ["a", "NAN"], "Day": pd.to_datetime(["2026-10-30", None]), "N": [1, 2], "Mixed": [1, "x"]}
    )
    rows.to_excel(tmp_path / "t.xlsx", index=False)
    frame = read_table_file(tmp_path / "t.xlsx")
    assert kinds(frame) == ["text", "date", "whole", "text"]
    assert frame["Key"].tolist() == ["a", "NAN"]
    assert frame["Mixed"].tolist() == ["1", "x"]

    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    assert len(read_table_file(tmp_path / "t.csv.gz")) == 2


def test_parquet_files_and_folders_of_them(tmp_path: Path) -> None:
    rows = pd.DataFrame({"Date": pd.to_datetime(["2026-10-30", "2026-11-02"]), "X": [1, 2]})
    rows.to_parquet(tmp_path / "t.parquet")
    assert read_table_file(tmp_path / "t.parquet")["X"].tolist() == [1, 2]
    rows.assign(year=[2026, 2026], month=[10, 11]).to_parquet(tmp_path / "many", partition_cols=["month"])
    frame = read_table_file(tmp_path / "many")
    assert sorted(frame["X"]) == [1, 2]
    assert sorted(frame["month"]) == [10, 11]


def test_one_file_of_a_partitioned_table_has_its_own_columns_alone(tmp_path: Path) -> None:
    file = tmp_path / "month=2026-10" / "data.parquet"
    file.parent.mkdir()
    pd.DataFrame({"Date": pd.to_datetime(["2026-10-30"]), "X": [1]}).to_parquet(file)
    assert list(read_table_file(file).columns) == ["Date", "X"]


@pytest.mark.parametrize(
    ("name", "data", "kind", "word"),
    [
        ("t.pdf", b"x", UsageError, "of no kind"),
        ("t.parquet", b"PAR1 no", CorruptFileError, "no Parquet"),
        ("t.xlsx", b"PK no", CorruptFileError, "workbook"),
        ("t.csv.gz", b"no gzip", CorruptFileError, "cannot be read"),
        ("t.csv", b"", DataError, "no columns"),
        ("t.csv", b"A,B\n1,2,3\n", CorruptFileError, "2 cells"),
        ("t.csv", b"A,A\n1,2\n", SchemaError, "twice"),
        ("t.csv", b'A,B\n"1,2\n', CorruptFileError, "cells"),
    ],
)
def test_what_is_no_such_file(tmp_path: Path, name: str, data: bytes, kind: type[LuxorError], word: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(kind, match=word) as caught:
        read_table_file(tmp_path / name)
    assert caught.value.hint


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_table_file(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("types", "kind"),
    [({"Name": "number"}, SchemaError), ({"On": "date"}, SchemaError), ({"Nope": "text"}, UsageError)],
)
def test_types_that_do_not_fit(tmp_path: Path, types: dict[str, Any], kind: type[LuxorError]) -> None:
    with pytest.raises(kind):
        read_table_file(write(tmp_path, "t.csv", CSV), types)
