"""Claims about who goes when room is needed, by values."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_service.core.preemption_policy import (
    LONG_HALF_LIFE_S,
    ORDERED,
    SHORT_HALF_LIFE_S,
    Candidate,
    Uses,
    in_order,
    victims,
)
from pool_service.core.server import ServerId

NOW = 10_000.0

one_candidate = st.builds(
    Candidate,
    server_id=st.builds(ServerId, st.text("abcdefghij", min_size=1, max_size=6), st.just(1)),
    freed=st.integers(1, 40),
    load_seconds=st.floats(0.1, 60),
    last_used_at=st.floats(0, NOW),
    uses=st.one_of(st.just(0.0), st.floats(0.001, 100)),
)
candidates = st.lists(one_candidate, max_size=8, unique_by=lambda one: one.server_id)
needs = st.integers(1, 120)


def worth(chosen: tuple[Candidate, ...]) -> float:
    return sum(one.uses * one.load_seconds for one in chosen)


def freed(chosen: tuple[Candidate, ...]) -> int:
    return sum(one.freed for one in chosen)


@given(candidates, needs)
def test_as_much_is_freed_as_is_needed_or_nobody_goes(choice: list[Candidate], needed: int) -> None:
    chosen = victims(choice, needed, NOW)
    if freed(tuple(choice)) < needed:
        assert chosen is None
    else:
        assert chosen is not None
        assert freed(chosen) >= needed


@given(candidates, needs)
def test_nobody_goes_without_whom_it_would_be_enough(choice: list[Candidate], needed: int) -> None:
    chosen = victims(choice, needed, NOW) or ()
    for one in chosen:
        assert freed(chosen) - one.freed < needed


@given(candidates, needs)
def test_no_single_one_that_frees_as_much_would_have_been_cheaper(
    choice: list[Candidate], needed: int
) -> None:
    chosen = victims(choice, needed, NOW)
    if chosen is not None:
        alike = [worth((one,)) for one in choice if one.freed >= freed(chosen)]
        assert all(worth(chosen) <= one + 1e-9 * (1 + one) for one in alike)


def test_what_is_freed_beyond_the_need_may_be_worth_more() -> None:
    larger, smaller = candidate("a", freed=2, uses=4.0), candidate("b", freed=1, uses=3.0)
    assert victims([larger, smaller], 1, NOW) == (larger,)


@given(candidates, needs)
def test_of_equal_sizes_those_go_that_are_worth_least(choice: list[Candidate], needed: int) -> None:
    equal = [replace(one, freed=10) for one in choice]
    chosen = victims(equal, needed, NOW)
    if chosen is not None:
        least = sorted(one.uses * one.load_seconds for one in equal)[: len(chosen)]
        assert worth(chosen) == pytest.approx(sum(least))


@given(candidates, needs, st.randoms(use_true_random=False))
def test_the_order_in_which_they_are_given_does_not_matter(
    choice: list[Candidate], needed: int, chance: object
) -> None:
    shuffled = list(choice)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert set(victims(choice, needed, NOW) or ()) == set(victims(shuffled, needed, NOW) or ())


def candidate(model: str, **more: float) -> Candidate:
    values = {"freed": 10, "load_seconds": 5.0, "last_used_at": 0.0, "uses": 1.0} | more
    return Candidate(ServerId(model, 1), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("goes", "stays"),
    [
        ({"uses": 1.0}, {"uses": 2.0}),
        ({"load_seconds": 1.0}, {"load_seconds": 20.0}),
        ({"last_used_at": 0.0}, {"last_used_at": 5.0}),
        ({"freed": 30}, {"freed": 10}),
    ],
    ids=[
        "used less",
        "loaded sooner",
        "used longer ago",
        "larger, so that a byte of it is worth less",
    ],
)
def test_of_two_that_are_else_the_same_that_one_goes_that_is(
    goes: dict[str, float], stays: dict[str, float]
) -> None:
    chosen = victims([candidate("a", **stays), candidate("b", **goes)], 10, NOW)
    assert [one.server_id.model for one in chosen or ()] == ["b"]


# --- uses ---------------------------------------------------------------------------------


def test_a_use_counts_less_as_time_passes() -> None:
    once = Uses(0.0).used(0.0)
    times = (0.0, SHORT_HALF_LIFE_S, 2 * SHORT_HALF_LIFE_S, LONG_HALF_LIFE_S)
    counts = [once.count(at) for at in times]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] > 0


def test_what_was_popular_for_hours_outlasts_what_was_asked_for_a_few_times() -> None:
    long, short = Uses(0.0), Uses(0.0)
    for minute in range(240):
        long = long.used(minute * 60.0)
    for minute in range(235, 240):
        short = short.used(minute * 60.0)
    assert long.count(NOW + 3600) > short.count(NOW + 3600)


def test_what_became_popular_minutes_ago_overtakes_what_was_popular_once() -> None:
    once = Uses(0.0)
    for minute in range(60):
        once = once.used(minute * 60.0)
    later = 60 * 60.0 + LONG_HALF_LIFE_S
    new = Uses(later)
    for second in range(0, 600, 30):
        new = new.used(later + second)
    assert new.count(later + 600) > once.count(later + 600)


def test_a_clock_that_stands_still_or_goes_back_makes_nothing_more_likely() -> None:
    once = Uses(100.0).used(100.0)
    assert once.count(50.0) == once.count(100.0)


@given(st.lists(one_candidate, max_size=3 * ORDERED, unique_by=lambda one: one.server_id))
def test_the_first_ones_in_the_order_go_one_after_the_other_for_a_byte(
    choice: list[Candidate],
) -> None:
    order = in_order(choice, NOW)
    left = list(choice)
    for told in order[:ORDERED]:
        assert victims(left, 1, NOW) == (told,)
        left.remove(told)
    by_the_byte = [worth((one,)) / one.freed for one in order[ORDERED:]]
    assert by_the_byte == sorted(by_the_byte)
    assert sorted(order, key=repr) == sorted(choice, key=repr)
