"""The parts of the core over one state, each made when it is first asked for, without a machine."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar
from zlib import crc32

from pool_service.core.callers import Callers
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import Answer, Command, Prepare, Publish
from pool_service.core.error_containment import Containment
from pool_service.core.events import EnsureRequested, HoldRequested, MemorySampled
from pool_service.core.eviction_requests import EvictionRequests
from pool_service.core.evictions import Eviction
from pool_service.core.failure_display import FailureDisplay
from pool_service.core.home_model import HomeModel
from pool_service.core.idle import IdleChecks
from pool_service.core.internal_errors import FailedCommands, FailedEvents
from pool_service.core.limits import Limits
from pool_service.core.offering import Offering
from pool_service.core.pinning import Pinning
from pool_service.core.readiness import ReadyServers
from pool_service.core.reconfigure import Reconfiguration
from pool_service.core.recycler import Recycler
from pool_service.core.requests import Requests
from pool_service.core.sampler import Sampler
from pool_service.core.scheduler import Scheduler
from pool_service.core.server import Cause, Exit, Phase, Server, ServerId
from pool_service.core.service_recovery import Recovery
from pool_service.core.standby_policy import StandbyPolicy
from pool_service.core.state import PoolState
from pool_service.core.stopper import Stopper
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Row
from pool_service.core.timers import Timers
from pool_service.core.types import (
    Diagnosis,
    EstimateSource,
    ExitReport,
    Identity,
    MemorySample,
    Settings,
)
from tests.core.acting import plan

DEFAULTS = Settings(
    runtime_model="",
    keep_alive=300.0,
    grace_period=3.0,
    start_timeout=120.0,
    probe_timeout=3.0,
    drain_timeout=60.0,
    stop_timeout=10.0,
)
NOW = 1000.0
"""Seconds of the pool's clock at which the events of a test come, unless they say another."""

LOADED_AT = 990.0
"""When a server of a test was READY: its residency is over, its keep alive is not."""

M1 = ServerId("m", 1)
M2 = ServerId("m", 2)

WITH_PROCESS = frozenset({Phase.STARTING, Phase.READY, Phase.STOPPING, Phase.CLEANING_UP})

C = TypeVar("C", bound=Command)

Field = Any
"""The value of any field of what a test makes."""


def identity(server_id: ServerId) -> Identity:
    """Return the process of a server: no other has it."""
    return Identity(crc32(f"{server_id.model}#{server_id.generation}".encode()), 7, "boot")


def made(
    model: str = "m", phase: Phase = Phase.READY, generation: int = 1, **changes: Field
) -> Server:
    """Return a server as it is in a phase: with a process where it has one."""
    server = Server(
        model,
        replace(DEFAULTS, runtime_model=model),
        phase,
        generation,
        created_at=980.0,
        last_used_at=LOADED_AT,
        keep_alive=DEFAULTS.keep_alive,
        log_path=f"/logs/{model}/{generation}",
    )
    if phase in WITH_PROCESS:
        server = replace(
            server,
            identity=identity(server.id),
            plan=plan(model, generation),
            spawned_at=985.0,
            step_deadline=NOW + 100.0,
        )
    if phase in {Phase.READY, Phase.STOPPING, Phase.CLEANING_UP}:
        server = replace(server, ready_at=LOADED_AT, endpoint=f"http://{model}")
    if phase in {Phase.STOPPING, Phase.CLEANING_UP}:
        server = replace(server, stop_cause=Cause.EVICTED)
    return replace(server, **changes)


def ended(
    server: Server,
    cause: Cause = Cause.CRASHED,
    diagnosis: Diagnosis = Diagnosis.CRASHED,
    at: float = NOW,
) -> Server:
    """Return a server whose last process, of its own generation, ended so."""
    end = Exit(server.generation, cause, died(diagnosis), at)
    return replace(server, last_exit=end)


def died(diagnosis: Diagnosis = Diagnosis.CRASHED, *, killed: bool = False) -> ExitReport:
    """Return how a process ended: with exit code 1, or killed by a signal."""
    code, signal = (None, 9) if killed else (1, None)
    return ExitReport(code, signal, diagnosis, "it died", ("last words",))


