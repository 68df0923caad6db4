"""The command line: what is printed where, exit codes, and every way of getting it wrong."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luxor_pipelines import LuxorQuery, __version__, save_table
from luxor_pipelines.cli import main
from luxor_pipelines.cli.output import configure_logging, note
from luxor_pipelines.demo import last_covered_month

ANSI = "\x1b["
BOXES = set("─│┃━┏╭╮┌")

# Pipelines of somebody else's that go wrong in ways ours cannot be made to in a test.
PLUGIN = '''
"""Pipelines that go wrong."""

import threading

from luxor_pipelines.errors import LoadConflictError


def conflict(ref_date=None, *, lq=None, now=None):
    raise LoadConflictError("Table t: other writers came first 12 times.", hint="Run the load again.")


def unexpected(ref_date=None, *, lq=None, now=None):
    raise ValueError("first line AccountKey=abc123def\\nsecond line")


def leaves(ref_date=None, *, lq=None, now=None):
    raise SystemExit(0)


def endless(ref_date=None, *, lq=None, now=None):
    print("ready", flush=True)
    while not threading.Event().wait(0.05):
        pass
'''


@pytest.fixture(scope="session")
def demo_lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo's lake, made by the command itself; not to be written to, neither data nor a run's record."""
    folder = tmp_path_factory.mktemp("demo") / "lake"
    done = luxor("demo", folder)
    assert done.returncode == 0, done.stderr
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    yield folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before, (
        "a test wrote to demo_lake, not lake"
    )


@pytest.fixture
def lake(demo_lake: Path, tmp_path: Path) -> Path:
    """A copy of the demo's lake, to do with as one likes."""
    return Path(shutil.copytree(demo_lake, tmp_path / "lake"))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder for the path, with an installed package of pipelines that go wrong."""
    folder = tmp_path / "site"
    info = folder / "acme_wrong-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "acme_wrong.py").write_text(PLUGIN, encoding="utf-8")
    (folder / "acme_unreadable.py").write_text("def run(:", encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-wrong\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[luxor_pipelines.pipelines]\n"
        + "".join(f"{name} = acme_wrong:{name}\n" for name in ("conflict", "unexpected", "leaves", "endless"))
        + "unreadable = acme_unreadable\n",
        encoding="utf-8",
    )
    return folder


def luxor(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, as a pipe would."""
    return subprocess.run(
        [sys.executable, "-m", "luxor_pipelines", *map(str, args)],
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


def beside(site: Path) -> str:
    """Return a path for Python to find a package on, beside the one it has."""
    return os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])


class Here:
    """Runs the command in this process, which is quicker."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: object, code: int = 0) -> tuple[str, str]:
        got = main([str(arg) for arg in args])
        out, err = self._capsys.readouterr()
        assert got == code, err
        return out, err

    def json(self, *args: object, code: int = 0) -> dict[str, Any]:
        out, _ = self(*args, "--json", code=code)
        found: dict[str, Any] = json.loads(out)
        assert next(iter(found)) == "schema_version"
        assert found["schema_version"] == 1
        return found


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(capsys)


def contents(folder: Path) -> dict[str, str]:
    """Every data file's hash: all but run records and locks."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if "system" not in path.relative_to(folder).parts
    }


# --- help and listing -------------------------------------------------------------------------


def test_help_says_how_dates_are_meant(here: Here) -> None:
    text = " ".join(here("run", "--help")[0].split())
    for words in ("São Paulo", "inclusive", "end of its month", "--ref-date", "Running again is safe"):
        assert words in text


def test_help_says_what_exit_codes_mean(here: Here) -> None:
    text = " ".join(here("--help")[0].split())
    assert "0 done, 1 the run or check failed, 2 usage, 3 configuration or credentials, 4 conflict" in text
    for command in (
        "run",
        "list",
        "runs",
        "tables",
        "show",
        "returns",
        "archive",
        "restore",
        "optimize",
        "add-column",
        "drop-column",
        "demo",
    ):
        assert f" {command} " in text


def test_version(here: Here) -> None:
    assert here("--version")[0] == f"luxor-pipelines {__version__}\n"


def test_list(here: Here) -> None:
    lines = here("list")[0].splitlines()
    assert lines[0].split() == ["Pipeline", "Description"]
    found = {each["name"]: each["description"] for each in here.json("list")["pipelines"]}
    assert {"fx_rates", "hist_returns", "holidays", "market_prices"} <= found.keys()
    assert len(lines) == 1 + len(found)
    assert lines[1] == f"fx_rates       {found['fx_rates']}", "whole, whatever the width"


# --- the demo ---------------------------------------------------------------------------------


def test_the_demo_again_changes_nothing(lake: Path) -> None:
    before, runs = contents(lake), len(list(lake.glob("system/runs/*/*.json")))
    done = luxor("demo", lake)
    assert done.returncode == 0, done.stderr
    assert "15 runs; nothing changed" in done.stdout
    assert contents(lake) == before
    assert len(list(lake.glob("system/runs/*/*.json"))) == 2 * runs == 30


def test_the_demo_completes_what_was_interrupted(lake: Path) -> None:
    whole = contents(lake)
    shutil.rmtree(lake / "enriched/parquet/hist_returns")
    (lake / "raw/ecb/eurofxref-hist.zip").unlink()
    done = luxor("demo", lake)
    assert "tables loaded: hist_returns" in done.stdout
    # Last_Updated differs, so the new files do; nothing is missing, and nothing else was touched.
    again = contents(lake)
    assert again.keys() == whole.keys()
    assert {path for path in whole if again[path] != whole[path]} == {p for p in whole if "/hist_returns/m" in p}


def test_the_demo_says_what_next_and_that_works(lake: Path, here: Here) -> None:
    out, err = here("demo", lake)
    commands = [line.split(" --lake ")[0].split(maxsplit=1)[1] for line in out.splitlines() if " --lake " in line]
    assert len(commands) == 5
    for command in commands:
        words = next(csv.reader([command], delimiter=" ", quotechar='"'))
        here(*words, "--lake", lake)
    assert err == ""
    code = "\n".join(line.strip() for line in out.split("In a notebook:\n")[1].splitlines())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_demo_shows_returns_that_agree_with_the_rates(demo_lake: Path, here: Here) -> None:
    rows = {row["Key"]: row for row in here.json("returns", "--currency", "USD", "--lake", demo_lake)["rows"]}
    rates = LuxorQuery(lake=demo_lake.as_uri()).get_table("hist_ecb_px_last", where={"Asset": "eurusd curncy"})
    series = rates.set_index("Date")["Last_Price"]
    # The mtd base is the last rate of September, the end the last one of October.
    expected = series[:"2026-10-31"].iloc[-1] / series[:"2026-09-30"].iloc[-1] - 1
    assert rows["eur_eurusd curncy"]["mtd"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("last_day", "expected"),
    [
        (date(2026, 10, 30), date(2026, 10, 31)),  # Friday, the 31st is a Saturday
        (date(2026, 10, 29), date(2026, 9, 30)),
        (date(2026, 9, 30), date(2026, 9, 30)),  # Wednesday
        (date(2027, 1, 29), date(2027, 1, 31)),  # Friday before a Sunday
        (date(2027, 1, 4), date(2026, 12, 31)),
    ],
)
def test_the_last_month_covered(last_day: date, expected: date) -> None:
    assert last_covered_month(last_day) == expected


