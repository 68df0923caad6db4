"""What CI runs: `nox`. Each session makes its own environment; Azurite comes from npm."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True
nox.needs_version = ">=2024.4.15"

AZURITE = Path(".azurite")
AZURITE_VERSION = "3.35.0"
PROJECT = nox.project.load_toml("pyproject.toml")
# Much of a test's time is waiting: for Azurite, for other processes.
SIDE_BY_SIDE = ["--numprocesses=auto", "--maxprocesses=4", "--dist=worksteal"]


def install(session: nox.Session, *groups: str) -> None:
    session.install(*(need for group in groups for need in nox.project.dependency_groups(PROJECT, group)))


def lowest() -> list[str]:
    """The oldest version that is declared to do, of each dependency."""
    return [need.replace(">=", "==") for need in PROJECT["project"]["dependencies"]]


def install_azurite(session: nox.Session) -> None:
    """The blob server the lake's tests run against, into a folder of the checkout."""
    manifest = AZURITE / "node_modules" / "azurite" / "package.json"
    if manifest.exists() and f'"version": "{AZURITE_VERSION}"' in manifest.read_text(encoding="utf-8"):
        return
    if shutil.which("npm") is None:
        session.error("npm is needed for Azurite: install Node.js 18 or later (https://nodejs.org).")
    AZURITE.mkdir(exist_ok=True)
    options = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    session.run("npm", "install", *options, "--prefix", str(AZURITE), f"azurite@{AZURITE_VERSION}", external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and that imports run downward."""
    install(session, "lint")
    session.install("--no-deps", "-e", ".")  # imports are read, not followed
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types on the library."""
    install(session, "types")
    session.install("-e", ".")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, against the built wheel and a real Azurite: `nox -s tests -- -k returns`.

    Those with random examples run twice: in CI the first time with the same examples as ever, then with fresh ones,
    which come again with `nox -s tests -- -m hypothesis --hypothesis-profile=fresh --hypothesis-seed=<the seed>`.
    """
    install(session, "test", "bench")
    session.install(".")
    install_azurite(session)
    session.env["AZURITE_FOLDER"] = str(AZURITE.absolute())
    session.env["CI"] = os.environ.get("CI", "true")
    session.run("pytest", *SIDE_BY_SIDE, *session.posargs)
    if not session.posargs:
        seed = secrets.randbelow(2**32)
        session.log(f"The tests with random examples once more, from the seed {seed}")
        fresh = ["-m", "hypothesis", "--hypothesis-profile=fresh", f"--hypothesis-seed={seed}"]
        session.run("pytest", *SIDE_BY_SIDE, *fresh)


@nox.session
def torture(session: nox.Session) -> None:
    """The long version of the tests that kill and race, with their figures: `nox -s torture -- -k crashes --seed 2`."""
    install(session, "test")
    session.install(".")
    install_azurite(session)
    session.env["AZURITE_FOLDER"] = str(AZURITE.absolute())
    long = ["tests/reliability", "tests/functions/test_kills.py"]
    session.run("pytest", *long, "--torture", *session.posargs)


@nox.session
def worker(session: nox.Session) -> None:
    """The packaged app in Microsoft's own worker: `nox -s worker -- CHECKOUT`, of azure-functions-python-worker.

    Python 3.11 and 3.12 need that checkout, since the worker is not on the package index; for 3.13 its library is.
    """
    install(session, "test", "package")
    session.install(".")
    install_azurite(session)
    session.env["AZURITE_FOLDER"] = str(AZURITE.absolute())
    session.env["CI"] = os.environ.get("CI", "true")
    tried = 0
    for version in ("3.11", "3.13"):
        python = shutil.which(f"python{version}")
        source = Path(session.posargs[0]).resolve() if session.posargs and version != "3.13" else None
        if python is None or (source is None and version != "3.13"):
            session.warn(f"NOT TRIED on Python {version}: no python{version}, or no checkout of the worker.")
            continue
        folder = Path(session.create_tmp()).absolute() / version
        shutil.rmtree(folder, ignore_errors=True)
        session.run(python, "-m", "venv", str(folder / "worker"), external=True)
        packages = WORKER_PACKAGES[version == "3.13"]
        session.run(str(folder / "worker" / "bin" / "pip"), "install", "--quiet", *packages, external=True)
        environment = {"WORKER_PYTHON": str(folder / "worker" / "bin" / "python"), "WORKER_APP": str(folder / "app")}
        if source is not None:
            # Its messages are compiled by a task of its own that changes the checkout, so a copy is used.
            shutil.copytree(source, folder / "source", ignore=shutil.ignore_patterns(".git"))
            session.run(environment["WORKER_PYTHON"], "tools/worker_messages.py", str(folder / "source"), external=True)
            environment["WORKER_SOURCE"] = str(folder / "source")
        package_for(session, version, folder)
        session.run("pytest", "tests/functions/test_worker.py", env=environment)
        tried += 1
    if not tried:
        session.error("The worker was tried on no version of Python.")


WORKER_PACKAGES = (
    ["azure-functions==1.22.0b4", "python-dateutil~=2.9", "protobuf~=4.25.3", "grpcio~=1.59.0", "grpcio-tools~=1.59.0",
     "azurefunctions-extensions-base", "setuptools<80"],
    ["azure-functions-runtime-v1", "protobuf~=5.29", "grpcio~=1.70"],
)  # fmt: skip
"""What the worker needs beside it: as a process, and as a library."""


def package_for(session: nox.Session, version: str, folder: Path) -> None:
    """Build the app for a version of Python as docs/deploy.md says, in a copy of the checkout, and unpack it."""
    tree = folder / "tree"
    for name in ("src", "functions", "tools"):
        shutil.copytree(name, tree / name)
    for name in ("pyproject.toml", "README.md", "host.json"):
        shutil.copy(name, tree / name)
    runtime = json.loads((tree / "functions" / "python.json").read_text(encoding="utf-8"))
    tool, wheels = str(tree / "tools" / "functionapp.py"), str(Path("build", "wheels").absolute())
    if runtime["version"] != version:
        text = json.dumps({**runtime, "version": version})
        (tree / "functions" / "python.json").write_text(text, encoding="utf-8")
        session.run("python", tool, "lock", "--wheels", wheels)
    session.run("python", tool, "build", "--wheels", wheels, "--target", str(folder / "dist"))
    (archive,) = (folder / "dist").glob("functionapp-*.zip")
    shutil.unpack_archive(archive, folder / "app")


@nox.session
def tests_lowest(session: nox.Session) -> None:
    """All tests on the oldest versions of the dependencies that are declared to do."""
    install(session, "test")
    session.install(".", *lowest())
    install_azurite(session)
    session.env["AZURITE_FOLDER"] = str(AZURITE.absolute())
    session.run("pytest", *SIDE_BY_SIDE, *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Ours against Polars, DuckDB, pandas and delta-rs, into benchmarks/RESULTS.md: `nox -s bench -- --only loads`."""
    install(session, "bench")
    session.install(".")
    install_azurite(session)
    session.env["AZURITE_FOLDER"] = str(AZURITE.absolute())
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The tutorial's notebooks with their outputs, and the documentation's pictures, made on a new demo lake."""
    session.install(".[plot,sql]")
    tool = Path("tools/tutorial.py").absolute()
    with session.chdir(session.create_tmp()):
        session.run("luxor", "demo")
        session.run("python", str(tool))


@nox.session
def package(session: nox.Session) -> None:
    """The Azure Functions app, ready to deploy: dist/functionapp-<version>.zip, and the wheel in it."""
    install(session, "package")
    session.run("python", "tools/functionapp.py", "build", *session.posargs)


@nox.session
def lock(session: nox.Session) -> None:
    """Resolve the app's dependencies anew, into functions/requirements.txt."""
    install(session, "package")
    session.run("python", "tools/functionapp.py", "lock", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Damaged files and requests for as long as it takes: `nox -s fuzz -- 100000` (Parquet files; default 20,000)."""
    install(session, "test")
    session.install(".")
    files = session.posargs[0] if session.posargs else "20000"
    session.run("python", "tests/hostile/parquet_fuzzer.py", files, "1")
    session.run("pytest", "-q", "tests/hostile/test_fuzz.py", env={"FUZZ": "5000", "CI": ""})


@nox.session
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of the app's locked dependencies; an error, too, where no data on them can be had."""
    session.install("pip-audit>=2.7")
    folder = Path(session.create_tmp())
    lines = Path("functions/requirements.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    locked, told = folder / "requirements.txt", folder / "audit.json"
    locked.write_text("".join(line for line in lines if not line.startswith("luxor-pipelines")), encoding="utf-8")
    options = ["--disable-pip", "--progress-spinner=off", "--format=json", f"--output={told}"]
    # Without an answer pip-audit skips a package and ends in success.
    session.run("pip-audit", "-r", str(locked), *options, *session.posargs, success_codes=[0, 1], silent=True)
    found = json.loads(told.read_text(encoding="utf-8"))["dependencies"]
    skipped = [each["name"] for each in found if "skip_reason" in each]
    bad = [f"{each['name']} {each['version']}: {flaw['id']}" for each in found for flaw in each.get("vulns", ())]
    for line in bad:
        session.warn(line)
    if bad:
        session.error(f"{len(bad)} known vulnerabilities; `nox -s lock` takes the newest versions.")
    if skipped:
        session.error(f"NOT AUDITED: no data could be had on {len(skipped)} of {len(found)} packages.")
    session.log(f"{len(found)} packages, no known vulnerability.")
