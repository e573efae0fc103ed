"""The threads that do what would hold up the event loop."""

import os
import threading
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
