"""Clients of the service: one for each token, so that each caller calls in its own name."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from pool_service_client import AsyncPoolClient

MAX_CLIENTS = 256
"""The most clients that are kept; they share a connection, and one takes some kilobytes."""


@dataclass(frozen=True, slots=True)
class Service:
    """How the service is reached.

    Attributes:
        address: returns its address now: the default one depends on which service runs.
        connect: returns a client that shows a token, or for "" that of the gateway; it retries
            nothing.
    """

    address: Callable[[], str]
    connect: Callable[[str], AsyncPoolClient]


class Pools:
    """Keeps clients by the service's address and their tokens."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._clients: OrderedDict[tuple[str, str], AsyncPoolClient] = OrderedDict()

    def of(self, token: str) -> AsyncPoolClient:
        """Return the client of a token; "": the gateway's own."""
        key = self._service.address(), token
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = self._service.connect(token)
        self._clients.move_to_end(key)
        # What is dropped is closed with its last hold, which refers to it.
        while len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)
        return client

    async def close(self) -> None:
        """Close all clients."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()
