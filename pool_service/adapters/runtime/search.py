"""Finds the runtime's program, and the version of a vllm-mlx.

Order: the configured command; for the default one vllm-mlx beside the running
interpreter, on PATH, and the provisioned one.
"""

import ast
import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.system.environment import scrubbed
from pool_service.adapters.system.os_errors import reason
from pool_service.adapters.system.writers import first_flaw
from pool_service.core.errors import RuntimeUnavailable
from pool_service.paths import PathFlaw, absolute, begins_a_path

INSTALL = "pool-service runtime install"

T = TypeVar("T")

_VERSION = re.compile(r"\d+(?:\.\d+)+\S*")
_QUERY = f"import importlib.metadata as m; print(m.version({vllm_mlx.DISTRIBUTION!r}))"
# Seconds; an interpreter takes 0.05, on a cold disk more.
_QUERY_TIMEOUT = 20.0
# When the program's file was changed, in nanoseconds, and its size in bytes.
_Stamp = tuple[int, int]
# What a script's first two lines take at most; longer paths do not work either.
_HEAD_BYTES = 4096
# What installers write takes some hundred bytes.
_LARGEST_SCRIPT = 16 * 1024
_MOST_OUTPUT = 64 * 1024

_USUAL_NAMES = frozenset(
    {"__name__", "argv", "endswith", "exit", "main", "re", "removesuffix", "sub", "sys"}
)
"""Of what pip, uv and their like write into the script of a program."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that was found: where, and how."""

    path: Path
    found: str


def search_configured(name: str) -> Program:
    """A path, or a name on PATH. Raises RuntimeUnavailable if there is no such program."""
    if os.sep not in name and not begins_a_path(name):
        on_path = shutil.which(name)
        if on_path:
            return Program(Path(on_path).absolute(), "configured, on PATH")
        raise RuntimeUnavailable(
            f"The runtime {name!r} was not found on PATH; install it, or correct its command in "
            "the configuration."
        )
    # The process gets another working directory: a relative path would lead nowhere there.
    try:
        path = absolute(name)
        if not path.is_file():
            why = "is no file" if path.exists() else "does not exist"
            raise RuntimeUnavailable(
                f"The runtime '{path}' {why}; correct its command in the configuration."
            )
    except PathFlaw as flaw:
        raise RuntimeUnavailable(f"The runtime {name!r} cannot be found: it {flaw}.") from flaw
    except OSError as error:
        raise RuntimeUnavailable(
            f"The runtime {name!r} cannot be found: {reason(error)}"
        ) from error
    if not os.access(path, os.X_OK):
        raise RuntimeUnavailable(f"The runtime '{path}' is not executable; chmod +x it.")
    return Program(path, "configured")


def search_default(provisioned: Callable[[], Path | None]) -> Program | None:
    """vllm-mlx where it usually is; None if it is nowhere."""
    # Not resolved: the interpreter of a virtual environment is a link to another's.
    beside = Path(sys.executable).parent
    for found, where in (("beside the running interpreter", str(beside)), ("on PATH", None)):
        path = shutil.which(vllm_mlx.PROGRAM, path=where)
        if path:
            return Program(Path(path).absolute(), found)
    installed = provisioned()
    return Program(installed, f"installed by {INSTALL}") if installed else None


def interpreter_of(script: Path) -> str | None:
    """The Python that runs a script; None if it is no Python script, or cannot be read."""
    command = python_of(script)
    return command[0] if command else None


