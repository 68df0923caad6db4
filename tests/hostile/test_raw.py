"""Files dropped into raw/ by anybody: damaged, disguised, or made to fill the memory of whoever opens them."""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luxor_pipelines.demo.data import ecb_zip
from luxor_pipelines.errors import CorruptFileError, DataError, QualityError
from luxor_pipelines.operations import records, runs
from luxor_pipelines.settings import Settings
from luxor_pipelines.sources import ecb
from luxor_pipelines.sources.limits import Limits

HEADER = b"Date,Asset,Last_Price\n"
ROW = b"2026-10-30,a,1\n"


def parquet(columns: Any, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), sink, **options)
    return sink.getvalue().to_pybytes()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def repeated(rows: int, asset: str) -> dict[str, Any]:
    return {
        name: pa.repeat(cell, rows) for name, cell in (("Date", "2026-10-30"), ("Asset", asset), ("Last_Price", 1.0))
    }


def workbook() -> dict[str, bytes]:
    book = openpyxl.Workbook()
    for row in (("Date", "Asset", "Last_Price"), ("2026-10-30", "a", 1.0)):
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    with zipfile.ZipFile(out) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


BOOK = workbook()
SHEET = "xl/worksheets/sheet1.xml"
NS = b'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def xlsx(**parts: bytes) -> bytes:
    return zipped(BOOK | {SHEET if name == "sheet" else name: data for name, data in parts.items()})


def sheet(rows: bytes, before: bytes = b"") -> bytes:
    return xlsx(sheet=before + b"<worksheet " + NS + b"><sheetData>" + rows + b"</sheetData></worksheet>")


def cell(text: bytes) -> bytes:
    return b'<row r="1"><c r="A1" t="inlineStr"><is><t>' + text + b"</t></is></c></row>"


LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "lol">'
    + b"".join(b'<!ENTITY l%d "%s">' % (i, b"&l%d;" % (i - 1) * 10) for i in range(1, 10))
    + b"]>"
)
LONG = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "' + b"a" * 100_000 + b'">]>'
FILE = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'


def encrypted(data: bytes) -> bytes:
    """The archive with every member flagged as encrypted."""
    out = bytearray(data)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = out.find(mark)
        while start >= 0:
            out[start + at] |= 1
            start = out.find(mark, start + 1)
    return bytes(out)


def understated(data: bytes, size: int) -> bytes:
    """The archive with sizes that belie what its members unpack to."""
    out = bytearray(data)
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = out.find(mark)
        while start >= 0:
            out[start + at : start + at + 4] = struct.pack("<I", size)
            start = out.find(mark, start + 1)
    return bytes(out)


GOOD_PARQUET = parquet({"Date": ["2026-10-30"], "Asset": ["a"], "Last_Price": [1.0]})
LIMIT = 1_000_000
"""What these tests take for too large once unpacked, instead of two gigabytes."""
NO_UTF_8 = pa.array([b"a", b"\xff"]).cast(pa.string(), safe=False)

SMALL = Settings(raw_bytes=10 * LIMIT, raw_unpacked=LIMIT, raw_rows=100_000, raw_cells=200_000, raw_memory=200_000_000)

