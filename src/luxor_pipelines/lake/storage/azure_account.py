"""Which account a lake's URL or connection string names, and with what credential; no secret shows in an error."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote, urlsplit

from azure.core.credentials import AzureSasCredential
from azure.storage.blob.aio import BlobServiceClient

from luxor_pipelines.errors import ConfigurationError, Secret
from luxor_pipelines.lake.storage.base import check_path

__all__ = ["client_of", "default_credential", "parse_url"]

_ACCOUNT = re.compile(r"[a-z0-9-]+")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]+")


def parse_url(lake: str) -> tuple[str, str, str, Secret]:
    """``(container, endpoint, folder, SAS or "")`` of an ``abfss`` URL.

    Raises
    ------
    ConfigurationError
    """
    parts = urlsplit(lake)
    scheme, container, host, path, query = parts.scheme, parts.username, parts.hostname or "", parts.path, parts.query
    odd = parts.password is not None or bool(parts.fragment) or bool(query and "sig=" not in query)
    query = Secret(query)
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = None
    del parts  # whose repr, in a traceback with variables, is all of the address
    if port is None:
        raise ConfigurationError("The port in the lake's URL is no number.", hint="Leave it out.")
    if not container or "." not in host:
        raise ConfigurationError(
            f"The lake's URL names no account ({scheme}://{container or host or '…'}).",
            hint="Write it as abfss://container@account.dfs.core.windows.net, optionally with /folder.",
        )
    if odd:
        raise ConfigurationError(
            "The lake's URL holds more than container, account, folder and shared access signature.",
            hint="Write it as abfss://container@account.dfs.core.windows.net[/folder][?sv=…&sig=…].",
        )
    path = unquote(path)  # the portal shows a space as %20
    root = check_path(path) if path.strip("/") else ""
    endpoint = f"https://{host.replace('.dfs.', '.blob.', 1)}{port}"
    return container, endpoint, root, query


def client_of(text: str, options: dict[str, Any]) -> BlobServiceClient:
    """The client of a connection string.

    Raises
    ------
    ConfigurationError
        It is malformed, or holds no credential. The text itself is in no message.
    """
    client = _client(text, options)
    if client is None:
        # Not chained: the text itself is a secret, and the frames it was taken apart in hold its pieces.
        raise ConfigurationError(
            "The Azure storage connection string is malformed.",
            hint="Copy it again from the storage account's access keys in the Azure portal "
            "(DefaultEndpointsProtocol=…;AccountName=…;AccountKey=…;EndpointSuffix=…).",
        )
    if client.credential is not None:
        return client
    endpoint = urlsplit(client.url)
    if "sig=" not in endpoint.query:
        raise ConfigurationError(
            "The Azure storage connection string holds neither an AccountKey nor a SharedAccessSignature.",
            hint="Use the full connection string, or an abfss:// URL with `az login` or a managed identity.",
        )
    # The SDK keeps a signature in the client's address, which is shown; a credential is not.
    return BlobServiceClient(
        endpoint._replace(query="").geturl(), credential=AzureSasCredential(endpoint.query), **options
    )


def _client(text: str, options: dict[str, Any]) -> BlobServiceClient | None:
    """The client of a connection string; None where it is malformed."""
    try:
        client = BlobServiceClient.from_connection_string(text, **options)
        key = getattr(client.credential, "account_key", None)
        if client.credential is not None and not base64.b64decode(key or "", validate=True):
            return None
        parts = urlsplit(client.url)
        known = parts.scheme in {"http", "https"} and _HOST.fullmatch(parts.hostname or "")
        sound = known and parts.port != 0 and "@" not in parts.netloc and not parts.netloc.endswith(":")
    except (ValueError, KeyError, binascii.Error):
        return None
    account = re.search(r"(?i)(?:^|;)\s*AccountName\s*=([^;]*)", text)
    return client if sound and (account is None or _ACCOUNT.fullmatch(account[1])) else None


def default_credential() -> Any:
    """Whoever is logged in, or the managed identity."""
    from azure.identity.aio import DefaultAzureCredential

    return DefaultAzureCredential()
