"""An open stream ends once its caller may no longer make it; in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from pool_service.access.principal import CallerLimits, ModelPatterns, Principal, Scope
from pool_service.core.errors import TokenUnknown
from pool_service.open_calls import RECHECK_S, OpenCalls, RightsChanged

pytestmark = pytest.mark.looptime

READER = Principal("reader", Scope.READ)
REVOKED = TokenUnknown("it was revoked")


class Caller:
    """A caller of a stream; now: who it is, or why it may no longer call."""

    def __init__(self) -> None:
        self.now: Principal | TokenUnknown = READER
        self.checks = 0

    async def check(self) -> Principal:
        self.checks += 1
        if isinstance(self.now, TokenUnknown):
            raise self.now
        return self.now


async def follows(calls: OpenCalls, caller: Caller, work: Awaitable[object]) -> None:
    async with calls.staying(READER, caller.check):
        await work


@pytest.fixture
def begin() -> Callable[[OpenCalls], "asyncio.Task[None]"]:
    return lambda calls: asyncio.get_running_loop().create_task(calls.keep_checking())


Begin = Callable[[OpenCalls], "asyncio.Task[None]"]


async def test_a_stream_goes_on_as_long_as_its_caller_may(begin: Begin) -> None:
    calls, caller = OpenCalls(), Caller()
    checking = begin(calls)
    await follows(calls, caller, asyncio.sleep(10.5 * RECHECK_S))
    assert caller.checks == 10
    await asyncio.sleep(10 * RECHECK_S)
    assert caller.checks == 10
    checking.cancel()


async def test_a_stream_of_a_revoked_token_ends_with_the_reason(begin: Begin) -> None:
    calls, caller = OpenCalls(), Caller()
    checking = begin(calls)
    other = asyncio.create_task(follows(calls, Caller(), asyncio.sleep(10 * RECHECK_S)))
    stream = asyncio.create_task(follows(calls, caller, asyncio.Event().wait()))
    await asyncio.sleep(1.5 * RECHECK_S)
    caller.now = REVOKED
    began = asyncio.get_running_loop().time()
    with pytest.raises(TokenUnknown, match="revoked"):
        await stream
    assert asyncio.get_running_loop().time() - began <= RECHECK_S
    await other
    checking.cancel()


@pytest.mark.parametrize(
    "now",
    [
        replace(READER, scope=Scope.USE),
        replace(READER, logs=True),
        replace(READER, models=ModelPatterns(("a",))),
    ],
    ids=["scope", "logs", "models"],
)
async def test_a_stream_ends_as_its_caller_gets_other_rights(now: Principal, begin: Begin) -> None:
    calls, caller = OpenCalls(), Caller()
    checking = begin(calls)
    caller.now = now
    with pytest.raises(RightsChanged, match="reader"):
        await follows(calls, caller, asyncio.Event().wait())
    checking.cancel()


async def test_other_limits_end_no_stream(begin: Begin) -> None:
    calls, caller = OpenCalls(), Caller()
    checking = begin(calls)
    caller.now = replace(READER, limits=CallerLimits(holds=1))
    await follows(calls, caller, asyncio.sleep(3 * RECHECK_S))
    checking.cancel()


async def test_what_a_stream_raises_itself_is_not_taken_for_its_end(begin: Begin) -> None:
    calls, caller = OpenCalls(), Caller()
    checking = begin(calls)

    async def times_out() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await follows(calls, caller, times_out())
    stream = asyncio.create_task(follows(calls, caller, asyncio.Event().wait()))
    await asyncio.sleep(1)
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream
    checking.cancel()
