"""The command line. Only click is imported before a command runs, so that each answers quickly."""

import gc
import os
import sys

from pool_service.adapters.system.child import unblock_signals

MANY_OBJECTS = 20_000
"""What is imported makes tens of thousands of objects that stay, and a call few that only a
collection finds: to look for those each 700 objects, as by default, is a tenth of a start."""

ENVIRONMENT = dict(os.environ)
"""As it was given, without what `main` sets for libraries: for programs that are started."""


def main() -> None:
    """Run `pool-service`."""
    unblock_signals()
    _open_streams()
    # gRPC reads these when it is imported. With fork support on, its handlers run in each child
    # that is spawned by a real fork, and break it; its own log would stand between our lines.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Else pydantic asks each package that is installed whether it has a plugin for it.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.set_threshold(MANY_OBJECTS)

    try:
        from pool_service.cli.commands import pool_service

        pool_service(prog_name="pool-service")
    except KeyboardInterrupt:
        # While it imports; a command that runs ends by itself in the same way.
        from pool_service.cli.exit_codes import ExitCode

        sys.exit(ExitCode.INTERRUPTED)


def _open_streams() -> None:
    """A stream that the caller closed is as /dev/null.

    Else its descriptor would become that of the next file or socket that is opened.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
