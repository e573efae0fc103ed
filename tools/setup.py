"""Makes `.venv`: the pinned packages, then both packages of this repository, editable.

Runs with any Python >= 3.11 and nothing installed. A stamp is written last; an environment
without one was interrupted, and is made again from nothing.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "setup-stamp.json"
LISTS = (ROOT / "pool_service/runtime_requirements.txt", ROOT / "packaging/requirements/dev.txt")
PACKAGES = (ROOT / "clients/python", ROOT)
PROTO = ROOT / "proto/pool_service/v1/pool_service.proto"
# A person's own settings for other environments, which would send packages elsewhere.
FOREIGN = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PIP_USER",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_CONSTRAINT",
    "UV_CONSTRAINT",
)

# Wheels only: a machine with Python and make has no compiler.
OPTIONS = ("--no-deps", "--require-hashes", "--only-binary", ":all:")
# Its pin, with the hashes.
UV = re.compile(r"(?m)^uv==.*\n(?: .*\n)*")
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


def run(doing: str, *command: str, shows_progress: bool = False) -> None:
    """Run a command to its end, and show what it printed only when it fails.

    shows_progress: it does so by itself on a terminal, which it then gets.
    Raises SetupError if the command exits with another code than 0.
    """
    print(f"setup: {doing}", flush=True)
    environment = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    shown = shows_progress and sys.stderr.isatty()
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(
            command,
            env=environment,
            # It inherits the lock: what outlives a killed set-up keeps the next one waiting.
            close_fds=False,
            stdout=printed,
            stderr=None if shown else subprocess.STDOUT,
        )
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
        if code != 0:
            printed.seek(0)
            raise SetupError("".join(printed.readlines()[-40:]))


def pip(doing: str, *arguments: str) -> None:
    python = str(VENV / "bin/python")
    run(doing, python, "-m", "pip", "--disable-pip-version-check", *arguments)


def install_packages() -> None:
    """Install the pinned packages by uv, which takes a quarter of the time that pip takes.

    uv itself is of the pinned packages. It knows none of pip's settings, a mirror or certificates,
    so where it fails pip does the same.
    """
    lists = [part for path in LISTS for part in ("-r", str(path))]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pinned:
        pinned.writelines(UV.findall(LISTS[-1].read_text()))
        pinned.flush()
        pip("installing uv", "install", *OPTIONS, "-r", pinned.name)
    install = (str(VENV / "bin/uv"), "pip", "install", "--python", str(VENV / "bin/python"))
    try:
        run(
            *("installing the packages", *install, "--compile-bytecode", *OPTIONS, *lists),
            shows_progress=True,
        )
    except SetupError as error:
        print(f"{error}setup: uv could not install them; pip tries", flush=True)
        pip("installing the packages by pip, in some minutes", "install", *OPTIONS, *lists)


def make_environment() -> None:
    if VENV.is_symlink():
        VENV.unlink()
    elif VENV.exists():
        print("setup: removing .venv, which has other packages than are wanted now", flush=True)
        shutil.rmtree(VENV)
    python = sys.version.split()[0]
    try:
        run(f"making .venv with Python {python}", sys.executable, "-m", "venv", str(VENV))
    except SetupError as error:
        hint = "This Python has no working venv; on Debian and Ubuntu: apt install python3-venv"
        raise SetupError(f"{error}{hint}") from error
    install_packages()


def install_projects() -> None:
    editable = [part for path in PACKAGES for part in ("--editable", str(path))]
    pip("installing this repository", "install", "--no-deps", "--no-build-isolation", *editable)
    if PROTO.exists():
        stubs = (str(VENV / "bin/python"), str(ROOT / "tools/generate_stubs.py"))
        run("writing what reflection tells", *stubs, "--comments")


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
