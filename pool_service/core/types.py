"""The values that all parts speak of. Times are seconds of the pool's clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from pool_service.core.activity import UseSignals
from pool_service.core.errors import PoolError

FOREVER = float("inf")
LONGEST_DURATION = 10 * 365 * 86400
"""Seconds: ten years. What is meant to last longer is meant to last for ever."""


class Phase(Enum):
    """What a server is doing, as the core sees it; the wire shows fewer."""

    QUEUED = auto()
    PREPARING = auto()
    SPAWNING = auto()
    STARTING = auto()
    READY = auto()
    STOPPING = auto()
    SWEEPING = auto()
    BACKING_OFF = auto()
    FAILED = auto()


_WITHOUT_ROOM = frozenset({Phase.QUEUED, Phase.BACKING_OFF, Phase.FAILED})


class Cause(Enum):
    """Who wanted a process to end."""

    CRASHED = "it ended by itself"
    EVICTED = "it was evicted"
    IDLE = "it was unused for its keep alive"
    START_TIMEOUT = "it was not ready within its start limit"
    SHUTDOWN = "the service was stopped"
    WEDGED = "it stopped answering and made no progress"
    ORPHANED = "the service was gone and no other came"
    ROOM = "it was unused and made room for another model"
    RELOADED = "its configuration was changed"
    CEILING = "it had grown past its memory ceiling"


class StopSignal(Enum):
    """The ways to ask a process to end, in the order in which they are tried."""

    TERMINATE = "SIGTERM"
    INTERRUPT = "SIGINT"
    KILL = "SIGKILL"


class Unready(Enum):
    """The reason for which a process will not come to be ready."""

    GONE = "it has ended"
    LOST = "it was READY before, and listens nowhere any more"


class EndpointState(Enum):
    """The state of a server's endpoint at this moment, as the system says it."""

    KEPT = "the server, or one of its session, has the socket there"
    LOST = "nobody listens there, or somebody else does as well"
    ENDED = "the server has ended"
    UNKNOWN = "it cannot be told at present"


class Diagnosis(Enum):
    """What a runtime's exit says of the reason, as far as it can be told."""

    CRASHED = auto()
    MODEL_REJECTED = auto()
    RUNTIME_UNUSABLE = auto()
    PORT_TAKEN = auto()
    OUT_OF_MEMORY = auto()


class Source(Enum):
    """How it is known what a server will need of memory, the best first."""

    DECLARED = "declared in the configuration"
    OBSERVED = "seen in earlier runs"
    WEIGHTS = "estimated from the size of its weights"
    UNKNOWN = "a guess: nothing is known of it"


@dataclass(frozen=True, slots=True)
class Appraisal:
    """What is known of a model before it is started.

    expected: bytes that its server will need at most; on_disk: whether all that it needs
    to load is there, None where that cannot be told; disk_bytes: of its weights, and of the
    parts of a download; meant: models that are there, which
    somebody may have meant who named one that is not.
    """

    expected: int
    source: Source
    on_disk: bool | None = None
    meant: tuple[str, ...] = ()
    disk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Survey:
    """One look at the memory of the machine. All but `cost` in bytes.

    total: what the machine (or the container) has; available: what could be taken now
    without anybody suffering; pressured: the system says that it is short; critical: so
    short that nothing more may start beside what runs; footprints: what
    each server that was asked for takes, by its process, absent where that cannot be told;
    standbys: what processes take that are to become servers; cost: seconds that the look took
    of a processor.
    """

    total: int
    available: int
    pressured: bool = False
    footprints: Mapping["Identity", int] = field(default_factory=dict)
    standbys: int = 0
    cost: float = 0.0
    critical: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """One process on one boot of one machine: a pid alone is used again.

    start_time: opaque, equal for the same process (on Linux clock ticks since
    boot); boot_id: opaque, equal while the machine has not been rebooted.
    """

    pid: int
    start_time: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class Settings:
    """How one model is run. Durations in seconds.

    keep_alive: how long an unused server stays (FOREVER: until evicted); min_residency: how long
    it stays after each Ensure whatever its keep alive; start_timeout: from its process's start
    until READY; probe_timeout: one request to its health path; drain_timeout: for requests in
    flight when it is to stop; stop_timeout: for each further step (SIGINT, then SIGKILL), and
    after SIGTERM where nothing can be in flight.

    asked: a caller named the runtime model, and not the configured one. runtime: the name of
    the runtime that serves it, empty for the default one; arguments and environment: what its
    process gets besides; arguments_section: where the configuration says these arguments;
    trust_remote_code: it may bring code of its own; download: an Ensure may download it.
    recipe: a digest of all that decides what its process is, but for the runtime model.

    pinned: it goes neither when unused nor for others' room; preload: it is started with
    the service. expected_memory: bytes, None if it is not declared; memory_ceiling: bytes
    past which its server is replaced; groups: whose limits it counts for.
    """

    runtime_model: str
    keep_alive: float = 300.0
    min_residency: float = 3.0
    start_timeout: float = 120.0
    probe_timeout: float = 3.0
    drain_timeout: float = 300.0
    stop_timeout: float = 10.0
    asked: bool = False
    runtime: str = ""
    arguments: tuple[str, ...] = ()
    arguments_section: str = "[defaults]"
    environment: tuple[tuple[str, str], ...] = ()
    trust_remote_code: bool = False
    download: bool = False
    recipe: str = ""
    pinned: bool = False
    preload: bool = False
    expected_memory: int | None = None
    memory_ceiling: int | None = None
    groups: tuple[str, ...] = ()

    @property
    def named_by_caller(self) -> str:
        """The runtime model that a caller named in place of the configured one, else empty."""
        return self.runtime_model if self.asked else ""


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """All that is needed to start one process, to know it as ready, and to see its use.

    port: the port that it is told to take; None: it chooses one itself, and its
    own listening socket says which. nonce: random, in the process's environment
    and that of all that descends from it, so that they are known again. kind: of the
    runtime, by which its end is understood; empty where that is not known. use: where it
    tells how busy it is; drains: after SIGTERM it takes no new request and finishes the others;
    ready_path: must answer 200 to a POST of ready_body before it is ready, empty: nothing must.
    """

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    port: int | None
    health_path: str
    served_model_name: str
    nonce: str
    kind: str = ""
    use: UseSignals = field(default_factory=UseSignals)
    drains: bool = False
    ready_path: str = ""
    ready_body: str = ""


