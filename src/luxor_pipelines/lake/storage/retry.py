"""Which requests to Azure are sent again, how soon, and when it is enough."""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

from azure.core.exceptions import AzureError, ClientAuthenticationError, ServiceResponseTimeoutError
from azure.storage.blob.aio import ExponentialRetry

__all__ = ["Retry"]

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
        while True:
            try:
                response = await cast("Any", self.next).send(request)
                answer = response.http_response
                if not answer.is_stream_consumed:
                    await answer.read()
                if answer.status_code not in _TRANSIENT:
                    return response
                if not self.increment(settings, request=request.http_request, response=answer):
                    return response
            except ClientAuthenticationError:
                raise
            except AzureError as error:
                if not self.increment(settings, request=request.http_request, error=error):
                    raise
            await asyncio.sleep(self.get_backoff_time(settings))

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        """Half a second, then twice as long each time, and a random part of it less."""
        longest: float = min(_FIRST_WAIT_S * 2.0 ** (settings["count"] - 1), _LONGEST_WAIT_S)
        return longest * random.uniform(0.5, 1)  # noqa: S311 - spreads load, hides nothing
