"""Claims about the calls that are in progress when a front ends."""

import asyncio

import pytest

from pool_service.core.errors import ShuttingDown
from pool_service.fleet.rpc.open_calls import OpenCalls


async def waiting(calls: OpenCalls, begun: asyncio.Event) -> None:
    with calls.open():
        begun.set()
        await asyncio.Event().wait()


async def test_a_call_that_waits_ends_with_a_reason_and_later_ones_do_not_begin() -> None:
    calls, begun = OpenCalls(), asyncio.Event()
    task = asyncio.create_task(waiting(calls, begun))
    await begun.wait()
    await calls.end()
    with pytest.raises(ShuttingDown):
        await task
    assert not task.cancelling()
    with pytest.raises(ShuttingDown):
        await waiting(calls, begun)


async def test_a_call_that_its_caller_has_left_is_cancelled_as_ever() -> None:
    calls, begun = OpenCalls(), asyncio.Event()
    task = asyncio.create_task(waiting(calls, begun))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await calls.end()


async def test_a_call_that_is_about_to_be_answered_still_is() -> None:
    calls, begun, answer = OpenCalls(), asyncio.Event(), asyncio.Event()

    async def short() -> str:
        with calls.open():
            begun.set()
            await answer.wait()
            return "answered"

    task = asyncio.create_task(short())
    await begun.wait()
    ending = asyncio.create_task(calls.end())
    asyncio.get_running_loop().call_soon(answer.set)
    assert await task == "answered"
    await ending
