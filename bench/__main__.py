"""Runs the benchmarks: all of them, or those that are named as arguments."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import adoption, cold, ghz, loading, replacement, size, warm
from bench.report import Figure, save, table
from demo.checkpoints import write_tiny_llama
from demo.smollm2 import prepare_smollm2

CACHE = Path(".cache").absolute()

FAKE_CONFIG = """
[runtime]
command = [{python!r}, {fake!r}, "serve", "{{runtime_model}}", "--port", "{{port}}"]
kind = "plain"
[defaults]
keep_alive = "forever"
"""


def main() -> int:
    """Measure, print the table and write it as JSON; returns the exit code."""
    parts: dict[str, Callable[[Path], list[Figure]]] = {
        "warm": lambda directory: warm.measure(directory, _fake_config(directory)),
        "cold": lambda directory: cold.measure(directory, _models(directory)),
        "loading": lambda directory: loading.measure(directory, _tiny(directory)),
        "adoption": lambda directory: adoption.measure(directory, _fake_config(directory)),
        "replacement": replacement.measure,
        "size": size.measure,
        "ghz": lambda directory: ghz.measure(directory, _fake_config(directory)),
    }
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*parts, []], default=[])
    parser.add_argument("--json", type=Path, default=CACHE / "bench.json")
    arguments = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="pool-bench-") as directory:
        for name in arguments.part or parts:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            figures += parts[name](Path(directory))
    print(table(figures))
    save(figures, arguments.json)
    return 0


def _models(directory: Path) -> dict[str, Path]:
    smollm2 = prepare_smollm2(CACHE / "models", lambda text: print(text, file=sys.stderr))
    return {"SmolLM2-135M": smollm2.absolute(), "a tiny checkpoint": _tiny(directory)}


def _tiny(directory: Path) -> Path:
    tiny = directory / "tiny"
    if not tiny.exists():
        write_tiny_llama(tiny)
    return tiny


def _fake_config(directory: Path) -> Path:
    path = directory / "fake.toml"
    fake = str(Path("tests/fake_server.py").absolute())
    path.write_text(FAKE_CONFIG.format(python=sys.executable, fake=fake))
    return path


if __name__ == "__main__":
    sys.exit(main())
