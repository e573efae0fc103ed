"""Start progress: whether a STARTING server still gets on with its load, by memory samples.

A load may take any time as long as it makes progress; a start that stands still is ended.
1. Bytes that were read or written, memory that was taken, and pages of files that were mapped are
   progress. They count from PROGRESS_BYTES on: a process that only waits reads and logs some lines
   now and then.
2. Processor time is progress from WORKING_SHARE of `stall_timeout` on, so that the timers of a
   process that sleeps otherwise do not count. A server that was READY before, under an earlier
   service, may wait for a graphics processor: any processor time counts for it, as for the
   liveness probes of a READY server.
3. Processor time alone counts for at most COMPUTING_LIMIT_S: a busy loop is not a load. The same
   limit holds while the work of a process cannot be read.
4. Time for which the service did not run does not count (`resumed`).
"""

from dataclasses import dataclass, replace

from pool_service.core.liveness import WORKING_SHARE
from pool_service.core.types import Work

PROGRESS_BYTES = 1024 * 1024
"""The bytes from which reading and growing count. The slowest disk reads that in a second; what a
process reads while it waits (the state of a file, a wake-up by a pipe) stays far below it."""

COMPUTING_LIMIT_S = 600.0
"""The time for which a start may compute without reading anything and without taking memory.
Compiling kernels and converting weights, the longest such steps, take a few minutes at most."""


@dataclass(frozen=True, slots=True)
class StartProgress:
    """The progress of one start.

    moved_at: when it last made progress, or began.
    loaded_at: when it last read something or took memory, or began.
    work, footprint: the work and the memory from which the next progress counts.
    last: the work and the memory in the last sample that told them.
    """

    moved_at: float
    loaded_at: float
    work: Work
    footprint: int
    last: tuple[Work, int]


def judged(
    before: StartProgress | None,
    work: Work | None,
    footprint: int,
    *,
    now: float,
    stall_timeout: float,
    was_ready: bool = False,
) -> StartProgress:
    """Return the progress of a start after one more memory sample.

    before: None: it is the first sample. work: None if unknown. was_ready: under an earlier
    service.
    """
    if before is None:
        known = work or Work()
        return StartProgress(now, now, known, footprint, (known, footprint))
    known, base = work or before.last[0], before.work
    before = replace(before, last=(known, footprint))
    loaded = (
        known.requested - base.requested,
        known.from_disk - base.from_disk,
        known.written - base.written,
        known.mapped - base.mapped,
        footprint - before.footprint,
    )
    if max(loaded) >= PROGRESS_BYTES:
        return _moved(before, now, loaded_at=now)
    least = 0.0 if was_ready else WORKING_SHARE * stall_timeout
    computes = work is None or known.processor_s - base.processor_s > least
    if computes and now - before.loaded_at < COMPUTING_LIMIT_S:
        return _moved(before, now, loaded_at=before.loaded_at)
    # A counter falls when a process of the tree is gone: what the others do counts from there.
    return replace(
        before,
        work=replace(
            base,
            requested=min(base.requested, known.requested),
            from_disk=min(base.from_disk, known.from_disk),
            written=min(base.written, known.written),
            processor_s=min(base.processor_s, known.processor_s),
        ),
    )


def _moved(before: StartProgress, now: float, loaded_at: float) -> StartProgress:
    """Return the progress from which the next one counts.

    What is in memory counts by its highest level, so that taking and freeing it again and again is
    no progress.
    """
    known, footprint = before.last
    return replace(
        before,
        moved_at=now,
        loaded_at=loaded_at,
        work=replace(known, mapped=max(known.mapped, before.work.mapped)),
        footprint=max(footprint, before.footprint),
    )


def resumed(before: StartProgress, away: float) -> StartProgress:
    """Return the progress after `away` seconds in which nothing could run."""
    return replace(
        before,
        moved_at=before.moved_at + away,
        loaded_at=before.loaded_at + away,
    )


def has_stalled(progress: StartProgress, now: float, stall_timeout: float) -> bool:
    """Return whether a start has made no progress for `stall_timeout` seconds."""
    return now - progress.moved_at >= stall_timeout
