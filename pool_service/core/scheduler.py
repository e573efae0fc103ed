"""Scheduling: which queued server starts next, and which servers are preempted for it.

A server that is to start waits in the queue. Its turn comes when its memory is estimated
(`EstimateMemory`) and there is capacity for it (`admission.verdict`). If others have to go first,
they are *preempted*: checked like idle servers, and stopped when they are unused. Callers of a
preempted server wait meanwhile, so that they do not take the turn away.

When the scheduler runs: after every event that sets `PoolState.capacity_changed`
(`Machine._follow_up`). It admits only by a fresh memory sample. If there is none, it issues
SampleMemory and runs again on MemorySampled, which sets `capacity_changed` as well. While a server
waits in the queue, the sampler takes a sample every FAST_PAUSE_S: samples are the scheduler's
clock, and a queued server is tried again on each of them.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from pool_service.core import lifecycle as life
from pool_service.core import story
from pool_service.core.admission import (
    Admit,
    Capacity,
    Demand,
    ExceedsShare,
    NeverFits,
    PreemptFirst,
    Wait,
    cheapest_unused,
    overrun,
    verdict,
)
from pool_service.core.callers import Callers
from pool_service.core.capacity import read_capacity, resident
from pool_service.core.commands import Fetch
from pool_service.core.error_containment import Containment
from pool_service.core.error_texts import not_on_disk, share_exceeded, too_large
from pool_service.core.errors import PoolError
from pool_service.core.events import EstimateFailed, Fetching, MemoryEstimated
from pool_service.core.idle import IdleChecks
from pool_service.core.memory_limit import Preemptions, with_recycling
from pool_service.core.names import MAX_SUGGESTIONS
from pool_service.core.offer import InQueue
from pool_service.core.sampler import CALM_S, Pressure, Sampler
from pool_service.core.server import Phase, Server, ServerId
from pool_service.core.state import PoolState
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Row
from pool_service.core.types import Estimate, MemorySample

SHORT_OF_MEMORY = "the machine, which is short of memory"


class _Outcome(NamedTuple):
    """The outcome of a server's turn.

    why: what the server waits for; empty if it waits no longer.
    may_backfill: servers behind it in the queue may start before it.
    preempts: servers that are to be preempted.
    """

    why: str = ""
    may_backfill: bool = True
    preempts: tuple[ServerId, ...] = ()


class Scheduler:
    """Queue servers by their estimates, admit those that fit, and preempt others for them."""

    def __init__(
        self,
        state: PoolState,
        containment: Containment,
        callers: Callers,
        supervisor: Supervisor,
        idle: IdleChecks,
        sampler: Sampler,
    ) -> None:
        self._state = state
        self._containment = containment
        self._callers = callers
        self._supervisor = supervisor
        self._idle = idle
        self._sampler = sampler
        self._preemptions: Preemptions = {}

    # --- estimates ----------------------------------------------------------------------

    def on_memory_estimated(self, row: Row, event: MemoryEstimated, now: float) -> None:
        """Queue a server with its estimate, download its files, or drop its start."""
        if not row.is_estimating:
            return
        row.is_estimating = False
        state, server = self._state, row.server
        state.capacity_changed = True
        may_download = any(waiter.download for waiter in state.waiters.of(server.model))
        if event.estimate.on_disk is False and may_download:
            state.put(life.fetching(server, 0, 0)).is_estimating = True
            state.commands.append(Fetch(server.id, server.settings))
            return
        server, error = self.with_estimate(server, event.estimate, now, may_download=may_download)
        if error is None:
            state.put(server)
        else:
            self.drop_start(server, error)

    def with_estimate(
        self, server: Server, estimate: Estimate, now: float, *, may_download: bool
    ) -> tuple[Server, PoolError | None]:
        """Return a QUEUED server with its estimate, and the error with which that ends its start.

        may_download: files that are not on disk may be downloaded.
        """
        limits, missing = self._state.limits, estimate.on_disk is False
        turn_by = now + limits.queue_timeout
        estimated = life.estimated(server, estimate, turn_by, limits.memory_budget)
        if missing and not may_download:
            return estimated, self._not_on_disk(server, estimate.meant)
        if estimated.expected > limits.memory_budget:
            return estimated, too_large(estimated, limits.memory_budget)
        return estimated, None

    def _not_on_disk(self, server: Server, meant: tuple[str, ...]) -> PoolError:
        """Return the error for files that nobody may download.

        meant: models on disk with similar names, to suggest.
        """
        # A listed name is not misspelt, so no other is suggested.
        is_listed = server.model in self._state.catalogue.models
        names = () if is_listed else (*self._callers.similar(server.model), *meant)
        near = tuple(dict.fromkeys(names))[:MAX_SUGGESTIONS]
        return not_on_disk(server.model, server.settings.runtime_model, near)

    def on_fetching(self, row: Row, event: Fetching) -> None:
        """Publish the progress of a download."""
        if row.is_estimating:
            changed = life.fetching(row.server, event.done, event.total)
            self._sampler.put_progress(row.server, changed)

    def on_fetched(self, row: Row) -> None:
        """Estimate a server again after its files were downloaded."""
        if row.is_estimating:
            self._supervisor.estimate(row)

    def on_estimate_failed(self, row: Row, event: EstimateFailed, now: float) -> None:
        """Fail a start whose estimate or download failed."""
        if row.is_estimating:
            row.is_estimating = False
            self._supervisor.fail_start(row.server, event.error, now)

    def drop_start(self, server: Server, error: PoolError) -> None:
        """Fail the waiters of a start, and drop its server; later callers start it anew.

        The error is not remembered, as that of `Supervisor.fail_start` is: the next start finds it
        out anew at once, or it has passed by then.
        """
        self._state.fail_waiters(server.model, error)
        self._state.drop(replace(server, detail=str(error)))

    # --- admitting ------------------------------------------------------------------------

    def schedule(self, now: float) -> bool:
        """Start queued servers in order, and preempt others for the first that does not fit.

        Return False if that has to wait for a memory sample, which is then on its way.
        """
        queued = [one for one in self._rows(self._state.queue) if not one.is_estimating]
        decides = not queued or self._sampler.ensure_fresh(now)
        if decides:
            self._admit_queue(queued, now)
        # Cleared even if an admission has just set it: the servers behind the admitted one were
        # weighed against the new capacity.
        self._state.capacity_changed = False
        return decides

    def _admit_queue(self, queued: list[Row], now: float) -> None:
        preemptions: Preemptions = {}
        obstacle = ""
        for row in queued:
            try:
                obstacle = self._admit_or_wait(row, obstacle, preemptions, now)
            except Exception as error:  # noqa: BLE001 - costs that server only
                self._containment.break_off(row.server.model, row.server.id, error, now)
        if self._is_overrun():
            # For any reason: growth, a reload, an adoption, a wrong estimate.
            for server_id in overrun(self.capacity(now), now):
                preemptions.setdefault(server_id, None)
        self._preempt(with_recycling(preemptions, self._state, now), now)

    def _admit_or_wait(self, row: Row, obstacle: str, preemptions: Preemptions, now: float) -> str:
        """Start a server or publish what it waits for; return why those behind it may not start.

        obstacle: why the server may not start, by those before it; empty: it may.
        preemptions: the servers to preempt so far; those for this server are added.
        """
        blocked = obstacle or self.why_blocked()
        shortage = None if blocked else self._memory_shortage(self._sampler.pressure(now), now)
        if blocked:
            outcome = _Outcome(blocked, may_backfill=False)
        elif shortage is not None:
            outcome = shortage
            preemptions.update(dict.fromkeys(outcome.preempts))
        else:
            outcome = self._try(row.server, now)
            preemptions.update(dict.fromkeys(outcome.preempts, row.server.model))
        if outcome.why:
            self._publish_wait(row, outcome.why)
        return "" if outcome.may_backfill else "its turn"

    def why_blocked(self) -> str:
        """Return why no server may start now, or ""."""
        return (
            "" if self.slots > 0 else f"others to start, {self._state.limits.max_starts} at a time"
        )

    @property
    def slots(self) -> int:
        """The number of servers that may start now."""
        return self._state.limits.max_starts - self._state.table.count(life.TAKES_A_SLOT)

    def is_short(self, sample: MemorySample | None, now: float) -> bool:
        """Return whether nothing may start, since the machine is short of memory.

        sample: one that is newer than the sampler's last; None: by the last.
        """
        return self._memory_shortage(self._sampler.pressure(now, sample), now) is not None

    def _memory_shortage(self, pressure: Pressure, now: float) -> _Outcome | None:
        """Return what the machine's shortage of memory means for every start; None: nothing.

        1. Nothing runs: start, since waiting would free nothing.
        2. A server is leaving, or left less than CALM_S ago: wait, since that may be enough.
        3. The last sample was still pressured, and a server is unused: preempt the cheapest, and
           wait.
        4. Otherwise: wait only if the system called the shortage critical.
        """
        table = self._state.table
        if not pressure.lately or len(table) == table.count(life.WITHOUT_PROCESS):
            return None
        if table.count(life.LEAVING) or now < self._state.gone_at + CALM_S:
            return _Outcome(SHORT_OF_MEMORY, may_backfill=False)
        chosen: tuple[ServerId, ...] = ()
        if pressure.at_present:
            chosen = cheapest_unused(self.capacity(now), now)
        if chosen or pressure.critical:
            return _Outcome(SHORT_OF_MEMORY, may_backfill=False, preempts=chosen)
        return None

    def _is_overrun(self) -> bool:
        """Return whether the servers exceed the memory budget or the limit of a group."""
        table, limits = self._state.table, self._state.limits
        if table.reserved > limits.memory_budget:
            return True
        return any(table.group_counts.get(group, 0) > most for group, most in limits.groups.items())

    def _try(self, server: Server, now: float) -> _Outcome:
        """Start a server if it fits; else return what it waits for or preempts."""
        demand, capacity = self._demand(server, now), self.capacity(now)
        match verdict(demand, capacity, now):
            case Admit():
                counted = _counted(server, demand)
                self._supervisor.start(counted, story.admission(capacity, demand.needed))
                return _Outcome()
            case NeverFits():
                self.drop_start(server, too_large(server, self._state.limits.memory_budget))
                return _Outcome()
            case ExceedsShare(most):
                self.drop_start(server, share_exceeded(server, most))
                return _Outcome()
            case PreemptFirst(chosen, why, may_backfill):
                self._note(server, _waits(why), story.preemption(capacity, demand.needed, chosen))
                return _Outcome(why, may_backfill, chosen)
            case Wait(why, may_backfill):
                self._recheck_busy(now)
                return _Outcome(why, may_backfill)

    def _demand(self, server: Server, now: float) -> Demand:
        account = self._state.waiters.account(server.model)
        waited = now - self._state.queue[server.id]
        return Demand(server.model, server.expected, server.settings.groups, waited, account)

    def ahead(self, now: float) -> list[InQueue]:
        """Return the queued servers whose turns come before that of a new one, in their order."""
        found = []
        for row in self._rows(self._state.queue):
            if not row.is_estimating:
                demand = self._demand(row.server, now)
                started = life.admitted(_counted(row.server, demand))
                found.append(InQueue(demand, resident(self._state, row, started, now)))
        return found

    def _recheck_busy(self, now: float) -> None:
        """Check again the servers that were busy, since a queued one waits for them."""
        for row in self._state.table.of(Phase.READY):
            if row.busy_until is not None and row.busy_until <= now:
                self._idle.check(row)

    def _publish_wait(self, row: Row, why: str) -> None:
        """Publish a server's place in the queue and what it waits for, if either has changed."""
        server = row.server
        position = list(self._state.queue).index(server.id) + 1
        told = life.in_line(server, position, _waits(why))
        if told != server:
            self._note(told, told.detail)
            self._state.put(told)

    def _note(self, server: Server, why: str, choice: story.Choice | None = None) -> None:
        self._state.note(server, server.phase, server.phase, why, choice)

    def capacity(self, now: float, sample: MemorySample | None = None) -> Capacity:
        """Return the capacity at this moment, as input of the admission rules.

        sample: one that is newer than the sampler's last; None: by the last.
        """
        return read_capacity(self._state, sample or self._sampler.last, now)

    # --- preemption -----------------------------------------------------------------------

    def _preempt(self, preemptions: Preemptions, now: float) -> None:
        """Preempt these servers; hand out again those that are no longer among them."""
        before = self._rows(self._preemptions.keys() - preemptions)
        self._preemptions = preemptions
        released = [row for row in before if row.is_preempted]
        for row in released:
            row.end_preemption()
        going = self._rows(preemptions)
        for row in going:
            model = preemptions[row.server.id]
            if not row.is_preempted:
                self._note(row.server, f"is preempted {_purpose(row.server, model)}")
            row.preempt(model)
        if going:
            self._containment.each(going, lambda row: self._check_preempted(row, now), now)
        if released:
            self._containment.each(released, lambda row: self._hand_out_again(row, now), now)

    def _check_preempted(self, row: Row, now: float) -> None:
        if self._state.check_due(row) <= now:
            self._idle.check(row)
        else:
            self._state.arm(row)

    def release(self, row: Row, now: float) -> None:
        """Take back the preemption of a server that now is pinned, if it is for other models."""
        if row.is_preempted and row.preempted_for != row.server.model:
            row.end_preemption()
            self._hand_out_again(row, now)

    def _hand_out_again(self, row: Row, now: float) -> None:
        if not self._state.evictions.of(row.server.id):
            self._idle.uncordon(row, now)

    def _rows(self, ids: Iterable[ServerId]) -> list[Row]:
        found = [self._state.table.find(server_id) for server_id in ids]
        return [row for row in found if row is not None]


def _counted(server: Server, demand: Demand) -> Server:
    """Return a server whose memory counts to the account of its demand, if that has one."""
    return replace(server, account=demand.account.name if demand.account is not None else "")


def _waits(why: str) -> str:
    return f"waits for {why}"


def _purpose(server: Server, model: str | None) -> str:
    """Return in words what a server is preempted for."""
    if model is None:
        return "since a limit is exceeded, or memory is short"
    own = "its next generation, since it has grown past its memory limit"
    return f"for {own if model == server.model else repr(model)}"
