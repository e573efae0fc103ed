"""Retries: whether and when a failed call is made again.

1. A failure is retried if the service said when (RetryInfo), or if its code is UNAVAILABLE, as
   when the service cannot be reached. All other failures are final: another attempt would get the
   same answer.
2. The delay is at least the one that the service named. Without one, or with less than
   _FIRST_BACKOFF_S, it is a backoff that doubles from there.
3. A stream that ends soon after each opening is opened again ever more slowly: the backoff begins
   anew only after a stream that was alive for _HEALTHY_S.
4. Jitter is added, so that callers that failed together do not return together.
5. With a timeout, retries go on within it; a delay that would outlast it is not begun.
6. Without a timeout, a call may take any time, but failures are retried for
   `RetryPolicy.patience` only, counted from the first failure.
7. Of several addresses, the others are called at once if one cannot be reached, or is about to end
   or to begin. That is a failure only once it is so at all of them.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from grpc import StatusCode

from pool_service_client.errors import DeadlineExceeded, PoolError

_FIRST_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 5.0
_JITTER = 0.3
"""The largest jitter, as a share of the delay."""

_HEALTHY_S = 10.0
"""How long a stream must be alive for the backoff to begin anew."""

_MAX_TIMEOUT_S = 10 * 365 * 86400
"""Ten years: gRPC counts nanoseconds since 1970 in 64 bits, which end in 2262."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often a client retries.

    Attributes:
        patience: the seconds after the first failure for which a call without a timeout is
            retried.
        attempts: the most attempts of a call, whatever its timeout; None: no limit; 1: no retry.
    """

    patience: float = 30.0
    attempts: int | None = None


@dataclass(frozen=True, slots=True)
class PolicyOfSeveral(RetryPolicy):
    """The policy of a client of several addresses, and how many these are."""

    addresses: int = 1


_ELSEWHERE = frozenset({"", "SHUTTING_DOWN", "RECOVERING", "POOL_UNREACHABLE"})
"""The reasons of UNAVAILABLE for which another address may answer at once."""


def retry_delay(
    error: PoolError,
    *,
    attempt: int,
    elapsed: float,
    remaining: float | None,
    policy: RetryPolicy,
    chance: float,
    doublings: int | None = None,
) -> float | None:
    """Return the seconds until the next attempt; None if there should be none.

    Args:
        error: the failure.
        attempt: the number of attempts so far, at least 1.
        elapsed: seconds since the first failure.
        remaining: seconds left of the caller's timeout; None: no timeout.
        policy: the client's policy.
        chance: a random number from 0 to 1, for the jitter.
        doublings: the doublings of the backoff so far; None: one for each attempt but the first.
    """
    if error.retry_after is None and error.code is not StatusCode.UNAVAILABLE:
        return None
    if policy.attempts is not None and attempt >= policy.attempts:
        return None
    least = error.retry_after
    # A tiny delay would result in a busy loop, so it counts as none.
    if least is None or least < _FIRST_BACKOFF_S:
        least = _backoff(attempt - 1 if doublings is None else doublings)
    delay = least * (1 + _JITTER * chance)
    budget = policy.patience - elapsed if remaining is None else remaining
    return delay if delay < budget else None


def _backoff(doublings: int) -> float:
    return min(_FIRST_BACKOFF_S * 2.0 ** min(doublings, 16), _MAX_BACKOFF_S)


@dataclass(slots=True)
class Attempts:
    """The attempts of one call, with their failures, backoff and remaining time."""

    policy: RetryPolicy
    timeout: float | None = None
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    _began: float = field(init=False)
    _made: int = field(init=False, default=0)
    _failed: float | None = field(init=False, default=None)
    _last: PoolError | None = field(init=False, default=None)
    _doublings: int = field(init=False, default=0)
    _alive_since: float | None = field(init=False, default=None)
    _others: int = field(init=False)
    _passed_over: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._began = self.clock()
        addresses = self.policy.addresses if isinstance(self.policy, PolicyOfSeveral) else 1
        self._others = addresses - 1

    def remaining(self) -> float | None:
        """Return the seconds left of the caller's timeout, limited for gRPC; None: no timeout."""
        if self.timeout is None:
            return None
        left = self._began + self.timeout - self.clock()
        return min(max(0.0, left), _MAX_TIMEOUT_S)

    def failed(self, error: PoolError) -> float:
        """Count a failure; return the seconds until the next attempt, or raise a final error."""
        now = self.clock()
        self._end_stream(now)
        if self._has_other(error):
            self._last = error
            return 0.0
        self._made += 1
        self._failed = now if self._failed is None else self._failed
        delay = retry_delay(
            error,
            attempt=self._made,
            elapsed=now - self._failed,
            remaining=self.remaining(),
            policy=self.policy,
            chance=self.chance(),
            doublings=self._next_doublings(),
        )
        if delay is None:
            raise error from self._cause_of(error)
        self._last = error
        return delay

    def _has_other(self, error: PoolError) -> bool:
        """Return whether an address has not failed yet since the others have."""
        moves = error.code is StatusCode.UNAVAILABLE and error.reason in _ELSEWHERE
        if moves and self._passed_over < self._others:
            self._passed_over += 1
            return True
        self._passed_over = 0
        return False

    def pause(self) -> float:
        """Return the seconds until another attempt that no failure has caused."""
        self._end_stream(self.clock())
        doublings = self._next_doublings()
        return _backoff(doublings) * (1 + _JITTER * self.chance())

    def _end_stream(self, now: float) -> None:
        """Begin anew with backoff and addresses if a stream has ended that was alive for long."""
        if self._alive_since is not None and now - self._alive_since >= _HEALTHY_S:
            self._doublings = self._passed_over = 0
        self._alive_since = None

    def _next_doublings(self) -> int:
        self._doublings += 1
        return self._doublings - 1

    def _cause_of(self, error: PoolError) -> BaseException | None:
        """Return the cause to raise an error from: for a DeadlineExceeded the last failure."""
        return self._last if isinstance(error, DeadlineExceeded) else error.__cause__

    def succeeded(self, since: float | None = None) -> None:
        """Forget the failures so far, as the stream is alive.

        since: the time from which it was alive; None: now. Backoff and addresses begin anew only
        if it stays alive for _HEALTHY_S.
        """
        self._made = 0
        self._failed = self._last = None
        if self._alive_since is None:
            self._alive_since = self.clock() if since is None else since
