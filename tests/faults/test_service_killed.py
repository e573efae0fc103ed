"""kill -9 of the service: its servers answer on, and the next one has them again."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from pool_service.adapters.records.record_format import decode, encode
from pool_service.core.server import Phase
from pool_service.core.server import Server as Recorded
from pool_service_client import ExitCause, ServerState, Synced
from tests.faults.lives import (
    Lives,
    Stream,
    fake_lives,
    first_of,
    kill,
    real_lives,
    same_process,
    seen,
    settled,
)
from tests.faults.table import Recovery

TOKENS = 2000
SAME_TIME = 0.01
"""Seconds. The moment is kept by another clock, and told as the time of day."""


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Lives]:
    with real_lives(tmp_path) as lives:
        yield lives


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Lives]:
    with fake_lives(tmp_path) as lives:
        yield lives


@pytest.mark.promise(5)
@pytest.mark.fault("`kill -9` with several READY, some answering")
def test_three_real_servers_that_answer_are_adopted_and_every_stream_is_complete(
    real: Lives, tiny: str, recovered: Recovery
) -> None:
    models = [f"tiny/{number}" for number in range(3)]
    real.start()
    with real.pool() as pool, ThreadPoolExecutor(3) as callers:
        before = list(callers.map(lambda m: pool.ensure(m, runtime_model=tiny).server, models))
        streams = [Stream(server, TOKENS) for server in before]
        with recovered.measured():
            real.kill()
            real.start()
            after = [pool.ensure(model) for model in models]
        assert not any(ensured.started for ensured in after)
        assert all(map(same_process, before, (ensured.server for ensured in after)))
        assert all(callers.map(Stream.is_complete, streams))
        assert real.servers() == {server.pid for server in before}


@pytest.mark.promise(2)
@pytest.mark.fault("`kill -9` during a start")
def test_a_real_start_under_way_is_joined(real: Lives, tiny: str) -> None:
    real.start()
    with real.pool() as pool, pool.watch() as events, ThreadPoolExecutor(1) as callers:
        assert any(isinstance(event, Synced) for event in events)
        waiting = callers.submit(pool.ensure, "tiny", runtime_model=tiny)
        starting = first_of(events, "tiny", ServerState.STARTING)
        real.await_record_of(starting.pid)
        real.kill()
        real.start()
        ensured = pool.ensure("tiny")
        assert (ensured.server.pid, ensured.server.generation) == (starting.pid, 1)
        assert not ensured.started
        assert same_process(waiting.result().server, ensured.server)
        assert real.servers() == {starting.pid}


@pytest.mark.fault("`kill -9` during an eviction")
def test_an_eviction_under_way_is_carried_out(fake: Lives, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    fake.start()
    with fake.pool() as pool, ThreadPoolExecutor(1) as callers:
        server = pool.ensure("leaving", runtime_model=f"x?delay=0.02&answers_until={killed}").server
        stream = Stream(server, 100)
        evicting = callers.submit(pool.evict, "leaving", force=True)
        seen(pool, "leaving", ServerState.STOPPING)
        fake.kill()
        fake.start()
        killed.touch()
        assert stream.is_complete()
        # The call was made again of the next service, and joined the same eviction.
        assert not any(evicted.killed for evicted in evicting.result())
        assert settled(pool) == {}
        assert pool.ensure("leaving").server.generation == server.generation + 1
        assert server.pid not in fake.servers()


@pytest.mark.fault("`kill -9` between spawn and record")
def test_a_process_whose_spawn_was_never_recorded_is_found(fake: Lives, tmp_path: Path) -> None:
    """The record says what was meant, as it does between the spawn and the next write."""
    loaded = tmp_path / "loaded"
    fake.start()
    with fake.pool() as pool, ThreadPoolExecutor(1) as callers:
        waiting = callers.submit(pool.ensure, "intent", runtime_model=f"x?load_until={loaded}")
        starting = seen(pool, "intent", ServerState.STARTING)
        fake.kill()
        as_it_was_meant(fake)
        fake.start()
        assert seen(pool, "intent", ServerState.STARTING).pid == starting.pid
        loaded.touch()
        server = waiting.result().server
        assert (server.pid, server.generation) == (starting.pid, starting.generation)
    assert fake.servers() == {server.pid}


def as_it_was_meant(lives: Lives) -> None:
    """Take from the one record what was learned by the spawn."""
    (path,) = (lives.state_dir / "servers").glob("*.json")
    record = decode(path.read_bytes())
    assert isinstance(record.entry, Recorded)
    meant = replace(record.entry, phase=Phase.SPAWNING, identity=None, log_path="", spawned_at=None)
    path.write_bytes(encode(replace(record, entry=meant)))


@pytest.mark.fault("`kill -9` and no successor")
def test_without_a_successor_the_guard_stops_all_and_then_ends_itself(
    tmp_path: Path, recovered: Recovery
) -> None:
    stops = tmp_path / "stops"
    with fake_lives(tmp_path, "[service]\norphan_grace = 0.2\n") as lives:
        lives.start()
        with lives.pool() as pool:
            busy = pool.ensure("busy", runtime_model=f"x?delay=0.02&answers_until={stops}").server
            others = [pool.ensure(f"idle/{number}").server for number in range(3)]
        stream = Stream(busy, 60)
        idle = [psutil.Process(server.pid) for server in others]
        everything = lives.processes()
        assert {server.pid for server in [busy, *others]} <= {one.pid for one in everything}
        with recovered.measured():
            lives.kill()
            psutil.wait_procs(idle)
            stops.touch()
            assert stream.is_complete()
            psutil.wait_procs(everything)
        assert lives.processes() == []


@pytest.mark.fault("servers die while the service is away")
def test_a_server_that_died_meanwhile_is_reported_as_a_crash_and_starts_as_the_next_generation(
    fake: Lives,
) -> None:
    fake.start()
    with fake.pool() as pool:
        died, lives_on = pool.ensure("died").server, pool.ensure("lives on").server
        fake.kill()
        process = psutil.Process(died.pid)
        process.kill()
        psutil.wait_procs([process])
        fake.start()
        servers = settled(pool)
        assert same_process(servers["lives on"], lives_on)
        assert servers["died"].state is ServerState.FAILED
        last_exit = servers["died"].last_exit
        assert last_exit is not None
        assert (last_exit.cause, last_exit.generation) == (ExitCause.CRASHED, 1)
        # Nobody was there to see how it ended, and nothing is invented.
        assert (last_exit.code, last_exit.signal) == (None, None)
        assert pool.ensure("died").server.generation == 2


@pytest.mark.fault("`kill -9` with several READY, some answering")
def test_generations_idle_times_and_last_exits_survive(fake: Lives) -> None:
    fake.start()
    with fake.pool() as pool:
        first = pool.ensure("m").server
        kill(first.pid)
        seen(pool, "m", ServerState.FAILED)
        second = pool.ensure("m", keep_alive=1234).server
        pool.ensure("gone")
        pool.evict("gone")
        before = settled(pool)["m"]
        fake.kill()
        fake.start()
        after = settled(pool)["m"]
        assert same_process(after, second)
        assert apart(before.ready_time, after.ready_time) < SAME_TIME
        assert apart(before.expire_time, after.expire_time) < SAME_TIME
        assert before.last_exit is not None
        assert after.last_exit is not None
        assert apart(before.last_exit.time, after.last_exit.time) < SAME_TIME
        assert replace(after.last_exit, time=before.last_exit.time) == before.last_exit
        assert pool.ensure("gone").server.generation == 2


def apart(one: datetime | None, other: datetime | None) -> float:
    assert one is not None
    assert other is not None
    return abs((one - other).total_seconds())


@pytest.mark.long
@pytest.mark.fault("`kill -9` again and again")
def test_ten_deaths_in_a_row_lose_and_double_nothing(fake: Lives, recovered: Recovery) -> None:
    fake.start()
    with fake.pool() as pool:
        before = [pool.ensure(f"m/{number}").server for number in range(5)]
        guards = fake.guards()
        for _ in range(10):
            with recovered.measured():
                fake.kill()
                fake.start()
            guards += fake.guards()
        after = settled(pool)
        assert all(same_process(server, after[server.model]) for server in before)
        assert fake.servers() == {server.pid for server in before}
        psutil.wait_procs([guard for guard in guards if guard not in fake.guards()[-1:]])
        assert len(fake.guards()) == 1
