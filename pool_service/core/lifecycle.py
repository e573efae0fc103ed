"""The life of one server: events, commands, and the transitions between its phases.

    QUEUED ──► PREPARING ──► SPAWNING ──► STARTING ──► READY
      ▲            │             │            │          │
      │            │             └────────┬───┴──────────┘
      │            ▼                      ▼ asked to stop, or it died
    BACKING_OFF  FAILED ◄── SWEEPING ◄── STOPPING ──► (gone)
      ▲                        │
      └────────────────────────┘ died, and somebody waits

Rules
- Transitions are functions of a Server and what happened; they return the next
  Server. Which command goes with it is decided in `machine.py`.
- Every event of a process carries its generation; a stale one changes nothing.
- Each phase has at most one deadline, `deadline(server)`.
- A process is gone only when it was swept: nothing of it is left to hold a port
  or memory when the next generation starts.
"""

from dataclasses import dataclass, replace

from pool_service.core.errors import PoolError
from pool_service.core.types import (
    FOREVER,
    Cause,
    Exit,
    ExitReport,
    Identity,
    LaunchPlan,
    Phase,
    Pulse,
    Server,
    Settings,
    SpawnedProcess,
    StopSignal,
)

WITHOUT_PROCESS = frozenset({Phase.QUEUED, Phase.PREPARING, Phase.BACKING_OFF, Phase.FAILED})
"""Phases in which there cannot be a process."""

TAKES_A_SLOT = frozenset({Phase.PREPARING, Phase.SPAWNING, Phase.STARTING})
"""Phases that count as a start under way."""

LEAVING = frozenset({Phase.STOPPING, Phase.SWEEPING})
"""Phases on the way out: who asks for the model now waits for the next generation."""


# --- events: what happened to one process ---------------------------------------


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
class UseReported:
    """How many requests it works on; None: cannot be told, so taken as busy."""

    model: str
    generation: int
    requests: int | None


@dataclass(frozen=True, slots=True)
class Exited:
    """The process ended."""

    model: str
    generation: int
    report: ExitReport


@dataclass(frozen=True, slots=True)
class Swept:
    """Nothing is left of the process, its group and its descendants."""

    model: str
    generation: int


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


ServerEvent = (
    Prepared
    | Spawned
    | NotStarted
    | BecameReady
    | UseReported
    | Exited
    | Swept
    | StepBroke
    | Adopted
    | PulseTaken
)


# --- commands: what is to be done for one process --------------------------------


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
    """Answer BecameReady when it is; nothing if the process ends before."""

    model: str
    generation: int
    identity: Identity
    plan: LaunchPlan
    probe_timeout: float


@dataclass(frozen=True, slots=True)
class CheckUse:
    """Answer UseReported."""

    model: str
    generation: int
    identity: Identity
    plan: LaunchPlan
    endpoint: str
    probe_timeout: float


@dataclass(frozen=True, slots=True)
class SendSignal:
    """Send the signal to the process's group."""

    model: str
    generation: int
    identity: Identity
    stop: StopSignal


@dataclass(frozen=True, slots=True)
class Sweep:
    """End what the process left behind; answers Swept."""

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


ServerCommand = (
    Prepare
    | CancelPrepare
    | Spawn
    | AwaitExit
    | AwaitReady
    | CheckUse
    | SendSignal
    | Sweep
    | Adopt
    | TakePulse
)


# --- transitions -----------------------------------------------------------------


def queued(before: Server | None, model: str, settings: Settings, now: float) -> Server:
    """A server that wants to start; keeps what outlives a generation."""
    return Server(
        model=model,
        settings=settings,
        phase=Phase.QUEUED,
        generation=before.generation if before else 0,
        created_at=now,
        last_used_at=now,
        keep_alive=settings.keep_alive,
        last_exit=before.last_exit if before else None,
        crashes=before.crashes if before else (),
    )


def admitted(server: Server, generation: int) -> Server:
    """Its turn has come: a new generation begins."""
    return replace(server, phase=Phase.PREPARING, generation=generation)


def prepared(server: Server, plan: LaunchPlan) -> Server:
    """How to start it is known."""
    return replace(server, phase=Phase.SPAWNING, plan=plan)


