"""The places that a Python process reads besides its model: system, interpreter and libraries.

The runtime's interpreter runs this file, so it imports only the standard library. It uses
`os` where `pathlib` would be another import before a start.
"""

import contextlib
import glob
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator

SYSTEM = (
    # Programs and libraries; also in distributions with a place of their own for them.
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt"),
    *("/nix/store", "/gnu/store", "/home/linuxbrew/.linuxbrew"),
    # Of /etc what C libraries read, none of it secret.
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload"),
    *("/etc/localtime", "/etc/timezone", "/etc/locale.alias", "/etc/os-release", "/etc/mime.types"),
    *("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts", "/etc/host.conf"),
    *("/etc/gai.conf", "/etc/ssl/openssl.cnf", "/etc/ssl/certs", "/etc/pki/tls/openssl.cnf"),
    *("/etc/crypto-policies", "/etc/malloc.conf", "/etc/alternatives"),
    # What the machine and this process are like.
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg"),
    *("/proc/uptime", "/proc/version", "/proc/filesystems", "/proc/zoneinfo"),
    *("/proc/sys/vm", "/proc/sys/kernel/osrelease", "/proc/sys/kernel/threads-max"),
    *("/proc/sys/kernel/pid_max", "/proc/sys/kernel/random", "/proc/sys/net/core/somaxconn"),
    *("/sys/devices/system", "/sys/kernel/mm", "/sys/fs/cgroup"),
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
NVIDIA = "/dev/nvidiactl"
"""The device of machines on which MLX computes by CUDA."""
GRAPHICS_PATTERNS = ("/dev/nvidia*", "/dev/nvidia-caps/*", "/dev/dri/render*", "/dev/kfd")


class TooWideError(RuntimeError):
    """A place that the process reads contains one that it must not read."""


def graphics() -> "tuple[str, ...]":
    """Return the devices that compute."""
    return tuple(path for pattern in GRAPHICS_PATTERNS for path in sorted(glob.glob(pattern)))


def program_places(private: "Iterable[str]") -> "tuple[str, ...]":
    """Return the directories and files from which this process takes its code.

    private: directories that none of them may contain, nor a place in SYSTEM. Raises TooWideError.
    """
    places = sorted({os.path.realpath(path) for path in _python_places()} | set(_library_places()))
    for directory in private:
        inside = _below(os.path.realpath(directory))
        for place in places:
            if inside.startswith(_below(place)):
                raise TooWideError(
                    f"Python modules are imported from {place}, which also holds {directory}"
                )
        for place in SYSTEM:
            if inside.startswith(_below(os.path.realpath(place))):
                raise TooWideError(f"servers read {place}, which also holds {directory}")
    return tuple(places)


def _python_places() -> "Iterator[str]":
    yield from (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)
    yield from (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    yield from (path for path in sys.path if os.path.isabs(path))
    yield from (path for path in (sys.executable, sys.pycache_prefix or "") if path)
    # The launcher's own files.
    yield os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # Sources of editable installations.
    for finder in sys.meta_path:
        module = sys.modules.get(getattr(finder, "__module__", ""))
        mapping = getattr(module, "MAPPING", None)
        yield from mapping.values() if isinstance(mapping, dict) else ()


def _library_places() -> "Iterator[str]":
    """Yield the directories of the shared libraries in this process."""
    with contextlib.suppress(OSError), open("/proc/self/maps") as maps:
        for line in maps:
            path = line.split(maxsplit=5)[-1].rstrip("\n")
            if ".so" in path and os.path.isabs(path):
                yield os.path.dirname(path)


def _below(path: str) -> str:
    """Return a path with a separator at its end, with which all paths below it begin."""
    return os.path.join(path, "")
