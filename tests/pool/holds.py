"""A holder of a model, in a task, and the states that it received."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pool_service.core.server import Phase, Server
from tests.pool.running import Running
from tests.world import settled


class Holder:
    """What it was told, and the error that ended it."""

    def __init__(self) -> None:
        self.told: list[Server] = []
        self.end: BaseException | None = None

    @property
    def phases(self) -> list[Phase]:
        """Each phase that it saw, in order."""
        seen = [server.phase for server in self.told]
        return [phase for i, phase in enumerate(seen) if i == 0 or phase is not seen[i - 1]]

    @property
    def is_ready(self) -> bool:
        return bool(self.told) and self.told[-1].phase is Phase.READY

    async def follow(self, run: Running, model: str, **more: object) -> None:
        stream = run.pool.hold(model, **more)  # type: ignore[arg-type]
        try:
            async for server in stream:
                self.told.append(server)
        except Exception as error:  # noqa: BLE001  # shown to the test
            self.end = error
        finally:
            await stream.aclose()


@asynccontextmanager
async def holding(run: Running, model: str = "m", **more: object) -> AsyncIterator[Holder]:
    """It has asked already, and lets go at the end."""
    holder = Holder()
    task = asyncio.create_task(holder.follow(run, model, **more))
    await settled(lambda: holder.told or holder.end)
    try:
        yield holder
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
