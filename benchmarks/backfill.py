"""Backfill hist_returns over a seeded lake: ``python -m benchmarks.backfill --months 240 --assets 2000 --jobs 1``."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.lakes import Lakes, Size
from benchmarks.measure import process_memory
from luxor_pipelines import backfill, open_lake
from luxor_pipelines.market.periods import add_months

NOW = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)
LAST = NOW.date().replace(month=10, day=31)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backfill", description=__doc__)
    parser.add_argument("--months", type=int, default=240)
    parser.add_argument("--assets", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # processes of an installed library need not compile it
    with tempfile.TemporaryDirectory(prefix="luxor-backfill-") as folder:
        years = options.months // 12 + 3
        address = Lakes(Path(folder), Size(options.assets, (years, years, years)), None).local("optimized")
        # In a process of its own, of which the lake's making has held no memory.
        process = multiprocessing.get_context("spawn").Process(
            target=_measure, args=(address, options.months, options.jobs)
        )
        process.start()
        process.join()
        sys.exit(process.exitcode)


def _measure(address: str, months: int, jobs: int) -> None:
    logging.disable(logging.WARNING)  # that series have no price is how the lakes are made
    lake, started, before = open_lake(address), time.perf_counter(), _processor_time()
    done = backfill("hist_returns", add_months(LAST, 1 - months), LAST, lake=lake, now=NOW, jobs=jobs)
    seconds, taken = time.perf_counter() - started, _processor_time() - before
    peak = process_memory("VmHWM")  # the resource module's figure would be that of whoever started the process
    memory = f", {peak / 1e6:.0f} MB at most" if peak is not None and jobs == 1 else ""
    print(
        f"{len(done.outcomes)} months, {jobs} jobs: {seconds:.1f} s, {taken:.1f} s of CPU{memory}; "
        f"{done.count('done')} done"
    )


def _processor_time() -> float:
    """Return the seconds of CPU that this process and its ended children have taken."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
