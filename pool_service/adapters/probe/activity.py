"""Activity checks: the number of requests in flight on a server, from all available signals.

A runtime may count the requests of only some of its paths, and none counts a request that it has
not read yet. Therefore
1. the largest number of all signals counts;
2. zero counts only if no connection contradicts it: if a signal covers every request, only
   connections with unread requests do; otherwise every connected client does.
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
from pool_service.adapters.process.identity import is_alive, session_member_pids
from pool_service.adapters.process.leftover_processes import carriers
from pool_service.adapters.sockets.connections import (
    client_connections,
    has_clients,
    has_unread_request,
    listening_ports,
    port_has_unread_requests,
    port_of_endpoint,
)
from pool_service.core.activity import Activity, UseSignals
from pool_service.core.types import Identity, LaunchPlan

_MAX_REQUESTS = 1_000_000_000
"""Larger numbers are reported as this one."""

_MAX_METRICS_BYTES = 1024 * 1024
_HTTP_OK = 200


@dataclass(frozen=True, slots=True)
class Report:
    """A server's answers about its activity.

    counts: the requests in flight, by each signal that has answered.
    counts_all: whether one of the signals counts every request.
    last: the Unix time in seconds of the last request; None if not reported.
    uses: a number that changes with each request; None if not reported.
    at: the Unix time in seconds of the answers.
    """

    counts: tuple[float, ...] = ()
    counts_all: bool = False
    last: float | None = None
    uses: float | None = None
    at: float = 0.0

    @property
    def activity(self) -> Activity:
        """The activity by these answers alone."""
        requests = None
        if self.counts:
            requests = math.ceil(min(max(self.counts), _MAX_REQUESTS))
        says_use = self.last is not None or self.uses is not None
        return Activity(
            requests,
            None if self.last is None else self.at - self.last,
            (self.last, self.uses) if says_use else None,
            served=bool(self.uses),
        )


async def activity_of(
    identity: Identity,
    plan: LaunchPlan | None,
    endpoint: str,
    probe_timeout: float,
    *,
    ask: bool = True,
) -> Activity:
    """Return a server's requests in flight (None: not known) and its signs of activity.

    plan: None if not known; endpoint: empty if not known; ask: False if the endpoint is not the
    server's own. In each case only connections count.
    """
    url = urlsplit(endpoint)
    host, port = url.hostname or "", url.port or 0
    report = Report()
    if plan is not None and endpoint and ask:
        report = await _ask(host, port, plan, probe_timeout)
    activity = report.activity
    if activity.requests:
        return activity
    nonce = plan.nonce if plan else ""
    check = _has_unread_requests if report.counts_all else _has_clients
    is_busy = await asyncio.to_thread(check, identity, nonce, endpoint)
    # Connections of clients are busy with an unknown number of requests. A signal of 0, or the view
    # that no connection is busy, suffices for 0; without both nothing is known.
    is_unknown = is_busy is None and activity.requests is None
    requests = None if is_busy or is_unknown else 0
    return Activity(requests, activity.idle_for, activity.mark, activity.served)


async def _ask(host: str, port: int, plan: LaunchPlan, probe_timeout: float) -> Report:
    """Request the health and the metrics path concurrently and return the answers."""
    use = plan.use
    # Open to everybody at a vllm-mlx.
    key = "" if plan.kind == "vllm-mlx" else plan.api_key

    async def metrics() -> Answer | None:
        if not use.path:
            return None
        return await get(host, port, use.path, probe_timeout, max_bytes=_MAX_METRICS_BYTES, key=key)

    health, more = await asyncio.gather(get(host, port, plan.health_path, probe_timeout), metrics())
    count, last = reported_use(health)
    gauges, uses = await asyncio.to_thread(_sum_up, more, use)
    counts = tuple(number for number in (count, gauges) if number is not None)
    return Report(counts, use.counts_all and gauges is not None, last, uses, time.time())


def _sum_up(answer: Answer | None, use: UseSignals) -> tuple[float | None, float | None]:
    """Return the sums of gauges (requests in flight) and of counters; None if not reported."""
    if answer is None or answer.status != _HTTP_OK:
        return None, None
    gauges = total(answer.body, use.gauges) if use.gauges else None
    counters = total(answer.body, use.counters) if use.counters else None
    # An infinite counter no longer changes with each request.
    return gauges, None if counters is None or math.isinf(counters) else counters


def _has_unread_requests(identity: Identity, _nonce: str, endpoint: str) -> bool:
    """Return whether a request waits that the server cannot have counted yet. Blocking."""
    # OSError: netlink is forbidden. A runtime that drains still finishes a request missed here.
    with contextlib.suppress(OSError):
        if sys.platform == "darwin":
            ports = {one.port for one in port_of_endpoint(endpoint)}
            return any(port_has_unread_requests(port, _session_pids(identity)) for port in ports)
        return any(
            map(
                has_unread_request,
                client_connections(port_of_endpoint(endpoint), _session_pids(identity)),
            )
        )
    return False


def _has_clients(identity: Identity, nonce: str, endpoint: str) -> bool | None:
    """Return whether clients are connected to any port of a server; None if unknown. Blocking."""
    session = list(_session_pids(identity))
    # A leader that has ended, with nobody left in its session, has no sockets.
    if not is_alive(identity) and len(session) == 1:
        return False
    ports = listening_ports(session, endpoint)
    is_busy = has_clients(ports, session)
    # Descendants that have left the session are searched only if a client is connected: it is slow.
    strayed = set(_carrier_pids(nonce)).difference(session) if is_busy else set[int]()
    return has_clients(ports, [*session, *strayed]) if strayed else is_busy


def _session_pids(identity: Identity) -> Iterator[int]:
    """Yield the pid, then those of its session, which are listed only if the caller goes on."""
    yield identity.pid
    yield from session_member_pids(identity.pid)


def _carrier_pids(nonce: str) -> list[int]:
    """Return the pids of the processes that carry the nonce in their environment."""
    return [one.pid for one in carriers({nonce}).get(nonce, ())] if nonce else []
