"""Runs the soak: `make soak MINUTES=10`.

    python -m tools.soak --minutes M [--seed N] [--real-share 0.1] [--directory DIR]
        [--markdown FILE]

The choices of each caller and of what kills follow from the seed; when they happen, and so what
they meet, does not. Exits with 1 if anything was found; then the directory stays, with the
service's log, the guard's, and `events.log`, which has everything that this program saw.
"""

import argparse
import asyncio
import random
import secrets
import shutil
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tools.demo.checkpoints import write_tiny_llama
from tools.soak.audit import Audit
from tools.soak.callers import Caller
from tools.soak.gate import Gate
from tools.soak.harm import Harm
from tools.soak.keeper import Keeper
from tools.soak.ledger import Ledger
from tools.soak.models import Model, configuration, models
from tools.soak.report import table
from tools.soak.watcher import Watcher

CALLERS: Final = 20
BETWEEN_QUIETS: Final = 45.0
SHOWN: Final = 10
BROKEN: Final = ("internal error", "Traceback", "[error")
"""What a service must not write into its log, whatever happens to it."""


def main() -> int:
    """Run it, print what was found and the table; returns the exit code."""
    options = _options()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="pool-soak-"))
    directory = directory.absolute()
    write_tiny_llama(directory / "tiny")
    ledger = Ledger(directory / "events.log")
    print(f"soak: seed {options.seed}, in {directory}", file=sys.stderr, flush=True)
    asyncio.run(_soak(options, directory, ledger))
    _read_log(directory / "service.log", ledger)
    ledger.close()
    text = table(ledger, seed=options.seed, minutes=options.minutes, real_share=options.real_share)
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n")
    for number, violation in enumerate(ledger.violations[:SHOWN], 1):
        print(f"\nviolation {number}: {violation}", file=sys.stderr)
    if ledger.violations:
        print(f"\nsoak: seed {options.seed}; the logs are in {directory}", file=sys.stderr)
        return 1
    if options.directory is None:
        shutil.rmtree(directory)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--real-share", type=float, default=0.1)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args()


def _prepared(directory: Path, known: list[Model], mark: str) -> Path:
    """The configuration, written."""
    config = directory / "soak.toml"
    config.write_text(configuration(known, mark))
    return config


async def _soak(options: argparse.Namespace, directory: Path, ledger: Ledger) -> None:
    mark = secrets.token_hex(8)
    known = models(directory / "tiny", options.real_share)
    config = _prepared(directory, known, mark)

    def chance(name: str) -> random.Random:
        return random.Random(f"{options.seed} {name}")  # noqa: S311  # to be repeated

    gate = Gate()
    keeper = Keeper(directory, config, ledger, chance("keeper"))
    watcher = Watcher(keeper, known, ledger)
    audit = Audit(gate, keeper, watcher, mark, ledger)
    harm = Harm(gate, keeper, watcher, mark, ledger, chance("harm"))
    callers = [
        Caller(name, gate, keeper, watcher, known, ledger, chance(name))
        for name in (f"caller {number}" for number in range(CALLERS))
    ]
    await keeper.start()
    runs = [watcher.run(), audit.run(), harm.run(), *(caller.run() for caller in callers)]
    # Closed until nobody is left who would begin something.
    async with AsyncExitStack() as closed:
        try:
            async with _running(runs, ledger):
                await _storm(options.minutes * 60, audit)
                await closed.enter_async_context(gate.closed())
                await audit.at_rest()
        finally:
            await keeper.end()
    await audit.left_alone()
    await audit.close()


async def _storm(seconds: float, audit: Audit) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left := until - loop.time()) > 0:
        await asyncio.sleep(min(left, BETWEEN_QUIETS, seconds / 3))
        if loop.time() + 1.0 < until:
            await audit.quiet()


@asynccontextmanager
async def _running(
    runs: Sequence[Coroutine[Any, Any, None]], ledger: Ledger
) -> AsyncIterator[None]:
    """All of them for as long as the block runs; none of them may end before."""
    tasks = [asyncio.create_task(run) for run in runs]
    for task in tasks:
        task.add_done_callback(lambda done: _look_at(done, ledger))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _look_at(task: "asyncio.Task[None]", ledger: Ledger) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        text = "".join(traceback.format_exception(error))
        ledger.violation(f"the soak itself broke: {text}")


def _read_log(path: Path, ledger: Ledger) -> None:
    """What the services logged of bugs of their own."""
    for line in path.read_text(errors="replace").splitlines():
        ledger.count("lines of the service's log")
        if any(word in line for word in BROKEN):
            ledger.violation(f"the service logged: {line}")


if __name__ == "__main__":
    sys.exit(main())
