"""fx_rates: hand-worked cross rates, every way a file can be wrong, loads, fetching."""

import io
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.demo import data as demo_data
from luxor_pipelines.errors import (
    ConfigurationError,
    CorruptFileError,
    DataError,
    LuxorError,
    NotFoundError,
    QualityError,
    UnreachableError,
)
from luxor_pipelines.pipelines import fx_rates
from luxor_pipelines.query.luxor_query import LuxorQuery

REAL = Path(__file__).parents[3] / "shared" / "data" / "eurofxref-hist.zip"

ECB = b"""Date,USD,JPY,BRL,CAD,
2026-10-30,1.25,150,7.5,1.5,
2026-10-29,1.2,N/A,6,,
"""


def packed(*members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def lq(tmp_path):
    return LuxorQuery(lake=tmp_path.as_uri())


def prices(data: bytes) -> dict[tuple[str, str], float]:
    frame = fx_rates.to_series(fx_rates.parse_ecb(data, "x.csv"))
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
    frame = fx_rates.to_series(fx_rates.parse_ecb(ECB, "x.csv"))
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
        fx_rates.parse_ecb(data, "raw/ecb/rates.csv")
    assert "raw/ecb/rates.csv" in refused.value.message
    for word in words:
        assert word in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff\xfe\x00", "Date,USD\n".encode("utf-16"), b"\x00" * 20])
def test_what_is_no_text_is_refused(data):
    with pytest.raises((CorruptFileError, DataError), match=r"x\.csv"):
        fx_rates.parse_ecb(data, "x.csv")


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
        found = fx_rates.to_series(fx_rates.parse_ecb(data, "x.csv"))
    except LuxorError:
        return
    assert np.isfinite(found["Last_Price"]).all()
    assert (found["Last_Price"] > 0).all()
    assert not found.duplicated(["Date", "Asset"]).any()


def write(lq, name, data):
    lq.lake.storage.write(f"raw/ecb/{name}", data)


def test_run_loads_the_file_once(lq):
    write(lq, "eurofxref-hist.zip", packed(("eurofxref-hist.csv", ECB)))
    first = fx_rates.run(lq=lq)
    assert first.rows == first.loads[0].inserted == 12
    assert first.details == {
        "file": "raw/ecb/eurofxref-hist.zip",
        "first_date": "2026-10-29",
        "last_date": "2026-10-30",
        "currencies": ["brl", "cad", "eur", "jpy", "usd"],
    }
    table = lq.get_table("hist_ecb_px_last").set_index(["Date", "Asset"])["Last_Price"]
    assert table[pd.Timestamp("2026-10-30"), "usdbrl curncy"] == 6.0
    again = fx_rates.run(lq=lq)
    assert not again.loads[0].changed
    assert again.loads[0].unchanged == 12


def test_a_restated_file_changes_the_rows_it_restates_and_no_others(lq):
    write(lq, "rates.csv", ECB)
    fx_rates.run(lq=lq)
    write(lq, "rates.csv", ECB.replace(b"7.5", b"7.6").replace(b"6,,", b"6,1.3,"))
    load = fx_rates.run(lq=lq).loads[0]
    # usdbrl and brlusd of 10-30 restated; cad and cadusd of 10-29 new; the other ten as they were.
    assert (load.inserted, load.updated, load.unchanged, load.deleted) == (2, 2, 10, 0)


def test_partitions_are_years_and_only_those_changed_are_written(lq):
    write(lq, "rates.csv", ECB + b"2025-12-31,1.1,N/A,6,N/A,\n")
    assert fx_rates.run(lq=lq).loads[0].partitions == ("2025", "2026")
    write(lq, "rates.csv", ECB.replace(b"7.5", b"7.6") + b"2025-12-31,1.1,N/A,6,N/A,\n")
    assert fx_rates.run(lq=lq).loads[0].partitions == ("2026",)


def test_of_several_files_the_one_with_the_latest_date_is_taken(lq):
    write(lq, "a_newest.csv", b"Date,USD\n2026-11-02,1.2\n")
    write(lq, "b_older.zip", packed(("x.csv", ECB)))
    write(lq, "notes.txt", b"left alone")
    write(lq, "old/c.csv", b"left alone too")
    assert fx_rates.run(lq=lq).details["file"] == "raw/ecb/a_newest.csv"


def test_nothing_to_load_says_what_to_do(lq):
    with pytest.raises(NotFoundError, match="raw/ecb") as refused:
        fx_rates.run(lq=lq)
    assert "eurofxref-hist.zip" in refused.value.hint
    assert "fetch" in refused.value.hint


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (packed(), DataError),
        (packed(("readme.txt", b"")), DataError),
        (packed(("a.csv", ECB), ("b.csv", ECB)), DataError),
        (packed(("a.csv", b"Date,USD\n2026-10-30,x\n")), DataError),
        (b"", CorruptFileError),
        (ECB, CorruptFileError),
        (packed(("a.csv", ECB))[:-30], CorruptFileError),
        (packed(("a.csv", ECB), compression=zipfile.ZIP_STORED).replace(b"7.5", b"7.6"), CorruptFileError),
    ],
    ids=["empty", "no csv", "two csv", "bad cell", "no bytes", "no zip", "cut short", "damaged"],
)
def test_a_bad_file_writes_nothing(lq, data, error):
    write(lq, "rates.zip", data)
    with pytest.raises(error, match=r"raw/ecb/rates\.zip"):
        fx_rates.run(lq=lq)
    assert not lq.table_exists("hist_ecb_px_last")


