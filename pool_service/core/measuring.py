"""Measuring: what a server takes, by memory samples, and how long it loaded."""

from dataclasses import replace

from pool_service.core.ready_estimate import MAX_SHARE
from pool_service.core.server import Phase, Server
from pool_service.core.types import EstimateSource


def measured(server: Server, footprint: int, sampled_at: float) -> Server:
    """Return the server with its footprint from a memory sample that began at `sampled_at`.

    A sample from before READY tells how far the load is, but not what the server needs: right
    after exec a process has next to nothing.
    """
    tells_need = server.phase is Phase.READY and saw_ready(server, sampled_at)
    is_known = server.sampled_ready or not tells_need
    if server.phase is Phase.READY and is_known and footprint == server.footprint:
        # An idle server's footprint rarely changes: the same object tells callers so.
        return server
    server = replace(server, footprint=footprint, peak=max(server.peak, footprint))
    if server.phase is Phase.STARTING and server.expected:
        progress = max(server.progress or 0.0, min(footprint / server.expected, MAX_SHARE))
        return replace(server, progress=progress)
    if not tells_need:
        return server
    if server.expected_by in (EstimateSource.WEIGHTS, EstimateSource.UNKNOWN):
        # An observation replaces the estimate. Mapped weights are not in it, and needed in memory.
        mapped = server.plan.mapped_bytes if server.plan else 0
        needed = max(server.peak, mapped)
        server = replace(server, expected=needed, expected_by=EstimateSource.OBSERVED)
    return replace(server, sampled_ready=True)


def saw_ready(server: Server, sampled_at: float) -> bool:
    """Return whether a memory sample that began at `sampled_at` saw the server READY."""
    return server.ready_at is not None and server.ready_at <= sampled_at


def load_seconds(server: Server, usual: float) -> float:
    """Return the seconds that the server's load took, or `usual` if unknown."""
    if server.ready_at is None or server.spawned_at is None:
        return usual
    # A suspend may seem a trifle longer than the start, by rounding.
    return max(server.ready_at - server.spawned_at - server.suspended_s, 0.0)


def bounded(server: Server, count: int) -> int:
    """Return `count` bytes, but at most the server's memory limit."""
    limit = server.settings.memory_limit
    return count if limit is None else min(count, limit)
