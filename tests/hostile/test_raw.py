"""Files dropped into raw/ by anybody: damaged, disguised, or made to fill the memory of whoever opens them."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luxor_pipelines.demo.data import ecb_zip
from luxor_pipelines.errors import CorruptFileError, DataError
from luxor_pipelines.operations import records, runs
from luxor_pipelines.pipelines import fx_rates, market_prices
from luxor_pipelines.sources import price_files, raw

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
"""What these tests take for too large, instead of a gigabyte."""

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
    "csv-10-to-6-columns": ("csv", b"Date," + b",".join(b"a%d" % i for i in range(10**6)) + b"\n", "1,000,001 columns"),
    "csv-10-to-6-commas": ("csv", b"," * 10**6, "columns"),
    "csv-header-of-one-cell": ("csv", b"x" * 900_000, "field"),
    "csv-header-twice": ("csv", b"Date,Date,Asset,Last_Price\n", "each once"),
    "csv-too-large": ("csv", HEADER + ROW * (LIMIT // len(ROW)), "MB"),
    "csv-other-separator": ("csv", HEADER.replace(b",", b";"), "Date;Asset"),
    # gzip
    "gz-none": ("csv.gz", HEADER + ROW, "gzip"),
    "gz-truncated": ("csv.gz", gzip.compress(HEADER + ROW)[:-5], "gzip"),
    "gz-damaged": ("csv.gz", gzip.compress(HEADER + ROW)[:20] + b"\xff" * 20, ""),
    "gz-followed-by-noise": ("csv.gz", gzip.compress(HEADER + ROW) + b"noise" * 4, ""),
    "gz-bomb": ("csv.gz", gzip.compress(bytes(100 * LIMIT), 1), "larger than"),
    "gz-bomb-that-lies": ("csv.gz", gzip.compress(bytes(100 * LIMIT), 1)[:-4] + bytes(4), "larger than"),
    "gz-bomb-in-parts": ("csv.gz", gzip.compress(bytes(LIMIT // 2), 1) * 5, "larger than"),
    "gz-within-gz": ("csv.gz", gzip.compress(gzip.compress(HEADER + ROW)), "UTF-8"),
    # Excel
    "xlsx-none": ("xlsx", b"PK\3\4" + bytes(100), "workbook"),
    "xlsx-empty": ("xlsx", b"", "workbook"),
    "xlsx-old-xls": ("xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4_000), "workbook"),
    "xlsx-truncated": ("xlsx", zipped(BOOK)[:-30], "workbook"),
    "xlsx-encrypted": ("xlsx", encrypted(zipped(BOOK)), "workbook"),
    "xlsx-bomb": ("xlsx", xlsx(sheet=bytes(100 * LIMIT)), "larger than"),
    "xlsx-bomb-of-many-parts": ("xlsx", xlsx(**{f"x{i}": bytes(LIMIT // 10) for i in range(20)}), "larger than"),
    "xlsx-bomb-that-lies": ("xlsx", understated(xlsx(sheet=bytes(100 * LIMIT)), 99), "workbook"),
    "xlsx-many-parts": ("xlsx", zipped({str(i): b"" for i in range(5_000)}), "workbook"),
    "xlsx-billion-laughs": ("xlsx", sheet(cell(b"&l9;"), LAUGHS), "workbook"),
    "xlsx-billion-laughs-in-the-workbook": ("xlsx", xlsx(**{"xl/workbook.xml": LAUGHS + b"<x>&l9;</x>"}), "workbook"),
    "xlsx-billion-laughs-in-the-types": ("xlsx", xlsx(**{"[Content_Types].xml": LAUGHS + b"<x>&l9;</x>"}), "workbook"),
    "xlsx-quadratic-blowup": ("xlsx", sheet(cell(b"&a;" * 50_000), LONG), "workbook"),
    "xlsx-reads-another-file": ("xlsx", sheet(cell(b"&e;"), FILE), "workbook"),
    "xlsx-column-beyond-all": ("xlsx", sheet(b'<row r="1"><c r="ZZZZZZ1"><v>1</v></c></row>'), "workbook"),
    "xlsx-row-below-zero": ("xlsx", sheet(b'<row r="-5"><c r="A-5"><v>1</v></c></row>'), "workbook"),
    "xlsx-row-beyond-all": ("xlsx", sheet(b'<row r="999999999"><c r="A999999999"><v>1</v></c></row>'), "cells"),
    "xlsx-wide-and-deep": (
        "xlsx",
        sheet(b"".join(b'<row r="%d"><c r="XFD%d"><v>1</v></c></row>' % (i, i) for i in range(1, 99))),
        "cells",
    ),
    "xlsx-half-a-tag": ("xlsx", sheet(b"<row"), "workbook"),
    "xlsx-no-sheet": ("xlsx", zipped({name: data for name, data in BOOK.items() if name != SHEET}), "sheet"),
    # Parquet
    "parquet-empty": ("parquet", b"", "Parquet"),
    "parquet-truncated": ("parquet", GOOD_PARQUET[:-9], "Parquet"),
    "parquet-footer-of-2-GB": ("parquet", GOOD_PARQUET[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1", "Parquet"),
    "parquet-pages-of-nul": ("parquet", b"PAR1" + bytes(40) + GOOD_PARQUET[44:], "Parquet"),
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
    "parquet-no-columns": ("parquet", parquet({}), "none"),
    "parquet-many-columns": ("parquet", parquet({f"c{i}": [1] for i in range(17_000)}), "columns"),
    "parquet-bomb-of-equal-rows": (
        "parquet",
        parquet(repeated(10**6, "a")),
        "larger than",
    ),
    "parquet-bomb-of-long-texts": (
        "parquet",
        parquet(repeated(99, "x" * 90_000)),
        "larger than",
    ),
    # Others
    "extension-unknown": ("exe", b"MZ", "extension"),
    "extension-none": ("", HEADER, "extension"),
    "extension-macro": ("xlsm", zipped(BOOK), "extension"),
    "extension-pickle": ("pkl", b"\x80\x04.", "extension"),
}  # fmt: skip


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_files(monkeypatch, LIMIT)
    monkeypatch.setattr(raw, "CELLS_MAX", 100_000)


def limit_files(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for module in (price_files, market_prices):
        monkeypatch.setattr(module, "FILE_MAX", size)


def without_good_file(lake: Any) -> Any:
    lake.storage().delete("raw/prices/a.csv")
    return lake


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_cannot_be_read_is_named_and_loads_nothing(
    case: str, lake: Any, refused: Any, small_limits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    extension, data, words = UNREADABLE[case]
    if case in {"csv-10-to-6-columns", "parquet-many-columns"}:
        limit_files(monkeypatch, 10**8)
    name = f"raw/prices/b{'.' if extension else ''}{extension}"
    without_good_file(lake).storage().write(name, data)
    with refused(lake, DataError, name, words, "good copies"):
        runs.run("market_prices", lq=lake.query())
    (report,) = records.last_runs(lake.query())
    assert report.status == "failed"
    assert name in report.error["message"]


READ_ONE = """
import sys
from pathlib import Path

