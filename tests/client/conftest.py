import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import islice
from typing import Any, Protocol

import pytest

from pool_service_client import (
    AsyncHold,
    AsyncPoolClient,
    Event,
    Hold,
    Model,
    PoolClient,
    Progress,
    RetryPolicy,
    Server,
)
from tests.client.scripted import Script, running


@pytest.fixture
def service() -> Iterator[Script]:
    yield from running()


class Client(Protocol):
    """What both clients can do, so that one test claims it of both."""

    # Typed when it is used: it stands for methods that have nothing else in common.
    async def call(self, method: str, *args: Any, **options: Any) -> Any: ...  # noqa: ANN401

    async def servers(self) -> list[Server]: ...

    async def events(self, count: int, after: int | None = None) -> list[Event]: ...

    async def models(self) -> list[Model]: ...

    async def pulled(self, model: str, runtime_model: str | None = None) -> list[Progress]: ...

    def hold(self, model: str, **options: Any) -> AbstractAsyncContextManager["Holder"]: ...  # noqa: ANN401

    async def close(self) -> None: ...


class Holder(Protocol):
    """What both kinds of hold can do."""

    async def ready(
        self,
        timeout: float | None = None,  # noqa: ASYNC109
        after: Server | None = None,
    ) -> Server: ...

    async def next(self) -> Server | None:
        """The next state; None at the end."""

    def close(self) -> None: ...


class HoldByThreads:
    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self.close = hold.close

    async def ready(
        self,
        timeout: float | None = None,  # noqa: ASYNC109
        after: Server | None = None,
    ) -> Server:
        return await asyncio.to_thread(self._hold.ready, timeout, after)

    async def next(self) -> Server | None:
        return await asyncio.to_thread(lambda: next(self._hold, None))


class HoldByTasks:
    def __init__(self, hold: AsyncHold) -> None:
        self._hold = hold
        self.close = hold.close

    async def ready(
        self,
        timeout: float | None = None,  # noqa: ASYNC109
        after: Server | None = None,
    ) -> Server:
        return await self._hold.ready(timeout, after)

    async def next(self) -> Server | None:
        return await anext(self._hold, None)


class Threads:
    def __init__(self, client: PoolClient) -> None:
        self._client = client

    async def call(self, method: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        return await asyncio.to_thread(getattr(self._client, method), *args, **options)

    async def servers(self) -> list[Server]:
        return list(await asyncio.to_thread(self._client.list))

    async def events(self, count: int, after: int | None = None) -> list[Event]:
        with self._client.watch(after) as watch:
            return await asyncio.to_thread(lambda: list(islice(watch, count)))

    async def models(self) -> list[Model]:
        return list(await asyncio.to_thread(self._client.models))

    async def pulled(self, model: str, runtime_model: str | None = None) -> list[Progress]:
        pull = self._client.pull(model, runtime_model=runtime_model)
        return await asyncio.to_thread(lambda: list(pull))

    @asynccontextmanager
    async def hold(self, model: str, **options: Any) -> AsyncIterator[Holder]:  # noqa: ANN401
        with self._client.hold(model, **options) as hold:
            yield HoldByThreads(hold)

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)


class Tasks:
    def __init__(self, client: AsyncPoolClient) -> None:
        self._client = client

    async def call(self, method: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        return await getattr(self._client, method)(*args, **options)

    async def servers(self) -> list[Server]:
        return list(await self._client.list())

    async def events(self, count: int, after: int | None = None) -> list[Event]:
        async with self._client.watch(after) as watch:
            return [await anext(watch) for _ in range(count)]

    async def models(self) -> list[Model]:
        return list(await self._client.models())

    async def pulled(self, model: str, runtime_model: str | None = None) -> list[Progress]:
        pull = self._client.pull(model, runtime_model=runtime_model)
        return [progress async for progress in pull]

    @asynccontextmanager
    async def hold(self, model: str, **options: Any) -> AsyncIterator[Holder]:  # noqa: ANN401
        async with self._client.hold(model, **options) as hold:
            yield HoldByTasks(hold)

    async def close(self) -> None:
        await self._client.close()


Connect = Callable[..., Client]
DEFAULT = RetryPolicy()


@pytest.fixture(params=["sync", "asyncio"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Makes a client of an address, and closes it after the test."""
    threads: list[PoolClient] = []
    tasks: list[AsyncPoolClient] = []

    def make(address: str, retry: RetryPolicy = DEFAULT, token: str | None = None) -> Client:
        if request.param == "sync":
            threads.append(PoolClient.connect(address, retry=retry, token=token))
            return Threads(threads[-1])
        tasks.append(AsyncPoolClient.connect(address, retry=retry, token=token))
        return Tasks(tasks[-1])

    yield make
    for client in threads:
        client.close()
    for each in tasks:
        await each.close()


@pytest.fixture
def client(connect: Connect, service: Script) -> Client:
    return connect(service.address)
