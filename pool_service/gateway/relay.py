"""The answer to one request: signs of life while its model loads, then its server's answer."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import msgspec
from aiohttp import HttpVersion11, hdrs, web
from multidict import CIMultiDict

from pool_service.gateway.forwarder import CallerGone, Forwarder
from pool_service.gateway.headers import for_the_caller
from pool_service.gateway.model_request import ModelRequest
from pool_service.gateway.refusals import ANTHROPIC_PATH, Refusal
from pool_service.gateway.servers import ServerAnswer
from pool_service_client import Server

QUIET_S = 5.0
"""Between two signs of life to a caller that waits for a stream while its model loads. Proxies on
the way give up after 60 seconds of silence (nginx, AWS) or 100 (Cloudflare)."""

MAX_ERROR_BYTES = 64 * 1024
"""Bytes of a server's error that are told as an event."""

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


class CallerResponse:
    """The answer to one request: one that is relayed, or one of the gateway's own."""

    def __init__(self, request: web.Request, wanted: ModelRequest, wait_s: float) -> None:
        """Create the answer to a request. wait_s: how long that may wait for its model."""
        self._request = request
        self._wanted = wanted
        self._wait_s = wait_s
        self._due = asyncio.get_running_loop().time() + wait_s
        self._response: web.StreamResponse | None = None
        self.forwarder: Forwarder | None = None

    @property
    def has_begun(self) -> bool:
        """Return whether the caller has been sent a status."""
        return self._response is not None

    @property
    def is_whole(self) -> bool:
        """Return whether the last event of a stream has been sent: callers need not read on."""
        return self.forwarder is not None and any(
            event in self.forwarder.end for event in _LAST_EVENTS
        )

    async def until(self, wanted: Awaitable[T], newest: Newest) -> T:
        """Await something; tell the caller of a stream meanwhile what it waits for.

        newest: returns the model's state, for that. Raises Late once the request has waited for as
        long as it may.
        """
        waiting = asyncio.ensure_future(wanted)
        try:
            async with asyncio.timeout_at(self._due):
                while not (await asyncio.wait((waiting,), timeout=QUIET_S))[0]:
                    if self._wanted.is_streaming and self._request.path in _WITH_EVENTS:
                        await self._comment(newest())
        except TimeoutError:
            raise Late(self._wanted.model, self._wait_s, newest()) from None
        finally:
            if not waiting.done():
                waiting.cancel()
                await asyncio.wait((waiting,))
        return waiting.result()

    async def relay(self, upstream: ServerAnswer) -> web.StreamResponse:
        """Hand on a server's answer, as it comes; a slow reader slows its server down.

        Raises Refusal, ServerGone if it breaks off, and CallerGone.
        """
        if self._response is not None and upstream.status != HTTPStatus.OK:
            # Another status has been sent, so the error becomes an event.
            raise server_error(upstream.status, await upstream.read(MAX_ERROR_BYTES))
        response = self._response or await self._begin(
            upstream.status, for_the_caller(upstream.headers)
        )
        writer = await response.prepare(self._request)
        assert writer is not None
        self.forwarder = Forwarder(upstream, self._request, response, writer)
        await self.forwarder.forward()
        return response

    async def refuse(self, refusal: Refusal) -> web.StreamResponse:
        """Answer with an error; as an event if a stream has begun."""
        path = self._request.path
        if self._response is None:
            return refused(refusal, path)
        has_length = hdrs.CONTENT_LENGTH in self._response.headers
        if self._response.content_type == _EVENTS and not has_length:
            return await self._end_with(self._event_end + refusal.event(path))
        # Of half an answer nothing but a broken connection tells the caller.
        if self._request.transport is not None:
            _break(self._request.transport)
        return self._response

    @property
    def _event_end(self) -> bytes:
        """Return what ends an event of which a part has been sent."""
        end = self.forwarder.end if self.forwarder is not None else b""
        return b"" if not end or end.endswith(b"\n\n") else b"\n\n"

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
        """Send a status and headers. Raises CallerGone."""
        headers.setdefault("X-Accel-Buffering", "no")
        self._response = web.StreamResponse(status=status, headers=headers)
        if self._request.version < HttpVersion11 and hdrs.CONTENT_LENGTH not in headers:
            # The end of the connection is that of the answer.
            self._response.force_close()
        try:
            await self._response.prepare(self._request)
        except ConnectionError:
            raise CallerGone from None
        return self._response

    async def _end_with(self, event: bytes) -> web.StreamResponse:
        assert self._response is not None
        # The caller may have gone meanwhile.
        with suppress(ConnectionError):
            await self._response.write(event)
            await self._response.write_eof()
        return self._response


def _break(transport: asyncio.Transport) -> None:
    """Close a caller's connection so that half an answer is not taken for a whole one."""
    end = transport.get_extra_info("socket")
    if end is not None:
        # By a reset: for a caller by HTTP/1.0 an end in order may be that of the answer. On macOS
        # nothing can be set for a connection that the caller has reset.
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


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
