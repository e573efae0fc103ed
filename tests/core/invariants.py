"""What must hold of a Machine after every event, seen from outside.

`Ledger.handle` feeds one event, keeps the books (who was asked what, what was told, which
commands are outstanding) from nothing but events and commands, and asserts them all.
Its books of processes and of what was put on disk outlive the machine: `restart` begins
another over them.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from types import UnionType

from pool_service.core import commands, events
from pool_service.core import lifecycle as life
from pool_service.core.commands import (
    Answer,
    Command,
    KeepStandbys,
    LogInternalError,
    Publish,
    RecordCommand,
    RecordLoad,
    RecordNamings,
    RecordPins,
    RecordUsage,
    RecoveryEnded,
    SampleMemory,
)
from pool_service.core.events import (
    DetachRequested,
    EnsureRequested,
    Event,
    EvictRequested,
    HoldEnded,
    HoldRequested,
    MemorySampled,
    PinRequested,
    RecoveryBegan,
    ReloadRequested,
    ShutdownRequested,
    TimeReached,
    WaiterLeft,
)
from pool_service.core.home_model import HOME_AFTER_S
from pool_service.core.idle import BUSY_PAUSE_S
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.remembered import MAX_NAMINGS, MAX_PINS
from pool_service.core.results import Ensured
from pool_service.core.server import (
    NOT_BEGUN,
    Cause,
    LastRun,
    Phase,
    RecoveredState,
    Role,
    Server,
    ServerId,
)
from pool_service.core.stall import COMPUTING_LIMIT_S
from pool_service.core.standby_policy import STANDBY_BYTES
from pool_service.core.timers import LOG_TIMEOUT_S
from pool_service.core.types import FOREVER, Diagnosis, Identity, SpawnedProcess

Settling = EvictRequested | ShutdownRequested | ReloadRequested
"""What is answered when it is done."""

GOING_WELL = {Phase.STARTING, Phase.READY}
ESTIMATES = commands.EstimateMemory | commands.Fetch
COMING = life.TAKES_A_SLOT | {Phase.QUEUED, Phase.BACKING_OFF}


def as_published(server: Server) -> Server:
    """Without what a use, a look or a stall changes, which is not published."""
    return replace(
        server,
        last_used_at=0.0,
        keep_alive=0.0,
        step_deadline=0.0,
        spared_until=0.0,
        footprint=0,
        peak=0,
        sampled_ready=False,
    )


def deadline(server: Server) -> float:
    """When something is due for it if nothing happens before."""
    if server.phase is Phase.READY:
        return min(server.expires_at, server.step_deadline)
    return server.step_deadline


@dataclass(frozen=True)
class SeenStart:
    """When a start was last seen to get on and to load, and what it had read by then."""

    moved_at: float
    loaded_at: float
    loaded: int


@dataclass
class Ledger:
    """One machine, and the books of all that went in and came out of it."""

    begin: Callable[[], Machine]
    limits: Limits
    machine: Machine = field(init=False)
    now: float = 0.0
    outstanding: list[commands.ServerCommand] = field(default_factory=list)
    waiting: dict[int, EnsureRequested] = field(default_factory=dict)
    holding: dict[int, HoldRequested] = field(default_factory=dict)
    pinned: frozenset[str] = frozenset()
    pins: Mapping[str, bool] = field(default_factory=dict)
    home: str = ""
    sampling: bool = False
    grown: dict[Identity, int] = field(default_factory=dict)
    loaded: dict[Identity, int] = field(default_factory=dict)
    starts: dict[ServerId, "SeenStart"] = field(default_factory=dict)
    fetched: bool = False
    evicting: dict[int, EvictRequested | ShutdownRequested | ReloadRequested | PinRequested] = (
        field(default_factory=dict)
    )
    answers: dict[int, Answer] = field(default_factory=dict)
    left: set[int] = field(default_factory=set)
    shown: dict[ServerId, Server] = field(default_factory=dict)
    processes: dict[ServerId, Identity] = field(default_factory=dict)
    footprints: Mapping[Identity, int] = field(default_factory=dict)
    dead: set[Identity] = field(default_factory=set)
    generations: dict[str, int] = field(default_factory=dict)
    leasts: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    spawned: dict[str, int] = field(default_factory=dict)
    adopted: set[ServerId] = field(default_factory=set)
    journal: list[tuple[Server, bool]] = field(default_factory=list)
    pasts: dict[str, LastRun] = field(default_factory=dict)
    written: int = 0
    recovering: bool = False
    _nonces: dict[str, Identity] = field(default_factory=dict)
    _intents: dict[ServerId, int] = field(default_factory=dict)
    _pids: "count[int]" = field(default_factory=lambda: count(100))

    def __post_init__(self) -> None:
        self.machine = self.begin()

    def handle(self, event: Event) -> list[Command]:
        """Feed it, check everything, and return what it commands."""
        self._note(event)
        before = dict(self.shown)
        at_once = self._at_once(event)
        issued = self.machine.handle(event, self.now)
        for command in issued:
            self._take(command)
        if at_once is not None:
            self._check_at_once(at_once, issued)
        self._check_stops(event, before)
        self._check_failed_starts(event, before)
        self._check_stalled_starts(event, issued)
        self.check()
        return issued

    def _at_once(self, event: Event) -> Server | None:
        """What a call would get without the event."""
        match event:
            case EnsureRequested(_, model, "", None):
                return self.machine.at_once(model, self.now)
            case _:
                return None

    def _check_at_once(self, server: Server, issued: list[Command]) -> None:
        """The event was answered with the same, and left it as it was."""
        told = [command.result for command in issued if isinstance(command, Answer)]
        assert told == [Ensured(server, started=False)]
        assert self.machine.get(server.model) is server

    def server(self, model: str) -> Server | None:
        """The one that callers of the model get."""
        return next((s for s in self.servers if s.model == model and s.is_current), None)

    def server_of(self, server_id: ServerId) -> Server | None:
        """The one with this id, as it was published last."""
        return self.shown.get(server_id)

    def _current(self, model: str) -> Server | None:
        """The one that callers of the model get, as it was published last."""
        return next((s for s in self.shown.values() if s.model == model and s.is_current), None)

    @property
    def servers(self) -> list[Server]:
        return self.machine.page(None, 10**6)

    @property
    def coming(self) -> list[Server]:
        """Those that are to be READY, also where only the pool itself wants them."""
        return [server for server in self.servers if server.phase in COMING]

    def done(self, command: commands.ServerCommand) -> None:
        """It is no longer outstanding."""
        self.outstanding.remove(command)

    # --- the world, which outlives the machine --------------------------------------------

    def new_process(self, command: commands.Spawn) -> SpawnedProcess:
        """The command is carried out, once its intent is on disk."""
        model, generation = command.server_id
        self._check_alone(command.server_id)
        assert generation > self.spawned.get(model, 0), "generations rise"
        self.written = max(self.written, self._intents[command.server_id])
        self.spawned[model] = generation
        identity = Identity(next(self._pids), generation, "boot")
        self.processes[command.server_id] = self._nonces[command.plan.nonce] = identity
        return SpawnedProcess(identity, "/log")

    def find_process(self, server: Server) -> SpawnedProcess | None:
        """What an earlier service left of it: as recorded, alive or not, or by its nonce."""
        identity = server.identity
        if identity is None and server.plan is not None:
            found = self._nonces.get(server.plan.nonce)
            identity = found if found in self.processes.values() else None
        if identity is None:
            return None
        if self.processes.setdefault(server.id, identity) != identity:
            raise AssertionError("the record is of another process than the one that lives")
        return SpawnedProcess(identity, "/log")

    def die(self, identity: Identity) -> None:
        """The process ends, and nobody is there to see it."""
        self.dead.add(identity)

    def restart(self, written: int) -> None:
        """The service dies, with so much of its journal on disk, and another begins."""
        assert self.written <= written <= len(self.journal)
        disk = _on_disk(self.pasts, self.journal[:written])
        self.left |= {*self.waiting, *self.evicting, *self.holding}
        self.sampling = False
        self.starts.clear()
        for books in (self.waiting, self.evicting, self.holding, self.shown):
            books.clear()
        self.outstanding.clear()
        self.adopted.clear()
        self._intents.clear()
        self.generations.clear()
        for entry in disk.values():
            latest = max(entry.last_generation, self.generations.get(entry.model, 0))
            self.generations[entry.model] = latest
        self.journal = [(entry, False) for entry in disk.values() if isinstance(entry, Server)]
        self.pasts = {entry.model: entry for entry in disk.values() if isinstance(entry, LastRun)}
        self.written = len(self.journal)
        self.machine = self.begin()
        self.recovering = True
        servers = tuple(entry for entry in disk.values() if isinstance(entry, Server))
        nonces = {(server.id, server.plan.nonce) for server in servers if server.plan}
        assert len({nonce for _, nonce in nonces}) == len(nonces), "two servers, one process"
        pasts = tuple(entry for entry in disk.values() if isinstance(entry, LastRun))
        self.handle(RecoveryBegan(RecoveredState(servers, pasts, pins=self.pins)))

    # --- the books ----------------------------------------------------------------------

    def _note(self, event: Event) -> None:
        self._note_asked(event)
        match event:
            case MemorySampled(sample):
                self.sampling = False
                self.footprints = sample.footprints if sample else self.footprints
            case events.Exited(server_id, _):
                server = self.server_of(server_id)
                if server is not None and server.identity:
                    self.dead.add(server.identity)
            case events.CleanedUp(server_id) | events.CommandFailed(
                server_id, commands.CleanUp(), _
            ):
                if self.server_of(server_id) is not None:
                    self.processes.pop(server_id, None)
            case _:
                pass

    def _as_meant(self, event: Event) -> Event:
        """The event with the model that its name stands for."""
        match event:
            case EnsureRequested() | HoldRequested() | PinRequested():
                return replace(event, model=self.machine.resolve(event.model))
            case EvictRequested(_, str(name)):
                return replace(event, target=self.machine.resolve(name))
            case ReloadRequested():
                # A pin goes with its name.
                self.pinned |= {event.catalogue.resolve(model) for model in self.pinned}
                return event
            case _:
                return event

    def _note_asked(self, event: Event) -> None:
        event = self._as_meant(event)
        match event:
            case EnsureRequested(int(request_id)):
                self.waiting[request_id] = event
                self.leasts[event.model].add(event.least_generation)
            case HoldRequested():
                self.holding[event.request_id] = event
                self.leasts[event.model].add(event.least_generation)
            case WaiterLeft(request_id) | HoldEnded(request_id):
                self.left.add(request_id)
                self.waiting.pop(request_id, None)
                self.holding.pop(request_id, None)
            case EvictRequested() | ShutdownRequested() | ReloadRequested():
                self.evicting[event.request_id] = event
            case PinRequested():
                self.evicting[event.request_id] = event
                # Also once it is not pinned any more: what had begun for the pin goes on.
                self.pinned |= {event.model}
            case _:
                pass

    def _take(self, command: Command) -> None:
        assert not isinstance(command, LogInternalError), command
        match command:
            case Answer():
                self._answered(command)
            case Publish():
                self._published(command)
            case RecoveryEnded():
                assert self.recovering, "recovered twice"
                self.recovering = False
            case SampleMemory():
                assert not self.sampling, "two looks at a time"
                self.sampling = True
            case KeepStandbys(_, wanted, allowed, _):
                assert allowed <= wanted <= max(self.limits.standby, self.limits.standby_max)
                reserved = sum(server.reserved for server in self.servers)
                assert (
                    reserved + allowed * STANDBY_BYTES <= self.limits.memory_budget or not allowed
                )
            case RecordUsage() | RecordLoad() | RecordNamings() | RecordPins():
                self._recorded(command)
            case _:
                self._stepped(command)

    def _recorded(self, command: RecordCommand) -> None:
        match command:
            case RecordUsage(_, needed):
                assert needed > 0
            case RecordLoad(_, seconds):
                assert seconds >= 0
            case RecordNamings(namings):
                assert len(namings) <= MAX_NAMINGS
            case RecordPins(pins):
                assert len(pins) <= MAX_PINS
                self.pins = pins

    def _published(self, change: Publish) -> None:
        server = change.server
        shown = self.shown.get(server.id)
        assert change.before is (shown.phase if shown else None)
        self.shown[server.id] = server
        self.journal.append((server, change.removed))
        if change.removed:
            del self.shown[server.id]

    def _stepped(self, command: commands.ServerCommand) -> None:
        match command:
            case commands.CancelPrepare(server_id):
                self.done(self._find(commands.Prepare, server_id))
            case commands.CancelEstimate(server_id):
                self.done(self._find(ESTIMATES, server_id))
            case _:
                self._commanded(command)

    def _answered(self, answer: Answer) -> None:
        request_id = answer.request_id
        assert request_id not in self.answers, "answered twice"
        assert request_id not in self.left, "answered after leaving"
        self.answers[request_id] = answer
        ensure = self.waiting.pop(request_id, None)
        if request_id in self.holding:
            del self.holding[request_id]
            assert isinstance(answer.result, Exception), "a hold is only told its end"
            return
        if ensure is None:
            assert self.evicting.pop(request_id, None) is not None, "answered what nobody asked"
            return
        result = answer.result
        if isinstance(result, Ensured):
            assert result.server.phase is Phase.READY
            assert result.server.endpoint
            assert result.server.is_current, "handed out what is not the model's"
            assert ensure.runtime_model in ("", result.server.settings.runtime_model)
        else:
            assert isinstance(result, Exception)

    def _commanded(self, command: commands.ServerCommand) -> None:
        server = self.server_of(command.server_id)
        assert server is not None, "a command for another generation"
        self._check_command(command, server)
        again = [c for c in self.outstanding if c == command]
        assert not again, "the same is under way already"
        if isinstance(command, commands.EscalateCleanUp):
            assert server.phase is Phase.CLEANING_UP
        elif isinstance(command, commands.SendSignal):
            assert server.phase is Phase.STOPPING
        else:
            self.outstanding.append(command)

    def _check_command(self, command: commands.ServerCommand, server: Server) -> None:
        server_id = command.server_id
        model, generation = server_id
        match command:
            case commands.Prepare():
                own = self.generations.get(model, 0) + 1
                assert generation == own or generation in self.leasts[model], "one more, or asked"
                assert generation >= own, "generations rise"
                self.generations[model] = generation
                self._check_room()
                if server.role is Role.SUCCESSOR:
                    self._check_recycling(server)
            case commands.Adopt():
                self.adopted.add(server_id)
            case commands.Spawn():
                self._intents[server_id] = len(self.journal)
                self._check_alone(server_id)
                assert not [c for c in self.outstanding if _is(c, commands.Spawn, server_id)]
            case (
                commands.AwaitExit()
                | commands.AwaitReady()
                | commands.CheckActivity()
                | commands.ProbeServer()
            ):
                assert self.processes[server_id] == command.identity
            case commands.SendSignal():
                sought = [c for c in self.outstanding if _is(c, commands.Adopt, server_id)]
                assert not sought, "signalled before it is known to be ours"
                assert self.processes[server_id] == command.identity
            case commands.CleanUp():
                assert self.processes[server_id] == command.identity
                assert server.phase is Phase.CLEANING_UP
            case _:
                pass

    def _check_room(self) -> None:
        """What is admitted fits, as far as it is known."""
        assert sum(server.reserved for server in self.servers) <= self.limits.memory_budget
        for group, limit in self.limits.groups.items():
            assert sum(group in s.settings.groups for s in self.servers if s.takes_memory) <= limit

    def _is_beside(self, server_id: ServerId) -> bool:
        """Whether it runs beside the model's server, and has a place in the memory of its own."""
        server = self.server_of(server_id)
        return server is not None and not server.is_current

    def _check_alone(self, server_id: ServerId) -> None:
        """A process is the only one of its model, but for one that it is to replace.

        What was replaced may have requests in flight for as long as it likes, and a successor
        that was called off may take its time to end.
        """
        model = server_id.model
        others = [one for one in self.processes if one.model == model and not self._is_beside(one)]
        assert len(others) <= self._is_beside(server_id), "a second process"

    def _check_recycling(self, successor: Server) -> None:
        """It begins for one that had grown too large, and only then."""
        before = self._current(successor.model)
        assert before is not None
        assert before.phase is Phase.READY
        assert not before.outdated, "recycled as it is not to be any more"
        assert before.identity is not None
        limit = before.settings.memory_limit
        assert limit is not None
        assert self.footprints[before.identity] > limit

    def _find(self, kind: type | UnionType, server_id: ServerId) -> commands.ServerCommand:
        return next(c for c in self.outstanding if _is(c, kind, server_id))

    # --- what must hold -------------------------------------------------------------------

    def check(self) -> None:
        """Everything that must hold between events."""
        self._check_what_is_shown()
        self._check_who_waits()
        self._check_deadlines()
        self._check_processes()
        self._check_besides()
        self._check_served()
        starting = [s for s in self.servers if s.phase in life.TAKES_A_SLOT]
        begun = [s for s in starting if s.id not in self.adopted]
        queued = [s for s in self.servers if s.phase is Phase.QUEUED]
        assert len(begun) <= self.limits.max_starts
        totals = self.machine.totals(self.now)
        estimated = {
            s.model for s in queued if not any(_is(c, ESTIMATES, s.id) for c in self.outstanding)
        }
        if estimated and not self.sampling:
            limited = self.limits.memory_budget < FOREVER or bool(self.limits.groups)
            short = any(s.expected > totals.memory_available for s in queued)
            full = limited or short or totals.memory_pressured
            assert full or len(starting) >= self.limits.max_starts, "queued while there is a slot"
            assert self.machine.next_deadline() < FOREVER, "nobody will look again"

    def _check_served(self) -> None:
        """No start is to begin of what the configuration does not allow any more."""
        for server in self.servers:
            if server.phase in NOT_BEGUN:
                meant, _ = self.machine.settings_for(server.model, server.settings.named_by_caller)
                assert meant == server.model, "its name stands for another model now"

    def _check_processes(self) -> None:
        """None is lost: each has its server, or is about to be found."""
        for server_id, identity in self.processes.items():
            server = self.server_of(server_id)
            assert server is not None, "nobody knows of a process"
            sought = commands.Spawn | commands.Adopt
            found = any(_is(c, sought, server_id) for c in self.outstanding)
            assert found or server.identity == identity, "nobody knows of a process"

    def _check_besides(self) -> None:
        """Beside a model's server there is one other at most, and nobody waits for that."""
        besides = [server for server in self.servers if not server.is_current]
        for served in (True, False):
            # One that has served, and its next that was called off, may both be about to end.
            those = [s.model for s in besides if (s.ready_at is not None) is served]
            assert len(set(those)) == len(those), "two beside one"
        for server in besides:
            assert server.phase not in {Phase.QUEUED, Phase.BACKING_OFF, Phase.FAILED}
            assert not server.holds
            if server.phase in life.TAKES_A_SLOT and not self.recovering:
                before = self._current(server.model)
                assert before is not None
                assert before.phase is Phase.READY, "a successor of what is not there"

    def _check_what_is_shown(self) -> None:
        page = self.servers
        ids = [server.id for server in page]
        assert ids == sorted(set(ids)), "each once, in order"
        assert ids == sorted(self.shown)
        current = [server.model for server in page if server.is_current]
        assert len(current) == len(set(current)), "one server a model"
        for server in page:
            told = self.shown[server.id]
            assert as_published(server) == as_published(told), (server, told)
            assert server.settings.pinned is self.pins.get(server.model, server.settings.pinned)
        totals = self.machine.totals(self.now)
        assert totals.servers == len(page)
        assert 0 <= totals.waiting_calls - len(self.waiting) <= len(self.holding)
        for phase in Phase:
            assert totals.by_phase[phase] == sum(s.phase is phase for s in page)

        for command in self.outstanding:
            if isinstance(command, commands.Prepare | commands.Spawn):
                assert self.server_of(command.server_id), "given up"

    def _check_who_waits(self) -> None:
        for ensure in self.waiting.values():
            server = self._current(ensure.model)
            assert server is not None, "waits for nothing"
            if server.phase is Phase.READY:
                asked = [c for c in self.outstanding if _is(c, commands.CheckActivity, server.id)]
                queued = [s for s in self.servers if s.phase is Phase.QUEUED]
                due = asked or self.machine.next_deadline() < FOREVER
                recycled = due and (self._is_over_limit(ensure.model) or self._is_overrun())
                assert queued or recycled or (asked and self.evicting), "waits though it is there"
            else:
                assert server.phase in COMING | life.LEAVING
        held = self._check_who_holds()
        wanted = {ensure.model for ensure in self.waiting.values()} | held | self.pinned
        wanted |= {server.model for server in self.servers if _was_recycled(server)}
        wanted |= {self.home}
        for server in self.servers:
            # What a reload refused is given up when its pause is over.
            given_up = server.phase is Phase.BACKING_OFF and server.outdated
            if server.phase in {Phase.QUEUED, Phase.BACKING_OFF} and not given_up:
                assert server.model in wanted, "nobody wants it"
        for evict in self.evicting.values():
            if isinstance(evict, EvictRequested) and isinstance(evict.target, str):
                named = {server.model for server in self.shown.values()}
                assert evict.target in named, "evicts what is gone"

    def _is_over_limit(self, model: str) -> bool:
        """It is to go for itself: at once, or when its residency is over."""
        # What was told of it may be older than the last look at its memory.
        server = self.machine.get(model)
        if server is None or server.settings.memory_limit is None or not server.identity:
            return False
        return server.footprint > server.settings.memory_limit

    def _is_overrun(self) -> bool:
        """More is taken than is allowed, so that some go for nobody in particular."""
        taken = sum(server.reserved for server in self.servers)
        in_groups = [g for s in self.servers if s.takes_memory for g in s.settings.groups]
        groups = self.limits.groups.items()
        return taken > self.limits.memory_budget or any(
            in_groups.count(group) > most for group, most in groups
        )

    def _check_who_holds(self) -> set[str]:
        """The models that are held: each is there, or comes."""
        held = [hold.model for hold in self.holding.values()]
        for model in held:
            current = self._current(model)
            assert current is not None
            assert current.phase is not Phase.FAILED, "holds what is not coming"
        for server in self.servers:
            assert server.holds == held.count(server.model) * server.is_current
        return set(held)

    def _check_deadlines(self) -> None:
        for server in self.servers:
            of_it = [c for c in self.outstanding if c.server_id == server.id]
            if any(isinstance(c, commands.Adopt) for c in of_it):
                continue
            asked = any(isinstance(c, commands.CheckActivity) for c in of_it)
            if server.phase in {Phase.FAILED, Phase.BACKING_OFF}:
                assert deadline(server) < FOREVER
            if server.phase is Phase.STARTING:
                # Samples tell whether it gets on.
                assert self.sampling or self.machine.next_deadline() < FOREVER
            if server.phase is Phase.STOPPING and server.identity is not None:
                assert deadline(server) < FOREVER
            if not asked and not self._found_busy(server):
                due = self.machine.next_deadline()
                assert due <= deadline(server), (due, server, self.now)

    def _found_busy(self, server: Server) -> bool:
        """It may have been asked just now, so that the next question has to wait."""
        return server.phase is Phase.READY and deadline(server) <= self.now + BUSY_PAUSE_S

    def _check_stops(self, event: Event, before: dict[ServerId, Server]) -> None:
        """A READY server leaves only by its death, by force, or because nobody uses it.

        What is replaced has not left: it goes on beside, READY, until nobody uses it.
        """
        for server in before.values():
            after = self.server_of(server.id)
            if server.phase is not Phase.READY or (after and after.phase is Phase.READY):
                continue
            match event:
                case EvictRequested(_, _, force):
                    assert force
                case events.ActivityReported(_, activity):
                    assert activity.requests == 0
                    assert not server.holds, "a held server was stopped"
                    stays = {Cause.IDLE, Cause.PREEMPTED} if server.settings.pinned else set()
                    assert not after or after.stop_cause not in stays, "a pinned one was stopped"
                    assert not after or not self._is_for_home(after) or self._is_quiet(after)
                case events.ServerProbed(_, result):
                    assert not (result.answered and result.healthy and result.listens)
                case events.ListenerLost():
                    # The process itself keeps it, for the requests in flight.
                    left = self._current(server.model) if server.is_current else after
                    told = left and left.endpoint and left.phase not in life.LEAVING
                    assert not told, "still shown where it is not"
                case (
                    ShutdownRequested()
                    | events.Exited()
                    | events.CommandFailed(_, commands.AwaitExit(), _)
                ):
                    pass
                case _:
                    raise AssertionError(f"{event} ended a server that was READY")

    def _is_for_home(self, stopped: Server) -> bool:
        """Return whether a server makes room for the home model, which nobody has asked for."""
        queued = {server.model for server in self.servers if server.phase is Phase.QUEUED}
        asked = {ensure.model for ensure in self.waiting.values()} | self.pinned
        asked |= {hold.model for hold in self.holding.values()}
        asked |= {server.model for server in self.servers if _was_recycled(server)}
        is_short = self._is_overrun() or self.machine.totals(self.now).memory_pressured
        is_preempted = stopped.stop_cause is Cause.PREEMPTED and not is_short
        return is_preempted and queued == {self.home} - asked

    def _is_quiet(self, stopped: Server) -> bool:
        """Nobody has used it for long, or waits for it."""
        is_awaited = any(call.model == stopped.model for call in self.waiting.values())
        return stopped.last_used_at + HOME_AFTER_S <= self.now and not is_awaited

    def _check_failed_starts(self, event: Event, before: dict[ServerId, Server]) -> None:
        """Whoever waited for a start that failed is told, unless the same may well succeed."""
        if isinstance(event, DetachRequested):
            assert not self.waiting
            assert not self.evicting
        if isinstance(event, events.Exited) and (
            event.report.diagnosis is Diagnosis.PORT_TAKEN or event.report.code is None
        ):
            return
        for server in before.values():
            after = self.server_of(server.id)
            is_first = server.phase is Phase.STARTING and server.ready_at is None
            starts = is_first and server.is_current
            if starts and (not after or after.phase not in GOING_WELL):
                assert server.model not in {ensure.model for ensure in self.waiting.values()}

    def _check_stalled_starts(self, event: Event, issued: list[Command]) -> None:
        """A start that gets on is not ended for standing still; any other is, by the next sample.

        One for which a log is being read already has its end before it.
        """
        if isinstance(event, TimeReached):
            self.starts = {
                one: replace(
                    seen, moved_at=seen.moved_at + event.away, loaded_at=seen.loaded_at + event.away
                )
                for one, seen in self.starts.items()
            }
        if not isinstance(event, MemorySampled):
            return
        ended = [command.server_id for command in issued if isinstance(command, commands.ReadLog)]
        reading = [c.server_id for c in self.outstanding if isinstance(c, commands.ReadLog)]
        sought = [c.server_id for c in self.outstanding if isinstance(c, commands.Adopt)]
        for server in self.servers:
            if server.phase is not Phase.STARTING or server.id in sought:
                continue
            assert server.identity is not None
            seen = self._see_start(server, self.starts.get(server.id), event)
            self.starts[server.id] = seen
            if self.now - seen.moved_at < server.settings.stall_timeout:
                assert server.id not in ended, "it gets on, and is ended"
            else:
                assert server.id in {*ended, *reading} or self._is_ending(server), "it stands still"

    def _is_ending(self, server: Server) -> bool:
        """Its log could not be read, so that it ends without."""
        return server.step_deadline <= self.now + LOG_TIMEOUT_S

    def _see_start(self, server: Server, seen: SeenStart | None, event: MemorySampled) -> SeenStart:
        assert server.identity is not None
        loaded = self.loaded.get(server.identity, 0)
        if seen is None or (event.sample is not None and loaded > seen.loaded):
            return SeenStart(self.now, self.now, loaded)
        is_unknown = event.sample is None and self.now - seen.loaded_at < COMPUTING_LIMIT_S
        return replace(seen, moved_at=self.now) if is_unknown else seen

    def reach_time(self, later: float) -> None:
        """Let time pass as the driver would: TimeReached at each moment that is due."""
        until = self.now + later
        while (due := self.machine.next_deadline()) <= until:
            self.now = max(self.now, due)
            self.handle(TimeReached())
        self.now = until

    def stall(self, away: float) -> None:
        """Nothing runs for so long, and the driver says so; who had time left has it still."""
        loading = [s for s in self.servers if s.phase in {Phase.STARTING, Phase.STOPPING}]
        alive = [s for s in loading if deadline(s) > self.now]
        self.now += away
        self.handle(TimeReached(away))
        for server in alive:
            after = self.shown[server.id]
            assert (after.phase, after.stop_signal) == (server.phase, server.stop_signal)


def _is(command: commands.ServerCommand, kind: type | UnionType, server_id: ServerId) -> bool:
    return isinstance(command, kind) and command.server_id == server_id


def _on_disk(
    pasts: Mapping[str, LastRun], journal: list[tuple[Server, bool]]
) -> dict[str, Server | LastRun]:
    """What the records keep of these changes: servers, and the past of models without one."""
    disk: dict[str, Server | LastRun] = dict(pasts)
    keys: dict[ServerId, str] = {}
    for server, removed in journal:
        own = f"{server.model} (generation {server.generation})"
        key = server.model if server.is_current else own
        before = keys.pop(server.id, key)
        known = disk.get(before)
        if (removed or before != key) and isinstance(known, Server) and known.id == server.id:
            del disk[before]
        if not removed:
            keys[server.id] = key
            disk[key] = server
        elif server.is_current and server.last_generation and key not in disk:
            disk[key] = LastRun(server.model, server.last_generation, server.last_exit)
    return disk


def _was_recycled(server: Server) -> bool:
    """Its last process went for its size alone, so that the pool itself wants the next."""
    return server.last_exit is not None and server.last_exit.cause is Cause.MEMORY_LIMIT
