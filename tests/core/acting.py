"""What the world could answer to a command of the core, as values."""

from pool_service.core import steps
from pool_service.core.activity import Activity
from pool_service.core.errors import ModelRejected, PoolError, RuntimeUnavailable
from pool_service.core.requests import HoldEnded, Surveyed
from pool_service.core.types import (
    FOREVER,
    Appraisal,
    Diagnosis,
    ExitReport,
    LaunchPlan,
    Phase,
    Pulse,
    Source,
    Survey,
)
from tests.core.invariants import Ledger

NEEDS = {"a": 3, "b": 4, "c": 5, "d": 6, "e": 11}
"""What each model needs, where the budget is 10."""


def plan(model: str, generation: int) -> LaunchPlan:
    """How this process is started; no other has its nonce."""
    return LaunchPlan(("run",), (), None, "/health", "served", f"{model}#{generation}")


def report(diagnosis: Diagnosis = Diagnosis.CRASHED, code: int | None = 1) -> ExitReport:
    """code: None for one that a signal ended."""
    return ExitReport(code, 9 if code is None else None, diagnosis, "it died", ("last words",))


def well(ledger: Ledger, command: steps.ServerCommand) -> steps.ServerEvent | None:
    """The best that can come of it; None where that is nothing, or only an end."""
    model, generation = command.model, command.generation
    event: steps.ServerEvent | None = _appraised(ledger, command)
    match command:
        case steps.Prepare():
            event = steps.Prepared(model, generation, plan(model, generation))
        case steps.Spawn():
            event = steps.Spawned(model, generation, ledger.new_process(command))
        case steps.Adopt():
            event = steps.Adopted(model, generation, ledger.find_process(command.server))
        case steps.AwaitReady() if command.identity not in ledger.dead:
            event = steps.BecameReady(model, generation, "http://127.0.0.1:1")
        case steps.Sweep():
            event = steps.Swept(model, generation)
        case steps.AwaitExit():
            event = steps.Exited(model, generation, report())
        case _:
            event = event or _unused_and_alive(command)
    return event


def _appraised(ledger: Ledger, command: steps.ServerCommand) -> steps.ServerEvent | None:
    """Only `d` is to be downloaded, once."""
    model, generation = command.model, command.generation
    match command:
        case steps.Appraise():
            on_disk = model != "d" or ledger.fetched
            appraisal = Appraisal(NEEDS.get(model, 0), Source.WEIGHTS, on_disk)
            return steps.Appraised(model, generation, appraisal)
        case steps.Fetch():
            ledger.fetched = True
            return steps.Fetched(model, generation)
        case _:
            return None


def _unused_and_alive(command: steps.ServerCommand) -> steps.ServerEvent | None:
    model, generation = command.model, command.generation
    match command:
        case steps.CheckUse():
            return steps.UseReported(model, generation, Activity(0))
        case steps.TakePulse():
            return steps.PulseTaken(model, generation, Pulse(answered=True, progress=()))
        case steps.ReadLog():
            return steps.LogRead(model, generation, ("slow",))
        case _:
            return None


def badly(command: steps.ServerCommand) -> steps.ServerEvent:
    """What comes of it if it fails in the way that its port promises."""
    model, generation = command.model, command.generation
    match command:
        case steps.Appraise() | steps.Fetch():
            rejected = ModelRejected("no such model", model=model)
            return steps.NotAppraised(model, generation, rejected)
        case steps.Prepare() | steps.Spawn():
            return steps.NotStarted(model, generation, RuntimeUnavailable("none", model=model))
        case steps.AwaitReady(again=True):
            return steps.ListenerLost(model, generation)
        case steps.CheckUse():
            return steps.UseReported(model, generation, Activity(None))
        case steps.TakePulse():
            return steps.PulseTaken(model, generation, Pulse(answered=False, progress=()))
        case _:
            return broken(command)


def broken(command: steps.ServerCommand) -> steps.StepBroke:
    name = type(command).__name__
    return steps.StepBroke(command.model, command.generation, name, PoolError("a bug"))


LIVELY = 1000
"""Steps without any time, or times, after which nothing more is expected to come of it."""


def drive(ledger: Ledger) -> None:
    """Let all that is outstanding end well; a process ends only where that is wished."""
    for _ in range(LIVELY):
        command = next((c for c in ledger.outstanding if _moves(ledger, c)), None)
        if command is not None:
            ledger.done(command)
            event = well(ledger, command)
            if event is not None:
                ledger.handle(event)
        elif ledger.surveying:
            look(ledger)
        else:
            return
    servers = [(server.model, server.phase, server.generation) for server in ledger.servers]
    raise AssertionError(f"it goes round and round: {servers}")


def look(ledger: Ledger, *, pressured: bool = False, blind: bool = False) -> None:
    """A look at the memory ends: each process takes what its model needs."""
    footprints = {
        it: NEEDS.get(model, 0) + ledger.grown.get(it, 0)
        for (model, _), it in ledger.processes.items()
    }
    left = max(100 - sum(footprints.values()), 0)
    survey = Survey(100, left, pressured, footprints, cost=0.001)
    ledger.handle(Surveyed(None if blind else survey))


def drive_on(ledger: Ledger) -> None:
    """The same, and time passes for what has died and is to come again."""
    drive(ledger)
    for ticket in list(ledger.holding):
        ledger.handle(HoldEnded(ticket))
    for _ in range(LIVELY):
        if not (ledger.waiting or ledger.evicting or ledger.coming):
            return
        assert ledger.machine.next_deadline() < FOREVER, "somebody waits for nothing"
        ledger.reach_time(max(0.0, ledger.machine.next_deadline() - ledger.now))
        drive(ledger)
    raise AssertionError("what is waited for does not come")


def _moves(ledger: Ledger, command: steps.ServerCommand) -> bool:
    server = ledger.server_of(command.model, command.generation)
    if not isinstance(command, steps.AwaitExit):
        return True
    return (
        command.identity in ledger.dead
        or server is None
        or server.phase in {Phase.STOPPING, Phase.SWEEPING}
    )
