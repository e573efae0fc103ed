"""Makes a service, or a guard, one of macOS as far as Linux can; no other process."""

import os
import sys
from pathlib import Path
from typing import Any


def is_ours(arguments: list[str]) -> bool:
    """Whether this is the command line of a service or of a guard."""
    names = [Path(argument).name for argument in arguments]
    return "pool_service.guard" in names or {"pool-service", "serve"} <= set(names)


def become_macos() -> None:
    """Let what is imported from now on, and all that asks later, find itself on macOS."""
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
    import asyncio  # noqa: F401, PLC0415 - all these are those of Linux
    import ctypes.util  # noqa: PLC0415
    import subprocess  # noqa: PLC0415
    import sysconfig  # noqa: PLC0415

    import click  # noqa: F401, PLC0415
    import grpc  # noqa: F401, PLC0415
    import psutil  # noqa: F401, PLC0415
    import pydantic  # noqa: F401, PLC0415
    import structlog  # noqa: F401, PLC0415

    from pool_service.adapters.logs import log_writes  # noqa: PLC0415
    from pool_service.adapters.process import exits  # noqa: PLC0415

    # It is named by the platform, and read when it is first asked for.
    sysconfig.get_config_vars()
    watch, notes = exits.exit_watch, log_writes._notifications
    for name in [name for name in sys.modules if name.startswith("pool_service")]:
        del sys.modules[name]
    setattr(subprocess, "_USE_VFORK", False)  # noqa: B010  # no public name
    setattr(subprocess, "_USE_POSIX_SPAWN", False)  # noqa: B010
    replace_libraries(ctypes)
    replace_sysctl(subprocess)
    sys.platform = "darwin"
    from pool_service.adapters.logs import log_writes as log_writes_of_macos  # noqa: PLC0415
    from pool_service.adapters.process import exits as exits_of_macos  # noqa: PLC0415

    setattr(exits_of_macos, "exit_watch", watch)  # noqa: B010
    setattr(log_writes_of_macos, "_notifications", notes)  # noqa: B010


def replace_libraries(ctypes: Any) -> None:
    """Let the libraries of macOS be the one that tells from /proc."""
    load = ctypes.CDLL
    macos = load(os.environ["FAKE_LIBPROC"], use_errno=True)

    def cdll(name: str | None = None, *arguments: Any, **named: Any) -> Any:
        is_macos = name in (None, "/usr/lib/libproc.dylib")
        return macos if is_macos else load(name, *arguments, **named)

    ctypes.CDLL = cdll


def replace_sysctl(subprocess: Any) -> None:
    """Let the command that names the boot answer."""
    run = subprocess.run

    def answered(command: Any, *arguments: Any, **named: Any) -> Any:
        if command == ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"):
            return subprocess.CompletedProcess(command, 0, "0F2B7A30-2E5C-4D6B-9C0E-6E6B1F0C9A11\n")
        return run(command, *arguments, **named)

    subprocess.run = answered


if is_ours(sys.orig_argv):
    become_macos()