UNREADABLE: dict[str, tuple[str, bytes, str]] = {
    # csv
    "csv-empty": ("csv", b"", "not a header"),
    "csv-mark-only": ("csv", b"\xef\xbb\xbf", "not a header"),
    "csv-blank-lines": ("csv", b"\n" * 100, "not a header"),
    "csv-utf-16": ("csv", (HEADER + ROW).decode().encode("utf-16"), "UTF-8"),
    "csv-utf-32": ("csv", (HEADER + ROW).decode().encode("utf-32"), "UTF-8"),
    "csv-latin-1": ("csv", HEADER + "2026-10-30,ação,1\n".encode("latin-1"), "UTF-8"),
    "csv-overlong-utf-8": ("csv", HEADER + b"2026-10-30,\xc0\xaf,1\n", "UTF-8"),
    "csv-surrogates": ("csv", HEADER + b"2026-10-30,\xed\xa0\x80,1\n", "UTF-8"),
    "csv-latin-1-in-a-row-too-long": ("csv", HEADER + ROW + "2026-10-30,a,1,ação\n".encode("latin-1"), "UTF-8"),
    "csv-is-xlsx": ("csv", zipped(BOOK), ""),
    "csv-is-html": ("csv", b"<html><body>Sign in</body></html>", "Date"),
    "csv-nul-in-header": ("csv", b"Da\0te,Asset,Last_Price\n" + ROW, "Date"),
    "csv-many-columns": ("csv", b"Date," + b",".join(b"a%d" % i for i in range(20_000)) + b"\n", "20,001 columns"),
    "csv-commas": ("csv", b"Date" + b"," * 900_000, "columns"),
    "csv-header-of-one-cell": ("csv", b"x" * 900_000, "field"),
    "csv-header-twice": ("csv", b"Date,Date,Asset,Last_Price\n", "each once"),
    "csv-too-large": ("csv", HEADER + ROW * (LIMIT // len(ROW)), "once unpacked"),
    "csv-far-too-large": ("csv", HEADER + b" " * 10 * LIMIT, "read at most"),
    "csv-too-many-rows": ("csv", b"Date,fund\n" + b",1\n" * 100_001, "more than 100,000 rows"),
    "csv-too-many-cells": ("csv", b"Date" + b",fund" * 999 + (b"\n" + b"," * 999) * 300, "more than 200,000 cells"),
    "csv-too-many-ragged-rows": ("csv", HEADER + b"x\n" * 100_001, "another number of cells"),
    "csv-open-quote": ("csv", HEADER + b'2026-10-30,"a,1\n' * 99, "several lines"),
    "csv-open-quote-at-the-end": ("csv", HEADER + ROW + b'2026-10-30,a,"1', "quote"),
    "csv-name-over-lines": ("csv", HEADER + b'2026-10-30,"a\nb",1\n', "several lines"),
    "csv-other-separator": ("csv", HEADER.replace(b",", b";"), "Date;Asset"),
    # gzip
    "gz-none": ("csv.gz", HEADER + ROW, "gzip"),
    "gz-truncated": ("csv.gz", gzip.compress(HEADER + ROW)[:-5], "gzip"),
    "gz-damaged": ("csv.gz", gzip.compress(HEADER + ROW)[:20] + b"\xff" * 20, ""),
    "gz-followed-by-noise": ("csv.gz", gzip.compress(HEADER + ROW) + b"noise" * 4, ""),
    "gz-bomb": ("csv.gz", gzip.compress(HEADER + bytes(10 * LIMIT), 1), "once unpacked"),
    "gz-bomb-of-rows": ("csv.gz", gzip.compress(HEADER + ROW * 99_999, 1), "once unpacked"),
    "gz-bomb-that-lies": ("csv.gz", gzip.compress(HEADER + bytes(10 * LIMIT), 1)[:-4] + bytes(4), "once unpacked"),
    "gz-bomb-in-parts": ("csv.gz", gzip.compress(HEADER + b" " * (LIMIT // 2), 1) * 5, "once unpacked"),
    "gz-within-gz": ("csv.gz", gzip.compress(gzip.compress(HEADER + ROW)), "UTF-8"),
    # Excel
    "xlsx-none": ("xlsx", b"PK\3\4" + bytes(100), "as what"),
    "xlsx-empty": ("xlsx", b"", "as what"),
    "xlsx-old-xls": ("xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4_000), "as what"),
    "xlsx-truncated": ("xlsx", zipped(BOOK)[:-30], "as what"),
    "xlsx-encrypted": ("xlsx", encrypted(zipped(BOOK)), "as what"),
    "xlsx-bomb": ("xlsx", xlsx(sheet=bytes(10 * LIMIT)), "once unpacked"),
    "xlsx-bomb-of-many-parts": ("xlsx", xlsx(**{f"x{i}": bytes(LIMIT // 10) for i in range(20)}), "once unpacked"),
    "xlsx-bomb-that-lies": ("xlsx", understated(xlsx(sheet=bytes(10 * LIMIT)), 99), "as what"),
    "xlsx-many-parts": ("xlsx", zipped({str(i): b"" for i in range(5_000)}), "as what"),
    "xlsx-billion-laughs": ("xlsx", sheet(cell(b"&l9;"), LAUGHS), "as what"),
    "xlsx-billion-laughs-in-the-workbook": ("xlsx", xlsx(**{"xl/workbook.xml": LAUGHS + b"<x>&l9;</x>"}), "as what"),
    "xlsx-quadratic-blowup": ("xlsx", sheet(cell(b"&a;" * 50_000), LONG), "as what"),
    "xlsx-reads-another-file": ("xlsx", sheet(cell(b"&e;"), FILE), "as what"),
    "xlsx-column-beyond-all": ("xlsx", sheet(b'<row r="1"><c r="ZZZZZZ1"><v>1</v></c></row>'), "neither"),
    "xlsx-row-below-zero": ("xlsx", sheet(b'<row r="-5"><c r="A-5"><v>1</v></c></row>'), "as what"),
    "xlsx-row-beyond-all": ("xlsx", sheet(b'<row r="999999999"><c r="A999999999"><v>1</v></c></row>'), ""),
    "xlsx-half-a-tag": ("xlsx", sheet(b"<row"), "as what"),
    "xlsx-no-sheet": ("xlsx", zipped({name: data for name, data in BOOK.items() if name != SHEET}), "sheet"),
    # Parquet
    "parquet-empty": ("parquet", b"", "Parquet"),
    "parquet-truncated": ("parquet", GOOD_PARQUET[:-9], "Parquet"),
    "parquet-footer-of-2-GB": ("parquet", GOOD_PARQUET[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1", "Parquet"),
    "parquet-pages-of-nul": ("parquet", b"PAR1" + bytes(40) + GOOD_PARQUET[44:], "page header"),
    "parquet-nested": ("parquet", parquet({"Date": [["2026-10-30"]], "Asset": ["a"], "Last_Price": [1.0]}), "'Date'"),
    "parquet-zone": (
        "parquet",
        parquet({"Date": pa.array([0], pa.timestamp("us", "UTC")), "Asset": ["a"], "Last_Price": [1.0]}),
        "time zone",
    ),
    "parquet-column-twice": (
        "parquet",
        parquet(pa.Table.from_arrays([pa.array(["a"])] * 4, names=["Date", "Asset", "Asset", "Last_Price"])),
        "each once",
    ),
    "parquet-date-that-is-no-utf-8": ("parquet", parquet({"Date": NO_UTF_8, "fund": [1.0, 2.0]}), "UTF8"),
    "parquet-name-that-is-no-utf-8": (
        "parquet",
        parquet({"Date": ["2026-10-30"] * 2, "Asset": NO_UTF_8, "Last_Price": [1.0, 2.0]}, use_dictionary=False),
        "UTF8",
    ),
    "parquet-no-columns": ("parquet", parquet({}), "header"),
    "parquet-many-columns": ("parquet", parquet({f"c{i}": [1] for i in range(17_000)}, store_schema=False), "columns"),
    "parquet-bomb-of-equal-rows": (
        "parquet",
        parquet(repeated(10**6, "a")),
        "more than 100,000 rows",
    ),
    "parquet-of-many-row-groups": ("parquet", parquet(repeated(10_001, "a"), row_group_size=1), "row groups"),
    # Others
    "extension-unknown": ("exe", b"MZ", "extension"),
    "extension-none": ("", HEADER, "extension"),
    "extension-pickle": ("pkl", b"\x80\x04.", "extension"),
}  # fmt: skip


def without_good_file(lake: Any) -> Any:
    lake.storage().delete("raw/prices/a.csv")
    return lake


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_cannot_be_read_is_named_and_loads_nothing(case: str, lake: Any, refused: Any) -> None:
    extension, data, words = UNREADABLE[case]
    lake = replace(without_good_file(lake), settings=SMALL)
    name = f"raw/prices/b{'.' if extension else ''}{extension}"
    lake.storage().write(name, data)
    with refused(lake, DataError, name, words, "good copies"):
        runs.run("market_prices", lq=lake.query())
    (report,) = records.last_runs(lake.query())
    assert report.status == "failed"
    assert name in report.error["message"]


def shared_strings(strings: bytes, row: bytes) -> bytes:
    """A workbook with these strings beside its sheet, and one row that refers to them."""
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    part = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>'.encode()
    target = (
        b'<Relationship Id="rId99" Type="' + RELATION + b'/sharedStrings" Target="sharedStrings.xml"/></Relationships>'
    )
    types, relations = "[Content_Types].xml", "xl/_rels/workbook.xml.rels"
    return zipped(
        BOOK
        | {
            types: BOOK[types].replace(b"</Types>", part),
            relations: BOOK[relations].replace(b"</Relationships>", target + b"</Relationships>"),
            "xl/sharedStrings.xml": b"<sst " + NS + b">" + strings + b"</sst>",
            SHEET: b"<worksheet " + NS + b"><sheetData><row>" + row + b"</row></sheetData></worksheet>",
        }
    )


RELATION = b"http://schemas.openxmlformats.org/officeDocument/2006/relationships"
TO_FIRST = b'<c t="s"><v>0</v></c>'
FAR = b'<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'

BOMBS = {
    "ragged.csv.gz": lambda: gzip.compress(HEADER + b"x\n" * 20_000_000, 1),
    "blank.csv.gz": lambda: gzip.compress(HEADER + b"\n" * 20_000_000, 1),
    "one-line.csv.gz": lambda: gzip.compress(HEADER + b"x" * 20_000_000, 1),
    "ragged.zip": lambda: zipped({"x.csv": HEADER + b"x\n" * 2_000_000}),
    "null.parquet": lambda: parquet(dict.fromkeys(repeated(1, "a"), pa.nulls(20_000_000, pa.string()))),
    "long.parquet": lambda: parquet(repeated(1, "a") | {"Asset": pa.array(["x" * 400_000_000])}, compression="zstd"),
    "nested.parquet": lambda: parquet(
        repeated(1, "a") | {"Asset": pa.ListArray.from_arrays([0, 50_000_000], pa.nulls(50_000_000, pa.int8()))}
    ),
    "far.xlsx": lambda: sheet(FAR),
    "shared.xlsx": lambda: shared_strings(b"<si><t>" + b"x" * 32_000 + b"</t></si>", TO_FIRST * 100_000),
    "strings.xlsx": lambda: shared_strings(b"<si><t>a</t></si>" * 5_000_000, TO_FIRST),
}

LOAD = """
import sys

from luxor_pipelines import LuxorQuery, run
from luxor_pipelines.errors import LuxorError

lq = LuxorQuery(lake=sys.argv[1])
run("fx_rates", lq=lq)  # and all that is imported for a run
print("ready", flush=True)
sys.stdin.readline()
try:
    run("market_prices", lq=lq)
except LuxorError as error:
    print(error)
"""


def memory(process: int) -> int:
    """Bytes in memory of a process and its children."""
    total = 0
    for file in (f"/proc/{process}/status", f"/proc/{process}/task/{process}/children"):
        try:
            text = Path(file).read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if file.endswith("children"):
            total += sum(memory(int(child)) for child in text.split())
        else:
            total += sum(1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))
    return total


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells no process's memory")
def test_no_file_takes_the_worker_down_and_the_good_ones_are_loaded(lake: Any) -> None:
    storage = lake.storage()
    storage.write("raw/ecb/rates.zip", ecb_zip())
    for name, make in BOMBS.items():
        data = make()
        assert len(data) < 3_000_000, f"{name} is no small file"
        storage.write(f"raw/prices/{name}", data)
    # In a process of its own: what else goes on in this one does not count.
    command = [sys.executable, "-c", LOAD, lake.lake["lake"]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        before = peak = memory(process.pid)
        process.stdin.write("go\n")
        process.stdin.flush()
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.005)
        message = process.stdout.read()
    assert f"{len(BOMBS)} of {len(BOMBS) + 1} files" in message
    assert all(f"raw/prices/{name}" in message for name in BOMBS)
    assert lake.query().get_table("hist_file_px_last")["Asset"].tolist() == ["other"]
    assert peak - before < 2**30


def test_the_good_files_beside_it_are_loaded(lake: Any) -> None:
    lake.storage().write("raw/prices/b.xlsx", b"none")
    with pytest.raises(DataError, match=r"1 of 2 files"):
        runs.run("market_prices", lq=lake.query())
    assert lake.query().get_table("hist_file_px_last")["Asset"].tolist() == ["other"]


CELLS = {
    "formula": b"2026-10-30,=1+1,1\n",
    "formula-that-runs": b"2026-10-30,=cmd|'/C calc'!A0,1\n",
    "formula-plus": b"2026-10-30,+1,1\n",
    "formula-minus": b"2026-10-30,-1+cmd|'/C calc'!A0,1\n",
    "formula-full-width": "2026-10-30,\uff1d1+1,1\n".encode(),
    "formula-full-width-minus": "2026-10-30,\uff0d1+1,1\n".encode(),
    "formula-small-plus": "2026-10-30,\ufe621,1\n".encode(),
    "formula-after-a-space": "2026-10-30,\u3000=1+1,1\n".encode(),
    "formula-at": b"2026-10-30,@SUM(A1),1\n",
    "nul": b"2026-10-30,a\0,1\n",
    "escape": b"2026-10-30,\x1b[2Ja,1\n",
    "right-to-left": "2026-10-30,\u202ea,1\n".encode(),
    "zero-width": "2026-10-30,a\u200b,1\n".encode(),
    "name-of-a-megabyte": b"2026-10-30," + b"x" * 900_000 + b",1\n",
    "price-formula": b"2026-10-30,a,=1+1\n",
    "price-infinite": b"2026-10-30,a,1e999\n",
    "price-negative": b"2026-10-30,a,-1\n",
    "price-hexadecimal": b"2026-10-30,a,0x10\n",
    "price-of-a-megabyte": b"2026-10-30,a," + b"9" * 900_000 + b"\n",
    "date-30-february": b"2026-02-30,a,1\n",
    "date-slashes": b"31/10/2026,a,1\n",
    "date-zero": b"0000-00-00,a,1\n",
    "date-year-10000": b"10000-01-01,a,1\n",
    "date-with-zone": b"2026-10-30T00:00:00Z,a,1\n",
    "date-serial-number": b"46325,a,1\n",
    "date-of-a-megabyte": b"9" * 900_000 + b",a,1\n",
    "row-too-long": b"2026-10-30,a,1" + b",1" * 400_000 + b"\n",
    "row-too-short": b"2026-10-30\n",
}


@pytest.mark.parametrize("case", CELLS)
def test_a_row_that_cannot_be_right_is_set_aside(case: str, lake: Any, digest: Any) -> None:
    storage = without_good_file(lake).storage()
    storage.write("raw/prices/b.csv", HEADER + b"2026-10-29,good,1\n" + CELLS[case])
    before = digest(lake)
    report = runs.run("market_prices", lq=lake.query())
    assert report.rows == 1
    assert sum(report.details["rows_quarantined"].values()) == 1
    kept = "raw/quarantine/prices/b.csv.csv"
    new = digest(lake).keys() - before.keys()
    assert kept in new
    assert all(path == kept or path.startswith("enriched/parquet/hist_file_px_last/") for path in new)
    assert before.items() <= digest(lake).items()
    assert storage.stat(kept).size < 5_000


@pytest.mark.parametrize("case", CELLS)
def test_a_file_without_a_good_row_stops_the_run(case: str, lake: Any, refused: Any) -> None:
    without_good_file(lake).storage().write("raw/prices/b.csv", HEADER + CELLS[case])
    with refused(lake, QualityError, "1 of the 1 rows of raw/prices/b.csv"):
        runs.run("market_prices", lq=lake.query())


ECB = {
    "none": (b"PK\3\4" + bytes(99), CorruptFileError),
    "empty": (b"", CorruptFileError),
    "truncated": (ecb_zip()[:-40], CorruptFileError),
    "encrypted": (encrypted(ecb_zip()), CorruptFileError),
    "two-files": (zipped({"a.csv": b"Date,USD\n", "b.csv": b"Date,USD\n"}), DataError),
    "no-csv": (zipped({"a.exe": b"MZ"}), DataError),
    "bomb": (zipped({"eurofxref-hist.csv": bytes(100 * LIMIT)}), CorruptFileError),
    "bomb-that-lies": (understated(zipped({"eurofxref-hist.csv": bytes(100 * LIMIT)}), 99), CorruptFileError),
    "bomb-lzma": (zipped({"a.csv": bytes(100 * LIMIT)}, zipfile.ZIP_LZMA), CorruptFileError),
    "many-columns": (zipped({"a.csv": b"Date" + b",USD" * 10**5 + b"\n"}), DataError),
    "html": (zipped({"a.csv": b"<html>"}), DataError),
    "other-dates": (zipped({"a.csv": b"Date,USD\n30/10/2026,1.1\n"}), DataError),
    "negative": (zipped({"a.csv": b"Date,USD\n2026-10-30,-1.1\n"}), DataError),
    "infinite": (zipped({"a.csv": b"Date,USD\n2026-10-30,1e999\n"}), DataError),
    "formula": (zipped({"a.csv": b"Date,USD\n2026-10-30,=1+1\n"}), DataError),
    "apart": (zipped({"a.csv": b"Date,USD,JPY\n2026-10-30,1e300,1e-300\n"}), DataError),
}  # fmt: skip


@pytest.mark.parametrize("case", ECB)
def test_a_wrong_file_of_rates_loads_nothing(
    case: str, lake: Any, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, kind = ECB[case]
    monkeypatch.setattr(ecb, "LIMITS", Limits(bytes=LIMIT, unpacked=LIMIT))
    lake.storage().write("raw/ecb/rates.zip", data)
    with refused(lake, kind, "raw/ecb"):
        runs.run("fx_rates", lq=lake.query())


@pytest.mark.parametrize("name", ["../../x.csv", "/etc/cron.d/x.csv", "..\\x.csv", "C:\\x.csv"])
def test_names_within_an_archive_lead_nowhere(name: str, lake: Any, digest: Any) -> None:
    """An archive's members are read, never unpacked to a place."""
    with zipfile.ZipFile(io.BytesIO(ecb_zip())) as archive:
        text = archive.read(archive.namelist()[0])
    lake.storage().write("raw/ecb/rates.zip", zipped({name: text}))
    before = digest(lake)
    runs.run("fx_rates", lq=lake.query())
    assert all(path.startswith("enriched/parquet/hist_ecb_px_last/") for path in digest(lake).keys() - before.keys())


def test_gigabytes_are_not_even_fetched(lake: Any, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = replace(without_good_file(lake), settings=Settings(raw_bytes=10))
    lake.storage().write("raw/prices/b.csv", HEADER + ROW)
    lq = lake.query()
    read: list[str] = []
    really = lq.lake.storage._read
    monkeypatch.setattr(lq.lake.storage, "_read", lambda path: read.append(path) or really(path))
    with refused(lake, DataError, "10 are read at most"):
        runs.run("market_prices", lq=lq)
    assert not [path for path in read if path.startswith("raw/prices/b")]


@pytest.mark.parametrize("name", ["50%.csv", "a:b.csv", "prices #1.csv", "x?.csv"])
def test_a_file_with_an_odd_name_is_named_and_the_others_are_loaded(name: str, lake: Any) -> None:
    """Such names come from people who drop files into a folder; the lake's own methods never make them."""
    folder = Path(url2pathname(unquote(urlsplit(lake.lake["lake"]).path)), "raw", "prices")
    (folder / name).write_bytes(HEADER + ROW)
    report = runs.run("market_prices", lq=lake.query())
    assert report.rows == 1
    assert f"raw/prices/{name} is passed over" in report.warnings[0]
