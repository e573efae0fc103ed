"""Implementation of the port `Clock`, whose time includes the machine's sleep and cannot be set."""

import sys
import time

# time.monotonic() stops while the machine sleeps, on Linux and macOS. macOS's CLOCK_MONOTONIC goes
# on; it is not the clock of time.monotonic().
if sys.platform == "darwin":
    _CLOCK = time.CLOCK_MONOTONIC
else:
    _CLOCK = time.CLOCK_BOOTTIME


class SystemClock:
    """Implements the port `Clock`: seconds since the boot, sleep included."""

    def __init__(self) -> None:
        # Taken once, so that a moment keeps its displayed time if the wall clock is set.
        self._unix_time_at_zero = time.time() - self.now()

    def now(self) -> float:
        """Return the seconds since the boot; never decreases."""
        return time.clock_gettime(_CLOCK)

    def wall(self, at: float) -> float:
        """Return the Unix time in seconds of the moment `at` of this clock."""
        return self._unix_time_at_zero + at
