"""Generations: each server of a model has a higher one, and at least the one that is asked for."""

import pytest

from pool_service.core.errors import PoolError
from pool_service.core.events import EnsureRequested, HoldRequested
from pool_service.core.server import LastRun, Phase, ServerId
from tests.core.parts import NOW, Parts, made


def ensures(parts: Parts, request_id: int = 1, least: int = 0) -> None:
    parts.requests.ensure(EnsureRequested(request_id, "m", least_generation=least), NOW)


@pytest.mark.parametrize(
    ("known", "least", "generation"),
    [(0, 0, 1), (0, 1, 1), (0, 17, 17), (4, 0, 5), (4, 3, 5), (4, 5, 5), (4, 17, 17)],
)
def test_a_start_has_its_own_next_generation_or_the_least_asked_for_if_that_is_higher(
    known: int, least: int, generation: int
) -> None:
    parts = Parts()
    if known:
        parts.state.pasts["m"] = LastRun("m", known, None)
    ensures(parts, least=least)
    assert parts.shown().id == ServerId("m", generation)


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.STARTING, Phase.READY])
def test_a_model_that_has_a_server_keeps_it_whatever_generation_is_asked_for(phase: Phase) -> None:
    parts = Parts()
    parts.there("m", phase, generation=2)
    ensures(parts, least=17)
    assert parts.shown().id == ServerId("m", 2)


def test_a_failed_server_is_followed_by_the_generation_asked_for_and_goes() -> None:
    parts = Parts()
    parts.there("m", Phase.FAILED, generation=2)
    ensures(parts, least=17)
    assert parts.shown().id == ServerId("m", 17)
    assert parts.server(generation=2) is None


def test_of_all_that_wait_for_a_stopping_server_the_highest_counts_for_the_next() -> None:
    parts = Parts()
    row = parts.there("m", Phase.CLEANING_UP, generation=2)
    for request_id, least in ((1, 5), (2, 17), (3, 0)):
        ensures(parts, request_id, least)
    parts.supervisor.conclude(row.server, NOW)
    assert (parts.shown().id, parts.shown().phase) == (ServerId("m", 17), Phase.QUEUED)


def test_who_left_before_the_start_asks_for_no_generation_any_more() -> None:
    parts = Parts()
    row = parts.there("m", Phase.CLEANING_UP, generation=2)
    ensures(parts, 1, 17)
    ensures(parts, 2)
    parts.state.waiters.leave(1)
    parts.supervisor.conclude(row.server, NOW)
    assert parts.shown().id == ServerId("m", 3)


def test_a_generation_that_is_passed_over_is_not_given_out_later() -> None:
    parts = Parts()
    ensures(parts, least=17)
    parts.scheduler.drop_start(parts.shown(), PoolError("no room"))
    assert parts.server() is None
    ensures(parts, 2)
    assert parts.shown().id == ServerId("m", 17)


def test_the_next_process_of_a_hold_has_at_least_its_generation() -> None:
    parts = Parts()
    parts.there("m", generation=2)
    parts.requests.hold(HoldRequested(1, "m", least_generation=17), NOW)
    assert parts.shown().generation == 2
    parts.supervisor.add_holders_to_waiters(made(generation=2))
    assert parts.state.next_generation("m", parts.shown()) == 17


def test_a_start_that_backs_off_has_at_least_the_generation_that_its_waiters_ask_for() -> None:
    parts = Parts()
    parts.there("m", Phase.FAILED, generation=2, retry_at=NOW + 5.0)
    ensures(parts, least=17)
    assert (parts.shown().id, parts.shown().phase) == (ServerId("m", 17), Phase.BACKING_OFF)
