"""The use of the servers, which changes without a change that Watch tells; the page polls it.

A message of gRPC for each server would take a hundred times longer to write as JSON.
"""

import asyncio
import json
import math
import time
from collections.abc import Mapping

from pool_service.core.errors import Recovering
from pool_service.core.server import Phase, Role, Server, ServerId
from pool_service.pool import Pool
from pool_service.ports import Clock
from pool_service.rpc.json_calls import json_of
from pool_service.rpc.wire import role_name, state_name, totals

SERVERS_PER_TURN = 50
"""Servers that are written between two turns of the event loop, in half a millisecond."""

ORDER_PAUSE = 1000
"""The order is found again after so many times what that took: 500 servers take 6 ms."""

STATE_NAMES = {phase: state_name(phase) for phase in Phase}
ROLE_NAMES = {role: role_name(role) for role in Role}


class Usage:
    """Tells the use of one pool. A look: nothing is used, started or changed."""

    def __init__(self, pool: Pool, clock: Clock, host: str = "") -> None:
        """host: of the servers, as the fleet of the service calls it; empty: there is no fleet."""
        self._pool = pool
        self._clock = clock
        self._host = host
        self._places: Mapping[ServerId, int] = {}
        self._places_until = -math.inf

    async def as_json(self) -> str:
        """Return the use of each server, the totals and the notices as a JSON object.

        Of a server: what it does, what it takes, who uses it, the Unix times in seconds when it was
        used last and will leave, and its place among those that go next for another model; 0: none.
        busy: it was in use when it was last checked.

        revision: that of the last change before; empty while the service recovers, which tells no
        servers. now: the Unix time in seconds, which all times are of. memory_current: the totals
        say how much memory the machine has now, not some time ago.
        """
        counts, notices = self._pool.totals(), self._pool.notices()
        try:
            revision = str(self._pool.history.revision)
            servers, places = self._pool.page(None, counts.servers), self._order()
            busy = self._pool.descriptions.busy()
        except Recovering:
            revision, servers, places, busy = "", [], {}, frozenset()
        texts = []
        for number, server in enumerate(servers, 1):
            use = self._of(server) | {
                "waiting_calls": counts.waiting_by_model.get(server.model, 0),
                "place": places.get(server.id, 0),
                "busy": server.id in busy,
            }
            texts.append(json.dumps(use))
            if number % SERVERS_PER_TURN == 0:
                await asyncio.sleep(0)
        return (
            f'{{"revision": "{revision}", "now": {self._clock.wall(self._clock.now())}, '
            f'"servers": [{", ".join(texts)}], "totals": {json_of(totals(counts))}, '
            f'"memory_current": {json.dumps(counts.memory_current)}, '
            f'"notices": {json.dumps(notices)}}}'
        )

    def _order(self) -> Mapping[ServerId, int]:
        """Return each server's place among those that go next, as of a moment ago."""
        began = time.monotonic()
        if began >= self._places_until:
            order = self._pool.descriptions.order()
            self._places = {one.server_id: place for place, one in enumerate(order, 1)}
            ended = time.monotonic()
            self._places_until = ended + ORDER_PAUSE * (ended - began)
        return self._places

    def _of(self, server: Server) -> dict[str, object]:
        expires_at = server.expires_at if server.phase is Phase.READY else math.inf
        return {
            "model": server.model,
            "generation": str(server.generation),
            "host": self._host,
            "role": ROLE_NAMES[server.role],
            "state": STATE_NAMES[server.phase],
            "pinned": server.settings.pinned,
            "expected_bytes": server.expected,
            "footprint_bytes": server.footprint,
            "peak_bytes": server.peak,
            "holds": server.holds,
            "last_use_time": self._clock.wall(server.last_used_at),
            "expire_time": None if math.isinf(expires_at) else self._clock.wall(expires_at),
        }
