"""Commands: what the driver is to do.

The driver carries out each command for one server by one call of a port, and feeds the result
back as the event that the command names.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pool_service.core.errors import PoolError
from pool_service.core.results import Ensured, Pinned, Reloaded, Removed
from pool_service.core.server import Phase, Role, Server, ServerId, StopSignal
from pool_service.core.types import Identity, LaunchPlan, Settings

# --- for the pool as a whole ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the request with this id; each is answered exactly once."""

    request_id: int
    result: Ensured | tuple[Removed, ...] | Reloaded | Pinned | str | PoolError


@dataclass(frozen=True, slots=True)
class SampleMemory:
    """Sample the memory of the machine and of these servers; MemorySampled answers."""

    servers: tuple[Server, ...]


@dataclass(frozen=True, slots=True)
class KeepStandbys:
    """Set how many standby processes there may be for these settings; nothing answers.

    wanted: how many to keep if memory permits; 0: none, and none is prepared.
    allowed: the number of these that fits in memory.
    refill: start missing ones; False: only end those too many.
    """

    settings: Settings
    wanted: int
    allowed: int
    refill: bool


@dataclass(frozen=True, slots=True)
class RecordUsage:
    """Record that a server with these settings needed `needed` bytes, for later estimates."""

    settings: Settings
    needed: int


@dataclass(frozen=True, slots=True)
class RecordLoad:
    """Record that a server with these settings took `seconds` to load, for later estimates."""

    settings: Settings
    seconds: float


@dataclass(frozen=True, slots=True)
class RecordNamings:
    """Record the runtime models that callers named, by model, in place of those recorded."""

    namings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RecordPins:
    """Record what callers of Pin said, by model, in place of what is recorded."""

    pins: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class LogInternalError:
    """Log an exception that the core has contained: a bug of ours.

    model: the model it cost, empty if none; during: the event or step in which it was raised.
    """

    model: str
    during: str
    error: Exception


@dataclass(frozen=True, slots=True)
class Preemptor:
    """The model that a server is stopped for; needed: bytes that it is expected to need."""

    model: str
    needed: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Record the new value of a server, or its removal, and send it to all watchers.

    before: its phase before the change; None: it is new.
    before_role: its role before the change, if that was another one.
    of_holds: only its holds have changed, which is no news to its holders.
    preemptor: the model that it begins to stop for; None: it does not, or for none in particular.
    """

    server: Server
    before: Phase | None
    removed: bool = False
    of_holds: bool = False
    preemptor: Preemptor | None = None
    before_role: Role | None = None


@dataclass(frozen=True, slots=True)
class RecoveryEnded:
    """Announce that every server of an earlier service is settled."""


# --- for one server -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EstimateMemory:
    """Estimate the memory that a server will need; MemoryEstimated or EstimateFailed answers."""

    server_id: ServerId
    settings: Settings


@dataclass(frozen=True, slots=True)
class Fetch:
    """Download a model; Fetching tells its progress, Fetched or EstimateFailed answers."""

    server_id: ServerId
    settings: Settings


@dataclass(frozen=True, slots=True)
class CancelEstimate:
    """Cancel an EstimateMemory or Fetch; nothing answers."""

    server_id: ServerId


@dataclass(frozen=True, slots=True)
class Prepare:
    """Find the runtime and make the launch plan; Prepared or NotStarted answers."""

    server_id: ServerId
    settings: Settings


@dataclass(frozen=True, slots=True)
class CancelPrepare:
    """Cancel a Prepare; nothing answers."""

    server_id: ServerId


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process by its launch plan; Spawned or NotStarted answers."""

    server_id: ServerId
    plan: LaunchPlan


@dataclass(frozen=True, slots=True)
class AwaitExit:
    """Wait for the exit of a process; Exited answers."""

    server_id: ServerId
    identity: Identity


@dataclass(frozen=True, slots=True)
class AwaitReady:
    """Wait until a process is ready; BecameReady answers, and nothing if it ends before.

    probe_timeout: seconds.
    again: it was READY under an earlier service; ListenerLost answers if it no longer listens.
    """

    server_id: ServerId
    identity: Identity
    plan: LaunchPlan
    probe_timeout: float
    again: bool = False


@dataclass(frozen=True, slots=True)
class CheckActivity:
    """Read how many requests a server works on; ActivityReported answers.

    plan: None if unknown; endpoint: empty if unknown; probe_timeout: seconds.
    pause: seconds to wait before.
    """

    server_id: ServerId
    identity: Identity
    plan: LaunchPlan | None
    endpoint: str
    probe_timeout: float
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class SendSignal:
    """Send a signal to the group of a process; nothing answers."""

    server_id: ServerId
    identity: Identity
    stop: StopSignal


@dataclass(frozen=True, slots=True)
class CleanUp:
    """End all that is left of a process that exited; CleanedUp answers.

    drain_time: seconds to wait for requests in flight on it, at `endpoint`.
    """

    server_id: ServerId
    identity: Identity
    endpoint: str = ""
    drain_time: float = 0.0


@dataclass(frozen=True, slots=True)
class EscalateCleanUp:
    """Let a CleanUp wait no longer for requests in flight; nothing answers."""

    server_id: ServerId
    identity: Identity


@dataclass(frozen=True, slots=True)
class Adopt:
    """Find the process that an earlier service started for a server; Adopted answers."""

    server_id: ServerId
    server: Server


@dataclass(frozen=True, slots=True)
class ProbeServer:
    """Probe whether a READY server answers and makes progress; ServerProbed answers.

    probe_timeout: seconds.
    """

    server_id: ServerId
    identity: Identity
    plan: LaunchPlan
    endpoint: str
    log_path: str
    probe_timeout: float


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Read the last lines of a server's log; LogRead answers."""

    server_id: ServerId
    log_path: str


TaskCommand = (
    EstimateMemory
    | Fetch
    | Prepare
    | Spawn
    | AwaitExit
    | AwaitReady
    | CheckActivity
    | SendSignal
    | CleanUp
    | EscalateCleanUp
    | Adopt
    | ProbeServer
    | ReadLog
)
"""The commands that are carried out as tasks, each for one server."""

ServerCommand = TaskCommand | CancelEstimate | CancelPrepare
"""All commands for one server."""

RecordCommand = RecordUsage | RecordLoad | RecordNamings | RecordPins
"""The commands to remember something across restarts."""

PoolCommand = (
    Answer
    | SampleMemory
    | KeepStandbys
    | RecordCommand
    | LogInternalError
    | Publish
    | RecoveryEnded
)

Command = PoolCommand | ServerCommand
