"""Who a process is: its pid, when it started, and on which boot of the machine.

All that differs between Linux and macOS in looking at a process is here. Every function
takes a pid that may be anybody's and is quick enough for the event loop.
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
from pool_service.adapters.system.proc_file import read
from pool_service.core.types import Identity

LARGEST_PID = 2**31 - 1
"""A larger number stands for no process on any system."""


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """What the system says of a pid: when its process started (opaque), whether it ended."""

    start_time: int
    is_zombie: bool


def identity_of(pid: int) -> Identity | None:
    """The identity of the process that has this pid now, a zombie's too; None: no such process.

    Raises OSError where no descriptor or memory is left to look.
    """
    status = status_of(pid)
    return None if status is None else Identity(pid, status.start_time, boot_id())


def is_alive(identity: Identity) -> bool:
    """Whether this very process still runs; a zombie has ended.

    Raises OSError where no descriptor or memory is left to look.
    """
    status = status_of(identity.pid)
    if status is None or status.is_zombie:
        return False
    return status.start_time == identity.start_time and boot_id() == identity.boot_id


def blindness() -> str:
    """Return why processes cannot be told from each other here, and what to do; "": they can."""
    if identity_of(os.getpid()) is not None:
        return ""
    where = "" if sys.platform == "darwin" else " Mount /proc where the service runs."
    return f"the system shows no processes, so no server could be looked after.{where}"


def is_in_session(pid: int, leader_pid: int) -> bool:
    """Whether a process belongs to the session that `leader_pid` leads or led.

    So does who is in its group: a group is within one session.
    """
    try:
        return os.getsid(pid) == leader_pid
    except (ProcessLookupError, PermissionError):
        return False


def member_pids(leader_pid: int) -> list[int]:
    """Return the other processes of the session that this one leads, or led, its group included."""
    return [pid for pid in psutil.pids() if pid != leader_pid and is_in_session(pid, leader_pid)]


def is_session_leader(pid: int) -> bool:
    """Whether a process leads a session of its own."""
    try:
        return os.getsid(pid) == pid
    except (ProcessLookupError, PermissionError):
        return False


def parse_stat(stat: bytes) -> ProcessStatus:
    """Read Linux's /proc/PID/stat: field 3 is the state, field 22 the start in ticks since boot.

    Field 2 is the program's name in brackets; a program chooses it, spaces and brackets included.
    """
    fields = stat[stat.rindex(b")") + 1 :].split(maxsplit=20)
    return ProcessStatus(start_time=int(fields[19]), is_zombie=fields[0] in (b"Z", b"X"))


def parse_environ(environment: bytes, name: str) -> str | None:
    """Read a variable out of Linux's /proc/PID/environ; "": not there; None: not all is there.

    Each ends with a NUL; who becomes another program between two reads ends it anywhere.
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
        """Return what the system says of a pid; None: there is no such process.

        The start is the kernel's own note, in microseconds of Unix time: psutil corrects its
        create_time() when the wall clock is set, which would make a process another one.
        """
        info = _BsdInfo()
        size = ctypes.sizeof(info)
        ctypes.set_errno(0)
        # 1: a zombie, too.
        got = _libproc.proc_pidinfo(pid, _PROC_PIDTBSDINFO, 1, ctypes.byref(info), size)
        if got != size:
            # ESRCH, or EPERM: another user's, so none of ours.
            number = ctypes.get_errno()
            raise_shortage(OSError(number, os.strerror(number)))
            return None
        start = info.start_seconds * 1_000_000 + info.start_microseconds
        # Its end is told of when all but its last step is done, and it is no zombie yet.
        has_ended = info.status == _SZOMB or bool(info.flags & _PROC_FLAG_INEXIT)
        return ProcessStatus(start_time=start, is_zombie=has_ended)

    def variable_of(pid: int, name: str) -> str | None:
        """A variable of the environment that a process was started with; as of Linux."""
        try:
            environment = psutil.Process(pid).environ()
        except OSError as error:
            raise_shortage(error)
            return None
        except (psutil.Error, SystemError):
            # What psutil makes of one that is ending or becoming another program.
            return None
        return environment.get(name, "") if environment else None

    @functools.cache
    def boot_id() -> str:
        """A name of this boot of the machine."""
        command = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

else:

    def status_of(pid: int) -> ProcessStatus | None:
        """Return what the system says of a pid; None: there is no such process."""
        try:
            return parse_stat(read(f"/proc/{pid}/stat"))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            # The last: another user's, so none of ours (hidepid).
            return None

    def variable_of(pid: int, name: str) -> str | None:
        """A variable of the environment that a process was started with.

        Empty: it has none of that name. None: its environment is not to be seen whole, now or
        ever: it has ended, it is just becoming another program (then it may be forbidden, too),
        it is another user's or the kernel's own. A sixth of what psutil takes, which
        matters where all are asked.

        Raises OSError where no descriptor or memory is left to look.
        """
        try:
            environment = read(f"/proc/{pid}/environ")
        except OSError as error:
            raise_shortage(error)
            return None
        return parse_environ(environment, name)

    @functools.cache
    def boot_id() -> str:
        """A name of this boot of the machine."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            # Hidden by a sandbox. A pid with the same start, in ticks since the boot, says enough.
            return "unknown"
