"""Docstrings keep the house rules of CONTRIBUTING.md, as far as a program can tell."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import luxor_pipelines

ROOT = Path(luxor_pipelines.__file__).parent
LONGEST = 25
"""Words of a first sentence."""


def first_sentences() -> Iterator[tuple[str, str]]:
    """The first sentence of each docstring, with its place."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    place = f"{path.relative_to(ROOT).as_posix()}:{getattr(node, 'lineno', 1)}"
                    yield place, re.split(r"(?<=\.)\s", " ".join(text.split("\n\n")[0].split()))[0]


def test_first_sentences_are_short() -> None:
    assert [(place, text) for place, text in first_sentences() if len(text.split()) > LONGEST] == []


def test_sentences_begin_with_their_subject_or_verb() -> None:
    assert [(place, text) for place, text in first_sentences() if re.match(r"(What|Of|Where|As)\b", text)] == []
