"""Restriction of this process to some files, ports and its own kind, by Landlock (Linux).

The runtime's interpreter runs this file, so it imports only the standard library. The numbers are
those of <linux/landlock.h>; each version of the kernel's interface (ABI) adds rights that can be
refused. All that this kernel knows are refused, except for what is granted.

A restriction holds for the calling thread and all later threads and processes; for all threads from
ABI 8 on. It cannot be taken off.
"""

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""The numbers of the three calls, the same on all machines."""

PR_SET_NO_NEW_PRIVS = 38

# Only Linux has it.
_O_PATH = getattr(os, "O_PATH", 0)
VERSION_FLAG = 1
FLAWS = {
    errno.ENOSYS: "this kernel has no Landlock",
    errno.EOPNOTSUPP: "Landlock is off in this kernel (its parameter lsm= leaves it out)",
}
"""Why there is no Landlock, by the errors of the kernel."""

RULE_PATH_BENEATH, RULE_NET_PORT = 1, 2
TSYNC_FLAG = 8
TSYNC_ABI = 8

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = (1 << bit for bit in range(4))
REMOVE_DIR, REMOVE_FILE, _, MAKE_DIR, MAKE_REG = (1 << bit for bit in range(4, 9))
REFER, TRUNCATE, IOCTL_DEVICE = (1 << bit for bit in range(13, 16))
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE
"""The rights that a rule for a single file may have."""

FILE_BITS = {1: 13, 2: 14, 3: 15, 5: 16}
"""The number of rights about files, by the first ABI that has so many."""

BIND_TCP, CONNECT_TCP = 1, 2
NET_ABI = 4
ABSTRACT_SOCKETS, SIGNALS = 1, 2
SCOPE_ABI = 6

READ = EXECUTE | READ_FILE | READ_DIR
"""Reading, and running programs, which get the same restriction."""

WRITE = (
    READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | REMOVE_FILE | REMOVE_DIR | MAKE_REG | MAKE_DIR
)
WRITE |= REFER
"""Everything with files and directories. Links, pipes, sockets and devices cannot be made: a link
or pipe could mislead the service, which also writes there. Programs cannot be run from there."""

USE = READ_FILE | WRITE_FILE | IOCTL_DEVICE
"""The use of a device such as /dev/null."""


@dataclass(frozen=True)
class Grants:
    """Holds what a process may still do.

    readable: files and directories to read, and run programs from. writable: directories in which
    to change files. devices: to read, write and control. ports: to listen on; 0: any free one;
    None: all. A path that does not exist is left out.
    """

    readable: "tuple[str, ...]" = ()
    writable: "tuple[str, ...]" = ()
    devices: "tuple[str, ...]" = ()
    ports: "tuple[int, ...] | None" = ()


def abi() -> int:
    """Return the version of the kernel's interface. Raises OSError without Landlock."""
    return _call(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG)


def flaw() -> str:
    """Return why there is no Landlock; empty if there is."""
    if sys.platform != "linux":
        return f"there is no Landlock on {sys.platform}"
    try:
        abi()
    except OSError as error:
        return FLAWS.get(error.errno or 0, f"Landlock is forbidden here ({error.strerror})")
    return ""


def restrict(grants: Grants, version: int) -> None:
    """Restrict this process to what is granted.

    version: the ABI to use, at most that of the kernel. Raises OSError.
    """
    files = (1 << max(bits for first, bits in FILE_BITS.items() if first <= version)) - 1
    net = CONNECT_TCP | (BIND_TCP if grants.ports is not None else 0)
    net = net if version >= NET_ABI else 0
    scopes = ABSTRACT_SOCKETS | SIGNALS if version >= SCOPE_ABI else 0
    attributes = struct.pack("=QQQ", files, net, scopes)
    ruleset = _call(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        for paths, rights in (
            (grants.readable, READ),
            (grants.writable, WRITE),
            (grants.devices, USE),
        ):
            _add_paths(ruleset, paths, rights & files)
        for port in grants.ports or () if net else ():
            _call(ADD_RULE, ruleset, RULE_NET_PORT, struct.pack("=QQ", BIND_TCP, port), 0)
        _forbid_new_privileges()
        _restrict_self(ruleset, TSYNC_FLAG if version >= TSYNC_ABI else 0)
    finally:
        os.close(ruleset)


def _restrict_self(ruleset: int, flag: int) -> None:
    """Restrict this process; a flag that the kernel does not know is left out. Raises OSError."""
    try:
        _call(RESTRICT_SELF, ruleset, flag)
    except OSError as error:
        if not flag or error.errno != errno.EINVAL:
            raise
        _call(RESTRICT_SELF, ruleset, 0)


def _add_paths(ruleset: int, paths: "Iterable[str]", rights: int) -> None:
    for path in paths:
        try:
            opened = os.open(path, _O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            # It could not be used either.
            continue
        try:
            is_directory = stat.S_ISDIR(os.fstat(opened).st_mode)
            allowed = rights if is_directory else rights & OF_FILES
            rule = struct.pack("=Qi", allowed, opened)
            _call(ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0)
        finally:
            os.close(opened)


def _forbid_new_privileges() -> None:
    zeros = [ctypes.c_ulong(0)] * 3
    if _libc().prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), *zeros):
        raise _last_error()


def _call(number: int, *arguments: object) -> int:
    result: int = _libc().syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise _last_error()
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
