"""A port that a service can have again and again."""

import random
import socket

LOWEST, HIGHEST = 20_000, 32_000
"""Below the ports that Linux (from 32768) and macOS (from 49152) give to connections: while a
service is gone, no connection of another test gets its port."""


def lasting_port() -> int:
    """Return a port on which nobody listens."""
    while True:
        port = random.SystemRandom().randrange(LOWEST, HIGHEST)
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
