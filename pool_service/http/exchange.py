"""Requests and responses as values, and the routes that lead from one to the other."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from pool_service.access.principal import Principal, Scope
from pool_service.core.errors import PoolError, ScopeMissing

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    path: without the query, as it was sent. headers: by lower-case names.
    principal: who sends it; None where the route is open to anybody.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    principal: Principal | None = None


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

Refuse = Callable[[HTTPStatus, PoolError], Response]
"""Returns the response to a caller who is not let in."""

OPEN = None
"""What a route needs that is open to anybody who reaches the listener."""


def refusal(status: HTTPStatus, why: str, *headers: tuple[str, str]) -> Response:
    """Return a response that refuses a request; why: for people, without a final newline."""
    return Response(status, f"{why}\n".encode(), headers=headers)


def refusal_of(status: HTTPStatus, error: PoolError) -> Response:
    """Return the response to a caller who is not let in, for people."""
    asks = (("WWW-Authenticate", "Bearer"),) if status is HTTPStatus.UNAUTHORIZED else ()
    return refusal(status, str(error), *asks)


def status_of(error: PoolError) -> HTTPStatus:
    """Return the status for a caller who is not let in."""
    if isinstance(error, ScopeMissing):
        return HTTPStatus.FORBIDDEN
    if type(error) is PoolError:
        return HTTPStatus.INTERNAL_SERVER_ERROR
    return HTTPStatus.UNAUTHORIZED


@dataclass(frozen=True, slots=True)
class Route:
    """The handler of some requests.

    needs: the scope that their callers need, or OPEN. refuse: answers those who are not let in.
    tells_all: the answer tells of all models, so that callers must be allowed to know of all.
    quotes_logs: the answer can quote logs, so that callers must be allowed to read them.
    """

    handler: Handler
    needs: Scope | None
    refuse: Refuse = refusal_of
    tells_all: bool = False
    quotes_logs: bool = False


class Routes:
    """The handlers of a listener by path and method. HEAD is answered as GET without a body."""

    def __init__(self) -> None:
        self._routes: dict[str, dict[str, Route]] = {}

    def add(self, method: str, path: str, route: Route) -> None:
        """Let a route answer these requests."""
        self._routes.setdefault(path, {})[method] = route

    def find(self, method: str, path: str) -> Route | Response:
        """Return the route of a request, or the response that refuses it."""
        by_method = self._routes.get(path)
        if by_method is None:
            known = ", ".join(self._routes)
            return refusal(HTTPStatus.NOT_FOUND, f"there is nothing at this path, but at {known}")
        route = by_method.get("GET" if method == "HEAD" else method)
        if route is not None:
            return route
        allowed = [*by_method, *(("HEAD",) if "GET" in by_method else ())]
        return refusal(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"this path answers {' and '.join(allowed)} only",
            ("Allow", ", ".join(allowed)),
        )
