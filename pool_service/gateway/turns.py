"""Turns of models: requests for a model share its hold, and models that do not fit take turns.

The service's queue decides which model is started when. The gateway only lets go in time:
1. A hold is kept while requests use it, and LINGER_S longer; CONTENDED_LINGER_S while another
   model waits.
2. Once another model waits in the queue, the model in use has a turn of TURN_S. Requests that come
   within it are served by the hold, so that two models that are asked for alternately are not
   started anew for each request.
3. After the turn, requests in flight end, and the hold is let go. Requests that have come meanwhile
   wait until the models that waited have left the queue, and go on together by one new hold.
4. They wait for PAUSE_S at most: the models that wait may need memory that this one cannot give, or
   an answer may go on for an hour. Then the model has another turn.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass

from pool_service.gateway.shared_hold import SharedHold
from pool_service_client import AsyncPoolClient

LINGER_S = 2.0
"""How long a hold is kept after its last request, for the next one."""

CONTENDED_LINGER_S = 0.25
"""The same while another model waits: the next request of a conversation comes sooner."""

TURN_S = 10.0
"""How long a model is served while another one waits for its memory."""

PAUSE_S = 10.0
"""How long requests wait at most for the models that waited."""

Key = tuple[str, str]
"""A caller's token, "" without one, and the model's name as asked for."""


@dataclass(slots=True)
class _Served:
    """A hold, and its place among the others.

    Attributes:
        is_ending: whether its turn is over, so that no further request gets the hold.
        turn_began: the loop's time since which it has its turn; None: since it is READY.
        release_timer: lets the hold go when it is due; None: it is used, or not due.
        turn_timer: ends its turn; None: no other model has waited.
    """

    hold: SharedHold
    is_ending: bool = False
    turn_began: float | None = None
    release_timer: asyncio.TimerHandle | None = None
    turn_timer: asyncio.TimerHandle | None = None


class Turns:
    """Hands out shared holds."""

    def __init__(self) -> None:
        self._served: dict[Key, _Served] = {}
        # By the key of a turn that is over: the models in the queue then, which have to leave it
        # before the next one.
        self._queued_before: dict[Key, frozenset[SharedHold]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()

    @asynccontextmanager
    async def hold(
        self, key: Key, pool: Callable[[], AsyncPoolClient]
    ) -> AsyncIterator[SharedHold]:
        """Return a context with the shared hold of a model.

        pool: returns the client of the caller, which retries nothing by itself.
        """
        served = await self._turn_of(key, pool)
        with self._counted_use(key, served) as hold:
            yield hold

    def at_once(self, key: Key) -> AbstractContextManager[SharedHold] | None:
        """Return the context of `hold` if the model can be used now, which ends its pause.

        None: the caller has to await `hold`.
        """
        served = self._served.get(key)
        if served is None or served.hold.is_over or (served.is_ending and self._is_pausing(key)):
            return None
        served.is_ending = False
        return self._counted_use(key, served)

    @contextmanager
    def _counted_use(self, key: Key, served: _Served) -> Iterator[SharedHold]:
        hold = served.hold
        hold.users += 1
        _cancel(served.release_timer)
        try:
            yield hold
        finally:
            hold.users -= 1
            if hold.users == 0:
                self._plan_release(key, served)

    async def close(self) -> None:
        """Let all models go."""
        for key in list(self._served):
            self._let_go(key)
        if self._closing:
            await asyncio.wait(self._closing)

    async def _turn_of(self, key: Key, pool: Callable[[], AsyncPoolClient]) -> _Served:
        while True:
            served = self._served.get(key)
            if served is not None and served.hold.is_over:
                self._let_go(key)
                served = None
            if served is None or served.is_ending:
                if self._is_pausing(key):
                    await self._moved.wait()
                    continue
                served = served or _Served(SharedHold(pool(), key[1], self._note))
                served.is_ending = False
                self._served[key] = served
            return served

    def _is_pausing(self, key: Key) -> bool:
        """Return whether requests for a model have to wait for models that were queued before it.

        Forgets the pause if they have not.
        """
        if any(one.is_queued for one in self._queued_before.get(key, ())):
            return True
        self._queued_before.pop(key, None)
        return False

    def _note(self, _hold: SharedHold) -> None:
        """Look for models whose turn is to end, after a change of any hold."""
        if any(one.hold.is_queued for one in self._served.values()):
            for key, served in list(self._served.items()):
                self._plan_turn(key, served)
        self._move()

    def _plan_turn(self, key: Key, served: _Served) -> None:
        began = self._turn_began(served)
        if began is None or served.turn_timer is not None or served.is_ending:
            return
        loop = asyncio.get_running_loop()
        due = max(loop.time(), began + TURN_S)
        served.turn_timer = loop.call_at(due, self._end_turn, key, served)
        if served.hold.users == 0:
            self._plan_release(key, served)

    def _turn_began(self, served: _Served) -> float | None:
        """Return when the turn of a model began, by whichever name; None: it is not READY."""
        if served.hold.ready_since is None:
            return None
        begins = (one.turn_began or one.hold.ready_since for one in self._of_the_model(served))
        return min(began for began in begins if began is not None)

    def _of_the_model(self, served: _Served) -> list[_Served]:
        """Return all that is served of a hold's model, by whichever name and token."""
        newest = served.hold.newest
        if newest is None:
            return [served]
        others = ((one, one.hold.newest) for one in self._served.values())
        return [one for one, its in others if its is not None and its.model == newest.model]

    def _end_turn(self, key: Key, served: _Served) -> None:
        served.turn_timer = None
        before = self._waiting() - {served.hold}
        if not before or self._served.get(key) is not served:
            return
        served.is_ending = True
        self._queued_before[key] = before
        asyncio.get_running_loop().call_later(PAUSE_S, self._end_pause, key, before)
        if served.hold.users == 0:
            self._let_go(key)

    def _end_pause(self, key: Key, before: frozenset[SharedHold]) -> None:
        if self._queued_before.get(key) is not before:
            return
        del self._queued_before[key]
        served = self._served.get(key)
        if served is not None and served.is_ending:
            served.is_ending = False
            for one in self._of_the_model(served):
                one.turn_began = asyncio.get_running_loop().time()
            if self._waiting():
                self._plan_turn(key, served)
        self._move()

    def _waiting(self) -> frozenset[SharedHold]:
        holds = (served.hold for served in self._served.values())
        return frozenset(hold for hold in holds if hold.is_queued)

    def _plan_release(self, key: Key, served: _Served) -> None:
        if self._served.get(key) is not served:
            return
        if served.is_ending or served.hold.is_over or served.hold.ready_since is None:
            # Nobody waits for the start any more, or others wait for the memory.
            self._let_go(key)
            return
        linger = CONTENDED_LINGER_S if self._waiting() else LINGER_S
        _cancel(served.release_timer)
        loop = asyncio.get_running_loop()
        served.release_timer = loop.call_later(linger, self._release, key, served)

    def _release(self, key: Key, served: _Served) -> None:
        if self._served.get(key) is served and served.hold.users == 0:
            self._let_go(key)

    def _let_go(self, key: Key) -> None:
        served = self._served.pop(key)
        _cancel(served.release_timer)
        _cancel(served.turn_timer)
        task = asyncio.create_task(served.hold.close())
        self._closing.add(task)
        task.add_done_callback(self._closed)
        self._move()

    def _closed(self, task: "asyncio.Task[None]") -> None:
        self._closing.discard(task)
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
