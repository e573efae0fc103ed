"""Waiting for writes, by what each system tells of them."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pool_service.adapters.logs import log_writes
from pool_service.adapters.logs.log_writes import Growth, KqueueNotifications, Writes

ADD_ONCE, WRITE, EXTEND, VNODE = 0x11, 0x2, 0x4, -4
LONG = 60.0


class FakeKqueue:
    """Readable when a test says so."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.watched: list[tuple[int, int, int, int]] = []
        self.error: OSError | None = None

    def fileno(self) -> int:
        return self.reader

    def control(self, changes: Sequence[Any], max_events: int, timeout: float) -> Sequence[Any]:
        if self.error:
            raise self.error
        self.watched += changes
        if max_events:
            os.read(self.reader, 1)
        return []

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


class FakeApi:
    """Its constants are the real ones."""

    KQ_FILTER_VNODE, KQ_NOTE_WRITE, KQ_NOTE_EXTEND = VNODE, WRITE, EXTEND
    KQ_EV_ADD, KQ_EV_ONESHOT = 0x1, 0x10

    def __init__(self) -> None:
        self.queue = FakeKqueue()

    def kqueue(self) -> FakeKqueue:
        return self.queue

    def kevent(self, ident: int, *, filter: int, flags: int, fflags: int) -> object:  # noqa: A002
        return ident, filter, flags, fflags


@pytest.fixture
def path(tmp_path: Path) -> Path:
    one = tmp_path / "log"
    one.touch()
    return one


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def notes(api: FakeApi) -> Iterator[KqueueNotifications]:
    one = KqueueNotifications(api)
    yield one
    one.close()


def test_a_wait_ends_with_the_write(path: Path) -> None:
    with Writes() as writes:
        timer = threading.Timer(0.05, path.write_bytes, [b"line"])
        timer.start()
        began = time.monotonic()
        writes.wait([path], LONG)
        assert time.monotonic() - began < LONG / 2
        timer.join()


def test_a_wait_ends_when_it_is_woken_and_one_that_begins_later_too(path: Path) -> None:
    with Writes() as writes:
        writes.wake()
        began = time.monotonic()
        writes.wait([path], LONG)
        assert time.monotonic() - began < LONG / 2
    writes.wake()  # closed: nobody waits


def test_where_nothing_is_told_a_wait_is_short(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writes, "_notifications", lambda: None)
    with Writes() as writes:
        began = time.monotonic()
        writes.wait([path], LONG)
        assert time.monotonic() - began < LONG / 2


def test_a_log_that_is_gone_is_waited_for_as_one_that_nobody_writes_to(tmp_path: Path) -> None:
    with Writes() as writes:
        assert writes._notifications is not None
        assert writes._notifications.watch([tmp_path / "gone"])


def test_a_kqueue_tells_once_of_each_file_and_keeps_it_open_while_it_is_watched(
    api: FakeApi, notes: KqueueNotifications, path: Path
) -> None:
    assert notes.watch([path])
    ((descriptor, *rest),) = api.queue.watched
    assert rest == [VNODE, ADD_ONCE, WRITE | EXTEND]
    assert os.path.samestat(os.fstat(descriptor), path.stat())
    assert notes.watch([path])
    assert [event[0] for event in api.queue.watched] == [descriptor, descriptor]
    assert notes.watch([])
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)


def test_a_kqueue_that_refuses_is_told(
    api: FakeApi, notes: KqueueNotifications, path: Path
) -> None:
    api.queue.error = OSError(12, "no memory")
    assert not notes.watch([path])
    assert notes.watch([path.with_name("gone")])


def test_a_wait_ends_with_what_a_kqueue_tells(
    api: FakeApi, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writes, "_notifications", lambda: KqueueNotifications(api))
    with Writes() as writes:
        os.write(api.queue.writer, b"!")
        began = time.monotonic()
        writes.wait([path], LONG)
        assert time.monotonic() - began < LONG / 2


def test_what_floods_is_not_waited_for_until_it_ends(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    growth, size, hurried = Growth(max_bytes=1000), 0, []
    for written in (0, 5000, 5000, 0, 0, 0, 0, 0, 0):
        now, size = now + 0.1, size + written
        os.truncate(path, size)
        growth.measure([path])
        hurried.append(growth.is_fast)
    assert hurried[:3] == [False, True, True]
    assert not hurried[-1]
