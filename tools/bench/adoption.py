"""How long a service takes from its start until it serves, with servers to adopt."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from pool_service_client import PoolClient
from tools.bench.report import Figure, Pair, compare
from tools.demo.service import running

COUNTS = (10, 50)


def measure(directory: Path, config: Path, rounds: int) -> list[Figure]:
    """Each service dies by SIGKILL and the next adopts; against a start with nothing to adopt."""
    return [
        compare(
            "adoption",
            f"start to SERVING with {count} fake servers to adopt",
            "a start with none",
            _pairs(directory / f"adopt-{count}", config, count, rounds),
        )
        for count in COUNTS
    ]


def _pairs(directory: Path, config: Path, count: int, rounds: int) -> list[Pair]:
    arguments = ["--config", str(config)]
    adopting = directory / "adopting"
    with ExitStack() as stack:
        service = stack.enter_context(running(adopting, arguments=arguments))
        models = [f"m/{number}" for number in range(count)]
        with PoolClient.connect(service.address) as pool, ThreadPoolExecutor(8) as callers:
            pids = {one.server.pid for one in callers.map(pool.ensure, models)}
        pairs = []
        for number in range(rounds):
            service.process.send_signal(signal.SIGKILL)
            service.process.wait()
            began = time.monotonic()
            service = stack.enter_context(running(adopting, arguments=arguments))
            adopted = time.monotonic() - began
            with PoolClient.connect(service.address) as pool:
                assert {one.pid for one in pool.list()} == pids
            began = time.monotonic()
            with running(directory / f"empty-{number}", arguments=arguments):
                pairs.append((adopted * 1e3, (time.monotonic() - began) * 1e3))
    return pairs
