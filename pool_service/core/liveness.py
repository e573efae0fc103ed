"""Whether a READY server is alive, sick or wedged, judged by its pulse.

A server that answers healthy is well. One that does not answer may be busy: with requests in
flight it is alive as long as anything of it moves (processor time, output), without any as long as
it works; a line in its log now and then is no work. One that answers that it is unhealthy, or with
an error, may be busy as well: then it works on requests. Only silence and standstill, or sickness
without work, over several looks in a row is a verdict; a gap in our own looks, as after a sleep of
the machine or a stall of the service, begins the count anew.
"""

from dataclasses import dataclass

from pool_service.core.types import ProbeResult

WORKING_SHARE = 0.05
"""The share of a processor that one takes at least that works on a request. A server that has
nothing to do takes a tenth of that."""


@dataclass(frozen=True, slots=True)
class Liveness:
    """The findings of the last looks at a server.

    missed: standstills in a row; sick: looks at which it said so, less those at which it was
    well, so that one good answer now and then does not keep a sick one.
    """

    at: float
    progress: tuple[float, ...]
    missed: int = 0
    sick: int = 0


def judged(
    before: Liveness | None, result: ProbeResult, now: float, longest_gap: float
) -> Liveness:
    """Return what is known after one more look. longest_gap: seconds; over that we were away."""
    if before is None or now - before.at > longest_gap:
        return Liveness(now, result.progress)
    if result.answered and result.healthy:
        return Liveness(now, result.progress, 0, max(before.sick - 1, 0))
    works = _works(before, result, now)
    if result.answered:
        # It lives, but whether it is well is not told by that.
        is_well = result.in_flight and works
        return Liveness(now, result.progress, before.missed, before.sick + (not is_well))
    moved = result.progress != before.progress and (result.in_flight or works)
    return Liveness(now, result.progress, 0 if moved else before.missed + 1, before.sick)


def _works(before: Liveness, result: ProbeResult, now: float) -> bool:
    """Return whether a server took as much processor time as work does; True if not seen."""
    if not before.progress or not result.progress:
        return True
    return result.progress[0] - before.progress[0] >= WORKING_SHARE * (now - before.at)
