"""Lakes of every kind for tests: ``memory://``, a local folder, and a real Azurite server."""

from __future__ import annotations

import gc
import logging
import os
import re
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from luxor_pipelines.lake.storage.base import Storage
from luxor_pipelines.lake.storage.connect import connect
from luxor_pipelines.settings import Settings

if TYPE_CHECKING:
    from luxor_pipelines import LuxorQuery

ROOT = Path(__file__).parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"

# The well-known account of every Azurite; it opens nothing else.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

for variable in [name for name in os.environ if name.startswith(("LUXOR_", "AZURE_"))]:
    del os.environ[variable]  # no test may reach a lake that the developer's environment names
# A provider of spans, once set, is the process's: later tests meet it shut down, which it tells in its log.
logging.getLogger("opentelemetry").setLevel(logging.ERROR)
os.environ["LUXOR_ENV_FILE"] = ""  # nor one that a .env file names


# A busy machine is no failure. In CI the examples are the same every time, but for those of the profile `fresh`,
# which grow from `--hypothesis-seed`.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
settings.register_profile("fresh", derandomize=False, database=None, print_blob=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torture", action="store_true", help="the long version of tests/reliability")
    parser.addoption("--update-screens", action="store_true", help="write tests/screens anew")
    parser.addoption("--seed", type=int, default=1, help="what its random choices grow from")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names a case after its argument where that is the bytes of a file.

    Such bytes may hold the time they were made at, as gzip's do; processes that test side by
    side must find the same names.
    """
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Undoes what a command has set up of logging, which the next test would have to live with."""
    names = ("luxor_pipelines", "luxor_pipelines.operations.runs", "luxor_pipelines.pipelines")
    loggers = [logging.getLogger(name) for name in names]
    levels, handlers = [each.level for each in loggers], list(loggers[0].handlers)
    yield
    loggers[0].handlers[:] = handlers
    for each, level in zip(loggers, levels, strict=True):
        each.setLevel(level)


@dataclass
class Clock:
    """A clock that stands where it was put."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 23, 18, 30, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True)
class Rig:
    """One empty lake: what to pass to `LuxorQuery` or `connect` to open it, again and again."""

    kind: str
    arguments: dict[str, Any]
    settings: Settings = field(default_factory=Settings)

    @property
    def lake(self) -> dict[str, Any]:
        """What to pass to `LuxorQuery`, in another process too."""
        names = {"connection_string": "adls_connection_string", "container": "container_name"}
        return {names.get(key, key): value for key, value in self.arguments.items()}

    def query(self, **options: Any) -> LuxorQuery:
        from luxor_pipelines import LuxorQuery

        return LuxorQuery(**{"settings": self.settings, "clock": Clock(), **self.lake, **options})

    def storage(self, **options: Any) -> Storage:
        return connect(**{"settings": self.settings, **self.arguments, **options})


@dataclass(frozen=True)
class Azurite:
    """A running server."""

    url: str
    key: str = KEY
    service: str = "blob"

    @property
    def connection_string(self) -> str:
        account = f"AccountName={ACCOUNT};AccountKey={self.key}"
        return f"DefaultEndpointsProtocol=http;{account};{self.service.title()}Endpoint={self.url}/{ACCOUNT};"

    def client(self) -> Any:
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient.from_connection_string(self.connection_string)

    def container(self) -> str:
        """A new, empty container."""
        name = f"lake-{uuid.uuid4().hex}"
        with self.client() as client:
            client.create_container(name)
        return name


def _azurite_command(service: str) -> list[str] | None:
    folder = Path(os.environ.get("AZURITE_FOLDER", ROOT / ".azurite"))
    main = folder / "node_modules" / "azurite" / "dist" / "src" / service / "main.js"
    node = shutil.which("node")
    if node and main.exists():
        return [node, str(main)]
    found = shutil.which(f"azurite-{service}")
    return [found] if found else None


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """A real Azurite on a free port, stopped at the end."""
    yield from serve(tmp_path_factory.mktemp("azurite"))


def serve(location: Path, service: str = "blob", **environment: str) -> Iterator[Azurite]:
    command = _azurite_command(service)
    if command is None:
        message = f"Azurite is not installed: npm install --no-save --prefix {ROOT / '.azurite'} azurite"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    options = [f"--{service}Port", "0", "--disableTelemetry", "--skipApiVersionCheck"]
    process = subprocess.Popen(
        [*command, *options, "--location", str(location)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    url = None
    for line in process.stdout:
        found = re.search(r"successfully listen(?:ing|s) (?:at|on) (http://[\d.]+:\d+)", line)
        if found:
            url = found[1]
            break
    if url is None:
        pytest.fail(f"Azurite did not start (exit code {process.wait()})")
    # Its log must be read on, or it blocks when the pipe is full.
    drain = threading.Thread(target=lambda: [None for _ in process.stdout or ()], daemon=True)
    drain.start()
    try:
        yield Azurite(url, service=service)
    finally:
        process.terminate()
        process.wait(timeout=30)
        drain.join(timeout=30)
        process.stdout.close()


@pytest.fixture(scope="session")
def azurite_queues(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """A real server of storage queues on a free port, stopped at the end."""
    yield from serve(tmp_path_factory.mktemp("azurite"), "queue")


@pytest.fixture(scope="session")
def azurite_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Azurite]]:
    """Starts an Azurite whose account has the key that is given, stopped at the end."""
    with ExitStack() as servers:

        def start(key: str) -> Azurite:
            server = contextmanager(serve)(tmp_path_factory.mktemp("azurite"), AZURITE_ACCOUNTS=f"{ACCOUNT}:{key}")
            return replace(servers.enter_context(server), key=key)

        yield start


Make = Callable[[str], Rig]


@pytest.fixture
def make_rig(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes an empty lake of a kind: ``memory``, ``disk`` or ``azurite``."""

    def make(kind: str) -> Rig:
        name = uuid.uuid4().hex
        if kind == "memory":
            return Rig(kind, {"lake": f"memory://{name}"})
        if kind == "disk":
            folder = tmp_path / name
            folder.mkdir()
            return Rig(kind, {"lake": folder.as_uri()})
        server: Azurite = request.getfixturevalue("azurite")
        return Rig(kind, {"connection_string": server.connection_string, "container": server.container()})

    return make


@pytest.fixture(params=["memory", "disk", pytest.param("azurite", marks=pytest.mark.azurite)])
def rig(request: pytest.FixtureRequest, make_rig: Make) -> Rig:
    """An empty lake, of each kind in turn."""
    return make_rig(request.param)


@pytest.fixture
def collected() -> Iterator[None]:
    """Collects at once what the Azure SDK leaves of a transfer whose parts failed together.

    It looks at one of them, and asyncio logs the others when they are collected. Formatting that parses code, and
    Python 3.11 cannot while it is parsing some.
    """
    yield
    gc.collect()


@pytest.fixture
def disk(make_rig: Make) -> Rig:
    """An empty lake in a local folder."""
    return make_rig("disk")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real market data; the test is skipped without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real market data of ../shared/data")
    return SHARED_DATA
