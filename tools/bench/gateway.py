"""The gateway beside nginx and llama-swap, and beside no proxy at all, before the same server.

The server sends chunks at a pace, and computes nothing else. nginx and llama-swap are left out
where PATH has none.
"""

import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pool_service_client import PoolClient
from tools.bench import gateway_backend
from tools.bench.gateway_load import Load, take
from tools.bench.gateway_ways import (
    DIRECT,
    LLAMA_SWAP,
    NGINX,
    PROXY,
    REDIRECT,
    Way,
    all_ways,
)
from tools.bench.report import Figure, compare, not_measured
from tools.demo.service import running

PART = "gateway"
MODEL = "bench/gateway"

CONFIG = """
[runtime]
command = [{python!r}, "-S", "-E", {backend!r}, "{{port}}"]
served_model_name = "{{model}}"
server_keys = false
[defaults]
keep_alive = "forever"
[models."{model}"]
runtime_model = "{model}"
"""
"""Without keys, so that callers can be sent to the server."""

BURST = Load(MODEL, streams=128, chunks=1, pace_s=0.0)
PACED = Load(MODEL, streams=128, chunks=200, pace_s=0.02)
FULL_SPEED = Load(MODEL, streams=256, chunks=200, pace_s=0.0)
BURSTS, FULL_SPEEDS = 5, 3
"""In a round; what counts is their median."""

OPEN_FILES = 4096


@dataclass(frozen=True, slots=True)
class Round:
    """What was measured of a way in one round.

    Attributes:
        chunk_cpu: of the proxy for a chunk of PACED, in microseconds.
        delay: of a chunk of PACED from the server to the caller, in milliseconds (p50).
        full_speed: the time of FULL_SPEED for each chunk, in microseconds.
        first: the time to the first chunk in BURST, in milliseconds (p50).
        request_cpu: of the proxy for a request of BURST, in microseconds.
    """

    chunk_cpu: float
    delay: float
    full_speed: float
    first: float
    request_cpu: float


@dataclass(frozen=True, slots=True)
class Row:
    """What is compared with what. aim, aim_over, aim_itself: as of a Figure."""

    way: str
    against: str
    aim: float | None = None
    aim_over: float | None = None
    aim_itself: float | None = None


@dataclass(frozen=True, slots=True)
class Quantity:
    """One field of the rounds, and its rows."""

    field: str
    name: str
    unit: str
    rows: Sequence[Row]


QUANTITIES = (
    Quantity(
        "chunk_cpu",
        "the proxy's CPU for a chunk, 128 streams of 50 chunks a second",
        "µs",
        (
            Row(PROXY, LLAMA_SWAP, aim=1.2),
            Row(PROXY, NGINX),
            Row(REDIRECT, PROXY, aim_itself=0.5),
        ),
    ),
    Quantity(
        "delay",
        "from the server to the caller, a chunk of 128 such streams (p50)",
        "ms",
        (
            Row(PROXY, DIRECT, aim_over=1.0),
            Row(LLAMA_SWAP, DIRECT),
            Row(NGINX, DIRECT),
            Row(REDIRECT, DIRECT),
        ),
    ),
    Quantity(
        "full_speed",
        "the time of 256 streams at full speed, for each chunk",
        "µs",
        # At least 0.9 of the throughput.
        (Row(PROXY, DIRECT, aim=1.11), Row(LLAMA_SWAP, DIRECT), Row(NGINX, DIRECT)),
    ),
    Quantity(
        "first",
        "the first chunk in a burst of 128 requests by new connections (p50)",
        "ms",
        (
            Row(PROXY, LLAMA_SWAP, aim=2.0),
            Row(PROXY, NGINX),
            Row(PROXY, DIRECT),
            Row(LLAMA_SWAP, DIRECT),
            Row(REDIRECT, DIRECT),
        ),
    ),
    Quantity(
        "request_cpu",
        "the proxy's CPU for a request of such a burst",
        "µs",
        (Row(PROXY, LLAMA_SWAP), Row(PROXY, NGINX), Row(REDIRECT, PROXY)),
    ),
)


def measure(directory: Path, rounds: int) -> list[Figure]:
    """Measure all ways in turn, and compare them. Raises BrokenAnswerError."""
    _allow_open_files()
    config = directory / "gateway.toml"
    backend = str(Path(gateway_backend.__file__).absolute())
    config.write_text(CONFIG.format(python=sys.executable, backend=backend, model=MODEL))
    with (
        running(directory / "service", arguments=["--config", str(config)]) as service,
        PoolClient.connect(service.address) as pool,
    ):
        server = pool.ensure(MODEL).server
        with all_ways(directory, service.address, MODEL, server.endpoint) as ways:
            found = _rounds(ways, rounds)
    return figures(found)


def figures(found: Mapping[str, Sequence[Round]]) -> list[Figure]:
    """Return the figures of rounds, by their ways."""
    return [_figure(quantity, row, found) for quantity in QUANTITIES for row in quantity.rows]


def _figure(quantity: Quantity, row: Row, found: Mapping[str, Sequence[Round]]) -> Figure:
    name = f"{row.way}: {quantity.name}"
    if missing := [way for way in (row.way, row.against) if way not in found]:
        return not_measured(PART, name, f"{row.against} ({missing[0]} is not installed)")
    pairs = [
        (getattr(ours, quantity.field), getattr(theirs, quantity.field))
        for ours, theirs in zip(found[row.way], found[row.against], strict=True)
    ]
    return compare(
        PART,
        name,
        row.against,
        pairs,
        unit=quantity.unit,
        aim=row.aim,
        aim_over=row.aim_over,
        aim_itself=row.aim_itself,
    )


def _allow_open_files() -> None:
    """Allow this process and its children as many connections as are needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES and (hard >= OPEN_FILES or hard == resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))


def _rounds(ways: Sequence[Way], rounds: int) -> dict[str, list[Round]]:
    """Measure the ways in turn; the first round is a warm-up, and another one begins each time."""
    found: dict[str, list[Round]] = {way.name: [] for way in ways}
    for turn in range(rounds + 1):
        for place in range(len(ways)):
            way = ways[(turn + place) % len(ways)]
            measured = _round(way)
            if turn:
                found[way.name].append(measured)
    return found


def _round(way: Way) -> Round:
    take(BURST, way.url, way.cpu)
    bursts = [take(BURST, way.url, way.cpu) for _ in range(BURSTS)]
    paced = take(PACED, way.url, way.cpu)
    full_speed = median(take(FULL_SPEED, way.url, way.cpu).took for _ in range(FULL_SPEEDS))
    return Round(
        chunk_cpu=paced.cpu / len(paced.delays) * 1e6,
        delay=median(paced.delays) * 1e3,
        full_speed=full_speed / (FULL_SPEED.streams * FULL_SPEED.chunks) * 1e6,
        first=median(median(burst.firsts) for burst in bursts) * 1e3,
        request_cpu=median(burst.of_all for burst in bursts) / BURST.streams * 1e6,
    )
