"""Salvage: decides how a server goes on after its transition raised. Pure functions.

Such a transition has used up its event, and may have written only a part of its change. Still, the
server has to end up in a phase that some event or deadline ends, and its process must stay known.
`salvaged` and `_with_process` have the cases.
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
    BoundElsewhere,
    CleanedUp,
    CommandFailed,
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
    fails_callers: its waiters, holders and evictions are answered with an error.
    becomes_failed: `server` is still to be made FAILED, with that error.
    """

    server: Server | None
    commands: tuple[ServerCommand, ...] = ()
    fails_callers: bool = True
    becomes_failed: bool = False


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
    """Return how a server goes on after its transition raised, by what is known of its process.

    1. An event of callers or of the pool (`_OTHER_EVENTS`) raised before it changed the server: the
       server stays as it is.
    2. The process has exited: CLEANING_UP, with a CleanUp unless that was issued.
    3. There is no process: FAILED; removed if its time as FAILED is over, or it is not current.
    4. The process is being looked for: STOPPING, with an Adopt unless one is issued or under way.
    5. The process is being started: STOPPING; it is signalled on Spawned.
    6. The process is there: see `_with_process`.

    Callers are answered with an error, except in 1, and in 6 if the server goes on.
    """
    event, issued = breach.event, breach.issued
    if _is_untouched(server, breach):
        return Salvage(server, fails_callers=False)
    found = _found(event)
    if found is not None and server.identity is None:
        server = life.spawned(server, found, now)
    if _has_ended(event) and server.identity is not None:
        return _after_exit(server, event, issued, now)
    if _has_no_process(server, event, issued):
        return _without_process(server, event)
    if breach.adopting or isinstance(event, RecoveryBegan):
        return _while_looked_for(server, event, issued)
    if server.identity is None:
        return Salvage(_stopping(server))
    # The process is not watched yet if the adoption failed.
    is_new = found is not None or _is_failure_of(event, Adopt)
    return _with_process(server, breach, now, is_new=is_new)


def _is_untouched(server: Server, breach: Breach) -> bool:
    """Return whether one of `_OTHER_EVENTS` raised before it changed anything about the server."""
    if not isinstance(breach.event, _OTHER_EVENTS):
        return False
    return not any(_is_about(server, one) for one in breach.issued)


def _is_about(server: Server, command: object) -> bool:
    if isinstance(command, Publish):
        return command.server.id == server.id
    return getattr(command, "server_id", None) == server.id


def _after_exit(server: Server, event: object, issued: Sequence[object], now: float) -> Salvage:
    """Return the salvage of a server whose process has exited: a clean-up."""
    identity = server.identity
    assert identity is not None
    if server.phase is not Phase.CLEANING_UP:
        server = life.exited(server, _report(event), now)
    clean_up = CleanUp(server.id, identity)
    return Salvage(server, () if _cleans_up(identity, issued) else (clean_up,))


def _cleans_up(identity: Identity, issued: Sequence[object]) -> bool:
    return any(isinstance(one, CleanUp) and one.identity == identity for one in issued)


def _without_process(server: Server, event: object) -> Salvage:
    """Return the salvage of a server without a process: FAILED, or removed if it was FAILED."""
    over = server.phase is Phase.FAILED and isinstance(event, TimeReached)
    if over or server.role is not Role.CURRENT:
        return Salvage(None)
    if server.phase is Phase.PREPARING and not isinstance(event, _OF_A_START):
        return Salvage(server, (CancelPrepare(server.id),), becomes_failed=True)
    return Salvage(server, becomes_failed=True)


def _while_looked_for(server: Server, event: object, issued: Sequence[object]) -> Salvage:
    """Return the salvage of a server that is to be stopped once its process is found."""
    if server.phase not in life.LEAVING:
        server = life.stopping(server, Cause.CRASHED)
    is_issued = any(isinstance(one, Adopt) and one.server_id == server.id for one in issued)
    # Only these events begin a search, or have ended one: after any other one is under way.
    has_none = isinstance(event, Adopted | RecoveryBegan) or _is_failure_of(event, Adopt)
    return Salvage(server, (Adopt(server.id, server),) if has_none and not is_issued else ())