def sample(available: int = 10**6, footprints: Mapping[str, int] | None = None) -> MemorySample:
    """Return a memory sample; footprints: bytes of the first generation of each model."""
    found = {identity(ServerId(model, 1)): size for model, size in (footprints or {}).items()}
    return MemorySample(10**6, available, footprints=found)


class Parts:
    """One state, and the parts over it."""

    def __init__(
        self,
        models: Mapping[str, Settings] | None = None,
        defaults: Settings = DEFAULTS,
        *,
        only_listed: bool = False,
        aliases: Mapping[str, str] | None = None,
        home_model: str = "",
        **limits: Field,
    ) -> None:
        catalogue = Catalogue(defaults, models or {}, aliases or {}, only_listed, home_model)
        self.state = PoolState(catalogue, Limits(**limits))
        self.state.now = NOW

    # --- what is there before the event of a test -------------------------------------------

    def there(
        self, model: str = "m", phase: Phase = Phase.READY, generation: int = 1, **changes: Field
    ) -> Row:
        """Put a server into the state by transitions that there are, and forget their commands."""
        state, settings = self.state, changes.pop("settings", None)
        settings = settings or state.catalogue.settings_for(model)
        keep_alive = changes.pop("keep_alive", settings.keep_alive)
        server = made(model, phase, generation, settings=settings, keep_alive=keep_alive, **changes)
        if phase is Phase.READY:
            state.put(replace(server, phase=Phase.STARTING))
        row = state.put(server)
        if phase is Phase.QUEUED:
            state.queue[server.id] = NOW
        state.commands.clear()
        state.capacity_changed = False
        return row

    def queued(self, model: str = "m", needed: int = 0, generation: int = 1) -> Row:
        """Put a server into the queue whose need is known, with one caller who waits for it."""
        self.waits(100 + len(self.state.queue), model)
        return self.there(
            model,
            Phase.QUEUED,
            generation,
            expected=needed,
            expected_by=EstimateSource.WEIGHTS,
            step_deadline=NOW + 300.0,
        )

    def waits(
        self, request_id: int, model: str = "m", runtime_model: str = "", **more: Field
    ) -> None:
        """Let a caller wait for a model."""
        asked = EnsureRequested(request_id, model, runtime_model, **more)
        self.state.waiters.add(model, self.callers.waiter(model, asked))

    def holds(self, request_id: int, model: str = "m", runtime_model: str = "") -> None:
        """Let a caller hold a model."""
        self.state.holds.add(model, HoldRequested(request_id, model, runtime_model), 0.0)
        row = self.state.table.current(model)
        if row is not None:
            self.state.put(row.server)
            self.state.commands.clear()

    def evicts(self, request_id: int, row: Row, **how: Field) -> Eviction:
        """Let a caller wait for the end of a server."""
        named: dict[str, Field] = {"force": False, "cause": Cause.EVICTED, "names_one": True}
        eviction = Eviction(request_id, **named | how)
        self.state.evictions.add(eviction, row.server.id)
        return eviction

    def sampled(self, taken: MemorySample | None = None, now: float = NOW) -> None:
        """Let a memory sample begin and end, so that it is fresh, and forget its commands."""
        self.sampler.take(now)
        self.sampler.on_memory_sampled(MemorySampled(taken or sample()), now)
        self.taken()

    # --- what came of it --------------------------------------------------------------------

    def taken(self) -> list[Command]:
        """Return the commands since the last time, and forget them."""
        issued, self.state.commands = self.state.commands, []
        return issued

    def server(self, model: str = "m", generation: int | None = None) -> Server | None:
        """Return the current server of a model, or that of a generation."""
        table = self.state.table
        row = table.current(model)
        if generation is not None:
            row = table.find(ServerId(model, generation))
        return row.server if row is not None else None

    def shown(self, model: str = "m", generation: int | None = None) -> Server:
        """Return the same, which is to be there."""
        server = self.server(model, generation)
        assert server is not None, f"no server of {model!r}"
        return server

    # --- the parts --------------------------------------------------------------------------

    @cached_property
    def containment(self) -> Containment:
        return Containment(self.state)

    @cached_property
    def callers(self) -> Callers:
        return Callers(self.state)

    @cached_property
    def stopper(self) -> Stopper:
        return Stopper(self.state)

    @cached_property
    def failed(self) -> FailureDisplay:
        return FailureDisplay(self.state)

    @cached_property
    def supervisor(self) -> Supervisor:
        return Supervisor(self.state, self.callers, self.stopper, self.failed)

    @cached_property
    def idle(self) -> IdleChecks:
        return IdleChecks(self.state, self.stopper, self.supervisor)

    @cached_property
    def ready(self) -> ReadyServers:
        return ReadyServers(self.state, self.supervisor)

    @cached_property
    def sampler(self) -> Sampler:
        return Sampler(self.state, self.containment)

    @cached_property
    def scheduler(self) -> Scheduler:
        return Scheduler(
            self.state, self.containment, self.callers, self.supervisor, self.idle, self.sampler
        )

    @cached_property
    def recycler(self) -> Recycler:
        return Recycler(self.state, self.supervisor, self.idle, self.ready, self.scheduler)

    @cached_property
    def standby(self) -> StandbyPolicy:
        return StandbyPolicy(self.state, self.sampler)

    @cached_property
    def home(self) -> HomeModel:
        return HomeModel(self.state, self.supervisor, self.idle, self.sampler)

    @cached_property
    def timers(self) -> Timers:
        return Timers(
            self.state,
            self.containment,
            self.stopper,
            self.supervisor,
            self.idle,
            self.ready,
            self.sampler,
            self.scheduler,
        )

    @cached_property
    def reconfiguration(self) -> Reconfiguration:
        return Reconfiguration(
            self.state, self.containment, self.callers, self.supervisor, self.pinning
        )

    @cached_property
    def recovery(self) -> Recovery:
        return Recovery(self.state, self.containment, self.callers, self.stopper, self.supervisor)

    @cached_property
    def requests(self) -> Requests:
        return Requests(self.state, self.callers, self.supervisor)

    @cached_property
    def offering(self) -> Offering:
        return Offering(self.state, self.requests, self.sampler, self.scheduler)

    @cached_property
    def pinning(self) -> Pinning:
        return Pinning(self.state, self.callers, self.scheduler, self.supervisor)

    @cached_property
    def evicting(self) -> EvictionRequests:
        return EvictionRequests(
            self.state, self.containment, self.stopper, self.supervisor, self.idle
        )

    @cached_property
    def failed_commands(self) -> FailedCommands:
        return FailedCommands(
            self.state,
            self.stopper,
            self.supervisor,
            self.idle,
            self.ready,
            self.scheduler,
            self.recovery,
        )

    @cached_property
    def failed_events(self) -> FailedEvents:
        return FailedEvents(self.state, self.containment, self.sampler, self.recovery)


def of_kind(issued: list[Command], kind: type[C]) -> list[C]:
    """Return the commands of a kind, in order."""
    return [command for command in issued if isinstance(command, kind)]


def kinds(issued: list[Command]) -> list[str]:
    """Return what is commanded, in order, beside what is only told to those who watch."""
    return [type(one).__name__ for one in issued if not isinstance(one, Publish)]


def answers(issued: list[Command]) -> dict[int, object]:
    """Return who is answered what; nobody is answered twice."""
    told = of_kind(issued, Answer)
    request_ids = [answer.request_id for answer in told]
    assert len(set(request_ids)) == len(request_ids), f"answered twice: {request_ids}"
    return {answer.request_id: answer.result for answer in told}


def refused(issued: list[Command]) -> dict[int, str]:
    """Return who is answered with which error, by its class."""
    return {request_id: type(result).__name__ for request_id, result in answers(issued).items()}


def started(parts: Parts, now: float = NOW) -> list[str]:
    """Decide whose turn it is by a fresh sample; return the models that start."""
    if not parts.sampler.ensure_fresh(now):
        parts.sampled(now=now)
    assert parts.scheduler.schedule(now)
    return [one.server_id.model for one in of_kind(parts.taken(), Prepare)]
