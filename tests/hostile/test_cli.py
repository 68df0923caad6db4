"""Command lines that are wrong: the exit code of their kind, what to do next on stderr, and nothing done."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luxor_pipelines.cli import main

LAKE = "{lake}"
FAILED, USAGE, CONFIGURATION = 1, 2, 3

CASES: dict[str, tuple[list[str], int, str]] = {
    # The command itself.
    "unknown-command": (["lsit"], USAGE, "No such command"),
    "empty-command": ([""], USAGE, "No such command"),
    "command-of-another-case": (["RUN", "fx_rates"], USAGE, "No such command"),
    "nul-command": (["a\0b"], USAGE, "No such command"),
    "unknown-option": (["tables", "--lakes", LAKE], USAGE, "No such option"),
    "option-without-value": (["tables", "--lake"], USAGE, "--lake"),
    "surplus-argument": (["tables", "x", "--lake", LAKE], USAGE, "unexpected extra argument"),
    "missing-argument": (["show", "--lake", LAKE], USAGE, "TABLE"),
    "command-as-option-value": (["run", "--ref-date", "--lake", LAKE], USAGE, ""),
    # Options.
    "limit-negative": (["show", "hist_px_last", "--limit", "-1", "--lake", LAKE], USAGE, "--limit"),
    "limit-fraction": (["show", "hist_px_last", "--limit", "1.5", "--lake", LAKE], USAGE, "--limit"),
    "limit-word": (["runs", "--limit", "all", "--lake", LAKE], USAGE, "--limit"),
    "limit-endless": (["runs", "--limit", "9" * 5_000, "--lake", LAKE], USAGE, "--limit"),
    "currency-unknown": (["returns", "--currency", "xyz", "--lake", LAKE], USAGE, "--currency"),
    "json-and-csv": (["show", "hist_px_last", "--json", "--csv", "--lake", LAKE], USAGE, "one of them"),
    "columns-empty": (["show", "hist_px_last", "--columns", " , ", "--lake", LAKE], USAGE, "--columns"),
    "columns-unknown": (["show", "hist_px_last", "--columns", "Date,Nope", "--lake", LAKE], FAILED, "'Nope'"),
    "columns-nul": (["show", "hist_px_last", "--columns", "Date\0", "--lake", LAKE], FAILED, "It has"),
    "columns-surrogate": (["show", "hist_px_last", "--columns", "\udcff", "--lake", LAKE], FAILED, "It has"),
    # Conditions.
    "where-nothing": (["show", "hist_px_last", "--where", "", "--lake", LAKE], USAGE, "--where"),
    "where-no-operator": (["show", "hist_px_last", "--where", "Date", "--lake", LAKE], USAGE, "--where"),
    "where-only-operator": (["show", "hist_px_last", "--where", "=", "--lake", LAKE], USAGE, "--where"),
    "where-unknown-column": (["show", "hist_px_last", "--where", "Nope=1", "--lake", LAKE], FAILED, "Nope"),
    "where-no-date": (["show", "hist_px_last", "--where", "Date=yesterday", "--lake", LAKE], USAGE, "yesterday"),
    "where-30-february": (["show", "hist_px_last", "--where", "Date>=2026-02-30", "--lake", LAKE], USAGE, "2026-02-30"),
    "where-zone": (["show", "hist_px_last", "--where", "Date=2026-10-30T00:00Z", "--lake", LAKE], USAGE, "Date"),
    "where-nan": (["show", "hist_px_last", "--where", "Last_Price=nan", "--lake", LAKE], USAGE, "nan"),
    "where-infinite": (["show", "hist_px_last", "--where", "Last_Price<1e999", "--lake", LAKE], USAGE, "1e999"),
    "where-less-than-nothing": (["show", "hist_px_last", "--where", "Date<", "--lake", LAKE], USAGE, "no value"),
    "where-sql": (["show", "hist_px_last", "--where", "1=1; drop table x", "--lake", LAKE], FAILED, "no column"),
    "where-code": (["show", "hist_px_last", "--where", "__import__('os')=1", "--lake", LAKE], FAILED, "no column"),
    "where-surrogate": (["show", "hist_px_last", "--where", "Asset=\udcff", "--lake", LAKE], USAGE, "--where"),
    "where-long": (["show", "hist_px_last", "--where", "Date=" + "9" * 100_000, "--lake", LAKE], USAGE, "--where"),
    # Parameters.
    "param-no-equals": (["run", "market_prices", "--param", "decimal", "--lake", LAKE], USAGE, "key=value"),
    "param-empty": (["run", "market_prices", "--param", "", "--lake", LAKE], USAGE, ""),
    "param-only-equals": (["run", "market_prices", "--param", "=", "--lake", LAKE], USAGE, ""),
    "param-unknown": (["run", "market_prices", "--param", "nope=1", "--lake", LAKE], USAGE, "nope"),
    "param-twice": (
        ["run", "market_prices", "--param", "decimal=.", "--param", "decimal=,", "--lake", LAKE],
        USAGE,
        "decimal",
    ),
    "param-private": (["run", "market_prices", "--param", "lq=x", "--lake", LAKE], USAGE, "lq"),
    "param-flag": (
        ["run", "market_prices", "--param", "known_assets_only=perhaps", "--lake", LAKE],
        USAGE,
        "known_assets_only",
    ),
    "param-value": (["run", "market_prices", "--param", "date_format=%c", "--lake", LAKE], USAGE, "date_format"),
    "param-separator": (["run", "market_prices", "--param", "separator=\n", "--lake", LAKE], USAGE, "separator"),
    "param-surrogate": (["run", "market_prices", "--param", "table=\udcff", "--lake", LAKE], USAGE, "name"),
    "param-code": (["run", "holidays", "--param", "exchanges=bz=os.system", "--lake", LAKE], USAGE, "os.system"),
    "param-start": (["run", "holidays", "--param", "start=2026-02-30", "--lake", LAKE], USAGE, "2026-02-30"),
    "param-order": (["run", "holidays", "--param", "start=2099-01-01", "--lake", LAKE], USAGE, "2099"),
    # Names and dates.
    "pipeline-unknown": (["run", "hist_return", "--lake", LAKE], USAGE, "Did you mean hist_returns"),
    "pipeline-path": (["run", "../../etc/passwd", "--lake", LAKE], USAGE, "There are"),
    "pipeline-module": (["run", "os:system", "--lake", LAKE], USAGE, "There are"),
    "pipeline-surrogate": (["run", "\udcff", "--lake", LAKE], USAGE, "There are"),
    "pipeline-long": (["run", "x" * 100_000, "--lake", LAKE], USAGE, "There are"),
    "date-30-february": (["run", "hist_returns", "--ref-date", "2026-02-30", "--lake", LAKE], USAGE, "2026-02-30"),
    "date-slashes": (["run", "hist_returns", "--ref-date", "31/10/2026", "--lake", LAKE], USAGE, "31/10/2026"),
    "date-zero": (["run", "hist_returns", "--ref-date", "0000", "--lake", LAKE], USAGE, "0000"),
    "date-year-10000": (["run", "hist_returns", "--ref-date", "10000-01-01", "--lake", LAKE], USAGE, "10000"),
    "date-to-come": (["run", "hist_returns", "--ref-date", "9999-12-31", "--lake", LAKE], USAGE, "not ended"),
    "date-empty": (["run", "hist_returns", "--ref-date", "", "--lake", LAKE], USAGE, "date"),
    "date-surrogate": (["returns", "--ref-date", "\udcff", "--lake", LAKE], USAGE, "date"),
    "table-path": (["show", "../assets", "--lake", LAKE], USAGE, "../assets"),
    "table-device": (["show", "nul", "--lake", LAKE], USAGE, "nul"),
    "table-surrogate": (["show", "\udcff", "--lake", LAKE], USAGE, "name"),
    "table-unknown": (["show", "nothing", "--lake", LAKE], FAILED, "luxor tables"),
    "table-to-load-into": (["run", "market_prices", "--table", "../x", "--lake", LAKE], USAGE, "../x"),
    "table-of-other-columns": (["run", "market_prices", "--table", "assets", "--lake", LAKE], FAILED, "assets"),
    "runs-of-a-path": (["runs", "../..", "--lake", LAKE], USAGE, ".."),
    "runs-of-nobody": (["runs", "nobody", "--lake", LAKE], USAGE, "There are"),
    "archive-without-yes": (["archive", "hist_px_last", "--lake", LAKE], USAGE, "--yes"),
    "archive-path": (["archive", "../prices", "--yes", "--lake", LAKE], USAGE, "../prices"),
    "archive-nothing": (["archive", "nothing", "--yes", "--lake", LAKE], FAILED, "luxor tables"),
    "demo-in-a-lake": (["demo", "{folder}"], USAGE, "not empty"),
    "demo-nul": (["demo", "{folder}/a\0b"], USAGE, "null byte"),
    "demo-long": (["demo", "{folder}/" + "x" * 3_000], CONFIGURATION, "folder"),
    # Lakes.
    "lake-empty": (["tables", "--lake", ""], CONFIGURATION, "--lake"),
    "lake-none": (["tables"], CONFIGURATION, "LUXOR_LAKE_URL"),
    "lake-missing": (["tables", "--lake", "/no/such/folder"], CONFIGURATION, "does not exist"),
    "lake-scheme": (["tables", "--lake", "gopher://x"], CONFIGURATION, "gopher"),
    "lake-surrogate": (["tables", "--lake", "/\udcff"], CONFIGURATION, "does not exist"),
    "lake-twice": (["tables", "--lake", LAKE, "--lake", "/no/such/folder"], CONFIGURATION, "does not exist"),
    "lake-link": (["tables", "--lake", "abfss://lake@account"], CONFIGURATION, "abfss://"),
    "no-assets-for-returns": (["returns", "--lake", LAKE], FAILED, "hist_returns"),
    "no-raw-files": (["run", "fx_rates", "--lake", LAKE], FAILED, "raw/ecb"),
}


@pytest.mark.parametrize("as_json", [False, True], ids=["", "json"])
@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_told_and_nothing_is_done(
    case: str, as_json: bool, lake: Any, digest: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, code, words = CASES[case]
    if as_json and (arguments[0] == "demo" or case == "option-without-value"):
        pytest.skip("has no --json")
    url = lake.arguments["lake"]
    filled = [each.replace("{lake}", url).replace("{folder}", url.removeprefix("file://")) for each in arguments]
    before = digest(lake)
    got = main([*filled, *(["--json"] if as_json else [])])
    out, err = capsys.readouterr()
    assert got == code, err
    assert words in err
    assert "Traceback" not in err
    assert "Unexpected" not in err
    assert len(err) < 6_000, "what was given is told once, at the most"
    assert digest(lake) == before
    if "--json" in filled or as_json:
        told = json.loads(out)["error"]
        assert told["message"]
        assert told["class"] != "Exception"
    else:
        assert not out


@pytest.mark.parametrize("case", ["date-30-february", "table-path", "lake-missing"])
def test_debug_adds_a_traceback_and_changes_nothing_else(
    case: str, lake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, code, words = CASES[case]
    assert main([each.replace("{lake}", lake.arguments["lake"]) for each in arguments] + ["--debug"]) == code
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert words in err
