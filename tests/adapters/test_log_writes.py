"""Waiting for writes, by what each system tells of them."""

import os
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pool_service.adapters.logs import log_writes
from pool_service.adapters.logs.log_writes import Growth, KqueueNotifications, Writes, size_of

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


def append(path: Path) -> None:
    with path.open("ab") as log:
        log.write(b"line")


def test_a_wait_ends_with_the_write_and_not_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writes, "MAX_WAIT_S", 0.0)

    with Writes() as writes:
        timer = threading.Timer(0.05, append, [path])
        timer.start()
        began = time.monotonic()
        writes.wait([path], LONG)
        assert path.read_bytes() == b"line"
        assert time.monotonic() - began < LONG / 2
        timer.join()


def test_a_wait_ends_when_it_is_woken_and_one_that_begins_later_too(path: Path) -> None:
    with Writes() as writes:
        writes.wake()
        began = time.monotonic()
        writes.wait([path], LONG)
        assert time.monotonic() - began < LONG / 2
    writes.wake()  # closed: nobody waits


def test_files_that_nobody_writes_to_are_watched_on_without_asking_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[set[Path]]()
    other = path.with_name("other")
    other.touch()
    with Writes() as writes:
        notifications = writes._notifications
        assert notifications is not None
        watch = notifications.watch

        def noted(paths: Collection[Path]) -> bool:
            asked.append(set(paths))
            return watch(paths)

        monkeypatch.setattr(notifications, "watch", noted)
        for paths in ([path], [path], [path, other], [other, path]):
            writes.wait(paths, 0)
        assert asked == [{path}, {path, other}]
        append(path)
        assert writes.wait([path, other], LONG)
        writes.wait([path, other], 0)
        append(other)
        assert writes.wait([path, other], LONG)
        assert asked[2:] == [{path, other}]


def test_a_write_before_the_files_were_watched_is_not_missed(path: Path) -> None:
    with Writes() as writes:
        append(path)
        assert writes.wait([path], 0)
        assert not writes.wait([path], 0)
        append(path)
        assert writes.wait([path], LONG)
        append(path)
        assert writes.wait([path], 0)
        assert not writes.wait([path], 0)


def test_a_wake_has_a_file_watched_that_was_not_there(path: Path) -> None:
    path.unlink()
    with Writes() as writes:
        assert writes.wait([path], 0)
        assert not writes.wait([path], 0)
        path.touch()
        writes.wake()
        assert writes.wait([path], LONG)
        assert writes.wait([path], 0)
        append(path)
        assert writes.wait([path], LONG)


def test_where_nothing_is_told_a_file_may_have_been_written_to(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writes, "_notifications", lambda: None)
    with Writes() as writes:
        assert writes.wait([path], 0)


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


def test_a_kqueue_is_asked_about_the_file_that_is_there_now(
    api: FakeApi, notes: KqueueNotifications, path: Path
) -> None:
    assert notes.watch([path])
    other = path.with_name("other")
    other.touch()
    other.replace(path)
    assert notes.watch([path])
    descriptor = api.queue.watched[-1][0]
    assert os.path.samestat(os.fstat(descriptor), path.stat())
    path.unlink()
    assert notes.watch([path])
    assert len(api.queue.watched) == 2


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


class Grown:
    """Files that grow between checks, by a clock of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *paths: Path, most: int = 1000) -> None:
        self.now = 100.0
        self.paths = paths
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        self.growth = Growth(most)

    def pause(self, passed: float, *written: int) -> float:
        """Let time pass while so many bytes are written to each file."""
        self.now += passed
        for path, more in zip(self.paths, written, strict=False):
            os.truncate(path, path.stat().st_size + more)
        return self.growth.measure(self.paths)


def test_files_are_checked_less_often_the_longer_they_are_written_to(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown = Grown(monkeypatch, path)
    pauses = [grown.pause(passed) for passed in (0.5, 1.0, 0.5, 0.5, 1.25, 0.5)]
    assert pauses == pytest.approx([0.0045, 0.00675, 0.01, 0.01, 0.003, 0.0045])


def test_many_files_are_checked_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / str(number) for number in range(40)]
    for each in paths:
        each.touch()
    assert Grown(monkeypatch, *paths).pause(0.5) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("written", "pause", "is_fast"),
    [
        (0, 0.0045, False),
        # A quarter of the most would be there after a quarter of a second.
        (500, 0.0045, False),
        (501, 0.0045, True),
        (31_250, 0.004, True),
        (1_000_000, 0.002, True),
    ],
)
def test_the_faster_a_file_grows_the_sooner_it_is_checked(
    path: Path, written: int, pause: float, is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = path.with_name("other")
    other.touch()
    grown = Grown(monkeypatch, path, other)
    grown.pause(0.5, 0, 0)
    grown.growth._pause = 0.003
    assert grown.pause(0.5, written, 0) == pytest.approx(pause)
    assert grown.growth.is_fast is is_fast


def test_the_speed_of_a_flood_is_forgotten_by_halves(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown = Grown(monkeypatch, path)
    grown.pause(0.5)
    grown.pause(0.5, 2000)
    assert grown.growth._rate == 4000
    for rate in (2000, 1000, 500):
        grown.pause(0.5)
        assert grown.growth._rate == rate
    grown.pause(0.5, 1000)
    assert grown.growth._rate == 2000


def test_a_file_that_is_gone_has_no_size(tmp_path: Path) -> None:
    assert size_of(tmp_path / "gone") == 0


def test_a_wake_up_ends_one_wait_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writes, "MAX_WAIT_S", 0.05)
    monkeypatch.setattr(log_writes, "_notifications", lambda: None)
    with Writes() as writes:
        for _ in range(100_000):
            writes.wake()  # however often: it does not block
        writes.wait([path], LONG)
        began = time.monotonic()
        writes.wait([path], LONG)
        assert time.monotonic() - began >= 0.04


def test_all_is_closed_at_the_end(path: Path) -> None:
    before = os.dup(0)
    os.close(before)
    with Writes() as writes:
        writes.wait([path], 0)
    after = os.dup(0)
    os.close(after)
    assert after == before


def test_a_write_of_long_ago_does_not_end_the_next_wait(path: Path) -> None:
    with Writes() as writes:
        writes.wait([path], 0)
        path.write_bytes(b"line")
        writes.wait([path], LONG)
        began = time.monotonic()
        writes.wait([path], 0.1)
        assert time.monotonic() - began >= 0.09
