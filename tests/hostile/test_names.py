"""Names and dates that could lead out of the lake, or mean something else than they seem to."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import numpy as np
import pandas as pd
import pytest

from luxor_pipelines.errors import InvalidNameError, InvalidPeriodError, TableNotFoundError, UsageError
from luxor_pipelines.ingest import incremental_load, save_table
from luxor_pipelines.lake.storage.base import ANY
from luxor_pipelines.operations import runs

OUTSIDE = {
    "parent": "../x",
    "parent-inside": "a/../b",
    "parent-alone": "..",
    "here": ".",
    "parent-backslash": "..\\x",
    "backslash": "a\\b",
    "unc": "\\\\server\\share",
    "drive": "c:\\x",
    "drive-relative": "c:x",
    "stream": "a.csv:hidden",
    "percent-encoded-parent": "a/%2e%2e/b",
    "percent-encoded-nul": "a%00",
    "lookalike-slash": "..\u2215x",
    "hidden": ".git",
    "hidden-below": "a/.b",
    "dot-at-the-end": "a.",
    "space-at-the-end": "a /b",
    "twice-the-slash": "a//b",
    "empty": "",
    "blank": "  ",
    "slashes-only": "///",
    "nul": "a\0b",
    "newline": "a\nb",
    "escape": "a\x1b[2Jb",
    "delete": "a\x7fb",
    "right-to-left": "gpj.\u202exslx",
    "zero-width": "hist\u200b_returns",
    "line-separator": "a\u2028b",
    "surrogate": "a\ud800",
    "question-mark": "a?sig=1",
    "fragment": "a#b",
    "star": "a*",
    "pipe": "a|b",
    "device": "con",
    "device-upper": "NUL",
    "device-with-extension": "aux.parquet",
    "device-of-many-extensions": "com1.tar.gz",
    "device-superscript": "LPT¹",
    "device-below": "a/prn.txt/b",
    "overlong-name": "x" * 201,
    "overlong-in-bytes": "é" * 101,
    "overlong-path": "/".join(["x" * 99] * 10),
    "no-text": None,
    "a-number": 7,
    "bytes": b"a",
    "a-path": Path("a"),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_no_file_of_such_a_name(case: str, lake: Any, refused: Any) -> None:
    name = OUTSIDE[case]
    storage = lake.storage()
    for act in (
        storage.read,
        storage.stat,
        storage.list,
        storage.delete,
        lambda name: storage.write(name, b"x"),
        lambda name: storage.write(name, b"x", expected=None),
        lambda name: storage.delete(name, expected=ANY),
    ):
        with refused(lake, InvalidNameError, "inside the lake"):
            act(name)


TABLES = OUTSIDE | {
    "absolute": "/etc/passwd",
    "below": "hist_px_last/month=2026-10",
    "option": "--help",
    "home": "~root",
    "variable": "$HOME",
    "quote": "a'; drop table x; --",
    "equals": "month=2026-10",
    "full-width": "ｈist_px_last",
    "ligature": "ﬁnance",
    "superscript": "hist_px_last²",
    "combining": "e\u0301",
    "cyrillic": "\u0430ssets",
    "greek": "\u03bfvernight",
    "dotless": "h\u0131st_px_last",
    "script-g": "lo\u0261",
    "arabic-digits": "hist_\u0661",
    "overlong-table": "x" * 121,
}
for _unlike in ("device-below", "overlong-path", "space-at-the-end"):
    TABLES[f"table-{_unlike}"] = TABLES.pop(_unlike)


@pytest.mark.parametrize("case", TABLES)
def test_no_table_of_such_a_name(case: str, lake: Any, refused: Any, prices: pd.DataFrame) -> None:
    name = TABLES[case]
    lq = lake.query()
    for act in (
        lq.get_table,
        lq.table_exists,
        lambda name: save_table(name, prices, lq=lq),
        lambda name: save_table(name, prices, lq=lq, mode="replace"),
        lambda name: incremental_load(lq, name, prices),
    ):
        with refused(lake, InvalidNameError, "name", "Use letters"):
            act(name)


@pytest.mark.parametrize("case", OUTSIDE)
def test_no_folder_of_such_a_name(case: str, lake: Any, refused: Any, prices: pd.DataFrame) -> None:
    if OUTSIDE[case] is None:
        pytest.skip("None is the default folder")
    with refused(lake, InvalidNameError, "inside the lake"):
        save_table("new", prices, lq=lake.query(), directory=OUTSIDE[case])
    if OUTSIDE[case] != "":  # which is the default folder
        with refused(lake, InvalidNameError, "inside the lake"):
            lake.query(blob_directory=OUTSIDE[case]).get_table("hist_px_last")


@pytest.mark.parametrize("name", ["cotações", "hist_returns_2026", "índice_2026", "a.b-c"])
def test_letters_with_accents_are_letters(name: str, lake: Any, refused: Any) -> None:
    with refused(lake, TableNotFoundError, name):
        lake.query().get_table(name)


# --- links ----------------------------------------------------------------------------------------


def folder_of(rig: Any) -> Path:
    return Path(url2pathname(rig.arguments["lake"].removeprefix("file://")))


needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")


@needs_links
@pytest.mark.parametrize("target", ["file", "folder", "nothing", "chain"])
def test_a_link_out_of_the_lake_is_not_followed(
    target: str, lake: Any, tmp_path: Path, refused: Any, prices: pd.DataFrame
) -> None:
    root = folder_of(lake)
    outside = tmp_path / "outside"
    (outside / "t").mkdir(parents=True)
    secret = outside / "t" / "secret.csv"
    secret.write_bytes(b"Date,Asset,Last_Price\n2026-10-30,stolen,1\n")
    link = root / "raw" / "prices" / "b.csv"
    if target == "folder":
        link = root / "raw" / "linked"
        link.symlink_to(outside / "t", target_is_directory=True)
        name = "raw/linked/secret.csv"
    else:
        ends = {"file": secret, "nothing": outside / "new.csv", "chain": root / "raw" / "hop"}
        link.symlink_to(ends[target])
        if target == "chain":
            (root / "raw" / "hop").symlink_to(secret)
        name = "raw/prices/b.csv"
    storage = lake.storage()
    acts = [storage.read, storage.stat, storage.delete, lambda name: storage.write(name, b"x")]
    if target == "folder":
        acts.append(lambda name: storage.list(name.rpartition("/")[0]))
    for act in acts:
        with pytest.raises(InvalidNameError, match="leads out of the lake"):
            act(name)
    assert not any("linked" in info.path for info in storage.list("raw"))
    assert link.is_symlink()
    assert secret.read_bytes().endswith(b"stolen,1\n")
    assert [path.name for path in outside.rglob("*")] == ["t", "secret.csv"]


@needs_links
def test_a_table_that_is_a_link_out_of_the_lake_is_neither_read_nor_written(
    lake: Any, tmp_path: Path, prices: pd.DataFrame
) -> None:
    outside = tmp_path / "outside.parquet"
    prices.to_parquet(outside)
    before = outside.read_bytes()
    (folder_of(lake) / "enriched" / "parquet" / "linked.parquet").symlink_to(outside)
    lq = lake.query()
    for act in (
        lambda: lq.get_table("linked"),
        lambda: save_table("linked", prices, lq=lq, mode="replace"),
        lambda: incremental_load(lq, "linked", prices),
    ):
        with pytest.raises(InvalidNameError, match="leads out of the lake"):
            act()
    assert outside.read_bytes() == before


@needs_links
def test_the_lakes_own_folder_may_be_a_link_and_links_inside_it_are_followed(
    lake: Any, tmp_path: Path, prices: pd.DataFrame
) -> None:
    link = tmp_path / "lake-link"
    link.symlink_to(folder_of(lake), target_is_directory=True)
    (link / "enriched" / "parquet" / "other.parquet").symlink_to("hist_px_last.parquet")
    storage = lake.storage(lake=link.as_uri())
    assert (
        storage.read("enriched/parquet/other.parquet").data
        == storage.read("enriched/parquet/hist_px_last.parquet").data
    )
    storage.write("raw/x", b"1")
    assert (folder_of(lake) / "raw" / "x").read_bytes() == b"1"


# --- dates ----------------------------------------------------------------------------------------

NO_DATES = {
    "30-february": "2026-02-30",
    "slashes": "31/10/2026",
    "year-zero": "0000",
    "year-zero-january": "0000-01-01",
    "year-10000": "10000-01-01",
    "zone": "2026-10-31T00:00:00+00:00",
    "zulu": "2026-10-31T00:00:00Z",
    "month-only": "2026-10",
    "word": "today",
    "not-a-time": "NaT",
    "empty": "",
    "nul": "2026-10-31\0",
    "full-width-digits": "２０２６-10-31",
    "hour-25": "2026-10-31 25:00",
    "long": "9" * 100_000,
    "surrogate": "\ud800",
    "number": 20261031,
    "float": 1.5,
    "nan": float("nan"),
    "infinity": float("inf"),
    "flag": True,
    "nat": pd.NaT,
    "numpy-nat": np.datetime64("NaT"),
    "numpy-year": np.datetime64("2026"),
    "numpy-year-10000": np.datetime64("10000-01-01"),
    "timestamp-with-zone": pd.Timestamp("2026-10-31", tz="America/Sao_Paulo"),
    "datetime-with-zone": dt.datetime(2026, 10, 31, tzinfo=dt.UTC),
    "time-of-day": dt.time(1),
    "bytes": b"2026-10-31",
    "list": ["2026-10-31"],
    "period": pd.Period("2026-10"),
    "timedelta": pd.Timedelta(1, "D"),
}


@pytest.mark.parametrize("case", NO_DATES)
def test_what_is_no_date_is_refused(case: str, lake: Any, refused: Any) -> None:
    day = NO_DATES[case]
    lq = lake.query()
    for act in (
        lq.get_month_end,
        lq.get_hist_returns,
        lambda day: lq.get_prices("fund", recent_date=day),
    ):
        with refused(lake, UsageError):
            act(day)
    if case != "month-only":  # a month's last day is the reference date of its run: `test_a_run_takes_a_month`
        with refused(lake, UsageError):
            runs.run("hist_returns", ref_date=day, lq=lq)


def test_a_run_takes_a_month(lake: Any) -> None:
    lq = lake.query()
    assert runs.as_reference_date("2026-10") == dt.date(2026, 10, 31)
    for text in ("2026-13", "2026-00", "0000-10", "2026-1", "2026/10"):
        with pytest.raises(UsageError) as caught:
            runs.run("hist_returns", ref_date=text, lq=lq)
        assert caught.value.hint == "Give a date like 2026-10-31, or a month like 2026-10."


@pytest.mark.parametrize(
    "period", ["", "0m", "-1m", "1.5m", "１m", "12M0", "mtd\0", "1y", "9" * 30 + "m", None, 12, ["mtd"], "\0"], ids=repr
)
def test_what_is_no_period_is_refused(period: Any, lake: Any, refused: Any) -> None:
    if period is None:
        pytest.skip("None is no period at all")
    with refused(lake, InvalidPeriodError):
        lake.query().get_pct_changes("fund", "2026-10-31", period=period)
