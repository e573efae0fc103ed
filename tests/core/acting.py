"""What the world could answer to a command of the core, as values."""

from itertools import count

from pool_service.core import steps
from pool_service.core.errors import PoolError, RuntimeUnavailable
from pool_service.core.types import (
    Diagnosis,
    ExitReport,
    Identity,
    LaunchPlan,
    Phase,
    SpawnedProcess,
)
from tests.core.invariants import Ledger

PLAN = LaunchPlan(("run",), (), None, "/health", "served", "nonce")
_pids = count(100)


def report(diagnosis: Diagnosis = Diagnosis.CRASHED) -> ExitReport:
    return ExitReport(1, None, diagnosis, "it died", ("last words",))


def well(command: steps.ServerCommand) -> steps.ServerEvent | None:
    """The best that can come of it; None where that is nothing, or only an end."""
    model, generation = command.model, command.generation
    event: steps.ServerEvent | None = None
    match command:
        case steps.Prepare():
            event = steps.Prepared(model, generation, PLAN)
        case steps.Spawn():
            process = SpawnedProcess(Identity(next(_pids), 1, "boot"), "/log")
            event = steps.Spawned(model, generation, process)
        case steps.AwaitReady():
            event = steps.BecameReady(model, generation, "http://127.0.0.1:1")
        case steps.CheckUse():
            event = steps.UseReported(model, generation, 0)
        case steps.Sweep():
            event = steps.Swept(model, generation)
        case steps.AwaitExit():
            event = steps.Exited(model, generation, report())
        case _:
            pass
    return event


def badly(command: steps.ServerCommand) -> steps.ServerEvent:
    """What comes of it if it fails in the way that its port promises."""
    model, generation = command.model, command.generation
    match command:
        case steps.Prepare() | steps.Spawn():
            return steps.NotStarted(model, generation, RuntimeUnavailable("none", model=model))
        case steps.CheckUse():
            return steps.UseReported(model, generation, None)
        case _:
            return broken(command)


def broken(command: steps.ServerCommand) -> steps.StepBroke:
    name = type(command).__name__
    return steps.StepBroke(command.model, command.generation, name, PoolError("a bug"))


def drive(ledger: Ledger) -> None:
    """Let all that is outstanding end well; a process ends only where that is wished."""
    while command := next((c for c in ledger.outstanding if _moves(ledger, c)), None):
        ledger.done(command)
        event = well(command)
        if event is not None:
            ledger.handle(event)


def _moves(ledger: Ledger, command: steps.ServerCommand) -> bool:
    server = ledger.server(command.model)
    if not isinstance(command, steps.AwaitExit):
        return True
    return (
        server is None
        or server.generation != command.generation
        or server.phase in {Phase.STOPPING, Phase.SWEEPING}
    )
