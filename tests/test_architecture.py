"""What docs/architecture.md names exists, and no file imports in a circle."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
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


def test_no_two_files_import_each_other_in_a_circle() -> None:
    """Imports for type checking and those inside functions count; the package's own list of names does not."""
    root = ROOT / "src" / "luxor_pipelines"
    paths = {path: ".".join(path.relative_to(root.parent).with_suffix("").parts) for path in root.rglob("*.py")}
    files = {name.removesuffix(".__init__"): path for path, name in paths.items()}
    imports: dict[str, set[str]] = {}
    for name, path in files.items():
        lines = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
        named = {f"{line.module}.{alias.name}": str(line.module) for line in lines for alias in line.names}
        imports[name] = {target if target in files else module for target, module in named.items()} & files.keys()
        imports[name] -= {name, "luxor_pipelines"}
    imports["luxor_pipelines"] = set()
    assert list(TopologicalSorter(imports).static_order())
