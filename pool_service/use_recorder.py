"""Recording of uses: writes the times at which servers were last used, a few seconds later."""

import asyncio

from pool_service.announcer import Announcer
from pool_service.core.machine import Machine

USE_RECORD_INTERVAL_S = 5.0
"""The time between two writes of when servers were last used; a crash loses the uses since then."""


class UseRecorder:
    """Collects the models that were used, and records their servers together.

    A write for each Ensure would be too much. Runs on the event loop only.
    """

    def __init__(self, machine: Machine, announcer: Announcer) -> None:
        self._machine = machine
        self._announcer = announcer
        self._loop = asyncio.get_running_loop()
        self._used: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    def note(self, model: str) -> None:
        """Have the use of a model recorded within USE_RECORD_INTERVAL_S."""
        if not self._used:
            self._timer = self._loop.call_later(USE_RECORD_INTERVAL_S, self.record)
        self._used.add(model)

    def record(self) -> None:
        """Record the uses that were noted since the last time."""
        used, self._used = self._used, set()
        for model in used:
            server = self._machine.get(model)
            if server is not None:
                self._announcer.record(server)

    def cancel(self) -> None:
        """Record no more uses by the timer."""
        if self._timer is not None:
            self._timer.cancel()
