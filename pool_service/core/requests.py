"""What callers ask of the pool (events), and what they are told (answers)."""

from dataclasses import dataclass
from enum import Enum

from pool_service.core.errors import PoolError
from pool_service.core.types import Identity, Phase, Remembered, Server, Settings


class Every(Enum):
    """More than one server at once, as the target of an eviction."""

    IDLE = "idle"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class EnsureRequested:
    """A caller wants `model` READY. Empty runtime_model, keep_alive None: as configured."""

    ticket: int
    model: str
    runtime_model: str = ""
    keep_alive: float | None = None


@dataclass(frozen=True, slots=True)
class WaiterLeft:
    """The caller of EnsureRequested waits no longer."""

    ticket: int
    model: str


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


CallerEvent = (
    EnsureRequested
    | WaiterLeft
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
    """

    replaced: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restart_needed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Removed:
    """A server that an eviction removed, and whether it had to be killed for it."""

    server: Server
    killed: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell the caller with this ticket; each is told exactly once."""

    ticket: int
    result: Ensured | tuple[Removed, ...] | PoolError


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell everybody who watches: this server is now like this, or is gone.

    before: the phase that it was in, None if it is new.
    """

    server: Server
    before: Phase | None
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """One caller who waits for a model.

    runtime_model: what it named, empty if nothing; starts: its call is what started it.
    """

    ticket: int
    runtime_model: str
    settings: Settings
    keep_alive: float | None
    starts: bool
