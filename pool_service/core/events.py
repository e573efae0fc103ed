"""Events: what happened, as the driver tells the machine."""

from dataclasses import dataclass

from pool_service.core.activity import Activity
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import ServerCommand
from pool_service.core.errors import PoolError
from pool_service.core.limits import Limits
from pool_service.core.results import Every
from pool_service.core.server import RecoveredState, ServerId
from pool_service.core.types import (
    Account,
    Estimate,
    ExitReport,
    Identity,
    LaunchPlan,
    MemorySample,
    ProbeResult,
    SpawnedProcess,
)

# --- about callers, the service and the machine -------------------------------------


@dataclass(frozen=True, slots=True)
class EnsureRequested:
    """A caller asked for `model` to be READY; an Answer follows.

    request_id: None for a request of the pool itself, which gets no Answer.
    runtime_model: empty: as configured.
    keep_alive: seconds; None: as configured.
    download: whether the model's files may be downloaded; None: as configured.
    account: to whom a start counts; None: to nobody, so that no share limits it.
    least_generation: the least generation of a server that is started for it.
    """

    request_id: int | None
    model: str
    runtime_model: str = ""
    keep_alive: float | None = None
    download: bool | None = None
    account: Account | None = None
    least_generation: int = 0


@dataclass(frozen=True, slots=True)
class WaiterLeft:
    """The caller of an EnsureRequested stopped waiting."""

    request_id: int


@dataclass(frozen=True, slots=True)
class HoldRequested:
    """A caller asked for `model` to be READY until HoldEnded.

    An Answer, always with an error, follows only if the pool ends or refuses the hold.

    holder: the caller's label of itself. For the other fields see EnsureRequested.
    """

    request_id: int
    model: str
    runtime_model: str = ""
    keep_alive: float | None = None
    download: bool | None = None
    holder: str = ""
    account: Account | None = None
    least_generation: int = 0


@dataclass(frozen=True, slots=True)
class HoldEnded:
    """The caller of a HoldRequested ended its hold; no change if it had ended before."""

    request_id: int


@dataclass(frozen=True, slots=True)
class ReloadRequested:
    """The configuration was read again; an Answer with a Reloaded follows."""

    request_id: int
    catalogue: Catalogue
    limits: Limits


@dataclass(frozen=True, slots=True)
class ForgetRequested:
    """A caller asked to forget the runtime model that callers named for `model`.

    An Answer with that runtime model follows, empty if none was remembered.
    """

    request_id: int
    model: str


@dataclass(frozen=True, slots=True)
class PinRequested:
    """A caller asked to pin `model`, or not to; an Answer with a Pinned follows.

    pinned: None: as the configuration says again.
    """

    request_id: int
    model: str
    pinned: bool | None


@dataclass(frozen=True, slots=True)
class EvictRequested:
    """A caller asked to stop servers; an Answer with all that were removed follows.

    target: a model, or all servers of a kind.
    force: stop servers in use as well.
    """

    request_id: int
    target: str | Every
    force: bool = False


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """The service shuts down, and servers are drained; an Answer follows when all have ended."""

    request_id: int


@dataclass(frozen=True, slots=True)
class DetachRequested:
    """The service ends and leaves its servers running for the next service."""


@dataclass(frozen=True, slots=True)
class ShutdownEscalated:
    """Stops are to wait no longer: the next signal is sent now, and later ones without delay."""


@dataclass(frozen=True, slots=True)
class RecoveryBegan:
    """The service started, and read what an earlier service recorded."""

    remembered: RecoveredState


@dataclass(frozen=True, slots=True)
class OrphansFound:
    """Processes of an earlier service were found that no record lists: they are to end."""

    identities: tuple[Identity, ...]


@dataclass(frozen=True, slots=True)
class MemorySampled:
    """A memory sample was taken, the answer to SampleMemory; None: it failed."""

    sample: MemorySample | None


