"""A cold Ensure against `vllm-mlx serve` by hand with a health poll each 10 ms."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from bench.report import Figure, compare
from demo.service import running
from pool_service_client import PoolClient

PAIRS = 7
POLL = 0.01
START_TIMEOUT = 120.0


def measure(directory: Path, models: dict[str, Path]) -> list[Figure]:
    """The ratio for each model (name: its directory)."""
    figures = []
    with (
        running(directory / "cold") as service,
        PoolClient.connect(service.address) as pool,
    ):
        for name, model in models.items():
            _by_hand(directory, model)
            _ensure(pool, name, model)
            pairs = []
            for turn in range(PAIRS):
                if turn % 2:
                    by_hand = _by_hand(directory, model)
                    ensured = _ensure(pool, name, model)
                else:
                    ensured = _ensure(pool, name, model)
                    by_hand = _by_hand(directory, model)
                pairs.append((ensured, by_hand))
            figures.append(
                compare(
                    "cold",
                    f"cold Ensure, {name}",
                    "vllm-mlx serve by hand, polled each 10 ms",
                    pairs,
                    unit="s",
                    aim=1.05,
                )
            )
    return figures


def _ensure(pool: PoolClient, name: str, model: Path) -> float:
    """Seconds of one Ensure from nothing; evicted afterwards."""
    began = time.perf_counter()
    pool.ensure(name, runtime_model=str(model), timeout=START_TIMEOUT)
    took = time.perf_counter() - began
    pool.evict(name, force=True)
    return took


def _by_hand(directory: Path, model: Path) -> float:
    """Seconds from the spawn to the first 200 of /health."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = str(Path(sys.executable).with_name("vllm-mlx"))
    with (directory / "by-hand.log").open("w") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            [program, "serve", str(model), "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        while not _healthy(port):
            if time.perf_counter() - began > START_TIMEOUT or process.poll() is not None:
                raise SystemExit(f"vllm-mlx did not start: see {directory / 'by-hand.log'}")
            time.sleep(POLL)
        return time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
