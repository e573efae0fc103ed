"""Carries out the core's commands: each is one call of a port, whose result is an event."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from pool_service.core import steps
from pool_service.core.errors import PoolError, StartFailed
from pool_service.core.types import StopSignal, Unready
from pool_service.ports import Probe, Processes, Records, Runtime

log = structlog.get_logger("pool_service.pool")


class StepRunner:
    """What the driver does for one process at a time.

    still_meant: whether a signal is still to be sent when its turn has come; tell: takes
    what happens before a step is done.
    """

    def __init__(
        self,
        runtime: Runtime,
        processes: Processes,
        probe: Probe,
        records: Records,
        still_meant: Callable[[steps.SendSignal], bool],
        tell: Callable[[steps.ServerEvent], None],
    ) -> None:
        self._runtime = runtime
        self._processes = processes
        self._probe = probe
        self._records = records
        self._still_meant = still_meant
        self._tell = tell
        self._steps: dict[type, Callable[[Any], Awaitable[steps.ServerEvent | None]]] = {
            steps.Appraise: self._appraise,
            steps.Fetch: self._fetch,
            steps.Prepare: self._prepare,
            steps.Spawn: self._spawn,
            steps.AwaitExit: self._await_exit,
            steps.AwaitReady: self._await_ready,
            steps.CheckUse: self._check_use,
            steps.SendSignal: self._send_signal,
            steps.Sweep: self._sweep,
            steps.HurrySweep: self._hurry_sweep,
            steps.Adopt: self._adopt,
            steps.TakePulse: self._take_pulse,
            steps.ReadLog: self._read_log,
        }

    async def run(self, command: steps.ServerCommand) -> steps.ServerEvent | None:
        """Carry it out and return what came of it; raises whatever its port should not."""
        try:
            return await self._steps[type(command)](command)
        except RuntimeError as error:
            if "can't start new thread" not in str(error):
                raise
            return _short_of_processes(command)

    async def _appraise(self, command: steps.Appraise) -> steps.ServerEvent:
        model, generation = command.model, command.generation
        try:
            appraisal = await self._runtime.appraise(model, command.settings)
        except PoolError as error:
            return steps.NotAppraised(model, generation, error)
        return steps.Appraised(model, generation, appraisal)

    async def _fetch(self, command: steps.Fetch) -> steps.ServerEvent:
        model, generation = command.model, command.generation

        def progress(done: int, total: int) -> None:
            self._tell(steps.Fetching(model, generation, done, total))

        try:
            await self._runtime.fetch(model, command.settings, progress)
        except PoolError as error:
            return steps.NotAppraised(model, generation, error)
        return steps.Fetched(model, generation)

    async def _prepare(self, command: steps.Prepare) -> steps.ServerEvent:
        model, generation = command.model, command.generation
        try:
            plan = await self._runtime.prepare(model, command.settings)
        except PoolError as error:
            return steps.NotStarted(model, generation, error)
        return steps.Prepared(model, generation, plan)

    async def _spawn(self, command: steps.Spawn) -> steps.ServerEvent:
        model, generation = command.model, command.generation
        try:
            # The intent first: should we die now, the process is found by its nonce.
            await self._records.settled()
            process = await self._processes.spawn(model, generation, command.plan)
        except PoolError as error:
            return steps.NotStarted(model, generation, error)
        return steps.Spawned(model, generation, process)

    async def _await_exit(self, command: steps.AwaitExit) -> steps.ServerEvent:
        report = await self._processes.exited(command.identity)
        return steps.Exited(command.model, command.generation, report)

    async def _await_ready(self, command: steps.AwaitReady) -> steps.ServerEvent | None:
        model, generation = command.model, command.generation
        found = await self._probe.ready(
            command.identity, command.plan, command.probe_timeout, again=command.again
        )
        if found is Unready.LOST:
            return steps.ListenerLost(model, generation)
        return steps.BecameReady(model, generation, found) if isinstance(found, str) else None

    async def _check_use(self, command: steps.CheckUse) -> steps.ServerEvent:
        if command.pause:
            await asyncio.sleep(command.pause)
        use = await self._probe.use(
            command.identity, command.plan, command.endpoint, command.probe_timeout
        )
        return steps.UseReported(command.model, command.generation, use)

    async def _take_pulse(self, command: steps.TakePulse) -> steps.ServerEvent:
        pulse = await self._probe.pulse(
            command.identity,
            command.plan,
            command.endpoint,
            command.log_path,
            command.probe_timeout,
        )
        return steps.PulseTaken(command.model, command.generation, pulse)

    async def _read_log(self, command: steps.ReadLog) -> steps.ServerEvent:
        lines = await self._processes.last_lines(command.log_path)
        return steps.LogRead(command.model, command.generation, lines)

    async def _send_signal(self, command: steps.SendSignal) -> None:
        # The wish first: should we die now, the next service carries it out.
        await self._records.settled()
        if not self._still_meant(command):
            return
        level = log.warning if command.stop is StopSignal.KILL else log.info
        level(
            "signal",
            signal=command.stop.value,
            model=command.model,
            generation=command.generation,
            pid=command.identity.pid,
        )
        await self._processes.signal(command.identity, command.stop)

    async def _sweep(self, command: steps.Sweep) -> steps.ServerEvent:
        killed = await self._processes.sweep(command.identity, command.endpoint, command.drain_time)
        return steps.Swept(command.model, command.generation, killed)

    async def _hurry_sweep(self, command: steps.HurrySweep) -> None:
        self._processes.hurry(command.identity)

    async def _adopt(self, command: steps.Adopt) -> steps.ServerEvent:
        process = await self._processes.adopt(command.server)
        return steps.Adopted(command.model, command.generation, process)


def _short_of_processes(command: steps.ServerCommand) -> steps.ServerEvent:
    """Return what a step comes to where the system allows no further thread."""
    model, generation = command.model, command.generation
    error = StartFailed(
        f"{model!r} cannot be started: the system allows this service no more threads and "
        "processes. Raise its limit (ulimit -u, TasksMax, pids.max), or evict what is not needed.",
        model=model,
    )
    if isinstance(command, steps.Appraise | steps.Fetch):
        return steps.NotAppraised(model, generation, error)
    if isinstance(command, steps.Prepare | steps.Spawn):
        return steps.NotStarted(model, generation, error)
    return broken(command, error)


def broken(command: steps.ServerCommand, error: BaseException) -> steps.StepBroke:
    """Return what the machine is told of a step that raised what its port does not promise."""
    name = type(command).__name__
    log.error("step broke", step=name, model=command.model, exc_info=error)
    told = PoolError(
        f"the service could not {name} for {command.model!r}, by a fault of its own: "
        f"{type(error).__name__}. Its log says more.",
        model=command.model,
    )
    return steps.StepBroke(command.model, command.generation, name, told)
