"""Packages of a few hundred bytes, named vllm-mlx, made where a test wants them."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path


def wheel(directory: Path, version: str) -> Path:
    """Make a wheel whose script prints its version."""
    path = directory / f"vllm_mlx-{version}-py3-none-any.whl"
    info = f"vllm_mlx-{version}.dist-info"
    files = {
        "fake_vllm_mlx.py": f"def main():\n    print({version!r})\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: vllm-mlx\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nvllm-mlx = fake_vllm_mlx:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(name, text)
    return path


def sdist(directory: Path, version: str, note: Path) -> Path:
    """Make an sdist whose own build backend, which needs no other package, writes `note`."""
    name = f"vllm_mlx-{version}"
    path = directory / f"{name}.tar.gz"
    run = f"open({str(note)!r}, 'w').close()\n"
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: vllm-mlx\nVersion: {version}\n",
        "backend.py": f"{run}def build_wheel(*arguments):\n    raise SystemExit\n",
        "pyproject.toml": "[build-system]\nrequires = []\n"
        "build-backend = 'backend'\nbackend-path = ['.']\n",
    }
    with tarfile.open(path, "w:gz") as archive:
        for file, text in files.items():
            member = tarfile.TarInfo(f"{name}/{file}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def pin(requirement: str, *files: Path) -> str:
    """Return a line of a list: the requirement with the hashes of `files`, as they are now."""
    digests = (hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return "".join((requirement, *(f" \\\n    --hash=sha256:{digest}" for digest in digests), "\n"))
