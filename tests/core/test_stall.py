"""Progress of a start, and how long it counts, by values."""

from dataclasses import replace

import pytest

from pool_service.core.liveness import WORKING_SHARE
from pool_service.core.stall import (
    COMPUTING_LIMIT_S,
    PROGRESS_BYTES,
    PROVING_LIMIT_S,
    StallWatch,
    after_sample,
    after_suspension,
    has_stalled,
)
from pool_service.core.types import FOREVER, Work

STALL_S = 60.0
BEGAN = 1000.0
WORK = Work(requested=10**9, from_disk=10**8, written=10**6, mapped=10**7, processor_s=30.0)
FOOTPRINT = 10**8
WORKING_S = WORKING_SHARE * STALL_S
"""The processor time from which on it is progress."""


def seen(
    before: StallWatch | None,
    work: Work | None,
    now: float,
    footprint: int | None = FOOTPRINT,
    *,
    was_ready: bool = False,
) -> StallWatch:
    return after_sample(
        before, work, footprint, now=now, stall_timeout=STALL_S, was_ready=was_ready
    )


def begun() -> StallWatch:
    return seen(None, WORK, BEGAN)


@pytest.mark.parametrize(
    ("work", "footprint"),
    [
        (replace(WORK, requested=WORK.requested + PROGRESS_BYTES), FOOTPRINT),
        (replace(WORK, from_disk=WORK.from_disk + PROGRESS_BYTES), FOOTPRINT),
        (replace(WORK, written=WORK.written + PROGRESS_BYTES), FOOTPRINT),
        (replace(WORK, mapped=WORK.mapped + PROGRESS_BYTES), FOOTPRINT),
        (WORK, FOOTPRINT + PROGRESS_BYTES),
    ],
)
def test_reading_writing_mapping_and_taking_memory_are_progress_however_long_it_takes(
    work: Work, footprint: int
) -> None:
    progress = seen(begun(), work, BEGAN + 5000.0, footprint)
    assert (progress.moved_at, progress.loaded_at) == (BEGAN + 5000.0, BEGAN + 5000.0)


@pytest.mark.parametrize(
    "work",
    [
        WORK,
        replace(WORK, requested=WORK.requested + PROGRESS_BYTES - 1),
        replace(WORK, processor_s=WORK.processor_s + WORKING_S),
    ],
)
def test_what_a_process_does_while_it_waits_is_none(work: Work) -> None:
    progress = seen(begun(), work, BEGAN + STALL_S - 0.1)
    assert not has_stalled(progress, BEGAN + STALL_S - 0.1, STALL_S)
    assert has_stalled(seen(progress, work, BEGAN + STALL_S), BEGAN + STALL_S, STALL_S)


def test_little_by_little_is_progress_too() -> None:
    progress = begun()
    for second in range(1, 500):
        more = second * PROGRESS_BYTES // 50
        progress = seen(progress, replace(WORK, requested=WORK.requested + more), BEGAN + second)
        assert not has_stalled(progress, BEGAN + second, STALL_S)


def test_computing_alone_is_progress_for_ten_minutes_and_a_load_begins_them_anew() -> None:
    progress, now, used = begun(), BEGAN, WORK.processor_s
    while not has_stalled(progress, now, STALL_S):
        now, used = now + 1.0, used + 1.0
        progress = seen(progress, replace(WORK, processor_s=used), now)
    assert now - BEGAN == pytest.approx(COMPUTING_LIMIT_S + STALL_S, abs=WORKING_S + 1.0)
    loaded = Work(WORK.requested + PROGRESS_BYTES, processor_s=used)
    progress = seen(progress, loaded, now)
    progress = seen(progress, replace(loaded, processor_s=used + 100.0), now + 500.0)
    assert progress.moved_at == now + 500.0


def test_memory_that_is_taken_and_freed_again_and_again_is_progress_once() -> None:
    progress = begun()
    for second in range(1, 20):
        taken = FOOTPRINT + (second % 2) * 10 * PROGRESS_BYTES
        mapped = WORK.mapped + (second % 2) * 10 * PROGRESS_BYTES
        progress = seen(progress, replace(WORK, mapped=mapped), BEGAN + second, taken)
    assert progress.moved_at == BEGAN + 1


def test_after_a_process_of_the_tree_has_gone_with_its_counters_the_others_count() -> None:
    less = Work(requested=5, processor_s=1.0)
    progress = seen(begun(), less, BEGAN + 1.0)
    assert progress.moved_at == BEGAN
    more = replace(less, requested=5 + PROGRESS_BYTES)
    assert seen(progress, more, BEGAN + 2.0).moved_at == BEGAN + 2.0


def test_while_nothing_can_be_told_nothing_is_held_against_a_start_for_ten_minutes() -> None:
    progress = begun()
    for at in (BEGAN + 300.0, BEGAN + COMPUTING_LIMIT_S - 1.0, BEGAN + COMPUTING_LIMIT_S):
        progress = seen(progress, None, at, footprint=None)
    assert progress.moved_at == BEGAN + COMPUTING_LIMIT_S - 1.0
    assert (progress.last_work, progress.last_footprint) == (WORK, FOOTPRINT)


def test_for_a_server_that_was_ready_before_any_processor_time_is_progress() -> None:
    work = replace(WORK, processor_s=WORK.processor_s + 0.01)
    assert seen(begun(), work, BEGAN + 50.0).moved_at == BEGAN
    assert seen(begun(), work, BEGAN + 50.0, was_ready=True).moved_at == BEGAN + 50.0
    assert seen(begun(), WORK, BEGAN + 50.0, was_ready=True).moved_at == BEGAN


@pytest.mark.parametrize(
    ("share", "limit"), [(0.001, PROVING_LIMIT_S), (2 * WORKING_SHARE, COMPUTING_LIMIT_S)]
)
def test_a_server_that_hangs_since_it_was_ready_is_found_out_unless_it_works(
    share: float, limit: float
) -> None:
    progress, now, used = begun(), BEGAN, WORK.processor_s
    while not has_stalled(progress, now, STALL_S):
        now, used = now + 1.0, used + share
        progress = seen(progress, replace(WORK, processor_s=used), now, was_ready=True)
    assert now - BEGAN == pytest.approx(limit + STALL_S, abs=STALL_S / 2 + 1.0)


def test_time_in_which_nothing_ran_does_not_count() -> None:
    progress = after_suspension(begun(), 3600.0)
    assert not has_stalled(progress, BEGAN + 3600.0 + STALL_S - 1.0, STALL_S)
    assert has_stalled(progress, BEGAN + 3600.0 + STALL_S, STALL_S)


def test_a_start_that_may_stand_still_for_ever_never_stalls() -> None:
    watch = after_sample(None, WORK, FOOTPRINT, now=BEGAN, stall_timeout=FOREVER)
    computed = replace(WORK, processor_s=WORK.processor_s + 1000.0)
    for at in (BEGAN + STALL_S, BEGAN + 2 * COMPUTING_LIMIT_S):
        watch = after_sample(watch, computed, FOOTPRINT, now=at, stall_timeout=FOREVER)
        assert not has_stalled(watch, at, FOREVER)
    assert not has_stalled(watch, BEGAN + 1e9, FOREVER)
