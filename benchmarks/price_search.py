"""Time questions about prices with and without the price reader's shortcuts: ``python -m benchmarks.price_search``.

A shortcut adds something that a reader of the code must learn; the ratios say what it saves (see docs/decisions.md).
"""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.lakes import SMALL, Lakes, Size
from benchmarks.returns import luxor, luxor_months
from luxor_pipelines.query import prices, series

WITHOUT: dict[str, tuple[Any, str, Any]] = {
    "a year, then all the rest": (series, "_BACK", (366,)),
    "all of the past at once": (series, "_BACK", (366 * 2000,)),
    "many dates like few": (prices, "_MANY", 10**9),
    "few dates like many": (prices, "_MANY", 0),
}
"""Each variant's name, and the module's constant that makes it."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.price_search", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--small", action="store_true", help="little data, to see that all works")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # that series have no price is how the lakes are made
    print("Medians of processor time, in ms; in brackets the ratio to the code as it is.")
    with tempfile.TemporaryDirectory(prefix="luxor-bench-") as folder:
        lakes = Lakes(Path(folder), SMALL if options.small else Size(), None)
        own = lakes.local("optimized")
        works: dict[str, Callable[[], object]] = {
            "a month of returns, file of another program": luxor(lake=lakes.local()),
            "a month of returns, own layout": luxor(lake=own),
            "a month of returns, a file a month": luxor(lake=lakes.local("months")),
            "24 months at once, own layout": luxor_months(own, 24),
            f"{12 * lakes.years} months at once, own layout": luxor_months(own, 12 * lakes.years),
        }
        for title, work in works.items():
            print(f"{title}:", ", ".join(_compared(work, options.rounds)))


def _compared(work: Callable[[], object], rounds: int) -> list[str]:
    """Time ``work`` as the code is and in each variant, in turn."""
    times: dict[str, list[float]] = {name: [] for name in ("as it is", *WITHOUT)}
    work()
    for _ in range(rounds):
        for name, taken in times.items():
            taken.append(_timed(work, WITHOUT.get(name)))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    return [f"{name} {1000 * taken:.0f} ({taken / medians['as it is']:.2f})" for name, taken in medians.items()]


def _timed(work: Callable[[], object], change: tuple[Any, str, Any] | None) -> float:
    """Time ``work`` once, with one constant of a module changed meanwhile."""
    gc.collect()
    if change is None:
        started = time.process_time()
        work()
        return time.process_time() - started
    module, name, value = change
    usual = getattr(module, name)
    setattr(module, name, value)
    try:
        return _timed(work, None)
    finally:
        setattr(module, name, usual)


if __name__ == "__main__":
    main()
