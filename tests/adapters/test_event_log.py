"""The event log: what is written to it is read back, over rotations and crashes."""

import json
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pool_service.adapters.event_log import event_reader
from pool_service.adapters.event_log.event_file import NEWER, OLDER
from pool_service.adapters.event_log.event_reader import Event, read_events
from pool_service.adapters.event_log.event_writer import CHUNK_BYTES, LONGEST_TEXT, EventWriter
from tests.adapters.event_logs import (
    PATIENCE_S,
    events_of,
    following,
    numbers,
    write,
)


def test_events_are_read_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as writer:
        for n in range(3000):
            writer.write({"kind": "test", "n": n})
    assert numbers(tmp_path) == list(range(3000))


def test_an_event_is_one_line_of_ascii_with_the_time_in_utc(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as writer:
        writer.write({"kind": "test", "why": "a\nb\x1b[2J ü \udcff"})
    (line,) = (tmp_path / NEWER).read_text(encoding="ascii").splitlines()
    assert json.loads(line)["why"] == "a\nb\x1b[2J ü \udcff"
    assert "\x1b" not in line
    assert len(json.loads(line)["ts"]) == len("2026-11-27T12:00:00.000Z")


def test_an_event_has_the_time_that_is_given_for_it(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as writer:
        writer.write({"kind": "test"}, at=1_000_000_000.25)
    assert [event["ts"] for event in events_of(tmp_path)] == ["2001-09-09T01:46:40.250Z"]


def test_only_the_user_can_read_the_file(tmp_path: Path) -> None:
    write(tmp_path, 1)
    assert stat.S_IMODE((tmp_path / NEWER).stat().st_mode) == 0o600


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as writer:
        writer.write({"kind": "test", "why": "x" * 100_000})
    (event,) = events_of(tmp_path)
    assert len(event["why"]) == LONGEST_TEXT


def test_two_files_of_bounded_size_are_kept_and_the_newest_events_are_in_them(
    tmp_path: Path,
) -> None:
    write(tmp_path, *range(100), max_bytes=1000)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([NEWER, OLDER])
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    kept = numbers(tmp_path)
    assert len(kept) > 10
    assert kept == list(range(100 - len(kept), 100))


def test_many_events_at_once_are_written_in_pieces_so_that_the_files_stay_bounded(
    tmp_path: Path,
) -> None:
    limit = 2 * CHUNK_BYTES
    writer = EventWriter(tmp_path, limit)
    for n in range(5000):
        writer.write({"kind": "test", "n": n})
    with writer:
        pass
    assert all(path.stat().st_size <= limit for path in tmp_path.iterdir())
    assert numbers(tmp_path)[-1] == 4999


def test_after_a_torn_line_the_next_service_begins_a_new_one(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with (tmp_path / NEWER).open("ab") as file:
        file.write(b'{"ts": "2026-11-2')
    assert numbers(tmp_path) == [1]
    write(tmp_path, 2)
    assert numbers(tmp_path) == [1, 2]


@pytest.mark.parametrize("line", [b"[" * 100_000, b'"text"', b"{}", b'{"ts": 1}', b"\xff\xfe", b""])
def test_lines_that_are_no_events_are_left_out(tmp_path: Path, line: bytes) -> None:
    write(tmp_path, 1)
    with (tmp_path / NEWER).open("ab") as file:
        file.write(line + b"\n")
    write(tmp_path, 2)
    assert numbers(tmp_path) == [1, 2]


def test_the_file_is_made_anew_when_somebody_has_removed_it(tmp_path: Path) -> None:
    with following(tmp_path) as found, EventWriter(tmp_path) as writer:
        writer.write({"kind": "test", "n": 1})
        assert found.get(timeout=PATIENCE_S) == 1
        (tmp_path / NEWER).unlink()
        writer.write({"kind": "test", "n": 2})
        assert found.get(timeout=PATIENCE_S) == 2


def test_a_follower_does_not_read_the_older_file_again_when_somebody_has_removed_the_newer_one(
    tmp_path: Path,
) -> None:
    write(tmp_path, 1)
    (tmp_path / NEWER).replace(tmp_path / OLDER)
    write(tmp_path, 2)
    with following(tmp_path) as found:
        assert [found.get(timeout=PATIENCE_S) for _ in range(2)] == [1, 2]
        (tmp_path / NEWER).unlink()
        write(tmp_path, 3)
        assert found.get(timeout=PATIENCE_S) == 3


def test_a_follower_gets_each_event_once_over_rotations(tmp_path: Path) -> None:
    write(tmp_path, 0)
    with following(tmp_path) as found:
        for n in range(1, 20):
            # Some three lines fill a file.
            write(tmp_path, n, max_bytes=300, pad="x" * 20)
            assert found.get(timeout=PATIENCE_S) == n - 1
        assert found.get(timeout=PATIENCE_S) == 19


def test_a_follower_that_missed_one_rotation_reads_the_file_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 0)
    looks = [lambda: write(tmp_path, *range(1, 7), max_bytes=200)]

    def sleep(_seconds: float) -> None:
        # Both rotations happen between two looks.
        if looks:
            looks.pop()()

    monkeypatch.setattr("pool_service.adapters.event_log.event_reader.time.sleep", sleep)
    with closing(read_events(tmp_path, follow=True)) as events:
        kept = [0, *numbers_after(events, 6)]
    assert kept[-1] == 6
    assert kept == sorted(set(kept))


def numbers_after(events: Iterator[Event | None], last: int) -> Iterator[int]:
    """Yield the numbers of events up to `last`, but not the first."""
    found = (event["n"] for event in events if event is not None)
    assert next(found) == 0
    for number in found:
        yield number
        if number == last:
            return


def test_a_line_that_is_half_written_is_followed_once_it_is_whole(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with following(tmp_path) as found:
        assert found.get(timeout=PATIENCE_S) == 1
        line = (tmp_path / NEWER).read_bytes().replace(b'"n": 1', b'"n": 2')
        with (tmp_path / NEWER).open("ab", buffering=0) as file:
            file.write(line[:30])
            file.write(line[30:])
        assert found.get(timeout=PATIENCE_S) == 2


def test_a_follower_waits_for_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    with following(tmp_path) as found:
        write(tmp_path, 1)
        assert found.get(timeout=PATIENCE_S) == 1


class Rotating:
    """Rotates the files, and writes one more number, before or after one of the openings."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, directory: Path, opening: int, *, before: bool
    ) -> None:
        self.count = 0
        self._directory, self._opening, self._before = directory, opening, before
        self._open = event_reader._Lines.open
        # A function, unlike a bound method, gets the lines that are opened.
        monkeypatch.setattr(event_reader._Lines, "open", lambda *args: self.open(*args))  # noqa: PLW0108

    def open(self, lines: event_reader._Lines, path: Path) -> None:
        self.count += 1
        is_now = self.count == self._opening
        if is_now and self._before:
            self.rotate(9)
        self._open(lines, path)
        if is_now and not self._before:
            self.rotate(9)

    def rotate(self, n: int) -> None:
        (self._directory / NEWER).replace(self._directory / OLDER)
        write(self._directory, n)


@pytest.mark.parametrize("opening", [1, 2])
@pytest.mark.parametrize("before", [True, False])
def test_a_rotation_while_the_files_are_opened_loses_and_doubles_no_event_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opening: int, *, before: bool
) -> None:
    write(tmp_path, 1)
    (tmp_path / NEWER).replace(tmp_path / OLDER)
    write(tmp_path, 2)
    rotating = Rotating(monkeypatch, tmp_path, opening, before=before)
    found = [event["n"] for event, _ in zip(followed(tmp_path), range(3), strict=False)]
    assert rotating.count >= 2
    # The rotation removes the file with 1, unless it was open by then.
    assert found[-2:] == [2, 9]
    assert found[:-2] in ([], [1])


def followed(directory: Path) -> Iterator[Event]:
    """Yield events without end, but end at the second look that finds none."""
    looks = 0
    with closing(read_events(directory, follow=True)) as events:
        for event in events:
            looks += event is None
            if looks == 3:
                return
            if event is not None:
                yield event


@pytest.mark.parametrize("opening", [3, 4])
@pytest.mark.parametrize("before", [True, False])
def test_a_rotation_while_a_follower_opens_the_next_file_loses_and_doubles_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opening: int, *, before: bool
) -> None:
    write(tmp_path, 1)
    rotating = Rotating(monkeypatch, tmp_path, opening, before=before)
    looks = [lambda: rotating.rotate(2)]

    def sleep(_seconds: float) -> None:
        if looks:
            looks.pop()()

    monkeypatch.setattr("pool_service.adapters.event_log.event_reader.time.sleep", sleep)
    found = [event["n"] for event in followed(tmp_path)]
    assert rotating.count >= opening
    assert found == [1, 2, 9]
