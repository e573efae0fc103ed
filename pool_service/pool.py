"""The driver: feeds events to the machine and carries out what it commands.

`feed` is synchronous and the only place where state changes. A command that takes
time becomes a named task whose result is the next event. One timer serves the
whole pool; it is armed again after every event.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any

import structlog

from pool_service.announcer import Announcer
from pool_service.core import commands
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import (
    Answer,
    Command,
    KeepStandbys,
    LogInternalError,
    Publish,
    RecordNamings,
    RecordUsage,
    RecoveryEnded,
    SampleMemory,
)
from pool_service.core.errors import PoolError
from pool_service.core.events import (
    DetachRequested,
    EnsureRequested,
    Event,
    EvictRequested,
    ForgetRequested,
    HoldEnded,
    HoldRequested,
    MemorySampled,
    OrphansFound,
    RecoveryBegan,
    ReloadRequested,
    ShutdownEscalated,
    ShutdownRequested,
    TimeReached,
    WaiterLeft,
)
from pool_service.core.failures import recovering
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.results import Ensured, Every, Reloaded, Removed, Totals
from pool_service.core.server import Phase, Server, ServerId
from pool_service.core.types import Identity
from pool_service.endpoints import Endpoints
from pool_service.history import History
from pool_service.models import Models
from pool_service.ports import World
from pool_service.step_runner import StepRunner, broken
from pool_service.step_tasks import StepTasks
from pool_service.subscribers import Subscribers
from pool_service.suspension_timer import Alarm

LATE_S = 5.0
"""A timer that comes so much later than it should tells that the service did not run: the
machine slept, or the service was held up."""

USE_PACE_S = 5.0
"""Between writes of when servers were last used; so much of it a crash may lose."""

log = structlog.get_logger("pool_service.pool")


class Pool:
    """A pool of servers. All of it lives on one running event loop."""

    def __init__(
        self, world: World, history: History, catalogue: Catalogue, limits: Limits
    ) -> None:
        self._world = world
        self._history = history
        self._machine = Machine(catalogue, limits)
        self._loop = asyncio.get_running_loop()
        self._request_ids = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._holders = Subscribers()
        self._announcer = Announcer(world.records, history, self._holders)
        self._alarm = Alarm(world.clock, lambda: self.feed(TimeReached()))
        self._used: set[str] = set()
        self._use_timer: asyncio.TimerHandle | None = None
        self._endpoints = Endpoints(self._machine, world.probe, self._holders, self.feed)
        self._settled = asyncio.Event()
        self._recovered = False
        self._ended = False
        runner = StepRunner(
            world.runtime,
            world.processes,
            world.probe,
            world.records,
            self._is_stopping,
            self.feed,
        )
        self._steps = StepTasks(runner, world.memory, self.feed)
        self.models = Models(self._machine, world.runtime, self._steps)

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
            await asyncio.wait_for(self._settled.wait(), budget)
        # Only now: what was adopted is no orphan. And before anything is spawned: that is none.
        nonces = {server.plan.nonce for server in remembered.servers if server.plan}
        self.feed(OrphansFound(await self._orphans(nonces)))
        self._steps.allow_spawns()
        self._recovered = True

    async def _orphans(self, nonces: Collection[str]) -> tuple[Identity, ...]:
        try:
            return await self._world.processes.orphans(nonces)
        except Exception:  # the next service looks again
            log.exception("it could not be seen what runs that no record tells of")
            return ()

    async def shutdown(self) -> None:
        """Refuse what is new, drain and stop everything, end all who watch."""
        request_id = next(self._request_ids)
        await self._ask(request_id, ShutdownRequested(request_id))
        await self._end()

    async def leave(self) -> None:
        """Refuse what is new, end all who watch, and leave the servers to the next service.

        A spawn that is under way is waited for: what exists is to be known.
        """
        self.feed(DetachRequested())
        self._record_uses()
        await self._end()

    def escalate(self) -> None:
        """Send whatever is stopping its next, harder signal now."""
        self.feed(ShutdownEscalated())

    async def _end(self) -> None:
        """From here on nothing is begun and nothing is recorded: the next service may be there."""
        await self._steps.spawned()
        self._steps.close()
        self._ended = True
        self._announcer.is_recording = False
        self._history.close()
        self._endpoints.close()
        self._alarm.cancel()
        if self._use_timer is not None:
            self._use_timer.cancel()
        await self._steps.cancel_all()
        await self._world.records.settled()

    # --- what callers ask -----------------------------------------------------------

    def at_once(self, model: str) -> Server | None:
        """What `ensure` of the model alone would return, if that changes nothing; else None."""
        if not self._recovered:
            return None
        server = self._machine.at_once(model, self._world.clock.now())
        return server if server is not None and self._endpoints.is_kept(server) else None

    async def ensure(
        self,
        model: str,
        runtime_model: str = "",
        keep_alive: float | None = None,
        *,
        download: bool | None = None,
    ) -> Ensured:
        """Return a READY server of `model`, starting one if need be.

        keep_alive: seconds, FOREVER, or None for what is set already; download: whether its
        files may be downloaded for it, None is as configured. Cancelling only ends this
        wait. Raises the PoolErrors that `Ensure` documents.
        """
        self._check_recovered()
        while True:
            request_id = next(self._request_ids)
            try:
                event = EnsureRequested(request_id, model, runtime_model, keep_alive, download)
                ensured: Ensured = await self._ask(request_id, event)
            except asyncio.CancelledError:
                self.feed(WaiterLeft(request_id))
                raise
            if self._endpoints.is_kept(ensured.server):
                self._note_use(ensured.server.model)
                return ensured
            await self._endpoints.settled(ensured.server)

    async def hold(
        self,
        model: str,
        runtime_model: str = "",
        keep_alive: float | None = None,
        *,
        download: bool | None = None,
        holder: str = "",
    ) -> AsyncGenerator[Server]:
        """Keep `model` READY until the generator is closed; yield its server at each change.

        At once as it is now; of changes that come faster than they are taken the newest.
        holder: what others are told of who holds it. Raises the PoolErrors of `Hold`.
        """
        self._check_recovered()
        request_id = next(self._request_ids)
        name = self._machine.resolve(model)
        with self._holders.subscribe(name) as subscriber:
            end = self._answers[request_id] = self._loop.create_future()
            end.add_done_callback(subscriber.wake)
            try:
                asked = HoldRequested(
                    request_id, model, runtime_model, keep_alive, download, holder
                )
                self.feed(asked)
                subscriber.put(self._machine.get(name))
                while not end.done():
                    server = subscriber.take()
                    if server is None:
                        await subscriber.woken()
                    elif server.phase is not Phase.READY or self._endpoints.is_kept(server):
                        yield server
                raise replace(end.result())
            finally:
                del self._answers[request_id]
                self.feed(HoldEnded(request_id))

    async def reload(self, catalogue: Catalogue, limits: Limits) -> Reloaded:
        """From now on the configuration says this; unchanged servers run on."""
        request_id = next(self._request_ids)
        told: Reloaded = await self._ask(request_id, ReloadRequested(request_id, catalogue, limits))
        return told

    async def evict(self, target: str | Every, *, force: bool = False) -> tuple[Removed, ...]:
        """Stop servers and return them when their processes are gone.

        Cancelling ends the wait, not the eviction. Raises ServerInUse.
        """
        self._check_recovered()
        request_id = next(self._request_ids)
        removed: tuple[Removed, ...] = await self._ask(
            request_id, EvictRequested(request_id, target, force)
        )
        return removed

    async def forget(self, model: str) -> str:
        """Forget which runtime model a caller named for `model`; return that, or nothing."""
        self._check_recovered()
        request_id = next(self._request_ids)
        forgotten: str = await self._ask(request_id, ForgetRequested(request_id, model))
        await self._world.records.settled()
        return forgotten

    def page(self, after: ServerId | None, size: int) -> list[Server]:
        """At most `size` servers in the order of their ids, after `after`."""
        self._check_recovered()
        return self._machine.page(after, size)

    def totals(self) -> Totals:
        """Counts over the whole pool."""
        return replace(self._machine.totals(), standbys=self._world.standbys.count)

    @property
    def history(self) -> History:
        """The changes; its revision is that of the state that `page` shows.

        Raises Recovering before there is such a state.
        """
        self._check_recovered()
        return self._history

    @property
    def degraded_reason(self) -> str:
        """What the service cannot do at present, in words; empty if all is well."""
        return self._world.records.degraded_reason

    def _check_recovered(self) -> None:
        if not self._recovered:
            raise recovering()

    def _note_use(self, model: str) -> None:
        """Idle times survive too, but not every Ensure is worth a write."""
        if not self._used:
            self._use_timer = self._loop.call_later(USE_PACE_S, self._record_uses)
        self._used.add(model)

    def _record_uses(self) -> None:
        used, self._used = self._used, set()
        for model in used:
            server = self._machine.get(model)
            if server is not None:
                self._announcer.record(server)

    # --- events in, commands out ----------------------------------------------------

    def feed(self, event: Event) -> None:
        """Let the machine take in what happened and carry out what it commands."""
        now = self._world.clock.now()
        away = self._alarm.away(now)
        if away > LATE_S:
            # Before anything else: what is overdue now is so by our own fault.
            self._alarm.excuse()
            log.warning("the service did not run for a while", seconds=round(away, 1))
            self._handle(TimeReached(away), now)
        try:
            self._handle(event, now)
        finally:
            if not self._ended:
                self._alarm.arm(self._machine.next_deadline())

    def _handle(self, event: Event, now: float) -> None:
        for command in self._machine.handle(event, now):
            try:
                self._carry_out(command)
            except Exception as error:  # noqa: BLE001  # the commands after it stand
                self._not_carried_out(command, error)

    def _not_carried_out(self, command: Command, error: Exception) -> None:
        """Tell the machine of a command that could not be begun, if it waits for its result."""
        name = type(command).__name__
        log.error("a command could not be carried out", command=name, exc_info=error)
        if isinstance(command, SampleMemory):
            self._loop.call_soon(self.feed, MemorySampled(None))
        elif isinstance(command, commands.ServerCommand):
            self._loop.call_soon(self.feed, broken(command, error))

    async def _ask(self, request_id: int, event: Event) -> Any:  # noqa: ANN401  # by the event
        """Feed the event and return (or raise) the answer to its request id."""
        answer = self._answers[request_id] = self._loop.create_future()
        try:
            self.feed(event)
            result = await answer
        finally:
            del self._answers[request_id]
        if isinstance(result, PoolError):
            # A copy: many may be told the same, and each raise adds to its traceback.
            raise replace(result)
        return result

    def _carry_out(self, command: Command) -> None:
        match command:
            case Answer(request_id, result):
                answer = self._answers.get(request_id)
                if answer is not None and not answer.done():
                    answer.set_result(result)
            case Publish():
                self._announcer.publish(command)
                if command.server.phase is Phase.READY and not command.removed:
                    self._endpoints.watch()
            case SampleMemory(servers):
                self._steps.sample_memory(servers)
            case _ if isinstance(command, commands.ServerCommand):
                self._steps.carry_out(command)
            case _:
                self._carry_out_aside(command)

    def _carry_out_aside(
        self, command: RecordUsage | RecordNamings | KeepStandbys | RecoveryEnded | LogInternalError
    ) -> None:
        match command:
            case RecordNamings(namings):
                self._world.records.put_namings(namings)
            case RecordUsage(settings, needed):
                self._world.runtime.record_usage(settings, needed)
            case KeepStandbys(settings, wanted, allowed, refill):
                self._world.standbys.keep(settings, wanted=wanted, allowed=allowed, refill=refill)
            case RecoveryEnded():
                self._settled.set()
            case LogInternalError(model, during, error):
                log.error("a transition broke", model=model, during=during, exc_info=error)

    def _is_stopping(self, command: commands.SendSignal) -> bool:
        """Whether it still is: it may have ended while its wish was written."""
        server = self._machine.server(command.server_id)
        return server is not None and server.phase is Phase.STOPPING
