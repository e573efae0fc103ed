"""Which part of a log is read for its last lines."""

from pathlib import Path

import pytest

from pool_service.adapters.logs.logs import TAIL_BYTES, last_lines


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_when_most_of_a_log_is_answers_to_probes_more_of_it_is_read(tmp_path: Path) -> None:
    probe = b'INFO: 127.0.0.1:1 - "GET /health HTTP/1.1" 200 OK\n'
    lines = b"".join(b"line %d\n" % number for number in range(30))
    probes = probe * (2 * TAIL_BYTES // len(probe))
    path = written(tmp_path / "log", lines + probes + b"last\n")
    assert last_lines(path, 3, ("/health",)) == ("line 28", "line 29", "last")
    assert last_lines(path, 1, ("/health",)) == ("last",)


def test_a_line_that_fills_all_that_is_read_is_shown(tmp_path: Path) -> None:
    path = written(tmp_path / "log", b"a" * (TAIL_BYTES + 1))
    assert last_lines(path) == ("a" * 499 + "…",)


def test_a_log_that_just_fits_is_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "log", b"first\n" + b"\n" * (TAIL_BYTES - 6))
    assert last_lines(path) == ("first",)


@pytest.mark.parametrize(("length", "shown"), [(500, 500), (501, 500)])
def test_a_line_is_cut_when_it_is_longer_than_is_shown(
    tmp_path: Path, length: int, shown: int
) -> None:
    (line,) = last_lines(written(tmp_path / "log", b"x" * length))
    assert len(line) == shown
    assert line.endswith("…") is (length > 500)


def test_a_directory_in_the_place_of_a_log_has_none(tmp_path: Path) -> None:
    assert last_lines(tmp_path) == ()
