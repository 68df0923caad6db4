"""Run the benchmarks: see ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import azurite, report
from benchmarks.lakes import SMALL, Lakes, Size
from benchmarks.measure import Case, run_case

WORK = ("returns", "prices", "tables", "loads", "price_files", "cli", "analytics")
RESULTS = Path(__file__).with_name("RESULTS.md")

EXPLAINED = """\
Times are medians of {rounds} rounds; in each round every contender runs once, in turn. Ratios are of medians, in the
tables to the first row. *Peak memory* is the most that a process of its own held which did the work once, Python and
imports included; *for the work* is that less what it held before. *Read* and *calls* are what the second time read
from files through system calls (what Polars maps into memory does not show), over Azurite the bytes of answers and
the requests, counted by a proxy in an untimed run; *at once* how many requests were under way together. Azurite keeps
its blobs in memory. Before anything is timed all contenders' answers are checked to agree: nulls, texts, dates, and
numbers to 1e-12."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default=",".join(WORK), help="which work, or which cases; default all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="little data, to see that all works")
    parser.add_argument("--output", type=Path, help="a file for the results; default RESULTS.md here, if all is run")
    options = parser.parse_args()
    only = options.only.split(",")
    started = time.perf_counter()
    logging.getLogger().addHandler(logging.NullHandler())  # that series have no price is how the lakes are made
    measured = []
    with tempfile.TemporaryDirectory(prefix="luxor-bench-") as folder, azurite.running() as server:
        if server is None:
            print("Azurite is not installed: its cases are left out. `nox -s bench` installs it.", file=sys.stderr)
        for case in _cases(only, Lakes(Path(folder), SMALL if options.small else Size(), server)):
            print(f"{time.perf_counter() - started:5.0f} s  {case.title}", file=sys.stderr, flush=True)
            measured.append((case, run_case(case, options.rounds, brief=options.small)))
    text = "\n".join(_text(measured, options.rounds, small=options.small)) + "\n"
    print(text)
    output = options.output or (RESULTS if set(only) == set(WORK) and not options.small else None)
    if output:
        output.write_text(text, encoding="utf-8")
    return 0


def _cases(only: list[str], lakes: Lakes) -> Iterator[Case]:
    """Of the modules named, all cases; of the others those that are named."""
    for work in WORK:
        for case in importlib.import_module(f"benchmarks.{work}").cases(lakes):
            if work in only or case.name in only:
                yield case


def _text(measured: report.Measured, rounds: int, *, small: bool) -> Iterator[str]:
    yield from ("# Benchmarks", "")
    if small:
        yield from ("**With little data: these figures say nothing.**", "")
    yield f"`{' '.join(['python -m benchmarks', *sys.argv[1:]])}`, {datetime.now(UTC):%Y-%m-%d}:"
    yield from ("", *report.machine(), "", EXPLAINED.format(rounds=rounds), "", "## Targets", "")
    yield from report.targets(measured)
    yield from ("", "## All figures")
    yield from report.tables(measured)


if __name__ == "__main__":
    sys.exit(main())
