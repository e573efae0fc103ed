"""Signals that do not wake the main thread."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def signal_taken_by_another_thread(waits_in: str) -> Iterator[None]:
    """Let the kernel give SIGINT to another thread, once the main one waits in a function.

    The main thread is not woken, as by a signal that arrives just before its wait begins.
    """
    ended = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def take() -> None:
        while not (ended.is_set() or waits_in in _functions(main)):
            time.sleep(0.001)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _functions(thread: int) -> Iterator[str]:
    """Yield the names of the functions in which a thread is."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        yield frame.f_code.co_name
        frame = frame.f_back
