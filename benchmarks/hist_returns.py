"""How long `hist_returns` takes, and how much memory, on a synthetic lake.

    python benchmarks/hist_returns.py [--assets 2000] [--years 20] [--runs 7]

One typed file sorted by date, seeded; each run in a warm process of its own lake object. Prints the
median and the range in seconds, and the peak memory of the process that ran it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

REF = "2026-10-31"


def make_lake(folder: Path, assets: int, years: int) -> int:
    """Business-day prices of ``assets`` series up to the reference date; the number of rows."""
    rng = np.random.default_rng(20261031)
    end = np.datetime64("2026-10-31")
    days = np.arange(end - np.timedelta64(int(years * 365.25), "D"), end + 1)
    days = days[np.is_busday(days)]
    names = np.array([f"asset{n:04d} us equity" for n in range(assets - 1)] + ["usdbrl curncy"])
    logs = np.cumsum(rng.normal(0, 0.01, (len(days), assets)), axis=0)
    tables = folder / "enriched" / "parquet"
    tables.mkdir(parents=True)
    codes = np.tile(np.arange(assets, dtype=np.int32), len(days))
    prices = pa.table(
        {
            "Date": pa.array(np.repeat(days, assets).astype("datetime64[us]")),
            "Asset": pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names)).cast(pa.string()),
            "Last_Price": (100 * np.exp(logs)).ravel(),
        }
    )
    pq.write_table(prices, tables / "hist_px_last.parquet", row_group_size=128 * 1024)
    master = pa.table(
        {
            "Key": [f"{name.split()[0]}_{name}" for name in names],
            "Asset": [name.split()[0] for name in names],
            "Ticker": names,
            "Ticker_BBG": names,
            "Group": ["ações"] * assets,
            "Type": ["ações_us"] * assets,
            "Location": ["us"] * assets,
        }
    )
    pq.write_table(master, tables / "assets.parquet")
    return len(prices)


def measure(lake: str, runs: int, answers: Any) -> None:
    """Time ``runs`` computations and loads, each through a fresh `LuxorQuery`."""
    from luxor_pipelines import LuxorQuery
    from luxor_pipelines.pipelines import hist_returns

    hist_returns.get_returns(LuxorQuery(lake=lake), REF)  # warm: imports and the disk's cache
    compute, whole = [], []
    for _ in range(runs):
        started = time.perf_counter()
        hist_returns.get_returns(LuxorQuery(lake=lake), REF)
        compute.append(time.perf_counter() - started)
        started = time.perf_counter()
        hist_returns.run(REF, lq=LuxorQuery(lake=lake))
        whole.append(time.perf_counter() - started)
    answers.put((compute, whole, peak_mib()))


def peak_mib() -> float:
    """The most memory this process has held, not counting what its parent held before it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=int, default=2000)
    parser.add_argument("--years", type=float, default=20)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = make_lake(Path(folder), options.assets, options.years)
        context = multiprocessing.get_context("spawn")
        answers: Any = context.Queue()
        process = context.Process(target=measure, args=(Path(folder).as_uri(), options.runs, answers))
        process.start()
        compute, whole, peak = answers.get()
        process.join()
    print(f"{options.assets} assets × {options.years:g} years = {rows:,} prices; {platform.processor() or 'cpu'}")
    for name, times in (("compute", compute), ("compute and load", whole)):
        print(f"{name:>17}: median {statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f})")
    print(f"{'peak memory':>17}: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
