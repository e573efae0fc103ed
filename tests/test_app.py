"""What the composition root does by itself."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from pool_service.app import _flush, _in_background


async def test_work_that_fails_is_reported_at_once_and_ends_nothing_else() -> None:
    is_cancelled = False

    async def fail() -> None:
        raise OSError("Too many open files")

    async def go_on() -> None:
        nonlocal is_cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled = True
            raise

    with capture_logs() as logs:
        async with _in_background(fail(), go_on()):
            for _ in range(10):
                await asyncio.sleep(0)
            assert not is_cancelled
    assert [line["task"] for line in logs] == ["fail"]
    assert is_cancelled


async def test_an_error_of_the_block_comes_through() -> None:
    with pytest.raises(KeyError):
        async with _in_background(asyncio.sleep(1000)):
            raise KeyError


async def test_prompts_are_flushed_before_the_service_ends() -> None:
    done = list[str]()
    prompts: Any = SimpleNamespace(
        flush=lambda: done.append("flush"), close=lambda: done.append("close")
    )
    shutdown: Any = SimpleNamespace(leaving=asyncio.Event())
    await _flush(prompts, shutdown)
    assert done == ["flush", "close"]


async def test_a_service_that_takes_over_does_not_wait_until_prompts_are_flushed() -> None:
    is_closed = threading.Event()
    prompts: Any = SimpleNamespace(flush=is_closed.wait, close=is_closed.set)
    shutdown: Any = SimpleNamespace(leaving=asyncio.Event())
    flushing = asyncio.create_task(_flush(prompts, shutdown))
    shutdown.leaving.set()
    await flushing
    assert is_closed.is_set()
