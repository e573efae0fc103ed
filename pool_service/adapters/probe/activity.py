"""Finds out how much a server has to do, from every signal that there is.

One signal that says "nothing" is no proof: a runtime may count only some of its paths, and
none counts a request that it has not read yet. So the largest of all signals counts, and
"nothing" is believed when no signal that sees every request is missing, and no connection
speaks against it.
"""

import asyncio
import contextlib
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from pool_service.adapters.probe.health import reported_use
from pool_service.adapters.probe.http_get import Answer, get
from pool_service.adapters.probe.metrics_text import total
from pool_service.adapters.process.identity import is_alive, member_pids
from pool_service.adapters.process.process_tree import carriers
from pool_service.adapters.sockets.connections import (
    anybody_connected,
    connected,
    is_any_unread,
    is_arriving,
    place_of,
    places_of,
)
from pool_service.core.activity import Activity, UseSignals
from pool_service.core.types import Identity, LaunchPlan

_MOST_REQUESTS = 1_000_000_000
"""What is told beyond that is told as that."""

_LONGEST_METRICS = 1024 * 1024
_HTTP_OK = 200


@dataclass(frozen=True, slots=True)
class Told:
    """What a server says of its use.

    counts: of requests in flight, by each signal that was told; counts_all: one of them counts
    every request; last: the Unix time of the last request; uses: a number that changes with
    each; at: the Unix time at which it was asked.
    """

    counts: tuple[float, ...] = ()
    counts_all: bool = False
    last: float | None = None
    uses: float | None = None
    at: float = 0.0

    @property
    def activity(self) -> Activity:
        """What that means, if nothing else is known."""
        requests = None
        if self.counts:
            requests = math.ceil(min(max(self.counts), _MOST_REQUESTS))
        says_use = self.last is not None or self.uses is not None
        return Activity(
            requests,
            None if self.last is None else self.at - self.last,
            (self.last, self.uses) if says_use else None,
            served=bool(self.uses),
        )


async def use_of(
    identity: Identity,
    plan: LaunchPlan | None,
    endpoint: str,
    probe_timeout: float,
    *,
    ask: bool = True,
) -> Activity:
    """How many requests it works on, None if that cannot be told; and what tells of its last use.

    plan, endpoint: empty where they are not known; then only its connections tell, and where
    it is not to be asked.
    """
    url = urlsplit(endpoint)
    host, port = url.hostname or "", url.port or 0
    told = Told()
    if plan is not None and endpoint and ask:
        told = await _ask(host, port, plan, probe_timeout)
    activity = told.activity
    if activity.requests:
        return activity
    nonce = plan.nonce if plan else ""
    look = _is_arriving if told.counts_all else _is_connected
    is_busy = await asyncio.to_thread(look, identity, nonce, endpoint)
    # Where nothing at all can be told it counts as busy; one signal is believed against none.
    is_untold = is_busy is None and activity.requests is None
    requests = None if is_busy or is_untold else 0
    return Activity(requests, activity.idle_for, activity.mark, activity.served)


async def _ask(host: str, port: int, plan: LaunchPlan, probe_timeout: float) -> Told:
    """Both at once: a look takes no longer for the second."""
    use = plan.use

    async def metrics() -> Answer | None:
        if not use.path:
            return None
        return await get(host, port, use.path, probe_timeout, most=_LONGEST_METRICS)

    health, more = await asyncio.gather(get(host, port, plan.health_path, probe_timeout), metrics())
    count, last = reported_use(health)
    gauges, uses = await asyncio.to_thread(_added_up, more, use)
    counts = tuple(number for number in (count, gauges) if number is not None)
    return Told(counts, use.counts_all and gauges is not None, last, uses, time.time())


def _added_up(answer: Answer | None, use: UseSignals) -> tuple[float | None, float | None]:
    """The requests in flight, and the number that changes with each; None: not told."""
    if answer is None or answer.status != _HTTP_OK:
        return None, None
    gauges = total(answer.body, use.gauges) if use.gauges else None
    counters = total(answer.body, use.counters) if use.counters else None
    # What is too large to be told apart from others changes no more.
    return gauges, None if counters is None or math.isinf(counters) else counters


def _is_arriving(identity: Identity, _nonce: str, endpoint: str) -> bool:
    """Whether a request is on its way that the server cannot have counted yet. Blocking."""
    # Where netlink is forbidden that cannot be told; the drain is for those that slip in.
    with contextlib.suppress(OSError):
        if sys.platform == "darwin":
            ports = {place.port for place in place_of(endpoint)}
            return any(is_any_unread(port, _session_pids(identity)) for port in ports)
        return any(map(is_arriving, connected(place_of(endpoint), _session_pids(identity))))
    return False


def _is_connected(identity: Identity, nonce: str, endpoint: str) -> bool | None:
    """Whether others are connected to it, on any port of its; None: not known. Blocking."""
    session = list(_session_pids(identity))
    if not is_alive(identity) and len(session) == 1:
        return False
    places = places_of(session, endpoint)
    is_busy = anybody_connected(places, session)
    # What left its session is looked for only where somebody is connected.
    strayed = set(_carrier_pids(nonce)).difference(session) if is_busy else set[int]()
    return anybody_connected(places, [*session, *strayed]) if strayed else is_busy


def _session_pids(identity: Identity) -> Iterator[int]:
    """Yield its pid, and those of its session if they are asked for: that takes longer."""
    yield identity.pid
    yield from member_pids(identity.pid)


def _carrier_pids(nonce: str) -> list[int]:
    return [one.pid for one in carriers({nonce}).get(nonce, ())] if nonce else []
