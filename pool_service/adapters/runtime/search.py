"""Search for the runtime's program, and for its interpreter and version.

Without a configured command, vllm-mlx is searched beside the running interpreter, on PATH, and
among the installed runtimes (`provision.py`), in this order.
"""

import ast
import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.system.os_errors import reason
from pool_service.adapters.system.server_environment import scrub
from pool_service.adapters.system.writers import first_flaw
from pool_service.core.errors import RuntimeUnavailable
from pool_service.paths import PathFlaw, absolute, begins_a_path

INSTALL = "pool-service runtime install"

T = TypeVar("T")

_VERSION = re.compile(r"\d+(?:\.\d+)+\S*")
_PACKAGES = (vllm_mlx.DISTRIBUTION, *vllm_mlx.COMPUTING_DISTRIBUTIONS)
_QUERY = f"""
import importlib.metadata, json

def find(name):
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return found.version, str(found.locate_file(""))

print(json.dumps([find(name) for name in {_PACKAGES}]))
"""
# An interpreter starts in 0.05 s, on a cold disk in more.
_QUERY_TIMEOUT_S = 20.0
# The modification time of a file or directory in nanoseconds, and its size in bytes.
_Stamp = tuple[int, int]
# Enough for the first two lines of a script, as longer paths do not work.
_HEAD_BYTES = 4096
# A script that an installer has written takes some hundred bytes.
_MAX_SCRIPT_BYTES = 16 * 1024
_MAX_OUTPUT_BYTES = 64 * 1024

