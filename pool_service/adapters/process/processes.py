"""Implementation of the port `Processes`: starting, watching and ending process trees.

spawn      start a process in its own session
adopt      take over an earlier service's process by its record
orphans    take over an earlier service's processes by their nonces alone
exited     wait for the exit, note the members of the group, reap the process
signal     signal the group, after proof that it is still this process
clean_up   end the descendants, remove the working directory
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import structlog

from pool_service.adapters.logs.logs import LogStore, last_lines
from pool_service.adapters.process.exits import (
    End,
    ExitWatch,
    exit_watch,
    gone,
    outlasting_shortage,
)
from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.adapters.process.launch import launch, work_dirs
from pool_service.adapters.process.leftover_requests import LeftoverRequests
from pool_service.adapters.process.process_tree import (
    ProcessTree,
    carriers,
    end_all,
    group_members,
    leader_among,
    members_of,
)
from pool_service.adapters.process.proof import is_of_pool
from pool_service.adapters.runtime.diagnosis import Diagnose, diagnose_exit
from pool_service.adapters.runtime.oom import KILLED_FOR_MEMORY
from pool_service.adapters.standby.standbys import Standbys
from pool_service.adapters.system.os_errors import raise_shortage
from pool_service.core.server import Server, StopSignal
from pool_service.core.types import ExitReport, Identity, LaunchPlan, SpawnedProcess

_log = structlog.get_logger(__name__)

T = TypeVar("T")

_SIGNALS = {
    StopSignal.TERMINATE: signal.SIGTERM,
    StopSignal.INTERRUPT: signal.SIGINT,
    StopSignal.KILL: signal.SIGKILL,
}


@dataclass(slots=True)
class _Owned:
    """A process from its spawn or adoption to the end of its clean-up.

    kind: the kind of its runtime.
    log_path: None if not known.
    popen: None if another service started it.
    is_proven: whether the process, and so its group, certainly belongs to this pool.
    escalated: set when its clean-up is to wait for no request any longer.
    probed: the URL paths of the pool's probes, whose log lines are left out.
    """

    identity: Identity
    nonce: str
    kind: str
    log_path: Path | None
    popen: "subprocess.Popen[bytes] | None" = None
    is_proven: bool = True
    members: frozenset[Identity] = frozenset()
    report: ExitReport | None = None
    escalated: asyncio.Event = field(default_factory=asyncio.Event)
    probed: frozenset[str] = frozenset()

    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines of its log, without the answers to the pool's probes."""
        return last_lines(self.log_path, probed=self.probed) if self.log_path else ()


def _probed(plan: LaunchPlan) -> frozenset[str]:
    return frozenset((plan.health_path, plan.ready_path, plan.use.path))


