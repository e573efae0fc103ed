"""The driver: feeds events to the machine and carries out what it commands.

`feed` is synchronous and the only place where state changes. A command that takes
time becomes a named task whose result is the next event. One timer serves the
whole pool; it is armed again after every event.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import structlog

from pool_service.core import lifecycle as life
from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import PoolError
from pool_service.core.failures import recovering
from pool_service.core.machine import Event, Machine
from pool_service.core.requests import (
    Answer,
    Ensured,
    EnsureRequested,
    Every,
    EvictRequested,
    Hurried,
    LeaveRequested,
    Publish,
    RecoveryBegan,
    RecoveryEnded,
    Removed,
    ShutdownRequested,
    StraysFound,
    TimeReached,
    WaiterLeft,
)
from pool_service.core.supervision import Command
from pool_service.core.types import FOREVER, Limits, Server, StopSignal, Totals
from pool_service.history import History
from pool_service.ports import Clock, Probe, Processes, Records, Runtime

LONGEST_NAP = 60.0
"""Seconds. The loop's clock may stand still while the machine sleeps and ours does
not, so that a long timer must look at the time now and then."""

USE_PACE = 5.0
"""Seconds between writes of when servers were last used; so much of it a crash may lose."""

log = structlog.get_logger("pool_service.pool")


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside of the pool."""

    clock: Clock
    runtime: Runtime
    processes: Processes
    probe: Probe
    records: Records


