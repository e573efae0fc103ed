"""Reads Linux's files of the system; of a process quickly enough to ask every process there is."""

import os
from pathlib import Path

from pool_service.adapters.system.os_errors import raise_shortage

_CHUNK = 64 * 1024
"""More than a usual environment, so that it is read as it is at one moment."""


def read(path: str) -> bytes:
    """All that is in a file of /proc. Raises OSError.

    Half of what `Path.read_bytes` takes, which asks first what kind of file it is.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(descriptor, _CHUNK), b""))
    finally:
        os.close(descriptor)


def text_of(file: Path) -> str:
    """Return the text of a file of the system, or "" where there is none that can be read.

    Raises OSError where no descriptor or memory is left to look: that is no answer.
    """
    try:
        return file.read_text()
    except OSError as error:
        raise_shortage(error)
    except ValueError:
        pass
    return ""
