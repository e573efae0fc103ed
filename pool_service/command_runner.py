"""Execution of the core's commands: each calls one port and turns the result into an event."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, assert_never

import structlog

from pool_service.core import commands, events
from pool_service.core.errors import PoolError, StartFailed
from pool_service.core.server import StopSignal
from pool_service.core.types import ListensElsewhere, Unready
from pool_service.ports import Probe, Processes, Records, Runtime

log = structlog.get_logger("pool_service.pool")


class CommandRunner:
    """Runs commands, each of which concerns one server.

    is_still_wanted: returns whether a signal is still to be sent once its intent is on disk.
    feed: receives the events that occur before a command has finished (download progress).
    """

    def __init__(
        self,
        runtime: Runtime,
        processes: Processes,
        probe: Probe,
        records: Records,
        is_still_wanted: Callable[[commands.SendSignal], bool],
        feed: Callable[[events.ServerEvent], None],
    ) -> None:
        self._runtime = runtime
        self._processes = processes
        self._probe = probe
        self._records = records
        self._is_still_wanted = is_still_wanted
        self._feed = feed

    async def run(self, command: commands.TaskCommand) -> events.ServerEvent | None:
        """Run a command and return the resulting event; None if there is none.

        Raises whatever a port raises in breach of its promise.
        """
        try:
            return await self._coroutine_of(command)
        except RuntimeError as error:
            if "can't start new thread" not in str(error):
                raise
            return _short_of_processes(command)

    def _coroutine_of(  # noqa: C901, PLR0911, PLR0912  # a case for each command
        self, command: commands.TaskCommand
    ) -> Coroutine[Any, Any, events.ServerEvent | None]:
        match command:
            case commands.EstimateMemory():
                return self._estimate(command)
            case commands.Fetch():
                return self._fetch(command)
            case commands.Prepare():
                return self._prepare(command)
            case commands.Spawn():
                return self._spawn(command)
            case commands.AwaitExit():
                return self._await_exit(command)
            case commands.AwaitReady():
                return self._await_ready(command)
            case commands.CheckActivity():
                return self._check_activity(command)
            case commands.SendSignal():
                return self._send_signal(command)
            case commands.CleanUp():
                return self._clean_up(command)
            case commands.EscalateCleanUp():
                return self._escalate_clean_up(command)
            case commands.Adopt():
                return self._adopt(command)
            case commands.ProbeServer():
                return self._check_liveness(command)
            case commands.ReadLog():
                return self._read_log(command)
            case _:
                assert_never(command)

    async def _estimate(self, command: commands.EstimateMemory) -> events.ServerEvent:
        server_id = command.server_id
        try:
            estimate = await self._runtime.estimate(server_id.model, command.settings)
        except PoolError as error:
            return events.EstimateFailed(server_id, error)
        return events.MemoryEstimated(server_id, estimate)

    async def _fetch(self, command: commands.Fetch) -> events.ServerEvent:
        server_id = command.server_id

        def progress(done: int, total: int) -> None:
            self._feed(events.Fetching(server_id, done, total))

        try:
            await self._runtime.fetch(server_id.model, command.settings, progress)
        except PoolError as error:
            return events.EstimateFailed(server_id, error)
        return events.Fetched(server_id)

    async def _prepare(self, command: commands.Prepare) -> events.ServerEvent:
        server_id = command.server_id
        try:
            plan = await self._runtime.prepare(server_id.model, command.settings)
        except PoolError as error:
            return events.NotStarted(server_id, error)
        return events.Prepared(server_id, plan)

    async def _spawn(self, command: commands.Spawn) -> events.ServerEvent:
        server_id = command.server_id
        try:
            # Record the intent first: if the service dies now, the next one finds the process
            # by its nonce.
            await self._records.servers_settled()
            process = await self._processes.spawn(*server_id, command.plan)
        except PoolError as error:
            return events.NotStarted(server_id, error)
        return events.Spawned(server_id, process)

    async def _await_exit(self, command: commands.AwaitExit) -> events.ServerEvent:
        report = await self._processes.exited(command.identity)
        return events.Exited(command.server_id, report)

    async def _await_ready(self, command: commands.AwaitReady) -> events.ServerEvent | None:
        server_id = command.server_id
        found = await self._probe.ready(
            command.identity, command.plan, command.probe_timeout, again=command.again
        )
        if found is Unready.LOST:
            return events.ListenerLost(server_id)
        if found is Unready.GONE:
            return None  # AwaitExit reports the exit
        if isinstance(found, ListensElsewhere):
            return events.BoundElsewhere(server_id, found.endpoint)
        return events.BecameReady(server_id, found)

    async def _check_activity(self, command: commands.CheckActivity) -> events.ServerEvent:
        if command.pause:
            await asyncio.sleep(command.pause)
        activity = await self._probe.check_activity(
            command.identity, command.plan, command.endpoint, command.probe_timeout
        )
        return events.ActivityReported(command.server_id, activity)

    async def _check_liveness(self, command: commands.ProbeServer) -> events.ServerEvent:
        result = await self._probe.check_liveness(
            command.identity,
            command.plan,
            command.endpoint,
            command.log_path,
            command.probe_timeout,
        )
        return events.ServerProbed(command.server_id, result)

    async def _read_log(self, command: commands.ReadLog) -> events.ServerEvent:
        lines = await self._processes.last_lines(command.log_path)
        return events.LogRead(command.server_id, lines)

    async def _send_signal(self, command: commands.SendSignal) -> None:
        # Record the intent first: if the service dies now, the next one sends the signal.
        await self._records.servers_settled()
        if not self._is_still_wanted(command):
            return
        level = log.warning if command.stop is StopSignal.KILL else log.info
        level(
            "signal",
            signal=command.stop.value,
            model=command.server_id.model,
            generation=command.server_id.generation,
            pid=command.identity.pid,
        )
        await self._processes.signal(command.identity, command.stop)

    async def _clean_up(self, command: commands.CleanUp) -> events.ServerEvent:
        killed = await self._processes.clean_up(
            command.identity, command.endpoint, command.drain_time
        )
        return events.CleanedUp(command.server_id, killed)

    async def _escalate_clean_up(self, command: commands.EscalateCleanUp) -> None:
        self._processes.escalate(command.identity)

    async def _adopt(self, command: commands.Adopt) -> events.ServerEvent:
        process = await self._processes.adopt(command.server)
        return events.Adopted(command.server_id, process)


def _short_of_processes(command: commands.TaskCommand) -> events.ServerEvent:
    """Return the event for a command that failed because the system allows no more threads."""
    server_id, model = command.server_id, command.server_id.model
    error = StartFailed(
        f"{model!r} cannot be started: the system allows this service no more threads and "
        "processes. Raise its limit (ulimit -u, TasksMax, pids.max), or evict models.",
        model=model,
    )
    if isinstance(command, commands.EstimateMemory | commands.Fetch):
        return events.EstimateFailed(server_id, error)
    if isinstance(command, commands.Prepare | commands.Spawn):
        return events.NotStarted(server_id, error)
    return command_failed(command, error)


def command_failed(command: commands.ServerCommand, error: BaseException) -> events.CommandFailed:
    """Log an error that a port must not raise, and return the event that reports it."""
    name, model = type(command).__name__, command.server_id.model
    log.error("internal error in a command", command=name, model=model, exc_info=error)
    failure = PoolError(
        f"{model!r}: the service could not carry out {name} because of an internal error "
        f"({type(error).__name__}). See its log, and report it.",
        model=model,
    )
    return events.CommandFailed(command.server_id, command, failure)
