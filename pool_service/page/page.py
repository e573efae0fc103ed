"""The page of a pool: its files, its calls, and the changes that its timeline shows."""

from pathlib import Path

from pool_service.core.commands import Publish
from pool_service.http.exchange import Request, Routes
from pool_service.page.api import add_calls, add_own_call
from pool_service.page.files import add_files
from pool_service.page.recent_changes import RecentChanges
from pool_service.page.usage import Usage
from pool_service.pool import Pool
from pool_service.ports import Clock
from pool_service.rpc.json_calls import JsonCalls
from pool_service.rpc.servicer import PoolServicer


class Page:
    """The page of one pool. observe: receives each change of the pool."""

    def __init__(self, state_dir: Path, host: str = "") -> None:
        """host: see `Usage`."""
        self._host = host
        self._changes = RecentChanges(state_dir)

    def observe(self, change: Publish) -> None:
        """Receive a change of a server; for the pool."""
        self._changes.observe(change)

    def add_to(self, routes: Routes, pool: Pool, servicer: PoolServicer, clock: Clock) -> None:
        """Add the page to the routes of a listener."""
        usage = Usage(pool, clock, self._host)

        async def used(_request: Request) -> str:
            return await usage.as_json()

        async def changed(request: Request) -> str:
            return await self._changes.as_json(request.body.decode("utf-8", "replace"))

        add_files(routes)
        add_calls(routes, JsonCalls(servicer))
        add_own_call(routes, "Usage", used)
        # Why a server has ended can be a line of its log.
        add_own_call(routes, "Changes", changed, quotes_logs=True)
