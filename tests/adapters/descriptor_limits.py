"""The limits of open files of other processes, which only Linux tells."""

import resource
import sys


def descriptor_limits(pid: int) -> tuple[int, int]:
    """Return the soft and the hard limit of open files of a process. Linux only."""
    if sys.platform == "linux":
        return resource.prlimit(pid, resource.RLIMIT_NOFILE)
    raise NotImplementedError
