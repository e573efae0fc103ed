"""Detection of out-of-memory kills: an exit by SIGKILL alone does not say who sent the signal."""

import contextlib
import re
import signal
from pathlib import Path

from pool_service.adapters.runtime.diagnosis import Diagnose
from pool_service.adapters.system.proc_file import text_of
from pool_service.core.types import Diagnosis

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_GROUP = re.compile(r"^0::/(.*)$", re.MULTILINE)

KILLED_FOR_MEMORY = Diagnosis.OUT_OF_MEMORY, "The system ran out of memory and killed the process"


class OomWatch:
    """Watches Linux's count of processes that it killed for want of memory.

    root: the root of the file system; another one in tests. group: the control group in which the
    service and its servers run, if it is not the service's own.

    The count is that of this group; without one (version 2, with the memory controller), that of
    the whole machine. macOS has no such count;
    there the kernel reports with each exit whether it was such a kill (`exits.py`).
    """

    def __init__(self, root: Path = Path("/"), group: Path | None = None) -> None:
        self._counter_file = _counter_file(root, group)
        self._seen = self._kills()

    def has_killed(self) -> bool:
        """Return whether the count has risen since the last call."""
        before = self._seen
        # Without a free descriptor the count cannot be read; the next call sees the rise.
        with contextlib.suppress(OSError):
            self._seen = self._kills()
        return self._seen > before

    def _kills(self) -> int:
        found = _COUNT.search(text_of(self._counter_file))
        return int(found[1]) if found else 0


def _counter_file(root: Path, group: Path | None) -> Path:
    """Return the file that counts the kills for want of memory."""
    groups = root / "sys/fs/cgroup"
    own = _GROUP.search(text_of(root / "proc/self/cgroup"))
    # In a container the path may be the host's, which does not exist there.
    places: list[Path] = [groups / own[1], groups] if own else []
    for one in [group, *places] if group else places:
        if _COUNT.search(text_of(one / "memory.events")):
            return one / "memory.events"
    return root / "proc/vmstat"


def oom_aware(diagnose: Diagnose, watch: OomWatch) -> Diagnose:
    """Return a `Diagnose` that explains a SIGKILL as out of memory if the system has sent it."""

    def diagnosed(
        code: int | None, number: int | None, last_lines: tuple[str, ...]
    ) -> tuple[Diagnosis, str]:
        diagnosis, message = diagnose(code, number, last_lines)
        # How an adopted process ended is not known: it may have been killed.
        may_be_killed = number == signal.SIGKILL or (code is None and number is None)
        if may_be_killed and watch.has_killed():
            return KILLED_FOR_MEMORY
        return diagnosis, message

    return diagnosed
