"""A scripted world behind the pool's ports: everything a process can do, and nothing real.

Each process of a model follows a Script; the world records every call, and notes as a
violation whatever the pool must never do: two live processes of one model, a signal to
one that it knows to be dead or swept, a sweep of a living one, a spawn or a signal that
is not on disk yet. `World.check()` fails on any.

The world outlives the service: a second pool over the same world finds the processes
and, in `World.records`, what of the first one's records had reached the disk.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from pool_service.core.activity import Activity
from pool_service.core.effective_settings import SandboxState
from pool_service.core.server import Phase, Server, StopSignal
from pool_service.core.types import (
    Diagnosis,
    EndpointState,
    Estimate,
    EstimateSource,
    ExitReport,
    Identity,
    LaunchPlan,
    MemorySample,
    ProbeResult,
    Settings,
    SpawnedProcess,
    Unready,
    Work,
)
from pool_service.ports import FetchProgress
from tests.fake_events import FakeEvents
from tests.fake_records import FakeRecords
from tests.scripted_logs import ScriptedLogs

NEVER = float("inf")
BUSY_SECONDS = 10.0
"""Of a processor, that something which moves takes between two looks."""
READ_BYTES_PER_S = 10_000_000
"""What a process reads while it loads."""
WALL = 1_700_000_000.0
"""The Unix time at zero of the fake clock."""

When = float | asyncio.Event
"""A number of seconds from now, or an event that the test sets."""

DRAINED = ExitReport(None, 15, Diagnosis.CRASHED, "The runtime was ended by SIGTERM")
KILLED = ExitReport(None, 9, Diagnosis.CRASHED, "The runtime was ended by SIGKILL", ("boom",))
CRASH = ExitReport(1, None, Diagnosis.CRASHED, "The runtime exited with code 1", ("boom",))
PORT_TAKEN = ExitReport(3, None, Diagnosis.PORT_TAKEN, "The runtime's port was taken")
REJECTED = ExitReport(
    1, None, Diagnosis.MODEL_REJECTED, "there is no such model", ("no config.json",)
)


def key_of(model: str, generation: int) -> str:
    """Return the key of a server of this world."""
    return "psk_" + hashlib.sha256(f"{model} {generation}".encode()).hexdigest()[:43]


async def passes(when: When) -> None:
    """Return when it has come; at once for 0."""
    if isinstance(when, asyncio.Event):
        await when.wait()
    elif when == NEVER:
        await asyncio.get_running_loop().create_future()
    elif when > 0:
        await asyncio.sleep(when)


@dataclass
class Script:
    """How one process behaves. Times are seconds from the call, or from its spawn.

    needs: bytes of memory, as it is appraised, known by `source`; takes: bytes that it really
    takes once it is loaded; grown: bytes that it takes besides by now; on_disk: its files are,
    else each fifth of a download takes `fetch`;
    dies: after its spawn, with `report`; ends_on: how long each signal takes to end it,
    NEVER if it is ignored; requests: in flight, None if it cannot be told; active_at: when
    the last was on its endpoint, None if it does not say; wall_ahead: seconds by which a clock was
    set since; served: how many it has answered, None if it does not say; answers: its
    health path, and healthy: as one that is well; in_flight: while it says that it is not;
    listens: its endpoint is its own;
    moves: whether anything of it progresses; reads_for, computes_for: seconds from its spawn for
    which it reads and uses a processor; forks: the process comes to be
    though the service dies in its spawn; from_standby: it was one; raises: what the port's method
    of that name raises instead of what it promises.
    """

    estimate: When = 0.0
    needs: int = 0
    source: EstimateSource = EstimateSource.WEIGHTS
    takes: int = 0
    grown: int = 0
    on_disk: bool = True
    fetch: When = 0.0
    prepare: When = 0.0
    spawn: When = 0.0
    load: When = 1.0
    dies: When = NEVER
    report: ExitReport = CRASH
    ends_on: Mapping[StopSignal, float] = field(default_factory=dict)
    requests: int | None = 0
    active_at: float | None = None
    wall_ahead: float = 0.0
    served: float | None = None
    check: When = 0.0
    probe_time: When = 0.0
    answers: bool = True
    healthy: bool = True
    in_flight: bool = False
    listens: bool = True
    moves: bool = True
    reads_for: float = NEVER
    computes_for: float = NEVER
    clean_up: When = 0.0
    kin_busy: When = 0.0
    kin_killed: bool = False
    drains: bool = True
    log: When = 0.0
    adopt: When = 0.0
    forks: bool = False
    from_standby: bool = False
    raises: Mapping[str, BaseException] = field(default_factory=dict)


class Call(NamedTuple):
    """One call of a port, at the loop's time; detail: the signal, the runtime model."""

    at: float
    name: str
    model: str
    generation: int
    detail: str = ""


