"""The languages that there is a client of: how each is built, and what is run of it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.toolchain import trouble_with

CLIENTS = Path(__file__).parents[2] / "clients"
EXAMPLES = CLIENTS / "python/examples"


class NotBuilt(Exception):
    """Why a client cannot be run, in words."""


class NoToolchain(NotBuilt):
    """What would build it is not installed, or does not run."""


@dataclass(frozen=True, slots=True)
class Language:
    """One column. toolchain: programs that build and run it; what is run is in `directory`.

    cancels: whether a call that waits for one answer can be given up before its time.
    """

    key: str
    title: str
    directory: Path
    toolchain: tuple[str, ...] = ()
    runner: tuple[str, ...] = ("build/runner",)
    example: tuple[str, ...] = ("build/example",)
    chat: tuple[str, ...] = ("build/chat",)
    engine: tuple[str, ...] = ("build/engine",)
    cancels: bool = True

    def build(self) -> None:
        """Build what of it is out of date. Raises NotBuilt."""
        if not self.toolchain:
            return
        for program in self.toolchain:
            if trouble := trouble_with(program):
                raise NoToolchain(f"{trouble}: its client was left out")
        built = subprocess.run(
            ["make", "-C", str(self.directory), "programs"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if built.returncode:
            raise NotBuilt(f"the client for {self.title} does not build:\n{built.stdout[-4000:]}")

    def command(self, program: Sequence[str]) -> list[str]:
        """How one of its programs is run, with `directory` as the working directory."""
        name = program[0]
        return [str(self.directory / name) if "/" in name else name, *program[1:]]


def _python(key: str, title: str, kind: str, *, cancels: bool) -> Language:
    return Language(
        key,
        title,
        CLIENTS / "python",
        runner=(sys.executable, "-m", "conformance", kind),
        example=(sys.executable, str(EXAMPLES / "ensure.py")),
        chat=(sys.executable, str(EXAMPLES / "chat.py")),
        engine=(sys.executable, str(EXAMPLES / "engine.py")),
        cancels=cancels,
    )


_ALL = (
    _python("python", "Python", "sync", cancels=False),
    _python("asyncio", "Python, asyncio", "asyncio", cancels=True),
    Language("go", "Go", CLIENTS / "go", ("go",)),
    Language("rust", "Rust", CLIENTS / "rust", ("cargo",)),
    Language("typescript", "TypeScript", CLIENTS / "typescript", ("node", "npm")),
)

LANGUAGES = tuple(language for language in _ALL if language.directory.is_dir())

NOTHING_IS_LEFT_OUT = bool(os.environ.get("CI"))
"""Where a toolchain that is missing is a failure."""
