"""The state directory and its lock: one process holds it at a time.

The lock is a `flock` on
1. the directory itself, which works even if nothing can be written;
2. a file in it with a note about the holder. Older versions lock this file alone.

The kernel releases both with the holder's last descriptor, however the holder ended.
"""

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pool_service.adapters.state_dir.holder import LOCK, NO_LOCK_ERRNOS, read_note
from pool_service.adapters.system.os_errors import explain
from pool_service.adapters.system.own_files import (
    SET_ASIDE,
    NotOurs,
    open_own,
    write_note,
)
from pool_service.adapters.system.writers import first_flaw

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ADVICE = "choose another --state-dir"
_HELD_ADVICE = f"stop it, take over from it with --replace, or {_ADVICE}"


class StateDirError(Exception):
    """The state directory cannot be used; the message says why and what to do."""


class StateDirHeld(StateDirError):
    """Another process holds the state directory.

    serving_pid: the pid in the holder's note, if the note is of a service that listens.
    guard_pid: the pid in the note, if it is of a guard that stops servers.

    The note may be that of an earlier holder.
    """

    def __init__(
        self, message: str, serving_pid: int | None = None, guard_pid: int | None = None
    ) -> None:
        super().__init__(message)
        self.serving_pid = serving_pid
        self.guard_pid = guard_pid


class StateDirUnwritable(StateDirError):
    """The system refuses to make or open the directory."""


class StateDir:
    """A state directory held by this process, from construction until `close`.

    It is held even if nothing can be written, as an earlier service's servers need a service more
    than records. `degraded_reason` says why nothing can be written; empty if all is well.

    Raises:
        StateDirHeld: another process holds it; the message names it.
        StateDirUnwritable: it cannot be made or opened.
        StateDirError: other users can write to it, or it cannot be locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.degraded_reason = ""
        self._claim = -1
        make_directory(path)
        self._locks, self._note, self.degraded_reason = _take_locks(path)
        self.announce(())

    def announce(
        self, addresses: Sequence[str], doing: str = "", *, is_ending: bool = False
    ) -> None:
        """Write the note that a second service reads: the addresses, or what this holder does.

        addresses: where this service listens; empty if it does not listen yet.
        doing: what this process does if it is not a service: the rest of a sentence after its pid.
        is_ending: it is a service that ends.
        """
        if self._note is None:
            return
        note = {"pid": os.getpid(), "addresses": list(addresses), "doing": doing}
        if is_ending:
            note["is_ending"] = True
        try:
            write_note(self._note, json.dumps(note).encode())
        except OSError as error:
            self.degraded_reason = _note_trouble(self.path, error)

    def keep_claim(self, descriptor: int) -> None:
        """Keep the claim of a takeover until `release_claim`.

        descriptor: the locked descriptor of the claim's file; closed on release.
        """
        self._claim = descriptor

    def release_claim(self) -> None:
        """Release the claim, as this service serves: the replaced one need not serve again."""
        descriptor, self._claim = self._claim, -1
        if descriptor >= 0:
            os.close(descriptor)

    def close(self) -> None:
        """Release the state directory. A second call does nothing."""
        self.release_claim()
        locks, self._locks, self._note = self._locks, (), None
        for descriptor in locks:
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


def await_free(path: Path) -> None:
    """Wait until no process holds the state directory.

    Raises OSError if it cannot be opened or locked.
    """
    directory = _open_directory(path)
    try:
        fcntl.flock(directory, fcntl.LOCK_SH)
    finally:
        os.close(directory)


def make_directory(path: Path) -> None:
    """Make a state directory, unless it is there.

    Raises StateDirError if it cannot be made, or if other users could change what is in it.
    """
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
        found = first_flaw([path.absolute()])
        if found is not None:
            raise StateDirError(
                f"other users could put another directory in the place of the state directory "
                f"{path}: {found}, or {_ADVICE}"
            )
    except FileExistsError as error:
        raise StateDirError(f"the state directory {path} is a file; {_ADVICE}") from error
    except OSError as error:
        raise _unusable_error(path, error) from error


def _take_locks(path: Path) -> tuple[tuple[int, ...], int | None, str]:
    """Take both locks; return their descriptors, the note's descriptor and why there is no note.

    The note's descriptor is None if the lock file cannot be opened; the reason is "" if the note
    can be written. No child inherits the descriptors.
    """
    with contextlib.ExitStack() as undo:
        try:
            directory = _open_directory(path)
        except OSError as error:
            raise _unusable_error(path, error) from error
        undo.callback(os.close, directory)
        # One of the two locks suffices, where the file system refuses the other.
        directory_error = _try_lock(path, directory)
        file, why_no_note = _open_lock_file(path, is_ours=directory_error is None)
        if file is None:
            if directory_error is not None:
                raise _no_locks_error(path, directory_error) from directory_error
            undo.pop_all()
            return (directory,), None, why_no_note
        undo.callback(os.close, file)
        file_error = _try_lock(path, file)
        if directory_error and file_error:
            raise _no_locks_error(path, file_error) from file_error
        undo.pop_all()
    return (directory, file), file, why_no_note


def _open_directory(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _try_lock(path: Path, descriptor: int) -> OSError | None:
    """Lock a descriptor; return the error if the file system cannot lock it, else None.

    Raises StateDirHeld if another process has the lock.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _held_error(path) from None
    except OSError as error:
        return error
    return None


