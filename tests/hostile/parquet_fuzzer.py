"""Flips bits of small Parquet files, and reads them through every door, in processes that may die of it.

    python parquet_fuzzer.py FILES SEED

Prints one line of JSON: how many files were read, refused, or ended the process or in an error that is not
ours, and the bytes (in base64) of the first few of the latter two kinds.
"""

import base64
import datetime as dt
import json
import os
import random
import signal
import sys
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq

from luxor_pipelines import LuxorQuery
from luxor_pipelines.errors import LuxorError
from luxor_pipelines.lake.storage.connect import connect

SECONDS = 30
"""After which reading one small file counts as never ending."""


def originals():
    """Files of the kinds that occur: ours, several row groups, dictionaries, nested, other codecs and pages."""
    days = [dt.datetime(2026, 10, day) for day in range(1, 29)]
    prices = {"Date": pa.array(days, pa.timestamp("us")), "Asset": [f"a{i % 3}" for i in range(28)]}
    plain = pa.table({**prices, "Last_Price": [float(i) for i in range(28)]})
    nulls = plain.append_column("Note", pa.array([None if i % 2 else "x" for i in range(28)], pa.string()))
    nested = plain.append_column("Tags", pa.array([[{"k": i}] * (i % 3) for i in range(28)]))
    coded = plain.set_column(1, "Asset", plain["Asset"].dictionary_encode())
    ways = [
        (plain, {}),
        (nulls, {"row_group_size": 7}),
        (nested, {"compression": "zstd"}),
        (coded, {"compression": "gzip", "write_page_index": True}),
        (nulls, {"data_page_version": "2.0", "use_dictionary": False, "write_page_checksum": True}),
    ]
    files = []
    for table, options in ways:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, **options)
        files.append(sink.getvalue().to_pybytes())
    return files


def damaged(files, chance):
    """One of the files with a few bits or bytes changed, four times of five in the footer."""
    data = bytearray(chance.choice(files))
    footer = int.from_bytes(data[-8:-4], "little")
    low = len(data) - 8 - footer if chance.random() < 0.8 else 0
    for _ in range(chance.choice([1, 1, 1, 2, 4, 8])):
        at = chance.randrange(low, len(data))
        data[at] = chance.randrange(256) if chance.random() < 0.5 else data[at] ^ (1 << chance.randrange(8))
    return bytes(data[: chance.randrange(len(data))] if chance.random() < 0.02 else data)


def read(data, lake):
    """As a table, by column and condition, and for a load; a file of raw/ is read in a process of its own."""
    outcomes = []
    connect(lake).write("enriched/parquet/t.parquet", data)
    asks = (
        lambda: LuxorQuery(lake=lake).get_table("t"),
        lambda: LuxorQuery(lake=lake).get_table("t", columns=["Asset"], where={"Date": ("2026-10-03", None)}),
        lambda: LuxorQuery(lake=lake).get_table("t", where={"Asset": ["a1"]}),
    )
    for ask in asks:
        try:
            ask()
            outcomes.append("read")
        except LuxorError:
            outcomes.append("refused")
    return outcomes


def child(files, first, write):
    """Read the files from ``first`` on, telling each outcome as it is known."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    lake = f"memory://fuzz-{os.getpid()}"
    for number in range(first, len(files)):
        signal.alarm(SECONDS)
        try:
            outcomes = read(files[number], lake)
        except BaseException as error:  # noqa: BLE001 - any of them is what is looked for
            outcomes = [f"error: {type(error).__name__}: {error}"[:200]]
        os.write(write, (json.dumps([number, outcomes]) + "\n").encode())
    os._exit(0)


def main(count, seed):
    chance = random.Random(seed)
    files = [damaged(originals_, chance) for originals_ in [originals()] * count]
    counts, found, first = Counter(), [], 0
    while first < len(files):
        ends = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(ends[0])
            child(files, first, ends[1])
        os.close(ends[1])
        with os.fdopen(ends[0]) as lines:
            for line in lines:
                number, outcomes = json.loads(line)
                counts.update(each.partition(":")[0] for each in outcomes)
                first = number + 1
                if outcomes[0].startswith("error") and len(found) < 5:
                    found.append([outcomes[0], base64.b64encode(files[number]).decode()])
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            counts["died"] += 1
            if len(found) < 5:
                found.append([f"signal {os.WTERMSIG(status)}", base64.b64encode(files[first]).decode()])
            first += 1
    print(json.dumps({"files": count, **counts, "found": found}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
