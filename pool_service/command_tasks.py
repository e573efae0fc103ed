"""The tasks of commands in progress: each runs one command and feeds its resulting event."""

import asyncio
from collections.abc import Callable

import structlog

from pool_service.command_runner import CommandRunner, command_failed
from pool_service.core import commands
from pool_service.core.events import Event, MemorySampled
from pool_service.core.server import Server, ServerId
from pool_service.ports import Memory

CANCELLABLE = commands.Prepare | commands.EstimateMemory | commands.Fetch
"""Commands that may be cancelled while they are carried out."""

log = structlog.get_logger("pool_service.pool")


class CommandTasks:
    """Carries out commands as tasks of the running event loop.

    Spawns nothing before `allow_spawns`, and begins nothing after `close`.
    """

    def __init__(
        self, runner: CommandRunner, memory: Memory, feed: Callable[[Event], None]
    ) -> None:
        self._runner = runner
        self._memory = memory
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawns: set[asyncio.Task[None]] = set()
        self._cancellable: dict[tuple[type, ServerId], asyncio.Task[None]] = {}
        self._may_spawn = asyncio.Event()
        self.is_closed = False

    def allow_spawns(self) -> None:
        """Begin the spawns that have waited, and let further ones begin at once."""
        self._may_spawn.set()

    async def spawned(self) -> None:
        """Wait until no spawn is in progress."""
        while self._spawns:
            await asyncio.wait(self._spawns)

    def close(self) -> None:
        """Begin no further commands."""
        self.is_closed = True

    async def cancel_all(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def keep(self, task: asyncio.Task[None]) -> None:
        """Keep a reference to a task until it is done, as the event loop keeps none."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def carry_out(self, command: commands.ServerCommand) -> None:
        """Begin a server's command; CancelPrepare and CancelEstimate cancel begun ones."""
        match command:
            case commands.CancelPrepare(server_id):
                self._cancel(server_id, commands.Prepare)
            case commands.CancelEstimate(server_id):
                self._cancel(server_id, commands.EstimateMemory, commands.Fetch)
            case _:
                self._begin(command)

    def sample_memory(self, servers: tuple[Server, ...]) -> None:
        """Begin to sample the memory of the machine and of these servers."""
        if not self.is_closed:
            self.keep(self._loop.create_task(self._sample(servers), name="memory sample"))

    def _begin(self, command: commands.TaskCommand) -> None:
        if self.is_closed:
            return
        name = f"{type(command).__name__} {command.server_id.model} #{command.server_id.generation}"
        task = self._loop.create_task(self._run(command), name=name)
        self.keep(task)
        if isinstance(command, CANCELLABLE):
            key = type(command), command.server_id
            self._cancellable[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        elif isinstance(command, commands.Spawn):
            self._spawns.add(task)
            task.add_done_callback(self._spawns.discard)

    def _cancel(self, server_id: ServerId, *kinds: type) -> None:
        for kind in kinds:
            task = self._cancellable.pop((kind, server_id), None)
            if task is not None:
                task.cancel()

    def _forget(self, key: tuple[type, ServerId], done: asyncio.Task[None]) -> None:
        if self._cancellable.get(key) is done:
            del self._cancellable[key]

    async def _sample(self, servers: tuple[Server, ...]) -> None:
        try:
            sample = await self._memory.sample(servers)
        except Exception as error:  # the next sample may succeed
            log.exception("the memory could not be sampled", error=repr(error))
            self._feed(MemorySampled(None))
        else:
            self._feed(MemorySampled(sample))

    async def _run(self, command: commands.TaskCommand) -> None:
        try:
            if isinstance(command, commands.Spawn):
                await self._may_spawn.wait()
            event = await self._runner.run(command)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Something that the command awaited was cancelled, and not this task.
            event = command_failed(command, error)
        except Exception as error:  # noqa: BLE001  # no command may end without an event
            event = command_failed(command, error)
        if event is not None:
            self._feed(event)
