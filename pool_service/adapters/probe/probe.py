"""Finds out whether a server is ready, and how much it has to do.

Ready is proven in three steps, again and again until they hold together: this very
process (or one of its session) owns a listening socket; that address answers healthy; and
the same socket is still there, owned by the same process. A stranger that took the port
and answers 200 fails the first or the last. It stays proven only as long as that socket does:
`ownership.py` is asked at each look, and before an endpoint is handed out.
"""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from pool_service.adapters.probe.activity import use_of
from pool_service.adapters.probe.health import is_healthy
from pool_service.adapters.probe.http_get import get, post_json
from pool_service.adapters.probe.ready_notify import ReadySigns
from pool_service.adapters.process.identity import is_alive, member_pids
from pool_service.adapters.sockets.listeners import TcpSocket, listeners, seen_listeners
from pool_service.adapters.sockets.ownership import Ownership
from pool_service.core.activity import Activity
from pool_service.core.types import EndpointState, Identity, LaunchPlan, ProbeResult, Unready

# Seconds between looks: a hundredth of the time waited so far, within these bounds. So it
# adds about half a percent to a start, and a long load is not disturbed by many looks.
_MIN_PACE = 0.01
_MAX_PACE = 0.5
_PACE_SHARE = 0.01
_SIGNED_PACE = 1.0
# A look takes at most a tenth of a core, however dear it is on this machine.
_COST_FACTOR = 10
# Looking at all members of the session means looking at all processes: less often.
_MEMBERS_PACE = 1.0
# Of what one process listens on; a server has one or two.
_MOST_ASKED = 16


_NOT_LISTENING = ProbeResult(answered=False, progress=(), listens=False)


class HttpProbe:
    """Implements the port `Probe` for processes of this machine.

    signs: of the processes that say themselves when they listen.
    """

    def __init__(self, signs: ReadySigns | None = None) -> None:
        self._signs = signs or ReadySigns()
        self._ownership = Ownership()

    async def ready(
        self, identity: Identity, plan: LaunchPlan, probe_timeout: float, *, again: bool = False
    ) -> str | Unready:
        """Wait until this very process listens and answers healthy; see the port."""
        search, sign = _Search(identity, plan.port), self._signs.of(identity)
        loaded = again or not plan.ready_path
        while True:
            candidates = await asyncio.to_thread(search.look)
            if candidates is None:
                return Unready.GONE
            if again and search.found_none:
                return Unready.LOST
            for listener in await _healthy(candidates, plan.health_path, probe_timeout):
                if await asyncio.to_thread(self._is_proven, search, identity, listener):
                    if loaded:
                        return listener.url
                    # What takes minutes: it is proven anew afterwards.
                    loaded = await is_loaded(listener.url, plan)
            await _pause(search.pace(), sign)

    def _is_proven(self, search: "_Search", identity: Identity, listener: TcpSocket) -> bool:
        """Whether the same socket is still its own, and it alone gets what is sent there."""
        proven = self._ownership.prove(identity, listener.url)
        return search.still_owns(listener) and proven is EndpointState.KEPT

    def endpoint_state(self, identity: Identity, endpoint: str) -> EndpointState:
        """Whether its endpoint is still its own, in microseconds; see the port."""
        return self._ownership.now(identity, endpoint)

    async def _is_lost(self, identity: Identity, endpoint: str) -> bool:
        if self._ownership.is_sole(identity, endpoint):
            return False
        proven = await asyncio.to_thread(self._ownership.prove, identity, endpoint)
        return proven is EndpointState.LOST

    async def check_activity(
        self, identity: Identity, plan: LaunchPlan | None, endpoint: str, probe_timeout: float
    ) -> Activity:
        """The largest of all that tells how busy it is; see the port."""
        # Who has its port now tells nothing of it.
        lost = bool(endpoint) and self.endpoint_state(identity, endpoint) is EndpointState.LOST
        return await use_of(identity, plan, endpoint, probe_timeout, ask=not lost)

    async def check_liveness(
        self,
        identity: Identity,
        plan: LaunchPlan,
        endpoint: str,
        log_path: str,
        probe_timeout: float,
    ) -> ProbeResult:
        """Whether it listens, what it answers, and its processor time and output; see the port."""
        # First, so that nobody else's program is asked.
        if await self._is_lost(identity, endpoint):
            return _NOT_LISTENING
        url = urlsplit(endpoint)
        host, port = url.hostname or "", url.port or 0
        answer = await get(host, port, plan.health_path, probe_timeout)
        if self.endpoint_state(identity, endpoint) is EndpointState.LOST:
            return _NOT_LISTENING
        if is_healthy(answer):
            return ProbeResult(answered=True, progress=())
        progress = await asyncio.to_thread(_progress, identity, log_path)
        answered = answer is not None
        use = await use_of(identity, plan, endpoint, probe_timeout, ask=answered)
        in_flight = use.requests != 0
        return ProbeResult(answered, progress, healthy=not answered, in_flight=in_flight)


