"""How things are measured beside each other."""

import random
import socket
from collections.abc import Callable, Sequence

from tools.bench.report import Pair

WARM_UPS = 1

LOWEST_PORT, HIGHEST_PORT = 20_000, 32_000
"""Below the ports that Linux (from 32768) and macOS (from 49152) give to others meanwhile."""


def in_turn(
    rounds: int, *measures: Callable[[], float], warm_ups: int = WARM_UPS
) -> list[tuple[float, ...]]:
    """What each measured in each round, in the order in which they are given.

    Each runs `warm_ups` times first. Who begins changes from round to round, so that none
    always finds the machine as the same other one left it.
    """
    for _ in range(warm_ups):
        for measure in measures:
            measure()
    found = []
    for turn in range(rounds):
        order = [(turn + place) % len(measures) for place in range(len(measures))]
        values = {place: measures[place]() for place in order}
        found.append(tuple(values[place] for place in range(len(measures))))
    return found


def pairs(found: Sequence[tuple[float, ...]], measured: int = 0, baseline: int = 1) -> list[Pair]:
    """Two of what was measured in turn, by their places."""
    return [(one[measured], one[baseline]) for one in found]


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def free_ports(count: int) -> int:
    """Return the first of so many ports of loopback in a row that nobody takes before its use."""
    while True:
        first = random.SystemRandom().randrange(LOWEST_PORT, HIGHEST_PORT)
        if all(map(_is_free, range(first, first + count))):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) != 0
