import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import Any, Protocol

import pytest

from pool_service_client import AsyncPoolClient, Event, PoolClient, RetryPolicy, Server
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


class Threads:
    def __init__(self, client: PoolClient) -> None:
        self._client = client

    async def call(self, method: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        return await asyncio.to_thread(getattr(self._client, method), *args, **options)

    async def servers(self) -> list[Server]:
        return await asyncio.to_thread(lambda: list(self._client.list()))

    async def events(self, count: int, after: int | None = None) -> list[Event]:
        with self._client.watch(after) as watch:
            return await asyncio.to_thread(lambda: list(islice(watch, count)))


class Tasks:
    def __init__(self, client: AsyncPoolClient) -> None:
        self._client = client

    async def call(self, method: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        return await getattr(self._client, method)(*args, **options)

    async def servers(self) -> list[Server]:
        return [server async for server in self._client.list()]

    async def events(self, count: int, after: int | None = None) -> list[Event]:
        async with self._client.watch(after) as watch:
            return [await anext(watch) for _ in range(count)]


Connect = Callable[..., Client]
DEFAULT = RetryPolicy()


@pytest.fixture(params=["sync", "asyncio"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Makes a client of an address, and closes it after the test."""
    threads: list[PoolClient] = []
    tasks: list[AsyncPoolClient] = []

    def make(address: str, retry: RetryPolicy = DEFAULT) -> Client:
        if request.param == "sync":
            threads.append(PoolClient.connect(address, retry=retry))
            return Threads(threads[-1])
        tasks.append(AsyncPoolClient.connect(address, retry=retry))
        return Tasks(tasks[-1])

    yield make
    for client in threads:
        client.close()
    for each in tasks:
        await each.close()


@pytest.fixture
def client(connect: Connect, service: Script) -> Client:
    return connect(service.address)
