"""Reading logs whose heads were trimmed: whole lines, none of those that are kept left out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pool_service.adapters.logs import log_reader, log_trim
from pool_service.adapters.logs.log_reader import PART_BYTES, read, seek
from pool_service.adapters.logs.log_text import ProbeFilter
from pool_service.adapters.logs.log_trim import trim_file
from pool_service.core.server_logs import LogPart, LogPosition

NO_PROBES = ProbeFilter(())
LINE_BYTES = 64
MAX_BYTES = 32 * 1024


def numbered(count: int) -> list[str]:
    """Return lines of LINE_BYTES with their line feeds."""
    return [f"{number:0{LINE_BYTES - 1}}" for number in range(count)]


def all_lines(path: Path, position: LogPosition) -> tuple[list[str], int]:
    """Return the lines after a position, and the number of missed bytes."""
    lines, missed = list[str](), 0
    while True:
        part = read(path, position, NO_PROBES, ended=True)
        assert part is not None
        lines += part.lines
        missed += part.missed_bytes
        position = part.position
        if part.at_end:
            return lines, missed


def beginning(path: Path) -> LogPosition:
    position = seek(path, 1, None, NO_PROBES)
    assert position is not None
    return position


def in_whole_blocks(punch: Callable[[int, int, int], None]) -> Callable[[int, int, int], None]:
    """Return what macOS does: a hole of whole blocks only."""
    return lambda descriptor, begin, end: punch(descriptor, begin, end // 4096 * 4096)


@pytest.mark.parametrize("blocks", ["any", "whole"])
@pytest.mark.parametrize("shift", [-1, 0, 1, LINE_BYTES - 1, LINE_BYTES, 100, 2000, 4000])
def test_wherever_a_log_is_cut_each_line_that_is_kept_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: int, blocks: str
) -> None:
    if blocks == "whole":
        monkeypatch.setattr(log_trim, "_punch", in_whole_blocks(log_trim._punch))
    path = tmp_path / "1.log"
    lines = numbered(1024)
    # With a shift of 0 the line after the cut begins with a block.
    head = "x" * (shift % LINE_BYTES) + "\n" if shift % LINE_BYTES else ""
    text = head + "".join(f"{line}\n" for line in lines)
    text += "y" * ((-shift - len(head)) % 4096 + LINE_BYTES // 2) + "\n"
    path.write_text(text)
    first = beginning(path)
    assert trim_file(path, MAX_BYTES)
    cut = text.index("\n", len(text) - MAX_BYTES // 2) + 1
    found, missed = all_lines(path, first)
    kept = text[cut:].splitlines()
    assert found[-len(kept) :] == kept
    if blocks == "any":
        assert found == kept
        assert missed == cut
    assert missed + sum(len(line) + 1 for line in found) == len(text)
    # From what is left, too.
    assert all_lines(path, beginning(path))[0] == found
    last = seek(path, 1, len(kept), NO_PROBES)
    assert last is not None
    assert all_lines(path, last)[0] == kept


def test_the_first_line_after_a_cut_on_a_block_is_read(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    lines = numbered(1024)
    path.write_text("".join(f"{line}\n" for line in lines))
    first = beginning(path)
    # Half of it is 4096 * 4 - 1, so that the line after it begins with a block.
    assert trim_file(path, 2 * (4 * 4096 + 1))
    assert all_lines(path, first) == (lines[-4 * 64 :], (1024 - 4 * 64) * LINE_BYTES)


def test_a_reader_that_is_where_the_hole_ends_loses_no_line(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    lines = numbered(1024)
    path.write_text("".join(f"{line}\n" for line in lines))
    end_of_hole = 4 * 4096
    reader = replace(beginning(path), offset=end_of_hole)
    with path.open("r+b") as file:
        log_trim._punch(file.fileno(), 0, end_of_hole)
        assert log_trim.data_begin(file.fileno()) == end_of_hole
    assert all_lines(path, reader) == (lines[end_of_hole // LINE_BYTES :], 0)


@pytest.mark.parametrize("before", ["", "line\n"])
def test_nuls_that_a_server_writes_are_no_hole(tmp_path: Path, before: str) -> None:
    path = tmp_path / "1.log"
    path.write_text(before)
    position = seek(path, 1, 0, NO_PROBES)
    assert position is not None
    path.write_text(before + "\0\0b\n\0\nc\n")
    found, missed = all_lines(path, position)
    assert [line.strip("\ufffd") for line in found] == ["b", "", "c"]
    assert missed == 0


def test_nuls_that_a_server_writes_are_no_hole_in_a_trimmed_log_either(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_text("".join(f"{line}\n" for line in numbered(1024)))
    end = seek(path, 1, 0, NO_PROBES)
    assert end is not None
    assert trim_file(path, MAX_BYTES)
    with path.open("a") as file:
        file.write("\0b\n")
    assert all_lines(path, end) == (["\ufffdb"], 0)


def test_where_holes_are_not_told_a_position_within_one_is_one_of_missed_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reader, "data_begin", lambda _descriptor: 0)
    path = tmp_path / "1.log"
    hole = 3 * PART_BYTES + 7
    path.write_bytes(bytes(hole) + b"\nline\n")
    position = beginning(path)
    assert all_lines(path, position) == (["line"], hole + 1)
    within = LogPosition(1, position.file_id, 1000)
    assert all_lines(path, within) == (["line"], hole + 1 - 1000)


@pytest.mark.parametrize("ended", [True, False])
def test_an_incomplete_answer_to_a_probe_is_left_out(tmp_path: Path, ended: bool) -> None:
    path = tmp_path / "1.log"
    path.write_text('line\nINFO:     127.0.0.1:1 - "GET /health HTTP/1.1" 200 OK')
    probes = ProbeFilter(("/health",))
    position = seek(path, 1, 5, probes)
    assert position is not None
    part = read(path, position, probes, ended=ended, with_rest=True)
    assert isinstance(part, LogPart)
    assert part.lines == ("line",)
    assert part.rest == ""
