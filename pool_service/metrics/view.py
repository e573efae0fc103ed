"""A view: everything that one scrape shows, taken at one moment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pool_service.core.results import Totals
from pool_service.core.server import Server
from pool_service.metrics.call_counts import CallCounts
from pool_service.metrics.pool_counts import PoolCounts
from pool_service.metrics.values import Histogram, ModelLabels


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one scrape shows. Servers and totals are values of one moment; counts only rise.

    servers: all servers; empty while the service recovers.
    wall: converts a time of the pool's clock to Unix time.
    started_at: Unix time of the service's start.
    guard_alive: None if there is to be no guard.
    """

    version: str
    started_at: float
    servers: Sequence[Server]
    totals: Totals
    labels: ModelLabels
    wall: Callable[[float], float]
    pool: PoolCounts
    calls: CallCounts
    loop_lag: Histogram
    records_failing: bool
    guard_alive: bool | None
    log_lines_dropped: int
