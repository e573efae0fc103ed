"""The event log on full, slow and foreign files: what is lost is counted, and nothing else."""

import os
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.event_log.event_file import NEWER, OLDER, EventFile, GivenUpError
from pool_service.adapters.event_log.event_reader import read_events
from pool_service.adapters.event_log.event_writer import EventWriter
from tests.adapters.event_logs import (
    PATIENCE_S,
    events_of,
    following,
    numbers,
    told,
    write,
    write_on,
)


class Disk:
    """A disk that, while it is full, takes twenty bytes of a text and then no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        self.refused = threading.Semaphore(0)
        self._took_some = False
        self._write = os.write
        monkeypatch.setattr("pool_service.adapters.event_log.event_file.os.write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        if not self.is_full:
            return self._write(descriptor, data)
        self._took_some = not self._took_some
        if self._took_some:
            return self._write(descriptor, data[:20])
        self.refused.release()
        raise OSError(28, "No space left on device")


def test_events_that_a_full_disk_refused_are_counted_and_leave_no_part_of_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1)
    disk = Disk(monkeypatch)
    with capture_logs() as logged, EventWriter(tmp_path) as writer:
        disk.is_full = True
        for n in (2, 3):
            writer.write({"kind": "test", "n": n})
            assert disk.refused.acquire(timeout=PATIENCE_S)
        # The thread counts the loss of an event before it takes the next one.
        disk.is_full = False
        writer.write({"kind": "test", "n": 4})
    events = events_of(tmp_path)
    assert [event.get("n", event.get("lines")) for event in events] == [1, 2, 4]
    assert events[1]["kind"] == "lost"
    assert [line["event"] for line in logged] == ["events cannot be written", "events were lost"]


def test_the_number_of_lost_events_is_logged_when_the_disk_is_full_until_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    with capture_logs() as logged, EventWriter(tmp_path) as writer:
        disk.is_full = True
        for n in (1, 2):
            writer.write({"kind": "test", "n": n})
            assert disk.refused.acquire(timeout=PATIENCE_S)
    (line,) = (line for line in logged if line["event"] == "events were lost")
    assert line["lines"] == 2
    assert events_of(tmp_path) == []


def test_the_number_of_lost_events_is_written_at_the_end_if_the_disk_has_space_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    with EventWriter(tmp_path) as writer:
        disk.is_full = True
        writer.write({"kind": "test", "n": 1})
        assert disk.refused.acquire(timeout=PATIENCE_S)
        disk.is_full = False
    assert told(tmp_path) == [("lost", 1)]


class BriefDisk:
    """A disk that takes `bytes_left` and is full then, until it has space again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bytes_left: int) -> None:
        self.bytes_left = bytes_left
        self._write = os.write
        monkeypatch.setattr("pool_service.adapters.event_log.event_file.os.write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        if not self.bytes_left:
            raise OSError(28, "No space left on device")
        written = self._write(descriptor, data[: self.bytes_left])
        self.bytes_left -= written
        return written


def test_lines_that_were_written_before_the_disk_was_full_stay_and_no_part_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 0)
    length = (tmp_path / NEWER).stat().st_size
    disk = BriefDisk(monkeypatch, bytes_left=length + length // 2)
    file = EventFile(tmp_path)
    lines = [(tmp_path / NEWER).read_bytes().replace(b'"n": 0', b'"n": %d' % n) for n in (1, 2, 3)]
    assert file.append(lines) == 1
    with pytest.raises(OSError, match="No space"):
        file.append(lines[1:])
    disk.bytes_left = 10**6
    assert file.append(lines[2:]) == 1
    file.close()
    assert numbers(tmp_path) == [0, 1, 3]


def test_lines_that_are_on_disk_are_not_lost_if_the_part_after_them_cannot_be_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 0)
    line = (tmp_path / NEWER).read_bytes()
    lines = [line.replace(b'"n": 0', b'"n": %d' % n) for n in (1, 2)]
    disk = BriefDisk(monkeypatch, bytes_left=len(line) + 30)

    def fail(_descriptor: int, _length: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pool_service.adapters.event_log.event_file.os.ftruncate", fail)
    file = EventFile(tmp_path)
    assert file.append(lines) == 1
    disk.bytes_left = 10**6
    assert file.append(lines[1:]) == 1
    file.close()
    assert numbers(tmp_path) == [0, 1, 2]


def test_a_follower_loses_and_doubles_nothing_when_the_disk_gets_full_in_the_middle_of_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 0)
    line = (tmp_path / NEWER).read_bytes()
    disk = BriefDisk(monkeypatch, bytes_left=10**6)
    found: list[int] = []

    def look() -> None:
        """Read what is there, between the write and the cut as well."""
        for event in events:
            if event is None:
                return
            found.append(event["n"])

    cut = os.ftruncate

    def look_and_cut(descriptor: int, length: int) -> None:
        look()
        cut(descriptor, length)

    monkeypatch.setattr("pool_service.adapters.event_log.event_file.os.ftruncate", look_and_cut)
    monkeypatch.setattr("pool_service.adapters.event_log.event_reader.time.sleep", lambda _: None)
    file = EventFile(tmp_path)
    with closing(read_events(tmp_path, follow=True)) as events:
        look()
        disk.bytes_left = len(line) + 30
        assert file.append([line.replace(b'"n": 0', b'"n": %d' % n) for n in (1, 2)]) == 1
        disk.bytes_left = 10**6
        # Longer than what was cut off, so that the reader cannot tell by the size.
        file.append([line.replace(b'"n": 0', b'"n": %d' % n) for n in (3, 4)])
        look()
    file.close()
    assert found == [0, 1, 3, 4]


