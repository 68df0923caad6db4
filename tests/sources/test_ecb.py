"""The European Central Bank's rates: hand-worked cross rates, every way a file can be wrong, fetching."""

import socketserver
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bank import ECB, packed, served
from luxor_pipelines.demo import data as demo_data
from luxor_pipelines.errors import ConfigurationError, CorruptFileError, DataError, LuxorError, UnreachableError
from luxor_pipelines.sources import ecb
from luxor_pipelines.sources.limits import Limits

REAL = Path(__file__).parents[3] / "shared" / "data" / "eurofxref-hist.zip"


def prices(data: bytes) -> dict[tuple[str, str], float]:
    frame = ecb.to_series(ecb.read_ecb(data, "x.csv"))
    return {(f"{row.Date:%Y-%m-%d}", row.Asset): row.Last_Price for row in frame.itertuples()}


def test_rates_against_the_dollar_both_ways():
    assert prices(ECB) == pytest.approx(
        {
            # 2026-10-30: 1 EUR = 1.25 USD = 150 JPY = 7.5 BRL = 1.5 CAD
            ("2026-10-30", "usdeur curncy"): 0.8,  # 1 / 1.25
            ("2026-10-30", "eurusd curncy"): 1.25,
            ("2026-10-30", "usdjpy curncy"): 120.0,  # 150 / 1.25
            ("2026-10-30", "jpyusd curncy"): 1 / 120,
            ("2026-10-30", "usdbrl curncy"): 6.0,  # 7.5 / 1.25
            ("2026-10-30", "brlusd curncy"): 1 / 6,
            ("2026-10-30", "cad curncy"): 1.2,  # 1.5 / 1.25, under the name the lake has for it
            ("2026-10-30", "cadusd curncy"): 1 / 1.2,
            # 2026-10-29: 1 EUR = 1.2 USD = 6 BRL, no yen (N/A), no Canadian dollar (blank)
            ("2026-10-29", "usdeur curncy"): 1 / 1.2,
            ("2026-10-29", "eurusd curncy"): 1.2,
            ("2026-10-29", "usdbrl curncy"): 5.0,  # 6 / 1.2
            ("2026-10-29", "brlusd curncy"): 0.2,
        },
        rel=1e-15,
    )


def test_a_day_without_a_dollar_rate_has_no_rows():
    found = prices(b"Date,USD,BRL\n2026-10-30,N/A,6\n2026-10-29,1.2,6\n")
    assert {day for day, _ in found} == {"2026-10-29"}


def test_order_line_ends_and_byte_order_mark_do_not_matter():
    lines = ECB.decode().splitlines()
    shuffled = "\ufeff" + "\r\n".join([lines[0], lines[2], lines[1]])
    assert prices(shuffled.encode()) == prices(ECB)