@dataclass(frozen=True, slots=True)
class SpawnedProcess:
    """A process that was just started, and the file that holds what it writes.

    nonce: where it carries another than its plan says, since it was there before.
    """

    identity: Identity
    log_path: str
    nonce: str = ""


@dataclass(frozen=True, slots=True)
class Pulse:
    """One look at a READY server: whether it answered, and counters that only rise.

    progress: such as processor seconds (the first) and bytes written; equal means nothing
    moved; empty where nobody looked. healthy: an answer says nothing to the contrary;
    in_flight: it may have requests, of one that is not healthy; listens: its endpoint is its own.
    """

    answered: bool
    progress: tuple[float, ...]
    healthy: bool = True
    in_flight: bool = False
    listens: bool = True


@dataclass(frozen=True, slots=True)
class ExitReport:
    """What was seen of a process's end. Both code and signal None: not known."""

    code: int | None
    signal: int | None
    diagnosis: Diagnosis
    message: str
    last_lines: tuple[str, ...] = ()


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
    serves: the model of its process, where it goes by a name of its own beside that model's
    server: what replaces it when it has grown too large, or what was replaced.
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
    expected_by: Source = Source.UNKNOWN
    footprint: int = 0
    peak: int = 0
    sampled_ready: bool = False
    holds: int = 0
    outdated: bool = False
    position: int = 0
    progress: float | None = None
    serves: str = ""
    given: int = 0

    @property
    def latest(self) -> int:
        """The last generation that its model was given: the next process gets a higher one."""
        return max(self.generation, self.given)

    @property
    def named(self) -> str:
        """The model that its process is told to serve."""
        return self.serves or self.model

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
        return max(self.last_used_at + self.settings.min_residency, self.spared_until)

    @property
    def expires_at(self) -> float:
        """When it has been unused for long enough to go; counts only while READY."""
        if self.holds:
            return FOREVER
        if self.serves:
            return self.spared_until
        if self.outdated:
            return self.resides_until
        if self.settings.pinned:
            return FOREVER
        unused_at = self.last_used_at + max(self.keep_alive, self.settings.min_residency)
        return max(unused_at, self.spared_until)


@dataclass(frozen=True, slots=True)
class Past:
    """What outlives a model's server: its last generation, and how its process ended.

    given: as of a Server.
    """

    model: str
    generation: int
    last_exit: Exit | None
    given: int = 0


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an earlier service left behind.

    servers: as they were last known, on this boot of the machine; pasts: of models
    that have no server; damaged: the files that could not be read and were set aside; namings:
    the runtime models that callers named, by their models.
    """

    servers: tuple[Server, ...] = ()
    pasts: tuple[Past, ...] = ()
    damaged: tuple[str, ...] = ()
    namings: Mapping[str, str] = field(default_factory=dict)
