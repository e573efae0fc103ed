"""Reading logs that are written to and trimmed meanwhile."""

import asyncio
import errno
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_service.adapters.logs import log_reader, log_trim
from pool_service.adapters.logs.log_identity import file_id
from pool_service.adapters.logs.log_reader import PART_BYTES, LogReader, read, seek
from pool_service.adapters.logs.log_text import ProbeFilter
from pool_service.adapters.logs.log_trim import trim_file
from pool_service.adapters.logs.logs import LogStore, last_lines, open_for_append
from pool_service.core.server_logs import LogPart, LogPosition

NO_PROBES = ProbeFilter(())
PROBES = ProbeFilter(("/health",))
PROBE = 'INFO:     127.0.0.1:1 - "GET /health HTTP/1.1" 200 OK'


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def id_of(path: Path) -> int:
    with path.open("rb") as file:
        return file_id(file.fileno())


def read_on(path: Path, position: LogPosition, *, ended: bool = False) -> LogPart:
    part = read(path, position, NO_PROBES, ended=ended, with_rest=True)
    assert part is not None
    return part


def last(path: Path, lines: int | None, probes: ProbeFilter = NO_PROBES) -> list[str]:
    """Return the lines from the position of the last `lines` on."""
    position = seek(path, 1, lines, probes)
    assert position is not None
    found = list[str]()
    while True:
        part = read(path, position, probes, ended=True)
        assert part is not None
        found += part.lines
        position = part.position
        if part.at_end:
            return found


@pytest.mark.parametrize("count", [0, 1, 3, 10, 11, 5000])
def test_the_last_lines_are_found(tmp_path: Path, count: int) -> None:
    lines = [f"line {number}" for number in range(10)]
    assert last(written(tmp_path / "1.log", *lines), count) == lines[max(0, 10 - count) :]


def test_lines_far_back_are_found_among_answers_to_probes(tmp_path: Path) -> None:
    lines = ["first", "second", *[PROBE] * 20_000, "third", *[PROBE] * 20_000]
    path = written(tmp_path / "1.log", *lines)
    assert last(path, 2, PROBES) == ["second", "third"]
    assert last(path, 3, PROBES) == ["first", "second", "third"]


def test_lines_are_looked_for_only_so_far_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reader, "MAX_SEARCH_BYTES", 128 * 1024)
    path = written(tmp_path / "1.log", "first", *[PROBE] * 20_000, "last")
    assert last(path, 2, PROBES) == ["last"]


def test_an_incomplete_line_comes_when_it_is_complete_or_its_process_has_ended(
    tmp_path: Path,
) -> None:
    path = tmp_path / "1.log"
    path.write_text("a\nb")
    position = seek(path, 1, None, NO_PROBES)
    assert position is not None
    part = read_on(path, position)
    assert (part.lines, part.rest, part.at_end) == (("a",), "b", True)
    assert read_on(path, part.position, ended=True).lines == ("b",)
    with path.open("a") as file:
        file.write("c\n")
    assert read_on(path, part.position).lines == ("bc",)


def test_an_empty_line_is_a_line(tmp_path: Path) -> None:
    path = written(tmp_path / "1.log", "Traceback", "", "  File")
    assert last(path, None) == ["Traceback", "", "  File"]
    assert last(written(tmp_path / "2.log"), None) == []


def test_of_an_overwritten_line_the_last_state_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"10%\r50%\r100%\nmore\r\n\x1b[31mred\x1b[0m \xff\x07\n")
    assert last(path, None) == ["100%", "more", "red \ufffd\ufffd"]


@pytest.mark.parametrize("letter", ["x", "ä", "€", "𝄞"])
def test_a_line_without_an_end_is_split_between_characters(tmp_path: Path, letter: str) -> None:
    path = tmp_path / "1.log"
    line = "." + letter * PART_BYTES
    path.write_text(line)
    assert "".join(last(path, None)) == line
    assert all(len(piece.encode()) <= PART_BYTES for piece in last(path, None))


KEY = f"psk_{'Ab-9_' * 8}xyz"


def test_keys_are_struck_out_also_where_escape_sequences_hide_them(tmp_path: Path) -> None:
    path = written(tmp_path / "1.log", f"key={KEY}!", f"{KEY[:20]}\x1b[31m{KEY[20:]}")
    assert last(path, None) == ["key=psk_***!", "psk_***"]
    assert last_lines(path) == ("key=psk_***!", "psk_***")


@pytest.mark.parametrize("before", range(PART_BYTES - len(KEY), PART_BYTES, 7))
def test_a_key_in_a_line_without_an_end_is_not_split(tmp_path: Path, before: int) -> None:
    path = tmp_path / "1.log"
    path.write_text("." * before + KEY + "." * PART_BYTES)
    told = "".join(last(path, None))
    assert told == "." * before + "psk_***" + "." * PART_BYTES


