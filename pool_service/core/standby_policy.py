"""Standby policy: how many standby processes to keep, by need and by the memory that is left over.

Standby processes are not servers: no caller waits for them, and they never delay one. They get
only memory that no server takes up or waits for, and give it back as soon as one does.

How many are wanted
1. `standby` at least. 0: none, ever.
2. As many as models started together lately (`standby_need.py`), at most `standby_max`. Counted are
   models with the runtime and the environment of the defaults: these are what standbys are made
   for, as far as the settings tell.
"""

import math

from pool_service.core import lifecycle as life
from pool_service.core.commands import KeepStandbys
from pool_service.core.sampler import Sampler
from pool_service.core.server import Phase
from pool_service.core.standby_need import StandbyNeed
from pool_service.core.state import PoolState
from pool_service.core.types import FOREVER, Settings

STANDBY_BYTES = 160 * 1024**2
"""The memory that a standby process is counted as. With vllm-mlx 0.6.0 on Linux it takes 117 MiB
(proportional set size, 78 of them private); the rest is for what Metal may take."""


class StandbyPolicy:
    """Decide after each change how many standby processes to keep.

    due_at: when to call `update` again if no event changes the capacity before; FOREVER: no need.
    """

    def __init__(self, state: PoolState, sampler: Sampler) -> None:
        self._state = state
        self._sampler = sampler
        self._need = StandbyNeed()
        self._last: KeepStandbys | None = None
        self.due_at = FOREVER

    def update(self, now: float) -> None:
        """Issue KeepStandbys if the number of standby processes is to change."""
        state, limits = self._state, self._state.limits
        self.due_at = FOREVER
        if not state.has_recovered or not (limits.standby or self._last):
            return
        starts_any = bool(state.table.count(life.ON_THE_WAY))
        self._need.note(self._starting(), now, starts_any=starts_any)
        wanted = self._wanted(now)
        allowed = 0 if state.is_closing else self._spare_places(at_most=wanted)
        refill = not starts_any and not self._sampler.is_pressed
        command = KeepStandbys(state.catalogue.defaults, wanted, allowed, refill)
        if wanted > limits.standby:
            self.due_at = self._need.forgets_at()
        if command != self._last:
            self._last = command
            state.commands.append(command)

    def _wanted(self, now: float) -> int:
        """Return how many standby processes are wanted, whether or not memory is left for them."""
        limits = self._state.limits
        needed = min(self._need.largest(now), limits.standby_max)
        return max(limits.standby, needed) if limits.standby else 0

    def _starting(self) -> set[str]:
        """Return the models of starts that could use, or have just used, a standby."""
        table, defaults = self._state.table, self._state.catalogue.defaults
        # Not STARTING: so is also the server of an earlier service, which was not started now.
        rows = [*table.of(Phase.PREPARING), *table.of(Phase.SPAWNING)]
        servers = [row.server for row in rows]
        return {one.model for one in servers if _has_standbys(one.settings, defaults)}

    def _spare_places(self, at_most: int) -> int:
        """Return how many of so many standby processes fit beside all servers, queued ones too."""
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
            return at_most
        return min(at_most, max(0, math.floor(spare / STANDBY_BYTES)))


def _has_standbys(settings: Settings, defaults: Settings) -> bool:
    """Return whether standbys that are made for `defaults` can run a model with `settings`."""
    ours = settings.runtime, settings.environment
    return ours == (defaults.runtime, defaults.environment)
