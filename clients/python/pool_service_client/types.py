"""The values that the clients return; immutable.

Times are aware datetimes in UTC. None: the service did not set the value. `message` is the
protobuf message of a value, which also has the fields that only a newer service sets.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Self

from pool_service_client.v1 import pool_service_pb2 as pb


class _OpenEnum(IntEnum):
    """An enum that keeps a number of a newer service as a member UNKNOWN_N."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        return member


class ServerState(_OpenEnum):
    """The state of a server."""

    UNSPECIFIED = 0
    QUEUED = 1
    STARTING = 2
    READY = 3
    STOPPING = 4
    FAILED = 5
    BACKING_OFF = 6


class ServerRole(_OpenEnum):
    """The role of a server among the servers of its model."""

    UNSPECIFIED = 0
    CURRENT = 1
    SUCCESSOR = 2
    SUPERSEDED = 3
    ORPHAN = 4


class ExitCause(_OpenEnum):
    """The cause of a process's exit."""

    UNSPECIFIED = 0
    CRASHED = 1
    EVICTED = 2
    IDLE = 3
    START_TIMEOUT = 4
    SHUTDOWN = 5
    WEDGED = 6
    ORPHANED = 7
    PREEMPTED = 8
    RELOADED = 9
    MEMORY_LIMIT = 10


class Expectation(_OpenEnum):
    """The source of the memory that a server is expected to need, the best first."""

    UNSPECIFIED = 0
    DECLARED = 1
    OBSERVED = 2
    WEIGHTS = 3
    GUESS = 4


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended; neither code nor signal: not known."""

    generation: int
    code: int | None
    signal: int | None
    cause: ExitCause
    message: str
    last_lines: tuple[str, ...]
    time: datetime | None


@dataclass(frozen=True, slots=True)
class LogLines:
    """Lines that the process of one generation has written, oldest first, safe to show.

    Attributes:
        missed_bytes: bytes before these lines that were removed before they could be read.
        cursor: reads on after these lines.
    """

    generation: int
    lines: tuple[str, ...]
    missed_bytes: int
    cursor: str


@dataclass(frozen=True, slots=True)
class LogEnd:
    """The end of the process of one generation, after its last line.

    Attributes:
        exit: how it ended; None: not known.
        cursor: reads on with the next generation.
    """

    generation: int
    exit: Exit | None
    cursor: str


@dataclass(frozen=True, slots=True)
class PromptCache:
    """The computed prompts that a server keeps for the next server of its model.

    Attributes:
        disk_bytes: what was on disk when the server was started.
        tokens: the tokens of the prompts that were there.
        reused_tokens: tokens of prompts that the server did not have to compute.
        max_bytes: what its prompts may take, on disk and in its memory.
    """

    disk_bytes: int
    tokens: int
    reused_tokens: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Server:
    """A supervised server; `model` and `generation` together identify it.

    Attributes:
        role: its role among the servers of its model.
        endpoint: the base URL; empty unless READY.
        served_model_name: the model's name for requests; empty unless READY.
        embedding_model_name: the name for requests of embeddings, if the server serves a second
            model for them; else empty.
        host: the member of a fleet whose server it is; empty outside a fleet.
        pid: 0 without a process.
        expire_time: when the server stops if it stays unused; None: never, or not in this state.
        expected_ready_time: when it is expected to be READY, while it loads; None: not known.
        queue_position: the position in the queue, from 1; 0: not in the queue.
        progress: the progress of its download or load, from 0 to 1; None: not known.
        expected_bytes: the memory that it needs at most; 0: not known.
        footprint_bytes: the memory that it takes; 0: not sampled yet.
        peak_bytes: the most memory that it has taken; 0: not sampled yet.
        outdated: whether it runs with an earlier configuration.
        prompt_cache: what it keeps of its computed prompts; None: nothing.
        api_key: the key that requests to the endpoint show as `Authorization: Bearer KEY`; empty if
            the server asks for none, and in answers other than those of `ensure` and `hold`. It is
            in no text that shows a Server.
    """

    model: str
    runtime_model: str
    state: ServerState
    generation: int
    endpoint: str
    served_model_name: str
    pid: int
    create_time: datetime | None
    start_time: datetime | None
    ready_time: datetime | None
    last_use_time: datetime | None
    expire_time: datetime | None
    expected_ready_time: datetime | None
    detail: str
    last_exit: Exit | None
    log_path: str
    queue_position: int
    progress: float | None
    expected_bytes: int
    expected_by: Expectation
    footprint_bytes: int
    peak_bytes: int
    holds: int
    pinned: bool
    outdated: bool
    role: ServerRole
    prompt_cache: PromptCache | None
    embedding_model_name: str
    host: str
    message: pb.Server = field(repr=False, compare=False)
    api_key: str = field(default="", repr=False)

    @property
    def base_url(self) -> str:
        """The base URL for OpenAI's and other packages, `endpoint` with /v1; empty unless READY."""
        return f"{self.endpoint}/v1" if self.endpoint else ""


