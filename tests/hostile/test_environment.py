"""Environment values, addresses and connection strings that are wrong: told before anything is sent."""

from __future__ import annotations

import copy
import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from luxor_pipelines.errors import ConfigurationError, InvalidNameError, LuxorError
from luxor_pipelines.lake.storage.connect import connect
from luxor_pipelines.settings import Settings

KEY = "aG9zdGlsZS1rZXktaG9zdGlsZS1rZXk="
NUMBERS = [f for f in fields(Settings) if isinstance(f.default, int | float) and not isinstance(f.default, bool)]
NO_NUMBERS = {
    "negative": "-1",
    "negative-zero-point": "-0.5",
    "nan": "nan",
    "infinite": "inf",
    "minus-infinite": "-inf",
    "beyond-float": "1e400",
    "huge": "9" * 400,
    "huge-beyond-int": "9" * 5_000,
    "very-many": "1e30",
    "text": "many",
    "unit": "30s",
    "hexadecimal": "0x10",
    "two": "1 2",
    "list": "1,2",
    "comma": "2,75",
    "command": "3;rm -rf /",
    "nul": "3\0",
    "surrogate": "\ud800",
}


@pytest.mark.parametrize("case", NO_NUMBERS)
@pytest.mark.parametrize("variable", [f.metadata["env"] for f in NUMBERS])
def test_a_number_that_is_none_or_out_of_bounds(variable: str, case: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({variable: NO_NUMBERS[case]})
    assert variable in str(caught.value)
    assert caught.value.hint
    assert NO_NUMBERS[case] not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("LUXOR_RETRIES", "1000000000"),
        ("LUXOR_RETRIES", "1e9"),
        ("LUXOR_CONNECT_TIMEOUT", "0"),
        ("LUXOR_CONNECT_TIMEOUT", "1e9"),
        ("LUXOR_READ_TIMEOUT", "86400"),
        ("LUXOR_LOAD_ATTEMPTS", "0"),
        ("LUXOR_LOAD_ATTEMPTS", "100000"),
        ("LUXOR_RUN_LOCK_TTL", "0"),
        ("LUXOR_STALE_FUND", "1000000"),
        ("LUXOR_ECB_FETCH", "maybe"),
        ("LUXOR_ECB_FETCH", "2"),
    ],
)
def test_what_would_wait_for_ever_or_not_at_all(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        Settings.from_env({variable: text})


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_blank_is_unset(text: str) -> None:
    assert Settings.from_env({f.metadata["env"]: text for f in fields(Settings)}) == Settings()


def test_the_defaults_lie_within_their_bounds() -> None:
    for setting in NUMBERS:
        variable = setting.metadata["env"]
        assert Settings.from_env({variable: repr(setting.default)}) == Settings()
        for bound in (setting.metadata["least"], setting.metadata["most"]):
            Settings.from_env({variable: repr(type(setting.default)(bound))})


# --- addresses ------------------------------------------------------------------------------------

ADDRESSES = {
    "empty": "",
    "blank": " \t",
    "only-scheme": "abfss://",
    "no-container": "abfss://account.dfs.core.windows.net/",
    "empty-container": "abfss://@account.dfs.core.windows.net/",
    "no-account": "abfss://lake",
    "no-slashes": "abfss:lake",
    "short-host": "abfss://lake@account",
    "port-letters": "abfss://lake@account.dfs.core.windows.net:port/",
    "port-too-large": "abfss://lake@account.dfs.core.windows.net:99999/",
    "ipv6": "abfss://lake@[::1]:10000/",
    "ipv6-half": "abfss://lake@[::1/",
    "container-upper": "abfss://LAKE@account.dfs.core.windows.net",
    "container-short": "abfss://a@account.dfs.core.windows.net",
    "container-dots": "abfss://..@account.dfs.core.windows.net",
    "container-encoded-slash": "abfss://a%2fb@account.dfs.core.windows.net",
    "password": f"abfss://lake:{KEY}@account.dfs.core.windows.net",
    "query-without-signature": "abfss://lake@account.dfs.core.windows.net/?sv=2024-01-01",
    "fragment": "abfss://lake@account.dfs.core.windows.net/#x",
    "unknown-scheme": "gopher://lake",
    "s3-without-library": "s3://bucket/lake",
    "s3-with-secret": f"s3://id:{KEY}@bucket/lake",
    "script": "javascript:alert(1)",
    "another-machine": "file://server/share",
    "no-folder": "file://",
    "missing-folder": "file:///no/such/folder",
    "missing-relative": "no-such-folder",
    "nul": "file:///a\0b",
    "surrogate": "file:///\ud800",
    "overlong": "x" * 100_000,
    "overlong-url": "file:///" + "x/" * 50_000,
    "zip-of-nothing": "reference://",
    "number": 7,
    "bytes": b"file:///",
    "list": ["file:///"],
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_addresses_that_are_no_lake(case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "server" / "share").mkdir(parents=True)  # which file://server/share is not
    with pytest.raises(ConfigurationError) as caught:
        connect(ADDRESSES[case], settings=Settings())
    check(caught.value)


@pytest.mark.parametrize("folder", ["../x", "a%2f..%2fb", "%2e%2e", "a%00", "a%5cb", ".hidden", "con"])
def test_folders_that_lead_out_of_the_container(folder: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        connect(f"abfss://lake@account.dfs.core.windows.net/{folder}", settings=Settings())
    check(caught.value)


def check(error: LuxorError) -> None:
    assert error.hint
    assert KEY not in str(error)
    assert KEY not in repr(error)
    assert len(str(error)) < 1_000


def test_a_folder_may_be_given_as_a_path(tmp_path: Path) -> None:
    assert connect(tmp_path, settings=Settings()).url == tmp_path.as_uri()


REAL = f"DefaultEndpointsProtocol=https;AccountName=account;AccountKey={KEY};EndpointSuffix=core.windows.net"
CONNECTIONS = {
    "empty": "",
    "blank": "   ",
    "a-word": "secret",
    "the-key-alone": KEY,
    "the-name-alone": "AccountKey",
    "no-values": "=;=;=",
    "semicolons": ";;;;",
    "no-account": REAL.replace("AccountName=account", "AccountName="),
    "no-key": REAL.replace(KEY, ""),
    "key-that-is-no-base64": REAL.replace(KEY, KEY[:-1] + "!"),
    "key-cut-short": REAL.replace(KEY, KEY[:-2]),
    "key-over-two-lines": REAL.replace(KEY, KEY[:9] + "\n" + KEY[9:]),
    "commas": REAL.replace(";", ","),
    "lines": REAL.replace(";", "\n"),
    "misspelt": REAL.replace("AccountKey", "AcountKey"),
    "account-that-is-a-host": REAL.replace("AccountName=account", "AccountName=evil.example/x@account"),
    "account-with-slash": REAL.replace("AccountName=account", "AccountName=evil.example/"),
    "another-protocol": REAL.replace("https", "gopher"),
    "endpoint-port-letters": f"BlobEndpoint=http://127.0.0.1:port/a;AccountName=a;AccountKey={KEY}",
    "endpoint-half-ipv6": f"BlobEndpoint=http://[::1/a;AccountName=a;AccountKey={KEY}",
    "endpoint-with-user": f"BlobEndpoint=http://u:p@127.0.0.1/a;AccountName=a;AccountKey={KEY}",
    "signature-without-endpoint": f"SharedAccessSignature=sv=1&sig={KEY}",
    "surrogate": REAL.replace(KEY, "\ud800"),
    "long": "A=1;" * 10_000,
    "number": 7,
    "bytes": REAL.encode(),
}


@pytest.mark.parametrize("case", CONNECTIONS)
def test_connection_strings_that_are_none(case: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(connection_string=CONNECTIONS[case], container="lake", settings=Settings())
    check(caught.value)
    assert not caught.value.__cause__
    assert not caught.value.__context__


@pytest.mark.parametrize("name", ["", "..", "a/b", "LAKE", "ab", "a--b", "-ab", "a_b", "x" * 64, "a\0b", "a?sig=1", 7])
def test_containers_that_are_none(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="container"):
        connect(connection_string=REAL, container=name, settings=Settings())


def test_two_lakes_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="together"):
        connect(tmp_path.as_uri(), connection_string=REAL, settings=Settings())
    with pytest.raises(ConfigurationError, match="another account"):
        connect("abfss://lake@other.dfs.core.windows.net", connection_string=REAL, settings=Settings())


def test_settings_are_not_pickled_and_a_copy_is_the_same() -> None:
    settings = Settings(connection_string=REAL)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(settings)
    assert copy.copy(settings) is settings
    assert copy.deepcopy([settings])[0] is settings
