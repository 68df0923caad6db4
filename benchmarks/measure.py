"""Running contenders in turn, checking that they agree, and counting what they read and hold."""

from __future__ import annotations

import gc
import importlib
import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from benchmarks.azurite import Counter, connection_string

MEBI = 2**20
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Contender:
    """One way to do a piece of work.

    Attributes
    ----------
    work
        ``"module:function"`` of this package. Called with ``arguments`` it makes ready and returns what is
        timed: a function of nothing or, where the case has batches, of one.
    agrees
        Contenders with one such label must have the same answer; None: nothing to compare.
    """

    name: str
    work: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    agrees: str | None = "all"


@dataclass(frozen=True)
class Target:
    """A row of the table of targets: one contender's figure, at most ``limit`` times another's, or at all."""

    work: str
    ours: str
    limit: float
    peer: str | None = None
    what: Literal["seconds", "peak", "received", "needed"] = "seconds"


@dataclass(frozen=True)
class Case:
    """Contenders for one piece of work.

    Attributes
    ----------
    key
        The columns by which answers are sorted before they are compared; none: they are in one order.
    batch, answer
        ``"module:function"``: makes what a turn is to load, ``(turn, **arguments)``, untimed; and reads
        back what a contender has left, ``(**arguments)``. Without ``answer`` it is what the work returns.
    needed
        Bytes that cannot but be read.
    counted
        Whether memory and bytes are measured here; contenders that are processes measure themselves.
    """

    name: str
    title: str
    contenders: Sequence[Contender]
    targets: Sequence[Target] = ()
    key: tuple[str, ...] = ()
    batch: str | None = None
    answer: str | None = None
    needed: int | None = None
    counted: bool = True


@dataclass(frozen=True)
class Took:
    """What a contender that runs elsewhere has measured itself."""

    seconds: float
    peak: int


@dataclass
class Figures:
    """What was measured of one contender: seconds of each round; bytes; requests, or calls to read a file."""

    times: list[float] = field(default_factory=list)
    peak: int | None = None
    growth: int | None = None
    received: int | None = None
    requests: int | None = None
    at_once: int | None = None

    @property
    def seconds(self) -> float:
        return statistics.median(self.times)


