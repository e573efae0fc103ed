"""Implementation of the port `Processes`: starting, watching and ending process trees.

spawn      start a process in its own session
adopt      take over an earlier service's process by its record
orphans    take over an earlier service's processes without a record, by their nonces
exited     wait for the exit, note the members of the session, reap the process
signal     signal the group, after proof that it is still that of this process
clean_up   end the descendants, remove the working directory
"""

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from pool_service.adapters.logs.logs import LogStore, last_lines
from pool_service.adapters.process.control_groups import ControlGroups
from pool_service.adapters.process.exits import (
    ExitStatus,
    ExitWatch,
    exit_watch,
    reap,
    reap_adopted,
    retry_on_shortage,
    wait_for_exit,
)
from pool_service.adapters.process.identity import is_alive
from pool_service.adapters.process.launch import Child, launch, work_dir_nonces, work_dirs
from pool_service.adapters.process.leftover_drain import LeftoverRequests
from pool_service.adapters.process.leftover_processes import (
    ProcessTree,
    end_descendants,
    leader_of,
    log_unproven,
    members_of,
)
from pool_service.adapters.process.proof import is_of_pool
from pool_service.adapters.process.stop_signals import send_to_group
from pool_service.adapters.prompts.prompt_store import PromptStore
from pool_service.adapters.runtime.diagnosis import Diagnose, diagnose_exit
from pool_service.adapters.runtime.oom import KILLED_FOR_MEMORY
from pool_service.adapters.standby.standbys import Standbys
from pool_service.adapters.system.own_files import remove_tree
from pool_service.core.server import Server, StopSignal
from pool_service.core.types import (
    ExitReport,
    Identity,
    LaunchPlan,
    SpawnedProcess,
)

_log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Delays:
    """Delays in seconds.

    term_timeout_s: between SIGTERM and SIGKILL for descendants.
    rescan_s: before a second search for a process by its nonce.
    """

    term_timeout_s: float = 3.0
    rescan_s: float = 0.25


DELAYS = Delays()


