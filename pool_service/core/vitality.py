"""Whether a READY server is alive or wedged, judged by its pulse.

A server that answers is alive. One that does not answer may be busy: it is alive as
long as something of it moves (processor time, output). Only silence and standstill
over several looks in a row is a verdict; and a gap in our own looks, as after a sleep
of the machine or a stall of the service, begins the count anew.
"""

from dataclasses import dataclass

from pool_service.core.types import Pulse


@dataclass(frozen=True, slots=True)
class Vitality:
    """What the last looks at a server showed. missed: standstills in a row."""

    at: float
    progress: tuple[float, ...]
    missed: int = 0


def judged(before: Vitality | None, pulse: Pulse, now: float, longest_gap: float) -> Vitality:
    """What is known after one more look. longest_gap: seconds; over that we were away."""
    if pulse.answered or before is None or now - before.at > longest_gap:
        return Vitality(now, pulse.progress)
    moved = pulse.progress != before.progress
    return Vitality(now, pulse.progress, 0 if moved else before.missed + 1)
