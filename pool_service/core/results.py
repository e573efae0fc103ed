"""Results of requests, and the targets of evictions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from pool_service.core.server import Phase, Server
from pool_service.core.types import FOREVER


class Every(Enum):
    """A target of an eviction that is more than one server."""

    IDLE = "idle"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Ensured:
    """The answer to EnsureRequested: a READY server; started: this call started it."""

    server: Server
    started: bool


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The answer to ReloadRequested: the models whose servers the reload affects.

    replaced: their servers start anew when they are next unused.
    updated: their servers go on with other settings.
    removed: their servers end when they are next unused.
    restart_needed: keys of the configuration that only a restart applies.
    problems: reasons why listed models cannot start, each with its key and a remedy.
    """

    replaced: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restart_needed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def in_words(self) -> str:
        """The number of models and keys of each kind, in words."""
        counts = {name.replace("_", " "): len(getattr(self, name)) for name in self.__slots__}
        found = [f"{count} {name}" for name, count in counts.items() if count]
        return ", ".join(found) or "no server is affected"


@dataclass(frozen=True, slots=True)
class Pinned:
    """The answer to PinRequested.

    pinned: the model is pinned now; changed: that was otherwise before.
    configured: the configuration pins it.
    noted: what is remembered of calls has changed; by_call: something is remembered.
    """

    pinned: bool
    changed: bool
    configured: bool
    noted: bool = False
    by_call: bool = False

    @property
    def in_words(self) -> str:
        """The state of the pin, in words."""
        if self.changed:
            return "pinned" if self.pinned else "no longer pinned"
        state = "pinned" if self.pinned else "not pinned"
        return f"still {state}, now {'by a call' if self.by_call else 'as configured'}"


@dataclass(frozen=True, slots=True)
class Removed:
    """A server that an eviction removed; killed: SIGKILL was needed."""

    server: Server
    killed: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over the whole pool. Sizes in bytes.

    memory_budget: FOREVER: no limit.
    memory_reserved: the reservations of all servers together.
    memory_available, memory_total: of the machine; 0 before the first sample.
    memory_pressured: the machine was short of memory in the last samples.
    memory_current: the last sample still says how the machine is; else memory_available and
    memory_pressured are of the past.
    standbys: standby processes that are ready to become servers.
    waiting_by_model: the calls that wait for each model; a model without any is left out.
    """

    by_phase: Mapping[Phase, int]
    servers: int
    waiting_calls: int
    memory_budget: float = FOREVER
    memory_reserved: int = 0
    memory_available: int = 0
    memory_total: int = 0
    memory_pressured: bool = False
    memory_current: bool = False
    standbys: int = 0
    waiting_by_model: Mapping[str, int] = field(default_factory=dict)
