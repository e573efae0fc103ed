"""What `Shutdown` keeps of a reload by a signal."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from pool_service.audit import Audit
from pool_service.core.errors import ConfigInvalid
from pool_service.core.results import Reloaded
from pool_service.shutdown import Shutdown
from tests.fake_events import FakeEvents
from tests.world import settled


@asynccontextmanager
async def reloading(result: Reloaded | Exception) -> AsyncIterator[FakeEvents]:
    """Send a SIGHUP to a `Shutdown` whose reloads end like this; yield the events."""

    async def reload() -> Reloaded:
        if isinstance(result, Exception):
            raise result
        return result

    events = FakeEvents()
    parts: Any = SimpleNamespace(reload=reload)
    before = signal.getsignal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    shutdown = Shutdown(
        parts, parts, keep_servers=False, is_claimed=lambda: False, audit=Audit(events)
    )
    # A test has no terminal to lose, or one that stays.
    if shutdown._terminal is not None:
        os.close(shutdown._terminal)
        shutdown._terminal = None
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        await settled(lambda: events.written)
        yield events
    finally:
        loop = asyncio.get_running_loop()
        for number in [*signal.valid_signals()]:
            loop.remove_signal_handler(number)
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("error", "code", "reason", "why"),
    [
        (ConfigInvalid("a key is wrong"), "FAILED_PRECONDITION", "CONFIG_INVALID", "a key is"),
        (KeyError("a bug"), "INTERNAL", "INTERNAL", "an internal error"),
    ],
)
async def test_a_reload_by_a_signal_that_fails_is_kept_as_one_by_a_call(
    error: Exception, code: str, reason: str, why: str
) -> None:
    async with reloading(error) as events:
        (call,) = events.of("call")
    assert (call["method"], call["code"], call["reason"]) == ("Reload", code, reason)
    assert why in call["why"]
    assert call["peer"] == "signal SIGHUP"


async def test_a_reload_by_a_signal_is_kept_with_the_models_that_it_affected() -> None:
    async with reloading(Reloaded(updated=("m",))) as events:
        (call,) = events.of("call")
    assert (call["code"], call["models"]) == ("OK", ["m"])
