"""The answers that requests of callers wait for, by request id."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any, Generic, TypeVar

from pool_service.core.errors import PoolError

Event = TypeVar("Event")


class Answers(Generic[Event]):
    """Feed requests to the machine, and hand out its answers."""

    def __init__(self, feed: Callable[[Event], None]) -> None:
        self.feed = feed
        self._ids = count(1)
        self._futures: dict[int, asyncio.Future[Any]] = {}

    def new_id(self) -> int:
        """Return the id of a further request."""
        return next(self._ids)

    def expect(self, request_id: int) -> asyncio.Future[Any]:
        """Return a future for the answer to a request; `release` is to be called after it."""
        future = self._futures[request_id] = asyncio.get_running_loop().create_future()
        return future

    def release(self, request_id: int) -> None:
        """Expect the answer to a request no longer."""
        del self._futures[request_id]

    def give(self, request_id: int, result: object) -> None:
        """Give a request its answer; one that no longer waits gets none."""
        future = self._futures.get(request_id)
        if future is not None and not future.done():
            future.set_result(result)

    async def ask(self, request_id: int, event: Event) -> Any:  # noqa: ANN401  # by the event
        """Feed the event; return the answer to its request id, or raise it if it is an error."""
        answer = self.expect(request_id)
        try:
            self.feed(event)
            result = await answer
        finally:
            self.release(request_id)
        if isinstance(result, PoolError):
            # A copy: many callers may get the same error, and each raise extends its traceback.
            raise replace(result)
        return result