class Pool:
    """A pool of servers. All of it lives on one running event loop."""

    def __init__(
        self, world: World, history: History, catalogue: Catalogue, limits: Limits
    ) -> None:
        self._world = world
        self._history = history
        self._machine = Machine(catalogue, limits)
        self._loop = asyncio.get_running_loop()
        self._tickets = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawns: set[asyncio.Task[None]] = set()
        self._prepares: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._armed_for = FOREVER
        self._timer: asyncio.TimerHandle | None = None
        self._used: set[str] = set()
        self._recovered = asyncio.Event()
        self._steps: dict[type, Callable[[Any], Awaitable[life.ServerEvent | None]]] = {
            life.Prepare: self._prepare,
            life.Spawn: self._spawn,
            life.AwaitExit: self._await_exit,
            life.AwaitReady: self._await_ready,
            life.CheckUse: self._check_use,
            life.SendSignal: self._send_signal,
            life.Sweep: self._sweep,
            life.Adopt: self._adopt,
            life.TakePulse: self._take_pulse,
        }

    # --- its own beginning and end ---------------------------------------------------

    async def recover(self, budget: float) -> None:
        """Take over what an earlier service left, before the first call.

        Returns when it is known how each server is, at the latest after `budget`
        seconds: those that are slow to tell are waited for like any that start.
        """
        remembered = await self._world.records.load()
        for name in remembered.damaged:
            log.warning("a record could not be read and was set aside", file=name)
        self.feed(RecoveryBegan(remembered))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._recovered.wait(), budget)
        # Only now: what was adopted is no stray.
        nonces = {server.plan.nonce for server in remembered.servers if server.plan}
        self.feed(StraysFound(await self._world.processes.strays(nonces)))
        self._recovered.set()

    async def shutdown(self) -> None:
        """Refuse what is new, drain and stop everything, end all who watch."""
        ticket = next(self._tickets)
        await self._ask(ticket, ShutdownRequested(ticket))
        await self._end()

    async def leave(self) -> None:
        """Refuse what is new, end all who watch, and leave the servers to the next service."""
        self.feed(LeaveRequested())
        self._record_uses()
        await asyncio.gather(*self._spawns, return_exceptions=True)
        await self._end()

    def hurry(self) -> None:
        """Send whatever is stopping its next, harder signal now."""
        self.feed(Hurried())

    async def _end(self) -> None:
        self._history.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._world.records.settled()

    # --- what callers ask -----------------------------------------------------------

    async def ensure(
        self, model: str, runtime_model: str = "", keep_alive: float | None = None
    ) -> Ensured:
        """Return a READY server of `model`, starting one if need be.

        keep_alive: seconds, FOREVER, or None for what is set already. Cancelling
        only ends this wait. Raises the PoolErrors that `Ensure` documents.
        """
        self._check_recovered()
        ticket = next(self._tickets)
        try:
            event = EnsureRequested(ticket, model, runtime_model, keep_alive)
            ensured: Ensured = await self._ask(ticket, event)
        except asyncio.CancelledError:
            self.feed(WaiterLeft(ticket, model))
            raise
        self._note_use(model)
        return ensured

    async def evict(self, target: str | Every, *, force: bool = False) -> tuple[Removed, ...]:
        """Stop servers and return them when their processes are gone.

        Cancelling ends the wait, not the eviction. Raises ServerInUse.
        """
        self._check_recovered()
        ticket = next(self._tickets)
        removed: tuple[Removed, ...] = await self._ask(
            ticket, EvictRequested(ticket, target, force)
        )
        return removed

    def page(self, after: str | None, size: int) -> list[Server]:
        """At most `size` servers in the order of their models, after `after`."""
        self._check_recovered()
        return self._machine.page(after, size)

    def totals(self) -> Totals:
        """Counts over the whole pool."""
        return self._machine.totals()

    @property
    def history(self) -> History:
        """The changes; its revision is that of the state that `page` shows."""
        return self._history

    @property
    def trouble(self) -> str:
        """What the service cannot do at present, in words; empty if all is well."""
        return self._world.records.trouble

    def _check_recovered(self) -> None:
        if not self._recovered.is_set():
            raise recovering()

    def _note_use(self, model: str) -> None:
        """Idle times survive too, but not every Ensure is worth a write."""
        if not self._used:
            self._loop.call_later(USE_PACE, self._record_uses)
        self._used.add(model)

    def _record_uses(self) -> None:
        for model in self._used:
            server = self._machine.get(model)
            if server is not None:
                self._world.records.put(server)
        self._used.clear()

    # --- events in, commands out ----------------------------------------------------

    def feed(self, event: Event) -> None:
        """Let the machine take in what happened and carry out what it commands."""
        for command in self._machine.handle(event, self._world.clock.now()):
            self._carry_out(command)
        if self._machine.next_deadline() != self._armed_for:
            self._arm()

    async def _ask(self, ticket: int, event: Event) -> Any:  # noqa: ANN401  # by the event
        """Feed the event and return (or raise) the answer to its ticket."""
        answer = self._answers[ticket] = self._loop.create_future()
        try:
            self.feed(event)
            result = await answer
        finally:
            del self._answers[ticket]
        if isinstance(result, PoolError):
            # A copy: many may be told the same, and each raise adds to its traceback.
            raise replace(result)
        return result

    def _carry_out(self, command: Command) -> None:
        match command:
            case Answer(ticket, result):
                answer = self._answers.get(ticket)
                if answer is not None and not answer.done():
                    answer.set_result(result)
            case Publish(server, before, removed):
                self._remember(server, removed=removed)
                self._history.append(server, removed=removed)
                if removed or before is not server.phase:
                    _log_transition(command)
            case RecoveryEnded():
                self._recovered.set()
            case life.CancelPrepare(model, generation):
                self._prepares[model, generation].cancel()
            case _:
                self._begin(command)

    def _remember(self, server: Server, *, removed: bool) -> None:
        if removed:
            self._world.records.remove(server)
        else:
            self._world.records.put(server)

    def _begin(self, command: life.ServerCommand) -> None:
        name = f"{type(command).__name__} {command.model} #{command.generation}"
        task = self._loop.create_task(self._run(command), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if isinstance(command, life.Prepare):
            key = command.model, command.generation
            self._prepares[key] = task
            task.add_done_callback(lambda _: self._prepares.pop(key))
        elif isinstance(command, life.Spawn):
            self._spawns.add(task)
            task.add_done_callback(self._spawns.discard)

    async def _run(self, command: life.ServerCommand) -> None:
        try:
            event = await self._steps[type(command)](command)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not cancelled by us: something that the step awaited was.
            event = _broken(command, error)
        except Exception as error:  # noqa: BLE001  # nothing may end a step in silence
            event = _broken(command, error)
        if event is not None:
            self.feed(event)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_for = self._machine.next_deadline()
        if self._armed_for != FOREVER:
            delay = self._armed_for - self._world.clock.now()
            self._timer = self._loop.call_later(min(max(delay, 0.0), LONGEST_NAP), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._armed_for = FOREVER
        self.feed(TimeReached())

    # --- the steps: one command, one call of a port, one event ------------------------

    async def _prepare(self, command: life.Prepare) -> life.ServerEvent:
        model, generation = command.model, command.generation
        try:
            plan = await self._world.runtime.prepare(model, command.settings)
        except PoolError as error:
            return life.NotStarted(model, generation, error)
        return life.Prepared(model, generation, plan)

    async def _spawn(self, command: life.Spawn) -> life.ServerEvent:
        model, generation = command.model, command.generation
        try:
            # The intent first: should we die now, the process is found by its nonce.
            await self._world.records.settled()
            process = await self._world.processes.spawn(model, generation, command.plan)
        except PoolError as error:
            return life.NotStarted(model, generation, error)
        return life.Spawned(model, generation, process)

    async def _await_exit(self, command: life.AwaitExit) -> life.ServerEvent:
        report = await self._world.processes.exited(command.identity)
        return life.Exited(command.model, command.generation, report)

    async def _await_ready(self, command: life.AwaitReady) -> life.ServerEvent | None:
        endpoint = await self._world.probe.ready(
            command.identity, command.plan, command.probe_timeout
        )
        if endpoint is None:
            return None
        return life.BecameReady(command.model, command.generation, endpoint)

    async def _check_use(self, command: life.CheckUse) -> life.ServerEvent:
        requests = await self._world.probe.requests_in_flight(
            command.identity, command.plan, command.endpoint, command.probe_timeout
        )
        return life.UseReported(command.model, command.generation, requests)

    async def _take_pulse(self, command: life.TakePulse) -> life.ServerEvent:
        pulse = await self._world.probe.pulse(
            command.identity,
            command.plan,
            command.endpoint,
            command.log_path,
            command.probe_timeout,
        )
        return life.PulseTaken(command.model, command.generation, pulse)

    async def _send_signal(self, command: life.SendSignal) -> None:
        # The wish first: should we die now, the next service carries it out.
        await self._world.records.settled()
        level = log.warning if command.stop is StopSignal.KILL else log.info
        level(
            "signal",
            signal=command.stop.value,
            model=command.model,
            generation=command.generation,
            pid=command.identity.pid,
        )
        await self._world.processes.signal(command.identity, command.stop)

    async def _sweep(self, command: life.Sweep) -> life.ServerEvent:
        await self._world.processes.sweep(command.identity)
        return life.Swept(command.model, command.generation)

    async def _adopt(self, command: life.Adopt) -> life.ServerEvent:
        process = await self._world.processes.adopt(command.server)
        return life.Adopted(command.model, command.generation, process)


def _broken(command: life.ServerCommand, error: BaseException) -> life.StepBroke:
    """A step raised what its port does not promise: a bug, told and survived."""
    name = type(command).__name__
    log.error("step broke", step=name, model=command.model, exc_info=error)
    told = PoolError(
        f"the service could not {name} for {command.model!r}, by a fault of its own: "
        f"{type(error).__name__}. Its log says more.",
        model=command.model,
    )
    return life.StepBroke(command.model, command.generation, name, told)


def _log_transition(change: Publish) -> None:
    server = change.server
    log.info(
        "transition",
        model=server.model,
        generation=server.generation,
        before=change.before.name if change.before else "-",
        after="-" if change.removed else server.phase.name,
        pid=server.identity.pid if server.identity else None,
        why=server.detail or None,
    )
