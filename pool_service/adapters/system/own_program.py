"""The command line of a process that runs a module of this package."""

import sys


def own_program(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module by this interpreter.

    It imports nothing from its working directory (-P), which can be anybody's.
    """
    return [sys.executable, "-P", "-m", module, *arguments]
