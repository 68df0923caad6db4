"""The environment and the ``.env`` file, read once into `Settings`. The only room that looks at ``os.environ``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from luxor_pipelines.errors import ConfigurationError, Secret, conceal, shown

__all__ = ["ECB_URL", "ENV_FILE", "SettingOrigin", "Settings"]

ENV_FILE = "LUXOR_ENV_FILE"
"""Names the ``.env`` file. Unset: the nearest one, in the working folder or above. Blank: none."""

ECB_URL = "https://www.ecb.europa.eu/stats/eurofxref/eurofxref-hist.zip"

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def _env(
    variable: str,
    default: Any,
    *,
    least: float = 0,
    most: float = float("inf"),
    choices: tuple[str, ...] = (),
    **options: Any,
) -> Any:
    """Return a field of `Settings` with its environment variable, the bounds of a number and the choices of a text."""
    metadata = {"env": variable, "least": least, "most": most, "choices": choices}
    return field(default=default, metadata=metadata, **options)


_HOUR, _DAY, _CENTURY = 3_600.0, 86_400.0, 36_525
_INSTANT = 0.001


@dataclass(frozen=True)
class Settings:
    """The settings, each with the environment variable that sets it.

    Durations are seconds, staleness limits calendar days. Secrets are kept out of the ``repr``, and settings that
    hold one are not pickled.
    """

    lake_url: str | None = _env("LUXOR_LAKE_URL", None, repr=False)
    connection_string: str | None = _env("AZURE_STORAGE_CONNECTION_STRING", None, repr=False)
    container: str = _env("LUXOR_CONTAINER", "luxorasap")

    connect_timeout: float = _env("LUXOR_CONNECT_TIMEOUT", 3.0, least=_INSTANT, most=_HOUR)
    read_timeout: float = _env("LUXOR_READ_TIMEOUT", 30.0, least=_INSTANT, most=_HOUR)
    retries: int = _env("LUXOR_RETRIES", 3, most=100)
    request_timeout: float = _env("LUXOR_REQUEST_TIMEOUT", 120.0, least=_INSTANT, most=_DAY)
    lock_timeout: float = _env("LUXOR_LOCK_TIMEOUT", 60.0, most=_DAY)
    run_lock_ttl: float = _env("LUXOR_RUN_LOCK_TTL", 90.0, least=_INSTANT, most=_DAY)
    load_attempts: int = _env("LUXOR_LOAD_ATTEMPTS", 12, least=1, most=1_000)
    layout: str = _env("LUXOR_LAYOUT", "declared", choices=("declared", "file"))
    cache_bytes: int = _env("LUXOR_CACHE_BYTES", 2_000_000_000, most=2**60)

    stale_traded: int = _env("LUXOR_STALE_TRADED", 10, most=_CENTURY)
    stale_fund: int = _env("LUXOR_STALE_FUND", 45, most=_CENTURY)
    time_zone: str = _env("LUXOR_TIME_ZONE", "America/Sao_Paulo")

    log_format: str = _env("LUXOR_LOG_FORMAT", "text", choices=("text", "json"))
    telemetry: str = _env("LUXOR_TELEMETRY", "none", choices=("none", "azure"))

    raw_bytes: int = _env("LUXOR_RAW_BYTES", 500_000_000, least=1, most=2**40)
    raw_unpacked: int = _env("LUXOR_RAW_UNPACKED", 2_000_000_000, least=1, most=2**40)
    raw_rows: int = _env("LUXOR_RAW_ROWS", 10_000_000, least=1, most=2**31)
    raw_cells: int = _env("LUXOR_RAW_CELLS", 50_000_000, least=1, most=2**40)
    raw_bad_rows: int = _env("LUXOR_RAW_BAD_ROWS", 100_000, least=1, most=10_000_000)
    raw_seconds: float = _env("LUXOR_RAW_SECONDS", 60.0, least=_INSTANT, most=_DAY)
    raw_memory: int = _env("LUXOR_RAW_MEMORY", 600_000_000, least=1, most=2**40)
    raw_total: int = _env("LUXOR_RAW_TOTAL", 20_000_000, least=1, most=2**31)

    ecb_url: str = _env("LUXOR_ECB_URL", ECB_URL, repr=False)
    ecb_fetch: bool = _env("LUXOR_ECB_FETCH", default=False)

    def __post_init__(self) -> None:
        for name in ("lake_url", "connection_string"):
            text = getattr(self, name)
            if isinstance(text, str):
                object.__setattr__(self, name, Secret(text))

    def __reduce__(self) -> Any:
        raise TypeError("Settings may hold secrets and are not pickled; read them anew with Settings.from_env()")

    def __copy__(self) -> Settings:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Settings:
        return self

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings from ``environ``; by default from the process's environment and the ``.env`` file.

        The environment wins over the file. A variable that is unset or blank leaves the default. Names that begin
        with ``AZURE_`` and are no settings are copied from the file to the environment, unless they are set there:
        azure-identity looks nowhere else.

        Raises
        ------
        ConfigurationError
            A value is not of the setting's type (the value itself is not repeated), or the file cannot be read.
        """
        environ = _environment() if environ is None else environ
        return cls(**{setting.name: _read(setting, environ) for setting in fields(cls)})

    @classmethod
    def read(cls, name: str, environ: Mapping[str, str] | None = None) -> Any:
        """Read one setting alone, whatever the others are; raises as `from_env` does."""
        (setting,) = (setting for setting in fields(cls) if setting.name == name)
        return _read(setting, _environment() if environ is None else environ)

    @classmethod
    def origins(cls) -> list[SettingOrigin]:
        """Return each setting's variable, its value with secrets masked, and where the value comes from."""
        file, values = _env_file()
        settings, origins = cls.from_env(), []
        for setting in fields(cls):
            variable = setting.metadata["env"]
            if os.environ.get(variable, "").strip():
                origin = "environment"
            else:
                origin = str(file) if values.get(variable, "").strip() else "default"
            value = getattr(settings, setting.name)
            hidden = not setting.repr and value is not None and origin != "default"
            origins.append(SettingOrigin(variable, "***" if hidden else value, origin))
        return origins


