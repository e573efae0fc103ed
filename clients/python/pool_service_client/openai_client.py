"""Clients of OpenAI's package that follow a hold: each request goes to its server of the moment.

They need the package `openai` of version 3 or later (the extra `openai`).
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import httpx2
import openai

from pool_service_client.errors import DeadlineExceeded
from pool_service_client.suspicion import Suspicion
from pool_service_client.types import Server

if TYPE_CHECKING:
    from pool_service_client.aio_streams import AsyncHold
    from pool_service_client.streams import Hold

_PLACEHOLDER_URL: Final = "http://held-model.invalid/v1"
"""Never looked up: each request gets the address of the server."""

_PAUSE_S: Final = 0.1
"""Between two tries to connect to the same server."""


def openai_client(hold: "Hold", **options: Any) -> openai.OpenAI:  # noqa: ANN401 - OpenAI's own
    """Return a client of OpenAI's package whose requests go to the server of a hold.

    options: of `openai.OpenAI`, such as `max_retries`.
    """
    http = httpx2.Client(transport=_Transport(hold), trust_env=False, follow_redirects=False)
    return openai.OpenAI(**_options(options), http_client=http)


def async_openai_client(
    hold: "AsyncHold",
    **options: Any,  # noqa: ANN401 - OpenAI's own
) -> openai.AsyncOpenAI:
    """Return a client for asyncio as `openai_client` does."""
    http = httpx2.AsyncClient(
        transport=_AsyncTransport(hold), trust_env=False, follow_redirects=False
    )
    return openai.AsyncOpenAI(**_options(options), http_client=http)


def _options(given: dict[str, Any]) -> dict[str, Any]:
    # A key of the environment is for another service, and is replaced by that of the server.
    return {"api_key": "of the server", **given, "base_url": _PLACEHOLDER_URL}


class _Transport(httpx2.BaseTransport):
    """Sends each request to the server of a hold, for threads."""

    def __init__(self, hold: "Hold") -> None:
        self._hold = hold
        self._transport = httpx2.HTTPTransport(limits=openai.DEFAULT_CONNECTION_LIMITS)
        self._suspect: Server | None = None

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request to the server that is READY, and return its response; see `_Tries`."""
        tries = _Tries(request, self._suspect)
        while True:
            with tries.within_timeout():
                server = self._hold.ready(tries.left_s(), after=tries.suspect)
            time.sleep(tries.pause_s(server))
            try:
                response = self._transport.handle_request(_aimed(request, server))
            except httpx2.ConnectError as error:
                tries.refused(server, error)
            except httpx2.TransportError:
                self._suspect = server
                raise
            else:
                self._suspect = _unless_same(self._suspect, server)
                return response

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


class _AsyncTransport(httpx2.AsyncBaseTransport):
    """Sends each request to the server of a hold, for asyncio."""

    def __init__(self, hold: "AsyncHold") -> None:
        self._hold = hold
        self._transport = httpx2.AsyncHTTPTransport(limits=openai.DEFAULT_CONNECTION_LIMITS)
        self._suspect: Server | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See _Transport.handle_request."""
        tries = _Tries(request, self._suspect)
        while True:
            with tries.within_timeout():
                server = await self._hold.ready(tries.left_s(), after=tries.suspect)
            await asyncio.sleep(tries.pause_s(server))
            try:
                response = await self._transport.handle_async_request(_aimed(request, server))
            except httpx2.ConnectError as error:
                tries.refused(server, error)
            except httpx2.TransportError:
                self._suspect = server
                raise
            else:
                self._suspect = _unless_same(self._suspect, server)
                return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


@dataclass(slots=True)
class _Tries:
    """The tries to send one request, within the time that it has to be answered.

    Only a request that could not be sent is tried again here, since the next server would get what
    may have killed the last one. OpenAI's package tries others again, as often as it is told to.

    suspect: the server of the last request that failed, which may be dead.
    """

    request: httpx2.Request
    suspect: Server | None
    _deadline: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        limit_s = self.request.extensions.get("timeout", {}).get("read")
        if limit_s is not None:
            self._deadline = time.monotonic() + limit_s

    def left_s(self) -> float | None:
        """Return the seconds that are left; None: no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def pause_s(self, server: Server) -> float:
        """Return how long to wait before a try: a little if the server is the suspect again."""
        is_same = self.suspect is not None and Suspicion(self.suspect).is_of(server)
        return _PAUSE_S if is_same else 0.0

    def refused(self, server: Server, error: httpx2.ConnectError) -> None:
        """Note that no connection could be made; raise the error if the time is over."""
        self.suspect = server
        if self.left_s() == 0:
            raise error

    @contextmanager
    def within_timeout(self) -> Iterator[None]:
        """Turn the end of a hold's timeout within the block into the request's own."""
        try:
            yield
        except DeadlineExceeded as error:
            raise httpx2.ConnectTimeout(str(error), request=self.request) from error


def _unless_same(suspect: Server | None, server: Server) -> Server | None:
    """Return the suspect, unless it is this very process, which has just answered."""
    return None if suspect is not None and Suspicion(suspect).is_of(server) else suspect


def _aimed(request: httpx2.Request, server: Server) -> httpx2.Request:
    """Return a request for a server: with its address, and its key if it has one."""
    endpoint = httpx2.URL(server.endpoint)
    headers = request.headers.copy()
    headers["Host"] = endpoint.netloc.decode("ascii")
    headers.pop("Authorization", None)
    if server.api_key:
        headers["Authorization"] = f"Bearer {server.api_key}"
    return httpx2.Request(
        request.method,
        request.url.copy_with(scheme=endpoint.scheme, host=endpoint.host, port=endpoint.port),
        headers=headers,
        stream=request.stream,
        extensions=request.extensions,
    )
