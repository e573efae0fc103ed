"""Tokens that the service knows, for what the gateway does without asking it for a model."""

import asyncio
import math
import time
from collections import OrderedDict

from pool_service.gateway.pools import Pools
from pool_service.gateway.shared_hold import SERVICE_AWAY, SERVICE_AWAY_LIMIT_S, pauses

VALID_S = 60.0
"""How long a token counts as known after the service has said so."""

MAX_KNOWN = 1024
"""The most tokens that are remembered; a further one takes the place of the oldest."""

QUERY_TIMEOUT_S = 10.0
"""For questions that the service answers without waiting for anything."""


class KnownTokens:
    """Verifies callers' tokens with the service, and remembers the valid ones."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._known_at: OrderedDict[str, float] = OrderedDict()

    async def verify(self, token: str) -> None:
        """Verify a token with the service now; "" (the gateway's own user) needs no call.

        Raises the PoolError with which the service refuses it, or cannot be asked.
        """
        if token:
            async for _ in self._pools.of(token).pages(page_size=1, timeout=QUERY_TIMEOUT_S):
                break

    async def verify_once(self, token: str) -> None:
        """Verify a token, unless it was valid within VALID_S.

        Waits for a service that is away, for up to SERVICE_AWAY_LIMIT_S. Raises the PoolError of
        the last try.
        """
        if time.monotonic() - self._known_at.get(token, -math.inf) < VALID_S:
            return
        end = time.monotonic() + SERVICE_AWAY_LIMIT_S
        for pause in pauses():
            try:
                await self.verify(token)
                break
            except SERVICE_AWAY:
                if time.monotonic() >= end:
                    raise
            await asyncio.sleep(pause)
        self._known_at[token] = time.monotonic()
        self._known_at.move_to_end(token)
        while len(self._known_at) > MAX_KNOWN:
            self._known_at.popitem(last=False)
