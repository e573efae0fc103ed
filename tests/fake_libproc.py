"""Builds what stands for macOS's libproc on Linux; see the C file beside this one."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest


def built(directory: Path) -> ctypes.CDLL:
    """Compile it into a directory and load it; the test is skipped without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        if os.environ.get("CI"):
            pytest.fail("there is no C compiler (apt install gcc)")
        pytest.skip("there is no C compiler")
    library = directory / "libproc.so"
    source = Path(__file__).with_suffix(".c")
    command = [compiler, "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library), use_errno=True)
