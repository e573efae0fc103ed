"""Benchmarks: every figure as a ratio to a baseline that was measured beside it."""

import os

# Read when grpc is imported: with it a child that is made by fork can die before its exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
