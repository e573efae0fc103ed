"""How many processes may wait to become servers: what is left over is theirs.

They are no servers: nobody waits for them, and they never stand in a server's way. So they
are not asked for room; they get what no server takes up, and give it back as soon as one does.
"""

import math

from pool_service.core import lifecycle as life
from pool_service.core.catalogue import Catalogue
from pool_service.core.limits import Limits
from pool_service.core.placing import Placing
from pool_service.core.requests import KeepStandbys
from pool_service.core.types import FOREVER, Phase

STANDBY_SIZE = 160 * 1024**2
"""Bytes that one is counted as: with vllm-mlx 0.6.0 on Linux it has 117 MiB resident, 78 of them
its own; beside that, what Metal may take."""

_ON_THE_WAY = life.TAKES_A_SLOT | {Phase.QUEUED, Phase.BACKING_OFF}


class StandingBy(Placing):
    """Says after each change how many may wait, if that is news."""

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        super().__init__(catalogue, limits)
        self._is_recovered = False
        self._standbys: KeepStandbys | None = None

    def _admit(self, now: float) -> None:
        changed = self._room_changed
        super()._admit(now)
        # Before, one would be taken for what an earlier service left.
        if changed and self._is_recovered and (self._limits.standby or self._standbys):
            self._keep_standbys()

    def _keep_standbys(self) -> None:
        refill = not self._roster.count(_ON_THE_WAY) and not self._is_pressed
        allowed = 0 if self._closing else min(self._limits.standby, self._room_to_spare())
        settings = self._catalogue.defaults
        wanted = KeepStandbys(settings, self._limits.standby, allowed, refill)
        if wanted != self._standbys:
            self._standbys = wanted
            self._out.append(wanted)

    def _room_to_spare(self) -> int:
        """How many fit beside the servers and whoever waits for the turn to be one."""
        if self._is_pressed:
            return 0
        waiting = [self._roster[model] for model in self._queue if model not in self._unappraised]
        queued = sum(server.expected for server in waiting)
        spare = self._limits.memory_budget - self._roster.reserved - queued
        if self._survey is not None:
            taken = self._survey.available + self._survey.standbys - self._limits.memory_reserve
            spare = min(spare, taken - self._roster.growth - queued)
        return max(0, math.floor(spare / STANDBY_SIZE)) if spare < FOREVER else self._limits.standby
