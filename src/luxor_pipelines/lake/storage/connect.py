"""Open a lake by its address: which kind of storage it is, and with what credential.

==================================  =========================================
scheme                              storage
==================================  =========================================
``abfss``, ``abfs``, ``az``         `azure.AzureStorage`
none, ``file``, ``local``, a drive  `local.LocalStorage`
any other of fsspec's               `memory.FsspecStorage`
==================================  =========================================

Each kind is imported when it is opened: the Azure SDK takes half a second.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from luxor_pipelines.errors import ConfigurationError, LuxorError, Secret, conceal, conceal_address, scrubbed
from luxor_pipelines.lake.storage.base import Storage
from luxor_pipelines.settings import Settings

__all__ = ["connect"]

_KINDS: Mapping[str, Literal["azure", "local"]] = {
    "abfss": "azure",
    "abfs": "azure",
    "az": "azure",
    "": "local",
    "file": "local",
    "local": "local",
}


def connect(
    lake: str | os.PathLike[str] | None = None,
    *,
    connection_string: str | None = None,
    container: str | None = None,
    settings: Settings | None = None,
    create: bool = False,
) -> Storage:
    """Open the lake that the arguments name, else the one the environment names.

    An argument wins over ``LUXOR_LAKE_URL``, which wins over ``AZURE_STORAGE_CONNECTION_STRING``
    with ``LUXOR_CONTAINER``. A connection string from the environment is never used for a lake
    that was named by URL.

    Parameters
    ----------
    lake
        An fsspec URL: ``abfss://container@account.dfs.core.windows.net[/folder]``, ``file:///…``,
        ``memory://name``, or a local path. An ``abfss`` URL without a secret uses
        ``DefaultAzureCredential``; ``connection_string`` may stand beside it to give the key.
    connection_string
        An Azure storage connection string.
    container
        The container the connection string is for; default ``LUXOR_CONTAINER`` or ``luxorasap``.
    create
        Create the container, or the folder, where it is missing.

    Raises
    ------
    ConfigurationError
        Nothing is configured, or what is configured cannot be a lake.
    """
    try:
        return _connect(lake, connection_string, container, settings or Settings.from_env(), create)
    except LuxorError as error:
        failure = error
    raise scrubbed(failure)  # the parsers of URLs quote what they refuse


def _connect(
    lake: str | os.PathLike[str] | None,
    connection_string: str | None,
    container: str | None,
    settings: Settings,
    create: bool,
) -> Storage:
    """Return the storage of a lake that is named: by the arguments, else the settings' URL, else their account."""
    if lake is None and connection_string is None:
        lake = settings.lake_url
        if lake is None:
            connection_string = settings.connection_string
    lake, connection_string = _address(lake), _secret(connection_string)
    if lake is None and connection_string is None:
        raise ConfigurationError(
            "No lake is configured.",
            hint="Set LUXOR_LAKE_URL (abfss://container@account.dfs.core.windows.net or file:///folder), or "
            "AZURE_STORAGE_CONNECTION_STRING; on the command line give --lake. `luxor demo` makes one to try.",
        )
    try:
        scheme = urlsplit(lake).scheme.lower() if lake else "abfss"
    except ValueError as error:
        raise ConfigurationError(
            "The lake's address is no URL.",
            hint="Use abfss://container@account.dfs.core.windows.net, file:///folder or memory://name.",
        ) from error
    kind = _kind(scheme)
    if kind == "azure":
        from luxor_pipelines.lake.storage.azure import AzureStorage

        container = settings.container if container is None else container
        storage = AzureStorage.connect(lake, connection_string, container, settings)
        if create:
            storage.create_container()
        return storage
    assert lake is not None
    if connection_string is not None:
        raise ConfigurationError(
            f"A connection string was given together with a lake that is not on Azure ({scheme or 'a folder'}).",
            hint="Give one of the two.",
        )
    if kind == "local":
        from luxor_pipelines.lake.storage.local import LocalStorage

        return LocalStorage.connect(lake, settings, create=create)
    from luxor_pipelines.lake.storage.memory import FsspecStorage

    return FsspecStorage.connect(lake)


def _kind(scheme: str) -> Literal["azure", "local", "other"]:
    """Return the kind of storage that the scheme of an address names; a single letter is a drive of Windows."""
    if len(scheme) == 1:
        return "local"
    return _KINDS.get(scheme, "other")


def _address(lake: str | os.PathLike[str] | None) -> Secret | None:
    """Return the lake's address as text, and have its secret parts masked in every message from now on."""
    if lake is None:
        return None
    text: object = os.fspath(lake) if isinstance(lake, os.PathLike) else lake
    if not isinstance(text, str) or not text.strip():
        raise ConfigurationError(
            "The lake's address is blank or no text.",
            hint="Give a URL such as abfss://container@account.dfs.core.windows.net, or a folder.",
        )
    if re.search("AccountKey|SharedAccessSignature", text, re.IGNORECASE):  # a connection string in the wrong place
        _secret(text)
    conceal_address(text, _PUBLIC)
    return Secret(text)


def _secret(connection_string: str | None) -> Secret | None:
    """Return a connection string, however malformed, and have its secret parts masked in every message from now on."""
    if connection_string is None:
        return None
    if not isinstance(connection_string, str):
        raise ConfigurationError(
            f"The connection string is of the type {type(connection_string).__name__}.", hint="Give it as text."
        )
    for setting in re.split("[;?&]", connection_string):
        name, equals, value = setting.partition("=")
        if equals and name.strip().lower() not in _PUBLIC:
            conceal(value)
        elif not equals and len(name) >= _KEY_LENGTH:
            conceal(name)
    return Secret(connection_string)


_KEY_LENGTH = 32
"""Characters from which on a word may be a key that stands alone; an account's has 88."""
_PUBLIC = frozenset(
    {"defaultendpointsprotocol", "accountname", "endpointsuffix", "blobendpoint", "blobsecondaryendpoint"}
    | {"queueendpoint", "tableendpoint", "fileendpoint", "usedevelopmentstorage", "developmentstorageproxyuri"}
    | {"sv", "ss", "srt", "sr", "sp", "st", "se", "sip", "spr", "si", "sdd", "saoid", "suoid", "scid"}
    | {"skoid", "sktid", "skt", "ske", "sks", "skv"}
)
"""Names of the parts of a connection string or a SAS that are no secrets."""
