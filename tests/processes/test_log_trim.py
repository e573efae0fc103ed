"""Logs that are cut while a process writes to them as fast as it can."""

import asyncio
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pool_service.adapters.logs import log_trim
from pool_service.adapters.logs.log_trim import trim_file
from pool_service.adapters.logs.logs import LogStore, last_lines, open_for_append
from tests.processes.test_spawn import limit

MAX_BYTES = 256 * 1024
BATCH, BATCHES = 4_600, 33
"""Of lines; a batch has 64 KB."""
LINES = BATCHES * BATCH + 1
BLOCK, BLOCKS = 256 * 1024, 4000

# Begins each batch when a byte or the end of its input comes, and tells when it has written it.
NUMBERED = f"""
import os
for n in range({LINES}):
    if n % {BATCH} == 0:
        os.read(0, 1)
    os.write(1, b"%08d line\\n" % n)
    if (n + 1) % {BATCH} == 0:
        os.write(2, b".")
"""
# The same for each block.
FLOOD = """
import os, time
block = (b"x" * 1023 + b"\\n") * 256
for _ in range({}):
    os.read(0, 1)
    os.write(1, block)
    os.write(2, b".")
    time.sleep({})
"""
AHEAD = 50
"""Blocks that it may write before the loop in which logs are looked at has its turn."""


@contextmanager
def writing(
    path: Path, program: str, told: int | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program that writes to a log; told: what its input and its errors are."""
    output = open_for_append(path)
    try:
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", program],
            bufsize=0,
            stdin=told,
            stdout=output,
            stderr=told,
        )
    finally:
        os.close(output)
    with process:
        yield process


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.touch()
    return path


def numbers(path: Path) -> list[int]:
    """Of the whole lines, in the order in which they stand there."""
    content = path.read_bytes().lstrip(b"\0")
    return [int(line[:8]) for line in content.split(b"\n")[:-1] if line.endswith(b"line")]


def on_disk(path: Path) -> int:
    return path.stat().st_blocks * 512


def cut_while_written(log: Path) -> int:
    """Look once at each batch, while the next is written, and not while the last line is."""
    with writing(log, NUMBERED, subprocess.PIPE) as writer:
        assert writer.stdin
        assert writer.stderr
        writer.stdin.write(b"..")
        cuts = 0
        for ahead in range(2, BATCHES + 2):
            assert writer.stderr.read(1) == b"."
            cuts += trim_file(log, MAX_BYTES)
            if ahead < BATCHES:
                writer.stdin.write(b".")
        writer.stdin.close()
    return cuts


@pytest.mark.skipif(sys.platform != "linux", reason="how holes are made elsewhere is not run here")
def test_no_line_is_lost_or_out_of_place_and_offsets_stay_true(log: Path) -> None:
    if not makes_holes(log):
        pytest.skip("the file system of the temporary directory makes no holes")
    assert cut_while_written(log) > 2
    kept = numbers(log)
    assert kept == list(range(kept[0], LINES))
    assert log.stat().st_size == LINES * len(b"00000000 line\n")
    assert on_disk(log) < 2 * MAX_BYTES
    assert last_lines(log)[-1] == f"{LINES - 1:08} line"


def makes_holes(log: Path) -> bool:
    log.write_bytes(b"x" * 4096 * 16)
    with log.open("r+b") as file:
        made = log_trim._try_punch(file.fileno(), 0, 4096 * 8)
        file.truncate(0)
    return made


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EINVAL])
def test_without_holes_a_later_line_never_stands_before_an_earlier_one(
    number: int, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _begin: int, _end: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(log_trim, "_punch", refuse)
    assert cut_while_written(log) > 2
    kept = numbers(log)
    assert kept == sorted(set(kept))
    assert kept[-1] == LINES - 1
    assert log.stat().st_size < 4 * MAX_BYTES


def test_a_log_comes_to_no_limit_on_the_length_of_files(log: Path) -> None:
    with limit(resource.RLIMIT_FSIZE, 4 * MAX_BYTES):
        assert cut_while_written(log) > 2
        assert numbers(log)[-1] == LINES - 1


async def test_what_a_flood_takes_of_the_disk_is_bounded_while_it_lasts(tmp_path: Path) -> None:
    most = await most_on_disk(tmp_path, FLOOD.format(BLOCKS, 0))
    assert most < BLOCKS * BLOCK / 2


async def test_it_is_bounded_too_where_the_system_reports_no_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool_service.adapters.logs.log_writes._notifications", lambda: None)
    most = await most_on_disk(tmp_path, FLOOD.format(200, 0.01))
    assert most < 200 * BLOCK / 2


async def most_on_disk(state_dir: Path, program: str) -> int:
    """What a log has taken of the disk at most while this wrote to it."""
    logs = LogStore(state_dir, max_bytes=MAX_BYTES)
    janitor = asyncio.create_task(logs.run_janitor())
    path = logs.create("flood", 1)
    most = 0
    with writing(path, program, subprocess.PIPE) as writer:
        assert writer.stdin
        assert writer.stderr
        os.set_blocking(writer.stderr.fileno(), False)
        written: bytes | None = b"." * AHEAD
        while writer.poll() is None:
            with suppress(BrokenPipeError):
                writer.stdin.write(written or b"")
            most = max(most, on_disk(path))
            await asyncio.sleep(0.001)
            written = writer.stderr.read(AHEAD)
    janitor.cancel()
    with suppress(asyncio.CancelledError):
        await janitor
    logs.release(path)
    assert on_disk(path) < 2 * MAX_BYTES
    return most


async def test_logs_to_which_nothing_is_written_are_not_checked(tmp_path: Path) -> None:
    looks = 0

    class Counted(LogStore):
        def trim(self) -> None:
            nonlocal looks
            looks += 1
            super().trim()

    logs = Counted(tmp_path)
    janitor = asyncio.create_task(logs.run_janitor())
    paths = [logs.create(f"quiet{number}", 1) for number in range(3)]
    await asyncio.sleep(0.5)
    assert looks <= len(paths) + 1
    janitor.cancel()
    with suppress(asyncio.CancelledError):
        await janitor
