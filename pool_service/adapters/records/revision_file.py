"""The first revision of a service: above all revisions of earlier services, in STATE/revision.

Revisions begin at the time of day, so that they rise even with a new state directory. As the clock
may have been set back, the file says how far earlier services may have got.
"""

from pathlib import Path

import structlog

from pool_service.adapters.system.own_files import read_own, write_own

RESERVED_REVISIONS = 10_000_000
"""Revisions reserved for one service; after more changes only the clock separates it from the
next."""

MAX_REVISION = 2**62
"""A larger number in the file was not written by a service."""

MAX_FILE_BYTES = 32
"""The largest file that is read; that of a service is shorter."""

_log = structlog.get_logger(__name__)


def first_revision(state_dir: Path, now_ms: int) -> int:
    """Return this service's first revision, and reserve its revisions on disk. Blocking.

    now_ms: the Unix time in milliseconds.
    """
    file = state_dir / "revision"
    first = max(now_ms, _reserved(file))
    temporary = file.with_suffix(".new")
    try:
        write_own(temporary, f"{first + RESERVED_REVISIONS}\n".encode())
        temporary.replace(file)
    except OSError as error:
        _log.warning("cannot write the first revision", error=str(error))
    return first


def _reserved(file: Path) -> int:
    """Return the end of the revisions reserved by earlier services; 0 if not known."""
    try:
        text = read_own(file, MAX_FILE_BYTES)[0].decode("ascii", "replace").strip()
    except OSError:
        return 0
    number = int(text) if text.isdecimal() and text.isascii() else 0
    return number if number < MAX_REVISION else 0
