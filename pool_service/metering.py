"""Metering: the counts of a running service and the HTTP listener that serves them.

Imported only if `[http]` names an address: without one nothing is counted, and no start is slower.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version

from pool_service.address import Address
from pool_service.admission import Admission
from pool_service.core.errors import Recovering
from pool_service.core.server import Server
from pool_service.metrics.call_counts import CallCounts
from pool_service.metrics.exposition import pieces
from pool_service.metrics.pool_counts import PoolCounts
from pool_service.metrics.values import ModelLabels
from pool_service.metrics.view import View
from pool_service.monitoring import Monitoring
from pool_service.pool import Pool
from pool_service.ports import Clock
from pool_service.rpc.counting import counting
from pool_service.rpc.server import SERVICE


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
        self._started_at = time.time()
        self._version = version("pool-service")
        self._sources: _Sources | None = None
        self.observe = self._counts.observe
        self.calls = CallCounts()
        self.wrap = counting(self.calls, SERVICE)
        self._monitoring = Monitoring(address, admission, self._pieces, self._illness)
        self.routes = self._monitoring.routes

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
        return await self._monitoring.start()

    async def keep_socket(self) -> None:
        """Make a removed unix socket again, until cancelled."""
        await self._monitoring.keep_socket()

    async def stop(self) -> None:
        """Stop serving."""
        await self._monitoring.stop()

    def _pieces(self) -> Iterator[str]:
        return pieces(self._view())

    def _illness(self) -> str:
        sources = self._sources
        assert sources is not None
        if sources.is_ending():
            return "the service is shutting down"
        try:
            _ = sources.pool.history
        except Recovering as error:
            return str(error)
        return ""

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
            loop_lag=self._monitoring.loop_lag,
            records_failing=bool(sources.pool.degraded_reason),
            guard_alive=sources.guard_alive(),
            log_lines_dropped=sources.log_lines_dropped(),
        )


def _servers(pool: Pool, count: int) -> list[Server]:
    try:
        return pool.page(None, count)
    except Recovering:
        return []
