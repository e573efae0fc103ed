"""The driver: feeds events to the machine and carries out its commands.

`feed` is synchronous and the only place where state changes. A command that takes time becomes a
named task, whose result is the next event. One timer serves the whole pool; it is armed again
after every event.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from pool_service.announcer import Announcer, Observer
from pool_service.answers import Answers
from pool_service.change_history import History
from pool_service.command_runner import CommandRunner, command_failed
from pool_service.command_tasks import CommandTasks
from pool_service.core import commands, events
from pool_service.core.call_error_texts import recovering
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import (
    Answer,
    Command,
    KeepStandbys,
    LogInternalError,
    Publish,
    RecordCommand,
    RecordLoad,
    RecordNamings,
    RecordPins,
    RecordUsage,
    RecoveryEnded,
    SampleMemory,
)
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.results import Ensured, Every, Pinned, Reloaded, Removed, Totals
from pool_service.core.server import Phase, Server, ServerId
from pool_service.core.types import Account, Identity
from pool_service.descriptions import Descriptions
from pool_service.endpoints import Endpoints
from pool_service.log_followers import LogFollowers
from pool_service.lookup import Lookup
from pool_service.models import Models
from pool_service.offers import Offers
from pool_service.ports import World
from pool_service.subscribers import Subscribers
from pool_service.suspension_timer import SuspensionTimer
from pool_service.use_recorder import UseRecorder

SUSPENSION_S = 5.0
"""The least lateness of the timer that counts as a suspension: the machine slept, or the service
was held up."""

log = structlog.get_logger("pool_service.pool")


class Pool:
    """A pool of servers, on one running event loop."""

    def __init__(
        self,
        world: World,
        history: History[Server],
        catalogue: Catalogue,
        limits: Limits,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._world = world
        self._history = history
        machine = self._machine = Machine(catalogue, limits)
        self._loop = asyncio.get_running_loop()
        self._answers = Answers(self.feed)
        self._subscribers = Subscribers()
        self._announcer = Announcer(world, history, self._subscribers, observers)
        self._timer = SuspensionTimer(world.clock, lambda: self.feed(events.TimeReached()))
        self._uses = UseRecorder(self._machine, self._announcer)
        self._endpoints = Endpoints(self._machine, world.probe, self._subscribers, self.feed)
        self._recovery_ended = asyncio.Event()
        self._recovered = self._ended = False
        runner = CommandRunner(
            world.runtime, world.processes, world.probe, world.records, self._is_stopping, self.feed
        )
        self._tasks = CommandTasks(runner, world.memory, self.feed)
        self.logs = LogFollowers(machine, world.logs, self._subscribers, self._check_recovered)
        self.lookup = Lookup(machine, world.probe, self._endpoints, self._check_recovered)
        self.models = Models(machine, world.runtime, self._tasks)
        self.descriptions = Descriptions(machine, world, self._check_recovered)
        self.offer = Offers(machine, world, history, self._tasks, self._check_recovered).of
        self.notices = world.notices

    # --- the start and the end of the service ----------------------------------------

    async def recover(self, time_limit: float) -> None:
        """Take over the servers of an earlier service; to be called before everything else.

        Returns when the state of each server is known, at the latest after `time_limit` seconds.
        Servers that have not answered by then are waited for like starting ones.
        """
        remembered = await self._world.records.load()
        for name in remembered.damaged:
            log.warning("a record could not be read and was set aside", file=name)
        self.feed(events.RecoveryBegan(remembered))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._recovery_ended.wait(), time_limit)
        # After the adoptions and before the first spawn: everything else is an orphan then.
        nonces = {server.plan.nonce for server in remembered.servers if server.plan}
        self.feed(events.OrphansFound(await self._orphans(nonces)))
        self._tasks.allow_spawns()
        self._recovered = True

    async def _orphans(self, nonces: Collection[str]) -> tuple[Identity, ...]:
        try:
            return await self._world.processes.orphans(nonces)
        except Exception:  # the next service looks again
            log.exception("orphans could not be looked for")
            return ()

    async def shutdown(self) -> None:
        """Refuse new requests, drain and stop all servers, and end all Watches.

        Cancelling ends the wait, not the drain; `leave` then leaves the remaining servers.
        """
        request_id = self._answers.new_id()
        await self._answers.ask(request_id, events.ShutdownRequested(request_id))
        await self._end()

    async def leave(self) -> None:
        """Refuse new requests, end all Watches, and leave the servers to the next service.

        Waits for a spawn in progress, so that its process gets a record.
        """
        self.feed(events.DetachRequested())
        self._uses.record()
        await self._end()

    def escalate(self) -> None:
        """Send each server that is stopping its next, harder signal now."""
        self.feed(events.ShutdownEscalated())

    async def _end(self) -> None:
        """Begin and record nothing from now on, as the next service may own the records."""
        await self._tasks.spawned()
        self._tasks.close()
        self._ended = True
        self._announcer.is_recording = False
        self._history.close()
        self.logs.close()
        self._endpoints.close()
        self._timer.cancel()
        self._uses.cancel()
        await self._tasks.cancel_all()
        await self._world.records.settled()

    # --- requests of callers --------------------------------------------------------

    def at_once(self, model: str) -> Server | None:
        """Return the server that a plain `ensure` of the model would return without any change.

        None if it would have to wait or to change something.
        """
        if not self._recovered:
            return None
        server = self._machine.at_once(model, self._world.clock.now())
        return server if server is not None and self._endpoints.verify(server) else None

    async def ensure(
        self,
        model: str,
        runtime_model: str = "",
        keep_alive: float | None = None,
        *,
        download: bool | None = None,
        account: Account | None = None,
        least_generation: int = 0,
    ) -> Ensured:
        """Return a READY server of `model`; start one if there is none.

        keep_alive: in seconds, or FOREVER; None leaves it as it is.
        download: whether missing files may be downloaded; None: as configured.
        account: to whom a start counts; None: to nobody.
        least_generation: the least generation of a server that is started for this call.

        Cancelling ends this wait only, not the start. Raises the PoolErrors of `Ensure`.
        """
        self._check_recovered()
        asked = model, runtime_model, keep_alive, download, account, least_generation
        while True:
            request_id = self._answers.new_id()
            try:
                event = events.EnsureRequested(request_id, *asked)
                ensured: Ensured = await self._answers.ask(request_id, event)
            except asyncio.CancelledError:
                self.feed(events.WaiterLeft(request_id))
                raise
            if self._endpoints.verify(ensured.server):
                self._uses.note(ensured.server.model)
                return ensured
            # The server has just ended: ask again once the machine knows that.
            await self._endpoints.left_ready(ensured.server)

    async def hold(
        self,
        model: str,
        runtime_model: str = "",
        keep_alive: float | None = None,
        *,
        download: bool | None = None,
        holder: str = "",
        account: Account | None = None,
        least_generation: int = 0,
    ) -> AsyncGenerator[Server]:
        """Keep `model` READY until the generator is closed; yield its server at each change.

        Yields the present state first. If changes come faster than they are consumed, only the
        newest is yielded. holder: a label for those who want to evict the server. account,
        least_generation: see `ensure`. Raises the PoolErrors of `Hold`.
        """
        self._check_recovered()
        request_id = self._answers.new_id()
        asked = model, runtime_model, keep_alive, download, holder, account, least_generation
        name = self._machine.resolve(model)
        with self._subscribers.subscribe(name) as subscriber:
            # The machine answers a hold only when it ends it, and always with an error.
            error = self._answers.expect(request_id)
            error.add_done_callback(subscriber.wake)
            try:
                self.feed(events.HoldRequested(request_id, *asked))
                present = self._machine.get(name)
                if present is not None:
                    subscriber.put(present)
                while not error.done():
                    server = subscriber.take()
                    if server is None:
                        await subscriber.woken()
                    elif server.phase is not Phase.READY or self._endpoints.verify(server):
                        yield server
                raise replace(error.result())
            finally:
                self._answers.release(request_id)
                self.feed(events.HoldEnded(request_id))

    async def reload(self, catalogue: Catalogue, limits: Limits) -> Reloaded:
        """Apply another catalogue and other limits; return what changes for the servers.

        Servers whose settings are the same keep running. Raises ShuttingDown.
        """
        request_id = self._answers.new_id()
        event = events.ReloadRequested(request_id, catalogue, limits)
        reloaded: Reloaded = await self._answers.ask(request_id, event)
        return reloaded

    async def evict(self, target: str | Every, *, force: bool = False) -> tuple[Removed, ...]:
        """Stop servers, and return them when their processes are gone.

        Cancelling ends the wait, not the eviction. Raises ServerInUse.
        """
        self._check_recovered()
        request_id = self._answers.new_id()
        removed: tuple[Removed, ...] = await self._answers.ask(
            request_id, events.EvictRequested(request_id, target, force)
        )
        return removed

    async def forget(self, model: str) -> str:
        """Forget the runtime model that a caller named for `model`; return it, empty if none."""
        self._check_recovered()
        request_id = self._answers.new_id()
        forgotten: str = await self._answers.ask(
            request_id, events.ForgetRequested(request_id, model)
        )
        await self._world.records.settled()
        return forgotten

    async def pin(self, model: str, *, pinned: bool | None) -> Pinned:
        """Pin `model`, take its pin back, or let the configuration decide (None).

        Returns when that is on disk, or could not be written. Raises ModelUnknown,
        TooManyPins.
        """
        self._check_recovered()
        request_id = self._answers.new_id()
        result: Pinned = await self._answers.ask(
            request_id, events.PinRequested(request_id, model, pinned)
        )
        if result.changed or result.noted:
            log.info(result.in_words, model=model)
        await self._world.records.settled()
        return result

    def page(self, after: ServerId | None, size: int) -> list[Server]:
        """Return at most `size` servers in the order of their ids, only those after `after`."""
        self._check_recovered()
        return self._machine.page(after, size)

    def totals(self) -> Totals:
        """Return the counts and the memory of the whole pool."""
        now, standbys = self._world.clock.now(), self._world.standbys.count
        return replace(self._machine.totals(now), standbys=standbys)

    @property
    def history(self) -> History[Server]:
        """The history of changes; its revision is that of the state that `page` returns.

        Raises Recovering until the recovery has ended.
        """
        self._check_recovered()
        return self._history

    @property
    def degraded_reason(self) -> str:
        """The reason why the service works less well at present; empty if it does not."""
        return self._world.records.degraded_reason

    def _check_recovered(self) -> None:
        if not self._recovered:
            raise recovering()

    # --- events in, commands out ----------------------------------------------------

    def feed(self, event: events.Event) -> None:
        """Let the machine handle an event, and carry out the resulting commands."""
        now = self._world.clock.now()
        suspended = self._timer.measure_suspension(now)
        if suspended > SUSPENSION_S:
            # Before the event: the suspension made deadlines overdue, not the servers.
            self._timer.forget_lateness()
            log.warning("the service did not run for a while", seconds=round(suspended, 1))
            self._handle(events.TimeReached(suspended), now)
        try:
            self._handle(event, now)
        finally:
            if not self._ended:
                self._timer.arm(self._machine.next_deadline())

    def _handle(self, event: events.Event, now: float) -> None:
        for command in self._machine.handle(event, now):
            try:
                self._carry_out(command)
            except Exception as error:  # noqa: BLE001  # the commands after it are carried out
                self._report_failure(command, error)

    def _report_failure(self, command: Command, error: Exception) -> None:
        """Feed the event of a failed command if the machine waits for its result."""
        name = type(command).__name__
        log.error("a command could not be carried out", command=name, exc_info=error)
        if isinstance(command, SampleMemory):
            self._loop.call_soon(self.feed, events.MemorySampled(None))
        elif isinstance(command, commands.ServerCommand):
            self._loop.call_soon(self.feed, command_failed(command, error))

    def _carry_out(self, command: Command) -> None:
        match command:
            case Answer(request_id, result):
                self._answers.give(request_id, result)
            case Publish():
                self._announcer.publish(command)
                if command.server.phase is Phase.READY and not command.removed:
                    self._endpoints.watch()
            case SampleMemory(servers):
                self._tasks.sample_memory(servers)
            case _ if isinstance(command, commands.ServerCommand):
                self._tasks.carry_out(command)
            case _:
                self._carry_out_for_pool(command)

    def _carry_out_for_pool(
        self, command: RecordCommand | KeepStandbys | RecoveryEnded | LogInternalError
    ) -> None:
        match command:
            case RecordNamings(namings):
                self._world.records.put_namings(namings)
                self.models.note_change()
            case RecordPins(pins):
                self._world.records.put_pins(pins)
            case RecordUsage(settings, needed):
                self._world.runtime.record_usage(settings, needed)
                self.models.note_change()
            case RecordLoad(settings, seconds):
                self._world.runtime.record_load(settings, seconds)
            case KeepStandbys(settings, wanted, allowed, refill):
                self._world.standbys.keep(settings, wanted=wanted, allowed=allowed, refill=refill)
            case RecoveryEnded():
                self._recovery_ended.set()
            case LogInternalError(model, during, error):
                log.error(
                    "internal error in a transition", model=model, during=during, exc_info=error
                )

    def _is_stopping(self, command: commands.SendSignal) -> bool:
        """Return whether a server is still to get its signal, now that the intent is on disk."""
        server = self._machine.server(command.server_id)
        return server is not None and server.phase is Phase.STOPPING
