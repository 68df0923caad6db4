"""Backfill hist_returns over a seeded lake: ``python -m benchmarks.backfill --months 240 --assets 2000 --jobs 1``."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.lakes import Lakes, Size
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
    logging.disable(logging.WARNING)  # that series have no price is how the lakes are made
    with tempfile.TemporaryDirectory(prefix="luxor-backfill-") as folder:
        years = options.months // 12 + 3
        address = Lakes(Path(folder), Size(options.assets, (years, years, years)), None).local("optimized")
        # In a process of its own: what the lake's making took does not count.
        child = os.fork()
        if child == 0:
            started, cpu = time.perf_counter(), time.process_time()
            start = add_months(LAST, 1 - options.months)
            done = backfill("hist_returns", start, LAST, lake=open_lake(address), now=NOW, jobs=options.jobs)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{len(done.outcomes)} months x {options.assets} assets: {time.perf_counter() - started:.1f} s, "
                f"{time.process_time() - cpu:.1f} s of CPU, {peak:.0f} MB at most; {done.count('done')} done"
            )
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
