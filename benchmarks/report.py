"""What was measured, as Markdown: the same text on the screen and in the file."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.measure import MEBI, Case, Figures, Target

Measured = Sequence[tuple[Case, dict[str, Figures]]]
_PACKAGES = (
    *("luxor-pipelines", "numpy", "pandas", "pyarrow", "adlfs", "azure-storage-blob"),
    *("polars", "duckdb", "deltalake"),
)


def machine() -> Iterator[str]:
    """Cores, processor, memory, system, and versions of what takes part."""
    cpu = platform.processor() or platform.machine()
    memory = ""
    if Path("/proc/cpuinfo").exists():
        names = [line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
        total = Path("/proc/meminfo").read_text().split()[1]
        memory = f", {int(total) / 2**20:.0f} GiB of memory"
    yield f"* {os.cpu_count()} cores, {cpu}{memory}; {platform.system()} {platform.release()}"
    yield f"* Python {platform.python_version()}, " + ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def targets(measured: Measured) -> Iterator[str]:
    """Each target with what was measured, and whether it is met."""
    yield "| work | target | measured | |"
    yield "|---|---|---|---|"
    for case, figures in measured:
        for target in case.targets:
            limit, value = _limit(target), _value(target, case, figures)
            if value is None:
                yield f"| {target.work} | {limit} | not measured | |"
            else:
                yield f"| {target.work} | {limit} | {_shown(target, value)} | {_verdict(target, value)} |"


def _limit(target: Target) -> str:
    if target.what == "peak":
        return f"≤ {target.limit / MEBI:.0f} MiB"
    if target.peer is None and target.what == "seconds":
        return f"≤ {target.limit:g} s"
    return f"≤ {target.limit:g} ×" + (f" {target.peer}" if target.peer else "")


def _value(target: Target, case: Case, figures: dict[str, Figures]) -> float | None:
    ours = figures.get(target.ours)
    if ours is None or (target.peer and target.peer not in figures):
        return None
    if target.what == "needed":
        return ours.received / case.needed if ours.received and case.needed else None
    if target.what == "peak":
        return ours.peak
    return ours.seconds / figures[target.peer].seconds if target.peer else ours.seconds


def _shown(target: Target, value: float) -> str:
    if target.what == "peak":
        return f"{value / MEBI:.0f} MiB"
    return f"{value:.2f} ×" if target.peer or target.what == "needed" else f"{value:.2f} s"


def _verdict(target: Target, value: float) -> str:
    return "met" if value <= target.limit else "not met"


def tables(measured: Measured) -> Iterator[str]:
    """Every contender's figures."""
    for case, figures in measured:
        yield from ("", f"### {case.title}", "")
        remote = any(each.at_once is not None for each in figures.values())
        heads = ["median", "min – max", "ratio", "peak memory", "for the work", "read"]
        heads += ["requests", "at once"] if remote else ["calls"]
        yield f"| | {' | '.join(heads)} |"
        yield "|---|" + "---:|" * len(heads)
        first = next(iter(figures.values())).seconds
        for name, each in figures.items():
            cells = [
                name, _seconds([each.seconds]), _seconds([min(each.times), max(each.times)]),
                f"{each.seconds / first:.2f}", _mebi(each.peak), _mebi(each.growth), _mebi(each.received),
                "" if each.requests is None else f"{each.requests}",
            ]  # fmt: skip
            if remote:
                cells.append("" if each.at_once is None else f"{each.at_once}")
            yield f"| {' | '.join(cells)} |"
        if case.needed is not None:
            yield from ("", f"The row groups needed, three columns: {_mebi(case.needed)}.")


def _seconds(times: Iterable[float]) -> str:
    times = list(times)
    milli = max(times) < 1
    return " – ".join(f"{t * 1000:.0f}" if milli else f"{t:.2f}" for t in times) + (" ms" if milli else " s")


def _mebi(count: int | None) -> str:
    return "" if count is None else f"{count / MEBI:.1f} MiB" if count < 100 * MEBI else f"{count / MEBI:.0f} MiB"
