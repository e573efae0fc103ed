"""Whether and when a call that failed is made again.

A failure is retried if the service said when (RetryInfo), or if it is
UNAVAILABLE, which a service that cannot be reached is too. Everything else is
final: asking again would get the same answer. The delay that the service named
is the least that is waited; without one, or with less than a tenth of a second,
it doubles from that. A stream that ends soon after each opening is opened again
ever more slowly too: only one that was alive for a while begins the doubling anew.
Jitter is added, so that callers that failed together do not return together.

Where the caller gave a timeout, retries go on within it, and not a moment is
spent on a wait that would outlast it. Where the caller gave none, a call may
take as long as it takes, but failures are retried for `RetryPolicy.patience`
only, counted from the first of them.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from grpc import StatusCode

from pool_service_client.errors import DeadlineExceeded, PoolError

_FIRST_BACKOFF = 0.1
_LONGEST_BACKOFF = 5.0
_JITTER = 0.3
_HEALTHY_S = 10.0
# Seconds: ten years. gRPC counts nanoseconds since 1970 in 64 bits, which end in 2262.
_LONGEST_TIMEOUT = 10 * 365 * 86400


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How persistent a client is.

    patience: for how many seconds after a first failure a call without a timeout
    is tried again. attempts: at most this many times in all, whatever the timeout;
    None: no such limit; 1: never again.
    """

    patience: float = 30.0
    attempts: int | None = None


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
    """Seconds until the next attempt, or None if there should be none.

    attempt: how many were made, from 1; elapsed: seconds since the first failure;
    remaining: seconds that the caller's timeout leaves, None without one;
    chance: a random number from 0 to 1; doublings: of the delay, where those are not
    one for each attempt after the first.
    """
    if error.retry_after is None and error.code is not StatusCode.UNAVAILABLE:
        return None
    if policy.attempts is not None and attempt >= policy.attempts:
        return None
    least = error.retry_after
    # A delay of next to nothing would be a busy loop: it counts as none.
    if least is None or least < _FIRST_BACKOFF:
        least = _backoff(attempt - 1 if doublings is None else doublings)
    delay = least * (1 + _JITTER * chance)
    budget = policy.patience - elapsed if remaining is None else remaining
    return delay if delay < budget else None


def _backoff(doublings: int) -> float:
    return min(_FIRST_BACKOFF * 2.0 ** min(doublings, 16), _LONGEST_BACKOFF)


@dataclass(slots=True)
class Attempts:
    """The attempts of one call: how long the next may take, and when it is due."""

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

    def __post_init__(self) -> None:
        self._began = self.clock()

    def remaining(self) -> float | None:
        """Seconds that the caller's timeout leaves, as many as gRPC takes; None without one."""
        if self.timeout is None:
            return None
        left = self._began + self.timeout - self.clock()
        return min(max(0.0, left), _LONGEST_TIMEOUT)

    def failed(self, error: PoolError) -> float:
        """Seconds until the next attempt; raises the error if there is to be none."""
        self._made += 1
        now = self.clock()
        self._failed = now if self._failed is None else self._failed
        delay = retry_delay(
            error,
            attempt=self._made,
            elapsed=now - self._failed,
            remaining=self.remaining(),
            policy=self.policy,
            chance=self.chance(),
            doublings=self._next_doublings(now),
        )
        if delay is None:
            raise error from self._cause_of(error)
        self._last = error
        return delay

    def pause(self) -> float:
        """Seconds before what is no failure is asked for again."""
        doublings = self._next_doublings(self.clock())
        return _backoff(doublings) * (1 + _JITTER * self.chance())

    def _next_doublings(self, now: float) -> int:
        if self._alive_since is not None and now - self._alive_since >= _HEALTHY_S:
            self._doublings = 0
        self._alive_since = None
        self._doublings += 1
        return self._doublings - 1

    def _cause_of(self, error: PoolError) -> BaseException | None:
        """A deadline alone says little: what went wrong before it says more."""
        return self._last if isinstance(error, DeadlineExceeded) else error.__cause__

    def succeeded(self, since: float | None = None) -> None:
        """Forget the failures so far: for a stream that is alive again, since then or now.

        How long the next wait is, it goes by when that stream was alive for a while.
        """
        self._made = 0
        self._failed = self._last = None
        if self._alive_since is None:
            self._alive_since = self.clock() if since is None else since
