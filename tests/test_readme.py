"""The README's blocks run from top to bottom, in a folder where `luxor demo` has made its lake."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from luxor_pipelines.cli import main

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
INSTALLS = ("python3 -m venv", ". .venv/bin/activate")
"""Beginnings of lines that make the environment in which the others run; CI types them itself."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which `luxor demo` has run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUXOR_LAKE_URL", "")
    assert main(["demo"]) == 0
    return tmp_path


def run_line(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of a shell block, as a shell would run it."""
    words = shlex.split(line, comments=True)
    if not words or line.startswith(INSTALLS):
        return
    if words[0] == "export":
        name, _, value = words[1].partition("=")
        monkeypatch.setenv(name, value)
        return
    assert words[0] == "luxor", f"no reader could tell what {line!r} needs"
    assert main(words[1:]) == 0, line


def test_every_block_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    kinds = [kind for kind, _ in BLOCKS]
    assert {"sh", "python"} <= set(kinds)
    for kind, text in BLOCKS:
        if kind == "python":
            exec(compile(text, "README.md", "exec"), names)
        elif kind == "sh":
            for line in text.splitlines():
                run_line(line, monkeypatch)
    assert str(names["result"]) in README, "what is printed is what the README says"


def test_the_demo_prints_the_rows_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = [text for kind, text in BLOCKS if kind == "text" and text.startswith("Key")]
    rows = [line.split() for line in shown.splitlines() if line != "…"]
    assert main(["returns", "--lake", "luxor-demo"]) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 4
    for row in rows:
        assert row in printed


def test_the_readme_links_to_pages_that_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
