"""The host's and the worker's demands on every folder under functions/."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import azure.functions as func
import pytest

from luxor_pipelines.market.calendars import HolidayCalendar
from luxor_pipelines.operations.discovery import declarations, find_pipelines
from luxor_pipelines.pipelines import reference_dates
from luxor_pipelines.settings import Settings

ROOT = Path(__file__).parents[2]
APP = Path(os.environ.get("TESTED_FUNCTIONS_APP", ROOT / "functions"))
OPEN = ["health"]
"""Functions that answer without a key."""


def declared(folder: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((APP / folder / "function.json").read_text(encoding="utf-8"))
    return content


def trigger(folder: str) -> dict[str, Any]:
    (binding,) = [binding for binding in declared(folder)["bindings"] if binding["type"].endswith("Trigger")]
    return binding


FOLDERS = sorted(path.name for path in APP.iterdir() if path.is_dir() and path.name != "__pycache__")
TIMERS = [folder for folder in FOLDERS if trigger(folder)["type"] == "timerTrigger"]
DECLARED = {name: said for name, said in declarations().items() if find_pipelines()[name].package == "luxor-pipelines"}
YEAR = (date(2026, 1, 1), date(2026, 12, 31))
HTTP = [folder for folder in FOLDERS if trigger(folder)["type"] == "httpTrigger"]


def test_each_of_our_pipelines_has_a_timer_that_runs_it() -> None:
    ours = {name for name, pipeline in find_pipelines().items() if pipeline.package == "luxor-pipelines"}
    assert {f"run_{name}" for name in ours} <= set(TIMERS)
    for name in ours:
        assert f'"{name}"' in (APP / f"run_{name}" / f"run_{name}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", FOLDERS)
def test_it_loads_and_takes_what_is_bound(folder: str, load_main: Callable[[str], Any]) -> None:
    config = declared(folder)
    assert (APP / folder / config["scriptFile"]).is_file()
    names = [binding["name"] for binding in config["bindings"]]
    assert len(set(names)) == len(names)
    for binding in config["bindings"]:
        # The host's own pattern: no underscores, and nothing but these.
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,127}|\$return", binding["name"])
        assert binding["direction"] in ("in", "out")

    main = load_main(folder)
    signature = inspect.signature(main)
    parameters = [name for name in signature.parameters if name != "context"]
    assert parameters == [name for name in names if name != "$return"]
    assert {parameter.kind for parameter in signature.parameters.values()} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    # The worker resolves the annotations when it loads, so they must be names of the module.
    hints = typing.get_type_hints(main)
    types = {
        "timerTrigger": func.TimerRequest,
        "httpTrigger": func.HttpRequest,
        "queueTrigger": func.QueueMessage,
        "queue": func.Out[str],
    }
    for binding in config["bindings"]:
        if binding["name"] != "$return":
            assert hints[binding["name"]] == types[binding["type"]]
    assert hints.get("context", func.Context) is func.Context
    returned = func.HttpResponse if "$return" in names else type(None)
    assert hints["return"] is returned, "what has no output binding returns nothing, or the worker fails it"


@pytest.mark.parametrize("folder", FOLDERS)
def test_its_imports_are_of_the_forms_that_load(folder: str) -> None:
    siblings = {path.stem for path in (APP / folder).glob("*.py")} - {folder}
    for path in (APP / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0 or node.module, f"{path}: `from . import …`"
                assert node.level or (node.module or "").partition(".")[0] not in siblings, f"{path}: a sibling"
            if isinstance(node, ast.Import):
                assert not siblings & {alias.name.partition(".")[0] for alias in node.names}, f"{path}: a sibling"


@pytest.mark.parametrize("folder", FOLDERS)
def test_its_name_hides_no_package(folder: str) -> None:
    """On some plans the app's root comes before all packages on the path."""
    assert importlib.util.find_spec(folder) is None


@pytest.mark.parametrize("folder", FOLDERS)
def test_it_holds_nothing_but_an_orchestrator(folder: str) -> None:
    """No loops, no branches, no functions but main and run: the logic is in the library."""
    allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.Expr)
    for path in (APP / folder).glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert all(isinstance(node, allowed) for node in tree.body), path
        functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert functions == (["main"] if path.name == "__init__.py" else ["run"])
        for node in ast.walk(tree):
            assert not isinstance(node, ast.If | ast.For | ast.While | ast.Try | ast.Lambda), path


