"""What tells how much a server has to do, and when it was last used.

The last use is told by what changes from one look to the next, not by how old it is said to be:
clocks of the day can be set, also between a request and the look. An age is only believed for
the exact moment where it agrees with what was seen.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Activity:
    """The use of a READY server, as a look at it showed it.

    requests: how many it works on, None if it cannot be told, which is to be taken as busy;
    idle_for: seconds since the last request on its endpoint by clocks that can be set, so
    that it may be less than 0, None if it does not say. mark: numbers of which at least one
    changes with each request, None if it has none; served: it has worked on a request.
    """

    requests: int | None
    idle_for: float | None = None
    mark: tuple[float | None, ...] | None = None
    served: bool = False


@dataclass(frozen=True, slots=True)
class UseSignals:
    """Where a server tells how many requests it works on, besides its health path.

    path: what is asked, empty if nothing is; gauges: what is added up there, as names of
    metrics (with the labels that they must have) or JSON pointers; counters: the same of
    numbers that change with each request; counts_all: they count every request, so that
    "none" needs no other proof.
    """

    path: str = ""
    gauges: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()
    counts_all: bool = False


@dataclass(frozen=True, slots=True)
class SeenUse:
    """The mark that the last look at a server showed, and when that was."""

    at: float
    mark: tuple[float | None, ...]


def last_use(seen: SeenUse | None, activity: Activity, since: float, now: float) -> float | None:
    """Return when a server was used after the last look (`since` if there was none), or None.

    since: before that it cannot have been used without our knowledge.
    """
    if activity.requests != 0:
        return now
    at = None if activity.idle_for is None else now - activity.idle_for
    if seen is None:
        return _first(activity, at, since, now)
    if activity.mark is None or activity.mark == seen.mark:
        return None
    return at if at is not None and seen.at <= at <= now else now


def _first(activity: Activity, at: float | None, since: float, now: float) -> float | None:
    """Return the same for the first look, which there is nothing to compare with."""
    if at is not None and since <= at <= now:
        return at
    # In the future: a clock was set. Before: it was loaded then, or a clock was set as well.
    if activity.served or (at is not None and at > now):
        return now
    return None
