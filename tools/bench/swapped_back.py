"""The first token of a long prompt whose beginning the model has computed in an earlier process."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Protocol, Self
from urllib.parse import urlsplit

import psutil

from pool_service_client import PoolClient, ServerState
from tools.bench import by_hand, llama_swap
from tools.bench.chat import SHORT, Answer, Messages, ask
from tools.bench.report import Figure, compare
from tools.bench.standby import INTERVAL, await_standby
from tools.bench.turns import in_turn, pairs
from tools.demo.service import running

PART = "first-token"
NAME, OTHER = "bench/asked", "bench/other"
SWAPPED, KILLED, UPGRADED = range(3)
KINDS = (
    "swapped out and back",
    "killed and started again",
    "stopped with the service (or llama-swap), which was started again",
)
AIM, AIM_SAME_OPTIONS = 0.05, 0.6
SAME_OPTIONS = "llama-swap, the runtime's options as ours"

RULE = "Rule {}: say what you know, and say it in words that a child would use."
TOKENS_OF_RULE = 21
"""For SmolLM2, which has a token for each digit."""

CONFIG = """
[service]
# Each death is that of a server that has run for long.
stable_run = 0
crash_limit = 1000
[groups.one]
[defaults]
grace_period = 0
keep_alive = "forever"
groups = ["one"]
[models."{name}"]
runtime_model = {model}
[models."{other}"]
runtime_model = {tiny}
"""


class AnswerDiffersError(Exception):
    """A kept prompt has changed an answer; the message holds both."""


@dataclass(frozen=True, slots=True)
class Models:
    """The model that is asked, and the one that is asked in between. options: by their names."""

    asked: Path
    other: Path
    options: Callable[[str], list[str]]

    @property
    def commands(self) -> dict[str, list[str]]:
        """Return the commands for llama-swap, by name."""
        return {
            name: llama_swap.command(model, self.options(name))
            for name, model in ((NAME, self.asked), (OTHER, self.other))
        }


def default_options(name: str) -> list[str]:
    """Return what tells the runtime only the model's name."""
    return ["--served-model-name", name]


class Way(Protocol):
    """A way to have models served, one at a time."""

    def prepare(self, kind: int) -> None:
        """Do to the model what KINDS says."""

    def ask(self, messages: Messages) -> Answer:
        """Have the model served, and ask it."""


