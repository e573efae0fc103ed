"""Finds out whether a server is ready, and how much it has to do.

Ready is proven in three steps, again and again until they hold together: this very
process (or one of its session) owns a listening socket; that address answers healthy; and
the same socket is still there, owned by the same process. A stranger that took the port
and answers 200 fails the first or the last.
"""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from pool_service.adapters.health import is_healthy
from pool_service.adapters.http_get import get
from pool_service.adapters.identity import is_alive, member_pids
from pool_service.adapters.listeners import TcpSocket, listeners
from pool_service.adapters.ready_signs import ReadySigns
from pool_service.adapters.use_look import use_of
from pool_service.core.activity import Activity
from pool_service.core.types import Identity, LaunchPlan, Pulse

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


class HttpProbe:
    """Implements the port `Probe` for processes of this machine.

    signs: of the processes that say themselves when they listen.
    """

    def __init__(self, signs: ReadySigns | None = None) -> None:
        self._signs = signs or ReadySigns()

    async def ready(self, identity: Identity, plan: LaunchPlan, probe_timeout: float) -> str | None:
        """Wait until this very process listens and answers healthy; see the port."""
        search, sign = _Search(identity, plan.port), self._signs.of(identity)
        while True:
            candidates = await asyncio.to_thread(search.look)
            if candidates is None:
                return None
            endpoint = await _first_healthy(search, candidates, plan.health_path, probe_timeout)
            if endpoint:
                return endpoint
            await _pause(search.pace(), sign)

    async def use(
        self, identity: Identity, plan: LaunchPlan | None, endpoint: str, probe_timeout: float
    ) -> Activity:
        """The largest of all that tells how busy it is; see the port."""
        return await use_of(identity, plan, endpoint, probe_timeout)

    async def pulse(
        self,
        identity: Identity,
        plan: LaunchPlan,
        endpoint: str,
        log_path: str,
        probe_timeout: float,
    ) -> Pulse:
        """Whether it answers anything, and its processor time and output; see the port."""
        url = urlsplit(endpoint)
        answer = await get(url.hostname or "", url.port or 0, plan.health_path, probe_timeout)
        if answer is not None:
            return Pulse(answered=True, progress=())
        return Pulse(
            answered=False, progress=await asyncio.to_thread(_progress, identity, log_path)
        )


class _Search:
    """Looks for listeners of one process, at a pace that suits how long it takes."""

    def __init__(self, identity: Identity, port: int | None) -> None:
        self._identity = identity
        self._port = port
        self._started = time.monotonic()
        self._cost = 0.0
        self._members_due = self._started + _MEMBERS_PACE

    def look(self) -> tuple[TcpSocket, ...] | None:
        """What it listens on now; None if it is gone. Blocking."""
        now, before = time.monotonic(), time.thread_time()
        if not is_alive(self._identity):
            return None
        found = listeners([self._identity.pid], self._port)
        if not found and now >= self._members_due:
            found = listeners(member_pids(self._identity.pid), self._port)
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
    """Until the next look; one that will say when it listens is hardly looked at before."""
    if sign is None or sign.is_set():
        await asyncio.sleep(pace)
        return
    with suppress(TimeoutError):
        await asyncio.wait_for(sign.wait(), max(pace, _SIGNED_PACE))


async def _first_healthy(
    search: _Search, candidates: tuple[TcpSocket, ...], health_path: str, probe_timeout: float
) -> str | None:
    """The endpoint of the first that is healthy and provenly its own."""
    asked = candidates[:_MOST_ASKED]
    answers = await asyncio.gather(
        *(get(one.connect_host, one.port, health_path, probe_timeout) for one in asked)
    )
    for listener, answer in zip(asked, answers, strict=True):
        if is_healthy(answer) and await asyncio.to_thread(search.still_owns, listener):
            return listener.url
    return None


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