@dataclass(slots=True)
class _Owned:
    """A process from its spawn or adoption to the end of its clean-up.

    plan: as it was started; None if not known.
    log_path: None if not known.
    popen: None if another service started it.
    is_proven: whether the process, and so its session, certainly belongs to this pool.
    members: the other processes that were seen in its session.
    report: set when the process has been reaped; escalated: set when its clean-up must not wait.
    """

    identity: Identity
    nonce: str
    plan: LaunchPlan | None
    log_path: Path | None
    popen: "subprocess.Popen[bytes] | None" = None
    is_proven: bool = True
    members: frozenset[Identity] = frozenset()
    report: ExitReport | None = None
    escalated: asyncio.Event = field(default_factory=asyncio.Event)

    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines of the process's log, without those of the pool's probes."""
        plan = self.plan
        probed = (plan.health_path, plan.ready_path, plan.use.path) if plan else ()
        return last_lines(self.log_path, probed=frozenset(probed)) if self.log_path else ()


class LocalProcesses:
    """Implements the port `Processes` for this machine.

    state_dir: the directory of logs and working directories.
    diagnose_of: returns, for a kind of runtime, the function that explains an exit.
    standbys: tried first by `spawn`; None: every process is started by its command.
    prompts: the store of kept prompts; None: one without a bound, in which a process that ends
        replaces its own prompts at most.
    groups: the control groups of the processes; None: they have none.
    """

    def __init__(
        self,
        state_dir: Path,
        logs: LogStore,
        *,
        diagnose_of: Callable[[str], Diagnose] = lambda _kind: diagnose_exit,
        standbys: Standbys | None = None,
        prompts: PromptStore | None = None,
        watch: ExitWatch | None = None,
        groups: ControlGroups | None = None,
        delays: Delays = DELAYS,
    ) -> None:
        self._state_dir = state_dir
        self._logs = logs
        self._diagnose_of = diagnose_of
        self._standbys = standbys
        self._prompts = prompts or PromptStore(state_dir)
        self._watch = watch or exit_watch()
        self._groups = groups or ControlGroups()
        self._delays = delays
        self._owned: dict[Identity, _Owned] = {}

    async def spawn(self, model: str, generation: int, plan: LaunchPlan) -> SpawnedProcess:
        """Start a process; see the port. In a thread, as exec can take long on a slow disk."""
        child = await self._standbys.start(model, generation, plan) if self._standbys else None
        if child is None:
            child = await asyncio.to_thread(self._launch, model, generation, plan)
        self._owned[child.identity] = _Owned(
            child.identity, child.nonce, plan, child.log_path, child.popen
        )
        return SpawnedProcess(child.identity, str(child.log_path), child.nonce, child.from_standby)

    def _launch(self, model: str, generation: int, plan: LaunchPlan) -> Child:
        child = launch(model, generation, plan, self._state_dir, self._logs)
        self._groups.join(child.nonce, child.identity.pid)
        return child

    async def adopt(self, server: Server) -> SpawnedProcess | None:
        """Take over the process that an earlier service started for this server; see the port."""
        if server.plan is None:
            return None
        nonce, log_path = server.plan.nonce, self._log_path_of(server)
        identity = server.identity
        has_ended = identity is not None and not await _in_thread(partial(is_alive, identity))
        if not has_ended:
            identity = await self._find_proven(identity, nonce, log_path)
        if identity is None:
            return None
        owned = _Owned(identity, nonce, server.plan, log_path)
        # An ended process is adopted without proof, which only a running one can give: its exit is
        # reported and its descendants are cleaned up, but its session may be another's by now.
        owned.is_proven = not has_ended
        await self._take_over(owned)
        return SpawnedProcess(identity, str(log_path))

    async def orphans(self, nonces: Collection[str]) -> tuple[Identity, ...]:
        """Take over the processes of an earlier service whose records are damaged or lost.

        nonces: the nonces of all readable records.

        Call this after all adoptions and before the first spawn. Each returned process leads a
        group, and its nonce names a working directory of this state directory; the caller decides
        whether to end it. The descendants of processes that have exited are ended before this
        returns, and their working directories removed.
        """
        found = await _in_thread(lambda: work_dir_nonces(self._state_dir))
        ours = {owned.nonce for owned in self._owned.values()}
        unknown = [nonce for nonce in found if nonce not in nonces and nonce not in ours]
        leaders = await asyncio.gather(*map(self._adopt_orphan, unknown))
        await asyncio.to_thread(self._groups.kill_all_but, {*nonces, *found})
        return tuple(filter(None, leaders))

    async def exited(self, identity: Identity) -> ExitReport:
        """Wait for the exit of a process; see the port.

        Only macOS reports the exit code of a process that is no child of the service.
        """
        status = await wait_for_exit(self._watch, identity)
        owned = self._owned.get(identity)
        if owned is None:
            return self._report("", status, ())
        if owned.report is None:
            owned.report = await _in_thread(lambda: self._reap_and_report(owned, status))
        return owned.report

    async def signal(self, identity: Identity, stop: StopSignal) -> None:
        """Send a signal to the group that the process leads; see the port."""
        owned = self._owned.get(identity)
        if owned and owned.popen is None:
            # Note the session's members before the signal. An adopted process is no child: another
            # process reaps it after its exit, and then the session's number may be reused.
            with contextlib.suppress(OSError):
                owned.members |= await asyncio.to_thread(_members_of, owned)
        if owned and owned.plan and stop is StopSignal.TERMINATE:
            await asyncio.to_thread(
                self._prompts.allow, owned.plan, self._work_dir(owned), self._running_plans()
            )

        async def send() -> None:
            send_to_group(identity, stop)

        await retry_on_shortage(send)

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
        tree = ProcessTree(
            identity.pid,
            owned.nonce,
            owned.members,
            self._other_children(owned),
            owned.log_path,
            self._work_dir(owned),
            self._groups,
        )
        drain = LeftoverRequests(tree, endpoint, drain_time, owned.escalated).drain
        killed = await end_descendants(self._watch, tree, self._delays.term_timeout_s, drain)
        await asyncio.to_thread(self._clean_up, owned)
        self._owned.pop(identity, None)
        return killed

    def escalate(self, identity: Identity) -> None:
        """End the drain of a running `clean_up`; see the port."""
        owned = self._owned.get(identity)
        if owned is not None:
            owned.escalated.set()

    def _work_dir(self, owned: _Owned) -> Path:
        return work_dirs(self._state_dir) / owned.nonce

    def _running_plans(self) -> dict[Path, LaunchPlan]:
        """Return the plans of the processes that have not been reaped, by working directory."""
        running = (each for each in self._owned.values() if each.report is None)
        return {self._work_dir(each): each.plan for each in running if each.plan}

    def _other_children(self, owned: _Owned) -> frozenset[int]:
        """Return the pids of the service's other unreaped children, which are no descendants."""
        children = ((each.identity.pid, each.popen) for each in self._owned.values())
        running = {pid for pid, popen in children if popen and popen.returncode is None}
        return frozenset(running - {owned.identity.pid})

    def _log_path_of(self, server: Server) -> Path:
        """Return the path of a server's log; a recorded path counts only in the log directory."""
        recorded = Path(server.log_path)
        is_ours = server.log_path and self._logs.is_log_path(recorded)
        return recorded if is_ours else self._logs.path_of(server.model, server.generation)

    async def _find_proven(
        self, recorded: Identity | None, nonce: str, log_path: Path | None
    ) -> Identity | None:
        """Return the leader with this nonce if it is proven to be of this pool, else None.

        1. The recorded process is returned if it is proven.
        2. Else the leader of the process tree with the nonce is returned if it is proven.
        3. If that leader is not proven, the state directory is a copy and the process is another
           pool's. The process is left alone, and the copied working directory is removed.
        4. If there is no leader, all processes with the nonce are its descendants. They are ended,
           and the working directory is removed.
        """
        directory = work_dirs(self._state_dir) / nonce

        def is_ours(identity: Identity) -> bool:
            grouped = identity in self._groups.members(nonce)
            proven = is_of_pool(identity.pid, nonce, directory, log_path, grouped=grouped)
            # Alive afterwards: the proof was of this process, not of a later one with its pid.
            return proven and is_alive(identity)

        if recorded is not None and await _in_thread(lambda: is_ours(recorded)):
            return recorded
        if recorded is not None:
            _log.warning("a record names a process that is not of this pool", pid=recorded.pid)
        found = await self._find_leader(nonce)
        if found is None:
            await self._end_descendants(nonce)
        elif not await _in_thread(lambda: is_ours(found)):
            _log.warning("a process of another pool is left alone", pid=found.pid)
            await asyncio.to_thread(self._remove_work_dir, nonce)
            return None
        return found

    async def _find_leader(self, nonce: str) -> Identity | None:
        """Return the leader of the process tree with this nonce; None if there is none."""
        leader = await _in_thread(lambda: leader_of(nonce))
        if leader is None:
            # Between fork and exec a process still has its parent's environment.
            await asyncio.sleep(self._delays.rescan_s)
            leader = await _in_thread(lambda: leader_of(nonce))
        return leader

    async def _adopt_orphan(self, nonce: str) -> Identity | None:
        leader = await self._find_proven(None, nonce, None)
        if leader is None:
            return None
        _log.warning("a process of this pool has no record", pid=leader.pid)
        await self._take_over(_Owned(leader, nonce, None, None))
        return leader

    async def _take_over(self, found: _Owned) -> None:
        members = await _in_thread(lambda: _members_of(found))
        owned = self._owned.setdefault(found.identity, found)
        owned.members |= members
        if owned.log_path:
            self._logs.adopt(owned.log_path)
        if owned.plan:
            await asyncio.to_thread(self._prompts.note_allowed, owned.plan, self._work_dir(owned))

    async def _end_descendants(self, nonce: str) -> None:
        """End the descendants of a process that no longer exists."""
        work_dir = work_dirs(self._state_dir) / nonce
        tree = ProcessTree(None, nonce, work_dir=work_dir, groups=self._groups)
        await end_descendants(self._watch, tree, self._delays.term_timeout_s)
        await asyncio.to_thread(self._remove, nonce)

    def _reap_and_report(self, owned: _Owned, status: ExitStatus) -> ExitReport:
        """Reap an ended process and return the report of its exit.

        status: how the process ended according to the exit watch; the exit code from reaping takes
            precedence.
        """
        # Noted first: once the process is reaped, its pid and its session's number may be reused.
        owned.members |= _members_of(owned)
        code = reap(owned.popen) if owned.popen else reap_adopted(owned.identity)
        lines = owned.last_lines()
        reaped = status if code is None else replace(status, code=code)
        return self._report(owned.plan.kind if owned.plan else "", reaped, lines)

    def _report(self, kind: str, status: ExitStatus, lines: tuple[str, ...]) -> ExitReport:
        code = status.code if status.code is None or status.code >= 0 else None
        number = -status.code if status.code is not None and status.code < 0 else None
        diagnosis, message = self._diagnose_of(kind)(code, number, lines)
        if status.was_killed_for_memory:
            diagnosis, message = KILLED_FOR_MEMORY
        return ExitReport(code, number, diagnosis, message, lines)

    def _clean_up(self, owned: _Owned) -> None:
        if owned.log_path:
            self._logs.release(owned.log_path)
        if owned.plan:
            self._prompts.take(owned.plan, self._work_dir(owned))
        self._remove(owned.nonce)
        if owned.popen is None:
            log_unproven(owned.identity)

    def _remove(self, nonce: str) -> None:
        self._groups.kill_and_remove(nonce)
        self._remove_work_dir(nonce)

    def _remove_work_dir(self, nonce: str) -> None:
        try:
            remove_tree(work_dirs(self._state_dir) / nonce)
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("cannot remove a working directory", error=str(error))


async def _in_thread(read: Callable[[], T]) -> T:
    """Call a function in a thread, again while descriptors are short, and return its result."""
    return await retry_on_shortage(lambda: asyncio.to_thread(read))


def _members_of(owned: _Owned) -> frozenset[Identity]:
    """Return the other members of a process's session; empty if the process is not proven."""
    return members_of(owned.identity) if owned.is_proven else frozenset()
