"""Draining of an exited process's descendants: waiting until no client is connected to them.

When a wrapper script has exited, the server behind it can no longer be probed; but its connections
show whether it still works on requests.
"""

import asyncio
import contextlib
from collections.abc import Collection

import structlog

from pool_service.adapters.process.leftover_processes import ProcessTree, find_survivors
from pool_service.adapters.sockets.connections import has_clients, listening_ports
from pool_service.core.types import Identity

_MIN_PAUSE_S = 0.1
_MAX_PAUSE_S = 1.0
_PAUSE_SHARE = 0.1
"""The pause between two checks, as a share of the time waited so far, within these bounds."""

_log = structlog.get_logger(__name__)


class LeftoverRequests:
    """Waits while clients are connected to the descendants of an exited process.

    endpoint: the endpoint of the exited process; empty if not known.
    drain_time: the longest wait, in seconds.
    escalated: ends the wait when set.
    """

    def __init__(
        self, tree: ProcessTree, endpoint: str, drain_time: float, escalated: asyncio.Event
    ) -> None:
        self._tree = tree
        self._endpoint = endpoint
        self._drain_time = drain_time
        self._escalated = escalated

    async def drain(self, left: frozenset[Identity]) -> frozenset[Identity]:
        """Wait until no client is connected or the wait must end; return the live descendants.

        left: the descendants that are alive now.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        is_logged = False
        while left and loop.time() < began + self._drain_time and not self._escalated.is_set():
            pids = [one.pid for one in left]
            if not await asyncio.to_thread(self._is_busy, pids):
                break
            if not is_logged:
                _log.info("waiting for requests on descendants of an exited process", pids=pids)
                is_logged = True
            pause = pause_after(loop.time() - began, self._drain_time)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._escalated.wait(), pause)
            left = await find_survivors(self._tree)
        return left

    def _is_busy(self, pids: Collection[int]) -> bool:
        """Return whether a client is connected; True if that cannot be found out. Blocking."""
        return has_clients(listening_ports(pids, self._endpoint), pids) is not False


def pause_after(waited: float, drain_time: float) -> float:
    """Return the seconds until the next check, never beyond the end of the drain."""
    pause = min(max(waited * _PAUSE_SHARE, _MIN_PAUSE_S), _MAX_PAUSE_S)
    return min(pause, max(drain_time - waited, 0.0))
