"""Whether this machine can confine the processes of a Python interpreter: Linux and macOS."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pool_service.adapters.children.confinement.confine import VARIABLE
from pool_service.adapters.children.confinement.program_places import NVIDIA
from pool_service.adapters.runtime.search import ProgramCache, output_of
from pool_service.adapters.sandbox.surroundings import CONFINED_CHILD, to_message
from pool_service.core.types import Sandbox


class SandboxSupport(Protocol):
    """Finds out whether processes can be confined here."""

    async def flaw(self, interpreter: str, private: Sequence[str]) -> str:
        """Return why processes of an interpreter cannot be confined; empty if they can.

        private: directories that they must not read.
        """

    def doubt(self) -> str:
        """Return why processes are not confined here unless told so; empty if they are."""


class LinuxSupport:
    """Landlock and seccomp: a process of the interpreter tries to confine itself."""

    def __init__(self) -> None:
        self._flaws: dict[tuple[str, ...], ProgramCache[str]] = {}

    async def flaw(self, interpreter: str, private: Sequence[str]) -> str:
        """See the port. Asked once, until the interpreter's file changes."""

        async def ask(path: Path) -> str:
            return await _tried(str(path), private)

        cache = self._flaws.setdefault(tuple(private), ProgramCache(ask))
        return await cache.of(Path(interpreter))

    def doubt(self) -> str:
        """See the port."""
        if Path(NVIDIA).exists():
            return "its driver for NVIDIA has not been tried in a sandbox"
        return ""


class NoSupport:
    """Systems on which no process is confined."""

    async def flaw(self, interpreter: str, private: Sequence[str]) -> str:  # noqa: ARG002
        """See the port."""
        return f"there is no sandbox for {sys.platform}"

    def doubt(self) -> str:
        """See the port."""
        return ""


def sandbox_support() -> SandboxSupport:
    """Return what finds out whether this system can confine processes."""
    return LinuxSupport() if sys.platform == "linux" else NoSupport()


async def _tried(interpreter: str, private: Sequence[str]) -> str:
    """Return why a process of an interpreter could not confine itself; empty if it could."""
    sandbox = Sandbox(private=tuple(private))
    variables = {VARIABLE: json.dumps(to_message(sandbox))}
    output = await output_of(interpreter, str(CONFINED_CHILD), variables=variables)
    try:
        return str(json.loads(output or "")["flaw"])
    except (ValueError, LookupError, TypeError):
        return f"{os.path.basename(interpreter)} could not try it"  # noqa: PTH119
