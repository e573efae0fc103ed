"""Capacity: reads from the pool's state how much room there is, for `admission.py`."""

from pool_service.core import lifecycle as life
from pool_service.core import measuring
from pool_service.core.admission import Capacity, PreemptionClass, Resident
from pool_service.core.memory_limit import USUAL_LOAD_S
from pool_service.core.preemption_policy import Candidate, Uses
from pool_service.core.server import Phase, Server
from pool_service.core.state import PoolState
from pool_service.core.table import Row
from pool_service.core.types import FOREVER, MemorySample

RETURN_TIME_S = 2.0
"""The time in which the memory of a process that ended becomes available again: the system frees
that of a large process in the background."""


def read_capacity(state: PoolState, sample: MemorySample | None, now: float) -> Capacity:
    """Return the capacity at this moment; sample: the newest one, None: none was taken yet."""
    available = FOREVER
    if sample is not None:
        # Standby processes give way to servers.
        available = sample.available + sample.standbys - state.limits.memory_reserve
    return Capacity(
        budget=state.limits.memory_budget,
        reserved=state.table.reserved,
        growth=state.table.growth,
        available=available,
        returning=now < state.gone_at + RETURN_TIME_S,
        residents=lambda: _residents(state, now),
        taken=state.table.group_counts,
        groups=state.limits.groups,
        reserved_by=state.table.reserved_by,
    )


def resident(state: PoolState, row: Row, server: Server, now: float) -> Resident:
    """Return what others have to know of a server to take its place.

    server: that of the row, or as it will be once it starts.
    """
    candidate = Candidate(
        server_id=server.id,
        freed=max(server.reserved, 1),
        load_seconds=measuring.load_seconds(server, USUAL_LOAD_S),
        last_used_at=server.last_used_at,
        uses=state.uses.get(server.model, Uses(now)).count(now),
    )
    return Resident(
        candidate,
        _preemption_class(state, row),
        server.settings.groups,
        server.resides_until,
        server.account,
    )


def _residents(state: PoolState, now: float) -> tuple[Resident, ...]:
    rows = [row for row in state.table if row.server.takes_memory]
    return tuple(resident(state, row, row.server, now) for row in rows)


def _preemption_class(state: PoolState, row: Row) -> PreemptionClass:
    server, is_busy = row.server, row.busy_until is not None
    # An eviction that found the server busy does not count: the server is about to be left out.
    is_evicted = state.evictions.of(server.id) and not is_busy
    if server.phase in life.LEAVING or is_evicted:
        return PreemptionClass.LEAVING
    if server.holds or server.settings.pinned:
        return PreemptionClass.PROTECTED
    if server.phase is not Phase.READY:
        return PreemptionClass.STARTING
    return PreemptionClass.BUSY if is_busy else PreemptionClass.UNUSED
