"""Control groups of servers, on Linux (version 2), where a group is delegated to the service.

A systemd that starts the service with `Delegate=` and `DelegateSubgroup=` lets it divide a group,
in which the service's own group stands. Beside that the service makes one for its servers, and in
it one for each process, named by its nonce:

    UNIT/service             the service, its guard and its helpers
    UNIT/servers-STATE_DIR   memory.max: a backstop of the budget
    UNIT/servers-STATE_DIR/NONCE

A process cannot leave its group by a new session, another environment or closed files. A confined
one cannot leave it at all.

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
from collections.abc import Iterator
from pathlib import Path

import structlog

from pool_service.adapters.system.proc_file import text_of
from pool_service.core.types import FOREVER

DELEGATED = ("user.delegate", "trusted.delegate")
"""The attributes with the value 1 by which systemd marks a group that is delegated."""

LIMIT_SHARE = 1.1
"""The memory at which the kernel steps in, as a share of the budget: later than the service."""

END_TIMEOUT_S = 5.0
"""Time for killed processes to be gone: one that hangs in the kernel may never be."""

_log = structlog.get_logger(__name__)


class ControlGroups:
    """The control groups of the processes of one state directory.

    servers: the group that holds them; None: there are none, and every method does nothing.
    """

    def __init__(self, servers: Path | None = None) -> None:
        self._servers = servers
        self._is_failing = False

    @property
    def is_there(self) -> bool:
        """Whether processes get groups of their own."""
        return self._servers is not None

    @property
    def whole(self) -> Path | None:
        """The delegated group, which holds the service as well; None: there is none."""
        return self._servers.parent if self._servers else None

    def join(self, nonce: str, pid: int) -> None:
        """Move a new process into a group of its own. What it has forked before stays outside."""
        if self._servers is None:
            return
        group = self._servers / nonce
        try:
            group.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                # Killed for memory, a server ends as a whole.
                _write(group / "memory.oom.group", "1")
            _write(group / "cgroup.procs", str(pid))
        except ProcessLookupError:
            # It has ended already.
            return
        except OSError as error:
            if not self._is_failing:
                _log.warning("servers get no control groups", why=str(error))
            self._is_failing = True

    def members(self, nonce: str) -> frozenset[int]:
        """Return the pids in the group of a process, and in groups that were made below it."""
        if self._servers is None:
            return frozenset()
        groups = _with_subgroups(self._servers / nonce)
        found = (text_of(group / "cgroup.procs") for group in groups)
        return frozenset(int(pid) for text in found for pid in text.split())

    def nonces(self) -> frozenset[str]:
        """Return the nonces of all groups that are there."""
        if self._servers is None:
            return frozenset()
        with contextlib.suppress(OSError):
            return frozenset(one.name for one in self._servers.iterdir() if one.is_dir())
        return frozenset()

    def end(self, nonce: str) -> None:
        """Kill whatever is left in the group of a process, and remove the group. Blocking."""
        if self._servers is None:
            return
        group = self._servers / nonce
        try:
            _kill(group)
            for one in [*_with_subgroups(group)][::-1]:
                one.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warning("cannot remove a control group", group=str(group), error=str(error))

    def limit(self, budget: float) -> None:
        """Bound the memory of all servers together, a little above the budget in bytes.

        budget: FOREVER: no limit.
        """
        if self._servers is None:
            return
        try:
            most = "max" if budget == FOREVER else str(int(budget * LIMIT_SHARE))
            _write(self._servers / "memory.max", most)
        except FileNotFoundError:
            # The controller of memory is not delegated.
            return
        except OSError as error:
            _log.warning("cannot bound the memory of all servers", error=str(error))


def delegated_groups(state_dir: Path, root: Path = Path("/")) -> ControlGroups:
    """Return the groups of this service; none if no group is delegated to it.

    root: the root of the file system; another one in tests.
    """
    own = _own_group(root)
    if own is None or not _is_delegated(own.parent):
        return ControlGroups()
    name = hashlib.sha256(os.fsencode(os.path.realpath(state_dir))).hexdigest()[:12]
    servers = own.parent / f"servers-{name}"
    try:
        servers.mkdir(exist_ok=True)
    except OSError as error:
        _log.warning("servers get no control groups", why=str(error))
        return ControlGroups()
    for group in (own.parent, servers):
        # EBUSY: a process is in the group itself. ENOENT: the controller is not delegated.
        with contextlib.suppress(OSError):
            _write(group / "cgroup.subtree_control", "+memory")
    _log.info("each server gets a control group of its own", below=str(servers))
    return ControlGroups(servers)


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
            poll.poll(min(left, 0.1) * 1000)
            events.seek(0)


def _kill_once(group: Path) -> None:
    try:
        _write(group / "cgroup.kill", "1")
    except FileNotFoundError:
        # Before Linux 5.14.
        for one in _with_subgroups(group):
            for pid in text_of(one / "cgroup.procs").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)


def _write(file: Path, text: str) -> None:
    # Without O_CREAT: in a directory that is no control group nothing is made.
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
