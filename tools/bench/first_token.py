"""From a request to the first token: a cold model, one that is swapped back, five at once."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from pool_service_client import PoolClient
from tools.bench import by_hand, llama_swap, swapped_back
from tools.bench.chat import SHORT, ask
from tools.bench.llama_swap import DEFAULTS, LlamaSwap
from tools.bench.report import Figure, compare
from tools.bench.standby import await_standby
from tools.bench.swapped_back import PART, default_options
from tools.bench.turns import in_turn, pairs
from tools.demo.service import RunningService, running

NAME = "bench/asked"
AT_ONCE = 5
AIM_COLD = 0.55
AIM_AT_ONCE = 0.6

Measure = Callable[[], float]


def measure(
    directory: Path, model: Path, tiny: Path, rounds: int, prompt_tokens: int
) -> list[Figure]:
    """Compare with llama-swap, where it is installed, and with servers that are started by hand.

    prompt_tokens: of the long prompt. Raises AnswerDiffersError if a kept prompt changes an answer.
    """
    return [
        *_cold(directory / "cold", model, rounds * 3),
        *swapped_back.measure(directory / "back", model, tiny, rounds, prompt_tokens),
        *_at_once(directory / "at-once", tiny, rounds * 2),
    ]


def token_of(client: PoolClient, name: str, model: Path) -> float:
    """Ensure a model and ask it; return the time of its first token."""
    server = client.ensure(name, runtime_model=str(model), timeout=by_hand.START_TIMEOUT).server
    port = urlsplit(server.endpoint).port or 0
    return ask(port, server.served_model_name, SHORT, server.api_key).first


def _cold(directory: Path, model: Path, rounds: int) -> list[Figure]:
    """Nothing runs but a standby."""
    directory.mkdir()
    with (
        ExitStack() as stack,
        running(directory / "pool") as service,
        PoolClient.connect(service.address) as client,
    ):

        def ours() -> float:
            await_standby(service, client)
            began = time.perf_counter()
            took = token_of(client, NAME, model) - began
            client.evict(NAME)
            return took

        def hand() -> float:
            await_standby(service, client)
            began = time.perf_counter()
            with by_hand.started(directory, model) as server:
                return ask(server.port, str(model), SHORT).first - began

        measures = {"": ours, by_hand.DEFAULTS: hand}
        if llama_swap.is_installed():
            commands = _commands(model, [NAME])
            theirs = stack.enter_context(llama_swap.running(directory / "ls", commands))
            measures[DEFAULTS] = lambda: _by_llama_swap(theirs, [NAME])
        found = in_turn(rounds, *measures.values())
    name = "first token of a cold model, a short prompt"
    return _figures(name, measures, found, {DEFAULTS: AIM_COLD})


def _commands(model: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the commands for llama-swap of one model by several names."""
    return {name: llama_swap.command(model, default_options(name)) for name in names}


def _by_llama_swap(theirs: LlamaSwap, names: Sequence[str]) -> float:
    """Return the seconds until each of the models has said its first token."""
    took = last_of(lambda name: ask(theirs.port, name, SHORT).first, names)
    theirs.unload()
    return took


def _at_once(directory: Path, tiny: Path, rounds: int) -> list[Figure]:
    """Five models at once, of which none runs; the last one's first token."""
    directory.mkdir()
    names = [f"bench/{number}" for number in range(AT_ONCE)]
    with ExitStack() as stack:
        begin = stack.enter_context
        by_need = _Burst(begin, directory / "by-need", tiny, names)
        alone = _Burst(begin, directory / "alone", tiny, names, standby_max=1)

        def hand() -> float:
            by_need.settle()
            return _five_by_hand(directory, tiny)

        against_one = "the same service with one standby only"
        measures = {"": by_need.measure, against_one: alone.measure, by_hand.DEFAULTS: hand}
        if llama_swap.is_installed():
            commands = _commands(tiny, names)
            theirs = begin(llama_swap.running(directory / "ls", commands, one_at_a_time=False))
            measures[DEFAULTS] = lambda: _by_llama_swap(theirs, names)
        found = in_turn(rounds, *measures.values())
    name = f"{AT_ONCE} models at once, tiny checkpoints: the first token of the last"
    return _figures(name, measures, found, {against_one: AIM_AT_ONCE})


class _Burst:
    """A service in which five models were started together before."""

    def __init__(
        self,
        begin: Callable[..., object],
        directory: Path,
        tiny: Path,
        names: Sequence[str],
        standby_max: int = AT_ONCE,
    ) -> None:
        environment = {**os.environ, "POOL_SERVICE_STANDBY_MAX": str(standby_max)}
        service = begin(running(directory, environment=environment))
        assert isinstance(service, RunningService)
        client = begin(PoolClient.connect(service.address))
        assert isinstance(client, PoolClient)
        self._service, self._client = service, client
        self._tiny, self._names, self._standbys = tiny, names, standby_max
        await_standby(service, client)
        self._burst()

    def settle(self) -> None:
        """Wait until as many standbys wait as there will be."""
        await_standby(self._service, self._client, self._standbys)

    def measure(self) -> float:
        """Return the seconds until each of the models has said its first token."""
        self.settle()
        return self._burst()

    def _burst(self) -> float:
        took = last_of(lambda name: token_of(self._client, name, self._tiny), self._names)
        self._client.evict_all(force=True)
        return took


def _five_by_hand(directory: Path, tiny: Path) -> float:
    with ExitStack() as stack:

        def one(name: str) -> float:
            own = directory / name.replace("/", "-")
            own.mkdir(exist_ok=True)
            server = stack.enter_context(by_hand.started(own, tiny))
            return ask(server.port, str(tiny), SHORT).first

        return last_of(one, [f"hand/{number}" for number in range(AT_ONCE)])


def last_of(token: Callable[[str], float], names: Sequence[str]) -> float:
    """Ask all at once; return the seconds until the last first token."""
    with ThreadPoolExecutor(len(names)) as callers:
        began = time.perf_counter()
        return max(callers.map(token, names)) - began


def _figures(
    name: str, measures: dict[str, Measure], found: list[tuple[float, ...]], aims: dict[str, float]
) -> list[Figure]:
    """Compare the first measure with each of the others."""
    return [
        compare(PART, name, against, pairs(found, 0, place), unit="s", aim=aims.get(against))
        for place, against in enumerate(measures)
        if against
    ]
