"""Evict, until the process is gone and its memory is back, against SIGTERM by hand."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from bench import by_hand
from bench.report import Figure, compare
from bench.turns import free_port, in_turn, pairs
from demo.service import running
from pool_service_client import PoolClient

MEGABYTES = 500
BACK = 0.8
"""The share of it that must be available again; the rest is left to whatever else goes on."""

MEMORY_TIMEOUT = 10.0
AIM_OVER = 0.1
NAME = "bench/evicted"


def measure(directory: Path, fake: Path, tiny: Path, rounds: int) -> list[Figure]:
    """A fake server with half a gigabyte, and the real one with a tiny checkpoint."""
    heavy = f"fake/heavy?rss={MEGABYTES}"
    return [
        _figure(
            directory, f"a fake server of {MEGABYTES} MB", ["--config", str(fake)], heavy, rounds
        ),
        _figure(directory, "a tiny checkpoint", [], str(tiny), rounds),
    ]


def _figure(directory: Path, what: str, arguments: list[str], model: str, rounds: int) -> Figure:
    is_fake = bool(arguments)
    freed = int(MEGABYTES * 1e6 * BACK) if is_fake else 0
    state_dir = directory / ("evict-fake" if is_fake else "evict")
    with (
        running(state_dir, arguments=arguments) as service,
        PoolClient.connect(service.address) as pool,
    ):
        by_us = _evicted(pool, model, freed)
        by_them = _terminated(directory, model, freed, is_fake=is_fake)
        found = in_turn(rounds, by_us, by_them)
    return compare(
        "evict",
        f"Evict until all is gone, {what}",
        "SIGTERM by hand until all is gone",
        pairs(found),
        aim_over=AIM_OVER * 1e3,
    )


def _evicted(pool: PoolClient, model: str, freed: int) -> Callable[[], float]:
    def measured() -> float:
        server = pool.ensure(NAME, runtime_model=model, timeout=by_hand.START_TIMEOUT).server
        wanted = psutil.virtual_memory().available + freed
        began = time.perf_counter()
        pool.evict(NAME)
        assert not psutil.pid_exists(server.pid)
        _await_memory(wanted if freed else 0)
        return (time.perf_counter() - began) * 1e3

    return measured


def _terminated(directory: Path, model: str, freed: int, *, is_fake: bool) -> Callable[[], float]:
    def measured() -> float:
        port = free_port()
        command = by_hand.fake_server if is_fake else _vllm_mlx
        process = by_hand.spawn(command(model, port), directory / "evicted.log")
        try:
            by_hand.await_health(process, port, by_hand.POLL)
            wanted = psutil.virtual_memory().available + freed
            began = time.perf_counter()
            process.terminate()
            process.wait(by_hand.STOP_TIMEOUT)
            _await_memory(wanted if freed else 0)
            return (time.perf_counter() - began) * 1e3
        finally:
            by_hand.end(process)

    return measured


def _vllm_mlx(model: str, port: int) -> list[str]:
    return by_hand.vllm_mlx(Path(model), port)


def _await_memory(wanted: int) -> None:
    """Until so many bytes are available. Raises TimeoutError: something else took them."""
    deadline = time.monotonic() + MEMORY_TIMEOUT
    while psutil.virtual_memory().available < wanted:
        if time.monotonic() > deadline:
            raise TimeoutError("the memory did not come back: is something else starting?")
        time.sleep(0.001)
