"""Files of the lake that are damaged, or not what a table's file should be: reading and loading refuse them."""

from __future__ import annotations

import datetime as dt
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luxor_pipelines.cli import main
from luxor_pipelines.errors import CorruptFileError, LuxorError, SchemaError
from luxor_pipelines.ingest import incremental_load
from luxor_pipelines.operations import records, runs

FUZZER = Path(__file__).with_name("parquet_fuzzer.py")


def parquet(columns: Any, **options: Any) -> bytes:
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


DAYS = pa.array([dt.datetime(2026, 10, day) for day in range(1, 29)], pa.timestamp("us"))
PRICES = {"Date": DAYS, "Asset": ["fund"] * 28, "Last_Price": [float(i) for i in range(28)]}
GOOD = parquet(PRICES)
FOOTER = int.from_bytes(GOOD[-8:-4], "little")


def footer_says(length: int) -> bytes:
    return GOOD[:-8] + struct.pack("<I", length) + b"PAR1"


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


CORRUPT = {
    "zero-bytes": b"",
    "one-byte": b"P",
    "magic-alone": b"PAR1",
    "magic-twice": b"PAR1PAR1",
    "nul-bytes": bytes(1_000),
    "text": b"Date,Asset,Last_Price\n",
    "html": b"<html><body>Sign in</body></html>",
    "half": GOOD[: len(GOOD) // 2],
    "without-its-last-byte": GOOD[:-1],
    "without-its-magic": GOOD[:-4],
    "twice-the-end": GOOD + b"x",
    "footer-of-nothing": footer_says(0),
    "footer-of-2-GB": footer_says(2**31 - 1),
    "footer-of-4-GB": footer_says(2**32 - 1),
    "footer-longer-than-the-file": footer_says(len(GOOD)),
    "footer-cut-short": footer_says(FOOTER - 9),
    "footer-of-nul": patched(GOOD, len(GOOD) - 8 - FOOTER, bytes(FOOTER)),
    "footer-of-noise": patched(GOOD, len(GOOD) - 8 - FOOTER, np.random.default_rng(1).bytes(FOOTER)),
    "encrypted-magic": GOOD[:-4] + b"PARE",
    "pages-of-nul": patched(GOOD, 4, bytes(len(GOOD) - 12 - FOOTER)),
    "pages-of-noise": patched(GOOD, 4, np.random.default_rng(2).bytes(len(GOOD) - 12 - FOOTER)),
    "pages-missing": b"PAR1" + GOOD[len(GOOD) - 8 - FOOTER :],
    "feather": (lambda sink: (pa.ipc.new_file(sink, pa.table(PRICES).schema).close(), sink.getvalue().to_pybytes())[1])(
        pa.BufferOutputStream()
    ),
}
SCHEMAS = {
    "column-twice": parquet(pa.Table.from_arrays([DAYS, DAYS, pa.array(["a"] * 28)], names=["Date", "Date", "Asset"])),
    "no-columns": parquet(pa.table({})),
    "columns-missing": parquet({"Date": DAYS}),
    "columns-surplus": parquet({**PRICES, "Extra": [1] * 28}),
    "column-in-another-case": parquet({"date": DAYS, "Asset": ["a"] * 28, "Last_Price": [1.0] * 28}),
    "nested-lists": parquet({**PRICES, "Last_Price": [[1.0]] * 28}),
    "nested-structs": parquet({**PRICES, "Asset": [{"k": "a"}] * 28}),
    "maps": parquet({**PRICES, "Asset": pa.array([[("k", 1)]] * 28, pa.map_(pa.string(), pa.int64()))}),
    "bytes": parquet({**PRICES, "Asset": [b"\xff"] * 28}),
    "times-of-day": parquet({**PRICES, "Date": pa.array([dt.time(1)] * 28)}),
    "durations": parquet({**PRICES, "Last_Price": pa.array([1] * 28, pa.duration("us"))}),
    "flags-for-numbers": parquet({**PRICES, "Last_Price": [True] * 28}),
    "text-for-numbers": parquet({**PRICES, "Last_Price": ["x"] * 28}),
    "numbers-for-dates": parquet({**PRICES, "Date": list(range(28))}),
    "dates-with-zone": parquet({**PRICES, "Date": DAYS.cast(pa.timestamp("us", "UTC"))}),
}
TABLE = "enriched/parquet/t.parquet"
FRAME = pd.DataFrame({"Date": pd.to_datetime(["2026-10-05"]), "Asset": ["a"], "Last_Price": [9.0]})


@pytest.mark.parametrize("case", CORRUPT)
def test_a_damaged_file_is_named_and_left_as_it_is(
    case: str, lake: Any, refused: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lake.storage().write(TABLE, CORRUPT[case])
    for act in (
        lambda lq: lq.get_table("t"),
        lambda lq: lq.get_table("t", columns=["Asset"], where={"Date": ("2026-10-03", None)}),
        lambda lq: incremental_load(lq, "t", FRAME),
        lambda lq: incremental_load(lq, "t", FRAME, unique_columns=["Date", "Asset"]),
    ):
        with refused(lake, CorruptFileError, TABLE, "backup"):
            act(lake.query())
    assert main(["show", "t", "--lake", lake.arguments["lake"]]) == 1
    assert TABLE in capsys.readouterr().err


@pytest.mark.parametrize("case", ["zero-bytes", "half", "footer-of-2-GB", "pages-of-noise"])
def test_nor_is_it_taken_for_another_storage(case: str, any_lake: Any, refused: Any) -> None:
    any_lake.storage().write(TABLE, CORRUPT[case])
    with refused(any_lake, CorruptFileError, TABLE):
        any_lake.query().get_table("t")
    with refused(any_lake, CorruptFileError, TABLE):
        incremental_load(any_lake.query(), "t", FRAME)


@pytest.mark.parametrize("case", SCHEMAS)
def test_a_file_of_another_schema_takes_no_load(case: str, lake: Any, refused: Any) -> None:
    lake.storage().write(TABLE, SCHEMAS[case])
    with refused(lake, SchemaError):
        incremental_load(lake.query(), "t", FRAME, unique_columns=["Date", "Asset"])
    with refused(lake, SchemaError):
        incremental_load(lake.query(), "t", FRAME)


@pytest.mark.parametrize("case", SCHEMAS)
def test_and_is_read_as_it_is_or_refused(case: str, lake: Any, digest: Any) -> None:
    lake.storage().write(TABLE, SCHEMAS[case])
    before = digest(lake)
    try:
        lake.query().get_table("t")
    except LuxorError as error:
        told = error.hint
    else:
        told = "read"
    assert told
    assert digest(lake) == before


@pytest.mark.parametrize("case", [*CORRUPT, *SCHEMAS])
def test_returns_on_such_prices_fail_or_leave_them_out(case: str, lake: Any, refused: Any, digest: Any) -> None:
    storage = lake.storage()
    storage.write("enriched/parquet/hist_px_last.parquet", (CORRUPT | SCHEMAS)[case])
    before = digest(lake)
    try:
        runs.run("hist_returns", ref_date="2026-10-31", lq=lake.query())
    except LuxorError as error:
        hint = error.hint
    else:
        assert case in SCHEMAS
        return
    assert hint
    assert digest(lake) == before
    assert records.last_runs(lake.query())[0].status == "failed"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the fuzzer forks")
def test_no_damage_ends_the_process_or_gets_another_error() -> None:
    """A short run of what `nox -s fuzz` does for longer: Arrow's C++ must not abort, whatever bits are flipped."""
    done = subprocess.run(
        [sys.executable, str(FUZZER), os.environ.get("FUZZ_FILES", "1500"), "7"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    # Of a damaged statistic Arrow's C++ may still die, about once in ten thousand files; see docs/security.md.
    assert told.get("died", 0) <= told["files"] / 1_000, told["found"]
    assert not told.get("error"), told["found"]
    assert told["refused"] > told["read"] / 10


OTHER_TABLES = {
    "assets-keys-of-numbers": ("assets", {"Key": [1.0], "Location": ["bz"]}),
    "assets-nested": ("assets", {"Key": [["fund"]], "Location": ["bz"]}),
    "assets-without-keys": ("assets", {"Name": ["fund"]}),
    "assets-empty": ("assets", {"Key": pa.array([], pa.string()), "Ticker": pa.array([], pa.string())}),
    "adjustments-of-text": (
        "quota_adjustments",
        {"Fund": ["fund"], "Event_Date": ["yesterday"], "Ratio": ["half"]},
    ),
    "adjustments-without-dates": ("quota_adjustments", {"Fund": ["fund"], "Ratio": [0.5]}),
    "current-prices-of-text": ("px_last", {"Key": ["fund"], "px_last": ["x"], "last_update_dt": DAYS[:1]}),
    "current-prices-undated": ("px_last", {"Key": ["fund"], "px_last": [1.0], "last_update_dt": [True]}),
    "stored-returns-of-others": ("hist_returns", {"Date": DAYS[:1], "Other": [1.0]}),
}


@pytest.mark.parametrize("case", OTHER_TABLES)
def test_other_tables_of_another_schema_are_named(case: str, lake: Any, digest: Any) -> None:
    name, columns = OTHER_TABLES[case]
    lake.storage().write(f"enriched/parquet/{name}.parquet", parquet(columns))
    before = digest(lake)
    lq = lake.query()
    asks = (
        lambda: runs.run("hist_returns", ref_date="2026-10-31", lq=lq),
        lambda: lq.get_price("fund"),
        lambda: lq.get_pct_changes("fund", "2026-10-31", period="mtd"),
        lambda: lq.get_hist_returns(),
    )
    told = []
    for ask in asks:
        try:
            ask()
        except LuxorError as error:
            told.append(error)
        else:
            before = digest(lake)  # what has no need of the table does its work
        assert digest(lake) == before
    assert all(error.hint for error in told)
    assert any(name in str(error) for error in told)


def test_dates_that_python_lacks_are_shown(lake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    dates = pa.array(np.array(["0000-12-31", "2026-10-30", "10000-01-01"], "M8[us]"))
    lake.storage().write("enriched/parquet/odd.parquet", parquet({"Date": dates, "V": [1, 2, 3]}))
    for command in (["show", "odd"], ["show", "odd", "--json"], ["sql", "from odd"], ["describe", "odd"]):
        assert main([*command, "--lake", lake.arguments["lake"]]) == 0
        out = capsys.readouterr().out
        assert "10000-01-01" in out
        assert "0000-12-31" in out


def test_a_table_without_a_column_has_no_rows_to_query(lake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lake.storage().write("enriched/parquet/odd.parquet", parquet({}))
    assert main(["sql", "from odd", "--lake", lake.arguments["lake"]]) == 2
    assert "Error: DuckDB refuses the query: " in capsys.readouterr().err
