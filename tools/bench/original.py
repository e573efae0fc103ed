"""The method that this service took the place of, and a start against it.

A pool in the engine itself: a map from model to process behind one lock, which is held while a
server is started; /health is asked each 500 ms; a port is picked and then passed on.
"""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tools.bench import by_hand
from tools.bench.cold import Pool, pool_with
from tools.bench.report import Figure, compare
from tools.bench.turns import free_port, in_turn, pairs

HEALTH_POLL = 0.5
AT_ONCE = 5


@dataclass(slots=True)
class OriginalPool:
    """directory: for the logs of its servers."""

    directory: Path
    _servers: "dict[str, tuple[subprocess.Popen[bytes], str]]" = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ensure(self, name: str, model: Path) -> str:
        """The endpoint of the model's server, started where there is none."""
        with self._lock:
            found = self._servers.get(name)
            if found is not None and found[0].poll() is None:
                return found[1]
            port = free_port()
            log = self.directory / f"{name.replace('/', '-')}.log"
            process = by_hand.spawn(by_hand.vllm_mlx(model, port), log)
            endpoint = f"http://127.0.0.1:{port}"
            self._servers[name] = process, endpoint
            by_hand.await_health(process, port, HEALTH_POLL)
            return endpoint

    def evict_all(self) -> None:
        with self._lock:
            for process, _ in self._servers.values():
                process.kill()
                process.wait()
            self._servers.clear()


@contextmanager
def original(directory: Path) -> Iterator[OriginalPool]:
    """One whose servers are ended with the block."""
    pool = OriginalPool(directory)
    try:
        yield pool
    finally:
        pool.evict_all()


def measure(directory: Path, tiny: Path, rounds: int) -> list[Figure]:
    """One start, and five models at once: with the standby, as it is by default, and without."""
    figures = []
    with original(directory) as theirs:
        for standby in (1, 0):
            how = "as installed" if standby else "standby = 0"
            with pool_with(directory, standby) as ours:
                for count in (1, AT_ONCE):
                    found = in_turn(
                        rounds,
                        _by_us(ours, tiny, count),
                        _by_them(ours, theirs, tiny, count),
                    )
                    name = "one start" if count == 1 else f"{count} models at once"
                    figures.append(
                        compare(
                            "original",
                            f"{name}, {how}",
                            "one lock, a poll each 500 ms",
                            pairs(found),
                            unit="s",
                            aim=1.0,
                        )
                    )
    return figures


def _by_us(pool: Pool, tiny: Path, count: int) -> Callable[[], float]:
    def ensure(name: str) -> object:
        return pool.client.ensure(name, runtime_model=str(tiny), timeout=by_hand.START_TIMEOUT)

    def measured() -> float:
        pool.settle()
        took = _all_at_once(ensure, count)
        pool.client.evict_all(force=True)
        return took

    return measured


def _by_them(ours: Pool, theirs: OriginalPool, tiny: Path, count: int) -> Callable[[], float]:
    def measured() -> float:
        ours.settle()
        took = _all_at_once(lambda name: theirs.ensure(name, tiny), count)
        theirs.evict_all()
        return took

    return measured


def _all_at_once(ensure: Callable[[str], object], count: int) -> float:
    """Seconds until all of them are there."""
    with ThreadPoolExecutor(count) as callers:
        began = time.perf_counter()
        list(callers.map(ensure, [f"bench/{number}" for number in range(count)]))
        return time.perf_counter() - began