@dataclass(frozen=True, slots=True)
class Found:
    """The server of a model as it is now.

    Attributes:
        server: None: the model has none.
        answers: whether this very process has answered the check that was asked for.
    """

    server: Server | None
    answers: bool


@dataclass(frozen=True, slots=True)
class EnsureResult:
    """A READY server, and whether this call has started it."""

    server: Server
    started: bool


@dataclass(frozen=True, slots=True)
class EvictedServer:
    """A stopped server. killed: it had to be killed, and its requests in flight were lost."""

    server: Server
    killed: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """The counts and the memory of the whole pool.

    Attributes:
        waiting_calls: calls that wait for a server to be READY.
        memory_budget_bytes: None: no limit.
        memory_available_bytes: of the machine; 0: not sampled yet.
        memory_total_bytes: of the machine; 0: not sampled yet.
        memory_pressured: whether the machine is short of memory, so that nothing is started.
        standbys: processes that have imported the runtime and wait to become a server.
    """

    servers: int
    queued: int
    starting: int
    ready: int
    stopping: int
    failed: int
    backing_off: int
    waiting_calls: int
    memory_budget_bytes: int | None
    memory_reserved_bytes: int
    memory_available_bytes: int
    memory_total_bytes: int
    memory_pressured: bool
    standbys: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page of servers, ordered by model, as they were at `revision`.

    Attributes:
        notices: what the service cannot do at present, for people; empty if nothing.
    """

    servers: tuple[Server, ...]
    revision: int
    totals: Totals
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the configuration, or one that was found.

    Attributes:
        runtime: the runtime's name; empty: the default one.
        expected_bytes: the memory that its server needs at most; 0: not known.
        on_disk: whether all its files are on the service's machine; None: not known.
        problem: why it cannot be started; empty if it can.
        disk_bytes: the bytes of its weights on that machine; 0: not known.
        state: the state of its server; None: no server.
        listed: whether the configuration lists it.
    """

    model: str
    aliases: tuple[str, ...]
    runtime_model: str
    runtime: str
    groups: tuple[str, ...]
    pinned: bool
    preload: bool
    expected_bytes: int
    expected_by: Expectation
    on_disk: bool | None
    problem: str
    disk_bytes: int
    state: ServerState | None
    listed: bool
    message: pb.Model = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a download: bytes on disk (`done`) and in total (0: not known yet)."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Pinned:
    """The result of a pin.

    Attributes:
        pinned: whether the model is pinned now.
        changed: whether that was otherwise before.
        configured: whether the configuration pins the model.
    """

    pinned: bool
    changed: bool
    configured: bool


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The result of a reload; the first three fields are models that have a server.

    Attributes:
        replaced: their servers restart when they are next unused.
        updated: their servers keep running with new limits.
        removed: their servers stop when they are next unused.
        restart_needed: keys that differ and that only a restart applies.
        problems: what keeps listed models from starting, each with its key and what to do.
    """

    replaced: tuple[str, ...]
    updated: tuple[str, ...]
    removed: tuple[str, ...]
    restart_needed: tuple[str, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerChanged:
    """The new state of a server."""

    revision: int
    server: Server


@dataclass(frozen=True, slots=True)
class ServerRemoved:
    """The last known state of a server that is no longer in the pool."""

    revision: int
    server: Server


@dataclass(frozen=True, slots=True)
class Synced:
    """All present servers have been reported; only changes follow."""

    revision: int


Event = ServerChanged | ServerRemoved | Synced
