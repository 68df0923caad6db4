"""What CI runs: `nox`. Each session makes its own environment; Azurite comes from npm."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True
nox.needs_version = ">=2024.4.15"

AZURITE = Path(".azurite")
AZURITE_VERSION = "3.35.0"
PROJECT = nox.project.load_toml("pyproject.toml")


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
    session.install("-e", ".")
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
    """All tests, against the built wheel and a real Azurite: `nox -s tests -- -k returns`."""
    install(session, "test", "bench")
    session.install(".")
    install_azurite(session)
    session.env["AZURITE_FOLDER"] = str(AZURITE.absolute())
    session.env["CI"] = os.environ.get("CI", "true")
    session.run("pytest", *session.posargs)


@nox.session
def tests_lowest(session: nox.Session) -> None:
    """All tests on the oldest versions of the dependencies that are declared to do."""
    install(session, "test")
    session.install(".", *lowest())
    install_azurite(session)
    session.env["AZURITE_FOLDER"] = str(AZURITE.absolute())
    session.run("pytest", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Ours against Polars, DuckDB, pandas and delta-rs, into benchmarks/RESULTS.md: `nox -s bench -- --only loads`."""
    install(session, "bench")
    session.install(".")
    install_azurite(session)
    session.env["AZURITE_FOLDER"] = str(AZURITE.absolute())
    session.run("python", "-m", "benchmarks", *session.posargs)


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