class Process:
    """One fake process, from its spawn until it is swept."""

    def __init__(
        self, model: str, generation: int, identity: Identity, nonce: str, script: Script
    ) -> None:
        self.model = model
        self.generation = generation
        self.identity = identity
        self.nonce = nonce
        self.script = script
        self.adopted = False
        self.moved = 0.0
        self.spawned_at = asyncio.get_running_loop().time()
        self.ended: asyncio.Future[ExitReport] = asyncio.get_running_loop().create_future()
        self.known_dead = False
        self.unwatched = False
        self.cleaned_up = False
        self._endings: list[asyncio.Task[None]] = []
        self.ended.add_done_callback(lambda _: [ending.cancel() for ending in self._endings])
        if script.dies != NEVER:
            self._end_later(script.dies, script.report)

    @property
    def alive(self) -> bool:
        return not self.ended.done()

    @property
    def footprint(self) -> int:
        """Bytes that it takes: more and more while it loads, then what its script says."""
        script = self.script
        if isinstance(script.load, asyncio.Event) or not script.load:
            return script.takes
        past = asyncio.get_running_loop().time() - self.spawned_at
        return int(script.takes * min(past / script.load, 1.0)) + script.grown

    @property
    def work(self) -> Work:
        """What it has done for its start, of what its script says."""
        past = asyncio.get_running_loop().time() - self.spawned_at
        read = int(READ_BYTES_PER_S * min(past, self.script.reads_for))
        return Work(requested=read, processor_s=min(past, self.script.computes_for))

    @property
    def log_path(self) -> str:
        return f"/logs/{self.model}/{self.generation}"

    def end(self, report: ExitReport = CRASH) -> None:
        """Let it end now."""
        if self.alive:
            self.ended.set_result(report)

    def take(self, stop: StopSignal) -> None:
        """A signal reaches it."""
        after = self.script.ends_on.get(stop, 0.0)
        if after != NEVER and self.alive:
            number = {StopSignal.TERMINATE: 15, StopSignal.INTERRUPT: 2, StopSignal.KILL: 9}[stop]
            report = ExitReport(None, number, Diagnosis.CRASHED, f"ended by {stop.value}")
            self._end_later(after, report)

    def _end_later(self, when: When, report: ExitReport) -> None:
        async def later() -> None:
            await passes(when)
            if self.alive:
                self.ended.set_result(report)

        self._endings.append(asyncio.get_running_loop().create_task(later()))


class FakeClock:
    """The loop's time, and what passed of it while nothing ran."""

    def __init__(self) -> None:
        self._slept = 0.0

    def now(self) -> float:
        return asyncio.get_running_loop().time() + self._slept

    def wall(self, at: float) -> float:
        return WALL + at

    def jump(self, seconds: float) -> None:
        """The machine sleeps, or the service is held up, for so long."""
        self._slept += seconds


class Kept(NamedTuple):
    """What `keep` was told."""

    settings: Settings
    wanted: int
    allowed: int
    refill: bool