def test_the_demo_keeps_off_other_folders(here: Here, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.docx").write_text("mine")
    for target, words in {
        "file": "is a file",
        "file/below": "lies below a file",
        "full": "is not empty, and not a demo's",
    }.items():
        assert words in here("demo", tmp_path / target, code=2)[1]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "thesis.docx"]


# --- run and runs -----------------------------------------------------------------------------


def test_a_run_tells_counts_on_stdout_and_its_date_first_on_stderr(lake: Path) -> None:
    done = luxor("run", "hist_returns", "--ref-date", "2026-10-15", "--lake", lake)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("hist_returns done in ")
    assert lines[0].endswith("; reference date 2026-10-31")
    assert lines[1].split() == ["Table", "Inserted", "Updated", "Unchanged", "Deleted"]
    assert lines[2].split() == ["hist_returns", "0", "0", "306", "0"]
    assert lines[3] == "rows: 306; nothing changed"
    assert lines[4].startswith("statuses: ")
    assert sum(int(part.split()[0]) for part in lines[4].removeprefix("statuses: ").split(", ")) == 306
    assert lines[5].startswith("record: system/runs/hist_returns/")
    assert (lake / lines[5].removeprefix("record: ")).is_file()
    told = done.stderr.splitlines()
    assert told[:2] == ["INFO hist_returns: reference date 2026-10-31", "INFO hist_returns for 2026-10-31"]
    assert ANSI not in done.stdout + done.stderr, "no colours, no spinner in a pipe"


def test_a_run_as_json_is_its_record(lake: Path, here: Here) -> None:
    found = here.json("run", "holidays", "--param", "end=2027-12-31", "--lake", lake)
    assert found == json.loads((lake / found["path"]).read_bytes())
    assert found["params"] == {"end": "2027-12-31"}
    assert found["loads"][0]["deleted"] > 0, "the holidays of 2028 are gone"


def without_most_assets(lake: Path) -> None:
    lq = LuxorQuery(lake=lake.as_uri())
    save_table("assets", lq.get_table("assets").head(4), lq=lq, mode="replace")
    shutil.rmtree(lake / "enriched/parquet/hist_returns/month=2026-10")


def test_rows_that_do_not_pass_their_checks_are_listed_and_can_be_forced(lake: Path, here: Here) -> None:
    without_most_assets(lake)
    before = contents(lake)
    arguments = ("run", "hist_returns", "--ref-date", "2026-10-31", "--lake", lake)
    out, err = here(*arguments, code=1)
    assert out == ""
    assert "Error: hist_returns of 2026-10-31: nothing was written" in err
    assert "- 13 of the 17 assets stored for 2026-09-30 are missing: '" in err
    assert "`luxor run hist_returns --ref-date 2026-10-31 --force`" in err
    assert contents(lake) == before
    assert here.json(*arguments, code=1)["error"]["class"] == "QualityError"
    listed = here("runs", "hist_returns", "--limit", "1", "--lake", lake)[0]
    assert "QualityError: hist_returns of 2026-10-31: nothing was written" in listed

    out, _ = here(*arguments, "--force")
    assert "warning: Forced: 13 of the 17 assets stored for 2026-09-30 are missing" in out
    record = here.json("runs", "hist_returns", "--limit", "1", "--lake", lake)["runs"][0]
    assert (record["status"], record["params"]) == ("done", {"force": True})
    assert record["details"]["quality"]["forced"] is True


def test_force_is_refused_by_a_pipeline_that_has_no_checks(lake: Path, here: Here) -> None:
    _, err = here("run", "holidays", "--force", "--lake", lake, code=2)
    assert "holidays has no parameter 'force'" in err


def test_table_goes_to_the_pipeline(lake: Path, here: Here) -> None:
    (lake / "raw/prices").mkdir()
    (lake / "raw/prices/a.csv").write_text("Date,Asset,Last_Price\n2026-10-30,x,1.5\n")
    here("run", "market_prices", "--table", "hist_mine", "--lake", lake)
    assert here.json("show", "hist_mine", "--columns", "Asset,Last_Price", "--lake", lake)["rows"] == [
        {"Asset": "x", "Last_Price": 1.5}
    ]


