"""How many processes may wait to become servers: what is left over is theirs.

They are no servers: nobody waits for them, and they never stand in a server's way. So they
are not asked for room; they get what no server takes up, and give it back as soon as one does.
"""

import math

from pool_service.core import lifecycle as life
from pool_service.core.commands import KeepStandbys
from pool_service.core.sampler import Sampler
from pool_service.core.server import Phase
from pool_service.core.state import PoolState
from pool_service.core.types import FOREVER

STANDBY_BYTES = 160 * 1024**2
"""What one is counted as: with vllm-mlx 0.6.0 on Linux it has 117 MiB resident, 78 of them its
own; beside that, what Metal may take."""

_ON_THE_WAY = life.TAKES_A_SLOT | {Phase.QUEUED, Phase.BACKING_OFF}


class StandbyPolicy:
    """Say after each change how many processes may wait, if that is news.

    is_allowed: there may be any; before the end of a recovery one would be taken for what an
    earlier service left.
    """

    def __init__(self, state: PoolState, sampler: Sampler) -> None:
        self._state = state
        self._sampler = sampler
        self._last: KeepStandbys | None = None
        self.is_allowed = False

    def update(self) -> None:
        """Publish how many processes may wait, if that is news."""
        state, limits = self._state, self._state.limits
        if not self.is_allowed or not (limits.standby or self._last):
            return
        refill = not state.table.count(_ON_THE_WAY) and not self._sampler.is_pressed
        allowed = 0 if state.is_closing else min(limits.standby, self._room_to_spare())
        wanted = KeepStandbys(state.catalogue.defaults, limits.standby, allowed, refill)
        if wanted != self._last:
            self._last = wanted
            state.commands.append(wanted)

    def _room_to_spare(self) -> int:
        """Return how many fit beside the servers and whoever waits for the turn to be one."""
        if self._sampler.is_pressed:
            return 0
        state, limits, last = self._state, self._state.limits, self._sampler.last
        records = [state.table.find(server_id) for server_id in state.queue]
        lined_up = [one.server for one in records if one is not None and not one.is_estimating]
        queued = sum(server.expected for server in lined_up)
        spare = limits.memory_budget - state.table.reserved - queued
        if last is not None:
            taken = last.available + last.standbys - limits.memory_reserve
            spare = min(spare, taken - state.table.growth - queued)
        if spare == FOREVER:
            return limits.standby
        return max(0, math.floor(spare / STANDBY_BYTES))
