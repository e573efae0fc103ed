"""What happens: events, which the driver feeds to the machine."""

from dataclasses import dataclass

from pool_service.core.activity import Activity
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import ServerCommand
from pool_service.core.errors import PoolError
from pool_service.core.limits import Limits
from pool_service.core.results import Every
from pool_service.core.server import RecoveredState, ServerId
from pool_service.core.types import (
    Estimate,
    ExitReport,
    Identity,
    LaunchPlan,
    MemorySample,
    ProbeResult,
    SpawnedProcess,
)

# --- of callers, the service and the machine ----------------------------------------


@dataclass(frozen=True, slots=True)
class EnsureRequested:
    """A caller wants `model` READY. Empty runtime_model, None: as configured.

    download: whether its files may be downloaded for it.
    """

    request_id: int | None
    model: str
    runtime_model: str = ""
    keep_alive: float | None = None
    download: bool | None = None


@dataclass(frozen=True, slots=True)
class WaiterLeft:
    """The caller of EnsureRequested waits no longer."""

    request_id: int


@dataclass(frozen=True, slots=True)
class HoldRequested:
    """A caller wants `model` READY from now on, until HoldEnded; `holder` is its own label.

    Answered only when the hold ends without its will.
    """

    request_id: int
    model: str
    runtime_model: str = ""
    keep_alive: float | None = None
    download: bool | None = None
    holder: str = ""


@dataclass(frozen=True, slots=True)
class HoldEnded:
    """The caller of HoldRequested holds no longer; nothing if it ended before."""

    request_id: int


@dataclass(frozen=True, slots=True)
class ReloadRequested:
    """From now on the configuration says this."""

    request_id: int
    catalogue: Catalogue
    limits: Limits


@dataclass(frozen=True, slots=True)
class ForgetRequested:
    """A caller wants the runtime model forgotten that was named for `model`.

    Answered with that runtime model, which is empty if none was remembered.
    """

    request_id: int
    model: str


@dataclass(frozen=True, slots=True)
class EvictRequested:
    """A caller wants servers gone; without force only those that are not in use."""

    request_id: int
    target: str | Every
    force: bool = False


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """The service ends: nothing new, and everything that runs is drained."""

    request_id: int


@dataclass(frozen=True, slots=True)
class DetachRequested:
    """The service ends and leaves its servers running for the next one."""


@dataclass(frozen=True, slots=True)
class ShutdownEscalated:
    """Whatever is STOPPING gets its next signal now; whatever will be, soon after its first."""


@dataclass(frozen=True, slots=True)
class RecoveryBegan:
    """The service has started; an earlier one left this behind."""

    remembered: RecoveredState


@dataclass(frozen=True, slots=True)
class OrphansFound:
    """Processes of an earlier service of which no record tells: they are to end."""

    identities: tuple[Identity, ...]


@dataclass(frozen=True, slots=True)
class MemorySampled:
    """What a look at the memory showed; None: it could not be looked at."""

    sample: MemorySample | None


@dataclass(frozen=True, slots=True)
class TimeReached:
    """The moment that `next_deadline` named has come.

    away: for how many seconds the service did not run when it should have, since the
    machine slept or it was held up itself; 0 unless that is worth speaking of.
    """

    away: float = 0.0


PoolEvent = (
    EnsureRequested
    | WaiterLeft
    | HoldRequested
    | HoldEnded
    | ReloadRequested
    | ForgetRequested
    | EvictRequested
    | ShutdownRequested
    | DetachRequested
    | ShutdownEscalated
    | RecoveryBegan
    | OrphansFound
    | MemorySampled
    | TimeReached
)


# --- of one server: the results of commands ---------------------------------------------


@dataclass(frozen=True, slots=True)
class MemoryEstimated:
    """What it will need is known, and whether it can be loaded."""

    server_id: ServerId
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Fetching:
    """Its files are downloaded: so many bytes of `total` are there (0: not known)."""

    server_id: ServerId
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """All its files are on disk."""

    server_id: ServerId


@dataclass(frozen=True, slots=True)
class EstimateFailed:
    """It cannot be loaded, or its files could not be had."""

    server_id: ServerId
    error: PoolError


@dataclass(frozen=True, slots=True)
class Prepared:
    """The runtime was found; this is how to start it."""

    server_id: ServerId
    plan: LaunchPlan


@dataclass(frozen=True, slots=True)
class Spawned:
    """A process exists."""

    server_id: ServerId
    process: SpawnedProcess


@dataclass(frozen=True, slots=True)
class NotStarted:
    """There is no process: preparing or spawning failed."""

    server_id: ServerId
    error: PoolError


@dataclass(frozen=True, slots=True)
class BecameReady:
    """The process listens at the endpoint and answers healthy."""

    server_id: ServerId
    endpoint: str


@dataclass(frozen=True, slots=True)
class ListenerLost:
    """The process lives, and its endpoint is its own no more."""

    server_id: ServerId


@dataclass(frozen=True, slots=True)
class ActivityReported:
    """How it is used now."""

    server_id: ServerId
    activity: Activity


@dataclass(frozen=True, slots=True)
class Exited:
    """The process ended."""

    server_id: ServerId
    report: ExitReport


@dataclass(frozen=True, slots=True)
class CleanedUp:
    """Nothing is left of the process, its group and its descendants.

    killed: some of them had to be ended by SIGKILL.
    """

    server_id: ServerId
    killed: bool = False


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A command for this process ended in a way that is a bug of ours."""

    server_id: ServerId
    command: ServerCommand
    error: PoolError


@dataclass(frozen=True, slots=True)
class Adopted:
    """What an earlier service left of it was looked for: its process, if it had one."""

    server_id: ServerId
    process: SpawnedProcess | None


@dataclass(frozen=True, slots=True)
class ServerProbed:
    """What a look at a READY server showed."""

    server_id: ServerId
    result: ProbeResult


@dataclass(frozen=True, slots=True)
class LogRead:
    """What the process wrote last, oldest line first; nothing if that cannot be read."""

    server_id: ServerId
    last_lines: tuple[str, ...]


ServerEvent = (
    MemoryEstimated
    | Fetching
    | Fetched
    | EstimateFailed
    | Prepared
    | Spawned
    | NotStarted
    | BecameReady
    | ListenerLost
    | ActivityReported
    | Exited
    | CleanedUp
    | StepFailed
    | Adopted
    | ServerProbed
    | LogRead
)

Event = PoolEvent | ServerEvent
