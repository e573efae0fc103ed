"""A hold of one model that all requests for it share."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

import structlog
from opentelemetry import context

from pool_service_client import (
    AsyncPoolClient,
    PoolError,
    PoolUnavailable,
    Recovering,
    Server,
    ServerState,
    ShuttingDown,
)

HOLDER = "gateway"
"""The label of the gateway's holds, as `pool-service describe` shows it."""

SERVICE_AWAY_LIMIT_S = 30.0
"""How long the service may be away before requests that wait are refused: longer than a restart
takes."""

FIRST_PAUSE_S, MOST_PAUSE_S = 0.1, 2.0
"""The pauses between two tries to reach the service; each is twice the last one."""

log = structlog.get_logger("pool_service.gateway")

SERVICE_AWAY = (PoolUnavailable, Recovering, ShuttingDown)
"""The errors of a service that is away, and may be back soon."""


def pauses() -> Iterator[float]:
    """Yield the seconds to wait before each further try to reach the service."""
    pause = FIRST_PAUSE_S
    while True:
        yield pause
        pause = min(2 * pause, MOST_PAUSE_S)


class SharedHold:
    """Keeps a model READY, and publishes its newest state, until it is closed or has failed.

    A failed start ends the hold: all who wait get its error, and none starts the model once more.
    A service that goes away does not: what is known of the server stays, and the hold is opened
    again.

    Attributes:
        users: the requests that use the model or wait for it.
        ready_since: the loop's time since which the server is READY; None: it is not.
    """

    def __init__(
        self, pool: AsyncPoolClient, model: str, on_news: Callable[["SharedHold"], None]
    ) -> None:
        """Open the hold.

        pool: a client that retries nothing by itself. on_news: called after each change of the
        state, and at the end.
        """
        self.model = model
        self.users = 0
        self.ready_since: float | None = None
        self._pool = pool
        self._on_news = on_news
        self._newest: Server | None = None
        self._failure: PoolError | None = None
        self._is_closed = False
        self._changed = asyncio.Event()
        self._keeper = asyncio.create_task(self._keep(), name=f"hold {model}")

    @property
    def newest(self) -> Server | None:
        """Return the newest state of the server; None: none has been received."""
        return self._newest

    @property
    def is_over(self) -> bool:
        """Return whether the hold has failed or was closed."""
        return self._is_closed or self._failure is not None

    @property
    def is_queued(self) -> bool:
        """Return whether the model waits in the service's queue."""
        newest = self._newest
        return not self.is_over and newest is not None and newest.state is ServerState.QUEUED

    async def ready(self, after: Server | None = None) -> Server:
        """Return the READY server; wait for one that is not the process of `after`.

        Raises the PoolError that ended the hold.
        """
        while (server := self.ready_at_once(after)) is None:
            await self._changed.wait()
        return server

    def ready_at_once(self, after: Server | None = None) -> Server | None:
        """Return the READY server that is not the process of `after`, or None.

        Raises the PoolError that ended the hold.
        """
        if self._failure is not None:
            raise replace(self._failure)
        newest = self._newest
        return newest if newest is not None and _is_another(newest, after) else None

    async def close(self) -> None:
        """Let the model go."""
        self._is_closed = True
        self._keeper.cancel()
        await asyncio.wait((self._keeper,))

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        broken_at, waits = None, pauses()
        while True:
            try:
                async with self._pool.hold(self.model, holder=HOLDER) as hold:
                    async for server in hold:
                        broken_at, waits = None, pauses()
                        self._update(server)
            except SERVICE_AWAY as error:
                # The request that opened the hold, and its trace, may have ended long ago.
                context.attach(context.Context())
                broken_at = broken_at if broken_at is not None else loop.time()
                if loop.time() - broken_at >= SERVICE_AWAY_LIMIT_S:
                    self._fail(error)
                    return
            except PoolError as error:
                self._fail(error)
                return
            except Exception as error:
                log.exception("a hold has failed", model=self.model)
                self._fail(PoolError(f"the gateway could not hold {self.model!r}: {error}"))
                return
            else:
                self._fail(PoolError(f"the hold of {self.model!r} has ended"))
                return
            await asyncio.sleep(next(waits))

    def _update(self, server: Server) -> None:
        self._newest = server
        if server.state is not ServerState.READY:
            self.ready_since = None
        elif self.ready_since is None:
            self.ready_since = asyncio.get_running_loop().time()
        self._tell()

    def _fail(self, error: PoolError) -> None:
        self._failure = error
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        self._on_news(self)


def _is_another(newest: Server, after: Server | None) -> bool:
    """Return whether a server is READY, and not the process of `after`."""
    if newest.state is not ServerState.READY:
        return False
    return after is None or (newest.generation, newest.pid) != (after.generation, after.pid)
