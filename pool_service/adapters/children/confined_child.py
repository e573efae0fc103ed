"""Runs a program confined, or tells whether that is possible.

    PYTHON confined_child.py [PROGRAM ARGUMENT...]

Confines itself as `confinement.confine.VARIABLE` says, and becomes the program. Without a program
it prints one line of JSON: {"flaw": why a process of this Python cannot be confined, or ""}.
"""

import importlib
import json
import os
import sys
from typing import Any


def main() -> None:
    # This file's own directory comes first in the path.
    confine: Any = importlib.import_module("confinement.confine")
    command = sys.argv[1:]
    try:
        confine.confine_as_sent(os.environ)
    except confine.ConfinementError as error:
        if command:
            raise
        print(json.dumps({"flaw": str(error)}))
        return
    if command:
        os.execvp(command[0], command)  # noqa: S606  # the operator's own program
    print(json.dumps({"flaw": ""}))


if __name__ == "__main__":
    main()
