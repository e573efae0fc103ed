"""What the world could answer to a command of the core, as values."""

from pool_service.core import commands, events
from pool_service.core.activity import Activity
from pool_service.core.errors import ModelRejected, PoolError, RuntimeUnavailable
from pool_service.core.events import HoldEnded, Surveyed
from pool_service.core.server import Phase
from pool_service.core.types import (
    FOREVER,
    Appraisal,
    Diagnosis,
    ExitReport,
    LaunchPlan,
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


def well(ledger: Ledger, command: commands.ServerCommand) -> events.ServerEvent | None:
    """The best that can come of it; None where that is nothing, or only an end."""
    server_id = command.server_id
    event: events.ServerEvent | None = _appraised(ledger, command)
    match command:
        case commands.Prepare():
            event = events.Prepared(server_id, plan(*server_id))
        case commands.Spawn():
            event = events.Spawned(server_id, ledger.new_process(command))
        case commands.Adopt():
            event = events.Adopted(server_id, ledger.find_process(command.server))
        case commands.AwaitReady() if command.identity not in ledger.dead:
            event = events.BecameReady(server_id, "http://127.0.0.1:1")
        case commands.Sweep():
            event = events.Swept(server_id)
        case commands.AwaitExit():
            event = events.Exited(server_id, report())
        case _:
            event = event or _unused_and_alive(command)
    return event


def _appraised(ledger: Ledger, command: commands.ServerCommand) -> events.ServerEvent | None:
    """Only `d` is to be downloaded, once."""
    server_id, model = command.server_id, command.server_id.model
    match command:
        case commands.Appraise():
            on_disk = model != "d" or ledger.fetched
            appraisal = Appraisal(NEEDS.get(model, 0), Source.WEIGHTS, on_disk)
            return events.Appraised(server_id, appraisal)
        case commands.Fetch():
            ledger.fetched = True
            return events.Fetched(server_id)
        case _:
            return None


def _unused_and_alive(command: commands.ServerCommand) -> events.ServerEvent | None:
    server_id = command.server_id
    match command:
        case commands.CheckUse():
            return events.UseReported(server_id, Activity(0))
        case commands.TakePulse():
            return events.PulseTaken(server_id, Pulse(answered=True, progress=()))
        case commands.ReadLog():
            return events.LogRead(server_id, ("slow",))
        case _:
            return None


def badly(command: commands.ServerCommand) -> events.ServerEvent:
    """What comes of it if it fails in the way that its port promises."""
    server_id, model = command.server_id, command.server_id.model
    match command:
        case commands.Appraise() | commands.Fetch():
            rejected = ModelRejected("no such model", model=model)
            return events.NotAppraised(server_id, rejected)
        case commands.Prepare() | commands.Spawn():
            return events.NotStarted(server_id, RuntimeUnavailable("none", model=model))
        case commands.AwaitReady(again=True):
            return events.ListenerLost(server_id)
        case commands.CheckUse():
            return events.UseReported(server_id, Activity(None))
        case commands.TakePulse():
            return events.PulseTaken(server_id, Pulse(answered=False, progress=()))
        case _:
            return broken(command)


def broken(command: commands.ServerCommand) -> events.StepBroke:
    return events.StepBroke(command.server_id, command, PoolError("a bug"))


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
        waits = ledger.waiting, ledger.evicting, ledger.coming, ledger.servers
        assert ledger.machine.next_deadline() < FOREVER, f"somebody waits for nothing: {waits}"
        ledger.reach_time(max(0.0, ledger.machine.next_deadline() - ledger.now))
        drive(ledger)
    raise AssertionError("what is waited for does not come")


def _moves(ledger: Ledger, command: commands.ServerCommand) -> bool:
    server = ledger.server_of(command.server_id)
    if not isinstance(command, commands.AwaitExit):
        return True
    return (
        command.identity in ledger.dead
        or server is None
        or server.phase in {Phase.STOPPING, Phase.SWEEPING}
    )
