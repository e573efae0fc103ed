"""The macOS variant on any machine, by a kqueue whose descriptor is a pipe's."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import pytest

from pool_service.adapters.exits import KqueueWatch, gone
from pool_service.adapters.identity import identity_of
from pool_service.core.types import Identity


class FakeKqueue:
    def __init__(self, running: set[int]) -> None:
        self.running = running
        self.reader, self.writer = os.pipe()
        self.watched: list[tuple[int, int, int, int]] = []
        self.closed = False

    def fileno(self) -> int:
        return self.reader

    def control(self, changes: Sequence[Any], max_events: int, timeout: float) -> Sequence[Any]:
        assert max_events == 0
        self.watched += changes
        if changes[0][0] not in self.running:
            raise ProcessLookupError
        return []

    def close(self) -> None:
        self.closed = True
        os.close(self.reader)
        os.close(self.writer)


class FakeApi:
    """Its constants are the real ones."""

    KQ_FILTER_PROC = -5
    KQ_NOTE_EXIT = 0x80000000
    KQ_EV_ADD = 0x1
    KQ_EV_ONESHOT = 0x10

    def __init__(self) -> None:
        self.running = {os.getpid()}
        self.queues: list[FakeKqueue] = []

    def kqueue(self) -> FakeKqueue:
        self.queues.append(FakeKqueue(self.running))
        return self.queues[-1]

    def kevent(self, ident: int, *, filter: int, flags: int, fflags: int) -> object:  # noqa: A002
        return ident, filter, flags, fflags


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def this_process() -> Identity:
    identity = identity_of(os.getpid())
    assert identity is not None
    return identity


async def watching(api: FakeApi, identity: Identity) -> "asyncio.Task[None]":
    task = asyncio.create_task(gone(KqueueWatch(api), identity))
    await asyncio.sleep(0)
    return task


async def test_it_asks_for_the_exit_of_the_process_once(
    api: FakeApi, this_process: Identity
) -> None:
    task = await watching(api, this_process)
    assert api.queues[0].watched == [(this_process.pid, -5, 0x11, 0x80000000)]
    assert not task.done()
    os.write(api.queues[0].writer, b"!")
    await task
    assert api.queues[0].closed


async def test_a_process_that_is_gone_is_gone_at_once(api: FakeApi, this_process: Identity) -> None:
    api.running.clear()
    await gone(KqueueWatch(api), this_process)
    assert api.queues[0].closed


async def test_another_process_with_the_pid_is_not_waited_for(
    api: FakeApi, this_process: Identity
) -> None:
    other = Identity(this_process.pid, this_process.start_time - 1, this_process.boot_id)
    await gone(KqueueWatch(api), other)
    assert api.queues[0].closed


async def test_a_wait_that_is_cancelled_closes_its_kqueue(
    api: FakeApi, this_process: Identity
) -> None:
    task = await watching(api, this_process)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert api.queues[0].closed
