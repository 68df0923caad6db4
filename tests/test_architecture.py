"""What docs/architecture.md names exists."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

import luxor_pipelines
from conftest import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CODE = sorted(set(re.findall(r"`([A-Za-z_]\w*(?:[./]\w*)+)`", PAGE)))
FILES = [name for name in CODE if name.endswith((".py", ".json", "/"))]
NAMES = [name for name in CODE if name not in FILES]
CLASSES = {"Table": ["lake", "table", "table"], "Lake": ["lake", "lake"]}
"""The modules of classes that the page names without them."""


@pytest.mark.parametrize("path", FILES)
def test_the_files_it_names_exist(path: str) -> None:
    rooms = [ROOT, ROOT / "src" / "luxor_pipelines"]
    if "/" in path:
        assert any((room / path).exists() for room in rooms)
    else:  # a file of the room that the line is about
        assert any([*room.rglob(path)] for room in (rooms[1], ROOT / "functions"))


@pytest.mark.parametrize("name", NAMES)
def test_the_names_in_it_are_those_of_the_code(name: str) -> None:
    first, *rest = name.split(".")
    assert resolve([*CLASSES.get(first, []), first, *rest])


def resolve(parts: list[str]) -> object:
    """The object that a dotted name below the package leads to."""
    value: object = luxor_pipelines
    for part in parts:
        is_package = hasattr(value, "__path__")
        value = import_module(f"{value.__name__}.{part}") if is_package else getattr(value, part)
    return value


def test_the_page_names_enough_for_that_to_mean_something() -> None:
    assert len(FILES) > 10
    assert len(NAMES) > 20
