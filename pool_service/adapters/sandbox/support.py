"""Whether this machine can confine the processes of a Python interpreter: Linux and macOS."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import structlog

from pool_service.adapters.children.confinement.confine import VARIABLE
from pool_service.adapters.children.confinement.program_places import NVIDIA
from pool_service.adapters.children.standby_child import LATE_MODULES, MODULES
from pool_service.adapters.runtime.search import ProgramCache, output_of
from pool_service.adapters.sandbox import seatbelt
from pool_service.adapters.sandbox.surroundings import CONFINED_CHILD, to_message
from pool_service.core.types import Sandbox

_log = structlog.get_logger(__name__)

_COMPILING_TIMEOUT_S = 600.0
"""Compiling takes some seconds, and much longer on a busy machine."""

_IMPORTS = f"""
import importlib, os
os.nice(19)
for name in {[*MODULES, *LATE_MODULES]}:
    try:
        importlib.import_module(name)
    except Exception:
        pass
"""


class SandboxSupport(Protocol):
    """Finds out whether processes can be confined here."""

    async def flaw(self, interpreter: str, private: Sequence[str]) -> str:
        """Return why processes of an interpreter cannot be confined; empty if they can.

        private: directories that they must not read.
        """

    def doubt(self) -> str:
        """Return why processes are not confined here unless told so; empty if they are."""


class LinuxSupport:
    """Landlock and seccomp: a process of the interpreter tries to confine itself.

    compiles: let the runtime's modules be compiled where they are not yet.
    """

    def __init__(self, *, compiles: bool = True) -> None:
        self._compiles = compiles
        self._flaws: dict[tuple[str, ...], ProgramCache[str]] = {}
        self._compiling: set[asyncio.Task[str | None]] = set()

    async def flaw(self, interpreter: str, private: Sequence[str]) -> str:
        """See the port. Asked once, until the interpreter's file changes."""

        async def ask(path: Path) -> str:
            return await self._try(str(path), private)

        cache = self._flaws.setdefault(tuple(private), ProgramCache(ask))
        return await cache.of(Path(interpreter))

    async def _try(self, interpreter: str, private: Sequence[str]) -> str:
        """Return why a process of an interpreter could not confine itself; empty if it could."""
        sandbox = Sandbox(private=tuple(private))
        variables = {VARIABLE: json.dumps(to_message(sandbox))}
        output = await output_of(interpreter, str(CONFINED_CHILD), variables=variables)
        try:
            found = json.loads(output or "")
            if found["lacks_bytecode"] and self._compiles:
                self._compile(interpreter)
            return str(found["flaw"])
        except (ValueError, LookupError, TypeError):
            return f"{Path(interpreter).name} could not try it"

    def _compile(self, interpreter: str) -> None:
        """Let an interpreter keep the runtime's compiled modules, in the background.

        Confined processes may not write them, and would compile them at each start.
        """
        _log.info("the modules of the runtime are compiled once", python=interpreter)
        work = output_of(interpreter, "-c", _IMPORTS, timeout_s=_COMPILING_TIMEOUT_S)
        task = asyncio.create_task(work)
        self._compiling.add(task)
        task.add_done_callback(self._compiling.discard)

    def doubt(self) -> str:
        """See the port."""
        if Path(NVIDIA).exists():
            return "its driver for NVIDIA has not been tried in a sandbox"
        return ""


class DarwinSupport:
    """Seatbelt, by `sandbox-exec`: not yet run on a Mac."""

    async def flaw(self, interpreter: str, private: Sequence[str]) -> str:  # noqa: ARG002
        """See the port; nothing that is private is readable unless it is named."""
        files = (Path(interpreter), Path(os.path.realpath(interpreter)))  # noqa: ASYNC240
        sandbox = Sandbox(tuple(str(place) for file in files for place in file.parents[:2]))
        text = seatbelt.profile(sandbox, Path("/private/var/empty"))
        command = (seatbelt.SANDBOX_EXEC, "-p", text, interpreter, "-c", "print(1)")
        if await output_of(*command) != "1\n":
            return f"{seatbelt.SANDBOX_EXEC} could not run {interpreter}"
        return ""

    def doubt(self) -> str:
        """See the port."""
        return "the sandbox has not been tried on macOS"


def sandbox_support(*, compiles: bool = True) -> SandboxSupport:
    """Return what finds out whether this system can confine processes.

    compiles: see `LinuxSupport`.
    """
    return DarwinSupport() if sys.platform == "darwin" else LinuxSupport(compiles=compiles)