_LAUNCHER_NAMES = frozenset(
    {"__name__", "argv", "endswith", "exit", "main", "re", "removesuffix", "sub", "sys"}
)
"""The names that occur in a program's script as pip, uv and other installers write it."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program, and how it was found, in words."""

    path: Path
    found: str


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of a vllm-mlx and of the packages with which it computes.

    own: of vllm-mlx; None if not known.
    computing: of COMPUTING_DISTRIBUTIONS; empty if not known.
    places: the directories that these packages are in, which an installation changes.
    """

    own: str | None = None
    computing: tuple[str, ...] = ()
    places: tuple[Path, ...] = ()


def search_configured(name: str) -> Program:
    """Return the program with this path, or this name on PATH. Raises RuntimeUnavailable."""
    if os.sep not in name and not begins_a_path(name):
        on_path = shutil.which(name)
        if on_path:
            return Program(Path(on_path).absolute(), "configured, on PATH")
        raise RuntimeUnavailable(
            f"The runtime {name!r} was not found on PATH; install it, or correct its command in "
            "the configuration."
        )
    # Made absolute, as the process gets another working directory.
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
    """Return vllm-mlx from its usual places; None if it is in none of them.

    provisioned: returns the program that this service has installed; None without one.
    """
    # Not resolved: the interpreter of a virtual environment is a link to that of the system.
    beside = Path(sys.executable).parent
    for found, where in (("beside the running interpreter", str(beside)), ("on PATH", None)):
        path = shutil.which(vllm_mlx.PROGRAM, path=where)
        if path:
            return Program(Path(path).absolute(), found)
    installed = provisioned()
    return Program(installed, f"installed by {INSTALL}") if installed else None


def interpreter_of(script: Path) -> str | None:
    """Return the Python that runs a script; None if it is no readable Python script."""
    command = python_of(script)
    return command[0] if command else None


def python_of(script: Path) -> tuple[str, ...] | None:
    """Return the Python that runs a script, and its options; None if no readable Python script."""
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
        program, *options = _parse_exec_line(head[1])
    return (program, *options) if "python" in Path(program).name else None


def _shebang(script: Path) -> list[str]:
    """Return the words after the `#!` of a script; empty if it is no readable script."""
    try:
        with script.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return []
    line = head.partition(b"\n")[0]
    return line[2:].decode(errors="replace").split() if line.startswith(b"#!") else []


def _named_files(arguments: Sequence[str]) -> list[str]:
    """Return the existing files that arguments name by path, as `FILE` or `--option=FILE`."""
    named = (word.partition("=")[2] if word.startswith("-") else word for word in arguments)
    return [name for name in named if name.startswith(os.sep) and Path(name).is_file()]


def is_launcher_script(script: Path) -> bool:
    """Return whether a script only calls vllm-mlx's `main`, as installers write it.

    False if it has options after its `#!`, or any other statement.
    """
    try:
        with script.open("rb") as file:
            content = file.read(_MAX_SCRIPT_BYTES + 1)
        text = content.decode()
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return False
    if len(content) > _MAX_SCRIPT_BYTES:
        return False
    head = text.partition("\n")[0][2:].split()
    has_options = len(head) > (2 if head and Path(head[0]).name == "env" else 1)
    return (
        not has_options and all(map(_is_launcher_statement, tree.body)) and "vllm_mlx.cli" in text
    )


def _is_launcher_statement(statement: ast.stmt) -> bool:
    match statement:
        case ast.Import(names):
            return {name.name for name in names} <= _LAUNCHER_NAMES
        case ast.ImportFrom(module, [ast.alias("main", None)]):
            return module == "vllm_mlx.cli"
        case ast.Expr(ast.Constant()):
            return True
        case ast.If() | ast.Expr(ast.Call()):
            return _names(statement) <= _LAUNCHER_NAMES
        case _:
            return False


def _names(statement: ast.stmt) -> set[str]:
    found = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return found | {node.attr for node in ast.walk(statement) if isinstance(node, ast.Attribute)}


def _parse_exec_line(line: str) -> list[str]:
    """Parse the line '''exec' PYTHON "$0" "$@", which installers write for a long path."""
    with contextlib.suppress(ValueError):
        words = shlex.split(line)
        if words[:1] == ["exec"] and len(words) > 1:
            return [word for word in words[1:] if not word.startswith("$")]
    return [""]


class ProgramCache(Generic[T]):
    """Caches what programs report, such as their version, until their files change.

    places: returns further files or directories on which a report depends.
    """

    def __init__(
        self,
        ask: Callable[[Path], Awaitable[T]],
        places: Callable[[T], Sequence[Path]] = lambda _: (),
    ) -> None:
        self._ask = ask
        self._places = places
        self._known: dict[Path, tuple[list[_Stamp], T]] = {}
        self._lock = asyncio.Lock()

    async def of(self, path: Path) -> T:
        """Return the report of the program at `path`."""
        known = self._lookup(path)
        if known:
            return known[1]
        # Of many concurrent starts only one runs the program.
        async with self._lock:
            known = self._lookup(path)
            if not known:
                stamp = _stamp(path)
                report = await self._ask(path)
                known = ([stamp, *map(_stamp, self._places(report))], report)
                self._known[path] = known
            return known[1]

    def _lookup(self, path: Path) -> tuple[list[_Stamp], T] | None:
        known = self._known.get(path)
        if known is None:
            return None
        stamps = [_stamp(place) for place in (path, *self._places(known[1]))]
        return known if known[0] == stamps else None


def check_writers(program: Program, arguments: Sequence[str], trusted: tuple[Path, ...]) -> None:
    """Raise RuntimeUnavailable if other users could replace the program.

    Its interpreter counts as well, and so do the files that its arguments name: the program may
    be an interpreter, and the file its script. trusted: directories that are not checked.
    """
    python = interpreter_of(program.path)
    words = [*_shebang(program.path), *([python] if python else []), *_named_files(arguments)]
    paths = [program.path, *(Path(word) for word in words if word.startswith(os.sep))]
    try:
        found = first_flaw(paths, trusted)
    except OSError as error:
        raise RuntimeUnavailable(
            f"The runtime '{program.path}' cannot be checked: {reason(error)}"
        ) from error
    if found is not None:
        raise RuntimeUnavailable(
            f"The runtime '{program.path}' is not run, because other users could change it: "
            f"{found}. If that is meant to be so, name its directory in [service] "
            "trusted_directories."
        )


def check_version(program: Program, version: str | None) -> None:
    """Raise RuntimeUnavailable for a vllm-mlx that is too old or of unknown version (None)."""
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
    """Return a version's numbers without any suffix, at least three: 0, 3, 0 for 0.3.0rc1."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(number) for number in match[0].split(".")] if match else []
    return tuple([*numbers, 0, 0, 0][: max(3, len(numbers))])


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


async def versions_of(path: Path) -> Versions:
    """Return the versions of a vllm-mlx and of the packages with which it computes.

    By the metadata of its packages if possible, as `--version` has to import it.
    """
    interpreter = interpreter_of(path)
    if interpreter:
        found = _parse_versions(await output_of(interpreter, "-c", _QUERY) or "")
        if found is not None:
            return found
    output = await output_of(str(path), "--version")
    match = _VERSION.search(output or "")
    return Versions(match[0] if match else None)


def _parse_versions(output: str) -> Versions | None:
    """Return the versions in the output of _QUERY; None if it does not tell that of vllm-mlx."""
    with contextlib.suppress(ValueError, TypeError):
        found = json.loads(output)
        own, *others = (one or ("", None) for one in found)
        places = dict.fromkeys(Path(place) for _, place in (own, *others) if place)
        if own[0]:
            return Versions(own[0], tuple(version for version, _ in others), tuple(places))
    return None


async def output_of(
    *command: str,
    variables: Mapping[str, str] | None = None,
    timeout_s: float = _QUERY_TIMEOUT_S,
) -> str | None:
    """Return the output of a command; None if it fails or takes too long.

    variables: of its environment, besides what servers get of the service's.
    The output goes to a file: a pipe would stay open as long as any descendant holds it.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.DEVNULL,
                env=dict(scrub(os.environ)) | dict(variables or {}),
                # Python imports modules from its working directory.
                cwd="/",
                start_new_session=True,
            )
        except OSError:
            return None
        try:
            code = await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            return None
        finally:
            await _kill_group(process)
        output.seek(0)
        return output.read(_MAX_OUTPUT_BYTES).decode(errors="replace") if code == 0 else None


async def _kill_group(process: asyncio.subprocess.Process) -> None:
    """Kill a process that still runs, with its group, as it may be a wrapper of the program."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
