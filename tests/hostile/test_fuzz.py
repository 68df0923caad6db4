"""Whatever bytes come: a result or an error of ours. Longer with ``FUZZ=5000``, as in ``nox -s fuzz``."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luxor_pipelines import hosting
from luxor_pipelines.demo.data import ecb_zip
from luxor_pipelines.errors import LuxorError
from luxor_pipelines.sources.confined import Confined
from luxor_pipelines.sources.ecb import read_ecb, to_series
from luxor_pipelines.sources.formats import Declarations, Format
from luxor_pipelines.sources.limits import Limits
from luxor_pipelines.sources.price_files import read_price_file

EXAMPLES = int(os.environ.get("FUZZ", "0"))
fuzz = settings(
    max_examples=EXAMPLES or 60,
    deadline=None,
    derandomize=settings().derandomize and not EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)

CSV = b"Date,Asset,Last_Price\n2026-10-30,a,1.5\n2026-10-31,b,2\n"
WORDS = [
    b"Date",
    b"Asset",
    b"Last_Price",
    b"2026-10-30",
    b",",
    b";",
    b'"',
    b"\n",
    b"\r\n",
    b"\0",
    b"=1+1",
    b"1e999",
    b"\xff",
    b"USD",
    b"N/A",
]
texts = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(WORDS), max_size=60).map(b"".join))


def workbook() -> bytes:
    import openpyxl

    book, out = openpyxl.Workbook(), io.BytesIO()
    for line in CSV.decode().splitlines():
        book.active.append(line.split(","))
    book.save(out)
    return out.getvalue()


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"Date": ["2026-10-30"], "Asset": ["a"], "Last_Price": [1.5]}), sink)
    return sink.getvalue().to_pybytes()


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.csv", CSV)
    return out.getvalue()


SEEDS = {
    "csv": CSV,
    "csv.gz": gzip.compress(CSV, mtime=0),
    "xlsx": workbook(),
    "parquet": parquet(),
    "zip": ecb_zip(),
    "csv.zip": zipped(),
}


@st.composite
def damaged(draw: Any, data: bytes) -> bytes:
    """A good file with pieces replaced, cut out, doubled or put in."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(out)))
        end = at + draw(st.sampled_from([0, 1, 1, 4, 64]))
        piece = draw(st.one_of(st.binary(max_size=8), st.just(bytes(out[at:end]) * 2), st.sampled_from(WORDS)))
        out[at:end] = piece
    return bytes(out)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "xlsx", "parquet", "csv.zip"])
def test_price_files(kind: str) -> None:
    @fuzz
    @given(
        st.one_of(texts, damaged(SEEDS[kind])),
        st.sampled_from(["iso", "dd/mm/yyyy", "mm/dd/yyyy"]),
        st.sampled_from([".", ","]),
        st.sampled_from([",", ";", "\t", "|"]),
    )
    def check(data: bytes, date_format: str, decimal: str, separator: str) -> None:
        how = Format(date_format, decimal, separator)
        try:
            rows = read_price_file(data, f"raw/prices/x.{kind}", how, confined=confined)
        except LuxorError:
            return
        assert (rows.good["Last_Price"] > 0).all()
        assert rows.good["Date"].notna().all()
        assert not rows.good.duplicated(["Date", "Asset"]).any()
        assert set(rows.bad["Reason"].map(type)) <= {str}

    with Confined(Limits()) as confined:
        check()


@fuzz
@given(st.one_of(texts, damaged(SEEDS["zip"])))
def test_zipped_rates(data: bytes) -> None:
    try:
        to_series(read_ecb(data, "raw/ecb/x.zip"))
    except LuxorError:
        return


@fuzz
@given(st.one_of(texts, damaged(b"Date,USD,JPY,\n2026-10-30,1.1,160.5,\n2026-10-29,1.2,N/A,\n")))
def test_plain_rates(data: bytes) -> None:
    try:
        frame = to_series(read_ecb(data, "raw/ecb/x.csv"))
    except LuxorError:
        return
    assert (frame["Last_Price"] > 0).all()


@fuzz
@given(st.one_of(texts, damaged(b'{"*.csv": {"date_format": "iso", "decimal": ",", "separator": ";", "sheet": "x"}}')))
def test_declared_formats(data: bytes) -> None:
    try:
        Declarations.read(data, "raw/prices/_formats.json").of("x.csv")
    except LuxorError:
        return


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(["2026-10-31"])),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.one_of(st.just("ref_date"), st.text()), inner)),
)


@fuzz
@given(
    st.one_of(texts, damaged(b'{"ref_date": "2026-10-31"}'), values.map(lambda value: json.dumps(value).encode())),
    st.text(),
)
def test_requests(body: bytes, name: str) -> None:
    """Only a name and a date get as far as a run; all else is answered 400 or 404, in JSON, without being repeated."""
    asked: list[Any] = []

    context: Any = SimpleNamespace(invocation_id="", trace_context=SimpleNamespace(trace_parent=""))

    def run(name: str, day: Any, params: Any) -> Any:
        asked.append((name, day))
        raise AssertionError("it got as far as a run")

    for route in ("hist_returns", name):
        request = func.HttpRequest("POST", "/", body=body, route_params={"name": route})
        answer = hosting.post_run(request, SimpleNamespace(), run, context)
        told = json.loads(answer.get_body())["error"]
        if asked:
            assert answer.status_code == 500
            assert asked.pop()[1] is None or b"ref_date" in body
        else:
            assert answer.status_code in {400, 404}
            assert told["hint"]
            assert len(answer.get_body()) < 1_000
