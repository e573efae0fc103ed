"""Requests and responses as values, and the routes that lead from one to the other."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """One request. path: without the query, as it was sent; headers: by lower-case names."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """One response.

    body: bytes, or pieces that are sent as they come. The generator is closed in any case.
    is_finite: the pieces end by themselves, so a client that has ended its own side gets them all.
    Otherwise its end closes the generator at once, whether a piece is under way or waited for.
    """

    status: HTTPStatus = HTTPStatus.OK
    body: bytes | AsyncGenerator[bytes] = b""
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()
    is_finite: bool = False


Handler = Callable[[Request], Awaitable[Response]]


def refusal(status: HTTPStatus, why: str, *headers: tuple[str, str]) -> Response:
    """Return a response that refuses a request; why: for people, without a final newline."""
    return Response(status, f"{why}\n".encode(), headers=headers)


class Routes:
    """The handlers of a listener by path and method. HEAD is answered as GET without a body."""

    def __init__(self) -> None:
        self._handlers: dict[str, dict[str, Handler]] = {}

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Let `handler` answer these requests."""
        self._handlers.setdefault(path, {})[method] = handler

    def find(self, method: str, path: str) -> Handler | Response:
        """Return the handler of a request, or the response that refuses it."""
        by_method = self._handlers.get(path)
        if by_method is None:
            known = ", ".join(self._handlers)
            return refusal(HTTPStatus.NOT_FOUND, f"there is nothing at this path, but at {known}")
        handler = by_method.get("GET" if method == "HEAD" else method)
        if handler is not None:
            return handler
        allowed = [*by_method, *(("HEAD",) if "GET" in by_method else ())]
        return refusal(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"this path answers {' and '.join(allowed)} only",
            ("Allow", ", ".join(allowed)),
        )
