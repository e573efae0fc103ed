"""Stall watch: whether a STARTING server still gets on with its load, by memory samples.

A load may take any time as long as it makes progress; a start that stands still is ended.
1. Bytes that were read or written, memory that was taken, and pages of files that were mapped are
   progress. They count from PROGRESS_BYTES on: a process that only waits reads and logs some lines
   now and then.
2. Processor time is progress once it amounts to WORKING_SHARE of `stall_timeout`: the timers of a
   sleeping process stay below. A server that was READY before, under an earlier service, may wait
   for a graphics processor: any processor time counts for it, for PROVING_LIMIT_S.
3. Processor time alone counts for at most COMPUTING_LIMIT_S: a busy loop is not a load. The same
   limit holds while the work of a process cannot be read.
4. Time for which the service did not run does not count (`after_suspension`).
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

PROVING_LIMIT_S = 60.0
"""The time for which any processor time counts for a server that was READY before. With the stall
timeout after it, a server that hangs is ended about as soon as by the probes of a READY one."""


@dataclass(frozen=True, slots=True)
class StallWatch:
    """The findings about the progress of one start.

    moved_at: when it last made progress, or began.
    loaded_at: when it last read something or took memory, or began.
    work, footprint: the work and the memory from which the next progress counts.
    last_work, last_footprint: those of the last sample that had them; None: none had.
    """

    moved_at: float
    loaded_at: float
    work: Work
    footprint: int
    last_work: Work | None
    last_footprint: int | None


def after_sample(
    before: StallWatch | None,
    work: Work | None,
    footprint: int | None,
    *,
    now: float,
    stall_timeout: float,
    was_ready: bool = False,
) -> StallWatch:
    """Return the findings after one more memory sample.

    before: None: it is the first sample. work, footprint: None if unknown. was_ready: under an
    earlier service.
    """
    if before is None:
        return StallWatch(now, now, work or Work(), footprint or 0, work, footprint)
    before = replace(
        before,
        last_work=work or before.last_work,
        last_footprint=before.last_footprint if footprint is None else footprint,
    )
    known, base = before.last_work or Work(), before.work
    loaded = (
        known.requested - base.requested,
        known.from_disk - base.from_disk,
        known.written - base.written,
        known.mapped - base.mapped,
        (footprint or 0) - before.footprint,
    )
    if max(loaded) >= PROGRESS_BYTES:
        return _moved(before, now, loaded_at=now)
    empty = now - before.loaded_at
    is_proving = was_ready and empty < PROVING_LIMIT_S
    least = 0.0 if is_proving else WORKING_SHARE * stall_timeout
    computes = work is None or known.processor_s - base.processor_s > least
    if computes and empty < COMPUTING_LIMIT_S:
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


def _moved(before: StallWatch, now: float, loaded_at: float) -> StallWatch:
    """Return the findings from which the next progress counts.

    What is in memory counts by its highest level, so that taking and freeing it again and again is
    no progress.
    """
    known = before.last_work or Work()
    return replace(
        before,
        moved_at=now,
        loaded_at=loaded_at,
        work=replace(known, mapped=max(known.mapped, before.work.mapped)),
        footprint=max(before.last_footprint or 0, before.footprint),
    )


def after_suspension(before: StallWatch, suspended_s: float) -> StallWatch:
    """Return the findings after a time in which nothing could run."""
    return replace(
        before,
        moved_at=before.moved_at + suspended_s,
        loaded_at=before.loaded_at + suspended_s,
    )


def has_stalled(watch: StallWatch, now: float, stall_timeout: float) -> bool:
    """Return whether a start has made no progress for `stall_timeout` seconds."""
    return now - watch.moved_at >= stall_timeout
