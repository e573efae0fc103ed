"""When a start is expected to be READY, and which changes of that are told, by values."""

import pytest

from pool_service.core.ready_estimate import (
    MAX_SHARE,
    MIN_ELAPSED_S,
    MIN_SHARE,
    NOTICED_S,
    is_news,
    seconds_left,
)


def test_without_earlier_loads_the_rate_tells_it_as_soon_as_it_says_something() -> None:
    assert seconds_left(10.0, 0.25, None) == pytest.approx(30.0)
    assert seconds_left(10.0, 0.8, None) == pytest.approx(2.5)
    assert seconds_left(10.0, MIN_SHARE - 0.01, None) is None
    assert seconds_left(MIN_ELAPSED_S - 0.1, 0.5, None) is None
    assert seconds_left(10.0, None, None) is None


def test_earlier_loads_tell_it_from_the_beginning() -> None:
    assert seconds_left(0.0, None, 40.0) == 40.0
    assert seconds_left(10.0, 0.1, 40.0) == 30.0


def test_what_is_left_when_all_memory_is_taken_is_told_by_earlier_loads_alone() -> None:
    assert seconds_left(10.0, MAX_SHARE, None) is None
    assert seconds_left(10.0, MAX_SHARE, 40.0) == 30.0
    assert seconds_left(50.0, MAX_SHARE, 40.0) is None


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_a_load_like_the_earlier_ones_is_expected_when_they_were_ready(share: float) -> None:
    assert seconds_left(40.0 * share, share, 40.0) == pytest.approx(40.0 * (1 - share))


def test_a_load_from_a_slow_disk_is_noticed_long_before_the_usual_time_is_over() -> None:
    slow = seconds_left(30.0, 0.2, 40.0)
    assert slow is not None
    assert 60.0 < slow <= 120.0, "its rate says 120 s, the earlier loads 10 s"


def test_a_load_that_takes_longer_than_any_before_is_estimated_by_its_rate_alone() -> None:
    assert seconds_left(60.0, 0.5, 40.0) == pytest.approx(60.0)
    assert seconds_left(60.0, None, 40.0) is None


@pytest.mark.parametrize(
    ("before", "after", "is_told"),
    [
        (None, None, False),
        (None, 110.0, True),
        (110.0, None, True),
        (110.0, 110.0 + NOTICED_S - 0.1, False),
        (110.0, 110.0 - NOTICED_S, True),
        (200.0, 219.0, False),
        (200.0, 220.0, True),
        (90.0, 91.0, False),
    ],
)
def test_a_change_is_told_that_a_person_would_notice(
    before: float | None, after: float | None, is_told: bool
) -> None:
    assert is_news(before, after, now=100.0) is is_told
