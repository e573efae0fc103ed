"""Holds of fronts, which go on for a while after the connection of the front is lost.

A front whose own caller ends a hold says so (EndHold). If the stream of a hold ends otherwise, the
front has vanished: the server stays held for the grace, so that the next front finds it. So it
does after the front's rights have changed, which ends its streams: gRPC tells no difference.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import structlog

from pool_service.core.errors import PoolError
from pool_service.core.server import Server

MAX_LINGERING = 10_000
"""Holds that go on without their fronts, at most; beyond it the oldest ends. Each takes some
kilobytes."""

Tell = Callable[[str], None]
"""Receives what has become of a hold, in words."""

log = structlog.get_logger("pool_service.rpc")


class FleetHolds:
    """Keeps the holds of fronts by their names. Runs on the event loop only.

    grace_s: how long a hold goes on after its stream.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._holds: dict[str, _Hold] = {}
        self._lingering: dict[_Hold, asyncio.TimerHandle] = {}
        self._tasks = set[asyncio.Task[None]]()

    async def follow(
        self, name: str, servers: AsyncGenerator[Server], tell: Tell
    ) -> AsyncGenerator[Server]:
        """Yield the server of a hold at each change, until the hold ends.

        Another hold of the same name ends before, but holds its server until this one does. If
        this generator is closed, or its task cancelled, the hold goes on for the grace. Raises
        what `servers` raises; ends without an error if `end` or another hold ends the hold.

        servers: of the pool's hold. tell: called when the hold goes on without its front, and when
        it has ended.
        """
        hold = _Hold(servers, tell)
        hold.task = asyncio.create_task(hold.run(), name=f"hold {name}")
        self._tasks.add(hold.task)
        hold.task.add_done_callback(lambda task: self._forget(name, hold, task))
        if (before := self._holds.get(name)) is not None:
            # The loop takes turns in order: by then this hold has asked for its server.
            asyncio.get_running_loop().call_soon(before.end, "another hold of its name began")
        self._holds[name] = hold
        try:
            while (server := await hold.changed()) is not None:
                yield server
            hold.raise_error()
        finally:
            hold.is_followed = False
            if not hold.task.done() and not hold.is_ending:
                self._linger(hold)

    def end(self, name: str) -> None:
        """End a hold at once, if there is one of this name."""
        if (hold := self._holds.get(name)) is not None:
            hold.end("its front has ended it")

    async def close(self) -> None:
        """End all holds, as the service ends."""
        for hold in tuple(self._holds.values()):
            hold.end("the service ends")
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _linger(self, hold: "_Hold") -> None:
        if len(self._lingering) >= MAX_LINGERING:
            oldest = next(iter(self._lingering))
            self._stop_timer(oldest)
            oldest.end("too many holds go on without their fronts")
        why = f"its front has been away for {self._grace_s:g} s"
        timer = asyncio.get_running_loop().call_later(self._grace_s, hold.end, why)
        self._lingering[hold] = timer
        hold.tell(f"the hold goes on without its front, for {self._grace_s:g} s")

    def _stop_timer(self, hold: "_Hold") -> None:
        timer = self._lingering.pop(hold, None)
        if timer is not None:
            timer.cancel()

    def _forget(self, name: str, hold: "_Hold", task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._stop_timer(hold)
        if self._holds.get(name) is hold:
            del self._holds[name]


class _Hold:
    """One hold of the pool, with or without a stream that follows it."""

    def __init__(self, servers: AsyncGenerator[Server], tell: Tell) -> None:
        self._servers = servers
        self._newest: Server | None = None
        self._changed = asyncio.Event()
        self._error: Exception | None = None
        self._why = ""
        self.tell = tell
        self.task: asyncio.Task[None]
        self.is_followed = True

    @property
    def is_ending(self) -> bool:
        """Whether the hold was told to end."""
        return bool(self._why)

    async def run(self) -> None:
        """Hold the server until the pool or `end` ends the hold."""
        try:
            async with aclosing(self._servers) as servers:
                async for server in servers:
                    self._newest = server
                    self._changed.set()
        except asyncio.CancelledError:
            # By `end`, or as the loop ends.
            self.tell(f"the hold has ended: {self._why or 'the service ends'}")
        except Exception as error:  # noqa: BLE001  # for the stream, or logged
            self._fail(error)
        finally:
            self._why = self._why or "ended"
            self._changed.set()

    def _fail(self, error: Exception) -> None:
        self._error = error
        if not self.is_followed and not isinstance(error, PoolError):
            log.error("a hold without its front has failed", exc_info=error)
        reason = error.reason if isinstance(error, PoolError) else PoolError.REASON
        self.tell(f"the hold has ended: {reason}")

    def end(self, why: str) -> None:
        """End the hold. why: in words."""
        if not self.is_ending:
            self._why = why
            self._changed.set()
            self.task.cancel()

    async def changed(self) -> Server | None:
        """Return the newest server that was not returned yet; None once the hold has ended."""
        while self._newest is None and not self.is_ending:
            self._changed.clear()
            await self._changed.wait()
        server, self._newest = self._newest, None
        return None if self.is_ending and self._error is None else server

    def raise_error(self) -> None:
        """Raise the error with which the pool has ended the hold, if it has."""
        if self._error is not None:
            raise self._error
