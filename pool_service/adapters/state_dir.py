"""The state directory and its one holder.

The lock is a `flock` on a file that stays: the kernel lets go of it with the holder's
last descriptor, whatever ended the holder. What is written in the file only tells others
who holds it.
"""

import errno
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pool_service.adapters.lock_note import write_note

LOCK = "lock"

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ADVICE = "choose another --state-dir"
# What a holder writes is far smaller.
_LARGEST_NOTE = 64 * 1024


class StateDirError(Exception):
    """The state directory cannot be used; the message says why and what to do."""


class StateDirHeld(StateDirError):
    """Another process uses it at present; `serving_pid` if it is a service that listens."""

    def __init__(self, message: str, serving_pid: int | None = None) -> None:
        super().__init__(message)
        self.serving_pid = serving_pid


class StateDirUnwritable(StateDirError):
    """The system refuses: no such disk, no room, no permission."""


class StateDir:
    """A state directory that only this process uses, from construction until `close`.

    Raises StateDirHeld if another process uses it, which then is named and undisturbed,
    StateDirUnwritable if it cannot be made or written, StateDirError if it is open to others.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _make(path)
        # First of all: where there is no room for more, a holder is one all the same.
        self._lock = _locked(path)
        try:
            self.announce(())
            _try_to_write(path)
        except BaseException:
            self.close()
            raise

    def announce(self, addresses: Sequence[str], doing: str = "") -> None:
        """Tell a second service where this one listens, or what it is `doing` and what to do."""
        note = {"pid": os.getpid(), "addresses": list(addresses), "doing": doing}
        try:
            write_note(self._lock, json.dumps(note).encode())
        except OSError as error:
            raise _unusable(self.path, error) from error

    def close(self) -> None:
        """Let another service have it. Once is enough, twice does no harm."""
        if self._lock >= 0:
            descriptor, self._lock = self._lock, -1
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _make(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if status.st_uid != os.geteuid():
            raise StateDirError(
                f"the state directory {path} belongs to another user (uid {status.st_uid}), "
                f"who could change what the service relies on; {_ADVICE}"
            )
        if status.st_mode & _OTHERS_MAY_WRITE:
            raise StateDirError(
                f"other users can write to the state directory {path}, and so change what the "
                f"service relies on; chmod go-w it, or {_ADVICE}"
            )
    except FileExistsError as error:
        raise StateDirError(f"the state directory {path} is a file; {_ADVICE}") from error
    except OSError as error:
        raise _unusable(path, error) from error


def _try_to_write(path: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"x")
    except OSError as error:
        raise _unusable(path, error) from error


def _locked(path: Path) -> int:
    """A descriptor that holds the lock; no child inherits it."""
    descriptor = _opened(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held = _refusal(path, descriptor)
        os.close(descriptor)
        raise held from None
    except OSError as error:
        os.close(descriptor)
        raise StateDirError(
            f"the file system of the state directory {path} has no locks ({error.strerror}); "
            f"{_ADVICE} on a local disk"
        ) from error
    return descriptor


def _opened(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path / LOCK, flags, mode=0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StateDirError(
                f"{path / LOCK} is a symbolic link, which no pool-service made; remove it"
            ) from error
        raise _unusable(path, error) from error


def _refusal(path: Path, descriptor: int) -> StateDirHeld:
    """Who holds the lock and why, as far as the note in it can be read."""
    try:
        note = json.loads(os.pread(descriptor, _LARGEST_NOTE, 0))
        pid, addresses = int(note["pid"]), [str(address) for address in note["addresses"]]
        doing = str(note.get("doing", ""))
    except (OSError, ValueError, LookupError, TypeError):
        return StateDirHeld(f"another pool-service uses {path}; stop it or {_ADVICE}")
    if doing:
        return StateDirHeld(f"the state directory {path} is in use: pid {pid} {doing}")
    where = f", listening on {', '.join(addresses)}" if addresses else ""
    return StateDirHeld(
        f"another pool-service (pid {pid}{where}) uses {path}; stop it or {_ADVICE}",
        serving_pid=pid if addresses else None,
    )


def _unusable(path: Path, error: OSError) -> StateDirUnwritable:
    return StateDirUnwritable(
        f"the state directory {path} cannot be used: {error.strerror}; put that right or {_ADVICE}"
    )
