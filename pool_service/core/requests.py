"""Requests of callers for a model: Ensure (READY once), Hold (READY until ended), Forget."""

from dataclasses import dataclass, replace

from pool_service.core import lifecycle as life
from pool_service.core.call_error_texts import shutting_down
from pool_service.core.callers import Asked, Callers
from pool_service.core.commands import Answer
from pool_service.core.error_texts import queue_full, runtime_model_conflict, still_barred
from pool_service.core.errors import PoolError
from pool_service.core.events import (
    EnsureRequested,
    ForgetRequested,
    HoldEnded,
    HoldRequested,
    WaiterLeft,
)
from pool_service.core.results import Ensured
from pool_service.core.server import LastRun, Phase, Server
from pool_service.core.state import PoolState
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Row
from pool_service.core.types import Account, Settings
from pool_service.core.waiters import Waiter

USE_RESOLUTION_S = 0.2
"""Uses within this time count as one, so that not each call of a busy model writes state."""

USE_RESOLUTION_SHARE = 0.01
"""The same as a share of the keep alive, for short ones: no server ends early by more."""

USE_RESOLUTION_SHARE_OF_GRACE = 0.1
"""The same as a share of the grace period, in which a server is not stopped for another one."""


@dataclass(frozen=True, slots=True)
class _Request:
    """A request, with what is known of its model.

    row: that of the model's current server; None: it has none.
    known: the newest server or last run of the model.
    waiter: the waiter to add if the request cannot be answered at once.
    """

    event: Asked
    model: str
    row: Row | None
    known: Server | LastRun | None
    waiter: Waiter

    @property
    def last(self) -> Server | None:
        """The newest server of the model, if it runs the runtime model asked for; else None."""
        if not isinstance(self.known, Server):
            return None
        runtime_model = self.waiter.settings.runtime_model
        return self.known if self.known.settings.runtime_model == runtime_model else None


@dataclass(frozen=True, slots=True)
class Prospect:
    """What an Ensure would find if it came now.

    settings: of the start that it would join, or begin.
    refusal: the error with which it would be refused at once; None: it would not.
    server: the model's server that is READY or on its way, or whose next generation others wait
    for; None: the Ensure would begin a start.
    is_held_up: that start would begin only after the end of the model's server, or a backoff.
    may_download, account: of that start.
    """

    model: str
    settings: Settings
    refusal: PoolError | None
    server: Server | None
    is_held_up: bool
    may_download: bool
    account: Account | None


