"""Relays one request to the model's server, and the answer back while it is made."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import TypeVar

import aiohttp
import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy

from pool_service.gateway.asked import Asked
from pool_service.gateway.refusals import ANTHROPIC_PATH, Refusal
from pool_service_client import Server

QUIET_S = 5.0
"""Between two signs of life to a caller that waits for a stream while its model loads. Proxies on
the way give up after 60 seconds of silence (nginx, AWS) or 100 (Cloudflare)."""

CONNECT_TIMEOUT_S = 5.0

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Of RFC 9110, section 7.6.1: for one connection, and not to be handed on."""

_OF_THE_CALLER = frozenset(
    {
        "accept-encoding",
        "authorization",
        "content-encoding",
        "content-length",
        "cookie",
        "expect",
        "host",
        "origin",
        "referer",
        "x-api-key",
    }
)
"""Headers that a server does not need: the caller's keys, names of the gateway itself, and how the
body was packed, as it is unpacked here."""

_OF_THE_SERVER = frozenset({"date", "server"})

_EVENTS = "text/event-stream"

_STATUSES = frozenset(status.value for status in HTTPStatus)

_LAST_EVENTS = (b"data: [DONE]", b"event: message_stop", b"event: response.completed")
"""The last events of streams: of chat and completions, messages, and responses."""

T = TypeVar("T")
Newest = Callable[[], Server | None]


_WITH_EVENTS = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        ANTHROPIC_PATH,
        "/v1/audio/transcriptions",
    }
)
"""The paths whose streams are events, in which comments may stand."""


@dataclass(eq=False)
class Late(Exception):
    """A request has waited for its model as long as it may.

    newest: the model's state; None: it is not known.
    """

    model: str
    wait_s: float
    newest: Server | None


class CallerGone(Exception):
    """The caller has closed its connection."""


class Relay:
    """Sends requests to servers by one pool of connections."""

    def __init__(self) -> None:
        # The connections of a server are closed before uvicorn closes them, after five seconds.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3.0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections to servers."""
        await self._session.close()

    async def send(
        self, request: web.Request, asked: Asked, server: Server
    ) -> aiohttp.ClientResponse:
        """Send a request to a server; return its answer as soon as that begins.

        Raises aiohttp.ClientError.
        """
        headers = _handed_on(request.headers, _OF_THE_CALLER)
        # Comments are sent as they are, and so must be what follows them.
        headers[hdrs.ACCEPT_ENCODING] = "identity"
        if server.api_key:
            headers[hdrs.AUTHORIZATION] = f"Bearer {server.api_key}"
        return await self._session.request(
            request.method,
            f"{server.endpoint}{request.rel_url.raw_path_qs}",
            # As a file, which is sent piece by piece.
            data=BytesIO(asked.named(server.served_model_name)),
            headers=headers,
            skip_auto_headers=(hdrs.ACCEPT, hdrs.USER_AGENT),
            allow_redirects=False,
        )


