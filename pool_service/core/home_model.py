"""The home model: comes back after other models were loaded and went idle, before it is asked for.

It is started without a request if all of these hold:
1. It has no server, or one that has failed and may be started again.
2. It was not evicted, by its name or by an eviction of all or of all idle models, since the last
   request for it, as far as this service knows.
3. The pool is quiet: nobody waits, nothing starts or ends, and no other server is held or was used
   in the last HOME_AFTER_S seconds, as an idle check of each confirms. Pinned servers do not count
   once they are READY: they never make room.
4. The machine is not short of memory, by a fresh memory sample.
5. After a start that failed, or a server that died before `stable_run`: the pause is over, which
   doubles with each failure in a row; or, if the start only lacked memory, another server has gone
   since.

Then it is admitted like any other model, and may preempt servers that are unused. The start is
given up if the pool is no longer quiet before that, or if memory is not free soon. Once READY, it
is not stopped for being unused (`Server.expires_at`), but may be preempted.
"""

from pool_service.core import lifecycle as life
from pool_service.core.admission import STARVATION_LIMIT_S
from pool_service.core.idle import IdleChecks
from pool_service.core.sampler import Sampler
from pool_service.core.server import Cause, LastRun, Phase, Server, ServerId
from pool_service.core.state import PoolState
from pool_service.core.supervisor import FAILURES, Supervisor
from pool_service.core.table import Row
from pool_service.core.types import FOREVER
from pool_service.core.waiters import Waiter

HOME_AFTER_S = 60.0
"""The time for which other servers have to be unused: longer than most pauses of somebody who reads
an answer and goes on, shorter than the pause after which they expect another model to be back."""

QUEUED_LIMIT_S = STARVATION_LIMIT_S
"""The time after which a queued start is given up, counted anew while a server is leaving. A model
that nobody has asked for must neither preempt busy servers nor keep memory being sampled often."""

CHECK_FRESH_S = 5.0
"""The age up to which an idle check counts: longer than the default probe timeout, as the checks
of several servers end at different times."""

MIN_PAUSE_S = 1.0
"""The shortest time between two starts of a home model that cannot be started, if `backoff_max` is
less."""

MAX_PAUSE_S = 600.0
"""The longest time between two starts of a home model that cannot be started. Each may load a large
model in vain, but its files may also have been downloaded meanwhile."""

COMES_BACK = "comes back, since the pool is quiet"
"""Shown as the detail of a home model that is started without a request."""


