"""How many models started together lately."""

from pool_service.core.standby_need import BURST_GAP_S, NEED_MEMORY_S, StandbyNeed
from pool_service.core.types import FOREVER

GAP = BURST_GAP_S


def started(need: StandbyNeed, models: str, now: float, ready: float | None = None) -> None:
    """Let these models start together, and be READY at `ready`, else at once."""
    need.note(set(models), now, starts_any=True)
    need.note(set(), now if ready is None else ready, starts_any=False)


def test_before_any_start_there_is_no_need() -> None:
    need = StandbyNeed()
    assert need.largest(0.0) == 0
    assert need.forgets_at() == FOREVER


def test_a_start_while_another_is_under_way_belongs_to_it_however_long_that_takes() -> None:
    need = StandbyNeed()
    need.note({"a"}, 0.0, starts_any=True)
    need.note(set(), 60.0, starts_any=True)
    need.note({"b"}, 120.0, starts_any=True)
    assert need.largest(120.0) == 2


def test_a_start_soon_after_another_belongs_to_it_and_one_after_the_gap_does_not() -> None:
    for after, size in ((GAP - 0.1, 2), (GAP, 1)):
        need = StandbyNeed()
        started(need, "a", 0.0, ready=30.0)
        started(need, "b", 30.0 + after)
        assert need.largest(100.0) == size


def test_the_gap_is_counted_from_the_last_that_became_ready() -> None:
    need = StandbyNeed()
    started(need, "a", 0.0)
    started(need, "b", GAP - 1, ready=GAP + 3)
    started(need, "c", 2 * GAP)
    assert need.largest(100.0) == 3


def test_a_model_that_starts_again_and_again_is_one() -> None:
    need = StandbyNeed()
    for now in range(10):
        started(need, "a", float(now))
    assert need.largest(10.0) == 1


def test_models_that_start_together_once_more_are_counted_once_more() -> None:
    need = StandbyNeed()
    started(need, "abc", 0.0)
    started(need, "abc", 500.0)
    assert need.largest(NEED_MEMORY_S) == 3
    assert need.forgets_at() == 500.0 + NEED_MEMORY_S


def test_of_several_bursts_the_largest_counts_until_it_is_forgotten() -> None:
    need = StandbyNeed()
    started(need, "abcde", 0.0)
    started(need, "fg", 100.0)
    started(need, "hij", 200.0)
    assert need.largest(NEED_MEMORY_S - 0.1) == 5
    assert need.largest(NEED_MEMORY_S) == 3
    assert need.forgets_at() == 200.0 + NEED_MEMORY_S
    assert need.largest(200.0 + NEED_MEMORY_S) == 0
