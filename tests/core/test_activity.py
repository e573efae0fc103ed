"""Claims about when a server counts as used, whatever clocks do."""

import pytest

from pool_service.core.activity import Activity, SeenUse, last_use

SINCE, NOW = 100.0, 400.0


def seen(*mark: float | None, at: float = 200.0) -> SeenUse:
    return SeenUse(at, mark)


@pytest.mark.parametrize("requests", [1, 5, None])
def test_who_is_busy_is_used_now(requests: int | None) -> None:
    for before in (None, seen(5.0)):
        assert last_use(before, Activity(requests, 9.0, (5.0,)), SINCE, NOW) == NOW


@pytest.mark.parametrize("idle_for", [None, 0.0, 3.0, -3600.0, 1e9])
def test_what_has_not_changed_since_the_last_look_was_not_used(idle_for: float | None) -> None:
    assert last_use(seen(5.0), Activity(0, idle_for, (5.0,)), SINCE, NOW) is None
    assert last_use(seen(None, 7.0), Activity(0, idle_for, (None, 7.0)), SINCE, NOW) is None


@pytest.mark.parametrize("mark", [(6.0,), (4.0,), (None,), (-1e9,)])
def test_what_has_changed_was_used_when_its_age_agrees_and_else_now(
    mark: tuple[float | None, ...],
) -> None:
    assert last_use(seen(5.0), Activity(0, 150.0, mark), SINCE, NOW) == 250.0
    for idle_for in (None, -3600.0, 250.0, 1e9):
        assert last_use(seen(5.0), Activity(0, idle_for, mark), SINCE, NOW) == NOW


def test_the_first_look_believes_an_age_since_the_last_use_that_is_known() -> None:
    assert last_use(None, Activity(0, 50.0, (5.0,)), SINCE, NOW) == 350.0
    assert last_use(None, Activity(0, 350.0, (5.0,)), SINCE, NOW) is None


def test_a_use_in_the_future_counts_once() -> None:
    told = Activity(0, -3600.0, (5.0,))
    assert last_use(None, told, SINCE, NOW) == NOW
    assert last_use(seen(5.0), told, SINCE, NOW) is None


def test_what_has_served_and_does_not_say_when_counts_as_used_at_the_first_look() -> None:
    assert last_use(None, Activity(0, None, (None, 3.0), served=True), SINCE, NOW) == NOW
    assert last_use(None, Activity(0, 900.0, (5.0, 3.0), served=True), SINCE, NOW) == NOW
    assert last_use(None, Activity(0, None, (None, 0.0)), SINCE, NOW) is None


def test_what_says_nothing_of_its_use_was_not_used() -> None:
    assert last_use(None, Activity(0), SINCE, NOW) is None
    assert last_use(seen(5.0), Activity(0), SINCE, NOW) is None
