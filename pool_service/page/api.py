"""The calls of the page: methods of the pool service with JSON, and what only the page asks.

They are POST requests with a header of their own, which no page of another site can send: a browser
would first ask this listener for leave (CORS), and gets none. They name this machine as their host,
also where the listener is a unix socket that something forwards to: a page of another site can make
its own name resolve to that (DNS rebinding), and would then be of the same origin.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus

from pool_service.address import names_loopback
from pool_service.http.exchange import Handler, Request, Response, Routes
from pool_service.page.files import SECURITY
from pool_service.rpc.json_calls import STREAMS, UNARY, Caller, CallFailed, JsonCalls

JSON = "application/json"
LINES = "application/x-ndjson"
HEADER = "x-pool"

STATUSES = {
    "INVALID_ARGUMENT": HTTPStatus.BAD_REQUEST,
    "NOT_FOUND": HTTPStatus.NOT_FOUND,
    "FAILED_PRECONDITION": HTTPStatus.CONFLICT,
    "ABORTED": HTTPStatus.CONFLICT,
    "RESOURCE_EXHAUSTED": HTTPStatus.TOO_MANY_REQUESTS,
    "UNAVAILABLE": HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The status of HTTP for a failed call; of any other it is 500. The body has gRPC's own."""

LONG = frozenset({"Ensure", "Evict"})
"""The methods that may take minutes: a load, or what is left of an answer."""

ANSWER_WITHIN_S = 2.0
"""The time in which a failure of these is told to its caller; later ones are seen on the page."""

_PAGE = Caller("page")
_ACCEPTED = Response(HTTPStatus.ACCEPTED, b"{}", JSON, SECURITY)


def add_calls(routes: Routes, calls: JsonCalls) -> None:
    """Add a route for each method that the page calls."""
    for method in UNARY:
        handler = _unary(calls, method)
        routes.add(
            "POST", f"/api/{method}", _guarded(_soon(handler) if method in LONG else handler)
        )
    for method in STREAMS:
        routes.add("POST", f"/api/{method}", _guarded(_stream(calls, method)))


def add_own_call(routes: Routes, name: str, answer: Callable[[Request], Awaitable[str]]) -> None:
    """Add a route for a call that gRPC does not have; answer: returns JSON."""

    async def answered(request: Request) -> Response:
        return Response(HTTPStatus.OK, (await answer(request)).encode(), JSON, SECURITY)

    routes.add("POST", f"/api/{name}", _guarded(answered))


def _guarded(handler: Handler) -> Handler:
    async def guarded(request: Request) -> Response:
        site = request.headers.get("sec-fetch-site", "same-origin")
        is_ours = HEADER in request.headers and site == "same-origin"
        if not is_ours or not names_loopback(request.headers.get("host", "")):
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


def _unary(calls: JsonCalls, method: str) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            body = await calls.unary(method, request.body, _PAGE)
        except CallFailed as failed:
            status = STATUSES.get(failed.code, HTTPStatus.INTERNAL_SERVER_ERROR)
            return _failure(status, failed)
        return Response(HTTPStatus.OK, body.encode(), JSON, SECURITY)

    return answer


def _soon(handler: Handler) -> Handler:
    """Return a handler that answers 202 if the other one takes longer, which then goes on.

    A browser has six connections to share among all its windows, and a start takes minutes. Who
    has asked for one may also close the window.
    """
    under_way: set[asyncio.Task[Response]] = set()

    async def answer(request: Request) -> Response:
        task = asyncio.get_running_loop().create_task(_answer(handler, request))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        await asyncio.wait((task,), timeout=ANSWER_WITHIN_S)
        return task.result() if task.done() else _ACCEPTED

    return answer


async def _answer(handler: Handler, request: Request) -> Response:
    return await handler(request)


def _stream(calls: JsonCalls, method: str) -> Handler:
    async def answer(request: Request) -> Response:
        lines = calls.stream(method, request.body, _PAGE)
        return Response(HTTPStatus.OK, _encoded(lines), LINES, SECURITY)

    return answer


async def _encoded(lines: AsyncGenerator[str]) -> AsyncGenerator[bytes]:
    async with aclosing(lines):
        async for line in lines:
            yield line.encode()


def _failure(status: HTTPStatus, failed: CallFailed) -> Response:
    return Response(status, failed.as_json().encode(), JSON, SECURITY)
