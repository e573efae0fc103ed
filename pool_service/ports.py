"""Ports: the interfaces through which the pool reaches the outside, one Protocol for each part.

Each docstring is a promise to the driver (`pool.py`, `command_runner.py`): what is returned, in
which unit, and which errors may be raised. Any other error is a bug of the adapter; the driver logs
it and fails the command.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pool_service.core.activity import Activity
from pool_service.core.effective_settings import SandboxState
from pool_service.core.server import RecoveredState, Server, StopSignal
from pool_service.core.server_logs import LogPart, LogPosition, LogState
from pool_service.core.types import (
    EndpointState,
    Estimate,
    ExitReport,
    Identity,
    LaunchPlan,
    ListensElsewhere,
    MemorySample,
    ProbeResult,
    Settings,
    SpawnedProcess,
    Unready,
)

FetchProgress = Callable[[int, int], None]
"""Receives the bytes that are on disk and the bytes in total; a total of 0 is not known yet."""


class Clock(Protocol):
    """Measures time; goes on while the machine sleeps, and setting the wall clock has no effect."""

    def now(self) -> float:
        """Return the seconds since a fixed moment."""

    def wall(self, at: float) -> float:
        """Return the Unix time in seconds of the moment `at` of this clock."""


class Runtime(Protocol):
    """Finds and describes the program that serves models. Called before a start."""

    async def estimate(self, model: str, settings: Settings) -> Estimate:
        """Estimate the memory that the model's server needs, and whether its files are on disk.

        Downloads and starts nothing. Reads the files anew at each call.

        Raises:
            ModelRejected: the model cannot be served.
            CodeNotTrusted: its files contain code that the settings do not trust.
        """

    async def sandbox_state(self, settings: Settings) -> SandboxState:
        """Return whether a server with these settings is confined when it starts."""

    async def cached(self) -> tuple[str, ...]:
        """Return the ids of the models in the hub's cache; empty if it cannot be read."""

    async def fetch(self, model: str, settings: Settings, progress: FetchProgress) -> None:
        """Download the model's missing files, and call `progress` meanwhile.

        Cancelling keeps the downloaded bytes for the next call. Raises FetchFailed, ModelRejected.
        """

    def record_usage(self, settings: Settings, needed: int) -> None:
        """Remember, across restarts, that a server with these settings needed `needed` bytes."""

    def record_load(self, settings: Settings, seconds: float) -> None:
        """Remember, across restarts, that a server with these settings loaded in `seconds`."""

    async def prepare(self, model: str, settings: Settings) -> LaunchPlan:
        """Find or install the program and return how to start it for this model.

        An installation may take minutes; cancelling it leaves nothing behind.

        Raises:
            RuntimeUnavailable: there is no program, and none could be installed.
            ModelRejected: the program is already known to refuse the model.
        """


class Processes(Protocol):
    """Starts, watches and ends process trees.

    `identity` is always that of a tree's first process, the leader.
    """

    async def spawn(self, model: str, generation: int, plan: LaunchPlan) -> SpawnedProcess:
        """Start a process in its own session, with its output in a log file.

        The driver never cancels this call.

        Raises:
            RuntimeUnavailable: the plan's program is missing or not executable.
            StartFailed: the system lacks disk space, file descriptors or processes.
        """

    async def adopt(self, server: Server) -> SpawnedProcess | None:
        """Take over the process that an earlier service started for this server, alive or not.

        The process is then treated like a spawned one, but its exit code may stay unknown. Return
        None if the earlier service died before it had started a process.
        """

    async def orphans(self, nonces: Collection[str]) -> tuple[Identity, ...]:
        """Take over the orphans (processes of an earlier service without a record); return them.

        nonces: the nonces of all records. Called once, after all adoptions and before the first
        spawn.
        """

    async def exited(self, identity: Identity) -> ExitReport:
        """Wait until the process has ended, and return how."""

    async def signal(self, identity: Identity, stop: StopSignal) -> None:
        """Send a signal to the process's group; do nothing if this very process has ended."""

    async def last_lines(self, log_path: str) -> tuple[str, ...]:
        """Return the last lines of a log, the oldest first; empty if it cannot be read."""

    async def clean_up(
        self, identity: Identity, endpoint: str = "", drain_time: float = 0.0
    ) -> bool:
        """End the descendants of an exited process; return when they are gone.

        Descendants that work on requests at `endpoint` (empty: not known) have `drain_time`
        seconds to finish them before they get a signal. Return True if any had to be killed.
        """

    def escalate(self, identity: Identity) -> None:
        """End the drain of a running `clean_up`: signal the descendants now."""


class Standbys(Protocol):
    """Keeps standbys: processes that have done the part of a start that needs no model.

    `Processes.spawn` turns a standby into a server. Standbys end with the service.
    """

    def keep(self, settings: Settings, *, wanted: int, allowed: int, refill: bool) -> None:
        """Set how many standbys to keep for servers with these settings; return at once.

        wanted: how many to keep if memory permits; 0: none, and none is prepared.
        allowed: the number that memory permits; standbys beyond it are ended.
        refill: whether missing standbys may be started now.
        """

    @property
    def count(self) -> int:
        """The number of standbys that are ready to become a server."""


