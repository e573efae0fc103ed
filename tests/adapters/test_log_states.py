"""The state of a log's file, by which followers learn that there is something to read."""

import asyncio
import os
from pathlib import Path

import pytest

from pool_service.adapters.logs import log_reader
from pool_service.adapters.logs.log_reader import LogReader, read, seek, state
from pool_service.adapters.logs.log_text import ProbeFilter
from pool_service.adapters.logs.log_trim import trim_file
from pool_service.adapters.logs.logs import LogStore
from pool_service.core.server_logs import LogState


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of 1000 lines."""
    path = tmp_path / "1.log"
    path.write_text("".join(f"line {number}\n" for number in range(1000)))
    return path


def test_the_state_that_was_read_is_the_one_of_a_look_until_something_is_written(
    path: Path,
) -> None:
    position = seek(path, 1, 10, ProbeFilter(()))
    assert position is not None
    part = read(path, position, ProbeFilter(()), ended=False)
    assert part is not None
    assert part.state is not None
    assert part.state == state(path) == state(path)
    with path.open("a") as file:
        file.write("more")
    assert state(path) != part.state


def test_another_file_of_the_same_name_and_length_is_another_state(path: Path) -> None:
    before = state(path)
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    other.replace(path)
    assert state(path) != before


def test_what_was_written_between_the_look_and_the_read_is_not_taken_for_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is that of the file before the read; the other order would lose lines."""
    position = seek(path, 1, 0, ProbeFilter(()))
    assert position is not None
    lines_of = log_reader._data_from

    def write_after_the_read(descriptor: int, offset: int) -> tuple[int, bytes, bool]:
        found = lines_of(descriptor, offset)
        with path.open("a") as file:
            file.write("late\n")
        return found

    monkeypatch.setattr(log_reader, "_data_from", write_after_the_read)
    part = read(path, position, ProbeFilter(()), ended=False)
    assert part is not None
    assert part.lines == ()
    assert part.state != state(path)


def test_a_trimmed_log_is_another_state(path: Path) -> None:
    before = state(path)
    assert trim_file(path, 4096)
    assert state(path) != before


def test_a_log_that_is_not_there_has_none_and_one_that_cannot_be_looked_at_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert state(tmp_path / "none.log") is None

    def fail(_path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "lstat", fail)
    # So that it is read, which tells why it cannot be.
    assert state(tmp_path / "none.log") == LogState(0, 0, 0)


async def test_the_states_of_many_logs_are_looked_at_at_once(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    reader = LogReader(store)
    for generation in (1, 2):
        store.create("m", generation).write_text(f"{generation}")
    async with asyncio.timeout(30):
        states = await reader.states([("m", 2), ("m", 3), ("m", 1), ("n", 1)])
    assert states == [
        state(store.path_of("m", 2)),
        None,
        state(store.path_of("m", 1)),
        None,
    ]
    assert None not in (states[0], states[2])
