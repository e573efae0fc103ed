"""Control groups (Linux, version 2) of servers, where one is delegated to the service.

A systemd that starts the service with `Delegate=` and `DelegateSubgroup=` lets it divide a group,
in which the service's own group stands. Beside that the service makes one for its servers, and in
it one for each process, named by a hash of its nonce:

    UNIT/service             the service, its guard and its helpers
    UNIT/servers-STATE_DIR   memory.max: a backstop of the budget
    UNIT/servers-STATE_DIR/NONCE

A process cannot leave its group by a new session, another environment or closed files. A confined
one cannot leave it at all; another one can, by writing into the groups, as its user may.

The rules are those of Linux's Documentation/admin-guide/cgroup-v2.rst, and of systemd's
CGROUP_DELEGATION: a service divides nothing that is not marked as delegated to it, and a group with
controllers for its subgroups has no process itself.
"""

import contextlib
import errno
import hashlib
import os
import select
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import structlog

from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.system.proc_file import text_of
from pool_service.core.types import FOREVER, Identity

DELEGATED = ("user.delegate", "trusted.delegate")
"""The attributes with the value 1 by which systemd marks a group that is delegated."""

LIMIT_SHARE = 1.1
"""The memory at which the kernel steps in, as a share of the budget: later than the service."""

NAME_DIGITS = 32
"""Hexadecimal digits of a group's name."""

END_TIMEOUT_S = 5.0
"""Time for killed processes to be gone: one that hangs in the kernel may never be."""

POLL_S = 0.1
"""Time after which the end of killed processes is looked at again, whether it was told or not."""

_log = structlog.get_logger(__name__)


class ControlGroups:
    """Puts each process of one state directory into a control group of its own.

    servers: the group above those of the processes; None: none is delegated, and every method does
    nothing. Methods that take a nonce mean the group of the process that has it.
    """

    def __init__(self, servers: Path | None = None) -> None:
        self._servers = servers
        self._is_failing = False
        self._budget: float | None = None

    @property
    def delegated(self) -> Path | None:
        """The delegated group, which holds the service as well; None: there is none."""
        return self._servers.parent if self._servers else None

    def join(self, nonce: str, pid: int) -> None:
        """Move a new process into a group of its own. What it has forked before stays outside."""
        if self._servers is None:
            return
        group = self._servers / _name_of(nonce)
        try:
            group.mkdir(exist_ok=True)
            _write(group / "cgroup.procs", str(pid))
            self._is_failing = False
        except ProcessLookupError:
            # It has ended already.
            return
        except OSError as error:
            if not self._is_failing:
                _log.warning("a server gets no control group", why=str(error))
            self._is_failing = True
            return
        # Killed for memory, a server ends as a whole. Without the controller there is no such file.
        with contextlib.suppress(OSError):
            _write(group / "memory.oom.group", "1")

    def members(self, nonce: str) -> frozenset[Identity]:
        """Return the processes in a group, and in groups that were made below it."""
        if self._servers is None:
            return frozenset()
        group = self._servers / _name_of(nonce)
        before = frozenset(filter(None, map(identity_of, _pids_in(group))))
        # Still in it: no other process has got the pid before it was identified.
        pids = _pids_in(group)
        return frozenset(one for one in before if one.pid in pids and identity_of(one.pid) == one)

    def kill_and_remove(self, nonce: str) -> None:
        """Kill whatever is left in a group, and remove the group. Blocking."""
        if self._servers is not None:
            _kill_and_remove(self._servers / _name_of(nonce))
            self._bound_memory()

    def kill_all_but(self, nonces: Collection[str]) -> None:
        """Kill and remove the groups of all other processes. Blocking."""
        if self._servers is None:
            return
        known = set(map(_name_of, nonces))
        with contextlib.suppress(OSError):
            others = [one for one in self._servers.iterdir() if one.is_dir()]
            for group in (one for one in others if one.name not in known):
                _log.warning("ending what a server of an earlier service has left")
                _kill_and_remove(group)

    def limit(self, budget: float) -> None:
        """Bound the memory of all servers together, a little above the budget in bytes. Blocking.

        budget: FOREVER: no limit.
        """
        self._budget = budget
        self._bound_memory()

    def _bound_memory(self) -> None:
        """Bound the memory by the budget, or by what is taken: a lower bound would kill at once."""
        if self._servers is None or self._budget is None:
            return
        try:
            _write(self._servers / "memory.max", _bound(self._servers, self._budget))
        except FileNotFoundError:
            # The controller of memory is not delegated.
            return
        except OSError as error:
            _log.warning("cannot bound the memory of all servers", error=str(error))


