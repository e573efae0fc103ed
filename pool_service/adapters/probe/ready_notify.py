"""Ready notifications: messages of starting servers that they listen now."""

import asyncio
import json
import socket
from contextlib import suppress

from pool_service.core.types import Identity

_CHUNK_BYTES = 4096


class ReadyNotifications:
    """Receives the notifications of starting servers, on one running event loop."""

    def __init__(self) -> None:
        self._awaited: dict[Identity, asyncio.Event] = {}

    def of(self, identity: Identity) -> asyncio.Event | None:
        """Return the event that is set when a server has notified, or has closed its channel.

        None if no notification is expected of it.
        """
        return self._awaited.get(identity)

    def listen(self, identity: Identity, channel: socket.socket) -> "asyncio.Future[bool]":
        """Wait for a server's one notification, then close the channel.

        Return a future of whether the server has become ready.
        """
        loop = asyncio.get_running_loop()
        is_ready: asyncio.Future[bool] = loop.create_future()
        notified = self._awaited[identity] = asyncio.Event()
        channel.settimeout(0)

        def receive() -> None:
            received = b""
            with suppress(BlockingIOError, InterruptedError, ConnectionError):
                received = channel.recv(_CHUNK_BYTES)
            loop.remove_reader(channel)
            channel.close()
            del self._awaited[identity]
            notified.set()
            is_ready.set_result(_is_ready(received))

        loop.add_reader(channel, receive)
        return is_ready


def _is_ready(received: bytes) -> bool:
    with suppress(ValueError, AttributeError, RecursionError):
        return json.loads(received).get("ready") is True
    return False
