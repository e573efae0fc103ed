"""The times of beats: many members are sent theirs at once, since a wake-up for each costs more."""

from heapq import heappop, heappush
from itertools import count

TOGETHER = 16
"""The beats that are sent at once: they keep the event loop from callers for some milliseconds."""


class Places:
    """Numbers the links of a front; a number is given again once its link is closed."""

    def __init__(self) -> None:
        self._free = list[int]()
        self._new = count()

    def take(self) -> int:
        """Return the lowest number that no link has."""
        return heappop(self._free) if self._free else next(self._new)

    def give_back(self, place: int) -> None:
        """Let another link have a number."""
        heappush(self._free, place)


def next_beat(place: int, beat_s: float, now: float) -> float:
    """Return when the next beat of a link is due: at most `beat_s` after now.

    place: the number of the link.
    """
    offset = _share(place // TOGETHER) * beat_s
    return now + beat_s - (now - offset) % beat_s


def _share(group: int) -> float:
    """Return at which part of the time between two beats those of a group are sent.

    0, 1/2, 1/4, 3/4, 1/8, … (the binary digits in reverse): however many groups there are, they are
    spread, and none moves when another one comes.
    """
    digits = f"{group:b}"[::-1]
    return int(digits, 2) / (1 << len(digits))
