"""A lake in an Azure container: reads pinned to an ETag, writes on condition of one.

adlfs gives the filesystem, its event loop and its place among fsspec's; account, credential,
retries and timeouts are set here, because adlfs would take them from the environment (where a
connection string beats an account named in the URL) and offers no setting for the last two. No secret shows in
an error.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import random
import re
import uuid
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from urllib.parse import parse_qs, unquote, urlsplit

from adlfs import AzureBlobFileSystem
from azure.core import MatchConditions
from azure.core.credentials import AzureSasCredential
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)
from azure.storage.blob.aio import BlobPrefix, BlobServiceClient, ExponentialRetry
from fsspec.asyn import sync

from luxor_pipelines.errors import (
    AccessError,
    ConfigurationError,
    ConflictError,
    LakeError,
    LuxorError,
    Secret,
    UnreachableError,
    UsageError,
    holds_secret,
    redact,
    scrubbed,
    shown,
)
from luxor_pipelines.lake.storage.base import ANY, Blob, BlobInfo, Folder, Reader, Storage, Unusable, check_path
from luxor_pipelines.lake.storage.pinned import CHUNK, PinnedFile
from luxor_pipelines.settings import Settings

__all__ = ["AzureStorage", "Retry"]

_T = TypeVar("_T")

WRITE_ID = "luxor_write_id"
_CONTAINER = re.compile(r"[a-z0-9](-?[a-z0-9]){2,62}|\$(root|web|logs)")
_ABSENT = frozenset({"BlobNotFound", "ResourceNotFound"})
"""The service's codes for an absent file. Any other 404, such as a proxy's, says nothing about the lake."""
_REFUSALS = _ABSENT | {"ConditionNotMet", "BlobAlreadyExists", "InvalidBlockList"}
"""Its codes for a write that collided with another; by the last one, the other has discarded our staged blocks."""
SINGLE_PUT = 32 * 2**20
"""Bytes up to which a write is one request; a longer one goes in blocks, several at once, that a last one commits."""
_START = 2**20
"""Bytes of a file that are fetched together with its properties: enough for one month."""
_PERMISSIONS = {"r": "Read", "c": "Create", "w": "Write", "d": "Delete", "l": "List"}
_PARALLEL = 8
_PROBE_S = 15
"""Seconds that the first request of all may take, retries included."""
_REREADS = 10
_ACCOUNT = re.compile(r"[a-z0-9-]+")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]+")
_PARTIAL = 206
_RANGE = re.compile(r"bytes[= ](\d+)-(\d+)(?:/(\d+))?")
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""The statuses of answers after which a request is sent again."""
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 8.0


