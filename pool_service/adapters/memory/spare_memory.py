"""Gives memory back to the system that the allocator of C keeps for later.

What tens of thousands of calls took at once is freed in many small pieces. The allocator would
keep it for as long as the service lives, and the models beside it have to do without.
"""

import asyncio
import ctypes
import math
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import psutil

PAUSE_S = 10.0
"""Between two looks at what the service takes, each some 20 microseconds."""

LONGEST_PAUSE_S = 300.0
"""Where nothing was given back: what the service takes is in use."""

WORTHWHILE_BYTES = 32 * 1024 * 1024
"""Growth since the least that was seen, below which nothing is done."""


async def give_back_spare_memory(
    resident: Callable[[], int] | None = None,
    release: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Release spare memory whenever the service has grown, until the task is cancelled."""
    resident = resident or _resident
    release = release or partial(asyncio.to_thread, releaser())
    least, pause = math.inf, PAUSE_S
    while True:
        last_pause, pause = pause, PAUSE_S
        # Where no descriptor is left to look there may be one at the next look.
        with suppress(OSError):
            before = resident()
            least = min(least, before)
            if before - least >= WORTHWHILE_BYTES:
                await release()
                if before - resident() < WORTHWHILE_BYTES:
                    pause = min(2 * last_pause, LONGEST_PAUSE_S)
        await asyncio.sleep(pause)


def releaser() -> Callable[[], object]:
    """Return what releases spare memory on this system; it does nothing where that is not known."""
    libc = ctypes.CDLL(None)
    if sys.platform == "darwin":
        relief = libc.malloc_zone_pressure_relief
        relief.argtypes, relief.restype = (ctypes.c_void_p, ctypes.c_size_t), ctypes.c_size_t
        return partial(relief, None, 0)
    if hasattr(libc, "malloc_trim"):
        trim = libc.malloc_trim
        trim.argtypes, trim.restype = (ctypes.c_size_t,), ctypes.c_int
        return partial(trim, 0)
    return lambda: None


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)
