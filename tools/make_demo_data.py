"""Cut the demo's slice out of the European Central Bank's file of reference rates.

    python tools/make_demo_data.py eurofxref-hist.zip

writes src/luxor_pipelines/demo/data/eurofxref-hist.zip; the same file gives the same bytes. After
taking a newer file, put its last day into SOURCE.md beside it.
"""

from __future__ import annotations

import argparse
import csv
import io
import zipfile
from pathlib import Path

FIRST_DAY = "2020-01-02"
CURRENCIES = (
    *("USD", "JPY", "GBP", "SEK", "CHF", "NOK", "AUD", "BRL"),
    *("CAD", "CNY", "INR", "KRW", "MXN", "NZD", "ZAR"),
)
MEMBER = "eurofxref-hist.csv"
TARGET = Path(__file__).parents[1] / "src" / "luxor_pipelines" / "demo" / "data" / "eurofxref-hist.zip"


def cut(text: str) -> str:
    """Return the bank's csv text with the rows and columns of the demo only."""
    rows = csv.DictReader(io.StringIO(text))
    kept = [row for row in rows if row["Date"] >= FIRST_DAY]
    lines = [["Date", *CURRENCIES], *([row["Date"], *(row[code] for code in CURRENCIES)] for row in kept)]
    return "".join(",".join(line) + ",\n" for line in lines)


def pack(text: str) -> bytes:
    """Return a zip archive of ``text`` that depends on nothing else, the time of day least of all."""
    buffer = io.BytesIO()
    member = zipfile.ZipInfo(MEMBER, date_time=(1980, 1, 1, 0, 0, 0))
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 3
    member.external_attr = 0o644 << 16
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, text, compresslevel=9)
    return buffer.getvalue()


def main() -> None:
    """Read the file named on the command line and write the slice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="the bank's eurofxref-hist.zip")
    with zipfile.ZipFile(parser.parse_args().source) as archive:
        text = archive.read(MEMBER).decode("ascii")
    TARGET.write_bytes(pack(cut(text)))


if __name__ == "__main__":
    main()
