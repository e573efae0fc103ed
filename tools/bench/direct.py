"""A request straight to the endpoint, against the same through a reverse proxy in front of it."""

import http.client
import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from pool_service_client import PoolClient, Server
from tools.bench.by_hand import START_TIMEOUT
from tools.bench.report import Figure, Pair, compare
from tools.bench.reverse_proxy import proxies
from tools.demo.service import running

STREAMS = 5
"""In a round by each way; what counts of a round is their median."""


@dataclass(frozen=True, slots=True)
class _Stream:
    """An answer that comes token by token. tokens: how many at most."""

    server: Server
    tokens: int

    def round(self, port: int) -> Pair:
        """Milliseconds to the first byte and for each token, of streams on one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            streams = [self._one(connection) for _ in range(STREAMS)]
        finally:
            connection.close()
        return median(first for first, _ in streams), median(token for _, token in streams)

    def _one(self, connection: http.client.HTTPConnection) -> Pair:
        body = {
            "model": self.server.served_model_name,
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": self.tokens,
            "temperature": 0.0,
            "stream": True,
        }
        key = self.server.api_key
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        began = time.perf_counter()
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        response.readline()
        first = time.perf_counter()
        events = sum(line.startswith(b"data:") for line in response)
        if response.status != http.HTTPStatus.OK or events < self.tokens // 2:
            raise RuntimeError(f"the answer is no stream: status {response.status}")
        return (first - began) * 1e3, (time.perf_counter() - first) * 1e3 / events


def measure(directory: Path, fake: Path, tiny: Path, rounds: int) -> list[Figure]:
    """The first byte of a stream, and each token of it."""
    cases = {
        "a fake server without any work": (["--config", str(fake)], "fake/direct", 200),
        "a tiny checkpoint": ([], str(tiny), 50),
    }
    figures = []
    for number, (what, (arguments, model, tokens)) in enumerate(cases.items()):
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
            figures += _figures(what, _Stream(server, tokens), upstream, ports, rounds)
    return figures


def _figures(
    what: str, stream: _Stream, direct: int, through: dict[str, int], rounds: int
) -> list[Figure]:
    found: dict[str, list[tuple[Pair, Pair]]] = {}
    for turn in range(rounds + 1):
        for name, port in through.items():
            order = (direct, port) if turn % 2 else (port, direct)
            times = {one: stream.round(one) for one in order}
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
