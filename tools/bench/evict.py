"""Evict, until the process is gone and with it its memory, against SIGTERM by hand.

The kernel takes the memory of a process back before it tells anybody of its end, so what
there is of it counts in both.
"""

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from pool_service_client import PoolClient
from tools.bench import by_hand
from tools.bench.report import Figure, compare
from tools.bench.turns import free_port, in_turn, pairs
from tools.demo.service import running

MEGABYTES = 1000
AIM_OVER_MS = 100.0
NAME = "bench/evicted"


def measure(directory: Path, fake: Path, tiny: Path, rounds: int) -> list[Figure]:
    """A fake server with a gigabyte, and the real one with a tiny checkpoint."""
    heavy = f"fake/heavy?rss={MEGABYTES}"
    return [
        _figure(
            directory, f"a fake server of {MEGABYTES} MB", ["--config", str(fake)], heavy, rounds
        ),
        _figure(directory, "a tiny checkpoint", [], str(tiny), rounds),
    ]


def _figure(directory: Path, what: str, arguments: list[str], model: str, rounds: int) -> Figure:
    is_fake = bool(arguments)
    state_dir = directory / ("evict-fake" if is_fake else "evict")
    with (
        running(state_dir, arguments=arguments) as service,
        PoolClient.connect(service.address) as pool,
    ):
        by_us = _evicted(pool, model)
        by_them = _terminated(directory, model, is_fake=is_fake)
        found = in_turn(rounds, by_us, by_them)
    return compare(
        "evict",
        f"Evict until the process is gone, {what}",
        "SIGTERM by hand until the process is gone",
        pairs(found),
        aim_over=AIM_OVER_MS,
    )


def _evicted(pool: PoolClient, model: str) -> Callable[[], float]:
    def measured() -> float:
        server = pool.ensure(NAME, runtime_model=model, timeout=by_hand.START_TIMEOUT).server
        began = time.perf_counter()
        pool.evict(NAME)
        took = (time.perf_counter() - began) * 1e3
        assert not psutil.pid_exists(server.pid)
        return took

    return measured


def _terminated(directory: Path, model: str, *, is_fake: bool) -> Callable[[], float]:
    def measured() -> float:
        port = free_port()
        command = by_hand.fake_server if is_fake else _vllm_mlx
        process = by_hand.spawn(command(model, port), directory / "evicted.log")
        try:
            by_hand.await_health(process, port, by_hand.POLL)
            began = time.perf_counter()
            process.terminate()
            # Without a limit: with one, Python looks each 50 ms at most instead of waiting.
            process.wait()
            return (time.perf_counter() - began) * 1e3
        finally:
            by_hand.end(process)

    return measured


def _vllm_mlx(model: str, port: int) -> list[str]:
    return by_hand.vllm_mlx(Path(model), port)
