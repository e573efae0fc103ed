"""The macOS variant on any machine, by a kqueue whose descriptor is a pipe's."""

import asyncio
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.process.exits import ExitStatus, KqueueWatch, wait_for_exit
from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.process.processes import LocalProcesses
from pool_service.core.types import Diagnosis, Identity

EXIT, EXITSTATUS, DETAIL = 0x80000000, 0x04000000, 0x02000000
MEMORY = 0x00020000


@dataclass
class Event:
    fflags: int
    data: int


class FakeKqueue:
    def __init__(self, api: "FakeApi") -> None:
        self.api = api
        self.reader, self.writer = os.pipe()
        self.watched: list[tuple[int, int, int, int]] = []
        self.closed = False

    def fileno(self) -> int:
        return self.reader

    def control(self, changes: Sequence[Any], max_events: int, timeout: float) -> Sequence[Event]:
        assert timeout == 0
        if not changes:
            return self.api.events[:max_events]
        assert max_events == 0
        (pid, _, _, fflags), *_ = changes
        if pid not in self.api.running:
            raise ProcessLookupError
        if fflags & EXITSTATUS and not self.api.may_signal:
            raise PermissionError(errno.EACCES, "may not be signalled")
        self.watched += changes
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
        self.may_signal = True
        self.events: list[Event] = []
        self.queues: list[FakeKqueue] = []

    def kqueue(self) -> FakeKqueue:
        self.queues.append(FakeKqueue(self))
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


async def watching(api: FakeApi, identity: Identity) -> "asyncio.Task[ExitStatus]":
    task = asyncio.create_task(wait_for_exit(KqueueWatch(api), identity))
    await asyncio.sleep(0)
    return task


async def test_it_asks_for_the_exit_of_the_process_once(
    api: FakeApi, this_process: Identity
) -> None:
    task = await watching(api, this_process)
    assert api.queues[0].watched == [(this_process.pid, -5, 0x11, EXIT | EXITSTATUS | DETAIL)]
    assert not task.done()
    os.write(api.queues[0].writer, b"!")
    await task
    assert api.queues[0].closed


async def test_a_process_that_is_gone_is_gone_at_once(api: FakeApi, this_process: Identity) -> None:
    api.running.clear()
    await wait_for_exit(KqueueWatch(api), this_process)
    assert api.queues[0].closed


async def test_another_process_with_the_pid_is_not_waited_for(
    api: FakeApi, this_process: Identity
) -> None:
    other = Identity(this_process.pid, this_process.start_time - 1, this_process.boot_id)
    await wait_for_exit(KqueueWatch(api), other)
    assert api.queues[0].closed


async def test_a_wait_that_is_cancelled_closes_its_kqueue(
    api: FakeApi, this_process: Identity
) -> None:
    task = await watching(api, this_process)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert api.queues[0].closed


@pytest.mark.parametrize(
    ("event", "end"),
    [
        (Event(EXIT | EXITSTATUS | DETAIL, 3 << 8), ExitStatus(3)),
        (Event(EXIT | EXITSTATUS | DETAIL, 15), ExitStatus(-15)),
        (Event(EXIT | EXITSTATUS | DETAIL, 9 | MEMORY), ExitStatus(-9, was_killed_for_memory=True)),
        (Event(EXIT, 0), ExitStatus(None)),
    ],
)
async def test_how_a_process_ended_is_told_by_the_event(
    api: FakeApi, this_process: Identity, event: Event, end: ExitStatus
) -> None:
    task = await watching(api, this_process)
    api.events = [event]
    os.write(api.queues[0].writer, b"!")
    assert await task == end


async def test_of_a_process_that_may_not_be_signalled_only_the_end_is_told(
    api: FakeApi, this_process: Identity
) -> None:
    api.may_signal = False
    task = await watching(api, this_process)
    assert api.queues[0].watched == [(this_process.pid, -5, 0x11, EXIT)]
    os.write(api.queues[0].writer, b"!")
    assert await task == ExitStatus()


async def test_an_adopted_process_has_the_exit_that_the_system_tells(
    api: FakeApi, this_process: Identity, tmp_path: Path
) -> None:
    processes = LocalProcesses(tmp_path, LogStore(tmp_path), watch=KqueueWatch(api))
    waiting = asyncio.create_task(processes.exited(this_process))
    await asyncio.sleep(0)
    api.events = [Event(EXIT | EXITSTATUS | DETAIL, 9 | MEMORY)]
    os.write(api.queues[0].writer, b"!")
    report = await waiting
    assert (report.signal, report.diagnosis) == (9, Diagnosis.OUT_OF_MEMORY)
