"""Transitions that raise: any method of the machine, before or after it has done its work."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FunctionType, UnionType
from typing import Any

from pool_service.core import commands, lifecycle, measuring, replacement
from pool_service.core.callers import Callers
from pool_service.core.commands import Command, LogInternalError, Publish, SampleMemory
from pool_service.core.events import Event, TimeReached
from pool_service.core.eviction_requests import EvictionRequests
from pool_service.core.failure_display import FailureDisplay
from pool_service.core.home_model import HomeModel
from pool_service.core.idle import IdleChecks
from pool_service.core.internal_errors import FailedCommands
from pool_service.core.machine import Machine
from pool_service.core.readiness import ReadyServers
from pool_service.core.reconfigure import Reconfiguration
from pool_service.core.recycler import Recycler
from pool_service.core.requests import Requests
from pool_service.core.sampler import Sampler
from pool_service.core.scheduler import Scheduler
from pool_service.core.server import Server, ServerId
from pool_service.core.service_recovery import Recovery
from pool_service.core.standby_policy import StandbyPolicy
from pool_service.core.state import PoolState
from pool_service.core.stopper import Stopper
from pool_service.core.supervisor import Supervisor
from pool_service.core.timers import Timers
from tests.core.invariants import Ledger

Place = tuple[Any, str]
"""A class or a module, and the name of what is called in it."""

PARTS = (
    PoolState,
    Callers,
    Stopper,
    FailureDisplay,
    Supervisor,
    IdleChecks,
    ReadyServers,
    Sampler,
    Scheduler,
    Recycler,
    StandbyPolicy,
    HomeModel,
    Timers,
    Reconfiguration,
    Recovery,
    Requests,
    EvictionRequests,
    FailedCommands,
)
"""All but what contains what breaks."""


def _is_called(name: str, what: object) -> bool:
    return isinstance(what, FunctionType) and not name.startswith("__")


PLACES: list[Place] = [
    (part, name) for part in PARTS for name, what in vars(part).items() if _is_called(name, what)
]
PLACES += [
    (Machine, name)
    for name in ("_dispatch", "_dispatch_of", "_on_memory_sampled", "_on_orphans_found")
]
PLACES += [
    (module, name)
    for module in (lifecycle, measuring, replacement)
    for name, what in vars(module).items()
    if isinstance(what, FunctionType) and what.__module__ == module.__name__
]
NAMES = [name for _, name in PLACES]


class BugError(Exception):
    """What is raised in the middle of a transition."""


@dataclass
class Fault:
    """Raises at the call number `at` of what it is armed for, after the work if `late`."""

    place: Place | None = None
    late: bool = False
    at: int = 1
    struck: int = 0

    def arm(self, place: Place, at: int, *, late: bool) -> None:
        self.place, self.at, self.late = place, at, late

    def disarm(self) -> None:
        self.place = None

    def _strikes(self, place: Place, *, late: bool) -> bool:
        if self.place != place or self.late is not late:
            return False
        self.at -= 1
        return self.at == 0

    def call(self, place: Place, original: FunctionType, args: Any, kwargs: Any) -> Any:  # noqa: ANN401
        if self._strikes(place, late=False):
            self._strike()
        result = original(*args, **kwargs)
        if self._strikes(place, late=True):
            self._strike()
        return result

    def _strike(self) -> None:
        self.struck += 1
        self.disarm()
        raise BugError


@contextmanager
def breakable() -> Iterator[Fault]:
    """Whatever the machine calls raises as the fault says, until the context ends."""
    fault = Fault()
    originals = [(place, vars(place[0])[place[1]]) for place in PLACES]
    for place, original in originals:
        setattr(place[0], place[1], _wrapped(fault, place, original))
    try:
        yield fault
    finally:
        for (owner, name), original in originals:
            setattr(owner, name, original)


def _wrapped(fault: Fault, place: Place, original: FunctionType) -> Any:  # noqa: ANN401
    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return fault.call(place, original, args, kwargs)

    return call


@dataclass
class PatientLedger(Ledger):
    """Keeps the books of a machine that breaks: what must hold all the same.

    Nobody is answered twice, no process is started beside another, none is lost, nothing is
    signalled before it is known to be ours. What is shown may be late by one transition.
    """

    broke: list[LogInternalError] = field(default_factory=list)

    def check(self) -> None:
        assert not self.machine._state.table.reserved < 0
        processes = [server.identity for server in self.servers if server.identity]
        assert len(set(processes)) == len(processes), "two servers of one process"

    def _take(self, command: Command) -> None:
        if isinstance(command, LogInternalError):
            assert command.during not in {"the repair", "the audit"}, command
            self.broke.append(command)
            return
        if isinstance(command, SampleMemory) and self.sampling:
            return
        super()._take(command)

    def _commanded(self, command: commands.ServerCommand) -> None:
        """Count also what was commanded for a server that did not outlast its transition."""
        if self.server_of(command.server_id) is None:
            self.outstanding.append(command)
        else:
            super()._commanded(command)

    def _check_command(self, command: commands.ServerCommand, server: Server) -> None:
        """A generation may have come to nothing before it was commanded."""
        if isinstance(command, commands.Prepare):
            model, generation = command.server_id
            assert generation > self.generations.get(model, 0)
            self.generations[model] = generation - 1
        super()._check_command(command, server)

    def _published(self, change: Publish) -> None:
        known = self.shown.get(change.server.id)
        before = known.phase if known else None
        if change.removed and known is None:
            return
        super()._published(Publish(change.server, before, change.removed, change.of_holds))

    def _stepped(self, command: commands.ServerCommand) -> None:
        if isinstance(command, commands.CancelPrepare | commands.CancelEstimate):
            kinds: type | UnionType = commands.Prepare
            if isinstance(command, commands.CancelEstimate):
                kinds = commands.EstimateMemory | commands.Fetch
            self.outstanding = [
                c
                for c in self.outstanding
                if not isinstance(c, kinds) or c.server_id != command.server_id
            ]
        elif command not in self.outstanding:
            super()._stepped(command)

    def server_of(self, server_id: ServerId) -> Server | None:
        return self.machine.server(server_id)

    def _check_stops(self, event: object, before: dict[ServerId, Server]) -> None:
        """A bug may end what is READY."""

    def _check_failed_starts(self, event: object, before: dict[ServerId, Server]) -> None:
        """Whoever waited is told, but maybe of the bug."""

    def _check_stalled_starts(self, event: Event, issued: list[Command]) -> None:
        """A sample is lost with its transition: from then on the books cannot tell who gets on."""
        if not self.broke:
            super()._check_stalled_starts(event, issued)

    def stall(self, away: float) -> None:
        self.now += away
        self.handle(TimeReached(away))

    def _at_once(self, event: object) -> Server | None:
        return None
