"""Who may start now: a pure function of who waits and who is starting."""

from collections.abc import Iterable
from itertools import islice


def admit(queued: Iterable[str], starting: int, max_starts: int) -> list[str]:
    """The models that may start now, first come first served.

    queued: models in the order in which they were asked for; starting: how many
    starts are under way; max_starts: how many may be at a time.
    """
    return list(islice(queued, max(0, max_starts - starting)))
