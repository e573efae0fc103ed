"""A server as a value: its phase, its role, its last exit, and what is recorded of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from pool_service.core.errors import PoolError
from pool_service.core.types import (
    FOREVER,
    EstimateSource,
    ExitReport,
    Identity,
    LaunchPlan,
    Settings,
)


class ServerId(NamedTuple):
    """The key of a server: its model and its generation."""

    model: str
    generation: int


class Role(Enum):
    """The role of a server for its model. A model has at most one CURRENT server and one other."""

    CURRENT = "callers of the model get it"
    SUCCESSOR = "it starts, to replace the current one"
    SUPERSEDED = "another took its place, and it ends with what is in flight"
    ORPHAN = "no model of this pool is known of it; it is to end"


class Phase(Enum):
    """The phases of a server in the core; the states on the wire are fewer."""

    # Enum's own is Python code, and the servers are counted by their phases after each event.
    __hash__ = object.__hash__

    QUEUED = auto()
    PREPARING = auto()
    SPAWNING = auto()
    STARTING = auto()
    READY = auto()
    STOPPING = auto()
    CLEANING_UP = auto()
    BACKING_OFF = auto()
    FAILED = auto()


NOT_BEGUN = frozenset({Phase.QUEUED, Phase.BACKING_OFF})
"""Phases of a start that has not begun: its generation is not fixed yet."""

_WITHOUT_MEMORY = NOT_BEGUN | {Phase.FAILED}


class Cause(Enum):
    """The cause of the end of a process."""

    CRASHED = "it ended by itself"
    EVICTED = "it was evicted"
    IDLE = "it was unused for its keep alive"
    START_TIMEOUT = "it was not ready within its start limit"
    SHUTDOWN = "the service was stopped"
    WEDGED = "it stopped answering and made no progress"
    ORPHANED = "the service was gone and no other came"
    PREEMPTED = "it was unused and made room for another model"
    RELOADED = "its configuration was changed"
    MEMORY_LIMIT = "it had grown past its memory limit"


class StopSignal(Enum):
    """The signals that end a process, in the order in which they are sent."""

    TERMINATE = "SIGTERM"
    INTERRUPT = "SIGINT"
    KILL = "SIGKILL"


@dataclass(frozen=True, slots=True)
class Exit:
    """The exit of the process of one generation, and its cause; at: seconds of the pool's clock."""

    generation: int
    cause: Cause
    report: ExitReport
    at: float


