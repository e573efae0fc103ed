"""Activity: how many requests a server works on, and when it was last used.

The last use is derived from counters that changed between two checks. The age that a server
reports is not enough, since wall clocks can be set at any time; it only refines the moment, if it
agrees with the counters.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Activity:
    """The result of an activity check of a server.

    requests: the number of requests that it works on; None: unknown, to be taken as busy.
    idle_for: seconds since its last request, by wall clocks, so it may be below 0; None: unknown.
    mark: counters of which at least one changes with each request; None: it has none.
    served: it has worked on at least one request.
    """

    requests: int | None
    idle_for: float | None = None
    mark: tuple[float | None, ...] | None = None
    served: bool = False


@dataclass(frozen=True, slots=True)
class UseSignals:
    """The place where a server tells how many requests it works on, besides its health path.

    path: the path to read; empty: none.
    gauges: the numbers to add up, as names of metrics (with required labels) or JSON pointers.
    counters: the numbers that change with each request, in the same form.
    counts_all: the gauges count every request, so that 0 needs no other proof.
    """

    path: str = ""
    gauges: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()
    counts_all: bool = False


@dataclass(frozen=True, slots=True)
class SeenUse:
    """The time and the mark of the last activity check of a server."""

    at: float
    mark: tuple[float | None, ...]


def last_use(seen: SeenUse | None, activity: Activity, since: float, now: float) -> float | None:
    """Return when a server was used since its last activity check, or None if it was not.

    since: the last known use; for the first check, uses before it do not count.
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
    """Return the last use by the first check, which has no mark to compare with."""
    if at is not None and since <= at <= now:
        return at
    # A use in the future means that a clock was set; a use before `since` was the load, or a clock
    # was set as well.
    if activity.served or (at is not None and at > now):
        return now
    return None
