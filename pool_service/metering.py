"""Metering: the counts of a running service and the HTTP listener that serves them.

Imported only if `[http]` names an address: without one nothing is counted, and no start is slower.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version

import structlog

from pool_service.access.principal import Scope
from pool_service.adapters.system.loop_lag import LoopLag
from pool_service.address import Address
from pool_service.admission import Admission
from pool_service.core.errors import Recovering
from pool_service.core.server import Server
from pool_service.http.exchange import OPEN, Request, Response, Route, Routes, refusal
from pool_service.http.listener import HttpListener
from pool_service.metrics.call_counts import CallCounts
from pool_service.metrics.exposition import CONTENT_TYPE, pieces
from pool_service.metrics.pool_counts import PoolCounts
from pool_service.metrics.values import ModelLabels
from pool_service.metrics.view import View
from pool_service.pool import Pool
from pool_service.ports import Clock
from pool_service.rpc.counting import counting
from pool_service.rpc.server import SERVICE

log = structlog.get_logger("pool_service.http")


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where a scrape finds what is not counted; no call changes anything."""

    pool: Pool
    guard_alive: Callable[[], bool | None]
    log_lines_dropped: Callable[[], int]
    is_ending: Callable[[], bool]


class Metering:
    """Counts what the pool and its callers do, and serves `/metrics` and `/healthz`.

    observe: receives each change of the pool. calls: receives each call that `wrap` wraps.
    """

    def __init__(
        self,
        address: Address,
        clock: Clock,
        is_listed: Callable[[str], bool],
        admission: Admission,
    ) -> None:
        self._labels = ModelLabels(is_listed)
        self._clock = clock
        self._counts = PoolCounts(self._labels, clock.now)
        self._lag = LoopLag()
        self._started_at = time.time()
        self._version = version("pool-service")
        self._sources: _Sources | None = None
        self.observe = self._counts.observe
        self.calls = CallCounts()
        self.wrap = counting(self.calls, SERVICE)
        self.routes = Routes()
        self.routes.add("GET", "/metrics", Route(self._metrics, Scope.READ, tells_all=True))
        self.routes.add("GET", "/healthz", Route(self._health, OPEN))
        self._listener = HttpListener(address, self.routes, admission)

    async def start(
        self,
        *,
        pool: Pool,
        guard_alive: Callable[[], bool | None],
        log_lines_dropped: Callable[[], int],
        is_ending: Callable[[], bool],
    ) -> str:
        """Listen, and return the address. Raises AddressError if it is taken or unusable.

        guard_alive: returns None if there is to be no guard.
        is_ending: whether the service shuts down.
        """
        self._sources = _Sources(pool, guard_alive, log_lines_dropped, is_ending)
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
        body = _in_turns(self._view())
        return Response(body=body, content_type=CONTENT_TYPE, is_finite=True)

    async def _health(self, _request: Request) -> Response:
        sources = self._sources
        assert sources is not None
        if sources.is_ending():
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the service is shutting down")
        try:
            _ = sources.pool.history
        except Recovering as error:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        return Response(body=b"ok\n")

    def _view(self) -> View:
        sources = self._sources
        assert sources is not None
        totals = sources.pool.totals()
        return View(
            version=self._version,
            started_at=self._started_at,
            servers=_servers(sources.pool, totals.servers),
            totals=totals,
            labels=self._labels,
            wall=self._clock.wall,
            pool=self._counts,
            calls=self.calls,
            loop_lag=self._lag.seconds,
            records_failing=bool(sources.pool.degraded_reason),
            guard_alive=sources.guard_alive(),
            log_lines_dropped=sources.log_lines_dropped(),
        )


def _servers(pool: Pool, count: int) -> list[Server]:
    try:
        return pool.page(None, count)
    except Recovering:
        return []


async def _in_turns(view: View) -> AsyncGenerator[bytes]:
    """Yield the text of the metrics; between two pieces the event loop does what waits for it."""
    for piece in pieces(view):
        if piece:
            yield piece.encode()
        await asyncio.sleep(0)
