"""The lag of the event loop: by how much a timer is late, measured once a second."""

import asyncio

from pool_service.metrics.values import Histogram

INTERVAL_S = 1.0
LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class LoopLag:
    """Measures the lag of the running event loop from `start` until `stop`."""

    def __init__(self) -> None:
        self.seconds = Histogram(LAG_BOUNDS_S)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure."""
        loop = asyncio.get_running_loop()
        due = loop.time() + INTERVAL_S
        self._timer = loop.call_at(due, self._measure, loop, due)

    def stop(self) -> None:
        """Stop measuring."""
        if self._timer is not None:
            self._timer.cancel()

    def _measure(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.seconds.observe(max(loop.time() - due, 0.0))
        self.start()
