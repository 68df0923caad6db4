"""The zip: what is in it, that it is always the same, and that it runs by itself."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from luxor_pipelines import __version__
from luxor_pipelines.operations.records import last_runs
from luxor_pipelines.operations.runs import queue_run
from luxor_pipelines.pipelines.hist_returns import reference_date

ROOT = Path(__file__).parents[2]
SITE = ".python_packages/lib/site-packages/"
FOLDERS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/function.json"))
LAST_MONTH = reference_date(None, datetime.now(ZoneInfo("America/Sao_Paulo")).date())
DIGITS = json.loads((ROOT / "functions" / "python.json").read_text(encoding="utf-8"))["version"].replace(".", "")
Calls = Callable[..., tuple[list[dict[str, Any]], str]]


# --- what is in it ------------------------------------------------------------------------------


def test_the_app_is_whole(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    own = {name for name in names if not name.startswith(SITE) and not name.endswith(".pyc")}
    wanted = {"host.json", "requirements.txt"}
    for folder in FOLDERS:
        paths = [path for path in (ROOT / "functions" / folder).iterdir() if path.suffix in {".json", ".py"}]
        wanted |= {f"{folder}/{path.name}" for path in paths}
    assert own == wanted
    assert {
        f"{SITE}luxor_pipelines/operations/runs.py",
        f"{SITE}azure/functions/__init__.py",
        f"{SITE}pyarrow/lib.cpython-{DIGITS}-x86_64-linux-gnu.so",
    } <= set(names)
    assert not [name for name in names if name.endswith("direct_url.json")]
    assert not [name for name in names if name.startswith("/") or ".." in name.split("/")]


def test_all_binaries_are_for_linux_on_x86_64(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        libraries = [name for name in archive.namelist() if re.search(r"\.(so(\.\d+)*|pyd|dll|dylib)$", name)]
        heads = [archive.open(name).read(20) for name in libraries]
    assert len(libraries) > 50
    # An ELF file, 64 bits, machine 62.
    assert {(head[:5], head[18:20]) for head in heads} == {(b"\x7fELF\x02", b"\x3e\x00")}
    assert not [name for name in libraries if re.search(rf"\.cpython-(?!{DIGITS}-x86_64)", name)]


def test_every_source_has_bytecode_that_is_used_without_a_look_at_the_source(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        names = set(archive.namelist())
        sources = {name for name in names if name.endswith(".py")}
        bytecode = {
            f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-{DIGITS}.pyc"
            for folder, _, name in (source.rpartition("/") for source in sources)
        }
        assert {name for name in names if name.endswith(".pyc")} == bytecode
        heads = {archive.open(name).read(8) for name in bytecode}
    assert len(sources) > 2000
    (head,) = heads
    # PEP 552: a file that is known by its source's hash, which is not to be checked.
    assert head[2:] == b"\r\n\x01\x00\x00\x00"


def test_bytecode_that_comes_out_differently_is_left_out(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [{"a.pyc": b"1", "b.pyc": b"1"}, {"a.pyc": b"1", "b.pyc": b"2"}]
    monkeypatch.setattr(tool, "app_python", lambda: "python")
    monkeypatch.setattr(tool, "compile_files", lambda files, python: results.pop())
    assert tool.compile_twice({}) == {}
    assert "two compilations differ in 1 files, such as b.pyc" in capsys.readouterr().out


def test_a_source_that_does_not_compile_is_refused(tool: ModuleType) -> None:
    with pytest.raises(tool.ProblemError, match="Bytecode could not be compiled"):
        tool.compile_files({"bad.py": b"def"}, sys.executable)


def test_arrow_works_without_the_libraries_that_are_left_out(package: Path, tool: ModuleType) -> None:
    with zipfile.ZipFile(package) as archive:
        libraries = [name for name in archive.namelist() if name.startswith(f"{SITE}pyarrow/") and ".so" in name]
    assert not [name for name in libraries if "flight" in name or "s3" in name]
    assert [name for name in libraries if "libarrow_substrait" in name], "Arrow's core links to it"


def test_its_requirements_name_every_wheel_by_hash(package: Path, tool: ModuleType) -> None:
    with zipfile.ZipFile(package) as archive:
        text = archive.read("requirements.txt").decode()
    pins = tool.read_lock(text)
    (wheel,) = package.parent.glob("luxor_pipelines-*.whl")
    assert pins.pop("luxor-pipelines") == (__version__, hashlib.sha256(wheel.read_bytes()).hexdigest())
    locked = tool.read_lock((ROOT / "functions" / "requirements.txt").read_text(encoding="utf-8"))
    assert locked.pop("luxor-pipelines") == (__version__, None)
    assert pins == locked
    assert "://" not in text, "no registry is named"
    assert not re.search(r"^\s*-", text.replace("    --hash", ""), re.MULTILINE)


def test_it_is_small_enough(package: Path, tool: ModuleType) -> None:
    with zipfile.ZipFile(package) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    assert unpacked < tool.UNPACKED_MAX <= 500_000_000
    assert package.stat().st_size < tool.ZIP_MAX


def test_the_same_inputs_give_the_same_bytes(package: Path, wheels: Path, tmp_path: Path) -> None:
    """Another place, another time zone, language and umask, another order of files."""
    command = [sys.executable, str(ROOT / "tools" / "functionapp.py"), "build"]
    environment = {**os.environ, "TZ": "Pacific/Auckland", "LC_ALL": "C", "PYTHONHASHSEED": "1"}
    options = ["--target", str(tmp_path), "--wheels", str(wheels)]
    before = os.umask(0o077)
    try:
        subprocess.run([*command, *options], env=environment, check=True, stdout=subprocess.DEVNULL)
    finally:
        os.umask(before)
    assert (tmp_path / package.name).read_bytes() == package.read_bytes()
    with zipfile.ZipFile(package) as archive:
        assert archive.namelist() == sorted(archive.namelist())
        assert {(each.date_time, each.external_attr, each.create_system) for each in archive.infolist()} == {
            ((1980, 1, 1, 0, 0, 0), 0o100644 << 16, 3)
        }
    sums = (tmp_path / "SHA256SUMS").read_text(encoding="utf-8")
    assert f"{hashlib.sha256(package.read_bytes()).hexdigest()}  {package.name}\n" in sums


# --- what stops it ------------------------------------------------------------------------------


@pytest.fixture
def pins(tool: ModuleType) -> dict[str, Any]:
    found: dict[str, Any] = tool.read_lock(tool.LOCK.read_text(encoding="utf-8"))
    return found


def test_the_lock_meets_what_is_declared(tool: ModuleType, pins: dict[str, Any]) -> None:
    tool.check_lock(pins)
    assert tool.read_lock(tool.write_lock(pins)) == pins


def test_a_pin_of_another_version_than_the_wheel_is_refused(tool: ModuleType, pins: dict[str, Any]) -> None:
    with pytest.raises(tool.ProblemError, match=r"luxor-pipelines 9\.9\.9 is pinned, but the checkout is"):
        tool.check_lock({**pins, "luxor-pipelines": ("9.9.9", None)})
    with pytest.raises(tool.ProblemError, match="luxor-pipelines nothing is pinned"):
        tool.check_lock({name: pin for name, pin in pins.items() if name != "luxor-pipelines"})


def test_a_wheel_of_another_version_than_the_pin_is_refused(
    tool: ModuleType, pins: dict[str, Any], package: Path
) -> None:
    (wheel,) = package.parent.glob("luxor_pipelines-*.whl")
    tool.check_wheels([wheel], pins)
    with pytest.raises(tool.ProblemError, match=r"is version .*, but 0\.0\.9 is pinned"):
        tool.check_wheels([wheel], {**pins, "luxor-pipelines": ("0.0.9", None)})


def test_dependencies_that_the_lock_does_not_meet_are_refused(
    tool: ModuleType, pins: dict[str, Any], package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(tool.ProblemError, match=r"needs pandas.*, but 1\.5\.0 is pinned"):
        tool.check_lock({**pins, "pandas": ("1.5.0", "0" * 64)})
    without = {name: pin for name, pin in pins.items() if name != "azure-functions"}
    with pytest.raises(tool.ProblemError, match=r"needs azure-functions.*not pinned"):
        tool.check_lock(without)
    with pytest.raises(tool.ProblemError, match="pandas has no hash"):
        tool.check_lock({**pins, "pandas": (pins["pandas"][0], None)})
    # The set is closed: what a dependency needs is there, too.
    (wheel,) = package.parent.glob("luxor_pipelines-*.whl")
    with pytest.raises(tool.ProblemError, match=r"luxor-pipelines needs pyarrow.*not pinned"):
        tool.check_wheels([wheel], {name: pin for name, pin in pins.items() if name != "pyarrow"})


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://example.org/simple",
        "pandas>=2",
        "-e .",
        "luxor-pipelines @ file:///x.whl",
        "pandas==2 --hash=md5:1",
    ],
)
def test_a_lock_file_holds_pins_and_nothing_else(tool: ModuleType, line: str) -> None:
    with pytest.raises(tool.ProblemError, match="no pin"):
        tool.read_lock(f"adlfs==2026.8.0\n{line}\n")


# --- that it runs -------------------------------------------------------------------------------


@pytest.mark.azurite
def test_every_function_runs_from_the_zip_alone(in_package: Calls, azurite_lake: Any, mtd: Any, unpacked: Path) -> None:
    rig, settings = azurite_lake
    queued = queue_run("hist_returns", ref_date="2024-04-30", lake=rig.query())
    timers = [{"function": name, "past_due": False} for name in ("run_fx_rates", "run_market_prices", "run_holidays")]
    post = {"function": "run_pipeline", "body": '{"ref_date": "2024-05-31"}', "params": {"name": "hist_returns"}}
    calls = [
        {"function": "health"},
        *timers,
        {"function": "run_hist_returns", "past_due": True},
        post,
        {**post, "params": {"name": "../runs"}},
        {**post, "body": "[]"},
        {"function": "list_pipelines"},
        {"function": "get_run", "params": {"pipeline": "hist_returns", "run": "none"}},
        *({"function": name, "message": queued.path} for name in ("run_pipeline_queue", "run_pipeline_poison")),
    ]
    assert sorted({call["function"] for call in calls}) == FOLDERS
    *outcomes, about = in_package(calls, settings)[0]
    health, *timed, posted, unknown, bad, listed, got, worked, poisoned = outcomes
    assert (got["status"], worked["returned"], poisoned["returned"]) == (404, None, None)
    assert health["body"] == {"status": "ok", "lake": "reachable", "library_version": __version__}
    assert [each["returned"] for each in timed] == [None] * 4
    assert (posted["status"], posted["body"]["status"]) == (200, "done")
    assert (unknown["status"], bad["status"]) == (404, 400)
    assert {each["last_run"]["status"] for each in listed["body"]["pipelines"]} == {"done"}
    assert mtd(rig, LAST_MONTH) == [0.1]
    assert mtd(rig, posted["body"]["ref_date"]) == [0.1]
    assert {report.library_version for report in last_runs(rig.query())} == {__version__}
    # It was the zip's library, and nothing else was on the path but the standard library.
    assert about["library"] == str(unpacked / SITE / "luxor_pipelines" / "__init__.py")
    assert not [path for path in about["path"] if "site-packages" in path and not path.startswith(str(unpacked))]


def test_without_settings_it_says_which_are_missing(in_package: Calls) -> None:
    (outcome, _), log = in_package([{"function": "run_hist_returns", "past_due": False}], {})
    assert outcome["raised"] == "ConfigurationError"
    for name in ("LUXOR_LAKE_URL", "AZURE_STORAGE_CONNECTION_STRING"):
        assert name in outcome["message"], "which the host logs"
        assert name in log.split("run_hist_returns failed: ConfigurationError")[1]


@pytest.mark.azurite
def test_no_secret_is_logged_answered_or_recorded(
    in_package: Calls, secret_lake: Any, azurite: Any, nonsense: str
) -> None:
    rig, settings, hidden = secret_lake
    rig.storage().delete("enriched/parquet/assets.parquet")
    fails = {"function": "run_pipeline", "body": "{}", "params": {"name": "hist_returns"}}  # there are no assets
    calls = [fails, {"function": "run_hist_returns", "past_due": False}, {"function": "health"}]
    outcomes, log = in_package(calls, settings)
    assert [outcomes[0]["status"], outcomes[1]["raised"]] == [500, "TableNotFoundError"]
    records = [rig.storage().read(info.path).data.decode() for info in rig.storage().list("system")]
    assert len(records) == 2
    elsewhere = settings["AZURE_STORAGE_CONNECTION_STRING"].replace(azurite.url, nonsense)
    broken, more = in_package(calls, {**settings, "AZURE_STORAGE_CONNECTION_STRING": elsewhere, "LUXOR_RETRIES": "0"})
    assert [broken[0]["status"], broken[1]["raised"], broken[2]["status"]] == [500, "UnreachableError", 503]
    for text in (json.dumps(outcomes), json.dumps(broken), log, more, *records):
        assert not [part for part in hidden if part in text]
        assert "SharedKey " not in text
        assert not re.search(r"sig=(?!\*\*\*)", text)
