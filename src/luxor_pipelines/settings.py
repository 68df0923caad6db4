"""The environment, read once into `Settings`. The only room that looks at ``os.environ``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from luxor_pipelines.errors import ConfigurationError

__all__ = ["ECB_URL", "Settings"]

ECB_URL = "https://www.ecb.europa.eu/stats/eurofxref/eurofxref-hist.zip"

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def _env(variable: str, default: Any, **options: Any) -> Any:
    """A field of `Settings`, and the environment variable that sets it."""
    return field(default=default, metadata={"env": variable}, **options)


@dataclass(frozen=True)
class Settings:
    """What can be set from outside, with the variable that sets it.

    Secrets are kept out of the ``repr``. Durations are seconds, staleness limits calendar days.
    """

    lake_url: str | None = _env("LUXOR_LAKE_URL", None, repr=False)
    connection_string: str | None = _env("AZURE_STORAGE_CONNECTION_STRING", None, repr=False)
    container: str = _env("LUXOR_CONTAINER", "luxorasap")

    connect_timeout: float = _env("LUXOR_CONNECT_TIMEOUT", 3.0)
    read_timeout: float = _env("LUXOR_READ_TIMEOUT", 30.0)
    retries: int = _env("LUXOR_RETRIES", 3)
    request_timeout: float = _env("LUXOR_REQUEST_TIMEOUT", 120.0)
    lock_timeout: float = _env("LUXOR_LOCK_TIMEOUT", 60.0)
    run_lock_ttl: float = _env("LUXOR_RUN_LOCK_TTL", 90.0)
    load_attempts: int = _env("LUXOR_LOAD_ATTEMPTS", 12)
    cache_bytes: int = _env("LUXOR_CACHE_BYTES", 2_000_000_000)

    stale_traded: int = _env("LUXOR_STALE_TRADED", 10)
    stale_fund: int = _env("LUXOR_STALE_FUND", 45)

    ecb_url: str = _env("LUXOR_ECB_URL", ECB_URL)
    ecb_fetch: bool = _env("LUXOR_ECB_FETCH", default=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings from ``environ`` (default: the process's environment).

        A variable that is unset or blank leaves the default.

        Raises
        ------
        ConfigurationError
            A value is not of the setting's type; the value itself is not repeated.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for setting in fields(cls):
            variable = setting.metadata["env"]
            text = environ.get(variable, "").strip()
            if text:
                values[setting.name] = _parse(variable, text, setting.default)
        return cls(**values)


def _parse(variable: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in _TRUE | _FALSE:
            raise ConfigurationError(f"{variable} is neither true nor false.", hint=f"Set {variable} to true or false.")
        return text.lower() in _TRUE
    if isinstance(default, int | float):
        kind = type(default)
        try:
            number = kind(text)
        except ValueError:
            number = -1
        if not 0 <= number < float("inf"):
            what = "a whole number" if kind is int else "a number"
            raise ConfigurationError(f"{variable} is not {what} of zero or more.", hint=f"Correct or unset {variable}.")
        return number
    return text
