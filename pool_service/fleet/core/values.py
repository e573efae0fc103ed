"""The values that the front decides about."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto


class ServerState(Enum):
    """What a server is doing, as far as it matters here."""

    QUEUED = auto()
    STARTING = auto()
    READY = auto()
    BACKING_OFF = auto()
    STOPPING = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class SeenServer:
    """A server as its member has told it.

    is_current: callers of its model get it, or wait for it.
    needed: bytes that it is expected to need.
    revision: the member's revision of this state.
    message: what else the member has sent; nothing here looks into it.
    """

    host: str
    model: str
    generation: int
    state: ServerState
    is_current: bool = True
    needed: int = 0
    runtime_model: str = ""
    revision: int = 0
    message: object = field(default=None, compare=False)

    @property
    def key(self) -> tuple[str, int]:
        """The server among those of its host: its model and its generation."""
        return self.model, self.generation

    @property
    def lives(self) -> bool:
        """Whether a caller of its model gets it, now or once it is READY."""
        ended = self.state in (ServerState.STOPPING, ServerState.FAILED)
        return self.is_current and not ended


class Presence(Enum):
    """Whether the front sees a member."""

    EXPECTED = auto()
    """It has not told its servers since the front knows of it."""
    PRESENT = auto()
    """It tells its servers, and answers."""
    SUSPECT = auto()
    """It has just fallen silent. Its models wait for it."""
    LOST = auto()
    """It has been silent for so long that its models are placed elsewhere."""


class Verdict(IntEnum):
    """Ranks what an Ensure would do at a member; see OfferVerdict in the proto file."""

    WARM = 1
    FITS = 2
    EVICTS = 3
    WAITS = 4
    NEVER = 5


@dataclass(frozen=True, slots=True)
class Offer:
    """A member's answer to the question what an Ensure of a model would do there.

    Sizes in bytes. on_disk: None if unknown. usual_load: seconds; None if unknown. free: what no
    server takes; None: without a limit. evictable: what servers take that may be stopped.
    reason: of the error with which the call would fail. revision: of the member's state then.
    """

    verdict: Verdict
    model: str
    on_disk: bool | None = None
    usual_load: float | None = None
    needed: int = 0
    free: int | None = None
    evictable: int = 0
    reason: str = ""
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What a member says of itself at each beat.

    reachable: its servers' endpoints can be reached from other hosts.
    epoch, front: the highest epoch that it has seen, and of which front.
    front_heard: seconds since that front called last; None: not since the member started.
    hold_grace: seconds for which it keeps a vanished front's holds.
    totals: what the member has sent; nothing here looks into it.
    """

    reachable: bool = True
    epoch: int = 0
    front: str = ""
    front_heard: float | None = None
    hold_grace: float = 0.0
    version: str = ""
    notices: tuple[str, ...] = ()
    totals: object = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class CatalogueNames:
    """The names of one member's catalogue: the model that each alias means, and all models.

    models: in order, as a set of thousands of names takes eight times as much.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()

    def lists(self, model: str) -> bool:
        """Return whether the catalogue has a model."""
        place = bisect_left(self.models, model)
        return place < len(self.models) and self.models[place] == model


@dataclass(frozen=True, slots=True)
class Lead:
    """Who may place.

    leads: this front does. epoch: of the present leader; 0: unknown, or left to the members, of
    whom the front asks the highest. address: where other fronts reach the leader; empty: unknown.
    until: the time.monotonic() until which this front may place without another word.
    """

    leads: bool
    epoch: int = 0
    address: str = ""
    until: float = float("inf")


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a call of a model goes.

    least_generation: of a server that the call starts there.
    epoch: with which the call is sent. may_move: if the member refuses the call for a reason of its
    host, another host is tried.
    """

    host: str
    model: str
    least_generation: int
    epoch: int
    may_move: bool = True