class World:
    """Runtime, Processes, Probe and Memory in one, over the same scripts and processes."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.records, self.logs, self.events = FakeRecords(), ScriptedLogs(), FakeEvents()
        self.calls: list[Call] = []
        self.violations: list[str] = []
        self.default = Script()
        self.memory = 10**15
        self.others = 0
        """Bytes of the machine, and what others than the servers take of it."""
        self.pressured = self.critical = False
        self.look: When = 0.0
        """How long a look at the memory takes."""
        self.blind: BaseException | None = None
        """What a look at the memory raises instead."""
        self.search: When = 0.0
        """How long a look for orphans takes."""
        self.in_cache: tuple[str, ...] = ()
        """The models in the cache of the hub."""
        self.recorded: dict[str, int] = {}
        """What the runtime was told that runtime models need."""
        self.recorded_loads: dict[str, float] = {}
        """What the runtime was told that runtime models took to load."""
        self.renewed: set[str] = set()
        """Models that may have a second process, having outgrown their ceiling."""
        self.kept: list[Kept] = []
        """What was said of processes that wait to become servers."""
        self.processes: dict[Identity, Process] = {}
        self._scripts: dict[str, list[Script]] = {}
        self._prepared: dict[str, int] = {}
        self._sweeps: dict[Identity, asyncio.Future[None]] = {}
        self._spawning: set[str] = set()

    # --- what a test says and asks ----------------------------------------------------

    def script(self, model: str, *scripts: Script) -> None:
        """How its processes behave, generation by generation; the last for all that follow."""
        self._scripts[model] = list(scripts)

    def of(self, model: str) -> Process:
        """The newest process of a model."""
        return [p for p in self.processes.values() if p.model == model][-1]

    def times(self, name: str, model: str = "") -> list[Call]:
        """The calls of one port's method, of one model or of all."""
        return [c for c in self.calls if c.name == name and model in ("", c.model)]

    def signals(self, model: str) -> list[tuple[str, Any]]:
        """Which signals its processes were sent, and when."""
        return [(call.detail, call.at) for call in self.times("signal", model)]

    @property
    def living(self) -> list[Process]:
        return [process for process in self.processes.values() if process.alive]

    def check(self) -> None:
        """Fail if the pool ever did what it must not."""
        assert self.violations == []

    # --- Runtime ------------------------------------------------------------------------

    async def estimate(self, model: str, settings: Settings) -> Estimate:
        script = self._script(model, self._prepared.get(model, 0) + 1)
        await self._step("estimate", model, 0, script, script.estimate)
        needs = self.recorded.get(settings.runtime_model, script.needs)
        source = (
            EstimateSource.OBSERVED if settings.runtime_model in self.recorded else script.source
        )
        load_s = self.recorded_loads.get(settings.runtime_model)
        return Estimate(needs, source, script.on_disk, load_s=load_s)

    async def sandbox_state(self, settings: Settings) -> SandboxState:
        return SandboxState("no process is confined in this world")

    async def cached(self) -> tuple[str, ...]:
        return self.in_cache

    async def fetch(self, model: str, settings: Settings, progress: FetchProgress) -> None:
        script = self._script(model, self._prepared.get(model, 0) + 1)
        for part in range(4 if script.on_disk else 0, 5):
            progress(part * 100, 400)
            await self._step("fetch", model, 0, script, script.fetch)
        script.on_disk = True

    def record_usage(self, settings: Settings, needed: int) -> None:
        self.recorded[settings.runtime_model] = needed

    def record_load(self, settings: Settings, seconds: float) -> None:
        self.recorded_loads[settings.runtime_model] = seconds

    async def prepare(self, model: str, settings: Settings) -> LaunchPlan:
        generation = self._prepared[model] = self._prepared.get(model, 0) + 1
        script = self._script(model, generation)
        await self._step("prepare", model, generation, script, script.prepare)
        return LaunchPlan(
            argv=("fake", settings.runtime_model),
            environment=(),
            port=None,
            health_path="/health",
            served_model_name=f"served/{model}",
            embedding_model_name=f"embeds/{model}",
            nonce=f"{model}-{generation}",
            drains=script.drains,
            api_key=key_of(model, generation),
        )

    # --- Memory ---------------------------------------------------------------------------

    async def sample(self, servers: Collection[Server]) -> MemorySample:
        now = asyncio.get_running_loop().time()
        self.calls.append(Call(now, "sample", "", 0))
        await passes(self.look)
        if self.blind is not None:
            raise self.blind
        footprints = {
            process.identity: process.footprint
            for process in self.living
            if process.identity in {server.identity for server in servers}
        }
        taken = sum(
            process.footprint for process in self.processes.values() if not process.cleaned_up
        )
        available = max(self.memory - taken - self.others, 0)
        starting = {one.identity for one in servers if one.phase is Phase.STARTING}
        works = {one.identity: one.work for one in self.living if one.identity in starting}
        sample = MemorySample(self.memory, available, self.pressured, footprints, cost=0.001)
        return replace(sample, critical=self.critical, work=works)

    # --- Standbys -------------------------------------------------------------------------

    def keep(self, settings: Settings, *, wanted: int, allowed: int, refill: bool) -> None:
        self.kept.append(Kept(settings, wanted, allowed, refill))

    @property
    def count(self) -> int:
        return self.kept[-1].allowed if self.kept else 0

    # --- Processes ----------------------------------------------------------------------

    async def spawn(self, model: str, generation: int, plan: LaunchPlan) -> SpawnedProcess:
        unswept = any(p.model == model and not p.cleaned_up for p in self.processes.values())
        if (unswept or model in self._spawning) and model not in self.renewed:
            self.violations.append(f"a second process of {model} at #{generation}")
        intent = self._recorded(model, generation)
        if not self.records.degraded_reason and (intent is None or intent.plan != plan):
            self.violations.append(f"#{generation} of {model} spawned before its record")
        script = self._script(model, generation)
        self._spawning.add(model)
        try:
            await self._step("spawn", model, generation, script, script.spawn, plan.argv[-1])
        except asyncio.CancelledError:
            if script.forks:
                self._new_process(model, generation, plan.nonce, script)
            raise
        finally:
            self._spawning.discard(model)
        return self._new_process(model, generation, plan.nonce, script)

    def _new_process(
        self, model: str, generation: int, nonce: str, script: Script
    ) -> SpawnedProcess:
        identity = Identity(1000 + len(self.processes), generation, "boot")
        process = Process(model, generation, identity, nonce, script)
        self.processes[identity] = process
        return SpawnedProcess(identity, process.log_path, from_standby=script.from_standby)

    async def adopt(self, server: Server) -> SpawnedProcess | None:
        nonce = server.plan.nonce if server.plan else ""
        found = [
            p for p in self.processes.values() if server.identity == p.identity or nonce == p.nonce
        ]
        script = found[0].script if found else self.default
        await self._step("adopt", server.model, server.generation, script, script.adopt)
        for process in found:
            process.adopted = True
            process.known_dead = process.cleaned_up = False
            return SpawnedProcess(process.identity, process.log_path)
        return None

    async def orphans(self, nonces: Collection[str]) -> tuple[Identity, ...]:
        await passes(self.search)
        lost = [p for p in self.processes.values() if p.alive and p.nonce not in nonces]
        for process in lost:
            process.adopted = True
            process.model, process.generation = "", process.identity.pid
        return tuple(process.identity for process in lost)

    async def exited(self, identity: Identity) -> ExitReport:
        process = self.processes[identity]
        # Whoever cannot learn of its end may only sweep it away alive.
        process.unwatched = "exited" in process.script.raises
        await self._run("exited", process)
        report = await asyncio.shield(process.ended)
        process.known_dead = True
        # Of who is not its parent the system keeps the code.
        return replace(report, code=None, signal=None) if process.adopted else report

    async def signal(self, identity: Identity, stop: StopSignal) -> None:
        process = self.processes[identity]
        if process.known_dead or process.cleaned_up:
            self.violations.append(f"{stop.value} to the dead #{process.generation} of a model")
        request = self._recorded(process.model, process.generation)
        is_recorded = process.model and not self.records.degraded_reason  # An orphan has no record.
        if is_recorded and (request is None or request.phase is not Phase.STOPPING):
            self.violations.append(f"{stop.value} to {process.model} before its record")
        await self._run("signal", process, detail=stop.value)
        process.take(stop)

    async def last_lines(self, log_path: str) -> tuple[str, ...]:
        process = next(p for p in self.processes.values() if p.log_path == log_path)
        await self._run("last_lines", process, process.script.log)
        return (f"{log_path}: still loading",)

    async def clean_up(
        self, identity: Identity, endpoint: str = "", drain_time: float = 0.0
    ) -> bool:
        process = self.processes[identity]
        if process.cleaned_up or (process.alive and not process.unwatched):
            self.violations.append(f"sweep of #{process.generation} of {process.model}")
        script = process.script
        waiting = asyncio.ensure_future(passes(script.kin_busy))
        self._sweeps[identity] = waiting
        try:
            await self._run("clean_up", process, script.clean_up)
            with suppress(asyncio.CancelledError):
                await asyncio.wait({waiting}, timeout=drain_time)
        finally:
            waiting.cancel()
            process.end()
            process.cleaned_up = True
        return script.kin_killed

    def escalate(self, identity: Identity) -> None:
        self._sweeps[identity].cancel()

    # --- Probe --------------------------------------------------------------------------

    async def ready(
        self, identity: Identity, plan: LaunchPlan, probe_timeout: float, *, again: bool = False
    ) -> str | Unready:
        process = self.processes[identity]
        await self._run("ready", process)
        load = process.script.load
        if process.adopted and not isinstance(load, asyncio.Event):
            load = max(0.0, process.spawned_at + load - asyncio.get_running_loop().time())
        loaded = asyncio.ensure_future(passes(load))
        try:
            either: list[asyncio.Future[Any]] = [loaded, process.ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loaded.cancel()
        if again and process.alive and not process.script.listens:
            return Unready.LOST
        return f"http://127.0.0.1:{identity.pid}" if process.alive else Unready.GONE

    def endpoint_state(self, identity: Identity, endpoint: str) -> EndpointState:
        process = self.processes[identity]
        if not process.alive:
            return EndpointState.ENDED
        return EndpointState.KEPT if process.script.listens else EndpointState.LOST

    async def check_activity(
        self, identity: Identity, plan: LaunchPlan | None, endpoint: str, probe_timeout: float
    ) -> Activity:
        process = self.processes[identity]
        await self._run("check", process, process.script.check)
        script = process.script
        last = script.active_at
        idle_for = None if last is None else asyncio.get_running_loop().time() - last
        if idle_for is not None:
            idle_for += script.wall_ahead
        says_use = last is not None or script.served is not None
        mark = (last, script.served) if says_use else None
        return Activity(script.requests, idle_for, mark, served=bool(script.served))

    async def check_liveness(
        self,
        identity: Identity,
        plan: LaunchPlan,
        endpoint: str,
        log_path: str,
        probe_timeout: float,
    ) -> ProbeResult:
        process = self.processes[identity]
        await self._run("check_liveness", process, process.script.probe_time)
        script = process.script
        if not script.listens:
            return ProbeResult(answered=False, progress=(), listens=False)
        if script.answers and script.healthy:
            return ProbeResult(answered=True, progress=())
        process.moved += script.moves * BUSY_SECONDS
        progress = (process.moved,)
        return ProbeResult(script.answers, progress, script.healthy, script.in_flight)

    # --- inside -------------------------------------------------------------------------

    def _recorded(self, model: str, generation: int) -> Server | None:
        """What the disk says of a process, which may run beside its model's server."""
        return self.records.says(f"{model} (generation {generation})") or self.records.says(model)

    def _script(self, model: str, generation: int) -> Script:
        scripts = self._scripts.get(model, [self.default])
        return scripts[min(generation, len(scripts)) - 1]

    async def _run(
        self, name: str, process: Process, when: When = 0.0, *, detail: str = ""
    ) -> None:
        await self._step(name, process.model, process.generation, process.script, when, detail)

    async def _step(
        self,
        name: str,
        model: str,
        generation: int,
        script: Script,
        when: When,
        detail: str = "",
    ) -> None:
        now = asyncio.get_running_loop().time()
        self.calls.append(Call(now, name, model, generation, detail))
        await passes(when)
        if name in script.raises:
            raise script.raises[name]


async def settled(predicate: Callable[[], object]) -> None:
    """Return as soon as something holds, letting the loop go on in between."""
    while not predicate():  # noqa: ASYNC110  # no event tells of all that is asked for
        await asyncio.sleep(0)


async def outcomes(*calls: Awaitable[object]) -> list[object]:
    """What each returned or raised."""
    return list(await asyncio.gather(*calls, return_exceptions=True))
