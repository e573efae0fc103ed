"""The files of the records: STATE/servers/<slug of the model>.json, one for each model.

Each file is replaced by a rename, so that it is the old or the new one, never half of one. These
files are not synced: they survive the end of the service, and a reboot ends all servers anyway.
What callers said of models outlives a reboot; its files are synced, by a thread of their own
(`model_file`).
Links are not followed. Foreign and unreadable files are moved to STATE/servers/damaged/, never
deleted.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from pool_service.adapters.records.record_format import Entry, Record, decode, encode, record_key
from pool_service.adapters.records.record_members import BadRecord
from pool_service.adapters.system.os_errors import explain, raise_shortage
from pool_service.adapters.system.own_files import read_own
from pool_service.core.names import slug

_log = structlog.get_logger(__name__)

MAX_RECORD_BYTES = 1024 * 1024
"""The largest file that is read; a record is far smaller."""

DAMAGED = "damaged"
_SUFFIX = ".json"
_TEMPORARY = ".tmp"
_PROBE = f".probe{_SUFFIX}{_TEMPORARY}"
_READERS = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a write: the keys of the records that are not on disk, and why."""

    failed: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The readable records, the oldest file first, and the names of the other files."""

    records: tuple[Record, ...] = ()
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Read:
    """The result of reading one file: its record, or its flaw; neither if the file has vanished."""

    name: str
    written_at: int = 0
    record: Record | None = None
    flaw: str = ""


class _InTheWay(OSError):
    """A path of the records is not the service's own; the message says what to do."""


