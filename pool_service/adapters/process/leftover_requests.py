"""Lets what an ended process left behind finish the requests that it works on.

The program of a wrapper script is no longer there to be asked once the script has ended, but its
connections are.
"""

import asyncio
import contextlib
from collections.abc import Collection

import structlog

from pool_service.adapters.process.process_tree import Family, look_for
from pool_service.adapters.sockets.connections import anybody_connected, places_of
from pool_service.core.types import Identity

_SHORTEST_PACE = 0.1
_LONGEST_PACE = 1.0
_PACE_SHARE = 0.1
"""Of the time waited so far, within these seconds: until the next look."""

_log = structlog.get_logger(__name__)


class Lingering:
    """Waits while anybody is connected to what is left.

    endpoint: of the process that ended, empty where it is not known; drain_time: seconds that
    this takes at most; hurried: set when it is to take no longer.
    """

    def __init__(
        self, family: Family, endpoint: str, drain_time: float, hurried: asyncio.Event
    ) -> None:
        self._family = family
        self._endpoint = endpoint
        self._drain_time = drain_time
        self._hurried = hurried

    async def drained(self, left: frozenset[Identity]) -> frozenset[Identity]:
        """Return what is left of it when nothing is in flight, or the time for that is over."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        told = False
        while left and loop.time() < began + self._drain_time and not self._hurried.is_set():
            pids = [one.pid for one in left]
            if not await asyncio.to_thread(self._is_busy, pids):
                break
            if not told:
                _log.info("waiting for what is in flight on what a process left behind", pids=pids)
                told = True
            waited = loop.time() - began
            pause = min(max(waited * _PACE_SHARE, _SHORTEST_PACE), _LONGEST_PACE)
            pause = min(pause, max(self._drain_time - waited, 0.0))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurried.wait(), pause)
            left = await look_for(self._family)
        return left

    def _is_busy(self, pids: Collection[int]) -> bool:
        """Whether anybody is connected; where that cannot be told it is so. Blocking."""
        return anybody_connected(places_of(pids, self._endpoint), pids) is not False
