"""Salvage: decides how a server goes on after its transition raised. Pure functions.

Such a transition has used up its event, and may have written only a part of its change. Still, the
server has to end up in a phase that some event or deadline ends, and its process must stay known:
1. a start without a process is FAILED;
2. a process that is not watched yet is watched;
3. a server that cannot stay as it is drains and ends;
4. a READY server goes on, unless that failed too often.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pool_service.core import lifecycle as life
from pool_service.core.commands import (
    Adopt,
    AwaitExit,
    CancelPrepare,
    CleanUp,
    Prepare,
    Publish,
    SendSignal,
    ServerCommand,
    Spawn,
)
from pool_service.core.events import (
    ActivityReported,
    Adopted,
    BecameReady,
    CleanedUp,
    EnsureRequested,
    EvictRequested,
    Exited,
    HoldEnded,
    HoldRequested,
    ListenerLost,
    LogRead,
    MemorySampled,
    NotStarted,
    Prepared,
    RecoveryBegan,
    ReloadRequested,
    ServerProbed,
    ShutdownEscalated,
    ShutdownRequested,
    Spawned,
    StepFailed,
    TimeReached,
    WaiterLeft,
)
from pool_service.core.server import Cause, Phase, Role, Server, StopSignal
from pool_service.core.types import FOREVER, Diagnosis, ExitReport, Identity, SpawnedProcess

RETRY_PAUSE_S = 15.0
"""The time before a check or probe is repeated after one that failed by an internal error."""

MAX_FAULTS = 3
"""The number of checks and probes that may fail by internal errors before the server is stopped:
without checks it would never be found unused."""


@dataclass(frozen=True, slots=True)
class Salvage:
    """A decision on how a server goes on, with the commands that this takes.

    server: its next value; None: it is removed.
    fails: its waiters, holders and evictions are answered with an error.
    has_failed: it has no process, and is to be FAILED.
    """

    server: Server | None
    commands: tuple[ServerCommand, ...] = ()
    fails: bool = True
    has_failed: bool = False


@dataclass(frozen=True, slots=True)
class Breach:
    """The circumstances in which a transition raised.

    event: the event it handled; None: it followed from a rule after an event.
    issued: the commands issued so far.
    adopting: the process of the server is being looked for.
    worn: checks and probes of the server have failed MAX_FAULTS times.
    """

    event: object
    issued: Sequence[object]
    adopting: bool = False
    worn: bool = False


def salvaged(server: Server, breach: Breach, now: float) -> Salvage:
    """Return how a server goes on after its transition raised."""
    event, issued = breach.event, breach.issued
    if _is_untouched(server, breach):
        return Salvage(server, fails=False)
    found = _found(event)
    if found is not None and server.identity is None:
        server = life.spawned(server, found, now)
    if _has_ended(event) and server.identity is not None:
        return _clean_up_next(server, event, issued, now)
    if _has_no_process(server, event, issued):
        return _failed(server, event)
    if breach.adopting or isinstance(event, RecoveryBegan):
        return _looked_for(server, event, issued)
    if server.identity is None:
        return Salvage(_stopping(server))
    # The process is not watched yet if the adoption failed.
    is_new = found is not None or _broke(event, Adopt)
    return _with_process(server, breach, now, is_new=is_new)


def _is_untouched(server: Server, breach: Breach) -> bool:
    """Return whether a request raised before it changed anything about the server."""
    if not isinstance(breach.event, _ASKED):
        return False
    return not any(_is_about(server, one) for one in breach.issued)


def _is_about(server: Server, command: object) -> bool:
    if isinstance(command, Publish):
        return command.server.id == server.id
    return getattr(command, "server_id", None) == server.id


def _clean_up_next(server: Server, event: object, issued: Sequence[object], now: float) -> Salvage:
    """Return the salvage of a server whose process has exited: a clean-up."""
    identity = server.identity
    assert identity is not None
    if server.phase is not Phase.CLEANING_UP:
        server = life.exited(server, _report(event), now)
    clean_up = CleanUp(server.id, identity)
    return Salvage(server, () if _cleans_up(identity, issued) else (clean_up,))


def _cleans_up(identity: Identity, issued: Sequence[object]) -> bool:
    return any(isinstance(one, CleanUp) and one.identity == identity for one in issued)


def _failed(server: Server, event: object) -> Salvage:
    """Return the salvage of a server without a process: FAILED, or removed if it was FAILED."""
    over = server.phase is Phase.FAILED and isinstance(event, TimeReached)
    if over or server.role is not Role.CURRENT:
        return Salvage(None)
    if server.phase is Phase.PREPARING and not isinstance(event, _OF_A_START):
        return Salvage(server, (CancelPrepare(server.id),), has_failed=True)
    return Salvage(server, has_failed=True)


def _looked_for(server: Server, event: object, issued: Sequence[object]) -> Salvage:
    """Return the salvage of a server that is to be stopped once its process is found."""
    there = any(isinstance(one, Adopt) and one.server_id == server.id for one in issued)
    is_leaving = server.phase in life.LEAVING
    server = server if is_leaving else life.stopping(server, Cause.CRASHED)
    adopt = Adopt(server.id, server)
    sought = not isinstance(event, Adopted | RecoveryBegan) and not _broke(event, Adopt)
    return Salvage(server, () if there or sought else (adopt,))


def _with_process(server: Server, breach: Breach, now: float, *, is_new: bool) -> Salvage:
    """Return the salvage of a server with a process: it stays if it can, else it is stopped."""
    event, issued = breach.event, breach.issued
    identity = server.identity
    assert identity is not None
    watch = AwaitExit(server.id, identity)
    commands: tuple[ServerCommand, ...] = (watch,) if is_new and watch not in issued else ()
    if server.phase is Phase.CLEANING_UP:
        clean_up = CleanUp(server.id, identity)
        again = is_new and not _cleans_up(identity, issued)
        return Salvage(server, (clean_up,) if again else ())
    sent = _sent(identity, issued)
    if sent is not None:
        return Salvage(life.signalled(_stopping(server), sent, now), commands)
    if not is_new and not breach.worn and _may_stay(server, event):
        return Salvage(server, fails=is_look(event))
    stop = StopSignal.TERMINATE
    if server.phase is Phase.STOPPING and not is_new:
        stop = life.next_signal(server)
    told = life.signalled(_stopping(server), stop, now)
    signal = SendSignal(server.id, identity, stop)
    return Salvage(told, (*commands, signal))


def _sent(identity: Identity, issued: Sequence[object]) -> StopSignal | None:
    """Return the signal that the transition has sent to the process, or None."""
    signals = [one for one in issued if isinstance(one, SendSignal)]
    return next((one.stop for one in signals if one.identity == identity), None)


def _may_stay(server: Server, event: object) -> bool:
    """Return whether a server may stay as it is, since an event or deadline still leads on."""
    if isinstance(event, ShutdownRequested) or (isinstance(event, EvictRequested) and event.force):
        return server.phase is Phase.STOPPING and server.step_deadline < FOREVER
    if server.phase is Phase.READY:
        return True
    is_own = isinstance(event, TimeReached | ShutdownEscalated | _OF_A_START | LogRead)
    return server.step_deadline < FOREVER and not is_own


def _stopping(server: Server) -> Server:
    if server.phase is Phase.STOPPING:
        return server
    return life.stopping(server, Cause.CRASHED)


_OF_A_START = Prepared | Spawned | NotStarted | BecameReady | Adopted | StepFailed
_LOOKS = TimeReached | ActivityReported | ServerProbed | ListenerLost | StepFailed | BecameReady
_ASKED = EnsureRequested | WaiterLeft | HoldRequested | HoldEnded | ReloadRequested | MemorySampled


def is_look(event: object) -> bool:
    """Return whether an event is about the server's own life, and not about a request."""
    return event is None or isinstance(event, _LOOKS)


def _found(event: object) -> SpawnedProcess | None:
    """Return the process that the event brings, or None."""
    return event.process if isinstance(event, Spawned | Adopted) else None


def _has_ended(event: object) -> bool:
    return isinstance(event, Exited) or _broke(event, AwaitExit)


def _has_no_process(server: Server, event: object, issued: Sequence[object]) -> bool:
    if server.phase in life.WITHOUT_PROCESS:
        return True
    if isinstance(event, CleanedUp) or _broke(event, CleanUp):
        return server.phase is Phase.CLEANING_UP
    if server.identity is not None:
        return False
    if isinstance(event, Prepared):
        return not any(isinstance(one, Spawn) for one in issued)
    never_was = isinstance(event, NotStarted | Adopted)
    return never_was or _broke(event, Prepare, Spawn, Adopt)


def _broke(event: object, *commands: type) -> bool:
    return isinstance(event, StepFailed) and isinstance(event.command, commands)


def _report(event: object) -> ExitReport:
    if isinstance(event, Exited):
        return event.report
    return ExitReport(None, None, Diagnosis.CRASHED, "how it ended could not be told")
