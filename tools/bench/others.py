"""A READY model's Ensure while others start, stop, crash and load, against a quiet service."""

import time
from collections.abc import Mapping
from pathlib import Path

from pool_service_client import PoolClient
from tools.bench.disturbance import START_TIMEOUT, Disturbance, others
from tools.bench.report import Curve, Pair, Result, compare, percentile
from tools.demo.service import running

READY = "bench/ready"
QUIET = "the same while nothing else goes on"
PERCENTS = (*range(0, 90, 5), *range(90, 99), 99.0, 99.5, 99.9)
TAIL_AIM_MS = 20.0
Kinds = Mapping[str, tuple[str, str | None]]
FAKE: Kinds = {
    "24 others start, 8 at a time": ("start", None),
    "24 others crash and start again": ("crash", None),
    "24 others stop, 8 at a time": ("stop", None),
}
REAL: Kinds = {"a real model loads": ("load", "unload")}

Latencies = list[float]


def measure(directory: Path, fake: Path, tiny: Path, rounds: int) -> list[Result]:
    """Median and 99th percentile of the latency, in milliseconds."""
    return [
        *_measure(directory / "fake", ["--config", str(fake)], FAKE, "", rounds),
        *_measure(directory / "real", [], REAL, str(tiny), rounds),
    ]


def _measure(
    state_dir: Path,
    arguments: list[str],
    kinds: Kinds,
    model: str,
    rounds: int,
) -> list[Result]:
    seen: dict[str, list[tuple[Latencies, Latencies]]] = {name: [] for name in kinds}
    with (
        running(state_dir, arguments=arguments) as service,
        PoolClient.connect(service.address) as pool,
        others(service.address) as disturbance,
    ):
        pool.ensure(READY, runtime_model=model or None, timeout=START_TIMEOUT)
        for _ in range(rounds + 1):
            for name, (what, undo) in kinds.items():
                seen[name].append(_beside(pool, disturbance, what, model))
                if undo:
                    disturbance.finish(undo)
    # The first round was the warm-up.
    return [result for name in kinds for result in _results(name, seen[name][1:])]


def _beside(
    pool: PoolClient, disturbance: Disturbance, what: str, model: str
) -> tuple[Latencies, Latencies]:
    """The latencies of one caller for as long as it lasts, and as many right after."""
    disturbance.begin(what, model)
    disturbed = []
    while disturbance.goes_on:
        disturbed.append(_latency(pool))
    return disturbed, [_latency(pool) for _ in disturbed]


def _latency(pool: PoolClient) -> float:
    began = time.perf_counter()
    pool.ensure(READY)
    return (time.perf_counter() - began) * 1e3


def _results(name: str, seen: list[tuple[Latencies, Latencies]]) -> list[Result]:
    def at(percent: float) -> list[Pair]:
        return [(percentile(first, percent), percentile(second, percent)) for first, second in seen]

    all_disturbed = [one for disturbed, _ in seen for one in disturbed]
    all_quiet = [one for _, quiet in seen for one in quiet]
    lines = {
        label: tuple((percent, percentile(values, percent)) for percent in PERCENTS)
        for label, values in ((f"while {name}", all_disturbed), ("quiet, right after", all_quiet))
    }
    return [
        compare("others", f"Ensure of a READY model while {name}, median", QUIET, at(50)),
        compare(
            "others",
            f"Ensure of a READY model while {name}, 99th percentile",
            QUIET,
            at(99),
            aim_over=TAIL_AIM_MS,
        ),
        Curve("others", name, "per cent of the calls", "ms at most", lines, log_y=True),
    ]
