"""A server, its phases, and what is left of one that is gone."""

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
    """One server: of which model, and which of its generations."""

    model: str
    generation: int


class Role(Enum):
    """What a server is to its model. Of a model at most one is CURRENT and one is beside it."""

    CURRENT = "callers of the model get it"
    SUCCESSOR = "it starts, to replace the current one"
    SUPERSEDED = "another took its place, and it ends with what is in flight"
    ORPHAN = "no model of this pool is known of it; it is to end"


class Phase(Enum):
    """What a server is doing, as the core sees it; the wire shows fewer."""

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
"""Phases of a start that has not begun: its generation may still be another's."""


_WITHOUT_ROOM = NOT_BEGUN | {Phase.FAILED}


class Cause(Enum):
    """Who wanted a process to end."""

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
    """The ways to ask a process to end, in the order in which they are tried."""

    TERMINATE = "SIGTERM"
    INTERRUPT = "SIGINT"
    KILL = "SIGKILL"


@dataclass(frozen=True, slots=True)
class Exit:
    """How the process of one generation ended, and who wanted it to."""

    generation: int
    cause: Cause
    report: ExitReport
    at: float


@dataclass(frozen=True, slots=True)
class Server:
    """One supervised server and all that is known of it.

    stop_signal: the last one sent while STOPPING; stop_cause: why it is (to be)
    stopped; step_deadline: when the next step of its phase is due; crashes: when
    its latest processes died unasked, oldest first, within the window that counts;
    retry_at: before that it is not started again; failure: what those are told who
    ask before that (None: they wait for it). spared_until: before that it does not go
    unused, however long ago its last use was. drain_by: until when its stop waits for what is in
    flight. endpoint: where it answers, or did before it was stopped.
    expected: bytes of memory that it is expected to need, known as `expected_by` says;
    footprint: what it took when it was last looked at; peak: the most that it ever took;
    sampled_ready: a memory sample saw this process when it was READY: its peak is its need.
    role: what it is to its model.
    holds: how many callers hold it; outdated: it runs as the configuration no longer says;
    position: its place in the queue, from 1, 0 if it does not wait; progress: how far its
    download or load is, from 0 to 1, None where that is not known; given: the last generation
    that was given to what was to replace it, 0: nothing was.
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
    role: Role = Role.CURRENT
    given: int = 0

    @property
    def id(self) -> ServerId:
        """The key of a server."""
        return ServerId(self.model, self.generation)

    @property
    def is_current(self) -> bool:
        """Whether callers of its model get it."""
        return self.role is Role.CURRENT

    @property
    def has_begun(self) -> bool:
        """Whether its generation is its own for good."""
        return self.generation > 0 and self.phase not in NOT_BEGUN

    @property
    def latest(self) -> int:
        """The last generation that its model was given: the next process gets a higher one."""
        return max(self.generation - (not self.has_begun), self.given)

    @property
    def takes_room(self) -> bool:
        """Whether it has memory, or is about to."""
        return self.phase not in _WITHOUT_ROOM

    @property
    def reserved(self) -> int:
        """Bytes of the budget that it takes up."""
        return max(self.expected, self.peak) if self.takes_room else 0

    @property
    def growth(self) -> int:
        """Bytes that it may still grow by."""
        return max(self.reserved - self.footprint, 0)

    @property
    def resides_until(self) -> float:
        """Until when its last use, or the service's absence, protects it from going unused."""
        return max(self.last_used_at + self.settings.grace_period, self.spared_until)

    @property
    def expires_at(self) -> float:
        """When it has been unused for long enough to go; counts only while READY."""
        if self.holds:
            return FOREVER
        if self.role is not Role.CURRENT:
            return self.spared_until
        if self.outdated:
            return self.resides_until
        if self.settings.pinned:
            return FOREVER
        unused_at = self.last_used_at + max(self.keep_alive, self.settings.grace_period)
        return max(unused_at, self.spared_until)


@dataclass(frozen=True, slots=True)
class LastRun:
    """What outlives a model's server: its last generation, and how its process ended.

    given: as of a Server.
    """

    model: str
    generation: int
    last_exit: Exit | None
    given: int = 0

    @property
    def latest(self) -> int:
        """The last generation that the model was given."""
        return max(self.generation, self.given)


@dataclass(frozen=True, slots=True)
class RecoveredState:
    """What an earlier service left behind.

    servers: as they were last known, on this boot of the machine; pasts: of models
    that have no server; damaged: the files that could not be read and were set aside; namings:
    the runtime models that callers named, by their models.
    """

    servers: tuple[Server, ...] = ()
    pasts: tuple[LastRun, ...] = ()
    damaged: tuple[str, ...] = ()
    namings: Mapping[str, str] = field(default_factory=dict)
