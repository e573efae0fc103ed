"""The service is killed at every point at which it changes the world; the next one mends it.

A life of the service: start, adopt nothing, start two servers, evict one. It is run once to
see how many points it passes (crash_points.py says what a point is), then once for each of
them, killed there. After each death an ordinary service starts on what was left.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from urllib.request import urlopen

import pytest

from pool_service.adapters.records.record_format import decode
from pool_service.core import lifecycle as life
from pool_service.core.server import Phase
from pool_service.core.server import Server as Recorded
from pool_service_client import PoolClient, PoolError, RetryPolicy, Server, ServerState
from tests.faults.crash_points import serve
from tests.faults.invariants import pool_processes
from tests.faults.lives import Lives, settled
from tests.faults.table import Recovery
from tests.service.conftest import FAKE_RUNTIME

AT_A_TIME = 3
NEVER = -1
ONCE = RetryPolicy(patience=0)
ALL_ENDS = 60.0
"""Seconds within which a late guard and its sentry have ended; else they stay for far longer."""

HAS_ENDED = frozenset({Phase.STOPPING, Phase.CLEANING_UP})
"""Phases in which the wish to end a process is on disk."""

ONE_LOOKS = threading.Lock()
"""multiprocessing looks at all its children whenever it starts or joins one, and of two
threads that look at the same child only the first learns how it ended."""


def await_end(process: BaseProcess) -> None:
    """Wait until it has ended; then its exit code is known."""
    wait([process.sentinel])
    with ONE_LOOKS:
        process.join()


@dataclass(slots=True)
class Case:
    """A state directory, and what callers were told by the service that died."""

    root: Path
    generations: dict[str, int] = field(default_factory=dict)
    evicted: bool = False

    @property
    def state_dir(self) -> Path:
        return self.root / "state"

    @property
    def passed(self) -> Path:
        return self.root / "passed"

    def points(self) -> list[str]:
        return self.passed.read_text().splitlines()

    def recorded(self) -> dict[str, Recorded]:
        """What is known on disk of servers."""
        entries = (
            decode(path.read_bytes()).entry
            for path in (self.state_dir / "servers").glob("[!.]*.json")
        )
        return {entry.model: entry for entry in entries if isinstance(entry, Recorded)}

    @contextmanager
    def service(
        self, passed: Path | None = None, at: int = NEVER
    ) -> Iterator[tuple[BaseProcess, str]]:
        """A service, and where it listens; nowhere if it died before."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.faults.preloaded"])
        config = self.root / "config.toml"
        config.write_text(FAKE_RUNTIME)
        arguments = ["--config", str(config), "--state-dir", str(self.state_dir)]
        arguments += ["--listen", "127.0.0.1:0"]
        hears, tells = context.Pipe(duplex=False)
        log = self.root / ("dies.log" if passed else "lives.log")
        process = context.Process(target=serve, args=(arguments, tells, log, passed, at))
        with ONE_LOOKS:
            process.start()
        tells.close()
        with os.fdopen(os.dup(hears.fileno())) as lines:
            hears.close()
            address = lines.readline().removeprefix("listening on ").strip()
            try:
                yield process, address
            finally:
                process.kill()
                await_end(process)
                process.close()

    def first_life(self, at: int) -> None:
        """Until it is killed, at the latest when all is done."""
        with self.service(self.passed, at) as (_, address), suppress(PoolError, OSError):
            if not address:
                return
            with PoolClient.connect(address, retry=ONCE) as pool:
                self.use(pool, "stays")
                self.use(pool, "goes")
                pool.evict("goes")
                self.evicted = True

    def evicts(self) -> bool:
        """Whether the process to evict has been told to end."""
        return self.evicted or any(point.startswith("after killpg") for point in self.points())

    def use(self, pool: PoolClient, model: str) -> None:
        server = pool.ensure(model).server
        self.generations[model] = server.generation
        with urlopen(f"{server.endpoint}/health") as answer:
            assert answer.status == 200

    def second_life(self) -> None:
        """An ordinary one; what must hold."""
        before, alive = self.recorded(), pool_processes(self.state_dir)
        with self.service() as (process, address), PoolClient.connect(address) as pool:
            servers = settled(pool)
            running = {one.pid: one for one in servers.values() if one.state is ServerState.READY}
            assert pool_processes(self.state_dir).keys() == running.keys()
            for model, was in before.items():
                check_adopted(was, servers.get(model), alive)
            assert not (self.evicts() and "goes" in servers), "the wish to stop it was lost"
            for model in ("stays", "goes"):
                again = pool.ensure(model).server
                adopted = model in servers and servers[model].pid == again.pid
                known = max(
                    self.generations.get(model, 0),
                    before[model].last_generation if model in before else 0,
                )
                assert again.generation >= known + (0 if adopted else 1)
            assert len(pool_processes(self.state_dir)) == 2
            assert [one.server.model for one in pool.evict("goes")] == ["goes"]
            process.terminate()
            await_end(process)
            assert process.exitcode == 0
        lives = Lives(self.root, FAKE_RUNTIME)
        # The guard of the life before may be so late that it has yet to see that it is, and
        # its sentry learns of that by its end.
        until = time.monotonic() + ALL_ENDS
        while (left := lives.processes()) and time.monotonic() < until:
            time.sleep(0.05)
        assert left == []


def check_adopted(was: Recorded, now: Server | None, alive: dict[int, str]) -> None:
    """A process that was recorded, or was meant to be, is kept; or ended, if that was meant."""
    nonce = was.plan.nonce if was.plan else ""
    pids = {pid for pid, of in alive.items() if of == nonce}
    if was.phase in HAS_ENDED:
        assert now is None or now.pid not in pids, "the wish to stop it was lost"
    elif was.phase not in life.WITHOUT_PROCESS and pids:
        assert now is not None, "a process was lost"
        assert now.pid in pids, "a process was doubled"


@pytest.mark.parametrize(
    "step", [pytest.param(1, marks=pytest.mark.long, id="each"), pytest.param(12, id="each 12th")]
)
@pytest.mark.fault("`kill -9` at every point where something is written, spawned or signalled")
def test_whenever_the_service_is_killed_nothing_is_lost_and_nothing_doubled(
    tmp_path: Path, recovered: Recovery, step: int
) -> None:
    counted = new_case(tmp_path, "counted")
    counted.first_life(NEVER)
    assert counted.evicted
    points = range(0, len(counted.points()), step)
    counted.second_life()
    with ThreadPoolExecutor(AT_A_TIME) as workers:
        outcomes = list(workers.map(lambda at: killed_at(tmp_path, at), points))
    recovered.figure(f"{len(points)} points")
    failures = [outcome for outcome in outcomes if outcome]
    assert not failures, "\n".join(failures)


def new_case(tmp_path: Path, name: str) -> Case:
    root = tmp_path / name
    root.mkdir()
    return Case(root)


def killed_at(tmp_path: Path, at: int) -> str:
    """Why it does not hold after a death at this point; empty if it does."""
    case = new_case(tmp_path, str(at))
    try:
        case.first_life(at)
        case.second_life()
    except Exception as error:  # noqa: BLE001 - of every point the test tells
        log = (case.root / "lives.log").read_text() if (case.root / "lives.log").exists() else ""
        return f"point {at}, {case.points()[-1]}: {type(error).__name__}: {error}\n{log}"
    finally:
        Lives(case.root, FAKE_RUNTIME).close()
    return ""
