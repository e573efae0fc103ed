"""Monitoring: the HTTP listener of a program, with its metrics and its health.

Imported only if `[http]` names an address: without one nothing is counted.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from http import HTTPStatus

import structlog

from pool_service.access.principal import Scope
from pool_service.adapters.system.loop_lag import LoopLag
from pool_service.address import Address
from pool_service.admission import Admission
from pool_service.http.exchange import OPEN, Request, Response, Route, Routes, refusal
from pool_service.http.listener import HttpListener
from pool_service.metrics.text import CONTENT_TYPE
from pool_service.metrics.values import Histogram

log = structlog.get_logger("pool_service.http")


class Monitoring:
    """Serves `/metrics`, `/healthz` and what is added to `routes`."""

    def __init__(
        self,
        address: Address,
        admission: Admission,
        pieces: Callable[[], Iterator[str]],
        illness: Callable[[], str],
    ) -> None:
        """pieces: returns the text of the metrics, in pieces of less than a millisecond each.

        illness: returns why calls are not served now; empty if they are.
        """
        self._pieces = pieces
        self._illness = illness
        self._lag = LoopLag()
        self.routes = Routes()
        self.routes.add("GET", "/metrics", Route(self._metrics, Scope.READ, tells_all=True))
        self.routes.add("GET", "/healthz", Route(self._health, OPEN))
        self._listener = HttpListener(address, self.routes, admission)

    @property
    def loop_lag(self) -> Histogram:
        """By how much a timer of the event loop was late, in seconds."""
        return self._lag.seconds

    async def start(self) -> str:
        """Listen, and return the address. Raises AddressError if it is taken or unusable."""
        bound = await self._listener.start()
        self._lag.start()
        log.info("serving HTTP", address=bound)
        return bound

    async def keep_socket(self) -> None:
        """Make a removed unix socket again, until cancelled."""
        await self._listener.keep_socket()

    async def stop(self) -> None:
        """Stop serving."""
        self._lag.stop()
        await self._listener.stop()

    async def _metrics(self, _request: Request) -> Response:
        body = _in_turns(self._pieces())
        return Response(body=body, content_type=CONTENT_TYPE, is_finite=True)

    async def _health(self, _request: Request) -> Response:
        illness = self._illness()
        if illness:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, illness)
        return Response(body=b"ok\n")


async def _in_turns(pieces: Iterator[str]) -> AsyncGenerator[bytes]:
    """Yield the text of the metrics; between two pieces the event loop does what waits for it."""
    for piece in pieces:
        if piece:
            yield piece.encode()
        await asyncio.sleep(0)
