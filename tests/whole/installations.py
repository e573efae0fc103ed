"""Other versions of packages, over those of this environment: for tests of what each does.

An overlay has only the packages that differ, so that it takes a second and a megabyte. Every other
package is that of this environment, as if only the pins of these had been changed.
"""

import fcntl
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
OVERLAYS: Final = ROOT / ".cache/overlays"
LIMIT_S: Final = 300
"""Where the installer hangs; a registry may be slow."""

HASHES: Final = {
    "vllm-mlx==0.3.0": "43cdae26442bb0e2bb726686336b4a60409513caedca8328d87943d052a87cfe",
    "vllm-mlx==0.4.1": "f1e17330ccb79d22e822bd9daded4a18b0b62a0221f508a47f37c487d2480caf",
    "vllm-mlx==0.5.0": "b2ca2e1dd680fa9e9383ad53c8768143e25b6cf222be943093494c1fb6ebb987",
    "vllm-mlx==0.6.0": "a5e5a52a86b88855a6fa6262fe175c94ce0cad595b2b92446fc223dad7b4f062",
    "mlx-lm==0.31.0": "112a2f18bfc95bd8bb0517f9f7cee00262f54fe0f18ed36d9b0fc2059c4a91bc",
    "mlx-lm==0.31.1": "bfc3e08e919b87bebb6fe2dbea980ece8ae8ee7132b31421aa0923c4286ecfa0",
}
"""The SHA-256 of the wheel of each pin."""


def overlay(*pins: str) -> Path:
    """Return the directory of programs of an environment with these pins, made where missing."""
    OVERLAYS.mkdir(parents=True, exist_ok=True)
    # With the version of Python, of which the packages below are.
    name = "+".join((*pins, f"python-{sys.version_info.major}.{sys.version_info.minor}"))
    directory = OVERLAYS / name.replace("==", "-")
    # Several tests may need it at the same time.
    with (OVERLAYS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = directory / "made-for"
        if not stamp.exists() or stamp.read_text() != sys.prefix:
            shutil.rmtree(directory, ignore_errors=True)
            _make(directory, pins)
            stamp.write_text(sys.prefix)
    return directory / "bin"


def _make(directory: Path, pins: tuple[str, ...]) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    _run(uv, "venv", "--quiet", "--python", sys.executable, str(directory))
    wanted = directory / "requirements.txt"
    wanted.write_text("".join(f"{pin} --hash=sha256:{HASHES[pin]}\n" for pin in pins))
    python = str(directory / "bin/python")
    only = ("--no-deps", "--require-hashes", "--only-binary", ":all:")
    _run(uv, "pip", "install", "--quiet", "--python", python, *only, "-r", str(wanted))
    (library,) = (directory / "lib").glob("python*/site-packages")
    # Behind its own packages, so that these win.
    (library / "below.pth").write_text(f"{sysconfig.get_path('purelib')}\n")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
