"""Clocks that are wrong: namespaces of Linux shift monotonic clocks alone, so a library does it."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("shifted_clock.c")


def shifted(directory: Path, shift_s: int) -> Mapping[str, str]:
    """Return variables for programs whose clock of the day is to be so far from the machine's.

    directory: for the library. Needs a C compiler.
    """
    library = directory / "shifted_clock.so"
    options = ["-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    subprocess.run(["cc", *options, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "POOL_TESTS_CLOCK_SHIFT_S": str(shift_s)}
