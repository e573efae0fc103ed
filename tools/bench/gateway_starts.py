"""From a request to its first token, by the gateway and by llama-swap: a cold model, and a swap."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from pool_service_client import PoolClient
from tools.bench import llama_swap
from tools.bench.chat import SHORT, ask
from tools.bench.gateway_ways import PROXY, gateway
from tools.bench.llama_swap import DEFAULTS, LlamaSwap
from tools.bench.report import Figure, Result, compare, not_measured
from tools.bench.standby import await_standby
from tools.bench.swapped_back import default_options
from tools.bench.turns import in_turn, pairs
from tools.demo.service import RunningService, running

PART = "gateway"
ONE, OTHER = "bench/one", "bench/other"
KINDS = {"a cold model": 0.6, "a swap between two models": 0.65}
"""What is measured, and its aim."""

CONFIG = """
[groups.one]
[defaults]
grace_period = 0
keep_alive = "forever"
groups = ["one"]
[models."{one}"]
runtime_model = {model}
[models."{other}"]
runtime_model = {model}
"""

Measure = Callable[[], float]


class Ours:
    """The service with one model at a time, and a gateway before it."""

    def __init__(self, service: RunningService, client: PoolClient, port: int) -> None:
        self._service, self._client, self._port = service, client, port

    def cold(self) -> float:
        """Return the seconds to the first token of a model when none runs."""
        self._client.evict_all(force=True)
        await_standby(self._service, self._client)
        return _first_token(self._port, ONE)

    def swap(self) -> float:
        """Return the seconds to the first token of a model when another one has its place."""
        ask(self._port, OTHER, SHORT)
        await_standby(self._service, self._client)
        return _first_token(self._port, ONE)


class Theirs:
    """llama-swap with one model at a time."""

    def __init__(self, proxy: LlamaSwap) -> None:
        self._proxy = proxy

    def cold(self) -> float:
        """Return the seconds to the first token of a model when none runs."""
        self._proxy.unload()
        return _first_token(self._proxy.port, ONE)

    def swap(self) -> float:
        """Return the seconds to the first token of a model when another one has its place."""
        ask(self._proxy.port, OTHER, SHORT)
        return _first_token(self._proxy.port, ONE)


def measure(directory: Path, model: Path, rounds: int) -> list[Result]:
    """Compare the gateway with llama-swap, which is left out where PATH has none."""
    if not llama_swap.is_installed():
        against = "llama-swap (llama-swap is not installed)"
        return [not_measured(PART, _name(kind), against) for kind in KINDS]
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        ours = stack.enter_context(_ours(directory / "pool", model))
        commands = {name: llama_swap.command(model, default_options(name)) for name in (ONE, OTHER)}
        theirs = Theirs(stack.enter_context(llama_swap.running(directory / "ls", commands)))
        measures: Sequence[Measure] = (ours.cold, theirs.cold, ours.swap, theirs.swap)
        found = in_turn(rounds, *measures)
    return [*_figures(found)]


@contextmanager
def _ours(directory: Path, model: Path) -> Iterator[Ours]:
    directory.mkdir()
    config = directory / "config.toml"
    config.write_text(CONFIG.format(one=ONE, other=OTHER, model=json.dumps(str(model))))
    with (
        running(directory / "state", arguments=["--config", str(config)]) as service,
        PoolClient.connect(service.address) as client,
        gateway(PROXY, "proxy", directory, service.address) as way,
    ):
        yield Ours(service, client, urlsplit(way.base_url).port or 0)


def _first_token(port: int, model: str) -> float:
    began = time.perf_counter()
    return ask(port, model, SHORT).first - began


def _figures(found: list[tuple[float, ...]]) -> Iterator[Figure]:
    for place, (kind, aim) in enumerate(KINDS.items()):
        seen = pairs(found, 2 * place, 2 * place + 1)
        yield compare(PART, _name(kind), DEFAULTS, seen, unit="s", aim=aim)


def _name(kind: str) -> str:
    return f"the gateway: first token of {kind}, SmolLM2, a short prompt"