class SettingOrigin(NamedTuple):
    """One setting as `Settings.origins` tells it."""

    variable: str
    value: Any
    origin: str


def _environment() -> Mapping[str, str]:
    file, values = _env_file()
    if file is None:
        return os.environ
    own = {setting.metadata["env"] for setting in fields(Settings)}
    for name, value in values.items():
        if name.startswith("AZURE_") and name not in own and name not in os.environ:
            if "SECRET" in name or "PASSWORD" in name:
                conceal(value)
            os.environ[name] = value
    return {**values, **{name: value for name, value in os.environ.items() if value.strip() or name not in values}}


def _env_file() -> tuple[Path | None, Mapping[str, str]]:
    """Return the ``.env`` file and its variables; None where there is none.

    Raises
    ------
    ConfigurationError
        ``LUXOR_ENV_FILE`` names a file that does not exist, or the file is no text.
    """
    named = os.environ.get(ENV_FILE)
    if named is None:
        folder = Path.cwd()
        file = next(
            (path for path in (folder / ".env", *(above / ".env" for above in folder.parents)) if _is_file(path)), None
        )
    elif not named.strip():
        file = None
    else:
        file = Path(named.strip()).expanduser()
        if not _is_file(file):
            raise ConfigurationError(
                f"{ENV_FILE} names {shown(named)}, which is no file.", hint=f"Correct or unset {ENV_FILE}."
            )
    if file is None:
        return None, {}
    from dotenv import dotenv_values  # needed by few: most machines have no such file

    try:
        values = dotenv_values(file, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"The settings in {file} cannot be read ({type(error).__name__}).",
            hint=f"Save it as UTF-8 text with lines NAME=value, or set {ENV_FILE} to another file or to nothing.",
        ) from None  # whose text repeats the file's
    return file, {name: value for name, value in values.items() if value is not None}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder above that may not be looked into
        return False


def _read(setting: Field[Any], environ: Mapping[str, str]) -> Any:
    variable = setting.metadata["env"]
    text = environ.get(variable, "").strip()
    return _parse(variable, text, setting) if text else setting.default


def _parse(variable: str, text: str, setting: Field[Any]) -> Any:
    """Return a setting's value from the text of its variable, in the type of its default and within its bounds.

    Raises
    ------
    ConfigurationError
    """
    if isinstance(setting.default, bool):
        if text.lower() not in _TRUE | _FALSE:
            raise ConfigurationError(f"{variable} is neither true nor false.", hint=f"Set {variable} to true or false.")
        return text.lower() in _TRUE
    if isinstance(setting.default, int | float):
        kind = type(setting.default)
        least, most = setting.metadata["least"], setting.metadata["most"]
        try:
            number = kind(text)
        except ValueError:
            number = float("nan")
        if not least <= number <= most:
            noun = "a whole number" if kind is int else "a number"
            raise ConfigurationError(
                f"{variable} is not {noun} from {least:,} to {most:,}.", hint=f"Correct or unset {variable}."
            )
        return number
    if choices := setting.metadata["choices"]:
        text = text.lower()
        if text not in choices:
            raise ConfigurationError(
                f"{variable} is none of {', '.join(choices)}.", hint=f"Correct or unset {variable}."
            )
    return text
