"""Access to the service's own files, whatever stands in their place."""

import errno
import fcntl
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pool_service.adapters.system import own_files
from pool_service.adapters.system.own_files import (
    NotOurs,
    flush_to_disk,
    has_open,
    open_own,
    parse_json,
    read_own,
    remove_tree,
    write_note,
    write_own,
)
from tests.adapters.prompt_servers import nested
from tests.under_way import under_way

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that tells it")


def link(path: Path) -> None:
    path.symlink_to(path.with_name("precious"))


def hard_link(path: Path) -> None:
    path.hardlink_to(path.with_name("precious"))


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (link, "it is not a regular file"),
        (hard_link, "it has a second name"),
        (os.mkfifo, "it is not a regular file"),
        (Path.mkdir, "it is not a regular file"),
        (unix_socket, "it is not a regular file"),
    ],
)
def test_what_is_no_file_of_ours_is_not_opened(
    socket_dir: Path, make: Callable[[Path], None], why: str
) -> None:
    (socket_dir / "precious").write_text("kept")
    path = socket_dir / "own"
    make(path)
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT):
        before = os.dup(0)
        os.close(before)
        with pytest.raises(NotOurs) as caught:
            open_own(path, flags)
        assert caught.value.strerror is not None
        assert caught.value.strerror.startswith(why)
        assert caught.value.filename == str(path)
        after = os.dup(0)
        os.close(after)
        assert after == before
    assert (socket_dir / "precious").read_text() == "kept"


def test_a_file_of_another_user_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").touch()
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path / "own").stat().st_uid + 1)
    with pytest.raises(NotOurs, match="belongs to another user"):
        open_own(tmp_path / "own", os.O_RDONLY)


def test_a_file_that_is_not_there_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_own(tmp_path / "gone", 10)


@pytest.mark.parametrize(("most", "content"), [(3, b"1234"), (4, b"12345"), (9, b"12345")])
def test_no_more_is_read_than_shows_that_a_file_is_too_long(
    tmp_path: Path, most: int, content: bytes
) -> None:
    (tmp_path / "own").write_bytes(b"12345")
    read, status = read_own(tmp_path / "own", most)
    assert read == content
    assert status.st_size == 5


def test_a_file_is_written_in_place_of_whatever_had_its_name(tmp_path: Path) -> None:
    precious, own = tmp_path / "precious", tmp_path / "own"
    precious.write_text("kept")
    for make in (link, hard_link, Path.touch):
        make(own)
        write_own(own, b"content")
        assert own.read_bytes() == b"content"
        assert own.stat().st_mode & 0o777 == 0o600
        own.unlink()
    assert precious.read_text() == "kept"


@pytest.mark.parametrize("text", ["", "{", b"\xff", "[" * 100_000])
def test_every_fault_of_a_text_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)
    assert parse_json(json.dumps({"a": 1})) == {"a": 1}


def test_whoever_has_a_file_open_is_told_by_the_file_and_not_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "own"
    with path.open("w"):
        assert has_open(os.getpid(), path)
        (tmp_path / "other name").hardlink_to(path)
        assert has_open(os.getpid(), tmp_path / "other name")
        (tmp_path / "another").touch()
        assert not has_open(os.getpid(), tmp_path / "another")
    assert not has_open(os.getpid(), path)
    assert not has_open(os.getpid(), tmp_path / "gone")
    with under_way({}) as process:
        process.kill()
    assert not has_open(process.pid, path)


@on_linux
def test_whoever_has_a_deleted_file_open_does_not_have_the_new_one_of_its_name(
    tmp_path: Path,
) -> None:
    path = tmp_path / "own"
    with path.open("w"):
        path.unlink()
        path.touch()
        assert not has_open(os.getpid(), path)


@on_linux
def test_whoever_has_a_file_open_by_a_name_that_is_gone_has_it_open(tmp_path: Path) -> None:
    path = tmp_path / "own"
    with path.open("w"):
        path.rename(tmp_path / "renamed")
        (tmp_path / "other name").hardlink_to(tmp_path / "renamed")
        (tmp_path / "renamed").unlink()
        assert has_open(os.getpid(), tmp_path / "other name")


def test_a_shorter_note_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    path = tmp_path / "note"
    with path.open("w+b") as file:
        write_note(file.fileno(), b"a longer note")
        write_note(file.fileno(), b"short")
    assert path.read_bytes() == b"short"


@pytest.mark.parametrize(
    ("order", "is_supported", "expected"),
    [(None, True, ["fsync"]), (51, True, ["51"]), (51, False, ["51", "fsync"])],
    ids=["Linux", "macOS", "macOS, on a network's file system"],
)
def test_a_flushed_file_is_not_left_in_the_cache_of_the_drive(
    monkeypatch: pytest.MonkeyPatch, order: int | None, is_supported: bool, expected: list[str]
) -> None:
    done = list[str]()

    def control(_descriptor: int, asked: int) -> None:
        done.append(str(asked))
        if not is_supported:
            raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(own_files, "FULL_FSYNC", order)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", lambda _descriptor: done.append("fsync"))
    flush_to_disk(7)
    assert done == expected


def test_a_tree_is_removed_however_deep_it_is(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with nested(tree, tmp_path):
        remove_tree(tree)
        assert list(tmp_path.iterdir()) == []