def _with_process(server: Server, breach: Breach, now: float, *, is_new: bool) -> Salvage:
    """Return the salvage of a server with a process.

    1. CLEANING_UP: it stays; the CleanUp is issued if the process is new.
    2. The transition sent a signal: STOPPING, as after that signal.
    3. It may stay (`_may_stay`), is not worn, and its process is not new: it stays.
    4. Else: STOPPING, with the next signal.

    is_new: the process is not watched yet; in 2 and 4 it is, from now on.
    """
    event, issued = breach.event, breach.issued
    identity = server.identity
    assert identity is not None
    if server.phase is Phase.CLEANING_UP:
        cleans_up = not is_new or _cleans_up(identity, issued)
        return Salvage(server, () if cleans_up else (CleanUp(server.id, identity),))
    watch = AwaitExit(server.id, identity)
    watches: tuple[ServerCommand, ...] = (watch,) if is_new and watch not in issued else ()
    sent = _sent(identity, issued)
    if sent is not None:
        return Salvage(life.signalled(_stopping(server), sent, now), watches)
    if not is_new and not breach.worn and _may_stay(server, event):
        return Salvage(server, fails_callers=is_own_event(event))
    stop = StopSignal.TERMINATE
    if server.phase is Phase.STOPPING and not is_new:
        stop = life.next_signal(server)
    signal = SendSignal(server.id, identity, stop)
    return Salvage(life.signalled(_stopping(server), stop, now), (*watches, signal))


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
    # The phase waited for this event, and none like it follows.
    was_awaited = isinstance(event, TimeReached | ShutdownEscalated | _OF_A_START | LogRead)
    if server.phase is Phase.STARTING:
        # It becomes READY, exits, or stands still.
        return not was_awaited
    return server.step_deadline < FOREVER and not was_awaited


def _stopping(server: Server) -> Server:
    if server.phase is Phase.STOPPING:
        return server
    return life.stopping(server, Cause.CRASHED)


_OF_A_START = Prepared | Spawned | NotStarted | BecameReady | Adopted | CommandFailed
_OWN_EVENTS = (
    TimeReached
    | ActivityReported
    | ServerProbed
    | ListenerLost
    | CommandFailed
    | BecameReady
    | BoundElsewhere
)
_OTHER_EVENTS = (
    EnsureRequested | WaiterLeft | HoldRequested | HoldEnded | ReloadRequested | MemorySampled
)
"""Events of callers and of the pool: a server that they have not changed yet stays as it is."""


def is_own_event(event: object) -> bool:
    """Return whether an event is about the server itself, or None: a rule after an event."""
    return event is None or isinstance(event, _OWN_EVENTS)


def _found(event: object) -> SpawnedProcess | None:
    """Return the process that the event brings, or None."""
    return event.process if isinstance(event, Spawned | Adopted) else None


def _has_ended(event: object) -> bool:
    return isinstance(event, Exited) or _is_failure_of(event, AwaitExit)


def _has_no_process(server: Server, event: object, issued: Sequence[object]) -> bool:
    if server.phase in life.WITHOUT_PROCESS:
        return True
    if isinstance(event, CleanedUp) or _is_failure_of(event, CleanUp):
        return server.phase is Phase.CLEANING_UP
    if server.identity is not None:
        return False
    if isinstance(event, Prepared):
        return not any(isinstance(one, Spawn) for one in issued)
    never_was = isinstance(event, NotStarted | Adopted)
    return never_was or _is_failure_of(event, Prepare, Spawn, Adopt)


def _is_failure_of(event: object, *commands: type) -> bool:
    """Return whether an event says that one of these commands failed."""
    return isinstance(event, CommandFailed) and isinstance(event.command, commands)


def _report(event: object) -> ExitReport:
    if isinstance(event, Exited):
        return event.report
    return ExitReport(None, None, Diagnosis.CRASHED, "how it ended could not be told")
