"""Values that all parts use. Times are seconds of the pool's monotonic clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import PurePath

from pool_service.core.activity import UseSignals

FOREVER = float("inf")
"""No end, no limit, or never, of times, durations and sizes."""

MAX_DURATION_S = 10 * 365 * 86400
"""Ten years in seconds. A longer duration is read as FOREVER."""


class Unready(Enum):
    """The reason why a process will not become ready."""

    GONE = "it has ended"
    LOST = "it was READY before, and listens nowhere any more"


@dataclass(frozen=True, slots=True)
class ListensElsewhere:
    """A process is healthy, but not at the address at which its plan says that it must listen."""

    endpoint: str


class EndpointState(Enum):
    """The state of a server's endpoint, by the operating system's list of sockets."""

    KEPT = "the server, or one of its session, has the socket there"
    LOST = "nobody listens there, or somebody else does as well"
    ENDED = "the server has ended"
    UNKNOWN = "it cannot be told at present"


class Diagnosis(Enum):
    """The reason of an exit, as far as exit code, signal and log tell it."""

    CRASHED = auto()
    MODEL_REJECTED = auto()
    RUNTIME_UNUSABLE = auto()
    PORT_TAKEN = auto()
    OUT_OF_MEMORY = auto()


class EstimateSource(Enum):
    """The source of a memory estimate, the most reliable first."""

    DECLARED = "declared in the configuration"
    OBSERVED = "seen in earlier runs"
    WEIGHTS = "estimated from the size of its weights"
    UNKNOWN = "a guess: nothing is known of it"


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate of the memory that a model needs, and whether it can be loaded.

    expected: bytes that its server will need at most.
    on_disk: whether all files that the load needs are on disk; None if unknown.
    meant: models on disk with similar names, if this one is not.
    disk_bytes: the size on disk of its weights, partial downloads included.
    load_s: the seconds that earlier loads took; None: none is known.
    """

    expected: int
    source: EstimateSource
    on_disk: bool | None = None
    meant: tuple[str, ...] = ()
    disk_bytes: int = 0
    load_s: float | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """The work that a process tree has done since it began. Sizes in bytes.

    requested: read from files and pipes, whether from a disk or from memory; 0 if not reported.
    from_disk: read from disks, also for mapped files.
    written: written to files and pipes, such as a download by the runtime itself.
    mapped: the pages of mapped files that it has in memory; 0 if not reported.
    processor_s: processor seconds.
    """

    requested: int = 0
    from_disk: int = 0
    written: int = 0
    mapped: int = 0
    processor_s: float = 0.0

    @property
    def read(self) -> int:
        """The bytes read: what was read from a disk may have been requested as well."""
        return max(self.requested, self.from_disk)


@dataclass(frozen=True, slots=True)
class MemorySample:
    """A sample of the memory of the machine and of servers. Sizes in bytes.

    total: the memory of the machine, or the limit of the container.
    available: the memory that can be taken without others being swapped out.
    pressured: the system reports that memory is short.
    footprints: the memory of each sampled server, by its process; absent if unknown.
    standbys: the memory of standby processes.
    cost: processor seconds that the sample took.
    critical: the system reports that memory is so short that nothing more may start.
    work: the work of each starting server, by its process; absent if unknown.
    """

    total: int
    available: int
    pressured: bool = False
    footprints: Mapping["Identity", int] = field(default_factory=dict)
    standbys: int = 0
    cost: float = 0.0
    critical: bool = False
    work: Mapping["Identity", Work] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of one process. A pid alone is not enough: the system uses it again.

    start_time: opaque, fixed for a process (on Linux in clock ticks since boot).
    boot_id: opaque, fixed until the machine is rebooted.
    """

    pid: int
    start_time: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class Account:
    """A caller to whom the memory of the servers counts that are started for it.

    memory_share: the share of the memory budget that these may take up together, 0 to 1.
    """

    name: str
    memory_share: float


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings to run one model with. Durations in seconds, sizes in bytes.

    keep_alive: how long an unused server stays; FOREVER: until evicted.
    grace_period: how long a server stays at least after each Ensure.
    start_timeout: from the start of the process until READY; FOREVER: no limit.
    stall_timeout: how long a starting process may make no progress.
    probe_timeout: for one request to the health path.
    drain_timeout: for requests in flight when the server is to stop.
    stop_timeout: after SIGINT and each SIGKILL, and after SIGTERM if nothing can be in flight.

    asked: a caller named the runtime model, and it is not the configured one.
    runtime: the name of the runtime that serves the model, empty for the default one.
    arguments, environment: added to those of the runtime.
    arguments_section: the section of the configuration that has the arguments.
    trust_remote_code: the model may bring code of its own.
    download: an Ensure may download the model.
    config_hash: a digest of all settings that the process depends on, except the runtime model.

    pinned: neither stopped when unused nor preempted.
    preload: started with the service.
    home: of the home model: not stopped when unused, and started again in quiet times.
    expected_memory: as declared; None: not declared.
    memory_limit: the server is recycled when it takes more; None: never.
    groups: the groups whose limits the server counts for.
    prompt_cache: the bytes that its computed prompts may take on disk; 0: they are not kept.
    warm_prompts: system prompts that the server computes before it is READY.
    """

    runtime_model: str
    keep_alive: float = 300.0
    grace_period: float = 3.0
    start_timeout: float = FOREVER
    stall_timeout: float = 60.0
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
    home: bool = False
    expected_memory: int | None = None
    memory_limit: int | None = None
    groups: tuple[str, ...] = ()
    prompt_cache: int = 2 * 1024**3
    warm_prompts: tuple[str, ...] = ()

    @property
    def named_by_caller(self) -> str:
        """The runtime model if a caller named it in place of the configured one, else empty."""
        return self.runtime_model if self.asked else ""


