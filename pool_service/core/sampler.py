"""Memory samples: when to take one, and what it says of the machine and of servers.

Samples are frequent while a server starts or waits for memory, and rare otherwise. They take at
most a fixed share of a processor. The scheduler runs on each of them, so they are its clock.
"""

from dataclasses import replace
from typing import NamedTuple

from pool_service.core import lifecycle as life
from pool_service.core import measuring
from pool_service.core.commands import RecordUsage, SampleMemory
from pool_service.core.error_containment import Containment
from pool_service.core.events import MemorySampled
from pool_service.core.ready_estimate import is_news, seconds_left
from pool_service.core.server import Phase, Server
from pool_service.core.stall import StallWatch, after_sample
from pool_service.core.state import PoolState
from pool_service.core.table import Row
from pool_service.core.types import FOREVER, EstimateSource, MemorySample

FRESH_S = 1.0
"""The age up to which a sample is good enough to start a server by."""

FAST_PAUSE_S = 0.5
"""The time between samples while a server starts or waits for memory."""

COST_SHARE = 0.01
"""The share of a processor that samples may take while a server starts or waits for memory."""

CALM_COST_SHARE = 0.002
"""The share of a processor that samples may take otherwise."""

SAMPLED_AT_ONCE = 128
"""The number of servers in one sample, besides starting ones and those not yet measured, so that
no sample takes long. With more servers they take turns, and samples are more frequent."""

CALM_S = 10.0
"""The time without memory pressure after which servers are started again."""

PROGRESS_STEP = 0.05
"""The step, of 1, by which the progress of a load or download has to rise to be published."""


class Pressure(NamedTuple):
    """The memory pressure of the machine.

    at_present: the newest sample is pressured.
    lately, critical: a sample of the last CALM_S seconds was pressured, or critical.
    """

    at_present: bool
    lately: bool
    critical: bool


