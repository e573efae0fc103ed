"""HTTP callers: who has connected, and whether a request is admitted."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from pool_service.access.authentication import End, Kind, ListenAddress, Shown
from pool_service.access.principal import Principal, Scope
from pool_service.admission import Admission, check_every_model, check_logs
from pool_service.event_records import Call
from pool_service.http.exchange import Request, Route


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever is at the other end of a connection to an address."""

    admission: Admission
    address: ListenAddress
    end: End | None

    async def principal(self, request: Request, route: Route) -> Principal:
        """Return who sends a request, and may do so. Raises PoolError."""
        assert route.needs is not None
        checks: list[Callable[[Principal], None]] = []
        if route.tells_all:
            checks.append(partial(check_every_model, what=request.path))
        if route.quotes_logs:
            checks.append(check_logs)
        return await self.admission.principal(
            self.address, self._shown(request), route.needs, self._call(request), *checks
        )

    def staying(self, request: Request, needed: Scope) -> AbstractAsyncContextManager[None]:
        """Return what lets an answer go on as long as its receiver may have it.

        Raises PoolError or RightsChanged once that is no longer so.
        """
        assert request.principal is not None
        return self.admission.staying(
            request.principal, self.address, self._shown(request), needed, self._call(request)
        )

    def _shown(self, request: Request) -> Shown:
        return Shown(self.end, request.headers.get("authorization"))

    def _call(self, request: Request) -> Call:
        return Call(f"{request.method} {request.path}", "", _name_of(self.end))


def visitor_of(
    writer: asyncio.StreamWriter, kind: Kind, text: str, admission: Admission
) -> Visitor:
    """Return who has connected. kind, text: of the listener's address."""
    if kind is Kind.SOCKET:
        return Visitor(admission, ListenAddress(kind, text), None)
    # Each is None if the other side has gone by now.
    own, other = (writer.get_extra_info(name) for name in ("sockname", "peername"))
    ends = (own[:2],) if own else ()
    return Visitor(admission, ListenAddress(kind, text, ends), other[:2] if other else None)


def _name_of(end: End | None) -> str:
    """Return the name of a peer as gRPC has it."""
    if end is None:
        return "unix:"
    host, port = end
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
