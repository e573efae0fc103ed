"""Implementation of the port `Probe`: readiness, liveness and activity of servers.

A server is ready if these hold, in this order:
1. the process, or one of its session, owns a listening socket;
2. the health path at that address answers healthy;
3. the same process still owns the same socket;
4. that is at the address that its plan demands, if any.
Another program that has taken the port and answers 200 fails 1 or 3. `ownership.py` checks the
socket again at each later probe, and before an endpoint is handed out.
"""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from pool_service.adapters.probe.activity import activity_of
from pool_service.adapters.probe.health import is_healthy
from pool_service.adapters.probe.http_get import get, post_json
from pool_service.adapters.probe.ready_notify import ReadyNotifications
from pool_service.adapters.process.identity import is_alive, session_member_pids
from pool_service.adapters.process.launch import work_dirs
from pool_service.adapters.process.processor_time import processor_seconds
from pool_service.adapters.prompts.reports import reused_tokens
from pool_service.adapters.sockets.listeners import Listener, listeners, scan_listeners
from pool_service.adapters.sockets.own_addresses import is_own_address
from pool_service.adapters.sockets.ownership import Ownership
from pool_service.core.activity import Activity
from pool_service.core.types import (
    EndpointState,
    Identity,
    LaunchPlan,
    ListensElsewhere,
    ProbeResult,
    Unready,
)

# The pause between two readiness checks is a hundredth of the time waited so far, within these
# bounds. That adds about half a percent to a start, and disturbs a long load little.
_MIN_PAUSE_S = 0.01
_MAX_PAUSE_S = 0.5
_PAUSE_SHARE = 0.01
# The least pause for a server that notifies when it listens.
_NOTIFYING_PAUSE_S = 1.0
# The pause is at least this times the processor time of a check: a tenth of a core at most.
_COST_FACTOR = 10
# Finding the members of a session means listing all processes, so it is done less often.
_MEMBERS_PAUSE_S = 1.0
# Listeners of one process that are probed; a server has one or two.
_MAX_LISTENERS = 16

_NOT_LISTENING = ProbeResult(answered=False, progress=(), listens=False)


class HttpProbe:
    """Implements the port `Probe` for processes of this machine.

    notifications: the ready notifications of servers that send one.
    state_dir: has the working directories of servers, in which they count the tokens of prompts
        that they need not compute anew; None: that is not read.
    """

    def __init__(
        self, notifications: ReadyNotifications | None = None, state_dir: Path | None = None
    ) -> None:
        self._notifications = notifications or ReadyNotifications()
        self._state_dir = state_dir
        self._ownership = Ownership()

    async def ready(
        self, identity: Identity, plan: LaunchPlan, probe_timeout: float, *, again: bool = False
    ) -> str | Unready | ListensElsewhere:
        """Wait until this very process listens and answers healthy; see the port."""
        search, notified = _Search(identity, plan.port), self._notifications.of(identity)
        loaded = again or not plan.ready_path
        while True:
            candidates = await asyncio.to_thread(search.find)
            if candidates is None:
                return Unready.GONE
            if again and search.found_none:
                return Unready.LOST
            for listener in await _healthy(candidates, plan, probe_timeout):
                if await asyncio.to_thread(self._is_proven, search, identity, listener):
                    if not listener.is_at(plan.host):
                        return ListensElsewhere(listener.bound_url)
                    if loaded:
                        return listener.url
                    # Loading may take minutes, so the next round proves the ownership anew.
                    loaded = await is_loaded(listener.url, plan)
            await _pause(search.pause(), notified)

    def _is_proven(self, search: "_Search", identity: Identity, listener: Listener) -> bool:
        """Return whether the server still owns the listener and is the only one at its address."""
        proven = self._ownership.prove(identity, listener.url)
        return search.still_owns(listener) and proven is EndpointState.KEPT

    def endpoint_state(self, identity: Identity, endpoint: str) -> EndpointState:
        """Return whether the endpoint is still the server's own; see the port."""
        return self._ownership.check(identity, endpoint)

    async def is_lost(self, identity: Identity, endpoint: str) -> bool:
        """Return whether the endpoint certainly belongs to no socket of the server any more."""
        if self._ownership.is_sole(identity, endpoint):
            return False
        proven = await asyncio.to_thread(self._ownership.prove, identity, endpoint)
        return proven is EndpointState.LOST

    async def check_activity(
        self, identity: Identity, plan: LaunchPlan | None, endpoint: str, probe_timeout: float
    ) -> Activity:
        """Return a server's requests in flight and signs of activity; see the port."""
        # The answers of another program on a lost port say nothing about the server.
        lost = bool(endpoint) and self.endpoint_state(identity, endpoint) is EndpointState.LOST
        return await activity_of(identity, plan, endpoint, probe_timeout, ask=not lost)

    async def check_liveness(
        self,
        identity: Identity,
        plan: LaunchPlan,
        endpoint: str,
        log_path: str,
        probe_timeout: float,
    ) -> ProbeResult:
        """Return whether a server listens and answers, and its signs of progress; see the port.

        The signs of progress are processor time and the size of the log.
        """
        # Ownership first, so that no other program gets the request.
        if await self.is_lost(identity, endpoint):
            return _NOT_LISTENING
        url = urlsplit(endpoint)
        host, port = url.hostname or "", url.port or 0
        answer = await get(host, port, plan.health_path, probe_timeout)
        if answer is None and not is_own_address(host):
            # The network is away, as of a VPN: a new server could not be reached either.
            return ProbeResult(answered=True, progress=())
        if self.endpoint_state(identity, endpoint) is EndpointState.LOST:
            return _NOT_LISTENING
        if is_healthy(answer):
            reused = await self._reused_tokens(plan)
            return ProbeResult(answered=True, progress=(), reused_tokens=reused)
        progress = await asyncio.to_thread(_progress, identity, log_path)
        answered = answer is not None
        use = await activity_of(identity, plan, endpoint, probe_timeout, ask=answered)
        in_flight = use.requests != 0
        # Any answer that comes here denies health; without an answer nothing does.
        return ProbeResult(answered, progress, healthy=not answered, in_flight=in_flight)

    async def _reused_tokens(self, plan: LaunchPlan) -> int:
        """Return the tokens of prompts that a server did not compute anew, as it counts them."""
        if plan.prompt_cache is None or self._state_dir is None:
            return 0
        # In a thread, as a slow disk would hold up the loop.
        work_dir = work_dirs(self._state_dir) / plan.nonce
        return await asyncio.to_thread(reused_tokens, work_dir)