class HomeModel:
    """Start the home model when the pool is quiet.

    due_at: when to call `update` again if no event changes the capacity before; FOREVER: no need.
    """

    def __init__(
        self, state: PoolState, supervisor: Supervisor, idle: IdleChecks, sampler: Sampler
    ) -> None:
        self._state = state
        self._supervisor = supervisor
        self._idle = idle
        self._sampler = sampler
        self.due_at = FOREVER
        self._catalogue = state.catalogue
        self._home = state.catalogue.home
        self._is_checking = False
        # The last start of our own; None once its server ended otherwise than by a failure, or was
        # stable.
        self._started: ServerId | None = None
        self._queued_since: float | None = None
        # When its last start was given up for want of memory; FOREVER: it was not.
        self._lacked_at = FOREVER
        self._failures = 0
        self._not_before = -FOREVER

    def update(self, now: float) -> None:
        """Start the home model, or find out when that may be possible."""
        due, self.due_at = self.due_at, FOREVER
        state = self._state
        home = state.catalogue.home
        if state.catalogue is not self._catalogue:
            self._apply_configuration(now)
        if not home or not state.has_recovered or state.is_closing:
            return
        row = state.table.current(home)
        # A superseded server that is ending shows how the last run went until there is another.
        newest = row.server if row is not None else state.known(home)
        if isinstance(newest, Server) and newest.phase in life.LEAVING:
            self._note_end(newest, now)
        if row is not None and row.server.phase is not Phase.FAILED and self._stays(row, now):
            return
        # A start can become possible only by a change of capacity, by the result of an idle check,
        # or at `due_at`.
        if state.capacity_changed or self._is_checking or due <= now:
            self._is_checking = False
            self._try(home, newest, now)
        else:
            self.due_at = due

    def _apply_configuration(self, now: float) -> None:
        """Forget failures, since a new configuration may have mended their cause."""
        self._catalogue = self._state.catalogue
        self._failures, self._not_before = 0, -FOREVER
        if self._catalogue.home != self._home:
            self._change_home(now)

    def _change_home(self, now: float) -> None:
        """Forget the home model before, and give up its start if that is our own."""
        before, self._home = self._home, self._catalogue.home
        row = self._state.table.current(before)
        if row is not None and row.server.id == self._started:
            self._state.waiters.withdraw(before)
            self._supervisor.give_up_unwanted(before, now, "is the home model no longer")
        self._started = self._queued_since = None
        self._lacked_at, self._is_checking = FOREVER, False

    def _stays(self, row: Row, now: float) -> bool:
        """Go on with a home model that is there; return False if its start was given up."""
        server = row.server
        if server.phase in life.LEAVING:
            return True
        self._state.evicted_home = ""
        if server.phase is Phase.READY:
            self._failures = 0
        self._follow(server)
        is_ours = server.id == self._started and server.phase is Phase.QUEUED
        return not (is_ours and self._gives_up(row, now))

    def _note_end(self, server: Server, now: float) -> None:
        """Forget the last start of our own if its server ends by no failure, or was stable."""
        stable_run = self._state.limits.stable_run
        is_stable = server.ready_at is not None and now - server.ready_at >= stable_run
        if is_stable or server.stop_cause not in FAILURES:
            self._started = None

    def _follow(self, server: Server) -> None:
        """Take the generation after our own start for ours, unless somebody asks for it.

        The process of a start may be killed, or lose its port, before it is READY.
        """
        started = self._started
        if started is None or server.generation <= started.generation:
            return
        # A pinned server is started again whatever the others do.
        if not server.settings.pinned and not self._callers_of(server.model):
            self._started, self._queued_since = server.id, None

    def _callers_of(self, model: str) -> list[Waiter]:
        """Return the waiters of a model other than the pool itself."""
        return [one for one in self._state.waiters.of(model) if one.request_id is not None]

    def _gives_up(self, row: Row, now: float) -> bool:
        """Give up a queued start of our own that is in the way, or has no prospect; return whether.

        1. The pool is no longer quiet: others would wait behind it, whose servers it may be about
           to preempt. This is no failure.
        2. Its turn has not come for QUEUED_LIMIT_S.
        """
        state, model = self._state, row.server.model
        if row.is_estimating or self._callers_of(model):
            return False
        if self._queued_since is None or state.table.count(life.LEAVING):
            self._queued_since = now
        is_quiet = self._quiet_at(model, now) <= now
        if is_quiet and now < self._queued_since + QUEUED_LIMIT_S:
            self.due_at = self._queued_since + QUEUED_LIMIT_S
            return False
        if is_quiet:
            self._lacked_at = now
        else:
            self._started = None
        why = f"found no room within {QUEUED_LIMIT_S:g} s" if is_quiet else "gives way to others"
        state.waiters.withdraw(model)
        self._supervisor.give_up_unwanted(model, now, why)
        return True

    def _try(self, home: str, newest: Server | LastRun | None, now: float) -> None:
        """Start the home model if that is possible now; else set when to try again."""
        if self._state.evicted_home == home:
            return
        if self._started is not None:
            self._not_before = now + self._pause()
            self._failures, self._started = self._failures + 1, None
        if self._state.gone_at > self._lacked_at:
            self._not_before = -FOREVER
        retry_at = newest.retry_at if isinstance(newest, Server) else -FOREVER
        at = max(self._quiet_at(home, now), self._not_before, retry_at)
        if at > now:
            self.due_at = at
        elif not self._sampler.ensure_fresh(now):
            pass
        elif self._sampler.is_pressed:
            self.due_at = now + HOME_AFTER_S
        elif self._confirms_quiet(home, now):
            self._queued_since, self._lacked_at = None, FOREVER
            self._started = self._supervisor.start_unasked(home, now, COMES_BACK)

    def _pause(self) -> float:
        """Return the seconds before the next start after one that failed."""
        pause = max(self._state.limits.backoff_max, MIN_PAUSE_S)
        for _ in range(self._failures):
            if pause >= MAX_PAUSE_S:
                break
            pause *= 2
        return min(pause, MAX_PAUSE_S)

    def _quiet_at(self, home: str, now: float) -> float:
        """Return when the pool is quiet, as far as is known, if nothing happens until then.

        FOREVER: something has to happen first, which changes the capacity.
        """
        if any(model != home for model in self._state.waiters.models()):
            return now + HOME_AFTER_S
        at = -FOREVER
        for row in self._others(home):
            server = row.server
            if server.phase is not Phase.READY or server.holds:
                return FOREVER
            busy_at = -FOREVER if row.busy_until is None else row.busy_until
            used_at = max(server.last_used_at, busy_at)
            at = max(at, used_at + HOME_AFTER_S, server.resides_until)
        return at

    def _confirms_quiet(self, home: str, now: float) -> bool:
        """Return whether idle checks have just found all others unused; begin those that lack.

        Nothing is known otherwise of requests that clients send without asking the pool.
        """
        lacking = [row for row in self._others(home) if row.found_unused_at + CHECK_FRESH_S < now]
        for row in lacking:
            self._idle.check(row)
        self._is_checking = bool(lacking)
        return not lacking

    def _others(self, home: str) -> list[Row]:
        """Return the rows of servers that count for whether the pool is quiet."""
        return [row for row in self._state.table if _counts(row, home)]


def _counts(row: Row, home: str) -> bool:
    server = row.server
    # Preempted: makes room for the home model, or for another one, which counts itself.
    is_past = server.phase is Phase.FAILED or server.stop_cause is Cause.PREEMPTED
    stays_anyway = server.settings.pinned and server.phase is Phase.READY
    return not (server.model == home or is_past or stays_anyway)
