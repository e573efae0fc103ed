"""Finds what keeps models of a valid configuration from starting, before anybody asks for one.

`config check` tells it, `serve` logs it, and `reload` answers with it: all by `find_problems`.
"""

from pool_service.preflight.inspection import find_problems
from pool_service.preflight.problem import Problem

__all__ = ["Problem", "find_problems"]
