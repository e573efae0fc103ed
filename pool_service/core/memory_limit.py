"""The memory limit: which servers exceed it, and which are preempted for their own successor."""

from pool_service.core import measuring
from pool_service.core.server import Phase, Role, ServerId
from pool_service.core.state import PoolState
from pool_service.core.table import Row

MAX_LOAD_SHARE = 0.1
"""The largest share of a model's time spent on loads because of its memory limit, so that a model
that exceeds the limit right after its load is not loaded over and over."""

USUAL_LOAD_S = 5.0
"""The assumed duration of a load that was not observed."""

Preemptions = dict[ServerId, str | None]
"""The preempted servers, each with the model that it is to go for; None: none in particular."""


def is_recycling_due(row: Row, now: float) -> bool:
    """Return whether a server exceeds its memory limit and is due to be recycled."""
    server = row.server
    limit = server.settings.memory_limit
    if limit is None or server.footprint <= limit:
        return False
    # An outdated server ends when it is unused, and is not started again with its settings.
    if server.phase is not Phase.READY or server.role is not Role.CURRENT or server.outdated:
        return False
    assert server.ready_at is not None
    paid_off_at = server.ready_at + measuring.load_seconds(server, USUAL_LOAD_S) / MAX_LOAD_SHARE
    return now >= max(paid_off_at, row.recycle_after)


def with_recycling(preemptions: Preemptions, state: PoolState, now: float) -> Preemptions:
    """Return the preemptions, with those of servers to be recycled in place; held ones excepted.

    A server due for recycling that is preempted because a limit is exceeded is recycled as well:
    its model then starts again by itself, which a preempted model does only on request.
    """
    recycled = dict(preemptions)
    for server_id in state.recycle_in_place | {
        one for one, beneficiary in preemptions.items() if beneficiary is None
    }:
        row = state.table.find(server_id)
        if row is None or not is_recycling_due(row, now):
            # A reload may have raised or removed the limit.
            state.recycle_in_place.discard(server_id)
            continue
        model = row.server.model
        # With a successor beside it, the model has its next generation already.
        is_recycled = server_id in state.recycle_in_place or not state.table.beside(model)
        if is_recycled and not row.server.holds and preemptions.get(server_id) is None:
            recycled[server_id] = model
    return recycled
