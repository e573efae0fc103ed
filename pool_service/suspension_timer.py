"""The pool's timer, which also detects suspensions: times in which the service did not run."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from pool_service.core.types import FOREVER

if TYPE_CHECKING:
    from pool_service.ports import Clock

MAX_WAIT_S = 60.0
"""The longest wait on the event loop's clock. That clock may stop while the machine sleeps, unlike
the pool's clock, so a long timer has to look at the pool's clock now and then."""


class SuspensionTimer:
    """Calls back when the pool's next deadline has come; measures suspensions.

    on_time: called at the deadline, and at the latest MAX_WAIT_S after `arm`.
    """

    def __init__(self, clock: "Clock", on_time: Callable[[], None]) -> None:
        self._clock = clock
        self._on_time = on_time
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = FOREVER
        self._due = FOREVER
        """When the timer is to call back."""
        self._clock_lead = clock.now() - self._loop.time()
        """Seconds by which the pool's clock was ahead of the loop's at the last measurement."""

    def arm(self, deadline: float) -> None:
        """Set the deadline, which replaces any other; FOREVER: none."""
        if self._timer is not None and self._armed_for == deadline:
            return
        self.cancel()
        self._armed_for = deadline
        if deadline != FOREVER:
            now = self._clock.now()
            wait = min(max(deadline - now, 0.0), MAX_WAIT_S)
            self._timer = self._loop.call_later(wait, self._call_back)
            self._due = now + wait

    def cancel(self) -> None:
        """Remove the deadline."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._armed_for, self._due = None, FOREVER, FOREVER

    def measure_suspension(self, now: float) -> float:
        """Return the seconds for which the service has just not run; about 0 or less if it ran.

        The greater of two values:
        1. what the pool's clock has gained on the loop's since the last call, as while the machine
           sleeps;
        2. the lateness of the timer, as while the service is held up.
        """
        lead = now - self._loop.time()
        suspended = max(lead - self._clock_lead, now - self._due)
        self._clock_lead = lead
        return suspended

    def forget_lateness(self) -> None:
        """Treat the timer as on time, once its lateness has been reported."""
        self._due = FOREVER

    def _call_back(self) -> None:
        self._timer, self._armed_for = None, FOREVER
        self._on_time()
