"""A start, from nothing and from a standby, against `vllm-mlx serve` by hand polled each 10 ms."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pool_service_client import PoolClient, Server
from tools.bench import by_hand, stage_times, warm_load
from tools.bench.report import Figure, Result, compare, stages
from tools.bench.standby import await_standby
from tools.bench.turns import in_turn, pairs
from tools.demo.service import RunningService, running

AIM_FROM_NOTHING = 1.02
AIM_OVER_LOAD = 0.15
NAME = "bench/cold"
WAYS = ("by hand", "from nothing", "from standby")


@dataclass(frozen=True, slots=True)
class Model:
    """A model to start. aim: for the ratio of a start from standby."""

    name: str
    path: Path
    aim: float


@dataclass(frozen=True, slots=True)
class Pool:
    """A service, and how many processes wait in it."""

    service: RunningService
    client: PoolClient
    standby: int

    def settle(self) -> int:
        """Return when nothing is being done ahead; the pid of what waits, 0: nothing does."""
        return await_standby(self.service, self.client) if self.standby else 0

    def ensure(self, model: Path, waiting: int) -> Server:
        """Start it. Raises RuntimeError if that was not from the standby that waited."""
        server = self.client.ensure(
            NAME, runtime_model=str(model), timeout=by_hand.START_TIMEOUT
        ).server
        if waiting and server.pid != waiting:
            raise RuntimeError(f"the standby was not taken: see {self.service.log}")
        return server

    def evict(self) -> None:
        self.client.evict(NAME, force=True)


@contextmanager
def pool_with(directory: Path, standby: int) -> Iterator[Pool]:
    """A service of its own, with so many processes that wait."""
    environment = {**os.environ, "POOL_SERVICE_STANDBY": str(standby)}
    with (
        running(directory / f"standby-{standby}", environment=environment) as service,
        PoolClient.connect(service.address) as client,
    ):
        yield Pool(service, client, standby)


def measure(directory: Path, models: list[Model], rounds: int) -> list[Result]:
    """The ratios for each model, and where the time goes."""
    results: list[Result] = []
    runs: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    stage_rounds = max(1, rounds // 2) if stage_times.IS_POSSIBLE else 0
    with pool_with(directory, 0) as pool:
        for model in models:
            results += _from_nothing(directory, pool, model, rounds)
            for _ in range(stage_rounds):
                runs.setdefault((model.name, WAYS[0]), []).append(_hand_stages(directory, model))
                runs.setdefault((model.name, WAYS[1]), []).append(_pool_stages(pool, model))
    with pool_with(directory, 1) as pool:
        for model in models:
            results += _from_standby(directory, pool, model, rounds)
            for _ in range(stage_rounds):
                runs.setdefault((model.name, WAYS[2]), []).append(_pool_stages(pool, model))
    return results + [stages("cold", name, way, seen) for (name, way), seen in sorted(runs.items())]


def _from_nothing(directory: Path, pool: Pool, model: Model, rounds: int) -> list[Figure]:
    by_options = {by_hand.DEFAULTS: [], by_hand.SAME_OPTIONS: by_hand.our_options(NAME)}
    hands = [_by_hand(directory, pool, model, options) for options in by_options.values()]
    found = in_turn(rounds, _ensured(pool, model), *hands)
    name = f"Ensure from nothing, {model.name}"
    return [
        compare("cold", name, against, pairs(found, 0, place), unit="s", aim=AIM_FROM_NOTHING)
        for place, against in enumerate(by_options, start=1)
    ]


def _from_standby(directory: Path, pool: Pool, model: Model, rounds: int) -> list[Figure]:
    def load() -> float:
        pool.settle()
        return warm_load.measure(model.path)

    found = in_turn(rounds, _ensured(pool, model), _by_hand(directory, pool, model), load)
    name = f"Ensure from standby, {model.name}"
    over_load = "mlx_lm.load in a warm interpreter"
    return [
        compare("cold", name, by_hand.DEFAULTS, pairs(found), unit="s", aim=model.aim),
        compare("cold", name, over_load, pairs(found, 0, 2), unit="s", aim_over=AIM_OVER_LOAD),
    ]


def _ensured(pool: Pool, model: Model) -> Callable[[], float]:
    def measured() -> float:
        waiting = pool.settle()
        began = time.perf_counter()
        pool.ensure(model.path, waiting)
        took = time.perf_counter() - began
        pool.evict()
        return took

    return measured


def _by_hand(
    directory: Path, pool: Pool, model: Model, options: Sequence[str] = ()
) -> Callable[[], float]:
    def measured() -> float:
        pool.settle()
        with by_hand.started(directory, model.path, options) as server:
            return server.answered

    return measured


def _hand_stages(directory: Path, model: Model) -> Mapping[str, float]:
    with (
        tempfile.TemporaryDirectory(dir=directory) as logs,
        stage_times.Stamps(model.path, Path(logs)) as stamps,
    ):
        began = time.time()
        with by_hand.started(Path(logs), model.path) as server:
            pass
    return stamps.stages(began + server.spawned, began + server.answered)


def _pool_stages(pool: Pool, model: Model) -> Mapping[str, float]:
    """Of a model that was started before, so that there is a directory for its logs."""
    (logs,) = pool.service.log.parent.glob("logs/*")
    waiting = pool.settle()
    with stage_times.Stamps(model.path, logs) as stamps:
        server = pool.ensure(model.path, waiting)
        answered = time.time()
    pool.evict()
    assert server.start_time is not None
    return stamps.stages(server.start_time.timestamp(), answered)
