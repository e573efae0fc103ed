"""A sandbox that forbids system calls, as containers and old kernels do: a filter of seccomp."""

import sys
from collections.abc import Sequence

_PROGRAM = """
import ctypes, os, struct, sys
numbers, error = [int(word) for word in sys.argv[1].split(",")], int(sys.argv[2])
# struct sock_filter: load the call's number; equal to one: that error; else allow.
lines = [(0x20, 0, 0, 0)]
for number in numbers:
    lines += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | error)]
lines += [(0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
program = Program(len(lines), ctypes.cast(code, ctypes.c_void_p))
libc = ctypes.CDLL(None, use_errno=True)
for arguments in ((38, 1, 0, 0, 0), (22, 2, ctypes.byref(program), 0, 0)):
    if libc.prctl(*arguments):
        sys.exit("no filter: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[3], sys.argv[3:])
"""


def forbidding(numbers: Sequence[int], error: int) -> list[str]:
    """Return a command that becomes the one that follows it, for which these calls fail."""
    return [sys.executable, "-c", _PROGRAM, ",".join(map(str, numbers)), str(error)]
