"""Standby policy: how many standby processes to keep, by the memory that servers leave over.

Standby processes are not servers: no caller waits for them, and they never delay one. They get
only memory that no server takes up or waits for, and give it back as soon as one does.
"""

import math

from pool_service.core import lifecycle as life
from pool_service.core.commands import KeepStandbys
from pool_service.core.sampler import Sampler
from pool_service.core.server import Phase
from pool_service.core.state import PoolState
from pool_service.core.types import FOREVER

STANDBY_BYTES = 160 * 1024**2
"""The memory that a standby process is counted as. With vllm-mlx 0.6.0 on Linux it has 117 MiB
resident, 78 of them private; the rest is for what Metal may take."""

_ON_THE_WAY = life.TAKES_A_SLOT | {Phase.QUEUED, Phase.BACKING_OFF}


class StandbyPolicy:
    """Decide after each change how many standby processes to keep.

    is_allowed: False until orphans were looked for, since a standby process would be taken for
    an orphan.
    """

    def __init__(self, state: PoolState, sampler: Sampler) -> None:
        self._state = state
        self._sampler = sampler
        self._last: KeepStandbys | None = None
        self.is_allowed = False

    def update(self) -> None:
        """Issue KeepStandbys if the number of standby processes is to change."""
        state, limits = self._state, self._state.limits
        if not self.is_allowed or not (limits.standby or self._last):
            return
        refill = not state.table.count(_ON_THE_WAY) and not self._sampler.is_pressed
        allowed = 0 if state.is_closing else min(limits.standby, self._spare_places())
        wanted = KeepStandbys(state.catalogue.defaults, limits.standby, allowed, refill)
        if wanted != self._last:
            self._last = wanted
            state.commands.append(wanted)

    def _spare_places(self) -> int:
        """Return how many standby processes fit beside all servers, queued ones included."""
        if self._sampler.is_pressed:
            return 0
        state, limits, last = self._state, self._state.limits, self._sampler.last
        rows = [state.table.find(server_id) for server_id in state.queue]
        estimated = [one.server for one in rows if one is not None and not one.is_estimating]
        queued = sum(server.expected for server in estimated)
        spare = limits.memory_budget - state.table.reserved - queued
        if last is not None:
            free = last.available + last.standbys - limits.memory_reserve
            spare = min(spare, free - state.table.growth - queued)
        if spare == FOREVER:
            return limits.standby
        return max(0, math.floor(spare / STANDBY_BYTES))
