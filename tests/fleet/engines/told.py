"""What an engine has told, and waiting for it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Generic, NoReturn, TypeVar

import structlog
from structlog.typing import EventDict, WrappedLogger

from pool_service.fleet.engines.etcd.client import EtcdClient
from pool_service.fleet.engines.etcd.endpoints import Access
from pool_service.fleet.engines.etcd.leadership import EtcdLeadership
from pool_service.fleet.ports import Lead, Leadership, Membership

LIMIT_S = 60.0
"""How long anything may take, on a machine that is busy."""

PREFIX = "test/"

T = TypeVar("T")


class Told(Generic[T]):
    """Keeps what it is called with."""

    def __init__(self) -> None:
        self.all: list[T] = []
        self._news = asyncio.Event()

    def __call__(self, value: T) -> None:
        self.all.append(value)
        self._news.set()

    @property
    def last(self) -> T:
        return self.all[-1]

    async def until(self, right: Callable[[T], bool]) -> T:
        """Return the newest value once it is right."""
        async with asyncio.timeout(LIMIT_S):
            while not self.all or not right(self.all[-1]):
                self._news.clear()
                await self._news.wait()
        return self.all[-1]


def leads(lead: Lead) -> bool:
    return lead.leads


def leads_not(lead: Lead) -> bool:
    return not lead.leads


class Front:
    """A front of a test: its Leadership, while it runs, and what that told."""

    def __init__(self, leadership: Leadership) -> None:
        self.told: Told[Lead] = Told()
        self._task = asyncio.create_task(leadership.run(self.told))

    async def end(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


@asynccontextmanager
async def front(
    name: str, *endpoints: str, access: Access | None = None, ttl_s: int = 3
) -> AsyncIterator[Front]:
    """Stand for leader while the block runs."""
    async with EtcdClient(access or Access(endpoints)) as client:
        leadership = EtcdLeadership(
            client, prefix=PREFIX, name=name, address=f"{name}:1", ttl_s=ttl_s
        )
        standing = Front(leadership)
        try:
            yield standing
        finally:
            await standing.end()


@contextmanager
def following(membership: Membership) -> Iterator[Told[Mapping[str, str]]]:
    """Keep the members of each change while the block runs."""
    told: Told[Mapping[str, str]] = Told()

    async def follow() -> None:
        async for members in membership.changes():
            told(members)

    task = asyncio.create_task(follow())
    try:
        yield told
    finally:
        task.cancel()
        if task.done() and not task.cancelled():
            task.result()


@contextmanager
def logged() -> Iterator[Told[EventDict]]:
    """Keep what is logged while the block runs."""
    told: Told[EventDict] = Told()

    def keep(logger: WrappedLogger, method: str, event: EventDict) -> NoReturn:
        told(event)
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]
    before = processors.copy()
    processors[:] = [keep]
    try:
        yield told
    finally:
        processors[:] = before


def events(told: Told[EventDict]) -> list[str]:
    return [entry["event"] for entry in told.all]