def _open_lock_file(path: Path, *, is_ours: bool) -> tuple[int | None, str]:
    """Open the lock file; return its descriptor (None: impossible) and why it cannot be written.

    The reason is "" if the file can be written.

    is_ours: whether this process has locked the directory, so that it may move a foreign file of
        this name aside.
    """
    try:
        return _open_own_lock_file(path), ""
    except NotOurs as error:
        problem: OSError = error
    except OSError as error:
        with contextlib.suppress(OSError):
            return open_own(path / LOCK, os.O_RDONLY), _note_trouble(path, error)
        return None, _note_trouble(path, error)
    if is_ours:
        with contextlib.suppress(OSError):
            os.replace(path / LOCK, path / f"{LOCK}{SET_ASIDE}")  # noqa: PTH105 - says what it does
            return _open_own_lock_file(path), ""
    return None, _note_trouble(path, problem)


def _open_own_lock_file(path: Path) -> int:
    return open_own(path / LOCK, os.O_RDWR | os.O_CREAT)


def _held_error(path: Path) -> StateDirHeld:
    """Return the error that names the holder, as far as the holder's note can be read."""
    note = read_note(path)
    if note is None:
        return StateDirHeld(f"another pool-service uses {path}; {_HELD_ADVICE}")
    pid, addresses, doing, _ = note
    if doing:
        told = f"the state directory {path} is in use: pid {pid} {doing}"
        return StateDirHeld(told, guard_pid=pid)
    where = f", listening on {', '.join(addresses)}" if addresses else ""
    return StateDirHeld(
        f"another pool-service (pid {pid}{where}) uses {path}; {_HELD_ADVICE}",
        serving_pid=pid if addresses else None,
    )


def _unusable_error(path: Path, error: OSError) -> StateDirUnwritable:
    return StateDirUnwritable(
        f"the state directory {path} cannot be used: {error.strerror}; put that right or {_ADVICE}"
    )


def _no_locks_error(path: Path, error: OSError) -> StateDirError:
    """Return the error for a state directory of which neither lock can be taken."""
    if error.errno not in NO_LOCK_ERRNOS:
        return _unusable_error(path, error)
    return StateDirError(
        f"the file system of the state directory {path} has no locks ({error.strerror}); "
        f"{_ADVICE} on a local disk"
    )


def _note_trouble(path: Path, error: OSError) -> str:
    """Return the reason for a degraded state directory whose note cannot be written."""
    why = f"{error.strerror} ({error.filename})" if isinstance(error, NotOurs) else ""
    return (
        f"a second service is not told who uses {path}: {why or explain(error, path)}; it is "
        "kept out all the same"
    )
