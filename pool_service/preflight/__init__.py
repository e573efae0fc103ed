"""Preflight: finds what keeps models of a valid configuration from starting on this machine.

`config check` prints the problems, `serve` logs them, and a reload returns them.
"""

from pool_service.preflight.inspection import find_problems
from pool_service.preflight.problem import Problem

__all__ = ["Problem", "find_problems"]