def load(name: str) -> Callable[..., Any]:
    module, function = name.split(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    return found


def available(contender: Contender) -> bool:
    """Whether what the contender needs is installed."""
    try:
        load(contender.work)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith(("benchmarks", "luxor_pipelines")):
            raise
        return False
    return True


def run_case(case: Case, rounds: int, *, brief: bool = False) -> dict[str, Figures]:
    """Check that the contenders agree, time them in turn, and count what each reads and holds.

    ``brief``: only the first one's memory and bytes, since each takes a process of its own.
    """
    contenders = [contender for contender in case.contenders if available(contender)]
    figures = {contender.name: Figures() for contender in contenders}
    turns = itertools.count(1)
    # Before the check: what only one contender has loaded, all the later turns replace.
    for contender in contenders[: 1 if brief else None]:
        if case.counted:
            _count(case, contender, figures[contender.name], next(turns))
    works = [load(contender.work)(**contender.arguments) for contender in contenders]
    _check(case, contenders, works, next(turns))
    for turn in itertools.islice(turns, rounds):
        shift = turn % len(contenders)  # nobody always comes after the same one
        for at in [*range(shift, len(contenders)), *range(shift)]:
            contender, work = contenders[at], works[at]
            batch = _batch(case, contender, turn)
            gc.collect()
            started = time.perf_counter()
            done = work(*batch)
            took = time.perf_counter() - started
            if isinstance(done, Took):
                took = done.seconds
                figures[contender.name].peak = max(done.peak, figures[contender.name].peak or 0)
            figures[contender.name].times.append(took)
            del done
    return figures


def _batch(case: Case, contender: Contender, turn: int) -> list[Any]:
    return [] if case.batch is None else [load(case.batch)(turn, **contender.arguments)]


# --- agreement -------------------------------------------------------------------------------------


def _check(case: Case, contenders: Sequence[Contender], works: Sequence[Callable[..., Any]], turn: int) -> None:
    first: dict[str, tuple[str, pd.DataFrame]] = {}
    for contender, work in zip(contenders, works, strict=True):
        answer = work(*_batch(case, contender, turn))
        if contender.agrees is None:
            continue
        if case.answer is not None:
            answer = load(case.answer)(answer, **contender.arguments)
        frame = _plain(answer, case.key)
        name, other = first.setdefault(contender.agrees, (contender.name, frame))
        wrong = differences(other, frame)
        if wrong:
            raise AssertionError(f"{case.name}: {contender.name} does not agree with {name}: {wrong}")


def _plain(answer: Any, key: Sequence[str]) -> pd.DataFrame:
    frame = answer if isinstance(answer, pd.DataFrame) else answer.to_pandas()
    # Categories sort by their codes, other contenders' texts by their letters.
    frame = frame.astype(dict.fromkeys(frame.select_dtypes("category").columns, "str"))
    return frame.sort_values([*key], ignore_index=True) if key else frame.reset_index(drop=True)


def differences(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """What two frames do not agree in: rows, nulls, texts, dates; numbers by more than 1e-12. Blank: nothing.

    Only the columns that both have are compared, which `windows_only` alone makes use of.
    """
    if len(one) != len(other):
        return f"{len(one)} and {len(other)} rows"
    for name in [name for name in one.columns if name in other.columns]:
        x, y = one[name], other[name]
        if pd.api.types.is_float_dtype(x):
            left, right = x.to_numpy(np.float64, na_value=np.nan), y.to_numpy(np.float64, na_value=np.nan)
            same = np.isclose(left, right, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
        else:
            if pd.api.types.is_datetime64_any_dtype(x):
                y = pd.to_datetime(y).dt.as_unit("us")
            same = ((x == y).fillna(False) | (x.isna() & y.isna())).to_numpy(bool)
        if not same.all():
            at = int(np.argmin(same))
            return f"{int((~same).sum())} of {len(x)} in {name}, such as {x[at]!r} and {y[at]!r} in row {at}"
    return ""


# --- memory, bytes and requests --------------------------------------------------------------------


def _count(case: Case, contender: Contender, figures: Figures, turn: int) -> None:
    """Do the work once more, in a process of its own."""
    arguments = dict(contender.arguments)
    batch = _batch(case, contender, turn)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        if "connection" not in arguments:
            result = pool.submit(alone, contender.work, arguments, batch, repeat=case.batch is None).result()
        else:
            server = arguments["connection"].split("BlobEndpoint=")[1].rsplit("/", 1)[0]
            with Counter(server) as counter:
                arguments["connection"] = connection_string(counter.url)
                result = pool.submit(alone, contender.work, arguments, batch, repeat=False).result()
                figures.received, figures.requests, figures.at_once = (
                    counter.received, counter.requests, counter.at_once,
                )  # fmt: skip
    figures.peak, figures.growth = result[:2]
    if figures.requests is None:
        figures.received, figures.requests = result[2:]


def alone(work: str, arguments: Mapping[str, Any], batch: Sequence[Any], *, repeat: bool) -> list[int | None]:
    """The most memory this process has held, how much of it was for the work; bytes and calls of reading files.

    The work's imports do not count as the work's; what is read is that of a second time, where it can be
    repeated.
    """
    function = load(work)(**arguments)
    floor = process_memory("VmRSS")
    before = _reads()
    function(*batch)
    peak = process_memory("VmHWM")
    if repeat:
        before = _reads()
        function(*batch)
    after = _reads()
    growth = None if peak is None or floor is None else peak - floor
    return [peak, growth, *(None if a is None or b is None else b - a for a, b in zip(before, after, strict=True))]


def process_memory(field: str) -> int | None:
    """Return a field of this process in bytes, such as ``VmHWM``, the most memory it has held; None but on Linux."""
    path = Path("/proc/self/status")
    if not path.exists():
        return None
    line = next(line for line in path.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 2**10


def _reads() -> tuple[int | None, int | None]:
    """Bytes and calls by which this process has read so far; files that it maps into memory do not show."""
    path = Path("/proc/self/io")
    if not path.exists():
        return None, None
    counts = dict(line.split(": ") for line in path.read_text().splitlines())
    return int(counts["rchar"]), int(counts["syscr"])
