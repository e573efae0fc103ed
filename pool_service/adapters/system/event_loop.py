"""What keeps the event loop free: worker threads, and a reader of programs' output."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

MOST_WORKERS = min(32, (os.cpu_count() or 1) + 4)
"""As many as an event loop takes by itself."""


def running_workers(count: int = MOST_WORKERS) -> ThreadPoolExecutor:
    """Return an executor whose threads all run already, so that it never has to start one.

    One that starts a thread when it is first needed raises where the system allows no more,
    and yet does later what it was given: a process would be started that nobody waits for. Where
    not even `count` are allowed now, there are fewer. Raises RuntimeError where there is none.
    """
    executor = ThreadPoolExecutor(count, thread_name_prefix="worker")
    gate, running = threading.Event(), 0
    try:
        # Each is busy until all are there, so that the next one needs another thread.
        for _ in range(count):
            executor.submit(gate.wait)
            running += 1
    except RuntimeError:
        if not running:
            raise
    finally:
        gate.set()
    if running == count:
        return executor
    executor.shutdown()
    return running_workers(running)


LONGEST_LINE = 64 * 1024
"""Bytes. Of a longer line the beginning is lost, since nobody knows where it ends."""

_CHUNK = 16 * 1024


async def lines_of(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield each line without its end; after each chunk others have their turn."""
    held = b""
    while chunk := await stream.read(_CHUNK):
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            yield line
        held = held[-LONGEST_LINE:]
        # What is there already is read without waiting.
        await asyncio.sleep(0)
    if held:
        yield held
