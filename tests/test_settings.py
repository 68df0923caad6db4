"""Settings from the environment and from a .env file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from luxor_pipelines import LuxorQuery
from luxor_pipelines.errors import ConfigurationError
from luxor_pipelines.settings import ENV_FILE, Settings

AZURE_NAMES = ("AZURE_TENANT_ID", "AZURE_CLIENT_SECRET")


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes a .env file above the working folder, and lets it be found."""
    folder = tmp_path / "project" / "notebooks"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv(ENV_FILE)
    for name in AZURE_NAMES:  # undone after the test
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def write(text: str) -> Path:
        file = tmp_path / "project" / ".env"
        file.write_bytes(text.encode())
        return file

    return write


def test_a_file_above_the_working_folder_is_read(env_file: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    env_file(f'# the firm\'s lake\nLUXOR_LAKE_URL="{(tmp_path / "lake").as_uri()}"\nexport LUXOR_RETRIES=7\n')
    assert Settings.from_env().retries == 7
    assert Settings.read("retries") == 7
    assert LuxorQuery().lake.url == (tmp_path / "lake").as_uri()


def test_the_nearest_file_is_the_one(env_file: Callable[[str], Path]) -> None:
    env_file("LUXOR_RETRIES=7\nLUXOR_STALE_FUND=60\n")
    Path(".env").write_text("LUXOR_RETRIES=8\n", encoding="utf-8")
    assert (Settings.from_env().retries, Settings.from_env().stale_fund) == (8, 45)


def test_the_environment_wins(env_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    env_file("LUXOR_RETRIES=7\nLUXOR_STALE_FUND=60\nLUXOR_CONTAINER=other\n")
    monkeypatch.setenv("LUXOR_RETRIES", "2")
    monkeypatch.setenv("LUXOR_STALE_FUND", " ")  # blank is unset
    settings = Settings.from_env()
    assert (settings.retries, settings.stale_fund, settings.container) == (2, 60, "other")


def test_a_blank_name_turns_it_off(env_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    env_file("LUXOR_RETRIES=7\n")
    monkeypatch.setenv(ENV_FILE, "")
    assert Settings.from_env() == Settings()


def test_a_named_file_is_read_instead(
    env_file: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file("LUXOR_RETRIES=7\n")
    (tmp_path / "prod.env").write_text("LUXOR_RETRIES=9\n", encoding="utf-8")
    monkeypatch.setenv(ENV_FILE, str(tmp_path / "prod.env"))
    assert Settings.from_env().retries == 9


def test_a_named_file_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ENV_FILE, str(tmp_path / "no.env"))
    with pytest.raises(ConfigurationError, match=ENV_FILE):
        Settings.from_env()


def test_a_file_that_is_no_text_is_an_error_that_shows_none_of_it(
    env_file: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "project" / ".env").write_bytes(b"AccountKey=hidden\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"\.env") as caught:
        Settings.from_env()
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_bad_value_names_its_variable(env_file: Callable[[str], Path]) -> None:
    env_file("LUXOR_RETRIES=many\n")
    with pytest.raises(ConfigurationError, match="LUXOR_RETRIES"):
        Settings.from_env()


def test_names_of_azure_identity_are_handed_to_the_environment(
    env_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file("AZURE_TENANT_ID=file\nAZURE_CLIENT_SECRET=file\nAZURE_STORAGE_CONNECTION_STRING=x\nOTHER=y\n")
    monkeypatch.setenv("AZURE_TENANT_ID", "mine")
    settings = Settings.from_env()
    assert [os.environ.get(name) for name in AZURE_NAMES] == ["mine", "file"]
    # adlfs would let this one win over a lake named by URL, were it in the environment.
    assert "AZURE_STORAGE_CONNECTION_STRING" not in os.environ
    assert settings.connection_string == "x"
    assert "OTHER" not in os.environ


def test_the_origin_of_each_setting_is_told(env_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    file = env_file("LUXOR_RETRIES=7\nAZURE_STORAGE_CONNECTION_STRING=AccountKey=secret\n")
    monkeypatch.setenv("LUXOR_STALE_FUND", "60")
    origins = {origin.variable: (origin.value, origin.origin) for origin in Settings.origins()}
    assert origins["LUXOR_RETRIES"] == (7, str(file))
    assert origins["LUXOR_STALE_FUND"] == (60, "environment")
    assert origins["LUXOR_STALE_TRADED"] == (10, "default")
    assert origins["AZURE_STORAGE_CONNECTION_STRING"] == ("***", str(file))
