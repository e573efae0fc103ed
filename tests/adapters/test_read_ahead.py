"""Claims about asking for the pages of files ahead of a load."""

import ctypes
import mmap
import os
import queue
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pool_service.adapters.read_ahead import CHUNK, ReadAhead, advise, radvisory
from pool_service.adapters.runtime import RuntimeOptions
from pool_service.adapters.runtimes import Runtimes
from pool_service.core.types import Settings

Asked = list[tuple[int, int]]


@pytest.fixture
def asked() -> Asked:
    return []


@pytest.fixture
def reads(asked: Asked) -> Callable[[int], ReadAhead]:
    def with_memory(available: int) -> ReadAhead:
        return ReadAhead(lambda: available, lambda _, *part: asked.append(part))

    return with_memory


def sized(directory: Path, name: str, size: int) -> Path:
    path = directory / name
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_file_is_asked_for_whole_in_parts_that_the_system_takes(
    tmp_path: Path, reads: Callable[[int], ReadAhead], asked: Asked
) -> None:
    reads(100 * CHUNK).read([sized(tmp_path, "a", 2 * CHUNK + 5)])
    assert asked == [(0, CHUNK), (CHUNK, CHUNK), (2 * CHUNK, 5)]


def test_no_more_is_asked_for_than_half_of_the_memory_has_room_for(
    tmp_path: Path, reads: Callable[[int], ReadAhead], asked: Asked
) -> None:
    files = [sized(tmp_path, name, 3 * CHUNK) for name in "abc"]
    reads(8 * CHUNK).read(files)
    assert asked == [(0, CHUNK), (CHUNK, CHUNK), (2 * CHUNK, CHUNK), (0, CHUNK)]


def test_a_file_that_is_gone_is_passed_over(
    tmp_path: Path, reads: Callable[[int], ReadAhead], asked: Asked
) -> None:
    reads(100 * CHUNK).read([tmp_path / "gone", sized(tmp_path, "b", 1)])
    assert asked == [(0, 1)]


def test_who_begins_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    is_read, may_read = threading.Event(), threading.Event()

    def slow(*_: int) -> None:
        may_read.wait()
        is_read.set()

    ReadAhead(lambda: CHUNK * 4, slow).begin([sized(tmp_path, "a", 1)])
    assert not is_read.is_set()
    may_read.set()
    assert is_read.wait(30)


async def test_what_a_start_will_load_is_asked_for_and_an_appraisal_asks_for_nothing(
    tmp_path: Path,
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (model / name).write_text("{}")
    sized(model, "model.safetensors", 7)
    asked: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    ahead = ReadAhead(lambda: 100 * CHUNK, lambda _, *part: asked.put(part))
    options = RuntimeOptions(data_dir=tmp_path, command=("/bin/sh", "{runtime_model}"))
    runtimes = Runtimes({"": options}, tmp_path, read_ahead=ahead)
    await runtimes.appraise("m", Settings(str(model)))
    assert asked.empty()
    await runtimes.prepare("m", Settings(str(model)))
    assert asked.get(timeout=30) == (0, 7)


def test_macos_is_told_the_part_as_its_structure_has_it() -> None:
    assert radvisory(1 << 40, CHUNK) == struct.pack("=q", 1 << 40) + struct.pack("=i", CHUNK) + (
        b"\0" * 4
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is in memory")
def test_what_was_asked_for_comes_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(8 * CHUNK))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        before = resident(descriptor)
        if before:
            pytest.skip("this file system keeps its files in memory")
        for offset in range(0, 8 * CHUNK, CHUNK):
            advise(descriptor, offset, CHUNK)
        while resident(descriptor) < 8 * CHUNK:
            pass
    finally:
        os.close(descriptor)


def resident(descriptor: int) -> int:
    """Bytes of a file that are in memory, as mincore(2) has it."""
    size = os.fstat(descriptor).st_size
    pages = size // mmap.PAGESIZE
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ | mmap.PROT_WRITE, flags=2) as view:
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        found = (ctypes.c_ubyte * pages)()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), found) != 0:
            raise OSError(ctypes.get_errno(), "mincore")
    return sum(page & 1 for page in found) * mmap.PAGESIZE
