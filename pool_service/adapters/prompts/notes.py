"""The note beside kept prompts: whether they are what was written, also after a power failure.

    {"boot_id": …, "synced": …, "stamp": …}

synced: all files are on the disk; else they count only until the machine of `boot_id` stops.
stamp: changes when any of the files is written to.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pool_service.adapters.process.identity import boot_id
from pool_service.adapters.prompts.manifest import Manifest
from pool_service.adapters.system.own_files import (
    flush_to_disk,
    parse_json,
    read_own,
    write_own,
)

NOTE = "kept.json"
MAX_NOTE_BYTES = 4096


def is_as_written(directory: Path, manifest: Manifest) -> bool:
    """Return whether the files are what was written, also after a power failure."""
    try:
        note = _read(directory)
        is_durable = bool(note["synced"]) or note["boot_id"] == boot_id()
        return is_durable and bool(note["stamp"] == _stamp_of(directory, manifest))
    except (OSError, ValueError, LookupError, TypeError):
        return False


def is_to_be_flushed(directory: Path) -> bool:
    """Return whether the files were written since the machine started, and are not flushed yet.

    Raises OSError, ValueError, LookupError, TypeError for a note that is none.
    """
    note = _read(directory)
    return not note["synced"] and bool(note["boot_id"] == boot_id())


def note_written(directory: Path, manifest: Manifest) -> None:
    """Note that the files of a manifest were just written. Raises OSError."""
    _write(directory, _stamp_of(directory, manifest), synced=False)


def note_flushed(directory: Path) -> None:
    """Note that all files of a directory are on the disk; that is no use of them.

    Raises OSError, ValueError, LookupError, TypeError.
    """
    status = (directory / NOTE).stat()
    _write(directory, _read(directory)["stamp"], synced=True)
    os.utime(directory / NOTE, ns=(status.st_atime_ns, status.st_mtime_ns))


def note_used(directory: Path) -> None:
    """Note that the prompts in a directory are used. Raises OSError."""
    os.utime(directory / NOTE)


def used_at(directory: Path) -> float:
    """Return when the prompts in a directory were used last (Unix time); 0 if not known."""
    try:
        return (directory / NOTE).stat().st_mtime
    except OSError:
        return 0.0


def _stamp_of(directory: Path, manifest: Manifest) -> str:
    times = [(name, (directory / name).stat().st_mtime_ns) for name in sorted(manifest.files)]
    return hashlib.sha256(json.dumps(times).encode()).hexdigest()


def _read(directory: Path) -> Any:  # noqa: ANN401 - whatever it says
    return parse_json(read_own(directory / NOTE, MAX_NOTE_BYTES)[0])


def _write(directory: Path, stamp: str, *, synced: bool) -> None:
    """Write the note of a directory in place of the one before. Raises OSError."""
    note = json.dumps({"boot_id": boot_id(), "synced": synced, "stamp": stamp})
    part = directory / f"{NOTE}.part"
    write_own(part, note.encode())
    part.replace(directory / NOTE)


def flush_file(name: str, directory: int, flush: Callable[[int], None] = flush_to_disk) -> None:
    """Flush a file in an open directory by a function of its descriptor. Raises OSError."""
    descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)
