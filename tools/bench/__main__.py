"""Runs the benchmarks: all of them, or those that are named as arguments.

Every run writes its raw samples and a plot of each part into build/bench. A whole run that is not
quick also writes docs/explanation/benchmarks.md.
"""

import argparse
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.bench import (
    adoption,
    cold,
    crash,
    direct,
    evict,
    first_token,
    fleet,
    fleet_failures,
    gateway,
    gateway_starts,
    ghz,
    machine,
    original,
    others,
    replacement,
    size,
    warm,
    watched,
)
from tools.bench.publish import Run, draw, load, publish, save
from tools.bench.report import Figure, Result, table
from tools.bench.watched import HTTP
from tools.demo.checkpoints import write_tiny_llama
from tools.demo.smollm2 import prepare_smollm2

CACHE = Path(".cache").absolute()
PAGE = Path("docs/explanation/benchmarks.md")
WRITTEN = Path("build/bench")

FAKE_CONFIG = """
[runtime]
command = [{python!r}, "-S", "-E", {fake!r}, "serve", "{{runtime_model}}", "--port", "{{port}}"]
kind = "plain"
[defaults]
keep_alive = "forever"
"""


def parts(*, quick: bool) -> dict[str, Callable[[Path], Sequence[Result]]]:
    """What there is to measure, each given a directory of its own; quick: to see that it works."""

    def rounds(count: int) -> int:
        return 2 if quick else count

    return {
        "warm": lambda directory: warm.measure(
            directory, _fake_config(directory, HTTP), rounds(15)
        ),
        "cold": lambda directory: cold.measure(directory, _models(directory), rounds(20)),
        "first-token": lambda directory: first_token.measure(
            directory, _smollm2(), _tiny(directory), rounds(3), 200 if quick else 1000
        ),
        "original": lambda directory: original.measure(directory, _tiny(directory), rounds(5)),
        "crash": lambda directory: crash.measure(
            directory, _fake_config(directory), _tiny(directory), rounds(5)
        ),
        "evict": lambda directory: evict.measure(
            directory, _fake_config(directory), _tiny(directory), rounds(9)
        ),
        "others": lambda directory: others.measure(
            directory, _fake_config(directory), _tiny(directory), rounds(5)
        ),
        "direct": lambda directory: direct.measure(
            directory, _fake_config(directory), _tiny(directory), rounds(9)
        ),
        "gateway": lambda directory: [
            *gateway.measure(directory, rounds(5)),
            *gateway_starts.measure(directory / "starts", _smollm2(), rounds(9)),
        ],
        "adoption": lambda directory: adoption.measure(
            directory, _fake_config(directory), rounds(7)
        ),
        "size": lambda directory: size.measure(directory, rounds(5)),
        "ghz": lambda directory: ghz.measure(directory, _fake_config(directory), rounds(9)),
        "replacement": replacement.measure,
        "fleet": lambda directory: fleet.measure(directory, rounds(7)),
        "fleet-failures": lambda directory: fleet_failures.measure(directory, rounds(3)),
        "watched": lambda directory: watched.measure(directory, rounds(9), 50 if quick else 500),
    }


def main() -> int:
    """Measure, print the table, write the rest; returns the exit code."""
    names = [*parts(quick=False)]
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("part", nargs="*", help=f"what to measure: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="as few rounds as possible")
    parser.add_argument(
        "--publish", type=Path, metavar="JSON", help="write the page from an earlier whole run"
    )
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.part if part not in names]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(names)}")
    if arguments.publish:
        publish(_whole(parser, arguments.publish, names), PAGE, WRITTEN)
        return 0
    # What was started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    run, failed = _measure(arguments.part or names, quick=arguments.quick)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    if arguments.part or arguments.quick:
        draw(run, WRITTEN)
    else:
        publish(run, PAGE, WRITTEN)
    return 0


def _whole(parser: argparse.ArgumentParser, path: Path, names: Sequence[str]) -> Run:
    """The run that was written there; ends with an error if it is none of all parts."""
    try:
        run = load(path)
    except (OSError, ValueError, LookupError, TypeError) as error:
        parser.error(f"{path} is no run that was written here: {error}")
    if missing := [name for name in names if name not in run.parts]:
        parser.error(f"{path} is not of a whole run, and the page is: missing {', '.join(missing)}")
    return run


def _measure(names: Sequence[str], *, quick: bool) -> tuple[Run, list[str]]:
    """What was found, which is also saved after each part; and the parts that failed."""
    results: list[Result] = []
    failed: list[str] = []
    run = Run(machine.describe(), results)
    for name in names:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="pool-bench-") as directory:
            try:
                found = parts(quick=quick)[name](Path(directory))
            except Exception:  # noqa: BLE001  # the other parts are measured all the same
                traceback.print_exc()
                failed.append(name)
                continue
        results += found
        print(table([one for one in found if isinstance(one, Figure)]), flush=True)
        save(run, WRITTEN / "results.json")
    return run, failed


def _models(directory: Path) -> list[cold.Model]:
    return [
        cold.Model("SmolLM2-135M", _smollm2(), aim=0.30),
        cold.Model("a tiny checkpoint", _tiny(directory), aim=0.05),
    ]


def _smollm2() -> Path:
    return prepare_smollm2(CACHE / "models", lambda text: print(text, file=sys.stderr)).absolute()


def _tiny(directory: Path) -> Path:
    tiny = directory / "tiny"
    if not tiny.exists():
        write_tiny_llama(tiny)
    return tiny


def _fake_config(directory: Path, more: str = "") -> Path:
    path = directory / "fake.toml"
    fake = str(Path("tests/fake_server.py").absolute())
    path.write_text(FAKE_CONFIG.format(python=sys.executable, fake=fake) + more)
    return path


if __name__ == "__main__":
    sys.exit(main())
