"""Waiting for more of logs, with one look at all of them at a time.

A log that nothing is written to costs nothing more, however many follow it: it is read only after
its file has changed, and its file is looked at once for all.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from pool_service.core.server_logs import LogState
from pool_service.ports import Logs
from pool_service.subscribers import Subscriber

POLL_S = 0.25
"""Between two looks at the logs that are followed."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What a follower has read of a log.

    state: the file's, when it was read. is_over: returns whether the log's process has ended since.
    """

    model: str
    generation: int
    state: LogState | None
    is_over: Callable[[], bool]


class LogWatch:
    """Wakes subscribers whose logs have changed, or whose processes have ended."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._waiting: dict[Subscriber, Known | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, subscriber: Subscriber, known: Known | None) -> None:
        """Wait until a subscriber is woken; known: None: there is no log to look at."""
        self._waiting[subscriber] = known
        if known is not None:
            self._look_soon()
        try:
            await subscriber.woken()
        finally:
            del self._waiting[subscriber]

    def wake_all(self) -> None:
        """Wake all that wait."""
        for subscriber in self._waiting:
            subscriber.wake()

    def _look_soon(self) -> None:
        """Look at the logs after POLL_S, unless that is to come anyway."""
        if self._timer is None and self._looking is None:
            self._timer = asyncio.get_running_loop().call_later(POLL_S, self._begin_look)

    def _begin_look(self) -> None:
        self._timer = None
        # Without a log to look at, nothing comes again until somebody waits for one.
        if any(self._waiting.values()):
            loop = asyncio.get_running_loop()
            self._looking = loop.create_task(self._look(), name="look at logs")
            self._looking.add_done_callback(self._go_on)

    def _go_on(self, _look: "asyncio.Task[None]") -> None:
        self._looking = None
        self._look_soon()

    async def _look(self) -> None:
        """Look once at all logs; wake those that wait for what has changed."""
        waiting = {each: known for each, known in self._waiting.items() if known is not None}
        logs = list({(known.model, known.generation) for known in waiting.values()})
        states = dict(zip(logs, await self._logs.states(logs), strict=True))
        for subscriber, known in waiting.items():
            is_changed = states[known.model, known.generation] != known.state
            if self._waiting.get(subscriber) is known and (is_changed or known.is_over()):
                subscriber.wake()
