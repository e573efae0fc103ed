"""Connections to the HTTP listener: requests are read within limits, and responses written."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext, suppress
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus

import h11
import structlog

from pool_service.address import names_loopback
from pool_service.core.errors import PoolError
from pool_service.http import limits
from pool_service.http.exchange import Handler, Request, Response, Route, Routes, refusal, status_of
from pool_service.http.visitor import Visitor
from pool_service.open_calls import RightsChanged

READ_BYTES = 8 * 1024

# No page of another site may use an answer, and nothing keeps one.
_ALWAYS = (
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
)

log = structlog.get_logger("pool_service.http")


class Refused(Exception):
    """A request is refused before its handler; the response says why, and ends the connection."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class Connection:
    """Serve one connection.

    checks_host: refuse requests whose Host is not a name of loopback.
    is_idle: no request is under way; idle_since: since when, by the loop's clock, in seconds.
    has_served: there was a request.
    is_streaming: pieces are sent that do not end by themselves.
    is_ending: set it to end the connection behind the response under way.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        routes: Routes,
        visitor: Visitor,
        *,
        checks_host: bool,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._routes = routes
        self._visitor = visitor
        self._checks_host = checks_host
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.MAX_HEAD_BYTES)
        self._method = ""
        # Ends a stream whose receiver may have it no longer.
        self._staying: AbstractAsyncContextManager[None] = nullcontext()
        self.is_idle = True
        self.idle_since = asyncio.get_running_loop().time()
        self.has_served = False
        self.is_streaming = False
        self.is_ending = False
        # So that `drain` waits until the client has taken everything: nothing is left at the end.
        writer.transport.set_write_buffer_limits(high=0)

    async def serve(self) -> None:
        """Answer requests until the client or a limit ends the connection."""
        # The client may be gone, too slow, or speak no HTTP any more.
        with suppress(OSError, TimeoutError, h11.RemoteProtocolError):
            # The first request has to come soon: nobody connects to wait.
            wait_s = limits.REQUEST_TIMEOUT_S
            while await self._serve_one(wait_s) and not self.is_ending:
                self.has_served = True
                wait_s = limits.IDLE_TIMEOUT_S

    async def refuse(self, response: Response) -> None:
        """Answer with this response whatever is asked."""
        with suppress(OSError, TimeoutError):
            await self._respond(response)
            await self._linger()

    def close(self) -> None:
        """Close the connection; what the client has not taken yet is lost."""
        self._writer.transport.abort()

    async def _serve_one(self, wait_s: float) -> bool:
        """Answer one request; return whether another one may follow."""
        try:
            request = await self._read(wait_s)
            if request is None:
                return False
            response = await self._answer(request)
        except Refused as refused:
            response = refused.response
            # The end of a request without a body, after which another one may follow.
            with suppress(h11.RemoteProtocolError):
                self._http.next_event()
        except h11.RemoteProtocolError as error:
            response = refusal(HTTPStatus(error.error_status_hint), f"this is no HTTP: {error}")
        await self._respond(response)
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        await self._linger()
        return False

    # --- reading ------------------------------------------------------------------------

    async def _read(self, wait_s: float) -> Request | None:
        """Return the next request, or None if the client has ended the connection."""
        self._method, self._staying = "", nullcontext()
        self._set_idle()
        async with asyncio.timeout(wait_s):
            # A pipelined request may be there already.
            has_bytes = bool(self._http.trailing_data[0]) or await self._receive()
        self.is_idle = False
        if not has_bytes:
            return None
        async with asyncio.timeout(limits.REQUEST_TIMEOUT_S):
            event = await self._next_event()
            if not isinstance(event, h11.Request):
                return None
            request = self._head_of(event)
            route = self._check(request)
            request = await self._admitted(request, route)
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            return await self._with_body(request)

    def _set_idle(self) -> None:
        self.is_idle, self.idle_since = True, asyncio.get_running_loop().time()

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            await self._receive()
        return event

    async def _receive(self) -> bool:
        """Read some bytes; return False at the end of the stream."""
        data = await self._reader.read(READ_BYTES)
        self._http.receive_data(data)
        return bool(data)

    def _head_of(self, event: h11.Request) -> Request:
        self._method = event.method.decode()
        target = event.target.decode("ascii", "replace")
        path, _, query = target.partition("?")
        headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        if sum(name == b"authorization" for name, _ in event.headers) > 1:
            # Which one counts is not said, so none does.
            headers["authorization"] = ""
        return Request(self._method, path, query, headers)

    def _check(self, request: Request) -> Route:
        """Return the route of a request.

        Raises Refused if it is for another host, nobody answers it, or it is too large.

        A page of another site can make its own name resolve to 127.0.0.1 (DNS rebinding), and the
        browser would let it read the answers. The Host header has that name. Without one it is
        HTTP/1.0, which no browser speaks.
        """
        host = request.headers.get("host")
        if self._checks_host and host is not None and not names_loopback(host):
            raise Refused(
                refusal(
                    HTTPStatus.MISDIRECTED_REQUEST,
                    "this listener is for this machine only: call it localhost or 127.0.0.1",
                )
            )
        found = self._routes.find(request.method, request.path)
        if isinstance(found, Response):
            raise Refused(found)
        if int(request.headers.get("content-length", 0)) > limits.MAX_BODY_BYTES:
            raise Refused(_too_large())
        return found

    async def _admitted(self, request: Request, route: Route) -> Request:
        """Return the request with its sender. Raises Refused if that may not send it."""
        if route.needs is None:
            return request
        try:
            principal = await self._visitor.principal(request, route)
        except PoolError as error:
            raise Refused(route.refuse(status_of(error), error)) from error
        request = replace(request, principal=principal)
        self._staying = self._visitor.staying(request, route.needs)
        return request

    async def _with_body(self, request: Request) -> Request:
        body = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            if len(body) > limits.MAX_BODY_BYTES:
                raise Refused(_too_large())
        return replace(request, body=bytes(body))

    async def _answer(self, request: Request) -> Response:
        found = self._routes.find(request.method, request.path)
        if isinstance(found, Response):
            return found
        return await _result_of(found.handler, request)

    # --- writing ------------------------------------------------------------------------

    async def _respond(self, response: Response) -> None:
        status = response.status
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", response.content_type),
            *_ALWAYS,
            *response.headers,
        ]
        if isinstance(response.body, bytes):
            headers.append(("Content-Length", str(len(response.body))))
        if self._http.their_state is not h11.DONE:
            # The rest of the request is not read.
            headers.append(("Connection", "close"))
        async with aclosing(_pieces_of(response)) as pieces:
            await self._send(
                h11.Response(status_code=status, reason=status.phrase, headers=headers)
            )
            if self._method != "HEAD":
                ends = response.is_finite or isinstance(response.body, bytes)
                await (self._send_all(pieces) if ends else self._stream(pieces))
        await self._send(h11.EndOfMessage())

    async def _send_all(self, pieces: AsyncGenerator[bytes]) -> None:
        async for piece in pieces:
            await self._send(h11.Data(data=piece))

    async def _stream(self, pieces: AsyncGenerator[bytes]) -> None:
        """Send pieces as long as there is a client. Raises ConnectionResetError if it goes first.

        Between two pieces hours may pass, and no write would tell.
        """
        sending = asyncio.create_task(self._send_all(pieces))
        watching = asyncio.create_task(self._read_ahead())
        self.is_streaming = True
        try:
            async with self._staying:
                await asyncio.wait((sending, watching), return_when=asyncio.FIRST_COMPLETED)
        except (PoolError, RightsChanged) as error:
            raise ConnectionResetError("the stream is no longer the client's") from error
        finally:
            self.is_streaming = False
            for task in (sending, watching):
                task.cancel()
            await asyncio.gather(sending, watching, return_exceptions=True)
        if sending.cancelled():
            raise ConnectionResetError("the client has gone during a stream")
        sending.result()

    async def _read_ahead(self) -> None:
        """Take what a client sends during a stream, until its end or until that is too much."""
        while await self._receive():
            if len(self._http.trailing_data[0]) > limits.MAX_HEAD_BYTES:
                return

    async def _linger(self) -> None:
        """Say that nothing more comes, and take what the client still sends for a moment.

        Closing a socket with unread bytes resets it, and the client would lose the response.
        """
        self._set_idle()
        if self._writer.can_write_eof():
            self._writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(limits.LINGER_S):
                while await self._reader.read(READ_BYTES):
                    pass

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)
            async with asyncio.timeout(limits.WRITE_TIMEOUT_S):
                await self._writer.drain()


async def _result_of(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except Exception:
        log.exception("internal error in a request", method=request.method, path=request.path)
        return refusal(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "an internal error of the service ended this request. Report it with the lines of the "
            "service's log about it.",
        )


async def _single(body: bytes) -> AsyncGenerator[bytes]:
    yield body


def _pieces_of(response: Response) -> AsyncGenerator[bytes]:
    return _single(response.body) if isinstance(response.body, bytes) else response.body


def _too_large() -> Response:
    return refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body of the request has more than {limits.MAX_BODY_BYTES} bytes",
    )
