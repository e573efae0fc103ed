"""A READY model's Ensure while another model loads, against the same on a quiet service."""

import threading
import time
from pathlib import Path

from bench.report import Figure, compare, percentile
from demo.service import running
from pool_service_client import PoolClient

PAIRS = 5
READY = "bench/ready"
LOADING = "bench/loading"
START_TIMEOUT = 120.0


def measure(directory: Path, tiny: Path) -> list[Figure]:
    """Median and 99th percentile of the latency, in milliseconds."""
    with (
        running(directory / "loading") as service,
        PoolClient.connect(service.address) as pool,
        PoolClient.connect(service.address) as other,
    ):
        pool.ensure(READY, runtime_model=str(tiny), timeout=START_TIMEOUT)
        medians, tails = [], []
        for _ in range(PAIRS):
            loading = _while_loading(pool, other, tiny)
            quiet = [_latency(pool) for _ in loading]
            medians.append((percentile(loading, 50), percentile(quiet, 50)))
            tails.append((percentile(loading, 99), percentile(quiet, 99)))
    against = "the same while nothing loads"
    return [
        compare("loading", "Ensure of a READY model while another loads, median", against, medians),
        compare("loading", "the same, 99th percentile (aim: under 20 ms)", against, tails),
    ]


def _while_loading(pool: PoolClient, other: PoolClient, tiny: Path) -> list[float]:
    """The latencies of one caller for as long as another model's start takes."""

    def load() -> None:
        other.ensure(LOADING, runtime_model=str(tiny), timeout=START_TIMEOUT)

    loader = threading.Thread(target=load)
    loader.start()
    latencies = []
    while loader.is_alive():
        latencies.append(_latency(pool))
    loader.join()
    other.evict(LOADING, force=True)
    return latencies


def _latency(pool: PoolClient) -> float:
    began = time.perf_counter()
    pool.ensure(READY)
    return (time.perf_counter() - began) * 1e3
