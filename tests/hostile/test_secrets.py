"""A key and a signature made for the test, through success and every failure, with all that logs at debug level.

Neither may be found, in any form, in what is printed, logged, raised, recorded or answered.
"""

from __future__ import annotations

import base64
import copy
import io
import json
import logging
import os
import pickle
import secrets
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus

import azure.functions as func
import pandas as pd
import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from luxor_pipelines import LuxorQuery, hosting
from luxor_pipelines.cli import main
from luxor_pipelines.errors import LuxorError, conceal, redact
from luxor_pipelines.ingest import incremental_load, save_table
from luxor_pipelines.operations import records, runs
from luxor_pipelines.settings import Settings

pytestmark = pytest.mark.azurite

OURS = Path(hosting.__file__).parent
QUICK = Settings(connect_timeout=0.2, read_timeout=5, retries=0)
PRICES = pd.DataFrame({"Date": pd.to_datetime(["2026-10-30"]), "Asset": ["a"], "Last_Price": [1.0]})


def a_key() -> str:
    """A key that has everything which is written in several ways: + / = within it."""
    return base64.b64encode(b"\xfb\xff\xbe" + secrets.token_bytes(61)).decode()


def forms(secret: str) -> list[bytes]:
    """The ways in which a secret can be written."""
    found = {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        quote(secret),
        json.dumps(secret)[1:-1],
        secret.rstrip("="),
    }
    raw = base64.b64decode(secret)
    found |= {raw.hex(), repr(raw)[2:-1], base64.urlsafe_b64encode(raw).decode()}
    found |= {base64.b64encode(secret.encode()).decode(), secret[: len(secret) // 2], secret[len(secret) // 2 :]}
    return [each.encode() for each in found] + [raw]


@dataclass
class Heard:
    """All that was printed, logged, raised and answered."""

    text: io.StringIO = field(default_factory=io.StringIO)
    data: list[bytes] = field(default_factory=list)

    def add(self, *things: object) -> None:
        for thing in things:
            self.text.write(f"{thing}\n{thing!r}\n")

    def error(self, error: BaseException) -> None:
        self.add(error, *error.args, getattr(error, "hint", ""))
        self.text.write("".join(traceback.format_exception(error)))
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        self.text.write("".join(_our_locals(told).format()))

    def whole(self) -> bytes:
        return self.text.getvalue().encode("utf-8", "backslashreplace") + b"\n".join(self.data)


def _our_locals(told: traceback.TracebackException | None) -> Any:
    """Our frames show their variables; the test's own hold what it looks for, and the Azure SDK's are its own."""
    if told is not None:
        for frame in told.stack:
            if not Path(frame.filename).is_relative_to(OURS):
                frame.locals = None
        _our_locals(told.__cause__)
        _our_locals(told.__context__)
    return told


@contextmanager
def everything_logged(heard: Heard) -> Iterator[None]:
    """Every logger there is at DEBUG, into ``heard``, with the arguments of its records."""

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.add(record.getMessage(), record.args)
            if record.exc_info and record.exc_info[1]:
                heard.error(record.exc_info[1])

    ear, root = Ear(), logging.getLogger()
    names = [None, *logging.root.manager.loggerDict, "azure", "azure.core", "azure.storage", "adlfs", "aiohttp"]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    root.addHandler(ear)
    try:
        yield
    finally:
        root.removeHandler(ear)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@dataclass(frozen=True)
class Vault:
    """An account of its own, with its key, and a signature for a container of it."""

    server: Any
    container: str
    key: str
    sas: str

    @property
    def signature(self) -> str:
        return parse_qs(self.sas)["sig"][0]

    def by_key(self, key: str | None = None) -> str:
        return self.server.connection_string.replace(self.key, key or self.key)

    def by_sas(self, sas: str | None = None) -> str:
        endpoint = self.server.connection_string.partition("BlobEndpoint=")[2].rstrip(";")
        return f"BlobEndpoint={endpoint};SharedAccessSignature={sas or self.sas}"


@pytest.fixture(scope="module")
def vault(azurite_of: Callable[[str], Any]) -> Vault:
    key = a_key()
    server = azurite_of(key)
    container = server.container()
    sas = generate_container_sas(
        "devstoreaccount1",
        container,
        account_key=key,
        permission=ContainerSasPermissions(read=True, write=True, list=True, delete=True, create=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    with everything_logged(Heard()):
        lq = LuxorQuery(adls_connection_string=server.connection_string, container_name=container)
        save_table("assets", pd.DataFrame({"Key": ["a"], "Ticker_BBG": ["a"], "Location": ["us"]}), lq=lq)
        lq.lake.storage.write("raw/prices/a.csv", b"Date,Asset,Last_Price\n2026-10-30,a,1\n")
        lq.lake.storage.write("raw/ecb/x.zip", b"no zip")
    return Vault(server, container, key, sas)


def ways(vault: Vault) -> dict[str, tuple[dict[str, Any], list[str]]]:
    """How a lake is opened, rightly and wrongly, and the secrets in it."""
    wrong, key, sas = a_key(), vault.key, vault.sas
    bad_sas = sas.replace(quote(vault.signature, safe=""), quote(wrong, safe=""))
    away = vault.server.connection_string.replace(vault.server.url, "http://127.0.0.1:1")
    url = "abfss://{}@127.0.0.1:1/lake?" + sas
    c = "connection_string"
    return {
        "key": ({c: vault.by_key()}, [key]),
        "signature": ({c: vault.by_sas()}, [vault.signature]),
        "wrong-key": ({c: vault.by_key(wrong)}, [wrong]),
        "wrong-signature": ({c: vault.by_sas(bad_sas)}, [wrong]),
        "key-that-is-no-base64": ({c: vault.by_key(key[:-1] + "!")}, [key[:-2]]),
        "key-over-two-lines": ({c: vault.by_key(key[:30] + "\n" + key[30:])}, [key]),
        "key-in-quotes": ({c: vault.by_key(f'"{key}"')}, [key]),
        "key-misspelt": ({c: vault.by_key().replace("AccountKey", "AcountKey")}, [key]),
        "key-alone": ({c: key}, [key]),
        "no-account": ({c: f"AccountKey={key}"}, [key]),
        "unreachable-key": ({c: away}, [key]),
        "unreachable-signature": ({"lake": url.format(vault.container)}, [vault.signature]),
        "malformed-url": ({"lake": url.format("UPPER")}, [vault.signature]),
        "password-in-url": ({"lake": f"abfss://lake:{quote(key, safe='')}@account.dfs.core.windows.net"}, [key]),
        "other-storage": ({"lake": f"gopher://user:{quote(key, safe='')}@host/x?{sas}"}, [key, vault.signature]),
        "web": ({"lake": f"http://user:{quote(key, safe='')}@127.0.0.1:1/x?{sas}"}, [key, vault.signature]),
        "missing-container": ({c: vault.by_key(), "container": "nothing-here"}, [key]),
    }


def deeds(lq: Any) -> list[Callable[[], Any]]:
    wrong = PRICES.assign(Last_Price=["x"])
    return [
        lambda: lq.list_tables(),
        lambda: lq.get_table("nothing"),
        lambda: lq.lake.storage.read("raw/nothing"),
        lambda: save_table("t", PRICES, lq=lq, mode="replace"),
        lambda: incremental_load(lq, "t", wrong),
        lambda: runs.run("market_prices", lq=lq),
        lambda: runs.run("fx_rates", lq=lq),
        lambda: runs.run("market_prices", lq=lq, decimal="?"),
        lambda: [report.as_dict() for report in records.last_runs(lq)],
    ]


@pytest.mark.parametrize("way", ways(Vault(type("S", (), {"connection_string": "", "url": "x"}), "c", "k", "sig=s")))
def test_a_notebook_tells_no_secret(way: str, vault: Vault, capfd: pytest.CaptureFixture[str]) -> None:
    arguments, hidden = ways(vault)[way]
    heard = Heard()
    names = {"connection_string": "adls_connection_string", "container": "container_name"}
    options = {"container": vault.container} if "connection_string" in arguments else {}
    given = {names.get(name, name): value for name, value in (options | arguments).items()}
    with everything_logged(heard):
        try:
            lq = LuxorQuery(**given, settings=QUICK)
        except LuxorError as error:
            heard.error(error)
        else:
            heard.add(lq, lq.lake.storage, lq.settings, vars(lq), vars(lq.lake.storage), lq.market)
            for deed in deeds(lq):
                try:
                    heard.add(deed())
                except LuxorError as error:
                    heard.error(error)
            for thing in (lq, lq.lake.storage, lq.settings):
                try:
                    heard.data.append(pickle.dumps(thing))
                except Exception as error:  # noqa: BLE001 - whatever cannot be pickled tells nothing
                    heard.error(error)
    heard.add(*capfd.readouterr())
    check(heard, hidden)


def check(heard: Heard, hidden: list[str]) -> None:
    whole = heard.whole()
    for secret in hidden:
        for form in forms(secret + "=" * (-len(secret) % 4)):
            at = whole.find(form)
            assert at < 0, f"…{whole[max(0, at - 300) : at]!r}: here is a secret"


@pytest.mark.parametrize("way", ["key", "signature", "wrong-key", "wrong-signature", "unreachable-key", "key-misspelt"])
def test_the_app_tells_no_secret(
    way: str, vault: Vault, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments, hidden = ways(vault)[way]
    for name, value in {
        "AZURE_STORAGE_CONNECTION_STRING": arguments["connection_string"],
        "LUXOR_CONTAINER": vault.container,
        "LUXOR_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(hosting, "_probe", hosting._Probe())
    heard = Heard()

    def request(body: bytes = b"") -> func.HttpRequest:
        return func.HttpRequest("POST", "/api", body=body, route_params={"name": "fx_rates"})

    def broken() -> Any:
        raise RuntimeError(f"it had {arguments['connection_string']}")

    with everything_logged(heard):
        answers = [
            hosting.post_run(request(), lambda name, day: runs.run(name, ref_date=day)),
            hosting.post_run(request(), lambda name, day: broken()),
            hosting.get_pipelines(request()),
            hosting.get_health(request()),
        ]
        heard.data += [answer.get_body() for answer in answers]
        timer = type("Timer", (), {"past_due": False})()
        for run in (lambda: [runs.run("fx_rates")], lambda: broken()):
            try:
                hosting.on_timer(timer, run)
            except Exception as error:  # noqa: BLE001 - the host logs whatever it is
                heard.add(error)
                heard.text.write("".join(traceback.format_exception(error)))
    heard.add(*capfd.readouterr())
    check(heard, hidden)


@pytest.mark.parametrize("way", ["key", "wrong-key", "wrong-signature", "unreachable-key", "key-over-two-lines"])
def test_the_command_line_tells_no_secret(way: str, vault: Vault, tmp_path: Path) -> None:
    arguments, hidden = ways(vault)[way]
    environment = {
        **os.environ,
        "AZURE_STORAGE_CONNECTION_STRING": arguments["connection_string"],
        "LUXOR_CONTAINER": vault.container,
        "LUXOR_RETRIES": "0",
    }
    heard = Heard()
    command = [sys.executable, "-m", "luxor_pipelines", "run", "fx_rates", "--debug", "--json"]
    process = subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if Path("/proc").is_dir():
        for entry in Path("/proc").glob("[0-9]*/cmdline"):  # what `ps` shows to everybody
            try:
                heard.data.append(entry.read_bytes())
            except OSError:  # ended meanwhile
                continue
    out, _ = process.communicate(timeout=120)
    assert process.returncode in {1, 3}
    assert "Traceback" in out
    heard.add(out)
    check(heard, hidden)


def test_a_signature_in_an_address_is_masked_in_what_the_command_line_says(
    vault: Vault, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUXOR_RETRIES", "0")
    monkeypatch.setenv("LUXOR_CONNECT_TIMEOUT", "0.2")
    heard = Heard()
    for url in (f"abfss://{vault.container}@127.0.0.1:1/?{vault.sas}", f"nothing://x?{vault.sas}"):
        assert main(["tables", "--lake", url, "--debug"]) == 3
        heard.add(*capsys.readouterr())
    check(heard, [vault.signature])


def test_run_records_hold_no_secret(vault: Vault) -> None:
    """All of the lake, after the tests above and runs whose parameters and errors have secrets in them."""
    lq = LuxorQuery(adls_connection_string=vault.by_key(), container_name=vault.container)
    for table in (vault.key, vault.sas, vault.by_key()):
        with pytest.raises(LuxorError):
            runs.run("market_prices", lq=lq, table=table)
    heard = Heard()
    with vault.server.client() as client:
        container = client.get_container_client(vault.container)
        for blob in container.list_blobs(include=["metadata"]):
            heard.add(blob.name, blob.metadata)
            heard.data.append(container.download_blob(blob.name).readall())
    assert heard.data
    check(heard, [vault.key, vault.signature])


@pytest.mark.parametrize(
    "text",
    [
        "AccountKey={}",
        "AccountKey = '{}'",
        '{{"AccountKey": "{}"}}',
        "https://x/?sv=1&sig={}&se=2",
        "https%3A%2F%2Fx%3Fsig%3D{}",
        "Authorization: SharedKey account:{}",
        "Authorization: Bearer {}",
        "client_secret={}&x",
        "SharedAccessSignature=sv=1&sig={}",
    ],
)
def test_what_a_secrets_name_goes_before_is_masked_though_nobody_has_named_the_secret(text: str) -> None:
    secret = a_key()
    for form in (secret, quote(secret, safe="")):
        assert form not in redact(text.format(form))


@pytest.mark.parametrize(
    "secret",
    ["pass;word' and\"more,1", "the-first\nthe-second\r\nand-last", "ümläut-ключ", "a%2Bb%2Fc%3D%3D", "x" * 5_000],
)
def test_a_named_secret_is_masked_in_every_form(secret: str) -> None:
    conceal(secret)
    for form in (
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        repr(secret),
        *(part for part in secret.split() if len(part) >= 6),
    ):
        assert form.strip("'\"") not in redact(f"before {form} after")


def test_copies_of_settings_show_nothing(vault: Vault) -> None:
    settings = Settings(connection_string=vault.by_key(), lake_url=f"abfss://c@a.b.c/?{vault.sas}")
    heard = Heard()
    heard.add(settings, copy.deepcopy(settings), replace(settings, retries=1), asdict(settings), vars(settings))
    check(heard, [vault.key, vault.signature])
