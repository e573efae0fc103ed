"""What the service says, as frozen values.

Times are aware datetimes in UTC; None is what the service did not say. The
`message` of a value is what it was made of, as it came: fields that a newer
service sends and this package does not know are still in it.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Self

from pool_service_client.v1 import pool_service_pb2 as pb


class _OpenEnum(IntEnum):
    """An enum of the wire: a number that this package does not know is kept."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        return member


class ServerState(_OpenEnum):
    """What a server is doing."""

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
    """Who wanted a process to end."""

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
    """How it is known what a server will need of memory, the best first."""

    UNSPECIFIED = 0
    DECLARED = 1
    OBSERVED = 2
    WEIGHTS = 3
    GUESS = 4


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. Neither code nor signal: it is not known."""

    generation: int
    code: int | None
    signal: int | None
    cause: ExitCause
    message: str
    last_lines: tuple[str, ...]
    time: datetime | None


@dataclass(frozen=True, slots=True)
class Server:
    """One supervised server and what is known of it.

    model and generation together are its key; role: what it is to its model.
    endpoint, served_model_name: empty unless READY; pid: 0 without a process.
    expire_time: when it goes if it stays unused; None: never, or not in this state.
    queue_position: from 1, 0 if it does not wait for its turn; progress: of its download
    or its load, from 0 to 1. expected_bytes: of memory at most, 0 while not known;
    footprint_bytes, peak_bytes: what it takes, and took at most, 0 before the first look.
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
    message: pb.Server = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class EnsureResult:
    """A READY server, and whether this call was the one that started it."""

    server: Server
    started: bool


@dataclass(frozen=True, slots=True)
class EvictedServer:
    """A server that was stopped. killed: it had to be, and work in flight was lost."""

    server: Server
    killed: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over the whole pool, and its memory in bytes.

    memory_budget_bytes: None if there is no limit; memory_available_bytes and
    memory_total_bytes: of the machine, 0 before the first look at it.
    memory_pressured: nothing is started, since the machine is short of memory. standbys:
    processes that have imported all that a server needs and wait to become one.
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
    """Some servers in the order of their models, as they were at `revision`.

    notices: what the service cannot do at present, in words; empty if all is well.
    """

    servers: tuple[Server, ...]
    revision: int
    totals: Totals
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the catalogue, or one that was found.

    runtime: empty for the default one; expected_bytes: of memory at most, 0 while not
    known; on_disk: whether all that it needs is on the service's machine, None where
    that cannot be told; problem: why it could not be started, empty if it could;
    disk_bytes: of its weights on that machine, 0 if not known; state: of its server, None if it
    has none; listed: by the configuration.
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
    """Bytes of a download: what is there, and what there will be, 0 while not known."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload changed, as models that have a server.

    replaced: start anew, and removed: end, when they are next unused; updated: go on
    with other limits. restart_needed: keys that only a restart applies. problems: what keeps
    listed models from starting, each with its key and what to do.
    """

    replaced: tuple[str, ...]
    updated: tuple[str, ...]
    removed: tuple[str, ...]
    restart_needed: tuple[str, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerChanged:
    """The server is now like this."""

    revision: int
    server: Server


@dataclass(frozen=True, slots=True)
class ServerRemoved:
    """The server is no longer in the pool; its last state that is known."""

    revision: int
    server: Server


@dataclass(frozen=True, slots=True)
class Synced:
    """All present servers have been told; from here on come changes."""

    revision: int


Event = ServerChanged | ServerRemoved | Synced
