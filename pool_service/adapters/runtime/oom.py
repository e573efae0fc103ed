"""Whether the system has killed for want of memory, which an exit by SIGKILL alone does not say."""

import contextlib
import re
import signal
from pathlib import Path

from pool_service.adapters.runtime.diagnosis import Diagnose
from pool_service.adapters.system.proc_file import text_of
from pool_service.core.types import Diagnosis

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_GROUP = re.compile(r"^0::/(.*)$", re.MULTILINE)

KILLED_FOR_MEMORY = Diagnosis.OUT_OF_MEMORY, "The system killed it, being out of memory"


class OomWatch:
    """Linux's count of processes that it killed for memory. root: of the file system.

    Of the control group in which the service and its servers are: what else the machine kills
    is not in it. Where there is none (version 2, with memory) it is of the whole machine.
    macOS keeps no such count; there the kernel says it of each end (`exits.py`).
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._counts = _counts(root)
        self._seen = self._kills()

    def has_killed(self) -> bool:
        """Whether it has since this was last asked."""
        before = self._seen
        # Where no descriptor is left that is told when it is asked next.
        with contextlib.suppress(OSError):
            self._seen = self._kills()
        return self._seen > before

    def _kills(self) -> int:
        found = _COUNT.search(text_of(self._counts))
        return int(found[1]) if found else 0


def _counts(root: Path) -> Path:
    """The file that counts."""
    groups = root / "sys/fs/cgroup"
    own = _GROUP.search(text_of(root / "proc/self/cgroup"))
    # In a container the path may be that of the host, which is not there.
    for group in (groups / own[1], groups) if own else ():
        if _COUNT.search(text_of(group / "memory.events")):
            return group / "memory.events"
    return root / "proc/vmstat"


def oom_aware(diagnose: Diagnose, watch: OomWatch) -> Diagnose:
    """Return the same, but that a SIGKILL that is the system's for memory is told as such."""

    def diagnosed(
        code: int | None, number: int | None, last_lines: tuple[str, ...]
    ) -> tuple[Diagnosis, str]:
        diagnosis, message = diagnose(code, number, last_lines)
        # Of an adopted process it is not known how it ended.
        killed = number == signal.SIGKILL or (code is None and number is None)
        if killed and watch.has_killed():
            return KILLED_FOR_MEMORY
        return diagnosis, message

    return diagnosed
