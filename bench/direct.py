"""A request straight to the endpoint, against the same through a reverse proxy in front of it."""

import http.client
import json
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from bench.by_hand import START_TIMEOUT
from bench.report import Figure, compare
from bench.reverse_proxy import proxies
from demo.service import running
from pool_service_client import PoolClient, Server

TOKENS = 200
STREAMS = 10
"""In a round by each way; what counts of a round is their median."""


def measure(directory: Path, fake: Path, tiny: Path, rounds: int) -> list[Figure]:
    """The first byte of a stream, and each token of it."""
    cases = {
        "a fake server without any work": (["--config", str(fake)], "fake/direct"),
        "a tiny checkpoint": ([], str(tiny)),
    }
    figures = []
    for number, (what, (arguments, model)) in enumerate(cases.items()):
        with (
            running(directory / f"direct-{number}", arguments=arguments) as service,
            PoolClient.connect(service.address) as pool,
            ExitStack() as running_proxies,
        ):
            server = pool.ensure("bench/direct", runtime_model=model, timeout=START_TIMEOUT).server
            upstream = urlsplit(server.endpoint).port or 0
            ports = {
                name: running_proxies.enter_context(proxy(directory, upstream))
                for name, proxy in proxies().items()
            }
            figures += _figures(what, server, upstream, ports, rounds)
    return figures


def _figures(
    what: str, server: Server, direct: int, through: dict[str, int], rounds: int
) -> list[Figure]:
    found: dict[str, list[tuple[tuple[float, float], tuple[float, float]]]] = {}
    for turn in range(rounds + 1):
        for name, port in through.items():
            order = (direct, port) if turn % 2 else (port, direct)
            times = {one: _round(server, one) for one in order}
            found.setdefault(name, []).append((times[direct], times[port]))
    figures = []
    for name, seen in found.items():
        measured = seen[1:]
        for place, kind in enumerate(("first byte", "each token")):
            pairs = [(ours[place], theirs[place]) for ours, theirs in measured]
            figures.append(
                compare("direct", f"{kind} of a stream from {what}", name, pairs, aim=1.0)
            )
    return figures


def _round(server: Server, port: int) -> tuple[float, float]:
    """Milliseconds to the first byte and for each token, over some streams on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        streams = [_stream(connection, server) for _ in range(STREAMS)]
    finally:
        connection.close()
    return median(first for first, _ in streams), median(token for _, token in streams)


def _stream(connection: http.client.HTTPConnection, server: Server) -> tuple[float, float]:
    body = {
        "model": server.served_model_name,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": TOKENS,
        "temperature": 0.0,
        "stream": True,
    }
    began = time.perf_counter()
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    response.readline()
    first = time.perf_counter()
    events = sum(line.startswith(b"data:") for line in response)
    if response.status != http.HTTPStatus.OK or events < TOKENS // 2:
        raise RuntimeError(f"the answer is no stream of {TOKENS} tokens: {response.status}")
    return (first - began) * 1e3, (time.perf_counter() - first) * 1e3 / events
