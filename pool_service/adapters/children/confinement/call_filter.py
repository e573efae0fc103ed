"""The filter of system calls in which a confined process runs (seccomp, Linux).

The runtime's interpreter runs this file, so it imports only the standard library.

Landlock decides by files; this filter decides by calls, and covers what Landlock does not:
- sockets: only TCP sockets can be made, none can be connected, and none sends to an address. So a
  process reaches neither the network nor, by a path, the sockets of this machine.
- other processes: no signals, limits, priorities or memory of processes but its own.
- files: changes of modes, owners and times do nothing. Landlock does not see them, nor some ways to
  open a file.
- leaving: a process stays in its session, under its parent, and in its namespaces.
- the kernel: calls that a server never needs, and those that are newer than this list.

The kernel runs the filter for each call, with its number and arguments, but without what pointers
lead to. It holds for all later threads and processes, and cannot be taken off.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .call_numbers import ARCHITECTURES, NUMBERS, SECCOMP_NUMBERS

PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 1

ALLOW, RETURN = 0x7FFF0000, 0x00050000
"""SECCOMP_RET_ALLOW and SECCOMP_RET_ERRNO; an error's number is added to the latter."""

NOTHING = 0
"""The "error" of a call that is left out, and says that it was done."""

LOAD, AND, JUMP_IF_EQUAL, JUMP_IF_GREATER_OR_EQUAL, END = 0x20, 0x54, 0x15, 0x35, 0x06
"""Instructions of the classic BPF machine, with 32-bit words and constants."""

NUMBER_OFFSET, ARCHITECTURE_OFFSET, ARGUMENTS_OFFSET = 0, 4, 16
"""Offsets in struct seccomp_data."""

FIRST_UNKNOWN = 470
"""The first number that Linux 6.18 does not have; calls from x32 on have numbers far above."""

ANY_BITS = 0xFFFFFFFF
POINTER_BYTES = 8
PRIO_PROCESS, IOPRIO_WHO_PROCESS = 0, 1
AF_INET, AF_INET6, AF_UNIX = 2, 10, 1
SOCK_STREAM, SOCKET_TYPE_BITS = 1, 0xF
IPPROTO_TCP = 6
MSG_FASTOPEN = 0x20000000
"""Makes a send connect, past Landlock's check of connections."""

CLONE_NEW = 0x7E020000
"""All flags that make a namespace: CLONE_NEWNS, and CLONE_NEWCGROUP to CLONE_NEWNET."""
CLONE_PARENT = 0x8000
F_SETOWN, F_SETOWN_EX, F_SETLEASE = 8, 15, 1024
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
IOCTL_TYPE_BITS = 0xFF00
IOCTL_TYPES = (0x6600, 0x5800, 0x7600, 0x9400, 0x8900)
"""The types of ioctl calls that change the attributes of files (of all file systems, of XFS, of FAT
and of btrfs), and of those about sockets, which set an owner for signals, and addresses."""

OPENING = {"open": 1, "openat": 2}
"""Calls that open a file, with the position of their flags."""

ACCESS_BITS, O_TRUNC = 3, 0o1000
NEITHER_READ_NOR_WRITE = 3
"""The access mode with which Linux checks for both and gives neither. Landlock asks for no right
then; the descriptor still does for a lease or an ioctl."""

NEVER = (
    # Sockets. A runtime listens and answers; it calls nobody.
    "connect",
    # Signals to others, by what needs no more than the same user.
    *("tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal"),
    # The memory, descriptors and scheduling of others.
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd"),
    *("move_pages", "migrate_pages", "shmget", "shmat", "semget", "semop", "semtimedop"),
    *("msgget", "msgsnd", "msgrcv", "mq_open", "mq_unlink", "mq_notify"),
    # What could be read or changed past the check of paths.
    *("open_by_handle_at", "truncate", "file_setattr", "fanotify_init"),
    *("inotify_init", "inotify_init1", "inotify_add_watch"),
    # What leads out of the session, in which the service finds all descendants, and namespaces.
    *("setsid", "setpgid", "unshare", "setns", "chroot", "pivot_root"),
    *("mount", "umount2", "fsopen", "fsconfig", "fsmount", "fspick", "open_tree", "move_mount"),
    "mount_setattr",
    # Keys of the user's session.
    *("add_key", "request_key", "keyctl"),
    # Parts of the kernel that no runtime needs, and in which flaws are often found.
    *("bpf", "perf_event_open", "userfaultfd", "modify_ldt"),
    # The machine, if the service runs as root.
    *("acct", "adjtimex", "clock_adjtime", "clock_settime", "settimeofday", "sethostname"),
    *("setdomainname", "init_module", "finit_module", "delete_module", "kexec_load"),
    *("kexec_file_load", "reboot", "swapon", "swapoff", "quotactl", "quotactl_fd", "syslog"),
    *("iopl", "ioperm", "vhangup"),
)
"""Calls that fail with EPERM."""

