"""A pool in which `a` is READY, and what is asked of it, for claims about the whole machine."""

from pool_service.core import commands, events
from pool_service.core.activity import Activity
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import Command
from pool_service.core.events import (
    EnsureRequested,
)
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.server import Phase, Role, Server, ServerId
from pool_service.core.types import Settings
from tests.core.acting import drive
from tests.core.invariants import Ledger

DEFAULTS = Settings(runtime_model="", keep_alive=30.0, grace_period=0.0, drain_timeout=300.0)
LOST = events.ListenerLost(ServerId("a", 1))
UNUSED = events.ActivityReported(ServerId("a", 1), Activity(0))


def one_ready(kind: type[Ledger] = Ledger) -> Ledger:
    """A pool in which `a` is READY."""
    limits = Limits()
    ledger = kind(lambda: Machine(Catalogue(DEFAULTS), limits), limits)
    ledger.handle(EnsureRequested(1, "a"))
    drive(ledger)
    assert shown(ledger, "a").phase is Phase.READY
    return ledger


def shown(ledger: Ledger, model: str) -> Server:
    server = ledger.machine.get(model)
    assert server is not None
    return server


def aside(ledger: Ledger) -> Server:
    """The one that `a` had first, which another has superseded."""
    server = ledger.machine.server(ServerId("a", 1))
    assert server is not None
    assert server.role is Role.SUPERSEDED
    return server


def looks(issued: list[Command]) -> int:
    return sum(isinstance(command, commands.CheckActivity) for command in issued)


def answer_look(ledger: Ledger) -> list[Command]:
    """The look under way finds nothing in flight."""
    ledger.done(next(c for c in ledger.outstanding if isinstance(c, commands.CheckActivity)))
    return ledger.handle(UNUSED)
