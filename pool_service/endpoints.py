"""Verification that READY servers still own their endpoints.

A server may lose its listener at any time, and any other program may take its port. Therefore
1. a caller is given an endpoint only if the system says at that moment, or said up to
   CHECK_VALID_S before, that it is the server's own;
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

CHECK_VALID_S = 0.005
"""How long callers share the result of a check: one takes some 45 microseconds on Linux if the
processor's caches are cold, a tenth of a warm Ensure."""

RENEWED_AFTER_S = 0.002
"""The age of a result at which a caller has it renewed, once the caller has been answered: callers
in a row then wait for no check."""

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
        # By model: the generation that had its endpoint at the last check, and the loop's time.
        self._kept: dict[str, tuple[int, float]] = {}
        self._is_renewing = False
        self._is_closed = False

    def verify(self, server: Server) -> bool:
        """Return whether a READY server's endpoint may be handed out: it is still the server's own.

        Feeds ListenerLost if the endpoint is lost.
        """
        generation, at = self._kept.get(server.model, (0, 0.0))
        age = self._loop.time() - at
        if generation != server.generation or age >= CHECK_VALID_S:
            return self.check(server)
        if age >= RENEWED_AFTER_S and not self._is_renewing:
            self._is_renewing = True
            self._loop.call_soon(self._renew, server.id)
        return True

    def _renew(self, server_id: ServerId) -> None:
        self._is_renewing = False
        if not self._is_closed:
            self._check_if_ready(server_id)

    def check(self, server: Server) -> bool:
        """Do what `verify` does, by asking the system now."""
        at = self._loop.time()
        state = self._state(server)
        if state is EndpointState.KEPT:
            self._kept[server.model] = server.generation, at
            return True
        self._kept.pop(server.model, None)
        if state is EndpointState.LOST:
            log.warning(
                "a server has lost its listener",
                model=server.model,
                generation=server.generation,
                endpoint=server.endpoint,
            )
            self._feed(events.ListenerLost(server.id))
        return state is EndpointState.UNKNOWN

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
        for server_id in due:
            self._check_if_ready(server_id)
        self.watch()

    def _check_if_ready(self, server_id: ServerId) -> None:
        """Check a server for nobody's call: a failure is logged, and stops nothing else."""
        server = self._machine.server(server_id)
        if server is None or server.phase is not Phase.READY:
            return
        try:
            self.check(server)
        except Exception:
            log.exception("an endpoint could not be verified", model=server.model)

    def _state(self, server: Server) -> EndpointState:
        if server.identity is None:
            return EndpointState.UNKNOWN
        return self._probe.endpoint_state(server.identity, server.endpoint)
