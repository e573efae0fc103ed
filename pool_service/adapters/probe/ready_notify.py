"""Ready notifications: messages of starting servers that they listen now."""

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pool_service.core.types import Identity

_CHUNK_BYTES = 4096


class ReadyNotifications:
    """Receives the notifications of starting servers, on one running event loop."""

    def __init__(self) -> None:
        self._awaited: dict[Identity, _Awaited] = {}

    def of(self, identity: Identity) -> asyncio.Event | None:
        """Return the event that is set when a server has notified, or has closed its channel.

        None if no notification is expected of it.
        """
        awaited = self._awaited.get(identity)
        return awaited.notified if awaited is not None else None

    def listen(
        self, identity: Identity, channel: socket.socket, on_outcome: Callable[[bool], None]
    ) -> None:
        """Wait for a server's one notification, then close the channel; return at once.

        on_outcome: called with whether the server has become ready.
        """
        channel.settimeout(0)
        self._awaited[identity] = _Awaited(channel, asyncio.Event(), on_outcome)
        asyncio.get_running_loop().add_reader(channel, self._receive, identity)

    def receive_all(self) -> None:
        """Take what servers have sent so far, as those that have ended have closed their channel.

        For callers who know of such an end before the event loop has looked at the channel.
        """
        for identity in tuple(self._awaited):
            self._receive(identity)

    def _receive(self, identity: Identity) -> None:
        """Take a notification, if it has come."""
        awaited = self._awaited[identity]
        received = b""
        try:
            received = awaited.channel.recv(_CHUNK_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionError:
            pass
        asyncio.get_running_loop().remove_reader(awaited.channel)
        awaited.channel.close()
        del self._awaited[identity]
        awaited.notified.set()
        awaited.on_outcome(_is_ready(received))


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A server whose notification is expected."""

    channel: socket.socket
    notified: asyncio.Event
    on_outcome: Callable[[bool], None]


def _is_ready(received: bytes) -> bool:
    with suppress(ValueError, AttributeError, RecursionError):
        return json.loads(received).get("ready") is True
    return False
