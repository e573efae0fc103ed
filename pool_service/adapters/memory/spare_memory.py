"""Release of memory that the C allocator of a service or a front keeps after a peak.

The memory of tens of thousands of concurrent calls is freed in many small pieces, which the
allocator would keep as long as the service runs, at the expense of the models.
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
"""Between two samples of the service's memory, each some 20 microseconds."""

MAX_PAUSE_S = 300.0
"""The longest pause after releases that freed nothing, as the memory is in use."""

WORTHWHILE_BYTES = 32 * 1024 * 1024
"""Growth since the lowest sample, below which no release is tried."""


async def give_back_spare_memory(
    resident: Callable[[], int] | None = None,
    release: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Release spare memory whenever the service has grown, until the task is cancelled.

    resident: returns the resident bytes of this process. release: releases spare memory.
    """
    resident = resident or _resident
    release = release or partial(asyncio.to_thread, releaser())
    lowest, pause = math.inf, PAUSE_S
    while True:
        last_pause, pause = pause, PAUSE_S
        # Without a free descriptor there is no sample now; the next one may succeed.
        with suppress(OSError):
            before = resident()
            lowest = min(lowest, before)
            if before - lowest >= WORTHWHILE_BYTES:
                await release()
                if before - resident() < WORTHWHILE_BYTES:
                    pause = min(2 * last_pause, MAX_PAUSE_S)
        await asyncio.sleep(pause)


def releaser() -> Callable[[], object]:
    """Return the system's function that releases spare memory; one without effect if unknown."""
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
