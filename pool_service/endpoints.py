"""Proves that servers still have their endpoints: as one is handed out, and every second.

A server may lose its listener between two looks, and its port to any other program. Who asks
for it is given the endpoint only if the system says then, or said a millisecond before, that it is
the server's own; who holds or watches it learns of a loss without asking.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from pool_service.core import events
from pool_service.core.machine import Machine
from pool_service.core.server import Phase, Server
from pool_service.core.types import FOREVER, EndpointState
from pool_service.followers import Followers
from pool_service.ports import Probe

AT_ONCE = 24
"""Servers of which one round asks, in turn: one takes some microseconds."""

END_TIMEOUT_S = 1.0
"""For the end of a process to be told of that the system says has ended."""

log = structlog.get_logger("pool_service.pool")


class Endpoints:
    """Asks of READY servers, and feeds ListenerLost. All of it lives on one event loop.

    holders: who is told of the servers' changes.
    """

    def __init__(
        self,
        machine: Machine,
        probe: Probe,
        holders: Followers,
        feed: Callable[[events.ListenerLost], None],
    ) -> None:
        self._machine = machine
        self._probe = probe
        self._holders = holders
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0
        self._is_closed = False

    def is_kept(self, server: Server) -> bool:
        """Return whether this READY server may be handed out; a loss is fed before it returns."""
        state = self._state(server)
        if state is EndpointState.LOST:
            log.warning(
                "a server has lost its listener",
                model=server.model,
                generation=server.generation,
                endpoint=server.endpoint,
            )
            self._feed(events.ListenerLost(server.id))
        return state in {EndpointState.KEPT, EndpointState.UNKNOWN}

    async def settled(self, server: Server) -> None:
        """Return when a server that is not kept is one no more, as its end may still be told."""
        now = self._machine.server(server.id)
        if now is None or now.phase is not Phase.READY:
            return
        with self._holders.follow(server.model) as follower, suppress(TimeoutError):
            await asyncio.wait_for(follower.woken(), END_TIMEOUT_S)

    def watch(self) -> None:
        """See to it that rounds are made as long as any server is READY."""
        pace = self._machine.limits.endpoint_interval
        if self._timer is None and not self._is_closed and pace < FOREVER:
            self._timer = self._loop.call_later(pace, self._make_round)

    def close(self) -> None:
        """Make no more rounds."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _make_round(self) -> None:
        self._timer = None
        ready = self._machine.ready()
        if not ready:
            return
        if self._next >= len(ready):
            self._next = 0
        for server in ready[self._next : self._next + AT_ONCE]:
            try:
                self.is_kept(server)
            except Exception:  # the others, and the next round, are asked all the same
                log.exception("an endpoint could not be asked about", model=server.model)
        self._next += AT_ONCE
        self.watch()

    def _state(self, server: Server) -> EndpointState:
        if server.identity is None:
            return EndpointState.UNKNOWN
        return self._probe.endpoint_state(server.identity, server.endpoint)