def test_a_follower_of_a_file_that_somebody_has_emptied_goes_on_at_its_beginning(
    tmp_path: Path,
) -> None:
    write(tmp_path, 1, 2, 3)
    with following(tmp_path) as found:
        assert [found.get(timeout=PATIENCE_S) for _ in range(3)] == [1, 2, 3]
        os.truncate(tmp_path / NEWER, 0)
        write(tmp_path, 4)
        assert found.get(timeout=PATIENCE_S) == 4


class StuckDisk:
    """A disk that holds up each write until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.released = threading.Event(), threading.Event()
        self._write = os.write
        self._stuck: int | None = None
        monkeypatch.setattr("pool_service.adapters.event_log.event_file.os.write", self.write)
        monkeypatch.setattr("pool_service.adapters.event_log.event_writer.FLUSH_TIMEOUT_S", 0.05)

    def write(self, descriptor: int, data: bytes) -> int:
        if self._stuck in (None, threading.get_ident()):
            self._stuck = threading.get_ident()
            self.begun.set()
            assert self.released.wait(PATIENCE_S)
        return self._write(descriptor, data)


def test_a_writer_that_was_given_up_writes_nothing_more_beside_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = StuckDisk(monkeypatch)
    with capture_logs() as logged, EventWriter(tmp_path) as writer:
        writer.write({"kind": "test", "n": 1})
        assert disk.begun.wait(PATIENCE_S)
        for n in (2, 3):
            writer.write({"kind": "test", "n": n})
    assert ("events were lost", 2) in [(line["event"], line.get("lines")) for line in logged]
    write(tmp_path, 4)
    disk.released.set()
    writer._thread.join(PATIENCE_S)
    assert not writer._thread.is_alive()
    write(tmp_path, 5)
    # The write under way cannot be called back; it adds whole lines.
    assert numbers(tmp_path) == [4, 1, 5]


def test_a_writer_that_was_given_up_neither_rotates_nor_cuts_what_the_next_one_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = EventFile(tmp_path, 200)
    write(tmp_path, 1, 2)
    before = (tmp_path / NEWER).read_bytes()

    def fail(_descriptor: int, _data: bytes) -> int:
        file.is_given_up = True
        write_on(tmp_path / NEWER, b"of the next one\n")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pool_service.adapters.event_log.event_file.os.write", fail)
    with pytest.raises(OSError, match="No space"):
        file.append([b"{}\n"])
    assert (tmp_path / NEWER).read_bytes() == before + b"of the next one\n"
    with pytest.raises(GivenUpError):
        file.append([b"x" * 300 + b"\n"])
    assert not (tmp_path / OLDER).exists()
    file.close()


def held_up(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> None:
    """Have the next look at the end of a file take so long that something happens meanwhile."""
    look = os.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        found = look(descriptor, length, offset)
        monkeypatch.setattr("pool_service.adapters.event_log.event_file.os.pread", look)
        meanwhile()
        return found

    monkeypatch.setattr("pool_service.adapters.event_log.event_file.os.pread", pread)


@pytest.mark.parametrize("length", [20, 300])
def test_a_writer_that_is_given_up_while_it_looks_at_the_file_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    write(tmp_path, 1)
    file = EventFile(tmp_path, 200)
    held_up(monkeypatch, lambda: setattr(file, "is_given_up", True))
    before = (tmp_path / NEWER).read_bytes()
    with pytest.raises(GivenUpError):
        file.append([b"x" * length + b"\n"])
    assert (tmp_path / NEWER).read_bytes() == before
    assert not (tmp_path / OLDER).exists()
    file.close()


def test_a_writer_does_not_rotate_the_file_that_another_one_has_begun_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1)
    file = EventFile(tmp_path, 200)

    def rotate() -> None:
        (tmp_path / NEWER).replace(tmp_path / OLDER)
        write(tmp_path, 2)

    held_up(monkeypatch, rotate)
    older = (tmp_path / NEWER).read_bytes()
    line = older.replace(b'"n": 1', b'"n": 3').replace(b'"pad": ""', b'"pad": "%s"' % (b"x" * 200))
    file.append([line])
    file.close()
    assert (tmp_path / OLDER).read_bytes() == older
    assert numbers(tmp_path) == [1, 2, 3]


def test_events_beyond_the_buffer_are_dropped_and_counted_after_those_in_it(
    tmp_path: Path,
) -> None:
    writer = EventWriter(tmp_path, max_events=3)
    for n in range(10):
        writer.write({"kind": "test", "n": n})
    with writer:
        pass
    assert told(tmp_path) == [("n", 0), ("n", 1), ("n", 2), ("lost", 7)]


@pytest.mark.parametrize("make", ["link", "directory", "fifo"])
def test_a_file_that_is_not_the_service_s_own_costs_the_events_only(
    tmp_path: Path, make: str
) -> None:
    other = tmp_path / "other"
    other.write_text("text of somebody")
    path = tmp_path / NEWER
    if make == "link":
        path.symlink_to(other)
    elif make == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    mode = path.lstat().st_mode
    with capture_logs() as logged:
        write(tmp_path, 1)
    assert other.read_text() == "text of somebody"
    assert path.lstat().st_mode == mode
    assert [line["event"] for line in logged] == ["events cannot be written", "events were lost"]
    # The service itself goes on, and so do its events once the file may be made.
    path.rmdir() if make == "directory" else path.unlink()
    write(tmp_path, 2)
    assert numbers(tmp_path) == [2]
