"""Whether the system has killed for want of memory, which an exit by SIGKILL alone does not say."""

import re
import signal
from pathlib import Path

from pool_service.adapters.diagnosis import Diagnose
from pool_service.core.types import Diagnosis

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class OomWatch:
    """Linux's count of processes that it killed for memory. root: of the file system.

    macOS keeps no such count that a user can read: there a kill stays a kill.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._vmstat = root / "proc/vmstat"
        self._seen = self._kills()

    def has_killed(self) -> bool:
        """Whether it has since this was last asked."""
        before, self._seen = self._seen, self._kills()
        return self._seen > before

    def _kills(self) -> int:
        """Of the whole machine, which counts what control groups do too."""
        try:
            found = _COUNT.search(self._vmstat.read_text())
        except (OSError, ValueError):
            return 0
        return int(found[1]) if found else 0


def oom_aware(diagnose: Diagnose, watch: OomWatch) -> Diagnose:
    """The same, but that a SIGKILL that is the system's for memory is told as such."""

    def diagnosed(
        code: int | None, number: int | None, last_lines: tuple[str, ...]
    ) -> tuple[Diagnosis, str]:
        diagnosis, message = diagnose(code, number, last_lines)
        # Of an adopted process it is not known how it ended.
        killed = number == signal.SIGKILL or (code is None and number is None)
        if killed and watch.has_killed():
            return Diagnosis.OUT_OF_MEMORY, "The system killed it, being out of memory"
        return diagnosis, message

    return diagnosed
