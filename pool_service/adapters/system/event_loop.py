"""Helpers that keep the event loop free: worker threads, and a reader of programs' output."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

MAX_WORKERS = min(32, (os.cpu_count() or 1) + 4)
"""The default number of threads of asyncio's executor."""


def running_workers(count: int = MAX_WORKERS) -> ThreadPoolExecutor:
    """Return an executor whose threads all run already, so that it never has to start one.

    An executor that must start a thread raises an error if the system permits none, and yet may run
    the submitted work later: it would start a process that nobody waits for. If the system permits
    fewer than `count` threads, there are fewer. Raises RuntimeError if it permits none.
    """
    executor = ThreadPoolExecutor(count, thread_name_prefix="worker")
    gate, running = threading.Event(), 0
    try:
        # Each thread is busy until all run, so that the next task needs another thread.
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


MAX_LINE_BYTES = 64 * 1024
"""The length of the longest line that is held until its end; of a longer one only the end is kept.
Without a limit, output without newlines would fill the memory."""

_CHUNK_BYTES = 16 * 1024


async def lines_of(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield each line of a program's output without its newline; let other tasks run meanwhile."""
    held = b""
    while chunk := await stream.read(_CHUNK_BYTES):
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            yield line
        held = held[-MAX_LINE_BYTES:]
        # Reading available data does not wait, so that other tasks would not run.
        await asyncio.sleep(0)
    if held:
        yield held
