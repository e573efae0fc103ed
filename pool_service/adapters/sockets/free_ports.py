"""Reservation of free loopback ports, for runtimes that must be given a port."""

import contextlib
import socket
from collections import deque

from pool_service.adapters.system.os_errors import reason
from pool_service.core.errors import StartFailed

# The kernel may pick a released port again at random (measured: 15 times in 10,000). By the time a
# port is forgotten, its server has bound it.
_MAX_REMEMBERED = 1024
_MAX_ATTEMPTS = 64


class FreePorts:
    """Reserves ports of 127.0.0.1 that are free and not among the last 1024 reserved."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=_MAX_REMEMBERED)

    def reserve(self) -> int:
        """Return a free port. Raises StartFailed if none was found."""
        with contextlib.ExitStack() as held:
            for _ in range(_MAX_ATTEMPTS):
                port = _bound_port(held)
                if port not in self._recent:
                    self._recent.append(port)
                    return port
        raise StartFailed("No free port was found on 127.0.0.1; stop what listens there.")


def _bound_port(held: contextlib.ExitStack) -> int:
    """Bind a free port until `held` ends, so that the next call finds another; return the port."""
    try:
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
    except OSError as error:
        raise StartFailed(f"No port could be taken on 127.0.0.1: {reason(error)}") from error
    port: int = listener.getsockname()[1]
    return port