def spawned(server: Server, process: SpawnedProcess, now: float) -> Server:
    """It has a process; from now on its start limit counts."""
    found = replace(server, identity=process.identity, log_path=process.log_path, spawned_at=now)
    if server.phase is Phase.STOPPING:
        return found
    return replace(found, phase=Phase.STARTING, step_deadline=now + server.settings.start_timeout)


def became_ready(server: Server, endpoint: str, now: float, next_pulse: float) -> Server:
    """It answers; from now on its keep alive counts (one that is READY again goes on)."""
    again = server.ready_at is not None
    return replace(
        server,
        phase=Phase.READY,
        endpoint=endpoint,
        ready_at=server.ready_at if again else now,
        last_used_at=server.last_used_at if again else now,
        step_deadline=next_pulse,
    )


def unproven(server: Server, now: float) -> Server:
    """It was READY under an earlier service, and has to show that it still is."""
    return replace(
        server,
        phase=Phase.STARTING,
        endpoint="",
        step_deadline=now + server.settings.start_timeout,
    )


def used(server: Server, keep_alive: float | None, now: float) -> Server:
    """Somebody used it, and may have said how long it should stay from now on."""
    kept = server.keep_alive if keep_alive is None else keep_alive
    return replace(server, last_used_at=now, keep_alive=kept)


def stopping(server: Server, cause: Cause) -> Server:
    """It is to end: `signalled` follows, at once or as soon as it has a process."""
    return replace(
        server,
        phase=Phase.STOPPING,
        stop_cause=cause,
        detail=cause.value,
        step_deadline=FOREVER,
    )


def signalled(server: Server, stop: StopSignal, now: float) -> Server:
    """The signal goes out; the next step is due if it does not help in time.

    The drain limit is for what is in flight, so only for one that was READY.
    """
    gentle = stop is StopSignal.TERMINATE
    drains = gentle and server.ready_at is not None
    limit = server.settings.drain_timeout if drains else server.settings.stop_timeout
    detail = server.detail if gentle else f"{server.detail}; did not end in time: {stop.value} sent"
    return replace(
        server,
        stop_signal=stop,
        step_deadline=now + limit,
        endpoint="",
        detail=server.detail if server.stop_signal is stop else detail,
    )


def next_signal(server: Server) -> StopSignal:
    """What to try after the last signal; SIGKILL again if even that did not do."""
    if server.stop_signal is StopSignal.TERMINATE:
        return StopSignal.INTERRUPT
    return StopSignal.KILL if server.stop_signal else StopSignal.TERMINATE


def exited(server: Server, report: ExitReport, now: float) -> Server:
    """Its process ended, asked or not; what it left behind is still to be swept."""
    cause = server.stop_cause or Cause.CRASHED
    return replace(
        server,
        phase=Phase.SWEEPING,
        endpoint="",
        step_deadline=FOREVER,
        stop_cause=cause,
        detail=report.message if cause is Cause.CRASHED else server.detail,
        last_exit=Exit(server.generation, cause, report, now),
    )


def died(server: Server, crashes: tuple[float, ...]) -> Server:
    """It died unasked, as it did at these times."""
    return replace(server, crashes=crashes)


def failed(server: Server, detail: str, now: float, forget_after: float) -> Server:
    """It has no process, and why is remembered for a while (`forget_after` seconds)."""
    return replace(
        _without_process(server),
        phase=Phase.FAILED,
        detail=detail,
        step_deadline=now + forget_after,
        retry_at=now,
        failure=None,
    )


def barred(server: Server, until: float, failure: PoolError | None) -> Server:
    """A FAILED one is not started again before `until`; who asks is told `failure` or waits."""
    return replace(server, retry_at=until, failure=failure)


def backing_off(server: Server, until: float) -> Server:
    """It is started again at `until`, since somebody waits for it."""
    return replace(
        _without_process(server), phase=Phase.BACKING_OFF, step_deadline=until, retry_at=until
    )


def _without_process(server: Server) -> Server:
    return replace(server, identity=None, plan=None, endpoint="", stop_cause=None, stop_signal=None)


def deadline(server: Server) -> float:
    """When something is due for it if nothing happens before."""
    if server.phase is Phase.READY:
        return min(server.expires_at, server.step_deadline)
    return server.step_deadline


def pulse_due(server: Server, at: float) -> Server:
    """When a READY server is looked at next; FOREVER while somebody looks."""
    return replace(server, step_deadline=at)
