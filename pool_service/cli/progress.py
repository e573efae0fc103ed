"""Shows on a terminal what an Ensure waits for, while it waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pool_service.cli.terminal import display
from pool_service.cli.text import safe
from pool_service.cli.words import why
from pool_service_client import AsyncPoolClient, PoolError, Server, ServerChanged


@asynccontextmanager
async def shown(pool: AsyncPoolClient, model: str) -> AsyncIterator[None]:
    """While the block runs, show on stderr how the model's server is."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with display(*columns, transient=True) as progress:
        follower = asyncio.create_task(_follow(pool, model, progress))
        try:
            yield
        finally:
            follower.cancel()
            with suppress(asyncio.CancelledError):
                await follower


async def _follow(pool: AsyncPoolClient, model: str, progress: Progress) -> None:
    """A display may fail without harm: the Ensure itself says what is wrong."""
    task = progress.add_task(f"{escape(safe(model))}: waiting for the service", total=None)
    with suppress(PoolError):
        async with pool.watch() as events:
            async for event in events:
                if isinstance(event, ServerChanged) and event.server.model == model:
                    progress.update(task, description=escape(_words(event.server)))


def _words(server: Server) -> str:
    reason = f": {why(server)}" if why(server) else ""
    doing = server.state.name.lower().replace("_", " ")
    return safe(f"{server.model}: {doing}{reason}")
