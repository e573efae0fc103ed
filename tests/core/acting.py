"""What the world could answer to a command of the core, as values."""

from itertools import count

from pool_service.core import lifecycle as life
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

PLAN = LaunchPlan(("run",), (), None, "/health", "served")
_pids = count(100)


def report(diagnosis: Diagnosis = Diagnosis.CRASHED) -> ExitReport:
    return ExitReport(1, None, diagnosis, "it died", ("last words",))


def well(command: life.ServerCommand) -> life.ServerEvent | None:
    """The best that can come of it; None where that is nothing, or only an end."""
    model, generation = command.model, command.generation
    event: life.ServerEvent | None = None
    match command:
        case life.Prepare():
            event = life.Prepared(model, generation, PLAN)
        case life.Spawn():
            process = SpawnedProcess(Identity(next(_pids), 1, "boot"), "/log")
            event = life.Spawned(model, generation, process)
        case life.AwaitReady():
            event = life.BecameReady(model, generation, "http://127.0.0.1:1")
        case life.CheckUse():
            event = life.UseReported(model, generation, 0)
        case life.Sweep():
            event = life.Swept(model, generation)
        case life.AwaitExit():
            event = life.Exited(model, generation, report())
        case _:
            pass
    return event


def badly(command: life.ServerCommand) -> life.ServerEvent:
    """What comes of it if it fails in the way that its port promises."""
    model, generation = command.model, command.generation
    match command:
        case life.Prepare() | life.Spawn():
            return life.NotStarted(model, generation, RuntimeUnavailable("none", model=model))
        case life.CheckUse():
            return life.UseReported(model, generation, None)
        case _:
            return broken(command)


def broken(command: life.ServerCommand) -> life.StepBroke:
    name = type(command).__name__
    return life.StepBroke(command.model, command.generation, name, PoolError("a bug"))


def drive(ledger: Ledger) -> None:
    """Let all that is outstanding end well; a process ends only where that is wished."""
    while command := next((c for c in ledger.outstanding if _moves(ledger, c)), None):
        ledger.done(command)
        event = well(command)
        if event is not None:
            ledger.handle(event)


def _moves(ledger: Ledger, command: life.ServerCommand) -> bool:
    server = ledger.server(command.model)
    if not isinstance(command, life.AwaitExit):
        return True
    return (
        server is None
        or server.generation != command.generation
        or server.phase in {Phase.STOPPING, Phase.SWEEPING}
    )
