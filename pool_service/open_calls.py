"""Open calls: ends a stream whose caller may no longer make it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pool_service.access.principal import Principal
from pool_service.core.errors import PoolError

RECHECK_S = 10.0
"""The time between two checks: so long a revoked token is good for a stream that is open."""

Check = Callable[[], Awaitable[Principal]]
"""Returns the caller of an open call as of now. Raises PoolError if it may no longer make it."""


class RightsChanged(Exception):
    """The caller of a stream may do more or less than when the stream began."""


@dataclass(eq=False, slots=True)
class _Open:
    principal: Principal
    check: Check
    limit: asyncio.Timeout
    why: PoolError | RightsChanged | None = None

    def end(self, why: PoolError | RightsChanged) -> None:
        self.why = why
        self.limit.reschedule(asyncio.get_running_loop().time())


class OpenCalls:
    """Checks the callers of open streams again, as tokens expire and are revoked."""

    def __init__(self) -> None:
        self._open: set[_Open] = set()

    @asynccontextmanager
    async def staying(self, principal: Principal, check: Check) -> AsyncIterator[None]:
        """Let a block run as long as its caller may.

        Raises the PoolError of `check`, or RightsChanged if the caller has other rights now: the
        next call has these.
        """
        limit = asyncio.timeout(None)
        entry = _Open(principal, check, limit)
        self._open.add(entry)
        try:
            async with limit:
                yield
        except TimeoutError:
            if entry.why is None:
                raise
            raise entry.why from None
        finally:
            self._open.discard(entry)

    async def keep_checking(self) -> None:
        """Check all open streams now and then, until cancelled."""
        while True:
            await asyncio.sleep(RECHECK_S)
            for entry in tuple(self._open):
                await self._check(entry)

    async def _check(self, entry: _Open) -> None:
        try:
            now = await entry.check()
        except PoolError as error:
            why: PoolError | RightsChanged = error
        else:
            if _rights(now) == _rights(entry.principal):
                return
            why = RightsChanged(f"the rights of {now.name!r} have changed. Call again.")
        if entry in self._open and entry.why is None:
            entry.end(why)


def _rights(principal: Principal) -> tuple[object, ...]:
    return principal.scope, principal.logs, principal.models, principal.fleet
