"""What callers are told, and what they may name."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from pool_service.core.server import Phase, Server
from pool_service.core.types import FOREVER


class Every(Enum):
    """More than one server at once, as the target of an eviction."""

    IDLE = "idle"
    ALL = "all"


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