class RecordFiles:
    """Reads and writes the records of a state directory. Blocking; for one thread at a time.

    boot_id: the name of the present boot of the machine.
    """

    def __init__(self, state_dir: Path, boot_id: str) -> None:
        self._state_dir = state_dir
        self._path = state_dir / "servers"
        self._boot_id = boot_id
        self._descriptor: int | None = None
        self._unreadable = set[str]()
        self._is_unread = False
        self._own = set[str]()

    def write(
        self,
        changed: Mapping[str, Entry | None],
        known: Mapping[str, Entry],
        *,
        check: bool,
        probe: bool = False,
    ) -> Outcome:
        """Write the changed entries (None: remove the file), and known ones without a file.

        changed, known: entries by their keys (`record_key`); known: all of them.
        check: look for known entries without a file; always done in a new directory.
        probe: write and remove a test file, to find out whether writing works.
        """
        try:
            directory, renewed = self._directory()
            if probe:
                _probe(directory)
            lost = _missing_files(directory, known) if check or renewed else ()
        except OSError as error:
            return Outcome(tuple(changed), self.explain(error))
        failed: dict[str, str] = {}
        for key, entry in ({key: known[key] for key in lost} | dict(changed)).items():
            try:
                self._put(directory, key, entry)
            except OSError as error:
                failed[key] = self.explain(error)
            except ValueError as error:
                failed[key] = f"the record of {key!r} cannot be made, a fault of ours: {error}"
        return Outcome(tuple(failed), next(iter(failed.values()), ""))

    def read_all(self) -> Found:
        """Read every record, and set aside those that cannot be read.

        Raises OSError if the directory cannot be read or made, or descriptors are short. Records
        in it are then set aside before others take their place.
        """
        self._is_unread = True
        directory, _ = self._directory()
        names = os.listdir(directory)  # noqa: PTH208 - of a descriptor
        for name in names:
            if name.startswith(".") and name.endswith(_SUFFIX + _TEMPORARY):
                with contextlib.suppress(OSError):
                    _unlink(directory, name)
        records = [name for name in names if name.endswith(_SUFFIX)]
        with ThreadPoolExecutor(_READERS) as readers:
            read = list(readers.map(partial(_read, directory), records))
        whole = [(one.written_at, one.record) for one in read if one.record]
        whole.sort(key=lambda each: each[0])
        damaged = [one for one in read if one.flaw]
        self._set_all_aside(directory, damaged)
        self._is_unread = False
        return Found(
            tuple(record for _, record in whole), tuple(sorted(one.name for one in damaged))
        )

    def explain(self, error: OSError) -> str:
        """Return the message for an error of these files: the effect, the cause and the advice."""
        why = str(error) if isinstance(error, _InTheWay) else explain(error, self._state_dir)
        return f"what is known of servers is in memory only, not in {self._path}: {why}"

    def close(self) -> None:
        """Close the directory."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _directory(self) -> tuple[int, bool]:
        """Return a descriptor of the directory, and whether it is another one than last time.

        While the descriptor is open, no other directory can have the same inode number.
        """
        if self._descriptor is not None and _is_at(self._path, self._descriptor):
            return self._descriptor, False
        self.close()
        self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            self._path.mkdir(mode=0o700)
        self._descriptor = _open_own_directory(self._path)
        return self._descriptor, True

    def _put(self, directory: int, key: str, entry: Entry | None) -> None:
        """Replace the file of a record, or remove it (None). Raises OSError, ValueError."""
        name = file_name(key)
        if self._is_in_the_way(directory, name):
            self._set_aside(directory, name)
        if self._is_unread:
            self._own.add(name)
        if entry is None:
            _unlink(directory, name)
            return
        temporary = f".{name}{_TEMPORARY}"
        _unlink(directory, temporary)
        try:
            _create(directory, temporary, encode(Record(self._boot_id, entry)))
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            with contextlib.suppress(OSError):
                _unlink(directory, temporary)
            raise

    def _is_in_the_way(self, directory: int, name: str) -> bool:
        """Return whether a file may not be replaced, but has to be set aside."""
        if self._is_unread and name not in self._own and _is_there(directory, name):
            return True
        return not _is_own_file(directory, name) or name in self._unreadable

    def _set_all_aside(self, directory: int, damaged: Iterable[_Read]) -> None:
        for one in damaged:
            _log.warning("a record cannot be read and is set aside", file=one.name, why=one.flaw)
            try:
                self._set_aside(directory, one.name)
            except OSError as error:
                # The move is tried again before a new record takes the file's place.
                self._unreadable.add(one.name)
                _log.warning("cannot set a record aside", file=one.name, error=str(error))

    def _set_aside(self, directory: int, name: str) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(DAMAGED, mode=0o700, dir_fd=directory)
        damaged = _open_own_directory(self._path / DAMAGED)
        try:
            taken = set(os.listdir(damaged))  # noqa: PTH208 - of a descriptor
            names = (name, *(f"{name}.{number}" for number in range(1, len(taken) + 1)))
            free = next(candidate for candidate in names if candidate not in taken)
            with contextlib.suppress(FileNotFoundError):
                os.rename(name, free, src_dir_fd=directory, dst_dir_fd=damaged)
        finally:
            os.close(damaged)
        self._unreadable.discard(name)


def file_name(key: str) -> str:
    """Return the file name of a record by its key."""
    return slug(key) + _SUFFIX


def _open_own_directory(path: Path) -> int:
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink() or path.is_file():
            raise _InTheWay(f"{path} is no directory; move it away") from error
        raise
    if os.fstat(directory).st_uid != os.geteuid():
        os.close(directory)
        raise _InTheWay(f"{path} belongs to another user; move it away")
    return directory


def _is_at(path: Path, directory: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(directory))
    except OSError:
        return False


def _is_own_file(directory: int, name: str) -> bool:
    """Return whether a file may be replaced: it is this user's ordinary file, or does not exist."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return True
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _is_there(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _missing_files(directory: int, known: Iterable[str]) -> list[str]:
    with os.scandir(directory) as entries:
        there = {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
    return [key for key in known if file_name(key) not in there]


def _create(directory: int, name: str, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, mode=0o600, dir_fd=directory), "wb") as file:
        file.write(content)


def _probe(directory: int) -> None:
    """Write a test file and remove it. Raises OSError."""
    try:
        _unlink(directory, _PROBE)
        _create(directory, _PROBE, b"x")
    finally:
        with contextlib.suppress(OSError):
            _unlink(directory, _PROBE)


def _unlink(directory: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _read(directory: int, name: str) -> _Read:
    try:
        content, status = read_own(name, MAX_RECORD_BYTES, directory)
        record = _decode(name, content)
    except BadRecord as error:
        return _Read(name, flaw=str(error))
    except FileNotFoundError:
        return _Read(name)
    except OSError as error:
        raise_shortage(error)
        return _Read(name, flaw=error.strerror or str(error))
    return _Read(name, status.st_mtime_ns, record)


def _decode(name: str, content: bytes) -> Record:
    if len(content) > MAX_RECORD_BYTES:
        raise BadRecord("it is larger than any record")
    record = decode(content)
    try:
        fits = file_name(record_key(record.entry)) == name
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise BadRecord("it is of a model that has another file")
    return record