class Requests:
    """Answer requests at once, or add waiters and start servers for them."""

    def __init__(self, state: PoolState, callers: Callers, supervisor: Supervisor) -> None:
        self._state = state
        self._callers = callers
        self._supervisor = supervisor

    def at_once(self, name: str, now: float) -> Server | None:
        """Return the READY server for an Ensure without options; None: feed EnsureRequested.

        The event would be answered with the same server, and change nothing: calls of a busy
        model are spared it.
        """
        state = self._state
        model = state.catalogue.resolve(name)
        row = state.table.current(model)
        if row is None or state.is_closing or not self._is_available(row):
            return None
        server = row.server
        if row.is_cordoned or _is_news(server, now):
            return None
        if not state.catalogue.serves(model, server.settings.named_by_caller):
            return None
        return server

    def ensure(self, event: EnsureRequested, now: float) -> None:
        """Answer an Ensure with a READY server or an error, or add a waiter for it."""
        request = self._request(event)
        refusal = self._refusal(request, now)
        if refusal is not None:
            self._state.answer(event.request_id, refusal)
        elif request.row is not None and self._is_available(request.row):
            self._hand_out(request.row, event, now)
        else:
            self._wait(request, now)

    def prospect(self, event: EnsureRequested, now: float) -> Prospect:
        """Return what an Ensure would find, and change nothing."""
        request = self._request(event)
        row, waiter = request.row, request.waiter
        joined = self._joined_settings(request.model, row)
        return Prospect(
            request.model,
            joined or waiter.settings,
            self._refusal(request, now),
            row.server if row is not None and joined is not None else None,
            not _begins_start(row) or _is_backing_off(request.last, now),
            waiter.download,
            waiter.account,
        )

    def hold(self, event: HoldRequested, now: float) -> None:
        """Begin a hold, and start the model if it is not READY; or refuse the hold."""
        state, request = self._state, self._request(event)
        refusal = self._refusal(request, now)
        if refusal is not None:
            state.answer(event.request_id, refusal)
            return
        state.holds.add(request.model, event, now)
        row = request.row
        if row is not None and self._is_available(row):
            row.is_cordoned = False
            if event.runtime_model:
                state.note_naming(request.model, event.runtime_model)
            state.touch(request.model, now)
            state.put(life.used(row.server, event.keep_alive, now), of_holds=True)
            return
        self._wait(request, now)
        awaited = state.table.current(request.model)
        assert awaited is not None
        # Publishes the new number of holds.
        state.put(awaited.server, of_holds=True)

    def _request(self, event: Asked) -> _Request:
        model = self._state.catalogue.resolve(event.model)
        row, known = self._state.table.current(model), self._state.known(model)
        waiter = self._callers.waiter_of_caller(model, event, known)
        return _Request(event, model, row, known, waiter)

    def on_hold_ended(self, event: HoldEnded, now: float) -> None:
        """End a hold, and a start that nobody else waits for."""
        state = self._state
        state.waiters.leave(event.request_id)
        model = state.holds.end(event.request_id)
        row = state.table.current(model) if model is not None else None
        if row is None:
            return
        server = row.server
        if server.phase is Phase.READY and not state.holds.count(server.model):
            server = life.released(server, now)
        state.put(server, of_holds=True)
        self._supervisor.give_up_unwanted(server.model, now)

    def on_waiter_left(self, event: WaiterLeft, now: float) -> None:
        """Remove the waiter of a caller, and end a start that nobody else waits for."""
        model = self._state.waiters.leave(event.request_id)
        if model is not None:
            self._supervisor.give_up_unwanted(model, now)

    def forget(self, event: ForgetRequested) -> None:
        """Forget the runtime model that callers named for a model, and answer with it."""
        model = self._state.catalogue.resolve(event.model)
        self._state.commands.append(Answer(event.request_id, self._state.forget_namings([model])))

    # --- refusing -----------------------------------------------------------------------

    def _refusal(self, request: _Request, now: float) -> PoolError | None:
        """Return the error with which a request is refused at once, or None."""
        state, model, named = self._state, request.model, request.event.runtime_model
        if state.is_closing:
            return shutting_down(request.event.model)
        joined = self._joined_settings(model, request.row)
        wanted = named or (joined.named_by_caller if joined else "")
        if not state.catalogue.serves(model, wanted):
            return self._callers.not_served(model, wanted)
        if named and joined and joined.runtime_model != named:
            return runtime_model_conflict(model, joined.runtime_model, named)
        return self._remembered_failure(request, now) or self._no_place(model, request.row)

    def _remembered_failure(self, request: _Request, now: float) -> PoolError | None:
        """Return the error of a start that failed lately, so that callers do not start one each."""
        last = request.last
        if last is not None and last.failure is not None and now < last.retry_at:
            return still_barred(last.failure, last.retry_at, now)
        if request.row is not None:
            return None
        return self._state.failed_starts.find(
            request.model, request.waiter.settings.runtime_model, now
        )

    def _no_place(self, model: str, row: Row | None) -> PoolError | None:
        """Return QueueFull if the model would have to join a full queue, or None."""
        state = self._state
        if _begins_start(row) and len(state.queue) >= state.limits.queue_limit:
            return queue_full(model, state.limits)
        return None

    # --- answering ----------------------------------------------------------------------

    def _is_available(self, row: Row) -> bool:
        """Return whether a server is READY and may be handed out."""
        return row.server.phase is Phase.READY and not self._is_going(row)

    def _is_going(self, row: Row) -> bool:
        """Return whether a server ends as soon as an idle check finds it unused.

        Either it is preempted, or an eviction has cordoned it.
        """
        is_evicted = row.is_cordoned and bool(self._state.evictions.of(row.server.id))
        return row.is_preempted or is_evicted

    def _joined_settings(self, model: str, row: Row | None) -> Settings | None:
        """Return the settings of the start that a caller would now join, or None.

        Callers that join take them over, so that all waiters of a model agree on the settings
        even after the caller that chose them has left.
        """
        if row is None or row.server.phase is Phase.FAILED:
            return None
        if row.server.phase not in life.LEAVING and not self._is_going(row):
            return row.server.settings
        first = self._state.waiters.first(model)
        return first.settings if first else None

    def _hand_out(self, row: Row, event: EnsureRequested, now: float) -> None:
        state, server = self._state, row.server
        # The caller may send a request after the idle check that is under way.
        row.is_cordoned = False
        if event.runtime_model:
            state.note_naming(server.model, event.runtime_model)
        if event.keep_alive is not None or _is_news(server, now):
            server = life.used(server, event.keep_alive, now)
            state.touch(server.model, now)
            # Not `PoolState.put`, since nothing that is published has changed.
            state.table.put(server)
            if not row.is_checking:
                state.deadlines.hasten(server.id, state.due(row))
        state.answer(event.request_id, Ensured(server, started=False))

    def _wait(self, request: _Request, now: float) -> None:
        state, row, last = self._state, request.row, request.last
        joined = self._joined_settings(request.model, row)
        waiter = request.waiter
        if joined is not None:
            waiter = replace(waiter, settings=joined, starts=False)
        state.waiters.add(request.model, waiter)
        if not _begins_start(row):
            return
        if last is not None and _is_backing_off(last, now):
            self._supervisor.back_off(last, waiter.settings, now, last.retry_at)
        else:
            self._supervisor.enqueue(request.model, request.known, now)


def _begins_start(row: Row | None) -> bool:
    """Return whether a request begins a start, and waits for nothing of the model's server."""
    return row is None or row.server.phase is Phase.FAILED


def _is_backing_off(last: Server | None, now: float) -> bool:
    """Return whether the next start of a model waits for the backoff of its last server."""
    return last is not None and now < last.retry_at


def _is_news(server: Server, now: float) -> bool:
    """Return whether a use now is so long after the last one that it is written."""
    age, grace = now - server.last_used_at, server.settings.grace_period
    return (
        age >= USE_RESOLUTION_S
        or age >= server.keep_alive * USE_RESOLUTION_SHARE
        or 0 < grace * USE_RESOLUTION_SHARE_OF_GRACE <= age
    )
