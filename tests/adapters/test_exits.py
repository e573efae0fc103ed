"""Waiting for the end of a process: retries, polls and what is reported."""

import asyncio
import errno
import os
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.process import exits
from pool_service.adapters.process.exits import (
    ExitStatus,
    ExitWatch,
    PollWatch,
    exit_watch,
    retry_on_shortage,
    wait_for_exit,
)
from pool_service.adapters.process.identity import identity_of
from pool_service.core.types import Identity
from tests.under_way import under_way


def real(pid: int) -> Identity:
    identity = identity_of(pid)
    assert identity is not None
    return identity


@pytest.fixture(params=["of the system", "polled"])
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ExitWatch:
    monkeypatch.setattr(exits, "POLL_INTERVAL_S", 0.001)
    return PollWatch() if request.param == "polled" else exit_watch()


async def test_the_end_of_a_process_is_noticed_and_leaves_no_descriptor(watch: ExitWatch) -> None:
    before = os.dup(0)
    os.close(before)
    with under_way({}) as process:
        identity = real(process.pid)
        waiting = asyncio.create_task(wait_for_exit(watch, identity))
        done, _ = await asyncio.wait({waiting}, timeout=0.02)
        assert not done
        process.kill()
        assert await waiting == ExitStatus()
        assert await wait_for_exit(watch, identity) == ExitStatus(), "a zombie has ended"
    assert await wait_for_exit(watch, identity) == ExitStatus(), "it was reaped"
    after = os.dup(0)
    os.close(after)
    assert after == before


async def test_another_process_that_has_the_pid_is_not_waited_for(watch: ExitWatch) -> None:
    await wait_for_exit(watch, replace(real(os.getpid()), start_time=1))


async def test_a_wait_that_is_cancelled_leaves_no_descriptor(watch: ExitWatch) -> None:
    before = os.dup(0)
    os.close(before)
    waiting = asyncio.create_task(wait_for_exit(watch, real(os.getpid())))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    after = os.dup(0)
    os.close(after)
    assert after == before


async def test_polls_go_on_while_a_process_is_watched_and_no_longer() -> None:
    watch = PollWatch()
    with watch.open(os.getpid()):
        first = watch._timer
        assert first is not None
        with watch.open(os.getpid()):
            assert watch._timer is first, "one for all"
        watch._poll()
        assert watch._timer not in (None, first)
        first.cancel()
        vars(watch)["_timer"].cancel()
    watch._poll()
    assert vars(watch)["_timer"] is None


@pytest.mark.parametrize(("count", "pace"), [(1, 0.05), (50, 0.05), (200, 0.2)])
async def test_many_processes_are_polled_less_often(count: int, pace: float) -> None:
    watch = PollWatch()
    watched = [exits._Polled(real(os.getpid()), -1) for _ in range(count)]
    watch._watched.update(watched)
    loop = asyncio.get_running_loop()
    before = loop.time()
    watch._arm()
    assert watch._timer is not None
    assert before + pace <= watch._timer.when() <= loop.time() + pace
    watch._timer.cancel()


async def test_a_shortage_is_outlasted_and_logged_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exits, "_SHORTAGE_PAUSE_S", 0.0)
    failures = [OSError(errno.EMFILE, "Too many open files")] * 2

    async def step() -> str:
        if failures:
            raise failures.pop()
        return "done"

    with capture_logs() as logs:
        assert await retry_on_shortage(step) == "done"
    told = ("the system is short of resources; trying again", "Too many open files")
    assert [(line["event"], line["error"]) for line in logs] == [told] * 2


async def test_another_error_is_none_that_passes() -> None:
    async def step() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        await retry_on_shortage(step)


def test_a_polled_process_is_closed_once() -> None:
    reader, writer = os.pipe()
    polled = exits._Polled(real(os.getpid()), writer)
    polled.close()
    assert os.read(reader, 1) == b""
    again = os.dup(reader)
    assert again == writer
    polled.close()
    os.fstat(again)
    os.close(again)
    os.close(reader)