@dataclass(frozen=True, slots=True)
class TimeReached:
    """The time that `next_deadline` returned has come.

    away: seconds for which the service did not run, since the machine was suspended or the
    process was stalled; 0 for short delays.
    """

    away: float = 0.0


PoolEvent = (
    EnsureRequested
    | WaiterLeft
    | HoldRequested
    | HoldEnded
    | ReloadRequested
    | ForgetRequested
    | PinRequested
    | EvictRequested
    | ShutdownRequested
    | DetachRequested
    | ShutdownEscalated
    | RecoveryBegan
    | OrphansFound
    | MemorySampled
    | TimeReached
)


# --- about one server: the results of commands ------------------------------------------


@dataclass(frozen=True, slots=True)
class MemoryEstimated:
    """A server's memory was estimated, the answer to EstimateMemory."""

    server_id: ServerId
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Fetching:
    """A download went on: `done` of `total` bytes are on disk (total 0: unknown). Follows Fetch."""

    server_id: ServerId
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """A download ended with all files on disk, the answer to Fetch."""

    server_id: ServerId


@dataclass(frozen=True, slots=True)
class EstimateFailed:
    """An estimate or a download failed, the answer to EstimateMemory or Fetch."""

    server_id: ServerId
    error: PoolError


@dataclass(frozen=True, slots=True)
class Prepared:
    """The launch plan of a process is ready, the answer to Prepare."""

    server_id: ServerId
    plan: LaunchPlan


@dataclass(frozen=True, slots=True)
class Spawned:
    """A process was started, the answer to Spawn."""

    server_id: ServerId
    process: SpawnedProcess


@dataclass(frozen=True, slots=True)
class NotStarted:
    """A start failed without a process, the answer to Prepare or Spawn."""

    server_id: ServerId
    error: PoolError


@dataclass(frozen=True, slots=True)
class BecameReady:
    """A process listens at its endpoint and answers healthy, the answer to AwaitReady."""

    server_id: ServerId
    endpoint: str


@dataclass(frozen=True, slots=True)
class BoundElsewhere:
    """A process is healthy at an endpoint that is not at its plan's host: an answer to AwaitReady.

    It will not become READY, since callers on other machines could not reach it there.
    """

    server_id: ServerId
    endpoint: str


@dataclass(frozen=True, slots=True)
class ListenerLost:
    """A live process no longer listens at its endpoint, or another process does as well."""

    server_id: ServerId


@dataclass(frozen=True, slots=True)
class ActivityReported:
    """A server's activity was read, the answer to CheckActivity."""

    server_id: ServerId
    activity: Activity


@dataclass(frozen=True, slots=True)
class Exited:
    """A process ended, the answer to AwaitExit."""

    server_id: ServerId
    report: ExitReport


@dataclass(frozen=True, slots=True)
class CleanedUp:
    """Nothing is left of a process, its group and its descendants, the answer to CleanUp.

    killed: some of them had to be ended by SIGKILL.
    """

    server_id: ServerId
    killed: bool = False


@dataclass(frozen=True, slots=True)
class CommandFailed:
    """A command for a server failed by an internal error, the answer in place of its own."""

    server_id: ServerId
    command: ServerCommand
    error: PoolError


@dataclass(frozen=True, slots=True)
class Adopted:
    """The process of an earlier service was looked for, the answer to Adopt.

    process: running or not; None: there never was one.
    """

    server_id: ServerId
    process: SpawnedProcess | None


@dataclass(frozen=True, slots=True)
class ServerProbed:
    """A READY server was probed, the answer to ProbeServer."""

    server_id: ServerId
    result: ProbeResult


@dataclass(frozen=True, slots=True)
class LogRead:
    """The end of a log was read, the answer to ReadLog; last_lines: empty if unreadable."""

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
    | BoundElsewhere
    | ListenerLost
    | ActivityReported
    | Exited
    | CleanedUp
    | CommandFailed
    | Adopted
    | ServerProbed
    | LogRead
)

Event = PoolEvent | ServerEvent
