"""What importing a function costs a new worker process, beyond azure.functions and pandas.

    python benchmarks/cold_start.py                  the checkout's functions, in this environment
    python benchmarks/cold_start.py --app FOLDER     an unpacked functionapp-<version>.zip, by itself

Each figure is the best of several processes, baseline and functions in turn. ``--no-bytecode`` keeps Python
from using or leaving .pyc files, as where the app's folder is new and cannot be written to.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOST = ROOT / "tests" / "functions" / "host.py"

CODE = """
import importlib.util, json, pathlib, sys, time
app, host, name, site = pathlib.Path(sys.argv[1]), *sys.argv[2:5]
sys.path += [each for each in (str(app), site) if each]
spec = importlib.util.spec_from_file_location("host", host)
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
start = time.perf_counter()
import azure.functions, pandas
middle = time.perf_counter()
if name:
    worker.load(app, name)
print(json.dumps([middle - start, time.perf_counter() - middle]))
"""


def measure(app: Path, name: str, options: argparse.Namespace) -> tuple[float, float]:
    """Seconds for the baseline's imports, and for the function's after them, in one new process."""
    packages = app / ".python_packages" / "lib" / "site-packages"
    alone = ["-S", "-I"] if packages.is_dir() else ["-I"]
    if options.no_bytecode:
        alone += ["-B", "-X", "pycache_prefix=/nonexistent"]
    arguments = [str(app), str(HOST), name, str(packages) if packages.is_dir() else ""]
    done = subprocess.run([sys.executable, *alone, "-c", CODE, *arguments], check=True, capture_output=True, text=True)
    baseline, more = json.loads(done.stdout)
    return baseline, more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--app", type=Path, default=ROOT / "functions", help="the app's root")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-bytecode", action="store_true")
    options = parser.parse_args()
    app = options.app.resolve()
    names = sorted(path.parent.name for path in app.glob("*/function.json"))
    measure(app, "", options)  # the first fills the disk's cache, and Python's
    times = [{name: measure(app, name, options) for name in names} for _ in range(options.rounds)]
    print(f"{'azure.functions, pandas':24}{min(each[0] for row in times for each in row.values()):8.3f} s")
    for name in names:
        print(f"{'+ ' + name:24}{min(row[name][1] for row in times):8.3f} s")


if __name__ == "__main__":
    main()
