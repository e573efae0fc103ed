"""What it costs a service with many servers to be watched: scraped, and with its page open.

The one who scrapes is another process, once a second, as a Prometheus would; the page is open in
a browser. The same service, not watched, is the baseline.
"""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
from playwright.sync_api import sync_playwright

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tools.bench.report import Figure, compare, percentile
from tools.bench.size import SETTLING, Pool, config_of, fill, idle_share
from tools.demo.service import running

AIM_OVER = 2.0
"""Milliseconds that a scrape may add at the 99th percentile."""

AIM_OVER_MIB = 5e6 / 2**20
"""MiB that the listener may take."""

HTTP = '[http]\nlisten = "127.0.0.1:0"\n'

MEASURED_S = 8.0
WARM_UP = 500
SHARES = (99.0, 99.9)
"""A scrape takes less than a hundredth of its second: the second one is all about scrapes."""

LISTENING = "serving HTTP"

SCRAPER = """
import http.client, sys, time
connection = http.client.HTTPConnection(sys.argv[1])
while True:
    due = time.monotonic() + 1
    connection.request("GET", "/metrics")
    print(len(connection.getresponse().read()), flush=True)
    time.sleep(max(due - time.monotonic(), 0))
"""


def measure(directory: Path, rounds: int, servers: int) -> list[Figure]:
    """The listener's memory; the percentiles of a warm Ensure, scraped and not; the open page."""
    figures = [_listener(directory, rounds)]
    config = directory / "watched.toml"
    config.write_text(config_of(servers) + HTTP)
    with running(directory / "watched", arguments=["--config", str(config)]) as service:
        asyncio.run(fill(service.address, servers))
        time.sleep(SETTLING)
        lines = service.log.read_text().splitlines()
        (address,) = [line.rpartition("=")[2] for line in lines if LISTENING in line]
        pairs = asyncio.run(_pairs(service.address, address, rounds))
        figures += _percentiles(servers, pairs)
        figures.append(_open_page(Pool(service, servers), address))
    return figures


def _listener(directory: Path, rounds: int) -> Figure:
    """The resident memory of a service without servers, with the listener and without."""
    pairs = []
    for turn in range(rounds):
        found = []
        for name, config in (("with", config_of(0) + HTTP), ("without", config_of(0))):
            path = directory / f"{name}.toml"
            path.write_text(config)
            state = directory / f"{name}-{turn}"
            with running(state, arguments=["--config", str(path)]) as service:
                time.sleep(SETTLING)
                found.append(Pool(service, 0).resident)
        pairs.append((found[0], found[1]))
    return compare(
        "watched",
        "resident memory with the HTTP listener",
        "without it",
        pairs,
        unit="MiB",
        aim_over=AIM_OVER_MIB,
    )


def _open_page(pool: Pool, address: str) -> Figure:
    """The share of a processor while nobody calls, and the page is open in a browser."""
    alone = idle_share(pool)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page()
        page.goto(f"http://{address}/")
        page.get_by_role("row").nth(pool.servers).wait_for()
        time.sleep(SETTLING)
        watched = idle_share(pool)
        browser.close()
    return compare(
        "watched",
        f"processor share while idle, {pool.servers} servers, the page open",
        "no page open",
        [(watched * 100, alone * 100)],
        unit="%",
        aim_itself=1.0,
    )


def _percentiles(
    servers: int, pairs: Sequence[tuple[Sequence[float], Sequence[float]]]
) -> list[Figure]:
    return [
        compare(
            "watched",
            f"warm Ensure with {servers} servers, scraped each second: {share:g} % take at most",
            "the same, not scraped",
            [(percentile(scraped, share), percentile(quiet, share)) for scraped, quiet in pairs],
            aim_over=AIM_OVER if share == SHARES[0] else None,
        )
        for share in SHARES
    ]


async def _pairs(
    address: str, http_address: str, rounds: int
) -> list[tuple[list[float], list[float]]]:
    """Milliseconds of calls, scraped and not; who goes first changes."""
    pairs = []
    async with grpc.aio.insecure_channel(address) as channel:
        ensure = pb_grpc.PoolServiceStub(channel).Ensure
        for _ in range(WARM_UP):
            await ensure(pb.EnsureRequest(model="m0"))
        for turn in range(rounds):
            times: dict[bool, list[float]] = {}
            for is_scraped in (True, False) if turn % 2 else (False, True):
                if is_scraped:
                    with _scraping(http_address):
                        times[True] = await _times(ensure)
                else:
                    times[False] = await _times(ensure)
            pairs.append((times[True], times[False]))
    return pairs


async def _times(
    ensure: "grpc.aio.UnaryUnaryMultiCallable[pb.EnsureRequest, pb.EnsureResponse]",
) -> list[float]:
    request = pb.EnsureRequest(model="m0")
    times = []
    end = time.perf_counter() + MEASURED_S
    while (began := time.perf_counter()) < end:
        await ensure(request)
        times.append((time.perf_counter() - began) * 1e3)
    return times


@contextmanager
def _scraping(address: str) -> Iterator[None]:
    """Scrape each second while the block runs; the first scrape is over when it begins."""
    command = [sys.executable, "-c", SCRAPER, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as scraper:
        assert scraper.stdout is not None
        try:
            if not scraper.stdout.readline():
                raise RuntimeError("nothing was scraped")
            yield
        finally:
            scraper.kill()
