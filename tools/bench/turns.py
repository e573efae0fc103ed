"""How things are measured beside each other."""

import socket
from collections.abc import Callable, Sequence

from tools.bench.report import Pair

WARM_UPS = 1


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
