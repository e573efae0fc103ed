"""Clients of the service: one for each token, so that each caller calls in its own name."""

from collections import OrderedDict
from collections.abc import Callable

from pool_service_client import AsyncPoolClient

MAX_CLIENTS = 256
"""The most clients that are kept; they share a connection, and one takes some kilobytes."""

Connect = Callable[[str], AsyncPoolClient]
"""Returns a client that shows a token, or for "" that of the gateway; it retries nothing."""


class Pools:
    """Keeps clients by their tokens."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._clients: OrderedDict[str, AsyncPoolClient] = OrderedDict()

    def of(self, token: str) -> AsyncPoolClient:
        """Return the client of a token; "": the gateway's own."""
        client = self._clients.get(token)
        if client is None:
            client = self._clients[token] = self._connect(token)
        self._clients.move_to_end(token)
        # What is dropped is closed by its last user: a hold keeps its client.
        while len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)
        return client

    async def close(self) -> None:
        """Close all clients."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()
