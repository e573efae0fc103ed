"""The pool's clock: it goes on while the machine sleeps, and nobody can set it."""

import sys
import time

# time.monotonic() stands still while a machine sleeps, on Linux and on macOS; on macOS
# the system's own CLOCK_MONOTONIC, which is another clock than that one, does not.
if sys.platform == "darwin":
    _CLOCK = time.CLOCK_MONOTONIC
else:
    _CLOCK = time.CLOCK_BOOTTIME


class SystemClock:
    """Seconds since the machine was booted, sleep included."""

    def __init__(self) -> None:
        # Fixed, so that the time shown for a moment stays the same if the wall clock is set.
        self._unix_time_at_zero = time.time() - self.now()

    def now(self) -> float:
        """Seconds since the boot; never goes back."""
        return time.clock_gettime(_CLOCK)

    def wall(self, at: float) -> float:
        """The Unix time, in seconds, of the moment `at` of this clock."""
        return self._unix_time_at_zero + at
