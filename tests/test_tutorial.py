"""The tutorial runs on the demo lake, in both languages, and is what `tools/tutorial.py` makes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from luxor_pipelines.analytics.statistics import RELATIVE, STATISTICS
from luxor_pipelines.demo import run_demo

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def tutorial() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tutorial", ROOT / "tools" / "tutorial.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_cell_runs_on_the_demo_lake(
    tutorial: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib").use("agg")
    for package in ("duckdb", "polars"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    run_demo(tmp_path / "luxor-demo")
    outputs = list(tutorial.run())
    kinds = [sorted(kind for each in told for kind in each["data"]) for told in outputs]
    assert kinds.count(["image/png"]) == len([cell for cell in tutorial.CELLS if cell.picture])
    assert all(kinds), "each cell shows something"
    for told in outputs:
        for each in told:
            text = "".join(each["data"].get("text/plain", ""))
            assert "NaN" not in text.replace("NaT", ""), "the demo has what the tutorial asks for"


@pytest.mark.parametrize(("language", "name"), [("english", "tutorial.ipynb"), ("portuguese", "tutorial.pt-BR.ipynb")])
def test_the_notebooks_are_those_of_the_tool(tutorial: ModuleType, language: str, name: str) -> None:
    stored = json.loads((ROOT / "docs" / name).read_text(encoding="utf-8"))
    made = tutorial.notebook(language)
    for notebook in (stored, made):
        for cell in notebook["cells"]:
            cell.pop("outputs", None)
    assert stored == made, "run tools/tutorial.py"


def test_the_documentation_has_every_statistic() -> None:
    text = (ROOT / "docs" / "analytics.md").read_text(encoding="utf-8")
    for name, formula in (STATISTICS | RELATIVE).items():
        assert f"| `{name}` | {formula} |" in text
    pictures = {path.name for path in (ROOT / "docs" / "images").glob("*.png")}
    assert {f"{name}.png" for name in ("prices", "returns", "drawdown", "rolling", "correlation")} <= pictures
    for picture in pictures:
        assert f"(images/{picture})" in text


def test_the_demos_interest_is_called_synthetic(tmp_path: Path) -> None:
    from luxor_pipelines.demo.data import demo_assets

    assets = demo_assets()
    made_up: pd.DataFrame = assets[assets["Group"] == "interest"]
    assert len(made_up) == 2
    assert made_up["Name"].str.contains("Synthetic").all()