def test_columns_and_types():
    frame = ecb.to_series(ecb.read_ecb(ECB, "x.csv"))
    assert list(frame.columns) == ["Date", "Asset", "Last_Price"]
    assert frame["Date"].dtype == "datetime64[us]"
    assert frame["Last_Price"].dtype == "float64"
    assert not frame.duplicated(["Date", "Asset"]).any()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"Day,USD\n2026-10-30,1.2\n", ["'Day'", "'Date'"]),
        (b"Date;USD\n2026-10-30;1.2\n", ["'Date;USD'"]),
        (b"Date,usd\n2026-10-30,1.2\n", ["'usd'"]),
        (b"Date,USD,Dollar\n2026-10-30,1.2,3\n", ["'Dollar'"]),
        (b"Date,USD,,BRL\n2026-10-30,1.2,,6\n", ["currency code"]),
        (b"Date,USD,BRL,\n2026-10-30,1.2,6,7\n", ["currency code"]),
        (b"Date,USD,BRL,BRL\n2026-10-30,1.2,6,6\n", ["'BRL'", "more than once"]),
        (b"Date,BRL\n2026-10-30,6\n", ["'USD'"]),
        (b"Date\n2026-10-30\n", ["'USD'"]),
        (b"Date,USD,EUR\n2026-10-30,1.2,1\n", ["'EUR'"]),
        (b"Date,USD,BRL\n", ["no rows"]),
        (b"Date,USD,BRL\n2026-10-30,1.2\n", ["row 2", "2"]),
        (b"Date,USD,BRL\n2026-10-30,1.2,6\n2026-10-29,1.2,6,7\n", ["row 3", "4"]),
        (b"Date,USD,BRL\n30/10/2026,1.2,6\n", ["'Date'", "row 2", "'30/10/2026'"]),
        (b"Date,USD,BRL\n2026-02-30,1.2,6\n", ["'2026-02-30'"]),
        (b"Date,USD,BRL\n,1.2,6\n", ["'Date'", "row 2"]),
        (b"Date,USD,BRL\n2026-10-30,1.2,6\n2026-10-30,1.2,6\n", ["'2026-10-30'", "row 3", "already"]),
        (b"Date,USD,BRL\n2026-10-30,1.2,6\n2026-10-29,1.2,abc\n", ["'BRL'", "row 3", "'abc'"]),
        (b"Date,USD,BRL\n2026-10-30,1.2,0\n", ["'BRL'", "row 2", "'0'"]),
        (b"Date,USD,BRL\n2026-10-30,-1.2,6\n", ["'USD'", "row 2", "'-1.2'"]),
        (b"Date,USD,BRL\n2026-10-30,1.2,inf\n", ["'BRL'", "'inf'"]),
        (b"Date,USD,BRL\n2026-10-30,1.2,1e999\n", ["'BRL'", "'1e999'"]),
        (b'Date,USD,BRL\n2026-10-30,1.2,"6,1"\n', ["'BRL'", "'6,1'"]),
        (b"Date,USD,BRL\n2026-10-30,1.2,nan\n", ["'BRL'", "'nan'"]),
        (b"Date,USD,BRL\n2026-10-30,1.2,n/a\n", ["'BRL'", "'n/a'"]),
        (b"<html><body>Not found</body></html>", ["'Date'"]),
    ],
)
def test_another_structure_or_cell_is_refused_by_place(data, words):
    with pytest.raises(DataError) as refused:
        ecb.read_ecb(data, "raw/ecb/rates.csv")
    assert "raw/ecb/rates.csv" in refused.value.message
    for word in words:
        assert word in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff\xfe\x00", "Date,USD\n".encode("utf-16"), b"\x00" * 20])
def test_what_is_no_text_is_refused(data):
    with pytest.raises((CorruptFileError, DataError), match=r"x\.csv"):
        ecb.read_ecb(data, "x.csv")


def test_rates_that_cannot_be_divided_are_refused():
    with pytest.raises(DataError, match="far apart"):
        prices(b"Date,USD,BRL\n2026-10-30,1e-300,1e300\n")


cells = st.sampled_from(
    [
        "Date",
        "USD",
        "BRL",
        "2026-10-30",
        "2026-10-29",
        "1.2",
        "0",
        "-1",
        "N/A",
        "",
        " ",
        '"',
        '"a\nb"',
        "é",
        "\x00",
        "1e400",
    ]
)
lines = st.lists(st.lists(cells, max_size=5).map(",".join), max_size=6).map("\n".join).map(str.encode)


@given(st.one_of(lines, lines.map(lambda text: b"Date,USD,BRL\n2026-10-28,1.1,6\n" + text), st.binary(max_size=80)))
def test_any_text_gives_positive_rates_or_our_errors(data):
    try:
        found = ecb.to_series(ecb.read_ecb(data, "x.csv"))
    except LuxorError:
        return
    assert np.isfinite(found["Last_Price"]).all()
    assert (found["Last_Price"] > 0).all()
    assert not found.duplicated(["Date", "Asset"]).any()


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_damaged_archive_is_our_error_or_the_same_rates(position, change):
    data = bytearray(packed(("a.csv", ECB)))
    data[position % len(data)] ^= change
    try:
        rates = ecb.read_ecb(bytes(data), "x.zip")
    except LuxorError:
        return
    assert np.array_equal(rates.rates, ecb.read_ecb(ECB, "x.csv").rates, equal_nan=True)


def test_failures_that_may_pass_are_tried_again():
    with served((503, b""), (500, b""), (200, b"rates")) as (url, asked):
        assert ecb.fetch_ecb(url, pause=0) == b"rates"
    assert len(asked) == 3


