"""Threads that are there before they are needed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pool_service.adapters.system.event_loop import running_workers


def test_no_thread_is_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_workers(3) as workers:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        # More at once than there are threads, and each of them waits for all.
        together = threading.Barrier(3)
        for _ in range(2):
            waits = [workers.submit(together.wait, 60) for _ in range(3)]
            assert sorted(wait.result(60) for wait in waits) == [0, 1, 2]


def test_where_the_system_allows_fewer_there_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    really_start = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if sum(one.name.startswith("worker") for one in threading.enumerate()) >= 2:
            refuse(thread)
        really_start(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with running_workers(4) as workers:
        done = [workers.submit(threading.get_ident) for _ in range(20)]
        assert len({one.result(60) for one in done}) <= 2


def test_where_the_system_allows_none_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        running_workers(2)


def test_an_executor_that_starts_threads_late_does_what_it_has_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reason for all of this; where Python mends it, this can go."""
    done, gate = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as lazy:
        lazy.submit(gate.wait)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            lazy.submit(done.set)
        gate.set()
    assert done.is_set()


def refuse(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
