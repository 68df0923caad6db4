"""The app's functions, loaded as the worker loads them, in this process and from the package."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socketserver
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from luxor_pipelines import hosting
from luxor_pipelines.demo.data import ecb_zip
from luxor_pipelines.ingest import save_table
from luxor_pipelines.pipelines.hist_returns import reference_date

ROOT = Path(__file__).parents[2]
APP = Path(os.environ.get("TESTED_FUNCTIONS_APP", ROOT / "functions"))
TOOL = ROOT / "tools" / "functionapp.py"
HOST = Path(__file__).parent / "host.py"


def by_path(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def host() -> ModuleType:
    """The module that does what the worker does."""
    return by_path(HOST)


@pytest.fixture(scope="session")
def tool() -> ModuleType:
    """The module that makes the package."""
    return by_path(TOOL)


@pytest.fixture
def clean_modules() -> Iterator[None]:
    """Forgets what the test imports, so that the next one imports it anew."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {"__app__", *(path.name for path in APP.iterdir())}:
            del sys.modules[name]


@pytest.fixture
def load_main(host: ModuleType, clean_modules: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Loads a function of the checkout."""
    monkeypatch.syspath_prepend(APP)
    return lambda name: host.load(APP, name)


@pytest.fixture
def load(host: ModuleType, load_main: Callable[[str], Any]) -> Callable[[str], Any]:
    """Loads a function of the checkout, to be called with its trigger alone."""
    return lambda name: host.bind(load_main(name))


# --- a lake -------------------------------------------------------------------------------------


def environment(rig: Any) -> dict[str, str]:
    """The settings that name a rig's lake."""
    if "lake" in rig.arguments:
        return {"LUXOR_LAKE_URL": rig.arguments["lake"]}
    return {
        "AZURE_STORAGE_CONNECTION_STRING": rig.arguments["connection_string"],
        "LUXOR_CONTAINER": rig.arguments["container"],
    }


LAST_MONTH = reference_date(None, datetime.now(ZoneInfo("America/Sao_Paulo")).date())
"""The month that a timer computes, whatever day the tests are run."""


def fill(lq: Any) -> None:
    """One fund, whose price grew by 10 % in May 2024 and by 10 % in the last month; raw files for the others."""
    before = LAST_MONTH.replace(day=1) - timedelta(days=1)
    days = [date(2024, 4, 30), date(2024, 5, 31), before, LAST_MONTH]
    fund = {"Key": "fund", "Name": "Fund", "Type": "equity", "Ticker_BBG": "fund", "Currency": "brl"}
    prices = pd.DataFrame({"Date": pd.to_datetime(days), "Asset": "fund", "Last_Price": [50.0, 55.0, 100.0, 110.0]})
    save_table("assets", pd.DataFrame([fund]), lq=lq)
    save_table("hist_px_last", prices, lq=lq)
    lq.lake.storage.write("raw/ecb/eurofxref-hist.zip", ecb_zip())
    lq.lake.storage.write("raw/prices/a.csv", b"Date,Asset,Last_Price\n2024-05-31,other,7.5\n")


@pytest.fixture
def lake(rig: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A filled lake, of each kind in turn, that the environment names as the app's settings do."""
    fill(rig.query())
    return named(rig, monkeypatch)


@pytest.fixture
def disk_lake(disk: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A filled lake in a folder, named by the environment."""
    fill(disk.query())
    return named(disk, monkeypatch)


def named(rig: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    for variable, value in environment(rig).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(hosting, "_probe", hosting._Probe())
    return rig


@pytest.fixture
def mtd() -> Callable[[Any, date], list[float]]:
    """The stored month's local return of the fund, one for each row there is of it."""

    def read(rig: Any, month: date) -> list[float]:
        where = {"Period": "mtd", "Currency": "local", "Date": month, "Key": "fund"}
        found = rig.query().get_table("hist_returns", where=where)
        return [round(each, 12) for each in found["Return"]]

    return read


# --- the package --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def wheels() -> Path:
    """The folder in which the app's wheels are kept between runs of the tests."""
    return ROOT / "build" / "wheels"


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Path:
    """The zip, as `nox -s package` makes it."""
    tool = by_path(TOOL)
    try:
        tool.app_python()
    except tool.ProblemError as problem:
        pytest.skip(str(problem))
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, str(TOOL), "build", "--target", str(target), "--wheels", str(wheels)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = target.glob("functionapp-*.zip")
    return made


@pytest.fixture(scope="session")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The zip, unpacked into an empty folder."""
    folder = tmp_path_factory.mktemp("wwwroot")
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def in_package(unpacked: Path, tmp_path: Path) -> Callable[..., tuple[list[dict[str, Any]], str]]:
    """Calls functions of the unpacked zip in a clean process: the outcomes, and all that was logged."""
    tool = by_path(TOOL)
    if sys.platform != "linux":
        pytest.skip("the package is for Linux")

    def run(calls: list[dict[str, Any]], settings: dict[str, str]) -> tuple[list[dict[str, Any]], str]:
        # No HOME, no PATH, no PYTHON*: only the settings that the app would have.
        command = [tool.app_python(), "-S", "-I", "-X", "utf8", str(HOST), str(unpacked)]
        done = subprocess.run(
            command, input=json.dumps(calls), env=settings, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    return run


@pytest.fixture
def azurite_lake(make_rig: Any) -> tuple[Any, dict[str, str]]:
    """A filled lake on Azurite, and the settings that name it."""
    rig = make_rig("azurite")
    fill(rig.query())
    return rig, environment(rig)


@pytest.fixture(params=["key", "sas"])
def secret_lake(request: Any, azurite_lake: Any, azurite: Any) -> tuple[Any, dict[str, str], list[str]]:
    """A lake on Azurite, settings that open it with the account's key or with a SAS, and what must not be seen."""
    rig, settings = azurite_lake
    key = azurite.key
    if request.param == "key":
        return rig, settings, [key]
    signature = generate_container_sas(
        "devstoreaccount1",
        settings["LUXOR_CONTAINER"],
        key,
        permission=ContainerSasPermissions(read=True, write=True, delete=True, list=True),
        expiry=datetime(2099, 1, 1, tzinfo=UTC),
    )
    (quoted,) = (part.removeprefix("sig=") for part in signature.split("&") if part.startswith("sig="))
    text = f"BlobEndpoint={azurite.url}/devstoreaccount1;SharedAccessSignature={signature}"
    return rig, {**settings, "AZURE_STORAGE_CONNECTION_STRING": text}, [key, quoted, unquote(quoted)]


@pytest.fixture
def nonsense() -> Iterator[str]:
    """The address of a server that answers what is no HTTP."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(b"220 nonsense ESMTP\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
