"""Workbooks as programs leave them: other kinds than .xlsx, and parts that are wrong and that nobody reads."""

import base64
import io
import struct
import zipfile
import zlib
from datetime import datetime

import openpyxl
import pytest

from luxor_pipelines.errors import CorruptFileError, DataError
from luxor_pipelines.sources.confined import Confined
from luxor_pipelines.sources.limits import Limits
from luxor_pipelines.sources.price_files import read_price_file
from luxor_pipelines.sources.table_files import read_table_file

XLS = zlib.decompress(
    base64.b85decode(
        "c-rk)O=uHA6#izDG(WV-rlvwGlu)p0Z4ctbOS`Q^drGNZ`~^*I4pK===tVD9YmS28N%2ys2QO7G{-A>1JO~vF3WAX6(UYL)q"
        "0Rc<+gV8?LIWD8%(u)pZ{NJPGrRNN?9RSkPL>z$cU4e_Ap}r$qiCtoDJoI_#0IsyE{lF0q2d~BDnuhRku4!SX?qpsIpq1Sz{"
        "0)Y3u53Sm6Mpk*mNPEZX))}7;=ioFi5O$i!^a`%Bb3f&j@c3zAKhbg@;9RRd|qW%j!6mow2@sI*N~4J<=8jU-zN-ycf+Lbl@"
        "dN@x^P(vkhUScs6%#lQnb)Td@e5(9wJ$U*z)yZX*U9BMfA-1DQ-2DVpp>d~?&lS3j$tr;Wb3dIi$|Sg#NNK_8(>tk+++g1{W"
        "y(~=}5TA;rNyjYl7)w#iij54{|JcY?fjF)jqdwX5lw@Es*5>Fx_a#CDv>UZ_dmp9poap#n1=47e&UI^Q{f4I2B9^@RC7V8)H"
        "3GWuZELYtoa+h$5B9`jj@eVB<oEMub(%MV?>=mpyJ8I;eB$qxPdemL|<m@7OX|!@7we-$eKo8yjB>D3(kABs!Zr)%#cKllD#"
        "p8o;=Wh#1#Ip6+UH#TeV2x9UkQDaL_~|HZuj=fdQ6EZ{skbW@*`2W1e#mOa19>pRH80f|3=9km3=9km3=EnEr9aaH-X4Lz!o"
        "AHvSpU~qqf#}$N&Z_L#xxzXw5dFR0@X#FZzz7YBBcClsSW!0{|gyMsP`hKFd^fZYB+vrGpB0rXTy&6-%FuJ`>!@K&VSthPfI"
        "h&S^"
    )
)
"""What Excel 97 saved: Date and A, 2026-10-30 and 1.5."""

SPREADSHEET = "urn:oasis:names:tc:opendocument:xmlns:"


def xlsx() -> dict[str, bytes]:
    """The parts of a workbook of the same cells."""
    book, buffer = openpyxl.Workbook(), io.BytesIO()
    book.active.append(["Date", "A"])
    book.active.append([datetime(2026, 10, 30), 1.5])
    book.save(buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(parts: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def ods() -> bytes:
    """The same cells as LibreOffice writes them: the rest of the sheet is one repeated, empty row."""
    names = "".join(f'xmlns:{name}="{SPREADSHEET}{name}:1.0" ' for name in ("office", "table", "text"))

    def text(value: str) -> str:
        return f'<table:table-cell office:value-type="string"><text:p>{value}</text:p></table:table-cell>'

    day = '<table:table-cell office:value-type="date" office:date-value="2026-10-30"/>'
    price = '<table:table-cell office:value-type="float" office:value="1.5"><text:p>1,5</text:p></table:table-cell>'
    rest = '<table:table-row table:number-rows-repeated="1048574"><table:table-cell/>'
    rows = (
        f"<table:table-row>{text('Date')}{text('A')}</table:table-row><table:table-row>{day}{price}</table:table-row>"
    )
    table = f'<table:table table:name="s">{rows}{rest}</table:table-row></table:table>'
    content = f"<office:body><office:spreadsheet>{table}</office:spreadsheet></office:body>"
    return zipped(
        {
            "mimetype": b"application/vnd.oasis.opendocument.spreadsheet",
            "META-INF/manifest.xml": f'<m:manifest xmlns:m="{SPREADSHEET}manifest:1.0"/>'.encode(),
            "content.xml": f"<office:document-content {names}>{content}</office:document-content>".encode(),
        }
    )


def xlsb() -> bytes:
    """The same cells as Excel's binary workbooks have them, record by record as [MS-XLSB] describes these."""

    def record(kind: int, content: bytes = b"") -> bytes:
        number = bytes([kind]) if kind < 0x80 else bytes([kind & 0x7F | 0x80, kind >> 7])
        return number + bytes([len(content)]) + content

    def wide(text: str) -> bytes:
        return struct.pack("<I", len(text)) + text.encode("utf-16-le")

    def cell(kind: int, column: int, content: bytes, style: int = 0) -> bytes:
        return record(kind, struct.pack("<II", column, style) + content)

    def row(number: int) -> bytes:
        return record(0x00, struct.pack("<I", number) + bytes(13))

    texts = cell(0x06, 0, wide("Date")) + cell(0x06, 1, wide("A"))
    numbers = cell(0x05, 0, struct.pack("<d", 46325.0), 1) + cell(0x05, 1, struct.pack("<d", 1.5))
    rows = record(0x91) + row(0) + texts + row(1) + numbers + record(0x92)
    sheet = record(0x81) + record(0x94, struct.pack("<IIII", 0, 1, 0, 1)) + rows + record(0x82)
    sheets = record(0x8F) + record(0x9C, struct.pack("<II", 0, 1) + wide("rId1") + wide("s")) + record(0x90)
    # The second style of cells has Excel's format of dates, 14.
    styles = b"".join(record(0x2F, struct.pack("<HH", 0, number) + bytes(12)) for number in (0, 14))
    styles = record(0x269, struct.pack("<I", 2)) + styles + record(0x26A)
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    relation = f'<Relationship Id="rId1" Type="{office}/worksheet" Target="worksheets/sheet1.bin"/>'
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    return zipped(
        {
            "xl/workbook.bin": record(0x83) + sheets + record(0x84),
            "xl/_rels/workbook.bin.rels": f'<Relationships xmlns="{package}">{relation}</Relationships>'.encode(),
            "xl/worksheets/sheet1.bin": sheet,
            "xl/styles.bin": record(0x116) + styles + record(0x117),
        }
    )


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.xls", XLS),
        ("x.ods", ods()),
        ("x.xlsb", xlsb()),
        ("x.xlsm", zipped(xlsx())),
        ("x.zip", zipped({"in/x.xlsx": zipped(xlsx())})),
    ],
    ids=["xls", "ods", "xlsb", "xlsm", "zip"],
)
def test_other_kinds(confined, name, data):
    rows = read_price_file(data, name, confined=confined)
    assert rows.good.astype(str).to_numpy().tolist() == [["2026-10-30", "a", "1.5"]]


