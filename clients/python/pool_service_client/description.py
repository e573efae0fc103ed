"""The description of a model, as `describe` returns it; see `types` for times and `message`."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pool_service_client.types import Exit, Expectation, Server, ServerRole, ServerState, _OpenEnum
from pool_service_client.v1 import pool_service_pb2 as pb


class RunOrigin(_OpenEnum):
    """How a process came to be."""

    UNSPECIFIED = 0
    COLD = 1
    STANDBY = 2
    ADOPTED = 3


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a model's next server.

    source: where the value comes from, in words; running: the present server's value, if it has
    another one.
    """

    key: str
    value: str
    source: str
    running: str


@dataclass(frozen=True, slots=True)
class Run:
    """Describes one generation of a model, with the times of its stages.

    load: how long its load took, without the time for which the machine was suspended; None if it
    has not ended, or if it is not known.
    """

    generation: int
    origin: RunOrigin
    create_time: datetime | None
    admit_time: datetime | None
    start_time: datetime | None
    ready_time: datetime | None
    stop_time: datetime | None
    end_time: datetime | None
    exit: Exit | None
    peak_bytes: int
    load: timedelta | None


@dataclass(frozen=True, slots=True)
class Holder:
    """A stream that holds a model."""

    label: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class WaitingCall:
    """A call that waits for a model; own: the service itself wants it."""

    since: datetime | None
    hold: bool
    holder: str
    own: bool


@dataclass(frozen=True, slots=True)
class EvictionCandidate:
    """A server that may be stopped for another model.

    retention_seconds: its retention value; the lowest by the byte goes first.
    reside_time: the end of its grace period; None: not told.
    """

    model: str
    generation: int
    busy: bool
    freed_bytes: int
    retention_seconds: float
    reside_time: datetime | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The figures of a decision. budget_bytes: None: no limit; available_bytes: None: not known."""

    needed_bytes: int
    budget_bytes: int | None
    reserved_bytes: int
    available_bytes: int | None
    chosen: tuple[EvictionCandidate, ...]
    passed_over: tuple[EvictionCandidate, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision of the service; UNSPECIFIED before or after: the server is not in the pool."""

    time: datetime | None
    generation: int
    role: ServerRole
    before: ServerState
    after: ServerState
    why: str
    event: str
    choice: Choice | None


@dataclass(frozen=True, slots=True)
class Description:
    """All that the service knows about a model.

    holds, waiting_calls: how many there are; `holders` and `waiting` may be cut.
    next_to_go: the servers of all models that would be stopped next for another model.
    eviction_position: the place of this model's server among them, from 1; 0: it is not there, and
    `kept_because` says why.
    """

    model: str
    aliases: tuple[str, ...]
    listed: bool
    settings: tuple[Setting, ...]
    servers: tuple[Server, ...]
    expected_bytes: int
    expected_by: Expectation
    on_disk: bool | None
    disk_bytes: int
    usual_load: timedelta | None
    problem: str
    runs: tuple[Run, ...]
    last_exit: Exit | None
    holders: tuple[Holder, ...]
    holds: int
    waiting: tuple[WaitingCall, ...]
    waiting_calls: int
    queue_time: datetime | None
    next_to_go: tuple[EvictionCandidate, ...]
    eviction_position: int
    eviction_candidates: int
    kept_because: str
    crash_times: tuple[datetime, ...]
    crash_limit: int
    crash_window: timedelta
    retry_time: datetime | None
    failure_reason: str
    failure_message: str
    decisions: tuple[Decision, ...]
    message: pb.DescribeResponse = field(repr=False, compare=False)