TEN = b"Date,USD,JPY,BRL,CAD,CHF,GBP,SEK,NOK,DKK,PLN\n"
DAY = TEN + b"2026-10-29,1.2,150,6,1.5,0.9,0.8,11,12,7.5,4.3\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        # Each of ten currencies, the euro among them, is a series both ways round.
        (b"Date,USD,JPY,BRL,CAD\n2026-10-30,1.25,150,7.5,1.5\n", "12 of the 20 series stored for 2026-10-29"),
        (DAY.replace(b",6,", b",600,"), "2 of 20 rates of 2026-10-29 differ from the stored ones"),
        # Dollars per euro taken for euros per dollar, and so on: the whole file the wrong way round.
        (TEN + b"2026-10-29,0.83,0.0066,0.16,0.66,1.1,1.25,0.09,0.083,0.13,0.23\n", " of 20 rates of 2026-10-29"),
    ],
    ids=["less than half", "one is off", "inverted"],
)
def test_a_file_that_contradicts_what_is_stored_is_stopped(lq, data, words):
    write(lq, "a.csv", DAY)
    fx_rates.run(lq=lq)
    before = [info.version for info in lq.lake.storage.list("enriched")]
    write(lq, "a.csv", data)
    with pytest.raises(QualityError, match=words) as stopped:
        fx_rates.run(lq=lq)
    assert "`luxor run fx_rates --force`" in stopped.value.hint
    assert [info.version for info in lq.lake.storage.list("enriched")] == before
    forced = fx_rates.run(lq=lq, force=True)
    assert words in forced.warnings[0]
    assert forced.details["quality"]["forced"] is True
    assert forced.loads[0].changed
    assert fx_rates.run(lq=lq).warnings == (), "what was forced is what is stored"


def test_corrected_digits_fewer_currencies_and_an_older_file_pass(lq):
    write(lq, "a.csv", DAY + b"2026-10-28,1.2,N/A,6,1.5,0.9,0.8,11,12,7.5,4.3\n")
    fx_rates.run(lq=lq)
    write(lq, "a.csv", DAY.replace(b"4.3", b"4.4"))
    assert fx_rates.run(lq=lq).warnings == ()
    write(lq, "a.csv", b"Date,USD,JPY,BRL,CAD,CHF,GBP\n2026-10-30,1.25,150,7.5,1.5,0.9,0.8\n")
    assert fx_rates.run(lq=lq).warnings == (), "8 of 20 series have gone"
    lq.lake.storage.delete("raw/ecb/a.csv")
    write(lq, "b.csv", DAY.replace(b"2026-10-29", b"2026-10-20"))
    assert fx_rates.run(lq=lq).warnings == ()


def test_bombs_are_refused_by_what_they_unpack_to(lq, monkeypatch):
    monkeypatch.setattr(fx_rates, "UNPACKED_MAX", 1_000_000)
    bomb = packed(("a.csv", b"Date,USD\n" + b"0" * 2_000_000))
    assert len(bomb) < 10_000
    write(lq, "rates.zip", bomb)
    with pytest.raises(CorruptFileError, match="1 MB once unpacked"):
        fx_rates.run(lq=lq)
    monkeypatch.setattr(fx_rates, "FILE_MAX", 100)
    with pytest.raises(CorruptFileError, match="larger than"):
        fx_rates.run(lq=lq)


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_damaged_archive_is_our_error_or_the_same_rates(position, change):
    data = bytearray(packed(("a.csv", ECB)))
    data[position % len(data)] ^= change
    try:
        text = fx_rates.unzip_csv(bytes(data), "x.zip", 10_000)
        fx_rates.parse_ecb(text, "x.zip")
    except LuxorError:
        return
    assert text == ECB


@contextmanager
def served(*answers: tuple[int, bytes]):
    """A web server that gives these answers one after the other, the last one for ever."""
    left = list(answers)
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/eurofxref-hist.zip", asked
        finally:
            server.shutdown()
            thread.join()


def with_settings(tmp_path, **changes) -> LuxorQuery:
    lq = LuxorQuery(lake=tmp_path.as_uri())
    return LuxorQuery(lake=tmp_path.as_uri(), settings=replace(lq.settings, **changes))


