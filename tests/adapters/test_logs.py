import asyncio
import errno
import os
import stat
import tempfile
import threading
import time
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pool_service.adapters.logs import logs
from pool_service.adapters.logs.log_trim import trim_file
from pool_service.adapters.logs.log_writes import Growth, Writes
from pool_service.adapters.logs.logs import (
    TAIL_BYTES,
    LogStore,
    last_lines,
    open_for_append,
)
from pool_service.core.names import slug


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def content(path: Path) -> bytes:
    """What a log holds, after what was cut and the line feed at its end, which stays."""
    held = path.read_bytes()
    return held.lstrip(b"\0").removeprefix(b"\n") if held.startswith(b"\0") else held


def append(path: Path, content: bytes) -> None:
    descriptor = open_for_append(path)
    os.write(descriptor, content)
    os.close(descriptor)


@given(st.text())
def test_any_models_name_becomes_a_safe_directory(model: str) -> None:
    name = slug(model.encode("utf-8", "ignore").decode())
    assert len(name) <= 71
    assert name[0] not in ".-"
    assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


def test_models_that_look_the_same_have_different_directories() -> None:
    assert slug("a/b") != slug("a-b")
    assert slug("a/b").startswith("a-b-")


def test_logs_are_the_users_alone(tmp_path: Path) -> None:
    path = LogStore(tmp_path).create("org/model", 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_bytes() == b""


def test_the_newest_generations_of_a_model_are_kept(tmp_path: Path) -> None:
    logs = LogStore(tmp_path, keep=3)
    other = logs.create("other", 1)
    paths = [logs.create("model", generation) for generation in range(1, 6)]
    assert [path.exists() for path in paths] == [False, False, True, True, True]
    assert other.exists()


def test_of_logs_that_were_made_at_once_the_higher_generations_are_kept(tmp_path: Path) -> None:
    logs = LogStore(tmp_path, keep=10)
    paths = [logs.create("model", generation) for generation in range(1, 10)]
    for path in paths:
        os.utime(path, (1, 1))
    new = LogStore(tmp_path, keep=3).create("model", 10)
    assert [path.exists() for path in (*paths, new)] == [False] * 7 + [True] * 3


def test_the_newest_are_kept_although_an_earlier_service_counted_further(tmp_path: Path) -> None:
    old = [LogStore(tmp_path, keep=2).create("model", generation) for generation in (40, 41)]
    for age, path in enumerate(reversed(old), start=1):
        os.utime(path, (-age, -age))
    new = LogStore(tmp_path, keep=2).create("model", 1)
    assert [path.exists() for path in (*old, new)] == [False, True, True]


def test_a_log_of_an_earlier_service_with_the_same_number_is_replaced(tmp_path: Path) -> None:
    append(LogStore(tmp_path).create("model", 1), b"old")
    assert last_lines(LogStore(tmp_path).create("model", 1)) == ()


def test_a_log_is_never_made_through_a_link(tmp_path: Path) -> None:
    target = written(tmp_path / "target", b"precious")
    path = LogStore(tmp_path).create("model", 1)
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        open_for_append(path)
    LogStore(tmp_path).create("model", 1)
    assert target.read_bytes() == b"precious"


def test_the_last_lines_come_oldest_first_and_without_empty_ones(tmp_path: Path) -> None:
    path = written(tmp_path / "log", b"one\n\ntwo\r\nthree\n   \n")
    assert last_lines(path, 2) == ("two", "three")


def test_what_was_written_without_an_end_of_line_counts(tmp_path: Path) -> None:
    assert last_lines(written(tmp_path / "log", b"one\ntwo"), 5) == ("one", "two")


def test_a_log_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "none") == ()


def test_neither_a_link_nor_a_pipe_in_the_place_of_a_log_is_read_or_cut(tmp_path: Path) -> None:
    mine = written(tmp_path / "mine", b"line\n" * 1000)
    link, pipe = tmp_path / "link.log", tmp_path / "pipe.log"
    link.symlink_to(mine)
    os.mkfifo(pipe)
    assert last_lines(link) == last_lines(pipe) == ()
    with pytest.raises(OSError, match="symbolic links"):
        trim_file(link, 100)
    assert not trim_file(pipe, 100)
    assert mine.read_bytes() == b"line\n" * 1000


def test_only_the_end_of_a_large_log_is_read_and_its_torn_line_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "log", b"a" * TAIL_BYTES + b"\nlast\n")
    assert last_lines(path) == ("last",)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07text", "text"),
        (b"10%\r 50%\r100%", "100%"),
        (b"a\x00b\x07c", "a\ufffdb\ufffdc"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("left\u202eright".encode(), "left\ufffdright"),
        (b"tab\there", "tab here"),
        (b"x" * 600, "x" * 499 + "…"),
    ],
)
def test_a_line_is_safe_to_show(tmp_path: Path, raw: bytes, shown: str) -> None:
    assert last_lines(written(tmp_path / "log", raw)) == (shown,)


