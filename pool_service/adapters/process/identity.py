"""Process identity: the pid, the start time and the boot, which together are unique.

All differences between Linux and macOS in reading a process's state are here. The functions accept
the pid of any process, and are quick enough for the event loop.
"""

import ctypes
import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from pool_service.adapters.system.os_errors import raise_shortage
from pool_service.adapters.system.proc_file import read_file
from pool_service.core.types import Identity

MAX_PID = 2**31 - 1
"""The largest pid of any supported system."""


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """The state of a process: its start time (in units of the platform) and whether it has ended.

    is_zombie: whether the process has ended and is not reaped yet.
    """

    start_time: int
    is_zombie: bool


def identity_of(pid: int) -> Identity | None:
    """Return the identity of the process with this pid, zombies included; None if there is none.

    Raises OSError if the system lacks descriptors or memory.
    """
    status = status_of(pid)
    return None if status is None else Identity(pid, status.start_time, boot_id())


def is_alive(identity: Identity) -> bool:
    """Return whether this very process still runs; False for a zombie.

    Raises OSError if the system lacks descriptors or memory.
    """
    status = status_of(identity.pid)
    if status is None or status.is_zombie:
        return False
    return status.start_time == identity.start_time and boot_id() == identity.boot_id


def visibility_flaw() -> str:
    """Return why the state of processes cannot be read, and what to do; empty if it can."""
    if identity_of(os.getpid()) is not None:
        return ""
    where = "" if sys.platform == "darwin" else " Mount /proc where the service runs."
    return f"the system shows no processes, so no server could be supervised.{where}"


def is_in_session(pid: int, leader_pid: int) -> bool:
    """Return whether a process is in the session that `leader_pid` leads or led.

    A group lies within one session, so the session has all members of the leader's group.
    """
    try:
        return os.getsid(pid) == leader_pid
    except (ProcessLookupError, PermissionError):
        return False


def session_member_pids(leader_pid: int) -> list[int]:
    """Return the pids in the session that `leader_pid` leads or led, without the leader."""
    return [pid for pid in psutil.pids() if pid != leader_pid and is_in_session(pid, leader_pid)]


def is_session_leader(pid: int) -> bool:
    """Return whether a process leads a session."""
    try:
        return os.getsid(pid) == pid
    except (ProcessLookupError, PermissionError):
        return False


def parse_stat(stat: bytes) -> ProcessStatus:
    """Parse Linux's /proc/PID/stat: field 3 is the state, field 22 the start in ticks since boot.

    Field 2 is the program's name in brackets, which may itself contain spaces and brackets.
    """
    fields = stat[stat.rindex(b")") + 1 :].split(maxsplit=20)
    return ProcessStatus(start_time=int(fields[19]), is_zombie=fields[0] in (b"Z", b"X"))


def parse_environ(environment: bytes, name: str) -> str | None:
    """Return one variable of a /proc/PID/environ (Linux); "" if unset, None if it may be cut off.

    Each variable ends with a NUL; an exec between two reads cuts the text off anywhere.
    """
    _, _, rest = (b"\0" + environment).partition(b"\0" + os.fsencode(name) + b"=")
    value, is_whole, _ = rest.partition(b"\0")
    if is_whole:
        return os.fsdecode(value)
    return "" if environment.endswith(b"\0") else None


if sys.platform == "darwin":
    # From <sys/proc_info.h> and <sys/proc.h> of xnu-11417.101.15.
    _PROC_PIDTBSDINFO = 3
    _PROC_FLAG_INEXIT = 4
    _SZOMB = 5

    class _BsdInfo(ctypes.Structure):
        """`struct proc_bsdinfo` of <sys/proc_info.h>, 136 bytes."""

        _fields_ = (
            ("flags", ctypes.c_uint32),
            ("status", ctypes.c_uint32),
            ("exit_status", ctypes.c_uint32),
            ("pid", ctypes.c_uint32),
            ("parent_and_users", ctypes.c_uint32 * 8),
            ("names", ctypes.c_char * 48),
            ("files_groups_terminal_nice", ctypes.c_uint32 * 6),
            ("start_seconds", ctypes.c_uint64),
            ("start_microseconds", ctypes.c_uint64),
        )

    _libproc = ctypes.CDLL("/usr/lib/libproc.dylib", use_errno=True)
    _libproc.proc_pidinfo.argtypes = (
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_uint64,
        ctypes.c_void_p,
        ctypes.c_int,
    )

    def status_of(pid: int) -> ProcessStatus | None:
        """Return the state of the process with this pid; None if there is none.

        The start time is the kernel's own, in microseconds of Unix time. psutil's create_time()
        changes when the wall clock is set, so that it does not identify a process.
        """
        info = _BsdInfo()
        size = ctypes.sizeof(info)
        ctypes.set_errno(0)
        # 1: zombies included.
        got = _libproc.proc_pidinfo(pid, _PROC_PIDTBSDINFO, 1, ctypes.byref(info), size)
        if got != size:
            # ESRCH; or EPERM for another user's process, which is none of the pool's.
            number = ctypes.get_errno()
            raise_shortage(OSError(number, os.strerror(number)))
            return None
        start = info.start_seconds * 1_000_000 + info.start_microseconds
        # The kernel notifies of an exit shortly before the process becomes a zombie.
        has_ended = info.status == _SZOMB or bool(info.flags & _PROC_FLAG_INEXIT)
        return ProcessStatus(start_time=start, is_zombie=has_ended)

    def variable_of(pid: int, name: str) -> str | None:
        """Return a variable of the environment that a process was started with; "" if unset.

        None if the environment cannot be read: the process has ended, is in an exec, or is another
        user's. Raises OSError if the system lacks descriptors or memory.
        """
        try:
            environment = psutil.Process(pid).environ()
        except OSError as error:
            raise_shortage(error)
            return None
        except (psutil.Error, SystemError):
            # The process is ending, or in an exec.
            return None
        return environment.get(name, "") if environment else None

    @functools.cache
    def boot_id() -> str:
        """Return a name that is unique for this boot of the machine."""
        command = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

else:

    def status_of(pid: int) -> ProcessStatus | None:
        """Return the state of the process with this pid; None if there is none."""
        try:
            return parse_stat(read_file(f"/proc/{pid}/stat"))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            # PermissionError (hidepid): another user's process, which is none of the pool's.
            return None

    def variable_of(pid: int, name: str) -> str | None:
        """Return a variable of the environment that a process was started with; "" if unset.

        None if the environment cannot be read completely: the process has ended, is in an exec, or
        is another user's or the kernel's. Takes a sixth of psutil's time, which matters when every
        process of the machine is read.

        Raises OSError if the system lacks descriptors or memory.
        """
        try:
            environment = read_file(f"/proc/{pid}/environ")
        except OSError as error:
            raise_shortage(error)
            return None
        return parse_environ(environment, name)

    @functools.cache
    def boot_id() -> str:
        """Return a name that is unique for this boot of the machine."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            # Hidden by a sandbox. The pid and the start in ticks since the boot must suffice.
            return "unknown"
