"""From the death of a server: until the pool says so, and until there is another one."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from pool_service_client import Hold, PoolClient, ServerChanged, ServerState, Synced, Watch
from tools.bench import by_hand
from tools.bench.cold import Pool, pool_with
from tools.bench.report import Figure, Result, compare
from tools.bench.turns import free_port, in_turn, pairs
from tools.demo.service import running

AIM_OVER_START = 0.1
AIM_OVER_WAIT = 5.0


def measure(directory: Path, fake: Path, tiny: Path, rounds: int) -> list[Result]:
    """SIGKILL of a held server: its successor against a start, the event against wait()."""
    results: list[Result] = []
    arguments = ["--config", str(fake)]
    with (
        running(directory / "crash", arguments=arguments) as service,
        PoolClient.connect(service.address) as client,
    ):
        results.append(_event(directory, client, rounds * 3))
        results.append(_successor("a fake server", Pool(service, client, 0), None, rounds * 3))
    for standby in (1, 0):
        with pool_with(directory, standby) as pool:
            name = f"a tiny checkpoint, standby = {standby}"
            results.append(_successor(name, pool, tiny, rounds))
    return results


def _successor(name: str, pool: Pool, model: Path | None, rounds: int) -> Figure:
    """Seconds from the kill of a held server to READY, against those of a start."""
    found = in_turn(rounds, _replaced(pool, model), _started(pool, model))
    return compare(
        "crash",
        f"kill -9 of a held server to READY, {name}",
        "Ensure of the same from nothing running",
        pairs(found),
        unit="s",
        aim_over=AIM_OVER_START,
    )


def _replaced(pool: Pool, model: Path | None) -> Callable[[], float]:
    names = _names("held")

    def measured() -> float:
        # One that has never died, as a model that serves has not.
        with pool.client.hold(name := names(), runtime_model=_text(model)) as hold:
            pid = _next_ready(hold)
            pool.settle()
            began = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            successor = _next_ready(hold, after=pid)
            took = time.perf_counter() - began
            assert successor != pid
        pool.client.evict(name, force=True)
        return took

    return measured


def _started(pool: Pool, model: Path | None) -> Callable[[], float]:
    names = _names("started")

    def measured() -> float:
        pool.settle()
        name = names()
        began = time.perf_counter()
        pool.client.ensure(name, runtime_model=_text(model), timeout=by_hand.START_TIMEOUT)
        took = time.perf_counter() - began
        pool.client.evict(name, force=True)
        return took

    return measured


def _next_ready(hold: Hold, after: int = 0) -> int:
    """The pid of the READY server that the hold tells of, another one than `after`."""
    for server in hold:
        if server.state is ServerState.READY and server.pid != after:
            return server.pid
    raise AssertionError("the hold ended")


def _names(kind: str) -> Callable[[], str]:
    count = iter(range(1_000_000))
    return lambda: f"bench/{kind}-{next(count)}"


def _text(model: Path | None) -> str | None:
    return None if model is None else str(model)


def _event(directory: Path, client: PoolClient, rounds: int) -> Figure:
    names = _names("watched")
    watch = client.watch()
    with watch:
        next(event for event in watch if isinstance(event, Synced))
        found = in_turn(rounds, lambda: _seen(client, watch, names()), lambda: _waited(directory))
    return compare(
        "crash",
        "kill -9 to its event in Watch",
        "kill -9 to the return of wait() in the parent",
        pairs(found),
        aim_over=AIM_OVER_WAIT,
    )


def _seen(client: PoolClient, watch: Watch, name: str) -> float:
    """Milliseconds from the kill to the event that says that the server is READY no more."""
    pid = client.ensure(name).server.pid
    _await_state(watch, name, is_ready=True)
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    _await_state(watch, name, is_ready=False)
    return (time.perf_counter() - began) * 1e3


def _await_state(watch: Watch, name: str, *, is_ready: bool) -> None:
    for event in watch:
        if not isinstance(event, ServerChanged) or event.server.model != name:
            continue
        if (event.server.state is ServerState.READY) == is_ready:
            return
    raise AssertionError("the watch ended")


def _waited(directory: Path) -> float:
    port = free_port()
    process = by_hand.spawn(by_hand.fake_server("bench/watched", port), directory / "waited.log")
    try:
        by_hand.await_health(process, port, by_hand.POLL)
        began = time.perf_counter()
        process.kill()
        process.wait()
        return (time.perf_counter() - began) * 1e3
    finally:
        by_hand.end(process)
