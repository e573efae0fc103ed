"""The command line. Only click is imported before a command runs, so that each answers quickly."""

import os


def main() -> None:
    """What `pool-service` runs."""
    # gRPC reads these when it is imported. With fork support on, its handlers run in each child
    # that is spawned by a real fork, and break it; its own log would stand between our lines.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    from pool_service.cli.commands import pool_service

    pool_service(prog_name="pool-service")
