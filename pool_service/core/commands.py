"""What is to be done: commands, which the driver carries out.

Each command for one server is carried out by one call of a port, whose result is the event that
the command names.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pool_service.core.errors import PoolError
from pool_service.core.results import Ensured, Reloaded, Removed
from pool_service.core.server import Phase, Server, ServerId, StopSignal
from pool_service.core.types import Identity, LaunchPlan, Settings

# --- for the pool as a whole ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell the caller with this ticket; each is told exactly once."""

    request_id: int
    result: Ensured | tuple[Removed, ...] | Reloaded | str | PoolError


@dataclass(frozen=True, slots=True)
class SampleMemory:
    """Look at the memory of the machine and of these servers; answers MemorySampled."""

    servers: tuple[Server, ...]


@dataclass(frozen=True, slots=True)
class KeepStandbys:
    """So many processes may wait from now on to become servers with these settings.

    wanted: as configured; allowed: as many as there is room for; refill: those that lack may
    be started.
    """

    settings: Settings
    wanted: int
    allowed: int
    refill: bool


@dataclass(frozen=True, slots=True)
class RecordUsage:
    """Remember that a server with these settings needed so many bytes."""

    settings: Settings
    needed: int


@dataclass(frozen=True, slots=True)
class RecordNamings:
    """Record all runtime models that callers named, by their models."""

    namings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LogInternalError:
    """A transition raised, which is a bug of ours: tell the log; its model was put right.

    model: whose it was, empty where it was nobody's; during: what it was about.
    """

    model: str
    during: str
    error: Exception


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell everybody who watches: this server is now like this, or is gone.

    before: the phase that it was in, None if it is new; of_holds: nothing but who holds it has
    changed, which is no news to those who do.
    """

    server: Server
    before: Phase | None
    removed: bool = False
    of_holds: bool = False


@dataclass(frozen=True, slots=True)
class RecoveryEnded:
    """Of everything that an earlier service left it is known how it is."""


# --- for one server -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EstimateMemory:
    """Find out what it will need; answers MemoryEstimated or EstimateFailed."""

    server_id: ServerId
    settings: Settings


@dataclass(frozen=True, slots=True)
class Fetch:
    """Download its files; answers Fetching now and then, and Fetched or EstimateFailed."""

    server_id: ServerId
    settings: Settings


@dataclass(frozen=True, slots=True)
class CancelEstimate:
    """Give up what Appraise or Fetch began; nothing answers."""

    server_id: ServerId


@dataclass(frozen=True, slots=True)
class Prepare:
    """Find the runtime and write down how to start it; answers Prepared or NotStarted."""

    server_id: ServerId
    settings: Settings


@dataclass(frozen=True, slots=True)
class CancelPrepare:
    """Give up what Prepare began; nothing answers."""

    server_id: ServerId


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the process; answers Spawned or NotStarted."""

    server_id: ServerId
    plan: LaunchPlan


@dataclass(frozen=True, slots=True)
class AwaitExit:
    """Answer Exited when the process ends."""

    server_id: ServerId
    identity: Identity


@dataclass(frozen=True, slots=True)
class AwaitReady:
    """Answer BecameReady when it is; nothing if the process ends before.

    again: it was READY under an earlier service; ListenerLost if it listens no more.
    """

    server_id: ServerId
    identity: Identity
    plan: LaunchPlan
    probe_timeout: float
    again: bool = False


@dataclass(frozen=True, slots=True)
class CheckActivity:
    """Look how the server is used; answers ActivityReported.

    plan: None, and endpoint: empty, where they are not known; pause: seconds until the look
    begins.
    """

    server_id: ServerId
    identity: Identity
    plan: LaunchPlan | None
    endpoint: str
    probe_timeout: float
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class SendSignal:
    """Send the signal to the process's group."""

    server_id: ServerId
    identity: Identity
    stop: StopSignal


@dataclass(frozen=True, slots=True)
class CleanUp:
    """End what the process left behind; answers CleanedUp.

    drain_time: seconds that it has for what is in flight on it, at the process's endpoint.
    """

    server_id: ServerId
    identity: Identity
    endpoint: str = ""
    drain_time: float = 0.0


@dataclass(frozen=True, slots=True)
class EscalateCleanUp:
    """Wait no longer for what is in flight on what the process left behind; nothing answers."""

    server_id: ServerId
    identity: Identity


@dataclass(frozen=True, slots=True)
class Adopt:
    """Find the process that an earlier service left; answers Adopted."""

    server_id: ServerId
    server: Server


@dataclass(frozen=True, slots=True)
class ProbeServer:
    """Look whether it answers and moves; answers ServerProbed."""

    server_id: ServerId
    identity: Identity
    plan: LaunchPlan
    endpoint: str
    log_path: str
    probe_timeout: float


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Read the last lines that it wrote; answers LogRead."""

    server_id: ServerId
    log_path: str


ServerCommand = (
    EstimateMemory
    | Fetch
    | CancelEstimate
    | Prepare
    | CancelPrepare
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

PoolCommand = (
    Answer
    | SampleMemory
    | KeepStandbys
    | RecordUsage
    | RecordNamings
    | LogInternalError
    | Publish
    | RecoveryEnded
)

Command = PoolCommand | ServerCommand