@pytest.mark.parametrize("folder", TIMERS)
def test_a_timer_is_monitored_retried_and_does_not_run_on_startup(folder: str) -> None:
    timer = trigger(folder)
    assert len(timer["schedule"].split()) == 6, "NCRONTAB has seconds"
    assert (timer["useMonitor"], timer["runOnStartup"]) == (True, False)
    retry = declared(folder)["retry"]
    assert retry.keys() == {"strategy", "maxRetryCount", "minimumInterval", "maximumInterval"}
    assert retry["strategy"] == "exponentialBackoff"
    assert 0 < retry["maxRetryCount"] <= 5
    waits = [timedelta(**dict(zip(("hours", "minutes", "seconds"), map(int, retry[key].split(":")), strict=True)))
             for key in ("minimumInterval", "maximumInterval")]  # fmt: skip
    assert waits[0] < waits[1]
    # A retry that meets a run which was killed waits until its lease runs out, and that must fit the function's time.
    hours, minutes, seconds = map(int, json.loads((ROOT / "host.json").read_text())["functionTimeout"].split(":"))
    assert Settings().run_lock_ttl + 1 < (hours * 60 + minutes) * 60 + seconds
    assert 'if_running="wait"' in (APP / folder / f"{folder}.py").read_text(encoding="utf-8")


def firing(folder: str) -> tuple[set[int], time]:
    """The weekdays on which a timer fires, Monday being 0, and when, in UTC."""
    _, minute, hour, _, _, days = trigger(folder)["schedule"].split()
    first, _, last = days.partition("-")
    return {day - 1 for day in range(int(first), int(last or first) + 1)}, time(int(hour), int(minute), tzinfo=UTC)


def test_returns_are_computed_at_1530_in_sao_paulo() -> None:
    assert firing("run_hist_returns") == ({0, 1, 2, 3, 4}, time(18, 30, tzinfo=UTC))


@pytest.mark.parametrize("name", [name for name, declared in DECLARED.items() if declared.due])
def test_a_timer_fires_between_the_end_of_a_date_and_the_moment_that_its_pipeline_declares(name: str) -> None:
    """With the time that a function may take to spare, for each date of a year, whose only days off are weekends."""
    declaration, zone, weekdays = DECLARED[name], ZoneInfo(Settings().time_zone), HolidayCalendar([], [])
    assert declaration.due is not None
    days, at = firing(f"run_{name}")
    for day in reference_dates(declaration.dates or "days", declaration.due, YEAR[0], YEAR[1], weekdays):
        due = declaration.due.moment(day, weekdays, zone) - timedelta(minutes=10)
        over = datetime.combine(day + timedelta(days=1), time(), zone)
        fired = (datetime.combine(day + timedelta(days=later), at) for later in range(8))
        assert any(over <= moment <= due and moment.weekday() in days for moment in fired), day


@pytest.mark.parametrize("name", DECLARED)
def test_a_timer_fires_after_those_of_the_pipelines_that_write_what_its_own_reads(name: str) -> None:
    writers = {schema.name: writer for writer, declared in DECLARED.items() for schema in declared.outputs}
    days, at = firing(f"run_{name}")
    for writer in {writers[table] for table in DECLARED[name].inputs if table in writers} - {name}:
        days_before, before = firing(f"run_{writer}")
        assert days <= days_before
        assert before < at


def test_the_documents_say_when_the_timers_fire() -> None:
    table = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    for name in DECLARED:
        days, at = firing(f"run_{name}")
        said = f"{at:%H:%M} UTC"
        assert said in (APP / f"run_{name}" / "__init__.py").read_text(encoding="utf-8").splitlines()[0]
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `run_{name}` |")]
        assert said in row
        assert ("Monday to Friday" if days == {0, 1, 2, 3, 4} else "Mondays") in row


