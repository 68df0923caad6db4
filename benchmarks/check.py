"""How long `luxor check` takes for 10 million prices, and how much memory: ``python benchmarks/check.py [ROWS]``.

Once as a legacy file of text, once typed and by year; each is made, then checked in a process of its own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from luxor_pipelines import open_lake
from luxor_pipelines.lake.parquet.file import to_bytes
from luxor_pipelines.lake.table.layout import PARTITION_COLUMN
from luxor_pipelines.lake.types.schema import ENCODING
from luxor_pipelines.operations.discovery import declared_schemas
from luxor_pipelines.quality.audit import audit

SERIES = 2000


def prices(rows: int) -> pa.Table:
    days = pd.bdate_range("2006-01-02", periods=rows // SERIES)
    names = np.array([f"asset {number:05d} us equity" for number in range(SERIES)], dtype=object)
    steps = np.random.default_rng(1).normal(0, 0.01, (len(days), SERIES))
    return pa.table(
        {
            "Date": np.repeat(days.to_numpy().astype("datetime64[us]"), SERIES),
            "Asset": np.tile(names, len(days)),
            "Last_Price": 100 * np.exp(np.cumsum(steps, axis=0)).ravel(),
        }
    )


def make(folder: Path, layout: str, table: pa.Table) -> None:
    folder = folder / "enriched/parquet"
    if layout == "text":
        dates = table["Date"].cast(pa.date32())
        table = pa.table([column.cast(pa.string()) for column in (dates, *table.columns[1:])], names=table.column_names)
        folder.mkdir(parents=True)
        (folder / "hist_px_last.parquet").write_bytes(to_bytes(table))
        return
    table = table.replace_schema_metadata({ENCODING: b"typed", PARTITION_COLUMN: b"Date"})
    years = table["Date"].to_numpy().astype("datetime64[Y]")
    for year in np.unique(years):
        place = folder / f"hist_px_last/year={year}"
        place.mkdir(parents=True)
        (place / "data.parquet").write_bytes(to_bytes(table.filter(pa.array(years == year))))


def check(folder: str) -> None:
    start = time.perf_counter()
    found = audit(open_lake(folder), declared=declared_schemas())
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes, on Linux
    print(f"{found.files} files, {len(found.findings)} findings: {took:.1f} s, peak {peak:.0f} MB")


def main() -> None:
    """Each step in a process of its own: a process's peak is never below that of the one that started it."""
    rows = sys.argv[1] if len(sys.argv) > 1 else "10000000"
    with tempfile.TemporaryDirectory() as folder:
        for layout in ("text", "year"):
            print(f"{layout}: ", end="", flush=True)
            for step in ("--make", "--check"):
                subprocess.run([sys.executable, __file__, step, str(Path(folder, layout)), layout, rows], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[2]), sys.argv[3], prices(int(sys.argv[4])))
    elif sys.argv[1:2] == ["--check"]:
        check(sys.argv[2])
    else:
        main()
