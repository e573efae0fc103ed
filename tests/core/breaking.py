"""Transitions that raise: any method of the machine, before or after it has done its work."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FunctionType, UnionType
from typing import Any

from pool_service.core import beside, lifecycle, steps
from pool_service.core.books import Command
from pool_service.core.machine import Machine
from pool_service.core.making_up import MakingUp
from pool_service.core.mending import Mending
from pool_service.core.requests import Broke, Publish, TakeSurvey, TimeReached
from pool_service.core.types import Server
from tests.core.invariants import Ledger

Place = tuple[Any, str]
"""A class or a module, and the name of what is called in it."""

LAYERS = [cls for cls in Machine.__mro__ if cls not in {Mending, MakingUp, object}]


def _is_called(name: str, what: object) -> bool:
    return isinstance(what, FunctionType) and name.startswith("_") and not name.startswith("__")


PLACES: list[Place] = [
    (cls, name) for cls in LAYERS for name, what in vars(cls).items() if _is_called(name, what)
]
PLACES += [
    (module, name)
    for module in (lifecycle, beside)
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

    broke: list[Broke] = field(default_factory=list)

    def check(self) -> None:
        assert not self.machine._roster.reserved < 0

    def _take(self, command: Command) -> None:
        if isinstance(command, Broke):
            assert command.during not in {"mending", "the audit"}, command
            self.broke.append(command)
            return
        if isinstance(command, TakeSurvey) and self.surveying:
            return
        super()._take(command)

    def _check_command(self, command: steps.ServerCommand, server: Server) -> None:
        """A generation may have come to nothing before it was commanded."""
        if isinstance(command, steps.Prepare):
            assert command.generation > self.generations.get(command.model, 0)
            self.generations[command.model] = command.generation - 1
        super()._check_command(command, server)

    def _published(self, change: Publish) -> None:
        known = self.shown.get(change.server.model)
        before = known.phase if known else None
        if change.removed and known is None:
            return
        super()._published(Publish(change.server, before, change.removed, change.of_holds))

    def _stepped(self, command: steps.ServerCommand) -> None:
        if isinstance(command, steps.CancelPrepare | steps.CancelAppraise):
            kinds: type | UnionType = steps.Prepare
            if isinstance(command, steps.CancelAppraise):
                kinds = steps.Appraise | steps.Fetch
            key = command.model, command.generation
            self.outstanding = [
                c
                for c in self.outstanding
                if not isinstance(c, kinds) or (c.model, c.generation) != key
            ]
        elif command not in self.outstanding:
            super()._stepped(command)

    def server_of(self, model: str, generation: int) -> Server | None:
        of_it = [s for s in self.servers if (s.named, s.generation) == (model, generation)]
        return max(of_it, key=lambda server: bool(server.serves), default=None)

    def _check_stops(self, event: object, before: dict[str, Server]) -> None:
        """A bug may end what is READY."""

    def _check_failed_starts(self, event: object, before: dict[str, Server]) -> None:
        """Whoever waited is told, but maybe of the bug."""

    def stall(self, away: float) -> None:
        self.now += away
        self.handle(TimeReached(away))

    def _at_once(self, event: object) -> Server | None:
        return None
