"""What the pool does when a transition broke: a mistake of ours costs one model.

`salvage.py` decides how the server goes on whose transition it was; this writes it, tells
whoever waited, and audits the books, of which a part may have been written. It is asked for
only when something raised, and leans on nothing that could be what raised.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core import steps
from pool_service.core.books import Books
from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import PoolError
from pool_service.core.evictions import Eviction
from pool_service.core.limits import Limits
from pool_service.core.requests import INTERNAL, Answer, Broke, Publish
from pool_service.core.salvage import (
    MOST_FAULTS,
    PAUSE_SECONDS,
    Breach,
    Salvage,
    is_look,
    salvaged,
)
from pool_service.core.types import FOREVER, Phase, Server

WAITS_TO_START = frozenset({Phase.QUEUED, Phase.BACKING_OFF})


class Mending(Books):
    """Puts right what a transition that raised has left."""

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        super().__init__(catalogue, limits)
        self._event: object = None
        self._is_damaged = False
        self._faults = dict[tuple[str, int], int]()

    def _each(self, servers: Iterable[Server], do: Callable[[Server], None], now: float) -> None:
        """Do it to each that is still there; where that breaks it costs that server alone."""
        for listed in servers:
            server = self._roster.get(listed.model)
            if server is None:
                continue
            try:
                do(server)
            except Exception as error:  # noqa: BLE001  # it is told, and costs nobody else anything
                self._break_off(server.model, error, now)

    def _break_off(self, name: str, error: Exception, now: float) -> None:
        """The transition of this server raised: put it right, and tell whoever waited."""
        during = type(self._event).__name__ if self._event is not None else "whose turn it is"
        self._out.append(Broke(name, during, error))
        self._is_damaged = True
        try:
            self._put_right(name, told(name), now)
        except Exception as again:  # noqa: BLE001  # at the worst it stays known, and is not due
            self._out.append(Broke(name, "mending", again))
            self._deadlines.set(name, now + PAUSE_SECONDS)

    def _put_right(self, name: str, told: PoolError, now: float) -> None:
        server = self._roster.get(name)
        if server is None:
            self._let_go(name, told)
            return
        breach = self._breach_of(server)
        salvage = salvaged(server, breach, now)
        after = salvage.server
        if after is not None and salvage.has_failed:
            failed = life.failed(after, str(told), now, self._limits.failure_ttl)
            after = life.barred(failed, now + self._limits.failure_memory, told)
        if salvage.fails:
            self._let_go(name, told, holds=after is None or after.phase is not Phase.READY)
            self._settle_evictions(server, after, told)
        self._write(server, after, salvage, now)

    def _breach_of(self, server: Server) -> Breach:
        event = self._event
        if isinstance(event, steps.ServerEvent):
            ours = (event.model, event.generation) == (server.named, server.generation)
            event = event if ours else None
        key = server.named, server.generation
        if server.phase is Phase.READY and is_look(event):
            self._faults[key] = self._faults.get(key, 0) + 1
        worn = self._faults.get(key, 0) >= MOST_FAULTS
        return Breach(event, tuple(self._out), server.model in self._adopting, worn)

    def _write(self, before: Server, after: Server | None, salvage: Salvage, now: float) -> None:
        if any(isinstance(command, steps.Adopt) for command in salvage.commands):
            self._adopting.add(before.model)
        if after is None:
            self._expel(before)
        elif after.phase is Phase.READY:
            self._pause(after, now)
        else:
            self._put_anyway(after)
        self._out += salvage.commands

    def _pause(self, server: Server, now: float) -> None:
        """Keep a READY server, and look at it again in a while: not at once, over and over."""
        model = server.model
        if isinstance(self._event, steps.UseReported | steps.StepBroke):
            asked = any(isinstance(c, steps.CheckUse) and c.model == model for c in self._out)
            self._checking -= set() if asked else {model}
        self._marked.discard(model)
        if is_look(self._event):
            self._busy_until[model] = now + PAUSE_SECONDS
            asked = any(isinstance(c, steps.TakePulse) and c.model == model for c in self._out)
            took = isinstance(self._event, steps.PulseTaken | steps.StepBroke)
            if not asked and (took or server.step_deadline <= now):
                server = life.pulse_due(server, now + PAUSE_SECONDS)
        self._put_anyway(server)

    def _put_anyway(self, server: Server) -> None:
        try:
            self._put(server)
        except Exception as error:  # noqa: BLE001  # it may be this that broke
            self._out.append(Broke(server.model, "mending", error))
            before = self._roster.put(server)
            self._forget_looks(server)
            self._deadlines.set(server.model, server.step_deadline)
            self._out.append(Publish(server, before.phase if before else None))

    def _forget_looks(self, server: Server) -> None:
        """Forget what is kept of a server only while it is READY, or in line."""
        model = server.model
        if server.phase is not Phase.READY:
            for looks in (self._checking, self._marked, self._unmeasured):
                looks.discard(model)
            for marks in (self._claims, self._busy_until, self._vitality):
                marks.pop(model, None)
        if server.phase is not Phase.STOPPING:
            self._early_looks.discard(model)
        if server.phase is not Phase.QUEUED:
            self._queue.pop(model, None)
            self._unappraised.discard(model)

    def _expel(self, server: Server) -> None:
        """Take out a server of which nothing is left."""
        if self._roster.get(server.model) is not None:
            self._roster.remove(server.model)
        if not server.serves and server.generation:
            self._remember_past(server)
        self._forget_looks(replace(server, phase=Phase.FAILED))
        self._deadlines.set(server.model, FOREVER)
        gone = replace(server, holds=self._holds.count(server.model))
        self._out.append(Publish(gone, server.phase, removed=True))

    # --- whoever waited -------------------------------------------------------------------

    def _goes(self, model: str) -> bool:
        """Return whether a model's process is about to be gone."""
        server = self._roster.get(model)
        return server is not None and server.phase in life.LEAVING

    def _let_go(self, name: str, told: PoolError, *, holds: bool = True) -> None:
        """Tell all who wait for a model to wait no longer, and its holders unless it is there."""
        for wait in self._waiting.take(name):
            if holds or not self._holds.has(wait.ticket):
                self._tell_once(wait.ticket, told)
        for hold in self._holds.of(name) if holds else ():
            self._holds.end(hold.ticket)
            self._tell_once(hold.ticket, told)

    def _tell_once(self, ticket: int, result: PoolError) -> None:
        """Unless it was told in this very transition."""
        told = any(isinstance(one, Answer) and one.ticket == ticket for one in self._out)
        if ticket != INTERNAL and not told:
            self._out.append(Answer(ticket, result))

    def _settle_evictions(self, server: Server, after: Server | None, told: PoolError) -> None:
        """Answer who evicts a server: that it is gone, or that it stays."""
        if after is None or after.phase in life.WITHOUT_PROCESS:
            self._out += self._evictions.gone(server)
        elif after.phase is Phase.READY:
            for eviction in list(self._evictions.of(server.model)):
                self._leave_unevicted(eviction, server.model, told)

    def _leave_unevicted(self, eviction: Eviction, model: str, told: PoolError) -> None:
        self._evictions.leave_out(eviction, model)
        if eviction.names_one:
            self._evictions.withdraw(eviction)
            self._tell_once(eviction.ticket, told)
        elif not eviction.pending:
            self._out.append(eviction.answer)

    # --- the books as a whole -------------------------------------------------------------

    def _audit(self, now: float) -> None:
        """Bring into step what a broken transition may have written only in part."""
        self._is_damaged = False
        try:
            self._put_in_step(now)
        except Exception as error:  # noqa: BLE001  # the next broken transition brings the next audit
            self._out.append(Broke("", "the audit", error))

    def _put_in_step(self, now: float) -> None:
        self._roster.count_anew()
        self._drop_doubles()
        servers = list(self._roster)
        self._beside = {(s.serves, s.generation): s.model for s in servers if s.serves}
        for server in servers:
            self._forget_looks(server)
            self._audit_start(server, now)
            self._arm(self._roster.get(server.model) or server)
        there = {server.model for server in self._roster}
        self._adopting &= there
        for marks in (self._queue, self._claims, self._busy_until, self._vitality):
            for model in marks.keys() - there:
                del marks[model]
        self._audit_callers(there)
        alive = {(server.named, server.generation) for server in self._roster}
        self._faults = {key: count for key, count in self._faults.items() if key in alive}
        self._room_changed = True

    def _drop_doubles(self) -> None:
        """Where two take the same process for theirs, it is the one that bears the model's name."""
        owners = {one.identity: one for one in self._roster if one.identity and not one.serves}
        for server in list(self._roster):
            owner = owners.get(server.identity) if server.serves and server.identity else None
            if owner is None:
                continue
            self._expel(server)
            if server.phase in life.LEAVING and owner.phase not in life.LEAVING:
                # It was told to end, and nobody is to be given it.
                self._put_anyway(replace(server, model=owner.model, serves=""))

    def _audit_start(self, server: Server, now: float) -> None:
        """A start that nobody wants, or that is not in line, does not come to anything."""
        model = server.model
        lost = server.phase is Phase.QUEUED and model not in self._queue
        # Its process goes by another name by now, or is swept: nothing leads out of this.
        lost |= server.phase is Phase.SWEEPING and server.identity is None
        unwanted = server.phase in WAITS_TO_START and self._waiting.first(model) is None
        if lost or unwanted:
            self._let_go(model, told(model))
            failed = life.failed(server, server.detail, now, self._limits.failure_ttl)
            self._put_anyway(failed)

    def _audit_callers(self, there: set[str]) -> None:
        """Let go of all who wait for what does not come."""
        for model in {*self._waiting.models(), *self._holds.models()}:
            server = self._roster.get(model)
            if server is None or server.phase is Phase.FAILED:
                self._let_go(model, told(model))
        for model in self._evictions.models() - there:
            for eviction in list(self._evictions.of(model)):
                self._leave_unevicted(eviction, model, told(model))


def told(model: str) -> PoolError:
    """Return the error for the callers of a model whose transition broke; the log says more."""
    name = f"{model!r}" if model else "this"
    return PoolError(
        f"the service failed at {name} by a fault of its own. Its log says more; try again.",
        model=model,
    )
