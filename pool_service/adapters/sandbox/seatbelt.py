"""The profile of a confined process on macOS, for `sandbox-exec` (Seatbelt). Pure.

**Not yet run on a Mac.** A later rule wins over an earlier one.

The profile is fixed when the process starts: macOS has no second, narrower one. So a standby that
has become a server can read all that the standby could.
"""

from collections.abc import Iterable
from pathlib import Path

from pool_service.core.types import Sandbox

SANDBOX_EXEC = "/usr/bin/sandbox-exec"
"""Deprecated by Apple for years, without a replacement for programs that are no applications."""

_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/System", "/Library", "/opt", "/Applications/Xcode.app"),
    *("/private/etc", "/private/var/db/timezone", "/private/var/db/dyld", "/dev"),
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/dtracehelper")

_GRAPHICS = ("AGXDeviceUserClient", "AGXCommandQueue", "IOSurfaceRootUserClient")
"""User clients of the graphics driver: MLX ends at once without the first."""

_SERVICES = (
    # Compiles the kernels of Metal.
    "com.apple.MTLCompilerService",
    # Looks up users and groups.
    "com.apple.system.opendirectoryd.libinfo",
    # Logging.
    *("com.apple.logd", "com.apple.system.notification_center", "com.apple.diagnosticd"),
)


def profile(sandbox: Sandbox, work_dir: Path) -> str:
    """Return the profile of a process with this sandbox and this working directory."""
    work = _named("subpath", [str(work_dir)])
    ports = ["*"] if sandbox.ports is None or 0 in sandbox.ports else map(str, sandbox.ports)
    # The language has no other addresses than these two.
    host = "*" if sandbox.leaves_loopback else "localhost"
    addresses = " ".join(f'(local ip "{host}:{port}")' for port in ports)
    rules = [
        "(version 1)",
        "(deny default)",
        "(allow process-exec process-fork)",
        "(allow signal process-info* (target same-sandbox))",
        "(allow sysctl-read)",
        # Where a path leads, and whether it is there; not what is in it.
        "(allow file-read-metadata)",
        f'(allow file-read* (literal "/") {_named("subpath", _SYSTEM)})',
        # A directory of the system may hold the user's home, say.
        *_about("deny file-read-data", sandbox.private),
        *_about("allow file-read*", sandbox.readable),
        f"(allow file-read* file-write* {work})",
        # A link could mislead the service, which writes there too.
        f"(deny file-link {work})",
        f"(deny file-write-create (require-all {work} (vnode-type SYMLINK)))",
        f"(deny file-write-create (require-all {work} (vnode-type FIFO)))",
        f"(allow file-write-data file-ioctl {_named('literal', _DEVICES)})",
        "(allow iokit-get-properties)",
        f"(allow iokit-open {_named('iokit-user-client-class', _GRAPHICS)})",
        f"(allow mach-lookup {_named('global-name', _SERVICES)})",
        f"(allow network-bind network-inbound {addresses})",
    ]
    return "\n".join(rules) + "\n"


def _about(what: str, places: Iterable[str]) -> list[str]:
    """Return the rule about what is below these places; none without a place."""
    named = _named("subpath", places)
    return [f"({what} {named})"] if named else []


def _named(kind: str, values: Iterable[str]) -> str:
    """Return a filter for each value, as strings of the profile's language."""
    return " ".join(f"({kind} {_quoted(value)})" for value in values)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