@pytest.mark.parametrize(
    "command",
    ["list --details", "status", "tables", "runs", "runs show {run}", "unlock"],
)
def test_commands_that_make_no_frame_do_not_import_pandas(demo_lake: Path, command: str) -> None:
    run = next((demo_lake / "system" / "runs" / "hist_returns").rglob("*.json")).stem[-12:]
    lake = [] if command.startswith("list") else ["--lake", str(demo_lake)]
    code = (
        "import sys; from luxor_pipelines.cli import main\n"
        f"assert main({[*command.format(run=run).split(), *lake]}) == 0\n"
        "heavy = {'pandas', 'exchange_calendars', 'openpyxl', 'adlfs', 'duckdb', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["[]"]), done.stderr


def test_runs_are_listed_newest_first(demo_lake: Path, here: Here) -> None:
    found = here.json("runs", "hist_returns", "--limit", "3", "--lake", demo_lake)["runs"]
    assert [each["ref_date"] for each in found[:2]] == ["2026-10-31", "2026-09-30"]
    assert len(found) == 3
    lines = here("runs", "--limit", "0", "--lake", demo_lake)[0].splitlines()
    assert lines[-1].split()[2:4] == ["fx_rates", "done"], "the first of all comes last"


def test_a_failed_run_is_listed_with_its_error(lake: Path, here: Here) -> None:
    (lake / "enriched" / "parquet" / "assets.parquet").unlink()
    here("run", "hist_returns", "--lake", lake, code=1)
    out, _ = here("runs", "--limit", "1", "--lake", lake)
    assert "failed" in out
    assert "TableNotFoundError: There is no table assets" in out


def test_a_run_that_died_is_listed_as_such(lake: Path, here: Here) -> None:
    done = here.json("run", "holidays", "--lake", lake)
    killed = {**done, "status": "running", "ended_at": None, "duration_s": None, "rows": None}
    (lake / done["path"]).write_text(json.dumps(killed), encoding="utf-8")
    out, _ = here("runs", "holidays", "--limit", "1", "--lake", lake)
    assert out.splitlines()[1].split()[2:4] == ["holidays", "died"]
    assert here.json("runs", "holidays", "--lake", lake)["runs"][0]["status"] == "died"


def test_no_runs_yet(tmp_path: Path, here: Here) -> None:
    assert here("runs", "--lake", tmp_path)[1] == "No runs yet; `luxor run NAME` makes one.\n"


# --- tables and show --------------------------------------------------------------------------


def test_tables(demo_lake: Path, here: Here) -> None:
    found = {each["name"]: each for each in here.json("tables", "--lake", demo_lake)["tables"]}
    assert {name: (each["layout"], each["files"]) for name, each in found.items()} == {
        "assets": ("file", 1),
        "hist_ecb_px_last": ("year", 7),
        "hist_returns": ("month", 13),
        "hist_non_bbg_px_last": ("file", 1),
        "holidays_exchange": ("file", 1),
    }
    size = sum(path.stat().st_size for path in (demo_lake / "enriched/parquet/hist_returns").rglob("*.parquet"))
    assert found["hist_returns"]["bytes"] == size
    assert f"{size:,}" in here("tables", "--lake", demo_lake)[0]


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A lake with a table of all types, with values missing."""
    frame = pd.DataFrame(
        {
            "Date": pd.to_datetime(["2026-10-29", "2026-10-30", "2026-10-31", None]),
            "Name": ["Alfa, S.A.", "Beta", None, "Gama\nDelta"],
            "Price": [0.1 + 0.2, -2.0, None, 1234567890.125],
            "At": pd.to_datetime(
                ["2026-10-29 00:00:00", "2026-10-30 23:59:59", "2026-10-31 12:00:00", "2026-11-01 00:00:00"], utc=True
            ),
            "Flag": [True, False, True, False],
        }
    )
    folder = tmp_path / "enriched" / "parquet"
    folder.mkdir(parents=True)
    frame.to_parquet(folder / "sample.parquet", index=False)  # as any other program would write it
    return tmp_path


def names(here: Here, lake: Path, *conditions: str) -> list[str | None]:
    arguments = [part for condition in conditions for part in ("--where", condition)]
    rows = here.json("show", "sample", "--columns", "Name", "--sort", "Date", *arguments, "--lake", lake)["rows"]
    return [row["Name"] for row in rows]


ALFA, BETA, NOBODY, GAMA = "Alfa, S.A.", "Beta", None, "Gama\nDelta"


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], [ALFA, BETA, NOBODY, GAMA]),
        (["Date=2026-10-30"], [BETA]),
        (["Date!=2026-10-30"], [ALFA, NOBODY]),
        (["Date<2026-10-30"], [ALFA]),
        (["Date<=2026-10-30"], [ALFA, BETA]),
        (["Date>2026-10-30"], [NOBODY]),
        (["Date >= 2026-10-30"], [BETA, NOBODY]),
        (["At<=2026-10-30"], [ALFA, BETA]),  # all of that day
        (["At>2026-10-30"], [NOBODY, GAMA]),
        (["At=2026-10-30"], [BETA]),
        (["At>=2026-10-31T12:00:00"], [NOBODY, GAMA]),
        (["At<2026-10-31T09:00:00-03:00"], [ALFA, BETA]),  # which is 12:00 UTC
        (["Price<0"], [BETA]),
        (["Price=-2"], [BETA]),
        (["Price!=-2"], [ALFA, GAMA]),
        (["Price="], [NOBODY]),
        (["Price!="], [ALFA, BETA, GAMA]),
        (["Name=BETA"], [BETA]),
        (["Name!=beta"], [ALFA, GAMA]),
        (["name="], [NOBODY]),
        (["Name>b", "Price>0"], [GAMA]),
        (["Flag=true"], [ALFA, NOBODY]),
        (["Date>=2026-10-30", "Date<=2026-10-31", "Flag=false"], [BETA]),
        (["Name=a=b"], []),
    ],
    ids=lambda value: " and ".join(value) if value and all(isinstance(v, str) for v in value) else "",
)
def test_conditions(sample: Path, here: Here, conditions: list[str], expected: list[str | None]) -> None:
    assert names(here, sample, *conditions) == expected


@pytest.mark.parametrize(
    ("condition", "code", "words"),
    [
        ("Date", 2, "is not a condition"),
        ("=1", 2, "is not a condition"),
        ("Date>", 2, "compares with nothing"),
        ("Date=31/10/2026", 2, "which holds dates.\nWrite a date like 2026-10-31."),
        ("Date=2026-10-31T00:00:00Z", 2, "which holds dates.\nWrite a date like 2026-10-31."),
        ("Price=abc", 2, "which holds numbers.\nWrite a number like 0.1"),
        ("Price=nan", 2, "Write a number"),
        ("Flag=maybe", 2, "Write true or false"),
        ("Prise=1", 1, "It has: Date, Name, Price, At, Flag."),
    ],
)
def test_conditions_that_are_none(sample: Path, here: Here, condition: str, code: int, words: str) -> None:
    assert words in here("show", "sample", "--where", condition, "--lake", sample, code=code)[1]


def test_missing_is_a_dash_in_a_table_null_in_json_and_empty_in_csv(sample: Path, here: Here) -> None:
    arguments = ("show", "sample", "--columns", "Date,Price,Name", "--sort", "Date", "--lake", sample)
    out, err = here(*arguments)
    assert out.splitlines() == [
        "Date                      Price  Name",
        "2026-10-29  0.30000000000000004  Alfa, S.A.",
        "2026-10-30                   -2  Beta",
        "2026-10-31                    –  –",
        "–                1234567890.125  Gama Delta",
    ]
    assert err == "4 of 4 rows\n"
    rows = here.json(*arguments)["rows"]
    assert rows[2] == {"Date": "2026-10-31", "Price": None, "Name": None}
    found = list(csv.reader(io.StringIO(here(*arguments, "--csv")[0])))
    assert found[1:] == [
        ["2026-10-29", "0.30000000000000004", "Alfa, S.A."],
        ["2026-10-30", "-2", "Beta"],
        ["2026-10-31", "", ""],
        ["", "1234567890.125", "Gama\nDelta"],
    ]


def test_limits(demo_lake: Path, here: Here) -> None:
    arguments = ("show", "hist_returns", "--columns", "key,return", "--lake", demo_lake)
    out, err = here(*arguments)
    assert (len(out.splitlines()), err) == (21, "20 of 3,978 rows\n")
    out, err = here(*arguments, "--limit", "0")
    assert (len(out.splitlines()), err) == (3979, "3,978 of 3,978 rows\n")
    assert here(*arguments, "--limit", "9" * 20)[0] == out
    found = here.json(*arguments, "--limit", "2")
    assert (found["total_rows"], len(found["rows"]), found["columns"]) == (3978, 2, ["Key", "Return"])


# --- find -------------------------------------------------------------------------------------


def test_an_asset_is_found_by_a_part_of_its_name(demo_lake: Path, here: Here) -> None:
    out, err = here("find", "EURO", "--lake", demo_lake)
    lines = out.splitlines()
    assert lines[0].split()[-2:] == ["First_Date", "Last_Date"]
    assert "eurusd curncy" in lines[1]
    assert err == "1 asset\n"
    (row,) = here.json("find", "euro", "--lake", demo_lake)["rows"]
    assert (row["Key"], row["Currency"]) == ("eur_eurusd curncy", "usd")
    assert row["First_Date"] < row["Last_Date"]
    assert len(here.json("find", "curncy", "--limit", "3", "--lake", demo_lake)["rows"]) == 3
    out, err = here("find", "no such thing", "--lake", demo_lake)
    assert (len(out.splitlines()), err) == (1, "No asset has a name like that.\n")
    assert here.json("find", "no such thing", "--lake", demo_lake)["rows"] == []


# --- returns ----------------------------------------------------------------------------------


def test_returns_are_percentages_and_fractions_in_json_and_csv(demo_lake: Path, here: Here) -> None:
    out, err = here("returns", "--currency", "usd", "--lake", demo_lake)
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["Key", "Name", "mtd", "qtr", "ytd", "12m", "24m", "36m", "Status"]
    assert err == "Returns to 2026-10-31 in usd, 17 assets\n"
    found = here.json("returns", "--currency", "usd", "--lake", demo_lake)
    assert (found["ref_date"], found["currency"], len(found["rows"])) == ("2026-10-31", "usd", 17)
    euro = next(row for row in found["rows"] if row["Key"] == "eur_eurusd curncy")
    (shown,) = [line for line in lines if line[0] == "eur_eurusd"]
    assert shown[3:5] == [f"{100 * euro['mtd']:.2f}%", f"{100 * euro['qtr']:.2f}%"]
    out, _ = here("returns", "--currency", "usd", "--csv", "--lake", demo_lake)
    (row,) = (row for row in csv.DictReader(io.StringIO(out)) if row["Key"] == "eur_eurusd curncy")
    assert float(row["36m"]) == euro["36m"], "to the last digit"


def test_a_return_that_cannot_be_stated_is_a_dash_with_its_reason(lake: Path, here: Here) -> None:
    lq = LuxorQuery(lake=lake.as_uri())
    assets = lq.get_table("assets")
    assets.loc[assets["Key"] == "eur_eurusd curncy", ["Ticker", "Ticker_BBG"]] = "nothing curncy"
    save_table("assets", assets, lq=lq, mode="replace")
    here("run", "hist_returns", "--ref-date", "2026-10-31", "--lake", lake)
    arguments = ("returns", "--lake", lake)
    (line,) = [line for line in here(*arguments)[0].splitlines() if line.startswith("eur_")]
    assert line.split()[3:9] == ["–"] * 6
    row = next(row for row in here.json(*arguments)["rows"] if row["Key"].startswith("eur_"))
    assert (row["mtd"], row["36m"]) == (None, None)
    assert row["Status"].startswith("mtd: ")


def test_returns_of_a_month_that_is_not_stored(demo_lake: Path, here: Here) -> None:
    _, err = here("returns", "--ref-date", "2019-05-31", "--lake", demo_lake, code=1)
    assert "luxor run hist_returns --ref-date 2019-05-31" in err


# --- archive ----------------------------------------------------------------------------------


def test_check_of_a_lake_in_order(demo_lake: Path, here: Here) -> None:
    out, err = here("check", "--lake", demo_lake)
    assert (out, err) == ("", "5 tables, 23 files: 0 errors, 0 warnings\n")
    found = here.json("check", "hist_returns", "--lake", demo_lake)
    assert found == {"schema_version": 1, "tables": 1, "files": 13, "errors": 0, "warnings": 0, "findings": []}


def test_check_lists_what_is_wrong_and_changes_nothing(lake: Path, here: Here) -> None:
    (lake / "enriched/parquet/hist_returns/month=2026-05/data.parquet").write_bytes(b"torn")
    shutil.rmtree(lake / "enriched/parquet/hist_returns/month=2026-06")
    before = contents(lake)
    out, err = here("check", "--lake", lake, code=1)
    header, *lines = out.splitlines()
    assert header.split() == ["Severity", "Table", "Partition", "Count", "What", "Sample"]
    assert [line.split()[:4] for line in lines] == [
        ["error", "hist_returns", "2026-05", "1"],
        ["error", "hist_returns", "–", "1"],
    ]
    assert err == "5 tables, 22 files: 2 errors, 0 warnings\n"
    assert contents(lake) == before
    found = here.json("check", "hist_returns", "--lake", lake, code=1)
    assert found["errors"] == 2
    assert found["findings"][1] == {
        "severity": "error",
        "table": "hist_returns",
        "partition": "",
        "what": "months between others are missing",
        "count": 1,
        "sample": "'2026-06'",
    }


def test_warnings_fail_the_check_only_where_asked_for(lake: Path, here: Here) -> None:
    (lake / "enriched/parquet/hist_returns/notes.txt").write_text("by hand", encoding="utf-8")
    assert here("check", "--lake", lake)[1].endswith("0 errors, 1 warning\n")
    here("check", "--strict", "--lake", lake, code=1)


def test_archive_moves_a_table_and_all_its_files(lake: Path, here: Here) -> None:
    folder = lake / "enriched/parquet"
    before = contents(lake)
    out, _ = here("archive", "Hist_Returns", "--yes", "--lake", lake)
    moved = out.splitlines()
    assert len(moved) == 14
    assert not list(folder.glob("hist_returns/**/*.parquet"))
    after = contents(lake)
    for path in moved:
        head, stamp, original = path.split("/", 2)
        assert (head, len(stamp)) == ("archive", 16)
        assert after[path] == before[original]
    assert "hist_returns" not in here("tables", "--lake", lake)[0]
    here("run", "hist_returns", "--ref-date", "2026-10-31", "--lake", lake)
    assert (folder / "hist_returns/month=2026-10/data.parquet").exists(), "a new one can be made"


def test_archive_moves_both_layouts_so_that_none_shines_through(lake: Path, here: Here) -> None:
    shutil.copy(lake / "enriched/parquet/assets.parquet", lake / "enriched/parquet/hist_returns.parquet")
    assert len(here.json("archive", "hist_returns", "-y", "--lake", lake)["moved_to"]) == 15


def test_of_a_file_that_hides_months_archive_shows_both_and_moves_one(lake: Path, here: Here) -> None:
    before = contents(lake)
    shutil.copy(lake / "enriched/parquet/assets.parquet", lake / "enriched/parquet/hist_returns.parquet")
    out, err = here("archive", "hist_returns", "--only", "file", "--yes", "--lake", lake)
    assert "file: one file (" in err
    assert "partitions: 13 months (" in err
    assert ", 2025-10 to 2026-10, written " in err
    assert [path.split("/", 2)[2] for path in out.split()] == ["enriched/parquet/hist_returns.parquet"]
    assert contents(lake / "enriched") == {
        path.removeprefix("enriched/"): data for path, data in before.items() if path.startswith("enriched/")
    }
    _, err = here("archive", "hist_returns", "--only", "file", "--yes", "--lake", lake, code=2)
    assert "hist_returns has no single file" in err


def test_restore_puts_a_table_back(lake: Path, here: Here) -> None:
    before = contents(lake / "enriched")
    moved = here.json("archive", "hist_returns", "-y", "--lake", lake)["moved_to"]
    assert contents(lake / "enriched") != before
    found = here.json("restore", "hist_returns", "--lake", lake)
    assert [f"{found['from']}/{path}" for path in found["restored"]] == moved
    assert contents(lake / "enriched") == before
    _, err = here("restore", "hist_returns", "--lake", lake, code=2)
    assert "There is a table hist_returns" in err
    here("archive", "hist_returns", "-y", "--lake", lake)
    stamp = found["from"].removeprefix("archive/")
    out, err = here("restore", "Hist_Returns", "--from", stamp, "--lake", lake)
    assert len(out.splitlines()) == 14
    assert err == f"Restored 14 files of hist_returns from archive/{stamp}/\n"
    _, err = here("restore", "nothing", "--lake", lake, code=1)
    assert "no table nothing." in err


def test_a_move_that_was_cut_short_is_told_until_it_is_completed(lake: Path, here: Here) -> None:
    (lake / "enriched/parquet/hist_returns/_moving.json").write_text('{"stamp": "20260101T000000Z", "only": null}')
    _, err = here("show", "hist_returns", "--lake", lake, code=4)
    assert "is being moved to the archive or back" in err
    assert "`luxor archive hist_returns` completes the move" in err
    assert "luxor restore hist_returns" in err
    here("check", "hist_returns", "--lake", lake, code=1)
    here("restore", "hist_returns", "--lake", lake)
    here("show", "hist_returns", "--limit", "1", "--lake", lake)


def test_archive_without_a_yes_moves_nothing(lake: Path) -> None:
    before = contents(lake)
    done = luxor("archive", "assets", "--lake", lake)
    assert done.returncode == 2
    assert "Add --yes." in done.stderr
    assert contents(lake) == before


# --- optimize ---------------------------------------------------------------------------------


def test_optimize_says_what_it_would_do_does_it_and_is_done(lake: Path, here: Here) -> None:
    prices = pd.DataFrame({"Date": ["2026-10-30", "2026-09-30"], "Asset": "x", "Last_Price": ["2.0", "nan"]})
    prices.to_parquet(lake / "enriched/parquet/custom_prices.parquet")
    before = (lake / "enriched/parquet/custom_prices.parquet").read_bytes()
    call = ("optimize", "custom_prices", "--layout", "year", "--lake", lake)

    planned = here.json(*call, "--dry-run")
    assert (planned["dry_run"], planned["changed"], planned["sorted_by"]) == (True, True, ["Date", "Asset"])
    assert (lake / "enriched/parquet/custom_prices.parquet").read_bytes() == before
    out, err = here(*call, "--yes")
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["Layout", "Columns", "Files"]
    assert lines[1].split()[:5] == ["before", "file", "text", "1", "2"]
    assert lines[2].split()[:5] == ["after", "year", "typed", "1", "2"]
    assert err.splitlines()[-1] == "1 file rewritten"
    assert planned["after"]["bytes"] == sum(
        path.stat().st_size for path in (lake / "enriched/parquet/custom_prices").rglob("*.parquet")
    )
    _, err = here("optimize", "custom_prices", "--lake", lake)  # nothing is converted: no yes is needed
    assert err.splitlines()[-1] == "Nothing to do."


def test_optimize_converts_nothing_without_a_yes(lake: Path) -> None:
    path = lake / "enriched/parquet/custom_prices.parquet"
    pd.DataFrame({"Date": ["2026-10-30"], "Asset": ["x"], "Last_Price": ["2.0"]}).to_parquet(path)
    before = path.read_bytes()
    done = luxor("optimize", "custom_prices", "--lake", lake)
    assert done.returncode == 2
    assert "Converting custom_prices (all text becomes dates, numbers and flags) needs a yes" in done.stderr
    assert path.read_bytes() == before


def test_optimize_asks_before_a_column_gets_another_type(lake: Path, here: Here) -> None:
    path = lake / "enriched/parquet/custom_prices.parquet"
    pq.write_table(pa.table({"Date": [date(2026, 10, 30)], "Asset": ["x"], "Last_Price": [2]}), path)
    before = path.read_bytes()
    done = luxor("optimize", "custom_prices", "--lake", lake)
    assert (done.returncode, path.read_bytes() == before) == (2, True)
    assert "Date turns from date32[day] into timestamp[us]" in done.stderr
    here("optimize", "custom_prices", "--yes", "--lake", lake)
    assert here("optimize", "custom_prices", "--lake", lake)[1].endswith("Nothing to do.\n")


# --- columns ----------------------------------------------------------------------------------


def test_a_column_is_added_and_dropped(lake: Path, here: Here, tmp_path: Path) -> None:
    volumes = tmp_path / "volumes.csv"
    volumes.write_text("Date,Asset,Volume\n2026-09-30,x,1\n2026-10-30,x,2\n")
    here("load", "volumes", volumes, "--lake", lake)
    call = ("add-column", "volumes", "Source", "--type", "text")
    before = contents(lake)
    planned = here.json(*call, "--dry-run", "--lake", lake)
    assert (planned["dry_run"], planned["changed"], planned["values"], planned["rewritten"]) == (True, True, 0, [""])
    assert contents(lake) == before

    volumes.write_text("Date,Asset,Volume,Source\n2026-10-30,x,2,bank\n")
    _, err = here("load", "volumes", volumes, "--lake", lake, code=1)
    hint = re.search(r"`luxor (add-column .*?)`", err)
    assert hint is not None, "the refusal has the command"
    assert "unknown: 'Source'" in err
    out, _ = here(*shlex.split(hint[1]), "--lake", lake)
    assert out == "Column Source added to volumes: 1 file written.\n"
    assert here(*call, "--lake", lake)[0] == "Table volumes has the column Source already.\n"
    here("load", "volumes", volumes, "--lake", lake)

    out, _ = here("drop-column", "volumes", "Source", "--dry-run", "--lake", lake)
    assert out == "Column Source would be dropped from volumes, with 1 value: 1 file to write.\n"
    out, _ = here("drop-column", "volumes", "Source", "--yes", "--lake", lake)
    assert out == "Column Source dropped from volumes, with 1 value: 1 file written.\n"
    assert here.json("describe", "volumes", "--lake", lake)["columns"][-2]["Column"] == "Volume"


def test_a_column_is_not_dropped_without_a_yes(lake: Path) -> None:
    save_table("volumes", pd.DataFrame({"Key": ["a", "b"], "Volume": [1.0, None]}), lq=LuxorQuery(lake=lake.as_uri()))
    before = contents(lake)
    done = luxor("drop-column", "volumes", "Volume", "--lake", lake)
    assert done.returncode == 2
    assert "Dropping a column with 1 value needs a yes" in done.stderr
    assert contents(lake) == before


# --- going wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("rum", 2, "No such command 'rum'"),
        ("run", 2, "Name the pipelines to run"),
        ("run fx_rates --colour blue", 2, "No such option"),
        ("show assets --limit many --lake {lake}", 2, "--limit"),
        ("show assets --limit -1 --lake {lake}", 2, "--limit"),
        ("returns --currency eur --lake {lake}", 2, "'--currency': 'eur' is not one of"),
        ("run hist_retruns --lake {lake}", 2, "Did you mean hist_returns?"),
        ("run hist_returns --ref-date 31/10/2026 --lake {lake}", 2, "'31/10/2026' is not an ISO date"),
        ("run hist_returns --ref-date 2099-01-31 --lake {lake}", 2, "has not ended yet"),
        ("backfill hist_returns --from 2026-13 --lake {lake}", 2, "or a month like 2026-10."),
        ("returns --ref-date 2026-13 --lake {lake}", 2, "or a month like 2026-10."),
        ("runs --since 31/10/2026 --lake {lake}", 2, "or a month like 2026-10."),
        ("tables --lake {lake}/enriched/parquet/assets.parquet", 3, "is a file, and a lake is a folder."),
        ("inspect {lake}", 2, "is a folder."),
        ("put {lake} raw/prices --lake {lake}", 2, "is a folder."),
        ("run fx_rates --table t --lake {lake}", 2, "no parameter 'table'"),
        ("run fx_rates --param fetch --lake {lake}", 2, "key=value"),
        ("show ../assets --lake {lake}", 2, "'../assets' is not a table's name"),
        ("archive ../assets --yes --lake {lake}", 2, "'../assets' is not a table's name"),
        ("runs ../x --lake {lake}", 2, "is not a name inside the lake"),
        ("check nothing --lake {lake}", 2, "There is no table nothing"),
        ("check ../assets --lake {lake}", 2, "'../assets' is not a table's name"),
        ("check", 3, "LUXOR_LAKE_URL"),
        ("show nothing --lake {lake}", 1, "There is no table nothing"),
        ("show hist_retruns --lake {lake}", 1, "Did you mean hist_returns?"),
        ("describe asset --lake {lake}", 1, "Did you mean assets?"),
        ("check asset --lake {lake}", 2, "Did you mean assets?"),
        ("archive nothing --yes --lake {lake}", 1, "There is no table nothing"),
        ("optimize nothing --lake {lake}", 1, "There is no table nothing"),
        ("optimize ../assets --lake {lake}", 2, "'../assets' is not a table's name"),
        ("optimize hist_returns --layout year --lake {lake}", 2, "is split by month, and is not turned into year"),
        ("optimize hist_returns --layout week --lake {lake}", 2, "week"),
        ("optimize assets --sort-by Nmae --yes --lake {lake}", 2, "no column 'Nmae'"),
        ("optimize assets --type Name --yes --lake {lake}", 2, "--type 'Name' says not what a column holds"),
        ("add-column nothing X --type text --lake {lake}", 1, "There is no table nothing"),
        ("add-column assets X --lake {lake}", 2, "--type"),
        ("add-column assets X --type float --lake {lake}", 2, "float"),
        ("add-column assets name --type text --lake {lake}", 2, "has a column 'Name', which differs"),
        ("drop-column ../assets X --yes --lake {lake}", 2, "'../assets' is not a table's name"),
        ("drop-column assets Nmae --yes --lake {lake}", 1, "has no column 'Nmae'; it has 'Key'"),
        ("drop-column assets Name --yes --lake {lake}", 2, "is a declared column"),
        ("drop-column hist_returns Return --yes --lake {lake}", 2, "is a declared column"),
        ("show assets --columns Key,Kee --lake {lake}", 1, "It has: Key, Name,"),
        ("tables", 3, "LUXOR_LAKE_URL"),
        ("run hist_returns", 3, "LUXOR_LAKE_URL"),
        ("returns --lake {lake}/raw", 1, "Run the pipeline: luxor run hist_returns"),
        ("tables --lake {lake}/nowhere", 3, "does not exist"),
        ("tables --lake ftpx://a/b", 3, "is not a lake's address"),
        ("tables --lake=", 3, "--lake is empty"),
    ],
)
def test_wrong_inputs(lake: Path, here: Here, arguments: str, code: int, words: str) -> None:
    out, err = here(*[part.format(lake=lake) for part in arguments.split()], code=code)
    assert words in err
    assert "Error: " in err
    assert out == ""
    assert "Traceback" not in err


def test_a_corrupt_file(lake: Path, here: Here) -> None:
    (lake / "enriched/parquet/assets.parquet").write_bytes(b"PAR1 not really")
    _, err = here("show", "assets", "--lake", lake, code=1)
    assert "enriched/parquet/assets.parquet is not a readable Parquet file" in err
    here("run", "hist_returns", "--ref-date", "2026-10-31", "--lake", lake, code=1)


def test_empty_assets(lake: Path, here: Here) -> None:
    lq = LuxorQuery(lake=lake.as_uri())
    save_table("assets", lq.get_table("assets").iloc[:0], lq=lq, mode="replace")
    before = contents(lake)
    _, err = here("run", "hist_returns", "--ref-date", "2026-10-31", "--lake", lake, code=1)
    assert "assets" in err
    assert contents(lake) == before


def test_two_formats_at_once(demo_lake: Path, here: Here) -> None:
    for command in (["show", "assets"], ["returns"]):
        assert "Two of --json, --csv and --xlsx" in here(*command, "--json", "--csv", "--lake", demo_lake, code=2)[1]


def test_errors_as_json(demo_lake: Path, here: Here) -> None:
    error = here.json("show", "nothing", "--lake", demo_lake, code=1)["error"]
    assert error["class"] == "TableNotFoundError"
    assert error["message"].startswith("There is no table nothing")
    assert error["hint"] == "`luxor tables` lists what there is."
    assert here.json("run", code=2)["error"]["message"]


@pytest.mark.parametrize(
    "connection",
    [
        "garbage",
        "DefaultEndpointsProtocol=https;AccountName=a",
        # Well formed, but nobody listens there.
        "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=c2VjcmV0a2V5;BlobEndpoint=http://127.0.0.1:9/a;",
    ],
)
def test_a_wrong_connection_string(connection: str) -> None:
    done = luxor("tables", AZURE_STORAGE_CONNECTION_STRING=connection, LUXOR_RETRIES="0", LUXOR_CONNECT_TIMEOUT="1")
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("Error: ")
    assert "c2VjcmV0a2V5" not in done.stderr
    assert done.stdout == ""


def test_a_conflict(tmp_path: Path, site: Path) -> None:
    done = luxor("run", "conflict", "--lake", tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 4
    assert done.stderr.endswith("Error: Table t: other writers came first 12 times.\nRun the load again.\n")


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_pipeline_that_ends_the_process_has_failed(lake: Path, site: Path, dry: list[str]) -> None:
    done = luxor("run", "leaves", *dry, "--lake", lake, PYTHONPATH=beside(site))
    assert done.returncode == 1
    assert "Error: acme_wrong:leaves called sys.exit(0) while it ran." in done.stderr


def test_no_failure_of_a_pipeline_stops_the_others(lake: Path, site: Path) -> None:
    names = ("unexpected", "leaves", "unreadable", "holidays")
    done = luxor("run", *names, "--lake", lake, "--json", PYTHONPATH=beside(site))
    assert done.returncode == 1
    told = json.loads(done.stdout)["runs"]
    assert [run["error"] and run["error"]["class"] for run in told] == [
        "ValueError", "LuxorError", "ConfigurationError", None
    ]  # fmt: skip
    assert "abc123def" not in done.stdout + done.stderr
    again = luxor("retry", "--failed", "--lake", lake, PYTHONPATH=beside(site))
    assert (again.returncode, again.stderr.count(" failed: ")) == (1, 2)
    done = luxor("status", "--lake", lake, PYTHONPATH=beside(site))
    assert done.returncode == 0, done.stderr
    assert "unreadable (acme_unreadable, of acme-wrong) cannot be imported: SyntaxError: " in done.stderr


def test_an_unexpected_error_is_one_line_without_secrets(tmp_path: Path, site: Path) -> None:
    done = luxor("run", "unexpected", "--lake", tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 1
    line = "Unexpected ValueError: first line AccountKey=*** second line (run with --debug for the traceback)"
    assert done.stderr.splitlines()[-1] == line
    assert "Traceback" not in done.stderr
    for arguments in (["--debug", "run", "unexpected"], ["run", "unexpected", "--debug"]):
        done = luxor(*arguments, "--lake", tmp_path, PYTHONPATH=str(site))
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "acme_wrong.py" in done.stderr
        assert "abc123def" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals are sent another way there")
def test_an_interruption(tmp_path: Path, site: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "luxor_pipelines", "run", "endless", "--lake", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "Interrupted."
    assert "Traceback" not in err
    (found,) = (tmp_path / "system/runs/endless").glob("*.json")
    assert json.loads(found.read_bytes())["error"]["class"] == "KeyboardInterrupt"


# --- pipes and terminals ----------------------------------------------------------------------


def test_a_reader_that_has_had_enough_is_no_error(demo_lake: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "luxor_pipelines", "show", "hist_ecb_px_last", "--limit", "0", "--lake", str(demo_lake)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("Date")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0
    assert err.splitlines() == ["52,530 of 52,530 rows"]


def test_a_pipe_gets_plain_whole_lines_in_utf_8_whatever_the_locale(sample: Path) -> None:
    done = luxor("show", "sample", "--lake", sample, COLUMNS="40", PYTHONUTF8="0", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "0.30000000000000004" in done.stdout
    assert "–" in done.stdout
    assert ANSI not in done.stdout
    assert not BOXES & set(done.stdout)


def on_a_terminal(*args: object, columns: int) -> str:
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(
        [sys.executable, "-m", "luxor_pipelines", *map(str, args)],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
    ):  # fmt: skip
        os.close(theirs)
        pieces = []
        try:
            while piece := os.read(ours, 4096):
                pieces.append(piece)
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(ours)
    return b"".join(pieces).decode()


@pytest.mark.skipif(os.name == "nt", reason="has no pseudo-terminals")
def test_a_terminal_gets_a_drawn_table_with_losses_in_red(demo_lake: Path) -> None:
    out = on_a_terminal("returns", "--currency", "usd", "--lake", demo_lake, columns=120)
    assert BOXES & set(out)
    assert "\x1b[31m" in out
    red = out.split("\x1b[31m")[1].split("\x1b")[0]
    assert red.strip().startswith("-")
    assert red.endswith("%")


HOSTILE = {
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "clear": "a\x1b[2J\x1b[H",
    "c1": "a\x9b2Jb",
    "back": "safe\x08\x08\x08\x08evil",
    "return": "first\rsecond",
    "delete": "a\x7fb",
    "turned": "gpj.\u202exslx",
    "turned-in-part": "a\u2067b\u2066c",
    "line": "a\u2028b\x85c\nd",
}


@pytest.fixture
def hostile_lake(tmp_path: Path) -> Path:
    """A lake with a table of another program whose cells and a column's name are commands to a terminal."""
    folder = tmp_path / "lake/enriched/parquet"
    folder.mkdir(parents=True)
    rows = {"Name": list(HOSTILE.values()), "X\x1b[31m": list(HOSTILE)}
    pq.write_table(pa.table(rows), folder / "t.parquet")
    return folder.parent.parent


def commands(text: str) -> str:
    """The control characters in what was printed, but for line breaks and what draws a table."""
    plain = re.sub(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\r\n", "", text)
    return "".join(letter for letter in plain if unicodedata.category(letter) in {"Cc", "Cf", "Zl"} - {"\n"})


@pytest.mark.skipif(os.name == "nt", reason="has no pseudo-terminals")
@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"]])
def test_cells_command_no_terminal(hostile_lake: Path, form: list[str]) -> None:
    out = on_a_terminal("show", "t", "--lake", hostile_lake, *form, columns=200)
    assert "owned" in out
    assert commands(out).strip("\n\t") == ""
    assert "\x1b[31m" not in out.replace("\\", "")


def test_cells_in_a_pipe_are_shown_in_a_table_and_exact_in_data(hostile_lake: Path) -> None:
    table = luxor("show", "t", "--lake", hostile_lake).stdout
    assert commands(table).strip("\n") == ""
    assert "\\x1b]0;owned\\x07" in table
    assert len(table.splitlines()) == 1 + len(HOSTILE)
    data = json.loads(luxor("show", "t", "--lake", hostile_lake, "--json").stdout)
    assert [row["Name"] for row in data["rows"]] == list(HOSTILE.values())
    assert data["columns"] == ["Name", "X\x1b[31m"]
    text = subprocess.run(
        [sys.executable, "-m", "luxor_pipelines", "show", "t", "--lake", str(hostile_lake), "--csv"],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout.decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[0] for row in rows[1:]] == list(HOSTILE.values())


def test_what_an_error_or_a_warning_quotes_commands_no_terminal(
    hostile_lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--lake", str(hostile_lake), "--json"]
    assert main(["show", "t", "--columns", "\x1b]0;owned\x07", *arguments]) == 1
    note("\x1b[2J")
    configure_logging(debug=True, verbose=False)
    logging.getLogger("luxor_pipelines").warning("%s", "\x1b[2J")
    out, err = capsys.readouterr()
    assert commands(out + err).strip("\n") == ""


@pytest.mark.skipif(os.name == "nt", reason="has no pseudo-terminals")
def test_a_narrow_terminal_leaves_out_columns_and_says_so(demo_lake: Path) -> None:
    command = ("show", "hist_returns", "--limit", "1", "--lake", demo_lake)
    out = on_a_terminal(*command, columns=66)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines()
    assert all(len(line) <= 66 for line in lines[:3])
    for column in ("Date", "Key", "Return", "Status"):
        assert column in lines[0]
    assert lines[3].startswith("Left out for want of room: Price_Key, ")
    out = on_a_terminal(*command, "--wide", columns=66)
    for column in ("Date", "Local_Currency", "Return", "Base_Price", "Last_Updated"):
        assert column in out


def test_the_newest_rows_come_first(sample: Path, here: Here) -> None:
    def column(*arguments: str) -> list[str]:
        out = here("show", "sample", "--columns", "Date", "--csv", *arguments, "--lake", sample)[0]
        return out.splitlines()[1:]

    assert column() == ["2026-10-31", "2026-10-30", "2026-10-29", '""']
    assert column("--limit", "1") == ["2026-10-31"]
    assert column("--limit", "2", "--tail") == ["2026-10-29", '""']
    assert column("--sort", "-Price") == ['""', "2026-10-29", "2026-10-30", "2026-10-31"]
    assert column("--sort", "price") == ["2026-10-30", "2026-10-29", '""', "2026-10-31"]
    assert column("--sort", "Flag,-Date") == ["2026-10-30", '""', "2026-10-31", "2026-10-29"]
    assert "has no column 'Prise'" in here("show", "sample", "--sort", "-Prise", "--lake", sample, code=1)[1]


def test_returns_are_sorted_narrowed_and_limited(demo_lake: Path, here: Here) -> None:
    arguments = ("returns", "--currency", "usd", "--lake", demo_lake)
    rows = here.json(*arguments)["rows"]
    best = here.json(*arguments, "--sort", "-12m", "--limit", "3")["rows"]
    assert [row["12m"] for row in best] == sorted(row["12m"] for row in rows if row["12m"] is not None)[:-4:-1]
    up = here.json(*arguments, "--where", "12m>0.05", "--where", "Status=ok")["rows"]
    assert {row["Key"] for row in up} == {row["Key"] for row in rows if (row["12m"] or 0) > 0.05}
    assert here(*arguments, "--limit", "1")[1].endswith(f"1 asset of {len(rows)}\n")


def test_csv_as_excel_in_brazil_reads_it(sample: Path, here: Here) -> None:
    arguments = ("show", "sample", "--columns", "Date,Price,Name", "--sort", "Date", "--lake", sample, "--csv")
    out, _ = here(*arguments, "--sep", ";", "--decimal", ",", "--bom")
    assert out.startswith("\ufeffDate;Price;Name\n2026-10-29;0,30000000000000004;Alfa, S.A.\n2026-10-30;-2;Beta\n")
    assert here(*arguments, "--sep", r"\t")[0].startswith("Date\tPrice\tName\n")
    for odd in (["--sep", ","], ["--sep", "x"], ["--decimal", "·"]):
        assert "cannot be read" in here(*arguments, "--decimal", ",", *odd, code=2)[1]
    assert "are for csv" in here("tables", "--sep", ";", "--lake", sample, code=2)[1]


@pytest.mark.parametrize(
    "command",
    [
        "tables",
        "show sample",
        "returns",
        "runs",
        "check",
        "status",
        "describe assets",
        "show hist_returns --limit 5",
        "sql 'SELECT 1 AS one'",
        "unlock",
        "optimize hist_returns --dry-run",
        "backfill hist_returns --from 2026-01 --to 2026-03 --dry-run",
        "retry --failed",
    ],
)
def test_every_table_is_written_as_a_workbook(
    command: str, demo_lake: Path, sample: Path, here: Here, tmp_path: Path
) -> None:
    from openpyxl import load_workbook

    lake = ["--lake", sample if "sample" in command else demo_lake]
    file = tmp_path / "out.xlsx"
    out, err = here(*shlex.split(command), "--xlsx", file, *lake)
    assert out == ""
    assert f"Written to {file}" in err
    header, *rows = load_workbook(file).active.iter_rows()
    if command == "returns":
        cell = rows[0][[name.value for name in header].index("12m")]
        assert (cell.number_format, isinstance(cell.value, float)) == ("0.00%", True)
    if command == "show sample":
        by_name = dict(zip((name.value for name in header), zip(*rows, strict=True), strict=True))
        assert [cell.value and cell.value.date() for cell in by_name["Date"]] == [
            date(2026, 10, 31), date(2026, 10, 30), date(2026, 10, 29), None
        ]  # fmt: skip
        assert by_name["Date"][0].number_format == "yyyy-mm-dd"
        assert all(cell.value is None or cell.value.tzinfo is None for cell in by_name["At"])
    if command.startswith("show hist_returns"):
        assert header[-1].value == "Last_Updated"
        assert all(row[-1].value is not None for row in rows)


def test_a_workbook_has_as_text_what_its_numbers_and_dates_do_not_hold(
    demo_lake: Path, here: Here, tmp_path: Path
) -> None:
    from openpyxl import load_workbook

    query = """
        select 9007199254740993 as above, 9007199254740992 as most, -9223372036854775807 as below, true as flag,
               date '1899-12-31' as old, date '1900-01-01' as first, timestamp '1850-01-01 10:00:00' as instant
    """
    here("sql", query, "--xlsx", tmp_path / "out.xlsx", "--lake", demo_lake)
    _, row = load_workbook(tmp_path / "out.xlsx").active.iter_rows(values_only=True)
    assert row == (
        "9007199254740993", 2**53, "-9223372036854775807", True,
        "1899-12-31", datetime(1900, 1, 1), "1850-01-01T10:00:00",
    )  # fmt: skip


def test_csv_of_files_and_runs_is_one_table_and_nothing_else(lake: Path, here: Here, tmp_path: Path) -> None:
    options = ("--csv", "--lake", lake)
    prices = tmp_path / "prices.csv"
    prices.write_text("Date,Asset,Last_Price\n2026-10-30,alpha,1.5\n2026-10-31,alpha,-1\n2026-10-31,beta,2\n")
    assert here("inspect", prices, *options)[0] == "Date,Asset,Last_Price\n2026-10-30,alpha,1.5\n2026-10-31,beta,2\n"
    out, err = here("load", "custom_prices", prices, "--dry-run", *options)
    assert out.splitlines()[0] == "Column,Type,Nulls,Example"
    assert len(out.splitlines()) == 4
    assert "nothing was written" in err
    assert here("doctor", *options)[0].startswith("Check,Outcome,Detail\n")
    here("run", "holidays", "--lake", lake)
    ident = here.json("runs", "holidays", "--lake", lake)["runs"][0]["id"]
    header, row = here("retry", ident, *options)[0].splitlines()
    assert header == "Started (UTC),Pipeline,Status,Ref_Date,Seconds,Rows,Changed,ID"
    assert row.split(",")[1:3] == ["holidays", "done"]


def test_quiet_tells_nothing_but_data_and_errors(lake: Path, here: Here) -> None:
    assert here("tables", "-q", "--lake", lake)[1] == ""
    assert here("-q", "show", "assets", "--lake", lake)[1] == ""
    out, err = here("run", "holidays", "--quiet", "--lake", lake)
    assert out.startswith("holidays done in ")
    assert err == ""
    assert here("show", "nothing", "-q", "--lake", lake, code=1)[1].startswith("Error: There is no table nothing")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("luxor sho", ["show"]),
        ("luxor run hist", ["hist_returns"]),
        ("luxor runs mark", ["market_prices"]),
        ("luxor show hist_r", ["hist_returns"]),
        ("luxor check ass", ["assets"]),
        ("luxor show nothing", []),
    ],
)
def test_the_shell_completes_commands_pipelines_and_tables(line: str, expected: list[str], demo_lake: Path) -> None:
    environment = {
        **os.environ,
        "LUXOR_LAKE_URL": str(demo_lake),
        "_LUXOR_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from luxor_pipelines.cli import main; raise SystemExit(main([]))"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == expected
    assert done.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="has no pseudo-terminals")
def test_progress_is_shown_on_a_terminal(lake: Path) -> None:
    assert "holidays is running" in on_a_terminal("run", "holidays", "--lake", lake, columns=100)
