"""Verification that READY servers still own their endpoints.

A server may lose its listener at any time, and any other program may take its port. Therefore
1. a caller is given an endpoint only if the system says at that moment, or said up to
   five milliseconds before, that it is the server's own;
2. all READY servers are checked in rounds (`endpoint_interval` apart), so that holders and
   watchers learn of a loss without asking.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from pool_service.core import events
from pool_service.core.machine import Machine
from pool_service.core.server import Phase, Server, ServerId
from pool_service.core.types import FOREVER, EndpointState
from pool_service.ports import Probe
from pool_service.subscribers import Subscribers

SERVERS_PER_ROUND = 24
"""Servers checked in one round; further ones follow in the next. A check takes microseconds and
blocks the event loop."""

END_TIMEOUT_S = 1.0
"""The longest wait of `left_ready`: time from the end of a process until its exit is
reported."""

log = structlog.get_logger("pool_service.pool")


class Endpoints:
    """Checks the endpoints of READY servers and feeds ListenerLost. Runs on the event loop only.

    subscribers: the subscriptions through which `left_ready` waits for a change of a server.
    """

    def __init__(
        self,
        machine: Machine,
        probe: Probe,
        subscribers: Subscribers,
        feed: Callable[[events.ListenerLost], None],
    ) -> None:
        self._machine = machine
        self._probe = probe
        self._subscribers = subscribers
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        # READY servers whose turn comes in the next rounds.
        self._left: list[ServerId] = []
        self._is_closed = False

    def verify(self, server: Server) -> bool:
        """Check that a READY server still owns its endpoint; return whether it may be handed out.

        Feeds ListenerLost if the endpoint is lost.
        """
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

    async def left_ready(self, server: Server) -> None:
        """Wait until a server that has ended is no longer READY, for at most END_TIMEOUT_S.

        The system shows the end of a process before its exit has been reported to the machine.
        """
        now = self._machine.server(server.id)
        if now is None or now.phase is not Phase.READY:
            return
        with self._subscribers.subscribe(server.model) as subscriber, suppress(TimeoutError):
            await asyncio.wait_for(subscriber.woken(), END_TIMEOUT_S)

    def watch(self) -> None:
        """Start the rounds if they are not running; they go on as long as a server is READY."""
        interval = self._machine.limits.endpoint_interval
        if self._timer is None and not self._is_closed and interval < FOREVER:
            self._timer = self._loop.call_later(interval, self._make_round)

    def close(self) -> None:
        """Stop the rounds for good."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _make_round(self) -> None:
        self._timer = None
        if not self._left:
            self._left = [server.id for server in self._machine.ready()]
        if not self._left:
            return
        due, self._left = self._left[:SERVERS_PER_ROUND], self._left[SERVERS_PER_ROUND:]
        for server in map(self._machine.server, due):
            if server is None or server.phase is not Phase.READY:
                continue
            try:
                self.verify(server)
            except Exception:  # one failure must not stop the other checks or the next round
                log.exception("an endpoint could not be verified", model=server.model)
        self.watch()

    def _state(self, server: Server) -> EndpointState:
        if server.identity is None:
            return EndpointState.UNKNOWN
        return self._probe.endpoint_state(server.identity, server.endpoint)