def test_of_bytes_that_are_no_text_a_part_is_split_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"\x80" * (PART_BYTES + 1))
    assert [len(line) for line in last(path, None)] == [PART_BYTES, 1]


def test_the_last_piece_of_a_line_without_an_end_is_found(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"first\n" + b"x" * (40 * PART_BYTES) + b"end")
    assert "".join(last(path, 1)).endswith("xend")
    assert len(last(path, 1)) <= 2


def test_where_holes_are_not_told_the_nuls_of_one_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reader, "data_begin", lambda _descriptor: 0)
    path = tmp_path / "1.log"
    path.write_bytes(bytes(3 * PART_BYTES + 7) + b"line\n")
    assert last(path, None) == ["line"]
    assert last(path, 1) == ["line"]


def test_a_long_log_is_read_in_parts(tmp_path: Path) -> None:
    lines = [f"line {number}" for number in range(50_000)]
    path = written(tmp_path / "1.log", *lines)
    position = seek(path, 1, None, NO_PROBES)
    assert position is not None
    part = read_on(path, position)
    assert not part.at_end
    assert sum(map(len, part.lines)) <= PART_BYTES
    assert last(path, None) == lines


@pytest.mark.parametrize("whole_blocks", [False, True], ids=["linux", "whole blocks"])
def test_a_trimmed_log_is_read_from_its_first_whole_line_on_and_the_rest_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_blocks: bool
) -> None:
    """macOS makes holes of whole blocks only."""
    if whole_blocks:
        punch = log_trim._punch
        monkeypatch.setattr(
            log_trim, "_punch", lambda file, begin, end: punch(file, begin, end // 4096 * 4096)
        )
    lines = [f"line {number:06d}" for number in range(10_000)]
    path = written(tmp_path / "1.log", *lines)
    assert trim_file(path, 50_000)
    part = read_on(path, LogPosition(1, id_of(path), 12 * 100))
    first = int(part.lines[0].split()[1])
    assert part.missed_bytes == 12 * (first - 100)
    assert last(path, None)[0] == part.lines[0]
    assert last(path, 3) == lines[-3:]


def test_a_position_after_what_was_trimmed_stays_true(tmp_path: Path) -> None:
    lines = [f"line {number:06d}" for number in range(10_000)]
    path = written(tmp_path / "1.log", *lines)
    position = LogPosition(1, id_of(path), 12 * 9000)
    assert trim_file(path, 50_000)
    assert read_on(path, position).lines == tuple(lines[9000:])


def test_another_file_of_the_same_name_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = written(tmp_path / "1.log", "old", "old")
    position = LogPosition(1, id_of(path), 8)
    written(tmp_path / "new", "new").rename(path)
    part = read_on(path, position)
    assert part.lines == ("new",)
    assert part.position.file_id == id_of(path)


def test_a_file_that_was_made_shorter_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = written(tmp_path / "1.log", "one", "two")
    position = LogPosition(1, id_of(path), 8)
    os.truncate(path, 4)
    assert read_on(path, position).lines == ("one",)


@pytest.mark.parametrize("offset", [2**64 - 1, 10**19])
def test_a_position_beyond_all_files_is_none(tmp_path: Path, offset: int) -> None:
    path = written(tmp_path / "1.log", "one")
    assert read_on(path, LogPosition(1, id_of(path), offset)).lines == ("one",)


def test_neither_a_missing_log_nor_a_link_is_read(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    assert seek(path, 1, 10, NO_PROBES) is None
    assert read(path, LogPosition(1, 1, 0), NO_PROBES, ended=False) is None
    path.symlink_to(written(tmp_path / "secret", "secret"))
    assert seek(path, 1, 10, NO_PROBES) is None
    assert read(path, LogPosition(1, 1, 0), NO_PROBES, ended=False) is None


def test_what_a_position_says_besides_is_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "1.log", "one")
    position = LogPosition(1, id_of(path), 0, is_alone=True)
    assert read_on(path, position).position == LogPosition(1, id_of(path), 4, is_alone=True)


@given(
    st.lists(st.text(st.sampled_from("ab\r\x1b[m"), max_size=20), max_size=40),
    st.integers(0, 50),
)
def test_the_last_lines_are_those_of_all_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], count: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "1.log"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    everything = last(path, None)
    assert len(everything) == len(lines)
    assert last(path, count) == everything[max(0, len(lines) - count) :]