class LocalProcesses:
    """Implements the port `Processes` for this machine.

    state_dir: the directory of logs and working directories.
    diagnose_of: returns, for a kind of runtime, the function that explains an exit.
    standbys: asked first for a process; None: every process is started by its command.
    term_timeout: seconds between SIGTERM and SIGKILL for descendants.
    rescan_delay_s: pause before a process that was not found by its nonce is looked for again.
    """

    def __init__(
        self,
        state_dir: Path,
        logs: LogStore,
        *,
        diagnose_of: Callable[[str], Diagnose] = lambda _kind: diagnose_exit,
        standbys: Standbys | None = None,
        watch: ExitWatch | None = None,
        term_timeout: float = 3.0,
        rescan_delay_s: float = 0.25,
    ) -> None:
        self._state_dir = state_dir
        self._logs = logs
        self._diagnose_of = diagnose_of
        self._standbys = standbys
        self._watch = watch or exit_watch()
        self._term_timeout = term_timeout
        self._rescan_delay_s = rescan_delay_s
        self._owned: dict[Identity, _Owned] = {}

    async def spawn(self, model: str, generation: int, plan: LaunchPlan) -> SpawnedProcess:
        """Start a process; see the port. In a thread, as exec can take long on a slow disk."""
        child = await self._standbys.start(model, generation, plan) if self._standbys else None
        if child is None:
            child = await asyncio.to_thread(
                launch, model, generation, plan, self._state_dir, self._logs
            )
        self._owned[child.identity] = _Owned(
            child.identity,
            child.nonce,
            plan.kind,
            child.log_path,
            child.popen,
            probed=_probed(plan),
        )
        return SpawnedProcess(child.identity, str(child.log_path), child.nonce)

    async def adopt(self, server: Server) -> SpawnedProcess | None:
        """Take over the process that an earlier service started for this server; see the port."""
        if server.plan is None:
            return None
        nonce, log_path = server.plan.nonce, self._log_of(server)
        identity = server.identity
        has_ended = identity is not None and not await _outlasting(lambda: _is_there(identity))
        if not has_ended:
            identity = await self._proven(identity, nonce, log_path)
        if identity is None:
            return None
        owned = _Owned(identity, nonce, server.plan.kind, log_path, probed=_probed(server.plan))
        owned.is_proven = not has_ended
        await self._take_over(owned)
        return SpawnedProcess(identity, str(log_path))

    async def orphans(self, nonces: Collection[str]) -> tuple[Identity, ...]:
        """Take over the processes of an earlier service whose record is damaged or lost.

        nonces: the nonces of all records. Call this after all adoptions and before the first
        spawn. Each returned process leads a group, and its nonce names a working directory of
        this state directory; the caller decides whether to end it. Descendants of processes that
        have exited are ended before this returns, and their working directories removed.
        """
        unknown = await _outlasting(lambda: self._other_nonces(nonces))
        leaders = await asyncio.gather(*map(self._adopt_orphan, unknown))
        return tuple(filter(None, leaders))

    async def exited(self, identity: Identity) -> ExitReport:
        """Wait for the exit of a process; see the port.

        Only macOS reports how a process ended that is no child of the service.
        """
        end = await gone(self._watch, identity)
        owned = self._owned.get(identity)
        if owned is None:
            return self._report("", end, ())
        if owned.report is None:
            owned.report = await _outlasting(lambda: self._reap_and_report(owned, end))
        return owned.report

    async def signal(self, identity: Identity, stop: StopSignal) -> None:
        """Send a signal to the group that the process leads; see the port."""
        owned = self._owned.get(identity)
        if owned and owned.popen is None:
            # Another process reaps it; after that its group cannot be told from another's.
            with contextlib.suppress(OSError):
                owned.members |= await asyncio.to_thread(_members_of, owned)

        async def send() -> None:
            _send(identity, stop)

        await outlasting_shortage(send)

    async def last_lines(self, log_path: str) -> tuple[str, ...]:
        """Return the last lines of a log; see the port."""
        path = Path(log_path)
        owned = next((one for one in self._owned.values() if one.log_path == path), None)
        return await asyncio.to_thread(owned.last_lines if owned else lambda: last_lines(path))

    async def clean_up(
        self, identity: Identity, endpoint: str = "", drain_time: float = 0.0
    ) -> bool:
        """End the descendants of an exited process; see the port."""
        owned = self._owned.get(identity)
        if owned is None:
            return False
        work_dir = work_dirs(self._state_dir) / owned.nonce
        others = self._pids_but(owned)
        tree = ProcessTree(
            identity.pid, owned.nonce, owned.members, others, owned.log_path, work_dir
        )
        drained = LeftoverRequests(tree, endpoint, drain_time, owned.escalated).drained
        killed = await end_all(self._watch, tree, self._term_timeout, drained)
        await asyncio.to_thread(self._clean_up, owned)
        self._owned.pop(identity, None)
        return killed

    def escalate(self, identity: Identity) -> None:
        """End the drain of a running `clean_up`; see the port."""
        owned = self._owned.get(identity)
        if owned is not None:
            owned.escalated.set()

    def _pids_but(self, owned: _Owned) -> frozenset[int]:
        """Return the pids of the other children, which are theirs until they are reaped."""
        children = ((each.identity.pid, each.popen) for each in self._owned.values())
        running = {pid for pid, popen in children if popen and popen.returncode is None}
        return frozenset(running - {owned.identity.pid})

    def _log_of(self, server: Server) -> Path:
        """Return a server's log; the record's path counts only inside the log directory."""
        recorded = Path(server.log_path)
        is_ours = server.log_path and self._logs.is_place(recorded)
        return recorded if is_ours else self._logs.path_of(server.model, server.generation)

    async def _proven(
        self, recorded: Identity | None, nonce: str, log_path: Path | None
    ) -> Identity | None:
        """Return the process with this nonce if it is proven to be of this pool, else None.

        If no process with the nonce leads a session, its descendants are ended before this
        returns.
        """
        directory = work_dirs(self._state_dir) / nonce

        def is_ours(identity: Identity) -> bool:
            shown = is_of_pool(identity.pid, nonce, directory, log_path)
            return shown and is_alive(identity)

        if recorded is not None and await _outlasting(lambda: is_ours(recorded)):
            return recorded
        if recorded is not None:
            _log.warning("a record names a process that is not of this pool", pid=recorded.pid)
        found = await self._find_leader(nonce)
        if found is None:
            await self._end_descendants(nonce)
        elif not await _outlasting(lambda: is_ours(found)):
            # The state directory is a copy, and the process is another pool's.
            _log.warning("left alone what is of another pool", pid=found.pid)
            await asyncio.to_thread(self._remove_work_dir, nonce)
            return None
        return found

    async def _find_leader(self, nonce: str) -> Identity | None:
        leader = await _outlasting(lambda: _leader_of(nonce))
        if leader is None:
            # Between fork and exec a process still has its parent's environment.
            await asyncio.sleep(self._rescan_delay_s)
            leader = await _outlasting(lambda: _leader_of(nonce))
        return leader

    async def _adopt_orphan(self, nonce: str) -> Identity | None:
        leader = await self._proven(None, nonce, None)
        if leader is None:
            return None
        _log.warning("a process of this pool runs that no record tells of", pid=leader.pid)
        await self._take_over(_Owned(leader, nonce, "", None))
        return leader

    async def _take_over(self, found: _Owned) -> None:
        members = await _outlasting(lambda: _members_of(found))
        owned = self._owned.setdefault(found.identity, found)
        owned.members |= members
        if owned.log_path:
            self._logs.adopt(owned.log_path)

    async def _end_descendants(self, nonce: str) -> None:
        """End the descendants of a process that no longer exists."""
        work_dir = work_dirs(self._state_dir) / nonce
        await end_all(self._watch, ProcessTree(None, nonce, work_dir=work_dir), self._term_timeout)
        await asyncio.to_thread(self._remove_work_dir, nonce)

    def _other_nonces(self, nonces: Collection[str]) -> list[str]:
        try:
            with os.scandir(work_dirs(self._state_dir)) as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            raise_shortage(error)
            return []
        ours = {owned.nonce for owned in self._owned.values()}
        return [name for name in names if name not in nonces and name not in ours]

    def _reap_and_report(self, owned: _Owned, end: End) -> ExitReport:
        """Note the members of its group, then reap it: afterwards the number may be reused."""
        owned.members |= _members_of(owned)
        status = _reap(owned.popen) if owned.popen else _reap_adopted(owned.identity)
        lines = owned.last_lines()
        reaped = end if status is None else replace(end, code=status)
        return self._report(owned.kind, reaped, lines)

    def _report(self, kind: str, end: End, lines: tuple[str, ...]) -> ExitReport:
        code = end.code if end.code is None or end.code >= 0 else None
        number = -end.code if end.code is not None and end.code < 0 else None
        diagnosis, message = self._diagnose_of(kind)(code, number, lines)
        if end.is_for_memory:
            diagnosis, message = KILLED_FOR_MEMORY
        return ExitReport(code, number, diagnosis, message, lines)

    def _clean_up(self, owned: _Owned) -> None:
        if owned.log_path:
            self._logs.release(owned.log_path)
        self._remove_work_dir(owned.nonce)
        if owned.popen is None:
            _log_unproven(owned.identity)

    def _remove_work_dir(self, nonce: str) -> None:
        try:
            shutil.rmtree(work_dirs(self._state_dir) / nonce)
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("cannot remove a working directory", error=str(error))