def python_of(script: Path) -> tuple[str, ...] | None:
    """Return the Python that runs a script, and the options that it is given; None as above."""
    try:
        with script.open("rb") as file:
            head = file.read(_HEAD_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return None
    if not head or not head[0].startswith("#!"):
        return None
    program, *options = head[0][2:].split() or [""]
    if Path(program).name == "env":
        name, *options = [word for word in options if word != "-S"] or [""]
        program = shutil.which(name) or ""
    elif Path(program).name == "sh" and len(head) > 1:
        program, *options = _exec_line(head[1])
    return (program, *options) if "python" in Path(program).name else None


def _first_words(script: Path) -> list[str]:
    """Return what stands behind the `#!` of a script; nothing if it is none, or cannot be read."""
    try:
        with script.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return []
    line = head.partition(b"\n")[0]
    return line[2:].decode(errors="replace").split() if line.startswith(b"#!") else []


def _files_of(arguments: Sequence[str]) -> list[str]:
    """Return the files that arguments name, as `FILE` or `--option=FILE`."""
    named = (word.partition("=")[2] if word.startswith("-") else word for word in arguments)
    return [name for name in named if name.startswith(os.sep) and Path(name).is_file()]


def is_usual_script(script: Path) -> bool:
    """Whether it does no more than to call vllm-mlx's `main`, as installers write it.

    One with options behind its `#!`, or with lines of somebody's own, does something else.
    """
    try:
        with script.open("rb") as file:
            content = file.read(_LARGEST_SCRIPT + 1)
        text = content.decode()
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return False
    if len(content) > _LARGEST_SCRIPT:
        return False
    head = text.partition("\n")[0][2:].split()
    has_options = len(head) > (2 if head and Path(head[0]).name == "env" else 1)
    return not has_options and all(map(_is_usual, tree.body)) and "vllm_mlx.cli" in text


def _is_usual(statement: ast.stmt) -> bool:
    match statement:
        case ast.Import(names):
            return {name.name for name in names} <= _USUAL_NAMES
        case ast.ImportFrom(module, [ast.alias("main", None)]):
            return module == "vllm_mlx.cli"
        case ast.Expr(ast.Constant()):
            return True
        case ast.If() | ast.Expr(ast.Call()):
            return _names(statement) <= _USUAL_NAMES
        case _:
            return False


def _names(statement: ast.stmt) -> set[str]:
    found = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return found | {node.attr for node in ast.walk(statement) if isinstance(node, ast.Attribute)}


def _exec_line(line: str) -> list[str]:
    """Read what installers write where a path is long or has spaces: '''exec' PYTHON "$0" "$@"."""
    with contextlib.suppress(ValueError):
        words = shlex.split(line)
        if words[:1] == ["exec"] and len(words) > 1:
            return [word for word in words[1:] if not word.startswith("$")]
    return [""]


class Answers(Generic[T]):
    """The versions that programs report, cached until the program's file changes."""

    def __init__(self, ask: Callable[[Path], Awaitable[T]]) -> None:
        self._ask = ask
        self._known: dict[Path, tuple[_Stamp, T]] = {}
        self._lock = asyncio.Lock()

    async def of(self, path: Path) -> T:
        """Return what the program at `path` says."""
        known = self._lookup(path)
        if known:
            return known[1]
        # Of many starts at once one asks.
        async with self._lock:
            known = self._lookup(path)
            if not known:
                known = (_stamp(path), await self._ask(path))
                self._known[path] = known
            return known[1]

    def _lookup(self, path: Path) -> tuple[_Stamp, T] | None:
        known = self._known.get(path)
        return known if known and known[0] == _stamp(path) else None


def check_writers(program: Program, arguments: Sequence[str], trusted: tuple[Path, ...]) -> None:
    """Raise RuntimeUnavailable if others could put another program in the place of this one.

    What runs it counts like it, and so do the files that its arguments name: the program may be
    an interpreter, and the file its script.
    """
    python = interpreter_of(program.path)
    words = [*_first_words(program.path), *([python] if python else []), *_files_of(arguments)]
    paths = [program.path, *(Path(word) for word in words if word.startswith(os.sep))]
    try:
        found = first_flaw(paths, trusted)
    except OSError as error:
        raise RuntimeUnavailable(
            f"The runtime '{program.path}' cannot be looked at: {reason(error)}"
        ) from error
    if found is not None:
        raise RuntimeUnavailable(
            f"The runtime '{program.path}' is not run, because other users could change it: "
            f"{found}. If that is meant to be so, name its directory in [service] "
            "trusted_directories."
        )


def check_version(program: Program, version: str | None) -> None:
    """Raise RuntimeUnavailable for a vllm-mlx that is too old, or of which that is not known."""
    wanted = ".".join(map(str, vllm_mlx.MINIMUM_VERSION))
    if version is None:
        raise RuntimeUnavailable(
            f"The version of vllm-mlx at '{program.path}' could not be found out (is it a wrapper, "
            f"or half installed?); name the program itself in [runtime] command, or run "
            f"'{INSTALL}'."
        )
    if release_of(version) < vllm_mlx.MINIMUM_VERSION:
        raise RuntimeUnavailable(
            f"vllm-mlx {version} at '{program.path}' is too old, {wanted} or later is needed; "
            f"upgrade it there, or remove it and run '{INSTALL}'."
        )


def release_of(version: str) -> tuple[int, ...]:
    """The numbers before any suffix: of 0.3.0rc1 these are 0, 3, 0."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(number) for number in match[0].split(".")] if match else []
    return tuple([*numbers, 0, 0, 0][: max(3, len(numbers))])


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


async def version_of(path: Path) -> str | None:
    """The version, without importing it where its metadata can be had; None: not known."""
    interpreter = interpreter_of(path)
    if interpreter:
        output = await output_of(interpreter, "-c", _QUERY)
        if output:
            return output.strip()
    output = await output_of(str(path), "--version")
    match = _VERSION.search(output or "")
    return match[0] if match else None


async def output_of(*command: str) -> str | None:
    """Return what a command prints; None if it fails or takes too long.

    Into a file: a pipe would be waited for as long as any descendant holds it.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.DEVNULL,
                env=dict(scrubbed(os.environ)),
                # Python takes modules from where it runs.
                cwd="/",
                start_new_session=True,
            )
        except OSError:
            return None
        try:
            code = await asyncio.wait_for(process.wait(), _QUERY_TIMEOUT)
        except TimeoutError:
            return None
        finally:
            await _end(process)
        output.seek(0)
        return output.read(_MOST_OUTPUT).decode(errors="replace") if code == 0 else None


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the whole group of a process, which a wrapper's program belongs to."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
