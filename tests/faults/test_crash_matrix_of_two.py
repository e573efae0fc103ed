"""Two that follow each other, each killed at every point: `--replace`, and a guard that acts.

CI tries a part of the points, which CRASH_SEED chooses; CRASH_POINTS=all tries every one.
"""

import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest

from pool_service_client import PoolClient, PoolError, RetryPolicy
from tests.faults.crash_points import guard, serve
from tests.faults.invariants import pool_processes
from tests.faults.lives import Lives, settled
from tests.faults.table import Recovery
from tests.faults.test_crash_matrix import ONE_LOOKS, await_end
from tests.lasting_port import lasting_port
from tests.service.conftest import FAKE_RUNTIME

AT_A_TIME = 2
NEVER = -1
REST_S = 60.0
"""After which a service that serves passes no more points by itself: less than the keep alive."""

SAMPLE = 8
ONCE = RetryPolicy(patience=0)
PATIENT = RetryPolicy(patience=60.0)
MODELS = ("one", "two")


class Two:
    """A state directory, and processes that are killed by points or by hand."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.root = root
        self.state_dir = root / "state"
        self.address = f"127.0.0.1:{lasting_port()}"
        self.before = 0
        (root / "config.toml").write_text(FAKE_RUNTIME)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.faults.preloaded"])
        self._processes: list[BaseProcess] = []

    def points(self, name: str) -> list[str]:
        path = self.root / f"{name}.points"
        return path.read_text().splitlines() if path.exists() else []

    def serve(self, name: str, *arguments: str, at: int | None = None) -> tuple[BaseProcess, str]:
        """A service, and where it listens; nowhere if it died before."""
        options = ["--config", str(self.root / "config.toml"), "--state-dir", str(self.state_dir)]
        options += ["--listen", self.address, *arguments]
        hears, tells = self._context.Pipe(duplex=False)
        passed = None if at is None else self.root / f"{name}.points"
        log = self.root / f"{name}.log"
        process = self._run(serve, options, tells, log, passed, NEVER if at is None else at)
        tells.close()
        with os.fdopen(os.dup(hears.fileno())) as lines:
            hears.close()
            address = lines.readline().removeprefix("listening on ").strip()
        return process, address

    def guard(self, at: int) -> None:
        """A guard that stops the servers, until it is done or killed."""
        log, passed = self.root / "guard.log", self.root / "guard.points"
        await_end(self._run(guard, self.state_dir, log, passed, at))

    def _run(self, target: Callable[..., None], *arguments: object) -> BaseProcess:
        process = self._context.Process(target=target, args=arguments)
        with ONE_LOOKS:
            process.start()
        self._processes.append(process)
        return process

    def up(self, retry: RetryPolicy = PATIENT) -> dict[str, int]:
        """The models, started; their pids."""
        with PoolClient.connect(self.address, retry=retry) as pool:
            return {model: pool.ensure(model).server.pid or 0 for model in MODELS}

    def holds(self) -> None:
        """There is a service, and what runs is what it lists."""
        with PoolClient.connect(self.address, retry=PATIENT) as pool:
            pids = {server.pid for server in settled(pool).values() if server.pid}
            until = time.monotonic() + 20.0
            while pool_processes(self.state_dir).keys() != pids:
                assert time.monotonic() < until, (pool_processes(self.state_dir), pids)
                time.sleep(0.05)
                pids = {server.pid for server in settled(pool).values() if server.pid}

    def forget_guards(self) -> None:
        """Of a service that was killed neither guard nor sentry is there to act."""
        lives = Lives(self.root, FAKE_RUNTIME)
        servers = pool_processes(self.state_dir)
        others = [one for one in lives.processes() if one.pid not in servers]
        for one in others:
            one.kill()
        psutil.wait_procs(others)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            await_end(process)
        Lives(self.root, FAKE_RUNTIME).close()


@contextmanager
def two(root: Path) -> Iterator[Two]:
    case = Two(root)
    try:
        yield case
    finally:
        case.close()


def chosen(points: range) -> list[int]:
    """Those that are tried, in order."""
    if os.environ.get("CRASH_POINTS") == "all" or len(points) <= SAMPLE:
        return list(points)
    chance = random.Random(os.environ.get("CRASH_SEED", "1"))
    return sorted(chance.sample(points, SAMPLE))


def all_hold(check: Callable[[int], str], points: range, recovered: Recovery) -> None:
    tried = chosen(points)
    with ThreadPoolExecutor(AT_A_TIME) as workers:
        failures = [why for why in workers.map(check, tried) if why]
    recovered.figure(f"{len(tried)} of {len(points)} points")
    assert not failures, "\n".join(failures)


def is_alive(process: BaseProcess) -> bool:
    with ONE_LOOKS:
        return process.is_alive()


def told(case: Two, at: int, name: str, error: Exception) -> str:
    logs = "".join(log.read_text()[-3000:] for log in sorted(case.root.glob("*.log")))
    passed = case.points(name)
    return f"point {at}, {passed[-1] if passed else '-'}: {type(error).__name__}: {error}\n{logs}"


def successor_dies(case: Two, at: int) -> None:
    """The one that is replaced, or else the next, has all that there was."""
    old, _ = case.serve("old")
    pids = case.up()
    successor, address = case.serve("successor", "--replace", at=at)
    if at == NEVER:
        case.holds()
        return
    if address and not wait([successor.sentinel], REST_S):
        # The number of a point varies by a few, and this life has fewer: it is killed at rest.
        successor.kill()
    await_end(successor)
    if address:
        # It had served: whoever it replaced has gone, as it should have.
        case.serve("next")
    assert case.up() == pids
    case.holds()
    assert address or is_alive(old), "nobody served"


def old_dies(case: Two, at: int) -> None:
    """The successor has all that there was."""
    _, address = case.serve("old", at=at)
    pids: dict[str, int] = {}
    # The number of a point varies by a few: it may come before there is anything to leave.
    with suppress(PoolError):
        pids = case.up(ONCE) if address else {}
    case.before = len(case.points("old"))
    assert case.serve("successor", "--replace")[1]
    assert case.up().items() >= pids.items()
    case.holds()


def guard_dies(case: Two, at: int) -> None:
    """The next service ends what was told to end, and has the rest."""
    service, _ = case.serve("old")
    case.up()
    service.kill()
    await_end(service)
    case.forget_guards()
    case.guard(at)
    case.serve("next")
    case.holds()
    case.up()
    case.holds()
    assert len(pool_processes(case.state_dir)) == len(MODELS)


@pytest.mark.fault("--replace: the successor killed at every point")
def test_wherever_a_successor_dies_somebody_has_its_servers(
    tmp_path: Path, recovered: Recovery
) -> None:
    every_point(tmp_path, successor_dies, "successor", recovered)


@pytest.mark.fault("--replace: the one that is replaced killed at every point")
def test_wherever_who_is_replaced_dies_the_successor_has_its_servers(
    tmp_path: Path, recovered: Recovery
) -> None:
    every_point(tmp_path, old_dies, "old", recovered)


@pytest.mark.fault("a guard that stops servers killed at every point, then a service comes")
def test_wherever_a_guard_dies_the_next_service_finishes_or_has_its_servers(
    tmp_path: Path, recovered: Recovery
) -> None:
    every_point(tmp_path, guard_dies, "guard", recovered)


def every_point(
    tmp_path: Path, life: Callable[[Two, int], None], name: str, recovered: Recovery
) -> None:
    with two(tmp_path / "counted") as counted:
        life(counted, NEVER)
        points, before = counted.points(name), counted.before
        assert len(points) > before

    def check(at: int) -> str:
        with two(tmp_path / str(at)) as case:
            try:
                life(case, at)
            except Exception as error:  # noqa: BLE001 - of every point the test tells
                return told(case, at, name, error)
        return ""

    all_hold(check, range(before, len(points)), recovered)
