"""What the source may not do: read pickles, run text, unpack archives to places."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import luxor_pipelines

PACKAGE = Path(luxor_pipelines.__file__).parent
APP = Path(__file__).parents[2] / "functions"
FILES = sorted([*PACKAGE.rglob("*.py"), *APP.rglob("*.py")])

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "subprocess"}
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "read_pickle",
    "to_pickle",
    "extractall",
    "extract",
    "system",
    "popen",
}
FINE = {("re", "compile")}


def faults(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        found += [f"line {node.lineno}: imports {name}" for name in names if name.partition(".")[0] in MODULES]
        if isinstance(node, ast.Call):
            function = node.func
            owner = (
                function.value.id
                if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)
                else ""
            )
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in CALLS and (owner, name) not in FINE:
                found.append(f"line {node.lineno}: calls {owner}.{name}")
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle" or (
                    keyword.arg in {"shell", "engine"} and name in {"run", "eval", "query"}
                ):
                    found.append(f"line {node.lineno}: {name}({keyword.arg}=…)")
    return found


ALLOWED = {"confined.py": "imports subprocess", "telemetry.py": "calls .extract"}
"""The first starts a script of the package and hands it bytes to read; the other reads the header of a trace."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_pickle_is_read_and_no_text_is_run(path: Path) -> None:
    found = faults(ast.parse(path.read_text(encoding="utf-8")))
    assert [fault for fault in found if fault.partition(": ")[2] != ALLOWED.get(path.name)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import yaml.x",
        "eval('1')",
        "pd.read_pickle(x)",
        "np.load(x, allow_pickle=True)",
        "archive.extractall()",
        "os.system('x')",
    ],
)
def test_the_check_finds_what_it_looks_for(text: str) -> None:
    assert faults(ast.parse(text))
    assert not faults(ast.parse("re.compile('x')\nimport os\nnp.load(x)"))
