"""Ready estimate: when a STARTING server will be READY, by earlier loads and by its rate.

1. The rate is the share of the expected memory that the server has taken so far, by time. It says
   little at first, while a process still imports its program: see MIN_SHARE and MIN_ELAPSED_S.
2. Earlier loads with the same settings say it from the beginning. The nearer their time is, the
   more the rate counts, so that a load from a slow disk is noticed.
3. A load that takes longer than earlier ones is estimated by its rate alone.
4. A load that has all its memory, or takes none at present, still has to compute: its rate says
   nothing of that. The time that was told stays, and passes.
"""

MIN_SHARE = 0.2
MIN_ELAPSED_S = 2.0
"""The least share and time of a load by which its rate is known."""

MAX_SHARE = 0.99
"""The largest share of its load that a start shows before it is READY."""

NOTICED_S = 2.0
NOTICED_SHARE = 0.2
"""The least change of an estimate that a person notices: seconds, and a share of what was left. A
start publishes a few estimates only: each costs its watchers a message, and the disk a record."""


def seconds_left(elapsed: float, share: float | None, usual: float | None) -> float | None:
    """Return the seconds until a server will be READY; None if that cannot be told.

    elapsed: seconds since it was started. share: of its load that is done, None if unknown. usual:
    seconds that earlier loads took, None if none is known.
    """
    by_rate = None
    if share is not None and MIN_SHARE <= share < MAX_SHARE and elapsed >= MIN_ELAPSED_S:
        by_rate = elapsed * (1.0 - share) / share
    if usual is None or elapsed >= usual:
        return by_rate
    if by_rate is None:
        return usual - elapsed
    weight = (elapsed / usual) ** 2
    return (1.0 - weight) * (usual - elapsed) + weight * by_rate


def is_news(before: float | None, after: float | None, now: float) -> bool:
    """Return whether a person would notice that the expected time has changed."""
    if before is None or after is None:
        return before is not after
    return abs(after - before) >= max(NOTICED_S, NOTICED_SHARE * (before - now))