class Answer:
    """The answer to one request: one that is relayed, or one of the gateway's own."""

    def __init__(self, request: web.Request, asked: Asked, wait_s: float) -> None:
        """wait_s: how long the request may wait for its model, in seconds."""
        self._request = request
        self._asked = asked
        self._wait_s = wait_s
        self._due = asyncio.get_running_loop().time() + wait_s
        self._response: web.StreamResponse | None = None
        self._last_chunk = b""
        self.first_byte_at: float | None = None
        self.sent_bytes = 0

    @property
    def has_begun(self) -> bool:
        """Return whether the caller has been sent a status."""
        return self._response is not None

    @property
    def is_whole(self) -> bool:
        """Return whether the last event of a stream has been sent: callers need not read on."""
        return any(end in self._last_chunk for end in _LAST_EVENTS)

    async def until(self, wanted: Awaitable[T], newest: Newest) -> T:
        """Await something; tell the caller of a stream meanwhile what it waits for.

        newest: returns the model's state, for that. Raises Late once the request has waited for as
        long as it may.
        """
        waiting = asyncio.ensure_future(wanted)
        try:
            async with asyncio.timeout_at(self._due):
                while not (await asyncio.wait((waiting,), timeout=QUIET_S))[0]:
                    if self._asked.is_streaming and self._request.path in _WITH_EVENTS:
                        await self._comment(newest())
        except TimeoutError:
            raise Late(self._asked.model, self._wait_s, newest()) from None
        finally:
            if not waiting.done():
                waiting.cancel()
                await asyncio.wait((waiting,))
        return waiting.result()

    async def relay(self, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        """Hand on a server's answer, as it comes; a slow reader slows its server down.

        Raises Refusal if it breaks off, and CallerGone.
        """
        if self._response is not None and upstream.status != HTTPStatus.OK:
            # Another status has been sent, so the error becomes an event.
            raise server_error(upstream.status, await upstream.read())
        response = self._response or await self._begin(
            upstream.status, _handed_on(upstream.headers, _OF_THE_SERVER)
        )
        while chunk := await _next_chunk(upstream):
            if self.first_byte_at is None:
                self.first_byte_at = time.monotonic()
            self.sent_bytes += len(chunk)
            self._last_chunk = chunk
            try:
                await response.write(chunk)
            except ConnectionError:
                raise CallerGone from None
        await response.write_eof()
        return response

    async def refuse(self, refusal: Refusal) -> web.StreamResponse:
        """Answer with an error; as an event if a stream has begun."""
        path = self._request.path
        if self._response is None:
            return refused(refusal, path)
        if self._response.content_type == _EVENTS:
            return await self._end_with(refusal.event(path))
        # Of half an answer nothing but a broken connection tells the caller.
        if self._request.transport is not None:
            self._request.transport.abort()
        return self._response

    async def _comment(self, newest: Server | None) -> None:
        """Send a sign of life."""
        if self._response is None:
            await self._begin(HTTPStatus.OK, CIMultiDict({hdrs.CONTENT_TYPE: _EVENTS}))
        assert self._response is not None
        if self._request.path == ANTHROPIC_PATH:
            sign = 'event: ping\ndata: {"type": "ping"}\n\n'
        else:
            sign = f": {_progress(newest)}\n\n"
        try:
            await self._response.write(sign.encode())
        except ConnectionError:
            raise CallerGone from None

    async def _begin(self, status: int, headers: CIMultiDict[str]) -> web.StreamResponse:
        headers.setdefault("X-Accel-Buffering", "no")
        self._response = web.StreamResponse(status=status, headers=headers)
        await self._response.prepare(self._request)
        return self._response

    async def _end_with(self, event: bytes) -> web.StreamResponse:
        assert self._response is not None
        # The caller may have gone meanwhile.
        with suppress(ConnectionError):
            await self._response.write(event)
            await self._response.write_eof()
        return self._response


def refused(refusal: Refusal, path: str) -> web.Response:
    """Return the response of a request that is refused."""
    return web.Response(
        status=refusal.status,
        body=refusal.body(path),
        headers=refusal.headers,
        content_type="application/json",
    )


def late(error: Late) -> Refusal:
    """Return the refusal of a request whose model was not ready in time."""
    newest = error.newest
    state = f"it is {newest.state.name.lower()}" if newest is not None else "others have their turn"
    detail = f" ({newest.detail})" if newest is not None and newest.detail else ""
    return Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{error.model!r} was not ready within {error.wait_s:g} s: {state}{detail}. Ask again "
        "later, or start the gateway with a longer --wait.",
        "not_ready",
        retry_after_s=5.0,
    )


def broken_off() -> Refusal:
    """Return the refusal of a request whose server has gone away meanwhile."""
    return Refusal(
        HTTPStatus.BAD_GATEWAY,
        "the model's server went away before it had answered, and the answer is lost. Ask again.",
        "server_died",
        retry_after_s=1.0,
    )


def _handed_on(
    headers: Mapping[str, str] | CIMultiDictProxy[str], left_out: frozenset[str]
) -> CIMultiDict[str]:
    """Return the headers of a message for the next connection."""
    options = (value for name, value in headers.items() if name.lower() == "connection")
    named = ",".join(options).lower().replace(" ", "").split(",")
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if (lower := name.lower()) not in _HOP_BY_HOP and lower not in left_out
        if lower not in named
    )


def _progress(newest: Server | None) -> str:
    """Return in words what a request waits for; without line breaks."""
    if newest is None:
        return "waits for the service"
    words = [newest.state.name.lower()]
    if newest.queue_position:
        words.append(f"number {newest.queue_position} in the queue")
    if newest.progress is not None:
        words.append(f"{newest.progress:.0%}")
    return ", ".join(words)


async def _next_chunk(upstream: aiohttp.ClientResponse) -> bytes:
    """Return what has come of an answer; b"" at its end. Raises Refusal if it breaks off."""
    try:
        return await upstream.content.readany()
    except aiohttp.ClientError as error:
        raise broken_off() from error


def server_error(status: int, body: bytes) -> Refusal:
    """Return the refusal for an error of a server, in whose own words it is."""
    try:
        content = msgspec.json.decode(body, type=_ServerError)
        message = content.error.message if content.error else content.detail
    except msgspec.MsgspecError:
        message = body.decode("utf-8", "replace").strip()
    text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
    known = status if status in _STATUSES else HTTPStatus.BAD_GATEWAY
    return Refusal(HTTPStatus(known), text or "the model's server has refused", "server_error")


class _ErrorContent(msgspec.Struct):
    message: object = ""


class _ServerError(msgspec.Struct):
    """An error as OpenAI's API has it, or as FastAPI has it."""

    error: _ErrorContent | None = None
    detail: object = ""
