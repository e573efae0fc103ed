"""What the world could answer to a command of the core, as values."""

from pool_service.core import commands, events
from pool_service.core.activity import Activity
from pool_service.core.errors import ModelRejected, PoolError, RuntimeUnavailable
from pool_service.core.events import HoldEnded, MemorySampled
from pool_service.core.server import Phase
from pool_service.core.types import (
    FOREVER,
    Diagnosis,
    Estimate,
    EstimateSource,
    ExitReport,
    LaunchPlan,
    MemorySample,
    ProbeResult,
    Work,
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
    event: events.ServerEvent | None = _estimated(ledger, command)
    match command:
        case commands.Prepare():
            event = events.Prepared(server_id, plan(*server_id))
        case commands.Spawn():
            event = events.Spawned(server_id, ledger.new_process(command))
        case commands.Adopt():
            event = events.Adopted(server_id, ledger.find_process(command.server))
        case commands.AwaitReady() if command.identity not in ledger.dead:
            event = events.BecameReady(server_id, "http://127.0.0.1:1")
        case commands.CleanUp():
            event = events.CleanedUp(server_id)
        case commands.AwaitExit():
            event = events.Exited(server_id, report())
        case _:
            event = event or _unused_and_alive(command)
    return event


def _estimated(ledger: Ledger, command: commands.ServerCommand) -> events.ServerEvent | None:
    """Only `d` is to be downloaded, once."""
    server_id, model = command.server_id, command.server_id.model
    match command:
        case commands.EstimateMemory():
            on_disk = model != "d" or ledger.fetched
            estimate = Estimate(NEEDS.get(model, 0), EstimateSource.WEIGHTS, on_disk)
            return events.MemoryEstimated(server_id, estimate)
        case commands.Fetch():
            ledger.fetched = True
            return events.Fetched(server_id)
        case _:
            return None


def _unused_and_alive(command: commands.ServerCommand) -> events.ServerEvent | None:
    server_id = command.server_id
    match command:
        case commands.CheckActivity():
            return events.ActivityReported(server_id, Activity(0))
        case commands.ProbeServer():
            return events.ServerProbed(server_id, ProbeResult(answered=True, progress=()))
        case commands.ReadLog():
            return events.LogRead(server_id, ("slow",))
        case _:
            return None


def badly(  # noqa: PLR0911  # a case for each command
    command: commands.ServerCommand,
) -> events.ServerEvent:
    """What comes of it if it fails in the way that its port promises."""
    server_id, model = command.server_id, command.server_id.model
    match command:
        case commands.EstimateMemory() | commands.Fetch():
            rejected = ModelRejected("no such model", model=model)
            return events.EstimateFailed(server_id, rejected)
        case commands.Prepare() | commands.Spawn():
            return events.NotStarted(server_id, RuntimeUnavailable("none", model=model))
        case commands.AwaitReady(again=True):
            return events.ListenerLost(server_id)
        case commands.AwaitReady():
            return events.BoundElsewhere(server_id, "http://0.0.0.0:1")
        case commands.CheckActivity():
            return events.ActivityReported(server_id, Activity(None))
        case commands.ProbeServer():
            return events.ServerProbed(server_id, ProbeResult(answered=False, progress=()))
        case _:
            return broken(command)


def broken(command: commands.ServerCommand) -> events.CommandFailed:
    return events.CommandFailed(command.server_id, command, PoolError("a bug"))


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
        elif ledger.sampling:
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
    works = {it: Work(requested=ledger.loaded.get(it, 0)) for it in footprints}
    sample = MemorySample(100, left, pressured, footprints, cost=0.001, work=works)
    ledger.handle(MemorySampled(None if blind else sample))


def drive_on(ledger: Ledger) -> None:
    """The same, and time passes for what has died and is to come again."""
    drive(ledger)
    for request_id in list(ledger.holding):
        ledger.handle(HoldEnded(request_id))
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
        or server.phase in {Phase.STOPPING, Phase.CLEANING_UP}
    )
