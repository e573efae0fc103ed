"""Tokens that the service knows, for what the gateway does without asking it for a model."""

import asyncio
import math
import time
from collections import OrderedDict

from pool_service.gateway.pools import Pools
from pool_service.gateway.shared_hold import BREAKS, FIRST_PAUSE_S, MOST_PAUSE_S, PATIENCE_S

VALID_S = 60.0
"""How long a token counts as known after the service has said so."""

MAX_KNOWN = 1024
"""The most tokens that are remembered; a further one takes the place of the oldest."""

QUERY_TIMEOUT_S = 10.0
"""For questions that the service answers without waiting for anything."""


class KnownTokens:
    """Checks callers' tokens with the service, and remembers the good ones."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._known_at: OrderedDict[str, float] = OrderedDict()

    async def ask(self, token: str) -> None:
        """Ask the service for a token; "", which is the gateway's own user, is good.

        Raises the PoolError with which the service refuses it, or cannot be asked.
        """
        if token:
            async for _ in self._pools.of(token).pages(page_size=1, timeout=QUERY_TIMEOUT_S):
                break

    async def check(self, token: str) -> None:
        """Do the same, unless the token is known; wait for a service that is away, as holds do."""
        if time.monotonic() - self._known_at.get(token, -math.inf) < VALID_S:
            return
        end, pause = time.monotonic() + PATIENCE_S, FIRST_PAUSE_S
        while True:
            try:
                await self.ask(token)
                break
            except BREAKS:
                if time.monotonic() >= end:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, MOST_PAUSE_S)
        self._known_at[token] = time.monotonic()
        self._known_at.move_to_end(token)
        while len(self._known_at) > MAX_KNOWN:
            self._known_at.popitem(last=False)
