"""Free loopback ports for runtimes that must be told theirs."""

import contextlib
import socket
from collections import deque

from pool_service.adapters.system.os_errors import reason
from pool_service.core.errors import StartFailed

# A port that was picked and released is handed out again by the kernel at random (15
# times in 10,000, measured); by the time the book forgets one, its server has bound it.
_REMEMBERED = 1024
_ATTEMPTS = 64


class PortBook:
    """Hands out ports of 127.0.0.1 that were free, and none of the last 1024 again."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=_REMEMBERED)

    def reserve(self) -> int:
        """A port; raises StartFailed where the machine has none left."""
        with contextlib.ExitStack() as held:
            for _ in range(_ATTEMPTS):
                port = _bound_port(held)
                if port not in self._recent:
                    self._recent.append(port)
                    return port
        raise StartFailed("No free port was found on 127.0.0.1; stop what listens there.")


def _bound_port(held: contextlib.ExitStack) -> int:
    """Stays bound as long as `held`, so that the next attempt gets another."""
    try:
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
    except OSError as error:
        raise StartFailed(f"No port could be taken on 127.0.0.1: {reason(error)}") from error
    port: int = listener.getsockname()[1]
    return port
