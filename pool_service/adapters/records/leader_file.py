"""The leader of the fleet, as the member has seen it last: STATE/fleet_leader.json."""

import json
from pathlib import Path

import structlog

from pool_service.access.fence import MAX_EPOCH, Leader
from pool_service.adapters.system.os_errors import explain
from pool_service.adapters.system.own_files import (
    flush_directory,
    parse_json,
    read_own,
    write_own,
)

FILE_NAME = "fleet_leader.json"
"""In the state directory."""

_MAX_FILE_BYTES = 4096

_log = structlog.get_logger(__name__)


class LeaderFile:
    """Reads and writes the leader. Blocking."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE_NAME

    def read(self) -> Leader:
        """Return the leader as it was written last; one without an epoch if that is not known."""
        try:
            content, _ = read_own(self._path, _MAX_FILE_BYTES)
            return _leader(parse_json(content))
        except FileNotFoundError:
            return Leader()
        except (OSError, ValueError) as error:
            why = f"{self._path}: {error}"
            _log.warning(
                "the leader of the fleet that was seen last is not known: the first front that "
                "calls is obeyed",
                why=why,
            )
            return Leader()

    def write(self, leader: Leader) -> str:
        """Write the leader so that it survives a power failure; return why that failed, or ""."""
        content = json.dumps({"epoch": leader.epoch, "front": leader.front}).encode()
        beside = self._path.with_suffix(".new")
        try:
            write_own(beside, content, flushes=True)
            beside.replace(self._path)
            flush_directory(self._path.parent)
        except OSError as error:
            why = (
                f"the leader of the fleet is in memory only, not in {self._path}: "
                f"{explain(error, self._path.parent)}"
            )
            _log.warning("the leader of the fleet could not be written", why=why)
            return why
        return ""


def _leader(found: object) -> Leader:
    """Return the leader of a file's content. Raises ValueError."""
    if not isinstance(found, dict):
        raise ValueError("it has no leader")  # noqa: TRY004  # for the caller it is the content
    epoch, front = found.get("epoch"), found.get("front")
    # A bool is an int.
    if type(epoch) is not int or not 0 <= epoch <= MAX_EPOCH or not isinstance(front, str):
        raise ValueError("it has no epoch or no front")
    return Leader(epoch, front)
