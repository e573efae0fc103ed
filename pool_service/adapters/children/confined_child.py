"""Runs a program confined, or tells whether that is possible.

    PYTHON confined_child.py [PROGRAM ARGUMENT...]

Confines itself as `confinement.confine.VARIABLE` says, and becomes the program. Without a program
it prints one line of JSON: {"flaw": why a process of this Python cannot be confined, or "",
"lacks_bytecode": whether Python could keep the compiled modules of vllm-mlx, and has not yet}.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

PACKAGE = "vllm_mlx"


def main() -> None:
    # This file's own directory comes first in the path.
    confine: Any = importlib.import_module("confinement.confine")
    command = sys.argv[1:]
    if command:
        confine.confine_as_sent(os.environ)
        os.execvp(command[0], command)  # noqa: S606  # the operator's own program
    lacks, flaw = lacks_bytecode(), ""
    try:
        confine.confine_as_sent(os.environ)
    except confine.ConfinementError as error:
        flaw = str(error)
    print(json.dumps({"flaw": flaw, "lacks_bytecode": lacks}))


def lacks_bytecode() -> bool:
    """Return whether Python could keep the compiled modules of PACKAGE, and has not yet."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.origin or sys.dont_write_bytecode:
        return False
    kept = Path(importlib.util.cache_from_source(found.origin))
    return not kept.exists() and os.access(kept.parents[1], os.W_OK)


if __name__ == "__main__":
    main()
