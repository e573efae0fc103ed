"""What callers ask of the pool (events), and what they are told (answers)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import PoolError
from pool_service.core.limits import Limits
from pool_service.core.types import FOREVER, Identity, Phase, Remembered, Server, Settings, Survey

INTERNAL = 0
"""The ticket of what the pool itself wants; nobody is answered."""


class Every(Enum):
    """More than one server at once, as the target of an eviction."""

    IDLE = "idle"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class EnsureRequested:
    """A caller wants `model` READY. Empty runtime_model, None: as configured.

    download: whether its files may be downloaded for it.
    """

    ticket: int
    model: str
    runtime_model: str = ""
    keep_alive: float | None = None
    download: bool | None = None


@dataclass(frozen=True, slots=True)
class WaiterLeft:
    """The caller of EnsureRequested waits no longer."""

    ticket: int


@dataclass(frozen=True, slots=True)
class HoldRequested:
    """A caller wants `model` READY from now on, until HoldEnded; `holder` is its own label.

    Answered only when the hold ends without its will.
    """

    ticket: int
    model: str
    runtime_model: str = ""
    keep_alive: float | None = None
    download: bool | None = None
    holder: str = ""


@dataclass(frozen=True, slots=True)
class HoldEnded:
    """The caller of HoldRequested holds no longer; nothing if it ended before."""

    ticket: int


@dataclass(frozen=True, slots=True)
class ReloadRequested:
    """From now on the configuration says this."""

    ticket: int
    catalogue: Catalogue
    limits: Limits


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What a look at the memory showed; None: it could not be looked at."""

    survey: Survey | None


@dataclass(frozen=True, slots=True)
class EvictRequested:
    """A caller wants servers gone; without force only those that are not in use."""

    ticket: int
    target: str | Every
    force: bool = False


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """The service ends: nothing new, and everything that runs is drained."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Hurried:
    """Whatever is STOPPING gets its next signal now; whatever will be, soon after its first."""


@dataclass(frozen=True, slots=True)
class TimeReached:
    """The moment that `next_deadline` named has come.

    away: for how many seconds the service did not run when it should have, since the
    machine slept or it was held up itself; 0 unless that is worth speaking of.
    """

    away: float = 0.0


@dataclass(frozen=True, slots=True)
class LeaveRequested:
    """The service ends and leaves its servers running for the next one."""


@dataclass(frozen=True, slots=True)
class RecoveryBegan:
    """The service has started; an earlier one left this behind."""

    remembered: Remembered


@dataclass(frozen=True, slots=True)
class StraysFound:
    """Processes of an earlier service of which no record tells: they are to end."""

    identities: tuple[Identity, ...]


@dataclass(frozen=True, slots=True)
class ForgetRequested:
    """A caller wants the runtime model forgotten that was named for `model`.

    Answered with that runtime model, which is empty if none was remembered.
    """

    ticket: int
    model: str


CallerEvent = (
    EnsureRequested
    | WaiterLeft
    | HoldRequested
    | HoldEnded
    | ReloadRequested
    | ForgetRequested
    | Surveyed
    | EvictRequested
    | ShutdownRequested
    | LeaveRequested
    | RecoveryBegan
    | StraysFound
    | Hurried
    | TimeReached
)


@dataclass(frozen=True, slots=True)
class RecoveryEnded:
    """Of everything that an earlier service left it is known how it is."""


@dataclass(frozen=True, slots=True)
class Ensured:
    """The answer to EnsureRequested: a READY server; whether this call started it."""

    server: Server
    started: bool


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload of the configuration changed, as names of models that have a server.

    replaced: start anew when they are next unused; removed: end when they are next unused;
    updated: go on, with other limits. restart_needed: keys that only a restart applies.
    problems: what keeps listed models from starting, each with its key and a remedy.
    """

    replaced: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restart_needed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Removed:
    """A server that an eviction removed, and whether it had to be killed for it."""

    server: Server
    killed: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over the whole pool, and its memory in bytes.

    memory_budget: FOREVER if there is no limit; memory_reserved: what its servers are
    expected to need; memory_available and memory_total: of the machine, 0 before the first
    look; memory_pressured: the machine is short of it; standbys:
    processes that have nothing left to do ahead and wait to become servers.
    """

    by_phase: Mapping[Phase, int]
    servers: int
    waiting_calls: int
    memory_budget: float = FOREVER
    memory_reserved: int = 0
    memory_available: int = 0
    memory_total: int = 0
    memory_pressured: bool = False
    standbys: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell the caller with this ticket; each is told exactly once."""

    ticket: int
    result: Ensured | tuple[Removed, ...] | Reloaded | str | PoolError


@dataclass(frozen=True, slots=True)
class TakeSurvey:
    """Look at the memory of the machine and of these servers; answers Surveyed."""

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
class Learn:
    """Remember that a server with these settings needed so many bytes."""

    settings: Settings
    needed: int


@dataclass(frozen=True, slots=True)
class RecordNamings:
    """Record all runtime models that callers named, by their models."""

    namings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Broke:
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
class Wait:
    """One who waits for a model.

    ticket: of its caller, INTERNAL if the pool itself wants it; runtime_model: what it
    named, empty if nothing; starts: its call is what started it; download: for it the
    model's files may be downloaded.
    """

    ticket: int
    runtime_model: str
    settings: Settings
    keep_alive: float | None
    starts: bool
    download: bool = False
