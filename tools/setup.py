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
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "setup-stamp.json"
LISTS = (ROOT / "pool_service/runtime_requirements.txt", ROOT / "requirements/dev.txt")
PACKAGES = (ROOT / "clients/python", ROOT)
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


def run(*command: str) -> None:
    """Runs to the end, and shows what it printed only when it fails."""
    environment = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    process = subprocess.Popen(
        command,
        env=environment,
        # It inherits the lock: a pip that outlives a killed set-up keeps the next one waiting.
        close_fds=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = list(followed(process))
    if process.wait() != 0:
        raise SetupError("".join(lines[-40:]))


def followed(process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines of `process`; on a terminal, a running count of the packages it has got."""
    count = 0
    for line in process.stdout or ():
        yield line
        if line.startswith("Collecting ") and sys.stdout.isatty():
            count += 1
            name = line.split()[1].partition("==")[0]
            print(f"\r\033[K  {count} {name}", end="", flush=True)
    if count:
        print("\r\033[K", end="", flush=True)


def pip(*arguments: str) -> None:
    run(str(VENV / "bin/python"), "-m", "pip", "--disable-pip-version-check", *arguments)


def make_environment() -> None:
    if VENV.is_symlink():
        VENV.unlink()
    elif VENV.exists():
        shutil.rmtree(VENV)
    print(f"setup: making .venv with Python {sys.version.split()[0]}", flush=True)
    try:
        run(sys.executable, "-m", "venv", str(VENV))
    except SetupError as error:
        hint = "This Python has no working venv; on Debian and Ubuntu: apt install python3-venv"
        raise SetupError(f"{error}{hint}") from error
    print("setup: installing the pinned packages (a minute or two)", flush=True)
    lists = [part for path in LISTS for part in ("-r", str(path))]
    # Wheels only: a machine with Python and make has no compiler.
    pip("install", "--no-deps", "--require-hashes", "--only-binary", ":all:", *lists)


def install_projects() -> None:
    for path in PACKAGES:
        pip("install", "--no-deps", "--no-build-isolation", "--editable", str(path))


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
        print("\nsetup: interrupted; the next one starts afresh.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
