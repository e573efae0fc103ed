"""Imported once by the process from which services are forked, so that each starts at once."""

import os

# As pool_service.cli has it, which comes too late here.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
os.environ["GRPC_VERBOSITY"] = "NONE"

import pool_service.app
import pool_service.cli.commands  # noqa: F401
import tests.faults.crash_points  # noqa: F401
