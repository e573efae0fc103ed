"""Processor time of processes."""

from collections.abc import Iterable
from contextlib import suppress

import psutil


def processor_seconds(pids: Iterable[int]) -> float:
    """Return the processor seconds of these processes, and of their children that have ended.

    On macOS the children are not counted.
    """
    used = 0.0
    for pid in pids:
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            used += times.user + times.system + times.children_user + times.children_system
    return used
