"""The command line: the entry point of `pool-service`.

Before a command runs only click is imported, so that every command starts quickly.
"""

import gc
import os
import sys

from pool_service.adapters.system.process_settings import unblock_signals

GC_THRESHOLD = 20_000
"""New objects between two garbage collections. Imports create tens of thousands of objects that
stay; collecting every 700 objects, Python's default, would take a tenth of the start."""

CALLER_ENVIRONMENT = dict(os.environ)
"""The environment before `main` sets variables for libraries: that of the COMMAND of `hold`."""


def main() -> None:
    """Run `pool-service`."""
    unblock_signals()
    _open_streams()
    # gRPC reads these when it is imported. Its fork handlers break children that are spawned by a
    # real fork, and its own log lines would appear between ours.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Otherwise pydantic searches every installed package for plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.set_threshold(GC_THRESHOLD)

    try:
        from pool_service.cli.commands import pool_service

        pool_service(prog_name="pool-service")
    except KeyboardInterrupt:
        # During the imports; `Group` handles Ctrl-C once a command runs.
        from pool_service.cli.exit_codes import ExitCode

        sys.exit(ExitCode.INTERRUPTED)


def _open_streams() -> None:
    """Open /dev/null for each standard stream that the caller has closed.

    Otherwise the next file or socket opened would get the stream's descriptor.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