class _Search:
    """Searches for the listeners of one process, at intervals by the cost of a search."""

    def __init__(self, identity: Identity, port: int | None) -> None:
        self._identity = identity
        self._port = port
        self._started = time.monotonic()
        self._cost = 0.0
        self._members_due = self._started + _MEMBERS_PAUSE_S
        self.found_none = False
        """Whether the last search proved that no process of the session listens."""

    def find(self) -> tuple[Listener, ...] | None:
        """Return the present listeners of the process; None if it has ended. Blocking."""
        now, before = time.monotonic(), time.thread_time()
        if not is_alive(self._identity):
            return None
        found, saw_all = scan_listeners([self._identity.pid], self._port)
        self.found_none = False
        if not found and now >= self._members_due:
            found, saw_others = scan_listeners(session_member_pids(self._identity.pid), self._port)
            self.found_none = saw_all and saw_others and not found
            self._members_due = time.monotonic() + _MEMBERS_PAUSE_S
        self._cost = time.thread_time() - before
        return found

    def still_owns(self, listener: Listener) -> bool:
        """Return whether the process is alive and the listener still there. Blocking."""
        return listener in listeners([listener.pid], listener.port) and is_alive(self._identity)

    def pause(self) -> float:
        """Return the seconds until the next search."""
        waited = time.monotonic() - self._started
        return max(
            min(max(waited * _PAUSE_SHARE, _MIN_PAUSE_S), _MAX_PAUSE_S), self._cost * _COST_FACTOR
        )


async def _pause(pause: float, notified: asyncio.Event | None) -> None:
    """Wait until the next search is due, or until the server notifies that it listens.

    notified: None if no notification is expected.
    """
    if notified is None or notified.is_set():
        await asyncio.sleep(pause)
        return
    with suppress(TimeoutError):
        await asyncio.wait_for(notified.wait(), max(pause, _NOTIFYING_PAUSE_S))


async def _healthy(
    candidates: tuple[Listener, ...], plan: LaunchPlan, probe_timeout: float
) -> list[Listener]:
    """Return the candidates that answer healthy: those at the plan's host first."""
    asked = sorted(candidates, key=lambda one: not one.is_at(plan.host))[:_MAX_LISTENERS]
    answers = await asyncio.gather(
        *(get(one.connect_host, one.port, plan.health_path, probe_timeout) for one in asked)
    )
    return [one for one, answer in zip(asked, answers, strict=True) if is_healthy(answer)]


def _progress(identity: Identity, log_path: str) -> tuple[float, ...]:
    """Return the processor seconds of the process's session, and the bytes of its log."""
    used = processor_seconds([identity.pid, *session_member_pids(identity.pid)])
    with suppress(OSError):
        return used, float(Path(log_path).stat().st_size)
    return (used,)


_LOAD_TIMEOUT_S = 86_400.0
"""Practically no limit: a load that takes too long is ended by the start limit."""

_HTTP_OK = 200


async def is_loaded(endpoint: str, plan: LaunchPlan) -> bool:
    """Return whether the server answers 200 to its plan's ready request; True without one."""
    if not plan.ready_path:
        return True
    url = urlsplit(endpoint)
    body = plan.ready_body.encode()
    host, port = url.hostname or "", url.port or 0
    key = plan.api_key
    answer = await post_json(host, port, plan.ready_path, body, _LOAD_TIMEOUT_S, key=key)
    return answer is not None and answer.status == _HTTP_OK
