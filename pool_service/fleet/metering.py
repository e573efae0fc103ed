"""Metering: the counts of a running front, and the HTTP listener that serves them.

Imported only if `[http]` names an address: without one nothing is counted.
"""

import time
from collections.abc import Callable, Iterator
from importlib.metadata import version

from pool_service.address import Address
from pool_service.admission import Admission
from pool_service.core.errors import Recovering
from pool_service.fleet.fleet import Fleet
from pool_service.fleet.members.link import GrpcLink
from pool_service.fleet.metrics.exposition import FrontView, pieces
from pool_service.fleet.metrics.front_counts import ForwardCounts, FrontCounts, HostLabels
from pool_service.metrics.call_counts import CallCounts
from pool_service.monitoring import Monitoring
from pool_service.ports import Clock
from pool_service.rpc.counting import counting
from pool_service.rpc.server import SERVICE


class FrontMetering:
    """Counts what the front, its members and its callers do, and serves that by HTTP.

    observe: receives each event of the fleet. forwards: receives each call to a member.
    ensured: receives the outcome of each Ensure.
    """

    def __init__(self, address: Address, clock: Clock, admission: Admission) -> None:
        labels = HostLabels()
        self._clock = clock
        self._counts = FrontCounts(labels, clock.now)
        self._started_at = time.time()
        self._version = version("pool-service")
        self._fleet: Fleet[GrpcLink] | None = None
        self._log_lines_dropped: Callable[[], int] = lambda: 0
        self._is_ending: Callable[[], bool] = lambda: False
        self._calls = CallCounts()
        self.observe = self._counts.observe
        self.ensured = self._counts.ensures.add
        self.forwards = ForwardCounts(labels)
        self.wrap = counting(self._calls, SERVICE)
        self._monitoring = Monitoring(address, admission, self._pieces, self._illness)
        self.routes = self._monitoring.routes

    async def start(
        self,
        fleet: Fleet[GrpcLink],
        log_lines_dropped: Callable[[], int],
        is_ending: Callable[[], bool],
    ) -> str:
        """Listen, and return the address. Raises AddressError if it is taken or unusable."""
        self._fleet = fleet
        self._log_lines_dropped, self._is_ending = log_lines_dropped, is_ending
        return await self._monitoring.start()

    async def keep_socket(self) -> None:
        """Make a removed unix socket again, until cancelled."""
        await self._monitoring.keep_socket()

    async def stop(self) -> None:
        """Stop serving."""
        await self._monitoring.stop()

    def _illness(self) -> str:
        if self._is_ending():
            return "the front is shutting down"
        try:
            _ = self._seen.history
        except Recovering as error:
            return str(error)
        return ""

    @property
    def _seen(self) -> Fleet[GrpcLink]:
        assert self._fleet is not None
        return self._fleet

    def _pieces(self) -> Iterator[str]:
        fleet = self._seen
        return pieces(
            FrontView(
                version=self._version,
                started_at=self._started_at,
                members=fleet.members,
                lead=fleet.lead,
                epoch=fleet.followed_epoch,
                may_place=fleet.may_place,
                wall=self._clock.wall,
                counts=self._counts,
                forwards=self.forwards,
                calls=self._calls,
                loop_lag=self._monitoring.loop_lag,
                log_lines_dropped=self._log_lines_dropped(),
            )
        )
