"""Confines this process in two steps: when it starts, and when it is told its model.

The first step binds all threads, as there is only one. It permits what any server that it can
become needs, such as the directories of all configured models. The second one leaves only the
model's files. Before ABI 8 of Landlock it does not bind the threads that libraries have started
meanwhile. They run none of the model's Python code; but code that takes over such a thread can read
what the first step permits, and no more.
"""

import json
import os
from collections.abc import MutableMapping
from typing import Any

from . import call_filter, fixed_address, landlock
from .program_places import DEVICES, NVIDIA, SYSTEM, TooWideError, graphics, program_places

VARIABLE = "POOL_SERVICE_SANDBOX"
"""The variable with {"readable": [path], "ports": [port] or null, "private": [path]}, as JSON: what
this process may use, and what no place that it reads may contain. Without it, it is not confined.
"""

NO_COMPILER = "MLX_DISABLE_COMPILE"
"""The variable with which MLX fuses no operations. On a processor it would run a compiler of C++
for that, whose results it keeps in a directory that all servers share. Without, a server generates
as fast (0.99 of the processor time, of 8 rounds in turns), and answers its first request sooner.
"""

NEWEST = 1000
"""No version of Landlock's interface is that high."""


class ConfinementError(RuntimeError):
    """This process cannot be confined."""


class Confinement:
    """The confinement of this process; making one confines it.

    sent: the content of VARIABLE; {"abi": the version of Landlock to use} is for tests.

    The working directory is the only one in which the process may change anything. Raises
    ConfinementError.
    """

    def __init__(self, sent: "dict[str, Any]") -> None:
        if flaw := landlock.flaw() or call_filter.machine_flaw():
            raise ConfinementError(flaw)
        self._abi = min(landlock.abi(), sent.get("abi", NEWEST))
        self._work_dir = os.getcwd()
        self._places: tuple[str, ...] = ()
        try:
            self._places = (*SYSTEM, *program_places(sent["private"]))
            self._restrict(sent)
        except (OSError, TooWideError) as error:
            raise ConfinementError(str(error)) from error
        try:
            call_filter.install(call_filter.program_of(os.getpid()))
        except OSError as error:
            raise ConfinementError(f"its calls cannot be filtered ({error.strerror})") from error

    def narrow(self, sent: "dict[str, Any]") -> None:
        """Permit only what is sent from now on, as far as it was permitted before.

        Raises ConfinementError.
        """
        try:
            self._restrict(sent)
        except OSError as error:
            raise ConfinementError(str(error)) from error

    def fix_address(self, host: str, port: str) -> None:
        """Let a server listen by uvicorn on this address, and on no other one.

        Raises OSError if the address cannot be used.
        """
        bound = fixed_address.fix_address(host, port)
        if bound is not None:
            fixed_address.listen_by(bound)

    def _restrict(self, sent: "dict[str, Any]") -> None:
        ports = sent["ports"]
        grants = landlock.Grants(
            readable=(*self._places, *sent["readable"]),
            writable=(self._work_dir,),
            devices=(*DEVICES, *graphics()),
            ports=None if ports is None else tuple(ports),
        )
        landlock.restrict(grants, self._abi)


def confine_as_sent(environment: "MutableMapping[str, str]") -> "Confinement | None":
    """Confine this process as VARIABLE says, and remove that; None without it.

    Raises ConfinementError.
    """
    sent = environment.pop(VARIABLE, None)
    if sent is None:
        return None
    if not os.path.exists(NVIDIA):
        environment.setdefault(NO_COMPILER, "1")
    return Confinement(json.loads(sent))
