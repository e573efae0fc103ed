"""Long calls of the page: accepted after a moment, and their ends told when the page asks.

A browser has six connections to share among all its windows, and a start takes minutes. Who has
asked for one may also close the window: the call goes on.
"""

import asyncio
import json
import secrets
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from pool_service.http.exchange import Handler, Request, Response
from pool_service.rpc.json_calls import CallFailed

ANSWER_WITHIN_S = 2.0
"""The time in which the end of a call is its answer."""

MAX_UNDER_WAY = 64
"""Calls of one method at a time, those that are not accepted yet among them.

A limit for each, as starts may wait for the room that evictions make.
"""

KEPT = 256
"""Ends of accepted calls that are kept, the last ones: a page asks each second while it is seen."""

_UNKNOWN = CallFailed(
    "NOT_FOUND",
    "",
    "it is not known how this call ended: the service was started again, or many calls have ended "
    "since. The model's state is what counts.",
)


class AcceptedCalls:
    """Let calls go on after their answer, and keep how they ended."""

    def __init__(
        self, accepted: Callable[[str], Response], refused: Callable[[CallFailed], Response]
    ) -> None:
        """accepted: the answer to a call that goes on under a number; refused: to a failed one."""
        self._accepted = accepted
        self._refused = refused
        self._waited_for: set[str] = set()
        self._ends: dict[str, str] = {}

    def handler(self, slow: Handler) -> Handler:
        """Return a handler that answers as `slow` does, or with a number if that takes long.

        slow: handles the calls of one method.
        """
        under_way: set[asyncio.Task[Response]] = set()

        async def answer(request: Request) -> Response:
            if len(under_way) >= MAX_UNDER_WAY:
                return self._refused(_too_many())
            task = asyncio.get_running_loop().create_task(_result(slow, request))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            await asyncio.wait((task,), timeout=ANSWER_WITHIN_S)
            return task.result() if task.done() else self._accepted(self._number(task))

        return answer

    def _number(self, task: "asyncio.Task[Response]") -> str:
        """Return the number under which the end of a call is told."""
        # Nobody can guess it, and learn how another caller's call has ended.
        number = secrets.token_hex(16)
        self._waited_for.add(number)
        task.add_done_callback(partial(self._end, number))
        return number

    def _end(self, number: str, task: "asyncio.Task[Response]") -> None:
        self._waited_for.discard(number)
        if task.cancelled():
            return
        response = task.result()
        assert isinstance(response.body, bytes)
        is_good = response.status is HTTPStatus.OK
        self._ends[number] = "null" if is_good else response.body.decode()
        if len(self._ends) > KEPT:
            del self._ends[next(iter(self._ends))]

    def ends(self, numbers: str) -> str:
        """Return how calls ended as a JSON object: by number null, or the error of a failed one.

        numbers: of accepted calls, with spaces between them. Those under way are left out.
        """
        asked = dict.fromkeys(numbers.split()[:KEPT])
        ended = [number for number in asked if number not in self._waited_for]
        texts = (
            f"{json.dumps(number)}: {self._ends.get(number) or _UNKNOWN.as_json()}"
            for number in ended
        )
        return f'{{"ended": {{{", ".join(texts)}}}}}'


async def _result(handler: Handler, request: Request) -> Response:
    return await handler(request)


def _too_many() -> CallFailed:
    return CallFailed(
        "UNAVAILABLE",
        "",
        f"{MAX_UNDER_WAY} calls like this one, which pages have made, are under way, and no more "
        "are accepted. Wait until one of them has ended, or use pool-service.",
    )
