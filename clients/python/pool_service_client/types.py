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

    endpoint, served_model_name: empty unless READY; pid: 0 without a process.
    expire_time: when it goes if it stays unused; None: never, or not in this state.
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
    """Counts over the whole pool."""

    servers: int
    queued: int
    starting: int
    ready: int
    stopping: int
    failed: int
    backing_off: int
    waiting_calls: int


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
