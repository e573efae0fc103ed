"""The processes of this machine: started, watched and ended, each with its descendants.

spawn    a session of its own; identity taken while the pid cannot be another's
exited   its end is seen at once, what it left behind is noted, and it is reaped
signal   to the group, after proof that it is still this process
sweep    what it left behind is ended, its directory removed
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import structlog

from pool_service.adapters.descendants import Family, end_all, members_at_exit
from pool_service.adapters.diagnosis import Diagnose, diagnose_exit
from pool_service.adapters.exits import ExitWatch, exit_watch, gone, outlasting_shortage
from pool_service.adapters.identity import is_alive
from pool_service.adapters.launch import Child, launch
from pool_service.adapters.logs import LogStore, last_lines
from pool_service.core.types import ExitReport, Identity, LaunchPlan, SpawnedProcess, StopSignal

_log = structlog.get_logger(__name__)

_SIGNALS = {
    StopSignal.TERMINATE: signal.SIGTERM,
    StopSignal.INTERRUPT: signal.SIGINT,
    StopSignal.KILL: signal.SIGKILL,
}


@dataclass(slots=True)
class _Owned:
    """A process that was started here, from its spawn to the end of its sweep."""

    child: Child
    members: frozenset[Identity] = frozenset()
    report: ExitReport | None = None


class LocalProcesses:
    """Implements the port `Processes` for this machine.

    state_dir: where logs and working directories are; term_timeout: seconds that what a
    process left behind has after SIGTERM.
    """

    def __init__(
        self,
        state_dir: Path,
        logs: LogStore,
        *,
        diagnose: Diagnose = diagnose_exit,
        watch: ExitWatch | None = None,
        term_timeout: float = 3.0,
    ) -> None:
        self._state_dir = state_dir
        self._logs = logs
        self._diagnose = diagnose
        self._watch = watch or exit_watch()
        self._term_timeout = term_timeout
        self._owned: dict[Identity, _Owned] = {}

    async def spawn(self, model: str, generation: int, plan: LaunchPlan) -> SpawnedProcess:
        """Start a process; see the port. Exec can take long on a slow disk: in a thread."""
        child = await asyncio.to_thread(
            launch, model, generation, plan, self._state_dir, self._logs
        )
        self._owned[child.identity] = _Owned(child)
        return SpawnedProcess(child.identity, str(child.log_path))

    async def exited(self, identity: Identity) -> ExitReport:
        """Wait for the end of a process; of one that is no child of ours only that is known."""
        await gone(self._watch, identity)
        owned = self._owned.get(identity)
        if owned is None:
            return self._report(None, ())
        if owned.report is None:
            owned.report = await outlasting_shortage(lambda: asyncio.to_thread(self._bury, owned))
        return owned.report

    async def signal(self, identity: Identity, stop: StopSignal) -> None:
        """Send to the group that the process leads; nothing if it is no longer this one."""
        if not is_alive(identity):
            return
        # EPERM: of the whole group there is none left that may be signalled.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(identity.pid, _SIGNALS[stop])
            if stop is not StopSignal.KILL:
                # A stopped process keeps other signals pending until it goes on.
                os.killpg(identity.pid, signal.SIGCONT)

    async def sweep(self, identity: Identity) -> None:
        """End what the process left behind, in its group or not, and remove its directory."""
        owned = self._owned.get(identity)
        if owned is None:
            return
        child = owned.child
        family = Family(identity.pid, child.nonce, owned.members)
        await end_all(self._watch, family, self._term_timeout)
        await asyncio.to_thread(self._clean_up, child)
        del self._owned[identity]

    def _bury(self, owned: _Owned) -> ExitReport:
        """Look at its group before reaping it: after that the number can become another's."""
        owned.members |= members_at_exit(owned.child.identity)
        return self._report(_reap(owned.child.popen), last_lines(owned.child.log_path))

    def _report(self, status: int | None, lines: tuple[str, ...]) -> ExitReport:
        code = status if status is None or status >= 0 else None
        number = -status if status is not None and status < 0 else None
        diagnosis, message = self._diagnose(code, number, lines)
        return ExitReport(code, number, diagnosis, message, lines)

    def _clean_up(self, child: Child) -> None:
        self._logs.release(child.log_path)
        try:
            shutil.rmtree(child.work_dir)
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("cannot remove a working directory", error=str(error))


def _reap(popen: "subprocess.Popen[bytes]") -> int | None:
    """Its exit code, or minus the signal; None if somebody else has reaped it.

    Blocks for a moment at most: on macOS an exit is told of shortly before it can be reaped.
    """
    if popen.returncode is not None:
        return popen.returncode
    try:
        _, status = os.waitpid(popen.pid, 0)
    except ChildProcessError:
        popen.returncode = 0  # which it is for Popen then; else it warns of a process left
        return None
    popen.returncode = os.waitstatus_to_exitcode(status)
    return popen.returncode
