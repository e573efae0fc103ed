"""Liveness: whether a READY server is healthy, unhealthy or wedged, by the last probes.

1. A server that answers healthy is well.
2. A server that does not answer may be busy. With requests in flight, any progress (processor
   time, output) counts as alive; without, only work does, not a line in its log now and then.
3. A server that answers that it is unhealthy, or with an error, may be busy as well: if it works
   on requests, the answer does not count.
4. It takes several such probes in a row before a server is wedged or unhealthy.
5. After a gap between probes, such as a suspend of the machine, counting begins anew.
"""

from dataclasses import dataclass

from pool_service.core.types import ProbeResult

WORKING_SHARE = 0.05
"""The share of a processor that a server takes at least while it works on a request. An idle
server takes a tenth of that."""


@dataclass(frozen=True, slots=True)
class Liveness:
    """The findings of the last liveness probes of a server.

    at, progress: the time and the counters of the last probe.
    missed: probes in a row without answer and progress.
    sick: unhealthy answers less healthy ones, at least 0, so that a healthy answer now and then
    does not keep an unhealthy server.
    """

    at: float
    progress: tuple[float, ...]
    missed: int = 0
    sick: int = 0


def after_probe(
    before: Liveness | None, result: ProbeResult, now: float, longest_gap: float
) -> Liveness:
    """Return the findings after one more probe; longest_gap: seconds that keep the old ones."""
    if before is None or now - before.at > longest_gap:
        return Liveness(now, result.progress)
    if result.answered and result.healthy:
        return Liveness(now, result.progress, 0, max(before.sick - 1, 0))
    works = _works(before, result, now)
    if result.answered:
        # An unhealthy answer shows that it is alive, so `missed` stays as it is.
        is_well = result.in_flight and works
        return Liveness(now, result.progress, before.missed, before.sick + (not is_well))
    moved = result.progress != before.progress and (result.in_flight or works)
    return Liveness(now, result.progress, 0 if moved else before.missed + 1, before.sick)


def _works(before: Liveness, result: ProbeResult, now: float) -> bool:
    """Return whether a server took as much processor time as work takes; True if unknown."""
    if not before.progress or not result.progress:
        return True
    return result.progress[0] - before.progress[0] >= WORKING_SHARE * (now - before.at)