@pytest.mark.parametrize(("status", "times"), [(503, 3), (404, 1), (403, 1)])
def test_failures_that_stay_are_told(status, times):
    with served((status, b"")) as (url, asked), pytest.raises(UnreachableError, match=str(status)) as refused:
        ecb.fetch_ecb(url, pause=0)
    assert len(asked) == times
    assert "raw/ecb" in refused.value.hint


def test_nobody_there_is_told():
    with served((200, b"")) as (url, _):
        pass
    with pytest.raises(UnreachableError):
        ecb.fetch_ecb(url, pause=0, timeout=2)


def test_an_answer_without_end_is_cut(monkeypatch):
    monkeypatch.setattr(ecb, "LIMITS", Limits(bytes=10))
    with served((200, b"0" * 11)) as (url, _), pytest.raises(CorruptFileError, match="larger"):
        ecb.fetch_ecb(url, pause=0)


@contextmanager
def dripping(start: bytes):
    """A server that sends ``start``, then a byte now and then, for ever; each is soon enough after the one before."""
    closing = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            try:
                self.request.sendall(start)
                while not closing.wait(0.01):
                    self.request.sendall(b"x")
            except OSError:
                pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/eurofxref-hist.zip"
        finally:
            closing.set()
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "start",
    [b"", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nPK"],
    ids=["status", "header", "body"],
)
def test_an_answer_that_comes_byte_by_byte_has_a_deadline(start):
    with dripping(start) as url, pytest.raises(UnreachableError, match=r"within 0\.2 s") as refused:
        ecb.fetch_ecb(url, pause=0, timeout=30, deadline=0.2)
    assert "raw/ecb" in refused.value.hint


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://example.org/x", "eurofxref-hist.zip"])
def test_only_web_addresses_are_fetched(url):
    with pytest.raises(ConfigurationError, match="LUXOR_ECB_URL"):
        ecb.fetch_ecb(url)


@pytest.mark.skipif(not REAL.exists(), reason="the bank's file is not beside the repository")
def test_the_banks_own_file():
    found = ecb.read_ecb(REAL.read_bytes(), "x.zip")
    assert (str(found.dates[0]), str(found.dates[-1]), len(found.dates)) == ("1999-01-04", "2026-10-30", 7126)
    assert len(found.currencies) == 41
    rates = ecb.to_series(found).set_index(["Date", "Asset"])["Last_Price"]
    day = pd.Timestamp("2026-10-30")
    # 1 EUR = 1.1172 USD = 6.0692 BRL = 1.5606 CAD
    assert rates[day, "usdbrl curncy"] == pytest.approx(6.0692 / 1.1172, rel=1e-15)
    assert rates[day, "usdbrl curncy"] == pytest.approx(5.43251, abs=5e-6)
    assert rates[day, "cad curncy"] == pytest.approx(1.39689, abs=5e-6)
    assert rates[day, "eurusd curncy"] == 1.1172
    # The other way round is read by pandas on its own.
    with zipfile.ZipFile(REAL) as archive:
        wide = pd.read_csv(archive.open("eurofxref-hist.csv"), index_col="Date", parse_dates=True).iloc[:, :-1]
    both = 2 * int(wide.drop(columns="USD").notna().sum().sum() + len(wide))
    assert wide["USD"].notna().all()
    assert len(rates) == both
    yen = rates.xs("jpyusd curncy", level="Asset")
    pd.testing.assert_series_equal(
        yen.sort_index(),
        (wide["USD"] / wide["JPY"]).sort_index(),
        check_names=False,
        check_index_type=False,
        rtol=1e-14,
    )


@pytest.mark.skipif(not REAL.exists(), reason="the bank's file is not beside the repository")
def test_the_demo_is_a_slice_of_the_banks_file():
    def read(data: bytes) -> pd.DataFrame:
        found = ecb.read_ecb(data, "x.zip")
        return pd.DataFrame(found.rates, index=found.dates, columns=found.currencies)

    demo, real = read(demo_data.ecb_zip()), read(REAL.read_bytes())
    assert {"usd", "brl", "cad"} <= set(demo.columns)
    pd.testing.assert_frame_equal(demo, real.loc[demo.index[0] :, demo.columns])
