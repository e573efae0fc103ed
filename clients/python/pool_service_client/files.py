"""Small files that a client is given: a token, a key, certificates."""

import os
import stat
from pathlib import Path
from shlex import quote

_MAX_BYTES = 1024 * 1024
_NOT_PRIVATE = stat.S_IWGRP | stat.S_IRWXO
"""The bits of a mode that let others use a secret or replace it. A group may read one."""


def path_of(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path; it may begin with `~`. Raises ValueError."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{str(path)!r} names a home directory that is not known") from error


def read(path: Path, name: str, content: str, *, is_secret: bool) -> tuple[os.stat_result, bytes]:
    """Return the status and the content of a file. Raises ValueError, which says what to do.

    name, content: what the file is and what it has, for the error.
    """
    try:
        with open(path, "rb", buffering=0, opener=_opened) as file:
            status = os.fstat(file.fileno())
            _check(path, name, content, status, is_secret=is_secret)
            return status, file.read(_MAX_BYTES)
    except OSError as error:
        raise ValueError(
            f"the {name} {path} cannot be read: {error.strerror}. Name a file that has the "
            f"{content}, and that you may read"
        ) from error


def _check(path: Path, name: str, content: str, status: os.stat_result, *, is_secret: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"the {name} {path} is no regular file: name one that has the {content}")
    if is_secret and status.st_mode & _NOT_PRIVATE:
        raise ValueError(
            f"the {name} {path} is not private, since others may read it or change it: "
            f"chmod 600 {quote(str(path))}"
        )
    if status.st_size > _MAX_BYTES:
        raise ValueError(
            f"the {name} {path} is larger than 1 MiB: name the file that has only the {content}"
        )


def _opened(path: str, flags: int) -> int:
    """Return the descriptor of an opened file, without waiting for the writer of a named pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