def test_http_functions_have_their_own_route_and_ask_for_a_key() -> None:
    triggers = {folder: trigger(folder) for folder in HTTP}
    routes = [(method, config["route"]) for config in triggers.values() for method in config["methods"]]
    assert len(set(routes)) == len(routes)
    assert {("post", "pipelines/{name}/runs"), ("get", "pipelines"), ("get", "health")} <= set(routes)
    levels = {folder: config["authLevel"] for folder, config in triggers.items()}
    assert levels == {folder: "anonymous" if folder in OPEN else "function" for folder in triggers}
    for folder in triggers:
        assert {"type": "http", "direction": "out", "name": "$return"} in declared(folder)["bindings"]


def test_queues_are_worked_off_by_functions_of_the_app() -> None:
    bindings = [binding for folder in FOLDERS for binding in declared(folder)["bindings"] if "queue" in binding["type"]]
    assert {binding["connection"] for binding in bindings} == {"AzureWebJobsStorage"}
    read = {binding["queueName"] for binding in bindings if binding["type"] == "queueTrigger"}
    written = {binding["queueName"] for binding in bindings if binding["type"] == "queue"}
    assert written <= read
    # The host names the queue of messages that it has given up.
    assert {f"{name}-poison" for name in written} <= read
    queues = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))["extensions"]["queues"]
    assert (queues["batchSize"], queues["newBatchThreshold"], queues["maxDequeueCount"]) == (1, 0, 5)


def test_a_new_function_needs_its_folder_and_nothing_else(tmp_path: Path) -> None:
    """CONTRIBUTING says so: the tests of the app pass on a copy of functions/ that has one more timer."""
    app = tmp_path / "functions"
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("__pycache__"))
    added = app / "run_added"
    shutil.copytree(app / "run_hist_returns", added)
    (added / "run_hist_returns.py").rename(added / "run_added.py")
    for path in added.glob("*.py"):
        path.write_text(path.read_text(encoding="utf-8").replace("run_hist_returns", "run_added"), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", str(Path(__file__))]
    environment = {**os.environ, "TESTED_FUNCTIONS_APP": str(app)}
    tests = subprocess.run(
        [*command, "-k", "not needs_its_folder"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert tests.returncode == 0, tests.stdout
    assert "[run_added] PASSED" in tests.stdout


# --- the rules themselves -----------------------------------------------------------------------

FORMS = {
    "from run_x.run_x import run": True,
    "from .run_x import run": True,
    "from . import run": False,
    "import helper": False,
}


@pytest.mark.parametrize(("form", "loads"), FORMS.items())
def test_import_forms_that_load_and_that_do_not(
    form: str, loads: bool, tmp_path: Path, host: ModuleType, clean_modules: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held against the real worker's loader once; this keeps ours the same."""
    folder = tmp_path / "run_x"
    folder.mkdir()
    (folder / "function.json").write_text(json.dumps(declared("run_hist_returns")), encoding="utf-8")
    (folder / "__init__.py").write_text(f"{form}\n\n\ndef main(mytimer):\n    pass\n", encoding="utf-8")
    (folder / "run_x.py").write_text("def run():\n    pass\n", encoding="utf-8")
    (folder / "helper.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    if loads:
        assert callable(host.load(tmp_path, "run_x"))
    else:
        with pytest.raises(ImportError):
            host.load(tmp_path, "run_x")


def test_the_host_drops_no_outcome_and_allows_ten_minutes() -> None:
    config = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    assert config["version"] == "2.0"
    assert config["functionTimeout"] == "00:10:00", "what every plan allows"
    assert "retry" not in config, "the host no longer has one for all functions"
    sampled = config["logging"]["applicationInsights"]["samplingSettings"]
    assert set(sampled["excludedTypes"].split(";")) >= {"Request", "Exception", "Trace"}
    levels = config["logging"]["logLevel"]
    assert (levels["Host.Results"], levels["Function"]) == ("Information", "Information")
    assert config["extensionBundle"]["version"] == "[4.*, 5.0.0)"


def test_the_example_settings_are_settings() -> None:
    values = json.loads((ROOT / "local.settings.example.json").read_text(encoding="utf-8"))["Values"]
    ours = {name for name in values if name.startswith("LUXOR_")}
    known = {field.metadata["env"] for field in Settings.__dataclass_fields__.values()}
    assert ours
    assert ours <= known
    assert "AccountKey" not in json.dumps(values)