def _bound(servers: Path, budget: float) -> str:
    """Return the bound of memory, as the kernel reads it."""
    if budget == FOREVER:
        return "max"
    taken = text_of(servers / "memory.current").strip()
    return str(int(max(budget, int(taken or 0)) * LIMIT_SHARE))


def _name_of(nonce: str) -> str:
    """Return the name of a process's group: others can read it, and the nonce is a proof."""
    return hashlib.sha256(nonce.encode()).hexdigest()[:NAME_DIGITS]


def _kill_and_remove(group: Path) -> None:
    try:
        _kill(group)
        for one in [*_with_subgroups(group)][::-1]:
            one.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        _log.warning("cannot remove a control group", group=str(group), error=str(error))


def delegated_groups(state_dir: Path, root: Path = Path("/")) -> ControlGroups:
    """Return the groups of this service; none if no group is delegated to it.

    root: the root of the file system; another one in tests.
    """
    own = _own_group(root)
    if own is None or not _is_delegated(own.parent):
        return ControlGroups()
    servers = own.parent / f"servers-{_name_of(os.path.realpath(state_dir))}"
    try:
        servers.mkdir(exist_ok=True)
    except OSError as error:
        _log.warning("servers get no control groups", why=str(error))
        return ControlGroups()
    for group in (own.parent, servers):
        try:
            _write(group / "cgroup.subtree_control", "+memory")
        except OSError as error:
            # What a server starts is found all the same.
            _log.warning(
                "the memory of all servers has no bound", group=str(group), why=_why(error)
            )
            break
    _log.info("each server gets a control group of its own", below=str(servers))
    return ControlGroups(servers)


def _why(error: OSError) -> str:
    """Return why a controller cannot be used in a group's subgroups."""
    if error.errno == errno.EBUSY:
        return "processes from before are in the group itself: evict all servers, and start again"
    if error.errno == errno.ENOENT:
        return "the controller is not delegated"
    return str(error)


def _own_group(root: Path) -> Path | None:
    """Return the group of this process, by its path in the file system; None: it has none."""
    own = next(
        (
            line.removeprefix("0::/")
            for line in text_of(root / "proc/self/cgroup").splitlines()
            if line.startswith("0::/")
        ),
        "",
    )
    if not own:
        # The uppermost group cannot be divided beside itself.
        return None
    for mount in _mounts(root):
        if (mount / own).is_dir():
            return mount / own
    return None


def _mounts(root: Path) -> Iterator[Path]:
    """Yield where the hierarchy of version 2 is mounted: see proc_pid_mountinfo(5)."""
    for line in text_of(root / "proc/self/mountinfo").splitlines():
        mounted, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            _id, _parent, _device, _root, place, *_ = mounted.split(" ")
            yield root / place.lstrip("/")


def _is_delegated(group: Path) -> bool:
    for name in DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(group, name) == b"1":  # type: ignore[attr-defined,unused-ignore]
                return True
    return False


def _pids_in(group: Path) -> frozenset[int]:
    """Return the pids in a group and below; without those of other pid namespaces, which read 0."""
    texts = (text_of(one / "cgroup.procs") for one in _with_subgroups(group))
    return frozenset(int(pid) for text in texts for pid in text.split()) - {0}


def _with_subgroups(group: Path) -> Iterator[Path]:
    """Yield a group and all below it, each before those below it."""
    for directory, _, _ in os.walk(group):
        yield Path(directory)


def _kill(group: Path) -> None:
    """Kill all processes of a group and of those below it; return when they are gone.

    Raises OSError, as TimeoutError if one does not end.
    """
    deadline = time.monotonic() + END_TIMEOUT_S
    with (group / "cgroup.events").open() as events:
        while "populated 1" in events.read():
            _kill_once(group)
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(errno.ETIMEDOUT, "a killed process does not end")
            poll = select.poll()
            poll.register(events, select.POLLPRI)
            # In case that the last process ended before the kernel was asked to tell.
            poll.poll(min(left, POLL_S) * 1000)
            events.seek(0)


def _kill_once(group: Path) -> None:
    try:
        _write(group / "cgroup.kill", "1")
    except FileNotFoundError:
        # Before Linux 5.14.
        for pid in _pids_in(group):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _write(file: Path, text: str) -> None:
    # Without O_CREAT: in a directory that is no control group nothing is made.
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
