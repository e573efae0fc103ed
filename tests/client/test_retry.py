import pytest
from grpc import StatusCode

from pool_service_client.errors import DeadlineExceeded, PoolError, PoolUnavailable
from pool_service_client.retry import Attempts, PolicyOfSeveral, RetryPolicy, retry_delay

DEFAULT = RetryPolicy()
UNAVAILABLE = PoolError("gone", code=StatusCode.UNAVAILABLE)


def delay_of(
    error: PoolError,
    *,
    attempt: int = 1,
    elapsed: float = 0.0,
    remaining: float | None = None,
    policy: RetryPolicy = DEFAULT,
    chance: float = 0.0,
) -> float | None:
    return retry_delay(
        error, attempt=attempt, elapsed=elapsed, remaining=remaining, policy=policy, chance=chance
    )


@pytest.mark.parametrize(
    "code", [code for code in StatusCode if code is not StatusCode.UNAVAILABLE]
)
def test_only_unavailable_is_retried_without_a_word_of_the_service(code: StatusCode) -> None:
    assert delay_of(PoolError("no", code=code)) is None


@pytest.mark.parametrize("code", list(StatusCode))
def test_whatever_carries_a_delay_is_retried_after_it(code: StatusCode) -> None:
    assert delay_of(PoolError("later", code=code, retry_after=2.5)) == 2.5


def test_jitter_never_shortens_the_delay_that_the_service_named() -> None:
    error = PoolError("later", code=StatusCode.RESOURCE_EXHAUSTED, retry_after=2.0)
    assert [delay_of(error, chance=chance) for chance in (0.0, 0.5, 1.0)] == [2.0, 2.3, 2.6]


def test_without_a_delay_it_doubles_up_to_a_limit() -> None:
    delays = [delay_of(UNAVAILABLE, attempt=attempt) for attempt in (1, 2, 3, 6, 7, 1000)]
    assert delays == pytest.approx([0.1, 0.2, 0.4, 3.2, 5.0, 5.0])


@pytest.mark.parametrize("named", [0.0, 1e-9, 0.099, -5.0])
def test_a_delay_of_next_to_nothing_counts_as_none(named: float) -> None:
    error = PoolError("later", code=StatusCode.UNAVAILABLE, retry_after=named)
    delays = [delay_of(error, attempt=attempt) for attempt in (1, 2, 3)]
    assert delays == pytest.approx([0.1, 0.2, 0.4])


def test_a_wait_that_would_outlast_the_timeout_is_not_begun() -> None:
    error = PoolError("later", code=StatusCode.UNAVAILABLE, retry_after=2.0)
    assert delay_of(error, remaining=2.1) == 2.0
    assert delay_of(error, remaining=2.0) is None


def test_a_timeout_takes_the_place_of_patience() -> None:
    assert delay_of(UNAVAILABLE, elapsed=1000.0, remaining=60.0) == 0.1


def test_without_a_timeout_patience_ends_the_retries() -> None:
    policy = RetryPolicy(patience=10.0)
    assert delay_of(UNAVAILABLE, elapsed=9.8, policy=policy) == 0.1
    assert delay_of(UNAVAILABLE, elapsed=9.9, policy=policy) is None


def test_a_limit_of_attempts_holds_whatever_the_timeout() -> None:
    policy = RetryPolicy(attempts=2)
    assert delay_of(UNAVAILABLE, attempt=1, remaining=60.0, policy=policy) == 0.1
    assert delay_of(UNAVAILABLE, attempt=2, remaining=60.0, policy=policy) is None


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def attempts(clock: Clock, *, timeout: float | None = None, patience: float = 30.0) -> Attempts:
    return Attempts(RetryPolicy(patience), timeout, clock=clock, chance=lambda: 0.0)


def test_each_attempt_gets_what_the_ones_before_it_left() -> None:
    clock = Clock()
    call = attempts(clock, timeout=10.0)
    assert call.remaining() == 10.0
    clock.now += 7.0
    assert call.remaining() == 3.0
    clock.now += 7.0
    assert call.remaining() == 0.0


@pytest.mark.parametrize("timeout", [1e10, 1e300, float("inf")])
def test_a_timeout_is_never_longer_than_grpc_takes(timeout: float) -> None:
    assert attempts(Clock(), timeout=timeout).remaining() == 10 * 365 * 86400


def test_patience_counts_from_the_first_failure_and_not_from_the_call() -> None:
    clock = Clock()
    call = attempts(clock, patience=5.0)
    clock.now += 1000.0
    assert call.failed(UNAVAILABLE) == 0.1
    clock.now += 4.9
    with pytest.raises(PoolError) as raised:
        call.failed(UNAVAILABLE)
    assert raised.value is UNAVAILABLE


def test_success_makes_the_next_failure_the_first() -> None:
    clock = Clock()
    call = attempts(clock, patience=5.0)
    call.failed(UNAVAILABLE)
    clock.now += 100.0
    call.succeeded()
    # Patience begins anew; how long it waits only does so after a stream that lived for a while.
    assert call.failed(UNAVAILABLE) == 0.2


def test_streams_that_end_soon_at_several_addresses_are_opened_ever_more_slowly() -> None:
    clock = Clock()
    policy = PolicyOfSeveral(addresses=2)
    call = Attempts(policy, clock=clock, chance=lambda: 0.0)

    def delay_after(alive: float) -> float:
        call.succeeded()
        clock.now += alive
        return call.failed(UNAVAILABLE)

    assert [delay_after(1.0) for _ in range(6)] == [0.0, 0.1, 0.0, 0.2, 0.0, 0.4]
    # It begins anew after a stream that lived for a while.
    assert [delay_after(alive) for alive in (1.0, 10.0, 1.0)] == [0.0, 0.0, 0.1]


def test_a_deadline_says_what_failed_before_it() -> None:
    call = attempts(Clock(), timeout=10.0)
    before = PoolUnavailable("cannot reach it", code=StatusCode.UNAVAILABLE)
    call.failed(before)
    with pytest.raises(DeadlineExceeded) as raised:
        call.failed(DeadlineExceeded("too late", code=StatusCode.DEADLINE_EXCEEDED))
    assert raised.value.__cause__ is before
