"""Confines this process in two steps: when it starts, and when it is told its model.

The first step binds all threads, as there is only one. It permits what any server of this spec
needs, such as the directories of all configured models. The second one leaves only the model's
files. Before ABI 8 of Landlock it does not bind the threads that libraries have started meanwhile;
these run none of the model's Python code, but code that takes over such a thread can read what the
first step permits, and no more.
"""

import os
from collections.abc import Sequence
from typing import Any

from . import call_filter, landlock
from .program_places import DEVICES, SYSTEM, program_places


class Confinement:
    """The confinement of this process; making one confines it.

    sent: what the service sends: {"readable": [path], "ports": [port], "private": [path],
        "abi": the version of Landlock to use}. private: what no other place may contain.

    The working directory is the only one in which the process may change anything. Raises OSError,
    or TooWideError.
    """

    def __init__(self, sent: "dict[str, Any]") -> None:
        self._abi = min(landlock.abi(), sent["abi"])
        self._places = (*SYSTEM, *program_places(sent["private"]))
        self._work_dir = os.getcwd()
        self._restrict(sent["readable"], sent["ports"])
        call_filter.install(call_filter.program_of(os.getpid()))

    def narrow(self, readable: "Sequence[str]", ports: "Sequence[int]") -> None:
        """Permit only some of the readable paths and ports from now on. Raises OSError."""
        self._restrict(readable, ports)

    def _restrict(self, readable: "Sequence[str]", ports: "Sequence[int]") -> None:
        grants = landlock.Grants(
            readable=(*self._places, *readable),
            writable=(self._work_dir,),
            devices=DEVICES,
            ports=tuple(ports),
        )
        landlock.restrict(grants, self._abi)