@dataclass(frozen=True, slots=True)
class PromptCache:
    """The place where a model's computed prompts are kept for its next server. Sizes in bytes.

    directory: where they are.
    max_bytes: what they may take, on disk and in the server's memory.
    disk_bytes, tokens: what was there when the server was started.
    """

    directory: str
    max_bytes: int
    disk_bytes: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a confined process may use besides its working directory. Absolute paths without links.

    readable: files and directories, besides those of the system and of its program.
    ports: to listen on; 0: any free one; None: all.
    private: directories of which nothing that is readable may be a parent.
    leaves_loopback: whether it may listen where other machines reach it.
    """

    readable: tuple[str, ...] = ()
    ports: tuple[int, ...] | None = (0,)
    private: tuple[str, ...] = ()
    leaves_loopback: bool = False

    def covers(self, other: "Sandbox") -> bool:
        """Return whether a process with this sandbox may use all that another one may."""
        places = [PurePath(place) for place in self.readable]
        if self.private != other.private or self.leaves_loopback < other.leaves_loopback:
            return False
        if self.ports is not None and (other.ports is None or {*other.ports} - {*self.ports}):
            return False
        return all(
            any(PurePath(path).is_relative_to(place) for place in places) for path in other.readable
        )


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """The plan of one process: how to start it, and how to check its readiness and activity.

    port: the port that the process is told to take; None: the process chooses one, and the
    service finds it by its listening socket.
    nonce: a random mark in the environment of the process and its descendants, to find them by.
    kind: the kind of runtime, which decides how its exit is diagnosed; empty if unknown.
    use: where the server tells how busy it is.
    drains: after SIGTERM the server takes no new request and finishes those in flight.
    ready_path: the path that has to answer 200 to a POST of ready_body before the server is
    READY; empty: none.
    prompt_cache: where its computed prompts are kept; None: they are not.
    files: the names and contents of files for the working directory of the process.
    api_key: the key that requests to the server must show; empty: it asks for none.
    embedding_model_name: what the model field of requests for embeddings must say, if the server
    loads a model for them besides its own; empty: it does not.
    mapped_bytes: weights that the process maps into memory, which no memory sample sees.
    sandbox: what the process may use; None: it is not confined.
    host: the one IP address at which the process must listen to be READY; empty: any.
    """

    argv: tuple[str, ...]
    # What can be secret is in no text that shows a plan.
    environment: tuple[tuple[str, str], ...] = field(repr=False)
    port: int | None
    health_path: str
    served_model_name: str
    nonce: str
    kind: str = ""
    use: UseSignals = field(default_factory=UseSignals)
    drains: bool = False
    ready_path: str = ""
    ready_body: str = ""
    prompt_cache: PromptCache | None = None
    files: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    api_key: str = field(default="", repr=False)
    embedding_model_name: str = ""
    mapped_bytes: int = 0
    sandbox: Sandbox | None = None
    host: str = ""


@dataclass(frozen=True, slots=True)
class SpawnedProcess:
    """A process that was just started, and the path of its log.

    nonce: that of a standby process that became the server; empty: the nonce of the plan.
    from_standby: the process was a standby that had imported everything.
    """

    identity: Identity
    log_path: str
    nonce: str = ""
    from_standby: bool = False


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of one liveness probe of a READY server.

    answered: the health path answered within the probe timeout.
    progress: counters that only rise, processor seconds first; equal to the last ones if the
    server made no progress; empty if not read.
    healthy: False if the answer says that the server is unhealthy.
    in_flight: an unhealthy server may have requests in flight.
    listens: the endpoint is still the server's own.
    reused_tokens: tokens of prompts that the server had not to compute anew since its start.
    """

    answered: bool
    progress: tuple[float, ...]
    healthy: bool = True
    in_flight: bool = False
    listens: bool = True
    reused_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ExitReport:
    """A report of the exit of a process; code and signal are both None if unknown."""

    code: int | None
    signal: int | None
    diagnosis: Diagnosis
    message: str
    last_lines: tuple[str, ...] = ()