def prompt(tokens: int, turn: int, kind: int) -> Messages:
    """Return a system prompt of about so many tokens, and a question that is asked only once."""
    system = " ".join(RULE.format(number) for number in range(tokens // TOKENS_OF_RULE))
    question = f"What does rule {turn * len(KINDS) + kind} say?"
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]


@dataclass(slots=True)
class Questions:
    """The questions of a run. All ways must give a question the same answer."""

    tokens: int
    _answers: dict[tuple[int, int], str] = field(default_factory=dict)

    def measure(self, way: Way, kinds: Sequence[int]) -> Callable[[], float]:
        """Return a measure of the seconds to the first token; kinds: in turn."""
        turn = -1

        def measured() -> float:
            nonlocal turn
            turn += 1
            kind = kinds[turn % len(kinds)]
            way.prepare(kind)
            began = time.perf_counter()
            answer = way.ask(prompt(self.tokens, turn, kind))
            self.check(turn, kind, answer.text)
            return answer.first - began

        return measured

    def check(self, turn: int, kind: int, text: str) -> None:
        """Note an answer. Raises AnswerDiffersError if another way has given another one."""
        earlier = self._answers.setdefault((turn, kind), text)
        if text != earlier:
            raise AnswerDiffersError(f"turn {turn}, {KINDS[kind]}: {earlier!r} and {text!r}")


class Pool:
    """Our service, with its defaults but for the group of one."""

    def __init__(self, directory: Path, models: Models) -> None:
        self._directory = directory
        names = {"name": NAME, "other": OTHER}
        paths = {"model": models.asked, "tiny": models.other}
        quoted = {key: json.dumps(str(path)) for key, path in paths.items()}
        directory.mkdir(parents=True)
        self._config = directory / "config.toml"
        self._config.write_text(CONFIG.format(**names, **quoted))
        self._stack = ExitStack()
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prepare(self, kind: int) -> None:
        if kind == SWAPPED:
            self._client.ensure(OTHER, timeout=by_hand.START_TIMEOUT)
        elif kind == KILLED:
            server = self._client.ensure(NAME, timeout=by_hand.START_TIMEOUT).server
            psutil.Process(server.pid).kill()
            while any(one.state is ServerState.READY for one in self._client.list()):
                time.sleep(INTERVAL)
        else:
            self._client.ensure(NAME, timeout=by_hand.START_TIMEOUT)
            self._stack.close()
            self._start()
        await_standby(self._service, self._client)

    def ask(self, messages: Messages) -> Answer:
        server = self._client.ensure(NAME, timeout=by_hand.START_TIMEOUT).server
        port = urlsplit(server.endpoint).port or 0
        return ask(port, server.served_model_name, messages, server.api_key)

    def _start(self) -> None:
        begin, arguments = self._stack.enter_context, ["--config", str(self._config)]
        self._service = begin(running(self._directory / "state", arguments=arguments))
        self._client = begin(PoolClient.connect(self._service.address))


class LlamaSwap:
    """llama-swap, in whose group one model runs at a time."""

    def __init__(self, directory: Path, models: Models) -> None:
        self._directory, self._models = directory, models
        self._stack = ExitStack()
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prepare(self, kind: int) -> None:
        ask(self._proxy.port, NAME, SHORT)
        if kind == SWAPPED:
            ask(self._proxy.port, OTHER, SHORT)
        elif kind == KILLED:
            self._proxy.kill(self._models.asked)
        else:
            self._stack.close()
            self._start()

    def ask(self, messages: Messages) -> Answer:
        return ask(self._proxy.port, NAME, messages)

    def _start(self) -> None:
        commands = self._models.commands
        self._proxy = self._stack.enter_context(llama_swap.running(self._directory, commands))


class ByHand:
    """A person who ends the server and starts it again."""

    def __init__(self, directory: Path, models: Models) -> None:
        directory.mkdir(parents=True)
        self._directory, self._models = directory, models
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prepare(self, _kind: int) -> None:
        self._stack.close()

    def ask(self, messages: Messages) -> Answer:
        options = self._models.options(NAME)
        start = by_hand.started(self._directory, self._models.asked, options, self._directory)
        return ask(self._stack.enter_context(start).port, NAME, messages)


def measure(directory: Path, model: Path, tiny: Path, rounds: int, tokens: int) -> list[Figure]:
    """Compare with llama-swap, where it is installed, and with a server that is started by hand.

    tokens: of the prompt. Raises AnswerDiffersError.
    """
    questions = Questions(tokens)
    defaults, ours = Models(model, tiny, default_options), Models(model, tiny, by_hand.our_options)
    kinds = range(len(KINDS))
    with ExitStack() as stack:
        pool = stack.enter_context(Pool(directory / "pool", ours))
        hand = stack.enter_context(ByHand(directory / "hand", ours))
        with_cache: list[Way] = [pool, hand]
        measures = [questions.measure(pool, [kind]) for kind in kinds]
        against = {by_hand.SAME_OPTIONS: [questions.measure(hand, [SWAPPED])]}
        if llama_swap.is_installed():
            same = stack.enter_context(LlamaSwap(directory / "same", ours))
            plain = stack.enter_context(LlamaSwap(directory / "defaults", defaults))
            with_cache.append(same)
            against[SAME_OPTIONS] = [questions.measure(same, [kind]) for kind in kinds]
            # It computes a prompt anew whatever has happened: one measure is enough for all kinds,
            # but each has its question answered without kept prompts once in three turns.
            against[llama_swap.DEFAULTS] = [questions.measure(plain, kinds)]
        for way in with_cache:
            way.ask(prompt(tokens, rounds, SWAPPED))
            way.prepare(SWAPPED)
        found = in_turn(rounds, *measures, *chain(*against.values()), warm_ups=0)
    return [*figures(tokens, found, {name: len(of) for name, of in against.items()})]


def figures(
    tokens: int, found: list[tuple[float, ...]], against: Mapping[str, int]
) -> Iterator[Figure]:
    """Yield the figures of what was found; against: the number of measures of each baseline."""
    aims = {SAME_OPTIONS: AIM_SAME_OPTIONS, llama_swap.DEFAULTS: AIM}
    first = len(KINDS)
    for baseline, count in against.items():
        for kind, happened in enumerate(KINDS):
            name = f"first token of a prompt of {tokens:,} tokens, {happened}"
            seen = pairs(found, kind, first + kind % count)
            yield compare(PART, name, baseline, seen, unit="s", aim=aims.get(baseline))
        first += count
