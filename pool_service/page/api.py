"""The calls of the page: methods of the pool service with JSON, and what only the page asks.

They are POST requests with a header of their own, which no page of another site can send: a browser
would first ask this listener for leave (CORS), and gets none. They name this machine as their host,
also where the listener is a unix socket that something forwards to: a page of another site can make
its own name resolve to that (DNS rebinding), and would then be of the same origin.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus

from pool_service.access.principal import Scope
from pool_service.address import names_loopback
from pool_service.core.errors import PoolError
from pool_service.http.exchange import Handler, Request, Response, Route, Routes
from pool_service.page.accepted_calls import AcceptedCalls
from pool_service.page.files import SECURITY
from pool_service.rpc.json_calls import STREAMS, UNARY, Caller, CallFailed, JsonCalls
from pool_service.rpc.methods import SERVICE, needed_by

JSON = "application/json"
LINES = "application/x-ndjson"
HEADER = "x-pool"

STATUSES = {
    "INVALID_ARGUMENT": HTTPStatus.BAD_REQUEST,
    "NOT_FOUND": HTTPStatus.NOT_FOUND,
    "FAILED_PRECONDITION": HTTPStatus.CONFLICT,
    "ABORTED": HTTPStatus.CONFLICT,
    "RESOURCE_EXHAUSTED": HTTPStatus.TOO_MANY_REQUESTS,
    "UNAUTHENTICATED": HTTPStatus.UNAUTHORIZED,
    "PERMISSION_DENIED": HTTPStatus.FORBIDDEN,
    "UNAVAILABLE": HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The status of HTTP for a failed call; of any other it is 500. The body has gRPC's own."""

CODES = {status: code for code, status in STATUSES.items()}
"""The codes of gRPC by the statuses that have one only, as those of callers who are refused."""

LONG = frozenset({"Ensure", "Evict"})
"""The methods that may take minutes: a load, or what is left of an answer."""

BEGUN_S = 0.1
"""The time after which a stream without a first line is told to have begun."""

HEARTBEAT_S = 15.0
"""The time without a line after which an empty one tells that the stream still stands."""


def add_calls(routes: Routes, calls: JsonCalls) -> None:
    """Add a route for each method that the page calls, and for the ends of the long ones."""
    accepted = AcceptedCalls(_accepted, _failed)
    for method in UNARY:
        handler = _unary(calls, method)
        _add(routes, method, accepted.handler(handler) if method in LONG else handler)

    async def ended(request: Request) -> str:
        return accepted.ends(request.body.decode("utf-8", "replace"))

    add_own_call(routes, "Ended", ended)
    for method in STREAMS:
        _add(routes, method, _stream(calls, method))


def add_own_call(
    routes: Routes,
    name: str,
    answer: Callable[[Request], Awaitable[str]],
    *,
    quotes_logs: bool = False,
) -> None:
    """Add a route for a call that gRPC does not have, and that tells of all models.

    answer: returns JSON. quotes_logs: it can quote what servers have written.
    """

    async def answered(request: Request) -> Response:
        return Response(HTTPStatus.OK, (await answer(request)).encode(), JSON, SECURITY)

    route = Route(
        _guarded(answered), Scope.READ, _not_let_in, tells_all=True, quotes_logs=quotes_logs
    )
    routes.add("POST", f"/api/{name}", route)


def _add(routes: Routes, method: str, handler: Handler) -> None:
    """Add a route for a method of the service, which needs what it needs by gRPC."""
    route = Route(_guarded(handler), needed_by(f"{SERVICE}/{method}"), _not_let_in)
    routes.add("POST", f"/api/{method}", route)


def _not_let_in(status: HTTPStatus, error: PoolError) -> Response:
    code = CODES.get(status, "INTERNAL")
    return _failure(status, CallFailed(code, error.reason, str(error)))


def _guarded(handler: Handler) -> Handler:
    async def guarded(request: Request) -> Response:
        if not _is_ours(request.headers):
            return _failure(
                HTTPStatus.FORBIDDEN,
                CallFailed(
                    "PERMISSION_DENIED",
                    "",
                    "only the page of this service may call this, opened as localhost; use gRPC, "
                    "or reload the page",
                ),
            )
        return await handler(request)

    return guarded


def _is_ours(headers: Mapping[str, str]) -> bool:
    """Return whether a request comes from the page: what a browser says of it, and its host."""
    host = headers.get("host", "")
    origin = headers.get("origin")
    return (
        HEADER in headers
        and headers.get("sec-fetch-site", "same-origin") == "same-origin"
        and names_loopback(host)
        and (origin is None or origin in (f"http://{host}", f"https://{host}"))
    )


def _caller(request: Request) -> Caller:
    # Every route of a call needs a scope, so its sender is known.
    assert request.principal is not None
    return Caller("page", request.principal)


def _unary(calls: JsonCalls, method: str) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            body = await calls.unary(method, request.body, _caller(request))
        except CallFailed as failed:
            return _failed(failed)
        return Response(HTTPStatus.OK, body.encode(), JSON, SECURITY)

    return answer


def _stream(calls: JsonCalls, method: str) -> Handler:
    async def answer(request: Request) -> Response:
        lines = calls.stream(method, request.body, _caller(request))
        return Response(HTTPStatus.OK, _pieces(lines), LINES, SECURITY)

    return answer


async def _pieces(lines: AsyncGenerator[str]) -> AsyncGenerator[bytes]:
    """Yield lines, and empty ones while none comes, so that a lost connection is noticed."""
    async with aclosing(lines):
        coming: asyncio.Task[str] | None = None
        pause_s = BEGUN_S
        try:
            while True:
                coming = coming or asyncio.get_running_loop().create_task(_next(lines))
                await asyncio.wait((coming,), timeout=pause_s)
                pause_s = HEARTBEAT_S
                if not coming.done():
                    yield b"\n"
                    continue
                line, coming = coming.result(), None
                if not line:
                    return
                yield line.encode()
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)


async def _next(lines: AsyncGenerator[str]) -> str:
    """Return the next line, or none at the end."""
    return await anext(lines, "")


def _accepted(number: str) -> Response:
    return Response(HTTPStatus.ACCEPTED, json.dumps({"accepted": number}).encode(), JSON, SECURITY)


def _failed(failed: CallFailed) -> Response:
    return _failure(STATUSES.get(failed.code, HTTPStatus.INTERNAL_SERVER_ERROR), failed)


def _failure(status: HTTPStatus, failed: CallFailed) -> Response:
    return Response(status, failed.as_json().encode(), JSON, SECURITY)
