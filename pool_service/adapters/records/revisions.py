"""Where the numbers of the changes begin: above all that an earlier service gave.

They begin at the time of day, so that they rise even where the state directory is new. The
clock may have been set back since, so what earlier services may have reached is on disk too.
"""

from pathlib import Path

import structlog

from pool_service.adapters.system.own_files import read_own, write_own

AHEAD = 10_000_000
"""Changes that one service may make before only the clock keeps its numbers apart."""

HIGHEST = 2**62
"""What is above that was not written by a service."""

LONGEST = 32
"""Bytes; what a service writes is shorter."""

_log = structlog.get_logger(__name__)


def first_revision(state_dir: Path, now_ms: int) -> int:
    """Return where to begin, and put on disk how far this service may get. Blocking."""
    file = state_dir / "revision"
    first = max(now_ms, _reached(file))
    temporary = file.with_suffix(".new")
    try:
        write_own(temporary, f"{first + AHEAD}\n".encode())
        temporary.replace(file)
    except OSError as error:
        _log.warning("the first revision cannot be put on disk", error=str(error))
    return first


def _reached(file: Path) -> int:
    """Return how far earlier services may have got; 0 where that is not known."""
    try:
        text = read_own(file, LONGEST)[0].decode("ascii", "replace").strip()
    except OSError:
        return 0
    number = int(text) if text.isdecimal() and text.isascii() else 0
    return number if number < HIGHEST else 0
