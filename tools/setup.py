"""Makes `.venv`: the pinned packages, then both packages of this repository, editable.

Runs with any Python >= 3.11 and nothing installed. A stamp is written last; an environment
without one was interrupted, and is made again from nothing.
"""

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "setup-stamp.json"
LISTS = (ROOT / "pool_service/runtime_requirements.txt", ROOT / "packaging/requirements/dev.txt")
PACKAGES = (ROOT / "clients/python", ROOT)
PROTO = ROOT / "proto/pool_service/v1/pool_service.proto"
# A person's own settings for other environments, which would send packages elsewhere.
FOREIGN = ("PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_CONSTRAINT")


# They say which files a version consists of, and not which versions are wanted.
HASHES = re.compile(r" \\\n(?: +--hash=\S+(?: \\)?\n)+")


class SetupError(Exception):
    """What could not be set up, why, and what to do about it."""


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def wanted_stamp() -> dict[str, str]:
    """What the environment depends on; scripts carry its path, so a moved one is another."""
    lists = [HASHES.sub("\n", path.read_text()) for path in LISTS]
    return {
        "packages": digest(sys.version, str(VENV), *lists),
        "projects": digest(*(project_tables(path / "pyproject.toml") for path in PACKAGES)),
        # An image gets it after its environment, so that a change of it keeps that.
        "comments": digest(PROTO.read_text()) if PROTO.exists() else "",
    }


def project_tables(path: Path) -> str:
    """What an editable install takes from a pyproject.toml: the settings of linters don't count."""
    tables: dict[str, Any] = tomllib.loads(path.read_text())
    hatch = tables.get("tool", {}).get("hatch")
    return json.dumps([tables.get("build-system"), tables.get("project"), hatch], sort_keys=True)


def present_stamp() -> dict[str, str]:
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text())
        intact = os.access(VENV / "bin/python", os.X_OK)
    except (OSError, ValueError):
        return {}
    return stamp if intact else {}


def write_stamp(stamp: dict[str, str]) -> None:
    new = STAMP.with_suffix(".new")
    new.write_text(json.dumps(stamp))
    new.replace(STAMP)


class Progress:
    """Shows on one line of a terminal, or by a line now and then in a pipe, that work goes on."""

    REFRESH_S = 0.2
    SIGN_OF_LIFE_S = 5.0

    def __init__(self, doing: str) -> None:
        """doing: the work, in the words of the line."""
        self.doing = doing
        self.detail = ""
        self.terminal = sys.stdout.isatty()
        self.began = self.shown = time.monotonic()

    def show(self) -> None:
        now = time.monotonic()
        pace = self.REFRESH_S if self.terminal else self.SIGN_OF_LIFE_S
        if now - self.shown >= pace:
            self.shown = now
            text = f"setup: {self.doing}{self.detail} ({now - self.began:.0f} s)"
            print(f"\r\033[K{text}" if self.terminal else text, end=self.end(), flush=True)

    def end(self) -> str:
        return "" if self.terminal else "\n"

    def clear(self) -> None:
        if self.terminal:
            print("\r\033[K", end="", flush=True)


def run(doing: str, *command: str, detail: Callable[[str], str] = lambda _: "") -> None:
    """Run a command to its end, and show what it printed only when it fails.

    doing: what is shown meanwhile; detail: what to add to that, by what was printed so far.
    Raises SetupError if the command exits with another code than 0.
    """
    environment = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(
            command,
            env=environment,
            # It inherits the lock: a pip that outlives a killed set-up keeps the next one waiting.
            close_fds=False,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        progress = Progress(doing)
        try:
            while not ended(process, Progress.REFRESH_S):
                progress.detail = detail(text_of(printed))
                progress.show()
        except BaseException:
            process.terminate()
            raise
        finally:
            progress.clear()
        if process.returncode != 0:
            raise SetupError("".join(text_of(printed).splitlines(keepends=True)[-40:]))


def ended(process: "subprocess.Popen[bytes]", within_s: float) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(within_s)
    return process.returncode is not None


def text_of(file: IO[str]) -> str:
    """Return what another process wrote so far, without moving the place where it writes."""
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode(errors="replace")


def packages_done(printed: str) -> str:
    """Return how many of the packages pip has fetched, or installed, from its output."""
    _, installing, names = printed.partition("Installing collected packages: ")
    if installing:
        installed = sum(1 for _ in VENV.glob("lib/python*/site-packages/*.dist-info"))
        return f": {installed} of {names.partition(chr(10))[0].count(',') + 1} installed"
    return f": {printed.count('Collecting ')} of about {packages_wanted()} fetched"


def packages_wanted() -> int:
    """Return how many packages the lists name; some of them are for other machines."""
    names = (re.findall(r"(?m)^([\w.-]+)==", path.read_text()) for path in LISTS)
    return len(set(itertools.chain.from_iterable(names)))


def pip(doing: str, *arguments: str, detail: Callable[[str], str] = lambda _: "") -> None:
    python = str(VENV / "bin/python")
    run(doing, python, "-m", "pip", "--disable-pip-version-check", *arguments, detail=detail)


def make_environment() -> None:
    if VENV.is_symlink():
        VENV.unlink()
    elif VENV.exists():
        print("setup: removing .venv, which has other packages than are wanted now", flush=True)
        shutil.rmtree(VENV)
    python = sys.version.split()[0]
    print(
        f"setup: making .venv with Python {python} and about {packages_wanted()} packages",
        flush=True,
    )
    try:
        run("making .venv", sys.executable, "-m", "venv", str(VENV))
    except SetupError as error:
        hint = "This Python has no working venv; on Debian and Ubuntu: apt install python3-venv"
        raise SetupError(f"{error}{hint}") from error
    lists = [part for path in LISTS for part in ("-r", str(path))]
    # Wheels only: a machine with Python and make has no compiler.
    options = ("--no-deps", "--require-hashes", "--only-binary", ":all:")
    pip("packages", "install", *options, *lists, detail=packages_done)


def install_projects() -> None:
    for path in PACKAGES:
        options = ("--no-deps", "--no-build-isolation", "--editable")
        pip("installing this repository", "install", *options, str(path))
    if PROTO.exists():
        stubs = (str(VENV / "bin/python"), str(ROOT / "tools/generate_stubs.py"))
        run("what reflection tells", *stubs, "--comments")


def setup(wanted: dict[str, str]) -> None:
    present = present_stamp()
    if present == wanted:
        return
    if present.get("packages") != wanted["packages"]:
        make_environment()
    write_stamp({"packages": wanted["packages"]})
    install_projects()
    write_stamp(wanted)
    print("setup: .venv is ready", flush=True)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Two set-ups of one checkout at a time would tear each other's environment down."""
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    with (cache / "setup.lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)  # noqa: FBT003  # its only way
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("setup: waiting for another set-up of this checkout", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str]) -> int:
    if arguments:
        print("usage: python tools/setup.py", file=sys.stderr)
        return 2
    try:
        with alone():
            setup(wanted_stamp())
    except (SetupError, OSError) as error:
        print(f"setup: could not make .venv: {error}", file=sys.stderr)
        print("setup: put that right and run it again; it starts afresh.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; the next one starts afresh.", file=sys.stderr)
        # Make was interrupted too, ends as such, and would add a line for any other code.
        return 0 if "MAKELEVEL" in os.environ else 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
