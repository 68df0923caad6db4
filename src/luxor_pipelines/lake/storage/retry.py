"""Which requests to Azure are sent again, how soon, and when it is enough."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any, cast

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    IncompleteReadError,
    ServiceResponseTimeoutError,
)
from azure.storage.blob.aio import ExponentialRetry

from luxor_pipelines.errors import holds_secret, redact

__all__ = ["Retry"]

_PARTIAL = 206
_RANGE = re.compile(r"bytes[= ](\d+)-(\d+)(?:/(\d+))?")

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 8.0


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
        """The answer with its whole body; the last failure when there is none."""
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
        """Half a second, then twice as long each time, and a random part of it less."""
        longest: float = min(_FIRST_WAIT_S * 2.0 ** (settings["count"] - 1), _LONGEST_WAIT_S)
        return longest * random.uniform(0.5, 1)  # noqa: S311 - spreads load, hides nothing


def _check_size(request: Any, answer: Any) -> None:
    """Refuse a part of a file that is not the range asked for, or not as long as the service states.

    Raises
    ------
    IncompleteReadError
    """
    wanted = _RANGE.fullmatch(request.headers.get("x-ms-range") or "")
    stated = _RANGE.fullmatch(answer.headers.get("Content-Range") or "")
    if wanted is None or stated is None or stated[3] is None:
        return  # the SDK refuses an answer that states no range
    start, end, total = (int(number) for number in stated.groups())
    length = len(answer.content)
    if length != end - start + 1 or start != int(wanted[1]) or end != min(int(wanted[2]), total - 1):
        raise IncompleteReadError(f"{length:,} bytes came where {wanted[0]} was asked for and {stated[0]} stated")
