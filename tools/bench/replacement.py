"""Who goes when room is needed: the time that loads take in all, against other rules.

By simulation: models of different sizes and load times, room for a quarter of their bytes,
and requests at random times. A request for a model that is not there costs its load; nobody is
ever in use, pinned or idle for too long, so that only the rule for the choice differs.
"""

import bisect
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pool_service.core.preemption_policy import Candidate, Uses, victims
from pool_service.core.server import ServerId
from tools.bench.report import Figure, compare

MODELS = 30
REQUESTS = 3000
GAP = 20.0
"""Seconds between requests, on average: so a trace is about 17 hours."""

ROOM = 0.25
"""The share of all models' bytes that there is room for."""

SEEDS = range(100, 140)
"""Others than those by which the rule's constants were chosen, which were 0 to 7."""

BYTES_PER_SECOND = 1.5e9
"""At which weights load, from a solid-state disk and into the runtime's own layout."""

START = 2.0
"""Seconds of a start that do not depend on the size."""

SHIFT_EVERY = 1800.0
"""Seconds after which what is popular changes in the shifting trace."""

SHIFT_BY = 5
"""Ranks by which it does."""

Request = tuple[float, int]


@dataclass(frozen=True, slots=True)
class Model:
    """One that can be asked for. keep_alive: seconds, as Ollama's rule goes by them."""

    name: str
    size: int
    load: float
    keep_alive: float


@dataclass(slots=True)
class Known:
    """What a rule may know of a model when it chooses."""

    model: Model
    last: float = 0.0
    count: int = 0
    uses: Uses = field(default_factory=lambda: Uses(0.0))
    requests: Sequence[float] = ()

    def use(self, now: float) -> None:
        self.uses = self.uses.used(now)
        self.last, self.count = now, self.count + 1

    def next(self, now: float) -> float:
        """Seconds until it is asked for again; only the clairvoyant ask this."""
        at = bisect.bisect_right(self.requests, now)
        return self.requests[at] - now if at < len(self.requests) else float("inf")


Rule = Callable[[list[Known], int, float], list[Known]]
"""Of those that are there, who is to go for so many bytes, now."""


def in_order(key: Callable[[Known, float], object]) -> Rule:
    """Those go first that the key puts first, until it is enough."""

    def choose(there: list[Known], needed: int, now: float) -> list[Known]:
        chosen: list[Known] = []
        for one in sorted(there, key=lambda one: key(one, now)):  # type: ignore[arg-type,return-value]
            if sum(other.model.size for other in chosen) >= needed:
                break
            chosen.append(one)
        return chosen

    return choose


def ours(there: list[Known], needed: int, now: float) -> list[Known]:
    """The pool's own function, fed as `core/scheduler.py` feeds it."""
    by_name = {one.model.name: one for one in there}
    candidates = [
        Candidate(
            server_id=ServerId(one.model.name, 1),
            freed=one.model.size,
            load_seconds=one.model.load,
            last_used_at=one.last,
            uses=one.uses.count(now),
        )
        for one in there
    ]
    chosen = victims(candidates, needed, now)
    assert chosen is not None
    return [by_name[one.server_id.model] for one in chosen]


RULES: dict[str, Rule] = {
    "LRU": in_order(lambda one, _: one.last),
    "LFU": in_order(lambda one, _: (one.count, one.last)),
    "Ollama's rule": in_order(lambda one, _: (one.model.keep_alive, one.model.name)),
    "Belady's rule": in_order(lambda one, now: -one.next(now)),
    "clairvoyant by cost": in_order(
        lambda one, now: one.model.load / one.model.size / one.next(now)
    ),
}


RIVALS = {"LRU", "LFU", "Ollama's rule"}
"""Rules that know as much as ours."""


def models(chance: random.Random) -> list[Model]:
    """The first is the most popular; the popular are kept longer, as their users would."""
    sizes = [int(min(max(chance.lognormvariate(2.0, 0.8), 1.0), 45.0) * 1e9) for _ in range(MODELS)]
    return [
        Model(
            name=f"m{chance.randrange(10**6):06}-{rank}",
            size=size,
            load=START + size / BYTES_PER_SECOND * chance.uniform(0.8, 1.6),
            keep_alive=3600.0 if rank < MODELS // 4 else 300.0,
        )
        for rank, size in enumerate(sizes)
    ]


def skewed(chance: random.Random) -> Iterator[Request]:
    """A few are asked for often and many seldom, as Zipf found of words."""
    weights = [1 / (rank + 1) for rank in range(MODELS)]
    for now in times(chance):
        yield now, chance.choices(range(MODELS), weights)[0]


def cyclic(chance: random.Random) -> Iterator[Request]:
    """One after the other, now and then another: the worst for most rules."""
    turn = itertools.cycle(range(MODELS))
    for now in times(chance):
        yield now, chance.randrange(MODELS) if chance.random() < 0.1 else next(turn)


def shifting(chance: random.Random) -> Iterator[Request]:
    """As skewed, but that others are popular after a while."""
    weights = [1 / (rank + 1) for rank in range(MODELS)]
    for now in times(chance):
        rank = chance.choices(range(MODELS), weights)[0]
        yield now, (rank + SHIFT_BY * int(now // SHIFT_EVERY)) % MODELS


TRACES = {"skewed": skewed, "shifting": shifting, "cyclic": cyclic}


def times(chance: random.Random) -> Iterator[float]:
    now = 0.0
    for _ in range(REQUESTS):
        now += chance.expovariate(1 / GAP)
        yield now


def load_time(chosen: Rule, catalogue: list[Model], trace: list[Request]) -> float:
    """Seconds that all loads of a trace take with this rule."""
    sizes = [model.size for model in catalogue]
    room = max(int(ROOM * sum(sizes)), *sizes)
    known = [Known(model) for model in catalogue]
    for number, one in enumerate(known):
        one.requests = [now for now, asked in trace if asked == number]
    there: set[int] = set()
    total = 0.0
    for now, asked in trace:
        if asked not in there:
            total += known[asked].model.load
            needed = sum(known[n].model.size for n in there) + known[asked].model.size - room
            if needed > 0:
                gone = {id(one) for one in chosen([known[n] for n in sorted(there)], needed, now)}
                there = {number for number in there if id(known[number]) not in gone}
            there.add(asked)
        known[asked].use(now)
    return total


def measure(_directory: Path) -> list[Figure]:
    """Our total load time against each rule's, on the same traces."""
    figures = []
    for kind, trace_of in TRACES.items():
        totals: dict[str, list[float]] = {name: [] for name in ("ours", *RULES)}
        for seed in SEEDS:
            chance = random.Random(f"{kind} {seed}")  # noqa: S311  # nothing is kept secret
            catalogue = models(chance)
            trace = list(trace_of(chance))
            for name, rule in {"ours": ours, **RULES}.items():
                totals[name].append(load_time(rule, catalogue, trace))
        for name in RULES:
            pairs = list(zip(totals["ours"], totals[name], strict=True))
            what = f"total load time, {kind} trace"
            aim = 1.0 if kind != "cyclic" and name in RIVALS else None
            figures.append(compare("replacement", what, name, pairs, unit="s", aim=aim))
    return figures
