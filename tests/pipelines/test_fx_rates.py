"""fx_rates: loads, restated files, the gate, files that cannot be read, fetched files."""

import zipfile
from dataclasses import replace
from datetime import date

import pandas as pd
import pytest

from bank import ECB, packed, served
from luxor_pipelines.demo import data as demo_data
from luxor_pipelines.errors import (
    CorruptFileError,
    DataError,
    NotFoundError,
    QualityError,
)
from luxor_pipelines.pipelines import fx_rates
from luxor_pipelines.query.luxor_query import LuxorQuery
from luxor_pipelines.sources import ecb
from luxor_pipelines.sources.limits import Limits


@pytest.fixture
def lq(tmp_path):
    return LuxorQuery(lake=tmp_path.as_uri())


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
    monkeypatch.setattr(ecb, "LIMITS", Limits(unpacked=1_000_000))
    bomb = packed(("a.csv", b"Date,USD\n" + b"2026-10-30,1\n" * 200_000))
    assert len(bomb) < 10_000
    write(lq, "rates.zip", bomb)
    with pytest.raises(CorruptFileError, match="1,000,000 bytes once unpacked"):
        fx_rates.run(lq=lq)
    monkeypatch.setattr(ecb, "LIMITS", Limits(bytes=100))
    with pytest.raises(CorruptFileError, match="read at most"):
        fx_rates.run(lq=lq)


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
    assert "raw/ecb/eurofxref-hist.zip" in lq.lake.inputs()


@pytest.mark.parametrize("answer", [b"<html>Sorry</html>", packed(("a.csv", b"Date,BRL\n2026-10-30,6\n"))])
def test_what_does_not_parse_does_not_replace_the_file_that_is_there(tmp_path, answer):
    with served((200, answer)) as (url, _):
        lq = with_settings(tmp_path, ecb_url=url)
        write(lq, "eurofxref-hist.zip", b"the one before")
        with pytest.raises((CorruptFileError, DataError), match="127"):
            fx_rates.run(lq=lq, fetch=True)
    assert lq.lake.storage.read("raw/ecb/eurofxref-hist.zip").data == b"the one before"
    assert not lq.table_exists("hist_ecb_px_last")


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
