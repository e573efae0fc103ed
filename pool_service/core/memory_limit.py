"""Which servers have grown past their memory ceiling, and go for themselves."""

from pool_service.core import lifecycle as life
from pool_service.core.server import Phase, Role, ServerId
from pool_service.core.state import PoolState
from pool_service.core.table import Record

RENEWAL_SHARE = 0.1
"""The share of its time that a model may spend on loading again because of its ceiling: one
that needs more than its ceiling from the first is not loaded over and over."""

USUAL_LOAD_S = 5.0
"""What a load is taken to last where that was not seen."""

Preemptions = dict[ServerId, str | None]
"""For which model each server is to go; None: for none in particular."""


def is_over_limit(record: Record, now: float) -> bool:
    """Return whether a server is to be replaced since it takes more than its ceiling."""
    server = record.server
    ceiling = server.settings.memory_limit
    if ceiling is None or server.footprint <= ceiling:
        return False
    # What is outdated goes when it is unused; it is not to come again as it was.
    if server.phase is not Phase.READY or server.role is not Role.CURRENT or server.outdated:
        return False
    assert server.ready_at is not None
    settled_at = server.ready_at + life.load_seconds(server, USUAL_LOAD_S) / RENEWAL_SHARE
    return now >= max(settled_at, record.recycle_after)


def with_renewals(preemptions: Preemptions, state: PoolState, now: float) -> Preemptions:
    """Return the claims with those of servers that go for themselves, but not while held.

    One that goes for the budget although its ceiling is reason enough is among them: a renewed
    server comes again by itself, an evicted one only if somebody wants it.
    """
    renewed = dict(preemptions)
    for server_id in state.over_limit | {
        one for one, whose in preemptions.items() if whose is None
    }:
        record = state.table.find(server_id)
        if record is None or not is_over_limit(record, now):
            # A reload may have raised its ceiling, or taken it away.
            state.over_limit.discard(server_id)
            continue
        model = record.server.model
        is_sure = server_id in state.over_limit or not state.table.beside(model)
        if is_sure and not record.server.holds and preemptions.get(server_id) is None:
            renewed[server_id] = model
    return renewed
