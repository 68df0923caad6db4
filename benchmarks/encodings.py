"""What a table of prices comes to, and how long it takes, by row groups and with or without a dictionary of numbers.

python -m benchmarks.encodings [--assets 2000] [--years 5] [--rounds 7]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.lakes import market


def best(work: Callable[[], object], rounds: int) -> float:
    """Milliseconds of the quickest of several times."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=int, default=2000)
    parser.add_argument("--years", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    prices = market("quoted", options.assets, options.years).prices
    print(f"{len(prices):,} prices, Snappy; best of {options.rounds}")
    print(f"{'row group':>10} {'dictionary':>24} {'MB':>6} {'write ms':>9} {'read ms':>8} {'prices ms':>10}")
    for rows in (16, 32, 64, 128):
        for words, columns in (("all columns", True), ("texts and dates", ["Date", "Asset"])):
            sink = pa.BufferOutputStream()

            def write(into: object, columns: object = columns, rows: int = rows) -> None:
                pq.write_table(prices, into, row_group_size=rows * 1024, compression="snappy", use_dictionary=columns)

            write(sink)
            file = sink.getvalue()

            def read(columns: list[str] | None, file: pa.Buffer = file) -> pa.Table:
                return pq.ParquetFile(pa.BufferReader(file), read_dictionary=["Asset"]).read(columns)

            figures = (
                best(lambda write=write: write(pa.BufferOutputStream()), options.rounds),
                best(lambda read=read: read(None), options.rounds),
                best(lambda read=read: read(["Last_Price"]), options.rounds),
            )
            print(
                f"{rows:>9}k {words:>24} {file.size / 1e6:6.1f} {figures[0]:9.0f} {figures[1]:8.0f} {figures[2]:10.1f}"
            )


if __name__ == "__main__":
    main()
