"""`luxor` as a process: from its start to its end, and the most memory it holds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.lakes import REF, TABLES, Lakes
from benchmarks.measure import MEBI, Case, Contender, Target, Took

# A process forked from a large one would count the large one's memory as its own: a small one starts it. An installed
# package has its bytecode, so that a source tree is let have it too.
LAUNCHER = """
import json, os, sys, time
environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
start = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], environment, file_actions=[
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)])
_, status, usage = os.wait4(pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), time.perf_counter() - start, usage.ru_maxrss]))
"""


def process(*arguments: str) -> Took:
    """Run a command to its end."""
    command = [sys.executable, "-I", "-S", "-c", LAUNCHER, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    code, seconds, peak = json.loads(done.stdout)
    if code:
        raise RuntimeError(f"{arguments} ended with exit code {code}")
    return Took(seconds, peak if sys.platform == "darwin" else peak * 2**10)


def luxor(arguments: list[str], lake: str | None = None) -> Callable[..., Took]:
    program = shutil.which("luxor", path=str(Path(sys.executable).parent)) or "luxor"
    where = [] if lake is None else ["--lake", lake]
    return lambda *_: process(program, *arguments, *where)


def python(code: str) -> Callable[[], Took]:
    return lambda: process(sys.executable, "-c", code)


def forget_returns(_: int, lake: str, **__: object) -> None:
    """Before each run, without what the last one wrote; else it would find nothing to write."""
    shutil.rmtree(Path(lake) / TABLES / "hist_returns", ignore_errors=True)


MANY = 50
"""Tables of the lake that is looked at."""


def of_many_tables(lakes: Lakes) -> str:
    """The folder of a lake of `MANY` tables: prices by month, and copies of the assets."""
    folder, months = Path(lakes.empty("many")), Path(lakes.local("months", years=lakes.short))
    shutil.copytree(months / TABLES, folder / TABLES)
    for number in range(MANY - 2):
        shutil.copy(folder / TABLES / "assets.parquet", folder / TABLES / f"table_{number:02}.parquet")
    return str(folder)


def cases(lakes: Lakes) -> Iterable[Case]:
    start = [
        Contender("luxor --help", "cli:luxor", {"arguments": ["--help"]}, None),
        Contender("luxor list", "cli:luxor", {"arguments": ["list"]}, None),
        Contender("python, nothing imported", "cli:python", {"code": ""}, None),
        Contender("python, pandas and pyarrow.parquet imported", "cli:python",
                  {"code": "import pandas, pyarrow.parquet"}, None),
    ]  # fmt: skip
    targets = [Target(name, name, 0.25) for name in ("luxor --help", "luxor list")]
    yield Case("cli-start", "The command line's answer", start, targets, counted=False)
    lake = of_many_tables(lakes)
    look = [
        Contender(f"luxor {name}, {MANY} tables", "cli:luxor", {"arguments": [name], "lake": lake}, None)
        for name in ("status", "tables")
    ]
    targets = [Target(f"{contender.name}: seconds", contender.name, 0.5) for contender in look]
    title = f"`luxor status` and `luxor tables` on a lake of {MANY} tables, whole process"
    yield Case("cli-look", title, look, targets, counted=False)
    layouts = {"luxor run hist_returns": "typed"}
    layouts["luxor run hist_returns, own layout"] = "optimized"
    runs = [
        Contender(name, "cli:luxor", {"arguments": ["run", "hist_returns", "--ref-date", f"{REF}"],
                                      "lake": lakes.local(layout)}, None)
        for name, layout in layouts.items()
    ]  # fmt: skip
    targets = [
        Target("luxor run hist_returns, whole process: seconds", runs[0].name, 1.6),
        Target("luxor run hist_returns, whole process: peak MiB", runs[0].name, 350 * MEBI, what="peak"),
    ]
    yield Case("cli-run", "`luxor run hist_returns` on a local lake, whole process", runs, targets,
               batch="cli:forget_returns", counted=False)  # fmt: skip
