"""The limits of callers: what is open, and how many starts there were."""

import asyncio
from contextlib import ExitStack
from dataclasses import replace

import pytest

from pool_service.access.principal import LOCAL, CallerLimits, Principal, Scope
from pool_service.access.quotas import Quotas
from pool_service.core.errors import ModelNotOnDisk, QuotaExceeded, StartFailed

A = Principal("a", Scope.USE, limits=CallerLimits(2, 2, 2, 6))
B = replace(A, name="b")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quotas(clock: Clock) -> Quotas:
    return Quotas(clock)


def started(quotas: Quotas, principal: Principal) -> None:
    with quotas.start(principal):
        pass


@pytest.mark.parametrize("limit", ["holds", "waiting", "streams"])
def test_a_caller_has_so_many_open_and_no_other_caller_counts(quotas: Quotas, limit: str) -> None:
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(quotas.open(A, limit))
        with pytest.raises(QuotaExceeded) as refused, quotas.open(A, limit):
            pass
        assert (refused.value.limit, refused.value.most) == (limit, 2)
        assert refused.value.retry_after > 0
        with quotas.open(B, limit):
            pass
    with quotas.open(A, limit):
        pass


def test_what_ends_with_an_error_is_given_back(quotas: Quotas) -> None:
    for _ in range(5):
        with pytest.raises(ValueError, match="broken"), quotas.open(A, "holds"):
            raise ValueError("broken")


def test_starts_are_refilled_evenly_over_a_minute(quotas: Quotas, clock: Clock) -> None:
    for _ in range(6):
        started(quotas, A)
    with pytest.raises(QuotaExceeded) as refused:
        started(quotas, A)
    assert refused.value.retry_after == pytest.approx(10.0)
    started(quotas, B)
    clock.now += refused.value.retry_after
    started(quotas, A)
    with pytest.raises(QuotaExceeded):
        started(quotas, A)


def test_a_start_that_came_to_nothing_is_taken_back(quotas: Quotas) -> None:
    for _ in range(5):
        started(quotas, A)
    for _ in range(3):
        with quotas.start(A) as start:
            start.counts = False
    started(quotas, A)
    with pytest.raises(QuotaExceeded):
        started(quotas, A)


def test_more_than_the_limit_is_never_left(quotas: Quotas, clock: Clock) -> None:
    with quotas.start(A) as start:
        clock.now += 3600
        start.counts = False
    clock.now += 3600
    for _ in range(6):
        started(quotas, A)
    with pytest.raises(QuotaExceeded):
        started(quotas, A)


def test_the_own_user_has_no_limit(quotas: Quotas) -> None:
    with ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(quotas.open(LOCAL, "holds"))
            started(quotas, LOCAL)


def test_an_error_before_a_process_gives_the_start_back(quotas: Quotas) -> None:
    for _ in range(20):
        with pytest.raises(ModelNotOnDisk), quotas.start(A):
            raise ModelNotOnDisk("its files are not here")
    for _ in range(6):
        with pytest.raises(StartFailed), quotas.start(A):
            raise StartFailed("its process died")
    with pytest.raises(QuotaExceeded):
        started(quotas, A)


def test_a_caller_that_gives_up_keeps_its_start_counted(quotas: Quotas) -> None:
    for _ in range(6):
        with pytest.raises(asyncio.CancelledError), quotas.start(A):
            raise asyncio.CancelledError
    with pytest.raises(QuotaExceeded):
        started(quotas, A)