from luxor_pipelines.errors import CorruptFileError
from luxor_pipelines.sources import price_files


def peak():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM")) * 1024


limit, good, bomb = sys.argv[1:]
price_files.FILE_MAX = int(limit)
price_files.read_price_file(Path(good).read_bytes(), good, price_files.Format())  # and all that is imported for it
data = Path(bomb).read_bytes()
before = peak()
try:
    price_files.read_price_file(data, bomb, price_files.Format())
except CorruptFileError:
    print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells no process's peak memory")
@pytest.mark.parametrize("case", ["gz-bomb", "gz-bomb-that-lies", "xlsx-bomb", "parquet-bomb-of-long-texts"])
def test_a_bomb_is_not_unpacked_to_see_what_is_in_it(case: str, tmp_path: Path) -> None:
    extension, data, _ = UNREADABLE[case]
    good = {"csv.gz": gzip.compress(HEADER + ROW), "xlsx": xlsx(), "parquet": GOOD_PARQUET}[extension]
    files = [tmp_path / f"{name}.{extension}" for name in ("good", "bomb")]
    for file, content in zip(files, (good, data), strict=True):
        file.write_bytes(content)
    # In a process of its own: what else goes on in this one counts in neither.
    command = [sys.executable, "-c", READ_ONE, str(LIMIT), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, f"it was read, or more than refused: {done.stderr}"
    assert int(done.stdout) < 20 * LIMIT, "a hundred are in it"


def test_the_good_files_beside_it_are_loaded(lake: Any) -> None:
    lake.storage().write("raw/prices/b.xlsx", b"none")
    with pytest.raises(DataError, match=r"1 of 2 files"):
        runs.run("market_prices", lq=lake.query())
    assert lake.query().get_table("hist_file_px_last")["Asset"].tolist() == ["other"]


CELLS = {
    "formula": b"2026-10-30,=1+1,1\n",
    "formula-that-runs": b"2026-10-30,=cmd|'/C calc'!A0,1\n",
    "formula-plus": b"2026-10-30,+1,1\n",
    "formula-at": b"2026-10-30,@SUM(A1),1\n",
    "formula-minus": b"2026-10-30,-1+cmd|'/C calc'!A0,1\n",
    "formula-full-width": "2026-10-30,\uff1d1+1,1\n".encode(),
    "formula-full-width-minus": "2026-10-30,\uff0d1+1,1\n".encode(),
    "formula-small-plus": "2026-10-30,\ufe621,1\n".encode(),
    "formula-after-a-space": "2026-10-30,\u3000=1+1,1\n".encode(),
    "nul": b"2026-10-30,a\0,1\n",
    "escape": b"2026-10-30,\x1b[2Ja,1\n",
    "right-to-left": "2026-10-30,\u202ea,1\n".encode(),
    "zero-width": "2026-10-30,a\u200b,1\n".encode(),
    "name-over-lines": b'2026-10-30,"a\nb",1\n',
    "name-of-a-megabyte": b"2026-10-30," + b"x" * 900_000 + b",1\n",
    "open-quote": b'2026-10-30,"a,1\n' * 99,
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
def test_a_row_that_cannot_be_right_is_set_aside_and_nothing_is_loaded(
    case: str, lake: Any, digest: Any, small_limits: None
) -> None:
    storage = without_good_file(lake).storage()
    storage.write("raw/prices/b.csv", HEADER + CELLS[case])
    before = digest(lake)
    report = runs.run("market_prices", lq=lake.query())
    assert report.rows == 0
    assert sum(report.details["rows_quarantined"].values()) > 0
    kept = "raw/quarantine/prices/b.csv.csv"
    assert digest(lake).keys() - before.keys() == {kept}
    assert before.items() <= digest(lake).items()
    assert storage.stat(kept).size < 50_000


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
    monkeypatch.setattr(fx_rates, "UNPACKED_MAX", LIMIT)
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


def test_two_gigabytes_are_not_even_fetched(lake: Any, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(market_prices, "FILE_MAX", 10)
    without_good_file(lake).storage().write("raw/prices/b.csv", HEADER + ROW)
    lq = lake.query()
    read: list[str] = []
    monkeypatch.setattr(lq.lake.storage, "_read", lambda path: read.append(path))
    with refused(lake, DataError, "larger than"):
        runs.run("market_prices", lq=lq)
    assert not [path for path in read if path.startswith("raw/prices/b")]
