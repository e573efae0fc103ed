"""When and how a log is cut, by its length and by what the file system can do."""

import errno
import os
import resource
from pathlib import Path
from typing import NoReturn

import pytest

from pool_service.adapters.logs import log_trim
from pool_service.adapters.logs.log_trim import trim_file


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("size", "is_trimmed"), [(4999, False), (5000, False), (5001, True)])
def test_a_log_is_cut_when_it_is_longer_than_it_may_be(
    tmp_path: Path, size: int, is_trimmed: bool
) -> None:
    path = written(tmp_path / "log", b"x" * size)
    assert trim_file(path, 5000) is is_trimmed
    assert (len(path.read_bytes().lstrip(b"\0")) == size) is not is_trimmed


def test_a_log_that_is_all_hole_is_not_cut(tmp_path: Path) -> None:
    path = written(tmp_path / "log", b"")
    os.truncate(path, 1_000_000)
    assert not trim_file(path, 1000)
    assert path.stat().st_size == 1_000_000


def without_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.EOPNOTSUPP, "no holes")

    monkeypatch.setattr(log_trim, "_punch", refuse)


def test_without_holes_the_newer_half_is_moved_to_the_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_holes(monkeypatch)
    lines = [b"line %04d\n" % number for number in range(1000)]
    path = written(tmp_path / "log", b"".join(lines))
    assert trim_file(path, 5000)
    assert path.read_bytes() == b"".join(lines[-249:])


def test_without_holes_no_more_is_moved_than_a_fast_writer_may_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_trim, "_CHUNK_BYTES", 100)
    path = written(tmp_path / "log", b"x" * 10_000)
    descriptor = os.open(path, os.O_RDWR)
    log_trim._move_to_front(descriptor, 5000, max_copy_bytes=300)
    os.close(descriptor)
    assert path.stat().st_size == 300


def test_a_log_that_nears_the_limit_of_its_length_is_moved_to_the_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_trim, "_punch", lambda *_: None)
    monkeypatch.setattr(log_trim, "MAX_LENGTH_BYTES", 20_000)
    path = written(tmp_path / "log", b"line\n" * 4000)
    assert trim_file(path, 10_000)
    assert path.stat().st_size == 20_000, "a hole is enough so far"
    monkeypatch.setattr(log_trim, "MAX_LENGTH_BYTES", 19_999)
    assert trim_file(path, 10_000)
    assert path.stat().st_size < 10_000


@pytest.mark.parametrize(
    ("soft", "longest"),
    [(resource.RLIM_INFINITY, log_trim.MAX_LENGTH_BYTES), (1000, 500), (2**60, 2**40)],
)
def test_the_longest_log_is_half_of_what_the_system_lets_it_be(
    soft: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, resource.RLIM_INFINITY))
    assert log_trim._max_length() == longest
