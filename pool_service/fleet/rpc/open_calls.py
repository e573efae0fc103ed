"""The calls of a front that are in progress, which end with a reason when the front does."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from pool_service.core.call_error_texts import front_ended

SHORT_S = 0.1
"""The time within which a call ends by itself that a READY server answers."""


class OpenCalls:
    """Ends calls that wait for members, so that their callers try again at once."""

    def __init__(self) -> None:
        self._tasks = set[asyncio.Task[object]]()
        self._ended = set[asyncio.Task[object]]()
        self._is_ending = False

    @contextmanager
    def open(self) -> Iterator[None]:
        """Raise ShuttingDown in the block if the front ends meanwhile, or already does."""
        if self._is_ending:
            raise front_ended()
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            raise front_ended() from None
        finally:
            self._tasks.discard(task)
            self._ended.discard(task)

    async def end(self) -> None:
        """End all calls in progress but those that are about to be answered anyway."""
        self._is_ending = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SHORT_S)
        for task in self._tasks - self._ended:
            self._ended.add(task)
            task.cancel()
