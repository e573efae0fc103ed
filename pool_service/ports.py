"""What the pool needs of the world, one Protocol for each outside thing.

Each docstring says who calls it, when, and what it may raise. Whatever else is
raised is a bug, which the driver logs and turns into the failure of that step.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from pool_service.core.activity import Activity
from pool_service.core.server import RecoveredState, Server, StopSignal
from pool_service.core.types import (
    EndpointState,
    Estimate,
    ExitReport,
    Identity,
    LaunchPlan,
    MemorySample,
    ProbeResult,
    Settings,
    SpawnedProcess,
    Unready,
)

FetchProgress = Callable[[int, int], None]
"""Told the bytes that are on disk, and those that will be; 0 while that is not known."""


class Clock(Protocol):
    """Time that goes on while the machine sleeps and that nobody can set."""

    def now(self) -> float:
        """Seconds since some fixed moment."""

    def wall(self, at: float) -> float:
        """The Unix time, in seconds, of the moment `at` of this clock."""


class Runtime(Protocol):
    """Knows the program that serves models. Called by the driver before a start."""

    async def estimate(self, model: str, settings: Settings) -> Estimate:
        """What its server will need of memory, and whether it can be loaded from the disk.

        Downloads nothing, starts nothing, and looks afresh each time. Raises ModelRejected,
        or CodeNotTrusted where the files bring code that the settings do not trust.
        """

    async def cached(self) -> tuple[str, ...]:
        """Return the ids of the models in the cache of the hub; nothing where it cannot be read."""

    async def fetch(self, model: str, settings: Settings, progress: FetchProgress) -> None:
        """Download what is missing of the model's files; nothing if nothing is.

        Calls `progress` with the bytes that are there and that there will be. Cancelling
        keeps what was fetched for the next time. Raises FetchFailed or ModelRejected.
        """

    def record_usage(self, settings: Settings, needed: int) -> None:
        """Remember, over restarts, that a server with these settings needed so many bytes."""

    async def prepare(self, model: str, settings: Settings) -> LaunchPlan:
        """Find (or provision) the program and write down how to start it.

        May take minutes where it provisions; cancelling leaves nothing behind.
        Raises RuntimeUnavailable, or ModelRejected where that can be told early.
        """


class Processes(Protocol):
    """Starts, watches and ends processes, each with its group and descendants."""

    async def spawn(self, model: str, generation: int, plan: LaunchPlan) -> SpawnedProcess:
        """Start a process in a session of its own, its output in a log file.

        Never cancelled by the driver. Raises RuntimeUnavailable (not a program)
        or StartFailed (no room for a log, no descriptors, no processes).
        """

    async def adopt(self, server: Server) -> SpawnedProcess | None:
        """Take over the process that an earlier service left, alive or not.

        From then on it is like one that was spawned here, but that its exit code may
        not be known. None: the service died before there was a process.
        """

    async def strays(self, nonces: Collection[str]) -> tuple[Identity, ...]:
        """Take over what an earlier service started and no record tells of.

        nonces: those of all records. Called once, after all adoptions and before the
        first spawn.
        """

    async def exited(self, identity: Identity) -> ExitReport:
        """Wait for the process to end; returns within moments of its end."""

    async def signal(self, identity: Identity, stop: StopSignal) -> None:
        """Send a signal to its group, if it is still this process; else nothing."""

    async def last_lines(self, log_path: str) -> tuple[str, ...]:
        """What a process wrote last, oldest line first; nothing if that cannot be read."""

    async def clean_up(
        self, identity: Identity, endpoint: str = "", drain_time: float = 0.0
    ) -> bool:
        """After its exit: end what it left behind; returns when all of it is gone.

        What works on requests, at the process's endpoint, has `drain_time` seconds to finish
        them before it gets a signal. True: some of it had to be killed.
        """

    def escalate(self, identity: Identity) -> None:
        """Let a sweep of it that is under way wait for no request any longer."""


class Standbys(Protocol):
    """Keeps processes that have done all that can be done ahead of a start.

    They are used by `Processes.spawn`, are no servers, and end with the service.
    """

    def keep(self, settings: Settings, *, wanted: int, allowed: int, refill: bool) -> None:
        """From now on so many may wait, for servers with these settings; returns at once.

        wanted: as configured, 0 if nothing is to be done ahead at all; allowed: as many as
        there is room for, the others are ended; refill: those that lack may be started.
        """

    @property
    def count(self) -> int:
        """How many wait that have nothing left to do ahead."""


class Probe(Protocol):
    """Talks to servers. Nothing that it does counts as a use of them."""

    async def ready(
        self, identity: Identity, plan: LaunchPlan, probe_timeout: float, *, again: bool = False
    ) -> str | Unready:
        """Wait until this very process listens and answers healthy.

        again: it was READY under an earlier service. Returns the endpoint's base URL, or why
        it will not be ready.
        """

    def endpoint_state(self, identity: Identity, endpoint: str) -> EndpointState:
        """Tell whether the endpoint is still the server's own.

        Called on the event loop whenever an endpoint is handed out: takes microseconds where
        the system has a quick answer, and else goes by the last `result`.
        """

    async def use(
        self, identity: Identity, plan: LaunchPlan | None, endpoint: str, probe_timeout: float
    ) -> Activity:
        """Return how many requests a server works on, and signs of its use since the last look.

        plan: None, and endpoint: empty, where that is not known.
        """

    async def check_liveness(
        self,
        identity: Identity,
        plan: LaunchPlan,
        endpoint: str,
        log_path: str,
        probe_timeout: float,
    ) -> ProbeResult:
        """Return whether a server still listens, how its health path answers, and what moved."""


class Memory(Protocol):
    """Looks at the memory of the machine and of the servers' processes."""

    async def sample(self, servers: Collection[Server]) -> MemorySample:
        """The machine, and what each of these servers takes with all that descends from it."""


class Records(Protocol):
    """Remembers the pool beyond the life of the service, on disk.

    Times in a server are of the pool's clock, which begins anew at a reboot. No
    method raises where the disk fails: the pool goes on from memory, `trouble`
    says what is wrong, and what was put is written when the disk is back.
    """

    def put(self, server: Server) -> None:
        """This is now what is known of the model; called after every change, returns at once."""

    def remove(self, server: Server) -> None:
        """The model has no server any more; its generation and last exit stay known."""

    def put_namings(self, namings: Mapping[str, str]) -> None:
        """These are now all runtime models that callers named, by model; returns at once."""

    async def settled(self) -> None:
        """Return when everything put so far is on disk, or has failed to get there."""

    async def load(self) -> RecoveredState:
        """What an earlier service left; called once, before anything is put."""

    @property
    def trouble(self) -> str:
        """Why changes do not reach the disk at present, in words; empty if they do."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside of the pool."""

    clock: Clock
    runtime: Runtime
    processes: Processes
    standbys: Standbys
    probe: Probe
    memory: Memory
    records: Records