class Sampler:
    """Take memory samples, and apply them to servers.

    last: the last sample.
    is_pressed, is_critical: a sample of the last CALM_S seconds was pressured, or critical.
    again_at: when to take the next sample after an internal error; None: as usual.
    """

    def __init__(self, state: PoolState, containment: Containment) -> None:
        self._state = state
        self._containment = containment
        self.last: MemorySample | None = None
        self.is_pressed = False
        self.is_critical = False
        self.again_at: float | None = None
        self._sampled_at = -FOREVER
        self._last_at = -FOREVER
        self._began_at = -FOREVER
        self._is_sampling = False
        self._servers: tuple[Server, ...] = ()
        self._pressed_until = -FOREVER
        self._critical_until = -FOREVER

    def take(self, now: float) -> None:
        """Take a sample, unless one is under way."""
        if self._is_sampling:
            return
        table = self._state.table
        new = [table.find(server_id) for server_id in self._state.unmeasured]
        rows = [*table.of(Phase.STARTING), *(one for one in new if one is not None)]
        chosen = [*(one.server for one in rows), *table.take_turns(SAMPLED_AT_ONCE)]
        self._servers = tuple({server.id: server for server in chosen}.values())
        self._state.commands.append(SampleMemory(self._servers))
        self._is_sampling, self._began_at, self.again_at = True, now, None

    def take_if_due(self, now: float) -> None:
        """Take a sample if the next one is due."""
        if self.next_at() <= now:
            self.take(now)

    def on_memory_sampled(self, event: MemorySampled, now: float) -> list[Row]:
        """Apply a sample to the machine's state and to each server in it; return these servers."""
        self._is_sampling, self._sampled_at = False, now
        self._state.capacity_changed = True
        self._judge_starts(event.sample, now)
        if event.sample is None:
            self.skip_measuring()
            return []
        self.last, self._last_at = event.sample, now
        if event.sample.pressured:
            self._pressed_until = now + CALM_S
        if event.sample.critical:
            self._critical_until = now + CALM_S
        self.is_pressed = now < self._pressed_until
        self.is_critical = now < self._critical_until
        found = [self._state.table.find(server.id) for server in self._servers]
        sampled = [row for row in found if row is not None]
        for row in sampled:
            try:
                self._measure(row, now)
            except Exception as error:  # noqa: BLE001 - costs that server only
                self._containment.break_off(row.server.model, row.server.id, error, now)
        return sampled

    def skip_measuring(self) -> None:
        """Let no start wait until new servers are measured: memory cannot be sampled at present."""
        self._state.unmeasured.clear()

    def _judge_starts(self, sample: MemorySample | None, now: float) -> None:
        """Note of each server that starts whether it makes progress."""

        def judge(row: Row) -> None:
            server, identity = row.server, row.server.identity
            if row.is_adopting or identity is None:
                return
            row.stall_watch = after_sample(
                row.stall_watch,
                sample.work.get(identity) if sample else None,
                sample.footprints.get(identity) if sample else None,
                now=now,
                stall_timeout=server.settings.stall_timeout,
                was_ready=server.was_ready,
            )

        self._containment.each(self._state.table.of(Phase.STARTING), judge, now)

    def _measure(self, row: Row, now: float) -> None:
        """Apply the last sample to one server in it."""
        server, began = row.server, self._began_at
        if not server.was_ready or measuring.saw_ready(server, began):
            self._state.unmeasured.discard(server.id)
        footprints = self.last.footprints if self.last else {}
        if server.identity is None or server.identity not in footprints:
            return
        measured = measuring.measured(server, footprints[server.identity], began)
        if server.phase is Phase.READY and measured.peak > max(server.peak, server.expected):
            needed = measuring.bounded(server, measured.peak)
            self._state.commands.append(RecordUsage(server.settings, needed))
        if server.phase is Phase.STARTING:
            measured = _with_ready_estimate(measured, row.stall_watch, now)
        self.put_progress(server, measured)

    def put_progress(self, server: Server, changed: Server) -> None:
        """Put a changed server, and publish it if anybody would notice the change.

        That is a step of progress, another source of its memory estimate, or another expected time.
        """
        if changed is server:
            return
        rise = (changed.progress or 0.0) - (server.progress or 0.0)
        before, after = server.expected_ready_at, changed.expected_ready_at
        is_noticed = rise >= PROGRESS_STEP or is_news(before, after, self._state.now)
        if is_noticed or changed.expected_by is not server.expected_by:
            self._state.put(changed)
        else:
            unnoticed = replace(changed, progress=server.progress, expected_ready_at=before)
            self._state.put_unpublished(unnoticed)

    def ensure_fresh(self, now: float) -> bool:
        """Return whether the last sample is fresh enough to start a server by; if not, take one."""
        if self.is_fresh(now):
            return True
        self.take(now)
        return False

    def is_fresh(self, now: float) -> bool:
        """Return whether the last sample is fresh enough to start a server by."""
        saw_all = self._began_at >= self._state.gone_at and not self._state.unmeasured
        return saw_all and now - self._sampled_at <= FRESH_S

    def pressure(self, now: float, sample: MemorySample | None = None) -> Pressure:
        """Return the memory pressure; sample: newer than the last one, None: by that."""
        if sample is None:
            at_present = self.last is not None and self.last.pressured
            return Pressure(at_present, self.is_pressed, self.is_critical)
        return Pressure(
            sample.pressured,
            sample.pressured or now < self._pressed_until,
            sample.critical or now < self._critical_until,
        )

    def is_current(self, now: float) -> bool:
        """Return whether the last sample still says how the machine is.

        Without servers no sample is taken, and while the memory cannot be read none succeeds.
        """
        pause = self._pause()
        return now - self._last_at <= (CALM_S if pause == FOREVER else max(CALM_S, 2 * pause))

    def next_at(self) -> float:
        """Return when the next sample is due; FOREVER while one is under way."""
        if self.again_at is not None:
            return self.again_at
        if self._is_sampling:
            return FOREVER
        # 0 before the first sample: -FOREVER and a pause of FOREVER have no sum.
        return max(self._sampled_at, 0.0) + self._pause()

    def _pause(self) -> float:
        """Return the time between two samples at present; FOREVER if none are taken."""
        state, table = self._state, self._state.table
        if self._is_awaited():
            pause, share = FAST_PAUSE_S, COST_SHARE
        else:
            living = len(table) - table.count(life.WITHOUT_PROCESS)
            portions = max(living / SAMPLED_AT_ONCE, 1)
            pause = state.limits.sample_interval / portions if living else FOREVER
            share = CALM_COST_SHARE
        cost = self.last.cost if self.last else 0.0
        return max(pause, cost / share)

    def postpone(self, until: float) -> None:
        """Give up the present sample, and take the next at `until`, after an internal error."""
        self._is_sampling = False
        self.again_at = until

    def _is_awaited(self) -> bool:
        """Return whether a server starts, waits in the queue, or has not been measured."""
        table = self._state.table
        if table.count({Phase.STARTING}) or self._state.unmeasured:
            return True
        return any(not _is_estimating(table.find(one)) for one in self._state.queue)


def _with_ready_estimate(server: Server, watch: StallWatch | None, now: float) -> Server:
    """Return a STARTING server with the time at which it is expected to be READY.

    The time stays, even if it has passed, while the load takes nothing or nothing tells another.
    """
    if server.spawned_at is None or server.was_ready:
        return server
    if watch is not None and watch.loaded_at < now:
        return server
    elapsed = now - server.spawned_at - server.suspended_s
    is_guess = server.expected_by is EstimateSource.UNKNOWN
    left = seconds_left(elapsed, None if is_guess else server.progress, server.usual_load_s)
    return server if left is None else replace(server, expected_ready_at=now + left)


def _is_estimating(row: Row | None) -> bool:
    return row is None or row.is_estimating