def _send(identity: Identity, stop: StopSignal) -> None:
    """Send a signal without a pause after the check, so that nobody reaps the process between."""
    if not is_alive(identity):
        return
    # EPERM: no process of the group may be signalled.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(identity.pid, _SIGNALS[stop])
        if stop is not StopSignal.KILL:
            # In a stopped process other signals stay pending until SIGCONT.
            os.killpg(identity.pid, signal.SIGCONT)


async def _outlasting(look: Callable[[], T]) -> T:
    """Run a function in a thread, again while descriptors are short."""
    return await outlasting_shortage(lambda: asyncio.to_thread(look))


def _members_of(owned: _Owned) -> frozenset[Identity]:
    return members_of(owned.identity) if owned.is_proven else frozenset()


def _is_there(identity: Identity | None) -> bool:
    return identity is not None and is_alive(identity)


def _leader_of(nonce: str) -> Identity | None:
    return leader_among(carriers({nonce}).get(nonce, frozenset()))


def _log_unproven(leader: Identity) -> None:
    """Log the members of an adopted process's group that are left alone for want of a proof."""
    if identity_of(leader.pid) in (None, leader):
        left = sorted(member.pid for member in group_members(leader.pid))
        if left:
            _log.warning("left alone what may be of an ended server", pids=left, leader=leader.pid)


def _reap_adopted(identity: Identity) -> int | None:
    """Reap an adopted process and return its status as `_reap` does.

    It is a child of the service only if the service became what it is by an exec.
    """
    if identity_of(identity.pid) != identity:
        return None
    try:
        _, status = os.waitpid(identity.pid, 0)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status)


def _reap(popen: "subprocess.Popen[bytes]") -> int | None:
    """Reap a child; return its exit code, or minus the signal; None if it was reaped elsewhere.

    Blocks for a moment at most: macOS notifies of an exit shortly before the child can be reaped.
    """
    if popen.returncode is not None:
        return popen.returncode
    try:
        _, status = os.waitpid(popen.pid, 0)
    except ChildProcessError:
        popen.returncode = 0  # as Popen itself assumes; else it warns of a running process
        return None
    popen.returncode = os.waitstatus_to_exitcode(status)
    return popen.returncode
