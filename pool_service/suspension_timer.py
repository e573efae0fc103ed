"""One timer for the whole pool, which also notices that the service did not run for a while."""

import asyncio
from collections.abc import Callable

from pool_service.core.types import FOREVER
from pool_service.ports import Clock

LONGEST_NAP_S = 60.0
"""The loop's clock may stand still while the machine sleeps and the pool's does not, so that a
long timer has to look at the time now and then."""


class Alarm:
    """Call back when a deadline of the pool has come."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = FOREVER
        self._due = FOREVER
        self._ahead = clock.now() - self._loop.time()

    def arm(self, deadline: float) -> None:
        """Call back at `deadline`, in place of any other; FOREVER: never."""
        if self._timer is not None and self._armed_for == deadline:
            return
        self.cancel()
        self._armed_for = deadline
        if deadline != FOREVER:
            now = self._clock.now()
            nap = min(max(deadline - now, 0.0), LONGEST_NAP_S)
            self._timer = self._loop.call_later(nap, self._on_time)
            self._due = now + nap

    def cancel(self) -> None:
        """Call back no more, until it is armed again."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._armed_for, self._due = None, FOREVER, FOREVER

    def away(self, now: float) -> float:
        """Return for how many seconds the service did not run, as far as that shows by now.

        While the machine sleeps only the pool's clock goes on; while the service is held up, both
        do, and the timer is late.
        """
        ahead = now - self._loop.time()
        away = max(ahead - self._ahead, now - self._due)
        self._ahead = ahead
        return away

    def excuse(self) -> None:
        """Take the timer as not late: its lateness was seen."""
        self._due = FOREVER

    def _on_time(self) -> None:
        self._timer, self._armed_for = None, FOREVER
        self._ring()