class AzureStorage(Storage):
    """A lake in a container, at its root or in a folder of it."""

    concurrent = True

    def __init__(self, client: BlobServiceClient, credential: Any, container: str, root: str) -> None:
        self.fs = _FileSystem(client, credential)
        self._client = client
        self._credential = credential
        self.identity = _identity(credential)
        self._container = container
        self._root = f"{root}/" if root else ""
        self._process = os.getpid()
        self._probed = False
        self._held: dict[BlobInfo, tuple[int, bytes]] = {}
        self.url = f"abfss://{container}@{urlsplit(client.url).netloc}/{root}".rstrip("/")

    @classmethod
    def connect(
        cls, lake: str | None, connection_string: str | None, container: str, settings: Settings
    ) -> AzureStorage:
        """Connect by URL, by connection string, or by a URL with a connection string for its account."""
        options: dict[str, Any] = {
            "connection_timeout": settings.connect_timeout,
            "read_timeout": settings.read_timeout,
            "retry_policy": Retry(settings.retries, settings.request_timeout),
            "max_single_put_size": SINGLE_PUT,
            "max_block_size": CHUNK,
            "max_single_get_size": CHUNK,
            "max_chunk_get_size": CHUNK,
        }
        root = ""
        secret = Secret("")
        if lake is not None:
            container, endpoint, root, secret = _parse_url(lake)
        if connection_string is not None:
            client = _client_of(connection_string, options)
            credential = client.credential
            if lake is not None and urlsplit(client.url).netloc != urlsplit(endpoint).netloc:
                raise ConfigurationError(
                    "The connection string is for another account than the lake's URL.",
                    hint="Give the two for the same account, or only one of them.",
                )
        else:
            credential = AzureSasCredential(secret) if secret else _default_credential()
            client = BlobServiceClient(endpoint, credential=credential, **options)
        if not _CONTAINER.fullmatch(str(container)):
            raise ConfigurationError(
                f"{shown(container)} is not the name of a container.",
                hint="Correct LUXOR_CONTAINER or the lake's URL: lower-case letters, digits and single hyphens, "
                "3 to 63 of them.",
            )
        return cls(client, credential, container, root)

    def create_container(self) -> None:
        """Create the lake's container, unless it is there."""

        async def run() -> None:
            async with asyncio.timeout(_PROBE_S), self._container_client() as container:
                try:
                    await container.create_container()
                except ResourceExistsError:
                    return

        self._run(run(), self._container)

    @property
    def filesystem(self) -> Any:
        """adlfs, on the lake's own account, credential, retries and timeouts."""
        return self.fs

    def location(self, path: str) -> str:
        """Return the blob's name, after that of its container."""
        return f"{self._container}/{self._root}{check_path(path)}"

    # --- files ------------------------------------------------------------------------------

    def _list(self, folder: str, unusable: list[Unusable]) -> list[BlobInfo]:  # noqa: ARG002 - the names tell
        return self._list_prefix(folder)

    def _entry(self, path: str, unusable: list[Unusable]) -> tuple[BlobInfo | None, list[BlobInfo]]:  # noqa: ARG002
        files = self._list_prefix(path)
        single = next((info for info in files if info.path == path), None)
        return single, [info for info in files if info.path.startswith(f"{path}/")]

    def _list_prefix(self, prefix: str) -> list[BlobInfo]:
        async def run() -> list[BlobInfo]:
            async with self._container_client() as container:
                blobs = container.list_blobs(name_starts_with=self._root + prefix, include=["metadata"])
                return [self._info(blob) async for blob in blobs if not _is_folder(blob)]

        return [info for info in self._call(run(), prefix) if "/." not in "/" + info.path]

    def _folder(self, folder: str, unusable: list[Unusable]) -> Folder:  # noqa: ARG002 - the names tell
        async def run() -> Folder:
            files, folders = [], []
            async with asyncio.timeout(None if self._probed else _PROBE_S), self._container_client() as container:
                entries = container.walk_blobs(self._root + folder, include=["metadata"], delimiter="/")
                async for entry in entries:
                    if isinstance(entry, BlobPrefix):
                        folders.append(str(entry.name).rstrip("/").rpartition("/")[2])
                    elif not _is_folder(entry):
                        files.append(self._info(entry))
            self._probed = True
            visible = [info for info in files if not info.path.rpartition("/")[2].startswith(".")]
            return Folder(visible, [name for name in folders if not name.startswith(".")])

        return self._run(run(), folder)

    def _stat(self, path: str) -> BlobInfo | None:
        async def run() -> BlobInfo | None:
            async with self._blob(path) as blob:
                properties = await _properties(blob)
            return None if properties is None or _is_folder(properties) else self._info(properties)

        return self._call(run(), path)

    def _peek(self, paths: Sequence[str]) -> Sequence[BlobInfo | None]:
        async def one(path: str) -> tuple[BlobInfo, bytes] | None:
            async with self._blob(path) as blob:
                start = await _start(blob)
            if start is None or _is_folder(start[0]):
                return None
            properties, data = start
            return self._info(properties), data

        async def run() -> Sequence[tuple[BlobInfo, bytes] | None]:
            return await asyncio.gather(*(one(path) for path in paths))

        peeked = self._call(run(), paths[0])
        self._held = {info: (0, data) for info, data in filter(None, peeked)}
        return [None if start is None else start[0] for start in peeked]

    def _read(self, path: str) -> Blob:
        async def run() -> Blob:
            async with self._blob(path) as blob:
                # The SDK pins the chunks after the first to the first one's ETag.
                stream = await blob.download_blob(max_concurrency=_PARALLEL)
                return Blob(await stream.readall(), _etag(stream.properties))

        for _ in range(_REREADS):
            try:
                return self._call(run(), path)
            except ConflictError:  # swapped between two chunks
                continue
        raise self.changed(path)

    @contextmanager
    def _open(self, info: BlobInfo) -> Iterator[Reader]:
        with PinnedFile(info.size, lambda ranges: self.ranges(info, ranges), self._held.get(info, (0, b""))) as file:
            yield file

    def ranges(self, info: BlobInfo, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of ``ranges`` (start, end) of the version ``info`` names, fetched in parallel."""

        async def run() -> list[bytes]:
            turn = asyncio.Semaphore(_PARALLEL)
            return await asyncio.gather(*(self._range(info, start, end, turn) for start, end in ranges))

        return self._call(run(), info.path, pinned=True)

    async def _range(self, info: BlobInfo, start: int, end: int, turn: asyncio.Semaphore) -> bytes:
        async with turn, self._blob(info.path) as blob:
            stream = await blob.download_blob(start, end - start, **_only_if(info.version))
            data = bytes(await stream.readall())
            if len(data) != end - start:
                raise ServiceResponseError(f"{len(data)} bytes came where {end - start} were asked for")
            return data

    def fetch_ends(self, infos: Sequence[BlobInfo], size: int) -> None:
        """Fetch the last ``size`` bytes of files to be opened next, all at once; a refusal is raised on opening."""
        ends = [(info, max(0, info.size - size)) for info in infos if info.size]

        async def run() -> list[bytes | None]:
            turn = asyncio.Semaphore(_PARALLEL)

            async def one(info: BlobInfo, start: int) -> bytes | None:
                try:
                    return await self._range(info, start, info.size, turn)
                except HttpResponseError:
                    return None

            return await asyncio.gather(*(one(info, start) for info, start in ends))

        if ends:
            fetched = zip(ends, self._call(run(), ends[0][0].path), strict=True)
            self._held = {info: (start, data) for (info, start), data in fetched if data is not None}

    def _write(self, path: str, data: bytes, expected: Any) -> str:
        write_id = uuid.uuid4().hex
        condition: dict[str, Any] = {"overwrite": expected is not None}
        if expected is not None and expected is not ANY:
            condition |= _only_if(expected)

        async def run() -> str:
            async with self._blob(path) as blob:
                try:
                    written = await blob.upload_blob(
                        data,
                        length=len(data),
                        metadata={"is_directory": "false", WRITE_ID: write_id},
                        max_concurrency=_PARALLEL,
                        **condition,
                    )
                    return _quoted(written["etag"])
                except HttpResponseError as refusal:
                    if _code(refusal) not in _REFUSALS:
                        raise
                    # A write whose answer was lost is sent again by the SDK and then refused:
                    # finding our own write there means that it succeeded.
                    stored = await _properties(blob)
                    if stored is not None and stored.metadata.get(WRITE_ID) == write_id:
                        return _etag(stored)
                    raise self.conflict(path) from refusal

        return self._call(run(), path)

    def _delete(self, path: str, expected: Any) -> None:
        async def run() -> None:
            async with self._blob(path) as blob:
                try:
                    await blob.delete_blob(**({} if expected is ANY else _only_if(expected)))
                except HttpResponseError as refusal:
                    if _code(refusal) not in _REFUSALS:
                        raise
                    # Gone is as good as deleted, and may be our own doing: see above.
                    if await _properties(blob) is not None:
                        raise self.conflict(path) from refusal

        self._call(run(), path)

    # --- helpers ----------------------------------------------------------------------------

    def _container_client(self) -> Any:
        return self._client.get_container_client(self._container)

    def _blob(self, path: str) -> Any:
        return self._client.get_blob_client(self._container, self._root + path)

    def _info(self, properties: Any) -> BlobInfo:
        path = str(properties.name)[len(self._root) :]
        return BlobInfo(path, _etag(properties), int(properties.size), properties.last_modified)

    def _call(self, work: Coroutine[Any, Any, _T], path: str, *, pinned: bool = False) -> _T:
        """Run ``work`` on the filesystem's loop; the service's errors come out as ours."""
        if not self._probed:
            try:
                self._run(self._probe(), self._container)
            except BaseException:
                work.close()
                raise
            self._probed = True
        return self._run(work, path, pinned=pinned)

    async def _probe(self) -> None:
        # A missing container would look like a missing file to all but a listing: ask once, and not
        # for long, so that an account that accepts connections but never answers is told soon.
        async with self._container_client() as container:
            pages = container.list_blobs(name_starts_with=self._root, results_per_page=1).by_page()
            async with asyncio.timeout(_PROBE_S):
                async for _ in pages:
                    break

    def _run(self, work: Coroutine[Any, Any, _T], path: str, *, pinned: bool = False) -> _T:
        failure: LuxorError
        if os.getpid() != self._process:  # the event loop's thread stayed behind
            work.close()
            raise UsageError(
                f"{self.url} was opened before this process was forked, and cannot be used in it.",
                hint="Open the lake in the new process, or start it by multiprocessing's method 'spawn'.",
            )
        try:
            return sync(self.fs.loop, _awaited, work)  # type: ignore[no-any-return]
        except LuxorError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - the SDK does not check what it is answered, and fails in any way
            failure = self._translated(error, path, pinned=pinned)
            failure.__cause__ = error
        raise scrubbed(failure)

    def _translated(self, error: Exception, path: str, *, pinned: bool) -> LuxorError:
        """Return our error for one of the SDK's; ``pinned`` says that one version of the file was asked for."""
        code = _code(error)
        match error:
            case ClientAuthenticationError() | binascii.Error():
                return self._refused(error)
            case HttpResponseError() if code == "ConditionNotMet":
                return self.changed(path) if pinned else self.conflict(path)
            case HttpResponseError() if code in _ABSENT:
                return self.changed(path) if pinned else self.not_found(path)
            case HttpResponseError() if code in {"ContainerNotFound", "ContainerBeingDeleted"}:
                return ConfigurationError(
                    f"There is no container {self._container!r} in {urlsplit(self._client.url).netloc}.",
                    hint="Check LUXOR_CONTAINER or the lake's URL; containers are not made silently.",
                )
            case HttpResponseError(status_code=403):
                return self._refused(error)
            case HttpResponseError(status_code=int(status)):
                return LakeError(
                    f"{self.url} answered {status} ({code or error.reason}) for {path}.",
                    hint="Try again; if it stays, see the storage account's status in the Azure portal.",
                )
            case HttpResponseError() | ServiceRequestError() | ServiceResponseError() | OSError():
                return self._silent(error)
            case AzureError():
                return LakeError(f"{self.url}: {_first_line(error)} (at {path}).", hint="Try again.")
        return LakeError(
            f"{self.url} gave an answer for {path} that is not the blob service's ({_first_line(error)}).",
            hint="Find out what answers in its place: a proxy, or a network that wants to be logged into.",
        )

    def _silent(self, error: Exception) -> UnreachableError:
        return UnreachableError(
            f"{self.url} does not answer ({_first_line(error)}).",
            hint="Check the account's name and the network (firewall, VPN), then try again.",
        )

    def _refused(self, error: Exception) -> AccessError:
        reason = _code(error) or _first_line(error)
        lacking = _lacking(self._credential)
        if reason == "AuthorizationPermissionMismatch" and lacking:
            return AccessError(
                f"{self.url} refuses this shared access signature: it does not permit {' and '.join(lacking)}.",
                hint="Make one with Read, Create, Write, Delete and List; for reading alone Read and List will do.",
            )
        return AccessError(
            f"{self.url} refuses these credentials ({reason}).",
            hint="Check the connection string; without one, run `az login` or give the managed identity the "
            "role Storage Blob Data Contributor.",
        )


class _FileSystem(AzureBlobFileSystem):  # type: ignore[misc]
    """adlfs on our own client: nothing is taken from the environment, nothing is cached."""

    cachable = False

    def __init__(self, client: BlobServiceClient, credential: Any) -> None:
        self._own_client = client
        super().__init__(account_name=client.account_name, credential=credential, anon=False, use_listings_cache=False)

    def do_connect(self) -> None:
        self.connection_string = self.account_key = self.sas_token = None
        self.account_url = self._own_client.url
        self.service_client = self._own_client


def _identity(credential: Any) -> str:
    if isinstance(credential, AzureSasCredential):
        return "a shared access signature"
    if hasattr(credential, "account_key"):
        return "the account's key"
    return f"{type(credential).__name__} (az login, a managed identity, or AZURE_CLIENT_ID and its kin)"


def _lacking(credential: Any) -> list[str]:
    """Return the permissions that a shared access signature does not name; none where it names none."""
    if not isinstance(credential, AzureSasCredential):
        return []
    permitted = parse_qs(credential.signature).get("sp", [""])[0]
    return [name for letter, name in _PERMISSIONS.items() if permitted and letter not in permitted]


def _code(error: Exception) -> str:
    """Return the service's own word for an error, such as ``ContainerNotFound``; blank without one."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


async def _awaited(work: Coroutine[Any, Any, _T]) -> _T:
    return await work


async def _properties(blob: Any) -> Any:
    """Return the blob's properties; None when it is definitely absent."""
    try:
        return await blob.get_blob_properties()
    except ResourceNotFoundError as error:
        if _code(error) not in _ABSENT:
            raise
        return None


async def _start(blob: Any) -> tuple[Any, bytes] | None:
    """Return the blob's properties and first bytes; None when it is definitely absent."""
    try:
        stream = await blob.download_blob(0, _START)
        data = bytes(await stream.readall())
    except ResourceNotFoundError as error:
        if _code(error) not in _ABSENT:
            raise
        return None
    except HttpResponseError as error:
        if _code(error) != "InvalidRange":  # of a blob without a byte there is no range
            raise
        properties = await _properties(blob)
        return None if properties is None else (properties, b"")
    properties = stream.properties
    properties.size = int(properties.content_range.rpartition("/")[2])
    return properties, data


def _only_if(version: str) -> dict[str, Any]:
    return {"etag": version, "match_condition": MatchConditions.IfNotModified}


def _etag(properties: Any) -> str:
    if not properties.etag:
        raise ValueError("it names no version")
    return _quoted(str(properties.etag))


def _quoted(etag: str) -> str:
    # Listings leave the quotes out that every other answer has.
    return f'"{etag.strip(chr(34))}"'


def _is_folder(properties: Any) -> bool:
    metadata = properties.metadata or {}
    return "true" in {metadata.get("is_directory"), metadata.get("hdi_isfolder"), metadata.get("Hdi_isfolder")}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__


# --- the account --------------------------------------------------------------------------------


def _parse_url(lake: str) -> tuple[str, str, str, Secret]:
    """Return ``(container, endpoint, folder, SAS or "")`` of an ``abfss`` URL.

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


def _client_of(text: str, options: dict[str, Any]) -> BlobServiceClient:
    """Return the client of a connection string.

    Raises
    ------
    ConfigurationError
        It is malformed, or holds no credential. The text itself is in no message.
    """
    client = _parsed_client(text, options)
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


def _parsed_client(text: str, options: dict[str, Any]) -> BlobServiceClient | None:
    """Return the client of a connection string; None where it is malformed."""
    try:
        client = BlobServiceClient.from_connection_string(text, **options)
        key = getattr(client.credential, "account_key", None)
        if client.credential is not None and not base64.b64decode(key or "", validate=True):
            return None
        parts = urlsplit(client.url)
        addressed = parts.scheme in {"http", "https"} and _HOST.fullmatch(parts.hostname or "")
        sound = addressed and parts.port != 0 and "@" not in parts.netloc and not parts.netloc.endswith(":")
    except (ValueError, KeyError, binascii.Error):
        return None
    account = re.search(r"(?i)(?:^|;)\s*AccountName\s*=([^;]*)", text)
    return client if sound and (account is None or _ACCOUNT.fullmatch(account[1])) else None


def _default_credential() -> Any:
    """Return the credential of the user who is logged in, or of the managed identity."""
    from azure.identity.aio import DefaultAzureCredential

    return DefaultAzureCredential()


# --- requests that are sent again ---------------------------------------------------------------


class Retry(ExponentialRetry):
    """Sends a request again when it, its answer or the rest of its answer was lost on the way.

    Everything may be sent again: reads are pinned to a version, and writes carry an id by which one
    that was done already is recognised. The SDK's own policy gives up at once when the service says
    429, hands bodies on before they have arrived, allows each kind of failure three retries whatever
    the setting, and may go on for ever on an answer that trickles.

    Parameters
    ----------
    retries
        How often a request is sent again.
    timeout
        Seconds until a request, with all its tries, must have been answered; 0: whenever.
    """

    def __init__(self, retries: int, timeout: float) -> None:
        super().__init__(retry_total=retries, retry_connect=retries, retry_read=retries, retry_status=retries)
        self._timeout = timeout

    async def send(self, request: Any) -> Any:  # type: ignore[override]  # as the SDK does
        """Return the answer with its whole body; the last failure when there is none."""
        settings = self.configure_retries(request)
        try:
            async with asyncio.timeout(self._timeout or None):
                response = await self._answer(request, settings)
        except TimeoutError as error:
            raise ServiceResponseTimeoutError(f"no complete answer within {self._timeout:g} s") from error
        response.http_response.location_mode = settings["mode"]
        return response

    async def _answer(self, request: Any, settings: dict[str, Any]) -> Any:
        failure: Exception
        while True:
            try:
                response = await cast("Any", self.next).send(request)
                answer = response.http_response
                if answer.status_code == _PARTIAL:
                    # A range is one of the stored bytes, whatever encoding another program declared for the file.
                    answer.headers.pop("Content-Encoding", None)
                if not answer.is_stream_consumed:
                    await answer.read()
                if answer.status_code == _PARTIAL:
                    _check_size(request.http_request, answer)
                if answer.status_code not in _TRANSIENT:
                    return response
                if not self.increment(settings, request=request.http_request, response=answer):
                    return response
            except AzureError as error:
                final = isinstance(error, ClientAuthenticationError)
                if final or not self.increment(settings, request=request.http_request, error=error):
                    failure = error
                    break
            await asyncio.sleep(self.get_backoff_time(settings))
        # The HTTP client's errors quote the address with its signature. The SDK drops errors of parts that fail
        # side by side, and asyncio then logs them: so they are cleaned here and not only where they are translated.
        raise type(failure)(redact(str(failure))) if holds_secret(failure) else failure

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        """Return the seconds to wait: half a second, then twice as long each time, and a random part of it less."""
        longest: float = min(_FIRST_WAIT_S * 2.0 ** (settings["count"] - 1), _LONGEST_WAIT_S)
        return longest * random.uniform(0.5, 1)  # noqa: S311 - spreads load, hides nothing


def _check_size(request: Any, answer: Any) -> None:
    """Refuse a part of a file that is not the range asked for, or not as long as the service states.

    Raises
    ------
    IncompleteReadError
    """
    requested = _RANGE.fullmatch(request.headers.get("x-ms-range") or "")
    stated = _RANGE.fullmatch(answer.headers.get("Content-Range") or "")
    if requested is None or stated is None or stated[3] is None:
        return  # the SDK refuses an answer that states no range
    start, end, total = (int(number) for number in stated.groups())
    length = len(answer.content)
    if length != end - start + 1 or start != int(requested[1]) or end != min(int(requested[2]), total - 1):
        raise IncompleteReadError(f"{length:,} bytes came where {requested[0]} was asked for and {stated[0]} stated")
