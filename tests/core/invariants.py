"""What must hold of a Machine after every event, seen from outside.

`Ledger.handle` feeds one event, keeps the books (who was asked what, what was told, which
commands are outstanding) from nothing but events and commands, and asserts them all.
"""

from dataclasses import dataclass, field, replace

from pool_service.core import lifecycle as life
from pool_service.core.machine import Event, Machine
from pool_service.core.requests import (
    Answer,
    Ensured,
    EnsureRequested,
    EvictRequested,
    Publish,
    ShutdownRequested,
    TimeReached,
    WaiterLeft,
)
from pool_service.core.supervision import BUSY_PAUSE, Command
from pool_service.core.types import FOREVER, Diagnosis, Identity, Phase, Server

GOING_WELL = {Phase.STARTING, Phase.READY}
COMING = life.TAKES_A_SLOT | {Phase.QUEUED}


def as_published(server: Server) -> Server:
    """Without what a use changes, which is not published."""
    return replace(server, last_used_at=0.0, keep_alive=0.0)


@dataclass
class Ledger:
    """One machine, and the books of all that went in and came out of it."""

    machine: Machine
    max_starts: int
    now: float = 0.0
    outstanding: list[life.ServerCommand] = field(default_factory=list)
    waiting: dict[int, EnsureRequested] = field(default_factory=dict)
    evicting: dict[int, EvictRequested | ShutdownRequested] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)
    left: set[int] = field(default_factory=set)
    shown: dict[str, Server] = field(default_factory=dict)
    processes: dict[str, Identity] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)

    def handle(self, event: Event) -> list[Command]:
        """Feed it, check everything, and return what it commands."""
        self._note(event)
        before = dict(self.shown)
        commands = self.machine.handle(event, self.now)
        for command in commands:
            self._take(command)
        self._check_stops(event, before)
        self._check_failed_starts(event, before)
        self.check()
        return commands

    def server(self, model: str) -> Server | None:
        return next((s for s in self.servers if s.model == model), None)

    @property
    def servers(self) -> list[Server]:
        return self.machine.page(None, 10**6)

    def done(self, command: life.ServerCommand) -> None:
        """It is no longer outstanding."""
        self.outstanding.remove(command)

    # --- the books ----------------------------------------------------------------------

    def _note(self, event: Event) -> None:
        match event:
            case EnsureRequested():
                self.waiting[event.ticket] = event
            case WaiterLeft(ticket, _):
                self.left.add(ticket)
                self.waiting.pop(ticket, None)
            case EvictRequested() | ShutdownRequested():
                self.evicting[event.ticket] = event
            case life.Spawned(model, _, process):
                assert model not in self.processes
                self.processes[model] = process.identity
            case life.Swept(model, generation) | life.StepBroke(model, generation, "Sweep", _):
                server = self.shown.get(model)
                if server is not None and server.generation == generation:
                    self.processes.pop(model, None)
            case _:
                pass

    def _take(self, command: Command) -> None:
        match command:
            case Answer():
                self._answered(command)
            case Publish(server, before, removed):
                shown = self.shown.get(server.model)
                assert before is (shown.phase if shown else None)
                self.shown[server.model] = server
                if removed:
                    del self.shown[server.model]
            case life.CancelPrepare(model, generation):
                self.done(self._find(life.Prepare, model, generation))
            case _:
                self._commanded(command)

    def _answered(self, answer: Answer) -> None:
        ticket = answer.ticket
        assert ticket not in self.answers, "answered twice"
        assert ticket not in self.left, "answered after leaving"
        self.answers[ticket] = answer
        ensure = self.waiting.pop(ticket, None)
        if ensure is None:
            assert self.evicting.pop(ticket, None) is not None, "answered what nobody asked"
            return
        result = answer.result
        if isinstance(result, Ensured):
            assert result.server.phase is Phase.READY
            assert result.server.endpoint
            assert ensure.runtime_model in ("", result.server.settings.runtime_model)
        else:
            assert isinstance(result, Exception)

    def _commanded(self, command: life.ServerCommand) -> None:
        model, generation = command.model, command.generation
        server = self.shown[model]
        assert server.generation == generation, "a command for another generation"
        match command:
            case life.Prepare():
                assert generation == self.generations.get(model, 0) + 1, "generations rise by one"
                self.generations[model] = generation
            case life.Spawn():
                assert model not in self.processes, "a second process"
                assert not [c for c in self.outstanding if _is(c, life.Spawn, model)]
            case life.AwaitExit() | life.AwaitReady() | life.CheckUse() | life.SendSignal():
                assert self.processes[model] == command.identity
            case life.Sweep():
                assert self.processes[model] == command.identity
                assert server.phase is Phase.SWEEPING
            case _:
                pass
        again = [c for c in self.outstanding if c == command]
        assert not again, "the same is under way already"
        if isinstance(command, life.SendSignal):
            assert server.phase is Phase.STOPPING
        else:
            self.outstanding.append(command)

    def _find(self, kind: type, model: str, generation: int) -> life.ServerCommand:
        return next(
            c for c in self.outstanding if _is(c, kind, model) and c.generation == generation
        )

    # --- what must hold -------------------------------------------------------------------

    def check(self) -> None:
        """Everything that must hold between events."""
        self._check_what_is_shown()
        self._check_who_waits()
        self._check_deadlines()
        starting = [s for s in self.servers if s.phase in life.TAKES_A_SLOT]
        queued = [s for s in self.servers if s.phase is Phase.QUEUED]
        assert len(starting) <= self.max_starts
        assert not queued or len(starting) == self.max_starts, "queued while there is a slot"

    def _check_what_is_shown(self) -> None:
        page = self.servers
        models = [server.model for server in page]
        assert models == sorted(set(models)), "one server a model, in order"
        assert [as_published(s) for s in page] == [
            as_published(self.shown[model]) for model in sorted(self.shown)
        ]
        totals = self.machine.totals()
        assert totals.servers == len(page)
        assert totals.waiting_calls == len(self.waiting)
        for phase in Phase:
            assert totals.by_phase[phase] == sum(s.phase is phase for s in page)

        for command in self.outstanding:
            if isinstance(command, life.Prepare | life.Spawn):
                assert self.shown[command.model].generation == command.generation, "given up"

    def _check_who_waits(self) -> None:
        for ensure in self.waiting.values():
            server = self.shown.get(ensure.model)
            assert server is not None, "waits for nothing"
            assert server.phase in COMING | life.LEAVING
        wanted = {ensure.model for ensure in self.waiting.values()}
        for server in self.servers:
            assert server.phase is not Phase.QUEUED or server.model in wanted, "nobody wants it"
        for evict in self.evicting.values():
            if isinstance(evict, EvictRequested) and isinstance(evict.target, str):
                assert evict.target in self.shown, "evicts what is gone"

    def _check_deadlines(self) -> None:
        for server in self.servers:
            asked = any(_is(c, life.CheckUse, server.model) for c in self._current())
            if server.phase in {Phase.STARTING, Phase.FAILED}:
                assert life.deadline(server) < FOREVER
            if server.phase is Phase.STOPPING and server.identity is not None:
                assert life.deadline(server) < FOREVER
            if not asked and not self._found_busy(server):
                assert self.machine.next_deadline() <= life.deadline(server)

    def _found_busy(self, server: Server) -> bool:
        """It may have been asked just now, so that the next question has to wait."""
        return server.phase is Phase.READY and life.deadline(server) <= self.now + BUSY_PAUSE

    def _current(self) -> list[life.ServerCommand]:
        return [
            c
            for c in self.outstanding
            if (s := self.shown.get(c.model)) and s.generation == c.generation
        ]

    def _check_stops(self, event: Event, before: dict[str, Server]) -> None:
        """A READY server leaves only by its death, by force, or because nobody uses it."""
        for model, server in before.items():
            after = self.shown.get(model)
            if server.phase is not Phase.READY or (after and after.phase is Phase.READY):
                continue
            match event:
                case EvictRequested(_, _, force):
                    assert force
                case life.UseReported(_, _, requests):
                    assert requests == 0
                case ShutdownRequested() | life.Exited() | life.StepBroke(_, _, "AwaitExit", _):
                    pass
                case _:
                    raise AssertionError(f"{event} ended a server that was READY")

    def _check_failed_starts(self, event: Event, before: dict[str, Server]) -> None:
        """Whoever waited for a start that failed is told, unless only a port was taken."""
        if isinstance(event, life.Exited) and event.report.diagnosis is Diagnosis.PORT_TAKEN:
            return
        for model, server in before.items():
            after = self.shown.get(model)
            if server.phase is Phase.STARTING and (not after or after.phase not in GOING_WELL):
                assert model not in {ensure.model for ensure in self.waiting.values()}

    def reach_time(self, later: float) -> None:
        """Let time pass as the driver would: TimeReached at each moment that is due."""
        until = self.now + later
        while self.machine.next_deadline() <= until:
            self.now = max(self.now, self.machine.next_deadline())
            self.handle(TimeReached())
        self.now = until


def _is(command: life.ServerCommand, kind: type, model: str) -> bool:
    return isinstance(command, kind) and command.model == model
