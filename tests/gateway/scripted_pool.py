"""A pool with memory for some models, in virtual time, behind the calls that the gateway makes."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from pool_service_client import PoolError, Server, ServerState, convert
from pool_service_client.v1 import pool_service_pb2 as pb

LOAD_S = 5.0


class ScriptedPool:
    """Starts models in the order in which they are asked for, each in LOAD_S.

    A model that nobody holds is stopped for the next one. starts: the models in that order.
    """

    def __init__(
        self, room: int = 1, load_s: float = LOAD_S, endpoint: str = "http://127.0.0.1:1"
    ) -> None:
        self.room = room
        self.load_s = load_s
        self.endpoint = endpoint
        self.api_key = ""
        self.starts: list[str] = []
        self.failures: dict[str, PoolError] = {}
        self.breaks: dict[str, list[PoolError]] = {}
        self._holds: dict[str, list[ScriptedHold]] = {}
        self._loaded: dict[str, float] = {}
        self._queue: deque[str] = deque()

    def hold(self, model: str, *, holder: str) -> "ScriptedHold":
        assert holder == "gateway"
        return ScriptedHold(self, model)

    def holds(self, model: str) -> int:
        return len(self._holds.get(model, []))

    async def close(self) -> None:
        """Do nothing: there is no connection."""

    def begin(self, hold: "ScriptedHold") -> None:
        self._holds.setdefault(hold.model, []).append(hold)
        if hold.model not in self._loaded and hold.model not in self._queue:
            self._queue.append(hold.model)
        self._move()

    def end(self, hold: "ScriptedHold") -> None:
        self._holds[hold.model].remove(hold)
        if not self._holds[hold.model] and hold.model in self._queue:
            self._queue.remove(hold.model)
        self._move()

    def state(self, model: str) -> ServerState:
        if model in self._queue:
            return ServerState.QUEUED
        loop = asyncio.get_running_loop()
        return ServerState.READY if loop.time() >= self._loaded[model] else ServerState.STARTING

    def _move(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            if len(self._loaded) >= self.room:
                unused = [model for model in self._loaded if not self._holds.get(model)]
                if not unused:
                    break
                del self._loaded[unused[0]]
            model = self._queue.popleft()
            self.starts.append(model)
            self._loaded[model] = loop.time() + self.load_s
            loop.call_at(self._loaded[model], self._tell)
        self._tell()

    def _tell(self) -> None:
        for model, holds in self._holds.items():
            failure = self.failures.get(model)
            for hold in list(holds):
                if failure is not None and self.state(model) is ServerState.READY:
                    hold.news.put_nowait(failure)
                else:
                    hold.news.put_nowait(self.state(model))
            has_failed = failure is not None and bool(holds) and model in self._loaded
            if has_failed and self.state(model) is ServerState.READY:
                del self._loaded[model]


class ScriptedHold:
    """One hold, as AsyncHold is used."""

    def __init__(self, pool: ScriptedPool, model: str) -> None:
        self.model = model
        self.news: asyncio.Queue[ServerState | PoolError] = asyncio.Queue()
        self._pool = pool

    async def __aenter__(self) -> Self:
        breaks = self._pool.breaks.get(self.model)
        if breaks:
            self.news.put_nowait(breaks.pop(0))
        self._pool.begin(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.end(self)

    def __aiter__(self) -> AsyncIterator[Server]:
        return self

    async def __anext__(self) -> Server:
        news = await self.news.get()
        if isinstance(news, PoolError):
            raise news
        is_ready = news is ServerState.READY
        return convert.server(
            pb.Server(
                model=self.model,
                state=pb.ServerState.ValueType(news),
                generation=1,
                pid=1 if is_ready else 0,
                endpoint=self._pool.endpoint if is_ready else "",
                served_model_name=self.model if is_ready else "",
            ),
            self._pool.api_key,
        )