@dataclass(frozen=True, slots=True)
class Server:
    """One supervised server. Times and durations in seconds, sizes in bytes.

    created_at, spawned_at, ready_at, last_used_at: when the server was created, its process was
    started, and it was READY and used last; None: not yet.
    detail: in words, why it is in its phase, or what it waits for.
    endpoint: where it listens, or listened before it was stopped.
    stop_cause: why it is, or is to be, stopped.
    stop_signal: the last signal sent while STOPPING.
    suspended_s: seconds of its start in which nothing could run, as of a suspend of the machine.
    step_deadline: when the next step of its phase is due: the end of the wait of a QUEUED server
    and of the start of a STARTING one, the next probe of a READY and signal of a STOPPING one.
    crashes: when its latest processes died, oldest first, within the crash window.
    retry_at: no start before this time.
    failure: the error for callers that ask before `retry_at`; None: they wait. While it is stopped
    because its start took too long: the error for its waiters.
    spared_until: before this time it is not stopped for being unused.
    drain_by: until when a stop waits for requests in flight.
    expected: the memory that it is expected to need; expected_by: the source of that number.
    footprint, peak: its memory in the last sample, and the most in any.
    sampled_ready: a memory sample saw this process READY, so that its peak is what it needs.
    holds: how many callers hold it.
    outdated: it runs with settings that the configuration no longer has.
    position: its place in the queue, from 1; 0 if it is not queued.
    progress: the share of its download or load that is done, 0 to 1; None if unknown.
    usual_load_s: the seconds that earlier loads took; None if unknown.
    expected_ready_at: when it is expected to be READY, while it loads; None if unknown.
    role: its role for its model.
    successor_generation: the generation given to its successor, 0 if there was none.
    reused_tokens: tokens of prompts that its process had not to compute anew, by the last probe.
    account: the name of the Account to which its memory counts; empty: to none.
    from_standby: its process was a standby that had imported everything; False if not known, as of
    one that an earlier service started.
    """

    model: str
    settings: Settings
    phase: Phase
    generation: int
    created_at: float
    last_used_at: float
    keep_alive: float
    detail: str = ""
    plan: LaunchPlan | None = None
    identity: Identity | None = None
    log_path: str = ""
    endpoint: str = ""
    spawned_at: float | None = None
    ready_at: float | None = None
    suspended_s: float = 0.0
    stop_cause: Cause | None = None
    stop_signal: StopSignal | None = None
    step_deadline: float = FOREVER
    last_exit: Exit | None = None
    crashes: tuple[float, ...] = ()
    retry_at: float = 0.0
    failure: PoolError | None = None
    spared_until: float = 0.0
    drain_by: float | None = None
    expected: int = 0
    expected_by: EstimateSource = EstimateSource.UNKNOWN
    footprint: int = 0
    peak: int = 0
    sampled_ready: bool = False
    holds: int = 0
    outdated: bool = False
    position: int = 0
    progress: float | None = None
    usual_load_s: float | None = None
    expected_ready_at: float | None = None
    role: Role = Role.CURRENT
    successor_generation: int = 0
    reused_tokens: int = 0
    account: str = ""
    from_standby: bool = False

    @property
    def id(self) -> ServerId:
        """The key of the server."""
        return ServerId(self.model, self.generation)

    @property
    def is_current(self) -> bool:
        """Whether the server is the one that callers of its model get."""
        return self.role is Role.CURRENT

    @property
    def was_ready(self) -> bool:
        """Whether its process has been READY.

        If it is STARTING, that was under an earlier service: it loads nothing, and has to prove
        anew that it serves.
        """
        return self.ready_at is not None

    @property
    def last_generation(self) -> int:
        """The last generation given out or passed over for the model; the next one is higher.

        The generation of a start that has not begun is not given out yet.
        """
        is_given_out = self.phase not in NOT_BEGUN
        own = self.generation if is_given_out else self.generation - 1
        return max(own, self.successor_generation)

    @property
    def takes_memory(self) -> bool:
        """Whether the server has memory, or is about to take some."""
        return self.phase not in _WITHOUT_MEMORY

    @property
    def reserved(self) -> int:
        """The bytes of the budget that the server takes up."""
        return max(self.expected, self.peak) if self.takes_memory else 0

    @property
    def growth(self) -> int:
        """The bytes that the server may still grow by."""
        return max(self.reserved - self.footprint, 0)

    @property
    def resides_until(self) -> float:
        """The end of the grace period, before which the server is not stopped for being unused."""
        return max(self.last_used_at + self.settings.grace_period, self.spared_until)

    @property
    def expires_at(self) -> float:
        """The time from which an unused server is to be stopped; meaningful only while READY."""
        if self.holds:
            return FOREVER
        if self.role is not Role.CURRENT:
            return self.spared_until
        if self.outdated:
            return self.resides_until
        if self.settings.pinned or self.settings.home:
            return FOREVER
        unused_at = self.last_used_at + max(self.keep_alive, self.settings.grace_period)
        return max(unused_at, self.spared_until)


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last run of a model without a server: its last generation, and its last exit.

    successor_generation: see Server.
    """

    model: str
    generation: int
    last_exit: Exit | None
    successor_generation: int = 0

    @property
    def last_generation(self) -> int:
        """The last generation given out or passed over for the model."""
        return max(self.generation, self.successor_generation)


@dataclass(frozen=True, slots=True)
class RecoveredState:
    """The state that an earlier service recorded.

    servers: the servers as last recorded, on this boot of the machine.
    pasts: the last runs of models without a server.
    damaged: the files that could not be read and were set aside.
    namings: the runtime models that callers named, by model.
    pins: what callers of Pin said, by model.
    """

    servers: tuple[Server, ...] = ()
    pasts: tuple[LastRun, ...] = ()
    damaged: tuple[str, ...] = ()
    namings: Mapping[str, str] = field(default_factory=dict)
    pins: Mapping[str, bool] = field(default_factory=dict)
