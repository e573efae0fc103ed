"""What the composition root does by itself."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from structlog.testing import capture_logs

from pool_service import app
from pool_service.adapters.event_log.event_reader import read_events
from pool_service.adapters.event_log.event_writer import EventWriter
from pool_service.adapters.state_dir.takeover import LEAVE_SIGNAL
from pool_service.app import _flush, _story
from pool_service.audit import Audit
from pool_service.background import in_background
from pool_service.event_records import Call


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
        async with in_background(fail(), go_on()):
            for _ in range(10):
                await asyncio.sleep(0)
            assert not is_cancelled
    assert [line["task"] for line in logs] == ["fail"]
    assert is_cancelled


async def test_an_error_of_the_block_comes_through() -> None:
    with pytest.raises(KeyError):
        async with in_background(asyncio.sleep(1000)):
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


@pytest.mark.parametrize("error", [None, RuntimeError("a bug"), asyncio.CancelledError()])
async def test_the_story_is_whole_whatever_ends_the_service(
    tmp_path: Path, error: BaseException | None
) -> None:
    events = EventWriter(tmp_path)
    parts: Any = SimpleNamespace(
        events=events, audit=Audit(events), shutdown=SimpleNamespace(keep_servers=True)
    )
    with suppress(RuntimeError, asyncio.CancelledError):
        async with _story(parts, ["127.0.0.1:1"]):
            for _ in range(3):
                parts.audit.unchanged(Call("Evict", "m", "unix:"), "nothing to evict")
            if error is not None:
                raise error
    assert not events._thread.is_alive()
    told = [event for event in read_events(tmp_path) if event is not None]
    assert [one.get("what") or one.get("repeated") for one in told] == [
        "started",
        None,
        2,
        "stopped",
    ]
    expected = "by an internal error" if error is not None else "its servers are left running"
    assert expected in told[-1]["why"]


class Directory:
    """A state directory that tells whether it is locked."""

    def __init__(self, path: Path) -> None:
        self.path, self.is_locked = path, True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_locked = False


END_SIGNALS = (LEAVE_SIGNAL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


@pytest.fixture
def received() -> Iterator[list[int]]:
    """The signals that end the service and that have had an effect on this process."""
    numbers = list[int]()
    before = {
        number: signal.signal(number, lambda signum, _frame: numbers.append(signum))
        for number in END_SIGNALS
    }
    yield numbers
    for number, action in before.items():
        signal.signal(number, action)


@pytest.mark.parametrize("error", [None, RuntimeError("a bug")])
def test_what_goes_on_in_threads_is_waited_for_once_the_next_service_can_begin(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    received: list[int],
    error: Exception | None,
) -> None:
    directory, locked_at = Directory(tmp_path), list[bool]()

    def finish() -> None:
        locked_at.append(directory.is_locked)
        for number in END_SIGNALS:
            signal.raise_signal(number)

    async def serve(*arguments: object) -> list[str]:
        (left,) = (each for each in arguments if isinstance(each, app._Left))
        left.unfinished.append(finish)
        if error is not None:
            raise error
        return []

    monkeypatch.setattr(app, "_serve", serve)
    nothing: Any = None
    state: Any = directory
    with suppress(RuntimeError):
        app._serve_repeatedly(nothing, nothing, [], state, app._Left(), nothing)
    assert locked_at == [False]
    assert received == [], "a signal cut the wait short"
