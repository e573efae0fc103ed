"""Samples of the machine's memory: when one is taken, and what it says of servers.

Samples are frequent while something starts or waits for room, and rare while nothing does; they
never cost more than a share of a processor.
"""

from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core.commands import RecordUsage, SampleMemory
from pool_service.core.containment import Containment
from pool_service.core.events import MemorySampled
from pool_service.core.server import Phase, Server
from pool_service.core.state import PoolState
from pool_service.core.table import Record
from pool_service.core.types import FOREVER, MemorySample

FRESH_S = 1.0
"""For how long a sample is good enough to start something by."""

FAST_PAUSE_S = 0.5
"""Between samples while something starts or waits for room."""

COST_SHARE = 0.01
"""The share of a processor that samples may take at most while somebody waits for them."""

CALM_COST_SHARE = 0.003
"""The same while nothing starts."""

SAMPLED_AT_ONCE = 32
"""Servers in one sample, in turn, beside those whose memory is not known yet: where there are
more, samples are as much more frequent, and none of them takes long."""

CALM_S = 10.0
"""Without pressure from outside until something is started again."""

PROGRESS_STEP = 0.05
"""Who watches is told each time a load or download has gone so much further."""


class Sampler:
    """Take memory samples, and keep what the last one said.

    last: the last sample; is_pressed, is_critical: whether the system said lately that it is
    short of memory; again_at: when to go on after a fault of the pool's own, None: there was none.
    """

    def __init__(self, state: PoolState, containment: Containment) -> None:
        self._state = state
        self._containment = containment
        self.last: MemorySample | None = None
        self.is_pressed = False
        self.is_critical = False
        self.again_at: float | None = None
        self._sampled_at = -FOREVER
        self._began_at = -FOREVER
        self._is_sampling = False
        self._servers: tuple[Server, ...] = ()
        self._pressed_until = -FOREVER
        self._critical_until = -FOREVER

    def take(self, now: float) -> None:
        """Take a sample, unless one is being taken."""
        if self._is_sampling:
            return
        table = self._state.table
        new = [table.find(server_id) for server_id in self._state.unmeasured]
        records = [*table.of(Phase.STARTING), *(one for one in new if one is not None)]
        chosen = [*(one.server for one in records), *table.take_turns(SAMPLED_AT_ONCE)]
        self._servers = tuple({server.id: server for server in chosen}.values())
        self._state.commands.append(SampleMemory(self._servers))
        self._is_sampling, self._began_at, self.again_at = True, now, None

    def take_if_due(self, now: float) -> None:
        """Take a sample if its time has come."""
        if self.next_at() <= now:
            self.take(now)

    def taken(self, event: MemorySampled, now: float) -> list[Record]:
        """Note what a sample says of the machine and of each server; return those in it."""
        self._is_sampling, self._sampled_at = False, now
        self._state.capacity_changed = True
        if event.sample is None:
            self.give_up()
            return []
        self.last = event.sample
        if event.sample.pressured:
            self._pressed_until = now + CALM_S
        if event.sample.critical:
            self._critical_until = now + CALM_S
        self.is_pressed = now < self._pressed_until
        self.is_critical = now < self._critical_until
        found = [self._state.table.find(server.id) for server in self._servers]
        sampled = [record for record in found if record is not None]
        for record in sampled:
            try:
                self._measure(record)
            except Exception as error:  # noqa: BLE001 - it costs that server alone
                self._containment.break_off(record.server.model, record.server.id, error, now)
        return sampled

    def give_up(self) -> None:
        """Let nobody wait for what cannot be seen."""
        self._state.unmeasured.clear()

    def _measure(self, record: Record) -> None:
        """Note what the last sample says of one server in it."""
        server, began = record.server, self._began_at
        if server.ready_at is None or life.is_of_ready(server, began):
            self._state.unmeasured.discard(server.id)
        footprints = self.last.footprints if self.last else {}
        if server.identity is None or server.identity not in footprints:
            return
        measured = life.measured(server, footprints[server.identity], began)
        if server.phase is Phase.READY and measured.peak > max(server.peak, server.expected):
            needed = life.bounded(server, measured.peak)
            self._state.commands.append(RecordUsage(server.settings, needed))
        self.show(server, measured)

    def show(self, server: Server, changed: Server) -> None:
        """Change a server, and publish that only where it is worth telling."""
        if changed is server:
            return
        gone_on = (changed.progress or 0.0) - (server.progress or 0.0)
        if gone_on >= PROGRESS_STEP or changed.expected_by is not server.expected_by:
            self._state.put(changed)
        else:
            self._state.keep(replace(changed, progress=server.progress))

    def is_fresh(self, now: float) -> bool:
        """Return whether the last sample is good enough to start something by; if not, take one."""
        saw_all = self._began_at >= self._state.gone_at and not self._state.unmeasured
        if saw_all and now - self._sampled_at <= FRESH_S:
            return True
        self.take(now)
        return False

    def next_at(self) -> float:
        """Return when the next sample is due: often while it matters, and never at much cost."""
        if self.again_at is not None:
            return self.again_at
        if self._is_sampling:
            return FOREVER
        state, table = self._state, self._state.table
        if self._is_awaited():
            pause, share = FAST_PAUSE_S, COST_SHARE
        else:
            living = len(table) - table.count(life.WITHOUT_PROCESS)
            portions = max(living / SAMPLED_AT_ONCE, 1)
            pause = state.limits.sample_interval / portions if living else FOREVER
            share = CALM_COST_SHARE
        cost = self.last.cost if self.last else 0.0
        return max(self._sampled_at, 0.0) + max(pause, cost / share)

    def postpone(self, until: float) -> None:
        """Take the next sample at a time of ours, after one that broke."""
        self._is_sampling = False
        self.again_at = until

    def _is_awaited(self) -> bool:
        """Return whether something starts, or waits for what a sample says."""
        table = self._state.table
        if table.count({Phase.STARTING}) or self._state.unmeasured:
            return True
        return any(not _is_estimating(table.find(one)) for one in self._state.queue)


def _is_estimating(record: Record | None) -> bool:
    return record is None or record.is_estimating