ABSENT = ("io_uring_setup", "io_uring_enter", "io_uring_register", "clone3", "openat2")
"""Calls that fail with ENOSYS, as on an older kernel, for which libraries have another way.

io_uring does what this filter refuses. The flags of clone3 and openat2 are behind a pointer; those
of clone and openat can be checked.
"""

WITHOUT_EFFECT = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2"),
    *("utime", "utimes", "futimesat", "utimensat"),
)
"""Calls that do nothing and succeed: copying a file ends with them, and would fail otherwise."""

UNSUPPORTED = (
    *("setxattr", "lsetxattr", "fsetxattr", "setxattrat"),
    *("removexattr", "lremovexattr", "fremovexattr", "removexattrat"),
    *("chown", "lchown", "fchown", "fchownat"),
)
"""Calls that fail with ENOTSUP, as on a file system that cannot do this."""


UNCONDITIONAL = (
    (NEVER, errno.EPERM),
    (ABSENT, errno.ENOSYS),
    (WITHOUT_EFFECT, NOTHING),
    (UNSUPPORTED, errno.ENOTSUP),
)
"""Calls that are refused whatever their arguments are, with their errors."""

OF_ONE_PROCESS = (
    *("prlimit64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"),
)
"""Calls whose first argument is a pid; 0 is the caller's own."""


@dataclass(frozen=True)
class Test:
    """A test of one argument: whether `bits` of it have `value`.

    position: of the argument, from 0. is_wide: compare all 64 bits with `value`. Otherwise the
    lower 32: the kernel takes no more of an `int`.
    """

    position: int
    value: int
    bits: int = ANY_BITS
    is_wide: bool = False


@dataclass(frozen=True)
class Rule:
    """Decides what happens to one call.

    error: the errno of a refusal; NOTHING leaves the call out and says that it was done.
    cases: groups of tests; a group holds if all of its tests do.
    allows: whether the call is allowed if a group holds and refused otherwise, or the reverse.
    """

    name: str
    error: int
    cases: "tuple[tuple[Test, ...], ...]" = ()
    allows: bool = True


class Instruction(NamedTuple):
    """A struct sock_filter; the jumps are counted from the next instruction."""

    code: int
    jump_true: int
    jump_false: int
    constant: int


def rules(pid: int) -> "list[Rule]":
    """Return the rules for a process with this pid; they hold for its descendants, too."""
    own = (Test(0, pid),)
    caller = (Test(0, 0),)
    tcp = tuple(
        (Test(0, family), Test(1, SOCK_STREAM, SOCKET_TYPE_BITS), Test(2, protocol))
        for family in (AF_INET, AF_INET6)
        for protocol in (0, IPPROTO_TCP)
    )
    stream_pair = (Test(0, AF_UNIX), Test(1, SOCK_STREAM, SOCKET_TYPE_BITS))
    to_nobody = (Test(4, 0, is_wide=True), Test(3, 0, MSG_FASTOPEN))
    return [
        *(Rule(name, error) for names, error in UNCONDITIONAL for name in names),
        Rule("socket", errno.EACCES, tcp),
        # A message on a pair of datagram sockets can name another receiver.
        Rule("socketpair", errno.EACCES, (stream_pair,)),
        Rule("sendto", errno.EPERM, (to_nobody,)),
        Rule("sendmsg", errno.EPERM, ((Test(2, 0, MSG_FASTOPEN),),)),
        Rule("sendmmsg", errno.EPERM, ((Test(3, 0, MSG_FASTOPEN),),)),
        *(Rule(name, errno.EPERM, (own,)) for name in ("kill", "tgkill")),
        *(Rule(name, errno.EPERM, (own, caller)) for name in OF_ONE_PROCESS),
        # Who is 0 means the calling thread.
        Rule("setpriority", errno.EPERM, ((Test(0, PRIO_PROCESS), Test(1, 0)),)),
        Rule("ioprio_set", errno.EPERM, ((Test(0, IOPRIO_WHO_PROCESS), Test(1, 0)),)),
        Rule("clone", errno.EPERM, ((Test(0, 0, CLONE_NEW | CLONE_PARENT),),)),
        _refusing("prctl", 0, PR_SET_DUMPABLE),
        # A lease keeps others from opening the file.
        _refusing("fcntl", 1, F_SETOWN, F_SETOWN_EX, F_SETLEASE),
        # As of a device that does not know the call: programs that copy files go on then.
        Rule("ioctl", errno.ENOTTY, _of_ioctl(), allows=False),
        *(Rule(name, errno.EACCES, _of_opening(at), allows=False) for name, at in OPENING.items()),
    ]


