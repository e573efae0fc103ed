"""Reservation of free ports, for runtimes that must be given a port."""

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
    """Reserves ports of one address that are free and not among the last 1024 reserved."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self._recent: deque[int] = deque(maxlen=_MAX_REMEMBERED)

    def reserve(self) -> int:
        """Return a free port. Raises StartFailed if none was found."""
        with contextlib.ExitStack() as held:
            for _ in range(_MAX_ATTEMPTS):
                port = _bound_port(self._host, held)
                if port not in self._recent:
                    self._recent.append(port)
                    return port
        raise StartFailed(f"No free port was found on {self._host}; stop what listens there.")


def _bound_port(host: str, held: contextlib.ExitStack) -> int:
    """Bind a free port until `held` ends, so that the next call finds another; return the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = held.enter_context(socket.socket(family))
        listener.bind((host, 0))
    except OSError as error:
        raise StartFailed(f"No port could be taken on {host}: {reason(error)}") from error
    port: int = listener.getsockname()[1]
    return port
