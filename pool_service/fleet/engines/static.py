"""Without an engine: members from the configuration, and one front that always leads."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping

from pool_service.fleet.ports import Lead


class StaticMembership:
    """Knows the members that the configuration lists."""

    def __init__(self, members: Mapping[str, str]) -> None:
        self._members = dict(members)
        self._replaced = asyncio.Event()

    def replace(self, members: Mapping[str, str]) -> None:
        """Set the members, as after a reload of the configuration."""
        if self._members == members:
            return
        self._members = dict(members)
        replaced, self._replaced = self._replaced, asyncio.Event()
        replaced.set()

    async def changes(self) -> AsyncIterator[Mapping[str, str]]:
        while True:
            replaced = self._replaced
            yield self._members
            await replaced.wait()


class SoleLeadership:
    """Leads always: of the only front of a fleet. Its epoch is the front's own to choose."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def run(self, changed: Callable[[Lead], None]) -> None:
        changed(Lead(leads=True, epoch=0, address=self._address, until=math.inf))
        await asyncio.Event().wait()