def _of_ioctl() -> "tuple[tuple[Test, ...], ...]":
    types = ((Test(1, one, IOCTL_TYPE_BITS),) for one in IOCTL_TYPES)
    return (*types, (Test(1, TIOCSTI),), (Test(1, TIOCLINUX),))


def _of_opening(position: int) -> "tuple[tuple[Test, ...], ...]":
    """Return the flags with which no file may be opened. position: of the flags."""
    return (
        (Test(position, NEITHER_READ_NOR_WRITE, ACCESS_BITS),),
        # Before ABI 3 Landlock asks for no right to cut a file that is opened to be read.
        (Test(position, O_TRUNC, O_TRUNC | ACCESS_BITS),),
    )


def _refusing(name: str, position: int, *values: int) -> Rule:
    """Return the rule that refuses a call with any of these values of an argument."""
    return Rule(name, errno.EPERM, tuple((Test(position, one),) for one in values), allows=False)


def program_of(pid: int) -> "list[Instruction]":
    """Return the program for a process of this machine with this pid. Raises OSError."""
    if flaw := machine_flaw():
        raise OSError(errno.ENOSYS, flaw)
    return assemble(rules(pid), platform.machine())


def assemble(the_rules: "Iterable[Rule]", machine: str) -> "list[Instruction]":
    """Return the program of the rules for a machine of ARCHITECTURES."""
    column = list(ARCHITECTURES).index(machine)
    absent = Instruction(END, 0, 0, RETURN | errno.ENOSYS)
    program = [
        # A program of another architecture, such as i386, has other numbers.
        Instruction(LOAD, 0, 0, ARCHITECTURE_OFFSET),
        Instruction(JUMP_IF_EQUAL, 1, 0, ARCHITECTURES[machine]),
        absent,
        Instruction(LOAD, 0, 0, NUMBER_OFFSET),
        Instruction(JUMP_IF_GREATER_OR_EQUAL, 0, 1, FIRST_UNKNOWN),
        absent,
    ]
    for rule in the_rules:
        number = NUMBERS[rule.name][column]
        if number is not None:
            body = _body(rule)
            program += [Instruction(JUMP_IF_EQUAL, 0, len(body), number), *body]
    return [*program, Instruction(END, 0, 0, ALLOW)]


def _body(rule: Rule) -> "list[Instruction]":
    """Return the instructions that decide about a call, whatever it is; the last one ends it."""
    allowed, refused = (Instruction(END, 0, 0, what) for what in (ALLOW, RETURN | rule.error))
    if_held, otherwise = (allowed, refused) if rule.allows else (refused, allowed)
    body: list[Instruction] = []
    for group in rule.cases:
        words = [word for test in group for word in _words(test)]
        # Each comparison that fails jumps behind the end of its group.
        left = sum(map(len, words)) + 1
        for word in words:
            left -= len(word)
            body += [
                one if one.code != JUMP_IF_EQUAL else one._replace(jump_false=left) for one in word
            ]
        body.append(if_held)
    return [*body, otherwise]


def _words(test: Test) -> "list[list[Instruction]]":
    """Return, for each 32-bit word of a test, the instructions that compare it."""
    offset = ARGUMENTS_OFFSET + 8 * test.position
    masks = [] if test.bits == ANY_BITS else [Instruction(AND, 0, 0, test.bits)]
    low = [
        Instruction(LOAD, 0, 0, offset),
        *masks,
        Instruction(JUMP_IF_EQUAL, 0, 0, test.value & ANY_BITS),
    ]
    if not test.is_wide:
        return [low]
    high = Instruction(JUMP_IF_EQUAL, 0, 0, test.value >> 32)
    return [low, [Instruction(LOAD, 0, 0, offset + 4), high]]


def machine_flaw() -> str:
    """Return why system calls of this machine cannot be filtered; empty if they can."""
    if platform.machine() not in ARCHITECTURES or struct.calcsize("P") != POINTER_BYTES:
        return f"no list of system calls for {platform.machine()}"
    return ""


def install(program: "Sequence[Instruction]") -> None:
    """Filter the calls of all threads of this process, and of all later ones. Raises OSError."""
    code = b"".join(struct.pack("=HBBI", *one) for one in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    zeros = [ctypes.c_ulong(0)] * 3
    if libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), *zeros):
        raise _last_error()
    number = ctypes.c_long(SECCOMP_NUMBERS[platform.machine()])
    result = libc.syscall(
        number, SECCOMP_SET_MODE_FILTER, ctypes.c_ulong(SECCOMP_FILTER_FLAG_TSYNC), header
    )
    if result < 0:
        raise _last_error()
    if result > 0:
        raise OSError(errno.EBUSY, f"thread {result} has a filter of its own")


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
