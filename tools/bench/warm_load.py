"""What loading a model takes where everything is imported: the floor of a start from standby.

    python -m tools.bench.warm_load MODEL

Imports and rehearses as a standby does, says "warm", waits for a line, loads the model and
says how many seconds that took.
"""

import subprocess
import sys
import time
from pathlib import Path

from pool_service.adapters.children import standby_child

TIMEOUT = 60.0


def main() -> None:
    import mlx_lm  # noqa: PLC0415  # not where only `measure` is wanted

    standby_child.warm_up()
    print("warm", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    mlx_lm.load(sys.argv[1])
    print(time.perf_counter() - began, flush=True)


def measure(model: Path) -> float:
    """Seconds of one load, in an interpreter of its own."""
    command = [sys.executable, "-m", "tools.bench.warm_load", str(model)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "warm\n":
                raise RuntimeError("mlx_lm could not be imported and rehearsed")
            printed, _ = process.communicate("\n", TIMEOUT)
            return float(printed)
        finally:
            process.kill()


if __name__ == "__main__":
    main()