class Probe(Protocol):
    """Sends probes to servers. A probe never counts as activity of the server."""

    async def ready(
        self, identity: Identity, plan: LaunchPlan, probe_timeout: float, *, again: bool = False
    ) -> str | Unready | ListensElsewhere:
        """Wait until this very process listens and its health path answers; return its base URL.

        again: the server was READY under an earlier service. Return an Unready if the server
        will not become ready, and a ListensElsewhere if its plan says where it must listen, and
        it answers at another address.
        """

    def endpoint_state(self, identity: Identity, endpoint: str) -> EndpointState:
        """Return whether the endpoint is still the server's own.

        Called on the event loop whenever an endpoint is handed out: takes microseconds where the
        system has a quick answer, else uses the last proof.
        """

    async def check_activity(
        self, identity: Identity, plan: LaunchPlan | None, endpoint: str, probe_timeout: float
    ) -> Activity:
        """Return a server's requests in flight and its signs of activity since the last check.

        plan: None if not known. endpoint: empty if not known. probe_timeout: in seconds.
        """

    async def check_liveness(
        self,
        identity: Identity,
        plan: LaunchPlan,
        endpoint: str,
        log_path: str,
        probe_timeout: float,
    ) -> ProbeResult:
        """Return whether a server listens, how its health path answers, and signs of progress."""


class Memory(Protocol):
    """Samples the memory of the machine and of the servers' process trees."""

    async def sample(self, servers: Collection[Server]) -> MemorySample:
        """Return the machine's memory and the bytes that each server's process tree takes."""


class Logs(Protocol):
    """Reads what servers have written. `probed`: the URL paths whose access log lines are left out.

    Logs are kept for some generations of a model, and trimmed at their beginning. Methods raise
    OSError if a log that is kept cannot be read.
    """

    async def generations(self, model: str) -> tuple[int, ...]:
        """Return the generations of a model whose logs are kept, in their order."""

    async def seek(
        self, model: str, generation: int, lines: int | None, probed: Collection[str]
    ) -> LogPosition | None:
        """Return the position from which the last `lines` lines of a log follow.

        lines: None: all lines. Return None if the log is not kept any more.
        """

    async def states(self, logs: Sequence[tuple[str, int]]) -> list[LogState | None]:
        """Return the states of logs, each by its model and generation; None: it is not kept.

        Costs little. Raises no error: `read` does for a log that cannot be looked at.
        """

    async def read(
        self,
        model: str,
        position: LogPosition,
        probed: Collection[str],
        *,
        ended: bool,
        with_rest: bool,
    ) -> LogPart | None:
        """Return the complete lines after a position, as many as are read at once.

        ended: the process has ended, so that an incomplete last line is complete. with_rest: return
        the incomplete line, too. If another file has the name meanwhile, return its first complete
        lines, after which neither its incomplete line nor its end was handed out; None if the log
        is not kept any more.
        """


class Records(Protocol):
    """Keeps the pool's state on disk, so that the next service can recover it.

    Times in a server are of the pool's clock, which begins anew at a reboot. No method raises an
    error when the disk fails: the pool goes on from memory, `degraded_reason` says why, and
    changes are written when the disk works again.
    """

    def put(self, server: Server) -> None:
        """Record a server's state; return at once, before it is on disk. Called at each change."""

    def remove(self, server: Server) -> None:
        """Record that a server is gone; its generation and last exit are kept. Returns at once."""

    def put_namings(self, namings: Mapping[str, str]) -> None:
        """Record all runtime models that callers have named, by model; return at once."""

    def put_pins(self, pins: Mapping[str, bool]) -> None:
        """Record all that callers of Pin have said, by model; return at once."""

    async def servers_settled(self) -> None:
        """Wait until every change of a server so far is on disk or could not be written.

        Starts and signals of servers wait for this, and so for no flush of namings and pins.
        """

    async def settled(self) -> None:
        """Wait until every change so far is on disk or could not be written.

        Namings and pins then survive a power failure; on a busy disk that takes seconds.
        """

    async def load(self) -> RecoveredState:
        """Return the state that an earlier service left; called once, before any change."""

    @property
    def degraded_reason(self) -> str:
        """The reason why changes are not written at present, for people; empty if they are."""


class Events(Protocol):
    """Keeps the pool's story on disk: changes of servers, and calls (`event_records.py`)."""

    def write(self, event: Mapping[str, object], at: float | None = None) -> None:
        """Have an event written; return at once, and never raise an error.

        event: of values that JSON has. at: its Unix time in seconds; the present one if None.
        """


@dataclass(frozen=True, slots=True)
class World:
    """The adapters of all ports that the pool uses.

    more_notices: returns what works less well than it should besides the records: a sentence each.
    """

    clock: Clock
    runtime: Runtime
    processes: Processes
    standbys: Standbys
    probe: Probe
    memory: Memory
    records: Records
    events: Events
    logs: Logs
    more_notices: Callable[[], Sequence[str]] = tuple

    def notices(self) -> list[str]:
        """Return what works less well than it should: a sentence each."""
        return list(filter(None, (self.records.degraded_reason, *self.more_notices())))
