"""Claims about the memory that the allocator of C keeps: when it is given back, in virtual time."""

import asyncio
import ctypes
import errno
from contextlib import suppress
from itertools import pairwise

import psutil
import pytest

from pool_service.adapters.memory.spare_memory import (
    MAX_PAUSE_S,
    PAUSE_S,
    WORTHWHILE_BYTES,
    give_back_spare_memory,
    releaser,
)

HOUR = 3600.0


class Allocator:
    """A process that takes memory, of which `spare` bytes can be released."""

    def __init__(self) -> None:
        self.taken = 2 * WORTHWHILE_BYTES
        self.spare = 0
        self.released_at: list[float] = []

    def resident(self) -> int:
        return self.taken

    async def release(self) -> None:
        self.released_at.append(asyncio.get_running_loop().time())
        self.taken -= self.spare
        self.spare = 0

    def grow(self, size: int, *, spare: bool) -> None:
        self.taken += size
        self.spare += size if spare else 0


@pytest.fixture
def allocator() -> Allocator:
    return Allocator()


async def kept(allocator: Allocator, seconds: float) -> None:
    """Give back spare memory for so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await give_back_spare_memory(allocator.resident, allocator.release)


@pytest.mark.looptime
async def test_memory_that_is_spare_is_given_back_within_the_pause(allocator: Allocator) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(kept(allocator, HOUR))
        await asyncio.sleep(PAUSE_S / 2)
        allocator.grow(20 * WORTHWHILE_BYTES, spare=True)
        await asyncio.sleep(PAUSE_S)
        assert allocator.taken == 2 * WORTHWHILE_BYTES
    assert len(allocator.released_at) == 1


@pytest.mark.looptime
async def test_a_service_that_stays_small_is_left_alone(allocator: Allocator) -> None:
    allocator.grow(WORTHWHILE_BYTES - 1, spare=True)
    await kept(allocator, HOUR)
    assert allocator.released_at == []


@pytest.mark.looptime
async def test_memory_that_is_in_use_is_asked_for_ever_more_rarely(allocator: Allocator) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(kept(allocator, HOUR))
        await asyncio.sleep(0)
        allocator.grow(20 * WORTHWHILE_BYTES, spare=False)
    assert 0 < len(allocator.released_at) < 2 * HOUR / MAX_PAUSE_S


@pytest.mark.process
def test_what_was_freed_in_small_pieces_is_given_back_to_the_system() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = (ctypes.c_void_p,)
    pieces = [libc.malloc(4096) for _ in range(20_000)]
    for piece in pieces:
        ctypes.memset(piece, 1, 4096)
    for piece in pieces[:-1]:
        libc.free(piece)
    before = psutil.Process().memory_info().rss
    releaser()()
    assert before - psutil.Process().memory_info().rss > WORTHWHILE_BYTES
    libc.free(pieces[-1])


@pytest.mark.looptime
async def test_a_look_without_a_descriptor_is_made_again(allocator: Allocator) -> None:
    looks = 0

    def resident() -> int:
        nonlocal looks
        looks += 1
        if looks <= 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return allocator.taken

    with suppress(TimeoutError):
        async with asyncio.timeout(HOUR):
            await give_back_spare_memory(resident, allocator.release)
    assert looks >= HOUR / PAUSE_S


@pytest.mark.looptime
async def test_each_release_that_frees_nothing_doubles_the_pause_up_to_the_longest(
    allocator: Allocator,
) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(kept(allocator, HOUR))
        await asyncio.sleep(0)
        allocator.grow(20 * WORTHWHILE_BYTES, spare=False)
    times = allocator.released_at
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[:7] == pytest.approx([20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0])
