"""Sight: whether the front has lost members, or has been cut off from them."""

from collections.abc import Collection


def is_cut_off(vanished: Collection[float], known: int, window: float) -> bool:
    """Return whether more than half of the members have vanished at once.

    Then it is more likely that the front does not see them than that they are gone, and nothing may
    be placed: they may all be serving.

    vanished: the times in seconds at which those fell silent that are silent now. known: how many
    members have been seen at all. window: seconds within which vanishing counts as "at once".
    """
    times = sorted(vanished)
    first = 0
    for last, time in enumerate(times):
        while time - times[first] > window:
            first += 1
        if 2 * (last - first + 1) > known:
            return True
    return False
