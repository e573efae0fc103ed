"""The values that all parts speak of. Times are seconds of the pool's clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from pool_service.core.activity import UseSignals

FOREVER = float("inf")
LONGEST_DURATION = 10 * 365 * 86400
"""Seconds: ten years. What is meant to last longer is meant to last for ever."""


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


class EstimateSource(Enum):
    """How it is known what a server will need of memory, the best first."""

    DECLARED = "declared in the configuration"
    OBSERVED = "seen in earlier runs"
    WEIGHTS = "estimated from the size of its weights"
    UNKNOWN = "a guess: nothing is known of it"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is known of a model before it is started.

    expected: bytes that its server will need at most; on_disk: whether all that it needs
    to load is there, None where that cannot be told; disk_bytes: of its weights, and of the
    parts of a download; meant: models that are there, which
    somebody may have meant who named one that is not.
    """

    expected: int
    source: EstimateSource
    on_disk: bool | None = None
    meant: tuple[str, ...] = ()
    disk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MemorySample:
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

    keep_alive: how long an unused server stays (FOREVER: until evicted); grace_period: how long
    it stays after each Ensure whatever its keep alive; start_timeout: from its process's start
    until READY; probe_timeout: one request to its health path; drain_timeout: for requests in
    flight when it is to stop; stop_timeout: for each further step (SIGINT, then SIGKILL), and
    after SIGTERM where nothing can be in flight.

    asked: a caller named the runtime model, and not the configured one. runtime: the name of
    the runtime that serves it, empty for the default one; arguments and environment: what its
    process gets besides; arguments_section: where the configuration says these arguments;
    trust_remote_code: it may bring code of its own; download: an Ensure may download it.
    config_hash: a digest of all that decides what its process is, but for the runtime model.

    pinned: it goes neither when unused nor for others' room; preload: it is started with
    the service. expected_memory: bytes, None if it is not declared; memory_limit: bytes
    past which its server is replaced; groups: whose limits it counts for.
    """

    runtime_model: str
    keep_alive: float = 300.0
    grace_period: float = 3.0
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
    config_hash: str = ""
    pinned: bool = False
    preload: bool = False
    expected_memory: int | None = None
    memory_limit: int | None = None
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
class ProbeResult:
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