@pytest.mark.parametrize("by_setting", [True, False])
def test_fetched_rates_are_kept_and_loaded(tmp_path, by_setting):
    data = packed(("eurofxref-hist.csv", ECB))
    with served((200, data)) as (url, asked):
        lq = with_settings(tmp_path, ecb_url=url, ecb_fetch=by_setting)
        result = fx_rates.run(lq=lq, fetch=not by_setting)
    assert asked == ["/eurofxref-hist.zip"]
    assert result.details["file"] == "raw/ecb/eurofxref-hist.zip"
    assert result.loads[0].inserted == 12
    assert lq.lake.storage.read("raw/ecb/eurofxref-hist.zip").data == data


@pytest.mark.parametrize("answer", [b"<html>Sorry</html>", packed(("a.csv", b"Date,BRL\n2026-10-30,6\n"))])
def test_what_does_not_parse_does_not_replace_the_file_that_is_there(tmp_path, answer):
    with served((200, answer)) as (url, _):
        lq = with_settings(tmp_path, ecb_url=url)
        write(lq, "eurofxref-hist.zip", b"the one before")
        with pytest.raises((CorruptFileError, DataError), match="127"):
            fx_rates.run(lq=lq, fetch=True)
    assert lq.lake.storage.read("raw/ecb/eurofxref-hist.zip").data == b"the one before"
    assert not lq.table_exists("hist_ecb_px_last")


def test_failures_that_may_pass_are_tried_again():
    with served((503, b""), (500, b""), (200, b"rates")) as (url, asked):
        assert fx_rates.fetch_ecb(url, pause=0) == b"rates"
    assert len(asked) == 3


@pytest.mark.parametrize(("status", "times"), [(503, 3), (404, 1), (403, 1)])
def test_failures_that_stay_are_told(status, times):
    with served((status, b"")) as (url, asked), pytest.raises(UnreachableError, match=str(status)) as refused:
        fx_rates.fetch_ecb(url, pause=0)
    assert len(asked) == times
    assert "raw/ecb" in refused.value.hint


def test_nobody_there_is_told():
    with served((200, b"")) as (url, _):
        pass
    with pytest.raises(UnreachableError):
        fx_rates.fetch_ecb(url, pause=0, timeout=2)


def test_an_answer_without_end_is_cut(monkeypatch):
    monkeypatch.setattr(fx_rates, "FILE_MAX", 10)
    with served((200, b"0" * 11)) as (url, _), pytest.raises(CorruptFileError, match="larger"):
        fx_rates.fetch_ecb(url, pause=0)


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://example.org/x", "eurofxref-hist.zip"])
def test_only_web_addresses_are_fetched(url):
    with pytest.raises(ConfigurationError, match="LUXOR_ECB_URL"):
        fx_rates.fetch_ecb(url)


@pytest.mark.skipif(not REAL.exists(), reason="the bank's file is not beside the repository")
def test_the_banks_own_file():
    found = fx_rates.parse_ecb(fx_rates.unzip_csv(REAL.read_bytes(), "x", fx_rates.UNPACKED_MAX), "x")
    assert (str(found.dates[0]), str(found.dates[-1]), len(found.dates)) == ("1999-01-04", "2026-10-30", 7126)
    assert len(found.currencies) == 41
    rates = fx_rates.to_series(found).set_index(["Date", "Asset"])["Last_Price"]
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


def test_the_demo_runs(lq):
    data = demo_data.ecb_zip()
    assert len(data) < 300_000
    write(lq, "eurofxref-hist.zip", data)
    result = fx_rates.run(lq=lq)
    assert result.details["first_date"] == "2020-01-02"
    assert result.loads[0].inserted == result.rows == 1751 * 15 * 2
    assets = demo_data.demo_assets()
    stored = set(lq.get_table("hist_ecb_px_last")["Asset"])
    interest = demo_data.overnight_indexes(date(2026, 10, 30))
    assert interest.groupby("Asset")["Date"].agg(["min", "max"]).astype(str).drop_duplicates().to_numpy().tolist() == [
        ["2020-01-02", "2026-10-30"]
    ]
    assert (interest.groupby("Asset")["Last_Price"].diff().dropna() > 0).all()
    assert set(assets["Ticker"]) <= stored | set(interest["Asset"])
    assert not assets["Key"].duplicated().any()
    assert (assets["Key"] == assets["Asset"] + "_" + assets["Ticker"]).all()


@pytest.mark.skipif(not REAL.exists(), reason="the bank's file is not beside the repository")
def test_the_demo_is_a_slice_of_the_banks_file():
    def read(data: bytes) -> pd.DataFrame:
        found = fx_rates.parse_ecb(fx_rates.unzip_csv(data, "x", fx_rates.UNPACKED_MAX), "x")
        return pd.DataFrame(found.rates, index=found.dates, columns=found.currencies)

    demo, real = read(demo_data.ecb_zip()), read(REAL.read_bytes())
    assert {"usd", "brl", "cad"} <= set(demo.columns)
    pd.testing.assert_frame_equal(demo, real.loc[demo.index[0] :, demo.columns])