class _Search:
    """Looks for listeners of one process, at a pace that suits how long it takes."""

    def __init__(self, identity: Identity, port: int | None) -> None:
        self._identity = identity
        self._port = port
        self._started = time.monotonic()
        self._cost = 0.0
        self._members_due = self._started + _MEMBERS_PACE
        self.found_none = False
        """Whether neither it nor any other of its session listened at the last look at all."""

    def look(self) -> tuple[TcpSocket, ...] | None:
        """Return what the process listens on now; None if it is gone. Blocking."""
        now, before = time.monotonic(), time.thread_time()
        if not is_alive(self._identity):
            return None
        found, saw_all = seen_listeners([self._identity.pid], self._port)
        self.found_none = False
        if not found and now >= self._members_due:
            found, saw_others = seen_listeners(member_pids(self._identity.pid), self._port)
            self.found_none = saw_all and saw_others and not found
            self._members_due = time.monotonic() + _MEMBERS_PACE
        self._cost = time.thread_time() - before
        return found

    def still_owns(self, listener: TcpSocket) -> bool:
        """Whether it is alive and the same socket still its own. Blocking."""
        return listener in listeners([listener.pid], listener.port) and is_alive(self._identity)

    def pace(self) -> float:
        """Seconds until the next look."""
        waited = time.monotonic() - self._started
        return max(min(max(waited * _PACE_SHARE, _MIN_PACE), _MAX_PACE), self._cost * _COST_FACTOR)


async def _pause(pace: float, sign: asyncio.Event | None) -> None:
    """Wait until the next look; one that says itself when it listens is hardly looked at before."""
    if sign is None or sign.is_set():
        await asyncio.sleep(pace)
        return
    with suppress(TimeoutError):
        await asyncio.wait_for(sign.wait(), max(pace, _SIGNED_PACE))


async def _healthy(
    candidates: tuple[TcpSocket, ...], health_path: str, probe_timeout: float
) -> list[TcpSocket]:
    """Return those at which it answers healthy, in their order."""
    asked = candidates[:_MOST_ASKED]
    answers = await asyncio.gather(
        *(get(one.connect_host, one.port, health_path, probe_timeout) for one in asked)
    )
    return [one for one, answer in zip(asked, answers, strict=True) if is_healthy(answer)]


def _progress(identity: Identity, log_path: str) -> tuple[float, ...]:
    """Processor seconds of the process and its group, and the size of its log."""
    used = 0.0
    for pid in [identity.pid, *member_pids(identity.pid)]:
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            used += times.user + times.system
    with suppress(OSError):
        return used, float(Path(log_path).stat().st_size)
    return (used,)


_LONGEST_S = 86_400.0
"""Loading takes as long as it takes: the start limit ends it, and the process with it."""

_HTTP_OK = 200


async def is_loaded(endpoint: str, plan: LaunchPlan) -> bool:
    """Return whether it answers 200 to the request of its plan; True where the plan has none."""
    if not plan.ready_path:
        return True
    url = urlsplit(endpoint)
    body = plan.ready_body.encode()
    host, port = url.hostname or "", url.port or 0
    answer = await post_json(host, port, plan.ready_path, body, _LONGEST_S)
    return answer is not None and answer.status == _HTTP_OK
