"""Claims about shared holds and turns, in virtual time over a scripted pool."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from pool_service.gateway.shared_hold import SERVICE_AWAY_LIMIT_S
from pool_service.gateway.turns import CONTENDED_LINGER_S, LINGER_S, PAUSE_S, TURN_S, Turns
from pool_service_client import AsyncPoolClient, PoolUnavailable, StartFailed
from tests.gateway.scripted_pool import LOAD_S, ScriptedPool

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def turns() -> AsyncIterator[Turns]:
    made = Turns()
    try:
        yield made
    finally:
        await made.close()


async def request(
    taken: Turns, pool: ScriptedPool, model: str, seconds: float = 1.0, token: str = ""
) -> float:
    """Make a request that takes some seconds once its model is READY; return when it began."""
    client = cast("AsyncPoolClient", pool)
    async with taken.hold((token, model), lambda: client) as hold:
        await hold.ready()
        began = now()
        await asyncio.sleep(seconds)
        return began


async def test_requests_at_the_same_time_share_a_hold() -> None:
    pool = ScriptedPool()
    async with turns() as taken:
        requests = [asyncio.create_task(request(taken, pool, "a")) for _ in range(9)]
        await asyncio.sleep(LOAD_S + 0.5)
        assert pool.holds("a") == 1
        await asyncio.gather(*requests)
        assert pool.starts == ["a"]


async def test_a_model_is_let_go_some_time_after_its_last_request() -> None:
    pool = ScriptedPool()
    async with turns() as taken:
        await request(taken, pool, "a")
        await asyncio.sleep(LINGER_S - 0.1)
        assert pool.holds("a") == 1
        await request(taken, pool, "a")
        await asyncio.sleep(LINGER_S - 0.1)
        assert pool.holds("a") == 1, "a request within that time uses the same hold"
        await asyncio.sleep(0.2)
        assert pool.holds("a") == 0


async def test_a_model_whose_start_nobody_waits_for_is_let_go_at_once() -> None:
    pool = ScriptedPool()
    async with turns() as taken:
        waiting = asyncio.create_task(request(taken, pool, "a"))
        await asyncio.sleep(1.0)
        waiting.cancel()
        await asyncio.wait((waiting,))
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        assert pool.holds("a") == 0


async def test_a_failed_start_is_told_to_all_who_wait_and_the_next_request_tries_again() -> None:
    pool = ScriptedPool()
    pool.failures["a"] = StartFailed("it died")
    async with turns() as taken:
        requests = [asyncio.create_task(request(taken, pool, "a")) for _ in range(5)]
        done, _ = await asyncio.wait(requests)
        errors = [one.exception() for one in done]
        assert all(isinstance(error, StartFailed) for error in errors)
        assert len(set(map(id, errors))) == len(errors), "each has its own traceback"
        assert pool.starts == ["a"]
        del pool.failures["a"]
        await request(taken, pool, "a")
        assert pool.starts == ["a", "a"]


async def test_a_service_that_restarts_loses_no_request() -> None:
    pool = ScriptedPool()
    pool.breaks["a"] = [PoolUnavailable("away"), PoolUnavailable("away")]
    async with turns() as taken:
        await request(taken, pool, "a")


async def test_a_service_that_stays_away_is_told_in_the_end() -> None:
    pool = ScriptedPool()
    pool.breaks["a"] = [PoolUnavailable("away")] * 99
    async with turns() as taken:
        with pytest.raises(PoolUnavailable):
            await request(taken, pool, "a")
        assert SERVICE_AWAY_LIMIT_S <= now() < 2 * SERVICE_AWAY_LIMIT_S


async def test_a_model_that_waits_gets_the_memory_of_one_that_is_unused_soon() -> None:
    pool = ScriptedPool()
    async with turns() as taken:
        await request(taken, pool, "a")
        ended = now()
        began = await request(taken, pool, "b")
        assert began - ended == pytest.approx(CONTENDED_LINGER_S + LOAD_S, abs=0.1)


async def test_two_models_that_are_asked_for_alternately_take_turns() -> None:
    """Each has a caller that asks again as soon as it has its answer."""
    pool = ScriptedPool()
    answered = {"a": 0, "b": 0}

    async def caller(model: str) -> None:
        while now() < 300.0:
            await request(taken, pool, model, seconds=1.0)
            answered[model] += 1

    async with turns() as taken:
        await asyncio.gather(caller("a"), caller("b"))
    swaps = len(pool.starts)
    assert swaps <= 300.0 / (TURN_S + LOAD_S) + 2, "a swap for each turn, not for each request"
    assert min(answered.values()) >= 60, "and nobody is starved"


async def test_without_a_model_that_waits_a_turn_has_no_end() -> None:
    pool = ScriptedPool(room=2)

    async def caller(model: str) -> None:
        while now() < 100.0:
            await request(taken, pool, model, seconds=1.0)

    async with turns() as taken:
        await asyncio.gather(caller("a"), caller("b"))
    assert pool.starts == ["a", "b"]


async def test_requests_of_a_model_whose_turn_is_over_go_on_together() -> None:
    pool = ScriptedPool()
    async with turns() as taken:
        first = asyncio.create_task(request(taken, pool, "a", seconds=TURN_S + 5.0))
        await asyncio.sleep(LOAD_S + 0.1)
        other = asyncio.create_task(request(taken, pool, "b", seconds=1.0))
        await asyncio.sleep(TURN_S + 1.0)
        late = [asyncio.create_task(request(taken, pool, "a", seconds=1.0)) for _ in range(7)]
        begins = await asyncio.gather(*late)
        assert max(begins) - min(begins) < 0.1
        assert pool.starts == ["a", "b", "a"]
        assert await first < await other < min(begins)


async def test_a_turn_that_is_over_is_taken_back_once_nothing_waits() -> None:
    pool = ScriptedPool(room=2)
    async with turns() as taken:
        await request(taken, pool, "b")
        long = asyncio.create_task(request(taken, pool, "a", seconds=600.0))
        await asyncio.sleep(LOAD_S + TURN_S + 1.0)
        await request(taken, pool, "b")
        await request(taken, pool, "n")
        asked_at = now()
        assert await request(taken, pool, "a") - asked_at < PAUSE_S
        long.cancel()
        await asyncio.wait((long,))


async def test_a_model_pauses_no_longer_than_it_must_for_one_that_gets_no_room() -> None:
    """Somebody else holds it, so that its memory is not to be had."""
    pool = ScriptedPool()
    async with pool.hold("a", holder="gateway"), turns() as taken:
        await request(taken, pool, "a")
        waiting = asyncio.create_task(request(taken, pool, "n"))
        await asyncio.sleep(TURN_S + 1.0)
        for _ in range(3):
            asked_at = now()
            assert await request(taken, pool, "a") - asked_at <= PAUSE_S + 0.1
        assert pool.starts == ["a"]
        waiting.cancel()
        await asyncio.wait((waiting,))


async def test_callers_of_one_model_pause_and_go_on_alike() -> None:
    pool = ScriptedPool()
    answered = {"pst_1": 0, "pst_2": 0}

    async def caller(token: str) -> None:
        while now() < 200.0:
            await request(taken, pool, "a", seconds=1.0, token=token)
            answered[token] += 1

    async with pool.hold("a", holder="gateway"), turns() as taken:
        others = [
            asyncio.create_task(request(taken, pool, "n")),
            *(asyncio.create_task(request(taken, pool, "a", 600.0, one)) for one in answered),
        ]
        await asyncio.gather(*map(caller, answered))
        for one in others:
            one.cancel()
        await asyncio.wait(others)
    assert min(answered.values()) >= 90, answered


async def test_requests_go_on_as_soon_as_the_model_that_waited_is_given_up() -> None:
    pool = ScriptedPool()
    async with pool.hold("a", holder="gateway"), turns() as taken:
        await request(taken, pool, "a")
        waiting = asyncio.create_task(request(taken, pool, "n"))
        await asyncio.sleep(TURN_S + 1.0)
        paused = asyncio.create_task(request(taken, pool, "a"))
        await asyncio.sleep(1.0)
        given_up_at = now()
        waiting.cancel()
        assert await paused - given_up_at < 0.1


async def test_callers_with_different_tokens_have_their_own_holds() -> None:
    pool = ScriptedPool()
    async with turns() as taken:
        one = asyncio.create_task(request(taken, pool, "a", token="pst_1"))
        two = asyncio.create_task(request(taken, pool, "a", token="pst_2"))
        await asyncio.sleep(LOAD_S + 0.5)
        assert pool.holds("a") == 2
        await asyncio.gather(one, two)
