"""The signs of starting servers that they listen, for those that give one."""

import asyncio
import json
import socket
from contextlib import suppress

from pool_service.core.types import Identity

_CHUNK = 4096


class ReadySigns:
    """Listens to the processes that start. All of it lives on one running event loop."""

    def __init__(self) -> None:
        self._awaited: dict[Identity, asyncio.Event] = {}

    def of(self, identity: Identity) -> asyncio.Event | None:
        """Set when the process says that it listens, or will say nothing more.

        None: nothing is to be heard of it.
        """
        return self._awaited.get(identity)

    def hear(self, identity: Identity, channel: socket.socket) -> "asyncio.Future[bool]":
        """From now on listen to it; the channel is closed when it has said all.

        Done with whether it came to be ready.
        """
        loop = asyncio.get_running_loop()
        said: asyncio.Future[bool] = loop.create_future()
        sign = self._awaited[identity] = asyncio.Event()
        channel.settimeout(0)

        def listen() -> None:
            received = b""
            with suppress(BlockingIOError, InterruptedError, ConnectionError):
                received = channel.recv(_CHUNK)
            loop.remove_reader(channel)
            channel.close()
            del self._awaited[identity]
            sign.set()
            said.set_result(_is_ready(received))

        loop.add_reader(channel, listen)
        return said


def _is_ready(received: bytes) -> bool:
    with suppress(ValueError, AttributeError, RecursionError):
        return json.loads(received).get("ready") is True
    return False
