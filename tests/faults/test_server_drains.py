"""Evictions, asked for or by idleness, of servers that start, serve and stop."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from pool_service.v1 import pool_service_pb2 as pb
from pool_service_client import Evicted, PoolError
from tests.faults.asking import ask, completed
from tests.faults.conftest import Service, Start
from tests.faults.lives import Stream
from tests.faults.table import Recovery
from tests.faults.test_server_dies import starting

LONG = 2000
UNTIL_ASKED = 60.0
"""Seconds: a server is kept so long for its first request to come."""
SOON_IDLE = 0.2
"""Seconds: far less than an answer takes."""


@pytest.mark.fault("evicted while starting")
def test_the_waiters_of_an_evicted_start_get_that_reason(
    real: Start, tiny: str, recovered: Recovery
) -> None:
    service = real()
    with ThreadPoolExecutor(3) as callers:
        calls = [callers.submit(service.pool.ensure, "m", runtime_model=tiny) for _ in range(3)]
        first = starting(service, "m")
        # One that came after the eviction would start the next generation.
        while next(service.pool.pages()).totals.waiting_calls < len(calls):
            time.sleep(0.01)
        with recovered.measured():
            (evicted,) = service.pool.evict("m")
            for call in calls:
                with pytest.raises(Evicted):
                    call.result()
    assert evicted.server.generation == first.generation
    assert service.invariants.wait_removed("m").server.last_exit.cause == pb.EXIT_CAUSE_EVICTED


@pytest.mark.fault("ensured while stopping; stream in flight at eviction")
def test_an_ensure_during_a_stop_gets_the_next_generation_and_the_stream_is_whole(
    real: Start, tiny: str, recovered: Recovery
) -> None:
    service = real()
    first = service.pool.ensure("m", runtime_model=tiny).server
    stream = Stream(first, LONG)
    with ThreadPoolExecutor(2) as callers:
        evicting = callers.submit(service.pool.evict, "m", force=True)
        service.invariants.wait_for("m", pb.SERVER_STATE_STOPPING)
        with recovered.measured():
            ensuring = callers.submit(service.pool.ensure, "m", runtime_model=tiny)
            assert stream.is_complete()
            again = ensuring.result()
        assert [one.killed for one in evicting.result()] == [False]
    assert again.started
    assert again.server.generation == first.generation + 1
    assert again.server.pid != first.pid


@pytest.mark.fault("evicted and ensured by many at once")
def test_many_who_ensure_and_evict_at_once_are_all_answered(fake: Start) -> None:
    service = fake()
    with ThreadPoolExecutor(20) as callers:
        outcomes = Counter(callers.map(lambda seed: ensure_and_evict(service, seed), range(20)))
    assert set(outcomes) <= {"READY", "EVICTED", "SERVER_IN_USE"}


def ensure_and_evict(service: Service, seed: int) -> str:
    """Ten calls by chance over three models; how the last one ended."""
    chance, outcome = Random(seed), ""
    for _ in range(10):
        model = f"m/{chance.randrange(3)}"
        try:
            if chance.random() < 0.6:
                outcome = service.pool.ensure(model, runtime_model="x").server.state.name
            else:
                service.pool.evict(model, force=chance.random() < 0.5)
        except PoolError as error:
            outcome = error.reason
            assert outcome in ("EVICTED", "SERVER_IN_USE")
    return outcome or "READY"


@pytest.mark.fault("request in flight when the idle timer fires, streaming and not")
def test_a_server_that_answers_is_not_evicted_by_idleness(real: Start, tiny: str) -> None:
    service = real("[defaults]\ngrace_period = 0.2\n")
    with ThreadPoolExecutor(2) as callers:
        streaming = callers.submit(streams_whole, service, tiny)
        waiting = callers.submit(completes_whole, service, tiny)
        assert streaming.result()
        assert waiting.result()
    for model in ("streaming", "waiting"):
        gone = service.invariants.wait_removed(model).server
        assert gone.generation == 1
        assert gone.last_exit.cause == pb.EXIT_CAUSE_IDLE


def streams_whole(service: Service, runtime_model: str) -> bool:
    server = service.pool.ensure(
        "streaming", runtime_model=runtime_model, keep_alive=UNTIL_ASKED
    ).server
    stream = Stream(server, LONG)
    service.pool.ensure("streaming", keep_alive=SOON_IDLE)
    return stream.is_complete()


def completes_whole(service: Service, runtime_model: str) -> bool:
    server = service.pool.ensure(
        "waiting", runtime_model=runtime_model, keep_alive=UNTIL_ASKED
    ).server
    asked = ask(server, LONG)
    service.pool.ensure("waiting", keep_alive=SOON_IDLE)
    return completed(asked) == LONG


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("evictions", [50, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.fault("1,000 evictions with requests in flight")
def test_of_many_evictions_none_cuts_an_answer_short(
    fake: Start, recovered: Recovery, evictions: int
) -> None:
    service = fake()
    with ThreadPoolExecutor(8) as callers:
        rounds = callers.map(
            lambda n: evicted_while_answering(service, n, "x?delay=0.01", 5), range(evictions)
        )
        assert all(rounds)
    recovered.figure("every answer whole")


@pytest.mark.fault("20 evictions with requests in flight")
def test_of_20_evictions_of_real_servers_none_cuts_an_answer_short(
    real: Start, tiny: str, recovered: Recovery
) -> None:
    service = real()
    with ThreadPoolExecutor(4) as callers:
        rounds = callers.map(lambda n: evicted_while_answering(service, n, tiny, 200), range(20))
        assert all(rounds)
    recovered.figure("every answer whole")


def evicted_while_answering(service: Service, number: int, runtime_model: str, tokens: int) -> bool:
    """Whether a stream whose server is evicted under it was whole, and nothing was killed."""
    model = f"m/{number}"
    stream = Stream(service.pool.ensure(model, runtime_model=runtime_model).server, tokens)
    with ThreadPoolExecutor(1) as callers:
        evicting = callers.submit(service.pool.evict, model, force=True)
        whole = stream.is_complete()
        return whole and [one.killed for one in evicting.result()] == [False]