def test_while_a_log_is_written_and_trimmed_no_line_comes_twice_or_in_another_order(
    tmp_path: Path,
) -> None:
    path = tmp_path / "1.log"
    path.touch()
    total, max_bytes = 60_000, 200_000
    done = threading.Event()

    def write() -> None:
        descriptor = open_for_append(path)
        for first in range(0, total, 20):
            block = "".join(f"line {number:06d}\n" for number in range(first, first + 20))
            os.write(descriptor, block.encode())
            trim_file(path, max_bytes)
        os.close(descriptor)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    position, numbers, missed = LogPosition(1, id_of(path), 0), list[int](), 0
    while True:
        ended = done.is_set()
        part = read_on(path, position, ended=ended)
        numbers += [int(line.removeprefix("line ")) for line in part.lines]
        missed += part.missed_bytes
        position = part.position
        if ended and part.at_end:
            break
    writer.join()
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == total - 1
    assert len(numbers) + missed // 12 == total


async def test_the_generations_of_a_model_are_listed_in_their_order(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    reader = LogReader(store)
    assert await reader.generations("m") == ()
    for generation in (9, 10, 1):
        store.create("m", generation)
    (store.path_of("m", 1).parent / "notes.log").touch()
    store.create("other", 3)
    assert await reader.generations("m") == (1, 9, 10)


@pytest.mark.parametrize(
    "lines", [b"\n", f"{PROBE}\n".encode()], ids=["empty", "answers to probes"]
)
def test_the_last_lines_are_looked_for_faster_than_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: bytes
) -> None:
    looked_at = list[bytes]()

    def text(line: bytes) -> str:
        looked_at.append(line)
        return line.decode()

    monkeypatch.setattr(log_reader, "_text", text)
    path = tmp_path / "1.log"
    path.write_bytes(b"first\n" + lines * 200_000)
    position = seek(path, 1, 200_001, PROBES)
    assert position is not None
    assert position.offset == 0
    assert len(looked_at) <= PART_BYTES, "lines of the last block only"


def test_a_search_that_is_given_up_ends(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"first\n" + f"{PROBE}\n".encode() * 20_000)
    given_up = threading.Event()
    given_up.set()
    position = seek(path, 1, 1, PROBES, given_up)
    assert position is not None
    assert position.offset > path.stat().st_size - PART_BYTES


async def test_readers_use_none_of_the_threads_that_others_need(tmp_path: Path) -> None:
    """The threads of the event loop start processes and measure memory."""
    store = LogStore(tmp_path)
    written(store.create("m", 1), "line")
    reader = LogReader(store)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(threads := ThreadPoolExecutor(1))
    blocked = threading.Event()
    threads.submit(blocked.wait)
    try:
        async with asyncio.timeout(30):
            assert await reader.generations("m") == (1,)
            position = await reader.seek("m", 1, 1, ())
            assert position is not None
            part = await reader.read("m", position, (), ended=False, with_rest=False)
        assert part is not None
        assert part.lines == ("line",)
    finally:
        blocked.set()


def test_a_line_of_many_bytes_is_one_of_the_last_lines_once(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"first\n" + b"x" * 100_000 + b"\n")
    assert len(last(path, 1)) == 1


def test_an_incomplete_line_is_not_among_no_lines_but_comes_whole_later(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(b"first\nsecond")
    position = seek(path, 1, 0, NO_PROBES)
    assert position is not None
    assert position.offset == len(b"first\n")


def test_a_log_that_is_made_again_is_another_one_at_once(tmp_path: Path) -> None:
    """File systems give the inode of a removed file to the next one."""
    store = LogStore(tmp_path)
    made = [id_of(store.create("m", 1)) for _ in range(40)]
    assert all(before != after for before, after in itertools.pairwise(made))
    path = written(store.create("m", 1), "old")
    position = LogPosition(1, id_of(path), 4, is_ended=True)
    path = written(store.create("m", 1), "new", "new")
    part = read_on(path, position)
    assert part.lines == ("new", "new")
    assert not part.position.is_ended, "the end of the new one is still to come"


def test_an_inode_that_is_used_again_later_is_another_log(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    seen = set[int]()
    for _ in range(10):
        path.touch()
        seen.add(id_of(path))
        born = path.stat().st_ctime_ns
        path.unlink()
        while not_later(tmp_path / "clock", born):
            pass
    assert len(seen) == 10


def not_later(clock: Path, than_ns: int) -> bool:
    """Return whether the clock of the file system still has the same time."""
    clock.touch()
    return clock.stat().st_mtime_ns <= than_ns


def test_an_identity_stays_while_a_log_is_written_and_trimmed(tmp_path: Path) -> None:
    path = written(tmp_path / "1.log", "a")
    before = id_of(path)
    with path.open("a") as file:
        file.write("line\n" * 50_000)
    trim_file(path, 50_000)
    assert id_of(path) == before


def test_a_log_that_cannot_be_read_at_present_is_not_taken_for_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "1.log", "line")
    position = LogPosition(1, id_of(path), 0)

    def fail(*_arguments: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OSError, match="Too many open files"):
        seek(path, 1, 1, NO_PROBES)
    with pytest.raises(OSError, match="Too many open files"):
        read(path, position, NO_PROBES, ended=False)
