"""What is to be done for one process (commands), and what happened to it (events).

The driver carries out each command by one call of a port, whose result is the event
that the command names. Each carries the generation that it is about.
"""

from dataclasses import dataclass

from pool_service.core.activity import Activity
from pool_service.core.errors import PoolError
from pool_service.core.types import (
    Appraisal,
    ExitReport,
    Identity,
    LaunchPlan,
    Pulse,
    Server,
    Settings,
    SpawnedProcess,
    StopSignal,
)

# --- events -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Appraised:
    """What it will need is known, and whether it can be loaded."""

    model: str
    generation: int
    appraisal: Appraisal


@dataclass(frozen=True, slots=True)
class Fetching:
    """Its files are downloaded: so many bytes of `total` are there (0: not known)."""

    model: str
    generation: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """All its files are on disk."""

    model: str
    generation: int


@dataclass(frozen=True, slots=True)
class NotAppraised:
    """It cannot be loaded, or its files could not be had."""

    model: str
    generation: int
    error: PoolError


@dataclass(frozen=True, slots=True)
class Prepared:
    """The runtime was found; this is how to start it."""

    model: str
    generation: int
    plan: LaunchPlan


@dataclass(frozen=True, slots=True)
class Spawned:
    """A process exists."""

    model: str
    generation: int
    process: SpawnedProcess


@dataclass(frozen=True, slots=True)
class NotStarted:
    """There is no process: preparing or spawning failed."""

    model: str
    generation: int
    error: PoolError


@dataclass(frozen=True, slots=True)
class BecameReady:
    """The process listens at the endpoint and answers healthy."""

    model: str
    generation: int
    endpoint: str


@dataclass(frozen=True, slots=True)
class ListenerLost:
    """The process lives, and its endpoint is its own no more."""

    model: str
    generation: int


@dataclass(frozen=True, slots=True)
class UseReported:
    """How it is used now."""

    model: str
    generation: int
    activity: Activity


@dataclass(frozen=True, slots=True)
class Exited:
    """The process ended."""

    model: str
    generation: int
    report: ExitReport


@dataclass(frozen=True, slots=True)
class Swept:
    """Nothing is left of the process, its group and its descendants.

    killed: some of them had to be ended by SIGKILL.
    """

    model: str
    generation: int
    killed: bool = False


@dataclass(frozen=True, slots=True)
class StepBroke:
    """A command for this process ended in a way that is a bug of ours."""

    model: str
    generation: int
    command: str
    error: PoolError


@dataclass(frozen=True, slots=True)
class Adopted:
    """What an earlier service left of it was looked for: its process, if it had one."""

    model: str
    generation: int
    process: SpawnedProcess | None


@dataclass(frozen=True, slots=True)
class PulseTaken:
    """What a look at a READY server showed."""

    model: str
    generation: int
    pulse: Pulse


@dataclass(frozen=True, slots=True)
class LogRead:
    """What the process wrote last, oldest line first; nothing if that cannot be read."""

    model: str
    generation: int
    last_lines: tuple[str, ...]


ServerEvent = (
    Appraised
    | Fetching
    | Fetched
    | NotAppraised
    | Prepared
    | Spawned
    | NotStarted
    | BecameReady
    | ListenerLost
    | UseReported
    | Exited
    | Swept
    | StepBroke
    | Adopted
    | PulseTaken
    | LogRead
)


# --- commands ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Appraise:
    """Find out what it will need; answers Appraised or NotAppraised."""

    model: str
    generation: int
    settings: Settings


@dataclass(frozen=True, slots=True)
class Fetch:
    """Download its files; answers Fetching now and then, and Fetched or NotAppraised."""

    model: str
    generation: int
    settings: Settings


@dataclass(frozen=True, slots=True)
class CancelAppraise:
    """Give up what Appraise or Fetch began; nothing answers."""

    model: str
    generation: int


@dataclass(frozen=True, slots=True)
class Prepare:
    """Find the runtime and write down how to start it; answers Prepared or NotStarted."""

    model: str
    generation: int
    settings: Settings


@dataclass(frozen=True, slots=True)
class CancelPrepare:
    """Give up what Prepare began; nothing answers."""

    model: str
    generation: int


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the process; answers Spawned or NotStarted."""

    model: str
    generation: int
    plan: LaunchPlan


@dataclass(frozen=True, slots=True)
class AwaitExit:
    """Answer Exited when the process ends."""

    model: str
    generation: int
    identity: Identity


@dataclass(frozen=True, slots=True)
class AwaitReady:
    """Answer BecameReady when it is; nothing if the process ends before.

    again: it was READY under an earlier service; ListenerLost if it listens no more.
    """

    model: str
    generation: int
    identity: Identity
    plan: LaunchPlan
    probe_timeout: float
    again: bool = False


@dataclass(frozen=True, slots=True)
class CheckUse:
    """Look how the server is used; answers UseReported.

    plan: None, and endpoint: empty, where they are not known; pause: seconds until the look
    begins.
    """

    model: str
    generation: int
    identity: Identity
    plan: LaunchPlan | None
    endpoint: str
    probe_timeout: float
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class SendSignal:
    """Send the signal to the process's group."""

    model: str
    generation: int
    identity: Identity
    stop: StopSignal


@dataclass(frozen=True, slots=True)
class Sweep:
    """End what the process left behind; answers Swept.

    drain_time: seconds that it has for what is in flight on it, at the process's endpoint.
    """

    model: str
    generation: int
    identity: Identity
    endpoint: str = ""
    drain_time: float = 0.0


@dataclass(frozen=True, slots=True)
class HurrySweep:
    """Wait no longer for what is in flight on what the process left behind; nothing answers."""

    model: str
    generation: int
    identity: Identity


@dataclass(frozen=True, slots=True)
class Adopt:
    """Find the process that an earlier service left; answers Adopted."""

    model: str
    generation: int
    server: Server


@dataclass(frozen=True, slots=True)
class TakePulse:
    """Look whether it answers and moves; answers PulseTaken."""

    model: str
    generation: int
    identity: Identity
    plan: LaunchPlan
    endpoint: str
    log_path: str
    probe_timeout: float


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Read the last lines that it wrote; answers LogRead."""

    model: str
    generation: int
    log_path: str


ServerCommand = (
    Appraise
    | Fetch
    | CancelAppraise
    | Prepare
    | CancelPrepare
    | Spawn
    | AwaitExit
    | AwaitReady
    | CheckUse
    | SendSignal
    | Sweep
    | HurrySweep
    | Adopt
    | TakePulse
    | ReadLog
)
