"""The command line. Only click is imported before a command runs, so that each answers quickly."""

import os
import sys

ENVIRONMENT = dict(os.environ)
"""As it was given, without what `main` sets for gRPC: for programs that are started."""


def main() -> None:
    """What `pool-service` runs."""
    _open_streams()
    # gRPC reads these when it is imported. With fork support on, its handlers run in each child
    # that is spawned by a real fork, and break it; its own log would stand between our lines.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    from pool_service.cli.commands import pool_service

    pool_service(prog_name="pool-service")


def _open_streams() -> None:
    """A stream that the caller closed is as /dev/null.

    Else its descriptor would become that of the next file or socket that is opened.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
