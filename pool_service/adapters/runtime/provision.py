"""Installation of vllm-mlx into a virtual environment under the data directory.

<data_dir>/runtime/
    lock                one installation at a time, even if there are several services
    <digest>/           one environment for each list of requirements
        installed.json  written last: without it the environment is not used, and the next
                        installation makes it anew
    trash-*             an environment being removed; the next installation removes the rest

No environment is renamed into place, as its scripts contain its path.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pool_service
from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.search import Program, check_version, versions_of
from pool_service.adapters.system.event_loop import lines_of
from pool_service.adapters.system.os_errors import reason
from pool_service.adapters.system.process_settings import restore_descriptor_limit
from pool_service.adapters.system.server_environment import without_secrets
from pool_service.core.errors import RuntimeUnavailable

Progress = Callable[[int, int, str], None]
"""Receives the steps done, the number of all steps, and a text for the present one."""

REQUIREMENTS = Path(pool_service.__file__).with_name("runtime_requirements.txt")

# Wheels only: building a package from source would run code that no hash covers.
_PIP = (
    *("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps"),
    *("--require-hashes", "--only-binary", ":all:"),
)
MIN_MACOS = 14
UNSUPPORTED_PYTHON = (3, 15)
"""The first Python for which MLX has no packages."""

_MARKER = "installed.json"
# Between two tries to take the lock while another installation holds it.
_LOCK_POLL_S = 0.2
_MAX_LAST_LINES = 12
# Variables that a user sets for other environments; pip would install elsewhere with them.
_DROPPED_VARIABLES = frozenset(
    {"PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_CONSTRAINT"}
)


def platform_flaw(
    system: str, machine: str, mac_version: str, python: tuple[int, ...] = sys.version_info[:2]
) -> str | None:
    """Return why MLX has no packages for such a machine, in words; None if MLX has some.

    system: a value of sys.platform. machine: a value of platform.machine().
    mac_version: a macOS version; "" on Linux. python: the major and minor version.
    """
    if python >= UNSUPPORTED_PYTHON:
        return f"Python {'.'.join(map(str, python))} is too new; MLX needs Python 3.11 to 3.14"
    if system == "darwin" and machine != "arm64":
        return (
            "this Python is built for Intel processors; MLX needs a Mac with Apple silicon and a "
            "Python built for arm64"
        )
    if system == "darwin" and int(mac_version.partition(".")[0] or 0) < MIN_MACOS:
        return f"macOS {mac_version} is too old; MLX needs macOS {MIN_MACOS} or later"
    return None


def _silent(done: int, total: int, text: str) -> None:
    """Ignore the progress."""


class Provisioner:
    """Installs vllm-mlx, and finds an installed one.

    requirements: a pip requirements file with every package pinned and hashed.
    python: the interpreter to make the environment with.
    """

    def __init__(
        self, data_dir: Path, requirements: Path = REQUIREMENTS, python: str = sys.executable
    ) -> None:
        self._root = data_dir.absolute() / "runtime"
        self._requirements = requirements
        self._python = python

    def installed(self) -> Path | None:
        """Return the installed program; None without one.

        That of the present requirements is preferred, then the one installed last.
        """
        present = self._directory()
        others = [marker.parent for marker in self._root.glob(f"*/{_MARKER}")]
        others.sort(key=lambda directory: (directory / _MARKER).stat().st_mtime, reverse=True)
        usable = (directory for directory in (present, *others) if _is_usable(directory))
        return next((_program(directory) for directory in usable), None)

    def is_current(self) -> bool:
        """Return whether the environment of the present requirements is installed."""
        return _is_usable(self._directory())

    async def install(self, progress: Progress = _silent) -> Path:
        """Install the present requirements if they are not installed, and return the program.

        Takes minutes and half a gigabyte or more. Cancelling ends pip and leaves nothing that
        could pass for an installation.

        Raises RuntimeUnavailable with pip's last lines, or why this machine cannot run MLX.
        """
        flaw = platform_flaw(sys.platform, platform.machine(), platform.mac_ver()[0])
        if flaw is not None:
            raise RuntimeUnavailable(f"vllm-mlx cannot be installed here: {flaw}.")
        try:
            async with self._lock(progress) as lock:
                directory = self._directory()
                if not _is_usable(directory):
                    await self._make(directory, lock, progress)
                return _program(directory)
        except OSError as error:
            raise RuntimeUnavailable(
                f"vllm-mlx could not be installed in {str(self._root)!r}: {reason(error)}; "
                "put that right, or name another data directory."
            ) from error

    def _directory(self) -> Path:
        key = f"{self._python}\0{sys.version}\0".encode() + self._requirements.read_bytes()
        return self._root / hashlib.sha256(key).hexdigest()[:16]

    async def _make(self, directory: Path, lock: int, progress: Progress) -> None:
        """Make the environment anew; if that fails or is cancelled, leave nothing of it."""
        await asyncio.to_thread(self._discard, directory)
        try:
            await self._fill(directory, lock, progress)
        except BaseException:
            await asyncio.to_thread(self._discard, directory)
            raise

    async def _fill(self, directory: Path, lock: int, progress: Progress) -> None:
        """Install the requirements into a new environment, and mark it as installed."""
        steps = _Steps(_count_requirements(self._requirements) + 2, progress)
        steps.show("making a virtual environment")
        await _run(self._python, "-m", "venv", str(directory), lock=lock)
        steps.advance("collecting packages")
        python = str(directory / "bin" / "python")
        listed = ("-r", str(self._requirements))
        await _run(python, *_PIP, *listed, lock=lock, on_line=steps.on_pip_line)
        program = Program(_program(directory), "just installed")
        version = (await versions_of(program.path)).own
        check_version(program, version)
        await asyncio.to_thread(_write_marker, directory, str(version))
        steps.finish(f"vllm-mlx {version} is installed")

    def _discard(self, directory: Path) -> None:
        """Remove an environment, and what earlier removals left.

        The environment is renamed first, so that none is ever half removed.
        """
        if directory.exists():
            directory.rename(Path(tempfile.mkdtemp(prefix="trash-", dir=self._root), "old"))
        for trash in self._root.glob("trash-*"):
            shutil.rmtree(trash, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def _lock(self, progress: Progress) -> AsyncIterator[int]:
        """Hold the lock, waiting for it if necessary, and yield its descriptor."""
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / "lock").open("w") as lock:
            while not _try_lock(lock.fileno()):
                progress(0, 1, "waiting for another installation to end")
                await asyncio.sleep(_LOCK_POLL_S)
            yield lock.fileno()


class _Steps:
    """Counts the steps that pip reports: one for each package, one before and one after."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._done = 0
        self._total = total
        self._progress = progress

    def show(self, text: str) -> None:
        self._progress(self._done, self._total, text)

    def advance(self, text: str) -> None:
        self._done = min(self._done + 1, self._total - 1)
        self.show(text)

    def finish(self, text: str) -> None:
        self._done = self._total
        self.show(text)

    def on_pip_line(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        # pip ignores packages for other platforms.
        if verb in ("Collecting", "Processing", "Ignoring"):
            self.advance(f"{verb.lower()} {rest.split()[0].rstrip(':')}")
        elif line.startswith("Installing collected"):
            self.show("installing the packages")


async def _run(*command: str, lock: int, on_line: Callable[[str], None] = lambda _: None) -> None:
    """Run a command in a process group of its own until its end.

    The command holds the lock as well: if the service is killed, the command goes on writing, and
    the next installation must wait for its end.

    Raises RuntimeUnavailable with the last lines of its output if it fails.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=_environment(),
        start_new_session=True,
        pass_fds=(lock,),
    )
    restore_descriptor_limit(process.pid)
    last_lines: deque[str] = deque(maxlen=_MAX_LAST_LINES)
    assert process.stdout is not None
    try:
        async for raw in lines_of(process.stdout):
            line = raw.decode(errors="replace").strip()
            if line:
                last_lines.append(line)
                on_line(line)
        code = await process.wait()
    finally:
        if process.returncode is None:
            # asyncio may have reaped the process without having reported it yet.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if code != 0:
        raise RuntimeUnavailable(_failure(command, code, last_lines))


def _failure(command: Sequence[str], code: int, last_lines: Sequence[str]) -> str:
    hint = ""
    if "venv" in command:
        hint = " On Debian and Ubuntu, install the venv module first: apt install python3-venv."
    what = "\n".join(last_lines) or f"exit code {code}"
    return f"vllm-mlx could not be installed, {command[0]!r} failed.{hint} It said:\n{what}"


def _environment() -> dict[str, str]:
    inherited = dict(without_secrets(os.environ.items()))
    kept = {name: value for name, value in inherited.items() if name not in _DROPPED_VARIABLES}
    return kept | {"PYTHONUNBUFFERED": "1"}


def _count_requirements(path: Path) -> int:
    lines = path.read_text().splitlines()
    return sum(1 for line in lines if line and not line.startswith((" ", "#", "-")))


def _program(directory: Path) -> Path:
    return directory / "bin" / vllm_mlx.PROGRAM


def _is_usable(directory: Path) -> bool:
    return (directory / _MARKER).is_file() and os.access(_program(directory), os.X_OK)


def _write_marker(directory: Path, version: str) -> None:
    # The packages first: after a power failure there must be no marker without all of them.
    os.sync()
    new = directory / f"{_MARKER}.new"
    new.write_text(json.dumps({"version": version}))
    new.replace(directory / _MARKER)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