@given(st.binary(max_size=300))
def test_no_bytes_make_a_line_unsafe(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        lines = last_lines(written(Path(file.name), content))
    assert all(
        unicodedata.category(character) not in {"Cc", "Cf", "Cs"}
        for line in lines
        for character in line
    )


def test_a_log_is_cut_to_its_newer_half_at_a_line(tmp_path: Path) -> None:
    lines = [b"line %04d\n" % number for number in range(1000)]
    path = written(tmp_path / "log", b"".join(lines))
    assert trim_file(path, 5000)
    assert content(path) == b"".join(lines[-249:])
    assert not trim_file(path, 5000)


def test_a_writer_goes_on_at_the_end_of_a_log_that_was_cut(tmp_path: Path) -> None:
    path = written(tmp_path / "log", b"")
    descriptor = open_for_append(path)
    os.write(descriptor, b"old\n" * 1000)
    trim_file(path, 100)
    os.write(descriptor, b"new\n")
    os.close(descriptor)
    assert content(path) == b"old\n" * 12 + b"new\n"


def test_only_live_logs_are_looked_after_and_a_last_time_at_their_end(tmp_path: Path) -> None:
    logs = LogStore(tmp_path, max_bytes=1000)
    path = logs.create("model", 1)
    append(path, b"x\n" * 1000)
    logs.release(path)
    assert len(content(path)) < 1000
    append(path, b"x\n" * 1000)
    logs.trim()
    assert len(content(path)) > 1000


def test_a_log_that_vanished_does_not_disturb_the_others(tmp_path: Path) -> None:
    logs = LogStore(tmp_path, max_bytes=1000)
    logs.create("gone", 1).unlink()
    path = logs.create("model", 1)
    append(path, b"x\n" * 1000)
    logs.trim()
    assert len(content(path)) < 1000


def test_on_a_full_disk_logs_are_cut_to_their_tails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = LogStore(tmp_path)
    path = logs.create("model", 1)
    append(path, b"x\n" * TAIL_BYTES * 2)
    logs.trim()
    assert path.stat().st_size == 4 * TAIL_BYTES
    monkeypatch.setattr(LogStore, "_has_free_space", lambda self: False)
    logs.trim()
    assert len(content(path)) < TAIL_BYTES


async def test_the_janitor_trims_until_it_is_cancelled(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    trimmed = asyncio.Queue[None]()

    class Watched(LogStore):
        def trim(self) -> None:
            super().trim()
            loop.call_soon_threadsafe(trimmed.put_nowait, None)

    logs = Watched(tmp_path, max_bytes=1000, trim_interval=0.01)
    janitor = asyncio.create_task(logs.run_janitor())
    path = logs.create("model", 1)
    for _ in range(3):
        append(path, b"x\n" * 1000)
        while len(content(path)) >= 1000:
            await trimmed.get()
    janitor.cancel()
    with pytest.raises(asyncio.CancelledError):
        await janitor


@pytest.mark.parametrize("is_full", [False, True])
def test_logs_are_trimmed_after_writes_once_the_growth_permits_and_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    steps = list[tuple[str, float]]()
    written = iter([True, False, True])

    class Ended(threading.Event):
        def is_set(self) -> bool:
            return [step for step, _ in steps].count("writes") >= 3

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            steps.append(("growth", timeout))
            return False

    def wait(_paths: object, timeout: float) -> bool:
        steps.append(("writes", timeout))
        return next(written)

    logs = LogStore(tmp_path, max_bytes=1000, trim_interval=7)
    monkeypatch.setattr(Growth, "measure", lambda *_: 0.5)
    monkeypatch.setattr(logs, "_has_free_space", lambda: not is_full)
    monkeypatch.setattr(logs, "trim", lambda: steps.append(("trim", 0)))
    with Writes() as writes:
        monkeypatch.setattr(writes, "wait", wait)
        logs._trim_until(writes, Ended())
    one = [("writes", 7), ("growth", 0.5), ("trim", 0)]
    quiet = [("writes", 7), *([("trim", 0)] if is_full else [])]
    assert steps == one + quiet + one


def test_logs_are_trimmed_each_minute_though_no_write_is_notified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = list[str]()
    clock = [0.0]

    class Ended(threading.Event):
        def is_set(self) -> bool:
            return "trim" in steps

    def wait(_paths: object, timeout: float) -> bool:
        steps.append("wait")
        clock[0] += timeout
        return False

    logs = LogStore(tmp_path, max_bytes=1000, trim_interval=20)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(logs, "trim", lambda: steps.append("trim"))
    with Writes() as writes:
        monkeypatch.setattr(writes, "wait", wait)
        logs._trim_until(writes, Ended())
    assert steps == ["wait", "wait", "wait", "trim"]


def test_a_log_is_watched_once_its_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = LogStore(tmp_path)
    was_there = list[bool]()
    with Writes() as writes:
        logs._writes = writes
        path = logs.path_of("model", 1)
        monkeypatch.setattr(writes, "wake", lambda: was_there.append(path.exists()))
        logs.create("model", 1)
    assert was_there[-1]


def test_the_logs_of_the_models_that_ran_last_are_kept(tmp_path: Path) -> None:
    logs = LogStore(tmp_path, keep_models=3)
    paths = [logs.create(f"model{number}", 1) for number in range(3)]
    for age, path in enumerate(reversed(paths), start=1):
        logs.release(path)
        for changed in (path, path.parent):
            os.utime(changed, (-age, -age))
    logs.create("new", 1)
    assert [path.parent.exists() for path in paths] == [False, True, True]


def test_the_logs_of_living_processes_are_kept_however_many_and_old(tmp_path: Path) -> None:
    logs = LogStore(tmp_path, keep_models=2)
    paths = [logs.create(f"model{number}", 1) for number in range(5)]
    for path in paths[:3]:
        os.utime(path, (0, 0))
        os.utime(path.parent, (0, 0))
    logs.release(paths[4])
    logs.create("new", 1)
    assert [path.exists() for path in paths] == [True, True, True, True, False]


def test_a_log_that_is_being_made_is_kept_though_others_are_made_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LogStore(tmp_path, keep_models=1)
    claim_block = logs._claim_block

    def meanwhile(path: Path) -> None:
        if path == store.path_of("first", 1):
            store.create("second", 1)
        claim_block(path)

    monkeypatch.setattr(logs, "_claim_block", meanwhile)
    assert store.create("first", 1).exists()


def test_a_log_that_could_not_be_made_counts_when_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk was full; by then its directory was there."""

    def full(_path: Path) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = LogStore(tmp_path, keep_models=1)
    old = store.create("old", 1)
    store.release(old)
    with monkeypatch.context() as patch:
        patch.setattr(logs, "_claim_block", full)
        with pytest.raises(OSError, match="No space"):
            store.create("new", 1)
    store.create("new", 2)
    assert not old.exists()


def test_what_is_no_log_is_never_removed(tmp_path: Path) -> None:
    logs = LogStore(tmp_path, keep_models=1)
    path = logs.create("model", 1)
    notes = written(path.parent / "notes", b"mine")
    logs.release(path)
    logs.create("new", 1)
    assert (path.exists(), notes.exists()) == (False, True)


def test_that_a_log_was_cut_is_logged_but_not_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    store = LogStore(tmp_path, max_bytes=1000)
    path = store.create("model", 1)
    with capture_logs() as told:
        for later in (0.0, 1.0, 59.0, 1.0):
            now += later
            append(path, b"x\n" * 10_000)
            store.trim()
    assert [(line["event"], line["path"]) for line in told] == [
        ("trimmed a log that was too large", str(path))
    ] * 2
    store.release(path)
    assert store._warned_at == {}


def test_a_log_that_cannot_be_cut_is_logged(tmp_path: Path) -> None:
    store = LogStore(tmp_path, max_bytes=1000)
    path = store.create("model", 1)
    path.unlink()
    path.symlink_to(written(tmp_path / "mine", b"x" * 5000))
    with capture_logs() as told:
        store.trim()
    assert [line["event"] for line in told] == ["cannot trim a log"]


def test_a_log_that_is_no_longer_than_it_may_be_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LogStore(tmp_path, max_bytes=1000)
    append(store.create("model", 1), b"x" * 1000)
    monkeypatch.setattr(logs, "trim_file", None)
    store.trim()


@pytest.mark.parametrize(("free", "has_room"), [(999, False), (1000, False), (1001, True)])
def test_a_disk_has_room_for_more_than_one_log(
    tmp_path: Path, free: int, has_room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    assert LogStore(tmp_path, max_bytes=1000)._has_free_space() is has_room


def test_where_the_room_is_not_known_there_is_some(tmp_path: Path) -> None:
    assert LogStore(tmp_path / "gone")._has_free_space()


def test_a_full_disk_that_has_room_again_leaves_the_other_logs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False, False, True])
    monkeypatch.setattr(LogStore, "_has_free_space", lambda _: next(answers))
    store = LogStore(tmp_path)
    paths = [store.create(f"model{number}", 1) for number in range(3)]
    for path in paths:
        append(path, b"x\n" * 2 * TAIL_BYTES)
    store.trim()
    assert sorted(len(content(path)) < 2 * TAIL_BYTES for path in paths) == [False, False, True]


def test_only_what_has_the_form_of_a_log_is_one(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    assert store.is_log_path(store.path_of("model", 1))
    assert not store.is_log_path(store.path_of("model", 1).with_suffix(".txt"))
    assert not store.is_log_path(tmp_path / "model" / "1.log")
    assert not store.is_log_path(store.path_of("model", 1).parent / "below" / "1.log")


def test_the_log_of_a_process_that_did_not_start_is_removed(tmp_path: Path) -> None:
    store = LogStore(tmp_path, max_bytes=1000)
    path = store.create("model", 1)
    store.remove(path)
    assert not path.exists()
    store.remove(path)
    append(written(path, b""), b"x\n" * 1000)
    store.trim()
    assert path.stat().st_size == 2000, "nobody looks after it any more"