@pytest.mark.parametrize("data", [XLS, ods(), xlsb()], ids=["xls", "ods", "xlsb"])
def test_a_table_of_another_kind(tmp_path, request, data):
    file = tmp_path / f"t.{request.node.callspec.id}"
    file.write_bytes(data)
    rows = read_table_file(file)
    assert rows.to_dict("list") == {"Date": [datetime(2026, 10, 30)], "A": [1.5]}


STRICT = {
    b"http://schemas.openxmlformats.org/spreadsheetml/2006/main": b"http://purl.oclc.org/ooxml/spreadsheetml/main",
    b"http://schemas.openxmlformats.org/officeDocument/2006/relationships": b"http://purl.oclc.org/ooxml/officeDocument/relationships",
}


def strict(parts: dict[str, bytes]) -> dict[str, bytes]:
    for old, new in STRICT.items():
        parts = {name: data.replace(old, new) for name, data in parts.items()}
    return parts


def with_part(name: str, old: bytes, new: bytes) -> dict[str, bytes]:
    parts = xlsx()
    assert old in parts[name]
    return parts | {name: parts[name].replace(old, new)}


@pytest.mark.parametrize(
    "parts",
    [
        strict(xlsx()),
        with_part("xl/styles.xml", b"<fill><patternFill /></fill>", b"<fill/>"),
        with_part("xl/styles.xml", b"<fonts", b'<fonts><font><color rgb="red"/></font></fonts><x'),
        with_part("docProps/core.xml", b"T", b" at "),
        xlsx() | {"docProps/core.xml": b"<no xml"},
        xlsx() | {"xl/theme/theme1.xml": b""},
        {name: data for name, data in xlsx().items() if not name.startswith("docProps")},
    ],
    ids=["strict", "empty fill", "bad colour", "bad date", "no xml", "no theme", "no properties"],
)
def test_parts_that_nobody_reads_may_be_wrong(confined, parts):
    rows = read_price_file(zipped(parts), "x.xlsx", confined=confined)
    assert len(rows.prices) == 1


def test_one_process_reads_one_file_after_the_other_whatever_they_are():
    good, data = zipped(xlsx()), [b"PK", b"", XLS[:2_000], zipped({"x": b""})]
    with Confined(Limits()) as confined:
        for bad in data:
            with pytest.raises(CorruptFileError, match=r"^bad\.xlsx "):
                read_price_file(bad, "bad.xlsx", confined=confined)
            assert len(read_price_file(good, "good.xlsx", confined=confined).prices) == 1


def test_a_process_that_dies_is_that_files_error():
    with Confined(Limits(memory=30_000_000)) as confined:
        assert len(read_price_file(zipped(xlsx()), "good.xlsx", confined=confined).prices) == 1
        far = b'<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
        parts = xlsx()
        sheet = parts["xl/worksheets/sheet1.xml"]
        rows = sheet[sheet.index(b"<sheetData>") : sheet.index(b"</sheetData>")]
        parts["xl/worksheets/sheet1.xml"] = sheet.replace(rows, b"<sheetData>" + far)
        with pytest.raises(CorruptFileError, match=r"far\.xlsx takes more than 30 MB"):
            read_price_file(zipped(parts), "far.xlsx", confined=confined)
        assert len(read_price_file(zipped(xlsx()), "good.xlsx", confined=confined).prices) == 1


def test_a_file_that_takes_too_long_is_refused_by_name():
    with pytest.raises(CorruptFileError, match=r"x\.xlsx took more than 1e-06 s"):
        read_price_file(zipped(xlsx()), "x.xlsx", limits=Limits(seconds=1e-6))
    with pytest.raises(CorruptFileError, match=r"x\.csv took more than 1e-06 s") as refused:
        read_price_file(b"Date,A\n2026-10-30,1\n", "x.csv", limits=Limits(seconds=1e-6))
    assert "LUXOR_RAW_SECONDS" in refused.value.hint


def test_a_workbook_without_sheets_of_cells_is_refused(confined):
    with pytest.raises((CorruptFileError, DataError), match=r"^x\.xlsx "):
        read_price_file(zipped({"xl/workbook.xml": b"<workbook/>", "[Content_Types].xml": b"<Types/>"}), "x.xlsx")
