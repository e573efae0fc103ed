"""The event loop of a front: uvloop where it is installed, and asyncio's where it is not."""

import asyncio
import sys

import pytest
import uvloop

from pool_service.fleet.event_loop import loop_factory


def test_a_front_runs_on_uvloop_if_it_is_installed() -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        assert isinstance(runner.get_loop(), uvloop.Loop)


def test_without_uvloop_a_front_runs_on_the_loop_of_asyncio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        assert isinstance(runner.get_loop(), asyncio.SelectorEventLoop)
