"""Both clients of the package behind one face, so that one runner speaks for either."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol, TypeVar, cast

import grpc
import grpc.aio

from conformance.counting import CountingChannel
from pool_service_client import (
    AsyncHold,
    AsyncPoolClient,
    Hold,
    PoolClient,
    RetryPolicy,
    Server,
    bearer,
    connect,
)
from pool_service_client.tls import TlsOptions, tls_for

T_co = TypeVar("T_co", covariant=True)


class Where:
    """Hold the arguments of a client's own `connect`: the address, and the token to show."""

    def __init__(
        self,
        address: str | None,
        token: str | None,
        token_file: str | None,
        tls: TlsOptions,
    ) -> None:
        """Raises ValueError, as they do."""
        self.target = connect.target(address)
        self.header = bearer.header(token, token_file)
        self.tls = tls_for(self.target, tls)

    def policy(self, retry: RetryPolicy) -> RetryPolicy:
        return connect.retry_over(self.target, retry)


class Stream(Protocol[T_co]):
    """Values one after the other, which can be given up."""

    def __aiter__(self) -> AsyncIterator[T_co]: ...

    def give_up(self) -> None:
        """End it, from outside of the iteration."""


class Holder(Stream[Server], Protocol):
    """A hold; giving it up is to release it."""

    async def ready(self, limit: float | None, after: Server | None) -> Server: ...


class Client(Protocol):
    """What the runner needs of a client. CAN_BE_CANCELLED: any wait can be given up at once."""

    CAN_BE_CANCELLED: ClassVar[bool]

    def __init__(self, where: Where, retry: RetryPolicy) -> None: ...

    @property
    def calls(self) -> Mapping[str, int]:
        """Begun so far, by the RPC's name."""

    # Their results are whatever the method of the client gives.
    async def call(self, method: str, *args: Any, **options: Any) -> Any: ...

    async def all_of(self, method: str, **options: Any) -> list[Any]: ...

    def stream(self, method: str, *args: Any, **options: Any) -> Stream[Any]: ...

    def hold(self, model: str, **options: Any) -> Holder: ...

    async def close(self) -> None: ...


class Tasks:
    """AsyncPoolClient."""

    CAN_BE_CANCELLED: ClassVar[bool] = True

    def __init__(self, where: Where, retry: RetryPolicy) -> None:
        made = connect.open_channel(grpc.aio, where.target, where.tls)
        self._channel = CountingChannel(made)
        channel = cast("grpc.aio.Channel", bearer.showing(self._channel, where.header))
        self._client = AsyncPoolClient(channel, address=where.target, retry=where.policy(retry))

    @property
    def calls(self) -> Mapping[str, int]:
        return self._channel.calls

    async def call(self, method: str, *args: Any, **options: Any) -> Any:
        return await getattr(self._client, method)(*args, **options)

    async def all_of(self, method: str, **options: Any) -> list[Any]:
        return [one async for one in getattr(self._client, method)(**options)]

    def stream(self, method: str, *args: Any, **options: Any) -> Stream[Any]:
        return TaskStream(getattr(self._client, method)(*args, **options))

    def hold(self, model: str, **options: Any) -> Holder:
        return TaskHold(self._client.hold(model, **options))

    async def close(self) -> None:
        await self._client.close()


class TaskStream:
    """Given up by cancelling the task that reads it."""

    def __init__(self, values: AsyncIterator[Any]) -> None:
        self._values = values
        self._reader = asyncio.current_task()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._values

    def give_up(self) -> None:
        if self._reader is not None:
            self._reader.cancel()


class TaskHold:
    def __init__(self, hold: AsyncHold) -> None:
        self._hold = hold
        self.give_up = hold.close

    def __aiter__(self) -> AsyncIterator[Server]:
        return self._hold

    async def ready(self, limit: float | None, after: Server | None) -> Server:
        return await self._hold.ready(limit, after)


class Threads:
    """PoolClient, each call in a thread of its own; only what is iterated can be closed."""

    CAN_BE_CANCELLED: ClassVar[bool] = False

    def __init__(self, where: Where, retry: RetryPolicy) -> None:
        made = connect.open_channel(grpc, where.target, where.tls)
        self._channel = CountingChannel(made)
        channel = cast("grpc.Channel", bearer.showing(self._channel, where.header))
        self._client = PoolClient(channel, address=where.target, retry=where.policy(retry))

    @property
    def calls(self) -> Mapping[str, int]:
        return self._channel.calls

    async def call(self, method: str, *args: Any, **options: Any) -> Any:
        return await asyncio.to_thread(getattr(self._client, method), *args, **options)

    async def all_of(self, method: str, **options: Any) -> list[Any]:
        return await asyncio.to_thread(lambda: list(getattr(self._client, method)(**options)))

    def stream(self, method: str, *args: Any, **options: Any) -> Stream[Any]:
        values = getattr(self._client, method)(*args, **options)
        return ThreadStream(values, values.close)

    def hold(self, model: str, **options: Any) -> Holder:
        return ThreadHold(self._client.hold(model, **options))

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)


class ThreadStream:
    """Given up by closing it."""

    def __init__(self, values: Iterator[Any], close: Callable[[], None]) -> None:
        self._values = values
        self._end = object()
        self.give_up = close

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        one = await asyncio.to_thread(next, self._values, self._end)
        if one is self._end:
            raise StopAsyncIteration
        return one


class ThreadHold(ThreadStream):
    def __init__(self, hold: Hold) -> None:
        super().__init__(hold, hold.close)
        self._hold = hold

    async def ready(self, limit: float | None, after: Server | None) -> Server:
        return await asyncio.to_thread(self._hold.ready, limit, after)
